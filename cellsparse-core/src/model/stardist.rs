//! StarDist behind the facade: its training task and its maps.

use std::cell::RefCell;
use std::ops::ControlFlow;

use ndarray::{Array2, Array3, ArrayView3, s};

use super::judged::Judged;
use super::stardist_objects::Candidates;
use super::thresholds::choose;
use super::train::training_data;
use super::work::Work;
use super::working_scale::WorkingScale;
use super::{Model, Preset, StarThresholds, TrainOptions};
use crate::annotations::Dataset;
use crate::error::{Error, Result};
use crate::geometry::disc_diameter;
use crate::networks::{StarDistConfig, Weights};
use crate::raster::{LabelImage, Span, read_reflected, tile_axis};
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

/// Weights of probability, distance and class in the loss. With that of the original for the distance, 0.2, the shapes of
/// cells are learned long after their places.
const LOSS_WEIGHTS: [f64; 3] = [1.0, 2.0, 1.0];

impl StarDistTask {
    /// The task of training on `data`, whose images and labels are `prepared`.
    pub fn training(
        config: &StarDistConfig,
        data: &Dataset,
        options: &TrainOptions,
        batch: [usize; 2],
        prepared: (Vec<Array3<f32>>, Vec<LabelImage>),
    ) -> Result<Self> {
        let policy = match options.preset {
            Preset::Reference => SamplingPolicy::Reference,
            _ => SamplingPolicy::Annotated,
        };
        let config = BatchConfig { batch_size: batch[0], policy, ..batch_config(config, Some(data), options, batch)? };
        Self::new(prepared, options, config)
    }

    /// The task of training on prepared images and labels of no class.
    pub fn on(
        config: &StarDistConfig,
        prepared: (Vec<Array3<f32>>, Vec<LabelImage>),
        options: &TrainOptions,
        batch: [usize; 2],
    ) -> Result<Self> {
        let config = BatchConfig { batch_size: batch[0], ..batch_config(config, None, options, batch)? };
        Self::new(prepared, options, config)
    }

    /// One patch of every image of `data`, not augmented, as a single batch.
    pub fn validation(
        model: &Model,
        config: &StarDistConfig,
        data: &Dataset,
        options: &TrainOptions,
        batch: [usize; 2],
    ) -> Result<Self> {
        let config = BatchConfig {
            batch_size: data.len().min(64),
            augmentation: Augmentation::none(),
            policy: SamplingPolicy::Annotated,
            ..batch_config(config, Some(data), options, batch)?
        };
        Self::new(training_data(model, data, options)?, options, config)
    }

    fn new(
        (images, labels): (Vec<Array3<f32>>, Vec<LabelImage>),
        options: &TrainOptions,
        config: BatchConfig,
    ) -> Result<Self> {
        let loss = match options.preset {
            Preset::Reference => StarLossConfig::default(),
            _ => StarLossConfig { regularize_ignored: false, weights: LOSS_WEIGHTS, ..StarLossConfig::default() },
        };
        Ok(Self { batches: BatchMaker::new(images, labels, config)?, loss })
    }
}

fn batch_config(
    config: &StarDistConfig,
    data: Option<&Dataset>,
    options: &TrainOptions,
    batch: [usize; 2],
) -> Result<BatchConfig> {
    let classes = match config.n_classes {
        None => None,
        Some(n_classes) => {
            let mut objects = Vec::new();
            for labels in data.map(Dataset::labels).unwrap_or_default() {
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
        patch: batch[1],
        grid: config.grid,
        n_rays: config.n_rays,
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

/// Side of the smallest tile, in receptive radii: half of it is kept, a quarter of the pixels that are read.
const LEAST_TILE: usize = 4;

/// The side of the smallest tile that is taken for a caller who asks for a small one.
pub(super) fn least_tile(config: &StarDistConfig) -> usize {
    let [rows, columns] = config.receptive_radius();
    LEAST_TILE * rows.max(columns)
}

/// Runs the network over a normalised image tile by tile, row of tiles by row of tiles, and hands the maps of every tile to
/// `visit`, until it says to stop.
///
/// The image is continued by reflection to a multiple of what the network divides by. Tiles overlap by the receptive
/// field, so the maps are those of the whole image, whatever the size of the tiles: it is chosen by the memory that there is.
pub(super) fn for_each_tile(
    model: &Model,
    config: &StarDistConfig,
    image: ArrayView3<'_, f32>,
    work: &Work<'_>,
    visit: &mut dyn FnMut(StarMaps) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let (height, width, _) = image.dim();
    let Some(tiles) = StarTiles::plan(model, config, [height, width], work)? else {
        return Ok(ControlFlow::Continue(()));
    };
    for row in 0..tiles.rows.len() {
        for column in 0..tiles.columns.len() {
            let read = |input: &mut [f32]| read_reflected(image, tiles.corner([row, column]), tiles.shape[2], input);
            let visited = visit(tiles.maps(model, work, [row, column], read)?)?;
            if visited.is_break() {
                return Ok(visited);
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The tiles in which an image is read.
pub(super) struct StarTiles {
    /// In blocks of what the network divides by.
    pub rows: Vec<Span>,
    pub columns: Vec<Span>,
    /// `[1, height, width]` of the tiles in pixels.
    pub shape: [usize; 3],
    block: [usize; 2],
    grid: [usize; 2],
    /// Blocks of the image.
    blocks: [usize; 2],
}

impl StarTiles {
    /// The largest tiles that the memory allows, of an image of those sides; none when the image has no pixel.
    pub fn plan(
        model: &Model,
        config: &StarDistConfig,
        [height, width]: [usize; 2],
        work: &Work<'_>,
    ) -> Result<Option<Self>> {
        let block = model.graph.divisor();
        let blocks = [height.div_ceil(block[0]), width.div_ceil(block[1])];
        let radius = config.receptive_radius();
        let spans = |sides: [usize; 2]| -> [Vec<Span>; 2] {
            std::array::from_fn(|axis| {
                tile_axis(blocks[axis], sides[axis].div_ceil(block[axis]), radius[axis].div_ceil(block[axis]))
            })
        };
        let shape = |sides: [usize; 2]| {
            let spans = spans(sides);
            let side = |axis: usize| spans[axis].first().map_or(0, |span| (span.end - span.begin) * block[axis]);
            [1, side(0), side(1)]
        };
        let pixels = blocks[0] * block[0] * blocks[1] * block[1];
        let first = work.tile.unwrap_or(if pixels <= TILE * TILE { height.max(width) } else { TILE });
        let least = [least_tile(config); 2];
        // Sides that fall by a quarter each; where memory is short, down to tiles that are read for their surroundings alone.
        let smaller = |side: &usize| Some(side - side / 4).filter(|next| next < side && *next > least[0].max(least[1]));
        let sensible = std::iter::successors(Some(first), smaller).map(|side| least.map(|least| side.max(least)));
        let sides = sensible.chain([LEAST_TILE, 3, 2].map(|times| radius.map(|radius| times * radius)));
        let Some(sides) = model.first_fitting(work, sides, shape)? else { return Ok(None) };
        let [rows, columns] = spans(sides);
        Ok(Some(Self { rows, columns, shape: shape(sides), block, grid: config.grid, blocks }))
    }

    /// First pixel of a tile.
    pub fn corner(&self, [row, column]: [usize; 2]) -> [usize; 2] {
        [self.rows[row].begin * self.block[0], self.columns[column].begin * self.block[1]]
    }

    /// First and end pixel along an axis of what the maps of a tile stand for.
    pub fn kept(&self, axis: usize, index: usize) -> [usize; 2] {
        let span = [&self.rows, &self.columns][axis][index];
        [span.keep_begin * self.block[axis], span.keep_end * self.block[axis]]
    }

    /// What the network says about a tile, whose pixels `read` writes.
    pub fn maps(
        &self,
        model: &Model,
        work: &Work<'_>,
        [row, column]: [usize; 2],
        read: impl FnOnce(&mut [f32]),
    ) -> Result<StarMaps> {
        let (rows, columns) = (self.rows[row], self.columns[column]);
        let cells = [self.block[0] / self.grid[0], self.block[1] / self.grid[1]];
        let outputs = model.run(work, self.shape, read)?.swap_remove(0);
        let keep = s![
            (rows.keep_begin - rows.begin) * cells[0]..(rows.keep_end - rows.begin) * cells[0],
            (columns.keep_begin - columns.begin) * cells[1]..(columns.keep_end - columns.begin) * cells[1],
            ..
        ];
        let prob = outputs[0].slice(keep).mapv(|logit| 1.0 / (1.0 + (-logit).exp()));
        Ok(StarMaps {
            prob: prob.remove_axis(ndarray::Axis(2)),
            dist: outputs[1].slice(keep).mapv(|length| length.max(SHORTEST_RAY)),
            class: outputs.get(2).map(|logits| logits.slice(keep).map_axis(ndarray::Axis(2), argmax)),
            origin: [rows.keep_begin * cells[0], columns.keep_begin * cells[1]],
            border: [
                [rows.keep_begin == 0, rows.keep_end == self.blocks[0]],
                [columns.keep_begin == 0, columns.keep_end == self.blocks[1]],
            ],
        })
    }
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

/// The object probability on the grid of an image `[H, W, C]` seen at that scale.
pub(super) fn probability(
    model: &Model,
    config: &StarDistConfig,
    image: ArrayView3<'_, f32>,
    scale: f64,
    work: &Work<'_>,
) -> Result<Array2<f32>> {
    let working = model.to_working(image.into(), scale)?;
    let (rows, columns, _) = working.dim();
    let mut whole = Array2::zeros((rows.div_ceil(config.grid[0]), columns.div_ceil(config.grid[1])));
    for_each_tile(model, config, working.view(), work, &mut |maps| {
        let [top, left] = maps.origin;
        for ((y, x), prob) in maps.prob.indexed_iter() {
            if let Some(out) = whole.get_mut((top + y, left + x)) {
                *out = *prob;
            }
        }
        Ok(ControlFlow::Continue(()))
    })?
    .is_continue()
    .then_some(whole)
    .ok_or_else(|| Error::Internal("a map that was not finished".into()))
}

/// Lets a new network begin with rays as long as the mean radius of the annotated cells that it sees: with rays of length 0
/// to begin with, most of a short training is spent on growing them.
pub(super) fn expect_size(weights: &mut Weights, data: &Dataset, scale: WorkingScale) {
    let mut radii = Vec::new();
    for labels in data.labels() {
        let factor = scale.for_labels(labels);
        radii.extend(labels.areas().values().map(|area| 0.5 * factor * disc_diameter(*area as f64)));
    }
    let mean = (radii.iter().sum::<f64>() / radii.len().max(1) as f64) as f32;
    for parameter in weights.parameters_mut() {
        if parameter.spec.name == "dist/bias" {
            parameter.values.fill(mean);
        }
    }
}

/// Probabilities that are tried, and those that are tried when none of them finds anything: a short training is unsure of
/// everything.
const PROBABILITIES: [f32; 10] = [0.3, 0.35, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8];
const LOW_PROBABILITIES: [f32; 3] = [0.2, 0.1, 0.05];

/// The probability that is taken unless another one is plainly better: networks of a few cells are less sure than their
/// objects are real.
const LIKELY: f32 = 0.35;

/// Overlaps that are tried, as in the reference.
const OVERLAPS: [f32; 3] = [0.3, 0.4, 0.5];

/// Candidates that thresholds are chosen on, at most: those of the images that are judged, together.
const MOST_CANDIDATES: usize = 1 << 18;

/// The thresholds that segment the images whose objects are known best.
pub(super) fn choose_thresholds(
    model: &Model,
    config: &StarDistConfig,
    default: StarThresholds,
    judged: Judged<'_>,
    work: &Work<'_>,
) -> Result<StarThresholds> {
    // Each image with the survivors of the overlap that was tried last.
    type Found = (Candidates, RefCell<(f32, Vec<usize>)>);
    let segment = |(found, latest): &Found, thresholds: &StarThresholds| {
        let mut latest = latest.borrow_mut();
        if latest.0 != thresholds.nms {
            *latest = (thresholds.nms, found.survivors(thresholds.nms, &work.cancel)?);
        }
        Ok(found.paint(&latest.1, thresholds, 0.0, &work.cancel)?.labels)
    };
    let most = MOST_CANDIDATES / judged.len().max(1);
    for probabilities in [&PROBABILITIES[..], &LOW_PROBABILITIES[..]] {
        let lowest = probabilities.iter().copied().fold(1.0, f32::min);
        let images = judged.predicted(model, work, |image, scale| {
            Ok((model.candidates(config, image, scale, lowest, most, work)?, RefCell::new((f32::NAN, Vec::new()))))
        })?;
        let mut choices = Vec::new();
        for nms in OVERLAPS {
            for prob in probabilities {
                let distance = (prob - LIKELY).abs() + (nms - default.nms).abs();
                choices.push((StarThresholds { prob: *prob, nms, ..default }, distance));
            }
        }
        if let Some(best) = choose(&choices, &images, segment)? {
            return Ok(best);
        }
    }
    Ok(default)
}
