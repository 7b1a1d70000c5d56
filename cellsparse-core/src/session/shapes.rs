//! From a shape to the pixels that it covers.

use super::edit::{Run, Shape};
use crate::geometry::fill_rings;

/// The runs of pixels of an image of `[rows, columns]` that a shape covers, in increasing row; runs of one row neither overlap
/// nor touch.
pub(super) fn covered(shape: &Shape, size: [usize; 2]) -> Vec<Run> {
    let mut runs = Vec::new();
    match shape {
        Shape::Polygon { points } => {
            let mut ring = points.clone();
            ring.extend(points.first());
            fill_rings(&[&ring], (size[0], size[1]), |row, first, end| runs.push([row, first, end].map(|n| n as u32)));
        }
        Shape::Stroke { points, radius } => {
            for (index, &point) in points.iter().enumerate() {
                let before = index.checked_sub(1).and_then(|before| points.get(before));
                add_segment(*before.unwrap_or(&point), point, *radius, size, &mut runs);
            }
        }
    }
    joined(runs)
}

/// The pixels whose centres are not further than `radius` from the segment, and the two that its ends lie in.
fn add_segment(from: [f64; 2], to: [f64; 2], radius: f64, [rows, columns]: [usize; 2], runs: &mut Vec<Run>) {
    for [x, y] in [from, to] {
        if x >= 0.0 && y >= 0.0 && x < columns as f64 && y < rows as f64 {
            runs.push([y as u32, x as u32, x as u32 + 1]);
        }
    }
    let low = (from[1].min(to[1]) - radius - 0.5).ceil().clamp(0.0, rows as f64) as usize;
    let high = ((from[1].max(to[1]) + radius - 0.5).floor() + 1.0).clamp(0.0, rows as f64) as usize;
    for row in low..high {
        let Some([left, right]) = crossing(from, to, radius, row as f64 + 0.5) else { continue };
        let first = (left - 0.5).ceil().clamp(0.0, columns as f64) as u32;
        let end = ((right - 0.5).floor() + 1.0).clamp(0.0, columns as f64) as u32;
        if first < end {
            runs.push([row as u32, first, end]);
        }
    }
}

/// Where the horizontal line at `y` lies within `radius` of a segment: an interval, since the area is convex.
fn crossing(from: [f64; 2], to: [f64; 2], radius: f64, y: f64) -> Option<[f64; 2]> {
    let mut interval: Option<[f64; 2]> = None;
    let mut add = |a: f64, b: f64| {
        let [low, high] = interval.unwrap_or([f64::INFINITY, f64::NEG_INFINITY]);
        interval = Some([low.min(a).min(b), high.max(a).max(b)]);
    };
    for [x, centre] in [from, to] {
        let half = radius.powi(2) - (y - centre).powi(2);
        if half >= 0.0 {
            add(x - half.sqrt(), x + half.sqrt());
        }
    }
    // The long sides of the rectangle between the two discs.
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = dx.hypot(dy);
    if length > 0.0 {
        let normal = [-dy / length * radius, dx / length * radius];
        for side in [1.0, -1.0] {
            let (x, start) = (from[0] + side * normal[0], from[1] + side * normal[1]);
            let along = (y - start) / dy;
            if dy != 0.0 && (0.0..=1.0).contains(&along) {
                add(x + along * dx, x + along * dx);
            }
        }
        // The short sides end on the long ones, so a line that crosses the rectangle crosses a long side or a disc.
    }
    interval
}

/// The same pixels, in runs that neither overlap nor touch.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    let mut result: Vec<Run> = Vec::with_capacity(runs.len());
    for [row, first, end] in runs {
        match result.last_mut() {
            Some([last, _, until]) if *last == row && first <= *until => *until = end.max(*until),
            _ => result.push([row, first, end]),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn painted(shape: &Shape, size: [usize; 2]) -> Array2<bool> {
        let mut map = Array2::from_elem(size, false);
        for [row, first, end] in covered(shape, size) {
            for column in first..end {
                assert!(!map[[row as usize, column as usize]], "painted twice");
                map[[row as usize, column as usize]] = true;
            }
        }
        map
    }

    /// Distance of a point from a segment.
    fn distance([x, y]: [f64; 2], a: [f64; 2], b: [f64; 2]) -> f64 {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = dx * dx + dy * dy;
        let along = if length > 0.0 { (((x - a[0]) * dx + (y - a[1]) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
        (x - a[0] - along * dx).hypot(y - a[1] - along * dy)
    }

    #[test]
    fn a_brush_covers_what_is_not_further_than_its_radius() {
        let lines: [&[[f64; 2]]; 4] = [
            &[[10.3, 9.8]],
            &[[3.2, 4.1], [20.7, 11.3], [20.7, 19.0]],
            &[[-5.0, 8.0], [40.0, 8.5]],
            &[[6.0, -9.0], [6.5, 50.0], [6.5, 50.0]],
        ];
        for (points, radius) in lines.iter().flat_map(|line| [0.0, 0.7, 2.0, 5.3].map(|radius| (*line, radius))) {
            let map = painted(&Shape::Stroke { points: points.to_vec(), radius }, [22, 27]);
            for ((row, column), painted) in map.indexed_iter() {
                let centre = [column as f64 + 0.5, row as f64 + 0.5];
                let pairs = points.iter().zip(points.iter().skip(1).chain(points.last()));
                let nearest = pairs.map(|(a, b)| distance(centre, *a, *b)).fold(f64::INFINITY, f64::min);
                let own = points.iter().any(|[x, y]| x.floor() == column as f64 && y.floor() == row as f64);
                let clear = (nearest - radius).abs() > 1e-9;
                assert!(!clear || *painted == (own || nearest < radius), "{points:?} {radius} at {row}, {column}");
            }
        }
    }

    #[test]
    fn a_polygon_covers_the_centres_inside_and_nothing_outside_the_image() {
        let shape = Shape::Polygon { points: vec![[-3.0, 1.0], [3.0, 1.0], [3.0, 90.0], [-3.0, 90.0]] };
        assert_eq!(covered(&shape, [4, 5]), [[1, 0, 3], [2, 0, 3], [3, 0, 3]]);
        let far = Shape::Polygon { points: vec![[-3.0, -3.0], [-2.0, -3.0], [-2.0, -1.0]] };
        assert!(covered(&far, [4, 5]).is_empty());
    }
}
