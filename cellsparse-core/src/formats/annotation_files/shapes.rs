//! Shapes that are drawn part by part, for images larger than the memory.

use super::drawing::{Drawing, Region as Shape};
use crate::error::Result;
use crate::raster::LabelImage;
use crate::raster::regions::Region;

/// The shapes of one file, in the pixels of the whole image.
#[derive(Debug)]
pub struct DrawnShapes {
    drawing: Drawing,
    /// Left, top, right and bottom of every shape.
    bounds: Vec<[f64; 4]>,
}

impl DrawnShapes {
    pub(super) fn new(drawing: Drawing) -> Self {
        let bounds = drawing.shapes().map(|(_, shape)| shape.bounds()).collect();
        Self { drawing, bounds }
    }

    /// Rows and columns of the image, where the file tells them.
    pub fn size(&self) -> Option<(usize, usize)> {
        self.drawing.size
    }

    /// What is not used, in half sentences.
    pub fn unused(&self) -> Vec<String> {
        self.drawing.skipped()
    }

    /// Left, top, right and bottom of every shape in pixels; corners of pixels are at whole numbers.
    pub fn bounds(&self) -> &[[f64; 4]] {
        &self.bounds
    }

    /// The label image of a part of an image whose pixels are `scale` times as wide as those of the shapes: -1 where nothing was
    /// drawn, 0 background, `>= 1` cells, with the same number in every part.
    ///
    /// # Errors
    /// As drawing the whole: [`Error::Limit`](crate::Error::Limit) for what would take too much time or memory.
    pub fn draw(&self, part: Region, scale: f64) -> Result<LabelImage> {
        let mut drawing = Drawing::default();
        let [left, top] = [part.left as f64 * scale, part.top as f64 * scale];
        let [right, bottom] = [part.right() as f64 * scale, part.bottom() as f64 * scale];
        for ((kind, shape), bounds) in self.drawing.shapes().zip(&self.bounds) {
            if bounds[0] < right && bounds[2] > left && bounds[1] < bottom && bounds[3] > top {
                drawing.add(kind, shape.seen_in(part, scale));
            }
        }
        drawing.draw(Some((part.height, part.width)))
    }
}

impl Shape {
    /// Left, top, right and bottom.
    fn bounds(&self) -> [f64; 4] {
        let around = |points: &mut dyn Iterator<Item = &[f64; 2]>, more: f64| {
            let none = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
            points.fold(none, |[left, top, right, bottom], [x, y]| {
                [left.min(x - more), top.min(y - more), right.max(x + more), bottom.max(y + more)]
            })
        };
        match self {
            Shape::Parts(parts) => around(&mut parts.iter().flatten().flatten(), 0.0),
            Shape::Ellipse { center: [x, y], radii: [across, down] } => [x - across, y - down, x + across, y + down],
            Shape::Stroke { points, width } => around(&mut points.iter(), width.max(1.0) / 2.0),
            Shape::Columns(runs) => {
                let corners: Vec<[f64; 2]> = runs
                    .iter()
                    .flat_map(|[column, first, end]| [[*column, *first], [column + 1, *end]])
                    .map(|corner| corner.map(|place| place as f64))
                    .collect();
                around(&mut corners.iter(), 0.0)
            }
        }
    }

    /// The shape in the pixels of a part of an image whose pixels are `scale` times as wide.
    fn seen_in(&self, part: Region, scale: f64) -> Self {
        let seen = |[x, y]: &[f64; 2]| [x / scale - part.left as f64, y / scale - part.top as f64];
        match self {
            Shape::Parts(parts) => {
                let ring = |ring: &Vec<[f64; 2]>| ring.iter().map(seen).collect();
                Shape::Parts(parts.iter().map(|rings| rings.iter().map(ring).collect()).collect())
            }
            Shape::Ellipse { center, radii } => {
                Shape::Ellipse { center: seen(center), radii: radii.map(|radius| radius / scale) }
            }
            Shape::Stroke { points, width } => {
                Shape::Stroke { points: points.iter().map(seen).collect(), width: width / scale }
            }
            Shape::Columns(runs) => {
                // Pixels of the part whose centres lie in those of the runs.
                let inside = |begin: usize, end: usize, from: usize, size: usize| {
                    let place =
                        |edge: usize| (edge as f64 / scale - 0.5 - from as f64).ceil().clamp(0.0, size as f64) as usize;
                    place(begin)..place(end)
                };
                let mut seen = Vec::new();
                for [column, first, end] in runs {
                    let rows = inside(*first, *end, part.top, part.height);
                    if !rows.is_empty() {
                        let columns = inside(*column, column + 1, part.left, part.width);
                        seen.extend(columns.map(|column| [column, rows.start, rows.end]));
                    }
                }
                Shape::Columns(seen)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::super::drawing::Kind;
    use super::*;

    #[test]
    fn parts_are_those_of_the_whole() {
        let mut drawing = Drawing::default();
        let ring = vec![[3.0, 2.0], [30.0, 4.0], [20.0, 25.0], [3.0, 2.0]];
        let cell = drawing.next_cell();
        drawing.add(cell, Shape::Parts(vec![vec![ring]]));
        let cell = drawing.next_cell();
        drawing.add(cell, Shape::Ellipse { center: [40.0, 30.0], radii: [7.0, 5.0] });
        drawing.add(Kind::Background, Shape::Stroke { points: vec![[2.0, 38.0], [50.0, 33.0]], width: 3.0 });
        let cell = drawing.next_cell();
        drawing.add(cell, Shape::Columns((45..52).map(|column| [column, 5, 12]).collect()));
        let whole = drawing.draw(Some((40, 60))).unwrap();
        let shapes = DrawnShapes::new(drawing);
        assert_eq!((shapes.bounds()[0], shapes.bounds()[3]), ([3.0, 2.0, 30.0, 25.0], [45.0, 5.0, 52.0, 12.0]));
        for (top, left) in [(0, 0), (10, 20), (25, 30)] {
            let part = Region { top, left, height: 15, width: 30 };
            assert_eq!(shapes.draw(part, 1.0).unwrap(), whole.slice(s![top..top + 15, left..left + 30]), "{part}");
        }
        let half = shapes.draw(Region { top: 0, left: 0, height: 20, width: 30 }, 2.0).unwrap();
        for label in 1..=3 {
            let count = |labels: &LabelImage| labels.iter().filter(|value| **value == label).count() as f64;
            assert!(
                (4.0 * count(&half) / count(&whole) - 1.0).abs() < 0.25,
                "{label}: {} {}",
                count(&half),
                count(&whole)
            );
        }
    }
}
