//! `cellsparse evaluate`: scores of predicted label images against true ones.

use std::path::Path;

use cellsparse_core::error::counted;
use cellsparse_core::metrics::{Criterion, matching_dataset};
use cellsparse_core::{Error, LabelImage};
use serde_json::json;

use crate::args::{Encoding, EvaluateArgs};
use crate::batch::Failures;
use crate::{input, note, print_json, print_out, scores, table};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Reads the pairs, matches their objects and prints one row for each threshold.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let mut images: Vec<(LabelImage, LabelImage)> = Vec::new();
    let mut failures = Failures::default();
    let files = input::result_pairs(&args.pred, &args.truth)?;
    for (found, truth) in &files {
        match read_pair(found, truth) {
            Ok(pair) => images.push(pair),
            Err((file, error)) => {
                failures.add(file, error)?;
                if files.len() > 1 {
                    note(&format!("{}  failed: {}", file.display(), failures.last().unwrap_or_default()));
                }
            }
        }
    }
    if !images.is_empty() {
        report(args, &images, &failures)?;
    } else if args.json {
        print_json(&json!({ "images": 0, "thresholds": [], "failed": failures.json("file") }));
    }
    failures.finish(files.len(), "pairs of label images")
}

/// The true and the predicted label image of a pair, or the file that cannot be used.
fn read_pair<'a>(found: &'a Path, truth: &'a Path) -> Result<(LabelImage, LabelImage), (&'a Path, Error)> {
    let read = |path: &'a Path, encoding| input::label_image(path, encoding).map_err(|error| (path, error));
    let pair = (read(truth, Encoding::Signed)?, read(found, Encoding::Dense)?);
    if pair.0.dim() != pair.1.dim() {
        let reason = format!(
            "the prediction has {} x {} pixels and its truth {} x {}; both must be of one image",
            pair.1.nrows(),
            pair.1.ncols(),
            pair.0.nrows(),
            pair.0.ncols()
        );
        return Err((found, Error::file(found, reason)));
    }
    Ok(pair)
}

/// Prints the scores.
fn report(args: &EvaluateArgs, images: &[(LabelImage, LabelImage)], failures: &Failures) -> Result<()> {
    let pairs: Vec<(&LabelImage, &LabelImage)> = images.iter().map(|(truth, found)| (truth, found)).collect();
    let results = matching_dataset(&pairs, &args.thresholds, Criterion::Iou, false)?;
    if args.json {
        let thresholds = results.iter().map(scores::to_json).collect::<Result<Vec<_>>>()?;
        let failed = failures.json("file");
        print_json(&json!({ "images": images.len(), "thresholds": thresholds, "failed": failed }));
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
    print_out(&format!("{}, all objects counted together", counted(images.len(), "image")));
    print_out(&table::render(&header, &rows));
    Ok(())
}
