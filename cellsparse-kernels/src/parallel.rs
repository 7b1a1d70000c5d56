//! Jobs shared among the threads of the pool that the caller installed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::team::{self, Asked};

/// Runs `job(0)`, ..., `job(count - 1)`, each exactly once, on the threads of the current rayon pool; within
/// [`with_team`](super::with_team) without waiting for threads that have no job.
///
/// Jobs are taken from a counter one at a time, so a stolen core only delays the job it runs. Which thread runs a job is
/// not determined: jobs must write to places of their own, and reductions are made afterwards in job order.
pub fn for_each_job(count: usize, job: impl Fn(usize) + Sync) {
    if count <= 1 || rayon::current_num_threads() == 1 {
        (0..count).for_each(job);
        return;
    }
    if let Asked::Done = team::run(count, &job) {
        return;
    }
    let next = AtomicUsize::new(0);
    rayon::broadcast(|_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            job(index);
        }
    });
}

/// Splits `0..total` into `parts` ranges of nearly equal length; part `index` is `range.0..range.1`.
pub(super) fn part(total: usize, parts: usize, index: usize) -> (usize, usize) {
    (total * index / parts, total * (index + 1) / parts)
}

/// Values that parallel jobs write to in places of their own.
pub(super) struct SharedOf<T>(*mut T, usize);

/// A shared buffer of `f32`.
pub(super) type Shared = SharedOf<f32>;

impl<T> Clone for SharedOf<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedOf<T> {}

// SAFETY: an address; each job writes ranges that no other job touches.
unsafe impl<T: Send> Send for SharedOf<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedOf<T> {}

impl<T> SharedOf<T> {
    pub fn new(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr(), values.len())
    }

    /// The address of value `at`.
    pub fn at(self, at: usize) -> *mut T {
        debug_assert!(at <= self.1);
        self.0.wrapping_add(at)
    }

    /// A part of the buffer.
    ///
    /// # Safety
    /// No other job uses that part while the slice lives.
    pub unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a mut [T] {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.1), "range beyond the buffer");
        // SAFETY: within the buffer as asserted; exclusive as promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }
}
