//! Where the bytes of an image file come from: memory, or a file that is read piece by piece.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{Decoded, Problem};
use crate::error::{Error, Result};
use crate::raster::require_regular_file;

/// Bytes with a known length, read by place.
pub(super) enum Source<'a> {
    /// All of them in memory.
    Bytes(&'a [u8]),
    /// A regular file.
    File {
        /// The open file.
        file: File,
        /// Its length when it was opened.
        len: u64,
    },
}

impl Source<'static> {
    /// Opens a regular file of at most `most` bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`]; [`Error::File`] for a folder, a pipe, a device or a socket, which is never
    /// opened; [`Error::Limit`] for a longer file.
    pub(super) fn open(path: &Path, most: u64) -> Result<Self> {
        require_regular_file(path)?;
        let file = File::open(path).map_err(|source| Error::io(path, source))?;
        let len = file.metadata().map_err(|source| Error::io(path, source))?.len();
        if len > most {
            return Err(Error::Limit(format!(
                "{}: the file has {len} bytes and the limit is {most}; cut the image into parts",
                path.display()
            )));
        }
        Ok(Source::File { file, len })
    }
}

impl Source<'_> {
    /// Number of bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File { len, .. } => *len,
        }
    }

    /// The `size` bytes from `offset` on; `None` when they reach beyond the end.
    pub(super) fn read(&self, offset: u64, size: usize) -> Decoded<Option<Cow<'_, [u8]>>> {
        if offset.checked_add(size as u64).is_none_or(|end| end > self.len()) {
            return Ok(None);
        }
        match self {
            Source::Bytes(bytes) => {
                let from = offset as usize;
                Ok(bytes.get(from..from + size).map(Cow::Borrowed))
            }
            Source::File { file, .. } => {
                let mut buffer = super::buffer(size)?;
                let mut file = file;
                file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut buffer)).map_err(Problem::Io)?;
                Ok(Some(Cow::Owned(buffer)))
            }
        }
    }

    /// The first bytes, at most `size`.
    pub(super) fn start(&self, size: usize) -> Decoded<Cow<'_, [u8]>> {
        let size = size.min(usize::try_from(self.len()).unwrap_or(usize::MAX));
        Ok(self.read(0, size)?.unwrap_or_default())
    }

    /// Everything.
    pub(super) fn all(&self) -> Decoded<Cow<'_, [u8]>> {
        self.start(usize::MAX)
    }
}
