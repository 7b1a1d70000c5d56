//! The command as a user meets it: exit status, what is printed where, which files appear.

mod large;
mod stacks;
mod training_data;
mod zarr;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cellsparse_core::LabelImage;
use cellsparse_core::formats::geojson::{GeoJsonOptions, to_geojson, write_geojson};
use cellsparse_core::raster::{
    Image, RawLabels, read_image, read_label_file, write_gray_png8, write_labels, write_wire_labels,
};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use ndarray::Axis;
use serde_json::Value;

fn cellsparse(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cellsparse")).args(arguments).output().expect("the command starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// Folders `images`, `masks` and `sparse` with two small drawn fields.
struct Project {
    root: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        for folder in ["images", "masks", "sparse"] {
            fs::create_dir(root.path().join(folder)).expect("a folder");
        }
        let options = FieldOptions { height: 96, width: 112, ..FieldOptions::default() };
        for seed in 0..2u64 {
            let field = draw_field(&options, seed).expect("a field");
            let name = format!("field_{seed}");
            let Image::U8(pixels) = &field.image else { panic!("fields are 8 bit") };
            let path = root.path().join("images").join(format!("{name}.png"));
            write_gray_png8(&path, pixels.index_axis(Axis(2), 0)).expect("an image");
            write_labels(root.path().join("masks"), &name, &field.truth).expect("labels");
            let labels = annotate(&field, &AnnotationOptions::default(), seed);
            write_wire_labels(root.path().join("sparse"), &name, &labels).expect("labels");
        }
        Self { root }
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).display().to_string()
    }

    /// A folder of label images with the first three cells of each field: 0 not drawn, 1 and up cells.
    fn few_cells(&self) -> String {
        let folder = self.path("few_cells");
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["field_0", "field_1"] {
            let few = self.truth(name).mapv(|label| if label <= 3 { label } else { 0 });
            write_labels(&folder, name, &few).expect("labels");
        }
        folder
    }

    fn truth(&self, name: &str) -> LabelImage {
        let raw = read_label_file(self.path(&format!("masks/{name}.png"))).expect("labels");
        let RawLabels::Unsigned(values) = raw else { panic!("unsigned labels") };
        values.mapv(|value| value as i32)
    }

    fn has(&self, name: &str) -> bool {
        self.root.path().join(name).is_file()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A label image of 96 x 112 bytes as NumPy saves it.
fn npy(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (96, 112), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend((0..96 * 112).map(|at| value(at / 112, at % 112)));
    bytes
}

/// A failure is status 1, nothing on standard output and one line on standard error.
fn assert_fails(arguments: &[&str], expected: &str) {
    let output = cellsparse(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
    let message = stderr(&output);
    let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains(expected), "{message}");
    assert_eq!(stdout(&output), "");
}

#[test]
fn help_names_every_command_and_usage_errors_have_status_2() {
    let help = cellsparse(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["demo", "train", "predict", "evaluate", "sparsify", "info", "convert", "serve"] {
        assert!(stdout(&help).contains(command), "{command}");
        assert_eq!(cellsparse(&[command, "--help"]).status.code(), Some(0));
    }
    assert!(stdout(&cellsparse(&["--version"])).contains(env!("CARGO_PKG_VERSION")));
    for wrong in [
        &[][..],
        &["paint"],
        &["train", "--steps", "10"],
        &["demo", "--steps", "0"],
        &["demo", "--device", "toaster"],
        &["demo", "--algorithm", "unet"],
        &["predict", "--model", "m", "--images", "i", "--out", "o", "--postprocess", "circles"],
        &["convert", "--from", "weights.pth"],
        &["serve", "--port", "70000"],
        &["serve", "--max-queue", "0"],
        &["evaluate", "--pred", "a", "--truth", "b", "--thresholds", "1.5"],
    ] {
        let output = cellsparse(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn missing_and_unusable_files_are_one_clear_line() {
    let project = Project::new();
    assert_fails(&["info", "no/such.safetensors"], "no/such.safetensors: no such file");
    assert_fails(&["evaluate", "--pred", "nowhere", "--truth", "nowhere"], "nowhere: no such file");
    let (masks, images) = (project.path("masks"), project.path("images"));
    let missing = project.path("absent.safetensors");
    assert_fails(
        &["predict", "--model", &missing, "--images", &images, "--out", &project.path("out")],
        "absent.safetensors",
    );
    let common = ["--images", images.as_str(), "--labels", masks.as_str(), "--out", masks.as_str(), "--k", "1"];
    assert_fails(&[&["sparsify"], &common[..]].concat(), "overwrite");
    let model = project.path("m.safetensors");
    let few = project.few_cells();
    let train = ["train", "--algorithm", "stardist", "--images", &images, "--labels", &few, "--model", &model];
    assert_fails(
        &train,
        "use --label-encoding cells (0 unlabelled, 1 and up cells, no background), or --label-encoding wire",
    );
    let mask = project.path("images/field_0.png");
    let image = mask.as_str();
    fs::write(project.path("flat.npy"), npy(|y, x| if y % 20 < 8 && x % 20 < 8 { 255 } else { 0 })).expect("a file");
    let flat = project.path("flat.npy");
    let train = ["train", "--algorithm", "stardist", "--images", image, "--labels", &flat, "--model", &model];
    assert_fails(&train, "flat.npy: 30 separate regions all have the same number");
    let lone = project.path("masks/field_0.png");
    assert_fails(&["evaluate", "--pred", &lone, "--truth", &masks], "field_1");
}

#[test]
fn a_perfect_prediction_scores_1() {
    let project = Project::new();
    let masks = project.path("masks");
    let scores =
        json(&cellsparse(&["evaluate", "--pred", &masks, "--truth", &masks, "--thresholds", "0.5,0.9", "--json"]));
    assert_eq!(scores["images"], 2);
    let thresholds = scores["thresholds"].as_array().expect("a list");
    assert_eq!(thresholds.len(), 2);
    for (score, threshold) in thresholds.iter().zip([0.5, 0.9]) {
        assert_eq!(score["thresh"], threshold);
        for field in
            ["precision", "recall", "accuracy", "f1", "panoptic_quality", "mean_true_score", "mean_matched_score"]
        {
            assert_eq!(score[field], 1.0, "{field}");
        }
        assert_eq!((&score["fp"], &score["fn"]), (&Value::from(0), &Value::from(0)));
        assert_eq!(score["tp"], score["n_true"]);
        assert_eq!((&score["criterion"], &score["by_image"]), (&Value::from("iou"), &Value::from(false)));
    }
    let table = cellsparse(&["evaluate", "--pred", &masks, "--truth", &masks]);
    assert!(stdout(&table).contains("2 images") && stdout(&table).contains("1.000"), "{}", stdout(&table));
}

#[test]
fn one_file_pairs_with_one_file_of_another_name() {
    let project = Project::new();
    let (one, other) = (project.path("masks/field_0.png"), project.path("masks/field_1.png"));
    let scores = json(&cellsparse(&["evaluate", "--pred", &one, "--truth", &other, "--json"]));
    assert_eq!(scores["images"], 1);
    assert!(scores["thresholds"][0]["accuracy"].as_f64().expect("a number") < 0.5);
}

#[test]
fn sparsify_keeps_a_few_cells_in_the_wire_encoding() {
    let project = Project::new();
    let (images, masks, out) = (project.path("images"), project.path("masks"), project.path("few"));
    let arguments = ["sparsify", "--images", &images, "--labels", &masks, "--out", &out, "--k", "1", "--background"];
    let output = cellsparse(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(names(Path::new(&out)), ["field_0.png", "field_1.png"]);
    let read = |path: &str| {
        let raw = cellsparse_core::raster::read_label_file(path).expect("labels");
        let cellsparse_core::raster::RawLabels::Unsigned(values) = raw else { panic!("unsigned labels") };
        values
    };
    let (sparse, full) = (read(&project.path("few/field_0.png")), read(&project.path("masks/field_0.png")));
    let cells: std::collections::BTreeSet<u32> = sparse.iter().copied().filter(|value| *value >= 2).collect();
    assert_eq!(cells.len(), 2, "the darkest and the brightest");
    assert!(sparse.iter().any(|value| *value == 1) && sparse.iter().any(|value| *value == 0));
    for (wire, dense) in sparse.iter().zip(&full) {
        match wire {
            0 => {}
            1 => assert_eq!(*dense, 0),
            cell => assert_eq!(cell - 1, *dense),
        }
    }
}

#[test]
fn annotations_of_every_kind_are_trained_on_and_said() {
    let project = Project::new();
    let (images, model) = (project.path("images"), project.path("m.safetensors"));
    let train = |labels: &str, extra: &[&str]| {
        let common = ["train", "--algorithm", "stardist", "--images", &images, "--labels", labels, "--model", &model];
        let small = ["--steps", "1", "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--threads", "1"];
        let output = cellsparse(&[&common[..], &small, extra].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(
        train(&project.path("sparse"), &[])
            .contains("labels: wire (0 unlabelled, 1 background, 2 and up cells), because")
    );
    let few = project.few_cells();
    let said = train(&few, &["--label-encoding", "cells"]);
    assert!(!said.contains("labels: ") && said.contains("No background is drawn"), "{said}");
    let shapes = project.path("shapes");
    fs::create_dir(&shapes).expect("a folder");
    let cells = to_geojson(&project.truth("field_0"), &GeoJsonOptions::default()).expect("outlines");
    write_geojson(Path::new(&shapes).join("field_0.png - export.geojson"), &cells[..3]).expect("a file");
    fs::write(Path::new(&shapes).join("stray.zip"), b"").expect("a file");
    let said = train(&shapes, &[]);
    assert!(said.contains("labels: signed"), "{said}");
    let end: Vec<&str> = said.lines().rev().take(2).collect();
    assert_eq!(
        end,
        ["not used: field_1.png: an image without annotations", "not used: stray.zip: no image of that name"]
    );
    let few_and_empty = project.path("masks_and_an_empty_field");
    fs::create_dir(&few_and_empty).expect("a folder");
    write_labels(&few_and_empty, "field_0", &project.truth("field_0")).expect("labels");
    write_labels(&few_and_empty, "field_1", &LabelImage::zeros((96, 112))).expect("labels");
    train(&few_and_empty, &["--label-encoding", "dense"]);
}

#[test]
fn train_info_predict_and_go_on() {
    let project = Project::new();
    let (images, sparse, model) = (project.path("images"), project.path("sparse"), project.path("made/m.safetensors"));
    let train = |extra: &[&str]| {
        let common = ["train", "--algorithm", "stardist", "--images", &images, "--labels", &sparse, "--model", &model];
        let small =
            ["--steps", "2", "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--threads", "1", "--json"];
        cellsparse(&[&common[..], &small[..], extra].concat())
    };
    let output = train(&[]);
    let facts = json(&output);
    assert_eq!((&facts["algorithm"], &facts["steps"]), (&Value::from("stardist"), &Value::from(2)));
    assert_eq!(facts["model"], model.as_str());
    for field in ["seconds", "seconds_per_step", "loss"] {
        assert!(facts[field].as_f64().is_some_and(f64::is_finite), "{field}: {facts}");
    }
    assert!(facts["device"].is_string());
    assert!(stderr(&output).contains("step 2/2"), "{}", stderr(&output));

    let info = json(&cellsparse(&["info", &model, "--json"]));
    assert!(info.is_object(), "{info}");
    assert!(!stdout(&cellsparse(&["info", &model])).is_empty());

    let out = project.path("out");
    let formats = ["--format", "labels,geojson,overlay", "--device", "cpu", "--threads", "1", "--json"];
    let predict = ["predict", "--model", &model, "--images", &images, "--out", &out];
    let results = json(&cellsparse(&[&predict[..], &formats[..]].concat()));
    let results = results.as_array().expect("a list");
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result["objects"].is_u64() && result["seconds"].is_number() && result["image"].is_string());
        let files: Vec<PathBuf> = result["files"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|file| PathBuf::from(file.as_str().expect("a path")))
            .collect();
        assert_eq!(files.len(), 3);
        assert!(files.iter().all(|file| file.is_file()), "{files:?}");
    }
    assert_eq!(
        names(Path::new(&out)),
        ["field_0.geojson", "field_0.png", "field_1.geojson", "field_1.png", "overlays"]
    );
    let scores = json(&cellsparse(&["evaluate", "--pred", &out, "--truth", &project.path("masks"), "--json"]));
    assert_eq!(scores["images"], 2);

    assert!(train(&["--resume"]).status.success());
    assert!(train(&["--init", &model]).status.success());
}

/// Trains a network for a moment; returns the path of the model.
fn trained(project: &Project, algorithm: &str, steps: &str) -> String {
    let (images, sparse) = (project.path("images"), project.path("sparse"));
    let model = project.path(&format!("{algorithm}.safetensors"));
    let data = ["train", "--algorithm", algorithm, "--images", &images, "--labels", &sparse, "--model", &model];
    let small = ["--steps", steps, "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--json"];
    let facts = json(&cellsparse(&[&data[..], &small[..]].concat()));
    assert_eq!(facts["algorithm"], algorithm);
    let info = json(&cellsparse(&["info", &model, "--json"]));
    assert_eq!((&info["algorithm"], &info["resumable"]), (&Value::from(algorithm), &Value::from(true)));
    assert!(info["thresholds"][algorithm]["smallest_object"].is_number(), "{info}");
    model
}

/// Predicts, finds something, and returns the bytes of the label files.
fn predicted(project: &Project, model: &str, folder: &str, extra: &[&str]) -> Vec<Vec<u8>> {
    let (images, out) = (project.path("images"), project.path(folder));
    let common = ["predict", "--model", model, "--images", &images, "--out", &out, "--device", "cpu", "--json"];
    let results = json(&cellsparse(&[&common[..], extra].concat()));
    let results = results.as_array().expect("a list");
    assert_eq!(results.len(), 2);
    assert!(results.iter().any(|result| result["objects"].as_u64() > Some(0)), "{results:?}");
    names(Path::new(&out)).iter().map(|name| fs::read(Path::new(&out).join(name)).expect("labels")).collect()
}

#[test]
fn a_cellpose_model_goes_to_pytorch_and_back() {
    let project = Project::new();
    let model = trained(&project, "cellpose", "20");
    // The model's own smallest object is not part of the weights.
    let same = ["--flow-threshold", "0", "--cellprob-threshold", "-1", "--diameter", "20", "--min-area", "100"];
    let before = predicted(&project, &model, "before", &same);

    let (weights, back) = (project.path("weights.pth"), project.path("back.safetensors"));
    let settings = project.path("settings.json");
    fs::write(&settings, r#"{"normalization": {"pmin": 1, "pmax": 99.8}, "diameter": 20}"#).expect("a file");
    for arguments in [
        &["convert", "--from", &model, "--to", &weights][..],
        &["convert", "--from", &weights, "--to", &back, "--config", &settings],
    ] {
        let output = cellsparse(arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&output).trim(), arguments[4]);
    }
    let info = json(&cellsparse(&["info", &back, "--json"]));
    assert_eq!((&info["algorithm"], &info["steps"]), (&Value::from("cellpose"), &Value::from(0)));
    assert_eq!(info["thresholds"]["cellpose"]["diameter"], 20.0);
    assert_eq!(predicted(&project, &back, "after", &same), before);
    let images = project.path("images");
    let predict = ["predict", "--model", &back, "--images", &images, "--out", &weights];
    assert_fails(&[&predict[..], &["--nms-thresh", "0.4"]].concat(), "nms_thresh is not an option of cellpose");
    assert_fails(&["convert", "--from", &weights, "--to", &weights], "another name");
}

#[test]
fn elephant_cells_may_be_ellipses_and_options_of_others_are_refused() {
    let project = Project::new();
    let model = trained(&project, "elephant", "20");
    let grown = predicted(&project, &model, "grown", &["--postprocess", "watershed", "--prob-thresh", "0.3"]);
    assert_eq!(grown, predicted(&project, &model, "usual", &["--prob-thresh", "0.3"]));
    let ellipses = predicted(&project, &model, "ellipses", &["--postprocess", "ellipse", "--prob-thresh", "0.3"]);
    assert_ne!(grown, ellipses);
    let (images, out) = (project.path("images"), project.path("none"));
    let predict = ["predict", "--model", &model, "--images", &images, "--out", &out];
    assert_fails(&[&predict[..], &["--diameter", "20"]].concat(), "diameter is not an option of elephant");
    let stardist = trained(&project, "stardist", "1");
    let predict = ["predict", "--model", &stardist, "--images", &images, "--out", &out];
    assert_fails(&[&predict[..], &["--postprocess", "ellipse"]].concat(), "postprocess is not an option of stardist");
    assert_fails(&["convert", "--from", &stardist, "--to", &project.path("s.pth")], "no PyTorch form");
    assert!(!Path::new(&out).exists());
}

/// The cells of a CSV file under the name of their column.
fn csv_column(text: &str, name: &str) -> Vec<String> {
    let mut lines = text.lines();
    let place = lines.next().expect("names").split(',').position(|column| column == name);
    let place = place.unwrap_or_else(|| panic!("no column {name} in {text}"));
    lines.map(|line| line.split(',').nth(place).expect("a value").to_owned()).collect()
}

#[test]
fn every_object_of_every_algorithm_has_its_probability_in_every_format() {
    let project = Project::new();
    let (image, out) = (project.path("images/field_0.png"), project.path("out"));
    for (algorithm, options) in [
        ("stardist", &["--prob-thresh", "0.05"][..]),
        ("cellpose", &["--flow-threshold", "0", "--cellprob-threshold", "-1"]),
        ("elephant", &["--prob-thresh", "0.3"]),
    ] {
        let model = trained(&project, algorithm, "20");
        let common = ["predict", "--model", &model, "--images", &image, "--out", &out, "--device", "cpu", "--json"];
        let formats = ["--format", "labels,geojson,csv,rois,ometiff", "--simplify", "1"];
        let results = json(&cellsparse(&[&common[..], &formats[..], options].concat()));
        let files = results[0]["files"].as_array().expect("a list").iter().map(|file| file.as_str().expect("a path"));
        let files: Vec<&str> = files.map(|file| file.rsplit('/').next().expect("a name")).collect();
        assert_eq!(files, ["field_0.png", "field_0.geojson", "field_0.csv", "field_0.zip", "field_0.ome.tif"]);
        let objects = results[0]["objects"].as_u64().expect("a number") as usize;
        assert!(objects > 0, "{algorithm}");

        let read = |name: &str| fs::read(Path::new(&out).join(name)).expect("a file");
        let table = String::from_utf8(read("field_0.csv")).expect("text");
        let features: Value = serde_json::from_slice(&read("field_0.geojson")).expect("JSON");
        let features = features.as_array().expect("a list");
        let (ids, probabilities) = (csv_column(&table, "label"), csv_column(&table, "probability"));
        assert_eq!((ids.len(), features.len()), (objects, objects));
        for ((feature, id), probability) in features.iter().zip(&ids).zip(&probabilities) {
            let told = feature["properties"]["measurements"]["probability"].as_f64().expect("a probability");
            let in_table: f64 = probability.parse().expect("a number");
            assert!(told > 0.0 && told <= 1.0 && (told - in_table).abs() < 1e-6, "{algorithm}: {told} {in_table}");
            assert_eq!(feature["properties"]["id"].to_string(), *id);
        }
        let labels = cellsparse_core::raster::read_label_file(Path::new(&out).join("field_0.png")).expect("labels");
        let again = cellsparse_core::raster::read_label_file(Path::new(&out).join("field_0.ome.tif")).expect("labels");
        assert_eq!(labels, again);
        let cellsparse_core::raster::RawLabels::Unsigned(labels) = labels else { panic!("unsigned labels") };
        for (id, area) in ids.iter().zip(csv_column(&table, "area")) {
            assert_eq!(labels.iter().filter(|label| label.to_string() == *id).count().to_string(), area);
        }
        let regions = read("field_0.zip");
        assert_eq!(regions.windows(4).filter(|window| window == b"Iout").count(), objects);
    }
}

#[test]
fn a_bad_file_does_not_end_the_run() {
    let project = Project::new();
    let model = trained(&project, "stardist", "1");
    let (images, masks, out) = (project.path("images"), project.path("masks"), project.path("out"));
    let bytes = fs::read(project.path("images/field_0.png")).expect("an image");
    fs::write(project.path("images/field_0b.png"), &bytes[..300]).expect("a file");
    let predict = ["predict", "--model", &model, "--images", &images, "--out", &out, "--device", "cpu"];
    let output = cellsparse(&[&predict[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let results: Value = serde_json::from_str(&stdout(&output)).expect("one JSON value");
    let results = results.as_array().expect("a list");
    assert_eq!(results.len(), 3);
    assert!(results[1]["image"].as_str().is_some_and(|image| image.ends_with("field_0b.png")), "{}", results[1]);
    assert!(results[1]["error"].is_string() && results[1]["objects"].is_null(), "{}", results[1]);
    assert!(results[0]["objects"].is_u64() && results[2]["objects"].is_u64());
    let message = stderr(&output);
    assert!(message.contains("2 of 3 images segmented"), "{message}");
    assert_eq!(message.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{message}");
    assert!(message.lines().last().is_some_and(|line| line.contains("field_0b.png")), "{message}");
    assert_eq!(names(Path::new(&out)), ["field_0.png", "field_1.png"]);

    // The results folder is no fault of an image: nothing else is tried.
    let file = project.path("taken");
    fs::write(&file, b"x").expect("a file");
    assert_fails(&["predict", "--model", &model, "--images", &images, "--out", &file, "--device", "cpu"], "taken");

    fs::write(project.path("out/field_0b.png"), b"no label image").expect("a file");
    fs::copy(project.path("masks/field_0.png"), project.path("masks/field_0b.png")).expect("a copy");
    let output = cellsparse(&["evaluate", "--pred", &out, "--truth", &masks, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let scores: Value = serde_json::from_str(&stdout(&output)).expect("one JSON value");
    assert_eq!((&scores["images"], scores["thresholds"].as_array().map(Vec::len)), (&Value::from(2), Some(1)));
    assert_eq!(scores["failed"].as_array().map(Vec::len), Some(1));
    assert!(stderr(&output).contains("2 of 3 pairs"), "{}", stderr(&output));

    let few = project.path("few");
    let output = cellsparse(&["sparsify", "--images", &images, "--labels", &masks, "--out", &few, "--k", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(names(Path::new(&few)), ["field_0.png", "field_1.png"]);
    assert_eq!(stdout(&output).lines().count(), 2);
}

#[test]
fn the_program_holds_the_starting_weights_once() {
    let program = fs::read(env!("CARGO_BIN_EXE_cellsparse")).expect("the program");
    for weights in [
        &include_bytes!("../../../cellsparse-core/starters/stardist.bin")[..],
        include_bytes!("../../../cellsparse-core/starters/cellpose.bin"),
        include_bytes!("../../../cellsparse-core/starters/elephant.bin"),
    ] {
        let piece = &weights[weights.len() / 2..][..64];
        let first = piece[0];
        let found = program.windows(piece.len()).filter(|window| window[0] == first && *window == piece).count();
        assert_eq!(found, 1);
    }
}

#[test]
fn the_demo_shows_every_algorithm() {
    let project = Project::new();
    let data = project.root.path().display().to_string();
    for (algorithm, name) in [("cellpose", "Cellpose"), ("elephant", "ELEPHANT")] {
        let out = project.path(algorithm);
        let choice = ["demo", "--algorithm", algorithm, "--data", &data, "--steps", "1"];
        let facts = json(&cellsparse(&[&choice[..], &["--out", &out, "--device", "cpu", "--json"]].concat()));
        assert_eq!(facts["algorithm"], algorithm);
        assert_eq!(facts["predictions"].as_array().map(Vec::len), Some(2));
        assert!(facts["scores"]["mean"]["accuracy"].is_number(), "{facts}");
        let page = fs::read_to_string(Path::new(&out).join("report.html")).expect("a report");
        assert!(page.contains(&format!("A {name} network")) || page.contains(&format!("An {name} network")), "{name}");
        assert!(page.contains(&format!("train --algorithm {algorithm}")) && !page.contains("stardist"), "{name}");
        let info = json(&cellsparse(&["info", &format!("{out}/model.safetensors"), "--json"]));
        assert_eq!(info["algorithm"], algorithm);
    }
}

#[test]
fn the_demo_leaves_a_report_with_its_pictures() {
    let project = Project::new();
    let out = project.path("demo");
    let facts = json(&cellsparse(&["demo", "--steps", "1", "--out", &out, "--device", "cpu", "--json"]));
    for field in [
        "model",
        "algorithm",
        "steps",
        "seconds",
        "seconds_per_step",
        "loss",
        "device",
        "precision",
        "scores",
        "report",
    ] {
        assert!(!facts[field].is_null(), "{field}: {facts}");
    }
    assert_eq!(facts["scores"]["images"].as_array().expect("a list").len(), 3);
    assert_eq!(facts["predictions"].as_array().expect("a list").len(), 3);
    for name in ["annotated_1", "unseen_1", "unseen_2", "unseen_3"] {
        for folder in ["images", "truth"] {
            assert!(project.has(&format!("demo/{folder}/{name}.png")), "{folder}/{name}");
        }
        let made = if name == "annotated_1" { "sparse" } else { "labels" };
        assert!(project.has(&format!("demo/{made}/{name}.png")), "{made}/{name}");
    }
    assert!(project.has("demo/model.safetensors"));
    let kinds = facts["kinds"].as_array().expect("a list");
    assert_eq!(kinds.iter().map(|kind| kind["kind"].clone()).collect::<Vec<_>>(), ["bacteria", "tissue"]);
    for kind in ["bacteria", "tissue"] {
        assert!(project.has(&format!("demo/sparse/{kind}_annotated.png")), "{kind}");
        assert!(project.has(&format!("demo/images/{kind}_unseen.png")), "{kind}");
        assert!(project.has(&format!("demo/labels/{kind}_unseen.png")), "{kind}");
        assert!(project.has(&format!("demo/model_{kind}.safetensors")), "{kind}");
    }
    let page = fs::read_to_string(project.path("demo/report.html")).expect("a report");
    for picture in page.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(project.has(&format!("demo/{picture}")), "{picture}");
    }
    assert!(page.contains("<svg") && page.contains("AP") && !page.contains("http"));
}

#[test]
fn the_demo_takes_own_images_and_needs_no_truth() {
    let project = Project::new();
    let (data, out) = (project.root.path().join("own"), project.path("report"));
    fs::create_dir(&data).expect("a folder");
    for folder in ["images", "sparse"] {
        fs::rename(project.root.path().join(folder), data.join(folder)).expect("a move");
    }
    fs::remove_file(data.join("sparse/field_1.png")).expect("a file");
    let data = data.display().to_string();
    let arguments = ["demo", "--data", &data, "--steps", "1", "--out", &out, "--device", "cpu", "--json"];
    let facts = json(&cellsparse(&arguments));
    assert!(facts["scores"].is_null());
    assert_eq!(names(&Path::new(&out).join("labels")), ["field_1.png"]);
    let page = fs::read_to_string(project.path("report/report.html")).expect("a report");
    assert!(page.contains("no scores"));
    assert_fails(&["demo", "--data", &project.path("masks"), "--out", &out], "images/");
}
