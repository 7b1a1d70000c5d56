//! Changing the size of images as PyTorch's `interpolate` does.

use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Stretches an image `[H, W, C]` to `size = [rows, columns]`, corner pixel to corner pixel, linear in between
/// (`mode="bilinear", align_corners=True`). One row or column of the result is the first one of the image.
///
/// # Errors
/// [`Error::Image`] when there is nothing to stretch, [`Error::Limit`] for a result beyond the memory.
pub fn resize_bilinear_aligned(image: ArrayView3<'_, f32>, size: [usize; 2]) -> Result<Array3<f32>> {
    let (height, width, channels) = image.dim();
    let len = size[0].checked_mul(size[1]).and_then(|len| len.checked_mul(channels));
    let len = len.filter(|len| *len <= isize::MAX as usize / 4).ok_or_else(|| {
        Error::Limit(format!("an image of {} x {} pixels and {channels} channels is too large", size[0], size[1]))
    })?;
    if len > 0 && (height == 0 || width == 0) {
        return Err(Error::Image(format!("it has {height} rows and {width} columns; both must be at least 1")));
    }
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| Error::Limit(format!("no memory for {len} samples")))?;
    values.resize(len, 0.0f32);
    let image = image.as_standard_layout();
    if let (Some(source), true) = (image.as_slice(), len > 0) {
        let columns: Vec<Tap> = (0..size[1]).map(|x| Tap::new(x, width, size[1])).collect();
        values.par_chunks_mut(size[1] * channels).enumerate().for_each(|(y, out)| {
            let row = Tap::new(y, height, size[0]);
            let line = |y: usize| &source[y * width * channels..(y + 1) * width * channels];
            let (upper, lower) = (line(row.first), line(row.second));
            for (pixel, column) in out.chunks_exact_mut(channels).zip(&columns) {
                let (left, right) = (column.first * channels, column.second * channels);
                for (c, value) in pixel.iter_mut().enumerate() {
                    let above = column.mix(upper[left + c], upper[right + c]);
                    let below = column.mix(lower[left + c], lower[right + c]);
                    *value = row.mix(above, below);
                }
            }
        });
    }
    Array3::from_shape_vec((size[0], size[1], channels), values).map_err(|error| Error::Internal(error.to_string()))
}

/// The two samples that one sample of the result lies between.
struct Tap {
    first: usize,
    second: usize,
    /// Weight of the second one.
    share: f32,
}

impl Tap {
    fn new(i: usize, from: usize, to: usize) -> Self {
        let last = from.saturating_sub(1);
        let at = if to > 1 { i as f64 * last as f64 / (to - 1) as f64 } else { 0.0 };
        let first = (at as usize).min(last);
        Self { first, second: (first + 1).min(last), share: (at - first as f64) as f32 }
    }

    fn mix(&self, first: f32, second: f32) -> f32 {
        (1.0 - self.share) * first + self.share * second
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Axis, array};

    use super::*;

    #[test]
    fn corners_stay_and_the_middle_is_linear() {
        let image = array![[0.0f32, 2.0], [4.0, 6.0]].insert_axis(Axis(2));
        let found = resize_bilinear_aligned(image.view(), [3, 5]).unwrap();
        assert_eq!(
            found.index_axis(Axis(2), 0),
            array![[0.0, 0.5, 1.0, 1.5, 2.0], [2.0, 2.5, 3.0, 3.5, 4.0], [4.0, 4.5, 5.0, 5.5, 6.0]]
        );
        assert_eq!(resize_bilinear_aligned(found.view(), [2, 2]).unwrap(), image);
        assert_eq!(resize_bilinear_aligned(found.view(), [3, 5]).unwrap(), found);
        assert_eq!(resize_bilinear_aligned(found.view(), [1, 1]).unwrap()[[0, 0, 0]], 0.0);
    }

    #[test]
    fn nothing_cannot_be_stretched() {
        let none = Array3::<f32>::zeros((0, 4, 1));
        assert!(resize_bilinear_aligned(none.view(), [2, 2]).is_err());
        assert_eq!(resize_bilinear_aligned(none.view(), [0, 3]).unwrap().dim(), (0, 3, 1));
        assert!(resize_bilinear_aligned(Array3::zeros((1, 1, 1)).view(), [usize::MAX, 2]).is_err());
    }
}
