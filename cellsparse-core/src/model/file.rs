//! A model in one file: weights and optimiser state as arrays, everything else as JSON.

use std::hash::Hasher;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::contrast::Seen;
use super::facade::Model;
use super::info::{ModelInfo, micrometres_across};
use super::normalization::Normalization;
use super::pixel_size::check_pixel_size;
use super::registry::{Architecture, Thresholds};
use super::stardist::StarThresholds;
use super::working_scale::{Gauge, WorkingScale};
use crate::error::{Error, Reason, Result};
use crate::formats::foreign::WeightsKind;
use crate::formats::tensors::{
    NamedArrays, PlainArray, TensorFile, peek_tensors, read_tensors, read_tensors_from, write_tensors,
};
use crate::networks::Weights;
use crate::training::history::{History, MOST_STEPS};
use crate::training::optimizer::Optimizer;
use crate::training::trainer::TrainingState;

impl Model {
    /// A model from a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound), [`Error::File`](crate::Error::File) when the file is damaged, of
    /// another format or of a later version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        load(path.as_ref())
    }

    /// Writes the model to one file, atomically: the file is the old one or the new one, never half.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::NotFound`](crate::Error::NotFound) when it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Parts::of(self).save(path.as_ref())
    }

    /// What a file that [`save`](Self::save) wrote says about its model: [`info`](Self::info) without reading the weights,
    /// which are not compared with their checksum.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for damage of the weights.
    pub fn peek(path: impl AsRef<Path>) -> Result<ModelInfo> {
        peek(path.as_ref())
    }

    /// A model from the content of a file that [`save`](Self::save) wrote, read to its end from anywhere.
    ///
    /// # Errors
    /// As [`load`](Self::load); the path in an error is `model`.
    pub fn from_reader(reader: impl Read) -> Result<Self> {
        Self::read_named(reader, Path::new(STREAM))
    }

    /// As [`from_reader`](Self::from_reader); errors call the source `name`.
    pub(super) fn read_named(reader: impl Read, name: &Path) -> Result<Self> {
        let (arrays, json) = read_tensors_from(reader, name)?;
        model(arrays, &json, name)
    }

    /// Writes the content of the file that [`save`](Self::save) writes. A writer that is not in memory should be buffered.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) with the path `model` when the writer fails.
    pub fn to_writer(&self, mut writer: impl Write) -> Result<()> {
        Parts::of(self).write(&mut writer)
    }
}

/// Version of the file format; files of a later version are refused. Version 1, which is read too, has a hash of the weights
/// alone.
const FORMAT_VERSION: u32 = 2;
const WEIGHTS_ONLY: u32 = 1;

/// The JSON part of a model file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format_version: u32,
    /// XXH64 of everything in the file, see [`checksum`]: safetensors has none.
    #[serde(default)]
    checksum: String,
    cellsparse_version: String,
    /// The fields `algorithm` and `config`.
    #[serde(flatten)]
    architecture: Architecture,
    normalization: Normalization,
    /// Sides that the network sees relative to those of an image.
    #[serde(default = "unscaled")]
    scale: f64,
    /// Whether that factor is only the usual one, and every image has its own.
    #[serde(default)]
    scale_by_image: bool,
    /// The size of its cells that counts relative to the diameter of a disc of the same area.
    #[serde(default = "unscaled")]
    scale_thinness: f64,
    /// How the network sees the drawn cells, where images with others have their own factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale_gauge: Option<Gauge>,
    #[serde(deserialize_with = "stored_thresholds")]
    thresholds: Thresholds,
    history: History,
    /// Steps of the optimiser and batches drawn, when the optimiser's state is in the file.
    optimizer: Option<OptimizerHeader>,
    /// FNV-1a hash of names and values of the weights, in version 1.
    #[serde(default, skip_serializing)]
    weights_hash: String,
    /// Whether the weights are initial ones.
    untrained: bool,
    /// What the training images showed; absent in files of models that were not trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
    /// Micrometres per pixel `[y, x]` of the training images, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pixel_size: Option<[f64; 2]>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OptimizerHeader {
    steps: u64,
    batches: u64,
    /// Sets of arrays that the optimiser remembers: 2 for Adam, 1 for gradient descent.
    #[serde(default = "sets_of_adam")]
    memory: usize,
    /// What the loss remembers of the last batch.
    #[serde(default)]
    carried: f32,
}

fn unscaled() -> f64 {
    1.0
}

fn sets_of_adam() -> usize {
    MEMORY.len()
}

/// Reads thresholds; those of StarDist may stand without the name of the algorithm, as in the first files of this version.
fn stored_thresholds<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Thresholds, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Named(Thresholds),
        Old(StarThresholds),
    }
    Ok(match Stored::deserialize(from)? {
        Stored::Named(thresholds) => thresholds,
        Stored::Old(thresholds) => thresholds.into(),
    })
}

/// Prefixes of the arrays of the optimiser: moving weights, and what it remembers.
const MOVING: &str = "optimizer/weights/";
const MEMORY: [&str; 2] = ["optimizer/first/", "optimizer/second/"];

/// What a file is made of: a model, or one whose training is not over yet.
pub(super) struct Parts<'a> {
    /// Everything that training does not change.
    pub model: &'a Model,
    /// The weights to predict with.
    pub weights: &'a Weights,
    /// What a training can be resumed from.
    pub state: Option<&'a TrainingState>,
    /// The history of all trainings.
    pub history: &'a History,
    /// Whether the weights are initial ones.
    pub untrained: bool,
}

impl<'a> Parts<'a> {
    /// Those of a model.
    pub fn of(model: &'a Model) -> Self {
        let Model { network, state, history, untrained, .. } = model;
        Self { model, weights: &network.weights, state: state.as_ref(), history, untrained: *untrained }
    }

    /// Writes them to one file, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (arrays, json) = self.content()?;
        write_tensors(path, arrays, json)
    }

    /// Writes what [`save`](Self::save) writes.
    pub fn write(&self, writer: &mut (impl Write + ?Sized)) -> Result<()> {
        let (arrays, json) = self.content()?;
        TensorFile::new(arrays, json)?.write(writer).map_err(|source| Error::io(STREAM, source))
    }

    fn content(&self) -> Result<(Vec<PlainArray<'a>>, String)> {
        let Self { model, weights, state, history, untrained } = *self;
        let header = Header {
            format_version: FORMAT_VERSION,
            checksum: BLANK.into(),
            cellsparse_version: env!("CARGO_PKG_VERSION").into(),
            architecture: model.architecture.clone(),
            normalization: model.network.normalization,
            scale: model.network.scale.factor,
            scale_by_image: model.network.scale.by_image,
            scale_thinness: model.network.scale.thinness,
            scale_gauge: model.network.scale.gauge,
            thresholds: model.thresholds,
            history: history.thinned(),
            optimizer: state.map(|state| OptimizerHeader {
                steps: state.optimizer.steps(),
                batches: state.batches,
                memory: state.optimizer.memory().len(),
                carried: state.carried,
            }),
            weights_hash: String::new(),
            untrained,
            seen: model.seen,
            pixel_size: model.pixel_size,
        };
        let mut json =
            serde_json::to_string(&header).map_err(|error| Error::Internal(format!("model header: {error}")))?;
        let mut arrays: Vec<PlainArray<'a>> = Vec::new();
        for parameter in weights.parameters() {
            arrays.push((parameter.spec.name.clone(), &parameter.spec.shape, &parameter.values));
        }
        if let Some(state) = state {
            let memory = state.optimizer.memory();
            for (index, parameter) in state.weights.parameters().iter().enumerate() {
                let sets = memory.iter().map(|set| &set[index]);
                for (prefix, values) in [MOVING].iter().chain(&MEMORY).zip([&parameter.values].into_iter().chain(sets))
                {
                    arrays.push((format!("{prefix}{}", parameter.spec.name), &parameter.spec.shape, values));
                }
            }
        }
        let parts = arrays.iter().map(|(name, shape, values)| (name.as_str(), *shape, *values));
        json = json.replacen(BLANK, &checksum(&json, parts), 1);
        Ok((arrays, json))
    }
}

/// What errors call a model that is read or written without a path.
const STREAM: &str = "model";

fn load(path: &Path) -> Result<Model> {
    let (arrays, json) = read_tensors(path).map_err(|error| of_another_program(path, error))?;
    model(arrays, &json, path)
}

/// In place of what is wrong with a file as a model of cellsparse: what it is, if it is one of another program.
fn of_another_program(path: &Path, error: Error) -> Error {
    let what = match WeightsKind::of(path) {
        Ok(WeightsKind::PyTorch) => "weights of PyTorch, as Cellpose and ELEPHANT have them",
        Ok(WeightsKind::Hdf5) => "an HDF5 file, as StarDist has its weights",
        Ok(WeightsKind::StarDist) => "a model of StarDist",
        Ok(WeightsKind::Bioimage) => "a package of bioimage.io",
        Ok(WeightsKind::TensorFlow) => "a program of TensorFlow",
        Ok(WeightsKind::Onnx) => {
            return Error::file(
                path,
                "is an ONNX file, which is written and not read; take the model that it was made of",
            );
        }
        _ => return error,
    };
    Error::file(path, format!("is {what}, and no model of cellsparse (.safetensors); convert it into one first"))
}

/// What the header of a file says. The values of the arrays are not read, so their checksum is not compared.
fn peek(path: &Path) -> Result<ModelInfo> {
    let (shapes, json) = peek_tensors(path).map_err(|error| of_another_program(path, error))?;
    let header = Header::parse(&json, path)?;
    let parameters = header.architecture.graph().parameters();
    for spec in &parameters {
        if shapes.get(&spec.name) != Some(&spec.shape) {
            let reason = match shapes.get(&spec.name) {
                Some(shape) => format!("has the shape {shape:?}, its network needs {:?}", spec.shape),
                None => "is missing".into(),
            };
            return Err(Error::file(path, format!("its array '{}' {reason}; the file is damaged", spec.name))
                .because(Reason::Damaged));
        }
    }
    Ok(ModelInfo {
        parameters: parameters.iter().map(|spec| spec.shape.iter().product::<usize>()).sum(),
        architecture: header.architecture,
        normalization: header.normalization,
        thresholds: header.thresholds,
        steps: header.history.total_steps(),
        loss: header.history.loss.last().copied(),
        resumable: header.optimizer.is_some(),
        pixel_size: header.pixel_size,
        cell_diameter: header.seen.map(|seen| seen.diameter),
        cell_diameter_um: micrometres_across(header.seen, header.pixel_size),
    })
}

impl Header {
    /// The header in a file's JSON, with every field checked.
    fn parse(json: &str, path: &Path) -> Result<Self> {
        let unreadable =
            |error: serde_json::Error| Error::file(path, format!("its configuration: {error}")).caused_by(error);
        let fields: serde_json::Value = serde_json::from_str(json).map_err(unreadable)?;
        check_version(fields.get("format_version"), path)?;
        let header: Self = serde_json::from_str(json).map_err(unreadable)?;
        header.check_numbers(path)?;
        let in_file = |error: Error| Error::file(path, error.to_string()).caused_by(error);
        header.architecture.check().map_err(in_file)?;
        if header.thresholds.algorithm() != header.architecture.algorithm() {
            return Err(in_file(header.thresholds.misplaced(header.architecture.algorithm())));
        }
        header.thresholds.check().map_err(in_file)?;
        header.normalization.check().map_err(in_file)?;
        header.pixel_size.map_or(Ok(()), check_pixel_size).map_err(in_file)?;
        header.working_scale().check().map_err(|reason| Error::file(path, reason))?;
        Ok(header)
    }
}

impl Header {
    fn working_scale(&self) -> WorkingScale {
        let Self { scale: factor, scale_by_image: by_image, scale_thinness: thinness, scale_gauge: gauge, .. } = *self;
        WorkingScale { factor, by_image, thinness, gauge }
    }

    /// Refuses numbers that no training leaves behind and that later steps could not go on from.
    fn check_numbers(&self, path: &Path) -> Result<()> {
        let refuse = |reason: String| Err(Error::file(path, reason).because(Reason::Damaged));
        if let Err(reason) = self.history.check() {
            return refuse(format!("its history {reason}; the file is damaged"));
        }
        if let Some(OptimizerHeader { steps, batches, memory, carried }) = &self.optimizer {
            if *steps > MOST_STEPS || *batches > MOST_STEPS {
                return refuse(format!(
                    "its optimiser counts {steps} steps and {batches} batches, above {MOST_STEPS}; the file is damaged"
                ));
            }
            if !(1..=MEMORY.len()).contains(memory) || !carried.is_finite() {
                return refuse(format!(
                    "its optimiser has {memory} sets of moments and carries {carried}; the file is damaged"
                ));
            }
        }
        match &self.seen {
            Some(seen) if !seen.is_sound() => {
                refuse(format!("what it says of its training images is impossible: {seen:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a file whose content is not what was written.
    fn check_sum(&self, json: &str, arrays: &NamedArrays, path: &Path) -> Result<()> {
        if self.format_version == WEIGHTS_ONLY {
            return Ok(());
        }
        let parts = arrays.iter().map(|(name, (shape, values))| (name.as_str(), shape.as_slice(), values.as_slice()));
        let blank = json.replacen(&self.checksum, BLANK, 1);
        if self.checksum.len() == BLANK.len() && checksum(&blank, parts) == self.checksum {
            return Ok(());
        }
        Err(Error::file(path, "its content does not match its checksum; the file is damaged, or was changed by hand")
            .because(Reason::Damaged))
    }
}

fn check_version(stated: Option<&serde_json::Value>, path: &Path) -> Result<()> {
    let reason = match (stated, stated.and_then(serde_json::Value::as_u64)) {
        (_, Some(version)) if (WEIGHTS_ONLY.into()..=FORMAT_VERSION.into()).contains(&version) => return Ok(()),
        (_, Some(version)) if version > u64::from(FORMAT_VERSION) => {
            format!("format version {version}; this build reads up to version {FORMAT_VERSION}. Use a newer cellsparse")
        }
        (Some(other), _) => format!("format version {other}; there is no such version, the file is damaged"),
        (None, _) => "its configuration states no format version; the file is damaged, or no model".into(),
    };
    let found = stated.and_then(serde_json::Value::as_u64);
    Err(Error::file(path, reason).because(Reason::FormatVersion { found, expected: FORMAT_VERSION.into() }))
}

/// A model from what [`Parts::write`] wrote.
fn model(mut arrays: NamedArrays, json: &str, path: &Path) -> Result<Model> {
    let header = Header::parse(json, path)?;
    header.check_sum(json, &arrays, path)?;
    let in_file = |error: Error| Error::file(path, error.to_string()).caused_by(error);
    let graph = Arc::new(header.architecture.graph());
    let moving = take_prefixed(&mut arrays, MOVING);
    let memory: Vec<NamedArrays> = MEMORY.iter().map(|prefix| take_prefixed(&mut arrays, prefix)).collect();
    let weights = Weights::from_named(&graph, arrays).map_err(in_file)?;
    if header.format_version == WEIGHTS_ONLY && hash(&weights) != header.weights_hash {
        return Err(
            Error::file(path, "its weights do not match their checksum; the file is damaged").because(Reason::Damaged)
        );
    }
    let state = match header.optimizer {
        Some(OptimizerHeader { steps, batches, memory: sets, carried }) => {
            let weights = Weights::from_named(&graph, moving).map_err(in_file)?;
            let mut stored: Vec<Vec<Vec<f32>>> = Vec::new();
            for arrays in memory.into_iter().take(sets) {
                let set = Weights::from_named(&graph, arrays).map_err(in_file)?;
                stored.push(set.parameters().iter().map(|p| p.values.clone()).collect());
            }
            if let [_, second] = stored.as_slice() {
                check_squares(second).map_err(in_file)?;
            }
            let optimizer = Optimizer::restore(&weights, steps, stored).map_err(in_file)?;
            Some(TrainingState { weights, optimizer, batches, carried })
        }
        None => None,
    };
    let scale = header.working_scale();
    let mut model = Model::from_parts(header.architecture, graph, weights);
    model.network.normalization = header.normalization;
    model.network.scale = scale;
    model.thresholds = header.thresholds;
    model.history = header.history;
    model.state = state;
    model.untrained = header.untrained;
    model.seen = header.seen;
    model.pixel_size = header.pixel_size;
    Ok(model)
}

/// What stands for the checksum in the text that it is taken of.
const BLANK: &str = "0000000000000000";

/// XXH64 of the JSON text, in which [`BLANK`] stands for the checksum itself, and of name, shape and values of every array, in
/// the order of the names; as 16 hexadecimal digits.
fn checksum<'a>(json: &str, arrays: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])>) -> String {
    let mut state = XxHash64::with_seed(0);
    state.write(&(json.len() as u64).to_le_bytes());
    state.write(json.as_bytes());
    let mut sorted: Vec<_> = arrays.collect();
    sorted.sort_unstable_by_key(|(name, ..)| *name);
    let mut bytes = Vec::with_capacity(PIECE * size_of::<f32>());
    for (name, shape, values) in sorted {
        state.write(&(name.len() as u64).to_le_bytes());
        state.write(name.as_bytes());
        for side in [shape.len()].iter().chain(shape) {
            state.write(&(*side as u64).to_le_bytes());
        }
        for piece in values.chunks(PIECE) {
            bytes.clear();
            piece.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            state.write(&bytes);
        }
    }
    format!("{:016x}", state.finish())
}

/// Values whose bytes are hashed together.
const PIECE: usize = 1 << 12;

/// Second moments are sums of squares, of which roots are taken.
fn check_squares(second: &[Vec<f32>]) -> Result<()> {
    match second.iter().flatten().find(|value| **value < 0.0) {
        Some(value) => Err(Error::Weights(format!("a second moment of the optimiser is {value}, below 0"))),
        None => Ok(()),
    }
}

fn take_prefixed(arrays: &mut NamedArrays, prefix: &str) -> NamedArrays {
    let names: Vec<String> = arrays.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    names.into_iter().filter_map(|name| Some((name[prefix.len()..].to_string(), arrays.remove(&name)?))).collect()
}

fn hash(weights: &Weights) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for parameter in weights.parameters() {
        parameter.spec.name.bytes().for_each(&mut feed);
        parameter.values.iter().for_each(|value| value.to_le_bytes().into_iter().for_each(&mut feed));
    }
    format!("{state:016x}")
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::error::ErrorKind;
    use crate::networks::StarDistConfig;

    #[test]
    fn thresholds_are_read_with_and_without_the_name_of_the_algorithm() {
        #[derive(Deserialize)]
        struct Part {
            #[serde(deserialize_with = "stored_thresholds")]
            thresholds: Thresholds,
        }
        let read = |json: &str| serde_json::from_str::<Part>(json).map(|part| part.thresholds);
        let star = StarThresholds { prob: 0.25, nms: 0.5, smallest_object: 7.0 };
        let plain = r#"{"thresholds": {"prob": 0.25, "nms": 0.5, "smallest_object": 7}}"#;
        assert_eq!(read(plain).unwrap(), Thresholds::Stardist(star));
        let named = serde_json::json!({ "thresholds": Thresholds::Stardist(star) }).to_string();
        assert_eq!(read(&named).unwrap(), Thresholds::Stardist(star));
        assert!(read(r#"{"thresholds": {"prob": 0.25}}"#).is_err());
    }

    #[test]
    fn only_the_header_is_needed_to_know_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let config = StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 3, ..StarDistConfig::default() };
        let model = Model::stardist(config, 0).unwrap();
        model.save(&path).unwrap();
        let same = |info: ModelInfo| serde_json::to_value(info).unwrap() == serde_json::to_value(model.info()).unwrap();
        assert!(same(Model::peek(&path).unwrap()));
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = Model::load(&path).unwrap_err();
        assert!(error.to_string().contains("checksum") && error.reason() == Some(&Reason::Damaged), "{error}");
        assert!(same(Model::peek(&path).unwrap()), "no weight is read");
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let error = Model::peek(&path).unwrap_err();
        assert!(error.to_string().contains("not a whole safetensors file") && error.source().is_some(), "{error}");
        let said = |name: &str, content: &[u8]| {
            let other = folder.path().join(name);
            std::fs::write(&other, content).unwrap();
            [Model::peek(&other).unwrap_err().to_string(), Model::load(&other).unwrap_err().to_string()]
        };
        for message in said("a.pth", b"\x80\x02}q\x00.") {
            assert!(message.contains("is weights of PyTorch") && message.contains("convert it"), "{message}");
        }
        for message in said("a.onnx", b"\x08\x08\x12\x0acellsparse") {
            assert!(message.contains("is an ONNX file"), "{message}");
        }
        std::fs::write(&path, &whole[..4]).unwrap();
        let kind = |path: &Path| Model::peek(path).unwrap_err().kind();
        assert_eq!((kind(&path), kind(folder.path())), (ErrorKind::File, ErrorKind::File));
        assert_eq!(kind(&folder.path().join("none")), ErrorKind::NotFound);
    }

    #[test]
    fn a_model_goes_through_memory_and_comes_back() {
        let config = StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 3, ..StarDistConfig::default() };
        let model = Model::stardist(config, 4).unwrap();
        let mut bytes = Vec::new();
        model.to_writer(&mut bytes).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model.save(&path).unwrap();
        assert_eq!(bytes, std::fs::read(&path).unwrap(), "a stream and a file hold the same");
        let back = Model::from_reader(&bytes[..]).unwrap();
        assert_eq!(hash(back.weights()), hash(model.weights()));
        let error = Model::from_reader(&bytes[1..]).unwrap_err();
        assert!(error.kind() == ErrorKind::File && error.to_string().starts_with("model: "), "{error}");
        let mut full = std::io::Cursor::new([0; 100]);
        assert!(matches!(model.to_writer(&mut full.get_mut()[..]), Err(Error::Io { .. })));
    }

    #[test]
    fn a_file_says_which_format_it_has() {
        let said = |version: Option<serde_json::Value>| {
            check_version(version.as_ref(), Path::new("m")).map_err(|error| error.to_string())
        };
        assert_eq!((said(Some(1.into())), said(Some(2.into()))), (Ok(()), Ok(())));
        assert!(said(Some(3.into())).unwrap_err().contains("newer cellsparse"));
        for odd in [Some(0.into()), Some("1".into()), None] {
            let message = said(odd).unwrap_err();
            assert!(message.contains("damaged") && !message.contains("newer"), "{message}");
        }
    }
}
