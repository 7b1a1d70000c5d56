//! What a prediction returns, and the forms in which it is given to others.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use ndarray::ArrayView2;

use crate::budget::zeros;
use crate::control::CancelToken;
use crate::error::Result;
use crate::formats::features::{Column, Features, columns};
use crate::formats::geojson::{
    Feature, GeoJsonOptions, ObjectInfo, OutlineRule, outlines_to_geojson_until, to_geojson_until,
};
use crate::formats::imagej_roi;
use crate::geometry::measure::{MeasureOptions, measure};
use crate::geometry::{ExactOutline, exact_outlines_until, simplify_outline};
use crate::raster::LabelImage;

/// A label image and the objects in it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Segmentation {
    /// `[H, W]`: 0 background, object `i` of `objects` has the id `objects[i].id`.
    pub labels: LabelImage,
    /// The objects that own at least one pixel, in increasing id.
    pub objects: Vec<Object>,
    /// What a user should know of the result, one sentence each: why nothing was found, or why it is likely bad.
    pub notes: Vec<String>,
    /// Of `labels`, traced when they are first asked for.
    outlines: OnceLock<Arc<[ExactOutline]>>,
}

/// One segmented object.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Object {
    /// Its value in the label image.
    pub id: i32,
    /// Vertices `[y, x]` in pixels, pixel centres at integers. StarDist: the star-convex polygon, which is not clipped to the
    /// image and may extend below neighbours; the outline of the pixels is available from the label image. Cellpose and ELEPHANT:
    /// the outline of the object's largest connected part along the edges of its pixels.
    pub polygon: Vec<[f32; 2]>,
    /// Confidence in `[0, 1]`. StarDist: of the chosen candidate; Cellpose and ELEPHANT: the mean probability of belonging to
    /// a cell over the object's pixels.
    pub probability: f32,
    /// Class with the highest score when the model has classes: 0 background, `1..=n_classes` a class.
    pub class: Option<usize>,
}

impl PartialEq for Segmentation {
    fn eq(&self, other: &Self) -> bool {
        // Outlines follow from the labels.
        self.labels == other.labels && self.objects == other.objects && self.notes == other.notes
    }
}

impl Object {
    /// What files tell of the object beside its pixels.
    pub fn info(&self) -> ObjectInfo {
        ObjectInfo { probability: Some(self.probability), class: self.class.map(|class| class.to_string()) }
    }
}

impl Segmentation {
    /// A label image with its objects, which are sorted by id.
    pub fn new(labels: LabelImage, mut objects: Vec<Object>) -> Self {
        objects.sort_by_key(|object| object.id);
        Self { labels, objects, notes: Vec::new(), outlines: OnceLock::new() }
    }

    /// As [`new`](Self::new), with the outlines of the labels where they are already traced.
    pub(super) fn traced(labels: LabelImage, objects: Vec<Object>, outlines: Vec<ExactOutline>) -> Self {
        let made = Self::new(labels, objects);
        // A new cell is empty.
        let _ = made.outlines.set(outlines.into());
        made
    }

    /// The object with that value in the label image.
    pub fn object(&self, id: i32) -> Option<&Object> {
        self.objects.binary_search_by_key(&id, |object| object.id).ok().and_then(|place| self.objects.get(place))
    }

    /// The exact outlines of all objects, in increasing id. They are traced once, so `labels` must not be changed after the
    /// first call; make a [`new`](Self::new) segmentation of changed labels.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) for more than 2^32 - 2 pixels.
    pub fn outlines(&self) -> Result<&[ExactOutline]> {
        self.outlines_until(&CancelToken::new())
    }

    fn outlines_until(&self, cancel: &CancelToken) -> Result<&[ExactOutline]> {
        if let Some(outlines) = self.outlines.get() {
            return Ok(outlines);
        }
        let traced: Arc<[ExactOutline]> = exact_outlines_until(&self.labels, cancel)?.into();
        Ok(self.outlines.get_or_init(|| traced))
    }

    /// Measurements of all objects, in increasing id, with their probabilities and classes.
    ///
    /// # Errors
    /// As [`measure`]: for an image of another size, or an impossible pixel size.
    pub fn features(&self, options: &MeasureOptions<'_>) -> Result<Vec<Features>> {
        let info = |id| self.object(id).map(Object::info).unwrap_or_default();
        let measured = measure(&self.labels, options)?;
        Ok(measured.into_iter().map(|one| Features { info: info(one.label), measurements: one }).collect())
    }

    /// The table of the objects' [`features`](Self::features); see [`columns`] for its names.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn table(&self, options: &MeasureOptions<'_>) -> Result<Vec<Column>> {
        let channels = options.image.map_or(0, |image| image.channels());
        Ok(columns(&self.features(options)?, channels, options.pixel_size.is_some()))
    }

    /// One GeoJSON feature for every object, in increasing id. The exact rule tells probabilities and classes;
    /// `options.objects` does not count.
    ///
    /// # Errors
    /// As [`to_geojson`](crate::formats::geojson::to_geojson).
    pub fn geojson(&self, options: &GeoJsonOptions) -> Result<Vec<Feature>> {
        self.geojson_until(options, &CancelToken::new())
    }

    /// [`geojson`](Self::geojson) that can be stopped.
    ///
    /// # Errors
    /// As there, and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn geojson_until(&self, options: &GeoJsonOptions, cancel: &CancelToken) -> Result<Vec<Feature>> {
        match options.outline {
            OutlineRule::Exact => {
                let info = |id| self.object(id).map(Object::info);
                outlines_to_geojson_until(self.outlines_until(cancel)?, options, info, cancel)
            }
            OutlineRule::Literal => to_geojson_until(&self.labels, options, cancel),
        }
    }

    /// Writes the outlines as a zip archive of ImageJ regions, simplified by a tolerance in pixels (0: none).
    ///
    /// # Errors
    /// As [`imagej_roi::write_rois`].
    pub fn write_rois(&self, path: impl AsRef<Path>, tolerance: f64) -> Result<()> {
        let info = |id| self.object(id).map(Object::info).unwrap_or_default();
        let outlines = self.outlines()?;
        if tolerance > 0.0 {
            let simple: Vec<_> = outlines.iter().map(|outline| simplify_outline(outline, tolerance)).collect();
            return imagej_roi::write_rois(path, &simple, info);
        }
        imagej_roi::write_rois(path, outlines, info)
    }
}

/// The segmentation of a label image whose ids are 1, 2, ...: objects have the outline of their largest part, and the mean
/// of `confidence` over their pixels as probability.
pub(crate) fn from_labels(
    labels: LabelImage,
    confidence: ArrayView2<'_, f32>,
    cancel: &CancelToken,
) -> Result<Segmentation> {
    cancel.check()?;
    let count = labels.iter().copied().max().unwrap_or(0).max(0) as usize + 1;
    let mut sums: Vec<(f64, usize)> = zeros(count, "the objects of an image")?;
    for (&id, &value) in labels.iter().zip(&confidence) {
        if let Some((sum, count)) = sums.get_mut(id.max(0) as usize) {
            *sum += f64::from(value);
            *count += 1;
        }
    }
    let mut objects = Vec::new();
    let outlines = exact_outlines_until(&labels, cancel)?;
    for outline in &outlines {
        let area = |ring: &[[f64; 2]]| {
            let next = ring.iter().cycle().skip(1);
            ring.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>().abs()
        };
        let largest = outline.parts.iter().max_by(|a, b| area(&a.exterior).total_cmp(&area(&b.exterior)));
        // Outlines are closed, x, y along the edges of pixels; polygons are y, x with pixel centres at integers.
        let polygon = largest.map_or(Vec::new(), |part| {
            part.exterior.iter().skip(1).map(|[x, y]| [(*y - 0.5) as f32, (*x - 0.5) as f32]).collect()
        });
        let (sum, count) = sums.get(outline.id as usize).copied().unwrap_or((0.0, 1));
        let probability = (sum / count as f64) as f32;
        objects.push(Object { id: outline.id, polygon, probability, class: None });
    }
    Ok(Segmentation::traced(labels, objects, outlines))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::formats::geojson::geojson_string;

    fn object(id: i32, probability: f32) -> Object {
        Object { id, polygon: Vec::new(), probability, class: None }
    }

    #[test]
    fn everything_goes_by_the_id() {
        let labels = array![[0, 9, 9], [2, 0, 9]];
        let found = Segmentation::new(labels, vec![object(9, 0.75), object(2, 0.5)]);
        assert_eq!(found.object(9).map(|object| object.probability), Some(0.75));
        assert!(found.object(3).is_none());
        assert_eq!(found.outlines().unwrap().iter().map(|one| one.id).collect::<Vec<_>>(), [2, 9]);
        assert!(std::ptr::eq(found.outlines().unwrap(), found.outlines().unwrap()), "traced once");
        let features = found.features(&MeasureOptions::default()).unwrap();
        let told: Vec<_> = features.iter().map(|one| (one.measurements.label, one.info.probability)).collect();
        assert_eq!(told, [(2, Some(0.5)), (9, Some(0.75))]);
        let features = found.geojson(&GeoJsonOptions::default()).unwrap();
        let told: Vec<_> =
            features.iter().map(|one| (one.object, one.properties.measurements["probability"])).collect();
        assert_eq!(told, [(2, 0.5), (9, 0.75)]);
        let literal = GeoJsonOptions { outline: OutlineRule::Literal, ..GeoJsonOptions::default() };
        assert!(!geojson_string(&found.geojson(&literal).unwrap()).unwrap().contains("probability"));
        assert_eq!(
            found.table(&MeasureOptions::default()).unwrap().last().map(|column| column.name.as_str()),
            Some("probability")
        );
    }
}
