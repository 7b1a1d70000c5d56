//! TIFF in: classic and BigTIFF, strips and tiles, one page or a stack.
//!
//! Pages are read by this module, strips and tiles are decompressed by the crates of each method. The `tiff` crate, which
//! writes our files, hides what matters here: extra samples, stored label numbers and the stacks of ImageJ and OME.

mod ccitt;
mod chunks;
mod codecs;
mod directory;
mod interpret;
mod ome;
mod page;
mod physical;
mod pyramid;
mod regions;
mod stack;

use self::chunks::{Tables, Words, Ycbcr};
use self::directory::{Directory, Tiff, tags};
use self::page::{Color, Kind, Page};
pub(super) use self::physical::micrometres;
pub(super) use self::regions::TiffRegions;
use self::stack::{Slot, Stack, imagej_value};
use super::options::choose;
use super::rounding::Largest;
use super::source::Source;
use super::{Decoded, ImageHeader, Picked, Problem, RawLabels, ReadLimits, ReadOptions, sample_count};
use crate::error::counted;

/// An image with its size in micrometres per pixel and remarks.
pub(super) fn image(source: &Source<'_>, options: &ReadOptions) -> Decoded<(Picked, Option<[f64; 2]>, Vec<String>)> {
    let tiff = Tiff::open(source)?;
    refuse_raw(&tiff)?;
    let stack = Stack::find(&tiff, &options.limits)?;
    let chosen = Chosen::find(&tiff, &stack, options, false)?;
    let first = &chosen.pages[0].page;
    let every: Vec<usize> = (0..chosen.pages.len() * first.samples).collect();
    // A colour table may make three channels of one, so a choice waits until then.
    let palette = first.color == Color::Palette;
    let wanted = match &options.channels {
        Some(channels) if !palette && !chosen.picked => super::zero_based(channels, every.len())?,
        _ => every,
    };
    let words = chosen.decode(&tiff, &wanted, options, first.bits.div_ceil(8) as usize)?;
    let directory = &tiff.directories[chosen.pages[0].slot.directory];
    let context = context(&tiff, directory, first)?;
    let mut notes = stack.notes(false);
    let image = interpret::image(words, first, wanted.len(), &context, &options.limits, &mut notes)?;
    notes.extend(context.largest.note());
    let picked_now = chosen.picked || (options.channels.is_some() && !palette);
    let transparent = if picked_now || palette {
        vec![false; image.channels()]
    } else {
        wanted.iter().map(|channel| first.transparent[channel % first.samples]).collect()
    };
    let pixel_size = pixel_size(&tiff, &stack, directory)?;
    Ok((Picked { image, transparent, picked: picked_now }, pixel_size, notes))
}

/// Planes, time points and pixel size; pages count as planes when the file does not tell what they are.
pub(super) fn header(source: &Source<'_>, limits: &ReadLimits) -> Decoded<ImageHeader> {
    let tiff = Tiff::open(source)?;
    let stack = Stack::find(&tiff, limits)?;
    let pages = if stack.told { 1 } else { stack.channels };
    let first = stack.slots.iter().flatten().next().and_then(|slot| tiff.directories.get(slot.directory));
    let pixel_size = match first {
        Some(directory) => pixel_size(&tiff, &stack, directory)?,
        None => stack.pixel_size,
    };
    Ok(ImageHeader { planes: stack.planes.saturating_mul(pages), frames: stack.frames, pixel_size })
}

/// Micrometres per pixel `[y, x]` of a page, if they are told.
fn pixel_size(tiff: &Tiff<'_>, stack: &Stack, directory: &Directory) -> Decoded<Option<[f64; 2]>> {
    if stack.pixel_size.is_some() {
        return Ok(stack.pixel_size);
    }
    let description = tiff.text(directory, tags::IMAGE_DESCRIPTION)?;
    let imagej = description.starts_with("ImageJ=");
    let unit = imagej.then(|| imagej_value(&description, "unit")).flatten();
    // Without its unit, ImageJ's resolution says nothing.
    if imagej && unit.is_none() { Ok(None) } else { physical::from_resolution(tiff, directory, unit) }
}

/// The stored numbers of a label image.
pub(super) fn labels(source: &Source<'_>, options: &ReadOptions) -> Decoded<RawLabels> {
    let tiff = Tiff::open(source)?;
    let stack = Stack::find(&tiff, &options.limits)?;
    let chosen = Chosen::find(&tiff, &stack, options, true)?;
    let first = &chosen.pages[0].page;
    let kept: Vec<usize> =
        (0..chosen.pages.len() * first.samples).filter(|channel| !first.transparent[channel % first.samples]).collect();
    if kept.len() > 1 {
        return Err(Problem::unusable(format!(
            "this TIFF has {} channels; a label file has one number per pixel: save it as one grey channel",
            kept.len()
        )));
    }
    let kept = if kept.is_empty() { vec![0] } else { kept };
    // Labels become 32-bit numbers.
    let words = chosen.decode(&tiff, &kept, options, first.bits.div_ceil(8).max(4) as usize)?;
    let directory = &tiff.directories[chosen.pages[0].slot.directory];
    let signed_16 = is_signed_16(&tiff.text(directory, tags::IMAGE_DESCRIPTION)?, first);
    interpret::labels(words, first, signed_16, source)
}

/// The pages that make one image: one for each channel, or one that holds them all.
struct Chosen {
    pages: Vec<Selected>,
    /// The caller's channels were pages, and these are they.
    picked: bool,
}

struct Selected {
    slot: Slot,
    page: Page,
}

impl Chosen {
    fn find(tiff: &Tiff<'_>, stack: &Stack, options: &ReadOptions, for_labels: bool) -> Decoded<Self> {
        let mut picked = false;
        let count = stack.channels.saturating_mul(stack.planes).saturating_mul(stack.frames);
        let slots: Vec<Option<Slot>> = if stack.told {
            let plane = choose("plane", stack.planes, options.plane, for_labels, || say(tiff, stack, options))?;
            let frame = choose("frame", stack.frames, options.frame, for_labels, || say(tiff, stack, options))?;
            stack.at(plane, frame).to_vec()
        } else if let (None, Some(channels), false) = (options.plane, &options.channels, for_labels) {
            picked = true;
            super::zero_based(channels, count)?.into_iter().map(|page| stack.slots[page]).collect()
        } else if let Some(page) = options.plane.filter(|_| count > 1) {
            let page = choose("plane", count, Some(page), false, String::new)?;
            vec![stack.slots[page]]
        } else if count == 1 {
            stack.slots.clone()
        } else {
            let notes: String = stack.notes(false).iter().map(|note| format!(" ({note})")).collect();
            let channels = if for_labels {
                String::new()
            } else {
                ", or, if they are channels of one image, choose those as channels".into()
            };
            let reason = format!(
                "the TIFF is a stack of {count} pages and does not tell whether they are channels, planes or time \
                 points{notes}; choose a plane (1 to {count}){channels}"
            );
            return Err(Problem::Unchosen { reason, option: "plane", count });
        };
        let mut pages: Vec<Selected> = Vec::with_capacity(slots.len());
        for slot in slots {
            let slot = slot.ok_or_else(|| {
                Problem::unusable(format!(
                    "{}; the page that was asked for is in none of this file's pages: the set has more files",
                    say(tiff, stack, options)
                ))
            })?;
            let page = open_page(tiff, slot, options, count)?;
            if pages.first().is_some_and(|first: &Selected| !first.page.fits(&page)) {
                return Err(Problem::unusable(
                    "the TIFF has channels of different sizes or sample types; save them as files of one kind",
                ));
            }
            pages.push(Selected { slot, page });
        }
        if pages.is_empty() {
            return Err(Problem::unusable("the TIFF has no page that could be read; export it again"));
        }
        if picked && pages[0].page.samples > 1 {
            return Err(Problem::unusable(
                "the pages of this TIFF have several channels each; choose one page as plane",
            ));
        }
        Ok(Self { pages, picked })
    }

    /// The samples of the `wanted` channels, interleaved in that order. Channels count the samples of the first page, then
    /// those of the second.
    fn decode(&self, tiff: &Tiff<'_>, wanted: &[usize], options: &ReadOptions, sample_bytes: usize) -> Decoded<Words> {
        let first = &self.pages[0].page;
        let count = sample_count(first.height, first.width, wanted.len(), sample_bytes, &options.limits)?;
        let mut words = Words::zeros(first.bits, count)?;
        for (index, selected) in self.pages.iter().enumerate() {
            let places: Vec<Option<usize>> = (0..first.samples)
                .map(|sample| wanted.iter().position(|channel| *channel == index * first.samples + sample))
                .collect();
            if places.iter().all(Option::is_none) {
                continue;
            }
            let directory = &tiff.directories[selected.slot.directory];
            words.fill(tiff.source, &selected.page, &tables(tiff, directory)?, wanted.len(), &places)?;
        }
        Ok(words)
    }
}

fn open_page(tiff: &Tiff<'_>, slot: Slot, options: &ReadOptions, count: usize) -> Decoded<Page> {
    let directory = tiff.directories.get(slot.directory).ok_or_else(directory::cut_off)?;
    let page = Page::read(tiff, directory, &options.limits)?;
    if slot.behind == 0 {
        return Ok(page);
    }
    page.following(slot.behind, tiff.source.len()).ok_or_else(|| {
        Problem::unusable(format!(
            "the TIFF announces {count} pages and the file holds fewer; choose plane 1 \
             or get the whole file"
        ))
    })
}

/// What a stack holds, in words.
fn say(tiff: &Tiff<'_>, stack: &Stack, options: &ReadOptions) -> String {
    let page = stack.slots.iter().flatten().next().and_then(|slot| tiff.directories.get(slot.directory));
    let page = page.and_then(|directory| Page::read(tiff, directory, &options.limits).ok());
    let (size, samples) =
        page.map_or((String::new(), 1), |page| (format!(" of {} x {} pixels", page.height, page.width), page.samples));
    let channels = stack.channels * samples;
    format!(
        "the TIFF holds {}, {} (Z) and {} (T){size}",
        counted(channels, "channel"),
        counted(stack.planes, "plane"),
        counted(stack.frames, "time point")
    )
}

/// What a directory tells of how the numbers of its page become intensities.
fn context(tiff: &Tiff<'_>, directory: &Directory, page: &Page) -> Decoded<interpret::Context> {
    let description = tiff.text(directory, tags::IMAGE_DESCRIPTION)?;
    let palette = page.color == Color::Palette;
    Ok(interpret::Context {
        imagej: description.starts_with("ImageJ="),
        tifffile: tiff.text(directory, tags::SOFTWARE)?.starts_with("tifffile"),
        signed_16: is_signed_16(&description, page),
        color_map: if palette { tiff.numbers(directory, tags::COLOR_MAP)? } else { None },
        stored: false,
        largest: Largest::default(),
    })
}

/// ImageJ keeps signed 16-bit numbers as unsigned ones that are 32,768 larger, and says so by a calibration
/// `c0 + c1 * value`.
fn is_signed_16(description: &str, page: &Page) -> bool {
    let number = |name: &str| imagej_value(description, name).and_then(|value| value.parse::<f64>().ok());
    description.starts_with("ImageJ=")
        && page.bits == 16
        && page.kind == Kind::Unsigned
        && number("c0") == Some(-32_768.0)
        && number("c1") == Some(1.0)
}

fn tables(tiff: &Tiff<'_>, directory: &Directory) -> Decoded<Tables> {
    let mut ycbcr = Ycbcr::default();
    let three = |values: Option<Vec<f64>>| <[f64; 3]>::try_from(values.unwrap_or_default()).ok();
    if let Some(luma) = three(tiff.fractions(directory, tags::YCBCR_COEFFICIENTS)?)
        && luma.iter().all(|weight| weight.is_finite() && *weight > 0.0)
    {
        ycbcr.luma = luma;
    }
    if let Some(values) = tiff.fractions(directory, tags::REFERENCE_BLACK_WHITE)?
        && let Ok(reference) = <[f64; 6]>::try_from(values)
        && reference.iter().all(|value| value.is_finite())
    {
        ycbcr.reference = reference;
    }
    Ok(Tables { jpeg: tiff.bytes(directory, tags::JPEG_TABLES)?, ycbcr })
}

/// Raw files of cameras keep a thumbnail where other TIFF files keep the image.
fn refuse_raw(tiff: &Tiff<'_>) -> Decoded<()> {
    if tiff.directories.first().is_some_and(|directory| directory.has(tags::DNG_VERSION)) {
        return Err(Problem::unusable("this is a raw file of a camera (DNG); develop it and save it as TIFF"));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
