//! Thresholds that put outlines where they were drawn.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::metrics::pair_runs;
use crate::raster::LabelImage;

/// By how much the mean overlap with the drawn cells must grow before thresholds depart from the default ones; of
/// thresholds within this distance of the best, those nearest to the default ones are taken.
const GAIN: f64 = 0.01;

/// The choice with which the outlines of the drawn cells fit best, or the `usual` one when none fits plainly better.
///
/// A drawn cell is whole: every pixel that an object has beyond its outline is wrong, whether labelled or not. So the fit
/// of a cell is the largest intersection over union that an object has with it on all pixels. Objects that lie on drawn
/// background count as cells that do not fit at all. `choices` begin with those that are nearest to the usual one;
/// `images` hold what a network says about an image with what was drawn there (below 0 unlabelled, 0 background),
/// `segment` its label image.
///
/// # Errors
/// What the post-processing reports.
pub(super) fn fit<T: Copy + PartialEq, I>(
    usual: T,
    choices: &[T],
    images: &[(I, &LabelImage)],
    segment: impl Fn(&I, &T) -> Result<LabelImage>,
) -> Result<T> {
    let of = |choice: &T| -> Result<Fit> {
        let mut fit = Fit::default();
        for (image, drawn) in images {
            fit.add(drawn, &segment(image, choice)?);
        }
        Ok(fit)
    };
    let own = of(&usual)?;
    let mut better = Vec::new();
    for choice in choices.iter().filter(|choice| **choice != usual) {
        let fit = of(choice)?;
        if fit.exceeds(&own) {
            better.push((fit.score(), *choice));
        }
    }
    let best = better.iter().map(|(score, _)| *score).fold(0.0, f64::max);
    let nearest = better.into_iter().find(|(score, _)| *score >= best - GAIN);
    Ok(nearest.map_or(usual, |(_, choice)| choice))
}

/// How outlines fit.
#[derive(Debug, Clone, PartialEq, Default)]
struct Fit {
    /// Overlap of each drawn cell.
    cells: Vec<f64>,
    /// Objects on drawn background.
    false_objects: usize,
}

impl Fit {
    fn add(&mut self, drawn: &LabelImage, found: &LabelImage) {
        let mut sizes = BTreeMap::<i32, f64>::new();
        let mut areas = BTreeMap::<i32, f64>::new();
        let mut common = BTreeMap::<(i32, i32), f64>::new();
        for (cell, object, pixels) in pair_runs(drawn, found) {
            let pixels = pixels as f64;
            if cell > 0 {
                *sizes.entry(cell).or_default() += pixels;
            }
            if object > 0 {
                *areas.entry(object).or_default() += pixels;
                if cell >= 0 {
                    *common.entry((cell, object)).or_default() += pixels;
                }
            }
        }
        let mut overlaps: BTreeMap<i32, f64> = sizes.keys().map(|cell| (*cell, 0.0)).collect();
        for ((cell, object), pixels) in common {
            let area = areas[&object];
            match overlaps.get_mut(&cell) {
                Some(best) => *best = best.max(pixels / (sizes[&cell] + area - pixels)),
                None if pixels > 0.5 * area => self.false_objects += 1,
                None => {}
            }
        }
        self.cells.extend(overlaps.into_values());
    }

    fn score(&self) -> f64 {
        self.cells.iter().sum::<f64>() / (self.cells.len() + self.false_objects).max(1) as f64
    }

    /// Whether this is better than `other` by more than chance would have it.
    fn exceeds(&self, other: &Self) -> bool {
        let count = self.cells.len().max(1) as f64;
        let differences: Vec<f64> = self.cells.iter().zip(&other.cells).map(|(own, other)| own - other).collect();
        let mean = differences.iter().sum::<f64>() / count;
        let variance = differences.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        self.score() > other.score() + GAIN.max((variance / count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// A map that falls from the middle of two cells, one of which is drawn with that radius; a spot lies on drawn background.
    fn drawn(radius: f64) -> (Array2<f64>, LabelImage) {
        let from = |y: usize, x: usize, column: f64| (y as f64 - 20.0).hypot(x as f64 - column);
        let map = Array2::from_shape_fn((40, 80), |(y, x)| {
            let cells = -from(y, x, 20.0).min(from(y, x, 50.0));
            if (2..5).contains(&y) && (70..73).contains(&x) { -13.5 } else { cells }
        });
        let labels = LabelImage::from_shape_fn((40, 80), |(y, x)| match from(y, x, 20.0) <= radius {
            true => 3,
            false if x > 66 => 0,
            false => -1,
        });
        (map, labels)
    }

    /// The map from a level on, the halves of the image apart.
    #[allow(clippy::unnecessary_wraps)] // as the choice asks for it
    fn cut(map: &Array2<f64>, level: &f64) -> Result<LabelImage> {
        Ok(LabelImage::from_shape_fn(map.dim(), |at| match map[at] >= *level {
            true if at.1 >= 66 => 3,
            true => 1 + i32::from(at.1 >= 35),
            false => 0,
        }))
    }

    const LEVELS: [f64; 5] = [-8.0, -7.0, -9.0, -12.0, -14.0];

    #[test]
    fn outlines_go_where_they_were_drawn_whatever_lies_beside_them() {
        for (radius, level) in [(8.0, -8.0), (7.0, -7.0), (12.0, -12.0), (12.4, -12.0)] {
            let (map, labels) = drawn(radius);
            assert_eq!(fit(-8.0, &LEVELS, &[(map, &labels)], cut).unwrap(), level, "radius {radius}");
        }
    }

    #[test]
    fn an_object_on_drawn_background_costs_as_much_as_a_cell() {
        // The cell alone would ask for the lowest level.
        let (map, labels) = drawn(15.0);
        let mut free = labels.clone();
        free.mapv_inplace(|label| if label == 0 { -1 } else { label });
        let chosen = |labels: &LabelImage| fit(-8.0, &LEVELS, &[(map.clone(), labels)], cut).unwrap();
        assert_eq!([chosen(&free), chosen(&labels)], [-14.0, -12.0]);
    }

    #[test]
    fn what_fits_no_cell_and_small_gains_change_nothing() {
        let (map, labels) = drawn(8.0);
        let nothing = LabelImage::from_elem(labels.dim(), -1);
        assert_eq!(fit(-8.0, &LEVELS, &[(map.clone(), &nothing)], cut).unwrap(), -8.0);
        assert_eq!(fit(-8.0, &[-8.02, -8.2], &[(map, &labels)], cut).unwrap(), -8.0);
    }
}
