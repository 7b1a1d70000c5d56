//! Networks as ONNX files: the few messages of the format that are needed, written as their values are made.
//!
//! Source of the field numbers: `onnx.proto` of ONNX 1.18 (IR version 8, operator set 13). Nothing here knows networks: what a
//! graph of this library becomes is in `model`.

pub use super::protobuf::{MOST_BYTES, Message, Values};

/// Version of the intermediate representation that files state.
const IR_VERSION: u64 = 8;
/// Number of the type of 32-bit floats, for operators that are told one.
pub const FLOAT: i64 = 1;
/// Number of the type of 64-bit integers.
pub const INTEGER: i64 = 7;
/// Number of the type of 64-bit floats.
pub const DOUBLE: i64 = 11;
/// Version of the operators: old enough for every common runtime, new enough for all that is written.
pub const OPERATOR_SET: u64 = 13;

/// A side of an input or an output.
#[derive(Debug, Clone, PartialEq)]
pub enum Side {
    /// Always this number.
    Fixed(u64),
    /// Any number, of this name.
    Named(String),
}

/// An attribute of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Integer(i64),
    /// A text.
    Text(&'static str),
    /// Integers.
    Integers(Vec<i64>),
}

/// A network that is about to be written.
#[derive(Debug, Default)]
pub struct OnnxFile<'a> {
    graph: Message<'a>,
    metadata: Message<'a>,
    name: String,
}

impl<'a> OnnxFile<'a> {
    /// A file of a network of that name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }

    /// Adds a node that computes `output` from `inputs`, which come before it; an empty name leaves an input out.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) {
        self.node_of_several(operator, inputs, &[output], attributes);
    }

    /// [`node`](Self::node) with several outputs, the first of which names it.
    pub fn node_of_several(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) {
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.text(1, input));
        outputs.iter().for_each(|output| node.text(2, output));
        node.text(3, outputs.first().copied().unwrap_or_default());
        node.text(4, operator);
        for (name, attribute) in attributes {
            let mut message = Message::default();
            message.text(1, name);
            let kind = match attribute {
                Attribute::Float(value) => {
                    message.float(2, *value);
                    1
                }
                Attribute::Integer(value) => {
                    message.number(3, *value as u64);
                    2
                }
                Attribute::Text(text) => {
                    message.text(4, text);
                    3
                }
                Attribute::Integers(values) => {
                    values.iter().for_each(|value| message.number(8, *value as u64));
                    7
                }
            };
            message.number(20, kind);
            node.message(5, message);
        }
        self.graph.message(1, node);
    }

    /// Adds a constant array.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: Values<'a>) {
        let mut tensor = Message::default();
        shape.iter().for_each(|side| tensor.number(1, *side as u64));
        tensor.number(2, values.kind());
        tensor.text(8, name);
        tensor.values(9, values);
        self.graph.message(5, tensor);
    }

    /// Adds an input of 32-bit floats.
    pub fn input(&mut self, name: &str, sides: &[Side]) {
        self.graph.message(11, value_info(name, sides));
    }

    /// Adds an output of 32-bit floats, computed by a node of that name.
    pub fn output(&mut self, name: &str, sides: &[Side]) {
        self.graph.message(12, value_info(name, sides));
    }

    /// Adds a text to the facts about the network.
    pub fn fact(&mut self, key: &str, text: &str) {
        let mut entry = Message::default();
        entry.text(1, key);
        entry.text(2, text);
        self.metadata.message(14, entry);
    }

    /// The message of the whole file; `description` is for people.
    pub fn finish(mut self, description: &str) -> Message<'a> {
        self.graph.text(2, &self.name);
        let mut operators = Message::default();
        operators.text(1, "");
        operators.number(2, OPERATOR_SET);
        let mut file = Message::default();
        file.number(1, IR_VERSION);
        file.text(2, "cellsparse");
        file.text(3, env!("CARGO_PKG_VERSION"));
        file.text(6, description);
        file.message(7, self.graph);
        file.message(8, operators);
        file.append(self.metadata);
        file
    }
}

fn value_info(name: &str, sides: &[Side]) -> Message<'static> {
    let mut shape = Message::default();
    for side in sides {
        let mut dimension = Message::default();
        match side {
            Side::Fixed(number) => dimension.number(1, *number),
            Side::Named(name) => dimension.text(2, name),
        }
        shape.message(1, dimension);
    }
    let mut tensor = Message::default();
    tensor.number(1, 1);
    tensor.message(2, shape);
    let mut kind = Message::default();
    kind.message(1, tensor);
    let mut info = Message::default();
    info.text(1, name);
    info.message(2, kind);
    info
}

/// A node of a file that was written: operator, inputs and outputs.
#[cfg(test)]
#[cfg(feature = "keras")]
pub(crate) type WrittenNode = (String, Vec<String>, Vec<String>);

/// The nodes of a file, and the names of its inputs and constants.
#[cfg(test)]
#[cfg(feature = "keras")]
pub(crate) fn written(bytes: &[u8]) -> (Vec<WrittenNode>, Vec<String>) {
    use super::protobuf_fields::Fields;

    fn of(bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
        let fields = Fields::of(bytes).map(Result::unwrap);
        fields.filter(|(number, _)| *number == wanted).filter_map(|(_, field)| field.bytes()).collect()
    }
    fn texts(bytes: &[u8], wanted: u64) -> Vec<String> {
        of(bytes, wanted).into_iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }
    let graph = of(bytes, 7)[0];
    let node = |node: &[u8]| (texts(node, 4).concat(), texts(node, 1), texts(node, 2));
    let nodes = of(graph, 1).into_iter().map(node).collect();
    let inputs = of(graph, 11).into_iter().map(|input| texts(input, 1).concat());
    let constants = of(graph, 5).into_iter().map(|tensor| texts(tensor, 8).concat());
    (nodes, inputs.chain(constants).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_long_as_it_says() {
        let values = [1.0; 2000];
        let mut file = OnnxFile::new("net");
        file.input("x", &[Side::Named("batch".into()), Side::Fixed(3)]);
        file.constant("w", &[2, 1000], Values::Floats(&values));
        file.constant("shape", &[2], Values::Integers(vec![0, -1]));
        file.node("Reshape", &["x", "shape"], "y", &[("axis", Attribute::Integer(-1))]);
        file.output("y", &[Side::Fixed(1)]);
        file.fact("cellsparse", "{}");
        let message = file.finish("a test");
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, message.len());
        assert!(bytes.len() > 8000 && bytes.starts_with(&[8, 8, 0x12]));
    }
}
