//! Blosc: a container of blocks that are shuffled, cut in streams and compressed by one of several methods.
//!
//! Source: the description of the format in c-blosc 1.21 (`README_CHUNK_FORMAT.rst`) and of its method BloscLZ, a relative of
//! FastLZ. The containers of c-blosc2 that its first version cannot read are refused.

use super::super::{Decoded, Problem, buffer};
use super::codecs::{exact_zlib, exact_zstd};

/// Bytes of the header.
const HEADER: usize = 16;

/// Elements larger than this, and blocks with fewer elements than this, are compressed as one stream.
const MOST_STREAMS: usize = 16;
const LEAST_ELEMENTS: usize = 128;

/// Bits of the flags.
const BYTE_SHUFFLE: u8 = 1;
const STORED: u8 = 2;
const BIT_SHUFFLE: u8 = 4;
const ONE_STREAM: u8 = 16;

fn damaged(what: &str) -> Problem {
    Problem::unusable(format!("holds Blosc data that is damaged ({what}); get the image again"))
}

/// Decompresses a container that holds `size` bytes.
pub(super) fn decompress(data: &[u8], size: usize) -> Decoded<Vec<u8>> {
    let header = data.get(..HEADER).ok_or_else(|| damaged("it is cut off"))?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let (version, flags, type_size) = (header[0], header[2], usize::from(header[3]).max(1));
    let (bytes, block, stored) = (number(4), number(8), number(12));
    if version > 2 {
        return Err(Problem::unusable(format!(
            "holds Blosc data of the format version {version}; versions up to 2 are read: write it with Blosc 1"
        )));
    }
    if bytes != size {
        return Err(damaged(&format!("it holds {bytes} bytes where {size} are expected")));
    }
    let data = data.get(..stored).ok_or_else(|| damaged("it is cut off"))?;
    if flags & STORED != 0 {
        let plain = data.get(HEADER..HEADER + size).ok_or_else(|| damaged("it is cut off"))?;
        return Ok(plain.to_vec());
    }
    let mut out = buffer(size)?;
    if size == 0 {
        return Ok(out);
    }
    if block == 0 {
        return Err(damaged("its blocks have no bytes"));
    }
    let method = Method::of(flags >> 5)?;
    let mut shuffled = buffer(block.min(size))?;
    for (index, part) in out.chunks_mut(block).enumerate() {
        let at = HEADER + 4 * index;
        let start = data.get(at..at + 4).ok_or_else(|| damaged("it is cut off"))?;
        let start = u32::from_le_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let source = data.get(start..).ok_or_else(|| damaged("a block begins behind its end"))?;
        let is_whole = part.len() == block;
        let split = flags & ONE_STREAM == 0
            && type_size <= MOST_STREAMS
            && part.len() / type_size >= LEAST_ELEMENTS
            && is_whole
            && part.len().is_multiple_of(type_size);
        let streams = if split { type_size } else { 1 };
        if flags & BYTE_SHUFFLE != 0 && type_size > 1 {
            let shuffled = &mut shuffled[..part.len()];
            decompress_block(source, streams, shuffled, method)?;
            unshuffle(shuffled, type_size, part);
        } else if flags & BIT_SHUFFLE != 0 && part.len() >= type_size {
            let shuffled = &mut shuffled[..part.len()];
            decompress_block(source, streams, shuffled, method)?;
            unshuffle_bits(shuffled, type_size, part);
        } else {
            decompress_block(source, streams, part, method)?;
        }
    }
    Ok(out)
}

/// Decompresses the streams of a block one after the other: each has its length before it, and one that is as long as what it
/// holds is not compressed.
fn decompress_block(mut source: &[u8], streams: usize, out: &mut [u8], method: Method) -> Decoded<()> {
    for part in out.chunks_mut(out.len() / streams) {
        let (length, rest) = source.split_first_chunk::<4>().ok_or_else(|| damaged("a block is cut off"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let stream = rest.get(..length).ok_or_else(|| damaged("a block is cut off"))?;
        source = &rest[length..];
        if length == part.len() {
            part.copy_from_slice(stream);
        } else {
            method.decompress(stream, part)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Method {
    BloscLz,
    Lz4,
    Zlib,
    Zstd,
}

impl Method {
    fn of(code: u8) -> Decoded<Self> {
        Ok(match code {
            0 => Self::BloscLz,
            1 => Self::Lz4,
            3 => Self::Zlib,
            4 => Self::Zstd,
            2 => {
                return Err(Problem::unusable(
                    "is compressed by Blosc with Snappy, which is not read; use lz4 or zstd",
                ));
            }
            _ => return Err(damaged(&format!("the method {code} is unknown"))),
        })
    }

    fn decompress(self, stream: &[u8], out: &mut [u8]) -> Decoded<()> {
        match self {
            Self::BloscLz => blosclz(stream, out),
            Self::Lz4 => match lz4_flex::block::decompress_into(stream, out) {
                Ok(written) if written == out.len() => Ok(()),
                Ok(written) => Err(damaged(&format!("{written} bytes where {} are expected", out.len()))),
                Err(error) => Err(damaged(&error.to_string())),
            },
            Self::Zlib => exact_zlib(stream, out),
            Self::Zstd => exact_zstd(stream, out),
        }
    }
}

/// Undoes the shuffling of bytes: first bytes of all elements, then the second ones; a rest is as it was.
fn unshuffle(shuffled: &[u8], type_size: usize, out: &mut [u8]) {
    let elements = out.len() / type_size;
    for (byte, plane) in shuffled[..elements * type_size].chunks(elements.max(1)).enumerate() {
        for (to, value) in out.iter_mut().skip(byte).step_by(type_size).zip(plane) {
            *to = *value;
        }
    }
    out[elements * type_size..].copy_from_slice(&shuffled[elements * type_size..]);
}

/// Undoes the shuffling of bits: the lowest bits of the first bytes of all elements come first. Only a multiple of 8 elements is
/// shuffled.
fn unshuffle_bits(shuffled: &[u8], type_size: usize, out: &mut [u8]) {
    let elements = out.len() / type_size;
    if !elements.is_multiple_of(8) {
        out.copy_from_slice(shuffled);
        return;
    }
    let row = elements / 8;
    for byte in 0..type_size {
        let planes = &shuffled[byte * elements..(byte + 1) * elements];
        for group in 0..row {
            // 8 x 8 bits, a row for each bit: what is wanted is a row for each element.
            let mut bits = [0; 8];
            for (bit, to) in bits.iter_mut().enumerate() {
                *to = planes[bit * row + group];
            }
            for element in 0..8 {
                let value = (0..8).fold(0, |value, bit| value | (bits[bit] >> element & 1) << bit);
                out[(8 * group + element) * type_size + byte] = value;
            }
        }
    }
    out[elements * type_size..].copy_from_slice(&shuffled[elements * type_size..]);
}

/// Farthest match of the short form.
const SHORT_DISTANCE: usize = 8191;

/// BloscLZ: instructions of a byte, below 32 so many literals and one, else a match whose length is in the upper three bits and
/// the bytes that follow, and whose distance is in the lower five bits and one or three bytes more.
fn blosclz(stream: &[u8], out: &mut [u8]) -> Decoded<()> {
    let mut bytes = stream.iter().copied();
    let mut next = || bytes.next().ok_or_else(|| damaged("a stream is cut off"));
    let mut written = 0;
    let mut control = usize::from(next()? & 31);
    loop {
        if control < 32 {
            let room = out.get_mut(written..written + control + 1).ok_or_else(|| damaged("a stream is too long"))?;
            for to in room {
                *to = next()?;
            }
            written += control + 1;
        } else {
            let mut length = (control >> 5) - 1;
            if length == 6 {
                loop {
                    let more = next()?;
                    length = length.saturating_add(usize::from(more));
                    if more != 255 {
                        break;
                    }
                }
            }
            length = length.saturating_add(3);
            let (high, low) = ((control & 31) << 8, usize::from(next()?));
            let distance = if low == 255 && high == 31 << 8 {
                SHORT_DISTANCE + (usize::from(next()?) << 8) + usize::from(next()?) + 1
            } else {
                high + low + 1
            };
            if distance > written || length > out.len() - written {
                return Err(damaged("a match lies outside"));
            }
            // A match may reach into what it writes.
            for at in written..written + length {
                out[at] = out[at - distance];
            }
            written += length;
        }
        match next() {
            Ok(byte) => control = usize::from(byte),
            Err(_) if written == out.len() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_matches() {
        let mut out = [0; 12];
        // Three literals, then nine bytes from three back: length 3 + 6 + 0, distance 2 + 1.
        blosclz(&[2, b'a', b'b', b'c', 7 << 5, 0, 2], &mut out).unwrap();
        assert_eq!(&out, b"abcabcabcabc");
        assert!(blosclz(&[2, b'a', b'b'], &mut out).is_err());
        assert!(blosclz(&[0, b'a', 1 << 5, 1], &mut out).is_err(), "a match before the beginning");
        assert!(blosclz(&[0, b'a', 7 << 5, 255, 255, 0, 0], &mut out).is_err(), "a match behind the end");
    }

    #[test]
    fn bits_come_back() {
        let plain: Vec<u8> = (0..64u8).map(|at| at.wrapping_mul(37) ^ 0x5a).collect();
        let mut shuffled = vec![0u8; 64];
        for element in 0..32 {
            for byte in 0..2 {
                for bit in 0..8 {
                    let value = plain[2 * element + byte] >> bit & 1;
                    shuffled[(8 * byte + bit) * 4 + element / 8] |= value << (element % 8);
                }
            }
        }
        let mut out = vec![0; 64];
        unshuffle_bits(&shuffled, 2, &mut out);
        assert_eq!(out, plain);
        unshuffle(&[1, 3, 5, 2, 4, 6, 9], 2, &mut out[..7]);
        assert_eq!(out[..7], [1, 2, 3, 4, 5, 6, 9]);
    }

    #[test]
    fn headers_are_checked() {
        let header = |version: u8, flags: u8, bytes: u32, block: u32, stored: u32| {
            let mut data = vec![version, 1, flags, 2];
            [bytes, block, stored].iter().for_each(|number| data.extend(number.to_le_bytes()));
            data
        };
        let mut stored = header(2, 2, 4, 4, 20);
        stored.extend([1, 2, 3, 4]);
        assert_eq!(decompress(&stored, 4).unwrap(), [1, 2, 3, 4]);
        for (data, size) in [
            (header(2, 2, 4, 4, 20), 4),
            (stored.clone(), 5),
            (header(5, 2, 4, 4, 16), 4),
            (header(2, 0, 4, 0, 16), 4),
            (header(2, 0, 4, 4, 16), 4),
            (header(2, 2 << 5, 4, 4, 16), 4),
            (vec![2; 15], 4),
        ] {
            assert!(decompress(&data, size).is_err(), "{data:?}");
        }
    }
}
