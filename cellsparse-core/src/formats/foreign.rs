//! Weights files of other programs, told apart by their first bytes.

use std::io::Read as _;
use std::path::Path;

use super::pytorch;
use super::state_dict::StateDict;
use super::tensors::{is_ours, read_foreign_tensors};
use crate::error::{Error, Result};
use crate::raster::require_regular_file;

/// What a file of weights is.
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
}

impl WeightsKind {
    /// Tells what the file at `path` is, by its first bytes and never by its name; of a safetensors file the header is read,
    /// of others 64 bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`], and [`Error::File`] for a folder or a file of no kind that is known here.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            require_regular_file(path)?;
        }
        let mut file = std::fs::File::open(path).map_err(|source| Error::io(path, source))?;
        if file.metadata().is_ok_and(|facts| facts.is_dir()) {
            return Err(Error::file(path, "is a folder; weights are a file"));
        }
        let mut head = Vec::new();
        file.by_ref().take(64).read_to_end(&mut head).map_err(|source| Error::io(path, source))?;
        match head.as_slice() {
            [] => Err(Error::file(path, "is empty")),
            [b'P', b'K', 3, 4, ..] => Ok(if is_keras(&head) { WeightsKind::Keras } else { WeightsKind::PyTorch }),
            [0x80, 2..=5, ..] => Ok(WeightsKind::PyTorch),
            [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(WeightsKind::Hdf5),
            [_, _, _, _, _, _, _, _, b'{', ..] => {
                Ok(if is_ours(path)? { WeightsKind::Cellsparse } else { WeightsKind::Safetensors })
            }
            _ => Err(Error::file(
                path,
                "begins like no file of weights that is known here (.pth of PyTorch, .safetensors, .h5 of Keras)",
            )),
        }
    }
}

/// Reads the weights of another program: a PyTorch file or a safetensors file.
///
/// # Errors
/// As [`WeightsKind::of`], [`pytorch::read_state_dict`] and [`read_foreign_tensors`]; [`Error::File`] for Keras files,
/// which are not read, and for models of cellsparse, which `Model::load` reads.
pub fn read_weights(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    match WeightsKind::of(path)? {
        WeightsKind::PyTorch => pytorch::read_state_dict(path),
        WeightsKind::Safetensors => read_foreign_tensors(path),
        WeightsKind::Cellsparse => Err(Error::file(path, "is a model of cellsparse already; it needs no conversion")),
        WeightsKind::Hdf5 | WeightsKind::Keras => Err(Error::file(
            path,
            "is a Keras file, which this build does not read; it reads PyTorch files (.pth) and safetensors files",
        )),
    }
}

/// Keras archives begin with one of their three entries; PyTorch's entries lie in a folder.
fn is_keras(head: &[u8]) -> bool {
    let name = head.get(30..).unwrap_or_default();
    ["metadata.json", "config.json", "model.weights.h5"].iter().any(|entry| name.starts_with(entry.as_bytes()))
}
