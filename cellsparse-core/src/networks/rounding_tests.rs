//! What the bits of a StarDist network's outputs depend on: how far a tile has to reach for its maps to be those of the image.

use std::ops::Range;
use std::sync::Arc;

use cellsparse_kernels::{Conv, Layout, Method};

use super::{CpuPlan, Graph, Op, StarDistConfig, Weights};
use crate::random::Random;

/// Pixels of a network's input along an axis: those of the image, and of a tile of it.
struct Tile {
    axis: usize,
    image: usize,
    tile: Range<usize>,
}

impl Tile {
    /// Whether all that the outputs for these pixels of the image are computed from lies in the tile, where the image goes on.
    /// With `bits`, that is all that is computed together with them too.
    fn holds(&self, graph: &Graph, method: Method, pixels: Range<usize>, bits: bool) -> bool {
        let nodes = graph.nodes();
        let mut needed: Vec<Option<Range<usize>>> = vec![None; nodes.len()];
        let scale = |id: usize| nodes[id].scale[self.axis];
        for &output in graph.outputs() {
            needed[output] = Some(pixels.start / scale(output)..pixels.end / scale(output));
        }
        for id in (0..nodes.len()).rev() {
            let Some(own) = needed[id].clone() else { continue };
            let missing = (self.tile.start > 0 && own.start < self.tile.start / scale(id))
                || (self.tile.end < self.image && own.end > self.tile.end / scale(id));
            if missing {
                return false;
            }
            let narrow = graph.sources(id).iter().any(|&source| nodes[source].channels <= Layout::NARROW);
            let source = match nodes[id].op {
                Op::Conv { kernel: 3, .. } => {
                    let group = if bits && method == Method::Fast && !narrow { Conv::GROUP } else { 1 };
                    (own.start / group * group).saturating_sub(1)..own.end.next_multiple_of(group) + 1
                }
                Op::MaxPool { by, .. } => own.start * by[self.axis]..own.end * by[self.axis],
                Op::Upsample { by, .. } => own.start / by[self.axis]..own.end.div_ceil(by[self.axis]),
                _ => own,
            };
            for read in graph.reads(id) {
                let source = source.start..source.end.min(self.image / scale(read));
                let all = needed[read].take().unwrap_or(source.clone());
                needed[read] = Some(all.start.min(source.start)..all.end.max(source.end));
            }
        }
        true
    }

    /// The most pixels that are [held](Self::holds) by the tile, from its middle on in steps of a block.
    fn held(&self, graph: &Graph, method: Method, bits: bool) -> Range<usize> {
        let block = graph.divisor()[self.axis];
        let middle = (self.tile.start + self.tile.len() / 2) / block * block;
        let (mut start, mut end) = (middle, middle);
        while start > self.tile.start && self.holds(graph, method, start - block..middle, bits) {
            start -= block;
        }
        while end < self.tile.end && self.holds(graph, method, middle..end + block, bits) {
            end += block;
        }
        start..end
    }
}

/// The bits of all outputs, row by row of the chosen axis: `[output][along the axis][all else]`.
fn bits(
    graph: &Arc<Graph>,
    method: Method,
    sides: [usize; 2],
    input: &[f32],
    axis: usize,
    threads: usize,
) -> Vec<Vec<Vec<u32>>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let weights = Weights::init(graph, 3);
        let mut plan = CpuPlan::new(graph, method, [1, sides[0], sides[1]], false).unwrap();
        plan.set_weights(&weights);
        plan.forward(&weights, input);
        (0..plan.output_count())
            .map(|index| {
                let [_, rows, columns, channels] = plan.output_shape(index);
                let mut values = vec![0.0; rows * columns * channels];
                plan.output(index, &mut values);
                let line = |at: usize| {
                    let across = 0..[columns, rows][axis];
                    let place = move |other: usize| if axis == 0 { at * columns + other } else { other * columns + at };
                    let pixel = |other: usize| {
                        values[place(other) * channels..][..channels].iter().map(|value| value.to_bits())
                    };
                    across.flat_map(pixel).collect()
                };
                (0..[rows, columns][axis]).map(line).collect()
            })
            .collect()
    })
}

#[test]
fn a_tile_has_the_bits_of_the_image_where_it_holds_all_that_is_computed_together() {
    let star = |grid: [usize; 2], change: &dyn Fn(&mut StarDistConfig)| {
        let mut config =
            StarDistConfig { n_filter_base: 4, n_depth: 1, net_conv_after_unet: 8, grid, ..StarDistConfig::default() };
        change(&mut config);
        Arc::new(config.graph())
    };
    let graphs = [
        star([1, 1], &|_| {}),
        star([2, 2], &|config| config.n_channels = 4),
        star([2, 1], &|config| (config.batch_norm, config.n_classes) = (true, Some(2))),
        star([1, 1], &|config| config.n_depth = 2),
    ];
    let mut random = Random::new(6, 0);
    let (mut equal, mut rounded) = (0, 0);
    for (graph, method) in graphs.iter().flat_map(|graph| [(graph, Method::Fast), (graph, Method::Direct)]) {
        for axis in 0..2 {
            let (block, other) = (graph.divisor()[axis], 2 * graph.divisor()[1 - axis]);
            let image = 30 * 4 * block;
            let along = |long: usize| if axis == 0 { [long, other] } else { [other, long] };
            let channels = graph.input_channels();
            let values: Vec<f32> = (0..image * other * channels).map(|_| random.unit() as f32).collect();
            let whole = bits(graph, method, along(image), &values, axis, 1);
            for _ in 0..4 {
                // Groups of all levels begin with the tile.
                let step = if method == Method::Fast { Conv::GROUP * block } else { block };
                let begin = random.below(image / 3 / step) * step;
                let len = image / 2 + random.below(image / 8 / block) * block;
                let tile = Tile { axis, image, tile: begin..begin + len };
                let [height, width] = along(len);
                let [top, left] = if axis == 0 { [begin, 0] } else { [0, begin] };
                let row = |y: usize| ((top + y) * along(image)[1] + left) * channels;
                let part: Vec<f32> = (0..height).flat_map(|y| &values[row(y)..][..width * channels]).copied().collect();
                let found = bits(graph, method, [height, width], &part, axis, 1 + random.below(3));
                let [exact, right] = [true, false].map(|bits| tile.held(graph, method, bits));
                assert!(
                    !exact.is_empty() && (method == Method::Fast || exact == right),
                    "{exact:?} of {:?}",
                    tile.tile
                );
                for (whole, found) in whole.iter().zip(&found) {
                    let scale = image / whole.len();
                    let differs = |at: &usize| whole[*at] != found[at - begin / scale];
                    let lines = |pixels: &Range<usize>| pixels.start / scale..pixels.end / scale;
                    assert_eq!(lines(&exact).find(differs), None, "{method:?} {axis}: {exact:?} of {:?}", tile.tile);
                    equal += lines(&exact).len();
                    rounded += lines(&right).filter(differs).count();
                }
            }
        }
    }
    // Beyond that, sums of the same pixels are rounded apart: a margin of the receptive field does not suffice.
    assert!(equal > 1000 && rounded > 0, "{equal} lines are equal, {rounded} rounded apart");
}

#[test]
fn tiles_that_overlap_by_the_receptive_radius_hold_what_they_keep() {
    let usual = StarDistConfig { n_filter_base: 2, ..StarDistConfig::default() };
    let configs = [
        usual.clone(),
        StarDistConfig { grid: [1, 1], net_conv_after_unet: 0, ..usual.clone() },
        StarDistConfig { grid: [4, 2], n_depth: 2, ..usual.clone() },
        StarDistConfig { grid: [1, 8], n_depth: 1, n_conv_per_depth: 1, ..usual.clone() },
        StarDistConfig { n_conv_per_depth: 3, n_depth: 4, ..usual },
    ];
    for config in configs {
        let graph = config.graph();
        for axis in 0..2 {
            let (radius, grid, block) = (config.receptive_radius()[axis], config.grid[axis], graph.divisor()[axis]);
            let margin = radius.next_multiple_of(block);
            let (begin, end) = (margin, 3 * margin + 4 * block);
            let tile = Tile { axis, image: end + margin, tile: begin..end };
            let holds = |at: usize| tile.holds(&graph, Method::Direct, at..at + grid, false);
            let lost: Vec<usize> = (begin..end).step_by(grid).filter(|&at| !holds(at)).collect();
            let kept = |&at: &usize| at >= begin + radius && at + grid + radius <= end;
            assert_eq!(
                lost.iter().copied().find(|at| kept(at)),
                None,
                "{config:?}, axis {axis}: {begin}..{end} with {radius}"
            );
            for at in [begin + radius - grid, end - radius] {
                assert!(lost.contains(&at), "{config:?}, axis {axis}: less than {radius} would do");
            }
        }
    }
    assert_eq!(StarDistConfig::default().receptive_radius(), [94, 94]);
}
