//! What can be said about a model without running it.

use serde::Serialize;

use super::contrast::Seen;
use super::facade::Model;
use super::normalization::Normalization;
use super::pixel_size::side;
use super::registry::{Architecture, Thresholds};

/// What can be said about a model without running it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Algorithm and architecture.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// Number of parameters.
    pub parameters: usize,
    /// Intensity scaling.
    pub normalization: Normalization,
    /// Post-processing.
    pub thresholds: Thresholds,
    /// Optimiser steps of all trainings.
    pub steps: u64,
    /// Loss of the last step, if it was ever trained.
    pub loss: Option<f32>,
    /// Whether a training can resume with the optimiser's state.
    pub resumable: bool,
    /// Micrometres per pixel `[y, x]` of the images it was trained on, if known.
    pub pixel_size: Option<[f64; 2]>,
    /// Median diameter of the cells that were drawn for it, in pixels of the training; none in a model that was not trained.
    pub cell_diameter: Option<f64>,
    /// The same in micrometres, if the pixel size is known.
    pub cell_diameter_um: Option<f64>,
}

impl Model {
    /// What can be said about the model without running it.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            architecture: self.architecture.clone(),
            parameters: self.network.weights.count(),
            normalization: self.network.normalization,
            thresholds: self.thresholds,
            steps: self.history.total_steps(),
            loss: self.history.loss.last().copied(),
            resumable: self.state.is_some(),
            pixel_size: self.pixel_size,
            cell_diameter: self.seen.map(|seen| seen.diameter),
            cell_diameter_um: micrometres_across(self.seen, self.pixel_size),
        }
    }
}

/// The diameter of the drawn cells in micrometres, where the pixels of the training have a known size.
pub(super) fn micrometres_across(seen: Option<Seen>, pixel_size: Option<[f64; 2]>) -> Option<f64> {
    Some(seen?.diameter * side(pixel_size?))
}
