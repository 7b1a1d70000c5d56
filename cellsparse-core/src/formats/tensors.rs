//! Named arrays and a JSON text in one safetensors file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use super::numbers::Number;
use super::shortened::shortened;
use super::source::Source;
use super::state_dict::{NamedArray, StateDict};
use crate::budget::{bytes_of, no_memory};
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

/// Bytes of the number that a safetensors file begins with: the length of its header.
const LENGTH: usize = 8;

/// Floats that are read at once.
const MOST_AT_ONCE: usize = 1 << 14;

/// Largest header that is read, as in the safetensors library: 100 MB.
const MAX_HEADER: u64 = 100_000_000;

/// Writes arrays and a JSON text to `path`, atomically.
///
/// # Errors
/// [`Error::Io`] or [`Error::NotFound`] when the file cannot be written.
pub fn write_tensors<'a>(path: &Path, arrays: impl IntoIterator<Item = PlainArray<'a>>, json: String) -> Result<()> {
    let file = TensorFile::new(arrays, json)?;
    write_atomically(path, |writer| file.write(writer).map_err(|source| Error::io(path, source)))
}

/// Arrays and a JSON text that are about to be written as a safetensors file.
pub struct TensorFile<'a> {
    /// The length of the header and the header itself.
    head: Vec<u8>,
    /// The values of the arrays in the order of the file.
    values: Vec<&'a [f32]>,
}

impl<'a> TensorFile<'a> {
    /// Lays out the file. The arrays are ordered by name.
    ///
    /// # Errors
    /// [`Error::Internal`] for an array whose shape and number of values differ, and for a header above 100 MB.
    pub fn new(arrays: impl IntoIterator<Item = PlainArray<'a>>, json: String) -> Result<Self> {
        let mut arrays: Vec<PlainArray<'a>> = arrays.into_iter().collect();
        arrays.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let (mut infos, mut values, mut end) = (Vec::new(), Vec::new(), 0);
        for (name, shape, array) in arrays {
            if shape.iter().product::<usize>() != array.len() {
                return Err(Error::Internal(format!("array '{name}' of shape {shape:?} has {} values", array.len())));
            }
            let begin = end;
            end += size_of_val(array);
            infos.push((name, TensorInfo { dtype: Dtype::F32, shape: shape.to_vec(), data_offsets: (begin, end) }));
            values.push(array);
        }
        let refused = |reason: &dyn std::fmt::Display| Error::Internal(format!("serialising the model: {reason}"));
        let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
        let metadata = Metadata::new(Some(metadata), infos).map_err(|error| refused(&error))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|error| refused(&error))?;
        // The values begin at a multiple of 8.
        header.resize(header.len().next_multiple_of(LENGTH), b' ');
        if header.len() as u64 > MAX_HEADER {
            return Err(refused(&format!("a header of {} bytes", header.len())));
        }
        let mut head = (header.len() as u64).to_le_bytes().to_vec();
        head.append(&mut header);
        Ok(Self { head, values })
    }

    /// Writes the file. The bytes of the values are made as they are written.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn write(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        writer.write_all(&self.head)?;
        let mut bytes = [0; 1 << 14];
        for values in &self.values {
            for part in values.chunks(bytes.len() / size_of::<f32>()) {
                let bytes = &mut bytes[..size_of_val(part)];
                for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(part) {
                    *bytes = value.to_le_bytes();
                }
                writer.write_all(bytes)?;
            }
        }
        Ok(())
    }
}

/// Reads a file that [`write_tensors`] wrote. The values are read one array after the other, so that they take their memory once.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::Limit`] for a file above 4 GiB, [`Error::File`] when it is not a
/// safetensors file, holds something other than 32-bit floats, or has no cellsparse metadata.
pub fn read_tensors(path: &Path) -> Result<(NamedArrays, String)> {
    check_file(path)?;
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    read_tensors_from(file, path)
}

/// Reads what [`write_tensors`] writes from any source, to its end; errors call the source `name`.
///
/// # Errors
/// As [`read_tensors`].
pub fn read_tensors_from(mut source: impl Read, name: &Path) -> Result<(NamedArrays, String)> {
    let (length, metadata) = read_metadata(&mut source, name)?;
    let json = our_json(&metadata, name)?;
    let total = length.saturating_add(metadata.data_len() as u64);
    if total > MAX_BYTES {
        return Err(too_large(name, total));
    }
    let mut arrays = NamedArrays::new();
    // The header was checked: arrays follow each other in this order, and their lengths are those of their shapes.
    for key in metadata.offset_keys() {
        let Some(info) = metadata.info(&key) else { continue };
        check_type(&key, info.dtype, name)?;
        let count = (info.data_offsets.1 - info.data_offsets.0) / size_of::<f32>();
        arrays.insert(key, (info.shape.clone(), read_floats(&mut source, count, name)?));
    }
    match source.take(1).read_to_end(&mut Vec::new()) {
        Ok(0) => Ok((arrays, json)),
        Ok(_) => Err(damaged(name, SafeTensorError::MetadataIncompleteBuffer)),
        Err(source) => Err(Error::io(name, source)),
    }
}

/// So many floats. Memory is taken as they come, as a header may state more than there is.
fn read_floats(source: &mut impl Read, count: usize, name: &Path) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    let mut bytes = vec![0; MOST_AT_ONCE.min(count) * size_of::<f32>()];
    while values.len() < count {
        let part = (count - values.len()).min(MOST_AT_ONCE);
        let bytes = &mut bytes[..part * size_of::<f32>()];
        source.read_exact(bytes).map_err(|source| cut_off(name, source))?;
        if values.capacity() - values.len() < part {
            let rest = count - values.len();
            let more = rest.min(part.max(4 * values.len()));
            values.try_reserve_exact(more).map_err(|_| no_memory(bytes_of(&[more], 4), "an array of a model"))?;
        }
        values.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(values)
}

/// A source that ends early is a damaged file; others fail as they say.
fn cut_off(name: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged(name, SafeTensorError::MetadataIncompleteBuffer),
        _ => Error::io(name, source),
    }
}

/// The header at the beginning of a source, and where it ends.
fn read_metadata(source: &mut impl Read, path: &Path) -> Result<(u64, Metadata)> {
    let damaged = |error| damaged(path, error);
    let mut length = [0; LENGTH];
    source.read_exact(&mut length).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged(SafeTensorError::HeaderTooSmall),
        _ => Error::io(path, source),
    })?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(damaged(SafeTensorError::HeaderTooLarge));
    }
    let mut header = Vec::new();
    source.take(length).read_to_end(&mut header).map_err(|source| Error::io(path, source))?;
    if (header.len() as u64) < length {
        return Err(damaged(SafeTensorError::InvalidHeaderLength));
    }
    let metadata = serde_json::from_slice(&header)
        .map_err(|error| damaged(SafeTensorError::InvalidHeaderDeserialization(error)))?;
    Ok((LENGTH as u64 + length, metadata))
}

/// The shapes of the arrays by their names, and the JSON text, of a file that [`write_tensors`] wrote. No value is read.
///
/// # Errors
/// As [`read_tensors`].
pub fn peek_tensors(path: &Path) -> Result<(HashMap<String, Vec<usize>>, String)> {
    let metadata = read_header(path)?;
    let json = our_json(&metadata, path)?;
    let mut shapes = HashMap::new();
    for (name, info) in metadata.tensors() {
        check_type(&name, info.dtype, path)?;
        shapes.insert(name, info.shape.clone());
    }
    Ok((shapes, json))
}

/// Whether a safetensors file was written by cellsparse. Only its header is read.
///
/// # Errors
/// As [`read_tensors`], but for what the file holds.
pub(super) fn is_ours(path: &Path) -> Result<bool> {
    Ok(read_header(path)?.metadata().as_ref().is_some_and(|map| map.contains_key(METADATA_KEY)))
}

/// The header of a safetensors file, which fits the length of the file.
fn read_header(path: &Path) -> Result<Metadata> {
    let failed = |source| Error::io(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if facts.is_dir() {
        return Err(folder(path));
    }
    let (length, metadata) = read_metadata(&mut file, path)?;
    if length.checked_add(metadata.data_len() as u64) != Some(facts.len()) {
        return Err(damaged(path, SafeTensorError::MetadataIncompleteBuffer));
    }
    Ok(metadata)
}

fn our_json(metadata: &Metadata, path: &Path) -> Result<String> {
    metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).cloned().ok_or_else(|| {
        Error::file(path, "a safetensors file without cellsparse metadata; it was not written by cellsparse")
    })
}

fn check_type(name: &str, dtype: Dtype, path: &Path) -> Result<()> {
    match dtype {
        Dtype::F32 => Ok(()),
        other => Err(Error::file(path, format!("array '{name}' is {other:?}; models hold F32 only"))),
    }
}

/// Reads a safetensors file of any program as 32-bit floats, in the order of its data.
///
/// # Errors
/// As [`read_tensors`]; [`Error::File`] also for element types that are neither floats nor integers of 64 bit at most.
pub fn read_foreign_tensors(path: &Path) -> Result<StateDict> {
    check_file(path)?;
    let failed = |source| Error::io(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let (start, metadata) = read_metadata(&mut file, path)?;
    let file = Source::of_file(file).map_err(failed)?;
    if Some(file.len()) != start.checked_add(metadata.data_len() as u64) {
        return Err(damaged(path, SafeTensorError::MetadataIncompleteBuffer));
    }
    let mut infos: Vec<(String, &TensorInfo)> = metadata.tensors().into_iter().collect();
    // Empty arrays begin where the next one does; the file has no order for them but this.
    infos.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
    let mut arrays = Vec::with_capacity(infos.len());
    for (name, info) in infos {
        let number = number(info.dtype).ok_or_else(|| {
            Error::file(path, format!("array '{}' is {:?}, which is not read", shortened(&name), info.dtype))
        })?;
        let (begin, end) = info.data_offsets;
        let values = file.floats(start + begin as u64, (end - begin) / number.size(), number);
        let values = values.ok_or_else(|| {
            Error::file(path, format!("array '{}' cannot be read, or there is no memory for it", shortened(&name)))
        })?;
        arrays.push(NamedArray { name, shape: info.shape.clone(), values });
    }
    Ok(StateDict { arrays, notes: Vec::new() })
}

/// Refuses what is no regular file of at most 4 GiB.
pub(super) fn check_file(path: &Path) -> Result<()> {
    if !path.is_dir() {
        crate::raster::require_regular_file(path)?;
    }
    let facts = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if facts.is_dir() {
        return Err(folder(path));
    }
    if facts.len() > MAX_BYTES {
        return Err(too_large(path, facts.len()));
    }
    Ok(())
}

fn folder(path: &Path) -> Error {
    Error::file(path, "is a folder; a model is a .safetensors file")
}

fn too_large(path: &Path, bytes: impl std::fmt::Display) -> Error {
    Error::limit(path, format!("{bytes} bytes; models have at most 4 GiB"))
}

fn damaged(path: &Path, error: SafeTensorError) -> Error {
    Error::file(path, format!("not a whole safetensors file ({error}); it may be damaged or of another format"))
        .caused_by(error)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_laid_out_as_the_safetensors_library_does() {
        let values: Vec<f32> = (0..9).map(|value| value as f32 * 0.5).collect();
        let arrays = || [("b/c".to_string(), &[2, 3][..], &values[..6]), ("a".to_string(), &[3][..], &values[6..])];
        let mut written = Vec::new();
        TensorFile::new(arrays(), r#"{"x":1}"#.into()).unwrap().write(&mut written).unwrap();
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let data: Vec<_> = arrays().map(|(name, shape, values)| (name, shape.to_vec(), bytes(values))).into();
        let views = data.iter().map(|(name, shape, bytes)| {
            (name.as_str(), safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let metadata = HashMap::from([(METADATA_KEY.to_string(), r#"{"x":1}"#.to_string())]);
        assert_eq!(written, safetensors::serialize(views, Some(metadata)).unwrap());
        let (read, json) = read_tensors_from(&written[..], Path::new("here")).unwrap();
        assert_eq!(
            (read["a"].1.as_slice(), read["b/c"].0.as_slice(), json.as_str()),
            (&values[6..], &[2, 3][..], r#"{"x":1}"#)
        );
        let cut = read_tensors_from(&written[..written.len() - 1], Path::new("here")).unwrap_err();
        assert!(cut.to_string().starts_with("here: not a whole safetensors file"), "{cut}");
    }
}
