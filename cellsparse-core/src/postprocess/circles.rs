//! Quick bounds for the overlap of two star-convex polygons, from their inscribed and circumscribed circles.

use std::f64::consts::PI;

/// Two circles around the centre of a star-convex polygon: one inscribed, one circumscribed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circles {
    /// Radius of a circle that the polygon with whole vertices covers; not positive if there is none.
    inner: f64,
    /// Radius of a circle that covers the polygon with whole vertices.
    outer: f64,
}

/// Truncation moves each vertex, and with it every boundary point, by less than the diagonal of a pixel.
const TRUNCATION: f64 = 1.5;

/// Larger circles are not judged: their vertices may have been moved to the coordinate limit.
const LARGEST: f64 = 1e6;

impl Circles {
    /// The circles of a star with the given ray lengths.
    pub fn new(dist: impl ExactSizeIterator<Item = f32>) -> Self {
        // An edge between neighbouring rays of at least `shortest` stays this far from the centre.
        let apothem = (PI / dist.len().max(3) as f64).cos();
        let (mut shortest, mut longest) = (f64::INFINITY, 0.0f64);
        for d in dist.map(f64::from) {
            shortest = shortest.min(d);
            longest = longest.max(d.abs());
        }
        Self { inner: shortest * apothem - TRUNCATION, outer: longest + TRUNCATION }
    }

    /// Whether two polygons, whose centres are `distance` apart, share more than `limit` square pixels; `None` where the
    /// circles do not tell.
    ///
    /// The margin covers the rounding of intersection vertices by the exact computation, so that its decision is never
    /// anticipated wrongly.
    pub fn overlap_more_than(&self, other: &Self, distance: f64, limit: f64) -> Option<bool> {
        if !(self.outer < LARGEST && other.outer < LARGEST) {
            return None;
        }
        let margin = 4.0 + 2.0 * self.outer.min(other.outer);
        if lens(self.outer, other.outer, distance) + margin <= limit {
            return Some(false);
        }
        (lens(self.inner, other.inner, distance) - margin > limit).then_some(true)
    }
}

/// Area common to two circles with radii `a` and `b` and centres `distance` apart; 0 unless both radii are positive.
fn lens(a: f64, b: f64, distance: f64) -> f64 {
    let (small, large) = (a.min(b), a.max(b));
    if small <= 0.0 || distance >= a + b {
        return 0.0;
    }
    if distance <= large - small {
        return PI * small * small;
    }
    // Two circular segments, cut off by the common chord.
    let segment = |radius: f64, to_chord: f64| {
        let half_angle = (to_chord / radius).clamp(-1.0, 1.0).acos();
        radius * radius * (half_angle - half_angle.sin() * half_angle.cos())
    };
    let to_chord = (distance * distance + a * a - b * b) / (2.0 * distance);
    segment(a, to_chord) + segment(b, distance - to_chord)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenses_have_the_known_areas() {
        assert!((lens(2.0, 2.0, 0.0) - 4.0 * PI).abs() < 1e-12);
        assert_eq!(lens(2.0, 1.0, 3.0), 0.0);
        assert_eq!(lens(-1.0, 1.0, 0.0), 0.0);
        // Two unit circles through each other's centre.
        assert!((lens(1.0, 1.0, 1.0) - (2.0 * PI / 3.0 - 3.0f64.sqrt() / 2.0)).abs() < 1e-12);
        assert!((lens(1.0, 3.0, 3.0) - lens(3.0, 1.0, 3.0)).abs() < 1e-12);
    }
}
