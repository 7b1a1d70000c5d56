//! Files that others read: outlines as GeoJSON and as regions of ImageJ, tables, labels as OME-TIFF, overlays, model files; and
//! weights and annotations that others wrote.

#[cfg(feature = "io")]
pub mod annotation_files;
mod archive;
pub mod base64;
#[cfg(feature = "keras")]
pub mod bioimage;
#[cfg(feature = "keras")]
mod deflated;
pub mod features;
#[cfg(feature = "models")]
pub mod foreign;
pub mod geojson;
#[cfg(feature = "keras")]
mod hdf5_writer;
pub mod imagej_roi;
#[cfg(feature = "io")]
mod json;
#[cfg(feature = "keras")]
pub mod keras;
#[cfg(feature = "keras")]
pub mod keras_writer;
#[cfg(feature = "io")]
pub mod label_pyramid;
#[cfg(feature = "io")]
pub mod label_zarr;
#[cfg(feature = "models")]
mod numbers;
#[cfg(feature = "io")]
mod ome_tiff;
#[cfg(feature = "models")]
pub mod onnx;
mod overlay;
#[cfg(feature = "models")]
mod pickle;
#[cfg(feature = "models")]
mod protobuf;
#[cfg(feature = "keras")]
mod protobuf_fields;
#[cfg(feature = "models")]
pub mod pytorch;
#[cfg(feature = "models")]
pub mod quantized;
mod shortened;
mod source;
#[cfg(feature = "keras")]
pub mod stardist_model;
#[cfg(feature = "keras")]
mod stardist_package;
#[cfg(feature = "models")]
mod state_dict;
#[cfg(feature = "keras")]
pub mod tensorflow;
#[cfg(feature = "keras")]
pub mod tensorflow_writer;
#[cfg(feature = "models")]
pub mod tensors;
#[cfg(feature = "keras")]
mod yaml;

#[cfg(feature = "io")]
pub(crate) use self::json::read_json;
#[cfg(feature = "io")]
pub use self::ome_tiff::write_ome_tiff;
pub use self::overlay::overlay;
