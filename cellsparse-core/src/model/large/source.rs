//! Any part of an image as the network sees it.

use ndarray::{Array3, Axis};

use super::super::network::Network;
use super::super::normalization::FARTHEST;
use crate::error::Result;
use crate::raster::regions::{Extent, Region, RegionReader};
use crate::raster::{Percentiles, Resized, try_gaussian_blur};

/// An image with one scaling of its intensities.
pub(super) struct Source<'a> {
    network: &'a Network,
    pub reader: &'a dyn RegionReader,
    pub level: usize,
    scaling: Option<Percentiles>,
    pub extent: Extent,
}

impl<'a> Source<'a> {
    pub fn new(
        network: &'a Network,
        reader: &'a dyn RegionReader,
        level: usize,
        scaling: Option<Percentiles>,
    ) -> Result<Self> {
        let extent = reader.levels().get(level).copied().unwrap_or(Extent { height: 0, width: 0 });
        Region::whole(extent).check(reader.levels(), level)?;
        Ok(Self { network, reader, level, scaling, extent })
    }

    /// Another level, with the same scaling.
    pub fn at(&self, level: usize) -> Result<Self> {
        Self::new(self.network, self.reader, level, self.scaling.clone())
    }

    /// The part `[height, width, C]` with scaled intensities and the channels of the network.
    pub fn normalized(&self, region: Region) -> Result<Array3<f32>> {
        let pixels = self.reader.read(region, self.level)?.try_to_f32()?;
        let scaled = match &self.scaling {
            Some(scaling) => {
                let mut scaled = scaling.apply_in_place(pixels)?;
                scaled.mapv_inplace(|value| value.clamp(-FARTHEST, FARTHEST));
                scaled
            }
            None => pixels,
        };
        self.network.fit_channels(scaled)
    }

    /// The middle of the image with sides of at most that many pixels, around the same pixel as every smaller part in the middle.
    pub fn middle(&self, most: usize) -> Result<Array3<f32>> {
        let side = |n: usize| n.min(most + (n + most) % 2);
        let (height, width) = (side(self.extent.height), side(self.extent.width));
        let (top, left) = ((self.extent.height - height) / 2, (self.extent.width - width) / 2);
        self.normalized(Region { top, left, height, width })
    }
}

/// An image at another size, of which parts are computed as they are in the whole.
pub(super) struct Scaled<'a> {
    source: &'a Source<'a>,
    resized: Resized,
    /// Standard deviation of the blur before the image is made smaller; 0 for none.
    sigma: f32,
}

impl<'a> Scaled<'a> {
    /// Of these sides, smoothed where it is made smaller.
    pub fn smoothed(source: &'a Source<'a>, sides: [usize; 2], scale: f64) -> Self {
        let sigma = if scale < 1.0 { (0.5 * (1.0 / (scale * scale) - 1.0).sqrt()) as f32 } else { 0.0 };
        Self { sigma, ..Self::plain(source, sides) }
    }

    /// Of these sides, as it is.
    pub fn plain(source: &'a Source<'a>, sides: [usize; 2]) -> Self {
        let from = [source.extent.height, source.extent.width];
        Self { source, resized: Resized { from, to: sides }, sigma: 0.0 }
    }

    /// Rows and columns.
    pub fn sides(&self) -> [usize; 2] {
        self.resized.to
    }

    /// Back to the size of the image.
    pub fn back(&self) -> Resized {
        Resized { from: self.resized.to, to: self.resized.from }
    }

    /// The part `[height, width, C]` at this size.
    pub fn window(&self, region: Region) -> Result<Array3<f32>> {
        if self.resized.from == self.resized.to {
            return self.source.normalized(region);
        }
        let [top, rows] = self.resized.needed(0, region.top, region.height);
        let [left, columns] = self.resized.needed(1, region.left, region.width);
        let needed = Region { top, left, height: rows, width: columns };
        // As far as the blur reaches.
        let needed = needed.grown((3.0 * self.sigma).ceil() as usize, self.source.extent);
        let mut pixels = self.source.normalized(needed)?;
        if self.sigma > 0.0 {
            for mut channel in pixels.axis_iter_mut(Axis(2)) {
                let smooth = try_gaussian_blur(channel.view(), self.sigma)?;
                channel.assign(&smooth);
            }
        }
        let (corner, size) = ([region.top, region.left], [region.height, region.width]);
        self.resized.part(pixels.view(), [needed.top, needed.left], corner, size)
    }
}
