//! Gradients against central differences of a plain f64 version of the formulas.

use super::*;
use crate::random::Random;

const RAYS: usize = 4;
const CHANNELS: usize = 3;

struct Case {
    prob: Vec<f32>,
    dist: Vec<f32>,
    class: Vec<f32>,
    true_prob: Vec<f32>,
    true_dist: Vec<f32>,
    mask: Vec<f32>,
    true_class: Vec<f32>,
}

impl Case {
    /// Logits, a third of the pixels unlabelled, a third background.
    fn new(pixels: usize, seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        let mut draw = |n: usize, low, high| (0..n).map(|_| random.uniform(low, high) as f32).collect::<Vec<_>>();
        let mut case = Self {
            prob: draw(pixels, -4.0, 4.0),
            dist: draw(pixels * RAYS, -2.0, 9.0),
            class: draw(pixels * CHANNELS, -3.0, 3.0),
            true_prob: draw(pixels, 0.01, 1.0),
            true_dist: draw(pixels * RAYS, 0.5, 9.0),
            mask: vec![0.0; pixels],
            true_class: vec![0.0; pixels * CHANNELS],
        };
        for pixel in 0..pixels {
            let cell = &mut case.true_class[pixel * CHANNELS..(pixel + 1) * CHANNELS];
            cell[random.below(CHANNELS)] = 1.0;
            match pixel % 3 {
                0 => case.mask[pixel] = case.true_prob[pixel],
                1 => case.true_prob[pixel] = 0.0,
                _ => {
                    case.true_prob[pixel] = -1.0;
                    cell.fill(-1.0);
                }
            }
        }
        case
    }

    fn run(&self, config: &StarLossConfig, head: Head) -> (StarLoss, Vec<f32>) {
        let mut gradient = vec![9.0; self.prob.len() + self.dist.len() + self.class.len()];
        let (prob, rest) = gradient.split_at_mut(self.prob.len());
        let (dist, class) = rest.split_at_mut(self.dist.len());
        let outputs = StarOutputs { prob: &self.prob, dist: &self.dist, class: Some(&self.class) };
        let loss = stardist_loss(
            config,
            head,
            outputs,
            StarTruth { prob: &self.true_prob, dist: &self.true_dist, mask: &self.mask, class: Some(&self.true_class) },
            Some(StarGradients { prob, dist, class: Some(class) }),
        );
        (loss.unwrap(), gradient)
    }

    fn outputs(&self) -> Vec<f64> {
        self.prob.iter().chain(&self.dist).chain(&self.class).map(|&value| f64::from(value)).collect()
    }

    /// The formulas, written out once more without chunks, shortcuts or derivatives.
    fn plain(&self, config: &StarLossConfig, head: Head, outputs: &[f64]) -> f64 {
        let pixels = self.prob.len();
        let (prob, rest) = outputs.split_at(pixels);
        let (dist, class) = rest.split_at(pixels * RAYS);
        let [mut labelled, mut entropy, mut error, mut mask_sum] = [0.0; 4];
        let [mut lengths, mut free_pixels, mut class_sum] = [0.0; 3];
        for i in 0..pixels {
            let (t, m) = (f64::from(self.true_prob[i]), f64::from(self.mask[i]));
            if t >= 0.0 {
                let p = if head == Head::Logits { 1.0 / (1.0 + (-prob[i]).exp()) } else { prob[i] };
                let q = p.clamp(1e-7, 1.0 - 1e-7);
                labelled += 1.0;
                entropy -= t * (q + 1e-7).ln() + (1.0 - t) * (1.0 - q + 1e-7).ln();
            }
            mask_sum += m;
            let [mut sum, mut common, mut joint, mut length] = [0.0; 4];
            for k in i * RAYS..(i + 1) * RAYS {
                let (d, q) = (f64::from(self.true_dist[k]), dist[k]);
                sum += match config.distance {
                    DistanceLoss::Mse => (d - q).powi(2) / RAYS as f64,
                    _ => (d - q).abs() / RAYS as f64,
                };
                common += q.signum() * d.min(q).powi(2) / RAYS as f64;
                joint += d.max(q).powi(2) / RAYS as f64;
                length += q.abs() / RAYS as f64;
            }
            error += m * if config.distance == DistanceLoss::Iou { 1.0 - common / (joint + 1e-7) } else { sum };
            if t >= 0.0 || config.regularize_ignored {
                free_pixels += 1.0;
                lengths += (1.0 - m) * length;
            }
            let scores = &class[i * CHANNELS..(i + 1) * CHANNELS];
            let scores: Vec<f64> = match head {
                Head::Logits => scores.iter().map(|z| z.exp() / scores.iter().map(|z| z.exp()).sum::<f64>()).collect(),
                Head::Probabilities => scores.to_vec(),
            };
            let total: f64 = scores.iter().map(|score| score + 1e-7).sum();
            for c in 0..CHANNELS {
                let target = f64::from(self.true_class[i * CHANNELS + c]);
                if target >= 0.0 {
                    let share = (scores[c] / total).clamp(1e-7, 1.0 - 1e-7);
                    class_sum -= config.class_weights[c] * target * share.ln();
                }
            }
        }
        let n = pixels as f64;
        let distance = error / n / (mask_sum / n + 1e-7) + config.background_reg * lengths / free_pixels;
        config.weights[0] * entropy / labelled + config.weights[1] * distance + config.weights[2] * class_sum / n
    }
}

fn configs() -> Vec<StarLossConfig> {
    let mut all = Vec::new();
    for distance in [DistanceLoss::Mae, DistanceLoss::Mse, DistanceLoss::Iou] {
        for regularize_ignored in [true, false] {
            all.push(StarLossConfig {
                distance,
                background_reg: 0.3,
                regularize_ignored,
                weights: [1.0, 0.7, 1.3],
                class_weights: vec![1.0, 2.0, 0.5],
            });
        }
    }
    all
}

#[test]
fn gradients_agree_with_central_differences() {
    for head in [Head::Logits, Head::Probabilities] {
        let mut case = Case::new(12, 1);
        if head == Head::Probabilities {
            for value in case.prob.iter_mut().chain(&mut case.class) {
                *value = 1.0 / (1.0 + (-*value).exp());
            }
        }
        for config in configs() {
            let (loss, gradient) = case.run(&config, head);
            let outputs = case.outputs();
            let plain = case.plain(&config, head, &outputs);
            assert!((loss.total - plain).abs() < 1e-9, "{config:?}: {} {plain}", loss.total);
            for i in 0..outputs.len() {
                let value = |step: f64| {
                    let mut moved = outputs.clone();
                    moved[i] += step;
                    case.plain(&config, head, &moved)
                };
                let expected = (value(1e-5) - value(-1e-5)) / 2e-5;
                let found = f64::from(gradient[i]);
                assert!(
                    (found - expected).abs() < 2e-6 * expected.abs().max(1.0),
                    "{i}: {found} {expected} {config:?}"
                );
            }
        }
    }
}

#[test]
fn ignored_pixels_are_left_alone_on_request() {
    let config = StarLossConfig { regularize_ignored: false, ..configs()[0].clone() };
    let (_, gradient) = Case::new(12, 2).run(&config, Head::Logits);
    for pixel in (2..12).step_by(3) {
        assert_eq!(gradient[pixel], 0.0);
        assert!(gradient[12 + pixel * RAYS..12 + (pixel + 1) * RAYS].iter().all(|&slope| slope == 0.0));
        let class = 12 + 12 * RAYS + pixel * CHANNELS;
        assert!(gradient[class..class + CHANNELS].iter().all(|&slope| slope == 0.0));
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let case = Case::new(20_000, 3);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.run(&configs()[4], Head::Logits))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn extreme_outputs_stay_finite() {
    let mut case = Case::new(30, 4);
    for (i, value) in case.prob.iter_mut().chain(&mut case.class).chain(&mut case.dist).enumerate() {
        *value = [-1e4, 1e4, 0.0][i % 3];
    }
    for config in configs() {
        let (loss, gradient) = case.run(&config, Head::Logits);
        assert!(loss.total.is_finite() && gradient.iter().all(|slope| slope.is_finite()), "{config:?}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let config = StarLossConfig::default();
    let run = |dist: &[f32], mask: &[f32]| {
        let outputs = StarOutputs { prob: &[0.0; 2], dist, class: None };
        let truth = StarTruth { prob: &[0.0; 2], dist: &[0.0; 6], mask, class: None };
        stardist_loss(&config, Head::Logits, outputs, truth, None)
    };
    assert!(run(&[0.0; 6], &[0.0; 2]).is_ok());
    assert!(run(&[0.0; 5], &[0.0; 2]).is_err());
    assert!(run(&[0.0; 4], &[0.0; 2]).is_err());
    assert!(run(&[0.0; 6], &[0.0; 3]).is_err());
    let nothing = StarOutputs { prob: &[], dist: &[], class: None };
    let truth = StarTruth { prob: &[], dist: &[], mask: &[], class: None };
    assert_eq!(stardist_loss(&config, Head::Logits, nothing, truth, None).unwrap().total, 0.0);
}

#[test]
fn parts_of_a_batch_add_to_its_loss_and_have_its_gradients() {
    let (case, cut) = (Case::new(3000, 8), 1234);
    let truth =
        StarTruth { prob: &case.true_prob, dist: &case.true_dist, mask: &case.mask, class: Some(&case.true_class) };
    for regularize_ignored in [true, false] {
        let config = StarLossConfig { regularize_ignored, weights: [1.0, 2.0, 0.5], ..StarLossConfig::default() };
        let (whole, gradient) = case.run(&config, Head::Logits);
        let (mut total, mut kld, mut at) = (0.0, 0.0, [0, 3000, 3000 * (1 + RAYS)]);
        for pixels in [0..cut, cut..3000] {
            let n = pixels.len();
            let cut = |values: &'_ [f32], width: usize| values[pixels.start * width..pixels.end * width].to_vec();
            let outputs = [cut(&case.prob, 1), cut(&case.dist, RAYS), cut(&case.class, CHANNELS)];
            let [mut prob, mut dist, mut class] = [vec![9.0; n], vec![9.0; n * RAYS], vec![9.0; n * CHANNELS]];
            let loss = stardist_loss_part(
                &config,
                Head::Logits,
                &StarMeans::of(&truth),
                StarOutputs { prob: &outputs[0], dist: &outputs[1], class: Some(&outputs[2]) },
                truth.of_pixels(pixels.clone()),
                Some(StarGradients { prob: &mut prob, dist: &mut dist, class: Some(&mut class) }),
            );
            let loss = loss.unwrap();
            (total, kld) = (total + loss.total, kld + loss.prob_kld);
            for (at, part) in at.iter_mut().zip([prob, dist, class]) {
                assert!(gradient[*at..][..part.len()] == part, "the gradient of pixels {pixels:?}");
                *at += part.len();
            }
        }
        assert!((total - whole.total).abs() < 1e-12 * whole.total, "{total} of {}", whole.total);
        assert!((kld - whole.prob_kld).abs() < 1e-12 * whole.prob_kld);
    }
}
