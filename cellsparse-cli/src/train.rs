//! `cellsparse train`: a model from images and sparse labels.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cellsparse_core::annotations::Dataset;
use cellsparse_core::error::counted;
use cellsparse_core::model::{
    Algorithm, Architecture, Device, Model, Normalization, Start, TrainOptions, TrainingSummary, choose_algorithm,
    shape_advice,
};
use cellsparse_core::{Error, Result};
use serde_json::{Value, json};

use crate::args::{AlgorithmChoice, TrainArgs};
use crate::progress::{Meter, Point, clock};
use crate::training_data::{self, NotUsed, Reading, TrainingData};
use crate::{interrupt, note, print_json, print_out};

/// Reads the data, trains, saves the model, reports.
pub fn run(args: &TrainArgs) -> Result<()> {
    prepare_target(&args.model)?;
    let how = Reading {
        encoding: args.label_encoding,
        foreground: args.foreground_class.clone(),
        background: args.background_class.clone(),
        read: args.read.options(),
        pixel_size: args.size.given(),
        level: args.level,
        patch: args.patch_size,
        memory: args.memory,
    };
    let mut data = training_data::read(&args.images, &args.labels, &how)?;
    let mut labels = vec![std::mem::take(&mut data.labels)];
    let mut validation = match (&args.val_images, &args.val_labels) {
        (Some(images), Some(files)) => {
            let mut more = training_data::read(images, files, &how)?;
            data.unused.append(&mut more.unused);
            data.notes.append(&mut more.notes);
            labels.push(more.labels.take());
            Some(more)
        }
        _ => None,
    };
    let advice = training_data::advise(&data.dataset);
    let normalized = data.has_parts() || validation.as_ref().is_some_and(TrainingData::has_parts);
    if normalized {
        let how = normalization(args)?;
        data.scale(how)?;
        validation.as_mut().map_or(Ok(()), |set| set.scale(how))?;
    }
    let TrainingData { dataset, unused, notes, .. } = data;
    let validation = validation.map(|set| set.dataset);
    let mut options = TrainOptions {
        steps: args.steps,
        batch_size: args.batch_size,
        patch_size: args.patch_size,
        learning_rate: args.lr,
        preset: args.preset,
        time_budget: args.time_budget.map(Duration::from_secs_f32),
        start: named_start(args).unwrap_or_default(),
        seed: args.seed,
        resume: args.resume,
        rescale: !args.size.no_rescale,
        normalized,
        device: args.device,
        precision: args.precision,
        threads: args.threads,
        memory: args.memory,
        checkpoint: Some(args.model.clone()),
        ..TrainOptions::default()
    };
    let mut model = starting_model(args, &dataset, &mut options)?;
    let replaced = Some(args.model.as_path()).filter(|path| path.exists() && !goes_on(args));
    let (summary, _) = train(&mut model, &dataset, validation.as_ref(), &options, replaced)?;
    model.save(&args.model)?;
    if args.json {
        let mut facts = facts(&args.model, model.algorithm(), &summary);
        let notes: Vec<&String> = notes.iter().chain(&summary.notes).collect();
        facts.insert("notes".into(), json!(notes));
        facts.insert("advice".into(), json!(advice));
        facts.insert("labels".into(), Value::Array(labels));
        facts.insert("not_used".into(), unused.iter().map(NotUsed::json).collect());
        print_json(&Value::Object(facts));
    } else {
        print_out(&format!("{} ({})", args.model.display(), sentence(&summary)));
    }
    training_data::list_unused(&unused);
    Ok(())
}

/// Trains with progress on standard error. A file that the model `replaces` is named when the first step is done, since nothing is
/// written before.
pub fn train(
    model: &mut Model,
    dataset: &Dataset,
    validation: Option<&Dataset>,
    options: &TrainOptions,
    mut replaces: Option<&Path>,
) -> Result<(TrainingSummary, Vec<Point>)> {
    let mut meter = Meter::new(options.steps.unwrap_or(0));
    let options = &TrainOptions { cancel: interrupt::token(), ..options.clone() };
    let advice = shape_advice(model.algorithm(), dataset);
    advice.iter().for_each(|words| note(&format!("advice: {words}")));
    let result = model.train(dataset, validation, options, &mut |event| {
        if let Some(path) = replaces.take() {
            note(&format!("replacing {} (--resume would go on with it)", path.display()));
        }
        meter.observe(event)
    });
    let history = meter.finish();
    let summary = result?;
    if options.device == Device::Auto {
        note(&format!("device: {} (chosen by auto)", summary.device));
    }
    summary.notes.iter().filter(|words| Some(*words) != advice.as_ref()).for_each(|words| note(words));
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
        "precision": summary.precision,
        "stopped": summary.stopped,
        "begun": summary.begun,
        "kept": summary.kept,
        "notes": summary.notes,
    });
    match value {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}

/// A training in a few words.
pub fn sentence(summary: &TrainingSummary) -> String {
    format!(
        "{} from {} in {}, {:.2} s a step, loss {:.4}, on {} in {}",
        counted(summary.steps, "step"),
        match summary.begun {
            "random" => "random weights",
            "starter" => "the starting weights",
            _ => "the model",
        },
        clock(Duration::from_secs_f64(summary.seconds.max(0.0))),
        summary.seconds_per_step,
        summary.loss,
        summary.device,
        summary.precision
    )
}

/// How the model that is trained scales intensities: as it does already, or as the preset has it.
fn normalization(args: &TrainArgs) -> Result<Normalization> {
    let file = args.init.as_ref().filter(|_| named_start(args).is_none());
    let known = match if args.resume { Some(&args.model) } else { file } {
        Some(path) => Model::load(path)?.normalization(),
        None => Normalization::default(),
    };
    Ok(known.trained_by(args.preset))
}

/// The starting weights that are named, if it is not a file.
fn named_start(args: &TrainArgs) -> Option<Start> {
    args.init.as_ref()?.to_str()?.parse().ok()
}

/// The algorithm to train. One that is chosen by the drawn cells is told with the reason, and what the choice took is taken
/// from the time budget.
pub fn algorithm(choice: AlgorithmChoice, dataset: &Dataset, options: &mut TrainOptions) -> Result<Algorithm> {
    if let AlgorithmChoice::Named(algorithm) = choice {
        return Ok(algorithm);
    }
    let begun = Instant::now();
    note("trying every algorithm on the drawn cells");
    let tried = TrainOptions { cancel: interrupt::token(), ..options.clone() };
    let choice = choose_algorithm(dataset, &tried)?;
    note(&choice.reason);
    let least = Duration::from_secs(1);
    options.time_budget = options.time_budget.map(|budget| budget.saturating_sub(begun.elapsed()).max(least));
    Ok(choice.algorithm)
}

/// Whether the training begins with the model that it writes.
fn goes_on(args: &TrainArgs) -> bool {
    args.resume || args.init.as_ref() == Some(&args.model)
}

fn starting_model(args: &TrainArgs, dataset: &Dataset, options: &mut TrainOptions) -> Result<Model> {
    let file = args.init.as_ref().filter(|_| named_start(args).is_none());
    let source = if args.resume { Some(&args.model) } else { file };
    if let Some(path) = source {
        let model = Model::load(path)?;
        if let AlgorithmChoice::Named(algorithm) = args.algorithm
            && model.algorithm() != algorithm
        {
            let reason = format!("it is a model of {}; --algorithm says {algorithm}", model.algorithm());
            return Err(Error::file(path, reason));
        }
        return Ok(model);
    }
    let n_channels = args.channels.unwrap_or_else(|| dataset.channels());
    let algorithm = algorithm(args.algorithm, dataset, options)?;
    Model::new(Architecture::of(algorithm, n_channels), args.seed)
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
