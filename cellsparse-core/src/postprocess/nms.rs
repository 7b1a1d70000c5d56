//! Non-maximum suppression of star-convex polygons: of overlapping candidates the one with the highest score stays.

use ndarray::{ArrayView1, ArrayView2, ArrayView3};
use rayon::prelude::*;

use super::candidates::{StarCandidates, candidates};
use super::discs::Discs;
use super::neighbours::{Bounds, Neighbours};
use crate::error::{Error, Result};
use crate::geometry::polygon::doubled_area;
use crate::geometry::{COORDINATE_LIMIT, Outline, Overlap};

/// Candidates of dense maps that survive suppression, by descending score (equal scores: the later cell first).
///
/// Arguments as of [`candidates`]; `nms_thresh` is the share of the smaller polygon's area above which two polygons count
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
    let sorted = candidates(prob, dist, grid, prob_thresh, border)?.sorted();
    let kept = non_maximum_suppression(&sorted, nms_thresh)?;
    Ok(sorted.select(&kept))
}

/// Places of the candidates that survive, ascending. The list must be sorted already: an earlier candidate wins.
///
/// Going through the list, every candidate that is still there removes all later ones for which
/// `area(intersection) / min(area, area) > nms_thresh`. Vertices are truncated towards zero to whole pixels before areas
/// are taken, and intersections have whole vertices too ([`Overlap`]), as in StarDist 0.9. Polygons without area neither
/// remove others nor are removed. Negative distances are used as they are; vertices beyond ±[`COORDINATE_LIMIT`] pixels
/// are moved to that limit.
///
/// # Errors
/// [`Error::Image`] if the parts of the list differ in length, there are fewer than 3 rays, or a score or a distance is
/// not finite; [`Error::Config`] if the threshold is not a number; [`Error::Limit`] if there are too many candidates.
pub fn non_maximum_suppression(sorted: &StarCandidates, nms_thresh: f32) -> Result<Vec<usize>> {
    sorted.check()?;
    if nms_thresh.is_nan() {
        return Err(Error::Config("the overlap threshold is not a number; give a value between 0 and 1".into()));
    }
    let stars = Stars::new(sorted);
    let grid = Neighbours::new(&stars.bounds);
    let mut suppressed = vec![false; sorted.len()];
    let mut kept = Vec::new();
    let mut rivals = Vec::new();
    let mut workspace = Workspace::default();
    for i in 0..sorted.len() {
        if suppressed[i] {
            continue;
        }
        kept.push(i);
        rivals.clear();
        grid.visit(&stars.bounds[i], |j| {
            if j > i && !suppressed[j] && stars.may_overlap(i, j) {
                rivals.push(j);
            }
        });
        if rivals.is_empty() {
            continue;
        }
        let winner = stars.outline(i);
        if rivals.len() < PARALLEL_FROM {
            for &j in &rivals {
                suppressed[j] = stars.overlap_exceeds(nms_thresh, &winner, i, j, &mut workspace);
            }
        } else {
            let lost =
                |workspace: &mut Workspace, &j: &usize| stars.overlap_exceeds(nms_thresh, &winner, i, j, workspace);
            let results: Vec<bool> = rivals.par_iter().with_min_len(16).map_init(Workspace::default, lost).collect();
            for (&j, lost) in rivals.iter().zip(results) {
                suppressed[j] = lost;
            }
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

/// Rivals of one candidate from which on their overlaps are computed in parallel.
const PARALLEL_FROM: usize = 64;

#[derive(Default)]
struct Workspace {
    vertices: Vec<[i32; 2]>,
    outline: Outline,
    overlap: Overlap,
}

/// Candidates with what suppression asks about them again and again.
struct Stars<'a> {
    candidates: &'a StarCandidates,
    /// (sin, cos) of every ray.
    directions: Vec<[f32; 2]>,
    bounds: Vec<Bounds>,
    areas: Vec<f32>,
    discs: Vec<Discs>,
    /// Longest ray of each candidate, and of all.
    radii: Vec<f32>,
    largest_radius: f32,
}

impl<'a> Stars<'a> {
    fn new(candidates: &'a StarCandidates) -> Self {
        let mut stars = Self {
            candidates,
            directions: directions(candidates.dist.ncols()),
            bounds: Vec::with_capacity(candidates.len()),
            areas: Vec::with_capacity(candidates.len()),
            discs: Vec::with_capacity(candidates.len()),
            radii: Vec::with_capacity(candidates.len()),
            largest_radius: 0.0,
        };
        let mut vertices = Vec::new();
        for k in 0..candidates.len() {
            stars.vertices(k, &mut vertices);
            stars.bounds.push(Bounds::around(&vertices));
            stars.areas.push(0.5 * doubled_area(&vertices).unsigned_abs() as f32);
            stars.discs.push(Discs::new(candidates.dist.row(k).iter().copied()));
            stars.radii.push(candidates.dist.row(k).iter().copied().fold(0.0, f32::max));
        }
        stars.largest_radius = stars.radii.iter().copied().fold(0.0, f32::max);
        stars
    }

    fn vertices(&self, k: usize, vertices: &mut Vec<[i32; 2]>) {
        integer_vertices(self.candidates.points[k], self.candidates.dist.row(k), &self.directions, vertices);
    }

    fn outline(&self, k: usize) -> Outline {
        let mut vertices = Vec::new();
        self.vertices(k, &mut vertices);
        Outline::new(&vertices)
    }

    /// Squared distance of two centres in square pixels.
    fn squared_distance(&self, i: usize, j: usize) -> f32 {
        let [[ay, ax], [by, bx]] = [self.candidates.points[i], self.candidates.points[j]].map(|p| p.map(|v| v as f32));
        (ay - by) * (ay - by) + (ax - bx) * (ax - bx)
    }

    fn may_overlap(&self, i: usize, j: usize) -> bool {
        let reach = self.largest_radius + self.radii[i];
        self.bounds[i].meets(&self.bounds[j]) && self.squared_distance(i, j) < reach * reach
    }

    /// Whether two polygons, the first given with its outline, share more than `thresh` of the smaller one.
    fn overlap_exceeds(&self, thresh: f32, outline: &Outline, i: usize, j: usize, workspace: &mut Workspace) -> bool {
        let [a, b] = [self.areas[i], self.areas[j]].map(|area| f64::from(area) + 1e-10);
        let smaller = a.min(b);
        let distance = f64::from(self.squared_distance(i, j)).sqrt();
        if let Some(known) = self.discs[i].share_more_than(&self.discs[j], distance, f64::from(thresh) * smaller) {
            return known;
        }
        self.vertices(j, &mut workspace.vertices);
        workspace.outline.set(&workspace.vertices);
        (f64::from(workspace.overlap.area(outline, &workspace.outline)) / smaller) as f32 > thresh
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
    vertices.clear();
    vertices.extend(dist.iter().zip(directions).map(|(&d, &[sin, cos])| [whole(y + d * sin), whole(x + d * cos)]));
}
