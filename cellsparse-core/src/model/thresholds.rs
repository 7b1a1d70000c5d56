//! Thresholds of the post-processing, and how they are chosen from annotations.

use serde::{Deserialize, Serialize};

use super::predict::Candidates;
use crate::annotations::SparseLabels;
use crate::error::{Error, Result};
use crate::metrics::{Criterion, matching_dataset};

/// Thresholds of the StarDist post-processing that are stored with a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Smallest object probability of a candidate, in `(0, 1)`.
    pub prob: f32,
    /// Largest overlap (intersection by smaller area) that two objects may keep, in `[0, 1]`.
    pub nms: f32,
    /// Objects with fewer pixels are removed: much smaller than any annotated cell. 0 keeps all.
    pub smallest_object: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { prob: 0.5, nms: 0.4, smallest_object: 0.0 }
    }
}

impl Thresholds {
    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Config`] that names the threshold, its value and its range.
    pub fn check(&self) -> Result<()> {
        if !(self.prob > 0.0 && self.prob < 1.0) {
            return Err(Error::Config(format!("prob_thresh is {}; it must lie between 0 and 1", self.prob)));
        }
        if !(0.0..=1.0).contains(&self.nms) {
            return Err(Error::Config(format!("nms_thresh is {}; it must lie between 0 and 1", self.nms)));
        }
        if !(self.smallest_object >= 0.0 && self.smallest_object.is_finite()) {
            return Err(Error::Config(format!(
                "the smallest object is {} pixels; it must be 0 or more",
                self.smallest_object
            )));
        }
        Ok(())
    }
}

/// Probabilities that are tried.
const PROBABILITIES: [f32; 9] = [0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8];

/// Overlaps that are tried, as in the reference.
const OVERLAPS: [f32; 3] = [0.3, 0.4, 0.5];

/// Agreements at which a choice is scored, as in the reference.
const AGREEMENTS: [f64; 3] = [0.3, 0.5, 0.7];

/// Scores that differ by less are the same: with few annotated cells, the smallest step is much larger.
const SAME: f64 = 0.01;

/// Smallest candidate probability that [`choose`] needs.
pub(super) const LOWEST: f32 = PROBABILITIES[0];

/// The thresholds that segment annotated images best, of a grid of values.
///
/// The score is the mean accuracy over the agreements of [`AGREEMENTS`], as in the reference's threshold optimisation;
/// unlabelled pixels do not count. Of equally good choices the one nearest to the defaults is taken, since on a handful
/// of annotated cells many choices are perfect.
///
/// # Errors
/// What the post-processing reports.
pub(super) fn choose(
    images: &[(Candidates, &SparseLabels)],
    smallest_object: f32,
    default: Thresholds,
) -> Result<Thresholds> {
    let mut tried: Vec<(f64, f32, Thresholds)> = Vec::new();
    for nms in OVERLAPS {
        for prob in PROBABILITIES {
            let thresholds = Thresholds { prob, nms, smallest_object };
            let mut predictions = Vec::new();
            for (candidates, labels) in images {
                predictions.push((labels.labels(), candidates.segment(&thresholds, 0.0)?.labels));
            }
            let pairs: Vec<_> = predictions.iter().map(|(truth, predicted)| (*truth, predicted)).collect();
            let scores = matching_dataset(&pairs, &AGREEMENTS, Criterion::Iou, false)?;
            let score = scores.iter().map(|matching| matching.accuracy).sum::<f64>() / scores.len() as f64;
            let distance = (prob - default.prob).abs() + (nms - default.nms).abs();
            tried.push((score, distance, thresholds));
        }
    }
    let best = tried.iter().map(|(score, ..)| *score).fold(0.0, f64::max);
    if best == 0.0 {
        return Ok(Thresholds { smallest_object, ..default });
    }
    let good = tried.into_iter().filter(|(score, ..)| *score >= best - SAME);
    let nearest = good.min_by(|a, b| a.1.total_cmp(&b.1));
    Ok(nearest.map_or(default, |(.., thresholds)| thresholds))
}

/// The area below which an object is taken for debris: a quarter of the smallest annotated cell's.
pub(super) fn smallest_object<'a>(labels: impl Iterator<Item = &'a SparseLabels>) -> f32 {
    let smallest = labels.flat_map(|labels| labels.areas().values().copied()).min().unwrap_or(0);
    smallest as f32 / 4.0
}
