//! The training side of ELEPHANT against the original: classes, loss, patches.

use cellsparse_tests as common;

use cellsparse_core::raster::LabelImage;
use cellsparse_core::targets::elephant::{ClassRule, class_labels};
use cellsparse_core::training::loss_elephant::{ElephantLossConfig, SegmentationLoss};
use cellsparse_core::training::patch::{PatchDraw, cut_patch, origin_range, rotate, rotated_size, size_range};
use common::{Fixture, all_fixtures};
use ndarray::{ArrayD, Axis, Ix2};

fn labels(fixture: &Fixture, name: &str) -> LabelImage {
    fixture.i32(name).into_dimensionality::<Ix2>().unwrap()
}

/// The names that end in `.what`, without that end.
fn cases(fixture: &Fixture, what: &str) -> Vec<String> {
    let end = format!(".{what}");
    fixture.names().iter().filter_map(|name| name.strip_suffix(&end).map(str::to_string)).collect()
}

#[test]
fn classes_equal_the_reference() {
    for fixture in all_fixtures("elephant/three_class") {
        for case in cases(&fixture, "seg") {
            let other = case.ends_with("_cr03_min4");
            let rule = if other { ClassRule::Ellipse { center_ratio: 0.3, min_area: 4 } } else { ClassRule::REFERENCE };
            let found = class_labels(labels(&fixture, &format!("{case}.label")).view(), &rule).unwrap();
            let expected = labels(&fixture, &format!("{case}.seg"));
            let name = format!("{case}.ambiguous");
            let ambiguous = fixture.has(&name).then(|| labels(&fixture, &name));
            for (at, class) in found.indexed_iter() {
                // The stored image counts from 0 for unlabelled pixels.
                let equal = *class == expected[at] - 1;
                assert!(equal || ambiguous.as_ref().is_some_and(|a| a[at] != 0), "{case} {at:?}: {class}");
            }
        }
    }
}

/// `[B, C, H, W]` to `[B, H, W, C]`, row-major.
fn channel_last(values: &ArrayD<f32>) -> Vec<f32> {
    values.view().permuted_axes(vec![0, 2, 3, 1]).iter().copied().collect()
}

#[test]
fn losses_and_gradients_equal_the_reference() {
    for fixture in all_fixtures("elephant/loss") {
        for case in cases(&fixture, "class_weights") {
            let weights = fixture.f32(&format!("{case}.class_weights"));
            let config = ElephantLossConfig {
                class_weights: [weights[[0]], weights[[1]], weights[[2]]],
                false_weight: fixture.f32(&format!("{case}.false_weight"))[[0]],
            };
            let mut loss = SegmentationLoss::new(config);
            for call in 0.. {
                let name = |what: &str| format!("{case}.{call}.{what}");
                if !fixture.has(&name("logits")) {
                    assert!(call > 0);
                    break;
                }
                let targets = fixture.i32(&name("target"));
                let shape = [targets.shape()[0], targets.shape()[1], targets.shape()[2]];
                let logits = channel_last(&fixture.f32(&name("logits")));
                let mut gradient = vec![0.0; logits.len()];
                let targets: Vec<i32> = targets.iter().copied().collect();
                let found = loss.forward(&logits, &targets, shape, Some(&mut gradient)).unwrap();
                let found = [found.cross_entropy, found.center_dice, found.smoothness, found.total];
                for (found, expected) in found.iter().zip(&fixture.f64(&name("values_f64"))) {
                    assert!((found - expected).abs() < 1e-5, "{case} {call}: {found} {expected}");
                }
                let expected = channel_last(&fixture.f32(&name("grad_logits")));
                for (at, (found, expected)) in gradient.iter().zip(&expected).enumerate() {
                    assert!((found - expected).abs() < 1e-7, "{case} {call} {at}: {found} {expected}");
                }
            }
        }
    }
}

/// The numbers of a recorded draw: its kind, its range if it has one, and the result last.
fn draws(fixture: &Fixture, item: &str) -> Vec<Vec<f64>> {
    let list = fixture.info()["draws"][item]["draws"].as_array().unwrap().clone();
    let numbers = |draw: &serde_json::Value| draw.as_array().unwrap().iter().filter_map(|n| n.as_f64()).collect();
    list.iter().map(numbers).collect()
}

#[test]
fn crops_equal_the_reference() {
    let mut count = 0;
    for fixture in all_fixtures("elephant/augment") {
        for item in cases(&fixture, "y") {
            let (set, _) = item.split_once('.').unwrap();
            let image = fixture.f32(&format!("{set}.image")).into_dimensionality::<Ix2>().unwrap();
            let targets = labels(&fixture, &format!("{set}.seg")).mapv(|class| class - 1);
            let expected = labels(&fixture, &format!("{item}.y"));
            let patch = [expected.nrows(), expected.ncols()];
            let draws = draws(&fixture, &item);
            let last = |k: usize| *draws[k].last().unwrap();
            let degrees = last(2) as i32;
            let labelled: Vec<(usize, usize)> =
                targets.indexed_iter().filter(|(_, target)| **target >= 0).map(|(at, _)| at).collect();
            assert_eq!(draws[3][1] as usize, labelled.len());
            let base = labelled[last(3) as usize];
            let (mut size, mut origin) = ([0; 2], [0; 2]);
            for k in 0..2 {
                let side = image.shape()[k];
                // Python's ranges: without the last number for sizes, with it for origins.
                let sizes = size_range(side, patch[k], 0.2);
                assert_eq!([sizes.start as f64, sizes.end as f64], draws[k][..2], "{item} size");
                size[k] = rotated_size(side, last(k) as usize, degrees);
                let origins = origin_range(side, size[k], [base.0, base.1][k]);
                assert_eq!([origins.start as f64, origins.end as f64 - 1.0], draws[4 + k][..2], "{item} origin");
                origin[k] = last(4 + k) as usize;
            }
            let info = &fixture.info()["draws"][&item];
            let flip = |name: &str| info[name].as_bool().unwrap();
            let draw = PatchDraw {
                origin,
                size,
                degrees,
                contrast: if draws.len() > 6 { last(6) } else { 1.0 },
                flip_rows: flip("flip_first_axis"),
                flip_columns: flip("flip_last_axis"),
            };
            let image = image.insert_axis(Axis(2));
            let (pixels, found) = cut_patch(image.view(), targets.view(), patch, &draw).unwrap().unwrap();
            compare(&item, &pixels.index_axis(Axis(2), 0).to_owned(), &fixture.f32(&format!("{item}.x")), 1e-5);
            // The reference rotates with 32-bit coordinates: one pixel in a thousand may fall to its neighbour.
            let wrong = found.iter().zip(&expected).filter(|(a, b)| **a != **b).count();
            assert!(wrong * 1000 <= found.len(), "{item}: {wrong} targets of {}", found.len());
            count += 1;
        }
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn rotations_equal_the_reference() {
    for fixture in all_fixtures("elephant/augment").iter().filter(|fixture| fixture.has("rot.image")) {
        let image = fixture.f32("rot.image").into_dimensionality::<Ix2>().unwrap().insert_axis(Axis(2));
        let classes = labels(fixture, "rot.seg");
        for case in cases(fixture, "nearest") {
            let degrees = case.strip_prefix("rot.").unwrap().parse().unwrap();
            // Unlabelled pixels are -1 here and 0 there.
            let (pixels, found) = rotate(image.view(), classes.mapv(|c| c - 1).view(), degrees).unwrap();
            assert_eq!(found, labels(fixture, &format!("{case}.nearest")).mapv(|c| c - 1), "{case}");
            let expected = fixture.f32(&format!("{case}.bilinear"));
            compare(&case, &pixels.index_axis(Axis(2), 0).to_owned(), &expected, 1e-5);
        }
    }
}

fn compare(case: &str, found: &ndarray::Array2<f32>, expected: &ArrayD<f32>, limit: f32) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= limit, "{case}: {difference}");
}
