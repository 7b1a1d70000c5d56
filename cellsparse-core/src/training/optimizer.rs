//! How gradients move weights: Adam and momentum.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::networks::Weights;

/// Values updated by one parallel job; updates are independent, so the size only matters for speed.
const CHUNK: usize = 1 << 14;

/// Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).
///
/// The step is `rate * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon)`, as in Keras.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Decay of the first moment. Default 0.9.
    pub beta1: f32,
    /// Decay of the second moment. Default 0.999.
    pub beta2: f32,
    /// Default 1e-7.
    pub epsilon: f32,
    /// Kernels shrink by `rate * decay` of their value at every step. Default 0.
    pub decay: f32,
    /// Whether `decay` and `epsilon` act as in PyTorch's AdamW: decay on every trainable parameter, biases included, and
    /// epsilon beside the corrected second moment, `rate / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + epsilon)`.
    /// Default false.
    pub as_pytorch: bool,
    /// Factors of the rate by parameter, in the order of the weights; what is not listed has 1. Default empty.
    pub rate_multipliers: Vec<f32>,
    steps: u64,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

impl Adam {
    /// An optimiser without memory, for `weights`.
    pub fn new(weights: &Weights) -> Self {
        let zeros: Vec<Vec<f32>> = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-7,
            decay: 0.0,
            as_pytorch: false,
            rate_multipliers: Vec::new(),
            steps: 0,
            first: zeros.clone(),
            second: zeros,
        }
    }

    /// AdamW as PyTorch has it, with its epsilon of 1e-8: what Cellpose 3 trains with.
    pub fn pytorch(weights: &Weights) -> Self {
        Self { epsilon: 1e-8, as_pytorch: true, ..Self::new(weights) }
    }

    /// An optimiser that goes on from recorded moments.
    ///
    /// # Errors
    /// [`Error::Weights`] when the moments do not have the sizes of `weights`.
    pub fn restore(weights: &Weights, steps: u64, first: Vec<Vec<f32>>, second: Vec<Vec<f32>>) -> Result<Self> {
        check_moments(weights, &first)?;
        check_moments(weights, &second)?;
        Ok(Self { steps, first, second, ..Self::new(weights) })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// First and second moments, one array for each parameter.
    pub fn moments(&self) -> (&[Vec<f32>], &[Vec<f32>]) {
        (&self.first, &self.second)
    }

    /// Takes one step against `gradients`.
    pub fn step(&mut self, weights: &mut Weights, gradients: &[Vec<f32>], rate: f32) {
        self.steps += 1;
        let t = self.steps.min(1 << 30) as i32;
        let correction = (1.0 - f64::from(self.beta2).powi(t)).sqrt() / (1.0 - f64::from(self.beta1).powi(t));
        let (beta1, beta2) = (self.beta1, self.beta2);
        let corrected = if self.as_pytorch { (1.0 - f64::from(beta2).powi(t)).sqrt() as f32 } else { 1.0 };
        let epsilon = self.epsilon * corrected;
        let moments = self.first.iter_mut().zip(&mut self.second);
        let rate_multipliers = self.rate_multipliers.iter().copied().chain(std::iter::repeat(1.0));
        let parameters = weights.parameters_mut().zip(gradients);
        for (((parameter, gradient), (first, second)), multiplier) in parameters.zip(moments).zip(rate_multipliers) {
            let rate = rate * multiplier;
            let size = (f64::from(rate) * correction) as f32;
            if !parameter.spec.trainable {
                continue;
            }
            let shrinks = self.as_pytorch || parameter.spec.shape.len() > 1;
            let shrink = if shrinks { rate * self.decay } else { 0.0 };
            parameter
                .values
                .par_chunks_mut(CHUNK)
                .zip(gradient.par_chunks(CHUNK))
                .zip(first.par_chunks_mut(CHUNK))
                .zip(second.par_chunks_mut(CHUNK))
                .for_each(|(((values, gradients), first), second)| {
                    for i in 0..values.len() {
                        let g = gradients[i];
                        first[i] = flushed(first[i] + (g - first[i]) * (1.0 - beta1));
                        second[i] = flushed(second[i] + (g * g - second[i]) * (1.0 - beta2));
                        values[i] -= shrink * values[i] + size * first[i] / (second[i].sqrt() + epsilon);
                    }
                });
        }
    }
}

/// Gradient descent with momentum and coupled weight decay, as in PyTorch: `g = gradient + decay * value`,
/// `m = momentum * m + g` (at the first step `m = g`), `value -= rate * m`. Decay acts on every trainable parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    /// Default 0.9.
    pub momentum: f32,
    /// Default 0.
    pub decay: f32,
    steps: u64,
    velocity: Vec<Vec<f32>>,
}

impl Sgd {
    /// An optimiser without memory, for `weights`.
    pub fn new(weights: &Weights) -> Self {
        let velocity = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
        Self { momentum: 0.9, decay: 0.0, steps: 0, velocity }
    }

    /// An optimiser that goes on from a recorded velocity.
    ///
    /// # Errors
    /// [`Error::Weights`] when the velocity does not have the sizes of `weights`.
    pub fn restore(weights: &Weights, steps: u64, velocity: Vec<Vec<f32>>) -> Result<Self> {
        check_moments(weights, &velocity)?;
        Ok(Self { steps, velocity, ..Self::new(weights) })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The running sum of gradients `m`, one array for each parameter.
    pub fn velocity(&self) -> &[Vec<f32>] {
        &self.velocity
    }

    /// Takes one step against `gradients`.
    pub fn step(&mut self, weights: &mut Weights, gradients: &[Vec<f32>], rate: f32) {
        self.steps += 1;
        let (momentum, decay) = (self.momentum, self.decay);
        let parts = gradients.iter().zip(&mut self.velocity);
        for (parameter, (gradient, velocity)) in weights.parameters_mut().zip(parts) {
            if !parameter.spec.trainable {
                continue;
            }
            let values = parameter.values.par_chunks_mut(CHUNK);
            values.zip(gradient.par_chunks(CHUNK)).zip(velocity.par_chunks_mut(CHUNK)).for_each(
                |((values, gradients), velocity)| {
                    for ((value, gradient), velocity) in values.iter_mut().zip(gradients).zip(velocity) {
                        *velocity = flushed(momentum * *velocity + (gradient + decay * *value));
                        *value -= rate * *velocity;
                    }
                },
            );
        }
    }
}

/// Any of the optimisers, as the training loop sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum Optimizer {
    /// See [`Adam`].
    Adam(Adam),
    /// See [`Sgd`].
    Sgd(Sgd),
}

impl Optimizer {
    /// An optimiser that goes on from stored [`memory`](Self::memory): Adam from two sets, gradient descent from one.
    /// Settings other than the number of steps are the defaults.
    ///
    /// # Errors
    /// [`Error::Weights`] for another number of sets, or when they do not have the sizes of `weights`.
    pub fn restore(weights: &Weights, steps: u64, memory: Vec<Vec<Vec<f32>>>) -> Result<Self> {
        let mut sets = memory.into_iter();
        match (sets.next(), sets.next(), sets.next()) {
            (Some(first), Some(second), None) => Ok(Adam::restore(weights, steps, first, second)?.into()),
            (Some(velocity), None, None) => Ok(Sgd::restore(weights, steps, velocity)?.into()),
            _ => Err(Error::Weights("the stored optimiser state is of an unknown kind".into())),
        }
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Adam(adam) => adam.steps(),
            Self::Sgd(sgd) => sgd.steps(),
        }
    }

    /// Sets the weight decay.
    pub fn set_decay(&mut self, decay: f32) {
        match self {
            Self::Adam(adam) => adam.decay = decay,
            Self::Sgd(sgd) => sgd.decay = decay,
        }
    }

    /// Takes one step against `gradients`.
    pub fn step(&mut self, weights: &mut Weights, gradients: &[Vec<f32>], rate: f32) {
        match self {
            Self::Adam(adam) => adam.step(weights, gradients, rate),
            Self::Sgd(sgd) => sgd.step(weights, gradients, rate),
        }
    }

    /// Takes over steps and [`memory`](Self::memory) of an optimiser of the same kind that went on elsewhere.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    #[cfg(feature = "candle")]
    pub(super) fn take_memory(&mut self, weights: &Weights, steps: u64, memory: Vec<Vec<Vec<f32>>>) -> Result<()> {
        match (self, Self::restore(weights, steps, memory)?) {
            (Self::Adam(own), Self::Adam(new)) => {
                (own.steps, own.first, own.second) = (new.steps, new.first, new.second)
            }
            (Self::Sgd(own), Self::Sgd(new)) => (own.steps, own.velocity) = (new.steps, new.velocity),
            _ => return Err(Error::Internal("the memory of another optimiser".into())),
        }
        Ok(())
    }

    /// Its memory, to be stored: two sets for Adam (first and second moments), one for gradient descent; in each, one
    /// array for every parameter.
    pub fn memory(&self) -> Vec<&[Vec<f32>]> {
        match self {
            Self::Adam(adam) => vec![adam.moments().0, adam.moments().1],
            Self::Sgd(sgd) => vec![sgd.velocity()],
        }
    }
}

impl From<Adam> for Optimizer {
    fn from(adam: Adam) -> Self {
        Self::Adam(adam)
    }
}

impl From<Sgd> for Optimizer {
    fn from(sgd: Sgd) -> Self {
        Self::Sgd(sgd)
    }
}

/// The value, or 0 for one below the smallest normal number. Moments of what gets no gradient any more fade to such numbers and
/// stay there, and processors calculate with them a hundred times more slowly.
fn flushed(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0 } else { value }
}

fn check_moments(weights: &Weights, moments: &[Vec<f32>]) -> Result<()> {
    let fits = moments.len() == weights.parameters().len()
        && moments.iter().zip(weights.parameters()).all(|(m, p)| m.len() == p.values.len());
    if fits { Ok(()) } else { Err(Error::Weights("the stored optimiser state belongs to another network".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::{Activation, Graph, Initializer};

    #[test]
    fn the_first_step_has_the_size_of_the_rate() {
        let mut graph = Graph::new(Initializer::Glorot);
        let input = graph.input(1);
        let conv = graph.conv("a", input, 1, 2, Activation::Linear);
        graph.output(conv);
        let mut weights = Weights::init(&graph, 0);
        let before = weights.clone();
        let mut adam = Adam::new(&weights);
        adam.step(&mut weights, &[vec![3.0, -0.5], vec![0.0, 1e-3]], 0.01);
        let moved: Vec<f32> = weights.values(0).iter().zip(before.values(0)).map(|(a, b)| a - b).collect();
        assert!((moved[0] + 0.01).abs() < 1e-5 && (moved[1] - 0.01).abs() < 1e-5, "{moved:?}");
        assert_eq!(weights.values(1)[0], 0.0);
    }

    /// One convolution with 2 weights and 2 biases; values 1, 1 and 0, 0.
    fn tiny() -> Weights {
        let mut graph = Graph::new(Initializer::Glorot);
        let input = graph.input(1);
        let conv = graph.conv("a", input, 1, 2, Activation::Linear);
        graph.output(conv);
        let mut weights = Weights::init(&graph, 0);
        for parameter in weights.parameters_mut() {
            let value = if parameter.spec.shape.len() > 1 { 1.0 } else { 0.5 };
            parameter.values.fill(value);
        }
        weights
    }

    #[test]
    fn momentum_adds_up_and_decay_is_part_of_the_gradient() {
        let mut weights = tiny();
        let mut sgd = Sgd { decay: 0.1, ..Sgd::new(&weights) };
        let gradients = [vec![1.0, -2.0], vec![0.0, 0.5]];
        sgd.step(&mut weights, &gradients, 0.01);
        // Velocities 1.1, -1.9, 0.05, 0.55.
        let expected = [[0.989, 1.019], [0.4995, 0.4945]];
        let close = |weights: &Weights, expected: &[[f32; 2]; 2]| {
            (0..2).all(|i| weights.values(i).iter().zip(&expected[i]).all(|(a, b)| (a - b).abs() < 1e-6))
        };
        assert!(close(&weights, &expected), "{weights:?}");
        let velocity = sgd.velocity().to_vec();
        let mut restored = Sgd { decay: 0.1, ..Sgd::restore(&weights, 1, velocity).unwrap() };
        sgd.step(&mut weights, &gradients, 0.01);
        // Velocities 0.9 * 1.1 + 1 + 0.0989, ...
        let expected = [[0.989 - 0.020889, 1.019 + 0.036081], [0.4995 - 0.0009495, 0.4945 - 0.0104445]];
        assert!(close(&weights, &expected), "{weights:?}");
        let mut other = Optimizer::from(restored.clone());
        let mut again = tiny();
        restored.step(&mut again, &gradients, 0.0);
        other.step(&mut again, &gradients, 0.0);
        assert_eq!((other, restored.steps()), (Optimizer::Sgd(restored), 2));
        assert!(Sgd::restore(&weights, 1, vec![]).is_err());
        for optimizer in [Optimizer::from(Sgd::new(&weights)), Adam::new(&weights).into()] {
            let memory = optimizer.memory().into_iter().map(<[Vec<f32>]>::to_vec).collect();
            assert_eq!(Optimizer::restore(&weights, 0, memory).unwrap(), optimizer);
        }
        assert!(Optimizer::restore(&weights, 0, vec![]).is_err());
    }

    #[test]
    fn adamw_shrinks_every_parameter_and_corrects_the_second_moment_before_epsilon() {
        let mut weights = tiny();
        let mut adam = Adam { decay: 0.1, epsilon: 0.5, ..Adam::pytorch(&weights) };
        let gradients = [vec![1.0, -2.0], vec![0.0, 0.5]];
        adam.step(&mut weights, &gradients, 0.01);
        // At the first step m / (1 - beta1) = g and v / (1 - beta2) = g^2.
        let step = |value: f32, g: f32| value - 0.01 * 0.1 * value - 0.01 * g / (g.abs() + 0.5);
        let expected = [step(1.0, 1.0), step(1.0, -2.0), step(0.5, 0.0), step(0.5, 0.5)];
        let found = weights.values(0).iter().chain(weights.values(1));
        assert!(found.zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{weights:?}");
    }

    #[test]
    fn moments_of_what_gets_no_gradient_fade_to_0() {
        let mut weights = tiny();
        let nothing = [vec![0.0; 2], vec![0.0; 2]];
        let moved = [vec![1e-15, 1.0], vec![1e-30, -1.0]];
        let (mut adam, mut sgd) = (Optimizer::from(Adam::new(&weights)), Optimizer::from(Sgd::new(&weights)));
        for optimizer in [&mut adam, &mut sgd] {
            optimizer.step(&mut weights, &moved, 0.0);
            for _ in 0..2000 {
                optimizer.step(&mut weights, &nothing, 0.0);
            }
            let memory = optimizer.memory();
            let mut values = memory.iter().copied().flatten().flatten();
            assert!(values.all(|value| *value == 0.0 || value.is_normal()), "{memory:?}");
            assert_eq!(memory[0], nothing, "first moments and velocities halve every few steps");
        }
    }

    #[test]
    fn foreign_moments_are_refused() {
        let mut graph = Graph::new(Initializer::Glorot);
        let input = graph.input(1);
        let conv = graph.conv("a", input, 1, 2, Activation::Linear);
        graph.output(conv);
        let weights = Weights::init(&graph, 0);
        assert!(Adam::restore(&weights, 3, vec![vec![0.0; 2]; 2], vec![vec![0.0; 3]; 2]).is_err());
        assert!(Adam::restore(&weights, 3, vec![vec![0.0; 2]; 2], vec![vec![0.0; 2]; 2]).is_ok());
    }
}
