//! Unlabelled pixels that are background beyond reasonable doubt.

use ndarray::{Array2, ArrayView3, Axis};

use crate::random::Random;
use crate::raster::{LabelImage, gaussian_blur};

/// Standard deviation of the blur in pixels: texture and noise of single pixels say nothing.
const BLUR: f32 = 2.0;

/// Fewest pixels of cells and of background that the intensities are learned from.
const FEWEST: usize = 20;

/// Smallest distance between the means of background and cells, in standard deviations, with which intensity alone tells
/// them apart.
const CLEAR: f64 = 1.5;

/// A pixel is taken when it looks less like cells than the most cell-like fifth of the drawn background.
const TYPICAL: f64 = 0.8;

/// The labels with some unlabelled pixels set to background: those that look less like the drawn cells than some of the
/// drawn background does.
///
/// `image` `[H, W, C]` is projected on the direction in which blurred intensities of drawn cells differ most from those of
/// drawn background, relative to how much both vary. At most as many pixels are taken as are labelled, drawn at random
/// with `seed`, so that they teach what an empty region looks like and do not drown what was drawn. Without enough
/// labelled pixels, or when intensity does not separate cells from background, labels are returned as they are.
pub fn likely_background(image: ArrayView3<'_, f32>, labels: &LabelImage, seed: u64) -> LabelImage {
    let mut result = labels.clone();
    let (height, width, _) = image.dim();
    if labels.dim() != (height, width) {
        return result;
    }
    let Some(likeness) = cell_likeness(image, labels) else { return result };
    let mut drawn: Vec<f32> = values(&likeness, labels, |label| label == 0);
    let rank = (drawn.len() as f64 * TYPICAL) as usize;
    let limit = *drawn.select_nth_unstable_by(rank, f32::total_cmp).1;
    let candidates: Vec<(usize, usize)> = likeness
        .indexed_iter()
        .filter(|(at, likeness)| labels[*at] < 0 && **likeness <= limit)
        .map(|(at, _)| at)
        .collect();
    let most = labels.iter().filter(|label| **label >= 0).count();
    let order = Random::new(seed, 0).permutation(candidates.len());
    for index in order.into_iter().take(most) {
        result[candidates[index]] = 0;
    }
    result
}

/// How much each pixel looks like the drawn cells, in arbitrary units; `None` when intensity does not tell.
fn cell_likeness(image: ArrayView3<'_, f32>, labels: &LabelImage) -> Option<Array2<f32>> {
    let mut likeness = Array2::<f32>::zeros(labels.dim());
    for channel in image.axis_iter(Axis(2)) {
        let smooth = gaussian_blur(channel, BLUR);
        let [background, cells] = [moments(&smooth, labels, |l| l == 0)?, moments(&smooth, labels, |l| l > 0)?];
        let weight = (cells.mean - background.mean) / (cells.variance + background.variance + 1e-9);
        likeness.zip_mut_with(&smooth, |likeness, value| *likeness += (weight * f64::from(*value)) as f32);
    }
    let [background, cells] = [moments(&likeness, labels, |l| l == 0)?, moments(&likeness, labels, |l| l > 0)?];
    let spread = (0.5 * (background.variance + cells.variance)).sqrt();
    (cells.mean - background.mean > CLEAR * spread).then_some(likeness)
}

struct Moments {
    mean: f64,
    variance: f64,
}

/// Mean and variance of the pixels whose label is wanted; `None` when they are too few.
fn moments(map: &Array2<f32>, labels: &LabelImage, wanted: impl Fn(i32) -> bool) -> Option<Moments> {
    let values = values(map, labels, wanted);
    if values.len() < FEWEST {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    Some(Moments { mean, variance })
}

fn values(map: &Array2<f32>, labels: &LabelImage, wanted: impl Fn(i32) -> bool) -> Vec<f32> {
    map.iter().zip(labels).filter(|(_, label)| wanted(**label)).map(|(value, _)| *value).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    /// A bright disc of radius 10 in a grey field with a dark right half; strokes of background in the grey part.
    fn scene(bright: f32) -> (Array3<f32>, LabelImage) {
        let inside = |y: usize, x: usize| y.abs_diff(30).pow(2) + x.abs_diff(25).pow(2) <= 100;
        let value = |y: usize, x: usize| if inside(y, x) { bright } else { 0.3 - 0.2 * f32::from(u8::from(x > 60)) };
        let noise = |y: usize, x: usize| 0.02 * (((y * 7 + x * 13) % 5) as f32 - 2.0);
        let image = Array3::from_shape_fn((64, 120, 1), |(y, x, _)| value(y, x) + noise(y, x));
        let labels = LabelImage::from_shape_fn((64, 120), |(y, x)| match () {
            () if inside(y, x) => 1,
            () if y == 5 && x < 50 => 0,
            () => -1,
        });
        (image, labels)
    }

    #[test]
    fn dark_regions_become_background_and_nothing_drawn_changes() {
        let (image, labels) = scene(0.9);
        let more = likely_background(image.view(), &labels, 3);
        let mut taken = 0;
        for ((at, old), new) in labels.indexed_iter().zip(&more) {
            if old != new {
                assert!(*old == -1 && *new == 0, "{at:?}");
                taken += 1;
            }
        }
        let drawn = labels.iter().filter(|label| **label >= 0).count();
        assert_eq!(taken, drawn, "as many as are drawn");
        assert!(more.indexed_iter().filter(|((_, x), label)| *x > 60 && **label == 0).count() > taken / 2);
        // Nothing beside the cell, whose light reaches further than its outline.
        assert!((17..44).all(|y| more[[y, 37]] == -1));
        assert_eq!(more, likely_background(image.view(), &labels, 3));
        assert_ne!(more, likely_background(image.view(), &labels, 4));
    }

    #[test]
    fn where_intensity_does_not_tell_nothing_is_taken() {
        let (image, labels) = scene(0.3);
        assert_eq!(likely_background(image.view(), &labels, 0), labels);
        let without = labels.mapv(|label| if label == 0 { -1 } else { label });
        assert_eq!(likely_background(scene(0.9).0.view(), &without, 0), without);
        assert_eq!(likely_background(Array3::zeros((3, 3, 1)).view(), &labels, 0), labels);
    }
}
