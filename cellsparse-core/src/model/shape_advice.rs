//! Drawn cells of a shape that an algorithm cannot give.

use std::collections::BTreeMap;

use ndarray::{Array2, s};

use super::algorithm::Shapes;
use super::registry::Algorithm;
use crate::annotations::Dataset;
use crate::control::CancelToken;
use crate::error::Result;
use crate::geometry::ellipse::{Moments, symmetric_eigen};
use crate::raster::LabelImage;
use crate::targets::fill_label_holes;

/// Length over width above which StarDist's rays from the centre meet the ends of a cell too rarely.
const LONG: f64 = 3.0;

/// Fraction of the pixels of a cell that some pixel inside must see in a straight line, for rays from one point to fit.
const SEEN: f64 = 0.9;

/// Cells that are looked at, at most.
const CELLS: usize = 200;

/// Larger cells are looked at in steps of more than one pixel.
const SIDE: usize = 48;

/// One sentence when at least a third of the drawn cells have a shape that `algorithm` cannot give, with what can: long, bent or
/// branched cells with StarDist, cells with holes with StarDist and Cellpose. `None` when there is nothing to say.
///
/// A cell is long when its length over its width (axes of the ellipse with the same second moments) is above 3; it is bent or
/// branched when no point in it sees nine tenths of it in straight lines.
pub fn shape_advice(algorithm: Algorithm, data: &Dataset) -> Option<String> {
    // A token that nobody can raise.
    shape_advice_until(algorithm, data, &CancelToken::new()).unwrap_or_default()
}

/// [`shape_advice`] that can be stopped.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled).
pub(super) fn shape_advice_until(algorithm: Algorithm, data: &Dataset, cancel: &CancelToken) -> Result<Option<String>> {
    Ok(advice_on(algorithm, &shapes(data, cancel)?))
}

fn advice_on(algorithm: Algorithm, shapes: &[Shape]) -> Option<String> {
    let count = |is: fn(&Shape) -> bool| {
        let count = shapes.iter().filter(|shape| is(shape)).count();
        (count > 0 && 3 * count >= shapes.len()).then_some(count)
    };
    let of = shapes.len();
    let possible = algorithm.facts().shapes;
    if possible == Shapes::StarConvex {
        let long = count(|shape| shape.elongation > LONG);
        let bent = count(|shape| shape.seen < SEEN);
        let (number, word) = match (long, bent) {
            (Some(long), bent) if long >= bent.unwrap_or(0) => (long, "more than three times as long as wide"),
            (_, Some(bent)) => (bent, "bent or branched"),
            _ => return holes(possible, count(|shape| shape.hole), of),
        };
        return Some(format!(
            "{number} of {of} drawn cells are {word}; the polygons of StarDist seen from one point fit such cells badly, \
             Cellpose and ELEPHANT take any shape"
        ));
    }
    holes(possible, count(|shape| shape.hole), of)
}

fn holes(possible: Shapes, number: Option<usize>, of: usize) -> Option<String> {
    let number = number?;
    (possible != Shapes::Any).then(|| {
        format!(
            "{number} of {of} drawn cells have holes; they will be found without, only ELEPHANT can leave holes open"
        )
    })
}

struct Shape {
    elongation: f64,
    /// Fraction of its pixels that are seen from the best of some points in it.
    seen: f64,
    hole: bool,
}

fn shapes(data: &Dataset, cancel: &CancelToken) -> Result<Vec<Shape>> {
    let total: usize = data.labels().iter().map(|labels| labels.object_count()).sum();
    let step = total.div_ceil(CELLS).max(1);
    let mut shapes = Vec::new();
    let mut number = 0;
    for labels in data.labels() {
        let labels = labels.labels();
        cancel.check()?;
        for (label, [low, high]) in boxes(labels) {
            number += 1;
            if number % step == 0 {
                cancel.check()?;
                let part = labels.slice(s![low[0]..=high[0], low[1]..=high[1]]);
                let every = (high[0] - low[0]).max(high[1] - low[1]).div_ceil(SIDE).max(1);
                let cell = part.slice(s![..;every, ..;every]).mapv(|value| value == label);
                shapes.extend(shape(&cell));
            }
        }
    }
    Ok(shapes)
}

/// First and last row and column of every cell.
fn boxes(labels: &LabelImage) -> BTreeMap<i32, [[usize; 2]; 2]> {
    let mut boxes = BTreeMap::<i32, [[usize; 2]; 2]>::new();
    for ((y, x), label) in labels.indexed_iter().filter(|(_, label)| **label > 0) {
        let [low, high] = boxes.entry(*label).or_insert([[y, x]; 2]);
        *low = [low[0].min(y), low[1].min(x)];
        *high = [high[0].max(y), high[1].max(x)];
    }
    boxes
}

fn shape(cell: &Array2<bool>) -> Option<Shape> {
    let pixels: Vec<[usize; 2]> = cell.indexed_iter().filter(|(_, is)| **is).map(|((y, x), _)| [y, x]).collect();
    let mut moments = Moments::default();
    pixels.iter().for_each(|[y, x]| moments.add(*y, *x));
    if pixels.is_empty() {
        return None;
    }
    // A pixel is a square: its own second moment keeps lines of one pixel finite.
    let [yy, yx, xx] = moments.covariance();
    let (variances, _) = symmetric_eigen([yy + 1.0 / 12.0, yx, xx + 1.0 / 12.0]);
    let [large, small] = [variances[0].max(variances[1]), variances[0].min(variances[1])];
    // Some tens of points are enough to find one that sees nearly as much as the best.
    let from = pixels.iter().step_by(pixels.len().div_ceil(64).max(1));
    let seen = from.map(|from| pixels.iter().filter(|to| sees(cell, *from, **to)).count()).max().unwrap_or(0);
    let filled = fill_label_holes(cell.mapv(i32::from).view()).ok()?;
    Some(Shape {
        elongation: (large / small.max(1e-9)).sqrt(),
        seen: seen as f64 / pixels.len() as f64,
        hole: filled.iter().zip(cell).any(|(filled, cell)| *filled > 0 && !cell),
    })
}

/// Whether the straight line between two pixels stays in the cell.
fn sees(cell: &Array2<bool>, from: [usize; 2], to: [usize; 2]) -> bool {
    let delta = [to[0] as f64 - from[0] as f64, to[1] as f64 - from[1] as f64];
    let steps = delta[0].abs().max(delta[1].abs()) as usize;
    (1..steps).all(|step| {
        let at = step as f64 / steps as f64;
        let position = [0, 1].map(|axis| (from[axis] as f64 + at * delta[axis]).round() as usize);
        cell.get(position).is_some_and(|is| *is)
    })
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::Image;
    use crate::annotations::SparseLabels;

    fn data(paint: impl Fn(&mut LabelImage, i32, usize)) -> Dataset {
        let mut labels = LabelImage::from_elem((200, 60), -1);
        labels.row_mut(199).fill(0);
        for label in 1..=4 {
            paint(&mut labels, label, 45 * (label as usize - 1));
        }
        let image = Image::F32(Array3::zeros((200, 60, 1)));
        Dataset::new(vec![image], vec![SparseLabels::from_signed(labels).unwrap()]).unwrap()
    }

    fn advice(algorithm: Algorithm, data: &Dataset) -> String {
        shape_advice(algorithm, data).unwrap_or_default()
    }

    #[test]
    fn round_and_lobed_cells_fit_every_algorithm() {
        let data = data(|labels, label, top| {
            for ((y, x), pixel) in labels.slice_mut(s![top..top + 40, 0..40]).indexed_iter_mut() {
                let [dy, dx] = [y as f64 - 20.0, x as f64 - 20.0];
                let radius = 14.0 + 3.0 * (3.0 * dy.atan2(dx)).cos();
                if dy.hypot(dx) < radius {
                    *pixel = label;
                }
            }
        });
        for algorithm in [Algorithm::Stardist, Algorithm::Cellpose, Algorithm::Elephant] {
            assert_eq!(advice(algorithm, &data), "", "{algorithm}");
        }
    }

    #[test]
    fn rods_bent_threads_and_rings_are_named() {
        let rods = data(|labels, label, top| labels.slice_mut(s![top..top + 8, 5..50]).fill(label));
        assert!(advice(Algorithm::Stardist, &rods).starts_with("4 of 4 drawn cells are more than three times"));
        assert_eq!(advice(Algorithm::Cellpose, &rods), "");
        let bent = data(|labels, label, top| {
            labels.slice_mut(s![top..top + 40, 5..10]).fill(label);
            labels.slice_mut(s![top..top + 40, 40..45]).fill(label);
            labels.slice_mut(s![top + 35..top + 40, 5..45]).fill(label);
        });
        assert!(advice(Algorithm::Stardist, &bent).contains("bent or branched"));
        let rings = data(|labels, label, top| {
            labels.slice_mut(s![top..top + 30, 5..35]).fill(label);
            labels.slice_mut(s![top + 12..top + 18, 15..21]).fill(-1);
        });
        assert!(advice(Algorithm::Cellpose, &rings).contains("have holes"));
        assert_eq!(advice(Algorithm::Elephant, &rings), "");
    }

    #[test]
    fn one_odd_cell_among_many_is_not_mentioned() {
        let data = data(|labels, label, top| {
            let columns = if label == 1 { 5..50 } else { 5..13 };
            labels.slice_mut(s![top..top + 8, columns]).fill(label);
        });
        assert_eq!(advice(Algorithm::Stardist, &data), "");
    }
}
