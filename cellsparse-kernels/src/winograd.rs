//! 3x3 convolution by the Winograd algorithm F(4x4, 3x3): a quarter of the multiplications of the direct kernel.
//!
//! A tile is 4x4 output pixels and the 6x6 input pixels they depend on. A tile of input, of gradient or of weights is
//! transformed to 36 "frequencies"; between transforms, each frequency is an ordinary matrix product, whose factors have 32 or
//! 16 bits ([`Factors`]). Sums always have 32.

use std::ops::Range;

use super::conv::Pass;
use super::map::{Block, Buffer};
use super::micro::{Factors, Pair, Rounding, Single, for_each_run, inner_product};
use super::multiversion::{multiversion, multiversion_of_pairs};
use super::pack::{Panels, groups, totals};
use super::parallel::{Shared, for_each_job};
use super::prefetch::prefetch_at;
use super::simd::{LANES, Level, Simd};
use super::transforms::{gradient_1d, input_1d, output_1d, transform_2d, weight_1d, weight_gradient_1d};

/// Frequencies of a tile.
pub(super) const FREQUENCIES: usize = 36;

/// Tiles of a pass: `rows` tile rows of each image, from its tile row `first` on, `cols` tiles in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    first: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Tiles {
    /// The tiles of rows of pixels, which begin with a tile.
    pub fn of(rows: Range<usize>, width: usize) -> Self {
        let first = rows.start / 4;
        Self { first, rows: rows.end.div_ceil(4) - first, cols: width.div_ceil(4) }
    }

    /// The image and the tile row in it of a tile row that is counted over all images.
    #[inline(always)]
    fn place(self, row: usize) -> (usize, usize) {
        (row / self.rows, self.first + row % self.rows)
    }
}

/// Transforms the tile rows `range` of one block, to factors of sums over channels or over tiles; frequency `f` goes to `to + f * step`.
///
/// # Safety
/// `block` is a bordered map of `cols` columns; `to` has room for all frequencies and tiles.
#[inline(always)]
pub(super) unsafe fn input_tiles<S: Simd, F: Factors, const CHANNELS: bool>(
    block: &Block,
    tiles: Tiles,
    cols: usize,
    range: (usize, usize),
    (to, step): (*mut f32, usize),
) {
    let mut t = 0;
    for row in range.0..range.1 {
        let (n, ty) = tiles.place(row);
        for tx in 0..tiles.cols {
            // SAFETY: a tile's 6x6 pixels lie within the border, which reaches to the next multiple of 4, plus 2.
            unsafe {
                let from = block.ptr.add(n * block.stride + (4 * ty * cols + 4 * tx) * LANES);
                for y in 0..6 {
                    prefetch_tile(from.wrapping_add((y * cols + 2 + AHEAD) * LANES));
                }
                transform_2d!(
                    input_1d,
                    6 => 6,
                    |y: usize, x: usize| S::load(from.add((y * cols + x) * LANES)),
                    |y: usize, x: usize, v| F::store_tile::<S, CHANNELS>(to.add((y * 6 + x) * step), t, v)
                );
            }
            t += 1;
        }
    }
}

/// Transforms the gradient tiles of one block like [`input_tiles`], for sums over tiles, and adds the gradients to `bias`.
///
/// # Safety
/// As [`input_tiles`]; `bias` holds one vector.
#[inline(always)]
pub(super) unsafe fn gradient_tiles<S: Simd, F: Factors>(
    block: &Block,
    tiles: Tiles,
    cols: usize,
    range: (usize, usize),
    bias: *mut f32,
    (to, step): (*mut f32, usize),
) {
    let mut t = 0;
    // SAFETY: gradients beyond the image are 0 and stored up to the next multiple of 4.
    unsafe {
        let mut total = S::load(bias);
        for row in range.0..range.1 {
            let (n, ty) = tiles.place(row);
            for tx in 0..tiles.cols {
                let from = block.ptr.add(n * block.stride + ((4 * ty + 1) * cols + 4 * tx + 1) * LANES);
                let mut middle = [[S::zero(); 4]; 6];
                for y in 0..4 {
                    prefetch_tile(from.wrapping_add((y * cols + AHEAD) * LANES));
                }
                for x in 0..4 {
                    let column = std::array::from_fn(|y| S::load(from.add((y * cols + x) * LANES)));
                    total = S::add(total, S::add(S::add(column[0], column[1]), S::add(column[2], column[3])));
                    let column = gradient_1d::<S, F>(column);
                    for y in 0..6 {
                        middle[y][x] = column[y];
                    }
                }
                for y in 0..6 {
                    let row = gradient_1d::<S, F>(middle[y]);
                    for x in 0..6 {
                        F::store_tile::<S, false>(to.add((y * 6 + x) * step), t, row[x]);
                    }
                }
                t += 1;
            }
        }
        S::store(bias, total);
    }
}

/// Columns between the pixels that are transformed and those that are fetched meanwhile.
const AHEAD: usize = 8;

/// Fetches four pixels of one row.
#[inline(always)]
fn prefetch_tile(from: *const f32) {
    for x in 0..4 {
        prefetch_at(from.wrapping_add(x * LANES));
    }
}

/// Values from one frequency to the next, of which so many are used. A tile has one vector in each of them: an odd number of cache lines
/// apart, they lie in different sets of a cache.
pub(super) fn frequency_step(values: usize) -> usize {
    values.div_ceil(LANES) / 2 * 2 * LANES + LANES
}

/// Values of scratch memory that [`forward_tiles`] needs for `count` tiles.
pub(super) fn forward_scratch(rounding: Rounding, inputs: usize, outputs: usize, count: usize) -> usize {
    FREQUENCIES * (frequency_step(inputs * count * LANES / rounding.values()) + frequency_step(outputs * count * LANES))
}

/// Computes the tile rows `range` (counted over all images).
///
/// # Safety
/// The blocks of `pass` are valid maps of its geometry, its weights were packed with the same rounding, no other job writes these tiles, and
/// `scratch` holds [`forward_scratch`] values.
pub(super) unsafe fn forward_tiles(
    level: Level,
    rounding: Rounding,
    pass: &Pass<'_>,
    range: (usize, usize),
    scratch: &mut [f32],
) {
    // SAFETY: passed on from the caller.
    unsafe {
        match rounding {
            Rounding::None => forward_single(level, pass, range, scratch),
            Rounding::Bf16 => forward_pairs(level, pass, range, scratch),
        }
    }
}

multiversion! {
    fn forward_single(pass: &Pass<'_>, range: (usize, usize), scratch: &mut [f32]) = forward_tiles_generic::<Single>;
}

multiversion_of_pairs! {
    fn forward_pairs(pass: &Pass<'_>, range: (usize, usize), scratch: &mut [f32]) = forward_tiles_generic;
}

#[inline(always)]
unsafe fn forward_tiles_generic<S: Simd, F: Factors>(pass: &Pass<'_>, range: (usize, usize), scratch: &mut [f32]) {
    let tiles = Tiles::of(pass.rows.clone(), pass.width);
    let count = (range.1 - range.0) * tiles.cols;
    let inputs = pass.inputs.len();
    let outputs = pass.outputs.len();
    let lanes = LANES / F::VALUES;
    let (step, product_step) = (frequency_step(inputs * count * lanes), frequency_step(outputs * count * LANES));
    assert_eq!(scratch.len(), FREQUENCIES * (step + product_step), "scratch memory of another size");
    let (transformed, products) = scratch.split_at_mut(FREQUENCIES * step);
    // SAFETY: the caller's promises; `scratch` is laid out as [frequency][block][tile][channels], twice.
    unsafe {
        for (i, block) in pass.inputs.iter().enumerate() {
            let to = transformed.as_mut_ptr().add(i * count * lanes);
            input_tiles::<S, F, true>(block, tiles, pass.cols, range, (to, step));
        }
        for f in 0..FREQUENCIES {
            let from = transformed.as_ptr().add(f * step);
            let to = products.as_mut_ptr().add(f * product_step);
            let weights = pass.packed.as_ptr().add(f * pass.panels.len() / F::VALUES);
            for (first, blocks) in groups(outputs, S::PAIR) {
                let weights = weights.add(pass.panels.start(first) / F::VALUES);
                let to = to.add(first * count * LANES);
                if blocks == 2 {
                    for_each_run!(S, count, |t, P| product::<S, F, P, 2>(from, weights, to, inputs, count, t));
                } else {
                    for_each_run!(S, count, |t, P| product::<S, F, P, 1>(from, weights, to, inputs, count, t));
                }
            }
        }
        for block in 0..outputs {
            let from = products.as_ptr().add(block * count * LANES);
            output_tiles::<S, F>(pass, block, tiles, range, from, product_step);
        }
    }
}

/// `P` tiles of one frequency, `Q` output blocks.
#[inline(always)]
unsafe fn product<S: Simd, F: Factors, const P: usize, const Q: usize>(
    from: *const f32,
    weights: *const f32,
    to: *mut f32,
    inputs: usize,
    count: usize,
    t: usize,
) {
    let lanes = LANES / F::VALUES;
    // SAFETY: the caller's layout: [block][tile][channels] on both sides, panels of 16 channels of Q vectors.
    unsafe {
        let mut acc = [[S::zero(); Q]; P];
        for i in 0..inputs {
            let weights = weights.add(i * lanes * Q * LANES);
            inner_product::<S, F, P, Q>(&mut acc, (from.add((i * count + t) * lanes), lanes), lanes, weights);
        }
        for q in 0..Q {
            for p in 0..P {
                S::store(to.add((q * count + t + p) * LANES), acc[p][q]);
            }
        }
    }
}

/// Transforms products back into output pixels.
#[inline(always)]
unsafe fn output_tiles<S: Simd, F: Factors>(
    pass: &Pass<'_>,
    block: usize,
    tiles: Tiles,
    range: (usize, usize),
    from: *const f32,
    step: usize,
) {
    let mut t = 0;
    for row in range.0..range.1 {
        let (n, ty) = tiles.place(row);
        let rows = 4.min(pass.height - 4 * ty);
        for tx in 0..tiles.cols {
            let cols = 4.min(pass.width - 4 * tx);
            let pixel = ((4 * ty + 1) * pass.cols + 4 * tx + 1) * LANES;
            // SAFETY: frequencies are `step` values apart; only pixels of the image are stored.
            unsafe {
                let bias = S::load(pass.bias.as_ptr().add(block * LANES));
                let from = from.add(t * LANES);
                let output = pass.outputs.get_unchecked(block);
                for y in 0..rows {
                    let at = n * output.block.stride + pixel + (y * pass.cols + AHEAD) * LANES;
                    prefetch_tile(output.block.ptr.wrapping_add(at));
                    if let Some((mask, _)) = output.mask {
                        prefetch_tile(mask.ptr.wrapping_add(n * mask.stride + pixel + (y * pass.cols + AHEAD) * LANES));
                    }
                }
                let mut middle = [[S::zero(); 6]; 4];
                for x in 0..6 {
                    let column = output_1d::<S, F>(std::array::from_fn(|y| S::load(from.add((y * 6 + x) * step))));
                    for y in 0..4 {
                        middle[y][x] = column[y];
                    }
                }
                for y in 0..rows {
                    let values = output_1d::<S, F>(middle[y]);
                    for x in 0..cols {
                        let at = pixel + (y * pass.cols + x) * LANES;
                        pass.store::<S>(block, n, at, S::add(values[x], bias));
                    }
                }
            }
            t += 1;
        }
    }
}

/// A block of up to 16 values, zero beyond `count`.
#[inline(always)]
unsafe fn load_part<S: Simd>(from: *const f32, count: usize) -> S::V {
    // SAFETY: the caller promises `count` values.
    unsafe {
        if count == LANES {
            return S::load(from);
        }
        let mut values = [0.0; LANES];
        std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count);
        S::load(values.as_ptr())
    }
}

#[inline(always)]
unsafe fn store_part<S: Simd>(to: *mut f32, v: S::V, count: usize) {
    // SAFETY: the caller promises room for `count` values.
    unsafe {
        let mut values = [0.0; LANES];
        S::store(values.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(values.as_ptr(), to, count);
    }
}

multiversion! {
    fn pack_block_single(panels: &Panels, weights: &[f32], block: usize, to: Shared) = pack_block_generic::<Single>;
}

multiversion_of_pairs! {
    fn pack_block_pairs(panels: &Panels, weights: &[f32], block: usize, to: Shared) = pack_block_generic;
}

/// Packs the weights of input block `block` for all frequencies.
///
/// # Safety
/// `weights` is HWIO of the panels' size; no other job packs this block.
#[inline(always)]
unsafe fn pack_block_generic<S: Simd, F: Factors>(panels: &Panels, weights: &[f32], block: usize, to: Shared) {
    let (inputs, outputs) = totals(panels);
    let input = panels.inputs[block];
    for (first, blocks) in groups(panels.outputs.len(), S::PAIR) {
        for lane in 0..input.count {
            for q in 0..blocks {
                let output = panels.outputs[first + q];
                // The first channel of a block comes first in a factor, since a block has a multiple of their values.
                let row = (panels.start(first) + panels.row(block, 0, 0) * blocks * LANES) / F::VALUES + q * LANES;
                // SAFETY: inside the weights and inside the panels.
                unsafe {
                    let from = weights.as_ptr().add((input.first + lane) * outputs + output.first);
                    let load =
                        |y: usize, x: usize| load_part::<S>(from.add((y * 3 + x) * inputs * outputs), output.count);
                    transform_2d!(weight_1d, 3 => 6, load, |y: usize, x: usize, v| {
                        let to = to.at((y * 6 + x) * panels.len() / F::VALUES + row);
                        F::store_next::<S>(to, blocks * LANES, lane, S::flush(v))
                    });
                }
            }
        }
    }
}

/// Packs weights as `[frequency]` panels, into the first `FREQUENCIES / values of a factor` parts of `to`.
pub(super) fn pack(level: Level, rounding: Rounding, panels: &Panels, weights: &[f32], to: &mut Buffer) {
    to.grow(FREQUENCIES * panels.len() / rounding.values());
    let (inputs, outputs) = totals(panels);
    assert_eq!(weights.len(), 9 * inputs * outputs, "weights of another size than the convolution");
    let to = Shared::new(to.as_mut_slice());
    for_each_job(panels.inputs.len(), |block| {
        // SAFETY: each job has an input block of its own; sizes as asserted.
        unsafe {
            match rounding {
                Rounding::None => pack_block_single(level, panels, weights, block, to),
                Rounding::Bf16 => pack_block_pairs(level, panels, weights, block, to),
            }
        }
    });
}

multiversion! {
    fn unpack_block_single(panels: &Panels, parts: &[f32], stride: usize, chunks: usize, block: usize, to: Shared)
        = unpack_block_generic::<Single>;
}

// Nothing is rounded here: only the points are those of pairs.
multiversion! {
    fn unpack_block_pairs(panels: &Panels, parts: &[f32], stride: usize, chunks: usize, block: usize, to: Shared)
        = unpack_block_generic::<Pair>;
}

/// Adds up the chunks of input block `block` and transforms them into weight gradients (HWIO).
///
/// # Safety
/// `parts` holds `chunks` buffers `stride` apart; no other job writes the gradients of this block's channels.
#[inline(always)]
unsafe fn unpack_block_generic<S: Simd, F: Factors>(
    panels: &Panels,
    parts: &[f32],
    stride: usize,
    chunks: usize,
    block: usize,
    to: Shared,
) {
    let (inputs, outputs) = totals(panels);
    let input = panels.inputs[block];
    for (first, blocks) in groups(panels.outputs.len(), S::PAIR) {
        for lane in 0..input.count {
            for q in 0..blocks {
                let output = panels.outputs[first + q];
                let row = panels.start(first) + (panels.row(block, 0, lane) * blocks + q) * LANES;
                // SAFETY: inside the chunk buffers and inside the gradients.
                unsafe {
                    let load = |y: usize, x: usize| {
                        let at = parts.as_ptr().add((y * 6 + x) * panels.len() + row);
                        let mut total = S::load(at);
                        for chunk in 1..chunks {
                            total = S::add(total, S::load(at.add(chunk * stride)));
                        }
                        total
                    };
                    let at = (input.first + lane) * outputs + output.first;
                    transform_2d!(weight_gradient_1d, 6 => 3, load, |y: usize, x: usize, v| {
                        store_part::<S>(to.at((y * 3 + x) * inputs * outputs + at), v, output.count)
                    });
                }
            }
        }
    }
}

/// Adds up the chunks of a [`WinogradGradient`](super::winograd_gradient::WinogradGradient) into HWIO order.
pub(super) fn unpack(
    level: Level,
    rounding: Rounding,
    panels: &Panels,
    parts: &[f32],
    stride: usize,
    chunks: usize,
    to: &mut [f32],
) {
    let (inputs, outputs) = totals(panels);
    assert_eq!(to.len(), 9 * inputs * outputs, "gradients of another size than the convolution");
    assert!(parts.len() >= chunks * stride && stride >= FREQUENCIES * panels.len(), "chunk buffers too short");
    let to = Shared::new(to);
    for_each_job(panels.inputs.len(), |block| {
        // SAFETY: each job has input channels of its own; sizes as asserted.
        unsafe {
            match rounding {
                Rounding::None => unpack_block_single(level, panels, parts, stride, chunks, block, to),
                Rounding::Bf16 => unpack_block_pairs(level, panels, parts, stride, chunks, block, to),
            }
        }
    });
}
