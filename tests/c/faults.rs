//! What the command line does on a disk that fails: files are the old or the new ones, and there is one clear line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cellsparse_core::model::Architecture;
use cellsparse_core::networks::{CellposeConfig, ElephantConfig};
use cellsparse_core::raster::{write_gray_png8, write_wire_labels};
use cellsparse_core::{Model, StarDistConfig};
use ndarray::Array2;

use super::{root, run};

/// Input/output error and no space left, by their numbers on Linux.
const ERRORS: [&str; 2] = ["5", "28"];

/// The first calls that fail, until none does.
const FROM: [usize; 10] = [1, 2, 3, 5, 8, 13, 21, 44, 100, 225];

/// A folder with a tiny model, an image and its labels, and the faulty disk.
struct Bench {
    folder: tempfile::TempDir,
    disk: PathBuf,
}

/// Files by their paths in a folder.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let mut found = Files::new();
    for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = folder.path().join("disk.so");
        let source = root().join("tests/c/faulty_files.c");
        let flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"];
        run(Command::new("cc").args(flags).arg(source).arg("-o").arg(&disk).arg("-ldl"));
        let bench = Self { folder, disk };
        for name in ["image", "sparse", "out"] {
            fs::create_dir(bench.at(name)).expect("a folder");
        }
        let place = |y: usize, x: usize| (y / 12 + x / 12) % 2;
        let image = Array2::from_shape_fn((90, 110), |(y, x)| (place(y, x) * 90 + (y * 7 + x * 5) % 9) as u8);
        write_gray_png8(bench.at("image/a.png"), image.view()).expect("an image");
        let labels =
            Array2::from_shape_fn(
                (90, 110),
                |(y, x)| {
                    if place(y, x) == 1 { (y / 12 * 10 + x / 12) as i32 + 1 } else { 0 }
                },
            );
        write_wire_labels(bench.at("sparse"), "a", &labels).expect("labels");
        let widths = vec![2, 2];
        let stardist = StarDistConfig {
            n_rays: 8,
            n_filter_base: 2,
            n_depth: 1,
            net_conv_after_unet: 4,
            ..StarDistConfig::default()
        };
        let models: [Architecture; 3] = [
            stardist.into(),
            CellposeConfig { widths: widths.clone(), ..CellposeConfig::default() }.into(),
            ElephantConfig { widths, ..ElephantConfig::default() }.into(),
        ];
        for architecture in models {
            let model = Model::new(architecture, 0).expect("a model");
            model.save(bench.at(&format!("{}.safetensors", model.algorithm()))).expect("a file");
        }
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellsparse"));
        command.args(words.split(' ')).current_dir(self.folder.path()).env("RUST_BACKTRACE", "0");
        command
    }

    /// A command on a disk that has these faults, and whether one came.
    fn on_faulty_disk(&self, words: &str, under: &str, faults: &[(&str, &str)]) -> (Output, bool) {
        let log = self.at("log");
        let _ = fs::remove_file(&log);
        let folder = self.at(under).canonicalize().expect("a folder");
        let mut command = self.command(words);
        command.env("LD_PRELOAD", &self.disk).env("FAULT_UNDER", folder).env("FAULT_LOG", &log);
        let output = command.envs(faults.iter().copied()).output().expect("the program starts");
        (output, log.exists())
    }

    /// Runs a command that writes into `out`, on which every file says `old` before, with calls that fail from a later and later
    /// one on. Each file must be the old or the new one.
    fn keeps_old_files(&self, words: &str, call: &str) {
        let out = self.at("out");
        fs::remove_dir_all(&out).and_then(|()| fs::create_dir(&out)).expect("a folder");
        run(&mut self.command(words));
        let new = files(&out);
        assert!(!new.is_empty(), "{words}");
        let mut failures = 0;
        for (from, error) in FROM.into_iter().zip(ERRORS.into_iter().cycle()) {
            fs::remove_dir_all(&out).and_then(|()| fs::create_dir(&out)).expect("a folder");
            // Files in folders are results of many files, which are not replaced one by one.
            let single = || new.keys().filter(|path| path.parent() == Some(&out));
            single().for_each(|path| fs::write(path, "old").expect("a file"));
            let (from, text) = (from.to_string(), format!("{words}: {call} {from} with {error}"));
            let faults = [("FAULT_CALL", call), ("FAULT_FROM", &*from), ("FAULT_ERROR", error)];
            let (output, failed) = self.on_faulty_disk(words, "out", &faults);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let left = files(&out);
            if !failed {
                assert!(output.status.success(), "{text}: {told}");
                continue;
            }
            failures += 1;
            assert_eq!(output.status.code(), Some(1), "{text}: {told}");
            assert!(told.contains("error") && !told.contains("panicked"), "{text}: {told}");
            for path in single() {
                let found = left.get(path).map(Vec::as_slice);
                // A training that could not write its end may leave an earlier step, which is whole.
                let whole = || path.ends_with("m.safetensors") && Model::load(path).is_ok();
                let known = found == Some(b"old") || found == new.get(path).map(Vec::as_slice);
                assert!(known || whole(), "{text}: {path:?}");
            }
            let odd = left.keys().find(|path| path.parent() == Some(&out) && !new.contains_key(*path));
            assert_eq!(odd, None, "{text}: left behind");
        }
        assert!(failures > 0, "{words}: {call} never failed");
        eprintln!("{words}: {failures} failures of {call}");
    }
}

const TRAIN: &str = "train --algorithm elephant --images image --labels sparse --init elephant.safetensors --steps 2 \
                     --batch-size 1 --patch-size 32 --seed 1 --label-encoding wire --model out/m.safetensors";

#[test]
fn models_on_a_disk_that_fails_are_the_old_or_the_new_ones() {
    let bench = Bench::new();
    for call in ["write", "fsync"] {
        bench.keeps_old_files(TRAIN, call);
        for (model, name) in [("stardist", "a.onnx"), ("cellpose", "a.pth"), ("elephant", "a.zip")] {
            bench.keeps_old_files(&format!("convert --from {model}.safetensors --to out/{name}"), call);
        }
    }
}

#[test]
fn results_on_a_disk_that_fails_are_the_old_or_the_new_ones() {
    let bench = Bench::new();
    let formats = "labels,geojson,rois,csv,ometiff,overlay";
    let words = format!(
        "predict --model stardist.safetensors --images image --out out --prob-thresh 0.01 --nms-thresh 0.9 --format {formats}"
    );
    for call in ["write", "fsync"] {
        bench.keeps_old_files(&words, call);
    }
}

#[test]
fn a_training_whose_model_cannot_be_written_is_no_success() {
    let bench = Bench::new();
    let (output, failed) =
        bench.on_faulty_disk(TRAIN, "out", &[("FAULT_CALL", "write"), ("FAULT_FROM", "1"), ("FAULT_ERROR", "28")]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(failed && output.status.code() == Some(1) && told.contains("m.safetensors"), "{told}");
    assert!(files(&bench.at("out")).is_empty());
}

#[test]
fn files_that_are_read_and_written_bit_by_bit_are_the_same() {
    let bench = Bench::new();
    let words = "predict --model stardist.safetensors --images image --out out --prob-thresh 0.01 --format labels,geojson,rois,ometiff,omezarr";
    for words in [TRAIN, words] {
        let out = bench.at("out");
        let fresh = || fs::remove_dir_all(&out).and_then(|()| fs::create_dir(&out)).expect("a folder");
        fresh();
        run(&mut bench.command(words));
        let whole = files(&out);
        fresh();
        let (output, cut) = bench.on_faulty_disk(words, ".", &[("FAULT_SHORT", "1")]);
        assert!(cut, "{words}: no call was cut");
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(files(&out) == whole && !whole.is_empty(), "{words}: other files");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_and_never_a_part() {
    let bench = Bench::new();
    let words = "predict --model stardist.safetensors --images image --out out";
    for from in 1..=6 {
        for folder in ["image", "stardist.safetensors"] {
            let from = from.to_string();
            let faults = [("FAULT_CALL", "read"), ("FAULT_FROM", &*from), ("FAULT_ERROR", "5")];
            let (output, failed) = bench.on_faulty_disk(words, folder, &faults);
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(failed || from != "1", "{folder}: no read failed");
            assert_eq!(output.status.success(), !failed, "{folder}, read {from}: {told}");
            assert!(!told.contains("panicked"), "{told}");
        }
    }
}
