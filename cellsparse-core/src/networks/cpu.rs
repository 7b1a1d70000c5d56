//! Runs a [`Graph`] with the kernels of `cellsparse-kernels`, for one shape, without allocating during a step.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cellsparse_kernels::{
    Buffer, Conv, Layout, Level, Method, affine, channel_moments, max_pool, stopping_when, upsample, with_team,
};

use super::bands::{self, Bands, Part, Step};
use super::graph::{Graph, Node, NodeId, Op, Statistics};
use super::heads;
use super::memory::{NO_SLOT, Places, Pool};
use super::normalization::{ChannelMoments, ImageStatistics};
use super::weights::Weights;
use crate::budget::{bytes_of, no_memory};
use crate::control::CancelToken;
use crate::error::{Error, Result};

/// A network laid out in memory for one batch size and image size.
///
/// Maps are kept in buffers that are allocated once. In a training plan every map lives until the backward pass has used
/// it, and then its memory takes gradients; in an inference plan maps share memory, and the largest ones exist in bands of rows
/// alone. Results do not depend on the number of threads of the current rayon pool.
#[derive(Debug)]
pub struct CpuPlan {
    pub(super) graph: Arc<Graph>,
    pub(super) level: Level,
    pub(super) layouts: Vec<Layout>,
    /// For every node those that are computed when its turn comes; see [`heads::passes`].
    pub(super) passes: Vec<Range<NodeId>>,
    /// The convolution of every pass that is one.
    pub(super) convs: Vec<Option<Conv>>,
    /// Moments of every normalisation in the last forward pass.
    pub(super) moments: Vec<ChannelMoments>,
    /// Mean and variance of every channel that a normalisation takes instead of those of the image; mostly none.
    given: Vec<Vec<[f64; 2]>>,
    /// Index of every node's first parameter.
    pub(super) offsets: Vec<usize>,
    training: bool,
    /// Whether the weights of a convolution are packed as it runs, all into this memory.
    is_sparing: bool,
    packed: Buffer,
    /// Maps, and gradients during a backward pass.
    pub(super) maps: Pool,
    /// The buffer of every node's result; [`NO_SLOT`] for concatenations, which are never stored, and for what exists in
    /// bands alone.
    pub(super) slots: Vec<usize>,
    /// What an inference plan computes in bands.
    pub(super) bands: Vec<Bands>,
    /// Whether the buffer of a node also holds maps of another size, which leave values around the image.
    pub(super) resized: Vec<bool>,
    pub(super) workspace: Buffer,
    pub(super) times: Vec<NodeTimes>,
}

/// How long a node took in the last forward and backward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NodeTimes {
    /// Its result.
    pub forward: Duration,
    /// The gradients of its parameters.
    pub parameters: Duration,
    /// The gradients of what it reads; for a normalisation those of its parameters too.
    pub inputs: Duration,
}

impl CpuPlan {
    /// Lays out `graph` for `batch` images of `height x width` pixels.
    ///
    /// # Errors
    /// [`Error::Config`] when the size is not a multiple of what the network divides by, [`Error::Limit`] when its maps cannot
    /// be addressed or there is no memory for them.
    pub fn new(graph: &Arc<Graph>, method: Method, shape: [usize; 3], training: bool) -> Result<Self> {
        Self::banded(graph, method, shape, training, bands::ROWS)
    }

    /// As [`new`](Self::new), with bands of that many rows of the finest maps; no bands for more than a third of an image.
    pub(super) fn banded(
        graph: &Arc<Graph>,
        method: Method,
        shape: [usize; 3],
        training: bool,
        rows: usize,
    ) -> Result<Self> {
        let mut plan = Self::planned(graph, method, shape, training, rows)?;
        let bytes = plan.maps.bytes() as u64;
        let what = || format!("a network for a batch of {} of {} x {} pixels", shape[0], shape[1], shape[2]);
        plan.maps.allocate().map_err(|_| no_memory(bytes, what()))?;
        let workspace = if training { plan.convs.iter().flatten().map(Conv::workspace).max().unwrap_or(0) } else { 0 };
        plan.workspace.try_grow(workspace).map_err(|_| no_memory(4 * workspace as u64, what()))?;
        // A plan that spares memory, which always computes directly, packs the weights of one layer at a time.
        let packed = plan.convs.iter_mut().enumerate().filter(|_| method != Method::Direct);
        for (id, conv) in packed {
            let Some(conv) = conv else { continue };
            let values = conv.weight_values(training) as u64;
            let transposed = training && !graph.sources(id).contains(&0);
            conv.try_reserve(transposed).map_err(|_| no_memory(4 * values, what()))?;
        }
        Ok(plan)
    }

    /// The same plan, which takes memory for the packed weights of one layer at a time instead of all. Plans for training keep theirs.
    pub fn sparing(mut self) -> Self {
        self.is_sparing = !self.training;
        self
    }

    /// As [`new`](Self::new), without the memory of maps and work space.
    fn planned(
        graph: &Arc<Graph>,
        method: Method,
        [batch, height, width]: [usize; 3],
        training: bool,
        rows: usize,
    ) -> Result<Self> {
        let divisor = graph.divisor();
        if batch == 0 || height == 0 || width == 0 || height % divisor[0] != 0 || width % divisor[1] != 0 {
            return Err(Error::Config(format!(
                "the network takes images whose height is a multiple of {} and whose width is a multiple of {}; \
                 a batch of {batch} of {height} x {width} pixels was given",
                divisor[0], divisor[1]
            )));
        }
        let size = |node: &Node| {
            let [h, w] = node.size(height, width);
            [batch, node.channels, h, w]
        };
        if !graph.nodes().iter().all(|node| Layout::checked(size(node))) {
            return Err(Error::Limit(format!(
                "a batch of {batch} of {height} x {width} pixels is more than can be addressed; take a smaller batch or smaller images"
            )));
        }
        let level = Level::detect();
        let layouts: Vec<Layout> = graph
            .nodes()
            .iter()
            .map(|node| {
                let [batch, channels, h, w] = size(node);
                match node.op {
                    Op::Input if is_convolved_only(graph) => Layout::input(batch, channels, h, w),
                    _ => Layout::new(batch, channels, h, w),
                }
            })
            .collect();
        let parts = if training { Vec::new() } else { Part::of(graph) };
        let bands: Vec<Bands> = parts.iter().filter_map(|part| part.bands(graph, &layouts, height, rows)).collect();
        let passes = heads::passes(graph);
        let convs = (0..layouts.len())
            .map(|id| match graph.nodes()[id].op {
                Op::Conv { kernel, .. } if !passes[id].is_empty() => {
                    let own = bands.iter().find(|bands| bands.part.nodes.contains(&id));
                    let layouts = own.map_or(&layouts, |bands| &bands.layouts);
                    let sources: Vec<Layout> = graph.sources(id).iter().map(|&s| layouts[s]).collect();
                    Some(Conv::new(level, method, kernel, &sources, &layouts[passes[id].clone()]))
                }
                _ => None,
            })
            .collect();
        let mut plan = Self {
            graph: Arc::clone(graph),
            level,
            moments: vec![ChannelMoments::default(); layouts.len()],
            given: vec![Vec::new(); layouts.len()],
            layouts,
            passes,
            convs,
            offsets: graph.parameter_offsets(),
            training,
            is_sparing: false,
            packed: Buffer::default(),
            maps: Pool::default(),
            slots: Vec::new(),
            bands,
            resized: Vec::new(),
            workspace: Buffer::default(),
            times: vec![NodeTimes::default(); graph.nodes().len()],
        };
        plan.assign_maps();
        Ok(plan)
    }

    /// Gives every node a buffer; in an inference plan, one that no later reader still needs.
    fn assign_maps(&mut self) {
        let graph = Arc::clone(&self.graph);
        let nodes = graph.nodes().len();
        let mut last_use = vec![0; nodes];
        for id in (0..nodes).filter(|&id| !matches!(graph.nodes()[id].op, Op::Concat { .. })) {
            graph.reads(id).into_iter().for_each(|source| last_use[source] = id);
        }
        for &output in graph.outputs() {
            last_use[output] = usize::MAX;
        }
        self.slots = vec![NO_SLOT; nodes];
        let mut bands = std::mem::take(&mut self.bands);
        for id in 0..nodes {
            if let Some(own) = bands.iter_mut().find(|bands| bands.part.nodes.contains(&id)) {
                if id == *own.part.nodes.start() {
                    for &kept in own.keeps() {
                        self.slots[kept] = self.maps.acquire_any(&self.layouts[kept]);
                    }
                    own.assign(&graph, &mut self.maps);
                    let ended =
                        |source: usize| own.part.nodes.contains(&last_use[source]) && is_overwritten(&graph, source);
                    for &source in own.reads().iter().filter(|&&source| ended(source)) {
                        self.maps.release(self.slots[source]);
                    }
                }
                continue;
            }
            let shared = !self.training && is_overwritten(&graph, id);
            self.slots[id] = match graph.nodes()[id].op {
                Op::Concat { .. } => continue,
                _ if shared => self.maps.acquire_any(&self.layouts[id]),
                _ => self.maps.acquire(&self.layouts[id]),
            };
            if !self.training {
                let mut reads = graph.reads(id);
                reads.sort_unstable();
                reads.dedup();
                for source in reads.into_iter().filter(|&s| last_use[s] == id && is_overwritten(&graph, s)) {
                    self.maps.release(self.slots[source]);
                }
            }
        }
        let size = |id: usize| (self.layouts[id].height(), self.layouts[id].width());
        let other = |id: usize| (0..nodes).any(|o| self.slots[o] == self.slots[id] && size(o) != size(id));
        let banded = |id: usize| bands.iter().any(|bands| bands.uses(self.slots[id]));
        self.resized = (0..nodes).map(|id| self.slots[id] != NO_SLOT && (other(id) || banded(id))).collect();
        self.bands = bands;
        self.maps.fix();
        if self.training {
            // Which buffers a backward pass finds free depends on those of the pass before: two are enough to know all.
            for _ in 0..2 {
                self.plan_backward();
            }
        }
    }

    /// Bytes of everything that the plan holds once it has run: maps, work space, packed weights, and the values that go in
    /// and come out.
    fn required(&self) -> u64 {
        let values =
            |layout: &Layout| bytes_of(&[layout.batch(), layout.height(), layout.width(), layout.channels()], 4);
        let copies = if self.training { 3 } else { 1 };
        let outputs = self.graph.outputs().iter().map(|&node| copies * values(&self.layouts[node]));
        let convs = self.convs.iter().flatten();
        let packed = convs.clone().map(|conv| 4 * conv.weight_values(self.training) as u64);
        let packed = if self.is_sparing { packed.max().unwrap_or(0) } else { packed.fold(0, u64::saturating_add) };
        let workspace = convs.map(|conv| 4 * conv.workspace() as u64).max().filter(|_| self.training);
        [self.maps.bytes() as u64, workspace.unwrap_or(0), copies * values(&self.layouts[0]), packed]
            .into_iter()
            .chain(outputs)
            .fold(0, u64::saturating_add)
    }

    /// `[batch, height, width]` of the input.
    pub fn shape(&self) -> [usize; 3] {
        let input = &self.layouts[0];
        [input.batch(), input.height(), input.width()]
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        self.graph.outputs().len()
    }

    /// `[batch, height, width, channels]` of output `index`.
    pub fn output_shape(&self, index: usize) -> [usize; 4] {
        let layout = &self.layouts[self.graph.outputs()[index]];
        [layout.batch(), layout.height(), layout.width(), layout.channels()]
    }

    /// Bytes of all maps, gradients and work space allocated so far.
    pub fn bytes(&self) -> usize {
        self.maps.bytes() + 4 * self.workspace.len()
    }

    /// How long every node took in the last forward and backward pass.
    pub fn times(&self) -> &[NodeTimes] {
        &self.times
    }

    /// The kind of vectors the kernels of this plan use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes new weights; a training plan also prepares the backward pass.
    pub fn set_weights(&mut self, weights: &Weights) {
        if self.is_sparing {
            // At once, as memory that grows is taken twice.
            let most = self.convs.iter().flatten().map(|conv| conv.weight_values(false)).max();
            self.packed.grow(most.unwrap_or(0));
        } else {
            with_team(|| (0..self.convs.len()).for_each(|id| self.pack_weights(id, weights)));
        }
    }

    fn pack_weights(&mut self, id: NodeId, weights: &Weights) {
        let Some(conv) = &mut self.convs[id] else { return };
        let [kernel, bias] = heads::side_by_side(&self.graph, self.passes[id].clone(), &self.offsets, weights);
        if self.is_sparing {
            conv.set_weights_in(std::mem::take(&mut self.packed), &kernel, &bias);
        } else {
            conv.set_weights(&kernel, &bias);
        }
        let reads_input = self.graph.sources(id).contains(&0);
        if self.training && !reads_input {
            conv.set_transposed_weights(&kernel);
        }
    }

    /// Computes all outputs for `input` (`[batch, height, width, channels]`).
    ///
    /// A training plan normalises with the statistics of the batch, an inference plan with the moving ones.
    pub fn forward(&mut self, weights: &Weights, input: &[f32]) {
        // A token that nobody can raise.
        let _ = self.forward_until(weights, input, &CancelToken::new());
    }

    /// As [`forward`](Self::forward), and ends within a layer when `cancel` is raised.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn forward_until(&mut self, weights: &Weights, input: &[f32], cancel: &CancelToken) -> Result<()> {
        let asked = cancel.clone();
        with_team(|| stopping_when(move || asked.is_cancelled(), || self.forward_layers(weights, input, cancel)))
    }

    fn forward_layers(&mut self, weights: &Weights, input: &[f32], cancel: &CancelToken) -> Result<()> {
        let map = self.maps.slice_mut(self.slots[0]);
        self.layouts[0].pack(input, map);
        let bands = std::mem::take(&mut self.bands);
        let done = self.forward_nodes(&bands, weights, cancel);
        self.bands = bands;
        done
    }

    fn forward_nodes(&mut self, bands: &[Bands], weights: &Weights, cancel: &CancelToken) -> Result<()> {
        for id in 1..self.layouts.len() {
            if let Some(own) = bands.iter().find(|bands| bands.part.nodes.contains(&id)) {
                if id == *own.part.nodes.start() {
                    self.forward_bands(own, weights, cancel)?;
                }
                continue;
            }
            let pass = self.passes[id].clone();
            if self.slots[id] == NO_SLOT || pass.is_empty() {
                continue;
            }
            cancel.check()?;
            let begin = Instant::now();
            let mut targets: Vec<Buffer> = pass.clone().map(|node| self.maps.take(self.slots[node])).collect();
            for (node, target) in pass.clone().zip(&mut targets).filter(|(node, _)| self.resized[*node]) {
                self.layouts[node].clear_border(target.as_mut_slice());
            }
            self.run(id, None, weights, &mut targets);
            pass.zip(targets).for_each(|(node, target)| self.maps.put(self.slots[node], target));
            self.times[id].forward = begin.elapsed();
        }
        // The last layer may be unfinished.
        cancel.check()
    }

    /// Computes the pass of a node, of the whole images or of the rows that a step of `bands` adds.
    pub(super) fn run(
        &mut self,
        id: NodeId,
        bands: Option<(&Bands, &Step)>,
        weights: &Weights,
        targets: &mut [Buffer],
    ) {
        if self.is_sparing {
            self.pack_weights(id, weights);
        }
        let whole = Places { layouts: &self.layouts, slots: &self.slots };
        let places = bands.map_or(whole, |(bands, _)| Places { layouts: &bands.layouts, slots: &bands.slots });
        let rows = bands.map_or(0..self.layouts[id].height(), |(bands, step)| bands.fresh(&self.graph, step, id));
        let mut targets: Vec<&mut [f32]> = targets.iter_mut().map(Buffer::as_mut_slice).collect();
        let moments = self.compute(id, places, rows, weights, &mut targets);
        if let Some(moments) = moments {
            self.moments[id] = moments;
        }
        if let Some(conv) = self.convs[id].as_mut().filter(|_| self.is_sparing) {
            self.packed = conv.take_memory();
        }
    }

    /// Writes the maps of the pass of a node to `targets`, at least these rows; the moments that a normalisation took.
    fn compute(
        &self,
        id: NodeId,
        places: Places<'_>,
        rows: Range<usize>,
        weights: &Weights,
        targets: &mut [&mut [f32]],
    ) -> Option<ChannelMoments> {
        let sources = self.graph.sources(id);
        let value = |node: NodeId| self.maps.slice(places.slots[node]);
        let values: Vec<&[f32]> = sources.iter().map(|&source| value(source)).collect();
        let by = |by: [usize; 2]| (by[0], by[1]);
        let (source, layout) = (sources.first().map(|&s| places.layouts[s]), places.layouts[id]);
        let (Some(source), Some(&from)) = (source, values.first()) else { return None };
        if let (Op::Conv { activation, residual, .. }, Some(conv)) = (&self.graph.nodes()[id].op, &self.convs[id]) {
            conv.forward_rows(rows, &values, residual.map(value), activation.slope(), targets);
            return None;
        }
        let target = &mut **targets.first_mut()?;
        match self.graph.nodes()[id].op {
            Op::Input | Op::Concat { .. } | Op::Conv { .. } => {}
            Op::MaxPool { by: window, .. } => max_pool(self.level, &source, from, by(window), &layout, target),
            Op::Upsample { by: factor, .. } => upsample(self.level, &source, from, by(factor), &layout, target),
            Op::Norm { style, statistics, epsilon, activation, .. } => {
                let first = self.offsets[id];
                let style = style.map(|node| vector(&places.layouts[node], value(node)));
                let moments = match statistics {
                    Statistics::Group { .. } if !self.given[id].is_empty() => {
                        let [mean, variance] =
                            [0, 1].map(|k| self.given[id].iter().map(|set| set[k] as f32).collect::<Vec<_>>());
                        ChannelMoments::given(&layout, epsilon, &mean, &variance)
                    }
                    Statistics::Batch { .. } if !self.training => {
                        ChannelMoments::given(&layout, epsilon, weights.values(first + 2), weights.values(first + 3))
                    }
                    _ => {
                        let channels = channel_moments(self.level, &layout, from);
                        ChannelMoments::measured(&layout, statistics, epsilon, &channels, style.as_deref())
                    }
                };
                let coefficients =
                    moments.scale_and_shift(weights.values(first), weights.values(first + 1), style.as_deref());
                affine(self.level, &layout, from, [&coefficients[0], &coefficients[1]], activation.slope(), target);
                return Some(moments);
            }
            Op::GlobalAveragePool { .. } => {
                let channels = channel_moments(self.level, &source, from);
                let means: Vec<f32> = channels.iter().map(|channel| channel[0] as f32).collect();
                layout.pack(&means, target);
            }
            Op::L2Normalize { .. } => {
                let mut values = vector(&source, from);
                for vector in values.chunks_exact_mut(layout.channels()) {
                    let length = length(vector);
                    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
                }
                layout.pack(&values, target);
            }
        }
        None
    }

    /// Mean and variance of every channel in the last forward pass of one image, for each normalisation over groups of channels.
    pub fn image_statistics(&self) -> ImageStatistics {
        ImageStatistics(self.moments.iter().map(ChannelMoments::of_image).collect())
    }

    /// Lets normalisations over groups of channels take these statistics instead of those of the image, or again its own.
    pub fn set_image_statistics(&mut self, given: Option<&ImageStatistics>) {
        match given {
            Some(given) if given.0.len() == self.given.len() => self.given.clone_from(&given.0),
            _ => self.given.iter_mut().for_each(Vec::clear),
        }
    }

    /// Copies output `index` into `to` (`[batch, height, width, channels]`), before [`backward`](Self::backward).
    pub fn output(&self, index: usize, to: &mut [f32]) {
        let node = self.graph.outputs()[index];
        self.layouts[node].unpack(self.maps.slice(self.slots[node]), to);
    }

    /// Lets the moving statistics of `weights` take in those of the last forward pass, which count as the network says, and
    /// with no less than `share` (0 to 1).
    pub fn update_statistics(&self, weights: &mut Weights, share: f32) {
        for (id, moments) in self.moments.iter().enumerate() {
            if let Some(new) = moments.moving() {
                weights.blend_statistics(&self.graph, id, self.offsets[id], &new, share);
            }
        }
    }
}

impl Graph {
    /// Bytes that an engine on the CPU takes for batches of this shape, `[batch, height, width]`, with what goes in and comes
    /// out; known before any of it is taken. While training, that includes the gradients.
    ///
    /// # Errors
    /// [`Error::Config`] when the size is not a multiple of what the network divides by.
    pub fn bytes(&self, shape: [usize; 3], training: bool) -> Result<u64> {
        Ok(CpuPlan::planned(&Arc::new(self.clone()), Method::Fast, shape, training, bands::ROWS)?.required())
    }

    /// The same for an engine that spares memory and does not train.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn sparing_bytes(&self, shape: [usize; 3]) -> Result<u64> {
        Ok(CpuPlan::planned(&Arc::new(self.clone()), Method::Direct, shape, false, bands::ROWS)?.sparing().required())
    }
}

/// The values of a vector node, `[batch][channels]`.
pub(super) fn vector(layout: &Layout, map: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; layout.batch() * layout.channels()];
    layout.unpack(map, &mut values);
    values
}

/// The Euclidean length of a vector.
pub(super) fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt()
}

/// Whether every vector of the node's map is written anew each time: then its buffer may hold anything before.
fn is_overwritten(graph: &Graph, id: NodeId) -> bool {
    !matches!(graph.nodes()[id].op, Op::Input | Op::GlobalAveragePool { .. } | Op::L2Normalize { .. })
}

/// Whether the input is read by convolutions alone: only these can read a narrow map.
fn is_convolved_only(graph: &Graph) -> bool {
    (0..graph.nodes().len())
        .filter(|&id| graph.reads(id).contains(&0))
        .all(|id| matches!(graph.nodes()[id].op, Op::Conv { .. }) && graph.reads(id) == [0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::{CellposeConfig, ElephantConfig, StarDistConfig};

    #[test]
    fn a_sparing_plan_computes_the_same_with_the_weights_of_one_layer() {
        let graph =
            StarDistConfig { n_filter_base: 8, n_depth: 2, net_conv_after_unet: 8, ..Default::default() }.graph();
        let graph = Arc::new(graph);
        let weights = Weights::init(&graph, 1);
        let input: Vec<f32> = (0..48 * 32).map(|index| (index % 7) as f32 / 7.0).collect();
        let outputs = |mut plan: CpuPlan| {
            plan.set_weights(&weights);
            let runs = [0, 1].map(|_| {
                plan.forward(&weights, &input);
                let mut values = vec![0.0; plan.output_shape(1).iter().product()];
                plan.output(1, &mut values);
                values
            });
            let kept =
                plan.convs.iter_mut().flatten().map(|conv| usize::from(!conv.take_memory().is_empty())).sum::<usize>();
            (runs, kept)
        };
        let plan = || CpuPlan::new(&graph, Method::Direct, [1, 48, 32], false).unwrap();
        let ((usual, all), (sparing, none)) = (outputs(plan()), outputs(plan().sparing()));
        assert!(usual == sparing && all > 9 && none == 0, "{all} and {none} layers");
        assert!(plan().sparing().required() < plan().required());
        assert_eq!(graph.sparing_bytes([1, 48, 32]).unwrap(), plan().sparing().required());
        assert!(!CpuPlan::new(&graph, Method::Direct, [1, 48, 32], true).unwrap().sparing().is_sparing);
    }

    #[test]
    fn what_a_plan_takes_is_known_before() {
        let graphs = [
            StarDistConfig { n_filter_base: 4, n_depth: 2, net_conv_after_unet: 8, ..Default::default() }.graph(),
            CellposeConfig { widths: vec![8, 20, 16], ..Default::default() }.graph(),
            ElephantConfig { widths: vec![8, 16, 32], residual: true, ..Default::default() }.graph(),
        ];
        for graph in graphs.map(Arc::new) {
            for training in [false, true] {
                let shape = [2, 48, 32];
                let weights = Weights::init(&graph, 1);
                let mut plan = CpuPlan::new(&graph, Method::Fast, shape, training).unwrap();
                let (bytes, known) = (plan.bytes() as u64, graph.bytes(shape, training).unwrap());
                assert!(bytes <= known && known < 4 * bytes, "{bytes} bytes, {known} said");
                plan.set_weights(&weights);
                let outputs: Vec<Vec<f32>> =
                    (0..plan.output_count()).map(|k| vec![0.5; plan.output_shape(k).iter().product()]).collect();
                let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
                let mut gradients: Vec<Vec<f32>> =
                    weights.parameters().iter().map(|parameter| vec![0.0; parameter.values.len()]).collect();
                for _ in 0..if training { 3 } else { 1 } {
                    plan.forward(&weights, &vec![0.5; 2 * 48 * 32 * graph.input_channels()]);
                    if training {
                        plan.backward(&weights, &outputs, &mut gradients);
                    }
                    assert_eq!(plan.bytes() as u64, bytes, "a step took memory");
                }
            }
            // A batch that no machine has room for is no reason to end the process.
            assert!(graph.bytes([256, 1 << 16, 1 << 16], true).unwrap() > 1 << 45);
            assert!(matches!(graph.bytes([1, 33, 32], false), Err(Error::Config(_))));
        }
    }
}
