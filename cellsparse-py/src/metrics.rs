//! Scores of predicted objects.

use cellsparse_core::metrics::{self, Criterion};
use cellsparse_core::{Error, LabelImage, Result};
use numpy::PyReadonlyArray2;
use pyo3::prelude::*;

use crate::arrays;
use crate::errors::exception;
use crate::work::compute;

/// One result for every threshold, as a JSON array.
#[pyfunction]
pub fn matching(
    py: Python<'_>,
    y_true: PyReadonlyArray2<'_, i32>,
    y_pred: PyReadonlyArray2<'_, i32>,
    thresholds: Vec<f64>,
    criterion: &str,
    report_matches: bool,
) -> PyResult<String> {
    let (y_true, y_pred) = (arrays::label_image(&y_true), arrays::label_image(&y_pred));
    let criterion = criterion_of(criterion).map_err(|error| exception(py, &error))?;
    compute(py, move || {
        let one = |thresh: &f64| metrics::matching(&y_true, &y_pred, *thresh, criterion, report_matches);
        json(&thresholds.iter().map(one).collect::<Result<Vec<_>>>()?)
    })
}

/// One result for every threshold over all pairs, as a JSON array.
#[pyfunction]
pub fn matching_dataset(
    py: Python<'_>,
    y_true: Vec<PyReadonlyArray2<'_, i32>>,
    y_pred: Vec<PyReadonlyArray2<'_, i32>>,
    thresholds: Vec<f64>,
    criterion: &str,
    by_image: bool,
) -> PyResult<String> {
    let images = |arrays: &[PyReadonlyArray2<'_, i32>]| arrays.iter().map(arrays::label_image).collect::<Vec<_>>();
    let (y_true, y_pred) = (images(&y_true), images(&y_pred));
    let criterion = criterion_of(criterion).map_err(|error| exception(py, &error))?;
    compute(py, move || {
        let pairs: Vec<(&LabelImage, &LabelImage)> = y_true.iter().zip(&y_pred).collect();
        json(&metrics::matching_dataset(&pairs, &thresholds, criterion, by_image)?)
    })
}

fn criterion_of(name: &str) -> Result<Criterion> {
    match name {
        "iou" => Ok(Criterion::Iou),
        "iot" => Ok(Criterion::Iot),
        "iop" => Ok(Criterion::Iop),
        other => Err(Error::Config(format!("unknown criterion '{other}'; the criteria are iou, iot and iop"))),
    }
}

fn json(results: &[metrics::Matching]) -> Result<String> {
    serde_json::to_string(results).map_err(|error| Error::Internal(error.to_string()))
}
