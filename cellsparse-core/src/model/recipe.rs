//! How each algorithm is trained, by preset: steps, rate, schedule, optimiser.

use std::time::Duration;

use super::{Algorithm, Preset, TrainOptions};
use crate::error::{Error, Result};
use crate::networks::Weights;
use crate::training::optimizer::{Adam, Optimizer, Sgd};
use crate::training::schedule::Schedule;
use crate::training::trainer::{LoopOptions, TrainingState};

/// The training of one algorithm with one preset.
pub(super) struct Recipe {
    algorithm: Algorithm,
    reference: bool,
    /// What the loop needs to know.
    pub limits: LoopOptions,
}

/// Steps of a training without a number of steps and without a time budget.
const STEPS: usize = 200;

impl Recipe {
    /// The recipe for those options.
    ///
    /// # Errors
    /// [`Error::Config`] for options out of range.
    pub fn new(algorithm: Algorithm, options: &TrainOptions) -> Result<Self> {
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
        let (usual, schedule, weight_decay) = match (algorithm, reference) {
            (_, false) => (2e-3, Schedule::Cosine { warmup: 0.05, floor: 0.02 }, 0.0),
            (Algorithm::Stardist, true) => (1e-3, Schedule::ReduceOnPlateau { factor: 0.5, patience: 40 }, 0.0),
            (Algorithm::Cellpose, true) => (0.2, Schedule::Cellpose { epochs: steps.min(2000) }, 1e-5),
            (Algorithm::Elephant, true) => (1e-3, Schedule::Cosine { warmup: 0.0, floor: 1.0 }, 0.0),
        };
        let learning_rate = options.learning_rate.unwrap_or(usual);
        if !(learning_rate > 0.0 && learning_rate <= 1e4) {
            return Err(Error::Config(format!("the learning rate is {learning_rate}; it must be above 0, like 0.001")));
        }
        let limits = LoopOptions {
            steps,
            steps_per_epoch: if reference { 200.min(steps) } else { 25.min(steps) },
            learning_rate,
            schedule,
            weight_decay,
            average: None,
            fresh_statistics: !reference,
            patience: if reference { None } else { Some(20) },
            time_budget: options.time_budget,
            cancel: options.cancel.clone(),
        };
        Ok(Self { algorithm, reference, limits })
    }

    /// A new optimiser.
    pub fn optimizer(&self, weights: &Weights) -> Optimizer {
        match (self.algorithm, self.reference) {
            (Algorithm::Stardist, _) => Adam::new(weights).into(),
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
                Ok(())
            }
            (Optimizer::Sgd(_), Optimizer::Sgd(_)) => Ok(()),
            _ => Err(Error::Config(
                "the model was trained with the optimiser of another preset; resume with that preset, or train without \
                 resume"
                    .into(),
            )),
        }
    }
}
