//! Models as folders of the StarDist package.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::facade::Model;
use super::foreign_stardist::distance_from_input;
use crate::error::{Error, Result};
use crate::formats::keras_writer::KerasWeights;
use crate::formats::stardist_model::{CONFIG, FACTS, THRESHOLDS, WEIGHTS};
use crate::networks::{Graph, NodeId, StarDistConfig};
use crate::raster::write_atomically;

impl Model {
    /// Writes the model as a folder of the StarDist package (0.9, with Keras 2 or 3): `config.json`, `thresholds.json`,
    /// `weights_best.h5`, and `cellsparse.json` with what the package has no place for, which [`import`](Self::import) reads. The folder
    /// is made if it is not there; one that holds other files is left alone. Every file is written atomically, `config.json` last.
    ///
    /// # Errors
    /// [`Error::Weights`] for a network that is none of StarDist; [`Error::File`] for a folder with other files; [`Error::Io`],
    /// [`Error::NotFound`].
    pub fn save_stardist(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let (config, [prob, nms]) = self.package_form()?;
        let is_new = prepare(folder)?;
        let written = self.write_folder(folder, &config, [prob, nms]);
        if written.is_err() && is_new {
            // What is left of a folder that was made here is of use to nobody, and the error says why.
            let _ = fs::remove_dir_all(folder);
        }
        written
    }

    fn write_folder(&self, folder: &Path, config: &StarDistConfig, [prob, nms]: [f32; 2]) -> Result<()> {
        let path = folder.join(WEIGHTS);
        let weights = self.keras_weights();
        write_atomically(&path, |writer| weights.write(writer).map_err(|source| Error::io(&path, source)))?;
        let thresholds = json!({"prob": shortest(prob), "nms": shortest(nms)});
        for (name, value) in [(THRESHOLDS, thresholds), (FACTS, self.facts()), (CONFIG, package_config(config))] {
            let path = folder.join(name);
            let text = serde_json::to_vec(&value).map_err(|error| Error::Internal(format!("{name}: {error}")))?;
            write_atomically(&path, |writer| {
                std::io::Write::write_all(writer, &text).map_err(|source| Error::io(&path, source))
            })?;
        }
        Ok(())
    }

    /// The architecture and the thresholds, probability and overlap, in terms of the StarDist package.
    ///
    /// # Errors
    /// [`Error::Weights`] for networks of other algorithms.
    pub(super) fn package_form(&self) -> Result<(StarDistConfig, [f32; 2])> {
        let form = self.settings()?.stardist_form();
        form.ok_or_else(|| {
            Error::Weights(format!(
                "a model of {}; folders of StarDist (a name without ending, or /) and programs of TensorFlow (.pb, SavedModel.zip) are \
                 written of models of stardist alone. Give a name that ends in .pth, .onnx or .zip (bioimage.io)",
                self.algorithm()
            ))
        })
    }

    /// The weights, layers in the order in which Keras has those of the package.
    fn keras_weights(&self) -> KerasWeights<'_> {
        let graph = &self.network.graph;
        let parameters = self.network.weights.parameters();
        let first = graph.parameter_offsets();
        let mut weights = KerasWeights::default();
        for id in keras_order(graph) {
            let count = graph.node_parameters(id).len();
            let own = parameters.iter().skip(first[id]).take(count).map(|parameter| {
                let part = parameter.spec.name.rsplit('/').next().unwrap_or_default();
                (part, parameter.spec.shape.as_slice(), parameter.values.as_slice())
            });
            weights.layer(&graph.nodes()[id].name, own);
        }
        weights
    }
}

/// The nodes of a graph with parameters in the order of the layers of Keras.
fn keras_order(graph: &Graph) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = (0..graph.nodes().len()).filter(|&id| !graph.node_parameters(id).is_empty()).collect();
    ids.sort_by_key(|&id| distance_from_input(&graph.nodes()[id].name));
    ids
}

/// Makes the folder and says whether it is new; one with files that no model of StarDist has is refused.
fn prepare(folder: &Path) -> Result<bool> {
    let failed = |source| Error::io(folder, source);
    // A slash at the end would hide a file.
    if fs::metadata(folder.components().as_path()).is_ok_and(|found| !found.is_dir()) {
        let reason = "is a file, and a name without ending is that of a folder of the StarDist package; give another name, or one that \
                      ends in .onnx, .zip or .pb";
        return Err(Error::file(folder, reason));
    }
    if !folder.is_dir() {
        fs::create_dir(folder).map_err(failed)?;
        return Ok(true);
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if ![CONFIG, THRESHOLDS, WEIGHTS, FACTS].iter().any(|own| name == *own) {
            let reason = format!("the folder holds '{:.60}'; give the name of a new one", name.to_string_lossy());
            return Err(Error::file(folder, reason));
        }
    }
    Ok(false)
}

/// The number as it is written with the fewest digits, not as the 64-bit float next to it.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// The content of `config.json` of version 0.9.2 of the package: the network, and the package's settings for a training.
/// `unet_expansion` is left out, as versions before 0.9 refuse what they do not know; where it is absent it is 2.
fn package_config(config: &StarDistConfig) -> Value {
    let divisor = config.graph().divisor();
    let patch = divisor.map(|side| 256_usize.next_multiple_of(side.max(1)));
    let (losses, classes) = match config.n_classes {
        None => (vec![1.0, 0.2], 2),
        Some(classes) => (vec![1.0, 0.2, 1.0], classes + 1),
    };
    let network = json!({
        "n_dim": 2,
        "axes": "YXC",
        "n_channel_in": config.n_channels,
        "n_channel_out": 1 + config.n_rays,
        "n_rays": config.n_rays,
        "grid": config.grid,
        "backbone": "unet",
        "n_classes": config.n_classes,
        "unet_n_depth": config.n_depth,
        "unet_kernel_size": [3, 3],
        "unet_n_filter_base": config.n_filter_base,
        "unet_n_conv_per_depth": config.n_conv_per_depth,
        "unet_pool": [2, 2],
        "unet_activation": "relu",
        "unet_last_activation": "relu",
        "unet_batch_norm": config.batch_norm,
        "unet_dropout": 0.0,
        "unet_prefix": "",
        "net_conv_after_unet": config.net_conv_after_unet,
        "net_input_shape": [null, null, config.n_channels],
        "net_mask_shape": [null, null, 1],
        "use_gpu": false,
    });
    let training = json!({
        "train_checkpoint": "weights_best.h5",
        "train_checkpoint_last": "weights_last.h5",
        "train_checkpoint_epoch": "weights_now.h5",
        "train_shape_completion": false,
        "train_completion_crop": 32,
        "train_patch_size": patch,
        "train_background_reg": 1e-4,
        "train_foreground_only": 0.9,
        "train_sample_cache": true,
        "train_dist_loss": "mae",
        "train_loss_weights": losses,
        "train_class_weights": vec![1; classes],
        "train_epochs": 400,
        "train_steps_per_epoch": 100,
        "train_learning_rate": 3e-4,
        "train_batch_size": 4,
        "train_n_val_patches": null,
        "train_tensorboard": true,
        "train_reduce_lr": {"factor": 0.5, "patience": 40, "min_delta": 0},
    });
    let fields = [network, training].into_iter().filter_map(|part| part.as_object().cloned()).flatten();
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Normalization, StarThresholds};
    use crate::networks::CellposeConfig;

    fn small() -> StarDistConfig {
        StarDistConfig { n_rays: 5, n_filter_base: 2, n_depth: 2, net_conv_after_unet: 3, ..Default::default() }
    }

    #[test]
    fn a_folder_gives_the_model_back() {
        let folder = tempfile::tempdir().unwrap();
        let configs = [
            small(),
            StarDistConfig { grid: [1, 4], n_channels: 3, n_classes: Some(2), ..small() },
            StarDistConfig { batch_norm: true, n_conv_per_depth: 1, net_conv_after_unet: 0, ..small() },
            StarDistConfig { batch_norm: true, n_conv_per_depth: 3, n_classes: Some(1), ..small() },
        ];
        for (number, config) in configs.into_iter().enumerate() {
            let path = folder.path().join(number.to_string());
            let mut model = Model::stardist(config, 3).unwrap();
            model.set_normalization(Normalization { pmin: 2.0, pmax: 99.0 }).unwrap();
            model.set_thresholds(StarThresholds { prob: 0.35, nms: 0.3, smallest_object: 12.0 }.into()).unwrap();
            model.set_pixel_size(Some([0.25, 0.5])).unwrap();
            model.network.scale.factor = 0.5;
            for _ in 0..2 {
                model.save_stardist(&path).unwrap();
            }
            let again = Model::import(&path, None).unwrap().model;
            assert!(again.weights() == model.weights() && again.architecture() == model.architecture());
            assert_eq!((again.thresholds(), again.normalization()), (model.thresholds(), model.normalization()));
            assert_eq!((again.network.scale, again.pixel_size), (model.network.scale, model.pixel_size));
            let text = fs::read_to_string(path.join(THRESHOLDS)).unwrap();
            assert_eq!(text, r#"{"nms":0.3,"prob":0.35}"#);
        }
    }

    #[test]
    fn layers_stand_in_the_order_of_keras() {
        let graph = StarDistConfig { n_classes: Some(2), batch_norm: true, ..small() }.graph();
        let names: Vec<&str> = keras_order(&graph).into_iter().map(|id| graph.nodes()[id].name.as_str()).collect();
        let place = |name: &str| names.iter().position(|other| *other == name).unwrap();
        assert!(place("down_level_0_no_0") + 1 == place("batch_normalization"));
        assert_eq!(names[names.len() - 5..], ["features", "features_class", "prob", "dist", "prob_class"]);
    }

    #[test]
    fn other_networks_and_folders_with_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let cellpose = Model::cellpose(CellposeConfig { widths: vec![4, 8], ..Default::default() }, 0).unwrap();
        let error = cellpose.save_stardist(&path).unwrap_err();
        assert!(matches!(&error, Error::Weights(reason) if reason.contains("cellpose")), "{error}");
        assert!(!path.exists());
        let model = Model::stardist(small(), 0).unwrap();
        fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        let error = model.save_stardist(folder.path()).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");
        assert!(matches!(model.save_stardist(path.join("deep/deeper")), Err(Error::NotFound { .. })));
    }
}
