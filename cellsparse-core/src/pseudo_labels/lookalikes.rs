//! Declared background that looks like the drawn cells.

use std::collections::BTreeSet;

use ndarray::{ArrayView3, s};

use super::cells::{Drawn, add_plain_cells, inside};
use super::classifier::{Classifier, accuracy};
use super::features::PixelFeatures;
use super::{USEFUL, probabilities, samples};
use crate::budget::mapped;
use crate::control::CancelToken;
use crate::error::counted;
use crate::raster::{Component, LabelImage, connected_components};

/// Fewest regions, and fewest a drawn cell, on which a doubt may rest.
const FEWEST: usize = 3;
const SHARE: f64 = 0.5;

/// Declared background covers at least this fraction of an image that is looked at: strokes hide no cells.
const DECLARED: f64 = 0.5;

/// Declared background that is one region may be a cell when it is at least this compact (area by its rectangle), at most this
/// long (side by side of it), within this range of the median area, and stands out by this part of what cells do.
const COMPACT: f64 = 0.5;
const LONG: usize = 3;
const AREAS: (f64, f64) = (0.25, 4.0);
const CONTRAST: f64 = 0.5;

/// Fewest unlabelled pixels around a region that it is compared with.
const AROUND: usize = 8;

/// A sentence for the annotator when many regions of the declared background (0) of the labels `[H, W]` look like the drawn
/// cells in the image `[H, W, C]`, in their pixels, size and shape, as where only some of the cells are drawn and the
/// rest is called background.
///
/// Also when the only declared background is one region as large and compact as a drawn cell, which stands out from the
/// unlabelled pixels around it as they do: the first cell of a file whose cells begin at 1, read as if they began at 2.
///
/// The classifier learns the declared background as such; cells in it are few beside the real one, so their pixels still
/// look more like cells.
pub fn doubtful_background(image: ArrayView3<'_, f32>, labels: &LabelImage) -> Option<String> {
    let (height, width, _) = image.dim();
    let declared = labels.iter().filter(|label| **label == 0).count();
    if labels.dim() != (height, width) {
        return None;
    }
    if (declared as f64) < DECLARED * labels.len() as f64 {
        return lone_lookalike(image, labels);
    }
    let drawn = Drawn::new(labels)?;
    let features = PixelFeatures::new(image, drawn.diameter).ok()?;
    let samples = samples(&features, labels, &drawn.centers).ok()??;
    let classifier = Classifier::fit(&samples, |_| true).filter(|_| accuracy(&samples).is_some_and(|a| a >= USEFUL))?;
    let probability = probabilities(&features, &classifier, labels.dim()).ok()?;
    let mut open = mapped(labels.view(), "a label image", |label| if label > 0 { label } else { -1 }).ok()?;
    let inside = inside(&probability, &open).ok()?;
    add_plain_cells(&mut open, &drawn, &inside, &CancelToken::new()).ok()?;
    let there: BTreeSet<i32> = labels.iter().copied().filter(|label| *label > 0).collect();
    let found: BTreeSet<i32> = open.iter().copied().filter(|label| *label > 0).collect();
    let alike = found.len() - there.len();
    (alike >= FEWEST && alike as f64 >= SHARE * there.len() as f64).then(|| {
        format!(
            "{alike} regions of what is declared background look like the {}. If they are cells that were not \
             drawn, say so with label encoding 'cells', or leave them unlabelled: as background they are unlearned.",
            if there.len() == 1 { "drawn cell".into() } else { counted(there.len(), "drawn cell") }
        )
    })
}

/// The sentence for declared background that is a single region like a cell.
fn lone_lookalike(image: ArrayView3<'_, f32>, labels: &LabelImage) -> Option<String> {
    let components = connected_components(labels, |label| label >= 0).ok()?;
    let mut background = components.parts.iter().filter(|part| part.label == 0);
    let (Some(one), None) = (background.next(), background.next()) else { return None };
    let cells: Vec<&Component> = components.parts.iter().filter(|part| part.label > 0).collect();
    let mut areas: Vec<usize> = cells.iter().map(|cell| cell.area).collect();
    areas.sort_unstable();
    let ratio = one.area as f64 / *areas.get(areas.len() / 2)? as f64;
    let [top, left, bottom, right] = one.bounds;
    let (rows, columns) = (bottom - top + 1, right - left + 1);
    let compact = one.area as f64 >= COMPACT * (rows * columns) as f64;
    if !compact || rows.max(columns) > LONG * rows.min(columns) || !(AREAS.0..=AREAS.1).contains(&ratio) {
        return None;
    }
    let contrasts: Vec<Vec<Contrast>> = cells.iter().filter_map(|cell| contrast(image, labels, cell)).collect();
    let own = contrast(image, labels, one)?;
    // The channel in which cells stand out most, by their median.
    let (channel, typical, clear) = (0..image.dim().2)
        .filter_map(|channel| {
            let mut of_cells: Vec<Contrast> = contrasts.iter().map(|cell| cell[channel]).collect();
            of_cells.sort_by(|a, b| a.step.total_cmp(&b.step));
            let middle = of_cells.get(of_cells.len() / 2)?;
            Some((channel, middle.step, middle.step.abs() / middle.spread.max(f64::MIN_POSITIVE)))
        })
        .max_by(|a, b| a.2.total_cmp(&b.2))?;
    let names: BTreeSet<i32> = cells.iter().map(|cell| cell.label).collect();
    (clear >= CONTRAST && own[channel].step / typical >= CONTRAST).then(|| {
        format!(
            "What is declared background is one region that is as large as the drawn {} and stands out from its surroundings \
             alike. If it is a cell, use label encoding 'cells' (others may be undrawn) or label encoding 'dense' (all are \
             drawn).",
            if names.len() == 1 { "cell".into() } else { counted(names.len(), "cell") }
        )
    })
}

/// How a region stands out from the unlabelled pixels around it, in one channel.
#[derive(Debug, Clone, Copy)]
struct Contrast {
    /// Mean of the region less that around it.
    step: f64,
    /// Standard deviation around it.
    spread: f64,
}

/// The contrast of a region in every channel; none without enough unlabelled pixels around it.
fn contrast(image: ArrayView3<'_, f32>, labels: &LabelImage, part: &Component) -> Option<Vec<Contrast>> {
    let [top, left, bottom, right] = part.bounds;
    let rim = ((bottom - top).min(right - left) / 3).max(3);
    let (height, width) = labels.dim();
    let (rows, columns) = (
        top.saturating_sub(rim)..(bottom + 1 + rim).min(height),
        left.saturating_sub(rim)..(right + 1 + rim).min(width),
    );
    let labels = labels.slice(s![rows.clone(), columns.clone()]);
    let of_channel = |channel: usize| {
        let pixels = image.slice(s![rows.clone(), columns.clone(), channel]);
        let (mut inside, mut around, mut squares, mut counts) = (0.0, 0.0, 0.0, [0_usize; 2]);
        for (label, value) in labels.iter().zip(pixels) {
            let value = f64::from(*value);
            if *label == part.label {
                inside += value;
                counts[0] += 1;
            } else if *label < 0 {
                around += value;
                squares += value * value;
                counts[1] += 1;
            }
        }
        let [own, others] = counts.map(|count| count as f64);
        let mean = around / others;
        let spread = (squares / others - mean * mean).max(0.0).sqrt();
        (counts[0] > 0 && counts[1] >= AROUND).then(|| Contrast { step: inside / own - mean, spread })
    };
    (0..image.dim().2).map(of_channel).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn undrawn_cells_in_declared_background_are_noticed() {
        let centers = |at: usize| (20 + 30 * (at / 4) as i32, 20 + 30 * (at % 4) as i32);
        let within = |y: usize, x: usize, at: usize| {
            let (v, u) = centers(at);
            (y as i32 - v).pow(2) + (x as i32 - u).pow(2) <= 81
        };
        let noise = |y: usize, x: usize| 0.03 * (((y * 7 + x * 13) % 5) as f32 - 2.0);
        let image = Array3::from_shape_fn((130, 130, 1), |(y, x, _)| {
            noise(y, x) + if (0..16).any(|at| within(y, x, at)) { 0.8 } else { 0.2 }
        });
        let labels = |drawn: usize, rest: i32| {
            LabelImage::from_shape_fn((130, 130), |(y, x)| {
                (0..drawn).find(|at| within(y, x, *at)).map_or(rest, |at| at as i32 + 1)
            })
        };
        let text = doubtful_background(image.view(), &labels(4, 0)).unwrap();
        assert!(text.contains("12 regions") && text.contains("the 4 drawn cells"), "{text}");
        assert_eq!(doubtful_background(image.view(), &labels(16, 0)), None, "all are drawn");
        assert_eq!(doubtful_background(image.view(), &labels(4, -1)), None, "nothing is declared");
        assert_eq!(doubtful_background(image.view(), &labels(0, 0)), None);
    }

    #[test]
    fn a_cell_that_is_read_as_the_background_is_noticed() {
        let disc =
            |y: usize, x: usize, at: usize| (y as i32 - 20).pow(2) + (x as i32 - 20 - 30 * at as i32).pow(2) <= 64;
        let noise = |y: usize, x: usize| 0.03 * (((y * 7 + x * 13) % 5) as f32 - 2.0);
        for sign in [1.0, -1.0] {
            let image = Array3::from_shape_fn((90, 100, 1), |(y, x, _)| {
                noise(y, x) + sign * if (0..3).any(|at| disc(y, x, at)) { 0.8 } else { 0.2 }
            });
            let labels = |cells: usize| {
                LabelImage::from_shape_fn((90, 100), |(y, x)| {
                    (0..cells).find(|at| disc(y, x, *at)).map_or(-1, |at| at as i32)
                })
            };
            let text = doubtful_background(image.view(), &labels(3)).unwrap();
            assert!(text.contains("the drawn 2 cells") && text.contains("label encoding 'cells'"), "{text}");
            assert!(doubtful_background(image.view(), &labels(2)).unwrap().contains("the drawn cell "));
            // A patch of plain background of the same shape, and strokes.
            let cell = labels(3).mapv(|label| if label == 0 { -1 } else { label });
            let patch = |tops: &[usize]| {
                LabelImage::from_shape_fn((90, 100), |(y, x)| {
                    let inside = |top: &usize| (*top..top + 12).contains(&y) && (10..25).contains(&x);
                    if tops.iter().any(inside) { 0 } else { cell[[y, x]] }
                })
            };
            assert_eq!(doubtful_background(image.view(), &patch(&[50])), None);
            assert_eq!(doubtful_background(image.view(), &patch(&[45, 70])), None);
        }
    }
}
