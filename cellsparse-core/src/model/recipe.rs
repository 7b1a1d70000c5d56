//! How each algorithm is trained, by preset: steps, rate, schedule, optimiser.

use std::time::Duration;

use super::{Algorithm, Preset, TrainOptions};
use crate::error::{Error, Reason, Result};
use crate::networks::Weights;
use crate::training::optimizer::{Adam, Optimizer, Sgd};
use crate::training::schedule::Schedule;
use crate::training::trainer::{LoopOptions, TrainingState};

/// What a training begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// Random weights.
    Random,
    /// Starting weights, which know cells but none like these.
    Starter,
    /// A model that was trained before.
    Trained,
}

impl Begin {
    /// Its name in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Begin::Random => "random",
            Begin::Starter => "starter",
            Begin::Trained => "model",
        }
    }

    /// The learning rate of Adam: what is known is moved gently.
    fn rate(self) -> f32 {
        match self {
            Begin::Random => 2e-3,
            Begin::Starter => 5e-4,
            Begin::Trained => 3e-4,
        }
    }
}

/// The training of one algorithm with one preset.
pub(super) struct Recipe {
    algorithm: Algorithm,
    reference: bool,
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

/// Factor of the rate for the layer that answers ray lengths: they are about ten times as large as other answers, so its
/// weights have further to go.
const RAY_RATE: f32 = 10.0;

impl Recipe {
    /// The recipe for those options.
    ///
    /// # Errors
    /// [`Error::Config`] for options out of range.
    pub fn new(algorithm: Algorithm, options: &TrainOptions, begin: Begin) -> Result<Self> {
        let reference = options.preset == Preset::Reference;
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
        let (rate, schedule, weight_decay) = match (algorithm, reference) {
            (_, false) => (begin.rate(), Schedule::Cosine { warmup: 0.05, floor: 0.02 }, 0.0),
            (Algorithm::Stardist, true) => (1e-3, Schedule::ReduceOnPlateau { factor: 0.5, patience: 40 }, 0.0),
            (Algorithm::Cellpose, true) => (0.2, Schedule::Cellpose { epochs: steps.min(2000) }, 1e-5),
            (Algorithm::Elephant, true) => (1e-3, Schedule::Cosine { warmup: 0.0, floor: 1.0 }, 0.0),
        };
        let learning_rate = options.learning_rate.unwrap_or(rate);
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
            until_plateau: !reference && options.steps.is_none(),
            time_budget: options.time_budget,
            steps_after: 0.0,
            cancel: options.cancel.clone(),
        };
        let patch_size = options.patch_size.unwrap_or(usual.patch_size);
        Ok(Self { algorithm, reference, limits, batch_size, patch_size })
    }

    /// A new optimiser.
    pub fn optimizer(&self, weights: &Weights) -> Optimizer {
        match (self.algorithm, self.reference) {
            (Algorithm::Stardist, true) => Adam::new(weights).into(),
            (Algorithm::Stardist, false) => {
                let factor = |name: &str| if name.starts_with("dist/") { RAY_RATE } else { 1.0 };
                let factors = weights.parameters().iter().map(|parameter| factor(&parameter.spec.name)).collect();
                let mut adam = Adam::new(weights);
                adam.factors = factors;
                adam.into()
            }
            (Algorithm::Cellpose, true) => Sgd::new(weights).into(),
            (Algorithm::Cellpose | Algorithm::Elephant, _) => Adam::pytorch(weights).into(),
        }
    }

    /// Gives a stored optimiser the settings of this recipe.
    ///
    /// # Errors
    /// [`Error::Config`] when it is of another kind.
    pub fn take_over(&self, state: &mut TrainingState) -> Result<()> {
        match (self.optimizer(&state.weights), &mut state.optimizer) {
            (Optimizer::Adam(new), Optimizer::Adam(stored)) => {
                stored.epsilon = new.epsilon;
                stored.as_pytorch = new.as_pytorch;
                stored.factors = new.factors;
                Ok(())
            }
            (Optimizer::Sgd(_), Optimizer::Sgd(_)) => Ok(()),
            _ => Err(Error::Config(
                "the model was trained with the optimiser of another preset; resume with that preset, or train without \
                 resume"
                    .into(),
            )
            .because(Reason::NotResumable)),
        }
    }
}
