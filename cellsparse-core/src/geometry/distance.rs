//! Exact Euclidean distances in label images and masks, in time linear in the number of pixels.
//!
//! Both transforms work axis by axis: first the distance along the column, then, in every row, the lower envelope of
//! the parabolas that the column distances define (Felzenszwalb and Huttenlocher, "Distance transforms of sampled
//! functions", Theory of Computing 8, 2012). Squared distances of unit sampling are exact integers in f64.

use ndarray::{Array2, ArrayView2};

use crate::error::{Error, Result};

/// Distance of every `true` pixel to the nearest `false` pixel, between pixel centres, in pixels.
///
/// `[H, W]` in and out; `false` pixels get 0. Pixels outside the array do not count as `false`, so a mask without a
/// `false` pixel is infinitely far from one everywhere.
pub fn distance_transform_edt(mask: ArrayView2<'_, bool>) -> Array2<f64> {
    region_distances(mask.mapv(i32::from).view(), [1.0, 1.0])
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
    Ok(region_distances(mask.mapv(i32::from).view(), sampling))
}

/// Distance of every object pixel to the nearest pixel that does not belong to the same object, in pixels.
///
/// `labels` is a label image `[H, W]`; pixels with a value `<= 0` get 0. Pixels outside the image do not count as
/// another object, so an object that covers the whole image is infinitely far from its boundary everywhere.
pub fn label_distances(labels: ArrayView2<'_, i32>) -> Array2<f64> {
    region_distances(labels, [1.0, 1.0])
}

/// All regions of one positive value at once. Within a row, only the run of equal values around a pixel and the two
/// pixels next to that run can hold its nearest foreign pixel: anything further along the row is behind those two.
fn region_distances(labels: ArrayView2<'_, i32>, sampling: [f64; 2]) -> Array2<f64> {
    let (height, width) = labels.dim();
    if height == 0 || width == 0 {
        return Array2::zeros((height, width));
    }
    let pixels: Vec<i32> = labels.iter().copied().collect();
    let mut distances = column_distances(&pixels, width, sampling[0]);
    let mut envelope = Envelope::default();
    for (row, out) in pixels.chunks_exact(width).zip(distances.chunks_exact_mut(width)) {
        let mut start = 0;
        for run in row.chunk_by(|a, b| a == b) {
            let end = start + run.len();
            if run[0] > 0 {
                row_minima(&mut envelope, &mut out[start..end], start, [start > 0, end < width], sampling[1]);
            }
            start = end;
        }
    }
    Array2::from_shape_vec((height, width), distances).unwrap_or_else(|_| Array2::zeros((height, width)))
}

/// Turns the column distances of one run of a row, from column `start` on, into distances in the plane. `bounded`
/// says whether the row goes on before and after the run.
fn row_minima(envelope: &mut Envelope, run: &mut [f64], start: usize, bounded: [bool; 2], step: f64) {
    let first = start as f64;
    envelope.clear();
    if bounded[0] {
        envelope.push((first - 1.0) * step, 0.0);
    }
    for (k, distance) in run.iter().enumerate() {
        envelope.push((first + k as f64) * step, distance * distance);
    }
    if bounded[1] {
        envelope.push((first + run.len() as f64) * step, 0.0);
    }
    let mut cursor = 0;
    for (k, distance) in run.iter_mut().enumerate() {
        *distance = envelope.minimum((first + k as f64) * step, &mut cursor).sqrt();
    }
}

/// Distance along the column to the nearest pixel of another value; infinite where the whole column is one value, 0
/// at values `<= 0`. Row-major, as `pixels`.
fn column_distances(pixels: &[i32], width: usize, step: f64) -> Vec<f64> {
    let mut distances: Vec<f64> = pixels.iter().map(|&value| if value > 0 { f64::INFINITY } else { 0.0 }).collect();
    let rows = || pixels.chunks_exact(width);
    // One step on from the pixel before, which is 0 away from itself if it has another value.
    let relax = |values: &[i32], before: &[i32], near: &[f64], out: &mut [f64]| {
        for x in 0..width {
            if values[x] > 0 {
                let reached = if values[x] == before[x] { near[x] + step } else { step };
                out[x] = out[x].min(reached);
            }
        }
    };
    let mut done: &mut [f64] = &mut [];
    for ((values, before), out) in
        rows().zip(std::iter::once(&[][..]).chain(rows())).zip(distances.chunks_exact_mut(width))
    {
        if !before.is_empty() {
            relax(values, before, done, out);
        }
        done = out;
    }
    let mut done: &mut [f64] = &mut [];
    let below = std::iter::once(&[][..]).chain(rows().rev());
    for ((values, before), out) in rows().rev().zip(below).zip(distances.chunks_exact_mut(width).rev()) {
        if !before.is_empty() {
            relax(values, before, done, out);
        }
        done = out;
    }
    distances
}

/// Lower envelope of parabolas `(x - at)^2 + height` that are added in ascending order of `at`.
#[derive(Default)]
struct Envelope {
    /// `(at, height, left)`: the parabola is the lowest one from `left` to the next entry's `left`.
    pieces: Vec<(f64, f64, f64)>,
}

impl Envelope {
    fn clear(&mut self) {
        self.pieces.clear();
    }

    fn push(&mut self, at: f64, height: f64) {
        if !height.is_finite() {
            return;
        }
        while let Some(&(last_at, last_height, last_left)) = self.pieces.last() {
            let left = ((height + at * at) - (last_height + last_at * last_at)) / (2.0 * (at - last_at));
            if left > last_left {
                self.pieces.push((at, height, left));
                return;
            }
            self.pieces.pop();
        }
        self.pieces.push((at, height, f64::NEG_INFINITY));
    }

    /// The envelope at `x`; `cursor` starts at 0 and `x` must ascend from call to call.
    fn minimum(&self, x: f64, cursor: &mut usize) -> f64 {
        while self.pieces.get(*cursor + 1).is_some_and(|next| next.2 < x) {
            *cursor += 1;
        }
        match self.pieces.get(*cursor) {
            Some(&(at, height, _)) => (x - at) * (x - at) + height,
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
    fn a_mask_without_false_is_infinitely_far() {
        assert!(distance_transform_edt(array![[true, true], [true, true]].view()).iter().all(|d| d.is_infinite()));
        assert_eq!(distance_transform_edt(Array2::from_elem((0, 4), true).view()).dim(), (0, 4));
        assert_eq!(distance_transform_edt(array![[true, false, true]].view()), array![[1.0, 0.0, 1.0]]);
    }
}
