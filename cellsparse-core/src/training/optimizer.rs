//! Adam, in the form of Keras.

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
    steps: u64,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

impl Adam {
    /// An optimiser without memory, for `weights`.
    pub fn new(weights: &Weights) -> Self {
        let zeros: Vec<Vec<f32>> = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, decay: 0.0, steps: 0, first: zeros.clone(), second: zeros }
    }

    /// An optimiser that goes on from recorded moments.
    ///
    /// # Errors
    /// [`Error::Weights`] when the moments do not have the sizes of `weights`.
    pub fn restore(weights: &Weights, steps: u64, first: Vec<Vec<f32>>, second: Vec<Vec<f32>>) -> Result<Self> {
        let fits = |moments: &[Vec<f32>]| {
            moments.len() == weights.parameters().len()
                && moments.iter().zip(weights.parameters()).all(|(m, p)| m.len() == p.values.len())
        };
        if !fits(&first) || !fits(&second) {
            return Err(Error::Weights("the stored optimiser state belongs to another network".into()));
        }
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
        let size = (f64::from(rate) * correction) as f32;
        let (beta1, beta2, epsilon) = (self.beta1, self.beta2, self.epsilon);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (first, second)) in weights.parameters_mut().iter_mut().zip(gradients).zip(moments)
        {
            if !parameter.spec.trainable {
                continue;
            }
            let shrink = if parameter.spec.shape.len() > 1 { rate * self.decay } else { 0.0 };
            parameter
                .values
                .par_chunks_mut(CHUNK)
                .zip(gradient.par_chunks(CHUNK))
                .zip(first.par_chunks_mut(CHUNK))
                .zip(second.par_chunks_mut(CHUNK))
                .for_each(|(((values, gradients), first), second)| {
                    for i in 0..values.len() {
                        let g = gradients[i];
                        first[i] += (g - first[i]) * (1.0 - beta1);
                        second[i] += (g * g - second[i]) * (1.0 - beta2);
                        values[i] -= shrink * values[i] + size * first[i] / (second[i].sqrt() + epsilon);
                    }
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::{Activation, Graph, Recipe};

    #[test]
    fn the_first_step_has_the_size_of_the_rate() {
        let mut graph = Graph::new(Recipe::Glorot);
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

    #[test]
    fn foreign_moments_are_refused() {
        let mut graph = Graph::new(Recipe::Glorot);
        let input = graph.input(1);
        let conv = graph.conv("a", input, 1, 2, Activation::Linear);
        graph.output(conv);
        let weights = Weights::init(&graph, 0);
        assert!(Adam::restore(&weights, 3, vec![vec![0.0; 2]; 2], vec![vec![0.0; 3]; 2]).is_err());
        assert!(Adam::restore(&weights, 3, vec![vec![0.0; 2]; 2], vec![vec![0.0; 2]; 2]).is_ok());
    }
}
