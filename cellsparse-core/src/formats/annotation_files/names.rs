//! Which annotations belong to which image, by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::coco_images;
use crate::error::{Error, Result, counted};
use crate::raster::{image_stem, is_zarr_folder};

/// Endings of the names of label images and other annotations, after the name of the image without its extension.
const SUFFIXES: [&str; 21] = [
    "_cp_masks",
    "_masks",
    "_mask",
    "_seg",
    "_labels",
    "_label",
    "_annotations",
    "_annotation",
    "_rois",
    "_roi",
    "_roiset",
    "_object identities",
    "-cp_masks",
    "-masks",
    "-mask",
    "-labels",
    "-label",
    "-annotations",
    "-annotation",
    "-rois",
    "-roiset",
];

/// Beginnings before the name of the image.
const PREFIXES: [&str; 2] = ["roiset_", "roiset-"];

/// Why an image is not used.
const ALONE: &str = "an image without annotations";

/// Names in a message, at most.
const SHOWN: usize = 3;

/// Images with the files of their annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Matches {
    /// Image and annotations; a COCO file may belong to several images.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// What has no partner, or a better one.
    pub unused: Vec<NotUsed>,
}

/// A file that is not used. It is printed as its name and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotUsed {
    /// An image, or a file of annotations.
    pub file: PathBuf,
    /// Why, in a half sentence.
    pub reason: String,
}

impl NotUsed {
    fn new(file: &Path, reason: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), reason: reason.into() }
    }
}

impl fmt::Display for NotUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", name(&self.file), self.reason)
    }
}

/// Finds the annotations of images: the one file `labels` for a single image or, if it is a COCO file, for all; of a folder, those
/// named as the image, in the order drawn shapes, label images, files of Cellpose, where several are.
///
/// A name fits if it is that of the image, with or without its extension, alone, before one of the usual endings (`_masks`,
/// `_cp_masks`, `_seg`, `_label(s)`, `-label(s)`, `_rois`, ...), or before ` - ` and any text, as QuPath exports; and `RoiSet_`
/// before it. A folder of that name holds `.roi` files. One COCO file in the folder serves all images that it names. An image that
/// is itself the annotation of another one in its folder is none to train on.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`]; [`Error::File`] when nothing fits, and for two files that fit equally.
pub fn match_annotations(images: &[PathBuf], labels: &Path) -> Result<Matches> {
    let metadata = fs::metadata(labels).map_err(|source| Error::io(labels, source))?;
    let is_one = !metadata.is_dir() || is_zarr_folder(labels);
    if is_one || (images.len() == 1 && has_only_regions(labels)) {
        return match_file(images, labels);
    }
    let images: Vec<&PathBuf> = {
        let stems: BTreeSet<String> = images.iter().map(|image| image_stem(image)).collect();
        images.iter().filter(|image| !stems.iter().any(|other| is_annotation_of(&image_stem(image), other))).collect()
    };
    let candidates = candidates(labels)?;
    let known: BTreeSet<&PathBuf> = images.iter().copied().collect();
    let mut used = BTreeSet::new();
    let mut matches = Matches::default();
    let mut alone = Vec::new();
    for image in &images {
        let mut fitting: Vec<(usize, &PathBuf)> = candidates
            .iter()
            .filter(|file| !known.contains(file))
            .filter_map(|file| Some((rank(file, image)?, file)))
            .collect();
        fitting.sort();
        match fitting.as_slice() {
            [] => alone.push(*image),
            [(first, one), (second, other), ..] if first == second => {
                return Err(Error::file(
                    other,
                    format!(
                        "{} is named as annotations of the same image, {}; leave one of them",
                        one.display(),
                        name(image)
                    ),
                ));
            }
            [(_, best), rest @ ..] => {
                used.insert(*best);
                for (_, other) in rest {
                    used.insert(*other);
                    matches.unused.push(NotUsed::new(other, format!("{} is taken instead", name(best))));
                }
                matches.pairs.push(((*image).clone(), (*best).clone()));
            }
        }
    }
    if !alone.is_empty() {
        let json = |file: &&PathBuf| extension(file) == "json" && !used.contains(*file);
        let tables: BTreeMap<&PathBuf, Vec<String>> =
            candidates.iter().filter(json).filter_map(|file| Some((file, coco_images(file)?))).collect();
        alone.retain(|image| {
            let wanted = [name(image), image_stem(image)];
            let holds =
                |names: &Vec<String>| names.iter().any(|n| *n == wanted[0] || image_stem(Path::new(n)) == wanted[1]);
            let Some((file, _)) = tables.iter().find(|(_, names)| holds(names)) else { return true };
            matches.pairs.push(((*image).clone(), (*file).clone()));
            false
        });
    }
    matches.pairs.sort_by_key(|(image, _)| images.iter().position(|other| *other == image));
    let unmatched: Vec<&PathBuf> = candidates
        .iter()
        .filter(|file| {
            !used.contains(file) && !known.contains(file) && !matches.pairs.iter().any(|(_, own)| own == *file)
        })
        .collect();
    if matches.pairs.is_empty() {
        return Err(Error::file(labels, nothing_fits(&images, &unmatched)));
    }
    matches.unused.extend(unmatched.iter().map(|file| NotUsed::new(file, "no image of that name")));
    matches.unused.extend(alone.iter().map(|image| NotUsed::new(image, ALONE)));
    Ok(matches)
}

/// Whether a file, by its name, holds annotations of another one in `stems` (names without extension).
pub fn is_annotation_name(path: &Path, stems: &BTreeSet<String>) -> bool {
    let own = stem(path);
    stems.iter().any(|other| is_annotation_of(&own, other))
}

/// Whether the file is named as Cellpose names its masks.
pub(super) fn is_cellpose(path: &Path) -> bool {
    let stem = stem(path).to_lowercase();
    stem.ends_with("_cp_masks") || stem.ends_with("_masks")
}

fn is_annotation_of(own: &str, other: &str) -> bool {
    let suffix = own.strip_prefix(other).map(str::to_lowercase);
    suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix.as_str()))
}

/// One file or folder of regions for all images.
fn match_file(images: &[PathBuf], labels: &Path) -> Result<Matches> {
    if let [image] = images {
        return Ok(Matches { pairs: vec![(image.clone(), labels.to_path_buf())], unused: Vec::new() });
    }
    let Some(names) = coco_images(labels) else {
        // The one image of that name, as in a folder.
        let fits: Vec<&PathBuf> = images.iter().filter(|image| rank(labels, image).is_some()).collect();
        let [image] = fits.as_slice() else {
            return Err(Error::file(
                labels,
                format!(
                    "one file of annotations for {}; name one image, or a folder of annotations",
                    counted(images.len(), "image")
                ),
            ));
        };
        let others = images.iter().filter(|other| other != image);
        let unused = others.map(|other| NotUsed::new(other, ALONE)).collect();
        return Ok(Matches { pairs: vec![((*image).clone(), labels.to_path_buf())], unused });
    };
    let stems: BTreeSet<String> = names.iter().map(|name| image_stem(Path::new(name))).collect();
    let (there, missing): (Vec<&PathBuf>, Vec<&PathBuf>) =
        images.iter().partition(|image| stems.contains(&image_stem(image)));
    if there.is_empty() {
        return Err(Error::file(
            labels,
            nothing_fits(&missing, &names.iter().map(PathBuf::from).collect::<Vec<_>>().iter().collect::<Vec<_>>()),
        ));
    }
    Ok(Matches {
        pairs: there.into_iter().map(|image| (image.clone(), labels.to_path_buf())).collect(),
        unused: missing.iter().map(|image| NotUsed::new(image, ALONE)).collect(),
    })
}

fn nothing_fits(images: &[&PathBuf], files: &[&PathBuf]) -> String {
    let some = |paths: &[&PathBuf]| {
        let names: Vec<String> = paths.iter().take(SHOWN).map(|path| name(path)).collect();
        if names.is_empty() { "none".to_string() } else { names.join(", ") }
    };
    format!(
        "no annotations are named as an image: there are {} ({} ..) and {} of annotations ({} ..); a label file has \
         the name of its image, alone or before _masks, _seg, _labels, _rois",
        counted(images.len(), "image"),
        some(images),
        counted(files.len(), "file"),
        some(files)
    )
}

/// How well a file fits an image, 0 best; nothing when it does not.
fn rank(file: &Path, image: &Path) -> Option<usize> {
    let file = &unpacked(file);
    let kind = match extension(file).as_str() {
        "geojson" | "zip" | "roi" | "labeling" => 0,
        "json" => 1,
        "png" | "tif" | "tiff" | "jpg" | "jpeg" | "h5" | "hdf5" | "zarr" => 2,
        "npy" => 4,
        _ if file.is_dir() => 0,
        _ => return None,
    };
    let own = if file.is_dir() && kind == 0 { [name(file), name(file)] } else { [stem(file), image_stem(file)] };
    // `.ome.tif` counts as one ending, as in the names of results and in QuPath.
    let wanted = [name(image), stem(image), image_stem(image)];
    let pairs = || own.iter().flat_map(|own| wanted.iter().map(move |wanted| (own, wanted)));
    if pairs().any(|(own, wanted)| own == wanted) {
        return Some(kind);
    }
    let fits = |(own, wanted): (&String, &String)| {
        let fits_start = own
            .strip_prefix(wanted)
            .is_some_and(|rest| SUFFIXES.contains(&rest.to_lowercase().as_str()) || rest.starts_with(" - "));
        let lower = own.to_lowercase();
        fits_start || PREFIXES.iter().any(|prefix| lower.strip_prefix(prefix) == Some(&wanted.to_lowercase()))
    };
    pairs().any(fits).then_some(kind + usize::from(kind == 2))
}

/// The files and folders that may hold annotations, sorted.
fn candidates(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|source| Error::io(folder, source))?.path();
        let hidden = name(&file).starts_with('.');
        let known = matches!(
            extension(&unpacked(&file)).as_str(),
            "geojson"
                | "zip"
                | "roi"
                | "labeling"
                | "json"
                | "png"
                | "tif"
                | "tiff"
                | "jpg"
                | "jpeg"
                | "npy"
                | "h5"
                | "hdf5"
        );
        let is_zarr = extension(&file) == "zarr";
        if !hidden && (if file.is_dir() { is_zarr || has_only_regions(&file) } else { known }) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a folder holds regions of ImageJ and no other annotations.
fn has_only_regions(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let names: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    let mut visible = names.iter().filter(|path| !name(path).starts_with('.')).peekable();
    visible.peek().is_some() && visible.all(|path| extension(path) == "roi")
}

/// The name of a packed text without the ending of the packing: `a.geojson` for `a.geojson.gz` and `a.geojson.zip`.
fn unpacked(path: &Path) -> PathBuf {
    let inner = path.with_extension("");
    let is_packed =
        matches!(extension(path).as_str(), "gz" | "zip") && matches!(extension(&inner).as_str(), "geojson" | "json");
    if is_packed { inner } else { path.to_path_buf() }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn extension(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"{}").unwrap();
        }
        folder
    }

    fn pairs(matches: &Matches) -> Vec<(String, String)> {
        matches.pairs.iter().map(|(image, labels)| (name(image), name(labels))).collect()
    }

    fn unused(matches: &Matches) -> Vec<String> {
        matches.unused.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_usual_names_are_known() {
        let files = [
            "a.geojson",
            "b_masks.tif",
            "c_seg.npy",
            "d-labels.tif",
            "e.ome.tif - Series 0.geojson",
            "RoiSet_f.zip",
            "g/1.roi",
            "h.json",
            "k.geojson.gz",
            "m_Object Identities.h5",
            "l_annotations.geojson.zip",
            "i_cp_masks.png",
            "i_seg.npy",
            "stray.png",
            "notes.txt",
        ];
        let labels = folder(&files);
        let images: Vec<PathBuf> = [
            "a.tif",
            "b.tif",
            "c.tif",
            "d.tif",
            "e.ome.tif",
            "f.tif",
            "g.tif",
            "h.tif",
            "k.tif",
            "m.tif",
            "l.tif",
            "i.tif",
            "z.tif",
        ]
        .map(PathBuf::from)
        .into();
        let matches = match_annotations(&images, labels.path()).unwrap();
        let found: Vec<String> = pairs(&matches).into_iter().map(|(_, labels)| labels).collect();
        assert_eq!(
            found[..8],
            ["a.geojson", "b_masks.tif", "c_seg.npy", "d-labels.tif", files[4], "RoiSet_f.zip", "g", "h.json"]
        );
        assert_eq!(
            found[8..],
            ["k.geojson.gz", "m_Object Identities.h5", "l_annotations.geojson.zip", "i_cp_masks.png"]
        );
        assert_eq!(
            unused(&matches),
            [
                "i_seg.npy: i_cp_masks.png is taken instead",
                "stray.png: no image of that name",
                "z.tif: an image without annotations"
            ]
        );
    }

    #[test]
    fn annotations_beside_the_images_are_no_images() {
        let both = folder(&["a.tif", "a_masks.tif", "b.tif", "b_seg.npy"]);
        let images: Vec<PathBuf> = ["a.tif", "a_masks.tif", "b.tif"].map(|name| both.path().join(name)).into();
        let matches = match_annotations(&images, both.path()).unwrap();
        assert_eq!(
            pairs(&matches),
            [("a.tif".into(), "a_masks.tif".into()), ("b.tif".to_string(), "b_seg.npy".to_string())]
        );
        assert!(matches.unused.is_empty(), "{:?}", matches.unused);
    }

    #[test]
    fn one_coco_file_serves_a_folder() {
        let labels = folder(&["x.json"]);
        let path = labels.path().join("x.json");
        fs::write(&path, r#"{"images": [{"file_name": "in/a.png"}, {"file_name": "b.png"}], "annotations": []}"#)
            .unwrap();
        let images: Vec<PathBuf> = ["a.png", "b.png", "c.png"].map(PathBuf::from).into();
        for labels in [labels.path(), &path] {
            let matches = match_annotations(&images, labels).unwrap();
            assert_eq!(pairs(&matches).len(), 2);
            assert_eq!(unused(&matches), ["c.png: an image without annotations"]);
        }
    }

    #[test]
    fn what_does_not_fit_is_explained() {
        let labels = folder(&["p.geojson", "p.zip"]);
        let fit = |names: &[&str], labels: &Path| {
            match_annotations(&names.iter().map(PathBuf::from).collect::<Vec<_>>(), labels).unwrap_err().to_string()
        };
        assert!(fit(&["a.png", "b.png"], labels.path()).contains("2 images (a.png, b.png ..)"));
        assert!(fit(&["p.png", "b.png"], labels.path()).contains("leave one of them"));
        assert!(
            fit(&["a.png", "b.png"], &labels.path().join("p.zip")).contains("one file of annotations for 2 images")
        );
        let one = match_annotations(&[PathBuf::from("any.png")], &labels.path().join("p.zip")).unwrap();
        assert_eq!(one.pairs.len(), 1);
    }
}
