//! `cellsparse sparsify`: sparse labels out of complete ones.

use std::fs;
use std::path::Path;

use cellsparse_core::annotations::{SparsifyMode, sparsify};
use cellsparse_core::error::counted;
use cellsparse_core::raster::{read_image, write_wire_labels};
use cellsparse_core::{Error, Result};

use crate::args::{Encoding, ModeChoice, SparsifyArgs};
use crate::batch::Failures;
use crate::{input, note, print_out};

/// Reads images and complete labels, keeps a few cells, writes wire labels of the same names.
pub fn run(args: &SparsifyArgs) -> Result<()> {
    let mode = match args.mode {
        ModeChoice::Min => SparsifyMode::Min,
        ModeChoice::Max => SparsifyMode::Max,
        ModeChoice::Minmax => SparsifyMode::MinMax,
    };
    let pairs = input::pairs(&args.images, &args.labels)?;
    fs::create_dir_all(&args.out).map_err(|source| Error::io(&args.out, source))?;
    let labels_in: Vec<_> = pairs.iter().map(|(_, labels)| labels.clone()).collect();
    for (image_path, _) in &pairs {
        input::refuse_overwrite(&args.out, &input::stem(image_path), &labels_in)?;
    }
    let mut failures = Failures::default();
    for (image_path, label_path) in &pairs {
        if let Err(error) = sparsify_one(image_path, label_path, args, mode) {
            let file = [image_path, label_path].into_iter().find(|file| error.path() == Some(file.as_path()));
            let file = file.unwrap_or(image_path);
            failures.add(file, error)?;
            if pairs.len() > 1 {
                note(&format!("{}  failed: {}", file.display(), failures.last().unwrap_or_default()));
            }
        }
    }
    failures.finish(pairs.len(), "images")
}

fn sparsify_one(image_path: &Path, label_path: &Path, args: &SparsifyArgs, mode: SparsifyMode) -> Result<()> {
    let image = read_image(image_path)?;
    let labels = input::label_image(label_path, Encoding::Dense)?;
    let sparse = sparsify(&labels, image.to_f32().view(), args.k, mode, args.background)
        .map_err(|error| input::at(label_path, error))?;
    let written = write_wire_labels(&args.out, &input::stem(image_path), &sparse)?;
    let cells = counted(input::count(&labels), "cell");
    print_out(&format!("{}  {} of {cells}", written.display(), input::count(&sparse)));
    Ok(())
}
