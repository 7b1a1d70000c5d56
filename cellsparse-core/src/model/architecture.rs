//! Which network a model has.

use serde::{Deserialize, Serialize};

use super::Algorithm;
use crate::error::Result;
use crate::networks::{CellposeConfig, ElephantConfig, Graph, StarDistConfig};

/// The architecture of a network, by algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "algorithm", content = "config", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Architecture {
    /// Star-convex polygons.
    Stardist(StarDistConfig),
    /// Flows towards cell centres.
    Cellpose(CellposeConfig),
    /// Background, rim and centre.
    Elephant(ElephantConfig),
}

impl Architecture {
    /// The default architecture of an algorithm for images of `n_channels` channels.
    pub fn of(algorithm: Algorithm, n_channels: usize) -> Self {
        match algorithm {
            Algorithm::Stardist => StarDistConfig { n_channels, ..StarDistConfig::default() }.into(),
            Algorithm::Cellpose => CellposeConfig { n_channels, ..CellposeConfig::default() }.into(),
            Algorithm::Elephant => ElephantConfig { n_channels, ..ElephantConfig::default() }.into(),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Stardist(_) => Algorithm::Stardist,
            Self::Cellpose(_) => Algorithm::Cellpose,
            Self::Elephant(_) => Algorithm::Elephant,
        }
    }

    /// Channels of the network's input.
    pub fn n_channels(&self) -> usize {
        match self {
            Self::Stardist(config) => config.n_channels,
            Self::Cellpose(config) => config.n_channels,
            Self::Elephant(config) => config.n_channels,
        }
    }

    /// Refuses values that no network can have.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the field, its value and its range.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Stardist(config) => config.check(),
            Self::Cellpose(config) => config.check(),
            Self::Elephant(config) => config.check(),
        }
    }

    /// The network.
    pub fn graph(&self) -> Graph {
        match self {
            Self::Stardist(config) => config.graph(),
            Self::Cellpose(config) => config.graph(),
            Self::Elephant(config) => config.graph(),
        }
    }
}

impl From<StarDistConfig> for Architecture {
    fn from(config: StarDistConfig) -> Self {
        Self::Stardist(config)
    }
}

impl From<CellposeConfig> for Architecture {
    fn from(config: CellposeConfig) -> Self {
        Self::Cellpose(config)
    }
}

impl From<ElephantConfig> for Architecture {
    fn from(config: ElephantConfig) -> Self {
        Self::Elephant(config)
    }
}
