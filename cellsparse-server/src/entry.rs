//! One model of the folder.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cellsparse_core::model::{Algorithm, ModelInfo};
use cellsparse_core::{Error, Model, Result as CoreResult};

use super::live::{Live, Outcome};
use super::names::ModelName;
use super::store::Stamp;

/// A model that is in the folder, or may come to be.
///
/// The finished weights are those of the last training that ended; while one runs, the file holds its checkpoints and
/// predictions use the finished weights.
#[derive(Debug)]
pub struct Entry {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The name.
    pub name: ModelName,
    /// Held by the training, or the reset, whose turn it is.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// Its trainings.
    pub live: Live,
    path: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    model: Option<Arc<Model>>,
    /// Of the file that `model` was read from or written to.
    stamp: Option<Stamp>,
    info: Option<(Stamp, ModelInfo)>,
    training: bool,
    /// The file could not be written: memory holds more than the folder.
    unsaved: bool,
    used: Instant,
}

impl Entry {
    /// A model that is not in memory.
    pub fn new(algorithm: Algorithm, name: ModelName, path: PathBuf) -> Self {
        let kept = Kept { model: None, stamp: None, info: None, training: false, unsaved: false, used: Instant::now() };
        Self { algorithm, name, turn: Arc::default(), live: Live::default(), path, kept: Mutex::new(kept) }
    }

    /// Its file, which trainings write checkpoints to.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The finished model; `None` when there is none. A file that was exchanged is read again.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn model(&self) -> CoreResult<Option<Arc<Model>>> {
        let mut kept = self.lock();
        kept.used = Instant::now();
        if kept.training || kept.unsaved {
            return Ok(kept.model.clone());
        }
        let stamp = self.stamp();
        if stamp.is_none() {
            kept.model = None;
        } else if kept.model.is_none() || kept.stamp != stamp {
            let model = Model::load(&self.path)?;
            if model.algorithm() != self.algorithm {
                return Err(Error::file(&self.path, format!("it is a model of {}", model.algorithm())));
            }
            kept.model = Some(Arc::new(model));
        }
        kept.stamp = stamp;
        Ok(kept.model.clone())
    }

    /// From now on, the file holds checkpoints, and `finished` is the finished model.
    pub fn begin_training(&self, finished: Option<Arc<Model>>) -> Underway<'_> {
        let mut kept = self.lock();
        kept.model = finished;
        kept.training = true;
        drop(kept);
        Underway(self)
    }

    /// Writes new weights, which later predictions use. They are used even if they cannot be written.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish(&self, model: Model) -> CoreResult<Arc<Model>> {
        let model = Arc::new(model);
        let saved = match self.path.parent() {
            // A folder that was removed meanwhile is made anew.
            Some(folder) => fs::create_dir_all(folder).map_err(|source| Error::io(folder, source)),
            None => Ok(()),
        };
        let saved = saved.and_then(|()| model.save(&self.path));
        let mut kept = self.lock();
        kept.model = Some(Arc::clone(&model));
        kept.stamp = self.stamp();
        kept.unsaved = saved.is_err();
        saved.map(|()| model)
    }

    /// Removes the checkpoints of a training that failed: the file is what it was before.
    ///
    /// # Errors
    /// When the file cannot be written or removed.
    pub fn restore(&self) -> CoreResult<()> {
        let mut kept = self.lock();
        if kept.unsaved || self.stamp() == kept.stamp {
            return Ok(());
        }
        let restored = match &kept.model {
            Some(model) => model.save(&self.path),
            None => fs::remove_file(&self.path).map_err(|source| Error::io(&self.path, source)),
        };
        kept.stamp = self.stamp();
        restored
    }

    /// Removes the model, from memory and from the folder.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self) -> CoreResult<()> {
        let mut kept = self.lock();
        kept.model = None;
        kept.stamp = None;
        kept.unsaved = false;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path, error)),
            _ => Ok(()),
        }
    }

    /// What is known of the finished model; of one that is not in memory, what the header of its file says.
    ///
    /// # Errors
    /// When its file cannot be used.
    pub fn info(&self) -> CoreResult<Option<ModelInfo>> {
        let mut kept = self.lock();
        let stamp = self.stamp();
        let is_current = kept.training || kept.unsaved || kept.stamp == stamp;
        if let Some(model) = kept.model.as_ref().filter(|_| is_current) {
            return Ok(Some(model.info()));
        }
        let Some(stamp) = stamp.filter(|_| !kept.training) else { return Ok(None) };
        if let Some((of, info)) = &kept.info
            && *of == stamp
        {
            return Ok(Some(info.clone()));
        }
        let info = Model::peek(&self.path)?;
        kept.info = Some((stamp, info.clone()));
        Ok(Some(info))
    }

    /// Whether there is a file, or a training that will write one.
    pub fn exists(&self) -> bool {
        self.path.is_file() || self.lock().training
    }

    /// Time and size of the file.
    pub fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.path).ok().filter(fs::Metadata::is_file)?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// Whether the model is in memory, in training or being read. Does not wait.
    pub fn is_in_use(&self) -> bool {
        self.kept.try_lock().map_or(true, |kept| kept.model.is_some() || kept.training)
    }

    /// When a model in memory that could be read again was used last.
    pub fn idle_since(&self) -> Option<Instant> {
        let kept = self.kept.try_lock().ok()?;
        (kept.model.is_some() && !kept.training && !kept.unsaved).then_some(kept.used)
    }

    /// Lets go of the model in memory, unless a training began meanwhile.
    pub fn forget(&self) {
        let mut kept = self.lock();
        if !kept.training && !kept.unsaved {
            kept.model = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file holds checkpoints as long as this value lives.
pub struct Underway<'a>(&'a Entry);

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.lock().training = false;
    }
}

/// A training that runs; ends with this value, also when it panics.
pub struct Running(pub Arc<Entry>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.live.finish(Outcome::Failed { detail: "the training ended unexpectedly".into() });
    }
}
