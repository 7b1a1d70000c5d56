//! A model that trains on in short rounds while labels are drawn.

use std::time::{Duration, Instant};

use ndarray::{ArrayView3, s};

use super::doubt::{Suggestion, suggestions};
use super::slide::Slide;
use crate::annotations::Dataset;
use crate::budget::Budget;
use crate::control::{CancelToken, ControlFlow, Progress};
use crate::error::{Error, Result};
use crate::metrics::{Criterion, matching_dataset};
use crate::model::{Algorithm, Architecture, Device, Model, PredictOptions, Segmentation, Threads, TrainOptions};
use crate::raster::{Image, LabelImage, Percentiles};

/// Patches in a batch, and their side: many small batches teach more in the same time.
const BATCH: usize = 4;
pub(super) const PATCH: usize = 128;

/// Steps of the first round, and of any at most.
const FIRST: usize = 6;
const MOST: usize = 400;

/// Pixels up to which a preview is of the whole image.
const WHOLE: usize = 1 << 21;

/// Side of the part of a larger image that a preview looks at, at most.
const SIDE: usize = 1448;

/// Places where to draw next, at most.
const PLACES: usize = 24;

/// How rounds are made.
#[derive(Debug, Clone)]
pub struct RoundOptions {
    /// Time that a round takes, with what comes before and after its steps: as many steps are made as fit into it, after a first
    /// round of 6.
    pub time: Duration,
    /// A short round that also chooses thresholds, which takes longer than some steps: for the end, or a pause. Default false.
    pub settle: bool,
    /// Random stream of batches and augmentations.
    pub seed: u64,
    /// Intensities of the data are scaled already, as [`TrainingData`](super::TrainingData) says. Default false.
    pub normalized: bool,
    /// Where to run.
    pub device: Device,
    /// Compute threads; `None` takes one per core.
    pub threads: Option<usize>,
    /// Memory that a round may take.
    pub memory: Option<Budget>,
    /// Raised by another thread to end the round; what it learned by then is kept.
    pub cancel: CancelToken,
}

impl Default for RoundOptions {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(1500),
            settle: false,
            seed: 0,
            normalized: false,
            device: Device::Auto,
            threads: None,
            memory: None,
            cancel: CancelToken::new(),
        }
    }
}

/// What a round did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Round {
    /// Its number, from 1.
    pub number: usize,
    /// Its steps.
    pub steps: usize,
    /// Steps of all rounds, those before the model was loaded included.
    pub total_steps: u64,
    /// Loss of its last step.
    pub loss: f32,
    /// Its time in seconds.
    pub seconds: f64,
    /// Whether the weights after it are used; else those before it, which segment what is drawn better.
    pub improved: bool,
    /// What a user should know, one sentence each.
    pub notes: Vec<String>,
}

/// Rows and columns of a part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First row and row behind the last one.
    pub rows: [usize; 2],
    /// First column and column behind the last one.
    pub columns: [usize; 2],
}

/// A model in training.
#[derive(Debug)]
pub struct Learner {
    model: Model,
    /// Rounds work on threads of their own, so that previews do not wait for them. Both are shared with the copies that are made
    /// after every round: threads that come and go let a program grow.
    training: Threads,
    rounds: usize,
    /// Seconds of a step, and of what comes before and after all steps of a round, as last measured.
    pace: Option<[f64; 2]>,
}

impl Clone for Learner {
    fn clone(&self) -> Self {
        let mut model = self.model.clone();
        model.use_threads(&self.model.threads());
        Self { model, training: self.training.clone(), rounds: self.rounds, pace: self.pace }
    }
}

impl Learner {
    /// Begins from the starting weights.
    ///
    /// # Errors
    /// [`Error::Config`] for a number of channels that no network has.
    pub fn new(algorithm: Algorithm, channels: usize) -> Result<Self> {
        let channels = if algorithm == Algorithm::Stardist { channels } else { 1 };
        Ok(Self::with_model(Model::new(Architecture::of(algorithm, channels), 0)?))
    }

    /// Goes on with a model.
    pub fn with_model(model: Model) -> Self {
        Self { model, training: Threads::default(), rounds: 0, pace: None }
    }

    /// The model: the best weights so far by what was drawn.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Trains a little more on what is drawn, from where the last round ended, and keeps the better weights. After an error, and
    /// after a round that was cancelled before its first step was done, the model is as it was before.
    ///
    /// # Errors
    /// As [`Model::train`].
    pub fn round(
        &mut self,
        data: &Dataset,
        options: &RoundOptions,
        observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
    ) -> Result<Round> {
        let began = Instant::now();
        let train = TrainOptions {
            steps: Some(if options.settle { FIRST / 2 } else { self.steps(options.time) }),
            batch_size: Some(BATCH),
            patch_size: Some(PATCH),
            resume: self.model.info().resumable,
            round: true,
            keep_thresholds: !options.settle,
            seed: options.seed,
            normalized: options.normalized,
            device: options.device,
            threads: options.threads,
            memory: options.memory,
            cancel: options.cancel.clone(),
            ..TrainOptions::default()
        };
        let previews = self.model.threads();
        self.model.use_threads(&self.training);
        let trained = self.model.train(data, None, &train, observer);
        self.model.use_threads(&previews);
        let summary = trained?;
        self.rounds += 1;
        let seconds = began.elapsed().as_secs_f64();
        if summary.steps > 0 && !options.settle {
            self.pace = Some([summary.seconds_per_step, (seconds - summary.seconds).max(0.0)]);
        }
        Ok(Round {
            number: self.rounds,
            steps: summary.steps,
            total_steps: self.model.info().steps,
            loss: summary.loss,
            seconds,
            improved: summary.kept == "trained",
            notes: summary.notes,
        })
    }

    /// Steps of the next round.
    fn steps(&self, time: Duration) -> usize {
        let Some([step, rest]) = self.pace else { return FIRST };
        let left = (time.as_secs_f64() - rest) / step.max(1e-6);
        (left as usize).clamp(FIRST / 2, MOST)
    }

    /// What the model finds in an image: in the whole one, or in a large one around the middle of `view`. Returns the part that
    /// was looked at; objects that its borders cut are left out.
    ///
    /// # Errors
    /// As [`Model::predict`].
    pub fn preview(
        &self,
        image: &Image,
        view: Option<Window>,
        options: &PredictOptions,
    ) -> Result<(Segmentation, Window)> {
        let (rows, columns, _) = image.shape();
        let whole = Window { rows: [0, rows], columns: [0, columns] };
        if rows * columns <= WHOLE {
            return Ok((self.model.predict(image, options)?, whole));
        }
        let window = view.unwrap_or(whole).around(SIDE, [rows, columns]);
        let [top, bottom] = window.rows;
        let [left, right] = window.columns;
        let pixels = image.to_f32();
        let normalization = self.model.normalization();
        let range = Percentiles::measure(pixels.view(), normalization.pmin, normalization.pmax)?;
        let part: ArrayView3<'_, f32> = pixels.slice(s![top..bottom, left..right, ..]);
        let part = Image::F32(range.apply(part)?);
        let options = PredictOptions { normalized: true, ..options.clone() };
        let found = self.model.predict(&part, &options)?;
        Ok((placed(&found, window, [rows, columns]), window))
    }

    /// As [`preview`](Self::preview) for an image that is read by parts, around the middle of `view`.
    ///
    /// # Errors
    /// As [`Model::predict`]; what reading reports.
    pub fn preview_part(
        &self,
        slide: &Slide,
        view: Option<Window>,
        options: &PredictOptions,
    ) -> Result<(Segmentation, Window)> {
        let [rows, columns, _] = slide.shape();
        let whole = Window { rows: [0, rows], columns: [0, columns] };
        let window = view.unwrap_or(whole).around(SIDE, [rows, columns]);
        let part = slide.scaled(window, self.model.normalization(), &options.cancel)?;
        let options = PredictOptions { normalized: true, ..options.clone() };
        let found = self.model.predict(&part, &options)?;
        Ok((placed(&found, window, [rows, columns]), window))
    }

    /// As [`suggest`](Self::suggest) in a part of an image that is read by parts.
    ///
    /// # Errors
    /// As there; what reading reports.
    pub fn suggest_part(
        &self,
        slide: &Slide,
        window: Window,
        found: &LabelImage,
        drawn: &LabelImage,
        options: &PredictOptions,
    ) -> Result<Vec<Suggestion>> {
        let ([top, bottom], [left, right]) = (window.rows, window.columns);
        let part = slide.scaled(window, self.model.normalization(), &options.cancel)?;
        let options = PredictOptions { normalized: true, ..options.clone() };
        let mirror = self.model.predict(&part.mirrored(), &options)?;
        let cut = |labels: &LabelImage| labels.slice(s![top..bottom, left..right]).to_owned();
        let told = suggestions(&cut(found), &mirror.labels, &cut(drawn), PLACES)?;
        Ok(told.into_iter().map(|one| one.moved([top, left])).collect())
    }

    /// Where to draw next: the model looks at the mirror image too, and tells where it is of two minds. `found` is what it finds
    /// in the image, and `drawn` what is drawn there.
    ///
    /// # Errors
    /// As [`Model::predict`]; [`Error::Labels`] when the sizes differ.
    pub fn suggest(
        &self,
        image: &Image,
        found: &LabelImage,
        drawn: &LabelImage,
        options: &PredictOptions,
    ) -> Result<Vec<Suggestion>> {
        let mirror = self.model.predict(&image.mirrored(), options)?;
        suggestions(found, &mirror.labels, drawn, PLACES)
    }
}

/// How well a segmentation agrees with the drawn cells: the fraction of them that is found with an intersection over union of at
/// least 0.5, and the mean intersection over union of those. Only labelled pixels count.
///
/// # Errors
/// [`Error::Labels`] when the sizes differ.
pub fn agreement(found: &LabelImage, drawn: &LabelImage) -> Result<[f64; 2]> {
    let scores = matching_dataset(&[(drawn, found)], &[0.5], Criterion::Iou, false)?;
    scores.first().map(|score| [score.recall, score.mean_matched_score]).ok_or(Error::Cancelled)
}

impl Window {
    /// A window of at most `side` around the same middle that lies in an image of that size.
    fn around(self, side: usize, size: [usize; 2]) -> Self {
        let along = |[from, to]: [usize; 2], length: usize| {
            let (middle, side) = ((from.min(length) + to.min(length)) / 2, side.min(length));
            let first = middle.saturating_sub(side / 2).min(length - side);
            [first, first + side]
        };
        Self { rows: along(self.rows, size[0]), columns: along(self.columns, size[1]) }
    }
}

/// What was found in a part of an image, as found in the image, without what the borders of the part cut.
fn placed(found: &Segmentation, window: Window, [rows, columns]: [usize; 2]) -> Segmentation {
    let (height, width) = found.labels.dim();
    let mut cut = std::collections::BTreeSet::new();
    for ((row, column), id) in found.labels.indexed_iter() {
        let border = (row == 0 && window.rows[0] > 0)
            || (row + 1 == height && window.rows[1] < rows)
            || (column == 0 && window.columns[0] > 0)
            || (column + 1 == width && window.columns[1] < columns);
        if border && *id > 0 {
            cut.insert(*id);
        }
    }
    let mut labels = LabelImage::zeros((rows, columns));
    let [top, bottom] = window.rows;
    let [left, right] = window.columns;
    for (to, from) in labels.slice_mut(s![top..bottom, left..right]).iter_mut().zip(&found.labels) {
        *to = if cut.contains(from) { 0 } else { *from };
    }
    let objects = found.objects.iter().filter(|object| !cut.contains(&object.id)).cloned().collect();
    let mut placed = Segmentation::new(labels, objects);
    placed.notes.clone_from(&found.notes);
    placed
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
