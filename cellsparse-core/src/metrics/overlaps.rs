//! Shared pixels of the objects of two label images, stored sparsely.

use super::assignment::Pair;
use super::matching::Criterion;
use crate::error::{Error, Result};
use crate::raster::LabelImage;

/// Pixel counts of true objects (rows), predicted objects (columns) and of every pair that shares pixels.
pub(super) struct Overlaps {
    /// Ids of the true objects, ascending.
    pub true_ids: Vec<i32>,
    /// Ids of the predicted objects, ascending.
    pub pred_ids: Vec<i32>,
    true_sizes: Vec<usize>,
    pred_sizes: Vec<usize>,
    /// Row, column and number of shared pixels, sorted by row, then column.
    shared: Vec<(usize, usize, usize)>,
}

impl Overlaps {
    /// Counts pixels where `y_true` is labelled (not below 0).
    ///
    /// # Errors
    /// [`Error::Labels`] if the sizes differ or `y_pred` has a pixel below 0.
    pub fn new(y_true: &LabelImage, y_pred: &LabelImage) -> Result<Self> {
        if y_true.dim() != y_pred.dim() {
            let ((th, tw), (ph, pw)) = (y_true.dim(), y_pred.dim());
            return Err(Error::Labels(format!(
                "the true labels are {th} x {tw} and the predicted ones {ph} x {pw}; they must have one size"
            )));
        }
        if let Some(id) = y_pred.iter().find(|id| **id < 0) {
            return Err(Error::Labels(format!("the predicted labels hold {id}; predictions are 0 or an object id")));
        }
        let mut runs: Vec<(i32, i32, usize)> = pair_runs(y_true, y_pred).filter(|(t, ..)| *t >= 0).collect();
        runs.sort_unstable();
        let (true_ids, true_sizes) = sizes(runs.iter().map(|run| (run.0, run.2)).collect());
        let (pred_ids, pred_sizes) = sizes(runs.iter().map(|run| (run.1, run.2)).collect());
        let mut shared: Vec<(usize, usize, usize)> = Vec::new();
        for (t, p, pixels) in runs {
            let (Ok(row), Ok(column)) = (true_ids.binary_search(&t), pred_ids.binary_search(&p)) else { continue };
            match shared.last_mut() {
                Some(last) if (last.0, last.1) == (row, column) => last.2 += pixels,
                _ => shared.push((row, column, pixels)),
            }
        }
        Ok(Self { true_ids, pred_ids, true_sizes, pred_sizes, shared })
    }

    /// The scores of all pairs that share pixels, sorted by row, then column.
    pub fn scores(&self, criterion: Criterion) -> Vec<Pair> {
        let score = |row: usize, column: usize, pixels: usize| {
            let divisor = match criterion {
                Criterion::Iou => self.true_sizes[row] + self.pred_sizes[column] - pixels,
                Criterion::Iot => self.true_sizes[row],
                Criterion::Iop => self.pred_sizes[column],
            };
            (pixels as f64 / divisor as f64) as f32
        };
        let pair = |&(row, column, pixels): &_| Pair { row, column, score: score(row, column, pixels) };
        self.shared.iter().map(pair).collect()
    }
}

/// The values of two label images at the same pixels in raster order, each pair with the number of neighbours that repeat it: mostly
/// many, so that what is done for every pair is done seldom.
pub(crate) fn pair_runs<'a>(
    one: &'a LabelImage,
    other: &'a LabelImage,
) -> impl Iterator<Item = (i32, i32, usize)> + use<'a> {
    let mut pairs = one.iter().copied().zip(other.iter().copied()).peekable();
    std::iter::from_fn(move || {
        let pair = pairs.next()?;
        let mut pixels = 1;
        while pairs.next_if_eq(&pair).is_some() {
            pixels += 1;
        }
        Some((pair.0, pair.1, pixels))
    })
}

/// The ids above 0, ascending, with the sum of their pixels.
fn sizes(mut counts: Vec<(i32, usize)>) -> (Vec<i32>, Vec<usize>) {
    counts.retain(|&(id, _)| id > 0);
    counts.sort_unstable();
    let (mut ids, mut pixels): (Vec<i32>, Vec<usize>) = (Vec::new(), Vec::new());
    for (id, count) in counts {
        match pixels.last_mut() {
            Some(last) if ids.last() == Some(&id) => *last += count,
            _ => {
                ids.push(id);
                pixels.push(count);
            }
        }
    }
    (ids, pixels)
}
