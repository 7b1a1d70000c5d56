//! HDF5 files with one label image, as ilastik exports it: the array `exported_data` of all axes, most of them of length 1, whose
//! names are in the attribute `axistags`.

use std::sync::Arc;

use hdf5_reader::group::Group;
use hdf5_reader::{BytesStorage, Dataset, Datatype, Hdf5File, OpenOptions};
use serde_json::Value;

use super::drawing::PIXELS;
use super::numpy::{Header, labels};
use crate::annotations::LabelSource;
use crate::error::contain_panic;

/// Bytes of an array that is read, at most.
const MOST_BYTES: u64 = 1 << 30;
/// Groups and arrays that are looked at, at most.
const MOST_OBJECTS: usize = 1 << 12;
/// Groups within groups, at most.
const DEPTH: usize = 8;

/// Whether the bytes begin as an HDF5 file does.
pub(super) fn is_hdf5(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89HDF\r\n\x1a\n")
}

/// Reads the array `exported_data`, or the only one of whole numbers with two axes. One that is not of the size of `wanted` is
/// bounded as images are whose size a file tells.
pub(super) fn read(bytes: &[u8], wanted: Option<(usize, usize)>) -> Result<LabelSource, String> {
    contain_panic(|| parse(bytes, wanted)).unwrap_or_else(Err)
}

fn parse(bytes: &[u8], wanted: Option<(usize, usize)>) -> Result<LabelSource, String> {
    let options = OpenOptions {
        // Nothing is read twice.
        chunk_cache_bytes: 0,
        max_chunk_bytes: 1 << 28,
        max_read_bytes: MOST_BYTES as usize,
        max_object_header_bytes: 1 << 22,
        ..OpenOptions::default()
    };
    let storage = Arc::new(BytesStorage::new(bytes.to_vec()));
    let failed = |error: hdf5_reader::error::Error| format!("it is an HDF5 file that cannot be read: {error}");
    let file = Hdf5File::from_storage_with_options(storage, options).map_err(failed)?;
    let mut arrays = Vec::new();
    visit(&file.root_group().map_err(failed)?, 0, &mut arrays)?;
    arrays.retain(|array| sides(array).len() >= 2 && matches!(array.dtype(), Datatype::FixedPoint { .. }));
    let short = |array: &Dataset| array.name().rsplit('/').next().unwrap_or_default().to_string();
    let chosen = match (arrays.iter().find(|array| short(array) == "exported_data"), arrays.as_slice()) {
        (Some(array), _) => array,
        (None, [array]) => array,
        (None, []) => {
            return Err("this HDF5 file has no array of whole numbers with two axes; export the labels".into());
        }
        (None, several) => {
            let names: Vec<String> = several.iter().take(3).map(|array| super::shortened(&short(array))).collect();
            return Err(format!(
                "this HDF5 file has {} arrays ({} ..) and none of them is named exported_data; export the labels alone",
                several.len(),
                names.join(", ")
            ));
        }
    };
    let Datatype::FixedPoint { size, signed, .. } = chosen.dtype() else {
        return Err("its array has no numbers".into());
    };
    let bytes = chosen.shape().iter().try_fold(u64::from(*size), |product, side| product.checked_mul((*side).max(1)));
    if bytes.is_none_or(|bytes| bytes > MOST_BYTES) {
        return Err(format!("its array has the shape {:?}; cut it into parts", chosen.shape()));
    }
    let mut shape: Vec<usize> = sides(chosen).into_iter().map(|side| side as usize).collect();
    let turned = is_turned(chosen);
    if turned {
        shape.reverse();
    }
    let pixels: f64 = shape.iter().map(|side| *side as f64).product();
    // Parts that are not stored are zeros: a few bytes may ask for a large image.
    if pixels > PIXELS && wanted.is_none_or(|(rows, columns)| shape != [rows, columns]) {
        return Err(format!("its array has the shape {:?}; cut it into parts", chosen.shape()));
    }
    let order = if cfg!(target_endian = "little") { '<' } else { '>' };
    let header = Header { dtype: format!("{order}{}{size}", if *signed { 'i' } else { 'u' }), fortran: turned, shape };
    let data = chosen.read_native_bytes().map_err(|error| format!("its array cannot be read: {error}"))?;
    labels(&header, &data).map(LabelSource::Values)
}

fn visit(group: &Group, depth: usize, arrays: &mut Vec<Dataset>) -> Result<(), String> {
    if depth > DEPTH {
        return Err("its groups are nested too deeply".into());
    }
    let (groups, datasets) = group.members().map_err(|error| format!("its groups cannot be read: {error}"))?;
    arrays.extend(datasets);
    if arrays.len() + groups.len() > MOST_OBJECTS {
        return Err(format!("it has more than {MOST_OBJECTS} groups and arrays"));
    }
    groups.iter().try_for_each(|child| visit(child, depth + 1, arrays))
}

/// The lengths of the axes with more than one place.
fn sides(array: &Dataset) -> Vec<u64> {
    array.shape().iter().copied().filter(|side| *side != 1).collect()
}

/// Whether x comes before y.
fn is_turned(array: &Dataset) -> bool {
    let text = array.attribute("axistags").and_then(|tags| tags.read_string()).unwrap_or_default();
    let tags: Value = serde_json::from_str(&text).unwrap_or_default();
    let axes: Vec<&str> =
        tags["axes"].as_array().into_iter().flatten().filter_map(|axis| axis["key"].as_str()).collect();
    let place = |key: &str| axes.iter().position(|axis| *axis == key);
    matches!((place("x"), place("y")), (Some(x), Some(y)) if x < y)
}
