//! The preparation of an integer polygon for the overlap sweep: its ring of edges, cut into rising bounds.

/// A vertex with integer coordinates, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// Column.
    pub x: i64,
    /// Row; it grows downwards, so the sweep "rises" towards smaller values.
    pub y: i64,
}

/// `a.x * b.y - a.y * b.x`, the doubled signed area of the triangle with the origin.
pub(super) fn cross(a: Point, b: Point) -> i64 {
    a.x * b.y - a.y * b.x
}

/// One directed edge of a rising bound: it starts at its bottom end and leads to its top end.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    /// Where the bound enters the edge: the end with the larger row, or either end of a horizontal edge.
    pub bottom: Point,
    /// Where the bound leaves the edge.
    pub top: Point,
    /// Columns per row, `HORIZONTAL` for a horizontal edge.
    pub slope: f64,
    /// The edge above it in its bound.
    pub above: Option<usize>,
    /// For the last edge of a bound: the last edge of the other bound that ends in the same local maximum.
    pub partner: Option<usize>,
}

/// The slope that marks a horizontal edge: smaller than every other one.
pub(super) const HORIZONTAL: f64 = -1.0e40;

/// A local minimum of the outline (the lowest point on the screen), from which two bounds rise.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalMinimum {
    /// Its row.
    pub y: i64,
    /// First edge of the left bound.
    pub left: usize,
    /// First edge of the right bound; a horizontal floor belongs to it.
    pub right: usize,
    /// Change of the winding number across the left bound, +1 or -1; the right bound has the opposite one.
    pub winding: i32,
}

/// A closed polygon with integer vertices, ready for [`Overlap::area`](super::Overlap::area).
#[derive(Debug, Clone, Default)]
pub struct IntegerPolygon {
    pub(super) edges: Vec<Edge>,
    pub(super) local_minima: Vec<LocalMinimum>,
    ring: Vec<Point>,
    edge_of_ring: Vec<usize>,
}

/// Largest absolute coordinate of a vertex: products of coordinates then stay far inside 64 bits.
pub const COORDINATE_LIMIT: i32 = 1 << 24;

impl IntegerPolygon {
    /// The outline through the vertices `[y, x]`, in order; the last one is joined to the first.
    ///
    /// Coordinates are clamped to ±[`COORDINATE_LIMIT`]. Repeated vertices and vertices on a straight run (spikes
    /// included) are removed; what has no area then is an outline without edges.
    pub fn new(vertices: &[[i32; 2]]) -> Self {
        let mut outline = Self::default();
        outline.set(vertices);
        outline
    }

    /// Replaces the outline, keeping its buffers: the same as [`IntegerPolygon::new`].
    pub fn set(&mut self, vertices: &[[i32; 2]]) {
        let clamp = |v: i32| i64::from(v.clamp(-COORDINATE_LIMIT, COORDINATE_LIMIT));
        self.edges.clear();
        self.local_minima.clear();
        self.ring.clear();
        self.ring.extend(vertices.iter().map(|&[y, x]| Point { x: clamp(x), y: clamp(y) }));
        simplify(&mut self.ring);
        if self.ring.len() < 3 {
            self.ring.clear();
            return;
        }
        self.edge_of_ring.clear();
        self.edge_of_ring.resize(self.ring.len(), 0);
        for start in 0..self.ring.len() {
            self.add_local_minimum(start);
        }
        self.pair_local_maxima();
    }

    /// True when nothing with an area is left after simplification.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    fn at(&self, index: usize) -> Point {
        self.ring[index % self.ring.len()]
    }

    /// Adds the two bounds that rise from ring vertex `k`, if the ring comes down to it and rises after it, directly
    /// or after one horizontal edge. (The simplified ring has no two horizontal edges in a row.)
    fn add_local_minimum(&mut self, k: usize) {
        let n = self.ring.len();
        let (before, here, after) = (self.at(k + n - 1), self.at(k), self.at(k + 1));
        if before.y >= here.y {
            return;
        }
        // The winding changes by -1 across a bound that runs against the ring, by +1 across one that follows it.
        if after.y < here.y {
            let slope = |to: Point| (to.x - here.x) as f64 / (to.y - here.y) as f64;
            if slope(after) < slope(before) {
                self.add_bounds(here.y, (k, false), (k, true));
            } else {
                self.add_bounds(here.y, (k, true), (k, false));
            }
        } else if after.y == here.y && self.at(k + 2).y < here.y {
            if here.x < after.x {
                self.add_bounds(here.y, (k, false), (k, true));
            } else {
                self.add_bounds(here.y, (k + 1, true), (k + 1, false));
            }
        }
    }

    fn add_bounds(&mut self, y: i64, left: (usize, bool), right: (usize, bool)) {
        let winding = if left.1 { 1 } else { -1 };
        let left = self.add_bound(left.0, left.1);
        let right = self.add_bound(right.0, right.1);
        self.local_minima.push(LocalMinimum { y, left, right, winding });
    }

    /// Appends the bound that starts at ring vertex `from`, along the ring or against it, up to its local maximum. A horizontal
    /// local maximum belongs to the bound that reaches it at its left end. Returns the bound's first edge.
    fn add_bound(&mut self, from: usize, forward: bool) -> usize {
        let n = self.ring.len();
        let step = |index: usize| if forward { (index + 1) % n } else { (index + n - 1) % n };
        let first = self.edges.len();
        let mut at = from % n;
        for _ in 0..n {
            let to = step(at);
            let (bottom, top) = (self.ring[at], self.ring[to]);
            if top.y > bottom.y {
                break;
            }
            let horizontal = top.y == bottom.y;
            if horizontal && self.ring[step(to)].y > top.y && top.x < bottom.x {
                break;
            }
            let slope = if horizontal { HORIZONTAL } else { (top.x - bottom.x) as f64 / (top.y - bottom.y) as f64 };
            let index = self.edges.len();
            self.edge_of_ring[if forward { at } else { to }] = index;
            self.edges.push(Edge { bottom, top, slope, above: Some(index + 1), partner: None });
            at = to;
        }
        if let Some(last) = self.edges.last_mut() {
            last.above = None;
        }
        first
    }

    /// Links the last edges of the bounds that meet in a local maximum.
    fn pair_local_maxima(&mut self) {
        let n = self.ring.len();
        for k in 0..n {
            let (here, next) = (self.edge_of_ring[k], self.edge_of_ring[(k + 1) % n]);
            let both_last = self.edges[here].above.is_none() && self.edges[next].above.is_none();
            if both_last && self.edges[here].top == self.edges[next].top {
                self.edges[here].partner = Some(next);
                self.edges[next].partner = Some(here);
            }
        }
    }
}

/// Removes repeated vertices and vertices whose two edges are parallel, until none is left. Fewer than three vertices
/// remain when the ring has no area.
fn simplify(ring: &mut Vec<Point>) {
    let mut at = 0;
    let mut unchanged = 0;
    while ring.len() > 2 && unchanged < ring.len() {
        let n = ring.len();
        let (before, here, after) = (ring[(at + n - 1) % n], ring[at], ring[(at + 1) % n]);
        if here == after {
            ring.remove(at);
            at %= n - 1;
            unchanged = 0;
        } else if (before.y - here.y) * (here.x - after.x) == (before.x - here.x) * (here.y - after.y) {
            ring.remove(at);
            at = (at + n - 2) % (n - 1);
            unchanged = 0;
        } else {
            at = (at + 1) % n;
            unchanged += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::polygon::doubled_area;
    use super::*;

    #[test]
    fn flat_and_tiny_outlines_are_empty() {
        for vertices in
            [&[][..], &[[1, 1]], &[[1, 1], [2, 2]], &[[0, 0], [0, 5], [0, 2]], &[[3, 3], [3, 3], [3, 3], [3, 3]]]
        {
            assert!(IntegerPolygon::new(vertices).is_empty(), "{vertices:?}");
        }
    }

    #[test]
    fn a_box_has_one_valley_and_its_chains_meet() {
        let outline = IntegerPolygon::new(&[[0, 0], [0, 4], [0, 9], [5, 9], [5, 0]]);
        assert_eq!((outline.edges.len(), outline.local_minima.len()), (4, 1));
        assert_eq!(outline.edges.iter().filter(|edge| edge.partner.is_some()).count(), 2);
        assert_eq!(doubled_area(&[[0, 0], [0, 9], [5, 9], [5, 0]]).abs(), 90);
    }
}
