//! Finding, among many boxes, those that meet a given one.

/// An axis-parallel box in pixels, bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// First and last row.
    pub y: [i32; 2],
    /// First and last column.
    pub x: [i32; 2],
}

impl Bounds {
    /// The smallest box around the points `[y, x]`; a box that meets nothing if there are none.
    pub fn around(points: &[[i32; 2]]) -> Self {
        let mut bounds = Self { y: [i32::MAX, i32::MIN], x: [i32::MAX, i32::MIN] };
        for &[y, x] in points {
            bounds.y = [bounds.y[0].min(y), bounds.y[1].max(y)];
            bounds.x = [bounds.x[0].min(x), bounds.x[1].max(x)];
        }
        bounds
    }

    /// Whether the boxes share a pixel.
    pub fn meets(&self, other: &Self) -> bool {
        self.y[0] <= other.y[1] && other.y[0] <= self.y[1] && self.x[0] <= other.x[1] && other.x[0] <= self.x[1]
    }

    /// The longer side, in pixels.
    fn side(&self) -> i64 {
        (i64::from(self.y[1]) - i64::from(self.y[0])).max(i64::from(self.x[1]) - i64::from(self.x[0]))
    }
}

/// A uniform grid over the lower corners of the boxes, plus a list of the few boxes much larger than the others.
pub(super) struct Neighbours {
    origin: [i64; 2],
    cell: i64,
    size: [usize; 2],
    /// `members[starts[c]..starts[c + 1]]` are the boxes whose lower corner lies in cell `c`.
    starts: Vec<u32>,
    members: Vec<u32>,
    /// Largest side of a box in the grid.
    reach: i64,
    large: Vec<u32>,
}

impl Neighbours {
    /// Sorts the boxes into the grid; cells are about as large as a typical box.
    pub fn new(boxes: &[Bounds]) -> Self {
        let mut sides: Vec<i64> = boxes.iter().map(Bounds::side).collect();
        let middle = sides.len() / 2;
        let typical = if sides.is_empty() { 1 } else { *sides.select_nth_unstable(middle).1 }.max(1);
        let reach = typical * 2;
        let (regular, large): (Vec<u32>, Vec<u32>) =
            (0..boxes.len() as u32).partition(|&index| boxes[index as usize].side() <= reach);
        let corner = |index: &u32| {
            let bounds = &boxes[*index as usize];
            [i64::from(bounds.y[0]), i64::from(bounds.x[0])]
        };
        let mut low = [i64::MAX; 2];
        let mut high = [i64::MIN; 2];
        for index in &regular {
            for axis in 0..2 {
                low[axis] = low[axis].min(corner(index)[axis]);
                high[axis] = high[axis].max(corner(index)[axis]);
            }
        }
        if regular.is_empty() {
            (low, high) = ([0; 2], [0; 2]);
        }
        // Boxes scattered over a huge plane must not make a huge grid.
        let cells = |cell: i64| [0, 1].map(|axis| ((high[axis] - low[axis]) / cell + 1) as usize);
        let mut cell = typical;
        while cells(cell)[0].saturating_mul(cells(cell)[1]) > 4 * boxes.len() + 1024 {
            cell *= 2;
        }
        let mut grid =
            Self { origin: low, cell, size: cells(cell), starts: Vec::new(), members: Vec::new(), reach, large };
        let places: Vec<usize> = regular.iter().map(|index| grid.place(corner(index))).collect();
        grid.fill(&regular, &places);
        grid
    }

    fn place(&self, corner: [i64; 2]) -> usize {
        let [row, column] = [0, 1].map(|axis| ((corner[axis] - self.origin[axis]) / self.cell) as usize);
        row * self.size[1] + column
    }

    /// Counting sort of the boxes by cell; within a cell they keep their order.
    fn fill(&mut self, regular: &[u32], places: &[usize]) {
        self.starts = vec![0; self.size[0] * self.size[1] + 1];
        for &place in places {
            self.starts[place + 1] += 1;
        }
        for cell in 1..self.starts.len() {
            self.starts[cell] += self.starts[cell - 1];
        }
        let mut next = self.starts.clone();
        self.members = vec![0; regular.len()];
        for (&index, &place) in regular.iter().zip(places) {
            self.members[next[place] as usize] = index;
            next[place] += 1;
        }
    }

    /// Calls `visit` for every box that may meet `bounds` (and some that do not), each once, in no particular order.
    pub fn visit(&self, bounds: &Bounds, mut visit: impl FnMut(usize)) {
        self.large.iter().for_each(|&index| visit(index as usize));
        let Some(rows) = self.cells(0, bounds.y) else { return };
        let Some(columns) = self.cells(1, bounds.x) else { return };
        for row in rows.0..=rows.1 {
            let first = self.starts[row * self.size[1] + columns.0] as usize;
            let last = self.starts[row * self.size[1] + columns.1 + 1] as usize;
            self.members[first..last].iter().for_each(|&index| visit(index as usize));
        }
    }

    /// Cells along an axis in which a box that meets `range` can have its lower corner.
    fn cells(&self, axis: usize, range: [i32; 2]) -> Option<(usize, usize)> {
        let first = (i64::from(range[0]) - self.reach - self.origin[axis]).max(0) / self.cell;
        let last = (i64::from(range[1]) - self.origin[axis]).div_euclid(self.cell).min(self.size[axis] as i64 - 1);
        (first <= last).then_some((first as usize, last as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn every_meeting_box_is_visited_once() {
        let mut random = Random::new(3, 0);
        for round in 0..20 {
            let spread = [10.0, 300.0, 1e7][round % 3];
            let boxes: Vec<Bounds> = (0..200)
                .map(|k| {
                    let side = if k % 50 == 0 { 5000.0 } else { 20.0 };
                    let [y, x] = [0; 2].map(|_: i32| random.uniform(-spread, spread) as i32);
                    let [h, w] = [0; 2].map(|_: i32| random.uniform(0.0, side) as i32);
                    Bounds { y: [y, y + h], x: [x, x + w] }
                })
                .collect();
            let grid = Neighbours::new(&boxes);
            for one in &boxes {
                let mut seen = vec![0; boxes.len()];
                grid.visit(one, |index| seen[index] += 1);
                for (other, &count) in boxes.iter().zip(&seen) {
                    assert!(count <= 1);
                    assert!(count == 1 || !one.meets(other));
                }
            }
        }
        Neighbours::new(&[]).visit(&Bounds::around(&[[1, 1]]), |_| panic!("nothing is there"));
    }
}
