//! Training targets against recorded outputs of stardist 0.9.2.

use cellsparse_tests as common;

use cellsparse_core::targets::fill_label_holes;
use cellsparse_core::targets::stardist::{self, ObjectClasses};
use cellsparse_core::training::augment::Augmentation;
use cellsparse_core::training::batch::{BatchConfig, BatchMaker};
use cellsparse_core::training::sampler::{PatchOrigins, SamplingPolicy};
use common::{Fixture, fixture, fixture_and_real, max_abs_diff};
use ndarray::{Array2, Array3, Ix2, Ix3, s};

fn image(fixture: &Fixture, name: &str) -> Array2<i32> {
    fixture.i32(name).into_dimensionality::<Ix2>().unwrap()
}

fn map(fixture: &Fixture, name: &str) -> Array2<f32> {
    fixture.f32(name).into_dimensionality::<Ix2>().unwrap()
}

fn stack(fixture: &Fixture, name: &str) -> Array3<f32> {
    fixture.f32(name).into_dimensionality::<Ix3>().unwrap()
}

/// `r32_g22` -> 32 rays, grid (2, 2).
fn rays_and_grid(text: &str) -> (usize, [usize; 2]) {
    let (rays, grid) = text.strip_prefix('r').unwrap().split_once("_g").unwrap();
    let step = |i: usize| grid[i..=i].parse().unwrap();
    (rays.parse().unwrap(), [step(0), step(1)])
}

fn cases(fixture: &Fixture) -> Vec<String> {
    let names = fixture.names();
    names
        .iter()
        .filter_map(|name| name.strip_suffix(".label"))
        .filter(|case| *case != "vol")
        .map(String::from)
        .collect()
}

#[test]
fn object_probability() {
    let mut compared = 0;
    for fixture in fixture_and_real("stardist/targets") {
        for case in cases(&fixture).iter().filter(|case| *case != "neg") {
            let labels = image(&fixture, &format!("{case}.label"));
            let full = max_abs_diff(&stardist::edt_prob(labels.view()), &map(&fixture, &format!("{case}.edt_prob")));
            let coarse = stardist::edt_prob(labels.slice(s![..;2, ..;2]));
            let coarse = max_abs_diff(&coarse, &map(&fixture, &format!("{case}.edt_prob_g22")));
            assert!(full <= 1e-6 && coarse <= 1e-6, "{case}: {full} {coarse}");
            compared += 1;
        }
    }
    assert!(compared >= 5);
}

#[test]
fn radial_distances() {
    let mut compared = 0;
    for fixture in fixture_and_real("stardist/targets") {
        for name in fixture.names() {
            let Some((case, parameters)) = name.split_once(".star_dist_") else { continue };
            let (n_rays, grid) = rays_and_grid(parameters);
            // The reference keeps labels in 16 bits here and so loses object 65536; the library does not.
            let labels = image(&fixture, &format!("{case}.label")).mapv(|value| value & 0xffff);
            let found = stardist::star_dist(labels.view(), n_rays, grid).unwrap();
            let difference = max_abs_diff(&found, &stack(&fixture, &name));
            assert!(difference <= 1e-5, "{name}: {difference}");
            compared += 1;
        }
    }
    assert!(compared >= 15);
}

#[test]
fn filled_holes() {
    for fixture in fixture_and_real("stardist/targets") {
        for case in cases(&fixture) {
            let filled = fill_label_holes(image(&fixture, &format!("{case}.label")).view()).unwrap();
            assert_eq!(filled, image(&fixture, &format!("{case}.filled")), "{case}");
        }
    }
}

fn classes(value: &serde_json::Value) -> ObjectClasses {
    let entries = value.as_object().unwrap();
    entries.iter().map(|(id, class)| (id.parse().unwrap(), class.as_u64().map(|class| class as usize))).collect()
}

#[test]
fn class_targets() {
    let matching = fixture("stardist/matching");
    let known = classes(&matching.info()["classes"]);
    let labels = image(&matching, "categorical.label");
    let expected = stack(&matching, "categorical.map");
    let found = stardist::mask_to_categorical(labels.view(), expected.dim().2 - 1, &known).unwrap();
    assert_eq!(found, expected);

    let losses = fixture("stardist/losses");
    let known = [
        ObjectClasses::from([(1, None), (3, Some(2)), (4, Some(1))]),
        ObjectClasses::from([(1, None), (2, Some(2)), (5, Some(1))]),
    ];
    let labels = losses.i32("Y").into_dimensionality::<Ix3>().unwrap();
    for i in 0..2 {
        let known = &known[i];
        let patch = labels.index_axis(ndarray::Axis(0), i);
        let targets = stardist::stardist_targets(patch, 8, [2, 2], Some((2, known))).unwrap();
        let class = losses.f32("class_true").index_axis_move(ndarray::Axis(0), i);
        assert_eq!(targets.class.unwrap().into_dyn(), class, "image {i}");
        let prob = losses.f32("prob_true").index_axis_move(ndarray::Axis(0), i);
        let prob = prob.into_dimensionality::<Ix3>().unwrap().remove_axis(ndarray::Axis(2));
        assert!(max_abs_diff(&targets.prob, &prob) <= 1e-6);
    }
}

#[test]
fn patch_targets() {
    let data = fixture("stardist/datagen");
    let labels = image(&data, "y");
    for (case, grid) in [("g11", [1, 1]), ("g22", [2, 2])] {
        let targets = stardist::stardist_targets(labels.view(), 8, grid, None).unwrap();
        let prob = data.f32(&format!("{case}.prob")).remove_axis(ndarray::Axis(0));
        let prob = prob.into_dimensionality::<Ix3>().unwrap().remove_axis(ndarray::Axis(2));
        assert!(prob.iter().any(|&value| value == -1.0));
        assert!(max_abs_diff(&targets.prob, &prob) <= 1e-6);
        let expected = data.f32(&format!("{case}.dist_mask")).remove_axis(ndarray::Axis(0));
        let expected = expected.into_dimensionality::<Ix3>().unwrap();
        assert!(max_abs_diff(&targets.dist, &expected.slice(s![.., .., ..8]).to_owned()) <= 1e-5);
        assert!(max_abs_diff(&targets.mask, &expected.slice(s![.., .., 8]).to_owned()) <= 1e-6);
    }
}

#[test]
fn whole_batches() {
    let data = fixture("stardist/datagen");
    let image = map(&data, "x").insert_axis(ndarray::Axis(2));
    let labels = self::image(&data, "y");
    for (case, grid) in [("g11", [1, 1]), ("g22", [2, 2])] {
        let config = BatchConfig {
            batch_size: 1,
            patch: 96,
            grid,
            n_rays: 8,
            policy: SamplingPolicy::Reference,
            augmentation: Augmentation::none(),
            ..BatchConfig::default()
        };
        let batch = BatchMaker::new(vec![image.clone()], vec![labels.clone()], config).unwrap().batch(3).unwrap();
        assert_eq!(batch.images, data.f32(&format!("{case}.X")).into_raw_vec_and_offset().0);
        let near = |found: &[f32], expected: &[f32], tolerance: f32| {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance)
        };
        assert!(near(&batch.prob, &data.f32(&format!("{case}.prob")).into_raw_vec_and_offset().0, 1e-6));
        let both = batch.dist.chunks(8).zip(&batch.mask).flat_map(|(rays, mask)| rays.iter().chain([mask])).copied();
        let both: Vec<f32> = both.collect();
        assert!(near(&both, &data.f32(&format!("{case}.dist_mask")).into_raw_vec_and_offset().0, 1e-5));
    }
}

#[test]
fn valid_patch_centres() {
    let data = fixture("stardist/datagen");
    let labels = image(&data, "y");
    let centres = |counts: fn(i32) -> bool| {
        let mut centres = Array2::zeros(labels.dim());
        for (row, column) in PatchOrigins::containing(labels.view(), [32, 48], counts).unwrap().iter() {
            centres[[row + 16, column + 24]] = 1;
        }
        centres
    };
    assert_eq!(centres(|value| value > 0), image(&data, "valid_fg_patch32x48"));
    assert_eq!(centres(|_| true), image(&data, "valid_all_patch32x48"));
}
