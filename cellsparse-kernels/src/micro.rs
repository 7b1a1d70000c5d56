//! The two register-blocked products that every convolution is made of.

use super::simd::{LANES, Simd};

/// `acc[p][q] += sum over i < k of a[p * STRIDE + i] * b[i][q]`, with `b` packed as `[k][Q * 16]`.
///
/// # Safety
/// The instruction set of `S` is available; `a` is valid for `(P - 1) * STRIDE + k` values, `b` for `k * Q * 16`.
#[inline(always)]
pub(super) unsafe fn inner_product<S: Simd, const P: usize, const Q: usize, const STRIDE: usize>(
    acc: &mut [[S::V; Q]; P],
    a: *const f32,
    k: usize,
    b: *const f32,
) {
    // SAFETY: the ranges promised by the caller.
    unsafe {
        for i in 0..k {
            let weights: [S::V; Q] = std::array::from_fn(|q| S::load(b.add((i * Q + q) * LANES)));
            for p in 0..P {
                let value = S::splat(a.add(p * STRIDE + i));
                for q in 0..Q {
                    acc[p][q] = S::fma(value, weights[q], acc[p][q]);
                }
            }
        }
    }
}

/// `sum[p][q] += sum over i < count of a[i * STRIDE + p] * b[q][i]`, with `sum` stored as `[P][row]` values of which
/// `Q * 16` are used, and `b[q]` an array of 16-lane vectors.
///
/// # Safety
/// The instruction set of `S` is available; `sum` is valid for `(P - 1) * row + Q * 16` values, `a` for
/// `(count - 1) * STRIDE + P`, each `b[q]` for `count * 16`.
#[inline(always)]
pub(super) unsafe fn outer_product<S: Simd, const P: usize, const Q: usize, const STRIDE: usize>(
    sum: *mut f32,
    row: usize,
    a: *const f32,
    b: [*const f32; Q],
    count: usize,
) {
    // SAFETY: the ranges promised by the caller.
    unsafe {
        let mut acc: [[S::V; Q]; P] =
            std::array::from_fn(|p| std::array::from_fn(|q| S::load(sum.add(p * row + q * LANES))));
        for i in 0..count {
            let gradients: [S::V; Q] = std::array::from_fn(|q| S::load(b[q].add(i * LANES)));
            for p in 0..P {
                let value = S::splat(a.add(i * STRIDE + p));
                for q in 0..Q {
                    acc[p][q] = S::fma(value, gradients[q], acc[p][q]);
                }
            }
        }
        for p in 0..P {
            for q in 0..Q {
                S::store(sum.add(p * row + q * LANES), acc[p][q]);
            }
        }
    }
}

/// Cuts `0..count` into runs whose length is a constant of the instruction set and runs `body` for each.
///
/// `$p` names the constant length, `$start` the first index of the run.
macro_rules! for_each_run {
    ($simd:ident, $count:expr, |$start:ident, $p:ident| $body:expr) => {{
        let count: usize = $count;
        let mut next = 0;
        $crate::micro::for_each_run!(@run $simd::PIXELS >= 14, 14, count, next, $start, $p, $body);
        $crate::micro::for_each_run!(@run $simd::PIXELS >= 8, 7, count, next, $start, $p, $body);
        $crate::micro::for_each_run!(@run $simd::PIXELS == 6, 6, count, next, $start, $p, $body);
        $crate::micro::for_each_run!(@run $simd::PIXELS >= 4, 4, count, next, $start, $p, $body);
        $crate::micro::for_each_run!(@run true, 2, count, next, $start, $p, $body);
        $crate::micro::for_each_run!(@run true, 1, count, next, $start, $p, $body);
        let _ = next;
    }};
    (@run $when:expr, $len:literal, $count:ident, $next:ident, $start:ident, $p:ident, $body:expr) => {
        if $when {
            const $p: usize = $len;
            while $count - $next >= $p {
                let $start = $next;
                $body;
                $next += $p;
            }
        }
    };
}
pub(super) use for_each_run;
