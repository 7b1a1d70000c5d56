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

impl Inner {
    /// Raises the token of the running training. Whether one runs.
    fn raise(&self) -> bool {
        if let Some(token) = &self.running {
            token.cancel();
        }
        self.running.is_some()
    }
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

    /// Stops the running training after its step; when none runs, those that wait give up. Whether there was one.
    pub fn stop(&self) -> bool {
        let inner = self.lock();
        // One lock for both: a training that begins meanwhile either waits still or runs already, and is found.
        inner.raise() || self.call_off(&inner)
    }

    /// Stops the running training after its step, and those that wait give up.
    pub fn stop_all(&self) {
        let inner = self.lock();
        self.call_off(&inner);
        inner.raise();
    }

    /// Stops the running training after its step, and leaves alone those that wait.
    pub fn stop_running(&self) {
        self.lock().raise();
    }

    /// Tells the trainings that wait now to give up. Whether there was one. `inner` is locked, so none of them begins
    /// meanwhile.
    fn call_off(&self, inner: &Inner) -> bool {
        self.calls_off.send_modify(|count| *count += 1);
        inner.queued > 0
    }

    /// Counts a waiting training until the result is dropped or begins.
    pub fn wait(&self) -> Waiting<'_> {
        let mut inner = self.lock();
        inner.queued += 1;
        // Under the lock: what is called off before this training waited is none of its business.
        Waiting { live: self, calls_off: self.calls_off.subscribe(), counted: true }
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
        #[cfg(test)]
        tests::before_lock();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A training that waits for its turn.
pub struct Waiting<'a> {
    live: &'a Live,
    calls_off: watch::Receiver<u64>,
    /// Whether it is among those that wait.
    counted: bool,
}

impl Waiting<'_> {
    /// Ends when the training is to give up.
    pub async fn called_off(&mut self) {
        // The sender lives as long as this value, so this is not an error.
        let _ = self.calls_off.changed().await;
    }

    /// The training waits no longer but runs, and `token` stops it. False when it is to give up instead.
    pub fn begin(mut self, token: &CancelToken) -> bool {
        let mut inner = self.live.lock();
        inner.queued -= usize::from(std::mem::take(&mut self.counted));
        if self.calls_off.has_changed().unwrap_or(true) {
            return false;
        }
        inner.running = Some(token.clone());
        inner.progress = None;
        true
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.live.lock().queued -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What another thread does, and before which taking of the lock of this one.
    type Interruption = (usize, Box<dyn FnOnce()>);

    thread_local! {
        static INTERRUPTION: RefCell<Option<Interruption>> = const { RefCell::new(None) };
    }

    /// Plays the part of another thread that is quicker.
    pub(super) fn before_lock() {
        let due = INTERRUPTION.with_borrow_mut(|interruption| match interruption {
            Some((0, _)) => interruption.take(),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        });
        if let Some((_, action)) = due {
            action();
        }
    }

    /// Runs `this` with `other` before its `place`-th taking of the lock. False when it takes the lock less often.
    fn interrupted<T>(place: usize, other: impl FnOnce() + 'static, this: impl FnOnce() -> T) -> Option<T> {
        INTERRUPTION.set(Some((place, Box::new(other))));
        let result = this();
        INTERRUPTION.take().is_none().then_some(result)
    }

    /// A training that waits, in a static place so that the interruption may own it.
    fn waiting() -> (&'static Live, Waiting<'static>, CancelToken) {
        let live: &'static Live = Box::leak(Box::default());
        (live, live.wait(), CancelToken::new())
    }

    /// Whether the one training waits or runs, as everybody who looks must see it.
    fn one_at(live: &Live) -> bool {
        let inner = live.inner.lock().unwrap();
        inner.queued + usize::from(inner.running.is_some()) == 1
    }

    #[test]
    fn a_stop_that_meets_a_beginning_is_never_lost() {
        let mut orders = 0;
        for place in 0.. {
            let (live, waiting, token) = waiting();
            let begun: &'static RefCell<Option<bool>> = Box::leak(Box::default());
            let begin = {
                let token = token.clone();
                move || {
                    *begun.borrow_mut() = Some(waiting.begin(&token));
                }
            };
            let Some(stopped) = interrupted(place, begin, || live.stop()) else { break };
            let runs = begun.take().unwrap();
            assert!(stopped, "the begin came {place} times after a lock; there was a training all the time");
            assert!(!runs || token.is_cancelled(), "the training runs on and nobody told it, at {place}");
            orders += 1;
        }
        for place in 0.. {
            let (live, waiting, token) = waiting();
            let stopped: &'static RefCell<Option<bool>> = Box::leak(Box::default());
            let stop = move || {
                assert!(one_at(live), "the training is counted twice, or not at all, at {place}");
                *stopped.borrow_mut() = Some(live.stop());
            };
            let Some(runs) = interrupted(place, stop, || waiting.begin(&token)) else { break };
            assert_eq!(stopped.take(), Some(true), "at {place}");
            assert!(!runs || token.is_cancelled(), "at {place}");
            orders += 1;
        }
        assert!(orders >= 2, "each side takes the lock at least once");
    }

    #[test]
    fn what_waits_is_called_off_only_when_nothing_runs() {
        let live = Live::default();
        let (first, second) = (CancelToken::new(), CancelToken::new());
        assert!(!live.stop() && live.wait().begin(&first), "an old stop is no matter of a new training");
        let waiting = live.wait();
        assert_eq!((live.status().state, live.status().queued), ("training", 1));
        assert!(live.stop() && first.is_cancelled());
        live.finish(Outcome::Failed { detail: String::new() });
        assert_eq!((live.status().state, live.status().queued), ("queued", 1));
        assert!(live.stop() && !waiting.begin(&second) && !second.is_cancelled());
        assert_eq!((live.status().state, live.stop()), ("idle", false));
        drop(live.wait());
        assert_eq!(live.status().queued, 0, "a client that went away");
        let (third, waiting) = (CancelToken::new(), live.wait());
        assert!(live.wait().begin(&third));
        live.stop_all();
        assert!(third.is_cancelled() && !waiting.begin(&second));
    }

    /// What a thread does next; each is one section under the lock, or none of the others can come between its parts.
    #[derive(Debug, Clone, Copy)]
    enum Deed {
        Wait,
        Begin,
        Finish,
        GoAway,
        Stop,
        StopAll,
        StopRunning,
    }

    /// What is known of a training by plain bookkeeping.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum State {
        Outside,
        Waits { called_off: bool },
        Runs { asked: bool },
    }

    /// Plays the deeds of all threads in that order, beside plain bookkeeping. False when the order cannot happen: of the trainings
    /// of a model one runs at a time.
    fn play(threads: &[&[Deed]], order: &[usize]) -> bool {
        let live = Live::default();
        let mut at = vec![0; threads.len()];
        let mut states = vec![State::Outside; threads.len()];
        let mut waiting: Vec<Option<Waiting<'_>>> = threads.iter().map(|_| None).collect();
        let tokens: Vec<CancelToken> = threads.iter().map(|_| CancelToken::new()).collect();
        let runs = |states: &[State]| states.iter().any(|state| matches!(state, State::Runs { .. }));
        let waits = |states: &[State]| states.iter().filter(|state| matches!(state, State::Waits { .. })).count();
        let raise = |states: &mut [State], run: bool, wait: bool| {
            for state in states {
                match state {
                    State::Runs { asked } => *asked |= run,
                    State::Waits { called_off } => *called_off |= wait,
                    State::Outside => {}
                }
            }
        };
        for &thread in order {
            let deed = threads[thread][at[thread]];
            at[thread] += 1;
            match deed {
                Deed::Wait => {
                    waiting[thread] = Some(live.wait());
                    states[thread] = State::Waits { called_off: false };
                }
                Deed::Begin if runs(&states) => return false,
                Deed::Begin => {
                    let called_off = states[thread] == State::Waits { called_off: true };
                    let begun = waiting[thread].take().unwrap().begin(&tokens[thread]);
                    assert_eq!(begun, !called_off, "{order:?}");
                    states[thread] = if begun { State::Runs { asked: false } } else { State::Outside };
                }
                Deed::GoAway => {
                    waiting[thread] = None;
                    states[thread] = State::Outside;
                }
                Deed::Finish if states[thread] == State::Outside => {}
                Deed::Finish => {
                    live.finish(Outcome::Failed { detail: String::new() });
                    states[thread] = State::Outside;
                }
                Deed::Stop => {
                    let running = runs(&states);
                    assert_eq!(live.stop(), running || waits(&states) > 0, "{order:?}");
                    raise(&mut states, true, !running);
                }
                Deed::StopAll => {
                    live.stop_all();
                    raise(&mut states, true, true);
                }
                Deed::StopRunning => {
                    live.stop_running();
                    raise(&mut states, true, false);
                }
            }
            let status = live.status();
            assert_eq!(status.queued, waits(&states), "{order:?}");
            let named = if runs(&states) {
                "training"
            } else if status.queued > 0 {
                "queued"
            } else {
                "idle"
            };
            assert_eq!(status.state, named, "{order:?}");
            for (state, token) in states.iter().zip(&tokens) {
                if let State::Runs { asked } = state {
                    assert_eq!(token.is_cancelled(), *asked, "{order:?}");
                }
            }
        }
        true
    }

    /// Plays every order of the deeds; how many there are.
    fn play_all(threads: &[&[Deed]]) -> usize {
        fn extend(threads: &[&[Deed]], done: &mut [usize], order: &mut Vec<usize>, played: &mut usize) {
            if threads.iter().zip(&*done).all(|(deeds, done)| deeds.len() == *done) {
                *played += usize::from(play(threads, order));
            }
            for thread in 0..threads.len() {
                if done[thread] < threads[thread].len() {
                    done[thread] += 1;
                    order.push(thread);
                    extend(threads, done, order, played);
                    order.pop();
                    done[thread] -= 1;
                }
            }
        }
        let mut played = 0;
        extend(threads, &mut vec![0; threads.len()], &mut Vec::new(), &mut played);
        played
    }

    #[test]
    fn every_order_of_trainings_and_stops_is_what_bookkeeping_says() {
        let trained = &[Deed::Wait, Deed::Begin, Deed::Finish][..];
        let left = &[Deed::Wait, Deed::GoAway][..];
        let [stop, all, running] = [&[Deed::Stop][..], &[Deed::StopAll][..], &[Deed::StopRunning][..]];
        let orders = [
            play_all(&[trained, trained, stop, stop]),
            play_all(&[trained, trained, left, stop]),
            play_all(&[trained, trained, all, stop]),
            play_all(&[trained, trained, running, stop]),
        ];
        assert!(orders.iter().sum::<usize>() > 1000, "{orders:?}");
    }
}
