//! What is read of an image file, and what comes out of it.

use super::{Decoded, Problem};
use crate::control::CancelToken;
use crate::raster::Image;

/// What reading one file may cost. Sizes are taken from the header, so a refusal comes before any decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most bytes that the decoded samples may take: width x height x channels x bytes per sample. Default 1 GiB.
    pub decoded_bytes: usize,
    /// Most bytes that the file itself may have. Default 2 GiB.
    pub file_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { decoded_bytes: 1 << 30, file_bytes: 2 << 30 }
    }
}

/// Which part of a file is read. The default reads a file of one plane whole, without its transparency.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// What it may cost.
    pub limits: ReadLimits,
    /// The plane (Z) of a stack, **counted from 1**. A file with several planes is refused without it. Where a file does not
    /// tell what its pages are, this chooses a page.
    pub plane: Option<usize>,
    /// The time point (T) of a series, counted from 1. A file with several time points is refused without it.
    pub frame: Option<usize>,
    /// Channels in the order wanted, counted from 1; all but transparency without it. Transparency can be chosen by its
    /// number. Where a file does not tell what its pages are, this makes channels of pages. Labels ignore it.
    pub channels: Option<Vec<usize>>,
    /// Raised by another thread to end the reading.
    pub cancel: CancelToken,
}

/// Options that read the same are equal, whoever may end it.
impl PartialEq for ReadOptions {
    fn eq(&self, other: &Self) -> bool {
        let of = |options: &Self| (options.limits, options.plane, options.frame);
        of(self) == of(other) && self.channels == other.channels
    }
}

impl Eq for ReadOptions {}

impl From<ReadLimits> for ReadOptions {
    fn from(limits: ReadLimits) -> Self {
        Self { limits, ..Self::default() }
    }
}

impl ReadOptions {
    /// Refuses another plane or time point than the only one.
    pub(super) fn only_one(&self) -> Decoded<()> {
        for (what, wanted) in [("plane", self.plane), ("frame", self.frame)] {
            if let Some(number) = wanted.filter(|number| *number != 1) {
                return Err(Problem::unusable(format!("{what} {number} was asked for and the file has 1")));
            }
        }
        Ok(())
    }
}

/// What the header of an image file tells.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ImageHeader {
    /// Planes (Z); of a file that does not tell what its pages are, pages.
    pub planes: usize,
    /// Time points (T).
    pub frames: usize,
    /// As of [`ImageFile`].
    pub pixel_size: Option<[f64; 2]>,
}

/// An image with what its file says about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImageFile {
    /// The pixels.
    pub image: Image,
    /// Micrometres per pixel along rows' and columns' axes `[y, x]`, where the file tells: from OME-XML, ImageJ's unit, or
    /// resolution tags that no printer or screen has.
    pub pixel_size: Option<[f64; 2]>,
    /// What was left out or changed, a clause each, without the file's name.
    pub notes: Vec<String>,
}

/// Channel numbers counted from 1 to places, each at most once.
pub(super) fn zero_based(channels: &[usize], count: usize) -> Decoded<Vec<usize>> {
    if channels.is_empty() {
        return Err(Problem::unusable("no channel was chosen; name at least one, counted from 1"));
    }
    for (at, channel) in channels.iter().enumerate() {
        if !(1..=count).contains(channel) {
            return Err(Problem::unusable(format!(
                "channel {channel} was chosen and the image has {count}, counted from 1"
            )));
        }
        if channels[..at].contains(channel) {
            return Err(Problem::unusable(format!("channel {channel} was chosen twice")));
        }
    }
    Ok(channels.iter().map(|channel| channel - 1).collect())
}

/// The place, counted from 0, on an axis with `count` places.
pub(super) fn choose(
    what: &'static str,
    count: usize,
    wanted: Option<usize>,
    lenient: bool,
    there: impl FnOnce() -> String,
) -> Decoded<usize> {
    match wanted {
        // Labels are drawn on the one plane that they have.
        _ if lenient && count == 1 => Ok(0),
        Some(number) if (1..=count).contains(&number) => Ok(number - 1),
        Some(number) => {
            Err(Problem::unusable(format!("{what} {number} was asked for and the file has {count}, counted from 1")))
        }
        None if count == 1 => Ok(0),
        None => {
            let reason = format!("{}; choose a {what} (1 to {count})", there());
            Err(Problem::Unchosen { reason, option: what, count })
        }
    }
}
