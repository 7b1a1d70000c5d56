//! Files that others read: outlines as GeoJSON, overlays, model files.

pub mod geojson;
mod overlay;
pub mod tensors;

pub use self::overlay::overlay;
