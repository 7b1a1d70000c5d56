//! From stored words to intensities or labels.

use half::f16;

use super::super::rounding::{EXACT_IN_F32, Largest};
use super::super::source::Source;
use super::super::{Decoded, PATIENCE, Problem, RawLabels, ReadLimits, channels_last, gathered, plane, sample_count};
use super::chunks::Words;
use super::page::{Color, Kind, Page};
use crate::raster::Image;

/// What else decides how numbers become intensities.
pub(super) struct Context {
    /// Written by ImageJ or in its manner: a colour table is for display only.
    pub(super) imagej: bool,
    /// Written by tifffile, which tags masks of one bit as "0 is white" and means 1 by 1.
    pub(super) tifffile: bool,
    /// 16-bit numbers are 32,768 too large.
    pub(super) signed_16: bool,
    /// Red, then green, then blue of every index.
    pub(super) color_map: Option<Vec<u64>>,
    /// The numbers are wanted as they are stored, as those of labels are.
    pub(super) stored: bool,
    /// Of the samples that became floats so far.
    pub(super) largest: Largest,
}

/// An image of `channels` channels from interleaved words.
pub(super) fn image(
    words: Words,
    page: &Page,
    channels: usize,
    context: &Context,
    limits: &ReadLimits,
    notes: &mut Vec<String>,
) -> Decoded<Image> {
    let (height, width) = (page.height, page.width);
    if page.color == Color::Palette
        && !context.stored
        && let Some(map) = context.color_map.as_deref()
        && let Some(colors) = resolve(map, page.bits, context.imagej)
    {
        notes.push("the colour table was applied".into());
        let channels = if colors.iter().all(|[r, g, b]| r == g && g == b) { 1 } else { 3 };
        sample_count(height, width, channels, 1, limits)?;
        let color = |index: usize| colors.get(index).copied().unwrap_or_default().into_iter().take(channels);
        let samples = match words {
            Words::W8(indices) => indices.into_iter().flat_map(|index| color(usize::from(index))).collect(),
            Words::W16(indices) => indices.into_iter().flat_map(|index| color(usize::from(index))).collect(),
            Words::W32(_) | Words::W64(_) => Vec::new(),
        };
        return Ok(Image::U8(channels_last(samples, height, width, channels)?));
    }
    let inverted = page.color == Color::MinIsWhite && !context.stored && !(page.bits == 1 && context.tifffile);
    if inverted {
        notes.push("0 means white in the TIFF; intensities were turned around, so that bright is high".into());
    }
    let shape = |samples: Vec<f32>| Ok(Image::F32(channels_last(samples, height, width, channels)?));
    let mask = u64::MAX >> (64 - page.bits);
    match (page.kind, words) {
        (Kind::Unsigned, Words::W8(mut samples)) => {
            if inverted {
                samples.iter_mut().for_each(|value| *value = mask as u8 - *value);
            }
            Ok(Image::U8(channels_last(samples, height, width, channels)?))
        }
        (Kind::Unsigned, Words::W16(samples)) if context.signed_16 => {
            let value = |value: u16| f32::from(value) - 32_768.0;
            shape(
                samples.into_iter().map(|stored| if inverted { -1.0 - value(stored) } else { value(stored) }).collect(),
            )
        }
        (Kind::Unsigned, Words::W16(mut samples)) => {
            if inverted {
                samples.iter_mut().for_each(|value| *value = mask as u16 - *value);
            }
            Ok(Image::U16(channels_last(samples, height, width, channels)?))
        }
        (Kind::Unsigned, words) => {
            let values = words.map(|value| Ok(if inverted { mask - value } else { value }))?;
            context.largest.see(values.iter().copied().max().unwrap_or(0));
            shape(values.into_iter().map(|value| value as f32).collect())
        }
        (Kind::Signed, words) => {
            let values = words.map(|value| {
                let value = signed(value, page.bits);
                Ok(if inverted { -1 - value } else { value })
            })?;
            context.largest.see(values.iter().map(|value| value.unsigned_abs()).max().unwrap_or(0));
            shape(values.into_iter().map(|value| value as f32).collect())
        }
        (Kind::Float, words) => shape(words.map(|value| {
            let value = float(value, page.bits);
            Ok((if inverted { 1.0 - value } else { value }) as f32)
        })?),
    }
}

/// The numbers as they are stored, whatever is black or white and whatever colours they are shown in.
pub(super) fn labels(words: Words, page: &Page, signed_16: bool, source: &Source<'_>) -> Decoded<RawLabels> {
    let (height, width) = (page.height, page.width);
    let too_large = |value: &dyn std::fmt::Display| {
        Problem::unusable(format!("the label {value} is too large; renumber the labels from 1"))
    };
    match page.kind {
        Kind::Unsigned if signed_16 => {
            let values = words.until(source, |value| Ok(value as i32 - 32_768))?;
            Ok(RawLabels::Signed(plane(values, height, width)?))
        }
        Kind::Unsigned => {
            let values = words.until(source, |value| u32::try_from(value).map_err(|_| too_large(&value)))?;
            Ok(RawLabels::Unsigned(plane(values, height, width)?))
        }
        Kind::Signed => {
            let values = words.until(source, |value| {
                let value = signed(value, page.bits);
                i32::try_from(value).map_err(|_| too_large(&value))
            })?;
            Ok(RawLabels::Signed(plane(values, height, width)?))
        }
        Kind::Float => whole(&words.until(source, |value| Ok(float(value, page.bits)))?, height, width),
    }
}

/// ImageJ and others keep label images as 32-bit floats; they are labels when every value is whole.
fn whole(values: &[f64], height: usize, width: usize) -> Decoded<RawLabels> {
    if let Some(value) = values.iter().find(|value| value.fract() != 0.0 || value.abs() > EXACT_IN_F32 as f64) {
        return Err(Problem::unusable(format!(
            "the value {value} is no label; expected whole numbers: is this an image or a probability map?"
        )));
    }
    if values.iter().any(|&value| value < 0.0) {
        let numbers = gathered(values.len(), values.iter().map(|&value| value as i32))?;
        return Ok(RawLabels::Signed(plane(numbers, height, width)?));
    }
    let numbers = gathered(values.len(), values.iter().map(|&value| value as u32))?;
    Ok(RawLabels::Unsigned(plane(numbers, height, width)?))
}

impl Words {
    fn map<T>(self, convert: impl Fn(u64) -> Decoded<T>) -> Decoded<Vec<T>> {
        self.with(convert, || Ok(()))
    }

    /// As [`map`](Self::map), until the reading is to stop.
    fn until<T>(self, source: &Source<'_>, convert: impl Fn(u64) -> Decoded<T>) -> Decoded<Vec<T>> {
        self.with(convert, || source.check())
    }

    fn with<T>(self, convert: impl Fn(u64) -> Decoded<T>, check: impl Fn() -> Decoded<()>) -> Decoded<Vec<T>> {
        fn all<W: Copy, T>(
            words: &[W],
            convert: impl Fn(W) -> Decoded<T>,
            check: impl Fn() -> Decoded<()>,
        ) -> Decoded<Vec<T>> {
            let mut values = gathered(words.len(), [])?;
            for part in words.chunks(PATIENCE) {
                check()?;
                for word in part {
                    values.push(convert(*word)?);
                }
            }
            Ok(values)
        }
        match self {
            Words::W8(words) => all(&words, |word| convert(u64::from(word)), check),
            Words::W16(words) => all(&words, |word| convert(u64::from(word)), check),
            Words::W32(words) => all(&words, |word| convert(u64::from(word)), check),
            Words::W64(words) => all(&words, convert, check),
        }
    }
}

fn signed(value: u64, bits: u32) -> i64 {
    let shift = 64 - bits;
    (value << shift) as i64 >> shift
}

fn float(value: u64, bits: u32) -> f64 {
    match bits {
        16 => f16::from_bits(value as u16).to_f64(),
        24 => float_24(value as u32),
        32 => f64::from(f32::from_bits(value as u32)),
        _ => f64::from_bits(value),
    }
}

/// Adobe's 24-bit floats: 1 bit sign, 7 bits exponent (bias 63), 16 bits fraction.
fn float_24(value: u32) -> f64 {
    let sign = if value >> 23 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (value >> 16 & 0x7f, f64::from(value & 0xffff) / 65_536.0);
    match exponent {
        0 => sign * fraction * 2f64.powi(-62),
        0x7f if fraction == 0.0 => sign * f64::INFINITY,
        0x7f => f64::NAN,
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent as i32 - 63),
    }
}

/// The colours of indices, 8 bit each; `None` where the index itself is the intensity: in files of ImageJ, whose tables are
/// for display, and for ramps of one colour.
fn resolve(map: &[u64], bits: u32, imagej: bool) -> Option<Vec<[u8; 3]>> {
    let entries = 1usize << bits;
    if imagej || map.len() < 3 * entries {
        return None;
    }
    // The table has 16-bit numbers; some writers fill it with 8-bit ones.
    let shift = if map.iter().all(|value| *value < 256) { 0 } else { 8 };
    let colors: Vec<[u8; 3]> =
        (0..entries).map(|at| [0, 1, 2].map(|band| (map[band * entries + at] >> shift).min(255) as u8)).collect();
    (!is_ramp(&colors)).then_some(colors)
}

/// Whether colours go evenly from black to one hue, so that the index is the intensity.
fn is_ramp(colors: &[[u8; 3]]) -> bool {
    let last = colors.last().copied().unwrap_or_default();
    let steps = colors.len().saturating_sub(1).max(1);
    last != [0; 3]
        && colors.iter().enumerate().all(|(at, color)| {
            (0..3).all(|band| {
                let expected = usize::from(last[band]) * at / steps;
                usize::from(color[band]).abs_diff(expected) <= 1
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_unusual_widths() {
        assert_eq!(signed(0xfff, 12), -1);
        assert_eq!(signed(0x7ff, 12), 2047);
        assert_eq!(signed(u64::MAX, 64), -1);
        assert_eq!(float(0x3c00, 16), 1.0);
        assert_eq!(float(0x3f_8000, 24), 1.5);
        assert_eq!(float(0xbf_0000, 24), -1.0);
        assert!(float(0x7f_0001, 24).is_nan());
    }

    #[test]
    fn ramps_and_colours_are_told_apart() {
        let map = |color: fn(u64) -> [u64; 3]| -> Vec<u64> {
            let colors: Vec<[u64; 3]> = (0..256).map(color).collect();
            (0..3).flat_map(|band| colors.iter().map(move |color| color[band] * 257).collect::<Vec<_>>()).collect()
        };
        assert_eq!(resolve(&map(|at| [0, at, 0]), 8, false), None, "green");
        assert_eq!(resolve(&map(|at| [at, at, at]), 8, false), None, "grey");
        assert_eq!(resolve(&map(|at| [at, 255 - at, 7]), 8, true), None, "ImageJ");
        let colors = resolve(&map(|at| [at, 255 - at, 7]), 8, false).unwrap();
        assert_eq!((colors[0], colors[200]), ([0, 255, 7], [200, 55, 7]));
        let inverted = resolve(&map(|at| [255 - at; 3]), 8, false).unwrap();
        assert_eq!(inverted[255], [0; 3]);
        assert_eq!(resolve(&[0; 10], 8, false), None, "a short table");
    }
}
