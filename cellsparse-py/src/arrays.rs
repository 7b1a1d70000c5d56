//! NumPy arrays as arrays of the library, and back.

use cellsparse_core::{Image, LabelImage};
use ndarray::{Array2, Array3};
use numpy::{Element, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// An image `[H, W, C]` of one of the three sample types, copied, so that the caller may change its array meanwhile.
pub fn image(object: &Bound<'_, PyAny>) -> PyResult<Image> {
    if let Some(pixels) = samples::<u8>(object) {
        return Ok(Image::U8(pixels));
    }
    if let Some(pixels) = samples::<u16>(object) {
        return Ok(Image::U16(pixels));
    }
    match samples::<f32>(object) {
        Some(pixels) => Ok(Image::F32(pixels)),
        None => Err(PyTypeError::new_err("an image must be a 3-D array of uint8, uint16 or float32")),
    }
}

fn samples<T: Element + Copy>(object: &Bound<'_, PyAny>) -> Option<Array3<T>> {
    let array = object.extract::<PyReadonlyArray3<'_, T>>().ok()?;
    Some(volume(&array))
}

/// A copy of a label image.
pub fn label_image(array: &PyReadonlyArray2<'_, i32>) -> LabelImage {
    plane(array)
}

/// A copy of an array, so that the caller may change its own while the interpreter goes on.
pub fn plane<T: Element + Copy>(array: &PyReadonlyArray2<'_, T>) -> Array2<T> {
    array.as_array().as_standard_layout().into_owned()
}

/// As [`plane`], of three axes.
pub fn volume<T: Element + Copy>(array: &PyReadonlyArray3<'_, T>) -> Array3<T> {
    array.as_array().as_standard_layout().into_owned()
}
