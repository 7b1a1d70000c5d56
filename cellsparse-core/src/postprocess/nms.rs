//! Non-maximum suppression of star-convex polygons: of overlapping candidates the one with the highest score stays.

use ndarray::{ArrayView1, ArrayView2, ArrayView3};
use rayon::prelude::*;

use super::candidates::{StarCandidates, candidates};
use super::circles::Circles;
use super::neighbours::{Bounds, Neighbours};
use super::spans::Spans;
use crate::budget::{gathered, pushed, reserve, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::geometry::polygon::doubled_area;
use crate::geometry::{COORDINATE_LIMIT, IntegerPolygon, Overlap};

/// Candidates of dense maps that survive suppression, by descending score (equal scores: the later cell first).
///
/// Arguments as of [`candidates`]; `nms_thresh` is the fraction of the smaller polygon's area above which two polygons count
/// as the same object.
///
/// # Errors
/// As of [`candidates`] and [`non_maximum_suppression`].
pub fn non_maximum_suppression_dense(
    prob: ArrayView2<f32>,
    dist: ArrayView3<f32>,
    grid: [usize; 2],
    border: [[usize; 2]; 2],
    prob_thresh: f32,
    nms_thresh: f32,
) -> Result<StarCandidates> {
    let sorted = candidates(prob, dist, grid, prob_thresh, border)?.sorted()?;
    let kept = non_maximum_suppression(&sorted, nms_thresh)?;
    sorted.select(&kept)
}

/// Places of the candidates that survive, ascending. The list must be sorted already: an earlier candidate wins.
///
/// Going through the list, every candidate that is still there removes all later ones for which
/// `area(intersection) / min(area, area) > nms_thresh`. Vertices are truncated towards zero to whole pixels before areas
/// are taken, and intersections have whole vertices too ([`Overlap`]), as in StarDist 0.9. Polygons without area neither
/// remove others nor are removed; from a threshold of 1 on nothing is removed, since no two polygons share more than the
/// whole of the smaller one (StarDist then still removes some whose overlap is rounded up). Negative distances are used
/// as they are; vertices beyond ±[`COORDINATE_LIMIT`] pixels are moved to that limit.
///
/// # Errors
/// [`Error::Image`] if the parts of the list differ in length, there are fewer than 3 rays, or a score or a distance is
/// not finite; [`Error::Config`] if the threshold is not a number; [`Error::Limit`] if there are too many candidates.
pub fn non_maximum_suppression(sorted: &StarCandidates, nms_thresh: f32) -> Result<Vec<usize>> {
    non_maximum_suppression_until(sorted, nms_thresh, &CancelToken::new())
}

/// As [`non_maximum_suppression`], and ends early when `cancel` is raised: for polygons that lie on one another without
/// removing each other, every pair may have to be compared.
///
/// # Errors
/// As of [`non_maximum_suppression`], and [`Error::Cancelled`].
pub fn non_maximum_suppression_until(
    sorted: &StarCandidates,
    nms_thresh: f32,
    cancel: &CancelToken,
) -> Result<Vec<usize>> {
    sorted.check()?;
    if nms_thresh.is_nan() {
        return Err(Error::Config("the overlap threshold is not a number; give a value between 0 and 1".into()));
    }
    if nms_thresh >= ALL {
        return gathered(sorted.len(), 0..sorted.len(), WHAT);
    }
    let stars = Stars::new(sorted)?;
    let grid = Neighbours::new(&stars.bounds)?;
    let mut suppressed: Vec<bool> = zeros(sorted.len(), WHAT)?;
    let mut kept = Vec::new();
    let mut rivals = Vec::new();
    let mut workspace = Workspace::default();
    for i in 0..sorted.len() {
        if suppressed[i] {
            continue;
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        pushed(&mut kept, i, WHAT)?;
        if stars.is_flat(i) && nms_thresh >= 0.0 {
            continue;
        }
        rivals.clear();
        grid.visit(&stars.bounds[i], |j| {
            if j > i && !suppressed[j] && stars.may_overlap(i, j) {
                rivals.push(j);
            }
        });
        if rivals.is_empty() {
            continue;
        }
        for (j, lost) in stars.losers(nms_thresh, i, &rivals, &mut workspace, cancel)? {
            suppressed[j] = lost;
        }
    }
    Ok(kept)
}

/// The whole vertices `[y, x]` of a star, as suppression uses them: `point` is its centre, `dist` its ray lengths in pixels.
pub fn integer_outline(point: [i32; 2], dist: ArrayView1<f32>) -> Vec<[i32; 2]> {
    let mut vertices = Vec::new();
    integer_vertices(point, dist, &directions(dist.len()), &mut vertices);
    vertices
}

const WHAT: &str = "the suppression of object candidates";

/// The overlap that nothing exceeds.
pub(super) const ALL: f32 = 1.0;

/// Rivals after which it is asked whether to stop.
const PATIENCE: usize = 16;

/// Rivals of one candidate from which on their overlaps are computed in parallel.
const PARALLEL_FROM: usize = 64;

#[derive(Default)]
pub(super) struct Workspace {
    vertices: Vec<[i32; 2]>,
    spans: Spans,
    outline: IntegerPolygon,
    overlap: Overlap,
}

/// The candidate that others are compared with.
struct Winner {
    index: usize,
    spans: Spans,
    outline: IntegerPolygon,
}

/// Candidates with what suppression asks about them again and again.
pub(super) struct Stars<'a> {
    candidates: &'a StarCandidates,
    /// (sin, cos) of every ray.
    directions: Vec<[f32; 2]>,
    pub bounds: Vec<Bounds>,
    shapes: Vec<Shape>,
    /// Longest ray of all.
    largest_radius: f32,
}

struct Shape {
    area: f32,
    circles: Circles,
    /// The longest ray.
    radius: f32,
}

impl<'a> Stars<'a> {
    /// Measures all candidates.
    ///
    /// # Errors
    /// [`Error::Limit`] where there is no memory.
    pub fn new(candidates: &'a StarCandidates) -> Result<Self> {
        let directions = directions(candidates.dist.ncols());
        let measure = |vertices: &mut Vec<[i32; 2]>, k: usize| {
            let dist = candidates.dist.row(k);
            integer_vertices(candidates.points[k], dist, &directions, vertices);
            let area = 0.5 * doubled_area(vertices).unsigned_abs() as f32;
            let radius = dist.iter().copied().fold(0.0, f32::max);
            (Bounds::around(vertices), Shape { area, circles: Circles::new(dist.iter().copied()), radius })
        };
        let measured = (0..candidates.len()).into_par_iter().with_min_len(256).map_init(Vec::new, measure);
        // With room for all, nothing is taken by the threads.
        let (mut bounds, mut shapes) = (reserve(candidates.len(), WHAT)?, reserve::<Shape>(candidates.len(), WHAT)?);
        measured.unzip_into_vecs(&mut bounds, &mut shapes);
        let largest_radius = shapes.iter().map(|shape| shape.radius).fold(0.0, f32::max);
        Ok(Self { candidates, directions, bounds, shapes, largest_radius })
    }

    fn vertices(&self, k: usize, vertices: &mut Vec<[i32; 2]>) {
        integer_vertices(self.candidates.points[k], self.candidates.dist.row(k), &self.directions, vertices);
    }

    fn winner(&self, index: usize) -> Winner {
        let mut vertices = Vec::new();
        self.vertices(index, &mut vertices);
        let mut spans = Spans::default();
        spans.set(&vertices, self.candidates.points[index]);
        Winner { index, spans, outline: IntegerPolygon::new(&vertices) }
    }

    /// Squared distance of two centres in square pixels.
    fn squared_distance(&self, i: usize, j: usize) -> f32 {
        let [[ay, ax], [by, bx]] = [self.candidates.points[i], self.candidates.points[j]].map(|p| p.map(|v| v as f32));
        (ay - by) * (ay - by) + (ax - bx) * (ax - bx)
    }

    /// Whether all vertices lie in one row or column: such a polygon shares no area with any other.
    fn is_flat(&self, k: usize) -> bool {
        let Bounds { y, x } = self.bounds[k];
        y[0] == y[1] || x[0] == x[1]
    }

    pub fn may_overlap(&self, i: usize, j: usize) -> bool {
        let reach = self.largest_radius + self.shapes[i].radius;
        self.bounds[i].meets(&self.bounds[j]) && self.squared_distance(i, j) < reach * reach
    }

    /// For every rival of candidate `i` whether the two share more than `thresh` of the smaller polygon.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn losers(
        &self,
        thresh: f32,
        i: usize,
        rivals: &[usize],
        workspace: &mut Workspace,
        cancel: &CancelToken,
    ) -> Result<Vec<(usize, bool)>> {
        let winner = self.winner(i);
        let lost = |workspace: &mut Workspace, &j: &usize| (j, self.overlap_exceeds(thresh, &winner, j, workspace));
        if rivals.len() < PARALLEL_FROM {
            return Ok(rivals.iter().map(|j| lost(workspace, j)).collect());
        }
        let some = |workspace: &mut Workspace, rivals: &[usize]| -> Result<Vec<(usize, bool)>> {
            cancel.check()?;
            Ok(rivals.iter().map(|j| lost(workspace, j)).collect())
        };
        let all: Result<Vec<_>> = rivals.par_chunks(PATIENCE).map_init(Workspace::default, some).collect();
        Ok(all?.concat())
    }

    /// Whether two polygons share more than `thresh` of the smaller one.
    fn overlap_exceeds(&self, thresh: f32, winner: &Winner, j: usize, workspace: &mut Workspace) -> bool {
        let i = winner.index;
        let [a, b] = [i, j].map(|k| f64::from(self.shapes[k].area) + 1e-10);
        let smaller = a.min(b);
        let limit = f64::from(thresh) * smaller;
        // What is in two boxes stays there when it is rounded; the margin is for parts that then lie on one another.
        if self.bounds[i].shared(&self.bounds[j]) * 1.1 + 4.0 <= limit {
            return false;
        }
        let distance = f64::from(self.squared_distance(i, j)).sqrt();
        let [first, second] = [i, j].map(|k| &self.shapes[k].circles);
        if let Some(known) = first.overlap_more_than(second, distance, limit) {
            return known;
        }
        self.vertices(j, &mut workspace.vertices);
        workspace.spans.set(&workspace.vertices, self.candidates.points[i]);
        if let Some(known) = winner.spans.overlap_more_than(&workspace.spans, limit) {
            return known;
        }
        workspace.outline.set(&workspace.vertices);
        (f64::from(workspace.overlap.area(&winner.outline, &workspace.outline)) / smaller) as f32 > thresh
    }
}

/// Direction of every ray as (sin, cos), from angles rounded to single precision.
fn directions(rays: usize) -> Vec<[f32; 2]> {
    let step = (std::f64::consts::TAU / rays.max(1) as f64) as f32;
    (0..rays)
        .map(|k| {
            let angle = step * k as f32;
            [angle.sin(), angle.cos()]
        })
        .collect()
}

/// Vertices of a star, truncated towards zero to whole pixels.
fn integer_vertices(point: [i32; 2], dist: ArrayView1<f32>, directions: &[[f32; 2]], vertices: &mut Vec<[i32; 2]>) {
    let [y, x] = point.map(|v| v as f32);
    let whole = |v: f32| (v as i32).clamp(-COORDINATE_LIMIT, COORDINATE_LIMIT);
    vertices.resize(dist.len().min(directions.len()), [0; 2]);
    for ((vertex, &d), &[sin, cos]) in vertices.iter_mut().zip(dist).zip(directions) {
        *vertex = [whole(y + d * sin), whole(x + d * cos)];
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};

    use super::*;
    use crate::postprocess::{BORDER, MAX_RAYS};
    use crate::random::Random;

    fn list(points: Vec<[i32; 2]>, dist: Array2<f32>) -> StarCandidates {
        StarCandidates { prob: (0..points.len()).map(|k| 1.0 / (k as f32 + 1.0)).collect(), points, dist }
    }

    /// The definition: every pair, every overlap from the polygons themselves.
    fn brute_force(sorted: &StarCandidates, thresh: f32) -> Vec<usize> {
        if thresh >= ALL {
            return (0..sorted.len()).collect();
        }
        let vertices: Vec<_> =
            (0..sorted.len()).map(|k| integer_outline(sorted.points[k], sorted.dist.row(k))).collect();
        let outlines: Vec<_> = vertices.iter().map(|vertices| IntegerPolygon::new(vertices)).collect();
        let area = |k: usize| f64::from(0.5 * doubled_area(&vertices[k]).unsigned_abs() as f32) + 1e-10;
        let mut overlap = Overlap::default();
        let mut kept: Vec<usize> = Vec::new();
        for j in 0..sorted.len() {
            let suppressed = kept
                .iter()
                .any(|&i| (f64::from(overlap.area(&outlines[i], &outlines[j])) / area(i).min(area(j))) as f32 > thresh);
            if !suppressed {
                kept.push(j);
            }
        }
        kept
    }

    #[test]
    fn shortcuts_do_not_change_the_survivors() {
        let mut random = Random::new(5, 0);
        for round in 0..60 {
            let n = 1 + random.below(150);
            let rays = [3, 8, 16, 32, 64][round % 5];
            let spread = [20.0, 60.0, 400.0][round % 3];
            let noise = [0.0, 0.05, 0.3][(round / 3) % 3];
            let points = (0..n).map(|_| [0; 2].map(|_: i32| random.uniform(-spread, spread) as i32)).collect();
            let mut dist = Array2::zeros((n, rays));
            for mut row in dist.outer_iter_mut() {
                let radius = random.uniform(0.5, 25.0);
                row.mapv_inplace(|_: f32| (radius * (1.0 + noise * random.normal())).max(1e-3) as f32);
            }
            // One object far larger than the others.
            dist.row_mut(n / 2).fill(150.0);
            let sorted = list(points, dist);
            for thresh in [0.0, 0.1, 0.4, 0.7, 1.0] {
                let kept = non_maximum_suppression(&sorted, thresh).unwrap();
                assert_eq!(kept, brute_force(&sorted, thresh), "round {round} at {thresh}");
            }
        }
    }

    #[test]
    fn few_and_degenerate_candidates() {
        assert_eq!(non_maximum_suppression(&StarCandidates::empty(32), 0.4).unwrap(), Vec::<usize>::new());
        assert_eq!(non_maximum_suppression(&StarCandidates::empty(0), 0.4).unwrap(), Vec::<usize>::new());
        let one = list(vec![[3, 4]], Array2::from_elem((1, 8), 5.0));
        assert_eq!(non_maximum_suppression(&one, 0.4).unwrap(), vec![0]);
        // Polygons without area neither remove nor are removed.
        let tiny = list(vec![[5, 5]; 40], Array2::zeros((40, 8)));
        assert_eq!(non_maximum_suppression(&tiny, 0.0).unwrap().len(), 40);
    }

    /// As many tiny polygons as large ones, and one more, scattered so that few meet.
    fn tiny_and_large(count: usize) -> StarCandidates {
        let mut random = Random::new(12, 0);
        let side = 40.0 * (count as f64).sqrt();
        let points = (0..2 * count + 1).map(|_| [0; 2].map(|_: i32| random.uniform(0.0, side) as i32)).collect();
        let radius = |k: usize| if k.is_multiple_of(2) { 1e-3 } else { 20.0 };
        list(points, Array2::from_shape_fn((2 * count + 1, 8), |(k, _)| radius(k)))
    }

    #[test]
    fn tiny_polygons_do_not_make_the_large_ones_visit_each_other() {
        let sorted = tiny_and_large(99_999);
        assert_eq!(non_maximum_suppression(&sorted, 1.0).unwrap().len(), 199_999);
        let stars = Stars::new(&sorted).unwrap();
        let grid = Neighbours::new(&stars.bounds).unwrap();
        let mut visits = 0;
        stars.bounds.iter().for_each(|bounds| grid.visit(bounds, |_| visits += 1));
        assert!(visits < 60 * sorted.len(), "{visits}");

        let few = tiny_and_large(300);
        for thresh in [0.0, 0.4, 1.0] {
            assert_eq!(non_maximum_suppression(&few, thresh).unwrap(), brute_force(&few, thresh));
        }
    }

    #[test]
    fn flat_polygons_in_one_place_are_not_compared_with_each_other() {
        // Compared pair by pair, these would take minutes.
        let flat = list(vec![[5, 5]; 300_000], Array2::zeros((300_000, 8)));
        assert_eq!(non_maximum_suppression(&flat, 0.0).unwrap().len(), 300_000);
    }

    #[test]
    fn suppression_ends_when_it_is_cancelled() {
        let cancel = CancelToken::new();
        let one = list(vec![[3, 4]], Array2::from_elem((1, 8), 5.0));
        assert_eq!(non_maximum_suppression_until(&one, 0.4, &cancel).unwrap(), vec![0]);
        cancel.cancel();
        assert!(matches!(non_maximum_suppression_until(&one, 0.4, &cancel), Err(Error::Cancelled)));
    }

    #[test]
    fn of_equal_scores_the_later_cell_wins() {
        let prob = Array2::from_elem((9, 9), 0.9);
        let dist = Array3::from_elem((9, 9, 16), 20.0);
        let found = non_maximum_suppression_dense(prob.view(), dist.view(), [2, 1], BORDER, 0.5, 0.4).unwrap();
        assert_eq!(found.points, vec![[12, 6]]);
        let none = non_maximum_suppression_dense(prob.view(), dist.view(), [2, 1], BORDER, 0.9, 0.4).unwrap();
        assert!(none.is_empty());
        let small = non_maximum_suppression_dense(
            prob.slice(ndarray::s![..3, ..3]),
            dist.slice(ndarray::s![..3, ..3, ..]),
            [1, 1],
            BORDER,
            0.5,
            0.4,
        );
        assert!(small.unwrap().is_empty());
    }

    #[test]
    fn unusable_values_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut sorted = list(vec![[0, 0], [9, 9]], Array2::from_elem((2, 8), 5.0));
            sorted.dist[[1, 3]] = bad;
            let message = non_maximum_suppression(&sorted, 0.4).unwrap_err().to_string();
            assert!(message.contains("(9, 9)"), "{message}");
            sorted.dist[[1, 3]] = 5.0;
            sorted.prob[0] = bad;
            assert!(non_maximum_suppression(&sorted, 0.4).is_err());
        }
        let good = list(vec![[0, 0]], Array2::from_elem((1, 8), 5.0));
        assert!(non_maximum_suppression(&good, f32::NAN).is_err());
        assert!(non_maximum_suppression(&list(vec![[0, 0]], Array2::zeros((1, 2))), 0.4).is_err());
        assert!(non_maximum_suppression(&list(vec![[0, 0]], Array2::zeros((1, MAX_RAYS + 1))), 0.4).is_err());
        assert!(non_maximum_suppression(&list(vec![], Array2::zeros((1, 8))), 0.4).is_err());
        let (prob, dist) = (Array2::from_elem((5, 5), 1.0), Array3::zeros((5, 4, 8)));
        assert!(non_maximum_suppression_dense(prob.view(), dist.view(), [1, 1], BORDER, 0.5, 0.4).is_err());
        let dist = Array3::zeros((5, 5, 8));
        assert!(non_maximum_suppression_dense(prob.view(), dist.view(), [0, 1], BORDER, 0.5, 0.4).is_err());
        assert!(non_maximum_suppression_dense(prob.view(), dist.view(), [usize::MAX, 1], BORDER, 0.5, 0.4).is_err());
        assert!(non_maximum_suppression_dense(prob.view(), dist.view(), [1, 1], BORDER, f32::NAN, 0.4).is_err());
    }

    #[test]
    fn absurd_distances_end() {
        let mut random = Random::new(8, 0);
        for scale in [1e-30, 1e3, 1e6, 1e9, 3e38] {
            let dist = Array2::from_shape_fn((60, 32), |_| (random.uniform(-1.0, 1.0) * scale) as f32);
            let points = (0..60).map(|_| [0; 2].map(|_: i32| random.uniform(-2e9, 2e9) as i32)).collect();
            let kept = non_maximum_suppression(&list(points, dist), 0.4).unwrap();
            assert_eq!(kept[0], 0);
        }
    }
}
