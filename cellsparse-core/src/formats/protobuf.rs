//! Messages of protocol buffers, made as they are written, as ONNX and TensorFlow have them.
//!
//! Source: the encoding of protocol buffers, version 3 (`protobuf.dev/programming-guides/encoding`).

use std::io::{self, Write};

use super::numbers::put_floats;

/// Bytes of a message at most: no reader of the formats takes messages of 2 GiB.
pub const MOST_BYTES: u64 = (1 << 31) - 1;

/// The values of a constant array.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<'a> {
    /// 32-bit floats, row-major.
    Floats(&'a [f32]),
    /// The same, held.
    Own(Vec<f32>),
    /// 64-bit floats, row-major.
    Doubles(Vec<f64>),
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
            Self::Doubles(values) => 8 * values.len() as u64,
            Self::Integers(values) => 8 * values.len() as u64,
        }
    }

    /// Field `data_type` of a tensor of ONNX.
    pub(super) fn kind(&self) -> u64 {
        match self {
            Self::Integers(_) => 7,
            Self::Doubles(_) => 11,
            Self::Floats(_) | Self::Own(_) | Self::Kernel { .. } => 1,
        }
    }

    fn write(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        match self {
            Self::Floats(values) => put_floats(writer, values.iter()),
            Self::Own(values) => put_floats(writer, values.iter()),
            Self::Doubles(values) => values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes())),
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

/// A message of protocol buffers whose large values are made when it is written.
#[derive(Debug, Default)]
pub struct Message<'a> {
    pieces: Vec<Piece<'a>>,
    length: u64,
}

#[derive(Debug)]
enum Piece<'a> {
    Bytes(Vec<u8>),
    Values(Values<'a>),
}

impl<'a> Message<'a> {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
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
        self.length += bytes.len() as u64;
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

    pub(super) fn number(&mut self, field: u64, number: u64) {
        self.tag(field, 0);
        self.varint(number);
    }

    pub(super) fn float(&mut self, field: u64, number: f32) {
        self.tag(field, 5);
        self.put(&number.to_le_bytes());
    }

    pub(super) fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.put(bytes);
    }

    /// Numbers one after the other in one field.
    #[cfg(feature = "keras")]
    pub(super) fn packed(&mut self, field: u64, numbers: &[i64]) {
        let mut all = Message::default();
        numbers.iter().for_each(|number| all.varint(*number as u64));
        self.message(field, all);
    }

    pub(super) fn values(&mut self, field: u64, values: Values<'a>) {
        self.tag(field, 2);
        self.varint(values.bytes());
        self.length += values.bytes();
        self.pieces.push(Piece::Values(values));
    }

    pub(super) fn message(&mut self, field: u64, message: Message<'a>) {
        self.tag(field, 2);
        self.varint(message.length);
        self.append(message);
    }

    pub(super) fn append(&mut self, message: Message<'a>) {
        for piece in message.pieces {
            match piece {
                Piece::Bytes(bytes) => self.put(&bytes),
                Piece::Values(values) => {
                    self.length += values.bytes();
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
}
