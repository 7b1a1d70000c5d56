//! The weights before and after a training, compared on what was drawn: the better ones are kept.

use super::drawn::Drawn;
use super::facade::Model;
use super::options::PredictOptions;
use super::recipe::Begin;
use super::work::Work;
use crate::error::Result;
use crate::metrics::{Criterion, matching_dataset};

/// By how much the mean overlap with the drawn cells must grow for a training of a trained model to be kept when both find the
/// same cells: that the cells which were trained on fit better is to be expected.
const MORE: f64 = 0.15;

/// By how much starting weights must be more accurate on a few drawn cells to be kept, at most.
const CHANCE: f64 = 0.75;

/// By how much the mean overlap with the drawn cells may fall in one of many short trainings: less is a matter of chance, and the
/// next one makes up for it.
const SLACK: f64 = 0.02;

/// How well some weights segment what was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Score {
    /// `tp / (tp + fp + fn)` at an intersection over union of 0.5; only what lies on labelled pixels counts.
    pub accuracy: f64,
    /// Mean intersection over union of the cells that were found.
    pub overlap: f64,
    /// Cells that were drawn.
    pub cells: usize,
}

impl Score {
    /// Whether these weights are kept instead of those that a training ended with.
    pub fn beats(&self, trained: &Self, begin: Begin) -> bool {
        let lead = if begin == Begin::Starter { self.chance() } else { 0.0 };
        if self.accuracy != trained.accuracy {
            return self.accuracy > trained.accuracy + lead;
        }
        if begin == Begin::Round {
            return self.overlap > trained.overlap + SLACK;
        }
        // Starting weights have never seen such cells; they were drawn to be learned.
        begin == Begin::Trained && self.accuracy > 0.0 && trained.overlap < self.overlap + MORE
    }

    /// What two touching cells that are found as one cost of a perfect accuracy: two cells less and an object too many. Of a
    /// handful of cells, that is a matter of chance.
    fn chance(&self) -> f64 {
        (3.0 / (self.cells as f64 + 1.0)).min(CHANCE)
    }
}

impl Model {
    /// How well the model segments what was drawn.
    pub(super) fn score(&self, drawn: &Drawn, work: &Work<'_>, predict: &PredictOptions) -> Result<Score> {
        let mut found = Vec::new();
        for (image, labels) in drawn.parts() {
            found.push((labels, self.segment_on(work, image, predict)?.labels));
        }
        let pairs: Vec<_> = found.iter().map(|(labels, found)| (*labels, found)).collect();
        let scores = matching_dataset(&pairs, &[0.5], Criterion::Iou, false)?;
        Ok(scores.first().map_or(Score::default(), |score| Score {
            accuracy: score.accuracy,
            overlap: score.mean_matched_score,
            cells: score.n_true,
        }))
    }

    /// Lowers the thresholds of a model that finds none of the drawn cells until it does; if no threshold does, they stay.
    pub(super) fn lower_thresholds(&mut self, drawn: &Drawn, work: &Work<'_>) -> Result<Option<Score>> {
        for options in self.thresholds.values().lower() {
            let score = self.score(drawn, work, &options)?;
            if score.accuracy > 0.0 {
                self.thresholds = self.thresholds.with(&options)?;
                return Ok(Some(score));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_weights_give_way_and_trained_models_only_to_better_ones() {
        let score = |accuracy, overlap| Score { accuracy, overlap, cells: 8 };
        for begin in [Begin::Starter, Begin::Trained] {
            assert!(score(0.95, 0.7).beats(&score(0.6, 0.9), begin));
            assert_eq!(score(0.8, 0.7).beats(&score(0.7, 0.9), begin), begin == Begin::Trained);
            assert!(!score(0.7, 0.9).beats(&score(0.8, 0.7), begin));
            assert!(!score(0.0, 0.0).beats(&score(0.0, 0.0), begin));
        }
        let (start, trained) = (score(1.0, 0.8), score(1.0, 0.9));
        assert!(start.beats(&trained, Begin::Trained) && !start.beats(&trained, Begin::Starter));
        for (before, kept) in [(score(1.0, 0.8), false), (score(1.0, 0.95), true), (score(0.9, 1.0), false)] {
            assert_eq!(
                before.beats(&trained, Begin::Round),
                kept,
                "a round is kept unless it is clearly worse: {before:?}"
            );
        }
        assert!(!score(1.0, 0.6).beats(&score(1.0, 0.8), Begin::Trained));
    }

    #[test]
    fn two_touching_cells_found_as_one_do_not_bring_starting_weights_back() {
        for cells in [1, 2, 4, 6, 20] {
            let score = |accuracy| Score { accuracy, overlap: 0.8, cells };
            let merged = (cells as f64 - 2.0).max(0.0) / (cells as f64 + 1.0);
            if cells > 2 {
                assert!(!score(1.0).beats(&score(merged), Begin::Starter), "{cells} cells");
                assert!(score(1.0).beats(&score(merged - 0.1), Begin::Starter), "{cells} cells");
            }
            assert!(score(1.0).beats(&score(0.0), Begin::Starter), "{cells} cells");
        }
    }
}
