//! Kernels that are written once and compiled for every instruction set.
//!
//! Every function of a kernel that takes vectors is `#[inline(always)]`. A closure cannot be: one that is handed on may be compiled by
//! itself, without the instruction set, and calls a function for every instruction then.

/// Compiles a kernel that is generic over [`Simd`](super::simd::Simd) for every instruction set and chooses at run time.
///
/// `multiversion! { fn name(arg: Type, ...) = generic; }` makes `name(level, arg, ...)`, which is as unsafe as
/// `generic::<S>(arg, ...)`; `= generic::<Single>;` is for a kernel that is also generic over
/// [`Factors`](super::micro::Factors).
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $generic:ident $(::<$factors:ident>)?;) => {
        $(#[$meta])*
        $vis unsafe fn $name(level: $crate::simd::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: as promised by the caller; AVX-512F is enabled for this function.
                unsafe { $generic::<$crate::simd::Avx512<false> $(, $factors)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: as promised by the caller; AVX2 and FMA are enabled for this function.
                unsafe { $generic::<$crate::simd::Avx2 $(, $factors)?>($($arg),*) }
            }
            // SAFETY: a `Level` is only made for what this machine can run.
            unsafe {
                match level.set() {
                    $crate::simd::Set::Scalar => $generic::<$crate::simd::Scalar $(, $factors)?>($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::simd::Set::Neon => $generic::<$crate::simd::Neon<false> $(, $factors)?>($($arg),*),
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

/// As [`multiversion!`], for a kernel of pairs of 16-bit factors: also compiled for the instruction that
/// multiplies them.
macro_rules! multiversion_of_pairs {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $generic:ident;) => {
        $(#[$meta])*
        $vis unsafe fn $name(level: $crate::simd::Level, $($arg: $ty),*) {
            use $crate::micro::Pair;
            $crate::multiversion::multiversion! { fn without($($arg: $ty),*) = $generic::<Pair>; }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bf16")]
            unsafe fn avx512_bf16($($arg: $ty),*) {
                // SAFETY: as promised by the caller; AVX512-BF16 is enabled for this function.
                unsafe { $generic::<$crate::simd::Avx512<true>, Pair>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,bf16")]
            unsafe fn neon_bf16($($arg: $ty),*) {
                // SAFETY: as promised by the caller; products of bfloat16 are enabled for this function.
                unsafe { $generic::<$crate::simd::Neon<true>, Pair>($($arg),*) }
            }
            // SAFETY: as promised by the caller; the instruction is there.
            unsafe {
                if level.multiplies_bf16() {
                    #[cfg(target_arch = "x86_64")]
                    return avx512_bf16($($arg),*);
                    #[cfg(target_arch = "aarch64")]
                    return neon_bf16($($arg),*);
                }
                without(level, $($arg),*)
            }
        }
    };
}
pub(super) use multiversion_of_pairs;
