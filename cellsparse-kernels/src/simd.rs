//! Sixteen lanes of `f32` as one value, on every instruction set.
//!
//! Kernels are written once, generic over [`Simd`], and compiled once per instruction set by
//! [`multiversion!`](super::multiversion::multiversion). A vector of this room always has 16 lanes: one AVX-512 register, two AVX2
//! registers, four NEON registers, or a plain array.

use super::rounding::nearest_bf16;

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

    /// Whether the processor has an instruction for products of 16-bit factors (bfloat16).
    pub fn multiplies_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => std::is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "aarch64")]
            Set::Neon => std::arch::is_aarch64_feature_detected!("bf16"),
            _ => false,
        }
    }

    /// Whether kernels with 16-bit factors are known to be quicker than those with 32 bits: on processors of AMD that have the
    /// instruction, which begin as many of them as of those for 32 bits.
    pub fn is_quicker_in_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.multiplies_bf16() {
            let maker = std::arch::x86_64::__cpuid(0);
            return [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).concat() == *b"AuthenticAMD";
        }
        false
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
    /// The sum of all lanes.
    unsafe fn sum(v: Self::V) -> f32;
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

    /// The nearest bfloat16 of each lane in its lower half, zeros in the upper one. Instead of what is too small for a full mantissa there
    /// may be a zero.
    unsafe fn lower_bf16(v: Self::V) -> Self::V;
    /// The bits of `lower`, whose upper halves are zeros, and in the upper half of each lane the nearest bfloat16 of `v`.
    unsafe fn with_upper_bf16(lower: Self::V, v: Self::V) -> Self::V;
    /// Stores the nearest bfloat16 of each lane, one after the other: as many bytes as 8 values of `f32` have.
    unsafe fn store_bf16(to: *mut f32, v: Self::V);
    /// The bfloat16 in the lower and that in the upper half of each lane.
    unsafe fn halves(v: Self::V) -> (Self::V, Self::V);

    /// `a.lower * b.lower + a.upper * b.upper + c`, where each lane of `a` and `b` holds two bfloat16.
    #[inline(always)]
    unsafe fn fma_pairs(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: arithmetic only.
        unsafe {
            let (a, b) = (Self::halves(a), Self::halves(b));
            Self::fma(a.0, b.0, Self::fma(a.1, b.1, c))
        }
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
    unsafe fn sum(v: Self::V) -> f32 {
        // By halves, whose sums lie beside each other.
        let eight: [f32; 8] = std::array::from_fn(|i| v[i] + v[i + 8]);
        let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    unsafe fn select_ge(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] >= b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn select_positive(a: Self::V, x: Self::V, y: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > 0.0 { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn lower_bf16(v: Self::V) -> Self::V {
        v.map(|value| f32::from_bits(u32::from(nearest_bf16(value))))
    }
    #[inline(always)]
    unsafe fn with_upper_bf16(lower: Self::V, v: Self::V) -> Self::V {
        zip(lower, v, |lower, value| f32::from_bits(lower.to_bits() | (u32::from(nearest_bf16(value)) << 16)))
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut f32, v: Self::V) {
        // SAFETY: the caller promises 8 writable values, which are as many bytes.
        unsafe { to.cast::<[u16; 16]>().write_unaligned(v.map(nearest_bf16)) }
    }
    #[inline(always)]
    unsafe fn halves(v: Self::V) -> (Self::V, Self::V) {
        (v.map(|pair| f32::from_bits(pair.to_bits() << 16)), v.map(|pair| f32::from_bits(pair.to_bits() & 0xffff_0000)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm;

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;
