//! Memory that runs out while models train and predict and while files are read and written: whichever large buffer is refused by
//! the system, the work ends with an error of the kind `Limit`, and the process goes on.
//!
//! In each attempt one large allocation fails, or all from one on. The attempts at one kind of work follow each other in one process;
//! an attempt that ends it is told, and the next process goes on behind it. Small allocations are not refused: they end any program in
//! Rust.
//!
//! And memory that is not needed: the peak of conversions of models.
//!
//! | variable | meaning |
//! |---|---|
//! | `CELLSPARSE_SCARCE_ALL` | every allocation of each kind of work, instead of some of them |
//! | `CELLSPARSE_SCARCE_BYTES` | size from which an allocation is large |
//! | `CELLSPARSE_SCARCE_ONLY` | kinds of work whose name contains the text |
//! | `CELLSPARSE_SCARCE_WORK`, `_FROM`, `_TRACE` | with the test `attempts_in_a_process_of_its_own`: one kind, from that attempt on, and where its first refusal comes from |

mod conversions;
mod work;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::process::{Command, Output};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cellsparse_core::ErrorKind;

/// Size from which an allocation is large, more than 1 MiB: the promise.
const LARGE: usize = (1 << 20) + 1;

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

/// Numbers to try of so many: all, or the first ones, ever fewer of the rest, and the last one.
fn chosen(count: usize) -> Vec<usize> {
    if std::env::var_os("CELLSPARSE_SCARCE_ALL").is_some() {
        return (1..=count).collect();
    }
    let mut numbers = Vec::new();
    let mut next = 1;
    while next <= count {
        numbers.push(next);
        next = 2 * next + 1;
    }
    numbers.extend(numbers.last().filter(|last| **last < count).map(|_| count));
    numbers
}

/// Does the work while the allocations of those numbers are refused; how many large ones there were, and what came of it.
fn refusing([first, last]: [usize; 2], work: &work::Work) -> (usize, String) {
    FIRST.store(first, Ordering::Relaxed);
    LAST.store(last, Ordering::Relaxed);
    COUNT.store(0, Ordering::Relaxed);
    LARGE_FROM.store(number("CELLSPARSE_SCARCE_BYTES").unwrap_or(LARGE), Ordering::Relaxed);
    let outcome = work();
    LARGE_FROM.store(usize::MAX, Ordering::Relaxed);
    let said = match outcome {
        Ok(()) => "done".to_owned(),
        Err(error) if error.kind() == ErrorKind::Limit => format!("refused: {}", error.message()),
        Err(other) => format!("another error: {other}"),
    };
    (COUNT.load(Ordering::Relaxed), said)
}

/// The attempts at one kind of work one after the other, from the one with the given number on; does nothing unless it was begun by
/// [`attempts_from`].
#[test]
fn attempts_in_a_process_of_its_own() {
    let Ok(name) = std::env::var("CELLSPARSE_SCARCE_WORK") else { return };
    // One thread for all attempts, which keeps the work space of its convolutions.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| attempts(&name));
}

fn attempts(name: &str) {
    let (_, prepare) = *work::ALL.iter().find(|(other, _)| *other == name).expect("a kind of work");
    let work = prepare();
    let (count, said) = refusing([usize::MAX; 2], &work);
    println!("\n{count} large allocations: {said}");
    TRACE.store(std::env::var_os("CELLSPARSE_SCARCE_TRACE").is_some(), Ordering::Relaxed);
    let attempts = chosen(count).into_iter().flat_map(|first| [[first, first], [first, usize::MAX]]);
    for (index, attempt) in attempts.enumerate().skip(number("CELLSPARSE_SCARCE_FROM").unwrap_or(0)) {
        let all = if attempt[1] == usize::MAX { " and all after it" } else { "" };
        println!("begun {index}: {}{all}", attempt[0]);
        println!("ended {index}: {}", refusing(attempt, &work).1);
    }
}

fn attempts_from(name: &str, from: usize) -> Output {
    let program = std::env::current_exe().expect("the path of this test");
    let mut command = Command::new(program);
    command.args(["--exact", "attempts_in_a_process_of_its_own", "--nocapture", "--test-threads", "1"]);
    command.env("CELLSPARSE_SCARCE_WORK", name).env("CELLSPARSE_SCARCE_FROM", from.to_string());
    command.env("RUST_BACKTRACE", "0").env("RAYON_NUM_THREADS", "1");
    command.output().expect("the program starts")
}

/// What came of all attempts at one kind of work.
#[derive(Default)]
struct Tally {
    large: usize,
    tried: usize,
    refused: usize,
    bad: Vec<String>,
}

fn tally(name: &str) -> Tally {
    let mut tally = Tally::default();
    let mut from = 0;
    loop {
        let output = attempts_from(name, from);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = text.lines().find_map(|line| line.split_once(" large allocations: "));
        let (count, whole) = told.unwrap_or_else(|| panic!("{name}: {text}"));
        assert_eq!(whole, "done", "{name}");
        tally.large = count.parse().expect("a number");
        let mut open = None;
        for line in text.lines() {
            if let Some(begun) = line.strip_prefix("begun ") {
                tally.tried += 1;
                open = begun.split_once(": ").map(|(index, which)| (index.to_owned(), which.to_owned()));
            } else if let (Some((_, said)), Some((_, which))) =
                (line.strip_prefix("ended ").and_then(|ended| ended.split_once(": ")), open.clone())
            {
                open = None;
                tally.refused += usize::from(said.starts_with("refused: "));
                if said.starts_with("another error") {
                    tally.bad.push(format!("{name}, {which} of {count}: {said}"));
                }
            }
        }
        // The attempt that was open when the process ended is the one that ended it; the next process goes on behind it.
        let Some((index, which)) = open else {
            assert!(output.status.success(), "{name}: {text}");
            return tally;
        };
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        tally.bad.push(format!(
            "{name}, {which} of {count}: {} {}",
            output.status,
            told.lines().last().unwrap_or_default()
        ));
        from = index.parse::<usize>().expect("a number") + 1;
    }
}

#[test]
fn large_buffers_that_are_refused_end_the_work_and_not_the_process() {
    let only = std::env::var("CELLSPARSE_SCARCE_ONLY").unwrap_or_default();
    let kinds: Vec<&str> = work::ALL.iter().map(|(name, _)| *name).filter(|name| name.contains(&only)).collect();
    // Two at a time: machines have two cores at least.
    let next = AtomicUsize::new(0);
    let all: Vec<(&str, Tally)> = thread::scope(|scope| {
        let run = || {
            let one = || kinds.get(next.fetch_add(1, Ordering::Relaxed)).map(|name| (*name, tally(name)));
            std::iter::from_fn(one).collect::<Vec<_>>()
        };
        [scope.spawn(run), scope.spawn(run)].into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let (mut tried, mut refused, mut bad) = (0, 0, Vec::new());
    for (name, tally) in all {
        eprintln!("{name}: {} large allocations, {} attempts, {} refused", tally.large, tally.tried, tally.refused);
        assert!(tally.large > 0 && (tally.refused > 0 || !tally.bad.is_empty()), "{name}: nothing was refused");
        tried += tally.tried;
        refused += tally.refused;
        bad.extend(tally.bad);
    }
    eprintln!("{tried} attempts, {refused} refused, {} that ended otherwise", bad.len());
    assert!(bad.is_empty(), "{} of {tried}:\n{}", bad.len(), bad.join("\n"));
}
