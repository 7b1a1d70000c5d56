//! Training on images that do not fit into the memory: what is read of them is what was drawn, with its surroundings.

use ndarray::s;

use super::labels::{LargeLabels, extent_of, parts_of};
use crate::annotations::{Dataset, LabelEncoding, LabelSource, SparseLabels, choose_encoding};
use crate::budget::{Budget, copied};
use crate::control::CancelToken;
use crate::error::{Error, Result, counted};
use crate::model::Normalization;
use crate::raster::regions::{Extent, Region, RegionReader, factor};
use crate::raster::{Image, LabelImage, Percentiles, ReadLimits};

/// Pixels above which an image is large whatever the memory, where parts of it can be read for what they cost: pyramids, and arrays
/// outside of the memory.
pub const LARGE: usize = 1 << 24;

/// Bytes that a training takes for a pixel of its images, with labels and what is made of both.
const BYTES_OF_A_PIXEL: u64 = 64;

/// Bytes of a sample, as it is stored and scaled.
const BYTES_OF_A_SAMPLE: u64 = 12;

/// Which parts of a large image a training reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct DrawnOptions {
    /// Pixels around what was drawn, at least: the side of a patch of the training. `None` means 224.
    pub patch: Option<usize>,
    /// Memory that the parts may take in the training; `None` means half of what is free.
    pub memory: Option<Budget>,
}

/// The parts of a large image in which something was drawn, with their labels.
#[derive(Debug)]
#[non_exhaustive]
pub struct DrawnParts {
    /// In order from the top.
    pub parts: Vec<DrawnPart>,
    /// Rows and columns of the level that they are parts of.
    pub extent: Extent,
    /// Parts in which something was drawn; more than there are in `parts` where there is not enough memory for all.
    pub all: usize,
    /// Micrometres per pixel `[y, x]` of the level, if known.
    pub pixel_size: Option<[f64; 2]>,
    /// Pixels of level 0 that a pixel of the level is wide.
    pub scale: f64,
    /// What was drawn and is not used, in half sentences.
    pub unused: Vec<String>,
}

/// A part of a large image with its labels.
#[derive(Debug)]
#[non_exhaustive]
pub struct DrawnPart {
    /// Where it lies.
    pub place: Place,
    /// Its samples, as they were read.
    pub image: Image,
    /// Its labels, in which cells may be cut by the sides of the part.
    pub labels: LabelSource,
}

/// Where a part of a large image lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In its level.
    pub region: Region,
    /// Rows and columns of the level.
    pub extent: Extent,
}

/// What an error of reading an image with its labels is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The image.
    Image,
    /// Its labels.
    Labels,
}

/// Why the largest of these levels, with so many channels, is not read whole for a training: it does not fit into the memory, or is
/// that of a pyramid with more than [`LARGE`] pixels. `None` for an image that is read whole.
pub fn why_by_parts(levels: &[Extent], channels: usize, memory: Option<Budget>) -> Option<String> {
    let extent = levels.first()?;
    let pixels = extent.height.saturating_mul(extent.width);
    let samples = pixels.saturating_mul(channels);
    let takes = (pixels as u64).saturating_mul(BYTES_OF_A_PIXEL);
    let takes = takes.saturating_add((samples as u64).saturating_mul(BYTES_OF_A_SAMPLE));
    let allowed = memory.unwrap_or_else(Budget::of_free_memory);
    if takes > allowed.left() || samples.saturating_mul(2) > ReadLimits::default().decoded_bytes {
        Some(format!("since all of it would take more than {allowed} of memory"))
    } else if levels.len() > 1 && pixels > LARGE {
        Some("since it is a large pyramid".into())
    } else {
        None
    }
}

/// Reads the parts of a level around what was drawn in it ([`LargeLabels::parts`]): all, or as many, spread evenly, as there is memory
/// for.
///
/// # Errors
/// With what each is about: [`Error::Labels`] when nothing is drawn inside of the image, [`Error::Limit`] when there is no memory for
/// a single part, [`Error::Cancelled`]; what reading the image or its labels reports.
pub fn read_drawn(
    reader: &dyn RegionReader,
    level: usize,
    labels: &LargeLabels,
    options: &DrawnOptions,
    cancel: &CancelToken,
) -> std::result::Result<DrawnParts, (About, Error)> {
    let regions = labels.parts(options.patch, cancel).map_err(of_labels)?;
    let mut found = read_parts(reader, level, regions, &|region| labels.part(region), options, cancel)?;
    found.unused = labels.unused();
    Ok(found)
}

/// As [`read_drawn`] for the largest level and labels in memory: below 0 unlabelled, 0 background, 1 and up cells. Background counts
/// as drawn, too.
///
/// # Errors
/// As there; [`Error::Labels`] for labels of another size.
pub fn read_drawn_on(
    reader: &dyn RegionReader,
    labels: &LabelImage,
    options: &DrawnOptions,
    cancel: &CancelToken,
) -> std::result::Result<DrawnParts, (About, Error)> {
    let extent = extent_of(reader.levels(), 0).map_err(of_image)?;
    if labels.dim() != (extent.height, extent.width) {
        return Err(of_labels(Error::Labels(format!(
            "the labels have {:?} pixels (rows, columns) and the image has {} x {}",
            labels.dim(),
            extent.height,
            extent.width
        ))));
    }
    let regions = parts_of(labels, options.patch, cancel).map_err(of_labels)?;
    let part = |region: Region| {
        let part = s![region.top..region.bottom(), region.left..region.right()];
        Ok(LabelSource::Drawn(copied(labels.slice(part), "the labels of a part")?))
    };
    read_parts(reader, 0, regions, &part, options, cancel)
}

fn of_image(error: Error) -> (About, Error) {
    (About::Image, error)
}

fn of_labels(error: Error) -> (About, Error) {
    (About::Labels, error)
}

/// Reads as many of the parts of a level, with their labels, as there is memory for.
fn read_parts(
    reader: &dyn RegionReader,
    level: usize,
    regions: Vec<Region>,
    labels: &dyn Fn(Region) -> Result<LabelSource>,
    options: &DrawnOptions,
    cancel: &CancelToken,
) -> std::result::Result<DrawnParts, (About, Error)> {
    let extent = extent_of(reader.levels(), level).map_err(of_image)?;
    let all = regions.len();
    let regions = fitting(regions, reader.channels(), options.memory).map_err(of_image)?;
    let mut parts = Vec::with_capacity(regions.len());
    for region in regions {
        cancel.check().map_err(of_image)?;
        let image = reader.read(region, level).map_err(of_image)?;
        let labels = labels(region).map_err(of_labels)?;
        parts.push(DrawnPart { place: Place { region, extent }, image, labels });
    }
    let scale = factor(reader.levels(), level);
    let pixel_size = reader.pixel_size().map(|size| size.map(|side| side * scale));
    Ok(DrawnParts { parts, extent, all, pixel_size, scale, unused: Vec::new() })
}

/// As many of the parts, spread evenly, as there is memory for.
fn fitting(regions: Vec<Region>, channels: usize, memory: Option<Budget>) -> Result<Vec<Region>> {
    let allowed = memory.unwrap_or_else(Budget::of_free_memory);
    let each = BYTES_OF_A_PIXEL + BYTES_OF_A_SAMPLE * channels as u64;
    let bytes = |parts: &[Region]| -> u64 {
        let pixels = parts.iter().map(|part| part.height as u64 * part.width as u64);
        pixels.fold(0, u64::saturating_add).saturating_mul(each)
    };
    let mut count = regions.len();
    loop {
        let some: Vec<Region> = (0..count).map(|at| regions[at * regions.len() / count]).collect();
        if bytes(&some) <= allowed.left() {
            return Ok(some);
        }
        if count == 1 {
            allowed.require(
                bytes(&some),
                "the part of the image around what was drawn",
                "choose a smaller level, or allow more memory",
            )?;
        }
        count /= 2;
    }
}

impl DrawnParts {
    /// What was read of the image, and `why` not all of it, in a clause.
    pub fn note(&self, why: &str) -> String {
        let pixels: usize = self.parts.iter().map(|part| part.place.region).map(|part| part.height * part.width).sum();
        let of_all = if self.parts.len() < self.all {
            format!(" of {}, spread evenly, for which there is memory", self.all)
        } else {
            String::new()
        };
        format!(
            "{}{of_all} around what was drawn, {:.1} of {:.0} megapixels, {}, {why}; intensities are scaled by those of the \
             whole image",
            counted(self.parts.len(), "part"),
            pixels as f64 / 1e6,
            self.extent.height as f64 * self.extent.width as f64 / 1e6,
            if self.parts.len() == 1 { "is read" } else { "are read" },
        )
    }

    /// All parts as a data set whose intensities are scaled by the `percentiles` of the whole image, to train on with
    /// [`TrainOptions::normalized`](crate::TrainOptions::normalized).
    ///
    /// # Errors
    /// As [`choose_encoding`], [`DrawnPart::labels_in`] and [`Dataset::new`]; [`Error::Image`] for percentiles of another number of
    /// channels.
    pub fn dataset(self, encoding: LabelEncoding, percentiles: &Percentiles) -> Result<Dataset> {
        let sources: Vec<LabelSource> = self.parts.iter().map(|part| part.labels.clone()).collect();
        let encoding = choose_encoding(&sources, encoding)?.encoding;
        let sizes = vec![self.pixel_size; self.parts.len()];
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for part in self.parts {
            images.push(Image::F32(Normalization::apply_measured(percentiles, &part.image)?));
            labels.push(part.labels_in(encoding)?);
        }
        Dataset::new(images, labels)?.with_pixel_sizes(sizes)
    }
}

impl DrawnPart {
    /// Its labels in an encoding, without cells that the border of the part cuts.
    ///
    /// # Errors
    /// As [`SparseLabels::from_source`]; [`Error::Labels`] for labels of another size than the image.
    pub fn labels_in(&self, encoding: LabelEncoding) -> Result<SparseLabels> {
        let labels = SparseLabels::from_source(self.labels.clone(), encoding)?;
        labels.check_fits(&self.image)?;
        Ok(self.place.without_cut(labels))
    }
}

impl Place {
    /// The labels of the part without cells that its border cuts: those are unlabelled. It takes labels in their encoding, before
    /// which nobody knows which numbers are cells.
    pub fn without_cut(&self, labels: SparseLabels) -> SparseLabels {
        let Region { top, left, .. } = self.region;
        let window = [top..self.region.bottom(), left..self.region.right()];
        labels.without_cut(&window, (self.extent.height, self.extent.width))
    }
}

/// The same data with scaled intensities, to train on with [`TrainOptions::normalized`](crate::TrainOptions::normalized): every image
/// by the percentiles that are given for it, as of the large image that it is a part of, or else by its own.
///
/// # Errors
/// [`Error::Image`] for another number of percentiles than images, or of channels; [`Error::Config`] for percentiles out of range.
pub fn scaled(data: &Dataset, measured: &[Option<&Percentiles>], how: Normalization) -> Result<Dataset> {
    if measured.len() != data.len() {
        return Err(Error::Image(format!(
            "there are percentiles of {} and {}; every image has its own, or none",
            counted(measured.len(), "image"),
            counted(data.len(), "image")
        )));
    }
    let images = data.images().iter().zip(measured).map(|(image, known)| {
        let scaled = match known {
            Some(percentiles) => Normalization::apply_measured(percentiles, image),
            None => how.apply(image),
        };
        scaled.map(Image::F32)
    });
    let images = images.collect::<Result<Vec<_>>>()?;
    Dataset::new(images, data.labels().to_vec())?.with_pixel_sizes(data.pixel_sizes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ndarray::{Array3, Axis, s};

    use super::*;
    use crate::model::{Algorithm, Architecture, Model, TrainOptions};
    use crate::raster::regions::{CallbackRegions, ImageRegions};
    use crate::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
    use crate::{Flow, LabelImage};

    /// Rows and columns of a slide with a field of cells at two places.
    const SIDE: usize = 16_384;
    const PLACES: [[usize; 2]; 2] = [[640, 1280], [16_000, 16_192]];

    /// Such a slide with `elsewhere(row, column)` around the fields, and the number of pixels that were read of it.
    fn camera(field: Array3<f32>, elsewhere: fn(usize, usize) -> f32) -> (Box<dyn RegionReader>, Arc<AtomicUsize>) {
        let counter = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&counter);
        let camera = move |region: Region, _: usize| {
            count.fetch_add(region.height * region.width, Ordering::Relaxed);
            let value = |(y, x, _): (usize, usize, usize)| elsewhere(region.top + y, region.left + x);
            let mut pixels = Array3::from_shape_fn((region.height, region.width, 1), value);
            for [top, left] in PLACES {
                let place = Region { top, left, height: field.dim().0, width: field.dim().1 };
                if place.meets(&region) {
                    let (begin, end) = (top.max(region.top), place.bottom().min(region.bottom()));
                    let (first, last) = (left.max(region.left), place.right().min(region.right()));
                    let from = field.slice(s![begin - top..end - top, first - left..last - left, ..]);
                    let rows = begin - region.top..end - region.top;
                    pixels.slice_mut(s![rows, first - region.left..last - region.left, ..]).assign(&from);
                }
            }
            Ok(Image::F32(pixels))
        };
        let extent = Extent { height: SIDE, width: SIDE };
        (Box::new(CallbackRegions::new(vec![extent], 1, Some([0.5, 0.5]), camera).unwrap()), counter)
    }

    #[test]
    fn a_slide_is_trained_on_around_what_was_drawn() {
        let field = draw_field(&FieldOptions { height: 128, width: 128, ..FieldOptions::default() }, 4).unwrap();
        let drawn = annotate(&field, &AnnotationOptions::default(), 1);
        let values = drawn.mapv(|value| value as f32).insert_axis(Axis(2));
        let (image, read) = camera(field.image.to_f32(), |y, x| ((31 * y + 17 * x) % 60) as f32);
        let (numbers, _) = camera(values, |_, _| -1.0);
        let labels = LargeLabels::of_regions(numbers, true, image.levels(), 0).unwrap();
        let (options, cancel) = (DrawnOptions::default(), CancelToken::new());
        let found = read_drawn(image.as_ref(), 0, &labels, &options, &cancel).unwrap();
        let parts = read.load(Ordering::Relaxed);
        assert!(parts > 0 && parts * 100 < SIDE * SIDE, "{parts} pixels are read around what was drawn");
        assert_eq!((found.parts.len(), found.all, found.pixel_size), (2, 2, Some([0.5, 0.5])));
        let note = found.note("since it is large");
        assert!(note.starts_with("2 parts around what was drawn, "), "{note}");
        assert!(note.contains(" of 268 megapixels, are read, since it is large; intensities"), "{note}");
        let how = Normalization::default();
        let percentiles = how.measure(image.as_ref(), 0, &cancel).unwrap();
        assert!(read.load(Ordering::Relaxed) - parts <= 1 << 24, "percentiles are measured on a sample");
        let data = found.dataset(LabelEncoding::Signed, &percentiles).unwrap();
        let cells = drawn.iter().copied().max().unwrap() as usize;
        assert!(data.labels().iter().all(|labels| labels.object_count() > 0));
        assert!(data.labels().iter().map(SparseLabels::object_count).sum::<usize>() <= 2 * cells);
        // The first field lies whole in its part, at the margin from its corner.
        let whole = Normalization::apply_measured(&percentiles, &field.image).unwrap();
        let part = data.images()[0].to_f32();
        assert!(part.windows(whole.dim()).into_iter().any(|window| window == whole));
        let mut model = Model::new(Architecture::of(Algorithm::Elephant, 1), 0).unwrap();
        let training = TrainOptions {
            steps: Some(1),
            batch_size: Some(1),
            patch_size: Some(32),
            normalized: true,
            ..TrainOptions::default()
        };
        model.train(&data, None, &training, &mut |_| Flow::Continue).unwrap();
        assert_eq!(model.info().pixel_size, Some([0.5, 0.5]));
    }

    #[test]
    fn drawn_background_is_looked_at_like_drawn_cells() {
        let (image, _) = camera(Array3::zeros((8, 8, 1)), |y, x| (y + x) as f32);
        let mut drawn = LabelImage::from_elem((SIDE, SIDE), -1);
        drawn.slice_mut(s![5000..5020, 7000..7020]).fill(3);
        drawn.slice_mut(s![15_000..15_002, 20..90]).fill(0);
        let (options, cancel) = (DrawnOptions { patch: Some(100), memory: None }, CancelToken::new());
        let found = read_drawn_on(image.as_ref(), &drawn, &options, &cancel).unwrap();
        assert_eq!(found.parts.len(), 2);
        for part in &found.parts {
            let Region { top, left, .. } = part.place.region;
            assert_eq!(part.image.to_f32()[[0, 0, 0]], (top + left) as f32);
            let labels = part.labels_in(LabelEncoding::Signed).unwrap();
            assert!(labels.labels().iter().any(|label| *label >= 0));
        }
        let (about, error) = read_drawn_on(image.as_ref(), &LabelImage::zeros((2, 2)), &options, &cancel).unwrap_err();
        assert!(about == About::Labels && error.to_string().contains("16384 x 16384"), "{error}");
    }

    #[test]
    fn what_does_not_fit_into_the_memory_is_thinned_out_or_refused() {
        let part = |at: usize| Region { top: 1000 * at, left: 0, height: 500, width: 500 };
        let regions: Vec<Region> = (0..8).map(part).collect();
        let bytes = 500 * 500 * (BYTES_OF_A_PIXEL + BYTES_OF_A_SAMPLE);
        let some = |count: u64| fitting(regions.clone(), 1, Some(Budget::new(count * bytes + 1).unwrap()));
        assert_eq!(some(8).unwrap(), regions);
        assert_eq!(some(5).unwrap(), [0, 2, 4, 6].map(part));
        assert_eq!(some(1).unwrap(), [part(0)]);
        assert!(matches!(some(0), Err(Error::Limit(_))));
    }

    #[test]
    fn errors_say_what_they_are_about() {
        let reader = |value: f32| -> Box<dyn RegionReader> {
            Box::new(ImageRegions::new(Image::F32(Array3::from_elem((50, 60, 1), value)), None).unwrap())
        };
        let image = reader(3.0);
        let (options, cancel) = (DrawnOptions::default(), CancelToken::new());
        let read = |labels: Box<dyn RegionReader>, level: usize| {
            let labels = LargeLabels::of_regions(labels, true, image.levels(), 0).unwrap();
            let (about, error) = read_drawn(image.as_ref(), level, &labels, &options, &cancel).unwrap_err();
            (about, error.to_string())
        };
        let (about, error) = read(reader(0.0), 0);
        assert!(about == About::Labels && error.contains("nothing is drawn inside of the image"), "{error}");
        let (about, error) = read(reader(0.5), 0);
        assert!(about == About::Labels && error.contains("0.5 is no label"), "{error}");
        let (about, error) = read(reader(1.0), 1);
        assert!(about == About::Image && error.contains("level 1"), "{error}");
        assert_eq!(why_by_parts(image.levels(), 1, None), None);
        let why = why_by_parts(image.levels(), 1, Some(Budget::new(1000).unwrap())).unwrap();
        assert!(why.contains("more than 1000"), "{why}");
    }

    #[test]
    fn parts_are_scaled_by_what_was_measured_and_other_images_by_themselves() {
        let mut drawn = LabelImage::from_elem((4, 4), -1);
        drawn[[1, 1]] = 1;
        let labels = SparseLabels::from_signed(drawn).unwrap();
        let image = Image::F32(Array3::from_shape_fn((4, 4, 1), |(y, x, _)| (4 * y + x) as f32));
        let data = Dataset::new(vec![image.clone(), image.clone()], vec![labels.clone(), labels]).unwrap();
        let whole = Percentiles { low: vec![0.0], high: vec![150.0] };
        let how = Normalization::default();
        let found = scaled(&data, &[Some(&whole), None], how).unwrap();
        assert!((found.images()[0].to_f32()[[3, 3, 0]] - 0.1).abs() < 1e-6);
        assert_eq!(found.images()[1], Image::F32(how.apply(&image).unwrap()));
        assert!(scaled(&data, &[None], how).is_err());
    }
}
