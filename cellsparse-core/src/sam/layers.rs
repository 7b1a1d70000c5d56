//! Layers with their weights.

use candle_core::Tensor;

use super::checkpoint::Checkpoint;
use super::operations::{Tensors, depthwise, gelu, layer_norm};
use crate::error::Result;

/// Added to the variance by PyTorch's normalisations unless told otherwise.
pub(super) const EPSILON: f64 = 1e-5;
/// Added to the variance in the encoder of SAM and in normalisations of maps.
pub(super) const SMALL_EPSILON: f64 = 1e-6;

/// `x W^T + b` on the last axis; also a convolution of single pixels, whose channels are the last axis.
#[derive(Debug)]
pub(super) struct Linear {
    /// `[out, in]`.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn new(file: &mut Checkpoint, name: &str, from: usize, to: usize) -> Result<Self> {
        let weight = file.tensor(&format!("{name}.weight"), &[to, from])?;
        let bias = Some(file.tensor(&format!("{name}.bias"), &[to])?);
        Ok(Self { weight, bias })
    }

    /// A convolution of single pixels without a bias.
    pub(super) fn of_pixels(file: &mut Checkpoint, name: &str, from: usize, to: usize) -> Result<Self> {
        let values = file.values(&format!("{name}.weight"), &[to, from, 1, 1])?;
        Ok(Self { weight: file.placed(values, &[to, from])?, bias: None })
    }

    /// A convolution of single pixels and the normalisation over the batch that follows it, `name.c` and `name.bn`.
    pub(super) fn normalised(file: &mut Checkpoint, name: &str, from: usize, to: usize) -> Result<Self> {
        let (values, bias) = folded(file, name, &[to, from, 1, 1])?;
        Ok(Self { weight: file.placed(values, &[to, from])?, bias: Some(file.placed(bias, &[to])?) })
    }

    /// `x` is `[rows, in]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Normalisation of rows.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl Norm {
    pub(super) fn new(file: &mut Checkpoint, name: &str, size: usize, epsilon: f64) -> Result<Self> {
        let weight = file.tensor(&format!("{name}.weight"), &[size])?;
        Ok(Self { weight, bias: file.tensor(&format!("{name}.bias"), &[size])?, epsilon })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.epsilon)
    }
}

/// Two linear layers with a GELU between them.
#[derive(Debug)]
pub(super) struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    /// The width between the layers is that of the file.
    pub(super) fn new(file: &mut Checkpoint, [first, second]: [String; 2], size: usize) -> Result<Self> {
        let [hidden, _] = file.sizes(&format!("{first}.weight"))?;
        Ok(Self { first: Linear::new(file, &first, size, hidden)?, second: Linear::new(file, &second, hidden, size)? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        self.second.forward(&gelu(&self.first.forward(x)?)?)
    }
}

/// A convolution over squares, whose images are `[1, channels, height, width]`.
#[derive(Debug)]
pub(super) struct Conv {
    kernel: Tensor,
    /// `[1, out, 1, 1]`.
    bias: Option<Tensor>,
    padding: usize,
    stride: usize,
}

impl Conv {
    /// 3 x 3 without a bias.
    pub(super) fn plain(file: &mut Checkpoint, name: &str, channels: usize) -> Result<Self> {
        let kernel = file.tensor(&format!("{name}.weight"), &[channels, channels, 3, 3])?;
        Ok(Self { kernel, bias: None, padding: 1, stride: 1 })
    }

    /// Squares of `side` pixels side by side, with a bias.
    pub(super) fn patches(file: &mut Checkpoint, name: &str, [from, to]: [usize; 2], side: usize) -> Result<Self> {
        let kernel = file.tensor(&format!("{name}.weight"), &[to, from, side, side])?;
        let bias = file.values(&format!("{name}.bias"), &[to])?;
        Ok(Self { kernel, bias: Some(file.placed(bias, &[1, to, 1, 1])?), padding: 0, stride: side })
    }

    /// 3 x 3 at every second pixel, with the normalisation over the batch that follows it, `name.c` and `name.bn`.
    pub(super) fn halving(file: &mut Checkpoint, name: &str, [from, to]: [usize; 2]) -> Result<Self> {
        let (kernel, bias) = folded(file, name, &[to, from, 3, 3])?;
        let kernel = file.placed(kernel, &[to, from, 3, 3])?;
        Ok(Self { kernel, bias: Some(file.placed(bias, &[1, to, 1, 1])?), padding: 1, stride: 2 })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        let y = x.conv2d(&self.kernel, self.padding, self.stride, 1, 1)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A 3 x 3 convolution of each channel by itself with the normalisation over the batch that follows it.
#[derive(Debug)]
pub(super) struct Depthwise {
    /// `[3, 3, channels]`.
    kernel: Tensor,
    bias: Tensor,
    stride: usize,
}

impl Depthwise {
    pub(super) fn new(file: &mut Checkpoint, name: &str, channels: usize, stride: usize) -> Result<Self> {
        let (kernel, bias) = folded(file, name, &[channels, 1, 3, 3])?;
        let turned = (0..9 * channels).map(|i| kernel[i % channels * 9 + i / channels]).collect();
        Ok(Self { kernel: file.placed(turned, &[3, 3, channels])?, bias: file.placed(bias, &[channels])?, stride })
    }

    /// `x` is `[height, width, channels]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        depthwise(x, &self.kernel, &self.bias, self.stride)
    }
}

/// From the pixels of an encoder to its embedding: convolutions and normalisations.
#[derive(Debug)]
pub(super) struct Neck {
    narrow: Linear,
    first: Norm,
    conv: Conv,
    second: Norm,
    side: usize,
}

impl Neck {
    pub(super) fn new(file: &mut Checkpoint, from: usize, to: usize, side: usize) -> Result<Self> {
        Ok(Self {
            narrow: Linear::of_pixels(file, "image_encoder.neck.0", from, to)?,
            first: Norm::new(file, "image_encoder.neck.1", to, SMALL_EPSILON)?,
            conv: Conv::plain(file, "image_encoder.neck.2", to)?,
            second: Norm::new(file, "image_encoder.neck.3", to, SMALL_EPSILON)?,
            side,
        })
    }

    /// `x` is `[side * side, from]`, the result `[side * side, to]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensors<Tensor> {
        let x = self.first.forward(&self.narrow.forward(x)?)?;
        let image = x.t()?.contiguous()?.reshape((1, (), self.side, self.side))?;
        let x = self.conv.forward(&image)?.flatten_from(2)?.squeeze(0)?.t()?.contiguous()?;
        self.second.forward(&x)
    }
}

/// Kernel and bias of a convolution without a bias, `name.c`, and of the normalisation `name.bn` by the statistics of the
/// training, in one.
fn folded(file: &mut Checkpoint, name: &str, shape: &[usize]) -> Result<(Vec<f32>, Vec<f32>)> {
    let to = shape[0];
    let mut kernel = file.values(&format!("{name}.c.weight"), shape)?;
    let mut of_norm = |part: &str| file.values(&format!("{name}.bn.{part}"), &[to]);
    let (weight, mut bias) = (of_norm("weight")?, of_norm("bias")?);
    let (mean, variance) = (of_norm("running_mean")?, of_norm("running_var")?);
    let each = kernel.len() / to.max(1);
    for (channel, kernel) in kernel.chunks_exact_mut(each.max(1)).enumerate() {
        let scale = f64::from(weight[channel]) / (f64::from(variance[channel]) + EPSILON).sqrt();
        kernel.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        bias[channel] = (f64::from(bias[channel]) - f64::from(mean[channel]) * scale) as f32;
    }
    Ok((kernel, bias))
}
