//! Image files in: PNG, TIFF and JPEG, told apart by their content and measured before they are decoded; and zarr folders.

mod jpeg;
mod kept;
mod options;
mod png;
mod rounding;
mod source;
mod tiff;
mod zarr;

use std::path::Path;

use ndarray::{Array2, Array3, Axis};

use self::options::zero_based;
pub use self::options::{ImageFile, ImageHeader, ReadLimits, ReadOptions};
use self::source::Source;
use self::tiff::micrometres;
pub(in crate::raster) use self::zarr::is_zarr;
use super::image::{Image, RawLabels};
use super::regions::{ImageRegions, Region, RegionReader};
use crate::error::{Error, Reason, Result, contain_panic, counted};

/// Reads an image file, or a zarr folder, of one plane with the default limits. See [`decode_image`] for what is accepted of files.
/// A zarr gives its largest resolution; numbers of other types than 8 and 16 unsigned bits become `f32`.
///
/// # Errors
/// As [`decode_image`], with the path: [`Error::NotFound`], [`Error::Io`], [`Error::File`], [`Error::Limit`].
pub fn read_image(path: impl AsRef<Path>) -> Result<Image> {
    Ok(read_image_with(path, &ReadOptions::default())?.image)
}

/// Reads an image file, or the part of it that `options` name, with its pixel size and remarks.
///
/// # Errors
/// As [`read_image`]; [`Error::File`] also for a plane, time point or channel that the file does not have;
/// [`Error::Cancelled`].
pub fn read_image_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<ImageFile> {
    let path = path.as_ref();
    if path.is_dir() {
        zarr::require(path)?;
        return zarr::image(path, options);
    }
    let source = Source::open(path, options.limits.file_bytes)?.until(&options.cancel);
    image_from(&source, options).map_err(|problem| problem.in_file(path))
}

/// Opens an image for reading by parts, with the resolutions that it has: a TIFF of any length strip by strip and tile by tile, a
/// zarr chunk by chunk, of which `kept_bytes` stay decoded; other files are read whole.
///
/// # Errors
/// As [`read_image_with`], but for the limits: those on the length of a file and on what is decoded hold for PNG and JPEG, and
/// for every part of a TIFF or zarr that is read.
pub fn open_regions(path: impl AsRef<Path>, options: &ReadOptions, kept_bytes: usize) -> Result<Box<dyn RegionReader>> {
    let path = path.as_ref();
    if path.is_dir() {
        zarr::require(path)?;
        return Ok(Box::new(zarr::ZarrRegions::open(path, options, kept_bytes)?));
    }
    let source = Source::open(path, u64::MAX)?;
    let start = source.start(8).map_err(|problem| problem.in_file(path))?;
    if matches!(recognise(&start).map_err(|problem| problem.in_file(path))?, Format::Tiff) {
        return Ok(Box::new(tiff::TiffRegions::open(path, options, kept_bytes, false)?));
    }
    let ImageFile { image, pixel_size, notes } = read_image_with(path, options)?;
    Ok(Box::new(ImageRegions::new(image, pixel_size)?.with_notes(notes)))
}

/// As [`open_regions`] for a label image: parts hold the stored numbers as [`read_label_file_with`] gives them, in a type of
/// [`Image`] that holds them exactly up to 16,777,216.
///
/// # Errors
/// As [`open_regions`]; for a label image of several channels, [`Error::File`].
pub fn open_label_regions(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    kept_bytes: usize,
) -> Result<Box<dyn RegionReader>> {
    let path = path.as_ref();
    if path.is_dir() {
        zarr::require(path)?;
        let reader = within_wall(|| zarr::ZarrRegions::opened(path, options, kept_bytes, true));
        return one_channel(reader.map_err(|problem| problem.in_file(path))?, path);
    }
    let source = Source::open(path, u64::MAX)?;
    let start = source.start(8).map_err(|problem| problem.in_file(path))?;
    if matches!(recognise(&start).map_err(|problem| problem.in_file(path))?, Format::Tiff) {
        return one_channel(tiff::TiffRegions::open(path, options, kept_bytes, true)?, path);
    }
    let numbers = match read_label_file_with(path, options)? {
        RawLabels::Unsigned(values) => values.mapv(|value| value as f32),
        RawLabels::Signed(values) => values.mapv(|value| value as f32),
    };
    one_channel(ImageRegions::new(Image::from_gray(numbers), None)?, path)
}

/// Refuses a label image with several numbers for a pixel.
fn one_channel(reader: impl RegionReader + 'static, path: &Path) -> Result<Box<dyn RegionReader>> {
    match reader.channels() {
        1 => Ok(Box::new(reader)),
        count => Err(Error::file(
            path,
            format!("it has {count} channels; a label file has one number per pixel: save it as one grey channel"),
        )),
    }
}

/// Reads what the header of an image file tells of planes, time points and pixel size.
///
/// # Errors
/// As [`read_image`].
pub fn read_image_header(path: impl AsRef<Path>) -> Result<ImageHeader> {
    let path = path.as_ref();
    if path.is_dir() {
        zarr::require(path)?;
        return zarr::header(path);
    }
    let limits = ReadLimits::default();
    let source = Source::open(path, limits.file_bytes)?;
    let header = within_wall(|| match recognise(&source.start(8)?)? {
        Format::Tiff => tiff::header(&source, &limits),
        Format::Png | Format::Jpeg => Ok(ImageHeader { planes: 1, frames: 1, pixel_size: None }),
    });
    header.map_err(|problem| problem.in_file(path))
}

/// Reads a label file of one plane with the default limits. See [`decode_labels`] for what is accepted.
///
/// # Errors
/// As [`decode_labels`], with the path: [`Error::NotFound`], [`Error::Io`], [`Error::File`], [`Error::Limit`].
pub fn read_label_file(path: impl AsRef<Path>) -> Result<RawLabels> {
    read_label_file_with(path, &ReadOptions::default())
}

/// Reads a label file, or the plane and time point of it that `options` name. A file with one plane is read whatever they
/// name, since labels are often drawn on one plane of a stack.
///
/// # Errors
/// As [`read_label_file`].
pub fn read_label_file_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<RawLabels> {
    let path = path.as_ref();
    if path.is_dir() {
        zarr::require(path)?;
        return zarr::labels(path, options);
    }
    let source = Source::open(path, options.limits.file_bytes)?.until(&options.cancel);
    labels_from(&source, options).map_err(|problem| problem.in_file(path))
}

/// Decodes an image from the bytes of a PNG, TIFF or JPEG file; the format is recognised by its first bytes.
///
/// Returns `[H, W, C]`: unsigned samples of up to 8 and up to 16 bit stay as they are (1, 2 and 4 bit grey of a PNG is
/// scaled to 0..255), every other sample type becomes `f32` if its values fit exactly (64-bit floats are rounded). The pages
/// of a TIFF become channels where its metadata says so. Palettes are resolved to RGB, or to grey; the index is taken in
/// files of ImageJ, whose tables are for display, and where the table is a ramp of one colour. "0 is white" is turned
/// around. **Transparency is dropped**, without blending. Stored orientation (EXIF) is not applied, so that labels drawn on
/// the pixels keep fitting.
///
/// # Errors
/// [`Error::Image`] for anything that is not one complete image of these formats, or that holds NaN or infinite
/// samples; [`Error::Limit`] when the header announces more than `limits` allow.
pub fn decode_image(bytes: &[u8], limits: &ReadLimits) -> Result<Image> {
    Ok(decode_image_with(bytes, &ReadOptions::from(*limits))?.image)
}

/// Decodes the part of an image file in memory that `options` name, with its pixel size and remarks.
///
/// # Errors
/// As [`decode_image`]; [`Error::Image`] also for a plane, time point or channel that there is not, and [`Error::Cancelled`].
pub fn decode_image_with(bytes: &[u8], options: &ReadOptions) -> Result<ImageFile> {
    let source = Source::of(bytes).until(&options.cancel);
    image_from(&source, options).map_err(|problem| problem.in_memory(Error::Image))
}

/// Decodes label values from the bytes of a PNG or TIFF file.
///
/// Accepted: grey PNG of 1 to 16 bit (values unscaled), paletted PNG and TIFF (the value is the palette **index**, not
/// the colour), grey TIFF of signed or unsigned integers, and of floats that are all whole. The number that is stored
/// counts: "0 is white" is not turned around, and signed numbers that ImageJ stored as unsigned ones become signed again.
/// Transparency is dropped.
///
/// # Errors
/// [`Error::Labels`] for colour images, JPEG (its compression changes values), fractional or too large values, and
/// damaged files; [`Error::Limit`] when the header announces more than `limits` allow.
pub fn decode_labels(bytes: &[u8], limits: &ReadLimits) -> Result<RawLabels> {
    decode_labels_with(bytes, &ReadOptions::from(*limits))
}

/// Decodes the plane and time point of label values in memory that `options` name.
///
/// # Errors
/// As [`decode_labels`]; [`Error::Labels`] also for a plane or time point that there is not, and [`Error::Cancelled`].
pub fn decode_labels_with(bytes: &[u8], options: &ReadOptions) -> Result<RawLabels> {
    let source = Source::of(bytes).until(&options.cancel);
    labels_from(&source, options).map_err(|problem| problem.in_memory(Error::Labels))
}

/// Why some bytes are no usable image, before it is known which file they came from.
#[derive(Debug)]
enum Problem {
    Unusable(String),
    /// One of so many images has to be chosen by that option.
    Unchosen {
        reason: String,
        option: &'static str,
        count: usize,
    },
    Limit(String),
    Io(std::io::Error),
    Cancelled,
}

type Decoded<T> = std::result::Result<T, Problem>;

impl Problem {
    fn unusable(reason: impl Into<String>) -> Self {
        Problem::Unusable(reason.into())
    }

    fn in_file(self, path: &Path) -> Error {
        match self {
            Problem::Unusable(reason) => Error::file(path, reason),
            Problem::Unchosen { reason, option, count } => {
                Error::file(path, reason).because(Reason::unchosen(option, count))
            }
            Problem::Limit(reason) => Error::limit(path, reason),
            Problem::Io(source) => Error::io(path, source),
            Problem::Cancelled => Error::Cancelled,
        }
    }

    fn in_memory(self, kind: fn(String) -> Error) -> Error {
        match self {
            Problem::Unusable(reason) => kind(reason),
            Problem::Unchosen { reason, option, count } => kind(reason).because(Reason::unchosen(option, count)),
            Problem::Limit(reason) => Error::Limit(reason),
            Problem::Io(source) => kind(source.to_string()),
            Problem::Cancelled => Error::Cancelled,
        }
    }

    /// Names the part of the file that the reason speaks of.
    fn prefixed(self, what: &str) -> Self {
        match self {
            Problem::Unusable(reason) => Problem::Unusable(format!("{what} {reason}")),
            other => other,
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

/// All channels of an image, before transparency is dropped.
struct Picked {
    image: Image,
    /// For every channel whether it is transparency.
    transparent: Vec<bool>,
    /// These are the channels that the caller chose.
    picked: bool,
}

fn image_from(source: &Source<'_>, options: &ReadOptions) -> Decoded<ImageFile> {
    within_wall(|| {
        let (picked, pixel_size, mut notes) = match recognise(&source.start(8)?)? {
            Format::Png => (png::image(source, options)?, None, Vec::new()),
            Format::Tiff => tiff::image(source, options)?,
            Format::Jpeg => (jpeg::image(source, options)?, None, Vec::new()),
        };
        source.check()?;
        let image = finish(picked, options, &mut notes)?;
        source.check()?;
        match image.check() {
            Ok(()) => Ok(ImageFile { image, pixel_size, notes }),
            Err(Error::Image(reason)) => Err(Problem::Unusable(reason)),
            Err(other) => Err(Problem::Unusable(other.to_string())),
        }
    })
}

fn labels_from(source: &Source<'_>, options: &ReadOptions) -> Decoded<RawLabels> {
    within_wall(|| match recognise(&source.start(8)?)? {
        Format::Png => png::labels(source, options),
        Format::Tiff => tiff::labels(source, options),
        Format::Jpeg => Err(Problem::unusable(
            "a JPEG file cannot hold labels, because its compression changes the values; save labels as PNG or TIFF",
        )),
    })
}

/// A panic of a decoder that this library did not write is a file that cannot be read.
fn within_wall<T>(read: impl FnOnce() -> Decoded<T>) -> Decoded<T> {
    contain_panic(read).unwrap_or_else(|panic| {
        Err(Problem::unusable(format!(
            "its decoder failed ({panic}), which may be no fault of the file: please report it, and save the file in another \
             way, as uncompressed TIFF or PNG"
        )))
    })
}

/// A part that was read of a file, unless it has samples that are not finite.
fn checked_part(image: Image, region: Region, path: &Path) -> Result<Image> {
    match image.check() {
        Ok(()) => Ok(image),
        Err(error) => Err(Error::file(path, format!("in the part {region}: {}", error.message()))),
    }
}

/// The channels that the caller chose, or all but transparency. Says when what is left out is more than a constant.
fn finish(picked: Picked, options: &ReadOptions, notes: &mut Vec<String>) -> Decoded<Image> {
    let Picked { image, transparent, picked } = picked;
    if picked {
        return Ok(image);
    }
    if let Some(channels) = &options.channels {
        return Ok(keep(image, &zero_based(channels, transparent.len())?));
    }
    let kept: Vec<usize> = (0..transparent.len()).filter(|channel| !transparent[*channel]).collect();
    if kept.is_empty() || kept.len() == transparent.len() {
        return Ok(image);
    }
    for channel in (0..transparent.len()).filter(|channel| transparent[*channel] && !is_constant(&image, *channel)) {
        notes.push(left_out_note(channel));
    }
    Ok(keep(image, &kept))
}

/// What is said of a channel, counted from 0, that is tagged as transparency and holds more than a constant.
fn left_out_note(channel: usize) -> String {
    let number = channel + 1;
    format!(
        "channel {number} is tagged as transparency and was left out; if it is a marker, choose it: channels 1 to {number}"
    )
}

fn keep(image: Image, channels: &[usize]) -> Image {
    match image {
        Image::U8(pixels) => Image::U8(pixels.select(Axis(2), channels)),
        Image::U16(pixels) => Image::U16(pixels.select(Axis(2), channels)),
        Image::F32(pixels) => Image::F32(pixels.select(Axis(2), channels)),
    }
}

fn is_constant(image: &Image, channel: usize) -> bool {
    fn constant<T: PartialEq>(pixels: &Array3<T>, channel: usize) -> bool {
        let plane = pixels.index_axis(Axis(2), channel);
        plane.iter().zip(plane.iter().skip(1)).all(|(one, other)| one == other)
    }
    match image {
        Image::U8(pixels) => constant(pixels, channel),
        Image::U16(pixels) => constant(pixels, channel),
        Image::F32(pixels) => constant(pixels, channel),
    }
}

/// Most pixels of one side. No microscope and no scanner makes longer ones; tables and memory dumps do.
const MOST_SIDE: usize = 1 << 20;

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
    if height.max(width) > MOST_SIDE {
        return Err(Problem::Limit(format!(
            "an image of {height} rows and {width} columns; a side may have {MOST_SIDE}: cut it into parts"
        )));
    }
    let samples = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
    match samples.map(|n| (n, n.checked_mul(bytes_per_sample))) {
        Some((samples, Some(bytes))) if bytes <= limits.decoded_bytes => Ok(samples),
        _ => Err(Problem::Limit(format!(
            "an image of {height} x {width} pixels with {} needs more than the limit of {} bytes once decoded; cut it into \
             parts or reduce its resolution",
            counted(channels, "channel"),
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

/// So many values, or a refusal instead of an abort when memory is short.
fn gathered<T>(len: usize, values: impl IntoIterator<Item = T>) -> Decoded<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| Problem::Limit(format!("not enough free memory for {len} values")))?;
    all.extend(values.into_iter().take(len));
    Ok(all)
}

/// Values that are converted before it is asked again whether to stop.
const PATIENCE: usize = 1 << 22;

/// What `convert` makes of every `size` bytes.
fn converted<T>(source: &Source<'_>, bytes: &[u8], size: usize, convert: impl Fn(&[u8]) -> T) -> Decoded<Vec<T>> {
    let mut all = gathered(bytes.len() / size, [])?;
    for part in bytes.chunks(size * PATIENCE) {
        source.check()?;
        all.extend(part.chunks_exact(size).map(&convert));
    }
    Ok(all)
}

/// Interleaved samples to `[H, W, C]`.
fn channels_last<T>(samples: Vec<T>, height: usize, width: usize, channels: usize) -> Decoded<Array3<T>> {
    Array3::from_shape_vec((height, width, channels), samples)
        .map_err(|_| Problem::unusable("the file holds another number of samples than its header announces"))
}

/// Samples of one channel to `[H, W]`.
fn plane<T>(samples: Vec<T>, height: usize, width: usize) -> Decoded<Array2<T>> {
    Array2::from_shape_vec((height, width), samples)
        .map_err(|_| Problem::unusable("the file holds another number of samples than its header announces"))
}

#[cfg(test)]
mod tests;
