//! Settings of the post-processing that are stored with a model.

use super::options::PredictOptions;
use super::registry::{Algorithm, Thresholds};
use crate::error::Result;

impl Thresholds {
    /// The values that a model begins with.
    pub fn of(algorithm: Algorithm) -> Self {
        algorithm.thresholds()
    }

    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the value and its range.
    pub fn check(&self) -> Result<()> {
        self.values().check()
    }

    /// These values for an image that is seen that many times as large: lengths and areas are in pixels of the image.
    pub(super) fn zoomed(mut self, zoom: f64) -> Self {
        self.values_mut().zoom(zoom);
        self
    }

    /// These values with those of a caller in their place.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for values out of range, and for options of another algorithm.
    pub fn with(&self, options: &PredictOptions) -> Result<Self> {
        options.of(self.algorithm())?;
        let mut result = *self;
        result.values_mut().take(options);
        result.check()?;
        Ok(result)
    }
}
