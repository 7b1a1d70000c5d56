//! How a training runs, by preset: steps, rate, schedule.

use std::time::Duration;

use super::algorithm::{ReferenceTraining, SegmentationAlgorithm};
use super::options::{Precision, Preset, TrainOptions};
use crate::error::{Error, Reason, Result};
use crate::training::optimizer::Optimizer;
use crate::training::schedule::Schedule;
use crate::training::trainer::LoopOptions;

/// What a training begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// Random weights.
    Random,
    /// Starting weights, which know cells but none like these.
    Starter,
    /// A model that was trained before.
    Trained,
    /// A model that is in the middle of many short trainings.
    Round,
}

impl Begin {
    /// Its name in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Begin::Random => "random",
            Begin::Starter => "starter",
            Begin::Trained | Begin::Round => "model",
        }
    }

    /// The learning rate of Adam: what is known is moved gently.
    fn rate(self) -> f32 {
        match self {
            Begin::Random => 2e-3,
            Begin::Starter | Begin::Round => 5e-4,
            Begin::Trained => 1e-4,
        }
    }
}

/// The training of one algorithm with one preset.
pub(super) struct Recipe {
    /// What the loop needs to know.
    pub limits: LoopOptions,
    /// Patches in a batch.
    pub batch_size: usize,
    /// Side of the patches in pixels.
    pub patch_size: usize,
}

/// The amount of work in a training for which the caller does not say it.
struct Usual {
    steps: usize,
    batch_size: usize,
    patch_size: usize,
}

/// What the originals do, and what steps mean when they are given.
const LARGE: Usual = Usual { steps: 200, batch_size: 8, patch_size: 224 };

/// What teaches more in the same time.
const SMALL: Usual = Usual { steps: 800, batch_size: 4, patch_size: 128 };

impl Recipe {
    /// The recipe for those options.
    ///
    /// # Errors
    /// [`Error::Config`] for options out of range.
    pub fn new(algorithm: &(dyn SegmentationAlgorithm + '_), options: &TrainOptions, begin: Begin) -> Result<Self> {
        let reference = options.preset == Preset::Reference;
        if reference && matches!(options.precision, Precision::Bf16 | Precision::Tf32) {
            return Err(Error::Config(
                "the reference preset computes in 32 bits; take precision f32, or another preset".into(),
            ));
        }
        let usual = if reference || options.steps.is_some() { LARGE } else { SMALL };
        let batch_size = options.batch_size.unwrap_or(usual.batch_size);
        if batch_size == 0 || batch_size > 256 {
            return Err(Error::Config(format!("batch_size is {batch_size}; it must lie between 1 and 256"))
                .because(Reason::out_of_range("batch_size", batch_size as f64, 1.0..=256.0)));
        }
        if options.steps == Some(0) {
            return Err(Error::Config("steps is 0; it must be at least 1".into()).because(Reason::out_of_range(
                "steps",
                0.0,
                1.0..=f64::INFINITY,
            )));
        }
        if options.time_budget.is_some_and(|budget| budget < Duration::from_millis(1)) {
            return Err(Error::Config("the time budget is 0; give it in seconds, like 60".into())
                .because(Reason::out_of_range("time_budget", 0.0, 0.001..=f64::INFINITY)));
        }
        let steps = options.steps.unwrap_or(if options.time_budget.is_some() { 1_000_000 } else { usual.steps });
        let ReferenceTraining { learning_rate, schedule, weight_decay } = match reference {
            true => algorithm.reference_training(steps),
            false => ReferenceTraining {
                learning_rate: begin.rate(),
                schedule: Schedule::Cosine { warmup: 0.05, floor: 0.02 },
                weight_decay: 0.0,
            },
        };
        let learning_rate = options.learning_rate.unwrap_or(learning_rate);
        if !(learning_rate > 0.0 && learning_rate <= 1e4) {
            return Err(Error::Config(format!(
                "the learning rate is {learning_rate}; it must be above 0 and at most 10000, like 0.001"
            ))
            .because(Reason::out_of_range("learning_rate", learning_rate, 0.0..=1e4)));
        }
        let limits = LoopOptions {
            steps,
            begun: 0,
            steps_per_epoch: if reference { 200.min(steps) } else { 25.min(steps) },
            learning_rate,
            schedule,
            weight_decay,
            average: None,
            fresh_statistics: !reference,
            patience: if reference { None } else { Some(20) },
            stop_early: !reference && options.steps.is_none(),
            time_budget: options.time_budget,
            steps_after: 0.0,
            cancel: options.cancel.clone(),
        };
        let patch_size = options.patch_size.unwrap_or(usual.patch_size);
        Ok(Self { limits, batch_size, patch_size })
    }
}

/// Gives a stored optimiser the settings of a `new` one.
///
/// # Errors
/// [`Error::Config`] when it is of another kind.
pub(super) fn take_over(new: Optimizer, stored: &mut Optimizer) -> Result<()> {
    match (new, stored) {
        (Optimizer::Adam(new), Optimizer::Adam(stored)) => {
            stored.epsilon = new.epsilon;
            stored.as_pytorch = new.as_pytorch;
            stored.rate_multipliers = new.rate_multipliers;
            Ok(())
        }
        (Optimizer::Sgd(_), Optimizer::Sgd(_)) => Ok(()),
        _ => Err(Error::Config(
            "the model was trained with the optimiser of another preset; resume with that preset, or train without resume"
                .into(),
        )
        .because(Reason::NotResumable)),
    }
}
