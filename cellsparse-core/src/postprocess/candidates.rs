//! Star-convex polygons that a network proposes, before any of them is suppressed.

use ndarray::{Array2, ArrayView2, ArrayView3, Axis};

use crate::budget::{array, copied, gathered, no_memory, pushed};
use crate::error::{Error, Result};

/// Polygons given by a centre, a score and the distances from the centre to the outline along equally spaced rays.
///
/// Ray `k` of `R` points to `(sin, cos)(2 pi k / R)` in (row, column): ray 0 to the right, ray `R / 4` downwards.
#[derive(Debug, Clone, PartialEq)]
pub struct StarCandidates {
    /// Centres `[y, x]` in pixels.
    pub points: Vec<[i32; 2]>,
    /// Object probability of each centre.
    pub prob: Vec<f32>,
    /// Distances in pixels, one row per centre, one column per ray.
    pub dist: Array2<f32>,
}

/// Cells left out along the image border when nothing else is asked for: `[[top, bottom], [left, right]]`.
pub const BORDER: [[usize; 2]; 2] = [[2, 2], [2, 2]];

/// The most candidates that a list holds: they are counted in 32 bits.
pub const MAX_CANDIDATES: usize = i32::MAX as usize;

/// The largest number of rays that is accepted.
pub const MAX_RAYS: usize = 1024;

const WHAT: &str = "the object candidates";

/// Candidates of a pair of dense maps, row by row: every cell whose probability is above the threshold.
///
/// `prob` is `[h, w]`, `dist` is `[h, w, rays]` in pixels; cell `(i, j)` stands for the pixel `(i * grid[0], j * grid[1])`.
/// The comparison is strict. `border` gives the cells left out on each side, `[[top, bottom], [left, right]]`, usually
/// [`BORDER`]; for a tile it is 0 on the sides that do not lie on the border of the image.
///
/// # Errors
/// [`Error::Image`] if the shapes differ, there are fewer than 3 rays, or a probability in use or a distance of a
/// candidate is not finite; [`Error::Config`] if the grid is 0 or the threshold is not a number; [`Error::Limit`] if there
/// are more than [`MAX_CANDIDATES`], or there is no memory for them.
pub fn candidates(
    prob: ArrayView2<f32>,
    dist: ArrayView3<f32>,
    grid: [usize; 2],
    prob_thresh: f32,
    border: [[usize; 2]; 2],
) -> Result<StarCandidates> {
    let (h, w) = prob.dim();
    let rays = dist.dim().2;
    if (dist.dim().0, dist.dim().1) != (h, w) {
        return Err(Error::Image(format!(
            "the probability map is {h} x {w}, the distance map {} x {}; they must have one size",
            dist.dim().0,
            dist.dim().1
        )));
    }
    if prob_thresh.is_nan() {
        return Err(Error::Config("the probability threshold is not a number; give a value between 0 and 1".into()));
    }
    let largest = (i32::MAX / 4) as usize;
    let spans = |size: usize, step: usize| step > 0 && size.checked_mul(step).is_some_and(|span| span <= largest);
    if !spans(h, grid[0]) || !spans(w, grid[1]) {
        return Err(Error::Config(format!(
            "grid {grid:?} on a map of {h} x {w} cells; give powers of 2, and an image of at most {largest} pixels a side"
        )));
    }
    let mut chosen = Vec::new();
    let [[top, bottom], [left, right]] = border;
    for i in top..h.saturating_sub(bottom) {
        for j in left..w.saturating_sub(right) {
            let value = prob[[i, j]];
            if !value.is_finite() {
                return Err(Error::Image(format!("the probability at cell ({i}, {j}) is {value}; it must be finite")));
            }
            if value > prob_thresh {
                if chosen.len() == MAX_CANDIDATES {
                    return Err(too_many(None));
                }
                pushed(&mut chosen, [i, j], WHAT)?;
            }
        }
    }
    let mut rows: Array2<f32> = array((chosen.len(), rays), WHAT)?;
    for (mut row, &[i, j]) in rows.outer_iter_mut().zip(&chosen) {
        row.assign(&dist.index_axis(Axis(0), i).index_axis(Axis(0), j));
    }
    let found = StarCandidates {
        points: gathered(
            chosen.len(),
            chosen.iter().map(|&[i, j]| [(i * grid[0]) as i32, (j * grid[1]) as i32]),
            WHAT,
        )?,
        prob: gathered(chosen.len(), chosen.iter().map(|&[i, j]| prob[[i, j]]), WHAT)?,
        dist: rows,
    };
    found.check()?;
    Ok(found)
}

impl StarCandidates {
    /// No candidates, with the given number of rays.
    pub fn empty(rays: usize) -> Self {
        Self { points: Vec::new(), prob: Vec::new(), dist: Array2::zeros((0, rays)) }
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The candidates at the given places of this list, in the given order; places that do not exist are left out.
    ///
    /// # Errors
    /// [`Error::Limit`] where there is no memory.
    pub fn select(&self, places: &[usize]) -> Result<Self> {
        let n = self.len().min(self.prob.len()).min(self.dist.nrows());
        let places = || places.iter().copied().filter(|&place| place < n);
        let count = places().count();
        let mut dist: Array2<f32> = array((count, self.dist.ncols()), WHAT)?;
        for (mut row, place) in dist.outer_iter_mut().zip(places()) {
            row.assign(&self.dist.row(place));
        }
        Ok(Self {
            points: gathered(count, places().map(|place| self.points[place]), WHAT)?,
            prob: gathered(count, places().map(|place| self.prob[place]), WHAT)?,
            dist,
        })
    }

    /// All candidates by descending score; of equal scores the later one comes first, as in a reversed stable sort.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn sorted(&self) -> Result<Self> {
        let score = |place: usize| self.prob.get(place).copied().unwrap_or(f32::NEG_INFINITY) + 0.0;
        let mut order = gathered(self.len(), 0..self.len(), WHAT)?;
        order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)).then(b.cmp(&a)));
        self.select(&order)
    }

    /// Adds a list to the end of this one.
    ///
    /// # Errors
    /// [`Error::Image`] if the numbers of rays differ, [`Error::Limit`] if there are too many.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        let total = self.len().saturating_add(other.len());
        if total > MAX_CANDIDATES {
            return Err(too_many(Some(total)));
        }
        let rays = self.dist.ncols();
        if other.dist.ncols() != rays {
            return Err(Error::Image(format!("candidates of {} rays after some of {rays}", other.dist.ncols())));
        }
        let short = |bytes: usize| no_memory(bytes as u64, WHAT);
        self.points.try_reserve(other.len()).map_err(|_| short(8 * other.len()))?;
        self.prob.try_reserve(other.prob.len()).map_err(|_| short(4 * other.prob.len()))?;
        if !self.dist.is_standard_layout() {
            self.dist = copied(self.dist.view(), WHAT)?;
        }
        let rows = self.dist.nrows();
        let (mut lengths, offset) = std::mem::take(&mut self.dist).into_raw_vec_and_offset();
        // A list that was cut out of another one begins somewhere in it.
        lengths.drain(..offset.unwrap_or(0));
        lengths.truncate(rows * rays);
        let reserved = lengths.try_reserve(other.dist.len());
        if reserved.is_ok() {
            lengths.extend(other.dist.iter());
        }
        let all = rows + if reserved.is_ok() { other.dist.nrows() } else { 0 };
        self.dist = Array2::from_shape_vec((all, rays), lengths)
            .map_err(|error| Error::Internal(format!("ray lengths: {error}")))?;
        reserved.map_err(|_| short(4 * other.dist.len()))?;
        self.points.extend_from_slice(&other.points);
        self.prob.extend_from_slice(&other.prob);
        Ok(())
    }

    /// The lists joined in order, as the candidates of the tiles of one image.
    ///
    /// # Errors
    /// [`Error::Image`] if the numbers of rays differ, [`Error::Limit`] if there are too many.
    pub fn concatenate(parts: &[StarCandidates]) -> Result<Self> {
        let Some(rays) = parts.first().map(|part| part.dist.ncols()) else { return Ok(Self::empty(0)) };
        let views: Vec<_> = parts.iter().map(|part| part.dist.view()).collect();
        let total: usize = parts.iter().map(Self::len).sum();
        if total > MAX_CANDIDATES {
            return Err(too_many(Some(total)));
        }
        let dist = ndarray::concatenate(Axis(0), &views).map_err(|_| {
            Error::Image(format!("lists of candidates with different numbers of rays, the first {rays}"))
        })?;
        Ok(Self {
            points: parts.iter().flat_map(|part| part.points.iter().copied()).collect(),
            prob: parts.iter().flat_map(|part| part.prob.iter().copied()).collect(),
            dist,
        })
    }

    /// Checks that the parts have one length and that all values are usable.
    ///
    /// # Errors
    /// [`Error::Image`] or [`Error::Limit`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let (n, rays) = self.dist.dim();
        if self.points.len() != n || self.prob.len() != n {
            return Err(Error::Image(format!(
                "{} points, {} scores and {n} rows of distances; give one of each per candidate",
                self.points.len(),
                self.prob.len()
            )));
        }
        if n > MAX_CANDIDATES {
            return Err(too_many(Some(n)));
        }
        if n > 0 && !(3..=MAX_RAYS).contains(&rays) {
            return Err(Error::Image(format!("{rays} rays per candidate; a polygon needs 3 to {MAX_RAYS}")));
        }
        if let Some(k) = self.prob.iter().position(|value| !value.is_finite()) {
            return Err(Error::Image(format!("the score of candidate {k} is {}; it must be finite", self.prob[k])));
        }
        for (k, row) in self.dist.outer_iter().enumerate() {
            if let Some(value) = row.iter().find(|value| !value.is_finite()) {
                let [y, x] = self.points[k];
                return Err(Error::Image(format!("a distance at the point ({y}, {x}) is {value}; it must be finite")));
            }
        }
        Ok(())
    }
}

fn too_many(count: Option<usize>) -> Error {
    let count = count.map_or(format!("more than {MAX_CANDIDATES}"), |count| count.to_string());
    Error::Limit(format!(
        "{count} object candidates, a list holds {MAX_CANDIDATES} at most; raise the probability threshold, or cut the maps \
         into parts"
    ))
}
