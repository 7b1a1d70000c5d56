//! Models from those of the StarDist package.

use std::collections::HashMap;

use serde::Deserialize;

use super::facade::Model;
use super::normalization::Normalization;
use super::stardist::StarThresholds;
use super::working_scale::WorkingScale;
use crate::error::{Error, Result};
use crate::formats::stardist_model::{StarDistModel, StoredThresholds};
use crate::formats::tensors::NamedArrays;
use crate::networks::{Graph, Op, StarDistConfig};

impl Model {
    /// The model that one of the StarDist package (2-D, U-Net) is, and what a person should know of it.
    ///
    /// Images are scaled by the percentiles that the model tells (packages of bioimage.io do), otherwise by 1 and 99.8, as the
    /// examples of the StarDist package do. Layers that Keras numbers as it makes them are taken in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that no network here has, [`Error::Weights`] when the weights are not those of the
    /// configuration.
    pub fn from_stardist(found: StarDistModel) -> Result<(Self, Vec<String>)> {
        let config = architecture(found.config)?;
        let mut notes = found.weights.notes.clone();
        let graph = config.unprefixed.graph();
        let names = Names::of(&graph, &config.prefix, found.weights.arrays.iter().map(|array| array.name.as_str()))?;
        let mut arrays = NamedArrays::new();
        for array in found.weights.arrays {
            arrays.insert(names.of_graph(&array.name), (array.shape, array.values));
        }
        let fitted = Self::with_weights(config.unprefixed, arrays);
        let mut model = fitted.map_err(|error| match error {
            Error::Weights(reason) => {
                Error::Weights(format!("{reason}; config.json is not that of these weights, or one of them is damaged"))
            }
            other => other,
        })?;
        if config.dropout {
            notes.push("the dropout of its training is left out; it has no part in predictions".to_string());
        }
        if found.thresholds.is_none() && found.facts.is_none() {
            notes.push(
                "there is no thresholds.json; probability 0.5 and overlap 0.4 are taken, as the package does".into(),
            );
        }
        furnish(&mut model, found.thresholds, found.percentiles, found.facts, &mut notes)?;
        Ok((model, notes))
    }
}

/// Gives a network what stands beside its weights: thresholds, percentiles that become 0 and 1, and what this library wrote.
pub(super) fn furnish(
    model: &mut Model,
    thresholds: Option<StoredThresholds>,
    percentiles: Option<[f64; 2]>,
    facts: Option<serde_json::Value>,
    notes: &mut Vec<String>,
) -> Result<()> {
    let own = facts.map(Facts::read).transpose()?.unwrap_or_default();
    let told = percentiles.map(|[pmin, pmax]| Normalization { pmin, pmax });
    match told.or(own.normalization) {
        Some(normalization) => model.set_normalization(normalization)?,
        None => notes.push(
            "the model does not tell how images were scaled for it; percentiles 1 and 99.8 are taken, as the examples of \
             StarDist do"
                .to_string(),
        ),
    }
    let written = own.thresholds.stardist;
    if let Some(stored) = thresholds {
        // The package takes its defaults in place of values out of range. Its file may be newer than that of this library.
        let usable = |value: f32, usual: f32| if value > 0.0 && value < 1.0 { value } else { usual };
        let usual = StarThresholds::default();
        let smallest_object = written.map_or(0.0, |written| written.smallest_object);
        let (prob, nms) = (usable(stored.prob, usual.prob), usable(stored.nms, usual.nms));
        let thresholds = StarThresholds { prob, nms, smallest_object };
        model.set_thresholds(thresholds.into())?;
    } else if let Some(written) = written {
        model.set_thresholds(written.into())?;
    }
    own.give(model)
}

/// What a folder that this library wrote says beyond what the package has a place for; see [`Model::facts`].
#[derive(Debug, Default, Deserialize)]
struct Facts {
    #[serde(default)]
    normalization: Option<Normalization>,
    #[serde(default)]
    pixel_size: Option<[f64; 2]>,
    #[serde(default)]
    scale: Option<WorkingScale>,
    #[serde(default)]
    thresholds: OwnThresholds,
}

#[derive(Debug, Default, Deserialize)]
struct OwnThresholds {
    #[serde(default)]
    stardist: Option<StarThresholds>,
}

impl Facts {
    fn read(facts: serde_json::Value) -> Result<Self> {
        serde_json::from_value(facts)
            .map_err(|error| Error::Config(format!("cellsparse.json is not what this library wrote: {error}")))
    }

    /// Gives a model all but the scaling of intensities.
    fn give(self, model: &mut Model) -> Result<()> {
        if self.pixel_size.is_some() {
            model.set_pixel_size(self.pixel_size)?;
        }
        if let Some(scale) = self.scale {
            scale.check().map_err(Error::Config)?;
            model.network.scale = scale;
        }
        Ok(())
    }
}

/// The fields of `config.json` that shape the network; those that are absent have the defaults of the package.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Stored {
    n_dim: usize,
    n_channel_in: usize,
    n_rays: usize,
    grid: Vec<usize>,
    n_classes: Option<usize>,
    backbone: String,
    unet_n_depth: usize,
    unet_kernel_size: Vec<usize>,
    unet_n_filter_base: usize,
    unet_n_conv_per_depth: usize,
    unet_pool: Vec<usize>,
    unet_activation: String,
    unet_last_activation: String,
    unet_batch_norm: bool,
    unet_dropout: f64,
    unet_expansion: f64,
    unet_prefix: String,
    net_conv_after_unet: usize,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            n_dim: 2,
            n_channel_in: 1,
            n_rays: 32,
            grid: vec![1, 1],
            n_classes: None,
            backbone: "unet".into(),
            unet_n_depth: 3,
            unet_kernel_size: vec![3, 3],
            unet_n_filter_base: 32,
            unet_n_conv_per_depth: 2,
            unet_pool: vec![2, 2],
            unet_activation: "relu".into(),
            unet_last_activation: "relu".into(),
            unet_batch_norm: false,
            unet_dropout: 0.0,
            unet_expansion: 2.0,
            unet_prefix: String::new(),
            net_conv_after_unet: 128,
        }
    }
}

/// A configuration of the package in terms of this library.
struct Configured {
    unprefixed: StarDistConfig,
    /// What the names of the U-Net's layers begin with.
    prefix: String,
    dropout: bool,
}

fn architecture(config: serde_json::Value) -> Result<Configured> {
    let no_config =
        |reason: &dyn std::fmt::Display| Error::Config(format!("not a configuration of StarDist: {reason}"));
    if !config.as_object().is_some_and(|fields| fields.contains_key("n_rays") || fields.contains_key("rays_json")) {
        return Err(no_config(&"it has no n_rays"));
    }
    if config.get("n_dim").and_then(serde_json::Value::as_u64) == Some(3) {
        return Err(Error::Config("a model of StarDist for volumes (n_dim 3); networks here are 2-D".into()));
    }
    let stored: Stored = serde_json::from_value(config.clone()).map_err(|error| match misfit(&config) {
        Some((field, error)) => no_config(&format!("its {field}: {error}")),
        None => no_config(&error),
    })?;
    let refused = |field: &str, found: &dyn std::fmt::Debug, wanted: &str| {
        Err(Error::Config(format!("a network of StarDist with {field} {found:?}; networks here have {wanted}")))
    };
    if stored.n_dim != 2 {
        return refused("n_dim", &stored.n_dim, "2");
    }
    if stored.backbone != "unet" {
        return refused("the backbone", &stored.backbone, "a U-Net");
    }
    if stored.unet_kernel_size != [3, 3] {
        return refused("unet_kernel_size", &stored.unet_kernel_size, "[3, 3]");
    }
    if stored.unet_pool != [2, 2] {
        return refused("unet_pool", &stored.unet_pool, "[2, 2]");
    }
    if stored.unet_expansion != 2.0 {
        return refused("unet_expansion", &stored.unet_expansion, "2");
    }
    for (field, found) in
        [("unet_activation", &stored.unet_activation), ("unet_last_activation", &stored.unet_last_activation)]
    {
        if found != "relu" {
            return refused(field, found, "relu");
        }
    }
    let grid = <[usize; 2]>::try_from(stored.grid.as_slice());
    let unprefixed = StarDistConfig {
        n_channels: stored.n_channel_in,
        n_rays: stored.n_rays,
        grid: grid.map_err(|_| no_config(&format!("its grid is {:?}, not two numbers", stored.grid)))?,
        n_filter_base: stored.unet_n_filter_base,
        n_depth: stored.unet_n_depth,
        n_conv_per_depth: stored.unet_n_conv_per_depth,
        net_conv_after_unet: stored.net_conv_after_unet,
        batch_norm: stored.unet_batch_norm,
        n_classes: stored.n_classes,
    };
    unprefixed.check()?;
    Ok(Configured { unprefixed, prefix: stored.unet_prefix, dropout: stored.unet_dropout > 0.0 })
}

/// The first field that is of another type than the package has there, and what is wrong with it.
fn misfit(config: &serde_json::Value) -> Option<(&String, serde_json::Error)> {
    config.as_object()?.iter().find_map(|(field, value)| {
        let alone = serde_json::Value::Object([(field.clone(), value.clone())].into_iter().collect());
        Some((field, serde_json::from_value::<Stored>(alone).err()?))
    })
}

/// Layers that Keras names by their kind and a number.
const NUMBERED: [&str; 2] = ["conv2d", "batch_normalization"];

/// The names of the layers of a graph by those of a file.
struct Names(HashMap<String, (String, &'static [&'static str])>);

/// The arrays of a layer in the order of their numbers.
const OF_CONVOLUTION: &[&str] = &["kernel", "bias"];
const OF_NORMALISATION: &[&str] = &["gamma", "beta", "moving_mean", "moving_variance"];

impl Names {
    fn of<'n>(graph: &Graph, prefix: &str, arrays: impl Iterator<Item = &'n str>) -> Result<Self> {
        let mut layers: Vec<&str> = Vec::new();
        let mut only_numbers = true;
        for name in arrays {
            let (layer, part) = name.rsplit_once('/').unwrap_or((name, ""));
            only_numbers &= part.parse::<usize>().is_ok();
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        let is_stardist = layers.contains(&"prob") && layers.contains(&"dist");
        if !only_numbers && !is_stardist {
            let shown: Vec<String> = layers.iter().take(4).map(|layer| format!("'{layer:.60}'")).collect();
            return Err(Error::Weights(format!(
                "layers {}{} that are not those of a network of StarDist, which has 'prob' and 'dist'",
                shown.join(", "),
                if layers.len() > 4 { ", ..." } else { "" }
            )));
        }
        let mut names = HashMap::new();
        for (kind, parts) in NUMBERED.into_iter().zip([OF_CONVOLUTION, OF_NORMALISATION]) {
            let mut found: Vec<(usize, &str)> =
                layers.iter().filter_map(|layer| Some((number(layer, kind)?, *layer))).collect();
            found.sort_unstable();
            let own = if only_numbers { in_order(graph, kind) } else { numbered_nodes(graph, kind) };
            for ((_, layer), own) in found.into_iter().zip(own) {
                names.insert(layer.to_string(), (own, parts));
            }
        }
        for layer in layers {
            let plain = layer.strip_prefix(prefix).unwrap_or(layer);
            if !names.contains_key(layer) && graph.nodes().iter().any(|node| node.name == plain) {
                names.insert(layer.to_string(), (plain.to_string(), OF_CONVOLUTION));
            }
        }
        Ok(Self(names))
    }

    /// The name of an array in the graph; what the graph does not have keeps its name.
    fn of_graph(&self, name: &str) -> String {
        let (layer, part) = name.rsplit_once('/').unwrap_or((name, ""));
        let Some((own, parts)) = self.0.get(layer) else { return name.to_string() };
        let part = part.parse::<usize>().ok().and_then(|index| parts.get(index).copied()).unwrap_or(part);
        format!("{own}/{part}")
    }
}

/// The number of a layer of a kind, which is 0 for the first one, without a number.
fn number(layer: &str, kind: &str) -> Option<usize> {
    let rest = layer.strip_prefix(kind)?;
    if rest.is_empty() { Some(0) } else { rest.strip_prefix('_')?.parse().ok() }
}

/// The nodes of a graph that Keras numbers, in their order.
fn numbered_nodes(graph: &Graph, kind: &str) -> Vec<String> {
    graph.nodes().iter().filter(|node| number(&node.name, kind).is_some()).map(|node| node.name.clone()).collect()
}

/// The convolutions or normalisations of a graph in the order of Keras: by distance from the outputs, then as they were made.
fn in_order(graph: &Graph, kind: &str) -> Vec<String> {
    let of_kind = graph.nodes().iter().filter(|node| match node.op {
        Op::Conv { .. } => kind == "conv2d",
        Op::Norm { .. } => kind == "batch_normalization",
        _ => false,
    });
    let mut names: Vec<String> = of_kind.map(|node| node.name.clone()).collect();
    names.sort_by_key(|name| distance_from_input(name));
    names
}

/// Where a layer stands among those of Keras, which orders them by their distance from the outputs, then as they were made: both
/// maps of features lie at one distance, before all heads.
pub(super) fn distance_from_input(layer: &str) -> usize {
    match layer {
        "features" => 1,
        "features_class" => 2,
        "prob" => 3,
        "dist" => 4,
        "prob_class" => 5,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::formats::pytorch::{NamedArray, StateDict};

    fn model(config: serde_json::Value, rename: impl Fn(&str) -> String) -> Result<(Model, Vec<String>)> {
        let own =
            StarDistConfig { n_rays: 4, n_filter_base: 2, n_depth: 1, net_conv_after_unet: 2, ..Default::default() };
        let weights = Model::stardist(own, 5).unwrap();
        let arrays = weights.weights().parameters().iter().map(|parameter| NamedArray {
            name: rename(&parameter.spec.name),
            shape: parameter.spec.shape.clone(),
            values: parameter.values.clone(),
        });
        let weights = StateDict { arrays: arrays.collect(), notes: vec![] };
        Model::from_stardist(StarDistModel { config, thresholds: None, percentiles: None, facts: None, weights })
    }

    fn config() -> serde_json::Value {
        json!({"n_rays": 4, "grid": [2, 2], "unet_n_filter_base": 2, "unet_n_depth": 1, "net_conv_after_unet": 2, "use_gpu": false})
    }

    #[test]
    fn layers_are_found_by_name_and_those_that_keras_numbers_by_their_order() {
        let own =
            StarDistConfig { n_rays: 4, n_filter_base: 2, n_depth: 1, net_conv_after_unet: 2, ..Default::default() };
        let expected = Model::stardist(own, 5).unwrap();
        let (plain, notes) = model(config(), str::to_string).unwrap();
        assert_eq!(plain.weights(), expected.weights());
        assert!(notes.iter().any(|note| note.contains("99.8")));
        assert!(notes.iter().any(|note| note.contains("no thresholds.json")), "{notes:?}");
        // The tenth and later convolution of a process.
        let later = |name: &str| name.replace("conv2d_1/", "conv2d_10/").replace("conv2d/", "conv2d_9/");
        assert_eq!(model(config(), later).unwrap().0.weights(), expected.weights());
        let mut prefixed = config();
        prefixed["unet_prefix"] = json!("net_");
        let named = |name: &str| if name.contains("level") { format!("net_{name}") } else { name.to_string() };
        assert_eq!(model(prefixed, named).unwrap().0.weights(), expected.weights());
    }

    #[test]
    fn other_networks_are_refused_by_what_differs() {
        for (field, value, said) in [
            ("n_dim", json!(3), "volumes"),
            ("backbone", json!("resnet"), "resnet"),
            ("unet_activation", json!("elu"), "elu"),
            ("unet_pool", json!([4, 4]), "unet_pool"),
            ("unet_kernel_size", json!([5, 5]), "[5, 5]"),
            ("grid", json!([3, 3]), "grid"),
            ("grid", json!([2]), "grid"),
            ("n_rays", json!("x"), "not a configuration"),
            ("n_rays", json!(5), "shape"),
            ("n_classes", json!(2), "features_class"),
        ] {
            let mut changed = config();
            changed[field] = value;
            let error = model(changed, str::to_string).unwrap_err().to_string();
            assert!(error.contains(said), "{field}: {error}");
        }
        let error = model(config(), |name| format!("other_{name}")).unwrap_err().to_string();
        assert!(error.contains("'other_conv2d'") && error.contains("StarDist"), "{error}");
        assert!(model(json!({"x": 1}), str::to_string).unwrap_err().to_string().contains("n_rays"));
    }
}
