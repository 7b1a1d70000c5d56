//! 3x3 convolution by the Winograd algorithm F(4x4, 3x3): a quarter of the multiplications of the direct kernel.
//!
//! A tile is 4x4 output pixels and the 6x6 input pixels they depend on. A tile of input, of gradient or of weights is
//! transformed to 36 "frequencies"; between transforms, each frequency is an ordinary matrix product. The transforms
//! are those of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4.3, for the
//! interpolation points 0, 1, -1, 2, -2.

use std::ops::Range;

use super::conv::Pass;
use super::map::{Block, Buffer};
use super::micro::{for_each_run, inner_product};
use super::pack::{Panels, groups, totals};
use super::parallel::{Shared, for_each_job, part};
use super::simd::{LANES, Simd, multiversion};

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

/// `B^T d`: six values of the input to six frequencies.
#[inline(always)]
unsafe fn input_1d<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: arithmetic only.
    unsafe {
        let (two, four, five) = (S::set(2.0), S::set(4.0), S::set(5.0));
        let even = S::sub(d[4], S::mul(four, d[2]));
        let odd = S::sub(d[3], S::mul(four, d[1]));
        let near = S::sub(d[4], d[2]);
        let far = S::mul(two, S::sub(d[3], d[1]));
        [
            S::sub(S::fma(four, d[0], d[4]), S::mul(five, d[2])),
            S::add(even, odd),
            S::sub(even, odd),
            S::add(near, far),
            S::sub(near, far),
            S::sub(S::fma(four, d[1], d[5]), S::mul(five, d[3])),
        ]
    }
}

/// `A^T m`: six frequencies to four outputs.
#[inline(always)]
unsafe fn output_1d<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: arithmetic only.
    unsafe {
        let (sum1, diff1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum2, diff2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum1), sum2),
            S::fma(S::set(2.0), diff2, diff1),
            S::fma(S::set(4.0), sum2, sum1),
            S::add(S::fma(S::set(8.0), diff2, diff1), m[5]),
        ]
    }
}

/// `A g`: four gradients to six frequencies.
#[inline(always)]
unsafe fn gradient_1d<S: Simd>(g: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: arithmetic only.
    unsafe {
        let (even1, odd1) = (S::add(g[0], g[2]), S::add(g[1], g[3]));
        let even2 = S::fma(S::set(4.0), g[2], g[0]);
        let odd2 = S::mul(S::set(2.0), S::fma(S::set(4.0), g[3], g[1]));
        [g[0], S::add(even1, odd1), S::sub(even1, odd1), S::add(even2, odd2), S::sub(even2, odd2), g[3]]
    }
}

/// `G w`: three weights to six frequencies.
#[inline(always)]
unsafe fn weight_1d<S: Simd>(w: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: arithmetic only.
    unsafe {
        let sixth = S::set(-1.0 / 6.0);
        let outer = S::add(w[0], w[2]);
        let wide = S::fma(S::set(1.0 / 24.0), w[0], S::mul(S::set(1.0 / 6.0), w[2]));
        let middle = S::mul(S::set(1.0 / 12.0), w[1]);
        [
            S::mul(S::set(0.25), w[0]),
            S::mul(sixth, S::add(outer, w[1])),
            S::mul(sixth, S::sub(outer, w[1])),
            S::add(wide, middle),
            S::sub(wide, middle),
            w[2],
        ]
    }
}

/// `G^T u`: six frequencies to three weight gradients.
#[inline(always)]
unsafe fn weight_gradient_1d<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: arithmetic only.
    unsafe {
        let (sum1, diff1) = (S::add(u[1], u[2]), S::sub(u[2], u[1]));
        let (sum2, diff2) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
        let sixth = S::set(1.0 / 6.0);
        [
            S::fma(S::set(0.25), u[0], S::sub(S::mul(S::set(1.0 / 24.0), sum2), S::mul(sixth, sum1))),
            S::fma(S::set(1.0 / 12.0), diff2, S::mul(sixth, diff1)),
            S::add(u[5], S::mul(sixth, S::sub(sum2, sum1))),
        ]
    }
}

/// Applies a one-dimensional transform to the columns and then to the rows of a tile.
macro_rules! transform_2d {
    ($one:ident, $n:literal => $m:literal, $load:expr, $store:expr) => {{
        let load = $load;
        let mut middle = [[S::zero(); $n]; $m];
        for x in 0..$n {
            let column = $one::<S>(std::array::from_fn(|y| load(y, x)));
            for y in 0..$m {
                middle[y][x] = column[y];
            }
        }
        for y in 0..$m {
            let row = $one::<S>(middle[y]);
            for x in 0..$m {
                $store(y, x, row[x]);
            }
        }
    }};
}

/// Transforms the tile rows `range` of one block; frequency `f` of tile `t` goes to `to + (f * step + t) * 16`.
///
/// # Safety
/// `block` is a bordered map of `cols` columns; `to` has room for all frequencies and tiles.
#[inline(always)]
unsafe fn input_tiles<S: Simd>(
    block: &Block,
    tiles: Tiles,
    cols: usize,
    range: (usize, usize),
    to: *mut f32,
    step: usize,
) {
    let mut t = 0;
    for row in range.0..range.1 {
        let (n, ty) = tiles.place(row);
        for tx in 0..tiles.cols {
            // SAFETY: a tile's 6x6 pixels lie within the border, which reaches to the next multiple of 4, plus 2.
            unsafe {
                let from = block.ptr.add(n * block.stride + (4 * ty * cols + 4 * tx) * LANES);
                let to = to.add(t * LANES);
                transform_2d!(
                    input_1d,
                    6 => 6,
                    |y: usize, x: usize| S::load(from.add((y * cols + x) * LANES)),
                    |y: usize, x: usize, v| S::store(to.add((y * 6 + x) * step * LANES), v)
                );
            }
            t += 1;
        }
    }
}

/// Transforms the gradient tiles of one block like [`input_tiles`], and adds the gradients to `bias`.
///
/// # Safety
/// As [`input_tiles`]; `bias` holds one vector.
#[inline(always)]
unsafe fn gradient_tiles<S: Simd>(
    block: &Block,
    tiles: Tiles,
    cols: usize,
    range: (usize, usize),
    to: *mut f32,
    step: usize,
    bias: *mut f32,
) {
    let mut t = 0;
    // SAFETY: gradients beyond the image are 0 and stored up to the next multiple of 4.
    unsafe {
        let mut total = S::load(bias);
        for row in range.0..range.1 {
            let (n, ty) = tiles.place(row);
            for tx in 0..tiles.cols {
                let from = block.ptr.add(n * block.stride + ((4 * ty + 1) * cols + 4 * tx + 1) * LANES);
                let to = to.add(t * LANES);
                let mut middle = [[S::zero(); 4]; 6];
                for x in 0..4 {
                    let column = std::array::from_fn(|y| S::load(from.add((y * cols + x) * LANES)));
                    total = S::add(total, S::add(S::add(column[0], column[1]), S::add(column[2], column[3])));
                    let column = gradient_1d::<S>(column);
                    for y in 0..6 {
                        middle[y][x] = column[y];
                    }
                }
                for y in 0..6 {
                    let row = gradient_1d::<S>(middle[y]);
                    for x in 0..6 {
                        S::store(to.add((y * 6 + x) * step * LANES), row[x]);
                    }
                }
                t += 1;
            }
        }
        S::store(bias, total);
    }
}

/// Values of scratch memory that [`forward_tiles`] needs for `count` tiles.
pub(super) fn forward_scratch(inputs: usize, outputs: usize, count: usize) -> usize {
    FREQUENCIES * (inputs + outputs) * count * LANES
}

multiversion! {
    /// Computes the tile rows `range` (counted over all images).
    ///
    /// # Safety
    /// The blocks of `pass` are valid maps of its geometry, no other job writes these tiles, and `scratch` holds
    /// [`forward_scratch`] values.
    pub(super) fn forward_tiles(pass: &Pass<'_>, range: (usize, usize), scratch: &mut [f32]) = forward_tiles_generic;
}

#[inline(always)]
unsafe fn forward_tiles_generic<S: Simd>(pass: &Pass<'_>, range: (usize, usize), scratch: &mut [f32]) {
    let tiles = Tiles::of(pass.rows.clone(), pass.width);
    let count = (range.1 - range.0) * tiles.cols;
    let inputs = pass.inputs.len();
    let outputs = pass.outputs.len();
    let (transformed, products) = scratch.split_at_mut(FREQUENCIES * inputs * count * LANES);
    // SAFETY: the caller's promises; `scratch` is laid out as [frequency][block][tile][16], twice.
    unsafe {
        for (i, block) in pass.inputs.iter().enumerate() {
            let to = transformed.as_mut_ptr().add(i * count * LANES);
            input_tiles::<S>(block, tiles, pass.cols, range, to, inputs * count);
        }
        for f in 0..FREQUENCIES {
            let from = transformed.as_ptr().add(f * inputs * count * LANES);
            let to = products.as_mut_ptr().add(f * outputs * count * LANES);
            let weights = pass.packed.as_ptr().add(f * pass.panels.len());
            for (first, blocks) in groups(outputs, S::PAIR) {
                let weights = weights.add(pass.panels.start(first));
                let to = to.add(first * count * LANES);
                if blocks == 2 {
                    for_each_run!(S, count, |t, P| product::<S, P, 2>(from, weights, to, inputs, count, t));
                } else {
                    for_each_run!(S, count, |t, P| product::<S, P, 1>(from, weights, to, inputs, count, t));
                }
            }
        }
        for block in 0..outputs {
            output_tiles::<S>(pass, block, tiles, range, products.as_ptr().add(block * count * LANES), count);
        }
    }
}

/// `P` tiles of one frequency, `Q` output blocks.
#[inline(always)]
unsafe fn product<S: Simd, const P: usize, const Q: usize>(
    from: *const f32,
    weights: *const f32,
    to: *mut f32,
    inputs: usize,
    count: usize,
    t: usize,
) {
    // SAFETY: the caller's layout: [block][tile][16] on both sides, panels of 16 rows of Q vectors.
    unsafe {
        let mut acc = [[S::zero(); Q]; P];
        for i in 0..inputs {
            let weights = weights.add(i * LANES * Q * LANES);
            inner_product::<S, P, Q, LANES>(&mut acc, from.add((i * count + t) * LANES), LANES, weights);
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
unsafe fn output_tiles<S: Simd>(
    pass: &Pass<'_>,
    block: usize,
    tiles: Tiles,
    range: (usize, usize),
    from: *const f32,
    count: usize,
) {
    let step = pass.outputs.len() * count;
    let mut t = 0;
    for row in range.0..range.1 {
        let (n, ty) = tiles.place(row);
        let rows = 4.min(pass.height - 4 * ty);
        for tx in 0..tiles.cols {
            let cols = 4.min(pass.width - 4 * tx);
            let pixel = ((4 * ty + 1) * pass.cols + 4 * tx + 1) * LANES;
            // SAFETY: `from` is [frequency][block][tile][16]; only pixels of the image are stored.
            unsafe {
                let bias = S::load(pass.bias.as_ptr().add(block * LANES));
                let from = from.add(t * LANES);
                let mut middle = [[S::zero(); 6]; 4];
                for x in 0..6 {
                    let column = output_1d::<S>(std::array::from_fn(|y| S::load(from.add((y * 6 + x) * step * LANES))));
                    for y in 0..4 {
                        middle[y][x] = column[y];
                    }
                }
                for y in 0..rows {
                    let values = output_1d::<S>(middle[y]);
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

/// What the weight gradient reads and writes.
pub(super) struct WinogradGradient<'a> {
    pub panels: &'a Panels,
    pub inputs: &'a [Block],
    pub gradients: &'a [Block],
    pub batch: usize,
    pub tiles: Tiles,
    pub cols: usize,
    /// One buffer for each chunk: the panels of every frequency, then the bias gradient of every output block.
    pub parts: Shared,
    pub part_len: usize,
    pub chunks: usize,
    /// Tile rows that are transformed at a time.
    pub rows_at_a_time: usize,
}

impl WinogradGradient<'_> {
    /// Values of scratch memory for one job.
    pub fn scratch(&self) -> usize {
        FREQUENCIES * (self.inputs.len() + self.gradients.len()) * self.rows_at_a_time * self.tiles.cols * LANES
    }
}

multiversion! {
    /// Sums the transformed weight gradient and the bias gradient of one chunk of tile rows into the chunk's buffer.
    ///
    /// # Safety
    /// The blocks are valid maps of the geometry; no other job uses this chunk's buffer; `scratch` is long enough.
    pub(super) fn weight_chunk(args: &WinogradGradient<'_>, chunk: usize, scratch: &mut [f32]) = weight_chunk_generic;
}

#[inline(always)]
unsafe fn weight_chunk_generic<S: Simd>(args: &WinogradGradient<'_>, chunk: usize, scratch: &mut [f32]) {
    let (inputs, outputs) = (args.inputs.len(), args.gradients.len());
    // SAFETY: the caller's promises; scratch is laid out as [frequency][block][tile][16], twice.
    unsafe {
        args.parts.slice(chunk * args.part_len, args.part_len).fill(0.0);
        let sums = args.parts.at(chunk * args.part_len);
        let biases = sums.add(FREQUENCIES * args.panels.len());
        let (mut begin, end) = part(args.batch * args.tiles.rows, args.chunks, chunk);
        while begin < end {
            let range = (begin, end.min(begin + args.rows_at_a_time));
            let count = (range.1 - range.0) * args.tiles.cols;
            let (transformed, gradients) = scratch.split_at_mut(FREQUENCIES * inputs * count * LANES);
            for (i, block) in args.inputs.iter().enumerate() {
                let to = transformed.as_mut_ptr().add(i * count * LANES);
                input_tiles::<S>(block, args.tiles, args.cols, range, to, inputs * count);
            }
            for (o, block) in args.gradients.iter().enumerate() {
                let to = gradients.as_mut_ptr().add(o * count * LANES);
                let bias = biases.add(o * LANES);
                gradient_tiles::<S>(block, args.tiles, args.cols, range, to, outputs * count, bias);
            }
            for f in 0..FREQUENCIES {
                let a = transformed.as_ptr().add(f * inputs * count * LANES);
                let b = gradients.as_ptr().add(f * outputs * count * LANES);
                accumulate::<S>(args.panels, sums.add(f * args.panels.len()), a, b, count);
            }
            begin = range.1;
        }
    }
}

/// Adds the products of all tiles of one frequency to the panels at `sums`.
#[inline(always)]
unsafe fn accumulate<S: Simd>(panels: &Panels, sums: *mut f32, a: *const f32, b: *const f32, count: usize) {
    // SAFETY: the caller's layout: [block][tile][16] on both sides.
    unsafe {
        for (first, blocks) in groups(panels.outputs.len(), S::PAIR) {
            let sums = sums.add(panels.start(first));
            for i in 0..panels.inputs.len() {
                let sums = sums.add(i * LANES * blocks * LANES);
                let a = a.add(i * count * LANES);
                let b0 = b.add(first * count * LANES);
                if blocks == 2 {
                    let b = [b0, b0.add(count * LANES)];
                    super::direct::outer_rows::<S, 2, LANES>(sums, LANES, a, b, count);
                } else {
                    super::direct::outer_rows::<S, 1, LANES>(sums, LANES, a, [b0], count);
                }
            }
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
    /// Packs the weights of input block `block` for all frequencies.
    ///
    /// # Safety
    /// `weights` is HWIO of the panels' size; no other job packs this block.
    fn pack_block(panels: &Panels, weights: &[f32], block: usize, to: Shared) = pack_block_generic;
}

#[inline(always)]
unsafe fn pack_block_generic<S: Simd>(panels: &Panels, weights: &[f32], block: usize, to: Shared) {
    let (inputs, outputs) = totals(panels);
    let input = panels.inputs[block];
    for (first, blocks) in groups(panels.outputs.len(), S::PAIR) {
        for lane in 0..input.count {
            for q in 0..blocks {
                let output = panels.outputs[first + q];
                let row = panels.start(first) + (panels.row(block, 0, lane) * blocks + q) * LANES;
                // SAFETY: inside the weights and inside the panels.
                unsafe {
                    let from = weights.as_ptr().add((input.first + lane) * outputs + output.first);
                    let load =
                        |y: usize, x: usize| load_part::<S>(from.add((y * 3 + x) * inputs * outputs), output.count);
                    transform_2d!(weight_1d, 3 => 6, load, |y: usize, x: usize, v| {
                        S::store(to.at((y * 6 + x) * panels.len() + row), S::flush(v))
                    });
                }
            }
        }
    }
}

/// Packs weights as `[frequency]` panels.
pub(super) fn pack(level: super::simd::Level, panels: &Panels, weights: &[f32], to: &mut Buffer) {
    to.grow(FREQUENCIES * panels.len());
    let (inputs, outputs) = totals(panels);
    assert_eq!(weights.len(), 9 * inputs * outputs, "weights of another size than the convolution");
    let to = Shared::new(to.as_mut_slice());
    for_each_job(panels.inputs.len(), |block| {
        // SAFETY: each job has an input block of its own; sizes as asserted.
        unsafe { pack_block(level, panels, weights, block, to) }
    });
}

multiversion! {
    /// Adds up the chunks of input block `block` and transforms them into weight gradients (HWIO).
    ///
    /// # Safety
    /// `parts` holds `chunks` buffers `stride` apart; no other job writes the gradients of this block's channels.
    fn unpack_block(panels: &Panels, parts: &[f32], stride: usize, chunks: usize, block: usize, to: Shared)
        = unpack_block_generic;
}

#[inline(always)]
unsafe fn unpack_block_generic<S: Simd>(
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

/// Adds up the chunks of a [`WinogradGradient`] into HWIO order.
pub(super) fn unpack(
    level: super::simd::Level,
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
        unsafe { unpack_block(level, panels, parts, stride, chunks, block, to) }
    });
}
