//! Runs a [`Graph`] forward and backward on the tensors of a device, without leaving it.

use std::sync::Arc;

use candle_core::{DType, Device as CandleDevice, Tensor};

use super::arithmetic::Arithmetic;
use super::device::Device;
use super::device_error::failed;
use super::device_layers::{
    Tensors, activate, activate_back, channel_sums, convolution, convolution_back, kernel_gradient, max_pool,
    max_pool_back, upsample, upsample_back,
};
use super::device_norm::{NormPass, normalize, normalize_back, normalize_by};
use super::device_upload::Uploads;
use super::graph::{Graph, NodeId, Op, Statistics};
use super::normalization::ImageStatistics;
use super::weights::Weights;
use crate::control::CancelToken;
use crate::error::Result;

/// A network on a device. Its parameters are the caller's: one tensor for each, in the graph's order and layout (kernels
/// `[k, k, in, out]`).
#[derive(Debug, Clone)]
pub(crate) struct DeviceNetwork {
    graph: Arc<Graph>,
    device: CandleDevice,
    /// Of maps, their gradients and kernels.
    numbers: DType,
    /// Of parameters, statistics and sums.
    sums: DType,
    /// Whether products of numbers of 32 bits take 19 of them.
    short_products: bool,
    offsets: Vec<usize>,
    /// 8, 7, ..., 0.
    turned: Tensor,
    uploads: Arc<Uploads>,
}

/// What a forward pass leaves.
#[derive(Debug)]
pub(crate) struct DevicePass {
    values: Vec<Option<Tensor>>,
    norms: Vec<Option<NormPass>>,
    /// Mean and variance of every channel for nodes that normalise over groups of channels, in inference on one image.
    image: Vec<Option<[Tensor; 2]>>,
    outputs: Vec<Tensor>,
}

/// Whether a pass is the first half of a training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Purpose<'a> {
    /// Normalisation over the batch takes its statistics, and all maps are kept.
    Training,
    /// Moving statistics are taken, and maps are dropped when nobody reads them any more. Normalisations over groups take
    /// these statistics of a whole image, if there are any.
    Inference(Option<&'a ImageStatistics>),
}

impl DeviceNetwork {
    /// The network on a device, computing with `numbers`; parameters have 32 bits, or 64 if `numbers` have.
    fn new(graph: &Arc<Graph>, device: &CandleDevice, numbers: DType) -> Result<Self> {
        let turned = Tensor::from_vec((0..9u32).rev().collect(), 9, device).map_err(failed)?;
        let sums = if numbers == DType::F64 { DType::F64 } else { DType::F32 };
        let offsets = graph.parameter_offsets();
        let (graph, device) = (Arc::clone(graph), device.clone());
        let uploads = Arc::new(Uploads::to(&device));
        Ok(Self { graph, device, numbers, sums, short_products: false, offsets, turned, uploads })
    }

    /// The network on a device, computing with its numbers.
    pub fn on(graph: &Arc<Graph>, device: &Device) -> Result<Self> {
        let short_products = device.arithmetic() == Arithmetic::Tf32;
        Ok(Self { short_products, ..Self::new(graph, &device.candle(), device.numbers())? })
    }

    /// Tells CUDA how it is to multiply, which is one setting of the whole process.
    fn set_products(&self) {
        if self.device.is_cuda() {
            candle_core::cuda::set_gemm_reduced_precision_f32(self.short_products);
        }
    }

    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    pub fn device(&self) -> &CandleDevice {
        &self.device
    }

    /// Of parameters, of the outputs and of the gradients that are asked for and given.
    pub fn sums(&self) -> DType {
        self.sums
    }

    /// The way of batches to the device.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Puts values on the device.
    pub fn placed(&self, values: &[f32], shape: &[usize]) -> Tensors<Tensor> {
        Tensor::from_slice(values, shape, &self.device)?.to_dtype(self.sums)
    }

    /// Puts the parameters on the device.
    pub fn parameters(&self, weights: &Weights) -> Result<Vec<Tensor>> {
        let placed = weights.parameters().iter().map(|p| self.placed(&p.values, &p.spec.shape));
        placed.collect::<Tensors<_>>().map_err(failed)
    }

    /// Computes all nodes for `input` (`[batch, height, width, channels]`).
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) and [`Error::Limit`](crate::Error::Limit) of the device,
    /// [`Error::Cancelled`](crate::Error::Cancelled) between two layers.
    pub fn forward(
        &self,
        parameters: &[Tensor],
        input: &[f32],
        [batch, height, width]: [usize; 3],
        purpose: Purpose<'_>,
        cancel: &CancelToken,
    ) -> Result<DevicePass> {
        self.set_products();
        let channels = self.graph.input_channels();
        let input = || -> Tensors<Tensor> {
            let input = self.uploads.place(input, &[batch, height, width, channels])?;
            // With one channel, both layouts are the same.
            let input = if channels == 1 {
                input.reshape((batch, 1, height, width))?
            } else {
                input.permute((0, 3, 1, 2))?.contiguous()?
            };
            input.to_dtype(self.numbers)
        };
        let input = input().map_err(failed)?;
        let nodes = self.graph.nodes();
        let mut pass = DevicePass {
            values: (0..nodes.len()).map(|_| None).collect(),
            norms: (0..nodes.len()).map(|_| None).collect(),
            image: vec![None; nodes.len()],
            outputs: Vec::new(),
        };
        let last = self.last_readers();
        for id in 0..nodes.len() {
            cancel.check()?;
            let (value, norm) = self.node(id, parameters, &input, &pass, purpose).map_err(failed)?;
            pass.values[id] = Some(value);
            if purpose == Purpose::Training {
                pass.norms[id] = norm;
            } else {
                pass.image[id] = norm.and_then(|norm| norm.statistics);
                for &read in &direct_reads(&nodes[id].op) {
                    if last[read] == id {
                        pass.values[read] = None;
                    }
                }
            }
        }
        let output = |id: &NodeId| pass.values[*id].as_ref().ok_or_else(gone)?.to_dtype(self.sums);
        pass.outputs = self.graph.outputs().iter().map(output).collect::<Tensors<_>>().map_err(failed)?;
        Ok(pass)
    }

    /// For every node the last one that reads it; outputs are read by the caller.
    fn last_readers(&self) -> Vec<NodeId> {
        let mut last = vec![usize::MAX; self.graph.nodes().len()];
        for (id, node) in self.graph.nodes().iter().enumerate() {
            direct_reads(&node.op).into_iter().for_each(|read| last[read] = id);
        }
        self.graph.outputs().iter().for_each(|&output| last[output] = usize::MAX);
        last
    }

    fn node(
        &self,
        id: NodeId,
        parameters: &[Tensor],
        input: &Tensor,
        pass: &DevicePass,
        purpose: Purpose<'_>,
    ) -> Tensors<(Tensor, Option<NormPass>)> {
        let value = |id: NodeId| pass.values[id].as_ref().ok_or_else(gone);
        let own = &parameters[self.offsets[id]..];
        let mut kept = None;
        let result = match &self.graph.nodes()[id].op {
            Op::Input => input.clone(),
            Op::Conv { input, bias, residual, activation, .. } => {
                let mut y = convolution(value(*input)?, &own[0].to_dtype(self.numbers)?)?;
                if *bias {
                    y = y.broadcast_add(&own[1].to_dtype(self.numbers)?.reshape((1, own[1].elem_count(), 1, 1))?)?;
                }
                if let Some(residual) = residual {
                    y = (y + value(*residual)?)?;
                }
                activate(y, *activation)?
            }
            Op::MaxPool { input, by } => max_pool(value(*input)?, *by)?,
            Op::Upsample { input, by } => upsample(value(*input)?, *by)?,
            Op::Concat { inputs } => Tensor::cat(&inputs.iter().map(|&id| value(id)).collect::<Tensors<Vec<_>>>()?, 1)?,
            Op::Norm { input, style, statistics, epsilon, activation } => {
                let style = style.map(value).transpose()?;
                let scales = [&own[0], &own[1]];
                let y = match (statistics, purpose) {
                    (Statistics::Batch { .. }, Purpose::Inference(_)) => {
                        normalize_by(value(*input)?, style, scales, [&own[2], &own[3]], *epsilon)?
                    }
                    (Statistics::Group { .. }, Purpose::Inference(Some(image))) if !image.of_node(id).is_empty() => {
                        let of = |k: usize| -> Tensors<Tensor> {
                            let values: Vec<f32> = image.of_node(id).iter().map(|set| set[k] as f32).collect();
                            self.placed(&values, &[values.len()])
                        };
                        normalize_by(value(*input)?, style, scales, [&of(0)?, &of(1)?], *epsilon)?
                    }
                    _ => {
                        let (y, pass) = normalize(value(*input)?, style, scales, *statistics, *epsilon)?;
                        kept = Some(pass);
                        y
                    }
                };
                activate(y, *activation)?.to_dtype(self.numbers)?
            }
            Op::GlobalAveragePool { input } => {
                let x = value(*input)?;
                let (batch, channels, ..) = x.dims4()?;
                let mean = x.to_dtype(self.sums)?.reshape((batch, channels, ()))?.mean(2)?;
                mean.reshape((batch, channels, 1, 1))?.to_dtype(self.numbers)?
            }
            Op::L2Normalize { input } => {
                let x = value(*input)?.to_dtype(self.sums)?;
                let (batch, channels, ..) = x.dims4()?;
                let x = x.reshape((batch, channels))?;
                let unit = x.broadcast_div(&length(&x)?)?;
                unit.reshape((batch, channels, 1, 1))?.to_dtype(self.numbers)?
            }
        };
        Ok((result, kept))
    }

    /// The gradients of all parameters that training moves, in the graph's order, from those of the outputs (none is zero).
    ///
    /// # Errors
    /// As of [`forward`](Self::forward).
    pub fn backward(
        &self,
        parameters: &[Tensor],
        mut pass: DevicePass,
        outputs: &[Option<Tensor>],
        cancel: &CancelToken,
    ) -> Result<Vec<Option<Tensor>>> {
        self.set_products();
        let nodes = self.graph.nodes();
        let mut back = Back { network: self, gradients: (0..nodes.len()).map(|_| None).collect() };
        for (&id, gradient) in self.graph.outputs().iter().zip(outputs) {
            if let Some(gradient) = gradient {
                back.add(id, gradient.to_dtype(self.numbers).map_err(failed)?).map_err(failed)?;
            }
        }
        let mut all: Vec<Option<Tensor>> = parameters.iter().map(|_| None).collect();
        for id in (0..nodes.len()).rev() {
            cancel.check()?;
            if let Some(gradient) = back.gradients[id].take() {
                let own = &parameters[self.offsets[id]..];
                let found = back.node(id, own, gradient, &pass).map_err(failed)?;
                found.into_iter().enumerate().for_each(|(k, gradient)| all[self.offsets[id] + k] = Some(gradient));
            }
            (pass.values[id], pass.norms[id]) = (None, None);
        }
        Ok(all)
    }

    /// For every batch normalisation the index of its first parameter, and mean and variance of the batch as its moving
    /// statistics take them in, with the fraction of the old value that is kept.
    pub fn statistics<'a>(&self, pass: &'a DevicePass) -> Vec<(usize, &'a [Tensor; 2], f32)> {
        let of_node = |(id, norm): (usize, &'a Option<NormPass>)| {
            let Op::Norm { statistics: Statistics::Batch { momentum, .. }, .. } = self.graph.nodes()[id].op else {
                return None;
            };
            Some((self.offsets[id], norm.as_ref()?.statistics.as_ref()?, momentum))
        };
        pass.norms.iter().enumerate().filter_map(of_node).collect()
    }
}

impl DevicePass {
    /// The outputs, `[batch, channels, height, width]`, with 32 bits or more.
    pub fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    /// Mean and variance of every channel of the one image that was looked at, for nodes that normalise over groups of
    /// channels.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn image_statistics(&self) -> Result<ImageStatistics> {
        let values = |tensor: &Tensor| tensor.to_device(&CandleDevice::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>();
        let of_node = |told: &Option<[Tensor; 2]>| -> Tensors<Vec<[f64; 2]>> {
            let Some([mean, variance]) = told else { return Ok(Vec::new()) };
            Ok(values(mean)?.into_iter().zip(values(variance)?).map(|(mean, variance)| [mean, variance]).collect())
        };
        Ok(ImageStatistics(self.image.iter().map(of_node).collect::<Tensors<_>>().map_err(failed)?))
    }
}

/// Gradients on their way back.
struct Back<'a> {
    network: &'a DeviceNetwork,
    gradients: Vec<Option<Tensor>>,
}

impl Back<'_> {
    fn add(&mut self, id: NodeId, gradient: Tensor) -> Tensors<()> {
        // Nobody asks for the gradient of the input.
        if self.network.graph.nodes()[id].op == Op::Input {
            return Ok(());
        }
        self.gradients[id] = Some(match self.gradients[id].take() {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        });
        Ok(())
    }

    /// Hands the gradient of a node's result on to what it reads; returns those of its first parameters.
    fn node(&mut self, id: NodeId, own: &[Tensor], gradient: Tensor, pass: &DevicePass) -> Tensors<Vec<Tensor>> {
        let network = self.network;
        let (numbers, sums) = (network.numbers, network.sums);
        let value = |id: NodeId| pass.values[id].as_ref().ok_or_else(gone);
        match &network.graph.nodes()[id].op {
            Op::Input => {}
            Op::Conv { input, kernel, bias, residual, activation } => {
                let gradient = activate_back(gradient, value(id)?, *activation)?;
                let mut found = vec![kernel_gradient(value(*input)?, &gradient, *kernel, sums)?];
                if *bias {
                    found.push(channel_sums(&gradient, sums)?);
                }
                if network.graph.nodes()[*input].op != Op::Input {
                    self.add(*input, convolution_back(&gradient, &own[0].to_dtype(numbers)?, &network.turned)?)?;
                }
                if let Some(residual) = residual {
                    self.add(*residual, gradient)?;
                }
                return Ok(found);
            }
            Op::MaxPool { input, by } => {
                self.add(*input, max_pool_back(&gradient, value(*input)?, value(id)?, *by)?)?
            }
            Op::Upsample { input, by } => self.add(*input, upsample_back(&gradient, *by)?)?,
            Op::Concat { inputs } => {
                let mut first = 0;
                for &input in inputs {
                    let channels = network.graph.nodes()[input].channels;
                    self.add(input, gradient.narrow(1, first, channels)?.contiguous()?)?;
                    first += channels;
                }
            }
            Op::Norm { input, style, statistics, activation, .. } => {
                let gradient = activate_back(gradient.to_dtype(sums)?, value(id)?, *activation)?;
                let norm = pass.norms[id].as_ref().ok_or_else(gone)?;
                let found = normalize_back(&gradient, norm, &own[0], *statistics)?;
                self.add(*input, found.input.to_dtype(numbers)?)?;
                if let Some(style) = style {
                    self.add(*style, found.style.to_dtype(numbers)?)?;
                }
                return Ok(vec![found.gamma, found.beta]);
            }
            Op::GlobalAveragePool { input } => {
                let (batch, channels, height, width) = value(*input)?.dims4()?;
                let each = (gradient / (height * width) as f64)?;
                self.add(*input, each.broadcast_as((batch, channels, height, width))?.contiguous()?)?;
            }
            Op::L2Normalize { input } => {
                let x = value(*input)?.to_dtype(sums)?;
                let (batch, channels, ..) = x.dims4()?;
                let x = x.reshape((batch, channels))?;
                let length = length(&x)?;
                let unit = x.broadcast_div(&length)?;
                let gradient = gradient.to_dtype(sums)?.reshape((batch, channels))?;
                let along = (&gradient * &unit)?.sum_keepdim(1)?;
                let across = (gradient - unit.broadcast_mul(&along)?)?.broadcast_div(&length)?;
                self.add(*input, across.reshape((batch, channels, 1, 1))?.to_dtype(numbers)?)?;
            }
        }
        Ok(Vec::new())
    }
}

/// The Euclidean length of every row, `[rows, 1]`.
fn length(x: &Tensor) -> Tensors<Tensor> {
    x.sqr()?.sum_keepdim(1)?.sqrt()
}

/// What a node reads, concatenations included.
fn direct_reads(op: &Op) -> Vec<NodeId> {
    match op {
        Op::Input => Vec::new(),
        Op::Conv { input, residual, .. } => std::iter::once(*input).chain(*residual).collect(),
        Op::Norm { input, style, .. } => std::iter::once(*input).chain(*style).collect(),
        Op::MaxPool { input, .. }
        | Op::Upsample { input, .. }
        | Op::GlobalAveragePool { input }
        | Op::L2Normalize { input } => vec![*input],
        Op::Concat { inputs } => inputs.clone(),
    }
}

fn gone() -> candle_core::Error {
    candle_core::Error::msg("a map was dropped before its last use")
}

#[cfg(test)]
#[path = "device_network_tests.rs"]
mod tests;
