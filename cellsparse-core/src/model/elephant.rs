//! ELEPHANT: cells of any shape, whose borders part their centres.

use std::ops::ControlFlow;

use ndarray::{Array2, Array3, ArrayView3, Axis, s};
use serde::{Deserialize, Serialize};

use super::ahead::ahead;
use super::algorithm::{
    AlgorithmKind, Facts, Found, NetworkOutput, ReferenceTraining, SegmentationAlgorithm, Shapes, StateEntry,
    TaskInput, ThresholdValues,
};
use super::calibration::CalibrationSet;
use super::drawn::Drawn;
use super::network::{Network, fill_from};
use super::normalization::Normalization;
use super::options::{Postprocess, PredictOptions, Preset, TrainOptions};
use super::outlines;
use super::segmentation::{Segmentation, from_labels};
use super::threshold_search::{
    check_probability, check_smallest_object, choose, highest, lower_probabilities, zoomed_area,
};
use super::work::Work;
use super::working_scale::{SeenCells, resample, scaled_bytes, scaled_sides};
use crate::budget::{bytes_of, copied, mapped};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::formats::tensors::NamedArrays;
use crate::networks::{ElephantConfig, ImageStatistics, Weights};
use crate::postprocess::clean::relabel_sequential;
use crate::postprocess::elephant::{InstanceMethod, WatershedOptions, elephant_instances_until};
use crate::postprocess::spots::SpotOptions;
use crate::raster::taper::{TaperedSum, tile_starts};
use crate::raster::{LabelImage, read_reflected, resize_bilinear, resize_bilinear_aligned};
use crate::targets::elephant::ClassRule;
use crate::training::any_task::AnyTask;
use crate::training::batch_elephant::{ElephantBatchConfig, ElephantBatches};
use crate::training::loss_elephant::ElephantLossConfig;
use crate::training::optimizer::{Adam, Optimizer};
use crate::training::schedule::Schedule;

/// Settings of the ELEPHANT post-processing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElephantThresholds {
    /// Smallest centre probability of a seed, in `(0, 1)`.
    pub center: f32,
    /// Smallest probability of border and centre together of a pixel of a cell, in `(0, 1)`.
    pub foreground: f32,
    /// Objects with fewer pixels are removed: much smaller than any annotated cell. 0 keeps all.
    pub smallest_object: f32,
}

impl Default for ElephantThresholds {
    fn default() -> Self {
        Self { center: 0.5, foreground: 0.5, smallest_object: 0.0 }
    }
}

/// The options of prediction of ELEPHANT.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ElephantOptions {
    /// Smallest centre probability of a seed, in `(0, 1)`.
    pub prob_thresh: Option<f32>,
    /// How probabilities become cells; `None` means [`Postprocess::Watershed`].
    pub postprocess: Option<Postprocess>,
}

impl From<ElephantOptions> for PredictOptions {
    fn from(ElephantOptions { prob_thresh, postprocess }: ElephantOptions) -> Self {
        Self { prob_thresh, postprocess, ..Self::default() }
    }
}

/// ELEPHANT with the settings of a model.
pub(super) struct Elephant<'a> {
    pub config: &'a ElephantConfig,
    pub thresholds: ElephantThresholds,
}

/// Centre and foreground probabilities that are tried.
const CENTERS: [f32; 5] = [0.3, 0.4, 0.5, 0.6, 0.7];
const FOREGROUNDS: [f32; 5] = [0.3, 0.4, 0.5, 0.6, 0.7];

/// Foreground probabilities that are tried for the outlines.
const OUTLINE_FOREGROUNDS: [f32; 7] = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.1];

/// Side of a tile when the image does not fit into one, and the overlap of tiles.
pub(super) const TILE: usize = 1024;
pub(super) const OVERLAP: f64 = 0.1;

static STARTING_WEIGHTS: &[u8] = include_bytes!("../../starters/elephant.bin");

impl AlgorithmKind for Elephant<'_> {
    type Config = ElephantConfig;
    type Thresholds = ElephantThresholds;
    type Options = ElephantOptions;

    const FACTS: Facts = Facts {
        name: "elephant",
        title: "ELEPHANT",
        options: &["prob_thresh", "postprocess"],
        starting_weights: &STARTING_WEIGHTS,
        shapes: Shapes::Any,
        adds_losses: false,
        rank: 2,
        outputs: &[NetworkOutput {
            name: "probabilities",
            operator: Some("Softmax"),
            meaning: "probabilities of background, border of a cell and centre of a cell",
        }],
        post_processing: "Connected parts with a high probability of a centre are seeds, from which a watershed floods the \
                          pixels that are not background.",
        citation: ["Sugawara et al.: Tracking cell lineages in 3D by incremental deep learning", "10.7554/eLife.69380"],
    };

    fn options(given: &PredictOptions) -> ElephantOptions {
        ElephantOptions { prob_thresh: given.prob_thresh, postprocess: given.postprocess }
    }

    fn misfit(own: &ElephantConfig, wanted: &ElephantConfig) -> Option<String> {
        let fits = own.widths == wanted.widths && own.residual == wanted.residual;
        (!fits).then(|| {
            let widths = &own.widths;
            format!("the starting weights belong to a network of the widths {widths:?}, without residual blocks")
        })
    }

    /// Shapes tell the architecture; images are scaled by minimum and maximum, as in elephant-core.
    fn recognise(arrays: &NamedArrays) -> Option<(ElephantConfig, ElephantThresholds, Normalization)> {
        let residual = arrays.contains_key("base.conv1.weight");
        let part = if residual { "conv1" } else { "0" };
        let shape = |block: &str| arrays.get(&format!("{block}.{part}.weight")).map(|(shape, _)| shape.as_slice());
        let n_channels = *shape("encoder.0")?.get(1)?;
        let mut widths: Vec<usize> =
            (0..).map_while(|level| shape(&format!("encoder.{level}"))?.first().copied()).collect();
        widths.push(*shape("base")?.first()?);
        let config = ElephantConfig { n_channels, widths, residual };
        Some((config, ElephantThresholds::default(), Normalization::MIN_MAX))
    }
}

impl ThresholdValues for ElephantThresholds {
    fn check(&self) -> Result<()> {
        let Self { center, foreground, smallest_object } = *self;
        check_probability("prob_thresh", "prob_thresh", center)?;
        check_probability("foreground", "the foreground threshold", foreground)?;
        check_smallest_object(smallest_object)
    }

    fn take(&mut self, given: &PredictOptions) {
        self.center = given.prob_thresh.unwrap_or(self.center);
    }

    fn zoom(&mut self, zoom: f64) {
        self.smallest_object = zoomed_area(self.smallest_object, zoom);
    }

    fn reset(&mut self, smallest_object: f32) {
        *self = Self { smallest_object, ..Self::default() };
    }

    fn allow(&mut self, smallest_object: f32) {
        self.smallest_object = self.smallest_object.min(smallest_object);
    }

    fn lower(&self) -> Vec<PredictOptions> {
        lower_probabilities(self.center)
    }
}

impl SegmentationAlgorithm for Elephant<'_> {
    fn averages_channels(&self) -> bool {
        self.config.n_channels == 1
    }

    fn bytes_of_a_pixel(&self) -> u64 {
        96
    }

    fn shares_statistics(&self) -> bool {
        true
    }

    fn reference_training(&self, _steps: usize) -> ReferenceTraining {
        ReferenceTraining {
            learning_rate: 1e-3,
            schedule: Schedule::Cosine { warmup: 0.0, floor: 1.0 },
            weight_decay: 0.0,
        }
    }

    fn optimizer(&self, weights: &Weights, _preset: Preset) -> Optimizer {
        Adam::pytorch(weights).into()
    }

    fn task(&self, input: TaskInput<'_>, options: &TrainOptions) -> Result<AnyTask> {
        // With background taken from the image, classes are balanced enough: the weights of the original make every doubtful
        // pixel a cell.
        let (rule, class_weights) = match options.preset {
            Preset::Reference => (ClassRule::REFERENCE, ElephantLossConfig::default().class_weights),
            _ => (ClassRule::default(), [1.0; 3]),
        };
        let config = ElephantBatchConfig {
            seed: options.seed,
            batch_size: input.batch_size,
            patch: input.patch,
            rule,
            loss: ElephantLossConfig { class_weights, ..Default::default() },
            ..Default::default()
        };
        let config = if input.validation { config.unchanged() } else { config };
        Ok(AnyTask::new(ElephantBatches::new(input.images, input.labels, config)?))
    }

    fn seen_cells(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        scale: f64,
        work: &Work<'_>,
    ) -> Result<Option<SeenCells>> {
        let maps = probabilities(network, image, scale, work)?;
        let inside = maps.slice(s![.., .., 0]).mapv(|background| background < 0.5);
        Ok(Some(SeenCells { inside, pixel: 1.0, fraction: 1.0 }))
    }

    fn segment(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        options: &PredictOptions,
        work: &Work<'_>,
    ) -> Result<Found> {
        let scale = self.scale_for(network, image, work)?;
        let maps = probabilities(network, image, scale, work)?;
        let highest = highest(maps.index_axis(Axis(2), 2));
        let method = options.postprocess.unwrap_or_default();
        let segmentation = segment(maps.view(), &self.thresholds, method, options.min_area, &work.cancel)?;
        Ok(Found { segmentation, highest, threshold: self.thresholds.center, times: 1.0 })
    }

    fn choose_thresholds(&mut self, network: &Network, set: &CalibrationSet<'_>, work: &Work<'_>) -> Result<()> {
        let default = self.thresholds;
        let scale_for = |image: ArrayView3<'_, f32>| self.scale_for(network, image, work);
        let predict = |image: ArrayView3<'_, f32>, scale| probabilities(network, image, scale, work);
        let images = set.predicted(network, work, scale_for, predict)?;
        let mut choices = Vec::new();
        for center in CENTERS {
            for foreground in FOREGROUNDS {
                let distance = (center - default.center).abs() + (foreground - default.foreground).abs();
                choices.push((ElephantThresholds { center, foreground, ..default }, distance));
            }
        }
        let segment = |probabilities: &Array3<f32>, thresholds: &ElephantThresholds| {
            Ok(segment(probabilities.view(), thresholds, Postprocess::default(), 0.0, &work.cancel)?.labels)
        };
        self.thresholds = choose(&choices, &images, segment)?.unwrap_or(default);
        Ok(())
    }

    fn fit_outlines(&mut self, network: &Network, drawn: &Drawn, work: &Work<'_>) -> Result<()> {
        let default = self.thresholds;
        let images =
            drawn.predicted(|image| probabilities(network, image, self.scale_for(network, image, work)?, work))?;
        let choices = OUTLINE_FOREGROUNDS.map(|foreground| ElephantThresholds { foreground, ..default });
        let segment = |probabilities: &Array3<f32>, thresholds: &ElephantThresholds| {
            Ok(segment(probabilities.view(), thresholds, Postprocess::default(), 0.0, &work.cancel)?.labels)
        };
        self.thresholds = outlines::fit(default, &choices, &images, segment)?;
        Ok(())
    }

    fn more_state(&self, _names: &[&str]) -> Result<Vec<StateEntry>> {
        Ok(Vec::new())
    }
}

/// Bytes per pixel of finding the objects in probabilities, at most.
const OBJECT_BYTES: u64 = 48;

/// Probabilities `[H, W, 3]` of background, border and centre, of an image seen at that scale.
///
/// Group normalisation makes every pixel depend on all others, so an image is read whole as long as it is not larger than
/// a tile; the sides are stretched to multiples of what the network divides by, as in the reference. Larger images are cut
/// into overlapping tiles, whose probabilities are blended. The tiles are read twice, first to learn the statistics of the whole
/// image: normalised by their own, cells would look different from tile to tile.
fn probabilities(network: &Network, image: ArrayView3<'_, f32>, scale: f64, work: &Work<'_>) -> Result<Array3<f32>> {
    let (full_height, full_width, channels) = image.dim();
    let [height, width] = scaled_sides([full_height, full_width], scale)?;
    // The probabilities and what the objects take, at the size of the image; sums and weights of the tiles, or the probabilities of
    // the whole, at that of the network.
    let taken = bytes_of(&[full_height, full_width], 12 + OBJECT_BYTES)
        .saturating_add(scaled_bytes([full_height, full_width, channels], scale)?)
        .saturating_add(bytes_of(&[height, width], 24));
    work.budget.require(
        taken,
        format_args!("an image of {full_height} x {full_width} pixels, which the network sees as {height} x {width},"),
        "cut it into parts, or allow more memory",
    )?;
    let work = &work.less(taken);
    let working = resample(image.into(), scale)?;
    let image = working.view();
    let back = |maps: Array3<f32>| match (height, width) == (full_height, full_width) {
        true => Ok(maps),
        false => resize_bilinear(maps.view(), full_height, full_width),
    };
    let tile = work.tile.unwrap_or(if height * width <= TILE * TILE { height.max(width) } else { TILE });
    if height <= tile && width <= tile {
        return back(whole(network, image, None, work)?.0);
    }
    let side = [tile.min(height), tile.min(width)];
    let mut corners = Vec::new();
    for y in tile_starts(height, side[0], OVERLAP) {
        corners.extend(tile_starts(width, side[1], OVERLAP).into_iter().map(|x| [y, x]));
    }
    let tile = |[y, x]: [usize; 2]| image.slice(s![y..y + side[0], x..x + side[1], ..]);
    // A network without groups needs one round.
    let mut seen = Vec::new();
    for &corner in &corners {
        seen.push(whole(network, tile(corner), None, work)?.1);
        if seen[0].is_empty() {
            break;
        }
    }
    let statistics = ImageStatistics::of_parts(&seen);
    let mut sum = TaperedSum::new(height, width, 3, side)?;
    let maps = |corner: &[usize; 2]| Ok((whole(network, tile(*corner), Some(&statistics), work)?.0, *corner));
    let ended = ahead(work.device, &corners, maps, &mut |(maps, corner)| {
        sum.add(maps.view(), corner)?;
        Ok(ControlFlow::Continue(()))
    })?;
    debug_assert!(ended.is_continue());
    back(sum.finish())
}

/// The probabilities of an image, or of a part of one with these statistics, and the statistics of what was read.
pub(super) fn whole(
    network: &Network,
    image: ArrayView3<'_, f32>,
    statistics: Option<&ImageStatistics>,
    work: &Work<'_>,
) -> Result<(Array3<f32>, ImageStatistics)> {
    let (height, width, _) = image.dim();
    let divisor = network.graph.divisor();
    let sides = [height.next_multiple_of(divisor[0]), width.next_multiple_of(divisor[1])];
    let mut seen = ImageStatistics::default();
    let mut read = |fill: &mut dyn FnMut(&mut [f32])| -> Result<Array3<f32>> {
        let (outputs, told) = network.run_with(work, [1, sides[0], sides[1]], statistics, fill)?;
        seen = told;
        let outputs = outputs.into_iter().next();
        let logits = outputs.and_then(|outputs| outputs.into_iter().next());
        logits.map(log_softmax).ok_or_else(|| Error::Internal("a network without outputs".into()))
    };
    let mut logs = if sides == [height, width] {
        read(&mut |input| fill_from(image)(input))?
    } else if height.min(width) < divisor[0].max(divisor[1]) {
        // Too small to be stretched to something that looks the same.
        let padded = read(&mut |input| read_reflected(image, [0, 0], sides[1], input))?;
        copied(padded.slice(s![..height, ..width, ..]), "the answer of a network")?
    } else {
        let stretched = resize_bilinear_aligned(image, sides)?;
        let logs = read(&mut |input| fill_from(stretched.view())(input))?;
        resize_bilinear_aligned(logs.view(), [height, width])?
    };
    logs.mapv_inplace(f32::exp);
    Ok((logs, seen))
}

/// Logarithms of the probabilities of each pixel.
fn log_softmax(mut logits: Array3<f32>) -> Array3<f32> {
    for mut pixel in logits.lanes_mut(ndarray::Axis(2)) {
        let largest = pixel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = pixel.iter().map(|value| (value - largest).exp()).sum();
        pixel.mapv_inplace(|value| value - largest - total.ln());
    }
    logits
}

/// The cells in the probabilities.
fn segment(
    probabilities: ArrayView3<'_, f32>,
    thresholds: &ElephantThresholds,
    postprocess: Postprocess,
    min_area: f32,
    cancel: &CancelToken,
) -> Result<Segmentation> {
    let labels = labels(probabilities, thresholds, postprocess, min_area, cancel)?;
    from_labels(labels, foreground(probabilities)?.view(), cancel)
}

/// The probability `[H, W]` of belonging to a cell.
///
/// # Errors
/// [`Error::Limit`] where there is no memory.
pub(super) fn foreground(probabilities: ArrayView3<'_, f32>) -> Result<Array2<f32>> {
    mapped(probabilities.slice(s![.., .., 0]), "the probabilities of an image", |background| 1.0 - background)
}

/// The label image of [`segment`].
pub(super) fn labels(
    probabilities: ArrayView3<'_, f32>,
    thresholds: &ElephantThresholds,
    postprocess: Postprocess,
    min_area: f32,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let method = match postprocess {
        Postprocess::Watershed => InstanceMethod::Watershed(WatershedOptions {
            center_threshold: thresholds.center,
            foreground_threshold: thresholds.foreground,
            ..WatershedOptions::default()
        }),
        Postprocess::Ellipse => {
            InstanceMethod::Ellipse(SpotOptions { threshold: thresholds.center, ..SpotOptions::default() })
        }
    };
    let smallest = thresholds.smallest_object.max(min_area);
    relabel_sequential(&elephant_instances_until(probabilities, &method, smallest, cancel)?, 1)
}
