//! Cells that are too large to be diffused pixel by pixel: blocks of pixels first, single pixels at the end.

use ndarray::Array2;

use super::{PATIENCE, Scratch, Window};
use crate::budget::{array, gathered, zeros};
use crate::control::CancelToken;
use crate::error::Result;
use crate::geometry::distance::distance_transform_edt_until;

/// Pixels that are computed for one cell in all steps, at most; what would take more is diffused in blocks. About a second.
const MOST_UPDATES: f64 = (1_u64 << 29) as f64;

const WHAT: &str = "the flows of a huge cell";

/// In a cell of some width in pixels, heat falls to [`FELT`](super::FELT) within `REACH` times its width, and moves for
/// no longer than `SETTLING` times the square of its width.
const REACH: f64 = 75.0;
const SETTLING: f64 = 6.0;

/// Steps of single pixels after those of blocks, in squares of a block's side: the border of the cell is felt some blocks
/// away only after as many.
const SETTLE: usize = 4;

impl Scratch {
    /// Side of the blocks in which a piece of that area is diffused first: 1 when single pixels are affordable.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub(super) fn block_side(&self, area: usize, steps: usize, stride: usize, cancel: &CancelToken) -> Result<usize> {
        let all = area as f64 * steps as f64;
        if all <= MOST_UPDATES {
            return Ok(1);
        }
        // Heat that the border takes away does not get further than some widths of the cell, and soon stays as it is.
        let width = 2.0 * self.thickness(stride, cancel)?;
        let reached = (area as f64).min(2.0 * REACH * width * width);
        let moving = (steps as f64).min(SETTLING * width * width + 4.0 * REACH * width);
        let updates = reached * moving;
        // Blocks save the fourth power of their side, and must not be thicker than the cell.
        let side = (updates / MOST_UPDATES).powf(0.25).ceil();
        Ok((side as usize).clamp(1, ((width / 8.0) as usize).max(1)))
    }

    /// The largest distance of a pixel of the piece to the nearest one that is not part of it.
    fn thickness(&self, stride: usize, cancel: &CancelToken) -> Result<f64> {
        let mut inside: Array2<bool> = array((self.heat.len() / stride, stride), WHAT)?;
        if let Some(inside) = inside.as_slice_mut() {
            self.spans.iter().for_each(|&(at, len)| inside[at..at + len].fill(true));
        }
        Ok(distance_transform_edt_until(inside.view(), cancel)?.iter().copied().fold(0.0, f64::max))
    }

    /// Diffuses blocks of `side` x `side` pixels for as long as their size asks for, then single pixels for a while.
    pub(super) fn coarse(
        &mut self,
        side: usize,
        steps: usize,
        source: usize,
        stride: usize,
        cancel: &CancelToken,
    ) -> Result<()> {
        let [rows, columns] = [self.heat.len() / stride, stride].map(|len| (len - 2).div_ceil(side) + 2);
        let block = |row: usize, column: usize| ((row - 1) / side + 1) * columns + (column - 1) / side + 1;
        let mut pixels: Vec<u32> = zeros(rows * columns, WHAT)?;
        for (number, &(at, len)) in self.spans.iter().enumerate() {
            if number % PATIENCE == 0 {
                cancel.check()?;
            }
            (at..at + len).for_each(|at| pixels[block(at / stride, at % stride)] += 1);
        }
        // A block is part of the cell when half of it is; that of the source always is.
        let centre = block(source / stride, source % stride);
        let whole = (side * side) as u32;
        let inside = |at: usize| 2 * pixels[at] >= whole || at == centre;
        let mut blocks =
            Scratch { heat: zeros(rows * columns, WHAT)?, next: zeros(rows * columns, WHAT)?, ..Self::default() };
        blocks.sums.resize(columns, 0.0);
        for row in 1..rows - 1 {
            let mut column = 1;
            while column < columns - 1 {
                let begin = column;
                while column < columns - 1 && inside(row * columns + column) {
                    column += 1;
                }
                if column > begin {
                    blocks.spans.push((row * columns + begin, column - begin));
                }
                column += 1;
            }
        }
        // One step of blocks takes as long as `side` squared steps of pixels, and puts as much heat into a pixel.
        blocks.diffuse(steps.div_ceil(side * side), centre, columns, cancel)?;
        self.interpolate(&blocks.heat, side, columns, stride, cancel)?;
        for _ in 0..SETTLE * side * side {
            cancel.check()?;
            self.heat[source] += 1.0;
            let all = Window { rows: [1, self.heat.len() / stride - 2], columns: [1, stride - 2] };
            self.spread(stride, all);
        }
        Ok(())
    }

    /// Gives every pixel the heat between those of the four blocks around it. Heat falls by the same factor from block to block
    /// rather than by the same amount, so it is the logarithm that is interpolated.
    fn interpolate(
        &mut self,
        heat: &[f64],
        side: usize,
        columns: usize,
        stride: usize,
        cancel: &CancelToken,
    ) -> Result<()> {
        let logs = gathered(heat.len(), heat.iter().map(|value| value.max(1e-300).ln()), WHAT)?;
        // The block before a pixel and how far the pixel lies behind the middle of it.
        let place = |at: usize| {
            let position = (at - 1) as f64 / side as f64 + 0.5 / side as f64 + 0.5;
            (position as usize, position.fract())
        };
        let across: Vec<(usize, f64)> = (1..stride - 1).map(place).collect();
        for (number, &(at, len)) in self.spans.iter().enumerate() {
            if number % PATIENCE == 0 {
                cancel.check()?;
            }
            let (row, below) = place(at / stride);
            let first = at % stride - 1;
            for (value, &(column, right)) in self.heat[at..at + len].iter_mut().zip(&across[first..first + len]) {
                let corners = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(down, aside)| {
                    let weight =
                        (if down == 1 { below } else { 1.0 - below }) * (if aside == 1 { right } else { 1.0 - right });
                    let block = (row + down) * columns + column + aside;
                    // Blocks outside the cell are cold, however near: they say nothing about this pixel.
                    (if heat[block] > 0.0 { weight } else { 0.0 }, logs[block])
                });
                let total: f64 = corners.iter().map(|(weight, _)| weight).sum();
                let mean: f64 = corners.iter().map(|(weight, log)| weight * log).sum();
                *value = if total > 0.0 { (mean / total).exp() } else { 0.0 };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::super::{FlowRule, LabelRuns, bounds_of, cell_centre};
    use super::*;

    /// The mean angle between two flow fields in degrees, and the fraction of the pixels that differ by more than 20.
    fn difference(a: &Array3<f32>, b: &Array3<f32>) -> (f64, f64) {
        let (mut sum, mut large, mut count) = (0.0, 0.0, 0.0);
        let [ay, ax, by, bx] = [(a, 0), (a, 1), (b, 0), (b, 1)].map(|(of, axis)| of.slice(s![axis, .., ..]));
        ndarray::Zip::from(&ay).and(&ax).and(&by).and(&bx).for_each(|ay, ax, by, bx| {
            if ay.hypot(*ax) > 0.5 {
                let angle = f64::from((ay * bx - ax * by).atan2(ay * by + ax * bx)).to_degrees().abs();
                sum += angle;
                large += f64::from(u8::from(angle > 20.0));
                count += 1.0;
            }
        });
        (sum / count, large / count)
    }

    /// The flows of a whole label image as one cell, in blocks of that side.
    fn in_blocks(labels: &Array2<i32>, side: usize) -> Array3<f32> {
        let cells = LabelRuns::new(labels.view()).unwrap();
        let cell = cells.object(0).unwrap();
        let [height, width] = cell.extent();
        let centre = cell_centre(cell, FlowRule::Reference);
        let mut scratch = Scratch::default();
        scratch.connect(cell.runs, centre);
        let bounds = bounds_of(scratch.piece.iter().map(|&index| &cell.runs[index]));
        let stride = scratch.place(cell.runs, bounds).unwrap();
        let source = (centre[0] + 1 - bounds[0]) * stride + centre[1] + 1 - bounds[1];
        let (steps, cancel) = (2 * (height + width + 4), CancelToken::new());
        match side {
            1 => scratch.diffuse(steps, source, stride, &cancel).unwrap(),
            _ => scratch.coarse(side, steps, source, stride, &cancel).unwrap(),
        }
        scratch.gradients(cell, FlowRule::Reference, stride, &cancel).unwrap();
        let mut flows = Array3::zeros((2, labels.nrows(), labels.ncols()));
        let mut values = scratch.flows.iter();
        for run in cell.runs {
            for (column, flow) in (run.begin..run.end).zip(&mut values) {
                flows[[0, run.row, column]] = flow[0];
                flows[[1, run.row, column]] = flow[1];
            }
        }
        flows
    }

    #[test]
    fn blocks_give_nearly_the_flows_of_pixels() {
        // A disc, and a bean with a bay that flows have to go around.
        let disc =
            Array2::from_shape_fn((220, 220), |(y, x)| i32::from((y as f64 - 110.0).hypot(x as f64 - 110.0) < 105.0));
        let bean = Array2::from_shape_fn((200, 300), |(y, x)| {
            let far = ((y as f64 - 100.0) / 95.0).hypot((x as f64 - 150.0) / 140.0);
            i32::from(far < 1.0 && (y as f64 - 20.0).hypot(x as f64 - 150.0) > 60.0)
        });
        for (labels, name) in [(&disc, "disc"), (&bean, "bean")] {
            let exact = in_blocks(labels, 1);
            for side in [2, 3, 4] {
                let (mean, far) = difference(&exact, &in_blocks(labels, side));
                assert!(mean < 2.0 && far < 0.01, "{name} in blocks of {side}: {mean:.2} degrees, {far:.4} beyond 20");
            }
        }
    }
}
