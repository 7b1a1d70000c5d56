//! `cellsparse predict`: label images, outlines and pictures of new images.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cellsparse_core::formats::geojson::{GeoJsonOptions, ObjectInfo, OutlineRule, to_geojson, write_geojson};
use cellsparse_core::formats::overlay;
use cellsparse_core::model::{Model, PredictOptions, Segmentation};
use cellsparse_core::raster::{write_labels, write_rgb_png};
use cellsparse_core::{Error, Image, Result};
use serde_json::{Value, json};

use crate::args::{Format, OutlineChoice, PredictArgs};
use crate::{input, note, print_json, print_out};

/// Segments every image and writes what was asked for.
pub fn run(args: &PredictArgs) -> Result<()> {
    let model = Model::load(&args.model)?;
    let files = input::images(&args.images)?;
    let (read, mut remarks) = (args.read.options(), input::Remarks::default());
    input::refuse_twins(&files)?;
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
        device: args.device,
        threads: args.threads,
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
    for file in &files {
        input::refuse_overwrite(&args.out, &input::stem(file), &files)?;
    }
    let mut results = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let image = remarks.read_image(file, &read)?;
        let start = Instant::now();
        let segmentation = model.predict(&image, &options).map_err(|error| input::at(file, error))?;
        let seconds = start.elapsed().as_secs_f64();
        let written = outputs.write(&input::stem(file), &image, &segmentation)?;
        note(&format!(
            "{}/{}  {}  {} objects  {seconds:.2} s",
            index + 1,
            files.len(),
            file.display(),
            segmentation.objects.len()
        ));
        results.push((facts(file, segmentation.objects.len(), seconds, &written), written));
    }
    if args.json {
        print_json(&Value::Array(results.into_iter().map(|(facts, _)| facts).collect()));
    } else {
        for path in results.iter().flat_map(|(_, written)| written) {
            print_out(&path.display().to_string());
        }
    }
    Ok(())
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
    /// Writes the results of one image and returns the files.
    pub fn write(&self, name: &str, image: &Image, segmentation: &Segmentation) -> Result<Vec<PathBuf>> {
        make_folder(&self.folder)?;
        let mut written = Vec::new();
        let wanted = |format| self.formats.contains(&format);
        if wanted(Format::Labels) {
            written.push(write_labels(&self.folder, name, &segmentation.labels)?);
        }
        if wanted(Format::Geojson) {
            let path = self.folder.join(format!("{name}.geojson"));
            write_geojson(&path, &to_geojson(&segmentation.labels, &self.geojson_options(segmentation))?)?;
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

    fn geojson_options(&self, segmentation: &Segmentation) -> GeoJsonOptions {
        let objects = segmentation.objects.iter().map(|object| {
            let class = object.class.map(|class| class.to_string());
            (object.id, ObjectInfo { probability: Some(object.probability), class })
        });
        GeoJsonOptions { outline: self.outline, simplify: self.simplify.map(f64::from), objects: objects.collect() }
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
