//! Output polygons of the overlap sweep, of which only the area and the two open ends are kept.

use super::polygon_bounds::{Point, cross};

/// The end of an output polygon at which an edge adds vertices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The first vertex.
    Front,
    /// The last vertex.
    Back,
}

/// A polygon under construction: a chain of vertices from `front` to `back`.
#[derive(Debug, Clone, Copy)]
struct Path {
    front: Point,
    back: Point,
    /// Sum of the cross products of consecutive vertices from front to back.
    doubled_area: i128,
    /// False once the chain became part of another one.
    own: bool,
}

/// All output polygons of one sweep.
#[derive(Debug, Default)]
pub(super) struct Paths(Vec<Path>);

impl Paths {
    /// Forgets all polygons.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Begins a polygon with one vertex and returns its number.
    pub fn begin(&mut self, point: Point) -> usize {
        self.0.push(Path { front: point, back: point, doubled_area: 0, own: true });
        self.0.len() - 1
    }

    /// Adds a vertex at one end.
    pub fn add(&mut self, path: usize, side: Side, point: Point) {
        let path = &mut self.0[path];
        match side {
            Side::Front => {
                path.doubled_area += i128::from(cross(point, path.front));
                path.front = point;
            }
            Side::Back => {
                path.doubled_area += i128::from(cross(path.back, point));
                path.back = point;
            }
        }
    }

    /// Joins the chain `other` to `path`: the end `other_side` of the one to the end `side` of the other.
    pub fn append(&mut self, path: usize, side: Side, other: usize, other_side: Side) {
        let b = self.0[other];
        self.0[other].own = false;
        let a = &mut self.0[path];
        match (side, other_side) {
            (Side::Front, Side::Front) => {
                a.doubled_area += i128::from(cross(b.front, a.front)) - b.doubled_area;
                a.front = b.back;
            }
            (Side::Front, Side::Back) => {
                a.doubled_area += i128::from(cross(b.back, a.front)) + b.doubled_area;
                a.front = b.front;
            }
            (Side::Back, Side::Back) => {
                a.doubled_area += i128::from(cross(a.back, b.back)) - b.doubled_area;
                a.back = b.front;
            }
            (Side::Back, Side::Front) => {
                a.doubled_area += i128::from(cross(a.back, b.front)) + b.doubled_area;
                a.back = b.back;
            }
        }
    }

    /// Sum of the areas of all polygons, in square pixels, in the order in which they were begun.
    pub fn area(&self) -> f32 {
        let closed = |path: &Path| path.doubled_area + i128::from(cross(path.back, path.front));
        self.0.iter().filter(|path| path.own).map(|path| 0.5 * closed(path).unsigned_abs() as f32).sum()
    }
}
