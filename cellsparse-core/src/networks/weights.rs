//! The parameters of a network, by name and in the network's order.

use std::collections::HashMap;

use super::graph::{Graph, Init, NodeId, Op, ParameterSpec, Statistics};
use crate::error::{Error, Result, counted};
use crate::random::Random;

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name, shape and role.
    pub spec: ParameterSpec,
    /// Values in row-major order.
    pub values: Vec<f32>,
}

/// One parameter whose values, but not their number, can be changed.
#[derive(Debug)]
pub struct ParameterMut<'a> {
    /// Name, shape and role.
    pub spec: &'a ParameterSpec,
    /// Values in row-major order.
    pub values: &'a mut [f32],
}

/// All parameters of a network, in the order of [`Graph::parameters`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights(Vec<Parameter>);

impl Weights {
    /// Initial weights drawn from `seed`; every parameter has a stream of its own.
    pub fn init(graph: &Graph, seed: u64) -> Self {
        let draw = |(index, spec): (usize, ParameterSpec)| {
            let len: usize = spec.shape.iter().product();
            let values = match spec.init {
                Init::Constant(value) => vec![value; len],
                Init::GlorotUniform { fan_in, fan_out } => {
                    let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
                    let mut random = Random::new(seed, index as u64);
                    (0..len).map(|_| random.uniform(-limit, limit) as f32).collect()
                }
                Init::FanInUniform { fan_in } => {
                    let limit = 1.0 / (fan_in as f64).sqrt();
                    let mut random = Random::new(seed, index as u64);
                    (0..len).map(|_| random.uniform(-limit, limit) as f32).collect()
                }
                Init::HeNormal { fan_in } => {
                    let deviation = (2.0 / fan_in as f64).sqrt();
                    let mut random = Random::new(seed, index as u64);
                    (0..len).map(|_| (deviation * random.normal()) as f32).collect()
                }
            };
            Parameter { spec, values }
        };
        Self(graph.parameters().into_iter().enumerate().map(draw).collect())
    }

    /// Weights from named arrays (shape and values).
    ///
    /// # Errors
    /// [`Error::Weights`] when a parameter of the network is missing, has another shape or a value that is not finite,
    /// or when there are arrays that the network does not have.
    pub fn from_named(graph: &Graph, mut arrays: HashMap<String, (Vec<usize>, Vec<f32>)>) -> Result<Self> {
        let mut parameters = Vec::new();
        for spec in graph.parameters() {
            let (shape, values) = arrays.remove(&spec.name).ok_or_else(|| {
                Error::Weights(format!("'{}' is missing; the weights belong to another network", spec.name))
            })?;
            if shape != spec.shape || values.len() != shape.iter().product::<usize>() {
                return Err(Error::Weights(format!(
                    "'{}' has shape {shape:?}, the network needs {:?}",
                    spec.name, spec.shape
                )));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::Weights(format!("'{}' holds the value {value}", spec.name)));
            }
            parameters.push(Parameter { spec, values });
        }
        if let Some(name) = arrays.keys().min() {
            let are = if arrays.len() == 1 { "is" } else { "are" };
            return Err(Error::Weights(format!(
                "{} {are} not part of the network, '{name}' among them; the weights belong to another network",
                counted(arrays.len(), "array")
            )));
        }
        Ok(Self(parameters))
    }

    /// The parameters.
    pub fn parameters(&self) -> &[Parameter] {
        &self.0
    }

    /// The parameters, whose values can be changed.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = ParameterMut<'_>> {
        self.0.iter_mut().map(|Parameter { spec, values }| ParameterMut { spec, values })
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.0.iter().map(|parameter| parameter.values.len()).sum()
    }

    /// The values of parameter `index`.
    pub fn values(&self, index: usize) -> &[f32] {
        &self.0[index].values
    }

    /// The values of parameter `index`.
    pub fn values_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.0[index].values
    }

    /// Lets the moving statistics of node `id`, whose parameters begin at `first`, take in mean and variance of a batch,
    /// which count with `1 - momentum`, and with no less than `share`.
    pub(super) fn blend_statistics(
        &mut self,
        graph: &Graph,
        id: NodeId,
        first: usize,
        new: &[Vec<f32>; 2],
        share: f32,
    ) {
        let Op::Norm { statistics: Statistics::Batch { momentum, .. }, .. } = graph.nodes()[id].op else { return };
        self.blend_values(first + 2, new, momentum.min(1.0 - share));
    }

    /// Lets the parameters from `first` on take in new values, of which `1 - kept` counts.
    pub(super) fn blend_values(&mut self, first: usize, new: &[Vec<f32>], kept: f32) {
        for (parameter, new) in self.0[first..].iter_mut().zip(new) {
            for (old, new) in parameter.values.iter_mut().zip(new) {
                *old = kept * *old + (1.0 - kept) * new;
            }
        }
    }

    /// Takes the moving statistics of other weights of the same network.
    pub fn take_statistics(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            if !own.spec.trainable && own.values.len() == other.values.len() {
                own.values.copy_from_slice(&other.values);
            }
        }
    }

    /// Whether every value is finite.
    pub fn is_finite(&self) -> bool {
        self.0.iter().all(|parameter| parameter.values.iter().all(|value| value.is_finite()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::CellposeConfig;

    #[test]
    fn a_share_of_one_over_the_number_of_batches_gives_their_mean_until_the_momentum_is_larger() {
        let graph = CellposeConfig { widths: vec![2, 2], ..Default::default() }.graph();
        let id = (0..graph.nodes().len()).find(|&id| matches!(graph.nodes()[id].op, Op::Norm { .. })).unwrap();
        let first = graph.parameter_offsets()[id];
        let mut weights = Weights::init(&graph, 0);
        let channels = weights.values(first).len();
        let batch = |value: f32| [vec![value; channels], vec![2.0 * value; channels]];
        for (n, value) in [3.0, 5.0, 10.0].into_iter().enumerate() {
            weights.blend_statistics(&graph, id, first, &batch(value), 1.0 / (n + 1) as f32);
        }
        assert!(
            (weights.values(first + 2)[0] - 6.0).abs() < 1e-5 && (weights.values(first + 3)[0] - 12.0).abs() < 1e-5
        );
        weights.blend_statistics(&graph, id, first, &batch(26.0), 0.01);
        assert!((weights.values(first + 2)[0] - 7.0).abs() < 1e-5, "a twentieth of the way");
    }
}
