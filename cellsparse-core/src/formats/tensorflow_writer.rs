//! Programs of TensorFlow that compute one network with constant weights: frozen graphs and saved models, as version 1 has them and
//! every later one runs.
//!
//! Sources of the field numbers as in `tensorflow/graph.rs`, and `saved_model.proto`. Values are made as they are written.

pub use super::protobuf::{MOST_BYTES, Message, Values};

/// The version of graphs that is stated, that of TensorFlow 1.12: no operation here is younger.
const PRODUCER: u64 = 27;
/// Element types, by their numbers in `types.proto`.
const FLOAT: u64 = 1;
const INT32: u64 = 3;
/// The name of the signature that programs ask for, of its method, and of the kind of graph.
const SIGNATURE: &str = "serving_default";
const METHOD: &str = "tensorflow/serving/predict";
const TAG: &str = "serve";

/// An attribute of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// The element type of 32-bit floats.
    Floats,
    /// The element type of 32-bit integers.
    Integers,
    /// A text.
    Text(&'static str),
    /// A list of integers.
    List(Vec<i64>),
    /// A single integer.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// A float.
    Float(f32),
    /// Sides; those that are not known are none.
    Sides(Vec<Option<usize>>),
}

/// A graph that is about to be written.
#[derive(Debug, Default)]
pub struct GraphFile<'a> {
    graph: Message<'a>,
}

impl<'a> GraphFile<'a> {
    /// Adds a node that reads others, which stand before it.
    pub fn node(&mut self, name: &str, operation: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) {
        let mut node = Message::default();
        node.text(1, name);
        node.text(2, operation);
        inputs.iter().for_each(|input| node.text(3, input));
        for (key, attribute) in attributes {
            node.message(5, entry(key, value(attribute)));
        }
        self.graph.message(1, node);
    }

    /// Adds a constant array of 32-bit floats.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: Values<'a>) {
        let mut tensor = Message::default();
        tensor.number(1, FLOAT);
        tensor.message(2, sides(shape.iter().map(|side| Some(*side))));
        tensor.values(4, values);
        self.constant(name, &Attribute::Floats, tensor);
    }

    /// Adds a constant list of 32-bit integers, or a single one.
    pub fn integers(&mut self, name: &str, values: &[i32], is_list: bool) {
        let mut tensor = Message::default();
        tensor.number(1, INT32);
        tensor.message(2, sides(is_list.then_some(Some(values.len())).into_iter()));
        // One by one and not as bytes, the form in which OpenCV 4.11 reads every whole number.
        tensor.packed(7, &values.iter().map(|value| i64::from(*value)).collect::<Vec<i64>>());
        self.constant(name, &Attribute::Integers, tensor);
    }

    fn constant(&mut self, name: &str, kind: &Attribute, tensor: Message<'a>) {
        let mut attribute = Message::default();
        attribute.message(8, tensor);
        let mut node = Message::default();
        node.text(1, name);
        node.text(2, "Const");
        node.message(5, entry("dtype", value(kind)));
        node.message(5, entry("value", attribute));
        self.graph.message(1, node);
    }

    /// The frozen graph.
    pub fn finish(mut self) -> Message<'a> {
        let mut versions = Message::default();
        versions.number(1, PRODUCER);
        self.graph.message(4, versions);
        self.graph
    }

    /// The description of a saved model without variables, whose only signature has one input and one output, nodes of the names
    /// `input` and `output`, of that many channels.
    pub fn saved_model(self, channels: [usize; 2]) -> Message<'a> {
        let mut signature = Message::default();
        for (field, name, channels) in [(1, "input", channels[0]), (2, "output", channels[1])] {
            let mut info = Message::default();
            info.text(1, &format!("{name}:0"));
            info.number(2, FLOAT);
            info.message(3, sides([None, None, None, Some(channels)].into_iter()));
            signature.message(field, entry(name, info));
        }
        signature.text(3, METHOD);
        let mut facts = Message::default();
        facts.text(4, TAG);
        let mut meta = Message::default();
        meta.message(1, facts);
        meta.message(2, self.finish());
        meta.message(5, entry(SIGNATURE, signature));
        let mut model = Message::default();
        model.number(1, 1);
        model.message(2, meta);
        model
    }
}

/// An entry of a map.
fn entry<'a>(key: &str, value: Message<'a>) -> Message<'a> {
    let mut entry = Message::default();
    entry.text(1, key);
    entry.message(2, value);
    entry
}

fn sides(sides: impl Iterator<Item = Option<usize>>) -> Message<'static> {
    let mut shape = Message::default();
    for side in sides {
        let mut dimension = Message::default();
        dimension.number(1, side.map_or(u64::MAX, |side| side as u64));
        shape.message(2, dimension);
    }
    shape
}

fn value(attribute: &Attribute) -> Message<'static> {
    let mut value = Message::default();
    match attribute {
        Attribute::Floats => value.number(6, FLOAT),
        Attribute::Integers => value.number(6, INT32),
        Attribute::Text(text) => value.text(2, text),
        Attribute::List(numbers) => {
            let mut list = Message::default();
            list.packed(3, numbers);
            value.message(1, list);
        }
        Attribute::Number(number) => value.number(3, *number as u64),
        Attribute::Flag(flag) => value.number(5, u64::from(*flag)),
        Attribute::Float(number) => value.float(4, *number),
        Attribute::Sides(shape) => value.message(7, sides(shape.iter().copied())),
    }
    value
}
