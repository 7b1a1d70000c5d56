//! The two priority queues of the watershed.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::{BitXor, Shr};

use crate::budget::try_push;

/// An unsigned integer that orders the pixels of an elevation map.
pub trait Key:
    Copy + Ord + Default + Debug + Send + Sync + Into<u64> + BitXor<Output = Self> + Shr<u32, Output = Self>
{
    /// Number of its bytes.
    const BYTES: usize;

    /// The lowest byte.
    fn low_byte(self) -> u8;

    /// The key that `into` turned into 64 bits.
    fn from_u64(value: u64) -> Self;

    /// The place of the highest byte that is not 0, counted from the lowest; 0 for 0.
    fn highest_byte(self) -> usize;

    /// Something of 32 bits that is equal for equal keys.
    fn folded(self) -> u32;
}

impl Key for u32 {
    const BYTES: usize = 4;

    fn low_byte(self) -> u8 {
        self as u8
    }

    fn from_u64(value: u64) -> Self {
        value as Self
    }

    fn highest_byte(self) -> usize {
        ((31 - (self | 1).leading_zeros()) / 8) as usize
    }

    fn folded(self) -> u32 {
        self
    }
}

impl Key for u64 {
    const BYTES: usize = 8;

    fn low_byte(self) -> u8 {
        self as u8
    }

    fn from_u64(value: u64) -> Self {
        value as Self
    }

    fn highest_byte(self) -> usize {
        ((63 - (self | 1).leading_zeros()) / 8) as usize
    }

    fn folded(self) -> u32 {
        self as u32 ^ ((self >> 32) as u32).rotate_left(16)
    }
}

/// A binary heap of `(key, age, place)` that releases items of equal key and age in the order that its mechanics give:
/// an item rises while it is strictly smaller than its parent; when the first item leaves, the last one takes its place
/// and sinks, to the left unless the right child is strictly smaller.
pub(super) struct LiteralHeap<K> {
    /// Key, age and place packed into one number, which is quick to compare.
    items: Vec<u128>,
    key: PhantomData<K>,
    /// Items were lost for want of memory.
    short: bool,
}

impl<K: Key> LiteralHeap<K> {
    /// An empty heap.
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), key: PhantomData, short: false }
    }

    /// Whether items were lost for want of memory.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    pub(super) fn push(&mut self, key: K, age: u32, place: u32) {
        let item = u128::from(key.into()) << 64 | u128::from(age) << 32 | u128::from(place);
        let mut hole = self.items.len();
        if !try_push(&mut self.items, item) {
            self.short = true;
            return;
        }
        while hole > 0 {
            let parent = (hole - 1) / 2;
            if !smaller(item, self.items[parent]) {
                break;
            }
            self.items[hole] = self.items[parent];
            hole = parent;
        }
        self.items[hole] = item;
    }

    /// Removes the first item, unless its key is above `last`.
    pub(super) fn pop_up_to(&mut self, last: K) -> Option<(K, u32)> {
        let first = *self.items.first().filter(|item| (**item >> 64) as u64 <= last.into())?;
        let item = self.items.pop()?;
        let items = self.items.as_mut_slice();
        if !items.is_empty() {
            let mut hole = 0;
            loop {
                let left = 2 * hole + 1;
                // The smaller child, without a branch: which one it is cannot be predicted.
                let child = match items.get(left..left + 2) {
                    Some(children) => left + usize::from(smaller(children[1], children[0])),
                    None if left < items.len() => left,
                    None => break,
                };
                if !smaller(items[child], item) {
                    break;
                }
                items[hole] = items[child];
                hole = child;
            }
            items[hole] = item;
        }
        Some((K::from_u64((first >> 64) as u64), first as u32))
    }

    /// Keys and places of the rest by ascending key and age.
    pub(super) fn into_sorted(mut self) -> impl Iterator<Item = (K, u32)> {
        self.items.sort_unstable();
        self.items.into_iter().map(|item| (K::from_u64((item >> 64) as u64), item as u32))
    }
}

/// Whether key and age of one item come before those of another; the place does not count.
#[inline]
fn smaller(a: u128, b: u128) -> bool {
    (a >> 32) < (b >> 32)
}

/// A queue for keys that are never below the last one taken out, first in first out among equal keys.
///
/// A radix heap (Ahuja, Mehlhorn, Orlin and Tarjan, "Faster algorithms for the shortest path problem", Journal of the
/// ACM 37, 1990) with one byte a digit: an item lies in the bucket of the highest byte in which its key differs from
/// the current level, and of the value of that byte. Equal keys therefore always share a bucket, and moving a bucket's
/// items down in order keeps their order.
pub(super) struct MonotoneQueue<K> {
    level: K,
    /// `K::BYTES` times 256 buckets.
    buckets: Vec<Vec<(K, u32)>>,
    /// Which of them hold something.
    filled: Vec<[u64; 4]>,
    /// Items were lost for want of memory.
    short: bool,
}

impl<K: Key> MonotoneQueue<K> {
    pub(super) fn new() -> Self {
        Self {
            level: K::default(),
            buckets: (0..K::BYTES * 256).map(|_| Vec::new()).collect(),
            filled: vec![[0; 4]; K::BYTES],
            short: false,
        }
    }

    /// Adds an item whose key is not below the current level.
    #[inline]
    pub(super) fn push(&mut self, key: K, place: u32) {
        let byte = (key ^ self.level).highest_byte();
        let digit = (key >> (8 * byte as u32)).low_byte() as usize;
        self.filled[byte][digit / 64] |= 1 << (digit % 64);
        self.short |= !try_push(&mut self.buckets[byte * 256 + digit], (key, place));
    }

    /// Whether items were lost for want of memory.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// Moves to the lowest level and adds the places of all items of that level to `ready`; `None` when empty.
    pub(super) fn next_level(&mut self, ready: &mut Vec<u32>) -> Option<K> {
        let (byte, digit) = self.filled.iter().enumerate().find_map(|(byte, words)| {
            let word = words.iter().position(|word| *word != 0)?;
            Some((byte, word * 64 + words[word].trailing_zeros() as usize))
        })?;
        self.filled[byte][digit / 64] &= !(1 << (digit % 64));
        let mut items = std::mem::take(&mut self.buckets[byte * 256 + digit]);
        self.level = items.iter().map(|item| item.0).min()?;
        for &(key, place) in &items {
            if key == self.level {
                self.short |= !try_push(ready, place);
            } else {
                self.push(key, place);
            }
        }
        // Small buckets keep their memory for the next items; large ones give it back.
        if items.capacity() <= 1024 {
            items.clear();
            self.buckets[byte * 256 + digit] = items;
        }
        Some(self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_queue_is_stable_and_ascending() {
        let mut random = Random::new(1, 0);
        let mut queue = MonotoneQueue::<u64>::new();
        let mut expected: Vec<(u64, u32)> = Vec::new();
        for place in 0..5000 {
            let key = random.bits() >> (8 * random.below(9).min(7)) & !7;
            queue.push(key, place);
            expected.push((key, place));
        }
        expected.sort_by_key(|item| item.0);
        let mut found = Vec::new();
        let mut ready = Vec::new();
        while let Some(level) = queue.next_level(&mut ready) {
            found.extend(ready.drain(..).map(|place| (level, place)));
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn the_heap_is_ascending_and_can_be_left_half_way() {
        let mut random = Random::new(2, 0);
        let mut heap = LiteralHeap::<u32>::new();
        let mut keys: Vec<u32> = (0..1000).map(|_| random.below(300) as u32).collect();
        for (place, &key) in keys.iter().enumerate() {
            heap.push(key, place as u32, 0);
        }
        keys.sort_unstable();
        let mut found = Vec::new();
        while let Some((key, _)) = heap.pop_up_to(150) {
            found.push(key);
        }
        assert!(found.iter().all(|key| *key <= 150));
        found.extend(heap.into_sorted().map(|item| item.0));
        assert_eq!(found, keys);
    }
}
