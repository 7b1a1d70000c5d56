//! Connected parts of a label image.

use ndarray::Array2;

use super::image::LabelImage;
use crate::error::{Error, Result};

/// The 4-connected parts of a label image.
#[derive(Debug, Clone)]
pub struct Components {
    /// `[H, W]`: 0 where the label was not asked for, else 1 + the index of the part in `parts`.
    pub map: Array2<u32>,
    /// The parts in the raster order of their first pixels.
    pub parts: Vec<Component>,
}

/// One 4-connected set of pixels of the same label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// The label of its pixels.
    pub label: i32,
    /// Number of pixels.
    pub area: usize,
    /// First row, first column, last row, last column (inclusive).
    pub bounds: [usize; 4],
}

/// Splits the labels for which `wanted` holds into 4-connected parts, in linear time.
///
/// # Errors
/// [`Error::Limit`] for more than 2^32 - 2 pixels.
pub fn connected_components(labels: &LabelImage, wanted: impl Fn(i32) -> bool) -> Result<Components> {
    let (height, width) = labels.dim();
    if u32::try_from(labels.len()).is_ok_and(|n| n < u32::MAX) {
        let values = labels.as_standard_layout();
        let values = values.as_slice().unwrap_or(&[]);
        let mut map = vec![0u32; values.len()];
        let mut parts: Vec<Component> = Vec::new();
        let mut stack = Vec::new();
        for seed in 0..values.len() {
            if map[seed] != 0 || !wanted(values[seed]) {
                continue;
            }
            let label = values[seed];
            let number = parts.len() as u32 + 1;
            let mut part = Component { label, area: 0, bounds: [usize::MAX, usize::MAX, 0, 0] };
            map[seed] = number;
            stack.push(seed);
            while let Some(at) = stack.pop() {
                let (y, x) = (at / width, at % width);
                part.area += 1;
                part.bounds =
                    [part.bounds[0].min(y), part.bounds[1].min(x), part.bounds[2].max(y), part.bounds[3].max(x)];
                let neighbours = [
                    (y > 0).then(|| at - width),
                    (x > 0).then(|| at - 1),
                    (x + 1 < width).then(|| at + 1),
                    (y + 1 < height).then(|| at + width),
                ];
                for next in neighbours.into_iter().flatten() {
                    if map[next] == 0 && values[next] == label {
                        map[next] = number;
                        stack.push(next);
                    }
                }
            }
            parts.push(part);
        }
        let map = Array2::from_shape_vec((height, width), map)
            .map_err(|error| Error::Internal(format!("component map: {error}")))?;
        return Ok(Components { map, parts });
    }
    Err(Error::Limit(format!("a label image of {height} x {width} pixels is too large; cut it into parts")))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn diagonal_pixels_are_separate_parts() {
        let labels = array![[1, 0, 2], [0, 1, 2], [1, 1, -1]];
        let components = connected_components(&labels, |label| label > 0).unwrap();
        assert_eq!(components.map, array![[1, 0, 2], [0, 3, 2], [3, 3, 0]]);
        assert_eq!(components.parts[2], Component { label: 1, area: 3, bounds: [1, 0, 2, 1] });
        assert!(connected_components(&Array2::zeros((0, 4)), |_| true).unwrap().parts.is_empty());
    }
}
