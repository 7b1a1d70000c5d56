//! Drawn microscope fields.

use cellsparse_core::synthetic::{self, AnnotationOptions, FieldOptions};
use cellsparse_core::{Error, Image};
use ndarray::Axis;
use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;

use crate::work::compute;

/// Image, true labels and annotation of one field.
type Drawn<'py> = (Bound<'py, PyArray2<u8>>, Bound<'py, PyArray2<i32>>, Bound<'py, PyArray2<i32>>);

#[pyfunction]
pub fn field<'py>(
    py: Python<'py>,
    seed: u64,
    shape: [usize; 2],
    density: f32,
    radius: f32,
    cells: usize,
    strokes: usize,
) -> PyResult<Drawn<'py>> {
    let (image, truth, annotation) = compute(py, move || {
        let options = FieldOptions { height: shape[0], width: shape[1], density, radius, ..FieldOptions::default() };
        let field = synthetic::draw_field(&options, seed)?;
        let options = AnnotationOptions { cells, strokes, ..AnnotationOptions::default() };
        let annotation = synthetic::annotate(&field, &options, seed);
        let Image::U8(pixels) = field.image else {
            return Err(Error::Internal("a drawn field is not an 8-bit image".into()));
        };
        Ok((pixels.index_axis_move(Axis(2), 0), field.truth, annotation))
    })?;
    Ok((image.into_pyarray(py), truth.into_pyarray(py), annotation.into_pyarray(py)))
}
