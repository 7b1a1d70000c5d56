//! A simulated annotator: a few objects of a fully labelled image, and background strokes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ndarray::{Array2, ArrayView3, Axis};

use super::encoding_check::refuse_mask;
use crate::error::{Error, Result, counted};
use crate::raster::LabelImage;

/// How far up and to the left the background strokes lie from the cells they copy, in pixels.
const SHIFT: usize = 10;

/// Which objects the annotator picks, by their mean intensity. All modes pick up to `2 * k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SparsifyMode {
    /// The darkest.
    Min,
    /// The brightest.
    Max,
    /// The `k` darkest and the `k` brightest.
    #[default]
    MinMax,
}

impl fmt::Display for SparsifyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SparsifyMode::Min => "min",
            SparsifyMode::Max => "max",
            SparsifyMode::MinMax => "minmax",
        })
    }
}

impl FromStr for SparsifyMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "min" => Ok(SparsifyMode::Min),
            "max" => Ok(SparsifyMode::Max),
            "minmax" => Ok(SparsifyMode::MinMax),
            other => Err(Error::Config(format!("unknown mode '{other}'; the modes are min, max and minmax"))),
        }
    }
}

/// Keeps up to `2 * k` objects of a dense label image `[H, W]` with their ids and makes everything else -1 (unlabelled).
///
/// Objects are ranked by their mean intensity in `image` `[H, W, C]`, the mean over the channels when there are several;
/// of equal ones the lower id ranks lower. Objects whose pixels lie on one straight line (a single pixel too) are never
/// picked. With `background`, the pixels of the kept objects shifted 10 up and 10 left, cut at the border, become 0
/// where the dense labels are 0. This is `to_sparse` of the reference.
///
/// # Errors
/// [`Error::Config`] for `k = 0`; [`Error::Labels`] when the shapes differ, there is no object, or none that can be
/// picked, or for a mask in which all cells have one number.
pub fn sparsify(
    labels: &LabelImage,
    image: ArrayView3<'_, f32>,
    k: usize,
    mode: SparsifyMode,
    background: bool,
) -> Result<LabelImage> {
    let (height, width, channels) = image.dim();
    if labels.dim() != (height, width) || channels == 0 {
        return Err(Error::Labels(format!(
            "the labels have {} x {} pixels and the image {height} x {width} with {}; they must be the \
             same",
            labels.nrows(),
            labels.ncols(),
            counted(channels, "channel")
        )));
    }
    if k == 0 {
        return Err(Error::Config("k is 0, which keeps no object; expected at least 1".into()));
    }
    refuse_mask(labels)?;
    let kept = picked(labels, image, k, mode)?;
    let mut sparse = labels.mapv(|label| if kept.binary_search(&label).is_ok() { label } else { -1 });
    if background {
        let mut stroke = Array2::from_elem(labels.dim(), false);
        for ((y, x), &label) in sparse.indexed_iter() {
            if label > 0 {
                stroke[[y.saturating_sub(SHIFT), x.saturating_sub(SHIFT)]] = true;
            }
        }
        ndarray::Zip::from(&mut sparse).and(&stroke).and(labels).for_each(|sparse, &stroke, &label| {
            if stroke && label == 0 {
                *sparse = 0;
            }
        });
    }
    Ok(sparse)
}

/// The ids to keep, sorted.
fn picked(labels: &LabelImage, image: ArrayView3<'_, f32>, k: usize, mode: SparsifyMode) -> Result<Vec<i32>> {
    let mut objects: BTreeMap<i32, Object> = BTreeMap::new();
    for ((y, x), &label) in labels.indexed_iter().filter(|(_, label)| **label > 0) {
        let pixel = image.index_axis(Axis(0), y).index_axis_move(Axis(0), x).iter().map(|&v| f64::from(v)).sum::<f64>();
        objects.entry(label).or_default().add(y, x, pixel);
    }
    if objects.is_empty() {
        return Err(Error::Labels("there is no object: no label is positive".into()));
    }
    let mut ranked: Vec<(f64, i32)> =
        objects.iter().filter(|(_, object)| object.is_plane()).map(|(&id, object)| (object.mean(), id)).collect();
    if ranked.is_empty() {
        return Err(Error::Labels(format!(
            "none of the {} can be picked: the pixels of each lie on one line",
            counted(objects.len(), "object")
        )));
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let n = ranked.len();
    let budget = k.saturating_mul(2);
    let keep = |at: usize| match mode {
        SparsifyMode::Min => at < budget,
        SparsifyMode::Max => n - at <= budget,
        SparsifyMode::MinMax => at < k || n - at <= k,
    };
    let mut ids: Vec<i32> = ranked.iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, (_, id))| *id).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Sums over the pixels of one object.
#[derive(Default)]
struct Object {
    count: usize,
    intensity: f64,
    first: (usize, usize),
    /// A pixel other than the first, once there is one.
    second: Option<(usize, usize)>,
    off_line: bool,
}

impl Object {
    fn add(&mut self, y: usize, x: usize, intensity: f64) {
        self.intensity += intensity;
        self.count += 1;
        if self.count == 1 {
            self.first = (y, x);
        } else if let Some(second) = self.second {
            let step = |to: (usize, usize)| (to.0 as i128 - self.first.0 as i128, to.1 as i128 - self.first.1 as i128);
            let (a, b) = (step(second), step((y, x)));
            self.off_line |= a.0 * b.1 != a.1 * b.0;
        } else {
            self.second = Some((y, x));
        }
    }

    /// Whether the pixels span a plane, that is, the minor axis of their ellipse is not zero.
    fn is_plane(&self) -> bool {
        self.off_line
    }

    fn mean(&self) -> f64 {
        self.intensity / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn wrong_use_is_explained() {
        let image = Array3::<f32>::zeros((4, 4, 1));
        let mut labels = LabelImage::zeros((4, 4));
        let run = |labels: &LabelImage, k| sparsify(labels, image.view(), k, SparsifyMode::Min, true);
        assert!(run(&labels, 1).unwrap_err().to_string().contains("no object"));
        labels[[0, 0]] = 1;
        labels[[1, 1]] = 1;
        labels[[3, 3]] = 2;
        assert!(run(&labels, 1).unwrap_err().to_string().contains("none of the 2 objects"));
        labels[[0, 1]] = 1;
        assert!(run(&labels, 1).is_ok());
        assert!(matches!(run(&labels, 0), Err(Error::Config(_))));
        assert!(run(&LabelImage::zeros((3, 4)), 1).unwrap_err().to_string().contains("3 x 4"));
        assert!("median".parse::<SparsifyMode>().is_err());
        assert_eq!("minmax".parse::<SparsifyMode>().unwrap().to_string(), "minmax");
    }
}
