//! From the maps of a network to objects and scores, without a network: for programs that compute the maps elsewhere.
//!
//! `cargo run --release -p cellsparse-core --no-default-features --example postprocess`
//!
//! The maps are those that a perfect network would give for a drawn field: object probability `[h, w]`, and distances to
//! the outline `[h, w, rays]`, one value for every second row and column.

use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::postprocess::nms::non_maximum_suppression;
use cellsparse_core::postprocess::stars::polygons_to_label;
use cellsparse_core::postprocess::{BORDER, candidates};
use cellsparse_core::synthetic::{FieldOptions, draw_field};
use cellsparse_core::targets::stardist::{edt_prob, star_dist};
use cellsparse_core::{LabelImage, Result};
use ndarray::{Array2, Array3, s};

const GRID: [usize; 2] = [2, 2];

fn main() -> Result<()> {
    let truth = draw_field(&FieldOptions::default(), 1)?.truth;
    let (probability, distances) = perfect_maps(&truth)?;

    // Every cell of the grid above the threshold proposes a polygon; those that overlap a better one are removed.
    let proposed = candidates(probability.view(), distances.view(), GRID, 0.5, BORDER)?.sorted()?;
    let found = proposed.select(&non_maximum_suppression(&proposed, 0.4)?)?;
    let centres: Vec<[f64; 2]> = found.points.iter().map(|point| point.map(f64::from)).collect();
    let shape = [truth.nrows(), truth.ncols()];
    let labels = polygons_to_label(found.dist.view(), &centres, shape, Some(&found.prob), [1.0; 2])?;

    let score = matching(&truth, &labels, 0.5, Criterion::Iou, false)?;
    println!("{} candidates, {} objects, {} in truth", proposed.len(), found.len(), score.n_true);
    println!("accuracy {:.3} and mean overlap {:.3} at IoU 0.5", score.accuracy, score.mean_matched_score);
    Ok(())
}

fn perfect_maps(truth: &LabelImage) -> Result<(Array2<f32>, Array3<f32>)> {
    let probability = edt_prob(truth.view()).slice(s![..;GRID[0], ..;GRID[1]]).to_owned();
    Ok((probability, star_dist(truth.view(), 32, GRID)?))
}
