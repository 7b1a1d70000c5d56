//! Radial distances: from each pixel to the boundary of its object, along equally spaced rays.
//!
//! A ray goes forward in unit steps, in 32-bit arithmetic, until the nearest pixel is not in the object. How far it has come
//! after so many steps does not depend on where it began, and neither does the nearest pixel, but for positions close to
//! halfway between two pixels. So a row of pixels goes along a ray side by side: a step is one comparison of neighbouring
//! labels with neighbouring labels, and the length is looked up by the number of steps.

use ndarray::{Array3, ArrayView2};
use rayon::prelude::*;

use super::stardist::grid_shape;
use crate::budget::{reserve, zeros};
use crate::error::{Error, Result};

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
    let len = rows.saturating_mul(columns).saturating_mul(n_rays);
    let mut values = zeros(len, "the radial distances of a label image")?;
    star_dist_into(labels, &rays, grid, &mut values)?;
    Array3::from_shape_vec((rows, columns, n_rays), values).map_err(|error| Error::Internal(error.to_string()))
}

/// [`star_dist`] into `out`, which holds `[rows, columns, rays]` in row-major order and is overwritten.
///
/// # Errors
/// [`Error::Config`] for an unusable grid or a wrong length of `out`, [`Error::Limit`] for a side above [`MAX_SIDE`] or a copy
/// of the labels beyond the memory.
pub fn star_dist_into(labels: ArrayView2<'_, i32>, rays: &Rays, grid: [usize; 2], out: &mut [f32]) -> Result<()> {
    let (height, width) = labels.dim();
    let [rows, columns] = grid_shape(height, width, grid)?;
    if height.max(width) > MAX_SIDE {
        return Err(Error::Limit(format!("a label image of {height} x {width} pixels; a side may have {MAX_SIDE}")));
    }
    let len = rows * columns * rays.len();
    if out.len() != len {
        return Err(Error::Config(format!("the distance buffer has {} values; these labels need {len}", out.len())));
    }
    out.fill(0.0);
    if out.is_empty() {
        return Ok(());
    }
    let planes = Planes::new(labels, columns, grid[1])?;
    let walks = Walks::new(rays, &planes, height.max(width))?;
    out.par_chunks_exact_mut(columns * rays.len()).enumerate().with_min_len(16).for_each(|(i, row)| {
        for (first, cells) in (0..).step_by(LANES).zip(row.chunks_mut(LANES * rays.len())) {
            Lanes { planes: &planes, y: (i * grid[0]) as i32, first }.measure(rays, &walks, cells);
        }
    });
    Ok(())
}

/// Pixels of a row that go along a ray together.
const LANES: usize = 16;

/// Zeros around the copy of an image: as far as the first pixel outside can be from the last one inside, where a position is
/// rounded to two pixels further.
const MARGIN: usize = 2;

/// A copy of a label image with zeros around it. The columns are sorted by their remainder in the division by `step`, so that
/// every `step`-th pixel of a row lies beside the one before.
struct Planes {
    values: Vec<i32>,
    /// Length of a row, and of all rows of columns with the same remainder.
    row: usize,
    plane: usize,
    step: usize,
}

impl Planes {
    /// `columns` is the number of the image's columns without remainder.
    fn new(labels: ArrayView2<'_, i32>, columns: usize, step: usize) -> Result<Self> {
        // Lanes that have left the image go on as long as one that began `LANES - 1` columns aside.
        let row = MARGIN + LANES + columns + LANES + MARGIN + LANES;
        let plane = row * (labels.nrows() + 2 * MARGIN);
        let step = step.min(labels.ncols().max(1));
        let len = plane.saturating_mul(step);
        let mut planes = Self { values: zeros(len, "a copy of the label image")?, row, plane, step };
        for (y, labels) in labels.outer_iter().enumerate() {
            for remainder in 0..step {
                let begin = planes.place(y as i32, 0) + remainder * plane;
                let copy = &mut planes.values[begin..begin + columns];
                copy.iter_mut()
                    .zip(labels.iter().skip(remainder).step_by(step))
                    .for_each(|(copy, label)| *copy = *label);
            }
        }
        Ok(planes)
    }

    /// Where the pixel of row `y` and column `first * step` is.
    fn place(&self, y: i32, first: usize) -> usize {
        (y + MARGIN as i32) as usize * self.row + MARGIN + LANES + first
    }

    /// How far the pixel `columns` to the right of one without remainder is from that.
    fn shift(&self, columns: i32) -> isize {
        let step = self.step as i32;
        columns.rem_euclid(step) as isize * self.plane as isize + columns.div_euclid(step) as isize
    }

    /// The labels of `LANES` pixels; zeros for those that are nowhere.
    fn lanes(&self, place: usize, shift: isize) -> &[i32; LANES] {
        let found = self.values.get(place.wrapping_add_signed(shift)..).and_then(|values| values.first_chunk());
        found.unwrap_or(&[0; LANES])
    }
}

/// Where a ray is after a step.
struct Step {
    /// Rows and columns from its beginning.
    at: (f32, f32),
    /// The same in whole pixels. Where that depends on the beginning, the next number below.
    rows: i32,
    columns: i32,
    /// Whether `rows` and `columns` hold for every beginning.
    everywhere: [bool; 2],
    /// [`Planes::shift`] of `columns` and of the one after.
    shifts: [isize; 2],
    /// Length of a ray that leaves its object with this step.
    length: f32,
}

/// The steps of every ray.
struct Walks {
    steps: Vec<Step>,
    /// Steps of each ray.
    len: usize,
}

/// Steps of all rays together that are worth a table; longer rays go on one by one.
const TABLE: usize = 1 << 16;

impl Walks {
    fn new(rays: &Rays, planes: &Planes, side: usize) -> Result<Self> {
        // No ray goes further than along the diagonal.
        let len = (TABLE / rays.len()).min(3 * side / 2 + 2);
        // A position is rounded by at most half the distance between numbers of the size of the image.
        let doubt = (2 * side) as f32 * f32::EPSILON;
        let mut steps = reserve(rays.len() * len, "the steps of rays")?;
        for &direction in &rays.steps {
            let mut at = (0.0, 0.0);
            for _ in 0..len {
                at = (at.0 + direction.0, at.1 + direction.1);
                let everywhere = [at.0, at.1].map(|v: f32| (v - v.floor() - 0.5).abs() > doubt);
                let [rows, columns] = [(at.0, everywhere[0]), (at.1, everywhere[1])]
                    .map(|(v, everywhere)| if everywhere { round_half_even(v) } else { v.floor() as i32 });
                let shifts = [columns, columns + 1].map(|columns| planes.shift(columns));
                steps.push(Step { at, rows, columns, everywhere, shifts, length: length(at, direction) });
            }
        }
        Ok(Self { steps, len })
    }
}

/// Neighbouring pixels of the grid in a row.
struct Lanes<'a> {
    planes: &'a Planes,
    /// Row of the pixels.
    y: i32,
    /// Column of the first one in the grid.
    first: usize,
}

impl Lanes<'_> {
    /// Writes the lengths of all rays of each pixel that is in an object. `cells` holds those of as many pixels as there are.
    fn measure(&self, rays: &Rays, walks: &Walks, cells: &mut [f32]) {
        let labels = self.planes.lanes(self.planes.place(self.y, self.first), 0);
        let begin = labels.map(|label| -i32::from(label > 0));
        if begin == [0; LANES] {
            return;
        }
        for (ray, walk) in walks.steps.chunks_exact(walks.len).enumerate() {
            let (inside, count) = self.follow(walk, labels, begin);
            for (lane, cell) in cells.chunks_exact_mut(rays.len()).enumerate() {
                if inside[lane] != 0 {
                    cell[ray] = self.go_on(lane, rays.steps[ray], walk[walk.len() - 1].at);
                } else if begin[lane] != 0 {
                    cell[ray] = walk[count[lane] as usize].length;
                }
            }
        }
    }

    /// Takes the lanes that are `inside` (-1, others 0) along a ray until all have left their objects or the table ends. Says which
    /// are inside still, and the number of steps that each one was.
    // Inlined, its loop is split into single lanes.
    #[inline(never)]
    fn follow(&self, walk: &[Step], labels: &[i32; LANES], mut inside: [i32; LANES]) -> ([i32; LANES], [i32; LANES]) {
        let mut count = [0; LANES];
        for step in walk {
            let rows = if step.everywhere[0] { step.rows } else { nearest(self.y, step.at.0) - self.y };
            let place = self.planes.place(self.y + rows, self.first);
            let any = if step.everywhere[1] {
                advance(&mut inside, &mut count, labels, self.planes.lanes(place, step.shifts[0]))
            } else {
                advance(&mut inside, &mut count, labels, &self.labels_halfway(step, place))
            };
            if !any {
                break;
            }
        }
        (inside, count)
    }

    /// The labels after a step that comes about halfway between two columns: which is nearer depends on the lane.
    #[inline(never)]
    fn labels_halfway(&self, step: &Step, place: usize) -> [i32; LANES] {
        let [left, right] = step.shifts.map(|shift| self.planes.lanes(place, shift));
        std::array::from_fn(|lane| {
            let x = self.column(lane);
            if nearest(x, step.at.1) - x == step.columns { left[lane] } else { right[lane] }
        })
    }

    /// The length of a ray that is longer than the table.
    fn go_on(&self, lane: usize, direction: (f32, f32), mut at: (f32, f32)) -> f32 {
        let x = self.column(lane);
        let label = self.planes.lanes(self.planes.place(self.y, self.first + lane), 0)[0];
        loop {
            at = (at.0 + direction.0, at.1 + direction.1);
            let place = self.planes.place(nearest(self.y, at.0), 0);
            if self.planes.lanes(place, self.planes.shift(nearest(x, at.1)))[0] != label {
                break;
            }
        }
        length(at, direction)
    }

    /// Column of a lane in the image.
    fn column(&self, lane: usize) -> i32 {
        ((self.first + lane) * self.planes.step) as i32
    }
}

/// Takes the lanes with another label out, counts a step of the others, and says whether there are any.
#[inline(always)]
fn advance(inside: &mut [i32; LANES], count: &mut [i32; LANES], labels: &[i32; LANES], others: &[i32; LANES]) -> bool {
    for ((inside, label), other) in inside.iter_mut().zip(labels).zip(others) {
        *inside &= -i32::from(label == other);
    }
    for (count, inside) in count.iter_mut().zip(&*inside) {
        *count -= inside;
    }
    inside.iter().fold(0, |any, inside| any | inside) != 0
}

/// Length of a ray that is outside `at`: half a pixel of its main axis before.
fn length(at: (f32, f32), (dy, dx): (f32, f32)) -> f32 {
    let back = 0.5 / dy.abs().max(dx.abs()) - 1.0;
    let (u, v) = (at.0 + back * dy, at.1 + back * dx);
    (u * u + v * v).sqrt()
}

/// The pixel nearest to the position `by` beside a pixel.
fn nearest(pixel: i32, by: f32) -> i32 {
    round_half_even(pixel as f32 + by)
}

/// Nearest integer, halves to even, for `-MAX_SIDE <= value <= MAX_SIDE`: the sum with 1.5 * 2^23 has no bits left for
/// a fraction, so the addition itself rounds. (The library function is an out-of-line call on most targets.)
fn round_half_even(value: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    ((value + SHIFT) - SHIFT) as i32
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array, s};

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
    fn ids_above_65535_are_objects_like_any_other() {
        let labels = array![[0, 65536, 65536, 65537, 0]];
        let dist = star_dist(labels.view(), 4, [1, 1]).unwrap();
        assert!((dist[[0, 1, 0]] - 1.5).abs() < 1e-6 && (dist[[0, 3, 0]] - 0.5).abs() < 1e-6);
    }

    /// The definition: a ray by itself, from the pixel `[y, x]`; 0 outside objects.
    fn alone(labels: &Array2<i32>, [y, x]: [usize; 2], direction: (f32, f32)) -> f32 {
        if labels[[y, x]] <= 0 {
            return 0.0;
        }
        let mut at = (0.0f32, 0.0f32);
        loop {
            at = (at.0 + direction.0, at.1 + direction.1);
            let to = [y as f32 + at.0, x as f32 + at.1].map(|v| v.round_ties_even() as isize as usize);
            if labels.get(to) != Some(&labels[[y, x]]) {
                return length(at, direction);
            }
        }
    }

    fn one_by_one(labels: &Array2<i32>, n_rays: usize, grid: [usize; 2]) -> Array3<f32> {
        let rays = Rays::new(n_rays).unwrap();
        let [rows, columns] = grid_shape(labels.nrows(), labels.ncols(), grid).unwrap();
        Array3::from_shape_fn((rows, columns, n_rays), |(i, j, k)| {
            alone(labels, [i * grid[0], j * grid[1]], rays.steps[k])
        })
    }

    #[test]
    fn pixels_side_by_side_have_the_rays_of_each_one() {
        let mut random = Random::new(7, 0);
        for (round, rays) in [1, 3, 4, 8, 12, 24, 32, 33, 360].into_iter().cycle().take(45).enumerate() {
            let size = [(1, 1), (1, 40), (40, 1), (23, 61), (50, 16), (9, 17)][round % 6];
            let grid = [[1, 1], [2, 2], [1, 3], [5, 4], [2, 100]][round % 5];
            // Blocks of one value, and single pixels over them.
            let block = 3 + 9 * (round % 2);
            let coarse = Array2::from_shape_simple_fn((20, 25), || random.below(4) as i32 - 1);
            let labels = Array2::from_shape_fn(size, |(y, x)| {
                if random.chance(0.02) { random.below(4) as i32 } else { coarse[[y / block, x / block]] }
            });
            assert_eq!(star_dist(labels.view(), rays, grid).unwrap(), one_by_one(&labels, rays, grid), "{round}");
            assert_eq!(star_dist(labels.t(), rays, grid).unwrap(), one_by_one(&labels.t().to_owned(), rays, grid));
        }
    }

    #[test]
    fn rays_beyond_the_table_and_far_from_the_origin_are_the_same() {
        let long = Array2::ones((3, 200));
        assert_eq!(star_dist(long.view(), MAX_RAYS, [1, 2]).unwrap(), one_by_one(&long, MAX_RAYS, [1, 2]));
        // So far to the right, numbers are 1/128 apart and more.
        for (width, n_rays) in [(70_000, 25), (1 << 20, 5), (MAX_SIDE, 1)] {
            let mut wide = Array2::zeros((5, width));
            wide.slice_mut(s![.., width - 37..]).fill(3);
            wide[[2, width - 20]] = 1;
            let rays = Rays::new(n_rays).unwrap();
            let found = star_dist(wide.view(), n_rays, [1, 1]).unwrap();
            for ((y, j, k), value) in found.slice(s![.., width - 40.., ..]).indexed_iter() {
                let x = width - 40 + j;
                assert_eq!(*value, alone(&wide, [y, x], rays.steps[k]), "{width}: {y}, {x}, ray {k}");
            }
        }
    }

    #[test]
    fn unusable_arguments_are_refused() {
        let labels = Array2::<i32>::ones((4, 6));
        assert!(star_dist(labels.view(), 0, [1, 1]).is_err());
        assert!(star_dist(labels.view(), MAX_RAYS + 1, [1, 1]).is_err());
        assert!(star_dist(labels.view(), 8, [0, 1]).is_err());
        assert!(star_dist_into(labels.view(), &Rays::new(4).unwrap(), [2, 2], &mut [0.0; 5]).is_err());
        assert_eq!(star_dist(Array2::zeros((0, 5)).view(), 8, [2, 2]).unwrap().dim(), (0, 3, 8));
        let wide = Array2::zeros((1, MAX_SIDE + 1));
        assert!(matches!(star_dist(wide.view(), 1, [1, 1]), Err(Error::Limit(_))));
    }
}
