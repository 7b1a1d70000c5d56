//! From annotated images to weights: sampling, augmentation, losses, optimiser, schedule, the loop.

pub mod augment;
pub mod augment_affine;
pub mod batch;
pub mod batch_cellpose;
pub mod history;
mod loss;
pub mod loss_cellpose;
pub mod loss_stardist;
pub mod optimizer;
pub mod sampler;
pub mod schedule;
pub mod trainer;
