//! The training loop applied to a model: what it takes, what it begins with, what it leaves.

use super::facade::Model;
use super::file::Parts;
use super::options::{Preset, TrainOptions};
use super::recipe::{Recipe, take_over};
use super::working_scale::scaled_sides;
use crate::annotations::Dataset;
use crate::budget::{Budget, bytes_of};
use crate::control::{ControlFlow, Progress};
use crate::error::{Error, Reason, Result, counted};
use crate::networks::{Device, Engine, Weights};
use crate::training::history::History;
use crate::training::task::Task;
use crate::training::trainer::{Engines, LoopOptions, TrainingOutcome, TrainingState, train};

/// Batches that exist at a time: in the queues between the producer and the loop, in both of their hands, and for validation.
const BATCHES: u64 = 9;

/// Images of a validation that make its one batch, at most.
const VALIDATION_BATCH: usize = 64;

/// Patches in the one batch of a validation: one of every image.
pub(super) fn validation_batch(set: &Dataset) -> usize {
    set.len().min(VALIDATION_BATCH)
}

/// How one training runs.
pub(super) struct Run<'a> {
    pub recipe: Recipe,
    /// Side of the patches, a multiple of what the network divides by.
    pub patch: usize,
    pub device: &'a Device,
}

impl Model {
    /// Refuses a training for which there is not enough memory; returns the bytes that its data take.
    pub(super) fn check_training(
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
            let [rows, columns] = scaled_sides([image.height(), image.width()], self.network.scale.for_labels(labels))?;
            // Intensities, labels, and targets of up to four values.
            taken = taken.saturating_add(bytes_of(&[rows, columns, self.network.graph.input_channels() + 5], 4));
        }
        budget.require(
            taken,
            format_args!("training on {}, as the network sees them,", counted(data.len(), "image")),
            "take fewer or smaller images, or allow more memory",
        )?;
        let shape = [self.images_at_once([recipe.batch_size, patch, patch], device), patch, patch];
        // Patches and what is to be learned from them, in batches that are made ahead.
        let values = self.network.graph.outputs().iter().map(|&node| {
            let node = &self.network.graph.nodes()[node];
            bytes_of(&node.size(patch, patch), node.channels as u64)
        });
        let values =
            values.fold(bytes_of(&[patch, patch, self.network.graph.input_channels()], 1), u64::saturating_add);
        let mut bytes = taken.saturating_add(values.saturating_mul(4 * BATCHES * recipe.batch_size as u64));
        if device.is_cpu() {
            bytes = bytes.saturating_add(self.network.graph.bytes(shape, true)?);
            if let Some(set) = validation {
                bytes = bytes.saturating_add(self.network.graph.bytes([validation_batch(set), patch, patch], false)?);
            }
        }
        // Gradients, also those of a part of a batch, the weights that move, what the optimiser remembers, and copies.
        bytes = bytes.saturating_add(32 * self.network.weights.count() as u64);
        budget.require(
            bytes,
            format_args!("training on batches of {} of {patch} x {patch} pixels", counted(recipe.batch_size, "patch")),
            "take a smaller batch_size or patch_size, or allow more memory",
        )?;
        Ok(taken)
    }

    /// How many images of a batch `[batch, height, width]` a training passes through the network at once.
    fn images_at_once(&self, shape: [usize; 3], device: &Device) -> usize {
        match self.algorithm().facts().adds_losses {
            true => Engine::images_at_once(&self.network.graph, device, shape),
            false => shape[0],
        }
    }

    /// Runs the training loop and takes over what was learned.
    pub(super) fn fit<T: Task>(
        &mut self,
        task: &T,
        checked: Option<&T>,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        run: &Run<'_>,
        observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
    ) -> Result<TrainingOutcome> {
        let engine = |batch: usize, training: bool| {
            Engine::new(&self.network.graph, run.device, [batch, run.patch, run.patch], training)
        };
        let mut engines = Engines {
            training: engine(self.images_at_once([run.recipe.batch_size, run.patch, run.patch], run.device), true)?,
            validation: match validation {
                Some(set) => Some(engine(validation_batch(set), false)?),
                None => None,
            },
        };
        let mut state = self.initial_state(options)?;
        let mut history = self.history.clone();
        let model = &*self;
        let mut saved = false;
        let mut on_save = |state: &TrainingState, weights: &Weights, history: &History| {
            // Who stopped the training has its model in a moment, and is not to wait for one file more.
            let is_awaited = saved && options.cancel.is_cancelled();
            let Some(path) = options.checkpoint.as_ref().filter(|_| !is_awaited) else { return Ok(()) };
            saved = true;
            Parts { model, weights, state: Some(state), history, untrained: false }.save(path)
        };
        let limits: &LoopOptions = &run.recipe.limits;
        let outcome = train(&mut engines, task, checked, &mut state, &mut history, limits, observer, &mut on_save)?;
        drop(engines);
        self.network.weights = outcome.weights.clone();
        self.state = Some(state);
        self.history = history;
        self.untrained = false;
        self.network.engines.clear();
        Ok(outcome)
    }

    fn initial_state(&self, options: &TrainOptions) -> Result<TrainingState> {
        if !options.resume {
            let optimizer = self.settings()?.optimizer(&self.network.weights, options.preset);
            return Ok(TrainingState { weights: self.network.weights.clone(), optimizer, batches: 0, carried: 0.0 });
        }
        let mut state = self.state.clone().ok_or_else(|| {
            Error::Config("the model holds no optimiser state to resume from; train it first, or without resume".into())
                .because(Reason::NotResumable)
        })?;
        take_over(self.settings()?.optimizer(&state.weights, options.preset), &mut state.optimizer)?;
        Ok(state)
    }

    /// The side of the training patches, rounded up to what the network divides by. A size that the caller did not ask for
    /// is no larger than the largest image.
    pub(super) fn patch_size(&self, recipe: &Recipe, options: &TrainOptions, data: &Dataset) -> Result<usize> {
        let [rows, columns] = self.network.graph.divisor();
        let unit = rows.max(columns);
        let wanted = recipe.patch_size;
        if !(unit..=4096).contains(&wanted) {
            return Err(Error::Config(format!("patch_size is {wanted}; it must lie between {unit} and 4096 pixels"))
                .because(Reason::out_of_range("patch_size", wanted as f64, unit as f64..=4096.0)));
        }
        let mut largest = 0;
        for (image, labels) in data.images().iter().zip(data.labels()) {
            let scale = self.network.scale.for_labels(labels);
            largest = scaled_sides([image.height(), image.width()], scale)?.into_iter().fold(largest, usize::max);
        }
        let asked = options.patch_size.is_some() || options.preset == Preset::Reference;
        Ok(if asked { wanted } else { wanted.min(largest) }.next_multiple_of(unit))
    }
}
