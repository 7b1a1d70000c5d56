//! Microscope fields that the library draws itself: with ground truth, and annotated sparsely as a careful person would.
//!
//! They feed demonstrations, tests and benchmarks that must run anywhere without downloads: every field is fully
//! determined by its options and a seed.

mod annotate;
mod field;
mod layout;
mod nucleus;
mod optics;
mod texture;
mod worlds;

pub use self::annotate::{AnnotationOptions, annotate};
pub use self::field::{Field, FieldOptions, draw_field};
pub use self::worlds::{World, WorldChannels, WorldKind, WorldOptions, draw_world};
