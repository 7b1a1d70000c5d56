//! Areas of integer polygons and the pixels of a polygon with real vertices.

/// Twice the signed area of the polygon through the vertices `[y, x]`, in square pixels; the last vertex is joined to
/// the first. Exact.
pub fn doubled_area(vertices: &[[i32; 2]]) -> i64 {
    let next = vertices.iter().skip(1).chain(vertices.first());
    vertices
        .iter()
        .zip(next)
        .map(|(&[ay, ax], &[by, bx])| i64::from(ax) * i64::from(by) - i64::from(ay) * i64::from(bx))
        .fold(0, i64::wrapping_add)
}

/// Calls `paint(row, first, last)` for every run of pixels of a polygon that lie in an image, boundary pixels included.
///
/// `rows` and `columns` are the vertices' coordinates (pixel centres at integers), of one length; `shape` is the image's
/// `[height, width]`. A pixel belongs to the polygon if its centre is a vertex, lies on an edge, or is inside by the
/// even-odd rule: the rule of `skimage.draw.polygon`. Vertices that are not finite make an empty polygon.
pub fn fill(rows: &[f32], columns: &[f32], shape: [usize; 2], paint: impl FnMut(usize, usize, usize)) {
    fill_within(rows, columns, shape.map(|size| [0, size]), paint);
}

/// [`fill`] of the part of an image that lies in `window`, `[[first row, end row], [first column, end column]]` with ends
/// excluded. The runs are in the pixels of the image, and those that the polygon has in the whole image, cut at the window.
pub fn fill_within(rows: &[f32], columns: &[f32], window: [[usize; 2]; 2], mut paint: impl FnMut(usize, usize, usize)) {
    let Some(((top, bottom), (left, right))) = range(rows, window[0]).zip(range(columns, window[1])) else { return };
    let n = rows.len().min(columns.len());
    let vertex = |k: usize| (f64::from(rows[k % n]), f64::from(columns[k % n]));
    let mut vertices: Vec<f64> = Vec::new();
    let mut above: Vec<ScanEdge> = Vec::new();
    let mut below: Vec<ScanEdge> = Vec::new();
    for row in top..=bottom {
        vertices.clear();
        above.clear();
        below.clear();
        for k in 0..n {
            let ((y0, x0), (y1, x1)) = (vertex(k + n - 1), vertex(k));
            let (y0, y1) = (y0 - row as f64, y1 - row as f64);
            if y1.abs() < VERTEX_DISTANCE {
                vertices.push(x1);
            }
            if (y0 > 0.0) != (y1 > 0.0) {
                above.push(ScanEdge { x0, y0, x1, y1 });
            }
            if (y0 < 0.0) != (y1 < 0.0) {
                below.push(ScanEdge { x0, y0, x1, y1 });
            }
        }
        let mut first = None;
        for column in left..=right {
            let x = column as f64;
            let to_the_right = above.iter().filter(|edge| edge.offset(x) > 0.0).count() % 2;
            let to_the_left = below.iter().filter(|edge| edge.offset(x) < 0.0).count() % 2;
            let drawn = to_the_right == 1
                || to_the_right != to_the_left
                || vertices.iter().any(|vertex| (vertex - x).abs() < VERTEX_DISTANCE);
            match (drawn, first) {
                (true, None) => first = Some(column),
                (false, Some(start)) => {
                    paint(row, start, column - 1);
                    first = None;
                }
                _ => {}
            }
        }
        if let Some(start) = first {
            paint(row, start, right);
        }
    }
}

/// A pixel centre this close to a vertex counts as the vertex.
const VERTEX_DISTANCE: f64 = 1e-12;

/// An edge whose rows are relative to the current one.
struct ScanEdge {
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
}

impl ScanEdge {
    /// Signed distance, along the current row, from column `x` to the edge.
    fn offset(&self, x: f64) -> f64 {
        ((self.x0 - x) * self.y1 - (self.x1 - x) * self.y0) / (self.y1 - self.y0)
    }
}

/// First and last pixel index between `begin` and `end` that the coordinates can touch; none outside.
fn range(values: &[f32], [begin, end]: [usize; 2]) -> Option<(usize, usize)> {
    if values.is_empty() || end <= begin || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if high < 0.0 {
        return None;
    }
    let first = (low.max(0.0) as usize).max(begin);
    let last = (high.ceil() as usize).min(end - 1);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(rows: &[f32], columns: &[f32], shape: [usize; 2]) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        fill(rows, columns, shape, |row, first, last| all.extend((first..=last).map(|column| (row, column))));
        all
    }

    #[test]
    fn boundary_pixels_belong_to_the_polygon() {
        assert_eq!(pixels(&[1.0, 1.0, 3.0, 3.0], &[1.0, 3.0, 3.0, 1.0], [5, 5]).len(), 9);
        assert_eq!(pixels(&[2.0], &[2.0], [5, 5]), vec![(2, 2)]);
        assert_eq!(pixels(&[1.2, 1.2, 1.8, 1.8], &[1.2, 1.8, 1.8, 1.2], [5, 5]), vec![]);
    }

    #[test]
    fn a_window_shows_a_part_of_the_polygon() {
        let (rows, columns) = ([2.3, 9.1, 17.6, 8.0, 4.4], [10.2, 19.9, 9.7, 12.1, 1.3]);
        let all = pixels(&rows, &columns, [40, 40]);
        for window in [[[0, 40], [0, 40]], [[5, 9], [7, 15]], [[0, 3], [0, 40]], [[30, 40], [0, 9]], [[8, 8], [0, 9]]] {
            let mut found = Vec::new();
            fill_within(&rows, &columns, window, |row, first, last| {
                found.extend((first..=last).map(|column| (row, column)));
            });
            let inside = |(y, x): &(usize, usize)| {
                (window[0][0]..window[0][1]).contains(y) && (window[1][0]..window[1][1]).contains(x)
            };
            assert_eq!(found, all.iter().copied().filter(inside).collect::<Vec<_>>(), "{window:?}");
        }
    }

    #[test]
    fn polygons_are_cut_at_the_image_border() {
        assert_eq!(pixels(&[-9.0, -9.0, 9.0, 9.0], &[-9.0, 9.0, 9.0, -9.0], [3, 4]).len(), 12);
        assert_eq!(pixels(&[-9.0, -9.0, -1.0, -1.0], &[-9.0, 9.0, 9.0, -9.0], [3, 4]), vec![]);
        assert_eq!(pixels(&[20.0, 20.0, 30.0], &[0.0, 2.0, 2.0], [3, 4]), vec![]);
        assert_eq!(
            pixels(&[f32::MIN, f32::MIN, f32::MAX, f32::MAX], &[f32::MIN, f32::MAX, f32::MAX, f32::MIN], [2, 2]).len(),
            4
        );
    }

    #[test]
    fn values_that_are_not_finite_draw_nothing() {
        assert_eq!(pixels(&[f32::NAN, 1.0, 2.0], &[0.0, 1.0, 2.0], [3, 3]), vec![]);
        assert_eq!(pixels(&[0.0, 1.0, 2.0], &[0.0, f32::INFINITY, 2.0], [3, 3]), vec![]);
        assert_eq!(pixels(&[], &[], [3, 3]), vec![]);
        assert_eq!(pixels(&[0.0], &[0.0], [0, 3]), vec![]);
    }

    #[test]
    fn the_area_is_signed_by_the_direction() {
        let square = [[0, 0], [0, 2], [2, 2], [2, 0]];
        assert_eq!(doubled_area(&square).abs(), 8);
        let mut reversed = square;
        reversed.reverse();
        assert_eq!(doubled_area(&square), -doubled_area(&reversed));
    }
}
