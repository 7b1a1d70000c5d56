//! The facade of the library as one class; `StarDist`, `Cellpose` and `Elephant` are made of it in Python.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cellsparse_core::model::{Architecture, Normalization};
use cellsparse_core::model::{Object, Thresholds, TrainOptions, TrainingSummary};
use cellsparse_core::{ControlFlow, Error, PredictOptions, Result, Segmentation};
use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::dataset::Dataset;
use crate::errors::{exception, plain};
use crate::work::{compute, supervise};
use crate::{arrays, observer};

/// A network with its weights.
///
/// The model is shared: predictions hold on to the one they began with, and a training works on a copy that takes its
/// place at the end. So nothing has to wait, and a prediction never sees half a training.
#[pyclass(frozen, module = "cellsparse._native")]
pub struct Model {
    current: Mutex<Arc<cellsparse_core::Model>>,
    busy: Arc<AtomicBool>,
}

/// Says that a training is going on for as long as it lives.
struct Training(Arc<AtomicBool>);

impl Drop for Training {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Model {
    fn of(model: cellsparse_core::Model) -> Self {
        Self { current: Mutex::new(Arc::new(model)), busy: Arc::default() }
    }

    pub(crate) fn current(&self) -> Arc<cellsparse_core::Model> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, model: cellsparse_core::Model) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(model);
    }

    /// Claims the model for a change.
    fn claim(&self, py: Python<'_>) -> PyResult<Training> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(plain(
                "BusyError",
                py,
                "the model is being trained; wait until its training has ended, or train a copy of it".into(),
            ));
        }
        Ok(Training(Arc::clone(&self.busy)))
    }

    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut cellsparse_core::Model) -> Result<()>) -> PyResult<()> {
        let _claim = self.claim(py)?;
        let mut model = (*self.current()).clone();
        change(&mut model).map_err(|error| exception(py, &error))?;
        self.replace(model);
        Ok(())
    }
}

/// Ids, polygons `[n, 2]`, probabilities and classes of objects.
type Objects<'py> = (Vec<i32>, Vec<Bound<'py, PyArray2<f32>>>, Vec<f32>, Vec<Option<usize>>);

#[pymethods]
impl Model {
    /// A new network; `architecture` is JSON: `{"algorithm": ..., "config": {...}}`.
    #[staticmethod]
    fn create(py: Python<'_>, architecture: &str, seed: u64) -> PyResult<Self> {
        let architecture: Architecture = from_json(architecture).map_err(|error| exception(py, &error))?;
        compute(py, move || cellsparse_core::Model::new(architecture, seed).map(Self::of))
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        compute(py, move || cellsparse_core::Model::load(path).map(Self::of))
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let model = self.current();
        compute(py, move || model.save(path))
    }

    /// The content of the file that `save` would write.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let model = self.current();
        let bytes = compute(py, move || {
            let mut bytes = Vec::new();
            model.to_writer(&mut bytes).map(|()| bytes)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The model of `to_bytes`.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: PyBackedBytes) -> PyResult<Self> {
        compute(py, move || cellsparse_core::Model::from_reader(&bytes[..]).map(Self::of))
    }

    fn copy(&self) -> Self {
        Self::of((*self.current()).clone())
    }

    fn reset(&self, py: Python<'_>, seed: u64) -> PyResult<()> {
        self.change(py, |model| {
            model.reset(seed);
            Ok(())
        })
    }

    /// Everything that can be said about the model without running it, as JSON.
    fn info(&self, py: Python<'_>) -> PyResult<String> {
        to_json(py, &self.current().info())
    }

    /// The history of all trainings, as JSON.
    fn history(&self, py: Python<'_>) -> PyResult<String> {
        to_json(py, self.current().history())
    }

    /// Replaces the thresholds; `thresholds` is the JSON object of the algorithm's own thresholds.
    fn set_thresholds(&self, py: Python<'_>, thresholds: &str) -> PyResult<()> {
        self.change(py, |model| {
            let thresholds: serde_json::Value = from_json(thresholds)?;
            let named = serde_json::json!({ model.algorithm().name(): thresholds });
            model.set_thresholds(from_json::<Thresholds>(&named.to_string())?)
        })
    }

    fn set_pixel_size(&self, py: Python<'_>, size: Option<[f64; 2]>) -> PyResult<()> {
        self.change(py, |model| model.set_pixel_size(size))
    }

    fn set_normalization(&self, py: Python<'_>, pmin: f64, pmax: f64) -> PyResult<()> {
        self.change(py, |model| model.set_normalization(Normalization { pmin, pmax }))
    }

    /// Trains and returns the summary as JSON. Whatever is raised, the weights that were reached are kept.
    #[pyo3(signature = (data, validation, *, steps, batch_size, patch_size, learning_rate, preset, init, time_budget,
        seed, resume, rescale, checkpoint, device, precision, threads, memory, observer))]
    fn train(
        &self,
        py: Python<'_>,
        data: &Dataset,
        validation: Option<&Dataset>,
        steps: Option<usize>,
        batch_size: Option<usize>,
        patch_size: Option<usize>,
        learning_rate: Option<f32>,
        preset: &str,
        init: &str,
        time_budget: Option<f64>,
        seed: u64,
        resume: bool,
        rescale: bool,
        checkpoint: Option<PathBuf>,
        device: &str,
        precision: &str,
        threads: Option<usize>,
        memory: Option<&str>,
        observer: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        let raise = |error: Error| exception(py, &error);
        let options = TrainOptions {
            steps,
            batch_size,
            patch_size,
            learning_rate,
            preset: preset.parse().map_err(raise)?,
            start: init.parse().map_err(raise)?,
            time_budget: time_budget.map(budget).transpose().map_err(raise)?,
            seed,
            resume,
            rescale,
            device: device.parse().map_err(raise)?,
            precision: precision.parse().map_err(raise)?,
            threads,
            memory: memory.map(str::parse).transpose().map_err(raise)?,
            checkpoint,
            ..TrainOptions::default()
        };
        let claim = Arc::new(self.claim(py)?);
        let held = Arc::clone(&claim);
        let cancel = options.cancel.clone();
        let (data, validation) = (Arc::clone(&data.0), validation.map(|set| Arc::clone(&set.0)));
        let (mut model, watched) = ((*self.current()).clone(), observer.is_some());
        let mut options = options;
        let work = move |events: crate::work::Events<(cellsparse_core::Model, TrainingSummary)>| {
            let _held = held;
            // One image is scaled by the whole that it is a part of, so all are scaled here.
            options.normalized = data.has_parts() || validation.as_ref().is_some_and(|set| set.has_parts());
            let how = model.normalization().trained_by(options.preset);
            let data = data.ready(options.normalized.then_some(how), &options.cancel)?;
            let validation =
                validation.as_ref().map(|set| set.ready(options.normalized.then_some(how), &options.cancel));
            let validation = validation.transpose()?;
            let mut observe = |progress: &_| if watched { events.send(progress) } else { ControlFlow::Continue };
            let summary = model.train(&data, validation.as_deref(), &options, &mut observe)?;
            Ok((model, summary))
        };
        let mut outcome = supervise(py, &cancel, work, |py, progress| match &observer {
            Some(observer) => observer::call(py, observer, progress),
            None => Ok(ControlFlow::Continue),
        })?;
        let mut summary = None;
        if let Some(Ok((model, said))) = outcome.result.take_if(|result| result.is_ok()) {
            self.replace(model);
            summary = Some(said);
        }
        drop(claim);
        match (outcome.raised.take(), summary) {
            (Some(raised), _) => Err(raised),
            (None, Some(summary)) => to_json(py, &summary),
            (None, None) => outcome.into_result(py).map(|_| String::new()),
        }
    }

    /// Segments one image; `tile` and the thresholds may be absent.
    #[pyo3(signature = (image, *, min_area, tile, prob_thresh, nms_thresh, flow_threshold, cellprob_threshold, diameter,
        augment, postprocess, pixel_size, rescale, device, precision, threads, memory))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        min_area: f32,
        tile: Option<usize>,
        prob_thresh: Option<f32>,
        nms_thresh: Option<f32>,
        flow_threshold: Option<f32>,
        cellprob_threshold: Option<f32>,
        diameter: Option<f32>,
        augment: bool,
        postprocess: Option<&str>,
        pixel_size: Option<[f64; 2]>,
        rescale: bool,
        device: &str,
        precision: &str,
        threads: Option<usize>,
        memory: Option<&str>,
    ) -> PyResult<(Bound<'py, PyArray2<i32>>, Objects<'py>, Vec<String>)> {
        let raise = |error: Error| exception(py, &error);
        let options = PredictOptions {
            prob_thresh,
            nms_thresh,
            flow_threshold,
            cellprob_threshold,
            diameter,
            augment,
            postprocess: postprocess.map(str::parse).transpose().map_err(raise)?,
            min_area,
            tile,
            pixel_size,
            rescale,
            device: device.parse().map_err(raise)?,
            precision: precision.parse().map_err(raise)?,
            threads,
            memory: memory.map(str::parse).transpose().map_err(raise)?,
            ..PredictOptions::default()
        };
        let (model, image) = (self.current(), arrays::image(image)?);
        let cancel = options.cancel.clone();
        let work = move |_| model.predict(&image, &options);
        let found = supervise(py, &cancel, work, |_, _| Ok(ControlFlow::Continue))?.into_result(py)?;
        Ok(in_python(py, found))
    }
}

/// The algorithm that finds left-out drawn cells best after short trainings, as JSON.
#[pyfunction]
#[pyo3(signature = (data, *, init, time_budget, seed, rescale, device, threads, memory))]
pub fn choose_algorithm(
    py: Python<'_>,
    data: &Dataset,
    init: &str,
    time_budget: Option<f64>,
    seed: u64,
    rescale: bool,
    device: &str,
    threads: Option<usize>,
    memory: Option<&str>,
) -> PyResult<String> {
    let raise = |error: Error| exception(py, &error);
    let options = TrainOptions {
        start: init.parse().map_err(raise)?,
        time_budget: time_budget.map(budget).transpose().map_err(raise)?,
        seed,
        rescale,
        device: device.parse().map_err(raise)?,
        threads,
        memory: memory.map(str::parse).transpose().map_err(raise)?,
        ..TrainOptions::default()
    };
    let (data, cancel) = (Arc::clone(&data.0), options.cancel.clone());
    let mut options = options;
    let work = move |_| {
        options.normalized = data.has_parts();
        let data = data.ready(options.normalized.then(Normalization::default), &options.cancel)?;
        cellsparse_core::model::choose_algorithm(&data, &options)
    };
    let choice = supervise(py, &cancel, work, |_, _| Ok(ControlFlow::Continue))?.into_result(py)?;
    to_json(py, &choice)
}

/// Turns a model of one program into one of another; returns what a user should know.
#[pyfunction]
pub fn convert(py: Python<'_>, source: PathBuf, target: PathBuf, config: Option<PathBuf>) -> PyResult<Vec<String>> {
    compute(py, move || cellsparse_core::model::convert(source, target, config.as_deref()))
}

/// The names of the starting weights in the library.
#[pyfunction]
pub fn starters() -> Vec<&'static str> {
    cellsparse_core::starters::names()
}

fn in_python(py: Python<'_>, found: Segmentation) -> (Bound<'_, PyArray2<i32>>, Objects<'_>, Vec<String>) {
    let polygon = |object: &Object| {
        let vertices = ndarray::Array2::from_shape_fn((object.polygon.len(), 2), |(i, axis)| object.polygon[i][axis]);
        vertices.into_pyarray(py)
    };
    let objects = &found.objects;
    let parts = (
        objects.iter().map(|object| object.id).collect(),
        objects.iter().map(polygon).collect(),
        objects.iter().map(|object| object.probability).collect(),
        objects.iter().map(|object| object.class).collect(),
    );
    (found.labels.into_pyarray(py), parts, found.notes)
}

/// A time in seconds.
fn budget(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Error::Config(format!("time_budget is {seconds}; give it in seconds, like 60")))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Config(error.to_string()))
}

fn to_json(py: Python<'_>, value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| exception(py, &Error::Internal(error.to_string())))
}
