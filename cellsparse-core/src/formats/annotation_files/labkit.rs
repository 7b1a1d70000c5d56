//! Labkit's `.labeling`: JSON with the pixels of every label.
//!
//! `interval` holds the first and last pixel of the image (`min`, `max`), `labels` a list of `[x, y]` for each label by its name.
//! Source: the files that Labkit 0.3 and 0.4 of Fiji write.

use serde_json::Value;

use super::Classes;
use super::drawing::{Drawing, Kind, Region};
use crate::raster::{Connectivity, label_components};

/// Pixels of the rectangle around one label, at most.
const PIXELS: usize = 1 << 28;

/// Whether the JSON is Labkit's.
pub(super) fn is_labkit(root: &Value) -> bool {
    root["labels"].is_object() && root["interval"]["max"].is_array()
}

/// Reads all labels. The label named as the background is background; of the label `foreground`, or the one that was asked for,
/// every connected part is a cell, as Labkit paints all cells with one label; every other label is one cell.
pub(super) fn read(root: &Value, classes: &Classes) -> Result<Drawing, String> {
    let side = |end: &str, axis: usize| root["interval"][end].get(axis).and_then(Value::as_i64);
    let axes = root["interval"]["max"].as_array().map_or(0, Vec::len);
    let first: Vec<i64> = (0..axes).map(|axis| side("min", axis).unwrap_or(0)).collect();
    let last: Vec<i64> = (0..axes).map(|axis| side("max", axis).unwrap_or(-1)).collect();
    let sides: Vec<i64> = last.iter().zip(&first).map(|(last, first)| last.saturating_sub(*first)).collect();
    if axes < 2 || sides.iter().skip(2).any(|side| *side > 0) {
        return Err(format!(
            "it labels an image of {axes} axes with several planes; label one plane as an image of its own, or save the labeling \
             as TIFF and choose its plane"
        ));
    }
    let size = |axis: usize| usize::try_from(sides[axis].saturating_add(1)).ok().filter(|side| *side > 0);
    let size = size(1).zip(size(0)).ok_or("its interval has no pixels")?;
    let mut drawing = Drawing::of_size(Some(size));
    for (name, pixels) in root["labels"].as_object().into_iter().flatten() {
        let Some(pixels) = pixels_of(pixels, &first) else {
            drawing.skip("label whose pixels are no numbers, or lie outside of the image");
            continue;
        };
        if pixels.is_empty() {
            continue;
        }
        if classes.is_background(name) {
            drawing.add(Kind::Background, columns(pixels));
        } else if classes.foreground.is_some() || name.eq_ignore_ascii_case("foreground") {
            if !classes.is_foreground(name, None) {
                drawing.skip(format!("label '{}'", super::shortened(name)));
                continue;
            }
            for part in parts(pixels)? {
                let cell = drawing.next_cell();
                drawing.add(cell, columns(part));
            }
        } else {
            let cell = drawing.next_cell();
            drawing.add(cell, columns(pixels));
        }
    }
    Ok(drawing)
}

/// Columns and rows from the first pixel of the image on.
fn pixels_of(list: &Value, first: &[i64]) -> Option<Vec<[usize; 2]>> {
    let place = |pixel: &Value, axis: usize| {
        let at = pixel.get(axis)?.as_i64()?.checked_sub(*first.get(axis)?)?;
        usize::try_from(at).ok().filter(|at| *at < u32::MAX as usize)
    };
    list.as_array()?.iter().map(|pixel| Some([place(pixel, 0)?, place(pixel, 1)?])).collect()
}

/// The connected parts of pixels, those that touch at a corner together.
fn parts(pixels: Vec<[usize; 2]>) -> Result<Vec<Vec<[usize; 2]>>, String> {
    let end = |axis: usize, least: bool| {
        let all = pixels.iter().map(|pixel| pixel[axis]);
        if least { all.min() } else { all.max() }.unwrap_or(0)
    };
    let (low, high) = ([end(0, true), end(1, true)], [end(0, false), end(1, false)]);
    let (width, height) = (high[0] - low[0] + 1, high[1] - low[1] + 1);
    if height.saturating_mul(width) > PIXELS {
        return Err(format!("a label reaches over {height} x {width} pixels; label smaller images"));
    }
    let mut mask = ndarray::Array2::from_elem((height, width), false);
    for [x, y] in &pixels {
        mask[[y - low[1], x - low[0]]] = true;
    }
    let (labels, count) = label_components(mask.view(), Connectivity::Eight).map_err(|error| error.to_string())?;
    let mut parts = vec![Vec::new(); count];
    for [x, y] in pixels {
        let part = usize::try_from(labels[[y - low[1], x - low[0]]]).unwrap_or(0);
        if let Some(part) = part.checked_sub(1).and_then(|part| parts.get_mut(part)) {
            part.push([x, y]);
        }
    }
    Ok(parts)
}

/// Pixels as runs down the columns.
pub(super) fn columns(mut pixels: Vec<[usize; 2]>) -> Region {
    pixels.sort_unstable();
    let mut runs: Vec<[usize; 3]> = Vec::new();
    for [x, y] in pixels {
        match runs.last_mut() {
            Some(run) if run[0] == x && run[2] >= y => run[2] = run[2].max(y + 1),
            _ => runs.push([x, y, y + 1]),
        }
    }
    Region::Columns(runs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::AnnotationOptions;
    use super::*;

    fn read_text(root: &Value, foreground: Option<&str>) -> Result<(ndarray::Array2<i32>, Vec<String>), String> {
        let options = AnnotationOptions { foreground: foreground.map(str::to_owned), ..AnnotationOptions::default() };
        let mut drawing = read(root, &Classes::new(&options))?;
        Ok((drawing.draw(None).map_err(|error| error.to_string())?, drawing.skipped()))
    }

    fn file() -> Value {
        json!({
            "interval": { "n": 2, "min": [0, 0], "max": [4, 2] },
            "pixelSizes": [{ "size": 1.0, "unit": "um" }, { "size": 1.0, "unit": "um" }],
            "labels": { "background": [[0, 2], [1, 2]], "foreground": [[0, 0], [1, 1], [3, 0], [3, 1]], "big": [[4, 0], [4, 2]] },
            "colors": { "background": "#00FF00" },
        })
    }

    #[test]
    fn parts_of_the_foreground_and_other_labels_are_cells() {
        assert!(is_labkit(&file()) && !is_labkit(&json!({ "labels": {} })));
        let (labels, unused) = read_text(&file(), None).unwrap();
        let expected = ndarray::array![[2, -1, -1, 3, 1], [-1, 2, -1, 3, -1], [0, 0, -1, -1, 1]];
        assert_eq!(labels, expected);
        assert!(unused.is_empty());
        let (labels, unused) = read_text(&file(), Some("Big")).unwrap();
        assert_eq!(labels.iter().filter(|label| **label == 1).count(), 1, "two parts are two cells");
        assert_eq!(unused, ["1 label 'foreground'"]);
    }

    #[test]
    fn stacks_and_nonsense_are_refused_or_said() {
        let mut stack = file();
        stack["interval"] = json!({ "min": [0, 0, 0], "max": [4, 2, 7] });
        assert!(read_text(&stack, None).unwrap_err().contains("several planes"));
        let mut odd = file();
        odd["labels"] = json!({ "a": [[-1, 0]], "b": [["x", 0]], "c": [[2, 1]] });
        let (labels, unused) = read_text(&odd, None).unwrap();
        assert_eq!((labels[[1, 2]], unused.len()), (1, 1));
        odd["interval"]["max"] = json!([-3, 4]);
        assert!(read_text(&odd, None).unwrap_err().contains("no pixels"));
        let far = json!({ "interval": { "min": [0, 0], "max": [9e9, 9e9] }, "labels": { "foreground": [[0, 0], [4e9, 4e9]] } });
        assert!(read_text(&far, None).is_err());
    }
}
