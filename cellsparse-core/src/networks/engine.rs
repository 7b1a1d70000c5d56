//! One way to run a network for training or inference, whichever executor does the work.

use std::ops::Range;
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
use crate::error::{Error, Result};

/// A network ready to run batches of one shape.
#[derive(Debug)]
pub struct Engine {
    executor: Executor,
    passes: Passes,
}

/// Takes what the loss is told of some images: which of the batch they are and their outputs; writes the gradients of these.
pub type LossOf<'a> = dyn FnMut(Range<usize>, &[Vec<f32>], &mut Vec<Vec<f32>>) -> Result<()> + 'a;

/// Values that go through [`Engine::learn`].
#[derive(Debug, Default)]
struct Passes {
    outputs: Vec<Vec<f32>>,
    output_gradients: Vec<Vec<f32>>,
    /// The gradients of the parameters that a further part of the batch adds.
    added: Vec<Vec<f32>>,
}

/// Pixels that pass through a network together at least while it learns: with fewer, the layers with the smallest maps would have too
/// little to do at once. Two patches of the original StarDist.
const PIXELS_AT_ONCE: usize = 2 * 224 * 224;

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
            return Ok(Self::of(Executor::Candle(Box::new(CandleEngine::new(graph, device, shape, training)?))));
        }
        debug_assert!(device.is_cpu(), "without Candle there is no other device");
        let plan = CpuPlan::new(graph, device.method(), shape, training)?;
        Ok(Self::of(Executor::Cpu(Box::new(if device.is_sparing() { plan.sparing() } else { plan }))))
    }

    fn of(executor: Executor) -> Self {
        Self { executor, passes: Passes::default() }
    }

    /// How many images of a batch `[batch, height, width]` an engine for training on `device` takes at once: all of them, or, where
    /// nothing in the network joins them, so few that their maps need less memory. Divides the batch.
    pub fn images_at_once(graph: &Graph, device: &Device, [batch, height, width]: [usize; 3]) -> usize {
        if !device.is_cpu() || graph.joins_images() {
            return batch;
        }
        let enough = |part: &usize| part.saturating_mul(height).saturating_mul(width) >= PIXELS_AT_ONCE;
        (1..=batch).find(|part| batch.is_multiple_of(*part) && enough(part)).unwrap_or(batch)
    }

    /// Bytes of maps, gradients and work space on the CPU; 0 on another device.
    pub fn bytes(&self) -> usize {
        match &self.executor {
            Executor::Cpu(plan) => plan.bytes(),
            #[cfg(feature = "candle")]
            Executor::Candle(_) => 0,
        }
    }

    /// Whether an accelerator does the work, so that the CPU is free for something else.
    pub fn leaves_cpu_free(&self) -> bool {
        !matches!(self.executor, Executor::Cpu(_))
    }

    /// The network on an accelerator and the shape that it takes, for a training that stays there.
    #[cfg(feature = "candle")]
    pub(crate) fn on_device(&self) -> Option<(&DeviceNetwork, [usize; 3])> {
        match &self.executor {
            Executor::Cpu(_) => None,
            Executor::Candle(engine) => Some((engine.network(), engine.shape())),
        }
    }

    /// Takes new weights.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        match &mut self.executor {
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
        match &mut self.executor {
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
        match &mut self.executor {
            Executor::Cpu(plan) => {
                let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
                plan.backward_until(weights, &outputs, gradients, cancel)?;
            }
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.backward(outputs, gradients, cancel)?,
        }
        Ok(())
    }

    /// Computes the gradients of all parameters for a batch `[images, height, width, channels]`, as many of its images at a time as the
    /// engine takes, on an accelerator all of them: outputs, what `loss` says of them, and the way back. The loss is the sum over the
    /// parts. `gradients` are overwritten, and unfinished after an error.
    ///
    /// # Errors
    /// [`Error::Config`] when the engine takes another number of images than a divisor of theirs, and as of
    /// [`forward_until`](Self::forward_until), [`backward_until`](Self::backward_until) and `loss`.
    pub fn learn(
        &mut self,
        weights: &Weights,
        input: &[f32],
        loss: &mut LossOf<'_>,
        gradients: &mut [Vec<f32>],
        cancel: &CancelToken,
    ) -> Result<()> {
        let Passes { mut outputs, mut output_gradients, mut added } = std::mem::take(&mut self.passes);
        let (images, values) = match &self.executor {
            Executor::Cpu(plan) => {
                let values = plan.shape().iter().product::<usize>() * plan.graph.input_channels();
                (plan.shape()[0], values)
            }
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => (engine.shape()[0], input.len()),
        };
        if !input.len().is_multiple_of(values) {
            return Err(Error::Config(format!(
                "a batch of {} values was given to a network that takes {values} at a time; take a multiple",
                input.len()
            )));
        }
        for (part, input) in input.chunks(values.max(1)).enumerate() {
            self.forward_until(weights, input, &mut outputs, cancel)?;
            loss(part * images..(part + 1) * images, &outputs, &mut output_gradients)?;
            if part == 0 {
                self.backward_until(weights, &output_gradients, gradients, cancel)?;
                continue;
            }
            added.resize(gradients.len(), Vec::new());
            for (added, sum) in added.iter_mut().zip(&*gradients) {
                resized(added, sum.len(), "the gradients of a part of a batch")?;
            }
            self.backward_until(weights, &output_gradients, &mut added, cancel)?;
            for (sum, added) in gradients.iter_mut().zip(&added) {
                sum.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
            }
        }
        self.passes = Passes { outputs, output_gradients, added };
        Ok(())
    }

    /// Mean and variance of every channel in the last forward pass of one image.
    pub fn image_statistics(&self) -> ImageStatistics {
        match &self.executor {
            Executor::Cpu(plan) => plan.image_statistics(),
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.image_statistics(),
        }
    }

    /// Lets normalisations over groups of channels take these statistics instead of those of the image, or again its own.
    pub fn set_image_statistics(&mut self, given: Option<&ImageStatistics>) {
        match &mut self.executor {
            Executor::Cpu(plan) => plan.set_image_statistics(given),
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.set_image_statistics(given),
        }
    }

    /// Lets the moving statistics of `weights` take in those of the last forward pass of a training engine, which count as
    /// the network says, and with no less than `share` (0 to 1).
    pub fn update_statistics(&self, weights: &mut Weights, share: f32) {
        match &self.executor {
            Executor::Cpu(plan) => plan.update_statistics(weights, share),
            #[cfg(feature = "candle")]
            Executor::Candle(engine) => engine.update_statistics(weights, share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::StarDistConfig;
    use crate::random::Random;

    fn graph(batch_norm: bool) -> Arc<Graph> {
        let config =
            StarDistConfig { n_filter_base: 8, n_depth: 2, net_conv_after_unet: 24, batch_norm, ..Default::default() };
        Arc::new(config.graph())
    }

    #[test]
    fn images_that_nothing_joins_pass_in_parts_that_divide_the_batch() {
        let at_once = |graph: &Graph, batch, side| Engine::images_at_once(graph, &Device::cpu(), [batch, side, side]);
        let parts = [(8, 224), (7, 224), (6, 224), (4, 128), (3, 1024), (0, 224)];
        assert_eq!(parts.map(|(batch, side)| at_once(&graph(false), batch, side)), [2, 7, 2, 4, 1, 0]);
        assert_eq!(at_once(&graph(true), 8, 224), 8, "moments of the batch");
    }

    #[test]
    fn parts_of_a_batch_teach_what_the_whole_does() {
        let graph = graph(false);
        let weights = Weights::init(&graph, 3);
        let mut random = Random::new(5, 0);
        let input: Vec<f32> = (0..6 * 32 * 48).map(|_| random.unit() as f32).collect();
        let learned = |images: usize| {
            let mut engine = Engine::new(&graph, &Device::cpu(), [images, 32, 48], true).unwrap();
            engine.set_weights(&weights).unwrap();
            let mut gradients: Vec<Vec<f32>> =
                weights.parameters().iter().map(|parameter| vec![7.0; parameter.values.len()]).collect();
            let mut seen = Vec::new();
            // A loss of its own for each image: without the numbers of the images, the sums would differ.
            let mut loss = |images: Range<usize>, outputs: &[Vec<f32>], gradients: &mut Vec<Vec<f32>>| {
                let weight = |image: usize| 1.0 + image as f32;
                *gradients = outputs.to_vec();
                for values in gradients.iter_mut() {
                    let per_image = values.len() / images.len();
                    let of_image = values.chunks_exact_mut(per_image).zip(images.clone());
                    of_image.for_each(|(values, n)| values.iter_mut().for_each(|value| *value *= weight(n)));
                }
                seen.push(images);
                Ok(())
            };
            // Twice: nothing of a step is left to the next one.
            for _ in 0..2 {
                engine.learn(&weights, &input, &mut loss, &mut gradients, &CancelToken::new()).unwrap();
            }
            (gradients, seen, engine.bytes())
        };
        let mut engine = Engine::new(&graph, &Device::cpu(), [4, 32, 48], true).unwrap();
        let refused = engine.learn(&weights, &input, &mut |_, _, _| Ok(()), &mut [], &CancelToken::new());
        assert!(matches!(refused, Err(Error::Config(text)) if text.contains("9216 values") && text.contains("6144")));
        let (whole, _, most) = learned(6);
        let (parts, seen, bytes) = learned(2);
        assert_eq!(seen, [0..2, 2..4, 4..6, 0..2, 2..4, 4..6]);
        assert!(bytes < most / 2, "{bytes} of {most} bytes");
        for (parameter, (whole, parts)) in whole.iter().zip(&parts).enumerate() {
            let largest = whole.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let apart = whole.iter().zip(parts).fold(0.0f32, |apart, (one, other)| apart.max((one - other).abs()));
            assert!(largest > 0.0 && apart < 1e-5 * largest, "parameter {parameter}: {apart} of {largest}");
        }
    }
}
