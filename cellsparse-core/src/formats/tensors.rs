//! Named arrays and a JSON text in one safetensors file.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::raster::write_atomically;

/// Shape and values, row-major.
pub type NamedArrays = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Key of the JSON text among the file's metadata.
const METADATA_KEY: &str = "cellsparse";

/// Largest file that is read: 4 GiB.
const MAX_BYTES: u64 = 1 << 32;

/// Writes arrays and a JSON text to `path`, atomically.
///
/// # Errors
/// [`Error::Io`] or [`Error::NotFound`] when the file cannot be written.
pub fn write_tensors<'a>(
    path: &Path,
    arrays: impl IntoIterator<Item = (String, &'a [usize], &'a [f32])>,
    json: String,
) -> Result<()> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = arrays
        .into_iter()
        .map(|(name, shape, values)| {
            (name, shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let mut views = Vec::new();
    for (name, shape, data) in &bytes {
        let view = TensorView::new(Dtype::F32, shape.clone(), data)
            .map_err(|error| Error::Internal(format!("array '{name}': {error}")))?;
        views.push((name.clone(), view));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
    let file = safetensors::serialize(views, Some(metadata))
        .map_err(|error| Error::Internal(format!("serialising the model: {error}")))?;
    write_atomically(path, |writer| writer.write_all(&file).map_err(|source| Error::io(path, source)))
}

/// Reads a file that [`write_tensors`] wrote.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::Limit`] for a file above 4 GiB, [`Error::File`] when it is not a
/// safetensors file, holds something other than 32-bit floats, or has no cellsparse metadata.
pub fn read_tensors(path: &Path) -> Result<(NamedArrays, String)> {
    let size = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if size.is_dir() {
        return Err(Error::file(path, "is a folder; a model is a .safetensors file"));
    }
    if size.len() > MAX_BYTES {
        return Err(Error::Limit(format!("{}: {} bytes; models have at most 4 GiB", path.display(), size.len())));
    }
    let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
    let damaged = |error: safetensors::SafeTensorError| {
        Error::file(path, format!("not a whole safetensors file ({error}); it may be damaged or of another format"))
    };
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
