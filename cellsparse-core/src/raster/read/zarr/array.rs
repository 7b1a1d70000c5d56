//! One array of numbers: what its metadata says of shape, chunks, their names and how they are stored.
//!
//! Sources: the specifications of zarr, version 2 and version 3 (core, the codecs `bytes`, `transpose`, `gzip`, `zstd`, `blosc`,
//! `crc32c`, `sharding_indexed`).

use serde_json::Value;

use super::super::{Decoded, Problem, ReadLimits};
use super::codecs::Codec;
use super::dtype::DataType;
use super::store::{Store, joined};

/// Axes of an array, at most.
const MOST_AXES: usize = 8;

/// Largest side of an array or a chunk.
const LONGEST: usize = 1 << 31;

/// Bytes of the index of a shard, at most.
const INDEX_BYTES: usize = 64 << 20;

/// An array as its metadata describes it.
#[derive(Debug, Clone)]
pub(super) struct Array {
    /// Its folder within the store; empty for the store's own.
    pub(super) node: String,
    pub(super) shape: Vec<usize>,
    pub(super) data_type: DataType,
    /// The bytes of a number that is not stored.
    pub(super) fill: [u8; 8],
    /// Sides of what is decoded at once: of a chunk, or of one of those in a shard.
    pub(super) chunk: Vec<usize>,
    /// For every axis, how many numbers lie between neighbours in a decoded chunk.
    pub(super) strides: Vec<usize>,
    /// From the first to the last step of writing.
    pub(super) codecs: Vec<Codec>,
    pub(super) shard: Option<Shard>,
    keys: Keys,
    /// What the axes are called, where it is told.
    pub(super) names: Option<Vec<String>>,
}

/// A file with several chunks and an index of them.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    /// Chunks along each axis.
    pub(super) grid: Vec<usize>,
    pub(super) index_at_start: bool,
    pub(super) index_big_endian: bool,
    /// A checksum of the index stands behind it.
    pub(super) index_checked: bool,
}

impl Shard {
    /// Chunks of a shard.
    pub(super) fn count(&self) -> usize {
        self.grid.iter().product()
    }

    /// Bytes of the index: place and length of each chunk, and the checksum.
    pub(super) fn index_bytes(&self) -> usize {
        16 * self.count() + if self.index_checked { 4 } else { 0 }
    }
}

/// How the numbers of a chunk make the name of its file.
#[derive(Debug, Clone)]
struct Keys {
    prefix: bool,
    separator: char,
}

impl Array {
    /// Reads the metadata of zarr 2, `.zarray`, with the attributes beside it.
    pub(super) fn of_version_2(store: &Store, node: &str, metadata: &Value, attributes: &Value) -> Decoded<Self> {
        let in_array = |problem: Problem| problem.prefixed(&called(node));
        if metadata["zarr_format"].as_u64() != Some(2) {
            return Err(Problem::unusable(format!(
                "{} is metadata of zarr 2 and states the format {}",
                joined(node, ".zarray"),
                metadata["zarr_format"]
            )));
        }
        if let Some(filter) = metadata["filters"].as_array().and_then(|filters| filters.first()) {
            let name = filter["id"].as_str().unwrap_or("unknown");
            return Err(in_array(Problem::unusable(format!(
                "is stored through the filter '{}', which is not read; write it without filters",
                name.chars().take(40).collect::<String>().escape_debug()
            ))));
        }
        let data_type = DataType::of_version_2(&metadata["dtype"]).map_err(in_array)?;
        let shape = sides(&metadata["shape"], "shape").map_err(in_array)?;
        let chunk = sides(&metadata["chunks"], "chunks").map_err(in_array)?;
        let order: Vec<usize> = match metadata["order"].as_str() {
            Some("C") | None => (0..shape.len()).collect(),
            Some("F") => (0..shape.len()).rev().collect(),
            Some(_) => return Err(in_array(Problem::unusable("has an order of axes that is neither C nor F"))),
        };
        let separator = match metadata["dimension_separator"].as_str() {
            Some("/") => '/',
            Some(_) => '.',
            // Before the key was defined, writers with folders of chunks did not tell.
            None if store.path(&joined(node, "0")).is_dir() && shape.len() > 1 => '/',
            None => '.',
        };
        let names = attributes["_ARRAY_DIMENSIONS"].as_array().map(Vec::as_slice);
        let array = Self {
            node: node.to_owned(),
            fill: data_type.fill(&metadata["fill_value"]).map_err(in_array)?,
            strides: strides(&chunk, &order),
            codecs: Codec::of_version_2(&metadata["compressor"]).map_err(in_array)?,
            shard: None,
            keys: Keys { prefix: false, separator },
            names: names.and_then(axis_names),
            shape,
            data_type,
            chunk,
        };
        array.checked().map_err(in_array)
    }

    /// Reads the metadata of zarr 3, `zarr.json`.
    pub(super) fn of_version_3(node: &str, metadata: &Value) -> Decoded<Self> {
        Self::from_version_3(node, metadata).map_err(|problem| problem.prefixed(&called(node)))
    }

    fn from_version_3(node: &str, metadata: &Value) -> Decoded<Self> {
        if metadata["storage_transformers"].as_array().is_some_and(|list| !list.is_empty()) {
            return Err(Problem::unusable("is stored through a storage transformer, which is not read"));
        }
        let data_type = DataType::of_version_3(&metadata["data_type"])?;
        let shape = sides(&metadata["shape"], "shape")?;
        let grid = &metadata["chunk_grid"];
        if grid["name"].as_str() != Some("regular") {
            return Err(Problem::unusable(format!("has the chunk grid {}; regular ones are read", grid["name"])));
        }
        let outer = sides(&grid["configuration"]["chunk_shape"], "chunk_shape")?;
        let keys = Keys::of_version_3(&metadata["chunk_key_encoding"])?;
        let list = metadata["codecs"].as_array().ok_or_else(|| Problem::unusable("names no codecs"))?;
        let mut array = Self {
            node: node.to_owned(),
            fill: [0; 8],
            strides: Vec::new(),
            codecs: Vec::new(),
            shard: None,
            keys,
            names: metadata["dimension_names"].as_array().map(Vec::as_slice).and_then(axis_names),
            shape,
            data_type,
            chunk: outer,
        };
        match list.as_slice() {
            [codec] if name_of(codec) == "sharding_indexed" => array.take_shard(&codec["configuration"])?,
            list => array.take_codecs(list)?,
        }
        array.fill = array.data_type.fill(&metadata["fill_value"])?;
        array.checked()
    }

    /// Axes in another order, the order of bytes, and the steps after them.
    fn take_codecs(&mut self, list: &[Value]) -> Decoded<()> {
        let axes = self.shape.len();
        let mut order: Vec<usize> = (0..axes).collect();
        let mut list = list.iter();
        loop {
            let codec = list.next().ok_or_else(|| Problem::unusable("has no codec that makes bytes of its numbers"))?;
            match name_of(codec) {
                "transpose" => {
                    let step = permutation(&codec["configuration"]["order"], axes)?;
                    order = step.into_iter().map(|axis| order[axis]).collect();
                }
                "bytes" => {
                    self.data_type.big_endian = match codec["configuration"]["endian"].as_str() {
                        Some("big") => true,
                        Some("little") | None => false,
                        Some(_) => {
                            return Err(Problem::unusable("has bytes in an order that is neither big nor little"));
                        }
                    };
                    break;
                }
                "sharding_indexed" => {
                    return Err(Problem::unusable("has shards within other codecs, which are not read"));
                }
                other => {
                    return Err(Problem::unusable(format!(
                        "has the codec '{}', which is not read; transpose, bytes, gzip, zstd, blosc, crc32c and \
                         sharding_indexed are",
                        other.chars().take(40).collect::<String>().escape_debug()
                    )));
                }
            }
        }
        for codec in list {
            self.codecs.push(Codec::named(name_of(codec))?);
        }
        self.strides = strides(&self.chunk, &order);
        Ok(())
    }

    fn take_shard(&mut self, configuration: &Value) -> Decoded<()> {
        let outer = std::mem::replace(&mut self.chunk, sides(&configuration["chunk_shape"], "chunk_shape of shards")?);
        let whole = self.chunk.len() == outer.len()
            && self
                .chunk
                .iter()
                .zip(&outer)
                .all(|(inner, outer)| *inner > 0 && *outer > 0 && outer.is_multiple_of(*inner));
        if !whole {
            return Err(Problem::unusable(format!(
                "has shards of {outer:?} with chunks of {:?}, which do not fill them",
                self.chunk
            )));
        }
        let grid: Vec<usize> = outer.iter().zip(&self.chunk).map(|(outer, inner)| outer / inner).collect();
        let count = grid.iter().try_fold(16_usize, |product, side| product.checked_mul(*side));
        if count.is_none_or(|bytes| bytes > INDEX_BYTES) {
            return Err(Problem::Limit(format!(
                "the shards of an array have {grid:?} chunks each, which are too many"
            )));
        }
        let list = |name: &str| configuration[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let index = list("index_codecs");
        let (endian, index_checked) = match index {
            [bytes] => (bytes, false),
            [bytes, sum] if name_of(sum) == "crc32c" => (bytes, true),
            _ => (&Value::Null, false),
        };
        if name_of(endian) != "bytes" {
            return Err(Problem::unusable(
                "has shards with an index that is neither plain nor checksummed, which is not read",
            ));
        }
        let index_big_endian = endian["configuration"]["endian"].as_str() == Some("big");
        let index_at_start = configuration["index_location"].as_str() == Some("start");
        self.shard = Some(Shard { grid, index_at_start, index_big_endian, index_checked });
        self.take_codecs(list("codecs"))
    }

    fn checked(self) -> Decoded<Self> {
        if self.chunk.len() != self.shape.len() || self.chunk.contains(&0) {
            return Err(Problem::unusable(format!("has the shape {:?} and chunks of {:?}", self.shape, self.chunk)));
        }
        let most = ReadLimits::default().decoded_bytes;
        match self.chunk_bytes() {
            Some(bytes) if bytes <= most => Ok(self),
            _ => Err(Problem::Limit(format!(
                "a chunk of {:?} numbers of an array takes more than {most} bytes once decoded; write smaller chunks",
                self.chunk
            ))),
        }
    }

    /// Bytes of a decoded chunk.
    pub(super) fn chunk_bytes(&self) -> Option<usize> {
        self.chunk.iter().try_fold(self.data_type.size, |product, side| product.checked_mul(*side))
    }

    /// The name of the file with a chunk, or with the shard that it is in.
    pub(super) fn file_of(&self, chunk: &[usize]) -> String {
        let place = |axis: usize| chunk[axis] / self.shard.as_ref().map_or(1, |shard| shard.grid[axis]);
        let numbers: Vec<String> = (0..chunk.len()).map(|axis| place(axis).to_string()).collect();
        let separator = self.keys.separator.to_string();
        let mut name = numbers.join(&separator);
        if self.keys.prefix {
            name = if numbers.is_empty() { "c".into() } else { format!("c{separator}{name}") };
        }
        joined(&self.node, if name.is_empty() { "0" } else { &name })
    }

    /// What it is called in messages.
    pub(super) fn called(&self) -> String {
        called(&self.node)
    }
}

impl Keys {
    fn of_version_3(value: &Value) -> Decoded<Self> {
        let name = name_of(value);
        let separator = value["configuration"]["separator"].as_str();
        let separator = match (separator, name) {
            (Some("/"), _) | (None, "default") => '/',
            (Some("."), _) | (None, "v2") => '.',
            _ => return Err(Problem::unusable("names its chunks in a way that is not known")),
        };
        match name {
            "default" => Ok(Self { prefix: true, separator }),
            "v2" => Ok(Self { prefix: false, separator }),
            _ => Err(Problem::unusable("names its chunks in a way that is not known")),
        }
    }
}

fn called(node: &str) -> String {
    if node.is_empty() { "the array".into() } else { format!("the array '{node}'") }
}

/// The name of an extension point of zarr 3, which may stand alone.
fn name_of(value: &Value) -> &str {
    value.as_str().or(value["name"].as_str()).unwrap_or_default()
}

/// Numbers of an axis each.
fn sides(value: &Value, what: &str) -> Decoded<Vec<usize>> {
    let list = value.as_array().ok_or_else(|| Problem::unusable(format!("has no {what}")))?;
    if list.len() > MOST_AXES {
        return Err(Problem::unusable(format!("has {} axes; {MOST_AXES} are read at most", list.len())));
    }
    let side = |value: &Value| value.as_u64().and_then(|side| usize::try_from(side).ok());
    let sides: Option<Vec<usize>> = list.iter().map(side).collect();
    let sides = sides.ok_or_else(|| Problem::unusable(format!("has a {what} that is no list of sizes")))?;
    match sides.iter().find(|side| **side > LONGEST) {
        Some(side) => Err(Problem::Limit(format!("an axis of an array has the {what} {side}, which is too large"))),
        None => Ok(sides),
    }
}

fn permutation(value: &Value, axes: usize) -> Decoded<Vec<usize>> {
    let wrong = || Problem::unusable(format!("has the order of axes {value}, which is none of {axes} axes"));
    let list = value.as_array().filter(|list| list.len() == axes).ok_or_else(wrong)?;
    let order: Option<Vec<usize>> = list.iter().map(|axis| Some(axis.as_u64()? as usize)).collect();
    let order = order.ok_or_else(wrong)?;
    if (0..axes).all(|axis| order.contains(&axis)) { Ok(order) } else { Err(wrong()) }
}

/// Names of the axes; nothing when one has none.
fn axis_names(list: &[Value]) -> Option<Vec<String>> {
    list.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Distances of neighbours when the axes are stored in `order`, the last of it next to each other. Sides that are too large give
/// wrong distances and are refused afterwards.
fn strides(chunk: &[usize], order: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; order.len()];
    let mut distance = 1_usize;
    for &axis in order.iter().rev() {
        strides[axis] = distance;
        distance = distance.saturating_mul(chunk.get(axis).copied().unwrap_or(1));
    }
    strides
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version_3(change: impl Fn(&mut Value)) -> Decoded<Array> {
        let mut metadata = json!({
            "shape": [40, 50], "data_type": "uint16", "fill_value": 0,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 32]}},
            "chunk_key_encoding": {"name": "default"},
            "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "gzip"}],
        });
        change(&mut metadata);
        Array::of_version_3("s0", &metadata)
    }

    #[test]
    fn names_of_chunks_are_numbers() {
        let array = version_3(|_| {}).unwrap();
        assert_eq!(array.file_of(&[1, 2]), "s0/c/1/2");
        let array = version_3(|metadata| metadata["chunk_key_encoding"] = json!({"name": "v2"})).unwrap();
        assert_eq!(array.file_of(&[1, 2]), "s0/1.2");
        let dotted = json!({"name": "default", "configuration": {"separator": "."}});
        assert_eq!(
            version_3(|metadata| metadata["chunk_key_encoding"] = dotted.clone()).unwrap().file_of(&[0, 3]),
            "s0/c.0.3"
        );
    }

    #[test]
    fn shards_hold_whole_chunks() {
        let of_shards = |outer: Value, inner: Value, index: Value| {
            version_3(|metadata| {
                metadata["chunk_grid"]["configuration"]["chunk_shape"] = outer.clone();
                metadata["codecs"] = json!([{"name": "sharding_indexed", "configuration": {
                    "chunk_shape": inner, "codecs": ["bytes"], "index_codecs": index,
                }}]);
            })
        };
        let sharded = |inner: Value, index: Value| of_shards(json!([16, 32]), inner, index);
        let plain = json!([{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]);
        let array = sharded(json!([8, 8]), plain.clone()).unwrap();
        let shard = array.shard.as_ref().unwrap();
        assert_eq!(
            (shard.grid.as_slice(), shard.index_bytes(), array.chunk.as_slice()),
            (&[2, 4][..], 8 * 16 + 4, &[8, 8][..])
        );
        assert_eq!(array.file_of(&[3, 5]), "s0/c/1/1");
        for wrong in [json!([5, 8]), json!([0, 8]), json!([8]), json!("x")] {
            assert!(sharded(wrong.clone(), plain.clone()).is_err(), "{wrong}");
        }
        assert!(of_shards(json!([16, 0]), json!([8, 8]), plain.clone()).is_err(), "empty shards");
        assert!(sharded(json!([8, 8]), json!(["gzip"])).is_err() && sharded(json!([8, 8]), json!([])).is_err());
    }

    #[test]
    fn axes_in_another_order() {
        let transposed = |order: Value| {
            version_3(|metadata| {
                metadata["codecs"] = json!([{"name": "transpose", "configuration": {"order": order}}, "bytes"])
            })
        };
        assert_eq!(transposed(json!([0, 1])).unwrap().strides, [32, 1]);
        assert_eq!(transposed(json!([1, 0])).unwrap().strides, [1, 16]);
        for wrong in [json!([1, 1]), json!([0]), json!([0, 2]), json!("F")] {
            assert!(transposed(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn odd_metadata_is_refused() {
        for (name, value) in [
            ("shape", json!([40])),
            ("shape", json!([-1, 50])),
            ("shape", json!("large")),
            ("data_type", json!("string")),
            ("fill_value", json!("many")),
            ("chunk_grid", json!({"name": "rectilinear"})),
            ("chunk_grid", json!({"name": "regular", "configuration": {"chunk_shape": [0, 1]}})),
            ("chunk_grid", json!({"name": "regular", "configuration": {"chunk_shape": [1u64 << 39, 1u64 << 39]}})),
            ("chunk_grid", json!({"name": "regular", "configuration": {"chunk_shape": [1, u64::MAX]}})),
            ("chunk_key_encoding", json!({"name": "hilbert"})),
            ("codecs", json!([])),
            ("codecs", json!(["gzip"])),
            ("codecs", json!(["bytes", "pcodec"])),
            ("codecs", json!(["bytes", "sharding_indexed"])),
            ("storage_transformers", json!([{"name": "x"}])),
        ] {
            assert!(version_3(|metadata| metadata[name] = value.clone()).is_err(), "{name}: {value}");
        }
    }
}
