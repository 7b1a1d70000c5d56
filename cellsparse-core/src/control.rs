//! How a caller watches long work and stops it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// One event of a running training, sent after every optimiser step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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

impl Progress {
    /// An event of the first epoch with that loss and nothing else known, as observers are tested with.
    pub fn new(step: usize, total_steps: usize, loss: f32) -> Self {
        Self {
            step,
            total_steps,
            epoch: 1,
            loss,
            losses: Vec::new(),
            validation_loss: None,
            learning_rate: 0.0,
            elapsed: Duration::ZERO,
            remaining: Duration::ZERO,
        }
    }
}

/// What the observer of a training wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlFlow {
    /// Go on.
    Continue,
    /// Stop after this step and keep the weights reached so far.
    Stop,
}

/// The former name of [`ControlFlow`]; the flows of this library are those of Cellpose.
pub type Flow = ControlFlow;

/// Why a training ended.
///
/// As text and in JSON: `finished`, `no improvement`, `time budget`, `cancelled`. The numbers are those of the C interface and
/// never change their meaning; a later version may add some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
#[repr(u32)]
pub enum StopReason {
    /// All steps were done.
    Finished = 0,
    /// The validation loss fell no more, or without validation that of the training.
    #[cfg_attr(feature = "serde", serde(rename = "no improvement"))]
    NoImprovement = 1,
    /// The time was over.
    #[cfg_attr(feature = "serde", serde(rename = "time budget"))]
    TimeBudget = 2,
    /// The observer or a cancel token asked for it.
    Cancelled = 3,
}

impl StopReason {
    /// Every reason that this version knows, by its number.
    pub const ALL: [Self; 4] = [Self::Finished, Self::NoImprovement, Self::TimeBudget, Self::Cancelled];

    /// The number of the C interface.
    pub fn code(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Finished => "finished",
            Self::NoImprovement => "no improvement",
            Self::TimeBudget => "time budget",
            Self::Cancelled => "cancelled",
        })
    }
}

/// A flag that any thread may raise to stop work; cheap to clone and to test.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    /// How often the work was asked to stop.
    asked: Arc<AtomicUsize>,
    /// Requests that were answered already.
    answered: usize,
    /// No request is ever answered: what comes after it is not wanted either.
    for_good: bool,
    /// When the time is over that the work may take, request or not.
    end: Option<Instant>,
}

impl CancelToken {
    /// A token that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop as soon as it can.
    pub fn cancel(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > self.answered || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// [`Error::Cancelled`] when [`cancel`](Self::cancel) was called.
    ///
    /// # Errors
    /// That one.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// The same token for work that follows the answer to all requests so far: it is raised by the next one.
    pub fn renewed(&self) -> Self {
        let answered = if self.for_good { self.answered } else { self.asked.load(Ordering::Relaxed) };
        Self { asked: Arc::clone(&self.asked), answered, for_good: self.for_good, end: None }
    }

    /// The same token for work that may take no longer than that: it is also raised when the time is over.
    #[cfg(feature = "models")]
    pub(crate) fn within(&self, time: Duration) -> Self {
        Self { end: Instant::now().checked_add(time), ..self.clone() }
    }

    /// The same token for work whose result nobody wants once it is raised: it stays raised when it is
    /// [`renewed`](Self::renewed).
    #[cfg(feature = "models")]
    pub(crate) fn for_good(&self) -> Self {
        Self { for_good: true, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_token_waits_for_the_next_request() {
        let token = CancelToken::new();
        let other = token.clone();
        assert!(!token.is_cancelled() && token.check().is_ok());
        other.cancel();
        assert!(token.is_cancelled() && matches!(token.check(), Err(Error::Cancelled)));
        let later = token.renewed();
        assert!(!later.is_cancelled() && token.is_cancelled());
        token.cancel();
        assert!(later.is_cancelled());
    }

    #[cfg(feature = "models")]
    #[test]
    fn a_token_for_good_stays_raised() {
        let token = CancelToken::new();
        let last = token.for_good();
        assert!(!last.renewed().is_cancelled());
        token.cancel();
        assert!(last.is_cancelled() && last.renewed().is_cancelled() && !token.renewed().is_cancelled());
    }

    #[cfg(feature = "models")]
    #[test]
    fn a_token_with_an_end_is_raised_by_a_request_and_by_time() {
        let token = CancelToken::new();
        let (soon, later) = (token.within(Duration::ZERO), token.within(Duration::from_secs(3600)));
        assert!(soon.is_cancelled() && !later.is_cancelled() && !token.is_cancelled());
        token.cancel();
        assert!(later.is_cancelled());
    }

    /// What a thread does to a token next.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Deed {
        Cancel,
        Look,
        Renew,
    }

    #[test]
    fn in_every_order_of_requests_and_looks_none_is_lost() {
        use Deed::{Cancel, Look, Renew};
        // One thread works, answers, and works on; three ask it to stop.
        let worker = [Look, Look, Renew, Look, Renew, Look];
        let mut orders = 0;
        for places in 0..1_u32 << 9 {
            if places.count_ones() != 3 {
                continue;
            }
            let token = CancelToken::new();
            let (mut current, mut unanswered) = (token.clone(), 0);
            let mut work = worker.iter();
            for place in 0..9 {
                match if places >> place & 1 == 1 { Cancel } else { *work.next().unwrap() } {
                    Cancel => {
                        token.clone().cancel();
                        unanswered += 1;
                    }
                    Look => assert_eq!(current.is_cancelled(), unanswered > 0, "{places:b} at {place}"),
                    Renew => (current, unanswered) = (current.renewed(), 0),
                }
            }
            assert!(current.is_cancelled() == (unanswered > 0) && token.is_cancelled());
            orders += 1;
        }
        assert_eq!(orders, 84);
    }

    #[test]
    fn a_reason_is_the_same_word_as_text_and_in_json() {
        let words = StopReason::ALL.map(|reason| reason.to_string());
        assert_eq!(words, ["finished", "no improvement", "time budget", "cancelled"]);
        for (number, (reason, word)) in StopReason::ALL.into_iter().zip(words).enumerate() {
            assert_eq!(serde_json::to_value(reason).unwrap(), serde_json::Value::String(word));
            assert_eq!(reason.code() as usize, number);
        }
    }
}
