//! Quick bounds for the overlap of two polygons with whole vertices, from the spans of columns that they have between rows.

/// The part of a polygon between two neighbouring rows, where its edges are straight.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Columns of the left and of the right edge in the upper row and in the lower one, if there are two edges.
    left: [f32; 2],
    right: [f32; 2],
    edges: u32,
    /// First and last column of all.
    hull: [f32; 2],
}

impl Span {
    const NONE: Self = Self { left: [0.0; 2], right: [0.0; 2], edges: 0, hull: [f32::INFINITY, f32::NEG_INFINITY] };

    fn add(&mut self, edge: [f32; 2]) {
        let before = self.left;
        match self.edges {
            0 => self.left = edge,
            1 if edge[0] + edge[1] < before[0] + before[1] => (self.left, self.right) = (edge, before),
            _ => self.right = edge,
        }
        self.edges += 1;
        self.hull = [self.hull[0].min(edge[0]).min(edge[1]), self.hull[1].max(edge[0]).max(edge[1])];
    }

    /// Whether the polygon is all that is between two edges. Of edges that cross, it is on both sides of the crossing.
    fn is_simple(&self) -> bool {
        self.edges == 2 && self.left[0] <= self.right[0] && self.left[1] <= self.right[1]
    }

    /// Square pixels that two polygons share at least, and at most.
    fn shared(&self, other: &Self) -> [f32; 2] {
        let most = (self.hull[1].min(other.hull[1]) - self.hull[0].max(other.hull[0])).max(0.0);
        if !(self.is_simple() && other.is_simple()) {
            return [0.0, most];
        }
        let width = |end: usize| self.right[end].min(other.right[end]) - self.left[end].max(other.left[end]);
        let ends = [width(0), width(1)];
        // Between the rows the width is concave: where it is positive at both, it is never below the line.
        let least = if ends[0] > 0.0 && ends[1] > 0.0 { 0.5 * (ends[0] + ends[1]) } else { 0.0 };
        [least, most]
    }
}

/// A polygon with whole vertices, row by row.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// Whether nothing is known of the polygon.
    unknown: bool,
    top: i32,
    rows: Vec<Span>,
    /// No less than the length of all edges.
    perimeter: f32,
}

/// Taller polygons and those far away are left to the exact computation: columns stay exact to a thousandth of a pixel.
const TALLEST: i32 = 1024;
const FARTHEST: i32 = 1 << 13;

impl Spans {
    /// Takes the polygon through the vertices `[y, x]`; columns and rows count from `origin`.
    pub fn set(&mut self, vertices: &[[i32; 2]], origin: [i32; 2]) {
        *self = Self { unknown: true, rows: std::mem::take(&mut self.rows), ..Self::default() };
        self.rows.clear();
        let far = |v: i32, origin: i32| v.saturating_sub(origin).saturating_abs() > FARTHEST;
        let rows = vertices.iter().map(|vertex| vertex[0]);
        let (Some(top), Some(bottom)) = (rows.clone().min(), rows.max()) else { return };
        if bottom.saturating_sub(top) > TALLEST || vertices.iter().any(|&[y, x]| far(y, origin[0]) || far(x, origin[1]))
        {
            return;
        }
        self.unknown = false;
        self.top = top;
        self.rows.resize((bottom - top) as usize, Span::NONE);
        let next = vertices.iter().skip(1).chain(vertices.first());
        for (&a, &b) in vertices.iter().zip(next) {
            let [dy, dx] = [(b[0] - a[0]).abs() as f32, (b[1] - a[1]).abs() as f32];
            self.perimeter += dy.max(dx) + (std::f32::consts::SQRT_2 - 1.0) * dy.min(dx);
            let (upper, lower) = if a[0] < b[0] { (a, b) } else { (b, a) };
            self.pass([upper[0] - top, upper[1] - origin[1]], [lower[0] - top, lower[1] - origin[1]]);
        }
    }

    /// Adds an edge to the rows that it passes.
    fn pass(&mut self, upper: [i32; 2], lower: [i32; 2]) {
        let (begin, x) = (upper[0], upper[1] as f32);
        let slope = (lower[1] - upper[1]) as f32 / (lower[0] - upper[0]).max(1) as f32;
        for (step, span) in (0u16..).zip(&mut self.rows[begin as usize..lower[0] as usize]) {
            span.add([step, step + 1].map(|rows| x + slope * f32::from(rows)));
        }
    }

    /// Whether two polygons share more than `limit` square pixels by the exact computation, which moves the vertices of the common
    /// area to whole pixels; `None` where the spans do not tell.
    pub fn overlap_more_than(&self, other: &Self, limit: f64) -> Option<bool> {
        if self.unknown || other.unknown {
            return None;
        }
        let moved = std::f32::consts::FRAC_1_SQRT_2 * self.perimeter.min(other.perimeter) + 4.0;
        let top = self.top.max(other.top);
        let [first, second] =
            [self, other].map(|spans| spans.rows.get((top - spans.top) as usize..).unwrap_or_default());
        let [mut least, mut most] = [0.0; 2];
        for (a, b) in first.iter().zip(second) {
            let shared = a.shared(b);
            least += shared[0];
            most += shared[1];
        }
        if f64::from(most + moved) <= limit {
            return Some(false);
        }
        (f64::from(least - moved) > limit).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{IntegerPolygon, Overlap};
    use crate::random::Random;

    /// A star with some noise on its rays.
    fn star(random: &mut Random, centre: [f64; 2], radius: f64, noise: f64, rays: usize) -> Vec<[i32; 2]> {
        let vertex = |k: usize, length: f64| {
            let (sin, cos) = (k as f64 * std::f64::consts::TAU / rays as f64).sin_cos();
            [(centre[0] + length * sin) as i32, (centre[1] + length * cos) as i32]
        };
        (0..rays).map(|k| vertex(k, (radius * (1.0 + noise * random.normal())).max(0.0))).collect()
    }

    #[test]
    fn bounds_hold_for_the_exact_computation() {
        let mut random = Random::new(21, 0);
        let mut overlap = Overlap::default();
        let (mut first, mut second) = (Spans::default(), Spans::default());
        let (mut more, mut less) = (0, 0);
        for round in 0..60_000 {
            let rays = [3, 8, 16, 32, 64, 96][round % 6];
            let noise = [0.0, 0.02, 0.1, 0.5, 2.0][round % 5];
            let radius = [2.0, 5.0, 12.0, 40.0, 200.0][round % 7 % 5];
            let mut place = || [0; 2].map(|_: i32| random.uniform(-0.7 * radius, 0.7 * radius));
            let (a, b) = (place(), place());
            let a = star(&mut random, a, radius, noise, rays);
            let b = star(&mut random, b, radius, noise, rays);
            let exact = f64::from(overlap.area(&IntegerPolygon::new(&a), &IntegerPolygon::new(&b)));
            first.set(&a, a[0]);
            second.set(&b, a[0]);
            // The area found is not exceeded, and whatever is below it is.
            assert_ne!(first.overlap_more_than(&second, exact), Some(true), "round {round}: {exact}");
            assert_ne!(first.overlap_more_than(&second, exact - 1e-3), Some(false), "round {round}: {exact}");
            more += usize::from(first.overlap_more_than(&second, 0.5 * exact - 1.0) == Some(true));
            less += usize::from(first.overlap_more_than(&second, 2.0 * exact + 100.0) == Some(false));
        }
        assert!(more > 10_000 && less > 10_000, "of little use: {more}, {less}");
    }

    #[test]
    fn what_is_too_large_is_not_judged() {
        let (mut huge, mut far) = (Spans::default(), Spans::default());
        let square = |side: i32| [[0, 0], [0, side], [side, side], [side, 0]];
        huge.set(&square(2 * TALLEST), [0, 0]);
        far.set(&square(40), [i32::MAX, i32::MIN]);
        assert_eq!(huge.overlap_more_than(&huge, 0.0), None);
        assert_eq!(far.overlap_more_than(&far, 0.0), None);
        let mut ordinary = Spans::default();
        ordinary.set(&square(40), [0, 0]);
        assert_eq!(ordinary.overlap_more_than(&huge, 0.0), None);
        assert_eq!(ordinary.overlap_more_than(&ordinary, 1000.0), Some(true));
        assert_eq!(ordinary.overlap_more_than(&ordinary, 2000.0), Some(false));
        ordinary.set(&[], [0, 0]);
        assert_eq!(ordinary.overlap_more_than(&ordinary, 0.0), None);
    }
}
