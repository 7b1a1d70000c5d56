//! The size at which a network sees its cells.

use ndarray::{Array3, Axis};

use super::Model;
use crate::annotations::Dataset;
use crate::error::Result;
use crate::raster::{LabelImage, gaussian_blur, resize_bilinear, scaled_size};

/// Diameter in pixels at which the annotated cells are trained on.
const DIAMETER: f64 = 20.0;

/// Smallest and largest factor.
const FACTORS: [f64; 2] = [0.25, 2.0];

/// Factors in this range are not worth the blur of another sampling.
const NEAR: [f64; 2] = [0.75, 1.34];

/// The factor that brings the annotated cells of `data` to the size that a network learns quickest.
///
/// A network of few layers sees a limited surrounding, and small cells are cheaper than large ones.
pub(super) fn working_scale(data: &Dataset) -> f64 {
    let mut areas: Vec<usize> = data.labels().iter().flat_map(|labels| labels.areas().values().copied()).collect();
    if areas.is_empty() {
        return 1.0;
    }
    let middle = areas.len() / 2;
    let median = *areas.select_nth_unstable(middle).1 as f64;
    let factor = DIAMETER / (2.0 * (median / std::f64::consts::PI).sqrt());
    if (NEAR[0]..=NEAR[1]).contains(&factor) { 1.0 } else { factor.clamp(FACTORS[0], FACTORS[1]) }
}

impl Model {
    /// The sides at which the network sees an image.
    pub(super) fn working_sides(&self, height: usize, width: usize) -> Result<[usize; 2]> {
        Ok([scaled_size(height, self.scale)?.max(1), scaled_size(width, self.scale)?.max(1)])
    }

    /// The image `[H, W, C]` as the network sees it.
    pub(super) fn to_working(&self, image: Array3<f32>) -> Result<Array3<f32>> {
        let (height, width, _) = image.dim();
        let [rows, columns] = self.working_sides(height, width)?;
        if [rows, columns] == [height, width] {
            return Ok(image);
        }
        let mut image = image;
        if self.scale < 1.0 {
            // What is finer than the coarser pixels would turn into noise.
            let sigma = (0.5 * (1.0 / (self.scale * self.scale) - 1.0).sqrt()) as f32;
            for mut channel in image.axis_iter_mut(Axis(2)) {
                let smooth = gaussian_blur(channel.view(), sigma);
                channel.assign(&smooth);
            }
        }
        resize_bilinear(image.view(), rows, columns)
    }

    /// The labels `[H, W]` as the network sees them: those of the nearest pixels.
    pub(super) fn labels_to_working(&self, labels: &LabelImage) -> Result<LabelImage> {
        let (height, width) = labels.dim();
        let [rows, columns] = self.working_sides(height, width)?;
        if [rows, columns] == [height, width] {
            return Ok(labels.clone());
        }
        Ok(nearest(labels, rows, columns))
    }
}

/// Labels of other sides: those of the nearest pixels.
pub(super) fn nearest(labels: &LabelImage, rows: usize, columns: usize) -> LabelImage {
    let (height, width) = labels.dim();
    let source = |i: usize, n: usize, of: usize| ((2 * i + 1) * of / (2 * n)).min(of.saturating_sub(1));
    LabelImage::from_shape_fn((rows, columns), |(y, x)| labels[[source(y, rows, height), source(x, columns, width)]])
}
