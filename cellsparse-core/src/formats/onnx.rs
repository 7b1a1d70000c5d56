//! Networks as ONNX files: the few messages of the format that are needed, written as their values are made.
//!
//! Source of the field numbers: `onnx.proto` of ONNX 1.18 (IR version 8, operator set 13). Nothing here knows networks: what a
//! graph of this library becomes is in `model`.

use std::io::{self, Write};

/// Version of the intermediate representation that files state.
const IR_VERSION: u64 = 8;
/// Version of the operators: old enough for every common runtime, new enough for all that is written.
pub const OPERATOR_SET: u64 = 13;
/// Bytes of a file at most: no reader of the format takes messages of 2 GiB.
pub const MOST_BYTES: u64 = (1 << 31) - 1;

/// A side of an input or an output.
#[derive(Debug, Clone, PartialEq)]
pub enum Side {
    /// Always this number.
    Fixed(u64),
    /// Any number, of this name.
    Named(String),
}

/// The values of a constant array.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<'a> {
    /// 32-bit floats, row-major.
    Floats(&'a [f32]),
    /// The same, held.
    Own(Vec<f32>),
    /// 64-bit integers, row-major.
    Integers(Vec<i64>),
    /// A kernel `[taps, in, out]` that the file holds as `[out, in, taps]`.
    Kernel {
        /// The values, row-major.
        values: &'a [f32],
        /// Pixels of the kernel.
        taps: usize,
        /// Channels of the input.
        inputs: usize,
    },
}

impl Values<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Floats(values) | Self::Kernel { values, .. } => 4 * values.len() as u64,
            Self::Own(values) => 4 * values.len() as u64,
            Self::Integers(values) => 8 * values.len() as u64,
        }
    }

    /// Field `data_type` of a tensor.
    fn kind(&self) -> u64 {
        match self {
            Self::Integers(_) => 7,
            _ => 1,
        }
    }

    fn write(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        match self {
            Self::Floats(values) => put_floats(writer, values.iter()),
            Self::Own(values) => put_floats(writer, values.iter()),
            Self::Integers(values) => values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes())),
            Self::Kernel { values, taps, inputs } => {
                let outputs = values.len().checked_div(taps * inputs).unwrap_or_default();
                for output in 0..outputs {
                    let tap = |input: usize, tap: usize| values.get((tap * inputs + input) * outputs + output);
                    put_floats(writer, (0..*inputs).flat_map(|i| (0..*taps).filter_map(move |t| tap(i, t))))?;
                }
                Ok(())
            }
        }
    }
}

fn put_floats<'v>(writer: &mut (impl Write + ?Sized), values: impl Iterator<Item = &'v f32>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 12);
    for value in values {
        bytes.extend(value.to_le_bytes());
        if bytes.len() == 1 << 12 {
            writer.write_all(&bytes)?;
            bytes.clear();
        }
    }
    writer.write_all(&bytes)
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
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.text(1, input));
        node.text(2, output);
        node.text(3, output);
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

/// A message of protocol buffers whose large values are made when it is written.
#[derive(Debug, Default)]
pub struct Message<'a> {
    pieces: Vec<Piece<'a>>,
    bytes: u64,
}

#[derive(Debug)]
enum Piece<'a> {
    Bytes(Vec<u8>),
    Values(Values<'a>),
}

impl<'a> Message<'a> {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn write(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Bytes(bytes) => writer.write_all(bytes),
            Piece::Values(values) => values.write(writer),
        })
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::Bytes(last)) => last.extend(bytes),
            _ => self.pieces.push(Piece::Bytes(bytes.to_vec())),
        }
    }

    fn varint(&mut self, mut number: u64) {
        let mut bytes = Vec::with_capacity(10);
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        self.put(&bytes);
    }

    fn tag(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.tag(field, 0);
        self.varint(number);
    }

    fn float(&mut self, field: u64, number: f32) {
        self.tag(field, 5);
        self.put(&number.to_le_bytes());
    }

    fn text(&mut self, field: u64, text: &str) {
        self.tag(field, 2);
        self.varint(text.len() as u64);
        self.put(text.as_bytes());
    }

    fn values(&mut self, field: u64, values: Values<'a>) {
        self.tag(field, 2);
        self.varint(values.bytes());
        self.bytes += values.bytes();
        self.pieces.push(Piece::Values(values));
    }

    fn message(&mut self, field: u64, message: Message<'a>) {
        self.tag(field, 2);
        self.varint(message.bytes);
        self.append(message);
    }

    fn append(&mut self, message: Message<'a>) {
        for piece in message.pieces {
            match piece {
                Piece::Bytes(bytes) => self.put(&bytes),
                Piece::Values(values) => {
                    self.bytes += values.bytes();
                    self.pieces.push(Piece::Values(values));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(message: &Message<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, message.len());
        bytes
    }

    #[test]
    fn fields_are_those_of_protocol_buffers() {
        let mut inner = Message::default();
        inner.text(2, "testing");
        let mut message = Message::default();
        message.number(1, 150);
        message.number(8, -1_i64 as u64);
        message.float(2, 1.5);
        message.message(20, inner);
        let expected: [&[u8]; 4] = [
            &[8, 0x96, 1],
            &[0x40, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            &[0x15, 0, 0, 0xc0, 0x3f],
            &[0xa2, 1, 9, 0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g'],
        ];
        assert_eq!(written(&message), expected.concat());
        assert!(!message.is_empty());
    }

    #[test]
    fn a_kernel_is_turned_as_it_is_written() {
        // [2 taps, 3 in, 2 out] to [2 out, 3 in, 2 taps].
        let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let mut bytes = Vec::new();
        Values::Kernel { values: &values, taps: 2, inputs: 3 }.write(&mut bytes).unwrap();
        let turned: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(turned, [0.0, 6.0, 2.0, 8.0, 4.0, 10.0, 1.0, 7.0, 3.0, 9.0, 5.0, 11.0]);
    }

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
        let bytes = written(&file.finish("a test"));
        assert!(bytes.len() > 8000 && bytes.starts_with(&[8, 8, 0x12]));
    }
}
