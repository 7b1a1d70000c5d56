//! With how many bits a network computes.

/// The numbers that maps, gradients and kernels hold while a network is computed. Sums are made in 32 bits, and the weights that
/// training moves have 32 bits, in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Arithmetic {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, of which 8 are the exponent: every map but the outputs, every gradient and every kernel is rounded to the
    /// nearest of these. The kernels of the CPU compute with the 32-bit values of the same numbers, so nothing is faster there.
    Bf16,
    /// 32 bits, of which the factors of products have 19 (TensorFloat-32): on CUDA devices alone.
    Tf32,
}

impl Arithmetic {
    /// Rounds values to what it can hold.
    pub(super) fn round(self, values: &mut [f32]) {
        if self == Self::Bf16 {
            cellsparse_kernels::round_to_bf16(values);
        }
    }
}
