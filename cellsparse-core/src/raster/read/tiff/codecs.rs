//! Decompression of one strip or tile.

use std::io::Read;

use weezl::{BitOrder, LzwStatus, decode};

use super::super::source::Source;
use super::super::{Decoded, Problem, buffer};
use super::ccitt;
use super::page::{Compression, Page};

/// Bytes that are decompressed before it is asked again whether to stop.
const PART: usize = 1 << 22;

/// Decompresses `data` to at most `size` bytes; a strip or tile of `rows` rows. JPEG is not done here.
///
/// Fewer bytes come back when `data` ends early.
pub(super) fn decompress(source: &Source<'_>, page: &Page, data: &[u8], rows: usize, size: usize) -> Decoded<Vec<u8>> {
    match page.compression {
        Compression::Lzw => lzw(source, data, size),
        Compression::Deflate => stream(source, flate2::read::ZlibDecoder::new(data), size, "deflate"),
        Compression::Zstd => zstd(source, data, size),
        Compression::PackBits => pack_bits(data, size),
        Compression::CcittRows => ccitt::rows(data, page.chunk_width, rows, size),
        Compression::CcittFax3 { two_dimensional } => ccitt::fax3(data, page.chunk_width, rows, size, two_dimensional),
        Compression::CcittFax4 => ccitt::fax4(data, page.chunk_width, rows, size),
        Compression::None | Compression::Jpeg => {
            let mut bytes = data.to_vec();
            bytes.truncate(size);
            Ok(bytes)
        }
    }
}

fn damaged(method: &str, reason: impl std::fmt::Display) -> Problem {
    Problem::unusable(format!("a {method} part of the TIFF cannot be decompressed ({reason}); get the file again"))
}

/// TIFF's LZW, and that of writers before version 5.0 of the specification, which turn bits and code lengths around.
/// Every stream starts with the code 256: in nine bits from the highest down now, from the lowest up then.
fn lzw(source: &Source<'_>, data: &[u8], size: usize) -> Decoded<Vec<u8>> {
    let old = matches!(data, [0, second, ..] if second & 1 == 1);
    let mut decoder = if old {
        decode::Decoder::new(BitOrder::Lsb, 8)
    } else {
        decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8)
    };
    let mut out = buffer(size)?;
    let (mut read, mut written) = (0, 0);
    while written < size {
        source.check()?;
        let end = size.min(written + PART);
        let step = decoder.decode_bytes(&data[read..], &mut out[written..end]);
        read += step.consumed_in;
        written += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Ok(_) => break,
            Err(error) => return Err(damaged("LZW", error)),
        }
    }
    out.truncate(written);
    Ok(out)
}

fn zstd(source: &Source<'_>, data: &[u8], size: usize) -> Decoded<Vec<u8>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(data).map_err(|error| damaged("zstd", error))?;
    stream(source, decoder, size, "zstd")
}

/// Reads up to `size` bytes; the checksum behind them is not asked for, as strips are often padded.
fn stream(source: &Source<'_>, mut decoder: impl Read, size: usize, method: &str) -> Decoded<Vec<u8>> {
    let mut out = buffer(size)?;
    let mut written = 0;
    while written < size {
        source.check()?;
        let end = size.min(written + PART);
        match decoder.read(&mut out[written..end]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(damaged(method, error)),
        }
    }
    out.truncate(written);
    Ok(out)
}

/// PackBits (TIFF 6.0, section 9): a signed count, then one byte to repeat or so many to copy.
fn pack_bits(data: &[u8], size: usize) -> Decoded<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(size).map_err(|_| Problem::Limit(format!("not enough free memory for {size} bytes")))?;
    let mut rest = data;
    while let Some((&count, tail)) = rest.split_first()
        && out.len() < size
    {
        let room = size - out.len();
        if count < 128 {
            let run = tail.len().min(usize::from(count) + 1);
            out.extend_from_slice(&tail[..run.min(room)]);
            rest = &tail[run..];
        } else if count > 128 {
            let Some((&value, tail)) = tail.split_first() else { break };
            out.resize(out.len() + room.min(257 - usize::from(count)), value);
            rest = tail;
        } else {
            rest = tail;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_bits_repeats_and_copies() {
        // The example of the specification.
        let packed = [0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7, 0xaa];
        let plain = [
            0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22, 0xaa, 0xaa, 0xaa, 0xaa,
            0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
        ];
        assert_eq!(pack_bits(&packed, plain.len()).unwrap(), plain);
        assert_eq!(pack_bits(&packed, 5).unwrap(), plain[..5]);
        assert_eq!(pack_bits(&[0x7f, 1, 2], 9).unwrap(), [1, 2]);
        assert!(pack_bits(&[0x80, 0x80, 0xff], 9).unwrap().is_empty());
    }

    #[test]
    fn both_kinds_of_lzw() {
        let plain: Vec<u8> = (0..5000u32).map(|at| (at * at / 7 % 251) as u8).collect();
        let new = weezl::encode::Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(&plain).unwrap();
        let old = weezl::encode::Encoder::new(BitOrder::Lsb, 8).encode(&plain).unwrap();
        assert_eq!(old[..2], [0, 1 | old[1] & 0xfe]);
        for packed in [new, old] {
            let lzw = |packed: &[u8], size| lzw(&Source::of(packed), packed, size);
            assert_eq!(lzw(&packed, plain.len()).unwrap(), plain);
            assert_eq!(lzw(&packed, 100).unwrap(), plain[..100]);
            assert!(lzw(&packed[..packed.len() / 2], plain.len()).is_ok_and(|part| part.len() < plain.len()));
        }
    }
}
