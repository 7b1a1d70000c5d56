//! Plane geometry without tensors: distances, outlines, polygons.

pub mod distance;
