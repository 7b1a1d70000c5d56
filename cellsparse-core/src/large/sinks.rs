//! Where results go, block by block.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ndarray::s;

use crate::budget::array;
use crate::error::{Error, Result};
use crate::formats::features::{Features, columns, csv_string};
use crate::formats::geojson::{GeoJsonOptions, Geometry, ObjectInfo, geojson_string, to_geojson};
use crate::formats::label_pyramid::LabelPyramid;
use crate::formats::label_zarr::LabelZarr;
use crate::geometry::measure::{MeasureOptions, measure};
use crate::model::{Object, Segmentation};
use crate::raster::regions::{Region, RegionReader};
use crate::raster::{GrowingFile, LabelImage};

/// What is segmented.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LargeShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Micrometres per pixel `[y, x]`, if known.
    pub pixel_size: Option<[f64; 2]>,
}

/// One block of the image, and the objects that belong to it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LargeBlock<'a> {
    /// Its pixels.
    pub region: Region,
    /// Their labels: 0 background, 1 and up ids of the whole image.
    pub labels: &'a LabelImage,
    /// The objects that are anchored in it.
    pub own: &'a OwnObjects,
}

/// Whole objects, in a label image around them that shows no others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OwnObjects {
    /// The part of the image that `labels` is of.
    pub region: Region,
    /// Their pixels.
    pub labels: LabelImage,
    /// Id, probability and class of each, by increasing id.
    pub list: Vec<(i32, f32, Option<usize>)>,
}

/// Something that takes results, such as a file that grows.
///
/// Blocks come row by row from the top left on; every pixel is in one of them. Nothing is complete before `finish`.
pub trait LargeSink: Send {
    /// Before the first block.
    ///
    /// # Errors
    /// Those of the place where results go.
    fn begin(&mut self, shape: &LargeShape) -> Result<()>;

    /// The next block.
    ///
    /// # Errors
    /// As `begin`.
    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()>;

    /// After the last block.
    ///
    /// # Errors
    /// As `begin`.
    fn finish(&mut self) -> Result<()>;
}

impl OwnObjects {
    fn info(&self, id: i32) -> Option<ObjectInfo> {
        let at = self.list.binary_search_by_key(&id, |(id, ..)| *id).ok()?;
        let (_, probability, class) = self.list[at];
        Some(ObjectInfo { probability: Some(probability), class: class.map(|class| class.to_string()) })
    }
}

/// The whole result in memory.
#[derive(Debug, Default)]
pub struct MemorySink {
    labels: LabelImage,
    objects: Vec<Object>,
}

impl MemorySink {
    /// Everything that was handed over. Objects have no polygon: outlines are had from the labels.
    pub fn into_segmentation(self) -> Segmentation {
        Segmentation::new(self.labels, self.objects)
    }
}

impl LargeSink for MemorySink {
    fn begin(&mut self, shape: &LargeShape) -> Result<()> {
        self.labels = array((shape.height, shape.width), "the labels of an image")?;
        self.objects.clear();
        Ok(())
    }

    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()> {
        let Region { top, left, .. } = block.region;
        self.labels.slice_mut(s![top..block.region.bottom(), left..block.region.right()]).assign(block.labels);
        let object = |&(id, probability, class)| Object { id, polygon: Vec::new(), probability, class };
        self.objects.extend(block.own.list.iter().map(object));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A text file that grows.
struct Text {
    file: GrowingFile,
    out: BufWriter<File>,
}

impl Text {
    fn create(path: &Path) -> Result<Self> {
        let mut file = GrowingFile::create(path)?;
        let out = file.file().try_clone().map_err(|source| Error::io(path, source))?;
        Ok(Self { file, out: BufWriter::new(out) })
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).map_err(|source| Error::io(self.file.path(), source))
    }

    fn finish(mut self) -> Result<()> {
        self.out.flush().map_err(|source| Error::io(self.file.path(), source))?;
        self.file.finish()
    }
}

/// Outlines as a GeoJSON file, block by block and in each by increasing id.
pub struct GeoJsonSink {
    path: PathBuf,
    options: GeoJsonOptions,
    scale: f64,
    text: Option<Text>,
    any: bool,
}

impl GeoJsonSink {
    /// A file at `path`, which appears when it is finished. `options.objects` does not count.
    pub fn new(path: impl Into<PathBuf>, options: GeoJsonOptions) -> Self {
        Self { path: path.into(), options, scale: 1.0, text: None, any: false }
    }

    /// The same with coordinates that many times as large: viewers count in the pixels of level 0.
    pub fn scaled(self, scale: f64) -> Self {
        Self { scale, ..self }
    }
}

impl LargeSink for GeoJsonSink {
    fn begin(&mut self, _: &LargeShape) -> Result<()> {
        let mut text = Text::create(&self.path)?;
        text.write("[")?;
        (self.text, self.any) = (Some(text), false);
        Ok(())
    }

    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()> {
        let own = block.own;
        if own.list.is_empty() {
            return Ok(());
        }
        let objects = own.list.iter().filter_map(|(id, ..)| Some((*id, own.info(*id)?))).collect();
        let mut features = to_geojson(&own.labels, &GeoJsonOptions { objects, ..self.options.clone() })?;
        let shift = [own.region.left as f64, own.region.top as f64];
        for feature in &mut features {
            // Ids count from 1 without a gap.
            feature.properties.object_idx = usize::try_from(feature.object - 1).unwrap_or(0);
            let rings: Vec<&mut Vec<[f64; 2]>> = match &mut feature.geometry {
                Geometry::Polygon(rings) => rings.iter_mut().collect(),
                Geometry::MultiPolygon(parts) => parts.iter_mut().flatten().collect(),
            };
            for point in rings.into_iter().flatten() {
                *point = [(point[0] + shift[0]) * self.scale, (point[1] + shift[1]) * self.scale];
            }
        }
        let list = geojson_string(&features)?;
        let inside = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(&list);
        let comma = if self.any { "," } else { "" };
        self.any = true;
        match &mut self.text {
            Some(text) => text.write(comma).and_then(|()| text.write(inside)),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let Some(mut text) = self.text.take() else { return Ok(()) };
        text.write("]")?;
        text.finish()
    }
}

/// Measurements as a CSV file, block by block and in each by increasing id. Intensities are read from the image again.
pub struct CsvSink<'a> {
    path: PathBuf,
    reader: &'a dyn RegionReader,
    level: usize,
    shape: Option<LargeShape>,
    text: Option<Text>,
    any: bool,
}

impl<'a> CsvSink<'a> {
    /// A file at `path`, which appears when it is finished, about the objects of a level of an image.
    pub fn new(path: impl Into<PathBuf>, reader: &'a dyn RegionReader, level: usize) -> Self {
        Self { path: path.into(), reader, level, shape: None, text: None, any: false }
    }

    fn write(&mut self, features: &[Features]) -> Result<()> {
        let sized = self.shape.is_some_and(|shape| shape.pixel_size.is_some());
        let table = csv_string(&columns(features, self.reader.channels(), sized));
        let names = table.find('\n').map_or(0, |end| end + 1);
        let lines = if self.any { &table[names..] } else { &table };
        self.any = true;
        match &mut self.text {
            Some(text) => text.write(lines),
            None => Ok(()),
        }
    }
}

impl LargeSink for CsvSink<'_> {
    fn begin(&mut self, shape: &LargeShape) -> Result<()> {
        (self.shape, self.any) = (Some(*shape), false);
        self.text = Some(Text::create(&self.path)?);
        Ok(())
    }

    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()> {
        let own = block.own;
        let Some(shape) = self.shape.filter(|_| !own.list.is_empty()) else { return Ok(()) };
        let image = self.reader.read(own.region, self.level)?;
        let measured = measure(&own.labels, &MeasureOptions { image: Some(&image), pixel_size: shape.pixel_size })?;
        let mut features = Vec::new();
        for mut one in measured {
            one.centroid = [one.centroid[0] + own.region.top as f64, one.centroid[1] + own.region.left as f64];
            one.touches_border = touches(own, one.label, &shape);
            features.push(Features { info: own.info(one.label).unwrap_or_default(), measurements: one });
        }
        self.write(&features)
    }

    fn finish(&mut self) -> Result<()> {
        if !self.any {
            self.write(&[])?;
        }
        self.text.take().map_or(Ok(()), Text::finish)
    }
}

/// Whether an object has a pixel in the first or last row or column of the image.
fn touches(own: &OwnObjects, id: i32, shape: &LargeShape) -> bool {
    let region = own.region;
    let lines = [
        (region.top == 0).then(|| own.labels.row(0)),
        (region.bottom() == shape.height).then(|| own.labels.row(region.height - 1)),
        (region.left == 0).then(|| own.labels.column(0)),
        (region.right() == shape.width).then(|| own.labels.column(region.width - 1)),
    ];
    lines.into_iter().flatten().any(|line| line.iter().any(|label| *label == id))
}

/// Labels as a tiled TIFF with smaller copies.
pub struct PyramidSink {
    path: PathBuf,
    /// The name of the image in OME-XML; without it there is none.
    name: Option<String>,
    file: Option<LabelPyramid>,
}

impl PyramidSink {
    /// A file at `path`, which appears when it is finished; with a name it is an OME-TIFF.
    pub fn new(path: impl Into<PathBuf>, name: Option<String>) -> Self {
        Self { path: path.into(), name, file: None }
    }
}

impl LargeSink for PyramidSink {
    fn begin(&mut self, shape: &LargeShape) -> Result<()> {
        let size = [shape.height, shape.width];
        self.file = Some(LabelPyramid::create(&self.path, size, shape.pixel_size, self.name.as_deref())?);
        Ok(())
    }

    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()> {
        let Region { top, left, .. } = block.region;
        match &mut self.file {
            Some(file) => file.write([top, left], block.labels.view()),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.file.take().map_or(Ok(()), LabelPyramid::finish)
    }
}

/// Labels as OME-Zarr with smaller copies.
pub struct ZarrSink {
    path: PathBuf,
    name: String,
    folder: Option<LabelZarr>,
}

impl ZarrSink {
    /// A folder at `path`, which appears when it is finished, of an image of that name.
    pub fn new(path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self { path: path.into(), name: name.into(), folder: None }
    }
}

impl LargeSink for ZarrSink {
    fn begin(&mut self, shape: &LargeShape) -> Result<()> {
        let size = [shape.height, shape.width];
        self.folder = Some(LabelZarr::create(&self.path, size, shape.pixel_size, &self.name)?);
        Ok(())
    }

    fn block(&mut self, block: &LargeBlock<'_>) -> Result<()> {
        let Region { top, left, .. } = block.region;
        match &mut self.folder {
            Some(folder) => folder.write([top, left], block.labels.view()),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.folder.take().map_or(Ok(()), LabelZarr::finish)
    }
}
