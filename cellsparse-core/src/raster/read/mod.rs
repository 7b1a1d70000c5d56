//! Image files in: PNG, TIFF and JPEG, told apart by their content and measured before they are decoded.

mod jpeg;
mod png;
mod tiff;

use std::fs;
use std::path::Path;

use ndarray::{Array2, Array3};

use super::image::Image;
use crate::error::{Error, Result};

/// What reading one file may cost. Sizes are taken from the header, so a refusal comes before any decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most bytes that the decoded samples may take: width x height x channels x bytes per sample. Default 1 GiB.
    pub decoded_bytes: usize,
    /// Most bytes that the file itself may have. Default 2 GiB.
    pub file_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { decoded_bytes: 1 << 30, file_bytes: 2 << 30 }
    }
}

/// The values of a label file as they stand in it. What they mean is a separate question, see
/// [`LabelEncoding`](crate::annotations::LabelEncoding).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawLabels {
    /// `[H, W]` from a file of unsigned samples, palette indices, or whole non-negative floats.
    Unsigned(Array2<u32>),
    /// `[H, W]` from a file of signed samples, or of whole floats some of which are negative.
    Signed(Array2<i32>),
}

impl RawLabels {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            RawLabels::Unsigned(values) => values.dim(),
            RawLabels::Signed(values) => values.dim(),
        }
    }
}

/// Reads an image file with the default limits. See [`decode_image`] for what is accepted.
///
/// # Errors
/// As [`decode_image`], with the path: [`Error::NotFound`], [`Error::Io`], [`Error::File`], [`Error::Limit`].
pub fn read_image(path: impl AsRef<Path>) -> Result<Image> {
    read_image_with(path, &ReadLimits::default())
}

/// Reads an image file within `limits`.
///
/// # Errors
/// As [`read_image`].
pub fn read_image_with(path: impl AsRef<Path>, limits: &ReadLimits) -> Result<Image> {
    let path = path.as_ref();
    let bytes = read_bytes(path, limits)?;
    image_from(&bytes, limits).map_err(|problem| problem.in_file(path))
}

/// Reads a label file with the default limits. See [`decode_labels`] for what is accepted.
///
/// # Errors
/// As [`decode_labels`], with the path: [`Error::NotFound`], [`Error::Io`], [`Error::File`], [`Error::Limit`].
pub fn read_label_file(path: impl AsRef<Path>) -> Result<RawLabels> {
    read_label_file_with(path, &ReadLimits::default())
}

/// Reads a label file within `limits`.
///
/// # Errors
/// As [`read_label_file`].
pub fn read_label_file_with(path: impl AsRef<Path>, limits: &ReadLimits) -> Result<RawLabels> {
    let path = path.as_ref();
    let bytes = read_bytes(path, limits)?;
    labels_from(&bytes, limits).map_err(|problem| problem.in_file(path))
}

/// Decodes an image from the bytes of a PNG, TIFF or JPEG file; the format is recognised by its first bytes.
///
/// Returns `[H, W, C]`: 8 and 16 bit samples stay as they are (1, 2 and 4 bit grey is scaled to 0..255), every other
/// sample type becomes `f32` if its values fit exactly (64-bit floats are rounded). Palettes of a PNG are resolved to
/// RGB. **Transparency is dropped**, without blending. Stored orientation (EXIF) is not applied, so that labels drawn
/// on the pixels keep fitting.
///
/// # Errors
/// [`Error::Image`] for anything that is not one complete image of these formats, or that holds NaN or infinite
/// samples; [`Error::Limit`] when the header announces more than `limits` allow.
pub fn decode_image(bytes: &[u8], limits: &ReadLimits) -> Result<Image> {
    image_from(bytes, limits).map_err(|problem| problem.in_memory(Error::Image))
}

/// Decodes label values from the bytes of a PNG or TIFF file.
///
/// Accepted: grey PNG of 1 to 16 bit (values unscaled), paletted PNG and TIFF (the value is the palette **index**, not
/// the colour), grey TIFF of signed or unsigned integers, and of floats that are all whole. Transparency is dropped.
///
/// # Errors
/// [`Error::Labels`] for colour images, JPEG (its compression changes values), fractional or too large values, and
/// damaged files; [`Error::Limit`] when the header announces more than `limits` allow.
pub fn decode_labels(bytes: &[u8], limits: &ReadLimits) -> Result<RawLabels> {
    labels_from(bytes, limits).map_err(|problem| problem.in_memory(Error::Labels))
}

/// Why some bytes are no usable image, before it is known which file they came from.
#[derive(Debug)]
enum Problem {
    Unusable(String),
    Limit(String),
}

type Decoded<T> = std::result::Result<T, Problem>;

impl Problem {
    fn unusable(reason: impl Into<String>) -> Self {
        Problem::Unusable(reason.into())
    }

    fn in_file(self, path: &Path) -> Error {
        match self {
            Problem::Unusable(reason) => Error::file(path, reason),
            Problem::Limit(reason) => Error::Limit(format!("{}: {reason}", path.display())),
        }
    }

    fn in_memory(self, kind: fn(String) -> Error) -> Error {
        match self {
            Problem::Unusable(reason) => kind(reason),
            Problem::Limit(reason) => Error::Limit(reason),
        }
    }
}

/// The file formats, by their first bytes.
enum Format {
    Png,
    Tiff,
    Jpeg,
}

fn recognise(bytes: &[u8]) -> Decoded<Format> {
    const KNOWN_OTHERS: [(&[u8], &str); 6] = [
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        (b"\x89HDF", "HDF5"),
        (b"PK\x03\x04", "ZIP"),
        (b"%PDF", "PDF"),
        (b"\x93NUMPY", "NumPy"),
    ];
    if bytes.is_empty() {
        return Err(Problem::unusable("the file is empty (0 bytes); expected a PNG, TIFF or JPEG image"));
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok(Format::Png);
    }
    if [&b"II*\0"[..], b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| bytes.starts_with(magic)) {
        return Ok(Format::Tiff);
    }
    if bytes.starts_with(b"\xff\xd8\xff") {
        return Ok(Format::Jpeg);
    }
    let found = KNOWN_OTHERS
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map_or_else(|| format!("first bytes {}", hex(bytes)), |(_, name)| format!("a {name} file"));
    Err(Problem::unusable(format!("not a PNG, TIFF or JPEG image ({found}); convert it to PNG or TIFF")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn image_from(bytes: &[u8], limits: &ReadLimits) -> Decoded<Image> {
    let image = match recognise(bytes)? {
        Format::Png => png::image(bytes, limits),
        Format::Tiff => tiff::image(bytes, limits),
        Format::Jpeg => jpeg::image(bytes, limits),
    }?;
    match image.check() {
        Ok(()) => Ok(image),
        Err(Error::Image(reason)) => Err(Problem::Unusable(reason)),
        Err(other) => Err(Problem::Unusable(other.to_string())),
    }
}

fn labels_from(bytes: &[u8], limits: &ReadLimits) -> Decoded<RawLabels> {
    match recognise(bytes)? {
        Format::Png => png::labels(bytes, limits),
        Format::Tiff => tiff::labels(bytes, limits),
        Format::Jpeg => Err(Problem::unusable(
            "a JPEG file cannot hold labels, because its compression changes the values; save labels as PNG or TIFF",
        )),
    }
}

fn read_bytes(path: &Path, limits: &ReadLimits) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if metadata.is_dir() {
        return Err(Error::file(path, "this is a folder; one image file was expected"));
    }
    if !metadata.is_file() {
        return Err(Error::file(path, "this is not a regular file; one image file was expected"));
    }
    if metadata.len() > limits.file_bytes {
        return Err(Error::Limit(format!(
            "{}: the file has {} bytes and the limit is {}; cut the image into parts",
            path.display(),
            metadata.len(),
            limits.file_bytes
        )));
    }
    fs::read(path).map_err(|source| Error::io(path, source))
}

/// The number of decoded samples, after checking what they take in memory.
fn sample_count(
    height: usize,
    width: usize,
    channels: usize,
    bytes_per_sample: usize,
    limits: &ReadLimits,
) -> Decoded<usize> {
    if height == 0 || width == 0 || channels == 0 {
        return Err(Problem::unusable(format!("an image of {height} rows and {width} columns has no pixels")));
    }
    let samples = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
    match samples.map(|n| (n, n.checked_mul(bytes_per_sample))) {
        Some((samples, Some(bytes))) if bytes <= limits.decoded_bytes => Ok(samples),
        _ => Err(Problem::Limit(format!(
            "an image of {height} x {width} pixels with {channels} channels needs more than the limit of {} bytes once \
             decoded; cut it into parts or reduce its resolution",
            limits.decoded_bytes
        ))),
    }
}

/// A zeroed buffer, or a refusal instead of an abort when memory is short.
fn buffer(len: usize) -> Decoded<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| Problem::Limit(format!("not enough free memory for {len} bytes")))?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// Interleaved samples to `[H, W, keep]`: the first `keep` of `channels` channels.
fn channels_last<T: Copy>(
    samples: Vec<T>,
    height: usize,
    width: usize,
    channels: usize,
    keep: usize,
) -> Decoded<Array3<T>> {
    let kept = if keep == channels {
        samples
    } else {
        samples.chunks_exact(channels).flat_map(|pixel| pixel.iter().take(keep).copied()).collect()
    };
    Array3::from_shape_vec((height, width, keep), kept)
        .map_err(|_| Problem::unusable("the file holds another number of samples than its header announces"))
}

/// Samples of one channel to `[H, W]`.
fn plane<T>(samples: Vec<T>, height: usize, width: usize) -> Decoded<Array2<T>> {
    Array2::from_shape_vec((height, width), samples)
        .map_err(|_| Problem::unusable("the file holds another number of samples than its header announces"))
}

#[cfg(test)]
mod tests;
