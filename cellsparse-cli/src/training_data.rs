//! Images with their annotations for a training: what cannot be used is named, and the rest is trained on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cellsparse_core::annotations::{Dataset, LabelSource, SparseLabels, advice, choose_encoding};
use cellsparse_core::error::counted;
use cellsparse_core::formats::annotation_files::{AnnotationOptions, Matches, match_annotations, read_annotations};
use cellsparse_core::large::{DrawnOptions, DrawnPart, Place, scaled};
use cellsparse_core::model::Normalization;
use cellsparse_core::pseudo_labels::doubtful_background;
use cellsparse_core::raster::regions::Level;
use cellsparse_core::raster::{ImageFile, ReadOptions};
use cellsparse_core::{Budget, Error, Image, Reason, Result};
use serde_json::{Value, json};

use crate::args::Encoding;
use crate::batch::Failures;
use crate::input::{self, Remarks, at};
use crate::slides::Slide;
use crate::{interrupt, note, planes};

/// How annotations are to be understood.
pub struct Reading {
    /// What the values of label images mean.
    pub encoding: Encoding,
    /// The class of cells among drawn shapes.
    pub foreground: Option<String>,
    /// The class of background among drawn shapes.
    pub background: Option<String>,
    /// Which part of the files is read, where they have several planes or time points.
    pub read: ReadOptions,
    /// Height and width of all pixels in micrometres, whatever the files tell.
    pub pixel_size: Option<[f64; 2]>,
    /// Resolution of pyramids.
    pub level: Option<Level>,
    /// Side of the patches that are trained on, where it is given.
    pub patch: Option<usize>,
    /// Memory that may be taken.
    pub memory: Option<Budget>,
}

/// A data set, and what is to be told of it.
pub struct TrainingData {
    /// The images with their labels.
    pub dataset: Dataset,
    /// Files, and parts of files, that are not in it.
    pub unused: Vec<NotUsed>,
    /// How the labels were read: the path, the encoding that was taken and why.
    pub labels: Value,
    /// How images were read, a sentence each.
    pub notes: Vec<String>,
    /// The large images of which there are parts in the data set, and for every image of it which of them it is a part of.
    slides: (Vec<Slide>, Vec<Option<usize>>),
}

impl TrainingData {
    /// Whether parts of large images are in it, so that all of it has to be scaled before the training.
    pub fn has_parts(&self) -> bool {
        !self.slides.0.is_empty()
    }

    /// Scales every image by its own percentiles, and parts of a large one by those of that image.
    ///
    /// # Errors
    /// What reading the large images reports.
    pub fn scale(&mut self, how: Normalization) -> Result<()> {
        let (slides, of) = &self.slides;
        let cancel = interrupt::token();
        let measured = slides.iter().map(|slide| slide.percentiles(how, &cancel)).collect::<Result<Vec<_>>>()?;
        let of: Vec<_> = of.iter().map(|slide| slide.map(|slide| &measured[slide])).collect();
        self.dataset = scaled(&self.dataset, &of, how)?;
        Ok(())
    }
}

/// A file, or something in it, that was not used.
pub struct NotUsed {
    file: PathBuf,
    reason: String,
    /// As it is printed.
    line: String,
}

impl NotUsed {
    fn at(file: &Path, reason: &str) -> Self {
        Self { file: file.to_path_buf(), reason: reason.into(), line: format!("{}: {reason}", file.display()) }
    }

    /// What `--json` says of it.
    pub fn json(&self) -> Value {
        json!({ "file": self.file.display().to_string(), "reason": self.reason })
    }
}

/// Images and labels with their files, while they are read.
struct Pair<'a> {
    image: Image,
    size: Option<[f64; 2]>,
    files: &'a (PathBuf, PathBuf),
    /// The large image that it is a part of, and where it lies there.
    slide: Option<(usize, Place)>,
}

/// Reads images with their annotations, and says in a line how the labels were read. Of several files, those that cannot be
/// used are named and left out.
///
/// # Errors
/// When no pair of an image and its labels can be used, when it is not plain what the values of the labels mean, and for what
/// is no fault of a file.
pub fn read(images: &Path, labels: &Path, how: &Reading) -> Result<TrainingData> {
    let Matches { pairs: files, unused: alone, .. } = match_annotations(&input::images(images)?, labels)?;
    let mut remarks = Remarks::default();
    let mut bad = Bad { failures: Failures::default(), total: files.len() };
    let mut left_out = Vec::new();
    let (mut pairs, mut sources) = (Vec::new(), Vec::new());
    let several = match (how.read.plane, how.read.frame) {
        (None, None) => [false; 2],
        _ => planes::several(files.iter().flat_map(|(image, labels)| [image.as_path(), labels.as_path()])),
    };
    let mut slides = Vec::new();
    for files in &files {
        match read_files(files, how, several, &mut remarks, &mut left_out, &mut slides) {
            Ok(found) => {
                bad.total += found.len().saturating_sub(1);
                for (pair, source) in found {
                    pairs.push(pair);
                    sources.push(source);
                }
            }
            Err((file, error)) => bad.add(file, error)?,
        }
    }
    bad.refuse_all()?;
    let choice = choose_encoding(&sources, how.encoding.into()).map_err(|error| at(labels, error))?;
    if how.encoding == Encoding::Auto {
        let (encoding, reason) = (choice.encoding, &choice.reason);
        note(&format!("labels: {encoding} ({}), because {reason}", encoding.meaning()));
    }
    let told = json!({
        "path": labels.display().to_string(),
        "encoding": choice.encoding.to_string(),
        "reason": choice.reason,
    });
    let mut usable = Vec::new();
    for (pair, source) in pairs.into_iter().zip(sources) {
        let parsed = SparseLabels::from_source(source, choice.encoding);
        match parsed.and_then(|parsed| parsed.check_fits(&pair.image).map(|()| parsed)) {
            Ok(parsed) => {
                let parsed = match pair.slide {
                    Some((_, place)) => place.without_cut(parsed),
                    None => parsed,
                };
                usable.push((pair, parsed));
            }
            Err(error) => bad.add(&pair.files.1, at(&pair.files.1, error))?,
        }
    }
    keep_common_channels(&mut usable, &mut bad)?;
    bad.refuse_all()?;
    let sizes = usable.iter().map(|(pair, _)| pair.size).collect();
    let of = usable.iter().map(|(pair, _)| pair.slide.map(|(slide, ..)| slide)).collect();
    let (pixels, parsed) = usable.into_iter().map(|(pair, labels)| (pair.image, labels)).unzip();
    let dataset = Dataset::new(pixels, parsed).and_then(|data| data.with_pixel_sizes(sizes));
    let dataset = dataset.map_err(|error| at(labels, error))?;
    let mut unused: Vec<NotUsed> = bad.failures.entries().map(|(file, reason)| NotUsed::at(file, reason)).collect();
    unused.extend(alone.into_iter().map(|one| NotUsed { line: one.to_string(), file: one.file, reason: one.reason }));
    unused.extend(left_out);
    if !unused.is_empty() {
        let is = if unused.len() == 1 { "is not used; it is" } else { "are not used; they are" };
        note(&format!("{} {is} listed at the end", counted(unused.len(), "thing")));
    }
    Ok(TrainingData { dataset, unused, labels: told, notes: remarks.printed, slides: (slides, of) })
}

/// What was read of an image and its annotations; an error comes with the file that it is about.
type Found<'a, T> = std::result::Result<T, (&'a Path, Error)>;

/// Reads an image with its annotations, or, of a large one, the parts of it in which something was drawn.
fn read_files<'a>(
    files: &'a (PathBuf, PathBuf),
    how: &Reading,
    several: [bool; 2],
    remarks: &mut Remarks,
    left_out: &mut Vec<NotUsed>,
    slides: &mut Vec<Slide>,
) -> Found<'a, Vec<(Pair<'a>, LabelSource)>> {
    let (image, labels) = files;
    let read = planes::of_file(image, &how.read, several);
    let mut options = AnnotationOptions {
        shape: None,
        image: image.file_name().map(|name| name.to_string_lossy().into_owned()),
        foreground: how.foreground.clone(),
        background: how.background.clone(),
        plane: how.read.plane,
        frame: how.read.frame,
    };
    let slide = Slide::open(image, &read, how.level, how.memory).map_err(|error| (image.as_path(), error))?;
    if let Some(slide) = slide {
        let wanted = DrawnOptions { patch: how.patch, memory: how.memory };
        let found = slide.read([image, labels], &options, &wanted)?;
        remarks.say(image, &slide.notes());
        left_out.extend(found.unused.iter().map(|what| NotUsed::at(labels, what)));
        // As for a prediction, what is said is the size of the pixels of level 0.
        let size = how.pixel_size.map(|size| size.map(|side| side * found.scale)).or(found.pixel_size);
        let part = |DrawnPart { place, image, labels, .. }| {
            (Pair { image, size, files, slide: Some((slides.len(), place)) }, labels)
        };
        let parts = found.parts.into_iter().map(part).collect();
        slides.push(slide);
        return Ok(parts);
    }
    let ImageFile { image: pixels, pixel_size, .. } =
        remarks.read_file(image, &read).map_err(|error| (image.as_path(), error))?;
    options.shape = Some((pixels.height(), pixels.width()));
    let found = read_annotations(labels, &options).map_err(|error| (labels.as_path(), error))?;
    let checked = found.labels.check_fits(&pixels).and_then(|()| found.labels.check());
    checked.map_err(|error| (labels.as_path(), at(labels, error)))?;
    left_out.extend(found.unused.iter().map(|what| NotUsed::at(labels, what)));
    let size = how.pixel_size.or(pixel_size);
    Ok(vec![(Pair { image: pixels, size, files, slide: None }, found.labels)])
}

/// Leaves out images with another number of channels than most have; where no number is the most frequent one, none is.
fn keep_common_channels(usable: &mut Vec<(Pair<'_>, SparseLabels)>, bad: &mut Bad) -> Result<()> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (pair, _) in usable.iter() {
        *counts.entry(pair.image.channels()).or_insert(0) += 1;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let mut common = counts.iter().filter(|(_, count)| **count == most).map(|(channels, _)| *channels);
    let (Some(common), None) = (common.next(), common.next()) else { return Ok(()) };
    let (kept, others) = std::mem::take(usable).into_iter().partition(|(pair, _)| pair.image.channels() == common);
    *usable = kept;
    for (pair, _) in others {
        let found = pair.image.channels();
        let error = Error::Image(format!(
            "it has {} and most images have {common}; all must have the same number",
            counted(found, "channel")
        ));
        bad.add(&pair.files.0, at(&pair.files.0, error.because(Reason::channels(found, common))))?;
    }
    Ok(())
}

/// The files that cannot be used, of `total` pairs.
struct Bad {
    failures: Failures,
    total: usize,
}

impl Bad {
    /// Names a file at once, unless it is the only one.
    fn add(&mut self, file: &Path, error: Error) -> Result<()> {
        self.failures.add(file, error)?;
        if self.total > 1 {
            note(&format!("{}: not used: {}", file.display(), self.failures.last().unwrap_or_default()));
        }
        Ok(())
    }

    /// An error when no pair is left.
    fn refuse_all(&mut self) -> Result<()> {
        if self.failures.len() < self.total {
            return Ok(());
        }
        std::mem::take(&mut self.failures).finish(self.total, "pairs")
    }
}

/// Prints to standard error what was not used.
pub fn list_unused(unused: &[NotUsed]) {
    for what in unused.iter().take(UNUSED) {
        note(&format!("not used: {}", what.line));
    }
    if unused.len() > UNUSED {
        note(&format!("not used: and {} more", unused.len() - UNUSED));
    }
}

/// Unused things that are listed at most.
const UNUSED: usize = 20;

/// Prints hints about the annotations to standard error, each of them once; those that were printed.
pub fn advise(dataset: &Dataset) -> Vec<String> {
    let mut hints: Vec<(String, usize)> = Vec::new();
    let doubts = dataset.images().iter().zip(dataset.labels()).take(LOOKED_AT);
    // Odd numbers are told already.
    let doubts = doubts.filter(|(_, labels)| labels.suspicions().is_empty());
    let doubts = doubts.filter_map(|(image, labels)| doubtful_background(image.to_f32().view(), labels.labels()));
    for hint in doubts.chain(dataset.labels().iter().flat_map(advice)) {
        match hints.iter_mut().find(|(known, _)| *known == hint) {
            Some((_, count)) => *count += 1,
            None => hints.push((hint, 1)),
        }
    }
    hints.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut printed = Vec::new();
    for (hint, count) in hints.iter().take(HINTS) {
        let place = if dataset.len() > 1 { format!(" ({count} of {} images)", dataset.len()) } else { String::new() };
        note(&format!("advice: {hint}{place}"));
        printed.push(format!("{hint}{place}"));
    }
    if hints.len() > HINTS {
        note(&format!("advice: and {} more of this kind", hints.len() - HINTS));
    }
    printed
}

/// Images whose declared background is compared with their drawn cells, at most.
const LOOKED_AT: usize = 8;

/// Hints that are printed at most.
const HINTS: usize = 5;
