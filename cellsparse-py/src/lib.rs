//! `cellsparse._native`: the part of the Python package that is compiled.
//!
//! Nothing is decided here. Functions take arrays of one dtype each, in native byte order, aligned, with strides of whole
//! elements; the modules written in Python bring what users give into that form and document what comes out. Every call
//! that may take long lets other Python threads run, errors become exceptions of `cellsparse`, and panics become
//! `InternalError`.

#![allow(missing_docs)] // what is public here is documented in Python

mod arrays;
mod cellpose;
mod dataset;
mod ending;
mod errors;
mod labels;
mod large;
mod metrics;
mod model;
mod observer;
mod results;
#[cfg(feature = "sam")]
mod sam;
mod stardist;
mod synthetic;
mod work;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::cellpose::{compute_masks, fill_holes_and_remove_small_masks, follow_flows, masks_to_flows};
    #[pymodule_export]
    use super::dataset::{Dataset, is_large};
    #[pymodule_export]
    use super::labels::{
        class_labels, distance_transform_edt, geojson, image_info, normalize, overlay, read_annotations, read_image,
        read_labels, remove_small_labels, sparsify, watershed, write_labels,
    };
    #[pymodule_export]
    use super::large::{large_blocks, large_keep, large_plan, predict_large};
    #[pymodule_export]
    use super::metrics::{matching, matching_dataset};
    #[pymodule_export]
    use super::model::{Model, choose_algorithm, convert, starters};
    #[pymodule_export]
    use super::results::{measure, write_ome_labels, write_rois};
    #[cfg(feature = "sam")]
    #[pymodule_export]
    use super::sam::{Sam, SamEmbedding};
    #[pymodule_export]
    use super::stardist::{dist_to_coord, edt_prob, non_maximum_suppression, polygons_to_label, star_dist};
    #[pymodule_export]
    use super::synthetic::{draw_world, field};
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::ending::listen(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
