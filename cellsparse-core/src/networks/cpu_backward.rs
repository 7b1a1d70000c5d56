//! The backward pass of [`CpuPlan`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use cellsparse_kernels::{
    ActivationDerivative, Buffer, Conv, Destination, Layout, Level, Store, affine_gradient, channel_products,
    max_pool_gradient, stopping_when, upsample_gradient, with_team,
};

use super::cpu::{CpuPlan, NodeTimes, length, vector};
use super::graph::{Activation, Graph, NodeId, Op};
use super::heads;
use super::memory::{NO_SLOT, Pool};
use super::normalization::ChannelMoments;
use super::weights::Weights;
use crate::control::CancelToken;
use crate::error::Result;

impl CpuPlan {
    /// Computes the gradients of all parameters from those of the outputs (`[batch, height, width, channels]` each). The maps
    /// of the forward pass are used up.
    ///
    /// `gradients` has one buffer for each parameter; those of moving statistics are left alone.
    pub fn backward(&mut self, weights: &Weights, outputs: &[&[f32]], gradients: &mut [Vec<f32>]) {
        // A token that nobody can raise.
        let _ = self.backward_until(weights, outputs, gradients, &CancelToken::new());
    }

    /// As [`backward`](Self::backward), and ends within a layer when `cancel` is raised: `gradients` are then unfinished.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn backward_until(
        &mut self,
        weights: &Weights,
        outputs: &[&[f32]],
        gradients: &mut [Vec<f32>],
        cancel: &CancelToken,
    ) -> Result<()> {
        let graph = Arc::clone(&self.graph);
        let mut pass = Backward {
            graph: &graph,
            level: self.level,
            layouts: &self.layouts,
            offsets: &self.offsets,
            passes: &self.passes,
            convs: &self.convs,
            moments: &self.moments,
            maps: &mut self.maps,
            slots: &self.slots,
            workspace: &mut self.workspace,
            pending: vec![Pending::default(); self.layouts.len()],
            weights,
            parameters: gradients,
            times: &mut self.times,
        };
        let asked = cancel.clone();
        let ended = with_team(|| stopping_when(move || asked.is_cancelled(), || pass.run(outputs, cancel)));
        self.maps.reset();
        ended
    }

    /// Hands out the buffers of a backward pass, in the order of [`Backward`], so that their sizes are known before there is
    /// any memory.
    pub(super) fn plan_backward(&mut self) {
        let graph = Arc::clone(&self.graph);
        let nodes = self.layouts.len();
        let mut pending = vec![Pending::default(); nodes];
        for id in (0..nodes).filter(|&id| self.slots[id] != NO_SLOT && !self.passes[id].is_empty()) {
            graph.reads(id).into_iter().for_each(|source| pending[source].missing += 1);
        }
        for &node in graph.outputs() {
            pending[node].slot = Some(match pending[node].missing {
                0 => self.slots[node],
                _ => self.maps.acquire(&self.layouts[node]),
            });
        }
        for id in (1..nodes).rev() {
            let slots: Vec<usize> = self.passes[id].clone().filter_map(|node| pending[node].slot.take()).collect();
            if slots.is_empty() {
                continue;
            }
            let sources = graph.sources(id);
            let passed = if sources.contains(&0) { &[][..] } else { &sources[..] };
            for &node in graph.addend(id).iter().chain(passed).filter(|node| **node != 0) {
                let state = &mut pending[node];
                state.missing -= 1;
                if state.slot.is_none() {
                    let in_place = state.missing == 0;
                    let slot = if in_place { self.slots[node] } else { self.maps.acquire(&self.layouts[node]) };
                    state.slot = Some(slot);
                }
            }
            for (node, slot) in self.passes[id].clone().zip(slots) {
                self.maps.release(slot);
                if slot != self.slots[node] {
                    self.maps.release(self.slots[node]);
                }
            }
        }
        self.maps.reset();
    }
}

/// Where the gradient of a node stands.
#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    /// Its buffer. A node that is read once has its gradient where its values were.
    slot: Option<usize>,
    /// Passes that read the node and have not added their part yet.
    missing: usize,
}

/// A gradient that a reader adds to, taken out of the pool.
struct GradientSlot {
    slot: usize,
    buffer: Buffer,
    accumulate: bool,
    /// Whether the values of the node are in the buffer still.
    in_place: bool,
    /// The slope of the node's activation, once all readers have added their part.
    slope: Option<f32>,
}

struct Backward<'a> {
    graph: &'a Graph,
    level: Level,
    layouts: &'a [Layout],
    offsets: &'a [usize],
    passes: &'a [Range<NodeId>],
    convs: &'a [Option<Conv>],
    moments: &'a [ChannelMoments],
    maps: &'a mut Pool,
    slots: &'a [usize],
    workspace: &'a mut Buffer,
    pending: Vec<Pending>,
    weights: &'a Weights,
    parameters: &'a mut [Vec<f32>],
    times: &'a mut [NodeTimes],
}

impl<'a> Backward<'a> {
    fn run(&mut self, outputs: &[&[f32]], cancel: &CancelToken) -> Result<()> {
        for id in 0..self.layouts.len() {
            if self.slots[id] != NO_SLOT && !self.passes[id].is_empty() {
                self.graph.reads(id).into_iter().for_each(|source| self.pending[source].missing += 1);
            }
        }
        for (&node, gradient) in self.graph.outputs().iter().zip(outputs) {
            let slot = match self.pending[node].missing {
                0 => self.slots[node],
                _ => self.maps.acquire(&self.layouts[node]),
            };
            self.layouts[node].pack(gradient, self.maps.slice_mut(slot));
            self.pending[node].slot = Some(slot);
        }
        for id in (1..self.layouts.len()).rev() {
            let pass = self.passes[id].clone();
            let slots: Vec<usize> = pass.clone().filter_map(|node| self.pending[node].slot.take()).collect();
            if slots.is_empty() {
                continue;
            }
            cancel.check()?;
            let taken: Vec<Buffer> = slots.iter().map(|&slot| self.maps.take(slot)).collect();
            let begin = Instant::now();
            self.propagate(id, &taken.iter().map(Buffer::as_slice).collect::<Vec<_>>());
            self.times[id].inputs = begin.elapsed().saturating_sub(self.times[id].parameters);
            for ((node, slot), gradient) in pass.zip(slots).zip(taken) {
                self.maps.put(slot, gradient);
                self.maps.release(slot);
                if slot != self.slots[node] {
                    self.maps.release(self.slots[node]);
                }
            }
        }
        // The last layer may be unfinished.
        cancel.check()
    }

    /// Passes the gradients of the nodes of one pass on to their parameters and to the nodes they read.
    fn propagate(&mut self, id: NodeId, gradients: &[&[f32]]) {
        let (level, layout) = (self.level, self.layouts[id]);
        let sources = self.graph.sources(id);
        let (Some(&source), Some(&gradient)) = (sources.first(), gradients.first()) else { return };
        let read = self.layouts[source];
        match self.graph.nodes()[id].op {
            Op::Input | Op::Concat { .. } => {}
            Op::Conv { bias, residual, .. } => self.convolution(id, bias, residual, gradients),
            Op::MaxPool { by, .. } => self.pass(source, |values, to, store| {
                max_pool_gradient(level, (&read, values), (by[0], by[1]), (&layout, gradient), to, store);
            }),
            Op::Upsample { by, .. } => self.pass(source, |_, to, store| {
                upsample_gradient(level, (&layout, gradient), (by[0], by[1]), &read, to, store);
            }),
            Op::Norm { style, .. } => self.normalization(id, source, style, gradient),
            Op::GlobalAveragePool { .. } => {
                let pixels = (read.height() * read.width()) as f32;
                let means: Vec<f32> = vector(&layout, gradient).iter().map(|g| g / pixels).collect();
                let zeros = vec![0.0; means.len()];
                // The factor of the first map is 0: any map of the right size will do.
                let any = vec![0.0; read.len()];
                self.pass(source, |values, to, store| {
                    affine_gradient(level, &read, (&any, values), [&zeros, &zeros, &means], to, store);
                });
            }
            Op::L2Normalize { .. } => {
                let values = vector(&read, self.maps.slice(self.slots[source]));
                let new = unit_gradient(&values, &vector(&layout, gradient), layout.channels());
                self.pass_vector(source, &new);
            }
        }
    }

    fn convolution(&mut self, id: NodeId, bias: bool, residual: Option<NodeId>, gradients: &[&[f32]]) {
        let Some(conv) = &self.convs[id] else { return };
        let sources = self.graph.sources(id);
        let begin = Instant::now();
        self.weights_of(conv, id, bias, gradients);
        self.times[id].parameters = begin.elapsed();
        if let (Some(residual), Some(&gradient)) = (residual, gradients.first()) {
            let ones = vec![1.0; self.layouts[id].batch() * self.layouts[id].channels()];
            let zeros = vec![0.0; ones.len()];
            let (level, layout) = (self.level, self.layouts[id]);
            self.pass(residual, |_, to, store| {
                affine_gradient(level, &layout, (gradient, Some(gradient)), [&ones, &zeros, &zeros], to, store);
            });
        }
        if sources.contains(&0) {
            return;
        }
        let mut targets: Vec<GradientSlot> = sources.iter().map(|&source| self.target(source)).collect();
        let mut destinations = Vec::new();
        for (target, &source) in targets.iter_mut().zip(&sources) {
            let values = self.maps.slice(self.slots[source]);
            let store = target.store(values);
            destinations.push(Destination { gradient: target.buffer.as_mut_slice(), store });
        }
        conv.input_gradient(gradients, &mut destinations);
        targets.into_iter().for_each(|target| self.maps.put(target.slot, target.buffer));
    }

    /// The gradients of the kernels and biases of a pass.
    fn weights_of(&mut self, conv: &Conv, id: NodeId, bias: bool, gradients: &[&[f32]]) {
        let sources = self.graph.sources(id);
        let values: Vec<&[f32]> = sources.iter().map(|&source| self.maps.slice(self.slots[source])).collect();
        let nodes = self.passes[id].clone();
        let first = self.offsets[id];
        if let (1, [kernel, rest @ ..]) = (nodes.len(), &mut self.parameters[first..]) {
            let biases = if bias { rest.first_mut().map(Vec::as_mut_slice) } else { None };
            conv.weight_gradient(&values, gradients, kernel, biases.unwrap_or_default(), self.workspace);
            return;
        }
        let parts = 1 + usize::from(bias);
        // The parameters of nodes that follow each other do so too: a kernel, then a bias, of each.
        let own = &mut self.parameters[first..first + nodes.len() * parts];
        let mut joined = [0, 1].map(|part| vec![0.0; own.iter().skip(part).step_by(parts).map(Vec::len).sum()]);
        let [kernel, biases] = &mut joined;
        let biases = if bias { biases.as_mut_slice() } else { &mut [] };
        conv.weight_gradient(&values, gradients, kernel, biases, self.workspace);
        for (part, joined) in joined.iter().enumerate().take(parts) {
            let own = own.iter_mut().skip(part).step_by(parts).map(Vec::as_mut_slice);
            let channels = nodes.clone().map(|node| self.graph.nodes()[node].channels);
            heads::deal_out(joined, &mut channels.zip(own).collect::<Vec<_>>());
        }
    }

    fn normalization(&mut self, id: NodeId, source: NodeId, style: Option<NodeId>, gradient: &[f32]) {
        let (level, layout, first) = (self.level, self.layouts[id], self.offsets[id]);
        let added = style.map(|node| vector(&self.layouts[node], self.maps.slice(self.slots[node])));
        let pivot = self.moments[id].pivot(added.as_deref());
        let sums = channel_products(level, &layout, gradient, self.maps.slice(self.slots[source]), &pivot);
        let new = self.moments[id].gradient(&sums, &pivot, self.weights.values(first), added.as_deref());
        self.parameters[first].copy_from_slice(&new.gamma);
        self.parameters[first + 1].copy_from_slice(&new.beta);
        let coefficients = new.coefficients.each_ref().map(Vec::as_slice);
        self.pass(source, |values, to, store| {
            affine_gradient(level, &layout, (gradient, values), coefficients, to, store);
        });
        if let Some(style) = style {
            self.pass_vector(style, &new.style);
        }
    }

    /// Adds to the gradient of `node` what `write(values of the node, gradient, store)` stores; the values are `None` when
    /// they are where the gradient is stored.
    fn pass(&mut self, node: NodeId, write: impl FnOnce(Option<&[f32]>, &mut [f32], Store<'_>)) {
        if node == 0 {
            return;
        }
        let mut target = self.target(node);
        let values = self.maps.slice(self.slots[node]);
        let store = target.store(values);
        write((!target.in_place).then_some(values), target.buffer.as_mut_slice(), store);
        self.maps.put(target.slot, target.buffer);
    }

    /// Adds `[batch][channels]` to the gradient of a vector.
    fn pass_vector(&mut self, node: NodeId, new: &[f32]) {
        let (level, layout) = (self.level, self.layouts[node]);
        let (zeros, any) = (vec![0.0; new.len()], vec![0.0; layout.len()]);
        self.pass(node, |values, to, store| {
            affine_gradient(level, &layout, (&any, values), [&zeros, &zeros, new], to, store);
        });
    }

    /// Takes the gradient buffer of `node` for one reader.
    fn target(&mut self, node: NodeId) -> GradientSlot {
        let state = &mut self.pending[node];
        state.missing -= 1;
        let accumulate = state.slot.is_some();
        let in_place = !accumulate && state.missing == 0;
        let slot = match state.slot {
            Some(slot) => slot,
            None if in_place => self.slots[node],
            None => self.maps.acquire(&self.layouts[node]),
        };
        state.slot = Some(slot);
        let slope = if state.missing == 0 { activation(self.graph, node).slope() } else { None };
        GradientSlot { slot, buffer: self.maps.take(slot), accumulate, in_place, slope }
    }
}

impl GradientSlot {
    /// How a gradient goes into this buffer; `values` are those of the node.
    fn store<'v>(&self, values: &'v [f32]) -> Store<'v> {
        let values = (!self.in_place).then_some(values);
        Store {
            accumulate: self.accumulate,
            slope: self.slope.map(|negative_slope| ActivationDerivative { values, negative_slope }),
        }
    }
}

/// What a node applies to its result.
fn activation(graph: &Graph, id: NodeId) -> Activation {
    match graph.nodes()[id].op {
        Op::Conv { activation, .. } | Op::Norm { activation, .. } => activation,
        _ => Activation::Linear,
    }
}

/// The gradient of `v / |v|` for each of several vectors: `(g - u (u . g)) / |v|` with `u = v / |v|`.
fn unit_gradient(values: &[f32], gradient: &[f32], channels: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for (vector, gradient) in values.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
        let length = length(vector);
        let along: f64 = vector.iter().zip(gradient).map(|(v, g)| f64::from(*v) * f64::from(*g)).sum::<f64>() / length;
        let one = |(v, g): (&f32, &f32)| ((f64::from(*g) - f64::from(*v) / length * along) / length) as f32;
        result.extend(vector.iter().zip(gradient).map(one));
    }
    result
}
