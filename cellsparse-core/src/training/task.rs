//! What the training loop takes from an algorithm.

use std::ops::Range;

use crate::error::Result;
use crate::training::measured::Measured;

/// What an algorithm gives to the loop: batches and their loss.
pub trait Task: Sync {
    /// A batch, reused for later ones.
    type Batch: Default + Send;

    /// Makes batch `index` in the buffers of an earlier one; a pure function of `index`.
    ///
    /// # Errors
    /// When the batch cannot be made.
    fn batch_into(&self, batch: &mut Self::Batch, index: u64) -> Result<()>;

    /// The input of the network, `[batch, height, width, channels]`.
    fn input<'a>(&self, batch: &'a Self::Batch) -> &'a [f32];

    /// The loss of the network's outputs and, if wanted, its gradients with respect to them. Of some `images` of the batch, whose outputs
    /// are given alone, it is what they add to the loss of the batch; all of them are asked for at once unless the engine for
    /// training takes fewer.
    ///
    /// # Errors
    /// When sizes do not fit, as they do not for a task that can only tell the loss of a whole batch.
    fn loss(
        &self,
        batch: &Self::Batch,
        images: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport>;

    /// The loss and its targets as data, for a device that computes it; without it, outputs come back from the device and their
    /// gradients go there.
    fn measured<'a>(&'a self, _batch: &'a Self::Batch) -> Option<Measured<'a>> {
        None
    }

    /// What the loss remembers from batch to batch.
    fn carried(&self) -> f32 {
        0.0
    }

    /// Lets the loss go on from what [`carried`](Self::carried) told.
    fn set_carried(&self, _carried: f32) {}
}

/// The loss of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LossReport {
    /// Weighted sum of the parts.
    pub total: f64,
    /// The parts by name, the same ones in the same order for all images of a batch.
    pub parts: Vec<(&'static str, f32)>,
}

impl LossReport {
    /// Adds what other images of the batch add.
    pub(super) fn add(&mut self, other: Self) {
        self.total += other.total;
        self.parts.iter_mut().zip(other.parts).for_each(|((_, part), (_, more))| *part += more);
    }
}
