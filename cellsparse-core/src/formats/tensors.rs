//! Named arrays and a JSON text in one safetensors file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};

use super::numbers::Number;
use super::state_dict::{NamedArray, StateDict, shortened};
use crate::error::{Error, Result};
use crate::raster::write_atomically;

/// Shape and values, row-major.
pub type NamedArrays = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Name, shape and row-major values of an array to write.
pub type PlainArray<'a> = (String, &'a [usize], &'a [f32]);

/// Key of the JSON text among the file's metadata.
const METADATA_KEY: &str = "cellsparse";

/// Largest file that is read: 4 GiB.
const MAX_BYTES: u64 = 1 << 32;

/// Writes arrays and a JSON text to `path`, atomically.
///
/// # Errors
/// [`Error::Io`] or [`Error::NotFound`] when the file cannot be written.
pub fn write_tensors<'a>(path: &Path, arrays: impl IntoIterator<Item = PlainArray<'a>>, json: String) -> Result<()> {
    let mut views = Vec::new();
    for (name, shape, values) in arrays {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::Internal(format!("array '{name}' of shape {shape:?} has {} values", values.len())));
        }
        views.push((name, Plain { shape, values }));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
    let file = safetensors::serialize(views, Some(metadata))
        .map_err(|error| Error::Internal(format!("serialising the model: {error}")))?;
    write_atomically(path, |writer| writer.write_all(&file).map_err(|source| Error::io(path, source)))
}

/// 32-bit floats as the file holds them; the bytes are made when they are written.
struct Plain<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Plain<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        for (bytes, value) in bytes.chunks_exact_mut(size_of::<f32>()).zip(self.values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Reads a file that [`write_tensors`] wrote.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::Limit`] for a file above 4 GiB, [`Error::File`] when it is not a
/// safetensors file, holds something other than 32-bit floats, or has no cellsparse metadata.
pub fn read_tensors(path: &Path) -> Result<(NamedArrays, String)> {
    let bytes = read_file(path)?;
    let damaged = |error| damaged(path, error);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let json = metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).cloned().ok_or_else(|| {
        Error::file(path, "a safetensors file without cellsparse metadata; it was not written by cellsparse")
    })?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut arrays = NamedArrays::new();
    for (name, view) in tensors.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(Error::file(path, format!("array '{name}' is {:?}; models hold F32 only", view.dtype())));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        arrays.insert(name.to_string(), (view.shape().to_vec(), values));
    }
    Ok((arrays, json))
}

/// Reads a safetensors file of any program as 32-bit floats, in the order of its data.
///
/// # Errors
/// As [`read_tensors`]; [`Error::File`] also for element types that are neither floats nor integers of 64 bit at most.
pub fn read_foreign_tensors(path: &Path) -> Result<StateDict> {
    let bytes = read_file(path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(path, error))?;
    let mut views = tensors.tensors();
    // Empty arrays begin where the next one does; the file has no order for them but this.
    views.sort_by(|(a, x), (b, y)| (x.data().as_ptr(), x.data().len(), a).cmp(&(y.data().as_ptr(), y.data().len(), b)));
    let mut arrays = Vec::with_capacity(views.len());
    for (name, view) in views {
        let number = number(view.dtype()).ok_or_else(|| {
            Error::file(path, format!("array '{}' is {:?}, which is not read", shortened(&name), view.dtype()))
        })?;
        let data = view.data();
        let values = (0..data.len() / number.size()).filter_map(|index| number.read(data, index)).collect();
        arrays.push(NamedArray { name, shape: view.shape().to_vec(), values });
    }
    Ok(StateDict { arrays, notes: Vec::new() })
}

/// Whether a file in memory is of safetensors and written by cellsparse; nothing when it is not of safetensors.
pub(super) fn is_ours(bytes: &[u8]) -> Option<bool> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    Some(metadata.metadata().as_ref().is_some_and(|map| map.contains_key(METADATA_KEY)))
}

/// A file of weights, whole.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    if !path.is_dir() {
        crate::raster::require_regular_file(path)?;
    }
    let facts = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if facts.is_dir() {
        return Err(Error::file(path, "is a folder; a model is a .safetensors file"));
    }
    if facts.len() > MAX_BYTES {
        return Err(Error::Limit(format!("{}: {} bytes; models have at most 4 GiB", path.display(), facts.len())));
    }
    std::fs::read(path).map_err(|source| Error::io(path, source))
}

fn damaged(path: &Path, error: safetensors::SafeTensorError) -> Error {
    Error::file(path, format!("not a whole safetensors file ({error}); it may be damaged or of another format"))
}

fn number(dtype: Dtype) -> Option<Number> {
    Some(match dtype {
        Dtype::F64 => Number::F64,
        Dtype::F32 => Number::F32,
        Dtype::F16 => Number::F16,
        Dtype::BF16 => Number::Bf16,
        Dtype::I64 => Number::I64,
        Dtype::I32 => Number::I32,
        Dtype::I16 => Number::I16,
        Dtype::I8 => Number::I8,
        Dtype::U8 => Number::U8,
        Dtype::BOOL => Number::Bool,
        _ => return None,
    })
}
