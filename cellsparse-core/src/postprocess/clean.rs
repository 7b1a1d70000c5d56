//! Cleaning a finished label image.

use std::collections::BTreeMap;

use ndarray::s;

use crate::budget::mapped;
use crate::error::{Error, Result};
use crate::raster::LabelImage;

/// Area and bounding box of one label.
struct Region {
    pixels: usize,
    rows: [usize; 2],
    columns: [usize; 2],
}

/// Sets objects with fewer than `min_area` pixels to 0. Only the object's own pixels change; ids stay as they are.
///
/// Pixels below 0 (unlabelled) are not an object and stay. A `min_area` that is not a number removes nothing.
pub fn remove_small_labels(labels: &mut LabelImage, min_area: f32) {
    let regions = regions(labels);
    // Neighbouring pixels mostly have one id.
    let mut latest = (0, false);
    labels.mapv_inplace(|id| {
        if id != latest.0 {
            latest = (id, regions.get(&id).is_some_and(|region| (region.pixels as f32) < min_area));
        }
        if latest.1 { 0 } else { id }
    });
}

/// The small-object filter of the original `cellsparse` package: the whole bounding box of every object with fewer than
/// `min_area` pixels becomes 0, and with it whatever part of other objects lies in that box.
///
/// Objects are visited by ascending id. Boxes are those of the original image, areas those that earlier clearing has left,
/// so an object that lost pixels to a smaller id may be cleared as well. Kept for comparison; [`remove_small_labels`] is
/// the filter to use.
pub fn remove_small_labels_as_reference(labels: &mut LabelImage, min_area: f32) {
    for (id, region) in regions(labels) {
        let ([top, bottom], [left, right]) = (region.rows, region.columns);
        let mut inside = labels.slice_mut(s![top..=bottom, left..=right]);
        let pixels = inside.iter().filter(|pixel| **pixel == id).count();
        if (pixels as f32) < min_area {
            inside.fill(0);
        }
    }
}

/// Renumbers the objects to `first_id`, `first_id + 1`, ... in the order of their ids. Background (0) and unlabelled
/// pixels (below 0) stay.
///
/// # Errors
/// [`Error::Config`] if `first_id` is below 1, [`Error::Limit`] if the new ids would not fit 32 bits, or the image the memory.
pub fn relabel_sequential(labels: &LabelImage, first_id: i32) -> Result<LabelImage> {
    if first_id < 1 {
        return Err(Error::Config(format!("first id {first_id}; object ids begin at 1")));
    }
    let regions = regions(labels);
    let mut new_ids = BTreeMap::new();
    for (place, &id) in regions.keys().enumerate() {
        let new = i32::try_from(place).ok().and_then(|place| first_id.checked_add(place)).ok_or_else(|| {
            Error::Limit(format!("{} objects do not fit 32-bit ids that begin at {first_id}", regions.len()))
        })?;
        new_ids.insert(id, new);
    }
    let mut latest = (0, 0);
    mapped(labels.view(), "a label image", |id| {
        if id != latest.0 {
            latest = (id, new_ids.get(&id).copied().unwrap_or(id));
        }
        latest.1
    })
}

fn regions(labels: &LabelImage) -> BTreeMap<i32, Region> {
    let mut regions = BTreeMap::new();
    for (y, row) in labels.outer_iter().enumerate() {
        let mut x = 0;
        while x < row.len() {
            let (id, begin) = (row[x], x);
            while x < row.len() && row[x] == id {
                x += 1;
            }
            if id > 0 {
                let region = regions.entry(id).or_insert(Region { pixels: 0, rows: [y, y], columns: [begin, begin] });
                region.pixels += x - begin;
                region.rows = [region.rows[0].min(y), region.rows[1].max(y)];
                region.columns = [region.columns[0].min(begin), region.columns[1].max(x - 1)];
            }
        }
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn only_the_small_object_is_cleared() {
        let labels = array![[1, 2, 1], [1, 1, -1], [0, 0, 7]];
        let mut clean = labels.clone();
        remove_small_labels(&mut clean, 2.0);
        assert_eq!(clean, array![[1, 0, 1], [1, 1, -1], [0, 0, 0]]);
        let mut literal = array![[1, 2, 1], [2, 1, 1], [0, 0, 7]];
        remove_small_labels_as_reference(&mut literal, 3.0);
        assert_eq!(literal, array![[0, 0, 1], [0, 0, 1], [0, 0, 0]]);
        let mut same = labels.clone();
        remove_small_labels(&mut same, f32::NAN);
        assert_eq!(same, labels);
    }

    #[test]
    fn ids_become_consecutive() {
        let labels = array![[-3, 40], [0, 7]];
        assert_eq!(relabel_sequential(&labels, 1).unwrap(), array![[-3, 2], [0, 1]]);
        assert!(relabel_sequential(&labels, 0).is_err());
        assert!(relabel_sequential(&labels, i32::MAX).is_err());
    }
}
