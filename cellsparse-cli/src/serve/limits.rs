//! What one server does at most.

use std::time::Duration;

use crate::args::ServeArgs;

/// Limits on requests. What exceeds them is refused with a status and a reason.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one body.
    pub body: usize,
    /// Pixels of one image.
    pub pixels: usize,
    /// Images in one request.
    pub images: usize,
    /// Models in the folder.
    pub models: usize,
    /// Optimiser steps of one training.
    pub steps: usize,
    /// Time of one training.
    pub time: Option<Duration>,
    /// Trainings or predictions that wait for their turn.
    pub queue: usize,
    /// Predictions at a time.
    pub predictions: usize,
    /// Trainings at a time, of different models.
    pub trainings: usize,
    /// Streams of progress at a time.
    pub streams: usize,
}

impl From<&ServeArgs> for Limits {
    fn from(args: &ServeArgs) -> Self {
        Self {
            body: args.max_body.saturating_mul(1 << 20),
            pixels: args.max_pixels,
            images: args.max_images,
            models: args.max_models,
            steps: args.max_steps,
            time: args.max_seconds.map(|seconds| Duration::from_secs_f32(seconds.clamp(0.001, 1e9))),
            queue: args.max_queue,
            predictions: args.predictions,
            trainings: args.trainings,
            streams: 64,
        }
    }
}

#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        use clap::Parser;
        match crate::args::Cli::parse_from(["cellsparse", "serve"]).command {
            crate::args::Command::Serve(args) => Self::from(&args),
            other => panic!("{other:?}"),
        }
    }
}
