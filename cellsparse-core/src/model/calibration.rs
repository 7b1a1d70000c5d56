//! Annotated images, or the parts of them that are annotated, on which thresholds are chosen at the end of a training.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array2, ArrayView3, s};

use super::network::Network;
use super::options::TrainOptions;
use super::work::Work;
use super::working_scale::Nearest;
use crate::annotations::{Dataset, SparseLabels, forget_cut_objects};
use crate::budget::copied;
use crate::control::CancelToken;
use crate::error::Result;
use crate::raster::{Image, LabelImage};

/// Images that thresholds are chosen on, at most.
const IMAGES: usize = 16;

/// Pixels that thresholds are chosen on, as the network sees them: of all images together, and bounds of what each of them may
/// have.
const PIXELS: usize = 1 << 24;
const PIXELS_OF_ONE: [usize; 2] = [1 << 20, 1 << 22];

/// Drawn cells that say enough about thresholds, in all images together: of more, a part is judged.
const CELLS: usize = 4096;

/// Pixels of what is judged when nobody waits, at most: as the network sees them, and of the image.
const SEEN_AT_ONCE: f64 = 16_384.0;
const AT_ONCE: f64 = 65_536.0;

/// Side of the blocks in whose steps the part of an image is looked for that is judged.
const BLOCK: usize = 64;

/// Images that thresholds are chosen on, with what is known of them.
///
/// Of a large image, the part with most of the drawn cells is judged: how sure a network is of its objects shows there, and
/// it takes the same time for an image of any size.
pub(super) struct CalibrationSet<'a> {
    images: Vec<Part<'a>>,
    normalized: bool,
}

/// A part of an image, and what is known of it `[H, W]`.
struct Part<'a> {
    image: Cow<'a, Image>,
    window: [Range<usize>; 2],
    labels: LabelImage,
}

impl<'a> CalibrationSet<'a> {
    /// Some images of `set`, which a network sees at `scale`. What was drawn counts, and where nothing was drawn what
    /// `completed` says, the labels that the network was trained on.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory.
    pub fn new(set: &'a Dataset, completed: Option<&[LabelImage]>, scale: f64, options: &TrainOptions) -> Result<Self> {
        let step = set.len().div_ceil(IMAGES).max(1);
        let count = set.len().div_ceil(step).max(1);
        let most = (PIXELS / count).clamp(PIXELS_OF_ONE[0], PIXELS_OF_ONE[1]);
        let most = (most as f64 / scale.powi(2).max(1.0)) as usize;
        let known = |index: usize| {
            let whole = set.labels()[index].labels();
            let window = busiest(whole, enough(&set.labels()[index], most, count));
            let [rows, columns] = window.clone();
            let mut labels =
                copied(whole.slice(s![rows.clone(), columns.clone()]), "labels that thresholds are chosen on")?;
            if let Some(completed) = completed.and_then(|completed| completed.get(index)) {
                let source = Nearest::new(completed.dim(), whole.dim());
                labels.indexed_iter_mut().filter(|(_, label)| **label < 0).for_each(|((y, x), label)| {
                    *label = completed[source.of(y + rows.start, x + columns.start)];
                });
            }
            forget_cut_objects(&mut labels, &window, whole.dim());
            Ok(Part { image: Cow::Borrowed(&set.images()[index]), window, labels })
        };
        let images = (0..set.len()).step_by(step).map(known).collect::<Result<_>>()?;
        Ok(Self { images, normalized: options.normalized })
    }

    /// The part with most of the drawn cells that is judged at once by a network that sees it at `scale`, ready for it; `None`
    /// where none of the cells is whole.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) for an unusable image, [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn excerpt(
        &self,
        network: &Network,
        scale: f64,
        cancel: &CancelToken,
    ) -> Result<Option<CalibrationSet<'static>>> {
        let drawn = |part: &&Part<'_>| part.labels.iter().filter(|label| **label > 0).count();
        let Some(Part { image, window, labels }) = self.images.iter().max_by_key(drawn) else { return Ok(None) };
        let inside = busiest(labels, at_once(scale));
        let [rows, columns] = inside.clone();
        let mut known = labels.slice(s![rows.clone(), columns.clone()]).to_owned();
        forget_cut_objects(&mut known, &inside, labels.dim());
        if known.iter().all(|label| *label <= 0) {
            return Ok(None);
        }
        let image = network.input(image, self.normalized, cancel)?;
        let [top, left] = [window[0].start, window[1].start];
        let place = s![top + rows.start..top + rows.end, left + columns.start..left + columns.end, ..];
        let part = Part {
            image: Cow::Owned(Image::F32(image.slice(place).to_owned())),
            window: [0..known.nrows(), 0..known.ncols()],
            labels: known,
        };
        Ok(Some(CalibrationSet { images: vec![part], normalized: true }))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Pixels that are judged.
    pub fn pixels(&self) -> f64 {
        self.images.iter().map(|part| part.labels.len() as f64).sum()
    }

    /// What the network says about each part, with what is known of it. `scale_for` gives the scale at which an image is seen,
    /// `predict` what the network says about a part of it at that scale.
    pub fn predicted<T>(
        &self,
        network: &Network,
        work: &Work<'_>,
        scale_for: impl Fn(ArrayView3<'_, f32>) -> Result<f64>,
        predict: impl Fn(ArrayView3<'_, f32>, f64) -> Result<T>,
    ) -> Result<Vec<(T, &LabelImage)>> {
        let mut found = Vec::new();
        for Part { image, window: [rows, columns], labels } in &self.images {
            work.cancel.check()?;
            let image = network.input(image, self.normalized, &work.cancel)?;
            let scale = scale_for(image.view())?;
            found.push((predict(image.slice(s![rows.clone(), columns.clone(), ..]), scale)?, labels));
        }
        Ok(found)
    }
}

/// Pixels of an image, which a network sees at `scale`, that are judged in a moment.
pub(super) fn at_once(scale: f64) -> usize {
    (SEEN_AT_ONCE / scale.powi(2)).min(AT_ONCE) as usize
}

/// Pixels of one of `images` images to look at, `most` at most: fewer where these hold more cells than are needed.
pub(super) fn enough(labels: &SparseLabels, most: usize, images: usize) -> usize {
    let cells = (CELLS / images.max(1)) as f64 / labels.object_count().max(1) as f64;
    most.min((labels.labels().len() as f64 * cells).ceil() as usize)
}

/// The part of at most `most` pixels with most pixels of objects; the whole image when it is not larger.
pub(super) fn busiest(labels: &LabelImage, most: usize) -> [Range<usize>; 2] {
    let (height, width) = labels.dim();
    if height.saturating_mul(width) <= most {
        return [0..height, 0..width];
    }
    let side = (most as f64).sqrt() as usize;
    let rows = side.clamp(1, height.max(1)).max((most / width.max(1)).min(height));
    let columns = (most / rows.max(1)).clamp(1, width.max(1));
    let blocks = [height.div_ceil(BLOCK), width.div_ceil(BLOCK)];
    // Pixels of objects in all blocks above and to the left.
    let mut sums = Array2::<u64>::zeros((blocks[0] + 1, blocks[1] + 1));
    for ((y, x), _) in labels.indexed_iter().filter(|(_, label)| **label > 0) {
        sums[[y / BLOCK + 1, x / BLOCK + 1]] += 1;
    }
    for y in 1..=blocks[0] {
        for x in 1..=blocks[1] {
            sums[[y, x]] += sums[[y - 1, x]] + sums[[y, x - 1]] - sums[[y - 1, x - 1]];
        }
    }
    let place = |at: usize, side: usize, of: usize| (at * BLOCK).min(of - side);
    let mut best = (0, [0, 0]);
    for y in 0..blocks[0] {
        for x in 0..blocks[1] {
            let [top, left] = [place(y, rows, height), place(x, columns, width)];
            let [first, second] = [top.div_ceil(BLOCK), left.div_ceil(BLOCK)];
            let [bottom, right] = [(top + rows) / BLOCK, (left + columns) / BLOCK];
            let [bottom, right] = [bottom.max(first), right.max(second)];
            let inside = sums[[bottom, right]] + sums[[first, second]] - sums[[first, right]] - sums[[bottom, second]];
            if inside > best.0 {
                best = (inside, [top, left]);
            }
        }
    }
    let [top, left] = best.1;
    [top..top + rows, left..left + columns]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_with_most_drawn_pixels_is_judged() {
        let mut labels = LabelImage::from_elem((1000, 700), -1);
        labels.slice_mut(s![800..840, 500..540]).fill(3);
        labels.slice_mut(s![10..20, 10..20]).fill(1);
        assert_eq!(busiest(&labels, 700_000), [0..1000, 0..700]);
        let [rows, columns] = busiest(&labels, 40_000);
        assert!(rows.len() * columns.len() <= 40_000 && rows.len() * columns.len() > 30_000, "{rows:?} {columns:?}");
        assert!(rows.start <= 800 && rows.end >= 840 && columns.start <= 500 && columns.end >= 540);
        // A long image gives a long part, an image without objects any.
        let [rows, columns] = busiest(&LabelImage::zeros((10, 9000)), 20_000);
        assert_eq!((rows, columns.len()), (0..10, 2000));
        assert_eq!(busiest(&LabelImage::zeros((3, 0)), 0), [0..3, 0..0]);
    }

    #[test]
    fn of_very_many_cells_a_part_is_judged() {
        let lattice = |count: usize| {
            let labels = LabelImage::from_shape_fn((400, 400), |(y, x)| {
                let id = y / 4 * 100 + x / 4;
                if id < count && y % 4 < 3 && x % 4 < 3 { id as i32 + 1 } else { 0 }
            });
            SparseLabels::from_signed(labels).unwrap()
        };
        assert!(enough(&lattice(4000), 1 << 20, 1) >= 160_000, "all of them");
        assert_eq!(enough(&lattice(8192), 1 << 20, 1), 80_000);
        assert_eq!(enough(&lattice(8192), 1 << 10, 2), 1 << 10);
    }
}
