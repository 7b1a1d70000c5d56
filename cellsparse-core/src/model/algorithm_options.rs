//! The options of prediction that belong to one algorithm.

use super::options::PredictOptions;
use super::registry::{Algorithm, AlgorithmOptions};
use crate::error::{Error, Reason, Result};

impl AlgorithmOptions {
    /// The names of the options that an algorithm has, as the fields of [`PredictOptions`].
    pub fn names(algorithm: Algorithm) -> &'static [&'static str] {
        algorithm.facts().options
    }
}

impl PredictOptions {
    /// Those among these options that belong to `algorithm`.
    ///
    /// # Errors
    /// [`Error::Config`] with [`Reason::OptionOfAnother`] when one is given that the algorithm does not have.
    pub fn of(&self, algorithm: Algorithm) -> Result<AlgorithmOptions> {
        let known = AlgorithmOptions::names(algorithm);
        match self.given().find(|name| !known.contains(name)) {
            Some(option) => Err(misplaced(option, algorithm)),
            None => Ok(algorithm.options(self)),
        }
    }

    /// The options of single algorithms that are given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let options = [
            ("prob_thresh", self.prob_thresh.is_some()),
            ("nms_thresh", self.nms_thresh.is_some()),
            ("flow_threshold", self.flow_threshold.is_some()),
            ("cellprob_threshold", self.cellprob_threshold.is_some()),
            ("diameter", self.diameter.is_some()),
            ("augment", self.augment),
            ("postprocess", self.postprocess.is_some()),
        ];
        options.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name)
    }
}

fn misplaced(option: &'static str, algorithm: Algorithm) -> Error {
    let known = AlgorithmOptions::names(algorithm);
    Error::Config(format!(
        "{option} is not an option of {algorithm}, which is the algorithm of this model; its options are {}",
        known.join(", ")
    ))
    .because(Reason::OptionOfAnother { option, algorithm: algorithm.name(), known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CellposeOptions, ElephantOptions, Postprocess, StarDistOptions};

    #[test]
    fn options_survive_the_way_there_and_back() {
        let all: [AlgorithmOptions; 3] = [
            StarDistOptions { prob_thresh: Some(0.5), nms_thresh: Some(0.25) }.into(),
            CellposeOptions {
                flow_threshold: Some(0.5),
                cellprob_threshold: Some(-1.0),
                diameter: Some(9.0),
                augment: true,
            }
            .into(),
            ElephantOptions { prob_thresh: Some(0.5), postprocess: Some(Postprocess::Ellipse) }.into(),
        ];
        for options in all {
            let algorithm = options.algorithm();
            assert_eq!(PredictOptions::from(options).of(algorithm).unwrap(), options);
            assert!(PredictOptions::default().of(algorithm).is_ok());
            for other in all.iter().map(AlgorithmOptions::algorithm).filter(|other| *other != algorithm) {
                let error = PredictOptions::from(options).of(other).unwrap_err();
                let Some(Reason::OptionOfAnother { option, known, .. }) = error.reason() else { panic!("{error}") };
                assert!(AlgorithmOptions::names(algorithm).contains(option) && !known.contains(option), "{error}");
            }
        }
    }
}
