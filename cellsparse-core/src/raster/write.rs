//! Image files out. Every file appears whole or not at all.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayView2, ArrayView3};

use super::atomic::write_atomically;
use super::image::LabelImage;
use crate::budget::reserve;
use crate::error::{Error, Result};

/// Writes a label image as `folder/stem.png` with 16 bit, or as a 32-bit `folder/stem.tif` when an id exceeds 65,535,
/// and returns the path. Values are stored as they are: 0 background, `>= 1` instance.
///
/// # Errors
/// [`Error::Labels`] for a label image that is empty or has unlabelled (negative) pixels; [`Error::Io`],
/// [`Error::NotFound`] when the folder cannot be written.
pub fn write_labels(folder: impl AsRef<Path>, stem: &str, labels: &LabelImage) -> Result<PathBuf> {
    if let Some(((y, x), value)) = labels.indexed_iter().find(|(_, value)| **value < 0) {
        return Err(Error::Labels(format!(
            "the pixel at row {y}, column {x} is unlabelled ({value}), which a label file cannot hold; write it in the \
             wire encoding"
        )));
    }
    write_unsigned(folder.as_ref(), stem, labels, |value| value.unsigned_abs())
}

/// Writes a sparse label image in the wire encoding (0 unlabelled, 1 background, `>= 2` instance id + 1); files as
/// [`write_labels`].
///
/// # Errors
/// [`Error::Labels`] for an empty label image; [`Error::Io`], [`Error::NotFound`] when the folder cannot be written.
pub fn write_wire_labels(folder: impl AsRef<Path>, stem: &str, labels: &LabelImage) -> Result<PathBuf> {
    write_unsigned(folder.as_ref(), stem, labels, |value| if value < 0 { 0 } else { value.unsigned_abs() + 1 })
}

/// Writes `[H, W, 3]` as an 8-bit RGB PNG.
///
/// # Errors
/// [`Error::Image`] for an empty array or another number of channels; [`Error::Io`] when the file cannot be written.
pub fn write_rgb_png(path: impl AsRef<Path>, pixels: ArrayView3<'_, u8>) -> Result<()> {
    let (height, width, channels) = pixels.dim();
    if channels != 3 {
        return Err(Error::Image(format!("an RGB picture has 3 channels and this array has {channels}")));
    }
    let data: Vec<u8> = pixels.iter().copied().collect();
    write_png(path.as_ref(), size_of_png(height, width)?, png::ColorType::Rgb, png::BitDepth::Eight, &data)
}

/// The PNG that [`write_rgb_png`] writes.
///
/// # Errors
/// [`Error::Image`] for an empty array or another number of channels.
pub fn encode_rgb_png(pixels: ArrayView3<'_, u8>) -> Result<Vec<u8>> {
    let (height, width, channels) = pixels.dim();
    if channels != 3 {
        return Err(Error::Image(format!("an RGB picture has 3 channels and this array has {channels}")));
    }
    let (data, mut bytes): (Vec<u8>, Vec<u8>) = (pixels.iter().copied().collect(), Vec::new());
    let refuse = |error: png::EncodingError| Error::Internal(format!("encoding a picture: {error}"));
    let size = size_of_png(height, width)?;
    encode_png(&mut bytes, size, png::ColorType::Rgb, png::BitDepth::Eight, &data).map_err(refuse)?;
    Ok(bytes)
}

/// Writes `[H, W]` as an 8-bit grey PNG.
///
/// # Errors
/// As [`write_rgb_png`].
pub fn write_gray_png8(path: impl AsRef<Path>, pixels: ArrayView2<'_, u8>) -> Result<()> {
    let data: Vec<u8> = pixels.iter().copied().collect();
    let size = size_of_png(pixels.nrows(), pixels.ncols())?;
    write_png(path.as_ref(), size, png::ColorType::Grayscale, png::BitDepth::Eight, &data)
}

/// Writes `[H, W]` as a 16-bit grey PNG.
///
/// # Errors
/// As [`write_rgb_png`].
pub fn write_gray_png16(path: impl AsRef<Path>, pixels: ArrayView2<'_, u16>) -> Result<()> {
    let data: Vec<u8> = pixels.iter().flat_map(|value| value.to_be_bytes()).collect();
    let size = size_of_png(pixels.nrows(), pixels.ncols())?;
    write_png(path.as_ref(), size, png::ColorType::Grayscale, png::BitDepth::Sixteen, &data)
}

fn write_unsigned(folder: &Path, stem: &str, labels: &LabelImage, value: fn(i32) -> u32) -> Result<PathBuf> {
    let size = size_of_png(labels.nrows(), labels.ncols())?;
    let largest = labels.iter().map(|&label| value(label)).max().unwrap_or(0);
    if largest <= u32::from(u16::MAX) {
        let path = folder.join(format!("{stem}.png"));
        let mut data: Vec<u8> = reserve(labels.len().saturating_mul(2), "labels to be written")?;
        data.extend(labels.iter().flat_map(|&label| (value(label) as u16).to_be_bytes()));
        write_png(&path, size, png::ColorType::Grayscale, png::BitDepth::Sixteen, &data)?;
        return Ok(path);
    }
    let path = folder.join(format!("{stem}.tif"));
    let mut data: Vec<u32> = reserve(labels.len(), "labels to be written")?;
    data.extend(labels.iter().map(|&label| value(label)));
    write_atomically(&path, |writer| {
        encode_tiff32(writer, size, &data).map_err(|error| Error::file(&path, format!("could not be written: {error}")))
    })?;
    Ok(path)
}

fn encode_tiff32(writer: impl Write + Seek, (width, height): (u32, u32), data: &[u32]) -> tiff::TiffResult<()> {
    let compression = tiff::encoder::Compression::Deflate(tiff::encoder::DeflateLevel::Balanced);
    let mut encoder = tiff::encoder::TiffEncoder::new(writer)?.with_compression(compression);
    encoder.write_image::<tiff::encoder::colortype::Gray32>(width, height, data)
}

/// Width and height, if a PNG can have them.
fn size_of_png(height: usize, width: usize) -> Result<(u32, u32)> {
    let side = |n: usize| i32::try_from(n).ok().filter(|&n| n > 0).map(i32::unsigned_abs);
    match (side(width), side(height)) {
        (Some(width), Some(height)) => Ok((width, height)),
        _ => Err(Error::Image(format!("a picture of {height} rows and {width} columns cannot be written"))),
    }
}

fn write_png(path: &Path, size: (u32, u32), color: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Result<()> {
    write_atomically(path, |writer| {
        let refuse = |error: png::EncodingError| match error {
            png::EncodingError::IoError(source) => Error::io(path, source),
            other => Error::file(path, format!("could not be written: {other}")),
        };
        encode_png(writer, size, color, depth, data).map_err(refuse)
    })
}

fn encode_png(
    writer: impl Write,
    (width, height): (u32, u32),
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
) -> std::result::Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(writer, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(data)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ndarray::{Array2, Array3, array};

    use super::*;
    use crate::raster::{Image, RawLabels, read_image, read_label_file};

    #[test]
    fn labels_come_back_whatever_their_size() {
        let folder = tempfile::tempdir().unwrap();
        for (largest, name) in [(65_535, "a.b.png"), (65_536, "a.b.tif")] {
            let labels = array![[0, 1, 2], [300, largest, 0]];
            let path = write_labels(folder.path(), "a.b", &labels).unwrap();
            assert_eq!(path, folder.path().join(name));
            let RawLabels::Unsigned(read) = read_label_file(&path).unwrap() else { panic!("unsigned") };
            assert_eq!(read.mapv(|value| value as i32), labels);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file may stay");
    }

    #[test]
    fn unlabelled_pixels_need_the_wire_encoding() {
        let folder = tempfile::tempdir().unwrap();
        let labels = array![[-1, 0, 7]];
        assert!(matches!(write_labels(folder.path(), "a", &labels), Err(Error::Labels(_))));
        let path = write_wire_labels(folder.path(), "a", &labels).unwrap();
        assert_eq!(read_label_file(path).unwrap(), RawLabels::Unsigned(array![[0, 1, 8]]));
    }

    #[test]
    fn pictures_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let rgb = Array3::from_shape_fn((4, 5, 3), |(y, x, c)| (50 * y + 9 * x + c) as u8);
        write_rgb_png(&path, rgb.view()).unwrap();
        assert_eq!(read_image(&path).unwrap(), Image::U8(rgb.clone()));
        let gray = Array2::from_shape_fn((3, 4), |(y, x)| (20_000 * y + x) as u16);
        write_gray_png16(&path, gray.view()).unwrap();
        assert_eq!(read_image(&path).unwrap(), Image::U16(gray.insert_axis(ndarray::Axis(2))));
        let gray = Array2::from_shape_fn((3, 4), |(y, x)| (20 * y + x) as u8);
        write_gray_png8(&path, gray.view()).unwrap();
        assert_eq!(read_image(&path).unwrap(), Image::U8(gray.insert_axis(ndarray::Axis(2))));
        assert!(matches!(write_rgb_png(&path, rgb.slice(ndarray::s![.., .., ..2])), Err(Error::Image(_))));
        assert!(matches!(write_gray_png8(&path, Array2::zeros((0, 3)).view()), Err(Error::Image(_))));
    }
}
