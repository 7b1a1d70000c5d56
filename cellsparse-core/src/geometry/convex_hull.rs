//! How much of its convex hull a set of pixels fills.

/// Area of the pixels divided by that of their convex hull; 1 for convex sets, at most 1 for others, 1 for none.
///
/// `pixels` are `[y, x]` in any order. The hull is that of the midpoints of the sides of the pixels, so that the steps of a
/// rasterised edge do not count as dents; the area of a set whose outline has no dents but such steps may even be larger
/// than that of this hull, and the result is cut off at 1.
pub fn solidity(pixels: &[[usize; 2]]) -> f64 {
    if pixels.is_empty() {
        return 1.0;
    }
    let mut corners: Vec<[i64; 2]> = Vec::with_capacity(4 * pixels.len());
    for [y, x] in pixels {
        let (y, x) = (2 * *y as i64, 2 * *x as i64);
        corners.extend([[y - 1, x], [y + 1, x], [y, x - 1], [y, x + 1]]);
    }
    let hull = hull_of(corners);
    let next = hull.iter().cycle().skip(1);
    let twice: i64 = hull.iter().zip(next).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum();
    // Coordinates are doubled, so the sum is eight times the area.
    let area = twice.unsigned_abs() as f64 / 8.0;
    (pixels.len() as f64 / area).min(1.0)
}

/// The corners of the convex hull of points, in order round it; none lies between two others on a line.
pub(super) fn hull_of(mut points: Vec<[i64; 2]>) -> Vec<[i64; 2]> {
    points.sort_unstable();
    points.dedup();
    half_hull(points.iter().copied()).chain(half_hull(points.iter().rev().copied())).collect()
}

/// One side of the hull of sorted points, without its last point (Andrew's monotone chain).
fn half_hull(points: impl Iterator<Item = [i64; 2]>) -> impl Iterator<Item = [i64; 2]> {
    let mut chain: Vec<[i64; 2]> = Vec::new();
    for point in points {
        while let [.., a, b] = chain[..] {
            if (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]) > 0 {
                break;
            }
            chain.pop();
        }
        chain.push(point);
    }
    chain.pop();
    chain.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disc(radius: i64, center: i64) -> Vec<[usize; 2]> {
        let mut pixels = Vec::new();
        for y in -radius..=radius {
            for x in -radius..=radius {
                if y * y + x * x <= radius * radius {
                    pixels.push([(y + center) as usize, (x + center) as usize]);
                }
            }
        }
        pixels
    }

    #[test]
    fn convex_shapes_fill_their_hull_and_pairs_do_not() {
        let bar: Vec<[usize; 2]> = (0..30).map(|i| [i / 10, i % 10]).collect();
        assert_eq!(solidity(&bar), 1.0);
        assert_eq!(solidity(&[[4, 4]]), 1.0);
        assert_eq!(solidity(&[]), 1.0);
        assert!(solidity(&disc(10, 12)) > 0.94);
        let mut pair = disc(6, 8);
        pair.extend(disc(6, 8).iter().map(|[y, x]| [*y, x + 12]));
        assert!(solidity(&pair) < 0.9, "{}", solidity(&pair));
        // A right angle of width 1: 19 pixels in a triangle of legs 10.
        let angle: Vec<[usize; 2]> = (0..10).map(|i| [i, 0]).chain((1..10).map(|i| [0, i])).collect();
        assert!((solidity(&angle) - 19.0 / 59.5).abs() < 0.03, "{}", solidity(&angle));
    }
}
