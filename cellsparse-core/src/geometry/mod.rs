//! Plane geometry without tensors: distances, outlines, measurements, polygons.

mod convex_hull;
pub mod diffusion;
pub mod distance;
pub mod ellipse;
pub mod label_runs;
pub mod measure;
mod outline;
mod outline_raster;
#[cfg(test)]
mod outline_validity;
mod simplify;
mod thinning;

pub use self::convex_hull::solidity;
pub use self::outline::{
    ExactOutline, LiteralOutline, Part, exact_outlines, exact_outlines_until, literal_outlines, literal_outlines_until,
};
pub use self::outline_raster::{fill_rings, rasterize_outlines};
pub use self::simplify::{douglas_peucker, simplify_outline, simplify_ring_literal};
pub mod polygon;
mod polygon_active;
mod polygon_bounds;
mod polygon_crossing;
mod polygon_outputs;
mod polygon_overlap;

pub use self::polygon_bounds::{COORDINATE_LIMIT, IntegerPolygon};
pub use self::polygon_overlap::Overlap;

/// Diameter of a disc of that area.
pub fn disc_diameter(area: f64) -> f64 {
    2.0 * (area / std::f64::consts::PI).sqrt()
}
