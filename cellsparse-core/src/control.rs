//! How a caller watches long work and stops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One event of a running training, sent after every optimiser step.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Optimiser steps done, counted from 1.
    pub step: usize,
    /// Optimiser steps asked for.
    pub total_steps: usize,
    /// Validation period the step belongs to, counted from 1.
    pub epoch: usize,
    /// Weighted total loss of this step's batch.
    pub loss: f32,
    /// The parts of the loss by name, unweighted, in a fixed order.
    pub losses: Vec<(&'static str, f32)>,
    /// Validation loss, in the event of the step after which it was measured.
    pub validation_loss: Option<f32>,
    /// Learning rate used by this step.
    pub learning_rate: f32,
    /// Time since training began.
    pub elapsed: Duration,
    /// Estimated time until training ends.
    pub remaining: Duration,
}

/// What the observer of a training wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop after this step and keep the weights reached so far.
    Stop,
}

/// A flag that any thread may raise to stop work; cheap to clone and to test.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop at the next step or tile.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
