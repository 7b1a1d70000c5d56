//! Damaged programs of TensorFlow and archives of models, and weights of Keras that are written and read again.

use std::fs;
use std::path::{Path, PathBuf};

use cellsparse_core::formats::keras::decode_keras;
use cellsparse_core::formats::keras_writer::KerasWeights;
use cellsparse_core::formats::tensorflow::{TensorFlowModel, decode_frozen_graph, decode_saved_model};
use cellsparse_core::networks::CellposeConfig;
use cellsparse_core::{Error, Model};
use cellsparse_tests::archive::{Entry, stored_entries, write_zip};
use cellsparse_tests::fixtures;

use crate::mutation::mutated;
use crate::{check_message, fuzz};

fn path(name: &str) -> PathBuf {
    fixtures().join("stardist/tensorflow").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

/// What is read of so many bytes is bounded, and becomes a model or is refused.
fn judge(found: Result<TensorFlowModel, Error>, length: usize) -> Result<bool, String> {
    let found = match found {
        Ok(found) => found,
        Err(error) => return check_message(&error).map(|()| false),
    };
    if found.layers.len() > length {
        return Err(format!("{} layers from {length} bytes", found.layers.len()));
    }
    match Model::from_tensorflow(found) {
        Ok((model, _)) if model.weights().count() > 4 * length + (1 << 18) => {
            Err(format!("{} weights from {length} bytes", model.weights().count()))
        }
        Ok(_) => Ok(true),
        Err(error) => check_message(&error).map(|()| false),
    }
}

#[test]
fn frozen_graphs_are_read_or_refused() {
    let norms = ["norm/frozen.pb", "norm/version_1_fused.pb", "norm/version_1_plain.pb", "norm/version_1_folded.pb"];
    let seeds = [["plain/frozen.pb", "plain/version_1.pb"].map(bytes).to_vec(), norms.map(bytes).to_vec()].concat();
    fuzz("frozen graph", 200, |random| {
        let bytes = mutated(random, &seeds);
        judge(decode_frozen_graph(&bytes, Path::new("a.pb")), bytes.len())
    });
}

#[test]
fn saved_models_are_read_or_refused() {
    let parts = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"];
    let parts = parts.map(|part| bytes(&format!("plain/version_1/{part}")));
    fuzz("saved model", 200, |random| {
        let mut parts = parts.clone();
        let changed = random.below(3);
        parts[changed] = mutated(random, &[parts[changed].clone()]);
        let [description, index, data] = &parts;
        let variables = if random.chance(0.95) { Some([&index[..], &data[..]]) } else { None };
        let length = parts.iter().map(Vec::len).sum();
        judge(decode_saved_model(description, variables, Path::new("a")), length)
    });
}

/// Archives of every program, each with its entries.
fn archives(folder: &Path) -> Vec<Vec<Entry>> {
    let files = |parts: &[(&str, PathBuf)]| -> Vec<Entry> {
        parts.iter().map(|(name, path)| (name.to_string(), fs::read(path).unwrap())).collect()
    };
    let program = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"];
    let keras = |name: &str| fixtures().join("stardist/keras2").join(name);
    let mut archives = vec![
        files(&program.map(|part| (part, path("plain/version_1").join(part)))),
        files(&["config.json", "thresholds.json", "weights_best.h5"].map(|part| (part, keras(part)))),
    ];
    let described = format!(
        "type: model\nconfig:\n  stardist:\n    weights: weights_best.h5\n    config: {}\n",
        fs::read_to_string(keras("config.json")).unwrap()
    );
    let weights = fs::read(keras("weights_best.h5")).unwrap();
    archives.push(vec![("rdf.yaml".into(), described.into_bytes()), ("weights_best.h5".into(), weights)]);
    // Of early versions of the package, whose configuration is that of the program.
    let early = "type: model\nweights:\n  tensorflow_saved_model_bundle: {source: TF_SavedModel.zip}\nconfig:\n  stardist:\n    \
         thresholds: {nms: 0.25, prob: 0.479}\n";
    let program = fs::read(path("plain/TF_SavedModel.zip")).unwrap();
    archives.push(vec![("rdf.yaml".into(), early.into()), ("TF_SavedModel.zip".into(), program)]);
    let star = Model::import(path("plain"), None).unwrap().model;
    let cells = CellposeConfig { widths: vec![2, 4], ..Default::default() };
    let cells = Model::cellpose(cells, 0).unwrap();
    for (model, name) in [(&star, "a_SavedModel.zip"), (&star, "a.zip"), (&cells, "b.zip"), (&cells, "b.pth")] {
        model.export(folder.join(name)).unwrap();
        archives.push(stored_entries(&fs::read(folder.join(name)).unwrap()));
    }
    archives
}

#[test]
fn archives_of_models_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let archives = archives(folder.path());
    let file = folder.path().join("model.zip");
    fuzz("archive", 200, |random| {
        let mut entries = archives[random.below(archives.len())].clone();
        let whole = random.chance(0.3);
        let within: usize = entries.iter().map(|(_, content)| content.len()).sum();
        if !whole {
            // Checksums are right, so that what is within is looked at.
            let changed = random.below(entries.len());
            entries[changed].1 = mutated(random, &[entries[changed].1.clone()]);
            if random.chance(0.1) {
                let name = mutated(random, &[entries[changed].0.clone().into_bytes()]);
                entries[changed].0 = String::from_utf8_lossy(&name).into_owned();
            }
        }
        let mut bytes = Vec::new();
        write_zip(&mut bytes, &entries, random.chance(0.5)).map_err(|error| error.to_string())?;
        if whole {
            bytes = mutated(random, &[bytes]);
        }
        fs::write(&file, &bytes).map_err(|error| error.to_string())?;
        match Model::import(&file, None) {
            Ok(found) if found.model.weights().count() > 16 * within + (1 << 18) => {
                Err(format!("{} weights from {within} bytes", found.model.weights().count()))
            }
            Ok(_) => Ok(true),
            Err(error) => check_message(&error).map(|()| false),
        }
    });
}

#[test]
fn weights_of_keras_are_written_and_read_again() {
    fuzz("written weights of Keras", 50, |random| {
        let count = random.below(80);
        let mut layers: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for number in 0..=count {
            let shape: Vec<usize> = (0..random.below(5)).map(|_| 1 + random.below(5)).collect();
            let values = (0..shape.iter().product()).map(|_| f32::from_bits(random.below(1 << 31) as u32)).collect();
            layers.push((format!("{}layer_{number}", "x".repeat(random.below(40))), shape, values));
        }
        let mut weights = KerasWeights::default();
        for (name, shape, values) in &layers {
            weights.layer(name, [("kernel", &shape[..], &values[..])]);
        }
        let mut bytes = Vec::new();
        weights.write(&mut bytes).map_err(|error| error.to_string())?;
        let found = decode_keras(bytes, Path::new("a.h5")).map_err(|error| error.to_string())?.into_named_arrays();
        let same = |(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
            found.get(&format!("{name}/kernel")).is_some_and(|(other, read)| {
                other == shape
                    && read.iter().map(|value| value.to_bits()).eq(values.iter().map(|value| value.to_bits()))
            })
        };
        if found.len() == layers.len() && layers.iter().all(same) { Ok(true) } else { Err("other arrays".into()) }
    });
}
