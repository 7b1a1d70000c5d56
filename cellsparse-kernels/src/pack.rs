//! Weights in the order in which the kernels read them, and gradients back into the order of the network.
//!
//! Weights outside this room are `[kernel, kernel, input, output]` (HWIO, the order of Keras).

use super::map::{Buffer, Layout};
use super::parallel::{Shared, for_each_job};
use super::simd::{LANES, flush};

/// The channels that a channel block holds: the first one and how many. Lanes beyond them are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channels {
    pub first: usize,
    pub count: usize,
}

/// The channel blocks of one map, or of several maps that are concatenated.
pub(super) fn channels_of(maps: &[Layout]) -> Vec<Channels> {
    let mut blocks = Vec::new();
    let mut first = 0;
    for map in maps {
        for block in 0..map.blocks() {
            let count = map.lanes().min(map.channels() - block * map.lanes());
            blocks.push(Channels { first: first + block * map.lanes(), count });
        }
        first += map.channels();
    }
    blocks
}

/// Output blocks that are computed together, none being thin: the first one and how many (1 or 2).
pub(super) fn groups(blocks: usize, pair: bool) -> impl Iterator<Item = (usize, usize)> + Clone {
    let size = if pair { 2 } else { 1 };
    (0..blocks).step_by(size).map(move |first| (first, size.min(blocks - first)))
}

/// The shape of packed weights: `[group][k][blocks in the group * 16]`, where `k` counts input values; `[channel][k]` in the place of a thin
/// output block.
#[derive(Debug, Clone)]
pub(super) struct Panels {
    pub inputs: Vec<Channels>,
    pub outputs: Vec<Channels>,
    /// Lanes of an input block.
    pub lanes: usize,
    /// Kernel positions that share one panel (9 or 1 for direct kernels; 1 for each Winograd frequency).
    pub taps: usize,
    pub pair: bool,
    /// Whether output blocks of few channels are [thin](Self::is_thin).
    pub has_thin: bool,
}

/// Channels of an output block that are as quickly summed one by one.
const THIN: usize = 4;

impl Panels {
    /// Input values that reach one output.
    pub fn depth(&self) -> usize {
        self.inputs.len() * self.taps * self.lanes
    }

    /// Values of all panels.
    pub fn len(&self) -> usize {
        self.depth() * self.outputs.len() * LANES
    }

    /// Where the panel of the group that begins with output block `first` lies.
    pub fn start(&self, first: usize) -> usize {
        self.depth() * first * LANES
    }

    /// Whether the weights of an output block lie channel by channel: of its sixteen lanes, products would use only few.
    pub fn is_thin(&self, output: usize) -> bool {
        self.has_thin && self.outputs[output].count <= THIN
    }

    /// Output blocks that are computed together: the first one and how many (1 or 2). Thin ones come last, when the products of others
    /// have left time to fetch what they read.
    pub fn groups(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let is_wide = move |block: usize| block < self.outputs.len() && !self.is_thin(block);
        let of = move |first: usize| {
            let pairs = self.pair && is_wide(first) && is_wide(first + 1);
            (first < self.outputs.len()).then_some((first, 1 + usize::from(pairs)))
        };
        let all = move || std::iter::successors(of(0), move |(first, count)| of(first + count));
        all().filter(move |group| is_wide(group.0)).chain(all().filter(move |group| !is_wide(group.0)))
    }

    /// Where the weights from row `row` to the channels of block `q` of a group lie in its panel: the first one, and the step to the next.
    fn place(&self, (first, count): (usize, usize), row: usize, q: usize) -> (usize, usize) {
        if self.is_thin(first) { (row, self.depth()) } else { ((row * count + q) * LANES, 1) }
    }

    /// Row within a panel: block of the input, position of the kernel, lane.
    pub fn row(&self, block: usize, tap: usize, lane: usize) -> usize {
        (block * self.taps + tap) * self.lanes + lane
    }
}

/// The kernel turned by 180 degrees with input and output exchanged: what the input gradient convolves with.
pub(super) fn transpose(kernel: usize, inputs: usize, outputs: usize, weights: &[f32], to: &mut [f32]) {
    let taps = kernel * kernel;
    let to = Shared::new(to);
    for_each_job(taps, |tap| {
        let from = &weights[tap * inputs * outputs..][..inputs * outputs];
        // SAFETY: each job has a kernel position of its own.
        let to = unsafe { to.slice((taps - 1 - tap) * inputs * outputs, inputs * outputs) };
        for i in 0..inputs {
            for o in 0..outputs {
                to[o * inputs + i] = from[i * outputs + o];
            }
        }
    });
}

/// Packs weights for the direct kernels.
pub(super) fn pack_direct(panels: &Panels, weights: &[f32], to: &mut Buffer) {
    let (inputs, outputs) = totals(panels);
    to.grow(panels.len());
    let to = Shared::new(to.as_mut_slice());
    let groups: Vec<_> = panels.groups().collect();
    for_each_job(groups.len(), |job| {
        let (first, count) = groups[job];
        // SAFETY: each job has a panel of its own.
        let panel = unsafe { to.slice(panels.start(first), panels.depth() * count * LANES) };
        for (block, input) in panels.inputs.iter().enumerate() {
            for tap in 0..panels.taps {
                for lane in 0..input.count {
                    let from = &weights[(tap * inputs + input.first + lane) * outputs..][..outputs];
                    for (q, output) in panels.outputs[first..first + count].iter().enumerate() {
                        let (place, step) = panels.place((first, count), panels.row(block, tap, lane), q);
                        let from = &from[output.first..][..output.count];
                        let to = panel[place..].iter_mut().step_by(step);
                        to.zip(from).for_each(|(to, from)| *to = flush(*from));
                    }
                }
            }
        }
    });
}

/// Adds up the partial weight gradients of `chunks` buffers (panels, `stride` values apart) into HWIO order.
pub(super) fn unpack_direct(panels: &Panels, parts: &[f32], stride: usize, chunks: usize, to: &mut [f32]) {
    let (inputs, outputs) = totals(panels);
    let to = Shared::new(to);
    let groups: Vec<_> = panels.groups().collect();
    for_each_job(panels.inputs.len(), |block| {
        let input = panels.inputs[block];
        for &(first, count) in &groups {
            for tap in 0..panels.taps {
                for lane in 0..input.count {
                    for (q, output) in panels.outputs[first..first + count].iter().enumerate() {
                        let (place, step) = panels.place((first, count), panels.row(block, tap, lane), q);
                        let at = (tap * inputs + input.first + lane) * outputs + output.first;
                        // SAFETY: each job has input channels of its own.
                        let to = unsafe { to.slice(at, output.count) };
                        for (o, to) in to.iter_mut().enumerate() {
                            let at = panels.start(first) + place + o * step;
                            *to = (0..chunks).map(|chunk| parts[chunk * stride + at]).sum();
                        }
                    }
                }
            }
        }
    });
}

/// Input and output channels of the whole convolution.
pub(super) fn totals(panels: &Panels) -> (usize, usize) {
    let end = |blocks: &[Channels]| blocks.last().map_or(0, |last| last.first + last.count);
    (end(&panels.inputs), end(&panels.outputs))
}
