//! The part of the post-processing benchmark that runs this crate; `postprocess.py` calls it beside its peers.
//!
//! `peer_postprocess FOLDER` reads what the script wrote there, writes its answers for comparison, then measures
//! one round for every line on its input and prints the milliseconds as a line of JSON.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use cellsparse_core::Result;
use cellsparse_core::geometry::distance::distance_transform_edt;
use cellsparse_core::postprocess::watershed::watershed;
use cellsparse_core::random::Random;
use cellsparse_core::raster::{Connectivity, LabelImage, label_components};
use cellsparse_core::training::batch_elephant::{ElephantBatch, ElephantBatchConfig, ElephantBatches};
use cellsparse_core::training::task::Task;
use ndarray::{Array2, Array3};
use serde_json::{Map, Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> std::result::Result<(), Failure> {
    let folder = env::args().nth(1).ok_or("usage: peer_postprocess FOLDER")?;
    let folder = Path::new(&folder);
    let side: usize = fs::read_to_string(folder.join("side"))?.trim().parse()?;
    let shape = (side, side);
    let bytes = |name: &str| fs::read(folder.join(name));
    let floats = |name: &str| -> std::result::Result<Array2<f32>, Failure> {
        let values = bytes(name)?.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Array2::from_shape_vec(shape, values)?)
    };
    let values = bytes("markers")?.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
    let markers = LabelImage::from_shape_vec(shape, values)?;
    let mask = Array2::from_shape_vec(shape, bytes("mask")?.iter().map(|set| *set != 0).collect())?;
    let (noise, smooth) = (floats("noise")?, floats("smooth")?);
    let distances = distance_transform_edt(mask.view());
    let minus = distances.mapv(|distance| -distance);
    let flood = |elevation: &Array2<f32>| watershed(elevation.view(), markers.view(), None, Connectivity::Four);
    let flood_mask = || watershed(minus.view(), markers.view(), Some(mask.view()), Connectivity::Four);

    let write = |name: &str, labels: &LabelImage| {
        fs::write(folder.join(name), labels.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())
    };
    write("our_noise", &flood(&noise)?)?;
    write("our_smooth", &flood(&smooth)?)?;
    write("our_mask", &flood_mask()?)?;
    write("our_components", &label_components(mask.view(), Connectivity::Four)?.0)?;
    fs::write(folder.join("our_edt"), distances.iter().flat_map(|d| d.to_le_bytes()).collect::<Vec<u8>>())?;

    let (batches, logits) = training()?;
    let mut batch = ElephantBatch::default();
    let mut gradients = Vec::new();
    for (round, line) in (0..).zip(std::io::stdin().lock().lines()) {
        line?;
        let mut times = Map::new();
        let mut keep = |name: &str, spent: f64| times.insert(name.into(), json!(spent));
        keep("noise", time(|| flood(&noise))?);
        keep("smooth", time(|| flood(&smooth))?);
        keep("mask", time(flood_mask)?);
        keep("edt", time(|| Ok(distance_transform_edt(mask.view())))?);
        keep("components", time(|| label_components(mask.view(), Connectivity::Four))?);
        keep("batch", time(|| batches.batch_into(&mut batch, round))?);
        keep("loss", time(|| batches.loss(&batch, None, &logits, Some(&mut gradients)))?);
        println!("{}", Value::Object(times));
    }
    Ok(())
}

/// The milliseconds that the work takes.
fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let begin = Instant::now();
    let answer = work()?;
    let spent = begin.elapsed().as_secs_f64() * 1e3;
    drop(answer);
    Ok(spent)
}

/// A training image with half of its cells annotated, and random answers of a network for a batch.
fn training() -> Result<(ElephantBatches, Vec<Vec<f32>>)> {
    let mut random = Random::new(3, 0);
    let image = Array3::from_shape_simple_fn((512, 512, 1), || random.unit() as f32);
    let labels = LabelImage::from_shape_fn((512, 512), |(y, x)| match (y % 32, x % 32) {
        (8..24, 8..24) if (y / 32 + x / 32) % 2 == 0 => (y / 32 * 16 + x / 32 + 1) as i32,
        (0..4, _) => 0,
        _ => -1,
    });
    let logits = (0..8 * 224 * 224 * 3).map(|_| random.normal() as f32).collect();
    Ok((ElephantBatches::new(vec![image], vec![labels], ElephantBatchConfig::default())?, vec![logits]))
}
