//! What lies between the specimen and the file: blur, haze, uneven light, camera noise.

use ndarray::Array2;

use crate::random::Random;

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
