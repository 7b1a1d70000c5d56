//! Zip archives whose entries are stored uncompressed, as PyTorch writes them, or deflated, as ImageJ does.
//!
//! Source of the layout: APPNOTE.TXT 6.3 (PKWARE), sections 4.3 and 4.5.3. Errors are texts without the file's name.

use std::borrow::Cow;
use std::collections::BTreeMap;
#[cfg(feature = "models")]
use std::fs::File;
use std::io::Write;

#[cfg(feature = "keras")]
use super::deflated::Deflated;
use super::shortened::shortened;
use super::source::Source;
use crate::raster::checksum::{ZIP, checksum};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;

/// Largest table of contents that is read.
const MAX_DIRECTORY: u64 = 1 << 26;

/// An archive in memory or in a file, of which only what is asked for is read.
pub(super) struct Archive<'a> {
    source: Source<'a>,
    entries: BTreeMap<String, Entry>,
    /// PyTorch can be told to leave the checksums out; then all of them are 0.
    has_checksums: bool,
}

struct Entry {
    flags: u16,
    method: u16,
    crc: u32,
    stored_size: u64,
    size: u64,
    header: u64,
}

impl<'a> Archive<'a> {
    /// Reads the table of contents of an archive in memory. Its memory is bounded by the bytes that the table takes there.
    #[cfg(test)]
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        Self::of(Source::Bytes(bytes), false)
    }

    /// Reads the table of contents of an archive in memory, in which entries may have the same name, as writers that append
    /// leave it: from the second on they are named `a-1.roi`, `a-2.roi`, as ImageJ names its regions. Its memory is bounded by
    /// the bytes that the table takes there.
    #[cfg(feature = "io")]
    pub(super) fn open_with_repeated_names(bytes: &'a [u8]) -> Result<Self, String> {
        Self::of(Source::Bytes(bytes), true)
    }

    /// Reads the table of contents of an archive in a file, which is kept open.
    #[cfg(feature = "models")]
    pub(super) fn of_file(file: File) -> Result<Archive<'static>, String> {
        Archive::of(Source::of_file(file).map_err(|error| format!("its size is not told: {error}"))?, false)
    }

    /// Reads the table of contents of an archive; entries of one name are `repeated`, or refused.
    pub(super) fn of(source: Source<'a>, repeated: bool) -> Result<Self, String> {
        let missing = "its zip directory is missing, as where a file is cut off";
        let (count, start, end) = directory(&source).ok_or(missing)?;
        let length = end.checked_sub(start).filter(|length| *length <= MAX_DIRECTORY);
        let table = length.and_then(|length| source.get(start, length)).ok_or(missing)?;
        let mut entries = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        let mut at = 0;
        for _ in 0..count {
            let (name, entry, next) = central_entry(&table, at).ok_or("its zip directory is cut off")?;
            let name = std::str::from_utf8(name).map_err(|_| "its zip directory has a name that is not UTF-8")?;
            let mut free = name.to_string();
            if entries.contains_key(name) {
                if !repeated {
                    return Err(format!("its zip directory names '{}' twice", shortened(name)));
                }
                let (stem, ending) = name.split_at(name.rfind('.').unwrap_or(name.len()));
                let number = numbers.entry(name.to_string()).or_insert(0_usize);
                while entries.contains_key(&free) {
                    *number += 1;
                    free = format!("{stem}-{number}{ending}");
                }
            }
            entries.insert(free, entry);
            at = next;
        }
        let has_checksums = entries.values().any(|entry| entry.crc != 0);
        Ok(Self { source, entries, has_checksums })
    }

    /// Bytes of the archive.
    #[cfg(feature = "models")]
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.source.len()).unwrap_or(usize::MAX)
    }

    /// The names of all entries, sorted.
    #[cfg(feature = "models")]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The names of all entries, in the order of their data.
    #[cfg(feature = "io")]
    pub(super) fn names_in_order(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.entries.iter().map(|(name, entry)| (entry.header, name.as_str())).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// The content of a stored entry, compared with its checksum, of which ranges are read; nothing when there is no entry of that
    /// name.
    #[cfg(feature = "models")]
    pub(super) fn stored(&self, name: &str) -> Result<Option<Source<'a>>, String> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        check_stored(name, entry)?;
        let data = data_of(&self.source, entry).ok_or_else(|| format!("its entry '{}' is cut off", shortened(name)))?;
        let mut sum = 0;
        if self.has_checksums {
            data.pieces(0, data.len(), |bytes| sum = checksum::<ZIP>(sum, bytes))
                .ok_or_else(|| format!("its entry '{}' cannot be read", shortened(name)))?;
        }
        if sum != entry.crc {
            return Err(format!("its entry '{}' does not match its checksum", shortened(name)));
        }
        Ok(Some(data))
    }

    /// The same for an entry that may be deflated, of at most `limit` bytes.
    #[cfg(feature = "keras")]
    pub(super) fn content(&self, name: &str, limit: u64) -> Result<Option<Source<'a>>, String> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        check_size(name, entry, limit)?;
        if entry.flags & 1 != 0 || entry.method == 0 {
            return self.stored(name);
        }
        let data = data_of(&self.source, entry).ok_or_else(|| format!("its entry '{}' is cut off", shortened(name)))?;
        let content = Deflated::new(data, entry.size, entry.crc);
        let content = content.ok_or_else(|| format!("its entry '{}' cannot be unpacked", shortened(name)))?;
        Ok(Some(Source::Deflated(content.into())))
    }

    /// The bytes of a stored or deflated entry of at most `limit` bytes, compared with its checksum; nothing when there is no
    /// entry of that name.
    #[cfg(feature = "io")]
    pub(super) fn unpack(&self, name: &str, limit: usize) -> Result<Option<Cow<'a, [u8]>>, String> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let named = || shortened(name);
        check_size(name, entry, limit as u64)?;
        if entry.flags & 1 != 0 || entry.method == 0 {
            return self.read(name);
        }
        let data = local_data(&self.source, entry).ok_or_else(|| format!("its entry '{}' is cut off", named()))?;
        let unpacked = miniz_oxide::inflate::decompress_to_vec_with_limit(&data, limit)
            .map_err(|_| format!("its entry '{}' cannot be unpacked", named()))?;
        if unpacked.len() as u64 != entry.size || checksum::<ZIP>(0, &unpacked) != entry.crc {
            return Err(format!("its entry '{}' does not match its checksum", named()));
        }
        Ok(Some(Cow::Owned(unpacked)))
    }

    /// The bytes of a stored entry, compared with its checksum; nothing when there is no entry of that name.
    pub(super) fn read(&self, name: &str) -> Result<Option<Cow<'a, [u8]>>, String> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let named = || shortened(name);
        check_stored(name, entry)?;
        let data = local_data(&self.source, entry).ok_or_else(|| format!("its entry '{}' is cut off", named()))?;
        if self.has_checksums && checksum::<ZIP>(0, &data) != entry.crc {
            return Err(format!("its entry '{}' does not match its checksum", named()));
        }
        Ok(Some(data))
    }
}

/// Length and checksum of what is written, which goes nowhere.
struct Facts {
    sum: u32,
    length: u64,
}

impl Write for Facts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.sum = checksum::<ZIP>(self.sum, bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A writer for so many bytes.
struct Again<'w, W> {
    writer: &'w mut W,
    left: u64,
}

impl<W: Write> Write for Again<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.left = self.left.wrapping_sub(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// Writes an archive of uncompressed entries whose data begin at multiples of 64 bytes.
pub(super) struct Packer<W> {
    writer: W,
    position: u64,
    directory: Vec<u8>,
    count: u16,
}

impl<W: Write> Packer<W> {
    /// Begins an archive.
    pub(super) fn new(writer: W) -> Self {
        Self { writer, position: 0, directory: Vec::new(), count: 0 }
    }

    /// Adds an entry. Entries beyond 65,534 and archives beyond 4 GiB are an error of kind `InvalidInput`.
    pub(super) fn add(&mut self, name: &str, data: &[u8]) -> std::io::Result<()> {
        self.add_made(name, &|writer: &mut dyn Write| writer.write_all(data))
    }

    /// The same for data that are written twice: once to know their length and checksum, and once into the archive.
    pub(super) fn add_made(
        &mut self,
        name: &str,
        write: &dyn Fn(&mut dyn Write) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let too_large = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "more than a zip archive can hold");
        let mut facts = Facts { sum: 0, length: 0 };
        write(&mut facts)?;
        let offset = u32::try_from(self.position).map_err(|_| too_large())?;
        let size = u32::try_from(facts.length).map_err(|_| too_large())?;
        let name_length = u16::try_from(name.len()).map_err(|_| too_large())?;
        self.count = self.count.checked_add(1).filter(|count| *count < u16::MAX).ok_or_else(too_large)?;
        // An extra field of its own kind ("FB", as PyTorch's) fills up to the alignment; it has 4 bytes at least.
        let before = self.position + 30 + u64::from(name_length) + 4;
        let padding = (64 - before % 64) as u16 % 64;
        let mut common = Vec::new();
        // Version 2.0, names in UTF-8, stored, and the first moment that the format can express.
        for field in [20_u16, 1 << 11, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [facts.sum, size, size] {
            common.extend(field.to_le_bytes());
        }
        common.extend(name_length.to_le_bytes());

        let mut local = LOCAL_HEADER.to_le_bytes().to_vec();
        local.extend(&common);
        local.extend((padding + 4).to_le_bytes());
        local.extend(name.as_bytes());
        local.extend(b"FB");
        local.extend(padding.to_le_bytes());
        local.resize(local.len() + usize::from(padding), b'Z');
        self.writer.write_all(&local)?;
        let mut again = Again { writer: &mut self.writer, left: facts.length };
        write(&mut again)?;
        if again.left != 0 {
            return Err(std::io::Error::other("the data of an entry changed while they were written"));
        }
        self.position += local.len() as u64 + u64::from(size);

        self.directory.extend(CENTRAL_HEADER.to_le_bytes());
        self.directory.extend(20_u16.to_le_bytes());
        self.directory.extend(&common);
        // No extra field, comment, disk number and attributes.
        self.directory.extend([0; 12]);
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        Ok(())
    }

    /// Writes the table of contents.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
        let too_large = |_| std::io::Error::new(std::io::ErrorKind::InvalidInput, "more than a zip archive can hold");
        let offset = u32::try_from(self.position).map_err(too_large)?;
        let size = u32::try_from(self.directory.len()).map_err(too_large)?;
        self.writer.write_all(&self.directory)?;
        self.writer.write_all(&END.to_le_bytes())?;
        self.writer.write_all(&[0; 4])?;
        self.writer.write_all(&self.count.to_le_bytes())?;
        self.writer.write_all(&self.count.to_le_bytes())?;
        self.writer.write_all(&size.to_le_bytes())?;
        self.writer.write_all(&offset.to_le_bytes())?;
        self.writer.write_all(&[0; 2])
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Number of entries, and begin and end of the table of contents.
fn directory(source: &Source<'_>) -> Option<(u64, u64, u64)> {
    // The end record is followed by a comment of at most 65,535 bytes, whose length it gives; a record that tells where the
    // 64-bit one is stands before it.
    let length = source.len().min(u64::from(u16::MAX) + 22 + 20);
    let base = source.len() - length;
    let tail = source.get(base, length)?;
    let last = tail.len().checked_sub(22)?;
    let end = (last.saturating_sub(usize::from(u16::MAX))..=last).rev().find(|&at| {
        u32_at(&tail, at) == Some(END) && u16_at(&tail, at + 20).map(usize::from) == Some(tail.len() - at - 22)
    })?;
    if let Some(locator) = end.checked_sub(20).filter(|&at| u32_at(&tail, at) == Some(END_64_LOCATOR)) {
        let at = u64_at(&tail, locator + 8)?;
        let record = source.get(at, 56)?;
        if u32_at(&record, 0)? != END_64 {
            return None;
        }
        return Some((u64_at(&record, 32)?, u64_at(&record, 48)?, at));
    }
    Some((u64::from(u16_at(&tail, end + 10)?), u64::from(u32_at(&tail, end + 16)?), base + end as u64))
}

/// Name and facts of the entry at `at` of the table of contents, and the place of the next one.
fn central_entry(bytes: &[u8], at: usize) -> Option<(&[u8], Entry, usize)> {
    let record = bytes.get(at..)?;
    if u32_at(record, 0)? != CENTRAL_HEADER {
        return None;
    }
    let lengths = [u16_at(record, 28)?, u16_at(record, 30)?, u16_at(record, 32)?].map(usize::from);
    let name_end = 46 + lengths[0];
    let extra_end = name_end + lengths[1];
    let mut entry = Entry {
        flags: u16_at(record, 8)?,
        method: u16_at(record, 10)?,
        crc: u32_at(record, 16)?,
        stored_size: u64::from(u32_at(record, 20)?),
        size: u64::from(u32_at(record, 24)?),
        header: u64::from(u32_at(record, 42)?),
    };
    let mut extra = record.get(name_end..extra_end)?;
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let field = extra.get(4..4 + usize::from(length))?;
        if kind == 1 {
            // 64-bit values follow, in this order, for those of the 32-bit ones that are all ones.
            let mut next = 0;
            for value in [&mut entry.size, &mut entry.stored_size, &mut entry.header] {
                if *value == u64::from(u32::MAX) {
                    *value = u64_at(field, next)?;
                    next += 8;
                }
            }
        }
        extra = &extra[4 + usize::from(length)..];
    }
    Some((&record[46..name_end], entry, at + extra_end + lengths[2]))
}

/// Refuses an entry that is not stored as it is.
fn check_stored(name: &str, entry: &Entry) -> Result<(), String> {
    if entry.flags & 1 != 0 {
        return Err(format!("its entry '{}' is encrypted", shortened(name)));
    }
    if entry.method != 0 || entry.stored_size != entry.size {
        return Err(format!(
            "its entry '{}' is compressed, which PyTorch never does; unpack the archive and pack it again without compression \
             (zip -0)",
            shortened(name)
        ));
    }
    Ok(())
}

/// Refuses an entry of more than `limit` bytes, and one that is packed in another way.
#[cfg(feature = "io")]
fn check_size(name: &str, entry: &Entry, limit: u64) -> Result<(), String> {
    let named = shortened(name);
    if entry.size > limit {
        return Err(format!("its entry '{named}' has {} bytes, and {limit} are read at most", entry.size));
    }
    if !matches!(entry.method, 0 | 8) {
        return Err(format!(
            "its entry '{named}' is packed by method {}; only stored and deflated ones are read",
            entry.method
        ));
    }
    Ok(())
}

/// Where the data of an entry begin.
fn begin_of(source: &Source<'_>, entry: &Entry) -> Option<u64> {
    let header = source.get(entry.header, 30)?;
    if u32_at(&header, 0)? != LOCAL_HEADER {
        return None;
    }
    entry.header.checked_add(30 + u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?))
}

fn local_data<'a>(source: &Source<'a>, entry: &Entry) -> Option<Cow<'a, [u8]>> {
    source.get(begin_of(source, entry)?, entry.stored_size)
}

#[cfg(feature = "models")]
fn data_of<'a>(source: &Source<'a>, entry: &Entry) -> Option<Source<'a>> {
    source.part(begin_of(source, entry)?, entry.stored_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut packer = Packer::new(&mut bytes);
        for (name, data) in entries {
            packer.add(name, data).unwrap();
        }
        packer.finish().unwrap();
        bytes
    }

    #[test]
    fn what_is_packed_comes_out_aligned() {
        let bytes = packed(&[("a/one", b"123456789"), ("a/two", b""), ("\u{e9}", &[7; 100])]);
        let archive = Archive::open(&bytes).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), ["a/one", "a/two", "\u{e9}"]);
        for (name, expected) in [("a/one", &b"123456789"[..]), ("a/two", b""), ("\u{e9}", &[7; 100])] {
            let data = archive.read(name).unwrap().unwrap();
            assert_eq!(&data[..], expected);
            assert_eq!((data.as_ptr() as usize - bytes.as_ptr() as usize) % 64, 0);
        }
        assert!(archive.read("none").unwrap().is_none());
    }

    #[test]
    fn a_changed_entry_is_noticed() {
        let mut bytes = packed(&[("a", b"weights")]);
        let at = bytes.windows(7).position(|window| window == b"weights").unwrap();
        bytes[at] ^= 1;
        assert!(Archive::open(&bytes).unwrap().read("a").unwrap_err().contains("checksum"));
    }

    #[test]
    fn what_pytorch_never_writes_is_refused() {
        let bytes = packed(&[("a", b"weights")]);
        let directory = bytes.len() - 22 - 47;
        let mut compressed = bytes.clone();
        compressed[directory + 10] = 8;
        assert!(Archive::open(&compressed).unwrap().read("a").unwrap_err().contains("zip -0"));
        let mut encrypted = bytes;
        encrypted[directory + 8] |= 1;
        assert!(Archive::open(&encrypted).unwrap().read("a").unwrap_err().contains("encrypted"));
        assert!(Archive::open(&packed(&[("a", b"1"), ("a", b"2")])).err().unwrap().contains("twice"));
    }

    #[cfg(feature = "keras")]
    #[test]
    fn ranges_of_entries_are_read_and_damage_is_noticed_before() {
        let bytes = packed(&[("a", b"123456789"), ("b", b"")]);
        let archive = Archive::open(&bytes).unwrap();
        let content = archive.content("a", 9).unwrap().unwrap();
        assert_eq!((content.len(), &content.get(2, 3).unwrap()[..]), (9, &b"345"[..]));
        assert!(archive.content("none", 9).unwrap().is_none());
        assert!(archive.content("a", 8).err().unwrap().contains("has 9 bytes, and 8 are read at most"));
        assert_eq!(archive.content("b", 0).unwrap().unwrap().len(), 0);
        // The same entries, deflated: a block that is stored (RFC 1951, 3.2.4).
        let block = [&[1, 9, 0, 0xf6, 0xff][..], b"123456789"].concat();
        let mut deflated = packed(&[("a", &block)]);
        let directory = deflated.len() - 22 - 47;
        deflated[directory + 10] = 8;
        deflated[directory + 16..directory + 20].copy_from_slice(&checksum::<ZIP>(0, b"123456789").to_le_bytes());
        deflated[directory + 24] = 9;
        let content = Archive::open(&deflated).unwrap().content("a", 9).unwrap().unwrap();
        assert_eq!(&content.get(2, 3).unwrap()[..], b"345");
        for (bytes, said) in [(&bytes, "checksum"), (&deflated, "cannot be unpacked")] {
            let mut bytes = bytes.clone();
            let at = bytes.windows(5).position(|window| window == b"12345").unwrap();
            bytes[at] ^= 1;
            assert!(Archive::open(&bytes).unwrap().content("a", 9).err().unwrap().contains(said));
        }
    }

    #[cfg(feature = "io")]
    #[test]
    fn regions_of_one_name_are_all_read() {
        let bytes =
            packed(&[("a.roi", b"1"), ("a-1.roi", b"2"), ("a.roi", b"3"), ("b", b"4"), ("a.roi", b"5"), ("b", b"6")]);
        let archive = Archive::open_with_repeated_names(&bytes).unwrap();
        let names = archive.names_in_order();
        assert_eq!(names, ["a.roi", "a-1.roi", "a-2.roi", "b", "a-3.roi", "b-1"]);
        for (name, data) in names.iter().zip(b"123456") {
            assert_eq!(archive.unpack(name, 9).unwrap().unwrap()[..], [*data]);
        }
    }
}
