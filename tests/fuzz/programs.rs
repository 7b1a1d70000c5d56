//! Damaged programs of TensorFlow, and weights of Keras that are written and read again.

use std::fs;
use std::path::{Path, PathBuf};

use cellsparse_core::formats::keras::decode_keras;
use cellsparse_core::formats::keras_writer::KerasWeights;
use cellsparse_core::formats::tensorflow::{TensorFlowModel, decode_frozen_graph, decode_saved_model};
use cellsparse_core::{Error, Model};
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
    let seeds = ["plain/frozen.pb", "plain/version_1.pb", "norm/frozen.pb"].map(bytes);
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
