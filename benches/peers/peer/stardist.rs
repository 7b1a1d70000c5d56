//! StarDist: training steps, prediction, training end to end, cold start.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cellsparse_core::model::Preset;
use cellsparse_core::networks::Engine;
use cellsparse_core::raster::read_image;
use cellsparse_core::synthetic::draw_field;
use cellsparse_core::training::batch::{Batch, BatchConfig, BatchMaker};
use cellsparse_core::training::loss_stardist::{
    Head, StarGradients, StarLossConfig, StarMeans, StarOutputs, StarTruth, stardist_loss_part,
};
use cellsparse_core::training::optimizer::Adam;
use cellsparse_core::training::sampler::SamplingPolicy;
use cellsparse_core::{
    ControlFlow, Dataset, Device, Error, Model, PredictOptions, Result, StarDistConfig, TrainOptions,
};
use serde_json::{Value, json};

use crate::common::{
    IMAGES, Options, Training, dataset, draw_training_images, milliseconds, normalised, peak_mb, square, timed,
    write_gray, write_npy,
};

/// How many of the training images validate.
const VALIDATION_IMAGES: usize = 2;

/// Side of the image that is predicted.
const PREDICTION_SIDE: usize = 1024;

const LEARNING_RATE: f32 = 1e-3;

impl Options {
    fn training(&self, steps: usize) -> TrainOptions {
        TrainOptions {
            steps: Some(self.steps.unwrap_or(steps)),
            learning_rate: Some(LEARNING_RATE),
            preset: Preset::Reference,
            device: Device::Cpu,
            precision: self.precision,
            threads: Some(self.threads),
            ..TrainOptions::default()
        }
    }

    fn prediction(&self) -> PredictOptions {
        PredictOptions {
            prob_thresh: Some(0.5),
            nms_thresh: Some(0.4),
            device: Device::Cpu,
            precision: self.precision,
            threads: Some(self.threads),
            ..PredictOptions::default()
        }
    }

    fn model(&self) -> Result<Model> {
        Model::load(self.folder.join("model.cellsparse"))
    }
}

/// Draws the images, trains a model on them and writes it, also as ONNX, its weights and one batch for the others to read.
pub fn data(options: &Options) -> Result<()> {
    let folder = &options.folder;
    draw_training_images(folder)?;
    write_gray(&folder.join("field.png"), &draw_field(&square(PREDICTION_SIDE), IMAGES)?.image)?;

    let mut model = Model::stardist(StarDistConfig::default(), 0)?;
    let training = options.training(200);
    model.train(&dataset(folder)?, None, &training, &mut |event| {
        if event.step.is_multiple_of(10) || event.step == event.total_steps {
            eprintln!("peer: training step {} of {}, loss {:.4}", event.step, event.total_steps, event.loss);
        }
        ControlFlow::Continue
    })?;
    model.save(folder.join("model.cellsparse"))?;
    let values: Vec<f32> = model.weights().parameters().iter().flat_map(|p| p.values.iter().copied()).collect();
    write_npy(&folder.join("weights.npy"), &[values.len()], &values)?;
    let batch = batch(folder)?;
    let (side, cells) = ([batch.size, batch.patch, batch.patch], [batch.size, batch.rows, batch.columns]);
    write_npy(&folder.join("batch_images.npy"), &side, &batch.images)?;
    write_npy(&folder.join("batch_prob.npy"), &cells, &batch.prob)?;
    write_npy(&folder.join("batch_mask.npy"), &cells, &batch.mask)?;
    write_npy(&folder.join("batch_dist.npy"), &[cells[0], cells[1], cells[2], batch.n_rays], &batch.dist)?;
    model.save_onnx(folder.join("model.onnx"))?;
    let found = model.predict(&read_image(folder.join("field.png"))?, &options.prediction())?.objects.len();
    eprintln!("peer: wrote {}; the model finds {found} objects", folder.display());
    Ok(())
}

/// Optimiser steps on a fixed batch.
pub fn step(options: &Options) -> Result<Value> {
    let batch = batch(&options.folder)?;
    let model = options.model()?;
    let graph = Arc::new(model.graph().as_ref().clone());
    let weights = model.weights().clone();
    drop(model);
    let optimizer = Adam::new(&weights);
    let device = options.device();
    let training = Training {
        at_once: Engine::images_at_once(&graph, &device, [batch.size, batch.patch, batch.patch]),
        graph,
        weights,
        optimizer,
        rate: LEARNING_RATE,
        patch: batch.patch,
        device,
        warm_up: 3,
    };
    options.on_threads(|| {
        let truth = StarTruth { prob: &batch.prob, dist: &batch.dist, mask: &batch.mask, class: None };
        let (means, pixels) = (StarMeans::of(&truth), batch.rows * batch.columns);
        training.steps(options.steps.unwrap_or(10), &batch.images, |images, outputs, gradients| {
            let ([prob, dist], [prob_gradient, dist_gradient]) = (outputs, gradients) else {
                return Err(Error::Internal("the network does not have two outputs".into()));
            };
            let loss = stardist_loss_part(
                &StarLossConfig::default(),
                Head::Logits,
                &means,
                StarOutputs { prob, dist, class: None },
                truth.of_pixels(images.start * pixels..images.end * pixels),
                Some(StarGradients { prob: prob_gradient, dist: dist_gradient, class: None }),
            )?;
            Ok(loss.total)
        })
    })
}

/// The network alone, and everything from the file to the objects.
pub fn predict(options: &Options) -> Result<Value> {
    let path = options.folder.join("field.png");
    let image = read_image(&path)?;
    let model = options.model()?;
    let repeats = options.steps.unwrap_or(5);
    let (height, width, _) = image.shape();
    let before = peak_mb();
    let input: Vec<f32> = model.normalization().apply(&image)?.iter().copied().collect();
    let graph = Arc::new(model.graph().as_ref().clone());
    let (network, mean) = options.on_threads(|| {
        let mut engine = Engine::new(&graph, &options.device(), [1, height, width], false)?;
        engine.set_weights(model.weights())?;
        let mut outputs = Vec::new();
        let times = timed(repeats, || engine.forward(model.weights(), &input, &mut outputs))?;
        let rays = outputs.pop().unwrap_or_default();
        Ok((times, rays.iter().map(|value| f64::from(value.abs())).sum::<f64>() / rays.len() as f64))
    })?;
    let mut objects = 0;
    let prediction = options.prediction();
    let full = timed(repeats, || {
        objects = model.predict(&read_image(&path)?, &prediction)?.objects.len();
        Ok(())
    })?;
    Ok(json!({ "ms": { "network": network, "full": full }, "objects": objects, "mean": mean, "before_mb": before }))
}

/// From the folder to the trained model.
pub fn train(options: &Options) -> Result<Value> {
    let start = Instant::now();
    let all = dataset(&options.folder)?;
    let count = VALIDATION_IMAGES.min(all.len());
    let validation = Dataset::new(all.images()[..count].to_vec(), all.labels()[..count].to_vec())?;
    let mut model = Model::stardist(StarDistConfig::default(), 0)?;
    let summary = model.train(&all, Some(&validation), &options.training(200), &mut |_| ControlFlow::Continue)?;
    Ok(json!({ "ms": { "train": [milliseconds(start)] }, "steps": summary.steps, "loss": [summary.loss] }))
}

/// From the start of the process to the objects of one image.
pub fn cold(options: &Options, begin: Instant) -> Result<Value> {
    let image = read_image(options.folder.join("images").join("00.png"))?;
    let found = options.model()?.predict(&image, &options.prediction())?;
    Ok(json!({ "ms": { "cold": [milliseconds(begin)] }, "objects": found.objects.len() }))
}

/// The batch that all steps are measured on.
fn batch(folder: &Path) -> Result<Batch> {
    let (images, labels) = normalised(folder)?;
    let config = BatchConfig { policy: SamplingPolicy::Reference, ..BatchConfig::default() };
    BatchMaker::new(images, labels, config)?.batch(0)
}
