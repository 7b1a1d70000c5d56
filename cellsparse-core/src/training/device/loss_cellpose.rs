//! The Cellpose loss on a device, as [`cellpose_loss`](crate::training::loss_cellpose::cellpose_loss).

use candle_core::Tensor;

use super::loss::{DeviceLoss, beside, indicator, logistic, sum};
use crate::networks::{Tensors, Uploads};

/// Flows are learned as this multiple of unit vectors.
const FLOW_SCALE: f64 = 5.0;

/// `targets` are `[B, H, W, 3]`: cell probability, negative where nothing is annotated, and flows.
pub(super) fn measure(targets: &[f32], output: &Tensor, uploads: &Uploads) -> Tensors<DeviceLoss> {
    let annotated = targets.iter().step_by(3).filter(|target| **target >= 0.0).count();
    let share = 1.0 / annotated.max(1) as f64;
    let targets = beside(targets, output, uploads)?;
    let told = targets.narrow(1, 0, 1)?.contiguous()?;
    let counts = indicator(told.ge(0.0)?, output)?;
    let truth = indicator(told.gt(0.5)?, output)?;
    let apart = (output.narrow(1, 0, 2)? - (targets.narrow(1, 1, 2)? * FLOW_SCALE)?)?.broadcast_mul(&counts)?;
    let flow = (sum(&apart.sqr()?)? * (0.25 * share))?;
    let logit = output.narrow(1, 2, 1)?.contiguous()?;
    let small = (logit.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let entropy = ((logit.relu()? - (&logit * &truth)?)? + small)?;
    let cellprob = (sum(&(entropy * &counts)?)? * share)?;
    let [probability, _] = logistic(&logit)?;
    let of_logit = ((probability - truth)? * counts)?;
    let gradient = Tensor::cat(&[(apart * (0.5 * share))?, (of_logit * share)?], 1)?;
    let total = (&flow + &cellprob)?;
    Ok(DeviceLoss { total, parts: vec![flow, cellprob], gradients: vec![Some(gradient)], carried: None })
}

#[cfg(test)]
mod tests {
    use super::super::loss::tests::{assert_same, normal, output, scalar, uploads};
    use super::*;
    use crate::training::loss_cellpose::cellpose_loss;

    #[test]
    fn value_and_gradient_are_those_of_the_cpu() {
        let shape = [2, 5, 7];
        let outputs = normal(2 * 5 * 7 * 3, 1);
        // Fractions that 5 times themselves have exactly.
        let target = |i: usize| if i.is_multiple_of(3) { (i / 3 % 3) as f32 - 1.0 } else { (i % 7) as f32 / 8.0 };
        for targets in [(0..outputs.len()).map(target).collect::<Vec<_>>(), vec![-1.0; outputs.len()]] {
            let mut gradient = vec![0.0; outputs.len()];
            let want = cellpose_loss(&outputs, &targets, Some(&mut gradient)).unwrap();
            let found = measure(&targets, &output(&outputs, shape), &uploads()).unwrap();
            assert!((scalar(&found.total) - want.total).abs() < 1e-9);
            assert!((scalar(&found.parts[0]) - want.flow).abs() < 1e-9);
            assert!((scalar(&found.parts[1]) - want.cellprob).abs() < 1e-9);
            assert_same(found.gradients[0].as_ref().unwrap(), &gradient);
        }
    }
}
