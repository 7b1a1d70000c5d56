//! A graph without its large arrays, which stay where they are: graphs of a hundred megabytes are a hundred kilobytes of nodes.

use std::borrow::Cow;

use super::super::protobuf_fields::{packed, varint};
use super::super::source::Source;
use super::graph::Read;

/// Bytes of an array from which it is left out.
const LARGE: u64 = 1 << 12;
/// Bytes of an outline at most.
const MOST_BYTES: usize = 1 << 28;
/// The field of a tensor that says where its content lies, which no tensor of TensorFlow has: offset and length, packed.
pub(super) const PLACE: u64 = 1 << 20;
/// Bytes that are held beside the outline.
const HELD: u64 = 1 << 16;

/// Messages on the way to an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    SavedModel,
    MetaGraph,
    Graph,
    Library,
    Function,
    Node,
    AttributeEntry,
    Attribute,
    Tensor,
}

impl Kind {
    /// What a field of such a message is, if arrays may be in it.
    fn within(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::SavedModel, 2) => Self::MetaGraph,
            (Self::MetaGraph, 2) => Self::Graph,
            (Self::Graph, 1) | (Self::Function, 3) => Self::Node,
            (Self::Graph, 2) => Self::Library,
            (Self::Library, 1) => Self::Function,
            (Self::Node, 5) => Self::AttributeEntry,
            (Self::AttributeEntry, 2) => Self::Attribute,
            (Self::Attribute, 8) => Self::Tensor,
            _ => return None,
        })
    }
}

/// The message in which large contents of tensors are replaced by their places ([`PLACE`]).
pub(super) fn outline(source: &Source<'_>, kind: Kind) -> Read<Vec<u8>> {
    let mut cursor = Cursor { source, at: 0, held: Cow::Borrowed(&[]), start: 0, left: MOST_BYTES };
    let mut bytes = Vec::new();
    match cursor.message(source.len(), kind, &mut bytes) {
        Some(()) => Ok(bytes),
        None if cursor.left == 0 => Err(format!("its graph without large arrays has more than {MOST_BYTES} bytes")),
        None => Err("its protocol buffers are damaged or cut off".into()),
    }
}

/// Offset and length of a content that was left out.
pub(super) fn place(bytes: &[u8]) -> Option<[u64; 2]> {
    packed(bytes)?.try_into().ok()
}

/// A place in a source.
struct Cursor<'s, 'a> {
    source: &'s Source<'a>,
    at: u64,
    /// Bytes of the source from `start` on.
    held: Cow<'a, [u8]>,
    start: u64,
    /// Bytes that the outline may still take; 0 when they were not enough.
    left: usize,
}

impl Cursor<'_, '_> {
    /// Copies a message that ends at `end`.
    fn message(&mut self, end: u64, kind: Kind, to: &mut Vec<u8>) -> Option<()> {
        while self.at < end {
            let tag = self.number()?;
            let field = tag >> 3;
            let before = to.len();
            put(to, tag);
            match tag & 7 {
                0 => put(to, self.number()?),
                1 => self.copy(8, to)?,
                2 => {
                    let length = self.number()?;
                    let stop = self.at.checked_add(length).filter(|stop| *stop <= end)?;
                    match kind.within(field) {
                        Some(inner) => {
                            let mut message = Vec::new();
                            self.message(stop, inner, &mut message)?;
                            put(to, message.len() as u64);
                            to.append(&mut message);
                        }
                        None if kind == Kind::Tensor && field == 4 && length >= LARGE => {
                            to.truncate(before);
                            let mut place = Vec::new();
                            put(&mut place, self.at);
                            put(&mut place, length);
                            put(to, PLACE << 3 | 2);
                            put(to, place.len() as u64);
                            to.append(&mut place);
                            self.at = stop;
                        }
                        None => {
                            put(to, length);
                            self.copy(length, to)?;
                        }
                    }
                }
                5 => self.copy(4, to)?,
                _ => return None,
            }
            // A file does not say itself where something was left out.
            if kind == Kind::Tensor && field == PLACE {
                to.truncate(before);
            }
        }
        (self.at == end).then_some(())
    }

    /// The bytes from here on, at least one.
    fn rest(&mut self) -> Option<&[u8]> {
        let end = self.start + self.held.len() as u64;
        if !(self.start..end).contains(&self.at) {
            let length = HELD.min(self.source.len().checked_sub(self.at)?);
            self.held = self.source.get(self.at, length)?;
            self.start = self.at;
        }
        self.held.get(usize::try_from(self.at - self.start).ok()?..).filter(|rest| !rest.is_empty())
    }

    fn number(&mut self) -> Option<u64> {
        let mut bytes = [0; 10];
        let mut count = 0;
        loop {
            let byte = *self.rest()?.first()?;
            self.at += 1;
            *bytes.get_mut(count)? = byte;
            count += 1;
            if byte < 0x80 {
                return varint(&mut &bytes[..count]);
            }
        }
    }

    fn copy(&mut self, length: u64, to: &mut Vec<u8>) -> Option<()> {
        let mut left = usize::try_from(length).ok()?;
        // What is nested is copied once for each message around it, of which there are few.
        let Some(rest) = self.left.checked_sub(left) else {
            self.left = 0;
            return None;
        };
        self.left = rest;
        while left > 0 {
            let rest = self.rest()?;
            let part = &rest[..left.min(rest.len())];
            to.extend_from_slice(part);
            let count = part.len();
            left -= count;
            self.at += count as u64;
        }
        Some(())
    }
}

fn put(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::protobuf::{Message, Values};
    use crate::formats::protobuf_fields::{Field, Fields};

    /// A message within messages, by the numbers of the fields from the inside out.
    fn within(mut message: Message<'static>, fields: &[u64]) -> Message<'static> {
        for field in fields {
            let mut outer = Message::default();
            outer.text(1, "name");
            outer.message(*field, message);
            message = outer;
        }
        message
    }

    fn bytes(message: Message<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        bytes
    }

    fn tensor(count: usize) -> Message<'static> {
        let mut tensor = Message::default();
        tensor.number(1, 1);
        tensor.values(4, Values::Own((0..count).map(|index| index as f32).collect()));
        tensor.float(5, 7.0);
        tensor
    }

    fn field(bytes: &[u8], wanted: u64) -> &[u8] {
        Fields::of(bytes).map(Result::unwrap).find(|(field, _)| *field == wanted).unwrap().1.bytes().unwrap()
    }

    #[test]
    fn large_arrays_stay_where_they_are_and_the_rest_is_copied() {
        let count = LARGE as usize / 4;
        let whole = bytes(within(tensor(count), &[8, 2, 5]));
        let found = outline(&Source::Bytes(&whole), Kind::Node).unwrap();
        assert!(found.len() < 64, "{} bytes", found.len());
        let inner = field(field(field(&found, 5), 2), 8);
        let [at, length] = place(field(inner, PLACE)).unwrap();
        assert_eq!(length, LARGE);
        assert_eq!(Source::Bytes(&whole).floats(at, count, crate::formats::numbers::Number::F32).unwrap()[9], 9.0);
        let others: Vec<u64> = Fields::of(inner).map(|field| field.unwrap().0).collect();
        assert_eq!(others, [1, PLACE, 5]);
        let small = bytes(within(tensor(count - 1), &[8, 2, 5]));
        assert_eq!(outline(&Source::Bytes(&small), Kind::Node).unwrap(), small);
        // Another message than that of an array is copied whatever its size.
        assert_eq!(outline(&Source::Bytes(&whole), Kind::MetaGraph).unwrap(), whole);
    }

    #[test]
    fn a_file_does_not_say_itself_where_something_was_left_out() {
        let mut forged = tensor(2);
        forged.text(PLACE, "\u{1}\u{1}");
        forged.number(PLACE, 3);
        let found = outline(&Source::Bytes(&bytes(forged)), Kind::Tensor).unwrap();
        assert_eq!(found, bytes(tensor(2)));
        assert!(Fields::of(&found).all(|field| !matches!(field, Ok((PLACE, Field::Bytes(_))))));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = bytes(within(tensor(LARGE as usize / 4), &[8, 2, 5]));
        for length in (8..whole.len()).step_by(3) {
            assert!(outline(&Source::Bytes(&whole[..length]), Kind::Node).is_err(), "{length}");
        }
        for damaged in [&[0x0b, 0][..], &[0x80; 12], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert!(outline(&Source::Bytes(damaged), Kind::Graph).is_err(), "{damaged:?}");
        }
    }
}
