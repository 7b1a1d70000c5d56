//! Cellpose: cells of any shape, whose pixels flow to their centres.

mod maps;

use std::cell::Cell;

use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

pub(super) use self::maps::FlowMaps;
#[cfg(feature = "io")]
pub(super) use self::maps::Tiling;
use self::maps::{MAP_BYTES, maps};
use super::algorithm::{
    AlgorithmKind, Facts, Found, NetworkOutput, ReferenceTraining, SegmentationAlgorithm, Shapes, StateEntry,
    TaskInput, ThresholdValues,
};
use super::calibration::CalibrationSet;
use super::drawn::Drawn;
use super::fitted_scale::{Fit, FoundCell, fitted, found_cells, measured, side};
use super::network::Network;
use super::normalization::Normalization;
use super::options::{PredictOptions, Preset, TrainOptions};
use super::outlines;
use super::threshold_search::{check_range, check_smallest_object, choose, highest, zoomed_area};
use super::work::Work;
use super::working_scale::{Gauge, Measure, scaled_sides};
use crate::budget::bytes_of;
use crate::error::{ErrorKind, Result};
use crate::formats::tensors::NamedArrays;
use crate::networks::{CellposeConfig, Weights};
use crate::raster::{LabelImage, resize_bilinear};
use crate::training::any_task::AnyTask;
use crate::training::augment::Augmentation;
use crate::training::augment_affine::Outside;
use crate::training::batch_cellpose::{CellposeBatchConfig, CellposeBatches, mean_diameter};
use crate::training::optimizer::{Adam, Optimizer, Sgd};
use crate::training::sampler::SamplingPolicy;
use crate::training::schedule::Schedule;

/// Settings of the Cellpose post-processing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellposeThresholds {
    /// Largest flow error of a cell; 0 keeps all.
    pub flow: f32,
    /// Smallest cell-probability logit of a pixel of a cell.
    pub cellprob: f32,
    /// Diameter in pixels of the cells in the images: the median of the drawn cells.
    pub diameter: f32,
    /// Objects with fewer pixels are removed: much smaller than any annotated cell. 0 keeps all.
    pub smallest_object: f32,
}

impl Default for CellposeThresholds {
    fn default() -> Self {
        Self { flow: 0.4, cellprob: 0.0, diameter: 30.0, smallest_object: 15.0 }
    }
}

/// The options of prediction of Cellpose.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CellposeOptions {
    /// Largest flow error of a mask.
    pub flow_threshold: Option<f32>,
    /// Smallest cell-probability logit of a pixel.
    pub cellprob_threshold: Option<f32>,
    /// Cell diameter in pixels.
    pub diameter: Option<f32>,
    /// Average the outputs of overlapping, mirrored tiles. About three times the work.
    pub augment: bool,
}

impl From<CellposeOptions> for PredictOptions {
    fn from(options: CellposeOptions) -> Self {
        let CellposeOptions { flow_threshold, cellprob_threshold, diameter, augment } = options;
        Self { flow_threshold, cellprob_threshold, diameter, augment, ..Self::default() }
    }
}

/// Cellpose with the settings of a model.
pub(super) struct Cellpose<'a> {
    pub config: &'a CellposeConfig,
    pub thresholds: CellposeThresholds,
}

/// Diameters of a network, relative to that of the starting weights, that these are good for.
const DIAMETERS: std::ops::RangeInclusive<f32> = 0.66..=1.5;

/// The smallest diameter that cells are taken to have after a training.
const SMALLEST_DIAMETER: f64 = 5.0;

/// Diameters of newly drawn cells, relative to those that a model was trained on, that can be those of the same cells.
const SAME_CELLS: std::ops::RangeInclusive<f32> = 0.6..=1.67;

/// Cell-probability logits and flow errors that are tried.
const CELLPROBS: [f32; 5] = [-2.0, -1.0, 0.0, 1.0, 2.0];
const FLOWS: [f32; 3] = [0.0, 0.4, 0.8];

/// Logits and flow errors that are tried for the outlines: those of a network that learned from few cells may lie far from 0.
const OUTLINE_CELLPROBS: [f32; 7] = [0.0, -1.0, 1.0, -2.0, 2.0, -3.0, -4.0];
const OUTLINE_FLOWS: [f32; 2] = [0.4, 0.8];

static STARTING_WEIGHTS: &[u8] = include_bytes!("../../starters/cellpose.bin");

impl AlgorithmKind for Cellpose<'_> {
    type Config = CellposeConfig;
    type Thresholds = CellposeThresholds;
    type Options = CellposeOptions;

    const FACTS: Facts = Facts {
        name: "cellpose",
        title: "Cellpose",
        options: &["flow_threshold", "cellprob_threshold", "diameter", "augment"],
        starting_weights: &STARTING_WEIGHTS,
        shapes: Shapes::Solid,
        adds_losses: false,
        rank: 0,
        outputs: &[
            NetworkOutput {
                name: "flow",
                operator: None,
                meaning: "vertical and horizontal flow towards the middle of the cell, times 5, and the logit of the probability \
                          of a cell",
            },
            NetworkOutput { name: "style", operator: None, meaning: "the style of the image" },
        ],
        post_processing: "Images are scaled so that cells have the diameter of the network (`diam_mean` of the configuration). \
                          Pixels with a high probability follow the flows; those that end in one place are one cell.",
        citation: [
            "Stringer et al.: Cellpose: a generalist algorithm for cellular segmentation",
            "10.1038/s41592-020-01018-x",
        ],
    };

    fn options(given: &PredictOptions) -> CellposeOptions {
        let PredictOptions { flow_threshold, cellprob_threshold, diameter, augment, .. } = *given;
        CellposeOptions { flow_threshold, cellprob_threshold, diameter, augment }
    }

    fn misfit(own: &CellposeConfig, wanted: &CellposeConfig) -> Option<String> {
        let other = |what: String| Some(format!("the starting weights belong to a network of {what}"));
        if wanted.widths != own.widths {
            other(format!("the widths {:?}", own.widths))
        } else if !DIAMETERS.contains(&(wanted.diam_mean / own.diam_mean)) {
            other(format!("the diameter {}", own.diam_mean))
        } else {
            None
        }
    }

    /// Shapes tell the architecture, `diam_mean` and `diam_labels` the diameter of the network and of the cells in the images,
    /// which are scaled by percentiles 1 and 99 as in the original.
    fn recognise(arrays: &NamedArrays) -> Option<(CellposeConfig, CellposeThresholds, Normalization)> {
        let shape = |level: usize| {
            let name = format!("downsample.down.res_down_{level}.conv.conv_0.2.weight");
            arrays.get(&name).map(|(shape, _)| shape.as_slice())
        };
        let single = |name: &str| {
            let value = arrays.get(name).and_then(|(_, values)| values.first().copied());
            value.filter(|value| value.is_finite() && *value > 0.0)
        };
        let n_channels = *shape(0)?.get(1)?;
        let widths = (0..).map_while(|level| shape(level)?.first().copied()).collect();
        let mut config = CellposeConfig { n_channels, widths, ..CellposeConfig::default() };
        let (diam_mean, diam_labels) = (single("diam_mean"), single("diam_labels"));
        config.diam_mean = diam_mean.unwrap_or(config.diam_mean);
        let mut thresholds = CellposeThresholds::default();
        thresholds.diameter = diam_labels.or(diam_mean).unwrap_or(thresholds.diameter);
        Some((config, thresholds, Normalization { pmin: 1.0, pmax: 99.0 }))
    }
}

impl ThresholdValues for CellposeThresholds {
    fn check(&self) -> Result<()> {
        let Self { flow, cellprob, diameter, smallest_object } = *self;
        let message = || format!("flow_threshold is {flow}; it must be 0 (no filter) or more");
        check_range(flow >= 0.0 && flow.is_finite(), "flow_threshold", flow, 0.0..=f64::INFINITY, message)?;
        let message = || format!("cellprob_threshold is {cellprob}; give a number, like 0");
        check_range(cellprob.is_finite(), "cellprob_threshold", cellprob, f64::MIN..=f64::MAX, message)?;
        let message = || format!("the diameter is {diameter}; it must lie between 1 and 10000 pixels");
        check_range((1.0..=10_000.0).contains(&diameter), "diameter", diameter, 1.0..=10_000.0, message)?;
        check_smallest_object(smallest_object)
    }

    fn take(&mut self, given: &PredictOptions) {
        self.flow = given.flow_threshold.unwrap_or(self.flow);
        self.cellprob = given.cellprob_threshold.unwrap_or(self.cellprob);
        self.diameter = given.diameter.unwrap_or(self.diameter);
    }

    fn zoom(&mut self, zoom: f64) {
        self.diameter = (f64::from(self.diameter) / zoom).clamp(1.0, 10_000.0) as f32;
        self.smallest_object = zoomed_area(self.smallest_object, zoom);
    }

    fn diameter(&self) -> Option<f32> {
        Some(self.diameter)
    }

    /// Thresholds that were chosen for other cells are good for these too.
    fn reset(&mut self, smallest_object: f32) {
        self.smallest_object = smallest_object;
    }

    fn allow(&mut self, smallest_object: f32) {
        self.smallest_object = self.smallest_object.min(smallest_object);
    }

    fn lower(&self) -> Vec<PredictOptions> {
        let below = [-1.0, -2.0, -3.0, -4.0].map(|less| self.cellprob + less);
        below.map(|logit| PredictOptions { cellprob_threshold: Some(logit), ..PredictOptions::default() }).into()
    }
}

impl SegmentationAlgorithm for Cellpose<'_> {
    /// The reference network, for two channels, takes the mean of the channels of an image and zeros.
    fn averages_channels(&self) -> bool {
        self.config.n_channels <= 2
    }

    fn scales_itself(&self) -> bool {
        true
    }

    fn bytes_of_a_pixel(&self) -> u64 {
        120
    }

    fn stated_diameter(&self) -> Option<f64> {
        Some(f64::from(self.thresholds.diameter))
    }

    fn own_scale(&self) -> Option<f64> {
        Some(self.scale())
    }

    fn reference_training(&self, steps: usize) -> ReferenceTraining {
        ReferenceTraining {
            learning_rate: 0.2,
            schedule: Schedule::Cellpose { epochs: steps.min(2000) },
            weight_decay: 1e-5,
        }
    }

    fn optimizer(&self, weights: &Weights, preset: Preset) -> Optimizer {
        match preset {
            Preset::Reference => Sgd::new(weights).into(),
            _ => Adam::pytorch(weights).into(),
        }
    }

    fn expect_cells(&mut self, labels: &[LabelImage], trained: bool) {
        let diameter = mean_diameter(labels).max(SMALLEST_DIAMETER) as f32;
        // A few more cells that happen to be large or small do not make all others so.
        if !(trained && SAME_CELLS.contains(&(diameter / self.thresholds.diameter))) {
            self.thresholds.diameter = diameter;
        }
    }

    fn task(&self, input: TaskInput<'_>, options: &TrainOptions) -> Result<AnyTask> {
        let usual = CellposeBatchConfig {
            seed: options.seed,
            batch_size: input.batch_size,
            patch: input.patch,
            diam_mean: f64::from(self.config.diam_mean),
            cancel: options.cancel.clone(),
            ..CellposeBatchConfig::default()
        };
        let config = match options.preset {
            Preset::Reference => {
                CellposeBatchConfig { policy: SamplingPolicy::Reference, outside: Outside::Background, ..usual }
            }
            _ => CellposeBatchConfig {
                intensity: Augmentation { symmetries: false, ..Augmentation::default() },
                ..usual
            },
        };
        let config = if input.validation { config.validation() } else { config };
        Ok(AnyTask::new(CellposeBatches::new(input.images, input.labels, config)?))
    }

    fn segment(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        options: &PredictOptions,
        work: &Work<'_>,
    ) -> Result<Found> {
        let (Fit { times, note }, maps) = self.fitted_maps(network, image, work)?;
        let thresholds = self.seen(times);
        let highest = highest(&maps.cellprob);
        let mut segmentation = maps.segment(self.config, &thresholds, options.min_area, &work.cancel)?;
        segmentation.notes.extend(note);
        Ok(Found { segmentation, highest, threshold: thresholds.cellprob, times })
    }

    fn choose_thresholds(&mut self, network: &Network, set: &CalibrationSet<'_>, work: &Work<'_>) -> Result<()> {
        let default = self.thresholds;
        let predict = |image: ArrayView3<'_, f32>, _| maps(network, self.config, image, &default, work);
        let images = set.predicted(network, work, |_| Ok(1.0), predict)?;
        let mut choices = Vec::new();
        for flow in FLOWS {
            for cellprob in CELLPROBS {
                let distance = (flow - default.flow).abs() + 0.2 * cellprob.abs();
                choices.push((CellposeThresholds { flow, cellprob, ..default }, distance));
            }
        }
        let segment = |maps: &FlowMaps, thresholds: &CellposeThresholds| {
            Ok(maps.segment(self.config, thresholds, 0.0, &work.cancel)?.labels)
        };
        self.thresholds = choose(&choices, &images, segment)?.unwrap_or(default);
        Ok(())
    }

    fn fit_outlines(&mut self, network: &Network, drawn: &Drawn, work: &Work<'_>) -> Result<()> {
        let default = self.thresholds;
        let images = drawn.predicted(|image| maps(network, self.config, image, &default, work))?;
        let choices: Vec<_> = OUTLINE_FLOWS
            .iter()
            .flat_map(|&flow| OUTLINE_CELLPROBS.map(|cellprob| CellposeThresholds { flow, cellprob, ..default }))
            .collect();
        let segment = |maps: &FlowMaps, thresholds: &CellposeThresholds| {
            Ok(maps.segment(self.config, thresholds, 0.0, &work.cancel)?.labels)
        };
        self.thresholds = outlines::fit(default, &choices, &images, segment)?;
        Ok(())
    }

    fn fit_size(&self, network: &Network, image: ArrayView3<'_, f32>, work: &Work<'_>) -> Result<Fit> {
        self.fit_size_and_keep(network, image, work, None)
    }

    fn gauge(&self, network: &Network, drawn: &Drawn, expected: f64, work: &Work<'_>) -> Result<Option<Gauge>> {
        let look = |part: ArrayView3<'_, f32>, times: f64| Ok(self.look(network, part, times, work)?.0);
        let CellposeThresholds { flow, cellprob, .. } = self.thresholds;
        let gauge = |Measure { diameter, probability }| Gauge { diameter, probability, flow, cellprob };
        Ok(measured(drawn, expected, self.scale(), look)?.map(gauge))
    }

    fn more_state(&self, names: &[&str]) -> Result<Vec<StateEntry>> {
        let mut entries = vec![
            ("diam_mean".to_string(), vec![1], vec![self.config.diam_mean]),
            ("diam_labels".to_string(), vec![1], vec![self.thresholds.diameter]),
        ];
        let counted = names.iter().filter_map(|name| name.strip_suffix("running_var"));
        entries.extend(counted.map(|layer| (format!("{layer}num_batches_tracked"), Vec::new(), vec![0.0])));
        Ok(entries)
    }
}

impl Cellpose<'_> {
    /// How an image is seen, and what the network says about it then.
    fn fitted_maps(&self, network: &Network, image: ArrayView3<'_, f32>, work: &Work<'_>) -> Result<(Fit, FlowMaps)> {
        let whole = Cell::new(None);
        let fit = self.fit_size_and_keep(network, image, work, Some(&whole))?;
        if fit.times == 1.0 {
            // A small image was looked at as a whole.
            let maps =
                whole.into_inner().map_or_else(|| maps(network, self.config, image, &self.thresholds, work), Ok)?;
            return Ok((fit, maps));
        }
        drop(whole);
        match maps(network, self.config, image, &self.seen(fit.times), work) {
            Err(error) if fit.times > 1.0 && error.kind() == ErrorKind::Limit => {
                Ok((Fit::for_want_of_memory(), maps(network, self.config, image, &self.thresholds, work)?))
            }
            seen => Ok((fit, seen?)),
        }
    }

    /// [`fit_size`](SegmentationAlgorithm::fit_size), which keeps what the network says about the whole image, where it sees all of it
    /// as usual.
    fn fit_size_and_keep(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        work: &Work<'_>,
        whole: Option<&Cell<Option<FlowMaps>>>,
    ) -> Result<Fit> {
        let Some(gauge) = network.scale.gauge.filter(|_| work.fits_size) else { return Ok(Fit::USUAL) };
        let Gauge { flow, cellprob, .. } = gauge;
        let own = Self { config: self.config, thresholds: CellposeThresholds { flow, cellprob, ..self.thresholds } };
        let (height, width, _) = image.dim();
        let whole = whole.filter(|_| height.max(width) <= side(1.0, self.scale()) && work.tile.is_none());
        let kept = if whole.is_some() { bytes_of(&[height, width], MAP_BYTES) } else { 0 };
        let work = &Work { tile: None, ..work.less(kept) };
        let times =
            fitted(gauge.measure(), image, self.scale(), |part, times| match own.look(network, part, times, work) {
                // What is too large to be seen so is not seen so.
                Err(error) if times > 1.0 && error.kind() == ErrorKind::Limit => Ok(Vec::new()),
                looked => {
                    let (found, maps) = looked?;
                    if let Some(whole) = whole.filter(|_| times == 1.0) {
                        whole.set(Some(maps));
                    }
                    Ok(found)
                }
            });
        match times {
            Err(error) if error.kind() == ErrorKind::Limit => Ok(Fit::for_want_of_memory()),
            times => Ok(Fit::of(times?)),
        }
    }

    /// The objects in an image that is seen that many times as large as usual, and what the network says about it, at the size of
    /// the image when that is the usual size.
    fn look(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        times: f64,
        work: &Work<'_>,
    ) -> Result<(Vec<FoundCell>, FlowMaps)> {
        let mut thresholds = self.seen(times);
        let scale = self.scale() * times;
        let (height, width, _) = image.dim();
        let sides = scaled_sides([height, width], scale)?;
        let (maps, pixel) = if times == 1.0 || scale > 1.0 {
            (maps(network, self.config, image, &thresholds, work)?, 1.0)
        } else {
            // Larger maps would tell no more than those of the network.
            thresholds.zoom(1.0 / scale);
            thresholds.diameter = self.config.diam_mean;
            let pixel = (bytes_of(&[height, width], 1) as f64 / bytes_of(&sides, 1) as f64).sqrt();
            let image = resize_bilinear(image, sides[0], sides[1])?;
            (maps(network, self.config, image.view(), &thresholds, work)?, pixel)
        };
        let labels = maps.labels(self.config, &thresholds, 0.0, &work.cancel)?;
        Ok((found_cells(&labels, maps.probability()?.view(), pixel)?, maps))
    }

    /// The thresholds for an image that is seen that many times as large as usual.
    fn seen(&self, times: f64) -> CellposeThresholds {
        let mut thresholds = self.thresholds;
        if times != 1.0 {
            thresholds.zoom(times);
        }
        thresholds
    }

    /// The sides that the network usually sees relative to those of an image.
    fn scale(&self) -> f64 {
        f64::from(self.config.diam_mean) / f64::from(self.thresholds.diameter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_are_drawn_later_change_the_size_of_all_only_when_they_are_of_another_size() {
        let disc = |radius: f64| {
            LabelImage::from_shape_fn((120, 120), |(y, x)| {
                i32::from((y as f64 - 60.0).hypot(x as f64 - 60.0) <= radius)
            })
        };
        let config = CellposeConfig::default();
        let thresholds = CellposeThresholds { diameter: 22.0, smallest_object: 14.0, ..Default::default() };
        let learned = |radius, trained| {
            let mut cellpose = Cellpose { config: &config, thresholds };
            cellpose.expect_cells(&[disc(radius)], trained);
            cellpose.thresholds.diameter
        };
        assert_eq!(learned(14.0, true), 22.0);
        assert!((learned(14.0, false) - 28.0).abs() < 1.0 && (learned(40.0, true) - 80.0).abs() < 1.0);
        let mut allowed = thresholds;
        allowed.allow(215.5);
        assert_eq!(allowed, thresholds);
        allowed.allow(3.0);
        assert_eq!(allowed.smallest_object, 3.0);
    }
}
