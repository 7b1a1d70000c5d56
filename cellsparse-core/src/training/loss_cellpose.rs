//! The Cellpose loss with its gradient, on the annotated pixels of a batch.
//!
//! Formula: Stringer et al., Nature Methods 2021, with the mean taken over annotated pixels as in the sparse-label fork.
//! Sums are in f64 over chunks of fixed size in a fixed order, so the result does not depend on the number of threads.

use crate::error::{Error, Result};
use crate::training::loss::sum_chunks;

/// Values of a pixel, in outputs as in targets.
const WIDTH: usize = 3;

/// Flows are learned as this multiple of unit vectors.
const FLOW_SCALE: f32 = 5.0;

/// The loss of a batch and its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct CellposeLoss {
    /// Half the mean squared error of the flows, in units of a fifth of a unit vector; the mean is over both components
    /// of all annotated pixels.
    pub flow: f64,
    /// Mean binary cross-entropy of the cell probability over the annotated pixels.
    pub cellprob: f64,
    /// The sum of both.
    pub total: f64,
}

/// The loss of a batch, and its gradient when `gradient` is given (every value of it is overwritten).
///
/// `outputs` is the output of the network, `[B, H, W, 3]`: flow `dY`, flow `dX`, logit of the cell probability. `targets`
/// is `[B, H, W, 3]`: cell probability (1 in a cell, 0 on background, negative where nothing is annotated), flow `dY`,
/// flow `dX` (unit vectors). The mean is over all annotated pixels of the batch together: an image with few of them weighs
/// little. A batch without an annotated pixel has loss 0 and gradient 0.
///
/// # Errors
/// [`Error::Config`] when lengths do not fit each other.
pub fn cellpose_loss(outputs: &[f32], targets: &[f32], gradient: Option<&mut [f32]>) -> Result<CellposeLoss> {
    let same = gradient.as_ref().is_none_or(|gradient| gradient.len() == outputs.len());
    if outputs.len() != targets.len() || !outputs.len().is_multiple_of(WIDTH) || !same {
        return Err(Error::Config(format!(
            "{} outputs, {} target values and {:?} gradients; they must be equally many, {WIDTH} for each pixel",
            outputs.len(),
            targets.len(),
            gradient.map(|gradient| gradient.len())
        )));
    }
    let annotated = targets.as_chunks::<WIDTH>().0.iter().filter(|target| is_annotated(target)).count();
    let share = 1.0 / annotated.max(1) as f64;
    let [flow, cellprob] = sum_chunks(outputs.len() / WIDTH, gradient, WIDTH, |pixels, gradient| {
        let range = pixels.start * WIDTH..pixels.end * WIDTH;
        let pairs = outputs[range.clone()].as_chunks::<WIDTH>().0.iter().zip(targets[range].as_chunks::<WIDTH>().0);
        match gradient {
            Some(gradient) => {
                let mut sums = [0.0; 2];
                for ((output, target), gradient) in pairs.zip(gradient.as_chunks_mut::<WIDTH>().0) {
                    if !is_annotated(target) {
                        gradient.fill(0.0);
                        continue;
                    }
                    let probability = add(&mut sums, output, target);
                    for (axis, gradient) in gradient.iter_mut().take(2).enumerate() {
                        *gradient = (difference(output, target, axis) * 0.5 * share) as f32;
                    }
                    gradient[2] = ((probability - truth(target)) * share) as f32;
                }
                sums
            }
            None => {
                let mut sums = [0.0; 2];
                for (output, target) in pairs.filter(|(_, target)| is_annotated(target)) {
                    add(&mut sums, output, target);
                }
                sums
            }
        }
    });
    let (flow, cellprob) = (0.25 * share * flow, share * cellprob);
    Ok(CellposeLoss { flow, cellprob, total: flow + cellprob })
}

fn is_annotated(target: &[f32; WIDTH]) -> bool {
    target[0] >= 0.0
}

fn truth(target: &[f32; WIDTH]) -> f64 {
    f64::from(u8::from(target[0] > 0.5))
}

fn difference(output: &[f32; WIDTH], target: &[f32; WIDTH], axis: usize) -> f64 {
    f64::from(output[axis]) - f64::from(FLOW_SCALE * target[axis + 1])
}

/// Adds a pixel's squared flow error and cross-entropy; returns the predicted cell probability.
fn add(sums: &mut [f64; 2], output: &[f32; WIDTH], target: &[f32; WIDTH]) -> f64 {
    let [dy, dx] = [difference(output, target, 0), difference(output, target, 1)];
    let logit = f64::from(output[2]);
    sums[0] += dy * dy + dx * dx;
    // Written so that NaN stays NaN: `max` would drop it.
    let positive = if logit < 0.0 { 0.0 } else { logit };
    let small = (-logit.abs()).exp();
    sums[1] += positive - logit * truth(target) + small.ln_1p();
    if logit < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn batch(pixels: usize) -> (Vec<f32>, Vec<f32>) {
        let mut random = Random::new(3, 0);
        let outputs = (0..pixels * 3).map(|_| random.normal() as f32 * 2.0).collect();
        let target = |i: usize| if i.is_multiple_of(3) { (i / 3 % 3) as f32 - 1.0 } else { (i % 7) as f32 / 7.0 };
        (outputs, (0..pixels * 3).map(target).collect())
    }

    #[test]
    fn the_gradient_is_the_derivative() {
        let (mut outputs, targets) = batch(9);
        let mut gradient = vec![9.0; 27];
        let loss = cellpose_loss(&outputs, &targets, Some(&mut gradient)).unwrap();
        assert_eq!(loss, cellpose_loss(&outputs, &targets, None).unwrap());
        for i in 0..27 {
            let at = outputs[i];
            let mut total = |value| {
                outputs[i] = value;
                cellpose_loss(&outputs, &targets, None).unwrap().total
            };
            let slope = (total(at + 0.01) - total(at - 0.01)) / f64::from(at + 0.01 - (at - 0.01));
            outputs[i] = at;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn without_annotation_there_is_nothing_to_learn() {
        let (outputs, _) = batch(5);
        let mut gradient = vec![9.0; 15];
        let loss = cellpose_loss(&outputs, &[-1.0; 15], Some(&mut gradient)).unwrap();
        assert_eq!(loss, CellposeLoss { flow: 0.0, cellprob: 0.0, total: 0.0 });
        assert_eq!(gradient, [0.0; 15]);
        assert_eq!(cellpose_loss(&[], &[], Some(&mut [])).unwrap().total, 0.0);
    }

    #[test]
    fn the_number_of_threads_does_not_matter_and_sizes_do() {
        let (outputs, targets) = batch(10_000);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let run = || {
            let mut gradient = vec![0.0; outputs.len()];
            (cellpose_loss(&outputs, &targets, Some(&mut gradient)).unwrap(), gradient)
        };
        assert_eq!(one.install(run), three.install(run));
        assert!(cellpose_loss(&outputs, &targets[3..], None).is_err());
        assert!(cellpose_loss(&outputs[..4], &targets[..4], None).is_err());
        assert!(cellpose_loss(&outputs[..3], &targets[..3], Some(&mut [0.0; 6])).is_err());
    }

    #[test]
    fn outputs_that_are_not_finite_show() {
        for place in 0..3 {
            let mut outputs = [0.0; 3];
            outputs[place] = f32::NAN;
            assert!(cellpose_loss(&outputs, &[1.0, 0.0, 1.0], None).unwrap().total.is_nan());
        }
    }
}
