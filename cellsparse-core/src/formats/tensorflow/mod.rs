//! Programs of TensorFlow: saved models (`saved_model.pb` with `variables/`, as a folder or a zip archive) and frozen graphs (`.pb`),
//! of version 1 and 2, as networks of layers with their arrays. Nothing of a program is run.

mod bundle;
mod graph;
mod layers;
mod outline;

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::Value;

use self::bundle::{Bundle, Parts};
use self::graph::{Read, StoredGraph, entry_of};
pub use self::layers::{Array, Layer, LayerId};
use self::layers::{Contents, Walk};
use self::outline::{Kind, outline};
use super::archive::Archive;
use super::protobuf_fields::{Field, Fields};
use super::shortened::{on_one_line, shortened};
use super::source::Source;
use super::stardist_model::{FACTS, StoredThresholds, THRESHOLDS, read_package};
use crate::error::{Error, Result};
use crate::raster::require_regular_file;

/// The description of a saved model, and its arrays.
pub const SAVED_MODEL: &str = "saved_model.pb";
const INDEX: &str = "variables/variables.index";
/// Largest graph that is read: 2 GiB, more than a message can have.
const MOST_GRAPH: u64 = 1 << 31;
/// Largest part of the data of variables: 4 GiB.
const MOST_DATA: u64 = u32::MAX as u64;
/// Largest index, and largest text beside a model.
const MOST_INDEX: u64 = 1 << 26;
const MOST_TEXT: u64 = 1 << 20;
/// Values of arrays for each byte of a file at most: constants of one value take a few bytes; and values that every file may have.
const MOST_PACKED: u64 = 16;
const SPARE_VALUES: u64 = 1 << 18;

/// A program of TensorFlow as a network.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorFlowModel {
    /// The layers; each stands behind those that it reads.
    pub layers: Vec<Layer>,
    /// The layers that are outputs.
    pub outputs: Vec<LayerId>,
    /// Thresholds in or beside the model, if there are some.
    pub thresholds: Option<StoredThresholds>,
    /// Percentiles that become 0 and 1, where a package tells them.
    pub percentiles: Option<[f64; 2]>,
    /// What this library says about a model that it wrote.
    pub facts: Option<Value>,
    /// What a person should know of the package that it is from.
    pub notes: Vec<String>,
}

/// Reads a program of TensorFlow.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`]; [`Error::Limit`] for a graph above 2 GiB; [`Error::File`] for what is damaged, incomplete, or
/// computes what networks of StarDist do not, which it names.
pub fn read_tensorflow(path: impl AsRef<Path>) -> Result<TensorFlowModel> {
    let path = path.as_ref();
    if path.is_dir() {
        return read_saved_model(&Files::Folder(path), path, path.parent());
    }
    let facts = require_regular_file(path)?;
    let mut file = File::open(path).map_err(|source| Error::io(path, source))?;
    let mut head = [0; 4];
    let is_archive = file.read_exact(&mut head).is_ok() && head == *b"PK\x03\x04";
    file.seek(SeekFrom::Start(0)).map_err(|source| Error::io(path, source))?;
    if is_archive {
        let archive = Archive::of_file(file).map_err(|reason| Error::file(path, reason))?;
        return read_saved_model(&Files::of_archive(&archive), path, path.parent());
    }
    if facts.len() > MOST_GRAPH {
        return Err(Error::limit(path, format!("{} bytes; a graph has at most 2 GiB", facts.len())));
    }
    // A saved model begins with its version.
    if head[0] == 8 {
        let folder = path.parent().unwrap_or(Path::new(""));
        return read_saved_model(&Files::Folder(folder), path, folder.parent());
    }
    let file = Source::of_file(file).map_err(|source| Error::io(path, source))?;
    let mut model = frozen(&file).map_err(|reason| refused(path, &reason))?;
    (model.thresholds, model.facts) = beside(&Files::Folder(path.parent().unwrap_or(Path::new(""))), path)?;
    Ok(model)
}

/// Reads the program of a package of bioimage.io that the StarDist package wrote, a folder or a zip archive, if the description
/// leaves out the configuration, so that the weights of Keras alone are not enough; nothing if it does not, or if there is no
/// program.
///
/// # Errors
/// As [`read_tensorflow`], and [`Error::File`] for packages of other programs.
pub fn read_packed_tensorflow(path: impl AsRef<Path>) -> Result<Option<TensorFlowModel>> {
    let path = path.as_ref();
    let archive = if path.is_dir() {
        None
    } else {
        let file = File::open(path).map_err(|source| Error::io(path, source))?;
        Some(Archive::of_file(file).map_err(|reason| Error::file(path, reason))?)
    };
    let (package, folder) = read_package(path, archive.as_ref())?;
    let (None, Some(program)) = (package.config, package.program) else { return Ok(None) };
    let mut model = match archive {
        None => read_tensorflow(path.join(program))?,
        Some(outer) => {
            let damaged = |reason: String| Error::file(path, reason);
            let content = outer.content(&format!("{folder}{program}"), MOST_DATA).map_err(damaged)?;
            let content = content.ok_or_else(|| damaged(format!("has no entry '{}'", shortened(&program))))?;
            let inner = Archive::of(content, false)
                .map_err(|reason| damaged(format!("'{}' within it: {reason}", shortened(&program))))?;
            read_saved_model(&Files::of_archive(&inner), path, None)?
        }
    };
    model.thresholds = package.thresholds.or(model.thresholds);
    model.percentiles = package.percentiles;
    model.notes = package.notes;
    Ok(Some(model))
}

/// Reads a frozen graph, a `GraphDef` whose variables are constants, from memory; errors call it `name`.
///
/// # Errors
/// As [`read_tensorflow`].
pub fn decode_frozen_graph(bytes: &[u8], name: &Path) -> Result<TensorFlowModel> {
    frozen(&Source::Bytes(bytes)).map_err(|reason| refused(name, &reason))
}

/// Reads the parts of a saved model from memory: its description and, if it has variables, their index and their only part of
/// data; errors call it `name`.
///
/// # Errors
/// As [`read_tensorflow`].
pub fn decode_saved_model(description: &[u8], variables: Option<[&[u8]; 2]>, name: &Path) -> Result<TensorFlowModel> {
    let bundle = variables.map(|[index, data]| Bundle::read(index, |_| vec![Ok(Some(Source::Bytes(data)))]));
    let length = variables.map_or(0, |[_, data]| data.len()) as u64;
    let found = bundle.transpose().and_then(|bundle| saved(&Source::Bytes(description), bundle.as_ref(), length));
    found.map_err(|reason| refused(name, &reason))
}

fn refused(path: &Path, reason: &str) -> Error {
    let reason = on_one_line(reason, 400);
    Error::file(path, format!("not a program of TensorFlow that can be read: {reason}"))
}

/// The files of a model: those of a folder, or of a folder within an archive.
enum Files<'a> {
    Folder(&'a Path),
    Archive(&'a Archive<'static>, String),
}

impl<'a> Files<'a> {
    /// Those of the outermost folder with a saved model.
    fn of_archive(archive: &'a Archive<'static>) -> Self {
        let folder = archive.names().filter_map(|name| name.strip_suffix(SAVED_MODEL)).min_by_key(|name| name.len());
        Self::Archive(archive, folder.unwrap_or_default().to_string())
    }

    /// The bytes of a file of at most `most` bytes, if it is there.
    fn read(&self, name: &str, most: u64) -> Read<Option<Cow<'_, [u8]>>> {
        match self {
            Self::Archive(archive, folder) => {
                archive.unpack(&format!("{folder}{name}"), usize::try_from(most).unwrap_or(usize::MAX))
            }
            Self::Folder(_) => {
                let Some(file) = self.source(name, most)? else { return Ok(None) };
                let bytes = file.get(0, file.len()).ok_or_else(|| format!("its file '{name}' cannot be read"))?;
                Ok(Some(bytes))
            }
        }
    }

    /// A file of at most `most` bytes, of which ranges are read, if it is there.
    fn source(&self, name: &str, most: u64) -> Read<Option<Source<'static>>> {
        match self {
            Self::Archive(archive, folder) => archive.content(&format!("{folder}{name}"), most),
            Self::Folder(folder) => {
                let path = folder.join(name);
                if !path.is_file() {
                    return Ok(None);
                }
                let failed = |error: &dyn std::fmt::Display| format!("its file '{name}' cannot be read: {error}");
                require_regular_file(&path).map_err(|error| failed(&error))?;
                let file = File::open(path).and_then(Source::of_file).map_err(|error| failed(&error))?;
                if file.len() > most {
                    return Err(format!("its file '{name}' has more than {most} bytes"));
                }
                Ok(Some(file))
            }
        }
    }

    /// The variables, if there are some, and the bytes of all their data.
    fn variables(&self) -> Read<Option<(Bundle<'static>, u64)>> {
        let Some(index) = self.read(INDEX, MOST_INDEX)? else { return Ok(None) };
        let mut total = 0_u64;
        let bundle = Bundle::read(&index, |count| {
            let name = |part: u32| format!("variables/variables.data-{part:05}-of-{count:05}");
            let parts: Parts<'static> = (0..count).map(|part| self.source(&name(part), MOST_DATA)).collect();
            total = parts.iter().flatten().flatten().map(Source::len).fold(0, u64::saturating_add);
            parts
        })?;
        Ok(Some((bundle, total)))
    }
}

fn read_saved_model(files: &Files<'_>, path: &Path, outer: Option<&Path>) -> Result<TensorFlowModel> {
    let found = || {
        let description = files.source(SAVED_MODEL, MOST_GRAPH)?.ok_or_else(|| format!("it has no {SAVED_MODEL}"))?;
        let variables = files.variables()?;
        let (bundle, length) = variables.map_or((None, 0), |(bundle, length)| (Some(bundle), length));
        saved(&description, bundle.as_ref(), length)
    };
    let mut model = found().map_err(|reason| refused(path, &reason))?;
    (model.thresholds, model.facts) = beside(files, path)?;
    if let (None, None, Some(outer)) = (&model.thresholds, &model.facts, outer) {
        (model.thresholds, model.facts) = beside(&Files::Folder(outer), path)?;
    }
    Ok(model)
}

/// What StarDist and this library say beside a network.
fn beside(files: &Files<'_>, path: &Path) -> Result<(Option<StoredThresholds>, Option<Value>)> {
    let json = |name: &str| -> Result<Option<Value>> {
        let text = files.read(name, MOST_TEXT).map_err(|reason| Error::file(path, reason))?;
        let damaged = |error| Error::file(path, format!("{name} beside it is not JSON: {error}"));
        text.map(|text| serde_json::from_slice(&text).map_err(damaged)).transpose()
    };
    let thresholds = json(THRESHOLDS)?.map(serde_json::from_value::<StoredThresholds>).transpose();
    let damaged = |error: serde_json::Error| {
        Error::file(path, format!("{THRESHOLDS} beside it is not that of StarDist: {error}"))
    };
    Ok((thresholds.map_err(damaged)?, json(FACTS)?))
}

fn most_values(length: u64) -> usize {
    usize::try_from(length.saturating_mul(MOST_PACKED) / 4 + SPARE_VALUES).unwrap_or(usize::MAX)
}

fn frozen(file: &Source<'_>) -> Read<TensorFlowModel> {
    let bytes = outline(file, Kind::Graph)?;
    let graph = StoredGraph::read(&bytes)?;
    let body = &graph.bodies[0];
    let name = |input: &str| input.split(':').next().unwrap_or_default().to_string();
    let read: std::collections::HashSet<String> =
        body.nodes.iter().flat_map(|node| node.inputs.iter().map(|input| name(input))).collect();
    let ends = body.nodes.iter().filter(|node| !read.contains(node.name));
    let is_map = |operation: &str| !matches!(operation, "NoOp" | "Const" | "Placeholder" | "Assert");
    let ends: Vec<String> = ends.filter(|node| is_map(node.operation)).map(|node| node.name.to_string()).collect();
    network(&graph, Contents { file, variables: None }, &ends, file.len())
}

fn saved(file: &Source<'_>, variables: Option<&Bundle<'_>>, length: u64) -> Read<TensorFlowModel> {
    let description = outline(file, Kind::SavedModel)?;
    let mut chosen = None;
    for field in Fields::of(&description) {
        let (2, Field::Bytes(meta)) = field? else { continue };
        if chosen.is_none() || tags(meta)?.contains(&"serve") {
            chosen = Some(meta);
        }
    }
    let (mut graph, mut signatures) = (None, Vec::new());
    for field in Fields::of(chosen.ok_or("it has no graph")?) {
        match field? {
            (2, Field::Bytes(bytes)) => graph = Some(bytes),
            (5, Field::Bytes(entry)) => signatures.push(entry_of(entry)?),
            _ => {}
        }
        if signatures.len() > 64 {
            return Err("it has more than 64 signatures".into());
        }
    }
    signatures.retain(|(name, _)| *name != "__saved_model_init_op");
    let signature = signatures.iter().find(|(name, _)| *name == "serving_default").or(signatures.first());
    let (_, signature) = signature.ok_or("it has no signature, which tells its outputs")?;
    let mut outputs = Vec::new();
    for field in Fields::of(signature) {
        let (2, Field::Bytes(entry)) = field? else { continue };
        let (_, info) = entry_of(entry)?;
        let name = Fields::of(info).filter_map(std::result::Result::ok).find(|(number, _)| *number == 1);
        outputs.extend(name.and_then(|(_, name)| name.text()).map(str::to_string));
    }
    let graph = StoredGraph::read(graph.ok_or("it has no graph")?)?;
    network(&graph, Contents { file, variables }, &outputs, length.saturating_add(file.len()))
}

/// The tags of a graph of a saved model.
fn tags(meta: &[u8]) -> Read<Vec<&str>> {
    let mut tags = Vec::new();
    for field in Fields::of(meta) {
        let (1, Field::Bytes(info)) = field? else { continue };
        for field in Fields::of(info) {
            if let (4, value) = field? {
                tags.extend(value.text());
            }
        }
    }
    Ok(tags)
}

fn network(graph: &StoredGraph<'_>, contents: Contents<'_>, outputs: &[String], length: u64) -> Read<TensorFlowModel> {
    if outputs.is_empty() || outputs.len() > 16 {
        return Err(format!("it has {} outputs", outputs.len()));
    }
    let mut walk = Walk::new(graph, contents, most_values(length));
    let outputs = outputs.iter().map(|name| walk.output(name)).collect::<Read<Vec<LayerId>>>()?;
    Ok(TensorFlowModel {
        layers: walk.layers,
        outputs,
        thresholds: None,
        percentiles: None,
        facts: None,
        notes: Vec::new(),
    })
}
