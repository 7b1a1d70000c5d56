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
    let labels = labels.as_standard_layout();
    let (height, width) = labels.dim();
    let mut distances = column_distances(&labels.view(), sampling[0]);
    let mut envelope = Envelope::default();
    for y in 0..height {
        let row = labels.row(y);
        let mut out = distances.row_mut(y);
        let mut start = 0;
        while start < width {
            let value = row[start];
            let mut end = start + 1;
            while end < width && row[end] == value {
                end += 1;
            }
            if value > 0 {
                envelope.clear();
                if start > 0 {
                    envelope.push((start - 1) as f64 * sampling[1], 0.0);
                }
                for x in start..end {
                    envelope.push(x as f64 * sampling[1], out[x] * out[x]);
                }
                if end < width {
                    envelope.push(end as f64 * sampling[1], 0.0);
                }
                let mut cursor = 0;
                for x in start..end {
                    out[x] = envelope.minimum(x as f64 * sampling[1], &mut cursor).sqrt();
                }
            }
            start = end;
        }
    }
    distances
}

/// Distance along the column to the nearest pixel of another value; infinite where the whole column is one value.
fn column_distances(labels: &ArrayView2<'_, i32>, step: f64) -> Array2<f64> {
    let (height, width) = labels.dim();
    let mut distances = Array2::<f64>::zeros((height, width));
    for y in 0..height {
        for x in 0..width {
            if labels[[y, x]] > 0 {
                distances[[y, x]] = match y.checked_sub(1) {
                    None => f64::INFINITY,
                    Some(above) if labels[[above, x]] == labels[[y, x]] => distances[[above, x]] + 1.0,
                    Some(_) => 1.0,
                };
            }
        }
    }
    for y in (0..height.saturating_sub(1)).rev() {
        for x in 0..width {
            if labels[[y, x]] > 0 {
                let same = labels[[y + 1, x]] == labels[[y, x]];
                let below = if same { distances[[y + 1, x]] + 1.0 } else { 1.0 };
                distances[[y, x]] = distances[[y, x]].min(below);
            }
        }
    }
    if step != 1.0 {
        distances.mapv_inplace(|distance| distance * step);
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
