//! What is done while memory is scarce, on images of which every map is large.

use std::fs;
use std::path::PathBuf;

use cellsparse_core::formats::geojson::{GeoJsonOptions, to_geojson, write_geojson};
use cellsparse_core::formats::write_ome_tiff;
use cellsparse_core::raster::{read_image, read_label_file, write_gray_png16, write_labels};
use cellsparse_core::{LabelImage, Model, Result, StarDistConfig};
use ndarray::Array2;

/// Work that is prepared while there is memory.
type Work = Box<dyn FnOnce() -> Result<()>>;

/// A kind of work: its name, and what prepares it.
type Kind = (&'static str, fn() -> Work);

/// Every kind of work.
pub const ALL: &[Kind] = &[
    ("reading of an image", || read("a.png")),
    ("reading of a label image", read_labels),
    ("writing of labels", written),
    ("outlines", outlined),
    ("model files", model_files),
];

const SIDE: usize = 1100;

/// Cells on a lattice.
fn labels() -> LabelImage {
    let inside = |y: usize, x: usize| y % 40 < 30 && x % 40 < 30;
    LabelImage::from_shape_fn((SIDE, SIDE), |(y, x)| if inside(y, x) { (y / 40 * 28 + x / 40 + 1) as i32 } else { 0 })
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("cellsparse-scarce-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Work in a folder that is removed behind it.
fn within(folder: PathBuf, work: impl FnOnce(&PathBuf) -> Result<()> + 'static) -> Work {
    Box::new(move || {
        let done = work(&folder);
        fs::remove_dir_all(&folder).unwrap();
        done
    })
}

fn read(name: &'static str) -> Work {
    let folder = folder();
    let values = Array2::from_shape_fn((SIDE, SIDE), |(y, x)| (y * 31 + x * 7) as u16);
    write_gray_png16(folder.join(name), values.view()).unwrap();
    within(folder, move |folder| read_image(folder.join(name)).map(drop))
}

fn read_labels() -> Work {
    let (folder, labels) = (folder(), labels());
    write_labels(&folder, "a", &labels).unwrap();
    write_ome_tiff(folder.join("b.tif"), "b", &labels, None).unwrap();
    within(folder, |folder| {
        read_label_file(folder.join("a.png"))?;
        read_label_file(folder.join("b.tif")).map(drop)
    })
}

fn written() -> Work {
    let labels = labels();
    within(folder(), move |folder| {
        write_labels(folder, "a", &labels)?;
        write_ome_tiff(folder.join("a.tif"), "a", &labels, None)
    })
}

fn outlined() -> Work {
    let labels = labels();
    within(folder(), move |folder| {
        write_geojson(folder.join("a.geojson"), &to_geojson(&labels, &GeoJsonOptions::default())?)
    })
}

fn model_files() -> Work {
    let model = Model::stardist(StarDistConfig::default(), 0).unwrap();
    within(folder(), move |folder| {
        model.save(folder.join("a.safetensors"))?;
        Model::load(folder.join("a.safetensors")).map(drop)
    })
}
