//! The labels of one image while they are drawn, with what was done to them.

use std::collections::VecDeque;

use ndarray::s;

use super::edit::{Edit, Ink, Run};
use super::shapes::covered;
use crate::error::{Error, Result};
use crate::raster::{Connectivity, LabelImage, label_components};

/// Edits that can be undone, and runs of pixels that are remembered for it, at most.
const STEPS: usize = 200;
const RUNS: usize = 4_000_000;

/// The labels of an image: -1 unlabelled, 0 background, 1 and up drawn cells.
#[derive(Debug, Clone)]
pub struct Canvas {
    labels: LabelImage,
    /// The number of the next new cell; never one that was used before.
    next: i32,
    done: VecDeque<Step>,
    undone: Vec<Step>,
    edits: u64,
}

/// Pixels `first..end` of a row that had one value and have another.
#[derive(Debug, Clone, Copy)]
struct Changed {
    run: Run,
    old: i32,
    new: i32,
}

/// What one edit did.
type Step = Vec<Changed>;

/// What an edit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Change {
    /// The smallest box around the pixels with a new value, `[row, column, row end, column end]`; none if there are none.
    pub bounds: Option<[usize; 4]>,
    /// The cell that was drawn.
    pub cell: Option<i32>,
}

impl Canvas {
    /// An image of `[rows, columns]` on which nothing is drawn.
    ///
    /// # Errors
    /// [`Error::Limit`] when the labels do not fit into the memory.
    pub fn new([rows, columns]: [usize; 2]) -> Result<Self> {
        let values = crate::budget::zeros::<i32>(rows.saturating_mul(columns), "a label image")?;
        let labels = LabelImage::from_shape_vec((rows, columns), values)
            .map_err(|error| Error::Internal(format!("a label image: {error}")))?;
        Ok(Self::from_labels(labels.mapv_into(|_| -1)))
    }

    /// With labels that were drawn before; they cannot be undone.
    pub fn from_labels(labels: LabelImage) -> Self {
        let labels = labels.mapv_into(|label| label.max(-1));
        let next = labels.iter().copied().max().unwrap_or(0).max(0).saturating_add(1);
        Self { labels, next, done: VecDeque::new(), undone: Vec::new(), edits: 0 }
    }

    /// The labels: -1 unlabelled, 0 background, 1 and up drawn cells.
    pub fn labels(&self) -> &LabelImage {
        &self.labels
    }

    /// The number that the next new cell has.
    pub fn next_cell(&self) -> i32 {
        self.next
    }

    /// Lets the next new cell have a number above those that were used before.
    pub(super) fn begin_at(&mut self, next: i32) {
        self.next = self.next.max(next);
    }

    /// A number that is another one after every change.
    pub fn version(&self) -> u64 {
        self.edits
    }

    /// Whether there is something to undo, and to do again.
    pub fn can_undo_redo(&self) -> [bool; 2] {
        [!self.done.is_empty(), !self.undone.is_empty()]
    }

    /// Drawn cells and pixels of drawn background.
    pub fn counts(&self) -> [usize; 2] {
        let mut cells = std::collections::BTreeSet::new();
        let (mut background, mut last) = (0, -1);
        for &label in &self.labels {
            background += usize::from(label == 0);
            if label > 0 && label != last {
                cells.insert(label);
            }
            last = label;
        }
        [cells.len(), background]
    }

    /// Draws or corrects. An edit of the same kind on the same labels has the same result, so that a journal of them is as good
    /// as the labels.
    ///
    /// # Errors
    /// As [`Edit::check`]; [`Error::Limit`] when there are more cells than numbers.
    pub fn apply(&mut self, edit: &Edit) -> Result<Change> {
        edit.check()?;
        let (rows, columns) = self.labels.dim();
        let size = [rows, columns];
        let mut step = Step::new();
        let cell = match edit {
            Edit::Paint { shape, ink: Ink::Cell { id } } => Some(self.cell(&covered(shape, size), *id, &mut step)?),
            Edit::Paint { shape, ink: Ink::Background } => {
                self.paint(&covered(shape, size), 0, |old| old < 0, &mut step);
                None
            }
            Edit::Paint { shape, ink: Ink::Eraser } => {
                self.paint(&covered(shape, size), -1, |_| true, &mut step);
                None
            }
            Edit::Accept { pixels } => Some(self.cell(pixels, None, &mut step)?),
            Edit::Delete { pixels } => {
                self.paint(pixels, 0, |_| true, &mut step);
                None
            }
            Edit::Redraw { pixels, shape } => {
                self.paint(pixels, -1, |_| true, &mut step);
                Some(self.cell(&covered(shape, size), None, &mut step)?)
            }
            Edit::Forget { pixels } => {
                self.paint(pixels, -1, |_| true, &mut step);
                None
            }
            Edit::Clear => {
                let all: Vec<Run> = (0..rows).map(|row| [row as u32, 0, columns as u32]).collect();
                self.paint(&all, -1, |_| true, &mut step);
                None
            }
        };
        let change = Change { bounds: bounds(&step), cell };
        if !step.is_empty() {
            self.remember(step);
        }
        Ok(change)
    }

    /// Takes back the last edit; `None` if there is none.
    pub fn undo(&mut self) -> Option<Change> {
        let step = self.done.pop_back()?;
        self.put_back(step, |changed| changed.old, true)
    }

    /// Does again what was undone; `None` if nothing was.
    pub fn redo(&mut self) -> Option<Change> {
        let step = self.undone.pop()?;
        self.put_back(step, |changed| changed.new, false)
    }

    fn put_back(&mut self, step: Step, value: fn(&Changed) -> i32, undo: bool) -> Option<Change> {
        // Backwards when it is taken back, since an edit may change a pixel twice.
        let order: Box<dyn Iterator<Item = &Changed>> =
            if undo { Box::new(step.iter().rev()) } else { Box::new(step.iter()) };
        for changed in order {
            let [row, first, end] = changed.run.map(|n| n as usize);
            self.labels.slice_mut(s![row, first..end]).fill(value(changed));
        }
        let bounds = bounds(&step);
        if undo {
            self.undone.push(step);
        } else {
            self.done.push_back(step);
        }
        self.edits += 1;
        Some(Change { bounds, cell: None })
    }

    fn remember(&mut self, step: Step) {
        self.edits += 1;
        self.undone.clear();
        self.done.push_back(step);
        let mut runs: usize = self.done.iter().map(Vec::len).sum();
        while self.done.len() > STEPS || (runs > RUNS && self.done.len() > 1) {
            runs -= self.done.pop_front().map_or(0, |step| step.len());
        }
    }

    /// Adds pixels to a cell, and the holes that it then encloses. Other cells stay.
    fn cell(&mut self, runs: &[Run], id: Option<i32>, step: &mut Step) -> Result<i32> {
        let id = id.unwrap_or(self.next);
        if id == i32::MAX {
            return Err(Error::Limit("there are no more numbers for cells; begin another project".into()));
        }
        self.paint(runs, id, |old| old <= 0, step);
        if step.iter().any(|changed| changed.new == id) {
            self.next = self.next.max(id + 1);
            self.fill_holes(id, runs, step)?;
        }
        Ok(id)
    }

    /// Gives pixels a value where the old one may go.
    fn paint(&mut self, runs: &[Run], value: i32, may_go: impl Fn(i32) -> bool, step: &mut Step) {
        let (rows, columns) = self.labels.dim();
        for &[row, first, end] in runs.iter().filter(|run| (run[0] as usize) < rows) {
            let end = (end as usize).min(columns) as u32;
            for column in first..end {
                let pixel = &mut self.labels[[row as usize, column as usize]];
                let old = *pixel;
                if old == value || !may_go(old) {
                    continue;
                }
                *pixel = value;
                match step.last_mut() {
                    Some(last)
                        if last.run[0] == row && last.run[2] == column && last.old == old && last.new == value =>
                    {
                        last.run[2] += 1;
                    }
                    _ => step.push(Changed { run: [row, column, column + 1], old, new: value }),
                }
            }
        }
    }

    /// Gives a cell the unlabelled and background pixels that lie inside it, near what was just painted.
    fn fill_holes(&mut self, id: i32, runs: &[Run], step: &mut Step) -> Result<()> {
        let (rows, columns) = self.labels.dim();
        // The whole cell may lie beyond what was painted; a hole that this stroke closed lies within the cell's box.
        let mut cell = [usize::MAX, usize::MAX, 0, 0];
        let widest = runs.iter().fold([u32::MAX, u32::MAX, 0, 0], |b, [row, first, end]| {
            [b[0].min(*row), b[1].min(*first), b[2].max(row + 1), b[3].max(*end)]
        });
        let reach = |low: u32, margin: usize| (low as usize).saturating_sub(margin);
        let margin = 4 * (widest[2] - widest[0]).max(widest[3] - widest[1]) as usize + 64;
        let [top, left] = [reach(widest[0], margin), reach(widest[1], margin)];
        let [bottom, right] = [(widest[2] as usize + margin).min(rows), (widest[3] as usize + margin).min(columns)];
        for ((row, column), label) in self.labels.slice(s![top..bottom, left..right]).indexed_iter() {
            if *label == id {
                let [y, x] = [row + top, column + left];
                cell = [cell[0].min(y), cell[1].min(x), cell[2].max(y + 1), cell[3].max(x + 1)];
            }
        }
        if cell[2] <= cell[0] {
            return Ok(());
        }
        let part = self.labels.slice(s![cell[0]..cell[2], cell[1]..cell[3]]);
        let (height, width) = part.dim();
        let outside = part.mapv(|label| label != id);
        let (parts, _) = label_components(outside.view(), Connectivity::Four)?;
        let mut open = std::collections::BTreeSet::new();
        for ((row, column), component) in parts.indexed_iter() {
            if row == 0 || column == 0 || row + 1 == height || column + 1 == width {
                open.insert(*component);
            }
        }
        let mut holes = Vec::new();
        for ((row, column), component) in parts.indexed_iter() {
            if *component > 0 && !open.contains(component) {
                let [y, x] = [(row + cell[0]) as u32, (column + cell[1]) as u32];
                holes.push([y, x, x + 1]);
            }
        }
        self.paint(&holes, id, |old| old <= 0, step);
        Ok(())
    }
}

fn bounds(step: &Step) -> Option<[usize; 4]> {
    let boxes = step.iter().map(|changed| changed.run.map(|n| n as usize));
    boxes
        .map(|[row, first, end]| [row, first, row + 1, end])
        .reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])
}

#[cfg(test)]
mod tests {
    use super::super::edit::Shape;
    use super::*;

    fn square(x: f64, y: f64, side: f64, ink: Ink) -> Edit {
        let points = vec![[x, y], [x + side, y], [x + side, y + side], [x, y + side]];
        Edit::Paint { shape: Shape::Polygon { points }, ink }
    }

    fn count(canvas: &Canvas, label: i32) -> usize {
        canvas.labels().iter().filter(|value| **value == label).count()
    }

    const NEW: Ink = Ink::Cell { id: None };

    #[test]
    fn cells_stay_when_others_and_background_are_painted_over_them() {
        let mut canvas = Canvas::new([40, 50]).unwrap();
        assert_eq!(canvas.apply(&square(2.0, 2.0, 6.0, NEW)).unwrap().cell, Some(1));
        assert_eq!(canvas.apply(&square(5.0, 2.0, 6.0, NEW)).unwrap().cell, Some(2));
        let change = canvas.apply(&square(0.0, 0.0, 20.0, Ink::Background)).unwrap();
        assert_eq!((change.bounds, change.cell), (Some([0, 0, 20, 20]), None));
        assert_eq!([count(&canvas, 1), count(&canvas, 2), count(&canvas, 0)], [36, 18, 400 - 54]);
        assert_eq!(canvas.counts(), [2, 346]);
        canvas.apply(&square(2.0, 2.0, 3.0, Ink::Eraser)).unwrap();
        assert_eq!(count(&canvas, 1), 27);
        let added = canvas.apply(&square(2.0, 9.0, 2.0, Ink::Cell { id: Some(1) })).unwrap();
        assert_eq!((added.cell, count(&canvas, 1)), (Some(1), 31));
    }

    #[test]
    fn a_ring_of_a_brush_is_a_whole_cell() {
        let mut canvas = Canvas::new([40, 40]).unwrap();
        let points = (0..=32).map(|n| f64::from(n) / 32.0 * std::f64::consts::TAU);
        let points: Vec<_> = points.map(|a| [20.0 + 8.0 * a.cos(), 20.0 + 8.0 * a.sin()]).collect();
        canvas.apply(&Edit::Paint { shape: Shape::Stroke { points, radius: 1.0 }, ink: NEW }).unwrap();
        assert_eq!(canvas.labels()[[20, 20]], 1);
        assert!((count(&canvas, 1) as f64 - 81.0 * std::f64::consts::PI).abs() < 15.0, "{}", count(&canvas, 1));
        canvas.undo().unwrap();
        assert_eq!(canvas.counts(), [0, 0]);
    }

    #[test]
    fn every_edit_is_undone_and_done_again() {
        let mut canvas = Canvas::new([30, 30]).unwrap();
        let object = vec![[10, 3, 9], [11, 3, 9]];
        let edits = [
            square(1.0, 1.0, 9.0, NEW),
            square(8.0, 8.0, 9.0, Ink::Background),
            Edit::Accept { pixels: object.clone() },
            Edit::Delete { pixels: vec![[10, 3, 40], [40, 0, 1]] },
            Edit::Redraw {
                pixels: object.clone(),
                shape: Shape::Polygon { points: vec![[3.0, 10.0], [20.0, 10.0], [20.0, 25.0]] },
            },
            Edit::Forget { pixels: object },
            Edit::Clear,
        ];
        let mut states = vec![canvas.labels().clone()];
        for edit in &edits {
            canvas.apply(edit).unwrap();
            states.push(canvas.labels().clone());
        }
        assert!(states.windows(2).all(|pair| pair[0] != pair[1]));
        for state in states.iter().rev().skip(1) {
            canvas.undo().unwrap();
            assert_eq!(canvas.labels(), state);
        }
        assert!(canvas.undo().is_none());
        for state in &states[1..] {
            canvas.redo().unwrap();
            assert_eq!(canvas.labels(), state);
        }
        canvas.undo().unwrap();
        canvas.apply(&square(0.0, 0.0, 2.0, NEW)).unwrap();
        assert_eq!(canvas.can_undo_redo(), [true, false], "a new edit ends what could be done again");
    }

    #[test]
    fn a_cell_has_a_number_that_was_not_used_before() {
        let mut canvas = Canvas::new([30, 30]).unwrap();
        canvas.apply(&square(1.0, 1.0, 9.0, NEW)).unwrap();
        canvas.undo().unwrap();
        assert_eq!(canvas.apply(&square(1.0, 1.0, 9.0, NEW)).unwrap().cell, Some(2));
        let nothing = canvas.apply(&Edit::Accept { pixels: vec![[90, 1, 2]] }).unwrap();
        assert_eq!((nothing.bounds, canvas.next_cell()), (None, 3));
    }

    #[test]
    fn a_thousand_edits_take_no_more_memory_than_two_hundred() {
        let mut canvas = Canvas::new([30, 30]).unwrap();
        for round in 0..1000 {
            let ink = if round % 2 == 0 { NEW } else { Ink::Eraser };
            canvas.apply(&square(1.0, 1.0, 20.0, ink)).unwrap();
        }
        assert_eq!(canvas.done.len(), STEPS);
        assert!(canvas.done.iter().all(|step| step.len() <= 20 && step.capacity() <= 64));
    }
}
