//! Which algorithm and which network a model has.

use std::fmt;
use std::str::FromStr;

use super::registry::{Algorithm, Architecture};
use crate::error::{Error, Reason, Result};

/// Parameters of a network at most: 4 GiB, the largest model file that is read.
const MOST_PARAMETERS: usize = 1 << 30;

impl Algorithm {
    /// Its name, as it is written everywhere.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Its name as its authors write it, for prose.
    pub fn title(self) -> &'static str {
        self.facts().title
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|algorithm| algorithm.name()).collect();
            let (last, others) = names.split_last().unwrap_or((&"", &[]));
            Error::Config(format!("unknown algorithm '{text}'; the algorithms are {} and {last}", others.join(", ")))
                .because(Reason::UnknownName { what: "algorithm", found: text.to_owned() })
        })
    }
}

impl Architecture {
    /// The default architecture of an algorithm for images of `n_channels` channels.
    pub fn of(algorithm: Algorithm, n_channels: usize) -> Self {
        algorithm.architecture(n_channels)
    }

    /// Refuses values that no network can have.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the field, its value and its range;
    /// [`Error::Limit`](crate::Error::Limit) for a network of more than 2^30 parameters, which no model file holds.
    pub fn check(&self) -> Result<()> {
        self.check_config()?;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::networks::StarDistConfig;

    #[test]
    fn a_network_that_no_file_could_hold_is_refused_before_it_is_made() {
        let config = StarDistConfig { n_filter_base: 512, n_depth: 6, ..StarDistConfig::default() };
        assert!(config.check().is_ok(), "each field is within its range");
        let error = Architecture::Stardist(config).check().unwrap_err();
        assert!(error.kind() == ErrorKind::Limit && matches!(error.reason(), Some(Reason::TooLarge { .. })), "{error}");
        assert!(Architecture::of(Algorithm::Cellpose, 3).check().is_ok());
    }

    #[test]
    fn an_algorithm_is_known_by_one_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), *algorithm);
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name(), "in model files");
        }
        let error = "yolo".parse::<Algorithm>().unwrap_err().to_string();
        assert!(
            error.contains("unknown algorithm 'yolo'; the algorithms are stardist, cellpose and elephant"),
            "{error}"
        );
    }
}
