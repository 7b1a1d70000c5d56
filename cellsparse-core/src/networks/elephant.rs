//! The ELEPHANT segmentation network: a U-Net with group normalisation, or one with residual blocks in the encoder.

use serde::{Deserialize, Serialize};

use super::cellpose::widths_in_range;
use super::graph::{Activation, Graph, Initializer, NodeId, Statistics};
use crate::error::{Error, Result};

/// Architecture of an ELEPHANT network. The default is that of elephant-core 0.5.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ElephantConfig {
    /// Channels of the network's input.
    pub n_channels: usize,
    /// Channels of each level, from the finest; one max pooling between two levels.
    pub widths: Vec<usize>,
    /// Residual blocks in the encoder ("ResUNet").
    pub residual: bool,
}

impl Default for ElephantConfig {
    fn default() -> Self {
        Self { n_channels: 1, widths: vec![16, 32, 64, 128, 256], residual: false }
    }
}

/// Groups of a group normalisation; a map with fewer channels has one group for each.
const GROUPS: usize = 32;

impl ElephantConfig {
    /// Refuses values that no network can have.
    ///
    /// # Errors
    /// [`Error::Config`] that names the field, its value and its range.
    pub fn check(&self) -> Result<()> {
        if !(1..=64).contains(&self.n_channels) {
            return Err(Error::Config(format!("n_channels is {}; it must lie between 1 and 64", self.n_channels)));
        }
        let fits = |width: &usize| (1..=1024).contains(width) && width.is_multiple_of((*width).min(GROUPS));
        if !(2..=6).contains(&self.widths.len()) || !self.widths.iter().all(fits) {
            return Err(Error::Config(format!(
                "widths are {:?}; give 2 to 6 numbers, one for each level, of 1 to {GROUPS} or a multiple of {GROUPS} up to 1024",
                self.widths
            )));
        }
        Ok(())
    }

    /// The network; levels and widths out of range ([`check`](Self::check)) are taken for the nearest in range. Output:
    /// logits of background, border and centre (3 channels). Layers have the names of the state dicts of elephant-core.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new(Initializer::He);
        let mut x = graph.input(self.n_channels.clamp(1, 64));
        let mut levels = Vec::new();
        let widths: Vec<usize> = widths_in_range(&self.widths)
            .into_iter()
            .map(|width| if width > GROUPS { width.next_multiple_of(GROUPS) } else { width })
            .collect();
        let (base, encoder) = widths.split_last().unwrap_or((&1, &[]));
        for (level, &width) in encoder.iter().enumerate() {
            x = self.encoder_block(&mut graph, &format!("encoder.{level}"), x, width);
            levels.push((x, width));
            x = graph.max_pool(&format!("pool.{level}"), x, [2, 2]);
        }
        x = self.encoder_block(&mut graph, "base", x, *base);
        for (index, (skip, width)) in levels.into_iter().rev().enumerate() {
            let up = graph.upsample(&format!("up.{index}"), x, [2, 2]);
            let both = graph.concat(&format!("concat.{index}"), &[skip, up]);
            x = plain_block(&mut graph, &format!("decoder.{index}"), both, width);
        }
        let logits = graph.conv("out_conv", x, 1, 3, Activation::Linear);
        graph.output(logits);
        graph
    }

    fn encoder_block(&self, graph: &mut Graph, name: &str, x: NodeId, width: usize) -> NodeId {
        if !self.residual {
            return plain_block(graph, name, x, width);
        }
        let projected = graph.projection(&format!("{name}.res"), x, width);
        let first = graph.conv(&format!("{name}.conv1"), x, 3, width, Activation::Relu);
        let first = norm(graph, &format!("{name}.norm1"), first);
        let sum = graph.conv_onto(&format!("{name}.conv2"), first, 3, projected, Activation::LeakyRelu(0.1));
        norm(graph, &format!("{name}.norm2"), sum)
    }
}

/// Twice convolution, ReLU, normalisation.
fn plain_block(graph: &mut Graph, name: &str, x: NodeId, width: usize) -> NodeId {
    let first = graph.conv(&format!("{name}.0"), x, 3, width, Activation::Relu);
    let first = norm(graph, &format!("{name}.2"), first);
    let second = graph.conv(&format!("{name}.3"), first, 3, width, Activation::Relu);
    norm(graph, &format!("{name}.5"), second)
}

fn norm(graph: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let channels = graph.nodes()[x].channels;
    let statistics = Statistics::Group { channels: channels / channels.min(GROUPS) };
    graph.norm(name, x, None, statistics, 1e-5, Activation::Linear)
}

#[cfg(test)]
mod tests {
    use super::super::CellposeConfig;
    use super::*;

    #[test]
    fn every_configuration_gives_a_network_and_those_out_of_range_are_refused() {
        for widths in [vec![], vec![0, 2000], vec![4; 70], vec![usize::MAX, 33]] {
            let elephant = ElephantConfig { widths: widths.clone(), n_channels: 0, residual: true };
            assert!(elephant.check().is_err() && elephant.graph().outputs().len() == 1, "{widths:?}");
            let cellpose = CellposeConfig { widths, n_channels: 0, ..CellposeConfig::default() };
            assert!(cellpose.check().is_err() && cellpose.graph().outputs().len() == 2);
        }
    }
}
