//! Trainings and predictions on threads beside those that answer requests.

use std::sync::Arc;

use axum::http::StatusCode;
use cellsparse_core::annotations::Dataset;
use cellsparse_core::formats::geojson::{Feature, GeoJsonOptions, OutlineRule};
use cellsparse_core::model::{Algorithm, Architecture, Choice, PredictOptions, Start, TrainOptions, choose_algorithm};
use cellsparse_core::raster::Image;
use cellsparse_core::{CancelToken, ControlFlow, Error, ErrorKind, Model, Reason};

use super::app::App;
use super::entry::Entry;
use super::errors::{Location, Refusal};
use super::event::Event;
use super::images::{self, Labels, RequestImage};
use super::live::Outcome;
use super::memory::Share;

/// What a request asks for, decoded.
pub struct Work {
    /// Its images.
    pub fields: Vec<RequestImage>,
    /// Train.
    pub train: bool,
    /// Segment.
    pub eval: bool,
    /// Answer with a list for each image.
    pub several: bool,
    /// Optimiser steps.
    pub steps: usize,
    /// Side of the training patches.
    pub patch_size: usize,
    /// Patches in a batch.
    pub batch_size: usize,
    /// Learning rate.
    pub learning_rate: Option<f32>,
    /// Tolerance of the outlines.
    pub simplify: Option<f64>,
    /// Channels of a new StarDist network.
    pub channels: Option<usize>,
    /// Cellpose's channels.
    pub chosen: [usize; 2],
    /// How outlines are drawn.
    pub outline: OutlineRule,
    /// Of the batches and augmentations.
    pub seed: Option<u64>,
    /// Weights of a new network.
    pub init: Start,
    /// Of the prediction, but for what the server decides.
    pub prediction: PredictOptions,
    /// What was found out while it was decoded.
    pub notes: Vec<String>,
    /// Memory that its images take.
    pub _memory: Share,
}

/// Whether there is something to train on.
pub enum TrainingData {
    /// There is. What is left out of it, if anything is.
    Drawn(Option<String>),
    /// There is not, for this reason, and the original server said nothing about it.
    Nothing(String),
}

impl Work {
    /// Looks at the labels.
    ///
    /// # Errors
    /// 422 when there is nothing to train on; with `strict` also where the original server answered 200.
    pub fn training_data(&self, algorithm: Algorithm, strict: bool) -> Result<TrainingData, Refusal> {
        let labels =
            |field: &RequestImage| -> Vec<Location> { field.at.iter().cloned().chain(["b64lbl".into()]).collect() };
        for field in &self.fields {
            if let Labels::Misfit(reason) = &field.labels {
                if algorithm == Algorithm::Cellpose && !strict && !self.several {
                    return Ok(TrainingData::Nothing(format!("nothing was trained: {reason}")));
                }
                return Err(Refusal::field(labels(field), reason.clone(), "value_error.labels"));
            }
        }
        if self.fields.iter().any(|field| matches!(field.labels, Labels::Drawn(_))) {
            let without = self.fields.iter().filter(|field| matches!(field.labels, Labels::NoCell)).count();
            let (have, were) = if without == 1 { ("has", "it was") } else { ("have", "they were") };
            let note =
                format!("{without} of {} images {have} background and no cell; {were} left out", self.fields.len());
            return Ok(TrainingData::Drawn((without > 0).then_some(note)));
        }
        if let Some(field) = self.fields.iter().find(|field| matches!(field.labels, Labels::NoCell)) {
            let reason = "no cell is annotated: the highest value is 1, which is background; cells begin at 2";
            return Err(Refusal::field(labels(field), reason, "value_error.labels"));
        }
        let Some(first) = self.fields.first() else { return Err(Refusal::internal("a request without images")) };
        match first.labels {
            Labels::Empty => {
                let reason = "nothing is annotated: every label is 0; draw at least one cell";
                if algorithm == Algorithm::Stardist && !strict && !self.several {
                    return Ok(TrainingData::Nothing(format!("nothing was trained: {reason}")));
                }
                Err(Refusal::field(labels(first), reason, "value_error.labels"))
            }
            _ => Err(Refusal::field(labels(first), "training needs labels; send b64lbl", "value_error.missing")),
        }
    }
}

/// Tries every algorithm on the drawn cells of a request. Blocks.
///
/// # Errors
/// What is wrong with the labels, or 409 when the training was cancelled.
pub fn choose(app: &App, work: &Work, cancel: &CancelToken) -> Result<Choice, Refusal> {
    if let TrainingData::Nothing(reason) = work.training_data(Algorithm::Elephant, true)? {
        return Err(Refusal::field(vec!["body".into(), "b64lbl".into()], reason, "value_error.labels"));
    }
    let (mut pictures, mut labels) = (Vec::new(), Vec::new());
    for field in &work.fields {
        if let Labels::Drawn(drawn) = &field.labels {
            pictures.push(field.image.clone());
            labels.push(drawn.clone());
        }
    }
    let in_body = |error| Refusal::from_core(error, vec!["body".into()]);
    let data = Dataset::new(pictures, labels).map_err(in_body)?;
    let options = TrainOptions {
        steps: Some(work.steps),
        time_budget: app.limits.time,
        device: app.device,
        threads: app.threads,
        memory: app.memory,
        start: work.init,
        seed: work.seed.unwrap_or_default(),
        normalized: work.prediction.normalized,
        cancel: cancel.clone(),
        ..TrainOptions::default()
    };
    choose_algorithm(&data, &options).map_err(in_body)
}

/// A model with new weights, and what a user should know of its training.
type Trained = (Arc<Model>, Vec<String>);

/// Trains a model on the labelled images and returns it with the new weights. Its `place` among the trainings ends when it has
/// learned, before the model is written. Blocks.
///
/// # Errors
/// What is wrong with the data, or with the model.
pub fn train<P>(app: &App, entry: &Entry, work: &Work, cancel: &CancelToken, place: P) -> Result<Trained, Refusal> {
    let result = train_and_keep(app, entry, work, cancel, place);
    if let Err(refusal) = &result {
        entry.live.finish(Outcome::Failed { detail: refusal.reason() });
    }
    result
}

fn train_and_keep<P>(
    app: &App,
    entry: &Entry,
    work: &Work,
    cancel: &CancelToken,
    place: P,
) -> Result<Trained, Refusal> {
    let in_body = |error| Refusal::from_core(error, vec!["body".into()]);
    if cancel.is_cancelled() {
        return Err(nothing_learned());
    }
    let known = entry.model().map_err(in_body)?;
    let _underway = app.store.admit(entry, || entry.begin_training(known.clone()))?;
    app.store.check_writable(entry.algorithm).map_err(in_body)?;
    let seed = work.seed.unwrap_or_default();
    let mut model = match &known {
        Some(model) => Model::clone(model),
        None => {
            Model::new(Architecture::of(entry.algorithm, new_channels(work, entry.algorithm)), seed).map_err(in_body)?
        }
    };
    let data = dataset(app, work, &model)?;
    let mut options = TrainOptions {
        steps: Some(work.steps),
        batch_size: Some(work.batch_size),
        patch_size: Some(work.patch_size),
        learning_rate: work.learning_rate,
        time_budget: app.limits.time,
        resume: model.info().resumable,
        device: app.device,
        threads: app.threads,
        memory: app.memory,
        checkpoint: Some(entry.path().clone()),
        start: work.init,
        seed,
        normalized: work.prediction.normalized,
        pixel_size: work.prediction.pixel_size,
        rescale: work.prediction.rescale,
        cancel: cancel.clone(),
        ..TrainOptions::default()
    };
    entry.live.start(work.steps);
    let mut moved = false;
    let mut observer = |progress: &cellsparse_core::Progress| {
        moved = true;
        entry.live.step(progress);
        ControlFlow::Continue
    };
    let mut result = model.train(&data, None, &options, &mut observer);
    if result.as_ref().is_err_and(|error| error.reason() == Some(&Reason::NotResumable)) {
        // The optimiser of another preset cannot go on with this one; the weights can.
        options.resume = false;
        result = model.train(&data, None, &options, &mut observer);
    }
    drop(place);
    match result {
        Ok(summary) => {
            let notes = summary.notes.clone();
            let published = entry.publish(model).map_err(in_body);
            if published.is_ok() {
                entry.live.finish(Outcome::Finished(summary));
            }
            app.store.trim();
            Ok((published?, notes))
        }
        Err(error) => {
            if moved && let Err(error) = entry.restore() {
                app.observer.tell(Event::NotRestored { model: entry.name.as_str(), error: &error });
            }
            Err(if error.kind() == ErrorKind::Cancelled { nothing_learned() } else { in_body(error) })
        }
    }
}

/// The answer to a training that was stopped before it learned anything.
fn nothing_learned() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "the training was cancelled before its first step; nothing was learned")
}

/// Segments every image and returns the features of each, and what a user should know of the results. Blocks.
///
/// # Errors
/// What is wrong with an image.
pub fn predict(
    app: &App,
    model: &Model,
    work: &Work,
    cancel: &CancelToken,
) -> Result<(Vec<Vec<Feature>>, Vec<String>), Refusal> {
    let options = PredictOptions {
        device: app.device,
        threads: app.threads,
        memory: app.memory,
        cancel: cancel.clone(),
        ..work.prediction.clone()
    };
    let (mut results, mut notes) = (Vec::new(), Vec::new());
    for (index, field) in work.fields.iter().enumerate() {
        if cancel.is_cancelled() {
            return Err(Refusal::from_core(Error::Cancelled, Vec::new()));
        }
        let (image, at) = fitted(app, work, field, model, &mut 0)?;
        let found = model.predict_whole_or_by_parts(image, &options);
        let found = found.map_err(|error| Refusal::from_core(error, at.clone()))?;
        let drawing = GeoJsonOptions { outline: work.outline, simplify: work.simplify, ..GeoJsonOptions::default() };
        let place = if work.several { format!("image {index}: ") } else { String::new() };
        notes.extend(found.notes.iter().map(|note| format!("{place}{note}")));
        results.push(found.geojson_until(&drawing, cancel).map_err(|error| Refusal::from_core(error, at))?);
    }
    Ok((results, notes))
}

/// The finished model of an entry. Blocks.
///
/// # Errors
/// 404 when there is none; without `strict`, `None` where the original server predicts with random weights.
pub fn finished(app: &App, entry: &Entry) -> Result<Option<Arc<Model>>, Refusal> {
    let model = entry.model().map_err(|error| Refusal::from_core(error, Vec::new()))?;
    app.store.trim();
    if model.is_none() && (app.strict || entry.algorithm == Algorithm::Cellpose) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, untrained(entry)));
    }
    Ok(model)
}

/// What is said of a model that was never trained.
pub fn untrained(entry: &Entry) -> String {
    match entry.live.status().state {
        "idle" => format!("there is no model '{}' of {} yet; train it first", entry.name, entry.algorithm),
        _ => format!("the first training of the model '{}' of {} is not over yet", entry.name, entry.algorithm),
    }
}

/// Channels of a new network. Only StarDist tells colours apart: the original makes ELEPHANT's images grey and lets
/// Cellpose's fields choose.
fn new_channels(work: &Work, algorithm: Algorithm) -> usize {
    let first = work.fields.iter().find(|field| matches!(field.labels, Labels::Drawn(_)));
    match algorithm {
        Algorithm::Stardist => work.channels.or(first.map(|field| field.image.channels())).unwrap_or(1),
        Algorithm::Cellpose if work.chosen[1] > 0 => 2,
        _ => 1,
    }
}

fn dataset(app: &App, work: &Work, model: &Model) -> Result<Dataset, Refusal> {
    let (mut pictures, mut labels, mut samples) = (Vec::new(), Vec::new(), 0);
    for field in &work.fields {
        if let Labels::Drawn(drawn) = &field.labels {
            pictures.push(fitted(app, work, field, model, &mut samples)?.0);
            labels.push(drawn.clone());
        }
    }
    Dataset::new(pictures, labels).map_err(|error| Refusal::from_core(error, vec!["body".into()]))
}

/// Samples of all images of a training together at most, for each pixel that one image may have.
const SAMPLES_PER_PIXEL: usize = 16;

/// An image as the network reads it, and where it stands in the request. Its samples are added to `samples`.
fn fitted(
    app: &App,
    work: &Work,
    field: &RequestImage,
    model: &Model,
    samples: &mut usize,
) -> Result<(Image, Vec<Location>), Refusal> {
    let at: Vec<Location> = field.at.iter().cloned().chain(["b64img".into()]).collect();
    let (rows, columns, _) = field.image.shape();
    let channels = model.architecture().n_channels();
    *samples = samples.saturating_add(rows.saturating_mul(columns).saturating_mul(channels));
    let most = app.limits.pixels.saturating_mul(SAMPLES_PER_PIXEL);
    if *samples > most {
        let msg = format!(
            "images for a network of {channels} channels with {samples} samples or more; this server takes {most} at most"
        );
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, msg));
    }
    Ok((images::fit(&field.image, model.algorithm(), channels, work.chosen, &at)?, at))
}
