//! Peak memory of conversions: a model of 100 MB becomes one of another program, and back, in less than 200 MB.
//!
//! Each conversion is a process of its own. Those of the models that the library does not write itself (deflated archives, the older
//! form of PyTorch, safetensors of another program) are put together here.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cellsparse_core::model::convert;
use cellsparse_core::networks::CellposeConfig;
use cellsparse_core::{Model, StarDistConfig};
use cellsparse_tests::archive::{Entry, stored_entries, write_zip};
use safetensors::tensor::{Dtype, TensorView};

/// Bytes of the models at least, and of memory at most.
const MODEL: u64 = 100_000_000;
const MEMORY: u64 = 200_000_000;

/// One conversion; does nothing unless it was begun by [`peak`].
#[test]
fn conversion_in_a_process_of_its_own() {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let Some((source, target)) = path("CELLSPARSE_FROM").zip(path("CELLSPARSE_TO")) else { return };
    let config = path("CELLSPARSE_CONFIG");
    convert(source, target, config.as_deref()).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("\npeak {}", peak.trim());
}

/// Bytes of memory that a conversion took at most.
fn peak(source: &Path, target: &Path) -> u64 {
    let program = std::env::current_exe().expect("the path of this test");
    let mut command = Command::new(program);
    command.args(["--exact", "conversions::conversion_in_a_process_of_its_own", "--nocapture", "--test-threads", "1"]);
    let output =
        command.env("CELLSPARSE_FROM", source).env("CELLSPARSE_TO", target).output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let peak =
        text.lines().find_map(|line| line.strip_prefix("peak ")?.strip_suffix(" kB")?.trim().parse::<u64>().ok());
    1024 * peak.unwrap_or_else(|| panic!("{}: {text}{}", source.display(), String::from_utf8_lossy(&output.stderr)))
}

fn bytes_of(path: &Path) -> u64 {
    match path.is_dir() {
        true => fs::read_dir(path).unwrap().map(|entry| bytes_of(&entry.unwrap().path())).sum(),
        false => fs::metadata(path).unwrap().len(),
    }
}

/// Conversions that were measured.
struct Measured {
    folder: PathBuf,
    too_large: Vec<String>,
}

impl Measured {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Converts a file of the folder into another, or into one that is not kept.
    fn convert(&mut self, source: &str, target: &str) {
        let (from, to) = (self.path(source), self.path(target));
        let size = bytes_of(&from);
        assert!(size > MODEL, "{source} has {size} bytes");
        let peak = peak(&from, &to);
        let line = format!("{source} to {target}: {} MB of memory for {} MB", peak / 1_000_000, size / 1_000_000);
        eprintln!("{line}");
        if peak > MEMORY {
            self.too_large.push(line);
        }
    }

    /// Converts a file of the folder into a model of this library, which is the same as `expected`, and removes the file.
    fn take(&mut self, source: &str, expected: &Model) {
        self.convert(source, "back.safetensors");
        let back = Model::load(self.path("back.safetensors")).unwrap();
        assert!(back.weights() == expected.weights(), "{source}");
        let path = self.path(source);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

#[test]
fn a_model_of_100_megabytes_is_converted_within_200() {
    if !cfg!(target_os = "linux") {
        eprintln!("not measured: the peak of memory is read from /proc, which this system does not have");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut measured = Measured { folder: folder.path().to_path_buf(), too_large: Vec::new() };
    of_stardist(&mut measured);
    of_cellpose(&mut measured);
    assert!(measured.too_large.is_empty(), "{}", measured.too_large.join("\n"));
}

fn of_stardist(measured: &mut Measured) {
    let config = StarDistConfig { n_filter_base: 136, net_conv_after_unet: 256, ..Default::default() };
    let model = Model::stardist(config, 0).unwrap();
    model.save(measured.path("star.safetensors")).unwrap();
    measured.convert("star.safetensors", "star.onnx");
    fs::remove_file(measured.path("star.onnx")).unwrap();
    for target in ["star.pb", "star_SavedModel.zip", "star.zip", "folder"] {
        measured.convert("star.safetensors", target);
    }
    // Archives of what was written, as other programs deflate them.
    let program = unpacked(&measured.path("star_SavedModel.zip"));
    zip(&measured.path("deflated_SavedModel.zip"), &program);
    let weights = fs::read(measured.path("folder/weights_best.h5")).unwrap();
    let config = fs::read(measured.path("folder/config.json")).unwrap();
    let described = format!(
        "config:\n  stardist:\n    weights: weights_best.h5\n    config: {}\n",
        String::from_utf8_lossy(&config)
    );
    let files =
        |name: &str, text: Vec<u8>| vec![(name.to_string(), text), ("weights_best.h5".to_string(), weights.clone())];
    zip(&measured.path("folder.zip"), &files("config.json", config));
    zip(&measured.path("package_of_stardist.zip"), &files("rdf.yaml", described.into_bytes()));
    for source in [
        "star.pb",
        "star_SavedModel.zip",
        "deflated_SavedModel.zip",
        "star.zip",
        "folder",
        "folder.zip",
        "package_of_stardist.zip",
    ] {
        measured.take(source, &model);
    }
}

fn of_cellpose(measured: &mut Measured) {
    let config = CellposeConfig { widths: vec![64, 128, 256, 512], ..CellposeConfig::reference() };
    let model = Model::cellpose(config, 0).unwrap();
    model.save(measured.path("cells.safetensors")).unwrap();
    for target in ["cells.onnx", "cells.zip", "cells.pth"] {
        measured.convert("cells.safetensors", target);
    }
    older_form(&measured.path("cells.pth"), &measured.path("older.pth"));
    let state: Vec<(String, Vec<usize>, Vec<u8>)> = model
        .to_state_dict()
        .unwrap()
        .into_iter()
        .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = state
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &measured.path("state.safetensors")).unwrap();
    for source in ["cells.zip", "cells.pth", "older.pth", "state.safetensors"] {
        measured.take(source, &model);
    }
}

fn unpacked(path: &Path) -> Vec<Entry> {
    stored_entries(&fs::read(path).unwrap())
}

fn zip(path: &Path, entries: &[Entry]) {
    write_zip(&mut fs::File::create(path).unwrap(), entries, true).unwrap();
}

/// Writes the weights of a file of PyTorch in the older form: pickles, then for each block of numbers how many and what they are.
fn older_form(source: &Path, target: &Path) {
    let entries = unpacked(source);
    let content = |name: &str| &entries.iter().find(|(other, _)| other == name).unwrap().1;
    let mut file = fs::File::create(target).unwrap();
    let mut keys = b"\x80\x02](".to_vec();
    let mut blocks = Vec::new();
    for index in 0.. {
        let name = format!("archive/data/{index}");
        let Some((_, block)) = entries.iter().find(|(other, _)| *other == name) else { break };
        let key = index.to_string();
        keys.extend([&b"X"[..], &(key.len() as u32).to_le_bytes(), key.as_bytes()].concat());
        blocks.push(block);
    }
    keys.extend(b"e.");
    let description = content("archive/data.pkl");
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    file.write_all(&[&magic[..], description, &keys].concat()).unwrap();
    // The counters of batches stand last, in 64 bits, behind the diameters.
    let floats = blocks.iter().rposition(|block| block.len() == 4).unwrap() + 1;
    for (index, block) in blocks.into_iter().enumerate() {
        let size = if index < floats { 4 } else { 8 };
        file.write_all(&((block.len() / size) as u64).to_le_bytes()).unwrap();
        file.write_all(block).unwrap();
    }
}
