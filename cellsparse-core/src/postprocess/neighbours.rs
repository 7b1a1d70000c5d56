//! Finding, among many boxes, those that meet a given one.

use rayon::prelude::*;

use crate::budget::{gathered, pushed};
use crate::error::Result;

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

    /// The area that the boxes share, in square pixels between the centres of their outermost pixels.
    pub fn shared(&self, other: &Self) -> f64 {
        let along = |a: [i32; 2], b: [i32; 2]| (i64::from(a[1].min(b[1])) - i64::from(a[0].max(b[0]))).max(0) as f64;
        along(self.y, other.y) * along(self.x, other.x)
    }

    /// The longer side, in pixels.
    fn side(&self) -> i64 {
        (i64::from(self.y[1]) - i64::from(self.y[0])).max(i64::from(self.x[1]) - i64::from(self.x[0]))
    }
}

/// The lower corners of the boxes, sorted, by classes of size.
///
/// A class holds the boxes whose longer side has the same number of binary digits, so that a search never has to allow for
/// boxes that are much larger than those it can find. Within a class, corners are sorted into strips of equal number from top
/// to bottom, and from left to right within a strip: a search costs two bisections for each of the strips that it crosses,
/// which are at most the square root of the number of boxes however these lie, and what it finds.
pub(super) struct Neighbours(Vec<SizeClass>);

struct SizeClass {
    /// Longest side of a box of the class.
    reach: i64,
    strips: Vec<Strip>,
    /// Columns of the corners and numbers of the boxes, strip after strip.
    columns: Vec<i32>,
    members: Vec<u32>,
}

struct Strip {
    /// First and last row of its corners.
    rows: [i32; 2],
    /// The first of its members and the one after the last.
    members: [usize; 2],
}

const WHAT: &str = "the neighbours of object candidates";

impl Neighbours {
    /// Sorts the boxes.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory.
    pub fn new(boxes: &[Bounds]) -> Result<Self> {
        let mut classes: Vec<Vec<u32>> = vec![Vec::new(); 64];
        for (index, bounds) in (0..).zip(boxes) {
            let class = &mut classes[(i64::BITS - bounds.side().max(0).leading_zeros()) as usize];
            pushed(class, index, WHAT)?;
        }
        let classes = classes.into_iter().filter(|class| !class.is_empty());
        Ok(Self(classes.map(|class| SizeClass::new(boxes, class)).collect::<Result<_>>()?))
    }

    /// Calls `visit` for every box that may meet `bounds` (and some that do not), each once, in no particular order.
    pub fn visit(&self, bounds: &Bounds, mut visit: impl FnMut(usize)) {
        for class in &self.0 {
            class.visit(bounds, &mut visit);
        }
    }
}

impl SizeClass {
    fn new(boxes: &[Bounds], mut members: Vec<u32>) -> Result<Self> {
        let corner = |index: &u32| {
            let bounds = &boxes[*index as usize];
            (bounds.y[0], bounds.x[0], *index)
        };
        members.par_sort_unstable_by_key(corner);
        let len = (members.len() as f64).sqrt().ceil() as usize;
        let rows = |strip: &[u32]| [corner(&strip[0]).0, corner(&strip[strip.len() - 1]).0];
        let begins = (0..members.len()).step_by(len);
        let strips = members.chunks(len).zip(begins);
        let strips = strips.map(|(strip, begin)| Strip { rows: rows(strip), members: [begin, begin + strip.len()] });
        let strips = strips.collect();
        members.par_chunks_mut(len).for_each(|strip| strip.sort_unstable_by_key(|index| (corner(index).1, *index)));
        let reach = members.iter().map(|index| boxes[*index as usize].side()).max().unwrap_or(0);
        let columns = gathered(members.len(), members.iter().map(|index| corner(index).1), WHAT)?;
        Ok(Self { reach, strips, columns, members })
    }

    fn visit(&self, bounds: &Bounds, visit: &mut impl FnMut(usize)) {
        // The corner of a box that meets the given one lies before its end, and not before its begin by more than a side.
        let [top, left] = [bounds.y[0], bounds.x[0]].map(|begin| i64::from(begin) - self.reach);
        let first = self.strips.partition_point(|strip| i64::from(strip.rows[1]) < top);
        for strip in self.strips[first..].iter().take_while(|strip| strip.rows[0] <= bounds.y[1]) {
            let [begin, end] = strip.members;
            let columns = &self.columns[begin..end];
            let from = columns.partition_point(|column| i64::from(*column) < left);
            let to = from + columns[from..].partition_point(|column| *column <= bounds.x[1]);
            self.members[begin + from..begin + to].iter().for_each(|&index| visit(index as usize));
        }
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
            let grid = Neighbours::new(&boxes).unwrap();
            for one in &boxes {
                let mut seen = vec![0; boxes.len()];
                grid.visit(one, |index| seen[index] += 1);
                for (other, &count) in boxes.iter().zip(&seen) {
                    assert!(count <= 1);
                    assert!(count == 1 || !one.meets(other));
                }
            }
        }
        Neighbours::new(&[]).unwrap().visit(&Bounds::around(&[[1, 1]]), |_| panic!("nothing is there"));
    }

    #[test]
    fn boxes_share_their_common_part() {
        let bounds = |y, x| Bounds { y, x };
        assert_eq!(bounds([0, 10], [0, 10]).shared(&bounds([4, 30], [7, 9])), 12.0);
        assert_eq!(bounds([0, 10], [0, 10]).shared(&bounds([10, 30], [0, 10])), 0.0);
        assert_eq!(bounds([0, 10], [0, 10]).shared(&bounds([20, 30], [-9, -1])), 0.0);
        let all = bounds([i32::MIN, i32::MAX], [i32::MIN, i32::MAX]);
        assert_eq!(all.shared(&all), f64::from(u32::MAX).powi(2));
    }

    /// Boxes visited when every one of them looks for those it meets.
    fn visited(boxes: &[Bounds]) -> usize {
        let grid = Neighbours::new(boxes).unwrap();
        let mut count = 0;
        boxes.iter().for_each(|bounds| grid.visit(bounds, |_| count += 1));
        count
    }

    #[test]
    fn boxes_of_very_different_sizes_do_not_visit_each_other() {
        let mut random = Random::new(4, 0);
        let mut scattered = |count: usize, side: i32| -> Vec<Bounds> {
            let mut one = || {
                let [y, x] = [0; 2].map(|_: i32| random.uniform(0.0, 20_000.0) as i32);
                Bounds { y: [y, y + side], x: [x, x + side] }
            };
            (0..count).map(|_| one()).collect()
        };
        for (tiny, large) in [(100_001, 99_999), (20_001, 19_999), (1000, 199_000), (199_000, 1000)] {
            let boxes = [scattered(tiny, 1), scattered(large, 40)].concat();
            // Each box meets fewer than 4 others on average, and the strips of corners are 20,000 / sqrt(n) pixels high.
            let visits = visited(&boxes);
            assert!(visits < 60 * boxes.len(), "{tiny} and {large}: {visits}");
        }
        // Sizes that differ by factors of two: one class each.
        let sizes: Vec<Bounds> = (0..14).flat_map(|power| scattered(2000 >> (power / 2), 1 << power)).collect();
        let meetings: usize = sizes.iter().map(|one| sizes.iter().filter(|other| one.meets(other)).count()).sum();
        assert!(visited(&sizes) < 4 * meetings + 60 * sizes.len(), "{} for {meetings}", visited(&sizes));
    }

    #[test]
    fn bounds_at_the_ends_of_the_numbers_are_found() {
        let ends = [i32::MIN, -1, 0, 1, i32::MAX];
        let mut boxes = Vec::new();
        for (first, last) in ends.iter().flat_map(|first| ends.iter().map(move |last| (*first, *last))) {
            boxes.push(Bounds { y: [first.min(last), first.max(last)], x: [first.min(last), last.max(first)] });
        }
        boxes.push(Bounds::around(&[]));
        let grid = Neighbours::new(&boxes).unwrap();
        for one in &boxes {
            let mut seen = vec![0; boxes.len()];
            grid.visit(one, |index| seen[index] += 1);
            assert!(boxes.iter().zip(&seen).all(|(other, &count)| count == 1 || (count == 0 && !one.meets(other))));
        }
    }
}
