//! One way to run a network for training or inference, whichever executor does the work.

use std::sync::Arc;

use candle_core::{DType, Device};

use super::candle::{CandleNetwork, CandlePass};
use super::cpu::CpuPlan;
use super::graph::{Graph, NodeId};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernels::Method;

/// A network ready to run batches of one shape.
#[derive(Debug)]
pub enum Engine {
    /// The kernels of this crate.
    Cpu(Box<CpuPlan>),
    /// Candle, on another device.
    Candle(Box<CandleEngine>),
}

/// A network on a Candle device, and its last forward pass.
#[derive(Debug)]
pub struct CandleEngine {
    graph: Arc<Graph>,
    device: Device,
    shape: [usize; 3],
    training: bool,
    network: Option<CandleNetwork>,
    pass: Option<CandlePass>,
    statistics: Vec<(NodeId, [Vec<f32>; 2])>,
}

impl Engine {
    /// An engine on `device` for `[batch, height, width]`.
    ///
    /// # Errors
    /// [`Error::Config`] when the network cannot take that size, [`Error::Limit`] when there is no memory for it.
    pub fn new(graph: &Arc<Graph>, device: &Device, shape: [usize; 3], training: bool) -> Result<Self> {
        if matches!(device, Device::Cpu) {
            return Ok(Engine::Cpu(Box::new(CpuPlan::new(graph, Method::Fast, shape, training)?)));
        }
        let engine = CandleEngine {
            graph: Arc::clone(graph),
            device: device.clone(),
            shape,
            training,
            network: None,
            pass: None,
            statistics: Vec::new(),
        };
        Ok(Engine::Candle(Box::new(engine)))
    }

    /// Bytes of maps, gradients and work space on the CPU; 0 on another device.
    pub fn bytes(&self) -> usize {
        match self {
            Engine::Cpu(plan) => plan.bytes(),
            Engine::Candle(_) => 0,
        }
    }

    /// Takes new weights.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        match self {
            Engine::Cpu(plan) => plan.set_weights(weights),
            Engine::Candle(engine) => {
                engine.network = Some(CandleNetwork::new(&engine.graph, weights, &engine.device, DType::F32)?);
            }
        }
        Ok(())
    }

    /// Computes all outputs for `input` (`[batch, height, width, channels]`) into `outputs`, which are resized.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn forward(&mut self, weights: &Weights, input: &[f32], outputs: &mut Vec<Vec<f32>>) -> Result<()> {
        match self {
            Engine::Cpu(plan) => {
                plan.forward(weights, input);
                outputs.resize(plan.output_count(), Vec::new());
                for (index, output) in outputs.iter_mut().enumerate() {
                    output.resize(plan.output_shape(index).iter().product(), 0.0);
                    plan.output(index, output);
                }
            }
            Engine::Candle(engine) => {
                let network = engine.network.as_ref().ok_or_else(no_weights)?;
                let pass = network.forward(input, engine.shape, engine.training)?;
                outputs.resize(engine.graph.outputs().len(), Vec::new());
                for (index, output) in outputs.iter_mut().enumerate() {
                    *output = pass.output(index)?.into_iter().map(|v| v as f32).collect();
                }
                engine.statistics = pass.statistics()?;
                engine.pass = Some(pass);
            }
        }
        Ok(())
    }

    /// Computes the gradients of all parameters from those of the outputs of the last forward pass.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn backward(&mut self, weights: &Weights, outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> Result<()> {
        match self {
            Engine::Cpu(plan) => {
                let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
                plan.backward(weights, &outputs, gradients);
            }
            Engine::Candle(engine) => {
                let network = engine.network.as_ref().ok_or_else(no_weights)?;
                let pass = engine.pass.take().ok_or_else(no_weights)?;
                let outputs: Vec<Vec<f64>> =
                    outputs.iter().map(|o| o.iter().map(|v| f64::from(*v)).collect()).collect();
                for (to, from) in gradients.iter_mut().zip(network.backward(&pass, &outputs)?) {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = from as f32);
                }
            }
        }
        Ok(())
    }

    /// Lets the moving statistics of `weights` take in those of the last forward pass of a training engine, which count as
    /// the network says, and with no less than `share` (0 to 1).
    pub fn update_statistics(&self, weights: &mut Weights, share: f32) {
        match self {
            Engine::Cpu(plan) => plan.update_statistics(weights, share),
            Engine::Candle(engine) => {
                let offsets = engine.graph.parameter_offsets();
                for (id, new) in &engine.statistics {
                    weights.blend_statistics(&engine.graph, *id, offsets[*id], new, share);
                }
            }
        }
    }
}

fn no_weights() -> Error {
    Error::Internal("an engine was used before its weights were set".into())
}
