//! Prediction in overlapping patches, blended as the original ELEPHANT does it.

use ndarray::{Array3, s};

use crate::error::{Error, Result};

/// First pixel of a patch along one axis, and the weight of each of its pixels.
pub type AxisPatch = (usize, Vec<f32>);

/// The patches along one axis: their length, and [`AxisPatch`]es.
///
/// A patch is not longer than the axis.
///
/// # Errors
/// [`Error::Config`] for a patch or an axis of no pixel.
pub fn patch_axis(size: usize, patch: usize) -> Result<(usize, Vec<AxisPatch>)> {
    if patch == 0 || size == 0 {
        return Err(Error::Config(format!("a patch of {patch} pixels for {size}; both must be at least 1")));
    }
    let patch = patch.min(size);
    let count = if size == patch { 1 } else { size / patch + 1 };
    let interval = match count {
        1 => patch,
        _ => patch - (patch * count - size).div_euclid(count - 1),
    };
    let overlap = (patch - interval).clamp(1, patch);
    let ramp = |i: usize| if overlap > 1 { i as f32 / (overlap - 1) as f32 } else { 0.0 };
    let patches = (0..count).map(|k| {
        let mut weights = vec![1.0f32; patch];
        for i in 0..overlap {
            if k > 0 {
                weights[i] *= ramp(i);
            }
            if k + 1 < count {
                weights[patch - overlap + i] *= 1.0 - ramp(i);
            }
        }
        ((interval * k).min(size - patch), weights)
    });
    Ok((patch, patches.collect()))
}

/// Predicts an image of `shape = [H, W]` patch by patch: `predict([first row, first column], [rows, columns])` gives the
/// probabilities `[patch rows, patch columns, C]` of one patch; the result `[H, W, C]` is their sum, weighted by ramps
/// over the overlaps.
///
/// The sum is not divided by the weights, so where rounding makes overlaps unequal the classes do not add up to 1.
/// Kept for comparison with the original.
///
/// # Errors
/// [`Error::Config`] for a patch of no pixel or a prediction of the wrong shape; whatever `predict` reports.
pub fn patch_predict(
    shape: [usize; 2],
    patch: [usize; 2],
    channels: usize,
    mut predict: impl FnMut([usize; 2], [usize; 2]) -> Result<Array3<f32>>,
) -> Result<Array3<f32>> {
    let (height, rows) = patch_axis(shape[0], patch[0])?;
    let (width, columns) = patch_axis(shape[1], patch[1])?;
    let patch = [height, width];
    let mut sum = Array3::<f32>::zeros((shape[0], shape[1], channels));
    for (y, row_weights) in &rows {
        for (x, column_weights) in &columns {
            let found = predict([*y, *x], patch)?;
            if found.dim() != (patch[0], patch[1], channels) {
                return Err(Error::Config(format!(
                    "the prediction of a patch has the shape {:?}; {} x {} x {channels} was expected",
                    found.dim(),
                    patch[0],
                    patch[1]
                )));
            }
            let mut window = sum.slice_mut(s![*y..y + patch[0], *x..x + patch[1], ..]);
            for ((i, j, c), value) in found.indexed_iter() {
                window[[i, j, c]] += value * row_weights[i] * column_weights[j];
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_cover_the_axis() {
        for (size, patch) in [(64, 64), (5, 6), (60, 32), (75, 32), (96, 40), (10, 9), (7, 1)] {
            let (patch, patches) = patch_axis(size, patch).unwrap();
            assert_eq!(patches.first().map(|p| p.0), Some(0));
            assert!(patches.iter().all(|(first, weights)| first + patch <= size && weights.len() == patch));
        }
        assert!(patch_axis(5, 0).is_err() && patch_axis(0, 0).is_err());
    }

    #[test]
    fn one_patch_is_the_prediction_itself() {
        let values = Array3::from_shape_fn((4, 5, 2), |(y, x, c)| (y * 10 + x * 2 + c) as f32);
        assert_eq!(patch_predict([4, 5], [4, 5], 2, |_, _| Ok(values.clone())).unwrap(), values);
        assert!(patch_predict([4, 5], [4, 5], 3, |_, _| Ok(values.clone())).is_err());
        assert!(patch_predict([4, 5], [0, 6], 2, |_, _| Ok(values.clone())).is_err());
    }
}
