//! Targets and post-processing of Cellpose.

use cellsparse_core::postprocess::flow_following::{self, FlowField};
use cellsparse_core::postprocess::mask_cleaning;
use cellsparse_core::postprocess::masks::{self, FlowRule, MaskOptions};
use cellsparse_core::targets::cellpose;
use ndarray::{Array2, Array3};
use numpy::{IntoPyArray, PyArray2, PyArray3, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;

use crate::arrays;
use crate::work::compute;

#[pyfunction]
pub fn masks_to_flows<'py>(py: Python<'py>, masks: PyReadonlyArray2<'_, i32>) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let masks = arrays::plane(&masks);
    Ok(compute(py, move || cellpose::masks_to_flows(masks.view(), FlowRule::Reference))?.into_pyarray(py))
}

/// Where every pixel ends; `flows` are in pixels per step.
#[pyfunction]
pub fn follow_flows<'py>(
    py: Python<'py>,
    flows: PyReadonlyArray3<'_, f32>,
    steps: usize,
    interpolate: bool,
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let flows = arrays::volume(&flows);
    let (_, rows, columns) = flows.dim();
    let ends = compute(py, move || {
        // A field takes the flows of a network, which are five times as long as a step.
        let scaled = flows.mapv_into(|flow| 5.0 * flow);
        let field = FlowField::new(scaled.view(), Array2::from_elem((rows, columns), true).view())?;
        let pixels: Vec<[usize; 2]> = (0..rows).flat_map(|y| (0..columns).map(move |x| [y, x])).collect();
        let ends = flow_following::follow_flows(&field, &pixels, steps, interpolate)?;
        Ok(Array3::from_shape_fn((2, rows, columns), |(axis, y, x)| ends[y * columns + x][axis]))
    })?;
    Ok(ends.into_pyarray(py))
}

#[pyfunction]
pub fn compute_masks<'py>(
    py: Python<'py>,
    flows: PyReadonlyArray3<'_, f32>,
    cellprob: PyReadonlyArray2<'_, f32>,
    steps: usize,
    cellprob_threshold: f32,
    flow_threshold: f32,
    min_size: usize,
    interpolate: bool,
    max_size_fraction: f64,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let options = MaskOptions {
        steps,
        cellprob_threshold,
        flow_threshold,
        min_size,
        max_size_fraction,
        interpolate,
        rule: FlowRule::Reference,
    };
    let (flows, cellprob) = (arrays::volume(&flows), arrays::plane(&cellprob));
    Ok(compute(py, move || masks::compute_masks(flows.view(), cellprob.view(), &options))?.into_pyarray(py))
}

#[pyfunction]
pub fn fill_holes_and_remove_small_masks<'py>(
    py: Python<'py>,
    masks: PyReadonlyArray2<'_, i32>,
    min_size: usize,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let masks = arrays::plane(&masks);
    Ok(compute(py, move || mask_cleaning::fill_holes_and_remove_small_masks(masks.view(), min_size))?.into_pyarray(py))
}
