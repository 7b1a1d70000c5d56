//! Jobs shared among the threads of the pool that the caller installed.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `job(0)`, ..., `job(count - 1)`, each exactly once, on the threads of the current rayon pool.
///
/// Jobs are taken from a counter one at a time, so a stolen core only delays the job it runs. Which thread runs a job is
/// not determined: jobs must write to places of their own, and reductions are made afterwards in job order.
pub fn for_each_job(count: usize, job: impl Fn(usize) + Sync) {
    if count <= 1 || rayon::current_num_threads() == 1 {
        (0..count).for_each(job);
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
