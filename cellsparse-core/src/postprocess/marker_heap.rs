//! The order in which the binary heap of the reference releases markers of one level.

use std::fmt::Debug;
use std::hint::select_unpredictable;

use cellsparse_kernels::prefetch;

/// Level and age of an item in one number, which orders the items. The age of a marker is 0, so markers of one level
/// are equal.
pub(super) trait Order: Copy + Ord + Debug {
    /// Larger than every item.
    const NONE: Self;

    /// Puts the level above `age_bits` bits of age.
    fn new(level: usize, age: u32, age_bits: u32) -> Self;

    /// Whether none of the bits of `ages` is set.
    fn is_marker(self, ages: Self) -> bool;
}

/// Items of 4 bytes in a line of the cache.
const LINE: usize = 16;

macro_rules! order {
    ($type:ty) => {
        impl Order for $type {
            const NONE: Self = Self::MAX;

            #[inline]
            fn new(level: usize, age: u32, age_bits: u32) -> Self {
                (level as Self) << age_bits | age as Self
            }

            #[inline]
            fn is_marker(self, ages: Self) -> bool {
                self & ages == 0
            }
        }
    };
}
order!(u32);
order!(u64);

/// A binary heap that goes through the motions of the reference's: an item rises while it is strictly smaller than its
/// parent; when the first item leaves, the last one takes its place and sinks, to the left unless the right child is
/// strictly smaller.
///
/// Only comparisons decide where items go, so any numbers of the same order do as well as the reference's levels and
/// ages. Small ones keep the heap, which is read all over, in the cache.
pub(super) struct MarkerHeap<O> {
    /// The children of node `n` are `2n` and `2n + 1`, the first is 1. The length is a power of two; nodes without an
    /// item hold [`Order::NONE`].
    orders: Vec<O>,
    /// The pixels of markers, at the same nodes. Nothing is kept for other items.
    places: Vec<u32>,
    len: usize,
    /// The bits of an item that hold its age.
    ages: O,
    /// Items were lost for want of memory: what is left means nothing.
    short: bool,
}

impl<O: Order> MarkerHeap<O> {
    pub(super) fn new(age_bits: u32) -> Self {
        Self {
            orders: vec![O::NONE; 2],
            places: vec![0; 2],
            len: 0,
            ages: O::new(0, u32::MAX >> (u32::BITS - age_bits), age_bits),
            short: false,
        }
    }

    /// Adds an item, which is a marker at the pixel `place` if its age is 0.
    #[inline]
    pub(super) fn push(&mut self, item: O, place: u32) {
        if self.len + 1 == self.orders.len() && !self.grow() {
            return;
        }
        self.len += 1;
        self.rise(self.len, item, place, |parent| parent <= item);
    }

    /// Makes room for twice as many items; whether there is memory.
    #[cold]
    fn grow(&mut self) -> bool {
        let more = self.orders.len();
        self.short |= self.orders.try_reserve(more).is_err() || self.places.try_reserve(more).is_err();
        if !self.short {
            self.orders.resize(2 * more, O::NONE);
            self.places.resize(2 * more, 0);
        }
        !self.short
    }

    /// Whether items were lost for want of memory.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// Removes the first item. If it is a marker, the result is its pixel.
    #[inline]
    pub(super) fn pop(&mut self) -> u32 {
        if self.len == 0 {
            return 0;
        }
        let first = self.places[1];
        let (item, place) = (self.orders[self.len], self.places[self.len]);
        self.orders[self.len] = O::NONE;
        self.len -= 1;
        if self.len > 0 {
            let hole = self.sink();
            self.rise(hole, item, place, |parent| parent < item);
        }
        first
    }

    /// Moves the smaller child up, all the way from the first node to the deepest level, and returns the node that is
    /// then free. Where the last item belongs is found from there, since it is seldom far.
    #[inline]
    fn sink(&mut self) -> usize {
        let mut hole = 1;
        let mut levels = self.len.ilog2();
        if levels % 2 == 1 {
            let child = 2 + usize::from(self.right_is_smaller(2));
            self.copy(child, hole);
            hole = child;
            levels -= 1;
        }
        // Two levels at once: the comparisons do not wait for each other. None of them can be predicted.
        while levels > 0 {
            if levels >= 6 {
                // All that may be read two rounds later: a round takes less time than a line from beyond the cache.
                for line in 0..2 {
                    prefetch(&self.orders, 32 * hole + line * LINE);
                }
                for line in 0..4 {
                    prefetch(&self.orders, 64 * hole + line * LINE);
                }
            }
            let is_right = self.right_is_smaller(2 * hole);
            let child = 2 * hole + usize::from(is_right);
            let under_left = 4 * hole + usize::from(self.right_is_smaller(4 * hole));
            let under_right = 4 * hole + 2 + usize::from(self.right_is_smaller(4 * hole + 2));
            let grandchild = select_unpredictable(is_right, under_right, under_left);
            self.copy(child, hole);
            self.copy(grandchild, child);
            hole = grandchild;
            levels -= 2;
        }
        hole
    }

    /// Puts an item into a free node, or above it until `stays` says that it may be the child of a parent.
    #[inline]
    fn rise(&mut self, mut hole: usize, item: O, place: u32, stays: impl Fn(O) -> bool) {
        while hole > 1 && !stays(self.orders[hole / 2]) {
            self.copy(hole / 2, hole);
            hole /= 2;
        }
        self.orders[hole] = item;
        if item.is_marker(self.ages) {
            self.places[hole] = place;
        }
    }

    #[inline]
    fn copy(&mut self, from: usize, to: usize) {
        let item = self.orders[from];
        self.orders[to] = item;
        if item.is_marker(self.ages) {
            self.places[to] = self.places[from];
        }
    }

    /// Whether the item after that of `left` is smaller. The two are read one by one, since they were written so: a
    /// processor hands fresh writes on to reads of the same bytes only.
    #[inline]
    fn right_is_smaller(&self, left: usize) -> bool {
        let pair = &self.orders[left..left + 2];
        pair[1] < pair[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The heap of the reference, word for word: items of level, age and place are swapped.
    #[derive(Default)]
    struct Plain(Vec<(usize, u32, u32)>);

    impl Plain {
        fn smaller(&self, a: usize, b: usize) -> bool {
            (self.0[a].0, self.0[a].1) < (self.0[b].0, self.0[b].1)
        }

        fn push(&mut self, item: (usize, u32, u32)) {
            self.0.push(item);
            let mut at = self.0.len() - 1;
            while at > 0 && self.smaller(at, (at - 1) / 2) {
                self.0.swap(at, (at - 1) / 2);
                at = (at - 1) / 2;
            }
        }

        fn pop(&mut self) -> (usize, u32, u32) {
            let first = self.0.swap_remove(0);
            let mut at = 0;
            loop {
                let mut smallest = at;
                for child in [2 * at + 1, 2 * at + 2] {
                    if child < self.0.len() && self.smaller(child, smallest) {
                        smallest = child;
                    }
                }
                if smallest == at {
                    return first;
                }
                self.0.swap(at, smallest);
                at = smallest;
            }
        }
    }

    fn agrees<O: Order>(age_bits: u32, seed: u64) {
        let mut random = Random::new(seed, 0);
        for levels in [1, 2, 7, 100] {
            let (mut heap, mut plain) = (MarkerHeap::<O>::new(age_bits), Plain::default());
            let mut age = 0;
            // Grows, stays, shrinks; the first items are markers, as many later ones.
            for step in 0..6000 {
                let rising = [0.8, 0.5, 0.2][step / 2000];
                if plain.0.is_empty() || random.chance(rising) {
                    let level = random.below(levels);
                    age += 1;
                    let age = if step < 500 || random.chance(0.3) { 0 } else { age };
                    heap.push(O::new(level, age, age_bits), step as u32);
                    plain.push((level, age, step as u32));
                } else {
                    let (level, age, place) = plain.pop();
                    assert_eq!(heap.orders[1], O::new(level, age, age_bits), "step {step} of {levels} levels");
                    let found = heap.pop();
                    assert!(age > 0 || found == place, "step {step} of {levels} levels: {found}, not {place}");
                }
            }
        }
        let mut heap = MarkerHeap::<O>::new(age_bits);
        assert_eq!(heap.pop(), 0);
    }

    #[test]
    fn markers_leave_in_the_order_of_the_reference() {
        agrees::<u32>(14, 1);
        agrees::<u64>(32, 2);
    }
}
