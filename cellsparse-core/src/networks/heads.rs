//! Which nodes of a network are computed in one pass: its heads, which read the same map.

use std::borrow::Cow;
use std::ops::Range;

use super::graph::{Graph, NodeId, Op};
use super::weights::Weights;

/// For every node those that are computed when its turn comes: itself; with the first of several heads that follow each other and
/// read the same map all of them, and with the others none.
pub(super) fn passes(graph: &Graph) -> Vec<Range<NodeId>> {
    let nodes = graph.nodes().len();
    let mut passes: Vec<Range<NodeId>> = (0..nodes).map(|id| id..id + 1).collect();
    let mut first = 0;
    for id in 1..nodes {
        if is_head(graph, id) && is_head(graph, first) && is_alike(&graph.nodes()[first].op, &graph.nodes()[id].op) {
            passes[first].end = id + 1;
            passes[id] = id..id;
        } else {
            first = id;
        }
    }
    passes
}

/// The kernels and the biases of the convolutions `nodes`, the channels of all side by side.
pub(super) fn side_by_side<'w>(
    graph: &Graph,
    nodes: Range<NodeId>,
    offsets: &[usize],
    weights: &'w Weights,
) -> [Cow<'w, [f32]>; 2] {
    let has_bias = matches!(graph.nodes()[nodes.start].op, Op::Conv { bias: true, .. });
    [(0, true), (1, has_bias)].map(|(part, is_there)| {
        let of = |id: NodeId| if is_there { weights.values(offsets[id] + part) } else { &[] };
        if nodes.len() == 1 {
            return Cow::Borrowed(of(nodes.start));
        }
        let channels = nodes.clone().map(|id| graph.nodes()[id].channels);
        let mut rows: Vec<_> =
            nodes.clone().zip(channels).map(|(id, channels)| of(id).chunks_exact(channels)).collect();
        let mut joined = Vec::new();
        while let Some(row) = rows.iter_mut().map(Iterator::next).collect::<Option<Vec<&[f32]>>>() {
            row.into_iter().for_each(|values| joined.extend_from_slice(values));
        }
        Cow::Owned(joined)
    })
}

/// Gives every one of several parts its channels out of values that have those of all side by side.
pub(super) fn deal_out(joined: &[f32], parts: &mut [(usize, &mut [f32])]) {
    let all: usize = parts.iter().map(|(channels, _)| channels).sum();
    let mut first = 0;
    for (channels, part) in parts {
        for (to, from) in part.chunks_exact_mut(*channels).zip(joined.chunks_exact(all)) {
            to.copy_from_slice(&from[first..first + *channels]);
        }
        first += *channels;
    }
}

/// Whether a node is a 1x1 convolution to an output that nothing else reads.
fn is_head(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.nodes()[id].op, Op::Conv { kernel: 1, residual: None, .. })
        && graph.outputs().contains(&id)
        && (0..graph.nodes().len()).all(|reader| !graph.reads(reader).contains(&id))
}

/// Whether two heads differ in their weights alone.
fn is_alike(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (
            Op::Conv { input, bias, activation, .. },
            Op::Conv { input: other, bias: other_bias, activation: other_activation, .. },
        ) => (input, bias, activation) == (other, other_bias, other_activation),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::{CellposeConfig, StarDistConfig};

    fn joined(graph: &Graph) -> Vec<Vec<&str>> {
        let names = |pass: Range<NodeId>| pass.map(|id| graph.nodes()[id].name.as_str()).collect();
        passes(graph).into_iter().filter(|pass| pass.len() > 1).map(names).collect()
    }

    #[test]
    fn heads_that_read_one_map_are_one_pass() {
        let star = StarDistConfig { n_filter_base: 2, net_conv_after_unet: 8, ..Default::default() };
        assert_eq!(joined(&star.graph()), [["prob", "dist"]]);
        let classes = StarDistConfig { n_classes: Some(2), ..star.clone() };
        assert_eq!(joined(&classes.graph()), [["prob", "dist"]], "classes have a map of their own");
        let bare = StarDistConfig { net_conv_after_unet: 0, ..classes };
        assert_eq!(joined(&bare.graph()), [["prob", "dist", "prob_class"]]);
        assert!(joined(&CellposeConfig::default().graph()).is_empty());
        let graph = bare.graph();
        let computed: Vec<NodeId> = passes(&graph).into_iter().flatten().collect();
        assert_eq!(computed, (0..graph.nodes().len()).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_put_side_by_side_is_dealt_out_again() {
        let graph =
            StarDistConfig { n_filter_base: 2, net_conv_after_unet: 3, n_rays: 4, ..Default::default() }.graph();
        let (weights, offsets) = (Weights::init(&graph, 1), graph.parameter_offsets());
        let nodes = passes(&graph).into_iter().find(|pass| pass.len() == 2).unwrap();
        let [kernels, biases] = side_by_side(&graph, nodes.clone(), &offsets, &weights);
        let (prob, dist) = (weights.values(offsets[nodes.start]), weights.values(offsets[nodes.start + 1]));
        assert_eq!((kernels.len(), biases.len()), (15, 5));
        assert_eq!(kernels[5..10], [&prob[1..2], &dist[4..8]].concat());
        let (mut first, mut second) = (vec![0.0; 3], vec![0.0; 12]);
        deal_out(&kernels, &mut [(1, &mut first), (4, &mut second)]);
        assert!(first == prob && second == dist);
    }
}
