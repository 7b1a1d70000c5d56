//! Layers on tensors with their gradients: convolution, pooling, upsampling, activations. Maps are `[batch, channels, height, width]`.
//!
//! The gradients are written out instead of being taken from Candle: its maximum pooling spreads a gradient over the whole
//! window, its upsampling forgets what was accumulated before, and its convolution turns the whole map into a kernel. Only
//! operations are used that both CUDA and Metal have, on layouts that both take: operands of products are contiguous or
//! transposed, with an offset at most in the first dimension; Metal has signs and inverses of contiguous values only. With the feature
//! `cudnn`, CUDA devices take convolutions and their gradients from there.

use candle_core::{DType, Tensor};

use super::graph::Activation;

/// A calculation on tensors.
pub(crate) type Tensors<T> = candle_core::Result<T>;

/// Convolution of `x` with `kernel` (`[k, k, in, out]`), stride 1, zero padding.
pub(super) fn convolution(x: &Tensor, kernel: &Tensor) -> Tensors<Tensor> {
    convolved(x, &kernel.permute((3, 2, 0, 1))?.contiguous()?)
}

/// Candle's convolution with a kernel `[out, in, k, k]`. On the CPU it has no numbers of 16 bits: there, results are rounded to them.
fn convolved(x: &Tensor, kernel: &Tensor) -> Tensors<Tensor> {
    #[cfg(feature = "cudnn")]
    if x.device().is_cuda() {
        return super::device_cudnn::forward(x, kernel);
    }
    let padding = kernel.dim(2)? / 2;
    if x.dtype() == DType::BF16 && x.device().is_cpu() {
        let (x, kernel) = (x.to_dtype(DType::F32)?, kernel.to_dtype(DType::F32)?);
        return x.conv2d(&kernel, padding, 1, 1, 1)?.to_dtype(DType::BF16);
    }
    x.conv2d(kernel, padding, 1, 1, 1)
}

/// The gradient of the input of a [`convolution`]: the convolution of that of the output with the kernel turned around.
/// `turned` is 8, 7, ..., 0.
pub(super) fn convolution_back(gradient: &Tensor, kernel: &Tensor, turned: &Tensor) -> Tensors<Tensor> {
    let (side, _, inputs, outputs) = kernel.dims4()?;
    #[cfg(feature = "cudnn")]
    if gradient.device().is_cuda() {
        return super::device_cudnn::input_gradient(gradient, &kernel.permute((3, 2, 0, 1))?.contiguous()?);
    }
    let kernel = match side {
        1 => kernel.clone(),
        _ => {
            let flat = kernel.reshape((side * side, inputs, outputs))?;
            flat.index_select(turned, 0)?.reshape((side, side, inputs, outputs))?
        }
    };
    convolved(gradient, &kernel.permute((2, 3, 0, 1))?.contiguous()?)
}

/// The gradient of the kernel (`[side, side, in, out]`, of the type `sums`) of a [`convolution`] of `x`.
///
/// For a side of 3, the rows of all padded images lie below each other, and so do those of the gradients, with rows of zeros
/// between the images. Then each row of the kernel takes one batch of products, of every row of the maps with the row of
/// the gradient that many rows above.
pub(super) fn kernel_gradient(x: &Tensor, gradient: &Tensor, side: usize, sums: DType) -> Tensors<Tensor> {
    let (batch, inputs, height, width) = x.dims4()?;
    let outputs = gradient.dim(1)?;
    #[cfg(feature = "cudnn")]
    if x.device().is_cuda() {
        let found = super::device_cudnn::kernel_gradient(x, gradient, side)?;
        return found.permute((2, 3, 1, 0))?.contiguous()?.to_dtype(sums);
    }
    if side == 1 {
        let x = x.reshape((batch, inputs, height * width))?;
        let gradient = gradient.reshape((batch, outputs, height * width))?;
        let products = x.matmul(&gradient.transpose(1, 2)?)?.to_dtype(sums)?;
        return sum_of_first(&products)?.reshape((1, 1, inputs, outputs));
    }
    let border = side / 2;
    let rows = height + 2 * border;
    let padded = x.pad_with_zeros(2, border, border)?.pad_with_zeros(3, border, border)?;
    let shifted = (0..side).map(|at| padded.narrow(3, at, width)?.contiguous()).collect::<Tensors<Vec<_>>>()?;
    let x = Tensor::cat(&shifted, 1)?.permute((0, 2, 1, 3))?.contiguous()?;
    let x = x.reshape((batch * rows, side * inputs, width))?;
    let gradient = gradient.pad_with_zeros(2, 0, 2 * border)?.permute((0, 2, 1, 3))?.contiguous()?;
    let gradient = gradient.reshape((batch * rows, outputs, width))?;
    let count = batch * rows - 2 * border;
    let gradient = gradient.narrow(0, 0, count)?.transpose(1, 2)?;
    let of_row = |row: usize| {
        let products = x.narrow(0, row, count)?.matmul(&gradient)?.to_dtype(sums)?;
        sum_of_first(&products)?.reshape((1, side, inputs, outputs))
    };
    Tensor::cat(&(0..side).map(of_row).collect::<Tensors<Vec<_>>>()?, 0)
}

/// The sum over all pixels of all images for every channel, `[channels]`, of the type `sums`.
pub(super) fn channel_sums(x: &Tensor, sums: DType) -> Tensors<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let of_images = x.to_dtype(sums)?.reshape((batch, channels, height * width))?.sum(2)?;
    sum_of_first(&of_images)
}

/// The sum over the first dimension, as a product with ones: devices sum over the last dimension well and over others badly.
fn sum_of_first(x: &Tensor) -> Tensors<Tensor> {
    let dims = x.dims();
    let (first, rest) = (dims[0], dims[1..].to_vec());
    let ones = Tensor::ones((1, first), x.dtype(), x.device())?;
    ones.matmul(&x.reshape((first, rest.iter().product::<usize>()))?)?.reshape(rest)
}

/// The activation of a result.
pub(super) fn activate(x: Tensor, activation: Activation) -> Tensors<Tensor> {
    match activation {
        Activation::Linear => Ok(x),
        Activation::Relu => x.relu(),
        Activation::LeakyRelu(slope) => x.maximum(&(&x * f64::from(slope))?),
    }
}

/// The gradient before an activation whose result is `y`.
pub(super) fn activate_back(gradient: Tensor, y: &Tensor, activation: Activation) -> Tensors<Tensor> {
    let Some(slope) = activation.slope() else { return Ok(gradient) };
    // The result has the sign of what it was made of.
    let sign = y.contiguous()?.sign()?.to_dtype(gradient.dtype())?;
    let slope = f64::from(slope);
    gradient * if slope == 0.0 { sign } else { sign.affine((1.0 - slope) / 2.0, (1.0 + slope) / 2.0)? }
}

/// Maximum over windows of `by` pixels.
pub(super) fn max_pool(x: &Tensor, by: [usize; 2]) -> Tensors<Tensor> {
    let mut places = places(x, by)?.into_iter();
    let Some(first) = places.next() else { return Ok(x.clone()) };
    let first = first.contiguous()?;
    places.try_fold(first, |largest, place| largest.maximum(&place))
}

/// The gradient of the input `x` of a [`max_pool`] with the result `y`; the first maximum in row-major order takes all of it.
pub(super) fn max_pool_back(gradient: &Tensor, x: &Tensor, y: &Tensor, by: [usize; 2]) -> Tensors<Tensor> {
    let mut free: Option<Tensor> = None;
    let mut parts = Vec::new();
    for place in places(x, by)? {
        let largest = place.contiguous()?.eq(y)?.to_dtype(gradient.dtype())?;
        let (takes, left) = match &free {
            None => (largest.clone(), largest.affine(-1.0, 1.0)?),
            Some(free) => {
                let takes = (largest * free)?;
                let left = (free - &takes)?;
                (takes, left)
            }
        };
        parts.push((gradient * takes)?);
        free = Some(left);
    }
    assembled(&parts, by)
}

/// Nearest-neighbour upsampling.
pub(super) fn upsample(x: &Tensor, [by, bx]: [usize; 2]) -> Tensors<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let x = x.reshape(&[b, c, h, 1, w, 1][..])?.broadcast_as(&[b, c, h, by, w, bx][..])?;
    x.contiguous()?.reshape((b, c, h * by, w * bx))
}

/// The gradient of the input of an [`upsample`].
pub(super) fn upsample_back(gradient: &Tensor, by: [usize; 2]) -> Tensors<Tensor> {
    let mut places = places(gradient, by)?.into_iter();
    let Some(first) = places.next() else { return Ok(gradient.clone()) };
    let first = first.contiguous()?;
    places.try_fold(first, |sum, place| sum + place)
}

/// Every place of windows of `by` pixels in row-major order: the pixels of all windows at that place.
fn places(x: &Tensor, [by, bx]: [usize; 2]) -> Tensors<Vec<Tensor>> {
    let (b, c, h, w) = x.dims4()?;
    let windows = x.reshape(&[b, c, h / by, by, w / bx, bx][..])?;
    let place = |at: usize| windows.narrow(3, at / bx, 1)?.narrow(5, at % bx, 1)?.squeeze(5)?.squeeze(3);
    (0..by * bx).map(place).collect()
}

/// The map whose [`places`] these are.
fn assembled(parts: &[Tensor], [by, bx]: [usize; 2]) -> Tensors<Tensor> {
    let Some(first) = parts.first() else { candle_core::bail!("a window without pixels") };
    let (b, c, h, w) = first.dims4()?;
    let rows = parts.chunks(bx).map(|row| Tensor::stack(row, 4)).collect::<Tensors<Vec<_>>>()?;
    Tensor::stack(&rows, 3)?.reshape((b, c, h * by, w * bx))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::random::Random;

    fn random(shape: &[usize], stream: u64) -> Tensor {
        let mut random = Random::new(3, stream);
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.normal()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn farthest(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.dims(), b.dims());
        let a = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        a.to_dtype(DType::F64).unwrap().to_vec1().unwrap().into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn gradients_of_convolutions_are_those_of_autograd() {
        let turned = Tensor::from_vec((0..9u32).rev().collect(), 9, &Device::Cpu).unwrap();
        for (side, shape) in [(3, [2, 3, 5, 4]), (3, [1, 1, 2, 7]), (1, [3, 2, 4, 4]), (1, [2, 5, 1, 1])] {
            let outputs = 4;
            let x = Var::from_tensor(&random(&shape, 1)).unwrap();
            let kernel = Var::from_tensor(&random(&[side, side, shape[1], outputs], 2)).unwrap();
            let y = convolution(x.as_tensor(), kernel.as_tensor()).unwrap();
            let factors = random(y.dims(), 3);
            let store = (&y * &factors).unwrap().sum_all().unwrap().backward().unwrap();
            let of_x = convolution_back(&factors, kernel.as_tensor(), &turned).unwrap();
            let of_kernel = kernel_gradient(x.as_tensor(), &factors, side, DType::F64).unwrap();
            assert!(farthest(&of_x, store.get(x.as_tensor()).unwrap()) < 1e-12);
            assert!(farthest(&of_kernel, store.get(kernel.as_tensor()).unwrap()) < 1e-11);
        }
    }

    #[test]
    fn the_first_maximum_takes_the_gradient_and_upsampling_gives_it_back() {
        let x = Tensor::from_vec(vec![1f64, 2., 2., 2., 0., 3., 2., 1.], (1, 1, 2, 4), &Device::Cpu).unwrap();
        let y = max_pool(&x, [2, 2]).unwrap();
        let flat = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(flat(y.clone()), [3., 2.]);
        let gradient = Tensor::from_vec(vec![5f64, 7.], (1, 1, 1, 2), &Device::Cpu).unwrap();
        assert_eq!(flat(max_pool_back(&gradient, &x, &y, [2, 2]).unwrap()), [0., 0., 7., 0., 0., 5., 0., 0.]);
        let tall = max_pool(&x, [2, 1]).unwrap();
        assert_eq!(flat(tall), [1., 3., 2., 2.]);
        let up = upsample(&gradient, [2, 3]).unwrap();
        assert_eq!(up.dims(), [1, 1, 2, 6]);
        assert_eq!(flat(upsample_back(&up, [2, 3]).unwrap()), [30., 42.]);
    }

    #[test]
    fn slopes_follow_the_sign() {
        let y = Tensor::from_vec(vec![-1f64, 0., 2.], 3, &Device::Cpu).unwrap();
        let ones = Tensor::ones(3, DType::F64, &Device::Cpu).unwrap();
        let slopes = |kind| activate_back(ones.clone(), &y, kind).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(slopes(Activation::Linear), [1., 1., 1.]);
        assert_eq!(slopes(Activation::Relu)[1..], [0., 1.]);
        let leaky = slopes(Activation::LeakyRelu(0.25));
        assert_eq!([leaky[0], leaky[2]], [0.25, 1.0]);
    }
}
