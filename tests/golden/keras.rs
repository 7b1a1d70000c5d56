//! Models of the StarDist package, written by it with Keras 2 and Keras 3, against what the package computes with them.

use std::fs;
use std::path::{Path, PathBuf};

use cellsparse_core::formats::foreign::WeightsKind;
use cellsparse_core::formats::keras::{decode_keras, read_keras};
use cellsparse_core::formats::stardist_model::read_stardist_model;
use cellsparse_core::model::{Model, StarThresholds, Thresholds, convert};
use cellsparse_core::networks::Method;
use cellsparse_tests::{Fixture, fixture, fixtures, shared};

use crate::network::{assert_close, outputs, sigmoid, softmax};

fn path(name: &str) -> PathBuf {
    fixtures().join("stardist").join(name)
}

fn imported(source: &Path) -> Model {
    Model::import(source, None).unwrap_or_else(|error| panic!("{error}")).model
}

/// The outputs of the imported network for the recorded input are those of the package.
fn check(model: &Model, recorded: &Fixture, name: &str) {
    let values = |part: &str| recorded.f32(&format!("{name}.a.{part}"));
    let input = values("input");
    let shape = [input.shape()[0], input.shape()[1], input.shape()[2]];
    let input: Vec<f32> = input.iter().copied().collect();
    let found = outputs(model.graph(), model.weights(), &input, shape, Method::Direct);
    let expected = |part: &str| values(part).iter().copied().collect::<Vec<f32>>();
    assert_close("prob", &sigmoid(&found[0]), &expected("prob"), 2e-6);
    assert_close("dist", &found[1], &expected("dist"), 2e-6);
    if let Some(classes) = found.get(2) {
        let channels = values("prob_class").shape()[3];
        assert_close("prob_class", &softmax(classes, channels), &expected("prob_class"), 2e-6);
    }
}

#[test]
fn folders_of_both_generations_compute_what_the_package_computes() {
    let recorded = fixture("stardist/keras");
    for name in ["keras2", "keras3", "keras3_numbered"] {
        assert_eq!(WeightsKind::of(path(name)).unwrap(), WeightsKind::StarDist);
        check(&imported(&path(name)), &recorded, name);
    }
    let thresholds = |name: &str| imported(&path(name)).thresholds();
    let stored = StarThresholds { prob: 0.3, nms: 0.35, ..Default::default() };
    assert_eq!(thresholds("keras2"), Thresholds::Stardist(stored));
    assert_eq!(thresholds("keras3_numbered"), Thresholds::Stardist(StarThresholds::default()), "none are stored");
}

#[test]
fn files_beside_a_configuration_and_those_with_numbers_only_are_read() {
    let recorded = fixture("stardist/keras");
    check(&imported(&path("keras2/weights_best.h5")), &recorded, "keras2");
    let config = path("keras3/config.json");
    let numbered = Model::import(path("keras3_classes.weights.h5"), Some(&config)).unwrap();
    check(&numbered.model, &recorded, "keras3");
    assert_eq!(numbered.model.weights(), imported(&path("keras3")).weights());
    let error = Model::import(path("keras2/weights_best.h5"), Some(&config)).unwrap_err().to_string();
    assert!(error.contains("weights_best.h5") && error.contains("shape"), "{error}");
}

#[test]
fn archives_are_read_and_become_models() {
    let folder = tempfile::tempdir().unwrap();
    let zip = folder.path().join("a.zip");
    for prefix in ["", "2D_nuclei/"] {
        let names = ["config.json", "thresholds.json", "weights_best.h5"];
        let entries = names.map(|name| (format!("{prefix}{name}"), fs::read(path("keras2").join(name)).unwrap()));
        fs::write(&zip, stored_zip(&entries)).unwrap();
        assert_eq!(WeightsKind::of(&zip).unwrap(), WeightsKind::StarDist);
        assert_eq!(imported(&zip).weights(), imported(&path("keras2")).weights());
    }
    let target = folder.path().join("a.safetensors");
    convert(&zip, &target, None).unwrap();
    let model = Model::load(&target).unwrap();
    assert_eq!(model.thresholds(), imported(&path("keras2")).thresholds());
    let error = convert(&target, folder.path().join("b.safetensors"), None).unwrap_err().to_string();
    assert!(error.contains("already"), "{error}");
}

#[test]
fn packages_of_bioimage_io_tell_percentiles() {
    let folder = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(path("keras2/config.json")).unwrap();
    // As the StarDist package describes a model in generation 0.4 of the format.
    let description = format!(
        "format_version: 0.4.10\ntype: model\nname: nuclei\ninputs:\n- name: input\n  axes: byxc\n  preprocessing:\n  \
         - kwargs:\n      axes: yx\n      max_percentile: 99.5\n      min_percentile: 2\n      mode: per_sample\n    \
         name: scale_range\nconfig:\n  stardist:\n    python_version: 0.9.2\n    thresholds:\n      nms: 0.35\n      \
         prob: 0.3\n    weights: stardist_weights.h5\n    config: {config}\nweights:\n  tensorflow_saved_model_bundle: \
         {{source: TF_SavedModel.zip}}\n"
    );
    fs::write(folder.path().join("rdf.yaml"), &description).unwrap();
    let missing = Model::import(folder.path(), None).unwrap_err().to_string();
    assert!(missing.contains("stardist_weights.h5"), "{missing}");
    fs::copy(path("keras2/weights_best.h5"), folder.path().join("stardist_weights.h5")).unwrap();
    let model = imported(folder.path());
    assert_eq!((model.normalization().pmin, model.normalization().pmax), (2.0, 99.5));
    assert_eq!(model.weights(), imported(&path("keras2")).weights());
    assert_eq!(model.thresholds(), imported(&path("keras2")).thresholds());
    fs::write(folder.path().join("rdf.yaml"), description.replace("stardist:", "other:")).unwrap();
    let other = Model::import(folder.path(), None).unwrap_err().to_string();
    assert!(other.contains("('nuclei', weights: tensorflow_saved_model_bundle)"), "{other}");
    let data = "format_version: 0.3.0\ntype: dataset\nname: 'some images'\n";
    fs::write(folder.path().join("rdf.yaml"), data).unwrap();
    let other = Model::import(folder.path(), None).unwrap_err().to_string();
    assert!(other.contains("('some images', a dataset)"), "{other}");
}

#[test]
fn channels_that_a_package_scales_together_are_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(path("keras2/weights_best.h5"), folder.path().join("stardist_weights.h5")).unwrap();
    let config = fs::read_to_string(path("keras2/config.json")).unwrap();
    let told = |axes: &str, channels: usize| {
        let config = config.replace("\"n_channel_in\": 1", &format!("\"n_channel_in\": {channels}"));
        let description = format!(
            "type: model\ninputs:\n- preprocessing:\n  - name: scale_range\n    kwargs: {{axes: {axes}, min_percentile: 1, \
             max_percentile: 99}}\nconfig:\n  stardist:\n    config: {config}\n"
        );
        fs::write(folder.path().join("rdf.yaml"), description).unwrap();
        read_stardist_model(folder.path(), None).unwrap().weights.notes.iter().any(|note| note.contains("together"))
    };
    assert!(told("yxc", 3) && told("[channel, y, x]", 3));
    assert!(!told("yx", 3) && !told("[y, x]", 3) && !told("yxc", 1));
}

#[test]
#[cfg_attr(not(real_images), ignore = "the folder with real images is not there (CELLSPARSE_SHARED)")]
fn the_weights_of_the_recorded_network_are_those_in_its_file() {
    let shared = shared().expect("the folder was there when this was built");
    let weights = read_keras(shared.join("fixtures/stardist/small_net.h5")).unwrap().into_named_arrays();
    let recorded = fixture("stardist/small_net");
    let names: Vec<String> = recorded.names().into_iter().filter(|name| name.starts_with("w.")).collect();
    assert_eq!(names.len(), weights.len());
    for name in names {
        let expected = recorded.f32(&name);
        let (shape, values) = &weights[name.trim_start_matches("w.")];
        assert!(shape == expected.shape() && expected.iter().eq(values), "{name}");
    }
}

#[test]
fn every_beginning_of_a_file_is_refused_or_lacks_nothing() {
    let bytes = fs::read(path("keras2/weights_best.h5")).unwrap();
    let whole = decode_keras(bytes.clone(), Path::new("x.h5")).unwrap();
    for length in (0..bytes.len()).step_by(997) {
        match decode_keras(bytes[..length].to_vec(), Path::new("x.h5")) {
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            Ok(found) => assert_eq!(found, whole, "{length} bytes"),
        }
    }
}

/// A zip archive of stored entries.
pub fn stored_zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = bytes.len() as u32;
        let mut common = Vec::new();
        [20_u16, 0, 0, 0, 0x21].iter().for_each(|field| common.extend(field.to_le_bytes()));
        // Without checksums, as PyTorch can be told to write.
        [0, data.len() as u32, data.len() as u32].iter().for_each(|field| common.extend(field.to_le_bytes()));
        common.extend((name.len() as u32).to_le_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, start) = (entries.len() as u16, bytes.len() as u32);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}
