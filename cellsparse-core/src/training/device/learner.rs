//! The state of a training on a device, and its steps.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::loss::{DeviceLoss, measure, sum};
use super::optimizer::DeviceOptimizer;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::networks::{
    DeviceNetwork, DevicePass, Engine, ParameterSpec, Purpose, Tensors, Weights, device_failed as failed,
};
use crate::training::measured::Measured;
use crate::training::task::LossReport;
use crate::training::trainer::{StepPlan, TrainingState};

/// A training on a device.
///
/// A step that is not finished leaves no trace: every tensor is replaced, none is written to.
#[derive(Debug)]
pub(crate) struct DeviceLearner {
    network: DeviceNetwork,
    shape: [usize; 3],
    specs: Arc<[ParameterSpec]>,
    weights: Values,
    average: Option<Values>,
    optimizer: DeviceOptimizer,
    /// What the loss remembers of the last batch, a scalar.
    carried: Tensor,
    /// Total, parts and a number that is finite when all gradients are, of the steps whose losses were not fetched yet.
    waiting: Vec<Tensor>,
    parts: &'static [&'static str],
}

/// Values of all parameters.
#[derive(Debug, Clone)]
struct Values {
    /// Those that the optimiser moves, one after the other.
    moved: Tensor,
    /// The moving statistics.
    moving: Vec<Tensor>,
}

impl DeviceLearner {
    /// A learner that goes on from `state` and the average of the weights, if the engine runs on a device.
    ///
    /// # Errors
    /// [`Error::Device`] and [`Error::Limit`] of the device.
    pub fn for_engine(engine: &Engine, state: &TrainingState, average: Option<&Weights>) -> Result<Option<Self>> {
        let Some((network, shape)) = engine.on_device() else { return Ok(None) };
        Self::new(network.clone(), shape, state, average).map(Some)
    }

    fn new(
        network: DeviceNetwork,
        shape: [usize; 3],
        state: &TrainingState,
        average: Option<&Weights>,
    ) -> Result<Self> {
        let specs: Arc<[ParameterSpec]> = network.graph().parameters().into();
        let place = |arrays: &[Vec<f32>]| -> Tensors<Tensor> {
            let own = arrays.iter().zip(specs.iter()).filter(|(_, spec)| spec.trainable);
            let all: Vec<f32> = own.flat_map(|(values, _)| values.iter().copied()).collect();
            network.placed(&all, &[all.len()])
        };
        let values = |weights: &Weights| -> Tensors<Values> {
            let arrays: Vec<Vec<f32>> = weights.parameters().iter().map(|p| p.values.clone()).collect();
            let moving = weights.parameters().iter().filter(|parameter| !parameter.spec.trainable);
            let moving = moving.map(|p| network.placed(&p.values, &p.spec.shape)).collect::<Tensors<_>>()?;
            Ok(Values { moved: place(&arrays)?, moving })
        };
        let made = || -> Tensors<Self> {
            Ok(Self {
                weights: values(&state.weights)?,
                average: average.map(values).transpose()?,
                optimizer: DeviceOptimizer::new(&state.optimizer, &specs, place)?,
                carried: network.placed(&[state.carried], &[])?,
                network: network.clone(),
                shape,
                specs: Arc::clone(&specs),
                waiting: Vec::new(),
                parts: &[],
            })
        };
        made().map_err(failed)
    }

    /// One optimiser step on a batch. Its loss is among the next [`reports`](Self::reports).
    ///
    /// # Errors
    /// [`Error::Device`] and [`Error::Limit`] of the device, [`Error::Cancelled`] between two layers.
    pub fn step(
        &mut self,
        input: &[f32],
        measured: &Measured<'_>,
        plan: &StepPlan,
        cancel: &CancelToken,
    ) -> Result<()> {
        let parameters = self.parameters(&self.weights).map_err(failed)?;
        let pass = self.network.forward(&parameters, input, self.shape, Purpose::Training, cancel)?;
        let DeviceLoss { total, parts, gradients, carried } =
            measure(measured, pass.outputs(), &self.carried, self.network.uploads()).map_err(failed)?;
        let moving = self.blended_statistics(&parameters, &pass, plan.share).map_err(failed)?;
        let gradients = self.network.backward(&parameters, pass, &gradients, cancel)?;
        let finish = || -> Tensors<()> {
            let gradient = self.joined(gradients)?;
            let finite = (sum(&gradient)? * 0.0)?;
            let numbers: Vec<Tensor> = std::iter::once(total).chain(parts).chain([finite]).collect();
            let report = Tensor::stack(&numbers, 0)?;
            let moved = self.optimizer.step(&self.weights.moved, &gradient, plan.rate, plan.decay)?;
            self.weights = Values { moved, moving };
            if let (Some(average), Some(decay)) = (&mut self.average, plan.average) {
                average.blend(&self.weights, decay)?;
            }
            self.waiting.push(report);
            Ok(())
        };
        finish().map_err(failed)?;
        self.parts = measured.parts();
        if let Some(carried) = carried {
            self.carried = carried;
        }
        Ok(())
    }

    /// The losses of all steps since the last call, in order, and whether the gradients were finite too. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn reports(&mut self) -> Result<Vec<(LossReport, bool)>> {
        if self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        let fetch = || -> Tensors<Vec<Vec<f64>>> {
            let all = Tensor::stack(&self.waiting, 0)?.to_device(&candle_core::Device::Cpu)?;
            all.to_dtype(DType::F64)?.to_vec2()
        };
        let rows = fetch().map_err(failed)?;
        self.waiting.clear();
        let report = |row: Vec<f64>| {
            let parts = self.parts.iter().zip(&row[1..]).map(|(name, value)| (*name, *value as f32)).collect();
            let finite = row.last().is_some_and(|value| value.is_finite());
            (LossReport { total: row[0], parts }, finite)
        };
        Ok(rows.into_iter().map(report).collect())
    }

    /// Brings weights, memory of the optimiser, what the loss remembers, and the average back to the CPU.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn fetch(&self, state: &mut TrainingState, average: Option<&mut Weights>) -> Result<()> {
        self.fetch_values(&self.weights, &mut state.weights).map_err(failed)?;
        if let (Some(own), Some(average)) = (&self.average, average) {
            self.fetch_values(own, average).map_err(failed)?;
        }
        let sets = self.optimizer.memory().iter().map(|memory| self.parted(memory));
        let sets = sets.collect::<Tensors<Vec<_>>>().map_err(failed)?;
        state.optimizer.take_memory(&state.weights, self.optimizer.steps(), sets)?;
        let carried = fetched(&self.carried).map_err(failed)?;
        state.carried = *carried.first().ok_or_else(|| Error::Internal("a scalar without a value".into()))?;
        Ok(())
    }

    /// Every parameter as a part of the tensor that holds all.
    fn parameters(&self, values: &Values) -> Tensors<Vec<Tensor>> {
        let (mut first, mut moving) = (0, values.moving.iter());
        let mut all = Vec::new();
        for spec in self.specs.iter() {
            if !spec.trainable {
                all.extend(moving.next().cloned());
                continue;
            }
            let len: usize = spec.shape.iter().product();
            all.push(values.moved.narrow(0, first, len)?.reshape(spec.shape.as_slice())?);
            first += len;
        }
        Ok(all)
    }

    /// The gradients of all parameters that the optimiser moves, one after the other.
    fn joined(&self, gradients: Vec<Option<Tensor>>) -> Tensors<Tensor> {
        let mut flat = Vec::new();
        for (spec, gradient) in self.specs.iter().zip(gradients).filter(|(spec, _)| spec.trainable) {
            flat.push(match gradient {
                Some(gradient) => gradient.contiguous()?.flatten_all()?,
                None => {
                    let len: usize = spec.shape.iter().product();
                    Tensor::zeros(len, self.network.sums(), self.network.device())?
                }
            });
        }
        Tensor::cat(&flat, 0)
    }

    /// The moving statistics after a batch, which counts as the network says and with no less than `share`.
    fn blended_statistics(&self, parameters: &[Tensor], pass: &DevicePass, share: f32) -> Tensors<Vec<Tensor>> {
        let mut new = HashMap::new();
        for (first, batch, momentum) in self.network.statistics(pass) {
            let kept = f64::from(momentum.min(1.0 - share));
            for (k, batch) in batch.iter().enumerate() {
                let index = first + 2 + k;
                new.insert(index, ((&parameters[index] * kept)? + (batch * (1.0 - kept))?)?);
            }
        }
        let fixed = self.specs.iter().enumerate().filter(|(_, spec)| !spec.trainable);
        Ok(fixed.map(|(index, _)| new.remove(&index).unwrap_or_else(|| parameters[index].clone())).collect())
    }

    /// One array for each parameter from a tensor that holds those that the optimiser moves; zeros for the others.
    fn parted(&self, all: &Tensor) -> Tensors<Vec<Vec<f32>>> {
        let all = fetched(all)?;
        let mut rest = all.as_slice();
        let mut parts = Vec::new();
        for spec in self.specs.iter() {
            let len: usize = spec.shape.iter().product();
            if !spec.trainable {
                parts.push(vec![0.0; len]);
                continue;
            }
            let Some((part, others)) = rest.split_at_checked(len) else {
                candle_core::bail!("{} values for more parameters", all.len());
            };
            parts.push(part.to_vec());
            rest = others;
        }
        Ok(parts)
    }

    fn fetch_values(&self, values: &Values, weights: &mut Weights) -> Tensors<()> {
        let mut moving = values.moving.iter();
        for (parameter, moved) in weights.parameters_mut().zip(self.parted(&values.moved)?) {
            if parameter.spec.trainable {
                parameter.values.copy_from_slice(&moved);
            } else if let Some(value) = moving.next() {
                parameter.values.copy_from_slice(&fetched(value)?);
            }
        }
        Ok(())
    }
}

impl Values {
    /// `self = decay * self + (1 - decay) * other`
    fn blend(&mut self, other: &Self, decay: f32) -> Tensors<()> {
        let decay = f64::from(decay);
        let blended = |own: &Tensor, other: &Tensor| -> Tensors<Tensor> { (own * decay)? + (other * (1.0 - decay))? };
        self.moved = blended(&self.moved, &other.moved)?;
        for (own, other) in self.moving.iter_mut().zip(&other.moving) {
            *own = blended(own, other)?;
        }
        Ok(())
    }
}

/// The values of a tensor. They are made 32 bits wide on the CPU, since a device may have them as it likes.
fn fetched(tensor: &Tensor) -> Tensors<Vec<f32>> {
    tensor.flatten_all()?.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()
}
