//! What a network needs to know of the call that it runs for.

use super::options::PredictOptions;
use crate::budget::Budget;
use crate::control::CancelToken;
use crate::networks::Device;

/// The circumstances of one call.
#[derive(Debug, Clone)]
pub(super) struct Work<'a> {
    /// Where the network runs.
    pub device: &'a Device,
    /// Ends the call.
    pub cancel: CancelToken,
    /// Memory that the call may take.
    pub budget: Budget,
    /// Side of the tiles that the caller asked for.
    pub tile: Option<usize>,
    /// Whether outputs for mirrored tiles are averaged.
    pub augment: bool,
    /// How many times as large the image is seen as its pixels are, because those of the training have another physical size.
    pub zoom: f64,
}

impl<'a> Work<'a> {
    /// That of a prediction with this much memory, of an image seen `zoom` times as large.
    pub fn of(options: &PredictOptions, device: &'a Device, budget: Budget, zoom: f64) -> Self {
        Self { device, cancel: options.cancel.clone(), budget, tile: options.tile, augment: options.augment, zoom }
    }

    /// That of a prediction with default tiles.
    pub fn plain(device: &'a Device, cancel: &CancelToken, budget: Budget) -> Self {
        Self { device, cancel: cancel.clone(), budget, tile: None, augment: false, zoom: 1.0 }
    }

    /// The same with `taken` bytes in use already.
    pub fn less(&self, taken: u64) -> Self {
        Self { budget: self.budget.less(taken), ..self.clone() }
    }
}
