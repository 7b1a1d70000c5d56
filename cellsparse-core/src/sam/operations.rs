//! Operations on the CPU that Candle does not have or does on one thread: GELU, normalisation of rows, softmax with
//! relative positions, depthwise convolution. Other devices compose them of Candle's own.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Shape, Tensor, WithDType};
use rayon::prelude::*;

/// A calculation on tensors.
pub(super) type Tensors<T> = candle_core::Result<T>;

/// Values that one task of a thread pool works on at least.
const GRAIN: usize = 1 << 12;

/// `x (1 + erf(x / sqrt 2)) / 2`, the exact form and not the one with `tanh`.
pub(super) fn gelu(x: &Tensor) -> Tensors<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1_no_bwd(&Gelu) } else { x.gelu_erf() }
}

/// Softmax along the last axis.
pub(super) fn softmax(x: &Tensor) -> Tensors<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1_no_bwd(&Softmax);
    }
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    x.broadcast_div(&x.sum_keepdim(D::Minus1)?)
}

/// Every row (the last axis) with mean 0 and variance 1, times `weight`, plus `bias`.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Tensors<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op3_no_bwd(weight, bias, &LayerNorm { epsilon });
    }
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    x.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Softmax of the scores `[batch, n, n]` of the pixels of a square, `n = side * side`, after adding what the relative
/// positions say: for a query at row `y` and a key at row `k` that is entry `y - k + side - 1` of the query's row of
/// `down` `[batch * n, 2 side - 1]`, and of `across` for columns likewise.
pub(super) fn softmax_by_position(scores: &Tensor, down: &Tensor, across: &Tensor, side: usize) -> Tensors<Tensor> {
    if scores.device().is_cpu() {
        return scores.contiguous()?.apply_op3_no_bwd(
            &down.contiguous()?,
            &across.contiguous()?,
            &SoftmaxByPosition { side },
        );
    }
    by_gathering(scores, down, across, side)
}

/// [`softmax_by_position`] of operations that every device has.
fn by_gathering(scores: &Tensor, down: &Tensor, across: &Tensor, side: usize) -> Tensors<Tensor> {
    let (batch, n, _) = scores.dims3()?;
    // For each query the entries of its `side` keys along one axis.
    let gathered = |table: &Tensor, place: &dyn Fn(usize) -> usize| {
        let entries: Vec<u32> = (0..n)
            .flat_map(|q| (0..side).map(move |k| (q, k)))
            .map(|(q, k)| (place(q) + side - 1 - k) as u32)
            .collect();
        let entries = Tensor::from_vec(entries, (1, n, side), scores.device())?;
        let entries = entries.broadcast_as((batch, n, side))?.contiguous()?;
        table.reshape((batch, n, 2 * side - 1))?.contiguous()?.gather(&entries, 2)
    };
    let down = gathered(down, &|q| q / side)?.reshape((batch, n, side, 1))?;
    let across = gathered(across, &|q| q % side)?.reshape((batch, n, 1, side))?;
    let scores = scores.reshape((batch, n, side, side))?.broadcast_add(&down)?.broadcast_add(&across)?;
    softmax(&scores.reshape((batch, n, n))?)
}

/// A convolution of each channel by itself: `x` is `[h, w, c]`, `kernel` `[3, 3, c]`; one pixel of zeros lies around the
/// image.
pub(super) fn depthwise(x: &Tensor, kernel: &Tensor, bias: &Tensor, stride: usize) -> Tensors<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op3_no_bwd(kernel, bias, &Depthwise { stride });
    }
    let channels = x.dim(2)?;
    let kernel = kernel.permute((2, 0, 1))?.unsqueeze(1)?.contiguous()?;
    let y = x.permute((2, 0, 1))?.unsqueeze(0)?.contiguous()?.conv2d(&kernel, 1, stride, 1, channels)?;
    y.squeeze(0)?.permute((1, 2, 0))?.contiguous()?.broadcast_add(bias)
}

/// The values of a contiguous tensor of 32-bit floats.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Tensors<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((first, end)) => Ok(&all[first..end]),
        None => candle_core::bail!("the values are not contiguous"),
    }
}

fn stored(values: Vec<f32>, shape: &Shape) -> (CpuStorage, Shape) {
    (f32::to_cpu_storage_owned(values), shape.clone())
}

/// Length of the last axis, at least 1.
fn row_length(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1).max(1)
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Tensors<(CpuStorage, Shape)> {
        let mut out = values(storage, layout)?.to_vec();
        out.par_chunks_mut(GRAIN).for_each(|part| {
            for x in part {
                *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
            }
        });
        Ok(stored(out, layout.shape()))
    }
}

/// The error function to 1.5e-7: formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions.
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let polynomial = t * (0.254_829_6 + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4))));
    (1.0 - polynomial * (-a * a).exp()).copysign(x)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Tensors<(CpuStorage, Shape)> {
        let mut out = values(storage, layout)?.to_vec();
        let length = row_length(layout);
        out.par_chunks_mut(length).with_min_len(GRAIN.div_ceil(length)).for_each(softmax_row);
        Ok(stored(out, layout.shape()))
    }
}

fn softmax_row(row: &mut [f32]) {
    // Several maxima and sums at a time, so that the compiler may use vectors.
    const LANES: usize = 16;
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (most, &value) in most.iter_mut().zip(chunk) {
            *most = if value > *most { value } else { *most };
        }
    }
    let most = most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = (*value - most).exp());
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
    }
    let share = 1.0 / sums.iter().chain(rest).sum::<f32>();
    row.iter_mut().for_each(|value| *value *= share);
}

struct SoftmaxByPosition {
    side: usize,
}

impl CustomOp3 for SoftmaxByPosition {
    fn name(&self) -> &'static str {
        "softmax by position"
    }

    fn cpu_fwd(
        &self,
        scores: &CpuStorage,
        layout: &Layout,
        down: &CpuStorage,
        down_layout: &Layout,
        across: &CpuStorage,
        across_layout: &Layout,
    ) -> Tensors<(CpuStorage, Shape)> {
        let side = self.side;
        let (n, entries) = (side * side, 2 * side - 1);
        let (down, across) = (values(down, down_layout)?, values(across, across_layout)?);
        let scores = values(scores, layout)?;
        let rows = scores.len() / n;
        if scores.len() != rows * n || down.len() != rows * entries || across.len() != rows * entries {
            candle_core::bail!("scores {:?} and positions {:?} do not fit", layout.dims(), down_layout.dims());
        }
        let mut out = scores.to_vec();
        out.par_chunks_mut(n).with_min_len(GRAIN.div_ceil(n)).enumerate().for_each(|(at, row)| {
            let (y, x) = (at % n / side, at % n % side);
            let own = at * entries;
            let down = &down[own + y..][..side];
            let across = &across[own + x..][..side];
            for (line, down) in row.chunks_exact_mut(side).zip(down.iter().rev()) {
                for (value, across) in line.iter_mut().zip(across.iter().rev()) {
                    *value += down + across;
                }
            }
            softmax_row(row);
        });
        Ok(stored(out, layout.shape()))
    }
}

struct LayerNorm {
    epsilon: f64,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Tensors<(CpuStorage, Shape)> {
        let (weight, bias) = (values(weight, weight_layout)?, values(bias, bias_layout)?);
        let length = row_length(layout);
        if weight.len() != length || bias.len() != length {
            candle_core::bail!("rows of {length} and {} weights do not fit", weight.len());
        }
        let mut out = values(x, layout)?.to_vec();
        out.par_chunks_mut(length).with_min_len(GRAIN.div_ceil(length)).for_each(|row| {
            let count = length as f64;
            let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
            let square = |value: &f32| (f64::from(*value) - mean).powi(2);
            let variance = row.iter().map(square).sum::<f64>() / count;
            let (mean, scale) = (mean as f32, (1.0 / (variance + self.epsilon).sqrt()) as f32);
            for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                *value = (*value - mean) * scale * weight + bias;
            }
        });
        Ok(stored(out, layout.shape()))
    }
}

struct Depthwise {
    stride: usize,
}

impl CustomOp3 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        kernel: &CpuStorage,
        kernel_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Tensors<(CpuStorage, Shape)> {
        let (height, width, channels) = layout.shape().dims3()?;
        let (x, kernel, bias) = (values(x, layout)?, values(kernel, kernel_layout)?, values(bias, bias_layout)?);
        if kernel.len() != 9 * channels || bias.len() != channels || x.is_empty() {
            candle_core::bail!("an image {:?} and a kernel {:?} do not fit", layout.dims(), kernel_layout.dims());
        }
        let (rows, columns) = (height.div_ceil(self.stride), width.div_ceil(self.stride));
        let mut out = vec![0.0_f32; rows * columns * channels];
        out.par_chunks_exact_mut(columns * channels).enumerate().for_each(|(row, line)| {
            for (column, pixel) in line.chunks_exact_mut(channels).enumerate() {
                pixel.copy_from_slice(bias);
                for (tap, weights) in kernel.chunks_exact(channels).enumerate() {
                    // One less than these is the place; 0 and the size plus 1 lie in the zeros around the image.
                    let (y, x_after) = (row * self.stride + tap / 3, column * self.stride + tap % 3);
                    if y == 0 || y > height || x_after == 0 || x_after > width {
                        continue;
                    }
                    let source = &x[((y - 1) * width + x_after - 1) * channels..][..channels];
                    for ((value, source), weight) in pixel.iter_mut().zip(source).zip(weights) {
                        *value += source * weight;
                    }
                }
            }
        });
        Ok(stored(out, &Shape::from((rows, columns, channels))))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn wave(shape: &[usize], step: f32) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| 2.0 * (i as f32 * step).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn worst(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn the_error_function_is_that_of_the_tables() {
        for (x, expected) in
            [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (-1.0, -0.842_700_8)]
        {
            assert!((erf(x) - expected).abs() < 5e-7, "{x}");
        }
        let x = wave(&[5000], 0.3);
        assert!(worst(&gelu(&x).unwrap(), &x.gelu_erf().unwrap()) < 2e-6);
    }

    #[test]
    fn rows_are_shares_and_positions_are_added_to_them() {
        let side = 3;
        let scores = wave(&[2, 9, 9], 0.7);
        let (down, across) = (wave(&[18, 5], 0.4), wave(&[18, 5], 0.9));
        let got = softmax_by_position(&scores, &down, &across, side).unwrap();
        assert!(worst(&got, &by_gathering(&scores, &down, &across, side).unwrap()) < 1e-6);
        assert!(
            worst(&got.sum(2).unwrap(), &Tensor::ones((2, 9), candle_core::DType::F32, &Device::Cpu).unwrap()) < 1e-5
        );
        // The query at row 0, column 2 of the first square, the key at row 1, column 1, against the key at its own place.
        let at = |tensor: &Tensor, place: [usize; 3]| tensor.to_vec3::<f32>().unwrap()[place[0]][place[1]][place[2]];
        let entry = |table: &Tensor, place: usize| table.to_vec2::<f32>().unwrap()[2][place];
        let score = |key: usize, dy: usize, dx: usize| at(&scores, [0, 2, key]) + entry(&down, dy) + entry(&across, dx);
        let ratio = at(&got, [0, 2, 4]) / at(&got, [0, 2, 2]);
        assert!((ratio.ln() - (score(4, 1, 3) - score(2, 2, 2))).abs() < 1e-4);
    }

    #[test]
    fn channels_are_convolved_by_themselves() {
        for (height, width, stride) in [(5, 4, 1), (6, 5, 2), (1, 1, 1)] {
            let (x, kernel, bias) = (wave(&[height, width, 3], 0.3), wave(&[3, 3, 3], 0.5), wave(&[3], 1.0));
            let got = depthwise(&x, &kernel, &bias, stride).unwrap();
            let plain = kernel.permute((2, 0, 1)).unwrap().unsqueeze(1).unwrap().contiguous().unwrap();
            let input = x.permute((2, 0, 1)).unwrap().unsqueeze(0).unwrap().contiguous().unwrap();
            let want = input.conv2d(&plain, 1, stride, 1, 3).unwrap().squeeze(0).unwrap().permute((1, 2, 0)).unwrap();
            assert!(worst(&got, &want.broadcast_add(&bias).unwrap()) < 1e-5);
        }
    }

    #[test]
    fn rows_are_normalised() {
        let (x, weight, bias) = (wave(&[4, 7], 0.6), wave(&[7], 0.2), wave(&[7], 0.8));
        let got = layer_norm(&x, &weight, &bias, 1e-6).unwrap();
        let centred = x.broadcast_sub(&x.mean_keepdim(1).unwrap()).unwrap();
        let scale = (centred.sqr().unwrap().mean_keepdim(1).unwrap() + 1e-6).unwrap().sqrt().unwrap();
        let want = centred.broadcast_div(&scale).unwrap().broadcast_mul(&weight).unwrap().broadcast_add(&bias).unwrap();
        assert!(worst(&got, &want) < 1e-5);
    }
}
