//! ELEPHANT behind the facade: its batches, its probabilities, its thresholds.

use ndarray::{Array3, ArrayView3, s};

use super::predict::from_labels;
use super::thresholds::{choose, smallest_object};
use super::train::{Judged, training_data};
use super::{ElephantThresholds, Model, Postprocess, PredictOptions, Preset, Segmentation, TrainOptions};
use crate::annotations::Dataset;
use crate::error::{Error, Result};
use crate::networks::Device;
use crate::postprocess::clean::relabel_sequential;
use crate::postprocess::elephant::{Method, WatershedOptions, elephant_instances};
use crate::postprocess::spots::SpotOptions;
use crate::raster::taper::{TaperedSum, tile_starts};
use crate::raster::{LabelImage, reflect_pad, resize_bilinear, resize_bilinear_aligned};
use crate::targets::elephant::ClassRule;
use crate::training::batch_elephant::{ElephantBatchConfig, ElephantBatches};
use crate::training::loss_elephant::ElephantLossConfig;

/// Side of a tile when the image does not fit into one, and the overlap of tiles.
const TILE: usize = 1024;
const OVERLAP: f64 = 0.1;

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

/// Probabilities `[H, W, 3]` of background, rim and centre, of an image seen at that scale.
///
/// Group normalisation makes every pixel depend on all others, so an image is read whole as long as it is not larger than
/// a tile; the sides are stretched to multiples of what the network divides by, as in the reference. Larger images are cut
/// into overlapping tiles, whose probabilities are blended.
pub(super) fn probabilities(
    model: &Model,
    image: ArrayView3<'_, f32>,
    scale: f64,
    options: &PredictOptions,
    device: &Device,
) -> Result<Array3<f32>> {
    let (full_height, full_width, _) = image.dim();
    let working = model.to_working(image.to_owned(), scale)?;
    let image = working.view();
    let (height, width, _) = image.dim();
    let back = |maps: Array3<f32>| match (height, width) == (full_height, full_width) {
        true => Ok(maps),
        false => resize_bilinear(maps.view(), full_height, full_width),
    };
    let tile = options.tile.unwrap_or(if height * width <= TILE * TILE { height.max(width) } else { TILE });
    if height <= tile && width <= tile {
        return back(whole(model, image, device)?);
    }
    let side = [tile.min(height), tile.min(width)];
    let mut sum = TaperedSum::new(height, width, 3, side)?;
    for y in tile_starts(height, side[0], OVERLAP) {
        for x in tile_starts(width, side[1], OVERLAP) {
            if options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let part = whole(model, image.slice(s![y..y + side[0], x..x + side[1], ..]), device)?;
            sum.add(part.view(), [y, x])?;
        }
    }
    back(sum.finish())
}

fn whole(model: &Model, image: ArrayView3<'_, f32>, device: &Device) -> Result<Array3<f32>> {
    let (height, width, _) = image.dim();
    let divisor = model.graph.divisor();
    let sides = [height.next_multiple_of(divisor[0]), width.next_multiple_of(divisor[1])];
    let read = |image: ArrayView3<'_, f32>| -> Result<Array3<f32>> {
        let outputs = model.run(device, &[image])?.into_iter().next().and_then(|outputs| outputs.into_iter().next());
        outputs.map(log_softmax).ok_or_else(|| Error::Internal("a network without outputs".into()))
    };
    let logs = if sides == [height, width] {
        read(image)?
    } else if height.min(width) < divisor[0].max(divisor[1]) {
        // Too small to be stretched to something that looks the same.
        let padded = reflect_pad(image, sides[0], sides[1]);
        read(padded.view())?.slice(s![..height, ..width, ..]).to_owned()
    } else {
        resize_bilinear_aligned(read(resize_bilinear_aligned(image, sides)?.view())?.view(), [height, width])?
    };
    Ok(logs.mapv(f32::exp))
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
    postprocess: Option<Postprocess>,
    min_area: f32,
) -> Result<Segmentation> {
    let method = match postprocess.unwrap_or_default() {
        Postprocess::Watershed => Method::Watershed(WatershedOptions {
            center_threshold: thresholds.center,
            foreground_threshold: thresholds.foreground,
            ..WatershedOptions::default()
        }),
        Postprocess::Ellipse => Method::Ellipse(SpotOptions { threshold: thresholds.center, ..SpotOptions::default() }),
    };
    let labels = elephant_instances(probabilities, &method, thresholds.smallest_object.max(min_area))?;
    let foreground = probabilities.slice(s![.., .., 0]).mapv(|background| 1.0 - background);
    from_labels(relabel_sequential(&labels, 1)?, foreground.view())
}

/// Centre and foreground probabilities that are tried.
const CENTERS: [f32; 5] = [0.3, 0.4, 0.5, 0.6, 0.7];
const FOREGROUNDS: [f32; 5] = [0.3, 0.4, 0.5, 0.6, 0.7];

/// The thresholds that segment the validation images best, or the usual ones without such images: on the images of the
/// training, low thresholds would be taken for good, since objects between the drawn cells are not counted.
pub(super) fn choose_thresholds(
    model: &Model,
    data: &Dataset,
    judged: Option<Judged<'_>>,
    device: &Device,
) -> Result<ElephantThresholds> {
    let default = ElephantThresholds { smallest_object: smallest_object(data.labels().iter()), ..Default::default() };
    let Some(judged) = judged else { return Ok(default) };
    let options = PredictOptions::default();
    let images = judged.predicted(model, |image| {
        probabilities(model, image.view(), model.scale_for(image.view(), device)?, &options, device)
    })?;
    let mut choices = Vec::new();
    for center in CENTERS {
        for foreground in FOREGROUNDS {
            let distance = (center - default.center).abs() + (foreground - default.foreground).abs();
            choices.push((ElephantThresholds { center, foreground, ..default }, distance));
        }
    }
    let segment = |probabilities: &Array3<f32>, thresholds: &ElephantThresholds| {
        Ok(segment(probabilities.view(), thresholds, None, 0.0)?.labels)
    };
    Ok(choose(&choices, &images, segment)?.unwrap_or(default))
}
