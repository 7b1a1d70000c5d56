//! Whole numbers that 32-bit floats cannot hold.

use std::sync::atomic::{AtomicU64, Ordering};

/// Integers up to this size are exact in 32-bit floats.
pub(super) const EXACT_IN_F32: i64 = 1 << 24;

/// The largest of the whole numbers that became 32-bit floats, without its sign.
#[derive(Default)]
pub(super) struct Largest(AtomicU64);

impl Largest {
    pub(super) fn see(&self, magnitude: u64) {
        self.0.fetch_max(magnitude, Ordering::Relaxed);
    }

    /// Tells that numbers were rounded, when the largest of them does not fit into a 32-bit float.
    pub(super) fn note(&self) -> Option<String> {
        let largest = self.0.load(Ordering::Relaxed);
        if largest <= EXACT_IN_F32.unsigned_abs() {
            return None;
        }
        let step = 1_u64 << (largest.ilog2() - 23);
        Some(format!(
            "its samples reach {largest}; above {EXACT_IN_F32} they are rounded to 32-bit floats, by {} at most",
            step / 2
        ))
    }
}
