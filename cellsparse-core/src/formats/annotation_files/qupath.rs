//! GeoJSON as QuPath 0.2 to 0.7 exports it: a feature collection, an array of features, a single feature or geometry.
//!
//! Coordinates have pixel corners at integers. Source: RFC 7946, and `classification.name` (0.2 and later),
//! `classification.names` (classes with parts), `objectType`, `nucleusGeometry` (of cells, taken where they have no other) and
//! `plane` of a geometry (absent for the first plane and time point) as QuPath writes them.

use serde_json::Value;

use super::Classes;
use super::drawing::{Drawing, Kind, Place, Region, closed};

/// Geometries within geometries, at most.
const DEPTH: usize = 8;

/// Reads all features.
pub(super) fn read(root: &Value, classes: &Classes) -> Result<Drawing, String> {
    let features = match root {
        Value::Array(features) => features.iter().collect(),
        Value::Object(object) => match object.get("features") {
            Some(Value::Array(features)) => features.iter().collect(),
            _ => vec![root],
        },
        _ => return Err("it is JSON without GeoJSON features".into()),
    };
    let mut drawing = Drawing::default();
    let classified = features.iter().any(|feature| class(feature).is_some());
    // Where cells were detected, what was drawn without a class is the region that was searched.
    let detected = features.iter().any(|feature| matches!(object_type(feature), "detection" | "cell"));
    let on_planes = features.iter().any(|feature| geometry(feature).get("plane").is_some());
    for feature in features {
        let class = class(feature);
        let geometry = geometry(feature);
        let kind = object_type(feature);
        if matches!(kind, "root" | "tile" | "tmaCore" | "tma_core") {
            drawing.skip(format!("object of the type '{kind}'"));
            continue;
        }
        drawing.place = if on_planes { place(geometry) } else { Place::default() };
        let mut found = Found::default();
        found.geometry(geometry, &mut drawing, 0);
        let is_background = class.as_deref().is_some_and(|class| classes.is_background(class));
        let is_cell = match class.as_deref() {
            Some(class) => classes.is_foreground(class, Some("Foreground")),
            // Where nobody used classes, what was drawn is a cell.
            None => !classified && classes.foreground.is_none() && !(detected && kind == "annotation"),
        };
        let lines_are_background = is_background || class.is_none();
        if is_background {
            found.areas.into_iter().for_each(|area| drawing.add(Kind::Background, Region::Parts(area)));
        } else if !found.areas.is_empty() {
            if is_cell {
                let cell = drawing.next_cell();
                drawing.add(cell, Region::Parts(found.areas.into_iter().flatten().collect()));
            } else {
                drawing.skip(match class.as_deref() {
                    Some(class) => format!("shape of the class '{}'", super::shortened(class)),
                    None if detected && !classified => "annotation without a class beside detections".to_string(),
                    None => "shape without a class".to_string(),
                });
            }
        }
        for points in found.lines {
            if lines_are_background {
                drawing.add(Kind::Background, Region::Stroke { points, width: 1.0 });
            } else {
                drawing.skip("line that is not background");
            }
        }
    }
    Ok(drawing)
}

/// `annotation`, `detection`, `cell`, ... of QuPath's objects; empty for others.
fn object_type(feature: &Value) -> &str {
    // QuPath 0.2 names the object in its id.
    let told = |name: &str| feature["properties"][name].as_str();
    let told = told("objectType").or_else(|| told("object_type")).or_else(|| told("type"));
    told.unwrap_or_else(|| match feature["id"].as_str() {
        Some("PathAnnotationObject") => "annotation",
        Some("PathDetectionObject" | "PathCellObject") => "detection",
        Some("PathTileObject") => "tile",
        Some("TMACoreObject") => "tmaCore",
        Some("PathRootObject") => "root",
        _ => "",
    })
}

/// The outline of a feature; a bare geometry is one.
fn geometry(feature: &Value) -> &Value {
    match (feature.get("geometry"), feature.get("nucleusGeometry")) {
        (None | Some(Value::Null), Some(nucleus)) => nucleus,
        (Some(geometry), _) => geometry,
        (None, None) => feature,
    }
}

/// Plane and time point of a geometry, which QuPath counts from 0.
fn place(geometry: &Value) -> Place {
    let number = |axis: &str| {
        let at = geometry["plane"][axis].as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
        Some(at.saturating_add(1))
    };
    Place { plane: number("z"), frame: number("t"), slice: None }
}

/// The name of the class of a feature.
fn class(feature: &Value) -> Option<String> {
    class_name(feature.get("properties")?.get("classification")?, 0)
}

fn class_name(classification: &Value, depth: usize) -> Option<String> {
    match classification {
        Value::String(name) => Some(name.clone()),
        classification => match (classification.get("name"), classification.get("names")) {
            (Some(Value::String(name)), _) => {
                // As QuPath before 0.4 writes a derived class.
                let parent = classification.get("parentClass").filter(|_| depth < DEPTH);
                let parent = parent.and_then(|parent| class_name(parent, depth + 1));
                Some(parent.map_or_else(|| name.clone(), |parent| format!("{parent}: {name}")))
            }
            (_, Some(Value::Array(names))) => {
                let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                (!names.is_empty()).then(|| names.join(": "))
            }
            _ => None,
        },
    }
}

/// The usable shapes of one feature.
#[derive(Default)]
struct Found {
    /// Polygons and multipolygons: parts of rings.
    areas: Vec<Vec<Vec<Vec<[f64; 2]>>>>,
    lines: Vec<Vec<[f64; 2]>>,
}

impl Found {
    fn geometry(&mut self, geometry: &Value, drawing: &mut Drawing, depth: usize) {
        let coordinates = &geometry["coordinates"];
        let many = |value: &Value| value.as_array().map(Vec::as_slice).unwrap_or_default().to_vec();
        match geometry["type"].as_str() {
            Some("Polygon") => match polygon(coordinates) {
                Some(part) => self.areas.push(vec![part]),
                None => drawing.skip("polygon with fewer than 3 points"),
            },
            Some("MultiPolygon") => {
                let parts: Vec<_> = many(coordinates).iter().filter_map(polygon).collect();
                if parts.is_empty() {
                    drawing.skip("polygon with fewer than 3 points");
                } else {
                    self.areas.push(parts);
                }
            }
            Some("LineString") => self.line(coordinates, drawing),
            Some("MultiLineString") => many(coordinates).iter().for_each(|line| self.line(line, drawing)),
            Some("GeometryCollection") if depth < DEPTH => {
                many(&geometry["geometries"]).iter().for_each(|part| self.geometry(part, drawing, depth + 1));
            }
            Some("Point" | "MultiPoint") => drawing.skip("point, which tells no pixels"),
            _ => drawing.skip("feature without a geometry"),
        }
    }

    fn line(&mut self, coordinates: &Value, drawing: &mut Drawing) {
        match points(coordinates) {
            Some(line) if line.len() >= 2 => self.lines.push(line),
            _ => drawing.skip("line with fewer than 2 points"),
        }
    }
}

/// The rings of a polygon; those with fewer than 3 points are left out.
fn polygon(coordinates: &Value) -> Option<Vec<Vec<[f64; 2]>>> {
    let rings = coordinates.as_array()?;
    let exterior = closed(points(rings.first()?)?)?;
    let holes = rings.iter().skip(1).filter_map(points).filter_map(closed);
    Some(std::iter::once(exterior).chain(holes).collect())
}

/// A list of `[x, y]`, further numbers of a point ignored.
pub(super) fn points(value: &Value) -> Option<Vec<[f64; 2]>> {
    let point = |point: &Value| Some([point.get(0)?.as_f64()?, point.get(1)?.as_f64()?]);
    value.as_array()?.iter().map(point).collect()
}
