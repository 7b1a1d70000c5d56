//! Whether an outline is a valid polygon: for tests.

use super::outline::ExactOutline;
use crate::error::counted;

type Segment = [[f64; 2]; 2];

/// Checks the rules of OGC simple features: rings are closed, simple, of the right direction, touch each other in
/// common corners at most and do not cross there; holes lie in their part and outside each other, parts outside each other.
pub(crate) fn check_valid(outline: &ExactOutline) -> Result<(), String> {
    if outline.parts.is_empty() {
        return Err("no part".into());
    }
    let mut rings: Vec<(&[[f64; 2]], usize, bool)> = Vec::new();
    for (index, part) in outline.parts.iter().enumerate() {
        rings.push((&part.exterior, index, false));
        rings.extend(part.holes.iter().map(|hole| (hole.as_slice(), index, true)));
    }
    for (ring, _, is_hole) in &rings {
        check_ring(ring, *is_hole)?;
    }
    for (place, (a, part, a_is_hole)) in rings.iter().enumerate() {
        for (b, other, b_is_hole) in &rings[place + 1..] {
            check_apart(a, b)?;
            let (a_in_b, b_in_a) = (lies_in(a, b), lies_in(b, a));
            let allowed = match (part == other, a_is_hole, b_is_hole) {
                // A hole in its part, two holes, two parts apart.
                (true, false, true) => b_in_a && !a_in_b,
                (true, true, true) | (false, false, false) => !a_in_b && !b_in_a,
                // A part in a hole of another one, or apart from it; holes of different parts follow from that.
                (false, false, true) => !b_in_a || inside_hole_of(a, &rings, *other),
                (false, true, false) => !a_in_b || inside_hole_of(b, &rings, *part),
                _ => true,
            };
            let nested = inside_hole_of(a, &rings, *other) || inside_hole_of(b, &rings, *part);
            if !allowed && !nested {
                return Err(format!("rings {a:?} and {b:?} lie wrong"));
            }
        }
    }
    Ok(())
}

fn inside_hole_of(ring: &[[f64; 2]], rings: &[(&[[f64; 2]], usize, bool)], part: usize) -> bool {
    rings.iter().any(|(hole, owner, is_hole)| *is_hole && *owner == part && hole != &ring && lies_in(ring, hole))
}

fn check_ring(ring: &[[f64; 2]], is_hole: bool) -> Result<(), String> {
    if ring.len() < 4 || ring.first() != ring.last() {
        return Err(format!("ring of {}", counted(ring.len(), "point")));
    }
    let corners = &ring[1..];
    for (at, corner) in corners.iter().enumerate() {
        if corners[at + 1..].contains(corner) {
            return Err(format!("{corner:?} twice"));
        }
    }
    let area: f64 = ring.windows(2).map(|edge| edge[0][0] * edge[1][1] - edge[1][0] * edge[0][1]).sum();
    if (area < 0.0) != is_hole || area == 0.0 {
        return Err(format!("area {area}"));
    }
    let segments: Vec<Segment> = ring.windows(2).map(|edge| [edge[0], edge[1]]).collect();
    for (at, a) in segments.iter().enumerate() {
        for (other, b) in segments.iter().enumerate().skip(at + 1) {
            let follows = other == at + 1 || (at == 0 && other + 1 == segments.len());
            let fault = if follows {
                // Neighbours meet in one corner; they must not lie on each other.
                let (shared, ends) = if a[1] == b[0] { (a[1], [a[0], b[1]]) } else { (a[0], [a[1], b[0]]) };
                turn(ends[0], shared, ends[1]) == 0.0 && dot(shared, ends[0], ends[1]) > 0.0
            } else {
                meet(a, b)
            };
            if fault {
                return Err(format!("edges {a:?} and {b:?} of one ring meet"));
            }
        }
    }
    Ok(())
}

/// Two rings meet in corners of both at most.
fn check_apart(a: &[[f64; 2]], b: &[[f64; 2]]) -> Result<(), String> {
    for first in a.windows(2) {
        for second in b.windows(2) {
            let (first, second) = ([first[0], first[1]], [second[0], second[1]]);
            if !meet(&first, &second) {
                continue;
            }
            let common: Vec<&[f64; 2]> = first.iter().filter(|point| second.contains(point)).collect();
            let far = |segment: &Segment, point: &[f64; 2]| if &segment[0] == point { segment[1] } else { segment[0] };
            let touch_only = match common[..] {
                [point] => {
                    let (p, q) = (far(&first, point), far(&second, point));
                    turn(p, *point, q) != 0.0 || dot(*point, p, q) < 0.0
                }
                _ => false,
            };
            if !touch_only {
                return Err(format!("edges {first:?} and {second:?} of two rings meet"));
            }
        }
    }
    for at in 1..b.len() {
        let corner = b[at];
        let Some(place) = a[1..].iter().position(|point| *point == corner).map(|place| place + 1) else { continue };
        let next = |ring: &[[f64; 2]], at: usize| if at + 1 == ring.len() { ring[1] } else { ring[at + 1] };
        let (before, after) = (a[place - 1], next(a, place));
        let sides = [b[at - 1], next(b, at)].map(|point| is_between(corner, before, after, point));
        if sides[0] != sides[1] {
            return Err(format!("two rings cross at {corner:?}"));
        }
    }
    Ok(())
}

/// Whether the direction to `point` lies in the angle that leads from `after` round to `before`, seen from `corner`.
fn is_between(corner: [f64; 2], before: [f64; 2], after: [f64; 2], point: [f64; 2]) -> bool {
    let angle = |to: [f64; 2]| (to[1] - corner[1]).atan2(to[0] - corner[0]);
    let from = |to: [f64; 2]| (angle(to) - angle(after)).rem_euclid(std::f64::consts::TAU);
    from(point) < from(before)
}

/// Whether ring `a` lies in ring `b`; they do not cross. The middle of an edge of `a` is not on `b`.
fn lies_in(a: &[[f64; 2]], b: &[[f64; 2]]) -> bool {
    let middle = [(a[0][0] + a[1][0]) / 2.0, (a[0][1] + a[1][1]) / 2.0];
    let crossed = b.windows(2).filter(|edge| {
        let [p, q] = [edge[0], edge[1]];
        (p[1] > middle[1]) != (q[1] > middle[1])
            && middle[0] < p[0] + (middle[1] - p[1]) / (q[1] - p[1]) * (q[0] - p[0])
    });
    crossed.count() % 2 == 1
}

fn turn(a: [f64; 2], b: [f64; 2], c: [f64; 2]) -> f64 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

fn dot(at: [f64; 2], a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - at[0]) * (b[0] - at[0]) + (a[1] - at[1]) * (b[1] - at[1])
}

/// Whether two closed segments have a point in common.
fn meet(a: &Segment, b: &Segment) -> bool {
    let on = |s: &Segment, p: [f64; 2]| turn(s[0], s[1], p) == 0.0 && dot(p, s[0], s[1]) <= 0.0;
    let sides = |s: &Segment, t: &Segment| turn(s[0], s[1], t[0]) * turn(s[0], s[1], t[1]) < 0.0;
    (sides(a, b) && sides(b, a)) || on(a, b[0]) || on(a, b[1]) || on(b, a[0]) || on(b, a[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Part;

    fn outline(rings: &[&[[f64; 2]]]) -> ExactOutline {
        let exterior = rings[0].to_vec();
        ExactOutline { id: 1, parts: vec![Part { exterior, holes: rings[1..].iter().map(|r| r.to_vec()).collect() }] }
    }

    #[test]
    fn faults_are_seen() {
        let square = [[0.0, 0.0], [8.0, 0.0], [8.0, 8.0], [0.0, 8.0], [0.0, 0.0]];
        let hole = [[2.0, 2.0], [2.0, 4.0], [4.0, 4.0], [2.0, 2.0]];
        assert!(check_valid(&outline(&[&square, &hole])).is_ok());
        let touching = [[0.0, 0.0], [2.0, 4.0], [4.0, 4.0], [0.0, 0.0]];
        assert!(check_valid(&outline(&[&square, &touching])).is_ok());
        let bow = [[0.0, 0.0], [8.0, 8.0], [8.0, 0.0], [0.0, 6.0], [0.0, 0.0]];
        let reaching = [[2.0, 2.0], [2.0, 9.0], [4.0, 4.0], [2.0, 2.0]];
        let outside = [[12.0, 2.0], [12.0, 4.0], [14.0, 4.0], [12.0, 2.0]];
        let on_edge = [[0.0, 2.0], [2.0, 4.0], [4.0, 4.0], [0.0, 2.0]];
        let turned = [[2.0, 2.0], [4.0, 4.0], [2.0, 4.0], [2.0, 2.0]];
        assert!(check_valid(&outline(&[&bow])).is_err());
        for hole in [&reaching, &outside, &on_edge, &turned] {
            assert!(check_valid(&outline(&[&square, hole])).is_err(), "{hole:?}");
        }
        let pinched = [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [8.0, 4.0], [8.0, 8.0], [4.0, 4.0], [0.0, 0.0]];
        assert!(check_valid(&outline(&[&pinched])).is_err());
    }
}
