//! What the tasks share: options, the drawn images, training steps, timing, NumPy files.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cellsparse_core::annotations::LabelEncoding;
use cellsparse_core::formats::pytorch::write_state_dict;
use cellsparse_core::model::{Normalization, Precision};
use cellsparse_core::networks::{Arithmetic, Device, Engine, Graph, Weights, to_state_dict};
use cellsparse_core::raster::{
    LabelImage, list_images, pair_by_stem, read_image, read_label_file, write_gray_png8, write_wire_labels,
};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::training::optimizer::Adam;
use cellsparse_core::{CancelToken, Dataset, Error, Image, Result, SparseLabels};
use ndarray::Array3;
use serde_json::{Value, json};

pub const USAGE: &str = "usage: peer TASK FOLDER [--threads N] [--steps N] [--precision f32|bf16]
tasks: data cellpose-data elephant-data step predict train200 cold
       cellpose-step cellpose-narrow cellpose-predict cellpose-masks elephant-step";

/// Training images in the folder.
pub const IMAGES: u64 = 8;

/// Side of the training images.
const TRAINING_SIDE: usize = 512;

/// Crops in a batch, and their side.
pub const BATCH: usize = 8;
pub const PATCH: usize = 224;

pub struct Options {
    pub task: String,
    pub folder: PathBuf,
    pub threads: usize,
    /// Timed runs; for `train200` and `data`, optimiser steps.
    pub steps: Option<usize>,
    /// What the network is computed with.
    pub precision: Precision,
}

impl Options {
    pub fn parse() -> Result<Self> {
        let usage = || Error::Config(USAGE.into());
        let mut arguments = std::env::args().skip(1);
        let task = arguments.next().ok_or_else(usage)?;
        let folder = PathBuf::from(arguments.next().ok_or_else(usage)?);
        let mut options = Self { task, folder, threads: 2, steps: None, precision: Precision::F32 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(usage)?;
            let number = || match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(Error::Config(format!("{name} needs a number of at least 1"))),
            };
            match name.as_str() {
                "--threads" => options.threads = number()?,
                "--steps" => options.steps = Some(number()?),
                "--precision" => options.precision = value.parse()?,
                _ => return Err(Error::Config(format!("unknown option '{name}'\n{USAGE}"))),
            }
        }
        Ok(options)
    }

    /// The processor, computing with the chosen numbers.
    pub fn device(&self) -> Device {
        Device::cpu_in(if self.precision == Precision::Bf16 { Arithmetic::Bf16 } else { Arithmetic::F32 })
    }

    /// Runs `work` on that many threads.
    pub fn on_threads<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        pool.map_err(|error| Error::Internal(format!("starting {} threads: {error}", self.threads)))?.install(work)
    }
}

/// Draws the training images with their sparse labels, unless they are there.
pub fn draw_training_images(folder: &Path) -> Result<()> {
    let (images, labels) = (folder.join("images"), folder.join("labels"));
    for path in [folder, &images, &labels] {
        fs::create_dir_all(path).map_err(|error| Error::io(path, error))?;
    }
    if list_images(&labels).is_ok_and(|files| files.len() == IMAGES as usize) {
        return Ok(());
    }
    eprintln!("peer: drawing {IMAGES} fields of {TRAINING_SIDE} pixels");
    let annotations = AnnotationOptions { cells: 24, strokes: 16, arcs: true };
    for seed in 0..IMAGES {
        let field = draw_field(&square(TRAINING_SIDE), seed)?;
        let stem = format!("{seed:02}");
        write_gray(&images.join(format!("{stem}.png")), &field.image)?;
        write_wire_labels(&labels, &stem, &annotate(&field, &annotations, seed))?;
    }
    Ok(())
}

pub fn square(side: usize) -> FieldOptions {
    FieldOptions { height: side, width: side, ..FieldOptions::default() }
}

pub fn write_gray(path: &Path, image: &Image) -> Result<()> {
    match image {
        Image::U8(pixels) => write_gray_png8(path, pixels.index_axis(ndarray::Axis(2), 0)),
        _ => Err(Error::Internal("a drawn field is not an 8-bit image".into())),
    }
}

pub fn dataset(folder: &Path) -> Result<Dataset> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (image, label) in pair_by_stem(&list_images(folder.join("images"))?, &list_images(folder.join("labels"))?)? {
        images.push(read_image(image)?);
        labels.push(SparseLabels::parse(read_label_file(label)?, LabelEncoding::Wire)?);
    }
    Dataset::new(images, labels)
}

/// The training images, scaled from 0 to 1, and their labels.
pub fn normalised(folder: &Path) -> Result<(Vec<Array3<f32>>, Vec<LabelImage>)> {
    let data = dataset(folder)?;
    let images = data.images().iter().map(|image| Normalization::MIN_MAX.apply(image)).collect::<Result<_>>()?;
    Ok((images, data.labels().iter().map(|labels| labels.labels().clone()).collect()))
}

/// Writes the weights as a PyTorch file.
pub fn write_weights(path: &Path, graph: &Graph, weights: &Weights) -> Result<()> {
    let arrays = to_state_dict(graph, weights);
    write_state_dict(path, arrays.iter().map(|(name, shape, values)| (name.clone(), &shape[..], &values[..])))
}

/// A network and how it is trained on one batch.
pub struct Training {
    pub graph: Arc<Graph>,
    pub weights: Weights,
    pub optimizer: Adam,
    pub rate: f32,
    pub patch: usize,
    pub device: Device,
    /// Images that pass through the network together.
    pub at_once: usize,
    /// Steps before the timed ones.
    pub warm_up: usize,
}

impl Training {
    /// Optimiser steps on a fixed batch: forward, loss, gradients, Adam, as the training loop does them. `loss` takes the
    /// images of the batch that pass through the network together, and their outputs, and writes the gradients of these.
    pub fn steps(
        mut self,
        timed: usize,
        input: &[f32],
        mut loss: impl FnMut(Range<usize>, &[Vec<f32>], &mut [Vec<f32>]) -> Result<f64>,
    ) -> Result<Value> {
        let before = peak_mb();
        let shape = [self.at_once, self.patch, self.patch];
        let mut engine = Engine::new(&self.graph, &self.device, shape, true)?;
        let weights = &mut self.weights;
        let mut gradients: Vec<Vec<f32>> = weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect();
        let (mut times, mut losses) = (Vec::new(), Vec::new());
        for index in 0..self.warm_up + timed {
            let start = Instant::now();
            engine.set_weights(weights)?;
            let mut value = 0.0;
            let mut add = |images, outputs: &[Vec<f32>], gradients: &mut Vec<Vec<f32>>| {
                gradients.resize(outputs.len(), Vec::new());
                gradients.iter_mut().zip(outputs).for_each(|(to, from)| to.resize(from.len(), 0.0));
                value += loss(images, outputs, gradients)?;
                Ok(())
            };
            engine.learn(weights, input, &mut add, &mut gradients, &CancelToken::new())?;
            if !gradients.iter().all(|values| values.iter().all(|value| value.is_finite())) {
                return Err(Error::Diverged("a gradient is not finite".into()));
            }
            self.optimizer.step(weights, &gradients, self.rate);
            if index >= self.warm_up {
                times.push(milliseconds(start));
            }
            losses.push(value);
        }
        Ok(json!({ "ms": { "step": times }, "loss": losses, "before_mb": before }))
    }
}

/// Milliseconds of each run of `work`, after one that does not count.
pub fn timed(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    work()?;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        work()?;
        times.push(milliseconds(start));
    }
    Ok(times)
}

pub fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Writes 32-bit floats as a NumPy array file, version 1.0.
pub fn write_npy(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    write_npy_bytes(path, "<f4", shape, values.iter().flat_map(|value| value.to_le_bytes()))
}

/// Writes 32-bit integers as a NumPy array file, version 1.0.
pub fn write_npy_i32(path: &Path, shape: &[usize], values: impl IntoIterator<Item = i32>) -> Result<()> {
    write_npy_bytes(path, "<i4", shape, values.into_iter().flat_map(|value| value.to_le_bytes()))
}

fn write_npy_bytes(path: &Path, kind: &str, shape: &[usize], values: impl Iterator<Item = u8>) -> Result<()> {
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version, length and header together fill a multiple of 64 bytes; the header ends with a line feed.
    header.extend(std::iter::repeat_n(' ', 63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    fs::write(path, bytes).map_err(|error| Error::io(path, error))
}

/// The values of a NumPy array file, version 1.0, of 4-byte numbers (`<f4` or `<i4`) in row-major order.
pub fn read_npy<T>(path: &Path, kind: &str, number: fn([u8; 4]) -> T) -> Result<Vec<T>> {
    let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
    let length = bytes.get(8..10).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
    let header = String::from_utf8_lossy(bytes.get(10..10 + length).unwrap_or_default());
    if !header.contains(kind) || !header.contains("'fortran_order': False") {
        return Err(Error::file(path, format!("not a NumPy array of '{kind}' in row-major order")));
    }
    Ok(bytes[10 + length..].as_chunks().0.iter().map(|bytes| number(*bytes)).collect())
}

/// The most memory that this process held, where the system tells.
pub fn peak_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}
