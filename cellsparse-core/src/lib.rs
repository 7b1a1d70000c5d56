//! Cell segmentation networks trained from sparse labels: a handful of drawn cells and a few background strokes.
//!
//! Pixels without a label are unknown, not background, so only the cells that one is sure of have to be drawn. A
//! [`Model`] is built from a typed configuration, trained on a [`Dataset`] of images and [`SparseLabels`], and turns an
//! [`Image`] into a [`Segmentation`]: a label image and its objects. The networks are StarDist
//! ([`StarDistConfig`]), Cellpose ([`networks::CellposeConfig`]) and ELEPHANT ([`networks::ElephantConfig`]); they are
//! trained and used alike.
//!
//! ```no_run
//! use cellsparse_core::annotations::LabelEncoding;
//! use cellsparse_core::raster::{read_image, read_label_file};
//! use cellsparse_core::{ControlFlow, Dataset, Model, PredictOptions, SparseLabels, StarDistConfig, TrainOptions};
//!
//! # fn main() -> cellsparse_core::Result<()> {
//! // Label files in the wire encoding: 0 unlabelled, 1 background, 2 and up cells.
//! let labels = SparseLabels::parse(read_label_file("sparse/a.png")?, LabelEncoding::Wire)?;
//! let data = Dataset::new(vec![read_image("images/a.png")?], vec![labels])?;
//!
//! let mut model = Model::stardist(StarDistConfig::default(), 0)?; // or Model::cellpose, Model::elephant
//! model.train(&data, None, &TrainOptions::default(), &mut |progress| {
//!     eprintln!("{} / {}: loss {}", progress.step, progress.total_steps, progress.loss);
//!     ControlFlow::Continue
//! })?;
//! model.save("nuclei.safetensors")?;
//!
//! let found = model.predict(&read_image("images/b.png")?, &PredictOptions::default())?;
//! println!("{} objects", found.objects.len());
//! # Ok(())
//! # }
//! ```
//!
//! # Conventions
//!
//! - Axes are row, column (`y, x`), pixel centres lie at integers; images are `[H, W, C]` with the channel last.
//! - Label images ([`LabelImage`]) hold `i32`: below 0 unlabelled, 0 background, 1 and up object ids, which need not be
//!   consecutive.
//! - The same seed, data and instruction set give the same weights, whatever the number of threads.
//! - Every fallible call returns [`Result`]; [`Error`] says what was found, what was expected and what to do.
//! - Nothing reaches for the network, and nothing is written but the files that the caller names.
//! - Options and configurations are written as `TrainOptions { steps: Some(200), ..Default::default() }`, results are read by
//!   field: a later version may add fields to both, and variants to most enums, without breaking such callers.
//!
//! # Parts
//!
//! Most programs need only what is re-exported here. The modules can be used alone: [`raster`] reads and writes images,
//! [`annotations`] checks sparse labels, [`pseudo_labels`] adds what they make plain, [`geometry`] measures and outlines,
//! [`targets`] and [`training`] hold the targets, losses and the training loop, [`networks`] computes, [`postprocess`] turns network maps into
//! objects, [`session`] trains while labels are drawn, [`metrics`] scores them, [`formats`] writes GeoJSON and overlays and reads weights of PyTorch, and
//! [`synthetic`] draws microscope fields with ground truth.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | none | label images, geometry, targets, pseudo-labels, post-processing, metrics, drawn fields | yes |
//! | `models` | [`networks`], [`training`], [`model`] with [`Model`], and its files and weights of others in [`formats`] | yes |
//! | `io` | image files in [`raster`], annotation files and OME-TIFF in [`formats`] | yes |
//! | `keras` | models of StarDist and packages of bioimage.io, and `model::convert`; includes `models` and `io` | yes |
//! | `candle` | networks on Candle tensors, which the tests compare with; includes `models` | yes |
//! | `sam` | masks from points and boxes by SAM in `sam`, with weights that the caller has; includes `candle` | no |
//! | `cuda`, `metal` | networks on these accelerators, by Candle | no |
//! | `serde` | scores and reasons as data of serde; a part of `models` and `io` | yes |
//!
//! GeoJSON, tables, regions of ImageJ and overlays in [`formats`] come with `models` and with `io`. Without all features two
//! dozen crates are compiled, with `models` twice as many.

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod annotations;
pub mod budget;
pub mod control;
pub mod error;
#[cfg(any(feature = "io", feature = "models"))]
pub mod formats;
pub mod geometry;
#[cfg(all(feature = "io", feature = "models"))]
pub mod large;
pub mod metrics;
#[cfg(feature = "models")]
pub mod model;
#[cfg(feature = "models")]
pub mod networks;
pub mod postprocess;
pub mod pseudo_labels;
pub mod random;
pub mod raster;
#[cfg(feature = "sam")]
pub mod sam;
#[cfg(all(feature = "io", feature = "models"))]
pub mod session;
pub mod synthetic;
pub mod targets;
#[cfg(feature = "models")]
pub mod training;

pub use annotations::{Dataset, SparseLabels};
pub use budget::Budget;
pub use control::{CancelToken, ControlFlow, Flow, Progress, StopReason};
pub use error::{Error, ErrorKind, Reason, Result};
#[cfg(feature = "models")]
pub use model::{Algorithm, Device, Model, PredictOptions, Segmentation, TrainOptions, starters};
#[cfg(feature = "models")]
pub use networks::StarDistConfig;
pub use raster::{Image, LabelImage};

/// The page of the crate, whose code is compiled with the examples of the documentation.
#[cfg(all(doctest, feature = "io", feature = "models"))]
#[doc = include_str!("../README.md")]
struct Page;
