//! One convolution layer: packed weights, forward pass, input gradient, weight gradient.

use std::cell::RefCell;
use std::collections::TryReserveError;
use std::ops::Range;

use super::direct::{self, DirectGradient};
use super::layers::Store;
use super::map::{Block, Buffer, Layout, blocks_of, blocks_of_mut};
use super::micro::Rounding;
use super::pack::{self, Panels, channels_of};
use super::parallel::{Shared, for_each_job};
use super::simd::{LANES, Level, Simd, flush};
use super::winograd::{self, FREQUENCIES, Tiles};
use super::winograd_gradient::WinogradGradient;

/// How 3x3 convolutions are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Winograd where it pays, direct elsewhere.
    #[default]
    Fast,
    /// Direct everywhere: slower, with rounding errors ten times smaller.
    Direct,
    /// As [`Fast`](Self::Fast), and where Winograd is taken the factors of its products are rounded to bfloat16, which puts results a
    /// hundredth of their spread apart. Quicker where [`Level::is_quicker_in_bf16`] is true.
    FastBf16,
}

/// An output block of a pass and what happens when a value is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub block: Block,
    /// Added to the results: another map, or what is there already.
    pub add: Option<Block>,
    /// Results are multiplied by the slope where this map is not positive.
    pub mask: Option<(Block, f32)>,
}

/// Everything a forward kernel reads: input gradients are forward passes with transposed weights.
pub(super) struct Pass<'a> {
    pub kernel: usize,
    pub height: usize,
    pub width: usize,
    /// The rows of every image that are computed.
    pub rows: Range<usize>,
    /// Stored columns of every map.
    pub cols: usize,
    pub inputs: &'a [Block],
    pub outputs: &'a [Output],
    pub panels: &'a Panels,
    pub packed: &'a [f32],
    /// One vector for each output block.
    pub bias: &'a [f32],
    /// Slope for negative results: 0 for ReLU.
    pub slope: Option<f32>,
}

impl Pass<'_> {
    /// Stores one vector of results at `at` of image `n` of output block `block`.
    ///
    /// # Safety
    /// `at` is a pixel of the block.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(&self, block: usize, n: usize, at: usize, mut value: S::V) {
        // SAFETY: the caller's promise; masks have the geometry of their block.
        unsafe {
            let output = self.outputs.get_unchecked(block);
            let to = output.block.ptr.add(n * output.block.stride + at);
            if let Some(add) = output.add {
                value = S::add(value, S::load(add.ptr.add(n * add.stride + at)));
            }
            if let Some(slope) = self.slope {
                value = S::max(value, S::mul(value, S::set(slope)));
            }
            if let Some((mask, slope)) = output.mask {
                let sign = S::load(mask.ptr.add(n * mask.stride + at));
                value = S::select_positive(sign, value, S::mul(value, S::set(slope)));
            }
            S::store(to, value);
        }
    }
}

/// Where an input gradient goes.
pub struct Destination<'a> {
    /// The gradient map of one source.
    pub gradient: &'a mut [f32],
    /// How it is stored.
    pub store: Store<'a>,
}

/// The weights of a pass.
struct Packed<'a> {
    panels: &'a Panels,
    values: &'a Buffer,
    bias: &'a [f32],
}

/// A convolution with stride 1 and zero padding, for fixed shapes.
///
/// Several sources are read as if their channels were concatenated, and several outputs take the channels of the result one after the
/// other, so that what is read once is enough for all of them.
#[derive(Debug)]
pub struct Conv {
    level: Level,
    kernel: usize,
    /// How factors are rounded by Winograd's algorithm, where it is taken.
    winograd: Option<Rounding>,
    sources: Vec<Layout>,
    outputs: Vec<Layout>,
    forward: Panels,
    backward: Panels,
    packed: Buffer,
    packed_transposed: Buffer,
    bias: Vec<f32>,
    no_bias: Vec<f32>,
    transposed: Vec<f32>,
}

thread_local! {
    /// Transformed tiles of the job that this thread runs. It only grows, and dies with the pool's threads.
    static SCRATCH: RefCell<Buffer> = RefCell::new(Buffer::default());
}

fn with_scratch(len: usize, work: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|buffer| {
        buffer.grow(len);
        work(&mut buffer.as_mut_slice()[..len]);
    });
}

/// Bytes of transformed tiles that a job keeps at hand: they should stay in the second-level cache.
const TILE_BUDGET: usize = 1 << 19;

impl Conv {
    /// Rows and columns that are computed together, counted from the first pixel of a map.
    ///
    /// The bits of a value depend on its place in such a group and on the group with one pixel around it (Winograd), or on the
    /// pixels under its kernel alone (direct); on nothing else in the map, and not on its size.
    pub const GROUP: usize = 4;

    /// A convolution of `sources` to `outputs` with a `kernel x kernel` kernel (1 or 3).
    ///
    /// All maps have one batch, height and width. Only a single source may be narrow (fewer than 16 lanes).
    pub fn new(level: Level, method: Method, kernel: usize, sources: &[Layout], outputs: &[Layout]) -> Self {
        assert!(kernel == 1 || kernel == 3, "kernels are 1x1 or 3x3");
        assert!(!sources.is_empty() && !outputs.is_empty() && outputs.iter().all(|output| output.lanes() == LANES));
        let size = |map: &Layout| (map.batch(), map.height(), map.width());
        let same = |map: &Layout| size(map) == size(&outputs[0]);
        assert!(sources.iter().chain(outputs).all(same), "the maps of a convolution have one size");
        let narrow = sources.iter().any(|s| s.lanes() != LANES);
        assert!(!narrow || sources.len() == 1, "a narrow source stands alone");
        let winograd = match method {
            Method::Fast => Some(Rounding::None),
            Method::FastBf16 => Some(Rounding::Bf16),
            Method::Direct => None,
        };
        let winograd = winograd.filter(|_| kernel == 3 && !narrow);
        let taps = if winograd.is_some() { 1 } else { kernel * kernel };
        let pair = is_paired(level);
        let (inputs, channels) = (channels_of(sources), channels_of(outputs));
        let (lanes, has_thin) = (sources[0].lanes(), kernel == 1 && !narrow);
        Self {
            level,
            kernel,
            winograd,
            sources: sources.to_vec(),
            outputs: outputs.to_vec(),
            forward: Panels { inputs: inputs.clone(), outputs: channels.clone(), lanes, taps, pair, has_thin },
            backward: Panels {
                inputs: channels.clone(),
                outputs: inputs.clone(),
                lanes: LANES,
                taps,
                pair,
                has_thin: kernel == 1,
            },
            packed: Buffer::default(),
            packed_transposed: Buffer::default(),
            bias: vec![0.0; channels.len() * LANES],
            no_bias: vec![0.0; inputs.len().max(1) * LANES],
            transposed: Vec::new(),
        }
    }

    fn totals(&self) -> (usize, usize) {
        pack::totals(&self.forward)
    }

    /// Takes the memory that [`set_weights`](Self::set_weights) fills, and with `transposed` that of
    /// [`set_transposed_weights`](Self::set_transposed_weights), which then take none.
    ///
    /// # Errors
    /// The allocator's.
    pub fn try_reserve(&mut self, transposed: bool) -> Result<(), TryReserveError> {
        self.packed.try_grow(self.packed_len(&self.forward))?;
        if transposed {
            let (inputs, outputs) = self.totals();
            self.packed_transposed.try_grow(self.packed_len(&self.backward))?;
            self.transposed.try_reserve_exact(self.kernel * self.kernel * inputs * outputs)?;
        }
        Ok(())
    }

    /// Takes new weights (HWIO, the channels of all outputs side by side) and biases, which may be missing. Subnormal ones (below 1.2e-38)
    /// are taken as zeros, since many processors calculate a hundred times more slowly with them.
    pub fn set_weights(&mut self, weights: &[f32], bias: &[f32]) {
        let (inputs, outputs) = self.totals();
        assert_eq!(weights.len(), self.kernel * self.kernel * inputs * outputs, "weights of another size");
        assert!(bias.is_empty() || bias.len() == outputs, "biases of another size");
        for (block, channels) in self.forward.outputs.iter().enumerate() {
            let biases = bias.get(channels.first..channels.first + channels.count).unwrap_or_default();
            self.bias[block * LANES..].iter_mut().zip(biases).for_each(|(to, from)| *to = flush(*from));
        }
        if let Some(rounding) = self.winograd {
            winograd::pack(self.level, rounding, &self.forward, weights, &mut self.packed);
        } else {
            pack::pack_direct(&self.forward, weights, &mut self.packed);
        }
    }

    /// Takes weights as [`set_weights`](Self::set_weights), into memory that another convolution may have had.
    pub fn set_weights_in(&mut self, mut memory: Buffer, weights: &[f32], bias: &[f32]) {
        // Lanes beyond the channels are not written.
        memory.as_mut_slice().fill(0.0);
        self.packed = memory;
        self.set_weights(weights, bias);
    }

    /// Gives the memory of the weights of the forward pass back, until it takes others.
    pub fn take_memory(&mut self) -> Buffer {
        std::mem::take(&mut self.packed)
    }

    /// Prepares [`input_gradient`](Self::input_gradient) for these weights.
    pub fn set_transposed_weights(&mut self, weights: &[f32]) {
        let (inputs, outputs) = self.totals();
        assert_eq!(weights.len(), self.kernel * self.kernel * inputs * outputs, "weights of another size");
        self.transposed.resize(weights.len(), 0.0);
        pack::transpose(self.kernel, inputs, outputs, weights, &mut self.transposed);
        if let Some(rounding) = self.winograd {
            winograd::pack(self.level, rounding, &self.backward, &self.transposed, &mut self.packed_transposed);
        } else {
            pack::pack_direct(&self.backward, &self.transposed, &mut self.packed_transposed);
        }
    }

    /// Convolves the sources, adds the bias and the map `residual`, and multiplies negative results by `slope`
    /// (between 0 and 1; ReLU for 0). A residual has the layout of the single output.
    pub fn forward(
        &self,
        sources: &[&[f32]],
        residual: Option<&[f32]>,
        slope: Option<f32>,
        outputs: &mut [&mut [f32]],
    ) {
        self.forward_rows(0..self.shape().height(), sources, residual, slope, outputs);
    }

    /// [`forward`](Self::forward) for some rows of every image, from their sources in the rows beside them: the same bits. The other
    /// rows of the outputs stay as they are.
    ///
    /// # Panics
    /// If the rows do not begin with a [`GROUP`](Self::GROUP), or end neither with one nor with the last row.
    pub fn forward_rows(
        &self,
        rows: Range<usize>,
        sources: &[&[f32]],
        residual: Option<&[f32]>,
        slope: Option<f32>,
        outputs: &mut [&mut [f32]],
    ) {
        let height = self.shape().height();
        assert!(rows.start <= rows.end && rows.end <= height, "rows that the map does not have");
        let whole = |row: usize| row.is_multiple_of(Self::GROUP);
        assert!(whole(rows.start) && (whole(rows.end) || rows.end == height), "rows that are computed together");
        let inputs = blocks_of_all(&self.sources, sources);
        assert_eq!(outputs.len(), self.outputs.len());
        assert!(residual.is_none() || outputs.len() == 1, "a map can be added to a single output");
        let residual = residual.map(|map| blocks_of(self.shape(), map));
        let outputs: Vec<Output> = self
            .outputs
            .iter()
            .zip(outputs)
            .flat_map(|(layout, map)| blocks_of_mut(layout, map))
            .enumerate()
            .map(|(index, block)| Output { block, add: residual.as_ref().map(|map| map[index]), mask: None })
            .collect();
        let packed = Packed { panels: &self.forward, values: &self.packed, bias: &self.bias };
        self.run(&packed, rows, &inputs, &outputs, slope);
    }

    /// The gradient of the loss with respect to the sources, from those of the outputs.
    pub fn input_gradient(&self, gradients: &[&[f32]], destinations: &mut [Destination<'_>]) {
        assert_eq!(destinations.len(), self.sources.len());
        let inputs = blocks_of_all(&self.outputs, gradients);
        let mut outputs = Vec::new();
        for (layout, to) in self.sources.iter().zip(destinations) {
            assert_eq!(layout.lanes(), LANES, "the gradient of a narrow input is not computed");
            let blocks = blocks_of_mut(layout, to.gradient);
            let masks = to.store.slope.map(|slope| slope.blocks(layout, &blocks));
            for (index, block) in blocks.into_iter().enumerate() {
                let mask = masks.as_ref().map(|(masks, factor)| (masks[index], *factor));
                outputs.push(Output { block, add: to.store.accumulate.then_some(block), mask });
            }
        }
        let packed = Packed { panels: &self.backward, values: &self.packed_transposed, bias: &self.no_bias };
        self.run(&packed, 0..self.shape().height(), &inputs, &outputs, None);
    }

    /// The size that all maps have, in the layout of the first output.
    fn shape(&self) -> &Layout {
        &self.outputs[0]
    }

    fn run(&self, packed: &Packed<'_>, rows: Range<usize>, inputs: &[Block], outputs: &[Output], slope: Option<f32>) {
        assert!(packed.values.len() >= self.packed_len(packed.panels), "the weights were not set");
        let (batch, width) = (self.shape().batch(), self.shape().width());
        let pass = Pass {
            kernel: self.kernel,
            height: self.shape().height(),
            width,
            rows: rows.clone(),
            cols: self.shape().cols(),
            inputs,
            outputs,
            panels: packed.panels,
            packed: packed.values.as_slice(),
            bias: packed.bias,
            slope,
        };
        if let Some(rounding) = self.winograd {
            let tiles = Tiles::of(rows, width);
            let per_row = winograd::forward_scratch(rounding, inputs.len(), outputs.len(), tiles.cols);
            let rows = rows_at_a_time(per_row, batch * tiles.rows);
            for_each_job((batch * tiles.rows).div_ceil(rows), |job| {
                let range = (job * rows, (batch * tiles.rows).min((job + 1) * rows));
                let tiles = (range.1 - range.0) * tiles.cols;
                let values = winograd::forward_scratch(rounding, inputs.len(), outputs.len(), tiles);
                with_scratch(values, |scratch| {
                    // SAFETY: the maps were checked against their layouts; each job has tile rows of its own.
                    unsafe { winograd::forward_tiles(self.level, rounding, &pass, range, scratch) }
                });
            });
        } else {
            let step = (4096 / width).clamp(1, rows.len().max(1));
            let per_image = rows.len().div_ceil(step);
            for_each_job(batch * per_image, |job| {
                let (n, begin) = (job / per_image, rows.start + (job % per_image) * step);
                // SAFETY: the maps were checked against their layouts; each job has rows of its own.
                unsafe { direct::forward_rows(self.level, &pass, n, (begin, rows.end.min(begin + step))) }
            });
        }
    }

    /// Values of packed weights that this convolution holds once they are set, for the backward pass too if `training`.
    pub fn weight_values(&self, training: bool) -> usize {
        let (inputs, outputs) = self.totals();
        let backward = self.packed_len(&self.backward) + self.kernel * self.kernel * inputs * outputs;
        self.packed_len(&self.forward) + if training { backward } else { 0 }
    }

    /// Values that weights packed for these panels take.
    fn packed_len(&self, panels: &Panels) -> usize {
        self.winograd.map_or(panels.len(), |rounding| FREQUENCIES * panels.len() / rounding.values())
    }

    /// Values of workspace that [`weight_gradient`](Self::weight_gradient) needs.
    pub fn workspace(&self) -> usize {
        let chunks = self.chunks();
        self.part_len() * chunks + if chunks == 1 { self.transformed() } else { 0 }
    }

    /// Values of all transformed tiles of the sources and the output; 0 without Winograd.
    fn transformed(&self) -> usize {
        let Some(rounding) = self.winograd else { return 0 };
        let (inputs, outputs) = (self.forward.inputs.len(), self.forward.outputs.len());
        let shape = self.shape();
        let tiles = shape.height().div_ceil(4) * shape.width().div_ceil(4);
        WinogradGradient::transformed(rounding, inputs, outputs, shape.batch() * tiles)
    }

    fn part_len(&self) -> usize {
        let copies = if self.winograd.is_some() { FREQUENCIES } else { 1 };
        copies * self.forward.len() + self.forward.outputs.len() * LANES
    }

    /// Partial sums of a weight gradient: as many for every thread count, so that results do not depend on it.
    fn chunks(&self) -> usize {
        let shape = self.shape();
        let rows = shape.batch() * shape.height().div_ceil(4);
        let affordable = (8 << 20) / (4 * self.part_len());
        // Clearing and adding up a part costs as much as a few tiles, so each part should have many.
        let worthwhile = (rows * shape.width().div_ceil(4) / 24).max(2);
        let chunks = affordable.clamp(4, 16).min(worthwhile).min(rows.max(1));
        // All tiles at once where they take no more memory than further parts would.
        let at_once = self.winograd.is_some() && self.transformed() <= (chunks - 1) * self.part_len();
        if at_once { 1 } else { chunks }
    }

    /// The gradients of weights (HWIO) and biases, as [`set_weights`](Self::set_weights) takes them, from the sources and the gradients
    /// of the outputs.
    pub fn weight_gradient(
        &self,
        sources: &[&[f32]],
        gradients: &[&[f32]],
        weights: &mut [f32],
        bias: &mut [f32],
        workspace: &mut Buffer,
    ) {
        let (inputs, outputs) = self.totals();
        assert_eq!(weights.len(), self.kernel * self.kernel * inputs * outputs, "gradients of another size");
        assert!(bias.is_empty() || bias.len() == outputs, "bias gradients of another size");
        let (chunks, part_len) = (self.chunks(), self.part_len());
        workspace.grow(self.workspace());
        let inputs = blocks_of_all(&self.sources, sources);
        let gradients = blocks_of_all(&self.outputs, gradients);
        let parts = Shared::new(workspace.as_mut_slice());
        let (batch, height, width) = (self.shape().batch(), self.shape().height(), self.shape().width());
        let cols = self.shape().cols();
        let panels = &self.forward;
        if let Some(rounding) = self.winograd {
            let tiles = Tiles::of(0..height, width);
            let per_row = WinogradGradient::transformed(rounding, inputs.len(), gradients.len(), tiles.cols);
            let rows_at_a_time = rows_at_a_time(per_row, (batch * tiles.rows).div_ceil(chunks));
            let args = WinogradGradient {
                rounding,
                panels,
                inputs: &inputs,
                gradients: &gradients,
                batch,
                tiles,
                cols,
                parts,
                part_len,
                chunks,
                rows_at_a_time,
            };
            // SAFETY: the maps were checked against their layouts, and the work space was made as long as is said.
            unsafe { args.run(self.level, |len, work| with_scratch(len, work)) };
            winograd::unpack(self.level, rounding, panels, workspace.as_slice(), part_len, chunks, weights);
        } else {
            let args = DirectGradient {
                panels,
                kernel: self.kernel,
                inputs: &inputs,
                gradients: &gradients,
                batch,
                height,
                width,
                cols,
                parts,
                part_len,
                chunks,
            };
            for_each_job(chunks, |chunk| {
                // SAFETY: the maps were checked against their layouts; each job has a chunk of its own.
                unsafe { direct::weight_chunk(self.level, &args, chunk) }
            });
            pack::unpack_direct(panels, workspace.as_slice(), part_len, chunks, weights);
        }
        let sums = &workspace.as_slice()[part_len - panels.outputs.len() * LANES..];
        for (block, channels) in panels.outputs.iter().enumerate() {
            let values = bias.get_mut(channels.first..channels.first + channels.count).unwrap_or_default();
            for (lane, value) in values.iter_mut().enumerate() {
                *value = (0..chunks).map(|chunk| sums[chunk * part_len + block * LANES + lane]).sum();
            }
        }
    }
}

/// The blocks of several maps, one after the other, for reading only.
fn blocks_of_all(layouts: &[Layout], maps: &[&[f32]]) -> Vec<Block> {
    assert_eq!(maps.len(), layouts.len());
    layouts.iter().zip(maps).flat_map(|(layout, map)| blocks_of(layout, map)).collect()
}

/// Tile rows of a job such that its scratch memory stays within the budget.
fn rows_at_a_time(per_row: usize, rows: usize) -> usize {
    (TILE_BUDGET / (4 * per_row)).clamp(1, rows.max(1))
}

fn is_paired(level: Level) -> bool {
    match level.set() {
        #[cfg(target_arch = "x86_64")]
        super::simd::Set::Avx512 => super::simd::Avx512::<false>::PAIR,
        _ => false,
    }
}
