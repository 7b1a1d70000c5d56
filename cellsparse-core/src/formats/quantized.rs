//! Named arrays in 8 bits with a JSON text, as one safetensors file in memory.
//!
//! Arrays of two axes and more hold whole numbers from -127 to 127 with a factor for each index of the last axis, in an array of
//! 32-bit floats with `#scale` behind its name; vectors stay 32-bit floats.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::tensors::{NamedArrays, PlainArray};
use crate::error::{Error, Result};

/// Key of the JSON text among the file's metadata.
const METADATA_KEY: &str = "cellsparse";

/// Behind the name of an array of whole numbers: its factors.
const SCALE: &str = "#scale";

const LARGEST: f32 = 127.0;

/// The file of some arrays, whose values must be finite, and a text.
///
/// # Errors
/// [`Error::Internal`] for an array whose shape and values do not fit, or that cannot be written.
pub fn write_quantized<'a>(arrays: impl IntoIterator<Item = PlainArray<'a>>, json: String) -> Result<Vec<u8>> {
    let mut parts: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    for (name, shape, values) in arrays {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::Internal(format!("array '{name}' of shape {shape:?} has {} values", values.len())));
        }
        let columns = match shape {
            [_, .., last] if *last > 0 => *last,
            _ => {
                parts.push((name, Dtype::F32, shape.to_vec(), bytes(values)));
                continue;
            }
        };
        let mut scales = vec![0.0_f32; columns];
        for row in values.chunks(columns) {
            scales.iter_mut().zip(row).for_each(|(scale, value)| *scale = scale.max(value.abs() / LARGEST));
        }
        let whole = |(index, value): (usize, &f32)| match scales[index % columns] {
            scale if scale > 0.0 => (value / scale).round().clamp(-LARGEST, LARGEST) as i8 as u8,
            _ => 0,
        };
        let quantized = values.iter().enumerate().map(whole).collect();
        parts.push((format!("{name}{SCALE}"), Dtype::F32, vec![columns], bytes(&scales)));
        parts.push((name, Dtype::I8, shape.to_vec(), quantized));
    }
    let unwritten = |error: safetensors::SafeTensorError| Error::Internal(format!("8-bit arrays: {error}"));
    let views = parts.iter().map(|(name, dtype, shape, data)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), data).map_err(unwritten)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, Some(HashMap::from([(METADATA_KEY.to_string(), json)]))).map_err(unwritten)
}

/// The arrays and the text in a file of [`write_quantized`].
///
/// # Errors
/// [`Error::Weights`] when the bytes are damaged or something else.
pub fn read_quantized(bytes: &[u8]) -> Result<(NamedArrays, String)> {
    let damaged = |what: String| Error::Weights(format!("not 8-bit arrays of cellsparse: {what}"));
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    let json = metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).cloned();
    let json = json.ok_or_else(|| damaged("its metadata is missing".into()))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let floats = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut arrays = NamedArrays::new();
    for (name, view) in tensors.iter() {
        let shape = view.shape().to_vec();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 if name.ends_with(SCALE) => continue,
            Dtype::F32 => floats(view.data()),
            Dtype::I8 => {
                let scale = tensors.tensor(&format!("{name}{SCALE}")).map_err(|error| damaged(error.to_string()))?;
                let scales: Vec<f32> = floats(scale.data());
                if scale.dtype() != Dtype::F32 || scales.is_empty() || shape.last() != Some(&scales.len()) {
                    return Err(damaged(format!("the factors of '{name}' do not fit it")));
                }
                let columns = scales.len();
                view.data().iter().enumerate().map(|(i, byte)| f32::from(*byte as i8) * scales[i % columns]).collect()
            }
            other => return Err(damaged(format!("'{name}' is {other:?}"))),
        };
        arrays.insert(name.to_string(), (shape, values));
    }
    Ok((arrays, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_within_half_a_step_of_their_column() {
        let values = [1.0, -0.002, 0.25, 0.001, -0.5, 0.0, 0.1, 0.0];
        let vector = [0.123_456, 7.0];
        let shape = [2, 2, 2];
        let arrays = [("a/kernel".to_string(), &shape[..], &values[..]), ("a/bias".into(), &[2], &vector)];
        let file = write_quantized(arrays, "{}".into()).unwrap();
        let (arrays, json) = read_quantized(&file).unwrap();
        assert_eq!((arrays.len(), json.as_str()), (2, "{}"));
        assert_eq!(arrays["a/bias"], (vec![2], vector.to_vec()));
        let (found, back) = &arrays["a/kernel"];
        assert_eq!(found, &shape);
        for (index, (a, b)) in values.iter().zip(back).enumerate() {
            let step = [1.0, 0.002][index % 2] / LARGEST;
            assert!((a - b).abs() <= 0.5001 * step, "{a} {b}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let arrays = [("a".to_string(), &[1_usize, 2][..], &[1.0_f32, 2.0][..])];
        let file = write_quantized(arrays, "{}".into()).unwrap();
        for end in [0, 7, 20, file.len() - 1] {
            assert!(matches!(read_quantized(&file[..end]), Err(Error::Weights(_))), "{end}");
        }
        let text = |old: &str, new: &str| {
            let at = file.windows(old.len()).position(|part| part == old.as_bytes()).unwrap();
            let mut file = file.clone();
            file[at..at + old.len()].copy_from_slice(new.as_bytes());
            read_quantized(&file)
        };
        assert!(text("cellsparse", "cellsparsf").is_err() && text("a#scale", "b#scale").is_err());
    }
}
