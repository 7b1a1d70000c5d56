//! Images and labels from the paths that the user named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cellsparse_core::annotations::{LabelEncoding, SparseLabels};
use cellsparse_core::raster::{
    ImageFile, RawLabels, ReadOptions, find_images, image_stem, is_zarr_folder, list_images, list_label_images,
    pair_by_stem, read_image_with, read_label_file, read_label_file_with,
};
use cellsparse_core::{Error, LabelImage, Result};

use crate::args::Encoding;
use crate::note;

/// Pairs the files of two paths. Two single files are a pair whatever their names; otherwise names without ending pair.
pub fn pairs(images: &Path, labels: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let (image_files, label_files) = (list_images(images)?, list_label_images(labels)?);
    if is_one(images) && is_one(labels) {
        return Ok(image_files.into_iter().zip(label_files).collect());
    }
    pair_by_stem(&image_files, &label_files)
}

/// Whether a path is one image, not a folder of several.
fn is_one(path: &Path) -> bool {
    path.is_file() || is_zarr_folder(path)
}

/// The images behind a path; says which files of an image format are not taken.
pub fn images(path: &Path) -> Result<Vec<PathBuf>> {
    let found = find_images(path)?;
    if let Some(first) = found.skipped.first() {
        let more = found.skipped.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        note(&format!(
            "not taken as images (named as labels or thumbnails, or no regular files): {}{more}",
            first.display()
        ));
    }
    Ok(found.files)
}

/// Remarks on files, each printed once however many files it holds for.
#[derive(Default)]
pub struct Remarks {
    known: BTreeSet<String>,
    /// What was printed, with the first file that it holds for.
    pub printed: Vec<String>,
}

impl Remarks {
    /// Reads an image with what its file tells beside it, and prints what is new to say about it.
    pub fn read_file(&mut self, path: &Path, options: &ReadOptions) -> Result<ImageFile> {
        let file = read_image_with(path, options)?;
        self.say(path, &file.notes);
        Ok(file)
    }

    /// Prints what is new to say about an image.
    pub fn say(&mut self, path: &Path, remarks: &[String]) {
        for remark in remarks {
            if self.known.insert(remark.clone()) {
                let line = format!("{}: {remark}", path.display());
                note(&line);
                self.printed.push(line);
            }
        }
    }
}

/// Pairs label images of two paths. Of a label image that is there as OME-TIFF too, as `predict` writes it, one is enough.
pub fn result_pairs(found: &Path, truth: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let once = |path: &Path| -> Result<Vec<PathBuf>> {
        let files = list_label_images(path)?;
        let is_ome = |file: &PathBuf| file.file_stem().is_some_and(|name| name.to_string_lossy() != stem(file));
        let plain: BTreeSet<String> = files.iter().filter(|file| !is_ome(file)).map(|file| stem(file)).collect();
        Ok(files.into_iter().filter(|file| !is_ome(file) || !plain.contains(&stem(file))).collect())
    };
    if is_one(found) && is_one(truth) {
        return pairs(found, truth);
    }
    pair_by_stem(&once(found)?, &once(truth)?)
}

/// Reads one file of sparse labels.
pub fn sparse_labels(path: &Path, encoding: Encoding, options: &ReadOptions) -> Result<SparseLabels> {
    SparseLabels::parse(read_label_file_with(path, options)?, encoding.into()).map_err(|error| at(path, error))
}

impl From<Encoding> for LabelEncoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Auto => LabelEncoding::Auto,
            Encoding::Wire => LabelEncoding::Wire,
            Encoding::Dense => LabelEncoding::Dense,
            Encoding::Signed => LabelEncoding::Signed,
            Encoding::Cells => LabelEncoding::Cells,
        }
    }
}

/// Reads one label image as it stands in the file: 0 background, `>= 1` instance. Only [`Encoding::Signed`] admits
/// pixels below 0.
pub fn label_image(path: &Path, encoding: Encoding) -> Result<LabelImage> {
    let labels = match read_label_file(path)? {
        RawLabels::Signed(values) => values,
        RawLabels::Unsigned(values) => {
            if let Some(value) = values.iter().find(|value| i32::try_from(**value).is_err()) {
                return Err(Error::file(path, format!("the label {value} is too large; the largest is {}", i32::MAX)));
            }
            values.mapv(|value| i32::try_from(value).unwrap_or(i32::MAX))
        }
        _ => return Err(Error::file(path, "label values of this type are not supported")),
    };
    if encoding != Encoding::Signed
        && let Some(value) = labels.iter().find(|value| **value < 0)
    {
        return Err(Error::file(path, format!("it has the label {value}; expected 0 for background and cells from 1")));
    }
    Ok(labels)
}

/// The name of an image without folder and ending.
pub fn stem(path: &Path) -> String {
    Some(image_stem(path)).filter(|stem| !stem.is_empty()).unwrap_or_else(|| "image".to_owned())
}

/// Refuses two images of one name, whose results would overwrite each other.
pub fn refuse_twins(files: &[PathBuf], out: &Path) -> Result<()> {
    let twin = |name: &dyn Fn(&Path) -> String| {
        let mut seen = BTreeSet::new();
        files.iter().find(|file| !seen.insert(name(file)))
    };
    if let Some(twin) = twin(&|file| stem(file)) {
        return Err(Error::file(
            twin,
            format!("another image is also named '{}'; results are named so too", stem(twin)),
        ));
    }
    match twin(&|file| stem(file).to_lowercase()) {
        Some(twin) if ignores_case(out) => Err(Error::file(
            twin,
            format!(
                "the name of another image differs from '{}' in capital letters only, which the --out folder does not tell \
                 apart; rename one",
                stem(twin)
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether a folder takes names that differ in capital letters for the same; not when that cannot be found out.
fn ignores_case(folder: &Path) -> bool {
    let name = format!(".cellsparse-case-{}", std::process::id());
    let path = folder.join(&name);
    let made = std::fs::create_dir_all(folder).and_then(|()| std::fs::File::create_new(&path));
    if made.is_err() {
        return false;
    }
    let ignored = folder.join(name.to_uppercase()).exists();
    let _ = std::fs::remove_file(path);
    ignored
}

/// Refuses to write `out/name.png`, `out/name.tif`, `out/name.ome.tif` or `out/name.ome.zarr` over one of the files that were read.
pub fn refuse_overwrite(out: &Path, name: &str, read: &[PathBuf]) -> Result<()> {
    let read: BTreeSet<PathBuf> = read.iter().filter_map(|path| path.canonicalize().ok()).collect();
    for ending in ["png", "tif", "ome.tif", "ome.zarr"] {
        let path = out.join(format!("{name}.{ending}"));
        if path.canonicalize().is_ok_and(|path| read.contains(&path)) {
            return Err(Error::file(&path, "the result would overwrite this file; choose another --out folder"));
        }
    }
    Ok(())
}

/// Adds the file to an error about its content.
pub fn at(path: &Path, error: Error) -> Error {
    error.in_file(path)
}

/// Number of different cells in a label image.
pub fn count(labels: &LabelImage) -> usize {
    labels.iter().filter(|label| **label > 0).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_refused() {
        let files = ["a/x.png", "a/y.png", "a/x.tif"].map(PathBuf::from);
        let out = tempfile::tempdir().unwrap();
        assert!(refuse_twins(&files[..2], out.path()).is_ok());
        assert!(refuse_twins(&files, out.path()).unwrap_err().to_string().contains("'x'"));
        let twins = [PathBuf::from("a/Cell.png"), PathBuf::from("a/cell.tif")];
        let refused = refuse_twins(&twins, out.path()).is_err();
        assert_eq!(refused, ignores_case(out.path()), "files of both names, or one of them");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing is left");
    }
}
