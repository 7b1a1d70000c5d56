//! What an algorithm gives to the facade.
//!
//! Each algorithm implements the traits of this file once, in a file or folder of its own, and is registered by one line in
//! `registry.rs`. Everything else in `model` works with these traits and asks no model which algorithm it has.

use ndarray::{Array3, ArrayView3};

use super::calibration::CalibrationSet;
use super::drawn::Drawn;
use super::fitted_scale::Fit;
use super::network::Network;
use super::normalization::Normalization;
use super::options::{PredictOptions, Preset, TrainOptions};
use super::segmentation::Segmentation;
use super::work::Work;
use super::working_scale::{Gauge, SeenCells, WorkingScale};
use crate::annotations::Dataset;
use crate::error::Result;
use crate::formats::tensors::NamedArrays;
#[cfg(feature = "keras")]
use crate::networks::StarDistConfig;
use crate::networks::{ParameterMut, Weights};
use crate::raster::LabelImage;
use crate::training::any_task::AnyTask;
use crate::training::optimizer::Optimizer;
use crate::training::schedule::Schedule;

/// One entry of a state dict: name, shape, values.
pub type StateEntry = (String, Vec<usize>, Vec<f32>);

/// Shapes of cells that an algorithm can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shapes {
    /// Those that are seen whole from one point in them.
    StarConvex,
    /// All without holes.
    Solid,
    /// All.
    Any,
}

/// What is fixed for an algorithm.
pub(super) struct Facts {
    /// Its name, as it is written everywhere.
    pub name: &'static str,
    /// Its name as its authors write it, for prose.
    pub title: &'static str,
    /// The fields of [`PredictOptions`] that belong to it.
    pub options: &'static [&'static str],
    /// The starting weights in this library, as [`Starter::write`](super::Starter::write) makes them; empty without any. A
    /// reference to a static: a constant would put its megabytes into the program wherever it is used.
    pub starting_weights: &'static &'static [u8],
    /// The shapes that its cells can have.
    pub shapes: Shapes,
    /// Whether the loss of a batch is the sum of what its images add, so that they need not pass through the network together.
    pub adds_losses: bool,
    /// Its place in the order in which algorithms are taken that do equally well.
    pub rank: u8,
    /// The outputs of its network in the order of the graph's, with the one for classes last.
    pub outputs: &'static [NetworkOutput],
    /// How its outputs become cells, for people who run the network elsewhere.
    #[cfg_attr(not(feature = "keras"), allow(dead_code, reason = "packages for other programs tell it"))]
    pub post_processing: &'static str,
    /// Where it was published: a reference and its DOI.
    #[cfg_attr(not(feature = "keras"), allow(dead_code, reason = "packages for other programs tell it"))]
    pub citation: [&'static str; 2],
}

/// An output of a network in files for other programs.
pub(super) struct NetworkOutput {
    pub name: &'static str,
    /// What is applied to the output of the network first, as ONNX names it.
    pub operator: Option<&'static str>,
    /// What its values are.
    #[cfg_attr(not(feature = "keras"), allow(dead_code, reason = "packages for other programs tell it"))]
    pub meaning: &'static str,
}

/// What is known of an algorithm without a model of it.
pub(super) trait AlgorithmKind {
    /// Its configuration of a network.
    type Config;
    /// Its thresholds.
    type Thresholds;
    /// Its options of prediction.
    type Options;

    /// What is fixed for it.
    const FACTS: Facts;

    /// Its options among all `given` ones.
    fn options(given: &PredictOptions) -> Self::Options;

    /// Why the network of `wanted` cannot begin with starting weights of the network of `own`, if so.
    fn misfit(own: &Self::Config, wanted: &Self::Config) -> Option<String>;

    /// The model that a PyTorch state dict of the original package belongs to, if it is one of this algorithm's.
    fn recognise(_arrays: &NamedArrays) -> Option<(Self::Config, Self::Thresholds, Normalization)> {
        None
    }
}

/// Values that the post-processing of an algorithm depends on and that are stored with a model.
pub(super) trait ThresholdValues {
    /// Refuses values outside their ranges.
    fn check(&self) -> Result<()>;

    /// Takes those that a caller gives.
    fn take(&mut self, given: &PredictOptions);

    /// Turns lengths and areas from pixels of the training into pixels of an image that is seen `zoom` times as large.
    fn zoom(&mut self, zoom: f64);

    /// The diameter of the cells, where the algorithm scales images by it.
    fn diameter(&self) -> Option<f32> {
        None
    }

    /// Goes back to the default values, before others are chosen; what is known of the cells stays.
    fn reset(&mut self, smallest_object: f32);

    /// Takes objects of `smallest_object` pixels too, and keeps what was chosen for the cells of an earlier training.
    fn allow(&mut self, smallest_object: f32);

    /// Options with lower and lower thresholds, for a model that finds nothing.
    fn lower(&self) -> Vec<PredictOptions>;
}

/// How the original trains.
pub(super) struct ReferenceTraining {
    /// Learning rate at its highest.
    pub learning_rate: f32,
    /// How it changes.
    pub schedule: Schedule,
    /// Weight decay, in the form of the optimiser.
    pub weight_decay: f32,
}

/// Images and labels that batches are drawn from, and how.
pub(super) struct TaskInput<'a> {
    /// Inputs of the network `[H, W, C]`.
    pub images: Vec<Array3<f32>>,
    /// Label images `[H, W]` of the same sides: below 0 unlabelled, 0 background.
    pub labels: Vec<LabelImage>,
    /// The data set that they come from; none for images that are made while training.
    pub data: Option<&'a Dataset>,
    /// Patches in a batch.
    pub batch_size: usize,
    /// Side of the patches in pixels.
    pub patch: usize,
    /// Whether patches are taken as they are, one of every image: for a validation, which has one batch.
    pub validation: bool,
}

/// What a prediction finds.
pub(super) struct Found {
    /// The objects.
    pub segmentation: Segmentation,
    /// The highest value of the map that decides whether there is an object at all.
    pub highest: f32,
    /// The threshold for that map.
    pub threshold: f32,
    /// How many times as large as usual the image was seen, because its cells are of another size.
    pub times: f64,
}

/// An algorithm with the configuration and the thresholds of one model.
#[cfg_attr(not(feature = "io"), allow(dead_code, reason = "images read by parts need some methods"))]
pub(super) trait SegmentationAlgorithm {
    /// Whether its network takes the mean of the channels of an image that has another number of them.
    fn averages_channels(&self) -> bool {
        false
    }

    /// Whether its network tells classes of objects apart.
    fn has_classes(&self) -> bool {
        false
    }

    /// Whether it brings cells to the size for which its network is made by itself; for others the facade chooses the size at
    /// which images are seen.
    fn scales_itself(&self) -> bool {
        false
    }

    /// Whether thresholds are chosen on the drawn cells and what they make plain, where there is no validation; otherwise they
    /// are only fitted to the outlines of the drawn cells.
    fn calibrates_on_training_data(&self) -> bool {
        false
    }

    /// The side of the smallest tile that is taken for a caller who asks for a small one, if there is a limit.
    fn smallest_tile(&self) -> Option<usize> {
        None
    }

    /// Bytes of memory that it takes for each pixel of an image that is segmented whole: label images, and maps of the network
    /// with what is made of them.
    fn bytes_of_a_pixel(&self) -> u64;

    /// Whether objects in an image that is read by parts are searched for in the whole image before they are painted part by
    /// part; otherwise each part is segmented by itself.
    fn searches_whole(&self) -> bool {
        false
    }

    /// Whether the tiles of an image are normalised by statistics of the whole.
    fn shares_statistics(&self) -> bool {
        false
    }

    /// The diameter in pixels of the cells that it looks for, if it depends on one.
    fn stated_diameter(&self) -> Option<f64> {
        None
    }

    /// The factor by which it scales images, if it does so by itself.
    fn own_scale(&self) -> Option<f64> {
        None
    }

    /// Pixels around a pixel that the network's outputs there depend on, if it does not read tiles as units.
    fn receptive_radius(&self) -> Option<usize> {
        None
    }

    /// How the original trains for that many steps.
    fn reference_training(&self, steps: usize) -> ReferenceTraining;

    /// A new optimiser.
    fn optimizer(&self, weights: &Weights, preset: Preset) -> Optimizer;

    /// Sets the random weights of a new network to what is known of the cells that it is trained on, which it sees at
    /// `scale`.
    fn initialize(&self, _weights: &mut Weights, _data: &Dataset, _scale: WorkingScale) {}

    /// Takes a parameter from starting weights of a network with other rays or classes, and says whether it does. Otherwise
    /// the parameter is taken as for all algorithms.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) when the starting weights do not have it.
    fn begin_parameter(&self, _parameter: &mut ParameterMut<'_>, _arrays: &NamedArrays) -> Result<bool> {
        Ok(false)
    }

    /// Sets thresholds to what is known of the cells of a training from the labels `[H, W]` that a network learns; those of a
    /// model that was `trained` before are about other cells too.
    fn expect_cells(&mut self, _labels: &[LabelImage], _trained: bool) {}

    /// Batches and their loss.
    ///
    /// # Errors
    /// For images and labels that nothing can be learned from, and options out of range.
    fn task(&self, input: TaskInput<'_>, options: &TrainOptions) -> Result<AnyTask>;

    /// The cells that the network sees in an image `[H, W, C]` at `scale`; none for an algorithm that scales itself.
    ///
    /// # Errors
    /// As [`segment`](Self::segment).
    fn seen_cells(
        &self,
        _network: &Network,
        _image: ArrayView3<'_, f32>,
        _scale: f64,
        _work: &Work<'_>,
    ) -> Result<Option<SeenCells>> {
        Ok(None)
    }

    /// The objects of a normalised image `[H, W, C]`.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) for work that the memory does not suffice for,
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    fn segment(
        &self,
        network: &Network,
        image: ArrayView3<'_, f32>,
        options: &PredictOptions,
        work: &Work<'_>,
    ) -> Result<Found>;

    /// Takes the thresholds that segment the images of a calibration set best.
    ///
    /// # Errors
    /// As [`segment`](Self::segment).
    fn choose_thresholds(&mut self, network: &Network, set: &CalibrationSet<'_>, work: &Work<'_>) -> Result<()>;

    /// Takes the thresholds with which the outlines of the drawn cells fit best, where outlines depend on thresholds.
    ///
    /// # Errors
    /// As [`segment`](Self::segment).
    fn fit_outlines(&mut self, _network: &Network, _drawn: &Drawn, _work: &Work<'_>) -> Result<()> {
        Ok(())
    }

    /// What the state dict of the original package has beside the network's parameters, whose `names` are given.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) when the original is not a PyTorch program.
    fn more_state(&self, names: &[&str]) -> Result<Vec<StateEntry>>;

    /// The network, and the thresholds (probability, overlap), in terms of the StarDist package; none when it is none of the package's.
    #[cfg(feature = "keras")]
    fn stardist_form(&self) -> Option<(StarDistConfig, [f32; 2])> {
        None
    }

    /// The factor by which an image `[H, W, C]` is scaled before the network sees it, if nothing is known of its cells.
    ///
    /// # Errors
    /// As [`segment`](Self::segment).
    fn scale_for(&self, network: &Network, image: ArrayView3<'_, f32>, work: &Work<'_>) -> Result<f64> {
        let work = &Work { tile: None, ..work.clone() };
        network.scale.for_image(image, work.zoom, |part, scale| self.seen_cells(network, part, scale, work))
    }

    /// How an image `[H, W, C]` is seen whose cells may be of another size than those of the training.
    ///
    /// # Errors
    /// As [`segment`](Self::segment).
    fn fit_size(&self, _network: &Network, _image: ArrayView3<'_, f32>, _work: &Work<'_>) -> Result<Fit> {
        Ok(Fit::USUAL)
    }

    /// How the network sees what was `drawn`, of which `expected` is the true diameter in pixels; `None` where images are not seen by the
    /// size of their cells.
    ///
    /// # Errors
    /// As [`segment`](Self::segment).
    fn gauge(&self, _network: &Network, _drawn: &Drawn, _expected: f64, _work: &Work<'_>) -> Result<Option<Gauge>> {
        Ok(None)
    }
}
