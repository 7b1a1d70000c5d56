//! What is known about one pixel of an image.

use ndarray::{Array2, ArrayView3, Axis};
use rayon::prelude::*;

use crate::error::Result;
use crate::raster::try_gaussian_blur;

/// Standard deviations of the blurs, as fractions of the diameter of the cells.
const SCALES: [f64; 3] = [0.05, 0.1, 0.2];

/// Smallest standard deviation in pixels.
const FINEST: f64 = 0.5;

/// Features of each map at one pixel: value, slope, curvature.
const KINDS: usize = 3;

/// Blurred channels, from which the features of any pixel follow.
pub struct PixelFeatures {
    maps: Vec<Array2<f32>>,
}

impl PixelFeatures {
    /// Of an image `[H, W, C]` with cells of that diameter in pixels.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory.
    pub fn new(image: ArrayView3<'_, f32>, diameter: f64) -> Result<Self> {
        let channels = image.len_of(Axis(2));
        let one = |index: usize| {
            let sigma = (SCALES[index % SCALES.len()] * diameter).max(FINEST);
            try_gaussian_blur(image.index_axis(Axis(2), index / SCALES.len()), sigma as f32)
        };
        Ok(Self { maps: (0..channels * SCALES.len()).into_par_iter().map(one).collect::<Result<_>>()? })
    }

    /// Number of features of a pixel.
    pub fn len(&self) -> usize {
        self.maps.len() * KINDS
    }

    /// Writes the features of pixel `(y, x)`: of every channel at every scale the value, the length of the gradient and the
    /// Laplacian, the last two by differences of neighbours, which the border pixel continues.
    pub fn write(&self, y: usize, x: usize, out: &mut [f32]) {
        for (map, out) in self.maps.iter().zip(out.as_chunks_mut::<KINDS>().0) {
            let (height, width) = map.dim();
            let [up, down] = [map[[y.saturating_sub(1), x]], map[[(y + 1).min(height - 1), x]]];
            let [left, right] = [map[[y, x.saturating_sub(1)]], map[[y, (x + 1).min(width - 1)]]];
            let value = map[[y, x]];
            out[0] = value;
            out[1] = (down - up).hypot(right - left);
            out[2] = up + down + left + right - 4.0 * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn features_are_value_slope_and_curvature_of_each_scale() {
        let ramp = Array3::from_shape_fn((60, 60, 2), |(y, x, c)| if c == 0 { 2.0 * x as f32 } else { y as f32 });
        let features = PixelFeatures::new(ramp.view(), 20.0).unwrap();
        assert_eq!(features.len(), 18);
        let mut out = vec![0.0; features.len()];
        features.write(30, 25, &mut out);
        for (chunk, want) in out.as_chunks::<3>().0.iter().zip([[50.0, 4.0], [50.0, 4.0], [50.0, 4.0], [30.0, 2.0]]) {
            assert!((chunk[0] - want[0]).abs() < 1e-3 && (chunk[1] - want[1]).abs() < 1e-3 && chunk[2].abs() < 1e-3);
        }
        features.write(59, 59, &mut out);
        assert!(out.iter().all(|value| value.is_finite()));
    }
}
