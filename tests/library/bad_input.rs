//! Bad input of every kind is refused with a message that says what was found, what was expected or what to do.

use std::path::Path;

use cellsparse_core::annotations::{Dataset, LabelEncoding, SparseLabels, SparsifyMode, sparsify};
use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::model::{
    Device, Model, Normalization, PredictOptions, Preset, StarThresholds, Thresholds, TrainOptions,
};
use cellsparse_core::random::Random;
use cellsparse_core::raster::{RawLabels, list_images, pair_by_stem, read_image, read_label_file};
use cellsparse_core::{Algorithm, ControlFlow, Error, Image, LabelImage, StarDistConfig};
use ndarray::{Array2, Array3, s};

fn gray(height: usize, width: usize) -> Image {
    Image::from_gray(Array2::from_shape_fn((height, width), |(y, x)| (y * width + x) as f32))
}

fn drawn(height: usize, width: usize) -> LabelImage {
    let mut labels = Array2::from_elem((height, width), -1);
    labels.slice_mut(s![4..10, 4..10]).fill(1);
    labels.slice_mut(s![14..16, 2..20]).fill(0);
    labels
}

fn data() -> Dataset {
    Dataset::new(vec![gray(32, 32)], vec![SparseLabels::from_signed(drawn(32, 32)).unwrap()]).unwrap()
}

fn tiny() -> StarDistConfig {
    StarDistConfig { n_filter_base: 4, n_rays: 8, n_depth: 1, net_conv_after_unet: 8, ..Default::default() }
}

fn train(options: TrainOptions) -> Result<(), Error> {
    let options = TrainOptions { patch_size: Some(options.patch_size.map_or(32, |size| size.min(32))), ..options };
    Model::stardist(tiny(), 0)?.train(&data(), None, &options, &mut |_| ControlFlow::Continue).map(drop)
}

fn predict(image: &Image, options: PredictOptions) -> Result<(), Error> {
    Model::stardist(tiny(), 0)?.predict(image, &options).map(drop)
}

/// What was asked for, what came of it, and the words the message must hold.
type Case = (&'static str, Result<(), Error>, &'static [&'static str]);

fn check(cases: Vec<Case>) {
    for (name, result, words) in cases {
        let message = match result {
            Ok(()) => panic!("{name}: accepted"),
            Err(error) => error.to_string(),
        };
        assert!(!message.contains('\n') && message.len() < 500, "{name}: not one clear line: {message}");
        for word in words {
            assert!(message.contains(word), "{name}: '{word}' is not in: {message}");
        }
    }
}

#[test]
fn labels() {
    let signed = |labels: LabelImage| {
        let (height, width) = labels.dim();
        Dataset::new(vec![gray(height, width)], vec![SparseLabels::from_signed(labels)?]).map(drop)
    };
    let dense = Array2::from_shape_fn((40, 40), |(y, x)| match (y / 10, x / 10, y % 10 < 6 && x % 10 < 6) {
        (row, column, true) => (row * 4 + column + 1) as u32,
        _ => 0,
    });
    let wire = dense.mapv(|value| if value < 3 { value } else { 0 });
    check(vec![
        ("nothing drawn", signed(Array2::from_elem((8, 8), -1)), &["no cell is drawn", "unlabelled"]),
        ("background only", signed(Array2::zeros((8, 8))), &["no cell is drawn"]),
        ("one value", signed(Array2::from_elem((8, 8), 3)), &["3"]),
        ("no pixels", signed(Array2::zeros((0, 8))), &["0 rows"]),
        (
            "wire labels as dense labels",
            SparseLabels::parse(RawLabels::Unsigned(dense.mapv(|value| value.max(1))), LabelEncoding::Dense).map(drop),
            &["label encoding 'wire'"],
        ),
        (
            "labels that may be read in two ways",
            SparseLabels::parse(
                RawLabels::Unsigned(dense.mapv(|value| value * u32::from(value < 4))),
                LabelEncoding::Auto,
            )
            .map(drop),
            &["label encoding 'cells'", "label encoding 'wire'"],
        ),
        (
            "wire labels without a cell",
            SparseLabels::from_wire(wire.mapv(|value| value.min(1)))
                .and_then(|labels| Dataset::new(vec![gray(40, 40)], vec![labels]))
                .map(drop),
            &["no cell is drawn", "background pixels"],
        ),
        (
            "an unknown encoding",
            "dens".parse::<LabelEncoding>().map(drop),
            &["dens", "auto", "wire", "dense", "signed", "cells"],
        ),
        (
            "labels of another size",
            Dataset::new(vec![gray(32, 32)], vec![SparseLabels::from_signed(drawn(32, 40)).unwrap()]).map(drop),
            &["32", "40"],
        ),
        ("images without labels", Dataset::new(vec![gray(32, 32)], vec![]).map(drop), &["1 image and 0 label"]),
        ("no images", Dataset::new(vec![], vec![]).map(drop), &["at least one image"]),
        (
            "images of different channels",
            {
                let labels = || SparseLabels::from_signed(drawn(32, 32)).unwrap();
                let colour = Image::U8(Array3::zeros((32, 32, 3)));
                Dataset::new(vec![gray(32, 32), colour], vec![labels(), labels()]).map(drop)
            },
            &["3 channels", "1"],
        ),
        (
            "nothing to pick from",
            sparsify(&Array2::zeros((8, 8)), Array3::zeros((8, 8, 1)).view(), 1, SparsifyMode::MinMax, true).map(drop),
            &["no object"],
        ),
        (
            "scores of images of different size",
            matching(&Array2::zeros((8, 8)), &Array2::zeros((8, 9)), 0.5, Criterion::Iou, false).map(drop),
            &["8", "9"],
        ),
        (
            "a score of unlabelled predictions",
            matching(&Array2::zeros((8, 8)), &Array2::from_elem((8, 8), -1), 0.5, Criterion::Iou, false).map(drop),
            &["-1"],
        ),
    ]);
}

#[test]
fn images() {
    let mut broken = Array3::zeros((32, 32, 1));
    broken[[3, 5, 0]] = f32::NAN;
    let options = PredictOptions::default;
    check(vec![
        ("not a number", predict(&Image::F32(broken), options()), &["row 3", "column 5", "NaN"]),
        ("no pixels", predict(&Image::U8(Array3::zeros((0, 5, 1))), options()), &["0 rows"]),
        (
            "colour for a grey model",
            predict(&Image::U8(Array3::zeros((32, 32, 3))), options()),
            &["3 channels", "takes 1"],
        ),
    ]);
    for (height, width) in [(1, 1), (1, 40), (5, 3), (33, 47)] {
        let constant = Image::U16(Array3::from_elem((height, width, 1), 700));
        predict(&constant, options()).unwrap();
    }
}

#[test]
fn options() {
    let base = || TrainOptions { steps: Some(1), batch_size: Some(1), patch_size: Some(32), ..Default::default() };
    let with = |config: StarDistConfig| Model::stardist(config, 0).map(drop);
    let at = |prob: f32, nms: f32| {
        let options = PredictOptions { prob_thresh: Some(prob), nms_thresh: Some(nms), ..Default::default() };
        predict(&gray(32, 32), options)
    };
    check(vec![
        ("no steps", train(TrainOptions { steps: Some(0), ..base() }), &["steps is 0"]),
        ("no batch", train(TrainOptions { batch_size: Some(0), ..base() }), &["batch_size is 0", "1 and 256"]),
        ("a tiny patch", train(TrainOptions { patch_size: Some(2), ..base() }), &["patch_size is 2", "4096"]),
        ("no learning rate", train(TrainOptions { learning_rate: Some(0.0), ..base() }), &["learning rate is 0"]),
        ("an endless rate", train(TrainOptions { learning_rate: Some(f32::NAN), ..base() }), &["learning rate is NaN"]),
        ("no threads", train(TrainOptions { threads: Some(0), ..base() }), &["0 threads"]),
        ("nothing to resume", train(TrainOptions { resume: true, ..base() }), &["optimiser state"]),
        ("an absent device", train(TrainOptions { device: Device::Metal, ..base() }), &["metal", "no Metal support"]),
        ("two rays", with(StarDistConfig { n_rays: 2, ..tiny() }), &["n_rays is 2"]),
        ("a grid of 3", with(StarDistConfig { grid: [3, 2], ..tiny() }), &["grid", "power of 2"]),
        ("no channels", with(StarDistConfig { n_channels: 0, ..tiny() }), &["n_channels is 0"]),
        ("no filters", with(StarDistConfig { n_filter_base: 0, ..tiny() }), &["n_filter_base is 0"]),
        ("a probability of 1", at(1.0, 0.4), &["prob_thresh is 1", "between 0 and 1"]),
        ("a probability that is not a number", at(f32::NAN, 0.4), &["prob_thresh is NaN"]),
        ("an overlap of 2", at(0.5, 2.0), &["nms_thresh is 2"]),
        (
            "a negative area",
            predict(&gray(32, 32), PredictOptions { min_area: -1.0, ..Default::default() }),
            &["min_area is -1"],
        ),
        (
            "a tile of one pixel",
            predict(&gray(32, 32), PredictOptions { tile: Some(1), ..Default::default() }),
            &["tile is 1"],
        ),
        (
            "thresholds out of range",
            Model::stardist(tiny(), 0)
                .unwrap()
                .set_thresholds(Thresholds::Stardist(StarThresholds { prob: 0.0, ..Default::default() })),
            &["prob_thresh is 0"],
        ),
        (
            "percentiles out of order",
            Model::stardist(tiny(), 0).unwrap().set_normalization(Normalization { pmin: 50.0, pmax: 10.0 }),
            &["50", "10"],
        ),
        ("an unknown algorithm", "unet".parse::<Algorithm>().map(drop), &["unet", "stardist"]),
        ("an unknown device", "gpu".parse::<Device>().map(drop), &["gpu", "cuda"]),
        ("an unknown preset", "fast".parse::<Preset>().map(drop), &["fast", "reference"]),
        (
            "weights of another network",
            Model::with_weights(tiny(), Default::default()).map(drop),
            &["conv2d/kernel", "missing"],
        ),
    ]);
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("empty.png"), b"").unwrap();
    std::fs::write(path("text.png"), b"this is not an image").unwrap();
    std::fs::create_dir(path("none")).unwrap();
    std::fs::create_dir(path("images")).unwrap();
    std::fs::create_dir(path("labels")).unwrap();
    for (folder, stem) in [("images", "a"), ("images", "b"), ("labels", "a")] {
        let pixels = Array2::<u8>::zeros((4, 4));
        cellsparse_core::raster::write_gray_png8(path(folder).join(format!("{stem}.png")), pixels.view()).unwrap();
    }
    cellsparse_core::raster::write_rgb_png(path("rgb.png"), Array3::<u8>::zeros((4, 4, 3)).view()).unwrap();
    let image = |name: &str| read_image(path(name)).map(drop);
    let model = |name: &str| Model::load(path(name)).map(drop);
    let pair = |images: &Path, labels: &Path| pair_by_stem(&list_images(images)?, &list_images(labels)?).map(drop);
    check(vec![
        ("a missing image", image("absent.png"), &["absent.png", "no such file"]),
        ("a folder as an image", image("none"), &["none", "folder"]),
        ("an empty image", image("empty.png"), &["empty.png", "empty"]),
        ("a text as an image", image("text.png"), &["text.png", "PNG, TIFF"]),
        ("colours as labels", read_label_file(path("rgb.png")).map(drop), &["rgb.png"]),
        ("a folder without images", list_images(path("none")).map(drop), &["none"]),
        ("an image without labels", pair(&path("images"), &path("labels")), &["b"]),
        ("a missing model", model("absent.safetensors"), &["absent.safetensors", "no such file"]),
        ("an image as a model", model("rgb.png"), &["rgb.png", "safetensors"]),
        ("a folder as a model", model("none"), &["none", "folder"]),
        (
            "a model in a missing folder",
            Model::stardist(tiny(), 0).unwrap().save(path("absent/model.safetensors")),
            &["absent", "no such file"],
        ),
    ]);
}

/// A changed byte is found by the checksum of the weights or changes only what is written about them; a cut file is
/// never a model.
#[test]
fn damaged_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = Model::stardist(tiny(), 0).unwrap();
    model.save(&path).unwrap();
    let original = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
    let damaged = folder.path().join("damaged.safetensors");
    let mut random = Random::new(0, 0);
    let mut loaded = 0;
    for case in 0..1500 {
        let mut bytes = original.clone();
        match case % 3 {
            0 => bytes.truncate(random.below(bytes.len())),
            part => {
                // The header decides how everything else is read, and is small: half of the changes go there.
                let at = random.below(if part == 1 { header } else { bytes.len() });
                bytes[at] ^= 1 + random.below(255) as u8;
            }
        }
        std::fs::write(&damaged, &bytes).unwrap();
        match Model::load(&damaged) {
            Ok(found) => {
                assert!(case % 3 != 0, "{} of {} bytes are a model", bytes.len(), original.len());
                assert_eq!(found.weights(), model.weights());
                loaded += 1;
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("damaged.safetensors") && message.len() < 600, "{message}");
            }
        }
    }
    assert!(loaded < 500, "{loaded} damaged models were loaded");
}
