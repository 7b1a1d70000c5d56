//! Agreement with the recorded results of the seed: normalisation, simulated annotation, outlines, label files.

use cellsparse_tests as common;

use std::path::{Path, PathBuf};

use cellsparse_core::annotations::{SparsifyMode, sparsify};
use cellsparse_core::formats::geojson::{GeoJsonOptions, OutlineRule, geojson_string, to_geojson};
use cellsparse_core::geometry::{exact_outlines, rasterize_outlines};
use cellsparse_core::raster::{RawLabels, ReadLimits, decode_labels, percentile_normalize};
use ndarray::{Array2, Array3, ArrayD, Axis, Ix2, Ix3};

fn labels(array: ArrayD<i32>) -> Array2<i32> {
    array.into_dimensionality::<Ix2>().unwrap()
}

fn with_channels(array: ArrayD<f32>) -> Array3<f32> {
    let array = if array.ndim() == 2 { array.insert_axis(Axis(2)) } else { array };
    array.into_dimensionality::<Ix3>().unwrap()
}

#[test]
fn normalize_matches_the_recorded_images() {
    let fixture = common::fixture("cellsparse/normalize");
    let mut compared = 0;
    for name in fixture.names() {
        let (case, percentiles) = name.split_once('.').unwrap();
        let Some((low, high)) = percentiles.strip_prefix('p').and_then(|text| text.split_once('_')) else { continue };
        let image = with_channels(fixture.f32(&format!("{case}.in")));
        let ours = percentile_normalize(image.view(), low.parse().unwrap(), high.parse().unwrap()).unwrap();
        let expected = with_channels(fixture.f32(&name));
        let difference = common::max_abs_diff(&ours, &expected);
        assert!(difference <= 1e-6, "{name}: differs by {difference}");
        compared += 1;
    }
    assert_eq!(compared, 12);
}

#[test]
fn sparsify_matches_the_recorded_annotators() {
    let mut compared = 0;
    for fixture in common::fixture_and_real("cellsparse/to_sparse") {
        for name in fixture.names() {
            let parts: Vec<&str> = name.split('.').collect();
            let [case, mode, k, background] = parts[..] else { continue };
            let image = with_channels(fixture.f32(&format!("{case}.image")));
            let dense = labels(fixture.i32(&format!("{case}.label")));
            let mode: SparsifyMode = mode.parse().unwrap();
            let ours = sparsify(&dense, image.view(), k.parse().unwrap(), mode, background == "bg").unwrap();
            assert_eq!(ours, labels(fixture.i32(&name)), "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 54, "{compared}");
}

/// Folders with `geojson_labels.safetensors` and the recorded answers.
fn geojson_folders() -> Vec<PathBuf> {
    let mut folders = vec![common::fixtures().join("cellsparse")];
    folders.extend(common::shared().map(|shared| shared.join("fixtures/real/cellsparse")));
    folders
}

fn tolerance(text: &str) -> Option<f64> {
    if text == "none" { None } else { Some(text.parse().unwrap()) }
}

/// The label images and tolerances of every recorded answer, with the answer's text.
fn recorded_answers(folder: &Path) -> Vec<(String, Array2<i32>, Option<f64>, String)> {
    let fixture = common::Fixture::read(&folder.join("geojson_labels.safetensors"));
    let mut answers = Vec::new();
    for case in fixture.names() {
        for text in ["none", "0.5", "1.0", "2.0"] {
            let path = folder.join(format!("geojson_{case}_tol{text}.json"));
            if path.is_file() {
                let answer = std::fs::read_to_string(&path).unwrap();
                answers.push((format!("{case} {text}"), labels(fixture.i32(&case)), tolerance(text), answer));
            }
        }
    }
    answers
}

#[test]
fn literal_geojson_is_the_seeds_byte_for_byte() {
    let mut compared = 0;
    for folder in geojson_folders() {
        for (name, labels, simplify, expected) in recorded_answers(&folder) {
            let options = GeoJsonOptions { outline: OutlineRule::Literal, simplify, ..Default::default() };
            let ours = geojson_string(&to_geojson(&labels, &options).unwrap()).unwrap();
            assert!(ours == expected.trim_end(), "{name}\n ours: {ours}\n seed: {expected}");
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

#[test]
fn exact_outlines_give_the_recorded_labels_back() {
    for folder in geojson_folders() {
        let fixture = common::Fixture::read(&folder.join("geojson_labels.safetensors"));
        for case in fixture.names() {
            let labels = labels(fixture.i32(&case));
            let again = rasterize_outlines(&exact_outlines(&labels).unwrap(), labels.dim()).unwrap();
            assert_eq!(again, labels, "{case}");
        }
    }
}

#[test]
fn one_label_image_in_three_png_kinds() {
    let text = std::fs::read_to_string(common::fixtures().join("cellsparse/label_png.json")).unwrap();
    let case: serde_json::Value = serde_json::from_str(&text).unwrap();
    let size = |key: &str| case[key].as_u64().unwrap() as usize;
    let values: Vec<u32> =
        case["encoded_label"].as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u32).collect();
    let expected = Array2::from_shape_vec((size("height"), size("width")), values).unwrap();
    let mut compared = 0;
    for (key, value) in case.as_object().unwrap() {
        let Some(base64) = value.as_str().filter(|text| text.starts_with("iVBOR")) else { continue };
        let factor = if key.contains("16") { 300 } else { 1 };
        let decoded = decode_labels(&from_base64(base64), &ReadLimits::default()).unwrap();
        assert_eq!(decoded, RawLabels::Unsigned(expected.mapv(|value| value * factor)), "{key}");
        compared += 1;
    }
    assert_eq!(compared, 3);
}

fn from_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        bits = (bits << 6) | ALPHABET.iter().position(|&letter| letter == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
