//! Whole trainings and predictions on an accelerator, or on the device that stands in for one: Candle on the CPU, by the same
//! code. `CELLSPARSE_TEST_DEVICE` names the accelerator, as in `cuda:0`.
#![cfg(feature = "candle")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Architecture, Device, Model, Precision, PredictOptions, Start, TrainOptions};
use crate::annotations::{Dataset, SparseLabels};
use crate::control::{ControlFlow, Progress, StopReason};
use crate::error::Error;
use crate::networks::{CellposeConfig, ElephantConfig, StarDistConfig};
use crate::raster::{Image, LabelImage};
use crate::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};

/// The accelerator.
fn accelerator() -> Device {
    let named = std::env::var("CELLSPARSE_TEST_DEVICE");
    named.map_or(Device::StandIn(usize::MAX), |name| name.parse().expect("a device"))
}

fn models() -> [Model; 3] {
    let star = StarDistConfig {
        n_rays: 8,
        n_filter_base: 4,
        n_depth: 2,
        net_conv_after_unet: 8,
        grid: [1, 1],
        ..StarDistConfig::default()
    };
    [
        Model::stardist(star, 1).unwrap(),
        Model::cellpose(CellposeConfig { widths: vec![4, 8], ..CellposeConfig::default() }, 1).unwrap(),
        Model::elephant(ElephantConfig { widths: vec![4, 8], ..ElephantConfig::default() }, 1).unwrap(),
    ]
}

fn data(seed: u64) -> Dataset {
    let field = draw_field(&FieldOptions { height: 96, width: 96, ..FieldOptions::default() }, seed).unwrap();
    let drawn = annotate(&field, &AnnotationOptions::default(), seed);
    Dataset::new(vec![field.image], vec![SparseLabels::from_signed(drawn).unwrap()]).unwrap()
}

fn options(steps: usize, device: Device) -> TrainOptions {
    TrainOptions {
        steps: Some(steps),
        batch_size: Some(2),
        patch_size: Some(32),
        learning_rate: Some(2e-3),
        start: Start::None,
        seed: 3,
        device,
        // In the numbers that the CPU is compared in, whatever it is quicker with.
        precision: Precision::F32,
        ..TrainOptions::default()
    }
}

/// Trains and gives the losses.
fn losses(model: &mut Model, data: &Dataset, validation: Option<&Dataset>, options: &TrainOptions) -> Vec<f32> {
    let mut losses = Vec::new();
    let summary = model.train(data, validation, options, &mut |event| {
        assert_eq!(event.step, losses.len() + 1, "every step is told once and in order");
        losses.push(event.loss);
        ControlFlow::Continue
    });
    assert_eq!(summary.unwrap().steps, losses.len());
    losses
}

fn assert_near(name: &str, found: &[f32], want: &[f32], bound: f32) {
    assert_eq!(found.len(), want.len(), "{name}");
    for (step, (found, want)) in found.iter().zip(want).enumerate() {
        assert!((found - want).abs() <= bound * (1.0 + want.abs()), "{name}, {step}: {found} instead of {want}");
    }
}

/// The share of the pixels that belong to objects in both images or in none.
fn agreement(a: &LabelImage, b: &LabelImage) -> f64 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(b).filter(|(a, b)| (**a > 0) == (**b > 0)).count() as f64 / a.len() as f64
}

/// The same pixels belong to objects, but for rounding.
fn assert_alike(a: &LabelImage, b: &LabelImage) {
    assert!(agreement(a, b) > 0.999, "{}", agreement(a, b));
}

/// The values of all kernels. The gradient of a bias before a normalisation is nothing but rounding, and the first steps of Adam
/// have the size of the rate in the direction of a gradient, however small that is.
fn kernels(model: &Model) -> Vec<f32> {
    let kernels = model.weights().parameters().iter().filter(|parameter| parameter.spec.shape.len() > 1);
    kernels.flat_map(|parameter| parameter.values.iter().copied()).collect()
}

#[test]
fn one_step_moves_the_weights_as_on_the_cpu() {
    let data = data(1);
    for model in models() {
        let trained = [Device::Cpu, accelerator()].map(|device| {
            let mut model = model.clone();
            losses(&mut model, &data, None, &options(1, device));
            model
        });
        let [on_cpu, on_device] = trained.each_ref().map(kernels);
        let same = on_cpu.iter().zip(&on_device).filter(|(a, b)| (*a - *b).abs() < 1e-5).count();
        assert!(same as f64 > 0.99 * on_cpu.len() as f64, "{}: {same} of {}", model.algorithm(), on_cpu.len());
    }
}

#[test]
fn a_training_has_the_loss_curve_and_the_quality_of_the_cpu() {
    let (data, validation) = (data(1), data(2));
    for model in models() {
        let name = model.algorithm().to_string();
        let trained = [Device::Cpu, accelerator()].map(|device| {
            let mut model = model.clone();
            let curve = losses(&mut model, &data, Some(&validation), &options(60, device));
            (model, curve)
        });
        let [(on_cpu, want), (on_device, found)] = trained;
        assert_near(&name, &found[..10], &want[..10], 1e-3);
        // Rounding grows from step to step.
        assert_near(&name, &found, &want, 0.1);
        assert!(want[50..].iter().sum::<f32>() < want[..10].iter().sum::<f32>(), "{name} learns: {want:?}");
        let of_history = [&on_cpu, &on_device].map(|model| model.history().validation_loss.clone());
        assert_near(&name, &of_history[1], &of_history[0], 0.1);
        // A model that was trained on one device predicts on any other. So small a network finds few objects, of which rounding can
        // take or give one: pixels are compared.
        let labels = |model: &Model, device: Device| {
            let options = PredictOptions { device, ..PredictOptions::default() };
            model.predict(&validation.images()[0], &options).unwrap().labels
        };
        let [want, other] = [Device::Cpu, accelerator()].map(|device| labels(&on_cpu, device));
        assert!(agreement(&want, &other) > 0.99, "{name}: {}", agreement(&want, &other));
        let found = labels(&on_device, Device::Cpu);
        assert!(agreement(&want, &found) > 0.9, "{name}: {}", agreement(&want, &found));
    }
}

#[test]
fn a_training_that_was_stopped_goes_on_where_it_was() {
    let data = data(1);
    for model in models() {
        let name = model.algorithm().to_string();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut cut = model.clone();
        let stopping = TrainOptions { checkpoint: Some(path.clone()), ..options(40, accelerator()) };
        let mut told = 0;
        let mut stop = |event: &Progress| {
            told = event.step;
            if event.step == 3 { ControlFlow::Stop } else { ControlFlow::Continue }
        };
        let summary = cut.train(&data, None, &stopping, &mut stop).unwrap();
        assert_eq!((told, summary.stopped), (3, StopReason::Cancelled), "{name}");
        let done = summary.steps;
        assert!((3..40).contains(&done), "{name}: {done}");
        assert_eq!(cut.history().total_steps(), done as u64, "{name}");
        assert!(Model::load(&path).unwrap().history().total_steps() >= 1, "{name}");
        let state = cut.state.as_ref().unwrap();
        assert_eq!((state.batches, state.optimizer.steps()), (done as u64, done as u64));

        // On the CPU from there: the memory of the optimiser came along.
        let resumed = |device: Device| {
            let mut model = cut.clone();
            losses(&mut model, &data, None, &TrainOptions { resume: true, ..options(5, device) })
        };
        assert_near(&name, &resumed(accelerator()), &resumed(Device::Cpu), 1e-3);
    }
}

#[test]
fn a_request_ends_a_step_and_leaves_what_was_learned() {
    let data = data(1);
    for mut model in models() {
        let options = options(1000, accelerator());
        let cancel = options.cancel.clone();
        let told = AtomicUsize::new(0);
        let summary = model.train(&data, None, &options, &mut |event| {
            told.store(event.step, Ordering::SeqCst);
            if event.step == 2 {
                cancel.cancel();
            }
            ControlFlow::Continue
        });
        let summary = summary.unwrap();
        assert_eq!(summary.stopped, StopReason::Cancelled);
        assert_eq!(summary.steps, told.load(Ordering::SeqCst), "every step that was done is told");
        assert!((2..100).contains(&summary.steps));
        let before = TrainOptions::default();
        before.cancel.cancel();
        let ended = model.train(&data, None, &before, &mut |_| ControlFlow::Continue);
        assert!(matches!(ended, Err(Error::Cancelled)));
    }
}

#[test]
fn a_time_budget_ends_it_and_a_rate_without_sense_is_said() {
    let data = data(1);
    let [mut model, ..] = models();
    let limited = TrainOptions { steps: None, time_budget: Some(Duration::from_secs(2)), ..options(1, accelerator()) };
    let summary = model.train(&data, None, &limited, &mut |_| ControlFlow::Continue).unwrap();
    assert!(summary.steps > 1 && summary.seconds < 20.0, "{summary:?}");
    let before = model.weights().clone();
    let wild = TrainOptions { learning_rate: Some(1e4), ..options(400, accelerator()) };
    let ended = model.train(&data, None, &wild, &mut |_| ControlFlow::Continue);
    assert!(matches!(ended, Err(Error::Diverged(_))), "{ended:?}");
    assert!(*model.weights() == before);
}

#[test]
fn sixteen_bits_learn_too() {
    let data = data(1);
    for mut model in models() {
        let options = TrainOptions { precision: Precision::Bf16, ..options(40, accelerator()) };
        let curve = losses(&mut model, &data, None, &options);
        let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
        assert!(mean(&curve[30..]) < mean(&curve[..10]), "{}: {curve:?}", model.algorithm());
        assert!(model.weights().is_finite());
    }
}

#[test]
fn a_stream_keeps_an_average_as_on_the_cpu() {
    let pools = |number: u64| {
        let field = draw_field(&FieldOptions { height: 64, width: 64, ..FieldOptions::default() }, number)?;
        Ok(vec![(field.image, field.truth)])
    };
    for model in models() {
        let trained = [Device::Cpu, accelerator()].map(|device| {
            let mut model = model.clone();
            model.train_on_stream(&pools, &options(4, device), &mut |_| ControlFlow::Continue).unwrap();
            model
        });
        let [on_cpu, on_device] = trained.each_ref().map(kernels);
        let same = on_cpu.iter().zip(&on_device).filter(|(a, b)| (*a - *b).abs() < 1e-4).count();
        assert!(same as f64 > 0.98 * on_cpu.len() as f64, "{}: {same} of {}", model.algorithm(), on_cpu.len());
    }
}

#[test]
fn smaller_tiles_and_batches_answer_a_lack_of_memory() {
    let field = draw_field(&FieldOptions { height: 400, width: 400, ..FieldOptions::default() }, 5).unwrap();
    let image: &Image = &field.image;
    let [mut star, mut cellpose, elephant] = models();
    for model in [&mut star, &mut cellpose] {
        losses(model, &data(1), None, &options(20, Device::Cpu));
    }
    let predict = |model: &Model, device: Device, diameter: Option<f32>| {
        model.predict(image, &PredictOptions { device, diameter, ..PredictOptions::default() })
    };
    let whole = predict(&star, accelerator(), None).unwrap();
    let parts = predict(&star, Device::StandIn(300 * 300), None).unwrap();
    assert_alike(&whole.labels, &parts.labels);
    // Several tiles of 224 x 224 at a time, or one.
    let together = predict(&cellpose, accelerator(), Some(30.0)).unwrap();
    let alone = predict(&cellpose, Device::StandIn(224 * 224), Some(30.0)).unwrap();
    assert_alike(&together.labels, &alone.labels);
    for (model, device) in [
        (&star, Device::StandIn(10)),
        (&cellpose, Device::StandIn(224 * 224 - 1)),
        (&elephant, Device::StandIn(300 * 300)),
    ] {
        let error = predict(model, device, std::ptr::eq(model, &cellpose).then_some(30.0)).unwrap_err();
        assert!(matches!(&error, Error::Limit(text) if text.contains("memory of the device")), "{error}");
    }
}

#[test]
fn a_large_image_in_tiles_is_the_same_as_on_the_cpu() {
    let field = draw_field(&FieldOptions { height: 200, width: 260, ..FieldOptions::default() }, 6).unwrap();
    let data = data(1);
    for mut model in models() {
        losses(&mut model, &data, None, &options(20, Device::Cpu));
        let predict = |device: Device| {
            let options = PredictOptions { device, tile: Some(128), ..PredictOptions::default() };
            model.predict(&field.image, &options).unwrap().labels
        };
        let (on_cpu, on_device) = (predict(Device::Cpu), predict(accelerator()));
        assert_alike(&on_cpu, &on_device);
    }
}

#[test]
fn an_architecture_of_every_kind_trains_on_a_device() {
    let data = data(1);
    let architectures: [Architecture; 3] = [
        StarDistConfig {
            n_rays: 4,
            n_filter_base: 2,
            n_depth: 1,
            batch_norm: true,
            grid: [2, 1],
            ..Default::default()
        }
        .into(),
        CellposeConfig { widths: vec![2, 2, 4], ..CellposeConfig::default() }.into(),
        ElephantConfig { widths: vec![4, 4, 8], residual: true, ..ElephantConfig::default() }.into(),
    ];
    for architecture in architectures {
        let model = Model::new(architecture, 0).unwrap();
        let [want, found] = [Device::Cpu, accelerator()].map(|device| {
            let mut model = model.clone();
            losses(&mut model, &data, None, &options(4, device))
        });
        assert_near(&model.algorithm().to_string(), &found, &want, 1e-3);
    }
}
