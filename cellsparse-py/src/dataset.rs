//! Images with their annotations.

use std::collections::BTreeMap;
use std::sync::Arc;

use cellsparse_core::annotations::{LabelEncoding, SparseLabels, advice};
use cellsparse_core::raster::RawLabels;
use numpy::PyReadonlyArray2;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays;
use crate::errors::exception;
use crate::work::compute;

/// Images and sparse labels that fit each other.
#[pyclass(frozen, module = "cellsparse._native")]
pub struct Dataset(pub Arc<cellsparse_core::Dataset>);

#[pymethods]
impl Dataset {
    /// `encoding` is `signed`, `dense` or `wire`; `classes` are those of the objects of every image.
    #[new]
    #[pyo3(signature = (images, labels, encoding, classes))]
    fn new(
        py: Python<'_>,
        images: Vec<Bound<'_, PyAny>>,
        labels: Vec<Bound<'_, PyAny>>,
        encoding: Option<&str>,
        classes: Option<Vec<BTreeMap<i32, Option<u32>>>>,
    ) -> PyResult<Self> {
        let images = images.iter().map(arrays::image).collect::<PyResult<Vec<_>>>()?;
        let labels = labels.iter().map(raw_labels).collect::<PyResult<Vec<_>>>()?;
        let encoding: Option<LabelEncoding> =
            encoding.map(str::parse).transpose().map_err(|error| exception(py, &error))?;
        let made = compute(py, || {
            let parse = |(place, raw): (usize, RawLabels)| {
                let usual = match raw {
                    RawLabels::Signed(_) => LabelEncoding::Signed,
                    _ => LabelEncoding::Dense,
                };
                let labels = SparseLabels::parse(raw, encoding.unwrap_or(usual));
                let labels = match classes.as_ref().and_then(|classes| classes.get(place)) {
                    Some(classes) => labels.and_then(|labels| labels.with_classes(classes.clone())),
                    None => labels,
                };
                labels.map_err(|error| at(place, error))
            };
            let labels = labels.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?;
            cellsparse_core::Dataset::new(images, labels)
        })?;
        Ok(Self(Arc::new(made)))
    }

    /// Hints about the annotations, each once.
    fn advice(&self) -> Vec<String> {
        let mut hints = Vec::new();
        for hint in self.0.labels().iter().flat_map(advice) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

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

/// Adds the place of the labels in the list, counted from 0.
fn at(place: usize, error: cellsparse_core::Error) -> cellsparse_core::Error {
    match error {
        cellsparse_core::Error::Labels(reason) => {
            cellsparse_core::Error::Labels(format!("label image {place}: {reason}"))
        }
        other => other,
    }
}
