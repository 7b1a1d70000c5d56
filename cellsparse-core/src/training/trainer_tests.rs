use std::sync::Mutex;

use super::*;
use crate::networks::{Device, ElephantConfig};
use crate::training::optimizer::Adam;

/// A task that asks to stop in the middle of a step: when the loss is known and the gradients are not.
struct Raising {
    cancel: CancelToken,
    at: f32,
    carried: Mutex<f32>,
}

impl Task for Raising {
    type Batch = Vec<f32>;

    fn batch_into(&self, batch: &mut Vec<f32>, _index: u64) -> Result<()> {
        batch.resize(32 * 32, 0.5);
        Ok(())
    }

    fn input<'a>(&self, batch: &'a Vec<f32>) -> &'a [f32] {
        batch
    }

    fn loss(&self, _: &Vec<f32>, outputs: &[Vec<f32>], gradients: Option<&mut Vec<Vec<f32>>>) -> Result<LossReport> {
        if let Some(gradients) = gradients {
            *gradients = outputs.iter().map(|output| vec![1e-3; output.len()]).collect();
        }
        let mut carried = self.carried.lock().unwrap();
        *carried += 1.0;
        if *carried == self.at {
            self.cancel.cancel();
        }
        Ok(LossReport { total: 1.0, parts: Vec::new() })
    }

    fn carried(&self) -> f32 {
        *self.carried.lock().unwrap()
    }

    fn set_carried(&self, carried: f32) {
        *self.carried.lock().unwrap() = carried;
    }
}

/// Trains for at most 5 steps, with a request in the step `at`; gives what came of it, and weights and optimiser.
fn stopped_in(at: f32) -> (Result<TrainingOutcome>, TrainingState, f32) {
    let graph = std::sync::Arc::new(ElephantConfig { widths: vec![2, 2], ..Default::default() }.graph());
    let weights = Weights::init(&graph, 1);
    let engine = Engine::new(&graph, &Device::cpu(), [1, 32, 32], true).unwrap();
    let mut engines = Engines { training: engine, validation: None };
    let optimizer = Adam::new(&weights).into();
    let mut state = TrainingState { weights, optimizer, batches: 0, carried: 0.0 };
    let options = LoopOptions {
        steps: 5,
        begun: 0,
        steps_per_epoch: 5,
        learning_rate: 1e-3,
        schedule: Schedule::Cosine { warmup: 0.0, floor: 1.0 },
        weight_decay: 0.0,
        average: None,
        fresh_statistics: false,
        patience: None,
        stop_early: false,
        time_budget: None,
        steps_after: 0.0,
        cancel: CancelToken::new(),
    };
    let task = Raising { cancel: options.cancel.clone(), at, carried: Mutex::new(0.0) };
    let observer = &mut |_: &Progress| ControlFlow::Continue;
    let save = &mut |_: &TrainingState, _: &Weights, _: &History| Ok(());
    let mut history = History::default();
    let outcome = train(&mut engines, &task, None, &mut state, &mut history, &options, observer, save);
    let carried = task.carried();
    (outcome, state, carried)
}

#[test]
fn a_step_that_is_stopped_before_its_gradients_leaves_no_trace() {
    let (outcome, state, carried) = stopped_in(3.0);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.steps, outcome.stopped), (2, StopReason::Cancelled));
    assert_eq!((state.batches, state.carried, carried), (2, 2.0, 2.0));
    let (ended, first, carried) = stopped_in(1.0);
    assert!(matches!(ended, Err(Error::Cancelled)));
    assert_eq!((first.batches, carried), (0, 0.0));
    assert!(first.weights != state.weights);
}
