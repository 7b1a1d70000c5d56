//! Pixels: images, label images, percentile normalisation, tiles, reading and writing image files.

mod image;

pub use self::image::{Image, LabelImage};
