//! Numbers for the levels of an elevation map that has few of them.

use super::flood_queue::Key;

/// How many levels a table holds.
const MOST_LEVELS: usize = 4096;

/// A power of two, of which at most half is taken.
const SLOTS: usize = 2 * MOST_LEVELS;

/// The number of a slot that holds nothing.
const FREE: u32 = u32::MAX;

/// Finds the number of a level by its key: a hash table with open addressing.
pub(super) struct LevelTable<K> {
    slots: Vec<(K, u32)>,
    len: usize,
}

impl<K: Key> LevelTable<K> {
    pub(super) fn new() -> Self {
        Self { slots: vec![(K::default(), FREE); SLOTS], len: 0 }
    }

    /// Where a key is, or the free slot where it belongs.
    #[inline]
    fn slot(&self, key: K) -> usize {
        // The high bits of the product depend on all bits of the key, of which the low ones are often 0.
        let hash = key.into().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut slot = (hash >> (u64::BITS - SLOTS.ilog2())) as usize;
        while self.slots[slot].1 != FREE && self.slots[slot].0 != key {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    /// Adds a key that may be there already; `None` when there are too many.
    #[inline]
    pub(super) fn insert(&mut self, key: K) -> Option<()> {
        let slot = self.slot(key);
        if self.slots[slot].1 == FREE {
            if self.len == MOST_LEVELS {
                return None;
            }
            self.len += 1;
            self.slots[slot] = (key, 0);
        }
        Some(())
    }

    pub(super) fn merged(mut self, other: &Self) -> Option<Self> {
        for (key, _) in other.slots.iter().filter(|(_, number)| *number != FREE) {
            self.insert(*key)?;
        }
        Some(self)
    }

    /// Numbers the keys in ascending order and returns how many there are.
    pub(super) fn number(&mut self) -> usize {
        let mut keys: Vec<K> = self.slots.iter().filter(|(_, number)| *number != FREE).map(|slot| slot.0).collect();
        keys.sort_unstable();
        for (number, key) in (0..).zip(&keys) {
            let slot = self.slot(*key);
            self.slots[slot].1 = number;
        }
        keys.len()
    }

    /// The number of a key that was added.
    #[inline]
    pub(super) fn level(&self, key: K) -> u32 {
        self.slots[self.slot(key)].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_in_order_up_to_a_limit() {
        // Keys that differ in their high bits only, as whole numbers in floating point do.
        let keys: Vec<u64> = (0..MOST_LEVELS as u64).map(|number| number << 51).collect();
        let mut tables = [LevelTable::new(), LevelTable::new()];
        for (number, key) in keys.iter().enumerate().rev() {
            tables[number % 2].insert(*key).unwrap();
            tables[number % 3 % 2].insert(*key).unwrap();
        }
        let [even, odd] = tables;
        let mut table = even.merged(&odd).unwrap();
        assert!(table.insert(1).is_none());
        table.insert(keys[5]).unwrap();
        assert_eq!(table.number(), MOST_LEVELS);
        assert!((0..).zip(&keys).all(|(number, key)| table.level(*key) == number));
    }
}
