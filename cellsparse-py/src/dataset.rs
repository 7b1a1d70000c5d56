//! Images with their annotations.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cellsparse_core::annotations::{EncodingChoice, LabelEncoding, LabelSource, SparseLabels, advice, choose_encoding};
use cellsparse_core::error::counted;
use cellsparse_core::formats::annotation_files::{AnnotationOptions, read_annotations};
use cellsparse_core::large::{
    About, DrawnOptions, DrawnPart, LARGE, LargeLabels, Place, read_drawn, scaled, why_by_parts,
};
use cellsparse_core::model::Normalization;
use cellsparse_core::pseudo_labels::doubtful_background;
use cellsparse_core::raster::RawLabels;
use cellsparse_core::raster::regions::{Extent, Level, Region, RegionReader};
use cellsparse_core::{Budget, CancelToken, ControlFlow, Error, ErrorKind, Image, Result};
use numpy::PyReadonlyArray2;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays;
use crate::errors::{exception, in_words_of_python};
use crate::large::{self, Source};
use crate::work::{Caller, Events, compute, pool, supervise};

/// Images and sparse labels that fit each other, and how they were read.
#[pyclass(frozen, module = "cellsparse._native")]
pub struct Dataset(pub Arc<Content>);

/// What a data set holds.
pub struct Content {
    data: cellsparse_core::Dataset,
    choice: EncodingChoice,
    /// The images of which there are parts, with the level that these are of, and for every image of the data which of them it is a
    /// part of.
    slides: Vec<(Box<dyn RegionReader>, usize)>,
    of: Vec<Option<usize>>,
    /// What was read of large images.
    notes: Vec<String>,
    /// What was not used of files of annotations.
    unused: Vec<String>,
}

impl Content {
    /// Whether parts of large images are in it, so that all of it has to be scaled before the training.
    pub fn has_parts(&self) -> bool {
        !self.slides.is_empty()
    }

    /// The data, with scaled intensities when that is wanted: parts of a large image are scaled by that of the whole image.
    pub fn ready(
        &self,
        scale: Option<Normalization>,
        cancel: &CancelToken,
    ) -> Result<Cow<'_, cellsparse_core::Dataset>> {
        let Some(how) = scale else { return Ok(Cow::Borrowed(&self.data)) };
        let measured = self.slides.iter().map(|(slide, level)| how.measure(slide.as_ref(), *level, cancel));
        let measured = measured.collect::<Result<Vec<_>>>()?;
        let of: Vec<_> = self.of.iter().map(|slide| slide.map(|slide| &measured[slide])).collect();
        scaled(&self.data, &of, how).map(Cow::Owned)
    }
}

/// An image as it is given: an array, or what is read by parts if it is large.
enum Given {
    Array(Image),
    Source(Source),
}

/// Labels as they are given: an array, a file, or rows and columns, a function that reads and whether the numbers are signed.
enum GivenLabels {
    Array(RawLabels),
    File(PathBuf),
    Slices(Source, bool),
}

/// An image, or a part of a large one, while the meaning of its labels is not known.
struct Pair {
    image: Image,
    labels: LabelSource,
    /// Whether the labels are an array of a signed type.
    signed: bool,
    /// The image in the list that was given.
    place: usize,
    /// The large image that it is a part of, and where it lies there.
    part: Option<(usize, Place)>,
    pixel_size: Option<[f64; 2]>,
    /// Pixels of level 0 that a pixel is wide.
    scale: f64,
}

/// How images are read.
struct Options {
    drawn: DrawnOptions,
    /// The resolution that is wanted of all images.
    level: Option<Level>,
}

#[pymethods]
impl Dataset {
    /// `encoding` is `auto`, `signed`, `dense`, `wire` or `cells`; `classes` are those of the objects of every image. Images are
    /// arrays or what `predict_large` takes; labels are arrays, files, or `(levels, channels, read), signed`. `patch` and `memory` say
    /// how much is read of large images, `level` is the resolution of pyramids, `"1"` or `"0.5um"`.
    #[new]
    #[pyo3(signature = (images, labels, encoding, classes, pixel_sizes, patch, memory, level))]
    fn new(
        py: Python<'_>,
        images: Vec<Bound<'_, PyAny>>,
        labels: Vec<Bound<'_, PyAny>>,
        encoding: &str,
        classes: Option<Vec<BTreeMap<i32, Option<u32>>>>,
        pixel_sizes: Option<Vec<Option<[f64; 2]>>>,
        patch: Option<usize>,
        memory: Option<&str>,
        level: Option<&str>,
    ) -> PyResult<Self> {
        let raise = |error: Error| exception(py, &error);
        let images = images.iter().map(given).collect::<PyResult<Vec<_>>>()?;
        let labels = labels.iter().map(given_labels).collect::<PyResult<Vec<_>>>()?;
        let encoding: LabelEncoding = encoding.parse().map_err(raise)?;
        let drawn = DrawnOptions { patch, memory: memory.map(str::parse).transpose().map_err(raise)? };
        let level = level.map(large::level).transpose().map_err(raise)?;
        let options = Options { drawn, level };
        if images.len() != labels.len() {
            return Err(raise(Error::Image(format!(
                "there are {} and {}; every image needs its own",
                counted(images.len(), "image"),
                counted(labels.len(), "label image")
            ))));
        }
        if let Some(sizes) = pixel_sizes.as_ref().filter(|sizes| sizes.len() != images.len()) {
            return Err(raise(Error::Image(format!(
                "there are {} and {}; every image has its own, or none",
                counted(sizes.len(), "pixel size"),
                counted(images.len(), "image")
            ))));
        }
        let pairs: Vec<_> = images.into_iter().zip(labels).collect();
        let cancel = CancelToken::new();
        let raised = cancel.clone();
        let work = move |events: Events<_>| {
            let caller = events.caller();
            pool()?.install(|| {
                let mut reading = Reading::default();
                for (place, (image, labels)) in pairs.into_iter().enumerate() {
                    reading.pair(place, image, labels, &options, &raised, &caller)?;
                }
                reading.content(encoding, classes.as_deref(), pixel_sizes.as_deref())
            })
        };
        let content = supervise(py, &cancel, work, |_, _| Ok(ControlFlow::Continue))?.into_result(py)?;
        Ok(Self(Arc::new(content)))
    }

    /// Hints about the annotations, each once.
    fn advice(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let content = Arc::clone(&self.0);
        compute(py, move || {
            let data = &content.data;
            let doubts = data.images().iter().zip(data.labels()).take(LOOKED_AT);
            let doubts =
                doubts.filter_map(|(image, labels)| doubtful_background(image.to_f32().view(), labels.labels()));
            let mut hints = Vec::new();
            for hint in doubts.chain(data.labels().iter().flat_map(advice)).map(|hint| in_words_of_python(&hint)) {
                if !hints.contains(&hint) {
                    hints.push(hint);
                }
            }
            Ok(hints)
        })
    }

    /// The encoding that the labels were read in, what it means, and why it was taken.
    fn encoding(&self) -> (String, &'static str, String) {
        let choice = &self.0.choice;
        (choice.encoding.to_string(), choice.encoding.meaning(), choice.reason.clone())
    }

    /// What was read of large images, and what was not used of files of annotations.
    fn notes(&self) -> (Vec<String>, Vec<String>) {
        (self.0.notes.clone(), self.0.unused.clone())
    }

    /// Channels of every image.
    fn channels(&self) -> usize {
        self.0.data.channels()
    }

    fn __len__(&self) -> usize {
        self.0.data.len()
    }
}

/// Whether only parts of an array `[H, W, C]` are read for a training, which may lie in the memory.
#[pyfunction]
#[pyo3(signature = (shape, in_memory, memory))]
pub fn is_large(py: Python<'_>, shape: (usize, usize, usize), in_memory: bool, memory: Option<&str>) -> PyResult<bool> {
    let memory = memory.map(str::parse).transpose().map_err(|error: Error| exception(py, &error))?;
    Ok(why(&[Extent { height: shape.0, width: shape.1 }], shape.2, in_memory, memory).is_some())
}

/// Images with their labels, while they are read.
#[derive(Default)]
struct Reading {
    pairs: Vec<Pair>,
    slides: Vec<(Box<dyn RegionReader>, usize)>,
    notes: Vec<String>,
    unused: Vec<String>,
}

impl Reading {
    /// Adds an image with its labels, or the parts of it in which something was drawn.
    fn pair(
        &mut self,
        place: usize,
        image: Given,
        labels: GivenLabels,
        options: &Options,
        cancel: &CancelToken,
        caller: &Caller,
    ) -> Result<()> {
        let source = match image {
            Given::Array(image) => {
                only_level(options.level).map_err(|error| no_level(place, error))?;
                return self.whole(place, image, None, None, labels, caller);
            }
            Given::Source(source) => source,
        };
        let name = source.name();
        let reader = source.open(caller)?;
        let level = options.level.map_or(Ok(0), |level| level.of(reader.as_ref()));
        let level = level.map_err(|error| no_level(place, error))?;
        let why = match options.level {
            Some(_) => Some("since a level was chosen".to_owned()),
            None => why(reader.levels(), reader.channels(), false, options.drawn.memory),
        };
        let Some(why) = why else {
            let image = reader.read(Region::whole(reader.levels()[0]), 0).map_err(|error| of_image(place, error))?;
            return self.whole(place, image, reader.pixel_size(), name, labels, caller);
        };
        let levels = reader.levels();
        let (drawn, signed) = match labels {
            GivenLabels::File(path) => {
                let options = AnnotationOptions { image: name, ..AnnotationOptions::default() };
                (LargeLabels::open(&path, &options, levels, level).map_err(|error| error.in_file(&path)), false)
            }
            GivenLabels::Slices(source, signed) => {
                (LargeLabels::of_regions(source.open(caller)?, signed, levels, level), signed)
            }
            GivenLabels::Array(_) => {
                return Err(Error::Internal("labels of a large image came as a copy of an array".into()));
            }
        };
        let drawn = drawn.map_err(|error| at(place, error))?;
        let found =
            read_drawn(reader.as_ref(), level, &drawn, &options.drawn, cancel).map_err(
                |(about, error)| match about {
                    About::Image => of_image(place, error),
                    About::Labels => at(place, error),
                },
            )?;
        self.notes.push(format!("image {place}: {}", found.note(&why)));
        self.unused.extend(found.unused.iter().map(|what| format!("label image {place}: {what}")));
        let (slide, pixel_size, scale) = (self.slides.len(), found.pixel_size, found.scale);
        self.pairs.extend(found.parts.into_iter().map(|DrawnPart { place: lies, image, labels, .. }| Pair {
            image,
            labels,
            signed,
            place,
            part: Some((slide, lies)),
            pixel_size,
            scale,
        }));
        self.slides.push((reader, level));
        Ok(())
    }

    fn whole(
        &mut self,
        place: usize,
        image: Image,
        pixel_size: Option<[f64; 2]>,
        name: Option<String>,
        labels: GivenLabels,
        caller: &Caller,
    ) -> Result<()> {
        let (labels, signed) = match labels {
            GivenLabels::Array(labels) => {
                let signed = matches!(labels, RawLabels::Signed(_));
                (LabelSource::Values(labels), signed)
            }
            GivenLabels::File(path) => {
                let shape = Some((image.height(), image.width()));
                let options = AnnotationOptions { shape, image: name, ..AnnotationOptions::default() };
                let found = read_annotations(&path, &options)?;
                self.unused.extend(found.unused.iter().map(|what| format!("label image {place}: {what}")));
                found.labels.check().map_err(|error| error.in_file(&path))?;
                (found.labels, false)
            }
            GivenLabels::Slices(source, signed) => {
                let reader = source.open(caller)?;
                let drawn = LargeLabels::of_regions(reader, signed, &[extent(&image)], 0);
                let labels = drawn.and_then(|drawn| drawn.part(Region::whole(extent(&image))));
                (labels.map_err(|error| at(place, error))?, signed)
            }
        };
        // Where their numbers differ, that is what is wrong.
        labels.check_fits(&image).map_err(|error| at(place, error))?;
        self.pairs.push(Pair { image, labels, signed, place, part: None, pixel_size, scale: 1.0 });
        Ok(())
    }

    /// The data set, once all labels are known.
    fn content(
        self,
        encoding: LabelEncoding,
        classes: Option<&[BTreeMap<i32, Option<u32>>]>,
        pixel_sizes: Option<&[Option<[f64; 2]>]>,
    ) -> Result<Content> {
        let sources: Vec<LabelSource> = self.pairs.iter().map(|pair| pair.labels.clone()).collect();
        // The labels of this package are signed: below 0 unlabelled, 0 background.
        let is_signed = |pair: &Pair| pair.signed || matches!(pair.labels, LabelSource::Drawn(_));
        let signed = self.pairs.iter().any(|pair| pair.signed) && self.pairs.iter().all(is_signed);
        let encoding = if encoding == LabelEncoding::Auto && signed { LabelEncoding::Signed } else { encoding };
        let choice = choose_encoding(&sources, encoding)?;
        let (mut images, mut labels, mut sizes, mut of) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (pair, source) in self.pairs.into_iter().zip(sources) {
            let place = pair.place;
            let mut parsed = SparseLabels::from_source(source, choice.encoding).map_err(|error| at(place, error))?;
            let mut known = classes.and_then(|classes| classes.get(place)).cloned();
            if let Some((_, lies)) = pair.part {
                parsed = lies.without_cut(parsed);
                // Others are in other parts.
                known.iter_mut().for_each(|classes| classes.retain(|id, _| parsed.areas().contains_key(id)));
            }
            if let Some(classes) = known {
                parsed = parsed.with_classes(classes).map_err(|error| at(place, error))?;
            }
            labels.push(parsed);
            images.push(pair.image);
            // What is said is the size of the pixels of level 0, as for a prediction.
            let said = pixel_sizes.and_then(|sizes| sizes.get(place).copied().flatten());
            sizes.push(said.map(|size| size.map(|side| side * pair.scale)).or(pair.pixel_size));
            of.push(pair.part.map(|(slide, _)| slide));
        }
        let data = cellsparse_core::Dataset::new(images, labels)?.with_pixel_sizes(sizes)?;
        Ok(Content { data, choice, slides: self.slides, of, notes: self.notes, unused: self.unused })
    }
}

/// Why only parts of an image are read; nothing for one that is read whole.
fn why(levels: &[Extent], channels: usize, in_memory: bool, memory: Option<Budget>) -> Option<String> {
    let large = levels.first().is_some_and(|extent| extent.height.saturating_mul(extent.width) > LARGE);
    why_by_parts(levels, channels, memory).or_else(|| (large && !in_memory).then(|| "since it is a large image".into()))
}

fn extent(image: &Image) -> Extent {
    Extent { height: image.height(), width: image.width() }
}

fn given(object: &Bound<'_, PyAny>) -> PyResult<Given> {
    match object.extract::<Source>() {
        Ok(source) => Ok(Given::Source(source)),
        Err(_) => arrays::image(object).map(Given::Array),
    }
}

fn given_labels(object: &Bound<'_, PyAny>) -> PyResult<GivenLabels> {
    if let Ok((source, signed)) = object.extract::<(Source, bool)>() {
        return Ok(GivenLabels::Slices(source, signed));
    }
    match object.extract::<PathBuf>() {
        Ok(path) => Ok(GivenLabels::File(path)),
        Err(_) => raw_labels(object).map(GivenLabels::Array),
    }
}

/// Images whose declared background is compared with their drawn cells, at most.
const LOOKED_AT: usize = 8;

/// Signed labels keep their sign, unsigned ones are told from them by their dtype.
fn raw_labels(object: &Bound<'_, PyAny>) -> PyResult<RawLabels> {
    if let Ok(array) = object.extract::<PyReadonlyArray2<'_, i32>>() {
        return Ok(RawLabels::Signed(arrays::label_image(&array)));
    }
    match object.extract::<PyReadonlyArray2<'_, u32>>() {
        Ok(array) => Ok(RawLabels::Unsigned(array.as_array().as_standard_layout().into_owned())),
        Err(_) => Err(PyTypeError::new_err("labels must be 2-D arrays of int32 or uint32")),
    }
}

/// Refuses all levels but the first: an array in the memory has no other, and does not tell how large its pixels are.
fn only_level(level: Option<Level>) -> Result<()> {
    match level {
        None | Some(Level::Number(0)) => Ok(()),
        Some(Level::Number(level)) => {
            Err(Error::Config(format!("level {level} was asked for and the array has 1, counted from 0")))
        }
        Some(Level::PixelSize(_)) => Err(Error::Config(
            "an array does not tell how large its pixels are; give the level that is wanted itself".into(),
        )),
    }
}

/// Adds the place of the image in the list, of which a level was asked for that it does not have.
fn no_level(place: usize, error: Error) -> Error {
    error.map_message(|message| format!("image {place}: {message}"))
}

/// Adds the place of the image in the list, counted from 0.
fn of_image(place: usize, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Image => error.map_message(|message| format!("image {place}: {message}")),
        _ => error,
    }
}

/// Adds the place of the labels in the list, counted from 0.
fn at(place: usize, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Labels => error.map_message(|message| format!("label image {place}: {message}")),
        _ => error,
    }
}
