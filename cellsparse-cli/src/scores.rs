//! Scores of several images: each one, their mean, and all objects together.

use cellsparse_core::metrics::{Criterion, Matching, matching, matching_dataset};
use cellsparse_core::{LabelImage, Result};
use serde_json::{Value, json};

use crate::table;

/// Intersection over union at which the demo scores.
pub const DEMO_THRESHOLD: f64 = 0.5;

/// The scores of a set of images at one threshold.
pub struct Scores {
    /// Name and score of each image.
    pub images: Vec<(String, Matching)>,
    /// The mean over the images.
    pub mean: Matching,
    /// All objects of all images counted together.
    pub together: Matching,
}

impl Scores {
    /// Scores pairs of true and predicted label images. `None` without any pair.
    pub fn new(names: &[String], pairs: &[(&LabelImage, &LabelImage)], threshold: f64) -> Result<Option<Self>> {
        let dataset = |by_image| -> Result<Option<Matching>> {
            let scores = matching_dataset(pairs, &[threshold], Criterion::Iou, by_image)?;
            Ok(scores.into_iter().next())
        };
        let (Some(mean), Some(together)) = (dataset(true)?, dataset(false)?) else { return Ok(None) };
        if pairs.is_empty() {
            return Ok(None);
        }
        let images = names
            .iter()
            .zip(pairs)
            .map(|(name, (truth, found))| Ok((name.clone(), matching(truth, found, threshold, Criterion::Iou, false)?)))
            .collect::<Result<_>>()?;
        Ok(Some(Self { images, mean, together }))
    }

    /// Rows for people: image, true, found, right, AP, F1, PQ; the mean is the last.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = self.images.iter().map(|(name, score)| row(name, score)).collect();
        let mut mean = row("mean", &self.mean);
        let count = self.images.len().max(1) as f64;
        for (cell, sum) in mean[1..4].iter_mut().zip([self.mean.n_true, self.mean.n_pred, self.mean.tp]) {
            *cell = format!("{:.1}", sum as f64 / count);
        }
        rows.push(mean);
        rows
    }

    /// The rows as a text table.
    pub fn table(&self) -> String {
        table::render(&HEADER, &self.rows())
    }

    /// The scores with the field names of `matching_dataset`.
    pub fn json(&self) -> Result<Value> {
        let images = self
            .images
            .iter()
            .map(|(name, score)| {
                let mut value = to_json(score)?;
                if let Value::Object(fields) = &mut value {
                    fields.insert("image".to_owned(), json!(name));
                }
                Ok(value)
            })
            .collect::<Result<Vec<Value>>>()?;
        Ok(json!({ "images": images, "mean": to_json(&self.mean)?, "all": to_json(&self.together)? }))
    }
}

/// Column titles of [`Scores::rows`].
pub const HEADER: [&str; 7] = ["image", "true", "found", "right", "AP", "F1", "PQ"];

fn row(name: &str, score: &Matching) -> Vec<String> {
    let mut cells = vec![name.to_owned()];
    cells.extend([score.n_true, score.n_pred, score.tp].map(|count| count.to_string()));
    cells.extend([score.accuracy, score.f1, score.panoptic_quality].map(|value| format!("{value:.3}")));
    cells
}

/// A score as JSON.
pub fn to_json(score: &Matching) -> Result<Value> {
    serde_json::to_value(score)
        .map_err(|error| cellsparse_core::Error::Internal(format!("scores could not be written as JSON: {error}")))
}
