//! Starting weights: networks that have learned on drawn fields what cells have in common.

use serde::{Deserialize, Serialize};

use super::{Algorithm, Architecture, Model};
use crate::error::{Error, Result};
use crate::formats::quantized::{read_quantized, write_quantized};
use crate::formats::tensors::NamedArrays;
use crate::networks::ParameterMut;

/// The starting weights in this library.
const SHIPPED: [(Algorithm, &[u8]); 3] = [
    (Algorithm::Stardist, include_bytes!("../../starters/stardist.bin")),
    (Algorithm::Cellpose, include_bytes!("../../starters/cellpose.bin")),
    (Algorithm::Elephant, include_bytes!("../../starters/elephant.bin")),
];

/// What the weights of a new model are before its first training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Start {
    /// Those in the library, learned on drawn fields, if they fit the network; else those the model has.
    #[default]
    Starter,
    /// Those the model has: random ones, unless it was made otherwise.
    None,
}

impl std::str::FromStr for Start {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "starter" => Ok(Start::Starter),
            "none" => Ok(Start::None),
            other => Err(Error::Config(format!("unknown starting weights '{other}'; there are starter and none"))),
        }
    }
}

/// The names of the starting weights in this library: those of the algorithms that have some.
pub fn names() -> Vec<&'static str> {
    SHIPPED.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(algorithm, _)| algorithm.name()).collect()
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
        let found = SHIPPED.iter().find(|(of, bytes)| *of == algorithm && !bytes.is_empty());
        found.map(|(_, bytes)| Self::read(bytes)).transpose()
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
        let arrays = model.weights.parameters().iter().map(|parameter| {
            (parameter.spec.name.clone(), parameter.spec.shape.as_slice(), parameter.values.as_slice())
        });
        write_quantized(arrays, json)
    }

    /// Why a network cannot begin with these weights, if so.
    fn misfit(&self, wanted: &Architecture) -> Option<String> {
        let other = |what: &str| Some(format!("the starting weights belong to a network of {what}"));
        match (&self.architecture, wanted) {
            (Architecture::Stardist(own), Architecture::Stardist(wanted)) => {
                let like = crate::networks::StarDistConfig {
                    n_channels: own.n_channels,
                    n_rays: own.n_rays,
                    n_classes: own.n_classes,
                    ..wanted.clone()
                };
                if like == *own { None } else { other("another grid, other filters or another depth") }
            }
            (Architecture::Cellpose(own), Architecture::Cellpose(wanted)) => {
                let ratio = wanted.diam_mean / own.diam_mean;
                if wanted.widths != own.widths {
                    other(&format!("the widths {:?}", own.widths))
                } else if !DIAMETERS.contains(&ratio) {
                    other(&format!("the diameter {}", own.diam_mean))
                } else {
                    None
                }
            }
            (Architecture::Elephant(own), Architecture::Elephant(wanted)) => {
                if own.widths == wanted.widths && own.residual == wanted.residual {
                    None
                } else {
                    other(&format!("the widths {:?}, without residual blocks", own.widths))
                }
            }
            (own, wanted) => Some(format!("they are of {}, the network is of {}", own.algorithm(), wanted.algorithm())),
        }
    }
}

/// Diameters of a Cellpose network, relative to that of the starting weights, that these are good for.
const DIAMETERS: std::ops::RangeInclusive<f32> = 0.66..=1.5;

impl Model {
    /// Lets a model begin with starting weights: any number of channels and rays is served. `Err` in the result says
    /// why the network cannot, and leaves the model as it was.
    ///
    /// # Errors
    /// [`Error::Weights`] when the starting weights are damaged.
    pub fn begin_with(&mut self, starter: &Starter) -> Result<std::result::Result<(), String>> {
        if let Some(reason) = starter.misfit(&self.architecture) {
            return Ok(Err(reason));
        }
        let mut weights = self.weights.clone();
        for parameter in weights.parameters_mut() {
            adapt(parameter, &starter.arrays)?;
        }
        self.weights = weights;
        self.state = None;
        self.started = true;
        self.engines.clear();
        Ok(Ok(()))
    }
}

/// Gives a parameter the values of the starting weights.
///
/// Channels of the image share what one channel had, so that an image with equal channels gives the same answers; rays in
/// other directions are interpolated between the two neighbouring ones; a head for classes begins with the features of the
/// others.
fn adapt(parameter: ParameterMut<'_>, arrays: &NamedArrays) -> Result<()> {
    let name = parameter.spec.name.as_str();
    let (layer, kind) = name.split_once('/').unwrap_or((name, ""));
    let source = match layer {
        "prob_class" => return Ok(()),
        "features_class" => format!("features/{kind}"),
        _ => name.to_string(),
    };
    let (shape, values) =
        arrays.get(&source).ok_or_else(|| Error::Weights(format!("the starting weights have no '{source}'")))?;
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
        ([.., rays], [.., others]) if layer == "dist" && *rays > 0 && *others > 0 => {
            for (row, source) in parameter.values.chunks_mut(*others).zip(values.chunks(*rays)) {
                for (ray, value) in row.iter_mut().enumerate() {
                    let place = ray as f32 * *rays as f32 / *others as f32;
                    let below = place as usize % rays;
                    let part = place.fract();
                    *value = (1.0 - part) * source[below] + part * source[(below + 1) % rays];
                }
            }
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
        model.run(&work, [1, rows, columns], fill).unwrap().swap_remove(0)
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
