//! The StarDist losses with their gradients: probability, distances, background, classes.
//!
//! Formulas: Schmidt et al., MICCAI 2018, as implemented in stardist 0.9.2, on pixels that may be unlabelled. All sums
//! are in f64 over chunks of fixed size in a fixed order, so the result does not depend on the number of threads.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::training::loss::sum_chunks;

/// Keeps logarithms and quotients finite; part of the reference's definition.
pub(super) const EPS: f64 = 1e-7;

/// The reference clips probabilities in f32, where 1 - eps is this. It decides the loss of saturated probabilities.
pub(super) const ONE_LESS_EPS: f64 = (1.0f32 - 1e-7f32) as f64;

/// How predicted and true ray lengths are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DistanceLoss {
    /// Mean absolute error, in pixels.
    #[default]
    Mae,
    /// Mean squared error, in square pixels.
    Mse,
    /// 1 minus the ratio of the squared common and the squared joint length: a measure of the overlap of areas.
    Iou,
}

/// Whether the network's last activation is part of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Outputs are probabilities; gradients are with respect to them.
    Probabilities,
    /// Outputs are logits of a sigmoid (object) and a softmax (classes); gradients are with respect to the logits.
    Logits,
}

/// What is added up, and with which weights.
#[derive(Debug, Clone, PartialEq)]
pub struct StarLossConfig {
    /// Comparison of ray lengths. Default mean absolute error.
    pub distance: DistanceLoss,
    /// Weight of the mean absolute predicted length outside objects, which keeps it small. Default 1e-4.
    pub background_reg: f64,
    /// Whether that term acts on unlabelled pixels too, as in the reference (then it is a mean over all pixels), or
    /// leaves them alone (then it is a mean over the labelled pixels). Default true.
    pub regularize_ignored: bool,
    /// Weights of the probability, distance and class loss in the total. Default 1, 0.2, 1.
    pub weights: [f64; 3],
    /// Weight of each class in the class loss, background first; empty means 1 each. Default empty.
    pub class_weights: Vec<f64>,
}

impl Default for StarLossConfig {
    fn default() -> Self {
        Self {
            distance: DistanceLoss::Mae,
            background_reg: 1e-4,
            regularize_ignored: true,
            weights: [1.0, 0.2, 1.0],
            class_weights: Vec::new(),
        }
    }
}

/// The outputs of a network for `N` pixels (batch, rows and columns in one), pixel by pixel.
#[derive(Debug, Clone, Copy)]
pub struct StarOutputs<'a> {
    /// `[N]`: object probability, or its logit.
    pub prob: &'a [f32],
    /// `[N, R]`: ray lengths in pixels.
    pub dist: &'a [f32],
    /// `[N, K]`: probabilities of background and classes, or their logits.
    pub class: Option<&'a [f32]>,
}

/// The targets of these outputs; see [`StarTargets`](crate::targets::stardist::StarTargets).
#[derive(Debug, Clone, Copy)]
pub struct StarTruth<'a> {
    /// `[N]`: object probability, negative at unlabelled pixels.
    pub prob: &'a [f32],
    /// `[N, R]`: ray lengths in pixels.
    pub dist: &'a [f32],
    /// `[N]`: weight of the distance loss, in `[0, 1]`.
    pub mask: &'a [f32],
    /// `[N, K]`: 1 for the class of the pixel, 0 for the others, negative where unknown.
    pub class: Option<&'a [f32]>,
}

impl<'a> StarTruth<'a> {
    /// The targets of some pixels.
    ///
    /// # Panics
    /// If there are not so many pixels.
    pub fn of_pixels(&self, pixels: Range<usize>) -> StarTruth<'a> {
        let width = |values: &[f32]| values.len().checked_div(self.prob.len()).unwrap_or(0);
        let cut = |values: &'a [f32]| &values[pixels.start * width(values)..pixels.end * width(values)];
        StarTruth { prob: cut(self.prob), dist: cut(self.dist), mask: cut(self.mask), class: self.class.map(cut) }
    }
}

/// Where the gradient of the weighted total goes; every value is overwritten.
#[derive(Debug)]
pub struct StarGradients<'a> {
    /// `[N]`.
    pub prob: &'a mut [f32],
    /// `[N, R]`.
    pub dist: &'a mut [f32],
    /// `[N, K]`, exactly when there are classes.
    pub class: Option<&'a mut [f32]>,
}

/// The value of the loss and of its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StarLoss {
    /// Binary cross-entropy of the object probability, mean over the labelled pixels; 0 when there are none.
    pub prob: f64,
    /// Distance loss, weighted by the mask, plus the background term.
    pub dist: f64,
    /// Categorical cross-entropy of the class, mean over all pixels.
    pub class: Option<f64>,
    /// The weighted sum.
    pub total: f64,
    /// Error of the object probability that is left to learn: the cross-entropy minus that of the target with itself.
    pub prob_kld: f64,
    /// Mean absolute error of the ray lengths in pixels, weighted by the mask, whatever [`DistanceLoss`] is.
    pub dist_mae: f64,
}

/// The loss of a batch, and its gradient when `gradients` are given.
///
/// A batch without a labelled pixel has probability loss 0 with gradient 0 (the reference reports NaN). The result is
/// finite for finite outputs; an output that is not finite shows in the value.
///
/// # Errors
/// [`Error::Config`] when lengths do not fit each other.
pub fn stardist_loss(
    config: &StarLossConfig,
    head: Head,
    outputs: StarOutputs<'_>,
    truth: StarTruth<'_>,
    gradients: Option<StarGradients<'_>>,
) -> Result<StarLoss> {
    stardist_loss_part(config, head, &StarMeans::of(&truth), outputs, truth, gradients)
}

/// What some pixels of a batch add to its loss, and the gradient with respect to their outputs: the sum over all pixels is
/// [`stardist_loss`] but for rounding. `means` are those of the whole batch.
///
/// # Errors
/// As of [`stardist_loss`].
pub fn stardist_loss_part(
    config: &StarLossConfig,
    head: Head,
    means: &StarMeans,
    outputs: StarOutputs<'_>,
    truth: StarTruth<'_>,
    gradients: Option<StarGradients<'_>>,
) -> Result<StarLoss> {
    let sizes = Sizes::of(config, &outputs, &truth, gradients.as_ref())?;
    let (prob_gradient, dist_gradient, class_gradient) = match gradients {
        Some(gradients) => (Some(gradients.prob), Some(gradients.dist), gradients.class),
        None => (None, None, None),
    };
    let (prob, entropy) = prob_loss(config.weights[0], head, outputs.prob, truth.prob, means.labelled, prob_gradient);
    let (dist, dist_mae) = dist_loss(config, &sizes, means, outputs.dist, &truth, dist_gradient);
    let class = match (outputs.class, truth.class) {
        (Some(output), Some(target)) => Some(class_loss(config, head, &sizes, means, output, target, class_gradient)),
        _ => None,
    };
    let total = config.weights[0] * prob + config.weights[1] * dist + class.map_or(0.0, |c| config.weights[2] * c);
    Ok(StarLoss { prob, dist, class, total, prob_kld: prob - entropy, dist_mae })
}

struct Sizes {
    pixels: usize,
    rays: usize,
    channels: usize,
}

impl Sizes {
    fn of(
        config: &StarLossConfig,
        outputs: &StarOutputs<'_>,
        truth: &StarTruth<'_>,
        gradients: Option<&StarGradients<'_>>,
    ) -> Result<Self> {
        let pixels = outputs.prob.len();
        let per_pixel = |values: usize| values.checked_div(pixels).unwrap_or(0);
        let rays = per_pixel(outputs.dist.len());
        let channels = per_pixel(outputs.class.map_or(0, <[f32]>::len));
        let check = |name: &str, found: usize, width: usize| match pixels.checked_mul(width) {
            Some(expected) if expected == found => Ok(()),
            _ => Err(Error::Config(format!("{name} has {found} values; {pixels} pixels of {width} were expected"))),
        };
        check("the predicted distance", outputs.dist.len(), rays)?;
        check("the true probability", truth.prob.len(), 1)?;
        check("the true distance", truth.dist.len(), rays)?;
        check("the weight of the distance", truth.mask.len(), 1)?;
        check("the predicted class", outputs.class.map_or(0, <[f32]>::len), channels)?;
        check("the true class", truth.class.map_or(0, <[f32]>::len), channels)?;
        if let Some(gradients) = gradients {
            check("the gradient of the probability", gradients.prob.len(), 1)?;
            check("the gradient of the distance", gradients.dist.len(), rays)?;
            check("the gradient of the class", gradients.class.as_ref().map_or(0, |class| class.len()), channels)?;
        }
        if channels > 0 && !config.class_weights.is_empty() && config.class_weights.len() != channels {
            return Err(Error::Config(format!(
                "{} class weights for {channels} channels (background and classes)",
                config.class_weights.len()
            )));
        }
        Ok(Self { pixels, rays, channels })
    }
}

/// What the means of a batch are taken over: these depend on its targets alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StarMeans {
    pixels: f64,
    labelled: f64,
    mask: f64,
}

impl StarMeans {
    /// Those of the targets of a whole batch.
    pub fn of(truth: &StarTruth<'_>) -> Self {
        let [labelled] = sum_chunks(truth.prob.len(), None, 1, |range, _| {
            [truth.prob[range].iter().filter(|&&value| value >= 0.0).count() as f64]
        });
        let [mask] = sum_chunks(truth.mask.len(), None, 1, |range, _| {
            [truth.mask[range].iter().map(|&weight| f64::from(weight)).sum()]
        });
        Self { pixels: truth.prob.len() as f64, labelled, mask }
    }
}

/// Cross-entropy and the entropy of the targets.
fn prob_loss(
    weight: f64,
    head: Head,
    output: &[f32],
    target: &[f32],
    labelled: f64,
    gradient: Option<&mut [f32]>,
) -> (f64, f64) {
    let scale = if labelled > 0.0 { 1.0 / labelled } else { 0.0 };
    let cross_entropy = |t: f64, q: f64| -(t * (q + EPS).ln() + (1.0 - t) * (1.0 - q + EPS).ln());
    let [loss, entropy] = sum_chunks(output.len(), gradient, 1, |range, mut gradient| {
        let mut sums = [0.0; 2];
        for (k, (&z, &t)) in output[range.clone()].iter().zip(&target[range]).enumerate() {
            let mut slope = 0.0;
            if t >= 0.0 {
                let (z, t) = (f64::from(z), f64::from(t));
                let p = if head == Head::Logits { 1.0 / (1.0 + (-z).exp()) } else { z };
                let q = p.clamp(EPS, ONE_LESS_EPS);
                sums[0] += cross_entropy(t, q);
                sums[1] += cross_entropy(t, t.clamp(EPS, ONE_LESS_EPS));
                // The loss is flat where the probability was clipped.
                if (EPS..=ONE_LESS_EPS).contains(&p) {
                    slope = -(t / (q + EPS) - (1.0 - t) / (1.0 - q + EPS));
                    if head == Head::Logits {
                        slope *= p * (1.0 - p);
                    }
                }
            }
            if let Some(gradient) = &mut gradient {
                gradient[k] = (weight * scale * slope) as f32;
            }
        }
        sums
    });
    (loss * scale, entropy * scale)
}

/// Distance loss with the background term, and the mean absolute error under the mask.
fn dist_loss(
    config: &StarLossConfig,
    sizes: &Sizes,
    means: &StarMeans,
    output: &[f32],
    truth: &StarTruth<'_>,
    gradient: Option<&mut [f32]>,
) -> (f64, f64) {
    let (pixels, rays) = (sizes.pixels, sizes.rays);
    if pixels == 0 || rays == 0 {
        return (0.0, 0.0);
    }
    let weight = config.weights[1];
    // mean(mask * error) / (mean(mask) + eps) over all pixels, with the errors as sums over rays.
    let object = 1.0 / (rays as f64 * (means.mask + EPS * means.pixels));
    let outside = if config.regularize_ignored { means.pixels } else { means.labelled.max(1.0) };
    let background = config.background_reg / (rays as f64 * outside);
    let [error, lengths, mae] = sum_chunks(pixels, gradient, rays, |range, mut gradient| {
        let mut sums = [0.0; 3];
        for (k, pixel) in range.enumerate() {
            let predicted = &output[pixel * rays..(pixel + 1) * rays];
            let slope = gradient.as_mut().map(|gradient| &mut gradient[k * rays..(k + 1) * rays]);
            let mask = f64::from(truth.mask[pixel]);
            let free = if truth.prob[pixel] < 0.0 && !config.regularize_ignored { 0.0 } else { 1.0 - mask };
            let length: f64 = predicted.iter().map(|q| f64::from(q.abs())).sum();
            sums[1] += free * length;
            let step = weight * background * free;
            if mask == 0.0 {
                // Most pixels are outside objects and have no other term.
                if let Some(slope) = slope {
                    let step = step as f32;
                    slope.iter_mut().zip(predicted).for_each(|(slope, &q)| *slope = step * sign(q));
                }
                continue;
            }
            let actual = &truth.dist[pixel * rays..(pixel + 1) * rays];
            sums[2] += mask * predicted.iter().zip(actual).map(|(q, d)| f64::from((q - d).abs())).sum::<f64>();
            sums[0] += mask * pixel_error(config.distance, predicted, actual, step, weight * object * mask, slope);
        }
        sums
    });
    (error * object + lengths * background, mae * object)
}

/// The error of one pixel as a sum over its rays; writes `scale` times its gradient plus `step` times the sign.
fn pixel_error(
    kind: DistanceLoss,
    predicted: &[f32],
    actual: &[f32],
    step: f64,
    scale: f64,
    slope: Option<&mut [f32]>,
) -> f64 {
    let pairs = || predicted.iter().zip(actual).map(|(&q, &d)| (f64::from(q), f64::from(d)));
    let write = |slope: Option<&mut [f32]>, derivative: &dyn Fn(f64, f64) -> f64| {
        if let Some(slope) = slope {
            for (slope, (q, d)) in slope.iter_mut().zip(pairs()) {
                *slope = (scale * derivative(q, d) + step * sign64(q)) as f32;
            }
        }
    };
    match kind {
        DistanceLoss::Mae => {
            write(slope, &|q, d| sign64(q - d));
            pairs().map(|(q, d)| (q - d).abs()).sum()
        }
        DistanceLoss::Mse => {
            write(slope, &|q, d| 2.0 * (q - d));
            pairs().map(|(q, d)| (q - d) * (q - d)).sum()
        }
        DistanceLoss::Iou => {
            let rays = predicted.len() as f64;
            let common = pairs().map(|(q, d)| sign64(q) * q.min(d) * q.min(d)).sum::<f64>() / rays;
            let joint = pairs().map(|(q, d)| q.max(d) * q.max(d)).sum::<f64>() / rays + EPS;
            // The error of a pixel is already a mean over rays; the factor makes it the sum that the caller expects,
            // and cancels with the 1 / rays of the two means in the derivative.
            write(slope, &|q, d| {
                let common_slope = if q < d { 2.0 * sign64(q) * q } else { 0.0 };
                let joint_slope = if q > d { 2.0 * q } else { 0.0 };
                -(common_slope * joint - common * joint_slope) / (joint * joint)
            });
            rays * (1.0 - common / joint)
        }
    }
}

/// -1, 0 or 1; the slope of the absolute value, 0 at 0.
fn sign(value: f32) -> f32 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

fn sign64(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

fn class_loss(
    config: &StarLossConfig,
    head: Head,
    sizes: &Sizes,
    means: &StarMeans,
    output: &[f32],
    target: &[f32],
    gradient: Option<&mut [f32]>,
) -> f64 {
    let (pixels, channels) = (sizes.pixels, sizes.channels);
    if pixels == 0 || channels == 0 {
        return 0.0;
    }
    let scale = 1.0 / means.pixels;
    let weight_of = |c: usize| config.class_weights.get(c).copied().unwrap_or(1.0);
    let [loss] = sum_chunks(pixels, gradient, channels, |range, mut gradient| {
        let mut sum = 0.0;
        let mut share = vec![0.0f64; channels];
        let mut slope = vec![0.0f64; channels];
        for (k, pixel) in range.enumerate() {
            let window = pixel * channels..(pixel + 1) * channels;
            share.iter_mut().zip(&output[window.clone()]).for_each(|(s, &o)| *s = f64::from(o));
            if head == Head::Logits {
                softmax(&mut share);
            }
            let total: f64 = share.iter().sum::<f64>() + channels as f64 * EPS;
            // The derivative of the logarithm of the clipped probability, weighted; flat where it was clipped.
            let mut mean = 0.0;
            for (c, &t) in target[window].iter().enumerate() {
                let part = share[c] / total;
                let weight = weight_of(c) * f64::from(t.max(0.0));
                slope[c] = 0.0;
                if weight != 0.0 {
                    sum -= weight * part.clamp(EPS, ONE_LESS_EPS).ln();
                    if (EPS..=ONE_LESS_EPS).contains(&part) {
                        slope[c] = -weight / part;
                        mean += slope[c] * part;
                    }
                }
            }
            let Some(gradient) = &mut gradient else { continue };
            slope.iter_mut().for_each(|slope| *slope = (*slope - mean) / total);
            if head == Head::Logits {
                let mean: f64 = slope.iter().zip(&share).map(|(slope, share)| slope * share).sum();
                slope.iter_mut().zip(&share).for_each(|(slope, share)| *slope = share * (*slope - mean));
            }
            for (out, slope) in gradient[k * channels..(k + 1) * channels].iter_mut().zip(&slope) {
                *out = (config.weights[2] * scale * slope) as f32;
            }
        }
        [sum]
    });
    loss * scale
}

fn softmax(values: &mut [f64]) {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
#[path = "loss_stardist_tests.rs"]
mod tests;
