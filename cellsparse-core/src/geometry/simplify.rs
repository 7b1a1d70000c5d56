//! Fewer points for the same shape: the Douglas-Peucker rule, for lines and for whole outlines.

use std::collections::HashMap;

use super::outline::{ExactOutline, Part};
use super::thinning::Thinning;

/// How often an outline whose simple form would cross itself is tried with more points. Each round keeps what the one
/// before could not remove, so two or three are enough but for outlines that are made to resist.
const ROUNDS: usize = 32;

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
    keep_between(points, 0, points.len() - 1, tolerance, &mut kept);
    points.iter().zip(kept).filter(|(_, kept)| *kept).map(|(point, _)| *point).collect()
}

/// The literal outcome for a closed ring: `None` (an empty polygon) when fewer than 4 points are left.
pub fn simplify_ring_literal(ring: &[[f64; 2]], tolerance: f64) -> Option<Vec<[f64; 2]>> {
    let simplified = douglas_peucker(ring, tolerance);
    (simplified.len() >= 4).then_some(simplified)
}

/// Simplifies every ring of an exact outline by [`douglas_peucker`], and leaves it the valid polygon that it is.
///
/// No ring vanishes: one that would keep fewer than 3 corners stays as it is. No ring touches or crosses itself or another
/// one, holes stay in their part, parts outside each other: where that would happen, as many points are kept as it takes,
/// and where rings touch each other in a point, that point. The points of the outline lie within `tolerance` of the result.
/// A tolerance that is not positive returns the outline as it is.
pub fn simplify_outline(outline: &ExactOutline, tolerance: f64) -> ExactOutline {
    if tolerance.is_nan() || tolerance <= 0.0 {
        return outline.clone();
    }
    let rings: Vec<&[[f64; 2]]> = outline.parts.iter().flat_map(rings_of).collect();
    let mut fixed = touching_points(&rings);
    for round in 1..=ROUNDS {
        let kept: Vec<Vec<bool>> =
            rings.iter().zip(&fixed).map(|(ring, fixed)| keep_of_ring(ring, fixed, tolerance)).collect();
        let mut thinning = Thinning::new(&rings);
        let left = thinning.remove_all_but(&kept);
        if left == kept || round == ROUNDS {
            return with_points(outline, &left);
        }
        fixed = left;
    }
    outline.clone()
}

/// The rings of a part, the exterior first.
fn rings_of(part: &Part) -> impl Iterator<Item = &[[f64; 2]]> {
    std::iter::once(part.exterior.as_slice()).chain(part.holes.iter().map(Vec::as_slice))
}

/// Marks the corners that two rings have in common. The repeated point at the end of a ring is left out.
fn touching_points(rings: &[&[[f64; 2]]]) -> Vec<Vec<bool>> {
    let key = |point: &[f64; 2]| point.map(f64::to_bits);
    let mut count: HashMap<[u64; 2], u32> = HashMap::new();
    if rings.len() > 1 {
        for point in rings.iter().flat_map(|ring| open(ring)) {
            *count.entry(key(point)).or_default() += 1;
        }
    }
    let shared = |point| count.get(&key(point)).is_some_and(|count| *count > 1);
    rings.iter().map(|ring| open(ring).iter().map(shared).collect()).collect()
}

/// A closed ring without the repeated point at its end.
fn open(ring: &[[f64; 2]]) -> &[[f64; 2]] {
    ring.split_last().map_or(ring, |(_, points)| points)
}

/// Which corners of a closed ring the rule keeps beside the fixed ones: all of them when fewer than 3 would be left.
fn keep_of_ring(ring: &[[f64; 2]], fixed: &[bool], tolerance: f64) -> Vec<bool> {
    let mut kept = vec![false; ring.len()];
    let mut from = 0;
    for to in 1..ring.len() {
        if to + 1 == ring.len() || fixed[to] {
            keep_between(ring, from, to, tolerance, &mut kept);
            from = to;
        }
    }
    kept.pop();
    if kept.iter().filter(|kept| **kept).count() < 3 { vec![true; kept.len()] } else { kept }
}

/// Marks the two ends and what the rule keeps between them.
fn keep_between(points: &[[f64; 2]], from: usize, to: usize, tolerance: f64, kept: &mut [bool]) {
    kept[from] = true;
    kept[to] = true;
    let mut pending = vec![(from, to)];
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
}

/// The outline with the marked corners of its rings, closed.
fn with_points(outline: &ExactOutline, kept: &[Vec<bool>]) -> ExactOutline {
    let mut kept = kept.iter();
    let mut ring = |ring: &Vec<[f64; 2]>| -> Vec<[f64; 2]> {
        let marks = kept.next().map_or(&[][..], Vec::as_slice);
        let mut points: Vec<[f64; 2]> =
            open(ring).iter().zip(marks).filter(|(_, kept)| **kept).map(|(point, _)| *point).collect();
        points.extend(points.first().copied());
        points
    };
    let mut parts = Vec::with_capacity(outline.parts.len());
    for part in &outline.parts {
        let exterior = ring(&part.exterior);
        parts.push(Part { exterior, holes: part.holes.iter().map(&mut ring).collect() });
    }
    ExactOutline { id: outline.id, parts }
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
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    use super::*;
    use crate::geometry::exact_outlines;
    use crate::geometry::outline_validity::check_valid;
    use crate::raster::{Connectivity, LabelImage, gaussian_blur, label_components};

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

    /// Simplifies all objects, checks them, and counts the points of those that the plain rule leaves valid.
    fn check(labels: &LabelImage, tolerance: f64) -> (usize, usize) {
        let (mut plain, mut crossing) = (0, 0);
        for outline in exact_outlines(labels).unwrap() {
            let simple = simplify_outline(&outline, tolerance);
            if let Err(reason) = check_valid(&simple) {
                panic!("{reason} at tolerance {tolerance}: {outline:?} became {simple:?}");
            }
            assert_eq!(simple.parts.len(), outline.parts.len());
            for (part, exact) in simple.parts.iter().zip(&outline.parts) {
                assert_eq!(part.holes.len(), exact.holes.len());
                for (ring, exact) in rings_of(part).zip(rings_of(exact)) {
                    check_distances(ring, exact, tolerance);
                }
            }
            let rule = |ring: &Vec<[f64; 2]>| simplify_ring_literal(ring, tolerance).unwrap_or_else(|| ring.clone());
            let part =
                |part: &Part| Part { exterior: rule(&part.exterior), holes: part.holes.iter().map(rule).collect() };
            let by_rule = ExactOutline { id: outline.id, parts: outline.parts.iter().map(part).collect() };
            crossing += usize::from(check_valid(&by_rule).is_err());
            plain += usize::from(by_rule == simple);
        }
        (plain, crossing)
    }

    /// Every corner of the exact ring lies within the tolerance of the segment that stands for it.
    fn check_distances(ring: &[[f64; 2]], exact: &[[f64; 2]], tolerance: f64) {
        let mut segments = ring.windows(2);
        let mut segment = segments.next().unwrap();
        for point in &exact[1..] {
            let distance = distance_to_segment(*point, segment[0], segment[1]);
            assert!(distance <= tolerance, "{point:?} is {distance} from {segment:?}");
            if *point == segment[1] {
                segment = segments.next().unwrap_or(segment);
            }
        }
    }

    #[test]
    fn rings_that_would_cross_keep_more_points() {
        // Five rows whose outline crosses itself by the plain rule.
        let labels = array![[1, 0, 0, 0, 1], [1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1]];
        let (_, crossing) = check(&labels, 1.5);
        assert_eq!(crossing, 1, "the case is one that the plain rule gets wrong");
    }

    #[test]
    fn a_hole_is_not_jumped_over() {
        // A one-pixel hole beside a shallow corner that the tolerance removes.
        let mut labels = LabelImage::from_elem((12, 24), 1);
        for x in 0..24usize {
            for y in 0..x.abs_diff(12) / 4 {
                labels[[y, x]] = 0;
            }
        }
        labels[[1, 12]] = 0;
        for tolerance in [0.5, 1.0, 2.0, 3.0, 5.0] {
            check(&labels, tolerance);
        }
    }

    #[test]
    fn smooth_objects_are_those_of_the_plain_rule() {
        let mut labels = LabelImage::zeros((90, 90));
        for ((y, x), label) in labels.indexed_iter_mut() {
            let (dy, dx) = ((y % 30) as f64 - 14.6, (x % 30) as f64 - 14.2);
            let radius = 9.0 + 3.0 * (y / 30) as f64 * (3.0 * dy.atan2(dx)).sin().abs() / 2.0;
            if dy.hypot(dx) < radius {
                *label = (y / 30 * 3 + x / 30) as i32 + 1;
            }
        }
        for tolerance in [0.5, 1.0, 2.0, 5.0] {
            assert_eq!(check(&labels, tolerance), (9, 0), "{tolerance}");
        }
    }

    #[test]
    fn rough_blobs_stay_valid_and_become_simpler() {
        let mut random = crate::random::Random::new(5, 0);
        let noise = Array2::from_shape_fn((160, 160), |_| random.uniform(-1.0, 1.0) as f32);
        let smooth = gaussian_blur(noise.view(), 1.2);
        let inside = smooth.mapv(|value| value > 0.0);
        let (labels, _) = label_components(inside.view(), Connectivity::Eight).unwrap();
        let mut crossings = 0;
        for tolerance in [1.0, 2.0, 5.0] {
            crossings += check(&labels, tolerance).1;
            let points = |outlines: &[ExactOutline]| -> usize {
                outlines.iter().flat_map(|o| &o.parts).flat_map(rings_of).map(<[_]>::len).sum()
            };
            let exact = exact_outlines(&labels).unwrap();
            let simple: Vec<_> = exact.iter().map(|outline| simplify_outline(outline, tolerance)).collect();
            assert!(points(&simple) * 4 < points(&exact) * 3, "{} of {}", points(&simple), points(&exact));
        }
        assert!(crossings > 3, "{crossings}: too few for a test of the repair");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn simplified_outlines_are_valid(
            (height, width, values) in (1usize..12, 1usize..12).prop_flat_map(|(h, w)| {
                (Just(h), Just(w), proptest::collection::vec(0i32..3, h * w))
            }),
            tolerance in 0.1f64..6.0
        ) {
            check(&Array2::from_shape_vec((height, width), values).unwrap(), tolerance);
        }
    }
}
