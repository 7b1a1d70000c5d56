//! ELEPHANT behind the facade: its batches, its probabilities, its thresholds.

use ndarray::{Array2, Array3, ArrayView3, s};

use super::judged::Judged;
use super::keep::Drawn;
use super::network::fill_from;
use super::outlines;
use super::predict::from_labels;
use super::thresholds::choose;
use super::train::training_data;
use super::work::Work;
use super::{ElephantThresholds, Model, Postprocess, Preset, Segmentation, TrainOptions};
use crate::annotations::Dataset;
use crate::budget::bytes_of;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::networks::ImageStatistics;
use crate::postprocess::clean::relabel_sequential;
use crate::postprocess::elephant::{Method, WatershedOptions, elephant_instances_until};
use crate::postprocess::spots::SpotOptions;
use crate::raster::taper::{TaperedSum, tile_starts};
use crate::raster::{LabelImage, read_reflected, resize_bilinear, resize_bilinear_aligned};
use crate::targets::elephant::ClassRule;
use crate::training::batch_elephant::{ElephantBatchConfig, ElephantBatches};
use crate::training::loss_elephant::ElephantLossConfig;

/// Side of a tile when the image does not fit into one, and the overlap of tiles.
pub(super) const TILE: usize = 1024;
pub(super) const OVERLAP: f64 = 0.1;

/// The batches of a training on prepared images and labels.
pub(super) fn batches(
    options: &TrainOptions,
    batch: [usize; 2],
    (images, labels): (Vec<Array3<f32>>, Vec<LabelImage>),
) -> Result<ElephantBatches> {
    ElephantBatches::new(images, labels, batch_config(options, batch))
}

/// One unchanged crop of every image of `data`, as a single batch.
pub(super) fn validation(
    model: &Model,
    data: &Dataset,
    options: &TrainOptions,
    batch: [usize; 2],
) -> Result<ElephantBatches> {
    let (images, labels) = training_data(model, data, options)?;
    let config = ElephantBatchConfig { batch_size: data.len().min(64), ..batch_config(options, batch).unchanged() };
    ElephantBatches::new(images, labels, config)
}

fn batch_config(options: &TrainOptions, batch: [usize; 2]) -> ElephantBatchConfig {
    // With background taken from the image, classes are balanced enough: the weights of the original make every doubtful
    // pixel a cell.
    let (rule, class_weights) = match options.preset {
        Preset::Reference => (ClassRule::REFERENCE, ElephantLossConfig::default().class_weights),
        _ => (ClassRule::default(), [1.0; 3]),
    };
    ElephantBatchConfig {
        seed: options.seed,
        batch_size: batch[0],
        patch: batch[1],
        rule,
        loss: ElephantLossConfig { class_weights, ..Default::default() },
        ..Default::default()
    }
}

/// Bytes per pixel of finding the objects in probabilities, at most.
const OBJECT_BYTES: u64 = 48;

/// Probabilities `[H, W, 3]` of background, rim and centre, of an image seen at that scale.
///
/// Group normalisation makes every pixel depend on all others, so an image is read whole as long as it is not larger than
/// a tile; the sides are stretched to multiples of what the network divides by, as in the reference. Larger images are cut
/// into overlapping tiles, whose probabilities are blended. The tiles are read twice, first to learn the statistics of the whole
/// image: normalised by their own, cells would look different from tile to tile.
pub(super) fn probabilities(
    model: &Model,
    image: ArrayView3<'_, f32>,
    scale: f64,
    work: &Work<'_>,
) -> Result<Array3<f32>> {
    let (full_height, full_width, channels) = image.dim();
    let [height, width] = model.working_sides(full_height, full_width, scale)?;
    // The answer and what the objects take, at the size of the image; sums and weights of the tiles, or the probabilities of
    // the whole, at that of the network.
    let taken = bytes_of(&[full_height, full_width], 12 + OBJECT_BYTES)
        .saturating_add(model.working_bytes([full_height, full_width, channels], scale)?)
        .saturating_add(bytes_of(&[height, width], 24));
    work.budget.require(
        taken,
        format_args!("an image of {full_height} x {full_width} pixels, which the network sees as {height} x {width},"),
        "cut it into parts, or allow more memory",
    )?;
    let work = &work.less(taken);
    let working = model.to_working(image.into(), scale)?;
    let image = working.view();
    let back = |maps: Array3<f32>| match (height, width) == (full_height, full_width) {
        true => Ok(maps),
        false => resize_bilinear(maps.view(), full_height, full_width),
    };
    let tile = work.tile.unwrap_or(if height * width <= TILE * TILE { height.max(width) } else { TILE });
    if height <= tile && width <= tile {
        return back(whole(model, image, None, work)?.0);
    }
    let side = [tile.min(height), tile.min(width)];
    let mut corners = Vec::new();
    for y in tile_starts(height, side[0], OVERLAP) {
        corners.extend(tile_starts(width, side[1], OVERLAP).into_iter().map(|x| [y, x]));
    }
    let tile = |[y, x]: [usize; 2]| image.slice(s![y..y + side[0], x..x + side[1], ..]);
    // A network without groups, and a device that does not tell, needs one round.
    let mut seen = Vec::new();
    for &corner in &corners {
        seen.push(whole(model, tile(corner), None, work)?.1);
        if seen[0].is_empty() {
            break;
        }
    }
    let statistics = ImageStatistics::of_parts(&seen);
    let mut sum = TaperedSum::new(height, width, 3, side)?;
    for &corner in &corners {
        sum.add(whole(model, tile(corner), Some(&statistics), work)?.0.view(), corner)?;
    }
    back(sum.finish())
}

/// The probabilities of an image, or of a part of one with these statistics, and the statistics of what was read.
pub(super) fn whole(
    model: &Model,
    image: ArrayView3<'_, f32>,
    statistics: Option<&ImageStatistics>,
    work: &Work<'_>,
) -> Result<(Array3<f32>, ImageStatistics)> {
    let (height, width, _) = image.dim();
    let divisor = model.graph.divisor();
    let sides = [height.next_multiple_of(divisor[0]), width.next_multiple_of(divisor[1])];
    let mut seen = ImageStatistics::default();
    let mut read = |fill: &mut dyn FnMut(&mut [f32])| -> Result<Array3<f32>> {
        let (outputs, told) = model.run_with(work, [1, sides[0], sides[1]], statistics, fill)?;
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
        padded.slice(s![..height, ..width, ..]).to_owned()
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
pub(super) fn segment(
    probabilities: ArrayView3<'_, f32>,
    thresholds: &ElephantThresholds,
    postprocess: Postprocess,
    min_area: f32,
    cancel: &CancelToken,
) -> Result<Segmentation> {
    let labels = labels(probabilities, thresholds, postprocess, min_area, cancel)?;
    from_labels(labels, foreground(probabilities).view())
}

/// The probability `[H, W]` of belonging to a cell.
pub(super) fn foreground(probabilities: ArrayView3<'_, f32>) -> Array2<f32> {
    probabilities.slice(s![.., .., 0]).mapv(|background| 1.0 - background)
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
        Postprocess::Watershed => Method::Watershed(WatershedOptions {
            center_threshold: thresholds.center,
            foreground_threshold: thresholds.foreground,
            ..WatershedOptions::default()
        }),
        Postprocess::Ellipse => Method::Ellipse(SpotOptions { threshold: thresholds.center, ..SpotOptions::default() }),
    };
    let smallest = thresholds.smallest_object.max(min_area);
    relabel_sequential(&elephant_instances_until(probabilities, &method, smallest, cancel)?, 1)
}

/// Centre and foreground probabilities that are tried.
const CENTERS: [f32; 5] = [0.3, 0.4, 0.5, 0.6, 0.7];
const FOREGROUNDS: [f32; 5] = [0.3, 0.4, 0.5, 0.6, 0.7];

/// The thresholds that segment the images of a validation best.
pub(super) fn choose_thresholds(
    model: &Model,
    default: ElephantThresholds,
    judged: Judged<'_>,
    work: &Work<'_>,
) -> Result<ElephantThresholds> {
    let images = judged.predicted(model, work, |image, scale| probabilities(model, image, scale, work))?;
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
    Ok(choose(&choices, &images, segment)?.unwrap_or(default))
}

/// Foreground probabilities that are tried for the outlines.
const OUTLINE_FOREGROUNDS: [f32; 7] = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.1];

/// The thresholds with which the outlines of the drawn cells fit best.
pub(super) fn fit_outlines(
    model: &Model,
    default: ElephantThresholds,
    drawn: &Drawn,
    work: &Work<'_>,
) -> Result<ElephantThresholds> {
    let images = drawn.predicted(|image| probabilities(model, image, model.scale_for(image, work)?, work))?;
    let choices = OUTLINE_FOREGROUNDS.map(|foreground| ElephantThresholds { foreground, ..default });
    outlines::fit(default, &choices, &images, |probabilities: &Array3<f32>, thresholds| {
        Ok(segment(probabilities.view(), thresholds, Postprocess::default(), 0.0, &work.cancel)?.labels)
    })
}
