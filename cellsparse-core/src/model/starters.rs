//! Starting weights: networks that have learned on drawn fields what cells have in common.

use serde::{Deserialize, Serialize};

use super::algorithm::SegmentationAlgorithm;
use super::facade::Model;
pub use super::options::Start;
use super::registry::{Algorithm, Architecture};
use crate::error::{Error, Result};
use crate::formats::quantized::{read_quantized, write_quantized};
use crate::formats::tensors::NamedArrays;
use crate::networks::ParameterMut;

/// The names of the starting weights in this library: those of the algorithms that have some.
pub fn names() -> Vec<&'static str> {
    let facts = Algorithm::ALL.iter().map(|algorithm| algorithm.facts());
    facts.filter(|facts| !facts.starting_weights.is_empty()).map(|facts| facts.name).collect()
}

/// Starting weights and the network they belong to.
#[derive(Debug, Clone)]
pub struct Starter {
    architecture: Architecture,
    arrays: NamedArrays,
}

/// The JSON part of a file of starting weights.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    architecture: Architecture,
    /// Optimiser steps that made the weights.
    steps: u64,
}

impl Starter {
    /// Those of an algorithm in this library, if it has some.
    ///
    /// # Errors
    /// [`Error::Weights`] when they are damaged.
    pub fn shipped(algorithm: Algorithm) -> Result<Option<Self>> {
        let bytes = algorithm.facts().starting_weights;
        if bytes.is_empty() { Ok(None) } else { Self::read(bytes).map(Some) }
    }

    /// Those in a file of [`write`](Self::write).
    ///
    /// # Errors
    /// [`Error::Weights`] when it is damaged or something else.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let (arrays, json) = read_quantized(bytes)?;
        let header: Header =
            serde_json::from_str(&json).map_err(|error| Error::Weights(format!("starting weights: {error}")))?;
        header.architecture.check()?;
        Ok(Self { architecture: header.architecture, arrays })
    }

    /// The weights of a model in 8 bits, to be starting weights.
    ///
    /// # Errors
    /// [`Error::Internal`] when they cannot be written.
    pub fn write(model: &Model) -> Result<Vec<u8>> {
        let header = Header { architecture: model.architecture.clone(), steps: model.history.total_steps() };
        let json = serde_json::to_string(&header).map_err(|error| Error::Internal(format!("a header: {error}")))?;
        let arrays = model.network.weights.parameters().iter().map(|parameter| {
            (parameter.spec.name.clone(), parameter.spec.shape.as_slice(), parameter.values.as_slice())
        });
        write_quantized(arrays, json)
    }
}

impl Model {
    /// Lets a model begin with starting weights: any number of channels and rays is served. `Err` in the result says
    /// why the network cannot, and leaves the model as it was.
    ///
    /// # Errors
    /// [`Error::Weights`] when the starting weights are damaged.
    pub fn begin_with(&mut self, starter: &Starter) -> Result<std::result::Result<(), String>> {
        if let Some(reason) = self.architecture.misfit(&starter.architecture) {
            return Ok(Err(reason));
        }
        let algorithm = self.architecture.with_defaults();
        let mut weights = self.network.weights.clone();
        for parameter in weights.parameters_mut() {
            adapt(parameter, &starter.arrays, &*algorithm)?;
        }
        self.network.weights = weights;
        self.state = None;
        self.started = true;
        self.network.engines.clear();
        Ok(Ok(()))
    }
}

/// Gives a parameter the values of the starting weights.
///
/// Channels of the image share what one channel had, so that an image with equal channels gives the same outputs.
fn adapt(
    mut parameter: ParameterMut<'_>,
    arrays: &NamedArrays,
    algorithm: &(dyn SegmentationAlgorithm + '_),
) -> Result<()> {
    if algorithm.begin_parameter(&mut parameter, arrays)? {
        return Ok(());
    }
    let source = parameter.spec.name.as_str();
    let (shape, values) =
        arrays.get(source).ok_or_else(|| Error::Weights(format!("the starting weights have no '{source}'")))?;
    let wanted = parameter.spec.shape.as_slice();
    if shape == wanted {
        parameter.values.copy_from_slice(values);
        return Ok(());
    }
    match (shape.as_slice(), wanted) {
        ([a, b, 1, out], [c, d, channels, like]) if (a, b, out) == (c, d, like) => {
            let share = 1.0 / *channels as f32;
            for (row, source) in parameter.values.chunks_mut(channels * out).zip(values.chunks(*out)) {
                for part in row.chunks_mut(*out) {
                    part.iter_mut().zip(source).for_each(|(value, source)| *value = source * share);
                }
            }
            Ok(())
        }
        ([1], [_]) => {
            parameter.values.fill(values.first().copied().unwrap_or(0.0));
            Ok(())
        }
        _ => Err(Error::Weights(format!("'{source}' has shape {shape:?}, the network needs {wanted:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Axis, concatenate};

    use super::*;
    use crate::networks::{CellposeConfig, ElephantConfig, StarDistConfig};

    fn image() -> Array3<f32> {
        Array3::from_shape_fn((64, 64, 1), |(y, x, _)| ((y * 7 + x * 3) % 23) as f32 / 23.0)
    }

    fn outputs(model: &Model, image: &Array3<f32>) -> Vec<Array3<f32>> {
        let device = crate::networks::Device::cpu();
        let cancel = crate::control::CancelToken::new();
        let work = super::super::work::Work::plain(&device, &cancel, crate::budget::Budget::of_free_memory());
        let (rows, columns, _) = image.dim();
        let fill = |input: &mut [f32]| input.iter_mut().zip(image).for_each(|(to, from)| *to = *from);
        model.network.run(&work, [1, rows, columns], fill).unwrap().swap_remove(0)
    }

    #[test]
    fn three_equal_channels_and_more_rays_give_the_answers_of_one_channel() {
        let configs: [(Architecture, Architecture); 3] = [
            (
                StarDistConfig::default().into(),
                StarDistConfig { n_channels: 3, n_rays: 64, ..Default::default() }.into(),
            ),
            (CellposeConfig::default().into(), CellposeConfig { n_channels: 3, ..Default::default() }.into()),
            (ElephantConfig::default().into(), ElephantConfig { n_channels: 3, ..Default::default() }.into()),
        ];
        for (one, three) in configs {
            let plain = Model::new(one, 5).unwrap();
            let starter = Starter::read(&Starter::write(&plain).unwrap()).unwrap();
            let mut same = Model::new(plain.architecture().clone(), 6).unwrap();
            same.begin_with(&starter).unwrap().unwrap();
            let mut model = Model::new(three, 7).unwrap();
            model.begin_with(&starter).unwrap().unwrap();
            let grey = image();
            let triple = concatenate(Axis(2), &[grey.view(), grey.view(), grey.view()]).unwrap();
            let (expected, found) = (outputs(&same, &grey), outputs(&model, &triple));
            let every = expected.len() > 1 && expected[1].dim().2 == 32;
            for (expected, found) in expected.iter().zip(&found) {
                let step = if every && expected.dim().2 == 32 { 2 } else { 1 };
                for ((y, x, c), value) in expected.indexed_iter() {
                    assert!((found[[y, x, c * step]] - value).abs() < 1e-3 * (1.0 + value.abs()));
                }
            }
        }
    }

    #[test]
    fn networks_of_another_shape_keep_their_weights_and_the_reason_is_told() {
        let starter = |architecture: Architecture| {
            Starter::read(&Starter::write(&Model::new(architecture, 0).unwrap()).unwrap()).unwrap()
        };
        let cellpose = starter(CellposeConfig::default().into());
        for architecture in [
            Architecture::Cellpose(CellposeConfig::reference()),
            CellposeConfig { diam_mean: 10.0, ..Default::default() }.into(),
            ElephantConfig::default().into(),
        ] {
            let mut model = Model::new(architecture, 3).unwrap();
            let before = model.weights().clone();
            assert!(model.begin_with(&cellpose).unwrap().is_err() && *model.weights() == before);
        }
        let stardist = starter(StarDistConfig::default().into());
        let mut classes = Model::stardist(StarDistConfig { n_classes: Some(2), ..Default::default() }, 1).unwrap();
        classes.begin_with(&stardist).unwrap().unwrap();
        let of = |name: &str| {
            let all = classes.weights().parameters().iter();
            all.filter(|parameter| parameter.spec.name == name).map(|p| p.values.clone()).next().unwrap()
        };
        assert_eq!(of("features_class/kernel"), of("features/kernel"));
        let mut fine = Model::stardist(StarDistConfig { grid: [1, 1], ..Default::default() }, 1).unwrap();
        assert!(fine.begin_with(&stardist).unwrap().is_err());
    }
}
