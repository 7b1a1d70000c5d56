//! JPEG in.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::{ColorType, ImageDecoder};

use super::{Decoded, Problem, ReadLimits, buffer, channels_last, sample_count};
use crate::raster::Image;

pub(super) fn image(bytes: &[u8], limits: &ReadLimits) -> Decoded<Image> {
    if !is_complete(bytes) {
        return Err(Problem::unusable(
            "the JPEG file ends too early; it was cut off while being written or copied: get it again",
        ));
    }
    let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let channels = match decoder.color_type() {
        ColorType::L8 => 1,
        ColorType::Rgb8 => 3,
        other => {
            return Err(Problem::unusable(format!(
                "the JPEG file has pixels of type {other:?}; expected 8-bit grey or RGB: convert it to PNG"
            )));
        }
    };
    let size = sample_count(height, width, channels, 1, limits)?;
    if decoder.total_bytes() != size as u64 {
        return Err(Problem::unusable("the JPEG file announces sizes that contradict each other; export it again"));
    }
    let mut data = buffer(size)?;
    decoder.read_image(&mut data).map_err(refuse)?;
    Ok(Image::U8(channels_last(data, height, width, channels, channels)?))
}

/// Whether the markers lead from the first to the end-of-image marker. The decoder fills missing parts with grey
/// instead of refusing them, which would train on pixels that nobody took.
fn is_complete(bytes: &[u8]) -> bool {
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

fn refuse(error: image::ImageError) -> Problem {
    Problem::unusable(format!("the JPEG file cannot be decoded ({error}); export it again, best as PNG"))
}
