//! The ELEPHANT loss: weighted cross-entropy, Dice of the centres, smoothness of the centres.
//!
//! Formulas as in the original (Sugawara, Cevrim and Averof, eLife 11, 2022; elephant-core 0.5.2). Unlabelled pixels
//! reach the gradient through the smoothness alone.

use rayon::prelude::*;

use super::loss_smooth::Smoothness;
use crate::error::{Error, Result};

/// Weights of cross-entropy, Dice and smoothness in the total.
pub(super) const LOSS_WEIGHTS: [f64; 3] = [1.0 / 7.0, 5.0 / 7.0, 1.0 / 7.0];

/// Classes of the network.
pub(super) const CLASSES: usize = 3;

/// Smallest denominator of the Dice coefficient.
pub(super) const SMALLEST_DENOMINATOR: f64 = 1e-6;

/// Weights of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct ElephantLossConfig {
    /// Weights of background, border and centre in the cross-entropy. Default 1, 10, 10.
    pub class_weights: [f32; 3],
    /// Weight of a heavy pixel (target 3, 4 or 5) in comparison with a light one. Default 1.
    pub false_weight: f32,
}

impl Default for ElephantLossConfig {
    fn default() -> Self {
        Self { class_weights: [1.0, 10.0, 10.0], false_weight: 1.0 }
    }
}

/// The value of the loss and of its parts, unweighted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ElephantLoss {
    /// Weighted mean cross-entropy of the labelled pixels.
    pub cross_entropy: f64,
    /// One minus the Dice coefficient of the centre probability.
    pub center_dice: f64,
    /// Mean absolute difference of the centre probability and its blurred self.
    pub smoothness: f64,
    /// The weighted sum: 1/7, 5/7 and 1/7.
    pub total: f64,
}

/// The loss with its memory: a sample without a centre pixel counts with the mean Dice loss of the batch before.
#[derive(Debug, Clone)]
pub struct SegmentationLoss {
    config: ElephantLossConfig,
    carried: f32,
}

impl SegmentationLoss {
    /// The loss before its first batch.
    pub fn new(config: ElephantLossConfig) -> Self {
        Self::with_carried(config, 0.0)
    }

    /// The loss in the state in which [`carried`](Self::carried) was read.
    pub fn with_carried(config: ElephantLossConfig, carried: f32) -> Self {
        Self { config, carried }
    }

    /// The mean Dice loss of the last batch; 0 before the first one.
    pub fn carried(&self) -> f32 {
        self.carried
    }

    /// The loss of a batch, and its gradient with respect to the logits when `gradient` is given.
    ///
    /// `shape` is `[B, H, W]`. `logits` and `gradient` are `[B, H, W, 3]`, before the softmax; `targets` are `[B, H, W]`:
    /// below 0 not labelled, 0 background, 1 border, 2 centre, and 3 to 5 the same as heavy pixels. Each part is the mean
    /// over the samples with a labelled pixel. Without such a sample everything is 0, and the carried value stays.
    ///
    /// # Errors
    /// [`Error::Config`] when lengths do not fit, [`Error::Labels`] for a target above 5.
    pub fn forward(
        &mut self,
        logits: &[f32],
        targets: &[i32],
        shape: [usize; 3],
        gradient: Option<&mut [f32]>,
    ) -> Result<ElephantLoss> {
        let pixels = check(logits, targets, shape, gradient.as_deref())?;
        if pixels == 0 {
            return Ok(ElephantLoss::default());
        }
        let batch: Vec<(&[f32], &[i32])> =
            logits.chunks_exact(pixels * CLASSES).zip(targets.chunks_exact(pixels)).collect();
        let labelled: Vec<bool> = batch.par_iter().map(|(_, targets)| targets.iter().any(|t| *t >= 0)).collect();
        let count = labelled.iter().filter(|labelled| **labelled).count();
        let gradients: Vec<Option<&mut [f32]>> = match gradient {
            Some(gradient) => gradient.chunks_exact_mut(pixels * CLASSES).map(Some).collect(),
            None => batch.iter().map(|_| None).collect(),
        };
        let scale = 1.0 / count.max(1) as f64;
        let parts: Vec<[f64; 3]> = batch
            .par_iter()
            .zip(labelled)
            .zip(gradients)
            .map(|((&(logits, targets), labelled), gradient)| {
                let sample = Sample { config: &self.config, carried: self.carried, shape: [shape[1], shape[2]], scale };
                if labelled {
                    return sample.loss(logits, targets, gradient);
                }
                if let Some(gradient) = gradient {
                    gradient.fill(0.0);
                }
                [0.0; 3]
            })
            .collect();
        if count == 0 {
            return Ok(ElephantLoss::default());
        }
        let [cross_entropy, center_dice, smoothness] =
            parts.iter().fold([0.0; 3], |sum, part| std::array::from_fn(|k| sum[k] + scale * part[k]));
        self.carried = center_dice as f32;
        let total = LOSS_WEIGHTS[0] * cross_entropy + LOSS_WEIGHTS[1] * center_dice + LOSS_WEIGHTS[2] * smoothness;
        Ok(ElephantLoss { cross_entropy, center_dice, smoothness, total })
    }
}

/// Pixels of one sample.
fn check(logits: &[f32], targets: &[i32], shape: [usize; 3], gradient: Option<&[f32]>) -> Result<usize> {
    let len = shape.iter().try_fold(1usize, |len, side| len.checked_mul(*side));
    let values = len.and_then(|len| len.checked_mul(CLASSES));
    if len != Some(targets.len()) || values != Some(logits.len()) || gradient.is_some_and(|g| g.len() != logits.len()) {
        return Err(Error::Config(format!(
            "{} logits, {} targets and a gradient of {:?} values do not fit a batch of {shape:?} pixels with 3 classes",
            logits.len(),
            targets.len(),
            gradient.map(<[f32]>::len)
        )));
    }
    if let Some(target) = targets.iter().find(|target| **target > 5) {
        return Err(Error::Labels(format!("a target of {target}; classes are from 0 to 5, or below 0 for unlabelled")));
    }
    Ok(shape[1] * shape[2])
}

/// Sums over the light or the heavy pixels of a sample.
#[derive(Clone, Copy, Default)]
struct Sums {
    pixels: f64,
    /// Of the class weights.
    weights: f64,
    /// Of the weighted negative log-probabilities.
    losses: f64,
    /// Of centre probability times target, of its square, of the target.
    both: f64,
    squares: f64,
    centers: f64,
}

impl Sums {
    fn denominator(&self) -> f64 {
        (self.squares + self.centers).max(SMALLEST_DENOMINATOR)
    }

    fn dice_loss(&self) -> f64 {
        1.0 - 2.0 * self.both / self.denominator()
    }

    fn cross_entropy(&self) -> f64 {
        if self.weights > 0.0 { self.losses / self.weights } else { 0.0 }
    }

    /// Factors of the target and of the probability in the derivative of the Dice loss.
    fn dice_slope(&self) -> [f64; 2] {
        let denominator = self.denominator();
        let flat = self.squares + self.centers <= SMALLEST_DENOMINATOR;
        [-2.0 / denominator, if flat { 0.0 } else { 4.0 * self.both / (denominator * denominator) }]
    }
}

/// One sample of the batch.
struct Sample<'a> {
    config: &'a ElephantLossConfig,
    carried: f32,
    shape: [usize; 2],
    /// One over the number of samples that count.
    scale: f64,
}

impl Sample<'_> {
    /// The three parts; writes the gradient of this sample's part of the total.
    fn loss(&self, logits: &[f32], targets: &[i32], gradient: Option<&mut [f32]>) -> [f64; 3] {
        let (probabilities, center, sums) = self.sums(logits, targets);
        let fractions = self.fractions(&sums);
        let has_center = sums.iter().any(|sums| sums.centers > 0.0);
        let cross_entropy = fractions[0] * sums[0].cross_entropy() + fractions[1] * sums[1].cross_entropy();
        let dice = match has_center {
            true => fractions[0] * sums[0].dice_loss() + fractions[1] * sums[1].dice_loss(),
            false => f64::from(self.carried),
        };
        let mut smoothness = Smoothness::new(self.shape[0], self.shape[1]);
        let smooth = match gradient {
            None => smoothness.value(&center, 0.0, None),
            Some(gradient) => {
                let mut slope = vec![0.0f32; center.len()];
                let smooth = smoothness.value(&center, LOSS_WEIGHTS[2] * self.scale, Some(&mut slope));
                let factors: [Factors; 2] = std::array::from_fn(|k| self.factors(&sums[k], fractions[k], has_center));
                write_gradient(&probabilities, targets, &slope, &factors, gradient);
                smooth
            }
        };
        [cross_entropy, dice, smooth]
    }

    /// Probabilities, the centre probability alone, and the sums over light and heavy pixels.
    fn sums(&self, logits: &[f32], targets: &[i32]) -> (Vec<[f32; 3]>, Vec<f32>, [Sums; 2]) {
        let weights = self.config.class_weights.map(f64::from);
        let mut probabilities = Vec::with_capacity(targets.len());
        let mut center = Vec::with_capacity(targets.len());
        let mut sums = [Sums::default(); 2];
        for (z, &target) in logits.as_chunks::<CLASSES>().0.iter().zip(targets) {
            let largest = z[0].max(z[1]).max(z[2]);
            let powers = [(z[0] - largest).exp(), (z[1] - largest).exp(), (z[2] - largest).exp()];
            let sum = powers[0] + powers[1] + powers[2];
            let p = powers.map(|power| power / sum);
            probabilities.push(p);
            center.push(p[2]);
            if target >= 0 {
                let class = target as usize % CLASSES;
                let sums = &mut sums[usize::from(target >= 3)];
                let q = f64::from(p[2]);
                sums.pixels += 1.0;
                sums.weights += weights[class];
                sums.losses += weights[class] * f64::from(sum.ln() - (z[class] - largest));
                sums.squares += q * q;
                if class == 2 {
                    sums.both += q;
                    sums.centers += 1.0;
                }
            }
        }
        (probabilities, center, sums)
    }

    /// How much the light and the heavy pixels count.
    fn fractions(&self, sums: &[Sums; 2]) -> [f64; 2] {
        let heavy = f64::from(self.config.false_weight) * sums[1].pixels;
        let all = sums[0].pixels + heavy;
        if all > 0.0 { [sums[0].pixels / all, heavy / all] } else { [1.0, 0.0] }
    }

    fn factors(&self, sums: &Sums, fraction: f64, has_center: bool) -> Factors {
        let class = if sums.weights > 0.0 { LOSS_WEIGHTS[0] * self.scale * fraction / sums.weights } else { 0.0 };
        let dice = if has_center { LOSS_WEIGHTS[1] * self.scale * fraction } else { 0.0 };
        Factors {
            classes: self.config.class_weights.map(|weight| (class * f64::from(weight)) as f32),
            dice: sums.dice_slope().map(|slope| (dice * slope) as f32),
        }
    }
}

/// What the gradient of a pixel is made of.
struct Factors {
    /// Of the cross-entropy, by class.
    classes: [f32; 3],
    /// Of target and probability in the Dice loss.
    dice: [f32; 2],
}

/// `slope` is the derivative of the smoothness by the centre probability.
fn write_gradient(
    probabilities: &[[f32; 3]],
    targets: &[i32],
    slope: &[f32],
    factors: &[Factors; 2],
    gradient: &mut [f32],
) {
    for (((p, &target), &slope), out) in
        probabilities.iter().zip(targets).zip(slope).zip(gradient.as_chunks_mut::<CLASSES>().0)
    {
        let mut slope = slope;
        let mut class_weight = 0.0;
        let mut class = 0;
        if target >= 0 {
            class = target as usize % CLASSES;
            let factors = &factors[usize::from(target >= 3)];
            class_weight = factors.classes[class];
            slope += factors.dice[1] * p[2] + if class == 2 { factors.dice[0] } else { 0.0 };
        }
        let center = slope * p[2];
        for k in 0..CLASSES {
            out[k] = (class_weight - center) * p[k];
        }
        out[2] += center;
        out[class] -= class_weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn batch(shape: [usize; 3], classes: usize) -> (Vec<f32>, Vec<i32>) {
        let mut random = Random::new(7, 0);
        let pixels = shape.iter().product::<usize>();
        let logits = (0..pixels * 3).map(|_| random.normal() as f32).collect();
        (logits, (0..pixels).map(|_| random.below(classes + 1) as i32 - 1).collect())
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let shape = [2, 5, 6];
        let config = ElephantLossConfig { class_weights: [1.0, 3.0, 2.0], false_weight: 2.0 };
        let (logits, targets) = batch(shape, 6);
        let value = |logits: &[f32]| {
            SegmentationLoss::new(config.clone()).forward(logits, &targets, shape, None).unwrap().total
        };
        let mut gradient = vec![f32::NAN; logits.len()];
        SegmentationLoss::new(config.clone()).forward(&logits, &targets, shape, Some(&mut gradient)).unwrap();
        for at in 0..logits.len() {
            let mut shifted = logits.clone();
            shifted[at] += 0.01;
            let above = value(&shifted);
            shifted[at] -= 0.02;
            let slope = (above - value(&shifted)) / 0.02;
            assert!((slope - f64::from(gradient[at])).abs() < 2e-4, "{at}: {slope} {}", gradient[at]);
        }
    }

    #[test]
    fn nothing_labelled_gives_nothing_and_forgets_nothing() {
        let shape = [2, 4, 4];
        let (logits, targets) = batch(shape, 3);
        let mut loss = SegmentationLoss::new(ElephantLossConfig::default());
        let first = loss.forward(&logits, &targets, shape, None).unwrap();
        assert_eq!(loss.carried(), first.center_dice as f32);
        let mut gradient = vec![f32::NAN; logits.len()];
        let none = loss.forward(&logits, &[-1; 32], shape, Some(&mut gradient)).unwrap();
        assert_eq!(none, ElephantLoss::default());
        assert!(gradient.iter().all(|value| *value == 0.0));
        assert_eq!(loss.carried(), first.center_dice as f32);
        // Background alone: the Dice loss of the batch before.
        let carried = loss.carried();
        let background = loss.forward(&logits, &[0; 32], shape, None).unwrap();
        assert_eq!(background.center_dice, f64::from(carried));
        let mut restored = SegmentationLoss::with_carried(ElephantLossConfig::default(), carried);
        assert_eq!(restored.forward(&logits, &[0; 32], shape, None).unwrap(), background);
    }

    #[test]
    fn wrong_sizes_and_targets_are_refused() {
        let mut loss = SegmentationLoss::new(ElephantLossConfig::default());
        assert!(loss.forward(&[0.0; 12], &[0; 4], [1, 2, 2], None).is_ok());
        assert!(loss.forward(&[0.0; 11], &[0; 4], [1, 2, 2], None).is_err());
        assert!(loss.forward(&[0.0; 12], &[0; 3], [1, 2, 2], None).is_err());
        assert!(loss.forward(&[0.0; 12], &[0; 4], [1, 2, 2], Some(&mut [0.0; 3])).is_err());
        assert!(loss.forward(&[0.0; 12], &[6; 4], [1, 2, 2], None).is_err());
        assert!(loss.forward(&[], &[], [usize::MAX, 2, 3], None).is_err());
        assert_eq!(loss.forward(&[], &[], [0, 2, 2], None).unwrap(), ElephantLoss::default());
        assert!(loss.forward(&[f32::NAN; 12], &[0; 4], [1, 2, 2], None).unwrap().total.is_nan());
    }
}
