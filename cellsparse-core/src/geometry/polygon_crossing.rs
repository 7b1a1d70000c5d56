//! Where edges of the overlap sweep cross rows and each other, rounded to integers.

use super::polygon_bounds::{Edge, HORIZONTAL, Point};

/// Column of an edge at a row, rounded half away from zero.
pub(super) fn column(edge: &Edge, row: i64) -> i64 {
    if row == edge.top.y || edge.slope == HORIZONTAL {
        edge.top.x
    } else {
        edge.bottom.x + round(edge.slope * (row - edge.bottom.y) as f64)
    }
}

fn round(value: f64) -> i64 {
    if value < 0.0 { (value - 0.5) as i64 } else { (value + 0.5) as i64 }
}

/// Whether the lines a-b and c-d are parallel.
pub(super) fn parallel(a: Point, b: Point, c: Point, d: Point) -> bool {
    (a.y - b.y) * (c.x - d.x) == (a.x - b.x) * (c.y - d.y)
}

/// The rounded crossing of two edges, `a` on the left, inside the scanbeam from row `from` up to `row`.
pub(super) fn crossing(a: &Edge, b: &Edge, from: i64, row: i64) -> Point {
    let point = line_crossing(a, b, from);
    if point.y < row { Point { x: column(a, row), y: row } } else { point }
}

fn line_crossing(a: &Edge, b: &Edge, from: i64) -> Point {
    if a.slope == b.slope {
        return Point { x: column(a, from), y: from };
    }
    let steeper = if a.slope.abs() < b.slope.abs() { a } else { b };
    let mut point = if a.slope == 0.0 {
        on_vertical(a.bottom.x, b)
    } else if b.slope == 0.0 {
        on_vertical(b.bottom.x, a)
    } else {
        let offset = |edge: &Edge| edge.bottom.x as f64 - edge.bottom.y as f64 * edge.slope;
        let y = (offset(b) - offset(a)) / (a.slope - b.slope);
        Point { x: round(steeper.slope * y + offset(steeper)), y: round(y) }
    };
    if point.y < a.top.y || point.y < b.top.y {
        point.y = a.top.y.max(b.top.y);
        point.x = column(steeper, point.y);
    }
    if point.y > from {
        point.y = from;
        point.x = column(if a.slope.abs() > b.slope.abs() { b } else { a }, point.y);
    }
    point
}

fn on_vertical(x: i64, edge: &Edge) -> Point {
    if edge.slope == HORIZONTAL {
        return Point { x, y: edge.bottom.y };
    }
    let offset = edge.bottom.y as f64 - edge.bottom.x as f64 / edge.slope;
    Point { x, y: round(x as f64 / edge.slope + offset) }
}
