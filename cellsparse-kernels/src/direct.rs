//! Direct convolution, 3x3 and 1x1, and its weight gradient.

use super::conv::Pass;
use super::map::Block;
use super::micro::{Factors, Single, for_each_run, inner_product, outer_product};
use super::multiversion::multiversion;
use super::pack::Panels;
use super::parallel::{Shared, part};
use super::prefetch::prefetch_at;
use super::simd::{LANES, Simd};
use super::thin;

multiversion! {
    /// Computes the output rows `rows.0..rows.1` of image `n`.
    ///
    /// # Safety
    /// The blocks of `pass` are valid maps of its geometry and no other job writes these rows.
    pub(super) fn forward_rows(pass: &Pass<'_>, n: usize, rows: (usize, usize)) = forward_rows_generic;
}

#[inline(always)]
unsafe fn forward_rows_generic<S: Simd>(pass: &Pass<'_>, n: usize, rows: (usize, usize)) {
    // SAFETY: passed on from the caller; the stride is that of the input blocks.
    unsafe {
        match pass.panels.lanes {
            1 => forward_groups::<S, 1>(pass, n, rows),
            2 => forward_groups::<S, 2>(pass, n, rows),
            3 => forward_groups::<S, 3>(pass, n, rows),
            _ => forward_groups::<S, LANES>(pass, n, rows),
        }
    }
}

#[inline(always)]
unsafe fn forward_groups<S: Simd, const STRIDE: usize>(pass: &Pass<'_>, n: usize, rows: (usize, usize)) {
    // SAFETY: passed on from the caller.
    unsafe {
        for y in rows.0..rows.1 {
            // What one group has read is at hand for the next.
            for (first, count) in pass.panels.groups() {
                if pass.panels.is_thin(first) {
                    for_each_run!(S, pass.width, |x, P| thin::forward_run::<S, P>(pass, n, first, y, x));
                } else if S::PAIR && count == 2 {
                    for_each_run!(S, pass.width, |x, P| forward_run::<S, P, 2, STRIDE>(pass, n, first, y, x));
                } else {
                    for_each_run!(S, pass.width, |x, P| forward_run::<S, P, 1, STRIDE>(pass, n, first, y, x));
                }
            }
        }
    }
}

/// `P` pixels of one row, `Q` output blocks.
#[inline(always)]
unsafe fn forward_run<S: Simd, const P: usize, const Q: usize, const STRIDE: usize>(
    pass: &Pass<'_>,
    n: usize,
    first: usize,
    y: usize,
    x: usize,
) {
    // SAFETY: rows y..y+kernel and columns x..x+P+kernel-1 lie within the bordered plane; the panel holds
    // `depth` rows of Q vectors.
    unsafe {
        let mut acc: [[S::V; Q]; P] =
            [std::array::from_fn(|q| S::load(pass.bias.as_ptr().add((first + q) * LANES))); P];
        let border = 1 - pass.kernel / 2;
        let segment = pass.kernel * STRIDE;
        let mut weights = pass.packed.as_ptr().add(pass.panels.start(first));
        for (block, channels) in pass.inputs.iter().zip(&pass.panels.inputs) {
            let plane = block.ptr.add(n * block.stride);
            // Lanes without a channel add nothing.
            let used = if pass.kernel == 1 { channels.count } else { segment };
            for dy in 0..pass.kernel {
                let from = plane.add(((y + dy + border) * pass.cols + x + border) * STRIDE);
                inner_product::<S, Single, P, Q>(&mut acc, (from, STRIDE), used, weights);
                if pass.kernel == 1 {
                    for p in P..2 * P {
                        prefetch_at(from.wrapping_add(p * STRIDE));
                    }
                }
                weights = weights.add(segment * Q * LANES);
            }
        }
        let pixel = ((y + 1) * pass.cols + x + 1) * LANES;
        for q in 0..Q {
            for p in 0..P {
                pass.store::<S>(first + q, n, pixel + p * LANES, acc[p][q]);
            }
        }
    }
}

/// What the weight gradient of a direct kernel reads.
pub(super) struct DirectGradient<'a> {
    pub panels: &'a Panels,
    pub kernel: usize,
    pub inputs: &'a [Block],
    pub gradients: &'a [Block],
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub cols: usize,
    /// One buffer for each chunk: the panels, then the bias gradient of every output block.
    pub parts: Shared,
    pub part_len: usize,
    pub chunks: usize,
}

multiversion! {
    /// Sums the weight and bias gradients of one chunk of the rows of all images into the chunk's buffer.
    ///
    /// # Safety
    /// The blocks are valid maps of the geometry; no other job uses this chunk's buffer.
    pub(super) fn weight_chunk(args: &DirectGradient<'_>, chunk: usize) = weight_chunk_generic;
}

#[inline(always)]
unsafe fn weight_chunk_generic<S: Simd>(args: &DirectGradient<'_>, chunk: usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        args.parts.slice(chunk * args.part_len, args.part_len).fill(0.0);
        let (begin, end) = part(args.batch * args.height, args.chunks, chunk);
        for row in begin..end {
            let (n, y) = (row / args.height, row % args.height);
            match args.panels.lanes {
                1 => weight_row::<S, 1>(args, chunk, n, y),
                2 => weight_row::<S, 2>(args, chunk, n, y),
                3 => weight_row::<S, 3>(args, chunk, n, y),
                _ => weight_row::<S, LANES>(args, chunk, n, y),
            }
        }
    }
}

#[inline(always)]
unsafe fn weight_row<S: Simd, const STRIDE: usize>(args: &DirectGradient<'_>, chunk: usize, n: usize, y: usize) {
    let border = 1 - args.kernel / 2;
    let segment = args.kernel * STRIDE;
    let pixel = ((y + 1) * args.cols + 1) * LANES;
    // SAFETY: every row read lies within the bordered planes, every sum within the chunk's buffer.
    unsafe {
        for (first, count) in args.panels.groups() {
            let gradient = |q: usize| {
                let block = &args.gradients[first + q];
                block.ptr.add(n * block.stride + pixel).cast_const()
            };
            for q in 0..count {
                let sum = args.parts.at(chunk * args.part_len + args.panels.len() + (first + q) * LANES);
                sum_vectors::<S>(sum, gradient(q), args.width);
            }
            let mut sums = args.parts.at(chunk * args.part_len + args.panels.start(first));
            if args.panels.is_thin(first) {
                thin::weight_row::<S>(args, first, sums, gradient(0), n, pixel);
                continue;
            }
            for block in args.inputs {
                for dy in 0..args.kernel {
                    let from = block.ptr.add(n * block.stride + ((y + dy + border) * args.cols + border) * STRIDE);
                    if S::PAIR && count == 2 {
                        let b = [gradient(0), gradient(1)];
                        outer_rows::<S, Single, 2>(sums, segment, (from, STRIDE), b, args.width);
                    } else {
                        outer_rows::<S, Single, 1>(sums, segment, (from, STRIDE), [gradient(0)], args.width);
                    }
                    sums = sums.add(segment * count * LANES);
                }
            }
        }
    }
}

/// `outer_product` for `rows` rows of sums, as many at a time as the registers hold.
///
/// # Safety
/// As [`outer_product`], for `rows` rows.
#[inline(always)]
pub(super) unsafe fn outer_rows<S: Simd, F: Factors, const Q: usize>(
    sums: *mut f32,
    rows: usize,
    (a, stride): (*const f32, usize),
    b: [*const f32; Q],
    count: usize,
) {
    let width = Q * LANES;
    let mut row = 0;
    // SAFETY: passed on from the caller; rows beyond `row` are still inside the panel.
    unsafe {
        if S::PAIR {
            while rows - row >= 8 {
                outer_product::<S, F, 8, Q>(sums.add(row * width), width, (a.add(row), stride), b, count);
                row += 8;
            }
        }
        while rows - row >= 4 {
            outer_product::<S, F, 4, Q>(sums.add(row * width), width, (a.add(row), stride), b, count);
            row += 4;
        }
        while rows - row >= 3 {
            outer_product::<S, F, 3, Q>(sums.add(row * width), width, (a.add(row), stride), b, count);
            row += 3;
        }
        while row < rows {
            outer_product::<S, F, 1, Q>(sums.add(row * width), width, (a.add(row), stride), b, count);
            row += 1;
        }
    }
}

/// Adds `count` vectors to the vector at `sum`.
#[inline(always)]
unsafe fn sum_vectors<S: Simd>(sum: *mut f32, from: *const f32, count: usize) {
    // SAFETY: the caller promises `count` vectors at `from` and one at `sum`.
    unsafe {
        let mut acc = S::load(sum);
        for i in 0..count {
            acc = S::add(acc, S::load(from.add(i * LANES)));
        }
        S::store(sum, acc);
    }
}
