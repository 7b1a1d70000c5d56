//! Parts of a TIFF, read without the rest: only the strips and tiles under them are decoded, and the last ones are kept.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::super::kept::Kept;
use super::super::source::Source;
use super::super::{
    Decoded, Problem, ReadLimits, ReadOptions, checked_part, is_constant, keep, left_out_note, sample_count,
    within_wall, zero_based,
};
use super::chunks::{Piece, Words, decode_chunk};
use super::directory::Tiff;
use super::page::{Color, Page};
use super::pyramid::{Layer, levels};
use super::{Chosen, interpret, pixel_size, refuse_raw};
use crate::error::Result;
use crate::raster::Image;
use crate::raster::regions::{Extent, Region, RegionReader};

/// Parts that are looked at along a side, and how many pixels each reaches around its middle.
const PROBES: usize = 4;
const PROBE: usize = 16;

/// A TIFF that is open for reading by parts.
pub(in crate::raster::read) struct TiffRegions {
    source: Mutex<Source<'static>>,
    path: PathBuf,
    levels: Vec<Vec<Layer>>,
    extents: Vec<Extent>,
    /// Samples that are read, counted over the pages.
    wanted: Vec<usize>,
    /// Channels that are kept of what the samples make; all of them without it.
    kept: Option<Vec<usize>>,
    channels: usize,
    context: interpret::Context,
    pixel_size: Option<[f64; 2]>,
    notes: Vec<String>,
    limits: ReadLimits,
    cache: Mutex<Kept<Key, Words>>,
}

impl TiffRegions {
    /// Opens the planes and channels that `options` name, of a file of any length. `kept_bytes` of decoded strips and tiles
    /// stay in memory, one row of them at least. The limits of `options` hold for every part that is read, and for one strip or
    /// tile. `for_labels` gives the stored numbers, of the plane of an image of one plane whichever is asked for.
    pub(in crate::raster::read) fn open(
        path: &Path,
        options: &ReadOptions,
        kept_bytes: usize,
        for_labels: bool,
    ) -> Result<Self> {
        let source = Source::open(path, u64::MAX)?.until(&options.cancel);
        within_wall(|| Self::from_source(source, path, options, kept_bytes, for_labels))
            .map_err(|problem| problem.in_file(path))
    }

    fn from_source(
        source: Source<'static>,
        path: &Path,
        options: &ReadOptions,
        kept_bytes: usize,
        for_labels: bool,
    ) -> Decoded<Self> {
        // What a whole page would take does not matter here.
        let boundless = ReadLimits { decoded_bytes: usize::MAX, file_bytes: u64::MAX };
        let channels = options.channels.clone().filter(|_| !for_labels);
        let options = &ReadOptions { limits: boundless, channels, ..options.clone() };
        let tiff = Tiff::open(&source)?;
        refuse_raw(&tiff)?;
        let stack = super::Stack::find(&tiff, &boundless)?;
        let chosen = Chosen::find(&tiff, &stack, options, for_labels)?;
        let levels = levels(&tiff, &chosen, &boundless)?;
        let first = &chosen.pages[0].page;
        let count = chosen.pages.len() * first.samples;
        let palette = first.color == Color::Palette && !for_labels;
        let chosen_now = chosen.picked || (options.channels.is_some() && !palette);
        let wanted: Vec<usize> = match &options.channels {
            Some(channels) if !palette && !chosen.picked => zero_based(channels, count)?,
            _ => (0..count).filter(|at| chosen_now || !first.transparent[at % first.samples]).collect(),
        };
        let wanted = if wanted.is_empty() { (0..count).collect() } else { wanted };
        let directory = &tiff.directories[chosen.pages[0].slot.directory];
        let context = interpret::Context { stored: for_labels, ..super::context(&tiff, directory, first)? };
        let pixel_size = pixel_size(&tiff, &stack, directory)?;
        let notes = stack.notes(levels.len() > 1);
        let extent = |layers: &Vec<Layer>| Extent { height: layers[0].page.height, width: layers[0].page.width };
        let extents: Vec<Extent> = levels.iter().map(extent).collect();
        for layer in levels.iter().flatten() {
            check_chunk(&layer.page)?;
        }
        let transparent = first.transparent.clone();
        drop(tiff);
        let mut reader = Self {
            source: Mutex::new(source),
            path: path.to_path_buf(),
            levels,
            extents,
            channels: wanted.len(),
            wanted,
            kept: None,
            context,
            pixel_size,
            notes,
            limits: ReadLimits::default(),
            cache: Mutex::new(Kept::new(kept_bytes)),
        };
        // A colour table may make three channels of one; what was read tells.
        let mut notes = Vec::new();
        let region = Region { top: 0, left: 0, height: 1, width: 1 };
        let pixel = reader.part(region, 0, &mut notes)?;
        reader.notes.extend(notes);
        reader.channels = pixel.channels();
        if let Some(channels) = options.channels.as_ref().filter(|_| palette) {
            let kept = zero_based(channels, reader.channels)?;
            reader.channels = kept.len();
            reader.kept = Some(kept);
        }
        if !chosen_now && !for_labels {
            let is_left_out = |at: &usize| transparent[at % transparent.len()] && !reader.wanted.contains(at);
            let left_out: Vec<usize> = (0..count).filter(is_left_out).collect();
            for channel in left_out {
                if reader.varies(channel) {
                    reader.notes.push(left_out_note(channel));
                }
            }
        }
        Ok(reader)
    }

    /// Whether a sample that is not read differs from place to place, judged by a few parts of the smallest level.
    fn varies(&mut self, sample: usize) -> bool {
        let level = self.extents.len() - 1;
        let extent = self.extents[level];
        let wanted = std::mem::replace(&mut self.wanted, vec![sample]);
        let places = (0..PROBES * PROBES).map(|at| [at / PROBES, at % PROBES]);
        let mut pixels = places.filter_map(|[down, across]| {
            let region = Region {
                top: down * (extent.height - 1) / (PROBES - 1),
                left: across * (extent.width - 1) / (PROBES - 1),
                height: 1,
                width: 1,
            };
            let region = region.grown(PROBE, extent);
            let part = self.part(region, level, &mut Vec::new()).ok()?;
            Some((is_constant(&part, 0), part.to_f32()[[0, 0, 0]]))
        });
        let first = pixels.next();
        let varies = first
            .is_some_and(|(constant, value)| !constant || pixels.any(|(constant, other)| !constant || other != value));
        self.wanted = wanted;
        varies
    }

    fn part(&self, region: Region, level: usize, notes: &mut Vec<String>) -> Decoded<Image> {
        let layers = &self.levels[level];
        let first = &layers[0].page;
        let stride = self.wanted.len();
        let bytes = first.bits.div_ceil(8) as usize;
        let count = sample_count(region.height, region.width, stride, bytes, &self.limits)?;
        let mut words = Words::zeros(first.bits, count)?;
        for (index, layer) in layers.iter().enumerate() {
            let samples = layer.page.samples;
            let place = |sample: usize| self.wanted.iter().position(|wanted| *wanted == index * samples + sample);
            let places: Vec<Option<usize>> = (0..samples).map(place).collect();
            self.fill(&mut words, [level, index], layer, region, &places)?;
        }
        let shape = Page { height: region.height, width: region.width, ..without_places(first) };
        interpret::image(words, &shape, stride, &self.context, &self.limits, notes)
    }

    /// Puts the samples of one page under a region into their places.
    fn fill(
        &self,
        words: &mut Words,
        [level, index]: [usize; 2],
        layer: &Layer,
        region: Region,
        places: &[Option<usize>],
    ) -> Decoded<()> {
        let page = &layer.page;
        let (down, across) = page.grid();
        let layers = if page.planar { page.samples } else { 1 };
        let stride = self.wanted.len();
        let sides = [page.chunk_height, page.chunk_width];
        let (first, last) = (
            [region.top / sides[0], region.left / sides[1]],
            [(region.bottom() - 1) / sides[0], (region.right() - 1) / sides[1]],
        );
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // Neighbouring parts share the rows of strips or tiles that they lie in.
        let row = (last[0] - first[0] + 1) * if page.tiled { last[1] - first[1] + 1 } else { 1 };
        cache.keep_at_least(2 * row * page.chunk_bytes(sides[0]).unwrap_or(0));
        for of_layer in 0..layers {
            let places = if page.planar { &places[of_layer..=of_layer] } else { places };
            if places.iter().all(Option::is_none) {
                continue;
            }
            for y in first[0]..=last[0] {
                for x in first[1]..=last[1] {
                    let chunk = of_layer * down * across + y * across + x;
                    let decoded = cache.get([level, index, chunk], || {
                        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
                        decode_chunk(&source, page, &layer.tables, chunk)
                    })?;
                    let Some(decoded) = decoded else { continue };
                    let corner = [y * sides[0], x * sides[1]];
                    let begin = [region.top.max(corner[0]), region.left.max(corner[1])];
                    let end = [region.bottom().min(corner[0] + sides[0]), region.right().min(corner[1] + sides[1])];
                    let piece = Piece {
                        from: [begin[0] - corner[0], begin[1] - corner[1]],
                        to: [begin[0] - region.top, begin[1] - region.left],
                        size: [end[0] - begin[0], end[1] - begin[1]],
                        columns: region.width,
                    };
                    words.paste(&decoded, page.chunk_width, &piece, stride, places);
                }
            }
        }
        Ok(())
    }
}

impl RegionReader for TiffRegions {
    fn levels(&self) -> &[Extent] {
        &self.extents
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn pixel_size(&self) -> Option<[f64; 2]> {
        self.pixel_size
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn findings(&self) -> Vec<String> {
        self.context.largest.note().into_iter().collect()
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        region.check(&self.extents, level)?;
        let part = within_wall(|| self.part(region, level, &mut Vec::new()));
        let image = part.map_err(|problem| problem.in_file(&self.path))?;
        let image = match &self.kept {
            Some(kept) => keep(image, kept),
            None => image,
        };
        checked_part(image, region, &self.path)
    }
}

/// Refuses strips and tiles that would have to be decoded whole and are as large as an image.
fn check_chunk(page: &Page) -> Decoded<()> {
    let most = ReadLimits::default().decoded_bytes;
    match page.chunk_bytes(page.chunk_height) {
        Some(bytes) if bytes <= most => Ok(()),
        _ => Err(Problem::Limit(format!(
            "one strip or tile of the TIFF holds {} rows of {} pixels, compressed as one, which takes more than {most} bytes \
             once decoded; save the image in tiles",
            page.chunk_height, page.chunk_width
        ))),
    }
}

/// The page without its lists of strips and tiles, which are long.
fn without_places(page: &Page) -> Page {
    Page { offsets: Vec::new(), sizes: Vec::new(), transparent: page.transparent.clone(), ..*page }
}

/// Level, page and number of a strip or tile.
type Key = [usize; 3];
