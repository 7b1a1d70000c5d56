//! The facade: a model is built from a typed config, trained on sparse labels, and predicts objects.

mod algorithm_options;
mod architecture;
#[cfg(feature = "keras")]
mod bioimage;
mod cell_size;
mod cellpose;
mod choice;
mod contrast;
mod device;
mod elephant;
mod engines;
#[cfg(feature = "keras")]
mod exchange;
mod file;
mod foreign;
#[cfg(feature = "keras")]
mod foreign_stardist;
mod judged;
mod keep;
mod network;
mod normalization;
mod onnx;
mod options;
mod outlines;
mod pixel_size;
mod predict;
mod recipe;
mod segmentation;
mod stardist;
mod stardist_objects;
pub mod starters;
mod stream;
mod thresholds;
mod train;
mod work;
mod working_scale;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

pub use self::algorithm_options::{AlgorithmOptions, CellposeOptions, ElephantOptions, StarDistOptions};
pub use self::architecture::Architecture;
#[cfg(feature = "keras")]
pub use self::bioimage::PackageDescription;
pub use self::choice::{Choice, Trial, choose_algorithm};
pub use self::device::available_devices;
#[cfg(feature = "keras")]
pub use self::exchange::{Exchanged, convert};
pub use self::foreign::StateEntry;
pub use self::normalization::Normalization;
pub use self::options::{Algorithm, Device, Postprocess, PredictOptions, Preset, TrainOptions};
pub use self::segmentation::{Object, Segmentation};
pub use self::starters::{Start, Starter};
pub use self::stream::Pools;
pub use self::thresholds::{CellposeThresholds, ElephantThresholds, StarThresholds, Thresholds};
pub use self::train::TrainingSummary;
use crate::error::Result;
use crate::formats::tensors::NamedArrays;
use crate::networks::{CellposeConfig, ElephantConfig, Graph, StarDistConfig, Weights, from_state_dict};
use crate::training::history::History;
use crate::training::trainer::TrainingState;

/// A segmentation network with its weights and everything needed to use it.
///
/// Many threads may predict with one model at a time; training needs it exclusively.
#[derive(Debug)]
pub struct Model {
    architecture: Architecture,
    graph: Arc<Graph>,
    weights: Weights,
    normalization: Normalization,
    /// Sides of the image that the network sees, relative to those of the image it is given.
    scale: working_scale::WorkingScale,
    thresholds: Thresholds,
    history: History,
    /// Weights that the optimiser moves, and its memory; absent in a model that was never trained.
    state: Option<TrainingState>,
    /// Whether the weights are initial ones that nothing was learned with.
    untrained: bool,
    /// Whether these are starting weights.
    started: bool,
    /// What the training images showed, if it was ever trained.
    seen: Option<contrast::Seen>,
    /// Micrometres per pixel `[y, x]` of the training images, if known.
    pixel_size: Option<[f64; 2]>,
    engines: engines::Engines,
}

/// What can be said about a model without running it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Algorithm and architecture.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// Number of parameters.
    pub parameters: usize,
    /// Intensity scaling.
    pub normalization: Normalization,
    /// Post-processing.
    pub thresholds: Thresholds,
    /// Optimiser steps of all trainings.
    pub steps: u64,
    /// Loss of the last step, if it was ever trained.
    pub loss: Option<f32>,
    /// Whether a training can resume with the optimiser's state.
    pub resumable: bool,
    /// Micrometres per pixel `[y, x]` of the images it was trained on, if known.
    pub pixel_size: Option<[f64; 2]>,
    /// Median diameter of the cells that were drawn for it, in pixels of the training; none in a model that was not trained.
    pub cell_diameter: Option<f64>,
    /// The same in micrometres, if the pixel size is known.
    pub cell_diameter_um: Option<f64>,
}

impl Model {
    /// A network with initial weights drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when the architecture is out of range.
    pub fn new(architecture: impl Into<Architecture>, seed: u64) -> Result<Self> {
        let architecture = architecture.into();
        architecture.check()?;
        let graph = Arc::new(architecture.graph());
        let weights = Weights::init(&graph, seed);
        Ok(Self { untrained: true, ..Self::from_parts(architecture, graph, weights) })
    }

    /// A StarDist network with initial weights drawn from `seed`; see [`new`](Self::new).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stardist(config: StarDistConfig, seed: u64) -> Result<Self> {
        Self::new(config, seed)
    }

    /// A Cellpose network with initial weights drawn from `seed`; see [`new`](Self::new).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn cellpose(config: CellposeConfig, seed: u64) -> Result<Self> {
        Self::new(config, seed)
    }

    /// An ELEPHANT network with initial weights drawn from `seed`; see [`new`](Self::new).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn elephant(config: ElephantConfig, seed: u64) -> Result<Self> {
        Self::new(config, seed)
    }

    /// A network with given weights: every parameter of [`Architecture::graph`] by its name, kernels as `[k, k, in, out]`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when the architecture is out of range,
    /// [`Error::Weights`](crate::Error::Weights) when names, shapes or values do not fit it.
    pub fn with_weights(architecture: impl Into<Architecture>, arrays: NamedArrays) -> Result<Self> {
        let architecture = architecture.into();
        architecture.check()?;
        let graph = Arc::new(architecture.graph());
        let weights = Weights::from_named(&graph, arrays)?;
        Ok(Self::from_parts(architecture, graph, weights))
    }

    /// A Cellpose or ELEPHANT network with the weights of a PyTorch state dict of the original package.
    ///
    /// # Errors
    /// As [`with_weights`](Self::with_weights).
    pub fn with_state_dict(architecture: impl Into<Architecture>, arrays: NamedArrays) -> Result<Self> {
        let architecture = architecture.into();
        architecture.check()?;
        let graph = Arc::new(architecture.graph());
        let weights = from_state_dict(&graph, arrays)?;
        Ok(Self::from_parts(architecture, graph, weights))
    }

    fn from_parts(architecture: Architecture, graph: Arc<Graph>, weights: Weights) -> Self {
        Self {
            thresholds: Thresholds::of(architecture.algorithm()),
            architecture,
            graph,
            weights,
            normalization: Normalization::default(),
            scale: working_scale::WorkingScale::NONE,
            history: History::default(),
            state: None,
            untrained: false,
            started: false,
            seen: None,
            pixel_size: None,
            engines: engines::Engines::default(),
        }
    }

    /// A model from a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound), [`Error::File`](crate::Error::File) when the file is damaged, of
    /// another format or of a later version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        file::load(path.as_ref())
    }

    /// Writes the model to one file, atomically: the file is the old one or the new one, never half.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::NotFound`](crate::Error::NotFound) when it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::Parts::of(self).save(path.as_ref())
    }

    /// What a file that [`save`](Self::save) wrote says about its model: [`info`](Self::info) without reading the weights,
    /// which are not compared with their checksum.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for damage of the weights.
    pub fn peek(path: impl AsRef<Path>) -> Result<ModelInfo> {
        file::peek(path.as_ref())
    }

    /// A model from the content of a file that [`save`](Self::save) wrote, read to its end from anywhere.
    ///
    /// # Errors
    /// As [`load`](Self::load); the path in an error is `model`.
    pub fn from_reader(reader: impl Read) -> Result<Self> {
        file::read(reader)
    }

    /// Writes the content of the file that [`save`](Self::save) writes. A writer that is not in memory should be buffered.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) with the path `model` when the writer fails.
    pub fn to_writer(&self, mut writer: impl Write) -> Result<()> {
        file::Parts::of(self).write(&mut writer)
    }

    /// Gives back the memory and the threads that the model keeps so that the next prediction is quick: up to two networks laid
    /// out for images of one size, together up to 1 GiB, and the threads of the last calls. The model stays as it is.
    pub fn release(&self) {
        self.engines.release();
    }

    /// Forgets everything learned: new initial weights from `seed`, default thresholds, no history.
    pub fn reset(&mut self, seed: u64) {
        let weights = Weights::init(&self.graph, seed);
        let empty = Self::from_parts(self.architecture.clone(), Arc::clone(&self.graph), weights);
        *self = Self { untrained: true, ..empty };
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.architecture.algorithm()
    }

    /// The architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The network.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The thresholds used when a prediction gives none.
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Replaces the thresholds.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for values out of range or of another algorithm.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) -> Result<()> {
        thresholds.check()?;
        if thresholds.algorithm() != self.algorithm() {
            return Err(thresholds.misplaced(self.algorithm()));
        }
        self.thresholds = thresholds;
        Ok(())
    }

    /// How images are scaled.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// Replaces the scaling of images; for a model that is about to be trained.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for percentiles out of range.
    pub fn set_normalization(&mut self, normalization: Normalization) -> Result<()> {
        normalization.check()?;
        self.normalization = normalization;
        Ok(())
    }

    /// Losses and learning rates of all trainings.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What can be said about the model without running it.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            architecture: self.architecture.clone(),
            parameters: self.weights.count(),
            normalization: self.normalization,
            thresholds: self.thresholds,
            steps: self.history.total_steps(),
            loss: self.history.loss.last().copied(),
            resumable: self.state.is_some(),
            pixel_size: self.pixel_size,
            cell_diameter: self.seen.map(|seen| seen.diameter),
            cell_diameter_um: micrometres_across(self.seen, self.pixel_size),
        }
    }
}

/// The diameter of the drawn cells in micrometres, where the pixels of the training have a known size.
fn micrometres_across(seen: Option<contrast::Seen>, pixel_size: Option<[f64; 2]>) -> Option<f64> {
    Some(seen?.diameter * pixel_size::side(pixel_size?))
}

impl Clone for Model {
    fn clone(&self) -> Self {
        Self {
            architecture: self.architecture.clone(),
            graph: Arc::clone(&self.graph),
            weights: self.weights.clone(),
            normalization: self.normalization,
            scale: self.scale,
            thresholds: self.thresholds,
            history: self.history.clone(),
            state: self.state.clone(),
            untrained: self.untrained,
            started: self.started,
            seen: self.seen,
            pixel_size: self.pixel_size,
            engines: engines::Engines::default(),
        }
    }
}
