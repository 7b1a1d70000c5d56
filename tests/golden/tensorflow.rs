//! Programs of TensorFlow that the StarDist package and TensorFlow 2.15 wrote, against the folder of the same network.

use std::fs;
use std::path::{Path, PathBuf};

use cellsparse_core::Error;
use cellsparse_core::formats::foreign::WeightsKind;
use cellsparse_core::formats::tensorflow::{Layer, decode_frozen_graph, read_tensorflow};
use cellsparse_core::model::{Model, StarThresholds, Thresholds};
use cellsparse_core::networks::Method;
use cellsparse_tests::fixtures;

use crate::keras::stored_zip;
use crate::network::{assert_close, outputs};

fn path(name: &str) -> PathBuf {
    fixtures().join("stardist/tensorflow").join(name)
}

fn imported(source: &Path) -> Model {
    Model::import(source, None).unwrap_or_else(|error| panic!("{error}")).model
}

#[test]
fn every_form_gives_the_weights_and_thresholds_of_the_folder() {
    let whole = imported(&path("plain"));
    for name in ["TF_SavedModel.zip", "keras.zip", "frozen.pb", "version_1", "version_1/saved_model.pb", "version_1.pb"]
    {
        let source = path("plain").join(name);
        assert_eq!(WeightsKind::of(&source).unwrap(), WeightsKind::TensorFlow, "{name}");
        let found = imported(&source);
        assert_eq!(found.architecture(), whole.architecture(), "{name}");
        assert_eq!(found.weights(), whole.weights(), "{name}");
        assert_eq!(found.thresholds(), whole.thresholds(), "{name}: those beside it");
    }
    let stored = StarThresholds { prob: 0.55, nms: 0.35, ..Default::default() };
    assert_eq!(whole.thresholds(), Thresholds::Stardist(stored));
}

#[test]
fn batch_normalisation_and_classes_are_read() {
    let whole = imported(&path("norm"));
    for name in ["keras.zip", "frozen.pb"] {
        let found = imported(&path("norm").join(name));
        assert_eq!(found.architecture(), whole.architecture(), "{name}");
        assert_eq!(found.weights(), whole.weights(), "{name}");
    }
    // The package leaves the classes out.
    let without = imported(&path("norm/TF_SavedModel.zip"));
    assert!(without.weights().count() < whole.weights().count());
    for parameter in without.weights().parameters() {
        let same = whole.weights().parameters().iter().find(|other| other.spec.name == parameter.spec.name).unwrap();
        assert_eq!(parameter.values, same.values, "{}", parameter.spec.name);
    }
}

#[test]
fn batch_normalisation_of_version_1_is_read_in_every_form() {
    let whole = imported(&path("norm/TF_SavedModel.zip"));
    let shape = [1, 16, 24];
    let input: Vec<f32> =
        (0..shape.iter().product()).map(|index: usize| (index * 37 % 101) as f32 / 50.0 - 0.5).collect();
    let maps = |model: &Model| outputs(model.graph(), model.weights(), &input, shape, Method::Direct);
    let expected = maps(&whole);
    for (name, is_same) in [("fused", true), ("plain", false), ("folded", false), ("merged", false)] {
        let found = imported(&path("norm").join(format!("version_1_{name}.pb")));
        assert_eq!(found.weights() == whole.weights(), is_same, "{name}");
        assert_eq!(found.architecture() == whole.architecture(), name != "merged", "{name}");
        for (found, expected) in maps(&found).iter().zip(&expected) {
            assert_close(name, found, expected, 2e-6);
        }
    }
}

/// As version 0.7 of the StarDist package describes a model: thresholds and no configuration.
const EARLY_DESCRIPTION: &str = "\
type: model
format_version: 0.4.0
name: nuclei
inputs:
  - axes: byxc
    name: input
    preprocessing:
      - kwargs: {axes: yx, max_percentile: 99.7, min_percentile: 3.0, mode: per_sample}
        name: scale_range
weights:
  tensorflow_saved_model_bundle:
    source: TF_SavedModel.zip
    tensorflow_version: '1.15'
config:
  stardist:
    stardist_version: 0.7.3
    thresholds: {nms: 0.25, prob: 0.479}
";

#[test]
fn packages_without_a_configuration_are_read_from_their_program() {
    let whole = imported(&path("plain"));
    let program = fs::read(path("plain/TF_SavedModel.zip")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("rdf.yaml"), EARLY_DESCRIPTION).unwrap();
    let missing = Model::import(&inside, None).unwrap_err().to_string();
    assert!(missing.contains("TF_SavedModel.zip"), "{missing}");
    fs::write(inside.join("TF_SavedModel.zip"), &program).unwrap();
    let mut sources = vec![inside];
    for prefix in ["", "nuclei/"] {
        let source = folder.path().join(format!("{}package.zip", prefix.trim_end_matches('/')));
        let entries = [("rdf.yaml", EARLY_DESCRIPTION.as_bytes()), ("TF_SavedModel.zip", &program)];
        fs::write(&source, stored_zip(&entries.map(|(name, data)| (format!("{prefix}{name}"), data.to_vec()))))
            .unwrap();
        sources.push(source);
    }
    for source in sources {
        assert_eq!(WeightsKind::of(&source).unwrap(), WeightsKind::Bioimage);
        let found = Model::import(&source, None).unwrap();
        assert_eq!(found.notes, [""; 0], "{}", source.display());
        assert_eq!(found.model.weights(), whole.weights(), "{}", source.display());
        assert_eq!((found.model.normalization().pmin, found.model.normalization().pmax), (3.0, 99.7));
        let stored = StarThresholds { prob: 0.479, nms: 0.25, ..Default::default() };
        assert_eq!(found.model.thresholds(), Thresholds::Stardist(stored));
    }
}

#[test]
fn a_package_without_a_configuration_and_a_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let description = EARLY_DESCRIPTION.replace("tensorflow_saved_model_bundle", "tensorflow_js");
    fs::write(folder.path().join("rdf.yaml"), description).unwrap();
    let error = Model::import(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("neither the configuration of StarDist nor a program of TensorFlow"), "{error}");
}

#[test]
fn a_model_alone_has_the_usual_thresholds_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("nuclei.pb");
    fs::copy(path("plain/version_1.pb"), &alone).unwrap();
    let found = Model::import(&alone, None).unwrap();
    assert_eq!(found.model.thresholds(), Thresholds::Stardist(StarThresholds::default()));
    assert!(found.notes.iter().any(|note| note.contains("no thresholds")), "{:?}", found.notes);
    assert!(found.notes.iter().any(|note| note.contains("percentiles 1 and 99.8 are taken")), "{:?}", found.notes);
    let config = folder.path().join("config.json");
    fs::write(&config, r#"{"normalization": {"pmin": 0, "pmax": 100}}"#).unwrap();
    let stated = Model::import(&alone, Some(&config)).unwrap();
    assert_eq!((stated.model.normalization().pmin, stated.model.normalization().pmax), (0.0, 100.0));
    assert!(!stated.notes.iter().any(|note| note.contains("percentiles")), "{:?}", stated.notes);
    fs::write(folder.path().join("thresholds.json"), r#"{"prob": 0.7, "nms": 0.2}"#).unwrap();
    let stored = StarThresholds { prob: 0.7, nms: 0.2, ..Default::default() };
    assert_eq!(imported(&alone).thresholds(), Thresholds::Stardist(stored));
}

#[test]
fn other_networks_are_refused_by_what_differs() {
    let refused = |change: &dyn Fn(&mut Vec<Layer>)| {
        let mut found = read_tensorflow(path("plain/version_1.pb")).unwrap();
        change(&mut found.layers);
        let error = Model::from_tensorflow(found).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        error.to_string()
    };
    let last = |layers: &[Layer], is: fn(&Layer) -> bool| layers.iter().rposition(is).unwrap();
    let found = refused(&|layers| {
        let sigmoid = last(layers, |layer| matches!(layer, Layer::Sigmoid { .. }));
        let Layer::Sigmoid { input } = layers[sigmoid] else { panic!() };
        layers[sigmoid] = Layer::Softmax { input };
    });
    assert!(found.contains("probabilities (sigmoid)"), "{found}");
    let found = refused(&|layers| {
        let relu = layers.iter().position(|layer| matches!(layer, Layer::Relu { .. })).unwrap();
        let Layer::Relu { input } = layers[relu] else { panic!() };
        layers[relu] = Layer::Sigmoid { input };
    });
    assert!(found.contains("a sigmoid within"), "{found}");
    let found = refused(&|layers| {
        let pool = last(layers, |layer| matches!(layer, Layer::MaxPool { .. }));
        let Layer::MaxPool { input, .. } = layers[pool] else { panic!() };
        layers[pool] = Layer::MaxPool { input, by: [2, 3] };
    });
    assert!(found.contains("a maximum pooling where the package has 'max_0'"), "{found}");
    let found = refused(&|layers| {
        let concat = layers.iter().position(|layer| matches!(layer, Layer::Concat { .. })).unwrap();
        let Layer::Concat { inputs } = &mut layers[concat] else { panic!() };
        inputs.reverse();
    });
    assert!(found.contains("where the package has"), "{found}");
}

#[test]
fn every_beginning_of_a_graph_is_refused() {
    let bytes = fs::read(path("plain/frozen.pb")).unwrap();
    for length in (0..bytes.len()).step_by(97) {
        if let Err(error) = decode_frozen_graph(&bytes[..length], Path::new("x.pb")) {
            let error = error.to_string();
            assert!(error.starts_with("x.pb: ") && !error.contains('\n'), "{error}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for part in ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"] {
        let copy = folder.path().join("model");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir_all(copy.join("variables")).unwrap();
        for entry in ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"] {
            let mut bytes = fs::read(path("plain/version_1").join(entry)).unwrap();
            if entry == part {
                bytes.truncate(bytes.len() - 9);
            }
            fs::write(copy.join(entry), bytes).unwrap();
        }
        let error = Model::import(&copy, None).unwrap_err().to_string();
        assert!(error.contains("not a program of TensorFlow that can be read"), "{part}: {error}");
    }
}
