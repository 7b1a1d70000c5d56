//! Output polygons of the overlap sweep, of which only the area and the two open ends are kept.

use super::polygon_bounds::{Point, cross};

/// The end of an output polygon at which an edge adds vertices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PolygonEnd {
    /// The first vertex.
    Front,
    /// The last vertex.
    Back,
}

/// A polygon under construction: a bound of vertices from `front` to `back`.
#[derive(Debug, Clone, Copy)]
struct OutputPolygon {
    front: Point,
    back: Point,
    /// Sum of the cross products of consecutive vertices from front to back.
    doubled_area: i128,
    /// False once the bound became part of another one.
    own: bool,
}

/// All output polygons of one sweep.
#[derive(Debug, Default)]
pub(super) struct OutputPolygons(Vec<OutputPolygon>);

impl OutputPolygons {
    /// Forgets all polygons.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Begins a polygon with one vertex and returns its number.
    pub fn begin(&mut self, point: Point) -> usize {
        self.0.push(OutputPolygon { front: point, back: point, doubled_area: 0, own: true });
        self.0.len() - 1
    }

    /// Adds a vertex at one end.
    pub fn add(&mut self, output: usize, side: PolygonEnd, point: Point) {
        let output = &mut self.0[output];
        match side {
            PolygonEnd::Front => {
                output.doubled_area += i128::from(cross(point, output.front));
                output.front = point;
            }
            PolygonEnd::Back => {
                output.doubled_area += i128::from(cross(output.back, point));
                output.back = point;
            }
        }
    }

    /// Joins the bound `other` to `output`: the end `other_side` of the one to the end `side` of the other.
    pub fn append(&mut self, output: usize, side: PolygonEnd, other: usize, other_side: PolygonEnd) {
        let b = self.0[other];
        self.0[other].own = false;
        let a = &mut self.0[output];
        match (side, other_side) {
            (PolygonEnd::Front, PolygonEnd::Front) => {
                a.doubled_area += i128::from(cross(b.front, a.front)) - b.doubled_area;
                a.front = b.back;
            }
            (PolygonEnd::Front, PolygonEnd::Back) => {
                a.doubled_area += i128::from(cross(b.back, a.front)) + b.doubled_area;
                a.front = b.front;
            }
            (PolygonEnd::Back, PolygonEnd::Back) => {
                a.doubled_area += i128::from(cross(a.back, b.back)) - b.doubled_area;
                a.back = b.front;
            }
            (PolygonEnd::Back, PolygonEnd::Front) => {
                a.doubled_area += i128::from(cross(a.back, b.front)) + b.doubled_area;
                a.back = b.back;
            }
        }
    }

    /// Sum of the areas of all polygons, in square pixels, in the order in which they were begun.
    pub fn area(&self) -> f32 {
        let closed = |output: &OutputPolygon| output.doubled_area + i128::from(cross(output.back, output.front));
        self.0.iter().filter(|output| output.own).map(|output| 0.5 * closed(output).unsigned_abs() as f32).sum()
    }
}
