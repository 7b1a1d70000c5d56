//! StarDist: cells as star-convex polygons, each seen from a pixel inside.

mod maps;
mod objects;
mod training;

use std::cell::RefCell;

use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

#[cfg(feature = "io")]
pub(super) use self::maps::{StarMaps, StarTiles, with_tiles};
use self::objects::{Candidates, Stars};
#[cfg(feature = "io")]
pub(super) use self::objects::{Placing, REACH, RowOfTiles};
pub(super) use self::training::StarDistTask;
use super::algorithm::{
    AlgorithmKind, Facts, Found, NetworkOutput, ReferenceTraining, SegmentationAlgorithm, Shapes, StateEntry,
    TaskInput, ThresholdValues,
};
use super::calibration::CalibrationSet;
use super::network::Network;
use super::options::{PredictOptions, Preset, TrainOptions};
use super::threshold_search::{
    check_probability, check_range, check_smallest_object, choose, lower_probabilities, zoomed_area,
};
use super::work::Work;
use super::working_scale::{SeenCells, WorkingScale};
use crate::annotations::Dataset;
use crate::error::{Error, Result};
use crate::formats::tensors::NamedArrays;
use crate::geometry::disc_diameter;
use crate::networks::{ParameterMut, StarDistConfig, Weights};
use crate::training::any_task::AnyTask;
use crate::training::optimizer::{Adam, Optimizer};
use crate::training::schedule::Schedule;

/// Settings of the StarDist post-processing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StarThresholds {
    /// Smallest object probability of a candidate, in `(0, 1)`.
    pub prob: f32,
    /// Largest overlap (intersection by smaller area) that two objects may keep, in `[0, 1]`.
    pub nms: f32,
    /// Objects with fewer pixels are removed: much smaller than any annotated cell. 0 keeps all.
    pub smallest_object: f32,
}

impl Default for StarThresholds {
    fn default() -> Self {
        Self { prob: 0.5, nms: 0.4, smallest_object: 0.0 }
    }
}

/// The options of prediction of StarDist.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StarDistOptions {
    /// Smallest object probability of a candidate, in `(0, 1)`.
    pub prob_thresh: Option<f32>,
    /// Largest overlap that two objects may keep, in `[0, 1]`.
    pub nms_thresh: Option<f32>,
}

impl From<StarDistOptions> for PredictOptions {
    fn from(StarDistOptions { prob_thresh, nms_thresh }: StarDistOptions) -> Self {
        Self { prob_thresh, nms_thresh, ..Self::default() }
    }
}

/// StarDist with the settings of a model.
pub(super) struct StarDist<'a> {
    pub config: &'a StarDistConfig,
    pub thresholds: StarThresholds,
}

/// Factor of the rate for the layer of ray lengths: they are about ten times as large as other outputs, so its
/// weights have further to go.
const RAY_RATE: f32 = 10.0;

/// Object probability from which a pixel is counted to a cell when the size of cells is looked for.
const EDGE: f64 = 0.2;

/// Probabilities that are tried, and those that are tried when none of them finds anything: networks of short
/// trainings are under-confident.
const PROBABILITIES: [f32; 10] = [0.3, 0.35, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8];
const LOW_PROBABILITIES: [f32; 3] = [0.2, 0.1, 0.05];

/// The probability that is taken unless another one is plainly better: networks that learned from a few
/// cells are under-confident.
const LIKELY: f32 = 0.35;

/// Overlaps that are tried, as in the reference.
const OVERLAPS: [f32; 3] = [0.3, 0.4, 0.5];

/// Candidates that thresholds are chosen on, at most: those of the images that are judged, together.
const MOST_CANDIDATES: usize = 1 << 18;

static STARTING_WEIGHTS: &[u8] = include_bytes!("../../starters/stardist.bin");

impl AlgorithmKind for StarDist<'_> {
    type Config = StarDistConfig;
    type Thresholds = StarThresholds;
    type Options = StarDistOptions;

    const FACTS: Facts = Facts {
        name: "stardist",
        title: "StarDist",
        options: &["prob_thresh", "nms_thresh"],
        starting_weights: &STARTING_WEIGHTS,
        shapes: Shapes::StarConvex,
        adds_losses: true,
        rank: 1,
        outputs: &[
            NetworkOutput {
                name: "prob",
                operator: Some("Sigmoid"),
                meaning: "probability that a point of the grid lies in a cell, high in its middle",
            },
            NetworkOutput {
                name: "dist",
                operator: None,
                meaning: "pixels from the point to the border of its cell, for rays counter-clockwise from the right in pixel \
                          coordinates",
            },
            NetworkOutput {
                name: "prob_class",
                operator: Some("Softmax"),
                meaning: "probabilities of background and of each class of cells",
            },
        ],
        post_processing: "Points with a high `prob` are candidates for star-convex polygons, whose vertices lie `dist` pixels \
                          away along equally spaced rays. Non-maximum suppression keeps the best of those that overlap.",
        citation: ["Schmidt et al.: Cell Detection with Star-Convex Polygons", "10.1007/978-3-030-00934-2_30"],
    };

    fn options(given: &PredictOptions) -> StarDistOptions {
        StarDistOptions { prob_thresh: given.prob_thresh, nms_thresh: given.nms_thresh }
    }

    fn misfit(own: &StarDistConfig, wanted: &StarDistConfig) -> Option<String> {
        let like = StarDistConfig {
            n_channels: own.n_channels,
            n_rays: own.n_rays,
            n_classes: own.n_classes,
            ..wanted.clone()
        };
        let reason = "the starting weights belong to a network of another grid, other filters or another depth";
        (like != *own).then(|| reason.into())
    }
}

impl ThresholdValues for StarThresholds {
    fn check(&self) -> Result<()> {
        let Self { prob, nms, smallest_object } = *self;
        check_probability("prob_thresh", "prob_thresh", prob)?;
        let message = || format!("nms_thresh is {nms}; it must lie between 0 and 1");
        check_range((0.0..=1.0).contains(&nms), "nms_thresh", nms, 0.0..=1.0, message)?;
        check_smallest_object(smallest_object)
    }

    fn take(&mut self, given: &PredictOptions) {
        self.prob = given.prob_thresh.unwrap_or(self.prob);
        self.nms = given.nms_thresh.unwrap_or(self.nms);
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
        lower_probabilities(self.prob)
    }
}

impl SegmentationAlgorithm for StarDist<'_> {
    fn has_classes(&self) -> bool {
        self.config.n_classes.is_some()
    }

    fn calibrates_on_training_data(&self) -> bool {
        true
    }

    fn smallest_tile(&self) -> Option<usize> {
        Some(maps::smallest_tile(self.config))
    }

    fn bytes_of_a_pixel(&self) -> u64 {
        13
    }

    fn searches_whole(&self) -> bool {
        true
    }

    fn receptive_radius(&self) -> Option<usize> {
        self.config.receptive_radius().into_iter().max()
    }

    fn reference_training(&self, _steps: usize) -> ReferenceTraining {
        ReferenceTraining {
            learning_rate: 1e-3,
            schedule: Schedule::ReduceOnPlateau { factor: 0.5, patience: 40 },
            weight_decay: 0.0,
        }
    }

    fn optimizer(&self, weights: &Weights, preset: Preset) -> Optimizer {
        let mut adam = Adam::new(weights);
        if preset != Preset::Reference {
            let factor = |name: &str| if name.starts_with("dist/") { RAY_RATE } else { 1.0 };
            adam.rate_multipliers = weights.parameters().iter().map(|parameter| factor(&parameter.spec.name)).collect();
        }
        adam.into()
    }

    /// Rays begin as long as the mean radius of the annotated cells: with rays of length 0 to begin with, most of a short
    /// training is spent on growing them.
    fn initialize(&self, weights: &mut Weights, data: &Dataset, scale: WorkingScale) {
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

    /// Rays in other directions are interpolated between the two neighbouring ones; a head for classes begins with the features
    /// of the others, its last layer as it is.
    fn begin_parameter(&self, parameter: &mut ParameterMut<'_>, arrays: &NamedArrays) -> Result<bool> {
        let (layer, kind) = parameter.spec.name.split_once('/').unwrap_or((&parameter.spec.name, ""));
        match layer {
            "prob_class" => Ok(true),
            "features_class" => {
                let source = format!("features/{kind}");
                let (shape, values) = arrays
                    .get(&source)
                    .ok_or_else(|| Error::Weights(format!("the starting weights have no '{source}'")))?;
                if *shape != parameter.spec.shape {
                    let wanted = &parameter.spec.shape;
                    let message = format!("'{source}' has shape {shape:?}, the network needs {wanted:?}");
                    return Err(Error::Weights(message));
                }
                parameter.values.copy_from_slice(values);
                Ok(true)
            }
            "dist" => Ok(match (arrays.get(&parameter.spec.name), parameter.spec.shape.as_slice()) {
                (Some((shape, values)), [.., wanted]) => match shape.as_slice() {
                    [.., rays] if rays != wanted && *rays > 0 && *wanted > 0 => {
                        interpolate_rays(values, *rays, parameter.values, *wanted);
                        true
                    }
                    _ => false,
                },
                _ => false,
            }),
            _ => Ok(false),
        }
    }

    fn task(&self, input: TaskInput<'_>, options: &TrainOptions) -> Result<AnyTask> {
        Ok(AnyTask::new(StarDistTask::new(self.config, input, options)?))
    }

    fn seen_cells(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        scale: f64,
        work: &Work<'_>,
    ) -> Result<Option<SeenCells>> {
        let prob = maps::probability(network, self.config, image, scale, work)?;
        let [rows, columns] = self.config.grid;
        Ok(Some(SeenCells {
            inside: prob.mapv(|prob| prob > EDGE as f32),
            pixel: ((rows * columns) as f64).sqrt() / scale,
            // The probability falls from 1 in the middle of a cell to 0 at its edge.
            fraction: 1.0 - EDGE,
        }))
    }

    fn segment(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        options: &PredictOptions,
        work: &Work<'_>,
    ) -> Result<Found> {
        let scale = self.scale_for(network, image, work)?;
        let stars = Stars { network, config: self.config };
        let (segmentation, highest) = stars.segment(image, scale, &self.thresholds, options.min_area, work)?;
        Ok(Found { segmentation, highest, threshold: self.thresholds.prob, times: 1.0 })
    }

    fn choose_thresholds(&mut self, network: &Network, set: &CalibrationSet<'_>, work: &Work<'_>) -> Result<()> {
        // Each image with the survivors of the overlap that was tried last.
        type Tried = (Candidates, RefCell<(f32, Vec<usize>)>);
        let segment = |(found, latest): &Tried, thresholds: &StarThresholds| {
            let mut latest = latest.borrow_mut();
            if latest.0 != thresholds.nms {
                *latest = (thresholds.nms, found.survivors(thresholds.nms, &work.cancel)?);
            }
            Ok(found.paint(&latest.1, thresholds, 0.0, &work.cancel)?.labels)
        };
        let most = MOST_CANDIDATES / set.len().max(1);
        let stars = Stars { network, config: self.config };
        for probabilities in [&PROBABILITIES[..], &LOW_PROBABILITIES[..]] {
            let lowest = probabilities.iter().copied().fold(1.0, f32::min);
            let scale_for = |image: ArrayView3<'_, f32>| self.scale_for(network, image, work);
            let images = set.predicted(network, work, scale_for, |image, scale| {
                Ok((stars.candidates(image, scale, lowest, most, work)?, RefCell::new((f32::NAN, Vec::new()))))
            })?;
            let mut choices = Vec::new();
            for nms in OVERLAPS {
                for prob in probabilities {
                    let distance = (prob - LIKELY).abs() + (nms - self.thresholds.nms).abs();
                    choices.push((StarThresholds { prob: *prob, nms, ..self.thresholds }, distance));
                }
            }
            if let Some(best) = choose(&choices, &images, segment)? {
                self.thresholds = best;
                return Ok(());
            }
        }
        Ok(())
    }

    #[cfg(feature = "keras")]
    fn stardist_form(&self) -> Option<(StarDistConfig, [f32; 2])> {
        Some((self.config.clone(), [self.thresholds.prob, self.thresholds.nms]))
    }

    fn more_state(&self, _names: &[&str]) -> Result<Vec<StateEntry>> {
        Err(Error::Weights(
            "a model of stardist has no PyTorch form; only networks that come from PyTorch programs have one. Give a name that ends in / \
             (folder of its package), SavedModel.zip or .pb (TensorFlow), .onnx or .zip (bioimage.io)"
                .into(),
        ))
    }
}

/// Gives rows of `wanted` values those of rows of `rays` values, as lengths in evenly spread directions.
fn interpolate_rays(source: &[f32], rays: usize, to: &mut [f32], wanted: usize) {
    for (row, source) in to.chunks_mut(wanted).zip(source.chunks(rays)) {
        for (ray, value) in row.iter_mut().enumerate() {
            let place = ray as f32 * rays as f32 / wanted as f32;
            let below = place as usize % rays;
            let part = place.fract();
            *value = (1.0 - part) * source[below] + part * source[(below + 1) % rays];
        }
    }
}
