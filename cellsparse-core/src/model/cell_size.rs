//! How large cells are for a network that is to see their width as well as their area.

use std::collections::BTreeMap;

use ndarray::s;

use crate::geometry::disc_diameter;
use crate::geometry::distance::{distance_transform_squared, label_distances};
use crate::raster::LabelImage;

/// A thin cell counts as no larger than this many times its width: scaled by its area, a long rod would be a few pixels wide.
const WIDTHS: f64 = 1.5;

/// Cells of an image that are measured, at most.
const MEASURED: usize = 256;

/// The size in pixels of the cells of a label image `[H, W]` (above 0), in ascending order: the diameter of a disc of the
/// same area, for thin cells less, see [`WIDTHS`]. Of very many cells some are measured.
pub(super) fn cell_sizes(labels: &LabelImage) -> Vec<f64> {
    let mut cells = BTreeMap::<i32, Cell>::new();
    for ((y, x), label) in labels.indexed_iter().filter(|(_, label)| **label > 0) {
        let cell = cells.entry(*label).or_insert(Cell { area: 0, low: [y, x], high: [y, x] });
        cell.area += 1;
        cell.low = [cell.low[0].min(y), cell.low[1].min(x)];
        cell.high = [cell.high[0].max(y), cell.high[1].max(x)];
    }
    let step = cells.len().div_ceil(MEASURED).max(1);
    let cells: Vec<(i32, Cell)> = cells.into_iter().step_by(step).collect();
    let boxes: usize = cells.iter().map(|(_, cell)| cell.pixels()).sum();
    let mut sizes = if boxes <= labels.len() {
        cells.iter().map(|(label, cell)| cell.size(cell.half_width(*label, labels))).collect()
    } else {
        let mut widest = BTreeMap::<i32, f64>::new();
        for (label, distance) in labels.iter().zip(&label_distances(labels.view())).filter(|(label, _)| **label > 0) {
            let most = widest.entry(*label).or_default();
            *most = most.max(*distance);
        }
        cells.iter().map(|(label, cell)| cell.size(widest.get(label).copied().unwrap_or(0.0))).collect::<Vec<_>>()
    };
    sizes.sort_unstable_by(f64::total_cmp);
    sizes
}

/// Number of pixels, and the first and last row and column.
struct Cell {
    area: usize,
    low: [usize; 2],
    high: [usize; 2],
}

impl Cell {
    fn pixels(&self) -> usize {
        (self.high[0] - self.low[0] + 3) * (self.high[1] - self.low[1] + 3)
    }

    /// The largest distance of a pixel of this cell to one that is none, as far as the image goes.
    fn half_width(&self, label: i32, labels: &LabelImage) -> f64 {
        let [top, left] = self.low.map(|at| at.saturating_sub(1));
        let part =
            labels.slice(s![top..(self.high[0] + 2).min(labels.nrows()), left..(self.high[1] + 2).min(labels.ncols())]);
        let squared = distance_transform_squared(part.mapv(|other| other == label).view());
        // All of an image that is one cell is infinitely far from anything else.
        squared
            .iter()
            .copied()
            .max()
            .map_or(f64::INFINITY, |most| if most == u64::MAX { f64::INFINITY } else { (most as f64).sqrt() })
    }

    fn size(&self, half_width: f64) -> f64 {
        // From the centre of a pixel to that of the next outside: half a pixel less to the edge.
        disc_diameter(self.area as f64).min(WIDTHS * (2.0 * half_width - 1.0).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thin_cell_counts_as_wide_as_it_is() {
        let mut labels = LabelImage::from_elem((80, 120), -1);
        labels.slice_mut(s![10..16, 5..105]).fill(4);
        for ((y, x), label) in labels.indexed_iter_mut() {
            if (y as f64 - 50.0).hypot(x as f64 - 60.0) <= 12.0 {
                *label = 9;
            }
        }
        let sizes = cell_sizes(&labels);
        assert!((sizes[0] - WIDTHS * 5.0).abs() < 1e-9 && (sizes[1] - 24.0).abs() < 1.0, "{sizes:?}");
        // Crossing boxes, larger together than the image, are measured at once.
        let mut crossing = LabelImage::zeros((60, 60));
        for index in 0..60_usize {
            crossing.slice_mut(s![index, index.min(57)..(index + 3).min(60)]).fill(1);
            let end = 60 - index;
            crossing.slice_mut(s![index, end.saturating_sub(3)..end]).fill(2);
        }
        let together = cell_sizes(&crossing);
        assert!(together.len() == 2 && together.iter().all(|size| *size < 8.0), "{together:?}");
        assert_eq!(cell_sizes(&LabelImage::from_elem((9, 9), 3)).len(), 1);
        assert!(cell_sizes(&LabelImage::zeros((0, 4))).is_empty());
    }
}
