//! Files that others read: outlines as GeoJSON and as regions of ImageJ, tables, labels as OME-TIFF, overlays, model files; and
//! weights and annotations that others wrote.

pub mod annotation_files;
mod archive;
pub mod base64;
pub mod features;
pub mod foreign;
pub mod geojson;
pub mod imagej_roi;
mod numbers;
mod ome_tiff;
mod overlay;
mod pickle;
pub mod pytorch;
pub mod quantized;
mod state_dict;
pub mod tensors;

pub use self::ome_tiff::write_ome_tiff;
pub use self::overlay::overlay;
