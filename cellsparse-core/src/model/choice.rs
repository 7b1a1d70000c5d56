//! Which algorithm suits the drawn cells: each trains briefly on half of them and is tried on the other half.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::engines::EngineCache;
use super::facade::Model;
use super::options::{PredictOptions, TrainOptions};
use super::pixel_size::at_one_pixel_size;
use super::registry::{Algorithm, Architecture};
use crate::annotations::{Dataset, SparseLabels};
use crate::budget::Budget;
use crate::control::{CancelToken, ControlFlow};
use crate::error::{Error, Result};
use crate::metrics::pair_runs;
use crate::raster::{Image, LabelImage};

/// The algorithm that finds drawn cells best that it was not shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Choice {
    /// The algorithm to train.
    pub algorithm: Algorithm,
    /// What each algorithm reached, best first.
    pub trials: Vec<Trial>,
    /// One line for a person: which, and why.
    pub reason: String,
}

/// What one algorithm reached on cells that it was not shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trial {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Mean overlap (IoU, 0 to 1) of the left-out cells with the object that fits each best, where an object on drawn
    /// background counts as a cell with overlap 0.
    pub score: f64,
}

/// Optimiser steps of one trial: enough to see whether starting weights take to the cells.
const STEPS: usize = 20;

/// Fraction of a time budget that all trials together may take.
const SHARE: f64 = 0.3;

/// Images and pixels that trials look at, at most: a choice needs no more.
const IMAGES: usize = 8;
const PIXELS: usize = 2_000_000;

/// Tries every algorithm on the drawn cells and tells which one to train.
///
/// The cells, sorted by area, are dealt to two halves. Each algorithm trains 20 steps of small batches (no more than
/// `options.steps`) on one half, with the other half unlabelled, and is scored on it; then the halves change places. With
/// a single drawn cell there is nothing to leave out, and the algorithms are scored on it. `options` are those of the
/// training to come; of its time budget the trials take at most three tenths. An algorithm whose trial fails (for example
/// for the number of channels) scores 0.
///
/// # Errors
/// [`Error::Cancelled`] when the cancel token is raised; what the last algorithm reported when all of them fail.
pub fn choose_algorithm(data: &Dataset, options: &TrainOptions) -> Result<Choice> {
    // One pool for all trials and what comes before them.
    EngineCache::default().install(options.threads, || choose(data, options))
}

fn choose(data: &Dataset, options: &TrainOptions) -> Result<Choice> {
    let data = excerpt(data)?;
    let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
    let data = at_one_pixel_size(None, &data, None, options, budget)?.data.into_owned();
    let folds = folds(&data, &options.cancel)?;
    let mut candidates = Algorithm::ALL.to_vec();
    candidates.sort_by_key(|algorithm| algorithm.facts().rank);
    let budget = options.time_budget.map(|budget| budget.mul_f64(SHARE / (candidates.len() * folds.len()) as f64));
    let mut trials = Vec::new();
    let mut failure = None;
    for algorithm in candidates {
        let mut sum = Score::default();
        for fold in &folds {
            match trial(algorithm, fold, options, budget) {
                Ok(score) => sum.add(score),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => failure = Some(error),
            }
            if options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        trials.push(Trial { algorithm, score: sum.value() });
    }
    // The sort is stable: equals stay in the order of their ranks.
    trials.sort_by(|a, b| b.score.total_cmp(&a.score));
    match (trials.first(), failure) {
        (Some(best), failure) if best.score > 0.0 || failure.is_none() => {
            Ok(Choice { algorithm: best.algorithm, reason: reason(&trials, folds.len() > 1), trials })
        }
        (_, Some(error)) => Err(error),
        (_, None) => Err(Error::Internal("no algorithm was tried".into())),
    }
}

/// What to train on, and the cells to be found.
struct Fold {
    train: Dataset,
    /// Images with the cells that were left out (1 and up), the drawn background (0) and the rest (-1).
    held_out: Vec<(Image, LabelImage)>,
}

/// Overlaps of the cells that should be found, and how many values they are the sum of.
#[derive(Default)]
struct Score {
    overlap: f64,
    count: usize,
}

impl Score {
    fn add(&mut self, other: Self) {
        self.overlap += other.overlap;
        self.count += other.count;
    }

    fn value(&self) -> f64 {
        self.overlap / self.count.max(1) as f64
    }
}

fn trial(algorithm: Algorithm, fold: &Fold, options: &TrainOptions, budget: Option<Duration>) -> Result<Score> {
    let mut model = Model::new(Architecture::of(algorithm, fold.train.channels()), options.seed)?;
    let options = TrainOptions {
        steps: Some(options.steps.map_or(STEPS, |steps| steps.min(STEPS))),
        batch_size: Some(4),
        patch_size: Some(128),
        learning_rate: None,
        time_budget: budget,
        resume: false,
        checkpoint: None,
        // A trial that is stopped says nothing: it need not be made usable.
        cancel: options.cancel.for_good(),
        ..options.clone()
    };
    model.train(&fold.train, None, &options, &mut |_| ControlFlow::Continue)?;
    let predict = PredictOptions {
        normalized: options.normalized,
        device: options.device,
        precision: options.precision,
        threads: options.threads,
        cancel: options.cancel.clone(),
        ..PredictOptions::default()
    };
    let mut sum = Score::default();
    for (image, wanted) in &fold.held_out {
        sum.add(score(wanted, &model.predict(image, &predict)?.labels));
        options.cancel.check()?;
    }
    Ok(sum)
}

/// The best overlap of every wanted cell, and a 0 for every found object that lies mostly on drawn background.
fn score(wanted: &LabelImage, found: &LabelImage) -> Score {
    let mut cells: BTreeMap<i32, usize> = BTreeMap::new();
    let mut objects: BTreeMap<i32, (usize, usize)> = BTreeMap::new();
    let mut shared: BTreeMap<(i32, i32), usize> = BTreeMap::new();
    for (cell, object, pixels) in pair_runs(wanted, found) {
        if cell > 0 {
            *cells.entry(cell).or_default() += pixels;
        }
        if object > 0 {
            let (area, on_background) = objects.entry(object).or_default();
            *area += pixels;
            *on_background += if cell == 0 { pixels } else { 0 };
        }
        if cell > 0 && object > 0 {
            *shared.entry((cell, object)).or_default() += pixels;
        }
    }
    let mut best: BTreeMap<i32, f64> = cells.keys().map(|id| (*id, 0.0)).collect();
    for (&(cell, object), &common) in &shared {
        let union = cells[&cell] + objects[&object].0 - common;
        let overlap = best.entry(cell).or_default();
        *overlap = overlap.max(common as f64 / union as f64);
    }
    let wrong = objects.values().filter(|(area, on_background)| 2 * on_background > *area).count();
    Score { overlap: best.values().sum(), count: best.len() + wrong }
}

/// Two halves of the drawn cells, each to train on while the other one is left out; one fold of everything when there is
/// only one cell.
///
/// # Errors
/// [`Error::Cancelled`].
fn folds(data: &Dataset, cancel: &CancelToken) -> Result<Vec<Fold>> {
    let mut cells: Vec<(usize, usize, i32)> = Vec::new();
    for (index, labels) in data.labels().iter().enumerate() {
        cells.extend(labels.areas().iter().map(|(&id, &area)| (area, index, id)));
    }
    cells.sort_unstable();
    if cells.len() < 2 {
        let pairs = data.images().iter().zip(data.labels());
        let held_out = pairs.map(|(image, labels)| (image.clone(), labels.labels().clone())).collect();
        return Ok(vec![Fold { train: data.clone(), held_out }]);
    }
    let mut folds = Vec::new();
    for half in 0..2 {
        let (mut images, mut labels, mut held_out) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (image, drawn)) in data.images().iter().zip(data.labels()).enumerate() {
            let left_out: BTreeSet<i32> = cells
                .iter()
                .enumerate()
                .filter(|(position, cell)| position % 2 == half && cell.1 == index)
                .map(|(_, cell)| cell.2)
                .collect();
            let keep = |out: bool| -> Result<LabelImage> {
                cancel.check()?;
                // Neighbouring pixels mostly have one id.
                let mut latest = (0, 0);
                Ok(drawn.labels().mapv(|id| {
                    if id != latest.0 {
                        latest = (id, if id > 0 && left_out.contains(&id) != out { -1 } else { id });
                    }
                    latest.1
                }))
            };
            if left_out.len() < drawn.object_count() {
                images.push(image.clone());
                labels.push(SparseLabels::from_signed(keep(false)?)?);
            }
            if !left_out.is_empty() {
                held_out.push((image.clone(), keep(true)?));
            }
        }
        folds.push(Fold { train: Dataset::new(images, labels)?, held_out });
    }
    Ok(folds)
}

/// Evenly spaced images of the data, few enough to be looked at several times.
fn excerpt(data: &Dataset) -> Result<Dataset> {
    let step = data.len().div_ceil(IMAGES).max(1);
    let (mut images, mut labels, mut sizes, mut pixels) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for ((image, drawn), size) in data.images().iter().zip(data.labels()).zip(data.pixel_sizes()).step_by(step) {
        let (height, width) = drawn.labels().dim();
        if drawn.object_count() == 0 || (!images.is_empty() && pixels + height * width > PIXELS) {
            continue;
        }
        pixels += height * width;
        images.push(image.clone());
        labels.push(drawn.clone());
        sizes.push(*size);
    }
    if images.is_empty() { Ok(data.clone()) } else { Dataset::new(images, labels)?.with_pixel_sizes(sizes) }
}

fn reason(trials: &[Trial], folded: bool) -> String {
    let mut text = match trials.first() {
        Some(best) => format!("{} fits the drawn cells best", best.algorithm),
        None => String::new(),
    };
    let what =
        if folded { "mean overlap with cells left out of short trainings" } else { "overlap with the drawn cell" };
    let list: Vec<String> = trials.iter().map(|trial| format!("{} {:.2}", trial.algorithm, trial.score)).collect();
    let _ = write!(text, " ({what}: {})", list.join(", "));
    text
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn overlaps_count_and_objects_on_drawn_background_count_against() {
        let wanted = array![[1, 1, 0, 0], [1, 1, 0, 0], [-1, -1, 2, 2], [-1, -1, 2, 2]];
        let exact = array![[5, 5, 0, 0], [5, 5, 0, 0], [0, 0, 7, 7], [0, 0, 7, 7]];
        assert_eq!(score(&wanted, &exact).value(), 1.0);
        let half = array![[5, 5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]];
        assert_eq!(score(&wanted, &half).value(), 0.25);
        let extra = array![[5, 5, 9, 9], [5, 5, 0, 0], [3, 3, 7, 7], [3, 3, 7, 7]];
        assert!((score(&wanted, &extra).value() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn halves_share_no_cell_and_both_have_all_sizes() {
        let labels = SparseLabels::from_signed(array![[1, 0, 2, 2, -1, 3, 3, 3, 0, 4, 4, 4, 4, 0]]).unwrap();
        let image = Image::U8(ndarray::Array3::zeros((1, 14, 1)));
        let data = Dataset::new(vec![image], vec![labels]).unwrap();
        let folds = folds(&data, &CancelToken::new()).unwrap();
        assert_eq!(folds.len(), 2);
        for fold in &folds {
            let shown: Vec<i32> = fold.train.labels()[0].ids().collect();
            let hidden: Vec<i32> =
                [1, 2, 3, 4].into_iter().filter(|id| fold.held_out[0].1.iter().any(|pixel| pixel == id)).collect();
            assert_eq!(shown.len(), 2);
            assert_eq!(hidden.len(), 2);
            assert!(shown.iter().all(|id| !hidden.contains(id)));
            assert!(fold.train.labels()[0].labels().iter().filter(|label| **label == 0).count() == 3);
        }
    }
}
