//! Images that are read part by part, because they are larger than the memory.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use ndarray::s;

use super::image::Image;
use crate::error::{Error, Result, counted};

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Rows and columns of an image at one resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// An image of which any part can be read, at one or several resolutions.
///
/// A reader is asked by one thread at a time in an order that goes from row to row of parts; parts overlap.
pub trait RegionReader: Send + Sync {
    /// Sizes of the resolutions, the largest first; at least one.
    fn levels(&self) -> &[Extent];

    /// Channels of every part.
    fn channels(&self) -> usize;

    /// Micrometres per pixel `[y, x]` of level 0, where it is known.
    fn pixel_size(&self) -> Option<[f64; 2]> {
        None
    }

    /// What was left out or is odd, a clause each.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// What the samples that were read so far showed, a clause each, such as numbers that were rounded. Complete after the last
    /// part; [`notes`](Self::notes) are known before the first.
    fn findings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The samples `[height, width, C]` under a region of a level, in one sample type for all regions.
    ///
    /// # Errors
    /// [`Error::Config`] for a region that does not lie in the level; whatever the source of the pixels reports.
    fn read(&self, region: Region, level: usize) -> Result<Image>;
}

impl Region {
    /// All of a level.
    pub fn whole(extent: Extent) -> Self {
        Self { top: 0, left: 0, height: extent.height, width: extent.width }
    }

    /// One past the last row.
    pub fn bottom(&self) -> usize {
        self.top + self.height
    }

    /// One past the last column.
    pub fn right(&self) -> usize {
        self.left + self.width
    }

    /// Whether a pixel lies in it.
    pub fn contains(&self, [y, x]: [usize; 2]) -> bool {
        (self.top..self.bottom()).contains(&y) && (self.left..self.right()).contains(&x)
    }

    /// Whether it shares a pixel with another one.
    pub fn meets(&self, other: &Self) -> bool {
        self.top < other.bottom() && other.top < self.bottom() && self.left < other.right() && other.left < self.right()
    }

    /// The smallest region around two.
    pub fn joined(self, other: Self) -> Self {
        let (top, left) = (self.top.min(other.top), self.left.min(other.left));
        let (bottom, right) = (self.bottom().max(other.bottom()), self.right().max(other.right()));
        Self { top, left, height: bottom - top, width: right - left }
    }

    /// With so many pixels more on every side, as far as the level has them.
    pub fn grown(&self, by: usize, within: Extent) -> Self {
        let (top, left) = (self.top.saturating_sub(by), self.left.saturating_sub(by));
        let bottom = self.bottom().saturating_add(by).min(within.height);
        let right = self.right().saturating_add(by).min(within.width);
        Self { top, left, height: bottom.saturating_sub(top), width: right.saturating_sub(left) }
    }

    /// Refuses a region without pixels, or one that reaches out of its level.
    ///
    /// # Errors
    /// [`Error::Config`] with both.
    pub fn check(&self, levels: &[Extent], level: usize) -> Result<()> {
        let Some(extent) = levels.get(level) else {
            return Err(Error::Config(format!(
                "level {level} was asked for and the image has {}, counted from 0",
                levels.len()
            )));
        };
        let fits =
            |begin: usize, size: usize, of: usize| size > 0 && begin.checked_add(size).is_some_and(|end| end <= of);
        if fits(self.top, self.height, extent.height) && fits(self.left, self.width, extent.width) {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the part {self} of level {level}, which has {} rows and {} columns",
            extent.height, extent.width
        )))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} x {} pixels at row {}, column {}", self.height, self.width, self.top, self.left)
    }
}

/// An image in memory as one that is read by parts.
#[derive(Debug, Clone)]
pub struct ImageRegions {
    image: Image,
    extent: [Extent; 1],
    pixel_size: Option<[f64; 2]>,
    notes: Vec<String>,
}

impl ImageRegions {
    /// All of an image, with the size of its pixels `[y, x]` in micrometres if it is known.
    ///
    /// # Errors
    /// [`Error::Image`] for an image without pixels or with samples that are not finite.
    pub fn new(image: Image, pixel_size: Option<[f64; 2]>) -> Result<Self> {
        image.check()?;
        let extent = [Extent { height: image.height(), width: image.width() }];
        Ok(Self { image, extent, pixel_size, notes: Vec::new() })
    }

    /// The same with what is to be said of it, a clause each.
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }
}

impl RegionReader for ImageRegions {
    fn levels(&self) -> &[Extent] {
        &self.extent
    }

    fn channels(&self) -> usize {
        self.image.channels()
    }

    fn pixel_size(&self) -> Option<[f64; 2]> {
        self.pixel_size
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        region.check(&self.extent, level)?;
        Ok(part_of(&self.image, region))
    }
}

/// The samples of a part of an image, which are not copied when it is all of it.
///
/// # Errors
/// [`Error::Config`] for a part that lies outside.
pub fn cut(image: &Image, part: Region) -> Result<Cow<'_, Image>> {
    let (height, width, _) = image.shape();
    part.check(&[Extent { height, width }], 0)?;
    if [part.height, part.width] == [height, width] {
        return Ok(Cow::Borrowed(image));
    }
    Ok(Cow::Owned(part_of(image, part)))
}

/// The samples of a part that lies within.
fn part_of(image: &Image, part: Region) -> Image {
    let window = s![part.top..part.bottom(), part.left..part.right(), ..];
    match image {
        Image::U8(pixels) => Image::U8(pixels.slice(window).to_owned()),
        Image::U16(pixels) => Image::U16(pixels.slice(window).to_owned()),
        Image::F32(pixels) => Image::F32(pixels.slice(window).to_owned()),
    }
}

/// An image whose parts a function makes: `read(region, level)` gives the samples `[height, width, C]`.
pub struct CallbackRegions<F> {
    levels: Vec<Extent>,
    channels: usize,
    pixel_size: Option<[f64; 2]>,
    read: F,
}

impl<F: Fn(Region, usize) -> Result<Image> + Send + Sync> CallbackRegions<F> {
    /// An image of these resolutions, the largest first, and so many channels.
    ///
    /// # Errors
    /// [`Error::Image`] for an image without pixels, [`Error::Config`] for levels that do not get smaller.
    pub fn new(levels: Vec<Extent>, channels: usize, pixel_size: Option<[f64; 2]>, read: F) -> Result<Self> {
        if levels.is_empty() || channels == 0 || levels.iter().any(|level| level.height == 0 || level.width == 0) {
            return Err(Error::Image(format!(
                "an image of {channels} channels with the levels {levels:?}; it needs a pixel at every level"
            )));
        }
        if levels.windows(2).any(|pair| pair[1].height > pair[0].height || pair[1].width > pair[0].width) {
            return Err(Error::Config(format!("the levels {levels:?}; the largest comes first")));
        }
        Ok(Self { levels, channels, pixel_size, read })
    }
}

impl<F: Fn(Region, usize) -> Result<Image> + Send + Sync> RegionReader for CallbackRegions<F> {
    fn levels(&self) -> &[Extent] {
        &self.levels
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn pixel_size(&self) -> Option<[f64; 2]> {
        self.pixel_size
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        region.check(&self.levels, level)?;
        let image = (self.read)(region, level)?;
        if image.shape() != (region.height, region.width, self.channels) {
            let (height, width, channels) = image.shape();
            return Err(Error::Image(format!(
                "the part {region} came as {height} x {width} pixels with {}; {} were expected",
                counted(channels, "channel"),
                self.channels
            )));
        }
        image.check().map_err(|error| Error::Image(format!("in the part {region}: {}", error.message())))?;
        Ok(image)
    }
}

/// Which resolution of an image.
///
/// As text a number from 0 on, or micrometres per pixel like `0.5um`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Level {
    /// By its number, 0 for the largest.
    Number(usize),
    /// The smallest one whose pixels are not larger than so many micrometres.
    PixelSize(f64),
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = text.strip_suffix("um").or_else(|| text.strip_suffix("µm"));
        let level = match number {
            Some(size) => {
                size.trim().parse().ok().filter(|size: &f64| size.is_finite() && *size > 0.0).map(Level::PixelSize)
            }
            None => text.parse().ok().map(Level::Number),
        };
        level.ok_or_else(|| "expected a level from 0 on, or micrometres per pixel like 0.5um".to_owned())
    }
}

impl Level {
    /// Its number in an image.
    ///
    /// # Errors
    /// [`Error::Config`] for an image that has no such level, or does not tell how large its pixels are.
    pub fn of(self, reader: &dyn RegionReader) -> Result<usize> {
        let level = match self {
            Level::Number(level) => level,
            Level::PixelSize(size) => level_of_pixel_size(reader, size)?,
        };
        match reader.levels().len() {
            count if level < count => Ok(level),
            count => {
                Err(Error::Config(format!("level {level} was asked for and the image has {count}, counted from 0")))
            }
        }
    }
}

/// The level whose pixels have about that many micrometres: the smallest one whose pixels are not larger, by a tenth at most.
///
/// # Errors
/// [`Error::Config`] when the image does not tell the size of its pixels.
pub fn level_of_pixel_size(reader: &dyn RegionReader, micrometres: f64) -> Result<usize> {
    let Some(size) = reader.pixel_size() else {
        return Err(Error::Config(
            "the image does not tell how large its pixels are; choose a level by its number".into(),
        ));
    };
    let levels = reader.levels();
    let side = |level: usize| (size[0] * size[1]).sqrt() * factor(levels, level);
    Ok((0..levels.len()).rev().find(|&level| side(level) <= 1.1 * micrometres).unwrap_or(0))
}

/// How many pixels of level 0 a pixel of a level is wide.
pub fn factor(levels: &[Extent], level: usize) -> f64 {
    match (levels.first(), levels.get(level)) {
        (Some(first), Some(other)) => {
            (first.width as f64 / other.width as f64 * (first.height as f64 / other.height as f64)).sqrt()
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn parts_of_images_and_of_callbacks() {
        let pixels = Array3::from_shape_fn((5, 7, 2), |(y, x, c)| (y * 20 + x * 2 + c) as u8);
        let reader = ImageRegions::new(Image::U8(pixels.clone()), None).unwrap();
        let region = Region { top: 1, left: 2, height: 3, width: 4 };
        assert_eq!(reader.read(region, 0).unwrap(), Image::U8(pixels.slice(s![1..4, 2..6, ..]).to_owned()));
        let image = Image::U8(pixels.clone());
        assert_eq!(*cut(&image, region).unwrap(), reader.read(region, 0).unwrap());
        assert!(matches!(cut(&image, Region { top: 0, left: 0, height: 5, width: 7 }), Ok(Cow::Borrowed(_))));
        assert!(matches!(cut(&image, Region { top: usize::MAX, ..region }), Err(Error::Config(_))));
        for (wrong, level) in [
            (Region { height: 5, ..region }, 0),
            (Region { width: 0, ..region }, 0),
            (Region { left: usize::MAX, ..region }, 0),
            (region, 1),
        ] {
            assert!(matches!(reader.read(wrong, level), Err(Error::Config(_))), "{wrong}");
        }
        let levels = vec![Extent { height: 8, width: 8 }, Extent { height: 4, width: 4 }];
        let made = |region: Region, level: usize| {
            Ok(Image::U8(Array3::from_elem((region.height, region.width, 1), level as u8)))
        };
        let reader = CallbackRegions::new(levels.clone(), 1, Some([0.5, 0.5]), made).unwrap();
        assert_eq!(reader.read(region, 1).unwrap_err().kind(), crate::error::ErrorKind::Config);
        assert_eq!(reader.read(region, 0).unwrap().shape(), (3, 4, 1));
        assert_eq!([0.3, 0.5, 0.95, 1.0, 9.0].map(|um| level_of_pixel_size(&reader, um).unwrap()), [0, 0, 1, 1, 1]);
        let other = CallbackRegions::new(levels, 3, None, made).unwrap();
        assert!(other.read(region, 0).unwrap_err().to_string().contains("with 1 channel; 3 were expected"));
        assert!(level_of_pixel_size(&other, 1.0).is_err());
    }

    #[test]
    fn levels_are_numbers_or_sizes() {
        assert_eq!("0".parse(), Ok(Level::Number(0)));
        assert_eq!("0.5um".parse(), Ok(Level::PixelSize(0.5)));
        assert_eq!("1 µm".parse(), Ok(Level::PixelSize(1.0)));
        for wrong in ["", "-1", "0.5", "um", "-1um", "infum", "1mm"] {
            assert!(wrong.parse::<Level>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn regions_grow_as_far_as_the_level_goes() {
        let extent = Extent { height: 10, width: 12 };
        let region = Region { top: 3, left: 8, height: 2, width: 3 };
        assert_eq!(region.grown(2, extent), Region { top: 1, left: 6, height: 6, width: 6 });
        assert!(region.contains([4, 10]) && !region.contains([5, 10]) && region.meets(&Region::whole(extent)));
        let other = Region { top: 5, left: 8, height: 1, width: 1 };
        assert!(!region.meets(&other));
        assert_eq!(region.joined(other), Region { top: 3, left: 8, height: 3, width: 3 });
    }
}
