//! Pseudo-labels: cells and background that the drawn ones make plain.
//!
//! A classifier of pixels learns from the drawn cells and the drawn background, says of every pixel how likely it lies in a
//! cell, and is tried on drawn cells that it has not seen. Where it can be trusted, unlabelled regions that resemble a drawn
//! cell in size and shape become cells and clear background becomes background; what is neither stays unlabelled.

mod cells;
mod classifier;
mod features;
mod h_maxima;
mod lookalikes;

use ndarray::{Array2, ArrayView3};
use rayon::prelude::*;

pub use self::cells::part_areas;
use self::cells::{Drawn, add_plain_cells, inside};
use self::classifier::{Classifier, Samples, accuracy_until};
use self::features::PixelFeatures;
pub use self::lookalikes::doubtful_background;
use crate::budget::{array, copied, gathered, reserve};
use crate::control::CancelToken;
use crate::error::Result;
use crate::random::Random;
use crate::raster::LabelImage;

const WHAT: &str = "the search for more cells in a training image";

/// Accuracy on unseen drawn cells from which the classifier is believed about cells and background.
const TRUSTED: f64 = 0.8;

/// Accuracy from which it is believed about what looks least like cells.
const USEFUL: f64 = 0.65;

/// Probability of a cell below which a pixel is background.
const BACKGROUND: f32 = 0.3;

/// A classifier that is only useful takes pixels that look less like cells than the most cell-like fifth of the drawn
/// background.
const TYPICAL: f64 = 0.8;

/// Fewest labelled pixels of each class, and the number that the classifier learns from at most.
const FEWEST: usize = 20;
const MOST: usize = 20_000;

/// The labels `[H, W]` with what the drawn ones make plain in the image `[H, W, C]`: more cells, with new ids above those
/// of the drawn ones, and more background. What was drawn stays as it is.
///
/// When the classifier gets too few unseen drawn cells right, or only one is drawn, no cells are added and only as many
/// background pixels as are labelled, chosen with `seed` among those that look least like cells; without a cell, with
/// fewer than 20 labelled pixels of cells or background, or when pixels do not tell at all, the labels are returned as
/// they are.
pub fn add_pseudo_labels(image: ArrayView3<'_, f32>, labels: &LabelImage, seed: u64) -> LabelImage {
    add_pseudo_labels_until(image, labels, seed, &CancelToken::new()).unwrap_or_else(|_| labels.clone())
}

/// As [`add_pseudo_labels`], and ends early when `cancel` is raised.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled).
pub fn add_pseudo_labels_until(
    image: ArrayView3<'_, f32>,
    labels: &LabelImage,
    seed: u64,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let mut result = copied(labels.view(), WHAT)?;
    let (height, width, _) = image.dim();
    if labels.dim() != (height, width) || labels.iter().all(|label| *label >= 0) {
        return Ok(result);
    }
    let Some(drawn) = Drawn::new_until(labels, cancel)? else { return Ok(result) };
    cancel.check()?;
    let features = PixelFeatures::new(image, drawn.diameter)?;
    cancel.check()?;
    let Some(samples) = samples(&features, labels, &drawn.centers)? else { return Ok(result) };
    cancel.check()?;
    let Some(accuracy) = accuracy_until(&samples, cancel)? else { return Ok(result) };
    let Some(classifier) = Classifier::fit(&samples, |_| true) else { return Ok(result) };
    if accuracy < USEFUL {
        return Ok(result);
    }
    cancel.check()?;
    let probability = probabilities(&features, &classifier, labels.dim())?;
    cancel.check()?;
    if accuracy < TRUSTED || drawn.centers.len() < 2 {
        add_typical_background(&mut result, &probability, seed)?;
        return Ok(result);
    }
    let inside = inside(&probability, labels)?;
    cancel.check()?;
    add_plain_cells(&mut result, &drawn, &inside, cancel)?;
    for ((at, label), probability) in result.indexed_iter_mut().zip(&probability) {
        if *label < 0 && *probability < BACKGROUND && !inside[at] {
            *label = 0;
        }
    }
    Ok(result)
}

/// Labelled pixels, evenly thinned out, in groups of the nearest drawn cell; `None` when a class is too small.
fn samples(features: &PixelFeatures, labels: &LabelImage, centers: &[[f64; 2]]) -> Result<Option<Samples>> {
    let count = |wanted: fn(i32) -> bool| labels.iter().filter(|label| wanted(**label)).count();
    let (cells, background) = (count(|label| label > 0), count(|label| label == 0));
    if cells.min(background) < FEWEST {
        return Ok(None);
    }
    // Each class is thinned out alone, so that the smaller one keeps its pixels.
    let thinning = [background, cells].map(|count| count.div_ceil(MOST / 2));
    let kept = background / thinning[0] + cells / thinning[1];
    let mut samples = Samples {
        features: reserve(kept * features.len(), WHAT)?,
        cell: reserve(kept, WHAT)?,
        group: reserve(kept, WHAT)?,
    };
    let nearest = Nearest::new(centers);
    let mut seen = [0usize; 2];
    let mut row = vec![0.0; features.len()];
    for ((y, x), label) in labels.indexed_iter().filter(|(_, label)| **label >= 0) {
        let class = usize::from(*label > 0);
        seen[class] += 1;
        if seen[class] % thinning[class] != 0 {
            continue;
        }
        features.write(y, x, &mut row);
        samples.features.extend_from_slice(&row);
        samples.cell.push(*label > 0);
        samples.group.push(nearest.to([y as f64, x as f64]));
    }
    Ok(Some(samples))
}

/// Points by their rows, to find the nearest one.
struct Nearest {
    /// `[y, x]` and number, by `y`.
    points: Vec<([f64; 2], usize)>,
}

impl Nearest {
    fn new(points: &[[f64; 2]]) -> Self {
        let mut points: Vec<_> = points.iter().copied().zip(0..).collect();
        points.sort_by(|(a, _), (b, _)| a[0].total_cmp(&b[0]));
        Self { points }
    }

    /// The number of the nearest point, of equally near ones the smallest; 0 without points.
    fn to(&self, at: [f64; 2]) -> usize {
        let first = self.points.partition_point(|(point, _)| point[0] < at[0]);
        let mut best = (f64::INFINITY, 0);
        // Outwards on both sides, until the rows alone are further away than the nearest point so far.
        let mut look = |points: &mut dyn Iterator<Item = &([f64; 2], usize)>| {
            for ([y, x], number) in points {
                let down = (y - at[0]).powi(2);
                if down > best.0 {
                    break;
                }
                let distance = down + (x - at[1]).powi(2);
                if (distance, *number) < best {
                    best = (distance, *number);
                }
            }
        };
        look(&mut self.points[first..].iter());
        look(&mut self.points[..first].iter().rev());
        best.1
    }
}

fn probabilities(features: &PixelFeatures, classifier: &Classifier, shape: (usize, usize)) -> Result<Array2<f32>> {
    let mut map: Array2<f32> = array(shape, WHAT)?;
    map.outer_iter_mut().into_par_iter().enumerate().for_each(|(y, mut line)| {
        let mut row = vec![0.0; features.len()];
        for (x, value) in line.iter_mut().enumerate() {
            features.write(y, x, &mut row);
            *value = classifier.probability(&row);
        }
    });
    Ok(map)
}

fn add_typical_background(labels: &mut LabelImage, probability: &Array2<f32>, seed: u64) -> Result<()> {
    let drawn = || labels.iter().zip(probability).filter(|(label, _)| **label == 0);
    let mut drawn = gathered(drawn().count(), drawn().map(|(_, probability)| *probability), WHAT)?;
    let rank = (drawn.len() as f64 * TYPICAL) as usize;
    let limit = *drawn.select_nth_unstable_by(rank, f32::total_cmp).1;
    let candidates = || probability.indexed_iter().filter(|(at, p)| labels[*at] < 0 && **p <= limit);
    let candidates = gathered(candidates().count(), candidates().map(|(at, _)| at), WHAT)?;
    let most = labels.iter().filter(|label| **label >= 0).count();
    let order = Random::new(seed, 0).shuffled(gathered(candidates.len(), 0..candidates.len(), WHAT)?);
    for index in order.into_iter().take(most) {
        labels[candidates[index]] = 0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::annotations::background_rim;

    const CENTERS: [[i32; 2]; 5] = [[30, 25], [30, 70], [80, 30], [80, 95], [85, 113]];

    fn within(y: usize, x: usize, [v, u]: [i32; 2], radius: i32) -> bool {
        (y as i32 - v).pow(2) + (x as i32 - u).pow(2) <= radius * radius
    }

    /// Bright discs of radius 10, the last two touching, and a speck of radius 3; two discs are drawn, and a stroke.
    fn scene(bright: f32) -> (Array3<f32>, LabelImage) {
        let cell = |y, x| CENTERS.iter().any(|center| within(y, x, *center, 10)) || within(y, x, [55, 55], 3);
        let noise = |y: usize, x: usize| 0.03 * (((y * 7 + x * 13) % 5) as f32 - 2.0);
        let value = |y, x| if cell(y, x) { bright } else { 0.2 };
        let image = Array3::from_shape_fn((110, 130, 1), |(y, x, _)| value(y, x) + noise(y, x));
        let labels = LabelImage::from_shape_fn((110, 130), |(y, x)| match () {
            () if within(y, x, CENTERS[0], 10) => 3,
            () if within(y, x, CENTERS[1], 10) => 8,
            () if y == 5 => 0,
            () => -1,
        });
        (image, background_rim(&labels, 2).unwrap())
    }

    #[test]
    fn what_resembles_the_drawn_cells_becomes_a_cell() {
        let (image, labels) = scene(0.8);
        let completed = add_pseudo_labels(image.view(), &labels, 0);
        for (old, new) in labels.iter().zip(&completed) {
            assert!(*old < 0 || old == new, "what was drawn stays");
        }
        let ids: Vec<i32> = CENTERS[2..].iter().map(|[y, x]| completed[[*y as usize, *x as usize]]).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [9, 10, 11], "three more cells, the touching ones apart: {ids:?}");
        for (center, id) in CENTERS[2..].iter().zip(&ids) {
            let area = completed.iter().filter(|label| *label == id).count();
            assert!((270..=350).contains(&area), "{area} pixels of cell {id} at {center:?}");
        }
        assert!(completed[[55, 55]] <= 0, "a speck is no cell");
        let background = completed.iter().filter(|label| **label == 0).count();
        assert!(background > 10_000, "{background}");
    }

    #[test]
    fn the_nearest_point_is_found() {
        let mut random = Random::new(4, 0);
        let points: Vec<[f64; 2]> = (0..300).map(|_| [0; 2].map(|_: i32| random.uniform(0.0, 40.0).floor())).collect();
        let nearest = Nearest::new(&points);
        for _ in 0..500 {
            let at = [0; 2].map(|_: i32| random.uniform(-5.0, 45.0));
            let distance = |point: &[f64; 2]| (point[0] - at[0]).powi(2) + (point[1] - at[1]).powi(2);
            let slow = (0..300).min_by(|a, b| distance(&points[*a]).total_cmp(&distance(&points[*b])));
            assert_eq!(Some(nearest.to(at)), slow);
        }
        assert_eq!(Nearest::new(&[]).to([1.0, 1.0]), 0);
    }

    #[test]
    fn cancelled_pseudo_labels_end() {
        let (image, labels) = scene(0.8);
        let cancel = CancelToken::new();
        cancel.cancel();
        assert!(add_pseudo_labels_until(image.view(), &labels, 0, &cancel).is_err());
    }

    #[test]
    fn where_pixels_do_not_tell_nothing_is_added() {
        let (image, labels) = scene(0.2);
        assert_eq!(add_pseudo_labels(image.view(), &labels, 0), labels);
        let (image, labels) = scene(0.8);
        let without_cells = labels.mapv(|label| label.min(0));
        assert_eq!(add_pseudo_labels(image.view(), &without_cells, 0), without_cells);
        let without_background = labels.mapv(|label| if label == 0 { -1 } else { label });
        assert_eq!(add_pseudo_labels(image.view(), &without_background, 0), without_background);
        assert_eq!(add_pseudo_labels(Array3::zeros((3, 3, 1)).view(), &labels, 0), labels);
    }

    #[test]
    fn one_drawn_cell_adds_background_only() {
        let (image, labels) = scene(0.8);
        let one = labels.mapv(|label| if label == 8 { -1 } else { label });
        let completed = add_pseudo_labels(image.view(), &one, 3);
        let changes: Vec<_> = one.indexed_iter().zip(&completed).filter(|((_, old), new)| old != new).collect();
        assert!(changes.iter().all(|((_, old), new)| **old == -1 && **new == 0));
        let labelled = one.iter().filter(|label| **label >= 0).count();
        assert_eq!(changes.len(), labelled, "as many as are labelled");
        let cell = |y: usize, x: usize| CENTERS.iter().any(|center| within(y, x, *center, 8));
        assert!(changes.iter().all(|(((y, x), _), _)| !cell(*y, *x)), "never inside a cell");
        assert_ne!(add_pseudo_labels(image.view(), &one, 4), completed, "chosen with the seed");
    }
}
