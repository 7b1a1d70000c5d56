//! The two register-blocked products that every convolution is made of.

use super::simd::{LANES, Simd};

/// What lies in the 32 bits of a factor, and how two of them are multiplied.
pub(super) trait Factors {
    /// Values in one factor: along the sum, so that a product of two factors adds as many products to it.
    const VALUES: usize;
    /// Winograd's points of interpolation are 0, this one, the other one, both with the other sign, and infinity. How far rounding puts
    /// results apart depends on them.
    const POINTS: [f32; 2];

    /// Stores a vector whose lanes follow each other in the sum.
    ///
    /// # Safety
    /// The instruction set of `S` is available, and `to` has room for `16 / VALUES` factors.
    unsafe fn store_lanes<S: Simd>(to: *mut f32, v: S::V);

    /// Stores the vector of 16 channels of tile `index`, among those of all tiles from `to` on, as it is summed over `CHANNELS` or over tiles.
    ///
    /// # Safety
    /// As of [`store_lanes`](Self::store_lanes) and [`store_next`](Self::store_next).
    #[inline(always)]
    unsafe fn store_tile<S: Simd, const CHANNELS: bool>(to: *mut f32, index: usize, v: S::V) {
        // SAFETY: passed on from the caller.
        unsafe {
            if CHANNELS {
                Self::store_lanes::<S>(to.add(index * LANES / Self::VALUES), v);
            } else {
                Self::store_next::<S>(to, LANES, index, v);
            }
        }
    }

    /// Stores a vector that is number `index` in the sum among factors of 16 lanes that begin at `to`, `step` apart. Every vector
    /// is stored once, in their order.
    ///
    /// # Safety
    /// The instruction set of `S` is available, and there is room for `index / VALUES + 1` of them.
    unsafe fn store_next<S: Simd>(to: *mut f32, step: usize, index: usize, v: S::V);

    /// `a * b + c`, where `a` and `b` are factors.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V;
}

/// What the factors of products are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Nothing: factors are [`Single`].
    None,
    /// The nearest bfloat16: factors are [`Pair`].
    Bf16,
}

impl Rounding {
    /// [`Factors::VALUES`].
    pub fn values(self) -> usize {
        match self {
            Self::None => Single::VALUES,
            Self::Bf16 => Pair::VALUES,
        }
    }

    /// Factors of 16 lanes for a sum of `count`, the last one half empty where they do not fill it, in 32-bit places.
    pub fn places(self, count: usize) -> usize {
        count.div_ceil(self.values()) * LANES
    }
}

/// One value of 32 bits.
pub(super) struct Single;

/// Two values of 16 bits (bfloat16), the first one in the lower half.
pub(super) struct Pair;

impl Factors for Single {
    const VALUES: usize = 1;
    const POINTS: [f32; 2] = [1.0, 2.0];

    #[inline(always)]
    unsafe fn store_lanes<S: Simd>(to: *mut f32, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store(to, v) }
    }

    #[inline(always)]
    unsafe fn store_next<S: Simd>(to: *mut f32, step: usize, index: usize, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store(to.add(index * step), v) }
    }

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: arithmetic only.
        unsafe { S::fma(a, b, c) }
    }
}

impl Factors for Pair {
    const VALUES: usize = 2;
    // The best of 42 pairs (benches/winograd_points.py): 0.010 of the spread of results instead of 0.022 with 1 and 2.
    const POINTS: [f32; 2] = [0.625, 1.5];

    #[inline(always)]
    unsafe fn store_lanes<S: Simd>(to: *mut f32, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store_bf16(to, v) }
    }

    #[inline(always)]
    unsafe fn store_next<S: Simd>(to: *mut f32, step: usize, index: usize, v: S::V) {
        // SAFETY: the caller's promise; the first of two was stored before the second.
        unsafe {
            let to = to.add(index / 2 * step);
            S::store(to, if index.is_multiple_of(2) { S::lower_bf16(v) } else { S::with_upper_bf16(S::load(to), v) });
        }
    }

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: arithmetic only.
        unsafe { S::fma_pairs(a, b, c) }
    }
}

/// `acc[p][q] += sum over i < k of a[p * stride + i] * b[i][q]`, with `b` packed as `[k][Q * 16]`.
///
/// # Safety
/// The instruction set of `S` is available; `a` is valid for `(P - 1) * stride + k` factors, `b` for `k * Q * 16`.
#[inline(always)]
pub(super) unsafe fn inner_product<S: Simd, F: Factors, const P: usize, const Q: usize>(
    acc: &mut [[S::V; Q]; P],
    (a, stride): (*const f32, usize),
    k: usize,
    b: *const f32,
) {
    // SAFETY: the ranges promised by the caller.
    unsafe {
        for i in 0..k {
            let weights: [S::V; Q] = std::array::from_fn(|q| S::load(b.add((i * Q + q) * LANES)));
            for p in 0..P {
                let value = S::splat(a.add(p * stride + i));
                for q in 0..Q {
                    acc[p][q] = F::multiply_add::<S>(value, weights[q], acc[p][q]);
                }
            }
        }
    }
}

/// `sum[p][q] += sum over i < count of a[i * stride + p] * b[q][i]`, with `sum` stored as `[P][row]` values of which
/// `Q * 16` are used, and `b[q]` an array of 16-lane vectors.
///
/// # Safety
/// The instruction set of `S` is available; `sum` is valid for `(P - 1) * row + Q * 16` values, `a` for
/// `(count - 1) * stride + P` factors, each `b[q]` for `count * 16`.
#[inline(always)]
pub(super) unsafe fn outer_product<S: Simd, F: Factors, const P: usize, const Q: usize>(
    sum: *mut f32,
    row: usize,
    (a, stride): (*const f32, usize),
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
                let value = S::splat(a.add(i * stride + p));
                for q in 0..Q {
                    acc[p][q] = F::multiply_add::<S>(value, gradients[q], acc[p][q]);
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
