//! The ELEPHANT loss on a device, as [`SegmentationLoss`](crate::training::loss_elephant::SegmentationLoss).

use candle_core::Tensor;

use super::loss::{DeviceLoss, beside, indicator, softmax, sum};
use crate::networks::{Tensors, Uploads};
use crate::training::loss_elephant::{CLASSES, ElephantLossConfig, LOSS_WEIGHTS, SMALLEST_DENOMINATOR};
use crate::training::loss_smooth::smoothing_matrix;

/// What is known of a sample from its targets alone, for light and heavy pixels: numbers of a scalar for every sample.
struct Counts {
    /// How much the samples with a labelled pixel count, one over their number; 0 for the others.
    shares: Vec<f64>,
    /// Of light and heavy pixels in a sample.
    fractions: [Vec<f64>; 2],
    /// The fraction over the sum of the class weights.
    entropies: [Vec<f64>; 2],
    centers: [Vec<f64>; 2],
    /// 1 for samples with a centre pixel.
    has_center: Vec<f64>,
}

impl Counts {
    fn of(config: &ElephantLossConfig, targets: &[i32], pixels: usize) -> Self {
        let samples = targets.chunks_exact(pixels.max(1));
        let labelled = samples.clone().filter(|targets| targets.iter().any(|target| *target >= 0)).count();
        let mut counts = Self {
            shares: Vec::new(),
            fractions: Default::default(),
            entropies: Default::default(),
            centers: Default::default(),
            has_center: Vec::new(),
        };
        for targets in samples {
            let (mut numbers, mut weights, mut centers) = ([0.0; 2], [0.0; 2], [0.0; 2]);
            for target in targets.iter().filter(|target| **target >= 0) {
                let (kind, class) = (usize::from(*target >= 3), *target as usize % CLASSES);
                numbers[kind] += 1.0;
                weights[kind] += f64::from(config.class_weights[class]);
                centers[kind] += f64::from(u8::from(class == 2));
            }
            let heavy = f64::from(config.false_weight) * numbers[1];
            let all = numbers[0] + heavy;
            let fractions = if all > 0.0 { [numbers[0] / all, heavy / all] } else { [1.0, 0.0] };
            let counted = numbers[0] + numbers[1] > 0.0;
            counts.shares.push(if counted { 1.0 / labelled as f64 } else { 0.0 });
            for kind in 0..2 {
                counts.fractions[kind].push(fractions[kind]);
                let entropy = if weights[kind] > 0.0 { fractions[kind] / weights[kind] } else { 0.0 };
                counts.entropies[kind].push(entropy);
                counts.centers[kind].push(centers[kind]);
            }
            counts.has_center.push(f64::from(u8::from(centers[0] + centers[1] > 0.0)));
        }
        counts
    }
}

/// Numbers for every sample as `[batch, 1, 1, 1]`.
fn per_sample(values: &[f64], like: &Tensor) -> Tensors<Tensor> {
    let values = Tensor::from_slice(values, (values.len(), 1, 1, 1), &candle_core::Device::Cpu)?;
    values.to_dtype(like.dtype())?.to_device(like.device())
}

/// The sum over the pixels of every sample of a map with one channel, `[batch, 1, 1, 1]`.
fn of_samples(x: &Tensor) -> Tensors<Tensor> {
    let (batch, _, height, width) = x.dims4()?;
    x.reshape((batch * height, width))?.sum(1)?.reshape((batch, height))?.sum(1)?.reshape((batch, 1, 1, 1))
}

/// `targets` are `[B, H, W]`, from -1 to 5.
pub(super) fn measure(
    config: &ElephantLossConfig,
    targets: &[i32],
    logits: &Tensor,
    carried: &Tensor,
    uploads: &Uploads,
) -> Tensors<DeviceLoss> {
    let (_, _, height, width) = logits.dims4()?;
    let counts = Counts::of(config, targets, height * width);
    let shares = per_sample(&counts.shares, logits)?;
    let (p, logs) = softmax(logits)?;
    let numbers: Vec<f32> = targets.iter().map(|target| *target as f32).collect();
    let targets = beside(&numbers, logits, uploads)?;
    let heavy = indicator(targets.ge(2.5)?, logits)?;
    let light = (indicator(targets.ge(-0.5)?, logits)? - &heavy)?;
    let kinds = [&light, &heavy];
    // Class numbers beside those of the pixels, without the mark of heavy ones.
    let class = (&targets - (&heavy * CLASSES as f64)?)?;
    let is = |k: usize| indicator(class.gt(k as f64 - 0.5)?, logits)? * indicator(class.lt(k as f64 + 0.5)?, logits)?;
    let one_hot = [is(0)?, is(1)?, is(2)?];

    let mut weight = light.zeros_like()?;
    for (kind, entropies) in kinds.into_iter().zip(&counts.entropies) {
        weight = (weight + kind.broadcast_mul(&(per_sample(entropies, logits)? * &shares)?)?)?;
    }
    let mut of_class = light.zeros_like()?;
    for (one_hot, factor) in one_hot.iter().zip(config.class_weights) {
        of_class = (of_class + (one_hot * f64::from(factor))?)?;
    }
    let weight = (weight * of_class)?;
    let one_hot_all = Tensor::cat(&one_hot, 1)?;
    let weighted = one_hot_all.broadcast_mul(&weight)?;
    let cross_entropy = sum(&(&weighted * &logs)?)?.neg()?;
    let of_entropy = ((p.broadcast_mul(&weight)? - weighted)? * LOSS_WEIGHTS[0])?;

    let q = p.narrow(1, 2, 1)?.contiguous()?;
    let has_center = per_sample(&counts.has_center, logits)?;
    let missing = (has_center.affine(-1.0, 1.0)?).broadcast_mul(&carried.reshape((1, 1, 1, 1))?)?;
    let (mut dice, mut slope) = (missing, light.zeros_like()?);
    for ((kind, fractions), centers) in kinds.into_iter().zip(&counts.fractions).zip(&counts.centers) {
        let both = of_samples(&((&q * kind)? * &one_hot[2])?)?;
        let joint = (of_samples(&(q.sqr()? * kind)?)? + per_sample(centers, logits)?)?;
        let sloping = indicator(joint.gt(SMALLEST_DENOMINATOR)?, logits)?;
        let joint = joint.maximum(SMALLEST_DENOMINATOR)?;
        let counts = (per_sample(fractions, logits)? * &has_center)?;
        dice = (dice + ((&both / &joint)?.affine(-2.0, 1.0)? * &counts)?)?;
        let factor = ((counts * &shares)? * LOSS_WEIGHTS[1])?;
        let of_target = ((&factor / &joint)? * -2.0)?;
        let of_square = ((((both * factor)? / joint.sqr()?)? * 4.0)? * sloping)?;
        let part = (one_hot[2].broadcast_mul(&of_target)? + q.broadcast_mul(&of_square)?)?;
        slope = (slope + (part * kind)?)?;
    }
    let center_dice = sum(&(dice * &shares)?)?;

    let (apart, smoothness) = smoothness(&q, &shares)?;
    slope = (slope + (apart * LOSS_WEIGHTS[2])?)?;

    // The centre probability is a softmax of all logits.
    let along = (&slope * &q)?;
    let others = p.broadcast_mul(&along)?.neg()?;
    let center = Tensor::cat(&[&along.zeros_like()?, &along.zeros_like()?, &along], 1)?;
    let gradient = ((of_entropy + others)? + center)?;
    let parts = [cross_entropy, center_dice, smoothness];
    let mut total = (&parts[0] * LOSS_WEIGHTS[0])?;
    for (part, weight) in parts.iter().zip(LOSS_WEIGHTS).skip(1) {
        total = (total + (part * weight)?)?;
    }
    let carried = counts.shares.iter().any(|share| *share > 0.0).then(|| parts[1].clone());
    Ok(DeviceLoss { total, parts: parts.to_vec(), gradients: vec![Some(gradient)], carried })
}

/// The derivative of the smoothness by the centre probability, and the smoothness itself. The blur is a product with a matrix
/// from each side.
fn smoothness(q: &Tensor, shares: &Tensor) -> Tensors<(Tensor, Tensor)> {
    let (batch, _, height, width) = q.dims4()?;
    let matrix = |size: usize| -> Tensors<Tensor> {
        let matrix = Tensor::from_vec(smoothing_matrix(size), (size, size), &candle_core::Device::Cpu)?;
        let matrix = matrix.to_dtype(q.dtype())?.to_device(q.device())?;
        // Products take as many matrices from both sides.
        matrix.broadcast_as((batch, size, size))?.contiguous()
    };
    let (down, across) = (matrix(height)?, matrix(width)?);
    let map = q.reshape((batch, height, width))?;
    let blurred = down.matmul(&map)?.matmul(&across.transpose(1, 2)?)?;
    let apart = (map - blurred)?;
    let each = (shares.reshape((batch, 1, 1))? / (height * width) as f64)?;
    let value = sum(&apart.abs()?.broadcast_mul(&each)?)?;
    let sign = apart.contiguous()?.sign()?.broadcast_mul(&each)?;
    let back = down.transpose(1, 2)?.contiguous()?.matmul(&sign)?.matmul(&across)?;
    Ok(((sign - back)?.reshape((batch, 1, height, width))?, value))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::loss::tests::{normal, output, rows, scalar, uploads};
    use super::*;
    use crate::random::Random;
    use crate::training::loss_elephant::SegmentationLoss;

    fn scalar_tensor(value: f64) -> Tensor {
        Tensor::from_slice(&[value], (), &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn value_and_gradient_are_those_of_the_cpu() {
        let config = ElephantLossConfig { class_weights: [1.0, 3.0, 2.0], false_weight: 2.0 };
        for (shape, kinds) in [([3, 6, 8], 7), ([2, 5, 7], 4), ([2, 7, 4], 3), ([1, 4, 4], 1)] {
            let pixels = shape.iter().product::<usize>();
            let mut random = Random::new(5, 1);
            let logits = normal(pixels * 3, 1);
            let mut targets: Vec<i32> = (0..pixels).map(|_| random.below(kinds) as i32 - 1).collect();
            if shape[0] == 3 {
                // A sample without a label, and one without a centre.
                targets[..shape[1] * shape[2]].fill(-1);
                targets[shape[1] * shape[2]..][..shape[1] * shape[2]].iter_mut().for_each(|t| *t = (*t).min(1));
            }
            let mut on_cpu = SegmentationLoss::with_carried(config.clone(), 0.25);
            let mut gradient = vec![0.0; logits.len()];
            let want = on_cpu.forward(&logits, &targets, shape, Some(&mut gradient)).unwrap();
            let found = measure(&config, &targets, &output(&logits, shape), &scalar_tensor(0.25), &uploads()).unwrap();
            // On the CPU, probabilities have 32 bits.
            for (found, want) in found.parts.iter().zip([want.cross_entropy, want.center_dice, want.smoothness]) {
                assert!((scalar(found) - want).abs() < 1e-6, "{shape:?}: {} instead of {want}", scalar(found));
            }
            assert!((scalar(&found.total) - want.total).abs() < 1e-6);
            assert!(found.carried.map_or(0.25, |carried| scalar(&carried)) - f64::from(on_cpu.carried()) < 1e-6);
            for (found, want) in rows(found.gradients[0].as_ref().unwrap()).iter().zip(&gradient) {
                assert!((found - f64::from(*want)).abs() < 1e-6, "{found} instead of {want}");
            }
        }
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let shape = [2, 5, 6];
        let config = ElephantLossConfig { class_weights: [1.0, 3.0, 2.0], false_weight: 2.0 };
        let mut random = Random::new(5, 2);
        let targets: Vec<i32> = (0..60).map(|_| random.below(7) as i32 - 1).collect();
        let logits = output(&normal(180, 2), shape);
        let at = |logits: &Tensor| measure(&config, &targets, logits, &scalar_tensor(0.0), &uploads()).unwrap();
        let gradient = at(&logits).gradients[0].clone().unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = logits.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (index, slope) in gradient.iter().enumerate().step_by(7) {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[index] += by;
                scalar(&at(&Tensor::from_vec(values, logits.dims(), &Device::Cpu).unwrap()).total)
            };
            let found = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((found - slope).abs() < 1e-9, "{index}: {found} {slope}");
        }
    }
}
