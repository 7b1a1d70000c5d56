//! Label images in the forms that others use: tables of measurements, regions of ImageJ, OME-TIFF.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cellsparse_core::formats::features::{Features, Values, columns};
use cellsparse_core::formats::geojson::ObjectInfo;
use cellsparse_core::formats::{imagej_roi, write_ome_tiff};
use cellsparse_core::geometry::measure::{MeasureOptions, measure as measure_objects};
use cellsparse_core::geometry::{exact_outlines, simplify_outline};
use numpy::{IntoPyArray, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays;
use crate::work::compute;

/// What is known of an object: its id, its probability, the name of its class.
type Known = (i32, Option<f32>, Option<String>);

fn infos(objects: Vec<Known>) -> BTreeMap<i32, ObjectInfo> {
    objects.into_iter().map(|(id, probability, class)| (id, ObjectInfo { probability, class })).collect()
}

/// Columns by name, each an array or a list of texts.
#[pyfunction]
#[pyo3(signature = (labels, image, objects, pixel_size))]
pub fn measure<'py>(
    py: Python<'py>,
    labels: PyReadonlyArray2<'_, i32>,
    image: Option<&Bound<'_, PyAny>>,
    objects: Vec<Known>,
    pixel_size: Option<[f64; 2]>,
) -> PyResult<Bound<'py, PyDict>> {
    let (labels, image) = (arrays::label_image(&labels), image.map(arrays::image).transpose()?);
    let table = compute(py, move || {
        let options = MeasureOptions { image: image.as_ref(), pixel_size };
        let mut infos = infos(objects);
        let features: Vec<Features> = measure_objects(&labels, &options)?
            .into_iter()
            .map(|one| Features { info: infos.remove(&one.label).unwrap_or_default(), measurements: one })
            .collect();
        let channels = image.as_ref().map_or(0, |image| image.channels());
        Ok(columns(&features, channels, pixel_size.is_some()))
    })?;
    let columns = PyDict::new(py);
    for column in table {
        match column.values {
            Values::Whole(values) => columns.set_item(column.name, values.into_pyarray(py))?,
            Values::Real(values) => columns.set_item(column.name, values.into_pyarray(py))?,
            Values::Truth(values) => columns.set_item(column.name, values.into_pyarray(py))?,
            Values::Text(values) => columns.set_item(column.name, values)?,
        }
    }
    Ok(columns)
}

#[pyfunction]
#[pyo3(signature = (path, labels, objects, simplify))]
pub fn write_rois(
    py: Python<'_>,
    path: PathBuf,
    labels: PyReadonlyArray2<'_, i32>,
    objects: Vec<Known>,
    simplify: f64,
) -> PyResult<()> {
    let labels = arrays::label_image(&labels);
    compute(py, move || {
        let infos = infos(objects);
        let outlines: Vec<_> =
            exact_outlines(&labels)?.iter().map(|outline| simplify_outline(outline, simplify)).collect();
        imagej_roi::write_rois(path, &outlines, |id| infos.get(&id).cloned().unwrap_or_default())
    })
}

#[pyfunction]
#[pyo3(signature = (path, name, labels, pixel_size))]
pub fn write_ome_labels(
    py: Python<'_>,
    path: PathBuf,
    name: &str,
    labels: PyReadonlyArray2<'_, i32>,
    pixel_size: Option<[f64; 2]>,
) -> PyResult<()> {
    let labels = arrays::label_image(&labels);
    {
        let name = name.to_owned();
        compute(py, move || write_ome_tiff(path, &name, &labels, pixel_size))
    }
}
