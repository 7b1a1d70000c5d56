//! Cellpose flows: the direction in which heat, fed in at the centre of a cell and lost at its border, decreases least.
//!
//! Stringer et al., Nature Methods 2021; the constants are those of the recorded implementations.
//!
//! The definition takes a number of steps that grows with the sides of a cell, so its cost grows with the third power of its
//! diameter. Two things make it affordable. Only the window that the heat has reached is computed: the value of a pixel beyond
//! it is below 1e-100, which no flow in 32 bits can show; and where nothing changes from step to step, the steps that are left
//! are left out. That is exact, and enough for long thin cells. What is still too much, a compact cell of more than about 700
//! pixels across, is diffused in blocks of pixels first (`diffusion/blocks.rs`): time and space then shrink together, and the
//! flows differ from those of the definition by a few degrees in the mean.

mod blocks;

use ndarray::{Array3, ArrayView2};
use rayon::prelude::*;

use super::label_runs::{LabelRuns, LabelledRuns, Run};
use crate::budget::{array, gathered};
use crate::control::CancelToken;
use crate::error::{Error, Result};

/// Which implementation's flows are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowRule {
    /// Cellpose 3 on a CPU: mean centre, `2 (h + w + 4)` steps, the gradient of the heat itself.
    #[default]
    Reference,
    /// The sparse-label fork of Cellpose 2: median centre, `2 (h + w - 2)` steps, and the logarithm of the heat at those
    /// pixels whose upper-left diagonal neighbour belongs to the cell.
    Fork,
}

/// The flows of one cell.
#[derive(Debug, Clone, Copy)]
pub struct CellFlows<'a> {
    /// The cell.
    pub cell: LabelledRuns<'a>,
    /// `[dY, dX]` of every pixel of the cell, run after run: unit vectors, or zero where the heat has no gradient.
    pub flows: &'a [[f32; 2]],
}

/// The flows `[2, H, W]` (`dY`, `dX`) of a label image `[H, W]`, as Cellpose is trained to predict them (divided by 5).
///
/// Each cell is treated alone, whatever touches it. Vectors have length 1 inside cells and 0 elsewhere, at the centre of
/// a symmetric cell, in one-pixel cells and in pieces of a cell that do not touch (by an edge or a corner) the piece with
/// its centre. Values below 1 are no cells. The result does not depend on the number of threads.
///
/// # Errors
/// [`Error::Limit`] when a cell's bounding box does not fit into memory.
pub fn label_flows(labels: ArrayView2<'_, i32>, rule: FlowRule) -> Result<Array3<f32>> {
    label_flows_until(labels, rule, &CancelToken::new())
}

/// As [`label_flows`], and ends early when `cancel` is raised.
///
/// # Errors
/// As of [`label_flows`], and [`Error::Cancelled`].
pub fn label_flows_until(labels: ArrayView2<'_, i32>, rule: FlowRule, cancel: &CancelToken) -> Result<Array3<f32>> {
    let (height, width) = labels.dim();
    let cells = LabelRuns::new(labels)?;
    cancel.check()?;
    let copy = |cell: CellFlows<'_>| gathered(cell.flows.len(), cell.flows.iter().copied(), "the flows of a cell");
    let flows = map_cell_flows(&cells, rule, cancel, copy)?;
    let mut out: Array3<f32> = array((2, height, width), "the flows of a label image")?;
    for (cell, flows) in cells.iter().zip(flows) {
        let mut flows = flows?.into_iter();
        for (number, run) in cell.runs.iter().enumerate() {
            if number % PATIENCE == 0 {
                cancel.check()?;
            }
            for (column, flow) in (run.begin..run.end).zip(&mut flows) {
                out[[0, run.row, column]] = flow[0];
                out[[1, run.row, column]] = flow[1];
            }
        }
    }
    Ok(out)
}

/// Computes the flows of all cells in parallel and passes each cell to `map`; results are in ascending order of the ids.
///
/// # Errors
/// As [`label_flows`], and [`Error::Cancelled`].
pub fn map_cell_flows<R: Send>(
    cells: &LabelRuns,
    rule: FlowRule,
    cancel: &CancelToken,
    map: impl Fn(CellFlows<'_>) -> R + Sync,
) -> Result<Vec<R>> {
    (0..cells.len())
        .into_par_iter()
        .map_init(Scratch::default, |scratch, index| {
            let cell = cells.object(index).ok_or_else(|| Error::Internal("a cell is missing".into()))?;
            scratch.compute(cell, rule, cancel)?;
            Ok(map(CellFlows { cell, flows: &scratch.flows }))
        })
        .collect()
}

/// The pixel of the cell next to its mean (or median) position, first in row-major order among equals.
///
/// Row and column.
pub fn cell_centre(cell: LabelledRuns<'_>, rule: FlowRule) -> [usize; 2] {
    let [y, x] = match rule {
        FlowRule::Reference => mean(cell),
        FlowRule::Fork => median(cell),
    };
    let [top, left, ..] = cell.bounds;
    let mut nearest = (f64::INFINITY, [top, left]);
    for run in cell.runs {
        for column in run.begin..run.end {
            let (dx, dy) = ((column - left + 1) as f64 - x, (run.row - top + 1) as f64 - y);
            let distance = dx * dx + dy * dy;
            if distance < nearest.0 {
                nearest = (distance, [run.row, column]);
            }
        }
    }
    nearest.1
}

/// Positions are taken from one pixel before the bounding box on, as in the reference: equal distances are decided by
/// rounding.
fn mean(cell: LabelledRuns<'_>) -> [f64; 2] {
    let [top, left, ..] = cell.bounds;
    let mut sums = [0u128; 2];
    for run in cell.runs {
        let len = run.len() as u128;
        sums[0] += (run.row - top + 1) as u128 * len;
        sums[1] += (run.begin - left + run.end - left + 1) as u128 * len;
    }
    let area = cell.area() as f64;
    [sums[0] as f64 / area, (sums[1] / 2) as f64 / area]
}

fn median(cell: LabelledRuns<'_>) -> [f64; 2] {
    let [top, left, ..] = cell.bounds;
    let [height, width] = cell.extent();
    let (mut rows, mut columns) = (vec![0usize; height], vec![0usize; width]);
    for run in cell.runs {
        rows[run.row - top] += run.len();
        columns[run.begin - left..run.end - left].iter_mut().for_each(|count| *count += 1);
    }
    let middle = |counts: &[usize]| {
        let total: usize = counts.iter().sum();
        let at = |rank: usize| {
            let mut before = 0;
            let place = counts.iter().position(|count| {
                before += count;
                before > rank
            });
            (1 + place.unwrap_or(0)) as f64
        };
        (at(total.saturating_sub(1) / 2) + at(total / 2)) / 2.0
    };
    [middle(&rows), middle(&columns)]
}

/// Heat at the border of the window that makes it grow. A flow is the gradient divided by its length, to which 1e-60 is
/// added: what is smaller by 40 powers of ten is 0 in 32 bits.
const FELT: f64 = 1e-100;

/// Runs of pixels after which it is asked whether to stop.
const PATIENCE: usize = 256;

/// Steps after which it is looked whether anything still changes.
const LOOK: usize = 64;

/// Buffers that are reused from cell to cell.
#[derive(Debug, Default)]
struct Scratch {
    /// Heat in the bounding box of the heated piece with a border of one pixel, and the next step's.
    heat: Vec<f64>,
    next: Vec<f64>,
    /// Sums of three rows, for one run and one pixel on both sides.
    sums: Vec<f64>,
    /// Indices of the runs that touch the centre's, directly or through others; then where they lie in `heat`, by row.
    piece: Vec<usize>,
    spans: Vec<(usize, usize)>,
    flows: Vec<[f32; 2]>,
}

/// The rows and columns of the heat that are computed, bounds included.
#[derive(Debug, Clone, Copy)]
struct Window {
    rows: [usize; 2],
    columns: [usize; 2],
}

impl Scratch {
    fn compute(&mut self, cell: LabelledRuns<'_>, rule: FlowRule, cancel: &CancelToken) -> Result<()> {
        self.flows.clear();
        self.flows.try_reserve(cell.area()).map_err(|_| too_large(cell.extent()[0], cell.extent()[1]))?;
        let [height, width] = cell.extent();
        let steps = match rule {
            FlowRule::Reference => 2 * (height + width + 4),
            FlowRule::Fork => 2 * (height + width - 2),
        };
        let centre = cell_centre(cell, rule);
        self.connect(cell.runs, centre);
        let bounds = bounds_of(self.piece.iter().filter_map(|&index| cell.runs.get(index)));
        let stride = self.place(cell.runs, bounds)?;
        let source = (centre[0] + 1 - bounds[0]) * stride + centre[1] + 1 - bounds[1];
        let area: usize = self.spans.iter().map(|(_, len)| len).sum();
        cancel.check()?;
        let side = self.block_side(area, steps, stride, cancel)?;
        if side > 1 {
            self.coarse(side, steps, source, stride, cancel)?;
        } else {
            self.diffuse(steps, source, stride, cancel)?;
        }
        if rule == FlowRule::Fork {
            self.take_logarithms(stride);
        }
        self.gradients(cell, rule, stride, cancel)
    }

    /// Runs `steps` steps, without those that change nothing.
    fn diffuse(&mut self, steps: usize, source: usize, stride: usize, cancel: &CancelToken) -> Result<()> {
        let last = [self.heat.len() / stride - 2, stride - 2];
        let at = [source / stride, source % stride];
        let mut window = Window { rows: [at[0]; 2], columns: [at[1]; 2] };
        for step in 0..steps {
            cancel.check()?;
            self.heat[source] += 1.0;
            self.grow(&mut window, last, stride);
            self.spread(stride, window);
            // Heat grows from 0 on and rounding keeps the order of numbers, so it stops at its limit and stays there.
            if step % LOOK == LOOK - 1 && self.is_settled(source, stride, window) {
                break;
            }
        }
        Ok(())
    }

    /// Lets the window grow by one pixel on the sides whose heat is felt.
    fn grow(&self, window: &mut Window, last: [usize; 2], stride: usize) {
        let Window { rows, columns } = *window;
        let felt = |value: &f64| *value > FELT;
        let row = |row: usize| self.heat[row * stride + columns[0]..=row * stride + columns[1]].iter().any(felt);
        let column = |column: usize| (rows[0]..=rows[1]).any(|row| self.heat[row * stride + column] > FELT);
        let grown = |first: usize, grows: bool| if grows && first > 1 { first - 1 } else { first };
        let more = |end: usize, of: usize, grows: bool| if grows && end < of { end + 1 } else { end };
        window.rows = [grown(rows[0], row(rows[0])), more(rows[1], last[0], row(rows[1]))];
        window.columns = [grown(columns[0], column(columns[0])), more(columns[1], last[1], column(columns[1]))];
    }

    /// Whether the last step changed nothing: `next` is what it began with, without what was added to the source.
    fn is_settled(&self, source: usize, stride: usize, window: Window) -> bool {
        let Window { rows: [top, bottom], columns: [left, right] } = window;
        self.heat[source] + 1.0 == self.next[source]
            && (top..=bottom).all(|row| {
                let line = row * stride + left..=row * stride + right;
                let pairs = self.heat[line.clone()].iter().zip(&self.next[line]).enumerate();
                pairs.into_iter().all(|(k, (new, old))| new == old || row * stride + left + k == source)
            })
    }

    /// Finds the runs of the piece that holds the centre; pieces touch by edges or corners.
    fn connect(&mut self, runs: &[Run], centre: [usize; 2]) {
        self.piece.clear();
        let mut reached = vec![false; runs.len()];
        let holds = |run: &Run| run.row == centre[0] && (run.begin..run.end).contains(&centre[1]);
        let mut open: Vec<usize> = runs.iter().position(holds).into_iter().collect();
        open.iter().for_each(|&index| reached[index] = true);
        while let Some(index) = open.pop() {
            self.piece.push(index);
            let run = runs[index];
            for row in [run.row.checked_sub(1), Some(run.row + 1)].into_iter().flatten() {
                // Runs of one row are sorted and apart, so those that touch follow each other.
                let first = runs.partition_point(|other| (other.row, other.end) < (row, run.begin));
                let touching = runs[first..].iter().take_while(|other| other.row == row && other.begin <= run.end);
                for next in first..first + touching.count() {
                    if !reached[next] {
                        reached[next] = true;
                        open.push(next);
                    }
                }
            }
        }
        self.piece.sort_unstable();
    }

    /// Lays the piece out in cleared buffers; returns the length of a row of them.
    fn place(&mut self, runs: &[Run], bounds: [usize; 4]) -> Result<usize> {
        let [rows, columns] = [bounds[2] - bounds[0] + 3, bounds[3] - bounds[1] + 3];
        let len = rows.checked_mul(columns).filter(|len| *len <= isize::MAX as usize / 16);
        let len = len.ok_or_else(|| too_large(rows, columns))?;
        for buffer in [&mut self.heat, &mut self.next] {
            buffer.clear();
            buffer.try_reserve(len).map_err(|_| too_large(rows, columns))?;
            buffer.resize(len, 0.0);
        }
        self.sums.resize(columns, 0.0);
        self.spans.clear();
        self.spans.extend(self.piece.iter().map(|&index| {
            let run = runs[index];
            ((run.row + 1 - bounds[0]) * columns + run.begin + 1 - bounds[1], run.len())
        }));
        Ok(columns)
    }

    /// One step: every pixel of the piece in the window takes the mean of its 3 x 3 neighbourhood.
    fn spread(&mut self, stride: usize, window: Window) {
        let Window { rows: [top, bottom], columns: [left, right] } = window;
        let first = self.spans.partition_point(|&(at, _)| at < top * stride);
        let spans = self.spans[first..].iter().take_while(|&&(at, _)| at < (bottom + 1) * stride);
        for &(at, len) in spans {
            let column = at % stride;
            let (begin, end) = (column.max(left), (column + len).min(right + 1));
            if begin >= end {
                continue;
            }
            let (at, len) = (at + begin - column, end - begin);
            let row = |at: usize| &self.heat[at - 1..at + len + 1];
            let sums = &mut self.sums[..len + 2];
            let (above, here, below) = (row(at - stride), row(at), row(at + stride));
            for (((sum, above), here), below) in sums.iter_mut().zip(above).zip(here).zip(below) {
                *sum = above + here + below;
            }
            let (left, middle, right) = (&sums[..len], &sums[1..=len], &sums[2..]);
            let out = &mut self.next[at..at + len];
            for (((out, left), middle), right) in out.iter_mut().zip(left).zip(middle).zip(right) {
                *out = (left + middle + right) * (1.0 / 9.0);
            }
        }
        std::mem::swap(&mut self.heat, &mut self.next);
    }

    /// Replaces the heat by `ln(1 + heat)` one row below and one column right of every pixel of the piece.
    fn take_logarithms(&mut self, stride: usize) {
        for &(at, len) in &self.spans {
            for value in &mut self.heat[at + stride + 1..at + stride + 1 + len] {
                *value = (1.0 + *value).ln();
            }
        }
    }

    fn gradients(&mut self, cell: LabelledRuns<'_>, rule: FlowRule, stride: usize, cancel: &CancelToken) -> Result<()> {
        let floor = match rule {
            FlowRule::Reference => 1e-60,
            FlowRule::Fork => 1e-20,
        };
        let mut piece = self.piece.iter().zip(&self.spans).peekable();
        for (index, run) in cell.runs.iter().enumerate() {
            if index % PATIENCE == 0 {
                cancel.check()?;
            }
            match piece.next_if(|(heated, _)| **heated == index) {
                Some((_, &(at, len))) => self.flows.extend((at..at + len).map(|at| {
                    let dy = self.heat[at + stride] - self.heat[at - stride];
                    let dx = self.heat[at + 1] - self.heat[at - 1];
                    let length = floor + (dy * dy + dx * dx).sqrt();
                    [(dy / length) as f32, (dx / length) as f32]
                })),
                None => self.flows.extend(std::iter::repeat_n([0.0; 2], run.len())),
            }
        }
        Ok(())
    }
}

fn bounds_of<'a>(runs: impl Iterator<Item = &'a Run>) -> [usize; 4] {
    let none = [usize::MAX, usize::MAX, 0, 0];
    let bounds =
        runs.fold(none, |b, run| [b[0].min(run.row), b[1].min(run.begin), b[2].max(run.row), b[3].max(run.end - 1)]);
    if bounds[0] > bounds[2] { [0; 4] } else { bounds }
}

fn too_large(rows: usize, columns: usize) -> Error {
    Error::Limit(format!("a cell that spans {rows} x {columns} pixels does not fit into memory; cut it into parts"))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    /// The definition, pixel by pixel, on the whole image.
    fn slow(labels: &Array2<i32>, label: i32, centre: [usize; 2], steps: usize) -> Array2<f64> {
        let (h, w) = labels.dim();
        let mut heat = Array2::<f64>::zeros((h + 2, w + 2));
        for _ in 0..steps {
            heat[[centre[0] + 1, centre[1] + 1]] += 1.0;
            let old = heat.clone();
            for ((y, x), &value) in labels.indexed_iter() {
                if value == label {
                    heat[[y + 1, x + 1]] = old.slice(s![y..y + 3, x..x + 3]).sum() / 9.0;
                }
            }
        }
        heat
    }

    #[test]
    fn flows_follow_the_definition() {
        let mut labels = Array2::zeros((14, 15));
        labels.slice_mut(s![2..9, 3..8]).fill(3);
        labels.slice_mut(s![4..6, 5..8]).fill(0);
        labels.slice_mut(s![9..12, 8..11]).fill(3);
        labels.slice_mut(s![0..2, 12..15]).fill(3);
        let cells = LabelRuns::new(labels.view()).unwrap();
        let cell = cells.object(0).unwrap();
        let centre = cell_centre(cell, FlowRule::Reference);
        let heat = slow(&labels, 3, centre, 2 * (12 + 12 + 4));
        let flows = label_flows(labels.view(), FlowRule::Reference).unwrap();
        for ((y, x), &value) in labels.indexed_iter() {
            let d = [heat[[y + 2, x + 1]] - heat[[y, x + 1]], heat[[y + 1, x + 2]] - heat[[y + 1, x]]];
            let length = (d[0] * d[0] + d[1] * d[1]).sqrt() + 1e-60;
            for (axis, d) in d.into_iter().enumerate() {
                let expected = if value == 3 { d / length } else { 0.0 };
                assert!((f64::from(flows[[axis, y, x]]) - expected).abs() < 1e-6, "{y} {x}");
            }
        }
        // The piece in the corner does not touch the others.
        assert!(flows.slice(s![.., 0..2, 12..15]).iter().all(|&flow| flow == 0.0));
    }

    #[test]
    fn the_window_and_the_end_of_change_leave_the_flows_as_they_are() {
        // A long thin cell, of which heat reaches a part only, and one that it fills.
        let mut labels = Array2::zeros((9, 1000));
        labels.slice_mut(s![1..4, 5..995]).fill(1);
        labels.slice_mut(s![3..8, 400..405]).fill(1);
        let cells = LabelRuns::new(labels.view()).unwrap();
        let cell = cells.object(0).unwrap();
        let [height, width] = cell.extent();
        let heat = slow(&labels, 1, cell_centre(cell, FlowRule::Reference), 2 * (height + width + 4));
        let flows = label_flows(labels.view(), FlowRule::Reference).unwrap();
        for ((y, x), _) in labels.indexed_iter().filter(|(_, label)| **label == 1) {
            let d = [heat[[y + 2, x + 1]] - heat[[y, x + 1]], heat[[y + 1, x + 2]] - heat[[y + 1, x]]];
            let length = (d[0] * d[0] + d[1] * d[1]).sqrt() + 1e-60;
            for (axis, d) in d.into_iter().enumerate() {
                // At the centre the gradient is as small as rounding, and has no direction.
                let is_flat = length < 1e-12 * heat[[y + 1, x + 1]];
                assert!(is_flat || (f64::from(flows[[axis, y, x]]) - d / length).abs() < 1e-6, "{y} {x}");
            }
        }
    }

    #[test]
    fn one_huge_cell_takes_no_longer_than_a_moment() {
        for shape in [(1, 200_000), (10, 60_000), (2048, 2048)] {
            let begin = std::time::Instant::now();
            let flows = label_flows(Array2::from_elem(shape, 1).view(), FlowRule::Reference).unwrap();
            // A generous bound: minutes, when every step is made over the whole cell.
            assert!(begin.elapsed().as_secs() < 10, "{shape:?}: {:?}", begin.elapsed());
            let (y, x) = (shape.0 / 4, shape.1 / 2);
            assert!(shape.0 == 1 || flows[[0, y, x]] > 0.9, "down to the centre: {}", flows[[0, y, x]]);
        }
    }

    #[test]
    fn flows_end_when_they_are_cancelled() {
        let cancel = CancelToken::new();
        let labels = Array2::from_elem((700, 700), 1);
        std::thread::scope(|scope| {
            let work = scope.spawn(|| label_flows_until(labels.view(), FlowRule::Reference, &cancel));
            std::thread::sleep(std::time::Duration::from_millis(30));
            cancel.cancel();
            assert!(matches!(work.join().unwrap(), Err(Error::Cancelled)));
        });
    }

    #[test]
    fn odd_label_images_have_flows_too() {
        for rule in [FlowRule::Reference, FlowRule::Fork] {
            for shape in [(0, 0), (0, 5), (5, 0), (1, 1), (1, 4)] {
                assert_eq!(label_flows(Array2::zeros(shape).view(), rule).unwrap().dim(), (2, shape.0, shape.1));
                let full = label_flows(Array2::from_elem(shape, i32::MAX).view(), rule).unwrap();
                assert!(full.iter().all(|flow| flow.is_finite()));
            }
            let mut gaps = Array2::from_elem((6, 6), -1);
            gaps[[0, 0]] = 5;
            gaps[[5, 5]] = 5;
            gaps[[2, 2]] = 1_000_000;
            assert!(label_flows(gaps.view(), rule).unwrap().iter().all(|&flow| flow == 0.0));
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let labels = Array2::from_shape_fn((60, 60), |(y, x)| (y / 9 * 7 + x / 9) as i32);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let flows = || label_flows(labels.view(), FlowRule::Reference).unwrap();
        assert_eq!(one.install(flows), three.install(flows));
    }
}
