//! Memory that runs out while files are read and written: whichever large buffer is refused by the system, the work ends with an
//! error of the kind `Limit`, and the process goes on.
//!
//! Each attempt is a process of its own, in which one large allocation fails, or all from one on. Small ones are not refused: they end
//! any program in Rust.
//!
//! And memory that is not needed: the peak of conversions of models.
//!
//! | variable | meaning |
//! |---|---|
//! | `CELLSPARSE_SCARCE_ALL` | every allocation of each kind of work, instead of some of them |
//! | `CELLSPARSE_SCARCE_BYTES` | size from which an allocation is large |

mod conversions;
mod work;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::process::{Command, Output};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cellsparse_core::Error;

/// Size from which an allocation is large: the promise.
const LARGE: usize = 1 << 20;

/// The system's allocator, which can be told to refuse.
struct Scarce;

static LARGE_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Large allocations so far.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The first that is refused.
static FIRST: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The last that is refused.
static LAST: AtomicUsize = AtomicUsize::new(usize::MAX);
static TRACE: AtomicBool = AtomicBool::new(false);

fn refused(size: usize) -> bool {
    if size < LARGE_FROM.load(Ordering::Relaxed) {
        return false;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let refused = (FIRST.load(Ordering::Relaxed)..=LAST.load(Ordering::Relaxed)).contains(&number);
    if refused && TRACE.swap(false, Ordering::Relaxed) {
        let far = LARGE_FROM.swap(usize::MAX, Ordering::Relaxed);
        eprintln!("refused: {size} bytes, number {number}\n{}", Backtrace::force_capture());
        LARGE_FROM.store(far, Ordering::Relaxed);
    }
    refused
}

// SAFETY: every block is one of the system's allocator, and NULL is an answer that an allocator may give.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of the system's allocator.
        if refused(layout.size()) { ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        if refused(layout.size()) { ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && refused(size) {
            return ptr::null_mut();
        }
        // SAFETY: as above; a block that is not replaced stays as it is.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is one of the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// One attempt; does nothing unless it was begun by [`attempt`].
#[test]
fn attempt_in_a_process_of_its_own() {
    let Ok(name) = std::env::var("CELLSPARSE_SCARCE_WORK") else { return };
    let (_, prepare) = *work::ALL.iter().find(|(other, _)| *other == name).expect("a kind of work");
    let work = prepare();
    FIRST.store(number("CELLSPARSE_SCARCE_FIRST").unwrap_or(usize::MAX), Ordering::Relaxed);
    LAST.store(number("CELLSPARSE_SCARCE_LAST").unwrap_or(usize::MAX), Ordering::Relaxed);
    TRACE.store(std::env::var_os("CELLSPARSE_SCARCE_TRACE").is_some(), Ordering::Relaxed);
    LARGE_FROM.store(number("CELLSPARSE_SCARCE_BYTES").unwrap_or(LARGE), Ordering::Relaxed);
    let outcome = work();
    LARGE_FROM.store(usize::MAX, Ordering::Relaxed);
    let said = match outcome {
        Ok(()) => "done".to_owned(),
        Err(Error::Limit(reason)) => format!("refused: {reason}"),
        Err(other) => format!("another error: {other}"),
    };
    println!("\n{said}\n{} large allocations", COUNT.load(Ordering::Relaxed));
}

fn attempt(name: &str, first: usize, last: usize) -> Output {
    let program = std::env::current_exe().expect("the path of this test");
    let mut command = Command::new(program);
    command.args(["--exact", "attempt_in_a_process_of_its_own", "--nocapture", "--test-threads", "1"]);
    command.env("CELLSPARSE_SCARCE_WORK", name).env("RUST_BACKTRACE", "0").env("RAYON_NUM_THREADS", "1");
    command.env("CELLSPARSE_SCARCE_FIRST", first.to_string()).env("CELLSPARSE_SCARCE_LAST", last.to_string());
    command.output().expect("the program starts")
}

/// Numbers to try of so many: all, or the first ones and ever fewer of the rest.
fn chosen(count: usize) -> Vec<usize> {
    if std::env::var_os("CELLSPARSE_SCARCE_ALL").is_some() {
        return (1..=count).collect();
    }
    let mut numbers = Vec::new();
    let mut next = 1;
    while next <= count {
        numbers.push(next);
        next += 1 + next / 4;
    }
    numbers
}

#[test]
fn large_buffers_that_are_refused_end_the_work_and_not_the_process() {
    let (mut tried, mut ended, mut bad) = (0, 0, Vec::new());
    for (name, _) in work::ALL {
        let whole = attempt(name, usize::MAX, usize::MAX);
        let text = String::from_utf8_lossy(&whole.stdout).into_owned();
        let told = text.lines().find_map(|line| line.strip_suffix(" large allocations"));
        let count: usize = told.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(text.lines().any(|line| line == "done"), "{name}: {text}");
        let attempts: Vec<[usize; 2]> =
            chosen(count).into_iter().flat_map(|first| [[first, first], [first, usize::MAX]]).collect();
        // Two at a time: machines have two cores at least.
        let halves: Vec<_> = thread::scope(|scope| {
            let run = |part: Vec<[usize; 2]>| {
                scope.spawn(move || part.into_iter().map(|[a, b]| ([a, b], attempt(name, a, b))).collect::<Vec<_>>())
            };
            let (one, other) = attempts.split_at(attempts.len() / 2);
            [run(one.to_vec()), run(other.to_vec())].into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        for ([first, last], output) in halves {
            tried += 1;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let refused = text.lines().any(|line| line.starts_with("refused: "));
            ended += usize::from(refused);
            if !output.status.success() || !(refused || text.lines().any(|line| line == "done")) {
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                let told = told.lines().last().unwrap_or_default().to_owned();
                let said = text.lines().find(|line| line.starts_with("another error")).unwrap_or_default().to_owned();
                let all = if last == usize::MAX { " and all after it" } else { "" };
                bad.push(format!("{name}, {first} of {count}{all}: {} {told} {said}", output.status));
            }
        }
        eprintln!("{name}: {count} large allocations");
    }
    eprintln!("{tried} attempts, {ended} refused, {} that ended otherwise", bad.len());
    assert!(bad.is_empty(), "{} of {tried}:\n{}", bad.len(), bad.join("\n"));
}
