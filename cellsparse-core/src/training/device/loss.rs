//! The loss of a batch on a device: its parts, and the gradients of the network's outputs.

use candle_core::Tensor;

use super::{loss_cellpose, loss_elephant, loss_stardist};
use crate::networks::{Tensors, Uploads};
use crate::training::measured::Measured;

/// The loss of one batch. Values are scalars on the device.
pub(super) struct DeviceLoss {
    /// The weighted sum.
    pub total: Tensor,
    /// In the order of [`Measured::parts`].
    pub parts: Vec<Tensor>,
    /// Of the outputs; none is zero.
    pub gradients: Vec<Option<Tensor>>,
    /// What the loss remembers for the next batch, if it is something new.
    pub carried: Option<Tensor>,
}

/// The loss of outputs `[batch, channels, height, width]`. `carried` is what the loss remembers of the batch before.
pub(super) fn measure(
    measured: &Measured<'_>,
    outputs: &[Tensor],
    carried: &Tensor,
    uploads: &Uploads,
) -> Tensors<DeviceLoss> {
    let mut loss = match measured {
        Measured::Stardist { config, truth } => loss_stardist::measure(config, truth, outputs, uploads)?,
        Measured::Cellpose { targets } => loss_cellpose::measure(targets, first(outputs)?, uploads)?,
        Measured::Elephant { config, targets } => {
            loss_elephant::measure(config, targets, first(outputs)?, carried, uploads)?
        }
    };
    loss.gradients.resize(outputs.len(), None);
    Ok(loss)
}

fn first(outputs: &[Tensor]) -> Tensors<&Tensor> {
    match outputs.first() {
        Some(output) => Ok(output),
        None => candle_core::bail!("a network without outputs"),
    }
}

/// Targets `[batch, height, width, channels]` beside an output `[batch, channels, height, width]`, in its layout and type.
pub(super) fn beside(targets: &[f32], output: &Tensor, uploads: &Uploads) -> Tensors<Tensor> {
    let (batch, _, height, width) = output.dims4()?;
    let pixels = batch * height * width;
    let channels = targets.len().checked_div(pixels).unwrap_or(0);
    if channels * pixels != targets.len() {
        candle_core::bail!("{} targets for {pixels} pixels", targets.len());
    }
    let targets = uploads.place(targets, &[batch, height, width, channels])?;
    let targets = match channels {
        1 => targets.reshape((batch, 1, height, width))?,
        _ => targets.permute((0, 3, 1, 2))?.contiguous()?,
    };
    targets.to_dtype(output.dtype())
}

/// The sum of all values. Rows are summed first: a device gives every sum to a group of threads of its own.
pub(super) fn sum(x: &Tensor) -> Tensors<Tensor> {
    let width = x.dims().last().copied().unwrap_or(1);
    x.contiguous()?.reshape(((), width))?.sum(1)?.sum(0)
}

/// 1 where a comparison holds, else 0.
pub(super) fn indicator(comparison: Tensor, like: &Tensor) -> Tensors<Tensor> {
    comparison.to_dtype(like.dtype())
}

/// The sum over the channels, which are kept with size 1. Channels are few, and not the last dimension.
pub(super) fn over_channels(x: &Tensor, join: impl Fn(&Tensor, &Tensor) -> Tensors<Tensor>) -> Tensors<Tensor> {
    let mut all = x.narrow(1, 0, 1)?.contiguous()?;
    for channel in 1..x.dim(1)? {
        all = join(&all, &x.narrow(1, channel, 1)?.contiguous()?)?;
    }
    Ok(all)
}

/// The logistic function of `x` and of `-x`, each without cancellation.
pub(super) fn logistic(x: &Tensor) -> Tensors<[Tensor; 2]> {
    let of = |x: &Tensor| (x.exp()? + 1.0)?.contiguous()?.recip();
    Ok([of(&x.neg()?)?, of(x)?])
}

/// Probabilities from logits along the channels, and the logarithm of the sum of their powers above the largest.
pub(super) fn softmax(logits: &Tensor) -> Tensors<(Tensor, Tensor)> {
    let largest = over_channels(logits, |a, b| a.maximum(b))?;
    let apart = logits.broadcast_sub(&largest)?;
    let powers = apart.exp()?;
    let total = over_channels(&powers, |a, b| a + b)?;
    let logs = apart.broadcast_sub(&total.log()?)?;
    Ok((powers.broadcast_div(&total)?, logs))
}

#[cfg(test)]
pub(super) mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::random::Random;

    /// To the CPU.
    pub fn uploads() -> Uploads {
        Uploads::to(&Device::Cpu)
    }

    /// Values `[batch, height, width, channels]` as an output in 64 bits.
    pub fn output(values: &[f32], [batch, height, width]: [usize; 3]) -> Tensor {
        let like = Tensor::zeros((batch, 1, height, width), DType::F64, &Device::Cpu).unwrap();
        beside(values, &like, &uploads()).unwrap()
    }

    /// The values of an output or its gradient, `[batch, height, width, channels]`.
    pub fn rows(output: &Tensor) -> Vec<f64> {
        output.permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    pub fn scalar(value: &Tensor) -> f64 {
        value.to_scalar().unwrap()
    }

    pub fn normal(len: usize, stream: u64) -> Vec<f32> {
        let mut random = Random::new(11, stream);
        (0..len).map(|_| 2.0 * random.normal() as f32).collect()
    }

    /// Asserts that gradients agree to the rounding of 32 bits.
    pub fn assert_same(found: &Tensor, wanted: &[f32]) {
        let found = rows(found);
        assert_eq!(found.len(), wanted.len());
        let largest = wanted.iter().fold(0.0f64, |largest, value| largest.max(f64::from(value.abs())));
        for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            assert!((found - f64::from(*wanted)).abs() <= 1e-7 * largest, "{index}: {found} instead of {wanted}");
        }
    }

    #[test]
    fn probabilities_of_large_logits_are_exact() {
        let z = Tensor::from_vec(vec![-800f64, -30., 0., 30., 800.], 5, &Device::Cpu).unwrap();
        let [p, q] = logistic(&z).unwrap().map(|tensor| tensor.to_vec1::<f64>().unwrap());
        assert_eq!((p[0], q[4], p[2], p[4], q[0]), (0.0, 0.0, 0.5, 1.0, 1.0));
        assert!((p[1] / (-30f64).exp() - 1.0).abs() < 1e-12 && (q[3] / (-30f64).exp() - 1.0).abs() < 1e-12);
        let logits = Tensor::from_vec(vec![1000f64, 0., -1000.], (1, 3, 1, 1), &Device::Cpu).unwrap();
        let (p, logs) = softmax(&logits).unwrap();
        assert_eq!(p.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [1.0, 0.0, 0.0]);
        assert_eq!(logs.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [0.0, -1000.0, -2000.0]);
    }
}
