//! Gaussian blur.

use ndarray::{Array2, ArrayView2, Axis};

/// Gaussian blur of a map `[H, W]` with the given standard deviation in pixels; beyond the border the border pixel is
/// repeated. Below 0.05 pixels the map is returned as it is.
pub fn gaussian_blur(image: ArrayView2<'_, f32>, sigma: f32) -> Array2<f32> {
    if sigma.is_nan() || sigma < 0.05 || image.is_empty() {
        return image.to_owned();
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
    let mut out = image.to_owned();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_a_constant_and_the_total_light() {
        let flat = Array2::from_elem((9, 5), 3.0f32);
        assert!(gaussian_blur(flat.view(), 2.0).iter().all(|v| (v - 3.0).abs() < 1e-5));
        let mut point = Array2::<f32>::zeros((41, 41));
        point[[20, 20]] = 1.0;
        let spread = gaussian_blur(point.view(), 2.0);
        assert!((spread.sum() - 1.0).abs() < 1e-4);
        assert!((spread[[20, 20]] - 1.0 / (std::f32::consts::TAU * 4.0)).abs() < 1e-3);
    }
}
