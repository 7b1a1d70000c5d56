//! Declared background that looks like the drawn cells.

use std::collections::BTreeSet;

use ndarray::ArrayView3;

use super::cells::{Drawn, add_plain_cells, inside};
use super::classifier::{Classifier, accuracy};
use super::features::PixelFeatures;
use super::{USEFUL, probabilities, samples};
use crate::control::CancelToken;
use crate::raster::LabelImage;

/// Fewest regions, and fewest a drawn cell, on which a doubt may rest.
const FEWEST: usize = 3;
const SHARE: f64 = 0.5;

/// Declared background covers at least this fraction of an image that is looked at: strokes hide no cells.
const DECLARED: f64 = 0.5;

/// A sentence for the annotator when many regions of the declared background (0) of the labels `[H, W]` look like the drawn
/// cells in the image `[H, W, C]`, in their pixels, size and shape, as where only some of the cells are drawn and the
/// rest is called background.
///
/// The classifier learns the declared background as such; cells in it are few beside the real one, so their pixels still
/// look more like cells.
pub fn doubtful_background(image: ArrayView3<'_, f32>, labels: &LabelImage) -> Option<String> {
    let (height, width, _) = image.dim();
    let declared = labels.iter().filter(|label| **label == 0).count();
    if labels.dim() != (height, width) || (declared as f64) < DECLARED * labels.len() as f64 {
        return None;
    }
    let drawn = Drawn::new(labels)?;
    let features = PixelFeatures::new(image, drawn.diameter);
    let samples = samples(&features, labels, &drawn.centers)?;
    let classifier = Classifier::fit(&samples, |_| true).filter(|_| accuracy(&samples).is_some_and(|a| a >= USEFUL))?;
    let probability = probabilities(&features, &classifier, labels.dim());
    let mut open = labels.mapv(|label| if label > 0 { label } else { -1 });
    let inside = inside(&probability, &open);
    add_plain_cells(&mut open, &drawn, &inside, &CancelToken::new()).ok()?;
    let there: BTreeSet<i32> = labels.iter().copied().filter(|label| *label > 0).collect();
    let found: BTreeSet<i32> = open.iter().copied().filter(|label| *label > 0).collect();
    let alike = found.len() - there.len();
    (alike >= FEWEST && alike as f64 >= SHARE * there.len() as f64).then(|| {
        format!(
            "{alike} regions of what is declared background look like the {} drawn cells. If they are cells that were not \
             drawn, say so with label encoding 'cells', or leave them unlabelled: as background they are unlearned.",
            there.len()
        )
    })
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
}
