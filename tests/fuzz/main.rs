//! Random input of every kind: what is computed agrees with a slow and plain rule, and no input makes the library panic, hang
//! or take memory without bound.
//!
//! Every input is a pure function of a seed and of its number, so that a find can be repeated: a failure names both.
//!
//! | variable | meaning |
//! |---|---|
//! | `CELLSPARSE_FUZZ_SECONDS` | time for each target; without it a few hundred inputs, always the same |
//! | `CELLSPARSE_FUZZ_SEED` | the seed; with a time and without a seed, the clock |
//! | `CELLSPARSE_FUZZ_INPUT` | the number of the only input to try |

mod files;
mod folders;
mod handles;
mod labels;
mod mutation;
mod objects;
mod readers;
mod requests;
mod written;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cellsparse_core::random::Random;

/// Longest time for one input: nothing that is tried here is large.
const SLOW: Duration = Duration::from_secs(20);

/// Tries a target with one random input after the other: `few` of them, or as many as the time allows. The attempt says whether
/// the input was accepted, or what is wrong.
fn fuzz(target: &str, few: u64, attempt: impl Fn(&mut Random) -> Result<bool, String>) {
    let number = |name: &str| -> Option<f64> { std::env::var(name).ok()?.trim().parse().ok() };
    let seconds = number("CELLSPARSE_FUZZ_SECONDS");
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u32);
    let usual = if seconds.is_some() { u64::from(clock()) } else { 0 };
    let seed = number("CELLSPARSE_FUZZ_SEED").map_or(usual, |seed| seed as u64);
    let only = number("CELLSPARSE_FUZZ_INPUT").map(|input| input as u64);
    let begin = Instant::now();
    let (mut accepted, mut slowest) = (0_u64, (Duration::ZERO, 0));
    let mut input = only.unwrap_or(0);
    loop {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(&mut Random::new(seed, input))));
        let took = began.elapsed();
        let repeat = format!("CELLSPARSE_FUZZ_SEED={seed} CELLSPARSE_FUZZ_INPUT={input}");
        match outcome {
            Ok(Ok(yes)) => accepted += u64::from(yes),
            Ok(Err(reason)) => panic!("{target}: {reason} ({repeat})"),
            Err(_) => panic!("{target}: a panic ({repeat})"),
        }
        assert!(took < SLOW, "{target}: {took:?} ({repeat})");
        slowest = slowest.max((took, input));
        input += 1;
        let over = match seconds {
            Some(seconds) => begin.elapsed().as_secs_f64() >= seconds,
            None => input >= few,
        };
        if over || only.is_some() {
            break;
        }
    }
    let tried = if only.is_some() { 1 } else { input };
    eprintln!(
        "{target}: {tried} inputs in {:.1} s, {accepted} accepted, the slowest {:.0} ms (seed {seed}, input {})",
        begin.elapsed().as_secs_f64(),
        slowest.0.as_secs_f64() * 1e3,
        slowest.1
    );
}
