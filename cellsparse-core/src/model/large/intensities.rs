//! The percentiles of an image that is read by parts: exact when it is small, of a sample otherwise.

use ndarray::Array3;

use super::super::normalization::Normalization;
use crate::budget::reserve;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::raster::Percentiles;
use crate::raster::regions::{Extent, Region, RegionReader};

/// Samples of all channels together that are looked at, at most.
const MOST: usize = 1 << 24;

/// Side of the squares that are looked at in a larger image.
const SIDE: usize = 256;

/// The percentiles of every channel of a level. Of an image with more than 2^24 samples, squares of 256 pixels that are spread
/// evenly over it are looked at.
pub(crate) fn percentiles(
    reader: &dyn RegionReader,
    level: usize,
    normalization: Normalization,
    cancel: &CancelToken,
) -> Result<Percentiles> {
    let extent = reader.levels().get(level).copied().unwrap_or(Extent { height: 0, width: 0 });
    Region::whole(extent).check(reader.levels(), level)?;
    let channels = reader.channels();
    let regions = sample(extent, (MOST / channels.max(1)).max(1));
    let pixels: usize = regions.iter().map(|region| region.height * region.width).sum();
    let mut samples: Vec<f32> = reserve(pixels * channels, "a sample of the intensities of an image")?;
    for region in regions {
        cancel.check()?;
        samples.extend(reader.read(region, level)?.try_to_f32()?.iter());
    }
    let samples = Array3::from_shape_vec((pixels, 1, channels), samples)
        .map_err(|error| Error::Internal(format!("a sample of intensities: {error}")))?;
    Percentiles::measure_until(samples.view(), normalization.pmin, normalization.pmax, cancel)
}

impl Normalization {
    /// The percentiles of every channel of a level of an image that is read by parts, as a prediction of it takes them: of all its
    /// samples, or of squares that are spread evenly over it where it has more than 2^24.
    ///
    /// # Errors
    /// [`Error::Config`] for a level that the image does not have, [`Error::Cancelled`]; what the reader reports.
    pub fn measure(&self, reader: &dyn RegionReader, level: usize, cancel: &CancelToken) -> Result<Percentiles> {
        percentiles(reader, level, *self, cancel)
    }
}

/// Parts with `most` pixels together, or all of a smaller image.
fn sample(extent: Extent, most: usize) -> Vec<Region> {
    let Extent { height, width } = extent;
    if height.saturating_mul(width) <= most {
        let rows = (MOST / 16 / width.max(1)).max(1);
        let band = |top: usize| Region { top, left: 0, height: rows.min(height - top), width };
        return (0..height).step_by(rows).map(band).collect();
    }
    let side = SIDE.min(most.isqrt().max(1));
    let count = (most / (side * side)).max(1);
    let down = ((count as f64 * height as f64 / width as f64).sqrt() as usize).clamp(1, count);
    let across = (count / down).max(1);
    let mut regions = Vec::new();
    for row in 0..down {
        for column in 0..across {
            let place = |index: usize, of: usize, n: usize| {
                let size = side.min(n);
                ((2 * index + 1) * n / (2 * of)).saturating_sub(size / 2).min(n - size)
            };
            let (top, left) = (place(row, down, height), place(column, across, width));
            regions.push(Region { top, left, height: side.min(height), width: side.min(width) });
        }
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::Image;
    use crate::raster::regions::{CallbackRegions, ImageRegions};

    #[test]
    fn small_images_are_looked_at_whole_and_large_ones_evenly() {
        let pixels = Array3::from_shape_fn((90, 70, 2), |(y, x, c)| ((y * 31 + x * 17) % 199 + 300 * c) as u16);
        let image = Image::U16(pixels);
        let usual = Normalization::default();
        let whole = Percentiles::measure(image.to_f32().view(), usual.pmin, usual.pmax).unwrap();
        let reader = ImageRegions::new(image, None).unwrap();
        assert_eq!(percentiles(&reader, 0, usual, &CancelToken::new()).unwrap(), whole);
        // A slope over a million rows: its percentiles are found to a thousandth.
        let slope = |region: Region, _: usize| {
            let value = |y: usize| ((region.top + y) / 16) as f32;
            Ok(Image::F32(Array3::from_shape_fn((region.height, region.width, 1), |(y, _, _)| value(y))))
        };
        let extent = Extent { height: 1_000_000, width: 300 };
        let reader = CallbackRegions::new(vec![extent], 1, None, slope).unwrap();
        let found = percentiles(&reader, 0, Normalization { pmin: 10.0, pmax: 90.0 }, &CancelToken::new()).unwrap();
        assert!(
            (found.low[0] / 6250.0 - 1.0).abs() < 0.05 && (found.high[0] / 56_250.0 - 1.0).abs() < 0.01,
            "{found:?}"
        );
    }

    #[test]
    fn samples_lie_in_the_image_and_are_not_many() {
        for (height, width) in [(1, 1 << 20), (1 << 20, 1), (60_000, 60_000), (5000, 4000), (255, 200_000)] {
            for most in [1000, 1 << 18, 1 << 24] {
                let extent = Extent { height, width };
                let regions = sample(extent, most);
                let pixels: usize = regions.iter().map(|region| region.height * region.width).sum();
                assert!(pixels <= most.max(height.min(width)) && pixels > 0, "{height} x {width}: {pixels} of {most}");
                assert!(regions.iter().all(|region| region.check(&[extent], 0).is_ok()), "{height} x {width}");
            }
        }
    }
}
