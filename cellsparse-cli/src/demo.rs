//! `cellsparse demo`: from nothing to scored segmentations in one command.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cellsparse_core::annotations::Dataset;
use cellsparse_core::error::counted;
use cellsparse_core::formats::geojson::OutlineRule;
use cellsparse_core::formats::overlay;
use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::model::{
    Algorithm, Architecture, Model, PredictOptions, Segmentation, TrainOptions, TrainingSummary,
};
use cellsparse_core::raster::{Image, write_gray_png8, write_labels, write_rgb_png, write_wire_labels};
use cellsparse_core::{ControlFlow, LabelImage, Result};
use ndarray::Axis;
use serde_json::{Map, Value, json};

use crate::args::{AlgorithmChoice, DemoArgs, Format};
use crate::demo_data::{DemoData, Unseen};
use crate::demo_kinds::{KINDS, STEPS};
use crate::pictures::{self, Picture};
use crate::predict::{self, Outputs, make_folder};
use crate::progress::Point;
use crate::report::{Answer, Figure, KindFigure, Report, ResultFigure};
use crate::scores::{DEMO_THRESHOLD, Scores};
use crate::{interrupt, note, print_json, print_out, train, training_data};

/// Side of the training patches on drawn fields, whose cells are about 20 pixels wide: a step takes less than half the
/// time of one with the default side.
const DRAWN_PATCH: usize = 128;

/// Steps of the short trainings that show what waiting is worth.
const FIRST_ANSWERS: [usize; 2] = [10, 30];

/// Draws or reads the data, trains, segments, scores, reports.
pub fn run(args: &DemoArgs) -> Result<()> {
    let start = Instant::now();
    let data = match &args.data {
        Some(folder) => DemoData::read(folder)?,
        None => DemoData::draw(args.seed)?,
    };
    let out = &args.out;
    for folder in ["labels", "overlays"] {
        make_folder(&out.join(folder))?;
    }
    let shown = Shown::of(args, &data, args.algorithm, "model", args.steps, true)?;
    let mut kinds = Vec::new();
    if data.source.is_none() {
        for kind in &KINDS {
            note(&format!("{}: one half of a field is annotated, the other one is segmented", kind.title));
            let data = kind.draw(args.seed)?;
            let algorithm = match args.algorithm {
                AlgorithmChoice::Auto => AlgorithmChoice::Named(kind.algorithm),
                named => named,
            };
            let shown =
                Shown::of(args, &data, algorithm, &format!("model_{}", kind.name), args.steps.min(STEPS), false)?;
            kinds.push((kind, data, shown));
        }
    }
    let report = Report {
        algorithm: shown.algorithm,
        data: &data,
        summary: &shown.summary,
        history: &shown.history,
        answers: &shown.answers,
        annotated: &shown.annotated,
        results: shown.results(),
        scores: shown.scores.as_ref(),
        kinds: kinds.iter().map(|(kind, _, shown)| shown.figure(kind.title)).collect(),
        total_seconds: start.elapsed().as_secs_f64(),
        seed: args.seed,
        model_facts: serde_json::to_value(shown.model.info()).unwrap_or(Value::Null),
    };
    let report_path = out.join("report.html");
    report.write(&report_path)?;

    if args.json {
        let mut facts = shown.facts()?;
        facts.insert("out".to_owned(), json!(out.display().to_string()));
        facts.insert("report".to_owned(), json!(report_path.display().to_string()));
        let others = kinds.iter().map(|(kind, _, shown)| {
            let mut facts = shown.facts()?;
            facts.insert("kind".to_owned(), json!(kind.name));
            Ok(Value::Object(facts))
        });
        facts.insert("kinds".to_owned(), Value::Array(others.collect::<Result<_>>()?));
        print_json(&Value::Object(facts));
        return Ok(());
    }
    print_out(&format!("\ntrained: {}", train::sentence(&shown.summary)));
    match &shown.scores {
        Some(scores) => {
            print_out(&format!("\nobjects that overlap the truth by at least half (IoU 0.5)\n{}", scores.table()))
        }
        None => print_out("\nno true labels (truth/ or masks/) were given, so there are no scores; look at the report"),
    }
    if !kinds.is_empty() {
        print_out("\nother cells");
    }
    for (kind, _, shown) in &kinds {
        let score = shown.scores.as_ref().map_or(f64::NAN, |scores| scores.mean.accuracy);
        let (algorithm, summary) = (shown.algorithm, &shown.summary);
        print_out(&format!("{:<15} AP {score:.3}  {algorithm}, {}", kind.title, counted(summary.steps, "step")));
    }
    print_out(&format!(
        "\nreport    {}\nmodel     {}\nlabels    {}\npictures  {}",
        report_path.display(),
        shown.model_path.display(),
        out.join("labels").display(),
        out.join("overlays").display()
    ));
    Ok(())
}

/// What was trained and found on some data.
struct Shown {
    algorithm: Algorithm,
    model: Model,
    model_path: PathBuf,
    summary: TrainingSummary,
    history: Vec<Point>,
    /// Scores after fewer steps.
    answers: Vec<Answer>,
    annotated: Vec<Figure>,
    found: Vec<Found>,
    scores: Option<Scores>,
}

impl Shown {
    /// Trains on the annotated images and segments the others; everything is written, the model as `NAME.safetensors`. With
    /// `patient`, what was drawn is told, and shorter trainings are scored first.
    fn of(
        args: &DemoArgs,
        data: &DemoData,
        choice: AlgorithmChoice,
        name: &str,
        steps: usize,
        patient: bool,
    ) -> Result<Self> {
        let annotated = write_annotated(&args.out, data)?;
        if data.source.is_none() {
            write_fields(&args.out, data)?;
        }
        note(&format!(
            "{} with {}, {:.1} % of the pixels labelled; {} to segment",
            counted(data.annotated.len(), "annotated image"),
            counted(data.cells(), "cell"),
            100.0 * data.labelled(),
            counted(data.unseen.len(), "image")
        ));
        let images = data.annotated.iter().map(|one| one.image.clone()).collect();
        let labels = data.annotated.iter().map(|one| one.labels.clone()).collect();
        let dataset = Dataset::new(images, labels)?;
        if data.source.is_some() {
            training_data::advise(&dataset);
        }
        let n_channels = data.annotated.first().map_or(1, |one| one.image.channels());
        let mut options =
            TrainOptions { steps: Some(steps), seed: args.seed, device: args.device, ..TrainOptions::default() };
        if data.source.is_none() {
            options.patch_size = Some(DRAWN_PATCH);
        }
        let algorithm = train::algorithm(choice, &dataset, &mut options)?;
        let mut answers = Vec::new();
        for steps in FIRST_ANSWERS.into_iter().filter(|fewer| patient && *fewer < steps) {
            let options = TrainOptions { steps: Some(steps), ..options.clone() };
            answers.extend(Answer::after(&options, algorithm, n_channels, &dataset, data)?);
        }
        let mut model = Model::new(Architecture::of(algorithm, n_channels), args.seed)?;
        let (summary, history) = train::train(&mut model, &dataset, None, &options, None)?;
        let model_path = args.out.join(format!("{name}.safetensors"));
        model.save(&model_path)?;
        let found = segment(args, &model, data)?;
        let scores = score(&data.unseen, found.iter().map(|one| &one.labels))?;
        if let (Some(scores), true) = (&scores, patient) {
            let [seconds, accuracy] = [summary.seconds, scores.mean.accuracy];
            answers.push(Answer { steps: summary.steps, seconds, accuracy }.told());
        }
        Ok(Self { algorithm, model, model_path, summary, history, answers, annotated, found, scores })
    }

    fn results(&self) -> Vec<ResultFigure> {
        self.found.iter().map(|one| one.figure.clone()).collect()
    }

    fn figure(&self, title: &'static str) -> KindFigure {
        KindFigure {
            title,
            algorithm: self.algorithm,
            steps: self.summary.steps,
            seconds: self.summary.seconds,
            accuracy: self.scores.as_ref().map(|scores| scores.mean.accuracy),
            annotated: self.annotated.clone(),
            results: self.results(),
        }
    }

    /// What `--json` says of it.
    fn facts(&self) -> Result<Map<String, Value>> {
        let mut facts = train::facts(&self.model_path, self.algorithm, &self.summary);
        facts.insert("predictions".to_owned(), self.found.iter().map(|one| one.facts.clone()).collect());
        facts.insert("scores".to_owned(), self.scores.as_ref().map_or(Ok(Value::Null), Scores::json)?);
        let answers = self
            .answers
            .iter()
            .map(|answer| json!({ "steps": answer.steps, "seconds": answer.seconds, "accuracy": answer.accuracy }));
        facts.insert("answers".to_owned(), answers.collect());
        Ok(facts)
    }
}

impl Answer {
    /// Trains for a few steps and scores; `None` where the truth is unknown.
    fn after(
        options: &TrainOptions,
        algorithm: Algorithm,
        n_channels: usize,
        dataset: &Dataset,
        data: &DemoData,
    ) -> Result<Option<Self>> {
        if data.unseen.iter().all(|one| one.truth.is_none()) {
            return Ok(None);
        }
        let options = TrainOptions { cancel: interrupt::token(), ..options.clone() };
        let predict =
            PredictOptions { device: options.device, cancel: interrupt::token(), ..PredictOptions::default() };
        let mut model = Model::new(Architecture::of(algorithm, n_channels), options.seed)?;
        let summary = model.train(dataset, None, &options, &mut |_| ControlFlow::Continue)?;
        let found = data.unseen.iter().map(|one| Ok(model.predict(&one.image, &predict)?.labels));
        let found: Vec<LabelImage> = found.collect::<Result<_>>()?;
        let scores = score(&data.unseen, found.iter())?;
        let of = |scores: Scores| {
            Self { steps: summary.steps, seconds: summary.seconds, accuracy: scores.mean.accuracy }.told()
        };
        Ok(scores.map(of))
    }

    fn told(self) -> Self {
        note(&format!("after {} ({:.1} s): AP {:.3}", counted(self.steps, "step"), self.seconds, self.accuracy));
        self
    }
}

/// One segmented image.
struct Found {
    labels: LabelImage,
    figure: ResultFigure,
    facts: Value,
}

/// Segments the unseen images and writes labels, outlines and pictures.
fn segment(args: &DemoArgs, model: &Model, data: &DemoData) -> Result<Vec<Found>> {
    let options = PredictOptions { device: args.device, ..PredictOptions::default() };
    let outputs = Outputs {
        folder: args.out.join("labels"),
        formats: vec![Format::Labels],
        simplify: None,
        outline: OutlineRule::Exact,
    };
    let outlines = Outputs { folder: args.out.join("geojson"), formats: vec![Format::Geojson], ..outputs.clone() };
    let mut found = Vec::new();
    for one in &data.unseen {
        let start = Instant::now();
        let segmentation = model.predict(&one.image, &options)?;
        let seconds = start.elapsed().as_secs_f64();
        let mut files = outputs.write(&one.name, &one.image, None, &segmentation)?;
        files.extend(outlines.write(&one.name, &one.image, None, &segmentation)?);
        let (figure, pictures) = draw(&args.out, one, &segmentation)?;
        files.extend(pictures);
        let image = match &data.source {
            None => args.out.join("images").join(format!("{}.png", one.name)),
            Some(_) => PathBuf::from(&one.name),
        };
        let facts = predict::facts(&image, segmentation.objects.len(), seconds, &files);
        note(&format!("{}: {} in {seconds:.2} s", one.name, counted(segmentation.objects.len(), "object")));
        found.push(Found { labels: segmentation.labels, figure, facts });
    }
    Ok(found)
}

/// Writes the picture of an image with and without what was found in it.
fn draw(out: &Path, one: &Unseen, segmentation: &Segmentation) -> Result<(ResultFigure, Vec<PathBuf>)> {
    let labels = &segmentation.labels;
    let picture = Picture::new(&one.image);
    let (picture, counts) = match &one.truth {
        None => (picture.outline(labels, |_| Some(pictures::FOUND)), None),
        Some(truth) => {
            let score = matching(truth, labels, DEMO_THRESHOLD, Criterion::Iou, true)?;
            let pairs = score.matches.unwrap_or_default();
            let hits: Vec<_> = pairs.iter().filter(|pair| pair.is_true_positive).collect();
            let found: BTreeSet<i32> = hits.iter().map(|pair| pair.pred_id).collect();
            let reached: BTreeSet<i32> = hits.iter().map(|pair| pair.true_id).collect();
            let picture = picture
                .outline(truth, |id| (!reached.contains(&id)).then_some(pictures::MISSED))
                .outline(labels, |id| Some(if found.contains(&id) { pictures::RIGHT } else { pictures::WRONG }));
            (picture, Some([score.tp, score.fp, score.fn_]))
        }
    };
    let plain = format!("overlays/{}_plain.png", one.name);
    let outlined = format!("overlays/{}.png", one.name);
    write_rgb_png(out.join(&plain), Picture::new(&one.image).into_pixels().view())?;
    write_rgb_png(out.join(&outlined), picture.into_pixels().view())?;
    let files = vec![out.join(&outlined)];
    let figure = ResultFigure { name: one.name.clone(), plain, outlined, objects: segmentation.objects.len(), counts };
    Ok((figure, files))
}

/// Scores of the images whose truth is known; `found` are the labels of all images, in their order.
fn score<'a>(unseen: &[Unseen], found: impl Iterator<Item = &'a LabelImage>) -> Result<Option<Scores>> {
    let known = unseen.iter().zip(found).filter_map(|(one, found)| Some((one, one.truth.as_ref()?, found)));
    let (names, pairs): (Vec<String>, Vec<(&LabelImage, &LabelImage)>) =
        known.map(|(one, truth, found)| (one.name.clone(), (truth, found))).unzip();
    Scores::new(&names, &pairs, DEMO_THRESHOLD)
}

/// Writes pictures of the annotations.
fn write_annotated(out: &Path, data: &DemoData) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for one in &data.annotated {
        let plain = format!("overlays/{}_plain.png", one.name);
        let annotated = format!("overlays/{}_annotation.png", one.name);
        let nothing = LabelImage::zeros(one.labels.labels().dim());
        let picture = overlay(&one.image, &nothing, Some(one.labels.labels()))?;
        write_rgb_png(out.join(&plain), Picture::new(&one.image).into_pixels().view())?;
        write_rgb_png(out.join(&annotated), picture.view())?;
        let cells = one.labels.object_count();
        figures.push(Figure { name: one.name.clone(), plain, annotated, cells });
    }
    Ok(figures)
}

/// Writes the drawn fields: images, sparse labels, truth.
fn write_fields(out: &Path, data: &DemoData) -> Result<()> {
    let folder = |name: &str| {
        let path = out.join(name);
        make_folder(&path).map(|()| path)
    };
    let (images, sparse, truth) = (folder("images")?, folder("sparse")?, folder("truth")?);
    let save = |name: &str, image: &Image| match image {
        Image::U8(pixels) if pixels.dim().2 == 3 => write_rgb_png(images.join(format!("{name}.png")), pixels.view()),
        Image::U8(pixels) => write_gray_png8(images.join(format!("{name}.png")), pixels.index_axis(Axis(2), 0)),
        _ => Ok(()),
    };
    for (one, labels) in data.annotated.iter().zip(&data.annotated_truth) {
        save(&one.name, &one.image)?;
        write_wire_labels(&sparse, &one.name, one.labels.labels())?;
        write_labels(&truth, &one.name, labels)?;
    }
    for one in &data.unseen {
        save(&one.name, &one.image)?;
        if let Some(labels) = &one.truth {
            write_labels(&truth, &one.name, labels)?;
        }
    }
    Ok(())
}
