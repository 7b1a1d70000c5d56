//! Training behind the facade.

use std::path::Path;
use std::time::Duration;

use candle_core::Device;
use serde::Serialize;

use super::stardist::StarDistTask;
use super::thresholds::{LOWEST, Thresholds, choose, smallest_object};
use super::{Model, Preset, TrainOptions, device};
use crate::annotations::{Dataset, SparseLabels};
use crate::control::{CancelToken, Flow, Progress};
use crate::error::{Error, Result};
use crate::networks::Engine;
use crate::training::history::History;
use crate::training::optimizer::Adam;
use crate::training::schedule::Schedule;
use crate::training::trainer::{Engines, LoopOptions, Outcome, Stopped, TrainingState, train};

/// What a training did.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Why it ended: `finished`, `no improvement`, `time budget` or `cancelled`.
    pub stopped: &'static str,
}

/// Steps of a training without a number of steps and without a time budget.
const STEPS: usize = 200;

/// Images that thresholds are chosen on, at most.
const THRESHOLD_IMAGES: usize = 16;

impl Model {
    /// Trains on annotated images, from the weights the model has now.
    ///
    /// With `validation`, the weights with the lowest validation loss are kept and thresholds are chosen on it; without,
    /// thresholds are chosen on the annotated cells themselves. `observer` is called after every step and may stop the
    /// training, which then returns normally with the weights so far. The result is the same for every number of
    /// threads.
    ///
    /// # Errors
    /// [`Error::Image`] and [`Error::Labels`] for unusable data, [`Error::Config`] for options out of range,
    /// [`Error::Device`] for an absent device, [`Error::Diverged`] when the loss is no longer finite; the model is then
    /// as it was before.
    pub fn train(
        &mut self,
        data: &Dataset,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        observer: &mut (dyn FnMut(&Progress) -> Flow + Send),
    ) -> Result<TrainingSummary> {
        for (name, set) in [("training", Some(data)), ("validation", validation)] {
            for image in set.map(Dataset::images).unwrap_or_default() {
                self.check_channels(image.channels()).map_err(|error| Error::Image(format!("{name} set: {error}")))?;
            }
        }
        let (device, name) = device::resolve(options.device)?;
        let pool = device::thread_pool(options.threads)?;
        let outcome = pool.install(|| self.train_on(data, validation, options, &device, observer))?;
        let seconds = outcome.elapsed.as_secs_f64();
        Ok(TrainingSummary {
            steps: outcome.steps,
            seconds,
            seconds_per_step: seconds / outcome.steps.max(1) as f64,
            loss: outcome.loss,
            device: name,
            stopped: match outcome.stopped {
                Stopped::Finished => "finished",
                Stopped::NoImprovement => "no improvement",
                Stopped::TimeBudget => "time budget",
                Stopped::Cancelled => "cancelled",
            },
        })
    }

    fn train_on(
        &mut self,
        data: &Dataset,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        device: &Device,
        observer: &mut (dyn FnMut(&Progress) -> Flow + Send),
    ) -> Result<Outcome> {
        let loop_options = loop_options(options)?;
        let patch = self.patch_size(options)?;
        let mut fresh = self.clone();
        if options.preset == Preset::Reference {
            fresh.normalization = super::Normalization::MIN_MAX;
        } else if self.untrained {
            fresh.expect_size(data);
        }
        let task = StarDistTask::training(&fresh, data, options, patch)?;
        let validation_task = match validation {
            Some(set) => Some(StarDistTask::validation(&fresh, set, options, patch)?),
            None => None,
        };
        let engine = |batch: usize, training: bool| Engine::new(&self.graph, device, [batch, patch, patch], training);
        let mut engines = Engines {
            training: engine(options.batch_size, true)?,
            validation: match validation {
                Some(set) => Some(engine(set.len().min(64), false)?),
                None => None,
            },
        };
        let mut state = fresh.initial_state(options)?;
        let mut history = self.history.clone();
        let snapshot = fresh.clone();
        let mut on_epoch = |state: &TrainingState, weights: &crate::networks::Weights, history: &History| {
            let Some(path) = &options.checkpoint else { return Ok(()) };
            save_checkpoint(&snapshot, state, weights, history, path)
        };
        let outcome = train(
            &mut engines,
            &task,
            validation_task.as_ref(),
            &mut state,
            &mut history,
            &loop_options,
            observer,
            &mut on_epoch,
        )?;
        drop(engines);
        fresh.weights = outcome.weights.clone();
        fresh.state = Some(state);
        fresh.history = history;
        fresh.untrained = false;
        fresh.engines.clear();
        if outcome.steps > 0 && options.preset != Preset::Reference {
            fresh.thresholds = fresh.choose_thresholds(data, validation, device)?;
        }
        *self = fresh;
        Ok(outcome)
    }

    /// Lets a new network begin with rays as long as the annotated cells' mean radius: with rays of length 0 to begin
    /// with, most of a short training is spent on growing them.
    fn expect_size(&mut self, data: &Dataset) {
        let areas: Vec<usize> = data.labels().iter().flat_map(|labels| labels.areas().values().copied()).collect();
        let radii = areas.iter().map(|area| (*area as f64 / std::f64::consts::PI).sqrt());
        let mean = (radii.sum::<f64>() / areas.len().max(1) as f64) as f32;
        for parameter in self.weights.parameters_mut() {
            if parameter.spec.name == "dist/bias" {
                parameter.values.fill(mean);
            }
        }
    }

    fn initial_state(&self, options: &TrainOptions) -> Result<TrainingState> {
        if !options.resume {
            let optimizer = Adam::new(&self.weights).into();
            return Ok(TrainingState { weights: self.weights.clone(), optimizer, batches: 0 });
        }
        self.state.clone().ok_or_else(|| {
            Error::Config("the model holds no optimiser state to resume from; train it first, or without resume".into())
        })
    }

    /// The side of the training patches, rounded up to what the network divides by.
    fn patch_size(&self, options: &TrainOptions) -> Result<usize> {
        let [rows, columns] = self.graph.divisor();
        let unit = rows.max(columns);
        if !(unit..=4096).contains(&options.patch_size) {
            return Err(Error::Config(format!(
                "patch_size is {}; it must lie between {unit} and 4096 pixels",
                options.patch_size
            )));
        }
        Ok(options.patch_size.next_multiple_of(unit))
    }

    fn choose_thresholds(&self, data: &Dataset, validation: Option<&Dataset>, device: &Device) -> Result<Thresholds> {
        let set = validation.unwrap_or(data);
        let step = set.len().div_ceil(THRESHOLD_IMAGES).max(1);
        let mut images: Vec<(_, &SparseLabels)> = Vec::new();
        for (image, labels) in set.images().iter().zip(set.labels()).step_by(step) {
            let normalised = self.normalization.apply(image)?;
            let found = self.candidates(normalised.view(), LOWEST, None, device, &CancelToken::new())?;
            images.push((found, labels));
        }
        choose(&images, smallest_object(data.labels().iter()), Thresholds::default())
    }
}

/// The loop of a preset.
fn loop_options(options: &TrainOptions) -> Result<LoopOptions> {
    if options.batch_size == 0 || options.batch_size > 256 {
        return Err(Error::Config(format!("batch_size is {}; it must lie between 1 and 256", options.batch_size)));
    }
    if options.steps == Some(0) {
        return Err(Error::Config("steps is 0; it must be at least 1".into()));
    }
    if options.time_budget.is_some_and(|budget| budget < Duration::from_millis(1)) {
        return Err(Error::Config("the time budget is 0; give it in seconds, like 60".into()));
    }
    let steps = options.steps.unwrap_or(if options.time_budget.is_some() { 1_000_000 } else { STEPS });
    let reference = options.preset == Preset::Reference;
    let learning_rate = options.learning_rate.unwrap_or(if reference { 1e-3 } else { 2e-3 });
    if !(learning_rate > 0.0 && learning_rate <= 1e4) {
        return Err(Error::Config(format!("the learning rate is {learning_rate}; it must be above 0, like 0.001")));
    }
    Ok(LoopOptions {
        steps,
        steps_per_epoch: if reference { 200.min(steps) } else { 25.min(steps) },
        learning_rate,
        schedule: if reference {
            Schedule::ReduceOnPlateau { factor: 0.5, patience: 40 }
        } else {
            Schedule::Cosine { warmup: 0.05, floor: 0.02 }
        },
        weight_decay: 0.0,
        average: None,
        patience: if reference { None } else { Some(20) },
        time_budget: options.time_budget,
        cancel: options.cancel.clone(),
    })
}

fn save_checkpoint(
    model: &Model,
    state: &TrainingState,
    weights: &crate::networks::Weights,
    history: &History,
    path: &Path,
) -> Result<()> {
    let mut model = model.clone();
    model.weights = weights.clone();
    model.state = Some(state.clone());
    model.history = history.clone();
    model.untrained = false;
    model.save(path)
}
