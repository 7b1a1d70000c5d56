//! Runs a [`Graph`] on Candle tensors: on any device Candle has, in `f32` or `f64`, with gradients by Candle's autograd.
//!
//! Pooling and upsampling are composed of operations whose gradients are right: Candle's own maximum pooling spreads a
//! gradient over the whole window, and its nearest upsampling overwrites gradients that were accumulated before.

use candle_core::{D, DType, Device as CandleDevice, Tensor, Var};

use super::device::Device;
use super::device_error::failed;
use super::graph::{Activation, Graph, NodeId, Op, Statistics};
use super::weights::{Parameter, Weights};
use crate::error::{Error, Result};

/// A calculation on tensors.
type Tensors<T> = candle_core::Result<T>;

/// The floats that a network computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// `f32`, on every device.
    Single,
    /// `f64`, as the oracle in tests. Metal has no such floats.
    Double,
}

/// A network on a Candle device.
#[derive(Debug)]
pub struct CandleNetwork {
    graph: Graph,
    device: CandleDevice,
    dtype: DType,
    /// One variable for each parameter, in the graph's order; kernels as `[out, in, k, k]`.
    vars: Vec<Var>,
}

/// The outputs of one forward pass, with the graph of operations that made them.
#[derive(Debug)]
pub struct CandlePass {
    outputs: Vec<Tensor>,
    /// Mean and variance of every batch normalisation, by node, as moving statistics take them in.
    statistics: Vec<(NodeId, [Tensor; 2])>,
}

impl CandleNetwork {
    /// Places `weights` on `device`.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails or does not have floats of that precision.
    pub fn new(graph: &Graph, weights: &Weights, device: &Device, precision: Precision) -> Result<Self> {
        let device = device.candle();
        let dtype = match precision {
            Precision::Single => DType::F32,
            Precision::Double => DType::F64,
        };
        let var = |parameter| Var::from_tensor(&placed(parameter, &device, dtype)?);
        let vars = weights.parameters().iter().map(var).collect::<Tensors<_>>().map_err(failed)?;
        Ok(Self { graph: graph.clone(), device, dtype, vars })
    }

    /// Takes other weights of the same network into the memory of the old ones.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        let set = |(var, parameter): (&Var, _)| var.set(&placed(parameter, &self.device, self.dtype)?);
        self.vars.iter().zip(weights.parameters()).try_for_each(set).map_err(failed)
    }

    /// Computes all outputs for `input` (`[batch, height, width, channels]`). In training mode normalisation uses the
    /// statistics of the batch.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails or the sizes do not fit the network.
    pub fn forward(&self, input: &[f32], shape: [usize; 3], training: bool) -> Result<CandlePass> {
        self.run(input, shape, training).map_err(failed)
    }

    fn run(&self, input: &[f32], shape: [usize; 3], training: bool) -> Tensors<CandlePass> {
        let [batch, height, width] = shape;
        let input = Tensor::from_slice(input, (batch, height, width, self.graph.input_channels()), &self.device)?;
        let input = input.to_dtype(self.dtype)?.permute((0, 3, 1, 2))?.contiguous()?;
        let offsets = self.graph.parameter_offsets();
        let mut values: Vec<Tensor> = Vec::new();
        let mut statistics = Vec::new();
        for (id, node) in self.graph.nodes().iter().enumerate() {
            let vars = &self.vars[offsets[id]..];
            let value = match &node.op {
                Op::Input => input.clone(),
                Op::Conv { input, kernel, bias, residual, activation } => {
                    let mut y = values[*input].conv2d(vars[0].as_tensor(), kernel / 2, 1, 1, 1)?;
                    if *bias {
                        y = y.broadcast_add(&per_channel(vars[1].as_tensor())?)?;
                    }
                    if let Some(residual) = residual {
                        y = (y + &values[*residual])?;
                    }
                    activate(y, *activation)?
                }
                Op::MaxPool { input, by } => max_pool(&values[*input], *by)?,
                Op::Upsample { input, by } => upsample(&values[*input], *by)?,
                Op::Concat { inputs } => Tensor::cat(&inputs.iter().map(|&i| &values[i]).collect::<Vec<_>>(), 1)?,
                Op::Norm { input, style, statistics: kind, epsilon, activation } => {
                    let x = match style {
                        Some(style) => values[*input].broadcast_add(&values[*style])?,
                        None => values[*input].clone(),
                    };
                    let y = match kind {
                        Statistics::Batch { .. } if !training => {
                            let [mean, variance] =
                                [per_channel(vars[2].as_tensor())?, per_channel(vars[3].as_tensor())?];
                            normalize(&x, &mean, &variance, *epsilon)?
                        }
                        Statistics::Batch { unbiased, .. } => {
                            let [mean, variance] = moments(&x, &[0, 2, 3])?;
                            let count = (x.elem_count() / node.channels) as f64;
                            let scale = if *unbiased && count > 1.0 { count / (count - 1.0) } else { 1.0 };
                            statistics.push((id, [mean.detach(), (&variance * scale)?.detach()]));
                            normalize(&x, &mean, &variance, *epsilon)?
                        }
                        Statistics::Group { channels } => {
                            let (b, c, h, w) = x.dims4()?;
                            let grouped = x.reshape((b, c / channels, channels * h * w))?;
                            let [mean, variance] = moments(&grouped, &[2])?;
                            normalize(&grouped, &mean, &variance, *epsilon)?.reshape((b, c, h, w))?
                        }
                    };
                    let y = y.broadcast_mul(&per_channel(vars[0].as_tensor())?)?;
                    activate(y.broadcast_add(&per_channel(vars[1].as_tensor())?)?, *activation)?
                }
                Op::GlobalAveragePool { input } => values[*input].mean_keepdim(2)?.mean_keepdim(3)?,
                Op::L2Normalize { input } => {
                    let length = values[*input].sqr()?.sum_keepdim(1)?.sqrt()?;
                    values[*input].broadcast_div(&length)?
                }
            };
            values.push(value);
        }
        let outputs = self.graph.outputs().iter().map(|&id| values[id].clone()).collect();
        Ok(CandlePass { outputs, statistics })
    }

    /// The gradients of all parameters, in the graph's order and layout (kernels `[k, k, in, out]`), from those of the
    /// outputs (`[batch, height, width, channels]`). Moving statistics have the gradient 0.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn backward(&self, pass: &CandlePass, gradients: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
        let total = self.weighted_sum(pass, gradients).map_err(failed)?;
        let total = total.ok_or_else(|| Error::Internal("a network without outputs".into()))?;
        self.gradients(&total).map_err(failed)
    }

    /// The sum of all outputs times their gradients, whose own gradients are those of the loss.
    fn weighted_sum(&self, pass: &CandlePass, gradients: &[Vec<f64>]) -> Tensors<Option<Tensor>> {
        let mut total: Option<Tensor> = None;
        for (output, gradient) in pass.outputs.iter().zip(gradients) {
            let (b, c, h, w) = output.dims4()?;
            let gradient = Tensor::from_slice(gradient, (b, h, w, c), &CandleDevice::Cpu)?.to_dtype(self.dtype)?;
            let gradient = gradient.permute((0, 3, 1, 2))?.contiguous()?.to_device(&self.device)?;
            let product = (output * gradient)?.sum_all()?;
            total = Some(match total {
                Some(sum) => (sum + product)?,
                None => product,
            });
        }
        Ok(total)
    }

    fn gradients(&self, total: &Tensor) -> Tensors<Vec<Vec<f64>>> {
        let store = total.backward()?;
        let mut all = Vec::new();
        for var in &self.vars {
            let gradient = match store.get(var.as_tensor()) {
                Some(gradient) => gradient.clone(),
                None => var.as_tensor().zeros_like()?,
            };
            let gradient = if gradient.rank() == 4 { gradient.permute((2, 3, 1, 0))? } else { gradient };
            all.push(doubles(&gradient.contiguous()?)?);
        }
        Ok(all)
    }
}

impl CandlePass {
    /// Output `index` as `[batch, height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn output(&self, index: usize) -> Result<Vec<f64>> {
        let read = || doubles(&self.outputs[index].permute((0, 2, 3, 1))?.contiguous()?);
        read().map_err(failed)
    }

    /// Mean and variance of the batch for every batch normalisation, by node, as moving statistics take them in.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn statistics(&self) -> Result<Vec<(NodeId, [Vec<f32>; 2])>> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1();
        let read = |(id, [mean, variance]): &(NodeId, [Tensor; 2])| Ok((*id, [values(mean)?, values(variance)?]));
        self.statistics.iter().map(read).collect::<Tensors<_>>().map_err(failed)
    }
}

/// A parameter on a device; kernels as `[out, in, k, k]`.
fn placed(parameter: &Parameter, device: &CandleDevice, dtype: DType) -> Tensors<Tensor> {
    let tensor = Tensor::from_slice(&parameter.values, parameter.spec.shape.as_slice(), device)?;
    let tensor = if tensor.rank() == 4 { tensor.permute((3, 2, 0, 1))?.contiguous()? } else { tensor };
    tensor.to_dtype(dtype)
}

/// All values. They are widened on the CPU, since not every device has 64-bit floats.
fn doubles(tensor: &Tensor) -> Tensors<Vec<f64>> {
    tensor.flatten_all()?.to_device(&CandleDevice::Cpu)?.to_dtype(DType::F64)?.to_vec1()
}

/// Mean and biased variance over some dimensions, which are kept with size 1.
fn moments(x: &Tensor, dims: &[usize]) -> Tensors<[Tensor; 2]> {
    let average = |x: &Tensor| dims.iter().try_fold(x.clone(), |x, &dim| x.mean_keepdim(dim));
    let mean = average(x)?;
    let variance = average(&x.broadcast_sub(&mean)?.sqr()?)?;
    Ok([mean, variance])
}

fn normalize(x: &Tensor, mean: &Tensor, variance: &Tensor, epsilon: f32) -> Tensors<Tensor> {
    let deviation = (variance + f64::from(epsilon))?.sqrt()?;
    x.broadcast_sub(mean)?.broadcast_div(&deviation)
}

fn activate(x: Tensor, activation: Activation) -> Tensors<Tensor> {
    Ok(match activation {
        Activation::Linear => x,
        Activation::Relu => x.relu()?,
        Activation::LeakyRelu(slope) => x.maximum(&(&x * f64::from(slope))?)?,
    })
}

/// `[c]` as `[1, c, 1, 1]`.
fn per_channel(x: &Tensor) -> Tensors<Tensor> {
    x.reshape((1, x.elem_count(), 1, 1))
}

/// Maximum over windows; the first maximum in row-major order takes the gradient.
fn max_pool(x: &Tensor, [by, bx]: [usize; 2]) -> Tensors<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let windows = x.reshape(&[b, c, h / by, by, w / bx, bx][..])?;
    let windows = windows.permute(vec![0, 1, 2, 4, 3, 5])?.contiguous()?.reshape((b, c, h / by, w / bx, by * bx))?;
    let first = windows.detach().argmax_keepdim(D::Minus1)?.contiguous()?;
    windows.gather(&first, D::Minus1)?.squeeze(D::Minus1)
}

/// Nearest-neighbour upsampling by broadcasting.
fn upsample(x: &Tensor, [by, bx]: [usize; 2]) -> Tensors<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let x = x.reshape(&[b, c, h, 1, w, 1][..])?.broadcast_as(&[b, c, h, by, w, bx][..])?;
    x.contiguous()?.reshape((b, c, h * by, w * bx))
}
