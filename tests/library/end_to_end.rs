//! From annotated pixels to scored objects and their outlines, on fields the library draws and, where present, on real ones.

use cellsparse_tests as common;

use cellsparse_core::annotations::{Dataset, LabelEncoding, SparseLabels};
use cellsparse_core::formats::geojson::{GeoJsonOptions, to_geojson};
use cellsparse_core::geometry::{exact_outlines, rasterize_outlines};
use cellsparse_core::metrics::{Criterion, matching_dataset};
use cellsparse_core::model::{Model, PredictOptions, TrainOptions};
use cellsparse_core::raster::{LabelImage, RawLabels, list_images, read_image, read_label_file};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::{ControlFlow, Image, StarDistConfig};

/// Trains the default network from its starting weights for a short time and returns the accuracy at IoU 0.5 on unseen images, and the segmentations.
fn train_and_score(train: &[(Image, LabelImage)], unseen: &[(Image, LabelImage)]) -> (f64, Vec<LabelImage>) {
    let (images, labels): (Vec<Image>, Vec<SparseLabels>) =
        train.iter().map(|(image, labels)| (image.clone(), SparseLabels::from_signed(labels.clone()).unwrap())).unzip();
    let data = Dataset::new(images, labels).unwrap();
    let mut model = Model::stardist(StarDistConfig::default(), 0).unwrap();
    let options = TrainOptions { steps: Some(60), batch_size: Some(4), patch_size: Some(128), ..Default::default() };
    model.train(&data, None, &options, &mut |_| ControlFlow::Continue).unwrap();
    let found: Vec<LabelImage> = unseen
        .iter()
        .map(|(image, _)| {
            let found = model.predict(image, &PredictOptions::default()).unwrap();
            assert_eq!(found.objects.len() as i32, found.labels.iter().copied().max().unwrap_or(0));
            assert!(found.objects.iter().all(|object| (0.0..=1.0).contains(&object.probability)));
            found.labels
        })
        .collect();
    let pairs: Vec<_> = unseen.iter().zip(&found).map(|((_, truth), found)| (truth, found)).collect();
    (matching_dataset(&pairs, &[0.5], Criterion::Iou, false).unwrap()[0].accuracy, found)
}

#[test]
fn a_handful_of_drawn_nuclei_segments_unseen_fields() {
    let field = |seed: u64| draw_field(&FieldOptions::default(), seed).unwrap();
    let first = field(1);
    let labels = annotate(&first, &AnnotationOptions::default(), 1);
    let unseen: Vec<_> = [2, 3].map(field).map(|field| (field.image, field.truth)).into();
    let (accuracy, found) = train_and_score(&[(first.image, labels)], &unseen);
    assert!(accuracy > 0.88, "accuracy {accuracy}");
    for labels in &found {
        let outlines = exact_outlines(labels).unwrap();
        assert!(rasterize_outlines(&outlines, labels.dim()).unwrap() == *labels);
        let features = to_geojson(labels, &GeoJsonOptions::default()).unwrap();
        assert_eq!(features.len() as i32, labels.iter().copied().max().unwrap_or(0));
    }
}

#[test]
#[cfg_attr(not(real_images), ignore = "the folder with real images is not there (CELLSPARSE_SHARED)")]
fn a_handful_of_drawn_nuclei_segments_real_images() {
    let shared = common::shared().unwrap();
    let mini = shared.join("data/dsb2018-mini");
    let truth = |path: std::path::PathBuf| match read_label_file(path).unwrap() {
        RawLabels::Unsigned(values) => values.mapv(|value| value as i32),
        other => panic!("{other:?}"),
    };
    let mut train = Vec::new();
    for path in list_images(mini.join("train/images")).unwrap() {
        let name = path.file_name().unwrap();
        let labels = read_label_file(mini.join("train/sparse/scribble").join(name)).unwrap();
        let labels = SparseLabels::parse(labels, LabelEncoding::Wire).unwrap();
        train.push((read_image(&path).unwrap(), labels.labels().clone()));
    }
    let mut unseen = Vec::new();
    for path in list_images(mini.join("test/images")).unwrap() {
        let labels = truth(mini.join("test/masks").join(path.file_name().unwrap()));
        unseen.push((read_image(&path).unwrap(), labels));
    }
    let (accuracy, _) = train_and_score(&train, &unseen);
    assert!(accuracy > 0.8, "accuracy {accuracy}");
}
