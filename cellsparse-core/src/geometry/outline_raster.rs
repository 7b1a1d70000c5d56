//! Outlines back to pixels.

use ndarray::s;

use super::outline::ExactOutline;
use crate::budget::zeros;
use crate::error::{Error, Result};
use crate::raster::LabelImage;

/// Fills outlines `[x, y]` in pixel-corner coordinates into a label image of `shape` (rows, columns): a pixel belongs
/// to an outline when its centre does, by the even-odd rule over the rings of each part. Later outlines overwrite
/// earlier ones; what lies outside the image is cut off.
///
/// # Errors
/// [`Error::Labels`] for a coordinate that is not finite; [`Error::Limit`] when the shape overflows, and for outlines whose
/// edges cross more than 200 million rows of pixels together.
pub fn rasterize_outlines(outlines: &[ExactOutline], shape: (usize, usize)) -> Result<LabelImage> {
    let (height, width) = shape;
    if height.checked_mul(width).is_none_or(|pixels| pixels > isize::MAX as usize / 8) {
        return Err(Error::Limit(format!("a label image of {height} x {width} pixels is too large")));
    }
    let mut crossings = 0.0;
    for (index, outline) in outlines.iter().enumerate() {
        let rings = outline.parts.iter().flat_map(|part| part.holes.iter().chain([&part.exterior]));
        crossings += rings.map(|ring| rows_crossed(ring, height)).sum::<f64>();
        if crossings > CROSSINGS {
            return Err(Error::Limit(format!(
                "the outlines up to number {index} have too many long edges for an image of {height} rows; simplify them"
            )));
        }
    }
    let values = zeros(height * width, "a label image")?;
    let mut labels = LabelImage::from_shape_vec(shape, values)
        .map_err(|error| Error::Internal(format!("a label image: {error}")))?;
    for outline in outlines {
        for part in &outline.parts {
            let rings: Vec<&[[f64; 2]]> =
                part.holes.iter().chain([&part.exterior]).map(|ring| ring.as_slice()).collect();
            if let Some(point) = rings.iter().flat_map(|ring| ring.iter()).find(|p| p.iter().any(|v| !v.is_finite())) {
                let id = outline.id;
                return Err(Error::Labels(format!(
                    "object {id} has an outline point at {point:?}; expected finite numbers"
                )));
            }
            fill_rings(&rings, shape, |row, first, end| labels.slice_mut(s![row, first..end]).fill(outline.id));
        }
    }
    Ok(labels)
}

/// Crossings of edges with rows of pixels above which outlines are refused.
const CROSSINGS: f64 = 2e8;

/// How many rows of an image the edges of a ring cross.
fn rows_crossed(ring: &[[f64; 2]], height: usize) -> f64 {
    let inside = |y: f64| y.clamp(0.0, height as f64);
    ring.windows(2).map(|edge| (inside(edge[0][1]) - inside(edge[1][1])).abs()).sum()
}

/// Calls `paint(row, first, end)` for every run of pixels of an image of `shape` (rows, columns) whose centres lie inside the
/// closed rings `[x, y]` in pixel-corner coordinates, by the even-odd rule over all of them. Points must be finite.
pub fn fill_rings(rings: &[&[[f64; 2]]], shape: (usize, usize), mut paint: impl FnMut(usize, usize, usize)) {
    let (height, width) = shape;
    let mut crossings: Vec<(usize, f64)> = Vec::new();
    for edge in rings.iter().flat_map(|ring| ring.windows(2)) {
        let ([x0, y0], [x1, y1]) = (edge[0], edge[1]);
        let (low, high) = (y0.min(y1), y0.max(y1));
        // Rows whose centre line y = row + 0.5 lies in [low, high): every crossing is counted once.
        let first = (low - 0.5).ceil().max(0.0) as usize;
        let end = ((high - 0.5).ceil().max(0.0) as usize).min(height);
        for row in first..end {
            let t = (row as f64 + 0.5 - y0) / (y1 - y0);
            crossings.push((row, x0 + t * (x1 - x0)));
        }
    }
    crossings.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for &[(row, from), (_, to)] in crossings.as_chunks().0 {
        let first = (from - 0.5).ceil().max(0.0) as usize;
        let end = ((to - 0.5).ceil().max(0.0) as usize).min(width);
        if first < end {
            paint(row, first, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::geometry::Part;

    #[test]
    fn pixels_are_taken_by_their_centres_and_cut_at_the_border() {
        let triangle = vec![[-0.8, 0.0], [3.0, 0.0], [3.0, 3.8], [-0.8, 0.0]];
        let outline = ExactOutline { id: 2, parts: vec![Part { exterior: triangle, holes: Vec::new() }] };
        let expected = array![[2, 2, 2], [0, 2, 2]];
        assert_eq!(rasterize_outlines(&[outline], (2, 3)).unwrap(), expected);
        // A zigzag over all rows, more often than anyone draws.
        let zigzag: Vec<[f64; 2]> = (0..2_000_001).map(|k| [k as f64 * 1e-6, (k % 2) as f64 * 1000.0]).collect();
        let zigzag = Part { exterior: zigzag, holes: Vec::new() };
        let error = rasterize_outlines(&[ExactOutline { id: 1, parts: vec![zigzag] }], (1000, 3)).unwrap_err();
        assert!(matches!(error, Error::Limit(_)), "{error}");
        let broken = Part { exterior: vec![[f64::NAN, 0.0]; 4], holes: Vec::new() };
        assert!(rasterize_outlines(&[ExactOutline { id: 1, parts: vec![broken] }], (2, 3)).is_err());
    }
}
