//! What a network needs to know of the call that it runs for, and how large its tiles may be.

use super::{Model, PredictOptions};
use crate::budget::Budget;
use crate::control::CancelToken;
use crate::error::Result;
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
    /// Whether answers to mirrored tiles are averaged.
    pub augment: bool,
    /// How many times as large the image is seen as its pixels are, because those of the training have another physical size.
    pub zoom: f64,
}

impl<'a> Work<'a> {
    /// That of a prediction for which there is so much memory, of an image seen that many times as large.
    pub fn of(options: &PredictOptions, device: &'a Device, budget: Budget, zoom: f64) -> Self {
        Self { device, cancel: options.cancel.clone(), budget, tile: options.tile, augment: options.augment, zoom }
    }

    /// That of a prediction with default tiles.
    pub fn plain(device: &'a Device, cancel: &CancelToken, budget: Budget) -> Self {
        Self { device, cancel: cancel.clone(), budget, tile: None, augment: false, zoom: 1.0 }
    }

    /// The same with so many bytes taken already.
    pub fn less(&self, taken: u64) -> Self {
        Self { budget: self.budget.less(taken), ..self.clone() }
    }
}

impl Model {
    /// Bytes that the network takes for batches of that shape, `[batch, height, width]`; 0 on a device with memory of its own.
    pub(super) fn network_bytes(&self, shape: [usize; 3], device: &Device) -> Result<u64> {
        if device.is_cpu() { self.graph.bytes(shape, false) } else { Ok(0) }
    }

    /// The first of several shapes for which there is memory.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) with what the last of them would take.
    pub(super) fn first_fitting<T: Copy>(
        &self,
        work: &Work<'_>,
        choices: impl IntoIterator<Item = T>,
        shape: impl Fn(T) -> [usize; 3],
    ) -> Result<Option<T>> {
        let mut last = None;
        for choice in choices {
            let shape = shape(choice);
            let bytes = self.network_bytes(shape, work.device)?;
            if bytes <= work.budget.left() {
                return Ok(Some(choice));
            }
            last = Some((shape, bytes));
        }
        let Some(([batch, height, width], bytes)) = last else { return Ok(None) };
        let tiles = if batch == 1 { "a tile".into() } else { format!("{batch} tiles") };
        work.budget.require(
            bytes,
            format_args!("the network on {tiles} of {height} x {width} pixels"),
            "give a smaller tile, or allow more memory",
        )?;
        Ok(None)
    }
}
