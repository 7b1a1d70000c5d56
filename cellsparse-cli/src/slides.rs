//! Training on images that do not fit into the memory: when a file is one, and what is said of it.

use std::path::Path;

use cellsparse_core::control::CancelToken;
use cellsparse_core::formats::annotation_files::AnnotationOptions;
use cellsparse_core::large::{About, DrawnOptions, DrawnParts, LargeLabels, read_drawn, why_by_parts};
use cellsparse_core::model::Normalization;
use cellsparse_core::raster::regions::{Level, RegionReader};
use cellsparse_core::raster::{Percentiles, ReadOptions, open_regions};
use cellsparse_core::{Budget, Error, Result};

use crate::large::{KEPT_BYTES, may_be_large};
use crate::note;

/// A large image of a training.
pub struct Slide {
    reader: Box<dyn RegionReader>,
    level: usize,
    /// Why it is not read whole.
    why: String,
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
        if !may_be_large(image) {
            return Ok(None);
        }
        let Ok(reader) = open_regions(image, read, KEPT_BYTES) else { return Ok(None) };
        Ok(why_by_parts(reader.levels(), reader.channels(), memory).map(|why| Self { reader, level: 0, why }))
    }

    /// Reads the parts around what was drawn, and says how many.
    ///
    /// # Errors
    /// With the file that it is about: labels that do not fit the image or of which nothing lies in it, and whatever reading either
    /// reports.
    pub fn read<'a>(
        &self,
        [image, labels]: [&'a Path; 2],
        annotations: &AnnotationOptions,
        options: &DrawnOptions,
    ) -> std::result::Result<DrawnParts, (&'a Path, Error)> {
        let at = |(about, error): (About, Error)| {
            let file = if about == About::Image { image } else { labels };
            (file, error.in_file(file))
        };
        let drawn = LargeLabels::open(labels, annotations, self.reader.levels(), self.level);
        let drawn = drawn.map_err(|error| at((About::Labels, error)))?;
        let found = read_drawn(self.reader.as_ref(), self.level, &drawn, options, &CancelToken::new()).map_err(at)?;
        note(&format!("{}: {}", image.display(), found.note(&self.why)));
        Ok(found)
    }

    /// What is odd about the image, as far as it was read, a clause each.
    pub fn notes(&self) -> Vec<String> {
        [self.reader.notes(), &self.reader.findings()].concat()
    }

    /// The percentiles of the whole image, by which its parts are scaled.
    pub fn percentiles(&self, how: Normalization, cancel: &CancelToken) -> Result<Percentiles> {
        how.measure(self.reader.as_ref(), self.level, cancel)
    }
}
