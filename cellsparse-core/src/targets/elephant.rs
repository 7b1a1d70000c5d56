//! ELEPHANT targets: background, border and centre of cells.
//!
//! The three classes of Sugawara, Cevrim and Averof, "Tracking cell lineages in 3D by incremental deep learning",
//! eLife 11, 2022, from a label image instead of drawn ellipses.

use std::collections::{BTreeMap, HashMap};

use ndarray::{ArrayView2, Zip, s};

use crate::budget::{array, copied, mapped};
use crate::error::{Error, Result};
use crate::geometry::distance::try_label_distances;
use crate::geometry::ellipse::{Ellipse, Moments, symmetric_eigen};
use crate::raster::LabelImage;

const WHAT: &str = "what ELEPHANT learns from a label image";

/// The target of a pixel that teaches nothing.
pub const IGNORED: i32 = -1;

/// The target of background pixels.
pub const BACKGROUND: i32 = 0;

/// The target of the outer part of cells.
pub const RIM: i32 = 1;

/// The target of the inner part of cells.
pub const CENTER: i32 = 2;

/// How a cell is divided into border and centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClassRule {
    /// The rule of the original: both classes are filled ellipses with the second moments of the annotated cell,
    /// whatever its outline. A cell without width (one pixel, a straight row or column) gets no class of its own.
    Ellipse {
        /// Radii of the centre as a fraction of those of the cell, greater than 0. 0.5 in the original.
        center_ratio: f64,
        /// Smallest number of pixels of either ellipse; smaller ones grow. 9 in the original.
        min_area: usize,
    },
    /// The annotated outline: the centre is where the distance to the outside of the cell is above `center_ratio` times
    /// the largest such distance in the cell, the border is the rest. Every cell keeps a centre, and a border wherever
    /// it is more than two pixels across.
    Outline {
        /// From 0 to below 1. An ellipse keeps a centre of half its size with 0.5.
        center_ratio: f64,
    },
}

impl ClassRule {
    /// The rule and the numbers of the original.
    pub const REFERENCE: Self = ClassRule::Ellipse { center_ratio: 0.5, min_area: 9 };
}

impl Default for ClassRule {
    fn default() -> Self {
        ClassRule::Outline { center_ratio: 0.5 }
    }
}

/// The class of every pixel of a label image `[H, W]`: [`IGNORED`], [`BACKGROUND`], [`RIM`] or [`CENTER`].
///
/// In a label image with unlabelled pixels (below 0), only pixels labelled 0 are background. In one without, everything
/// outside the borders and centres is. Later ids are written over earlier ones where ellipses overlap.
///
/// # Errors
/// [`Error::Config`] for a ratio out of range, [`Error::Limit`] where there is no memory.
pub fn class_labels(labels: ArrayView2<'_, i32>, rule: &ClassRule) -> Result<LabelImage> {
    let sparse = labels.iter().any(|label| *label < 0);
    let mut classes = mapped(labels, WHAT, |label| if sparse && label != 0 { IGNORED } else { BACKGROUND })?;
    match *rule {
        ClassRule::Ellipse { center_ratio, min_area } => {
            if !(center_ratio.is_finite() && center_ratio > 0.0) {
                return Err(Error::Config(format!("the centre ratio is {center_ratio}; it must be greater than 0")));
            }
            let mut regions: BTreeMap<i32, Moments> = BTreeMap::new();
            for ((y, x), label) in labels.indexed_iter().filter(|(_, label)| **label > 0) {
                regions.entry(*label).or_default().add(y, x);
            }
            for moments in regions.values() {
                draw_cell(&mut classes, moments, center_ratio, min_area);
            }
        }
        ClassRule::Outline { center_ratio } => {
            if !(0.0..1.0).contains(&center_ratio) {
                return Err(Error::Config(format!("the centre ratio is {center_ratio}; it must be from 0 to below 1")));
            }
            divide_cells(&mut classes, labels, center_ratio)?;
        }
    }
    Ok(classes)
}

/// Draws border and centre of one cell as ellipses.
fn draw_cell(classes: &mut LabelImage, moments: &Moments, center_ratio: f64, min_area: usize) {
    let (values, axes) = symmetric_eigen(moments.covariance());
    if !values.iter().all(|value| *value > 0.0) {
        return;
    }
    let (height, width) = classes.dim();
    let shape = [height, width];
    let whole = Ellipse { center: moments.centroid(), radii: values.map(|value| 2.0 * value.sqrt()), axes };
    // An image that is smaller than the smallest area is covered whole.
    let enough = min_area.min(classes.len());
    let outer = grown(whole, shape, enough);
    let inner = grown(whole.scaled(center_ratio), shape, enough);
    outer.for_each_pixel(shape, 1.0, |y, x, _| write_rim(&mut classes[[y, x]]));
    inner.for_each_pixel(shape, 1.0, |y, x, _| {
        let (rows, columns) =
            (y.saturating_sub(1)..=(y + 1).min(height - 1), x.saturating_sub(1)..=(x + 1).min(width - 1));
        classes.slice_mut(s![rows, columns]).fill(RIM);
    });
    inner.for_each_pixel(shape, 1.0, |y, x, _| classes[[y, x]] = CENTER);
}

/// An ellipse that is written over background and unlabelled pixels only.
fn write_rim(class: &mut i32) {
    if *class < RIM {
        *class = RIM;
    }
}

/// The ellipse, enlarged by tenths until it holds `enough` pixels of the image.
fn grown(mut ellipse: Ellipse, shape: [usize; 2], enough: usize) -> Ellipse {
    let whole = ellipse;
    let mut factor = 1.0f64;
    while ellipse.pixels(shape) < enough && factor.is_finite() {
        factor *= 1.1;
        ellipse = whole.scaled(factor);
    }
    ellipse
}

/// Divides cells by the distance to their outlines.
fn divide_cells(classes: &mut LabelImage, labels: ArrayView2<'_, i32>, center_ratio: f64) -> Result<()> {
    let mut distances = try_label_distances(labels)?;
    if distances.first().is_some_and(|distance| distance.is_infinite()) {
        // One cell covers the image: its outline is the border of the image.
        let (height, width) = labels.dim();
        let mut padded: LabelImage = array((height + 2, width + 2), WHAT)?;
        padded.slice_mut(s![1..=height, 1..=width]).assign(&labels);
        distances = copied(try_label_distances(padded.view())?.slice(s![1..=height, 1..=width]), WHAT)?;
    }
    let mut largest: HashMap<i32, f64> = HashMap::new();
    for (&label, &distance) in labels.iter().zip(&distances).filter(|(label, _)| **label > 0) {
        let entry = largest.entry(label).or_insert(0.0);
        *entry = entry.max(distance);
    }
    let limits: HashMap<i32, f64> = largest
        .into_iter()
        .map(|(label, largest)| {
            let limit = center_ratio * largest;
            // The outermost pixels are border wherever there are others.
            (label, if largest > 1.0 { limit.max(1.0) } else { limit })
        })
        .collect();
    Zip::from(classes).and(labels).and(&distances).for_each(|class, label, distance| {
        if let Some(limit) = limits.get(label) {
            *class = if distance > limit { CENTER } else { RIM };
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    const OUTLINE: ClassRule = ClassRule::Outline { center_ratio: 0.5 };

    #[test]
    fn one_unlabelled_pixel_makes_the_background_explicit() {
        let mut labels = LabelImage::zeros((20, 20));
        labels.slice_mut(s![5..14, 6..15]).fill(3);
        for rule in [ClassRule::REFERENCE, OUTLINE] {
            let dense = class_labels(labels.view(), &rule).unwrap();
            assert_eq!((dense[[0, 0]], dense[[9, 10]], dense[[5, 10]]), (BACKGROUND, CENTER, RIM), "{rule:?}");
            let mut sparse = labels.clone();
            sparse[[0, 0]] = -1;
            let sparse = class_labels(sparse.view(), &rule).unwrap();
            assert_eq!((sparse[[0, 0]], sparse[[0, 1]], sparse[[9, 10]]), (IGNORED, BACKGROUND, CENTER), "{rule:?}");
        }
    }

    #[test]
    fn the_outline_rule_keeps_to_the_outline() {
        let mut labels = LabelImage::from_elem((16, 24), -1);
        labels.slice_mut(s![2..9, 2..9]).fill(4);
        labels.slice_mut(s![2..9, 9..11]).fill(9);
        labels[[12, 3]] = 1;
        labels.slice_mut(s![12.., 10..]).fill(0);
        let classes = class_labels(labels.view(), &OUTLINE).unwrap();
        for (class, label) in classes.iter().zip(&labels) {
            assert_eq!(*class >= RIM, *label > 0);
            assert_eq!(*class == BACKGROUND, *label == 0);
        }
        // Distances in the square of 7 pixels go from 1 to 4.
        assert_eq!(classes.slice(s![4..7, 4..7]), Array2::from_elem((3, 3), CENTER));
        assert!(classes.slice(s![2..9, 2..4]).iter().all(|class| *class == RIM));
        // Cells of one and two pixels across are all centre.
        assert!(classes[[12, 3]] == CENTER && classes[[5, 9]] == CENTER);
    }

    #[test]
    fn odd_inputs_have_an_answer() {
        for rule in [ClassRule::REFERENCE, OUTLINE] {
            for shape in [(0, 0), (0, 4), (4, 0)] {
                assert_eq!(class_labels(LabelImage::ones(shape).view(), &rule).unwrap().dim(), shape);
            }
            // One cell covers a small image.
            let all = class_labels(LabelImage::from_elem((2, 3), i32::MAX).view(), &rule).unwrap();
            assert!(all.iter().all(|class| *class >= RIM), "{rule:?}: {all}");
        }
        assert_eq!(class_labels(array![[-5, 0, 7]].view(), &ClassRule::REFERENCE).unwrap(), array![[-1, 0, -1]]);
        assert_eq!(class_labels(array![[7]].view(), &OUTLINE).unwrap(), array![[CENTER]]);
        for wrong in [f64::NAN, 0.0, -1.0] {
            let rule = ClassRule::Ellipse { center_ratio: wrong, min_area: 9 };
            assert!(class_labels(array![[0]].view(), &rule).is_err());
        }
        assert!(class_labels(array![[0]].view(), &ClassRule::Outline { center_ratio: 1.0 }).is_err());
    }
}
