//! From annotated images to weights: sampling, augmentation, losses, optimiser, schedule, the loop.

mod loss;
pub mod loss_stardist;
