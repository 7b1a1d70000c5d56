//! The skeleton of a TIFF file: header, directories and the values of their tags (TIFF 6.0, section 2; BigTIFF).

use std::collections::HashSet;

use super::super::source::Source;
use super::super::{Decoded, Problem};

/// Most directories that are followed; ImageJ's longest stacks have some ten thousand.
const MOST_DIRECTORIES: usize = 100_000;
/// Most bytes that the values of one tag may take: offsets of 8 million strips.
const MOST_VALUE_BYTES: u64 = 64 << 20;

/// Tags by the names of the specification.
pub(super) mod tags {
    #![allow(missing_docs)]
    pub const NEW_SUBFILE_TYPE: u16 = 254;
    pub const SUBFILE_TYPE: u16 = 255;
    pub const IMAGE_WIDTH: u16 = 256;
    pub const IMAGE_LENGTH: u16 = 257;
    pub const BITS_PER_SAMPLE: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const IMAGE_DESCRIPTION: u16 = 270;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const SAMPLES_PER_PIXEL: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTE_COUNTS: u16 = 279;
    pub const X_RESOLUTION: u16 = 282;
    pub const Y_RESOLUTION: u16 = 283;
    pub const PLANAR_CONFIGURATION: u16 = 284;
    pub const T4_OPTIONS: u16 = 292;
    pub const RESOLUTION_UNIT: u16 = 296;
    pub const SOFTWARE: u16 = 305;
    pub const PREDICTOR: u16 = 317;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_LENGTH: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTE_COUNTS: u16 = 325;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const YCBCR_COEFFICIENTS: u16 = 529;
    pub const YCBCR_SUBSAMPLING: u16 = 530;
    pub const REFERENCE_BLACK_WHITE: u16 = 532;
    pub const METAMORPH_UIC2: u16 = 33_629;
    pub const SUB_IFDS: u16 = 330;
    pub const ZEISS_LSM: u16 = 34_412;
    pub const DNG_VERSION: u16 = 50_706;
}

/// One tag of a directory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where its values stand in the file.
    at: u64,
}

/// One directory: the description of one page.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    entries: Vec<Entry>,
}

/// A TIFF file whose directories have been found.
pub(super) struct Tiff<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) big_endian: bool,
    /// BigTIFF: offsets of 64 bits.
    big: bool,
    /// The main chain, in its order.
    pub(super) directories: Vec<Directory>,
}

impl<'a> Tiff<'a> {
    /// Reads the header and walks along the main chain of directories.
    pub(super) fn open(source: &'a Source<'a>) -> Decoded<Self> {
        let header = source.start(16)?;
        let big_endian = header.starts_with(b"MM");
        let number = |at: usize, size: usize| header.get(at..at + size).map(|bytes| integer(bytes, big_endian));
        let big = number(2, 2) == Some(43);
        let first = if big { number(8, 8) } else { number(4, 4) };
        let mut tiff = Self { source, big_endian, big, directories: Vec::new() };
        let mut next = first.ok_or_else(cut_off)?;
        if next == 0 {
            return Err(Problem::unusable("the TIFF has no page: its header names no directory; export it again"));
        }
        let mut seen = HashSet::new();
        while next != 0 && tiff.directories.len() < MOST_DIRECTORIES {
            if !seen.insert(next) {
                return Err(Problem::unusable(
                    "the TIFF is damaged: its chain of pages leads back to an earlier one; export it again",
                ));
            }
            let (directory, after) = tiff.directory(next, big)?;
            tiff.directories.push(directory);
            next = after;
        }
        Ok(tiff)
    }

    /// A directory that stands outside the main chain, as those of reduced copies do.
    pub(super) fn directory_at(&self, at: u64) -> Decoded<Directory> {
        Ok(self.directory(at, self.big)?.0)
    }

    fn directory(&self, at: u64, big: bool) -> Decoded<(Directory, u64)> {
        let (count_size, entry_size, offset_size) = if big { (8u64, 20u64, 8u64) } else { (2, 12, 4) };
        let count = self.integer(at, count_size)?;
        let size = count.checked_mul(entry_size).filter(|size| *size <= self.source.len()).ok_or_else(cut_off)?;
        let block = self.source.read(at.saturating_add(count_size), size as usize)?.ok_or_else(cut_off)?;
        let mut entries = Vec::with_capacity(count as usize);
        let value_at = if big { 12 } else { 8 };
        for (index, entry) in block.chunks_exact(entry_size as usize).enumerate() {
            let number = |from: usize, size: usize| integer(&entry[from..from + size], self.big_endian);
            let (tag, kind) = (number(0, 2) as u16, number(2, 2) as u16);
            let count = number(4, value_at - 4);
            let inline = at + count_size + index as u64 * entry_size + value_at as u64;
            let fits = size_of_kind(kind).is_some_and(|size| count.saturating_mul(size) <= offset_size);
            let at = if fits { inline } else { number(value_at, offset_size as usize) };
            entries.push(Entry { tag, kind, count, at });
        }
        let next = self.integer(at + count_size + size, offset_size)?;
        Ok((Directory { entries }, next))
    }

    fn integer(&self, at: u64, size: u64) -> Decoded<u64> {
        Ok(integer(&self.source.read(at, size as usize)?.ok_or_else(cut_off)?, self.big_endian))
    }

    /// The whole numbers of a tag, `None` when the directory lacks it.
    pub(super) fn numbers(&self, directory: &Directory, tag: u16) -> Decoded<Option<Vec<u64>>> {
        let Some(entry) = directory.entry(tag) else { return Ok(None) };
        if !matches!(entry.kind, 1 | 3 | 4 | 6 | 8 | 9 | 13 | 16 | 17 | 18) {
            return Err(Problem::unusable(format!(
                "the TIFF has values of type {} in tag {tag}, where whole numbers belong; save it again",
                entry.kind
            )));
        }
        let (bytes, size) = self.values(entry)?;
        Ok(Some(bytes.chunks_exact(size).map(|value| integer(value, self.big_endian)).collect()))
    }

    /// The first whole number of a tag.
    pub(super) fn number(&self, directory: &Directory, tag: u16) -> Decoded<Option<u64>> {
        let Some(entry) = directory.entry(tag) else { return Ok(None) };
        let first = Directory { entries: vec![Entry { count: entry.count.min(1), ..*entry }] };
        Ok(self.numbers(&first, tag)?.and_then(|values| values.first().copied()))
    }

    /// The fractions or floats of a tag; `None` when it is absent or of another type.
    pub(super) fn fractions(&self, directory: &Directory, tag: u16) -> Decoded<Option<Vec<f64>>> {
        let Some(entry) = directory.entry(tag) else { return Ok(None) };
        let (bytes, size) = self.values(entry)?;
        let whole = |bytes: &[u8]| integer(bytes, self.big_endian);
        let value = |bytes: &[u8]| match entry.kind {
            5 => Some(whole(&bytes[..4]) as f64 / whole(&bytes[4..8]) as f64),
            11 => Some(f64::from(f32::from_bits(whole(bytes) as u32))),
            12 => Some(f64::from_bits(whole(bytes))),
            3 | 4 => Some(whole(bytes) as f64),
            _ => None,
        };
        Ok(bytes.chunks_exact(size).map(value).collect())
    }

    /// The raw bytes of a tag.
    pub(super) fn bytes(&self, directory: &Directory, tag: u16) -> Decoded<Option<Vec<u8>>> {
        directory.entry(tag).map(|entry| Ok(self.values(entry)?.0)).transpose()
    }

    /// The text of a tag up to its first zero. Text that is not UTF-8 is taken as Latin-1, the older habit.
    pub(super) fn text(&self, directory: &Directory, tag: u16) -> Decoded<String> {
        let bytes = self.bytes(directory, tag)?.unwrap_or_default();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let text = &bytes[..end];
        Ok(std::str::from_utf8(text)
            .map_or_else(|_| text.iter().map(|&byte| char::from(byte)).collect(), str::to_owned))
    }

    /// The bytes of all values and the size of one.
    fn values(&self, entry: &Entry) -> Decoded<(Vec<u8>, usize)> {
        let size = size_of_kind(entry.kind).ok_or_else(|| {
            Problem::unusable(format!("the TIFF has values of the unknown type {} in tag {}", entry.kind, entry.tag))
        })?;
        let total = entry.count.saturating_mul(size);
        if total > MOST_VALUE_BYTES {
            return Err(Problem::Limit(format!(
                "the values of tag {} of the TIFF take {total} bytes and the limit is {MOST_VALUE_BYTES}",
                entry.tag
            )));
        }
        Ok((self.source.read(entry.at, total as usize)?.ok_or_else(cut_off)?.into_owned(), size as usize))
    }
}

impl Directory {
    fn entry(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    /// Whether the tag is there.
    pub(super) fn has(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    /// How many values a tag has.
    pub(super) fn count(&self, tag: u16) -> u64 {
        self.entry(tag).map_or(0, |entry| entry.count)
    }
}

/// The file ends before what it announces.
pub(super) fn cut_off() -> Problem {
    Problem::unusable("the TIFF file ends too early or points outside itself; it was cut off or damaged: get it again")
}

fn size_of_kind(kind: u16) -> Option<u64> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}

fn integer(bytes: &[u8], big_endian: bool) -> u64 {
    let add = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
    if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
}
