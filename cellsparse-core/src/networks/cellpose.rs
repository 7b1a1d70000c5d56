//! The Cellpose network: a residual U-Net whose decoder is steered by a style vector.

use serde::{Deserialize, Serialize};

use super::graph::{Activation, Graph, Initializer, NodeId, Statistics};
use crate::error::{Error, Result};

/// Architecture of a Cellpose network.
///
/// The default is narrower than the network of the Cellpose package, for training from scratch on a CPU;
/// [`CellposeConfig::reference`] is that of the package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CellposeConfig {
    /// Channels of the network's input.
    pub n_channels: usize,
    /// Channels of each level, from the finest; one max pooling between two levels.
    pub widths: Vec<usize>,
    /// Diameter in pixels to which cells are scaled for the network.
    pub diam_mean: f32,
}

impl Default for CellposeConfig {
    fn default() -> Self {
        Self { n_channels: 1, widths: vec![16, 32, 64, 128], diam_mean: 30.0 }
    }
}

impl CellposeConfig {
    /// The network of the Cellpose package: two channels, widths 32, 64, 128, 256.
    pub fn reference() -> Self {
        Self { n_channels: 2, widths: vec![32, 64, 128, 256], diam_mean: 30.0 }
    }

    /// Refuses values that no network can have.
    ///
    /// # Errors
    /// [`Error::Config`] that names the field, its value and its range.
    pub fn check(&self) -> Result<()> {
        if !(1..=64).contains(&self.n_channels) {
            return Err(Error::Config(format!("n_channels is {}; it must lie between 1 and 64", self.n_channels)));
        }
        if !(2..=6).contains(&self.widths.len()) || self.widths.iter().any(|width| !(1..=1024).contains(width)) {
            return Err(Error::Config(format!(
                "widths are {:?}; give 2 to 6 numbers between 1 and 1024, one for each level",
                self.widths
            )));
        }
        if !(self.diam_mean.is_finite() && (2.0..=1000.0).contains(&self.diam_mean)) {
            return Err(Error::Config(format!("diam_mean is {}; it must lie between 2 and 1000", self.diam_mean)));
        }
        Ok(())
    }

    /// The network; levels and widths out of range ([`check`](Self::check)) are taken for the nearest in range. Outputs:
    /// vertical flow, horizontal flow and cell probability logit (3 channels), and the style, a vector. Layers have the
    /// names of the state dicts of the Cellpose package.
    pub fn graph(&self) -> Graph {
        let mut builder = Builder { graph: Graph::new(Initializer::FanIn) };
        let mut x = builder.graph.input(self.n_channels.clamp(1, 64));
        let mut levels = Vec::new();
        for (level, width) in widths_in_range(&self.widths).into_iter().enumerate() {
            if level > 0 {
                x = builder.graph.max_pool(&format!("downsample.maxpool_{level}"), x, [2, 2]);
            }
            x = builder.down(&format!("downsample.down.res_down_{level}"), x, width);
            levels.push(x);
        }
        let mean = builder.graph.mean("make_style.avg_pool", x);
        let style = builder.graph.unit("make_style", mean);
        for (level, &skip) in levels.iter().enumerate().rev() {
            if level + 1 < levels.len() {
                x = builder.graph.upsample(&format!("upsample.upsampling_{level}"), x, [2, 2]);
            }
            x = builder.up(&format!("upsample.up.res_up_{level}"), x, skip, style);
        }
        let normalised = builder.norm("output.0", x, None, Activation::Relu);
        let output = builder.graph.conv("output.2", normalised, 1, 3, Activation::Linear);
        builder.graph.output(output);
        builder.graph.output(style);
        builder.graph
    }
}

/// Channels of 1 to 6 levels, each 1 to 1024.
pub(super) fn widths_in_range(widths: &[usize]) -> Vec<usize> {
    let widths = if widths.is_empty() { &[1] } else { widths };
    widths.iter().take(6).map(|width| (*width).clamp(1, 1024)).collect()
}

struct Builder {
    graph: Graph,
}

impl Builder {
    /// A level of the encoder: four convolutions, with sums over the first and the last two.
    fn down(&mut self, name: &str, x: NodeId, width: usize) -> NodeId {
        let projected = self.projection(name, x, width);
        let first = self.norm(&format!("{name}.conv.conv_0.0"), x, None, Activation::Relu);
        let first = self.graph.conv(&format!("{name}.conv.conv_0.2"), first, 3, width, Activation::Linear);
        let second = self.norm(&format!("{name}.conv.conv_1.0"), first, None, Activation::Relu);
        let half = self.graph.conv_onto(&format!("{name}.conv.conv_1.2"), second, 3, projected, Activation::Linear);
        let third = self.norm(&format!("{name}.conv.conv_2.0"), half, None, Activation::Relu);
        let third = self.graph.conv(&format!("{name}.conv.conv_2.2"), third, 3, width, Activation::Linear);
        let fourth = self.norm(&format!("{name}.conv.conv_3.0"), third, None, Activation::Relu);
        self.graph.conv_onto(&format!("{name}.conv.conv_3.2"), fourth, 3, half, Activation::Linear)
    }

    /// A level of the decoder: as the encoder, with the map of the encoder added after the first convolution and the
    /// style added before the others.
    fn up(&mut self, name: &str, x: NodeId, skip: NodeId, style: NodeId) -> NodeId {
        let width = self.graph.nodes()[skip].channels;
        let projected = self.projection(name, x, width);
        let first = self.norm(&format!("{name}.conv.conv_0.0"), x, None, Activation::Relu);
        let first = self.graph.conv_onto(&format!("{name}.conv.conv_0.2"), first, 3, skip, Activation::Linear);
        let second = self.styled(&format!("{name}.conv.conv_1"), first, style);
        let half =
            self.graph.conv_onto(&format!("{name}.conv.conv_1.conv.2"), second, 3, projected, Activation::Linear);
        let third = self.styled(&format!("{name}.conv.conv_2"), half, style);
        let third = self.graph.conv(&format!("{name}.conv.conv_2.conv.2"), third, 3, width, Activation::Linear);
        let fourth = self.styled(&format!("{name}.conv.conv_3"), third, style);
        self.graph.conv_onto(&format!("{name}.conv.conv_3.conv.2"), fourth, 3, half, Activation::Linear)
    }

    fn projection(&mut self, name: &str, x: NodeId, width: usize) -> NodeId {
        let normalised = self.norm(&format!("{name}.proj.0"), x, None, Activation::Linear);
        self.graph.conv(&format!("{name}.proj.1"), normalised, 1, width, Activation::Linear)
    }

    /// The normalisation of `x` with the projected style added.
    fn styled(&mut self, name: &str, x: NodeId, style: NodeId) -> NodeId {
        let width = self.graph.nodes()[x].channels;
        let bias = self.graph.conv(&format!("{name}.full"), style, 1, width, Activation::Linear);
        self.norm(&format!("{name}.conv.0"), x, Some(bias), Activation::Relu)
    }

    fn norm(&mut self, name: &str, x: NodeId, style: Option<NodeId>, activation: Activation) -> NodeId {
        let statistics = Statistics::Batch { momentum: 0.95, unbiased: true };
        self.graph.norm(name, x, style, statistics, 1e-5, activation)
    }
}
