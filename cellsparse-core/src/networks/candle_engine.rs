//! Runs a network for training or inference on an accelerator, with weights, inputs and gradients that come from the CPU.

use std::sync::Arc;

use candle_core::Tensor;

use super::device::Device;
use super::device_error::failed;
use super::device_layers::Tensors;
use super::device_network::{DeviceNetwork, DevicePass, Purpose};
use super::graph::Graph;
use super::normalization::ImageStatistics;
use super::weights::Weights;
use crate::control::CancelToken;
use crate::error::{Error, Result};

/// A network on an accelerator, and its last forward pass.
#[derive(Debug)]
pub(super) struct CandleEngine {
    device: Device,
    shape: [usize; 3],
    training: bool,
    network: DeviceNetwork,
    parameters: Vec<Tensor>,
    pass: Option<DevicePass>,
    /// First parameter, mean and variance, and what is kept of the old, of every batch normalisation in the last training pass.
    statistics: Vec<(usize, [Vec<f32>; 2], f32)>,
    /// Of the image in the last pass, and those that a pass is to take instead.
    image: ImageStatistics,
    given: Option<ImageStatistics>,
}

impl CandleEngine {
    pub fn new(graph: &Arc<Graph>, device: &Device, shape: [usize; 3], training: bool) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            shape,
            training,
            network: DeviceNetwork::on(graph, device)?,
            parameters: Vec::new(),
            pass: None,
            statistics: Vec::new(),
            image: ImageStatistics::default(),
            given: None,
        })
    }

    /// The network itself, for a training that stays on the device.
    pub fn network(&self) -> &DeviceNetwork {
        &self.network
    }

    /// `[batch, height, width]` of what it takes.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.parameters = self.network.parameters(weights)?;
        Ok(())
    }

    pub fn forward(&mut self, input: &[f32], outputs: &mut Vec<Vec<f32>>, cancel: &CancelToken) -> Result<()> {
        if self.parameters.is_empty() {
            return Err(no_weights());
        }
        self.device.check_room(self.shape).map_err(failed)?;
        self.pass = None;
        let purpose = if self.training { Purpose::Training } else { Purpose::Inference(self.given.as_ref()) };
        let pass = self.network.forward(&self.parameters, input, self.shape, purpose, cancel)?;
        *outputs = pass.outputs().iter().map(fetched).collect::<Tensors<_>>().map_err(failed)?;
        if !self.training {
            self.image = pass.image_statistics()?;
        } else {
            let told = self.network.statistics(&pass);
            let told = told
                .into_iter()
                .map(|(first, [mean, variance], momentum)| Ok((first, [values(mean)?, values(variance)?], momentum)));
            self.statistics = told.collect::<Tensors<_>>().map_err(failed)?;
            self.pass = Some(pass);
        }
        Ok(())
    }

    pub fn backward(&mut self, outputs: &[Vec<f32>], gradients: &mut [Vec<f32>], cancel: &CancelToken) -> Result<()> {
        let pass = self.pass.take().ok_or_else(no_weights)?;
        let place = |(output, gradient): (&Tensor, &Vec<f32>)| -> Tensors<Option<Tensor>> {
            let (b, c, h, w) = output.dims4()?;
            let gradient = self.network.placed(gradient, &[b, h, w, c])?;
            Ok(Some(gradient.permute((0, 3, 1, 2))?.contiguous()?))
        };
        let given = pass.outputs().iter().zip(outputs).map(place).collect::<Tensors<Vec<_>>>().map_err(failed)?;
        let found = self.network.backward(&self.parameters, pass, &given, cancel)?;
        for (to, from) in gradients.iter_mut().zip(found) {
            match from {
                Some(from) => *to = values(&from).map_err(failed)?,
                None => to.fill(0.0),
            }
        }
        Ok(())
    }

    /// Mean and variance of every channel in the last forward pass of one image outside training.
    pub fn image_statistics(&self) -> ImageStatistics {
        self.image.clone()
    }

    /// Lets normalisations over groups of channels take these statistics instead of those of the image, or again its own.
    pub fn set_image_statistics(&mut self, given: Option<&ImageStatistics>) {
        self.given = given.cloned();
    }

    pub fn update_statistics(&self, weights: &mut Weights, share: f32) {
        for (first, new, momentum) in &self.statistics {
            weights.blend_values(first + 2, new, momentum.min(1.0 - share));
        }
    }
}

/// A map `[batch, channels, height, width]` as `[batch, height, width, channels]`.
fn fetched(output: &Tensor) -> Tensors<Vec<f32>> {
    values(&output.permute((0, 2, 3, 1))?.contiguous()?)
}

fn values(tensor: &Tensor) -> Tensors<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn no_weights() -> Error {
    Error::Internal("an engine was used before its weights were set".into())
}
