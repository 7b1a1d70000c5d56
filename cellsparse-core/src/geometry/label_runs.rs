//! The pixels of every object of a label image, as runs along rows.

use ndarray::ArrayView2;

use crate::budget::{gathered, pushed};
use crate::error::Result;

/// Neighbouring pixels of one row with one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Row.
    pub row: usize,
    /// First column.
    pub begin: usize,
    /// One past the last column.
    pub end: usize,
}

impl Run {
    /// Number of pixels.
    pub fn len(&self) -> usize {
        self.end - self.begin
    }

    /// Whether there is no pixel; never so for a run of [`LabelRuns`].
    pub fn is_empty(&self) -> bool {
        self.end <= self.begin
    }
}

/// One object: its id, its runs in row-major order, and its bounding box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelledRuns<'a> {
    /// Id, at least 1.
    pub label: i32,
    /// At least one run.
    pub runs: &'a [Run],
    /// First row, first column, last row, last column (inclusive).
    pub bounds: [usize; 4],
}

impl LabelledRuns<'_> {
    /// Number of pixels.
    pub fn area(&self) -> usize {
        self.runs.iter().map(Run::len).sum()
    }

    /// Rows and columns of the bounding box.
    pub fn extent(&self) -> [usize; 2] {
        [self.bounds[2] - self.bounds[0] + 1, self.bounds[3] - self.bounds[1] + 1]
    }
}

/// All objects of a label image in ascending order of their ids, found in time linear in the pixels (and a sort of the
/// runs), however the ids are spread.
#[derive(Debug, Clone, Default)]
pub struct LabelRuns {
    runs: Vec<Run>,
    /// Id, first run and bounding box of each object.
    objects: Vec<(i32, usize, [usize; 4])>,
}

impl LabelRuns {
    /// Collects the objects (values of at least 1) of a label image `[H, W]`.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory for them.
    pub fn new(labels: ArrayView2<'_, i32>) -> Result<Self> {
        let what = "the objects of a label image";
        let mut found: Vec<(i32, Run)> = Vec::new();
        for (row, values) in labels.outer_iter().enumerate() {
            let mut open: Option<(i32, Run)> = None;
            for (column, &label) in values.iter().enumerate() {
                match &mut open {
                    Some((current, run)) if *current == label => run.end = column + 1,
                    _ => {
                        if let Some(run) = open.take() {
                            pushed(&mut found, run, what)?;
                        }
                        open = (label > 0).then_some((label, Run { row, begin: column, end: column + 1 }));
                    }
                }
            }
            if let Some(run) = open {
                pushed(&mut found, run, what)?;
            }
        }
        // Within an object, the runs stay in row-major order.
        found.sort_unstable_by_key(|(label, run)| (*label, run.row, run.begin));
        let mut objects: Vec<(i32, usize, [usize; 4])> = Vec::new();
        for (index, (label, run)) in found.iter().enumerate() {
            match objects.last_mut() {
                Some((last, _, bounds)) if last == label => {
                    bounds[1] = bounds[1].min(run.begin);
                    bounds[2] = run.row;
                    bounds[3] = bounds[3].max(run.end - 1);
                }
                _ => pushed(&mut objects, (*label, index, [run.row, run.begin, run.row, run.end - 1]), what)?,
            }
        }
        Ok(Self { runs: gathered(found.len(), found.into_iter().map(|(_, run)| run), what)?, objects })
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Object `index` in ascending order of the ids; `None` beyond the last one.
    pub fn object(&self, index: usize) -> Option<LabelledRuns<'_>> {
        let &(label, first, bounds) = self.objects.get(index)?;
        let end = self.objects.get(index + 1).map_or(self.runs.len(), |next| next.1);
        Some(LabelledRuns { label, runs: &self.runs[first..end], bounds })
    }

    /// All objects in ascending order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = LabelledRuns<'_>> {
        (0..self.len()).filter_map(|index| self.object(index))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn objects_are_split_into_runs() {
        let labels = array![[7, 7, 0, 7], [-1, 2, 2, 7], [2, 2, -1, -1]];
        let runs = LabelRuns::new(labels.view()).unwrap();
        let objects: Vec<_> = runs.iter().collect();
        assert_eq!(objects.iter().map(|object| object.label).collect::<Vec<_>>(), [2, 7]);
        assert_eq!(objects[0].runs, [Run { row: 1, begin: 1, end: 3 }, Run { row: 2, begin: 0, end: 2 }]);
        assert_eq!((objects[0].bounds, objects[0].area()), ([1, 0, 2, 2], 4));
        assert_eq!((objects[1].bounds, objects[1].area(), objects[1].extent()), ([0, 0, 1, 3], 4, [2, 4]));
        assert!(runs.object(2).is_none());
        assert!(LabelRuns::new(Array2::zeros((0, 3)).view()).unwrap().is_empty());
        assert!(LabelRuns::new(Array2::from_elem((3, 0), 1).view()).unwrap().is_empty());
    }
}
