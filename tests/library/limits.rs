//! Limits of time: work that grows with what it is given and no faster, and that ends when it is asked to.

use std::time::{Duration, Instant};

use cellsparse_core::annotations::{Dataset, SparseLabels};
use cellsparse_core::formats::geojson::{GeoJsonOptions, to_geojson_until};
use cellsparse_core::formats::write_ome_tiff;
use cellsparse_core::model::{PredictOptions, Start, TrainOptions};
use cellsparse_core::networks::{CellposeConfig, ElephantConfig};
use cellsparse_core::postprocess::StarCandidates;
use cellsparse_core::postprocess::nms::{non_maximum_suppression, non_maximum_suppression_until};
use cellsparse_core::raster::{
    ReadOptions, decode_image_with, decode_labels_with, read_image_with, read_label_file_with, write_gray_png16,
};
use cellsparse_core::{CancelToken, ControlFlow, Error, Image, LabelImage, Model, StarDistConfig};
use ndarray::Array2;

/// The promise is 0.3 seconds on an idle machine; tests share theirs with others.
const HEARD: Duration = Duration::from_secs(3);

fn tiny(n_rays: usize) -> StarDistConfig {
    StarDistConfig { n_filter_base: 4, n_rays, n_depth: 1, net_conv_after_unet: 8, ..Default::default() }
}

fn models() -> [Model; 3] {
    let widths = vec![2, 2];
    [
        Model::stardist(tiny(32), 0).unwrap(),
        Model::cellpose(CellposeConfig { widths: widths.clone(), ..Default::default() }, 0).unwrap(),
        Model::elephant(ElephantConfig { widths, ..Default::default() }, 0).unwrap(),
    ]
}

/// Square cells on a lattice with that distance in an image of `size` x `size` pixels, of which the left tenth is unlabelled.
fn lattice(size: usize, distance: usize) -> Dataset {
    let across = size / distance + 1;
    let inside = |y: usize, x: usize| y % distance < distance - 2 && x % distance < distance - 2;
    let labels = LabelImage::from_shape_fn((size, size), |(y, x)| match (inside(y, x), x > size / 10) {
        (_, false) => -1,
        (true, _) => (y / distance * across + x / distance + 1) as i32,
        _ => 0,
    });
    let image = Array2::from_shape_fn((size, size), |(y, x)| {
        (if inside(y, x) { 150.0 } else { 20.0 }) + ((y * 7 + x * 13) % 11) as f32
    });
    Dataset::new(vec![Image::from_gray(image)], vec![SparseLabels::from_signed(labels).unwrap()]).unwrap()
}

fn short(cancel: &CancelToken) -> TrainOptions {
    TrainOptions {
        steps: Some(1),
        batch_size: Some(1),
        patch_size: Some(64),
        start: Start::None,
        cancel: cancel.clone(),
        ..TrainOptions::default()
    }
}

/// Begins `work`, asks it to stop after a while, and checks that it does.
fn assert_heard(name: &str, after: Duration, work: impl FnOnce(&CancelToken) -> Result<(), Error> + Send) {
    let cancel = CancelToken::new();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| (work(&cancel), Instant::now()));
        std::thread::sleep(after);
        let asked = Instant::now();
        cancel.cancel();
        let (result, ended) = worker.join().unwrap();
        let took = ended.saturating_duration_since(asked);
        assert!(took < HEARD, "{name}: {took:?} after a request at {after:?}");
        assert!(matches!(result, Ok(()) | Err(Error::Cancelled)), "{name}: {result:?}");
    });
}

#[test]
fn training_with_many_drawn_cells_takes_no_longer_than_a_moment() {
    let data = lattice(800, 6);
    let begin = Instant::now();
    let mut model = Model::stardist(tiny(8), 0).unwrap();
    model.train(&data, None, &short(&CancelToken::new()), &mut |_| ControlFlow::Continue).unwrap();
    // Five seconds on two idle cores; minutes when the choice of thresholds compares all candidates again and again.
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?} with 16,000 cells", begin.elapsed());
}

/// As many candidates in one place, none of which is the other.
fn heap(count: usize) -> StarCandidates {
    StarCandidates {
        points: (0..count).map(|k| [(k % 7) as i32, (k / 7 % 7) as i32]).collect(),
        prob: (0..count).map(|k| 1.0 - k as f32 / count as f32).collect(),
        dist: Array2::from_shape_fn((count, 16), |(k, ray)| 10.0 + ((k * 31 + ray * 17) % 23) as f32),
    }
}

#[test]
fn candidates_that_may_all_stay_are_not_compared() {
    let begin = Instant::now();
    assert_eq!(non_maximum_suppression(&heap(120_000), 1.0).unwrap().len(), 120_000);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn the_comparison_of_a_heap_of_candidates_ends_when_it_is_cancelled() {
    let heap = heap(120_000);
    assert_heard("suppression", Duration::from_millis(300), |cancel| {
        non_maximum_suppression_until(&heap, 0.999, cancel).map(drop)
    });
}

#[test]
fn predictions_end_when_they_are_cancelled() {
    let data = lattice(1200, 24);
    let image = &data.images()[0];
    for model in &models() {
        for after in [1, 60, 250, 600, 1200].map(Duration::from_millis) {
            assert_heard(&format!("prediction of {}", model.algorithm()), after, |cancel| {
                // So low that nearly everything is an object.
                let options = PredictOptions { cancel: cancel.clone(), ..PredictOptions::default() };
                let options = match model.algorithm() {
                    cellsparse_core::Algorithm::Stardist => {
                        PredictOptions { prob_thresh: Some(0.3), nms_thresh: Some(0.99), ..options }
                    }
                    cellsparse_core::Algorithm::Cellpose => {
                        PredictOptions { cellprob_threshold: Some(-9.0), ..options }
                    }
                    _ => PredictOptions { prob_thresh: Some(0.1), ..options },
                };
                model.predict(image, &options).map(drop)
            });
        }
    }
}

#[test]
fn trainings_end_before_their_first_step_when_they_are_cancelled() {
    let data = lattice(1200, 24);
    for model in &mut models() {
        let before = model.weights().clone();
        for after in [1, 100, 300, 700].map(Duration::from_millis) {
            let mut trained = model.clone();
            assert_heard(&format!("training of {}", model.algorithm()), after, |cancel| {
                trained.train(&data, None, &short(cancel), &mut |_| ControlFlow::Continue).map(drop)
            });
        }
        let raised = CancelToken::new();
        raised.cancel();
        let ended = model.train(&data, None, &short(&raised), &mut |_| ControlFlow::Continue);
        assert!(matches!(ended, Err(Error::Cancelled)) && *model.weights() == before);
    }
}

#[test]
fn the_step_of_a_training_ends_when_it_is_cancelled() {
    // Half a second a step at least.
    let data = lattice(256, 24);
    let mut model = Model::stardist(StarDistConfig::default(), 0).unwrap();
    let options =
        TrainOptions { steps: Some(1000), batch_size: Some(8), patch_size: Some(224), ..TrainOptions::default() };
    let (mut steps, mut asked) = (0, Instant::now());
    let cancel = options.cancel.clone();
    let summary = model
        .train(&data, None, &options, &mut |event| {
            steps = event.step;
            if event.step == 1 {
                let cancel = cancel.clone();
                asked = Instant::now();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    cancel.cancel();
                });
            }
            ControlFlow::Continue
        })
        .unwrap();
    assert_eq!((summary.steps, summary.stopped), (steps, cellsparse_core::StopReason::Cancelled));
    assert!(steps <= 2, "{steps} steps");
    assert_eq!(model.info().steps, steps as u64);
}

#[test]
fn readings_and_outlines_end_when_they_are_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let noise = |y: usize, x: usize| (y * 7919 + x * 104_729) as u32 >> 3 & 0x3ff;
    let labels = LabelImage::from_shape_fn((2500, 2500), |(y, x)| noise(y, x) as i32);
    let [png, tif] = ["a.png", "b.tif"].map(|name| folder.path().join(name));
    write_gray_png16(&png, labels.mapv(|label| label as u16).view()).unwrap();
    write_ome_tiff(&tif, "b", &labels, None).unwrap();
    let bytes = std::fs::read(&png).unwrap();
    type Work<'a> = Box<dyn Fn(&CancelToken) -> Result<(), Error> + Send + Sync + 'a>;
    let reading = |cancel: &CancelToken| ReadOptions { cancel: cancel.clone(), ..ReadOptions::default() };
    let works: [(&str, Work<'_>); 5] = [
        ("an image", Box::new(|cancel| read_image_with(&png, &reading(cancel)).map(drop))),
        ("labels", Box::new(|cancel| read_label_file_with(&tif, &reading(cancel)).map(drop))),
        ("an image in memory", Box::new(|cancel| decode_image_with(&bytes, &reading(cancel)).map(drop))),
        ("labels in memory", Box::new(|cancel| decode_labels_with(&bytes, &reading(cancel)).map(drop))),
        ("outlines", Box::new(|cancel| to_geojson_until(&labels, &GeoJsonOptions::default(), cancel).map(drop))),
    ];
    for (name, work) in &works {
        let raised = CancelToken::new();
        raised.cancel();
        assert!(matches!(work(&raised), Err(Error::Cancelled)), "{name}");
        assert_heard(name, Duration::from_millis(30), work);
    }
}

#[test]
fn objects_of_elephant_hardly_depend_on_tiles() {
    use cellsparse_core::metrics::{Criterion, matching};
    use cellsparse_core::model::Starter;
    use cellsparse_core::synthetic::{FieldOptions, draw_field};
    let mut model = Model::elephant(ElephantConfig::default(), 0).unwrap();
    let starter = Starter::shipped(cellsparse_core::Algorithm::Elephant).unwrap().expect("starting weights");
    model.begin_with(&starter).unwrap().unwrap();
    // Cells in one half only, so that tiles differ.
    let field = draw_field(&FieldOptions { height: 400, width: 400, ..FieldOptions::default() }, 3).unwrap();
    let mut pixels = field.image.to_f32();
    let empty = pixels.slice(ndarray::s![..40, ..40, ..]).mean().unwrap();
    pixels.slice_mut(ndarray::s![.., 230.., ..]).fill(empty);
    let image = Image::F32(pixels);
    let found = |tile| model.predict(&image, &PredictOptions { tile, ..PredictOptions::default() }).unwrap().labels;
    let whole = found(None);
    for tile in [128, 192, 256] {
        let scores = matching(&whole, &found(Some(tile)), 0.5, Criterion::Iou, false).unwrap();
        eprintln!("tiles of {tile}: {} of {} objects, {} more", scores.tp, scores.n_true, scores.fp);
        // By their own statistics, tiles of 128 pixels found a sixth more than the whole image.
        assert!(scores.n_true > 20 && scores.f1 > 0.93, "tiles of {tile}: {scores:?}");
    }
}
