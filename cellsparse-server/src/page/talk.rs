//! An open project: what several requests, and the learning, work on at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use cellsparse_core::raster::{Image, LabelImage, ReadLimits};
use cellsparse_core::session::{
    Answer, Change, Learner, Pixels, Project, Settings, Slide, Suggestion, TrainingData, Window, agreement,
};
use cellsparse_core::{CancelToken, Error, ErrorKind, PredictOptions, Result as CoreResult, Segmentation};
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast;

use super::lock;
use super::status::{Phase, Status};
use crate::app::App;
use crate::errors::Refusal;
use crate::live::Event;
use crate::names::ModelName;

/// Events that a slow listener may be behind before it misses some.
const BACKLOG: usize = 256;

/// Bytes of decoded images that are kept.
const KEPT: usize = 1 << 30;

/// What was found in an image.
#[derive(Debug)]
pub struct Found {
    /// The objects.
    pub segmentation: Segmentation,
    /// The part that was looked at.
    pub window: Window,
    /// The version of the weights.
    pub version: u64,
}

/// Images by their number, and whether they have the chosen channels alone.
type Images = BTreeMap<(u32, bool), Arc<Image>>;

/// Images that are read by parts, by their number and whether they have the chosen channels alone; `None` for others.
type Slides = BTreeMap<(u32, bool), Option<Arc<Slide>>>;

/// The versions of the labels that a data set was made of.
type Versions = Vec<(u32, u64)>;

/// Suggestions, and the version of the weights that they are of.
type Told = (u64, Arc<Vec<Suggestion>>);

/// An open project.
#[derive(Debug)]
pub struct Talk {
    /// Its name.
    pub name: ModelName,
    pub(super) project: Mutex<Project>,
    pub(super) status: Mutex<Status>,
    pub(super) learner: Mutex<Option<Arc<Learner>>>,
    /// Held while the file of the model is written or removed.
    stored: Mutex<()>,
    found: Mutex<BTreeMap<u32, Arc<Found>>>,
    suggestions: Mutex<BTreeMap<u32, Told>>,
    images: Mutex<Images>,
    slides: Mutex<Slides>,
    data: Mutex<Option<(Versions, Arc<TrainingData>)>>,
    events: broadcast::Sender<Event>,
    limits: ReadLimits,
}

impl Talk {
    /// Opens a project, or begins one.
    ///
    /// # Errors
    /// 409 when another program has it open; 507 when the folder cannot be written.
    pub fn open(name: ModelName, folder: &Path, limits: ReadLimits) -> Result<Self, Refusal> {
        let project = Project::open(folder).map_err(|error| match error.kind() {
            ErrorKind::File => Refusal::new(StatusCode::CONFLICT, format!("the project '{name}': {}", error.message())),
            _ => Refusal::from_core(error, Vec::new()),
        })?;
        let mut status = Status::default();
        let learner = match project.model() {
            Ok(model) => model
                .filter(|model| project.settings().algorithm.is_none_or(|wanted| wanted == model.algorithm()))
                .map(|model| Arc::new(Learner::with_model(model))),
            Err(error) => {
                let reason = error.message();
                status.message = Some(format!("the model of the project cannot be read and is learned anew: {reason}"));
                None
            }
        };
        status.version = u64::from(learner.is_some());
        Ok(Self {
            name,
            project: Mutex::new(project),
            status: Mutex::new(status),
            learner: Mutex::new(learner),
            stored: Mutex::default(),
            found: Mutex::default(),
            suggestions: Mutex::default(),
            images: Mutex::default(),
            slides: Mutex::default(),
            data: Mutex::default(),
            events: broadcast::channel(BACKLOG).0,
            limits,
        })
    }

    /// All events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Tells the pages something.
    pub fn tell(&self, name: &'static str, data: &impl Serialize) {
        // Nobody listening is no error.
        let data = serde_json::to_string(data).unwrap_or_default();
        let _ = self.events.send(Event { name, data });
    }

    /// Tells the pages what the learning does.
    pub fn tell_status(&self) {
        self.tell("status", &self.status_json());
    }

    /// What the learning does.
    pub fn status_json(&self) -> serde_json::Value {
        let seconds = lock(&self.project).settings().seconds;
        let status = lock(&self.status);
        json!({
            "phase": status.phase, "wanted": status.wanted, "spent": status.spent, "seconds": seconds,
            "version": status.version, "round": status.round, "message": status.message,
            "agreement": status.agreement,
        })
    }

    /// Whether it learns, or is about to.
    pub fn is_learning(&self) -> bool {
        lock(&self.status).running
    }

    /// Ends learning; what was learned stays.
    pub fn stop(&self) {
        let mut status = lock(&self.status);
        status.wanted = false;
        if !status.running {
            status.phase = Phase::Off;
        }
        status.cancel.cancel();
    }

    /// Adds an image. Gives its number.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&self, add: impl FnOnce(&mut Project, &ReadLimits) -> CoreResult<u32>) -> Result<u32, Refusal> {
        let added = add(&mut lock(&self.project), &self.limits).map_err(|error| about_image(&error))?;
        self.tell("images", &json!({}));
        Ok(added)
    }

    /// Draws, corrects, takes back, or does again.
    ///
    /// # Errors
    /// What is wrong with the edit; 507 when it cannot be stored.
    pub fn edit(&self, id: u32, edit: impl FnOnce(&mut Project) -> CoreResult<Change>) -> Result<Change, Refusal> {
        let change = edit(&mut lock(&self.project)).map_err(about_project)?;
        if change.bounds.is_some() {
            lock(&self.status).spent = 0.0;
            self.tell("edited", &json!({ "image": id }));
        }
        Ok(change)
    }

    /// Chooses. Another algorithm, or other channels, begin anew.
    ///
    /// # Errors
    /// 422 for values out of range.
    pub fn choose(&self, settings: Settings) -> Result<(), Refusal> {
        let mut project = lock(&self.project);
        let old = project.settings().clone();
        project.choose(settings).map_err(about_project)?;
        let new = project.settings();
        let known = lock(&self.learner).as_ref().map(|learner| learner.model().algorithm());
        let anew = old.channels != new.channels || new.algorithm.is_some_and(|new| known.is_some_and(|old| old != new));
        drop(project);
        if anew {
            self.forget();
        }
        Ok(())
    }

    /// Forgets what was learned.
    pub fn forget(&self) {
        let path = {
            let mut status = lock(&self.status);
            status.cancel.cancel();
            status.version += 1;
            status.losses.clear();
            status.round = None;
            status.agreement = None;
            status.spent = 0.0;
            lock(&self.project).model_path()
        };
        *lock(&self.learner) = None;
        lock(&self.images).clear();
        lock(&self.slides).clear();
        *lock(&self.data) = None;
        {
            // What is being written is what is forgotten, and no longer comes after this.
            let _held = lock(&self.stored);
            // A file that stays is replaced with the next round.
            let _ = std::fs::remove_file(path);
        }
        self.tell_status();
    }

    /// Writes the model, if there is one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self) -> CoreResult<()> {
        let _held = lock(&self.stored);
        let Some(learner) = lock(&self.learner).clone() else { return Ok(()) };
        let path = lock(&self.project).model_path();
        learner.model().save(path)
    }

    /// Takes an image out.
    ///
    /// # Errors
    /// 422 when there is none.
    pub fn remove(&self, id: u32) -> Result<(), Refusal> {
        lock(&self.project).remove_image(id).map_err(about_project)?;
        lock(&self.found).remove(&id);
        lock(&self.images).retain(|(one, _), _| *one != id);
        lock(&self.slides).retain(|(one, _), _| *one != id);
        self.tell("images", &json!({}));
        Ok(())
    }

    /// The pixels of an image, with the channels that are learned from if `chosen`. Blocks.
    ///
    /// # Errors
    /// What is wrong with its file.
    pub fn image(&self, id: u32, chosen: bool) -> CoreResult<Arc<Image>> {
        let chosen = chosen && lock(&self.project).settings().channels.is_some();
        if let Some(image) = lock(&self.images).get(&(id, chosen)) {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(lock(&self.project).image(id, &self.limits, chosen)?);
        let mut images = lock(&self.images);
        let bytes = |image: &Image| image.height() * image.width() * image.channels() * 4;
        if images.values().map(|image| bytes(image)).sum::<usize>() + bytes(&image) > KEPT {
            images.clear();
        }
        images.insert((id, chosen), Arc::clone(&image));
        Ok(image)
    }

    /// An image of which parts are read where they are looked at, with the channels that are learned from if `chosen`; `None` for one
    /// that is read whole. Blocks.
    ///
    /// # Errors
    /// What is wrong with its file.
    pub fn slide(&self, id: u32, chosen: bool) -> CoreResult<Option<Arc<Slide>>> {
        let chosen = chosen && lock(&self.project).settings().channels.is_some();
        if let Some(known) = lock(&self.slides).get(&(id, chosen)) {
            return Ok(known.clone());
        }
        let slide = lock(&self.project).slide(id, &self.limits, chosen)?.map(Arc::new);
        lock(&self.slides).insert((id, chosen), slide.clone());
        Ok(slide)
    }

    /// What is drawn on an image.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such image.
    pub fn drawn(&self, id: u32) -> CoreResult<LabelImage> {
        Ok(lock(&self.project).picture(id)?.canvas.labels().clone())
    }

    /// Everything that is drawn, as a data set; `None` before a cell is drawn. Blocks.
    ///
    /// # Errors
    /// What is wrong with an image.
    pub fn data(&self, app: &App) -> CoreResult<Option<Arc<TrainingData>>> {
        let versions = |project: &Project| -> Versions {
            project.pictures().map(|picture| (picture.id, picture.canvas.version())).collect()
        };
        let ids: Vec<u32> = {
            let project = lock(&self.project);
            if let Some((known, data)) = &*lock(&self.data)
                && *known == versions(&project)
            {
                return Ok(Some(Arc::clone(data)));
            }
            let drawn = project.pictures().filter(|picture| picture.canvas.counts() != [0, 0]);
            drawn.map(|picture| picture.id).collect()
        };
        let (mut images, mut slides) = (BTreeMap::new(), BTreeMap::new());
        for id in ids {
            match self.slide(id, true)? {
                Some(slide) => drop(slides.insert(id, slide)),
                None => drop(images.insert(id, self.image(id, true)?)),
            }
        }
        let how = lock(&self.learner).as_ref().map(|learner| learner.model().normalization()).unwrap_or_default();
        let project = lock(&self.project);
        let read = |id| match (slides.get(&id), images.get(&id)) {
            (Some(slide), _) => Ok(Pixels::Slide(Arc::clone(slide))),
            (_, Some(image)) => Ok(Pixels::Whole(Image::clone(image))),
            // It was drawn on meanwhile.
            _ => match project.slide(id, &self.limits, true)? {
                Some(slide) => Ok(Pixels::Slide(Arc::new(slide))),
                None => project.image(id, &self.limits, true).map(Pixels::Whole),
            },
        };
        let data = project.dataset(how, app.memory, read)?.map(Arc::new);
        *lock(&self.data) = data.clone().map(|data| (versions(&project), data));
        Ok(data)
    }

    /// What the present weights find in an image, and nothing before there are any; found now if it was not yet. Blocks.
    ///
    /// # Errors
    /// As of a prediction.
    pub fn found(&self, app: &App, id: u32, cancel: &CancelToken) -> CoreResult<Arc<Found>> {
        let (version, view) = {
            let status = lock(&self.status);
            (status.version, status.view)
        };
        if let Some(found) = lock(&self.found).get(&id).filter(|found| found.version == version) {
            return Ok(Arc::clone(found));
        }
        let learner = lock(&self.learner).clone();
        let (segmentation, window) = match learner {
            Some(learner) => {
                let options = self.prediction(app, cancel);
                match self.slide(id, true)? {
                    Some(slide) => learner.preview_part(&slide, view, &options)?,
                    None => learner.preview(&*self.image(id, true)?, view, &options)?,
                }
            }
            None => {
                let [rows, columns, _] = lock(&self.project).picture(id)?.shape;
                let nothing = Segmentation::new(LabelImage::zeros((rows, columns)), Vec::new());
                (nothing, Window { rows: [0, rows], columns: [0, columns] })
            }
        };
        let found = Arc::new(Found { segmentation, window, version });
        // A round may have ended meanwhile.
        if lock(&self.status).version == version {
            lock(&self.found).insert(id, Arc::clone(&found));
        }
        Ok(found)
    }

    /// Compares what was found with the drawn cells of an image.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such image.
    pub fn compare(&self, id: u32, found: &Found) -> CoreResult<()> {
        let drawn = self.drawn(id)?;
        // Without a cell there is nothing to find again.
        let some = drawn.iter().any(|label| *label > 0);
        let told = if some { Some(agreement(&found.segmentation.labels, &drawn)?) } else { None };
        lock(&self.status).agreement = told;
        Ok(())
    }

    /// What was found, joined with what is drawn. Blocks.
    ///
    /// # Errors
    /// As [`found`](Self::found).
    pub fn answer(&self, app: &App, id: u32, cancel: &CancelToken) -> CoreResult<(Answer, Arc<Found>)> {
        let found = self.found(app, id, cancel)?;
        let project = lock(&self.project);
        Ok((Answer::new(&found.segmentation, project.picture(id)?.canvas.labels())?, found))
    }

    /// Where to draw next in an image. Blocks.
    ///
    /// # Errors
    /// As of a prediction; [`Error::Config`] before something was learned.
    pub fn suggest(&self, app: &App, id: u32, cancel: &CancelToken) -> CoreResult<Arc<Vec<Suggestion>>> {
        let found = self.found(app, id, cancel)?;
        let known = lock(&self.suggestions).get(&id).filter(|known| known.0 == found.version).cloned();
        if let Some((_, suggestions)) = known {
            return Ok(suggestions);
        }
        let Some(learner) = lock(&self.learner).clone() else {
            return Err(Error::Config("nothing was learned yet; draw some cells and start learning first".into()));
        };
        let (drawn, labels, options) = (self.drawn(id)?, &found.segmentation.labels, self.prediction(app, cancel));
        let told = Arc::new(match self.slide(id, true)? {
            Some(slide) => learner.suggest_part(&slide, found.window, labels, &drawn, &options)?,
            None => learner.suggest(&*self.image(id, true)?, labels, &drawn, &options)?,
        });
        lock(&self.suggestions).insert(id, (found.version, Arc::clone(&told)));
        Ok(told)
    }

    fn prediction(&self, app: &App, cancel: &CancelToken) -> PredictOptions {
        PredictOptions {
            min_area: lock(&self.project).settings().min_area,
            device: app.device,
            threads: app.threads,
            memory: app.memory,
            cancel: cancel.clone(),
            ..PredictOptions::default()
        }
    }
}

/// An error about an image that is added.
fn about_image(error: &Error) -> Refusal {
    let status = match error.kind() {
        ErrorKind::Limit => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Io => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    // Without the path, which is the server's own business.
    Refusal::new(status, error.message())
}

/// An error about something in a project.
pub fn about_project(error: Error) -> Refusal {
    match error.kind() {
        ErrorKind::File | ErrorKind::Labels | ErrorKind::Config | ErrorKind::Image => {
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.message())
        }
        ErrorKind::NotFound => Refusal::new(
            StatusCode::NOT_FOUND,
            "the file of the image is gone; put it back to where it was, or take the image out of the project",
        ),
        ErrorKind::Io => Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("the folder of the projects cannot be read or written: {}", error.message()),
        ),
        _ => Refusal::from_core(error, Vec::new()),
    }
}
