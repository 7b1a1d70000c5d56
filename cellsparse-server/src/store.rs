//! The models of a folder: `ALGORITHM/NAME.safetensors`, and those in use in memory.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use cellsparse_core::model::Algorithm;
use cellsparse_core::{Error, ErrorKind, Model, Result as CoreResult};
use serde_json::{Value, json};

use super::entry::Entry;
use super::errors::Refusal;
use super::names::ModelName;

/// Models kept in memory at most, beside those in training.
const IN_MEMORY: usize = 4;

/// The models of one folder. One server has it at a time.
#[derive(Debug)]
pub struct ModelStore {
    folder: PathBuf,
    pretrained: PathBuf,
    most: usize,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    /// Held while models are counted and one is begun.
    counting: Mutex<()>,
    /// Locked as long as the server lives.
    _lock: File,
}

impl ModelStore {
    /// Opens a folder, which is made if it is not there, and removes what an earlier server that was killed left unfinished.
    ///
    /// # Errors
    /// When the folder cannot be written, or another server has it.
    pub fn open(folder: &Path, pretrained: &Path, most: usize) -> CoreResult<Self> {
        for &algorithm in Algorithm::ALL {
            let path = folder.join(algorithm.to_string());
            fs::create_dir_all(&path).map_err(|source| Error::io(&path, source))?;
        }
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(|source| Error::io(&path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(folder, "another server uses this folder of models; give this one its own"));
            }
            // File systems without locks exist; there the folder is trusted to be used once.
            Err(TryLockError::Error(_)) => {}
        }
        let store = Self {
            folder: folder.to_owned(),
            pretrained: pretrained.to_owned(),
            most,
            entries: Mutex::default(),
            counting: Mutex::default(),
            _lock: lock,
        };
        for &algorithm in Algorithm::ALL {
            store.check_writable(algorithm)?;
            for path in files(&store.folder_of(algorithm)) {
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY)) {
                    fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
                }
            }
        }
        Ok(store)
    }

    /// Finds out before a training, not after it, that its model cannot be written. A folder that is gone is made anew.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_writable(&self, algorithm: Algorithm) -> CoreResult<()> {
        let folder = self.folder_of(algorithm);
        // Somebody may have removed it meanwhile.
        fs::create_dir_all(&folder).map_err(|source| Error::io(&folder, source))?;
        let path = self.folder_of(algorithm).join(format!("{TEMPORARY}write-test"));
        let written = File::create(&path).and_then(|_| fs::remove_file(&path));
        written.map_err(|source| Error::io(&path, source))
    }

    /// The model of that name, which need not exist yet.
    pub fn entry(&self, algorithm: Algorithm, name: &ModelName) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() > 2 * self.most + 64 {
            entries.retain(|_, entry| Arc::strong_count(entry) > 1 || entry.is_in_use());
        }
        let path = self.folder_of(algorithm).join(format!("{name}.{ENDING}"));
        let key = format!("{algorithm}/{name}");
        Arc::clone(entries.entry(key).or_insert_with(|| Arc::new(Entry::new(algorithm, name.clone(), path))))
    }

    /// Everything that is or was in use.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Runs `begin`, which makes the model exist, unless it is a new one and there are as many as allowed. What others begin
    /// meanwhile waits, so that together they make no more.
    ///
    /// # Errors
    /// 429 when there is no room.
    pub fn admit<T>(&self, entry: &Entry, begin: impl FnOnce() -> T) -> Result<T, Refusal> {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if !entry.exists() {
            let count = Algorithm::ALL.iter().map(|algorithm| self.known(*algorithm).len()).sum::<usize>();
            if count >= self.most {
                return Err(Refusal::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    format!(
                        "there are {count} models, which is the limit of this server; reset one that is not needed"
                    ),
                ));
            }
        }
        Ok(begin())
    }

    /// Lets go of the models that were not used for longest.
    pub fn trim(&self) {
        let mut idle: Vec<_> =
            self.entries().into_iter().filter_map(|entry| Some((entry.idle_since()?, entry))).collect();
        idle.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
        for (_, entry) in idle.iter().skip(IN_MEMORY) {
            entry.forget();
        }
    }

    /// A model of the folder of pretrained ones.
    ///
    /// # Errors
    /// 422 for an absent file and for one of another algorithm.
    pub fn pretrained(&self, algorithm: Algorithm, name: &ModelName) -> Result<Model, Refusal> {
        let place = || vec!["body".into(), "pretrained".into()];
        let stem = name.as_str().strip_suffix(&format!(".{ENDING}")).unwrap_or(name.as_str());
        let path = self.pretrained.join(format!("{stem}.{ENDING}"));
        let model = Model::load(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Refusal::field(
                place(),
                format!("there is no '{stem}.{ENDING}' in the server's folder of pretrained models"),
                "value_error.pretrained",
            ),
            _ => Refusal::field(place(), other_reason(error), "value_error.pretrained"),
        })?;
        if model.algorithm() != algorithm {
            let msg = format!("'{stem}' is a model of {}, not of {algorithm}", model.algorithm());
            return Err(Refusal::field(place(), msg, "value_error.pretrained"));
        }
        Ok(model)
    }

    /// Every model of the folder, and every one that is about to be in it.
    pub fn list(&self) -> Vec<Value> {
        let mut list = Vec::new();
        for &algorithm in Algorithm::ALL {
            let mut names = self.known(algorithm);
            let waiting = self.entries().into_iter().filter(|entry| entry.live.status().state != "idle");
            names.extend(waiting.filter(|entry| entry.algorithm == algorithm).map(|entry| entry.name.clone()));
            list.extend(names.iter().map(|name| self.describe(&self.entry(algorithm, name))));
        }
        list
    }

    /// What is known of one model.
    pub fn describe(&self, entry: &Entry) -> Value {
        let stamp = entry.stamp();
        let modified = stamp.and_then(|(time, _)| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_secs());
        let mut value = json!({
            "algorithm": entry.algorithm,
            "name": entry.name.as_str(),
            "bytes": stamp.map(|(_, bytes)| bytes),
            "modified": modified,
            "training": entry.live.status(),
        });
        if let Value::Object(fields) = &mut value {
            match entry.info() {
                Ok(info) => fields.insert("model".into(), json!(info)),
                Err(error) => fields.insert("error".into(), other_reason(error).into()),
            };
        }
        value
    }

    /// The models of the folder, and those whose first training runs.
    fn known(&self, algorithm: Algorithm) -> BTreeSet<ModelName> {
        let named = |path: &PathBuf| {
            let is_model = path.extension().is_some_and(|ending| ending == ENDING) && path.is_file();
            let stem = path.file_stem()?.to_str()?;
            ModelName::new(stem).ok().filter(|_| is_model)
        };
        let begun = self.entries().into_iter().filter(|entry| entry.algorithm == algorithm && entry.exists());
        let begun = begun.map(|entry| entry.name.clone());
        files(&self.folder_of(algorithm)).iter().filter_map(named).chain(begun).collect()
    }

    fn folder_of(&self, algorithm: Algorithm) -> PathBuf {
        self.folder.join(algorithm.to_string())
    }
}

/// Ending of model files.
const ENDING: &str = "safetensors";

/// Beginning of the names of files that are being written.
const TEMPORARY: &str = ".cellsparse-";

/// Time and size of a file, which change when it does.
pub type Stamp = (SystemTime, u64);

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The reason of an error without the path, which is the server's own business.
fn other_reason(error: Error) -> String {
    match error.kind() {
        ErrorKind::File | ErrorKind::Io => error.message(),
        ErrorKind::NotFound => "there is no such file".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use cellsparse_core::StarDistConfig;

    use super::*;

    #[test]
    fn a_model_in_its_first_training_counts() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::open(folder.path(), folder.path(), 1).unwrap();
        let entry = |name| store.entry(Algorithm::Elephant, &ModelName::new(name).unwrap());
        let (first, second) = (entry("first"), entry("second"));
        let training = store.admit(&first, || first.begin_training(None)).unwrap();
        assert_eq!(store.admit(&second, || ()).unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        store.admit(&first, || ()).unwrap();
        drop(training);
        store.admit(&second, || ()).unwrap();
    }

    #[test]
    fn models_are_listed_without_reading_their_weights() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::open(folder.path(), folder.path(), 4).unwrap();
        let entry = store.entry(Algorithm::Stardist, &ModelName::new("a").unwrap());
        let config = StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 3, ..StarDistConfig::default() };
        Model::stardist(config, 0).unwrap().save(entry.path()).unwrap();
        let mut bytes = fs::read(entry.path()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(entry.path(), bytes).unwrap();
        let list = store.list();
        assert_eq!(list[0]["model"]["config"]["n_rays"], 3, "{list:?}");
        assert!(!entry.is_in_use(), "nothing stays in memory for a list");
        assert!(entry.model().unwrap_err().to_string().contains("checksum"), "who uses it is told");
    }
}
