//! TIFF in: strips or tiles, uncompressed, deflate or LZW, classic or BigTIFF, one page.

use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{TiffError, TiffUnsupportedError};

use super::{Decoded, Problem, RawLabels, ReadLimits, channels_last, plane, sample_count};
use crate::raster::Image;

/// Integers up to this size are exact in 32-bit floats.
const EXACT_IN_F32: i64 = 1 << 24;

pub(super) fn image(bytes: &[u8], limits: &ReadLimits) -> Decoded<Image> {
    let page = Page::decode(bytes, limits, false)?;
    let (height, width, channels, keep) = (page.height, page.width, page.channels, page.keep);
    let shape = |samples: Vec<f32>| Ok(Image::F32(channels_last(samples, height, width, channels, keep)?));
    match page.samples {
        DecodingResult::U8(samples) => Ok(Image::U8(channels_last(samples, height, width, channels, keep)?)),
        DecodingResult::U16(samples) => Ok(Image::U16(channels_last(samples, height, width, channels, keep)?)),
        DecodingResult::U32(samples) => shape(exact(samples.into_iter().map(i64::from))?),
        DecodingResult::I8(samples) => shape(samples.into_iter().map(f32::from).collect()),
        DecodingResult::I16(samples) => shape(samples.into_iter().map(f32::from).collect()),
        DecodingResult::I32(samples) => shape(exact(samples.into_iter().map(i64::from))?),
        DecodingResult::U64(samples) => {
            shape(exact(samples.into_iter().map(|value| i64::try_from(value).unwrap_or(i64::MAX)))?)
        }
        DecodingResult::I64(samples) => shape(exact(samples.into_iter())?),
        DecodingResult::F16(samples) => shape(samples.into_iter().map(|value| value.to_f32()).collect()),
        DecodingResult::F32(samples) => shape(samples),
        DecodingResult::F64(samples) => shape(samples.into_iter().map(|value| value as f32).collect()),
    }
}

pub(super) fn labels(bytes: &[u8], limits: &ReadLimits) -> Decoded<RawLabels> {
    let page = Page::decode(bytes, limits, true)?;
    let (height, width, stride) = (page.height, page.width, page.channels);
    match page.samples {
        DecodingResult::U8(v) => unsigned(v.into_iter().map(u64::from), height, width, stride),
        DecodingResult::U16(v) => unsigned(v.into_iter().map(u64::from), height, width, stride),
        DecodingResult::U32(v) => unsigned(v.into_iter().map(u64::from), height, width, stride),
        DecodingResult::U64(v) => unsigned(v.into_iter(), height, width, stride),
        DecodingResult::I8(v) => signed(v.into_iter().map(i64::from), height, width, stride),
        DecodingResult::I16(v) => signed(v.into_iter().map(i64::from), height, width, stride),
        DecodingResult::I32(v) => signed(v.into_iter().map(i64::from), height, width, stride),
        DecodingResult::I64(v) => signed(v.into_iter(), height, width, stride),
        DecodingResult::F16(v) => whole(v.into_iter().map(|value| f64::from(value.to_f32())), height, width, stride),
        DecodingResult::F32(v) => whole(v.into_iter().map(f64::from), height, width, stride),
        DecodingResult::F64(v) => whole(v.into_iter(), height, width, stride),
    }
}

fn exact(samples: impl Iterator<Item = i64>) -> Decoded<Vec<f32>> {
    samples
        .map(|value| {
            if (-EXACT_IN_F32..=EXACT_IN_F32).contains(&value) {
                Ok(value as f32)
            } else {
                Err(Problem::unusable(format!(
                    "the TIFF has samples as large as {value}, which 32-bit floats cannot hold exactly (up to \
                     {EXACT_IN_F32}); convert it to 16-bit integers or 32-bit floats"
                )))
            }
        })
        .collect()
}

fn unsigned(values: impl Iterator<Item = u64>, height: usize, width: usize, stride: usize) -> Decoded<RawLabels> {
    let narrow = |value: u64| {
        u32::try_from(value).map_err(|_| Problem::unusable(format!("the label {value} is too large; renumber from 1")))
    };
    let values: Vec<u32> = values.step_by(stride).map(narrow).collect::<Decoded<_>>()?;
    Ok(RawLabels::Unsigned(plane(values, height, width)?))
}

fn signed(values: impl Iterator<Item = i64>, height: usize, width: usize, stride: usize) -> Decoded<RawLabels> {
    let narrow = |value: i64| {
        i32::try_from(value).map_err(|_| Problem::unusable(format!("the label {value} is too large; renumber from 1")))
    };
    let values: Vec<i32> = values.step_by(stride).map(narrow).collect::<Decoded<_>>()?;
    Ok(RawLabels::Signed(plane(values, height, width)?))
}

/// ImageJ and others keep label images as 32-bit floats; they are labels when every value is whole.
fn whole(values: impl Iterator<Item = f64>, height: usize, width: usize, stride: usize) -> Decoded<RawLabels> {
    let round = |value: f64| {
        if value.fract() == 0.0 && value.abs() <= EXACT_IN_F32 as f64 {
            Ok(value as i32)
        } else {
            Err(Problem::unusable(format!(
                "the value {value} is no label; expected whole numbers: is this an image or a probability map?"
            )))
        }
    };
    let values: Vec<i32> = values.step_by(stride).map(round).collect::<Decoded<_>>()?;
    if values.iter().any(|&value| value < 0) {
        return Ok(RawLabels::Signed(plane(values, height, width)?));
    }
    Ok(RawLabels::Unsigned(plane(values.into_iter().map(|value| value as u32).collect(), height, width)?))
}

/// The only page of a TIFF, samples interleaved.
struct Page {
    samples: DecodingResult,
    height: usize,
    width: usize,
    /// Channels in `samples`.
    channels: usize,
    /// The first so many of them are not transparency.
    keep: usize,
}

impl Page {
    fn decode(bytes: &[u8], limits: &ReadLimits, for_labels: bool) -> Decoded<Self> {
        refuse_stack(bytes, limits)?;
        let mut decoder = open(bytes, limits)?;
        let (width, height) = decoder.dimensions().map_err(refuse)?;
        let (width, height) = (width as usize, height as usize);
        let color = decoder.colortype().map_err(refuse)?;
        let alpha = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
        let alpha = alpha.is_some_and(|kinds| matches!(kinds.first(), Some(1 | 2)));
        let (channels, keep, depth) = layout(color, alpha, for_labels)?;
        let sample_bytes = usize::from(depth) / 8;
        let count =
            sample_count(height, width, channels, if for_labels { sample_bytes.max(4) } else { sample_bytes }, limits)?;
        refuse_cut_off(&mut decoder, bytes.len())?;
        let mut samples = DecodingResult::U8(Vec::new());
        let stored = decoder.read_image_to_buffer(&mut samples).map_err(refuse)?;
        if stored.planes > 1 {
            samples = interleave(samples, stored.planes);
        }
        if len(&samples) != count {
            return Err(Problem::unusable(format!(
                "the TIFF has {} samples where its header announces {count}; save it as plain grey or RGB",
                len(&samples)
            )));
        }
        Ok(Self { samples, height, width, channels, keep })
    }
}

/// Channels stored, channels kept, bits per sample.
fn layout(color: ColorType, alpha: bool, for_labels: bool) -> Decoded<(usize, usize, u8)> {
    let (channels, keep, depth) = match color {
        ColorType::Gray(depth) => (1, 1, depth),
        ColorType::GrayA(depth) => (2, 1, depth),
        ColorType::Multiband { bit_depth, num_samples } => {
            let channels = usize::from(num_samples);
            (channels, if alpha && channels > 1 { channels - 1 } else { channels }, bit_depth)
        }
        ColorType::Palette(depth) if for_labels => (1, 1, depth),
        ColorType::RGB(depth) => (3, 3, depth),
        ColorType::RGBA(depth) => (4, 3, depth),
        other => {
            return Err(Problem::unusable(format!(
                "the TIFF has pixels of type {other:?}; expected grey or RGB: convert it first"
            )));
        }
    };
    if !matches!(depth, 8 | 16 | 32 | 64) {
        return Err(Problem::unusable(format!("the TIFF has {depth} bits per sample; expected 8, 16, 32 or 64")));
    }
    if for_labels && keep > 1 {
        return Err(Problem::unusable(format!(
            "this TIFF has {keep} channels; a label file has one number per pixel: save it as one grey channel"
        )));
    }
    Ok((channels, keep, depth))
}

fn open<'a>(bytes: &'a [u8], limits: &ReadLimits) -> Decoded<Decoder<Cursor<&'a [u8]>>> {
    let mut own = Limits::default();
    own.decoding_buffer_size = limits.decoded_bytes;
    own.intermediate_buffer_size = limits.decoded_bytes;
    own.ifd_value_size = 16 << 20;
    Ok(Decoder::new(Cursor::new(bytes)).map_err(refuse)?.with_limits(own))
}

/// Refuses more than one page. Reduced copies of the first page (thumbnails, pyramid levels) do not count.
fn refuse_stack(bytes: &[u8], limits: &ReadLimits) -> Decoded<()> {
    const MOST: usize = 100_000;
    let mut decoder = open(bytes, limits)?;
    let mut pages = 1;
    while decoder.more_images() && pages < MOST {
        decoder.next_image().map_err(refuse)?;
        let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten().unwrap_or(0);
        if kind & 1 == 0 {
            pages += 1;
        }
    }
    if pages == 1 {
        return Ok(());
    }
    Err(Problem::unusable(format!(
        "the TIFF is a stack of {pages} pages (planes, time points or channels) and one image was expected; save the \
         pages as files of their own, channels as one RGB image"
    )))
}

/// Refuses a file that is shorter than its strips or tiles; a compressed one could otherwise decode without its end.
fn refuse_cut_off(decoder: &mut Decoder<Cursor<&[u8]>>, file_len: usize) -> Decoded<()> {
    for (offsets, sizes) in [(Tag::StripOffsets, Tag::StripByteCounts), (Tag::TileOffsets, Tag::TileByteCounts)] {
        let offsets = decoder.find_tag_unsigned_vec::<u64>(offsets).map_err(refuse)?.unwrap_or_default();
        let sizes = decoder.find_tag_unsigned_vec::<u64>(sizes).map_err(refuse)?.unwrap_or_default();
        let end = offsets.iter().zip(&sizes).map(|(&offset, &size)| offset.saturating_add(size)).max().unwrap_or(0);
        if end > file_len as u64 {
            return Err(Problem::unusable(format!(
                "the TIFF file ends too early ({file_len} bytes, its pixels reach to {end}); it was cut off while \
                 being written or copied: get it again"
            )));
        }
    }
    Ok(())
}

fn len(samples: &DecodingResult) -> usize {
    match samples {
        DecodingResult::U8(v) => v.len(),
        DecodingResult::U16(v) => v.len(),
        DecodingResult::U32(v) => v.len(),
        DecodingResult::U64(v) => v.len(),
        DecodingResult::F16(v) => v.len(),
        DecodingResult::F32(v) => v.len(),
        DecodingResult::F64(v) => v.len(),
        DecodingResult::I8(v) => v.len(),
        DecodingResult::I16(v) => v.len(),
        DecodingResult::I32(v) => v.len(),
        DecodingResult::I64(v) => v.len(),
    }
}

/// Planes one after the other to interleaved samples.
fn interleave(samples: DecodingResult, planes: usize) -> DecodingResult {
    fn mix<T: Copy>(samples: &[T], planes: usize) -> Vec<T> {
        let size = samples.len() / planes.max(1);
        (0..size).flat_map(|at| (0..planes).map(move |plane| samples[plane * size + at])).collect()
    }
    match samples {
        DecodingResult::U8(v) => DecodingResult::U8(mix(&v, planes)),
        DecodingResult::U16(v) => DecodingResult::U16(mix(&v, planes)),
        DecodingResult::U32(v) => DecodingResult::U32(mix(&v, planes)),
        DecodingResult::U64(v) => DecodingResult::U64(mix(&v, planes)),
        DecodingResult::F16(v) => DecodingResult::F16(mix(&v, planes)),
        DecodingResult::F32(v) => DecodingResult::F32(mix(&v, planes)),
        DecodingResult::F64(v) => DecodingResult::F64(mix(&v, planes)),
        DecodingResult::I8(v) => DecodingResult::I8(mix(&v, planes)),
        DecodingResult::I16(v) => DecodingResult::I16(mix(&v, planes)),
        DecodingResult::I32(v) => DecodingResult::I32(mix(&v, planes)),
        DecodingResult::I64(v) => DecodingResult::I64(mix(&v, planes)),
    }
}

fn refuse(error: TiffError) -> Problem {
    match error {
        TiffError::IoError(_) => Problem::unusable(
            "the TIFF file ends too early or points outside itself; it was cut off or damaged: get it again",
        ),
        TiffError::LimitsExceeded => Problem::Limit("the TIFF needs more memory than the limit".into()),
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedCompressionMethod(method)) => Problem::unusable(
            format!("the TIFF is compressed with {method:?}; save it uncompressed, or with LZW or deflate"),
        ),
        TiffError::UnsupportedError(kind) => {
            Problem::unusable(format!("this kind of TIFF is not read ({kind}); save it as plain grey or RGB"))
        }
        other => Problem::unusable(format!("the TIFF file is damaged ({other}); export it again")),
    }
}
