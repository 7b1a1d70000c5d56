//! Sixteen lanes on x86: AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::Simd;

/// One 512-bit register; with products of 16-bit factors by one instruction if the processor has it (`BF16`).
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>;

// SAFETY of every block below: the trait's contract (instruction set present, pointers valid).
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const BF16: bool> Simd for Avx512<BF16> {
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
    unsafe fn sum(v: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    unsafe fn select_ge(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    unsafe fn select_positive(a: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, _mm512_setzero_ps()), y, x) }
    }
    #[inline(always)]
    unsafe fn lower_bf16(v: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_cvtepu16_epi32(nearest_512::<BF16>(v))) }
    }
    #[inline(always)]
    unsafe fn with_upper_bf16(lower: __m512, v: __m512) -> __m512 {
        unsafe {
            let upper = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(nearest_512::<BF16>(v)));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(lower), upper))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut f32, v: __m512) {
        unsafe { _mm256_storeu_si256(to.cast(), nearest_512::<BF16>(v)) }
    }
    #[inline(always)]
    unsafe fn halves(v: __m512) -> (__m512, __m512) {
        unsafe {
            let bits = _mm512_castps_si512(v);
            let upper = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
            (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)), _mm512_castsi512_ps(upper))
        }
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe {
            if BF16 {
                let [a, b] = [a, b].map(|factors| std::mem::transmute::<__m512, __m512bh>(factors));
                return _mm512_dpbf16_ps(c, a, b);
            }
            let (a, b) = (Self::halves(a), Self::halves(b));
            _mm512_fmadd_ps(a.0, b.0, _mm512_fmadd_ps(a.1, b.1, c))
        }
    }
}

/// The nearest bfloat16 of 16 values.
///
/// # Safety
/// AVX-512F is present, and AVX512-BF16 with `BF16`.
#[inline(always)]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe fn nearest_512<const BF16: bool>(v: __m512) -> __m256i {
    unsafe {
        if BF16 {
            return std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
        }
        let bits = _mm512_castps_si512(v);
        let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
        _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded))
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
    unsafe fn sum(v: Pair) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(v[0], v[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
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
    #[inline(always)]
    unsafe fn lower_bf16(v: Pair) -> Pair {
        unsafe { v.map(|v| _mm256_castsi256_ps(_mm256_srli_epi32::<16>(nearest_256(v)))) }
    }
    #[inline(always)]
    unsafe fn with_upper_bf16(lower: Pair, v: Pair) -> Pair {
        unsafe {
            let mask = _mm256_castsi256_ps(_mm256_set1_epi32(UPPER));
            let lane = |i: usize| _mm256_or_ps(lower[i], _mm256_and_ps(_mm256_castsi256_ps(nearest_256(v[i])), mask));
            [lane(0), lane(1)]
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut f32, v: Pair) {
        unsafe {
            let [a, b] = v.map(|v| _mm256_srli_epi32::<16>(nearest_256(v)));
            // Quarters of both come out in turn, and are put into their order.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(a, b));
            _mm256_storeu_si256(to.cast(), packed);
        }
    }
    #[inline(always)]
    unsafe fn halves(v: Pair) -> (Pair, Pair) {
        unsafe {
            let mask = _mm256_castsi256_ps(_mm256_set1_epi32(UPPER));
            let lower = |v| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(v)));
            (v.map(lower), v.map(|v| _mm256_and_ps(v, mask)))
        }
    }
}

/// The upper half of 32 bits.
const UPPER: i32 = 0xffff_0000_u32.cast_signed();

/// The nearest bfloat16 of 8 values in the upper halves; the lower ones are to be cut off.
///
/// # Safety
/// AVX2 is present.
#[inline(always)]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe fn nearest_256(v: __m256) -> __m256i {
    unsafe {
        let bits = _mm256_castps_si256(v);
        let last = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)))
    }
}
