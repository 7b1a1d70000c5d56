//! Outlines as GeoJSON features that QuPath and other viewers read.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::geometry::{
    ExactOutline, LiteralOutline, exact_outlines_until, literal_outlines_until, simplify_outline, simplify_ring_literal,
};
use crate::raster::{LabelImage, write_atomically};

/// How an outline is drawn around the pixels of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutlineRule {
    /// Along the pixel edges, in pixel-corner coordinates, holes and parts kept: rasterises back to the same pixels.
    #[default]
    Exact,
    /// The contour rule of cellsparse-api 0.2 and feature layout, point for point and byte for byte.
    Literal,
}

impl std::fmt::Display for OutlineRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OutlineRule::Exact => "exact",
            OutlineRule::Literal => "literal",
        })
    }
}

impl std::str::FromStr for OutlineRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "exact" => Ok(OutlineRule::Exact),
            "literal" => Ok(OutlineRule::Literal),
            other => Err(Error::Config(format!("unknown outline '{other}'; the outlines are exact and literal"))),
        }
    }
}

/// What to write about every object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeoJsonOptions {
    /// The outline rule.
    pub outline: OutlineRule,
    /// Douglas-Peucker tolerance in pixels; `None` and 0 keep every point.
    pub simplify: Option<f64>,
    /// Literal rule: an object that the simplification would reduce to less than a triangle keeps all its points, where
    /// cellsparse-api answers an empty polygon, which readers refuse. Default `false`.
    pub never_empty: bool,
    /// What is known of objects, by label; used by the exact rule only.
    pub objects: BTreeMap<i32, ObjectInfo>,
}

/// What a prediction knows of one object beside its pixels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObjectInfo {
    /// Confidence in `[0, 1]`, written as a measurement with 6 decimals.
    pub probability: Option<f32>,
    /// Name of its class, written as the classification.
    pub class: Option<String>,
}

/// One GeoJSON feature. Serialises to the layout of cellsparse-api, with more properties in the exact rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Feature {
    #[serde(rename = "type")]
    kind: FeatureKind,
    /// The object's value in the label image, which the literal layout does not tell.
    #[serde(skip)]
    pub object: i32,
    /// The outline.
    pub geometry: Geometry,
    /// What is said of the object.
    pub properties: Properties,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum FeatureKind {
    Feature,
}

/// Closed rings of `[x, y]`: the exterior first, then holes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", content = "coordinates")]
pub enum Geometry {
    /// One part.
    Polygon(Vec<Vec<[f64; 2]>>),
    /// Several parts.
    MultiPolygon(Vec<Vec<Vec<[f64; 2]>>>),
}

/// The properties of a feature, as QuPath names them. Fields that are `None` are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Properties {
    /// Position in the list, from 0.
    pub object_idx: usize,
    /// Always `object`.
    pub label: &'static str,
    /// `annotation` in the exact rule.
    #[serde(rename = "objectType", skip_serializing_if = "Option::is_none")]
    pub object_type: Option<&'static str>,
    /// The object's value in the label image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i32>,
    /// Class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// Numbers by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measurements: BTreeMap<&'static str, f64>,
}

/// A class by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Classification {
    /// The name.
    pub name: String,
}

/// One feature for every positive label, in increasing label.
///
/// Exact rule: `Polygon` or `MultiPolygon` in pixel-corner coordinates (QuPath's), valid by the rules of OGC simple
/// features with and without simplification; no object is lost. Literal rule: one ring with pixel centres at integers,
/// which a simplification may let cross itself, and an empty polygon (`[[]]`) for an object that it reduces to less than a
/// triangle, as cellsparse-api answers; see [`GeoJsonOptions::never_empty`].
///
/// # Errors
/// [`Error::Config`] for a negative or not finite tolerance; [`Error::Limit`] for more than 2^32 - 2 pixels.
pub fn to_geojson(labels: &LabelImage, options: &GeoJsonOptions) -> Result<Vec<Feature>> {
    to_geojson_until(labels, options, &CancelToken::new())
}

/// [`to_geojson`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn to_geojson_until(labels: &LabelImage, options: &GeoJsonOptions, cancel: &CancelToken) -> Result<Vec<Feature>> {
    let tolerance = checked_tolerance(options)?;
    match options.outline {
        OutlineRule::Exact => {
            let outlines = exact_outlines_until(labels, cancel)?;
            exact_features(&outlines, tolerance, |id| options.objects.get(&id).cloned(), cancel)
        }
        OutlineRule::Literal => literal_features(labels, tolerance, options.never_empty, cancel),
    }
}

/// The features of the exact rule from outlines that are already traced; `info` tells what is known of an object.
/// `options.outline` and `options.objects` do not count.
///
/// # Errors
/// [`Error::Config`] for a negative or not finite tolerance.
pub fn outlines_to_geojson(
    outlines: &[ExactOutline],
    options: &GeoJsonOptions,
    info: impl Fn(i32) -> Option<ObjectInfo>,
) -> Result<Vec<Feature>> {
    outlines_to_geojson_until(outlines, options, info, &CancelToken::new())
}

/// [`outlines_to_geojson`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn outlines_to_geojson_until(
    outlines: &[ExactOutline],
    options: &GeoJsonOptions,
    info: impl Fn(i32) -> Option<ObjectInfo>,
    cancel: &CancelToken,
) -> Result<Vec<Feature>> {
    exact_features(outlines, checked_tolerance(options)?, info, cancel)
}

/// The JSON array of features, with compact separators and numbers as Python prints floats.
///
/// # Errors
/// [`Error::Internal`] if a number cannot be written, which finite coordinates exclude.
pub fn geojson_string(features: &[Feature]) -> Result<String> {
    serde_json::to_string(features).map_err(|error| Error::Internal(format!("GeoJSON: {error}")))
}

/// Writes the JSON array of features, whole or not at all.
///
/// # Errors
/// [`Error::Io`] or [`Error::NotFound`] when the file cannot be written.
pub fn write_geojson(path: impl AsRef<Path>, features: &[Feature]) -> Result<()> {
    let path = path.as_ref();
    let text = geojson_string(features)?;
    write_atomically(path, |writer| writer.write_all(text.as_bytes()).map_err(|source| Error::io(path, source)))
}

fn checked_tolerance(options: &GeoJsonOptions) -> Result<f64> {
    let tolerance = options.simplify.unwrap_or(0.0);
    if !tolerance.is_finite() || tolerance < 0.0 {
        return Err(Error::Config(format!("the simplification tolerance is {tolerance}; expected pixels, 0 or more")));
    }
    Ok(tolerance)
}

/// Objects after which it is asked whether to stop.
const PATIENCE: usize = 256;

fn literal_features(
    labels: &LabelImage,
    tolerance: f64,
    never_empty: bool,
    cancel: &CancelToken,
) -> Result<Vec<Feature>> {
    let outlines = literal_outlines_until(labels, cancel)?;
    let feature = |(object_idx, outline): (usize, LiteralOutline)| Feature {
        kind: FeatureKind::Feature,
        object: outline.id,
        geometry: Geometry::Polygon(vec![match simplify_ring_literal(&outline.ring, tolerance) {
            None if never_empty => outline.ring,
            simplified => simplified.unwrap_or_default(),
        }]),
        properties: Properties {
            object_idx,
            label: "object",
            object_type: None,
            id: None,
            classification: None,
            measurements: BTreeMap::new(),
        },
    };
    let mut features = Vec::with_capacity(outlines.len());
    for (number, outline) in outlines.into_iter().enumerate() {
        if number % PATIENCE == 0 {
            cancel.check()?;
        }
        features.push(feature((number, outline)));
    }
    Ok(features)
}

fn exact_features(
    outlines: &[ExactOutline],
    tolerance: f64,
    info: impl Fn(i32) -> Option<ObjectInfo>,
    cancel: &CancelToken,
) -> Result<Vec<Feature>> {
    let mut features = Vec::new();
    for (object_idx, outline) in outlines.iter().enumerate() {
        if object_idx % PATIENCE == 0 {
            cancel.check()?;
        }
        let outline = simplify_outline(outline, tolerance);
        let mut parts: Vec<Vec<Vec<[f64; 2]>>> =
            outline.parts.into_iter().map(|part| std::iter::once(part.exterior).chain(part.holes).collect()).collect();
        let geometry = match parts.len() {
            1 => Geometry::Polygon(parts.remove(0)),
            _ => Geometry::MultiPolygon(parts),
        };
        let info = info(outline.id).unwrap_or_default();
        let mut measurements = BTreeMap::new();
        if let Some(probability) = info.probability.filter(|probability| probability.is_finite()) {
            measurements.insert("probability", (f64::from(probability) * 1e6).round() / 1e6);
        }
        features.push(Feature {
            kind: FeatureKind::Feature,
            object: outline.id,
            geometry,
            properties: Properties {
                object_idx,
                label: "object",
                object_type: Some("annotation"),
                id: Some(outline.id),
                classification: info.class.map(|name| Classification { name }),
                measurements,
            },
        });
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn the_literal_text_is_the_seeds() {
        let options = GeoJsonOptions { outline: OutlineRule::Literal, ..Default::default() };
        let text = geojson_string(&to_geojson(&array![[0, 0], [0, 7]], &options).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"[{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[1.0,1.5],[0.5,1.0],[1.0,0.5],[1.5,1.0],[1.0,1.5]]]},"properties":{"object_idx":0,"label":"object"}}]"#
        );
        let options = GeoJsonOptions { simplify: Some(2.0), ..options };
        let text = geojson_string(&to_geojson(&array![[0, 0], [0, 7]], &options).unwrap()).unwrap();
        assert!(text.contains(r#""coordinates":[[]]"#), "{text}");
        let options = GeoJsonOptions { never_empty: true, ..options };
        let text = geojson_string(&to_geojson(&array![[0, 0], [0, 7]], &options).unwrap()).unwrap();
        assert!(text.contains(r#""coordinates":[[[1.0,1.5],"#), "{text}");
        assert_eq!(geojson_string(&to_geojson(&array![[0, -1]], &options).unwrap()).unwrap(), "[]");
    }

    #[test]
    fn the_exact_features_carry_what_is_known() {
        let info = ObjectInfo { probability: Some(0.93), class: Some("Tumor".into()) };
        let options = GeoJsonOptions { objects: BTreeMap::from([(7, info)]), ..Default::default() };
        let text = geojson_string(&to_geojson(&array![[7, 0, 7]], &options).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"[{"type":"Feature","geometry":{"type":"MultiPolygon","coordinates":[[[[0.0,0.0],[1.0,0.0],[1.0,1.0],[0.0,1.0],[0.0,0.0]]],[[[2.0,0.0],[3.0,0.0],[3.0,1.0],[2.0,1.0],[2.0,0.0]]]]},"properties":{"object_idx":0,"label":"object","objectType":"annotation","id":7,"classification":{"name":"Tumor"},"measurements":{"probability":0.93}}}]"#
        );
        let bad = GeoJsonOptions { simplify: Some(-1.0), ..Default::default() };
        assert!(matches!(to_geojson(&array![[7]], &bad), Err(Error::Config(_))));
    }

    #[test]
    fn files_hold_the_same_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.geojson");
        let features = to_geojson(&array![[0, 1]], &GeoJsonOptions::default()).unwrap();
        write_geojson(&path, &features).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), geojson_string(&features).unwrap());
    }
}
