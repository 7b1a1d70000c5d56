//! Model files: what an earlier version wrote is read, what was changed is refused, and what is written can be read.

use std::fs;

use cellsparse_core::annotations::{Dataset, SparseLabels};
use cellsparse_core::model::{Preset, Start, TrainOptions};
use cellsparse_core::networks::{CellposeConfig, ElephantConfig};
use cellsparse_core::{ControlFlow, Error, Image, Model, PredictOptions, Reason, StarDistConfig};
use cellsparse_tests::fixtures;
use ndarray::Array2;

/// 16 square cells, as the files of version 1 were trained on.
fn data() -> Dataset {
    let inside = |y: usize, x: usize| y % 16 < 13 && x % 16 < 13;
    let image = Array2::from_shape_fn((64, 64), |(y, x)| {
        ((if inside(y, x) { 150 } else { 20 }) + (y * 7 + x * 13) % 11) as f32
    });
    let labels = Array2::from_shape_fn((64, 64), |(y, x)| match (x < 16, inside(y, x)) {
        (true, _) => -1,
        (_, true) => (y / 16 * 4 + x / 16 + 1) as i32,
        _ => 0,
    });
    Dataset::new(vec![Image::from_gray(image)], vec![SparseLabels::from_signed(labels).unwrap()]).unwrap()
}

fn short(steps: usize) -> TrainOptions {
    TrainOptions {
        steps: Some(steps),
        batch_size: Some(1),
        patch_size: Some(32),
        start: Start::None,
        ..TrainOptions::default()
    }
}

#[test]
fn files_of_version_1_are_read_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    for (name, preset) in [("stardist", Preset::Default), ("cellpose", Preset::Reference)] {
        let old = fixtures().join(format!("models/version_1_{name}.safetensors"));
        let mut model = Model::load(&old).unwrap();
        assert_eq!((model.info().steps, model.info().resumable), (3, true));
        model.predict(&data().images()[0], &PredictOptions::default()).unwrap();
        let options = TrainOptions { resume: true, preset, ..short(2) };
        model.train(&data(), None, &options, &mut |_| ControlFlow::Continue).unwrap();
        let new = folder.path().join(name);
        model.save(&new).unwrap();
        let text = String::from_utf8_lossy(&fs::read(&new).unwrap()).into_owned();
        assert!(text.contains(r#"\"format_version\":2"#), "{text:.300}");
        let again = Model::load(&new).unwrap();
        assert_eq!((again.info().steps, again.weights()), (5, model.weights()));
        // Weights that were changed are noticed in files of either version.
        let mut bytes = fs::read(&old).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header] ^= 1;
        fs::write(&new, &bytes).unwrap();
        let error = Model::load(&new).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}

/// Models of few weights, trained for three steps, with what their training needs to go on.
fn small_models() -> [(&'static str, Model); 3] {
    let stardist =
        StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 4, net_conv_after_unet: 4, ..Default::default() };
    let mut models = [
        ("stardist", Model::stardist(stardist, 1).unwrap()),
        ("cellpose", Model::cellpose(CellposeConfig { widths: vec![2, 2], ..Default::default() }, 1).unwrap()),
        ("elephant", Model::elephant(ElephantConfig { widths: vec![2, 2], ..Default::default() }, 1).unwrap()),
    ];
    for (_, model) in &mut models {
        model.train(&data(), None, &short(3), &mut |_| ControlFlow::Continue).unwrap();
    }
    models
}

/// Files of a released format are kept for ever. `CELLSPARSE_WRITE_MODELS=1` writes those of a new version.
#[test]
fn files_of_version_2_are_read_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in small_models() {
        let old = fixtures().join(format!("models/version_2_{name}.safetensors"));
        if std::env::var_os("CELLSPARSE_WRITE_MODELS").is_some() && !old.exists() {
            model.save(&old).unwrap();
        }
        let text = String::from_utf8_lossy(&fs::read(&old).unwrap()).into_owned();
        assert!(text.contains(r#"\"format_version\":2"#), "{text:.300}");
        let mut model = Model::load(&old).unwrap();
        assert_eq!((model.algorithm().name(), model.info().steps, model.info().resumable), (name, 3, true));
        model.predict(&data().images()[0], &PredictOptions::default()).unwrap();
        model.train(&data(), None, &TrainOptions { resume: true, ..short(2) }, &mut |_| ControlFlow::Continue).unwrap();
        let new = folder.path().join(name);
        model.save(&new).unwrap();
        assert_eq!(Model::load(&new).unwrap().info().steps, 5);
    }
}

#[test]
fn a_file_with_one_changed_byte_is_refused() {
    let config =
        StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 4, net_conv_after_unet: 4, ..Default::default() };
    let mut model = Model::stardist(config, 1).unwrap();
    model.train(&data(), None, &short(3), &mut |_| ControlFlow::Continue).unwrap();
    let mut bytes = Vec::new();
    model.to_writer(&mut bytes).unwrap();
    assert_eq!(Model::from_reader(&bytes[..]).unwrap().weights(), model.weights());
    let mut accepted = Vec::new();
    for place in 0..bytes.len() {
        bytes[place] ^= 1;
        if Model::from_reader(&bytes[..]).is_ok() {
            accepted.push(place);
        }
        bytes[place] ^= 1;
    }
    assert_eq!(accepted, Vec::<usize>::new(), "of {} bytes", bytes.len());
}

/// The file of a model, and that with another text in its header, whose length stays what it is.
fn with(model: &Model, old: &str, new: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.to_writer(&mut bytes).unwrap();
    assert_eq!(old.len(), new.len());
    let place = bytes.windows(old.len()).position(|window| window == old.as_bytes()).expect("the text");
    bytes[place..place + old.len()].copy_from_slice(new.as_bytes());
    bytes
}

#[test]
fn what_is_said_beside_the_weights_counts_too() {
    let model = Model::elephant(ElephantConfig { widths: vec![2, 2], ..ElephantConfig::default() }, 1).unwrap();
    for (old, new) in [(r#"\"scale\":1.0"#, r#"\"scale\":1.5"#), (r#"\"pmin\":1.0"#, r#"\"pmin\":2.0"#)] {
        let error = Model::from_reader(&with(&model, old, new)[..]).unwrap_err();
        assert!(error.to_string().contains("checksum") && error.reason() == Some(&Reason::Damaged), "{error}");
    }
}

#[test]
fn histories_and_counters_are_checked() {
    let old = fs::read(fixtures().join("models/version_1_stardist.safetensors")).unwrap();
    let changed = |old_text: &str, new_text: &str| {
        let mut bytes = old.clone();
        let place = bytes.windows(old_text.len()).position(|window| window == old_text.as_bytes()).expect("the text");
        bytes[place..place + old_text.len()].copy_from_slice(new_text.as_bytes());
        Model::from_reader(&bytes[..]).unwrap_err().to_string()
    };
    // A file of version 1 has no checksum over these.
    let said = changed(r#"\"steps\":[1,2,3]"#, r#"\"steps\":[1,3,2]"#);
    assert!(said.contains("its history goes from step 3 to step 2"), "{said}");
    let said = changed(r#"\"steps\":[1,2,3]"#, r#"\"steps\":[1,  2]"#);
    assert!(said.contains("2 steps and 3 losses"), "{said}");
    let said = changed(r#"\"memory\":2"#, r#"\"memory\":9"#);
    assert!(said.contains("9 sets of moments"), "{said}");
}

#[test]
fn a_training_that_succeeds_leaves_a_model_that_can_be_read() {
    let models = [
        Model::stardist(
            StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 4, net_conv_after_unet: 4, ..Default::default() },
            1,
        ),
        Model::cellpose(CellposeConfig { widths: vec![2, 2], ..CellposeConfig::default() }, 1),
        Model::elephant(ElephantConfig { widths: vec![2, 2], ..ElephantConfig::default() }, 1),
    ];
    let mut ends = [0, 0];
    for mut model in models.map(Result::unwrap) {
        for preset in [Preset::Default, Preset::Reference] {
            for rate in [1e-3, 1.0, 100.0, 1e4] {
                let options = TrainOptions { preset, learning_rate: Some(rate), ..short(12) };
                let mut trained = model.clone();
                match trained.train(&data(), None, &options, &mut |_| ControlFlow::Continue) {
                    Ok(_) => {
                        let mut bytes = Vec::new();
                        trained.to_writer(&mut bytes).unwrap();
                        assert_eq!(Model::from_reader(&bytes[..]).unwrap().weights(), trained.weights());
                        ends[0] += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Diverged(_)), "{error}");
                        assert_eq!(trained.weights(), model.weights(), "the model is as it was");
                        ends[1] += 1;
                    }
                }
            }
        }
        model.reset(1);
    }
    assert!(ends[0] > 0 && ends[1] > 0, "both ends were met: {ends:?}");
}
