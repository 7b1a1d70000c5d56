//! Functions of label images, masks and image files.

use std::path::PathBuf;

use cellsparse_core::annotations::LabelEncoding;
use cellsparse_core::formats::annotation_files::AnnotationOptions;
use cellsparse_core::formats::geojson::{GeoJsonOptions, ObjectInfo, OutlineRule, geojson_string, to_geojson};
use cellsparse_core::geometry::distance;
use cellsparse_core::postprocess::{clean, watershed as flooding};
use cellsparse_core::raster::{self, Connectivity, RawLabels, ReadOptions, percentile_normalize};
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
    let outline: OutlineRule = outline.parse().map_err(|error| exception(py, &error))?;
    compute(py, move || {
        let known = objects.into_iter().map(|(id, probability, class)| (id, ObjectInfo { probability, class }));
        let options = GeoJsonOptions { outline, simplify, objects: known.collect(), ..GeoJsonOptions::default() };
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
    let mode: annotations::SparsifyMode = mode.parse().map_err(|error| exception(py, &error))?;
    let sparse = compute(py, move || {
        image.check()?;
        annotations::sparsify(&labels, image.to_f32().view(), k, mode, background)
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
    let clean = compute(py, move || {
        if min_area.is_nan() {
            return Err(Error::Config("min_area is not a number; give the smallest area in pixels".into()));
        }
        match literal {
            true => clean::remove_small_labels_as_reference(&mut labels, min_area),
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
    let image = arrays::volume(&image);
    Ok(compute(py, move || percentile_normalize(image.view(), pmin, pmax))?.into_pyarray(py))
}

/// `elevation` is an array of uint8, uint16, int32, float32 or float64.
#[pyfunction]
#[pyo3(signature = (elevation, markers, mask, connectivity))]
pub fn watershed<'py>(
    py: Python<'py>,
    elevation: &Bound<'_, PyAny>,
    markers: PyReadonlyArray2<'_, i32>,
    mask: Option<PyReadonlyArray2<'_, bool>>,
    connectivity: u8,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    macro_rules! flood {
        ($($sample:ty),*) => {$(
            if let Ok(elevation) = elevation.extract::<PyReadonlyArray2<'_, $sample>>() {
                let (elevation, markers) = (arrays::plane(&elevation), arrays::plane(&markers));
                let mask = mask.as_ref().map(arrays::plane);
                let flooded = compute(py, move || {
                    let mask = mask.as_ref().map(|mask| mask.view());
                    flooding::watershed(elevation.view(), markers.view(), mask, neighbours(connectivity)?)
                })?;
                return Ok(flooded.into_pyarray(py));
            }
        )*};
    }
    flood!(u8, u16, i32, f32, f64);
    Err(PyTypeError::new_err("the elevation map must be a 2-D array of uint8, uint16, int32, float32 or float64"))
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
    let mask = arrays::plane(&mask);
    Ok(compute(py, move || distance::distance_transform_edt_sampled(mask.view(), sampling))?.into_pyarray(py))
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
    let labels = arrays::plane(&labels);
    let rule = match min_area {
        Some(min_area) => ClassRule::Ellipse { center_ratio, min_area },
        None => ClassRule::Outline { center_ratio },
    };
    Ok(compute(py, move || divide(labels.view(), &rule))?.into_pyarray(py))
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
    Ok(compute(py, move || formats::overlay(&image, &labels, annotations.as_ref()))?.into_pyarray(py))
}

/// Pixels, micrometres per pixel `(y, x)` if known, and remarks.
type ReadImage<'py> = (Bound<'py, PyAny>, Option<(f64, f64)>, Vec<String>);

/// An image file as `[H, W]` or `[H, W, C]`, micrometres per pixel `(y, x)` if known, and remarks.
#[pyfunction]
#[pyo3(signature = (path, channels=None, plane=None, frame=None))]
pub fn read_image(
    py: Python<'_>,
    path: PathBuf,
    channels: Option<Vec<usize>>,
    plane: Option<usize>,
    frame: Option<usize>,
) -> PyResult<ReadImage<'_>> {
    fn object<'py, T: numpy::Element>(py: Python<'py>, pixels: ndarray::Array3<T>) -> Bound<'py, PyAny> {
        match pixels.dim().2 {
            1 => pixels.index_axis_move(Axis(2), 0).into_pyarray(py).into_any(),
            _ => pixels.into_pyarray(py).into_any(),
        }
    }
    let options = ReadOptions { channels, plane, frame, ..ReadOptions::default() };
    let file = compute(py, move || raster::read_image_with(path, &options))?;
    let pixels = match file.image {
        Image::U8(pixels) => object(py, pixels),
        Image::U16(pixels) => object(py, pixels),
        Image::F32(pixels) => object(py, pixels),
        _ => return Err(exception(py, &Error::Internal("an image of an unknown sample type".into()))),
    };
    Ok((pixels, file.pixel_size.map(|[y, x]| (y, x)), file.notes))
}

/// Planes, time points, and height and width of a pixel in micrometres, if known.
type ImageInfo = (usize, usize, Option<(f64, f64)>);

/// What the header of an image file tells.
#[pyfunction]
pub fn image_info(py: Python<'_>, path: PathBuf) -> PyResult<ImageInfo> {
    let header = compute(py, move || raster::read_image_header(path))?;
    Ok((header.planes, header.frames, header.pixel_size.map(|[y, x]| (y, x))))
}

/// A label file as int32; with an encoding it is checked as labels for training are.
#[pyfunction]
#[pyo3(signature = (path, encoding, plane=None, frame=None))]
pub fn read_labels<'py>(
    py: Python<'py>,
    path: PathBuf,
    encoding: Option<&str>,
    plane: Option<usize>,
    frame: Option<usize>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let options = ReadOptions { plane, frame, ..ReadOptions::default() };
    let encoding: Option<LabelEncoding> =
        encoding.map(str::parse).transpose().map_err(|error| exception(py, &error))?;
    let labels = compute(py, move || {
        let raw = raster::read_label_file_with(&path, &options)?;
        if let Some(encoding) = encoding {
            let parsed = SparseLabels::parse(raw, encoding).map_err(|error| error.in_file(&path))?;
            return Ok(parsed.labels().clone());
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

/// The annotations of one image as int32, and what was not used of the file.
#[pyfunction]
#[pyo3(signature = (path, shape, encoding, image, foreground, background, plane, frame))]
pub fn read_annotations<'py>(
    py: Python<'py>,
    path: PathBuf,
    shape: Option<(usize, usize)>,
    encoding: &str,
    image: Option<String>,
    foreground: Option<String>,
    background: Option<String>,
    plane: Option<usize>,
    frame: Option<usize>,
) -> PyResult<(Bound<'py, PyArray2<i32>>, Vec<String>)> {
    let encoding: LabelEncoding = encoding.parse().map_err(|error| exception(py, &error))?;
    let (labels, unused) = compute(py, move || {
        let options = AnnotationOptions { shape, image, foreground, background, plane, frame };
        let found = formats::annotation_files::read_annotations(&path, &options)?;
        let in_file = |error| match error {
            Error::Labels(reason) => Error::file(&path, reason),
            other => other,
        };
        let source = found.labels;
        let parsed = source.check().and_then(|()| SparseLabels::from_source(source, encoding)).map_err(in_file)?;
        if let Some((rows, columns)) = shape.filter(|shape| *shape != parsed.labels().dim()) {
            let (found_rows, found_columns) = parsed.labels().dim();
            return Err(Error::file(
                &path,
                format!("it has {found_rows} x {found_columns} pixels and {rows} x {columns} were expected"),
            ));
        }
        Ok((parsed.labels().clone(), found.unused))
    })?;
    Ok((labels.into_pyarray(py), unused))
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
    let (labels, stem) = (arrays::label_image(&labels), stem.to_owned());
    compute(py, move || match wire {
        true => raster::write_wire_labels(&folder, &stem, &labels),
        false => raster::write_labels(&folder, &stem, &labels),
    })
}
