//! From annotated images to weights: sampling, augmentation, losses, optimiser, schedule, the loop.

pub mod any_task;
pub mod augment;
pub mod augment_affine;
pub mod batch;
pub mod batch_cellpose;
pub mod batch_elephant;
#[cfg(feature = "candle")]
mod device;
#[cfg(not(feature = "candle"))]
#[path = "no_device.rs"]
mod device;
pub mod history;
mod loss;
pub mod loss_cellpose;
pub mod loss_elephant;
mod loss_smooth;
pub mod loss_stardist;
pub mod measured;
pub mod optimizer;
pub mod patch;
pub mod sampler;
pub mod schedule;
pub mod task;
pub mod trainer;
