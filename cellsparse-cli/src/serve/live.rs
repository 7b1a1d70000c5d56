//! What is known of a model's trainings while they wait, run and end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cellsparse_core::model::TrainingSummary;
use cellsparse_core::{CancelToken, Progress};
use serde::Serialize;
use tokio::sync::{broadcast, watch};

/// The trainings of one model, to be watched and stopped.
#[derive(Debug)]
pub struct Live {
    inner: Mutex<Inner>,
    events: broadcast::Sender<Event>,
    calls_off: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    queued: usize,
    running: Option<CancelToken>,
    progress: Option<Step>,
    last: Option<Outcome>,
}

/// The state of the trainings of a model.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `idle`, `queued` or `training`.
    pub state: &'static str,
    /// Trainings that wait for their turn.
    pub queued: usize,
    /// The last step of the running training.
    pub progress: Option<Step>,
    /// How the last training ended since the server started.
    pub last: Option<Outcome>,
}

/// One optimiser step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    step: usize,
    total_steps: usize,
    epoch: usize,
    loss: f32,
    losses: BTreeMap<&'static str, f32>,
    validation_loss: Option<f32>,
    learning_rate: f32,
    /// Seconds since the training began.
    elapsed: f64,
    /// Estimated seconds until it ends.
    remaining: f64,
}

/// How a training ended.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// With weights.
    Finished(TrainingSummary),
    /// Without.
    Failed {
        /// Why.
        detail: String,
    },
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub struct Event {
    /// `started`, `progress`, `finished` or `failed`.
    pub name: &'static str,
    /// JSON.
    pub data: String,
}

impl Event {
    /// Whether the training is over with this event.
    pub fn is_last(&self) -> bool {
        matches!(self.name, "finished" | "failed")
    }
}

/// Events that a slow listener may be behind before it misses some.
const BACKLOG: usize = 256;

impl Default for Live {
    fn default() -> Self {
        Self { inner: Mutex::default(), events: broadcast::channel(BACKLOG).0, calls_off: watch::Sender::new(0) }
    }
}

impl Live {
    /// The state now.
    pub fn status(&self) -> Status {
        let inner = self.lock();
        let state = match (&inner.running, inner.queued) {
            (Some(_), _) => "training",
            (None, 0) => "idle",
            (None, _) => "queued",
        };
        Status { state, queued: inner.queued, progress: inner.progress.clone(), last: inner.last.clone() }
    }

    /// All events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Stops the running training after its step. Whether there was one.
    pub fn cancel(&self) -> bool {
        let inner = self.lock();
        if let Some(token) = &inner.running {
            token.cancel();
        }
        inner.running.is_some()
    }

    /// Tells the trainings that wait now to give up. Whether there was one.
    pub fn call_off(&self) -> bool {
        // Under the lock, so that a training either waits and hears it, or runs and can be cancelled.
        let inner = self.lock();
        self.calls_off.send_modify(|count| *count += 1);
        inner.queued > 0
    }

    /// Counts a waiting training until the result is dropped or begins.
    pub fn wait(&self) -> Waiting<'_> {
        self.lock().queued += 1;
        Waiting { live: self, calls_off: self.calls_off.subscribe() }
    }

    /// The training that began makes its first step soon.
    pub fn start(&self, total_steps: usize) {
        self.send("started", &serde_json::json!({ "total_steps": total_steps }));
    }

    /// It made a step.
    pub fn step(&self, progress: &Progress) {
        let seconds = |time: Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
        let step = Step {
            step: progress.step,
            total_steps: progress.total_steps,
            epoch: progress.epoch,
            loss: progress.loss,
            losses: progress.losses.iter().copied().collect(),
            validation_loss: progress.validation_loss,
            learning_rate: progress.learning_rate,
            elapsed: seconds(progress.elapsed),
            remaining: seconds(progress.remaining),
        };
        self.send("progress", &step);
        self.lock().progress = Some(step);
    }

    /// It ended. Without a training under way this does nothing.
    pub fn finish(&self, outcome: Outcome) {
        let mut inner = self.lock();
        if inner.running.take().is_none() {
            return;
        }
        inner.progress = None;
        inner.last = Some(outcome.clone());
        drop(inner);
        let name = if matches!(outcome, Outcome::Finished(_)) { "finished" } else { "failed" };
        self.send(name, &outcome);
    }

    fn send(&self, name: &'static str, data: &impl Serialize) {
        // Nobody listening is no error.
        let data = serde_json::to_string(data).unwrap_or_default();
        let _ = self.events.send(Event { name, data });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A training that waits for its turn.
pub struct Waiting<'a> {
    live: &'a Live,
    calls_off: watch::Receiver<u64>,
}

impl Waiting<'_> {
    /// Ends when the training is to give up.
    pub async fn called_off(&mut self) {
        // The sender lives as long as this value, so this is not an error.
        let _ = self.calls_off.changed().await;
    }

    /// The training waits no longer but runs, and `token` stops it. False when it is to give up instead.
    pub fn begin(self, token: &CancelToken) -> bool {
        let mut inner = self.live.lock();
        if self.calls_off.has_changed().unwrap_or(true) {
            return false;
        }
        inner.running = Some(token.clone());
        inner.progress = None;
        drop(inner);
        true
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.live.lock().queued -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_either_hears_that_it_is_called_off_or_can_be_cancelled() {
        let live = Live::default();
        let token = CancelToken::new();
        let waiting = live.wait();
        assert!(live.call_off() && !waiting.begin(&token), "called off between its turn and its beginning");
        assert_eq!((live.status().state, live.cancel(), live.call_off()), ("idle", false, false));
        assert!(live.wait().begin(&token));
        assert_eq!((live.status().state, live.status().queued), ("training", 0));
        assert!(!live.call_off() && live.cancel() && token.is_cancelled());
        live.finish(Outcome::Failed { detail: String::new() });
        assert_eq!(live.status().state, "idle");
    }
}
