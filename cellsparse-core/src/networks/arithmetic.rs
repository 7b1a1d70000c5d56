//! With how many bits a network computes.

/// The numbers that a network is computed with. Sums are made in 32 bits, and the weights that
/// training moves have 32 bits, in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Arithmetic {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, of which 8 are the exponent. On an accelerator every map but the outputs, every gradient and every kernel has them; on the
    /// CPU the factors of the products in 3 x 3 convolutions ([`Method::FastBf16`](super::Method::FastBf16)), which is quicker on
    /// processors that have an instruction for such products.
    Bf16,
    /// 32 bits, of which the factors of products have 19 (TensorFloat-32): on CUDA devices alone.
    Tf32,
}
