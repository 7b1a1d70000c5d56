//! StarDist from end to end: a batch of targets, training steps, a prediction, non-maximum suppression.
//!
//! `cargo bench -p cellsparse-core --bench stardist`

use std::hint::black_box;

use cellsparse_core::annotations::{Dataset, SparseLabels};
use cellsparse_core::model::{Model, PredictOptions, TrainOptions};
use cellsparse_core::postprocess::StarCandidates;
use cellsparse_core::postprocess::nms::non_maximum_suppression;
use cellsparse_core::random::Random;
use cellsparse_core::synthetic::{AnnotationOptions, Field, FieldOptions, annotate, draw_field};
use cellsparse_core::training::batch::{Batch, BatchConfig, BatchMaker};
use cellsparse_core::{ControlFlow, StarDistConfig};
use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::Array2;

fn field(side: usize) -> Field {
    draw_field(&FieldOptions { height: side, width: side, ..Default::default() }, 1).expect("a field")
}

fn batches(criterion: &mut Criterion) {
    let field = field(256);
    let labels = annotate(&field, &AnnotationOptions::default(), 1);
    let maker = BatchMaker::new(vec![field.image.to_f32()], vec![labels], BatchConfig::default()).expect("batches");
    let mut batch = Batch::default();
    let mut index = 0;
    criterion.bench_function("batch of 8 patches of 224 with targets", |b| {
        b.iter(|| {
            index += 1;
            maker.batch_into(black_box(&mut batch), index)
        })
    });
}

fn training(criterion: &mut Criterion) {
    let field = field(256);
    let labels = SparseLabels::from_signed(annotate(&field, &AnnotationOptions::default(), 1)).expect("labels");
    let data = Dataset::new(vec![field.image], vec![labels]).expect("data");
    let mut group = criterion.benchmark_group("training");
    group.sample_size(10);
    group.bench_function("4 steps of 8 patches of 224", |b| {
        b.iter(|| {
            let mut model = Model::stardist(StarDistConfig::default(), 0)?;
            let options = TrainOptions { steps: Some(4), ..Default::default() };
            model.train(&data, None, &options, &mut |_| ControlFlow::Continue)
        })
    });
    group.finish();
}

fn prediction(criterion: &mut Criterion) {
    let model = Model::stardist(StarDistConfig::default(), 0).expect("a model");
    let image = field(1024).image;
    let options = PredictOptions { prob_thresh: Some(0.9), ..Default::default() };
    let mut group = criterion.benchmark_group("prediction");
    group.sample_size(10);
    group.bench_function("1024 x 1024", |b| b.iter(|| model.predict(black_box(&image), &options)));
    group.finish();
}

/// Candidates of round objects of radius 15 at random places, 400 square pixels for each.
fn crowd(count: usize) -> StarCandidates {
    let mut random = Random::new(1, 0);
    let side = ((count * 400) as f64).sqrt();
    let points = (0..count).map(|_| [random.uniform(0.0, side) as i32, random.uniform(0.0, side) as i32]).collect();
    let prob = (0..count).map(|_| random.unit() as f32).collect();
    let dist = Array2::from_shape_fn((count, 32), |_| random.uniform(14.0, 16.0) as f32);
    StarCandidates { points, prob, dist }.sorted().unwrap()
}

fn suppression(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("non-maximum suppression");
    group.sample_size(10);
    for count in [1_000, 10_000, 50_000] {
        let crowd = crowd(count);
        group.bench_function(format!("{count} candidates"), |b| {
            b.iter(|| non_maximum_suppression(black_box(&crowd), 0.4))
        });
    }
    group.finish();
}

criterion_group!(benches, batches, training, prediction, suppression);
criterion_main!(benches);
