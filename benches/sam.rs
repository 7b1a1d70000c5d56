//! Masks of SAM for prompts, with times and the largest memory: what `tests/sam/parity.py` compares with the original.
//!
//!     sam WEIGHTS IMAGE PROMPTS.json OUT.safetensors
//!
//! PROMPTS is a list of `{"points": [[x, y, label], ...], "box": [x0, y0, x1, y1] or null}`. OUT gets for prompt `N` the four
//! masks of the network `N/low` `[4, 256, 256]` with `N/scores` `[4]`, the mask that is chosen as `N/best`, and its logits at the
//! pixels of the image as `N/logits` `[H, W]`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cellsparse_core::Device;
use cellsparse_core::formats::tensors::write_tensors;
use cellsparse_core::raster::read_image;
use cellsparse_core::sam::{EncodeOptions, Mask, Outputs, Point, Prompt, Sam};

type Arrays = Vec<(String, Vec<usize>, Vec<f32>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, image, prompts, out] = arguments.as_slice() else {
        return Err("usage: sam WEIGHTS IMAGE PROMPTS.json OUT.safetensors".into());
    };
    let prompts = read_prompts(&std::fs::read_to_string(prompts)?)?;
    let image = read_image(image)?;

    let clock = Instant::now();
    let sam = Sam::load(weights, Device::Cpu)?;
    println!("{}: loaded in {:.2} s, {} MB", sam.kind(), clock.elapsed().as_secs_f64(), largest_memory());
    let clock = Instant::now();
    let embedding = sam.encode(&image, &EncodeOptions::default())?;
    println!("encoded in {:.2} s, {} MB at most so far", clock.elapsed().as_secs_f64(), largest_memory());

    let mut arrays = Arrays::new();
    let clock = Instant::now();
    for (place, prompt) in prompts.iter().enumerate() {
        let of = |outputs| sam.masks(&embedding, std::slice::from_ref(prompt), outputs);
        let mut all = of(Outputs::Single)?;
        all.extend(of(Outputs::Three)?);
        let best = of(Outputs::Best)?.remove(0);
        put(&mut arrays, place, &all, &best)?;
    }
    println!("{} prompts in {:.3} s", 3 * prompts.len(), clock.elapsed().as_secs_f64());
    let arrays = arrays.iter().map(|(name, shape, values)| (name.clone(), shape.as_slice(), values.as_slice()));
    write_tensors(Path::new(out), arrays, "{}".into())?;
    Ok(())
}

fn put(arrays: &mut Arrays, place: usize, all: &[Mask], best: &Mask) -> Result<(), Box<dyn Error>> {
    let side = best.low.nrows();
    let low = all.iter().flat_map(|mask| mask.low.iter().copied()).collect();
    arrays.push((format!("{place}/low"), vec![all.len(), side, side], low));
    arrays.push((format!("{place}/scores"), vec![all.len()], all.iter().map(|mask| mask.score).collect()));
    let chosen = all.iter().position(|mask| mask.low == best.low).ok_or("the best mask is none of the masks")?;
    arrays.push((format!("{place}/best"), vec![1], vec![chosen as f32]));
    let logits = best.logits()?;
    arrays.push((format!("{place}/logits"), vec![logits.nrows(), logits.ncols()], logits.iter().copied().collect()));
    Ok(())
}

fn read_prompts(text: &str) -> Result<Vec<Prompt>, Box<dyn Error>> {
    let listed: Vec<serde_json::Value> = serde_json::from_str(text)?;
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().map(|values| values.iter().filter_map(serde_json::Value::as_f64).collect()).unwrap_or_default()
    };
    let prompt = |value: &serde_json::Value| {
        let points = value["points"].as_array().map(Vec::as_slice).unwrap_or_default();
        let point = |value: &serde_json::Value| match numbers(value).as_slice() {
            &[x, y, label] => Ok(Point { x, y, inside: label > 0.0 }),
            other => Err(format!("a point is [x, y, label], not {other:?}")),
        };
        Ok(Prompt {
            points: points.iter().map(point).collect::<Result<_, String>>()?,
            rectangle: numbers(&value["box"]).try_into().ok(),
        })
    };
    listed.iter().map(prompt).collect()
}

/// The most memory that this process has held, in megabytes; 0 where the system does not tell.
fn largest_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 1024
}
