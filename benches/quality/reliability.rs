//! How often objects of a probability are right.

use std::collections::BTreeSet;

use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::model::Segmentation;
use cellsparse_core::raster::LabelImage;

use super::Outcome;

/// Objects and right ones among them (IoU of at least 0.5 with a true one), by tenths of the probability.
#[derive(Default)]
pub struct Reliability {
    bins: [Bin; 10],
}

#[derive(Default, Clone, Copy)]
struct Bin {
    objects: usize,
    right: usize,
    sum: f64,
}

impl Reliability {
    /// Counts the objects of one image.
    pub fn add(&mut self, truth: &LabelImage, found: &Segmentation) -> Outcome<()> {
        let matches = matching(truth, &found.labels, 0.5, Criterion::Iou, true)?.matches.unwrap_or_default();
        let right: BTreeSet<i32> =
            matches.iter().filter(|pair| pair.is_true_positive).map(|pair| pair.pred_id).collect();
        for object in &found.objects {
            let probability = f64::from(object.probability);
            let bin = &mut self.bins[((probability * 10.0) as usize).min(9)];
            bin.objects += 1;
            bin.right += usize::from(right.contains(&object.id));
            bin.sum += probability;
        }
        Ok(())
    }

    /// Prints a line for each tenth that has objects, and the mean distance of probability and share, weighted by the objects.
    pub fn print(&self) {
        let mut off = 0.0;
        let total: usize = self.bins.iter().map(|bin| bin.objects).sum();
        for bin in self.bins.iter().filter(|bin| bin.objects > 0) {
            let [mean, share] = [bin.sum, bin.right as f64].map(|sum| sum / bin.objects as f64);
            println!("probability {mean:.2}: {} objects, {share:.2} right", bin.objects);
            off += (mean - share).abs() * bin.objects as f64 / total as f64;
        }
        println!("expected calibration error {off:.3}");
    }
}
