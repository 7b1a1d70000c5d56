//! Intensities made comparable: two percentiles of each channel are mapped to 0 and 1.

use ndarray::{Array3, ArrayView3, Axis};

use crate::error::{Error, Result};

/// Keeps the quotient finite on a constant channel, where the numerator is 0.
const EPSILON: f32 = 1e-20;

/// The low and high intensity of every channel, measured once and applied to any image of as many channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles {
    /// Intensity mapped to 0, one per channel.
    pub low: Vec<f32>,
    /// Intensity mapped to 1, one per channel.
    pub high: Vec<f32>,
}

impl Percentiles {
    /// Measures percentiles `pmin` and `pmax` (0 to 100) of every channel of an image `[H, W, C]`.
    ///
    /// Linear interpolation between order statistics at position `p / 100 * (n - 1)`, in 64 bit, rounded to 32 bit
    /// (the rule of `numpy.percentile`). Takes linear time and one copy of a channel.
    ///
    /// # Errors
    /// [`Error::Config`] unless `0 <= pmin <= pmax <= 100`; [`Error::Image`] for an image without pixels.
    pub fn measure(image: ArrayView3<'_, f32>, pmin: f64, pmax: f64) -> Result<Self> {
        if !(0.0 <= pmin && pmin <= pmax && pmax <= 100.0) {
            return Err(Error::Config(format!(
                "the percentiles are {pmin} and {pmax}; expected 0 <= low <= high <= 100, for example 1 and 99.8"
            )));
        }
        if image.is_empty() {
            return Err(Error::Image(format!("an image of shape {:?} has no pixels to measure", image.shape())));
        }
        let mut percentiles = Self { low: Vec::new(), high: Vec::new() };
        for channel in image.axis_iter(Axis(2)) {
            let mut samples: Vec<f32> = channel.iter().copied().collect();
            percentiles.low.push(percentile(&mut samples, pmin));
            percentiles.high.push(percentile(&mut samples, pmax));
        }
        Ok(percentiles)
    }

    /// `(x - low) / (high - low + 1e-20)` for every channel, without clipping, in 32 bit. A constant channel whose
    /// percentiles were measured on itself becomes 0.
    ///
    /// # Errors
    /// [`Error::Image`] when the image has another number of channels.
    pub fn apply(&self, image: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
        self.apply_in_place(image.to_owned())
    }

    /// [`apply`](Self::apply) to an image that is not needed any more, without a copy.
    ///
    /// # Errors
    /// As there.
    pub fn apply_in_place(&self, mut image: Array3<f32>) -> Result<Array3<f32>> {
        let channels = image.len_of(Axis(2));
        if channels != self.low.len() || channels != self.high.len() {
            return Err(Error::Image(format!(
                "the image has {channels} channels and the normalisation was measured for {}",
                self.low.len()
            )));
        }
        for ((mut channel, &low), &high) in image.axis_iter_mut(Axis(2)).zip(&self.low).zip(&self.high) {
            let range = high - low + EPSILON;
            if range.is_finite() {
                channel.mapv_inplace(|value| (value - low) / range);
            } else {
                // The ends of the numbers lie further apart than any of them.
                let (low, range) = (f64::from(low), f64::from(high) - f64::from(low));
                channel.mapv_inplace(|value| ((f64::from(value) - low) / range) as f32);
            }
        }
        Ok(image)
    }
}

/// Maps percentile `pmin` of every channel to 0 and percentile `pmax` to 1, without clipping: [`Percentiles::measure`]
/// and [`Percentiles::apply`] on the same image `[H, W, C]`.
///
/// # Errors
/// As those two.
pub fn percentile_normalize(image: ArrayView3<'_, f32>, pmin: f64, pmax: f64) -> Result<Array3<f32>> {
    Percentiles::measure(image, pmin, pmax)?.apply(image)
}

/// Reorders `samples`, which must not be empty.
fn percentile(samples: &mut [f32], p: f64) -> f32 {
    let last = samples.len() - 1;
    let position = p / 100.0 * last as f64;
    let below = (position.floor() as usize).min(last);
    let (_, &mut low, above) = samples.select_nth_unstable_by(below, f32::total_cmp);
    let high = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
    let (low, high) = (f64::from(low), f64::from(high));
    let fraction = position - below as f64;
    // Interpolating from the nearer end keeps the end points exact.
    let value = if fraction < 0.5 { low + (high - low) * fraction } else { high - (high - low) * (1.0 - fraction) };
    value as f32
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn percentiles_interpolate_and_channels_are_separate() {
        let image =
            Array3::from_shape_fn((1, 5, 2), |(_, x, c)| if c == 0 { [4.0, 0.0, 3.0, 1.0, 2.0][x] } else { 7.0 });
        let percentiles = Percentiles::measure(image.view(), 10.0, 75.0).unwrap();
        assert!((percentiles.low[0] - 0.4).abs() < 1e-6);
        assert_eq!(percentiles.high, [3.0, 7.0]);
        let scaled = percentiles.apply(image.view()).unwrap();
        assert!((scaled[[0, 0, 0]] - 3.6 / 2.6).abs() < 1e-6);
        assert!(scaled.index_axis(Axis(2), 1).iter().all(|&value| value == 0.0), "a constant channel becomes 0");
    }

    #[test]
    fn the_ends_of_the_numbers_can_be_scaled() {
        let ends = [f32::MIN, -1.0, 0.0, 1.0, f32::MAX];
        let image = Array3::from_shape_fn((1, 5, 1), |(_, x, _)| ends[x]);
        let scaled = percentile_normalize(image.view(), 0.0, 100.0).unwrap();
        assert_eq!(scaled.iter().copied().collect::<Vec<f32>>(), [0.0, 0.5, 0.5, 0.5, 1.0]);
    }

    #[test]
    fn wrong_use_is_refused() {
        let image = Array3::<f32>::zeros((2, 2, 1));
        for (low, high) in [(-1.0, 50.0), (60.0, 50.0), (0.0, 101.0), (f64::NAN, 50.0)] {
            assert!(matches!(percentile_normalize(image.view(), low, high), Err(Error::Config(_))));
        }
        assert!(matches!(percentile_normalize(Array3::zeros((0, 2, 1)).view(), 0.0, 100.0), Err(Error::Image(_))));
        let percentiles = Percentiles::measure(image.view(), 0.0, 100.0).unwrap();
        assert!(matches!(percentiles.apply(Array3::zeros((2, 2, 3)).view()), Err(Error::Image(_))));
    }
}
