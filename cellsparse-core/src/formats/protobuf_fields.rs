//! Messages of protocol buffers, read field by field.
//!
//! Source: the encoding of protocol buffers, version 3 (`protobuf.dev/programming-guides/encoding`). Nothing is copied.

/// The value of a field of a message that is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'b> {
    /// Wire type 0.
    Number(u64),
    /// Wire type 1.
    Bits64([u8; 8]),
    /// Wire type 2: a text, a message, packed numbers.
    Bytes(&'b [u8]),
    /// Wire type 5.
    Bits32([u8; 4]),
}

impl<'b> Field<'b> {
    /// The bytes of a field of wire type 2; none for others.
    pub(super) fn bytes(self) -> Option<&'b [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The text of a field of wire type 2; none for others and for what is not UTF-8.
    pub(super) fn text(self) -> Option<&'b str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The number of a field of wire type 0; none for others.
    pub(super) fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }
}

/// The fields of a message in their order, which ends early where the bytes are no message.
#[derive(Debug, Clone)]
pub(super) struct Fields<'b> {
    bytes: &'b [u8],
    damaged: bool,
}

impl<'b> Fields<'b> {
    /// The fields of a message.
    pub(super) fn of(bytes: &'b [u8]) -> Self {
        Self { bytes, damaged: false }
    }

    fn next_field(&mut self) -> Option<(u64, Field<'b>)> {
        let tag = varint(&mut self.bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut self.bytes)?),
            1 => Field::Bits64(*self.bytes.split_off(..8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(varint(&mut self.bytes)?).ok()?;
                Field::Bytes(self.bytes.split_off(..length)?)
            }
            5 => Field::Bits32(*self.bytes.split_off(..4)?.first_chunk()?),
            _ => return None,
        };
        Some((tag >> 3, field))
    }
}

impl<'b> Iterator for Fields<'b> {
    /// Number and value, or that the rest is no message, once.
    type Item = Result<(u64, Field<'b>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.damaged || self.bytes.is_empty() {
            return None;
        }
        let found = self.next_field();
        self.damaged = found.is_none();
        Some(found.ok_or_else(|| "its protocol buffers are damaged or cut off".to_string()))
    }
}

/// The number at the beginning of `bytes`, which then begin behind it.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Packed numbers; none where they are damaged.
pub(super) fn packed(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        numbers.push(varint(&mut bytes)?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::protobuf::{Message, Values};

    #[test]
    fn what_is_written_is_read() {
        let values = [1.5, -2.0];
        let mut message = Message::default();
        message.number(1, u64::MAX);
        message.float(2, 1.5);
        message.text(3, "x");
        message.values(4, Values::Floats(&values));
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        let fields: Vec<(u64, Field<'_>)> = Fields::of(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields[0], (1, Field::Number(u64::MAX)));
        assert_eq!(fields[1], (2, Field::Bits32(1.5_f32.to_le_bytes())));
        assert_eq!((fields[2].0, fields[2].1.text()), (3, Some("x")));
        assert_eq!(fields[3].1.bytes().map(<[u8]>::len), Some(8));
        // Cut between two fields it is a shorter message.
        let whole = [0, 11, 16, 19, 29];
        for length in 0..bytes.len() {
            let found: Result<Vec<_>, _> = Fields::of(&bytes[..length]).collect();
            assert_eq!(found.is_ok(), whole.contains(&length), "{length}");
        }
        for damaged in [&[0x0b, 0][..], &[0x80; 12], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert!(Fields::of(damaged).any(|field| field.is_err()), "{damaged:?}");
        }
        assert_eq!((packed(&[1, 0x96, 1]), packed(&[0x80])), (Some(vec![1, 150]), None));
    }
}
