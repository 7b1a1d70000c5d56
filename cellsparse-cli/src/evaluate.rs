//! `cellsparse evaluate`: scores of predicted label images against true ones.

use cellsparse_core::metrics::{Criterion, matching_dataset};
use cellsparse_core::{LabelImage, Result};
use serde_json::json;

use crate::args::{Encoding, EvaluateArgs};
use crate::{input, print_json, print_out, scores, table};

/// Reads the pairs, matches their objects and prints one row for each threshold.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let mut images: Vec<(LabelImage, LabelImage)> = Vec::new();
    for (found, truth) in input::pairs(&args.pred, &args.truth)? {
        let pair = (input::label_image(&truth, Encoding::Signed)?, input::label_image(&found, Encoding::Dense)?);
        if pair.0.dim() != pair.1.dim() {
            return Err(cellsparse_core::Error::file(
                &found,
                format!(
                    "the prediction has {} x {} pixels and its truth {} x {}; both must be of one image",
                    pair.1.nrows(),
                    pair.1.ncols(),
                    pair.0.nrows(),
                    pair.0.ncols()
                ),
            ));
        }
        images.push(pair);
    }
    let pairs: Vec<(&LabelImage, &LabelImage)> = images.iter().map(|(truth, found)| (truth, found)).collect();
    let results = matching_dataset(&pairs, &args.thresholds, Criterion::Iou, false)?;
    if args.json {
        let thresholds = results.iter().map(scores::to_json).collect::<Result<Vec<_>>>()?;
        print_json(&json!({ "images": images.len(), "thresholds": thresholds }));
        return Ok(());
    }
    let header = ["IoU", "true", "found", "tp", "fp", "fn", "precision", "recall", "AP", "F1", "PQ", "mean IoU"];
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|score| {
            let mut row = vec![score.thresh.to_string()];
            row.extend([score.n_true, score.n_pred, score.tp, score.fp, score.fn_].map(|count| count.to_string()));
            let values = [
                score.precision,
                score.recall,
                score.accuracy,
                score.f1,
                score.panoptic_quality,
                score.mean_matched_score,
            ];
            row.extend(values.map(|value| format!("{value:.3}")));
            row
        })
        .collect();
    print_out(&format!("{} images, all objects counted together", images.len()));
    print_out(&table::render(&header, &rows));
    Ok(())
}
