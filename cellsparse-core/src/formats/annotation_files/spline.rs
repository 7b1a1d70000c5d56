//! Smooth curves through points, as *Fit Spline* of ImageJ draws them.
//!
//! Each coordinate is a cubic spline over a parameter that grows with the square root of the distance of neighbouring points
//! (centripetal). A closed curve goes on for some points beyond its ends, so that it is smooth there. Source: behaviour of
//! `PolygonRoi.fitSpline` of ImageJ 1.54p, measured.

/// Points that a closed curve is continued by at both ends.
const BEYOND: usize = 7;

/// Points of the result: at least so many, one for two pixels of a long curve, and at most so many.
const FEWEST: f64 = 100.0;
const MOST: f64 = 100_000.0;

/// Points on the curve through `nodes`, from the first to the last or, of a closed one, back to the first. Fewer than 3 different
/// nodes are given back as they are.
pub(super) fn smooth(nodes: &[[f64; 2]], closed: bool) -> Vec<[f64; 2]> {
    let mut nodes = nodes.to_vec();
    nodes.dedup();
    while closed && nodes.len() > 1 && nodes.first() == nodes.last() {
        nodes.pop();
    }
    let count = nodes.len();
    if count < 3 {
        return nodes;
    }
    let beyond = if closed { BEYOND } else { 0 };
    let knots: Vec<[f64; 2]> = if closed {
        (0..=count + 2 * beyond).map(|at| nodes[(at + (count - beyond % count)) % count]).collect()
    } else {
        nodes
    };
    let distance = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]);
    let places: Vec<f64> = std::iter::once(0.0)
        .chain(knots.windows(2).scan(0.0, |place, pair| {
            *place += distance(pair).sqrt();
            Some(*place)
        }))
        .collect();
    let span = beyond..knots.len() - 1 - beyond;
    let length: f64 = knots[span.start..=span.end].windows(2).map(distance).sum();
    let steps = (length / 2.0).floor().clamp(FEWEST, MOST) - 1.0;
    let curvature = [0, 1].map(|axis| second_derivatives(&places, &knots, axis));
    let (first, last) = (places[span.start], places[span.end]);
    let mut interval = span.start;
    (0..=steps as usize)
        .map(|step| {
            let place = first + (last - first) * step as f64 / steps;
            while interval + 1 < span.end && places[interval + 1] <= place {
                interval += 1;
            }
            let width = places[interval + 1] - places[interval];
            let (a, b) = ((places[interval + 1] - place) / width, (place - places[interval]) / width);
            [0, 1].map(|axis| {
                let bend =
                    (a * a * a - a) * curvature[axis][interval] + (b * b * b - b) * curvature[axis][interval + 1];
                a * knots[interval][axis] + b * knots[interval + 1][axis] + bend * width * width / 6.0
            })
        })
        .collect()
}

/// Second derivatives at the knots of the cubic spline that has none at its ends: a tridiagonal system, solved by elimination
/// from the first to the last row and back.
fn second_derivatives(places: &[f64], knots: &[[f64; 2]], axis: usize) -> Vec<f64> {
    let count = knots.len();
    let slope = |at: usize| (knots[at + 1][axis] - knots[at][axis]) / (places[at + 1] - places[at]);
    let (mut factor, mut value) = (vec![0.0; count], vec![0.0; count]);
    for at in 1..count - 1 {
        let (before, after) = (places[at] - places[at - 1], places[at + 1] - places[at]);
        let pivot = 2.0 * (before + after) - before * factor[at - 1];
        factor[at] = after / pivot;
        value[at] = (6.0 * (slope(at) - slope(at - 1)) - before * value[at - 1]) / pivot;
    }
    for at in (1..count - 1).rev() {
        value[at] -= factor[at] * value[at + 1];
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every ninth point of the curves that ImageJ 1.54p draws.
    #[test]
    fn curves_are_those_of_imagej() {
        let nodes = [[10.0, 10.0], [40.0, 8.0], [30.0, 35.0], [12.0, 33.0]];
        for (closed, tolerance, expected) in [
            (
                true,
                0.02,
                [[19.5476, 4.7659], [31.2108, 3.8406], [39.8442, 7.8030], [41.4825, 16.5424], [37.3181, 26.9348]],
            ),
            (
                false,
                0.001,
                [[19.8446, 7.0780], [28.7531, 5.1280], [35.7894, 5.1220], [40.0172, 8.0319], [40.8073, 14.3076]],
            ),
        ] {
            let curve = smooth(&nodes, closed);
            assert_eq!(curve.len(), 100);
            assert_eq!(curve[0], nodes[0]);
            for (point, expected) in curve[9..].iter().step_by(9).zip(expected) {
                let distance = (point[0] - expected[0]).hypot(point[1] - expected[1]);
                assert!(distance < tolerance, "{point:?}, not {expected:?}");
            }
        }
        let large = nodes.map(|node| node.map(|value| 10.0 * value));
        assert!((400..=600).contains(&smooth(&large, true).len()));
    }

    #[test]
    fn few_and_repeated_nodes_make_no_nonsense() {
        assert!(smooth(&[], true).is_empty());
        assert_eq!(smooth(&[[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]], false), [[1.0, 2.0], [3.0, 4.0]]);
        let closed = smooth(&[[0.0, 0.0], [0.0, 0.0], [9.0, 0.0], [9.0, 0.0], [5.0, 7.0], [0.0, 0.0]], true);
        assert!(closed.len() == 100 && closed.iter().flatten().all(|value| value.is_finite()));
    }
}
