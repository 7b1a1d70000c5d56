//! Exact Euclidean distances in label images and masks, in time linear in the number of pixels.
//!
//! Both transforms work axis by axis: first the distance along the column, then, in every row, the lower envelope of
//! the parabolas that the column distances define (Felzenszwalb and Huttenlocher, "Distance transforms of sampled
//! functions", Theory of Computing 8, 2012). Squared distances of unit sampling are exact integers in f64.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::budget::array;
use crate::control::CancelToken;
use crate::error::{Error, Result};

/// Distance of every `true` pixel to the nearest `false` pixel, between pixel centres, in pixels.
///
/// `[H, W]` in and out; `false` pixels get 0. Pixels outside the array do not count as `false`, so a mask without a
/// `false` pixel is infinitely far from one everywhere.
pub fn distance_transform_edt(mask: ArrayView2<'_, bool>) -> Array2<f64> {
    region_distances(mask, [1.0, 1.0], f64::sqrt)
}

/// As [`distance_transform_edt`], and ends early when `cancel` is raised.
///
/// # Errors
/// [`Error::Cancelled`].
pub(crate) fn distance_transform_edt_until(mask: ArrayView2<'_, bool>, cancel: &CancelToken) -> Result<Array2<f64>> {
    let mut distances = array(mask.dim(), "the distances in an image")?;
    region_distances_into(mask, [1.0, 1.0], f64::sqrt, cancel, &mut distances);
    // What was stopped is unfinished.
    cancel.check().map(|()| distances)
}

/// The square of [`distance_transform_edt`], exact; `u64::MAX` everywhere for a mask without a `false` pixel.
pub fn distance_transform_squared(mask: ArrayView2<'_, bool>) -> Array2<u64> {
    // The conversion of infinity saturates.
    region_distances(mask, [1.0, 1.0], |square| square).mapv(|square| square as u64)
}

/// [`distance_transform_edt`] for pixels of `sampling = [height, width]`, in the unit of `sampling`.
///
/// # Errors
/// [`Error::Config`] when a side is not positive and finite.
pub fn distance_transform_edt_sampled(mask: ArrayView2<'_, bool>, sampling: [f64; 2]) -> Result<Array2<f64>> {
    if sampling.iter().any(|side| !(side.is_finite() && *side > 0.0)) {
        return Err(Error::Config(format!(
            "the pixel size is {sampling:?}; both sides must be finite and greater than 0"
        )));
    }
    Ok(region_distances(mask, sampling, f64::sqrt))
}

/// Distance of every object pixel to the nearest pixel that does not belong to the same object, in pixels.
///
/// `labels` is a label image `[H, W]`; pixels with a value `<= 0` get 0. Pixels outside the image do not count as
/// another object, so an object that covers the whole image is infinitely far from its boundary everywhere.
pub fn label_distances(labels: ArrayView2<'_, i32>) -> Array2<f64> {
    region_distances(labels, [1.0, 1.0], f64::sqrt)
}

/// [`label_distances`], or a refusal where there is no memory.
///
/// # Errors
/// [`Error::Limit`].
pub fn try_label_distances(labels: ArrayView2<'_, i32>) -> Result<Array2<f64>> {
    let mut distances = array(labels.dim(), "the distances in a label image")?;
    // A token that nobody can raise.
    region_distances_into(labels, [1.0, 1.0], f64::sqrt, &CancelToken::new(), &mut distances);
    Ok(distances)
}

/// The value of a pixel: pixels of equal value form a region.
trait Pixel: Copy + PartialEq + Default + Send + Sync {
    /// Whether the pixel belongs to a region at all.
    fn inside(self) -> bool;
}

impl Pixel for bool {
    fn inside(self) -> bool {
        self
    }
}

impl Pixel for i32 {
    fn inside(self) -> bool {
        self > 0
    }
}

/// Columns that one thread takes at a time: their part of a row stays in the first cache from row to row.
const STRIP: usize = 256;

/// All regions of one value at once; `finish` turns squared distances into the result. Within a row, only the run of
/// equal values around a pixel and the two pixels next to that run can hold its nearest foreign pixel: anything
/// further along the row is behind those two.
fn region_distances<T: Pixel>(
    pixels: ArrayView2<'_, T>,
    sampling: [f64; 2],
    finish: impl Fn(f64) -> f64 + Sync,
) -> Array2<f64> {
    let mut distances = Array2::zeros(pixels.dim());
    // A token that nobody can raise.
    region_distances_into(pixels, sampling, finish, &CancelToken::new(), &mut distances);
    distances
}

/// Writes the [`region_distances`] over zeros, unfinished when `cancel` is raised.
fn region_distances_into<T: Pixel>(
    pixels: ArrayView2<'_, T>,
    sampling: [f64; 2],
    finish: impl Fn(f64) -> f64 + Sync,
    cancel: &CancelToken,
    distances: &mut Array2<f64>,
) {
    let (height, width) = pixels.dim();
    if height == 0 || width == 0 {
        return;
    }
    let pixels = pixels.as_standard_layout();
    distances
        .axis_chunks_iter_mut(Axis(1), STRIP)
        .into_par_iter()
        .zip(pixels.axis_chunks_iter(Axis(1), STRIP))
        .for_each(|(distances, pixels)| {
            if !cancel.is_cancelled() {
                column_distances(pixels, distances, sampling[0]);
            }
        });
    distances.axis_iter_mut(Axis(0)).into_par_iter().zip(pixels.axis_iter(Axis(0))).for_each_init(
        Envelope::default,
        |envelope, (mut out, row)| {
            if let (Some(out), Some(row), false) = (out.as_slice_mut(), row.as_slice(), cancel.is_cancelled()) {
                let mut start = 0;
                for run in row.chunk_by(|a, b| a == b) {
                    let end = start + run.len();
                    if run[0].inside() {
                        let bounded = [start > 0, end < width];
                        row_minima(envelope, &mut out[start..end], bounded, sampling[1], &finish);
                    }
                    start = end;
                }
            }
        },
    );
}

/// Turns the column distances of one run of a row into distances in the plane. `bounded` says whether the row goes on
/// before and after the run.
fn row_minima(envelope: &mut Envelope, run: &mut [f64], bounded: [bool; 2], step: f64, finish: &impl Fn(f64) -> f64) {
    envelope.clear();
    if bounded[0] {
        envelope.push(-step, 0.0);
    }
    for (k, distance) in run.iter().enumerate() {
        envelope.push(k as f64 * step, distance * distance);
    }
    if bounded[1] {
        envelope.push(run.len() as f64 * step, 0.0);
    }
    let mut cursor = 0;
    for (k, distance) in run.iter_mut().enumerate() {
        *distance = finish(envelope.minimum(k as f64 * step, &mut cursor));
    }
}

/// Distance along the column to the nearest pixel of another value; infinite where the whole column is one value, 0
/// outside regions.
fn column_distances<T: Pixel>(pixels: ArrayView2<'_, T>, mut distances: ArrayViewMut2<'_, f64>, step: f64) {
    let mut front = Front { before: Vec::new(), near: vec![f64::INFINITY; pixels.ncols()], step };
    let rows = pixels.nrows();
    for pass in 0..2 {
        // The first row has nothing before it: as if it went on for ever.
        front.before.clear();
        front.before.extend(pixels.row(if pass == 0 { 0 } else { rows - 1 }));
        front.near.fill(f64::INFINITY);
        for k in 0..rows {
            let y = if pass == 0 { k } else { rows - 1 - k };
            if let (Some(values), Some(out)) = (pixels.row(y).as_slice(), distances.row_mut(y).as_slice_mut()) {
                if pass == 0 {
                    out.fill(f64::INFINITY);
                }
                front.advance(values, out);
            }
        }
    }
}

/// The row that was passed last: its values and its distances along the columns.
struct Front<T> {
    before: Vec<T>,
    near: Vec<f64>,
    step: f64,
}

impl<T: Pixel> Front<T> {
    fn advance(&mut self, values: &[T], out: &mut [f64]) {
        for (((value, before), near), out) in values.iter().zip(&mut self.before).zip(&mut self.near).zip(out) {
            // One step on from the pixel before, which is 0 away from itself if it has another value.
            let along = if *value == *before { *near } else { 0.0 };
            let reached = if value.inside() { along + self.step } else { 0.0 };
            *near = reached.min(*out);
            *before = *value;
            *out = *near;
        }
    }
}

/// Lower envelope of parabolas `(x - at)^2 + height` that are added in ascending order of `at`.
#[derive(Default)]
struct Envelope {
    pieces: Vec<Piece>,
}

/// A parabola that is the lowest one from `left` to the `left` of the next piece.
struct Piece {
    at: f64,
    height: f64,
    /// Numerator and denominator, which is not negative: a division would take most of the time. Exact for unit sampling.
    left: [f64; 2],
}

impl Envelope {
    fn clear(&mut self) {
        self.pieces.clear();
    }

    fn push(&mut self, at: f64, height: f64) {
        if !height.is_finite() {
            return;
        }
        while let Some(last) = self.pieces.last() {
            let left = [(height + at * at) - (last.height + last.at * last.at), 2.0 * (at - last.at)];
            if left[0] * last.left[1] > last.left[0] * left[1] {
                self.pieces.push(Piece { at, height, left });
                return;
            }
            self.pieces.pop();
        }
        // From minus infinity on.
        self.pieces.push(Piece { at, height, left: [-1.0, 0.0] });
    }

    /// The envelope at `x`; `cursor` starts at 0 and `x` must ascend from call to call.
    fn minimum(&self, x: f64, cursor: &mut usize) -> f64 {
        while self.pieces.get(*cursor + 1).is_some_and(|next| next.left[0] < x * next.left[1]) {
            *cursor += 1;
        }
        match self.pieces.get(*cursor) {
            Some(piece) => (x - piece.at) * (x - piece.at) + piece.height,
            None => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::random::Random;

    fn brute_force(labels: &Array2<i32>, sampling: [f64; 2]) -> Array2<f64> {
        Array2::from_shape_fn(labels.dim(), |(y, x)| {
            if labels[[y, x]] <= 0 {
                return 0.0;
            }
            let mut best = f64::INFINITY;
            for ((v, u), other) in labels.indexed_iter() {
                if *other != labels[[y, x]] {
                    let dy = (v as f64 - y as f64) * sampling[0];
                    let dx = (u as f64 - x as f64) * sampling[1];
                    best = best.min(dy * dy + dx * dx);
                }
            }
            best.sqrt()
        })
    }

    #[test]
    fn labels_agree_with_brute_force() {
        let mut random = Random::new(3, 0);
        for size in [(1, 1), (1, 9), (9, 1), (17, 23), (30, 12)] {
            // Blocks of 4 x 4 pixels of one value, and single pixels over them.
            let coarse = Array2::from_shape_simple_fn((8, 8), || random.below(4) as i32 - 1);
            let labels = Array2::from_shape_fn(size, |(y, x)| {
                if random.chance(0.05) { random.below(4) as i32 } else { coarse[[y / 4, x / 4]] }
            });
            assert_eq!(label_distances(labels.view()), brute_force(&labels, [1.0, 1.0]));
        }
    }

    #[test]
    fn sampling_is_respected() {
        let mut random = Random::new(5, 0);
        let mask = Array2::from_shape_simple_fn((20, 31), || random.chance(0.9));
        let found = distance_transform_edt_sampled(mask.view(), [2.5, 0.7]).unwrap();
        let expected = brute_force(&mask.mapv(i32::from), [2.5, 0.7]);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(distance_transform_edt_sampled(mask.view(), [0.0, 1.0]).is_err());
        assert!(distance_transform_edt_sampled(mask.view(), [1.0, f64::NAN]).is_err());
    }

    #[test]
    fn wide_images_are_cut_into_strips_without_a_seam() {
        let mut random = Random::new(6, 0);
        let mask = Array2::from_shape_simple_fn((9, 2 * STRIP + 7), || random.chance(0.97));
        let expected = brute_force(&mask.mapv(i32::from), [1.0, 1.0]);
        assert_eq!(distance_transform_edt(mask.view()), expected);
        assert_eq!(distance_transform_edt(mask.t()), expected.t());
        let squares = distance_transform_squared(mask.view());
        assert!(squares.iter().zip(&expected).all(|(square, distance)| (*square as f64).sqrt() == *distance));
    }

    #[test]
    fn distances_end_when_they_are_cancelled() {
        let mask = Array2::from_elem((20, 31), true);
        let cancel = CancelToken::new();
        let found = distance_transform_edt_until(mask.view(), &cancel).unwrap();
        assert_eq!(found, distance_transform_edt(mask.view()));
        cancel.cancel();
        assert!(matches!(distance_transform_edt_until(mask.view(), &cancel), Err(Error::Cancelled)));
    }

    #[test]
    fn a_mask_without_false_is_infinitely_far() {
        assert!(distance_transform_edt(array![[true, true], [true, true]].view()).iter().all(|d| d.is_infinite()));
        assert_eq!(distance_transform_squared(array![[true]].view()), array![[u64::MAX]]);
        assert_eq!(distance_transform_edt(Array2::from_elem((0, 4), true).view()).dim(), (0, 4));
        assert_eq!(distance_transform_edt(array![[true, false, true]].view()), array![[1.0, 0.0, 1.0]]);
    }
}
