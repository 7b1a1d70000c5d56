//! Repairs label images whose objects have holes.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, s};

use crate::budget::{array, pushed};
use crate::error::Result;
use crate::raster::LabelImage;

/// Fills the holes of every object and of every unlabelled region: background pixels that a region of one value
/// encloses (4-connected) take that value.
///
/// `labels` is a label image `[H, W]`; so is the result. Objects are written in ascending order of their id and
/// negative values after them, the smallest magnitude first, so that the later one wins where two claim a pixel: an
/// object inside a hole of an object with a *larger* id is overwritten. The rule is that of StarDist 0.9.2.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) where there is no memory.
pub fn fill_label_holes(labels: ArrayView2<'_, i32>) -> Result<LabelImage> {
    let mut boxes: BTreeMap<(bool, u32, i32), Bounds> = BTreeMap::new();
    for ((y, x), &value) in labels.indexed_iter() {
        if value != 0 {
            let order = (value < 0, value.unsigned_abs(), value);
            boxes.entry(order).or_insert(Bounds { top: y, bottom: y, left: x, right: x }).include(y, x);
        }
    }
    let mut filled: LabelImage = array(labels.dim(), WHAT)?;
    for ((_, _, value), bounds) in boxes {
        let window = s![bounds.top..=bounds.bottom, bounds.left..=bounds.right];
        let outside = outside_of(labels.slice(window), value)?;
        filled.slice_mut(window).zip_mut_with(&outside, |pixel, outside| {
            if !outside {
                *pixel = value;
            }
        });
    }
    Ok(filled)
}

const WHAT: &str = "the holes of a label image";

struct Bounds {
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl Bounds {
    fn include(&mut self, y: usize, x: usize) {
        self.top = self.top.min(y);
        self.bottom = self.bottom.max(y);
        self.left = self.left.min(x);
        self.right = self.right.max(x);
    }
}

/// Pixels of other values that are 4-connected, through such pixels, to the border of the window.
fn outside_of(window: ArrayView2<'_, i32>, value: i32) -> Result<Array2<bool>> {
    let (height, width) = window.dim();
    let mut outside: Array2<bool> = array((height, width), WHAT)?;
    let mut open = Vec::new();
    let visit = |outside: &mut Array2<bool>, open: &mut Vec<(usize, usize)>, y: usize, x: usize| -> Result<()> {
        if y < height && x < width && window[[y, x]] != value && !outside[[y, x]] {
            outside[[y, x]] = true;
            pushed(open, (y, x), WHAT)?;
        }
        Ok(())
    };
    for y in 0..height {
        visit(&mut outside, &mut open, y, 0)?;
        visit(&mut outside, &mut open, y, width - 1)?;
    }
    for x in 0..width {
        visit(&mut outside, &mut open, 0, x)?;
        visit(&mut outside, &mut open, height - 1, x)?;
    }
    while let Some((y, x)) = open.pop() {
        visit(&mut outside, &mut open, y.wrapping_sub(1), x)?;
        visit(&mut outside, &mut open, y + 1, x)?;
        visit(&mut outside, &mut open, y, x.wrapping_sub(1))?;
        visit(&mut outside, &mut open, y, x + 1)?;
    }
    Ok(outside)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn unlabelled_pixels_stay_unlabelled() {
        let labels = array![[-1, -1, -1, 0], [-1, 0, -1, 2], [-1, -1, -1, 2]];
        let filled = fill_label_holes(labels.view()).unwrap();
        assert_eq!(filled, array![[-1, -1, -1, 0], [-1, -1, -1, 2], [-1, -1, -1, 2]]);
    }

    #[test]
    fn a_diagonal_gap_does_not_open_a_hole() {
        let labels = array![[0, 7, 0], [7, 0, 7], [0, 7, 0]];
        assert_eq!(fill_label_holes(labels.view()).unwrap(), array![[0, 7, 0], [7, 7, 7], [0, 7, 0]]);
        assert_eq!(fill_label_holes(array![[i32::MIN]].view()).unwrap(), array![[i32::MIN]]);
        assert_eq!(fill_label_holes(Array2::zeros((0, 3)).view()).unwrap().dim(), (0, 3));
    }
}
