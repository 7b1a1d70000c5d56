//! The files that results go to, by the endings of their paths.

use std::path::Path;

use super::sinks::{CsvSink, GeoJsonSink, LargeSink, PyramidSink, ZarrSink};
use crate::error::{Error, Result};
use crate::formats::geojson::GeoJsonOptions;
use crate::raster::regions::{RegionReader, factor};

/// The sink that writes what the ending of `path` says, for an image that is segmented at a level of `reader`:
///
/// | ending | file |
/// |---|---|
/// | `.ome.tif`, `.ome.tiff` | labels as OME-TIFF with smaller copies |
/// | `.tif`, `.tiff` | labels as BigTIFF with smaller copies |
/// | `.zarr` | labels as OME-Zarr |
/// | `.geojson`, `.json` | outlines for QuPath, in pixels of level 0; of `outlines` all but the objects count |
/// | `.csv` | measurements |
///
/// # Errors
/// [`Error::Config`] for any other ending.
pub fn sink_for<'r>(
    path: impl AsRef<Path>,
    reader: &'r dyn RegionReader,
    level: usize,
    outlines: &GeoJsonOptions,
) -> Result<Box<dyn LargeSink + 'r>> {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lower = name.to_ascii_lowercase();
    // Endings are ASCII, so what is before them ends at a character.
    let before = |ending: &str| lower.ends_with(ending).then(|| name[..name.len() - ending.len()].to_owned());
    if let Some(image) = before(".ome.tif").or_else(|| before(".ome.tiff")) {
        return Ok(Box::new(PyramidSink::new(path, Some(image))));
    }
    if let Some(image) = before(".ome.zarr").or_else(|| before(".zarr")) {
        return Ok(Box::new(ZarrSink::new(path, image)));
    }
    match Path::new(&lower).extension().and_then(|ending| ending.to_str()) {
        Some("tif" | "tiff") => Ok(Box::new(PyramidSink::new(path, None))),
        Some("geojson" | "json") => {
            let outlines = GeoJsonOptions { never_empty: true, ..outlines.clone() };
            Ok(Box::new(GeoJsonSink::new(path, outlines).scaled(factor(reader.levels(), level))))
        }
        Some("csv") => Ok(Box::new(CsvSink::new(path, reader, level))),
        _ => Err(Error::Config(format!(
            "{} is to be written of an image that is segmented by parts; its name must end in .ome.tif, .tif, .zarr, .geojson \
             or .csv",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::error::ErrorKind;
    use crate::raster::Image;
    use crate::raster::regions::ImageRegions;

    #[test]
    fn endings_choose_the_file() {
        let reader = ImageRegions::new(Image::U8(Array3::zeros((2, 2, 1))), None).unwrap();
        let is_known = |path: &str| sink_for(path, &reader, 0, &GeoJsonOptions::default()).map(drop);
        for path in ["a.tif", "b/a.OME.TIFF", "ä.ome.tif", "a.zarr", "a.ome.zarr", "a.geojson", "a.JSON", "a.csv"] {
            is_known(path).unwrap();
        }
        for path in ["", "a", "a.png", ".."] {
            let refused = is_known(path).unwrap_err();
            assert!(refused.kind() == ErrorKind::Config && refused.to_string().contains(".geojson"), "{refused}");
        }
    }
}
