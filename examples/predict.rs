//! Segments images with a trained model and writes what other programs read.
//!
//! `cargo run --release -p cellsparse-core --example predict -- MODEL IMAGES OUT`
//!
//! After `make demo`: `... --example predict -- demo-out/model.safetensors demo-out/images demo-out/predicted`.

use std::path::Path;

use cellsparse_core::formats::geojson::{GeoJsonOptions, write_geojson};
use cellsparse_core::raster::{image_stem, list_images, read_image, write_labels};
use cellsparse_core::{Error, Model, PredictOptions, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, images, out] = arguments.as_slice() else {
        return Err(Error::Config("give a model, an image or a folder of images, and a folder for the results".into()));
    };
    std::fs::create_dir_all(out).map_err(|source| Error::io(out, source))?;
    let model = Model::load(model)?;
    println!("{} with {} parameters", model.algorithm(), model.info().parameters);
    // One model serves many threads; what it needs for an image of this size is kept for the next one.
    for path in list_images(images)? {
        let found = model.predict(&read_image(&path)?, &PredictOptions::default())?;
        let stem = image_stem(&path);
        let labels = write_labels(out, &stem, &found.labels)?;
        write_geojson(Path::new(out).join(format!("{stem}.geojson")), &found.geojson(&GeoJsonOptions::default())?)?;
        println!("{}: {} objects", labels.display(), found.objects.len());
    }
    Ok(())
}
