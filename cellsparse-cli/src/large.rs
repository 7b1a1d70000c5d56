//! Images that are segmented part by part: because they do not fit into the memory, or because a part of them is wanted.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use cellsparse_core::formats::geojson::GeoJsonOptions;
use cellsparse_core::large::{Area, LARGE, LargeOptions, LargeProgress, LargeSink, LargeSummary, Phase, sink_for};
use cellsparse_core::model::PredictOptions;
use cellsparse_core::raster::regions::{Level, RegionReader};
use cellsparse_core::raster::{ReadLimits, is_zarr_folder, open_regions};
use cellsparse_core::{Budget, Error, Flow, Model, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Format;
use crate::note;
use crate::planes::Part;
use crate::predict::{Outputs, Segmented, make_folder};
use crate::progress::clock;

/// What is segmented of images that are read part by part.
#[derive(Debug, Default, Args)]
pub struct LargeArgs {
    /// Keep the objects in this part of the images alone: left, top, width and height in pixels of the largest level, or a GeoJSON
    /// file of polygons as QuPath exports it
    #[arg(long, value_name = "FILE|X,Y,W,H")]
    pub region: Option<String>,
    /// Resolution of pyramids: a level, 0 for the largest, or micrometres per pixel, like 0.5um [default: 0]
    #[arg(long, value_parser = Level::from_str, value_name = "N|UMum")]
    pub level: Option<Level>,
    /// Go on with images whose segmentation by parts was interrupted
    #[arg(long)]
    pub resume: bool,
}

/// Bytes of decoded strips and tiles that are kept.
pub const KEPT_BYTES: usize = 128 << 20;

/// Whether a file is of a kind of which parts can be read.
pub fn may_be_large(file: &Path) -> bool {
    let extension = file.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    matches!(extension.as_deref(), Some("tif" | "tiff" | "svs" | "btf")) || is_zarr_folder(file)
}

/// Where labels and objects go.
type Sinks<'r> = Vec<Box<dyn LargeSink + 'r>>;

/// What large images are segmented with.
pub struct Large<'a> {
    args: &'a LargeArgs,
    area: Option<Area>,
    model: &'a Model,
    options: &'a PredictOptions,
    outputs: &'a Outputs,
    /// Folders of finished parts.
    folders: Vec<PathBuf>,
}

impl<'a> Large<'a> {
    /// Reads what is wanted.
    pub fn new(
        args: &'a LargeArgs,
        model: &'a Model,
        options: &'a PredictOptions,
        outputs: &'a Outputs,
    ) -> Result<Self> {
        let area = match &args.region {
            Some(text) if Path::new(text).exists() => Some(Area::read(text)?),
            Some(text) => Some(text.parse()?),
            None => None,
        };
        Ok(Self { args, area, model, options, outputs, folders: Vec::new() })
    }

    /// The image for reading by parts, when that is the way to go; with what to say of it. A file that cannot be opened so is left
    /// to the other way, which says why.
    pub fn opened(&self, part: &Part) -> Result<Option<(Box<dyn RegionReader>, String)>> {
        let asked = self.args.region.is_some() || self.args.level.is_some() || self.args.resume;
        if asked {
            let reader = open_regions(&part.file, &part.read, KEPT_BYTES)?;
            return Ok(Some((reader, "by parts, as was asked for".into())));
        }
        if !may_be_large(&part.file) {
            return Ok(None);
        }
        let Ok(reader) = open_regions(&part.file, &part.read, KEPT_BYTES) else { return Ok(None) };
        Ok(self.why_by_parts(part, reader.as_ref()).map(|why| (reader, why)))
    }

    /// Why an image is read by parts; nothing for one that is read whole.
    fn why_by_parts(&self, part: &Part, reader: &dyn RegionReader) -> Option<String> {
        let extent = reader.levels()[0];
        let pixels = extent.height.saturating_mul(extent.width);
        let takes = self.model.bytes_in_memory([extent.height, extent.width, reader.channels()]);
        let allowed = self.options.memory.unwrap_or_else(Budget::of_free_memory);
        let limits = ReadLimits::default();
        let samples = pixels.saturating_mul(reader.channels()).saturating_mul(2);
        let length = fs::metadata(&part.file).map_or(0, |file| file.len());
        if takes > allowed.left() || samples > limits.decoded_bytes || length > limits.file_bytes {
            Some(format!("by parts, since all of it would take more than {allowed} of memory"))
        } else if reader.levels().len() > 1 && pixels > LARGE {
            Some("by parts, as a pyramid".into())
        } else {
            None
        }
    }

    /// Segments an image by parts and writes what was asked for.
    pub fn segment(&mut self, part: &Part, reader: &dyn RegionReader, why: &str) -> Result<Segmented> {
        let level = self.args.level.map_or(Ok(0), |level| level.of(reader))?;
        let folder = self.outputs.folder.join(format!("{}.parts", part.name));
        let options = LargeOptions {
            predict: self.options.clone(),
            level,
            area: self.area.clone(),
            folder: Some(folder.clone()),
            resume: self.args.resume,
            image: identity(part),
            ..LargeOptions::default()
        };
        let extent = reader.levels().get(level).copied().unwrap_or(reader.levels()[0]);
        let title = part.title();
        let at = if reader.levels().len() > 1 {
            format!(" (level {level} of {})", reader.levels().len())
        } else {
            String::new()
        };
        note(&format!(
            "{title}: {} x {} pixels{at} are segmented {why}; --resume goes on after an interruption",
            extent.height, extent.width
        ));
        make_folder(&self.outputs.folder)?;
        let begin = Instant::now();
        let (mut sinks, files) = self.sinks(part, reader, level)?;
        let mut list: Vec<&mut dyn LargeSink> =
            sinks.iter_mut().map(|sink| &mut **sink as &mut dyn LargeSink).collect();
        let mut meter = Meter::default();
        self.folders.push(folder);
        let found = self.model.predict_large(reader, &options, &mut list, &mut |event| meter.show(event));
        meter.finish();
        let LargeSummary { objects, notes, was_finished, .. } = found?;
        if was_finished {
            note(&format!("{title}: it was segmented before the interruption"));
        }
        notes.iter().for_each(|line| note(&format!("{title}: {line}")));
        Ok(Segmented { objects, seconds: begin.elapsed().as_secs_f64(), files, notes })
    }

    /// The files that are written, and their paths.
    fn sinks<'r>(&self, part: &Part, reader: &'r dyn RegionReader, level: usize) -> Result<(Sinks<'r>, Vec<PathBuf>)> {
        let outlines = GeoJsonOptions {
            outline: self.outputs.outline,
            simplify: self.outputs.simplify.map(f64::from),
            ..GeoJsonOptions::default()
        };
        let (mut sinks, mut files, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for format in &self.outputs.formats {
            let ending = match format {
                Format::Labels => "tif",
                Format::Ometiff => "ome.tif",
                Format::Omezarr => "ome.zarr",
                Format::Geojson => "geojson",
                Format::Csv => "csv",
                Format::Rois => {
                    left_out.push("rois");
                    continue;
                }
                Format::Overlay => {
                    left_out.push("overlay");
                    continue;
                }
            };
            let path = self.outputs.folder.join(format!("{}.{ending}", part.name));
            sinks.push(sink_for(&path, reader, level, &outlines)?);
            files.push(path);
        }
        let names = left_out.join(" and ");
        if sinks.is_empty() {
            return Err(Error::file(
                &part.file,
                format!(
                    "{names} cannot be written of an image that is segmented by parts; ask for labels, ometiff, omezarr, geojson or csv"
                ),
            ));
        }
        if !left_out.is_empty() {
            note(&format!("{}: {names} is not written of images that are segmented by parts", part.title()));
        }
        Ok((sinks, files))
    }

    /// Removes the folders of finished parts, when all images are done.
    pub fn finish(self) {
        for folder in self.folders {
            // What somebody else put there keeps the folder.
            let _ = fs::remove_file(folder.join("run.json"));
            let _ = fs::remove_dir(folder);
        }
    }
}

/// What tells an image from others: its path, length and time.
fn identity(part: &Part) -> String {
    let path = part.file.canonicalize().unwrap_or_else(|_| part.file.clone());
    let (length, time) = fs::metadata(&part.file).map_or((0, None), |file| (file.len(), file.modified().ok()));
    let time = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{} {length} {} {:?} {:?}", path.display(), time.as_millis(), part.place, part.read.channels)
}

/// Shows how far a run is: a bar on a terminal, otherwise a line for each tenth and no more than one a second.
#[derive(Default)]
struct Meter {
    bar: Option<ProgressBar>,
    last: Option<(Phase, usize, Duration)>,
}

impl Meter {
    fn show(&mut self, event: &LargeProgress) -> Flow {
        let left = clock(event.remaining);
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
                match ProgressStyle::with_template("{bar:32.cyan/blue} {pos}/{len}  {msg}") {
                    Ok(style) => bar.with_style(style.progress_chars("━╸─")),
                    Err(_) => bar,
                }
            });
            bar.set_length(event.total as u64);
            bar.set_position(event.done as u64);
            bar.set_message(format!("{}  {left} left", event.phase));
            return Flow::Continue;
        }
        if self.is_due(event) {
            note(&format!(
                "{} {}/{}  elapsed {}  left {left}",
                event.phase,
                event.done,
                event.total,
                clock(event.elapsed)
            ));
        }
        Flow::Continue
    }

    fn is_due(&mut self, event: &LargeProgress) -> bool {
        let tenth = 10 * event.done / event.total.max(1);
        let due = match self.last {
            None => true,
            Some((phase, last, time)) => {
                let rested = event.elapsed.saturating_sub(time) >= Duration::from_secs(1);
                rested && (phase != event.phase || tenth > last)
            }
        };
        if due {
            self.last = Some((event.phase, tenth, event.elapsed));
        }
        due
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
