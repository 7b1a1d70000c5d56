//! Sixteen lanes of `f32` as one value, on every instruction set.
//!
//! Kernels are written once, generic over [`Simd`], and compiled once per instruction set by
//! [`multiversion!`](super::multiversion). A vector of this room always has 16 lanes: one AVX-512 register, two AVX2
//! registers, four NEON registers, or a plain array.

/// Lanes of a vector, and channels of a channel block.
pub const LANES: usize = 16;

/// The largest `f32` below [`f32::MIN_POSITIVE`].
const LARGEST_SUBNORMAL: f32 = f32::from_bits(f32::MIN_POSITIVE.to_bits() - 1);

/// Zero for a subnormal value, as [`Simd::flush`].
pub(super) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0.0 } else { value }
}

/// An instruction set that the kernels can be run with, and that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(Set);

/// The instruction sets that kernels are compiled for, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Plain Rust, for every machine and as the reference in tests.
    pub const SCALAR: Level = Level(Set::Scalar);

    /// The levels this machine can run, slowest first.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)]
        let mut levels = vec![Level::SCALAR];
        #[cfg(target_arch = "aarch64")]
        levels.push(Level(Set::Neon));
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                levels.push(Level(Set::Avx2));
                if std::is_x86_feature_detected!("avx512f") {
                    levels.push(Level(Set::Avx512));
                }
            }
        }
        levels
    }

    /// The fastest level of this machine, or the one named by the environment variable `CELLSPARSE_SIMD`
    /// (`scalar`, `neon`, `avx2`, `avx512`) when this machine can run it.
    pub fn detect() -> Level {
        let available = Level::available();
        let forced = std::env::var("CELLSPARSE_SIMD").ok();
        let forced = forced.and_then(|name| available.iter().copied().find(|level| level.name() == name));
        forced.or(available.last().copied()).unwrap_or(Level::SCALAR)
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Scalar => "scalar",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
        }
    }

    pub(crate) fn set(self) -> Set {
        self.0
    }
}

/// Arithmetic on 16 lanes.
///
/// # Safety
/// Every function may only be called where the instruction set is available; pointers must be valid for 16 values
/// (1 for [`splat`](Simd::splat)). No alignment is required.
pub(super) trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Pixels (rows of accumulators) of the product micro-kernel.
    const PIXELS: usize;
    /// Whether two output vectors are accumulated at a time.
    const PAIR: bool;

    unsafe fn zero() -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn set(value: f32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Per lane: `x` where `a >= b`, else `y`.
    unsafe fn select_ge(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Per lane: `x` where `a > 0`, else `y`.
    unsafe fn select_positive(a: Self::V, x: Self::V, y: Self::V) -> Self::V;

    /// Zero for values too small for a full mantissa, which many processors calculate with a hundred times more slowly;
    /// other values, those that are no numbers included, as they are.
    #[inline(always)]
    unsafe fn flush(v: Self::V) -> Self::V {
        // SAFETY: arithmetic only.
        unsafe {
            let magnitude = Self::max(v, Self::sub(Self::zero(), v));
            Self::select_ge(Self::set(LARGEST_SUBNORMAL), magnitude, Self::zero(), v)
        }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self::V {
        // SAFETY: the caller promises one readable value.
        unsafe { Self::set(*from) }
    }
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

#[inline(always)]
fn zip(a: [f32; 16], b: [f32; 16], f: impl Fn(f32, f32) -> f32) -> [f32; 16] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    type V = [f32; 16];
    const PIXELS: usize = 2;
    const PAIR: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller promises 16 readable values.
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: the caller promises 16 writable values.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn set(value: f32) -> Self::V {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn select_ge(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] >= b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn select_positive(a: Self::V, x: Self::V, y: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > 0.0 { x[i] } else { y[i] })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    // SAFETY of every block below: the trait's contract (instruction set present, pointers valid).
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx512 {
        type V = __m512;
        const PIXELS: usize = 14;
        const PAIR: bool = true;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn set(value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn select_ge(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b), y, x) }
        }
        #[inline(always)]
        unsafe fn select_positive(a: __m512, x: __m512, y: __m512) -> __m512 {
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, _mm512_setzero_ps()), y, x) }
        }
    }

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// The 16 lanes of an AVX2 machine.
    type Pair = [__m256; 2];

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx2 {
        type V = Pair;
        const PIXELS: usize = 6;
        const PAIR: bool = false;

        #[inline(always)]
        unsafe fn zero() -> Pair {
            unsafe { [_mm256_setzero_ps(); 2] }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Pair {
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Pair) {
            unsafe {
                _mm256_storeu_ps(to, v[0]);
                _mm256_storeu_ps(to.add(8), v[1]);
            }
        }
        #[inline(always)]
        unsafe fn set(value: f32) -> Pair {
            unsafe { [_mm256_set1_ps(value); 2] }
        }
        #[inline(always)]
        unsafe fn add(a: Pair, b: Pair) -> Pair {
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn sub(a: Pair, b: Pair) -> Pair {
            unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn mul(a: Pair, b: Pair) -> Pair {
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn max(a: Pair, b: Pair) -> Pair {
            unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }
        #[inline(always)]
        unsafe fn select_ge(a: Pair, b: Pair, x: Pair, y: Pair) -> Pair {
            unsafe {
                let lane = |i: usize| _mm256_blendv_ps(y[i], x[i], _mm256_cmp_ps::<_CMP_GE_OQ>(a[i], b[i]));
                [lane(0), lane(1)]
            }
        }
        #[inline(always)]
        unsafe fn select_positive(a: Pair, x: Pair, y: Pair) -> Pair {
            unsafe {
                let zero = _mm256_setzero_ps();
                let lane = |i: usize| _mm256_blendv_ps(y[i], x[i], _mm256_cmp_ps::<_CMP_GT_OQ>(a[i], zero));
                [lane(0), lane(1)]
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Simd;

    /// Four 128-bit registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon;

    type Quad = [float32x4_t; 4];

    #[inline(always)]
    fn each(f: impl Fn(usize) -> float32x4_t) -> Quad {
        [f(0), f(1), f(2), f(3)]
    }

    // SAFETY of every block below: the trait's contract (NEON is always present on AArch64, pointers valid).
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Neon {
        type V = Quad;
        const PIXELS: usize = 6;
        const PAIR: bool = false;

        #[inline(always)]
        unsafe fn zero() -> Quad {
            unsafe { [vdupq_n_f32(0.0); 4] }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Quad {
            each(|i| unsafe { vld1q_f32(from.add(4 * i)) })
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Quad) {
            for (i, lane) in v.into_iter().enumerate() {
                unsafe { vst1q_f32(to.add(4 * i), lane) }
            }
        }
        #[inline(always)]
        unsafe fn set(value: f32) -> Quad {
            unsafe { [vdupq_n_f32(value); 4] }
        }
        #[inline(always)]
        unsafe fn add(a: Quad, b: Quad) -> Quad {
            each(|i| unsafe { vaddq_f32(a[i], b[i]) })
        }
        #[inline(always)]
        unsafe fn sub(a: Quad, b: Quad) -> Quad {
            each(|i| unsafe { vsubq_f32(a[i], b[i]) })
        }
        #[inline(always)]
        unsafe fn mul(a: Quad, b: Quad) -> Quad {
            each(|i| unsafe { vmulq_f32(a[i], b[i]) })
        }
        #[inline(always)]
        unsafe fn max(a: Quad, b: Quad) -> Quad {
            each(|i| unsafe { vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]) })
        }
        #[inline(always)]
        unsafe fn fma(a: Quad, b: Quad, c: Quad) -> Quad {
            each(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
        }
        #[inline(always)]
        unsafe fn select_ge(a: Quad, b: Quad, x: Quad, y: Quad) -> Quad {
            each(|i| unsafe { vbslq_f32(vcgeq_f32(a[i], b[i]), x[i], y[i]) })
        }
        #[inline(always)]
        unsafe fn select_positive(a: Quad, x: Quad, y: Quad) -> Quad {
            each(|i| unsafe { vbslq_f32(vcgtq_f32(a[i], vdupq_n_f32(0.0)), x[i], y[i]) })
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;

/// Compiles a kernel that is generic over [`Simd`] for every instruction set and chooses at run time.
///
/// `multiversion! { fn name(arg: Type, ...) = generic; }` makes `name(level, arg, ...)`, which is as unsafe as
/// `generic::<S>(arg, ...)`.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $generic:ident;) => {
        $(#[$meta])*
        $vis unsafe fn $name(level: $crate::simd::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: as promised by the caller; AVX-512F is enabled for this function.
                unsafe { $generic::<$crate::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: as promised by the caller; AVX2 and FMA are enabled for this function.
                unsafe { $generic::<$crate::simd::Avx2>($($arg),*) }
            }
            // SAFETY: a `Level` is only made for what this machine can run.
            unsafe {
                match level.set() {
                    $crate::simd::Set::Scalar => $generic::<$crate::simd::Scalar>($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::simd::Set::Neon => $generic::<$crate::simd::Neon>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Set::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Set::Avx512 => avx512($($arg),*),
                }
            }
        }
    };
}
pub(super) use multiversion;
