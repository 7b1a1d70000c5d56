//! Cellpose: training steps, the network over an image, flows and masks.

use std::path::PathBuf;
use std::sync::Arc;

use cellsparse_core::model::convert;
use cellsparse_core::networks::{CellposeConfig, Engine, Weights};
use cellsparse_core::postprocess::masks::{MaskOptions, compute_masks};
use cellsparse_core::raster::{
    LabelImage, read_image,
    taper::{TaperedSum, tile_starts, zero_padding},
};
use cellsparse_core::synthetic::draw_field;
use cellsparse_core::targets::cellpose::{FlowRule, masks_to_flows};
use cellsparse_core::training::batch_cellpose::{CellposeBatch, CellposeBatchConfig, CellposeBatches};
use cellsparse_core::training::loss_cellpose::cellpose_loss;
use cellsparse_core::training::optimizer::Adam;
use cellsparse_core::{Error, Image, Result};
use ndarray::{Array3, ArrayView3, Axis, concatenate, s};
use serde_json::{Map, Value, json};

use crate::common::{
    BATCH, IMAGES, Options, PATCH, Training, draw_training_images, normalised, peak_mb, read_npy, square, timed,
    write_gray, write_npy, write_npy_i32, write_weights,
};

/// Sides of the fields whose masks are computed; the network runs over the first.
const SIDES: [usize; 2] = [1024, 2048];

/// Writes the start weights, as an ONNX network too, one batch, and the masks of drawn fields.
pub fn data(options: &Options) -> Result<()> {
    let folder = &options.folder;
    draw_training_images(folder)?;
    for side in SIDES {
        let field = draw_field(&square(side), IMAGES)?;
        let cells = field.truth.iter().max().copied().unwrap_or_default();
        eprintln!("peer: a field of {side} pixels has {cells} nuclei");
        write_npy_i32(&folder.join(format!("masks_{side}.npy")), &[side, side], field.truth)?;
        if side == SIDES[0] {
            write_gray(&folder.join("cellpose_field.png"), &field.image)?;
        }
    }
    let config = CellposeConfig::reference();
    let batch = batch(options, config.n_channels)?;
    let pixels = [BATCH, PATCH, PATCH];
    write_npy(&folder.join("cellpose_images.npy"), &[pixels[0], PATCH, PATCH, batch.channels], &batch.images)?;
    write_npy(&folder.join("cellpose_targets.npy"), &[pixels[0], PATCH, PATCH, 3], &batch.targets)?;
    let graph = config.graph();
    let file = folder.join("cellpose.pth");
    write_weights(&file, &graph, &Weights::init(&graph, 0))?;
    convert(file, folder.join("cellpose.onnx"), None)?;
    Ok(())
}

/// Optimiser steps of the package's network.
pub fn step(options: &Options) -> Result<Value> {
    steps_of(options, &CellposeConfig::reference())
}

/// Optimiser steps of this crate's own narrower network, which has no peer.
pub fn narrow_step(options: &Options) -> Result<Value> {
    steps_of(options, &CellposeConfig::default())
}

fn steps_of(options: &Options, config: &CellposeConfig) -> Result<Value> {
    let batch = batch(options, config.n_channels)?;
    let graph = Arc::new(config.graph());
    let weights = Weights::init(&graph, 0);
    let mut optimizer = Adam::pytorch(&weights);
    optimizer.decay = 1e-5;
    let training = Training {
        at_once: BATCH,
        graph,
        weights,
        optimizer,
        rate: 0.005,
        patch: PATCH,
        device: options.device(),
        warm_up: 2,
    };
    options.on_threads(|| {
        training.steps(options.steps.unwrap_or(10), &batch.images, |_, outputs, gradients| {
            // The second output, the style, has no loss of its own.
            Ok(cellpose_loss(&outputs[0], &batch.targets, Some(&mut gradients[0]))?.total)
        })
    })
}

/// The network over the tiles of an image, blended: from the image to flows and cell probability.
pub fn predict(options: &Options) -> Result<Value> {
    let image = as_f32(&read_image(options.folder.join("cellpose_field.png"))?)? / 255.0;
    let config = CellposeConfig::reference();
    let image = with_channels(image, config.n_channels)?;
    let graph = Arc::new(config.graph());
    let weights = Weights::init(&graph, 0);
    let repeats = options.steps.unwrap_or(3);
    let before = peak_mb();
    options.on_threads(|| {
        let mut engine = Engine::new(&graph, &options.device(), [BATCH, PATCH, PATCH], false)?;
        engine.set_weights(&weights)?;
        let mut maps = Array3::zeros((0, 0, 0));
        let times = timed(repeats, || {
            maps = over_tiles(image.view(), &mut engine, &weights)?;
            Ok(())
        })?;
        let mean = maps.iter().map(|value| f64::from(value.abs())).sum::<f64>() / maps.len() as f64;
        Ok(json!({ "ms": { "network": times }, "mean": mean, "before_mb": before }))
    })
}

/// Pads, cuts, runs and blends as Cellpose does. The last batch is filled up with tiles that are not used.
fn over_tiles(image: ArrayView3<'_, f32>, engine: &mut Engine, weights: &Weights) -> Result<Array3<f32>> {
    let (height, width, channels) = image.dim();
    let ([top, bottom], [left, right]) = (zero_padding(height), zero_padding(width));
    let (rows, columns) = (top + height + bottom, left + width + right);
    let mut padded = Array3::zeros((rows, columns, channels));
    padded.slice_mut(s![top..top + height, left..left + width, ..]).assign(&image);
    let (ys, xs) = (tile_starts(rows, PATCH, 0.1), tile_starts(columns, PATCH, 0.1));
    let places: Vec<[usize; 2]> = ys.iter().flat_map(|&y| xs.iter().map(move |&x| [y, x])).collect();
    let mut sum = TaperedSum::new(rows, columns, 3, [PATCH; 2])?;
    let (mut input, mut outputs) = (vec![0.0; BATCH * PATCH * PATCH * channels], Vec::new());
    for batch in places.chunks(BATCH) {
        for (&[y, x], tile) in batch.iter().zip(input.chunks_exact_mut(PATCH * PATCH * channels)) {
            let part = padded.slice(s![y..y + PATCH, x..x + PATCH, ..]);
            tile.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        }
        engine.forward(weights, &input, &mut outputs)?;
        for (&place, answer) in batch.iter().zip(outputs[0].as_chunks::<{ PATCH * PATCH * 3 }>().0) {
            let answer = ArrayView3::from_shape((PATCH, PATCH, 3), &answer[..]);
            sum.add(answer.map_err(|error| Error::Internal(error.to_string()))?, place)?;
        }
    }
    Ok(sum.finish().slice(s![top..top + height, left..left + width, ..]).to_owned())
}

/// Flows from masks, and masks from flows with and without the filter by flow quality.
pub fn masks(options: &Options) -> Result<Value> {
    let repeats = options.steps.unwrap_or(3);
    let file = |name: &str, side: usize| -> PathBuf { options.folder.join(format!("{name}_{side}.npy")) };
    let mut times = Map::new();
    let mut objects = Vec::new();
    for side in SIDES {
        let shape = |error: ndarray::ShapeError| Error::Internal(error.to_string());
        let truth = read_npy(&file("masks", side), "<i4", i32::from_le_bytes)?;
        let truth = LabelImage::from_shape_vec((side, side), truth).map_err(shape)?;
        let maps = read_npy(&file("flows", side), "<f4", f32::from_le_bytes)?;
        let maps = Array3::from_shape_vec((3, side, side), maps).map_err(shape)?;
        let (flows, cellprob) = (maps.slice(s![..2, .., ..]), maps.index_axis(Axis(0), 2));
        options.on_threads(|| {
            let mut answer = Array3::zeros((0, 0, 0));
            let spent = timed(repeats, || {
                answer = masks_to_flows(truth.view(), FlowRule::Reference)?;
                Ok(())
            })?;
            times.insert(format!("flows{side}"), json!(spent));
            let values: Vec<f32> = answer.iter().copied().collect();
            write_npy(&file("cellsparse_flows", side), &[2, side, side], &values)?;
            for (name, flow_threshold) in [("filtered", 0.4), ("unfiltered", 0.0)] {
                let mask_options = MaskOptions { flow_threshold, ..MaskOptions::default() };
                let mut found = LabelImage::zeros((0, 0));
                let spent = timed(repeats, || {
                    found = compute_masks(flows, cellprob, &mask_options)?;
                    Ok(())
                })?;
                times.insert(format!("{name}{side}"), json!(spent));
                objects.push(found.iter().max().copied().unwrap_or_default());
                write_npy_i32(&file(&format!("cellsparse_{name}"), side), &[side, side], found)?;
            }
            Ok(())
        })?;
    }
    Ok(json!({ "ms": times, "objects": objects }))
}

/// The batch that all steps are measured on.
fn batch(options: &Options, channels: usize) -> Result<CellposeBatch> {
    let (images, labels) = normalised(&options.folder)?;
    let images = images.into_iter().map(|image| with_channels(image, channels)).collect::<Result<_>>()?;
    CellposeBatches::new(images, labels, CellposeBatchConfig::default())?.batch(0)
}

/// A grey image with further channels of zeros, as the package has it.
fn with_channels(image: Array3<f32>, channels: usize) -> Result<Array3<f32>> {
    let (height, width, present) = image.dim();
    let zeros = Array3::zeros((height, width, channels.saturating_sub(present)));
    let both = concatenate(Axis(2), &[image.view(), zeros.view()]);
    both.map(|image| image.as_standard_layout().into_owned()).map_err(|error| Error::Internal(error.to_string()))
}

fn as_f32(image: &Image) -> Result<Array3<f32>> {
    match image {
        Image::U8(pixels) => Ok(pixels.mapv(f32::from)),
        _ => Err(Error::Internal("the field is not an 8-bit image".into())),
    }
}
