//! How the bytes of a chunk are stored: codecs of zarr 2 (`compressor`) and zarr 3 (`codecs`), and their undoing.
//!
//! What the bytes of a chunk must be is known from the metadata, so no codec writes more than that.

use std::io::Read;

use serde_json::Value;

use super::super::{Decoded, Problem, buffer};
use super::blosc;
use crate::raster::checksum::{CASTAGNOLI, checksum};

/// A step from bytes to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip,
    Zlib,
    Zstd,
    Blosc,
    /// A block of LZ4 behind its length, as numcodecs writes it.
    Lz4,
    /// A checksum behind the bytes.
    Crc32c,
}

/// What codecs between two others may add to incompressible bytes: one part in so many and so many bytes.
const GROWTH: usize = 64;
const GROWTH_BYTES: usize = 1 << 16;

impl Codec {
    /// By the names of zarr 2 (numcodecs) and zarr 3, with or without `numcodecs.` before it.
    pub(super) fn named(name: &str) -> Decoded<Self> {
        Ok(match name.strip_prefix("numcodecs.").unwrap_or(name) {
            "gzip" => Self::Gzip,
            "zlib" => Self::Zlib,
            "zstd" => Self::Zstd,
            "blosc" => Self::Blosc,
            "lz4" => Self::Lz4,
            "crc32c" => Self::Crc32c,
            other => {
                return Err(Problem::unusable(format!(
                    "is compressed by '{}'; gzip, zlib, zstd, lz4, blosc and crc32c are read: write it with one of them",
                    other.chars().take(40).collect::<String>().escape_debug()
                )));
            }
        })
    }

    /// The compressor of zarr 2; `null` is none.
    pub(super) fn of_version_2(compressor: &Value) -> Decoded<Vec<Self>> {
        if compressor.is_null() {
            return Ok(Vec::new());
        }
        let name = compressor["id"].as_str().ok_or_else(|| Problem::unusable("has a compressor without an id"))?;
        Ok(vec![Self::named(name)?])
    }

    /// Undoes the step. What comes out has `size` bytes where that is known, at most `most` else.
    fn undo(self, data: &[u8], size: Option<usize>, most: usize) -> Decoded<Vec<u8>> {
        if self == Self::Crc32c {
            let (bytes, sum) = data.split_last_chunk::<4>().ok_or_else(|| damaged("checksummed", "it is cut off"))?;
            if checksum::<CASTAGNOLI>(0, bytes) != u32::from_le_bytes(*sum) {
                return Err(damaged("checksummed", "another checksum than that of its bytes"));
            }
            return Ok(bytes.to_vec());
        }
        let Some(size) = size else {
            // Between two steps.
            return match self {
                Self::Gzip => at_most(flate2::read::MultiGzDecoder::new(data), most, "gzip"),
                Self::Zlib => at_most(flate2::read::ZlibDecoder::new(data), most, "zlib"),
                Self::Zstd => at_most(zstd(data)?, most, "zstd"),
                _ => Err(Problem::unusable("is compressed twice, which is not read; write it with one compressor")),
            };
        };
        let mut out = buffer(if self == Self::Blosc { 0 } else { size })?;
        match self {
            Self::Gzip => exact(flate2::read::MultiGzDecoder::new(data), &mut out, "gzip")?,
            Self::Zlib => exact_zlib(data, &mut out)?,
            Self::Zstd => exact_zstd(data, &mut out)?,
            Self::Lz4 => {
                let (length, block) = data.split_first_chunk::<4>().ok_or_else(|| damaged("lz4", "it is cut off"))?;
                if u32::from_le_bytes(*length) as usize != size {
                    return Err(damaged("lz4", &format!("it holds {} bytes", u32::from_le_bytes(*length))));
                }
                let written = lz4_flex::block::decompress_into(block, &mut out);
                if written.map_err(|error| damaged("lz4", &error.to_string()))? != size {
                    return Err(damaged("lz4", "it is cut off"));
                }
            }
            Self::Blosc | Self::Crc32c => out = blosc::decompress(data, size)?,
        }
        Ok(out)
    }
}

/// Most bytes that a chunk of `size` bytes can be stored in.
pub(super) fn most_stored(codecs: &[Codec], size: usize) -> usize {
    let more = codecs.len().saturating_mul(size / GROWTH + GROWTH_BYTES);
    size.saturating_add(more)
}

/// Undoes all steps, of which `codecs` names the first one first; `size` bytes come out.
pub(super) fn decode(codecs: &[Codec], data: Vec<u8>, size: usize) -> Decoded<Vec<u8>> {
    // What is known of the bytes before each step.
    let mut known = vec![Some(size)];
    for codec in codecs {
        let after = match (codec, known.last().copied().flatten()) {
            (Codec::Crc32c, Some(before)) => before.checked_add(4),
            _ => None,
        };
        known.push(after);
    }
    let most = most_stored(codecs, size);
    let mut data = data;
    for (codec, before) in codecs.iter().zip(&known).rev() {
        data = codec.undo(&data, *before, most)?;
    }
    if data.len() == size {
        return Ok(data);
    }
    Err(Problem::unusable(format!(
        "holds {} bytes where {size} are expected; it was not copied whole or is damaged: get the image again",
        data.len()
    )))
}

/// Fills `out` from a stream of zlib, which must hold so much and no more.
pub(super) fn exact_zlib(data: &[u8], out: &mut [u8]) -> Decoded<()> {
    exact(flate2::read::ZlibDecoder::new(data), out, "zlib")
}

/// Fills `out` from a frame of zstd, which must hold so much and no more.
pub(super) fn exact_zstd(data: &[u8], out: &mut [u8]) -> Decoded<()> {
    exact(zstd(data)?, out, "zstd")
}

fn zstd(data: &[u8]) -> Decoded<impl Read> {
    ruzstd::decoding::StreamingDecoder::new(data).map_err(|error| damaged("zstd", &error.to_string()))
}

fn exact(mut decoder: impl Read, out: &mut [u8], method: &str) -> Decoded<()> {
    let size = out.len();
    decoder.read_exact(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(method, "it is cut off, or holds less than a chunk"),
        _ => damaged(method, &error.to_string()),
    })?;
    // Checksums are at the end.
    match decoder.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(damaged(method, &format!("it holds more than {size} bytes"))),
        Err(error) => Err(damaged(method, &error.to_string())),
    }
}

fn at_most(decoder: impl Read, most: usize, method: &str) -> Decoded<Vec<u8>> {
    let mut out = Vec::new();
    let limit = (most as u64).saturating_add(1);
    decoder.take(limit).read_to_end(&mut out).map_err(|error| damaged(method, &error.to_string()))?;
    if out.len() > most {
        return Err(damaged(method, &format!("it holds more than {most} bytes")));
    }
    Ok(out)
}

fn damaged(method: &str, reason: &str) -> Problem {
    Problem::unusable(format!("holds {method} data that cannot be read ({reason}); get the image again"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn steps_are_undone_in_turn_and_lengths_are_exact() {
        let plain: Vec<u8> = (0..2000u32).map(|at| (at * at % 251) as u8).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        let mut data = encoder.finish().unwrap();
        assert_eq!(decode(&[Codec::Gzip], data.clone(), 2000).unwrap(), plain);
        for size in [1999, 2001, 0] {
            assert!(decode(&[Codec::Gzip], data.clone(), size).is_err(), "{size}");
        }
        assert!(decode(&[Codec::Gzip], data[..data.len() - 1].to_vec(), 2000).is_err(), "a cut checksum");
        data.extend(checksum::<CASTAGNOLI>(0, &data).to_le_bytes());
        assert_eq!(decode(&[Codec::Gzip, Codec::Crc32c], data.clone(), 2000).unwrap(), plain);
        data[5] ^= 1;
        assert!(decode(&[Codec::Gzip, Codec::Crc32c], data, 2000).is_err());
        assert!(decode(&[], plain.clone(), 1999).is_err() && decode(&[], plain, 2000).is_ok());
        assert!(Codec::named("bz2").is_err());
    }
}
