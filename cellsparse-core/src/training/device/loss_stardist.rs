//! The StarDist losses of logits on a device, as [`stardist_loss`](crate::training::loss_stardist::stardist_loss).

use candle_core::Tensor;

use super::loss::{DeviceLoss, beside, indicator, logistic, over_channels, softmax, sum};
use crate::networks::{Tensors, Uploads};
use crate::training::loss_stardist::{DistanceLoss, EPS, ONE_LESS_EPS, StarLossConfig, StarTruth};

/// Outputs are logits of the object probability, ray lengths and, with classes, their logits.
pub(super) fn measure(
    config: &StarLossConfig,
    truth: &StarTruth<'_>,
    outputs: &[Tensor],
    uploads: &Uploads,
) -> Tensors<DeviceLoss> {
    let [prob, dist, rest @ ..] = outputs else { candle_core::bail!("a StarDist network has at least two outputs") };
    let labelled = truth.prob.iter().filter(|value| **value >= 0.0).count() as f64;
    let target = beside(truth.prob, prob, uploads)?;
    let known = indicator(target.ge(0.0)?, prob)?;
    let (prob_loss, prob_gradient) = probability(config.weights[0], prob, &target.relu()?, &known, labelled)?;
    let (dist_loss, dist_gradient) = distance(config, truth, dist, &known, labelled, uploads)?;
    let mut total = ((&prob_loss * config.weights[0])? + (&dist_loss * config.weights[1])?)?;
    let mut parts = vec![prob_loss, dist_loss];
    let mut gradients = vec![Some(prob_gradient), Some(dist_gradient)];
    if let (Some(output), Some(target)) = (rest.first(), truth.class) {
        let (loss, gradient) = classes(config, output, target, uploads)?;
        total = (total + (&loss * config.weights[2])?)?;
        parts.push(loss);
        gradients.push(Some(gradient));
    }
    Ok(DeviceLoss { total, parts, gradients, carried: None })
}

/// 1 where a probability was not clipped, and the clipped one.
fn clipped(p: &Tensor) -> Tensors<[Tensor; 2]> {
    let inside = (indicator(p.ge(EPS)?, p)? * indicator(p.le(ONE_LESS_EPS)?, p)?)?;
    Ok([inside, p.clamp(EPS, ONE_LESS_EPS)?])
}

fn probability(weight: f64, z: &Tensor, t: &Tensor, known: &Tensor, labelled: f64) -> Tensors<(Tensor, Tensor)> {
    let scale = if labelled > 0.0 { 1.0 / labelled } else { 0.0 };
    let [p, _] = logistic(z)?;
    let [inside, q] = clipped(&p)?;
    let none = q.affine(-1.0, 1.0)?;
    let (q, rest) = ((&q + EPS)?, (&none + EPS)?);
    let other = t.affine(-1.0, 1.0)?;
    let entropy = ((t * q.log()?)? + (&other * rest.log()?)?)?;
    let loss = (sum(&(entropy * known)?)? * -scale)?;
    let slope = ((other / rest)? - (t / q)?)?;
    let slope = (slope * (&p * p.affine(-1.0, 1.0)?)?)?;
    Ok((loss, ((slope * (inside * known)?)? * (weight * scale))?))
}

fn distance(
    config: &StarLossConfig,
    truth: &StarTruth<'_>,
    output: &Tensor,
    known: &Tensor,
    labelled: f64,
    uploads: &Uploads,
) -> Tensors<(Tensor, Tensor)> {
    let (pixels, rays) = (truth.mask.len() as f64, output.dim(1)? as f64);
    let covered: f64 = truth.mask.iter().map(|weight| f64::from(*weight)).sum();
    let object = 1.0 / (rays * (covered + EPS * pixels));
    let outside = if config.regularize_ignored { pixels } else { labelled.max(1.0) };
    let background = config.background_reg / (rays * outside);
    let mask = beside(truth.mask, output, uploads)?;
    let actual = beside(truth.dist, output, uploads)?;
    let mut free = mask.affine(-1.0, 1.0)?;
    if !config.regularize_ignored {
        free = (free * known)?;
    }
    let lengths = sum(&output.abs()?.broadcast_mul(&free)?)?;
    let (error, slope) = compared(config.distance, output, &actual)?;
    let error = sum(&error.broadcast_mul(&mask)?)?;
    let loss = ((error * object)? + (lengths * background)?)?;
    let weight = config.weights[1];
    let slope = slope.broadcast_mul(&(mask * (weight * object))?)?;
    let pull = output.contiguous()?.sign()?.broadcast_mul(&(free * (weight * background))?)?;
    Ok((loss, (slope + pull)?))
}

/// The error of every ray, or of every pixel as a sum over its rays, and its derivative.
fn compared(kind: DistanceLoss, q: &Tensor, d: &Tensor) -> Tensors<(Tensor, Tensor)> {
    let apart = (q - d)?;
    match kind {
        DistanceLoss::Mae => Ok((apart.abs()?, apart.contiguous()?.sign()?)),
        DistanceLoss::Mse => Ok((apart.sqr()?, (apart * 2.0)?)),
        DistanceLoss::Iou => {
            let rays = q.dim(1)? as f64;
            let mean = |x: &Tensor| -> Tensors<Tensor> { over_channels(x, |a, b| a + b)? / rays };
            let sign = q.contiguous()?.sign()?;
            let common = mean(&(q.minimum(d)?.sqr()? * &sign)?)?;
            let joint = (mean(&q.maximum(d)?.sqr()?)? + EPS)?;
            let error = ((&common / &joint)?.affine(-1.0, 1.0)? * rays)?;
            let common_slope = ((q * indicator(q.lt(d)?, q)?)? * sign)?;
            let joint_slope = (q * indicator(q.gt(d)?, q)?)?;
            let slope = (joint_slope.broadcast_mul(&common)? - common_slope.broadcast_mul(&joint)?)?;
            Ok((error, (slope.broadcast_div(&joint.sqr()?)? * 2.0)?))
        }
    }
}

fn classes(config: &StarLossConfig, output: &Tensor, target: &[f32], uploads: &Uploads) -> Tensors<(Tensor, Tensor)> {
    let (batch, channels, height, width) = output.dims4()?;
    let scale = 1.0 / (batch * height * width) as f64;
    let add = |x: &Tensor| over_channels(x, |a, b| a + b);
    let mut weight = beside(target, output, uploads)?.relu()?;
    if !config.class_weights.is_empty() {
        let factors = Tensor::from_slice(&config.class_weights, (1, channels, 1, 1), &candle_core::Device::Cpu)?;
        weight = weight.broadcast_mul(&factors.to_dtype(output.dtype())?.to_device(output.device())?)?;
    }
    let (share, _) = softmax(output)?;
    let total = (add(&share)? + channels as f64 * EPS)?;
    let part = share.broadcast_div(&total)?;
    let [inside, q] = clipped(&part)?;
    let loss = (sum(&(&weight * q.log()?)?)? * -scale)?;
    let slope = ((weight * inside)?.neg()? / q)?;
    let slope = slope.broadcast_sub(&add(&(&slope * &part)?)?)?.broadcast_div(&total)?;
    let slope = (slope.broadcast_sub(&add(&(&slope * &share)?)?)? * share)?;
    Ok((loss, (slope * (config.weights[2] * scale))?))
}

#[cfg(test)]
mod tests {
    use super::super::loss::tests::{assert_same, normal, output, scalar, uploads};
    use super::*;
    use crate::training::loss_stardist::{Head, StarGradients, StarOutputs, stardist_loss};

    const SHAPE: [usize; 3] = [2, 6, 5];
    const PIXELS: usize = 60;
    const RAYS: usize = 4;
    const CLASSES: usize = 3;

    fn compare(config: &StarLossConfig, known: impl Fn(usize) -> bool, with_classes: bool) {
        let prob = normal(PIXELS, 1);
        let dist: Vec<f32> = normal(PIXELS * RAYS, 2).iter().map(|value| 3.0 + value).collect();
        let class = normal(PIXELS * CLASSES, 3);
        let inside = |i: usize| i % 5 < 2;
        let true_prob: Vec<f32> = (0..PIXELS)
            .map(|i| {
                if !known(i) {
                    -1.0
                } else if inside(i) {
                    0.75
                } else {
                    0.0
                }
            })
            .collect();
        let true_dist: Vec<f32> = normal(PIXELS * RAYS, 4).iter().map(|value| value.abs() + 0.5).collect();
        let mask: Vec<f32> = (0..PIXELS).map(|i| if known(i) && inside(i) { 0.75 } else { 0.0 }).collect();
        let true_class: Vec<f32> = (0..PIXELS * CLASSES)
            .map(|i| {
                if (i / CLASSES).is_multiple_of(4) {
                    -1.0
                } else {
                    f32::from(u8::from(i % CLASSES == i / CLASSES % CLASSES))
                }
            })
            .collect();
        let of_classes = |values: &'static [f32]| with_classes.then_some(values);
        let (class, true_class) = (&*Vec::leak(class), &*Vec::leak(true_class));
        let truth = StarTruth { prob: &true_prob, dist: &true_dist, mask: &mask, class: of_classes(true_class) };
        let (mut of_prob, mut of_dist, mut of_class) =
            (vec![0.0; PIXELS], vec![0.0; PIXELS * RAYS], vec![0.0; PIXELS * CLASSES]);
        let gradients = StarGradients {
            prob: &mut of_prob,
            dist: &mut of_dist,
            class: with_classes.then_some(of_class.as_mut_slice()),
        };
        let outputs = StarOutputs { prob: &prob, dist: &dist, class: of_classes(class) };
        let want = stardist_loss(config, Head::Logits, outputs, truth, Some(gradients)).unwrap();
        let mut outputs = vec![output(&prob, SHAPE), output(&dist, SHAPE)];
        outputs.extend(with_classes.then(|| output(class, SHAPE)));
        let found = measure(config, &truth, &outputs, &uploads()).unwrap();
        assert!((scalar(&found.total) - want.total).abs() < 1e-9, "{} {}", scalar(&found.total), want.total);
        assert!((scalar(&found.parts[0]) - want.prob).abs() < 1e-9);
        assert!((scalar(&found.parts[1]) - want.dist).abs() < 1e-9);
        assert_eq!(found.parts.len(), 2 + usize::from(with_classes));
        if let Some(class) = want.class {
            assert!((scalar(&found.parts[2]) - class).abs() < 1e-9);
            assert_same(found.gradients[2].as_ref().unwrap(), &of_class);
        }
        assert_same(found.gradients[0].as_ref().unwrap(), &of_prob);
        assert_same(found.gradients[1].as_ref().unwrap(), &of_dist);
    }

    #[test]
    fn value_and_gradient_are_those_of_the_cpu() {
        for distance in [DistanceLoss::Mae, DistanceLoss::Mse, DistanceLoss::Iou] {
            for regularize_ignored in [true, false] {
                let config = StarLossConfig {
                    distance,
                    regularize_ignored,
                    background_reg: 1e-2,
                    weights: [1.0, 2.0, 0.5],
                    class_weights: if regularize_ignored { Vec::new() } else { vec![0.5, 1.0, 2.0] },
                };
                compare(&config, |i| i % 7 != 3, true);
                compare(&config, |i| i % 2 == 0, false);
                compare(&config, |_| false, false);
            }
        }
    }
}
