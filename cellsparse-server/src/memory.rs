//! Memory that requests share: each takes its part as it needs it, and none waits for more while it holds some.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of the unit in which memory is counted.
const UNIT: usize = 1 << 16;

/// Memory for all requests together.
#[derive(Debug)]
pub struct Memory {
    units: Arc<Semaphore>,
    all: usize,
}

impl Memory {
    /// Memory of that many bytes, at least one unit.
    pub fn new(bytes: usize) -> Self {
        let all = bytes.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { units: Arc::new(Semaphore::new(all)), all }
    }

    /// Whether that many bytes are free now.
    pub fn has(&self, bytes: usize) -> bool {
        bytes.div_ceil(UNIT) <= self.units.available_permits()
    }

    /// Whether that many bytes are free when nothing is in use.
    pub fn could_have(&self, bytes: usize) -> bool {
        bytes.div_ceil(UNIT) <= self.all
    }
}

/// The part of one request, given back when dropped.
#[derive(Debug, Default)]
pub struct Share {
    units: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Grows it to at least that many bytes, and says whether there was room; without, it stays as it was.
    #[must_use]
    pub fn grow_to(&mut self, memory: &Memory, bytes: usize) -> bool {
        let more = bytes.div_ceil(UNIT).saturating_sub(self.units);
        let permit = u32::try_from(more).ok().and_then(|more| memory.units.clone().try_acquire_many_owned(more).ok());
        let Some(permit) = permit else { return false };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        self.units += more;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_while_there_is_room_and_are_given_back() {
        let memory = Memory::new(10 * UNIT);
        let (mut one, mut other) = (Share::default(), Share::default());
        assert!(one.grow_to(&memory, 1) && one.grow_to(&memory, UNIT) && memory.has(9 * UNIT));
        assert!(one.grow_to(&memory, 6 * UNIT) && !memory.has(5 * UNIT));
        assert!(!other.grow_to(&memory, 5 * UNIT) && other.grow_to(&memory, 4 * UNIT) && !memory.has(1));
        assert!(one.grow_to(&memory, 3 * UNIT), "what it has is enough");
        drop(one);
        assert!(memory.has(6 * UNIT) && memory.could_have(10 * UNIT) && !memory.could_have(11 * UNIT));
        assert!(!other.grow_to(&memory, usize::MAX));
    }
}
