//! Images and label images at another size.

use ndarray::{Array3, ArrayView2, ArrayView3};
use rayon::prelude::*;

use super::image::LabelImage;
use crate::error::{Error, Result};

/// The largest side after a resize, in pixels; larger results are refused.
const MAX_SIDE: usize = 1 << 24;

/// The side of an image of `n` pixels after scaling: `n * scale`, truncated, but at least 1 (0 stays 0).
///
/// # Errors
/// [`Error::Limit`] for a scale that is not above 0, and for a result beyond 2^24 pixels.
pub fn scaled_size(n: usize, scale: f64) -> Result<usize> {
    let size = n as f64 * scale;
    if !(scale > 0.0 && size <= MAX_SIDE as f64) {
        return Err(Error::Limit(format!(
            "{n} pixels scaled by {scale}; the scale must be above 0 and the result at most {MAX_SIDE} pixels"
        )));
    }
    Ok(if n == 0 { 0 } else { (size as usize).max(1) })
}

/// An image `[H, W, C]` at another size: bilinear, without smoothing before it is made smaller.
///
/// Pixels are squares: output pixel `i` of `n` lies at `(i + 0.5) n_in / n - 0.5`; positions outside the image take its
/// first or last pixel. An image without pixels becomes zeros. This is OpenCV's linear interpolation.
///
/// # Errors
/// [`Error::Limit`] when the result does not fit into memory.
pub fn resize_bilinear(image: ArrayView3<'_, f32>, rows: usize, columns: usize) -> Result<Array3<f32>> {
    let (height, width, _) = image.dim();
    let part = Resized { from: [height, width], to: [rows, columns] };
    part.part(image, [0, 0], [0, 0], [rows, columns])
}

/// A resize of which parts are computed, each as it is in the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resized {
    /// Rows and columns before.
    pub from: [usize; 2],
    /// Rows and columns after.
    pub to: [usize; 2],
}

impl Resized {
    /// First pixel and number of pixels, along an axis before the resize, that `count` pixels from `begin` on after it are made of.
    pub fn needed(&self, axis: usize, begin: usize, count: usize) -> [usize; 2] {
        let (n_in, n) = (self.from[axis].max(1), self.to[axis].max(1));
        let first = Between::new(begin, n_in, n).first;
        let last = Between::new((begin + count).saturating_sub(1).max(begin), n_in, n);
        // A pixel that lies on one of before needs no other: without a resize, exactly what is asked for.
        let last = if last.share > 0.0 { last.second } else { last.first };
        [first, last - first + 1]
    }

    /// The part of the result of `size` pixels from `corner` on, as of [`resize_bilinear`], out of a `window` of the image whose
    /// first pixel is `origin`. Pixels that the window lacks are replaced by its nearest ones.
    ///
    /// # Errors
    /// [`Error::Limit`] when the result does not fit into memory.
    pub fn part(
        &self,
        window: ArrayView3<'_, f32>,
        origin: [usize; 2],
        corner: [usize; 2],
        size: [usize; 2],
    ) -> Result<Array3<f32>> {
        let (height, width, channels) = window.dim();
        let mut out = zeros(size[0], size[1], channels)?;
        if window.is_empty() || out.is_empty() {
            return Ok(out);
        }
        let between = |axis: usize, i: usize, window: usize| {
            let at = Between::new(corner[axis] + i, self.from[axis], self.to[axis]);
            let inside = |place: usize| place.saturating_sub(origin[axis]).min(window - 1);
            Between { first: inside(at.first), second: inside(at.second), share: at.share }
        };
        let image = window.as_standard_layout();
        let source = image.as_slice().unwrap_or(&[]);
        let across: Vec<Between> = (0..size[1]).map(|x| between(1, x, width)).collect();
        let fill = |(y, line): (usize, &mut [f32])| {
            let down = between(0, y, height);
            let above = &source[down.first * width * channels..][..width * channels];
            let below = &source[down.second * width * channels..][..width * channels];
            for (at, pixel) in across.iter().zip(line.chunks_exact_mut(channels)) {
                let (left, right) = (at.first * channels, at.second * channels);
                for (c, value) in pixel.iter_mut().enumerate() {
                    let top = above[left + c] + (above[right + c] - above[left + c]) * at.share;
                    let bottom = below[left + c] + (below[right + c] - below[left + c]) * at.share;
                    *value = top + (bottom - top) * down.share;
                }
            }
        };
        if let Some(values) = out.as_slice_mut() {
            values.par_chunks_exact_mut(size[1] * channels).enumerate().for_each(fill);
        }
        Ok(out)
    }
}

/// A label image at another size: output pixel `i` of `n` takes the label at `floor(i n_in / n)`. A label image without
/// pixels becomes zeros.
///
/// # Errors
/// [`Error::Limit`] when the result does not fit into memory.
pub fn resize_nearest(labels: ArrayView2<'_, i32>, rows: usize, columns: usize) -> Result<LabelImage> {
    let (height, width) = labels.dim();
    checked_len(rows, columns, 1)?;
    if labels.is_empty() {
        return Ok(LabelImage::zeros((rows, columns)));
    }
    let at = |i: usize, n_in: usize, n: usize| (i as u128 * n_in as u128 / n as u128) as usize;
    let across: Vec<usize> = (0..columns).map(|x| at(x, width, columns)).collect();
    Ok(LabelImage::from_shape_fn((rows, columns), |(y, x)| labels[[at(y, height, rows), across[x]]]))
}

/// A position between two pixels.
struct Between {
    first: usize,
    second: usize,
    /// Share of the second pixel.
    share: f32,
}

impl Between {
    fn new(i: usize, n_in: usize, n: usize) -> Self {
        // The position is rounded to f32 before its fraction is taken, as in OpenCV.
        let at = (((i as f64 + 0.5) * (n_in as f64 / n as f64) - 0.5) as f32).max(0.0);
        let first = (at as usize).min(n_in - 1);
        Self { first, second: (first + 1).min(n_in - 1), share: (at - first as f32).min(1.0) }
    }
}

fn checked_len(rows: usize, columns: usize, channels: usize) -> Result<usize> {
    let len = rows.checked_mul(columns).and_then(|n| n.checked_mul(channels));
    len.filter(|len| *len <= isize::MAX as usize / 64).ok_or_else(|| too_large(rows, columns, channels))
}

fn zeros(rows: usize, columns: usize, channels: usize) -> Result<Array3<f32>> {
    let len = checked_len(rows, columns, channels)?;
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| too_large(rows, columns, channels))?;
    values.resize(len, 0.0);
    Array3::from_shape_vec((rows, columns, channels), values)
        .map_err(|error| Error::Internal(format!("resized image: {error}")))
}

fn too_large(rows: usize, columns: usize, channels: usize) -> Error {
    Error::Limit(format!("an image of {rows} x {columns} x {channels} samples does not fit into memory"))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn pixels_are_squares() {
        let image = array![[[0.0f32], [4.0]]];
        let wide = resize_bilinear(image.view(), 1, 4).unwrap();
        assert_eq!(wide, array![[[0.0], [1.0], [3.0], [4.0]]]);
        assert_eq!(resize_bilinear(wide.view(), 1, 4).unwrap(), wide);
        assert_eq!(resize_bilinear(wide.view(), 2, 1).unwrap(), array![[[2.0]], [[2.0]]]);
        assert_eq!(resize_nearest(array![[1, 2, 3]].view(), 2, 2).unwrap(), array![[1, 2], [1, 2]]);
    }

    #[test]
    fn a_part_is_that_of_the_whole() {
        let image = Array3::from_shape_fn((23, 31, 2), |(y, x, c)| ((y * 37 + x * 11 + c * 5) % 17) as f32);
        for to in [[23, 31], [46, 70], [11, 9], [1, 31], [50, 12]] {
            let whole = resize_bilinear(image.view(), to[0], to[1]).unwrap();
            let resized = Resized { from: [23, 31], to };
            for (corner, size) in [([0, 0], to), ([to[0] / 2, to[1] / 3], [1, to[1] / 3]), ([to[0] - 1, 0], [1, 2])] {
                let [rows, columns] = [0, 1].map(|axis| resized.needed(axis, corner[axis], size[axis]));
                let window =
                    image.slice(ndarray::s![rows[0]..rows[0] + rows[1], columns[0]..columns[0] + columns[1], ..]);
                let part = resized.part(window, [rows[0], columns[0]], corner, size).unwrap();
                let expected =
                    whole.slice(ndarray::s![corner[0]..corner[0] + size[0], corner[1]..corner[1] + size[1], ..]);
                assert_eq!(part, expected, "{to:?} {corner:?}");
            }
        }
        let same = Resized { from: [23, 31], to: [23, 31] };
        assert_eq!([same.needed(0, 3, 5), same.needed(1, 0, 31)], [[3, 5], [0, 31]]);
    }

    #[test]
    fn odd_sizes_are_survived() {
        let empty = resize_bilinear(Array3::zeros((0, 3, 1)).view(), 2, 2).unwrap();
        assert_eq!(empty, Array3::<f32>::zeros((2, 2, 1)));
        assert_eq!(resize_bilinear(Array3::zeros((2, 3, 0)).view(), 2, 2).unwrap().dim(), (2, 2, 0));
        assert_eq!(resize_bilinear(Array3::zeros((2, 3, 1)).view(), 0, 2).unwrap().dim(), (0, 2, 1));
        assert_eq!(resize_nearest(Array2::zeros((0, 0)).view(), 2, 0).unwrap().dim(), (2, 0));
        assert!(resize_bilinear(Array3::zeros((2, 3, 1)).view(), usize::MAX, 2).is_err());
        assert!(resize_nearest(Array2::zeros((1, 1)).view(), usize::MAX, 2).is_err());
        assert_eq!(scaled_size(10, 0.79).unwrap(), 7);
        assert_eq!((scaled_size(10, 1e-9).unwrap(), scaled_size(0, 2.0).unwrap()), (1, 0));
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(scaled_size(10, scale).is_err());
        }
    }
}
