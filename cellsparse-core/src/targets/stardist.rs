//! StarDist targets: object probability and classes, and what a training patch needs of them and of the radial distances.
//!
//! Formulas: Schmidt et al., "Cell Detection with Star-convex Polygons", MICCAI 2018; sparse labels as in the sparse
//! StarDist fork: an unlabelled pixel counts as background for the geometry and gets the probability target -1.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView2, s};
use rayon::prelude::*;

pub use super::rays::{MAX_RAYS, MAX_SIDE, Rays, star_dist, star_dist_into};
use crate::error::{Error, Result};
use crate::geometry::distance::label_distances;

/// The classes of the objects of one image: `id -> Some(class)` with `1 <= class <= n_classes`. An object that is
/// `None` or absent has an unknown class.
pub type ObjectClasses = BTreeMap<i32, Option<usize>>;

/// Rows and columns of the target of an image of `height x width` pixels.
///
/// # Errors
/// [`Error::Config`] when a grid step is 0.
pub fn grid_shape(height: usize, width: usize, grid: [usize; 2]) -> Result<[usize; 2]> {
    if grid.contains(&0) {
        return Err(Error::Config(format!("the grid is {grid:?}; both steps must be at least 1")));
    }
    Ok([height.div_ceil(grid[0]), width.div_ceil(grid[1])])
}

/// The object probability: the distance of each pixel to the boundary of its object, divided by the largest such
/// distance of the object.
///
/// `labels` is a label image `[H, W]`; the result `[H, W]` is in `(0, 1]` on objects and 0 elsewhere. The boundary is
/// the nearest pixel that does not belong to the object, wherever it is in the image; pixels outside the image do not
/// count, unless one object covers the whole image. Parts of one object share one maximum.
pub fn edt_prob(labels: ArrayView2<'_, i32>) -> Array2<f32> {
    let first = labels.first().copied().unwrap_or(0);
    let constant = first > 0 && labels.iter().all(|&value| value == first);
    let distances = if constant {
        let (height, width) = labels.dim();
        let mut padded = Array2::zeros((height + 2, width + 2));
        padded.slice_mut(s![1..=height, 1..=width]).assign(&labels);
        label_distances(padded.view()).slice(s![1..=height, 1..=width]).to_owned()
    } else {
        label_distances(labels)
    };
    let mut prob = Array2::zeros(labels.dim());
    let labels = labels.as_standard_layout();
    // All three are in row-major order.
    let (Some(values), Some(pixels), Some(distances)) = (prob.as_slice_mut(), labels.as_slice(), distances.as_slice())
    else {
        return prob;
    };
    let width = labels.ncols().max(1);
    let mut largest: HashMap<i32, f64> = HashMap::new();
    for (pixels, distances) in pixels.chunks_exact(width).zip(distances.chunks_exact(width)) {
        for (label, run) in object_runs(pixels) {
            let entry = largest.entry(label).or_insert(0.0);
            *entry = distances[run]
                .iter()
                .fold(*entry, |largest, &distance| if distance > largest { distance } else { largest });
        }
    }
    let rows = values.par_chunks_exact_mut(width).zip(pixels.par_chunks_exact(width));
    rows.zip(distances.par_chunks_exact(width)).for_each(|((values, pixels), distances)| {
        for (label, run) in object_runs(pixels) {
            let largest = largest.get(&label).copied().unwrap_or_default() + 1e-10;
            for (value, distance) in values[run.clone()].iter_mut().zip(&distances[run]) {
                *value = (distance / largest) as f32;
            }
        }
    });
    prob
}

/// The objects' runs of equal labels in a row, and where they are.
fn object_runs(row: &[i32]) -> impl Iterator<Item = (i32, Range<usize>)> {
    let mut end = 0;
    let runs = row.chunk_by(|a, b| a == b).map(move |run| {
        end += run.len();
        (run[0], end - run.len()..end)
    });
    runs.filter(|(label, _)| *label > 0)
}

/// The class target: one channel per class, channel 0 for background.
///
/// `labels` is a label image `[H, W]`; the result is `[H, W, n_classes + 1]` with 1 in the channel of a pixel's class
/// and 0 in the others. An object of unknown class has 0 in channel 0 (it is not background) and -1, ignored, in the
/// others. Unlabelled pixels have 0 in every channel here.
///
/// # Errors
/// [`Error::Labels`] when a class is above `n_classes`, [`Error::Limit`] for a result beyond the memory.
pub fn mask_to_categorical(
    labels: ArrayView2<'_, i32>,
    n_classes: usize,
    classes: &ObjectClasses,
) -> Result<Array3<f32>> {
    check_classes(n_classes, classes)?;
    let (height, width) = labels.dim();
    let channels = n_classes + 1;
    let mut values = zeros([height, width, channels])?;
    for (cell, &label) in values.chunks_exact_mut(channels).zip(&labels) {
        write_class(label, classes, cell);
    }
    Array3::from_shape_vec((height, width, channels), values).map_err(|error| Error::Internal(error.to_string()))
}

fn write_class(label: i32, classes: &ObjectClasses, cell: &mut [f32]) {
    cell.fill(0.0);
    if label == 0 {
        cell[0] = 1.0;
    } else if label > 0 {
        match classes.get(&label).copied().flatten() {
            // Channel 0 belongs to the background alone, so an object of "class 0" has no channel at all.
            Some(0) => {}
            Some(class) => cell[class] = 1.0,
            None => cell[1..].fill(-1.0),
        }
    }
}

fn check_classes(n_classes: usize, classes: &ObjectClasses) -> Result<()> {
    match classes.iter().find(|(_, class)| class.is_some_and(|class| class > n_classes)) {
        Some((id, class)) => Err(Error::Labels(format!(
            "object {id} has class {}; the model has classes 1 to {n_classes}",
            class.unwrap_or_default()
        ))),
        None => Ok(()),
    }
}

/// The targets of one patch at the resolution of the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct StarTargets {
    /// Object probability `[h, w]`; -1 at unlabelled pixels.
    pub prob: Array2<f32>,
    /// Ray lengths `[h, w, R]` in pixels of the patch.
    pub dist: Array3<f32>,
    /// Weight of the distance loss `[h, w]`: the object probability, 0 at unlabelled pixels.
    pub mask: Array2<f32>,
    /// Class target `[h, w, n_classes + 1]` (see [`mask_to_categorical`]); -1 at unlabelled pixels.
    pub class: Option<Array3<f32>>,
}

/// Where [`stardist_targets_into`] writes: one patch's share of a batch, row-major, every value overwritten.
#[derive(Debug)]
pub struct StarTargetsMut<'a> {
    /// `[h, w]`.
    pub prob: &'a mut [f32],
    /// `[h, w, R]`.
    pub dist: &'a mut [f32],
    /// `[h, w]`.
    pub mask: &'a mut [f32],
    /// `[h, w, n_classes + 1]`, exactly when classes are given.
    pub class: Option<&'a mut [f32]>,
}

/// The targets of one patch; `classes` is the number of classes and the classes of the objects.
///
/// Unlabelled pixels count as background for the geometry, so an object ends where they begin. Probability and
/// weight are computed on the labels at the grid points, the distances on the labels at full resolution.
///
/// # Errors
/// As [`star_dist`] and [`mask_to_categorical`].
pub fn stardist_targets(
    labels: ArrayView2<'_, i32>,
    n_rays: usize,
    grid: [usize; 2],
    classes: Option<(usize, &ObjectClasses)>,
) -> Result<StarTargets> {
    let rays = Rays::new(n_rays)?;
    let [rows, columns] = grid_shape(labels.nrows(), labels.ncols(), grid)?;
    let mut prob = zeros([rows, columns, 1])?;
    let mut mask = zeros([rows, columns, 1])?;
    let mut dist = zeros([rows, columns, n_rays])?;
    let channels = classes.map_or(0, |(n_classes, _)| n_classes.saturating_add(1));
    let mut class = zeros([rows, columns, channels])?;
    let out = StarTargetsMut {
        prob: &mut prob,
        dist: &mut dist,
        mask: &mut mask,
        class: classes.is_some().then_some(class.as_mut_slice()),
    };
    stardist_targets_into(labels, &rays, grid, classes, out)?;
    let internal = |error: ndarray::ShapeError| Error::Internal(error.to_string());
    Ok(StarTargets {
        prob: Array2::from_shape_vec((rows, columns), prob).map_err(internal)?,
        dist: Array3::from_shape_vec((rows, columns, n_rays), dist).map_err(internal)?,
        mask: Array2::from_shape_vec((rows, columns), mask).map_err(internal)?,
        class: match classes {
            Some(_) => Some(Array3::from_shape_vec((rows, columns, channels), class).map_err(internal)?),
            None => None,
        },
    })
}

/// [`stardist_targets`] into the buffers of a batch.
///
/// # Errors
/// As [`stardist_targets`]; [`Error::Config`] for a buffer of a wrong length.
pub fn stardist_targets_into(
    labels: ArrayView2<'_, i32>,
    rays: &Rays,
    grid: [usize; 2],
    classes: Option<(usize, &ObjectClasses)>,
    out: StarTargetsMut<'_>,
) -> Result<()> {
    let [rows, columns] = grid_shape(labels.nrows(), labels.ncols(), grid)?;
    check_len("probability", out.prob.len(), rows * columns)?;
    check_len("weight", out.mask.len(), rows * columns)?;
    star_dist_into(labels, rays, grid, out.dist)?;
    let coarse = labels.slice(s![..;grid[0], ..;grid[1]]);
    let prob = edt_prob(coarse);
    for (((prob, mask), &value), &label) in out.prob.iter_mut().zip(out.mask.iter_mut()).zip(&prob).zip(&coarse) {
        *mask = value;
        *prob = if label < 0 { -1.0 } else { value };
    }
    match (classes, out.class) {
        (None, None) => Ok(()),
        (Some((n_classes, classes)), Some(class)) => {
            check_classes(n_classes, classes)?;
            check_len("class", class.len(), (rows * columns).saturating_mul(n_classes.saturating_add(1)))?;
            class_targets_into(labels, coarse, n_classes, classes, class);
            Ok(())
        }
        _ => Err(Error::Config("classes and a buffer for the class target must be given together".into())),
    }
}

/// The class target at the grid. The reference stretches the class image to the size of the grid, corner to corner,
/// instead of taking the grid points, and takes the unlabelled pixels from the grid points; so does this.
fn class_targets_into(
    labels: ArrayView2<'_, i32>,
    coarse: ArrayView2<'_, i32>,
    n_classes: usize,
    classes: &ObjectClasses,
    out: &mut [f32],
) {
    let (rows, columns) = coarse.dim();
    let sample = |i: usize, fine: usize, coarse: usize| match coarse {
        0 | 1 => 0,
        _ => ((i * (fine - 1)) as f64 / (coarse - 1) as f64 + 0.5).floor() as usize,
    };
    for (k, cell) in out.chunks_exact_mut(n_classes + 1).enumerate() {
        let (i, j) = (k / columns, k % columns);
        if coarse[[i, j]] < 0 {
            cell.fill(-1.0);
        } else {
            let (y, x) = (sample(i, labels.nrows(), rows), sample(j, labels.ncols(), columns));
            // Unlabelled counts as background here, as it does for the geometry.
            write_class(labels[[y, x]].max(0), classes, cell);
        }
    }
}

fn check_len(name: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::Config(format!("the {name} buffer has {found} values; these labels need {expected}")))
    }
}

fn zeros(shape: [usize; 3]) -> Result<Vec<f32>> {
    let too_large = || Error::Limit(format!("a target of {} x {} x {} values", shape[0], shape[1], shape[2]));
    let len = shape.iter().try_fold(1usize, |len, &side| len.checked_mul(side)).ok_or_else(too_large)?;
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| too_large())?;
    values.resize(len, 0.0);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn unlabelled_pixels_are_ignored_and_end_objects() {
        let labels = array![[-1, -1, 3, 3, 3, 0], [-1, -1, 3, 3, 3, 0]];
        let targets = stardist_targets(labels.view(), 4, [1, 1], None).unwrap();
        assert_eq!(targets.prob.row(0).to_vec()[..2], [-1.0, -1.0]);
        assert_eq!(targets.mask.row(0).to_vec()[..2], [0.0, 0.0]);
        assert_eq!(targets.prob[[0, 5]], 0.0);
        assert!(targets.prob[[0, 3]] > 0.999 && targets.mask[[0, 3]] == targets.prob[[0, 3]]);
        assert!((targets.dist[[0, 3, 2]] - 1.5).abs() < 1e-6);
    }

    #[test]
    fn unusable_arguments_are_refused() {
        let labels = Array2::<i32>::ones((4, 6));
        let classes = ObjectClasses::from([(1, Some(3))]);
        assert!(mask_to_categorical(labels.view(), 2, &classes).is_err());
        assert_eq!(edt_prob(Array2::zeros((0, 5)).view()).dim(), (0, 5));
    }
}
