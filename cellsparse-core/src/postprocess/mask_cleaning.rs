//! Holes, small cells and cells at the border of a label image.

use ndarray::{ArrayView2, s};

use crate::budget::{mapped, pushed, zeros};
use crate::control::CancelToken;
use crate::error::Result;
use crate::geometry::label_runs::LabelRuns;
use crate::raster::LabelImage;

const WHAT: &str = "the holes of the cells of a label image";

/// Removes cells of fewer than `min_size` pixels (0 keeps all), fills the holes of the others, and numbers the cells from
/// 1 on in ascending order of their ids. Values below 1 become 0.
///
/// A hole is what the cell encloses (4-connected) within its bounding box, other cells included; cells are filled in
/// ascending order of their ids. Small cells are removed again after that, as filling may have taken pixels from them.
/// The rule is that of Cellpose 3, whose mistake with ids that are not consecutive is not repeated.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) where there is no memory.
pub fn fill_holes_and_remove_small_masks(masks: ArrayView2<'_, i32>, min_size: usize) -> Result<LabelImage> {
    fill_holes_and_remove_small_masks_until(masks, min_size, &CancelToken::new())
}

/// [`fill_holes_and_remove_small_masks`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`](crate::Error::Cancelled).
pub(super) fn fill_holes_and_remove_small_masks_until(
    masks: ArrayView2<'_, i32>,
    min_size: usize,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let mut masks = mapped(masks, WHAT, |label| label.max(0))?;
    cancel.check()?;
    remove_small(&mut masks, min_size)?;
    for cell in LabelRuns::new(masks.view())?.iter() {
        cancel.check()?;
        fill(&mut masks, cell.label, cell.bounds)?;
    }
    remove_small(&mut masks, min_size)?;
    cancel.check()?;
    renumber(&mut masks)?;
    Ok(masks)
}

/// [`fill_holes_and_remove_small_masks`] by the rule of the sparse-label fork of Cellpose 2: cell after cell, a cell is
/// removed or filled, so that a cell which lost pixels to an earlier one may be too small by then.
///
/// # Errors
/// As there.
pub fn fill_holes_and_renumber_as_fork(masks: ArrayView2<'_, i32>, min_size: usize) -> Result<LabelImage> {
    let mut masks = mapped(masks, WHAT, |label| label.max(0))?;
    for cell in LabelRuns::new(masks.view())?.iter() {
        let [top, left, bottom, right] = cell.bounds;
        let mut window = masks.slice_mut(s![top..=bottom, left..=right]);
        let area = window.iter().filter(|label| **label == cell.label).count();
        if area < min_size {
            window.mapv_inplace(|label| if label == cell.label { 0 } else { label });
        } else {
            fill(&mut masks, cell.label, cell.bounds)?;
        }
    }
    renumber(&mut masks)?;
    Ok(masks)
}

/// Removes cells that touch the border of the image and numbers the others from 1 on in ascending order of their ids.
/// Values below 1 become 0.
///
/// # Errors
/// As [`fill_holes_and_remove_small_masks`].
pub fn exclude_on_edges(masks: ArrayView2<'_, i32>) -> Result<LabelImage> {
    let (height, width) = masks.dim();
    let touches =
        |[top, left, bottom, right]: [usize; 4]| top == 0 || left == 0 || bottom + 1 == height || right + 1 == width;
    let runs = LabelRuns::new(masks)?;
    let mut masks = mapped(masks, WHAT, |label| label.max(0))?;
    for cell in runs.iter().filter(|cell| touches(cell.bounds)) {
        for run in cell.runs {
            masks.slice_mut(s![run.row, run.begin..run.end]).fill(0);
        }
    }
    renumber(&mut masks)?;
    Ok(masks)
}

fn remove_small(masks: &mut LabelImage, min_size: usize) -> Result<()> {
    if min_size == 0 {
        return Ok(());
    }
    for cell in LabelRuns::new(masks.view())?.iter().filter(|cell| cell.area() < min_size) {
        for run in cell.runs {
            masks.slice_mut(s![run.row, run.begin..run.end]).fill(0);
        }
    }
    Ok(())
}

/// Numbers the cells from 1 on in ascending order of their ids.
fn renumber(masks: &mut LabelImage) -> Result<()> {
    for (index, cell) in LabelRuns::new(masks.view())?.iter().enumerate() {
        for run in cell.runs {
            masks.slice_mut(s![run.row, run.begin..run.end]).fill(index as i32 + 1);
        }
    }
    Ok(())
}

/// Gives `label` all pixels within the inclusive `bounds` that it separates from the border of the bounds.
fn fill(masks: &mut LabelImage, label: i32, [top, left, bottom, right]: [usize; 4]) -> Result<()> {
    let mut window = masks.slice_mut(s![top..=bottom, left..=right]);
    let (height, width) = window.dim();
    if height < 3 || width < 3 {
        return Ok(());
    }
    let mut outside: Vec<bool> = zeros(height * width, WHAT)?;
    let mut open: Vec<usize> = Vec::new();
    let rows = (0..height).flat_map(|y| [y * width, y * width + width - 1]);
    let columns = (0..width).flat_map(|x| [x, (height - 1) * width + x]);
    for at in rows.chain(columns) {
        if !outside[at] && window[[at / width, at % width]] != label {
            outside[at] = true;
            pushed(&mut open, at, WHAT)?;
        }
    }
    while let Some(at) = open.pop() {
        let (y, x) = (at / width, at % width);
        let neighbours = [
            (y > 0).then(|| at - width),
            (x > 0).then(|| at - 1),
            (x + 1 < width).then(|| at + 1),
            (y + 1 < height).then(|| at + width),
        ];
        for next in neighbours.into_iter().flatten() {
            if !outside[next] && window[[next / width, next % width]] != label {
                outside[next] = true;
                pushed(&mut open, next, WHAT)?;
            }
        }
    }
    for (value, outside) in window.iter_mut().zip(outside) {
        if !outside {
            *value = label;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn small_cells_go_by_their_ids_and_holes_are_filled() {
        let mut masks = Array2::zeros((12, 40));
        masks.slice_mut(s![1..11, 1..11]).fill(2);
        masks.slice_mut(s![1..4, 14..17]).fill(3);
        masks.slice_mut(s![1..11, 20..30]).fill(4);
        masks.slice_mut(s![4..6, 22..25]).fill(0);
        masks[[5, 25]] = 9;
        let clean = fill_holes_and_remove_small_masks(masks.view(), 15).unwrap();
        let mut expected = Array2::zeros((12, 40));
        expected.slice_mut(s![1..11, 1..11]).fill(1);
        expected.slice_mut(s![1..11, 20..30]).fill(2);
        assert_eq!(clean, expected);
        assert_eq!(fill_holes_and_renumber_as_fork(masks.view(), 15).unwrap(), expected);
        let kept = fill_holes_and_remove_small_masks(masks.view(), 0).unwrap();
        assert_eq!(*kept.iter().max().unwrap(), 3);
    }

    #[test]
    fn odd_masks_are_survived() {
        for shape in [(0, 0), (0, 3), (3, 0), (1, 1)] {
            for value in [-1, 0, i32::MAX] {
                let masks = Array2::from_elem(shape, value);
                for clean in [
                    fill_holes_and_remove_small_masks(masks.view(), 0).unwrap(),
                    fill_holes_and_renumber_as_fork(masks.view(), 0).unwrap(),
                ] {
                    assert!(clean.iter().all(|&label| label == i32::from(value > 0)));
                }
                assert!(exclude_on_edges(masks.view()).unwrap().iter().all(|&label| label == 0));
            }
        }
        assert_eq!(exclude_on_edges(array![[-1, 0, 0], [0, 8, 0], [0, 0, 5]].view()).unwrap()[[1, 1]], 1);
    }
}
