//! Runs a network for training or inference on a Candle device.

use std::sync::Arc;

use super::candle::{CandleNetwork, CandlePass, Precision};
use super::device::Device;
use super::graph::{Graph, NodeId};
use super::weights::Weights;
use crate::error::{Error, Result};

/// A network on a Candle device, and its last forward pass.
#[derive(Debug)]
pub(super) struct CandleEngine {
    graph: Arc<Graph>,
    device: Device,
    shape: [usize; 3],
    training: bool,
    network: Option<CandleNetwork>,
    pass: Option<CandlePass>,
    statistics: Vec<(NodeId, [Vec<f32>; 2])>,
}

impl CandleEngine {
    pub fn new(graph: &Arc<Graph>, device: &Device, shape: [usize; 3], training: bool) -> Self {
        Self {
            graph: Arc::clone(graph),
            device: device.clone(),
            shape,
            training,
            network: None,
            pass: None,
            statistics: Vec::new(),
        }
    }

    /// Takes new weights, into the memory of the old ones where there are any.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        match &mut self.network {
            Some(network) => network.set_weights(weights),
            None => {
                self.network = Some(CandleNetwork::new(&self.graph, weights, &self.device, Precision::Single)?);
                Ok(())
            }
        }
    }

    pub fn forward(&mut self, input: &[f32], outputs: &mut Vec<Vec<f32>>) -> Result<()> {
        let network = self.network.as_ref().ok_or_else(no_weights)?;
        let pass = network.forward(input, self.shape, self.training)?;
        outputs.resize(self.graph.outputs().len(), Vec::new());
        for (index, output) in outputs.iter_mut().enumerate() {
            *output = pass.output(index)?.into_iter().map(|v| v as f32).collect();
        }
        self.statistics = pass.statistics()?;
        self.pass = Some(pass);
        Ok(())
    }

    pub fn backward(&mut self, outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> Result<()> {
        let network = self.network.as_ref().ok_or_else(no_weights)?;
        let pass = self.pass.take().ok_or_else(no_weights)?;
        let outputs: Vec<Vec<f64>> = outputs.iter().map(|o| o.iter().map(|v| f64::from(*v)).collect()).collect();
        for (to, from) in gradients.iter_mut().zip(network.backward(&pass, &outputs)?) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from as f32);
        }
        Ok(())
    }

    pub fn update_statistics(&self, weights: &mut Weights, share: f32) {
        let offsets = self.graph.parameter_offsets();
        for (id, new) in &self.statistics {
            weights.blend_statistics(&self.graph, *id, offsets[*id], new, share);
        }
    }
}

fn no_weights() -> Error {
    Error::Internal("an engine was used before its weights were set".into())
}
