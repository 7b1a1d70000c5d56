//! `cellsparse train`: a model from images and sparse labels.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cellsparse_core::annotations::Dataset;
use cellsparse_core::model::{Algorithm, Architecture, Device, Model, TrainOptions, TrainingSummary};
use cellsparse_core::{Error, Result};
use serde_json::{Value, json};

use crate::args::TrainArgs;
use crate::progress::{Meter, Point, clock};
use crate::{input, interrupt, note, print_json, print_out};

/// Reads the data, trains, saves the model, reports.
pub fn run(args: &TrainArgs) -> Result<()> {
    prepare_target(&args.model)?;
    let read = args.read.options();
    let dataset = input::dataset(&args.images, &args.labels, args.label_encoding, &read)?;
    let validation = match (&args.val_images, &args.val_labels) {
        (Some(images), Some(labels)) => Some(input::dataset(images, labels, args.label_encoding, &read)?),
        _ => None,
    };
    input::advise(&dataset);
    let mut model = starting_model(args, &dataset)?;
    let options = TrainOptions {
        steps: args.steps,
        batch_size: args.batch_size,
        patch_size: args.patch_size,
        learning_rate: args.lr,
        preset: args.preset,
        time_budget: args.time_budget.map(Duration::from_secs_f32),
        seed: args.seed,
        resume: args.resume,
        device: args.device,
        threads: args.threads,
        checkpoint: Some(args.model.clone()),
        ..TrainOptions::default()
    };
    let (summary, _) = train(&mut model, &dataset, validation.as_ref(), &options)?;
    model.save(&args.model)?;
    if args.json {
        print_json(&Value::Object(facts(&args.model, args.algorithm, &summary)));
    } else {
        print_out(&format!("{} ({})", args.model.display(), sentence(&summary)));
    }
    Ok(())
}

/// Trains with progress on standard error.
pub fn train(
    model: &mut Model,
    dataset: &Dataset,
    validation: Option<&Dataset>,
    options: &TrainOptions,
) -> Result<(TrainingSummary, Vec<Point>)> {
    let mut meter = Meter::new(options.steps.unwrap_or(0));
    let options = &TrainOptions { cancel: interrupt::token(), ..options.clone() };
    let result = model.train(dataset, validation, options, &mut |event| meter.observe(event));
    let history = meter.finish();
    let summary = result?;
    if options.device == Device::Auto {
        note(&format!("device: {} (chosen by auto)", summary.device));
    }
    Ok((summary, history))
}

/// What `--json` says about a training.
pub fn facts(path: &Path, algorithm: Algorithm, summary: &TrainingSummary) -> serde_json::Map<String, Value> {
    let value = json!({
        "model": path.display().to_string(),
        "algorithm": algorithm.to_string(),
        "steps": summary.steps,
        "seconds": summary.seconds,
        "seconds_per_step": summary.seconds_per_step,
        "loss": summary.loss,
        "device": summary.device,
        "stopped": summary.stopped,
    });
    match value {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}

/// A training in a few words.
pub fn sentence(summary: &TrainingSummary) -> String {
    format!(
        "{} steps in {}, {:.2} s a step, loss {:.4}, on {}",
        summary.steps,
        clock(Duration::from_secs_f64(summary.seconds.max(0.0))),
        summary.seconds_per_step,
        summary.loss,
        summary.device
    )
}

fn starting_model(args: &TrainArgs, dataset: &Dataset) -> Result<Model> {
    let source = if args.resume { Some(&args.model) } else { args.init.as_ref() };
    if let Some(path) = source {
        let model = Model::load(path)?;
        if model.algorithm() != args.algorithm {
            return Err(Error::file(
                path,
                format!("it is a model of {}; --algorithm says {}", model.algorithm(), args.algorithm),
            ));
        }
        return Ok(model);
    }
    if args.model.exists() {
        note(&format!("replacing {} (--resume would go on with it)", args.model.display()));
    }
    let n_channels = args.channels.unwrap_or_else(|| dataset.channels());
    Model::new(Architecture::of(args.algorithm, n_channels), args.seed)
}

/// Finds out before the training, not after it, that the model cannot be written.
fn prepare_target(model: &Path) -> Result<()> {
    if model.is_dir() {
        return Err(Error::file(
            model,
            "this is a folder; --model names the file to write, such as nuclei.safetensors",
        ));
    }
    match model.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))
        }
        _ => Ok(()),
    }
}
