//! What would make annotations more useful.

use ndarray::Array2;

use super::sparse_labels::SparseLabels;

/// One-line hints to the annotator, the most useful first; empty when there is nothing to say. What is odd about the file
/// that the labels came from stands at the beginning.
///
/// The strongest lever is background drawn right beside cells: on one image with the same cells it raised the average
/// precision from 0.04 to 0.55.
pub fn advice(labels: &SparseLabels) -> Vec<String> {
    let mut hints = labels.suspicions().to_vec();
    if labels.object_count() == 0 {
        if labels.labelled_fraction() == 0.0 {
            hints.push(
                "Nothing is labelled in an image, so it teaches nothing. If it is empty, draw background.".into(),
            );
        }
        return hints;
    }
    let diameter = labels.median_diameter();
    match distance_to_background(labels) {
        None => hints.push(
            "No background is drawn. Add a few background strokes, best right beside cells: they show where a cell ends."
                .to_string(),
        ),
        Some(distance) if distance > (diameter / 2.0).max(2.0) => hints.push(format!(
            "No background is drawn near any cell (the nearest is {distance:.0} px away). Add short background strokes \
             right beside 2 or 3 of the drawn cells."
        )),
        Some(_) => {}
    }
    if labels.object_count() < 3 {
        hints.push(format!(
            "Only {} drawn. Add cells until there are at least 3, small and large, dark and bright.",
            match labels.object_count() {
                1 => "1 cell is".into(),
                more => format!("{more} cells are"),
            }
        ));
    } else {
        let smallest = labels.areas().values().copied().min().unwrap_or(0);
        let largest = labels.areas().values().copied().max().unwrap_or(0);
        if largest as f64 <= 1.2 * smallest as f64 {
            let range = if smallest == largest { String::new() } else { format!("{smallest} to ") };
            hints.push(format!(
                "All drawn cells have nearly one size ({range}{largest} px). If the image has smaller or larger \
                 ones, draw one of each."
            ));
        }
    }
    hints
}

/// The smallest distance between a background pixel and an object, in pixels; `None` without background.
fn distance_to_background(labels: &SparseLabels) -> Option<f64> {
    let labels = labels.labels();
    let (height, width) = labels.dim();
    // Chamfer distance with weights 3 and 4 (about 3 a pixel), within 8 % of the Euclidean one: enough for a hint.
    let mut distance = Array2::from_elem((height, width), u32::MAX / 2);
    for ((y, x), &label) in labels.indexed_iter() {
        if label > 0 {
            distance[[y, x]] = 0;
        }
    }
    let mut relax = |y: usize, x: usize, neighbours: [(isize, isize, u32); 4]| {
        for (dy, dx, weight) in neighbours {
            if let (Some(ny), Some(nx)) = (y.checked_add_signed(dy), x.checked_add_signed(dx))
                && ny < height
                && nx < width
            {
                distance[[y, x]] = distance[[y, x]].min(distance[[ny, nx]] + weight);
            }
        }
    };
    for y in 0..height {
        for x in 0..width {
            relax(y, x, [(-1, -1, 4), (-1, 0, 3), (-1, 1, 4), (0, -1, 3)]);
        }
    }
    for y in (0..height).rev() {
        for x in (0..width).rev() {
            relax(y, x, [(1, 1, 4), (1, 0, 3), (1, -1, 4), (0, 1, 3)]);
        }
    }
    labels
        .iter()
        .zip(&distance)
        .filter(|(label, _)| **label == 0)
        .map(|(_, &distance)| distance)
        .min()
        .map(|distance| f64::from(distance) / 3.0)
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;
    use crate::raster::LabelImage;

    fn hints(edit: impl FnOnce(&mut LabelImage)) -> Vec<String> {
        let mut labels = LabelImage::from_elem((60, 60), -1);
        labels.slice_mut(s![5..15, 5..15]).fill(1);
        labels.slice_mut(s![5..15, 25..35]).fill(2);
        labels.slice_mut(s![25..40, 5..20]).fill(3);
        edit(&mut labels);
        advice(&SparseLabels::from_signed(labels).unwrap())
    }

    #[test]
    fn good_annotations_need_no_advice() {
        assert!(hints(|labels| labels.slice_mut(s![16..18, 5..15]).fill(0)).is_empty());
    }

    #[test]
    fn empty_fields_need_none_unless_nothing_is_known() {
        let hints = |value| advice(&SparseLabels::from_signed(LabelImage::from_elem((9, 9), value)).unwrap());
        assert!(hints(0).is_empty());
        assert!(hints(-1)[0].contains("teaches nothing"));
    }

    #[test]
    fn each_weakness_has_its_hint() {
        assert!(hints(|_| ())[0].contains("No background is drawn. "));
        let far = hints(|labels| labels.slice_mut(s![50..53, 40..60]).fill(0));
        assert!(far[0].contains("near any cell"), "{far:?}");
        let few = hints(|labels| {
            labels.mapv_inplace(|label| if label > 1 { -1 } else { label });
            labels.slice_mut(s![16..18, 5..15]).fill(0);
        });
        assert_eq!(
            few,
            ["Only 1 cell is drawn. Add cells until there are at least 3, small and large, dark and bright."]
        );
        let alike = hints(|labels| {
            labels.slice_mut(s![25..40, 5..20]).fill(-1);
            labels.slice_mut(s![25..35, 5..15]).fill(3);
            labels.slice_mut(s![16..18, 5..15]).fill(0);
        });
        assert!(alike[0].contains("nearly one size (100 px)"), "{alike:?}");
    }
}
