//! 1x1 convolutions to few channels, such as a probability: each channel of a pixel is one product of vectors.
//!
//! The kernels of [`direct`](super::direct) hold sixteen output channels in a vector, of which one would be used.

use super::conv::Pass;
use super::direct::DirectGradient;
use super::micro::{Single, outer_product};
use super::simd::{LANES, Simd};

/// `P` pixels of one row, all channels of output block `block`.
///
/// # Safety
/// The instruction set of `S` is available; the pixels from `x` of row `y` lie in the maps of `pass`, which have 16 lanes, and no other job
/// writes them; the block is thin.
#[inline(always)]
pub(super) unsafe fn forward_run<S: Simd, const P: usize>(pass: &Pass<'_>, n: usize, block: usize, y: usize, x: usize) {
    // SAFETY: passed on from the caller; the panel holds a vector for each channel and input block.
    unsafe {
        let pixel = ((y + 1) * pass.cols + x + 1) * LANES;
        let mut weights = pass.packed.as_ptr().add(pass.panels.start(block));
        let mut results = [[0.0; LANES]; P];
        for channel in 0..pass.panels.outputs[block].count {
            let mut acc = [S::zero(); P];
            for input in pass.inputs {
                let from = input.ptr.add(n * input.stride + pixel);
                let weight = S::load(weights);
                for p in 0..P {
                    acc[p] = S::fma(S::load(from.add(p * LANES)), weight, acc[p]);
                }
                weights = weights.add(LANES);
            }
            let bias = *pass.bias.get_unchecked(block * LANES + channel);
            for p in 0..P {
                results[p][channel] = bias + S::sum(acc[p]);
            }
        }
        for p in 0..P {
            pass.store::<S>(block, n, pixel + p * LANES, S::load(results[p].as_ptr()));
        }
    }
}

/// Adds the products of one row to the weight gradients of output block `block`, `[channel][input value]` at `sums`; `gradient` is that
/// block at the first pixel of the row, which begins at `pixel` of every plane.
///
/// # Safety
/// The instruction set of `S` is available; the row lies in the maps of `args`, which have 16 lanes, `sums` has room for the panel of the
/// block, and no other job uses it; the block is thin.
#[inline(always)]
pub(super) unsafe fn weight_row<S: Simd>(
    args: &DirectGradient<'_>,
    block: usize,
    sums: *mut f32,
    gradient: *const f32,
    n: usize,
    pixel: usize,
) {
    let depth = args.panels.depth();
    // SAFETY: passed on from the caller.
    unsafe {
        let input = |index: usize| {
            let block = args.inputs.get_unchecked(index);
            block.ptr.add(n * block.stride + pixel).cast_const()
        };
        for channel in 0..args.panels.outputs[block].count {
            let (from, to) = ((gradient.add(channel), LANES), sums.add(channel * depth));
            let mut first = 0;
            while args.inputs.len() - first >= 4 {
                let b = [input(first), input(first + 1), input(first + 2), input(first + 3)];
                outer_product::<S, Single, 1, 4>(to.add(first * LANES), depth, from, b, args.width);
                first += 4;
            }
            while first < args.inputs.len() {
                outer_product::<S, Single, 1, 1>(to.add(first * LANES), depth, from, [input(first)], args.width);
                first += 1;
            }
        }
    }
}
