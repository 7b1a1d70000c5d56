//! What lies between the specimen and the file: blur, haze, uneven light, camera noise.

use ndarray::{Array2, Axis};

use crate::random::Random;

/// Gaussian blur with the given standard deviation in pixels; beyond the border the border pixel is repeated.
pub(super) fn blur(image: &Array2<f32>, sigma: f32) -> Array2<f32> {
    if sigma < 0.05 {
        return image.clone();
    }
    let reach = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=2 * reach)
        .map(|i| {
            let z = (i as f32 - reach as f32) / sigma;
            (-0.5 * z * z).exp()
        })
        .collect();
    let total: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= total);
    let mut out = image.clone();
    let mut line = Vec::new();
    for axis in [Axis(0), Axis(1)] {
        for mut lane in out.lanes_mut(axis) {
            let size = lane.len();
            line.clear();
            line.extend((0..size + 2 * reach).map(|i| lane[i.saturating_sub(reach).min(size - 1)]));
            for (value, window) in lane.iter_mut().zip(line.windows(kernel.len())) {
                *value = window.iter().zip(&kernel).map(|(a, b)| a * b).sum();
            }
        }
    }
    out
}

/// Adds a round Gaussian spot of light.
pub(super) fn add_spot(image: &mut Array2<f32>, centre: [f32; 2], sigma: f32, amplitude: f32) {
    let (height, width) = image.dim();
    let reach = 3.5 * sigma;
    let span = |c: f32, size: usize| {
        let first = (c - reach).ceil().clamp(0.0, size as f32) as usize;
        let end = ((c + reach).floor() + 1.0).clamp(0.0, size as f32) as usize;
        first..end.max(first)
    };
    for y in span(centre[0], height) {
        for x in span(centre[1], width) {
            let (dy, dx) = ((y as f32 - centre[0]) / sigma, (x as f32 - centre[1]) / sigma);
            image[[y, x]] += amplitude * (-0.5 * (dy * dy + dx * dx)).exp();
        }
    }
}

/// How evenly the field is lit: a bright spot somewhere near the middle that falls off by `unevenness` in the far corner.
pub(super) fn illumination(shape: (usize, usize), unevenness: f32, random: &mut Random) -> Array2<f32> {
    let (height, width) = (shape.0 as f32, shape.1 as f32);
    let centre = [random.uniform(0.25, 0.75) as f32, random.uniform(0.25, 0.75) as f32];
    Array2::from_shape_fn(shape, |(y, x)| {
        let (dy, dx) = (y as f32 / height - centre[0], x as f32 / width - centre[1]);
        1.0 - unevenness * (dy * dy + dx * dx) / 1.125
    })
}

/// The number of photons counted when `mean` are expected.
pub(super) fn poisson(mean: f32, random: &mut Random) -> f32 {
    if mean > 30.0 {
        return (mean + mean.sqrt() * random.normal() as f32).round().max(0.0);
    }
    let limit = f64::from(-mean.max(0.0)).exp();
    let mut product = random.unit();
    let mut count = 0.0;
    while product > limit {
        product *= random.unit();
        count += 1.0;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_a_constant_and_the_total_light() {
        let flat = Array2::from_elem((9, 5), 3.0f32);
        assert!(blur(&flat, 2.0).iter().all(|v| (v - 3.0).abs() < 1e-5));
        let mut point = Array2::<f32>::zeros((41, 41));
        point[[20, 20]] = 1.0;
        let spread = blur(&point, 2.0);
        assert!((spread.sum() - 1.0).abs() < 1e-4);
        assert!((spread[[20, 20]] - 1.0 / (std::f32::consts::TAU * 4.0)).abs() < 1e-3);
    }

    #[test]
    fn photon_counts_have_the_right_mean_and_variance() {
        let mut random = Random::new(2, 0);
        for mean in [0.0f32, 2.0, 12.0, 200.0] {
            let counts: Vec<f32> = (0..4000).map(|_| poisson(mean, &mut random)).collect();
            let average = counts.iter().sum::<f32>() / 4000.0;
            let variance = counts.iter().map(|c| (c - average).powi(2)).sum::<f32>() / 4000.0;
            assert!((average - mean).abs() <= 0.08 * mean.sqrt() + 1e-6, "{mean}: {average}");
            assert!((variance - mean).abs() <= 0.12 * mean + 1e-6, "{mean}: {variance}");
        }
    }
}
