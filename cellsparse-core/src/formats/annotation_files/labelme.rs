//! LabelMe's JSON: polygons, rectangles, circles and line strips of one image.
//!
//! Coordinates are those of the canvas, with pixel corners at integers. Source: the files that labelme 4 and 5 write.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Classes;
use super::drawing::{Drawing, Kind, Region, closed};
use super::qupath::points;

/// Reads all shapes. Shapes of one label and one `group_id` are one cell; a label named as the background is background, every
/// other one a cell.
pub(super) fn read(root: &Value, classes: &Classes) -> Result<Drawing, String> {
    let shapes = root["shapes"].as_array().ok_or("it has no list of shapes")?;
    let side = |name: &str| root[name].as_u64().and_then(|side| usize::try_from(side).ok());
    let mut drawing = Drawing::of_size(side("imageHeight").zip(side("imageWidth")));
    let mut groups: BTreeMap<(String, i64), Kind> = BTreeMap::new();
    for shape in shapes {
        let label = shape["label"].as_str().unwrap_or_default();
        let kind = shape["shape_type"].as_str().unwrap_or("polygon");
        let Some(points) = points(&shape["points"]) else {
            drawing.skip("shape without points");
            continue;
        };
        let region = match (kind, points.as_slice()) {
            ("polygon", _) => closed(points).map(|ring| Region::Parts(vec![vec![ring]])),
            ("rectangle", [[x0, y0], [x1, y1]]) => {
                let ring = vec![[*x0, *y0], [*x1, *y0], [*x1, *y1], [*x0, *y1]];
                closed(ring).map(|ring| Region::Parts(vec![vec![ring]]))
            }
            ("rectangle", _) => closed(points).map(|ring| Region::Parts(vec![vec![ring]])),
            ("circle", [center, [x, y], ..]) => {
                let radius = (x - center[0]).hypot(y - center[1]);
                Some(Region::Ellipse { center: *center, radii: [radius; 2] })
            }
            ("linestrip" | "line", [_, _, ..]) if classes.is_background(label) => {
                Some(Region::Stroke { points, width: 1.0 })
            }
            _ => {
                drawing.skip(format!("shape of the type '{}'", super::shortened(kind)));
                continue;
            }
        };
        let Some(region) = region else {
            drawing.skip("polygon with fewer than 3 points");
            continue;
        };
        if classes.is_background(label) {
            drawing.add(Kind::Background, region);
        } else if classes.is_foreground(label, None) {
            let cell = match shape["group_id"].as_i64() {
                Some(group) => *groups.entry((label.to_string(), group)).or_insert_with(|| drawing.next_cell()),
                None => drawing.next_cell(),
            };
            drawing.add(cell, region);
        } else {
            drawing.skip(format!("shape of the class '{}'", super::shortened(label)));
        }
    }
    Ok(drawing)
}
