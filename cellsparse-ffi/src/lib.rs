//! The C library of cellsparse: everything a host needs to train on sparse labels and to predict, behind one header.
//!
//! `include/cellsparse.h` is generated from this crate and is its documentation; `docs/c.md` leads from nothing to a result.
//! What holds at the border:
//!
//! - every function catches panics and returns a status code; the message is kept for the calling thread;
//! - handles are tokens that are looked up, never addresses that are followed, so a wrong one is an error and no crash;
//! - memory of the caller is read and written in `pointers` only, after NULL and size checks.

// The contract of all functions is one: pointers are NULL or point to as many values as their documentation says.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod boundary;
mod dataset;
mod handles;
mod large;
mod library;
mod metrics;
mod model;
mod options;
mod outlines;
mod pointers;
mod polygons;
mod sam;
mod segmentation;
mod status;
mod train;
mod views;

pub use cellsparse_core::Reason;

#[cfg(debug_assertions)]
pub use self::boundary::cellsparse_test_panic;
pub use self::boundary::{cellsparse_last_error_message, last_failure};
pub use self::dataset::*;
pub use self::large::*;
pub use self::library::*;
pub use self::metrics::{cellsparse_matching, cellsparse_matching_dataset, cellsparse_scores};
pub use self::model::*;
pub use self::outlines::*;
pub use self::pointers::cellsparse_string_free;
pub use self::polygons::{cellsparse_polygon, cellsparse_polygon_kind, cellsparse_polygons_to_labels};
pub use self::sam::*;
pub use self::segmentation::*;
pub use self::status::cellsparse_status;
pub use self::train::*;
pub use self::views::{cellsparse_dtype, cellsparse_encoding, cellsparse_image, cellsparse_labels};
