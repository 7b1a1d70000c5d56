//! How far a run by parts is.

use std::fmt;
use std::time::{Duration, Instant};

use crate::control::Flow;
use crate::error::{Error, Result};

/// One event of a run, sent after every part.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LargeProgress {
    /// What is being done.
    pub phase: Phase,
    /// Parts done, those of a run that this one goes on from included.
    pub done: usize,
    /// Parts in all.
    pub total: usize,
    /// Time since the run began.
    pub elapsed: Duration,
    /// Estimated time until the phase ends.
    pub remaining: Duration,
}

/// What a run does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The network looks at the image; nearly all of the time.
    Network,
    /// Pixels are given to StarDist's objects.
    Objects,
    /// Results are written.
    Output,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Network => "network",
            Phase::Objects => "objects",
            Phase::Output => "output",
        })
    }
}

/// Tells an observer of what is done.
pub(super) struct Teller<'a> {
    observer: &'a mut (dyn FnMut(&LargeProgress) -> Flow + Send),
    begin: Instant,
    phase: Phase,
    phase_begin: Instant,
    /// Parts that were done before this run.
    before: usize,
    done: usize,
    total: usize,
}

impl<'a> Teller<'a> {
    pub fn new(observer: &'a mut (dyn FnMut(&LargeProgress) -> Flow + Send)) -> Self {
        let now = Instant::now();
        Self { observer, begin: now, phase: Phase::Network, phase_begin: now, before: 0, done: 0, total: 0 }
    }

    /// Begins a phase of `total` parts, of which `before` are done.
    pub fn begin(&mut self, phase: Phase, total: usize, before: usize) {
        (self.phase, self.phase_begin) = (phase, Instant::now());
        (self.total, self.before, self.done) = (total, before, before);
    }

    /// Tells that one more part is done.
    pub fn tick(&mut self) -> Result<()> {
        self.done += 1;
        let spent = self.phase_begin.elapsed();
        let each = spent.as_secs_f64() / self.done.saturating_sub(self.before).max(1) as f64;
        let left = each * self.total.saturating_sub(self.done) as f64;
        let event = LargeProgress {
            phase: self.phase,
            done: self.done,
            total: self.total,
            elapsed: self.begin.elapsed(),
            remaining: Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX),
        };
        match (self.observer)(&event) {
            Flow::Continue => Ok(()),
            Flow::Stop => Err(Error::Cancelled),
        }
    }
}
