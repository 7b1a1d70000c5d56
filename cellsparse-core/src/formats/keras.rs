//! Weights of Keras: HDF5 files that `model.save_weights(FILE)` writes, and those of whole models, without TensorFlow.
//!
//! Every layer has a group with its arrays, which Keras 2 names `LAYER/LAYER/kernel:0` and Keras 3 `LAYER/LAYER/kernel`; in a
//! whole model they lie under `model_weights`. Files that end in `.weights.h5` have `layers/LAYER/vars/0`, where layers are only
//! numbered by their kind. Arrays are read one by one from the file, which is never held whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use hdf5_reader::group::Group;
use hdf5_reader::{BytesStorage, Dataset, Datatype, FileStorage, Hdf5File, OpenOptions, RangeRequestStorage, Storage};

use super::numbers::Number;
use super::shortened::{on_one_line, shortened};
use super::source::Source;
use super::state_dict::{NamedArray, StateDict};
use crate::error::{Error, Result, contain_panic};
use crate::raster::require_regular_file;

/// Largest file that is read: 4 GiB.
const MAX_BYTES: u64 = 1 << 32;
/// Most groups and arrays that are looked at.
const MAX_OBJECTS: usize = 1 << 14;
/// Deepest nesting of groups.
const MAX_DEPTH: usize = 8;
/// Most bytes of a name.
const MAX_NAME: usize = 512;
/// Bytes of arrays for each byte of the file at most, packed ones unpacked, and bytes that every file may have.
const MOST_PACKED: u64 = 64;
const SPARE_BYTES: u64 = 1 << 20;

/// Reads the weights of a Keras file as 32-bit floats, named `LAYER/PART`, as in `conv2d_1/kernel`, or `conv2d_1/0` where the file
/// has numbers only, in the order of the file. Kernels are `[k, k, in, out]`.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::Limit`] for a file above 4 GiB, and [`Error::File`] when the file is damaged, no
/// HDF5 file, or holds no weights of Keras.
pub fn read_keras(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    let facts = require_regular_file(path)?;
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    let storage = FileStorage::from_file(file).map_err(|error| refused(path, &error.to_string()))?;
    read(Arc::new(storage), facts.len(), path)
}

/// Reads what [`read_keras`] reads from memory; errors call it `name`.
///
/// # Errors
/// As [`read_keras`].
pub fn decode_keras(bytes: Vec<u8>, name: &Path) -> Result<StateDict> {
    let length = bytes.len() as u64;
    read(Arc::new(BytesStorage::new(bytes)), length, name)
}

/// Reads what [`read_keras`] reads from an entry of an archive; errors call it `name`.
pub(super) fn read_keras_within(entry: Source<'static>, name: &Path) -> Result<StateDict> {
    let length = entry.len();
    let missing = || hdf5_reader::error::Error::Io(std::io::Error::other("the archive cannot be read"));
    let range = move |offset, length| Ok(entry.get(offset, length as u64).ok_or_else(missing)?.into_owned());
    read(Arc::new(RangeRequestStorage::new(length, range)), length, name)
}

fn read(storage: Arc<dyn Storage>, length: u64, path: &Path) -> Result<StateDict> {
    if length > MAX_BYTES {
        return Err(Error::limit(path, format!("{length} bytes; weights have at most 4 GiB")));
    }
    contain_panic(|| parse(storage, length)).unwrap_or_else(Err).map_err(|reason| refused(path, &reason))
}

fn refused(path: &Path, reason: &str) -> Error {
    let reason = on_one_line(reason, 300);
    let advice = if reason.contains("unexpected end") { "; it is cut off: copy or download it again" } else { "" };
    Error::file(path, format!("not a file of Keras weights that can be read: {reason}{advice}"))
}

fn parse(storage: Arc<dyn Storage>, length: u64) -> std::result::Result<StateDict, String> {
    let budget = length.saturating_mul(MOST_PACKED).saturating_add(SPARE_BYTES).min(MAX_BYTES);
    let options = OpenOptions {
        // Nothing is read twice.
        chunk_cache_bytes: 0,
        max_chunk_bytes: 1 << 28,
        max_read_bytes: usize::try_from(budget).unwrap_or(usize::MAX),
        max_object_header_bytes: 1 << 22,
        ..OpenOptions::default()
    };
    let file = Hdf5File::from_storage_with_options(storage, options).map_err(|error| error.to_string())?;
    let root = file.root_group().map_err(|error| error.to_string())?;
    let (groups, datasets) = root.member_names().map_err(|error| error.to_string())?;
    let of_model = groups.iter().any(|name| name == "model_weights");
    let root = if of_model { root.group("model_weights").map_err(|error| error.to_string())? } else { root };
    let mut found = Found { arrays: Vec::new(), names: BTreeSet::new(), left_out: 0, visited: 0, budget };
    found.visit(&root, &mut Vec::new())?;
    if found.arrays.is_empty() {
        let names: Vec<String> =
            groups.iter().chain(&datasets).take(4).map(|name| format!("'{}'", shortened(name))).collect();
        return Err(match names.is_empty() {
            true => "it is empty".to_string(),
            false => format!("it holds {} and no arrays of layers", names.join(", ")),
        });
    }
    let notes = match found.left_out {
        0 => Vec::new(),
        1 => vec!["1 array that is no float is left out".to_string()],
        count => vec![format!("{count} arrays that are no floats are left out")],
    };
    Ok(StateDict { arrays: found.arrays, notes })
}

/// The arrays of a file.
struct Found {
    arrays: Vec<NamedArray>,
    names: BTreeSet<String>,
    left_out: usize,
    visited: usize,
    /// Bytes that may still be read.
    budget: u64,
}

impl Found {
    /// Reads the arrays of a group and of those in it; `layers` are the names of the groups on the way.
    fn visit(&mut self, group: &Group, layers: &mut Vec<String>) -> std::result::Result<(), String> {
        if layers.len() > MAX_DEPTH {
            return Err("its groups are nested too deeply".into());
        }
        let (groups, datasets) = group.members().map_err(|error| error.to_string())?;
        self.visited += groups.len() + datasets.len();
        if self.visited > MAX_OBJECTS {
            return Err(format!("it has more than {MAX_OBJECTS} groups and arrays"));
        }
        for dataset in &datasets {
            self.take(dataset, layers)?;
        }
        for child in &groups {
            layers.push(child.name().to_string());
            self.visit(child, layers)?;
            layers.pop();
        }
        Ok(())
    }

    fn take(&mut self, dataset: &Dataset, layers: &[String]) -> std::result::Result<(), String> {
        let part = dataset.name().rsplit('/').next().unwrap_or_default();
        let part = part.split(':').next().unwrap_or_default();
        // What counts is the innermost name, but for the group that Keras 3 puts around numbered arrays.
        let layer = match layers {
            [.., layer, last] if last == "vars" => Some(layer),
            other => other.last(),
        };
        let name = layer.map_or_else(|| part.to_string(), |layer| format!("{layer}/{part}"));
        if name.len() > MAX_NAME {
            return Err(format!("it has a name of more than {MAX_NAME} bytes, '{}'", shortened(&name)));
        }
        let Datatype::FloatingPoint { size, .. } = dataset.dtype() else {
            self.left_out += 1;
            return Ok(());
        };
        let sides = dataset.shape();
        let bytes = sides.iter().try_fold(u64::from(*size), |product, &side| product.checked_mul(side.max(1)));
        let Some(rest) = bytes.and_then(|bytes| self.budget.checked_sub(bytes)) else {
            return Err(format!(
                "its array '{}' has the shape {sides:?}, more than the file can hold",
                shortened(&name)
            ));
        };
        self.budget = rest;
        let shape: Vec<usize> = sides
            .iter()
            .map(|&side| usize::try_from(side))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| "too large")?;
        let in_array = |reason: String| format!("its array '{}' cannot be read: {reason}", shortened(&name));
        let values: Vec<f32> = match size {
            2 => dataset.read_native_bytes().map(|bytes| halves(&bytes)),
            // Moved where it is row-major, as arrays of files are.
            4 => dataset.read_array::<f32>().map(|array| match array.is_standard_layout() && !array.is_empty() {
                true => {
                    let count = array.len();
                    let (mut values, start) = array.into_raw_vec_and_offset();
                    values.drain(..start.unwrap_or(0));
                    values.truncate(count);
                    values
                }
                false => array.into_iter().collect(),
            }),
            8 => dataset.read_array::<f64>().map(|array| array.into_iter().map(|value| value as f32).collect()),
            _ => return Err(in_array(format!("it has floats of {size} bytes"))),
        }
        .map_err(|error| in_array(error.to_string()))?;
        let count: usize = shape.iter().product();
        if values.len() != count {
            return Err(in_array(format!("{} of {count} values are there", values.len())));
        }
        if !self.names.insert(name.clone()) {
            return Err(format!("two of its arrays have the name '{}'", shortened(&name)));
        }
        self.arrays.push(NamedArray { name, shape, values });
        Ok(())
    }
}

/// 16-bit floats in the byte order of this machine.
fn halves(bytes: &[u8]) -> Vec<f32> {
    let little: Vec<u8> =
        bytes.as_chunks::<2>().0.iter().flat_map(|half| u16::from_ne_bytes(*half).to_le_bytes()).collect();
    (0..little.len() / 2).filter_map(|index| Number::F16.read(&little, index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_keras_is_named() {
        let name = Path::new("x.h5");
        for (bytes, said) in
            [(vec![], "x.h5: not a file of Keras"), (b"\x89HDF\r\n\x1a\n".to_vec(), "x.h5: not a file of Keras")]
        {
            let error = decode_keras(bytes, name).unwrap_err().to_string();
            assert!(error.starts_with(said) && !error.contains('\n'), "{error}");
        }
        assert_eq!(halves(&[0x3c00_u16, 0xc000].map(u16::to_ne_bytes).concat()), [1.0, -2.0]);
    }
}
