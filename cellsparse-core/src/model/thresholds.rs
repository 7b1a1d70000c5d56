//! Settings of the post-processing that are stored with a model, and how they are chosen from annotations.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Algorithm, AlgorithmOptions, PredictOptions};
use crate::annotations::SparseLabels;
use crate::error::{Error, Reason, Result};
use crate::metrics::{Criterion, matching_dataset};
use crate::raster::LabelImage;

/// Settings of the post-processing that are stored with a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Thresholds {
    /// Of a StarDist model.
    Stardist(StarThresholds),
    /// Of a Cellpose model.
    Cellpose(CellposeThresholds),
    /// Of an ELEPHANT model.
    Elephant(ElephantThresholds),
}

/// Settings of the StarDist post-processing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StarThresholds {
    /// Smallest object probability of a candidate, in `(0, 1)`.
    pub prob: f32,
    /// Largest overlap (intersection by smaller area) that two objects may keep, in `[0, 1]`.
    pub nms: f32,
    /// Objects with fewer pixels are removed: much smaller than any annotated cell. 0 keeps all.
    pub smallest_object: f32,
}

/// Settings of the Cellpose post-processing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellposeThresholds {
    /// Largest flow error of a cell; 0 keeps all.
    pub flow: f32,
    /// Smallest cell-probability logit of a pixel of a cell.
    pub cellprob: f32,
    /// Diameter in pixels of the cells in the images: the median of the drawn cells.
    pub diameter: f32,
    /// Objects with fewer pixels are removed: much smaller than any annotated cell. 0 keeps all.
    pub smallest_object: f32,
}

/// Settings of the ELEPHANT post-processing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElephantThresholds {
    /// Smallest centre probability of a seed, in `(0, 1)`.
    pub center: f32,
    /// Smallest probability of rim and centre together of a pixel of a cell, in `(0, 1)`.
    pub foreground: f32,
    /// Objects with fewer pixels are removed: much smaller than any annotated cell. 0 keeps all.
    pub smallest_object: f32,
}

impl Default for StarThresholds {
    fn default() -> Self {
        Self { prob: 0.5, nms: 0.4, smallest_object: 0.0 }
    }
}

impl Default for CellposeThresholds {
    fn default() -> Self {
        Self { flow: 0.4, cellprob: 0.0, diameter: 30.0, smallest_object: 15.0 }
    }
}

impl Default for ElephantThresholds {
    fn default() -> Self {
        Self { center: 0.5, foreground: 0.5, smallest_object: 0.0 }
    }
}

impl Thresholds {
    /// The values that a model begins with.
    pub fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Stardist => Self::Stardist(StarThresholds::default()),
            Algorithm::Cellpose => Self::Cellpose(CellposeThresholds::default()),
            Algorithm::Elephant => Self::Elephant(ElephantThresholds::default()),
        }
    }

    /// The algorithm they belong to.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Stardist(_) => Algorithm::Stardist,
            Self::Cellpose(_) => Algorithm::Cellpose,
            Self::Elephant(_) => Algorithm::Elephant,
        }
    }

    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Config`] that names the value and its range.
    pub fn check(&self) -> Result<()> {
        let wrong = |option, found: f32, range, message| {
            Err(Error::Config(message).because(Reason::out_of_range(option, found, range)))
        };
        let fraction = |option, name: &str, value: f32| match value > 0.0 && value < 1.0 {
            true => Ok(()),
            false => wrong(option, value, 0.0..=1.0, format!("{name} is {value}; it must lie between 0 and 1")),
        };
        let smallest = match self {
            Self::Stardist(StarThresholds { prob, nms, smallest_object }) => {
                fraction("prob_thresh", "prob_thresh", *prob)?;
                if !(0.0..=1.0).contains(nms) {
                    let message = format!("nms_thresh is {nms}; it must lie between 0 and 1");
                    return wrong("nms_thresh", *nms, 0.0..=1.0, message);
                }
                smallest_object
            }
            Self::Cellpose(CellposeThresholds { flow, cellprob, diameter, smallest_object }) => {
                if !(*flow >= 0.0 && flow.is_finite()) {
                    let message = format!("flow_threshold is {flow}; it must be 0 (no filter) or more");
                    return wrong("flow_threshold", *flow, 0.0..=f64::INFINITY, message);
                }
                if !cellprob.is_finite() {
                    let message = format!("cellprob_threshold is {cellprob}; give a number, like 0");
                    return wrong("cellprob_threshold", *cellprob, f64::MIN..=f64::MAX, message);
                }
                if !(1.0..=10_000.0).contains(diameter) {
                    let message = format!("the diameter is {diameter}; it must lie between 1 and 10000 pixels");
                    return wrong("diameter", *diameter, 1.0..=10_000.0, message);
                }
                smallest_object
            }
            Self::Elephant(ElephantThresholds { center, foreground, smallest_object }) => {
                fraction("prob_thresh", "prob_thresh", *center)?;
                fraction("foreground", "the foreground threshold", *foreground)?;
                smallest_object
            }
        };
        if !(*smallest >= 0.0 && smallest.is_finite()) {
            let message = format!("the smallest object is {smallest} pixels; it must be 0 or more");
            return wrong("smallest_object", *smallest, 0.0..=f64::INFINITY, message);
        }
        Ok(())
    }

    /// These values for an image that is seen that many times as large: lengths and areas are in pixels of the image.
    pub(super) fn zoomed(mut self, zoom: f64) -> Self {
        let smallest = match &mut self {
            Self::Stardist(star) => &mut star.smallest_object,
            Self::Cellpose(cellpose) => {
                cellpose.diameter = (f64::from(cellpose.diameter) / zoom).clamp(1.0, 10_000.0) as f32;
                &mut cellpose.smallest_object
            }
            Self::Elephant(elephant) => &mut elephant.smallest_object,
        };
        *smallest = (f64::from(*smallest) / (zoom * zoom)) as f32;
        self
    }

    /// These values with those of a caller in their place.
    ///
    /// # Errors
    /// [`Error::Config`] for values out of range, and for options of another algorithm.
    pub fn with(&self, options: &PredictOptions) -> Result<Self> {
        let mut result = *self;
        match (&mut result, options.of(self.algorithm())?) {
            (Self::Stardist(star), AlgorithmOptions::Stardist(given)) => {
                star.prob = given.prob_thresh.unwrap_or(star.prob);
                star.nms = given.nms_thresh.unwrap_or(star.nms);
            }
            (Self::Cellpose(cellpose), AlgorithmOptions::Cellpose(given)) => {
                cellpose.flow = given.flow_threshold.unwrap_or(cellpose.flow);
                cellpose.cellprob = given.cellprob_threshold.unwrap_or(cellpose.cellprob);
                cellpose.diameter = given.diameter.unwrap_or(cellpose.diameter);
            }
            (Self::Elephant(elephant), AlgorithmOptions::Elephant(given)) => {
                elephant.center = given.prob_thresh.unwrap_or(elephant.center);
            }
            (other, given) => return Err(other.misplaced(given.algorithm())),
        }
        result.check()?;
        Ok(result)
    }

    pub(super) fn stardist(&self) -> Result<StarThresholds> {
        match self {
            Self::Stardist(values) => Ok(*values),
            other => Err(other.misplaced(Algorithm::Stardist)),
        }
    }

    pub(super) fn cellpose(&self) -> Result<CellposeThresholds> {
        match self {
            Self::Cellpose(values) => Ok(*values),
            other => Err(other.misplaced(Algorithm::Cellpose)),
        }
    }

    pub(super) fn elephant(&self) -> Result<ElephantThresholds> {
        match self {
            Self::Elephant(values) => Ok(*values),
            other => Err(other.misplaced(Algorithm::Elephant)),
        }
    }

    pub(super) fn misplaced(&self, wanted: Algorithm) -> Error {
        Error::Config(format!("thresholds of {} for a model of {wanted}; give those of {wanted}", self.algorithm()))
    }
}

/// Agreements at which a choice is scored, as in StarDist's threshold optimisation.
const AGREEMENTS: [f64; 3] = [0.3, 0.5, 0.7];

/// The values of a list that segment annotated images best.
///
/// `choices` holds values with their distance from what is to be expected; `segment` gives the label image of one image,
/// whose truth `[H, W]` is with it. The score is the mean accuracy over the agreements of [`AGREEMENTS`]; unlabelled pixels
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
        let scores = matching_dataset(&pairs, &AGREEMENTS, Criterion::Iou, false)?;
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

/// The area below which an object is taken for debris: a quarter of the smallest annotated cell's. Cells that the side of an image
/// cuts say nothing about it, unless there are no others.
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
