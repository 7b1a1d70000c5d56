//! Fewer points for the same shape: the Douglas-Peucker rule.

use super::outline::{ExactOutline, Part};

/// Simplifies a polyline or a closed ring `[x, y]`; a point further than `tolerance` (pixels) from the simplified line
/// is kept.
///
/// Between two kept points, the first of those furthest from their segment is kept when its distance exceeds the
/// tolerance, and both halves are treated alike; a ring starts with the pair (first, last), whose distance is that to
/// the point itself. This is GEOS 3.11 `DouglasPeuckerSimplifier` on the ring's own start point.
/// A tolerance that is not positive returns the points as they are.
pub fn douglas_peucker(points: &[[f64; 2]], tolerance: f64) -> Vec<[f64; 2]> {
    if tolerance.is_nan() || tolerance <= 0.0 || points.len() < 3 {
        return points.to_vec();
    }
    let mut kept = vec![false; points.len()];
    let last = points.len() - 1;
    kept[0] = true;
    kept[last] = true;
    let mut pending = vec![(0, last)];
    while let Some((from, to)) = pending.pop() {
        let mut furthest = (from, tolerance);
        for at in from + 1..to {
            let distance = distance_to_segment(points[at], points[from], points[to]);
            if distance > furthest.1 {
                furthest = (at, distance);
            }
        }
        if furthest.0 != from {
            kept[furthest.0] = true;
            pending.push((from, furthest.0));
            pending.push((furthest.0, to));
        }
    }
    points.iter().zip(kept).filter(|(_, kept)| *kept).map(|(point, _)| *point).collect()
}

/// The literal outcome for a closed ring: `None` (an empty polygon) when fewer than 4 points are left.
pub fn simplify_ring_literal(ring: &[[f64; 2]], tolerance: f64) -> Option<Vec<[f64; 2]>> {
    let simplified = douglas_peucker(ring, tolerance);
    (simplified.len() >= 4).then_some(simplified)
}

/// Simplifies every ring of an exact outline. No ring vanishes: one that would keep fewer than 4 points stays as it is.
pub fn simplify_outline(outline: &ExactOutline, tolerance: f64) -> ExactOutline {
    let ring = |ring: &Vec<[f64; 2]>| simplify_ring_literal(ring, tolerance).unwrap_or_else(|| ring.clone());
    let part = |part: &Part| Part { exterior: ring(&part.exterior), holes: part.holes.iter().map(ring).collect() };
    ExactOutline { id: outline.id, parts: outline.parts.iter().map(part).collect() }
}

fn distance_to_segment(point: [f64; 2], from: [f64; 2], to: [f64; 2]) -> f64 {
    let distance = |a: [f64; 2], b: [f64; 2]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
    let along = [to[0] - from[0], to[1] - from[1]];
    let offset = [point[0] - from[0], point[1] - from[1]];
    let squared = along[0] * along[0] + along[1] * along[1];
    if squared == 0.0 {
        return distance(point, from);
    }
    let position = (offset[0] * along[0] + offset[1] * along[1]) / squared;
    if position <= 0.0 {
        distance(point, from)
    } else if position >= 1.0 {
        distance(point, to)
    } else {
        (along[0] * offset[1] - along[1] * offset[0]).abs() / squared.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_within_the_tolerance_go() {
        let line = [[0.0, 0.0], [1.0, 0.4], [2.0, 0.0], [3.0, 3.0]];
        assert_eq!(douglas_peucker(&line, 0.5), [[0.0, 0.0], [2.0, 0.0], [3.0, 3.0]]);
        assert_eq!(douglas_peucker(&line, 0.0), line);
        assert_eq!(douglas_peucker(&line, f64::NAN), line);
        let spike = [[0.0, 0.0], [1.0, 0.5], [2.0, 0.0]];
        assert_eq!(douglas_peucker(&spike, 0.5).len(), 2, "the tolerance itself is not exceeded");
    }

    #[test]
    fn small_objects_vanish_only_in_the_literal_rule() {
        let pixel = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]];
        assert_eq!(simplify_ring_literal(&pixel, 2.0), None);
        let outline = ExactOutline { id: 1, parts: vec![Part { exterior: pixel, holes: Vec::new() }] };
        assert_eq!(simplify_outline(&outline, 2.0), outline);
    }

    #[test]
    fn a_long_ring_does_not_exhaust_the_stack() {
        let spiral: Vec<[f64; 2]> = (0..3_000).map(|at| [at as f64, f64::from(at % 2) * 10.0]).collect();
        assert_eq!(douglas_peucker(&spiral, 1.0).len(), spiral.len());
    }
}
