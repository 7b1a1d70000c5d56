//! Intensities made comparable: two percentiles of each channel are mapped to 0 and 1.

use ndarray::{Array3, ArrayView2, ArrayView3, Axis};

use crate::budget::zeros;
use crate::control::CancelToken;
use crate::error::{Error, Result};

/// Keeps the quotient finite on a constant channel, where the numerator is 0.
pub(crate) const RANGE_EPSILON: f32 = 1e-20;

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
    /// (the rule of `numpy.percentile`). Takes linear time and no copy of the image.
    ///
    /// # Errors
    /// [`Error::Config`] unless `0 <= pmin <= pmax <= 100`; [`Error::Image`] for an image without pixels.
    pub fn measure(image: ArrayView3<'_, f32>, pmin: f64, pmax: f64) -> Result<Self> {
        Self::measure_until(image, pmin, pmax, &CancelToken::new())
    }

    /// [`measure`](Self::measure) that can be stopped.
    ///
    /// # Errors
    /// As there, and [`Error::Cancelled`].
    pub fn measure_until(image: ArrayView3<'_, f32>, pmin: f64, pmax: f64, cancel: &CancelToken) -> Result<Self> {
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
            let places = [pmin, pmax].map(|p| Place::new(p, channel.len()));
            let wanted = places.map(|place| place.ranks).concat();
            let found = order_statistics(channel, &wanted, cancel)?;
            percentiles.low.push(places[0].between(found[0], found[1]));
            percentiles.high.push(places[1].between(found[2], found[3]));
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
            let range = high - low + RANGE_EPSILON;
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

/// Where a percentile lies among sorted samples.
#[derive(Clone, Copy)]
struct Place {
    /// The samples that it lies between, counted from 0.
    ranks: [usize; 2],
    /// How far behind the first of them, in `[0, 1)`.
    fraction: f64,
}

impl Place {
    /// Percentile `p` of so many samples, at least one.
    fn new(p: f64, count: usize) -> Self {
        let last = count - 1;
        let position = p / 100.0 * last as f64;
        let below = (position.floor() as usize).min(last);
        Self { ranks: [below, (below + 1).min(last)], fraction: position - below as f64 }
    }

    fn between(self, low: f32, high: f32) -> f32 {
        let (low, high, fraction) = (f64::from(low), f64::from(high), self.fraction);
        // Interpolating from the nearer end keeps the end points exact.
        let value = if fraction < 0.5 { low + (high - low) * fraction } else { high - (high - low) * (1.0 - fraction) };
        value as f32
    }
}

/// Half of the bits of a sample.
const HALF: u32 = 16;

/// Rows of samples together after which it is asked whether to stop.
const PATIENCE: usize = 1 << 20;

/// The samples of those ranks (from 0, not beyond the last) in the order of `f32::total_cmp`.
///
/// Samples are counted by the upper half of their bits, and those that share it with a wanted one by the lower half too: nothing is
/// sorted and nothing copied.
fn order_statistics(samples: ArrayView2<'_, f32>, ranks: &[usize], cancel: &CancelToken) -> Result<Vec<f32>> {
    let what = "the percentiles of an image";
    let mut upper: Vec<usize> = zeros(1 << HALF, what)?;
    for_each_key(samples, cancel, |key| upper[(key >> HALF) as usize] += 1)?;
    // The upper half of each wanted sample, and its rank among those that share it.
    let places: Vec<(u32, usize)> = ranks.iter().map(|rank| nth(&upper, *rank)).collect();
    let mut halves: Vec<u32> = places.iter().map(|(half, _)| *half).collect();
    halves.sort_unstable();
    halves.dedup();
    let mut lower: Vec<usize> = zeros(halves.len() << HALF, what)?;
    // By the upper half, 1 + the place in `halves`.
    let mut number: Vec<u8> = zeros(1 << HALF, what)?;
    halves.iter().zip(1..).for_each(|(half, place)| number[*half as usize] = place);
    for_each_key(samples, cancel, |key| {
        let place = number[(key >> HALF) as usize];
        if place > 0 {
            lower[(usize::from(place) - 1) << HALF | (key & ((1 << HALF) - 1)) as usize] += 1;
        }
    })?;
    let value = |(half, rank): &(u32, usize)| {
        let first = (usize::from(number[*half as usize]) - 1) << HALF;
        from_key(half << HALF | nth(&lower[first..first + (1 << HALF)], *rank).0)
    };
    Ok(places.iter().map(value).collect())
}

/// The number under which the sample of that rank was counted, and its rank among those counted there.
fn nth(counts: &[usize], rank: usize) -> (u32, usize) {
    let mut before = 0;
    for (number, count) in (0_u32..).zip(counts) {
        if rank < before + count {
            return (number, rank - before);
        }
        before += count;
    }
    (counts.len() as u32 - 1, 0)
}

fn for_each_key(samples: ArrayView2<'_, f32>, cancel: &CancelToken, mut count: impl FnMut(u32)) -> Result<()> {
    let rows = (PATIENCE / samples.ncols().max(1)).max(1);
    for part in samples.axis_chunks_iter(Axis(0), rows) {
        cancel.check()?;
        part.iter().for_each(|sample| count(key(*sample)));
    }
    Ok(())
}

/// A number whose order among whole numbers is that of the sample by `f32::total_cmp`.
fn key(sample: f32) -> u32 {
    let bits = sample.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn from_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::random::Random;

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
    fn samples_are_counted_in_the_order_of_numbers() {
        let mut random = Random::new(5, 0);
        for kind in 0..4 {
            let samples = ndarray::Array2::from_shape_fn((37, 61), |_| match kind {
                0 => f32::from_bits(random.bits() as u32),
                1 => random.below(5) as f32 - 2.0,
                2 => [0.0, -0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN][random.below(6)],
                _ => random.normal() as f32,
            });
            let mut sorted: Vec<f32> = samples.iter().copied().collect();
            sorted.sort_unstable_by(f32::total_cmp);
            let ranks = [0, 1, 700, 701, 1500, sorted.len() - 1];
            let found = order_statistics(samples.view(), &ranks, &CancelToken::new()).unwrap();
            let wanted = ranks.map(|rank| sorted[rank].to_bits());
            assert_eq!(found.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), wanted, "kind {kind}");
        }
        let cancel = CancelToken::new();
        cancel.cancel();
        let measured = Percentiles::measure_until(Array3::zeros((2, 2, 1)).view(), 0.0, 100.0, &cancel);
        assert!(matches!(measured, Err(Error::Cancelled)));
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
