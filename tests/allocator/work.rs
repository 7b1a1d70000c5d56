//! What is done while memory is scarce, on images of which every map is large.

use std::fs;
use std::path::PathBuf;

use cellsparse_core::annotations::SparseLabels;
use cellsparse_core::formats::geojson::{GeoJsonOptions, to_geojson, write_geojson};
use cellsparse_core::formats::write_ome_tiff;
use cellsparse_core::large::{LargeOptions, LargeSink, PyramidSink};
use cellsparse_core::model::{Algorithm, Architecture, PredictOptions, Start, Starter, TrainOptions};
use cellsparse_core::networks::{CellposeConfig, ElephantConfig};
use cellsparse_core::raster::regions::ImageRegions;
use cellsparse_core::raster::{read_image, read_label_file, write_gray_png16, write_labels};
use cellsparse_core::{ControlFlow, Dataset, Error, Image, LabelImage, Model, Result, StarDistConfig};
use ndarray::{Array2, Axis, s};

/// Work that is prepared while there is memory, and done again and again.
pub type Work = Box<dyn Fn() -> Result<()>>;

/// A kind of work: its name, and what prepares it.
type Kind = (&'static str, fn() -> Work);

/// Every kind of work.
pub const ALL: &[Kind] = &[
    ("reading of an image", || read("a.png")),
    ("reading of a label image", read_labels),
    ("writing of labels", written),
    ("outlines", outlined),
    ("model files", model_files),
    ("training of StarDist", || trained(Algorithm::Stardist)),
    ("training of Cellpose", || trained(Algorithm::Cellpose)),
    ("training of ELEPHANT", || trained(Algorithm::Elephant)),
    ("prediction of StarDist", || predicted(Algorithm::Stardist)),
    ("prediction of Cellpose", || predicted(Algorithm::Cellpose)),
    ("prediction of ELEPHANT", || predicted(Algorithm::Elephant)),
    ("prediction of StarDist by parts", || predicted_by_parts(Algorithm::Stardist)),
    ("prediction of Cellpose by parts", || predicted_by_parts(Algorithm::Cellpose)),
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

/// A folder that is removed with what works in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Work in a folder that is removed with it.
fn within(folder: PathBuf, work: impl Fn(&PathBuf) -> Result<()> + 'static) -> Work {
    let folder = Folder(folder);
    Box::new(move || work(&folder.0))
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

/// A tiny network of each kind.
fn tiny(algorithm: Algorithm) -> Model {
    let widths = vec![4, 8];
    let model = match algorithm {
        Algorithm::Stardist => Model::stardist(
            StarDistConfig { n_filter_base: 4, n_depth: 1, net_conv_after_unet: 8, ..StarDistConfig::default() },
            0,
        ),
        Algorithm::Cellpose => Model::cellpose(CellposeConfig { widths, ..CellposeConfig::default() }, 0),
        _ => Model::elephant(ElephantConfig { widths, ..ElephantConfig::default() }, 0),
    };
    model.unwrap()
}

/// Side of the images that networks see: maps of four bytes are large.
const FIELD: usize = 560;

/// The cells of [`labels`] as they look, of which a quarter of the image is drawn.
fn data() -> Dataset {
    let drawn = labels().slice(s![..FIELD, ..FIELD]).to_owned();
    let image = drawn.mapv(|label| if label > 0 { 150_u8 } else { 20 });
    let drawn = LabelImage::from_shape_fn(
        drawn.dim(),
        |(y, x)| if y < FIELD / 2 && x < FIELD / 2 { drawn[[y, x]] } else { -1 },
    );
    let image = Image::U8(image.insert_axis(Axis(2)));
    Dataset::new(vec![image], vec![SparseLabels::from_signed(drawn).unwrap()]).unwrap()
}

fn steps(model: &mut Model, data: &Dataset, steps: usize) -> Result<()> {
    let options = TrainOptions {
        steps: Some(steps),
        batch_size: Some(2),
        patch_size: Some(192),
        start: Start::None,
        // Masks of Cellpose for every choice of its thresholds take long.
        keep_thresholds: model.algorithm() == Algorithm::Cellpose,
        ..TrainOptions::default()
    };
    let summary = model.train(data, None, &options, &mut |_| ControlFlow::Continue)?;
    // Once the last step is done, what goes wrong is among the notes.
    match summary.notes.into_iter().find(|note| note.contains("could not be")) {
        Some(note) => Err(Error::Limit(note)),
        None => Ok(()),
    }
}

fn trained(algorithm: Algorithm) -> Work {
    let (data, model) = (data(), tiny(algorithm));
    Box::new(move || steps(&mut model.clone(), &data, 1))
}

/// A model that finds something: with the starting weights in the library.
fn started(algorithm: Algorithm) -> Model {
    let mut model = Model::new(Architecture::of(algorithm, 1), 0).unwrap();
    model.begin_with(&Starter::shipped(algorithm).unwrap().unwrap()).unwrap().unwrap();
    model
}

fn predicted(algorithm: Algorithm) -> Work {
    let (image, model) = (data().images()[0].clone(), started(algorithm));
    within(folder(), move |folder| {
        // Networks that are kept in memory would take none anew.
        model.release();
        let found = model.predict(&image, &PredictOptions::default())?;
        assert!(found.objects.len() > 50, "{}", found.objects.len());
        write_labels(folder, "a", &found.labels)?;
        found.write_rois(folder.join("a.zip"), 0.0)?;
        write_geojson(folder.join("a.geojson"), &found.geojson(&GeoJsonOptions::default())?)
    })
}

fn predicted_by_parts(algorithm: Algorithm) -> Work {
    let (image, model) = (data().images()[0].clone(), started(algorithm));
    within(folder(), move |folder| {
        model.release();
        let reader = ImageRegions::new(image.clone(), None)?;
        let mut labels = PyramidSink::new(folder.join("a.ome.tif"), None);
        let mut sinks: [&mut dyn LargeSink; 1] = [&mut labels];
        model.predict_large(&reader, &LargeOptions::default(), &mut sinks, &mut |_| ControlFlow::Continue).map(drop)
    })
}
