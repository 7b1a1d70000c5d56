//! The part of the benchmark against the peers that runs this crate; `run.py` calls it beside the peers.
//!
//! `peer data FOLDER` draws the images and writes everything that both sides read. `peer step|predict|train200|cold
//! FOLDER` measures one thing and prints one line of JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cellsparse_core::annotations::LabelEncoding;
use cellsparse_core::model::{Normalization, Preset};
use cellsparse_core::networks::{Engine, Weights};
use cellsparse_core::raster::{
    list_images, pair_by_stem, read_image, read_label_file, write_gray_png8, write_wire_labels,
};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::training::batch::{Batch, BatchConfig, BatchMaker};
use cellsparse_core::training::loss_stardist::{
    Head, StarGradients, StarLossConfig, StarOutputs, StarTruth, stardist_loss,
};
use cellsparse_core::training::optimizer::Adam;
use cellsparse_core::training::sampler::SamplingPolicy;
use cellsparse_core::{
    Dataset, Device, Error, Flow, Image, Model, PredictOptions, Result, SparseLabels, StarDistConfig, TrainOptions,
};
use serde_json::{Value, json};

const USAGE: &str = "usage: peer data|step|predict|train200|cold FOLDER [--threads N] [--steps N]";

/// Training images in the folder, and how many of them validate.
const IMAGES: u64 = 8;
const VALIDATION_IMAGES: usize = 2;

/// Side of the training images, and of the image that is predicted.
const TRAINING_SIDE: usize = 512;
const PREDICTION_SIDE: usize = 1024;

/// Runs before the timed ones.
const WARM_UP: usize = 3;

const LEARNING_RATE: f32 = 1e-3;

fn main() {
    if let Err(error) = run() {
        eprintln!("peer: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let begin = Instant::now();
    let options = Options::parse()?;
    let mut result = match options.task.as_str() {
        "data" => return data(&options),
        "step" => step(&options)?,
        "predict" => predict(&options)?,
        "train200" => train(&options)?,
        "cold" => cold(&options, begin)?,
        other => return Err(Error::Config(format!("unknown task '{other}'\n{USAGE}"))),
    };
    if let Some(fields) = result.as_object_mut() {
        fields.insert("peer".into(), json!("cellsparse"));
        fields.insert("task".into(), json!(options.task));
        fields.insert("threads".into(), json!(options.threads));
        fields.insert("peak_mb".into(), json!(peak_mb()));
        fields.insert(
            "versions".into(),
            json!({ "cellsparse": env!("CARGO_PKG_VERSION"), "checked": cfg!(debug_assertions) }),
        );
    }
    println!("{result}");
    Ok(())
}

struct Options {
    task: String,
    folder: PathBuf,
    threads: usize,
    /// Timed runs; for `train200` and `data`, optimiser steps.
    steps: Option<usize>,
}

impl Options {
    fn parse() -> Result<Self> {
        let usage = || Error::Config(USAGE.into());
        let mut arguments = std::env::args().skip(1);
        let task = arguments.next().ok_or_else(usage)?;
        let folder = PathBuf::from(arguments.next().ok_or_else(usage)?);
        let mut options = Self { task, folder, threads: 2, steps: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
            let value: usize = value.ok_or_else(|| Error::Config(format!("{name} needs a number of at least 1")))?;
            match name.as_str() {
                "--threads" => options.threads = value,
                "--steps" => options.steps = Some(value),
                _ => return Err(Error::Config(format!("unknown option '{name}'\n{USAGE}"))),
            }
        }
        Ok(options)
    }

    fn training(&self, steps: usize) -> TrainOptions {
        TrainOptions {
            steps: Some(self.steps.unwrap_or(steps)),
            learning_rate: Some(LEARNING_RATE),
            preset: Preset::Reference,
            device: Device::Cpu,
            threads: Some(self.threads),
            ..TrainOptions::default()
        }
    }

    fn prediction(&self) -> PredictOptions {
        PredictOptions {
            prob_thresh: Some(0.5),
            nms_thresh: Some(0.4),
            device: Device::Cpu,
            threads: Some(self.threads),
            ..PredictOptions::default()
        }
    }

    /// Runs `work` on that many threads.
    fn on_threads<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        pool.map_err(|error| Error::Internal(format!("starting {} threads: {error}", self.threads)))?.install(work)
    }

    fn model(&self) -> Result<Model> {
        Model::load(self.folder.join("model.cellsparse"))
    }
}

/// Draws the images, trains a model on them and writes it, its weights and one batch for the others to read.
fn data(options: &Options) -> Result<()> {
    let folder = &options.folder;
    let (images, labels) = (folder.join("images"), folder.join("labels"));
    for path in [folder, &images, &labels] {
        fs::create_dir_all(path).map_err(|error| Error::io(path, error))?;
    }
    eprintln!("peer: drawing {IMAGES} fields of {TRAINING_SIDE} and one of {PREDICTION_SIDE} pixels");
    let annotations = AnnotationOptions { cells: 24, strokes: 16, arcs: true };
    for seed in 0..IMAGES {
        let field = draw_field(&square(TRAINING_SIDE), seed)?;
        let stem = format!("{seed:02}");
        write_gray(&images.join(format!("{stem}.png")), &field.image)?;
        write_wire_labels(&labels, &stem, &annotate(&field, &annotations, seed))?;
    }
    write_gray(&folder.join("field.png"), &draw_field(&square(PREDICTION_SIDE), IMAGES)?.image)?;

    let mut model = Model::stardist(StarDistConfig::default(), 0)?;
    let training = options.training(200);
    model.train(&dataset(folder)?, None, &training, &mut |event| {
        if event.step.is_multiple_of(10) || event.step == event.total_steps {
            eprintln!("peer: training step {} of {}, loss {:.4}", event.step, event.total_steps, event.loss);
        }
        Flow::Continue
    })?;
    model.save(folder.join("model.cellsparse"))?;
    let values: Vec<f32> = model.weights().parameters().iter().flat_map(|p| p.values.iter().copied()).collect();
    write_npy(&folder.join("weights.npy"), &[values.len()], &values)?;
    let batch = batch(folder)?;
    let (side, cells) = ([batch.size, batch.patch, batch.patch], [batch.size, batch.rows, batch.columns]);
    write_npy(&folder.join("batch_images.npy"), &side, &batch.images)?;
    write_npy(&folder.join("batch_prob.npy"), &cells, &batch.prob)?;
    write_npy(&folder.join("batch_mask.npy"), &cells, &batch.mask)?;
    write_npy(&folder.join("batch_dist.npy"), &[cells[0], cells[1], cells[2], batch.n_rays], &batch.dist)?;
    let found = model.predict(&read_image(folder.join("field.png"))?, &options.prediction())?.objects.len();
    eprintln!("peer: wrote {}; the model finds {found} objects", folder.display());
    Ok(())
}

/// Optimiser steps on a fixed batch: forward, loss, gradients, Adam, as the training loop does them.
fn step(options: &Options) -> Result<Value> {
    let batch = batch(&options.folder)?;
    let model = options.model()?;
    let graph = Arc::new(model.graph().as_ref().clone());
    let mut weights = model.weights().clone();
    drop(model);
    options.on_threads(|| {
        let shape = [batch.size, batch.patch, batch.patch];
        let mut engine = Engine::new(&graph, &candle_core::Device::Cpu, shape, true)?;
        let mut optimizer = Adam::new(&weights);
        let mut buffers = Buffers {
            gradients: weights.parameters().iter().map(|p| vec![0.0; p.values.len()]).collect(),
            ..Buffers::default()
        };
        let (mut times, mut losses) = (Vec::new(), Vec::new());
        for index in 0..WARM_UP + options.steps.unwrap_or(10) {
            let start = Instant::now();
            let loss = one_step(&mut engine, &batch, &mut weights, &mut optimizer, &mut buffers)?;
            if index >= WARM_UP {
                times.push(milliseconds(start));
            }
            losses.push(loss);
        }
        Ok(json!({ "ms": { "step": times }, "loss": losses }))
    })
}

#[derive(Default)]
struct Buffers {
    outputs: Vec<Vec<f32>>,
    output_gradients: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

fn one_step(
    engine: &mut Engine,
    batch: &Batch,
    weights: &mut Weights,
    optimizer: &mut Adam,
    buffers: &mut Buffers,
) -> Result<f64> {
    let Buffers { outputs, output_gradients, gradients } = buffers;
    engine.set_weights(weights)?;
    engine.forward(weights, &batch.images, outputs)?;
    output_gradients.resize(outputs.len(), Vec::new());
    output_gradients.iter_mut().zip(&*outputs).for_each(|(to, from)| to.resize(from.len(), 0.0));
    let ([prob, dist], [prob_gradient, dist_gradient]) = (outputs.as_slice(), output_gradients.as_mut_slice()) else {
        return Err(Error::Internal("the network does not have two outputs".into()));
    };
    let truth = StarTruth { prob: &batch.prob, dist: &batch.dist, mask: &batch.mask, class: None };
    let loss = stardist_loss(
        &StarLossConfig::default(),
        Head::Logits,
        StarOutputs { prob, dist, class: None },
        truth,
        Some(StarGradients { prob: prob_gradient, dist: dist_gradient, class: None }),
    )?;
    engine.backward(weights, output_gradients, gradients)?;
    if !gradients.iter().all(|values| values.iter().all(|value| value.is_finite())) {
        return Err(Error::Diverged("a gradient is not finite".into()));
    }
    optimizer.step(weights, gradients, LEARNING_RATE);
    Ok(loss.total)
}

/// The network alone, and everything from the file to the objects.
fn predict(options: &Options) -> Result<Value> {
    let path = options.folder.join("field.png");
    let image = read_image(&path)?;
    let model = options.model()?;
    let repeats = options.steps.unwrap_or(5);
    let (height, width, _) = image.shape();
    let input: Vec<f32> = model.normalization().apply(&image)?.iter().copied().collect();
    let graph = Arc::new(model.graph().as_ref().clone());
    let network = options.on_threads(|| {
        let mut engine = Engine::new(&graph, &candle_core::Device::Cpu, [1, height, width], false)?;
        engine.set_weights(model.weights())?;
        let mut outputs = Vec::new();
        timed(repeats, || engine.forward(model.weights(), &input, &mut outputs))
    })?;
    let mut objects = 0;
    let prediction = options.prediction();
    let full = timed(repeats, || {
        objects = model.predict(&read_image(&path)?, &prediction)?.objects.len();
        Ok(())
    })?;
    Ok(json!({ "ms": { "network": network, "full": full }, "objects": objects }))
}

/// From the folder to the trained model.
fn train(options: &Options) -> Result<Value> {
    let start = Instant::now();
    let all = dataset(&options.folder)?;
    let count = VALIDATION_IMAGES.min(all.len());
    let validation = Dataset::new(all.images()[..count].to_vec(), all.labels()[..count].to_vec())?;
    let mut model = Model::stardist(StarDistConfig::default(), 0)?;
    let summary = model.train(&all, Some(&validation), &options.training(200), &mut |_| Flow::Continue)?;
    Ok(json!({ "ms": { "train": [milliseconds(start)] }, "steps": summary.steps, "loss": [summary.loss] }))
}

/// From the start of the process to the objects of one image.
fn cold(options: &Options, begin: Instant) -> Result<Value> {
    let image = read_image(options.folder.join("images").join("00.png"))?;
    let found = options.model()?.predict(&image, &options.prediction())?;
    Ok(json!({ "ms": { "cold": [milliseconds(begin)] }, "objects": found.objects.len() }))
}

fn timed(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    work()?;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        work()?;
        times.push(milliseconds(start));
    }
    Ok(times)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn dataset(folder: &Path) -> Result<Dataset> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (image, label) in pair_by_stem(&list_images(folder.join("images"))?, &list_images(folder.join("labels"))?)? {
        images.push(read_image(image)?);
        labels.push(SparseLabels::parse(read_label_file(label)?, LabelEncoding::Wire)?);
    }
    Dataset::new(images, labels)
}

/// The batch that all steps are measured on.
fn batch(folder: &Path) -> Result<Batch> {
    let data = dataset(folder)?;
    let images = data.images().iter().map(|image| Normalization::MIN_MAX.apply(image)).collect::<Result<_>>()?;
    let labels = data.labels().iter().map(|labels| labels.labels().clone()).collect();
    let config = BatchConfig { policy: SamplingPolicy::Reference, ..BatchConfig::default() };
    BatchMaker::new(images, labels, config)?.batch(0)
}

fn square(side: usize) -> FieldOptions {
    FieldOptions { height: side, width: side, ..FieldOptions::default() }
}

fn write_gray(path: &Path, image: &Image) -> Result<()> {
    match image {
        Image::U8(pixels) => write_gray_png8(path, pixels.index_axis(ndarray::Axis(2), 0)),
        _ => Err(Error::Internal("a drawn field is not an 8-bit image".into())),
    }
}

/// Writes 32-bit floats as a NumPy array file, version 1.0.
fn write_npy(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version, length and header together fill a multiple of 64 bytes; the header ends with a line feed.
    header.extend(std::iter::repeat_n(' ', 63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path, bytes).map_err(|error| Error::io(path, error))
}

/// The most memory that this process held, where the system tells.
fn peak_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}
