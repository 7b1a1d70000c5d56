//! HDF5 files of groups, arrays of 32-bit floats and texts as attributes: what weights of Keras need, and no more.
//!
//! Source: "HDF5 File Format Specification Version 3.0" (The HDF Group), of which the oldest forms are written, which every reader
//! has: superblock 0, groups as a symbol table (B-tree 1, local heap), object headers of version 1, contiguous arrays, attributes of
//! texts of one length. Everything but the values is laid out in memory, some kilobytes for each group; the values follow it
//! and are made as they are written. Numbers are little-endian, addresses and lengths have 8 bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::numbers::put_floats;

const SUPERBLOCK: usize = 96;
/// An address of nothing.
const NOWHERE: u64 = u64::MAX;
/// Half the entries of a node of symbols, and half the nodes of a tree: `32 * 32` members of a group at most.
const LEAF_HALF: usize = 16;
const TREE_HALF: usize = 16;
/// Most members of a group.
const MOST_MEMBERS: usize = 4 * LEAF_HALF * TREE_HALF;
/// Most bytes of a message of an object header, among them an attribute.
const MOST_MESSAGE: usize = u16::MAX as usize - 7;
/// A local heap without a free part.
const NO_FREE_PART: u64 = 1;

/// Messages of object headers.
const DATASPACE: u16 = 1;
const DATATYPE: u16 = 3;
const FILL_VALUE: u16 = 5;
const LAYOUT: u16 = 8;
const ATTRIBUTE: u16 = 12;
const SYMBOL_TABLE: u16 = 17;

/// A group that is about to be written.
#[derive(Debug, Default)]
pub(super) struct Hdf5Group<'a> {
    attributes: Vec<(&'static str, Texts)>,
    groups: BTreeMap<String, Hdf5Group<'a>>,
    /// Shapes and row-major values.
    arrays: BTreeMap<String, (Vec<usize>, &'a [f32])>,
}

#[derive(Debug)]
enum Texts {
    One(String),
    List(Vec<String>),
}

impl<'a> Hdf5Group<'a> {
    /// Gives the group an attribute: one text.
    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.attributes.push((name, Texts::One(text.to_string())));
    }

    /// Gives the group an attribute: a list of texts.
    pub(super) fn texts(&mut self, name: &'static str, texts: Vec<String>) {
        self.attributes.push((name, Texts::List(texts)));
    }

    /// The group of that name within the group, which is made if there is none.
    pub(super) fn group(&mut self, name: &str) -> &mut Hdf5Group<'a> {
        self.groups.entry(name.to_string()).or_default()
    }

    /// Puts an array of row-major values into the group.
    pub(super) fn array(&mut self, name: &str, shape: &[usize], values: &'a [f32]) {
        self.arrays.insert(name.to_string(), (shape.to_vec(), values));
    }

    /// Writes a file whose root is the group.
    ///
    /// # Errors
    /// What the writer reports; kind `InvalidInput` for names that are empty or hold `/` or a zero, for a shape that is not that of
    /// its values, for more than 1024 members of a group and attributes of more than 64 kB.
    pub(super) fn write(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        // The values lie behind the rest, whose length does not depend on where they lie.
        let length = Layout::of(self, 0)?.bytes.len() as u64;
        let layout = Layout::of(self, length)?;
        writer.write_all(&layout.bytes)?;
        layout.values.iter().try_for_each(|values| {
            put_floats(writer, values.iter())?;
            writer.write_all(&[0; 8][..padding(size_of_val(*values))])
        })
    }
}

/// Bytes up to the next multiple of 8.
fn padding(length: usize) -> usize {
    length.next_multiple_of(8) - length
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// A file on its way.
struct Layout<'a> {
    bytes: Vec<u8>,
    /// The values behind the bytes, each padded to 8 bytes.
    values: Vec<&'a [f32]>,
    /// Where the next values lie.
    next: u64,
}

/// Where the parts of a group lie.
struct Place {
    header: u64,
    tree: u64,
    heap: u64,
}

impl<'a> Layout<'a> {
    /// Lays out a file whose values begin at `values`.
    fn of(root: &Hdf5Group<'a>, values: u64) -> io::Result<Self> {
        let mut layout = Self { bytes: vec![0; SUPERBLOCK], values: Vec::new(), next: values };
        let place = layout.group(root)?;
        let mut head = b"\x89HDF\r\n\x1a\n".to_vec();
        // Versions of superblock, free space and root, and of shared headers; sizes of addresses and lengths.
        head.extend([0, 0, 0, 0, 0, 8, 8, 0]);
        head.extend((LEAF_HALF as u16).to_le_bytes());
        head.extend((TREE_HALF as u16).to_le_bytes());
        head.extend([0; 4]);
        for address in [0, NOWHERE, layout.next, NOWHERE] {
            head.extend(address.to_le_bytes());
        }
        // The root as an entry of a table: no name, its header, and that the places of its table follow.
        head.extend([0; 8]);
        head.extend(place.header.to_le_bytes());
        head.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        head.extend(place.tree.to_le_bytes());
        head.extend(place.heap.to_le_bytes());
        layout.bytes[..SUPERBLOCK].copy_from_slice(&head);
        Ok(layout)
    }

    /// Puts something at a multiple of 8 and says where.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let place = self.bytes.len() as u64;
        self.bytes.extend(bytes);
        self.bytes.extend(&[0; 8][..padding(bytes.len())]);
        place
    }

    fn group(&mut self, group: &Hdf5Group<'a>) -> io::Result<Place> {
        // The tree of a group needs its names in the order of their bytes.
        let mut members = BTreeMap::new();
        for (name, inner) in &group.groups {
            members.insert(name, self.group(inner)?.header);
        }
        for (name, (shape, values)) in &group.arrays {
            if members.insert(name, self.array(shape, values)?).is_some() {
                return Err(refused(format!("a group and an array named '{}'", name.escape_debug())));
            }
        }
        if members.len() > MOST_MEMBERS {
            return Err(refused(format!("a group of {} members; it has {MOST_MEMBERS} at most", members.len())));
        }
        // The heap begins with the name of nothing, which is the lower bound of the first node.
        let mut names = vec![0; 8];
        let mut entries = Vec::new();
        for (name, header) in members {
            if name.is_empty() || name.bytes().any(|byte| byte == 0 || byte == b'/') {
                return Err(refused(format!("a member of a group named '{}'", name.escape_debug())));
            }
            entries.push((names.len() as u64, header));
            names.extend(name.bytes());
            names.extend(&[0; 8][..1 + padding(name.len() + 1)]);
        }
        let heap = self.heap(&names);
        let tree = self.tree(&entries);
        let mut table = tree.to_le_bytes().to_vec();
        table.extend(heap.to_le_bytes());
        let mut messages = vec![(SYMBOL_TABLE, table)];
        for (name, texts) in &group.attributes {
            messages.push((ATTRIBUTE, attribute(name, texts)?));
        }
        Ok(Place { header: self.header(&messages), tree, heap })
    }

    fn heap(&mut self, names: &[u8]) -> u64 {
        let mut heap = b"HEAP\0\0\0\0".to_vec();
        heap.extend((names.len() as u64).to_le_bytes());
        heap.extend(NO_FREE_PART.to_le_bytes());
        // The names follow.
        heap.extend((self.bytes.len() as u64 + 32).to_le_bytes());
        let place = self.put(&heap);
        self.put(names);
        place
    }

    /// The tree of a group of one level; every entry is the place of a name in the heap and that of a header.
    fn tree(&mut self, entries: &[(u64, u64)]) -> u64 {
        let nodes = entries.chunks(2 * LEAF_HALF);
        let mut tree = b"TREE\0\0".to_vec();
        tree.extend((nodes.len() as u16).to_le_bytes());
        tree.extend([NOWHERE.to_le_bytes(), NOWHERE.to_le_bytes()].concat());
        tree.extend([0; 8]);
        for entries in nodes {
            let mut node = b"SNOD\x01\0".to_vec();
            node.extend((entries.len() as u16).to_le_bytes());
            for (name, header) in entries {
                node.extend(name.to_le_bytes());
                node.extend(header.to_le_bytes());
                // What lies there is told by its header alone.
                node.extend([0; 24]);
            }
            node.resize(8 + 2 * LEAF_HALF * 40, 0);
            tree.extend(self.put(&node).to_le_bytes());
            // The last name of a node is its upper bound.
            tree.extend(entries.last().map_or(0, |(name, _)| *name).to_le_bytes());
        }
        tree.resize(24 + 8 + 2 * TREE_HALF * 16, 0);
        self.put(&tree)
    }

    fn array(&mut self, shape: &[usize], values: &'a [f32]) -> io::Result<u64> {
        if shape.iter().product::<usize>() != values.len() || values.is_empty() || shape.len() > 32 {
            return Err(refused(format!("an array of shape {shape:?} and {} values", values.len())));
        }
        let length = size_of_val(values);
        // Version, contiguous, place and length.
        let mut layout = vec![3, 1];
        layout.extend(self.next.to_le_bytes());
        layout.extend((length as u64).to_le_bytes());
        self.values.push(values);
        self.next += (length + padding(length)) as u64;
        let messages = [
            (DATASPACE, dataspace(shape)),
            (DATATYPE, FLOAT.to_vec()),
            // Version 2, space taken late, written if it is set, and the usual value, 0.
            (FILL_VALUE, vec![2, 2, 2, 1, 0, 0, 0, 0]),
            (LAYOUT, layout),
        ];
        Ok(self.header(&messages))
    }

    fn header(&mut self, messages: &[(u16, Vec<u8>)]) -> u64 {
        let length: usize = messages.iter().map(|(_, body)| 8 + body.len().next_multiple_of(8)).sum();
        let mut header = vec![1, 0];
        header.extend((messages.len() as u16).to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend((length as u32).to_le_bytes());
        header.extend([0; 4]);
        for (kind, body) in messages {
            header.extend(kind.to_le_bytes());
            header.extend((body.len().next_multiple_of(8) as u16).to_le_bytes());
            header.extend([0; 4]);
            header.extend(body);
            header.extend(&[0; 8][..padding(body.len())]);
        }
        self.put(&header)
    }
}

/// A little-endian IEEE 754 binary32: class and version, implied bit and order, place of the sign, size; then offset, bits, place and
/// size of exponent and of mantissa, bias.
const FLOAT: [u8; 20] = [0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];

fn dataspace(shape: &[usize]) -> Vec<u8> {
    let mut space = vec![1, shape.len() as u8, 0, 0, 0, 0, 0, 0];
    shape.iter().for_each(|side| space.extend((*side as u64).to_le_bytes()));
    space
}

fn attribute(name: &str, texts: &Texts) -> io::Result<Vec<u8>> {
    let (shape, texts) = match texts {
        Texts::One(text) => (vec![], std::slice::from_ref(text)),
        Texts::List(texts) => (vec![texts.len()], &texts[..]),
    };
    let longest = texts.iter().map(String::len).max().unwrap_or_default().max(1);
    // Class and version, filled with zeros, ASCII, size.
    let mut kind = vec![0x13, 1, 0, 0];
    kind.extend((longest as u32).to_le_bytes());
    let space = dataspace(&shape);
    let mut body = vec![1, 0];
    for length in [name.len() + 1, kind.len(), space.len()] {
        body.extend((length as u16).to_le_bytes());
    }
    body.extend(name.bytes());
    body.extend(&[0; 8][..1 + padding(name.len() + 1)]);
    body.extend(kind);
    body.extend(space);
    for text in texts {
        if !text.is_ascii() {
            return Err(refused(format!("the text '{}' of an attribute", text.escape_debug())));
        }
        body.extend(text.bytes());
        body.resize(body.len() + longest - text.len(), 0);
    }
    if body.len() > MOST_MESSAGE {
        return Err(refused(format!("an attribute of {} bytes; it has {MOST_MESSAGE} at most", body.len())));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use hdf5_reader::Hdf5File;

    use super::*;

    fn file(root: &Hdf5Group<'_>) -> Hdf5File {
        let mut bytes = Vec::new();
        root.write(&mut bytes).unwrap();
        // Where the file ends is told in the superblock.
        assert_eq!(bytes[40..48], (bytes.len() as u64).to_le_bytes());
        Hdf5File::from_vec(bytes).unwrap()
    }

    #[test]
    fn groups_arrays_and_texts_are_read_again() {
        let values: Vec<f32> = (0..30).map(|value| value as f32 / 7.0).collect();
        let mut root = Hdf5Group::default();
        root.text("backend", "tensorflow");
        root.texts("layer_names", vec!["b".into(), "conv2d_10".into()]);
        let inner = root.group("conv2d_10").group("conv2d_10");
        inner.array("kernel:0", &[2, 3, 5], &values);
        inner.array("bias:0", &[1], &values[3..4]);
        root.group("b").texts("weight_names", vec![]);
        let file = file(&root);
        let root = file.root_group().unwrap();
        assert_eq!(root.attribute("backend").unwrap().read_string().unwrap(), "tensorflow");
        assert_eq!(root.attribute("layer_names").unwrap().read_strings().unwrap(), ["b", "conv2d_10"]);
        let inner = root.group("conv2d_10").unwrap().group("conv2d_10").unwrap();
        let kernel = inner.dataset("kernel:0").unwrap();
        assert_eq!(kernel.shape(), [2, 3, 5]);
        assert!(kernel.read_array::<f32>().unwrap().iter().eq(&values));
        let bias: Vec<f32> = inner.dataset("bias:0").unwrap().read_array::<f32>().unwrap().into_iter().collect();
        assert_eq!(bias, values[3..4]);
    }

    #[test]
    fn groups_of_one_and_of_many_nodes_are_found_by_name() {
        let value = [1.0];
        for count in [0, 1, 32, 33, 700, MOST_MEMBERS] {
            let mut root = Hdf5Group::default();
            (0..count).for_each(|index| root.array(&format!("layer_{index}"), &[1], &value));
            let file = file(&root);
            let root = file.root_group().unwrap();
            assert_eq!(root.member_names().unwrap().1.len(), count);
            assert!((0..count).all(|index| root.dataset(&format!("layer_{index}")).is_ok()), "{count}");
        }
    }

    #[test]
    fn what_no_file_can_hold_is_refused() {
        let values = vec![0.0; MOST_MEMBERS + 1];
        let refused = |fill: &dyn Fn(&mut Hdf5Group<'_>)| {
            let mut root = Hdf5Group::default();
            fill(&mut root);
            assert_eq!(root.write(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        };
        for name in ["", "a/b", "a\0"] {
            refused(&|root| root.group(name).text("a", "b"));
        }
        refused(&|root| {
            root.array("a", &[], &[1.0]);
            root.group("a").text("a", "b");
        });
        refused(&|root| root.texts("names", vec!["x".repeat(1000); 66]));
        refused(&|root| root.text("name", "\u{e9}"));
        refused(&|root| (0..=MOST_MEMBERS).for_each(|index| root.group(&index.to_string()).text("a", "b")));
        let mut root = Hdf5Group::default();
        root.array("a", &[2], &values[..3]);
        assert!(root.write(&mut Vec::new()).is_err());
    }
}
