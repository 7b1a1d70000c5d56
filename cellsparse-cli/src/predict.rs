//! `cellsparse predict`: label images, outlines and pictures of new images.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cellsparse_core::error::counted;
use cellsparse_core::formats::features::write_csv;
use cellsparse_core::formats::geojson::{GeoJsonOptions, OutlineRule, write_geojson};
use cellsparse_core::formats::label_zarr::LabelZarr;
use cellsparse_core::formats::{overlay, write_ome_tiff};
use cellsparse_core::geometry::measure::MeasureOptions;
use cellsparse_core::model::{Model, PredictOptions, Segmentation};
use cellsparse_core::raster::{ImageFile, write_labels, write_rgb_png};
use cellsparse_core::{Error, Image, Result};
use serde_json::{Value, json};

use crate::args::{Format, OutlineChoice, PredictArgs};
use crate::batch::Failures;
use crate::large::Large;
use crate::planes::{self, Part, parts};
use crate::{input, note, print_json, print_out};

/// Segments every image and writes what was asked for.
pub fn run(args: &PredictArgs) -> Result<()> {
    let model = Model::load(&args.model)?;
    let files = input::images(&args.images)?;
    input::refuse_twins(&files, &args.out)?;
    let several = if args.select.plane.is_some() || args.select.frame.is_some() {
        planes::several(files.iter().map(PathBuf::as_path))
    } else {
        [false; 2]
    };
    let parts: Vec<Part> = files.iter().flat_map(|file| parts(file, &args.select, several)).collect();
    refuse_same_names(&parts)?;
    let options = PredictOptions {
        prob_thresh: args.prob_thresh,
        nms_thresh: args.nms_thresh,
        flow_threshold: args.flow_threshold,
        cellprob_threshold: args.cellprob_threshold,
        diameter: args.diameter,
        augment: args.augment,
        postprocess: args.postprocess,
        min_area: args.min_area,
        tile: args.tile,
        pixel_size: args.size.given(),
        rescale: !args.size.no_rescale,
        device: args.device,
        precision: args.precision,
        threads: args.threads,
        memory: args.memory,
        ..PredictOptions::default()
    };
    let outputs = Outputs {
        folder: args.out.clone(),
        formats: args.format.clone(),
        simplify: args.simplify,
        outline: match args.outline {
            OutlineChoice::Exact => OutlineRule::Exact,
            OutlineChoice::Literal => OutlineRule::Literal,
        },
    };
    for part in &parts {
        input::refuse_overwrite(&args.out, &part.name, &files)?;
    }
    let mut large = Large::new(&args.large, &model, &options, &outputs)?;
    let outcome = segment_all(&model, &parts, &options, &outputs, &mut large);
    if outcome.fatal.is_none() && outcome.failures.len() == 0 {
        large.finish();
    }
    if args.json {
        print_json(&Value::Array(outcome.facts));
    } else {
        outcome.written.iter().for_each(|path| print_out(&path.display().to_string()));
    }
    match outcome.fatal {
        Some(error) => Err(error),
        None => outcome.failures.finish(parts.len(), "images"),
    }
}

/// Refuses a plane whose results would have the name of another image's.
fn refuse_same_names(parts: &[Part]) -> Result<()> {
    let mut names = BTreeSet::new();
    match parts.iter().find(|part| !names.insert(part.name.as_str())) {
        Some(part) => Err(Error::file(
            &part.file,
            format!("its results and those of another image are both named '{}'; segment them apart", part.name),
        )),
        None => Ok(()),
    }
}

/// What came of a run over several images.
struct Outcome {
    /// For `--json`, in the order of the images.
    facts: Vec<Value>,
    /// The files that were written.
    written: Vec<PathBuf>,
    failures: Failures,
    /// What ended the run, since it was no fault of an image.
    fatal: Option<Error>,
}

/// Segments every image that can be read, and tells of each on standard error.
fn segment_all(
    model: &Model,
    parts: &[Part],
    options: &PredictOptions,
    outputs: &Outputs,
    large: &mut Large<'_>,
) -> Outcome {
    let mut remarks = input::Remarks::default();
    let mut outcome = Outcome { facts: Vec::new(), written: Vec::new(), failures: Failures::default(), fatal: None };
    let mut all_objects = 0;
    let begin = Instant::now();
    for (index, part) in parts.iter().enumerate() {
        let place = format!("{}/{}  {}", index + 1, parts.len(), part.title());
        let segmented = match large.opened(part) {
            Ok(Some((reader, why))) => large.segment(part, reader.as_ref(), &why),
            Ok(None) => segment(model, part, options, outputs, &mut remarks),
            Err(error) => Err(error),
        };
        match segmented {
            Ok(Segmented { objects, seconds, files, notes }) => {
                note(&format!("{place}  {}  {seconds:.2} s", counted(objects, "object")));
                all_objects += objects;
                let mut told = facts(&part.file, objects, seconds, &files);
                told["notes"] = json!(notes);
                outcome.facts.push(placed(told, part));
                outcome.written.extend(files);
            }
            Err(error) => {
                if let Err(fatal) = outcome.failures.add(&part.file, planes::with_ranges(error)) {
                    outcome.fatal = Some(fatal);
                    break;
                }
                if parts.len() > 1 {
                    note(&format!("{place}  failed: {}", outcome.failures.last().unwrap_or_default()));
                }
                outcome.facts.extend(outcome.failures.json("image").pop().map(|told| placed(told, part)));
            }
        }
    }
    if parts.len() > 1 && outcome.fatal.is_none() {
        let done = parts.len() - outcome.failures.len();
        let seconds = begin.elapsed().as_secs_f64();
        let objects = counted(all_objects, "object");
        note(&format!("{done} of {} images segmented, {objects}, {seconds:.1} s", parts.len()));
    }
    outcome
}

/// Adds plane and time point to what `--json` says of one of several.
fn placed(mut told: Value, part: &Part) -> Value {
    for (what, number) in ["plane", "frame"].into_iter().zip(part.place) {
        if let Some(number) = number {
            told[what] = json!(number);
        }
    }
    told
}

/// What came of one image.
pub struct Segmented {
    /// Objects found.
    pub objects: usize,
    /// Time that it took.
    pub seconds: f64,
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// What is to be known of the result.
    pub notes: Vec<String>,
}

/// Segments one image and writes the results.
fn segment(
    model: &Model,
    part: &Part,
    options: &PredictOptions,
    outputs: &Outputs,
    remarks: &mut input::Remarks,
) -> Result<Segmented> {
    let ImageFile { image, pixel_size, mut notes, .. } = remarks.read_file(&part.file, &part.read)?;
    let pixel_size = options.pixel_size.or(pixel_size);
    let options = &PredictOptions { pixel_size, ..options.clone() };
    let start = Instant::now();
    let segmentation = model.predict(&image, options).map_err(|error| input::at(&part.file, error))?;
    let seconds = start.elapsed().as_secs_f64();
    segmentation.notes.iter().for_each(|line| note(&format!("{}: {line}", part.title())));
    let files = outputs.write(&part.name, &image, pixel_size, &segmentation)?;
    let objects = segmentation.objects.len();
    notes.extend(segmentation.notes);
    Ok(Segmented { objects, seconds, files, notes })
}

/// Where and how results are written.
#[derive(Clone)]
pub struct Outputs {
    /// Label images and GeoJSON go here, pictures into its subfolder `overlays`.
    pub folder: PathBuf,
    /// What is written.
    pub formats: Vec<Format>,
    /// Tolerance of GeoJSON outlines in pixels.
    pub simplify: Option<f32>,
    /// How GeoJSON outlines are traced.
    pub outline: OutlineRule,
}

impl Outputs {
    /// Writes the results of one image, whose pixels have that many micrometres (y, x) if known, and returns the files.
    pub fn write(
        &self,
        name: &str,
        image: &Image,
        pixel_size: Option<[f64; 2]>,
        segmentation: &Segmentation,
    ) -> Result<Vec<PathBuf>> {
        make_folder(&self.folder)?;
        let mut written = Vec::new();
        let wanted = |format| self.formats.contains(&format);
        if wanted(Format::Labels) {
            written.push(write_labels(&self.folder, name, &segmentation.labels)?);
        }
        if wanted(Format::Geojson) {
            let path = self.folder.join(format!("{name}.geojson"));
            let simplify = self.simplify.map(f64::from);
            // Readers refuse a file with an empty polygon.
            let options = GeoJsonOptions { outline: self.outline, simplify, never_empty: true, ..Default::default() };
            write_geojson(&path, &segmentation.geojson(&options)?)?;
            written.push(path);
        }
        if wanted(Format::Csv) {
            let path = self.folder.join(format!("{name}.csv"));
            let options = MeasureOptions { image: Some(image), pixel_size };
            write_csv(&path, &segmentation.table(&options)?)?;
            written.push(path);
        }
        if wanted(Format::Rois) {
            let path = self.folder.join(format!("{name}.zip"));
            segmentation.write_rois(&path, self.simplify.map_or(0.0, f64::from))?;
            written.push(path);
        }
        if wanted(Format::Ometiff) {
            let path = self.folder.join(format!("{name}.ome.tif"));
            write_ome_tiff(&path, name, &segmentation.labels, pixel_size)?;
            written.push(path);
        }
        if wanted(Format::Omezarr) {
            let path = self.folder.join(format!("{name}.ome.zarr"));
            let labels = &segmentation.labels;
            let mut folder = LabelZarr::create(&path, [labels.nrows(), labels.ncols()], pixel_size, name)?;
            folder.write([0, 0], labels.view())?;
            folder.finish()?;
            written.push(path);
        }
        if wanted(Format::Overlay) {
            let folder = self.folder.join("overlays");
            make_folder(&folder)?;
            let path = folder.join(format!("{name}.png"));
            write_rgb_png(&path, overlay(image, &segmentation.labels, None)?.view())?;
            written.push(path);
        }
        Ok(written)
    }
}

/// What `--json` says about one image.
pub fn facts(image: &Path, objects: usize, seconds: f64, files: &[PathBuf]) -> Value {
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    json!({ "image": image.display().to_string(), "objects": objects, "seconds": seconds, "files": files })
}

/// Creates a folder and the folders above it.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::io(path, source))
}
