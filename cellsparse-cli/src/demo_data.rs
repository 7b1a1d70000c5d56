//! What the demo works on: drawn fields, or a folder of the user's own images.

use std::path::{Path, PathBuf};

use cellsparse_core::annotations::SparseLabels;
use cellsparse_core::raster::{ReadOptions, list_images, list_label_images, read_image};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::{Error, Image, LabelImage, Result};

use crate::args::Encoding;
use crate::input;

/// Fields that the demo draws to segment them unseen.
const UNSEEN: u64 = 3;

/// An image with annotations.
pub struct Annotated {
    /// Name without folder and ending.
    pub name: String,
    /// The pixels.
    pub image: Image,
    /// Sparse labels: below 0 unlabelled, 0 background, `>= 1` cells.
    pub labels: SparseLabels,
}

/// An image to segment.
pub struct Unseen {
    /// Name without folder and ending.
    pub name: String,
    /// The pixels.
    pub image: Image,
    /// The true labels, if they are known.
    pub truth: Option<LabelImage>,
}

/// Everything that one demo needs.
pub struct DemoData {
    /// Images to train on.
    pub annotated: Vec<Annotated>,
    /// True labels of the images to train on, where the demo drew them itself.
    pub annotated_truth: Vec<LabelImage>,
    /// Images to segment.
    pub unseen: Vec<Unseen>,
    /// The folder of the user's images; `None` when the fields are drawn.
    pub source: Option<PathBuf>,
    /// Whether the segmented images are the annotated ones, for lack of others.
    pub same_images: bool,
}

impl DemoData {
    /// Draws one field to annotate and three to segment.
    pub fn draw(seed: u64) -> Result<Self> {
        let options = FieldOptions::default();
        let field = draw_field(&options, seed)?;
        let labels = SparseLabels::from_signed(annotate(&field, &AnnotationOptions::default(), seed))?;
        let mut unseen = Vec::new();
        for number in 1..=UNSEEN {
            let field = draw_field(&options, unseen_seed(seed, number))?;
            unseen.push(Unseen { name: format!("unseen_{number}"), image: field.image, truth: Some(field.truth) });
        }
        Ok(Self {
            annotated: vec![Annotated { name: "annotated_1".to_owned(), image: field.image, labels }],
            annotated_truth: vec![field.truth],
            unseen,
            source: None,
            same_images: false,
        })
    }

    /// Reads a folder: `images/` with sparse wire labels in `sparse/` (or `labels/`), and true labels in `truth/` (or
    /// `masks/`) if there are any. Images without sparse labels are segmented; without such images those of `../test`
    /// or, in the end, the annotated ones themselves. A folder with `train/` (and `test/`) inside is taken apart so.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::NotFound { path: folder.to_path_buf() });
        }
        let root = if folder.join("images").is_dir() { folder.to_path_buf() } else { folder.join("train") };
        if !root.join("images").is_dir() {
            return Err(Error::file(
                folder,
                "expected a folder images/ in it, with sparse labels of the same names in sparse/ (0 unlabelled, 1 \
                 background, 2 and up cells)",
            ));
        }
        let sparse = label_folder(&root)?;
        let sparse_files = list_label_images(&sparse)?;
        let mut annotated = Vec::new();
        let mut rest = Vec::new();
        for path in list_images(root.join("images"))? {
            let name = input::stem(&path);
            match sparse_files.iter().find(|file| input::stem(file) == name) {
                Some(file) => {
                    let image = read_image(&path)?;
                    annotated.push(Annotated {
                        name,
                        image,
                        labels: input::sparse_labels(file, Encoding::Wire, &ReadOptions::default())?,
                    });
                }
                None => rest.push(path),
            }
        }
        if annotated.is_empty() {
            return Err(Error::file(&sparse, "no label file here has the name of an image in images/"));
        }
        let mut unseen = read_unseen(&root, &rest)?;
        if unseen.is_empty() && root != folder && folder.join("test/images").is_dir() {
            let test = folder.join("test");
            unseen = read_unseen(&test, &list_images(test.join("images"))?)?;
        }
        let same_images = unseen.is_empty();
        if same_images {
            unseen = read_unseen(&root, &list_images(root.join("images"))?)?;
        }
        Ok(Self { annotated, annotated_truth: Vec::new(), unseen, source: Some(folder.to_path_buf()), same_images })
    }

    /// Annotated cells in all images.
    pub fn cells(&self) -> usize {
        self.annotated.iter().map(|one| one.labels.object_count()).sum()
    }

    /// Fraction of the pixels that carry a label.
    pub fn labelled(&self) -> f64 {
        let (mut labelled, mut all) = (0usize, 0usize);
        for one in &self.annotated {
            labelled += one.labels.labels().iter().filter(|label| **label >= 0).count();
            all += one.labels.labels().len();
        }
        labelled as f64 / all.max(1) as f64
    }
}

/// Seeds of the unseen fields lie apart from those that neighbouring demo seeds use for their annotated field.
fn unseen_seed(seed: u64, number: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1_000_000 + number)
}

/// The folder of sparse labels: `sparse`, its subfolder `scribble` or first subfolder, or `labels`.
fn label_folder(root: &Path) -> Result<PathBuf> {
    let sparse = root.join("sparse");
    if sparse.is_dir() {
        if list_label_images(&sparse).is_ok() {
            return Ok(sparse);
        }
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&sparse)
            .map_err(|source| Error::io(&sparse, source))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        let scribble = folders.iter().find(|path| path.ends_with("scribble"));
        if let Some(folder) = scribble.or(folders.first()) {
            return Ok(folder.clone());
        }
    }
    let labels = root.join("labels");
    if labels.is_dir() {
        return Ok(labels);
    }
    Err(Error::file(
        root,
        "it has neither sparse/ nor labels/; put sparse labels there (0 unlabelled, 1 background, 2 and up cells)",
    ))
}

fn read_unseen(root: &Path, images: &[PathBuf]) -> Result<Vec<Unseen>> {
    let truth_files = ["truth", "masks"].map(|name| root.join(name)).into_iter().find(|path| path.is_dir());
    let truth_files = truth_files.map_or_else(|| Ok(Vec::new()), list_label_images)?;
    let mut unseen = Vec::new();
    for path in images {
        let name = input::stem(path);
        let image = read_image(path)?;
        let truth = match truth_files.iter().find(|file| input::stem(file) == name) {
            Some(file) => {
                let truth = input::label_image(file, Encoding::Signed)?;
                if truth.dim() != (image.height(), image.width()) {
                    return Err(Error::file(file, "the true labels and their image differ in size"));
                }
                Some(truth)
            }
            None => None,
        };
        unseen.push(Unseen { name, image, truth });
    }
    Ok(unseen)
}
