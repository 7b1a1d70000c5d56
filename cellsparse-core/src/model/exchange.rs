//! Models from files of other programs, and into files for them.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::bioimage::PackageDescription;
use super::facade::Model;
use super::normalization::Normalization;
use super::onnx::OnnxOptions;
use super::onnx_scaling::OnnxNormalization;
use super::options::PredictOptions;
use super::tensorflow::TensorFlowForm;
use crate::error::{Error, Result};
use crate::formats::bioimage::{OWN_MODEL, own_model};
use crate::formats::foreign::{WeightsKind, read_weights};
use crate::formats::stardist_model::read_stardist_model;
use crate::formats::tensorflow::{TensorFlowModel, read_packed_tensorflow, read_tensorflow};
use crate::raster::require_regular_file;

/// Largest configuration file that is read: 1 MiB.
const MAX_CONFIG: u64 = 1 << 20;

/// A model of another program.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exchanged {
    /// The model.
    pub model: Model,
    /// What a person should know, one sentence each: what was chosen, left out or taken for granted.
    pub notes: Vec<String>,
}

/// What a configuration may say beside the configuration of StarDist.
#[derive(Debug, Default)]
struct Settings {
    /// How images are scaled.
    normalization: Option<Normalization>,
    /// Diameter of the cells in the images, in pixels (Cellpose).
    diameter: Option<f32>,
    /// Micrometres per pixel of the images that the weights were learned on.
    pixel_size: Option<f64>,
    /// What a package of bioimage.io says about the model.
    package: Option<PackageDescription>,
    /// How an ONNX file is written.
    onnx: Option<OnnxOptions>,
}

/// Turns a model of one program into one of another: the content of `source` says what it is, the ending of `target` what it
/// becomes. Returns what a person should know, one sentence each.
///
/// Read are models of cellsparse, state dicts of Cellpose 2 and 3 and of elephant-core (PyTorch or safetensors), and models of
/// StarDist (folder, `.zip`, `.h5` with `config.json`, packages of bioimage.io, programs of TensorFlow as `TF_SavedModel.zip`, folder
/// or frozen `.pb`). Written are models of cellsparse (`.safetensors`), state dicts (`.pth`, `.pt`), ONNX (`.onnx`), packages of
/// bioimage.io (`.zip`), and of networks of StarDist folders of its package (a name without ending, one that ends in `/`, or a folder
/// that is there) and programs of TensorFlow (`.pb`, or a `.zip` whose name ends in `SavedModel`). `config` is a JSON file with
/// what the source does not tell: the configuration of StarDist, `normalization` (`{"pmin": ..., "pmax": ...}`), `diameter`,
/// `pixel_size`, for packages `package` ([`PackageDescription`]) and for ONNX `onnx` ([`OnnxOptions`], as
/// `{"normalization": "inside"}`). A model of cellsparse takes the last two alone.
///
/// # Errors
/// As [`Model::import`] and [`Model::export`].
pub fn convert(source: impl AsRef<Path>, target: impl AsRef<Path>, config: Option<&Path>) -> Result<Vec<String>> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let is_ours = WeightsKind::of(source)? == WeightsKind::Cellsparse;
    let form = Form::of(target)?;
    form.check_place(target)?;
    if source.canonicalize().is_ok_and(|source| target.canonicalize().is_ok_and(|target| source == target)) {
        return Err(Error::file(target, "it would be replaced by what it becomes; give the result another name"));
    }
    if is_ours && form == Form::Cellsparse {
        return Err(Error::file(
            target,
            "a model of cellsparse is a model of cellsparse already; give a name that ends in .pth, .pt, .onnx, .zip, .pb or /",
        ));
    }
    let given = Given::read(config, WeightsKind::of(source)?)?;
    if let (Some(config), true) = (config, given.settings.onnx.is_some() && form != Form::Onnx) {
        let target = target.display();
        return Err(Error::file(
            config,
            format!(
                "`onnx` says how an .onnx file is written, and {target} is none; leave it out, or give a name that ends in .onnx"
            ),
        ));
    }
    let Exchanged { model, mut notes } = import(source, &given)?;
    let package = given.settings.package;
    if form == Form::Bioimage && package.as_ref().is_none_or(|package| package.license.is_none()) {
        notes.push(
            "the package states no licence, so that nobody may use it without asking; the configuration takes one"
                .into(),
        );
    }
    if form != Form::Bioimage && package.is_some() {
        notes.push("`package` of the configuration is left out: it is for packages of bioimage.io (.zip)".into());
    }
    let onnx = given.settings.onnx.unwrap_or_default();
    model.export_as(form, target, &package.unwrap_or_default(), &onnx)?;
    notes.extend(model.left_to_say(form, &onnx));
    Ok(notes)
}

/// What a file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Cellsparse,
    PyTorch,
    Onnx,
    Bioimage,
    StarDist,
    SavedModel,
    FrozenGraph,
}

impl Form {
    fn of(target: &Path) -> Result<Self> {
        let text = target.to_string_lossy();
        if text.ends_with(['/', std::path::MAIN_SEPARATOR]) {
            return Ok(Self::StarDist);
        }
        let part = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
        };
        match part(target.extension()).as_str() {
            "safetensors" => Ok(Self::Cellsparse),
            "pth" | "pt" => Ok(Self::PyTorch),
            "onnx" => Ok(Self::Onnx),
            "zip" if part(target.file_stem()).ends_with("savedmodel") => Ok(Self::SavedModel),
            "zip" => Ok(Self::Bioimage),
            "pb" => Ok(Self::FrozenGraph),
            "" => Ok(Self::StarDist),
            _ if target.is_dir() => Ok(Self::StarDist),
            _ => Err(Error::file(
                target,
                "the ending says what is written: .safetensors (a model of cellsparse), .pth or .pt (PyTorch), .onnx, .zip \
                 (bioimage.io), and for models of StarDist / (a folder of its package), SavedModel.zip or .pb (TensorFlow)",
            )),
        }
    }

    /// Refuses a target in a folder that is not there, and a file in place of a folder, before anything is read.
    fn check_place(self, target: &Path) -> Result<()> {
        if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            let what = if folder.exists() { "is no folder; give another name" } else { "is not there; make it first" };
            return Err(Error::file(target, format!("{}, in which it is to be written, {what}", folder.display())));
        }
        if self != Self::StarDist && target.is_dir() {
            let reason = "is a folder, and its ending says that a file is written; give another name, or one that ends in / for a folder";
            return Err(Error::file(target, reason));
        }
        Ok(())
    }
}

impl Model {
    /// The model of another program; [`convert`] says which are read and what `config` is. A model of cellsparse is loaded.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`], [`Error::Limit`]; [`Error::File`] for what is damaged or of a kind that is not read,
    /// which it names; [`Error::Weights`] and [`Error::Config`] for networks that this library does not have.
    pub fn import(path: impl AsRef<Path>, config: Option<&Path>) -> Result<Exchanged> {
        let path = path.as_ref();
        import(path, &Given::read(config, WeightsKind::of(path)?)?)
    }

    /// Writes the model for other programs, or as one of cellsparse, as the ending of `path` says; see [`convert`].
    ///
    /// # Errors
    /// [`Error::File`] for an ending that says nothing, [`Error::Weights`] for a network that the program does not have, and as
    /// [`save`](Self::save).
    pub fn export(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.export_as(Form::of(path)?, path, &PackageDescription::default(), &OnnxOptions::default())
    }

    fn export_as(&self, form: Form, path: &Path, package: &PackageDescription, onnx: &OnnxOptions) -> Result<()> {
        match form {
            Form::Cellsparse => self.save(path),
            Form::PyTorch => self.save_state_dict(path),
            Form::Onnx => self.save_onnx_with(path, onnx),
            Form::Bioimage => self.save_bioimage(path, package),
            Form::StarDist => self.save_stardist(path),
            Form::SavedModel => self.save_tensorflow(path, TensorFlowForm::SavedModel),
            Form::FrozenGraph => self.save_tensorflow(path, TensorFlowForm::FrozenGraph),
        }
    }

    /// What a program that takes a file of that form has to be told by a person, one sentence each.
    fn left_to_say(&self, form: Form, onnx: &OnnxOptions) -> Vec<String> {
        let Normalization { pmin, pmax } = self.normalization();
        let mut said = Vec::new();
        match form {
            Form::StarDist | Form::SavedModel | Form::FrozenGraph => said.push(format!(
                "images have to be scaled before the network sees them, so that percentiles {pmin} and {pmax} of every channel are 0 and 1"
            )),
            Form::Onnx if onnx.normalization == OnnxNormalization::Inside => said.push(format!(
                "the file scales every channel of every image that it is given by its own percentiles {pmin} and {pmax}: give whole images \
                 as measured, and tiles of large ones to a file without `onnx`"
            )),
            _ => return said,
        }
        let scale = self.network.scale;
        if scale.by_image {
            said.push(
                "the network learned cells of one size, and this library brings every image to that size by itself; other programs \
                 have to be told a scale for each image"
                    .into(),
            );
        } else if scale.factor != 1.0 {
            let or = match form {
                Form::Onnx => String::new(),
                _ => format!(", or scale={:.3} to predict_instances", scale.factor),
            };
            said.push(format!(
                "the network sees images at {:.3} of their sides: give them that size{or}",
                scale.factor
            ));
        }
        if matches!(form, Form::SavedModel | Form::FrozenGraph)
            && let Ok((config, [prob, nms])) = self.package_form()
        {
            said.push(format!("thresholds are not in the file: probability {prob}, overlap {nms}"));
            if config.n_classes.is_some() {
                said.push("classes are left out, as the StarDist package leaves them out".into());
            }
        }
        said
    }
}

/// The model of a file.
fn import(path: &Path, given: &Given) -> Result<Exchanged> {
    let kind = WeightsKind::of(path)?;
    let is_stardist = is_stardist(kind);
    let (settings, config) = (&given.settings, given.stardist.clone());
    let own = if kind == WeightsKind::Bioimage { own_model(path)? } else { None };
    // Given to the model that is read, so that nobody is told of percentiles that were taken for want of others.
    let stated = settings.normalization.map(|Normalization { pmin, pmax }| [pmin, pmax]);
    let of_program = |mut found: TensorFlowModel| {
        found.percentiles = stated.or(found.percentiles);
        Model::from_tensorflow(found)
    };
    let (mut model, notes) = match (kind, own) {
        (WeightsKind::Cellsparse, _) => (Model::load(path)?, Vec::new()),
        (_, Some(reader)) => (Model::read_named(reader, &path.join(OWN_MODEL))?, Vec::new()),
        (WeightsKind::TensorFlow, _) => in_file(path, read_tensorflow(path).and_then(of_program))?,
        _ if is_stardist => {
            let program = if kind == WeightsKind::Bioimage { read_packed_tensorflow(path)? } else { None };
            let found = match program {
                Some(program) => of_program(program),
                None => read_stardist_model(path, config).and_then(|mut found| {
                    found.percentiles = stated.or(found.percentiles);
                    Model::from_stardist(found)
                }),
            };
            in_file(path, found)?
        }
        _ => {
            let weights = read_weights(path)?;
            let notes = weights.notes.clone();
            (in_file(path, Model::from_state_dict(weights.into_named_arrays()))?, notes)
        }
    };
    if let Some(normalization) = settings.normalization {
        model.set_normalization(normalization)?;
    }
    if let Some(side) = settings.pixel_size {
        model.set_pixel_size(Some([side, side]))?;
    }
    if settings.diameter.is_some() {
        let options = PredictOptions { diameter: settings.diameter, ..PredictOptions::default() };
        model.set_thresholds(model.thresholds().with(&options)?)?;
    }
    Ok(Exchanged { model, notes })
}

/// Whether a configuration of StarDist may be given with it.
fn is_stardist(kind: WeightsKind) -> bool {
    matches!(kind, WeightsKind::StarDist | WeightsKind::Bioimage | WeightsKind::Hdf5)
}

/// Says in which file the weights or the configuration are wrong.
fn in_file<T>(path: &Path, result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        Error::Weights(reason) | Error::Config(reason) => Error::file(path, reason),
        other => other,
    })
}

/// The JSON of a configuration.
fn read_config(path: &Path) -> Result<Value> {
    let mut text = String::new();
    require_regular_file(path)?;
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    file.take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(|source| match source.kind() {
        ErrorKind::InvalidData => {
            Error::file(path, "not the settings of a conversion: not a text in UTF-8, as JSON is")
        }
        _ => Error::io(path, source),
    })?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(Error::limit(path, "a configuration has at most 1 MiB"));
    }
    serde_json::from_str(&text).map_err(|error| Error::file(path, format!("not the settings of a conversion: {error}")))
}

/// What a configuration says.
#[derive(Debug, Default)]
struct Given {
    settings: Settings,
    /// All of it, if it is a configuration of StarDist.
    stardist: Option<Value>,
}

impl Given {
    fn read(path: Option<&Path>, kind: WeightsKind) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let value = read_config(path)?;
        let found = Self::of(&value, kind);
        found.map_err(|reason| Error::file(path, format!("not the settings of a conversion: {reason}")))
    }

    fn of(value: &Value, kind: WeightsKind) -> std::result::Result<Self, String> {
        let fields = value.as_object().ok_or("not an object")?;
        // What a model of cellsparse tells itself is not said again.
        let known: &[&str] = match kind {
            WeightsKind::Cellsparse => &["package", "onnx"],
            _ => &["normalization", "diameter", "pixel_size", "package", "onnx"],
        };
        let of_stardist = is_stardist(kind) && fields.contains_key("n_rays");
        if let Some(other) = fields.keys().find(|key| !known.contains(&key.as_str()) && !of_stardist) {
            return Err(format!("unknown field `{other:.60}`, expected {}", known.join(", ")));
        }
        let settings = Settings {
            normalization: field(fields, "normalization", r#"{"pmin": 1, "pmax": 99.8}"#)?,
            diameter: field(fields, "diameter", "a number of pixels")?,
            pixel_size: field(fields, "pixel_size", "a number of micrometres")?,
            package: field(fields, "package", r#"{"name": "...", "license": "CC-BY-4.0"} and the like"#)?,
            onnx: field(fields, "onnx", r#"{"normalization": "inside"} or "metadata""#)?,
        };
        Ok(Self { settings, stardist: of_stardist.then(|| value.clone()) })
    }
}

/// The value of a field, if there is one; `expected` is what it looks like.
fn field<T: DeserializeOwned>(
    fields: &Map<String, Value>,
    name: &str,
    expected: &str,
) -> std::result::Result<Option<T>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    // serde takes an array for the fields of a structure in their order, which no configuration means.
    if value.is_array() {
        return Err(format!("`{name}`: an array; expected {expected}"));
    }
    serde_json::from_value(value.clone()).map_err(|error| format!("`{name}`: {error}; expected {expected}"))
}
