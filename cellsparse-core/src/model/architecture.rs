//! Which network a model has.

use serde::{Deserialize, Serialize};

use super::Algorithm;
use crate::error::{Error, Reason, Result};
use crate::networks::{CellposeConfig, ElephantConfig, Graph, StarDistConfig};

/// Parameters of a network at most: 4 GiB, the largest model file that is read.
const MOST_PARAMETERS: usize = 1 << 30;

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
    /// [`Error::Config`](crate::Error::Config) that names the field, its value and its range;
    /// [`Error::Limit`](crate::Error::Limit) for a network of more than 2^30 parameters, which no model file holds.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Stardist(config) => config.check(),
            Self::Cellpose(config) => config.check(),
            Self::Elephant(config) => config.check(),
        }?;
        let sizes = self.graph().parameters().into_iter().map(|spec| spec.shape.iter().product::<usize>());
        let parameters = sizes.fold(0, usize::saturating_add);
        if parameters > MOST_PARAMETERS {
            return Err(Error::Limit(format!(
                "the network has {parameters} parameters; {MOST_PARAMETERS} is the most. Take fewer filters or levels"
            ))
            .because(Reason::too_large("parameters", parameters as u64, MOST_PARAMETERS as u64)));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_network_that_no_file_could_hold_is_refused_before_it_is_made() {
        let config = StarDistConfig { n_filter_base: 512, n_depth: 6, ..StarDistConfig::default() };
        assert!(config.check().is_ok(), "each field is within its range");
        let error = Architecture::Stardist(config).check().unwrap_err();
        assert!(error.kind() == ErrorKind::Limit && matches!(error.reason(), Some(Reason::TooLarge { .. })), "{error}");
        assert!(Architecture::of(Algorithm::Cellpose, 3).check().is_ok());
    }
}
