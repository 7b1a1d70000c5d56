//! How a model scales the intensities of its images.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::options::Preset;
use crate::control::CancelToken;
use crate::error::{Error, Reason, Result};
use crate::raster::{Image, Percentiles};

/// Percentiles of every image, channel by channel, that become 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Normalization {
    /// Percentile that becomes 0.
    pub pmin: f64,
    /// Percentile that becomes 1.
    pub pmax: f64,
}

/// The scaled intensity beyond which none lies.
pub(super) const FARTHEST: f32 = 100.0;

impl Default for Normalization {
    fn default() -> Self {
        Self { pmin: 1.0, pmax: 99.8 }
    }
}

impl Normalization {
    /// Minimum and maximum, as the server of cellsparse-api 0.2 does.
    pub const MIN_MAX: Self = Self { pmin: 0.0, pmax: 100.0 };

    /// How a model with this normalisation scales intensities once it is trained by a preset: the reference has minimum and maximum
    /// instead of the usual percentiles, and keeps others.
    pub fn trained_by(self, preset: Preset) -> Self {
        if preset == Preset::Reference && self == Self::default() { Self::MIN_MAX } else { self }
    }

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

    /// The image as `[H, W, C]` floats, scaled. What lies farther than a hundred times the distance of the two percentiles
    /// from them, as a defective pixel does, is moved there: a network takes it for a bright spot, instead of being
    /// blinded by it.
    ///
    /// # Errors
    /// [`Error::Image`] for an image without pixels or with samples that are not finite.
    pub fn apply(&self, image: &Image) -> Result<Array3<f32>> {
        Ok(self.apply_and_count(image, &CancelToken::new())?.0)
    }

    /// A part `[H, W, C]` of an image, scaled by the `percentiles` of the whole as [`apply`](Self::apply) scales a whole by its own.
    ///
    /// # Errors
    /// As there; [`Error::Image`] for another number of channels.
    pub fn apply_measured(percentiles: &Percentiles, part: &Image) -> Result<Array3<f32>> {
        part.check()?;
        let mut scaled = percentiles.apply_in_place(part.try_to_f32()?)?;
        scaled.mapv_inplace(|value| value.clamp(-FARTHEST, FARTHEST));
        Ok(scaled)
    }

    /// [`apply`](Self::apply), and the number of samples that were so far from the others that they were moved to [`FARTHEST`];
    /// ends early when `cancel` is raised.
    pub(super) fn apply_and_count(&self, image: &Image, cancel: &CancelToken) -> Result<(Array3<f32>, usize)> {
        image.check()?;
        cancel.check()?;
        let pixels = image.try_to_f32()?;
        let measured = Percentiles::measure_until(pixels.view(), self.pmin, self.pmax, cancel)?;
        let mut scaled = measured.apply_in_place(pixels)?;
        cancel.check()?;
        let mut moved = 0;
        scaled.mapv_inplace(|value| {
            moved += usize::from(value.abs() > FARTHEST);
            value.clamp(-FARTHEST, FARTHEST)
        });
        Ok((scaled, moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_far_from_all_others_is_moved_and_counted() {
        let mut pixels = Array3::from_shape_fn((40, 40, 1), |(y, x, _)| ((y * 7 + x * 3) % 100) as f32);
        let usual = Normalization::default().apply(&Image::F32(pixels.clone())).unwrap();
        pixels[[3, 4, 0]] = 1e8;
        pixels[[30, 4, 0]] = f32::MIN;
        let (scaled, moved) =
            Normalization::default().apply_and_count(&Image::F32(pixels), &CancelToken::new()).unwrap();
        assert_eq!((scaled[[3, 4, 0]], scaled[[30, 4, 0]], moved), (FARTHEST, -FARTHEST, 2));
        assert!((scaled[[20, 20, 0]] - usual[[20, 20, 0]]).abs() < 0.02, "the others stay what they are");
    }
}
