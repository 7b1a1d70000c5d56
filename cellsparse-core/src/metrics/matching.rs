//! Agreement of predicted objects with true ones, object by object.

use super::assignment::{Pair, assign};
use super::overlaps::Overlaps;
use crate::error::{Error, Result};
use crate::raster::LabelImage;

/// How the overlap of a true and a predicted object is scored from their pixel sets; always in 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Criterion {
    /// Intersection over union.
    #[default]
    Iou,
    /// Intersection over the true object.
    Iot,
    /// Intersection over the predicted object.
    Iop,
}

/// Counts and scores at one threshold, with the field names of `stardist.matching`.
///
/// A true positive is a pair of a true and a predicted object, each used once, whose score reaches the threshold.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Matching {
    /// How overlaps are scored.
    pub criterion: Criterion,
    /// Agreement from which a pair counts as matched (inclusive).
    pub thresh: f64,
    /// Predicted objects without a partner.
    pub fp: usize,
    /// Matched pairs.
    pub tp: usize,
    /// True objects without a partner.
    #[cfg_attr(feature = "serde", serde(rename = "fn"))]
    pub fn_: usize,
    /// `tp / (tp + fp)`, 0 without true positives, as the next three.
    pub precision: f64,
    /// `tp / (tp + fn)`.
    pub recall: f64,
    /// `tp / (tp + fp + fn)`.
    pub accuracy: f64,
    /// `2 tp / (2 tp + fp + fn)`.
    pub f1: f64,
    /// Number of true objects.
    pub n_true: usize,
    /// Number of predicted objects.
    pub n_pred: usize,
    /// Sum of the scores of the matched pairs over `n_true`.
    pub mean_true_score: f64,
    /// Sum of the scores of the matched pairs over `tp`.
    pub mean_matched_score: f64,
    /// Sum of the scores of the matched pairs over `tp + fp / 2 + fn / 2`.
    pub panoptic_quality: f64,
    /// For several images: whether the scores are means of the images' scores instead of scores of the summed counts.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub by_image: Option<bool>,
    /// The assigned pairs, if they were asked for.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub matches: Option<Vec<Match>>,
}

/// A true and a predicted object that were assigned to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Match {
    /// Id in the true label image.
    pub true_id: i32,
    /// Id in the predicted label image.
    pub pred_id: i32,
    /// Their score.
    pub score: f32,
    /// Whether the score reaches the threshold.
    pub is_true_positive: bool,
}

/// Compares two label images object by object, with the assignment that is best overall.
///
/// Pixels below 0 in `y_true` (unlabelled) are left out of both images first. Pairs are assigned so that as many as
/// possible reach `thresh`, and among such assignments the sum of scores is largest. `report_matches` adds the
/// assigned pairs that share pixels, those below the threshold included.
///
/// # Errors
/// [`Error::Labels`] if the sizes differ or `y_pred` has a pixel below 0; [`Error::Config`] if `thresh` is not a number.
pub fn matching(
    y_true: &LabelImage,
    y_pred: &LabelImage,
    thresh: f64,
    criterion: Criterion,
    report_matches: bool,
) -> Result<Matching> {
    check_threshold(thresh)?;
    let overlaps = Overlaps::new(y_true, y_pred)?;
    let scored = overlaps.scores(criterion);
    Ok(Tally::new(&overlaps, &scored, thresh, report_matches).matching(criterion, thresh))
}

/// Compares many pairs of `(y_true, y_pred)` at several thresholds; one result per threshold, in their order.
///
/// Counts are summed over the images. The scores are those of the summed counts, or with `by_image` the means of the
/// scores of the images.
///
/// # Errors
/// As of [`matching`]; the message names the pair by its place in the list.
pub fn matching_dataset(
    pairs: &[(&LabelImage, &LabelImage)],
    thresholds: &[f64],
    criterion: Criterion,
    by_image: bool,
) -> Result<Vec<Matching>> {
    thresholds.iter().try_for_each(|&thresh| check_threshold(thresh))?;
    let mut tallies = vec![Tally::default(); thresholds.len()];
    let mut means = vec![[0.0; SCORES]; thresholds.len()];
    for (place, (y_true, y_pred)) in pairs.iter().enumerate() {
        let overlaps = Overlaps::new(y_true, y_pred).map_err(|error| match error {
            Error::Labels(reason) => Error::Labels(format!("pair {place}: {reason}")),
            other => other,
        })?;
        let scored = overlaps.scores(criterion);
        for (k, &thresh) in thresholds.iter().enumerate() {
            let one = Tally::new(&overlaps, &scored, thresh, false);
            for (mean, score) in means[k].iter_mut().zip(one.scores()) {
                *mean += score / pairs.len() as f64;
            }
            tallies[k].add(&one);
        }
    }
    let results = thresholds.iter().zip(&tallies).zip(&means).map(|((&thresh, tally), means)| {
        let scores = if by_image { *means } else { tally.scores() };
        Matching { by_image: Some(by_image), ..tally.with_scores(criterion, thresh, scores) }
    });
    Ok(results.collect())
}

fn check_threshold(thresh: f64) -> Result<()> {
    if thresh.is_nan() {
        return Err(Error::Config("the matching threshold is not a number; give a value between 0 and 1".into()));
    }
    Ok(())
}

/// Number of score fields.
const SCORES: usize = 7;

/// What the scores are computed from.
#[derive(Debug, Clone, Default)]
struct Tally {
    tp: usize,
    n_true: usize,
    n_pred: usize,
    /// Sum of the scores of the true positives.
    score_sum: f64,
    matches: Option<Vec<Match>>,
}

impl Tally {
    fn new(overlaps: &Overlaps, scored: &[Pair], thresh: f64, report: bool) -> Self {
        let (n_true, n_pred) = (overlaps.true_ids.len(), overlaps.pred_ids.len());
        let assigned = assign(scored, n_true, n_pred, thresh);
        // Scores are single precision, so the threshold is, too: 7 of 10 pixels reach 0.7.
        let reaches = |pair: &&Pair| pair.score >= thresh as f32;
        let reached: Vec<&Pair> = assigned.iter().filter(reaches).collect();
        let matches = report.then(|| {
            let describe = |pair: &Pair| Match {
                true_id: overlaps.true_ids[pair.row],
                pred_id: overlaps.pred_ids[pair.column],
                score: pair.score,
                is_true_positive: reaches(&pair),
            };
            assigned.iter().map(describe).collect()
        });
        // Not `sum`, which gives -0 for nothing.
        let score_sum = reached.iter().fold(0.0, |sum, pair| sum + f64::from(pair.score));
        // A threshold of 0 is reached even by objects that share nothing.
        let tp = if thresh as f32 <= 0.0 { n_true.min(n_pred) } else { reached.len() };
        Self { tp, n_true, n_pred, score_sum, matches }
    }

    fn add(&mut self, other: &Self) {
        self.tp += other.tp;
        self.n_true += other.n_true;
        self.n_pred += other.n_pred;
        self.score_sum += other.score_sum;
    }

    /// precision, recall, accuracy, f1, mean_true_score, mean_matched_score, panoptic_quality.
    fn scores(&self) -> [f64; SCORES] {
        let (tp, n_true, n_pred) = (self.tp as f64, self.n_true as f64, self.n_pred as f64);
        let ratio = |numerator: f64, divisor: f64| if divisor > 0.0 { numerator / divisor } else { 0.0 };
        [
            ratio(tp, n_pred),
            ratio(tp, n_true),
            ratio(tp, n_true + n_pred - tp),
            ratio(2.0 * tp, n_true + n_pred),
            ratio(self.score_sum, n_true),
            ratio(self.score_sum, tp),
            ratio(self.score_sum, (n_true + n_pred) / 2.0),
        ]
    }

    fn matching(self, criterion: Criterion, thresh: f64) -> Matching {
        self.with_scores(criterion, thresh, self.scores())
    }

    fn with_scores(&self, criterion: Criterion, thresh: f64, scores: [f64; SCORES]) -> Matching {
        let [precision, recall, accuracy, f1, mean_true_score, mean_matched_score, panoptic_quality] = scores;
        Matching {
            criterion,
            thresh,
            fp: self.n_pred - self.tp,
            tp: self.tp,
            fn_: self.n_true - self.tp,
            precision,
            recall,
            accuracy,
            f1,
            n_true: self.n_true,
            n_pred: self.n_pred,
            mean_true_score,
            mean_matched_score,
            panoptic_quality,
            by_image: None,
            matches: self.matches.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn unlabelled_pixels_do_not_count() {
        let y_true = array![[1, 1, -1, -1], [0, 0, -1, -1]];
        let y_pred = array![[5, 5, 5, 5], [0, 0, 9, 9]];
        let result = matching(&y_true, &y_pred, 0.5, Criterion::Iou, true).unwrap();
        assert_eq!((result.tp, result.fp, result.fn_), (1, 0, 0));
        assert_eq!(result.mean_matched_score, 1.0);
        let pair = result.matches.unwrap()[0];
        assert_eq!((pair.true_id, pair.pred_id, pair.is_true_positive), (1, 5, true));
    }

    #[test]
    fn empty_images_have_zero_scores() {
        let empty = Array2::zeros((3, 3));
        let result = matching(&empty, &empty, 0.5, Criterion::Iou, false).unwrap();
        assert_eq!((result.tp, result.fp, result.fn_, result.n_true), (0, 0, 0, 0));
        assert_eq!((result.precision, result.panoptic_quality), (0.0, 0.0));
        assert!(matching_dataset(&[], &[0.5], Criterion::Iou, true).unwrap()[0].accuracy == 0.0);
        // Objects that do not meet have a score of 0, which is written without a sign.
        let wrong = matching(&array![[1, 0]], &array![[0, 1]], 0.5, Criterion::Iou, false).unwrap();
        assert_eq!(format!("{:.3} {:.3}", wrong.panoptic_quality, wrong.mean_true_score), "0.000 0.000");
    }

    #[test]
    fn wrong_input_is_refused() {
        let (small, large) = (Array2::zeros((3, 3)), Array2::zeros((3, 4)));
        let message = matching(&small, &large, 0.5, Criterion::Iou, false).unwrap_err().to_string();
        assert!(message.contains("3 x 3") && message.contains("3 x 4"), "{message}");
        let negative = Array2::from_elem((3, 3), -1);
        assert!(matching(&small, &negative, 0.5, Criterion::Iou, false).is_err());
        assert!(matching(&small, &small, f64::NAN, Criterion::Iou, false).is_err());
        let message = matching_dataset(&[(&small, &small), (&small, &large)], &[0.5], Criterion::Iou, false);
        assert!(message.unwrap_err().to_string().contains("pair 1"));
    }

    #[test]
    fn the_fields_have_their_reference_names() {
        let label = array![[1, 0]];
        let text = serde_json::to_value(matching(&label, &label, 0.5, Criterion::Iou, false).unwrap()).unwrap();
        assert_eq!(text["fn"], 0);
        assert_eq!(text["criterion"], "iou");
        assert_eq!(text["panoptic_quality"], 1.0);
    }
}
