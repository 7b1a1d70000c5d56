//! How a model scales the intensities of its images.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};
use crate::raster::{Image, Percentiles};

/// Percentiles of every image, channel by channel, that become 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Percentile that becomes 0.
    pub pmin: f64,
    /// Percentile that becomes 1.
    pub pmax: f64,
}

impl Default for Normalization {
    fn default() -> Self {
        Self { pmin: 1.0, pmax: 99.8 }
    }
}

impl Normalization {
    /// Minimum and maximum, as the server of cellsparse-api 0.2 does.
    pub const MIN_MAX: Self = Self { pmin: 0.0, pmax: 100.0 };

    /// Refuses percentiles that are out of range or out of order.
    ///
    /// # Errors
    /// [`Error::Config`] with both values.
    pub fn check(&self) -> Result<()> {
        if self.pmin >= 0.0 && self.pmin < self.pmax && self.pmax <= 100.0 {
            return Ok(());
        }
        let (option, found) = if (0.0..100.0).contains(&self.pmin) { ("pmax", self.pmax) } else { ("pmin", self.pmin) };
        Err(Error::Config(format!(
            "percentiles {} and {}; they must satisfy 0 <= pmin < pmax <= 100",
            self.pmin, self.pmax
        ))
        .because(Reason::out_of_range(option, found, 0.0..=100.0)))
    }

    /// The image as `[H, W, C]` floats, scaled.
    ///
    /// # Errors
    /// [`Error::Image`] for an image without pixels or with samples that are not finite.
    pub fn apply(&self, image: &Image) -> Result<Array3<f32>> {
        image.check()?;
        let pixels = image.to_f32();
        Percentiles::measure(pixels.view(), self.pmin, self.pmax)?.apply_in_place(pixels)
    }
}
