//! Models of the StarDist package: folders with `config.json`, `thresholds.json` and weights of Keras, archives of such folders,
//! single files of weights beside their configuration, and packages of bioimage.io that the StarDist package wrote.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::archive::Archive;
use super::foreign::{DESCRIPTIONS, WeightsKind};
use super::keras::{read_keras, read_keras_within};
use super::shortened::shortened;
use super::stardist_package::StarDistPackage;
use super::state_dict::StateDict;
use super::yaml;
use crate::error::{Error, Result};
use crate::raster::require_regular_file;

/// The configuration of a model.
pub const CONFIG: &str = "config.json";
/// Its thresholds.
pub const THRESHOLDS: &str = "thresholds.json";
/// Its weights, as the package names them after a training.
pub const WEIGHTS: &str = "weights_best.h5";
/// What this library adds to a folder that it writes.
pub const FACTS: &str = "cellsparse.json";

/// Largest configuration or description that is read: 1 MiB.
const MAX_TEXT: usize = 1 << 20;
/// Largest file of weights in an archive: 4 GiB.
const MAX_WEIGHTS: u64 = u32::MAX as u64;

/// What a model of the StarDist package is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct StarDistModel {
    /// Its configuration: the content of `config.json`.
    pub config: Value,
    /// Probability and overlap of `thresholds.json`, if there is one.
    pub thresholds: Option<StoredThresholds>,
    /// Percentiles that become 0 and 1, where the model tells them.
    pub percentiles: Option<[f64; 2]>,
    /// What this library says about a model that it wrote.
    pub facts: Option<Value>,
    /// The arrays, `LAYER/PART`, and what a person should know about the reading.
    pub weights: StateDict,
}

/// The content of `thresholds.json`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct StoredThresholds {
    /// Smallest object probability.
    pub prob: f32,
    /// Largest overlap.
    pub nms: f32,
}

/// Reads a model of the StarDist package: a folder, a zip archive, or an `.h5` file with `config`, the configuration, which is
/// otherwise looked for beside it. Of several files of weights the one with `best` in its name is taken, otherwise the newest,
/// as the package does.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::Limit`]; [`Error::File`] for what is damaged, incomplete or of another program.
pub fn read_stardist_model(path: impl AsRef<Path>, config: Option<Value>) -> Result<StarDistModel> {
    let path = path.as_ref();
    match WeightsKind::of(path)? {
        WeightsKind::Hdf5 => read_single(path, config),
        WeightsKind::StarDist | WeightsKind::Bioimage if path.is_dir() => read_parts(&Folder(path), path, config),
        WeightsKind::StarDist | WeightsKind::Bioimage => {
            let file = File::open(path).map_err(|source| Error::io(path, source))?;
            let archive = Archive::of_file(file).map_err(|reason| Error::file(path, reason))?;
            read_parts(&Packed::new(&archive, path), path, config)
        }
        other => Err(Error::file(path, format!("is no model of StarDist but {other:?}"))),
    }
}

fn read_single(path: &Path, config: Option<Value>) -> Result<StarDistModel> {
    let folder = Folder(path.parent().unwrap_or(Path::new("")));
    let beside = config.is_none();
    let config = match config {
        Some(config) => config,
        None => folder.json(CONFIG)?.ok_or_else(|| {
            Error::file(path, "holds weights only: its configuration, config.json, is neither beside it nor given")
        })?,
    };
    let thresholds = if beside { folder.thresholds()? } else { None };
    let facts = if beside { folder.json(FACTS)? } else { None };
    Ok(StarDistModel { config, thresholds, percentiles: None, facts, weights: read_keras(path)? })
}

/// The files of a model.
trait Parts {
    /// The names of all files.
    fn names(&self) -> Result<Vec<String>>;
    /// A text, if there is a file of that name.
    fn text(&self, name: &str) -> Result<Option<String>>;
    /// The weights of a file of Keras.
    fn weights(&self, name: &str) -> Result<StateDict>;
    /// What a message calls a file.
    fn path(&self, name: &str) -> PathBuf;

    fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let damaged = |error| Error::file(self.path(name), format!("is not JSON: {error}"));
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    fn thresholds(&self) -> Result<Option<StoredThresholds>> {
        let Some(value) = self.json(THRESHOLDS)? else { return Ok(None) };
        let damaged = |error| Error::file(self.path(THRESHOLDS), format!("not the thresholds of StarDist: {error}"));
        serde_json::from_value(value).map(Some).map_err(damaged)
    }
}

fn read_parts(parts: &dyn Parts, path: &Path, config: Option<Value>) -> Result<StarDistModel> {
    if let Some(description) = description(parts)? {
        return described(parts, path, &description);
    }
    let config = match config {
        Some(config) => config,
        None => parts.json(CONFIG)?.ok_or_else(|| Error::file(path, "has no config.json"))?,
    };
    let mut names = parts.names()?;
    names.retain(|name| name.ends_with(".h5") || name.ends_with(".hdf5"));
    let chosen = names.iter().find(|name| name.contains("best")).or(names.first());
    let chosen = chosen.ok_or_else(|| {
        Error::file(path, "has config.json and no weights of Keras (.h5); put weights_best.h5 beside it")
    })?;
    let mut weights = parts.weights(chosen)?;
    if names.len() > 1 {
        weights.notes.push(format!("of {} files of weights, {} is taken", names.len(), shortened(chosen)));
    }
    Ok(StarDistModel { config, thresholds: parts.thresholds()?, percentiles: None, facts: parts.json(FACTS)?, weights })
}

/// The model of a package of bioimage.io that has weights of Keras.
fn described(parts: &dyn Parts, path: &Path, description: &Value) -> Result<StarDistModel> {
    let StarDistPackage { config, thresholds, percentiles, weights, notes, .. } =
        StarDistPackage::of(description, path)?;
    let config = config.ok_or_else(|| {
        Error::file(path, "its description has neither the configuration of StarDist nor a program of TensorFlow")
    })?;
    if !parts.names()?.contains(&weights) {
        let weights = shortened(&weights);
        return Err(Error::file(path, format!("its description names the weights '{weights}', which are not in it")));
    }
    let mut weights = parts.weights(&weights)?;
    weights.notes.extend(notes);
    Ok(StarDistModel { config, thresholds, percentiles, facts: None, weights })
}

/// What a package of bioimage.io, a folder or an open archive, says of a model of the StarDist package, and the folder within
/// the archive.
pub(super) fn read_package(path: &Path, archive: Option<&Archive<'static>>) -> Result<(StarDistPackage, String)> {
    let (description, folder) = match archive {
        None => (description(&Folder(path))?, String::new()),
        Some(archive) => {
            let packed = Packed::new(archive, path);
            (description(&packed)?, packed.folder)
        }
    };
    let description = description.ok_or_else(|| Error::file(path, "is no package of bioimage.io"))?;
    Ok((StarDistPackage::of(&description, path)?, folder))
}

/// The description of a package of bioimage.io, if there is one.
fn description(parts: &dyn Parts) -> Result<Option<Value>> {
    for name in DESCRIPTIONS {
        if let Some(text) = parts.text(name)? {
            let damaged = |reason| Error::file(parts.path(name), format!("not read as YAML: {reason}"));
            return yaml::read(&text).map(Some).map_err(damaged);
        }
    }
    Ok(None)
}

/// A folder.
struct Folder<'a>(&'a Path);

impl Parts for Folder<'_> {
    /// The newest first.
    fn names(&self) -> Result<Vec<String>> {
        let failed = |source| Error::io(self.0, source);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.0).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let facts = std::fs::metadata(entry.path()).ok().filter(std::fs::Metadata::is_file);
            if let (Some(facts), Ok(name)) = (facts, entry.file_name().into_string()) {
                files.push((std::cmp::Reverse(facts.modified().ok()), name));
            }
        }
        files.sort();
        Ok(files.into_iter().map(|(_, name)| name).collect())
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name);
        if !path.is_file() {
            return Ok(None);
        }
        require_regular_file(&path)?;
        let failed = |source| Error::io(&path, source);
        let mut bytes = Vec::new();
        File::open(&path).map_err(failed)?.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_TEXT {
            return Err(Error::file(&path, "has more than 1 MiB; configurations are smaller"));
        }
        String::from_utf8(bytes).map(Some).map_err(|_| Error::file(&path, "is not a text in UTF-8"))
    }

    fn weights(&self, name: &str) -> Result<StateDict> {
        read_keras(self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// The folder within an archive that has the configuration or the description.
struct Packed<'a> {
    archive: &'a Archive<'static>,
    folder: String,
    path: &'a Path,
}

impl<'a> Packed<'a> {
    fn new(archive: &'a Archive<'static>, path: &'a Path) -> Self {
        let folders = archive.names().filter_map(|name| {
            let wanted = DESCRIPTIONS.iter().chain(&[CONFIG]);
            let folder = wanted.filter_map(|wanted| name.strip_suffix(wanted)).next()?;
            (folder.is_empty() || folder.ends_with('/')).then_some(folder)
        });
        let folder = folders.min_by_key(|folder| folder.len()).unwrap_or_default().to_string();
        Self { archive, folder, path }
    }
}

impl Parts for Packed<'_> {
    fn names(&self) -> Result<Vec<String>> {
        let inner = self.archive.names().filter_map(|name| name.strip_prefix(&self.folder));
        let mut names: Vec<String> =
            inner.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_string).collect();
        // No times are known: the last epoch stands in for the newest.
        names.sort_by_key(|name| !name.contains("last"));
        Ok(names)
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let found = self.archive.unpack(&format!("{}{name}", self.folder), MAX_TEXT);
        let Some(bytes) = found.map_err(|reason| Error::file(self.path, reason))? else { return Ok(None) };
        String::from_utf8(bytes.into_owned())
            .map(Some)
            .map_err(|_| Error::file(self.path(name), "is not a text in UTF-8"))
    }

    fn weights(&self, name: &str) -> Result<StateDict> {
        let found = self.archive.content(&format!("{}{name}", self.folder), MAX_WEIGHTS);
        let found = found.map_err(|reason| Error::file(self.path, reason))?;
        let entry = found.ok_or_else(|| Error::file(self.path, format!("has no entry '{}'", shortened(name))))?;
        read_keras_within(entry, &self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
