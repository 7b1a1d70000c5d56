//! How often objects of a probability are right.

use std::collections::BTreeSet;
use std::fmt::Write as _;

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

    /// A picture: the share of right objects against their probability, a disc for each tenth, as large as it has objects.
    pub fn picture(&self) -> String {
        const SIDE: f64 = 280.0;
        const MARGIN: f64 = 44.0;
        let all = SIDE + 2.0 * MARGIN;
        let place = |x: f64, y: f64| (MARGIN + x * SIDE, MARGIN + (1.0 - y) * SIDE);
        let most = self.bins.iter().map(|bin| bin.objects).max().unwrap_or(1).max(1) as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {all} {all}\" font-family=\"sans-serif\" \
             font-size=\"11\">\n<rect width=\"{all}\" height=\"{all}\" fill=\"white\"/>\n"
        );
        for fifth in 0..=5 {
            let value = f64::from(fifth) / 5.0;
            let ((x, low), (left, y)) = (place(value, 0.0), place(0.0, value));
            let (top, right) = (place(0.0, 1.0).1, place(1.0, 0.0).0);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {low:.1}V{top:.1}M{left:.1} {y:.1}H{right:.1}\" stroke=\"#e2e6eb\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.1}</text>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
                low + 15.0,
                left - 6.0,
                y + 4.0
            );
        }
        let ((x, y), (to_x, to_y)) = (place(0.0, 0.0), place(1.0, 1.0));
        let _ =
            writeln!(svg, "<path d=\"M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}\" stroke=\"#475569\" stroke-dasharray=\"4\"/>");
        for bin in self.bins.iter().filter(|bin| bin.objects > 0) {
            let (x, y) = place(bin.sum / bin.objects as f64, bin.right as f64 / bin.objects as f64);
            let radius = 2.0 + 12.0 * (bin.objects as f64 / most).sqrt();
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"#0f766e\" fill-opacity=\"0.7\">\
                 <title>{} objects</title></circle>",
                bin.objects
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">probability of an object</text>\
             <text x=\"12\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 12 {:.1})\">\
             share with IoU of at least 0.5</text>",
            all / 2.0,
            all - 8.0,
            all / 2.0,
            all / 2.0
        );
        svg + "</svg>\n"
    }
}
