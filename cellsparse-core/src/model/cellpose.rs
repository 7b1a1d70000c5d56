//! Cellpose behind the facade: its batches, its maps, its thresholds.

use ndarray::{Array2, Array3, ArrayView3, s};

use super::predict::from_labels;
use super::thresholds::{choose, smallest_object};
use super::train::{Judged, training_data};
use super::{CellposeThresholds, Model, PredictOptions, Preset, Segmentation, Thresholds, TrainOptions};
use crate::annotations::Dataset;
use crate::error::{Error, Result};
use crate::networks::{CellposeConfig, Device};
use crate::postprocess::clean::{relabel_sequential, remove_small_labels};
use crate::postprocess::masks::{MaskOptions, compute_masks};
use crate::raster::taper::{
    TaperedSum, augmented_flip, augmented_tile_starts, flip_tile, tile_starts, unflip_flows, zero_padding,
};
use crate::raster::{LabelImage, resize_bilinear, scaled_size};
use crate::training::augment::Augmentation;
use crate::training::augment_affine::Outside;
use crate::training::batch_cellpose::{CellposeBatchConfig, CellposeBatches};
use crate::training::sampler::SamplingPolicy;

/// Side of the tiles that the network reads, and their overlap, as in the Cellpose package.
const TILE: usize = 224;
const OVERLAP: f64 = 0.1;

/// Tiles that are read at a time.
const TILES: usize = 8;

/// The batches of a training on prepared images and labels.
pub(super) fn batches(
    config: &CellposeConfig,
    options: &TrainOptions,
    batch: [usize; 2],
    (images, labels): (Vec<Array3<f32>>, Vec<LabelImage>),
) -> Result<CellposeBatches> {
    CellposeBatches::new(images, labels, batch_config(config, options, batch))
}

/// One crop of every image of `data`, at its own scale, as a single batch.
pub(super) fn validation(
    model: &Model,
    config: &CellposeConfig,
    data: &Dataset,
    options: &TrainOptions,
    batch: [usize; 2],
) -> Result<CellposeBatches> {
    let (images, labels) = training_data(model, data, options)?;
    let config =
        CellposeBatchConfig { batch_size: data.len().min(64), ..batch_config(config, options, batch).validation() };
    CellposeBatches::new(images, labels, config)
}

fn batch_config(config: &CellposeConfig, options: &TrainOptions, batch: [usize; 2]) -> CellposeBatchConfig {
    let usual = CellposeBatchConfig {
        seed: options.seed,
        batch_size: batch[0],
        patch: batch[1],
        diam_mean: f64::from(config.diam_mean),
        ..CellposeBatchConfig::default()
    };
    match options.preset {
        Preset::Reference => {
            CellposeBatchConfig { policy: SamplingPolicy::Reference, outside: Outside::Background, ..usual }
        }
        _ => CellposeBatchConfig { intensity: Augmentation { symmetries: false, ..Augmentation::default() }, ..usual },
    }
}

/// The thresholds of a model whose annotated cells have that diameter.
pub(super) fn expect_size(model: &Model, diameter: f64) -> Result<Thresholds> {
    let thresholds = CellposeThresholds { diameter: diameter.max(5.0) as f32, ..model.thresholds.cellpose()? };
    Ok(Thresholds::Cellpose(thresholds))
}

/// What the network says about an image, at the size of the image.
pub(super) struct FlowMaps {
    /// `[2, H, W]`: `dY`, `dX`.
    flows: Array3<f32>,
    /// Logit `[H, W]`.
    pub cellprob: Array2<f32>,
}

/// Runs the network over a normalised image, scaled so that its cells have the network's diameter.
pub(super) fn maps(
    model: &Model,
    config: &CellposeConfig,
    image: ArrayView3<'_, f32>,
    thresholds: &CellposeThresholds,
    options: &PredictOptions,
    device: &Device,
) -> Result<FlowMaps> {
    let (height, width, _) = image.dim();
    let scale = f64::from(config.diam_mean) / f64::from(thresholds.diameter);
    let sides = [scaled_size(height, scale)?.max(1), scaled_size(width, scale)?.max(1)];
    let answer = if sides == [height, width] {
        tiled(model, image, options, device)?
    } else {
        let scaled = resize_bilinear(image, sides[0], sides[1])?;
        resize_bilinear(tiled(model, scaled.view(), options, device)?.view(), height, width)?
    };
    let plane = |channel: usize| answer.slice(s![.., .., channel]);
    let mut flows = Array3::zeros((2, height, width));
    for channel in 0..2 {
        flows.slice_mut(s![channel, .., ..]).assign(&plane(channel));
    }
    Ok(FlowMaps { flows, cellprob: plane(2).to_owned() })
}

/// The network's maps `[H, W, 3]` of an image at the network's scale: zeros around it, overlapping tiles, blended. With
/// `options.augment`, tiles overlap by half and are mirrored in turn.
fn tiled(model: &Model, image: ArrayView3<'_, f32>, options: &PredictOptions, device: &Device) -> Result<Array3<f32>> {
    let (height, width, channels) = image.dim();
    let [divisor, _] = model.graph.divisor();
    let paddings = [zero_padding(height), zero_padding(width)];
    let padded_size = [height + paddings[0].iter().sum::<usize>(), width + paddings[1].iter().sum::<usize>()];
    let tile = options.tile.unwrap_or(TILE).next_multiple_of(divisor.max(16));
    let side: [usize; 2] = match options.augment {
        true => [tile; 2],
        false => std::array::from_fn(|axis| tile.min(padded_size[axis].next_multiple_of(divisor))),
    };
    let total: [usize; 2] = std::array::from_fn(|axis| padded_size[axis].max(side[axis]));
    let inside = s![paddings[0][0]..paddings[0][0] + height, paddings[1][0]..paddings[1][0] + width, ..];
    let mut padded = Array3::zeros((total[0], total[1], channels));
    padded.slice_mut(inside).assign(&image);
    let starts: [Vec<usize>; 2] = std::array::from_fn(|axis| match options.augment {
        true => augmented_tile_starts(total[axis], side[axis]),
        false => tile_starts(total[axis], side[axis], OVERLAP),
    });
    let mut places = Vec::new();
    for (row, &y) in starts[0].iter().enumerate() {
        for (column, &x) in starts[1].iter().enumerate() {
            let flip = if options.augment { augmented_flip(row, column) } else { [false; 2] };
            places.push(([y, x], flip));
        }
    }
    let mut sum = TaperedSum::new(total[0], total[1], 3, side)?;
    for group in places.chunks(TILES) {
        if options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let cut = |&([y, x], flip): &([usize; 2], [bool; 2])| {
            flip_tile(padded.slice(s![y..y + side[0], x..x + side[1], ..]), flip)
        };
        let tiles: Vec<Array3<f32>> = group.iter().map(cut).collect();
        let views: Vec<_> = tiles.iter().map(|tile| tile.view()).collect();
        for (outputs, (corner, flip)) in model.run(device, &views)?.iter().zip(group) {
            let Some(maps) = outputs.first() else { continue };
            sum.add(unflip_flows(maps.view(), *flip).view(), *corner)?;
        }
    }
    Ok(sum.finish().slice(inside).to_owned())
}

impl FlowMaps {
    /// Follows the flows and keeps what looks like cells.
    pub fn segment(
        &self,
        config: &CellposeConfig,
        thresholds: &CellposeThresholds,
        min_area: f32,
    ) -> Result<Segmentation> {
        let options = MaskOptions {
            steps: MaskOptions::steps_for(f64::from(thresholds.diameter), f64::from(config.diam_mean)),
            cellprob_threshold: thresholds.cellprob,
            flow_threshold: thresholds.flow,
            ..MaskOptions::default()
        };
        let mut labels =
            compute_masks(self.flows.view(), self.cellprob.view(), &MaskOptions { min_size: 0, ..options })?;
        remove_small_labels(&mut labels, thresholds.smallest_object.max(min_area));
        let labels = relabel_sequential(&labels, 1)?;
        from_labels(labels, self.cellprob.mapv(|logit| 1.0 / (1.0 + (-logit).exp())).view())
    }
}

/// Cell-probability logits and flow errors that are tried.
const CELLPROBS: [f32; 5] = [-2.0, -1.0, 0.0, 1.0, 2.0];
const FLOWS: [f32; 3] = [0.0, 0.4, 0.8];

/// The thresholds that segment the images of `validation` best; without any, the defaults.
///
/// On the few cells that were trained on, the choice would favour low thresholds: what these add between the drawn cells is
/// unlabelled and costs nothing.
pub(super) fn choose_thresholds(
    model: &Model,
    config: &CellposeConfig,
    data: &Dataset,
    judged: Option<Judged<'_>>,
    device: &Device,
) -> Result<CellposeThresholds> {
    let default =
        CellposeThresholds { smallest_object: smallest_object(data.labels().iter()), ..model.thresholds.cellpose()? };
    let Some(judged) = judged else { return Ok(default) };
    let options = PredictOptions::default();
    let images = judged.predicted(model, |image| maps(model, config, image.view(), &default, &options, device))?;
    let mut choices = Vec::new();
    for flow in FLOWS {
        for cellprob in CELLPROBS {
            let distance = (flow - default.flow).abs() + 0.2 * cellprob.abs();
            choices.push((CellposeThresholds { flow, cellprob, ..default }, distance));
        }
    }
    let segment = |maps: &FlowMaps, thresholds: &CellposeThresholds| Ok(maps.segment(config, thresholds, 0.0)?.labels);
    Ok(choose(&choices, &images, segment)?.unwrap_or(default))
}
