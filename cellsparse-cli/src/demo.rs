//! `cellsparse demo`: from nothing to scored segmentations in one command.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cellsparse_core::annotations::Dataset;
use cellsparse_core::formats::geojson::OutlineRule;
use cellsparse_core::formats::overlay;
use cellsparse_core::metrics::{Criterion, matching};
use cellsparse_core::model::{Architecture, Model, PredictOptions, Segmentation, TrainOptions};
use cellsparse_core::raster::{Image, write_gray_png8, write_labels, write_rgb_png, write_wire_labels};
use cellsparse_core::{LabelImage, Result};
use ndarray::Axis;
use serde_json::{Value, json};

use crate::args::{DemoArgs, Format};
use crate::demo_data::{DemoData, Unseen};
use crate::pictures::{self, Picture};
use crate::predict::{self, Outputs, make_folder};
use crate::report::{Figure, Report, ResultFigure};
use crate::scores::{DEMO_THRESHOLD, Scores};
use crate::{input, note, print_json, print_out, train};

/// Side of the training patches on drawn fields, whose cells are about 20 pixels wide: a step takes less than half the
/// time of one with the default side.
const DRAWN_PATCH: usize = 128;

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
    let figures = write_annotated(out, &data)?;
    if data.source.is_none() {
        write_fields(out, &data)?;
    }
    note(&format!(
        "{} annotated image(s) with {} cells, {:.1} % of the pixels labelled; {} image(s) to segment",
        data.annotated.len(),
        data.cells(),
        100.0 * data.labelled(),
        data.unseen.len()
    ));

    let images = data.annotated.iter().map(|one| one.image.clone()).collect();
    let labels = data.annotated.iter().map(|one| one.labels.clone()).collect();
    let dataset = Dataset::new(images, labels)?;
    if data.source.is_some() {
        input::advise(&dataset);
    }
    let n_channels = data.annotated.first().map_or(1, |one| one.image.channels());
    let model_path = out.join("model.safetensors");
    let mut options =
        TrainOptions { steps: Some(args.steps), seed: args.seed, device: args.device, ..TrainOptions::default() };
    if data.source.is_none() {
        options.patch_size = Some(DRAWN_PATCH);
    }
    let algorithm = train::algorithm(args.algorithm, &dataset, &mut options)?;
    let mut model = Model::new(Architecture::of(algorithm, n_channels), args.seed)?;
    let (summary, history) = train::train(&mut model, &dataset, None, &options)?;
    model.save(&model_path)?;

    let found = segment(args, &model, &data)?;
    let scores = score(&data.unseen, &found)?;
    let report = Report {
        algorithm,
        data: &data,
        summary: &summary,
        history: &history,
        annotated: figures,
        results: found.iter().map(|one| one.figure.clone()).collect(),
        scores: scores.as_ref(),
        total_seconds: start.elapsed().as_secs_f64(),
        seed: args.seed,
        model_facts: serde_json::to_value(model.info()).unwrap_or(Value::Null),
    };
    let report_path = out.join("report.html");
    report.write(&report_path)?;

    if args.json {
        let mut facts = train::facts(&model_path, algorithm, &summary);
        facts.insert("predictions".to_owned(), found.into_iter().map(|one| one.facts).collect());
        facts.insert("scores".to_owned(), scores.as_ref().map_or(Ok(Value::Null), Scores::json)?);
        facts.insert("out".to_owned(), json!(out.display().to_string()));
        facts.insert("report".to_owned(), json!(report_path.display().to_string()));
        print_json(&Value::Object(facts));
        return Ok(());
    }
    print_out(&format!("\ntrained: {}", train::sentence(&summary)));
    match &scores {
        Some(scores) => {
            print_out(&format!("\nobjects that overlap the truth by at least half (IoU 0.5)\n{}", scores.table()))
        }
        None => print_out("\nno true labels (truth/ or masks/) were given, so there are no scores; look at the report"),
    }
    print_out(&format!(
        "\nreport    {}\nmodel     {}\nlabels    {}\npictures  {}",
        report_path.display(),
        model_path.display(),
        out.join("labels").display(),
        out.join("overlays").display()
    ));
    Ok(())
}

/// One segmented image.
struct Found {
    name: String,
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
        note(&format!("{}: {} objects in {seconds:.2} s", one.name, segmentation.objects.len()));
        found.push(Found { name: one.name.clone(), labels: segmentation.labels, figure, facts });
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

/// Scores of the images whose truth is known.
fn score(unseen: &[Unseen], found: &[Found]) -> Result<Option<Scores>> {
    let known = || unseen.iter().zip(found).filter_map(|(one, found)| one.truth.as_ref().map(|truth| (truth, found)));
    let names: Vec<String> = known().map(|(_, found)| found.name.clone()).collect();
    let pairs: Vec<(&LabelImage, &LabelImage)> = known().map(|(truth, found)| (truth, &found.labels)).collect();
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
