//! A field of any size, made on the fly, segmented by parts: time and the largest memory of the process.
//!
//! `cargo build --release --workspace --example large`, then `target/release/examples/large --side 8000 [--algorithm stardist]
//! [--memory 1500M] [--threads 2] [--model FILE | --filters 32] [--out DIR]`, or `--fields DIR` to write the drawn fields and their cells, as `peers.py` does.
//!
//! The field repeats drawn ones of 512 pixels, of which there are 16, in an order that depends on their place; seams between
//! them cut nuclei, which does not matter here. Without a model, one is taught for a hundred small steps; `--filters` makes
//! StarDist's network slimmer, where memory and order are looked at and not the network. What a run that was ended left in DIR is taken up.

use std::path::{Path, PathBuf};
use std::time::Instant;

use cellsparse_core::annotations::SparseLabels;
use cellsparse_core::large::{GeoJsonSink, LargeOptions, LargeSink, PyramidSink};
use cellsparse_core::model::{Algorithm, Architecture};
use cellsparse_core::raster::regions::{CallbackRegions, Extent, Region};
use cellsparse_core::raster::{write_gray_png8, write_labels};
use cellsparse_core::synthetic::{AnnotationOptions, Field, FieldOptions, annotate, draw_field};
use cellsparse_core::{Dataset, Flow, Image, Model, Result, StarDistConfig, TrainOptions};
use ndarray::{Array3, Axis};

/// Side of a drawn field, and number of different ones.
const SIDE: usize = 512;
const FIELDS: u64 = 16;

struct Options {
    side: usize,
    algorithm: Algorithm,
    memory: Option<cellsparse_core::Budget>,
    threads: Option<usize>,
    model: Option<PathBuf>,
    out: PathBuf,
    fields: Option<PathBuf>,
    filters: Option<usize>,
}

fn main() -> Result<()> {
    let options = options();
    if let Some(folder) = &options.fields {
        return write_fields(folder);
    }
    let fields: Vec<Array3<u8>> = (0..FIELDS).map(|seed| Ok(grey(&drawn(seed)?.image))).collect::<Result<_>>()?;
    let read = |region: Region, _: usize| {
        let pixel = |(y, x, _): (usize, usize, usize)| {
            let (y, x) = (region.top + y, region.left + x);
            fields[(y / SIDE * 7 + x / SIDE * 3) % fields.len()][[y % SIDE, x % SIDE, 0]]
        };
        Ok(Image::U8(Array3::from_shape_fn((region.height, region.width, 1), pixel)))
    };
    let extent = Extent { height: options.side, width: options.side };
    let reader = CallbackRegions::new(vec![extent], 1, Some([0.5, 0.5]), read)?;
    let model = match &options.model {
        Some(path) => Model::load(path)?,
        None => taught(&options)?,
    };
    std::fs::create_dir_all(&options.out).map_err(|source| cellsparse_core::Error::io(&options.out, source))?;
    let mut labels = PyramidSink::new(options.out.join("large.ome.tif"), Some("large".into()));
    let mut outlines = GeoJsonSink::new(options.out.join("large.geojson"), Default::default());
    let mut sinks: [&mut dyn LargeSink; 2] = [&mut labels, &mut outlines];
    let mut large = LargeOptions::default();
    (large.predict.memory, large.predict.threads) = (options.memory, options.threads);
    (large.folder, large.resume) = (Some(options.out.join("parts")), true);
    let begin = Instant::now();
    let mut phases: Vec<(String, f64)> = Vec::new();
    let found = model.predict_large(&reader, &large, &mut sinks, &mut |event| {
        let name = event.phase.to_string();
        if phases.last().is_none_or(|(last, _)| *last != name) {
            phases.push((name, 0.0));
        }
        if let Some(last) = phases.last_mut() {
            last.1 = event.elapsed.as_secs_f64();
        }
        Flow::Continue
    })?;
    let (seconds, megapixels) = (begin.elapsed().as_secs_f64(), (options.side * options.side) as f64 / 1e6);
    println!(
        "{} {} x {}: {} objects, {seconds:.1} s, {:.3} s a megapixel, {:.2} megapixels a second, peak {} MiB",
        options.algorithm,
        options.side,
        options.side,
        found.objects,
        seconds / megapixels,
        megapixels / seconds,
        peak().map_or_else(|| "?".into(), |bytes| (bytes >> 20).to_string()),
    );
    phases.iter().for_each(|(name, end)| println!("  {name} until {end:.1} s"));
    Ok(())
}

fn drawn(seed: u64) -> Result<Field> {
    draw_field(&FieldOptions { height: SIDE, width: SIDE, ..FieldOptions::default() }, seed)
}

fn grey(image: &Image) -> Array3<u8> {
    match image {
        Image::U8(pixels) => pixels.clone(),
        other => other.to_f32().mapv(|value| value as u8),
    }
}

/// Writes the image `images/NN.png` and the label image `labels/NN.*` of every field.
fn write_fields(folder: &Path) -> Result<()> {
    let [images, labels] = ["images", "labels"].map(|name| folder.join(name));
    for folder in [&images, &labels] {
        std::fs::create_dir_all(folder).map_err(|source| cellsparse_core::Error::io(folder, source))?;
    }
    for seed in 0..FIELDS {
        let (field, stem) = (drawn(seed)?, format!("{seed:02}"));
        write_gray_png8(images.join(&stem).with_extension("png"), grey(&field.image).index_axis(Axis(2), 0))?;
        write_labels(&labels, &stem, &field.truth)?;
    }
    Ok(())
}

fn taught(options: &Options) -> Result<Model> {
    let field = draw_field(&FieldOptions::default(), 99)?;
    let labels = SparseLabels::from_signed(annotate(&field, &AnnotationOptions::default(), 99))?;
    let data = Dataset::new(vec![field.image], vec![labels])?;
    let mut model = match (options.algorithm, options.filters) {
        (Algorithm::Stardist, Some(n_filter_base)) => {
            Model::stardist(StarDistConfig { n_filter_base, ..StarDistConfig::default() }, 0)?
        }
        (algorithm, _) => Model::new(Architecture::of(algorithm, 1), 0)?,
    };
    let steps =
        TrainOptions { steps: Some(100), batch_size: Some(2), patch_size: Some(128), ..TrainOptions::default() };
    model.train(&data, None, &steps, &mut |_| Flow::Continue)?;
    Ok(model)
}

/// The largest memory that the process had, where Linux tells it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn options() -> Options {
    let mut options = Options {
        side: 2000,
        algorithm: Algorithm::Stardist,
        memory: None,
        threads: None,
        model: None,
        out: std::env::temp_dir().join("cellsparse-large"),
        fields: None,
        filters: None,
    };
    let mut words = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let wrong = |error: &dyn std::fmt::Display| -> ! { panic!("{name} {value}: {error}") };
        match name.as_str() {
            "--side" => options.side = value.parse().unwrap_or_else(|error| wrong(&error)),
            "--algorithm" => options.algorithm = value.parse().unwrap_or_else(|error| wrong(&error)),
            "--memory" => options.memory = Some(value.parse().unwrap_or_else(|error| wrong(&error))),
            "--threads" => options.threads = Some(value.parse().unwrap_or_else(|error| wrong(&error))),
            "--model" => options.model = Some(value.into()),
            "--out" => options.out = value.into(),
            "--filters" => options.filters = Some(value.parse().unwrap_or_else(|error| wrong(&error))),
            "--fields" => options.fields = Some(value.into()),
            _ => wrong(&"there are --side, --algorithm, --memory, --threads, --model, --filters, --out and --fields"),
        }
    }
    options
}
