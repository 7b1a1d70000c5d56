//! Files in which people keep annotations: label images and drawn shapes of the programs that they draw with.
//!
//! | file | what counts | coordinates |
//! |---|---|---|
//! | PNG, TIFF, `.npy`, HDF5 of ilastik, zarr folders | numbers, in a [`LabelEncoding`](crate::annotations::LabelEncoding) | pixels |
//! | Cellpose `_seg.npy`, `_masks.*`, `_cp_masks.*` | numbers: 1 and up cells; 0 background or not drawn | pixels |
//! | QuPath GeoJSON, also as `.zip` and `.gz` | areas of the class `Foreground` cells, areas and lines of `Background` background | pixel corners at integers |
//! | ImageJ `.roi`, `RoiSet.zip`, folders of `.roi` | areas cells, or background by their name; lines background | areas: pixel corners at integers; lines: pixel centres |
//! | COCO JSON | polygons and run lengths; a category `background` is background | pixel corners at integers; runs down the columns |
//! | LabelMe JSON | polygons, rectangles, circles, masks; a label `background` is background, line strips too | pixel corners at integers |
//! | Labkit `.labeling` | parts of the label `foreground`, other labels; `background` is background | pixels |
//!
//! A shape takes the pixels whose centres lie inside it. What a file does not say is unlabelled. Files are read as data within
//! limits; nothing in them is run.

mod coco;
mod drawing;
#[cfg(feature = "keras")]
mod hdf5;
mod imagej;
mod labelme;
mod labkit;
mod names;
mod numpy;
mod object_pickle;
mod qupath;
mod shapes;
mod spline;

use std::borrow::Cow;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use self::drawing::Drawing;
pub use self::names::{Matches, NotUsed, is_annotation_name, match_annotations};
pub use self::shapes::DrawnShapes;
use super::archive::Archive;
use super::read_json;
use crate::annotations::LabelSource;
use crate::error::{Error, Result};
use crate::raster::{RawLabels, ReadOptions, is_zarr_folder, read_label_file_with};

/// Largest file, and largest text: JSON takes many times its size in memory.
const FILE_BYTES: u64 = 2 << 30;
const TEXT_BYTES: usize = 100 << 20;

/// Largest region in an archive, and all of them together.
const ROI_BYTES: usize = 64 << 20;
const ARCHIVE_BYTES: usize = 512 << 20;

/// How annotations are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnnotationOptions {
    /// Rows and columns of the image. Shapes are cut off at its border; without it the image is as large as the file says, or
    /// as its shapes reach.
    pub shape: Option<(usize, usize)>,
    /// File name of the image, for files with the annotations of several.
    pub image: Option<String>,
    /// The class of cells; usually `Foreground` in QuPath's files, and everything but background in others. Classes derived
    /// from it count too, such as `Foreground: Positive`.
    pub foreground: Option<String>,
    /// The class of background, and those derived from it; usually `Background`, whatever the case.
    pub background: Option<String>,
    /// The plane (Z), counted from 1: of a stack of labels, of which one with a single plane is read whatever it is; and of
    /// shapes that tell on which plane they were drawn.
    pub plane: Option<usize>,
    /// The time point (T) of a series of labels, as `plane`.
    pub frame: Option<usize>,
}

/// What a file of annotations holds for one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AnnotationFile {
    /// The labels.
    pub labels: LabelSource,
    /// What was not used, in half sentences.
    pub unused: Vec<String>,
}

/// Reads the annotations of one image from a file of any kind of the [table](self), which is told by its content; from a folder
/// that is no zarr, its `.roi` files.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`]; [`Error::File`] for other files, damaged ones, and such with nothing to use for this
/// image; [`Error::Limit`] for files and images beyond the limits.
pub fn read_annotations(path: impl AsRef<Path>, options: &AnnotationOptions) -> Result<AnnotationFile> {
    let path = path.as_ref();
    if is_label_image(path)? {
        let read = ReadOptions { plane: options.plane, frame: options.frame, ..ReadOptions::default() };
        let labels = source_of_picture(path, read_label_file_with(path, &read)?);
        return Ok(AnnotationFile { labels, unused: Vec::new() });
    }
    let read = content_of(path, options).and_then(|content| content.annotations(options));
    read.map_err(|error| in_file(path, error))
}

/// What the numbers of a picture may mean, by the name of its file: those of Cellpose's masks are never background.
pub fn source_of_picture(path: &Path, labels: RawLabels) -> LabelSource {
    if names::is_cellpose(path) { LabelSource::Instances(labels) } else { LabelSource::Values(labels) }
}

/// Reads the shapes of a file without drawing them, for images of which parts are looked at. `None` for a label image.
///
/// # Errors
/// As [`read_annotations`].
pub fn read_shapes(path: impl AsRef<Path>, options: &AnnotationOptions) -> Result<Option<DrawnShapes>> {
    let path = path.as_ref();
    if is_label_image(path)? {
        return Ok(None);
    }
    let read = content_of(path, options).and_then(|content| match content {
        Content::Labels(_) => Ok(None),
        Content::Drawing(drawing) => Ok(Some(DrawnShapes::new(usable(drawing, options)?))),
    });
    read.map_err(|error| in_file(path, error))
}

/// Reads the annotations of one image from the bytes of a file other than PNG and TIFF; `name` is that of the file.
///
/// # Errors
/// [`Error::Labels`] for what is not one of these files or has nothing to use; [`Error::Limit`] beyond the limits.
pub fn decode_annotations(bytes: &[u8], name: &Path, options: &AnnotationOptions) -> Result<AnnotationFile> {
    content(bytes, name, options)?.annotations(options)
}

/// What a file that is no picture holds.
enum Content {
    Labels(LabelSource),
    Drawing(Drawing),
}

impl Content {
    fn annotations(self, options: &AnnotationOptions) -> Result<AnnotationFile> {
        let mut drawing = match self {
            Content::Labels(labels) => return Ok(AnnotationFile { labels, unused: Vec::new() }),
            Content::Drawing(drawing) => usable(drawing, options)?,
        };
        let labels = drawing.draw(options.shape)?;
        Ok(AnnotationFile { labels: LabelSource::Drawn(labels), unused: drawing.skipped() })
    }
}

/// Names the file of an error about its content.
fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Limit(reason) => Error::limit(path, reason),
        other => other.in_file(path),
    }
}

/// Whether a path is a picture or a zarr, whose numbers are labels.
fn is_label_image(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(is_zarr_folder(path));
    }
    let start = first_bytes(path)?;
    Ok([&b"\x89PNG"[..], b"II", b"MM", b"\xff\xd8\xff"].iter().any(|magic| start.starts_with(magic)))
}

/// What a file, or a folder of regions, holds.
fn content_of(path: &Path, options: &AnnotationOptions) -> Result<Content> {
    if !path.is_dir() {
        return content(&read_bytes(path)?, path, options);
    }
    let regions = roi_files(path)?;
    if regions.is_empty() {
        return Err(Error::file(path, "this folder has no .roi files"));
    }
    let mut drawing = Drawing::default();
    for region in regions {
        add_roi(&mut drawing, &read_bytes(&region)?, &region, options);
    }
    Ok(Content::Drawing(drawing))
}

fn content(bytes: &[u8], name: &Path, options: &AnnotationOptions) -> Result<Content> {
    let mut drawing = Drawing::default();
    if numpy::is_npy(bytes) {
        return numpy::read(bytes).map(Content::Labels).map_err(Error::Labels);
    }
    #[cfg(feature = "keras")]
    if hdf5::is_hdf5(bytes) && !name.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("ilp")) {
        return hdf5::read(bytes, options.shape).map(Content::Labels).map_err(Error::Labels);
    }
    if imagej::is_roi(bytes) {
        add_roi(&mut drawing, bytes, name, options);
        return Ok(Content::Drawing(drawing));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        let archive = Archive::open_with_repeated_names(bytes).map_err(Error::Labels)?;
        if let Some(text) = packed_text(&archive)? {
            return decode_text(&text, name, options);
        }
        add_roi_set(&mut drawing, &archive, options)?;
        return Ok(Content::Drawing(drawing));
    }
    if bytes.starts_with(b"\x1f\x8b") {
        let mut text = Vec::new();
        let unpacked = flate2::read::MultiGzDecoder::new(bytes).take(TEXT_BYTES as u64 + 1).read_to_end(&mut text);
        unpacked.map_err(|error| Error::Labels(format!("it cannot be unpacked: {error}")))?;
        return decode_text(&text, name, options);
    }
    decode_text(bytes, name, options)
}

/// Reads JSON of any kind.
fn decode_text(bytes: &[u8], name: &Path, options: &AnnotationOptions) -> Result<Content> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => {}
        _ => {
            let what = foreign(bytes, name);
            return Err(Error::Labels(format!(
                "this is {what}: expected a label image (PNG, TIFF, .npy, HDF5 of ilastik), GeoJSON of QuPath, ImageJ regions (.roi, .zip), \
                 _seg.npy of Cellpose, JSON of COCO or LabelMe, or .labeling of Labkit"
            )));
        }
    }
    if text.len() > TEXT_BYTES {
        return Err(Error::Limit(format!(
            "the file has {} bytes of JSON, and {TEXT_BYTES} are read at most; export fewer objects or images at a time",
            text.len()
        )));
    }
    let root: serde_json::Value =
        read_json(text).map_err(|error| Error::Labels(format!("it is not whole JSON: {error}")))?;
    let classes = Classes::new(options);
    let read = if coco::is_coco(&root) {
        coco::read(&root, options.image.as_deref(), &classes)
    } else if root["shapes"].is_array() {
        labelme::read(&root, &classes)
    } else if labkit::is_labkit(&root) {
        labkit::read(&root, &classes)
    } else {
        qupath::read(&root, &classes)
    };
    read.map(Content::Drawing).map_err(Error::Labels)
}

/// What a file is that cannot be read, with a way out where one is known.
fn foreign(bytes: &[u8], name: &Path) -> String {
    let ending = name.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let what = match ending.as_str() {
        "bsdf" | "bson" => {
            "a binary labeling of ImgLib2, which is not read; in Labkit, save it as .labeling or as .tif"
        }
        "ilp" => "a project of ilastik, which is not read; export the labels as TIFF or .npy",
        "qpdata" => "a data file of QuPath, which is not read; use File > Export objects as GeoJSON",
        _ if bytes.starts_with(b"\x89HDF") => "an HDF5 file, which is not read; export the labels as TIFF or .npy",
        _ if bytes.starts_with(b"<") => "XML, which is not read; export outlines as GeoJSON or label images",
        _ => "no file of annotations known here",
    };
    what.into()
}

/// The names of the images that a COCO file has annotations for; nothing for any other file.
pub(super) fn coco_images(path: &Path) -> Option<Vec<String>> {
    let bytes = read_bytes(path).ok().filter(|bytes| bytes.len() <= TEXT_BYTES)?;
    let root = read_json(&bytes).ok()?;
    coco::is_coco(&root).then(|| coco::images(&root))
}

/// The shapes on the plane that was chosen; refuses a file with none that can be used.
fn usable(mut drawing: Drawing, options: &AnnotationOptions) -> Result<Drawing> {
    drawing.choose(options.plane, options.frame)?;
    if drawing.is_empty() {
        let skipped = drawing.skipped();
        let what =
            if skipped.is_empty() { "it holds no shapes".to_string() } else { format!("only {}", skipped.join(", ")) };
        return Err(Error::Labels(format!(
            "nothing in it can be used: {what}; draw cells as areas, and name the classes of cells and background if they are \
             others than Foreground and Background"
        )));
    }
    Ok(drawing)
}

fn add_roi(drawing: &mut Drawing, bytes: &[u8], name: &Path, options: &AnnotationOptions) {
    let stem = name.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if let Err(reason) = imagej::add(drawing, bytes, &stem, &Classes::new(options)) {
        drawing.skip(format!("damaged region ({reason})"));
    }
}

/// The JSON of an archive without regions, in which programs pack it.
fn packed_text<'a>(archive: &Archive<'a>) -> Result<Option<Cow<'a, [u8]>>> {
    let lower = |name: &str| name.to_lowercase();
    // What the Finder of macOS adds.
    let is_shadow =
        |name: &str| name.starts_with("__MACOSX/") || name.rsplit('/').next().is_some_and(|n| n.starts_with("._"));
    let names: Vec<&str> = archive.names_in_order().into_iter().filter(|name| !is_shadow(name)).collect();
    if names.iter().any(|name| lower(name).ends_with(".roi")) {
        return Ok(None);
    }
    let is_text = |name: &&&str| lower(name).ends_with(".geojson") || lower(name).ends_with(".json");
    match names.iter().filter(is_text).collect::<Vec<_>>().as_slice() {
        [] => Ok(None),
        [name] => archive.unpack(name, TEXT_BYTES).map_err(Error::Labels),
        several => Err(Error::Labels(format!(
            "this archive has {} files of JSON; a file of annotations is for one image: unpack them",
            several.len()
        ))),
    }
}

/// Adds the regions of an archive in the order of their entries.
fn add_roi_set(drawing: &mut Drawing, archive: &Archive<'_>, options: &AnnotationOptions) -> Result<()> {
    let mut left = ARCHIVE_BYTES;
    for name in archive.names_in_order() {
        if !name.to_lowercase().ends_with(".roi") {
            if !name.ends_with('/') {
                drawing.skip("entry of the archive that is no region");
            }
            continue;
        }
        let region = archive.unpack(name, ROI_BYTES.min(left)).map_err(Error::Labels)?.unwrap_or_default();
        left -= region.len();
        add_roi(drawing, &region, Path::new(name), options);
    }
    Ok(())
}

/// The `.roi` files of a folder, sorted.
fn roi_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("roi")) && file.is_file());
    files.sort();
    Ok(files)
}

fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let file = fs::File::open(path).map_err(|source| Error::io(path, source))?;
    let mut start = Vec::new();
    file.take(8).read_to_end(&mut start).map_err(|source| Error::io(path, source))?;
    Ok(start)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "this is not a regular file; one file of annotations was expected"));
    }
    if metadata.len() > FILE_BYTES {
        return Err(Error::Limit(format!(
            "{}: the file has {} bytes and {FILE_BYTES} are read at most",
            path.display(),
            metadata.len()
        )));
    }
    fs::read(path).map_err(|source| Error::io(path, source))
}

/// Which names mean cells, and which background.
struct Classes {
    foreground: Option<String>,
    background: String,
}

impl Classes {
    fn new(options: &AnnotationOptions) -> Self {
        let background = options.background.clone().unwrap_or_else(|| "Background".into());
        Self { foreground: options.foreground.clone(), background }
    }

    fn is_background(&self, class: &str) -> bool {
        is_or_derives(class, &self.background)
    }

    /// Whether a free name begins as that of the background does, or with `bg` where no other was asked for.
    fn is_background_name(&self, name: &str) -> bool {
        let short = self.background == "Background" && imagej::begins_as(name, "bg");
        short || imagej::begins_as(name, &self.background)
    }

    /// Whether a class means cells; `usual` is the one that does if none was asked for, `None` for every class.
    fn is_foreground(&self, class: &str, usual: Option<&str>) -> bool {
        let wanted = self.foreground.as_deref().or(usual);
        wanted.is_none_or(|wanted| is_or_derives(class, wanted))
    }
}

/// Whether a class is the wanted one, or one derived from it as QuPath writes them, `Wanted: More`; whatever the case.
fn is_or_derives(class: &str, wanted: &str) -> bool {
    let (class, wanted) = (class.to_lowercase(), wanted.to_lowercase());
    class.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// A text of a file, no longer than a message can take.
fn shortened(text: &str) -> String {
    let short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(40).collect();
    if short.len() < text.len() { format!("{short}..") } else { short }
}

#[cfg(test)]
mod tests;
