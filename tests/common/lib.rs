//! Access to recorded inputs and outputs of the reference packages.
//!
//! `tests/fixtures/` travels with the project and holds synthetic cases. Cases on real images are read from a folder
//! beside the checkout (`../shared`, or `CELLSPARSE_SHARED`) when it is there.
#![allow(dead_code)]

pub mod archive;

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// One safetensors file, read whole.
pub struct Fixture {
    bytes: Vec<u8>,
    path: PathBuf,
}

/// `tests/fixtures/<name>.safetensors`; the name is like `stardist/targets`.
pub fn fixture(name: &str) -> Fixture {
    Fixture::read(&fixtures().join(format!("{name}.safetensors")))
}

/// The folder of the committed fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// The folder with real images and the fixtures made from them, if this machine has it. Says so when it has not.
pub fn shared() -> Option<PathBuf> {
    let path = match std::env::var_os("CELLSPARSE_SHARED") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    if path.join("fixtures/real").is_dir() {
        Some(path)
    } else {
        eprintln!("cases on real images not run: no folder {} (set CELLSPARSE_SHARED)", path.display());
        None
    }
}

/// The committed fixture and, when present, the file of the same name made from real images.
pub fn fixture_and_real(name: &str) -> Vec<Fixture> {
    let mut all = vec![fixture(name)];
    if let Some(shared) = shared() {
        let path = shared.join(format!("fixtures/real/{name}.safetensors"));
        if path.is_file() {
            all.push(Fixture::read(&path));
        }
    }
    all
}

/// [`fixture_and_real`], and the complete file of synthetic cases when present, of which the committed one is a part.
pub fn all_fixtures(name: &str) -> Vec<Fixture> {
    let mut all = fixture_and_real(name);
    if let Some(shared) = shared() {
        let path = shared.join(format!("fixtures/{name}.safetensors"));
        if path.is_file() {
            all.push(Fixture::read(&path));
        }
    }
    all
}

impl Fixture {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { bytes, path: path.to_path_buf() }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tensors().names().iter().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    /// Whether a tensor of that name is there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// The JSON text under the metadata key `info` (StarDist, cellsparse) or `params`.
    pub fn info(&self) -> serde_json::Value {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let text = metadata.get("info").or_else(|| metadata.get("params")).cloned().unwrap_or_else(|| "null".into());
        serde_json::from_str(&text).unwrap()
    }

    fn raw(&self, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.path.display()));
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    }

    /// A tensor as 32-bit floats, whatever numeric type it is stored in.
    pub fn f32(&self, name: &str) -> ArrayD<f32> {
        let (dtype, shape, data) = self.raw(name);
        let values: Vec<f32> = match dtype {
            Dtype::F32 => chunks(&data, f32::from_le_bytes),
            Dtype::F64 => chunks(&data, f64::from_le_bytes).into_iter().map(|v| v as f32).collect(),
            Dtype::F16 => chunks(&data, half_from_le_bytes),
            Dtype::U8 => data.iter().map(|&v| f32::from(v)).collect(),
            Dtype::I32 => chunks(&data, i32::from_le_bytes).into_iter().map(|v| v as f32).collect(),
            other => panic!("{name}: {other:?} is not read as f32"),
        };
        ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap()
    }

    /// A tensor stored as 64-bit floats.
    pub fn f64(&self, name: &str) -> ArrayD<f64> {
        let (dtype, shape, data) = self.raw(name);
        assert_eq!(dtype, Dtype::F64, "{name}");
        ArrayD::from_shape_vec(IxDyn(&shape), chunks(&data, f64::from_le_bytes)).unwrap()
    }

    /// A tensor as 32-bit integers.
    pub fn i32(&self, name: &str) -> ArrayD<i32> {
        let (dtype, shape, data) = self.raw(name);
        let values: Vec<i32> = match dtype {
            Dtype::I32 => chunks(&data, i32::from_le_bytes),
            Dtype::I64 => chunks(&data, i64::from_le_bytes).into_iter().map(|v| v as i32).collect(),
            Dtype::U16 => chunks(&data, u16::from_le_bytes).into_iter().map(i32::from).collect(),
            Dtype::I16 => chunks(&data, i16::from_le_bytes).into_iter().map(i32::from).collect(),
            Dtype::I8 => chunks(&data, i8::from_le_bytes).into_iter().map(i32::from).collect(),
            Dtype::U8 => data.iter().map(|&v| i32::from(v)).collect(),
            other => panic!("{name}: {other:?} is not read as i32"),
        };
        ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap()
    }
}

fn chunks<const N: usize, T>(data: &[u8], convert: fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|chunk| convert(*chunk)).collect()
}

/// A 16-bit float (finite ones only).
fn half_from_le_bytes(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The largest absolute difference of two arrays of one shape.
pub fn max_abs_diff<D: ndarray::Dimension>(a: &ndarray::Array<f32, D>, b: &ndarray::Array<f32, D>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() }).fold(0.0, f32::max)
}
