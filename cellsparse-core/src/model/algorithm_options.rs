//! The options of prediction that belong to one algorithm, typed.

use super::{Algorithm, Postprocess, PredictOptions};
use crate::error::{Error, Reason, Result};

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
    /// Of StarDist.
    Stardist(StarDistOptions),
    /// Of Cellpose.
    Cellpose(CellposeOptions),
    /// Of ELEPHANT.
    Elephant(ElephantOptions),
}

/// The options of prediction of StarDist.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StarDistOptions {
    /// Smallest object probability of a candidate, in `(0, 1)`.
    pub prob_thresh: Option<f32>,
    /// Largest overlap that two objects may keep, in `[0, 1]`.
    pub nms_thresh: Option<f32>,
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

/// The options of prediction of ELEPHANT.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ElephantOptions {
    /// Smallest centre probability of a seed, in `(0, 1)`.
    pub prob_thresh: Option<f32>,
    /// How probabilities become cells; `None` means [`Postprocess::Watershed`].
    pub postprocess: Option<Postprocess>,
}

impl AlgorithmOptions {
    /// The algorithm that they belong to.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Stardist(_) => Algorithm::Stardist,
            Self::Cellpose(_) => Algorithm::Cellpose,
            Self::Elephant(_) => Algorithm::Elephant,
        }
    }

    /// The names of the options that an algorithm has, as the fields of [`PredictOptions`].
    pub fn names(algorithm: Algorithm) -> &'static [&'static str] {
        match algorithm {
            Algorithm::Stardist => &["prob_thresh", "nms_thresh"],
            Algorithm::Cellpose => &["flow_threshold", "cellprob_threshold", "diameter", "augment"],
            Algorithm::Elephant => &["prob_thresh", "postprocess"],
        }
    }
}

impl From<StarDistOptions> for AlgorithmOptions {
    fn from(options: StarDistOptions) -> Self {
        Self::Stardist(options)
    }
}

impl From<CellposeOptions> for AlgorithmOptions {
    fn from(options: CellposeOptions) -> Self {
        Self::Cellpose(options)
    }
}

impl From<ElephantOptions> for AlgorithmOptions {
    fn from(options: ElephantOptions) -> Self {
        Self::Elephant(options)
    }
}

impl From<AlgorithmOptions> for PredictOptions {
    fn from(options: AlgorithmOptions) -> Self {
        match options {
            AlgorithmOptions::Stardist(options) => options.into(),
            AlgorithmOptions::Cellpose(options) => options.into(),
            AlgorithmOptions::Elephant(options) => options.into(),
        }
    }
}

impl From<StarDistOptions> for PredictOptions {
    fn from(StarDistOptions { prob_thresh, nms_thresh }: StarDistOptions) -> Self {
        Self { prob_thresh, nms_thresh, ..Self::default() }
    }
}

impl From<CellposeOptions> for PredictOptions {
    fn from(options: CellposeOptions) -> Self {
        let CellposeOptions { flow_threshold, cellprob_threshold, diameter, augment } = options;
        Self { flow_threshold, cellprob_threshold, diameter, augment, ..Self::default() }
    }
}

impl From<ElephantOptions> for PredictOptions {
    fn from(ElephantOptions { prob_thresh, postprocess }: ElephantOptions) -> Self {
        Self { prob_thresh, postprocess, ..Self::default() }
    }
}

impl PredictOptions {
    /// Those among these options that belong to `algorithm`.
    ///
    /// # Errors
    /// [`Error::Config`] with [`Reason::OptionOfAnother`] when one is given that the algorithm does not have.
    pub fn of(&self, algorithm: Algorithm) -> Result<AlgorithmOptions> {
        // What the algorithm has is taken; what is left over is an option of another one.
        let Self { mut prob_thresh, mut nms_thresh, mut flow_threshold, .. } = *self;
        let Self { mut cellprob_threshold, mut diameter, mut augment, mut postprocess, .. } = *self;
        let taken = match algorithm {
            Algorithm::Stardist => {
                StarDistOptions { prob_thresh: prob_thresh.take(), nms_thresh: nms_thresh.take() }.into()
            }
            Algorithm::Cellpose => CellposeOptions {
                flow_threshold: flow_threshold.take(),
                cellprob_threshold: cellprob_threshold.take(),
                diameter: diameter.take(),
                augment: std::mem::take(&mut augment),
            }
            .into(),
            Algorithm::Elephant => {
                ElephantOptions { prob_thresh: prob_thresh.take(), postprocess: postprocess.take() }.into()
            }
        };
        let left = [
            ("prob_thresh", prob_thresh.is_some()),
            ("nms_thresh", nms_thresh.is_some()),
            ("flow_threshold", flow_threshold.is_some()),
            ("cellprob_threshold", cellprob_threshold.is_some()),
            ("diameter", diameter.is_some()),
            ("augment", augment),
            ("postprocess", postprocess.is_some()),
        ];
        match left.into_iter().find(|(_, is_left)| *is_left) {
            Some((option, _)) => Err(misplaced(option, algorithm)),
            None => Ok(taken),
        }
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
