//! What one server does at most.

use std::time::Duration;

/// Limits on requests. What exceeds them is refused with a status and a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one body. Default 256 MiB.
    pub body: usize,
    /// Pixels of one image. Default 100 million.
    pub pixels: usize,
    /// Images in one request. Default 64.
    pub images: usize,
    /// Models in the folder. Default 64.
    pub models: usize,
    /// Optimiser steps of one training. Default 100,000.
    pub steps: usize,
    /// Time of one training, which then ends with what it has learned. Default none.
    pub time: Option<Duration>,
    /// Trainings or predictions that wait for their turn. Default 16.
    pub queue: usize,
    /// Predictions at a time. Default 2.
    pub predictions: usize,
    /// Trainings at a time, of different models. Default 1.
    pub trainings: usize,
    /// Streams of progress at a time. Default 64.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 256 << 20,
            pixels: 100_000_000,
            images: 64,
            models: 64,
            steps: 100_000,
            time: None,
            queue: 16,
            predictions: 2,
            trainings: 1,
            streams: 64,
        }
    }
}
