//! What reads files: an image, a model, a configuration. Tried with files that are changed at random here, and guided by what they
//! reach in `tests/guided`.

use std::fs;
use std::path::Path;

use cellsparse_core::formats::annotation_files::{AnnotationOptions, decode_annotations};
use cellsparse_core::formats::foreign::{StateDict, read_weights};
use cellsparse_core::formats::keras::decode_keras;
use cellsparse_core::formats::tensorflow::{TensorFlowModel, decode_frozen_graph};
use cellsparse_core::formats::write_ome_tiff;
use cellsparse_core::model::Architecture;
use cellsparse_core::raster::{
    ReadLimits, decode_image, decode_labels, write_gray_png16, write_rgb_png, write_wire_labels,
};
use cellsparse_core::{Budget, Error, Image, Model, PredictOptions};
use cellsparse_tests::fixtures;
use ndarray::{Array2, Array3};

use crate::folders;

/// Name and content.
pub type File = (String, Vec<u8>);

/// A reader of one file, or of several that belong together.
pub struct Reader {
    pub name: &'static str,
    /// How often it is tried without a time.
    pub few: u64,
    /// What it accepts.
    pub seeds: fn() -> Vec<Vec<File>>,
    /// Whether the files were accepted, or what is wrong.
    pub attempt: fn(&[File]) -> Result<bool, String>,
}

pub const READERS: [Reader; 12] = [
    Reader { name: "model", few: 200, seeds: || single(seeds("models", &[])), attempt: |files| model(&files[0].1) },
    Reader { name: "state dict", few: 200, seeds: || single(state_dicts()), attempt: |files| state_dict(&files[0].1) },
    Reader { name: "Keras", few: 200, seeds: || single(weights_of_keras()), attempt: |files| keras(&files[0].1) },
    Reader { name: "frozen graph", few: 200, seeds: || single(graphs()), attempt: |files| frozen_graph(&files[0].1) },
    Reader { name: "image", few: 400, seeds: || single(images()), attempt: |files| image(&files[0].1) },
    Reader { name: "annotations", few: 400, seeds: || single(drawn()), attempt: |files| annotations(&files[0].1) },
    Reader {
        name: "config",
        few: 500,
        seeds: || single(configurations()),
        attempt: |files| configuration(&files[0].1),
    },
    Reader { name: "saved model", few: 200, seeds: folders::saved_models, attempt: folders::saved_model },
    Reader { name: "StarDist", few: 200, seeds: folders::stardist_folders, attempt: folders::stardist_folder },
    Reader { name: "archive", few: 200, seeds: folders::archives, attempt: folders::archive },
    Reader { name: "packed archive", few: 100, seeds: folders::packed_archives, attempt: folders::packed_archive },
    Reader { name: "zarr", few: 300, seeds: folders::zarr_folders, attempt: folders::zarr_folder },
];

fn single(contents: Vec<Vec<u8>>) -> Vec<Vec<File>> {
    contents.into_iter().map(|content| vec![(String::new(), content)]).collect()
}

/// A message as users should see it: one line that is not endless.
pub fn check_message(error: &Error) -> Result<(), String> {
    let text = error.to_string();
    if text.contains('\n') || text.len() > 2000 {
        return Err(format!("not one clear line: {text:.400}"));
    }
    if text.contains("internal error") {
        return Err(text);
    }
    Ok(())
}

/// A file that was refused.
pub fn refused(error: &Error) -> Result<bool, String> {
    check_message(error).map(|()| false)
}

/// The files of a folder of fixtures with these endings (all, if none is given) that are not too large to be changed often.
fn seeds(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let wanted = |path: &Path| {
        endings.is_empty() || endings.iter().any(|ending| path.extension().is_some_and(|it| it == *ending))
    };
    let mut paths: Vec<_> = fs::read_dir(fixtures().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && wanted(path) && !path.ends_with("truth.json"));
    paths.sort();
    let files: Vec<Vec<u8>> =
        paths.iter().map(|path| fs::read(path).unwrap()).filter(|file| file.len() < 1 << 17).collect();
    assert!(!files.is_empty(), "{folder}");
    files
}

fn model(bytes: &[u8]) -> Result<bool, String> {
    let image =
        Image::from_gray(Array2::from_shape_fn((40, 52), |(y, x)| ((y / 9 + x / 7) % 3 * 50 + (y * x) % 7) as f32));
    let model = match Model::from_reader(bytes) {
        Ok(model) => model,
        Err(error) => return refused(&error),
    };
    let memory = Budget::new(1 << 28).map_err(|error| error.to_string())?;
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
}

fn state_dicts() -> Vec<Vec<u8>> {
    let mut files = seeds("cellpose", &["pth"]);
    files.push(fs::read(fixtures().join("cellpose/kinds_float32.safetensors")).unwrap());
    files
}

fn state_dict(bytes: &[u8]) -> Result<bool, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("a.pth");
    fs::write(&file, bytes).map_err(|error| error.to_string())?;
    // Arrays may share their values, but not without bound.
    judge_arrays(read_weights(&file), 64 * bytes.len() + 65_536)
}

fn weights_of_keras() -> Vec<Vec<u8>> {
    ["stardist/keras2", "stardist/keras3", "stardist/keras3_numbered"]
        .iter()
        .flat_map(|folder| seeds(folder, &["h5"]))
        .collect()
}

fn keras(bytes: &[u8]) -> Result<bool, String> {
    judge_arrays(decode_keras(bytes.to_vec(), Path::new("a.h5")), 16 * bytes.len() + (1 << 18))
}

fn judge_arrays(found: Result<StateDict, Error>, most: usize) -> Result<bool, String> {
    let dict = match found {
        Ok(dict) => dict,
        Err(error) => return refused(&error),
    };
    let values: usize = dict.arrays.iter().map(|array| array.values.len()).sum();
    if values > most {
        return Err(format!("{values} values, at most {most} expected"));
    }
    let fits = dict.arrays.iter().all(|array| array.values.len() == array.shape.iter().product::<usize>());
    if fits { Ok(true) } else { Err("an array of another size than its shape".into()) }
}

fn graphs() -> Vec<Vec<u8>> {
    let plain = ["plain/frozen.pb", "plain/version_1.pb"];
    let norms = ["norm/frozen.pb", "norm/version_1_fused.pb", "norm/version_1_plain.pb", "norm/version_1_folded.pb"];
    plain
        .iter()
        .chain(&norms)
        .map(|name| fs::read(fixtures().join("stardist/tensorflow").join(name)).unwrap())
        .collect()
}

fn frozen_graph(bytes: &[u8]) -> Result<bool, String> {
    judge_program(decode_frozen_graph(bytes, Path::new("a.pb")), bytes.len())
}

/// What is read of so many bytes is bounded, and becomes a model or is refused.
pub fn judge_program(found: Result<TensorFlowModel, Error>, length: usize) -> Result<bool, String> {
    let found = match found {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    if found.layers.len() > length {
        return Err(format!("{} layers from {length} bytes", found.layers.len()));
    }
    match Model::from_tensorflow(found) {
        Ok((model, _)) if model.weights().count() > 4 * length + (1 << 18) => {
            Err(format!("{} weights from {length} bytes", model.weights().count()))
        }
        Ok(_) => Ok(true),
        Err(error) => refused(&error),
    }
}

fn images() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let gray = Array2::from_shape_fn((13, 17), |(y, x)| (y * 4000 + x * 31) as u16);
    write_gray_png16(folder.path().join("a.png"), gray.view()).unwrap();
    let rgb = Array3::from_shape_fn((9, 11, 3), |(y, x, c)| (y * 20 + x + 60 * c) as u8);
    write_rgb_png(folder.path().join("b.png"), rgb.view()).unwrap();
    let labels = Array2::from_shape_fn((20, 15), |(y, x)| (y / 5 * 40_000 + x / 5) as i32);
    write_ome_tiff(folder.path().join("c.tif"), "c", &labels, Some([0.5, 0.5])).unwrap();
    write_wire_labels(folder.path(), "d", &labels).unwrap();
    let mut files: Vec<Vec<u8>> =
        fs::read_dir(folder.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    files.push(plain_tiff());
    files
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

fn image(bytes: &[u8]) -> Result<bool, String> {
    let limits = ReadLimits { decoded_bytes: 1 << 24, ..ReadLimits::default() };
    if let Err(error) = decode_labels(bytes, &limits) {
        check_message(&error)?;
    }
    match decode_image(bytes, &limits) {
        Ok(image) => {
            let (height, width, channels) = image.shape();
            if height * width * channels <= 1 << 24 { Ok(true) } else { Err(format!("{:?}", image.shape())) }
        }
        Err(error) => refused(&error),
    }
}

fn drawn() -> Vec<Vec<u8>> {
    seeds("annotations", &["geojson", "h5", "json", "npy", "roi", "zip"])
}

fn annotations(bytes: &[u8]) -> Result<bool, String> {
    let mut accepted = false;
    for shape in [Some((24, 30)), None] {
        let options = AnnotationOptions { shape, ..AnnotationOptions::default() };
        accepted |= match decode_annotations(bytes, Path::new("a"), &options) {
            Ok(_) => true,
            Err(error) => refused(&error)?,
        };
    }
    Ok(accepted)
}

fn configurations() -> Vec<Vec<u8>> {
    [
        r#"{"algorithm":"stardist","config":{"n_channels":1,"n_rays":32,"grid":[2,2],"n_filter_base":32,"n_depth":3,"n_conv_per_depth":2,"net_conv_after_unet":128,"batch_norm":false,"n_classes":null}}"#,
        r#"{"algorithm":"cellpose","config":{"n_channels":1,"widths":[16,32,64,128],"diam_mean":30.0}}"#,
        r#"{"algorithm":"elephant","config":{"n_channels":1,"widths":[16,32,64]}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn configuration(bytes: &[u8]) -> Result<bool, String> {
    let Ok(architecture) = serde_json::from_slice::<Architecture>(bytes) else { return Ok(false) };
    if let Err(error) = architecture.check() {
        return refused(&error);
    }
    let graph = architecture.graph();
    let values = graph.parameters().iter().map(|spec| spec.shape.iter().product::<usize>()).sum::<usize>();
    if values > 1 << 40 { Err(format!("{values} parameters")) } else { Ok(true) }
}
