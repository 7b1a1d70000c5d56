//! StarDist targets: object probability, radial distances and classes, and what a training patch needs of them.
//!
//! Formulas: Schmidt et al., "Cell Detection with Star-convex Polygons", MICCAI 2018; sparse labels as in the sparse
//! StarDist fork: an unlabelled pixel counts as background for the geometry and gets the probability target -1.

use std::collections::{BTreeMap, HashMap};

use ndarray::{Array2, Array3, ArrayView2, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::geometry::distance::label_distances;

/// The largest number of rays of a polygon.
pub const MAX_RAYS: usize = 1024;

/// The largest side of a label image in pixels: positions beyond it are not exact in 32-bit arithmetic.
pub const MAX_SIDE: usize = 1 << 22;

/// The steps of equally spaced rays: ray `k` of `n` has the angle `k * 2 pi / n`, from `+column` towards `+row`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rays {
    /// `(row, column)` step of length 1 of each ray.
    steps: Vec<(f32, f32)>,
}

impl Rays {
    /// The steps of `n_rays` rays.
    ///
    /// # Errors
    /// [`Error::Config`] unless `1 <= n_rays <= MAX_RAYS`.
    pub fn new(n_rays: usize) -> Result<Self> {
        if !(1..=MAX_RAYS).contains(&n_rays) {
            return Err(Error::Config(format!("{n_rays} rays; the number must be from 1 to {MAX_RAYS}")));
        }
        // The angle is rounded to f32 as in the reference; its sine and cosine are the f32 nearest to the exact ones.
        let step = (std::f64::consts::TAU / n_rays as f64) as f32;
        let unit = |k: usize| f64::from(k as f32 * step).sin_cos();
        Ok(Self { steps: (0..n_rays).map(|k| (unit(k).0 as f32, unit(k).1 as f32)).collect() })
    }

    /// Number of rays.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no ray; never true.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

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
    let mut largest: HashMap<i32, f64> = HashMap::new();
    for (&label, &distance) in labels.iter().zip(&distances) {
        if label > 0 {
            let entry = largest.entry(label).or_insert(0.0);
            *entry = entry.max(distance);
        }
    }
    let mut prob = Array2::zeros(labels.dim());
    for ((prob, label), distance) in prob.iter_mut().zip(&labels).zip(&distances) {
        if *label > 0
            && let Some(largest) = largest.get(label)
        {
            *prob = (distance / (largest + 1e-10)) as f32;
        }
    }
    prob
}

/// The distances from each grid point to the boundary of its object along `n_rays` rays (see [`Rays`]), in pixels.
///
/// `labels` is a label image `[H, W]`; the result is `[ceil(H / grid y), ceil(W / grid x), n_rays]` and 0 outside
/// objects. A ray goes forward in unit steps, in 32-bit arithmetic, until the nearest pixel is not in the object or
/// not in the image, and is then shortened to half a pixel before that pixel along its main axis.
///
/// # Errors
/// [`Error::Config`] for an unusable number of rays or grid, [`Error::Limit`] for a result beyond the memory.
pub fn star_dist(labels: ArrayView2<'_, i32>, n_rays: usize, grid: [usize; 2]) -> Result<Array3<f32>> {
    let rays = Rays::new(n_rays)?;
    let [rows, columns] = grid_shape(labels.nrows(), labels.ncols(), grid)?;
    let mut values = zeros([rows, columns, n_rays])?;
    star_dist_into(labels, &rays, grid, &mut values)?;
    Array3::from_shape_vec((rows, columns, n_rays), values).map_err(|error| Error::Internal(error.to_string()))
}

/// [`star_dist`] into `out`, which holds `[rows, columns, rays]` in row-major order and is overwritten.
///
/// # Errors
/// [`Error::Config`] for an unusable grid or a wrong length of `out`, [`Error::Limit`] for a side above [`MAX_SIDE`].
pub fn star_dist_into(labels: ArrayView2<'_, i32>, rays: &Rays, grid: [usize; 2], out: &mut [f32]) -> Result<()> {
    let labels = labels.as_standard_layout();
    let (height, width) = labels.dim();
    let [rows, columns] = grid_shape(height, width, grid)?;
    if height.max(width) > MAX_SIDE {
        return Err(Error::Limit(format!("a label image of {height} x {width} pixels; a side may have {MAX_SIDE}")));
    }
    check_len("distance", out.len(), rows * columns * rays.len())?;
    out.fill(0.0);
    if out.is_empty() {
        return Ok(());
    }
    let pixels = labels.as_slice().ok_or_else(|| Error::Internal("a copy in row-major order is not one".into()))?;
    out.par_chunks_exact_mut(columns * rays.len()).enumerate().with_min_len(16).for_each(|(i, row)| {
        let y = i * grid[0];
        for (j, cell) in row.chunks_exact_mut(rays.len()).enumerate() {
            let x = j * grid[1];
            let label = pixels[y * width + x];
            if label > 0 {
                let inside = |row: i32, column: i32| {
                    // A negative coordinate becomes a very large one, so one comparison tests both ends.
                    let (row, column) = (row as u32 as usize, column as u32 as usize);
                    row < height && column < width && pixels[row * width + column] == label
                };
                for (length, &step) in cell.iter_mut().zip(&rays.steps) {
                    *length = ray_length((y as f32, x as f32), step, inside);
                }
            }
        }
    });
    Ok(())
}

fn ray_length(start: (f32, f32), (dy, dx): (f32, f32), inside: impl Fn(i32, i32) -> bool) -> f32 {
    let (mut u, mut v) = (0.0f32, 0.0f32);
    loop {
        u += dy;
        v += dx;
        if !inside(round_half_even(start.0 + u), round_half_even(start.1 + v)) {
            break;
        }
    }
    let back = 0.5 / dy.abs().max(dx.abs()) - 1.0;
    u += back * dy;
    v += back * dx;
    (u * u + v * v).sqrt()
}

/// Nearest integer, halves to even, for `-MAX_SIDE <= value <= MAX_SIDE`: the sum with 1.5 * 2^23 has no bits left for
/// a fraction, so the addition itself rounds. (The library function is an out-of-line call on most targets.)
fn round_half_even(value: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    ((value + SHIFT) - SHIFT) as i32
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
    use crate::random::Random;

    #[test]
    fn rounding_agrees_with_the_library_function() {
        let mut random = Random::new(1, 0);
        for i in -50..50 {
            assert_eq!(round_half_even(i as f32 / 2.0), (i as f32 / 2.0).round_ties_even() as i32);
        }
        for _ in 0..1000 {
            let value = random.uniform(-2.0, MAX_SIDE as f64) as f32;
            assert_eq!(round_half_even(value), value.round_ties_even() as i32);
        }
    }

    #[test]
    fn a_pixel_has_rays_of_half_a_pixel_and_more_on_diagonals() {
        let dist = star_dist(array![[0, 0, 0], [0, 5, 0], [0, 0, 0]].view(), 8, [1, 1]).unwrap();
        for (k, length) in dist.slice(s![1, 1, ..]).iter().enumerate() {
            let expected = if k % 2 == 0 { 0.5 } else { 0.5f32.sqrt() };
            assert!((length - expected).abs() < 1e-6, "ray {k}: {length}");
        }
        assert_eq!(dist.sum(), dist.slice(s![1, 1, ..]).sum());
    }

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
    fn ids_above_65535_are_objects_like_any_other() {
        let labels = array![[0, 65536, 65536, 65537, 0]];
        let dist = star_dist(labels.view(), 4, [1, 1]).unwrap();
        assert!((dist[[0, 1, 0]] - 1.5).abs() < 1e-6 && (dist[[0, 3, 0]] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn unusable_arguments_are_refused() {
        let labels = Array2::<i32>::ones((4, 6));
        assert!(star_dist(labels.view(), 0, [1, 1]).is_err());
        assert!(star_dist(labels.view(), MAX_RAYS + 1, [1, 1]).is_err());
        assert!(star_dist(labels.view(), 8, [0, 1]).is_err());
        let classes = ObjectClasses::from([(1, Some(3))]);
        assert!(mask_to_categorical(labels.view(), 2, &classes).is_err());
        assert!(star_dist_into(labels.view(), &Rays::new(4).unwrap(), [2, 2], &mut [0.0; 5]).is_err());
        assert_eq!(star_dist(Array2::zeros((0, 5)).view(), 8, [2, 2]).unwrap().dim(), (0, 3, 8));
        assert_eq!(edt_prob(Array2::zeros((0, 5)).view()).dim(), (0, 5));
    }
}
