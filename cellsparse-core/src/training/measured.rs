//! What the outputs for a batch are compared with, as data: for a training that computes its loss on another device.

use super::loss_elephant::ElephantLossConfig;
use super::loss_stardist::{StarLossConfig, StarTruth};

/// The loss of a batch and its targets, pixel by pixel as the losses on the CPU take them.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Measured<'a> {
    /// [`stardist_loss`](super::loss_stardist::stardist_loss) of logits.
    Stardist {
        /// What is added up.
        config: &'a StarLossConfig,
        /// The targets.
        truth: StarTruth<'a>,
    },
    /// [`cellpose_loss`](super::loss_cellpose::cellpose_loss).
    Cellpose {
        /// `[B, H, W, 3]`.
        targets: &'a [f32],
    },
    /// [`SegmentationLoss`](super::loss_elephant::SegmentationLoss).
    Elephant {
        /// Weights.
        config: &'a ElephantLossConfig,
        /// `[B, H, W]`.
        targets: &'a [i32],
    },
}

impl Measured<'_> {
    /// The parts of the loss, as a report names them.
    pub fn parts(&self) -> &'static [&'static str] {
        match self {
            Self::Stardist { truth, .. } if truth.class.is_some() => &["prob", "dist", "class"],
            Self::Stardist { .. } => &["prob", "dist"],
            Self::Cellpose { .. } => &["flow", "cellprob"],
            Self::Elephant { .. } => &["cross_entropy", "center_dice", "smoothness"],
        }
    }
}
