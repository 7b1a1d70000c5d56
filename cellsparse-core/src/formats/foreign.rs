//! Models and weights of other programs, told apart by their content.

use std::path::Path;

use super::archive::Archive;
use super::pytorch;
use super::shortened::shortened;
pub use super::state_dict::{NamedArray, StateDict};
use super::tensors::{is_ours, read_foreign_tensors};
use crate::error::{Error, Result};
use crate::raster::require_regular_file;

/// What a file or a folder of weights is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightsKind {
    /// A model of cellsparse.
    Cellsparse,
    /// A safetensors file of another program.
    Safetensors,
    /// A PyTorch file, of either form.
    PyTorch,
    /// An HDF5 file, as Keras writes: `.h5`.
    Hdf5,
    /// A zip archive of Keras 3: `.keras`.
    Keras,
    /// A model of StarDist: a folder, or a zip archive of one, with `config.json`.
    StarDist,
    /// A package of bioimage.io: a zip archive, or a folder, with `rdf.yaml`.
    Bioimage,
    /// A program of TensorFlow: `saved_model.pb`, a frozen graph, an archive or a folder with one of them.
    TensorFlow,
    /// A program for TensorFlow Lite.
    TensorFlowLite,
    /// An ONNX file.
    Onnx,
}

/// What the description of a package of bioimage.io is called.
pub(super) const DESCRIPTIONS: [&str; 4] = ["rdf.yaml", "bioimageio.yaml", "model.yaml", "rdf.yml"];

impl WeightsKind {
    /// Tells what the file or folder at `path` is, by its content and never by its name; of a safetensors file the header is
    /// read, of a zip archive the table of contents, of others 64 bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`], and [`Error::File`] for what is of no kind that is known here.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return of_folder(path);
        }
        require_regular_file(path)?;
        match head(path)?.as_slice() {
            [] => Err(Error::file(path, "is empty")),
            // First, since a safetensors file begins with the length of its header, which may look like the beginning of any other.
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Ok(if is_ours(path)? { Self::Cellsparse } else { Self::Safetensors }),
            head @ [b'P', b'K', 3, 4, ..] => of_archive(path, head),
            [0x80, 2..=5, ..] => Ok(Self::PyTorch),
            [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Hdf5),
            [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Ok(Self::TensorFlowLite),
            // Protocol buffers: version 1 of a saved model, the first node of a graph, the version of an ONNX file.
            [8, 1, 0x12, ..] => Ok(Self::TensorFlow),
            head if begins_with_node(head) => Ok(Self::TensorFlow),
            [8, 2..=30, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..] => Ok(Self::Onnx),
            _ => Err(Error::file(
                path,
                "begins like no model that is known here (.pth of PyTorch, .safetensors, .h5 of Keras, folders and .zip of \
                 StarDist and bioimage.io, SavedModel.zip and .pb of TensorFlow)",
            )),
        }
    }
}

/// Reads the weights of another program: a PyTorch file or a safetensors file.
///
/// # Errors
/// As [`WeightsKind::of`], [`pytorch::read_state_dict`] and [`read_foreign_tensors`]; [`Error::File`] for files of other kinds,
/// which it names, and for models of cellsparse, which `Model::load` reads.
pub fn read_weights(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    let reason = match WeightsKind::of(path)? {
        WeightsKind::PyTorch => return pytorch::read_state_dict(path),
        WeightsKind::Safetensors => return read_foreign_tensors(path),
        WeightsKind::Cellsparse => "is a model of cellsparse already; it needs no conversion",
        WeightsKind::Hdf5 => {
            "is an HDF5 file, of Keras perhaps; a model of StarDist is read from its folder or with its config.json"
        }
        WeightsKind::StarDist | WeightsKind::Bioimage => "is a model of StarDist or bioimage.io, not a file of weights",
        WeightsKind::Keras => {
            "is a whole model of Keras 3 (.keras), which is not read; of StarDist, its folder with config.json and \
             weights_best.h5 is"
        }
        WeightsKind::TensorFlow => "is a program of TensorFlow, not a file of weights",
        WeightsKind::TensorFlowLite => "is a program for TensorFlow Lite, which is not read",
        WeightsKind::Onnx => {
            "is an ONNX file; ONNX is written and not read. Of StarDist the folder is read, of Cellpose and ELEPHANT the PyTorch \
             file"
        }
    };
    Err(Error::file(path, reason))
}

/// Whether bytes begin as a graph of TensorFlow does: a node, its length, and its name.
fn begins_with_node(head: &[u8]) -> bool {
    let Some((0x0a, rest)) = head.split_first() else { return false };
    // A length ends with its first byte below 128.
    let length = rest.iter().take(5).position(|byte| *byte < 0x80);
    length.is_some_and(|length| rest.get(length + 1) == Some(&0x0a))
}

/// The first 64 bytes of a file.
fn head(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let failed = |source| Error::io(path, source);
    let mut head = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(64).read_to_end(&mut head).map_err(failed)?;
    Ok(head)
}

fn of_folder(path: &Path) -> Result<WeightsKind> {
    let has = |name: &str| path.join(name).is_file();
    if DESCRIPTIONS.iter().any(|name| has(name)) {
        Ok(WeightsKind::Bioimage)
    } else if has("config.json") {
        Ok(WeightsKind::StarDist)
    } else if has("saved_model.pb") {
        Ok(WeightsKind::TensorFlow)
    } else {
        Err(Error::file(
            path,
            "is a folder without config.json of StarDist, rdf.yaml of bioimage.io and saved_model.pb of TensorFlow; give the \
             folder that holds one of them, or a file of weights",
        ))
    }
}

fn of_archive(path: &Path, head: &[u8]) -> Result<WeightsKind> {
    let file = std::fs::File::open(path).map_err(|source| Error::io(path, source))?;
    let archive = match Archive::of_file(file) {
        Ok(archive) => archive,
        Err(reason) => {
            // Archives of Keras begin with one of their entries, those of PyTorch with one in a folder.
            let name = head.get(30..).unwrap_or_default();
            if ["metadata.json", "model.weights.h5"].iter().any(|entry| name.starts_with(entry.as_bytes())) {
                return Ok(WeightsKind::Keras);
            }
            if name.windows(9).any(|part| part == b"/data.pkl") {
                return Ok(WeightsKind::PyTorch);
            }
            let reason =
                format!("is a zip archive of which nobody can tell what it holds: {reason}; copy or download it again");
            return Err(Error::file(path, reason));
        }
    };
    let names: Vec<&str> = archive.names().collect();
    let ends = |wanted: &str| {
        names
            .iter()
            .any(|name| name.strip_suffix(wanted).is_some_and(|folder| folder.is_empty() || folder.ends_with('/')))
    };
    if ends("data.pkl") {
        Ok(WeightsKind::PyTorch)
    } else if DESCRIPTIONS.iter().any(|name| ends(name)) {
        Ok(WeightsKind::Bioimage)
    } else if ends("model.weights.h5") {
        Ok(WeightsKind::Keras)
    } else if ends("config.json") {
        Ok(WeightsKind::StarDist)
    } else if ends("saved_model.pb") {
        Ok(WeightsKind::TensorFlow)
    } else {
        let shown: Vec<String> = names.iter().take(3).map(|name| format!("'{}'", shortened(name))).collect();
        Err(Error::file(
            path,
            format!(
                "is a zip archive of no model that is known here; it holds {}",
                if shown.is_empty() { "nothing".to_string() } else { shown.join(", ") }
            ),
        ))
    }
}
