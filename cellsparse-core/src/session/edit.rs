//! What a person does to the labels of an image.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, counted};
use crate::raster::{LabelImage, runs_where};

/// Pixels `first..end` of a row: `[row, first, end]`.
pub type Run = [u32; 3];

/// Points of a shape at most.
const POINTS: usize = 200_000;

/// Radius of a brush at most, in pixels.
const RADIUS: f64 = 4096.0;

/// Coordinates are refused beyond this, in pixels from the corner of the image.
const FARTHEST: f64 = 1e7;

/// One step of drawing or correcting, which is undone as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Edit {
    /// Paint a shape.
    Paint {
        /// Where.
        shape: Shape,
        /// With what.
        ink: Ink,
    },
    /// A found object is right: its pixels become a drawn cell, but for those of other drawn cells.
    Accept {
        /// Those of the object.
        pixels: Vec<Run>,
    },
    /// A found object is none: its pixels become background, those of drawn cells included.
    Delete {
        /// Those of the object.
        pixels: Vec<Run>,
    },
    /// A found object has another shape: what was drawn on its pixels is forgotten, and the shape becomes a drawn cell.
    Redraw {
        /// Those of the object.
        pixels: Vec<Run>,
        /// Its right shape.
        shape: Shape,
    },
    /// Pixels become unlabelled again.
    Forget {
        /// Which.
        pixels: Vec<Run>,
    },
    /// The whole image becomes unlabelled again.
    Clear,
}

/// An area, `[x, y]` in pixels from the corner of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "snake_case")]
pub enum Shape {
    /// A round brush along a line: the pixels whose centres are not further from it than the radius, and those that the points
    /// lie in.
    Stroke {
        /// The line; one point is a dot.
        points: Vec<[f64; 2]>,
        /// Of the brush, in pixels.
        radius: f64,
    },
    /// The pixels whose centres lie inside, by the even-odd rule.
    Polygon {
        /// Its corners; the last one is joined to the first.
        points: Vec<[f64; 2]>,
    },
}

/// What a shape is painted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ink", rename_all = "snake_case")]
pub enum Ink {
    /// A cell: the drawn one with that number, or a new one. Holes that a cell encloses are filled. Other drawn cells stay.
    Cell {
        /// Its number.
        #[serde(default)]
        id: Option<i32>,
    },
    /// Background. Drawn cells stay.
    Background,
    /// Nothing: pixels become unlabelled.
    Eraser,
}

impl Edit {
    /// Refuses what cannot be drawn.
    ///
    /// # Errors
    /// [`Error::Labels`] for points that are not finite or far away, too many of them, a brush out of range, a cell
    /// number below 1, and runs of pixels that end before they begin.
    pub fn check(&self) -> Result<()> {
        match self {
            Edit::Paint { shape, ink } => {
                if let Ink::Cell { id: Some(id @ ..=0) } = ink {
                    return Err(Error::Labels(format!("a cell has the number {id}; cells are counted from 1")));
                }
                shape.check()
            }
            Edit::Accept { pixels } | Edit::Delete { pixels } | Edit::Forget { pixels } => check_runs(pixels),
            Edit::Redraw { pixels, shape } => check_runs(pixels).and_then(|()| shape.check()),
            Edit::Clear => Ok(()),
        }
    }
}

impl Shape {
    fn check(&self) -> Result<()> {
        let (points, least) = match self {
            Shape::Stroke { points, radius } => {
                if !(0.0..=RADIUS).contains(radius) {
                    return Err(Error::Labels(format!(
                        "a brush has a radius of {radius} pixels; it must lie between 0 and {RADIUS}"
                    )));
                }
                (points, 1)
            }
            Shape::Polygon { points } => (points, 3),
        };
        if !(least..=POINTS).contains(&points.len()) {
            return Err(Error::Labels(format!(
                "a shape has {}; it must have {least} to {POINTS}",
                counted(points.len(), "point")
            )));
        }
        match points.iter().flatten().find(|value| !(-FARTHEST..=FARTHEST).contains(*value)) {
            Some(value) => Err(Error::Labels(format!("a shape has a point at {value}; expected pixels of the image"))),
            None => Ok(()),
        }
    }
}

fn check_runs(runs: &[Run]) -> Result<()> {
    match runs.iter().find(|[_, first, end]| first >= end) {
        Some([row, first, end]) => Err(Error::Labels(format!(
            "a run of pixels in row {row} goes from {first} to {end}; it must end behind its first pixel"
        ))),
        None => Ok(()),
    }
}

/// The pixels of an object in a label image, row by row.
pub fn runs_of(labels: &LabelImage, id: i32) -> Vec<Run> {
    runs_where(labels.view(), [0, 0], |label| *label == id)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn pixels_of_an_object_are_runs() {
        let labels = array![[1, 1, 0, 1], [0, 2, 2, 2]];
        assert_eq!(runs_of(&labels, 1), [[0, 0, 2], [0, 3, 4]]);
        assert_eq!(runs_of(&labels, 2), [[1, 1, 4]]);
        assert!(runs_of(&labels, 3).is_empty());
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let stroke = |points: Vec<[f64; 2]>, radius| Edit::Paint {
            shape: Shape::Stroke { points, radius },
            ink: Ink::Background,
        };
        assert!(stroke(vec![[1.0, 2.0]], 3.0).check().is_ok());
        let polygon = Edit::Redraw { pixels: vec![], shape: Shape::Polygon { points: vec![[0.0, 0.0]; 2] } };
        let shape = Shape::Stroke { points: vec![[1.0, 2.0]], radius: 1.0 };
        for wrong in [
            stroke(vec![], 3.0),
            stroke(vec![[f64::NAN, 2.0]], 3.0),
            stroke(vec![[1e9, 2.0]], 3.0),
            stroke(vec![[1.0, 2.0]], -1.0),
            stroke(vec![[1.0, 2.0]], f64::INFINITY),
            polygon,
            Edit::Delete { pixels: vec![[1, 5, 5]] },
            Edit::Paint { shape, ink: Ink::Cell { id: Some(0) } },
        ] {
            assert!(matches!(wrong.check(), Err(Error::Labels(_))), "{wrong:?}");
        }
    }

    #[test]
    fn edits_are_read_as_they_are_sent() {
        let text = r#"{"kind":"paint","shape":{"shape":"stroke","points":[[1,2.5]],"radius":3},"ink":{"ink":"cell"}}"#;
        let edit: Edit = serde_json::from_str(text).unwrap();
        assert!(matches!(&edit, Edit::Paint { ink: Ink::Cell { id: None }, .. }), "{edit:?}");
        let again: Edit = serde_json::from_str(&serde_json::to_string(&edit).unwrap()).unwrap();
        assert_eq!(again, edit);
    }
}
