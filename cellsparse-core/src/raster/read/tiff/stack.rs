//! What the pages of a TIFF are: channels of one image, planes of a volume, time points, or nothing that is told.

use super::super::{Decoded, ReadLimits};
use super::directory::{Directory, Tiff, tags};
use super::ome::{self, Ome};
use super::page::Page;
use crate::error::counted;

/// One page: a directory, and how many pages behind the one that it describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) directory: usize,
    pub(super) behind: usize,
}

/// The pages of a file in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stack {
    pub(super) channels: usize,
    pub(super) planes: usize,
    pub(super) frames: usize,
    /// Channels fastest, then planes, then time points. `None` for a page that the file does not hold.
    pub(super) slots: Vec<Option<Slot>>,
    /// The file says what the pages are. If not, all of them are counted as planes.
    pub(super) told: bool,
    /// Micrometres per pixel, row and column.
    pub(super) pixel_size: Option<[f64; 2]>,
    /// What is odd.
    pub(super) notes: Vec<String>,
    /// Smaller pages that are no part of it: copies of a pyramid, overviews.
    pub(super) smaller: usize,
}

impl Stack {
    /// What a user should know of it; with `levels`, smaller pages are read too.
    pub(super) fn notes(&self, levels: bool) -> Vec<String> {
        let mut notes = self.notes.clone();
        if self.smaller > 0 && !levels {
            let count = self.smaller;
            notes.push(format!("smaller pages of the TIFF (reduced copies or overviews) were left out: {count}"));
        }
        notes
    }

    /// Finds out from the metadata of ImageJ, OME, Zeiss LSM, MetaMorph and tifffile, in this order, what the pages are.
    pub(super) fn find(tiff: &Tiff<'_>, limits: &ReadLimits) -> Decoded<Self> {
        let main = main_pages(tiff)?;
        let first = &tiff.directories[main[0]];
        let description = tiff.text(first, tags::IMAGE_DESCRIPTION)?;
        if description.contains("<OME")
            && let Some(ome) = ome::parse(&description)
        {
            let samples = Page::read(tiff, first, limits).map_or(1, |page| page.samples);
            if let Some(stack) = from_ome(&ome, samples, tiff.directories.len()) {
                return Ok(stack);
            }
        }
        if description.starts_with("ImageJ=") {
            return Ok(from_imagej(&description, &main));
        }
        if let Some([planes, frames]) = zeiss(tiff, first)?
            && planes.checked_mul(frames) == Some(main.len())
        {
            return Ok(Self::of(&main, 1, planes, frames));
        }
        let metamorph = usize::try_from(first.count(tags::METAMORPH_UIC2)).unwrap_or(0);
        if metamorph > 1 && main.len() == 1 {
            return Ok(Self { told: false, ..Self::behind(main[0], 1, metamorph, 1) });
        }
        if let Some(stack) = from_shape(&description, &main) {
            return Ok(stack);
        }
        unnamed(tiff, &main)
    }

    fn of(pages: &[usize], channels: usize, planes: usize, frames: usize) -> Self {
        let slots = pages.iter().map(|&directory| Some(Slot { directory, behind: 0 })).collect();
        Self { channels, planes, frames, slots, told: true, pixel_size: None, notes: Vec::new(), smaller: 0 }
    }

    /// Pages of which only the first has a directory.
    fn behind(directory: usize, channels: usize, planes: usize, frames: usize) -> Self {
        let count = channels.saturating_mul(planes).saturating_mul(frames).min(1 << 24);
        let slots = (0..count).map(|behind| Some(Slot { directory, behind })).collect();
        Self { channels, planes, frames, slots, told: true, pixel_size: None, notes: Vec::new(), smaller: 0 }
    }

    /// The pages of one plane at one time, counted from 0, one for each channel.
    pub(super) fn at(&self, plane: usize, frame: usize) -> &[Option<Slot>] {
        let start = (frame * self.planes + plane) * self.channels;
        self.slots.get(start..start + self.channels).unwrap_or_default()
    }
}

/// The pages that are no reduced copies and no masks of others.
fn main_pages(tiff: &Tiff<'_>) -> Decoded<Vec<usize>> {
    let mut main = Vec::new();
    for (index, directory) in tiff.directories.iter().enumerate() {
        let kind = tiff.number(directory, tags::NEW_SUBFILE_TYPE)?.unwrap_or(0);
        let old_kind = tiff.number(directory, tags::SUBFILE_TYPE)?.unwrap_or(1);
        if kind & 0b101 == 0 && old_kind != 2 {
            main.push(index);
        }
    }
    if main.is_empty() {
        main.push(0);
    }
    Ok(main)
}

fn from_ome(ome: &Ome, samples: usize, available: usize) -> Option<Stack> {
    let (channels, pages) = ome.pages(samples, available)?;
    let slots: Vec<_> = pages.iter().map(|page| page.map(|directory| Slot { directory, behind: 0 })).collect();
    if slots.iter().all(Option::is_none) {
        return None;
    }
    let mut stack = Stack {
        channels,
        planes: ome.size[1],
        frames: ome.size[2],
        slots,
        told: true,
        pixel_size: ome.pixel_size,
        notes: Vec::new(),
        smaller: 0,
    };
    if ome.images > 1 {
        stack.notes.push(format!("the OME-TIFF holds {} images; the first is read", ome.images));
    }
    if available == 1 && stack.slots.len() > 1 {
        let only = stack.slots.iter().flatten().next().copied();
        stack.notes.push(format!(
            "the OME metadata describes {} pages and this file holds one of them, which is read",
            stack.slots.len()
        ));
        (stack.channels, stack.planes, stack.frames, stack.slots) = (1, 1, 1, vec![only]);
    }
    Some(stack)
}

/// A number of ImageJ's description, which has lines of `name=value`.
pub(super) fn imagej_value<'a>(description: &'a str, name: &str) -> Option<&'a str> {
    description.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('=')).map(str::trim)
}

fn from_imagej(description: &str, main: &[usize]) -> Stack {
    const MOST: usize = 1 << 24;
    let number = |name: &str| {
        imagej_value(description, name).and_then(|value| value.parse::<usize>().ok()).filter(|n| (1..=MOST).contains(n))
    };
    let (channels, planes, frames) =
        (number("channels").unwrap_or(1), number("slices").unwrap_or(1), number("frames").unwrap_or(1));
    let product = channels.saturating_mul(planes).saturating_mul(frames);
    let images = number("images").unwrap_or(product);
    // As ImageJ does: what the numbers do not explain is a stack of planes.
    let (channels, planes, frames) = match product {
        product if product == images => (channels, planes, frames),
        _ if planes == 1 && frames == 1 && images.is_multiple_of(channels) => (channels, images / channels, 1),
        _ => (1, images, 1),
    };
    if main.len() == images {
        return Stack::of(main, channels, planes, frames);
    }
    if main.len() == 1 {
        return Stack::behind(main[0], channels, planes, frames);
    }
    let mut stack = Stack { told: false, ..Stack::of(main, 1, main.len(), 1) };
    stack.notes.push(format!(
        "its ImageJ description announces {} and the file holds {}",
        counted(images, "image"),
        main.len()
    ));
    stack
}

/// Planes and time points of a Zeiss LSM file; its channels are samples of each page.
fn zeiss(tiff: &Tiff<'_>, directory: &Directory) -> Decoded<Option<[usize; 2]>> {
    let Some(info) = tiff.bytes(directory, tags::ZEISS_LSM)? else { return Ok(None) };
    let number = |at: usize| {
        let bytes: [u8; 4] = info.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(i32::from_le_bytes(bytes)).ok().filter(|n| *n > 0)
    };
    Ok(number(16).zip(number(24)).map(|(planes, frames)| [planes, frames]))
}

/// tifffile's description: `{"shape": [...], "axes": "..."}`. Without axes it does not tell what pages are, but how many
/// there are.
fn from_shape(description: &str, main: &[usize]) -> Option<Stack> {
    let value: serde_json::Value = serde_json::from_str(description).ok()?;
    let shape: Vec<usize> =
        value.get("shape")?.as_array()?.iter().map(|n| n.as_u64().map(|n| n as usize)).collect::<Option<_>>()?;
    let axes = value.get("axes").and_then(|axes| axes.as_str()).unwrap_or_default().to_ascii_uppercase();
    let truncated = value.get("truncated").and_then(serde_json::Value::as_bool).unwrap_or(false);
    let build = |channels, planes, frames| {
        if truncated && main.len() == 1 {
            Stack::behind(main[0], channels, planes, frames)
        } else {
            Stack::of(main, channels, planes, frames)
        }
    };
    let leading = axes.find('Y').filter(|_| axes.len() == shape.len() && axes.is_ascii());
    if let Some(leading) = leading {
        let mut sizes = [1usize; 3];
        let mut last = usize::MAX;
        let mut ordered = true;
        for (&axis, &n) in axes.as_bytes()[..leading].iter().zip(&shape) {
            let place = match axis {
                b'T' => 2,
                b'Z' => 1,
                b'C' | b'S' => 0,
                _ if n == 1 => continue,
                _ => return None,
            };
            sizes[place] = sizes[place].checked_mul(n)?;
            ordered &= place < last;
            last = place;
        }
        let total = sizes[0].checked_mul(sizes[1])?.checked_mul(sizes[2])?;
        // Channels may be samples of each page instead of pages.
        let [channels, planes, frames] = sizes;
        if total == main.len() || (truncated && main.len() == 1) {
            let stack = build(channels, planes, frames);
            return Some(if ordered { stack } else { reordered(stack, &axes[..leading], &shape) });
        }
        if planes.checked_mul(frames) == Some(main.len()) {
            return Some(build(1, planes, frames));
        }
    }
    if truncated && main.len() == 1 && shape.len() > 2 {
        let count = shape[..shape.len() - 2].iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
        return (count > 1 && count <= 1 << 24).then(|| Stack { told: false, ..Stack::behind(main[0], 1, count, 1) });
    }
    None
}

/// Slots of pages that are stored in another order than channels fastest, then planes, then time points.
fn reordered(mut stack: Stack, axes: &str, shape: &[usize]) -> Stack {
    let stored = stack.slots.clone();
    for (index, slot) in stored.into_iter().enumerate() {
        let (mut rest, mut place) = (index, [0usize; 3]);
        for (axis, &n) in axes.bytes().zip(shape).rev() {
            let at = match axis {
                b'T' => 2,
                b'Z' => 1,
                _ => 0,
            };
            if n > 0 {
                place[at] += rest % n;
                rest /= n;
            }
        }
        let at = (place[2] * stack.planes + place[1]) * stack.channels + place[0];
        if let Some(target) = stack.slots.get_mut(at) {
            *target = slot;
        }
    }
    stack
}

/// Pages about which the file says nothing. Smaller ones beside a large first one are its reduced copies, a label or an
/// overview, as slide scanners write them.
fn unnamed(tiff: &Tiff<'_>, main: &[usize]) -> Decoded<Stack> {
    let mut sizes = Vec::with_capacity(main.len());
    for &page in main {
        let side = |tag| tiff.number(&tiff.directories[page], tag).map(|n| n.unwrap_or(0));
        sizes.push((side(tags::IMAGE_WIDTH)?, side(tags::IMAGE_LENGTH)?));
    }
    let area = |(width, height): (u64, u64)| width.saturating_mul(height);
    let same: Vec<usize> =
        main.iter().zip(&sizes).filter(|(_, size)| **size == sizes[0]).map(|(page, _)| *page).collect();
    if same.len() < main.len() && sizes.iter().all(|&size| area(size) <= area(sizes[0])) {
        let smaller = main.len() - same.len();
        return Ok(Stack { told: same.len() == 1, smaller, ..Stack::of(&same, 1, same.len(), 1) });
    }
    Ok(Stack { told: main.len() == 1, ..Stack::of(main, 1, main.len(), 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(stack: &Stack) -> (usize, usize, usize, bool) {
        (stack.channels, stack.planes, stack.frames, stack.told)
    }

    #[test]
    fn imagej_descriptions() {
        let pages: Vec<usize> = (0..6).collect();
        let read = |text: &str, pages: &[usize]| shape(&from_imagej(text, pages));
        assert_eq!(read("ImageJ=1.54p\nimages=6\nchannels=2\nslices=3\n", &pages), (2, 3, 1, true));
        assert_eq!(read("ImageJ=1.54p\nimages=6\nchannels=2\nframes=3\n", &pages), (2, 1, 3, true));
        assert_eq!(read("ImageJ=1.54p\nimages=6\n", &pages), (1, 6, 1, true));
        assert_eq!(read("ImageJ=1.54p\nimages=6\nchannels=2\n", &pages), (2, 3, 1, true));
        assert_eq!(read("ImageJ=1.54p\nunit=um\n", &pages[..1]), (1, 1, 1, true));
        assert_eq!(read("ImageJ=1.54p\nimages=3\nchannels=3\n", &pages[..1]), (3, 1, 1, true));
        assert_eq!(read("ImageJ=1.54p\nimages=9\nchannels=3\n", &pages), (1, 6, 1, false));
    }

    #[test]
    fn tifffile_descriptions() {
        let pages: Vec<usize> = (0..6).collect();
        let read = |text: &str, pages: &[usize]| from_shape(text, pages).map(|stack| shape(&stack));
        assert_eq!(read(r#"{"shape": [3, 2, 8, 8], "axes": "ZCYX"}"#, &pages), Some((2, 3, 1, true)));
        assert_eq!(read(r#"{"shape": [6, 8, 8]}"#, &pages), None);
        assert_eq!(read(r#"{"shape": [6, 8, 8], "axes": "QYX"}"#, &pages), None);
        assert_eq!(read(r#"{"shape": [8, 8, 3], "axes": "YXS"}"#, &pages[..1]), Some((1, 1, 1, true)));
        assert_eq!(read(r#"{"shape": [6, 8, 8], "truncated": true}"#, &pages[..1]), Some((1, 6, 1, false)));
        let stack = from_shape(r#"{"shape": [2, 3, 8, 8], "axes": "CZYX"}"#, &pages).unwrap();
        assert_eq!(shape(&stack), (2, 3, 1, true));
        let order: Vec<usize> = stack.slots.iter().flatten().map(|slot| slot.directory).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5]);
    }
}
