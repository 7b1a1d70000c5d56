//! Training on images that do not fit into the memory: what is read of them is what was drawn, with its surroundings.

use std::path::{Path, PathBuf};

use cellsparse_core::annotations::LabelSource;
use cellsparse_core::control::CancelToken;
use cellsparse_core::error::counted;
use cellsparse_core::formats::annotation_files::{
    AnnotationOptions, DrawnShapes, read_annotations, read_shapes, source_of_picture,
};
use cellsparse_core::large::parts_around;
use cellsparse_core::model::Normalization;
use cellsparse_core::raster::regions::{Extent, Level, Region, RegionReader, factor};
use cellsparse_core::raster::{
    Percentiles, RawLabels, ReadLimits, ReadOptions, is_zarr_folder, open_label_regions, open_regions,
};
use cellsparse_core::{Budget, Error, Image, LabelImage, Result};
use ndarray::{Axis, s};

use crate::large::{KEPT_BYTES, PYRAMID};
use crate::note;

/// Bytes that a training takes for a pixel of its images, with labels and what is made of both.
const BYTES_OF_A_PIXEL: u64 = 64;

/// Bytes of a sample, as it is stored and scaled.
const BYTES_OF_A_SAMPLE: u64 = 12;

/// Pixels around what was drawn, at least: a patch of the training.
const MARGIN: usize = 224;

/// Sides of median drawn shapes around what was drawn, at least.
const CELLS: usize = 3;

/// Rows and columns of label images that are looked at together.
const BLOCK: usize = 1024;

/// Whole numbers below this one are exact in what readers of large images give.
const EXACT: f32 = 16_777_216.0;

/// A large image of a training.
pub struct Slide {
    reader: Box<dyn RegionReader>,
    level: usize,
    /// Why it is not read whole.
    why: String,
}

/// What is trained on of a large image.
pub struct SlideParts {
    /// Parts with their labels, in which cells may be cut by the sides of the part.
    pub parts: Vec<(Region, Image, LabelSource)>,
    /// Rows and columns of the image that they are parts of.
    pub extent: Extent,
    /// Micrometres per pixel `[y, x]`.
    pub pixel_size: Option<[f64; 2]>,
    /// What was not used, in half sentences.
    pub unused: Vec<String>,
}

impl Slide {
    /// The image of a file when it is to be read by parts: one of which a level was chosen, a large pyramid, or one that does not fit
    /// into the memory.
    ///
    /// # Errors
    /// When a level was chosen and the image has none such, or cannot be opened. Otherwise, an image that cannot be opened is left to
    /// those that read it whole, who say why.
    pub fn open(
        image: &Path,
        read: &ReadOptions,
        level: Option<Level>,
        memory: Option<Budget>,
    ) -> Result<Option<Self>> {
        if let Some(level) = level {
            let reader = open_regions(image, read, KEPT_BYTES)?;
            let level = level.of(reader.as_ref()).map_err(|error| error.in_file(image))?;
            return Ok(Some(Self { reader, level, why: "since a level was chosen".into() }));
        }
        let extension = image.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        let is_large_kind = matches!(extension.as_deref(), Some("tif" | "tiff" | "svs" | "btf"));
        if !is_large_kind && !is_zarr_folder(image) {
            return Ok(None);
        }
        let Ok(reader) = open_regions(image, read, KEPT_BYTES) else { return Ok(None) };
        let extent = reader.levels()[0];
        let pixels = extent.height.saturating_mul(extent.width);
        let samples = pixels.saturating_mul(reader.channels());
        let takes = (pixels as u64).saturating_mul(BYTES_OF_A_PIXEL);
        let takes = takes.saturating_add((samples as u64).saturating_mul(BYTES_OF_A_SAMPLE));
        let allowed = memory.unwrap_or_else(Budget::of_free_memory);
        let why = if takes > allowed.left() || samples.saturating_mul(2) > ReadLimits::default().decoded_bytes {
            format!("since all of it would take more than {allowed} of memory")
        } else if reader.levels().len() > 1 && pixels > PYRAMID {
            "since it is a large pyramid".into()
        } else {
            return Ok(None);
        };
        Ok(Some(Self { reader, level: 0, why }))
    }

    /// Reads the parts around what was drawn, and says how many. A patch of the training is `patch` pixels wide.
    ///
    /// # Errors
    /// With the file that it is about: labels that do not fit the image or of which nothing lies in it, and whatever reading either
    /// reports.
    pub fn read<'a>(
        &self,
        [image, labels]: [&'a Path; 2],
        options: &AnnotationOptions,
        patch: Option<usize>,
        memory: Option<Budget>,
    ) -> std::result::Result<SlideParts, (&'a Path, Error)> {
        let of_labels = |error: Error| (labels, error.in_file(labels));
        let extent = self.reader.levels()[self.level];
        let drawn = Drawn::open(labels, options, self.reader.levels(), self.level).map_err(of_labels)?;
        let bounds = drawn.bounds().map_err(of_labels)?;
        let mut sides: Vec<usize> = bounds.iter().map(|bounds| bounds.height.max(bounds.width)).collect();
        sides.sort_unstable();
        let margin = patch.unwrap_or(MARGIN).max(CELLS * sides.get(sides.len() / 2).copied().unwrap_or(0).min(BLOCK));
        let regions = parts_around(&bounds, margin, extent);
        if regions.is_empty() {
            let size = format!("{} x {} pixels", extent.height, extent.width);
            return Err(of_labels(Error::Labels(format!("nothing is drawn inside of the image, which has {size}"))));
        }
        let all = regions.len();
        let regions = self.fitting(regions, memory).map_err(|error| (image, error.in_file(image)))?;
        let pixels: usize = regions.iter().map(|part| part.height * part.width).sum();
        let of_all = if regions.len() < all {
            format!(" of {all}, spread evenly, for which there is memory")
        } else {
            String::new()
        };
        note(&format!(
            "{}: {}{of_all} around what was drawn, {:.1} of {:.0} megapixels, {}, {}; intensities are scaled by those of the \
             whole image",
            image.display(),
            counted(regions.len(), "part"),
            pixels as f64 / 1e6,
            extent.height as f64 * extent.width as f64 / 1e6,
            if regions.len() == 1 { "is read" } else { "are read" },
            self.why
        ));
        let mut parts = Vec::new();
        for region in regions {
            let pixels = self.reader.read(region, self.level).map_err(|error| (image, error.in_file(image)))?;
            parts.push((region, pixels, drawn.labels(region).map_err(of_labels)?));
        }
        let scale = factor(self.reader.levels(), self.level);
        let pixel_size = self.reader.pixel_size().map(|size| size.map(|side| side * scale));
        Ok(SlideParts { parts, extent, pixel_size, unused: drawn.unused() })
    }

    /// What is odd about the image, as far as it was read, a clause each.
    pub fn notes(&self) -> Vec<String> {
        [self.reader.notes(), &self.reader.findings()].concat()
    }

    /// As many of the parts, spread evenly, as there is memory for.
    fn fitting(&self, regions: Vec<Region>, memory: Option<Budget>) -> Result<Vec<Region>> {
        let allowed = memory.unwrap_or_else(Budget::of_free_memory);
        let each = BYTES_OF_A_PIXEL + BYTES_OF_A_SAMPLE * self.reader.channels() as u64;
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

    /// The percentiles of the whole image, by which its parts are scaled.
    pub fn percentiles(&self, how: Normalization, cancel: &CancelToken) -> Result<Percentiles> {
        how.measure(self.reader.as_ref(), self.level, cancel)
    }
}

/// What was drawn in a large image.
enum Drawn {
    /// Shapes in the pixels of level 0, and how wide a pixel of the level is in those.
    Shapes(DrawnShapes, f64),
    /// A label image in a file of that path, with a level of the same size.
    Labels(PathBuf, Box<dyn RegionReader>, usize),
    /// A label image that cannot be read by parts.
    Whole(LabelSource),
}

impl Drawn {
    fn open(path: &Path, options: &AnnotationOptions, levels: &[Extent], level: usize) -> Result<Self> {
        let size = |extent: Extent| format!("{} x {}", extent.height, extent.width);
        let refuse = |found: String| {
            Error::Labels(format!(
                "the image has {} pixels (rows x columns) and the annotations are for {found}",
                size(levels[0])
            ))
        };
        if let Some(shapes) = read_shapes(path, options)? {
            return match shapes.size() {
                Some((height, width)) if (Extent { height, width }) != levels[0] => {
                    Err(refuse(size(Extent { height, width })))
                }
                _ => Ok(Drawn::Shapes(shapes, factor(levels, level))),
            };
        }
        let read = ReadOptions { plane: options.plane, frame: options.frame, ..ReadOptions::default() };
        let reader = match open_label_regions(path, &read, KEPT_BYTES) {
            Ok(reader) => reader,
            // Arrays of NumPy, for example. What is wrong with a picture is told best by the first reader.
            Err(error) => {
                let Ok(whole) = read_annotations(path, options) else { return Err(error) };
                let (height, width) = whole.labels.shape();
                let found = Extent { height, width };
                return if found == levels[level] { Ok(Drawn::Whole(whole.labels)) } else { Err(refuse(size(found))) };
            }
        };
        let Some(same) = reader.levels().iter().position(|extent| *extent == levels[level]) else {
            let found: Vec<String> = reader.levels().iter().map(|extent| size(*extent)).collect();
            let wanted = if level == 0 { String::new() } else { format!(", level {level} {}", size(levels[level])) };
            return Err(refuse(format!("{}{wanted}: none of its levels fits", found.join(", "))));
        };
        Ok(Drawn::Labels(path.to_path_buf(), reader, same))
    }

    /// Where something was drawn, in the pixels of the level.
    fn bounds(&self) -> Result<Vec<Region>> {
        match self {
            Drawn::Shapes(shapes, scale) => {
                let place = |value: f64| (value.max(0.0) / scale) as usize;
                let region = |[left, top, right, bottom]: &[f64; 4]| {
                    let (top, left) = (place(*top), place(*left));
                    let size = |end: f64, begin: usize| ((end.max(0.0) / scale).ceil() as usize).saturating_sub(begin);
                    Region { top, left, height: size(*bottom, top), width: size(*right, left) }
                };
                Ok(shapes.bounds().iter().map(region).collect())
            }
            Drawn::Labels(_, reader, level) => {
                bounds_in(reader.levels()[*level], |block| numbers(reader.read(block, *level)?))
            }
            Drawn::Whole(labels) => {
                let (height, width) = labels.shape();
                bounds_in(Extent { height, width }, |block| Ok(cut_out(labels, block).numbers()))
            }
        }
    }

    fn labels(&self, part: Region) -> Result<LabelSource> {
        Ok(match self {
            Drawn::Shapes(shapes, scale) => LabelSource::Drawn(shapes.draw(part, *scale)?),
            Drawn::Labels(path, reader, level) => {
                let values = numbers(reader.read(part, *level)?)?;
                let values = if values.iter().any(|value| *value < 0) {
                    RawLabels::Signed(values)
                } else {
                    RawLabels::Unsigned(values.mapv(|value| value as u32))
                };
                source_of_picture(path, values)
            }
            Drawn::Whole(labels) => cut_out(labels, part),
        })
    }

    fn unused(&self) -> Vec<String> {
        match self {
            Drawn::Shapes(shapes, _) => shapes.unused(),
            Drawn::Labels(..) | Drawn::Whole(_) => Vec::new(),
        }
    }
}

/// The whole numbers of a part of a label image.
fn numbers(part: Image) -> Result<LabelImage> {
    let whole = |value: &f32| value.fract() == 0.0 && value.abs() < EXACT;
    let plane = part.to_f32().remove_axis(Axis(2));
    match plane.iter().find(|value| !whole(value)) {
        Some(value) => Err(Error::Labels(format!(
            "the value {value} is no label; whole numbers below {EXACT} are read of large label images"
        ))),
        None => Ok(plane.mapv(|value| value as i32)),
    }
}

/// The labels under a region.
fn cut_out(labels: &LabelSource, region: Region) -> LabelSource {
    labels.part(region.top..region.bottom(), region.left..region.right())
}

/// Where in a label image there are numbers above 0, by blocks that `read` gives.
fn bounds_in(extent: Extent, read: impl Fn(Region) -> Result<LabelImage>) -> Result<Vec<Region>> {
    let mut bounds = Vec::new();
    for top in (0..extent.height).step_by(BLOCK) {
        for left in (0..extent.width).step_by(BLOCK) {
            let (height, width) = (BLOCK.min(extent.height - top), BLOCK.min(extent.width - left));
            let block = Region { top, left, height, width };
            bounds.extend(drawn_in(&read(block)?, block));
        }
    }
    Ok(bounds)
}

/// Where in a block of a label image there are numbers above 0: of each square of an eighth of the block that has some, their bounds.
fn drawn_in(values: &LabelImage, block: Region) -> Vec<Region> {
    let side = BLOCK / 8;
    let (height, width) = values.dim();
    let mut found = Vec::new();
    for top in (0..height).step_by(side) {
        for left in (0..width).step_by(side) {
            let square = values.slice(s![top..(top + side).min(height), left..(left + side).min(width)]);
            let mut bounds: Option<Region> = None;
            for ((y, x), _) in square.indexed_iter().filter(|(_, value)| **value > 0) {
                let pixel = Region { top: block.top + top + y, left: block.left + left + x, height: 1, width: 1 };
                bounds = Some(bounds.map_or(pixel, |bounds| bounds.joined(pixel)));
            }
            found.extend(bounds);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn what_is_drawn_is_found_by_squares() {
        let mut labels = LabelImage::zeros((300, 200));
        labels[[10, 20]] = 1;
        labels[[12, 25]] = 2;
        labels[[299, 199]] = 7;
        let block = Region { top: 1024, left: 0, height: 300, width: 200 };
        let found = drawn_in(&labels, block);
        assert_eq!(
            found,
            [Region { top: 1034, left: 20, height: 3, width: 6 }, Region { top: 1323, left: 199, height: 1, width: 1 }]
        );
        assert!(numbers(Image::from_gray(array![[0.5]])).is_err());
    }
}
