//! One way to run a network for training or inference, whichever executor does the work.

use std::sync::Arc;

#[cfg(feature = "candle")]
use super::candle_engine::CandleEngine;
use super::cpu::CpuPlan;
use super::device::Device;
#[cfg(feature = "candle")]
use super::device_network::DeviceNetwork;
use super::graph::Graph;
use super::normalization::ImageStatistics;
use super::weights::Weights;
use crate::budget::resized;
use crate::control::CancelToken;
use crate::error::Result;

/// A network ready to run batches of one shape.
#[derive(Debug)]
pub struct Engine(Executor);

#[derive(Debug)]
enum Executor {
    /// The kernels of this crate.
    Cpu(Box<CpuPlan>),
    /// Candle, on another device.
    #[cfg(feature = "candle")]
    Candle(Box<CandleEngine>),
}

impl Engine {
    /// An engine on `device` for `[batch, height, width]`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when the network cannot take that size,
    /// [`Error::Limit`](crate::Error::Limit) when there is no memory for it.
    pub fn new(graph: &Arc<Graph>, device: &Device, shape: [usize; 3], training: bool) -> Result<Self> {
        #[cfg(feature = "candle")]
        if !device.is_cpu() {
            return Ok(Self(Executor::Candle(Box::new(CandleEngine::new(graph, device, shape, training)?))));
        }
        debug_assert!(device.is_cpu(), "without Candle there is no other device");
        let plan = CpuPlan::new(graph, device.method(), shape, training)?.with_arithmetic(device.arithmetic());
        Ok(Self(Executor::Cpu(Box::new(if device.is_sparing() { plan.sparing() } else { plan }))))
    }

    /// Bytes of maps, gradients and work space on the CPU; 0 on another device.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Executor::Cpu(plan) => plan.bytes(),
            #[cfg(feature = "candle")]
            Executor::Candle(_) => 0,
        }
    }

    /// Whether an accelerator does the work, so that the CPU is free for something else.
    pub fn leaves_cpu_free(&self) -> bool {
        !matches!(self.0, Executor::Cpu(_))
    }

    /// The network on an accelerator and the shape that it takes, for a training that stays there.
    #[cfg(feature = "candle")]
    pub(crate) fn on_device(&self) -> Option<(&DeviceNetwork, [usize; 3])> {
        match &self.0 {
            Executor::Cpu(_) => None,
            Executor::Candle(engine) => Some((engine.network(), engine.shape())),
        }
    }

    /// Takes new weights.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        match &mut self.0 {
            Executor::Cpu(plan) => plan.set_weights(weights),
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.set_weights(weights)?,
        }
        Ok(())
    }

    /// Computes all outputs for `input` (`[batch, height, width, channels]`) into `outputs`, which are resized.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn forward(&mut self, weights: &Weights, input: &[f32], outputs: &mut Vec<Vec<f32>>) -> Result<()> {
        self.forward_until(weights, input, outputs, &CancelToken::new())
    }

    /// As [`forward`](Self::forward), and ends early when `cancel` is raised: within a layer on the CPU, between two on a device.
    ///
    /// # Errors
    /// As of [`forward`](Self::forward), and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn forward_until(
        &mut self,
        weights: &Weights,
        input: &[f32],
        outputs: &mut Vec<Vec<f32>>,
        cancel: &CancelToken,
    ) -> Result<()> {
        match &mut self.0 {
            Executor::Cpu(plan) => {
                plan.forward_until(weights, input, cancel)?;
                outputs.resize(plan.output_count(), Vec::new());
                for (index, output) in outputs.iter_mut().enumerate() {
                    resized(output, plan.output_shape(index).iter().product(), "the output of a network")?;
                    plan.output(index, output);
                }
            }
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.forward(input, outputs, cancel)?,
        }
        Ok(())
    }

    /// Computes the gradients of all parameters from those of the outputs of the last forward pass.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn backward(&mut self, weights: &Weights, outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> Result<()> {
        self.backward_until(weights, outputs, gradients, &CancelToken::new())
    }

    /// As [`backward`](Self::backward), and ends early when `cancel` is raised: within a layer on the CPU, between two on a device.
    ///
    /// # Errors
    /// As of [`backward`](Self::backward), and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn backward_until(
        &mut self,
        weights: &Weights,
        outputs: &[Vec<f32>],
        gradients: &mut [Vec<f32>],
        cancel: &CancelToken,
    ) -> Result<()> {
        match &mut self.0 {
            Executor::Cpu(plan) => {
                let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
                plan.backward_until(weights, &outputs, gradients, cancel)?;
            }
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.backward(outputs, gradients, cancel)?,
        }
        Ok(())
    }

    /// Mean and variance of every channel in the last forward pass of one image.
    pub fn image_statistics(&self) -> ImageStatistics {
        match &self.0 {
            Executor::Cpu(plan) => plan.image_statistics(),
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.image_statistics(),
        }
    }

    /// Lets normalisations over groups of channels take these statistics instead of those of the image, or again its own.
    pub fn set_image_statistics(&mut self, given: Option<&ImageStatistics>) {
        match &mut self.0 {
            Executor::Cpu(plan) => plan.set_image_statistics(given),
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.set_image_statistics(given),
        }
    }

    /// Lets the moving statistics of `weights` take in those of the last forward pass of a training engine, which count as
    /// the network says, and with no less than `share` (0 to 1).
    pub fn update_statistics(&self, weights: &mut Weights, share: f32) {
        match &self.0 {
            Executor::Cpu(plan) => plan.update_statistics(weights, share),
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.update_statistics(weights, share),
        }
    }
}
