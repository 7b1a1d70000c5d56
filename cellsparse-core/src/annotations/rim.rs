//! What a whole drawn cell says about the pixels beside it.

use crate::budget::{copied, pushed};
use crate::error::Result;
use crate::raster::LabelImage;

/// The labels with the unlabelled pixels up to `width` pixels from a drawn cell (city-block distance) set to background.
///
/// Annotators draw whole cells: where a drawn cell ends, it ends. What follows is background or the rim of a touching
/// cell, and the inside of another cell is in neither. Without this nothing tells a network where cells end unless
/// background was drawn right beside them. Pixels that carry a label keep it.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) where there is no memory.
pub fn background_rim(labels: &LabelImage, width: usize) -> Result<LabelImage> {
    let what = "the background beside drawn cells";
    let mut ended = copied(labels.view(), what)?;
    let (height, columns) = labels.dim();
    // Pixels within a cell have nothing beside them that could change.
    let at_rim = |(y, x): (usize, usize)| {
        let unlabelled = |y: usize, x: usize| labels.get((y, x)).is_some_and(|id| *id < 0);
        unlabelled(y.wrapping_sub(1), x)
            || unlabelled(y + 1, x)
            || unlabelled(y, x.wrapping_sub(1))
            || unlabelled(y, x + 1)
    };
    let mut front: Vec<(usize, usize)> = Vec::new();
    for (at, _) in labels.indexed_iter().filter(|(at, id)| **id > 0 && at_rim(*at)) {
        pushed(&mut front, at, what)?;
    }
    for _ in 0..width {
        let mut next = Vec::new();
        for (y, x) in front {
            let beside = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
            for (y, x) in beside.into_iter().filter(|&(y, x)| y < height && x < columns) {
                if ended[[y, x]] < 0 {
                    ended[[y, x]] = 0;
                    pushed(&mut next, (y, x), what)?;
                }
            }
        }
        front = next;
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn only_unlabelled_pixels_near_a_cell_change() {
        let mut labels: LabelImage = Array2::from_elem((7, 9), -1);
        labels[[3, 0]] = 4;
        labels[[3, 1]] = 7;
        let rim = background_rim(&labels, 2).unwrap();
        for ((y, x), &value) in rim.indexed_iter() {
            let distance = y.abs_diff(3) + x.saturating_sub(1);
            let want = match (labels[[y, x]], distance) {
                (id, _) if id > 0 => id,
                (_, 1..=2) => 0,
                _ => -1,
            };
            assert_eq!(value, want, "row {y}, column {x}");
        }
        assert_eq!(background_rim(&labels, 0).unwrap(), labels);
    }
}
