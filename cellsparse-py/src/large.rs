//! Images that are read part by part: from a file, or from any object of Python that can be sliced.

use std::path::PathBuf;
use std::sync::Arc;

use cellsparse_core::formats::geojson::GeoJsonOptions;
use cellsparse_core::large::{
    Area, CsvSink, GeoJsonSink, LargeBlock, LargeOptions, LargeShape, LargeSink, keep_block, sink_for,
};
use cellsparse_core::raster::regions::{Extent, Level, Region, RegionReader, factor};
use cellsparse_core::raster::{ReadOptions, open_regions};
use cellsparse_core::{Error, Flow, Image, PredictOptions, Result};
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};

use crate::arrays;
use crate::errors::exception;
use crate::model::Model;
use crate::work::{Caller, Events, call, supervise};

/// Bytes of decoded strips and tiles that are kept.
const KEPT_BYTES: usize = 128 << 20;

/// An object of Python whose parts a function gives: `read(level, top, left, height, width)` returns `[height, width, C]`.
struct PythonRegions {
    levels: Vec<Extent>,
    channels: usize,
    read: Arc<Py<PyAny>>,
    caller: Caller,
}

impl RegionReader for PythonRegions {
    fn levels(&self) -> &[Extent] {
        &self.levels
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        region.check(&self.levels, level)?;
        let (read, place) = (Arc::clone(&self.read), (level, region.top, region.left, region.height, region.width));
        let image = self.caller.ask(move |py| arrays::image(&call(py, &read, place.into_pyobject(py)?)?))?;
        let image = image.map_err(|error| Error::Image(format!("the part {region} could not be read: {error}")))?;
        if image.shape() != (region.height, region.width, self.channels) {
            return Err(Error::Image(format!("the part {region} came in the shape {:?}", image.shape())));
        }
        image.check().map_err(|error| Error::Image(format!("in the part {region}: {}", error.message())))?;
        Ok(image)
    }
}

/// A function of Python that takes labels: `put(top, left, labels)`.
struct PythonSink {
    put: Arc<Py<PyAny>>,
    caller: Caller,
}

impl LargeSink for PythonSink {
    fn begin(&mut self, _: &LargeShape) -> Result<()> {
        Ok(())
    }

    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()> {
        let (put, labels) = (Arc::clone(&self.put), block.labels.clone());
        let Region { top, left, .. } = block.region;
        let put = self
            .caller
            .ask(move |py| call(py, &put, (top, left, labels.into_pyarray(py)).into_pyobject(py)?).map(drop))?;
        put.map_err(|error| Error::Image(format!("labels could not be written: {error}")))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Where pixels come from: a file, or levels `(rows, columns)`, channels and a function that reads.
#[derive(FromPyObject)]
pub enum Source {
    File(PathBuf),
    Object((Vec<(usize, usize)>, usize, Py<PyAny>)),
}

impl Source {
    /// The name of the file.
    pub fn name(&self) -> Option<String> {
        match self {
            Source::File(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Source::Object(_) => None,
        }
    }

    /// Opens it for work, for which `caller` runs what is of Python.
    pub fn open(self, caller: &Caller) -> Result<Box<dyn RegionReader>> {
        match self {
            Source::File(path) => open_regions(path, &ReadOptions::default(), KEPT_BYTES),
            Source::Object((levels, channels, read)) => {
                let levels = levels.into_iter().map(|(height, width)| Extent { height, width }).collect();
                Ok(Box::new(PythonRegions { levels, channels, read: Arc::new(read), caller: caller.clone() }))
            }
        }
    }
}

/// A level as text, such as `1` or `0.5um`.
pub fn level(text: &str) -> Result<Level> {
    text.parse().map_err(|reason| Error::Config(format!("level is '{text}'; {reason}")))
}

/// The options of a run, by the names of `LargeOptions` and `PredictOptions`, and the level that is wanted.
fn options(given: &Bound<'_, PyDict>) -> PyResult<(LargeOptions, Level)> {
    let py = given.py();
    let raise = |error: Error| exception(py, &error);
    fn get<'py, T: FromPyObjectOwned<'py>>(given: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<T>> {
        given
            .get_item(name)?
            .filter(|value| !value.is_none())
            .map(|value| value.extract().map_err(Into::into))
            .transpose()
    }
    let text = |name: &str| get::<String>(given, name);
    let predict = PredictOptions {
        prob_thresh: get(given, "prob_thresh")?,
        nms_thresh: get(given, "nms_thresh")?,
        flow_threshold: get(given, "flow_threshold")?,
        cellprob_threshold: get(given, "cellprob_threshold")?,
        diameter: get(given, "diameter")?,
        augment: get(given, "augment")?.unwrap_or(false),
        postprocess: text("postprocess")?.map(|name| name.parse()).transpose().map_err(raise)?,
        min_area: get(given, "min_area")?.unwrap_or(0.0),
        tile: get(given, "tile")?,
        pixel_size: get(given, "pixel_size")?,
        rescale: get(given, "rescale")?.unwrap_or(true),
        device: text("device")?.unwrap_or_else(|| "auto".into()).parse().map_err(raise)?,
        precision: text("precision")?.unwrap_or_else(|| "auto".into()).parse().map_err(raise)?,
        threads: get(given, "threads")?,
        memory: text("memory")?.map(|bytes| bytes.parse()).transpose().map_err(raise)?,
        ..PredictOptions::default()
    };
    let area = match text("region")? {
        Some(text) if text.trim_start().starts_with(['{', '[']) => Some(Area::from_geojson(&text).map_err(raise)?),
        Some(text) => Some(text.parse().map_err(raise)?),
        None => None,
    };
    let level = text("level")?.map_or(Ok(Level::Number(0)), |text| level(&text)).map_err(raise)?;
    let options = LargeOptions {
        predict,
        area,
        skip_empty: get(given, "skip_empty")?.unwrap_or(true),
        folder: get(given, "folder")?,
        resume: get(given, "resume")?.unwrap_or(false),
        image: text("image")?.unwrap_or_default(),
        ..LargeOptions::default()
    };
    Ok((options, level))
}

type Summary = (usize, [usize; 2], Option<[f64; 2]>, Vec<String>);

/// Segments an image by parts: number of objects, shape, pixel size and notes.
#[pyfunction]
#[pyo3(signature = (model, source, given, *, labels, put, geojson, csv, callback))]
pub fn predict_large(
    py: Python<'_>,
    model: &Model,
    source: Source,
    given: &Bound<'_, PyDict>,
    labels: Option<PathBuf>,
    put: Option<Py<PyAny>>,
    geojson: Option<PathBuf>,
    csv: Option<PathBuf>,
    callback: Option<Py<PyAny>>,
) -> PyResult<Summary> {
    let (mut options, level) = options(given)?;
    let (model, cancel, callback) = (model.current(), options.predict.cancel.clone(), callback.map(Arc::new));
    let work = move |events: Events<_>| {
        let reader = source.open(&events.caller())?;
        options.level = level.of(reader.as_ref())?;
        let mut sinks: Vec<Box<dyn LargeSink + '_>> = Vec::new();
        if let Some(path) = labels {
            sinks.push(sink_for(path, reader.as_ref(), options.level, &GeoJsonOptions::default())?);
        }
        if let Some(put) = put {
            sinks.push(Box::new(PythonSink { put: Arc::new(put), caller: events.caller() }));
        }
        if let Some(path) = geojson {
            let outlines = GeoJsonOptions { never_empty: true, ..GeoJsonOptions::default() };
            let scale = factor(reader.levels(), options.level);
            sinks.push(Box::new(GeoJsonSink::new(path, outlines).scaled(scale)));
        }
        if let Some(path) = csv {
            sinks.push(Box::new(CsvSink::new(path, reader.as_ref(), options.level)));
        }
        let mut list: Vec<&mut dyn LargeSink> =
            sinks.iter_mut().map(|sink| &mut **sink as &mut dyn LargeSink).collect();
        let mut raised = None;
        let caller = events.caller();
        let mut observer = |event: &cellsparse_core::large::LargeProgress| {
            let Some(callback) = callback.clone() else { return Flow::Continue };
            let event = (event.phase.to_string(), event.done, event.total);
            let answer = caller.ask(move |py| {
                let answer = call(py, &callback, event.into_pyobject(py)?)?;
                Ok(answer.is(&*pyo3::types::PyBool::new(py, false)))
            });
            match answer {
                Ok(Ok(false)) => Flow::Continue,
                Ok(Ok(true)) | Err(_) => Flow::Stop,
                Ok(Err(error)) => {
                    raised = Some(error);
                    Flow::Stop
                }
            }
        };
        let found = model.predict_large(reader.as_ref(), &options, &mut list, &mut observer);
        Ok((found, raised))
    };
    let (found, raised) = supervise(py, &cancel, work, |_, _| Ok(Flow::Continue))?.into_result(py)?;
    if let Some(error) = raised {
        return Err(error);
    }
    let found = found.map_err(|error| exception(py, &error))?;
    Ok((found.objects, found.shape, found.pixel_size, found.notes))
}

type Groups = Vec<(Vec<usize>, [usize; 4])>;

/// What is taken from the whole image, and groups of blocks with the part (top, left, height, width) that each needs.
#[pyfunction]
pub fn large_plan(
    py: Python<'_>,
    model: &Model,
    source: Source,
    given: &Bound<'_, PyDict>,
) -> PyResult<(String, Groups)> {
    let (mut options, level) = options(given)?;
    let (model, cancel) = (model.current(), options.predict.cancel.clone());
    let work = move |events: Events<_>| {
        let reader = source.open(&events.caller())?;
        options.level = level.of(reader.as_ref())?;
        model.large_plan(reader.as_ref(), &options)
    };
    let plan = supervise(py, &cancel, work, |_, _| Ok(Flow::Continue))?.into_result(py)?;
    let groups = plan.groups.into_iter().map(|group| {
        let Region { top, left, height, width } = group.region;
        (group.blocks, [top, left, height, width])
    });
    Ok((plan.context, groups.collect()))
}

/// The objects of some blocks, as bytes.
#[pyfunction]
pub fn large_blocks<'py>(
    py: Python<'py>,
    model: &Model,
    source: Source,
    given: &Bound<'py, PyDict>,
    context: String,
    blocks: Vec<usize>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let (mut options, level) = options(given)?;
    let (model, cancel) = (model.current(), options.predict.cancel.clone());
    let work = move |events: Events<_>| {
        let reader = source.open(&events.caller())?;
        options.level = level.of(reader.as_ref())?;
        model.large_blocks(reader.as_ref(), &options, &context, &blocks)
    };
    let packed = supervise(py, &cancel, work, |_, _| Ok(Flow::Continue))?.into_result(py)?;
    Ok(packed.iter().map(|bytes| PyBytes::new(py, bytes)).collect())
}

/// Keeps a block in the folder of its run.
#[pyfunction]
pub fn large_keep(py: Python<'_>, folder: PathBuf, block: usize, bytes: PyBackedBytes) -> PyResult<()> {
    crate::work::compute(py, move || keep_block(folder, block, &bytes))
}
