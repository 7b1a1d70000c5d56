//! The facade: a model is built from a typed config, trained on sparse labels, and predicts objects.

mod options;
mod segmentation;

pub use self::options::{Algorithm, Device, PredictOptions, Preset, TrainOptions};
pub use self::segmentation::{Object, Segmentation};
