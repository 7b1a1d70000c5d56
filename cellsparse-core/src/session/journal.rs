//! A file that grows by whole records and survives a crash.
//!
//! The file begins with 16 bytes that say what it is. Each record is its length (32 bits), the XXH64 of its content (64 bits), both
//! little-endian, and the content. A record is on the disk before [`Journal::append`] returns. What a crash has left of a record that
//! was being written is cut off when the file is opened. Of a file that is damaged before its last record a copy is kept beside it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash64;

use crate::error::{Error, Result};
use crate::raster::write_atomically;

/// What a journal begins with.
const HEAD: &[u8; 16] = b"cellsparse log 1";

/// Bytes of a record before its content.
const FRAME: usize = 12;

/// Bytes of the content of a record at most.
const LONGEST: usize = 64 << 20;

/// Bytes of a journal at most: far more than a person draws.
const LARGEST: u64 = 1 << 30;

/// A journal that is written.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Up to where whole records are on the disk.
    length: u64,
}

/// What was found in a journal.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The content of every whole record, in order.
    pub records: Vec<Vec<u8>>,
    /// Bytes behind them that were cut off.
    pub cut: u64,
    /// Where the file is kept as it was, when these are more than a record that was being written.
    pub kept: Option<PathBuf>,
}

impl Journal {
    /// Opens a journal, or begins one where there is none, and cuts off what is not whole.
    ///
    /// # Errors
    /// [`Error::File`] when the file is something else or larger than a gigabyte; [`Error::Io`].
    pub fn open(path: &Path) -> Result<(Self, Found)> {
        let io = |source| Error::io(path, source);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length > LARGEST {
            return Err(Error::file(path, format!("has {length} bytes; a journal has {LARGEST} at most")));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let head = &bytes[..bytes.len().min(HEAD.len())];
        if !HEAD.starts_with(head) {
            return Err(Error::file(path, "is no journal of a project of this version; choose another folder"));
        }
        let mut found = Found::default();
        let whole =
            if head.len() == HEAD.len() { HEAD.len() + read_records(&bytes[HEAD.len()..], &mut found) } else { 0 };
        found.cut = (bytes.len() - whole) as u64;
        let mut journal = Self { file, path: path.to_owned(), length: whole as u64 };
        if whole == 0 {
            found.cut = 0;
            journal.length = 0;
            journal.write(HEAD)?;
        } else if found.cut > 0 {
            if !is_torn(&bytes[whole..]) {
                let kept = path.with_extension("damaged");
                std::fs::copy(path, &kept).map_err(io)?;
                found.kept = Some(kept);
            }
            journal.file.set_len(journal.length).map_err(io)?;
            journal.file.sync_data().map_err(io)?;
        }
        Ok((journal, found))
    }

    /// Replaces a journal by one with those records, as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Limit`] for a record that is too long; [`Error::Io`].
    pub fn replace(path: &Path, records: &[Vec<u8>]) -> Result<Self> {
        write_atomically(path, |writer| {
            let mut bytes = HEAD.to_vec();
            for record in records {
                bytes.extend(framed(record)?);
            }
            writer.write_all(&bytes).map_err(|source| Error::io(path, source))
        })?;
        Ok(Self::open(path)?.0)
    }

    /// Adds a record, which is on the disk when this returns. After an error the journal is as before.
    ///
    /// # Errors
    /// [`Error::Limit`] for a record that is too long; [`Error::Io`] when the disk is full or gone.
    pub fn append(&mut self, content: &[u8]) -> Result<()> {
        let record = framed(content)?;
        // A file that was deleted takes along what is written to it.
        if !self.path.exists() {
            let gone = "it was deleted or moved while it was open; put the folder of the project back, or start again";
            return Err(Error::io(&self.path, std::io::Error::other(gone)));
        }
        self.write(&record)
    }

    /// Bytes of the whole records.
    pub fn len(&self) -> u64 {
        self.length
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // Also behind the rest of a record that could not be written whole.
        let written = self.file.seek(SeekFrom::Start(self.length)).and_then(|_| {
            self.file.write_all(bytes)?;
            self.file.sync_data()
        });
        if let Err(source) = written {
            // What follows it would not be read; where this fails too, the next record overwrites it.
            let _ = self.file.set_len(self.length);
            return Err(Error::io(&self.path, source));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

fn framed(content: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(content.len()).ok().filter(|length| *length as usize <= LONGEST).ok_or_else(|| {
        Error::Limit(format!("an edit takes {} bytes; {LONGEST} are allowed; draw it in several parts", content.len()))
    })?;
    let mut record = Vec::with_capacity(FRAME + content.len());
    record.extend(length.to_le_bytes());
    record.extend(XxHash64::oneshot(0, content).to_le_bytes());
    record.extend(content);
    Ok(record)
}

/// The content of the record that `bytes` begin with, if it is whole.
fn record(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let content = if length <= LONGEST { rest.get(..length) } else { None };
    content.filter(|content| XxHash64::oneshot(0, content) == u64::from_le_bytes(*sum))
}

/// Reads the whole records at the beginning of `bytes` and says how many bytes they take.
fn read_records(bytes: &[u8], found: &mut Found) -> usize {
    let mut at = 0;
    while let Some(content) = record(&bytes[at..]) {
        found.records.push(content.to_vec());
        at += FRAME + content.len();
    }
    at
}

/// Whether what follows the whole records is left of one that was being written: no other one comes after it.
fn is_torn(rest: &[u8]) -> bool {
    (1..rest.len()).all(|at| record(&rest[at..]).is_none())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whatever_is_left_of_the_last_record_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let records: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; 3 + usize::from(n)]).collect();
        let (mut journal, found) = Journal::open(&path).unwrap();
        assert!(found.records.is_empty());
        for record in &records {
            journal.append(record).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        assert_eq!(journal.len(), whole.len() as u64);
        drop(journal);
        let last = whole.len() - FRAME - records[4].len();
        for end in 0..=whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let (mut journal, found) = Journal::open(&path).unwrap();
            let count = found.records.len();
            assert_eq!(found.records, records[..count], "cut at {end}");
            assert_eq!(count == 5, end == whole.len());
            assert!(end < last || count >= 4);
            journal.append(b"next").unwrap();
            drop(journal);
            let (_, found) = Journal::open(&path).unwrap();
            assert_eq!((found.records.len(), found.cut), (count + 1, 0), "what follows a torn record is read");
        }
        for at in last..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            fs::write(&path, &damaged).unwrap();
            let (_, found) = Journal::open(&path).unwrap();
            assert_eq!(found.records, records[..4], "damaged at {at}");
            assert!(found.cut > 0);
        }
    }

    #[test]
    fn a_file_that_is_damaged_before_its_end_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        drop(Journal::replace(&path, &[b"first".to_vec(), b"second".to_vec(), b"third".to_vec()]).unwrap());
        let mut damaged = fs::read(&path).unwrap();
        let second = HEAD.len() + FRAME + 5;
        damaged[second + FRAME] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let (_, found) = Journal::open(&path).unwrap();
        assert_eq!((found.records, found.cut), (vec![b"first".to_vec()], (damaged.len() - second) as u64));
        assert_eq!(fs::read(found.kept.unwrap()).unwrap(), damaged);
        // The last one that was being written is no damage.
        for end in second..second + FRAME + 5 {
            fs::write(&path, &damaged[..end]).unwrap();
            assert_eq!(Journal::open(&path).unwrap().1.kept, None, "cut at {end}");
        }
    }

    #[test]
    fn nothing_is_written_to_a_file_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(b"a").unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        let error = journal.append(b"b").unwrap_err();
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("deleted or moved"), "{error}");
        fs::rename(&elsewhere, &path).unwrap();
        journal.append(b"c").unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1.records, [b"a".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        fs::write(&path, b"something else that somebody wrote").unwrap();
        assert!(matches!(Journal::open(&path), Err(Error::File { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"something else that somebody wrote");
        let journal = Journal::replace(&path, &[b"a".to_vec(), b"bc".to_vec()]).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1.records, [b"a".to_vec(), b"bc".to_vec()]);
        assert!(matches!(framed(&vec![0; LONGEST + 1]), Err(Error::Limit(_))));
    }
}
