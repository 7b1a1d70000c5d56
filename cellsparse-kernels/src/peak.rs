//! What the processor can do at most, for judging the kernels.

use std::hint::black_box;
use std::time::Instant;

use super::multiversion::multiversion;
use super::parallel::for_each_job;
use super::simd::{LANES, Level, Simd};

/// Multiplications and additions per second of all threads of the current pool, measured on fused multiply-adds that stay
/// in registers: the most that any convolution can reach with vectors of that kind.
pub fn multiply_add_peak(level: Level) -> f64 {
    let threads = rayon::current_num_threads();
    let rounds = 2_000_000;
    let begin = Instant::now();
    for_each_job(threads, |_| {
        let mut sink = [0.0f32; LANES];
        // SAFETY: one vector of room; the level is one of this machine.
        unsafe { chains(level, rounds, &mut sink) }
        black_box(sink);
    });
    let operations = 2 * LANES * CHAINS * rounds * threads;
    operations as f64 / begin.elapsed().as_secs_f64()
}

/// Independent sums, enough to hide the latency of an addition.
const CHAINS: usize = 12;

multiversion! {
    fn chains(rounds: usize, sink: &mut [f32; LANES]) = chains_generic;
}

#[inline(always)]
unsafe fn chains_generic<S: Simd>(rounds: usize, sink: &mut [f32; LANES]) {
    // SAFETY: arithmetic, and one vector stored.
    unsafe {
        let factor = S::set(black_box(0.999));
        let term = S::set(black_box(1e-3));
        let mut sums = [term; CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = S::fma(*sum, factor, term);
            }
        }
        let total = sums.into_iter().fold(S::zero(), |total, sum| S::add(total, sum));
        S::store(sink.as_mut_ptr(), total);
    }
}
