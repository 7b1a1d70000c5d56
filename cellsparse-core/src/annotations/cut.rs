//! Cells that the sides of a part of an image cut.

use std::collections::BTreeSet;
use std::ops::Range;

use ndarray::s;

use crate::raster::LabelImage;

/// Makes objects at the sides of a part unlabelled where the image goes on, and returns their ids: they may be cut, and neither a
/// training nor a score is to take half an object for a whole one. The part has the rows and columns `window` of an image with
/// `whole` rows and columns.
pub fn forget_cut_objects(labels: &mut LabelImage, window: &[Range<usize>; 2], whole: (usize, usize)) -> BTreeSet<i32> {
    let (rows, columns) = labels.dim();
    let mut cut = BTreeSet::new();
    let sides = [
        (window[0].start > 0).then(|| labels.slice(s![..1, ..])),
        (window[0].end < whole.0).then(|| labels.slice(s![rows.saturating_sub(1).., ..])),
        (window[1].start > 0).then(|| labels.slice(s![.., ..1])),
        (window[1].end < whole.1).then(|| labels.slice(s![.., columns.saturating_sub(1)..])),
    ];
    sides.iter().flatten().for_each(|side| cut.extend(side.iter().copied().filter(|label| *label > 0)));
    if !cut.is_empty() {
        labels.mapv_inplace(|label| if cut.contains(&label) { -1 } else { label });
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::SparseLabels;

    #[test]
    fn objects_that_a_part_may_cut_are_unlabelled() {
        let mut labels = LabelImage::zeros((6, 6));
        labels[[0, 2]] = 1;
        labels[[5, 3]] = 2;
        labels[[2, 5]] = 3;
        labels[[3, 3]] = 4;
        let cut = |window: [Range<usize>; 2]| {
            let mut labels = labels.clone();
            let ids = forget_cut_objects(&mut labels, &window, (20, 20));
            let left = [labels[[0, 2]], labels[[5, 3]], labels[[2, 5]], labels[[3, 3]]];
            assert_eq!(ids.len(), left.iter().filter(|label| **label < 0).count());
            left
        };
        assert_eq!(cut([0..20, 0..20]), [1, 2, 3, 4]);
        assert_eq!(cut([0..6, 0..6]), [1, -1, -1, 4]);
        assert_eq!(cut([14..20, 14..20]), [-1, 2, 3, 4]);
    }

    #[test]
    fn labels_of_a_part_know_nothing_of_what_is_cut() {
        let mut values = LabelImage::zeros((4, 5));
        values[[0, 1]] = 7;
        values[[2, 2]] = 9;
        let labels = SparseLabels::from_signed(values.clone()).unwrap();
        let labels = labels.with_classes([(7, Some(1)), (9, None)].into()).unwrap();
        let part = labels.without_cut(&[10..14, 0..5], (14, 9));
        assert_eq!(part.areas().keys().copied().collect::<Vec<_>>(), [9]);
        assert_eq!(part.classes().unwrap().keys().copied().collect::<Vec<_>>(), [9]);
        values[[0, 1]] = -1;
        assert_eq!(*part.labels(), values);
    }
}
