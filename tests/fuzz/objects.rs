//! What finds objects, against plain rules.

use cellsparse_core::geometry::diffusion::{FlowRule, label_flows};
use cellsparse_core::geometry::polygon::doubled_area;
use cellsparse_core::geometry::{IntegerPolygon, Overlap};
use cellsparse_core::postprocess::StarCandidates;
use cellsparse_core::postprocess::nms::{integer_outline, non_maximum_suppression};
use cellsparse_core::postprocess::watershed::watershed;
use cellsparse_core::random::Random;
use cellsparse_core::raster::{Connectivity, LabelImage};
use ndarray::{Array2, s};

use crate::fuzz;

#[test]
fn suppression_agrees_with_every_pair_compared() {
    fuzz("nms", 150, |random| {
        let (count, rays) = (random.below(60), [3, 4, 8, 32][random.below(4)]);
        let spread = [1.0, 30.0, 300.0, 1e9][random.below(4)];
        let points = (0..count).map(|_| [0; 2].map(|_: i32| random.uniform(-spread, spread) as i32)).collect();
        let longest = [0.0, 3.0, 20.0, 200.0, 1e7][random.below(5)];
        let dist = Array2::from_shape_simple_fn((count, rays), || {
            let length = random.uniform(0.0, longest) as f32;
            if random.chance(0.02) { -length } else { length }
        });
        let sorted = StarCandidates { points, prob: (0..count).map(|k| 1.0 / (k + 1) as f32).collect(), dist };
        let thresh = [0.0, 0.3, 0.5, 0.9, 1.0, 2.0][random.below(6)];
        let kept = non_maximum_suppression(&sorted, thresh).map_err(|error| error.to_string())?;
        let expected = every_pair(&sorted, thresh);
        if kept == expected { Ok(true) } else { Err(format!("{kept:?} and not {expected:?} at {thresh}")) }
    });
}

/// The rule of suppression with nothing left out.
fn every_pair(sorted: &StarCandidates, thresh: f32) -> Vec<usize> {
    let vertices: Vec<_> = (0..sorted.len()).map(|k| integer_outline(sorted.points[k], sorted.dist.row(k))).collect();
    let outlines: Vec<_> = vertices.iter().map(|vertices| IntegerPolygon::new(vertices)).collect();
    let area = |k: usize| f64::from(0.5 * doubled_area(&vertices[k]).unsigned_abs() as f32) + 1e-10;
    let flat = |k: usize| {
        let same = |axis: usize| vertices[k].iter().all(|vertex| vertex[axis] == vertices[k][0][axis]);
        same(0) || same(1)
    };
    let mut overlap = Overlap::default();
    let mut kept: Vec<usize> = Vec::new();
    for j in 0..sorted.len() {
        let lost = thresh < 1.0
            && kept.iter().any(|&i| {
                let shared = f64::from(overlap.area(&outlines[i], &outlines[j])) / area(i).min(area(j));
                !flat(i) && shared as f32 > thresh
            });
        if !lost {
            kept.push(j);
        }
    }
    kept
}

/// An elevation map of few levels, or of many, with markers and a mask.
fn elevation(random: &mut Random) -> (Array2<f32>, LabelImage, Array2<bool>) {
    let shape = (1 + random.below(14), 1 + random.below(14));
    let levels = [1.0, 4.0, 1e6][random.below(3)];
    let heights = Array2::from_shape_simple_fn(shape, || (random.uniform(0.0, levels).floor() / levels) as f32);
    let often = random.uniform(0.0, 0.3);
    let markers =
        Array2::from_shape_simple_fn(shape, || if random.chance(often) { 1 + random.below(5) as i32 } else { 0 });
    let filled = random.uniform(0.3, 1.0);
    (heights, markers, Array2::from_shape_simple_fn(shape, || random.chance(filled)))
}

#[test]
fn floods_reach_what_they_can_and_keep_their_markers() {
    fuzz("watershed", 300, |random| {
        let (heights, markers, mask) = elevation(random);
        let (connectivity, eight) =
            if random.chance(0.5) { (Connectivity::Four, false) } else { (Connectivity::Eight, true) };
        let flooded = watershed(heights.view(), markers.view(), Some(mask.view()), connectivity);
        let flooded = flooded.map_err(|error| error.to_string())?;
        let expected = plain_flood(&heights, &markers, &mask, eight);
        // Where several markers stand at one level, the reference releases them in the order of a heap, which the plain rule
        // does not know: there only what is reached is compared.
        let mut levels: Vec<u32> = Vec::new();
        for ((at, marker), inside) in markers.indexed_iter().zip(&mask) {
            if *marker > 0 && *inside {
                levels.push(heights[at].to_bits());
            }
        }
        levels.sort_unstable();
        let is_unique = levels.windows(2).all(|pair| pair[0] != pair[1]);
        for ((at, found), expected) in flooded.indexed_iter().zip(&expected) {
            let kept = markers[at] == 0 || !mask[at] || *found == markers[at];
            if !kept || (*found == 0) != (*expected == 0) || (is_unique && found != expected) {
                return Err(format!("{at:?} became {found} and not {expected}"));
            }
        }
        Ok(is_unique)
    });
}

/// Always the lowest pixel that was seen, and of equal ones the first.
fn plain_flood(heights: &Array2<f32>, markers: &LabelImage, mask: &Array2<bool>, eight: bool) -> LabelImage {
    let mut labels = LabelImage::zeros(heights.dim());
    let mut open: Vec<(f32, usize, (usize, usize))> = Vec::new();
    for (at, marker) in markers.indexed_iter().filter(|(at, marker)| **marker > 0 && mask[*at]) {
        labels[at] = *marker;
        open.push((heights[at], 0, at));
    }
    let mut steps = vec![(-1, 0), (0, -1), (0, 1), (1, 0)];
    if eight {
        steps.extend([(-1, -1), (-1, 1), (1, -1), (1, 1)]);
    }
    let mut age = 1;
    while let Some(lowest) =
        (0..open.len()).min_by(|a, b| open[*a].0.total_cmp(&open[*b].0).then(open[*a].1.cmp(&open[*b].1)))
    {
        let (level, _, (y, x)) = open.remove(lowest);
        for (down, right) in &steps {
            let next = (y.wrapping_add_signed(*down), x.wrapping_add_signed(*right));
            if mask.get(next) == Some(&true) && labels[next] == 0 {
                labels[next] = labels[[y, x]];
                age += 1;
                open.push((heights[next].max(level), age, next));
            }
        }
    }
    labels
}

#[test]
fn flows_agree_with_heat_that_is_spread_pixel_by_pixel() {
    fuzz("flows", 60, |random| {
        let shape = (1 + random.below(20), 1 + random.below(20));
        let coarse = Array2::from_shape_simple_fn((10, 10), || random.below(4) as i32 - 1);
        let labels = Array2::from_shape_fn(shape, |(y, x)| {
            if random.chance(0.05) { random.below(4) as i32 } else { coarse[[y / 4, x / 4]] }
        });
        let flows = label_flows(labels.view(), FlowRule::Reference).map_err(|error| error.to_string())?;
        for label in 1..4 {
            let Some(heat) = spread(&labels, label) else { continue };
            for (at, _) in labels.indexed_iter().filter(|(_, value)| **value == label) {
                let (y, x) = at;
                let d = [heat[[y + 2, x + 1]] - heat[[y, x + 1]], heat[[y + 1, x + 2]] - heat[[y + 1, x]]];
                let length = 1e-60 + d[0].hypot(d[1]);
                for axis in 0..2 {
                    let (found, expected) = (f64::from(flows[[axis, y, x]]), d[axis] / length);
                    // Where the gradient is as small as rounding, it has no direction.
                    if (found - expected).abs() > 1e-5 && length > 1e-12 * heat[[y + 1, x + 1]] {
                        return Err(format!("flow {axis} at {at:?} of cell {label} is {found} and not {expected}"));
                    }
                }
            }
        }
        Ok(true)
    });
}

/// The heat of one cell by its definition, with a border of one pixel.
fn spread(labels: &Array2<i32>, label: i32) -> Option<Array2<f64>> {
    let pixels: Vec<(usize, usize)> =
        labels.indexed_iter().filter(|(_, value)| **value == label).map(|(at, _)| at).collect();
    let top = pixels.iter().map(|at| at.0).min()?;
    let left = pixels.iter().map(|at| at.1).min()?;
    let bottom = pixels.iter().map(|at| at.0).max()?;
    let right = pixels.iter().map(|at| at.1).max()?;
    let mean =
        |of: &dyn Fn(&(usize, usize)) -> usize| pixels.iter().map(of).sum::<usize>() as f64 / pixels.len() as f64;
    let (my, mx) = (mean(&|at| at.0 - top + 1), mean(&|at| at.1 - left + 1));
    let distance = |at: &(usize, usize)| {
        let (dx, dy) = ((at.1 - left + 1) as f64 - mx, (at.0 - top + 1) as f64 - my);
        dx * dx + dy * dy
    };
    let centre =
        pixels.iter().copied().reduce(|best, next| if distance(&next) < distance(&best) { next } else { best })?;
    let mut heat = Array2::<f64>::zeros((labels.nrows() + 2, labels.ncols() + 2));
    for _ in 0..2 * (bottom - top + 1 + right - left + 1 + 4) {
        heat[[centre.0 + 1, centre.1 + 1]] += 1.0;
        let old = heat.clone();
        for &(y, x) in &pixels {
            heat[[y + 1, x + 1]] = old.slice(s![y..y + 3, x..x + 3]).sum() / 9.0;
        }
    }
    Some(heat)
}
