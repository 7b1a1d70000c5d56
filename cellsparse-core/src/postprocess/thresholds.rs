//! The search for the probability threshold with the best score.

/// The probability threshold that maximises `score`, and the score there.
///
/// Golden-section search as StarDist runs it through SciPy's `minimize_scalar(method="golden")`: a bracket is grown from
/// `max_prob / 2` and `max_prob` (`max_prob` is the largest probability in the predictions), then narrowed to 1 % in at
/// most 20 steps. `score` is asked only for thresholds between the two, once for each: outside it counts as constant.
/// The threshold returned may lie outside nevertheless, as in the reference. A score that is not a number is never taken
/// for the best one unless all are.
pub fn optimize_threshold(score: &mut dyn FnMut(f64) -> f64, max_prob: f64) -> (f64, f64) {
    let mut known: Vec<(f64, f64)> = Vec::new();
    let (low, high) = (max_prob / 2.0, max_prob);
    let mut loss = |threshold: f64| {
        let threshold = threshold.max(low).min(high);
        if let Some(&(_, value)) = known.iter().find(|(t, _)| *t == threshold) {
            return -value;
        }
        let value = score(threshold);
        known.push((threshold, value));
        -value
    };
    let triple = bracket(&mut loss, low, high);
    let (threshold, loss) = if is_valid(&triple) { golden(&mut loss, &triple) } else { best(&triple) };
    (threshold, -loss)
}

/// A threshold and its loss.
type Point = (f64, f64);

/// Growth of the bracket from one step to the next.
const GROWTH: f64 = 1.618_034;

/// Three points whose middle one is hoped to be the lowest: downhill steps that grow, helped by parabolas.
fn bracket(loss: &mut dyn FnMut(f64) -> f64, first: f64, second: f64) -> [Point; 3] {
    const LARGEST_STEP: f64 = 110.0;
    const SMALL: f64 = 1e-21;
    let mut at = |x: f64| (x, loss(x));
    let (mut a, mut b) = (at(first), at(second));
    if a.1 < b.1 {
        std::mem::swap(&mut a, &mut b);
    }
    let mut c = at(b.0 + GROWTH * (b.0 - a.0));
    let mut steps = 0;
    while c.1 < b.1 && steps < 1000 {
        steps += 1;
        // The lowest point of the parabola through the three.
        let left = (b.0 - a.0) * (b.1 - c.1);
        let right = (b.0 - c.0) * (b.1 - a.1);
        let curvature = right - left;
        let denominator = if curvature.abs() < SMALL { 2.0 * SMALL } else { 2.0 * curvature };
        let x = b.0 - ((b.0 - c.0) * right - (b.0 - a.0) * left) / denominator;
        let limit = b.0 + LARGEST_STEP * (c.0 - b.0);
        let next;
        if (x - c.0) * (b.0 - x) > 0.0 {
            let between = at(x);
            if between.1 < c.1 {
                return [b, between, c];
            }
            if between.1 > b.1 {
                return [a, b, between];
            }
            next = at(c.0 + GROWTH * (c.0 - b.0));
        } else if (x - limit) * (limit - c.0) >= 0.0 {
            next = at(limit);
        } else if (x - limit) * (c.0 - x) > 0.0 {
            let beyond = at(x);
            if beyond.1 < c.1 {
                b = c;
                c = beyond;
                next = at(c.0 + GROWTH * (c.0 - b.0));
            } else {
                next = beyond;
            }
        } else {
            next = at(c.0 + GROWTH * (c.0 - b.0));
        }
        (a, b, c) = (b, c, next);
    }
    [a, b, c]
}

/// Whether the middle point lies between the others and below them.
fn is_valid(&[a, b, c]: &[Point; 3]) -> bool {
    let lower = (b.1 < c.1 && b.1 <= a.1) || (b.1 < a.1 && b.1 <= c.1);
    let between = (a.0 < b.0 && b.0 < c.0) || (c.0 < b.0 && b.0 < a.0);
    lower && between && [a.0, b.0, c.0].iter().all(|x| x.is_finite())
}

/// Narrows a valid bracket by the golden ratio.
fn golden(loss: &mut dyn FnMut(f64) -> f64, &[a, b, c]: &[Point; 3]) -> Point {
    const KEEP: f64 = 0.618_033_99;
    const CUT: f64 = 1.0 - KEEP;
    const TOLERANCE: f64 = 1e-2;
    let mut at = |x: f64| (x, loss(x));
    let (mut x0, mut x3) = (a.0, c.0);
    let (mut p1, mut p2) = if (c.0 - b.0).abs() > (b.0 - a.0).abs() {
        (at(b.0), at(b.0 + CUT * (c.0 - b.0)))
    } else {
        (at(b.0 - CUT * (b.0 - a.0)), at(b.0))
    };
    for _ in 0..20 {
        if (x3 - x0).abs() <= TOLERANCE * (p1.0.abs() + p2.0.abs()) {
            break;
        }
        if p2.1 < p1.1 {
            x0 = p1.0;
            p1 = p2;
            p2 = at(KEEP * p1.0 + CUT * x3);
        } else {
            x3 = p2.0;
            p2 = p1;
            p1 = at(KEEP * p2.0 + CUT * x0);
        }
    }
    if p1.1 < p2.1 { p1 } else { p2 }
}

fn best(triple: &[Point; 3]) -> Point {
    let mut best = triple[0];
    for &point in &triple[1..] {
        if point.1 < best.1 || best.1.is_nan() {
            best = point;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_a_smooth_curve_is_found() {
        for peak in [0.45, 0.5, 0.62, 0.75] {
            let mut asked = Vec::new();
            let mut score = |t: f64| {
                asked.push(t);
                1.0 - (t - peak) * (t - peak)
            };
            let (threshold, best) = optimize_threshold(&mut score, 0.8);
            assert!((threshold - peak).abs() < 0.02, "{threshold} for {peak}");
            assert!(best > 0.999);
            assert!(asked.len() < 40 && asked.iter().all(|t| (0.4..=0.8).contains(t)));
            let mut distinct = asked.clone();
            distinct.dedup();
            assert_eq!(distinct, asked);
        }
    }

    #[test]
    fn flat_monotone_and_undefined_scores_end() {
        assert_eq!(optimize_threshold(&mut |_| 0.25, 0.9).1, 0.25);
        assert_eq!(optimize_threshold(&mut |t| t, 0.9).1, 0.9);
        assert_eq!(optimize_threshold(&mut |t| -t, 0.9).1, -0.45);
        assert!(optimize_threshold(&mut |_| f64::NAN, 0.9).1.is_nan());
        assert!(optimize_threshold(&mut |t| t, f64::NAN).0.is_nan());
        optimize_threshold(&mut |_| f64::INFINITY, 0.0);
    }
}
