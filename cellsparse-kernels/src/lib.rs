//! The layers of cellsparse's networks on the CPU: convolution, pooling, upsampling, normalisation, and their gradients.
//!
//! Maps are stored in channel blocks of 16 with a border of zeros ([`Layout`]); kernels are written once over 16-lane
//! vectors and compiled for AVX-512, AVX2, NEON and plain Rust ([`Level`]). All results are the same for every number of
//! threads: outputs are computed by exactly one job each, and sums over pixels are split into a number of parts that
//! depends on shapes alone and added up in order.
//!
//! This crate holds all `unsafe` of the networks. Its public functions are sound whatever they are given: a [`Layout`] is
//! checked when it is made, a [`Level`] exists only where the machine can run it, and every function compares its maps with
//! their layouts and panics when they do not fit. Callers in the library give shapes that were checked before.

mod channels;
mod conv;
mod direct;
mod layers;
mod map;
mod micro;
mod multiversion;
mod pack;
mod parallel;
mod peak;
mod prefetch;
mod rounding;
mod simd;
mod team;
mod thin;
mod transforms;
mod winograd;
mod winograd_gradient;

pub use self::channels::{affine, affine_gradient, channel_moments, channel_products};
pub use self::conv::{Conv, Destination, Method};
pub use self::layers::{ActivationDerivative, Store, max_pool, max_pool_gradient, upsample, upsample_gradient};
pub use self::map::{Buffer, Layout, copy_rows};
pub use self::parallel::{for_each_job, stopping_when};
pub use self::peak::multiply_add_peak;
pub use self::prefetch::prefetch;
pub use self::simd::{LANES, Level};
pub use self::team::with_team;

#[cfg(test)]
mod conv_tests;
#[cfg(test)]
mod pairs_tests;
#[cfg(test)]
mod soundness_tests;
#[cfg(test)]
mod test_random;
