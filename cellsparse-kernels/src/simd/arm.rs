//! Sixteen lanes on ARM: NEON.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Simd;

/// Four 128-bit registers; with products of 16-bit factors by one instruction if the processor has it (`BF16`).
#[derive(Clone, Copy)]
pub(crate) struct Neon<const BF16: bool>;

type Quad = [float32x4_t; 4];

#[inline(always)]
fn each(f: impl Fn(usize) -> float32x4_t) -> Quad {
    [f(0), f(1), f(2), f(3)]
}

// SAFETY of every block below: the trait's contract (NEON is always present on AArch64, pointers valid).
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const BF16: bool> Simd for Neon<BF16> {
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
    unsafe fn sum(v: Quad) -> f32 {
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]))) }
    }
    #[inline(always)]
    unsafe fn select_ge(a: Quad, b: Quad, x: Quad, y: Quad) -> Quad {
        each(|i| unsafe { vbslq_f32(vcgeq_f32(a[i], b[i]), x[i], y[i]) })
    }
    #[inline(always)]
    unsafe fn select_positive(a: Quad, x: Quad, y: Quad) -> Quad {
        each(|i| unsafe { vbslq_f32(vcgtq_f32(a[i], vdupq_n_f32(0.0)), x[i], y[i]) })
    }
    #[inline(always)]
    unsafe fn lower_bf16(v: Quad) -> Quad {
        each(|i| unsafe { vreinterpretq_f32_u32(vshrq_n_u32::<16>(nearest(v[i]))) })
    }
    #[inline(always)]
    unsafe fn with_upper_bf16(lower: Quad, v: Quad) -> Quad {
        each(|i| unsafe {
            let upper = vandq_u32(nearest(v[i]), vdupq_n_u32(0xffff_0000));
            vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(lower[i]), upper))
        })
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut f32, v: Quad) {
        for (i, lane) in v.into_iter().enumerate() {
            unsafe { vst1_u16(to.cast::<u16>().add(4 * i), vshrn_n_u32::<16>(nearest(lane))) }
        }
    }
    #[inline(always)]
    unsafe fn halves(v: Quad) -> (Quad, Quad) {
        let bits = |i: usize| unsafe { vreinterpretq_u32_f32(v[i]) };
        (
            each(|i| unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(bits(i))) }),
            each(|i| unsafe { vreinterpretq_f32_u32(vandq_u32(bits(i), vdupq_n_u32(0xffff_0000))) }),
        )
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: Quad, b: Quad, c: Quad) -> Quad {
        unsafe {
            if !BF16 {
                let (a, b) = (Self::halves(a), Self::halves(b));
                return Self::fma(a.0, b.0, Self::fma(a.1, b.1, c));
            }
            let mut sums = c;
            for i in 0..4 {
                // Rust has no stable name for the instruction, which the calling function is compiled for.
                asm!(
                    "bfdot {sum:v}.4s, {a:v}.8h, {b:v}.8h",
                    sum = inout(vreg) sums[i],
                    a = in(vreg) a[i],
                    b = in(vreg) b[i],
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sums
        }
    }
}

/// The nearest bfloat16 of 4 values in the upper halves; the lower ones are to be cut off.
///
/// # Safety
/// NEON is present.
#[inline(always)]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe fn nearest(v: float32x4_t) -> uint32x4_t {
    unsafe {
        let bits = vreinterpretq_u32_f32(v);
        let last = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        vaddq_u32(bits, vaddq_u32(last, vdupq_n_u32(0x7fff)))
    }
}
