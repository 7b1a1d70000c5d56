//! Cell segmentation networks trained from sparse labels: a handful of drawn cells and a few background strokes.

#![deny(unsafe_code)]

pub mod annotations;
pub mod control;
pub mod error;
pub mod formats;
pub mod geometry;
pub mod kernels;
pub mod metrics;
pub mod model;
pub mod networks;
pub mod postprocess;
pub mod random;
pub mod raster;
pub mod synthetic;
pub mod targets;
pub mod training;

pub use control::{CancelToken, Flow, Progress};
pub use error::{Error, Result};
pub use annotations::{Dataset, SparseLabels};
pub use model::{Algorithm, Device, Model, PredictOptions, Segmentation, TrainOptions};
pub use networks::StarDistConfig;
pub use raster::{Image, LabelImage};
