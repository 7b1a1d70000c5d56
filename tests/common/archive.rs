//! Zip archives as other programs write them.

use std::io::{self, Write};

/// Name and content of an entry.
pub type Entry = (String, Vec<u8>);

/// The entries of an archive that are stored.
pub fn stored_entries(bytes: &[u8]) -> Vec<Entry> {
    let (mut at, mut found) = (0, Vec::new());
    while bytes[at..].starts_with(b"PK\x03\x04") {
        let number = |from: usize, count: usize| {
            bytes[at + from..at + from + count].iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
        };
        assert_eq!(number(8, 2), 0, "an entry that is packed");
        let (size, name, extra) = (number(18, 4), number(26, 2), number(28, 2));
        let begin = at + 30 + name + extra;
        let name = String::from_utf8(bytes[at + 30..at + 30 + name].to_vec()).unwrap();
        found.push((name, bytes[begin..begin + size].to_vec()));
        at = begin + size;
    }
    found
}

/// Writes an archive of entries, stored or deflated: in blocks that are stored (RFC 1951, 3.2.4).
pub fn write_zip(writer: &mut dyn Write, entries: &[Entry], deflated: bool) -> io::Result<()> {
    let (mut at, mut directory) = (0, Vec::new());
    for (name, content) in entries {
        let blocks = content.chunks(0xffff).count().max(1);
        let size = content.len() + if deflated { 5 * blocks } else { 0 };
        let mut common = [20, 0, if deflated { 8_u16 } else { 0 }, 0, 0x21].map(u16::to_le_bytes).concat();
        for field in [checksum(content), size as u32, content.len() as u32, name.len() as u32] {
            common.extend(field.to_le_bytes());
        }
        let head = [&b"PK\x03\x04"[..], &common, name.as_bytes()].concat();
        writer.write_all(&head)?;
        for index in 0..blocks {
            let block = content.chunks(0xffff).nth(index).unwrap_or_default();
            let length = block.len() as u16;
            if deflated {
                writer.write_all(&[u8::from(index + 1 == blocks)])?;
                writer.write_all(&[length.to_le_bytes(), (!length).to_le_bytes()].concat())?;
            }
            writer.write_all(block)?;
        }
        let place = (at as u32).to_le_bytes();
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &place, name.as_bytes()].concat());
        at += head.len() + size;
    }
    let count = (entries.len() as u16).to_le_bytes();
    let sizes = [directory.len() as u32, at as u32].map(u32::to_le_bytes).concat();
    directory.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &sizes, &[0, 0]].concat());
    writer.write_all(&directory)
}

/// The checksum of zip archives.
fn checksum(bytes: &[u8]) -> u32 {
    let of_byte = |index: u32| (0..8).fold(index, |value, _| (value >> 1) ^ (0xedb8_8320 * (value & 1)));
    let table: Vec<u32> = (0..256).map(of_byte).collect();
    !bytes.iter().fold(!0, |sum, &byte| sum >> 8 ^ table[usize::from(sum as u8 ^ byte)])
}
