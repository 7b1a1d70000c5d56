//! LabelMe's JSON: polygons, rectangles, circles, masks and line strips of one image.
//!
//! Coordinates are those of the canvas, with pixel corners at integers. A mask is a PNG whose first and last pixel are the two
//! points of its shape. Source: the files that labelme 4 and 5 write.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Classes;
use super::drawing::{Drawing, Kind, Region, closed};
use super::labkit::columns;
use super::qupath::points;
use crate::formats::base64;
use crate::raster::{RawLabels, ReadLimits, decode_labels};

/// Reads all shapes. Shapes of one label and one `group_id` are one cell; a label named as the background is background, every
/// other one a cell.
pub(super) fn read(root: &Value, classes: &Classes) -> Result<Drawing, String> {
    let shapes = root["shapes"].as_array().ok_or("it has no list of shapes")?;
    let side = |name: &str| root[name].as_u64().and_then(|side| usize::try_from(side).ok());
    let mut drawing = Drawing::of_size(side("imageHeight").zip(side("imageWidth")));
    let mut groups: BTreeMap<(String, i64), Kind> = BTreeMap::new();
    for shape in shapes {
        let label = shape["label"].as_str().unwrap_or_default();
        // labelme's own lists of classes have `_background_`.
        let inner = label.trim_matches('_');
        let label = if classes.is_background(inner) { inner } else { label };
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
            ("mask", [[left, top], ..]) => match mask(&shape["mask"], [*left, *top]) {
                Some(region) => Some(region),
                None => {
                    drawing.skip("mask that cannot be read");
                    continue;
                }
            },
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

/// The pixels of a mask whose first one lies at `[x, y]`: those that are not 0 in its PNG.
fn mask(text: &Value, [left, top]: [f64; 2]) -> Option<Region> {
    let bytes = base64::decode(text.as_str()?).ok()?;
    let RawLabels::Unsigned(values) = decode_labels(&bytes, &ReadLimits::default()).ok()? else { return None };
    let first = |at: f64| (0.0..f64::from(u32::MAX)).contains(&at.round()).then_some(at.round() as usize);
    let (left, top) = (first(left)?, first(top)?);
    let inside = values.indexed_iter().filter(|(_, value)| **value > 0);
    let pixels: Vec<[usize; 2]> = inside.map(|((y, x), _)| [left + x, top + y]).collect();
    (!pixels.is_empty()).then(|| columns(pixels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::AnnotationOptions;
    use super::*;

    #[test]
    fn the_background_of_its_lists_of_classes_is_background() {
        let shape = |label: &str, x: f64| json!({ "label": label, "points": [[x, 0.0], [x + 1.0, 1.0]], "shape_type": "rectangle" });
        let shapes = [shape("_background_", 0.0), shape("cell_", 1.0), shape("Background", 2.0)];
        let root = json!({ "shapes": shapes, "imageHeight": 1, "imageWidth": 4 });
        let mut drawing = read(&root, &Classes::new(&AnnotationOptions::default())).unwrap();
        assert_eq!(drawing.draw(None).unwrap(), ndarray::array![[0, 1, 0, -1]]);
    }

    #[test]
    fn masks_lie_where_their_first_point_does() {
        // 3 x 2 pixels of one bit as Pillow writes them: 1 0 1 / 1 1 0.
        let png = "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACAQAAAAC1D1u3AAAADElEQVR4nGNYwKQAAAIIAMMnmJT4AAAAAElFTkSuQmCC";
        let shape = |mask: &str| json!({ "label": "cell", "points": [[2.0, 1.0], [4.0, 2.0]], "shape_type": "mask", "mask": mask });
        let root = json!({ "shapes": [shape(png), shape("iVBORw0"), shape("")], "imageHeight": 4, "imageWidth": 6 });
        let mut drawing = read(&root, &Classes::new(&AnnotationOptions::default())).unwrap();
        let labels = drawing.draw(None).unwrap();
        let drawn: Vec<(usize, usize)> =
            labels.indexed_iter().filter(|(_, label)| **label > 0).map(|(place, _)| place).collect();
        assert_eq!(drawn, [(1, 2), (1, 4), (2, 2), (2, 3)]);
        assert_eq!(drawing.skipped(), ["2 x mask that cannot be read"]);
    }
}
