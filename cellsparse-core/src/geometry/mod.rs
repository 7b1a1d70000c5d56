//! Plane geometry without tensors: distances, outlines, polygons.

pub mod polygon;
mod polygon_active;
mod polygon_bounds;
mod polygon_crossing;
mod polygon_overlap;
mod polygon_paths;

pub use self::polygon_bounds::{COORDINATE_LIMIT, Outline};
pub use self::polygon_overlap::Overlap;
