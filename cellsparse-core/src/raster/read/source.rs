//! Where the bytes of an image file come from: memory, or a file that is read piece by piece.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{Decoded, Problem};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::raster::require_regular_file;

/// Bytes with a known length, read by place, until somebody asks to stop.
pub(super) struct Source<'a> {
    bytes: Bytes<'a>,
    cancel: CancelToken,
}

enum Bytes<'a> {
    /// All of them in memory.
    Memory(&'a [u8]),
    /// A regular file, and its length when it was opened.
    File { file: File, len: u64 },
}

/// Bytes that are read of a file before it is asked again whether to stop: a moment of a slow disk.
const PART: usize = 1 << 22;

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
            let reason = format!("the file has {len} bytes and the limit is {most}; cut the image into parts");
            return Err(Error::limit(path, reason));
        }
        Ok(Self { bytes: Bytes::File { file, len }, cancel: CancelToken::new() })
    }
}

impl<'a> Source<'a> {
    /// Bytes in memory.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes: Bytes::Memory(bytes), cancel: CancelToken::new() }
    }

    /// The same, which nothing is read of once the token is raised.
    pub(super) fn until(self, cancel: &CancelToken) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// Ends the reading when it is to stop: asked for by everything that takes long with what was read.
    pub(super) fn check(&self) -> Decoded<()> {
        if self.cancel.is_cancelled() { Err(Problem::Cancelled) } else { Ok(()) }
    }
}

impl Source<'_> {
    /// Number of bytes.
    pub(super) fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::Memory(bytes) => bytes.len() as u64,
            Bytes::File { len, .. } => *len,
        }
    }

    /// The `size` bytes from `offset` on; `None` when they reach beyond the end.
    pub(super) fn read(&self, offset: u64, size: usize) -> Decoded<Option<Cow<'_, [u8]>>> {
        if offset.checked_add(size as u64).is_none_or(|end| end > self.len()) {
            return Ok(None);
        }
        self.check()?;
        match &self.bytes {
            Bytes::Memory(bytes) => {
                let from = offset as usize;
                Ok(bytes.get(from..from + size).map(Cow::Borrowed))
            }
            Bytes::File { file, .. } => {
                let mut buffer = super::buffer(size)?;
                let mut file = file;
                file.seek(SeekFrom::Start(offset)).map_err(Problem::Io)?;
                for part in buffer.chunks_mut(PART) {
                    self.check()?;
                    file.read_exact(part).map_err(Problem::Io)?;
                }
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
