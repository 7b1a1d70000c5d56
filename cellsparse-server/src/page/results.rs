//! Results as files: labels, outlines, tables, drawings.

use std::fs;
use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use cellsparse_core::formats::features::csv_string;
use cellsparse_core::formats::geojson::{GeoJsonOptions, OutlineRule, geojson_string};
use cellsparse_core::formats::write_ome_tiff;
use cellsparse_core::geometry::measure::MeasureOptions;
use cellsparse_core::raster::{Image, LabelImage, write_labels, write_wire_labels};
use cellsparse_core::{Error, Result as CoreResult, Segmentation};

/// The forms in which results are given.
pub const FORMS: [&str; 6] = ["png", "tiff", "geojson", "rois", "csv", "drawn"];

/// What a file of results is made from.
pub struct Source<'a> {
    /// The objects.
    pub segmentation: &'a Segmentation,
    /// What is drawn.
    pub drawn: &'a LabelImage,
    /// The image.
    pub image: &'a Image,
    /// Micrometres per pixel `[y, x]`, if known.
    pub pixel_size: Option<[f64; 2]>,
}

/// The content of a file of results, with its ending; `None` for a form that is not known. Blocks.
///
/// # Errors
/// What the writers report.
pub fn content(form: &str, source: &Source<'_>) -> CoreResult<Option<(Vec<u8>, &'static str)>> {
    let folder = tempfile::tempdir().map_err(|error| Error::io(std::env::temp_dir(), error))?;
    let at = |name: &str| folder.path().join(name);
    let labels = &source.segmentation.labels;
    Ok(Some(match form {
        "png" => read(&write_labels(folder.path(), "labels", labels)?)?,
        "drawn" => read(&write_wire_labels(folder.path(), "drawn", source.drawn)?)?,
        "tiff" => {
            let path = at("labels.tif");
            write_ome_tiff(&path, "labels", labels, source.pixel_size)?;
            read(&path)?
        }
        "rois" => {
            let path = at("rois.zip");
            source.segmentation.write_rois(&path, 0.0)?;
            read(&path)?
        }
        "geojson" => {
            let options = GeoJsonOptions { outline: OutlineRule::Exact, ..GeoJsonOptions::default() };
            (geojson_string(&source.segmentation.geojson(&options)?)?.into_bytes(), "geojson")
        }
        "csv" => {
            let options = MeasureOptions { image: Some(source.image), pixel_size: source.pixel_size };
            (csv_string(&source.segmentation.table(&options)?).into_bytes(), "csv")
        }
        _ => return Ok(None),
    }))
}

fn read(path: &Path) -> CoreResult<(Vec<u8>, &'static str)> {
    let ending = match path.extension().and_then(|ending| ending.to_str()) {
        Some("png") => "png",
        Some("zip") => "zip",
        _ => "tif",
    };
    Ok((fs::read(path).map_err(|error| Error::io(path, error))?, ending))
}

/// A file as an answer that browsers store.
pub fn download(bytes: Vec<u8>, name: &str) -> Response {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}
