//! Matching scores against recorded results of StarDist.

use cellsparse_tests as common;

use cellsparse_core::LabelImage;
use cellsparse_core::metrics::{Criterion, Matching, matching, matching_dataset};
use cellsparse_core::postprocess::clean::relabel_sequential;
use common::Fixture;
use ndarray::{ArrayD, Axis, Ix2};

fn images(fixture: &Fixture, name: &str) -> Vec<LabelImage> {
    let stack = fixture.i32(name);
    stack.axis_iter(Axis(0)).map(|image| image.to_owned().into_dimensionality::<Ix2>().unwrap()).collect()
}

fn thresholds(fixture: &Fixture) -> Vec<f64> {
    fixture.info()["thresholds"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// Compares all fields by their recorded names; `expected` is one row of numbers.
fn compare(fixture: &Fixture, result: &Matching, expected: ndarray::ArrayViewD<f32>, what: &str) {
    let values = serde_json::to_value(result).unwrap();
    let fields = fixture.info()["fields"].clone();
    for (field, &expected) in fields.as_array().unwrap().iter().zip(expected.iter()) {
        let field = field.as_str().unwrap();
        let value = values[field].as_f64().unwrap_or_else(|| panic!("no field {field}")) as f32;
        assert!((value - expected).abs() <= 1e-6, "{what}: {field} is {value}, expected {expected}");
    }
}

#[test]
fn single_images_agree() {
    for fixture in common::fixture_and_real("stardist/matching") {
        let (y_true, y_pred) = (images(&fixture, "y_true"), images(&fixture, "y_pred"));
        let expected: ArrayD<f32> = fixture.f32("per_image_iou");
        for (k, (y_true, y_pred)) in y_true.iter().zip(&y_pred).enumerate() {
            for (j, &thresh) in thresholds(&fixture).iter().enumerate() {
                let result = matching(y_true, y_pred, thresh, Criterion::Iou, false).unwrap();
                let row = expected.index_axis(Axis(0), k);
                compare(&fixture, &result, row.index_axis(Axis(0), j), &format!("image {k} at {thresh}"));
            }
        }
    }
}

#[test]
fn data_sets_agree() {
    for fixture in common::fixture_and_real("stardist/matching") {
        let (y_true, y_pred) = (images(&fixture, "y_true"), images(&fixture, "y_pred"));
        let pairs: Vec<_> = y_true.iter().zip(&y_pred).collect();
        for (criterion, name) in [(Criterion::Iou, "iou"), (Criterion::Iot, "iot"), (Criterion::Iop, "iop")] {
            for (by_image, suffix) in [(false, ""), (true, "_by_image")] {
                let expected = fixture.f32(&format!("dataset_{name}{suffix}"));
                let results = matching_dataset(&pairs, &thresholds(&fixture), criterion, by_image).unwrap();
                assert_eq!(results.len(), expected.shape()[0]);
                for (result, row) in results.iter().zip(expected.outer_iter()) {
                    compare(&fixture, result, row, &format!("{name}{suffix} at {}", result.thresh));
                }
            }
        }
    }
}

#[test]
fn true_positive_pairs_agree() {
    for fixture in common::fixture_and_real("stardist/matching") {
        let (y_true, y_pred) = (images(&fixture, "y_true"), images(&fixture, "y_pred"));
        let pairs = fixture.i32("pairs_image0");
        let scores = fixture.f32("pairs_image0_scores");
        let mut expected: Vec<(i32, i32, f32)> = fixture
            .i32("pairs_image0_tp")
            .iter()
            .map(|&k| (pairs[[k as usize, 0]], pairs[[k as usize, 1]], scores[[k as usize]]))
            .collect();
        expected.sort_by_key(|pair| pair.0);
        let result = matching(&y_true[0], &y_pred[0], 0.5, Criterion::Iou, true).unwrap();
        let found: Vec<(i32, i32, f32)> = result
            .matches
            .unwrap()
            .iter()
            .filter(|pair| pair.is_true_positive)
            .map(|pair| (pair.true_id, pair.pred_id, pair.score))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn relabelling_agrees() {
    for fixture in common::fixture_and_real("stardist/matching") {
        let read = |name: &str| fixture.i32(name).into_dimensionality::<Ix2>().unwrap();
        assert_eq!(relabel_sequential(&read("relabel.in"), 5).unwrap(), read("relabel.out_offset5"));
    }
}
