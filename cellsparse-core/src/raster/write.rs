//! Image files out. Every file appears whole or not at all.

use std::fs;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayView2, ArrayView3};

use super::image::LabelImage;
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

/// Writes a file so that `path` is the old file or the new one, never half of it: a temporary file in the same folder
/// is filled, flushed to disk and renamed.
///
/// A symbolic link stays, and the file that it names is replaced; a new file takes over the permissions of the old one.
/// What an interrupted write of the same file has left in the folder is removed.
///
/// # Errors
/// [`Error::File`] when `path` names something other than a regular file (a device, a pipe, a folder); [`Error::Io`],
/// [`Error::NotFound`] when the folder is missing, full or not writable; and whatever `fill` returns.
pub fn write_atomically(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<()>,
) -> Result<()> {
    let path = &linked(path.as_ref())?;
    let old = fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let kind = if path.is_dir() { "a folder" } else { "a device or a pipe" };
        return Err(Error::file(path, format!("is {kind}, which no file may replace; give the path of a file")));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let prefix = temporary_prefix(path);
    remove_leftovers(folder, &prefix);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    // The default of a temporary file is private to its owner; a result is readable as any other file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder).map_err(|source| Error::io(folder, source))?;
    // Held as long as this process lives and writes: whoever gets the lock may remove the file. Where locks do not exist,
    // nothing is removed.
    let _ = temporary.as_file().try_lock();
    if let Some(old) = old {
        let _ = temporary.as_file().set_permissions(old.permissions());
    }
    let mut writer = BufWriter::new(temporary.as_file_mut());
    fill(&mut writer)?;
    writer.flush().map_err(|source| Error::io(path, source))?;
    drop(writer);
    temporary.as_file().sync_all().map_err(|source| Error::io(path, source))?;
    temporary.persist(path).map_err(|error| Error::io(path, error.error))?;
    // The rename itself is made durable where folders can be opened; where not, the file is whole all the same.
    #[cfg(unix)]
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The file that a path names, behind symbolic links.
fn linked(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::file(path, "is a symbolic link that leads in a circle; give the path of a file"))
}

/// Symbolic links that are followed one after the other.
const LINKS: usize = 40;

/// The beginning of the names of temporary files for a file.
fn temporary_prefix(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Names have a limit, mostly of 255 bytes.
    let name: String = name.chars().take(48).collect();
    format!(".cellsparse-{name}-")
}

/// Removes temporary files of writes that did not end: nobody holds their locks.
fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let dead = is_file && fs::File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if dead {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn write_unsigned(folder: &Path, stem: &str, labels: &LabelImage, value: fn(i32) -> u32) -> Result<PathBuf> {
    let size = size_of_png(labels.nrows(), labels.ncols())?;
    let largest = labels.iter().map(|&label| value(label)).max().unwrap_or(0);
    if largest <= u32::from(u16::MAX) {
        let path = folder.join(format!("{stem}.png"));
        let data: Vec<u8> = labels.iter().flat_map(|&label| (value(label) as u16).to_be_bytes()).collect();
        write_png(&path, size, png::ColorType::Grayscale, png::BitDepth::Sixteen, &data)?;
        return Ok(path);
    }
    let path = folder.join(format!("{stem}.tif"));
    let data: Vec<u32> = labels.iter().map(|&label| value(label)).collect();
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

fn write_png(
    path: &Path,
    (width, height): (u32, u32),
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
) -> Result<()> {
    write_atomically(path, |writer| {
        let refuse = |error: png::EncodingError| match error {
            png::EncodingError::IoError(source) => Error::io(path, source),
            other => Error::file(path, format!("could not be written: {other}")),
        };
        let mut encoder = png::Encoder::new(writer, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        let mut writer = encoder.write_header().map_err(refuse)?;
        writer.write_image_data(data).map_err(refuse)?;
        writer.finish().map_err(refuse)
    })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        fs::write(&path, b"old").unwrap();
        let failed = write_atomically(&path, |writer| {
            writer.write_all(b"half").map_err(|source| Error::io("x", source))?;
            Err(Error::Cancelled)
        });
        assert!(matches!(failed, Err(Error::Cancelled)));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(write_atomically(folder.path(), |_| Ok(())), Err(Error::File { .. })));
        let missing = folder.path().join("no/such/x.bin");
        assert!(matches!(write_atomically(missing, |_| Ok(())), Err(Error::NotFound { .. })));
    }

    #[test]
    fn what_a_dead_write_has_left_is_removed_and_that_of_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let [dead, alive, other] = [".cellsparse-x.bin-dead", ".cellsparse-x.bin-live", ".cellsparse-y.bin-dead"]
            .map(|name| folder.path().join(name));
        for path in [&dead, &alive, &other] {
            fs::write(path, b"half").unwrap();
        }
        let held = fs::File::open(&alive).unwrap();
        held.try_lock().unwrap();
        write_atomically(&path, |_| Ok(())).unwrap();
        assert!(!dead.exists() && alive.exists() && other.exists() && path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_modes_stay_and_devices_are_not_replaced() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("there")).unwrap();
        let (file, link, chain) =
            (folder.path().join("there/x.bin"), folder.path().join("link"), folder.path().join("chain"));
        symlink("there/x.bin", &link).unwrap();
        symlink("link", &chain).unwrap();
        // The file behind the links need not be there yet.
        for text in [b"new", b"two"] {
            write_atomically(&chain, |writer| writer.write_all(text).map_err(|source| Error::io("x", source))).unwrap();
            assert_eq!(fs::read(&file).unwrap(), text);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        }
        write_atomically(&link, |_| Ok(())).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(
            fs::symlink_metadata(&chain).unwrap().is_symlink() && fs::symlink_metadata(&link).unwrap().is_symlink()
        );
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        for path in [Path::new("/dev/null"), &folder.path().join("a")] {
            assert!(matches!(write_atomically(path, |_| Ok(())), Err(Error::File { .. })), "{}", path.display());
        }
    }
}
