//! ELEPHANT: training steps.

use std::sync::Arc;

use cellsparse_core::Result;
use cellsparse_core::networks::{ElephantConfig, Weights};
use cellsparse_core::training::batch_elephant::{ElephantBatch, ElephantBatchConfig, ElephantBatches};
use cellsparse_core::training::loss_elephant::{ElephantLossConfig, SegmentationLoss};
use cellsparse_core::training::optimizer::Adam;
use cellsparse_core::training::task::Task;
use serde_json::Value;

use crate::common::{
    BATCH, Options, PATCH, Training, draw_training_images, normalised, write_npy, write_npy_i32, write_weights,
};

/// Writes the start weights and one batch.
pub fn data(options: &Options) -> Result<()> {
    let folder = &options.folder;
    draw_training_images(folder)?;
    let batch = batch(options)?;
    write_npy(&folder.join("elephant_images.npy"), &[BATCH, PATCH, PATCH], &batch.images)?;
    write_npy_i32(&folder.join("elephant_targets.npy"), &[BATCH, PATCH, PATCH], batch.targets)?;
    let graph = ElephantConfig::default().graph();
    write_weights(&folder.join("elephant.pth"), &graph, &Weights::init(&graph, 0))
}

/// Optimiser steps on a fixed batch.
pub fn step(options: &Options) -> Result<Value> {
    let batch = batch(options)?;
    let graph = Arc::new(ElephantConfig::default().graph());
    let weights = Weights::init(&graph, 0);
    let optimizer = Adam::pytorch(&weights);
    let training = Training {
        at_once: BATCH,
        graph,
        weights,
        optimizer,
        rate: 1e-3,
        patch: PATCH,
        device: options.device(),
        warm_up: 3,
    };
    options.on_threads(|| {
        let mut loss = SegmentationLoss::new(ElephantLossConfig::default());
        training.steps(options.steps.unwrap_or(10), &batch.images, |_, outputs, gradients| {
            let shape = [BATCH, PATCH, PATCH];
            Ok(loss.forward(&outputs[0], &batch.targets, shape, Some(&mut gradients[0]))?.total)
        })
    })
}

fn batch(options: &Options) -> Result<ElephantBatch> {
    let (images, labels) = normalised(&options.folder)?;
    let mut batch = ElephantBatch::default();
    ElephantBatches::new(images, labels, ElephantBatchConfig::default())?.batch_into(&mut batch, 0)?;
    Ok(batch)
}
