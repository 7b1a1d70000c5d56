//! Files that others read: outlines as GeoJSON, overlays, model files; and weights that others wrote.

mod archive;
pub mod foreign;
pub mod geojson;
mod numbers;
mod overlay;
mod pickle;
pub mod pytorch;
pub mod quantized;
mod state_dict;
pub mod tensors;

pub use self::overlay::overlay;
