//! Runs a [`Graph`] with the kernels of this crate, for one shape, without allocating during a step.

use std::sync::Arc;

use super::graph::{Activation, Graph, NodeId, Op};
use super::memory::Pool;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernels::{
    Buffer, Conv, Destination, Layout, Level, Method, Store, affine, channel_sums, combine, max_pool,
    max_pool_gradient, upsample, upsample_gradient,
};

/// A network laid out in memory for one batch size and image size.
///
/// Maps are kept in buffers that are allocated once. In a training plan every map lives until the backward pass has used
/// it; in an inference plan maps share memory. Results do not depend on the number of threads of the current rayon pool.
#[derive(Debug)]
pub struct CpuPlan {
    graph: Arc<Graph>,
    level: Level,
    layouts: Vec<Layout>,
    convs: Vec<Option<Conv>>,
    norms: Vec<Option<Norm>>,
    offsets: Vec<usize>,
    training: bool,
    maps: Pool,
    /// The buffer of every node's result.
    slots: Vec<usize>,
    gradients: Pool,
    workspace: Buffer,
}

/// Batch statistics of one normalisation, from the last training-mode forward pass.
#[derive(Debug, Clone, Default)]
struct Norm {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// Where the gradient of a node stands during a backward pass.
#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    slot: Option<usize>,
    /// Consumers that have not added their part yet.
    missing: usize,
}

impl CpuPlan {
    /// Lays out `graph` for `batch` images of `height x width` pixels.
    ///
    /// # Errors
    /// [`Error::Config`] when the size is not a multiple of what the network divides by.
    pub fn new(graph: &Arc<Graph>, method: Method, [batch, height, width]: [usize; 3], training: bool) -> Result<Self> {
        let divisor = graph.divisor();
        if batch == 0 || height == 0 || width == 0 || height % divisor[0] != 0 || width % divisor[1] != 0 {
            return Err(Error::Config(format!(
                "the network takes images whose height is a multiple of {} and whose width is a multiple of {}; \
                 a batch of {batch} of {height} x {width} pixels was given",
                divisor[0], divisor[1]
            )));
        }
        let level = Level::detect();
        let layouts: Vec<Layout> = graph
            .nodes()
            .iter()
            .map(|node| {
                let (h, w) = (height / node.scale[0], width / node.scale[1]);
                match node.op {
                    Op::Input => Layout::input(batch, node.channels, h, w),
                    _ => Layout::new(batch, node.channels, h, w),
                }
            })
            .collect();
        let convs = (0..layouts.len())
            .map(|id| match graph.nodes()[id].op {
                Op::Conv { kernel, .. } => {
                    let sources: Vec<Layout> = graph.sources(id).iter().map(|&s| layouts[s]).collect();
                    Some(Conv::new(level, method, kernel, &sources, layouts[id]))
                }
                _ => None,
            })
            .collect();
        let norms = graph.nodes().iter().map(|n| matches!(n.op, Op::BatchNorm { .. }).then(Norm::default)).collect();
        let mut plan = Self {
            graph: Arc::clone(graph),
            level,
            layouts,
            convs,
            norms,
            offsets: graph.parameter_offsets(),
            training,
            maps: Pool::default(),
            slots: Vec::new(),
            gradients: Pool::default(),
            workspace: Buffer::default(),
        };
        plan.assign_maps();
        Ok(plan)
    }

    /// Gives every node a buffer; in an inference plan, one that no later reader still needs.
    fn assign_maps(&mut self) {
        let nodes = self.graph.nodes().len();
        let mut last_use = vec![0; nodes];
        for id in 0..nodes {
            if !matches!(self.graph.nodes()[id].op, Op::Concat { .. }) {
                for source in self.graph.sources(id) {
                    last_use[source] = id;
                }
            }
        }
        for &output in self.graph.outputs() {
            last_use[output] = usize::MAX;
        }
        for id in 0..nodes {
            if matches!(self.graph.nodes()[id].op, Op::Concat { .. }) {
                self.slots.push(usize::MAX);
                continue;
            }
            self.slots.push(self.maps.acquire(&self.layouts[id]));
            if !self.training {
                for source in self.graph.sources(id) {
                    if last_use[source] == id {
                        self.maps.release(self.slots[source]);
                    }
                }
            }
        }
    }

    /// `[batch, height, width]` of the input.
    pub fn shape(&self) -> [usize; 3] {
        let input = &self.layouts[0];
        [input.batch, input.height, input.width]
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        self.graph.outputs().len()
    }

    /// `[batch, height, width, channels]` of output `index`.
    pub fn output_shape(&self, index: usize) -> [usize; 4] {
        let layout = &self.layouts[self.graph.outputs()[index]];
        [layout.batch, layout.height, layout.width, layout.channels]
    }

    /// Bytes of all maps, gradients and work space allocated so far.
    pub fn bytes(&self) -> usize {
        self.maps.bytes() + self.gradients.bytes() + 4 * self.workspace.len()
    }

    /// Takes new weights; a training plan also prepares the backward pass.
    pub fn set_weights(&mut self, weights: &Weights) {
        for id in 0..self.convs.len() {
            if let Some(conv) = &mut self.convs[id] {
                let kernel = weights.values(self.offsets[id]);
                conv.set_weights(kernel, weights.values(self.offsets[id] + 1));
                let reads_input = self.graph.sources(id).contains(&0);
                if self.training && !reads_input {
                    conv.set_transposed_weights(kernel);
                }
            }
        }
    }

    /// Computes all outputs for `input` (`[batch, height, width, channels]`).
    ///
    /// A training plan normalises with the statistics of the batch, an inference plan with the moving ones.
    pub fn forward(&mut self, weights: &Weights, input: &[f32]) {
        self.layouts[0].pack(input, self.maps.slice_mut(self.slots[0]));
        for id in 1..self.layouts.len() {
            if self.slots[id] == usize::MAX {
                continue;
            }
            let mut target = self.maps.take(self.slots[id]);
            self.compute(id, weights, target.as_mut_slice());
            self.maps.put(self.slots[id], target);
        }
    }

    fn compute(&mut self, id: NodeId, weights: &Weights, target: &mut [f32]) {
        let sources = self.graph.sources(id);
        let values: Vec<&[f32]> = sources.iter().map(|&s| self.maps.slice(self.slots[s])).collect();
        let by = |by: [usize; 2]| (by[0], by[1]);
        let layout = &self.layouts[id];
        match self.graph.nodes()[id].op {
            Op::Input | Op::Concat { .. } => {}
            Op::Conv { activation, .. } => {
                if let Some(conv) = &self.convs[id] {
                    conv.forward(&values, activation == Activation::Relu, target);
                }
            }
            Op::MaxPool { by: window, .. } => {
                max_pool(self.level, &self.layouts[sources[0]], values[0], by(window), layout, target);
            }
            Op::Upsample { by: factor, .. } => {
                upsample(self.level, &self.layouts[sources[0]], values[0], by(factor), layout, target);
            }
            Op::BatchNorm { epsilon, activation, .. } => {
                let first = self.offsets[id];
                let norm = if self.training {
                    batch_statistics(layout, values[0])
                } else {
                    Norm { mean: weights.values(first + 2).to_vec(), variance: weights.values(first + 3).to_vec() }
                };
                let (gamma, beta) = (weights.values(first), weights.values(first + 1));
                let scale: Vec<f32> = gamma.iter().zip(&norm.variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
                let shift: Vec<f32> = beta.iter().zip(&norm.mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
                affine(self.level, layout, values[0], &scale, &shift, activation == Activation::Relu, target);
                self.norms[id] = Some(norm);
            }
        }
    }

    /// Copies output `index` into `to` (`[batch, height, width, channels]`).
    pub fn output(&self, index: usize, to: &mut [f32]) {
        let node = self.graph.outputs()[index];
        self.layouts[node].unpack(self.maps.slice(self.slots[node]), to);
    }

    /// Lets the moving statistics of `weights` take in those of the last forward pass.
    pub fn update_statistics(&self, weights: &mut Weights) {
        for (id, node) in self.graph.nodes().iter().enumerate() {
            if let (Op::BatchNorm { momentum, .. }, Some(norm)) = (&node.op, &self.norms[id]) {
                for (offset, new) in [(2, &norm.mean), (3, &norm.variance)] {
                    let values = &mut weights.parameters_mut()[self.offsets[id] + offset].values;
                    for (old, new) in values.iter_mut().zip(new) {
                        *old = momentum * *old + (1.0 - momentum) * new;
                    }
                }
            }
        }
    }

    /// Computes the gradients of all parameters from those of the outputs (`[batch, height, width, channels]` each).
    ///
    /// `gradients` has one buffer for each parameter; those of moving statistics are left alone.
    pub fn backward(&mut self, weights: &Weights, outputs: &[&[f32]], gradients: &mut [Vec<f32>]) {
        let graph = Arc::clone(&self.graph);
        let mut pending = vec![Pending::default(); self.layouts.len()];
        for id in 0..self.layouts.len() {
            if self.slots[id] != usize::MAX {
                graph.sources(id).into_iter().for_each(|source| pending[source].missing += 1);
            }
        }
        for (&node, gradient) in graph.outputs().iter().zip(outputs) {
            let slot = self.gradients.acquire(&self.layouts[node]);
            self.layouts[node].pack(gradient, self.gradients.slice_mut(slot));
            pending[node].slot = Some(slot);
        }
        for id in (1..self.layouts.len()).rev() {
            let Some(slot) = pending[id].slot.take() else { continue };
            let gradient = self.gradients.take(slot);
            self.propagate(id, weights, gradient.as_slice(), &mut pending, gradients);
            self.gradients.put(slot, gradient);
            self.gradients.release(slot);
        }
    }

    /// Passes the gradient of one node on to its parameters and sources.
    fn propagate(
        &mut self,
        id: NodeId,
        weights: &Weights,
        gradient: &[f32],
        pending: &mut [Pending],
        parameters: &mut [Vec<f32>],
    ) {
        let sources = self.graph.sources(id);
        let first = self.offsets[id];
        if let (Op::Conv { .. }, Some(conv)) = (&self.graph.nodes()[id].op, &self.convs[id]) {
            let values: Vec<&[f32]> = sources.iter().map(|&s| self.maps.slice(self.slots[s])).collect();
            let [kernel, bias] = &mut parameters[first..first + 2] else { return };
            conv.weight_gradient(&values, gradient, kernel, bias, &mut self.workspace);
        }
        if sources.contains(&0) {
            return;
        }
        let mut targets: Vec<(usize, bool, bool, Buffer)> = Vec::new();
        for &source in &sources {
            let state = &mut pending[source];
            state.missing -= 1;
            let accumulate = state.slot.is_some();
            let slot = *state.slot.get_or_insert_with(|| self.gradients.acquire(&self.layouts[source]));
            let masked = state.missing == 0 && self.is_rectified(source);
            targets.push((slot, accumulate, masked, self.gradients.take(slot)));
        }
        self.pass_back(id, weights, gradient, &sources, &mut targets, parameters);
        for (slot, _, _, buffer) in targets {
            self.gradients.put(slot, buffer);
        }
    }

    fn is_rectified(&self, id: NodeId) -> bool {
        matches!(
            self.graph.nodes()[id].op,
            Op::Conv { activation: Activation::Relu, .. } | Op::BatchNorm { activation: Activation::Relu, .. }
        )
    }

    /// Writes the gradients of the sources; `targets` are (slot, accumulate, masked, buffer).
    fn pass_back(
        &self,
        id: NodeId,
        weights: &Weights,
        gradient: &[f32],
        sources: &[NodeId],
        targets: &mut [(usize, bool, bool, Buffer)],
        parameters: &mut [Vec<f32>],
    ) {
        let value = |node: NodeId| self.maps.slice(self.slots[node]);
        let mut destinations: Vec<Destination<'_>> = sources
            .iter()
            .zip(targets)
            .map(|(&source, (_, accumulate, masked, buffer))| Destination {
                gradient: buffer.as_mut_slice(),
                accumulate: *accumulate,
                mask: masked.then(|| value(source)),
            })
            .collect();
        if let Some(conv) = &self.convs[id] {
            conv.input_gradient(gradient, &mut destinations);
            return;
        }
        let Some(Destination { gradient: to, accumulate, mask }) = destinations.pop() else { return };
        let store = Store { accumulate, mask };
        let (source, layout) = (&self.layouts[sources[0]], &self.layouts[id]);
        match self.graph.nodes()[id].op {
            Op::MaxPool { by, .. } => {
                let fine = (source, value(sources[0]));
                max_pool_gradient(self.level, fine, (by[0], by[1]), (layout, gradient), to, store);
            }
            Op::Upsample { by, .. } => {
                upsample_gradient(self.level, (layout, gradient), (by[0], by[1]), source, to, store);
            }
            Op::BatchNorm { epsilon, .. } => {
                if let Some(norm) = &self.norms[id] {
                    let first = self.offsets[id];
                    let x = value(sources[0]);
                    let gamma = weights.values(first);
                    batch_norm_gradient(layout, x, gradient, (norm, epsilon, gamma), to, store, parameters, first);
                }
            }
            Op::Input | Op::Conv { .. } | Op::Concat { .. } => {}
        }
    }
}

/// Mean and biased variance of every channel over batch and pixels.
fn batch_statistics(layout: &Layout, x: &[f32]) -> Norm {
    let count = (layout.batch * layout.height * layout.width) as f64;
    let sums = channel_sums(layout, x, x, |x, _| [f64::from(x), f64::from(x) * f64::from(x)]);
    let mean: Vec<f64> = sums.iter().map(|sum| sum[0] / count).collect();
    let variance = sums.iter().zip(&mean).map(|(sum, mean)| (sum[1] / count - mean * mean).max(0.0) as f32).collect();
    Norm { mean: mean.iter().map(|m| *m as f32).collect(), variance }
}

/// Backward pass of batch normalisation with batch statistics (Ioffe and Szegedy 2015, section 3).
fn batch_norm_gradient(
    layout: &Layout,
    x: &[f32],
    gradient: &[f32],
    (norm, epsilon, gamma): (&Norm, f32, &[f32]),
    to: &mut [f32],
    store: Store<'_>,
    parameters: &mut [Vec<f32>],
    first: usize,
) {
    let count = (layout.batch * layout.height * layout.width) as f64;
    let sums = channel_sums(layout, x, gradient, |x, g| [f64::from(g), f64::from(g) * f64::from(x)]);
    let mut terms = Vec::with_capacity(sums.len());
    for (c, [sum, product]) in sums.iter().enumerate() {
        let inverse = 1.0 / f64::from(norm.variance[c] + epsilon).sqrt();
        let mean = f64::from(norm.mean[c]);
        let scaled = (product - mean * sum) * inverse;
        parameters[first][c] = scaled as f32;
        parameters[first + 1][c] = *sum as f32;
        let factor = f64::from(gamma[c]) * inverse;
        // dx = factor * (g - sum / n - (x - mean) * inverse * scaled / n)
        let slope = -factor * inverse * scaled / count;
        terms.push([factor as f32, slope as f32, (-factor * sum / count - slope * mean) as f32]);
    }
    combine(layout, x, gradient, to, store, |x, g, c| {
        let [factor, slope, offset] = terms[c];
        factor * g + slope * x + offset
    });
}
