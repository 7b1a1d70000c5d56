//! The training loop, the same for every algorithm.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::control::{CancelToken, ControlFlow, Progress, StopReason};
use crate::error::{Error, Result};
use crate::networks::{Engine, Weights};
use crate::training::device::DeviceLearner;
use crate::training::history::History;
use crate::training::optimizer::Optimizer;
use crate::training::schedule::{EarlyStopping, Schedule, Scheduler};
use crate::training::task::{LossReport, Task};

/// How the loop runs.
#[derive(Debug, Clone)]
pub struct LoopOptions {
    /// Optimiser steps.
    pub steps: usize,
    /// Steps of an earlier part of the same training: the schedule goes on from there.
    pub begun: usize,
    /// Steps between two validations.
    pub steps_per_epoch: usize,
    /// Base learning rate.
    pub learning_rate: f32,
    /// How the rate changes.
    pub schedule: Schedule,
    /// Weight decay, in the form of the optimiser.
    pub weight_decay: f32,
    /// Decay of the running average of the weights that is returned instead of the last weights.
    pub average: Option<f32>,
    /// Moving statistics begin as the mean over the batches of this training, instead of moving away slowly from values that
    /// were measured on something else or on nothing.
    pub fresh_statistics: bool,
    /// Validations without improvement after which training stops.
    pub patience: Option<usize>,
    /// Whether a training without validation ends when its loss falls no more (early stopping).
    pub stop_early: bool,
    /// Time after which training stops.
    pub time_budget: Option<Duration>,
    /// Work that follows the loop, in steps: the time that these take is left to it in the time budget.
    pub steps_after: f64,
    /// Raised to stop.
    pub cancel: CancelToken,
}

/// Everything that changes during a training and is needed to go on later.
#[derive(Debug, Clone)]
pub struct TrainingState {
    /// Weights that the optimiser moves.
    pub weights: Weights,
    /// Its memory.
    pub optimizer: Optimizer,
    /// Batches drawn so far; the next batch has this index.
    pub batches: u64,
    /// What the loss remembers of the last batch, see [`Task::carried`].
    pub carried: f32,
}

/// What a training returns.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrainingOutcome {
    /// The best weights: by validation loss if there was a validation, else the averaged or last ones.
    pub weights: Weights,
    /// Steps done.
    pub steps: usize,
    /// Loss of the last step.
    pub loss: f32,
    /// Why it ended.
    pub stopped: StopReason,
    /// Wall time.
    pub elapsed: Duration,
}

/// Called with the state and the weights that would be returned now: after the first step, at the end of every epoch, and in
/// between as often as takes a twentieth of the time.
pub type OnSave<'a> = dyn FnMut(&TrainingState, &Weights, &History) -> Result<()> + 'a;

/// The engines a training runs on: one for the training batches, one for the validation batch.
#[derive(Debug)]
pub struct Engines {
    /// For batches of the training task.
    pub training: Engine,
    /// For batch 0 of the validation task.
    pub validation: Option<Engine>,
}

/// What a step depends on beside its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepPlan {
    pub rate: f32,
    /// Weight decay.
    pub decay: f32,
    /// How much the statistics of the batch count at least.
    pub share: f32,
    /// Decay of the running average, if there is one.
    pub average: Option<f32>,
}

/// On a device, losses are fetched when that many wait, or when the last ones were fetched that long ago.
const LOSSES_AT_ONCE: usize = 16;
const LOSSES_AFTER: Duration = Duration::from_millis(50);

/// Between the ends of epochs, checkpoints are written so seldom that they take at most this fraction of the time, as its
/// inverse.
const CHECKPOINT_INTERVAL: u32 = 20;

/// Trains until the steps are done, the time is over, or somebody asks to stop.
///
/// Batches are made beside the loop, in order, two ahead of it: by one thread, on an accelerator by as many as the caller's pool
/// has. A loss that is not finite ends the training with [`Error::Diverged`]; `state` then holds the weights of the last finite step,
/// on a device those that were fetched last.
///
/// On a device, a step leaves nothing behind on the CPU: losses are fetched some steps later, several at once, and only then the
/// observer is called, once for each step and in order. When it stops the training, steps that were begun since are done.
///
/// # Errors
/// [`Error::Diverged`], [`Error::Cancelled`] when the token is raised before the first step is done, and whatever the task, the
/// engine or `on_save` report.
pub fn train<T: Task>(
    engines: &mut Engines,
    task: &T,
    validation: Option<&T>,
    state: &mut TrainingState,
    history: &mut History,
    options: &LoopOptions,
    observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
    on_save: &mut OnSave<'_>,
) -> Result<TrainingOutcome> {
    let fixed = match validation {
        Some(task) => {
            let mut batch = T::Batch::default();
            task.batch_into(&mut batch, 0)?;
            Some((task, batch))
        }
        None => None,
    };
    let (full_sender, full) = sync_channel::<Result<T::Batch>>(2);
    let (empty_sender, empty) = sync_channel::<T::Batch>(4);
    let first = state.batches;
    let steps = options.steps;
    // An accelerator leaves all threads to the batches, which it would otherwise wait for.
    let threads = if engines.training.leaves_cpu_free() { rayon::current_num_threads() } else { 1 };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let make = move || {
                for index in first..first.saturating_add(steps as u64) {
                    let mut batch = empty.try_recv().unwrap_or_default();
                    let made = task.batch_into(&mut batch, index).map(|()| batch);
                    if full_sender.send(made).is_err() {
                        break;
                    }
                }
            };
            // A pool of its own keeps this thread's parallel loops out of the compute threads and of the host's pool.
            match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
                Ok(pool) => pool.install(make),
                Err(_) => make(),
            }
        });
        let recycle = |batch| drop(empty_sender.try_send(batch));
        let mut run = Loop {
            engines,
            task,
            validation: fixed.as_ref().map(|(task, batch)| (*task, batch)),
            state,
            history,
            options,
            before: 0,
            buffers: Buffers::default(),
            learner: None,
            reports: Vec::new(),
            unseen: Vec::new(),
            fetched: None,
            average: None,
            best: None,
            waited: 0,
        };
        run.run(full, recycle, observer, on_save)
    })
}

#[derive(Default)]
struct Buffers {
    outputs: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

/// A step that was made.
#[derive(Clone, Copy)]
struct Done {
    /// Counted from 1.
    step: usize,
    rate: f32,
    /// Since the beginning.
    elapsed: Duration,
}

struct Loop<'a, T: Task> {
    engines: &'a mut Engines,
    task: &'a T,
    validation: Option<(&'a T, &'a T::Batch)>,
    state: &'a mut TrainingState,
    history: &'a mut History,
    options: &'a LoopOptions,
    /// Steps of earlier trainings.
    before: u64,
    buffers: Buffers,
    /// The training on a device, which is ahead of `state` and `average`.
    learner: Option<DeviceLearner>,
    /// Losses of steps on the CPU that were not looked at yet.
    reports: Vec<(LossReport, bool)>,
    /// The steps whose losses were not looked at yet.
    unseen: Vec<Done>,
    /// When the last losses of a device were fetched.
    fetched: Option<Instant>,
    average: Option<Weights>,
    best: Option<(f64, Weights)>,
    waited: usize,
}

impl<T: Task> Loop<'_, T> {
    fn run(
        &mut self,
        batches: Receiver<Result<T::Batch>>,
        recycle: impl Fn(T::Batch),
        observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
        on_save: &mut OnSave<'_>,
    ) -> Result<TrainingOutcome> {
        let begin = Instant::now();
        let mut scheduler = Scheduler::new(self.options.schedule);
        let mut early_stopping = EarlyStopping::new();
        let mut stopped = StopReason::Finished;
        let mut last = 0.0;
        let mut step = 0;
        let (mut saved, mut cost) = (begin, Duration::ZERO);
        self.before = self.history.total_steps();
        self.task.set_carried(self.state.carried);
        let sizes = self.state.weights.parameters().iter().map(|p| vec![0.0; p.values.len()]);
        self.buffers.gradients = sizes.collect();
        self.average = self.options.average.map(|_| self.state.weights.clone());
        while step < self.options.steps {
            let Ok(batch) = batches.recv() else { break };
            let rate = self.options.learning_rate
                * scheduler.rate(self.done(step, begin.elapsed()))
                * early_stopping.rate_after(self.unseen.len());
            let made = batch.and_then(|batch| self.step(&batch, step, rate).map(|()| batch));
            let batch = match made {
                // A step that is not finished leaves no trace; what the others have learned is kept.
                Err(Error::Cancelled) if step > 0 => {
                    let losses = self.look(&mut early_stopping)?;
                    let events = self.record(losses, None);
                    last = events.last().map_or(last, |event| event.loss);
                    self.fetch_state()?;
                    self.check_weights(step, rate)?;
                    on_save(self.state, self.result(), self.history)?;
                    // The training ends whatever the observer says.
                    for event in &events {
                        let _ = observer(event);
                    }
                    stopped = StopReason::Cancelled;
                    break;
                }
                made => made?,
            };
            recycle(batch);
            step += 1;
            self.unseen.push(Done { step, rate, elapsed: begin.elapsed() });
            let over = self.options.time_budget.is_some() && self.done_by_time(step, begin.elapsed()) >= 1.0;
            let mut asked = self.options.cancel.is_cancelled();
            let mut losses = Vec::new();
            if self.is_time_to_look(&early_stopping) {
                losses = self.look(&mut early_stopping)?;
            }
            let ends = step == self.options.steps || over || asked || early_stopping.over_after(self.unseen.len());
            let epoch_ends = step % self.options.steps_per_epoch == 0 || ends;
            if epoch_ends {
                losses.extend(self.look(&mut early_stopping)?);
            }
            let validation_loss = match epoch_ends && !asked {
                true => self.validate(&mut scheduler).or_else(|error| match error {
                    Error::Cancelled => {
                        asked = true;
                        Ok(None)
                    }
                    error => Err(error),
                })?,
                false => None,
            };
            let events = self.record(losses, validation_loss);
            last = events.last().map_or(last, |event| event.loss);
            if epoch_ends || (self.unseen.is_empty() && saved.elapsed() >= cost * CHECKPOINT_INTERVAL) {
                let began = Instant::now();
                self.fetch_state()?;
                self.check_weights(step, rate)?;
                on_save(self.state, self.result(), self.history)?;
                (saved, cost) = (Instant::now(), began.elapsed());
            }
            if events.iter().any(|event| observer(event) == ControlFlow::Stop) || asked {
                stopped = StopReason::Cancelled;
                break;
            }
            if over {
                stopped = StopReason::TimeBudget;
                break;
            }
            let over = early_stopping.over_after(self.unseen.len());
            if over || self.options.patience.is_some_and(|patience| self.waited >= patience) {
                stopped = StopReason::NoImprovement;
                break;
            }
        }
        self.fetch_state()?;
        self.check_weights(step, self.options.learning_rate)?;
        let weights = self.result().clone();
        Ok(TrainingOutcome { weights, steps: step, loss: last, stopped, elapsed: begin.elapsed() })
    }

    /// Whether losses are to be looked at that were not: on the CPU after every step, on a device at a bounded rate.
    fn is_time_to_look(&self, early_stopping: &EarlyStopping) -> bool {
        self.learner.is_none()
            || self.unseen.len() >= LOSSES_AT_ONCE
            || self.fetched.is_none_or(|fetched| fetched.elapsed() >= LOSSES_AFTER)
            || (self.stops_early() && early_stopping.waits_for(self.unseen.len()))
    }

    fn stops_early(&self) -> bool {
        self.options.stop_early && self.validation.is_none()
    }

    /// The losses of all steps that were not looked at yet.
    fn look(&mut self, early_stopping: &mut EarlyStopping) -> Result<Vec<(Done, LossReport)>> {
        let reports = match &mut self.learner {
            Some(learner) => learner.reports()?,
            None => std::mem::take(&mut self.reports),
        };
        self.fetched = Some(Instant::now());
        let stops_early = self.stops_early();
        let mut losses = Vec::new();
        for (done, (report, finite)) in self.unseen.drain(..).zip(reports) {
            check_loss(&report, finite, done.step - 1, done.rate)?;
            if stops_early {
                early_stopping.saw(report.total);
            }
            losses.push((done, report));
        }
        Ok(losses)
    }

    /// Takes losses into the history, with what was validated after the last of them.
    fn record(&mut self, losses: Vec<(Done, LossReport)>, validation_loss: Option<f32>) -> Vec<Progress> {
        let count = losses.len();
        let mut events = Vec::new();
        for (index, (done, report)) in losses.into_iter().enumerate() {
            let event = self.event(done, report, validation_loss.filter(|_| index + 1 == count));
            self.history.push(self.before, &event);
            events.push(event);
        }
        events
    }

    /// Brings `state` and `average` up to what a device has done.
    fn fetch_state(&mut self) -> Result<()> {
        let Some(learner) = &self.learner else { return Ok(()) };
        learner.fetch(self.state, self.average.as_mut())?;
        self.task.set_carried(self.state.carried);
        Ok(())
    }

    /// How much of the training is over, by steps or by time, whichever is further.
    fn done(&self, step: usize, elapsed: Duration) -> f64 {
        let (done, all) = (step + self.options.begun, self.options.steps.saturating_add(self.options.begun));
        let by_steps = done as f64 / all.max(1) as f64;
        by_steps.max(self.done_by_time(step, elapsed))
    }

    /// How much of the time budget is over, less what the work after the loop will take; at least half of the budget is for
    /// the loop.
    fn done_by_time(&self, step: usize, elapsed: Duration) -> f64 {
        let Some(budget) = self.options.time_budget else { return 0.0 };
        let (budget, elapsed) = (budget.as_secs_f64(), elapsed.as_secs_f64());
        let after = self.options.steps_after * elapsed / step.max(1) as f64;
        elapsed / (budget - after).max(0.5 * budget)
    }

    /// One optimiser step; its loss is among the next that are looked at.
    fn step(&mut self, batch: &T::Batch, step: usize, rate: f32) -> Result<()> {
        let plan = StepPlan {
            rate,
            decay: self.options.weight_decay,
            share: if self.options.fresh_statistics { 1.0 / (self.state.batches + 1) as f32 } else { 0.0 },
            average: self.options.average.map(|decay| decay.min((1.0 + step as f32) / (10.0 + step as f32))),
        };
        let task = self.task;
        let measured = task.measured(batch);
        if self.learner.is_none() && measured.is_some() {
            let engine = &self.engines.training;
            self.learner = DeviceLearner::for_engine(engine, self.state, self.average.as_ref())?;
        }
        match (&mut self.learner, measured) {
            (Some(learner), Some(measured)) => {
                learner.step(task.input(batch), &measured, &plan, &self.options.cancel)?;
            }
            _ => self.step_here(batch, step, &plan)?,
        }
        self.state.batches += 1;
        Ok(())
    }

    /// A step with losses and optimiser on the CPU.
    fn step_here(&mut self, batch: &T::Batch, step: usize, plan: &StepPlan) -> Result<()> {
        let (task, gradients) = (self.task, &mut self.buffers.gradients);
        let engine = &mut self.engines.training;
        engine.set_weights(&self.state.weights)?;
        let mut report: Option<LossReport> = None;
        let mut loss = |images, outputs: &[Vec<f32>], output_gradients: &mut Vec<Vec<f32>>| {
            let new = task.loss(batch, Some(images), outputs, Some(output_gradients))?;
            match &mut report {
                Some(report) => report.add(new),
                None => report = Some(new),
            }
            Ok(())
        };
        let learned = engine.learn(&self.state.weights, task.input(batch), &mut loss, gradients, &self.options.cancel);
        if let Err(error) = learned {
            // The loss remembers what it saw; a step that is not finished leaves no trace.
            task.set_carried(self.state.carried);
            return Err(error);
        }
        let report = report.ok_or_else(|| Error::Internal("a batch without an image".into()))?;
        let finite = gradients.iter().all(|values| values.iter().all(|value| value.is_finite()));
        check_loss(&report, finite, step, plan.rate)?;
        engine.update_statistics(&mut self.state.weights, plan.share);
        self.state.optimizer.set_decay(plan.decay);
        self.state.optimizer.step(&mut self.state.weights, gradients, plan.rate);
        self.state.carried = self.task.carried();
        if let (Some(average), Some(decay)) = (&mut self.average, plan.average) {
            blend(average, &self.state.weights, decay);
        }
        self.reports.push((report, finite));
        Ok(())
    }

    /// Refuses weights and moments that are not finite: no file that holds them could be read again. A step may leave them
    /// although its loss and its gradients were finite.
    fn check_weights(&self, step: usize, rate: f32) -> Result<()> {
        let moments = || self.state.optimizer.memory().into_iter().flatten().flatten().all(|value| value.is_finite());
        if self.result().is_finite() && self.state.weights.is_finite() && moments() && self.state.carried.is_finite() {
            return Ok(());
        }
        Err(Error::Diverged(format!(
            "after step {step} the weights are no longer finite; nothing of this training was kept. Lower the learning rate \
             (it is {rate:e})"
        )))
    }

    /// Measures the validation loss of the weights that would be returned now.
    fn validate(&mut self, scheduler: &mut Scheduler) -> Result<Option<f32>> {
        if self.validation.is_some() {
            self.fetch_state()?;
        }
        let (Some((task, batch)), Some(engine)) = (self.validation, &mut self.engines.validation) else {
            return Ok(None);
        };
        let weights = self.average.as_ref().unwrap_or(&self.state.weights);
        engine.set_weights(weights)?;
        engine.forward_until(weights, task.input(batch), &mut self.buffers.outputs, &self.options.cancel)?;
        let loss = task.loss(batch, None, &self.buffers.outputs, None)?.total;
        scheduler.validated(loss);
        if loss.is_finite() && self.best.as_ref().is_none_or(|(best, _)| loss < *best) {
            self.best = Some((loss, weights.clone()));
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        // A file has no place for what is not finite, and such a loss is worse than all others.
        let loss = loss as f32;
        Ok(Some(if loss.is_finite() { loss } else { f32::MAX }))
    }

    /// The weights that would be returned now.
    fn result(&self) -> &Weights {
        match (&self.best, &self.average) {
            (Some((_, best)), _) => best,
            (None, Some(average)) => average,
            (None, None) => &self.state.weights,
        }
    }

    fn event(&self, done: Done, report: LossReport, validation_loss: Option<f32>) -> Progress {
        let Done { step, rate: learning_rate, elapsed } = done;
        let done = self.done(step, elapsed).clamp(1e-9, 1.0);
        let total_steps = match self.options.time_budget {
            Some(_) => ((step as f64 / done).round() as usize).clamp(step, self.options.steps.max(step)),
            None => self.options.steps,
        };
        Progress {
            step,
            total_steps,
            epoch: (step - 1) / self.options.steps_per_epoch + 1,
            loss: report.total as f32,
            losses: report.parts,
            validation_loss,
            learning_rate,
            elapsed,
            remaining: elapsed.mul_f64((1.0 - done) / done),
        }
    }
}

/// Refuses the loss of a step that is not finite, or whose gradients are not; `before` it were as many finite steps.
fn check_loss(report: &LossReport, finite: bool, before: usize, rate: f32) -> Result<()> {
    let parts = report.parts.iter().all(|(_, part)| part.is_finite());
    if (report.total as f32).is_finite() && parts && finite {
        return Ok(());
    }
    let finite_steps = if before == 1 { "1 step that was".into() } else { format!("{before} steps that were") };
    Err(Error::Diverged(format!(
        "the loss of step {} is {}, after {finite_steps} finite; nothing of this training was kept. \
         Lower the learning rate (it is {rate:e})",
        before + 1,
        report.total
    )))
}

/// `average = decay * average + (1 - decay) * weights`
fn blend(average: &mut Weights, weights: &Weights, decay: f32) {
    for (average, new) in average.parameters_mut().zip(weights.parameters()) {
        for (average, new) in average.values.iter_mut().zip(&new.values) {
            *average = decay * *average + (1.0 - decay) * new;
        }
    }
}

#[cfg(test)]
#[path = "trainer_tests.rs"]
mod tests;
