//! Memory that is needed soon.

/// Asks the processor to bring an item into its nearest cache, without waiting for it. The item need not exist.
///
/// Worth its while where the places to be read next are known and scattered, and the branches that depend on what is
/// there cannot be predicted. Does nothing but on x86-64 and AArch64.
#[inline(always)]
pub fn prefetch<T>(items: &[T], index: usize) {
    prefetch_at(items.as_ptr().wrapping_add(index));
}

/// As [`prefetch`], for an address; it need not be valid.
#[inline(always)]
pub(super) fn prefetch_at<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes nothing, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; nothing but the address is read.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}
