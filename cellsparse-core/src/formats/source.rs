//! Bytes of which ranges are read: in memory, in a file, or within an archive, so that what is large is never held whole.

use std::borrow::Cow;
#[cfg(feature = "models")]
use std::fs::File;
#[cfg(feature = "models")]
use std::io::{self, Read, Seek as _, SeekFrom};
#[cfg(feature = "models")]
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "keras")]
use super::deflated::Deflated;
#[cfg(feature = "models")]
use super::numbers::Number;

/// Bytes that are held beside what is made of them; a multiple of the size of every number.
const PIECE: u64 = 1 << 18;

/// Bytes in memory, in a file, or packed. Copies read the same bytes.
#[derive(Clone)]
pub(super) enum Source<'a> {
    #[cfg_attr(not(feature = "io"), allow(dead_code, reason = "regions of ImageJ are read from memory"))]
    Bytes(&'a [u8]),
    /// So many bytes of a file from a place on.
    #[cfg(feature = "models")]
    File { file: Arc<Mutex<File>>, start: u64, length: u64 },
    #[cfg(feature = "keras")]
    Deflated(Arc<Deflated<'a>>),
}

impl<'a> Source<'a> {
    /// A whole file, which is kept open.
    #[cfg(feature = "models")]
    pub fn of_file(file: File) -> io::Result<Source<'static>> {
        let length = file.metadata()?.len();
        Ok(Source::File { file: Arc::new(Mutex::new(file)), start: 0, length })
    }

    /// Its number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            #[cfg(feature = "models")]
            Self::File { length, .. } => *length,
            #[cfg(feature = "keras")]
            Self::Deflated(packed) => packed.len(),
        }
    }

    /// So many bytes from `start` on, nothing when they are not there.
    pub fn get(&self, start: u64, length: u64) -> Option<Cow<'a, [u8]>> {
        let end = start.checked_add(length).filter(|end| *end <= self.len())?;
        match self {
            Self::Bytes(bytes) => {
                Some(Cow::Borrowed(bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?))
            }
            #[cfg(feature = "models")]
            Self::File { file, start: begin, .. } => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(begin.checked_add(start)?)).ok()?;
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(usize::try_from(length).ok()?).ok()?;
                (&*file).take(length).read_to_end(&mut bytes).ok()?;
                (bytes.len() as u64 == length).then_some(Cow::Owned(bytes))
            }
            #[cfg(feature = "keras")]
            Self::Deflated(packed) => packed.get(start, length).map(Cow::Owned),
        }
    }

    /// So many bytes from `start` on as a source of their own; nothing when they are not there, or packed.
    #[cfg(feature = "models")]
    pub fn part(&self, start: u64, length: u64) -> Option<Source<'a>> {
        let end = start.checked_add(length).filter(|end| *end <= self.len())?;
        match self {
            Self::Bytes(bytes) => {
                Some(Source::Bytes(bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?))
            }
            Self::File { file, start: begin, .. } => {
                Some(Source::File { file: Arc::clone(file), start: begin.checked_add(start)?, length })
            }
            #[cfg(feature = "keras")]
            Self::Deflated(_) => None,
        }
    }

    /// Gives so many bytes from `start` on piece by piece, each but the last of a multiple of 8 bytes; nothing when they are not
    /// there.
    pub fn pieces(&self, start: u64, length: u64, mut take: impl FnMut(&[u8])) -> Option<()> {
        let end = start.checked_add(length).filter(|end| *end <= self.len())?;
        let mut at = start;
        while at < end {
            let piece = self.get(at, PIECE.min(end - at))?;
            take(&piece);
            at += piece.len() as u64;
        }
        Some(())
    }

    /// `count` numbers from `start` on as 32-bit floats; nothing when they are not there, or there is no memory for them.
    #[cfg(feature = "models")]
    pub fn floats(&self, start: u64, count: usize, number: Number) -> Option<Vec<f32>> {
        let length = (count as u64).checked_mul(number.size() as u64)?;
        start.checked_add(length).filter(|end| *end <= self.len())?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).ok()?;
        self.pieces(start, length, |bytes| number.append(bytes, &mut values))?;
        (values.len() == count).then_some(values)
    }

    /// Reads it from its beginning to its end.
    #[cfg(feature = "keras")]
    pub fn reader(self) -> impl Read + use<'a> {
        Reader { source: self, at: 0, piece: Cow::Borrowed(&[]), used: 0 }
    }
}

/// What reads a source in order.
#[cfg(feature = "keras")]
struct Reader<'a> {
    source: Source<'a>,
    at: u64,
    piece: Cow<'a, [u8]>,
    /// Bytes of the piece that were read.
    used: usize,
}

#[cfg(feature = "keras")]
impl Read for Reader<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            let length = PIECE.min(self.source.len() - self.at);
            let missing = || io::Error::other("the file changed while it was read, or cannot be read");
            self.piece = self.source.get(self.at, length).ok_or_else(missing)?;
            self.at += length;
            self.used = 0;
        }
        let count = to.len().min(self.piece.len() - self.used);
        to[..count].copy_from_slice(&self.piece[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

#[cfg(all(test, feature = "keras"))]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn ranges_of_memory_and_of_files_are_the_same() {
        let bytes: Vec<u8> = (0..PIECE as usize + 777).map(|index| (index * 7 % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let whole = Source::of_file(file).unwrap();
        for source in [Source::Bytes(&bytes), whole.clone(), whole.part(0, bytes.len() as u64).unwrap()] {
            assert_eq!(source.len(), bytes.len() as u64);
            for (start, length) in [(0, 0), (0, 9), (700, 77), (bytes.len() - 1, 1), (bytes.len(), 0)] {
                let found = source.get(start as u64, length as u64).unwrap();
                assert_eq!(found[..], bytes[start..start + length]);
            }
            let beyond = bytes.len() as u64 + 1;
            assert!(source.get(beyond, 0).is_none() && source.get(1, beyond - 1).is_none());
            assert!(source.get(u64::MAX, 2).is_none() && source.part(1, beyond - 1).is_none());
            assert!(source.floats(1, bytes.len() / 4 + 1, Number::F32).is_none());
            assert!(source.floats(0, usize::MAX, Number::F64).is_none());
            let inner = source.part(5, 100).unwrap();
            assert_eq!(inner.get(3, 4).unwrap()[..], bytes[8..12]);
            assert!(inner.get(3, 98).is_none());
            let mut read = Vec::new();
            source.reader().read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
        }
    }

    #[test]
    fn numbers_are_read_across_pieces() {
        let count = PIECE as usize / 4 + 5;
        let bytes: Vec<u8> = (0..count).flat_map(|index| (index as f32).to_le_bytes()).collect();
        let values = Source::Bytes(&bytes).floats(4, count - 1, Number::F32).unwrap();
        assert!(values.iter().enumerate().all(|(index, value)| *value == (index + 1) as f32));
        assert_eq!(Source::Bytes(&[0, 0x3c, 0, 0xc0]).floats(0, 2, Number::F16).unwrap(), [1.0, -2.0]);
    }
}
