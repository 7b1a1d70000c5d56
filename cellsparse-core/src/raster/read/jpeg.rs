//! JPEG in: files of their own, and strips and tiles of TIFF.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::source::Source;
use super::{Decoded, Picked, Problem, ReadOptions, buffer, sample_count};
use crate::raster::Image;

pub(super) fn image(source: &Source<'_>, options: &ReadOptions) -> Decoded<Picked> {
    let bytes = source.all()?;
    if !is_complete(&bytes) {
        return Err(Problem::unusable(
            "the JPEG file ends too early; it was cut off while being written or copied: get it again",
        ));
    }
    let decoded = decode(&bytes, true, |height, width, channels| {
        sample_count(height, width, channels, 1, &options.limits)?;
        options.only_one()
    })
    .map_err(|problem| problem.prefixed("the JPEG file"))?;
    let channels = decoded.channels;
    if !matches!(channels, 1 | 3) {
        return Err(Problem::unusable(format!(
            "the JPEG file has {channels} channels; expected grey or RGB: convert it to PNG"
        )));
    }
    let pixels = super::channels_last(decoded.data, decoded.height, decoded.width, channels)?;
    Ok(Picked { image: Image::U8(pixels), transparent: vec![false; channels], picked: false })
}

/// Pixels of one JPEG stream, interleaved.
pub(super) struct Decoded8 {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) data: Vec<u8>,
}

/// Decodes a whole stream. `to_rgb` turns luminance and colour differences (and inks) into RGB; otherwise components stay
/// as they are. `admit` sees height, width and channels before memory is taken for them.
pub(super) fn decode(
    bytes: &[u8],
    to_rgb: bool,
    admit: impl FnOnce(usize, usize, usize) -> Decoded<()>,
) -> Decoded<Decoded8> {
    let limits = DecoderOptions::default().set_strict_mode(false).set_max_width(65_535).set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), limits);
    decoder.decode_headers().map_err(refuse)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| Problem::unusable("has no size"))?;
    let stored = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    let wanted = match stored {
        ColorSpace::YCbCr | ColorSpace::YCCK | ColorSpace::CMYK if to_rgb => ColorSpace::RGB,
        other => other,
    };
    decoder.set_options(limits.jpeg_set_out_colorspace(wanted));
    let channels = wanted.num_components();
    admit(height, width, channels)?;
    let size = decoder.output_buffer_size().filter(|size| Some(*size) == samples(height, width, channels));
    let Some(size) = size else {
        return Err(Problem::unusable("announces sizes that contradict each other; export it again"));
    };
    let mut data = buffer(size)?;
    decoder.decode_into(&mut data).map_err(refuse)?;
    Ok(Decoded8 { height, width, channels, data })
}

fn samples(height: usize, width: usize, channels: usize) -> Option<usize> {
    height.checked_mul(width)?.checked_mul(channels)
}

/// Whether the markers lead from the first to the end-of-image marker. The decoder fills missing parts with grey
/// instead of refusing them, which would train on pixels that nobody took.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2;
    loop {
        let (Some(0xff), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else { return false };
        match marker {
            END_OF_IMAGE => return true,
            0xff => at += 1,
            0x01 | 0xd0..=0xd7 => at += 2,
            _ => {
                let (Some(&high), Some(&low)) = (bytes.get(at + 2), bytes.get(at + 3)) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                if marker == START_OF_SCAN {
                    let Some(next) = next_marker(bytes, at) else { return false };
                    at = next;
                }
            }
        }
    }
}

/// The first marker at or after `from` that is neither a stuffed byte nor a restart marker.
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    let offset = tail.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff))?;
    Some(from + offset)
}

fn refuse(error: DecodeErrors) -> Problem {
    match error {
        DecodeErrors::Unsupported(kind) => {
            Problem::unusable(format!("is of a kind that is not read ({kind:?}); save it as PNG or TIFF"))
        }
        other => Problem::unusable(format!("cannot be decoded ({other}); export it again, best as PNG")),
    }
}
