//! Images of another pixel size than those of the training are seen at the size of the training.

use cellsparse_core::annotations::{Dataset, SparseLabels};
use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::model::{Algorithm, Architecture, Device, Model, PredictOptions, Preset, TrainOptions};
use cellsparse_core::raster::{resize_bilinear, resize_nearest};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::{ControlFlow, Image, LabelImage};

const SIDE: usize = 128;

/// A field with its annotation and the truth, that many times as large.
fn field(times: f64) -> (Image, LabelImage, LabelImage) {
    let options = FieldOptions { height: SIDE, width: SIDE, ..FieldOptions::default() };
    let field = draw_field(&options, 3).unwrap();
    let drawn = annotate(&field, &AnnotationOptions { cells: 6, ..AnnotationOptions::default() }, 3);
    let side = (SIDE as f64 * times) as usize;
    let labels = |labels: &LabelImage| resize_nearest(labels.view(), side, side).unwrap();
    let pixels = resize_bilinear(field.image.to_f32().view(), side, side).unwrap();
    (Image::F32(pixels), labels(&drawn), labels(&field.truth))
}

fn trained(algorithm: Algorithm, data: &Dataset, options: TrainOptions) -> (Model, Vec<String>) {
    let mut model = Model::new(Architecture::of(algorithm, 1), 0).unwrap();
    let options = TrainOptions {
        steps: Some(12),
        batch_size: Some(2),
        patch_size: Some(96),
        device: Device::Cpu,
        threads: Some(2),
        ..options
    };
    let summary = model.train(data, None, &options, &mut |_| ControlFlow::Continue).unwrap();
    (model, summary.notes)
}

fn dataset(times: &[f64], sizes: Vec<Option<[f64; 2]>>) -> Dataset {
    let pairs = times.iter().map(|times| field(*times));
    let (images, labels) = pairs.map(|(image, drawn, _)| (image, SparseLabels::from_signed(drawn).unwrap())).unzip();
    Dataset::new(images, labels).unwrap().with_pixel_sizes(sizes).unwrap()
}

/// Average precision on the field that many times as large, whose pixels are smaller by as much unless nothing is said, and
/// the notes.
fn score(model: &Model, times: f64, pixel_size: Option<f64>, rescale: bool) -> (f64, Vec<String>) {
    let (image, _, truth) = field(times);
    let options = PredictOptions {
        pixel_size: pixel_size.map(|side| [side, side]),
        rescale,
        device: Device::Cpu,
        threads: Some(2),
        ..PredictOptions::default()
    };
    let found = model.predict(&image, &options).unwrap();
    assert_eq!(found.labels.dim(), truth.dim(), "results are in the pixels of the image");
    (matching(&truth, &found.labels, 0.5, Criterion::Iou, false).unwrap().accuracy, found.notes)
}

#[test]
fn every_algorithm_finds_cells_at_another_pixel_size() {
    let data = dataset(&[1.0], vec![Some([0.5, 0.5])]);
    for algorithm in [Algorithm::Stardist, Algorithm::Cellpose, Algorithm::Elephant] {
        let (model, notes) = trained(algorithm, &data, TrainOptions::default());
        assert!(notes.is_empty() && model.pixel_size() == Some([0.5, 0.5]), "{algorithm}: {notes:?}");
        let (same, notes) = score(&model, 1.0, Some(0.5), true);
        assert!(same > 0.5 && notes.is_empty(), "{algorithm}: {same} {notes:?}");
        for times in [3.0, 0.5] {
            let (scaled, notes) = score(&model, times, Some(0.5 / times), true);
            assert!(scaled > 0.7 * same, "{algorithm}, {times}: {scaled} of {same}");
            assert!(
                notes.len() == 1
                    && notes[0].contains(&format!("seen at {} times", if times > 1.0 { "0.333" } else { "2" })),
                "{notes:?}"
            );
        }
        let (unscaled, notes) = score(&model, 3.0, Some(0.5 / 3.0), false);
        assert!(unscaled < 0.85 * same, "{algorithm}: {unscaled} of {same}");
        assert!(!notes.iter().any(|note| note.contains("micrometres")), "{notes:?}");
        if algorithm != Algorithm::Cellpose {
            assert_eq!(score(&model, 3.0, None, true).0, unscaled, "nothing is known of the image");
        }
    }
}

/// A note on an image that is seen by the size of its cells.
fn is_fitted(notes: &[String]) -> bool {
    notes.iter().any(|note| note.contains("times as large as those of the training"))
}

#[test]
fn cellpose_sees_an_image_by_the_size_of_its_cells_when_nothing_else_tells_it() {
    let data = dataset(&[1.0], vec![None]);
    let (mut model, _) = trained(Algorithm::Cellpose, &data, TrainOptions::default());
    let (same, notes) = score(&model, 1.0, None, true);
    assert!(same > 0.5 && !is_fitted(&notes), "{same} {notes:?}");
    let (larger, notes) = score(&model, 3.0, None, true);
    assert!(larger > 0.7 * same && is_fitted(&notes), "{larger} of {same}, {notes:?}");
    assert!(!notes.iter().any(|note| note.contains("larger across")), "{notes:?}");
    let (plain, notes) = score(&model, 3.0, None, false);
    assert!(plain < 0.85 * same && !is_fitted(&notes), "{plain} of {same}, {notes:?}");

    // Thresholds of a call, tiles and mirrored tiles do not change the size; a diameter does, and parts of one image are seen alike.
    let image = field(3.0).0;
    let usual = PredictOptions { device: Device::Cpu, threads: Some(2), ..PredictOptions::default() };
    let noted = |options: PredictOptions| {
        let notes = model.predict(&image, &options).unwrap().notes;
        notes.into_iter().find(|note| note.contains("times as large as those of the training"))
    };
    let note = noted(usual.clone());
    assert!(note.is_some());
    for same_size in [
        PredictOptions { cellprob_threshold: Some(1.0), flow_threshold: Some(0.0), ..usual.clone() },
        PredictOptions { tile: Some(64), ..usual.clone() },
        PredictOptions { min_area: 50.0, ..usual.clone() },
    ] {
        assert_eq!(noted(same_size), note);
    }
    assert!(noted(PredictOptions { augment: true, ..usual.clone() }).is_some());
    assert_eq!(noted(PredictOptions { diameter: Some(40.0), ..usual.clone() }), None);
    assert_eq!(noted(PredictOptions { normalized: true, ..usual.clone() }), None);

    // A file keeps it.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    assert_eq!(
        Model::load(&path).unwrap().predict(&image, &usual).unwrap().notes,
        model.predict(&image, &usual).unwrap().notes
    );

    // Another diameter, a training that takes images as they are and one like the reference's end it; a usual one begins it anew.
    let mut given = model.clone();
    given
        .set_thresholds(model.thresholds().with(&PredictOptions { diameter: Some(40.0), ..usual.clone() }).unwrap())
        .unwrap();
    assert!(!is_fitted(&given.predict(&image, &usual).unwrap().notes));
    let again = |model: &mut Model, options: TrainOptions| {
        let options = TrainOptions {
            steps: Some(1),
            batch_size: Some(1),
            patch_size: Some(96),
            device: Device::Cpu,
            threads: Some(2),
            ..options
        };
        model.train(&data, None, &options, &mut |_| ControlFlow::Continue).unwrap();
        is_fitted(&model.predict(&image, &usual).unwrap().notes)
    };
    assert!(!again(&mut model.clone(), TrainOptions { preset: Preset::Reference, ..TrainOptions::default() }));
    assert!(!again(&mut model, TrainOptions { rescale: false, ..TrainOptions::default() }));
    assert!(again(&mut model, TrainOptions::default()));
}

#[test]
fn a_model_file_tells_the_pixel_size_and_the_size_of_the_cells() {
    let data = dataset(&[1.0, 2.0], vec![Some([0.5, 0.5]), None]);
    let (model, _) = trained(Algorithm::Stardist, &data, TrainOptions::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    let info = Model::peek(&path).unwrap();
    let diameter = info.cell_diameter.unwrap();
    assert_eq!((info.pixel_size, info.cell_diameter_um), (Some([0.5, 0.5]), Some(0.5 * diameter)));
    let model = Model::load(&path).unwrap();
    assert_eq!(model.pixel_size(), Some([0.5, 0.5]));
    // Images of different sizes are trained on at one, and so is a model that goes on.
    let mixed = dataset(&[1.0, 1.0, 2.0], vec![Some([0.5, 0.5]), Some([0.5, 0.5]), Some([0.25, 0.25])]);
    let (mixed, notes) = trained(Algorithm::Stardist, &mixed, TrainOptions::default());
    assert!(
        notes[0].starts_with("1 of 3 images is scaled to the pixel size of the others, 0.5 micrometres"),
        "{notes:?}"
    );
    let now = mixed.info().cell_diameter.unwrap();
    let alone = trained(Algorithm::Stardist, &dataset(&[1.0], vec![None]), TrainOptions::default()).0;
    assert!((now / alone.info().cell_diameter.unwrap() - 1.0).abs() < 0.1, "{now}");
    assert_eq!((alone.pixel_size(), alone.info().cell_diameter_um), (None, None));
}
