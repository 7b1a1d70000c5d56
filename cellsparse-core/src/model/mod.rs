//! The facade: a model is built from a typed configuration, trained on sparse labels, and predicts objects.
//!
//! `stardist`, `cellpose` and `elephant` hold what is particular to an algorithm, `algorithm.rs` says what each of them
//! gives, and `registry.rs` lists them. Files below them know networks, images and labels, but no algorithm; files above
//! them ask the algorithm of a model, whichever it is. `docs/architecture.md` has the picture.

mod ahead;
mod algorithm;
mod algorithm_options;
mod architecture;
#[cfg(feature = "keras")]
mod bioimage;
mod calibration;
mod cell_size;
mod cellpose;
mod choice;
mod contrast;
mod device;
#[cfg(test)]
mod device_tests;
mod drawn;
mod elephant;
mod engines;
#[cfg(feature = "keras")]
mod exchange;
mod facade;
mod file;
mod fit;
mod fitted_scale;
mod foreign;
#[cfg(feature = "keras")]
mod foreign_stardist;
#[cfg(feature = "keras")]
mod foreign_tensorflow;
mod info;
mod keep;
#[cfg(feature = "io")]
pub(crate) mod large;
mod network;
mod normalization;
mod onnx;
mod onnx_scaling;
mod options;
mod outlines;
mod pixel_size;
mod predict;
mod recipe;
mod registry;
mod segmentation;
mod shape_advice;
mod stardist;
#[cfg(feature = "keras")]
mod stardist_folder;
pub mod starters;
mod stream;
#[cfg(feature = "keras")]
mod tensorflow;
mod threshold_choice;
mod threshold_search;
mod thresholds;
mod train;
mod training_data;
mod work;
mod working_scale;

pub use self::algorithm::StateEntry;
#[cfg(feature = "keras")]
pub use self::bioimage::PackageDescription;
pub use self::cellpose::{CellposeOptions, CellposeThresholds};
pub use self::choice::{Choice, Trial, choose_algorithm};
pub use self::device::available_devices;
#[cfg(feature = "sam")]
pub(crate) use self::device::open_device;
pub use self::elephant::{ElephantOptions, ElephantThresholds};
pub use self::engines::Threads;
#[cfg(feature = "keras")]
pub use self::exchange::{Exchanged, convert};
pub use self::facade::Model;
pub use self::info::ModelInfo;
pub use self::normalization::Normalization;
pub use self::onnx::OnnxOptions;
pub use self::onnx_scaling::OnnxNormalization;
pub use self::options::{Device, Postprocess, Precision, PredictOptions, Preset, Start, TrainOptions};
pub use self::registry::{Algorithm, AlgorithmOptions, Architecture, Thresholds};
#[cfg(feature = "sam")]
pub(crate) use self::segmentation::from_labels as segmentation_of_labels;
pub use self::segmentation::{Object, Segmentation};
pub use self::shape_advice::shape_advice;
pub use self::stardist::{StarDistOptions, StarThresholds};
pub use self::starters::Starter;
pub use self::stream::Pools;
#[cfg(feature = "keras")]
pub use self::tensorflow::TensorFlowForm;
pub use self::train::TrainingSummary;
