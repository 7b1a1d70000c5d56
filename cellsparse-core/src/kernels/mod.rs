//! CPU kernels of the networks: the only room that may use `unsafe`.
//!
//! Maps are stored in channel blocks of 16 with a border of zeros ([`Layout`]); kernels are written once over 16-lane
//! vectors and compiled for AVX-512, AVX2, NEON and plain Rust ([`Level`]). All results are the same for every number of
//! threads: outputs are computed by exactly one job each, and sums over pixels are split into a number of parts that
//! depends on shapes alone and added up in order.
#![allow(unsafe_code)]

mod channels;
mod conv;
mod direct;
mod layers;
mod map;
mod micro;
mod pack;
mod parallel;
mod peak;
mod prefetch;
mod simd;
mod winograd;

pub use self::channels::{affine, affine_gradient, channel_sums};
pub use self::conv::{Conv, Destination, Method};
pub use self::layers::{Slope, Store, max_pool, max_pool_gradient, upsample, upsample_gradient};
pub use self::map::{Buffer, Layout};
pub use self::parallel::for_each_job;
pub use self::peak::multiply_add_peak;
pub use self::prefetch::prefetch;
pub use self::simd::{LANES, Level};

#[cfg(test)]
mod tests;
