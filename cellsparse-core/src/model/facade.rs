//! The facade: a model is built from a typed configuration, trained on sparse labels, and predicts objects.

use std::sync::Arc;

use super::contrast::Seen;
use super::engines::Threads;
use super::network::Network;
use super::normalization::Normalization;
use super::registry::{Algorithm, AnyAlgorithm, Architecture, Thresholds};
use crate::error::Result;
use crate::formats::tensors::NamedArrays;
use crate::networks::{CellposeConfig, ElephantConfig, Graph, StarDistConfig, Weights, from_state_dict};
use crate::training::history::History;
use crate::training::trainer::TrainingState;

/// A segmentation network with its weights and everything needed to use it.
///
/// Many threads may predict with one model at a time; training needs it exclusively.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) architecture: Architecture,
    pub(super) network: Network,
    pub(super) thresholds: Thresholds,
    pub(super) history: History,
    /// Weights that the optimiser moves, and its memory; absent in a model that was never trained.
    pub(super) state: Option<TrainingState>,
    /// Whether the weights are initial ones that nothing was learned with.
    pub(super) untrained: bool,
    /// Whether these are starting weights.
    pub(super) started: bool,
    /// What the training images showed, if it was ever trained.
    pub(super) seen: Option<Seen>,
    /// Micrometres per pixel `[y, x]` of the training images, if known.
    pub(super) pixel_size: Option<[f64; 2]>,
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

    pub(super) fn from_parts(architecture: Architecture, graph: Arc<Graph>, weights: Weights) -> Self {
        let averages_channels = architecture.with_defaults().averages_channels();
        Self {
            thresholds: Thresholds::of(architecture.algorithm()),
            architecture,
            network: Network::new(graph, weights, averages_channels),
            history: History::default(),
            state: None,
            untrained: false,
            started: false,
            seen: None,
            pixel_size: None,
        }
    }

    /// The algorithm with the settings of this model.
    pub(super) fn settings(&self) -> Result<AnyAlgorithm<'_>> {
        self.architecture.with(self.thresholds)
    }

    /// Gives back the memory and the threads that the model keeps so that the next prediction is quick: up to two networks laid
    /// out for images of one size, together up to 1 GiB, and the threads of the last calls. The model stays as it is.
    pub fn release(&self) {
        self.network.engines.release();
    }

    /// The threads that the model works on, for models that take turns: a copy begins with threads of its own.
    pub fn threads(&self) -> Threads {
        self.network.engines.threads()
    }

    /// Works on the threads of another model, or of an earlier copy, from now on.
    pub fn use_threads(&mut self, threads: &Threads) {
        self.network.engines.use_threads(threads);
    }

    /// Forgets everything learned: new initial weights from `seed`, default thresholds, no history.
    pub fn reset(&mut self, seed: u64) {
        let weights = Weights::init(&self.network.graph, seed);
        let empty = Self::from_parts(self.architecture.clone(), Arc::clone(&self.network.graph), weights);
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
        &self.network.graph
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.network.weights
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
        if thresholds.values().diameter() != self.thresholds.values().diameter() {
            // Whoever knows the diameter of the cells does not leave it to the network.
            self.network.scale.gauge = None;
        }
        self.thresholds = thresholds;
        Ok(())
    }

    /// How images are scaled.
    pub fn normalization(&self) -> Normalization {
        self.network.normalization
    }

    /// Replaces the scaling of images; for a model that is about to be trained.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for percentiles out of range.
    pub fn set_normalization(&mut self, normalization: Normalization) -> Result<()> {
        normalization.check()?;
        self.network.normalization = normalization;
        Ok(())
    }

    /// Losses and learning rates of all trainings.
    pub fn history(&self) -> &History {
        &self.history
    }
}
