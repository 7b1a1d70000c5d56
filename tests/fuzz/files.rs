//! Damaged files of every kind that is read.

use std::fs;
use std::path::{Path, PathBuf};

use cellsparse_core::formats::annotation_files::{AnnotationOptions, decode_annotations};
use cellsparse_core::formats::foreign::read_weights;
use cellsparse_core::formats::keras::decode_keras;
use cellsparse_core::formats::write_ome_tiff;
use cellsparse_core::raster::{
    ReadLimits, ReadOptions, decode_image, decode_labels, read_image_with, read_label_file_with, write_gray_png16,
    write_rgb_png, write_wire_labels,
};
use cellsparse_core::{Budget, Image, Model, PredictOptions};
use cellsparse_tests::fixtures;
use ndarray::{Array2, Array3};

use crate::mutation::mutated;
use crate::{check_message, fuzz};

/// The files of a folder of fixtures that are not too large to be changed often.
fn seeds(folder: &str, wanted: impl Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(fixtures().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && wanted(path));
    paths.sort();
    let files: Vec<Vec<u8>> =
        paths.iter().map(|path| fs::read(path).unwrap()).filter(|file| file.len() < 1 << 17).collect();
    assert!(!files.is_empty(), "{folder}");
    files
}

#[test]
fn models_are_read_and_used_or_refused() {
    let seeds = seeds("models", |_| true);
    let image =
        Image::from_gray(Array2::from_shape_fn((40, 52), |(y, x)| ((y / 9 + x / 7) % 3 * 50 + (y * x) % 7) as f32));
    let memory = Budget::new(1 << 28).unwrap();
    fuzz("model", 200, |random| {
        let model = match Model::from_reader(&mutated(random, &seeds)[..]) {
            Ok(model) => model,
            Err(error) => return check_message(&error).map(|()| false),
        };
        let options = PredictOptions { memory: Some(memory), threads: Some(1), ..Default::default() };
        if let Err(error) = model.predict(&image, &options) {
            check_message(&error)?;
        }
        let mut bytes = Vec::new();
        model.to_writer(&mut bytes).map_err(|error| error.to_string())?;
        match Model::from_reader(&bytes[..]) {
            Ok(again) if again.weights() == model.weights() => Ok(true),
            Ok(_) => Err("other weights after writing and reading".into()),
            Err(error) => Err(format!("what was written cannot be read: {error}")),
        }
    });
}

#[test]
fn state_dicts_are_read_or_refused() {
    let is_dict = |path: &Path| path.extension().is_some_and(|ending| ending == "pth");
    let mut seeds = seeds("cellpose", is_dict);
    seeds.push(fs::read(fixtures().join("cellpose/kinds_float32.safetensors")).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    fuzz("state dict", 200, |random| {
        let bytes = mutated(random, &seeds);
        fs::write(&file, &bytes).map_err(|error| error.to_string())?;
        match read_weights(&file) {
            Ok(dict) => {
                let values: usize = dict.arrays.iter().map(|array| array.values.len()).sum();
                // Arrays may share their values, but not without bound.
                if values > 64 * bytes.len() + 65_536 {
                    return Err(format!("{values} values from {} bytes", bytes.len()));
                }
                let fits = dict.arrays.iter().all(|array| array.values.len() == array.shape.iter().product::<usize>());
                if fits { Ok(true) } else { Err("an array of another size than its shape".into()) }
            }
            Err(error) => check_message(&error).map(|()| false),
        }
    });
}

#[test]
fn weights_of_keras_are_read_or_refused() {
    let is_weights = |path: &Path| path.extension().is_some_and(|ending| ending == "h5");
    let folders = ["stardist/keras2", "stardist/keras3", "stardist/keras3_numbered"];
    let seeds: Vec<Vec<u8>> = folders.iter().flat_map(|folder| seeds(folder, is_weights)).collect();
    fuzz("Keras", 200, |random| {
        let bytes = mutated(random, &seeds);
        let length = bytes.len();
        match decode_keras(bytes, Path::new("a.h5")) {
            Ok(dict) => {
                let values: usize = dict.arrays.iter().map(|array| array.values.len()).sum();
                if values > 16 * length + (1 << 18) {
                    return Err(format!("{values} values from {length} bytes"));
                }
                let fits = dict.arrays.iter().all(|array| array.values.len() == array.shape.iter().product::<usize>());
                if fits { Ok(true) } else { Err("an array of another size than its shape".into()) }
            }
            Err(error) => check_message(&error).map(|()| false),
        }
    });
}

#[test]
fn models_of_stardist_are_read_or_refused() {
    let texts =
        ["config.json", "thresholds.json"].map(|name| fs::read(fixtures().join("stardist/keras2").join(name)).unwrap());
    let description = format!(
        "type: model\ninputs:\n- preprocessing:\n  - {{name: scale_range, kwargs: {{min_percentile: 1, max_percentile: 99}}}}\n\
         config:\n  stardist:\n    thresholds: {{prob: 0.5, nms: 0.4}}\n    weights: weights_best.h5\n    config: {}\n",
        String::from_utf8_lossy(&texts[0])
    );
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).map_err(|error| error.to_string());
    fs::copy(fixtures().join("stardist/keras2/weights_best.h5"), folder.path().join("weights_best.h5")).unwrap();
    fuzz("StarDist", 200, |random| {
        let name = ["config.json", "thresholds.json", "rdf.yaml"][random.below(3)];
        put("config.json", &texts[0])?;
        put("thresholds.json", &texts[1])?;
        let original = match name {
            "config.json" => &texts[0],
            "thresholds.json" => &texts[1],
            _ => description.as_bytes(),
        };
        put(name, &mutated(random, &[original.to_vec()]))?;
        let found = Model::import(folder.path(), None);
        if name == "rdf.yaml" {
            fs::remove_file(folder.path().join(name)).map_err(|error| error.to_string())?;
        }
        match found {
            Ok(_) => Ok(true),
            Err(error) => check_message(&error).map(|()| false),
        }
    });
}

#[test]
fn images_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let gray = Array2::from_shape_fn((13, 17), |(y, x)| (y * 4000 + x * 31) as u16);
    write_gray_png16(folder.path().join("a.png"), gray.view()).unwrap();
    let rgb = Array3::from_shape_fn((9, 11, 3), |(y, x, c)| (y * 20 + x + 60 * c) as u8);
    write_rgb_png(folder.path().join("b.png"), rgb.view()).unwrap();
    let labels = Array2::from_shape_fn((20, 15), |(y, x)| (y / 5 * 40_000 + x / 5) as i32);
    write_ome_tiff(folder.path().join("c.tif"), "c", &labels, Some([0.5, 0.5])).unwrap();
    write_wire_labels(folder.path(), "d", &labels).unwrap();
    let mut seeds: Vec<Vec<u8>> =
        fs::read_dir(folder.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    seeds.push(plain_tiff());
    let limits = ReadLimits { decoded_bytes: 1 << 24, ..ReadLimits::default() };
    fuzz("image", 400, |random| {
        let bytes = mutated(random, &seeds);
        let labels = decode_labels(&bytes, &limits);
        let image = decode_image(&bytes, &limits);
        if let Err(error) = labels {
            check_message(&error)?;
        }
        match image {
            Ok(image) => {
                let (height, width, channels) = image.shape();
                if height * width * channels <= 1 << 24 { Ok(true) } else { Err(format!("{:?}", image.shape())) }
            }
            Err(error) => check_message(&error).map(|()| false),
        }
    });
}

/// Every file below a folder, with its path there.
fn files_of(folder: &Path, within: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = within.join(path.file_name().unwrap());
        if path.is_dir() { files_of(&path, &name, found) } else { found.push((name, fs::read(&path).unwrap())) }
    }
}

#[test]
fn zarr_folders_are_read_or_refused() {
    let names = ["ngff_v04.zarr", "cells_v05.zarr", "plate_v04.zarr/A/1", "codecs_v2.zarr/blosc_blocks_bit"];
    let more = ["codecs_v2.zarr/blosc_far", "codecs_v3.zarr/sharded_sparse", "codecs_v3.zarr/gzip_checked"];
    let images: Vec<Vec<(PathBuf, Vec<u8>)>> = names
        .iter()
        .chain(&more)
        .map(|name| {
            let mut files = Vec::new();
            files_of(&fixtures().join("zarr").join(name), Path::new(""), &mut files);
            files.sort();
            files
        })
        .collect();
    let limits = ReadLimits { decoded_bytes: 1 << 22, ..ReadLimits::default() };
    fuzz("zarr", 300, |random| {
        let files = &images[random.below(images.len())];
        let changed = random.below(files.len());
        let folder = tempfile::tempdir().unwrap();
        for (at, (name, bytes)) in files.iter().enumerate() {
            let bytes = if at == changed { &mutated(random, std::slice::from_ref(bytes)) } else { bytes };
            let path = folder.path().join("a.zarr").join(name);
            fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::write(&path, bytes)).unwrap();
        }
        let path = folder.path().join("a.zarr");
        let options = ReadOptions { plane: random.chance(0.3).then_some(1), ..ReadOptions::from(limits) };
        if let Err(error) = read_label_file_with(&path, &options) {
            check_message(&error)?;
        }
        match read_image_with(&path, &options) {
            Ok(file) => {
                let (height, width, channels) = file.image.shape();
                if height * width * channels <= 1 << 22 { Ok(true) } else { Err(format!("{:?}", file.image.shape())) }
            }
            Err(error) => check_message(&error).map(|()| false),
        }
    });
}

/// A planar TIFF file in tiles of 16 x 16 with two channels of 19 x 21 pixels: what the usual encoders do not write.
fn plain_tiff() -> Vec<u8> {
    let entries: [(u16, u16, u32, u32); 11] = [
        (256, 3, 1, 21),
        (257, 3, 1, 19),
        (258, 3, 2, 8 | 8 << 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 2),
        (284, 3, 1, 2),
        (322, 3, 1, 16),
        (323, 3, 1, 16),
        (324, 4, 8, 146),
        (325, 4, 8, 178),
    ];
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    assert_eq!(bytes.len(), 146);
    (0..8_u32).for_each(|tile| bytes.extend((210 + 256 * tile).to_le_bytes()));
    (0..8_u32).for_each(|_| bytes.extend(256_u32.to_le_bytes()));
    bytes.extend((0..8 * 256_u32).map(|at| (at % 251) as u8));
    bytes
}

#[test]
fn annotations_are_read_or_refused() {
    let seeds = seeds("annotations", |path| !path.ends_with("truth.json"));
    fuzz("annotations", 400, |random| {
        let bytes = mutated(random, &seeds);
        let shape = random.chance(0.7).then_some((24, 30));
        let options = AnnotationOptions { shape, ..AnnotationOptions::default() };
        match decode_annotations(&bytes, Path::new("a"), &options) {
            Ok(_) => Ok(true),
            Err(error) => check_message(&error).map(|()| false),
        }
    });
}
