//! Scores of a segmentation against the truth.

mod assignment;
mod matching;
mod overlaps;

pub use self::matching::{Criterion, Match, Matching, matching, matching_dataset};
#[cfg(feature = "models")]
pub(crate) use self::overlaps::pair_runs;
