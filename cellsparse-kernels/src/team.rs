//! Threads that stay with one computation of many short parallel loops.
//!
//! A pool's threads that are called for each loop have to come to its end before the caller goes on, also those for which no
//! job was left; and where they find nothing to do they give their core away. When other programs want the cores, such a thread
//! comes back a time slice later, and every loop lasts that long. Here a loop ends when its jobs are done, whoever did them: a
//! thread without a core delays the job that it works on, and no other. A thread without a job waits for a moment without giving
//! its core away, since the next loop usually comes within microseconds, and then sleeps.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// How often a thread looks for work, with a pause of the processor each time, before it sleeps: some 50 microseconds.
const LOOKS: usize = if cfg!(miri) { 2 } else { 1000 };

/// Largest number of jobs of one loop.
const MAX_JOBS: usize = u32::MAX as usize;

/// A job of a loop, by its number.
pub(super) type Job<'a> = dyn Fn(usize) + Sync + 'a;

thread_local! {
    /// The team that the running computation leads, if any.
    static LED: Cell<*const Team> = const { Cell::new(ptr::null()) };
    /// Whether the thread runs a job, in which loops are made by the thread alone.
    static WORKING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `computation` on this thread with all threads of the current rayon pool at hand for
/// [`for_each_job`](super::for_each_job). Outside of a pool, in a pool of one thread, and within a team, it is only called.
///
/// Other parallel work of rayon within the computation is correct, but made by this thread alone.
pub fn with_team<R>(computation: impl FnOnce() -> R) -> R {
    let leader = rayon::current_thread_index();
    if leader.is_none() || rayon::current_num_threads() == 1 || !LED.get().is_null() || WORKING.get() {
        return computation();
    }
    let team = Team::new();
    rayon::in_place_scope(|scope| {
        let team = &team;
        // A leader that waits for other work of rayon may come across its own call here.
        scope.spawn_broadcast(move |_, context| {
            if Some(context.index()) != leader {
                team.serve();
            }
        });
        let _lead = Lead::take(team);
        computation()
    })
}

/// What was asked of [`run`].
pub(super) enum Asked {
    /// All jobs are done.
    Done,
    /// There is no team to do them.
    NoTeam,
}

/// Runs `job(0)`, ..., `job(count - 1)` with the team of the running computation.
pub(super) fn run(count: usize, job: &Job<'_>) -> Asked {
    if WORKING.get() {
        // The team is busy with the loop that this job belongs to.
        (0..count).for_each(job);
        return Asked::Done;
    }
    let team = LED.get();
    if team.is_null() || count > MAX_JOBS {
        return Asked::NoTeam;
    }
    // SAFETY: the pointer is set for the time in which the team lives, on this thread only.
    unsafe { &*team }.run(count, job);
    Asked::Done
}

/// Marks a thread as the leader of a team; at the end, also by a panic, the team is dismissed.
struct Lead<'a>(&'a Team);

impl<'a> Lead<'a> {
    fn take(team: &'a Team) -> Self {
        LED.set(team);
        Self(team)
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        LED.set(ptr::null());
        self.0.dismiss();
    }
}

/// Marks a thread as working on a job.
struct AtWork;

impl AtWork {
    fn begin() -> Self {
        WORKING.set(true);
        Self
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        WORKING.set(false);
    }
}

/// One loop after the other, by a leader and those who serve.
struct Team {
    /// Number of jobs of the loop and, in the lower half, of those that were taken. Only the leader raises the former; it is in
    /// the same word, so that whoever takes a job takes one of the present loop.
    jobs: AtomicU64,
    /// The job of the loop. Written by the leader while all jobs that were taken are done.
    job: UnsafeCell<Option<*const Job<'static>>>,
    /// Jobs of the loop that are done.
    done: AtomicUsize,
    dismissed: AtomicBool,
    /// Threads that sleep for want of jobs.
    asleep: AtomicUsize,
    /// Whether the leader sleeps until the last job is done.
    leader_asleep: AtomicBool,
    /// The first panic of a job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Held while a thread decides to sleep, and while others are woken.
    sleep: Mutex<()>,
    work_came: Condvar,
    work_done: Condvar,
}

// SAFETY: `job` is written by one thread, the leader, and read by threads that took a job, which happens after the writing by the
// release and acquisition of `jobs`, and before the next one by those of `done`. What it points to can be called by all threads.
unsafe impl Sync for Team {}

impl Team {
    fn new() -> Self {
        Self {
            jobs: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            done: AtomicUsize::new(0),
            dismissed: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            leader_asleep: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleep: Mutex::new(()),
            work_came: Condvar::new(),
            work_done: Condvar::new(),
        }
    }

    /// The leader's part: hands out the jobs, works with the others, and returns when all are done.
    fn run(&self, count: usize, job: &Job<'_>) {
        // SAFETY: the lifetime is only left out of the type. The pointer is followed for jobs that were taken, and this function
        // does not return, nor unwind, before all of them are done.
        let job = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(ptr::from_ref(job)) };
        // SAFETY: no job is taken, so nobody reads this.
        unsafe { *self.job.get() = Some(job) };
        self.done.store(0, Ordering::Relaxed);
        self.jobs.store((count as u64) << 32, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            let _held = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.work_came.notify_all();
        }
        while self.work_on_one() {}
        self.wait_until_done(count);
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn wait_until_done(&self, count: usize) {
        for _ in 0..LOOKS {
            if self.done.load(Ordering::Acquire) == count {
                return;
            }
            std::hint::spin_loop();
        }
        let mut held = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.leader_asleep.store(true, Ordering::SeqCst);
        while self.done.load(Ordering::SeqCst) != count {
            held = self.work_done.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        self.leader_asleep.store(false, Ordering::SeqCst);
    }

    /// The others' part: works until the team is dismissed.
    fn serve(&self) {
        let mut looks = 0;
        while !self.dismissed.load(Ordering::Acquire) {
            if self.work_on_one() {
                looks = 0;
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                self.wait_for_work();
                looks = 0;
            }
        }
    }

    fn wait_for_work(&self) {
        let mut held = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while self.next_job().is_none() && !self.dismissed.load(Ordering::SeqCst) {
            held = self.work_came.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }

    /// The state of the loop, if it has a job that nobody took.
    fn next_job(&self) -> Option<u64> {
        let jobs = self.jobs.load(Ordering::SeqCst);
        (jobs >> 32 > jobs & u64::from(u32::MAX)).then_some(jobs)
    }

    /// Takes one job and does it, if there is one. Whoever does the last one wakes the leader.
    fn work_on_one(&self) -> bool {
        let jobs = loop {
            let Some(jobs) = self.next_job() else { return false };
            if self.jobs.compare_exchange_weak(jobs, jobs + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break jobs;
            }
        };
        let index = (jobs & u64::from(u32::MAX)) as usize;
        // SAFETY: one of the jobs was taken and is not done, so the leader waits in `run` and the job lives.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
            let _at_work = AtWork::begin();
            if let Some(job) = *self.job.get() {
                (*job)(index);
            }
        }));
        if let Err(panic) = outcome {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        // The leader may go on, and the team come to its end, as soon as all jobs are counted as done: nothing of the loop is
        // touched after that, and the team itself lives until every thread has left `serve`.
        let last = self.done.fetch_add(1, Ordering::SeqCst) + 1 == (jobs >> 32) as usize;
        if last && self.leader_asleep.load(Ordering::SeqCst) {
            let _held = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.work_done.notify_one();
        }
        true
    }

    fn dismiss(&self) {
        self.dismissed.store(true, Ordering::SeqCst);
        let _held = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.work_came.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::for_each_job;
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn each_job_is_done_once() {
        for threads in [2, 3] {
            pool(threads).install(|| {
                with_team(|| {
                    for count in [1, 2, 3, 50] {
                        let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                        for round in 1..=5 {
                            for_each_job(count, |index| {
                                done[index].fetch_add(1, Ordering::Relaxed);
                            });
                            assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == round));
                        }
                    }
                });
            });
        }
    }

    #[test]
    fn loops_within_jobs_and_teams_within_teams_end() {
        let done = AtomicUsize::new(0);
        pool(3).install(|| {
            with_team(|| {
                for_each_job(4, |_| {
                    with_team(|| {
                        for_each_job(5, |_| {
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
                with_team(|| {
                    for_each_job(3, |_| {
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                });
            });
        });
        assert_eq!(done.into_inner(), 4 * 5 + 3);
    }

    #[test]
    fn threads_that_slept_come_back() {
        pool(3).install(|| {
            with_team(|| {
                for _ in 0..3 {
                    if !cfg!(miri) {
                        std::thread::sleep(std::time::Duration::from_millis(3));
                    }
                    let seen = AtomicUsize::new(0);
                    for_each_job(6, |_| {
                        std::thread::yield_now();
                        seen.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(seen.into_inner(), 6);
                }
            });
        });
    }

    #[test]
    fn several_teams_share_a_pool() {
        let pool = pool(3);
        let total = AtomicUsize::new(0);
        pool.scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|_| {
                    with_team(|| {
                        for _ in 0..20 {
                            for_each_job(4, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 6 * 20 * 4);
    }

    #[test]
    fn a_panic_of_a_job_reaches_the_caller_and_the_pool_lives() {
        let pool = pool(2);
        let done = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.install(|| {
                with_team(|| {
                    for_each_job(8, |index| {
                        done.fetch_add(1, Ordering::Relaxed);
                        assert!(index != 5, "job five");
                    });
                });
            });
        }));
        let panic = outcome.unwrap_err();
        assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("job five")));
        assert_eq!(done.into_inner(), 8);
        let after = AtomicUsize::new(0);
        pool.install(|| {
            with_team(|| {
                for_each_job(8, |_| {
                    after.fetch_add(1, Ordering::Relaxed);
                });
            });
        });
        assert_eq!(after.into_inner(), 8);
    }
}
