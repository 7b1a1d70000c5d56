//! Starting weights from drawn worlds: trains the default network of an algorithm on an endless stream of them.
//!
//! `cargo run --release -p cellsparse-core --example starters -- --algorithm A [--out DIR] [--threads T]` runs the stages that the
//! weights in this library were made by. `DIR/A-N.safetensors` is the training of stage `N` so far; a run that finds one goes on
//! with it. At the end `DIR/A.bin` holds the weights in 8 bits and `DIR/A.json` how they were made.
//!
//! `--steps N [--seed S] [--lr F] [--from FILE.bin]` runs one stage of that kind instead, from other starting weights or random ones;
//! `[--batch B] [--patch P] [--size N]` are for trying other recipes.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cellsparse_core::model::{Algorithm, Architecture, Model, Starter, TrainOptions};
use cellsparse_core::random::Random;
use cellsparse_core::raster::percentile_normalize;
use cellsparse_core::synthetic::{WorldKind, WorldOptions, draw_world};
use cellsparse_core::{ControlFlow, Image, LabelImage};
use ndarray::{Array3, Axis};
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Images in a pool that mixes kinds.
const MIXED: u64 = 4;

/// Random stream of the choices that are made here; pool `n` takes `STREAM + n`.
const STREAM: u64 = 1 << 55;

/// Fraction of the images that are shown without colour by the mean of their channels, the others by a random mixture.
const MEAN: f64 = 0.5;

/// One training on worlds of one seed; the next begins with its weights in 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
struct Stage {
    seed: u64,
    steps: usize,
    rate: f64,
}

/// What the weights in this library were made by.
fn recipe(algorithm: Algorithm) -> Vec<Stage> {
    let [first, second] = match algorithm {
        Algorithm::Cellpose => [(1, 2200), (11, 5000)],
        Algorithm::Elephant => [(1, 1100), (11, 2500)],
        _ => [(0, 2000), (11, 4500)],
    };
    let stage = |(seed, steps), rate| Stage { seed, steps, rate };
    vec![stage(first, 0.002), stage(second, 0.001)]
}

fn main() -> Outcome<()> {
    let mut keys = Keys::new();
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        let key = argument.strip_prefix("--").ok_or_else(|| format!("'{argument}' is no option"))?.to_string();
        let value = arguments.next_if(|next| !next.starts_with("--")).unwrap_or_default();
        keys.insert(key, value);
    }
    let algorithm: Algorithm = keys.get("algorithm").ok_or("--algorithm stardist, cellpose or elephant")?.parse()?;
    let out = PathBuf::from(keys.get("out").map_or("target/starters", String::as_str));
    std::fs::create_dir_all(&out)?;
    let stages = match number(&keys, "steps")? {
        Some(steps) => {
            let rate = keys.get("lr").map_or(Ok(0.002), |rate| rate.parse())?;
            vec![Stage { seed: number(&keys, "seed")?.unwrap_or(0) as u64, steps, rate }]
        }
        None => recipe(algorithm),
    };
    let file = |stage: usize| out.join(format!("{algorithm}-{}.safetensors", stage + 1));
    let begun = (0..stages.len()).rev().find(|stage| file(*stage).is_file());
    let mut from = keys.get("from").map(std::fs::read).transpose()?;
    for (index, stage) in stages.iter().enumerate().skip(begun.unwrap_or(0)) {
        let model = run(algorithm, *stage, &file(index), from.as_deref(), &keys)?;
        from = Some(Starter::write(&model)?);
        if index + 1 == stages.len() {
            export(&model, &stages, &out)?;
        }
    }
    Ok(())
}

/// Settings by name.
type Keys = HashMap<String, String>;

fn number(keys: &Keys, key: &str) -> Outcome<Option<usize>> {
    Ok(keys.get(key).map(|value| value.parse()).transpose()?)
}

/// Trains, or goes on with the training in `file`.
fn run(algorithm: Algorithm, stage: Stage, file: &Path, from: Option<&[u8]>, keys: &Keys) -> Outcome<Model> {
    let going_on = file.is_file();
    let mut model = if going_on { Model::load(file)? } else { Model::new(Architecture::of(algorithm, 1), stage.seed)? };
    if model.info().steps >= stage.steps as u64 {
        return Ok(model);
    }
    if let (false, Some(weights)) = (going_on, from) {
        model.begin_with(&Starter::read(weights)?)??;
    }
    let options = TrainOptions {
        steps: Some(stage.steps),
        batch_size: Some(number(keys, "batch")?.unwrap_or(4)),
        patch_size: Some(number(keys, "patch")?.unwrap_or(128)),
        learning_rate: Some(stage.rate as f32),
        threads: number(keys, "threads")?,
        resume: going_on,
        checkpoint: Some(file.to_path_buf()),
        seed: stage.seed,
        ..TrainOptions::default()
    };
    let size = number(keys, "size")?.unwrap_or(256);
    let pools = |pool: u64| pool_of_worlds(algorithm, size, stage.seed, pool);
    let (begun, mut sum, mut count) = (Instant::now(), 0.0, 0);
    model.train_on_stream(&pools, &options, &mut |event| {
        sum += f64::from(event.loss);
        count += 1;
        if event.step % 50 == 0 {
            println!(
                "step {} loss {:.4} rate {:.5} {:.0} s",
                event.step,
                sum / f64::from(count),
                event.learning_rate,
                begun.elapsed().as_secs_f64()
            );
            (sum, count) = (0.0, 0);
        }
        ControlFlow::Continue
    })?;
    model.save(file)?;
    Ok(model)
}

/// Pool `number`: one world, or several when batches are to mix kinds.
///
/// Cellpose normalises over its batch. A training on images of one kind has batches of one kind, a training on many kinds
/// has mixed ones, so it learns on both in turn.
fn pool_of_worlds(
    algorithm: Algorithm,
    size: usize,
    seed: u64,
    number: u64,
) -> cellsparse_core::Result<Vec<(Image, LabelImage)>> {
    let mut random = Random::new(seed, STREAM.wrapping_add(number));
    let single = algorithm == Algorithm::Cellpose && !number.is_multiple_of(3);
    let mut pool = Vec::new();
    for member in 0..if single { 1 } else { MIXED } {
        let mut options = WorldOptions::default();
        options.size = [size; 2];
        // A pool needs cells.
        if member == 0 {
            options.kinds.retain(|kind| *kind != WorldKind::Empty);
        }
        let mut labels = LabelImage::zeros((0, 0));
        let mut image = Array3::zeros((0, 0, 0));
        while labels.is_empty() || (member == 0 && labels.iter().all(|label| *label == 0)) {
            let world = draw_world(&options, random.bits())?;
            image = percentile_normalize(world.image.to_f32().view(), 1.0, 99.8)?;
            labels = world.labels;
        }
        pool.push((Image::F32(grey(image, &mut random)), labels));
    }
    Ok(pool)
}

/// One channel that is a mixture of all.
fn grey(image: Array3<f32>, random: &mut Random) -> Array3<f32> {
    let channels = image.dim().2;
    if channels == 1 {
        return image;
    }
    let mean = random.chance(MEAN);
    let mut weights: Vec<f32> = (0..channels).map(|_| if mean { 1.0 } else { random.unit() as f32 }).collect();
    let total: f32 = weights.iter().sum::<f32>().max(1e-3);
    weights.iter_mut().for_each(|weight| *weight /= total);
    image.map_axis(Axis(2), |pixel| pixel.iter().zip(&weights).map(|(a, b)| a * b).sum()).insert_axis(Axis(2))
}

fn export(model: &Model, stages: &[Stage], out: &Path) -> Outcome<()> {
    let bytes = Starter::write(model)?;
    let algorithm = model.algorithm();
    std::fs::write(out.join(format!("{algorithm}.bin")), &bytes)?;
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let info = model.info();
    let manifest = json!({
        "algorithm": algorithm.name(),
        "architecture": model.architecture(),
        "parameters": info.parameters,
        "stages": stages,
        "steps": stages.iter().map(|stage| stage.steps).sum::<usize>(),
        "loss": info.loss,
        "bytes": bytes.len(),
        "fnv1a": format!("{hash:016x}"),
        "recipe": "benches/starters: drawn worlds of every kind, in grey; 4 patches of 128 x 128 a step; running average of the weights",
        "version": env!("CARGO_PKG_VERSION"),
    });
    std::fs::write(out.join(format!("{algorithm}.json")), serde_json::to_string_pretty(&manifest)? + "\n")?;
    println!("{} bytes", bytes.len());
    Ok(())
}
