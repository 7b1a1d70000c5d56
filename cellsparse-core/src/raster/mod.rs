//! Pixels: images, label images, percentile normalisation, tiles, reading and writing image files.

#[cfg(any(feature = "io", feature = "models"))]
mod atomic;
mod blur;
#[cfg(any(feature = "io", feature = "models"))]
#[cfg_attr(not(all(feature = "io", feature = "keras")), allow(dead_code))]
pub(crate) mod checksum;
mod components;
#[cfg(feature = "io")]
mod files;
mod image;
mod normalize;
#[cfg(feature = "io")]
mod read;
pub mod regions;
mod resize;
mod resize_aligned;
mod runs;
pub mod taper;
mod tiles;
#[cfg(feature = "io")]
mod write;

#[cfg(any(feature = "io", feature = "models"))]
pub use self::atomic::{GrowingFile, require_regular_file, write_atomically};
pub use self::blur::{gaussian_blur, try_gaussian_blur};
pub use self::components::{
    Component, Components, Connectivity, connected_components, connected_components_until, label_components,
};
#[cfg(feature = "io")]
pub use self::files::{Listing, find_images, image_stem, is_zarr_folder, list_images, list_label_images, pair_by_stem};
pub use self::image::{Image, LabelImage, RawLabels};
#[cfg(feature = "models")]
pub(crate) use self::normalize::RANGE_EPSILON;
pub use self::normalize::{Percentiles, percentile_normalize};
#[cfg(feature = "io")]
pub use self::read::{
    ImageFile, ImageHeader, ReadLimits, ReadOptions, decode_image, decode_image_with, decode_labels,
    decode_labels_with, open_label_regions, open_regions, read_image, read_image_header, read_image_with,
    read_label_file, read_label_file_with,
};
pub use self::resize::{Resized, resize_bilinear, resize_nearest, scaled_size};
pub use self::resize_aligned::resize_bilinear_aligned;
pub use self::runs::runs_where;
pub use self::tiles::{Span, read_reflected, read_reflected_part, reflect_pad, tile_axis};
#[cfg(feature = "io")]
pub use self::write::{
    encode_rgb_png, write_gray_png8, write_gray_png16, write_labels, write_rgb_png, write_wire_labels,
};
