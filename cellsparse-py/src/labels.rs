//! Functions of label images, masks and image files.

use std::path::PathBuf;

use cellsparse_core::annotations::LabelEncoding;
use cellsparse_core::formats::geojson::{GeoJsonOptions, ObjectInfo, geojson_string, to_geojson};
use cellsparse_core::geometry::distance;
use cellsparse_core::postprocess::{clean, watershed as flooding};
use cellsparse_core::raster::{self, Connectivity, RawLabels, percentile_normalize};
use cellsparse_core::targets::elephant::{ClassRule, class_labels as divide};
use cellsparse_core::{Error, Image, Result, SparseLabels, annotations, formats};
use ndarray::Axis;
use numpy::{IntoPyArray, PyArray2, PyArray3, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays;
use crate::errors::exception;
use crate::work::compute;

/// What is known of an object: its id, its probability, the name of its class.
type Known = (i32, Option<f32>, Option<String>);

/// A JSON array of features.
#[pyfunction]
#[pyo3(signature = (labels, simplify, outline, objects))]
pub fn geojson(
    py: Python<'_>,
    labels: PyReadonlyArray2<'_, i32>,
    simplify: Option<f64>,
    outline: &str,
    objects: Vec<Known>,
) -> PyResult<String> {
    let labels = arrays::label_image(&labels);
    compute(py, || {
        let known = objects.into_iter().map(|(id, probability, class)| (id, ObjectInfo { probability, class }));
        let options =
            GeoJsonOptions { outline: outline.parse()?, simplify, objects: known.collect(), ..Default::default() };
        geojson_string(&to_geojson(&labels, &options)?)
    })
}

#[pyfunction]
pub fn sparsify<'py>(
    py: Python<'py>,
    labels: PyReadonlyArray2<'_, i32>,
    image: &Bound<'_, PyAny>,
    k: usize,
    mode: &str,
    background: bool,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let (labels, image) = (arrays::label_image(&labels), arrays::image(image)?);
    let sparse = compute(py, || {
        image.check()?;
        annotations::sparsify(&labels, image.to_f32().view(), k, mode.parse()?, background)
    })?;
    Ok(sparse.into_pyarray(py))
}

#[pyfunction]
pub fn remove_small_labels<'py>(
    py: Python<'py>,
    labels: PyReadonlyArray2<'_, i32>,
    min_area: f32,
    literal: bool,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let mut labels = arrays::label_image(&labels);
    let clean = compute(py, || {
        if min_area.is_nan() {
            return Err(Error::Config("min_area is not a number; give the smallest area in pixels".into()));
        }
        match literal {
            true => clean::remove_small_labels_literal(&mut labels, min_area),
            false => clean::remove_small_labels(&mut labels, min_area),
        }
        Ok(labels)
    })?;
    Ok(clean.into_pyarray(py))
}

#[pyfunction]
pub fn normalize<'py>(
    py: Python<'py>,
    image: PyReadonlyArray3<'_, f32>,
    pmin: f64,
    pmax: f64,
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let image = image.as_array();
    Ok(compute(py, || percentile_normalize(image, pmin, pmax))?.into_pyarray(py))
}

/// `landscape` is an array of uint8, uint16, int32, float32 or float64.
#[pyfunction]
#[pyo3(signature = (landscape, markers, mask, connectivity))]
pub fn watershed<'py>(
    py: Python<'py>,
    landscape: &Bound<'_, PyAny>,
    markers: PyReadonlyArray2<'_, i32>,
    mask: Option<PyReadonlyArray2<'_, bool>>,
    connectivity: u8,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    macro_rules! flood {
        ($($sample:ty),*) => {$(
            if let Ok(landscape) = landscape.extract::<PyReadonlyArray2<'_, $sample>>() {
                let (landscape, markers) = (landscape.as_array(), markers.as_array());
                let mask = mask.as_ref().map(|mask| mask.as_array());
                let flooded = compute(py, || {
                    flooding::watershed(landscape, markers, mask, neighbours(connectivity)?)
                })?;
                return Ok(flooded.into_pyarray(py));
            }
        )*};
    }
    flood!(u8, u16, i32, f32, f64);
    Err(PyTypeError::new_err("the landscape must be a 2-D array of uint8, uint16, int32, float32 or float64"))
}

fn neighbours(connectivity: u8) -> Result<Connectivity> {
    match connectivity {
        1 => Ok(Connectivity::Four),
        2 => Ok(Connectivity::Eight),
        other => Err(Error::Config(format!(
            "connectivity is {other}; it must be 1 (4 neighbours of a pixel) or 2 (8 neighbours)"
        ))),
    }
}

#[pyfunction]
pub fn distance_transform_edt<'py>(
    py: Python<'py>,
    mask: PyReadonlyArray2<'_, bool>,
    sampling: [f64; 2],
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let mask = mask.as_array();
    Ok(compute(py, || distance::distance_transform_edt_sampled(mask, sampling))?.into_pyarray(py))
}

/// Without `min_area` the drawn outlines are divided, with it ellipses are.
#[pyfunction]
#[pyo3(signature = (labels, center_ratio, min_area))]
pub fn class_labels<'py>(
    py: Python<'py>,
    labels: PyReadonlyArray2<'_, i32>,
    center_ratio: f64,
    min_area: Option<usize>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let labels = labels.as_array();
    let rule = match min_area {
        Some(min_area) => ClassRule::Ellipse { center_ratio, min_area },
        None => ClassRule::Outline { center_ratio },
    };
    Ok(compute(py, || divide(labels, &rule))?.into_pyarray(py))
}

/// An RGB picture, possibly enlarged by a whole factor.
#[pyfunction]
#[pyo3(signature = (image, labels, annotations))]
pub fn overlay<'py>(
    py: Python<'py>,
    image: &Bound<'_, PyAny>,
    labels: PyReadonlyArray2<'_, i32>,
    annotations: Option<PyReadonlyArray2<'_, i32>>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let (image, labels) = (arrays::image(image)?, arrays::label_image(&labels));
    let annotations = annotations.as_ref().map(arrays::label_image);
    Ok(compute(py, || formats::overlay(&image, &labels, annotations.as_ref()))?.into_pyarray(py))
}

/// An image file as `[H, W]` or `[H, W, C]`.
#[pyfunction]
pub fn read_image(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    fn object<'py, T: numpy::Element>(py: Python<'py>, pixels: ndarray::Array3<T>) -> Bound<'py, PyAny> {
        match pixels.dim().2 {
            1 => pixels.index_axis_move(Axis(2), 0).into_pyarray(py).into_any(),
            _ => pixels.into_pyarray(py).into_any(),
        }
    }
    match compute(py, || raster::read_image(path))? {
        Image::U8(pixels) => Ok(object(py, pixels)),
        Image::U16(pixels) => Ok(object(py, pixels)),
        Image::F32(pixels) => Ok(object(py, pixels)),
        _ => Err(exception(py, &Error::Internal("an image of an unknown sample type".into()))),
    }
}

/// A label file as int32; with an encoding it is checked as labels for training are.
#[pyfunction]
#[pyo3(signature = (path, encoding))]
pub fn read_labels<'py>(py: Python<'py>, path: PathBuf, encoding: Option<&str>) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let labels = compute(py, || {
        let raw = raster::read_label_file(&path)?;
        if let Some(encoding) = encoding {
            let encoding: LabelEncoding = encoding.parse()?;
            return match SparseLabels::parse(raw, encoding) {
                Err(Error::Labels(reason)) => Err(Error::file(&path, reason)),
                parsed => Ok(parsed?.labels().clone()),
            };
        }
        match raw {
            RawLabels::Signed(values) => Ok(values),
            RawLabels::Unsigned(values) => match values.iter().find(|value| i32::try_from(**value).is_err()) {
                Some(value) => {
                    Err(Error::file(&path, format!("the label {value} is too large; the most is {}", i32::MAX)))
                }
                None => Ok(values.mapv(|value| value as i32)),
            },
            _ => Err(Error::file(&path, "label values of this type are not supported")),
        }
    })?;
    Ok(labels.into_pyarray(py))
}

/// Writes `folder/stem.png` or `.tif` and returns its path.
#[pyfunction]
pub fn write_labels(
    py: Python<'_>,
    folder: PathBuf,
    stem: &str,
    labels: PyReadonlyArray2<'_, i32>,
    wire: bool,
) -> PyResult<PathBuf> {
    let labels = arrays::label_image(&labels);
    compute(py, || match wire {
        true => raster::write_wire_labels(&folder, stem, &labels),
        false => raster::write_labels(&folder, stem, &labels),
    })
}
