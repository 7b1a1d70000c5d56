//! Connected parts of a label image.

use ndarray::{Array2, ArrayView2, s};

use super::image::LabelImage;
use crate::budget::{array, pushed, reserve, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Result};

/// The 4-connected parts of a label image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Components {
    /// `[H, W]`: 0 where the label was not asked for, else 1 + the index of the part in `parts`.
    pub map: Array2<u32>,
    /// The parts in the raster order of their first pixels.
    pub parts: Vec<Component>,
}

/// One 4-connected set of pixels of the same label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Component {
    /// The label of its pixels.
    pub label: i32,
    /// Number of pixels.
    pub area: usize,
    /// First row, first column, last row, last column (inclusive).
    pub bounds: [usize; 4],
}

/// Pixels after which it is asked whether to stop.
const PATIENCE: usize = 1 << 18;

/// Splits the labels for which `wanted` holds into 4-connected parts, in linear time.
///
/// # Errors
/// [`Error::Limit`] for more than 2^32 - 2 pixels.
pub fn connected_components(labels: &LabelImage, wanted: impl Fn(i32) -> bool) -> Result<Components> {
    connected_components_until(labels, wanted, &CancelToken::new())
}

/// [`connected_components`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn connected_components_until(
    labels: &LabelImage,
    wanted: impl Fn(i32) -> bool,
    cancel: &CancelToken,
) -> Result<Components> {
    let (height, width) = labels.dim();
    if u32::try_from(labels.len()).is_ok_and(|n| n < u32::MAX) {
        let values = labels.as_standard_layout();
        let values = values.as_slice().unwrap_or(&[]);
        let what = "the parts of a label image";
        let mut map: Vec<u32> = zeros(values.len(), what)?;
        let mut parts: Vec<Component> = Vec::new();
        let mut stack = Vec::new();
        let mut seen = 0;
        for seed in 0..values.len() {
            if seed.is_multiple_of(PATIENCE) {
                cancel.check()?;
            }
            if map[seed] != 0 || !wanted(values[seed]) {
                continue;
            }
            let label = values[seed];
            let number = parts.len() as u32 + 1;
            let mut part = Component { label, area: 0, bounds: [usize::MAX, usize::MAX, 0, 0] };
            map[seed] = number;
            stack.push(seed);
            while let Some(at) = stack.pop() {
                seen += 1;
                if seen % PATIENCE == 0 {
                    cancel.check()?;
                }
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
                        pushed(&mut stack, next, what)?;
                    }
                }
            }
            pushed(&mut parts, part, what)?;
        }
        let map = Array2::from_shape_vec((height, width), map)
            .map_err(|error| Error::Internal(format!("component map: {error}")))?;
        return Ok(Components { map, parts });
    }
    Err(Error::Limit(format!("a label image of {height} x {width} pixels is too large; cut it into parts")))
}

/// Which pixels touch each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connectivity {
    /// Pixels that share a side.
    #[default]
    Four,
    /// Pixels that share a side or a corner.
    Eight,
}

/// Numbers the connected parts of a mask from 1 in the raster order of their first pixels; 0 where the mask is false.
///
/// `[H, W]` in and out, with the number of parts, in linear time. The rows are cut into runs of set pixels; runs that
/// touch in neighbouring rows are joined, the later part into the earlier one.
///
/// # Errors
/// [`Error::Limit`] for 2^31 pixels and more.
pub fn label_components(mask: ArrayView2<'_, bool>, connectivity: Connectivity) -> Result<(LabelImage, usize)> {
    let (height, width) = mask.dim();
    if i32::try_from(mask.len()).is_err() || i32::try_from(width).is_err() {
        return Err(Error::Limit(format!("a mask of {height} x {width} pixels is too large; cut it into parts")));
    }
    let what = "the parts of a mask";
    let reach = u32::from(connectivity == Connectivity::Eight);
    // `(row, first column, column after the last)` of each run, and an earlier or the same run of its part.
    let mut runs: Vec<(usize, u32, u32)> = Vec::new();
    let mut parents: Vec<u32> = Vec::new();
    let mut above = 0..0;
    for (y, row) in mask.outer_iter().enumerate() {
        let begin = runs.len();
        let mut previous = false;
        for (x, &set) in (0u32..).zip(row) {
            if set && !previous {
                pushed(&mut runs, (y, x, x), what)?;
            }
            if set && let Some(run) = runs.last_mut() {
                run.2 = x + 1;
            }
            previous = set;
        }
        let mut first = above.start;
        for run in begin..runs.len() {
            pushed(&mut parents, run as u32, what)?;
            let (_, left, right) = runs[run];
            while first < above.end && runs[first].2 + reach <= left {
                first += 1;
            }
            for other in first..above.end {
                if runs[other].1 >= right + reach {
                    break;
                }
                join(&mut parents, run as u32, other as u32);
            }
        }
        above = begin..runs.len();
    }
    let mut labels: LabelImage = array((height, width), what)?;
    let mut ids: Vec<i32> = reserve(runs.len(), what)?;
    let mut count = 0;
    for (run, &(y, left, right)) in runs.iter().enumerate() {
        let root = root(&mut parents, run as u32) as usize;
        if root == run {
            count += 1;
            ids.push(count);
        } else {
            ids.push(ids[root]);
        }
        labels.row_mut(y).slice_mut(s![left as usize..right as usize]).fill(ids[run]);
    }
    Ok((labels, count as usize))
}

/// The first run of a part; the way to it becomes shorter.
fn root(parents: &mut [u32], mut run: u32) -> u32 {
    while parents[run as usize] != run {
        let grandparent = parents[parents[run as usize] as usize];
        parents[run as usize] = grandparent;
        run = grandparent;
    }
    run
}

fn join(parents: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b) as usize] = a.min(b);
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::random::Random;

    #[test]
    fn diagonal_pixels_are_separate_parts() {
        let labels = array![[1, 0, 2], [0, 1, 2], [1, 1, -1]];
        let components = connected_components(&labels, |label| label > 0).unwrap();
        assert_eq!(components.map, array![[1, 0, 2], [0, 3, 2], [3, 3, 0]]);
        assert_eq!(components.parts[2], Component { label: 1, area: 3, bounds: [1, 0, 2, 1] });
        assert!(connected_components(&Array2::zeros((0, 4)), |_| true).unwrap().parts.is_empty());
    }

    #[test]
    fn parts_of_a_mask_agree_with_the_parts_of_labels() {
        let mut random = Random::new(4, 0);
        for share in [0.3, 0.5, 0.6, 0.9] {
            let mask = Array2::from_shape_simple_fn((37, 29), || random.chance(share));
            let (found, count) = label_components(mask.view(), Connectivity::Four).unwrap();
            let expected = connected_components(&mask.mapv(i32::from), |label| label > 0).unwrap();
            assert_eq!(found.mapv(|id| id as u32), expected.map);
            assert_eq!(count, expected.parts.len());
        }
    }

    #[test]
    fn corners_connect_eight_neighbours() {
        let set = true;
        let mask = array![[set, false, set], [false, set, false], [false, false, false], [set, false, false]];
        let (found, count) = label_components(mask.view(), Connectivity::Eight).unwrap();
        assert_eq!((found, count), (array![[1, 0, 1], [0, 1, 0], [0, 0, 0], [2, 0, 0]], 2));
        assert_eq!(label_components(mask.view(), Connectivity::Four).unwrap().1, 4);
        for shape in [(0, 0), (0, 3), (3, 0)] {
            let (found, count) = label_components(Array2::from_elem(shape, true).view(), Connectivity::Eight).unwrap();
            assert_eq!((found.dim(), count), (shape, 0));
        }
    }
}
