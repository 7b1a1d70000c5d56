//! Agreement of predicted objects with true ones.

use std::mem::MaybeUninit;

use cellsparse_core::metrics::{Criterion, Matching, matching, matching_dataset};
use cellsparse_core::{Error, LabelImage};

use crate::boundary::enter;
use crate::pointers::{array, copy_out, expect, given, put};
use crate::status::{Failure, Outcome, cellsparse_status};
use crate::views::cellsparse_labels;

/// Counts and scores at one threshold, the fields of stardist.matching.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct cellsparse_scores {
    /// Intersection over union from which a pair counts as matched (inclusive).
    pub thresh: f64,
    /// Predicted objects without a partner.
    pub fp: u64,
    /// Matched pairs.
    pub tp: u64,
    /// True objects without a partner.
    pub r#fn: u64,
    /// tp / (tp + fp); 0 without true positives, as the next three.
    pub precision: f64,
    /// tp / (tp + fn).
    pub recall: f64,
    /// tp / (tp + fp + fn).
    pub accuracy: f64,
    /// 2 tp / (2 tp + fp + fn).
    pub f1: f64,
    /// Number of true objects.
    pub n_true: u64,
    /// Number of predicted objects.
    pub n_pred: u64,
    /// Sum of the scores of the matched pairs over n_true.
    pub mean_true_score: f64,
    /// Sum of the scores of the matched pairs over tp.
    pub mean_matched_score: f64,
    /// Sum of the scores of the matched pairs over tp + fp / 2 + fn / 2.
    pub panoptic_quality: f64,
}

impl From<Matching> for cellsparse_scores {
    fn from(scores: Matching) -> Self {
        Self {
            thresh: scores.thresh,
            fp: scores.fp as u64,
            tp: scores.tp as u64,
            r#fn: scores.fn_ as u64,
            precision: scores.precision,
            recall: scores.recall,
            accuracy: scores.accuracy,
            f1: scores.f1,
            n_true: scores.n_true as u64,
            n_pred: scores.n_pred as u64,
            mean_true_score: scores.mean_true_score,
            mean_matched_score: scores.mean_matched_score,
            panoptic_quality: scores.panoptic_quality,
        }
    }
}

/// Compares a true and a predicted label image object by object, by intersection over union at `thresh`, usually 0.5.
/// Unlabelled pixels of the truth do not count. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_matching(
    truth: Option<&cellsparse_labels>,
    predicted: Option<&cellsparse_labels>,
    thresh: f64,
    scores_out: Option<&mut MaybeUninit<cellsparse_scores>>,
) -> cellsparse_status {
    enter(|| {
        expect(&scores_out, "scores_out")?;
        // SAFETY: the caller's promise about the buffers of the labels.
        let truth = unsafe { given(truth, "truth")?.to_label_image() }?;
        // SAFETY: the caller's promise about the buffers of the labels.
        let predicted = unsafe { given(predicted, "predicted")?.to_label_image() }?;
        let scores = matching(&truth, &predicted, thresh, Criterion::Iou, false)?;
        put(scores_out, scores.into(), "scores_out")
    })
}

/// Compares `n_images` pairs of label images at `n_thresholds` thresholds and writes as many scores. Counts are summed over
/// the images; the scores are those of the sums, or with `by_image` other than 0 the means of the images' scores. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_matching_dataset(
    truths: *const cellsparse_labels,
    predictions: *const cellsparse_labels,
    n_images: usize,
    thresholds: *const f64,
    n_thresholds: usize,
    by_image: i32,
    scores_out: *mut cellsparse_scores,
) -> cellsparse_status {
    enter(|| {
        if scores_out.is_null() {
            return Err(Failure::null("scores_out"));
        }
        // SAFETY: the caller's promise about its arrays and the buffers of the labels.
        let (truths, predictions) =
            unsafe { (read_all(truths, n_images, "truths")?, read_all(predictions, n_images, "predictions")?) };
        // SAFETY: the caller's promise about its arrays.
        let thresholds = unsafe { array(thresholds, n_thresholds, "thresholds") }?;
        if truths.is_empty() {
            return Err(Error::Labels("there is no pair of label images to compare".into()).into());
        }
        let pairs: Vec<(&LabelImage, &LabelImage)> = truths.iter().zip(&predictions).collect();
        let scores = matching_dataset(&pairs, thresholds, Criterion::Iou, by_image != 0)?;
        let scores: Vec<cellsparse_scores> = scores.into_iter().map(Into::into).collect();
        // SAFETY: the caller's promise about `scores_out` and `n_thresholds`.
        unsafe { copy_out(&scores, scores_out, n_thresholds, "scores_out") }
    })
}

/// # Safety
/// `labels` is NULL or points to `count` label images whose buffers are as large as they say.
unsafe fn read_all(labels: *const cellsparse_labels, count: usize, name: &str) -> Outcome<Vec<LabelImage>> {
    // SAFETY: as this function's own contract.
    let labels = unsafe { array(labels, count, name) }?;
    // SAFETY: as this function's own contract.
    labels.iter().map(|one| unsafe { one.to_label_image() }).collect()
}
