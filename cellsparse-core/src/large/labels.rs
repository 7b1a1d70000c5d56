//! What was drawn in a large image, of which parts are looked at.

use std::path::{Path, PathBuf};

use ndarray::{Axis, s};

use super::drawn::parts_around;
use crate::annotations::LabelSource;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::formats::annotation_files::{
    AnnotationOptions, DrawnShapes, read_annotations, read_shapes, source_of_picture,
};
use crate::raster::regions::{Extent, Region, RegionReader, factor};
use crate::raster::{Image, LabelImage, RawLabels, ReadOptions, open_label_regions};

/// Bytes of decoded strips and tiles of a label image that are kept.
const KEPT_BYTES: usize = 128 << 20;

/// Pixels around what was drawn, at least: a patch of the training.
const MARGIN: usize = 224;

/// Sides of median drawn shapes around what was drawn, at least.
const CELLS: usize = 3;

/// Rows and columns of label images that are looked at together.
const BLOCK: usize = 1024;

/// Whole numbers below this one are exact in what readers of large images give.
const EXACT: f32 = 16_777_216.0;

/// The annotations of a large image, for one of its levels.
pub struct LargeLabels {
    kind: Kind,
    extent: Extent,
}

enum Kind {
    /// Shapes in the pixels of level 0, and how wide a pixel of the level is in those.
    Shapes(DrawnShapes, f64),
    /// A level of a label image, and what its numbers are.
    Regions(Box<dyn RegionReader>, usize, Numbers),
    /// A label image that cannot be read by parts.
    Whole(LabelSource),
}

enum Numbers {
    /// Those of a file, which are signed where some are below 0.
    OfFile(PathBuf),
    Signed,
    Unsigned,
}

impl LargeLabels {
    /// The annotations in a file for an image with these `levels`, of which `level` is trained on: shapes in the pixels of level 0,
    /// or a label image of which one level has the size of that one. Label images without parts, such as arrays of NumPy, are read
    /// whole.
    ///
    /// # Errors
    /// [`Error::Labels`] for annotations of an image of another size, [`Error::Config`] for a level that the image does not have;
    /// what reading the file reports.
    pub fn open(path: impl AsRef<Path>, options: &AnnotationOptions, levels: &[Extent], level: usize) -> Result<Self> {
        let path = path.as_ref();
        let extent = extent_of(levels, level)?;
        if let Some(shapes) = read_shapes(path, options)? {
            return match shapes.size() {
                Some((height, width)) if (Extent { height, width }) != levels[0] => {
                    Err(other_size(levels[0], &size(Extent { height, width })))
                }
                _ => Ok(Self { kind: Kind::Shapes(shapes, factor(levels, level)), extent }),
            };
        }
        let read = ReadOptions { plane: options.plane, frame: options.frame, ..ReadOptions::default() };
        match open_label_regions(path, &read, KEPT_BYTES) {
            Ok(reader) => Self::of_level(reader, Numbers::OfFile(path.to_path_buf()), levels, level),
            // Arrays of NumPy, for example. What is wrong with a picture is told best by the first reader.
            Err(error) => {
                let Ok(whole) = read_annotations(path, options) else { return Err(error) };
                let (height, width) = whole.labels.shape();
                let found = Extent { height, width };
                if found != extent {
                    return Err(other_size(levels[0], &size(found)));
                }
                Ok(Self { kind: Kind::Whole(whole.labels), extent })
            }
        }
    }

    /// A label image that is read by parts, of which one level has the size of `level` of the image. `signed` says that its numbers
    /// are of a signed type, in which those below 0 mean unlabelled.
    ///
    /// # Errors
    /// [`Error::Labels`] for a label image of another size or of several channels, [`Error::Config`] for a level that the image does
    /// not have.
    pub fn of_regions(reader: Box<dyn RegionReader>, signed: bool, levels: &[Extent], level: usize) -> Result<Self> {
        if reader.channels() != 1 {
            return Err(Error::Labels(format!("the label image has {} channels; it must have 1", reader.channels())));
        }
        Self::of_level(reader, if signed { Numbers::Signed } else { Numbers::Unsigned }, levels, level)
    }

    fn of_level(reader: Box<dyn RegionReader>, numbers: Numbers, levels: &[Extent], level: usize) -> Result<Self> {
        let extent = extent_of(levels, level)?;
        let Some(same) = reader.levels().iter().position(|found| *found == extent) else {
            let found: Vec<String> = reader.levels().iter().map(|extent| size(*extent)).collect();
            let wanted = if level == 0 { String::new() } else { format!(", level {level} {}", size(extent)) };
            let found = format!("{}{wanted}: none of its levels fits", found.join(", "));
            return Err(other_size(levels[0], &found));
        };
        Ok(Self { kind: Kind::Regions(reader, same, numbers), extent })
    }

    /// The parts of the level that a training looks at: those around what was drawn, with a patch of `patch` pixels (by default 224)
    /// or three drawn cells on every side, whichever is more. See [`parts_around`].
    ///
    /// # Errors
    /// [`Error::Labels`] when nothing is drawn inside of the image, and for numbers that are no labels; [`Error::Cancelled`]; what
    /// reading reports.
    pub fn parts(&self, patch: Option<usize>, cancel: &CancelToken) -> Result<Vec<Region>> {
        around(&self.bounds(cancel)?, patch, self.extent)
    }

    /// The labels of a part.
    ///
    /// # Errors
    /// [`Error::Labels`] for numbers that are no labels, [`Error::Config`] for a part outside of the level; what reading reports.
    pub fn part(&self, part: Region) -> Result<LabelSource> {
        part.check(&[self.extent], 0)?;
        Ok(match &self.kind {
            Kind::Shapes(shapes, scale) => LabelSource::Drawn(shapes.draw(part, *scale)?),
            Kind::Regions(reader, level, known) => {
                let values = numbers(reader.read(part, *level)?)?;
                let below = values.iter().any(|value| *value < 0);
                let values = if below || matches!(known, Numbers::Signed) {
                    RawLabels::Signed(values)
                } else {
                    RawLabels::Unsigned(values.mapv(|value| value as u32))
                };
                match known {
                    Numbers::OfFile(path) => source_of_picture(path, values),
                    Numbers::Signed | Numbers::Unsigned => LabelSource::Values(values),
                }
            }
            Kind::Whole(labels) => cut_out(labels, part),
        })
    }

    /// What of a file is not used, in half sentences.
    pub fn unused(&self) -> Vec<String> {
        match &self.kind {
            Kind::Shapes(shapes, _) => shapes.unused(),
            Kind::Regions(..) | Kind::Whole(_) => Vec::new(),
        }
    }

    /// Where something was drawn, in the pixels of the level.
    fn bounds(&self, cancel: &CancelToken) -> Result<Vec<Region>> {
        match &self.kind {
            Kind::Shapes(shapes, scale) => {
                let place = |value: f64| (value.max(0.0) / scale) as usize;
                let region = |[left, top, right, bottom]: &[f64; 4]| {
                    let (top, left) = (place(*top), place(*left));
                    let size = |end: f64, begin: usize| ((end.max(0.0) / scale).ceil() as usize).saturating_sub(begin);
                    Region { top, left, height: size(*bottom, top), width: size(*right, left) }
                };
                Ok(shapes.bounds().iter().map(region).collect())
            }
            Kind::Regions(reader, level, _) => bounds_in(self.extent, |block| {
                cancel.check()?;
                numbers(reader.read(block, *level)?)
            }),
            Kind::Whole(labels) => bounds_in(self.extent, |block| Ok(cut_out(labels, block).numbers())),
        }
    }
}

/// The parts around what has those bounds.
fn around(bounds: &[Region], patch: Option<usize>, extent: Extent) -> Result<Vec<Region>> {
    let mut sides: Vec<usize> = bounds.iter().map(|bounds| bounds.height.max(bounds.width)).collect();
    sides.sort_unstable();
    let cells = CELLS * sides.get(sides.len() / 2).copied().unwrap_or(0).min(BLOCK);
    let parts = parts_around(bounds, patch.unwrap_or(MARGIN).max(cells), extent);
    if parts.is_empty() {
        let size = format!("{} x {} pixels", extent.height, extent.width);
        return Err(Error::Labels(format!("nothing is drawn inside of the image, which has {size}")));
    }
    Ok(parts)
}

/// The parts around drawn cells and drawn background in signed labels of a whole image.
pub(super) fn parts_of(labels: &LabelImage, patch: Option<usize>, cancel: &CancelToken) -> Result<Vec<Region>> {
    let (height, width) = labels.dim();
    let extent = Extent { height, width };
    let bounds = bounds_in(extent, |block| {
        cancel.check()?;
        let part = labels.slice(s![block.top..block.bottom(), block.left..block.right()]);
        Ok(part.mapv(|label| i32::from(label >= 0)))
    })?;
    around(&bounds, patch, extent)
}

/// The size of a level, which the image must have.
pub(super) fn extent_of(levels: &[Extent], level: usize) -> Result<Extent> {
    levels.get(level).copied().ok_or_else(|| {
        Error::Config(format!("level {level} was asked for and the image has {}, counted from 0", levels.len()))
    })
}

fn size(extent: Extent) -> String {
    format!("{} x {}", extent.height, extent.width)
}

fn other_size(image: Extent, found: &str) -> Error {
    Error::Labels(format!("the image has {} pixels (rows x columns) and the annotations are for {found}", size(image)))
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
    use ndarray::{Array2, array};

    use super::*;
    use crate::raster::regions::ImageRegions;

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

    #[test]
    fn numbers_of_a_signed_type_stay_signed_and_labels_of_another_size_are_refused() {
        let levels = [Extent { height: 40, width: 60 }, Extent { height: 20, width: 30 }];
        let regions = |height, width| -> Box<dyn RegionReader> {
            let mut values = Array2::<f32>::zeros((height, width));
            values[[3, 4]] = 5.0;
            Box::new(ImageRegions::new(Image::from_gray(values), None).unwrap())
        };
        let part = Region { top: 2, left: 3, height: 2, width: 2 };
        let signed = LargeLabels::of_regions(regions(40, 60), true, &levels, 0).unwrap();
        assert_eq!(signed.part(part).unwrap(), LabelSource::Values(RawLabels::Signed(array![[0, 0], [0, 5]])));
        let unsigned = LargeLabels::of_regions(regions(20, 30), false, &levels, 1).unwrap();
        assert_eq!(unsigned.part(part).unwrap(), LabelSource::Values(RawLabels::Unsigned(array![[0, 0], [0, 5]])));
        assert_eq!(
            unsigned.parts(Some(4), &CancelToken::new()).unwrap(),
            [Region { top: 0, left: 0, height: 8, width: 9 }]
        );
        let error = LargeLabels::of_regions(regions(20, 30), true, &levels, 0).err().unwrap().to_string();
        assert!(error.contains("40 x 60 pixels (rows x columns) and the annotations are for 20 x 30"), "{error}");
        assert!(LargeLabels::of_regions(regions(20, 30), true, &levels, 2).is_err());
    }
}
