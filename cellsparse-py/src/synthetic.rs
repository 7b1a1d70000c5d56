//! Drawn microscope fields.

use cellsparse_core::synthetic::{self, AnnotationOptions, FieldOptions, WorldOptions};
use cellsparse_core::{Error, Image};
use ndarray::{Array3, Axis};
use numpy::{Element, IntoPyArray, PyArray2};
use pyo3::prelude::*;

use crate::errors::exception;
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

/// Image and labels of one world; without `kinds`, any kind.
#[pyfunction]
#[pyo3(signature = (seed, size, kinds, channels))]
pub fn draw_world<'py>(
    py: Python<'py>,
    seed: u64,
    size: [usize; 2],
    kinds: Option<Vec<String>>,
    channels: &str,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyArray2<i32>>)> {
    let channels = channels.parse().map_err(|error| exception(py, &error))?;
    let world = compute(py, move || {
        let mut options = WorldOptions::default();
        options.size = size;
        options.channels = channels;
        if let Some(kinds) = kinds {
            options.kinds = kinds.iter().map(|kind| kind.parse()).collect::<Result<_, Error>>()?;
        }
        synthetic::draw_world(&options, seed)
    })?;
    let image = match world.image {
        Image::U8(pixels) => samples(py, pixels),
        Image::U16(pixels) => samples(py, pixels),
        Image::F32(pixels) => samples(py, pixels),
        _ => return Err(exception(py, &Error::Internal("an image of an unknown sample type".into()))),
    };
    Ok((image, world.labels.into_pyarray(py)))
}

/// `[H, W]` for one channel, `[H, W, C]` for more.
fn samples<T: Element>(py: Python<'_>, pixels: Array3<T>) -> Bound<'_, PyAny> {
    match pixels.dim().2 {
        1 => pixels.index_axis_move(Axis(2), 0).into_pyarray(py).into_any(),
        _ => pixels.into_pyarray(py).into_any(),
    }
}
