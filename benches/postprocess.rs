//! From maps to objects without a network: watershed, distance transform, components; and the batches of ELEPHANT.
//!
//! `cargo bench -p cellsparse-core --bench postprocess`

use std::hint::black_box;

use cellsparse_core::geometry::distance::distance_transform_edt;
use cellsparse_core::postprocess::watershed::watershed;
use cellsparse_core::random::Random;
use cellsparse_core::raster::{Connectivity, LabelImage, label_components};
use cellsparse_core::training::batch_elephant::{ElephantBatch, ElephantBatchConfig, ElephantBatches};
use cellsparse_core::training::task::Task;
use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::{Array2, Array3};

const SIDE: usize = 2048;

/// Waves of about 60 pixels with noise on them, from 0 to about 1.
fn elevation() -> Array2<f32> {
    let mut random = Random::new(1, 0);
    let wave = |at: usize| (at as f32 * 0.1).sin();
    Array2::from_shape_fn((SIDE, SIDE), |(y, x)| 0.4 + 0.2 * (wave(y) + wave(x)) + 0.2 * random.unit() as f32)
}

fn markers(count: usize) -> LabelImage {
    let mut random = Random::new(2, 0);
    let mut markers = LabelImage::zeros((SIDE, SIDE));
    for id in 1..=count as i32 {
        markers[[random.below(SIDE), random.below(SIDE)]] = id;
    }
    markers
}

fn maps(criterion: &mut Criterion) {
    let (elevation, markers) = (elevation(), markers(4000));
    let mask = elevation.mapv(|level| level < 0.6);
    let mut group = criterion.benchmark_group("2048 x 2048");
    group.sample_size(10);
    group.bench_function("watershed, 4000 markers", |b| {
        b.iter(|| watershed(black_box(elevation.view()), markers.view(), None, Connectivity::Four))
    });
    let distances = distance_transform_edt(mask.view()).mapv(|distance| -distance);
    group.bench_function("watershed, distances in a mask", |b| {
        b.iter(|| watershed(black_box(distances.view()), markers.view(), Some(mask.view()), Connectivity::Four))
    });
    group.bench_function("distance transform", |b| b.iter(|| distance_transform_edt(black_box(mask.view()))));
    group.bench_function("components", |b| b.iter(|| label_components(black_box(mask.view()), Connectivity::Four)));
    group.finish();
}

fn training(criterion: &mut Criterion) {
    let mut random = Random::new(3, 0);
    let image = Array3::from_shape_simple_fn((512, 512, 1), || random.unit() as f32);
    let labels = LabelImage::from_shape_fn((512, 512), |(y, x)| match (y % 32, x % 32) {
        (8..24, 8..24) => (y / 32 * 16 + x / 32 + 1) as i32,
        (0..4, _) => 0,
        _ => -1,
    });
    let batches = ElephantBatches::new(vec![image], vec![labels], ElephantBatchConfig::default()).expect("batches");
    let mut batch = ElephantBatch::default();
    let mut index = 0;
    criterion.bench_function("ELEPHANT, batch of 8 patches of 224", |b| {
        b.iter(|| {
            index += 1;
            batches.batch_into(black_box(&mut batch), index)
        })
    });
    let logits = vec![(0..8 * 224 * 224 * 3).map(|_| random.normal() as f32).collect::<Vec<f32>>()];
    let mut gradients = Vec::new();
    criterion.bench_function("ELEPHANT, loss and gradient of 8 patches of 224", |b| {
        b.iter(|| batches.loss(&batch, None, black_box(&logits), Some(&mut gradients)))
    });
}

criterion_group!(benches, maps, training);
criterion_main!(benches);
