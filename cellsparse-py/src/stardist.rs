//! Targets and post-processing of StarDist.

use cellsparse_core::postprocess::nms::non_maximum_suppression_dense;
use cellsparse_core::postprocess::stars;
use cellsparse_core::targets::stardist;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;

use crate::arrays;
use crate::work::compute;

#[pyfunction]
pub fn edt_prob<'py>(py: Python<'py>, labels: PyReadonlyArray2<'_, i32>) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let labels = arrays::plane(&labels);
    Ok(compute(py, move || Ok(stardist::edt_prob(labels.view())))?.into_pyarray(py))
}

#[pyfunction]
pub fn star_dist<'py>(
    py: Python<'py>,
    labels: PyReadonlyArray2<'_, i32>,
    n_rays: usize,
    grid: [usize; 2],
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let labels = arrays::plane(&labels);
    Ok(compute(py, move || stardist::star_dist(labels.view(), n_rays, grid))?.into_pyarray(py))
}

/// Points `[n, 2]`, scores and distances of the survivors.
type Survivors<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray2<f32>>);

#[pyfunction]
pub fn non_maximum_suppression<'py>(
    py: Python<'py>,
    dist: PyReadonlyArray3<'_, f32>,
    prob: PyReadonlyArray2<'_, f32>,
    grid: [usize; 2],
    border: [[usize; 2]; 2],
    prob_thresh: f32,
    nms_thresh: f32,
) -> PyResult<Survivors<'py>> {
    let (dist, prob) = (arrays::volume(&dist), arrays::plane(&prob));
    let found = compute(py, move || {
        non_maximum_suppression_dense(prob.view(), dist.view(), grid, border, prob_thresh, nms_thresh)
    })?;
    let points = &found.points;
    let points = ndarray::Array2::from_shape_fn((points.len(), 2), |(i, axis)| i64::from(points[i][axis]));
    Ok((points.into_pyarray(py), found.prob.into_pyarray(py), found.dist.into_pyarray(py)))
}

#[pyfunction]
pub fn dist_to_coord<'py>(
    py: Python<'py>,
    dist: PyReadonlyArray2<'_, f32>,
    points: PyReadonlyArray2<'_, f64>,
    scale: [f64; 2],
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let (dist, points) = (arrays::plane(&dist), pairs(&points));
    Ok(compute(py, move || stars::dist_to_coord(dist.view(), &points, scale))?.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (dist, points, shape, prob, scale))]
pub fn polygons_to_label<'py>(
    py: Python<'py>,
    dist: PyReadonlyArray2<'_, f32>,
    points: PyReadonlyArray2<'_, f64>,
    shape: [usize; 2],
    prob: Option<Vec<f32>>,
    scale: [f64; 2],
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let (dist, points) = (arrays::plane(&dist), pairs(&points));
    let drawn = compute(py, move || stars::polygons_to_label(dist.view(), &points, shape, prob.as_deref(), scale))?;
    Ok(drawn.into_pyarray(py))
}

/// Rows `[y, x]` of an array that has two columns.
fn pairs(points: &PyReadonlyArray2<'_, f64>) -> Vec<[f64; 2]> {
    points.as_array().rows().into_iter().map(|row| [0, 1].map(|axis| row.get(axis).copied().unwrap_or(0.0))).collect()
}
