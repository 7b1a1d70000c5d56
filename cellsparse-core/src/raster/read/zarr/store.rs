//! The folder that a zarr is: its metadata and the files of its chunks.
//!
//! Names of chunks are made of numbers, and names of folders that the metadata gives are checked: nothing outside the folder is
//! opened.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::{Decoded, Problem, buffer};
use crate::error::Error;
use crate::raster::require_regular_file;

/// Files that make a folder a node of a zarr.
pub(super) const METADATA: [&str; 4] = ["zarr.json", ".zarray", ".zgroup", ".zattrs"];

/// Largest file of metadata. Those with the metadata of a whole plate in one have some megabytes.
const METADATA_BYTES: u64 = 64 << 20;

/// Folders within folders that a path of the metadata may name.
const DEPTH: usize = 16;

/// A folder, open for reading.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The path of a folder or file in it; `name` is empty for the folder itself.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// A file of metadata of the node `node`, if it is there.
    pub(super) fn metadata(&self, node: &str, file: &str) -> Decoded<Option<Value>> {
        let name = joined(node, file);
        let Some(mut opened) = self.open(&name)? else { return Ok(None) };
        let length = opened.metadata().map_err(Problem::Io)?.len();
        if length > METADATA_BYTES {
            return Err(Problem::Limit(format!("{name} has {length} bytes; metadata may have {METADATA_BYTES}")));
        }
        let mut text = Vec::new();
        opened.read_to_end(&mut text).map_err(Problem::Io)?;
        let parsed = serde_json::from_slice(&text).or_else(|error| {
            // Python writes numbers that JSON does not know.
            serde_json::from_slice(&without_bare_numbers(&text)).map_err(|_| error)
        });
        parsed.map(Some).map_err(|error| {
            Problem::unusable(format!(
                "{name} is not whole JSON ({error}); the image was not copied whole or is damaged"
            ))
        })
    }

    /// The bytes of a file of at most `most` bytes; `None` when there is no such file.
    pub(super) fn file(&self, name: &str, most: u64) -> Decoded<Option<Vec<u8>>> {
        let Some(mut file) = self.open(name)? else { return Ok(None) };
        let length = file.metadata().map_err(Problem::Io)?.len();
        if length > most {
            return Err(Problem::unusable(format!(
                "{name} has {length} bytes where a chunk of this array has {most} at most; the array is damaged"
            )));
        }
        let mut bytes = buffer(usize::try_from(length).unwrap_or(usize::MAX))?;
        file.read_exact(&mut bytes).map_err(Problem::Io)?;
        Ok(Some(bytes))
    }

    /// An open file with its length; `None` when there is no such file.
    pub(super) fn part(&self, name: &str) -> Decoded<Option<FilePart>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let length = file.metadata().map_err(Problem::Io)?.len();
        Ok(Some(FilePart { file, length }))
    }

    fn open(&self, name: &str) -> Decoded<Option<File>> {
        let path = self.path(name);
        match require_regular_file(&path) {
            Ok(_) => {}
            Err(Error::NotFound { .. }) => return Ok(None),
            // A file where the folder of a chunk would be.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotADirectory => return Ok(None),
            Err(Error::Io { source, .. }) => return Err(Problem::Io(source)),
            Err(error) => return Err(Problem::unusable(format!("{name}: {}", error.message()))),
        }
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Problem::Io(source)),
        }
    }
}

/// A file of which parts are read.
pub(super) struct FilePart {
    file: File,
    pub(super) length: u64,
}

impl FilePart {
    /// The `size` bytes from `offset` on; `None` when they reach beyond the end.
    pub(super) fn read(&mut self, offset: u64, size: usize) -> Decoded<Option<Vec<u8>>> {
        if offset.checked_add(size as u64).is_none_or(|end| end > self.length) {
            return Ok(None);
        }
        let mut bytes = buffer(size)?;
        self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut bytes)).map_err(Problem::Io)?;
        Ok(Some(bytes))
    }
}

/// The name of something in a node.
pub(super) fn joined(node: &str, name: &str) -> String {
    if node.is_empty() { name.to_owned() } else { format!("{node}/{name}") }
}

/// A path that the metadata gives, from the node `node` on, without steps that lead nowhere.
///
/// # Errors
/// When it could lead out of the folder.
pub(super) fn inside(node: &str, path: &str) -> Decoded<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let odd = |part: &&str| {
        *part == ".." || part.len() > 255 || part.contains(['\\', ':']) || part.contains(char::is_control)
    };
    if parts.is_empty() || parts.len() > DEPTH || parts.iter().any(odd) || path.starts_with('/') {
        return Err(Problem::unusable(format!(
            "the metadata names the array '{}', which is no path within the image",
            path.chars().take(60).collect::<String>().escape_debug()
        )));
    }
    Ok(joined(node, &parts.join("/")))
}

/// The text with `null` for the words `NaN` and `Infinity` outside of strings, which Python writes for such numbers.
fn without_bare_numbers(text: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some((&byte, tail)) = rest.split_first() {
        if !quoted
            && let Some(word) = [&b"NaN"[..], b"-Infinity", b"Infinity"].iter().find(|word| rest.starts_with(word))
        {
            result.extend(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        result.push(byte);
        rest = tail;
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                if let Some((&escaped, tail)) = rest.split_first() {
                    result.push(escaped);
                    rest = tail;
                }
            }
            _ => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(inside("", "0").ok(), Some("0".into()));
        assert_eq!(inside("A/1", "./scale0/image/").ok(), Some("A/1/scale0/image".into()));
        for path in ["", ".", "/", "/etc", "..", "0/../../x", "a\\b", "C:", "a\0b", &"x/".repeat(99), &"x".repeat(300)]
        {
            assert!(inside("", path).is_err(), "{path}");
        }
    }

    #[test]
    fn numbers_that_json_does_not_know_are_nothing() {
        let text = br#"{"a": NaN, "b": "NaN \" NaN", "c": [-Infinity, Infinity]}"#;
        let plain = br#"{"a": null, "b": "NaN \" NaN", "c": [null, null]}"#;
        assert_eq!(without_bare_numbers(text), plain);
    }
}
