//! Batch and group normalisation on tensors with their gradients.
//!
//! With `z = x + style`, mean `m` and variance `v` of a set of values and `i = 1 / sqrt(v + epsilon)`, the result is
//! `gamma * n + beta` with `n = (z - m) * i`, and the gradient of `z` is `i * (g - mean(g) - n * mean(g * n))` with `g` that of
//! `n` (Ioffe and Szegedy 2015, section 3). Means over a set are means of the means of its channels, which all have as
//! many pixels.

use candle_core::{DType, Tensor};

use super::device_layers::Tensors;
use super::graph::Statistics;

/// What the gradient of a normalisation needs of its forward pass.
#[derive(Debug)]
pub(super) struct NormPass {
    /// `[batch, channels, pixels]`.
    normal: Tensor,
    /// `[1 or batch, channels, 1]`.
    inverse: Tensor,
    /// Mean and variance `[channels]`: of a batch as moving statistics take them in, or those of one image; none for groups in
    /// several images.
    pub statistics: Option<[Tensor; 2]>,
}

/// The gradients of a normalisation.
pub(super) struct NormGradients {
    /// Of the input, `[batch, channels, height, width]`.
    pub input: Tensor,
    /// Of the style, `[batch, channels, 1, 1]`.
    pub style: Tensor,
    /// `[channels]`.
    pub gamma: Tensor,
    /// `[channels]`.
    pub beta: Tensor,
}

/// Normalises by the statistics of the batch or of each image.
pub(super) fn normalize(
    x: &Tensor,
    style: Option<&Tensor>,
    [gamma, beta]: [&Tensor; 2],
    statistics: Statistics,
    epsilon: f32,
) -> Tensors<(Tensor, NormPass)> {
    let dims = x.dims4()?;
    let x = flattened(x, style, gamma.dtype())?;
    let mean = pooled(&x.mean(2)?, statistics)?;
    let apart = x.broadcast_sub(&mean)?;
    let variance = pooled(&apart.sqr()?.mean(2)?, statistics)?;
    let inverse = (&variance + f64::from(epsilon))?.sqrt()?.contiguous()?.recip()?;
    let normal = apart.broadcast_mul(&inverse)?;
    let told = match statistics {
        Statistics::Batch { unbiased, .. } => {
            let count = (dims.0 * dims.2 * dims.3) as f64;
            let scale = if unbiased && count > 1.0 { count / (count - 1.0) } else { 1.0 };
            Some([mean.reshape(dims.1)?, (variance * scale)?.reshape(dims.1)?])
        }
        Statistics::Group { .. } if dims.0 == 1 => Some([mean.reshape(dims.1)?, variance.reshape(dims.1)?]),
        Statistics::Group { .. } => None,
    };
    let y = normal.broadcast_mul(&per_channel(gamma)?)?.broadcast_add(&per_channel(beta)?)?;
    Ok((y.reshape(dims)?, NormPass { normal, inverse, statistics: told }))
}

/// Normalises by given statistics: moving ones outside training, or those of a whole image for a part of it.
pub(super) fn normalize_by(
    x: &Tensor,
    style: Option<&Tensor>,
    [gamma, beta]: [&Tensor; 2],
    [mean, variance]: [&Tensor; 2],
    epsilon: f32,
) -> Tensors<Tensor> {
    let dims = x.dims4()?;
    let factor = (gamma / (variance + f64::from(epsilon))?.sqrt()?)?;
    let offset = (beta - (mean * &factor)?)?;
    let x = flattened(x, style, gamma.dtype())?;
    x.broadcast_mul(&per_channel(&factor)?)?.broadcast_add(&per_channel(&offset)?)?.reshape(dims)
}

/// The gradients of [`normalize`] from that of its result.
pub(super) fn normalize_back(
    gradient: &Tensor,
    pass: &NormPass,
    gamma: &Tensor,
    statistics: Statistics,
) -> Tensors<NormGradients> {
    let dims = gradient.dims4()?;
    let pixels = (dims.2 * dims.3) as f64;
    let gradient = flattened(gradient, None, gamma.dtype())?;
    let means = gradient.mean(2)?;
    let products = (&gradient * &pass.normal)?.mean(2)?;
    let of_sets = |means: &Tensor| pooled(&means.broadcast_mul(gamma)?, statistics);
    let (mean, slope) = (of_sets(&means)?, of_sets(&products)?);
    let input = gradient.broadcast_mul(&per_channel(gamma)?)?.broadcast_sub(&mean)?;
    let input = (input - pass.normal.broadcast_mul(&slope)?)?.broadcast_mul(&pass.inverse)?;
    let style = (input.mean(2)? * pixels)?.reshape((dims.0, dims.1, 1, 1))?;
    Ok(NormGradients {
        input: input.reshape(dims)?,
        style,
        gamma: (products.sum(0)? * pixels)?,
        beta: (means.sum(0)? * pixels)?,
    })
}

/// `[batch, channels, pixels]`, with the style added, of the type that means are taken in.
fn flattened(x: &Tensor, style: Option<&Tensor>, sums: DType) -> Tensors<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let x = x.to_dtype(sums)?.reshape((batch, channels, height * width))?;
    match style {
        Some(style) => x.broadcast_add(&style.to_dtype(sums)?.reshape((batch, channels, 1))?),
        None => Ok(x),
    }
}

/// From means of the channels of every image `[batch, channels]` to those of the sets, for every channel: `[1 or batch, channels, 1]`.
fn pooled(means: &Tensor, statistics: Statistics) -> Tensors<Tensor> {
    let (batch, channels) = means.dims2()?;
    match statistics {
        Statistics::Batch { .. } => means.mean(0)?.reshape((1, channels, 1)),
        Statistics::Group { channels: size } => {
            let groups = means.reshape((batch, channels / size, size))?.mean_keepdim(2)?;
            groups.broadcast_as((batch, channels / size, size))?.contiguous()?.reshape((batch, channels, 1))
        }
    }
}

/// `[c]` as `[1, c, 1]`.
fn per_channel(x: &Tensor) -> Tensors<Tensor> {
    x.reshape((1, x.elem_count(), 1))
}
