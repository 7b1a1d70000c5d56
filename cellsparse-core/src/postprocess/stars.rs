//! From ray lengths to outlines and label images.

use ndarray::{Array3, ArrayView2, ArrayView3, Axis};

use crate::budget::{array, gathered};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::geometry::polygon;
use crate::raster::LabelImage;

/// Vertices of star-convex polygons, `[n, 2, rays]`: rows first, then columns, in pixels.
///
/// `dist` is `[n, rays]`, `points` are the `n` centres `[y, x]`. `scale` is the factor by which the image was enlarged
/// before the network saw it (`[1.0, 1.0]` usually): ray lengths are divided by it per axis; centres are taken as they
/// are, in pixels of the original image. Vertex `k` is `centre + dist * (sin, cos)(2 pi k / rays)`, rounded to single
/// precision after the product, after the scaling and after the sum.
///
/// # Errors
/// [`Error::Image`] if the numbers of centres and rows differ, [`Error::Config`] if a scale is not positive.
pub fn dist_to_coord(dist: ArrayView2<f32>, points: &[[f64; 2]], scale: [f64; 2]) -> Result<Array3<f32>> {
    let (n, rays) = dist.dim();
    if points.len() != n {
        return Err(Error::Image(format!(
            "{} centres and {n} rows of distances; give one centre per row",
            points.len()
        )));
    }
    if !scale.iter().all(|&factor| factor.is_finite() && factor > 0.0) {
        return Err(Error::Config(format!("scale {scale:?}; give two positive numbers, [1, 1] for none")));
    }
    let step = std::f64::consts::TAU / rays.max(1) as f64;
    let directions: Vec<[f64; 2]> = (0..rays)
        .map(|k| {
            let angle = k as f64 * step;
            [angle.sin(), angle.cos()]
        })
        .collect();
    let stretch = scale.map(|factor| 1.0 / factor);
    let mut coord: Array3<f32> = array((n, 2, rays), "the vertices of polygons")?;
    for ((i, axis, k), vertex) in coord.indexed_iter_mut() {
        let offset = (f64::from(dist[[i, k]]) * directions[k][axis]) as f32;
        let offset = (f64::from(offset) * stretch[axis]) as f32;
        *vertex = (f64::from(offset) + points[i][axis]) as f32;
    }
    Ok(coord)
}

/// Draws star-convex polygons into a new label image of `shape` (`[height, width]`): polygon `k` of the list gets id
/// `k + 1`. Arguments as of [`dist_to_coord`] and [`coord_to_label`].
///
/// # Errors
/// As of [`dist_to_coord`] and [`coord_to_label`].
pub fn polygons_to_label(
    dist: ArrayView2<f32>,
    points: &[[f64; 2]],
    shape: [usize; 2],
    prob: Option<&[f32]>,
    scale: [f64; 2],
) -> Result<LabelImage> {
    coord_to_label(dist_to_coord(dist, points, scale)?.view(), shape, prob)
}

/// Draws polygons into a new label image: polygon `k` of `coord` (`[n, 2, vertices]`, rows first) gets id `k + 1`.
///
/// Polygons are painted by ascending score, so that a higher score covers a lower one and, of equal scores, the later
/// polygon covers the earlier; without scores in list order. Boundary pixels are part of a polygon
/// ([`polygon::fill`]); what lies outside the image is cut off.
///
/// # Errors
/// [`Error::Image`] if `coord` has another second axis, the number of scores differs from the number of polygons, or a
/// score is not a number; [`Error::Limit`] if there are more polygons than ids or the image is too large.
pub fn coord_to_label(coord: ArrayView3<f32>, shape: [usize; 2], prob: Option<&[f32]>) -> Result<LabelImage> {
    coord_to_label_until(coord, shape, prob, &CancelToken::new())
}

/// As [`coord_to_label`], and ends early when `cancel` is raised.
///
/// # Errors
/// As of [`coord_to_label`], and [`Error::Cancelled`].
pub fn coord_to_label_until(
    coord: ArrayView3<f32>,
    shape: [usize; 2],
    prob: Option<&[f32]>,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let (n, axes, _) = coord.dim();
    if axes != 2 {
        return Err(Error::Image(format!("coordinates of shape {:?}; give [polygons, 2, vertices]", coord.shape())));
    }
    if i32::try_from(n).is_err() {
        return Err(Error::Limit(format!("{n} polygons; a label image holds ids up to {}", i32::MAX)));
    }
    let pixels = shape[0].checked_mul(shape[1]);
    if pixels.is_none_or(|pixels| pixels > isize::MAX as usize / 8) {
        return Err(Error::Limit(format!("a label image of {} x {} pixels", shape[0], shape[1])));
    }
    let what = "a label image of polygons";
    let mut order = gathered(n, 0..n, what)?;
    if let Some(prob) = prob {
        if prob.len() != n {
            return Err(Error::Image(format!("{} scores for {n} polygons; give one each", prob.len())));
        }
        if let Some(k) = prob.iter().position(|score| score.is_nan()) {
            return Err(Error::Image(format!("the score of polygon {k} is not a number")));
        }
        // The sum turns -0 into +0, which compares equal to it.
        order.sort_unstable_by(|&a, &b| (prob[a] + 0.0).total_cmp(&(prob[b] + 0.0)).then(a.cmp(&b)));
    }
    let mut labels: LabelImage = array((shape[0], shape[1]), what)?;
    let coord = coord.as_standard_layout();
    for k in order {
        cancel.check()?;
        let one = coord.index_axis(Axis(0), k);
        let (rows, columns) = (one.row(0), one.row(1));
        let (Some(rows), Some(columns)) = (rows.as_slice(), columns.as_slice()) else { continue };
        polygon::fill(rows, columns, shape, |row, first, last| {
            labels.slice_mut(ndarray::s![row, first..=last]).fill(k as i32 + 1);
        });
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn higher_scores_cover_lower_ones() {
        let dist = Array2::from_elem((3, 8), 3.0);
        let points = [[5.0, 5.0], [5.0, 6.0], [5.0, 7.0]];
        let draw = |prob: Option<&[f32]>| polygons_to_label(dist.view(), &points, [11, 13], prob, [1.0, 1.0]).unwrap();
        assert_eq!(draw(None)[[5, 6]], 3);
        assert_eq!(draw(Some(&[0.9, 0.5, 0.1]))[[5, 6]], 1);
        assert_eq!(draw(Some(&[0.5, 0.5, 0.5]))[[5, 6]], 3);
    }

    #[test]
    fn wrong_input_is_refused() {
        let dist = array![[1.0f32, 1.0, 1.0]];
        assert!(dist_to_coord(dist.view(), &[], [1.0, 1.0]).is_err());
        assert!(dist_to_coord(dist.view(), &[[1.0, 1.0]], [0.0, 1.0]).is_err());
        assert!(polygons_to_label(dist.view(), &[[1.0, 1.0]], [4, 4], Some(&[]), [1.0, 1.0]).is_err());
        assert!(polygons_to_label(dist.view(), &[[1.0, 1.0]], [4, 4], Some(&[f32::NAN]), [1.0, 1.0]).is_err());
        assert!(polygons_to_label(dist.view(), &[[1.0, 1.0]], [usize::MAX, 4], None, [1.0, 1.0]).is_err());
        let none = polygons_to_label(Array2::zeros((0, 32)).view(), &[], [4, 4], None, [1.0, 1.0]).unwrap();
        assert_eq!(none.sum(), 0);
    }
}
