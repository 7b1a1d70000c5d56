//! Learning while labels are drawn: rounds, one after the other, each with a preview.

use std::sync::Arc;
use std::time::Instant;

use cellsparse_core::model::choose_algorithm;
use cellsparse_core::session::{Learner, RoundOptions, TrainingData};
use cellsparse_core::{CancelToken, ControlFlow, ErrorKind, Result as CoreResult, TrainOptions};
use serde_json::json;

use super::lock;
use super::status::{Phase, RoundReport};
use super::talk::Talk;
use crate::app::App;
use crate::errors::Refusal;

/// Seconds after which the model is stored while learning goes on.
const STORED: f64 = 10.0;

/// Learns from now on, until [`Talk::stop`].
pub fn start(app: &Arc<App>, talk: &Arc<Talk>) {
    {
        let mut status = lock(&talk.status);
        status.wanted = true;
        status.spent = 0.0;
        status.message = None;
    }
    wake(app, talk);
}

/// Goes on learning after a change, if it is to learn.
pub fn wake(app: &Arc<App>, talk: &Arc<Talk>) {
    {
        let mut status = lock(&talk.status);
        if !status.wanted || status.running {
            return;
        }
        status.running = true;
    }
    tokio::spawn(rounds(Arc::clone(app), Arc::clone(talk)));
}

/// Whether there is another round, and what ends it.
enum Next {
    /// One, with the choice of thresholds if it is the last one.
    Round {
        cancel: CancelToken,
        last: bool,
    },
    End,
}

async fn rounds(app: Arc<App>, talk: Arc<Talk>) {
    let mut stored = Instant::now();
    while let Next::Round { cancel, last } = next(&app, &talk) {
        if app.trainings.is_busy() {
            lock(&talk.status).phase = Phase::Queued;
            talk.tell_status();
        }
        let turn = match app.trainings.queue() {
            Ok(place) => app.unless_stopped(place.turn()).await.and_then(|turn| turn),
            Err(refusal) => Err(refusal),
        };
        let turn = match turn {
            Ok(turn) => turn,
            Err(refusal) => {
                failed(&talk, &refusal);
                continue;
            }
        };
        let (server, own) = (Arc::clone(&app), Arc::clone(&talk));
        let done = tokio::task::spawn_blocking(move || {
            let _held = turn;
            round(&server, &own, last, &cancel)
        })
        .await;
        match done {
            Ok(Ok(true)) => {}
            // No cell is drawn.
            Ok(Ok(false)) => {
                lock(&talk.status).phase = Phase::Waiting;
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Cancelled => {}
            Ok(Err(error)) => failed(&talk, &super::talk::about_project(error)),
            Err(_) => failed(&talk, &Refusal::internal("a panic while learning; see the server's log")),
        }
        if stored.elapsed().as_secs_f64() > STORED {
            store(&talk).await;
            stored = Instant::now();
        }
    }
    store(&talk).await;
    talk.tell_status();
}

/// Whether to go on. When not, a later change begins anew.
fn next(app: &App, talk: &Talk) -> Next {
    let seconds = lock(&talk.project).settings().seconds;
    let drawn = lock(&talk.project).pictures().any(|picture| picture.canvas.counts()[0] > 0);
    let mut status = lock(&talk.status);
    let phase = if !status.wanted || *app.stop.borrow() {
        Some(Phase::Off)
    } else if !drawn {
        Some(Phase::Waiting)
    } else if status.spent >= seconds && status.settled {
        Some(Phase::Resting)
    } else {
        None
    };
    if let Some(phase) = phase {
        // In one step with the decision: a change after it finds that nothing runs.
        (status.phase, status.running) = (phase, false);
        return Next::End;
    }
    status.cancel = CancelToken::new();
    Next::Round { cancel: status.cancel.clone(), last: status.spent >= seconds }
}

fn failed(talk: &Talk, refusal: &Refusal) {
    {
        let mut status = lock(&talk.status);
        status.wanted = false;
        status.message = Some(refusal.reason());
    }
    talk.tell("failed", &json!({ "detail": refusal.reason() }));
}

/// One round with its preview. False when there is nothing to learn from. Blocks.
fn round(app: &App, talk: &Talk, last: bool, cancel: &CancelToken) -> CoreResult<bool> {
    let began = Instant::now();
    let Some(data) = talk.data(app)? else { return Ok(false) };
    let known = lock(&talk.learner).clone();
    let mut learner = match known {
        Some(learner) => Learner::clone(&learner),
        None => begin(app, talk, &data, cancel)?,
    };
    lock(&talk.status).phase = Phase::Learning;
    talk.tell_status();
    let options = RoundOptions {
        settle: last,
        normalized: data.normalized,
        device: app.device,
        threads: app.threads,
        memory: app.memory,
        cancel: cancel.clone(),
        ..RoundOptions::default()
    };
    let version = lock(&talk.status).version;
    let round = learner.round(&data.data, &options, &mut |progress| {
        lock(&talk.status).add_loss(progress.loss);
        talk.tell("step", &json!({ "loss": progress.loss }));
        ControlFlow::Continue
    })?;
    let image = {
        let mut status = lock(&talk.status);
        if status.version != version {
            // What was learned was to be forgotten.
            return Ok(true);
        }
        *lock(&talk.learner) = Some(Arc::new(learner));
        status.version += 1;
        status.round = Some(RoundReport::from(&round));
        status.settled = last;
        status.image
    };
    if let Some(id) = image {
        match talk.found(app, id, &cancel.renewed()).and_then(|found| talk.compare(id, &found)) {
            Ok(()) => {}
            // It was taken out.
            Err(error) if error.kind() == ErrorKind::Config => {}
            Err(error) => return Err(error),
        }
    }
    lock(&talk.status).spent += began.elapsed().as_secs_f64();
    talk.tell_status();
    Ok(true)
}

/// A model that is to begin.
fn begin(app: &App, talk: &Talk, data: &TrainingData, cancel: &CancelToken) -> CoreResult<Learner> {
    let settings = lock(&talk.project).settings().clone();
    let channels = data.data.images().first().map_or(1, |image| image.channels());
    let algorithm = match settings.algorithm {
        Some(algorithm) => algorithm,
        None => {
            lock(&talk.status).phase = Phase::Choosing;
            talk.tell_status();
            let options = TrainOptions {
                device: app.device,
                threads: app.threads,
                memory: app.memory,
                normalized: data.normalized,
                cancel: cancel.clone(),
                ..TrainOptions::default()
            };
            let choice = choose_algorithm(&data.data, &options)?;
            lock(&talk.status).message = Some(choice.reason);
            choice.algorithm
        }
    };
    Learner::new(algorithm, channels)
}

/// Writes the model of the project.
async fn store(talk: &Arc<Talk>) {
    let own = Arc::clone(talk);
    let stored = tokio::task::spawn_blocking(move || own.store());
    if let Ok(Err(error)) = stored.await {
        lock(&talk.status).message = Some(format!("the model could not be stored: {}", error.message()));
    }
}
