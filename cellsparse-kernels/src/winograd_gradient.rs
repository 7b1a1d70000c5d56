//! The weight gradient of a Winograd convolution: for each frequency, the sum over all tiles of transformed inputs times transformed gradients.
//!
//! Where maps are large and panels small, chunks of tile rows are transformed and summed at once, while they are in the cache, each into
//! panels of its own. Where panels are large, clearing and adding up several would take longer than the products: then all tiles are
//! transformed first, and each frequency is summed by itself.

use super::direct::outer_rows;
use super::map::Block;
use super::micro::{Factors, Rounding, Single};
use super::multiversion::{multiversion, multiversion_of_pairs};
use super::pack::{Panels, groups};
use super::parallel::{Shared, for_each_job, part};
use super::simd::{LANES, Level, Simd};
use super::winograd::{FREQUENCIES, Tiles, frequency_step, gradient_tiles, input_tiles};

/// What the weight gradient reads and writes.
pub(super) struct WinogradGradient<'a> {
    pub rounding: Rounding,
    pub panels: &'a Panels,
    pub inputs: &'a [Block],
    pub gradients: &'a [Block],
    pub batch: usize,
    pub tiles: Tiles,
    pub cols: usize,
    /// One buffer for each chunk: the panels of every frequency, then the bias gradient of every output block. With a single chunk its
    /// transformed tiles follow.
    pub parts: Shared,
    pub part_len: usize,
    pub chunks: usize,
    /// Tile rows that are transformed at a time where there are several chunks.
    pub rows_at_a_time: usize,
}

/// A part of the work that others can be done beside.
#[derive(Clone, Copy)]
enum Job {
    /// The sums of a chunk.
    Chunk(usize),
    /// The transformed tiles of a block of the inputs, or after those of the gradients.
    Block(usize),
    /// The sums of a frequency over all tiles.
    Frequency(usize),
}

impl WinogradGradient<'_> {
    /// Values of so many transformed tiles of all blocks of inputs and outputs.
    pub fn transformed(rounding: Rounding, inputs: usize, outputs: usize, tiles: usize) -> usize {
        let places = rounding.places(tiles);
        FREQUENCIES * (frequency_step(inputs * places) + frequency_step(outputs * places))
    }

    /// Sums into the buffers of all chunks. `with_scratch` lends a job memory of that many values.
    ///
    /// # Safety
    /// The blocks are valid maps of the geometry, and `parts` has the buffers.
    pub unsafe fn run(&self, level: Level, with_scratch: impl Fn(usize, &mut dyn FnMut(&mut [f32])) + Sync) {
        let (inputs, outputs) = (self.inputs.len(), self.gradients.len());
        let run = |job: Job, scratch: &mut [f32]| {
            // SAFETY: the caller's promise; jobs of one kind write chunks, blocks or frequencies of their own.
            unsafe {
                match self.rounding {
                    Rounding::None => job_single(level, self, job, scratch),
                    Rounding::Bf16 => job_pairs(level, self, job, scratch),
                }
            }
        };
        if self.chunks == 1 {
            for_each_job(inputs + outputs, |block| run(Job::Block(block), &mut []));
            for_each_job(FREQUENCIES, |frequency| run(Job::Frequency(frequency), &mut []));
        } else {
            let scratch = Self::transformed(self.rounding, inputs, outputs, self.rows_at_a_time * self.tiles.cols);
            for_each_job(self.chunks, |chunk| with_scratch(scratch, &mut |scratch| run(Job::Chunk(chunk), scratch)));
        }
    }

    /// Tile rows of all images.
    fn rows(&self) -> usize {
        self.batch * self.tiles.rows
    }

    /// Places that the tiles of so many tile rows take in a block.
    fn places(&self, rows: usize) -> usize {
        self.rounding.places(rows * self.tiles.cols)
    }
}

multiversion! {
    fn job_single(args: &WinogradGradient<'_>, job: Job, scratch: &mut [f32]) = job_generic::<Single>;
}

multiversion_of_pairs! {
    fn job_pairs(args: &WinogradGradient<'_>, job: Job, scratch: &mut [f32]) = job_generic;
}

/// # Safety
/// The blocks are valid maps of the geometry; no other job uses this chunk, block or frequency; `scratch` is long enough.
#[inline(always)]
unsafe fn job_generic<S: Simd, F: Factors>(args: &WinogradGradient<'_>, job: Job, scratch: &mut [f32]) {
    // SAFETY: passed on from the caller.
    unsafe {
        match job {
            Job::Chunk(chunk) => sum_chunk::<S, F>(args, chunk, scratch),
            Job::Block(block) => {
                let biases = args.parts.at(FREQUENCIES * args.panels.len());
                if let Some(output) = block.checked_sub(args.inputs.len()) {
                    args.parts.slice(FREQUENCIES * args.panels.len() + output * LANES, LANES).fill(0.0);
                }
                transform_block::<S, F>(args, block, (0, args.rows()), args.parts.at(args.part_len), biases);
            }
            Job::Frequency(f) => {
                args.parts.slice(f * args.panels.len(), args.panels.len()).fill(0.0);
                let transformed = args.parts.at(args.part_len);
                sum_frequency::<S, F>(args, f, transformed, args.places(args.rows()), args.parts.at(0));
            }
        }
    }
}

#[inline(always)]
unsafe fn sum_chunk<S: Simd, F: Factors>(args: &WinogradGradient<'_>, chunk: usize, scratch: &mut [f32]) {
    // SAFETY: passed on from the caller.
    unsafe {
        args.parts.slice(chunk * args.part_len, args.part_len).fill(0.0);
        let sums = args.parts.at(chunk * args.part_len);
        let biases = sums.add(FREQUENCIES * args.panels.len());
        let (mut begin, end) = part(args.rows(), args.chunks, chunk);
        while begin < end {
            let range = (begin, end.min(begin + args.rows_at_a_time));
            for block in 0..args.inputs.len() + args.gradients.len() {
                transform_block::<S, F>(args, block, range, scratch.as_mut_ptr(), biases);
            }
            for f in 0..FREQUENCIES {
                sum_frequency::<S, F>(args, f, scratch.as_ptr(), args.places(range.1 - range.0), sums);
            }
            begin = range.1;
        }
    }
}

/// Transforms the tile rows `range` of a block of the inputs or, after those, of the gradients, to `[frequency][block][tiles][16]` of the
/// inputs and then of the gradients; adds gradients to `biases`.
#[inline(always)]
unsafe fn transform_block<S: Simd, F: Factors>(
    args: &WinogradGradient<'_>,
    block: usize,
    range: (usize, usize),
    to: *mut f32,
    biases: *mut f32,
) {
    let (inputs, outputs) = (args.inputs.len(), args.gradients.len());
    let places = args.places(range.1 - range.0);
    let (step, gradient_step) = (frequency_step(inputs * places), frequency_step(outputs * places));
    // SAFETY: `to` and `biases` have the layout above.
    unsafe {
        if let Some(output) = block.checked_sub(inputs) {
            let to = to.add(FREQUENCIES * step + output * places);
            let bias = biases.add(output * LANES);
            let to = (to, gradient_step);
            gradient_tiles::<S, F>(&args.gradients[output], args.tiles, args.cols, range, bias, to);
        } else {
            let to = to.add(block * places);
            input_tiles::<S, F, false>(&args.inputs[block], args.tiles, args.cols, range, (to, step));
        }
    }
}

/// Adds the products of all tiles of one frequency to its panels among those at `sums`; a block has `places` places.
#[inline(always)]
unsafe fn sum_frequency<S: Simd, F: Factors>(
    args: &WinogradGradient<'_>,
    f: usize,
    transformed: *const f32,
    places: usize,
    sums: *mut f32,
) {
    let (inputs, outputs) = (args.inputs.len(), args.gradients.len());
    let (step, gradient_step) = (frequency_step(inputs * places), frequency_step(outputs * places));
    // SAFETY: the layout that `transform_block` writes.
    unsafe {
        let a = transformed.add(f * step);
        let b = transformed.add(FREQUENCIES * step + f * gradient_step);
        let sums = sums.add(f * args.panels.len());
        for (first, blocks) in groups(outputs, S::PAIR) {
            let sums = sums.add(args.panels.start(first));
            for i in 0..inputs {
                let sums = sums.add(i * LANES * blocks * LANES);
                let a = (a.add(i * places), LANES);
                let b0 = b.add(first * places);
                if blocks == 2 {
                    outer_rows::<S, F, 2>(sums, LANES, a, [b0, b0.add(places)], places / LANES);
                } else {
                    outer_rows::<S, F, 1>(sums, LANES, a, [b0], places / LANES);
                }
            }
        }
    }
}
