//! Training behind the facade.

use std::time::{Duration, Instant};

use serde::Serialize;

use ndarray::Array3;
use rayon::prelude::*;

use super::contrast::Seen;
use super::file::Parts;
use super::judged::Judged;
use super::keep::{Drawn, Score};
use super::pixel_size::at_one_pixel_size;
use super::recipe::{Begin, Recipe};
use super::shape_advice::shape_advice;
use super::stardist::{self, StarDistTask};
use super::starters::{Start, Starter};
use super::work::Work;
use super::working_scale::WorkingScale;
use super::{
    Algorithm, Architecture, Model, PredictOptions, Preset, Thresholds, TrainOptions, cellpose, device, elephant,
};
use crate::annotations::{Dataset, background_rim};
use crate::budget::{Budget, bytes_of};
use crate::completion::complete_labels_until;
use crate::control::{Flow, Progress, StopReason};
use crate::error::{Error, Reason, Result};
use crate::networks::{Device, Engine, Weights};
use crate::raster::LabelImage;
use crate::training::history::History;
use crate::training::trainer::{Engines, LoopOptions, Outcome, Task, TrainingState, train};

/// What a training did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainingSummary {
    /// Optimiser steps done.
    pub steps: usize,
    /// Wall time of the steps and validations.
    pub seconds: f64,
    /// `seconds / steps`.
    pub seconds_per_step: f64,
    /// Loss of the last step.
    pub loss: f32,
    /// Device that did the work.
    pub device: String,
    /// Why it ended.
    pub stopped: StopReason,
    /// What it began with: `random` weights, the `starter` in the library, or a trained `model`.
    pub begun: &'static str,
    /// Whose weights were kept, as they segment what was drawn better: the `trained` ones or those of the `start`.
    pub kept: &'static str,
    /// What a user should know of the result, one sentence each.
    pub notes: Vec<String>,
}

/// What a training leaves beside the model.
struct Ending {
    outcome: Outcome,
    begin: Begin,
    start_kept: bool,
    notes: Vec<String>,
}

/// What can be gone back to after a training.
struct Before {
    weights: Weights,
    thresholds: Thresholds,
    scale: WorkingScale,
}

/// Pixels around a drawn cell that are taken for background.
const RIM: usize = 2;

/// Batches that exist at a time: in the queues between the producer and the loop, in both of their hands, and for validation.
const BATCHES: u64 = 9;

/// Share of a step that goes forward.
const FORWARD: f64 = 0.35;

impl Model {
    /// Trains on annotated images, from the weights the model has now.
    ///
    /// With `validation`, the weights with the lowest validation loss are kept and thresholds are chosen on it; without,
    /// thresholds are chosen on the annotated cells themselves and those that they make plain. `observer` is called after every step and may stop the
    /// training, which then returns normally with the weights so far. The result is the same for every number of
    /// threads.
    ///
    /// # Errors
    /// [`Error::Image`] and [`Error::Labels`] for unusable data, [`Error::Config`] for options out of range,
    /// [`Error::Device`] for an absent device, [`Error::Limit`] for a training that the memory does not suffice for,
    /// [`Error::Diverged`] when the loss or the weights are no longer finite, [`Error::Cancelled`] when it is to stop before
    /// its first step is done; the model is then as it was before. Once the last step is done,
    /// nothing is an error: what goes wrong in the choice of thresholds is among the notes of the summary.
    pub fn train(
        &mut self,
        data: &Dataset,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        observer: &mut (dyn FnMut(&Progress) -> Flow + Send),
    ) -> Result<TrainingSummary> {
        for (name, set) in [("training", Some(data)), ("validation", validation)] {
            for image in set.map(Dataset::images).unwrap_or_default() {
                let place = |error: Error| error.map_message(|message| format!("{name} set: {message}"));
                self.check_channels(image.channels()).map_err(place)?;
            }
            let classes = set.map(Dataset::labels).unwrap_or_default().iter().any(|labels| labels.classes().is_some());
            if classes && !matches!(&self.architecture, Architecture::Stardist(config) if config.n_classes.is_some()) {
                return Err(Error::Labels(format!(
                    "the {name} set says of which class its objects are, and this model of {} has no classes; leave the \
                     classes out, or make a StarDist model with n_classes",
                    self.algorithm()
                )));
            }
        }
        let (device, name) = device::resolve(options.device)?;
        let pool = self.engines.pool_for(options.threads)?;
        let mut train = || self.train_on(data, validation, options, &device, observer);
        let ending = match pool {
            Some(pool) => pool.install(train),
            None => train(),
        }?;
        let outcome = ending.outcome;
        let seconds = outcome.elapsed.as_secs_f64();
        Ok(TrainingSummary {
            steps: outcome.steps,
            seconds,
            seconds_per_step: seconds / outcome.steps.max(1) as f64,
            loss: outcome.loss,
            device: name,
            stopped: outcome.stopped,
            begun: ending.begin.name(),
            kept: if ending.start_kept { "start" } else { "trained" },
            notes: ending.notes,
        })
    }

    fn train_on(
        &mut self,
        data: &Dataset,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        device: &Device,
        observer: &mut (dyn FnMut(&Progress) -> Flow + Send),
    ) -> Result<Ending> {
        let began = Instant::now();
        let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
        let mut fresh = self.clone();
        let own = self.pixel_size.filter(|_| !self.untrained);
        let sized = at_one_pixel_size(own, data, validation, options, budget)?;
        let (data, validation) = (&*sized.data, sized.validation.as_deref());
        fresh.pixel_size = sized.pixel_size;
        let mut notes = sized.notes;
        notes.extend(shape_advice(self.algorithm(), data));
        let begin = fresh.begin(options, &mut notes)?;
        let mut recipe = Recipe::new(self.architecture.algorithm(), options, begin)?;
        if options.preset == Preset::Reference && self.normalization == super::Normalization::default() {
            fresh.normalization = super::Normalization::MIN_MAX;
        }
        // Cellpose scales its crops itself.
        let scaled = options.preset != Preset::Reference && self.algorithm() != Algorithm::Cellpose;
        if scaled && self.untrained {
            fresh.scale = WorkingScale::of(data, options.normalized);
        }
        let patch = fresh.patch_size(&recipe, options, data)?;
        let budget = budget.less(fresh.check_training(&recipe, patch, data, validation, device, budget)?);
        let prepared = training_data(&fresh, data, options)?;
        let judged = match validation {
            // The reference keeps its thresholds.
            _ if options.preset == Preset::Reference => None,
            Some(set) => Some(Judged::new(set, None, fresh.scale.factor, options)),
            // For Cellpose and ELEPHANT nothing is judged but the outlines of the drawn cells: what is found between these is
            // unlabelled and costs nothing, so low thresholds would be taken for good.
            _ if self.algorithm() != Algorithm::Stardist => None,
            None => Some(Judged::new(data, Some(&prepared.1), fresh.scale.factor, options)),
        };
        let drawn = match options.preset {
            Preset::Reference => None,
            _ => Some(Drawn::new(&fresh, data, options)?),
        };
        let started = fresh.weights.clone();
        if let Some(budget) = &mut recipe.limits.time_budget {
            *budget = budget.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            let scored = if begin == Begin::Random { 1.0 } else { 2.0 } * drawn.as_ref().map_or(0.0, Drawn::pixels);
            let pixels = (judged.as_ref().map_or(0.0, Judged::pixels) + scored) * fresh.scale.factor.powi(2);
            recipe.limits.steps_after = FORWARD * pixels / (recipe.batch_size * patch * patch) as f64;
        }
        let run = Run { recipe, patch, device };
        let batch = [run.recipe.batch_size, run.patch];
        let learned = match &self.architecture {
            Architecture::Stardist(config) => {
                if options.preset != Preset::Reference && begin == Begin::Random && self.untrained {
                    stardist::expect_size(&mut fresh.weights, data, fresh.scale);
                }
                let checked =
                    validation.map(|set| StarDistTask::validation(&fresh, config, set, options, batch)).transpose()?;
                let task = StarDistTask::training(config, data, options, batch, prepared)?;
                fresh.fit(&task, checked.as_ref(), validation, options, &run, observer)
            }
            Architecture::Cellpose(config) => {
                let task = cellpose::batches(config, options, batch, prepared)?;
                let checked =
                    validation.map(|set| cellpose::validation(&fresh, config, set, options, batch)).transpose()?;
                fresh.thresholds = cellpose::expect_size(&fresh, task.diameter())?;
                fresh.fit(&task, checked.as_ref(), validation, options, &run, observer)
            }
            Architecture::Elephant(_) => {
                let task = elephant::batches(options, batch, prepared)?;
                let checked = validation.map(|set| elephant::validation(&fresh, set, options, batch)).transpose()?;
                fresh.fit(&task, checked.as_ref(), validation, options, &run, observer)
            }
        };
        let outcome = learned?;
        // From here on, nothing takes back what was learned.
        fresh.engines = std::mem::take(&mut self.engines);
        fresh.engines.clear();
        fresh.seen = Some(Seen::of(data, options.normalized).with(self.seen));
        let before = Before { weights: started, thresholds: self.thresholds, scale: self.scale };
        *self = fresh;
        let mut start_kept = false;
        if outcome.steps > 0 && options.preset != Preset::Reference {
            let stopped = outcome.stopped == StopReason::Cancelled;
            notes.extend(self.settle_thresholds(data, judged, drawn.as_ref(), stopped, options, device, budget));
            // The request that ended the training was answered; the next one ends the comparison.
            let cancel = if stopped { options.cancel.renewed() } else { options.cancel.clone() };
            let work = Work::plain(device, &cancel, budget);
            let compared = drawn.map(|drawn| self.keep_better(before, begin, stopped, &drawn, &work, &mut notes));
            match compared.unwrap_or(Ok(false)) {
                Ok(kept) => start_kept = kept,
                Err(error) => notes.push(format!(
                    "the weights before and after the training could not be compared, those after it are kept: {error}"
                )),
            }
        }
        Ok(Ending { outcome, begin, start_kept, notes })
    }

    /// Gives a new model the starting weights that it shall have, and says what the training begins with.
    fn begin(&mut self, options: &TrainOptions, notes: &mut Vec<String>) -> Result<Begin> {
        if !self.untrained {
            return Ok(Begin::Trained);
        }
        if self.started {
            return Ok(Begin::Starter);
        }
        if options.preset == Preset::Reference || options.start != Start::Starter || options.resume {
            return Ok(Begin::Random);
        }
        let Some(starter) = Starter::shipped(self.algorithm())? else { return Ok(Begin::Random) };
        match self.begin_with(&starter)? {
            Ok(()) => Ok(Begin::Starter),
            Err(reason) => {
                notes.push(format!("the training began with random weights: {reason}"));
                Ok(Begin::Random)
            }
        }
    }

    /// Goes back to what was there `before` the training when that segments what was drawn better, and
    /// says whether it did. Thresholds that find none of the drawn cells are lowered, unless the training
    /// was `stopped`.
    fn keep_better(
        &mut self,
        before: Before,
        begin: Begin,
        stopped: bool,
        drawn: &Drawn,
        work: &Work<'_>,
        notes: &mut Vec<String>,
    ) -> Result<bool> {
        let stored = PredictOptions::default();
        let mut trained = drawn.score(self, work, &stored)?;
        if trained.accuracy == 0.0 && !stopped {
            trained = drawn.lower_thresholds(self, work)?.unwrap_or_default();
        }
        if begin != Begin::Random {
            let mut start = Model { weights: before.weights, ..self.clone() };
            if begin == Begin::Trained {
                (start.thresholds, start.scale) = (before.thresholds, before.scale);
            } else {
                // Statistics of the drawn fields say nothing about these images.
                start.weights.take_statistics(&self.weights);
            }
            let score = drawn.score(&start, work, &stored)?;
            if score.beats(&trained, begin) {
                notes.push(format!(
                    "the weights before the training were kept: on the drawn cells they reach {:.2}, those after it {:.2}",
                    score.accuracy, trained.accuracy
                ));
                (self.weights, self.thresholds, self.scale) = (start.weights, start.thresholds, start.scale);
                self.engines.clear();
                return Ok(true);
            }
        }
        if trained == Score::default() {
            notes.push(
                "none of the drawn cells is found again; train longer, or draw more cells of the same kind".into(),
            );
        }
        Ok(false)
    }

    /// Refuses a training for which there is not enough memory; returns the bytes that its data take.
    fn check_training(
        &self,
        recipe: &Recipe,
        patch: usize,
        data: &Dataset,
        validation: Option<&Dataset>,
        device: &Device,
        budget: Budget,
    ) -> Result<u64> {
        let mut taken: u64 = 0;
        for (image, labels) in data.images().iter().zip(data.labels()) {
            let [rows, columns] = self.working_sides(image.height(), image.width(), self.scale.for_labels(labels))?;
            // Intensities, labels, and targets of up to four values.
            taken = taken.saturating_add(bytes_of(&[rows, columns, self.architecture.n_channels() + 5], 4));
        }
        budget.require(
            taken,
            format_args!("training on {} images, as the network sees them,", data.len()),
            "take fewer or smaller images, or allow more memory",
        )?;
        let shape = [recipe.batch_size, patch, patch];
        // Patches and what is to be learned from them, in batches that are made ahead.
        let values = self.graph.outputs().iter().map(|&node| {
            let node = &self.graph.nodes()[node];
            bytes_of(&node.size(patch, patch), node.channels as u64)
        });
        let values = values.fold(bytes_of(&[patch, patch, self.graph.input_channels()], 1), u64::saturating_add);
        let mut bytes = taken.saturating_add(values.saturating_mul(4 * BATCHES * recipe.batch_size as u64));
        if device.is_cpu() {
            bytes = bytes.saturating_add(self.graph.bytes(shape, true)?);
            if let Some(set) = validation {
                bytes = bytes.saturating_add(self.graph.bytes([set.len().min(64), patch, patch], false)?);
            }
        }
        // Gradients, the weights that move, what the optimiser remembers, and copies.
        bytes = bytes.saturating_add(32 * self.weights.count() as u64);
        budget.require(
            bytes,
            format_args!("training on batches of {} patches of {patch} x {patch} pixels", recipe.batch_size),
            "take a smaller batch_size or patch_size, or allow more memory",
        )?;
        Ok(taken)
    }

    /// Runs the training loop and takes over what was learned.
    pub(super) fn fit<T: Task>(
        &mut self,
        task: &T,
        checked: Option<&T>,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        run: &Run<'_>,
        observer: &mut (dyn FnMut(&Progress) -> Flow + Send),
    ) -> Result<Outcome> {
        let engine = |batch: usize, training: bool| {
            Engine::new(&self.graph, run.device, [batch, run.patch, run.patch], training)
        };
        let mut engines = Engines {
            training: engine(run.recipe.batch_size, true)?,
            validation: match validation {
                Some(set) => Some(engine(set.len().min(64), false)?),
                None => None,
            },
        };
        let mut state = self.initial_state(options, &run.recipe)?;
        let mut history = self.history.clone();
        let model = &*self;
        let mut on_save = |state: &TrainingState, weights: &Weights, history: &History| {
            let Some(path) = &options.checkpoint else { return Ok(()) };
            Parts { model, weights, state: Some(state), history, untrained: false }.save(path)
        };
        let limits: &LoopOptions = &run.recipe.limits;
        let outcome = train(&mut engines, task, checked, &mut state, &mut history, limits, observer, &mut on_save)?;
        drop(engines);
        self.weights = outcome.weights.clone();
        self.state = Some(state);
        self.history = history;
        self.untrained = false;
        self.engines.clear();
        Ok(outcome)
    }

    fn initial_state(&self, options: &TrainOptions, recipe: &Recipe) -> Result<TrainingState> {
        if !options.resume {
            let optimizer = recipe.optimizer(&self.weights);
            return Ok(TrainingState { weights: self.weights.clone(), optimizer, batches: 0, carried: 0.0 });
        }
        let mut state = self.state.clone().ok_or_else(|| {
            Error::Config("the model holds no optimiser state to resume from; train it first, or without resume".into())
                .because(Reason::NotResumable)
        })?;
        recipe.take_over(&mut state)?;
        Ok(state)
    }

    /// The side of the training patches, rounded up to what the network divides by. A size that the caller did not ask for
    /// is no larger than the largest image.
    fn patch_size(&self, recipe: &Recipe, options: &TrainOptions, data: &Dataset) -> Result<usize> {
        let [rows, columns] = self.graph.divisor();
        let unit = rows.max(columns);
        let wanted = recipe.patch_size;
        if !(unit..=4096).contains(&wanted) {
            return Err(Error::Config(format!("patch_size is {wanted}; it must lie between {unit} and 4096 pixels"))
                .because(Reason::out_of_range("patch_size", wanted as f64, unit as f64..=4096.0)));
        }
        let mut largest = 0;
        for (image, labels) in data.images().iter().zip(data.labels()) {
            let scale = self.scale.for_labels(labels);
            largest = self.working_sides(image.height(), image.width(), scale)?.into_iter().fold(largest, usize::max);
        }
        let asked = options.patch_size.is_some() || options.preset == Preset::Reference;
        Ok(if asked { wanted } else { wanted.min(largest) }.next_multiple_of(unit))
    }
}

/// How one training runs.
pub(super) struct Run<'a> {
    pub recipe: Recipe,
    /// Side of the patches, a multiple of what the network divides by.
    pub patch: usize,
    pub device: &'a Device,
}

/// Inputs of the network and label images for training.
///
/// Unless the reference is followed, the unlabelled pixels beside a drawn cell become background, since nothing else says
/// where cells end, and what the drawn labels make plain elsewhere is added, since a handful of cells is a fraction of what
/// a network needs to see.
pub(super) fn training_data(
    model: &Model,
    data: &Dataset,
    options: &TrainOptions,
) -> Result<(Vec<Array3<f32>>, Vec<LabelImage>)> {
    let scales: Vec<f64> = data.labels().iter().map(|labels| model.scale.for_labels(labels)).collect();
    let input = |(image, scale)| -> Result<Array3<f32>> {
        options.cancel.check()?;
        Ok(model.to_working(model.network_input(image, options.normalized)?.into(), scale)?.into_owned())
    };
    let images = data.images().iter().zip(scales.iter().copied()).map(input).collect::<Result<Vec<_>>>()?;
    let drawn =
        data.labels().iter().zip(&scales).map(|(labels, scale)| model.labels_to_working(labels.labels(), *scale));
    let drawn = drawn.collect::<Result<Vec<_>>>()?;
    if options.preset == Preset::Reference {
        return Ok((images, drawn));
    }
    let pairs = images.par_iter().zip(&drawn).enumerate();
    let completed = pairs.map(|(index, (image, labels))| {
        options.cancel.check()?;
        let drawn = background_rim(labels, RIM);
        complete_labels_until(image.view(), &drawn, options.seed.wrapping_add(index as u64), &options.cancel)
    });
    let labels = completed.collect::<Result<Vec<_>>>()?;
    Ok((images, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::SparseLabels;
    use crate::networks::StarDistConfig;
    use crate::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};

    #[test]
    fn what_comes_before_the_first_step_ends_when_it_is_cancelled() {
        let field = draw_field(&FieldOptions::default(), 1).unwrap();
        let drawn = annotate(&field, &AnnotationOptions::default(), 1);
        let labels = SparseLabels::from_signed(drawn.clone()).unwrap();
        let data = Dataset::new(vec![field.image], vec![labels]).unwrap();
        let mut model = Model::stardist(StarDistConfig::default(), 0).unwrap();
        let options = TrainOptions::default();
        let prepared = |model: &Model| training_data(model, &data, &options);
        assert_ne!(prepared(&model).unwrap().1, [background_rim(&drawn, RIM)]);
        options.cancel.cancel();
        assert!(matches!(prepared(&model), Err(Error::Cancelled)));
        let before = model.weights().clone();
        let ended = model.train(&data, None, &options, &mut |_| Flow::Continue);
        assert!(matches!(ended, Err(Error::Cancelled)) && *model.weights() == before);
    }
}
