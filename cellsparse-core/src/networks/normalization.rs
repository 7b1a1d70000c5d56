//! The arithmetic of batch and group normalisation on sums over the pixels of each channel of each image.
//!
//! With `z = x + shift`, a set of values with mean `m` and variance `v`, `i = 1 / sqrt(v + epsilon)` and `n` values in the
//! set, the result is `gamma * i * (z - m) + beta`, and the gradient with respect to `x`
//! `i * (gamma * g - A / n - (z - m) * i * B / n)` with `A = sum(gamma * g)` and `B = sum(gamma * g * (z - m) * i)` over the set
//! (Ioffe and Szegedy 2015, section 3). Both are linear in `x` and `g` for a given channel of a given image.

use super::graph::Statistics;
use crate::kernels::Layout;

/// Mean and inverse deviation of every channel of every image.
#[derive(Debug, Clone, Default)]
pub(super) struct Moments {
    batch: usize,
    channels: usize,
    pixels: f64,
    statistics: Option<Statistics>,
    /// Sum of `x` for every channel of every image.
    sums: Vec<f64>,
    mean: Vec<f64>,
    inverse: Vec<f64>,
    /// Mean and variance of each set, the variance biased.
    sets: Vec<[f64; 2]>,
}

/// The gradients of a normalisation.
#[derive(Debug, Clone, Default)]
pub(super) struct NormGradient {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    /// With respect to the shift, `[batch][channels]`.
    pub shift: Vec<f32>,
    /// The gradient with respect to `x` is `lines[0] * g + lines[1] * x + lines[2]`.
    pub lines: [Vec<f32>; 3],
}

impl Moments {
    /// Moments from the sums of `x` and `x * x` and the shift, both `[batch][channels]`.
    pub fn measured(
        layout: &Layout,
        statistics: Statistics,
        epsilon: f32,
        sums: &[[f64; 2]],
        shift: Option<&[f32]>,
    ) -> Self {
        let mut moments = Self::sized(layout);
        moments.statistics = Some(statistics);
        moments.sums = sums.iter().map(|sum| sum[0]).collect();
        moments.sets = vec![[0.0; 2]; moments.set_count()];
        for (index, [sum, square]) in sums.iter().enumerate() {
            let added = shift.map_or(0.0, |shift| f64::from(shift[index]));
            let set = moments.set(index);
            moments.sets[set][0] += sum + moments.pixels * added;
            moments.sets[set][1] += square + 2.0 * added * sum + moments.pixels * added * added;
        }
        let count = moments.set_size();
        for [mean, square] in &mut moments.sets {
            *mean /= count;
            *square = (*square / count - *mean * *mean).max(0.0);
        }
        for index in 0..sums.len() {
            let [mean, variance] = moments.sets[moments.set(index)];
            moments.mean.push(mean);
            moments.inverse.push(1.0 / (variance + f64::from(epsilon)).sqrt());
        }
        moments
    }

    /// Moments from moving statistics, one for each channel.
    pub fn given(layout: &Layout, epsilon: f32, mean: &[f32], variance: &[f32]) -> Self {
        let mut moments = Self::sized(layout);
        for _ in 0..layout.batch {
            moments.mean.extend(mean.iter().map(|mean| f64::from(*mean)));
            moments.inverse.extend(variance.iter().map(|v| 1.0 / (f64::from(*v) + f64::from(epsilon)).sqrt()));
        }
        moments
    }

    fn sized(layout: &Layout) -> Self {
        let pixels = (layout.height * layout.width) as f64;
        Self { batch: layout.batch, channels: layout.channels, pixels, ..Self::default() }
    }

    /// The set that a channel of an image belongs to.
    fn set(&self, index: usize) -> usize {
        match self.statistics {
            Some(Statistics::Group { channels }) => index / channels,
            _ => index % self.channels,
        }
    }

    fn set_count(&self) -> usize {
        match self.statistics {
            Some(Statistics::Group { channels }) => self.batch * self.channels / channels,
            _ => self.channels,
        }
    }

    fn set_size(&self) -> f64 {
        match self.statistics {
            Some(Statistics::Group { channels }) => self.pixels * channels as f64,
            _ => self.pixels * self.batch as f64,
        }
    }

    /// Factor and offset of `x` for every channel of every image.
    pub fn lines(&self, gamma: &[f32], beta: &[f32], shift: Option<&[f32]>) -> [Vec<f32>; 2] {
        let (mut factors, mut offsets) = (Vec::new(), Vec::new());
        for (index, (mean, inverse)) in self.mean.iter().zip(&self.inverse).enumerate() {
            let channel = index % self.channels;
            let factor = f64::from(gamma[channel]) * inverse;
            let added = shift.map_or(0.0, |shift| f64::from(shift[index]));
            factors.push(factor as f32);
            offsets.push((f64::from(beta[channel]) + (added - mean) * factor) as f32);
        }
        [factors, offsets]
    }

    /// The gradients from the sums of `g` and `g * x` for every channel of every image.
    pub fn gradient(&self, sums: &[[f64; 2]], gamma: &[f32], shift: Option<&[f32]>) -> NormGradient {
        let mut result = NormGradient::default();
        let (mut d_gamma, mut d_beta) = (vec![0.0; self.channels], vec![0.0; self.channels]);
        let mut totals = vec![[0.0; 2]; self.set_count()];
        let offset = |index: usize| shift.map_or(0.0, |shift| f64::from(shift[index])) - self.mean[index];
        for (index, [sum, product]) in sums.iter().enumerate() {
            let (channel, set) = (index % self.channels, self.set(index));
            let normalised = self.inverse[index] * (product + offset(index) * sum);
            d_gamma[channel] += normalised;
            d_beta[channel] += sum;
            totals[set][0] += f64::from(gamma[channel]) * sum;
            totals[set][1] += f64::from(gamma[channel]) * normalised;
        }
        let count = self.set_size();
        for (index, [sum, _]) in sums.iter().enumerate() {
            let inverse = self.inverse[index];
            let [total, product] = totals[self.set(index)];
            let factor = inverse * f64::from(gamma[index % self.channels]);
            let slope = -inverse * inverse * product / count;
            let constant = -inverse * total / count + slope * offset(index);
            for (line, value) in result.lines.iter_mut().zip([factor, slope, constant]) {
                line.push(value as f32);
            }
            result.shift.push((factor * sum + slope * self.sums[index] + constant * self.pixels) as f32);
        }
        result.gamma = d_gamma.into_iter().map(|v| v as f32).collect();
        result.beta = d_beta.into_iter().map(|v| v as f32).collect();
        result
    }

    /// Mean and variance of each channel, as a moving statistic takes them in; none for group normalisation.
    pub fn moving(&self) -> Option<[Vec<f32>; 2]> {
        let Some(Statistics::Batch { unbiased, .. }) = self.statistics else { return None };
        let count = self.set_size();
        let correction = if unbiased && count > 1.0 { count / (count - 1.0) } else { 1.0 };
        let mean = self.sets.iter().map(|set| set[0] as f32).collect();
        Some([mean, self.sets.iter().map(|set| (set[1] * correction) as f32).collect()])
    }
}
