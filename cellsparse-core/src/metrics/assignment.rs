//! The best assignment of true to predicted objects.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A true object (row) and a predicted one (column) that share pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pair {
    /// Place of the true object.
    pub row: usize,
    /// Place of the predicted object.
    pub column: usize,
    /// Their score in 0..1.
    pub score: f32,
}

/// Pairs in which every row and every column occurs at most once, with the largest possible sum of
/// `[score >= thresh] + score / (2 * min(rows, columns))`: as many pairs as possible that reach the threshold, then as
/// large a sum of scores as possible. `pairs` is sorted by row; the result is, too.
///
/// Pairs that are not listed have weight 0, so the result is that of the Hungarian method on the full matrix without its
/// worthless pairs. Each row is added by a shortest augmenting path over the listed pairs only (Jonker and Volgenant,
/// Computing 38, 1987, with Dijkstra's search); the work stays within the objects that overlap each other.
pub(super) fn assign(pairs: &[Pair], rows: usize, columns: usize, thresh: f64) -> Vec<Pair> {
    let tie_breaker = 2.0 * rows.min(columns).max(1) as f32;
    let weight = |pair: &Pair| {
        let reached = if pair.score >= thresh as f32 { 1.0 } else { 0.0 };
        reached + f64::from(pair.score / tie_breaker)
    };
    let mut solver = Solver::new(pairs, pairs.iter().map(|pair| -weight(pair)).collect(), rows, columns);
    for row in 0..rows {
        solver.add(row);
    }
    (0..rows).filter_map(|row| solver.pair_of(row)).collect()
}

/// State of the search. Column `columns + r` belongs to row `r` alone, has cost 0 and stands for "no partner".
struct Solver<'a> {
    pairs: &'a [Pair],
    costs: Vec<f64>,
    /// `pairs[starts[r]..starts[r + 1]]` belong to row `r`.
    starts: Vec<usize>,
    columns: usize,
    row_price: Vec<f64>,
    column_price: Vec<f64>,
    row_of: Vec<Option<usize>>,
    column_of: Vec<Option<usize>>,
    distance: Vec<f64>,
    reached_from: Vec<usize>,
    done: Vec<bool>,
    touched: Vec<usize>,
}

impl<'a> Solver<'a> {
    fn new(pairs: &'a [Pair], costs: Vec<f64>, rows: usize, columns: usize) -> Self {
        let starts: Vec<usize> = (0..=rows).map(|row| pairs.partition_point(|pair| pair.row < row)).collect();
        let cheapest = |row: usize| costs[starts[row]..starts[row + 1]].iter().copied().fold(0.0, f64::min);
        Self {
            pairs,
            columns,
            row_price: (0..rows).map(cheapest).collect(),
            column_price: vec![0.0; columns + rows],
            row_of: vec![None; columns + rows],
            column_of: vec![None; rows],
            distance: vec![f64::INFINITY; columns + rows],
            reached_from: vec![0; columns + rows],
            done: vec![false; columns + rows],
            touched: Vec::new(),
            costs,
            starts,
        }
    }

    /// Gives a row its column, moving other rows where that is cheaper on the whole.
    fn add(&mut self, row: usize) {
        let mut queue = BinaryHeap::new();
        let (mut current, mut length) = (row, 0.0);
        let end = loop {
            self.relax(current, length, &mut queue);
            // Entries of columns that were reached on a shorter way meanwhile are passed over.
            let nearest = std::iter::from_fn(|| queue.pop()).find(|Reverse((_, column))| !self.done[*column]);
            let Some(Reverse((Length(next), column))) = nearest else { return };
            self.done[column] = true;
            match self.row_of[column] {
                None => break column,
                Some(owner) => (current, length) = (owner, next),
            }
        };
        self.reprice(row, self.distance[end]);
        let mut column = end;
        loop {
            let owner = self.reached_from[column];
            let previous = self.column_of[owner].replace(column);
            self.row_of[column] = Some(owner);
            match previous {
                Some(previous) if owner != row => column = previous,
                _ => break,
            }
        }
        for column in self.touched.drain(..) {
            self.distance[column] = f64::INFINITY;
            self.done[column] = false;
        }
    }

    fn relax(&mut self, row: usize, length: f64, queue: &mut BinaryHeap<Reverse<(Length, usize)>>) {
        let listed = (self.starts[row]..self.starts[row + 1]).map(|k| (self.pairs[k].column, self.costs[k]));
        for (column, cost) in listed.chain([(self.columns + row, 0.0)]) {
            let through = length + cost - self.row_price[row] - self.column_price[column];
            if !self.done[column] && through < self.distance[column] {
                if self.distance[column] == f64::INFINITY {
                    self.touched.push(column);
                }
                self.distance[column] = through;
                self.reached_from[column] = row;
                queue.push(Reverse((Length(through), column)));
            }
        }
    }

    /// Keeps all reduced costs at 0 or above after a search that ended at distance `end`.
    fn reprice(&mut self, row: usize, end: f64) {
        self.row_price[row] += end;
        for &column in self.touched.iter().filter(|&&column| self.done[column]) {
            let gain = end - self.distance[column];
            if let Some(owner) = self.row_of[column] {
                self.row_price[owner] += gain;
            }
            self.column_price[column] -= gain;
        }
    }

    fn pair_of(&self, row: usize) -> Option<Pair> {
        let column = self.column_of[row]?;
        self.pairs[self.starts[row]..self.starts[row + 1]].iter().find(|pair| pair.column == column).copied()
    }
}

/// A path length, ordered as a number.
#[derive(PartialEq)]
struct Length(f64);

impl Eq for Length {}

impl PartialOrd for Length {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Length {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The largest sum by trying every column, and none, for every row.
    fn best_sum(weights: &[Vec<f64>], row: usize, used: &mut Vec<bool>) -> f64 {
        let Some(options) = weights.get(row) else { return 0.0 };
        let mut best = best_sum(weights, row + 1, used);
        for column in 0..options.len() {
            if options[column] > 0.0 && !used[column] {
                used[column] = true;
                best = best.max(options[column] + best_sum(weights, row + 1, used));
                used[column] = false;
            }
        }
        best
    }

    #[test]
    fn the_assignment_is_the_best_one() {
        let mut random = Random::new(11, 0);
        for _ in 0..400 {
            let (rows, columns) = (1 + random.below(6), 1 + random.below(6));
            let mut pairs = Vec::new();
            let mut weights = vec![vec![0.0; columns]; rows];
            for row in 0..rows {
                for column in 0..columns {
                    if random.chance(0.5) {
                        let score = random.uniform(0.01, 1.0) as f32;
                        pairs.push(Pair { row, column, score });
                        let reached = if score >= 0.4 { 1.0 } else { 0.0 };
                        weights[row][column] = reached + f64::from(score / (2.0 * rows.min(columns) as f32));
                    }
                }
            }
            let found = assign(&pairs, rows, columns, 0.4);
            let sum: f64 = found.iter().map(|pair| weights[pair.row][pair.column]).sum();
            let mut seen: Vec<usize> = found.iter().map(|pair| pair.column).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), found.len());
            let best = best_sum(&weights, 0, &mut vec![false; columns]);
            assert!((sum - best).abs() < 1e-9, "{sum} {best}");
        }
    }

    #[test]
    fn a_long_chain_of_overlaps_is_quick() {
        // Every object overlaps its neighbours, so one augmenting path may pass through all of them.
        let n = 4000;
        let pairs: Vec<Pair> = (0..n)
            .flat_map(|row| [(row, 0.6), (row + 1, 0.61)].map(|(column, score)| Pair { row, column, score }))
            .filter(|pair| pair.column < n)
            .collect();
        let start = std::time::Instant::now();
        assert_eq!(assign(&pairs, n, n, 0.5).len(), n);
        assert!(start.elapsed().as_secs() < 5);
    }
}
