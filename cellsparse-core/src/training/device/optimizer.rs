//! The optimisers of [`training::optimizer`](crate::training::optimizer) on one tensor that holds all parameters.

use candle_core::Tensor;

use crate::networks::{ParameterSpec, Tensors};
use crate::training::optimizer::{Adam, Optimizer, Sgd};

/// An optimiser whose memory lies on a device.
#[derive(Debug)]
pub(super) struct DeviceOptimizer {
    kind: Kind,
    steps: u64,
    /// First and second moments, or velocities: one value for each parameter that training moves.
    memory: Vec<Tensor>,
    /// What the rate of every value is multiplied by, and the part of that where values shrink; none is 1 everywhere.
    multipliers: [Option<Tensor>; 2],
}

#[derive(Debug)]
enum Kind {
    Adam { beta1: f32, beta2: f32, epsilon: f32, as_pytorch: bool },
    Sgd { momentum: f32 },
}

impl DeviceOptimizer {
    /// The optimiser in the state that it has on the CPU. `place` puts one array for each parameter into one tensor.
    pub fn new(
        optimizer: &Optimizer,
        specs: &[ParameterSpec],
        place: impl Fn(&[Vec<f32>]) -> Tensors<Tensor>,
    ) -> Tensors<Self> {
        let memory = optimizer.memory().into_iter().map(&place).collect::<Tensors<Vec<_>>>()?;
        let (kind, multipliers) = match optimizer {
            Optimizer::Adam(Adam { beta1, beta2, epsilon, as_pytorch, rate_multipliers, .. }) => {
                let of = |index: usize| rate_multipliers.get(index).copied().unwrap_or(1.0);
                let shrinks = |index: usize| {
                    let shrinks = *as_pytorch || specs[index].shape.len() > 1;
                    if shrinks { of(index) } else { 0.0 }
                };
                let everywhere = |of: &dyn Fn(usize) -> f32| -> Tensors<Option<Tensor>> {
                    if (0..specs.len()).all(|index| of(index) == 1.0) {
                        return Ok(None);
                    }
                    let filled = |(index, spec): (usize, &ParameterSpec)| vec![of(index); spec.shape.iter().product()];
                    Ok(Some(place(&specs.iter().enumerate().map(filled).collect::<Vec<_>>())?))
                };
                let kind = Kind::Adam { beta1: *beta1, beta2: *beta2, epsilon: *epsilon, as_pytorch: *as_pytorch };
                (kind, [everywhere(&of)?, everywhere(&shrinks)?])
            }
            Optimizer::Sgd(Sgd { momentum, .. }) => (Kind::Sgd { momentum: *momentum }, [None, None]),
        };
        Ok(Self { kind, steps: optimizer.steps(), memory, multipliers })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Its memory, as [`Optimizer::memory`].
    pub fn memory(&self) -> &[Tensor] {
        &self.memory
    }

    /// Takes one step against `gradient`, with this rate and weight decay; returns the moved values.
    pub fn step(&mut self, values: &Tensor, gradient: &Tensor, rate: f32, decay: f32) -> Tensors<Tensor> {
        self.steps += 1;
        let rate = f64::from(rate);
        match (self.memory.as_mut_slice(), &self.kind) {
            ([first, second], Kind::Adam { beta1, beta2, epsilon, as_pytorch }) => {
                let t = self.steps.min(1 << 30) as i32;
                let (beta1, beta2) = (f64::from(*beta1), f64::from(*beta2));
                let root = (1.0 - beta2.powi(t)).sqrt();
                let epsilon = f64::from(*epsilon) * if *as_pytorch { root } else { 1.0 };
                *first = ((&*first * beta1)? + (gradient * (1.0 - beta1))?)?;
                *second = ((&*second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
                let mut step = ((&*first / (second.sqrt()? + epsilon)?)? * (rate * root / (1.0 - beta1.powi(t))))?;
                if let Some(multiplier) = &self.multipliers[0] {
                    step = (step * multiplier)?;
                }
                if decay != 0.0 {
                    let shrink = (values * (rate * f64::from(decay)))?;
                    step = (step
                        + match &self.multipliers[1] {
                            Some(multiplier) => (shrink * multiplier)?,
                            None => shrink,
                        })?;
                }
                values - step
            }
            ([velocity], Kind::Sgd { momentum }) => {
                let mut pulled = ((&*velocity * f64::from(*momentum))? + gradient)?;
                if decay != 0.0 {
                    pulled = (pulled + (values * f64::from(decay))?)?;
                }
                *velocity = pulled;
                values - (&*velocity * rate)?
            }
            _ => candle_core::bail!("an optimiser with another memory than its own"),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::networks::{CellposeConfig, Weights};
    use crate::random::Random;

    fn place(arrays: &[Vec<f32>]) -> Tensors<Tensor> {
        let all = arrays.concat();
        Tensor::from_vec(all.clone(), all.len(), &Device::Cpu)
    }

    #[test]
    fn ten_steps_are_those_of_the_cpu() {
        let graph = CellposeConfig { widths: vec![2, 3], ..CellposeConfig::default() }.graph();
        let mut weights = Weights::init(&graph, 1);
        let specs = graph.parameters();
        let trainable = |weights: &Weights| -> Vec<Vec<f32>> {
            let own = weights.parameters().iter().filter(|parameter| parameter.spec.trainable);
            own.map(|parameter| parameter.values.clone()).collect()
        };
        let (mut with_rates, mut as_pytorch) = (Adam::new(&weights), Adam::pytorch(&weights));
        with_rates.rate_multipliers = vec![0.5, 1.0, 0.25];
        as_pytorch.epsilon = 1e-3;
        let optimizers: Vec<Optimizer> =
            vec![Adam::new(&weights).into(), as_pytorch.into(), with_rates.into(), Sgd::new(&weights).into()];
        for (number, mut optimizer) in optimizers.into_iter().enumerate() {
            for decay in [0.0, 0.01] {
                let mut random = Random::new(9, number as u64);
                let of_trainable = |arrays: &[Vec<f32>]| -> Tensors<Tensor> {
                    let own = specs.iter().zip(arrays).filter(|(spec, _)| spec.trainable);
                    place(&own.map(|(_, values)| values.clone()).collect::<Vec<_>>())
                };
                let mut on_device = DeviceOptimizer::new(&optimizer, &specs, of_trainable).unwrap();
                let mut values = place(&trainable(&weights)).unwrap();
                optimizer.set_decay(decay);
                for step in 0..10 {
                    let rate = 1e-2 / (step + 1) as f32;
                    let gradients: Vec<Vec<f32>> = weights
                        .parameters()
                        .iter()
                        .map(|parameter| parameter.values.iter().map(|_| random.normal() as f32).collect())
                        .collect();
                    let own = gradients.iter().zip(weights.parameters()).filter(|(_, p)| p.spec.trainable);
                    let gradient = place(&own.map(|(gradient, _)| gradient.clone()).collect::<Vec<_>>()).unwrap();
                    values = on_device.step(&values, &gradient, rate, decay).unwrap();
                    optimizer.step(&mut weights, &gradients, rate);
                }
                assert_eq!(on_device.steps(), optimizer.steps());
                let far = |found: &Tensor, want: &[f32]| {
                    let found = found.to_vec1::<f32>().unwrap();
                    found.iter().zip(want).map(|(a, b)| (a - b).abs() / (b.abs() + 1e-2)).fold(0.0, f32::max)
                };
                assert!(far(&values, &trainable(&weights).concat()) < 2e-5, "{number}");
                for (found, want) in on_device.memory().iter().zip(optimizer.memory()) {
                    let own = want.iter().zip(weights.parameters()).filter(|(_, p)| p.spec.trainable);
                    let want: Vec<f32> = own.flat_map(|(values, _)| values.clone()).collect();
                    assert!(far(found, &want) < 2e-5, "{number}");
                }
            }
        }
    }
}
