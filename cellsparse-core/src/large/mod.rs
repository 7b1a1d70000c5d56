//! Images that are larger than the memory: segmented part by part, with the result of the whole.
//!
//! An image is read through a [`RegionReader`], at one of its levels. What a prediction takes from the whole image is taken once:
//! the percentiles of its intensities (exact up to 2^24 samples, of an even sample above), the size of its cells, the statistics
//! of ELEPHANT's group normalisation (of all tiles up to 64). Then:
//!
//! - StarDist's network runs tile by tile in the tiles of [`Model::predict`], and its candidates are suppressed as there: a
//!   candidate is decided when nothing unseen can change its fate. Every label is that of the whole image.
//! - Cellpose's and ELEPHANT's networks run on the tiles of [`Model::predict`], and the blended maps are those of the whole
//!   image bit for bit. The objects in them are found in parts of 1024 pixels that are looked at with a few cells around
//!   them; a part of which an object reaches that far is looked at again with more. Single pixels at the rims of objects may
//!   differ from the whole image's, since positions along flows and ties of the flooding are rounded by where a part begins.
//!
//! An object belongs to the part that holds its anchor: the middle of a star, the first pixel of a seed or of a cell. So none is
//! cut by a seam and none is found twice. Ids count as in the whole image, whatever the tiles and threads. What is done is
//! kept in a folder, from which a run that was ended goes on.

mod area;
mod assemble;
mod blocks;
mod by_need;
mod drawn;
mod labels;
mod outputs;
mod parts;
mod progress;
mod run;
mod sinks;
mod spool;
mod survivors;
mod training;

use std::path::PathBuf;

pub use self::area::Area;
pub use self::drawn::parts_around;
pub use self::labels::LargeLabels;
pub use self::outputs::sink_for;
pub use self::parts::{LargeGroup, LargePlan, keep_block};
pub use self::progress::{LargeProgress, Phase};
pub use self::sinks::{
    CsvSink, GeoJsonSink, LargeBlock, LargeShape, LargeSink, MemorySink, OwnObjects, PyramidSink, ZarrSink,
};
pub use self::training::{
    About, DrawnOptions, DrawnPart, DrawnParts, LARGE, Place, read_drawn, read_drawn_on, scaled, why_by_parts,
};
use crate::budget::bytes_of;
use crate::control::Flow;
use crate::error::Result;
use crate::model::{Model, PredictOptions};
use crate::raster::regions::RegionReader;

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod tests;

/// How to segment an image by parts.
#[derive(Debug, Clone)]
pub struct LargeOptions {
    /// As for an image in memory.
    pub predict: PredictOptions,
    /// The resolution that is segmented, 0 for the largest. Results are in its pixels.
    pub level: usize,
    /// Where objects are wanted; `None` means everywhere.
    pub area: Option<Area>,
    /// Leave out parts in which nothing as large as a cell stands out of the noise. Default true.
    pub skip_empty: bool,
    /// Where finished parts are kept; `None` means a temporary folder.
    pub folder: Option<PathBuf>,
    /// Go on from the finished parts in `folder`, if there are any. Without it, they are removed.
    pub resume: bool,
    /// What tells the image from others, such as its path with length and time; compared when a run goes on.
    pub image: String,
}

impl Default for LargeOptions {
    fn default() -> Self {
        Self {
            predict: PredictOptions::default(),
            level: 0,
            area: None,
            skip_empty: true,
            folder: None,
            resume: false,
            image: String::new(),
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LargeSummary {
    /// Objects found.
    pub objects: usize,
    /// Rows and columns of the level.
    pub shape: [usize; 2],
    /// Micrometres per pixel `[y, x]` of the level, if known.
    pub pixel_size: Option<[f64; 2]>,
    /// What a user should know of the result, one sentence each.
    pub notes: Vec<String>,
    /// The run had been finished before, and nothing was written.
    pub was_finished: bool,
}

impl Model {
    /// About how many bytes [`predict`](Self::predict) takes for an image of that shape, `[rows, columns, channels]`, the image
    /// included and the network not.
    pub fn bytes_in_memory(&self, [height, width, channels]: [usize; 3]) -> u64 {
        bytes_of(&[height, width], self.bytes_of_a_pixel()).saturating_add(bytes_of(&[height, width, channels], 10))
    }

    /// Segments an image that is read by parts, and hands labels and objects to the sinks, block by block from the top left
    /// on. See [`large`](crate::large) for what is equal to the segmentation of the whole image.
    ///
    /// Memory: the network, a few rows of parts, and some 30 bytes for each object. The observer is told of every part and may
    /// stop the run; what was done is kept when there is a folder for it.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); what the reader and the sinks report; [`Error::Config`](crate::Error::Config) for a level
    /// that the image does not have, or finished parts of another run; [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn predict_large(
        &self,
        reader: &dyn RegionReader,
        options: &LargeOptions,
        sinks: &mut [&mut dyn LargeSink],
        observer: &mut (dyn FnMut(&LargeProgress) -> Flow + Send),
    ) -> Result<LargeSummary> {
        self.in_pool(options.predict.threads, || run::run(None, self, reader, options, blocks::BLOCK, sinks, observer))
    }
}
