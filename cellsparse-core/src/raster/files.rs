//! Which files belong to a job: one file or a folder of images, and labels paired with images by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::require_regular_file;
use super::read::is_zarr;
use crate::error::{Error, Result};

/// How many names an error message lists before it only counts.
const NAMES_SHOWN: usize = 3;

/// The files of a folder, or one file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// What is taken, sorted by name.
    pub files: Vec<PathBuf>,
    /// Files of an image format that are not taken as images, sorted by name: label files of Cellpose (`x_masks.png`,
    /// `x_cp_masks.tif`), thumbnails, and pipes or devices.
    pub skipped: Vec<PathBuf>,
}

/// The image files behind a path: the file itself, or the images of a folder (not of its subfolders), sorted by name.
///
/// Files of a folder are taken by extension (`png tif tiff svs jpg jpeg`, any case), and folders named `.zarr`. Hidden ones, those
/// that [`Listing`] names as skipped, and files of other formats are not taken. A path that names a file is taken whatever its
/// name, and so is a folder that is a zarr ([`is_zarr_folder`]).
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Io`]; [`Error::File`] for a folder without images, and for a pipe, device or socket.
pub fn list_images(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    Ok(find_images(path)?.files)
}

/// As [`list_images`], and tells which files were not taken.
///
/// # Errors
/// As [`list_images`].
pub fn find_images(path: impl AsRef<Path>) -> Result<Listing> {
    list(path.as_ref(), |name| is_label_name(name) || is_thumbnail_name(name))
}

/// The label images behind a path: as [`list_images`], with files that are named as labels.
///
/// # Errors
/// As [`list_images`].
pub fn list_label_images(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    Ok(list(path.as_ref(), is_thumbnail_name)?.files)
}

fn list(path: &Path, skip: impl Fn(&str) -> bool) -> Result<Listing> {
    let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
    let is_one = is_zarr(path);
    if is_one || !metadata.is_dir() {
        if !is_one {
            require_regular_file(path)?;
        }
        return Ok(Listing { files: vec![path.to_path_buf()], skipped: Vec::new() });
    }
    let mut listing = Listing { files: Vec::new(), skipped: Vec::new() };
    let mut others = 0usize;
    for entry in fs::read_dir(path).map_err(|source| Error::io(path, source))? {
        let file = entry.map_err(|source| Error::io(path, source))?.path();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_folder = file.is_dir();
        if name.starts_with('.') || (is_folder && !has_zarr_extension(&file)) {
            continue;
        }
        if !is_folder && !has_image_extension(&file) {
            others += 1;
        } else if skip(&image_stem(&file).to_lowercase()) || !(is_folder || file.is_file()) {
            listing.skipped.push(file);
        } else {
            listing.files.push(file);
        }
    }
    listing.files.sort();
    listing.skipped.sort();
    if listing.files.is_empty() {
        let skipped = match listing.skipped.first() {
            Some(first) => {
                format!(", {} named as labels or thumbnails such as {}", listing.skipped.len(), image_stem(first))
            }
            None => String::new(),
        };
        return Err(Error::file(
            path,
            format!(
                "the folder has no images ({others} other files{skipped}); expected .png, .tif, .tiff, .jpg, .jpeg or .zarr"
            ),
        ));
    }
    Ok(listing)
}

/// Whether a path is a folder that is a zarr, by its name (`.zarr`) or by the metadata in it: one image, not a folder of several.
pub fn is_zarr_folder(path: impl AsRef<Path>) -> bool {
    is_zarr(path.as_ref())
}

/// Cellpose's names for label images, by their stem in small letters.
fn is_label_name(stem: &str) -> bool {
    stem.ends_with("_masks") || stem.ends_with("_cp_masks")
}

/// Names of reduced copies: `x_thumb`, `x-thumbnail`, and those of MetaXpress, `x_thumb` and an identifier of 36 letters.
fn is_thumbnail_name(stem: &str) -> bool {
    let ends = ["thumb", "thumbs", "thumbnail"]
        .iter()
        .any(|word| stem == *word || stem.strip_suffix(word).is_some_and(|rest| rest.ends_with(['_', '-', '.', ' '])));
    let identifier = |rest: &str| rest.len() == 36 && rest.chars().filter(|letter| *letter == '-').count() == 4;
    ends || stem.rsplit_once("_thumb").is_some_and(|(_, rest)| identifier(rest))
}

/// Pairs every image with the label file of the same stem (the file name without its last extension), in the order of
/// `images`.
///
/// # Errors
/// [`Error::File`] (with the first file concerned) when a file has no partner, or two files of one list share a stem;
/// the message names some and counts the rest.
pub fn pair_by_stem(images: &[PathBuf], labels: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let image_stems = by_stem(images, "images")?;
    let label_stems = by_stem(labels, "labels")?;
    let unmatched: Vec<&PathBuf> = images.iter().filter(|path| !label_stems.contains_key(&image_stem(path))).collect();
    if let Some(first) = unmatched.first() {
        return Err(Error::file(first, missing("image", "label file", &unmatched, images.len(), labels)));
    }
    let unmatched: Vec<&PathBuf> = labels.iter().filter(|path| !image_stems.contains_key(&image_stem(path))).collect();
    if let Some(first) = unmatched.first() {
        return Err(Error::file(first, missing("label file", "image", &unmatched, labels.len(), images)));
    }
    Ok(images
        .iter()
        .filter_map(|image| label_stems.get(&image_stem(image)).map(|label| (image.clone(), (*label).clone())))
        .collect())
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    matches!(extension.as_deref(), Some("png" | "tif" | "tiff" | "svs" | "jpg" | "jpeg"))
}

fn has_zarr_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zarr"))
}

/// The name by which files of one image are known: without folder and extension, where `.ome.tif` and `.ome.zarr` are one
/// extension. An image within a zarr has the name of that, and its own after it: `plate_A_1_0` for `plate.zarr/A/1/0`.
pub fn image_stem(path: &Path) -> String {
    if let Some(zarr) = path.ancestors().skip(1).find(|folder| has_zarr_extension(folder))
        && !has_image_extension(path)
        && let Ok(inside) = path.strip_prefix(zarr)
    {
        let parts = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        return std::iter::once(image_stem(zarr)).chain(parts).collect::<Vec<_>>().join("_");
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let is_ome = stem.len() > 4 && stem.to_ascii_lowercase().ends_with(".ome");
    match extension.as_deref() {
        Some("tif" | "tiff" | "zarr") if is_ome => stem[..stem.len() - 4].to_owned(),
        _ => stem,
    }
}

fn by_stem<'a>(paths: &'a [PathBuf], what: &str) -> Result<BTreeMap<String, &'a PathBuf>> {
    let mut stems = BTreeMap::new();
    for path in paths {
        if let Some(other) = stems.insert(image_stem(path), path) {
            return Err(Error::file(
                path,
                format!(
                    "the {what} hold a second file of that name, {}; names without extension must be unique",
                    other.display()
                ),
            ));
        }
    }
    Ok(stems)
}

fn missing(what: &str, partner: &str, unmatched: &[&PathBuf], total: usize, candidates: &[PathBuf]) -> String {
    let names: Vec<String> = unmatched.iter().take(NAMES_SHOWN).map(|path| image_stem(path)).collect();
    let rest = unmatched.len().saturating_sub(NAMES_SHOWN);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let example =
        candidates.first().map_or_else(String::new, |path| format!(" (there is, for example, {})", image_stem(path)));
    format!(
        "{} of {total} {what}s have no {partner} of the same name: {}{more}{example}; files are paired by their names \
         without extension",
        unmatched.len(),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_folder_gives_its_images_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.tif", ".hidden.png", "notes.txt", "c.jpeg"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        fs::create_dir(folder.path().join("sub.png")).unwrap();
        let names: Vec<String> = list_images(folder.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["a.tif", "b.PNG", "c.jpeg"]);
        let single = folder.path().join("notes.txt");
        assert_eq!(list_images(&single).unwrap(), [single]);
    }

    #[test]
    fn a_zarr_is_an_image_alone_and_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["b.zarr", "a_masks.zarr", "other"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("a.png"), b"x").unwrap();
        let found = find_images(folder.path()).unwrap();
        assert_eq!((found.files, found.skipped), (vec![path("a.png"), path("b.zarr")], vec![path("a_masks.zarr")]));
        assert_eq!(list_images(path("b.zarr")).unwrap(), [path("b.zarr")]);
        assert!(
            list_images(path("other")).is_err() && !is_zarr_folder(path("other")) && !is_zarr_folder(path("a.png"))
        );
        fs::write(path("other").join(".zgroup"), b"{}").unwrap();
        assert_eq!(list_images(path("other")).unwrap(), [path("other")]);
    }

    #[test]
    fn label_files_thumbnails_and_pipes_are_no_images() {
        let folder = tempfile::tempdir().unwrap();
        let id = "_thumb0F1E2D3C-0000-1111-2222-0123456789AB.tif";
        for name in [
            "a.png",
            "a_masks.png",
            "b_cp_masks.tif",
            "b.tif",
            "b_seg.npy",
            "a_thumb.jpg",
            "thumb_joint.tif",
            &format!("w1{id}"),
        ] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let names = |files: &[PathBuf]| -> Vec<String> { files.iter().map(|path| image_stem(path)).collect() };
        let found = find_images(folder.path()).unwrap();
        assert_eq!(names(&found.files), ["a", "b", "thumb_joint"]);
        assert_eq!(found.skipped.len(), 4, "{:?}", found.skipped);
        let labels = list_label_images(folder.path()).unwrap();
        assert_eq!(names(&labels), ["a", "a_masks", "b", "b_cp_masks", "thumb_joint"]);
        let single = folder.path().join("a_masks.png");
        assert_eq!(list_images(&single).unwrap(), std::slice::from_ref(&single));
        for name in ["a.png", "b.tif", "thumb_joint.tif"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let text = find_images(folder.path()).unwrap_err().to_string();
        assert!(text.contains("no images (1 other files, 4 named as labels"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::write(folder.path().join("a.png"), b"x").unwrap();
        let found = find_images(folder.path()).unwrap();
        assert_eq!((found.files.len(), found.skipped.as_slice()), (1, std::slice::from_ref(&pipe)));
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            assert!(list_images(path).unwrap_err().to_string().contains("not a regular file"));
        }
    }

    #[test]
    fn an_empty_folder_and_a_missing_path_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), b"x").unwrap();
        let text = list_images(folder.path()).unwrap_err().to_string();
        assert!(text.contains("no images (1 other files)"), "{text}");
        assert!(matches!(list_images(folder.path().join("nowhere")), Err(Error::NotFound { .. })));
    }

    #[test]
    fn pairs_follow_the_images_and_names_with_dots_survive() {
        let pairs = pair_by_stem(&paths(&["i/b.v2.png", "i/a.png"]), &paths(&["l/a.tif", "l/b.v2.tif"])).unwrap();
        assert_eq!(
            pairs,
            [("i/b.v2.png".into(), "l/b.v2.tif".into()), (PathBuf::from("i/a.png"), PathBuf::from("l/a.tif"))]
        );
        assert!(pair_by_stem(&paths(&["i/a.OME.tif"]), &paths(&["l/a.png"])).is_ok());
        let names = ["x/.ome.tif", "x/a.ome.png", "x/é.ome.tiff", "x/ome.tif"].map(|name| image_stem(Path::new(name)));
        assert_eq!(names, [".ome", "a.ome", "é", "ome"]);
        let names = ["x/a.ome.zarr", "x/a.zarr/", "a.zarr/0", "a.ome.zarr/A/1/0", "a.zarr/b.tif", "a.zarr/b.zarr"];
        assert_eq!(names.map(|name| image_stem(Path::new(name))), ["a", "a", "a_0", "a_A_1_0", "b", "a_b.zarr"]);
    }

    #[test]
    fn missing_partners_are_named_then_counted() {
        let images = paths(&["a.png", "b.png", "c.png", "d.png", "e.png"]);
        let text = pair_by_stem(&images, &paths(&["l/e.png"])).unwrap_err().to_string();
        assert!(text.contains("4 of 5 images have no label file") && text.contains("a, b, c and 1 more"), "{text}");
        let text = pair_by_stem(&images[..1], &paths(&["a.tif", "z.tif"])).unwrap_err().to_string();
        assert!(text.contains("1 of 2 label files have no image") && text.contains('z'), "{text}");
        let text = pair_by_stem(&paths(&["a.png", "a.tif"]), &paths(&["a.png"])).unwrap_err().to_string();
        assert!(text.contains("second file of that name"), "{text}");
    }
}
