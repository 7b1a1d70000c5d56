//! Cellpose targets: cell probability and flows, from sparse labels.

use std::collections::BTreeMap;

use ndarray::{Array3, ArrayView2, s};

use crate::budget::array;
use crate::control::CancelToken;
use crate::error::Result;
use crate::geometry::diffusion::label_flows_until;
pub use crate::geometry::diffusion::{FlowRule, label_flows as masks_to_flows};

/// What a Cellpose network learns from a label image `[H, W]`: `[3, H, W]` with
///
/// * 0, cell probability: 1 in cells, 0 on annotated background, -1 where nothing is annotated (negative labels);
/// * 1 and 2, flows `dY` and `dX`: unit vectors in cells, 0 elsewhere. The network is trained to 5 times these.
///
/// The labels are not changed. Cells are told apart by their ids, which need not be consecutive.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) when a cell does not fit into memory.
pub fn cellpose_targets(labels: ArrayView2<'_, i32>, rule: FlowRule) -> Result<Array3<f32>> {
    cellpose_targets_until(labels, rule, &CancelToken::new())
}

/// As [`cellpose_targets`], and ends early when `cancel` is raised.
///
/// # Errors
/// As of [`cellpose_targets`], and [`Error::Cancelled`](crate::Error::Cancelled).
pub fn cellpose_targets_until(
    labels: ArrayView2<'_, i32>,
    rule: FlowRule,
    cancel: &CancelToken,
) -> Result<Array3<f32>> {
    let (height, width) = labels.dim();
    let flows = label_flows_until(labels, rule, cancel)?;
    let mut targets: Array3<f32> = array((3, height, width), "what Cellpose learns from a label image")?;
    targets.slice_mut(s![0, .., ..]).zip_mut_with(&labels, |probability, &label| *probability = label.signum() as f32);
    targets.slice_mut(s![1.., .., ..]).assign(&flows);
    Ok(targets)
}

/// The size of the cells of a label image in pixels: the median over the cells of the diameter of the disc of the cell's
/// area; 0 without a cell. Values below 1 are no cells.
pub fn diameter(labels: ArrayView2<'_, i32>) -> f64 {
    let mut cells = BTreeMap::<i32, usize>::new();
    for row in labels.outer_iter() {
        let mut rest = row.iter().filter(|label| **label > 0).peekable();
        while let Some(label) = rest.next() {
            let mut pixels = 1;
            while rest.next_if(|next| *next == label).is_some() {
                pixels += 1;
            }
            *cells.entry(*label).or_default() += pixels;
        }
    }
    let mut areas: Vec<usize> = cells.into_values().collect();
    areas.sort_unstable();
    let of = |rank: usize| areas.get(rank).map_or(0.0, |&area| (area as f64).sqrt());
    let n = areas.len();
    let median = if n % 2 == 1 { of(n / 2) } else { (of(n.saturating_sub(1) / 2) + of(n / 2)) / 2.0 };
    median * 2.0 / std::f64::consts::PI.sqrt()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn unannotated_pixels_are_marked_and_labels_may_have_gaps() {
        let labels = array![[-1, 0, 0, 9], [-3, 0, 9, 9], [70, 0, 9, 9]];
        let before = labels.clone();
        let targets = cellpose_targets(labels.view(), FlowRule::Reference).unwrap();
        assert_eq!(labels, before);
        let probability = array![[-1.0f32, 0.0, 0.0, 1.0], [-1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]];
        assert_eq!(targets.slice(s![0, .., ..]), probability);
        assert_eq!((targets[[1, 2, 0]], targets[[2, 2, 0]]), (0.0, 0.0), "a one-pixel cell has no flow");
        // The lower left pixel of the cell flows up and to the right.
        let flow = [targets[[1, 2, 2]], targets[[2, 2, 2]]];
        assert!(flow[0] < 0.0 && flow[1] > 0.0 && (flow[0].hypot(flow[1]) - 1.0).abs() < 1e-6);
        let outside = targets.slice(s![1.., .., ..2]);
        assert!(outside.iter().all(|&flow| flow == 0.0));
    }

    #[test]
    fn the_diameter_is_a_median_and_0_without_cells() {
        let labels = array![[1, 2, 2, 2, 2], [-1, 5, 5, 0, 0]];
        let expected = 2f64.sqrt() * 2.0 / std::f64::consts::PI.sqrt();
        assert!((diameter(labels.view()) - expected).abs() < 1e-12);
        assert!(
            (diameter(array![[1, 2, 2, 2, 2]].view()) - 0.75 * diameter(array![[2, 2, 2, 2]].view())).abs() < 1e-12
        );
        assert_eq!(diameter(Array2::zeros((0, 0)).view()), 0.0);
        assert_eq!(diameter(Array2::from_elem((3, 3), -1).view()), 0.0);
    }

    #[test]
    fn empty_images_have_empty_targets() {
        for shape in [(0, 0), (0, 4), (4, 0)] {
            let targets = cellpose_targets(Array2::zeros(shape).view(), FlowRule::Fork).unwrap();
            assert_eq!(targets.dim(), (3, shape.0, shape.1));
        }
    }
}
