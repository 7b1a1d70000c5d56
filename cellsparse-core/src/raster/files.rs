//! Which files belong to a job: one file or a folder of images, and labels paired with images by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How many names an error message lists before it only counts.
const NAMES_SHOWN: usize = 3;

/// The image files behind a path: the file itself, or the images of a folder (not of its subfolders), sorted by name.
///
/// Files of a folder are taken by extension (`png tif tiff jpg jpeg`, any case); hidden ones are skipped. A path that
/// names a file is taken whatever its extension.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Io`]; [`Error::File`] for a folder without images.
pub fn list_images(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut images = Vec::new();
    let mut others = 0usize;
    for entry in fs::read_dir(path).map_err(|source| Error::io(path, source))? {
        let file = entry.map_err(|source| Error::io(path, source))?.path();
        let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || file.is_dir() {
            continue;
        }
        if has_image_extension(&file) {
            images.push(file);
        } else {
            others += 1;
        }
    }
    if images.is_empty() {
        return Err(Error::file(
            path,
            format!("the folder has no images ({others} other files); expected .png, .tif, .tiff, .jpg or .jpeg"),
        ));
    }
    images.sort();
    Ok(images)
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
    matches!(extension.as_deref(), Some("png" | "tif" | "tiff" | "jpg" | "jpeg"))
}

/// The name by which files of one image are known: without folder and extension, where `.ome.tif` is one extension.
pub fn image_stem(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let is_ome = stem.len() > 4 && stem.to_ascii_lowercase().ends_with(".ome");
    match extension.as_deref() {
        Some("tif" | "tiff") if is_ome => stem[..stem.len() - 4].to_owned(),
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
