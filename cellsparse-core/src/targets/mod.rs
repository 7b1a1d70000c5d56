//! What a network is trained to predict: pure functions from label images to arrays.

pub mod cellpose;
pub mod elephant;
pub mod holes;
mod rays;
pub mod stardist;

pub use self::holes::fill_label_holes;
