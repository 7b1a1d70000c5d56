//! The area shared by two integer polygons, with intersection vertices rounded to integers.
//!
//! The method is Vatti's scanbeam sweep (B. Vatti, "A generic solution to polygon clipping", CACM 35, 1992) in the
//! integer form of the Clipper library 6.4.2, which StarDist uses: the decisions of its non-maximum suppression hang on
//! where that form places the rounded vertices. Rows are visited from the largest to the smallest; between two visited
//! rows (a scanbeam) all edges are straight, and the columns where they cross a visited row are rounded. Edges change
//! places exactly when their rounded columns do. Both outlines are filled by the non-zero winding rule.

use super::polygon_active::{Active, ActiveEdges};
use super::polygon_bounds::{HORIZONTAL, IntegerPolygon, Point};
use super::polygon_crossing::{column, crossing, parallel};
use super::polygon_outputs::{OutputPolygons, PolygonEnd};

/// A reusable workspace that computes overlap areas.
#[derive(Debug, Default)]
pub struct Overlap {
    edges: ActiveEdges,
    local_minima: Vec<Start>,
    rows: Vec<i64>,
    marked: Vec<bool>,
    /// Horizontal edges of the current row that wait for their turn; the last one comes first.
    horizontals: Vec<usize>,
    crossings: Vec<Crossing>,
    order: Vec<usize>,
    /// The place in `order` of each edge.
    places: Vec<usize>,
    outputs: OutputPolygons,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    y: i64,
    left: usize,
    right: usize,
    winding: i32,
}

#[derive(Debug, Clone, Copy)]
struct Crossing {
    left: usize,
    right: usize,
    at: Point,
}

/// The sweep met a configuration that the reference gives up on; the area is then 0.
struct Abandoned;

impl Overlap {
    /// Area of the intersection of two outlines in square pixels: the sum over the intersection polygons, whose vertices
    /// are integers.
    ///
    /// Of events in one row the earlier listed comes first. Clipper leaves their order open where there are more than 16
    /// (badly tangled outlines), and it joins touching result polygons afterwards, which may change the sum by a pixel or
    /// two where they overlap through rounding. Not exactly symmetric in `a` and `b`, because rounding depends on the
    /// order in which edges are visited. The result is 0 for an empty outline and for the rare tangles in which the
    /// reference gives up.
    pub fn area(&mut self, a: &IntegerPolygon, b: &IntegerPolygon) -> f32 {
        if a.is_empty() || b.is_empty() {
            return 0.0;
        }
        self.load(a, b);
        match self.sweep() {
            Ok(()) => self.outputs.area(),
            Err(Abandoned) => 0.0,
        }
    }

    fn load(&mut self, a: &IntegerPolygon, b: &IntegerPolygon) {
        self.edges.clear();
        self.local_minima.clear();
        self.rows.clear();
        self.horizontals.clear();
        self.crossings.clear();
        self.outputs.clear();
        for (owner, outline) in [a, b].into_iter().enumerate() {
            let base = self.edges.add(owner, outline);
            self.local_minima.extend(outline.local_minima.iter().map(|local_minimum| Start {
                y: local_minimum.y,
                left: local_minimum.left + base,
                right: local_minimum.right + base,
                winding: local_minimum.winding,
            }));
        }
        self.local_minima.sort_by_key(|local_minimum| -local_minimum.y);
        self.collect_rows();
    }

    /// Lists the rows of all vertices, each once, from the largest to the smallest.
    fn collect_rows(&mut self) {
        let local_minima = self.local_minima.iter().map(|local_minimum| local_minimum.y);
        let vertices = || local_minima.clone().chain(self.edges.all().map(|active| active.edge.top.y));
        let (low, high) = vertices().fold((i64::MAX, i64::MIN), |(low, high), y| (low.min(y), high.max(y)));
        // Outlines of cells span few rows, which are quicker marked than sorted.
        if high - low < 1024 {
            self.marked.clear();
            self.marked.resize((high - low + 1) as usize, false);
            for y in vertices() {
                self.marked[(y - low) as usize] = true;
            }
            let marked = self.marked.iter().enumerate().rev().filter(|(_, marked)| **marked);
            self.rows.extend(marked.map(|(place, _)| low + place as i64));
        } else {
            self.rows.extend(vertices());
            self.rows.sort_unstable_by_key(|&y| -y);
            self.rows.dedup();
        }
    }

    fn sweep(&mut self) -> Result<(), Abandoned> {
        let rows = std::mem::take(&mut self.rows);
        let last = self.last_common_row();
        let mut next_minimum = 0;
        let mut outcome = Ok(());
        for (step, &row) in rows.iter().enumerate() {
            if step > 0 {
                outcome = self.beam(row);
            }
            if outcome.is_err() || (row <= last && !self.is_building()) {
                break;
            }
            while let Some(&start) = self.local_minima.get(next_minimum).filter(|start| start.y == row) {
                next_minimum += 1;
                self.open(start);
            }
        }
        self.rows = rows;
        outcome
    }

    /// The row at which the first of the outlines ends; beyond it nothing is shared any more.
    fn last_common_row(&self) -> i64 {
        let end = |owner| self.edges.all().filter(|a| a.owner == owner).map(|a| a.edge.top.y).min().unwrap_or(0);
        end(0).max(end(1))
    }

    /// Whether an output polygon is still open.
    fn is_building(&self) -> bool {
        let mut next = self.edges.first;
        while let Some(index) = next {
            if self.edges[index].output.is_some() {
                return true;
            }
            next = self.edges[index].right;
        }
        false
    }

    /// Moves the sweep through one scanbeam, up to `row`.
    fn beam(&mut self, row: i64) -> Result<(), Abandoned> {
        self.cross_horizontals();
        self.find_crossings(row);
        if self.crossings.len() > 1 {
            self.order_crossings()?;
        }
        for k in 0..self.crossings.len() {
            let Crossing { left, right, at } = self.crossings[k];
            self.intersect(left, right, at);
            self.edges.swap(left, right);
        }
        self.crossings.clear();
        self.reach(row)
    }

    // Output.

    fn emit(&mut self, index: usize, point: Point) {
        match self.edges[index].output {
            Some(output) => self.outputs.add(output, self.edges[index].side, point),
            None => self.edges[index].output = Some(self.outputs.begin(point)),
        }
    }

    /// Begins an output polygon between two edges that part at `point`.
    fn begin_path(&mut self, a: usize, b: usize, point: Point) {
        let b_is_right = self.edges[b].edge.slope == HORIZONTAL || self.edges[a].edge.slope > self.edges[b].edge.slope;
        let (left, right) = if b_is_right { (a, b) } else { (b, a) };
        self.emit(left, point);
        self.edges[right].output = self.edges[left].output;
        self.edges[left].side = PolygonEnd::Front;
        self.edges[right].side = PolygonEnd::Back;
        let mut neighbour = self.edges[left].left;
        if neighbour == Some(right) {
            neighbour = self.edges[right].left;
        }
        // A neighbour that runs on top of the new edge takes part in the vertex.
        if let Some(neighbour) = neighbour {
            let (beside, edge) = (&self.edges[neighbour], &self.edges[left].edge);
            if beside.output.is_some() && beside.edge.top.y < point.y && edge.top.y < point.y {
                let x = column(&beside.edge, point.y);
                let from = Point { x, y: point.y };
                if x == column(edge, point.y) && parallel(from, beside.edge.top, from, edge.top) {
                    self.emit(neighbour, point);
                }
            }
        }
    }

    /// Ends an output polygon, or joins two, where two edges meet.
    fn end_path(&mut self, a: usize, b: usize, point: Point) {
        self.emit(a, point);
        let (output_a, output_b) = (self.edges[a].output.take(), self.edges[b].output.take());
        let (Some(output_a), Some(output_b)) = (output_a, output_b) else { return };
        if output_a == output_b {
            return;
        }
        let ((kept, side), (gone, gone_side)) = if output_a < output_b {
            ((output_a, self.edges[a].side), (output_b, self.edges[b].side))
        } else {
            ((output_b, self.edges[b].side), (output_a, self.edges[a].side))
        };
        self.outputs.append(kept, side, gone, gone_side);
        let mut next = self.edges.first;
        while let Some(index) = next {
            if self.edges[index].output == Some(gone) {
                self.edges[index].output = Some(kept);
                self.edges[index].side = side;
                break;
            }
            next = self.edges[index].right;
        }
    }

    // Events.

    /// Enters the two bounds of a local minimum.
    fn open(&mut self, Start { left, right, winding, .. }: Start) {
        self.edges[left].winding = winding;
        self.edges[right].winding = -winding;
        self.edges[left].side = PolygonEnd::Front;
        self.edges[right].side = PolygonEnd::Back;
        self.edges.insert(left, None);
        self.edges.insert(right, Some(left));
        self.count_windings(left);
        self.edges[right].own_count = self.edges[left].own_count;
        self.edges[right].other_count = self.edges[left].other_count;
        let bottom = self.edges[left].edge.bottom;
        if self.edges[left].own_count.abs() == 1 && self.edges[left].other_count != 0 {
            self.begin_path(left, right, bottom);
        }
        if self.edges[right].edge.slope == HORIZONTAL {
            self.horizontals.push(right);
        }
        if let Some(beside) = self.edges[left].left.filter(|_| self.edges[left].output.is_some()) {
            let (old, new) = (&self.edges[beside], &self.edges[left]);
            if old.output.is_some()
                && old.at.x == bottom.x
                && parallel(old.edge.bottom, old.edge.top, new.at, new.edge.top)
            {
                self.emit(beside, bottom);
            }
        }
        if self.edges[left].right == Some(right) {
            return;
        }
        if let Some(beside) = self.edges[right].left.filter(|_| self.edges[right].output.is_some()) {
            let (old, new) = (&self.edges[beside], &self.edges[right]);
            if old.output.is_some() && parallel(old.at, old.edge.top, new.at, new.edge.top) {
                let point = new.edge.bottom;
                self.emit(beside, point);
            }
        }
        let mut next = self.edges[left].right;
        while let Some(between) = next.filter(|&index| index != right) {
            let at = self.edges[left].at;
            self.intersect(right, between, at);
            next = self.edges[between].right;
        }
    }

    /// Winding numbers beside a new edge, from the nearest edge of its outline on its left.
    fn count_windings(&mut self, index: usize) {
        let (owner, winding) = (self.edges[index].owner, self.edges[index].winding);
        let mut before = self.edges[index].left;
        while let Some(other) = before.filter(|&other| self.edges[other].owner != owner) {
            before = self.edges[other].left;
        }
        let (own_count, mut other_count, mut next) = match before {
            None => (winding, 0, self.edges.first),
            Some(other) => {
                let other = &self.edges[other];
                let outside = other.own_count * other.winding < 0;
                let own_count = if outside && other.own_count.abs() <= 1 {
                    winding
                } else if other.winding * winding < 0 {
                    other.own_count
                } else {
                    other.own_count + winding
                };
                (own_count, other.other_count, other.right)
            }
        };
        while let Some(other) = next.filter(|&other| other != index) {
            other_count += self.edges[other].winding;
            next = self.edges[other].right;
        }
        self.edges[index].own_count = own_count;
        self.edges[index].other_count = other_count;
    }

    /// Two edges cross at `point`; above it `a` is to the right of `b`.
    fn intersect(&mut self, a: usize, b: usize, point: Point) {
        let same_owner = self.edges[a].owner == self.edges[b].owner;
        let (winding_a, winding_b) = (self.edges[a].winding, self.edges[b].winding);
        if same_owner {
            let turn = |count: i32, change: i32| if count + change == 0 { -count } else { count + change };
            self.edges[a].own_count = turn(self.edges[a].own_count, winding_b);
            self.edges[b].own_count = turn(self.edges[b].own_count, -winding_a);
        } else {
            self.edges[a].other_count += winding_b;
            self.edges[b].other_count -= winding_a;
        }
        let (count_a, count_b) = (self.edges[a].own_count.abs(), self.edges[b].own_count.abs());
        let (border_a, border_b) = (count_a <= 1, count_b <= 1);
        match (self.edges[a].output.is_some(), self.edges[b].output.is_some()) {
            (true, true) => {
                if !border_a || !border_b || !same_owner {
                    self.end_path(a, b, point);
                } else {
                    self.emit(a, point);
                    self.emit(b, point);
                    self.trade_paths(a, b);
                }
            }
            (true, false) if border_b => {
                self.emit(a, point);
                self.trade_paths(a, b);
            }
            (false, true) if border_a => {
                self.emit(b, point);
                self.trade_paths(a, b);
            }
            (false, false) if border_a && border_b => {
                if !same_owner {
                    self.begin_path(a, b, point);
                } else if count_a == 1 && count_b == 1 {
                    if self.edges[a].other_count != 0 && self.edges[b].other_count != 0 {
                        self.begin_path(a, b, point);
                    }
                } else {
                    let (side_a, side_b) = (self.edges[a].side, self.edges[b].side);
                    self.edges[a].side = side_b;
                    self.edges[b].side = side_a;
                }
            }
            _ => {}
        }
    }

    fn trade_paths(&mut self, a: usize, b: usize) {
        let (old_a, old_b) = ((self.edges[a].side, self.edges[a].output), (self.edges[b].side, self.edges[b].output));
        (self.edges[a].side, self.edges[a].output) = old_b;
        (self.edges[b].side, self.edges[b].output) = old_a;
    }

    // Crossings inside a scanbeam.

    /// Lists the pairs of edges that change places below `row`, in the order of a bubble sort by rounded column.
    fn find_crossings(&mut self, row: i64) {
        self.order.clear();
        let mut next = self.edges.first;
        while let Some(index) = next {
            let active = &mut self.edges[index];
            active.at.x = column(&active.edge, row);
            self.order.push(index);
            next = active.right;
        }
        let mut unsorted = self.order.len();
        let mut changed = true;
        while changed && unsorted > 1 {
            changed = false;
            for k in 1..unsorted {
                let (left, right) = (self.order[k - 1], self.order[k]);
                if self.edges[left].at.x > self.edges[right].at.x {
                    let at = crossing(&self.edges[left].edge, &self.edges[right].edge, self.edges[left].at.y, row);
                    self.crossings.push(Crossing { left, right, at });
                    self.order.swap(k - 1, k);
                    changed = true;
                }
            }
            unsorted -= 1;
        }
    }

    /// Sorts the crossings from below, then moves them so that each one is between neighbours.
    fn order_crossings(&mut self) -> Result<(), Abandoned> {
        self.order.clear();
        let mut next = self.edges.first;
        while let Some(index) = next {
            self.order.push(index);
            next = self.edges[index].right;
        }
        self.crossings.sort_by_key(|crossing| -crossing.at.y);
        self.places.resize(self.edges.all().count(), 0);
        for (place, &index) in self.order.iter().enumerate() {
            self.places[index] = place;
        }
        for k in 0..self.crossings.len() {
            let adjacent = |crossing: &Crossing| self.places[crossing.left].abs_diff(self.places[crossing.right]) == 1;
            let found = self.crossings[k..].iter().position(adjacent).ok_or(Abandoned)?;
            self.crossings.swap(k, k + found);
            let Crossing { left, right, .. } = self.crossings[k];
            self.places.swap(left, right);
        }
        Ok(())
    }

    // Visited rows.

    /// Ends, bends and continues edges at the upper end of a scanbeam.
    fn reach(&mut self, row: i64) -> Result<(), Abandoned> {
        let mut next = self.edges.first;
        while let Some(index) = next {
            let edge = &self.edges[index].edge;
            let ends = edge.top.y == row;
            let partner_is_flat =
                || self.edges.listed_partner(index).is_some_and(|p| self.edges[p].edge.slope == HORIZONTAL);
            if ends && edge.above.is_none() && !partner_is_flat() {
                let before = self.edges[index].left;
                self.close(index)?;
                next = match before {
                    Some(before) => self.edges[before].right,
                    None => self.edges.first,
                };
                continue;
            }
            let flat_above = edge.above.is_some_and(|above| self.edges[above].edge.slope == HORIZONTAL);
            let current = if ends && flat_above {
                let flat = self.edges.climb(index);
                if self.edges[flat].output.is_some() {
                    self.emit(flat, self.edges[flat].edge.bottom);
                }
                self.horizontals.push(flat);
                flat
            } else {
                let x = column(edge, row);
                self.edges[index].at = Point { x, y: row };
                index
            };
            next = self.edges[current].right;
        }
        self.cross_horizontals();
        let mut next = self.edges.first;
        while let Some(mut index) = next {
            if self.edges[index].edge.top.y == row && self.edges[index].edge.above.is_some() {
                let contributes = self.edges[index].output.is_some();
                if contributes {
                    self.emit(index, self.edges[index].edge.top);
                }
                index = self.edges.climb(index);
                if contributes {
                    self.touch_neighbours(index, false);
                }
            }
            next = self.edges[index].right;
        }
        Ok(())
    }

    /// Gives a vertex to the neighbour that continues exactly along an edge just begun; the left one has precedence.
    /// The neighbour's direction counts from its rounded place on this row, or as a whole.
    fn touch_neighbours(&mut self, index: usize, whole: bool) {
        let new = &self.edges[index];
        let bottom = new.edge.bottom;
        let along = |other: &usize| {
            let old = &self.edges[*other];
            let from = if whole { old.edge.bottom } else { old.at };
            old.at == bottom
                && old.output.is_some()
                && old.at.y > old.edge.top.y
                && parallel(bottom, new.edge.top, from, old.edge.top)
        };
        if let Some(other) = new.left.filter(along).or(new.right.filter(along)) {
            self.emit(other, bottom);
        }
    }

    /// Ends an edge in its local maximum.
    fn close(&mut self, index: usize) -> Result<(), Abandoned> {
        let top = self.edges[index].edge.top;
        let Some(partner) = self.edges.listed_partner(index) else {
            if self.edges[index].output.is_some() {
                self.emit(index, top);
            }
            self.edges.unlist(index);
            return Ok(());
        };
        while let Some(between) = self.edges[index].right.filter(|&right| right != partner) {
            self.intersect(index, between, top);
            self.edges.swap(index, between);
        }
        match (self.edges[index].output.is_some(), self.edges[partner].output.is_some()) {
            (true, true) => self.end_path(index, partner, top),
            (false, false) => {}
            _ => return Err(Abandoned),
        }
        self.edges.unlist(index);
        self.edges.unlist(partner);
        Ok(())
    }

    fn cross_horizontals(&mut self) {
        while let Some(index) = self.horizontals.pop() {
            self.cross_horizontal(index);
        }
    }

    /// Moves a horizontal edge across all edges it passes on the current row.
    fn cross_horizontal(&mut self, index: usize) {
        let edge = self.edges[index].edge.clone();
        let rightwards = edge.bottom.x < edge.top.x;
        let step = |active: &Active| if rightwards { active.right } else { active.left };
        let mut next = step(&self.edges[index]);
        while let Some(other) = next {
            let at = self.edges[other].at;
            let passed = if rightwards { at.x > edge.top.x } else { at.x < edge.top.x };
            let parts = edge.above.is_some_and(|above| self.edges[other].edge.slope < self.edges[above].edge.slope);
            if passed || (at.x == edge.top.x && parts) {
                break;
            }
            let contributes = self.edges[index].output.is_some();
            if contributes {
                self.emit(index, at);
            }
            if edge.above.is_none() && edge.partner == Some(other) {
                if contributes {
                    self.end_path(index, other, edge.top);
                }
                self.edges.unlist(index);
                self.edges.unlist(other);
                return;
            }
            let point = Point { x: at.x, y: self.edges[index].at.y };
            if rightwards {
                self.intersect(index, other, point);
            } else {
                self.intersect(other, index, point);
            }
            next = step(&self.edges[other]);
            self.edges.swap(index, other);
        }
        let contributes = self.edges[index].output.is_some();
        if contributes {
            self.emit(index, edge.top);
        }
        if edge.above.is_none() {
            self.edges.unlist(index);
            return;
        }
        let above = self.edges.climb(index);
        if contributes {
            self.touch_neighbours(above, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn boxes_share_their_common_part() {
        let square = |y: i32, x: i32, side: i32| {
            IntegerPolygon::new(&[[y, x], [y, x + side], [y + side, x + side], [y + side, x]])
        };
        let mut overlap = Overlap::default();
        assert_eq!(overlap.area(&square(0, 0, 10), &square(4, 7, 10)), 18.0);
        assert_eq!(overlap.area(&square(0, 0, 10), &square(0, 0, 10)), 100.0);
        assert_eq!(overlap.area(&square(0, 0, 10), &square(-5, 2, 3)), 0.0);
        assert_eq!(overlap.area(&square(-20, -20, 50), &square(2, 3, 7)), 49.0);
        assert_eq!(overlap.area(&square(0, 0, 10), &square(10, 0, 10)), 0.0);
        assert_eq!(overlap.area(&square(0, 0, 10), &IntegerPolygon::new(&[])), 0.0);
    }

    #[test]
    fn two_separate_parts_are_added() {
        let comb = [[0, 0], [0, 10], [10, 10], [10, 8], [2, 8], [2, 2], [10, 2], [10, 0]];
        let bar = [[5, -5], [5, 15], [7, 15], [7, -5]];
        assert_eq!(Overlap::default().area(&IntegerPolygon::new(&comb), &IntegerPolygon::new(&bar)), 8.0);
    }

    #[test]
    fn tangled_outlines_end() {
        let mut random = Random::new(2, 0);
        let mut overlap = Overlap::default();
        for round in 0..40 {
            let span = [3.0, 40.0, 1e7][round % 3];
            let mut tangle = || -> Vec<[i32; 2]> {
                (0..200).map(|_| [0; 2].map(|_: i32| random.uniform(-span, span) as i32)).collect()
            };
            let (a, b) = (IntegerPolygon::new(&tangle()), IntegerPolygon::new(&tangle()));
            assert!(overlap.area(&a, &b).is_finite());
        }
    }
}
