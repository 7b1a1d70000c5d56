//! Masks from points and boxes.

use std::path::PathBuf;
use std::sync::Arc;

use cellsparse_core::budget::bytes_of;
use cellsparse_core::control::Flow;
use cellsparse_core::model::Device;
use cellsparse_core::raster::regions::Region;
use cellsparse_core::sam::{Embedding, EncodeOptions, Mask, Outliner, Outputs, Point, Prompt};
use cellsparse_core::{Budget, Error, Result};
use ndarray::{Array1, Array2, Array3};
use numpy::{IntoPyArray, PyArray1, PyArray3};
use pyo3::prelude::*;

use crate::arrays;
use crate::errors::exception;
use crate::work::{compute, supervise};

/// A network with its weights and what it saw last.
#[pyclass(frozen, module = "cellsparse._native")]
pub struct Sam(Arc<Outliner>);

/// What a network saw in an image.
#[pyclass(frozen, module = "cellsparse._native")]
pub struct SamEmbedding(Arc<Embedding>);

/// Points `(x, y, inside)` and a box `(x0, y0, x1, y1)` of one object.
type Asked = (Vec<(f64, f64, bool)>, Option<[f64; 4]>);

/// What is inside `[M, H, W]`, or logits in its place; scores `[M]`; logits of the network `[M, side, side]`.
type Found<'py> = (Bound<'py, PyAny>, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray3<f32>>);

#[pymethods]
impl Sam {
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, device: &str) -> PyResult<Self> {
        let device: Device = device.parse().map_err(|error| exception(py, &error))?;
        compute(py, move || {
            cellsparse_core::sam::Sam::load(path, device).map(|sam| Self(Arc::new(Outliner::new(sam, None))))
        })
    }

    fn kind(&self) -> String {
        self.0.sam().kind().to_string()
    }

    /// Images that were encoded so far.
    fn encoded(&self) -> u64 {
        self.0.encoded()
    }

    fn encode(&self, py: Python<'_>, image: &Bound<'_, PyAny>, memory: Option<&str>) -> PyResult<SamEmbedding> {
        let options = options(py, memory)?;
        let (image, cancel, sam) = (arrays::image(image)?, options.cancel.clone(), Arc::clone(&self.0));
        // On threads of the network, since a call may wait for one that encodes.
        let work = move |_| sam.embedding(&image, &options);
        let embedding = supervise(py, &cancel, work, |_, _| Ok(Flow::Continue))?.into_result(py)?;
        Ok(SamEmbedding(Arc::new(embedding)))
    }

    fn masks<'py>(
        &self,
        py: Python<'py>,
        embedding: &SamEmbedding,
        prompts: Vec<Asked>,
        outputs: &str,
        logits: bool,
        memory: Option<&str>,
    ) -> PyResult<Found<'py>> {
        let budget = options(py, memory)?.memory.unwrap_or_else(Budget::of_free_memory);
        let outputs = match outputs {
            "single" => Outputs::Single,
            "three" => Outputs::Three,
            _ => Outputs::Best,
        };
        let (sam, embedding) = (Arc::clone(&self.0), Arc::clone(&embedding.0));
        let prompts: Vec<Prompt> = prompts.into_iter().map(prompt).collect();
        let size = embedding.image_size();
        let [rows, columns] = size;
        let count = prompts.len() * if outputs == Outputs::Three { 3 } else { 1 };
        // All of them, and while one is made its logits twice.
        let bytes = bytes_of(&[count, rows, columns], if logits { 4 } else { 1 });
        let bytes = bytes.saturating_add(bytes_of(&[rows, columns], 8));
        budget
            .require(
                bytes,
                format_args!("masks of {columns} x {rows} pixels, {count} of them,"),
                "give fewer points and boxes at a time, or more memory",
            )
            .map_err(|error| exception(py, &error))?;
        let masks = compute(py, move || sam.masks(&embedding, &prompts, outputs, &EncodeOptions::default()))?;
        let scores: Array1<f32> = masks.iter().map(|mask| mask.score).collect();
        let side = masks.first().map_or(0, |mask| mask.low.nrows());
        let low = stacked(&masks, [side, side], |mask| Ok(mask.low.clone())).map_err(|error| exception(py, &error))?;
        let pixels = if logits {
            let of = move || stacked(&masks, size, Mask::logits);
            compute(py, of)?.into_pyarray(py).into_any()
        } else {
            let of = move || stacked(&masks, size, Mask::pixels);
            compute(py, of)?.into_pyarray(py).into_any()
        };
        Ok((pixels, scores.into_pyarray(py), low.into_pyarray(py)))
    }

    /// The part `top, left, height, width` of an image of `[rows, columns]` to look at, for a view in the same form.
    fn part(&self, size: [usize; 2], view: Option<[usize; 4]>, asked: Asked) -> [usize; 4] {
        let Region { top, left, height, width } = self.0.part(size, view.map(region), &prompt(asked));
        [top, left, height, width]
    }

    /// Score and runs of pixels `row, first, end` of the object, from the pixels of a part.
    fn outline(
        &self,
        py: Python<'_>,
        pixels: &Bound<'_, PyAny>,
        part: [usize; 4],
        size: [usize; 2],
        asked: Asked,
        memory: Option<&str>,
    ) -> PyResult<(f32, Vec<[u32; 3]>)> {
        let options = options(py, memory)?;
        let (pixels, cancel, sam) = (arrays::image(pixels)?, options.cancel.clone(), Arc::clone(&self.0));
        let prompt = prompt(asked);
        prompt.check(size).map_err(|error| exception(py, &error))?;
        let work = move |_| sam.outline(&pixels, region(part), &prompt, &options);
        let found = supervise(py, &cancel, work, |_, _| Ok(Flow::Continue))?.into_result(py)?;
        Ok((found.score, found.pixels))
    }
}

#[pymethods]
impl SamEmbedding {
    /// Rows and columns of the image.
    fn shape(&self) -> [usize; 2] {
        self.0.image_size()
    }
}

fn region([top, left, height, width]: [usize; 4]) -> Region {
    Region { top, left, height, width }
}

fn options(py: Python<'_>, memory: Option<&str>) -> PyResult<EncodeOptions> {
    let memory = memory.map(str::parse).transpose().map_err(|error| exception(py, &error))?;
    Ok(EncodeOptions { memory, ..EncodeOptions::default() })
}

fn prompt((points, rectangle): Asked) -> Prompt {
    let point = |(x, y, inside)| Point { x, y, inside };
    Prompt { points: points.into_iter().map(point).collect(), rectangle }
}

/// Something of every mask that is as large as the image.
fn stacked<T: Clone + Default>(
    masks: &[Mask],
    [rows, columns]: [usize; 2],
    of: impl Fn(&Mask) -> Result<Array2<T>>,
) -> Result<Array3<T>> {
    let mut values = cellsparse_core::budget::reserve(masks.len() * rows * columns, "the masks")?;
    for mask in masks {
        values.extend(of(mask)?);
    }
    Array3::from_shape_vec((masks.len(), rows, columns), values).map_err(|error| Error::Internal(error.to_string()))
}
