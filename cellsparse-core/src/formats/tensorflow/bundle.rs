//! Checkpoints of TensorFlow: arrays by name in `NAME.data-00000-of-00001`, and where each lies in `NAME.index`.
//!
//! Source: `tensor_bundle.proto`, `trackable_object_graph.proto` and the table format of LevelDB (`table_format.md`), which the index
//! has, uncompressed. Checksums (CRC-32C) are compared.

use std::collections::{BTreeMap, HashMap};

use super::super::protobuf_fields::{Field, Fields, varint};
use super::super::shortened::shortened;
use super::super::source::Source;
use super::graph::{Read, element, shape};
use crate::raster::checksum::{CASTAGNOLI, checksum};

/// Last bytes of an index.
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Bytes of the places of two blocks and the magic number.
const FOOTER: usize = 48;
/// Most entries of an index, and most bytes of all their names.
const MOST_ENTRIES: usize = 1 << 16;
const MOST_NAMES: usize = 1 << 24;
/// Where TensorFlow 2 tells which variable has which name.
const OBJECTS: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";
/// The element type of texts.
const TEXT: u64 = 7;

/// The parts of the data, of which some may be missing or damaged.
pub(super) type Parts<'d> = Vec<Read<Option<Source<'d>>>>;

/// Where an array lies.
#[derive(Debug, Clone, Default)]
struct Entry {
    kind: u64,
    shape: Vec<usize>,
    part: u32,
    offset: u64,
    length: u64,
    checksum: u32,
    is_sliced: bool,
}

/// The arrays of a checkpoint.
pub(super) struct Bundle<'d> {
    entries: BTreeMap<String, Entry>,
    /// Names of variables, with the keys of their arrays; none where two have one.
    keys: HashMap<String, Option<String>>,
    parts: Parts<'d>,
}

impl<'d> Bundle<'d> {
    /// The checkpoint of an index; `parts` gives its data, of which there are so many parts.
    pub fn read(index: &[u8], parts: impl FnOnce(u32) -> Parts<'d>) -> Read<Self> {
        let mut entries = BTreeMap::new();
        let mut count = 1;
        for (key, value) in table(index)? {
            if key.is_empty() {
                count = header(&value)?;
                continue;
            }
            entries.insert(String::from_utf8(key).map_err(|_| "a name that is not UTF-8")?, entry(&value)?);
        }
        let mut bundle = Self { entries, keys: HashMap::new(), parts: parts(count) };
        if bundle.entries.contains_key(OBJECTS) {
            bundle.keys = names(&bundle.text(OBJECTS)?)?;
        }
        Ok(bundle)
    }

    /// Shape and values of a variable, of which `most` are taken at most.
    pub fn variable(&self, name: &str, most: usize) -> Read<(Vec<usize>, Vec<f32>)> {
        let missing = || format!("its variable '{}' is not in the checkpoint", shortened(name));
        let key = match (self.entries.contains_key(name), self.keys.get(name)) {
            (true, _) => name,
            (false, Some(Some(key))) => key,
            (false, Some(None)) => return Err(format!("two of its variables have the name '{}'", shortened(name))),
            (false, None) => return Err(missing()),
        };
        let entry = self.entries.get(key).ok_or_else(missing)?;
        let in_array = |reason: String| format!("its variable '{}' {reason}", shortened(name));
        let number = element(entry.kind).ok_or_else(|| in_array(format!("has the type {}", entry.kind)))?;
        let count = entry.shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
        let count = count.filter(|count| *count <= most && (*count * number.size()) as u64 == entry.length);
        let count =
            count.ok_or_else(|| in_array(format!("has the shape {:?} in {} bytes", entry.shape, entry.length)))?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| in_array("is larger than the memory".into()))?;
        self.read_pieces(entry, |bytes| number.append(bytes, &mut values)).map_err(in_array)?;
        Ok((entry.shape.clone(), values))
    }

    /// Gives the bytes of an entry piece by piece, and compares their checksum.
    fn read_pieces(&self, entry: &Entry, mut take: impl FnMut(&[u8])) -> Read<()> {
        if entry.is_sliced {
            return Err("is stored in slices, which are not read".into());
        }
        let missing = || "has data that are missing".to_string();
        let data = self.parts.get(entry.part as usize).ok_or_else(missing)?.as_ref().map_err(Clone::clone)?;
        let data = data.as_ref().ok_or_else(missing)?;
        let mut sum = 0;
        let read = data.pieces(entry.offset, entry.length, |bytes| {
            sum = checksum::<CASTAGNOLI>(sum, bytes);
            take(bytes);
        });
        read.ok_or("has data that are missing or cut off")?;
        if masked(sum) != entry.checksum && entry.kind != TEXT {
            return Err("does not match its checksum".into());
        }
        Ok(())
    }

    /// A single text.
    fn text(&self, key: &str) -> Read<Vec<u8>> {
        let Some(entry) = self.entries.get(key).filter(|entry| entry.kind == TEXT && entry.shape.is_empty()) else {
            return Err(format!("'{key}' is no text"));
        };
        if entry.length > 1 << 26 {
            return Err(format!("'{key}' has {} bytes", entry.length));
        }
        // Its length, the checksum of the length, its bytes.
        let mut bytes = Vec::new();
        self.read_pieces(entry, |piece| bytes.extend_from_slice(piece))?;
        let mut rest = bytes.as_slice();
        let length = varint(&mut rest).and_then(|length| usize::try_from(length).ok());
        let text = rest.get(4..).filter(|text| Some(text.len()) == length);
        Ok(text.ok_or_else(|| format!("'{key}' is cut off"))?.to_vec())
    }
}

/// The number of parts of the data.
fn header(bytes: &[u8]) -> Read<u32> {
    let mut parts = 1;
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Number(count)) => parts = u32::try_from(count).unwrap_or(u32::MAX),
            (2, Field::Number(1)) => return Err("it was written on a big-endian machine".into()),
            _ => {}
        }
    }
    // Each is a file that is kept open.
    if parts > 256 { Err(format!("it has {parts} parts")) } else { Ok(parts) }
}

fn entry(bytes: &[u8]) -> Read<Entry> {
    let mut entry = Entry::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Number(kind)) => entry.kind = kind,
            (2, Field::Bytes(sides)) => entry.shape = shape(sides)?,
            (3, Field::Number(part)) => entry.part = u32::try_from(part).unwrap_or(u32::MAX),
            (4, Field::Number(offset)) => entry.offset = offset,
            (5, Field::Number(length)) => entry.length = length,
            (6, Field::Bits32(checksum)) => entry.checksum = u32::from_le_bytes(checksum),
            (7, _) => entry.is_sliced = true,
            _ => {}
        }
    }
    Ok(entry)
}

/// The names of variables in a graph of objects, with the keys of their arrays.
fn names(bytes: &[u8]) -> Read<HashMap<String, Option<String>>> {
    let mut names: HashMap<String, Option<String>> = HashMap::new();
    for field in Fields::of(bytes) {
        let (1, Field::Bytes(object)) = field? else { continue };
        for field in Fields::of(object) {
            let (2, Field::Bytes(attribute)) = field? else { continue };
            let (mut name, mut key) = ("", "");
            for field in Fields::of(attribute) {
                match field? {
                    (2, value) => name = value.text().unwrap_or_default(),
                    (3, value) => key = value.text().unwrap_or_default(),
                    _ => {}
                }
            }
            if name.is_empty() || names.len() >= MOST_ENTRIES {
                continue;
            }
            let known = names.entry(name.to_string()).or_insert_with(|| Some(key.to_string()));
            if known.as_deref() != Some(key) {
                *known = None;
            }
        }
    }
    Ok(names)
}

/// All entries of a table.
fn table(bytes: &[u8]) -> Read<Vec<(Vec<u8>, Vec<u8>)>> {
    let no_table = || "its index is no table of TensorFlow, or cut off".to_string();
    let start = bytes.len().checked_sub(FOOTER).ok_or_else(no_table)?;
    let (body, mut footer) = bytes.split_at(start);
    if footer.last_chunk() != Some(&MAGIC.to_le_bytes()) {
        return Err(no_table());
    }
    let mut handle = || Some((varint(&mut footer)?, varint(&mut footer)?));
    handle().ok_or_else(no_table)?;
    let index = handle().ok_or_else(no_table)?;
    let mut left = Left { entries: MOST_ENTRIES, names: MOST_NAMES };
    let mut entries = Vec::new();
    for (_, place) in block(body, index, &mut left)? {
        let mut place = place.as_slice();
        let handle = varint(&mut place).zip(varint(&mut place)).ok_or_else(no_table)?;
        entries.extend(block(body, handle, &mut left)?);
    }
    Ok(entries)
}

/// What may still be taken from a table.
struct Left {
    entries: usize,
    names: usize,
}

/// The entries of the block of a table at an offset with a length.
fn block(bytes: &[u8], (offset, length): (u64, u64), left: &mut Left) -> Read<Vec<(Vec<u8>, Vec<u8>)>> {
    let damaged = || "a block of its index is damaged or cut off".to_string();
    let range = |offset: u64, length: u64| {
        let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        bytes.get(start..start.checked_add(length)?)
    };
    let block = range(offset, length).ok_or_else(damaged)?;
    let trailer = offset.checked_add(length).and_then(|end| range(end, 5)).ok_or_else(damaged)?;
    if trailer[0] != 0 {
        return Err("its index is compressed, which TensorFlow does not do".into());
    }
    if trailer[1..] != masked(checksum::<CASTAGNOLI>(checksum::<CASTAGNOLI>(0, block), &trailer[..1])).to_le_bytes() {
        return Err("a block of its index does not match its checksum".into());
    }
    // Places where names stand whole come last, and how many there are.
    let count = block.last_chunk().map(|count| u32::from_le_bytes(*count) as usize).ok_or_else(damaged)?;
    let places = count.checked_mul(4).and_then(|bytes| bytes.checked_add(4)).ok_or_else(damaged)?;
    let mut rest = block.get(..block.len().checked_sub(places).ok_or_else(damaged)?).ok_or_else(damaged)?;
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    while !rest.is_empty() {
        let mut number = || varint(&mut rest).and_then(|number| usize::try_from(number).ok()).ok_or_else(damaged);
        let (shared, own, value) = (number()?, number()?, number()?);
        let before = entries.last().map_or(&[][..], |(name, _)| name);
        let mut name = before.get(..shared).ok_or_else(damaged)?.to_vec();
        name.extend(rest.split_off(..own).ok_or_else(damaged)?);
        let value = rest.split_off(..value).ok_or_else(damaged)?.to_vec();
        left.entries = left.entries.checked_sub(1).ok_or("its index has too many entries")?;
        left.names = left.names.checked_sub(name.len()).ok_or("the names in its index are too long")?;
        entries.push((name, value));
    }
    Ok(entries)
}

/// A checksum as TensorFlow stores it: rotated, with a constant added, so that checksums of checksums differ.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_masked_as_tensorflow_masks_them() {
        assert_eq!(masked(0), 0xa282_ead8);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for bytes in [vec![], vec![0; 47], vec![0; 48], [vec![255; 40], MAGIC.to_le_bytes().to_vec()].concat()] {
            assert!(Bundle::read(&bytes, |_| Vec::new()).is_err());
        }
    }
}
