//! Images with their annotations.

use std::collections::BTreeMap;
use std::sync::Arc;

use cellsparse_core::annotations::{EncodingChoice, LabelEncoding, LabelSource, SparseLabels, advice, choose_encoding};
use cellsparse_core::pseudo_labels::doubtful_background;
use cellsparse_core::raster::RawLabels;
use cellsparse_core::{Error, ErrorKind};
use numpy::PyReadonlyArray2;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays;
use crate::errors::{exception, in_words_of_python};
use crate::work::compute;

/// Images and sparse labels that fit each other, and how the labels were read.
#[pyclass(frozen, module = "cellsparse._native")]
pub struct Dataset(pub Arc<cellsparse_core::Dataset>, EncodingChoice);

#[pymethods]
impl Dataset {
    /// `encoding` is `auto`, `signed`, `dense`, `wire` or `cells`; `classes` are those of the objects of every image.
    #[new]
    #[pyo3(signature = (images, labels, encoding, classes, pixel_sizes))]
    fn new(
        py: Python<'_>,
        images: Vec<Bound<'_, PyAny>>,
        labels: Vec<Bound<'_, PyAny>>,
        encoding: &str,
        classes: Option<Vec<BTreeMap<i32, Option<u32>>>>,
        pixel_sizes: Option<Vec<Option<[f64; 2]>>>,
    ) -> PyResult<Self> {
        let images = images.iter().map(arrays::image).collect::<PyResult<Vec<_>>>()?;
        let labels = labels.iter().map(raw_labels).collect::<PyResult<Vec<_>>>()?;
        let mut encoding: LabelEncoding = encoding.parse().map_err(|error| exception(py, &error))?;
        // The labels of this package are signed: below 0 unlabelled, 0 background.
        let signed = labels.iter().all(|labels| matches!(labels, RawLabels::Signed(_)));
        if encoding == LabelEncoding::Auto && signed {
            encoding = LabelEncoding::Signed;
        }
        let (made, choice) = compute(py, move || {
            let sources: Vec<LabelSource> = labels.into_iter().map(LabelSource::Values).collect();
            // Where their numbers differ, that is what is wrong.
            if sources.len() == images.len() {
                for (place, (source, image)) in sources.iter().zip(&images).enumerate() {
                    source.check_fits(image).map_err(|error| at(place, error))?;
                }
            }
            let choice = choose_encoding(&sources, encoding)?;
            let parse = |(place, source): (usize, LabelSource)| {
                let labels = SparseLabels::from_source(source, choice.encoding);
                let labels = match classes.as_ref().and_then(|classes| classes.get(place)) {
                    Some(classes) => labels.and_then(|labels| labels.with_classes(classes.clone())),
                    None => labels,
                };
                labels.map_err(|error| at(place, error))
            };
            let labels = sources.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?;
            let data = cellsparse_core::Dataset::new(images, labels)?;
            Ok((if let Some(sizes) = pixel_sizes { data.with_pixel_sizes(sizes)? } else { data }, choice))
        })?;
        Ok(Self(Arc::new(made), choice))
    }

    /// Hints about the annotations, each once.
    fn advice(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let data = Arc::clone(&self.0);
        compute(py, move || {
            let doubts = data.images().iter().zip(data.labels()).take(LOOKED_AT);
            let doubts =
                doubts.filter_map(|(image, labels)| doubtful_background(image.to_f32().view(), labels.labels()));
            let mut hints = Vec::new();
            for hint in doubts.chain(data.labels().iter().flat_map(advice)).map(|hint| in_words_of_python(&hint)) {
                if !hints.contains(&hint) {
                    hints.push(hint);
                }
            }
            Ok(hints)
        })
    }

    /// The encoding that the labels were read in, what it means, and why it was taken.
    fn encoding(&self) -> (String, &'static str, String) {
        (self.1.encoding.to_string(), self.1.encoding.meaning(), self.1.reason.clone())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// Images whose declared background is compared with their drawn cells, at most.
const LOOKED_AT: usize = 8;

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
fn at(place: usize, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Labels => error.map_message(|message| format!("label image {place}: {message}")),
        _ => error,
    }
}
