//! Where the pixels of cells go when they follow the flows.

use ndarray::{ArrayView2, ArrayView3};
use rayon::prelude::*;

use crate::budget::{gathered, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Result};

/// Positions that are walked side by side.
const ABREAST: usize = 4;

/// The flow of every pixel of an image, in pixels per step.
#[derive(Debug, Clone)]
pub struct FlowField {
    rows: usize,
    columns: usize,
    /// `[dY, dX]` of every pixel.
    flows: Vec<[f32; 2]>,
}

impl FlowField {
    /// The field of network flows `[2, H, W]` (`dY`, `dX`): a fifth of them where `inside` holds, 0 elsewhere. Flows
    /// that are not finite count as 0.
    ///
    /// # Errors
    /// [`Error::Image`] when the shapes differ, [`Error::Limit`] where there is no memory.
    pub fn new(flows: ArrayView3<'_, f32>, inside: ArrayView2<'_, bool>) -> Result<Self> {
        let (rows, columns) = inside.dim();
        if flows.dim() != (2, rows, columns) {
            return Err(Error::Image(format!(
                "flows of shape {:?} for a map of {rows} x {columns} pixels; they must have shape [2, {rows}, {columns}]",
                flows.shape()
            )));
        }
        let value = |flow: f32| if flow.is_finite() { flow / 5.0 } else { 0.0 };
        let flow = |((y, x), inside): ((usize, usize), &bool)| match inside {
            true => [value(flows[[0, y, x]]), value(flows[[1, y, x]])],
            false => [0.0; 2],
        };
        let flows = gathered(inside.len(), inside.indexed_iter().map(flow), "the flows of an image")?;
        Ok(Self { rows, columns, flows })
    }

    /// The flow `[dY, dX]` of a pixel; 0 outside the image.
    pub fn at(&self, row: usize, column: usize) -> [f32; 2] {
        if row < self.rows && column < self.columns { self.flows[row * self.columns + column] } else { [0.0; 2] }
    }

    /// Bilinear between the four pixels around; weights in f64, as in the reference.
    fn interpolate(&self, [y, x]: [f32; 2]) -> [f32; 2] {
        let (row, column) = ((y as usize).min(self.rows - 1), (x as usize).min(self.columns - 1));
        let (below, right) = ((row + 1).min(self.rows - 1), (column + 1).min(self.columns - 1));
        let (fy, fx) = (f64::from(y) - row as f64, f64::from(x) - column as f64);
        let corner = |row: usize, column: usize| self.flows[row * self.columns + column];
        let corners = [corner(row, column), corner(row, right), corner(below, column), corner(below, right)];
        let weights = [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx];
        std::array::from_fn(|axis| {
            let [a, b, c, d] = corners.map(|corner| f64::from(corner[axis]));
            (a * weights[0] + b * weights[1] + c * weights[2] + d * weights[3]) as f32
        })
    }

    /// One Euler step.
    fn step(&self, p: [f32; 2], interpolate: bool) -> [f32; 2] {
        let v = if interpolate { self.interpolate(p) } else { self.at(p[0] as usize, p[1] as usize) };
        let last = [(self.rows - 1) as f32, (self.columns - 1) as f32];
        std::array::from_fn(|axis| (p[axis] + v[axis]).clamp(0.0, last[axis]))
    }

    /// `steps` Euler steps from each of the positions, which are walked side by side so that the processor can overlap them.
    ///
    /// A position that comes back repeats its way from then on, so only the rest of the period is walked: the result is
    /// that of all steps. (Brent's cycle detection: the position to come back to is renewed at powers of two.)
    fn walk(&self, p: &mut [[f32; 2]; ABREAST], steps: usize, interpolate: bool) {
        let mut ends = [steps; ABREAST];
        let (mut marks, mut marked, mut renew) = (*p, 0, 1);
        let mut done = 0;
        while ends.iter().any(|end| *end > done) {
            done += 1;
            for ((p, mark), end) in p.iter_mut().zip(&marks).zip(&mut ends) {
                if *end < done {
                    continue;
                }
                *p = self.step(*p, interpolate);
                if p == mark {
                    *end = done + (*end - done) % (done - marked);
                }
            }
            if done == renew {
                (marks, marked) = (*p, done);
                renew = renew.saturating_mul(2);
            }
        }
    }
}

/// Lets pixels follow a field for `steps` steps of 1, each stopped at the border of the image; returns their final positions
/// `[y, x]` in the same order.
///
/// Positions are f32, flows between pixels bilinear, or those of the pixel that the position truncates to.
/// Pixels outside the image are moved to its last row or column. Runs in parallel; every pixel goes alone.
///
/// # Errors
/// [`Error::Limit`] where there is no memory.
pub fn follow_flows(
    field: &FlowField,
    pixels: &[[usize; 2]],
    steps: usize,
    interpolate: bool,
) -> Result<Vec<[f32; 2]>> {
    follow_flows_until(field, pixels, steps, interpolate, &CancelToken::new())
}

/// [`follow_flows`] that can be stopped: from then on pixels stay where they are.
pub(super) fn follow_flows_until(
    field: &FlowField,
    pixels: &[[usize; 2]],
    steps: usize,
    interpolate: bool,
    cancel: &CancelToken,
) -> Result<Vec<[f32; 2]>> {
    let what = "the ends of the flows of an image";
    if field.flows.is_empty() {
        return zeros(pixels.len(), what);
    }
    let last = [field.rows - 1, field.columns - 1];
    let begins = pixels.iter().map(|&[y, x]| [y.min(last[0]) as f32, x.min(last[1]) as f32]);
    let mut ends = gathered(pixels.len(), begins, what)?;
    ends.par_chunks_mut(ABREAST).with_min_len(64).for_each(|group| {
        if cancel.is_cancelled() {
            return;
        }
        let mut positions = [[0.0; 2]; ABREAST];
        positions[..group.len()].copy_from_slice(group);
        field.walk(&mut positions, steps, interpolate);
        group.copy_from_slice(&positions[..group.len()]);
    });
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};

    use super::*;

    /// Flows to the point (10.3, 12.6), with a turn.
    fn whirl() -> FlowField {
        let flows = Array3::from_shape_fn((2, 24, 26), |(axis, y, x)| {
            let (dy, dx) = (10.3 - y as f32, 12.6 - x as f32);
            let length = dy.hypot(dx);
            5.0 / length * if axis == 0 { dy + 0.7 * dx } else { dx - 0.7 * dy }
        });
        FlowField::new(flows.view(), Array2::from_elem((24, 26), true).view()).unwrap()
    }

    #[test]
    fn the_way_is_walked_to_the_end_whether_it_repeats_or_not() {
        let field = whirl();
        for interpolate in [true, false] {
            let pixels = [[0, 0], [10, 12], [23, 25], [4, 20], [12, 11], [23, 0]];
            for steps in [0, 1, 2, 3, 17, 200, 1001] {
                let ends = follow_flows(&field, &pixels, steps, interpolate).unwrap();
                for ([y, x], end) in pixels.into_iter().zip(ends) {
                    let mut p = [y as f32, x as f32];
                    for _ in 0..steps {
                        p = field.step(p, interpolate);
                    }
                    assert_eq!(end, p);
                }
            }
        }
    }

    #[test]
    fn odd_fields_are_survived() {
        let nan = Array3::from_elem((2, 3, 4), f32::NAN);
        let field = FlowField::new(nan.view(), Array2::from_elem((3, 4), true).view()).unwrap();
        assert_eq!(follow_flows(&field, &[[2, 1], [9, 9]], 50, true).unwrap(), [[2.0, 1.0], [2.0, 3.0]]);
        let large = Array3::from_elem((2, 3, 4), f32::MAX);
        let field = FlowField::new(large.view(), Array2::from_elem((3, 4), true).view()).unwrap();
        assert_eq!(follow_flows(&field, &[[0, 0]], 5, true).unwrap(), [[2.0, 3.0]]);
        let empty = FlowField::new(Array3::zeros((2, 0, 4)).view(), Array2::from_elem((0, 4), true).view()).unwrap();
        assert_eq!(follow_flows(&empty, &[[1, 1]], 5, false).unwrap(), [[0.0, 0.0]]);
        assert!(FlowField::new(Array3::zeros((2, 3, 4)).view(), Array2::from_elem((4, 3), true).view()).is_err());
    }
}
