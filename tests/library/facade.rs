//! Every algorithm through the facade: train, predict, save, load, resume, options, state dicts.

use cellsparse_tests as common;

use std::collections::HashMap;

use cellsparse_core::annotations::{Dataset, SparseLabels};
use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::model::{
    Algorithm, Architecture, Device, Model, Postprocess, Precision, PredictOptions, Preset, Start, Thresholds,
    TrainOptions,
};
use cellsparse_core::networks::{CellposeConfig, ElephantConfig, Level};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::{Budget, CancelToken, ControlFlow, Error, Image, Result, StarDistConfig, StopReason};
use ndarray::{Array3, Axis, concatenate};

/// Small networks of all algorithms.
fn tiny() -> [Architecture; 3] {
    [
        StarDistConfig { n_filter_base: 8, n_depth: 2, net_conv_after_unet: 16, ..Default::default() }.into(),
        CellposeConfig { widths: vec![8, 16, 16], diam_mean: 16.0, ..Default::default() }.into(),
        ElephantConfig { widths: vec![8, 16, 32], ..Default::default() }.into(),
    ]
}

fn field(seed: u64) -> (Image, SparseLabels, ndarray::Array2<i32>) {
    let options = FieldOptions { height: 128, width: 128, ..FieldOptions::default() };
    let field = draw_field(&options, seed).unwrap();
    let annotations = AnnotationOptions { cells: 5, ..AnnotationOptions::default() };
    let labels = SparseLabels::from_signed(annotate(&field, &annotations, seed)).unwrap();
    (field.image, labels, field.truth)
}

fn data(seed: u64) -> Dataset {
    let (image, labels, _) = field(seed);
    Dataset::new(vec![image], vec![labels]).unwrap()
}

fn options(steps: usize) -> TrainOptions {
    TrainOptions {
        steps: Some(steps),
        batch_size: Some(2),
        patch_size: Some(64),
        device: Device::Cpu,
        threads: Some(2),
        ..TrainOptions::default()
    }
}

fn on_cpu() -> PredictOptions {
    PredictOptions { device: Device::Cpu, threads: Some(2), ..PredictOptions::default() }
}

fn train(model: &mut Model, options: &TrainOptions) -> Result<()> {
    model.train(&data(1), None, options, &mut |_| ControlFlow::Continue).map(drop)
}

#[test]
fn precision_is_chosen_by_option() {
    let (image, _, _) = field(1);
    for architecture in tiny() {
        let trained = |precision, threads| {
            let mut model = Model::new(architecture.clone(), 0).unwrap();
            train(&mut model, &TrainOptions { precision, threads: Some(threads), ..options(3) }).unwrap();
            let mut bytes = Vec::new();
            model.to_writer(&mut bytes).unwrap();
            bytes
        };
        let bytes = trained(Precision::Bf16, 1);
        assert!(bytes == trained(Precision::Bf16, 2), "the number of threads changes the weights");
        assert!(bytes != trained(Precision::F32, 1), "16 bits change nothing");
        let quicker = if Level::detect().is_quicker_in_bf16() { Precision::Bf16 } else { Precision::F32 };
        assert!(trained(Precision::Auto, 1) == trained(quicker, 1));
        // One model answers in both, in any order.
        let model = Model::from_reader(&bytes[..]).unwrap();
        let found = |precision| model.predict(&image, &PredictOptions { precision, ..on_cpu() }).unwrap();
        let probabilities = |precision| found(precision).objects.iter().map(|o| o.probability).collect::<Vec<_>>();
        let first = probabilities(Precision::F32);
        assert_eq!(probabilities(Precision::Bf16), probabilities(Precision::Bf16));
        assert_eq!(first, probabilities(Precision::F32));
    }
    let refused = |options: TrainOptions| train(&mut Model::new(tiny()[0].clone(), 0).unwrap(), &options).unwrap_err();
    let sixteen = TrainOptions { precision: Precision::Bf16, ..options(1) };
    let error = refused(TrainOptions { preset: Preset::Reference, ..sixteen.clone() });
    assert!(error.to_string().contains("reference preset computes in 32 bits"), "{error}");
    let error = refused(TrainOptions { precision: Precision::Tf32, ..sixteen });
    assert!(error.to_string().contains("precision tf32: CUDA devices alone have it"), "{error}");
    assert!("half".parse::<Precision>().unwrap_err().to_string().contains("auto, f32, tf32 and bf16"));
    for precision in [Precision::Auto, Precision::F32, Precision::Tf32, Precision::Bf16] {
        assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
    }
}

#[test]
fn every_algorithm_learns_to_find_cells() {
    for architecture in tiny() {
        let algorithm = architecture.algorithm();
        let mut model = Model::new(architecture, 0).unwrap();
        train(&mut model, &options(120)).unwrap();
        let (image, _, truth) = field(1);
        let found = model.predict(&image, &on_cpu()).unwrap();
        let score = matching(&truth, &found.labels, 0.5, Criterion::Iou, false).unwrap();
        // A tiny network that begins with random weights; most are found by all three from the starting weights.
        let least = match algorithm {
            Algorithm::Cellpose => 0.5,
            Algorithm::Elephant => 0.7,
            _ => 0.2,
        };
        assert!(score.accuracy > least, "{algorithm}: {score:?}");
        let ids: Vec<i32> = found.objects.iter().map(|object| object.id).collect();
        assert_eq!(ids, (1..=found.labels.iter().copied().max().unwrap()).collect::<Vec<_>>());
        for object in &found.objects {
            assert!(object.polygon.len() >= 3 && (0.0..=1.0).contains(&object.probability), "{algorithm}: {object:?}");
        }
    }
}

#[test]
fn files_resume_and_threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for preset in [Preset::Default, Preset::Reference] {
        for architecture in tiny() {
            let algorithm = architecture.algorithm();
            let path = folder.path().join(format!("{algorithm}.safetensors"));
            // A constant rate, so that two halves are one whole.
            let steps = |steps| TrainOptions { preset, learning_rate: Some(1e-3), ..options(steps) };
            let mut one = Model::new(architecture.clone(), 5).unwrap();
            train(&mut one, &TrainOptions { threads: Some(1), ..steps(4) }).unwrap();
            let mut eight = Model::new(architecture, 5).unwrap();
            train(&mut eight, &TrainOptions { threads: Some(8), ..steps(4) }).unwrap();
            assert_eq!(one.weights(), eight.weights(), "{algorithm}");

            one.save(&path).unwrap();
            let mut loaded = Model::load(&path).unwrap();
            assert_eq!(loaded.thresholds(), one.thresholds(), "{algorithm}");
            let (image, ..) = field(2);
            assert_eq!(loaded.predict(&image, &on_cpu()).unwrap(), one.predict(&image, &on_cpu()).unwrap());

            let again = TrainOptions { resume: true, ..steps(3) };
            train(&mut loaded, &again).unwrap();
            train(&mut one, &again).unwrap();
            assert_eq!(loaded.weights(), one.weights(), "{algorithm}");
            assert_eq!(loaded.history().total_steps(), 7);
        }
    }
}

#[test]
fn images_that_are_scaled_already_are_taken_as_they_are() {
    let (image, labels, _) = field(1);
    for architecture in tiny() {
        let algorithm = architecture.algorithm();
        let mut scaling = Model::new(architecture.clone(), 5).unwrap();
        let scaled = Image::F32(scaling.normalization().apply(&image).unwrap());
        scaling.train(&data(1), Some(&data(1)), &options(2), &mut |_| ControlFlow::Continue).unwrap();
        let mut taking = Model::new(architecture, 5).unwrap();
        let as_they_are = TrainOptions { normalized: true, ..options(2) };
        let set = Dataset::new(vec![scaled.clone()], vec![labels.clone()]).unwrap();
        taking.train(&set, Some(&set), &as_they_are, &mut |_| ControlFlow::Continue).unwrap();
        assert_eq!(scaling.weights(), taking.weights(), "{algorithm}");
        assert_eq!(scaling.thresholds(), taking.thresholds(), "{algorithm}");
        let found = taking.predict(&scaled, &PredictOptions { normalized: true, ..on_cpu() }).unwrap();
        assert_eq!(found, scaling.predict(&image, &on_cpu()).unwrap(), "{algorithm}");
    }
}

#[test]
fn a_training_that_is_stopped_on_large_images_is_usable_in_a_moment() {
    const SIDE: usize = 2001;
    let is_cell = |y: usize, x: usize| y % 40 < 20 && x % 40 < 20;
    let image = Image::U8(Array3::from_shape_fn((SIDE, SIDE, 1), |(y, x, _)| if is_cell(y, x) { 200 } else { 10 }));
    let labels = ndarray::Array2::from_shape_fn((SIDE, SIDE), |(y, x)| match (y < 40 && x < 40, is_cell(y, x)) {
        (true, true) => 1,
        (true, false) => 0,
        (false, _) => -1,
    });
    let data = Dataset::new(vec![image], vec![SparseLabels::from_signed(labels).unwrap()]).unwrap();
    let mut model = Model::new(tiny()[0].clone(), 0).unwrap();
    let mut asked = std::time::Instant::now();
    let mut observer = |_: &cellsparse_core::Progress| {
        asked = std::time::Instant::now();
        ControlFlow::Stop
    };
    let summary = model.train(&data, None, &options(100), &mut observer).unwrap();
    // A quarter of a second at rest; all of the image would take many.
    assert!(asked.elapsed().as_secs() < 3, "{:?}", asked.elapsed());
    assert_eq!((summary.steps, summary.stopped), (1, StopReason::Cancelled));
    let Thresholds::Stardist(thresholds) = model.thresholds() else { panic!("{:?}", model.thresholds()) };
    assert_eq!(thresholds.smallest_object, 100.0);
}

#[test]
fn a_new_model_begins_with_the_starting_weights_unless_it_is_told_otherwise_or_they_do_not_fit() {
    let small = |steps| TrainOptions { batch_size: Some(1), patch_size: Some(32), ..options(steps) };
    let begun = |architecture: &Architecture, options: &TrainOptions| {
        let mut model = Model::new(architecture.clone(), 0).unwrap();
        let summary = model.train(&data(1), None, options, &mut |_| ControlFlow::Continue).unwrap();
        (summary.begun, summary.notes.iter().any(|note| note.contains("starting weights belong")), model)
    };
    for (algorithm, other) in [Algorithm::Stardist, Algorithm::Cellpose, Algorithm::Elephant].into_iter().zip(tiny()) {
        assert!(cellsparse_core::starters::names().contains(&algorithm.name()), "{algorithm}");
        let usual = Architecture::of(algorithm, 1);
        let (start, told, mut model) = begun(&usual, &small(1));
        assert_eq!((start, told), ("starter", false), "{algorithm}");
        let on = model.train(&data(1), None, &small(1), &mut |_| ControlFlow::Continue).unwrap();
        assert_eq!(on.begun, "model", "{algorithm}");
        let (start, told, _) = begun(&usual, &TrainOptions { start: Start::None, ..small(1) });
        assert_eq!((start, told), ("random", false), "{algorithm}");
        let (start, told, _) = begun(&usual, &TrainOptions { preset: Preset::Reference, ..small(1) });
        assert_eq!((start, told), ("random", false), "{algorithm}");
        let (start, told, _) = begun(&other, &small(1));
        assert_eq!((start, told), ("random", true), "{algorithm}");
    }
}

#[test]
fn ten_steps_from_the_starting_weights_find_most_cells_of_another_field() {
    for algorithm in [Algorithm::Stardist, Algorithm::Cellpose, Algorithm::Elephant] {
        let mut model = Model::new(Architecture::of(algorithm, 1), 0).unwrap();
        train(&mut model, &options(10)).unwrap();
        let (image, _, truth) = field(2);
        let found = model.predict(&image, &on_cpu()).unwrap();
        let score = matching(&truth, &found.labels, 0.5, Criterion::Iou, false).unwrap();
        assert!(score.accuracy > 0.7, "{algorithm}: {score:?}");
    }
}

#[test]
fn a_training_that_makes_a_good_model_worse_gives_the_model_back() {
    for architecture in tiny() {
        let algorithm = architecture.algorithm();
        let mut model = Model::new(architecture, 0).unwrap();
        train(&mut model, &options(120)).unwrap();
        let (weights, thresholds) = (model.weights().clone(), model.thresholds());
        let wild = TrainOptions { learning_rate: Some(0.2), ..options(3) };
        let summary = model.train(&data(1), None, &wild, &mut |_| ControlFlow::Continue).unwrap();
        assert_eq!(summary.kept, "start", "{algorithm}");
        assert!(summary.notes.iter().any(|note| note.contains("were kept")), "{algorithm}: {:?}", summary.notes);
        assert_eq!((model.weights(), model.thresholds()), (&weights, thresholds), "{algorithm}");
    }
}

#[test]
fn images_without_anything_in_them_have_no_objects_and_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = cellsparse_core::random::Random::new(7, 0);
    let shape = (96, 80, 1);
    let noise: Array3<f32> = Array3::from_shape_fn(shape, |_| 100.0 + 20.0 * random.normal() as f32);
    let empty = [
        Image::U8(Array3::zeros(shape)),
        Image::U16(Array3::from_elem(shape, 777)),
        Image::U8(noise.mapv(|value| value as u8)),
        Image::F32(noise),
    ];
    for architecture in tiny() {
        let algorithm = architecture.algorithm();
        let mut model = Model::new(architecture, 0).unwrap();
        train(&mut model, &options(30)).unwrap();
        let path = folder.path().join("model.safetensors");
        model.save(&path).unwrap();
        for model in [&model, &Model::load(&path).unwrap()] {
            for image in &empty {
                let found = model.predict(image, &on_cpu()).unwrap();
                assert!(found.objects.is_empty() && found.labels.iter().all(|label| *label == 0), "{algorithm}");
                assert_eq!(found.labels.dim(), (96, 80));
                assert!(found.notes[0].starts_with("nothing found: "), "{algorithm}: {:?}", found.notes);
            }
        }
    }
}

#[test]
fn a_threshold_above_everything_is_named() {
    let [stardist, ..] = tiny();
    let mut model = Model::new(stardist, 0).unwrap();
    train(&mut model, &options(2)).unwrap();
    let found = model.predict(&field(1).0, &PredictOptions { prob_thresh: Some(0.999), ..on_cpu() }).unwrap();
    assert!(found.objects.is_empty() && found.notes[0].contains("the threshold 1.00 lies above"), "{:?}", found.notes);
}

#[test]
fn an_optimiser_of_another_preset_is_not_resumed() {
    let [_, cellpose, _] = tiny();
    let mut model = Model::new(cellpose, 0).unwrap();
    train(&mut model, &options(1)).unwrap();
    let other = TrainOptions { resume: true, preset: Preset::Reference, ..options(1) };
    let message = train(&mut model, &other).unwrap_err().to_string();
    assert!(message.contains("preset"), "{message}");
}

#[test]
fn options_of_another_algorithm_are_refused() {
    let (image, ..) = field(3);
    let [stardist, cellpose, elephant] = tiny().map(|architecture| Model::new(architecture, 0).unwrap());
    let message = |model: &Model, options: PredictOptions| model.predict(&image, &options).unwrap_err().to_string();
    let said = message(&stardist, PredictOptions { diameter: Some(20.0), ..on_cpu() });
    assert!(said.contains("diameter is not an option of stardist") && said.contains("nms_thresh"), "{said}");
    let said = message(&cellpose, PredictOptions { prob_thresh: Some(0.5), ..on_cpu() });
    assert!(said.contains("flow_threshold, cellprob_threshold, diameter, augment"), "{said}");
    let said = message(&elephant, PredictOptions { flow_threshold: Some(0.5), ..on_cpu() });
    assert!(said.contains("postprocess"), "{said}");
    let mut elephant = elephant;
    let said = elephant.set_thresholds(Thresholds::of(Algorithm::Cellpose)).unwrap_err().to_string();
    assert!(said.contains("cellpose") && said.contains("elephant"), "{said}");
    let said = message(&cellpose, PredictOptions { diameter: Some(0.0), ..on_cpu() });
    assert!(said.contains("diameter is 0"), "{said}");
}

#[test]
fn sizes_that_no_network_divides_are_predicted() {
    for architecture in tiny() {
        let model = Model::new(architecture, 0).unwrap();
        for (height, width) in [(1, 1), (3, 50), (37, 53), (131, 65)] {
            let image =
                Image::F32(Array3::from_shape_fn((height, width, 1), |(y, x, _)| ((y * 7 + x * 3) % 11) as f32));
            for tile in [None, Some(48)] {
                let found = model.predict(&image, &PredictOptions { tile, ..on_cpu() }).unwrap();
                assert_eq!(found.labels.dim(), (height, width), "{}", model.algorithm());
            }
        }
    }
}

#[test]
fn channels_are_averaged_where_the_original_does() {
    let (image, ..) = field(4);
    let Image::U8(gray) = &image else { panic!("fields are 8-bit") };
    let gray = gray.mapv(f32::from);
    // The mean of two equal values is that value to the last bit.
    let twice = Image::F32(concatenate(Axis(2), &[gray.view(), gray.view()]).unwrap());
    let rgb = Image::F32(concatenate(Axis(2), &[gray.view(), gray.view(), gray.view()]).unwrap());
    let [stardist, cellpose, elephant] = tiny().map(|architecture| Model::new(architecture, 0).unwrap());
    assert!(stardist.predict(&twice, &on_cpu()).is_err());
    for model in [cellpose, elephant] {
        let mut found = model.predict(&twice, &on_cpu()).unwrap();
        let said =
            |note: &String| note.contains("the image has 2 channels and the model takes 1: the mean of all 2 is taken");
        assert!(found.notes.iter().any(said), "{:?}", found.notes);
        found.notes.retain(|note| !said(note));
        assert_eq!(found, model.predict(&Image::F32(gray.clone()), &on_cpu()).unwrap());
    }
    let reference = CellposeConfig { n_channels: 2, widths: vec![4, 8], diam_mean: 30.0 };
    assert!(Model::new(reference, 0).unwrap().predict(&rgb, &on_cpu()).is_ok());
}

#[test]
fn both_postprocessings_of_elephant_can_be_asked_for() {
    let [_, _, elephant] = tiny();
    let mut model = Model::new(elephant, 0).unwrap();
    train(&mut model, &options(60)).unwrap();
    let (image, ..) = field(1);
    for postprocess in [Postprocess::Watershed, Postprocess::Ellipse] {
        let found = model.predict(&image, &PredictOptions { postprocess: Some(postprocess), ..on_cpu() }).unwrap();
        assert!(!found.objects.is_empty(), "{postprocess:?}");
    }
}

#[test]
fn mirrored_tiles_give_nearly_the_same_cells() {
    let [_, cellpose, _] = tiny();
    let mut model = Model::new(cellpose, 0).unwrap();
    train(&mut model, &options(120)).unwrap();
    let (image, ..) = field(1);
    let plain = model.predict(&image, &on_cpu()).unwrap();
    let augmented = model.predict(&image, &PredictOptions { augment: true, ..on_cpu() }).unwrap();
    assert_ne!(plain.objects, augmented.objects);
    let score = matching(&plain.labels, &augmented.labels, 0.5, Criterion::Iou, false).unwrap();
    assert!(score.accuracy > 0.6, "{score:?}");
}

#[test]
#[cfg_attr(not(real_images), ignore = "the folder with real images is not there (CELLSPARSE_SHARED)")]
fn the_recorded_cellpose_network_finds_the_recorded_cells() {
    let shared = common::shared().unwrap();
    let recorded = common::Fixture::read(&shared.join("fixtures/cellpose/toy_end_to_end.safetensors"));
    let trained = recorded.names().into_iter().filter_map(|name| {
        let values = recorded.f32(&name);
        Some((name.strip_prefix("trained.")?.to_string(), (values.shape().to_vec(), values.iter().copied().collect())))
    });
    let model = Model::from_state_dict(trained.collect()).unwrap();
    let image = recorded.f32("test_image").into_dimensionality::<ndarray::Ix2>().unwrap().insert_axis(Axis(2));
    let found = model.predict_normalized(image.view(), &on_cpu()).unwrap();
    let labels = |name: &str| recorded.i32(name).into_dimensionality::<ndarray::Ix2>().unwrap();
    let score = |labels: &ndarray::Array2<i32>| {
        matching(&recorded_truth(&recorded), labels, 0.5, Criterion::Iou, false).unwrap().accuracy
    };
    let (ours, theirs) = (score(&found.labels), score(&labels("test_masks")));
    assert!((ours - theirs).abs() <= 0.03, "AP {ours} and {theirs}");
    let same = matching(&labels("test_masks"), &found.labels, 0.7, Criterion::Iou, false).unwrap();
    assert!(same.accuracy > 0.9, "{same:?}");
}

fn recorded_truth(recorded: &common::Fixture) -> ndarray::Array2<i32> {
    recorded.i32("test_true").into_dimensionality().unwrap()
}

#[test]
fn state_dicts_of_both_pytorch_networks_go_around() {
    let [stardist, cellpose, elephant] = tiny();
    assert!(Model::new(stardist, 0).unwrap().to_state_dict().is_err());
    let residual = ElephantConfig { widths: vec![8, 16], residual: true, n_channels: 2 };
    for architecture in [cellpose, elephant, residual.into()] {
        let model = Model::new(architecture, 7).unwrap();
        let arrays: HashMap<_, _> =
            model.to_state_dict().unwrap().into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        let back = Model::from_state_dict(arrays.clone()).unwrap();
        assert_eq!(back.weights(), model.weights());
        assert_eq!(back.architecture(), model.architecture());
        let mut damaged = arrays;
        damaged.retain(|name, _| !name.ends_with("bias"));
        assert!(Model::from_state_dict(damaged).unwrap_err().to_string().contains("missing"));
    }
    let unknown = HashMap::from([("fc.weight".to_string(), (vec![1], vec![1.0]))]);
    assert!(Model::from_state_dict(unknown).unwrap_err().to_string().contains("'fc.weight'"));
}

fn megabytes(n: u64) -> Option<Budget> {
    Some(Budget::new(n << 20).unwrap())
}

#[test]
fn work_beyond_the_memory_is_refused_before_it_begins() {
    let limited = |result: Result<()>, words: &[&str]| match result {
        Err(Error::Limit(message)) => words.iter().for_each(|word| assert!(message.contains(word), "{message}")),
        other => panic!("{other:?}"),
    };
    let (gigabytes, image) = (megabytes(4096), Image::U8(Array3::zeros((1000, 1000, 1))));
    let predict = |model: &Model, image: &Image, options: PredictOptions| model.predict(image, &options).map(drop);
    let [stardist, cellpose, elephant] = tiny().map(|architecture| Model::new(architecture, 0).unwrap());
    // Cells of one pixel are enlarged sixteen times.
    let tiny_cells = PredictOptions { diameter: Some(1.0), memory: gigabytes, ..on_cpu() };
    limited(predict(&cellpose, &image, tiny_cells), &["16000 x 16000", "diameter of 1", "4.0 GiB", "larger diameter"]);
    let whole = PredictOptions { tile: Some(65536), memory: megabytes(200), ..on_cpu() };
    limited(predict(&elephant, &image, whole.clone()), &["tile", "200 MiB"]);
    for model in [&stardist, &cellpose, &elephant] {
        limited(predict(model, &image, on_cpu_with(megabytes(7))), &["1000 x 1000", "7.0 MiB"]);
        limited(predict(model, &image, on_cpu_with(megabytes(12))), &["12 MiB", "allow more memory"]);
    }
    // A batch of the largest patches, from the architecture of any algorithm.
    for architecture in tiny() {
        let mut model = Model::new(architecture, 0).unwrap();
        let large = TrainOptions { batch_size: Some(8), patch_size: Some(4096), memory: gigabytes, ..options(1) };
        limited(train(&mut model, &large), &["8 patches of 4096 x 4096", "4.0 GiB", "batch_size"]);
        assert_eq!(model.info().steps, 0);
    }
    // A tile may be larger than the image: it is then as large as the image.
    let small = Image::U8(Array3::from_shape_fn((64, 64, 1), |(y, x, _)| (y * x % 251) as u8));
    for model in [&stardist, &cellpose, &elephant] {
        let augment = model.algorithm() == Algorithm::Cellpose;
        let options = PredictOptions { tile: Some(65536), augment, memory: megabytes(512), ..on_cpu() };
        let found = model.predict(&small, &options).unwrap();
        assert_eq!(found, model.predict(&small, &PredictOptions { tile: None, ..options }).unwrap());
    }
}

fn on_cpu_with(memory: Option<Budget>) -> PredictOptions {
    PredictOptions { memory, ..on_cpu() }
}

#[test]
fn less_memory_means_smaller_tiles_and_the_same_objects() {
    let options = FieldOptions { height: 420, width: 300, ..FieldOptions::default() };
    let image = draw_field(&options, 4).unwrap().image;
    for architecture in &tiny()[..2] {
        let mut model = Model::new(architecture.clone(), 0).unwrap();
        train(&mut model, &self::options(200)).unwrap();
        model.release();
        let whole = model.predict(&image, &on_cpu_with(megabytes(4096))).unwrap();
        let mut same = 0;
        for budget in [120, 80, 60, 40, 30, 20, 15] {
            model.release();
            match model.predict(&image, &on_cpu_with(megabytes(budget))) {
                Ok(found) => {
                    same += 1;
                    let other = found.labels.iter().zip(&whole.labels).filter(|(a, b)| (**a > 0) != (**b > 0)).count();
                    assert!(other * 500 < whole.labels.len(), "{} with {budget} MB: {other}", model.algorithm());
                }
                Err(error) => assert!(matches!(error, Error::Limit(_)), "{error}"),
            }
        }
        assert!(same >= 2 && !whole.objects.is_empty(), "{}: {same} budgets sufficed", model.algorithm());
    }
}

#[test]
fn what_was_learned_survives_the_choice_of_thresholds() {
    for architecture in tiny() {
        let mut model = Model::new(architecture, 0).unwrap();
        let before = model.weights().clone();
        let cancel = CancelToken::new();
        let options = TrainOptions { cancel: cancel.clone(), ..options(2) };
        // Raised with the last step: too late to stop the training, in time for the thresholds.
        let mut last = |progress: &cellsparse_core::Progress| {
            if progress.step == 2 {
                cancel.cancel();
            }
            ControlFlow::Continue
        };
        let summary = model.train(&data(1), Some(&data(2)), &options, &mut last).unwrap();
        assert_eq!(summary.steps, 2);
        assert_ne!(model.weights(), &before, "the weights were lost");
        assert!(summary.notes.iter().any(|note| note.contains("thresholds")), "{:?}", summary.notes);
    }
}
