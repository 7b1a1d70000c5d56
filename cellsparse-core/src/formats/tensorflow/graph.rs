//! Graphs of TensorFlow as they are stored: nodes with their attributes, functions, constants.
//!
//! Source of the field numbers: `graph.proto`, `node_def.proto`, `attr_value.proto`, `function.proto`, `op_def.proto`, `tensor.proto`,
//! `tensor_shape.proto` and `meta_graph.proto` of TensorFlow 2.15, which has only added to those of version 1. Nothing is copied from
//! the bytes of the outline but the values of constants.

use std::collections::HashMap;

use super::super::numbers::Number;
use super::super::protobuf_fields::{Field, Fields, packed};
use super::super::shortened::shortened;
use super::super::source::Source;
use super::outline::{PLACE, place};

/// Most nodes of a graph and its functions together, and most inputs and attributes of them. Networks have some hundreds.
const MOST_NODES: usize = 1 << 16;
const MOST_PARTS: usize = 1 << 20;

/// What a reading of bytes gives; errors are texts without the file's name.
pub(super) type Read<T> = Result<T, String>;

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Node<'b> {
    pub name: &'b str,
    pub operation: &'b str,
    /// Names of what it reads, as they are written, without those that only come before it.
    pub inputs: Vec<&'b str>,
    attributes: Vec<(&'b str, &'b [u8])>,
}

/// Nodes that read each other: a graph, or the body of a function.
#[derive(Debug, Clone, Default)]
pub(super) struct Body<'b> {
    pub nodes: Vec<Node<'b>>,
    by_name: HashMap<&'b str, usize>,
    /// The names of what a function is given, in their order.
    pub arguments: Vec<&'b str>,
    /// The names of what a function gives, each with what it is.
    pub results: Vec<(&'b str, &'b str)>,
}

impl<'b> Body<'b> {
    /// The number of a node.
    pub fn node(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn add(&mut self, node: Node<'b>) -> Read<()> {
        if self.by_name.insert(node.name, self.nodes.len()).is_some() {
            return Err(format!("two of its nodes have the name '{}'", shortened(node.name)));
        }
        self.nodes.push(node);
        Ok(())
    }
}

/// A graph with the functions that it calls.
#[derive(Debug, Clone, Default)]
pub(super) struct StoredGraph<'b> {
    /// The graph, then the functions.
    pub bodies: Vec<Body<'b>>,
    functions: HashMap<&'b str, usize>,
}

/// Counts what is parsed, so that a small file does not take much memory.
#[derive(Default)]
struct Count {
    nodes: usize,
    parts: usize,
}

impl Count {
    fn node(&mut self, parts: usize) -> Read<()> {
        self.nodes += 1;
        self.parts += parts;
        if self.nodes > MOST_NODES || self.parts > MOST_PARTS {
            return Err(format!("its graph has more than {MOST_NODES} nodes or {MOST_PARTS} inputs and attributes"));
        }
        Ok(())
    }
}

impl<'b> StoredGraph<'b> {
    /// The graph of the bytes of a `GraphDef`.
    pub fn read(bytes: &'b [u8]) -> Read<Self> {
        let mut graph = Self { bodies: vec![Body::default()], functions: HashMap::new() };
        let mut count = Count::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(node)) => graph.bodies[0].add(read_node(node, &mut count)?)?,
                (2, Field::Bytes(library)) => {
                    for field in Fields::of(library) {
                        if let (1, Field::Bytes(function)) = field? {
                            graph.add_function(function, &mut count)?;
                        }
                    }
                }
                _ => {}
            }
        }
        if graph.bodies[0].nodes.is_empty() {
            return Err("its graph has no nodes".into());
        }
        Ok(graph)
    }

    /// The body of a function.
    pub fn function(&self, name: &str) -> Option<usize> {
        self.functions.get(name).copied()
    }

    fn add_function(&mut self, bytes: &'b [u8], count: &mut Count) -> Read<()> {
        let (mut body, mut name) = (Body::default(), "");
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(signature)) => {
                    for field in Fields::of(signature) {
                        match field? {
                            (1, value) => name = text(value)?,
                            (2, Field::Bytes(argument)) => {
                                count.node(0)?;
                                body.arguments.push(name_of(argument)?);
                            }
                            (3, Field::Bytes(result)) => {
                                count.node(0)?;
                                body.results.push((name_of(result)?, ""));
                            }
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(node)) => body.add(read_node(node, count)?)?,
                (4, Field::Bytes(entry)) => {
                    let (key, value) = entry_of(entry)?;
                    let value = std::str::from_utf8(value).map_err(|_| NO_TEXT)?;
                    // The results stand before what they are, in the order of fields.
                    body.results.iter_mut().filter(|(name, _)| *name == key).for_each(|result| result.1 = value);
                }
                _ => {}
            }
        }
        if self.functions.insert(name, self.bodies.len()).is_some() {
            return Err(format!("two of its functions have the name '{}'", shortened(name)));
        }
        self.bodies.push(body);
        Ok(())
    }
}

const NO_TEXT: &str = "a name in it is not UTF-8";

fn text<'b>(field: Field<'b>) -> Read<&'b str> {
    field.text().ok_or_else(|| NO_TEXT.into())
}

/// Field 1 of a message, a text.
fn name_of(bytes: &[u8]) -> Read<&str> {
    for field in Fields::of(bytes) {
        if let (1, value) = field? {
            return text(value);
        }
    }
    Ok("")
}

/// Key and value of an entry of a map; the value is empty where there is none.
pub(super) fn entry_of(bytes: &[u8]) -> Read<(&str, &[u8])> {
    let (mut key, mut value) = ("", &[][..]);
    for field in Fields::of(bytes) {
        match field? {
            (1, field) => key = text(field)?,
            (2, Field::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

fn read_node<'b>(bytes: &'b [u8], count: &mut Count) -> Read<Node<'b>> {
    let mut node = Node { name: "", operation: "", inputs: Vec::new(), attributes: Vec::new() };
    for field in Fields::of(bytes) {
        match field? {
            (1, value) => node.name = text(value)?,
            (2, value) => node.operation = text(value)?,
            (3, value) => {
                let input = text(value)?;
                if !input.starts_with('^') {
                    node.inputs.push(input);
                }
            }
            (5, Field::Bytes(entry)) => node.attributes.push(entry_of(entry)?),
            _ => {}
        }
    }
    count.node(node.inputs.len() + node.attributes.len())?;
    Ok(node)
}

impl<'b> Node<'b> {
    fn attribute(&self, name: &str, wanted: u64) -> Option<Field<'b>> {
        let (_, value) = self.attributes.iter().find(|(key, _)| *key == name)?;
        Fields::of(value).filter_map(Result::ok).find(|(field, _)| *field == wanted).map(|(_, value)| value)
    }

    /// An attribute that is a text.
    pub fn text(&self, name: &str) -> Option<&'b str> {
        self.attribute(name, 2)?.text()
    }

    /// An attribute that is a number; one that is 0 or false is left out of a file or not.
    pub fn flag(&self, name: &str) -> Option<bool> {
        Some(self.attribute(name, 5)?.number()? != 0)
    }

    /// An attribute that is a float.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name, 4)? {
            Field::Bits32(bits) => Some(f32::from_le_bytes(bits)),
            _ => None,
        }
    }

    /// An attribute that names a function.
    pub fn function(&self, name: &str) -> Option<&'b str> {
        name_of(self.attribute(name, 10)?.bytes()?).ok()
    }

    /// An attribute that is a list of at most 16 integers.
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let mut numbers = Vec::new();
        for field in Fields::of(self.attribute(name, 1)?.bytes()?) {
            match field.ok()? {
                (3, Field::Number(number)) => numbers.push(number),
                (3, Field::Bytes(bytes)) => numbers.extend(packed(bytes)?),
                _ => {}
            }
            if numbers.len() > 16 {
                return None;
            }
        }
        Some(numbers.into_iter().map(|number| number as i64).collect())
    }

    /// The value of a constant.
    pub fn constant(&self) -> Option<Read<Constant<'b>>> {
        Some(Constant::read(self.attribute("value", 8)?.bytes()?))
    }
}

/// The element types that are read, by their numbers in `types.proto`.
pub(super) fn element(kind: u64) -> Option<Number> {
    Some(match kind {
        1 => Number::F32,
        2 => Number::F64,
        3 => Number::I32,
        9 => Number::I64,
        14 => Number::Bf16,
        19 => Number::F16,
        _ => return None,
    })
}

/// The sides of a `TensorShapeProto`, none of them unknown.
pub(super) fn shape(bytes: &[u8]) -> Read<Vec<usize>> {
    let mut sides = Vec::new();
    for field in Fields::of(bytes) {
        match field? {
            (2, Field::Bytes(dimension)) => {
                let mut side = 0;
                for field in Fields::of(dimension) {
                    if let (1, Field::Number(number)) = field? {
                        side = number;
                    }
                }
                // Unknown sides are -1.
                sides
                    .push(usize::try_from(side).ok().filter(|side| *side < 1 << 40).ok_or("an array of unknown size")?);
            }
            (3, Field::Number(1)) => return Err("an array of unknown rank".into()),
            _ => {}
        }
        if sides.len() > 8 {
            return Err("an array of more than 8 sides".into());
        }
    }
    Ok(sides)
}

/// A constant array, not yet unpacked.
#[derive(Debug, Clone)]
pub(super) struct Constant<'b> {
    pub shape: Vec<usize>,
    kind: u64,
    /// Row-major, little-endian.
    content: &'b [u8],
    /// Offset and length of the content in the file, where it is left out of the graph.
    place: Option<[u64; 2]>,
    /// The fields with one value each, or with packed ones; the last value stands for all that are missing.
    values: Vec<Field<'b>>,
}

impl<'b> Constant<'b> {
    fn read(bytes: &'b [u8]) -> Read<Self> {
        let mut constant = Self { shape: Vec::new(), kind: 0, content: &[], place: None, values: Vec::new() };
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Number(kind)) => constant.kind = kind,
                (2, Field::Bytes(sides)) => constant.shape = shape(sides)?,
                (4, Field::Bytes(content)) => constant.content = content,
                (PLACE, Field::Bytes(bytes)) => constant.place = place(bytes),
                // Floats, doubles, integers of 32 and 64 bits, halves.
                (5 | 6 | 7 | 10 | 13, value) => {
                    if constant.values.len() >= MOST_PARTS {
                        return Err("a constant of too many values one by one".into());
                    }
                    constant.values.push(value);
                }
                _ => {}
            }
        }
        Ok(constant)
    }

    /// Its number of values.
    pub fn count(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side))
    }

    /// Its values as floats, of which `most` are taken at most; those that are left out of the graph are read from `file`.
    pub fn floats(&self, most: usize, file: &Source<'_>) -> Read<Vec<f32>> {
        let number = element(self.kind).ok_or_else(|| format!("an array of the type {}", self.kind))?;
        let count = self.count().filter(|count| *count <= most);
        let count = count.ok_or_else(|| format!("an array of shape {:?}, more than the file can hold", self.shape))?;
        if let Some([offset, length]) = self.place {
            let there = length / number.size() as u64;
            if there < count as u64 {
                return Err(format!("a constant of {count} values, of which {there} are there"));
            }
            let values = file.floats(offset, count, number);
            return values.ok_or_else(|| "an array that cannot be read, or for which there is no memory".into());
        }
        let mut values = Vec::with_capacity(count);
        if !self.content.is_empty() || self.values.is_empty() {
            let there = self.content.len() / number.size();
            if there == 0 && count > 0 {
                values.resize(count, 0.0);
                return Ok(values);
            }
            values.extend((0..count).map_while(|index| number.read(self.content, index)));
        }
        for field in &self.values {
            if values.len() > count {
                break;
            }
            self.unpack(*field, number, &mut values).ok_or("a constant whose values are of another type")?;
        }
        if let Some(last) = values.last().copied().filter(|_| self.content.is_empty() && values.len() <= count) {
            values.resize(count, last);
        }
        if values.len() != count {
            return Err(format!("a constant of {count} values, of which {} are there", values.len()));
        }
        Ok(values)
    }

    /// Adds the values of one field.
    fn unpack(&self, field: Field<'b>, number: Number, values: &mut Vec<f32>) -> Option<()> {
        match (field, number) {
            (Field::Bits32(bits), Number::F32) => values.push(f32::from_le_bytes(bits)),
            (Field::Bits64(bits), Number::F64) => values.push(f64::from_le_bytes(bits) as f32),
            (Field::Bytes(bytes), Number::F32 | Number::F64) => {
                values.extend((0..bytes.len() / number.size()).filter_map(|index| number.read(bytes, index)));
            }
            (Field::Bytes(bytes), _) => {
                for value in packed(bytes)? {
                    values.push(from_number(value, number)?);
                }
            }
            (Field::Number(value), _) => values.push(from_number(value, number)?),
            _ => return None,
        }
        Some(())
    }
}

/// A value that is stored as a number: integers as they are, 16-bit floats by their bits.
fn from_number(value: u64, number: Number) -> Option<f32> {
    match number {
        Number::I32 | Number::I64 => Some(value as i64 as f32),
        Number::F16 | Number::Bf16 => number.read(&(value as u16).to_le_bytes(), 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::protobuf::{Message, Values};

    fn bytes(message: Message<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        bytes
    }

    fn tensor(kind: u64, sides: &[u64], fill: impl FnOnce(&mut Message<'static>)) -> Vec<u8> {
        let mut shape = Message::default();
        for side in sides {
            let mut dimension = Message::default();
            dimension.number(1, *side);
            shape.message(2, dimension);
        }
        let mut tensor = Message::default();
        tensor.number(1, kind);
        tensor.message(2, shape);
        fill(&mut tensor);
        bytes(tensor)
    }

    fn floats(bytes: &[u8]) -> Read<Vec<f32>> {
        Constant::read(bytes)?.floats(100, &Source::Bytes(&[]))
    }

    #[test]
    fn constants_of_every_form_are_unpacked() {
        let plain = tensor(1, &[2], |tensor| tensor.values(4, Values::Own(vec![1.5, -2.0])));
        assert_eq!(floats(&plain).unwrap(), [1.5, -2.0]);
        let packed = tensor(1, &[2, 2], |tensor| tensor.values(5, Values::Own(vec![1.5, -2.0])));
        assert_eq!(floats(&packed).unwrap(), [1.5, -2.0, -2.0, -2.0], "the last one stands for the rest");
        assert_eq!(floats(&tensor(1, &[3], |_| ())).unwrap(), [0.0; 3]);
        assert_eq!(floats(&tensor(1, &[], |tensor| tensor.float(5, 4.0))).unwrap(), [4.0]);
        assert_eq!(floats(&tensor(3, &[2], |tensor| tensor.number(7, -3_i64 as u64))).unwrap(), [-3.0; 2]);
        assert_eq!(floats(&tensor(19, &[1], |tensor| tensor.number(13, 0x3c00))).unwrap(), [1.0]);
        for damaged in [
            tensor(1, &[1 << 20, 1 << 20, 1 << 20, 1 << 20], |_| ()),
            tensor(1, &[101], |_| ()),
            tensor(7, &[1], |_| ()),
            tensor(1, &[u64::MAX], |_| ()),
            tensor(1, &[3], |tensor| tensor.values(4, Values::Own(vec![1.5, -2.0]))),
            tensor(1, &[1], |tensor| tensor.values(5, Values::Own(vec![1.5, -2.0]))),
            tensor(1, &[1], |tensor| tensor.number(7, 1)),
        ] {
            assert!(floats(&damaged).is_err(), "{damaged:?}");
        }
    }
}
