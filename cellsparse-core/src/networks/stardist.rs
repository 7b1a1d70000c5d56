//! The StarDist network: a U-Net on a grid, with heads for probability, distances and, optionally, classes.

use serde::{Deserialize, Serialize};

use super::graph::{Activation, Graph, Initializer, NodeId, Statistics};
use crate::error::{Error, Result};

/// Architecture of a StarDist network. The default is that of the server of cellsparse-api 0.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StarDistConfig {
    /// Channels of the image.
    pub n_channels: usize,
    /// Rays of a star-convex polygon, at least 3.
    pub n_rays: usize,
    /// Pixels between two candidates in rows and columns, powers of 2.
    pub grid: [usize; 2],
    /// Filters of the first level.
    pub n_filter_base: usize,
    /// Levels of the U-Net.
    pub n_depth: usize,
    /// Convolutions at every level.
    pub n_conv_per_depth: usize,
    /// Filters of the convolution after the U-Net; 0 leaves it out.
    pub net_conv_after_unet: usize,
    /// Batch normalisation after the convolutions of the U-Net.
    pub batch_norm: bool,
    /// Object classes, or none.
    pub n_classes: Option<usize>,
}

impl Default for StarDistConfig {
    fn default() -> Self {
        Self {
            n_channels: 1,
            n_rays: 32,
            grid: [2, 2],
            n_filter_base: 32,
            n_depth: 3,
            n_conv_per_depth: 2,
            net_conv_after_unet: 128,
            batch_norm: false,
            n_classes: None,
        }
    }
}

impl StarDistConfig {
    /// Refuses values that no network can have.
    ///
    /// # Errors
    /// [`Error::Config`] that names the field, its value and its range.
    pub fn check(&self) -> Result<()> {
        let in_range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::Config(format!("{name} is {value}; it must lie between {low} and {high}")))
            }
        };
        in_range("n_channels", self.n_channels, 1, 64)?;
        in_range("n_rays", self.n_rays, 3, 1024)?;
        in_range("n_filter_base", self.n_filter_base, 1, 512)?;
        in_range("n_depth", self.n_depth, 1, 6)?;
        in_range("n_conv_per_depth", self.n_conv_per_depth, 1, 8)?;
        in_range("net_conv_after_unet", self.net_conv_after_unet, 0, 2048)?;
        if let Some(classes) = self.n_classes {
            in_range("n_classes", classes, 1, 255)?;
        }
        for size in self.grid {
            if !size.is_power_of_two() || size > 16 {
                return Err(Error::Config(format!(
                    "grid is {:?}; both values must be a power of 2 of at most 16",
                    self.grid
                )));
            }
        }
        Ok(())
    }

    /// The configuration with every value that [`check`](Self::check) refuses moved into its range: a network can be built of
    /// any configuration, if not always the one that was meant.
    fn in_range(&self) -> Self {
        Self {
            n_channels: self.n_channels.clamp(1, 64),
            n_rays: self.n_rays.clamp(3, 1024),
            grid: self.grid.map(|step| step.clamp(1, 16).next_power_of_two()),
            n_filter_base: self.n_filter_base.clamp(1, 512),
            n_depth: self.n_depth.clamp(1, 6),
            n_conv_per_depth: self.n_conv_per_depth.clamp(1, 8),
            net_conv_after_unet: self.net_conv_after_unet.min(2048),
            batch_norm: self.batch_norm,
            n_classes: self.n_classes.map(|classes| classes.clamp(1, 255)),
        }
    }

    /// The network; values out of range ([`check`](Self::check)) are taken for the nearest in range. Outputs: probability
    /// logit (1), distances (`n_rays`) and, with classes, class logits (`n_classes + 1`), each on the grid. Layers have
    /// the names that Keras gives them in the original.
    pub fn graph(&self) -> Graph {
        let config = self.in_range();
        let mut builder = Builder { graph: Graph::new(Initializer::Glorot), config: &config, norms: 0 };
        let input = builder.graph.input(config.n_channels);
        let on_grid = builder.grid(input);
        let unet = builder.unet(on_grid);
        let graph = &mut builder.graph;
        let features = config.net_conv_after_unet;
        let feature_map = |graph: &mut Graph, name: &str| match features {
            0 => unet,
            _ => graph.conv(name, unet, 3, features, Activation::Relu),
        };
        let shared = feature_map(graph, "features");
        let prob = graph.conv("prob", shared, 1, 1, Activation::Linear);
        let dist = graph.conv("dist", shared, 1, config.n_rays, Activation::Linear);
        graph.output(prob);
        graph.output(dist);
        if let Some(classes) = config.n_classes {
            let own = feature_map(graph, "features_class");
            let class = graph.conv("prob_class", own, 1, classes + 1, Activation::Linear);
            graph.output(class);
        }
        builder.graph
    }

    /// Pixels at the edge of a part of an image whose outputs depend on what lies beyond it: how far tiles must overlap, per axis.
    ///
    /// Parts begin and end at multiples of what the network divides by. Followed through the layers for every place that an output
    /// can have between two of them; 94 for the default network, 47 times the grid.
    pub fn receptive_radius(&self) -> [usize; 2] {
        let config = self.in_range();
        std::array::from_fn(|axis| {
            let (grid, cells) = (config.grid[axis] as i64, 1 << config.n_depth);
            let radius = |cell: i64| match config.first_seen(axis, cell) {
                // Of the cells at that place, those of as many groups as reach beyond the edge.
                seen @ ..0 => cell * grid + (-seen - 1) / (cells * grid) * (cells * grid) + grid,
                _ => 0,
            };
            // What lies to the right is seen from the place that mirrors it.
            (0..cells).map(radius).max().unwrap_or(0).unsigned_abs() as usize
        })
    }

    /// The first pixel that a cell of the grid depends on; both are numbered from a place where groups of all levels begin.
    fn first_seen(&self, axis: usize, cell: i64) -> i64 {
        let convs = self.n_conv_per_depth as i64;
        let mut seen = cell - i64::from(self.net_conv_after_unet > 0);
        for _ in 0..self.n_depth {
            // What is upsampled is that of the pixel of the next level.
            seen = (seen - convs).div_euclid(2);
        }
        seen -= convs;
        for _ in 0..self.n_depth {
            seen = 2 * seen - convs;
        }
        let mut pooled = self.grid.into_iter().max().unwrap_or(1);
        while pooled > 1 {
            pooled /= 2;
            // An axis whose grid is finer than that of the other one is not pooled as often.
            seen = if self.grid[axis] > pooled { 2 * seen } else { seen } - convs;
        }
        seen
    }
}

struct Builder<'a> {
    graph: Graph,
    config: &'a StarDistConfig,
    norms: usize,
}

impl Builder<'_> {
    /// Convolutions and pooling down to the grid. They are never batch-normalised.
    fn grid(&mut self, input: NodeId) -> NodeId {
        let config = self.config;
        let (mut x, mut pooled, mut convs, mut pools) = (input, [1, 1], 0, 0);
        while pooled != config.grid {
            let by = std::array::from_fn(|axis| if config.grid[axis] > pooled[axis] { 2 } else { 1 });
            for _ in 0..config.n_conv_per_depth {
                x = self.graph.conv(&numbered("conv2d", convs), x, 3, config.n_filter_base, Activation::Relu);
                convs += 1;
            }
            x = self.graph.max_pool(&numbered("max_pooling2d", pools), x, by);
            pools += 1;
            pooled = std::array::from_fn(|axis| pooled[axis] * by[axis]);
        }
        x
    }

    fn unet(&mut self, input: NodeId) -> NodeId {
        let config = self.config;
        let (filters, convs) = (config.n_filter_base, config.n_conv_per_depth);
        let mut x = input;
        let mut skips = Vec::new();
        for n in 0..config.n_depth {
            for i in 0..convs {
                x = self.block(&format!("down_level_{n}_no_{i}"), x, filters << n);
            }
            skips.push(x);
            x = self.graph.max_pool(&format!("max_{n}"), x, [2, 2]);
        }
        for i in 0..convs - 1 {
            x = self.block(&format!("middle_{i}"), x, filters << config.n_depth);
        }
        x = self.block(&format!("middle_{convs}"), x, filters << config.n_depth.saturating_sub(1));
        for (n, skip) in skips.into_iter().enumerate().rev() {
            let up = self.graph.upsample(&format!("up_{n}"), x, [2, 2]);
            x = self.graph.concat(&format!("concat_{n}"), &[up, skip]);
            for i in 0..convs - 1 {
                x = self.block(&format!("up_level_{n}_no_{i}"), x, filters << n);
            }
            x = self.block(&format!("up_level_{n}_no_{convs}"), x, filters << n.saturating_sub(1));
        }
        x
    }

    /// A convolution of the U-Net with its activation, batch-normalised if the configuration says so.
    fn block(&mut self, name: &str, input: NodeId, filters: usize) -> NodeId {
        if !self.config.batch_norm {
            return self.graph.conv(name, input, 3, filters, Activation::Relu);
        }
        let conv = self.graph.conv(name, input, 3, filters, Activation::Linear);
        let norm = numbered("batch_normalization", self.norms);
        self.norms += 1;
        let statistics = Statistics::Batch { momentum: 0.99, unbiased: false };
        self.graph.norm(&norm, conv, None, statistics, 1e-3, Activation::Relu)
    }
}

/// `name`, `name_1`, `name_2`, ...
fn numbered(name: &str, index: usize) -> String {
    if index == 0 { name.to_string() } else { format!("{name}_{index}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_gives_a_network_and_those_out_of_range_are_refused() {
        let usual = StarDistConfig { n_filter_base: 2, ..StarDistConfig::default() };
        let odd = [
            StarDistConfig { grid: [3, 3], ..usual.clone() },
            StarDistConfig { grid: [0, usize::MAX], ..usual.clone() },
            StarDistConfig { n_conv_per_depth: 0, ..usual.clone() },
            StarDistConfig { n_depth: 0, ..usual.clone() },
            StarDistConfig { n_depth: 1000, n_conv_per_depth: 1000, ..usual.clone() },
            StarDistConfig { n_channels: 0, n_rays: 0, n_filter_base: 0, n_classes: Some(0), ..usual.clone() },
        ];
        for config in odd {
            assert!(config.check().is_err(), "{config:?}");
            assert!(!config.graph().outputs().is_empty() && config.receptive_radius()[0] > 0, "{config:?}");
        }
        assert_eq!(StarDistConfig { grid: [3, 3], ..usual.clone() }.graph().divisor(), [32, 32]);
        assert_eq!(usual.in_range(), usual);
    }
}
