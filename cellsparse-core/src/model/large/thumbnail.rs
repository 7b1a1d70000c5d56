//! Where a smaller copy of an image shows that there is nothing, so that the image need not be read there.

use ndarray::{Array3, ArrayView2, Axis, s};

use super::super::contrast::{Seen, noise};
use super::source::Source;
use crate::control::CancelToken;
use crate::error::Result;
use crate::raster::regions::{Extent, Region};

/// Pixels of a copy that a cell is wide, at least.
const CELL: f64 = 5.0;

/// How much smaller a copy is, at least.
const SMALLER: f64 = 1.5;

/// Squares that are compared in both, in every direction, and pixels of the copy that they are wide.
const PROBES: usize = 3;
const SIDE: usize = 48;

/// Share of the range of intensities by which a copy of the same picture may be off.
const OFF: f64 = 0.05;

/// A smaller copy of an image, with one scaling of intensities for both.
pub(super) struct Thumbnail<'a> {
    copy: Source<'a>,
    /// Pixels of the image that a pixel of the copy is wide `[y, x]`.
    factor: [f64; 2],
    /// The noise of the copy relative to that of the means of the pixels that it stands for: 1, or more where a copy was made by
    /// leaving out pixels.
    noise: f64,
}

impl<'a> Thumbnail<'a> {
    /// The smallest copy among the other levels in which cells of that `diameter` in pixels are a few pixels wide. `None` for an
    /// image without one, and where the copy turns out to be another picture.
    pub fn of(image: &Source<'a>, diameter: f64) -> Result<Option<Self>> {
        let levels = image.reader.levels();
        let factor = |copy: usize| {
            let side = |all: usize, small: usize| all as f64 / small as f64;
            [side(image.extent.height, levels[copy].height), side(image.extent.width, levels[copy].width)]
        };
        let fits = |copy: &usize| {
            let [down, across] = factor(*copy);
            let (least, most) = (down.min(across), down.max(across));
            least >= SMALLER && diameter / most >= CELL && most / least < 1.1
        };
        let Some(found) = (image.level + 1..levels.len()).rev().find(fits) else { return Ok(None) };
        let mut thumbnail = Self { copy: image.at(found)?, factor: factor(found), noise: 1.0 };
        let Some(more) = thumbnail.compared_with(image)? else { return Ok(None) };
        thumbnail.noise = more;
        Ok(Some(thumbnail))
    }

    /// Whether surely nothing as large as a cell stands out of a part of the image.
    ///
    /// # Errors
    /// Those of reading, [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Limit`](crate::Error::Limit).
    pub fn shows_nothing(&self, part: Region, seen: &Seen, cancel: &CancelToken) -> Result<bool> {
        let pixels = self.copy.normalized(self.under(part))?;
        seen.surely_nothing_in(pixels.view(), self.factor[0].max(self.factor[1]), self.noise, cancel)
    }

    /// The pixels of the copy that a part of the image lies in, and one more on each side.
    fn under(&self, part: Region) -> Region {
        let Extent { height, width } = self.copy.extent;
        let span = |begin: usize, end: usize, factor: f64, all: usize| {
            let first = ((begin as f64 / factor) as usize).saturating_sub(1).min(all - 1);
            let last = ((end as f64 / factor).ceil() as usize + 1).clamp(first + 1, all);
            (first, last - first)
        };
        let (top, height) = span(part.top, part.bottom(), self.factor[0], height);
        let (left, width) = span(part.left, part.right(), self.factor[1], width);
        Region { top, left, height, width }
    }

    /// The noise of the copy relative to that of means of the image, from squares that are spread evenly; `None` for another picture.
    fn compared_with(&self, image: &Source<'_>) -> Result<Option<f64>> {
        let Extent { height, width } = self.copy.extent;
        let mut ratio = 1.0_f64;
        let (mut low, mut high, mut off) = (f64::INFINITY, f64::NEG_INFINITY, 0.0_f64);
        for place in 0..PROBES * PROBES {
            let middle = |index: usize, all: usize| {
                let side = SIDE.min(all);
                (((2 * index + 1) * all / (2 * PROBES)).saturating_sub(side / 2).min(all - side), side)
            };
            let (top, height) = middle(place / PROBES, height);
            let (left, width) = middle(place % PROBES, width);
            let copy = self.copy.normalized(Region { top, left, height, width })?;
            let means = self.means(image, Region { top, left, height, width })?;
            for (copy, means) in copy.axis_iter(Axis(2)).zip(means.axis_iter(Axis(2))) {
                let average = |of: ArrayView2<'_, f32>| f64::from(of.mean().unwrap_or(0.0));
                let (own, expected) = (noise(copy), noise(means));
                low = means.iter().fold(low, |low, value| low.min(f64::from(*value)));
                high = means.iter().fold(high, |high, value| high.max(f64::from(*value)));
                off = off.max((average(copy) - average(means)).abs());
                // An even square tells nothing about noise.
                let even = 1e-6 * means.iter().fold(0.0_f64, |most, value| most.max(f64::from(value.abs())));
                if own > even {
                    ratio = ratio.max(own / expected.max(1e-12));
                }
            }
        }
        let same = off <= OFF * (high - low) || off <= 1e-6 * high.abs().max(low.abs());
        Ok((same && ratio.is_finite()).then_some(ratio))
    }

    /// For every pixel of a part of the copy the mean of the pixels of the image that it stands for.
    fn means(&self, image: &Source<'_>, part: Region) -> Result<Array3<f32>> {
        let edge = |index: usize, factor: f64, all: usize| ((index as f64 * factor).round() as usize).min(all);
        let Extent { height, width } = image.extent;
        let row = |index: usize| edge(index, self.factor[0], height);
        let column = |index: usize| edge(index, self.factor[1], width);
        let (top, left) = (row(part.top), column(part.left));
        let under = Region { top, left, height: row(part.bottom()) - top, width: column(part.right()) - left };
        let pixels = image.normalized(under)?;
        let mut means = Array3::zeros((part.height, part.width, pixels.len_of(Axis(2))));
        for ((y, x, channel), mean) in means.indexed_iter_mut() {
            let rows = row(part.top + y) - top..row(part.top + y + 1) - top;
            let columns = column(part.left + x) - left..column(part.left + x + 1) - left;
            *mean = pixels.slice(s![rows, columns, channel]).mean().unwrap_or(0.0);
        }
        Ok(means)
    }
}
