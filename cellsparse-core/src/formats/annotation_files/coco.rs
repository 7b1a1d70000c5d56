//! COCO's JSON: polygons and run lengths of the objects of many images.
//!
//! Polygons have pixel corners at integers; several of one object are its parts. Run lengths go down the columns and begin with
//! the pixels outside. Source: the data format of cocodataset.org and `rleFrString` of its API for the compressed form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Classes;
use super::drawing::{Drawing, Kind, Region, closed};
use crate::error::counted;

/// Runs of pixels of one object, at most.
const RUNS: usize = 10_000_000;

/// Whether the JSON is COCO's.
pub(super) fn is_coco(root: &Value) -> bool {
    root["images"].is_array() && root["annotations"].is_array()
}

/// The file names of the images.
pub(super) fn images(root: &Value) -> Vec<String> {
    let images = root["images"].as_array().map(Vec::as_slice).unwrap_or_default();
    images.iter().filter_map(|image| image["file_name"].as_str()).map(base_name).collect()
}

/// A file name without folders of either kind.
fn base_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or_default().to_string()
}

/// Reads the objects of the image of that file name; without a name, of the only image. A category named as the background
/// is background, every other one holds cells. Groups (`iscrowd`) of several regions are not used.
pub(super) fn read(root: &Value, name: Option<&str>, classes: &Classes) -> Result<Drawing, String> {
    let images = root["images"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_string();
    let named = |wanted: &str| -> Vec<&Value> {
        let exact = |image: &&Value| image["file_name"].as_str().map(base_name).as_deref() == Some(wanted);
        let alike = |image: &&Value| image["file_name"].as_str().map(|n| stem(&base_name(n))) == Some(stem(wanted));
        let found: Vec<&Value> = images.iter().filter(exact).collect();
        if found.is_empty() { images.iter().filter(alike).collect() } else { found }
    };
    let image = match (name.map(named).unwrap_or_default().as_slice(), images) {
        ([image], _) => *image,
        ([], [image]) => image,
        ([_, _, ..], _) => {
            let wanted = name.unwrap_or_default();
            return Err(format!(
                "it has several images named {wanted}, in different folders; keep those of one of them"
            ));
        }
        _ => {
            let names: Vec<String> = self::images(root).into_iter().take(3).collect();
            let wanted = name.map_or_else(|| "no image is named".to_string(), |name| format!("none of them is {name}"));
            return Err(format!("it is for {} ({} ..) and {wanted}", counted(images.len(), "image"), names.join(", ")));
        }
    };
    let side = |name: &str| image[name].as_u64().and_then(|side| usize::try_from(side).ok());
    let mut drawing = Drawing::of_size(side("height").zip(side("width")));
    let categories: BTreeMap<String, &str> = root["categories"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|category| Some((id(&category["id"])?, category["name"].as_str()?)))
        .collect();
    let own = id(&image["id"]);
    for annotation in root["annotations"].as_array().into_iter().flatten() {
        if id(&annotation["image_id"]) != own {
            continue;
        }
        let category = id(&annotation["category_id"]).and_then(|id| categories.get(&id).copied()).unwrap_or("");
        let crowd = matches!(id(&annotation["iscrowd"]).as_deref(), Some("1" | "true"));
        let region = match region(&annotation["segmentation"], drawing.size) {
            Ok(region) => region,
            Err(reason) => {
                drawing.skip(reason);
                continue;
            }
        };
        if classes.is_background(category) {
            drawing.add(Kind::Background, region);
        } else if !classes.is_foreground(category, None) {
            drawing.skip(format!("object of the category '{}'", super::shortened(category)));
        } else if crowd && !is_one_piece(&region) {
            drawing.skip("group of objects (iscrowd)");
        } else {
            let cell = drawing.next_cell();
            drawing.add(cell, region);
        }
    }
    Ok(drawing)
}

/// A number or a text that tells things apart: programs write ids as either.
fn id(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The points of a polygon, as `[x, y, x, y, ...]` or `[[x, y], ...]`.
fn ring(polygon: &Value) -> Option<Vec<[f64; 2]>> {
    let values = polygon.as_array()?;
    if values.first()?.is_array() {
        return closed(super::qupath::points(polygon)?);
    }
    let values: Vec<f64> = values.iter().map(Value::as_f64).collect::<Option<_>>()?;
    closed(values.as_chunks::<2>().0.to_vec())
}

fn region(segmentation: &Value, size: Option<(usize, usize)>) -> Result<Region, &'static str> {
    match segmentation {
        Value::Array(polygons) if !polygons.is_empty() => {
            // A single polygon without the list around it.
            let bare = polygons[0].is_number()
                || polygons[0].get(0).is_some_and(|first| first.is_number() && polygons[0].get(2).is_none());
            let one = std::slice::from_ref(segmentation);
            let parts: Vec<_> =
                if bare { one } else { polygons.as_slice() }.iter().filter_map(ring).map(|ring| vec![ring]).collect();
            if parts.is_empty() { Err("polygon with fewer than 3 points") } else { Ok(Region::Parts(parts)) }
        }
        Value::Object(mask) => {
            let side = |at: usize| mask.get("size")?.get(at)?.as_u64().and_then(|side| usize::try_from(side).ok());
            let (height, width) = side(0).zip(side(1)).or(size).ok_or("mask without a size")?;
            if size.is_some_and(|size| size != (height, width)) {
                return Err("mask of another size than its image");
            }
            let counts = match mask.get("counts") {
                Some(Value::Array(counts)) => counts.iter().map(Value::as_u64).collect(),
                Some(Value::String(text)) => compressed(text.as_bytes()),
                _ => None,
            };
            columns(&counts.ok_or("mask with unreadable run lengths")?, height, width)
                .map(Region::Columns)
                .ok_or("mask whose run lengths do not fit its size")
        }
        _ => Err("object with a box and without an outline"),
    }
}

/// The numbers of a compressed text: 5 bits and a mark for more in each character, from the third the difference to the one
/// before the last.
fn compressed(text: &[u8]) -> Option<Vec<u64>> {
    let mut counts: Vec<i64> = Vec::new();
    let mut bytes = text.iter();
    while let Some(first) = bytes.next() {
        let (mut value, mut shift, mut byte) = (0_i64, 0_u32, *first);
        loop {
            let digit = i64::from(byte.checked_sub(48).filter(|digit| *digit < 64)?);
            if shift > 55 {
                return None;
            }
            value |= (digit & 0x1f) << shift;
            shift += 5;
            if digit & 0x20 == 0 {
                if digit & 0x10 != 0 {
                    value |= -1 << shift;
                }
                break;
            }
            byte = *bytes.next()?;
        }
        if counts.len() > 2 {
            value = value.checked_add(counts[counts.len() - 2])?;
        }
        counts.push(value);
    }
    counts.into_iter().map(|count| u64::try_from(count).ok()).collect()
}

/// Run lengths down the columns as runs within the columns; `None` when they go beyond the image or are too many.
fn columns(counts: &[u64], height: usize, width: usize) -> Option<Vec<[usize; 3]>> {
    let total = height.checked_mul(width)?;
    let mut at = 0_usize;
    let mut runs: Vec<[usize; 3]> = Vec::new();
    for (index, count) in counts.iter().enumerate() {
        let end = at.checked_add(usize::try_from(*count).ok()?).filter(|end| *end <= total)?;
        while index % 2 == 1 && at < end {
            let (column, row) = (at / height, at % height);
            let last = (row + end - at).min(height);
            if runs.len() == RUNS {
                return None;
            }
            runs.push([column, row, last]);
            at += last - row;
        }
        at = end;
    }
    Some(runs)
}

/// Whether runs, sorted by column, touch each other along the sides of pixels.
fn is_one_piece(region: &Region) -> bool {
    let Region::Columns(runs) = region else { return false };
    let mut group: Vec<usize> = (0..runs.len()).collect();
    fn root(group: &mut [usize], mut at: usize) -> usize {
        while group[at] != at {
            group[at] = group[group[at]];
            at = group[at];
        }
        at
    }
    let mut above = 0;
    for (index, &[line, first, end]) in runs.iter().enumerate() {
        while above < index && runs[above][0] + 1 < line {
            above += 1;
        }
        for other in above..index {
            let [other_line, other_first, other_end] = runs[other];
            if other_line + 1 != line || other_first >= end {
                break;
            }
            if other_end > first {
                let (a, b) = (root(&mut group, index), root(&mut group, other));
                group[a] = b;
            }
        }
    }
    let roots: std::collections::BTreeSet<usize> = (0..runs.len()).map(|at| root(&mut group, at)).collect();
    roots.len() == 1
}
