//! Training, with the observer on the caller's own thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::{PoisonError, mpsc};
use std::thread;

use cellsparse_core::model::{TrainingSummary, choose_algorithm};
use cellsparse_core::{ControlFlow, Dataset, Model, Progress, TrainOptions};

use crate::boundary::{enter, panic_message};
use crate::dataset::{Pairs, cellsparse_dataset};
use crate::handles::{Behind, write};
use crate::library::{Token, cellsparse_cancel};
use crate::model::{SharedModel, cellsparse_model};
use crate::options;
use crate::pointers::{expect, optional_text, put_text};
use crate::status::{Failure, Outcome, cellsparse_status};

/// One part of the loss.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_loss_part {
    /// Its name.
    pub name: *const c_char,
    /// Its unweighted value.
    pub value: f32,
}

/// One event of a running training, sent after every optimiser step; valid during the callback only.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_progress {
    /// Optimiser steps done, from 1.
    pub step: u64,
    /// Optimiser steps asked for.
    pub total_steps: u64,
    /// Validation period the step belongs to, from 1.
    pub epoch: u64,
    /// Weighted total loss of this step's batch.
    pub loss: f32,
    /// Validation loss in the event of the step after which it was measured, otherwise NaN.
    pub validation_loss: f32,
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Seconds since training began.
    pub elapsed: f64,
    /// Estimated seconds until training ends.
    pub remaining: f64,
    /// The parts of the loss, in a fixed order.
    pub losses: *const cellsparse_loss_part,
    /// Number of parts.
    pub n_losses: usize,
}

/// Watches a training. Returns 0 to go on; anything else stops the training after this step, which keeps the weights
/// reached so far. It is called on the thread that called cellsparse_model_train(), must not throw or jump out, and may raise
/// cancel handles; a call with the model that is being trained returns CELLSPARSE_STATUS_BUSY.
pub type cellsparse_observer =
    Option<unsafe extern "C" fn(userdata: *mut c_void, progress: *const cellsparse_progress) -> i32>;

/// Why a training ended. The numbers never change; later versions may add some.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum cellsparse_stop_reason {
    /// All steps are done.
    Finished = 0,
    /// The validation loss no longer went down, or without validation that of the training.
    NoImprovement = 1,
    /// The time budget is used up.
    TimeBudget = 2,
    /// The observer or a cancel handle asked for it.
    Cancelled = 3,
}

/// What a training did.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_training_summary {
    /// Optimiser steps done.
    pub steps: u64,
    /// Wall time of the steps and validations.
    pub seconds: f64,
    /// `seconds / steps`.
    pub seconds_per_step: f64,
    /// Loss of the last step.
    pub loss: f32,
    /// Why it ended: a cellsparse_stop_reason.
    pub stopped: u32,
    /// Device that did the work, ending with NUL.
    pub device: [c_char; 32],
}

thread_local! {
    /// What [`last_training`] tells.
    static LAST_TRAINING: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What the last training of this thread did, as cellsparse_model_last_training() tells it of a model: for languages above C,
/// where the model may have been freed meanwhile.
pub fn last_training() -> Option<String> {
    LAST_TRAINING.with(|last| last.borrow().clone())
}

/// Trains a model on annotated images, from the weights it has now. The same seed, data and machine kind give the same
/// weights, whatever the number of threads.
///
/// With `validation` (may be NULL) the weights with the lowest validation loss are kept and thresholds are chosen on it.
/// `options` is a JSON object, or NULL for the defaults: steps, batch_size, patch_size, learning_rate,
/// preset ("default" or "reference"), time_budget (seconds), init ("starter": a model that was never trained begins with the
/// weights in this library, which were learned on drawn fields; or "none": with those it has), seed (0), resume (false), normalized (false; true takes
/// intensities as they are instead of scaling each image), pixel_size (micrometres of all images, one number or [height, width];
/// see also cellsparse_dataset_set_pixel_size()), rescale (true: images of different pixel sizes are brought to one), device ("auto"),
/// precision ("auto", "f32", "bf16", or "tf32", which CUDA devices alone have), threads, memory (bytes, or a text like "4G"; half
/// of what is free), checkpoint (a path). `cancel`,
/// `observer`, `userdata` and `summary_out` may be NULL; `userdata` is handed to the observer.
///
/// What else is to be known of the training is told by cellsparse_model_last_training().
///
/// Stopping early, by the observer or by `cancel`, is no failure: the weights so far are kept. `cancel` before the first step
/// is done ends the call with CELLSPARSE_STATUS_CANCELLED, as nothing was learned. After a failure the model is
/// as it was before. Changes the model: it needs it alone; any thread. The datasets are only read, and may be used by
/// several trainings at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_model_train(
    model: *mut cellsparse_model,
    dataset: *const cellsparse_dataset,
    validation: *const cellsparse_dataset,
    options: *const c_char,
    cancel: *const cellsparse_cancel,
    observer: cellsparse_observer,
    userdata: *mut c_void,
    summary_out: Option<&mut MaybeUninit<cellsparse_training_summary>>,
) -> cellsparse_status {
    enter(|| {
        let handle = SharedModel::find(model)?;
        // SAFETY: the caller's promise about its texts.
        let options = options::train(unsafe { optional_text(options, "options") }?, Token::optional(cancel)?)?;
        let dataset = Pairs::find(dataset)?.dataset()?;
        let validation = if validation.is_null() { None } else { Some(Pairs::find(validation)?.dataset()?) };
        let mut model = write(&handle.0, SharedModel::NAME)?;
        let mut answer = |event: &Progress| {
            let Some(observer) = observer else { return ControlFlow::Continue };
            // SAFETY: the caller's promise about its observer, which runs on the caller's thread.
            let flow = shown(event, |progress| unsafe { observer(userdata, progress) });
            // A token that the observer raised counts at once and not after one more step.
            if options.cancel.is_cancelled() { ControlFlow::Stop } else { flow }
        };
        let observed = observer.is_some();
        let summary = train(&mut model, &dataset, validation.as_deref(), &options, observed.then_some(&mut answer))?;
        if let Some(out) = summary_out {
            out.write(told(&summary));
        }
        LAST_TRAINING.with(|last| last.replace(serde_json::to_string(&summary).ok()));
        *handle.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(summary);
        Ok(())
    })
}

/// Tries every algorithm on the drawn cells of a dataset: each trains 20 small steps on half of them and is scored on the
/// other half, then the halves change places. Gives a JSON object: algorithm (the one to make a model of), reason (a sentence),
/// trials (algorithm and score of each, best first).
///
/// `options` as of cellsparse_model_train(), for the training to come; of its time_budget at most three tenths are taken.
/// `cancel` may be NULL; raised, it ends the call with CELLSPARSE_STATUS_CANCELLED. Free the text with
/// cellsparse_string_free(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_choose_algorithm(
    dataset: *const cellsparse_dataset,
    options: *const c_char,
    cancel: *const cellsparse_cancel,
    json_out: Option<&mut MaybeUninit<*const c_char>>,
) -> cellsparse_status {
    enter(|| {
        expect(&json_out, "json_out")?;
        // SAFETY: the caller's promise about its texts.
        let options = options::train(unsafe { optional_text(options, "options") }?, Token::optional(cancel)?)?;
        let choice = choose_algorithm(&*Pairs::find(dataset)?.dataset()?, &options)?;
        put_text(json_out, serde_json::to_string(&choice).map_err(Failure::internal)?, "json_out")
    })
}

/// Trains on a thread of its own, so that the observer is called on this one.
fn train(
    model: &mut Model,
    data: &Dataset,
    validation: Option<&Dataset>,
    options: &TrainOptions,
    observer: Option<&mut dyn FnMut(&Progress) -> ControlFlow>,
) -> Outcome<TrainingSummary> {
    let Some(observer) = observer else {
        return Ok(model.train(data, validation, options, &mut |_| ControlFlow::Continue)?);
    };
    let (event_out, events) = mpsc::channel::<Progress>();
    let (answer_out, answers) = mpsc::channel::<ControlFlow>();
    thread::scope(|scope| {
        let work = move || {
            let mut ask = move |event: &Progress| match event_out.send(event.clone()) {
                Ok(()) => answers.recv().unwrap_or(ControlFlow::Stop),
                Err(_) => ControlFlow::Stop,
            };
            model.train(data, validation, options, &mut ask)
        };
        let worker = thread::Builder::new().name("cellsparse-train".into()).spawn_scoped(scope, work);
        let worker = worker.map_err(|error| Failure::internal(format!("starting a thread: {error}")))?;
        for event in events {
            if answer_out.send(observer(&event)).is_err() {
                break;
            }
        }
        match worker.join() {
            Ok(result) => Ok(result?),
            Err(payload) => Err(Failure::internal(panic_message(&*payload))),
        }
    })
}

/// Shows an event in the form of C.
fn shown(event: &Progress, show: impl FnOnce(&cellsparse_progress) -> i32) -> ControlFlow {
    let names: Vec<CString> = event.losses.iter().map(|(name, _)| CString::new(*name).unwrap_or_default()).collect();
    let losses: Vec<cellsparse_loss_part> = names
        .iter()
        .zip(&event.losses)
        .map(|(name, (_, value))| cellsparse_loss_part { name: name.as_ptr(), value: *value })
        .collect();
    let progress = cellsparse_progress {
        step: event.step as u64,
        total_steps: event.total_steps as u64,
        epoch: event.epoch as u64,
        loss: event.loss,
        validation_loss: event.validation_loss.unwrap_or(f32::NAN),
        learning_rate: event.learning_rate,
        elapsed: event.elapsed.as_secs_f64(),
        remaining: event.remaining.as_secs_f64(),
        losses: losses.as_ptr(),
        n_losses: losses.len(),
    };
    if show(&progress) == 0 { ControlFlow::Continue } else { ControlFlow::Stop }
}

/// A summary in the form of C.
fn told(summary: &TrainingSummary) -> cellsparse_training_summary {
    let mut device = [0; 32];
    // The last place stays NUL.
    for (place, byte) in device.iter_mut().take(31).zip(summary.device.bytes()) {
        *place = byte as c_char;
    }
    cellsparse_training_summary {
        steps: summary.steps as u64,
        seconds: summary.seconds,
        seconds_per_step: summary.seconds_per_step,
        loss: summary.loss,
        stopped: summary.stopped.code(),
        device,
    }
}

#[cfg(test)]
mod tests {
    use cellsparse_core::StopReason;

    use super::*;

    #[test]
    fn every_reason_has_its_number() {
        for reason in StopReason::ALL {
            let number = [
                cellsparse_stop_reason::Finished,
                cellsparse_stop_reason::NoImprovement,
                cellsparse_stop_reason::TimeBudget,
                cellsparse_stop_reason::Cancelled,
            ]
            .into_iter()
            .find(|known| format!("{known:?}") == format!("{reason:?}"))
            .map(|known| known as u32);
            assert_eq!(Some(reason.code()), number, "{reason}");
        }
    }
}
