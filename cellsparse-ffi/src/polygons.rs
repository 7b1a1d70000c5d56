//! Annotations drawn as polygons, turned into sparse labels.

use cellsparse_core::error::counted;
use cellsparse_core::geometry::{ExactOutline, Part, rasterize_outlines};
use cellsparse_core::{Error, LabelImage};

use crate::boundary::enter;
use crate::pointers::{array, check_array, copy_out};
use crate::status::{Failure, Outcome, cellsparse_status};

/// What a drawn polygon says about its pixels.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum cellsparse_polygon_kind {
    /// One whole object.
    Foreground = 1,
    /// Background.
    Background = 2,
}

/// A borrowed polygon, given by its rings: a pixel belongs to it when its centre does, by the even-odd rule over all rings.
/// So holes are further rings, and several parts of one object too. Rings need not be closed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_polygon {
    /// The points of all rings one after the other: x, y, x, y, ... in pixel-corner coordinates.
    pub points: *const f64,
    /// Number of points (half the number of values).
    pub n_points: usize,
    /// Number of points of each ring, `n_rings` numbers whose sum is `n_points`; NULL for a single ring.
    pub ring_lengths: *const usize,
    /// Number of rings; 0 with `ring_lengths` NULL.
    pub n_rings: usize,
    /// A cellsparse_polygon_kind.
    pub kind: u32,
}

/// Draws polygons as cellsparse_dataset_add_polygons() does: -1 unlabelled, 0 background, and the foreground polygons 1, 2,
/// ... in their order. Foreground wins over background, and a later foreground polygon over an earlier one.
///
/// `labels` receives `height * width` values, row by row; `capacity` must be that number. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellsparse_polygons_to_labels(
    polygons: *const cellsparse_polygon,
    n_polygons: usize,
    height: usize,
    width: usize,
    labels: *mut i32,
    capacity: usize,
) -> cellsparse_status {
    enter(|| {
        if height.checked_mul(width) != Some(capacity) {
            return Err(Failure::argument(format!(
                "labels has room for {capacity} values; {height} x {width} pixels need as many"
            )));
        }
        check_array(labels, capacity, "labels")?;
        // SAFETY: the caller's promise about its arrays.
        let drawn = unsafe { draw(polygons, n_polygons, (height, width)) }?;
        // SAFETY: the caller's promise about `labels` and `capacity`.
        unsafe { copy_out(drawn.as_slice().unwrap_or_default(), labels, capacity, "labels") }
    })
}

/// The label image of polygons: -1 unlabelled, 0 background, objects from 1.
///
/// # Safety
/// `polygons` is NULL or points to `count` polygons whose arrays are as long as they say.
pub(crate) unsafe fn draw(
    polygons: *const cellsparse_polygon,
    count: usize,
    shape: (usize, usize),
) -> Outcome<LabelImage> {
    let (mut foreground, mut background) = (Vec::new(), Vec::new());
    // SAFETY: as this function's own contract.
    for (index, polygon) in unsafe { array(polygons, count, "polygons") }?.iter().enumerate() {
        // SAFETY: as this function's own contract.
        let part = unsafe { rings(polygon, index) }?;
        match polygon.kind {
            FOREGROUND => foreground.push(part),
            BACKGROUND => background.push(part),
            other => {
                return Err(Failure::argument(format!(
                    "polygon {index} (counted from 0) has the kind {other}; there are CELLSPARSE_POLYGON_KIND_FOREGROUND \
                     and _BACKGROUND (1, 2)"
                )));
            }
        }
    }
    let background = background.into_iter().map(|part| ExactOutline { id: 1, parts: vec![part] }).collect::<Vec<_>>();
    let foreground: Vec<_> = (1..).zip(foreground).map(|(id, part)| ExactOutline { id, parts: vec![part] }).collect();
    let objects = rasterize_outlines(&foreground, shape)?;
    let mut labels = rasterize_outlines(&background, shape)?;
    labels.zip_mut_with(&objects, |label, object| *label = if *object > 0 { *object } else { *label - 1 });
    Ok(labels)
}

const FOREGROUND: u32 = cellsparse_polygon_kind::Foreground as u32;
const BACKGROUND: u32 = cellsparse_polygon_kind::Background as u32;

/// The rings of a polygon, closed.
///
/// # Safety
/// The arrays of the polygon are NULL or as long as it says.
unsafe fn rings(polygon: &cellsparse_polygon, index: usize) -> Outcome<Part> {
    let at = |reason: String| Failure::from(Error::Labels(format!("polygon {index} (counted from 0) {reason}")));
    let values = polygon.n_points.checked_mul(2).ok_or_else(|| at("has too many points".into()))?;
    // SAFETY: as this function's own contract.
    let values = unsafe { array(polygon.points, values, "the points of a polygon") }?;
    let (points, _) = values.as_chunks::<2>();
    if let Some(point) = points.iter().find(|point| point.iter().any(|value| !value.is_finite())) {
        return Err(at(format!("has a point at {point:?}; expected finite numbers")));
    }
    // SAFETY: as this function's own contract.
    let lengths = unsafe { array(polygon.ring_lengths, polygon.n_rings, "the ring lengths of a polygon") }?;
    let lengths = if lengths.is_empty() { vec![points.len()] } else { lengths.to_vec() };
    let mut rest = points;
    let mut rings = Vec::new();
    for length in lengths {
        let (ring, others) = rest.split_at_checked(length).ok_or_else(|| {
            at(format!("has {}, fewer than its ring lengths say together", counted(polygon.n_points, "point")))
        })?;
        rest = others;
        if ring.len() < 3 {
            return Err(at(format!("has a ring of {}; a ring needs at least 3", counted(ring.len(), "point"))));
        }
        let mut ring = ring.to_vec();
        if ring.first() != ring.last() {
            ring.extend(ring.first().copied());
        }
        rings.push(ring);
    }
    if !rest.is_empty() {
        return Err(at(format!("has {}, more than its ring lengths say together", counted(polygon.n_points, "point"))));
    }
    let mut rings = rings.into_iter();
    Ok(Part { exterior: rings.next().unwrap_or_default(), holes: rings.collect() })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn polygon(points: &[f64], rings: &[usize], kind: cellsparse_polygon_kind) -> cellsparse_polygon {
        cellsparse_polygon {
            points: points.as_ptr(),
            n_points: points.len() / 2,
            ring_lengths: if rings.is_empty() { std::ptr::null() } else { rings.as_ptr() },
            n_rings: rings.len(),
            kind: kind as u32,
        }
    }

    fn drawn(polygons: &[cellsparse_polygon], shape: (usize, usize)) -> Outcome<LabelImage> {
        // SAFETY: the polygons of these tests point to their arrays.
        unsafe { draw(polygons.as_ptr(), polygons.len(), shape) }
    }

    #[test]
    fn foreground_wins_whatever_the_order_and_holes_stay_open() {
        let cell = [0.0, 0.0, 3.0, 0.0, 3.0, 3.0, 0.0, 3.0, 1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 2.0];
        let stroke = [1.0, 1.0, 5.0, 1.0, 5.0, 2.0, 1.0, 2.0];
        let second = [2.0, 2.0, 4.0, 2.0, 4.0, 3.0, 2.0, 3.0];
        let all = [
            polygon(&cell, &[4, 4], cellsparse_polygon_kind::Foreground),
            polygon(&stroke, &[], cellsparse_polygon_kind::Background),
            polygon(&second, &[], cellsparse_polygon_kind::Foreground),
        ];
        let expected = array![[1, 1, 1, -1, -1, -1], [1, 0, 1, 0, 0, -1], [1, 1, 2, 2, -1, -1]];
        assert_eq!(drawn(&all, (3, 6)).unwrap(), expected);
        assert_eq!(drawn(&[], (1, 2)).unwrap(), array![[-1, -1]]);
    }

    #[test]
    fn broken_polygons_are_named() {
        let points = [0.0, 0.0, 3.0, 0.0, 3.0, 3.0];
        let good = polygon(&points, &[], cellsparse_polygon_kind::Foreground);
        let message = |polygon| drawn(&[good, polygon], (4, 4)).unwrap_err().message;
        assert!(message(cellsparse_polygon { kind: 0, ..good }).contains("polygon 1 (counted from 0) has the kind 0"));
        assert!(message(cellsparse_polygon { n_points: 2, ..good }).contains("a ring of 2 points"));
        assert!(message(polygon(&points, &[4], cellsparse_polygon_kind::Foreground)).contains("fewer"));
        let four = [0.0, 0.0, 3.0, 0.0, 3.0, 3.0, 0.0, 3.0];
        assert!(message(polygon(&four, &[3], cellsparse_polygon_kind::Foreground)).contains("more"));
        let wild = [0.0, f64::NAN, 3.0, 0.0, 3.0, 3.0];
        assert!(message(polygon(&wild, &[], cellsparse_polygon_kind::Foreground)).contains("finite"));
        let zigzag: Vec<f64> = (0..40_000).flat_map(|at| [f64::from(at), f64::from(at % 2) * 1e9]).collect();
        let zigzag = polygon(&zigzag, &[], cellsparse_polygon_kind::Foreground);
        assert_eq!(drawn(&[zigzag], (10_000, 4)).unwrap_err().status, cellsparse_status::Limit);
    }
}
