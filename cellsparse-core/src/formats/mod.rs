//! Files that others read: outlines as GeoJSON, overlays, model files.

pub mod geojson;
pub mod tensors;
mod overlay;

pub use self::overlay::overlay;
