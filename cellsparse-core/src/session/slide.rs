//! Large images of a project, of which parts are read where they are looked at.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::learner::Window;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::large::LARGE;
use crate::model::Normalization;
use crate::raster::regions::{Extent, Region, RegionReader};
use crate::raster::{Image, Percentiles, ReadLimits, ReadOptions, is_zarr_folder, open_regions};

/// Bytes of decoded strips and tiles that are kept.
const KEPT_BYTES: usize = 64 << 20;

/// Bytes of the labels of a pixel: all are held of an image that is drawn on.
const LABEL_BYTES: usize = size_of::<i32>();

/// Side of the part that is read of an image when it is added, to see that it can be.
const TRIED: usize = 64;

/// A large image, one part of which is read at a time.
pub struct Slide {
    reader: Mutex<Box<dyn RegionReader>>,
    levels: Vec<Extent>,
    channels: usize,
    pixel_size: Option<[f64; 2]>,
    percentiles: Mutex<Option<(Normalization, Percentiles)>>,
}

impl std::fmt::Debug for Slide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slide").field("levels", &self.levels).field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl Slide {
    /// The image in a file when it is one of which parts are read: of a kind that can be, with more than [`LARGE`] pixels. Anything
    /// that cannot be opened is left to those who read it whole and say why.
    pub(super) fn open(path: &Path, channels: Option<&[usize]>, limits: &ReadLimits) -> Option<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        if !matches!(ending.as_deref(), Some("tif" | "tiff" | "svs" | "btf")) && !is_zarr_folder(path) {
            return None;
        }
        let channels = channels.map(|channels| channels.iter().map(|channel| channel + 1).collect());
        let reader = open_regions(path, &ReadOptions { channels, ..ReadOptions::from(*limits) }, KEPT_BYTES).ok()?;
        let slide = Self::of(reader);
        (slide.pixels() > LARGE).then_some(slide)
    }

    /// An image that is read by parts.
    pub fn of(reader: Box<dyn RegionReader>) -> Self {
        let (levels, channels, pixel_size) = (reader.levels().to_vec(), reader.channels(), reader.pixel_size());
        Self { reader: Mutex::new(reader), levels, channels, pixel_size, percentiles: Mutex::default() }
    }

    /// Rows, columns, channels.
    pub fn shape(&self) -> [usize; 3] {
        let Extent { height, width } = self.levels.first().copied().unwrap_or(Extent { height: 0, width: 0 });
        [height, width, self.channels]
    }

    fn pixels(&self) -> usize {
        let [rows, columns, _] = self.shape();
        rows.saturating_mul(columns)
    }

    /// Refuses an image that is too large to be drawn on, or of which a part cannot be read.
    pub(super) fn check(&self, limits: &ReadLimits) -> Result<()> {
        let [rows, columns, _] = self.shape();
        let most = limits.decoded_bytes / LABEL_BYTES;
        if self.pixels() > most {
            return Err(Error::Limit(format!(
                "an image of {rows} x {columns} pixels; of images up to {:.0} megapixels there is memory for what is drawn: draw on \
                 this one in QuPath, export its annotations as GeoJSON and train from the file and them, or export a part of it or a \
                 smaller level",
                most as f64 / 1e6
            )));
        }
        let part = Region { top: 0, left: 0, height: TRIED.min(rows), width: TRIED.min(columns) };
        self.read(part, 0)?.check()
    }

    /// The percentiles of the whole image, which are measured once.
    ///
    /// # Errors
    /// As [`Normalization::measure`].
    pub fn percentiles(&self, how: Normalization, cancel: &CancelToken) -> Result<Percentiles> {
        let mut known = self.percentiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((measured, percentiles)) = &*known
            && *measured == how
        {
            return Ok(percentiles.clone());
        }
        let found = how.measure(self, 0, cancel)?;
        *known = Some((how, found.clone()));
        Ok(found)
    }

    /// A part with scaled intensities.
    pub(super) fn scaled(&self, window: Window, how: Normalization, cancel: &CancelToken) -> Result<Image> {
        let ([top, bottom], [left, right]) = (window.rows, window.columns);
        let part = self.read(Region { top, left, height: bottom - top, width: right - left }, 0)?;
        Ok(Image::F32(Normalization::apply_measured(&self.percentiles(how, cancel)?, &part)?))
    }
}

impl RegionReader for Slide {
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
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).read(region, level)
    }
}
