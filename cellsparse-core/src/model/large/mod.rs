//! Segmentation of images that are read by parts: what the network sees of a part, and the objects in it.
//!
//! Everything that a prediction takes from the whole image is taken once for the run: percentiles, the scale, the statistics of
//! group normalisation. The rest is local, so a part with enough around it has the objects of the whole.

mod blended;
mod intensities;
mod source;
mod stars;
mod thumbnail;

use std::hash::Hasher;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

pub(crate) use self::blended::{Blended, PartMaps};
use self::intensities::percentiles;
use self::source::{Scaled, Source};
pub(crate) use self::stars::{Searched, StarSearch, Survivors, bounds_of};
use self::thumbnail::Thumbnail;
use super::ahead::beside;
use super::device;
use super::facade::Model;
use super::fitted_scale::{Fit, fitted_note, largest_side};
use super::normalization::Normalization;
use super::options::PredictOptions;
use super::registry::AnyAlgorithm;
use super::work::Work;
use super::working_scale::{MIDDLE, scaled_sides};
use crate::budget::{Budget, bytes_of};
use crate::error::Result;
use crate::geometry::label_runs::Run;
use crate::networks::{Device, ImageStatistics};
use crate::raster::regions::{Extent, Region, RegionReader};
use crate::raster::{Image, Percentiles};

/// An object in the pixels of the whole image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// The pixel that says which part of the image it belongs to.
    pub anchor: [usize; 2],
    /// Ids count in the order of these.
    pub order: [u64; 2],
    /// Its pixels, row by row; at least one.
    pub runs: Vec<Run>,
    pub probability: f32,
    pub class: Option<u8>,
    /// Whether it reaches the rim of what was looked at, inside the image.
    pub cut: bool,
}

impl Found {
    /// Rows and columns that it lies in.
    pub fn bounds(&self) -> [Range<usize>; 2] {
        let rows = self.runs.iter().map(|run| run.row);
        let (top, bottom) = (rows.clone().min().unwrap_or(0), rows.max().unwrap_or(0));
        let left = self.runs.iter().map(|run| run.begin).min().unwrap_or(0);
        let right = self.runs.iter().map(|run| run.end).max().unwrap_or(0);
        [top..bottom + 1, left..right]
    }
}

/// What a prediction takes from the whole image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// Low and high percentile of each channel; none when intensities are taken as they are.
    pub percentiles: Option<[Vec<f32>; 2]>,
    /// Sides that the network sees relative to those of the image; of an algorithm that scales itself, relative to what it sees usually.
    pub scale: Option<f64>,
    /// Those of group normalisations.
    pub statistics: Option<ImageStatistics>,
}

impl Context {
    /// That of an image in memory: its percentiles, which are those of all its samples.
    pub fn of_whole(model: &Model, image: &Image, options: &PredictOptions) -> Result<Self> {
        image.check()?;
        if options.normalized {
            return Ok(Self::default());
        }
        let Normalization { pmin, pmax } = model.network.normalization;
        let found = Percentiles::measure_until(image.try_to_f32()?.view(), pmin, pmax, &options.cancel)?;
        Ok(Self { percentiles: Some([found.low, found.high]), ..Self::default() })
    }

    /// Measures what is not known yet.
    pub fn measured(
        known: Option<Self>,
        model: &Model,
        reader: &dyn RegionReader,
        level: usize,
        options: &PredictOptions,
    ) -> Result<Self> {
        model.check_prediction(options)?;
        model.network.check_channels(reader.channels())?;
        options.cancel.check()?;
        let mut context = known.unwrap_or_default();
        if context.percentiles.is_none() && !options.normalized {
            let found = percentiles(reader, level, model.network.normalization, &options.cancel)?;
            context.percentiles = Some([found.low, found.high]);
        }
        if context.shows_nothing() {
            return Ok(context);
        }
        let setup = Setup::new(model, reader, level, &context, options)?;
        let scale = setup.scale;
        if context.statistics.is_none() && setup.algorithm.shares_statistics() {
            context.statistics = Blended::new(&setup)?.measure()?;
        }
        context.scale = Some(scale);
        Ok(context)
    }

    /// Whether every channel is the same nearly everywhere.
    pub fn shows_nothing(&self) -> bool {
        let flat = |[low, high]: &[Vec<f32>; 2]| low.iter().zip(high).all(|(low, high)| low >= high);
        self.percentiles.as_ref().is_some_and(flat)
    }
}

/// A model, an image and options: what a run by parts knows before it begins.
pub(crate) struct Setup<'a> {
    pub model: &'a Model,
    pub options: &'a PredictOptions,
    /// With the thresholds of this run.
    algorithm: AnyAlgorithm<'a>,
    source: Source<'a>,
    /// A smaller copy that shows where there is nothing.
    thumbnail: Option<Thumbnail<'a>>,
    device: Device,
    budget: Budget,
    zoom: f64,
    scale: f64,
    statistics: Option<ImageStatistics>,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// Share of the memory that the network leaves to everything else, as 1 in so many.
const RESERVED: u64 = 3;

/// Bytes that an accelerator takes beside that for each pixel of the next part, of which it computes the maps meanwhile: the
/// answers to tiles, their sum and the pixels of the image.
const AHEAD_BYTES: u64 = 64;

/// Bytes of a sample that is read and scaled.
const READ_BYTES: u64 = 8;

/// Bytes of memory that a run takes for a part beside the network, for each pixel of it: maps and what is made of them, or of
/// StarDist's objects the labels and the runs of pixels.
const PART_BYTES: u64 = 160;
const STARS_BYTES: u64 = 32;

impl<'a> Setup<'a> {
    /// Finds the scale at which the network sees the image unless it is known.
    pub fn new(
        model: &'a Model,
        reader: &'a dyn RegionReader,
        level: usize,
        context: &Context,
        options: &'a PredictOptions,
    ) -> Result<Self> {
        let device = device::resolve_in(options.device, options.precision)?.device;
        let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
        let (zoom, note) = model.zoom(options)?;
        let scaling = context.percentiles.clone().map(|[low, high]| Percentiles { low, high });
        let source = Source::new(&model.network, reader, level, scaling)?;
        let statistics = context.statistics.clone();
        let averaged = model.network.averaged("the image has", reader.channels());
        let mut setup = Self {
            model,
            options,
            algorithm: model.architecture.with(model.thresholds.zoomed(zoom).with(options)?)?,
            source,
            thumbnail: None,
            device,
            budget,
            zoom,
            scale: 1.0,
            statistics,
            notes: note.into_iter().chain(averaged).collect(),
        };
        setup.scale = match context.scale {
            Some(scale) => scale,
            None => setup.find_scale()?,
        };
        if setup.algorithm.scales_itself() && setup.scale != 1.0 {
            let mut thresholds = setup.algorithm.thresholds();
            thresholds.values_mut().zoom(setup.scale);
            setup.algorithm = model.architecture.with(thresholds)?;
            setup.notes.extend(fitted_note(setup.scale));
        }
        Ok(setup)
    }

    /// The scale at which the middle of the image is to be seen.
    fn find_scale(&mut self) -> Result<f64> {
        let network = &self.model.network;
        let Some(usual) = self.algorithm.own_scale() else {
            return self.algorithm.scale_for(network, self.source.middle(MIDDLE)?.view(), &self.work());
        };
        if network.scale.gauge.is_none() || !self.work().fits_size {
            return Ok(1.0);
        }
        let side = largest_side(usual);
        let Extent { height, width } = self.source.extent;
        let read = bytes_of(&[side.min(height), side.min(width), self.source.reader.channels()], READ_BYTES);
        let fit = if read > self.work().budget.left() {
            Fit::for_want_of_memory()
        } else {
            self.algorithm.fit_size(network, self.source.middle(side)?.view(), &self.work().less(read))?
        };
        if fit.times == 1.0 {
            self.notes.extend(fit.note);
        }
        Ok(fit.times)
    }

    /// Whether objects are searched for in the whole image before they are painted part by part; otherwise each part is
    /// segmented by itself.
    pub fn searches_whole(&self) -> bool {
        self.model.searches_whole()
    }

    pub fn extent(&self) -> Extent {
        self.source.extent
    }

    fn work(&self) -> Work<'_> {
        // The rest is for parts, answers that are kept, and objects.
        let budget = self.budget.less(self.budget.left() / RESERVED);
        Work::of(self.options, &self.device, budget, self.zoom, self.model.pixel_size)
    }

    /// Pixels around a part that are looked at with it: a few cells.
    pub fn surroundings(&self) -> usize {
        let drawn = self.model.seen.map_or(0.0, |seen| seen.zoomed(self.zoom).diameter);
        (CELLS * drawn.max(self.algorithm.stated_diameter().unwrap_or(0.0))).clamp(LEAST, MOST) as usize
    }

    /// Pixels around a part, beyond its surroundings, that the network reads for it.
    pub fn reading(&self) -> Result<usize> {
        let scale = self.algorithm.own_scale().unwrap_or(self.scale);
        let network = match self.algorithm.receptive_radius() {
            Some(radius) => radius + 4 * self.model.network.graph.divisor()[0],
            None => Blended::new(self)?.side(),
        };
        // The blur before the image is made smaller reaches two of the coarser pixels.
        Ok(((network + 4) as f64 / scale).ceil() as usize + 4)
    }

    /// Looks for a smaller copy among the levels of the image, so that [`is_empty`](Self::is_empty) reads less where there is nothing.
    pub fn with_thumbnail(mut self) -> Result<Self> {
        if let Some(seen) = self.model.seen {
            self.thumbnail = Thumbnail::of(&self.source, seen.zoomed(self.zoom).diameter)?;
        }
        Ok(self)
    }

    /// Whether nothing as large as a cell stands out of a part.
    pub fn is_empty(&self, region: Region) -> Result<bool> {
        let Some(seen) = self.model.seen.map(|seen| seen.zoomed(self.zoom)) else { return Ok(false) };
        if let Some(thumbnail) = &self.thumbnail
            && thumbnail.shows_nothing(region, &seen, &self.options.cancel)?
        {
            return Ok(true);
        }
        let pixels = self.source.normalized(region)?;
        let pixels = Image::F32(pixels);
        Ok(seen.nothing_in(&pixels, true, &self.options.cancel)?.is_some())
    }

    /// Refuses a part that would not fit into the memory.
    pub fn require(&self, window: Region, what: &str) -> Result<()> {
        let each = match self.searches_whole() {
            true => STARS_BYTES,
            false if self.device.is_cpu() => PART_BYTES,
            false => PART_BYTES + AHEAD_BYTES,
        };
        self.budget.require(
            bytes_of(&[window.height, window.width], each),
            format_args!("{what} {window}"),
            "allow more memory",
        )
    }

    /// Does `now`, and with an accelerator `next` at the same time.
    pub fn beside<A, B: Send>(
        &self,
        next: Option<impl FnOnce() -> B + Send>,
        now: impl FnOnce() -> A,
    ) -> (A, Option<B>) {
        beside(&self.device, next, now)
    }

    /// The image at the size at which the network sees it.
    fn scaled(&self) -> Result<Scaled<'_>> {
        let extent = self.source.extent;
        let sides = scaled_sides([extent.height, extent.width], self.scale)?;
        Ok(Scaled::smoothed(&self.source, sides, self.scale))
    }
}

/// Diameters of cells around a part that are looked at, and pixels at least and at most.
const CELLS: f64 = 4.0;
const LEAST: f64 = 64.0;
const MOST: f64 = 512.0;

impl Model {
    /// A number that tells the model from others: a hash of its file.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let mut hash = Hash(XxHash64::with_seed(0));
        self.to_writer(&mut hash)?;
        Ok(format!("{:016x}", hash.0.finish()))
    }

    /// Runs `work` on the threads of the model, as every call does.
    pub(crate) fn in_pool<T: Send>(
        &self,
        threads: Option<usize>,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        self.network.engines.install(threads, work)
    }

    /// Whether [`Setup::searches_whole`] says so.
    pub(crate) fn searches_whole(&self) -> bool {
        self.architecture.with_defaults().searches_whole()
    }

    /// Bytes that a prediction of the whole takes for each pixel: label images, and maps of the network with what is made of
    /// them.
    pub(crate) fn bytes_of_a_pixel(&self) -> u64 {
        self.architecture.with_defaults().bytes_of_a_pixel()
    }
}

/// A hash of what is written.
struct Hash(XxHash64);

impl std::io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
