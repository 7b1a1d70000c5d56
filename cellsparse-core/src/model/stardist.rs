//! StarDist behind the facade: its training task and its maps.

use std::sync::Arc;

use candle_core::Device;
use ndarray::{Array2, Array3, ArrayView3, s};

use super::{Model, Preset, TrainOptions};
use crate::annotations::{Dataset, background_rim};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::networks::Engine;
use crate::raster::{LabelImage, reflect_pad, tile_axis};
use crate::targets::stardist::ObjectClasses;
use crate::training::augment::Augmentation;
use crate::training::batch::{Batch, BatchConfig, BatchMaker, ImageClasses};
use crate::training::loss_stardist::{Head, StarGradients, StarLossConfig, StarOutputs, StarTruth, stardist_loss};
use crate::training::sampler::SamplingPolicy;
use crate::training::trainer::{LossReport, Task};

/// Batches and losses of a StarDist training.
pub(super) struct StarDistTask {
    batches: BatchMaker,
    loss: StarLossConfig,
}

impl StarDistTask {
    /// The task of training `model` on `data`.
    pub fn training(model: &Model, data: &Dataset, options: &TrainOptions, patch: usize) -> Result<Self> {
        let policy = match options.preset {
            Preset::Reference => SamplingPolicy::Reference,
            _ => SamplingPolicy::Annotated,
        };
        let config =
            BatchConfig { batch_size: options.batch_size, policy, ..batch_config(model, data, options, patch)? };
        Self::new(model, data, options, config)
    }

    /// One patch of every image of `data`, not augmented, as a single batch.
    pub fn validation(model: &Model, data: &Dataset, options: &TrainOptions, patch: usize) -> Result<Self> {
        let config = BatchConfig {
            batch_size: data.len().min(64),
            augmentation: Augmentation::none(),
            policy: SamplingPolicy::Annotated,
            ..batch_config(model, data, options, patch)?
        };
        Self::new(model, data, options, config)
    }

    fn new(model: &Model, data: &Dataset, options: &TrainOptions, config: BatchConfig) -> Result<Self> {
        let mut images = Vec::new();
        for image in data.images() {
            images.push(model.normalization.apply(image)?);
        }
        let mut labels: Vec<LabelImage> = data.labels().iter().map(|labels| labels.labels().clone()).collect();
        if options.preset != Preset::Reference {
            labels = labels.iter().map(|labels| background_rim(labels, RIM)).collect();
        }
        let loss =
            StarLossConfig { regularize_ignored: options.preset == Preset::Reference, ..StarLossConfig::default() };
        Ok(Self { batches: BatchMaker::new(images, labels, config)?, loss })
    }
}

/// Pixels around a drawn cell that are taken for background.
const RIM: usize = 2;

fn batch_config(model: &Model, data: &Dataset, options: &TrainOptions, patch: usize) -> Result<BatchConfig> {
    let classes = match model.config.n_classes {
        None => None,
        Some(n_classes) => {
            let mut objects = Vec::new();
            for labels in data.labels() {
                let mut of_image = ObjectClasses::new();
                for (&id, class) in labels.classes().into_iter().flatten() {
                    of_image.insert(id, class.map(|class| class as usize));
                }
                objects.push(of_image);
            }
            Some(ImageClasses { n_classes, objects })
        }
    };
    Ok(BatchConfig {
        seed: options.seed,
        patch,
        grid: model.config.grid,
        n_rays: model.config.n_rays,
        classes,
        ..BatchConfig::default()
    })
}

impl Task for StarDistTask {
    type Batch = Batch;

    fn batch_into(&self, batch: &mut Batch, index: u64) -> Result<()> {
        self.batches.batch_into(batch, index)
    }

    fn input<'a>(&self, batch: &'a Batch) -> &'a [f32] {
        &batch.images
    }

    fn loss(&self, batch: &Batch, outputs: &[Vec<f32>], gradients: Option<&mut Vec<Vec<f32>>>) -> Result<LossReport> {
        let [prob, dist, rest @ ..] = outputs else {
            return Err(Error::Internal("a StarDist network has at least two outputs".into()));
        };
        let network = StarOutputs { prob, dist, class: rest.first().map(Vec::as_slice) };
        let truth =
            StarTruth { prob: &batch.prob, dist: &batch.dist, mask: &batch.mask, class: batch.class.as_deref() };
        let loss = match gradients {
            None => stardist_loss(&self.loss, Head::Logits, network, truth, None)?,
            Some(buffers) => {
                buffers.resize(outputs.len(), Vec::new());
                buffers.iter_mut().zip(outputs).for_each(|(buffer, output)| buffer.resize(output.len(), 0.0));
                let [prob, dist, rest @ ..] = buffers.as_mut_slice() else {
                    return Err(Error::Internal("a StarDist network has at least two outputs".into()));
                };
                let gradients = StarGradients { prob, dist, class: rest.first_mut().map(Vec::as_mut_slice) };
                stardist_loss(&self.loss, Head::Logits, network, truth, Some(gradients))?
            }
        };
        let mut parts = vec![("prob", loss.prob as f32), ("dist", loss.dist as f32)];
        if let Some(class) = loss.class {
            parts.push(("class", class as f32));
        }
        Ok(LossReport { total: loss.total, parts })
    }
}

/// What the network says about one tile, on the grid.
pub(super) struct StarMaps {
    /// Object probability `[h, w]`.
    pub prob: Array2<f32>,
    /// Ray lengths in pixels `[h, w, rays]`, at least 1e-3.
    pub dist: Array3<f32>,
    /// Class with the highest score `[h, w]`, 0 background.
    pub class: Option<Array2<usize>>,
    /// First grid row and column of these maps in those of the padded image.
    pub origin: [usize; 2],
    /// Whether the maps touch the border of the padded image: `[[top, bottom], [left, right]]`.
    pub border: [[bool; 2]; 2],
}

/// Smallest ray length, as in the reference.
const SHORTEST_RAY: f32 = 1e-3;

/// Side of a tile when the image does not fit into one.
const TILE: usize = 1024;

/// Runs the network over a normalised image tile by tile and hands the maps of every tile to `visit`.
///
/// The image is continued by reflection to a multiple of what the network divides by. Tiles overlap by the receptive
/// field, so the maps are those of the whole image.
pub(super) fn for_each_tile(
    model: &Model,
    image: ArrayView3<'_, f32>,
    tile: Option<usize>,
    device: &Device,
    cancel: &CancelToken,
    visit: &mut dyn FnMut(StarMaps) -> Result<()>,
) -> Result<()> {
    let (height, width, _) = image.dim();
    let block = model.graph.divisor();
    let blocks = [height.div_ceil(block[0]), width.div_ceil(block[1])];
    let padded = reflect_pad(image, blocks[0] * block[0], blocks[1] * block[1]);
    let radius = model.config.receptive_radius();
    let spans: [_; 2] = std::array::from_fn(|axis| {
        let side = tile.unwrap_or(if blocks[0] * block[0] * blocks[1] * block[1] <= TILE * TILE {
            blocks[axis] * block[axis]
        } else {
            TILE
        });
        tile_axis(blocks[axis], side.div_ceil(block[axis]), radius[axis].div_ceil(block[axis]))
    });
    let cells = [block[0] / model.config.grid[0], block[1] / model.config.grid[1]];
    for rows in &spans[0] {
        for columns in &spans[1] {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let part = padded.slice(s![
                rows.begin * block[0]..rows.end * block[0],
                columns.begin * block[1]..columns.end * block[1],
                ..
            ]);
            let outputs = model.run(device, part)?;
            let keep = s![
                (rows.keep_begin - rows.begin) * cells[0]..(rows.keep_end - rows.begin) * cells[0],
                (columns.keep_begin - columns.begin) * cells[1]..(columns.keep_end - columns.begin) * cells[1],
                ..
            ];
            let prob = outputs[0].slice(keep).mapv(|logit| 1.0 / (1.0 + (-logit).exp()));
            visit(StarMaps {
                prob: prob.remove_axis(ndarray::Axis(2)),
                dist: outputs[1].slice(keep).mapv(|length| length.max(SHORTEST_RAY)),
                class: outputs.get(2).map(|logits| logits.slice(keep).map_axis(ndarray::Axis(2), argmax)),
                origin: [rows.keep_begin * cells[0], columns.keep_begin * cells[1]],
                border: [
                    [rows.keep_begin == 0, rows.keep_end == blocks[0]],
                    [columns.keep_begin == 0, columns.keep_end == blocks[1]],
                ],
            })?;
        }
    }
    Ok(())
}

fn argmax(scores: ndarray::ArrayView1<'_, f32>) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}

impl Model {
    /// Runs the network on one padded image `[h, w, c]` and returns its outputs `[h, w, channels]`.
    fn run(&self, device: &Device, image: ArrayView3<'_, f32>) -> Result<Vec<Array3<f32>>> {
        let (height, width, _) = image.dim();
        let shape = [1, height, width];
        let mut engine = match self.engines.take(shape, device) {
            Some(engine) => engine,
            None => {
                let mut engine = Engine::new(&Arc::clone(&self.graph), device, shape, false)?;
                engine.set_weights(&self.weights)?;
                engine
            }
        };
        let input: Vec<f32> = image.iter().copied().collect();
        let mut outputs = Vec::new();
        engine.forward(&self.weights, &input, &mut outputs)?;
        self.engines.put(shape, device, engine);
        let mut arrays = Vec::new();
        for (&id, values) in self.graph.outputs().iter().zip(outputs) {
            let node = &self.graph.nodes()[id];
            let [rows, columns] = node.size(height, width);
            let dim = (rows, columns, node.channels);
            let array = Array3::from_shape_vec(dim, values)
                .map_err(|error| Error::Internal(format!("output of the network: {error}")))?;
            arrays.push(array);
        }
        Ok(arrays)
    }
}
