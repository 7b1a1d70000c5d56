//! Optimiser steps and predictions against the original, and the promises of the training loop.

use cellsparse_tests as common;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cellsparse_core::annotations::{Dataset, SparseLabels};
use cellsparse_core::model::{Model, PredictOptions, Preset, TrainOptions};
use cellsparse_core::networks::Method;
use cellsparse_core::networks::{CpuPlan, StarDistConfig, Weights};
use cellsparse_core::raster::tile_axis;
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::training::loss_stardist::{
    Head, StarGradients, StarLossConfig, StarOutputs, StarTruth, stardist_loss,
};
use cellsparse_core::training::optimizer::Adam;
use cellsparse_core::{ControlFlow, Error, Image, LabelImage, Progress, StopReason};
use common::{Fixture, fixture, fixture_and_real};
use ndarray::{Array2, Ix2, Ix3, s};

type Arrays = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn arrays(fixture: &Fixture, prefix: &str) -> Arrays {
    fixture
        .names()
        .into_iter()
        .filter_map(|name| {
            let layer = name.strip_prefix(prefix)?.to_string();
            let values = fixture.f32(&name);
            Some((layer, (values.shape().to_vec(), values.iter().copied().collect())))
        })
        .collect()
}

#[test]
fn five_optimiser_steps_equal_the_original() {
    let recorded = fixture("stardist/trainstep");
    let config =
        StarDistConfig { n_filter_base: 4, n_rays: 8, n_depth: 2, net_conv_after_unet: 8, ..Default::default() };
    let graph = Arc::new(config.graph());
    let weights_after = |step: usize| Weights::from_named(&graph, arrays(&recorded, &format!("w{step}."))).unwrap();
    let mut weights = weights_after(0);
    let mut adam = Adam::new(&weights);
    let mut plan = CpuPlan::new(&graph, Method::Direct, [2, 32, 32], true).unwrap();
    let losses = recorded.f32("losses_total_prob_dist");
    let mut gradients: Vec<Vec<f32>> = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
    for step in 0..5 {
        let values = |name: &str| recorded.f32(&format!("batch{step}.{name}")).iter().copied().collect::<Vec<f32>>();
        let dist_mask = values("dist_true_mask");
        let dist: Vec<f32> = dist_mask.as_chunks::<9>().0.iter().flat_map(|pixel| pixel[..8].to_vec()).collect();
        let mask: Vec<f32> = dist_mask.as_chunks::<9>().0.iter().map(|pixel| pixel[8]).collect();
        let prob = values("prob_true");
        plan.set_weights(&weights);
        plan.forward(&weights, &values("x"));
        let output = |index: usize| {
            let mut output = vec![0.0; plan.output_shape(index).iter().product()];
            plan.output(index, &mut output);
            output
        };
        let outputs = [output(0), output(1)];
        let mut output_gradients: Vec<Vec<f32>> = outputs.iter().map(|o| vec![0.0; o.len()]).collect();
        let [prob_gradient, dist_gradient] = output_gradients.as_mut_slice() else { panic!() };
        let loss = stardist_loss(
            &StarLossConfig::default(),
            Head::Logits,
            StarOutputs { prob: &outputs[0], dist: &outputs[1], class: None },
            StarTruth { prob: &prob, dist: &dist, mask: &mask, class: None },
            Some(StarGradients { prob: prob_gradient, dist: dist_gradient, class: None }),
        )
        .unwrap();
        for (got, index) in [(loss.total, 0), (loss.prob, 1), (loss.dist, 2)] {
            let want = f64::from(losses[[step, index]]);
            assert!((got - want).abs() <= 1e-4 * want.abs(), "step {step} part {index}: {got} and {want}");
        }
        let output_gradients: Vec<&[f32]> = output_gradients.iter().map(Vec::as_slice).collect();
        plan.backward(&weights, &output_gradients, &mut gradients);
        adam.step(&mut weights, &gradients, 1e-3);
        if [1, 2, 5].contains(&(step + 1)) {
            for (got, want) in weights.parameters().iter().zip(weights_after(step + 1).parameters()) {
                let worst = got.values.iter().zip(&want.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-5, "{} after {} steps: off by {worst:e}", got.spec.name, step + 1);
            }
        }
    }
}

fn recorded_small_net() -> Model {
    let config = StarDistConfig { n_filter_base: 8, net_conv_after_unet: 32, ..Default::default() };
    Model::with_weights(config, arrays(&fixture("stardist/small_net"), "w.")).unwrap()
}

/// Intersection over union of one object in two label images.
fn overlap(a: &Array2<i32>, b: &Array2<i32>, id: i32) -> f64 {
    let count = |f: &dyn Fn(bool, bool) -> bool| a.iter().zip(b).filter(|(a, b)| f(**a == id, **b == id)).count();
    count(&|a, b| a && b) as f64 / count(&|a, b| a || b).max(1) as f64
}

#[test]
fn instances_equal_the_original() {
    let model = recorded_small_net();
    for recorded in fixture_and_real("stardist/instances") {
        let image = recorded.f32("a.input").into_dimensionality::<Ix2>().unwrap();
        let image = image.insert_axis(ndarray::Axis(2));
        for (case, prob, nms) in [("p50_n40", 0.5, 0.4), ("p30_n30", 0.3, 0.3)] {
            let options = PredictOptions { prob_thresh: Some(prob), nms_thresh: Some(nms), ..Default::default() };
            let got = model.predict_normalized(image.view(), &options).unwrap();
            let key = |part: &str| format!("a.sparse.{case}.{part}");
            let want_labels = recorded.i32(&key("labels")).into_dimensionality::<Ix2>().unwrap();
            let want_prob = recorded.f32(&key("prob"));
            let coord = recorded.f32(&key("coord")).into_dimensionality::<Ix3>().unwrap();
            assert_eq!(got.objects.len(), want_prob.len(), "{case}");
            for (index, object) in got.objects.iter().enumerate() {
                assert!((object.probability - want_prob[index]).abs() <= 1e-4, "{case} object {index}");
                for (k, [y, x]) in object.polygon.iter().enumerate() {
                    assert!((y - coord[[index, 0, k]]).abs() <= 2e-3, "{case} object {index} vertex {k}");
                    assert!((x - coord[[index, 1, k]]).abs() <= 2e-3, "{case} object {index} vertex {k}");
                }
                let agreement = overlap(&got.labels, &want_labels, object.id);
                assert!(agreement > 0.99, "{case} object {index}: IoU {agreement}");
            }
        }
    }
}

#[test]
fn tiles_give_the_objects_of_the_whole_image() {
    let model = recorded_small_net();
    let field = draw_field(&FieldOptions { height: 420, width: 350, ..Default::default() }, 5).unwrap();
    let image = model.normalization().apply(&field.image).unwrap();
    let predict = |tile: Option<usize>| {
        let options = PredictOptions { tile, prob_thresh: Some(0.3), ..Default::default() };
        model.predict_normalized(image.view(), &options).unwrap()
    };
    let whole = predict(None);
    assert!(whole.objects.len() > 10, "{} objects", whole.objects.len());
    for tile in [224, 272, 320] {
        let tiled = predict(Some(tile));
        let differing = whole.labels.iter().zip(&tiled.labels).filter(|(a, b)| a != b).count();
        assert_eq!(tiled.objects.len(), whole.objects.len(), "tiles of {tile}");
        assert!(differing * 1000 < whole.labels.len(), "tiles of {tile}: {differing} pixels differ");
    }
}

#[test]
fn tile_chains_equal_the_original() {
    let text = std::fs::read_to_string(common::fixtures().join("stardist/covers.json")).unwrap();
    let covers: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pair = |value: &serde_json::Value| [value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize];
    let mut checked = 0;
    for case in covers["tiling"].as_array().unwrap() {
        let Some(read) = case["read"].as_array() else { continue };
        let (n, overlap) = (case["args"][0].as_u64().unwrap(), case["args"][2].as_u64().unwrap());
        let tile = pair(&read[0])[1];
        let spans = tile_axis(n as usize, tile, overlap as usize);
        let got: Vec<_> = spans.iter().map(|s| ([s.begin, s.end], [s.keep_begin, s.keep_end])).collect();
        let write = case["write"].as_array().unwrap();
        let want: Vec<_> = read.iter().zip(write).map(|(read, write)| (pair(read), pair(write))).collect();
        assert_eq!(got, want, "{}", case["args"]);
        checked += 1;
    }
    assert!(checked > 3, "{checked} cases");
}

fn tiny() -> StarDistConfig {
    StarDistConfig { n_filter_base: 8, n_rays: 8, n_depth: 2, net_conv_after_unet: 16, ..Default::default() }
}

fn annotated(seed: u64) -> Dataset {
    let field = draw_field(&FieldOptions { height: 96, width: 96, ..Default::default() }, seed).unwrap();
    let labels = annotate(&field, &AnnotationOptions { cells: 4, ..Default::default() }, seed);
    Dataset::new(vec![field.image], vec![SparseLabels::from_signed(labels).unwrap()]).unwrap()
}

fn options(steps: usize) -> TrainOptions {
    TrainOptions { steps: Some(steps), batch_size: Some(2), patch_size: Some(48), ..Default::default() }
}

fn go_on(_: &Progress) -> ControlFlow {
    ControlFlow::Continue
}

#[test]
fn the_same_seed_gives_the_same_weights_for_every_number_of_threads() {
    let train = |threads: usize, seed: u64| {
        let mut model = Model::stardist(tiny(), seed).unwrap();
        let options = TrainOptions { threads: Some(threads), seed, ..options(8) };
        model.train(&annotated(1), None, &options, &mut go_on).unwrap();
        model.weights().clone()
    };
    let one = train(1, 3);
    assert!(one == train(2, 3));
    assert!(one == train(8, 3));
    assert!(one != train(1, 4));
}

#[test]
fn training_lowers_the_loss_and_reports_every_step() {
    let mut model = Model::stardist(tiny(), 0).unwrap();
    let mut events = Vec::new();
    let summary = model
        .train(&annotated(2), Some(&annotated(3)), &options(60), &mut |event| {
            events.push(event.clone());
            ControlFlow::Continue
        })
        .unwrap();
    assert_eq!((summary.steps, summary.stopped, summary.device.as_str()), (60, StopReason::Finished, "cpu"));
    assert_eq!(events.iter().map(|e| e.step).collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
    assert!(events.iter().all(|e| e.total_steps == 60 && e.losses.len() == 2 && e.learning_rate > 0.0));
    assert!(events.iter().filter(|e| e.validation_loss.is_some()).count() >= 2);
    let mean = |range: std::ops::Range<usize>| events[range].iter().map(|e| e.loss).sum::<f32>() / 10.0;
    assert!(mean(50..60) < 0.95 * mean(0..10), "{} and {}", mean(50..60), mean(0..10));
    let history = model.history();
    assert_eq!((history.total_steps(), history.loss.len(), history.losses.len()), (60, 60, 2));
}

#[test]
fn stopping_leaves_a_usable_model_at_every_step() {
    for stop_at in [1, 2, 5] {
        let mut model = Model::stardist(tiny(), 0).unwrap();
        let before = model.weights().clone();
        let summary = model
            .train(&annotated(1), None, &options(50), &mut |event| {
                if event.step == stop_at { ControlFlow::Stop } else { ControlFlow::Continue }
            })
            .unwrap();
        assert_eq!((summary.steps, summary.stopped), (stop_at, StopReason::Cancelled));
        assert!(model.weights().is_finite() && *model.weights() != before);
        model.predict(annotated(1).images().first().unwrap(), &PredictOptions::default()).unwrap();
    }
    let mut model = Model::stardist(tiny(), 0).unwrap();
    let cancelled = options(50);
    cancelled.cancel.cancel();
    assert!(matches!(model.train(&annotated(1), None, &cancelled, &mut go_on), Err(Error::Cancelled)));
}

#[test]
fn a_time_budget_ends_the_training() {
    let mut model = Model::stardist(tiny(), 0).unwrap();
    let options = TrainOptions { time_budget: Some(Duration::from_millis(300)), steps: None, ..options(1) };
    let summary = model.train(&annotated(1), None, &options, &mut go_on).unwrap();
    assert_eq!(summary.stopped, StopReason::TimeBudget);
    assert!(summary.steps >= 1);
}

#[test]
fn a_saved_model_predicts_the_same_and_resumes_as_if_it_had_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data = annotated(1);
    // The reference preset has a constant rate, so twice 4 steps are the 8 steps of one run.
    let four = TrainOptions { preset: Preset::Reference, ..options(4) };
    let mut whole = Model::stardist(tiny(), 0).unwrap();
    whole.train(&data, None, &TrainOptions { steps: Some(8), ..four.clone() }, &mut go_on).unwrap();

    let mut first = Model::stardist(tiny(), 0).unwrap();
    first.train(&data, None, &four, &mut go_on).unwrap();
    first.save(&path).unwrap();
    let mut second = Model::load(&path).unwrap();
    let image = &data.images()[0];
    let predict =
        |model: &Model| model.predict(image, &PredictOptions { prob_thresh: Some(0.1), ..Default::default() });
    assert_eq!(predict(&first).unwrap(), predict(&second).unwrap());
    assert_eq!(second.thresholds(), first.thresholds());
    assert_eq!(second.history(), first.history());

    second.train(&data, None, &TrainOptions { resume: true, ..four.clone() }, &mut go_on).unwrap();
    assert!(second.weights() == whole.weights());
    assert_eq!(second.history().total_steps(), 8);
    let mut fresh = Model::stardist(tiny(), 0).unwrap();
    let error = fresh.train(&data, None, &TrainOptions { resume: true, ..four }, &mut go_on).unwrap_err();
    assert!(error.to_string().contains("optimiser state"), "{error}");
}

#[test]
fn a_checkpoint_can_be_loaded_from_the_first_step_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model = Model::stardist(tiny(), 0).unwrap();
    let options = TrainOptions { checkpoint: Some(path.clone()), ..options(50) };
    let mut steps = Vec::new();
    model
        .train(&annotated(1), None, &options, &mut |event| {
            if let Ok(saved) = Model::load(&path) {
                steps.push((event.step, saved.history().total_steps()));
            }
            ControlFlow::Continue
        })
        .unwrap();
    assert_eq!(steps.first(), Some(&(1, 1)));
    assert!(steps.contains(&(25, 25)), "the end of an epoch: {steps:?}");
    assert!(steps.iter().all(|(step, saved)| *saved as usize <= *step), "{steps:?}");
    assert_eq!(steps.last(), Some(&(50, 50)));
}

#[test]
fn a_training_that_is_cancelled_does_not_wait_for_one_more_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("models");
    std::fs::create_dir(&place).unwrap();
    let mut model = Model::stardist(tiny(), 0).unwrap();
    let options = TrainOptions { checkpoint: Some(place.join("model.safetensors")), ..options(50) };
    let summary = model.train(&annotated(1), None, &options, &mut |event| {
        if event.step == 3 {
            // From here on, no file can be written.
            std::fs::remove_dir_all(&place).unwrap();
            options.cancel.cancel();
        }
        ControlFlow::Continue
    });
    let summary = summary.unwrap();
    assert_eq!((summary.steps, summary.stopped), (3, StopReason::Cancelled));
}

#[test]
fn a_diverging_training_is_an_error_and_leaves_the_model_alone() {
    let mut model = Model::stardist(tiny(), 0).unwrap();
    let before = model.weights().clone();
    let options = TrainOptions { learning_rate: Some(1e4), ..options(100) };
    let error = model.train(&annotated(1), None, &options, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)) && error.to_string().contains("learning rate"), "{error}");
    assert!(*model.weights() == before);
}

#[test]
fn unlabelled_pixels_do_not_teach() {
    // Exchanging two pixels further from every label than the network sees must not change the gradient at all;
    // exchanging two within a drawn cell must. The histogram, and with it the scaling, stays the same.
    let mut labels: LabelImage = Array2::from_elem((200, 200), -1);
    // The cell is too small to tell anything about the rest of the image.
    labels.slice_mut(s![4..8, 4..8]).fill(1);
    labels.slice_mut(s![16..18, 2..20]).fill(0);
    let radius = tiny().receptive_radius()[0];
    assert!(20 + radius < 150, "the network sees {radius} pixels");
    let pixels = Array2::from_shape_fn((200, 200), |(y, x)| ((y * 7 + x * 3) % 101) as f32);
    let train = |a: [usize; 2], b: [usize; 2]| {
        let mut pixels = pixels.clone();
        pixels.swap(a, b);
        let labels = SparseLabels::from_signed(labels.clone()).unwrap();
        let data = Dataset::new(vec![Image::from_gray(pixels)], vec![labels]).unwrap();
        let mut model = Model::stardist(tiny(), 0).unwrap();
        let options = TrainOptions { patch_size: Some(200), ..options(1) };
        model.train(&data, None, &options, &mut go_on).unwrap();
        model.weights().clone()
    };
    let unchanged = train([0, 0], [0, 0]);
    assert!(train([160, 170], [190, 155]) == unchanged);
    assert!(train([5, 5], [7, 6]) != unchanged);
}

#[test]
fn classes_are_learned_and_returned() {
    let field = draw_field(&FieldOptions { height: 96, width: 96, ..Default::default() }, 7).unwrap();
    let labels = SparseLabels::from_signed(field.truth.clone()).unwrap();
    let classes = labels.ids().map(|id| (id, Some(1 + id as u32 % 2))).collect();
    let data = Dataset::new(vec![field.image.clone()], vec![labels.with_classes(classes).unwrap()]).unwrap();
    let mut model = Model::stardist(StarDistConfig { n_classes: Some(2), ..tiny() }, 0).unwrap();
    let mut parts = Vec::new();
    model
        .train(&data, None, &TrainOptions { learning_rate: Some(5e-3), ..options(80) }, &mut |event| {
            parts = event.losses.clone();
            ControlFlow::Continue
        })
        .unwrap();
    assert_eq!(parts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["prob", "dist", "class"]);
    let options = PredictOptions { prob_thresh: Some(0.1), ..Default::default() };
    let objects = model.predict(&field.image, &options).unwrap().objects;
    assert!(!objects.is_empty());
    assert!(objects.iter().all(|object| object.class.is_some_and(|class| class <= 2)));
}

#[test]
fn a_damaged_model_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("model.safetensors");
    Model::stardist(tiny(), 0).unwrap().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Model::load(&path).unwrap_err().to_string()
    };
    for len in (0..bytes.len()).step_by(bytes.len() / 40) {
        refused(&bytes[..len]);
    }
    let mut flipped = bytes.clone();
    let last = flipped.len() - 2;
    flipped[last] ^= 1;
    assert!(refused(&flipped).contains("checksum"));
    assert!(refused(b"not a model at all").contains("safetensors"));
    std::fs::write(&path, &bytes).unwrap();
    Model::load(&path).unwrap();
}
