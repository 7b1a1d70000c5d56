//! Readers of several files that belong together: in a folder, or in an archive.

use std::fs;
use std::path::Path;

use cellsparse_core::Model;
use cellsparse_core::formats::tensorflow::decode_saved_model;
use cellsparse_core::networks::CellposeConfig;
use cellsparse_core::raster::{ReadLimits, ReadOptions, read_image_with, read_label_file_with};
use cellsparse_tests::archive::{stored_entries, write_zip};
use cellsparse_tests::fixtures;

use crate::readers::{File, check_message, judge_program, refused};

/// The parts of a program of TensorFlow.
const PROGRAM: [&str; 3] = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"];

/// Bytes that one of a deflated file may become, at most.
const DEFLATED: usize = 1032;

/// Files of a folder of fixtures.
fn files(folder: &str, names: &[&str]) -> Vec<File> {
    let read = |name: &&str| (name.to_string(), fs::read(fixtures().join(folder).join(name)).unwrap());
    names.iter().map(read).collect()
}

/// A folder of these files, in another one. Names that lead out of it are left out.
fn written(files: &[File], name: &str) -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (path, content) in files {
        let plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let path = folder.path().join(name).join(path);
        if plain && path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok()) {
            // A name may be that of a folder by now.
            let _ = fs::write(path, content);
        }
    }
    Ok(folder)
}

pub fn saved_models() -> Vec<Vec<File>> {
    vec![files("stardist/tensorflow/plain/version_1", &PROGRAM)]
}

pub fn saved_model(files: &[File]) -> Result<bool, String> {
    let part = |at: usize| files.get(at).map(|(_, content)| &content[..]);
    let variables = part(1).zip(part(2)).map(|(index, data)| [index, data]);
    judge_program(decode_saved_model(part(0).unwrap_or_default(), variables, Path::new("a")), length(files))
}

/// `rdf.yaml` of a package of bioimage.io with the weights beside it.
fn description(config: &str) -> File {
    let text = format!(
        "type: model\ninputs:\n- preprocessing:\n  - {{name: scale_range, kwargs: {{min_percentile: 1, max_percentile: 99}}}}\n\
         config:\n  stardist:\n    thresholds: {{prob: 0.5, nms: 0.4}}\n    weights: weights_best.h5\n    config: {config}\n"
    );
    ("rdf.yaml".into(), text.into_bytes())
}

pub fn stardist_folders() -> Vec<Vec<File>> {
    let model = files("stardist/keras2", &["config.json", "thresholds.json", "weights_best.h5"]);
    let described = description(&String::from_utf8_lossy(&model[0].1));
    let both = [vec![described.clone()], model.clone()].concat();
    vec![model.clone(), vec![described, model[2].clone()], both]
}

pub fn stardist_folder(files: &[File]) -> Result<bool, String> {
    let folder = written(files, "a")?;
    judge_import(&folder.path().join("a"), length(files))
}

/// Archives of every program, each with its entries.
pub fn archives() -> Vec<Vec<File>> {
    let folder = tempfile::tempdir().unwrap();
    let mut archives = [saved_models(), stardist_folders()].concat();
    // Of early versions of the package, whose configuration is that of the program.
    let early = "type: model\nweights:\n  tensorflow_saved_model_bundle: {source: TF_SavedModel.zip}\nconfig:\n  stardist:\n    \
         thresholds: {nms: 0.25, prob: 0.479}\n";
    let program = files("stardist/tensorflow/plain", &["TF_SavedModel.zip"]);
    archives.push([vec![("rdf.yaml".into(), early.into())], program].concat());
    let star = Model::import(fixtures().join("stardist/tensorflow/plain"), None).unwrap().model;
    let cells = CellposeConfig { widths: vec![2, 4], ..Default::default() };
    let cells = Model::cellpose(cells, 0).unwrap();
    for (model, name) in [(&star, "a_SavedModel.zip"), (&star, "a.zip"), (&cells, "b.zip"), (&cells, "b.pth")] {
        model.export(folder.path().join(name)).unwrap();
        archives.push(stored_entries(&fs::read(folder.path().join(name)).unwrap()));
    }
    archives
}

/// Checksums are right, so that what is within is looked at.
pub fn archive(files: &[File]) -> Result<bool, String> {
    let mut accepted = false;
    for deflated in [false, true] {
        let mut bytes = Vec::new();
        write_zip(&mut bytes, files, deflated).map_err(|error| error.to_string())?;
        let folder = written(&[("a.zip".into(), bytes)], "")?;
        accepted |= judge_import(&folder.path().join("a.zip"), length(files))?;
    }
    Ok(accepted)
}

pub fn packed_archives() -> Vec<Vec<File>> {
    let packed = |entries: &Vec<File>, deflated| {
        let mut bytes = Vec::new();
        write_zip(&mut bytes, entries, deflated).unwrap();
        vec![("a.zip".to_owned(), bytes)]
    };
    archives().iter().flat_map(|entries| [packed(entries, false), packed(entries, true)]).collect()
}

pub fn packed_archive(files: &[File]) -> Result<bool, String> {
    let folder = written(&[("a.zip".into(), files[0].1.clone())], "")?;
    judge_import(&folder.path().join("a.zip"), DEFLATED * files[0].1.len())
}

fn length(files: &[File]) -> usize {
    files.iter().map(|(_, content)| content.len()).sum()
}

/// A model, with no more weights than there were bytes `within` for.
fn judge_import(path: &Path, within: usize) -> Result<bool, String> {
    match Model::import(path, None) {
        Ok(found) if found.model.weights().count() > 16 * within + (1 << 18) => {
            Err(format!("{} weights from {within} bytes", found.model.weights().count()))
        }
        Ok(_) => Ok(true),
        Err(error) => refused(&error),
    }
}

pub fn zarr_folders() -> Vec<Vec<File>> {
    let names = ["ngff_v04.zarr", "cells_v05.zarr", "plate_v04.zarr/A/1", "codecs_v2.zarr/blosc_blocks_bit"];
    let more = ["codecs_v2.zarr/blosc_far", "codecs_v3.zarr/sharded_sparse", "codecs_v3.zarr/gzip_checked"];
    let found = |name: &&str| {
        let mut files = Vec::new();
        files_below(&fixtures().join("zarr").join(name), "", &mut files);
        files.sort();
        files
    };
    names.iter().chain(&more).map(found).collect()
}

/// Every file below a folder, with its path there.
fn files_below(folder: &Path, within: &str, found: &mut Vec<File>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = format!("{within}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            files_below(&path, &format!("{name}/"), found);
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
}

pub fn zarr_folder(files: &[File]) -> Result<bool, String> {
    let folder = written(files, "a.zarr")?;
    let path = folder.path().join("a.zarr");
    let limits = ReadLimits { decoded_bytes: 1 << 22, ..ReadLimits::default() };
    let mut accepted = false;
    for plane in [None, Some(1)] {
        let options = ReadOptions { plane, ..ReadOptions::from(limits) };
        if let Err(error) = read_label_file_with(&path, &options) {
            check_message(&error)?;
        }
        accepted |= match read_image_with(&path, &options) {
            Ok(file) => {
                let (height, width, channels) = file.image.shape();
                if height * width * channels > 1 << 22 {
                    return Err(format!("{:?}", file.image.shape()));
                }
                true
            }
            Err(error) => refused(&error)?,
        };
    }
    Ok(accepted)
}
