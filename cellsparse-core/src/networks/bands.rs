//! Parts of a network that are computed for a band of rows at a time, so that the largest maps never exist as a whole.
//!
//! Between the input and the first pooling, and between the last upsampling and the outputs, a network holds maps that nothing
//! else reads. In an inference plan these are computed band by band in a window of rows that moves down the image. What goes in is
//! copied from the whole maps. Every map of the part is computed as far as its sources are, so that it lags behind them by the rows
//! that the kernels compute together, and goes on where it ended in the window before, of which the last rows are held. So every
//! row is computed once, from the same values as without bands, and has the same bits.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cellsparse_kernels::{Buffer, Conv, Layout, copy_rows};

use super::cpu::CpuPlan;
use super::graph::{Graph, NodeId, Op, Statistics};
use super::memory::{NO_SLOT, Places, Pool};
use super::weights::Weights;
use crate::control::CancelToken;
use crate::error::Result;

/// Rows of a band, in the finest maps of a part. Less takes less memory, leaves more of it in the caches and gives the same values; for every
/// band, buffers are cleared at the edges and some rows copied, and many threads need rows enough to share.
pub(super) const ROWS: usize = 64;

/// A part of the network that is computed in bands: nodes that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub nodes: RangeInclusive<NodeId>,
    /// Maps that are read and do not belong to the part.
    reads: Vec<NodeId>,
    /// Maps of the part that are read elsewhere, or outputs.
    keeps: Vec<NodeId>,
    /// How many times smaller than the input the finest maps are, in rows.
    scale: usize,
    /// For every node the rows at the lower edge of a window that are left to the next one, in rows of the finest maps.
    lags: Vec<usize>,
    /// For every node the rows that its readers look back at, above those that a step computes; the readers lag further behind.
    held: Vec<usize>,
    /// What windows begin at multiples of, in rows of the finest maps.
    unit: usize,
}

/// A place of the window, in rows of the finest maps of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// First row of the window.
    top: usize,
    /// Rows from the window before to this one; none for the first.
    down: Option<usize>,
    /// Whether the window ends with the image.
    is_last: bool,
}

/// A part for one size of images.
#[derive(Debug)]
pub(super) struct Bands {
    pub part: Part,
    pub steps: Vec<Step>,
    /// Rows of a window, in the finest maps.
    window: usize,
    /// The layouts of a window, for the nodes of the part and those that it reads.
    pub layouts: Vec<Layout>,
    /// The buffers of a window, for the same nodes.
    pub slots: Vec<usize>,
    /// The buffers of the rows that are held between two steps, for the nodes that have some.
    held_slots: Vec<usize>,
}

impl Part {
    /// The parts of a network that are computed in bands: what leads to the first pooling, and what leads to the outputs.
    pub fn of(graph: &Graph) -> Vec<Self> {
        let pooling = graph.nodes().iter().position(|node| matches!(node.op, Op::MaxPool { .. }));
        let before = pooling.and_then(|pool| Self::leading_to(graph, &[pool], graph.sources(pool)[0]));
        let after = graph.outputs().first().and_then(|&output| Self::leading_to(graph, graph.outputs(), output));
        let mut parts: Vec<Self> = before.into_iter().chain(after).collect();
        // Those of a network without levels are one.
        parts.dedup_by(|b, a| b.nodes.start() <= a.nodes.end());
        parts
    }

    /// All that nothing else reads than `last` and what leads to it, of the scale of `finest`.
    fn leading_to(graph: &Graph, last: &[NodeId], finest: NodeId) -> Option<Self> {
        let nodes = graph.nodes();
        let scale = nodes[finest].scale;
        let mut inside = vec![false; nodes.len()];
        for &id in last {
            inside[id] = is_local(graph, id);
        }
        for id in (1..nodes.len()).rev() {
            let readers = readers(graph, id);
            let belongs = nodes[id].scale == scale && is_local(graph, id) && !readers.is_empty();
            inside[id] |= belongs && readers.into_iter().all(|reader| inside[reader]);
        }
        let first = inside.iter().position(|inside| *inside)?;
        let end = inside.iter().rposition(|inside| *inside)?;
        let is_whole = (first..=end).all(|id| inside[id] || !is_stored(graph, id));
        let reads = external(graph, &inside);
        // Something must be saved: a map that lies between what goes in and what comes out.
        let keeps: Vec<NodeId> = (first..=end).filter(|&id| inside[id] && is_kept(graph, &inside, id)).collect();
        let saves = (first..=end).any(|id| inside[id] && !keeps.contains(&id));
        // Only a pooling at the end may have another scale than the finest maps.
        let has_one_scale = (first..=end)
            .all(|id| !inside[id] || nodes[id].scale == scale || matches!(nodes[id].op, Op::MaxPool { .. }));
        if !is_whole || !saves || !has_one_scale || reads.iter().any(|&id| nodes[id].scale[0] == 0) || scale[0] == 0 {
            return None;
        }
        let scales = reads.iter().chain(&keeps).map(|&id| nodes[id].scale[0]);
        let factors: Vec<usize> = scales.map(|other| other.max(scale[0]) / other.min(scale[0])).collect();
        let unit =
            (1..).map(|times| times * Conv::GROUP).find(|unit| factors.iter().all(|factor| unit % factor == 0))?;
        let lags = lags(graph, &inside, scale[0]);
        let held = held(graph, &inside, &lags);
        Some(Self { nodes: first..=end, reads, keeps, scale: scale[0], lags, held, unit })
    }

    /// The bands of images of that many rows, whose maps have these layouts; none for an image that has not many rows.
    pub fn bands(&self, graph: &Graph, layouts: &[Layout], height: usize, rows: usize) -> Option<Bands> {
        let height = height / self.scale;
        let rows = rows.checked_next_multiple_of(self.unit)?;
        // The row above those that the last map is computed in belongs to the window.
        let behind = self.lags.iter().max()? + 1;
        let window = rows.checked_add(behind.next_multiple_of(self.unit))?;
        if height / 2 < window || !height.is_multiple_of(self.unit) {
            return None;
        }
        let top = |step: usize| (step * rows).min(height - window);
        let steps = (0..=(height - window).div_ceil(rows)).map(|step| Step {
            top: top(step),
            down: step.checked_sub(1).map(|before| top(step) - top(before)),
            is_last: top(step) == height - window,
        });
        let mut bands = Bands {
            part: self.clone(),
            steps: steps.collect(),
            window,
            layouts: layouts.to_vec(),
            slots: vec![NO_SLOT; layouts.len()],
            held_slots: vec![NO_SLOT; layouts.len()],
        };
        for id in self.nodes.clone().chain(self.reads.iter().copied()) {
            bands.layouts[id] = layouts[id].of_rows(bands.rows_of(graph, id, window));
        }
        Some(bands)
    }
}

impl Bands {
    /// Hands out the buffers of a window, which are free again afterwards.
    pub fn assign(&mut self, graph: &Graph, maps: &mut Pool) {
        let mut held = Vec::new();
        for id in self.part.nodes.clone().filter(|&id| self.part.held[id] > 0) {
            self.held_slots[id] = maps.acquire(&self.layouts[id].of_rows(self.part.held[id]));
            held.push(self.held_slots[id]);
        }
        for &id in &self.part.reads {
            self.slots[id] = maps.acquire_any(&self.layouts[id]);
            held.push(self.slots[id]);
        }
        let stored: Vec<NodeId> = self.part.nodes.clone().filter(|&id| is_stored(graph, id)).collect();
        let last_use = |id: NodeId| readers(graph, id).pop();
        for &id in &stored {
            self.slots[id] = maps.acquire_any(&self.layouts[id]);
            held.push(self.slots[id]);
            let mut reads = graph.reads(id);
            reads.sort_unstable();
            reads.dedup();
            for source in reads.into_iter().filter(|&source| self.part.nodes.contains(&source)) {
                if last_use(source) == Some(id) && !self.part.keeps.contains(&source) {
                    maps.release(self.slots[source]);
                    held.retain(|slot| *slot != self.slots[source]);
                }
            }
        }
        held.into_iter().for_each(|slot| maps.release(slot));
    }

    /// Whether a buffer holds rows of a window.
    pub fn uses(&self, slot: usize) -> bool {
        self.slots.contains(&slot) || self.held_slots.contains(&slot)
    }

    /// Rows of the map of a node for that many of the finest maps.
    fn rows_of(&self, graph: &Graph, id: NodeId, rows: usize) -> usize {
        rows * self.part.scale / graph.nodes()[id].scale[0]
    }

    /// The rows of the map of a node, in its window, that a step computes.
    pub fn fresh(&self, graph: &Graph, step: &Step, id: NodeId) -> Range<usize> {
        let end = self.window - self.part.lags[id];
        let rows = step.down.map_or(0, |down| end - down)..if step.is_last { self.window } else { end };
        self.rows_of(graph, id, rows.start)..self.rows_of(graph, id, rows.end)
    }

    /// Copies the window of a step of image `n` out of the maps that the part reads.
    pub fn read(&self, graph: &Graph, step: &Step, n: usize, whole: Places<'_>, maps: &mut Pool) {
        for &id in &self.part.reads {
            let (from, to) = (&whole.layouts[id], &self.layouts[id]);
            let mut buffer = maps.take(self.slots[id]);
            let source = &maps.slice(whole.slots[id])[n * from.image()..];
            // With the row above and the one below, which are zeros around the image.
            let top = self.rows_of(graph, id, step.top);
            copy_rows((from, source, top), (to, buffer.as_mut_slice(), 0), to.height() + 2);
            maps.put(self.slots[id], buffer);
        }
    }

    /// Completes the window of a node by the rows above those that the step computed, and holds the last ones for the next step.
    pub fn hold(&self, graph: &Graph, step: &Step, id: NodeId, map: &mut [f32], maps: &mut Pool) {
        let (rows, layout) = (self.part.held[id], &self.layouts[id]);
        if rows == 0 {
            return;
        }
        let (own, fresh) = (layout.of_rows(rows), self.fresh(graph, step, id));
        let mut buffer = maps.take(self.held_slots[id]);
        if step.down.is_some() {
            copy_rows((&own, buffer.as_slice(), 1), (layout, map, fresh.start - rows + 1), rows);
        }
        if !step.is_last {
            copy_rows((layout, map, fresh.end - rows + 1), (&own, buffer.as_mut_slice(), 1), rows);
        }
        maps.put(self.held_slots[id], buffer);
    }

    /// Copies the rows that a step of image `n` computed into the maps that are kept.
    pub fn keep(&self, graph: &Graph, step: &Step, n: usize, whole: Places<'_>, maps: &mut Pool) {
        for &id in &self.part.keeps {
            let (from, to) = (&self.layouts[id], &whole.layouts[id]);
            let fresh = self.fresh(graph, step, id);
            let mut buffer = maps.take(whole.slots[id]);
            let target = &mut buffer.as_mut_slice()[n * to.image()..];
            let top = self.rows_of(graph, id, step.top);
            let source = (from, maps.slice(self.slots[id]), fresh.start + 1);
            copy_rows(source, (to, target, top + fresh.start + 1), fresh.len());
            maps.put(whole.slots[id], buffer);
        }
    }

    /// The maps of whole images that are read.
    pub fn reads(&self) -> &[NodeId] {
        &self.part.reads
    }

    /// The maps that are kept.
    pub fn keeps(&self) -> &[NodeId] {
        &self.part.keeps
    }
}

impl CpuPlan {
    /// Computes the nodes of a part of the network band by band.
    pub(super) fn forward_bands(&mut self, bands: &Bands, weights: &Weights, cancel: &CancelToken) -> Result<()> {
        let graph = Arc::clone(&self.graph);
        for &kept in bands.keeps().iter().filter(|&&kept| self.resized[kept]) {
            self.layouts[kept].clear_border(self.maps.slice_mut(self.slots[kept]));
        }
        bands.part.nodes.clone().for_each(|id| self.times[id].forward = Duration::ZERO);
        for (n, step) in (0..self.layouts[0].batch()).flat_map(|n| bands.steps.iter().map(move |step| (n, step))) {
            let whole = Places { layouts: &self.layouts, slots: &self.slots };
            bands.read(&graph, step, n, whole, &mut self.maps);
            for id in bands.part.nodes.clone().filter(|&id| bands.slots[id] != NO_SLOT) {
                let pass = self.passes[id].clone();
                if pass.is_empty() {
                    continue;
                }
                cancel.check()?;
                let begin = Instant::now();
                let mut targets: Vec<Buffer> = pass.clone().map(|node| self.maps.take(bands.slots[node])).collect();
                for (node, target) in pass.clone().zip(&mut targets) {
                    bands.layouts[node].clear_border(target.as_mut_slice());
                }
                self.run(id, Some((bands, step)), weights, &mut targets);
                for (node, mut target) in pass.zip(targets) {
                    bands.hold(&graph, step, node, target.as_mut_slice(), &mut self.maps);
                    self.maps.put(bands.slots[node], target);
                }
                self.times[id].forward += begin.elapsed();
            }
            let whole = Places { layouts: &self.layouts, slots: &self.slots };
            bands.keep(&graph, step, n, whole, &mut self.maps);
        }
        Ok(())
    }
}

/// Whether a node has a map of its own.
fn is_stored(graph: &Graph, id: NodeId) -> bool {
    !matches!(graph.nodes()[id].op, Op::Concat { .. })
}

/// Whether a value depends on its surroundings alone.
fn is_local(graph: &Graph, id: NodeId) -> bool {
    match graph.nodes()[id].op {
        Op::Conv { .. } | Op::MaxPool { .. } | Op::Upsample { .. } => graph.nodes()[id].scale[0] > 0,
        Op::Norm { style, statistics, .. } => style.is_none() && matches!(statistics, Statistics::Batch { .. }),
        Op::Input | Op::Concat { .. } | Op::GlobalAveragePool { .. } | Op::L2Normalize { .. } => false,
    }
}

fn external(graph: &Graph, inside: &[bool]) -> Vec<NodeId> {
    let mut reads: Vec<NodeId> = (0..inside.len()).filter(|&id| inside[id]).flat_map(|id| graph.reads(id)).collect();
    reads.retain(|&id| !inside[id]);
    reads.sort_unstable();
    reads.dedup();
    reads
}

fn is_kept(graph: &Graph, inside: &[bool], id: NodeId) -> bool {
    graph.outputs().contains(&id) || readers(graph, id).into_iter().any(|reader| !inside[reader])
}

/// The nodes that read the map of a node.
fn readers(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    (id + 1..graph.nodes().len())
        .filter(|&reader| is_stored(graph, reader) && graph.reads(reader).contains(&id))
        .collect()
}

/// For every node the rows of the finest maps that it lags behind what the part reads, whose next row is always known.
fn lags(graph: &Graph, inside: &[bool], scale: usize) -> Vec<usize> {
    let mut lags = vec![0; inside.len()];
    for id in (0..inside.len()).filter(|&id| inside[id]) {
        let own = if looks_around(graph, id) { Conv::GROUP } else { 0 };
        let sources = graph.reads(id).into_iter().filter(|&source| inside[source]);
        let lag = sources.map(|source| lags[source] + own).max().unwrap_or(0);
        lags[id] = lag.next_multiple_of((graph.nodes()[id].scale[0] / scale).max(1));
    }
    lags
}

/// For every node the rows of its map that readers in the part look back at.
fn held(graph: &Graph, inside: &[bool], lags: &[usize]) -> Vec<usize> {
    let looks_back = |id: NodeId, reader: NodeId| lags[reader] - lags[id] + usize::from(looks_around(graph, reader));
    let of = |id: NodeId| {
        let readers = readers(graph, id).into_iter().filter(|&reader| inside[id] && inside[reader]);
        readers.map(|reader| looks_back(id, reader)).max().unwrap_or(0)
    };
    (0..inside.len()).map(of).collect()
}

/// Whether a value depends on the pixels beside it.
fn looks_around(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.nodes()[id].op, Op::Conv { kernel: 3, .. })
}

#[cfg(test)]
mod tests {
    use cellsparse_kernels::Method;

    use super::super::{CellposeConfig, ElephantConfig, StarDistConfig};
    use super::*;
    use crate::random::Random;

    fn star(change: impl FnOnce(&mut StarDistConfig)) -> Graph {
        let mut config =
            StarDistConfig { n_filter_base: 8, n_depth: 2, net_conv_after_unet: 24, ..StarDistConfig::default() };
        change(&mut config);
        config.graph()
    }

    fn parts(graph: &Graph) -> Vec<[&str; 2]> {
        let name = |id: NodeId| graph.nodes()[id].name.as_str();
        Part::of(graph).iter().map(|part| [name(*part.nodes.start()), name(*part.nodes.end())]).collect()
    }

    #[test]
    fn the_parts_lead_to_the_first_pooling_and_to_the_outputs() {
        let grid = star(|_| {});
        assert_eq!(parts(&grid), [["conv2d", "max_pooling2d"], ["up_0", "dist"]]);
        // Without a grid, the maps before the first pooling are also read at the end.
        assert_eq!(parts(&star(|config| config.grid = [1, 1])), [["up_0", "dist"]]);
        assert_eq!(parts(&star(|config| config.n_classes = Some(2)))[1], ["up_0", "prob_class"]);
        assert!(parts(&ElephantConfig::default().graph()).is_empty(), "its normalisation needs the whole image");
    }

    #[test]
    fn bands_give_the_bits_of_the_whole() {
        let graphs = [
            star(|_| {}),
            star(|config| config.grid = [1, 1]),
            star(|config| (config.grid, config.n_channels) = ([4, 2], 3)),
            star(|config| (config.n_classes, config.batch_norm) = (Some(3), true)),
            star(|config| (config.net_conv_after_unet, config.n_channels) = (0, 20)),
            CellposeConfig { widths: vec![8, 20, 16], ..CellposeConfig::default() }.graph(),
        ];
        for (index, graph) in graphs.map(Arc::new).into_iter().enumerate() {
            let weights = Weights::init(&graph, 3);
            for (method, shape) in [(Method::Fast, [1, 208, 48]), (Method::Direct, [2, 208, 48])] {
                let mut random = Random::new(5, 0);
                let values = shape.iter().product::<usize>() * graph.input_channels();
                let input: Vec<f32> = (0..values).map(|_| random.unit() as f32).collect();
                let outputs = |rows: usize| {
                    let mut plan = CpuPlan::banded(&graph, method, shape, false, rows).unwrap();
                    plan.set_weights(&weights);
                    // Twice: what a pass leaves in the buffers changes nothing.
                    plan.forward(&weights, &vec![7.0; input.len()]);
                    plan.forward(&weights, &input);
                    let output = |index: usize| {
                        let mut values = vec![0.0; plan.output_shape(index).iter().product()];
                        plan.output(index, &mut values);
                        values
                    };
                    let bits = (0..plan.output_count()).flat_map(output).map(f32::to_bits).collect::<Vec<_>>();
                    (bits, plan.bands.len(), plan.bytes())
                };
                let (whole, none, bytes) = outputs(usize::MAX);
                assert!(none == 0 && whole.iter().any(|bits| *bits != whole[0]));
                for rows in [4, 8, 12, 20] {
                    let (banded, parts, less) = outputs(rows);
                    assert!(banded == whole, "network {index}, {shape:?}, bands of {rows} rows");
                    if rows == 8 {
                        assert_eq!(parts, Part::of(&graph).len(), "{shape:?}");
                        // Where the largest maps lie at the end alone, others lend them their buffers, and windows come on top.
                        assert!(parts > 0 && (index > 0 || less < bytes), "{less} of {bytes} bytes");
                    }
                }
            }
        }
    }
}
