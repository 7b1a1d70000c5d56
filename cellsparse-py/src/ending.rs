//! The end of the interpreter while other threads are in calls of this package.
//!
//! A thread that wants to go on in an interpreter that ends is taken down by it, through the frames of this library, which aborts the
//! process. So those that compute stay away, and the end waits a moment for those that are in the code of Python: all of them are
//! daemon threads, since the interpreter waits for the others before.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

/// The thread that ends the interpreter, once it does.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// Threads between two computations, which are or may come to be in the code of Python, and the process that has them.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// How long the end waits for code of Python.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hears of the end of the interpreter.
pub fn listen(py: Python<'_>) -> PyResult<()> {
    let ends = |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        let _ = ENDING.set(thread::current().id());
        arguments.py().detach(|| {
            let begun = Instant::now();
            while inside().load(Ordering::SeqCst) > 0 && begun.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(1));
            }
        });
    };
    let ends = PyCFunction::new_closure(py, None, None, ends)?;
    py.import("atexit")?.call_method1("register", (ends,)).map(drop)
}

/// A thread that comes back to the interpreter; it does not return where the interpreter ends, but in the thread that ends it. To be
/// called without the interpreter.
pub fn come_back() -> Inside {
    loop {
        // Counted before it looks, so that the end sees it, or it sees the end.
        let inside = Inside::enter();
        if ENDING.get().is_none_or(|thread| *thread == thread::current().id()) {
            return inside;
        }
        drop(inside);
        thread::park();
    }
}

/// The number of threads inside; those of a parent did not come along with a fork.
fn inside() -> &'static AtomicUsize {
    let process = std::process::id();
    if PROCESS.swap(process, Ordering::SeqCst) != process {
        INSIDE.store(0, Ordering::SeqCst);
    }
    &INSIDE
}

/// A thread that is in the code of Python for as long as this value lives.
pub struct Inside;

impl Inside {
    fn enter() -> Self {
        inside().fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Renamed to `try_update`, which the oldest supported Rust has not.
        #[allow(deprecated)]
        let _ = inside().fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
    }
}
