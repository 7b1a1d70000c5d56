//! The algorithms: one line for each, and the types that have a variant for each.
//!
//! This is the only place that lists them. What a line names is in the file of the algorithm; what its type gives is written in
//! `algorithm.rs`.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use super::algorithm::{AlgorithmKind, Facts, SegmentationAlgorithm, ThresholdValues};
use super::cellpose::{Cellpose, CellposeOptions, CellposeThresholds};
use super::elephant::{Elephant, ElephantOptions, ElephantThresholds};
use super::normalization::Normalization;
use super::options::PredictOptions;
use super::stardist::{StarDist, StarDistOptions, StarThresholds};
use crate::error::{Error, Result};
use crate::formats::tensors::NamedArrays;
use crate::networks::{CellposeConfig, ElephantConfig, Graph, StarDistConfig};

/// Makes the enums whose variants are the algorithms, and the steps from a variant to what its algorithm gives.
macro_rules! algorithms {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $config:ident, $thresholds:ident, $options:ident;)+) => {
        /// A segmentation algorithm.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum Algorithm {
            $($(#[$doc])* $name,)+
        }

        /// The architecture of a network, by algorithm.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "algorithm", content = "config", rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum Architecture {
            $($(#[$doc])* $name($config),)+
        }

        /// Settings of the post-processing that are stored with a model.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum Thresholds {
            $($(#[$doc])* $name($thresholds),)+
        }

        /// The options of prediction of one algorithm. `None` takes the value stored with the model.
        ///
        /// Each becomes [`PredictOptions`] by `into()`, so an option cannot be given to an algorithm that does not have it:
        ///
        /// ```
        /// use cellsparse_core::PredictOptions;
        /// use cellsparse_core::model::CellposeOptions;
        ///
        /// let cells = CellposeOptions { diameter: Some(25.0), ..CellposeOptions::default() };
        /// let options = PredictOptions { tile: Some(512), ..cells.into() };
        /// assert_eq!(options.diameter, Some(25.0));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub enum AlgorithmOptions {
            $($(#[$doc])* $name($options),)+
        }

        /// One of the algorithms, with the configuration and the thresholds of a model.
        pub(super) enum AnyAlgorithm<'a> {
            $($name($kind<'a>),)+
        }

        impl Algorithm {
            /// All algorithms.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What is fixed for it.
            pub(super) fn facts(self) -> &'static Facts {
                match self {
                    $(Self::$name => &<$kind<'_> as AlgorithmKind>::FACTS,)+
                }
            }

            /// Its default architecture for images of `n_channels` channels.
            pub(super) fn architecture(self, n_channels: usize) -> Architecture {
                match self {
                    $(Self::$name => $config { n_channels, ..$config::default() }.into(),)+
                }
            }

            /// The thresholds that a model begins with.
            pub(super) fn thresholds(self) -> Thresholds {
                match self {
                    $(Self::$name => Thresholds::$name($thresholds::default()),)+
                }
            }

            /// Its options among all `given` ones.
            pub(super) fn options(self, given: &PredictOptions) -> AlgorithmOptions {
                match self {
                    $(Self::$name => <$kind<'_> as AlgorithmKind>::options(given).into(),)+
                }
            }
        }

        impl Architecture {
            /// The algorithm.
            pub fn algorithm(&self) -> Algorithm {
                match self {
                    $(Self::$name(_) => Algorithm::$name,)+
                }
            }

            /// Channels of the network's input.
            pub fn n_channels(&self) -> usize {
                match self {
                    $(Self::$name(config) => config.n_channels,)+
                }
            }

            /// The network.
            pub fn graph(&self) -> Graph {
                match self {
                    $(Self::$name(config) => config.graph(),)+
                }
            }

            /// Refuses a configuration with values out of range.
            pub(super) fn check_config(&self) -> Result<()> {
                match self {
                    $(Self::$name(config) => config.check(),)+
                }
            }

            /// The algorithm with these thresholds.
            ///
            /// # Errors
            /// [`Error::Config`] for thresholds of another algorithm.
            pub(super) fn with(&self, thresholds: Thresholds) -> Result<AnyAlgorithm<'_>> {
                match (self, thresholds) {
                    $((Self::$name(config), Thresholds::$name(thresholds)) => {
                        Ok(AnyAlgorithm::$name($kind { config, thresholds }))
                    })+
                    (_, thresholds) => Err(thresholds.misplaced(self.algorithm())),
                }
            }

            /// The algorithm with default thresholds.
            pub(super) fn with_defaults(&self) -> AnyAlgorithm<'_> {
                match self {
                    $(Self::$name(config) => {
                        AnyAlgorithm::$name($kind { config, thresholds: $thresholds::default() })
                    })+
                }
            }

            /// Why a network of this architecture cannot begin with starting weights of one of `own`, if so.
            pub(super) fn misfit(&self, own: &Self) -> Option<String> {
                match (own, self) {
                    $((Self::$name(own), Self::$name(wanted)) => <$kind<'_> as AlgorithmKind>::misfit(own, wanted),)+
                    _ => Some(format!("they are of {}, the network is of {}", own.algorithm(), self.algorithm())),
                }
            }

            /// The model that a PyTorch state dict of an original package belongs to.
            pub(super) fn recognise(arrays: &NamedArrays) -> Option<(Self, Thresholds, Normalization)> {
                $(if let Some((config, thresholds, normalization)) = <$kind<'_> as AlgorithmKind>::recognise(arrays) {
                    return Some((config.into(), Thresholds::$name(thresholds), normalization));
                })+
                None
            }
        }

        impl Thresholds {
            /// The algorithm they belong to.
            pub fn algorithm(&self) -> Algorithm {
                match self {
                    $(Self::$name(_) => Algorithm::$name,)+
                }
            }

            /// What its algorithm does with them.
            pub(super) fn values(&self) -> &dyn ThresholdValues {
                match self {
                    $(Self::$name(values) => values,)+
                }
            }

            /// The same, to change them.
            pub(super) fn values_mut(&mut self) -> &mut dyn ThresholdValues {
                match self {
                    $(Self::$name(values) => values,)+
                }
            }
        }

        impl AlgorithmOptions {
            /// The algorithm that they belong to.
            pub fn algorithm(&self) -> Algorithm {
                match self {
                    $(Self::$name(_) => Algorithm::$name,)+
                }
            }
        }

        impl From<AlgorithmOptions> for PredictOptions {
            fn from(options: AlgorithmOptions) -> Self {
                match options {
                    $(AlgorithmOptions::$name(options) => options.into(),)+
                }
            }
        }

        impl AnyAlgorithm<'_> {
            /// Its thresholds.
            pub fn thresholds(&self) -> Thresholds {
                match self {
                    $(Self::$name(algorithm) => Thresholds::$name(algorithm.thresholds),)+
                }
            }
        }

        impl<'a> Deref for AnyAlgorithm<'a> {
            type Target = dyn SegmentationAlgorithm + 'a;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$name(algorithm) => algorithm,)+
                }
            }
        }

        impl DerefMut for AnyAlgorithm<'_> {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self {
                    $(Self::$name(algorithm) => algorithm,)+
                }
            }
        }

        $(impl From<$config> for Architecture {
            fn from(config: $config) -> Self {
                Self::$name(config)
            }
        }

        impl From<$thresholds> for Thresholds {
            fn from(thresholds: $thresholds) -> Self {
                Self::$name(thresholds)
            }
        }

        impl From<$options> for AlgorithmOptions {
            fn from(options: $options) -> Self {
                Self::$name(options)
            }
        })+
    };
}

algorithms! {
    /// Star-convex polygons.
    Stardist: StarDist, StarDistConfig, StarThresholds, StarDistOptions;
    /// Flows towards cell centres.
    Cellpose: Cellpose, CellposeConfig, CellposeThresholds, CellposeOptions;
    /// Three classes: background, border, centre.
    Elephant: Elephant, ElephantConfig, ElephantThresholds, ElephantOptions;
}

impl Thresholds {
    pub(super) fn misplaced(&self, wanted: Algorithm) -> Error {
        Error::Config(format!("thresholds of {} for a model of {wanted}; give those of {wanted}", self.algorithm()))
    }
}
