//! Gaussian blur.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::budget::{array, copied};
use crate::error::Result;

/// Gaussian blur of a map `[H, W]` with the given standard deviation in pixels; beyond the border the border pixel is
/// repeated. Below 0.05 pixels the map is returned as it is.
pub fn gaussian_blur(image: ArrayView2<'_, f32>, sigma: f32) -> Array2<f32> {
    if is_none(sigma) || image.is_empty() {
        return image.to_owned();
    }
    let mut blurred = Array2::zeros(image.dim());
    blur(image.as_standard_layout().view(), sigma, &mut blurred);
    blurred
}

/// [`gaussian_blur`], or a refusal where there is no memory for the result.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit).
pub fn try_gaussian_blur(image: ArrayView2<'_, f32>, sigma: f32) -> Result<Array2<f32>> {
    let what = "a blurred image";
    if is_none(sigma) || image.is_empty() {
        return copied(image, what);
    }
    let mut blurred = array(image.dim(), what)?;
    if image.is_standard_layout() {
        blur(image, sigma, &mut blurred);
    } else {
        blur(copied(image, what)?.view(), sigma, &mut blurred);
    }
    Ok(blurred)
}

fn is_none(sigma: f32) -> bool {
    sigma.is_nan() || sigma < 0.05
}

/// Writes the blur of an image in standard layout, which is not empty, over zeros.
fn blur(source: ArrayView2<'_, f32>, sigma: f32, down: &mut Array2<f32>) {
    let reach = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=2 * reach)
        .map(|i| {
            let z = (i as f32 - reach as f32) / sigma;
            (-0.5 * z * z).exp()
        })
        .collect();
    let total: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= total);
    let (height, width) = source.dim();
    down.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(y, mut out)| {
        for (k, weight) in kernel.iter().enumerate() {
            let row = source.row((y + k).saturating_sub(reach).min(height - 1));
            out.zip_mut_with(&row, |sum, value| *sum += value * weight);
        }
    });
    down.axis_iter_mut(Axis(0)).into_par_iter().for_each_init(Vec::new, |line, mut row| {
        line.clear();
        line.extend((0..width + 2 * reach).map(|i| row[i.saturating_sub(reach).min(width - 1)]));
        for (value, window) in row.iter_mut().zip(line.windows(kernel.len())) {
            *value = window.iter().zip(&kernel).map(|(a, b)| a * b).sum();
        }
    });
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
        assert_eq!(try_gaussian_blur(point.view(), 2.0).unwrap(), spread);
        assert_eq!(try_gaussian_blur(spread.t(), 1.0).unwrap(), gaussian_blur(spread.t(), 1.0));
        assert!((spread.sum() - 1.0).abs() < 1e-4);
        assert!((spread[[20, 20]] - 1.0 / (std::f32::consts::TAU * 4.0)).abs() < 1e-3);
    }
}
