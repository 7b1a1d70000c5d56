//! A model in one file: weights and optimiser state as arrays, everything else as JSON.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::contrast::Seen;
use super::working_scale::WorkingScale;
use super::{Architecture, Model, Normalization, StarThresholds, Thresholds};
use crate::error::{Error, Result};
use crate::formats::tensors::{NamedArrays, read_tensors, write_tensors};
use crate::networks::Weights;
use crate::training::history::History;
use crate::training::optimizer::Optimizer;
use crate::training::trainer::TrainingState;

/// Version of the file format; files of a later version are refused.
const FORMAT_VERSION: u32 = 1;

/// The JSON part of a model file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format_version: u32,
    cellsparse_version: String,
    /// The fields `algorithm` and `config`.
    #[serde(flatten)]
    architecture: Architecture,
    normalization: Normalization,
    /// Sides that the network sees relative to those of an image.
    #[serde(default = "unscaled")]
    scale: f64,
    /// Whether that factor is only the usual one, and every image has its own.
    #[serde(default)]
    scale_by_image: bool,
    #[serde(deserialize_with = "stored_thresholds")]
    thresholds: Thresholds,
    history: History,
    /// Steps of the optimiser and batches drawn, when the optimiser's state is in the file.
    optimizer: Option<OptimizerHeader>,
    /// FNV-1a hash of names and values of the weights: these formats carry no checksum.
    weights_hash: String,
    /// Whether the weights are initial ones.
    untrained: bool,
    /// What the training images showed; absent in files of models that were not trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OptimizerHeader {
    steps: u64,
    batches: u64,
    /// Sets of arrays that the optimiser remembers: 2 for Adam, 1 for gradient descent.
    #[serde(default = "sets_of_adam")]
    memory: usize,
    /// What the loss remembers of the last batch.
    #[serde(default)]
    carried: f32,
}

fn unscaled() -> f64 {
    1.0
}

fn sets_of_adam() -> usize {
    MEMORY.len()
}

/// Reads thresholds; those of StarDist may stand without the name of the algorithm, as in the first files of this version.
fn stored_thresholds<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Thresholds, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Named(Thresholds),
        Stardist(StarThresholds),
    }
    Ok(match Stored::deserialize(from)? {
        Stored::Named(thresholds) => thresholds,
        Stored::Stardist(thresholds) => Thresholds::Stardist(thresholds),
    })
}

/// Prefixes of the arrays of the optimiser: moving weights, and what it remembers.
const MOVING: &str = "optimizer/weights/";
const MEMORY: [&str; 2] = ["optimizer/first/", "optimizer/second/"];

pub(super) fn save(model: &Model, path: &Path) -> Result<()> {
    let header = Header {
        format_version: FORMAT_VERSION,
        cellsparse_version: env!("CARGO_PKG_VERSION").into(),
        architecture: model.architecture.clone(),
        normalization: model.normalization,
        scale: model.scale.factor,
        scale_by_image: model.scale.by_image,
        thresholds: model.thresholds,
        history: model.history.thinned(),
        optimizer: model.state.as_ref().map(|state| OptimizerHeader {
            steps: state.optimizer.steps(),
            batches: state.batches,
            memory: state.optimizer.memory().len(),
            carried: state.carried,
        }),
        weights_hash: hash(&model.weights),
        untrained: model.untrained,
        seen: model.seen,
    };
    let json = serde_json::to_string(&header).map_err(|error| Error::Internal(format!("model header: {error}")))?;
    let mut arrays: Vec<(String, &[usize], &[f32])> = Vec::new();
    for parameter in model.weights.parameters() {
        arrays.push((parameter.spec.name.clone(), &parameter.spec.shape, &parameter.values));
    }
    if let Some(state) = &model.state {
        let memory = state.optimizer.memory();
        for (index, parameter) in state.weights.parameters().iter().enumerate() {
            let sets = memory.iter().map(|set| &set[index]);
            for (prefix, values) in [MOVING].iter().chain(&MEMORY).zip([&parameter.values].into_iter().chain(sets)) {
                arrays.push((format!("{prefix}{}", parameter.spec.name), &parameter.spec.shape, values));
            }
        }
    }
    write_tensors(path, arrays, json)
}

pub(super) fn load(path: &Path) -> Result<Model> {
    let (mut arrays, json) = read_tensors(path)?;
    let version: serde_json::Value =
        serde_json::from_str(&json).map_err(|error| Error::file(path, format!("its configuration: {error}")))?;
    let version = version.get("format_version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version != u64::from(FORMAT_VERSION) {
        return Err(Error::file(
            path,
            format!("format version {version}; this build reads version {FORMAT_VERSION}. Use a newer cellsparse"),
        ));
    }
    let header: Header =
        serde_json::from_str(&json).map_err(|error| Error::file(path, format!("its configuration: {error}")))?;
    let in_file = |error: Error| Error::file(path, error.to_string());
    header.architecture.check().map_err(in_file)?;
    if header.thresholds.algorithm() != header.architecture.algorithm() {
        return Err(in_file(header.thresholds.misplaced(header.architecture.algorithm())));
    }
    header.thresholds.check().map_err(in_file)?;
    header.normalization.check().map_err(in_file)?;
    if !(0.01..=100.0).contains(&header.scale) {
        return Err(Error::file(path, format!("its scale is {}; it must lie between 0.01 and 100", header.scale)));
    }
    let graph = Arc::new(header.architecture.graph());
    let moving = take_prefixed(&mut arrays, MOVING);
    let memory: Vec<NamedArrays> = MEMORY.iter().map(|prefix| take_prefixed(&mut arrays, prefix)).collect();
    let weights = Weights::from_named(&graph, arrays).map_err(in_file)?;
    if hash(&weights) != header.weights_hash {
        return Err(Error::file(path, "its weights do not match their checksum; the file is damaged"));
    }
    let state = match header.optimizer {
        Some(OptimizerHeader { steps, batches, memory: sets, carried }) => {
            let weights = Weights::from_named(&graph, moving).map_err(in_file)?;
            let mut stored = Vec::new();
            for arrays in memory.into_iter().take(sets) {
                let set = Weights::from_named(&graph, arrays).map_err(in_file)?;
                stored.push(set.parameters().iter().map(|p| p.values.clone()).collect());
            }
            let optimizer = Optimizer::restore(&weights, steps, stored).map_err(in_file)?;
            Some(TrainingState { weights, optimizer, batches, carried })
        }
        None => None,
    };
    let mut model = Model::from_parts(header.architecture, graph, weights);
    model.normalization = header.normalization;
    model.scale = WorkingScale { factor: header.scale, by_image: header.scale_by_image };
    model.thresholds = header.thresholds;
    model.history = header.history;
    model.state = state;
    model.untrained = header.untrained;
    model.seen = header.seen;
    Ok(model)
}

fn take_prefixed(arrays: &mut NamedArrays, prefix: &str) -> NamedArrays {
    let names: Vec<String> = arrays.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    names.into_iter().filter_map(|name| Some((name[prefix.len()..].to_string(), arrays.remove(&name)?))).collect()
}

fn hash(weights: &Weights) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for parameter in weights.parameters() {
        parameter.spec.name.bytes().for_each(&mut feed);
        parameter.values.iter().for_each(|value| value.to_le_bytes().into_iter().for_each(&mut feed));
    }
    format!("{state:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_with_and_without_the_name_of_the_algorithm() {
        #[derive(Deserialize)]
        struct Part {
            #[serde(deserialize_with = "stored_thresholds")]
            thresholds: Thresholds,
        }
        let read = |json: &str| serde_json::from_str::<Part>(json).map(|part| part.thresholds);
        let star = StarThresholds { prob: 0.25, nms: 0.5, smallest_object: 7.0 };
        let plain = r#"{"thresholds": {"prob": 0.25, "nms": 0.5, "smallest_object": 7}}"#;
        assert_eq!(read(plain).unwrap(), Thresholds::Stardist(star));
        let named = serde_json::json!({ "thresholds": Thresholds::Stardist(star) }).to_string();
        assert_eq!(read(&named).unwrap(), Thresholds::Stardist(star));
        assert!(read(r#"{"thresholds": {"prob": 0.25}}"#).is_err());
    }
}
