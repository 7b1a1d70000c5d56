//! From annotated images to weights: sampling, augmentation, losses, optimiser, schedule, the loop.

pub mod augment;
pub mod batch;
mod loss;
pub mod loss_stardist;
pub mod sampler;
