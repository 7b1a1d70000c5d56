//! Files that others read: outlines as GeoJSON, overlays, model files; and weights and annotations that others wrote.

pub mod annotation_files;
mod archive;
pub mod foreign;
pub mod geojson;
mod numbers;
mod overlay;
mod pickle;
pub mod pytorch;
mod state_dict;
pub mod tensors;

pub use self::overlay::overlay;
