//! What a network is trained on: annotated images as it sees them, with what the drawn labels make plain.

use ndarray::Array3;
use rayon::prelude::*;

use super::network::Network;
use super::options::{Preset, TrainOptions};
use super::working_scale::{resample, resample_labels};
use crate::annotations::{Dataset, background_rim};
use crate::error::Result;
use crate::pseudo_labels::add_pseudo_labels_until;
use crate::raster::LabelImage;

/// Pixels around a drawn cell that are taken for background.
pub(super) const RIM: usize = 2;

/// Inputs of the network and label images for training.
///
/// Unless the reference is followed, the unlabelled pixels beside a drawn cell become background, since nothing else says
/// where cells end, and what the drawn labels make plain elsewhere is added, since a handful of cells is a fraction of what
/// a network needs to see.
pub(super) fn training_data(
    network: &Network,
    data: &Dataset,
    options: &TrainOptions,
) -> Result<(Vec<Array3<f32>>, Vec<LabelImage>)> {
    let scales: Vec<f64> = data.labels().iter().map(|labels| network.scale.for_labels(labels)).collect();
    let input = |(image, scale)| -> Result<Array3<f32>> {
        options.cancel.check()?;
        let input = network.input(image, options.normalized, &options.cancel)?;
        options.cancel.check()?;
        Ok(resample(input.into(), scale)?.into_owned())
    };
    let images = data.images().iter().zip(scales.iter().copied()).map(input).collect::<Result<Vec<_>>>()?;
    let drawn = data.labels().iter().zip(&scales).map(|(labels, scale)| {
        options.cancel.check()?;
        resample_labels(labels.labels(), *scale)
    });
    let drawn = drawn.collect::<Result<Vec<_>>>()?;
    if options.preset == Preset::Reference {
        return Ok((images, drawn));
    }
    let pairs = images.par_iter().zip(&drawn).enumerate();
    let completed = pairs.map(|(index, (image, labels))| {
        options.cancel.check()?;
        let drawn = background_rim(labels, RIM)?;
        options.cancel.check()?;
        add_pseudo_labels_until(image.view(), &drawn, options.seed.wrapping_add(index as u64), &options.cancel)
    });
    let labels = completed.collect::<Result<Vec<_>>>()?;
    Ok((images, labels))
}
