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
    /// Whether an image whose cells have another size than those of the training may be seen at its own scale: nothing is known of
    /// the size of its pixels or cells, and it is no part of an image whose other parts are to fit.
    pub fits_size: bool,
}

impl<'a> Work<'a> {
    /// That of a prediction with this much memory, of an image seen `zoom` times as large, for a model that knows the `own` size of its
    /// pixels or does not.
    pub fn of(options: &PredictOptions, device: &'a Device, budget: Budget, zoom: f64, own: Option<[f64; 2]>) -> Self {
        let PredictOptions { rescale, normalized, diameter, pixel_size, .. } = *options;
        let is_known = diameter.is_some() || own.and(pixel_size).is_some();
        Self {
            device,
            cancel: options.cancel.clone(),
            budget,
            tile: options.tile,
            augment: options.augment,
            zoom,
            fits_size: rescale && !normalized && !is_known,
        }
    }

    /// That of a prediction with default tiles.
    pub fn plain(device: &'a Device, cancel: &CancelToken, budget: Budget) -> Self {
        Self { device, cancel: cancel.clone(), budget, tile: None, augment: false, zoom: 1.0, fits_size: false }
    }

    /// The same with `taken` bytes in use already.
    pub fn less(&self, taken: u64) -> Self {
        Self { budget: self.budget.less(taken), ..self.clone() }
    }
}
