//! The arithmetic of batch and group normalisation on means and sums over the pixels of each channel of each image.
//!
//! With `z = x + style`, a set of values with mean `m` and variance `v`, `i = 1 / sqrt(v + epsilon)` and `n` values in the
//! set, the result is `gamma * i * (z - m) + beta`, and the gradient with respect to `x`
//! `i * (gamma * g - A / n - (z - m) * i * B / n)` with `A = sum(gamma * g)` and `B = sum(gamma * g * (z - m) * i)` over the set
//! (Ioffe and Szegedy 2015, section 3). Both are linear in `x` and `g` for a given channel of a given image.

use cellsparse_kernels::Layout;

use super::graph::Statistics;

/// Mean and variance of every channel for each node of a network that normalises over groups of channels; nothing for others.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ImageStatistics(pub(super) Vec<Vec<[f64; 2]>>);

impl ImageStatistics {
    /// Those of an image that consists of parts of one size with these statistics.
    pub fn of_parts(parts: &[Self]) -> Self {
        let Some(first) = parts.first() else { return Self::default() };
        let share = 1.0 / parts.len() as f64;
        let mut sums: Vec<Vec<[f64; 2]>> = first.0.iter().map(|node| vec![[0.0; 2]; node.len()]).collect();
        for part in parts {
            for (sum, [mean, _]) in sums.iter_mut().flatten().zip(part.0.iter().flatten()) {
                sum[0] += share * mean;
            }
        }
        for part in parts {
            // About the common mean, so that nothing cancels.
            for (sum, [mean, variance]) in sums.iter_mut().flatten().zip(part.0.iter().flatten()) {
                sum[1] += share * (variance + (mean - sum[0]).powi(2));
            }
        }
        Self(sums)
    }

    /// Those of one node.
    #[cfg(feature = "candle")]
    pub(super) fn of_node(&self, id: usize) -> &[[f64; 2]] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether no node normalises over groups of channels.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }
}

/// Mean and inverse deviation of every channel of every image.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelMoments {
    batch: usize,
    channels: usize,
    pixels: f64,
    statistics: Option<Statistics>,
    /// Mean of `x` for every channel of every image.
    channel_means: Vec<f64>,
    /// Mean of the set that a channel of an image belongs to.
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
    /// With respect to the style, `[batch][channels]`.
    pub style: Vec<f32>,
    /// The gradient with respect to `x` is `coefficients[0] * g + coefficients[1] * x + coefficients[2]`.
    pub coefficients: [Vec<f32>; 3],
}

impl ChannelMoments {
    /// Moments from the mean of every channel and the sum of squared deviations from it, and the style, both
    /// `[batch][channels]`.
    pub fn measured(
        layout: &Layout,
        statistics: Statistics,
        epsilon: f32,
        channels: &[[f64; 2]],
        style: Option<&[f32]>,
    ) -> Self {
        let mut moments = Self::sized(layout);
        moments.statistics = Some(statistics);
        moments.channel_means = channels.iter().map(|channel| channel[0]).collect();
        moments.sets = vec![[0.0; 2]; moments.set_count()];
        let shifted = |index: usize| channels[index][0] + style.map_or(0.0, |style| f64::from(style[index]));
        let count = moments.set_size();
        for index in 0..channels.len() {
            let set = moments.set(index);
            moments.sets[set][0] += moments.pixels * shifted(index) / count;
        }
        // The deviations within a channel, and those of the channels' means from the mean of the set.
        for (index, [_, squares]) in channels.iter().enumerate() {
            let set = moments.set(index);
            let difference = shifted(index) - moments.sets[set][0];
            moments.sets[set][1] += (squares + moments.pixels * difference * difference) / count;
        }
        for index in 0..channels.len() {
            let [mean, variance] = moments.sets[moments.set(index)];
            moments.mean.push(mean);
            moments.inverse.push(1.0 / (variance + f64::from(epsilon)).sqrt());
        }
        moments
    }

    /// Moments from moving statistics, one for each channel.
    pub fn given(layout: &Layout, epsilon: f32, mean: &[f32], variance: &[f32]) -> Self {
        let mut moments = Self::sized(layout);
        for _ in 0..layout.batch() {
            moments.mean.extend(mean.iter().map(|mean| f64::from(*mean)));
            moments.inverse.extend(variance.iter().map(|v| 1.0 / (f64::from(*v) + f64::from(epsilon)).sqrt()));
        }
        moments
    }

    /// Mean and variance of the set of every channel of one image; nothing unless they were measured there.
    pub fn of_image(&self) -> Vec<[f64; 2]> {
        match self.statistics {
            Some(Statistics::Group { channels }) if self.batch == 1 => {
                (0..self.channels).map(|channel| self.sets[channel / channels]).collect()
            }
            _ => Vec::new(),
        }
    }

    fn sized(layout: &Layout) -> Self {
        let pixels = (layout.height() * layout.width()) as f64;
        Self { batch: layout.batch(), channels: layout.channels(), pixels, ..Self::default() }
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
    pub fn scale_and_shift(&self, gamma: &[f32], beta: &[f32], style: Option<&[f32]>) -> [Vec<f32>; 2] {
        let (mut factors, mut offsets) = (Vec::new(), Vec::new());
        for (index, (mean, inverse)) in self.mean.iter().zip(&self.inverse).enumerate() {
            let channel = index % self.channels;
            let factor = f64::from(gamma[channel]) * inverse;
            let added = style.map_or(0.0, |style| f64::from(style[index]));
            factors.push(factor as f32);
            offsets.push((f64::from(beta[channel]) + (added - mean) * factor) as f32);
        }
        [factors, offsets]
    }

    /// What the products of [`gradient`](Self::gradient) are taken about, `[batch][channels]`: near the mean of `x + style`,
    /// so that nothing cancels where values are large and nearly equal.
    pub fn pivot(&self, style: Option<&[f32]>) -> Vec<f32> {
        let added = |index: usize| style.map_or(0.0, |style| f64::from(style[index]));
        self.mean.iter().enumerate().map(|(index, mean)| (mean - added(index)) as f32).collect()
    }

    /// The gradients from the sums of `g` and `g * (x - pivot)` for every channel of every image.
    pub fn gradient(&self, sums: &[[f64; 2]], pivot: &[f32], gamma: &[f32], style: Option<&[f32]>) -> NormGradient {
        let mut result = NormGradient::default();
        let (mut d_gamma, mut d_beta) = (vec![0.0; self.channels], vec![0.0; self.channels]);
        let mut totals = vec![[0.0; 2]; self.set_count()];
        let offset = |index: usize| style.map_or(0.0, |style| f64::from(style[index])) - self.mean[index];
        for (index, [sum, product]) in sums.iter().enumerate() {
            let (channel, set) = (index % self.channels, self.set(index));
            let normalised = self.inverse[index] * (product + (f64::from(pivot[index]) + offset(index)) * sum);
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
            let constant = -inverse * total / count;
            for (line, value) in result.coefficients.iter_mut().zip([factor, slope, constant + slope * offset(index)]) {
                line.push(value as f32);
            }
            let deviation = self.channel_means[index] + offset(index);
            result.style.push((factor * sum + self.pixels * (slope * deviation + constant)) as f32);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments of values `[batch][channels][pixel]` by their definition.
    fn by_definition(values: &[f64], batch: usize, channels: usize, statistics: Statistics) -> Vec<[f64; 2]> {
        let pixels = values.len() / (batch * channels);
        let set = |index: usize| match statistics {
            Statistics::Group { channels } => index / channels,
            Statistics::Batch { .. } => index % channels,
        };
        let sets = 1 + (0..batch * channels).map(set).max().unwrap();
        let members = |wanted: usize| -> Vec<f64> {
            let own = (0..batch * channels).filter(|index| set(*index) == wanted);
            own.flat_map(|index| values[index * pixels..][..pixels].to_vec()).collect()
        };
        (0..sets)
            .map(|set| {
                let values = members(set);
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                [mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64]
            })
            .collect()
    }

    #[test]
    fn variances_do_not_cancel() {
        let (batch, channels, pixels) = (2, 6, 20);
        let layout = Layout::new(batch, channels, 4, 5);
        for statistics in [Statistics::Group { channels: 3 }, Statistics::Batch { momentum: 0.9, unbiased: false }] {
            for (mean, deviation) in [(0.0, 1.0), (1e3, 1e-2), (-1e6, 1e-3)] {
                let value = |i: usize| mean + deviation * (((i * 7919) % 1000) as f64 / 500.0 - 1.0);
                let values: Vec<f64> = (0..batch * channels * pixels).map(value).collect();
                let measure = |values: &[f64]| {
                    let mean = values.iter().sum::<f64>() / values.len() as f64;
                    [mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>()]
                };
                let channel: Vec<[f64; 2]> = values.chunks_exact(pixels).map(measure).collect();
                let style: Vec<f32> = (0..batch * channels).map(|index| (deviation * index as f64) as f32).collect();
                let shifted = |(i, v): (usize, &f64)| v + f64::from(style[i / pixels]);
                let shifted: Vec<f64> = values.iter().enumerate().map(shifted).collect();
                let moments = ChannelMoments::measured(&layout, statistics, 0.0, &channel, Some(&style));
                let wanted = by_definition(&shifted, batch, channels, statistics);
                assert_eq!(moments.sets.len(), wanted.len());
                for (found, wanted) in moments.sets.iter().zip(&wanted) {
                    assert!((found[0] - wanted[0]).abs() < 1e-6 * deviation, "{found:?} instead of {wanted:?}");
                    assert!((found[1] / wanted[1] - 1.0).abs() < 1e-5, "{found:?} instead of {wanted:?}");
                }
            }
        }
    }
}
