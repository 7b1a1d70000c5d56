//! The search for thresholds that segment annotated images best, and ranges that thresholds must lie in.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::options::PredictOptions;
use crate::annotations::SparseLabels;
use crate::error::{Error, Reason, Result};
use crate::metrics::{Criterion, matching_dataset};
use crate::raster::LabelImage;

/// Refuses a threshold that is not in its range.
///
/// # Errors
/// [`Error::Config`] with that message when `is_valid` is not so.
pub(super) fn check_range(
    is_valid: bool,
    option: &'static str,
    found: f32,
    range: RangeInclusive<f64>,
    message: impl FnOnce() -> String,
) -> Result<()> {
    match is_valid {
        true => Ok(()),
        false => Err(Error::Config(message()).because(Reason::out_of_range(option, found, range))),
    }
}

/// Refuses a probability that is not above 0 and below 1.
///
/// # Errors
/// As [`check_range`].
pub(super) fn check_probability(option: &'static str, name: &str, value: f32) -> Result<()> {
    let message = || format!("{name} is {value}; it must lie between 0 and 1");
    check_range(value > 0.0 && value < 1.0, option, value, 0.0..=1.0, message)
}

/// Refuses an area of the smallest object that is none.
///
/// # Errors
/// As [`check_range`].
pub(super) fn check_smallest_object(pixels: f32) -> Result<()> {
    let message = || format!("the smallest object is {pixels} pixels; it must be 0 or more");
    check_range(pixels >= 0.0 && pixels.is_finite(), "smallest_object", pixels, 0.0..=f64::INFINITY, message)
}

/// Options with lower and lower probability thresholds than that one.
pub(super) fn lower_probabilities(than: f32) -> Vec<PredictOptions> {
    let below = [0.4, 0.3, 0.2, 0.1, 0.05, 0.02].into_iter().filter(|value| *value < than);
    below.map(|prob| PredictOptions { prob_thresh: Some(prob), ..PredictOptions::default() }).collect()
}

/// An area in pixels of an image that is seen that many times as large.
pub(super) fn zoomed_area(pixels: f32, zoom: f64) -> f32 {
    (f64::from(pixels) / (zoom * zoom)) as f32
}

/// The highest value of a map.
pub(super) fn highest<'a>(map: impl IntoIterator<Item = &'a f32>) -> f32 {
    map.into_iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Intersections over union at which a choice is scored, as in StarDist's threshold optimisation.
const IOU_THRESHOLDS: [f64; 3] = [0.3, 0.5, 0.7];

/// The values of a list that segment annotated images best.
///
/// `choices` holds values with their distance from what is to be expected; `segment` gives the label image of one image,
/// whose truth `[H, W]` is with it. The score is the mean accuracy over those of [`IOU_THRESHOLDS`]; unlabelled pixels
/// do not count. Of the choices within one standard error of the best the one that was expected most is taken: on a handful
/// of cells the best one is a matter of chance. `None` when no choice finds any annotated cell.
///
/// # Errors
/// What the post-processing reports.
pub(super) fn choose<T: Copy, I>(
    choices: &[(T, f32)],
    images: &[(I, &LabelImage)],
    segment: impl Fn(&I, &T) -> Result<LabelImage>,
) -> Result<Option<T>> {
    let mut tried: Vec<(f64, f32, T)> = Vec::new();
    let mut cells = 1;
    for (choice, distance) in choices {
        let mut predictions = Vec::new();
        for (image, truth) in images {
            predictions.push((*truth, segment(image, choice)?));
        }
        let pairs: Vec<_> = predictions.iter().map(|(truth, predicted)| (*truth, predicted)).collect();
        let scores = matching_dataset(&pairs, &IOU_THRESHOLDS, Criterion::Iou, false)?;
        let score = scores.iter().map(|matching| matching.accuracy).sum::<f64>() / scores.len() as f64;
        cells = scores.iter().map(|matching| matching.n_true).fold(cells, usize::max);
        tried.push((score, *distance, *choice));
    }
    let best = tried.iter().map(|(score, ..)| *score).fold(0.0, f64::max);
    let error = (best * (1.0 - best) / cells as f64).sqrt();
    // On few cells the error may exceed the best score: what finds nothing is still no choice.
    let good = tried.into_iter().filter(|(score, ..)| *score > 0.0 && *score >= best - error);
    Ok(good.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(.., choice)| choice))
}

/// The area below which an object is taken for debris: a quarter of the smallest annotated cell's. Cells that the side of
/// an image cuts say nothing about it, unless there are no others.
pub(super) fn smallest_object<'a>(labels: impl Iterator<Item = &'a SparseLabels> + Clone) -> f32 {
    let whole = labels.clone().flat_map(|labels| {
        let cut = at_the_sides(labels.labels());
        labels.areas().iter().filter(move |(label, _)| !cut.contains(label)).map(|(_, area)| *area)
    });
    let any = || labels.flat_map(|labels| labels.areas().values().copied()).min();
    whole.min().or_else(any).unwrap_or(0) as f32 / 4.0
}

/// The cells that touch a side of the image.
fn at_the_sides(labels: &LabelImage) -> BTreeSet<i32> {
    let (rows, columns) = labels.dim();
    let at_side = |y: usize, x: usize| y == 0 || x == 0 || y + 1 == rows || x + 1 == columns;
    let cut = labels.indexed_iter().filter(|((y, x), label)| **label > 0 && at_side(*y, *x));
    cut.map(|(_, label)| *label).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;

    #[test]
    fn cells_cut_by_the_side_are_no_measure_of_debris() {
        let mut labels = LabelImage::from_elem((40, 40), -1);
        labels.slice_mut(s![0..1, 0..4]).fill(1);
        let of = |labels: &LabelImage| {
            let labels = SparseLabels::from_signed(labels.clone()).unwrap();
            smallest_object(std::iter::once(&labels))
        };
        assert_eq!(of(&labels), 1.0);
        labels.slice_mut(s![10..20, 10..20]).fill(2);
        assert_eq!(of(&labels), 25.0);
    }
}
