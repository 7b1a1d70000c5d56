//! Plane geometry without tensors: distances, outlines, polygons.
