//! Where in an image objects are wanted.

use std::path::Path;
use std::str::FromStr;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::formats::read_json;
use crate::raster::regions::Region;

/// Boxes and polygons, in pixels of level 0 with their corner at the corner of the image (QuPath's coordinates). An object is
/// wanted when the middle of its pixels lies in one of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Area {
    /// Each an exterior ring of `[x, y]` followed by holes.
    polygons: Vec<Vec<Vec<[f64; 2]>>>,
}

/// Most bytes of a file of polygons.
const MOST_BYTES: u64 = 256 << 20;

impl Area {
    /// The polygons of a GeoJSON text: a feature collection, a list of features, a feature or a geometry.
    ///
    /// # Errors
    /// [`Error::Config`] when it is no JSON, or holds no polygon.
    pub fn from_geojson(text: &str) -> Result<Self> {
        let value: Value =
            read_json(text.as_bytes()).map_err(|error| Error::Config(format!("the region is no GeoJSON: {error}")))?;
        let mut area = Self::default();
        area.collect(&value, 0)?;
        if area.polygons.is_empty() {
            return Err(Error::Config(
                "the region holds no polygon; draw one in QuPath and export it as GeoJSON".into(),
            ));
        }
        Ok(area)
    }

    /// The polygons of a GeoJSON file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`], [`Error::File`] for a file that is too long or none; as
    /// [`from_geojson`](Self::from_geojson), with the path.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if crate::raster::require_regular_file(path)?.len() > MOST_BYTES {
            return Err(Error::file(path, format!("a region of more than {MOST_BYTES} bytes; simplify it")));
        }
        let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
        Self::from_geojson(&text).map_err(|error| Error::file(path, error.message()))
    }

    /// The rectangle with that left top corner.
    ///
    /// # Errors
    /// [`Error::Config`] for numbers that are not finite, or no pixel.
    pub fn rectangle([x, y, width, height]: [f64; 4]) -> Result<Self> {
        if ![x, y, width, height].iter().all(|number| number.is_finite()) || width <= 0.0 || height <= 0.0 {
            return Err(Error::Config(format!(
                "the region {x},{y},{width},{height}; expected left, top, width and height in pixels"
            )));
        }
        let ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
        Ok(Self { polygons: vec![vec![ring.to_vec()]] })
    }

    /// The same in pixels that are so many times as wide.
    pub fn at(&self, factor: f64) -> Self {
        let polygons = self.polygons.iter().map(|rings| {
            rings.iter().map(|ring| ring.iter().map(|point| point.map(|at| at / factor)).collect()).collect()
        });
        Self { polygons: polygons.collect() }
    }

    /// Whether a point, with pixel centres at halves, lies in it.
    pub fn contains(&self, [y, x]: [f64; 2]) -> bool {
        self.polygons.iter().any(|rings| rings.iter().filter(|ring| inside(ring, [x, y])).count() % 2 == 1)
    }

    /// Whether it may reach into a region: by the boxes around its polygons.
    pub fn may_meet(&self, region: Region) -> bool {
        self.polygons.iter().filter_map(|rings| rings.first()).any(|ring| {
            let span = |axis: usize| {
                let values = ring.iter().map(|point| point[axis]);
                (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
            };
            let ((left, right), (top, bottom)) = (span(0), span(1));
            left < region.right() as f64
                && right > region.left as f64
                && top < region.bottom() as f64
                && bottom > region.top as f64
        })
    }

    fn collect(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > 8 {
            return Err(Error::Config("the region has features inside features; export the annotations alone".into()));
        }
        if let Some(list) = value.as_array() {
            return list.iter().try_for_each(|one| self.collect(one, depth + 1));
        }
        let unusable =
            || Error::Config("the region has a polygon with corners that are no numbers; export it again".into());
        match value["type"].as_str() {
            Some("FeatureCollection") => self.collect(&value["features"], depth + 1)?,
            Some("GeometryCollection") => self.collect(&value["geometries"], depth + 1)?,
            Some("Feature") => self.collect(&value["geometry"], depth + 1)?,
            Some("Polygon") => self.polygons.push(rings(&value["coordinates"]).ok_or_else(unusable)?),
            Some("MultiPolygon") => {
                for polygon in value["coordinates"].as_array().ok_or_else(unusable)? {
                    self.polygons.push(rings(polygon).ok_or_else(unusable)?);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl FromStr for Area {
    type Err = Error;

    /// `X,Y,W,H`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<f64> = text.split(',').map_while(|number| number.trim().parse().ok()).collect();
        let numbers: [f64; 4] = numbers.try_into().map_err(|_| {
            Error::Config(format!(
                "the region '{text}'; expected left, top, width and height in pixels, like 0,0,2000,1500"
            ))
        })?;
        Self::rectangle(numbers)
    }
}

fn rings(value: &Value) -> Option<Vec<Vec<[f64; 2]>>> {
    let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
    let point = |value: &Value| Some([number(value.get(0)?)?, number(value.get(1)?)?]);
    let ring = |value: &Value| value.as_array()?.iter().map(point).collect::<Option<Vec<_>>>();
    value.as_array()?.iter().map(ring).collect()
}

/// Whether a point lies inside a ring by the even-odd rule.
fn inside(ring: &[[f64; 2]], [x, y]: [f64; 2]) -> bool {
    let mut within = false;
    for (a, b) in ring.iter().zip(ring.iter().cycle().skip(1)) {
        if (a[1] > y) != (b[1] > y) && x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0] {
            within = !within;
        }
    }
    within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_and_polygons_with_holes() {
        let area: Area = "10, 20,30,40".parse().unwrap();
        assert!(area.contains([20.5, 10.5]) && !area.contains([60.5, 10.5]) && !area.contains([20.5, 9.5]));
        assert!(area.at(2.0).contains([29.5, 19.5]) && !area.at(2.0).contains([30.5, 19.5]));
        let region = |top, left| Region { top, left, height: 10, width: 10 };
        assert!(area.may_meet(region(15, 5)) && !area.may_meet(region(60, 10)) && !area.may_meet(region(0, 0)));
        for wrong in ["", "1,2,3", "1,2,3,x", "1,2,0,4", "1,2,3,4,5", "1,2,inf,4"] {
            assert!(matches!(wrong.parse::<Area>(), Err(Error::Config(_))), "{wrong}");
        }
        let ring = "[[0,0],[9,0],[9,9],[0,9],[0,0]],[[3,3],[6,3],[6,6],[3,6],[3,3]]";
        let polygon = format!(r#"{{"type":"Polygon","coordinates":[{ring}]}}"#);
        let feature = format!(r#"{{"type":"Feature","geometry":{polygon},"properties":{{}}}}"#);
        let collection = format!(r#"{{"type":"FeatureCollection","features":[{feature}]}}"#);
        for text in [polygon, feature.clone(), collection, format!("[{feature}]")] {
            let area = Area::from_geojson(&text).unwrap();
            assert!(area.contains([1.5, 1.5]) && !area.contains([4.5, 4.5]) && !area.contains([9.5, 1.5]), "{text}");
        }
        let point = r#"{"type":"Point","coordinates":[1,2]}"#;
        for wrong in ["", "3", "[]", point, r#"{"type":"Polygon","coordinates":[[["a",1]]]}"#] {
            assert!(matches!(Area::from_geojson(wrong), Err(Error::Config(_))), "{wrong}");
        }
        assert!(Area::from_geojson(&format!("{}{}", "[".repeat(20), "]".repeat(20))).is_err());
    }
}
