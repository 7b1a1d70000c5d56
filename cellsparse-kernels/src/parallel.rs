//! Jobs shared among the threads of the pool that the caller installed.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::team::{self, Asked, Job};

thread_local! {
    /// Of the running computation; see [`stopping_when`].
    static STOP: RefCell<Option<Arc<Stop>>> = const { RefCell::new(None) };
}

type Stop = dyn Fn() -> bool + Send + Sync;

/// Runs `job(0)`, ..., `job(count - 1)`, each exactly once, on the threads of the current rayon pool; within
/// [`with_team`](super::with_team) without waiting for threads that have no job, and within [`stopping_when`] fewer of them when it
/// stops.
///
/// Jobs are taken from a counter one at a time, so a stolen core only delays the job it runs. Which thread runs a job is
/// not determined: jobs must write to places of their own, and reductions are made afterwards in job order.
pub fn for_each_job(count: usize, job: impl Fn(usize) + Sync) {
    match STOP.with_borrow(Clone::clone) {
        Some(stop) => share(count, &|index| {
            if !stop() {
                job(index);
            }
        }),
        None => share(count, &job),
    }
}

/// Runs `computation` on this thread. Once `stop` says so, jobs of its loops that have not begun are left out: what it computes is
/// then unfinished and worth nothing, so `stop` must not change its mind, and is to be asked again at the end.
///
/// Within [`with_team`](super::with_team), and not around it: a thread that waits for the end of a team may come across other work.
pub fn stopping_when<R>(stop: impl Fn() -> bool + Send + Sync + 'static, computation: impl FnOnce() -> R) -> R {
    struct Before(Option<Arc<Stop>>);
    impl Drop for Before {
        fn drop(&mut self) {
            STOP.set(self.0.take());
        }
    }
    let _before = Before(STOP.replace(Some(Arc::new(stop))));
    computation()
}

fn share(count: usize, job: &Job<'_>) {
    if count <= 1 || rayon::current_num_threads() == 1 {
        (0..count).for_each(job);
        return;
    }
    if let Asked::Done = team::run(count, job) {
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

#[cfg(test)]
mod tests {
    use super::super::with_team;
    use super::*;

    #[test]
    fn jobs_that_have_not_begun_are_left_out_after_a_stop() {
        const ALL: usize = 1000;
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let count = || {
                let begun = Arc::new(AtomicUsize::new(0));
                let (asked, done) = (Arc::clone(&begun), AtomicUsize::new(0));
                let job = |_: usize| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                };
                stopping_when(move || asked.load(Ordering::SeqCst) >= 5, || for_each_job(ALL, job));
                let stopped = done.swap(0, Ordering::SeqCst);
                for_each_job(ALL, job);
                (stopped, done.into_inner())
            };
            for (stopped, whole) in [pool.install(|| with_team(count)), pool.install(count)] {
                assert!((5..5 + threads).contains(&stopped), "{stopped} jobs with {threads} threads");
                assert_eq!(whole, ALL, "a stop ends with its computation");
            }
        }
    }
}
