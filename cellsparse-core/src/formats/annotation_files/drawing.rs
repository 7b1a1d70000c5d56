//! Shapes that somebody drew, and the label image they make.

use std::collections::{BTreeMap, BTreeSet};

use crate::budget::{Budget, bytes_of, reserve};
use crate::error::{Error, Reason, Result};
use crate::geometry::fill_rings;
use crate::raster::LabelImage;

/// Pixels and crossings of edges with rows that drawing one file may cost.
const WORK: f64 = 2e8;

/// How often the shapes of one file may cover the image, or [`WORK`] pixels where that is more.
const LAYERS: f64 = 50.0;

/// Most pixels of an image whose size is taken from the file or its shapes.
pub(super) const PIXELS: f64 = 1e8;

/// Widest background stroke in pixels.
const WIDEST: f64 = 1000.0;

/// Numbers in a message, at most.
const SHOWN: usize = 5;

/// What a shape says about its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// They belong to the cell with that id; shapes of one id make one cell.
    Cell(i32),
    /// They are background.
    Background,
}

/// Pixels, told by their outline. Coordinates `[x, y]` have pixel corners at integers: a pixel belongs to a region when its
/// centre does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Region {
    /// Parts, each of closed rings that are filled by the even-odd rule.
    Parts(Vec<Vec<Vec<[f64; 2]>>>),
    /// An ellipse with horizontal and vertical axes.
    Ellipse { center: [f64; 2], radii: [f64; 2] },
    /// The pixels beside a line, at most half the width, at least half a pixel, away.
    Stroke { points: Vec<[f64; 2]>, width: f64 },
    /// Column, first and last row + 1 of runs of pixels.
    Columns(Vec<[usize; 3]>),
}

/// Where in a stack a shape was drawn, counted from 1; what is absent is not told, and the shape holds everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The plane (Z).
    pub(super) plane: Option<usize>,
    /// The time point (T).
    pub(super) frame: Option<usize>,
    /// The number in a stack of one axis, whichever that is.
    pub(super) slice: Option<usize>,
}

/// The shapes of one file.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    shapes: Vec<(Kind, Region, Place)>,
    /// Where the shapes that are added were drawn.
    pub(super) place: Place,
    /// Rows and columns of the image, where the file tells them.
    pub(super) size: Option<(usize, usize)>,
    skipped: BTreeMap<String, usize>,
    last: i32,
}

impl Drawing {
    /// No shapes yet, of an image of that size.
    pub(super) fn of_size(size: Option<(usize, usize)>) -> Self {
        Self { size, ..Self::default() }
    }

    /// An id for a new cell.
    pub(super) fn next_cell(&mut self) -> Kind {
        self.last = self.last.saturating_add(1);
        Kind::Cell(self.last)
    }

    /// Adds a shape. Coordinates that are not finite make it unusable.
    pub(super) fn add(&mut self, kind: Kind, region: Region) {
        let finite = |points: &[[f64; 2]]| points.iter().flatten().all(|value| value.is_finite());
        let usable = match &region {
            Region::Parts(parts) => parts.iter().flatten().all(|ring| finite(ring)),
            Region::Ellipse { center, radii } => finite(&[*center, *radii]) && radii.iter().all(|radius| *radius > 0.0),
            Region::Stroke { points, width } => finite(points) && width.is_finite(),
            Region::Columns(_) => true,
        };
        if usable {
            self.shapes.push((kind, region, self.place));
        } else {
            self.skip("shape with coordinates that are no numbers or no extent");
        }
    }

    /// What was drawn, in order.
    pub(super) fn shapes(&self) -> impl Iterator<Item = (Kind, &Region)> {
        self.shapes.iter().map(|(kind, region, _)| (*kind, region))
    }

    /// Notes something that is not used, in the singular.
    pub(super) fn skip(&mut self, what: impl Into<String>) {
        *self.skipped.entry(what.into()).or_insert(0) += 1;
    }

    /// Keeps the shapes of one plane and time point of a stack, and those that hold everywhere.
    ///
    /// # Errors
    /// [`Error::Labels`] when shapes were drawn on several and none was chosen.
    pub(super) fn choose(&mut self, plane: Option<usize>, frame: Option<usize>) -> Result<()> {
        self.keep("plane", "planes (Z)", plane, |place| place.plane)?;
        self.keep("frame", "time points (T)", frame, |place| place.frame)?;
        let slices = "slices of a stack";
        match (plane, frame) {
            (Some(_), Some(_)) => Ok(()),
            // The only axis of a stack is the one that is chosen on.
            (None, Some(_)) => self.keep("frame", slices, frame, |place| place.slice),
            (_, None) => self.keep("plane", slices, plane, |place| place.slice),
        }
    }

    fn keep(
        &mut self,
        option: &'static str,
        what: &str,
        wanted: Option<usize>,
        number: impl Fn(&Place) -> Option<usize>,
    ) -> Result<()> {
        let told: BTreeSet<usize> = self.shapes.iter().filter_map(|(_, _, place)| number(place)).collect();
        let Some(wanted) = wanted else {
            if told.len() < 2 {
                return Ok(());
            }
            let some: Vec<String> = told.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = if told.len() > SHOWN { ", ..." } else { "" };
            let reason =
                format!("its shapes were drawn on {} {what}, {}{more}; choose a {option}", told.len(), some.join(", "));
            let count = told.last().copied().unwrap_or_default();
            return Err(Error::Labels(reason).because(Reason::unchosen(option, count)));
        };
        let before = self.shapes.len();
        self.shapes.retain(|(_, _, place)| number(place).is_none_or(|number| number == wanted));
        for _ in self.shapes.len()..before {
            self.skip("shape on another plane or time point");
        }
        Ok(())
    }

    /// Whether nothing was drawn that can be used.
    pub(super) fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// What is not used, in half sentences.
    pub(super) fn skipped(&self) -> Vec<String> {
        self.skipped
            .iter()
            .map(|(what, count)| if *count == 1 { format!("1 {what}") } else { format!("{count} x {what}") })
            .collect()
    }

    /// The label image of `shape`, without it of the size that the file tells, without both the smallest that holds the
    /// shapes: -1 where nothing was drawn, 0 background, `>= 1` cells. Cells win over background and later cells over earlier
    /// ones; what lies outside the image is cut off.
    pub(super) fn draw(&mut self, shape: Option<(usize, usize)>) -> Result<LabelImage> {
        let most = if shape.is_some() { f64::from(u32::MAX) } else { PIXELS };
        let shape = match (shape, self.size) {
            (Some(shape), Some(size)) if shape != size => {
                return Err(Error::Labels(format!(
                    "the image has {} x {} pixels (rows x columns) and the annotations are for {} x {}; they must be the same",
                    shape.0, shape.1, size.0, size.1
                )));
            }
            (Some(shape), _) | (None, Some(shape)) => shape,
            (None, None) => self.extent()?,
        };
        if shape.0 as f64 * shape.1 as f64 > most {
            return Err(Error::Limit(format!("a label image of {} x {} pixels is too large", shape.0, shape.1)));
        }
        // A few bytes may ask for a large image.
        let bytes = bytes_of(&[shape.0, shape.1], size_of::<i32>() as u64);
        Budget::of_free_memory().require(
            bytes,
            format_args!("a label image of {} x {} pixels", shape.0, shape.1),
            "check the size that the file gives",
        )?;
        let mut values = reserve(shape.0 * shape.1, "a label image")?;
        values.resize(shape.0 * shape.1, -1);
        let mut labels = LabelImage::from_shape_vec(shape, values)
            .map_err(|error| Error::Internal(format!("a label image: {error}")))?;
        let (mut work, mut covered) = (0.0, 0);
        let most_covered = WORK.max(LAYERS * shape.0 as f64 * shape.1 as f64);
        let mut outside = 0;
        let background = self.shapes.iter().filter(|(kind, ..)| *kind == Kind::Background);
        let cells = self.shapes.iter().filter(|(kind, ..)| *kind != Kind::Background);
        for (kind, region, _) in background.chain(cells) {
            let label = if let Kind::Cell(id) = kind { *id } else { 0 };
            work += region.work(shape);
            if work > WORK {
                return Err(Error::Limit(format!(
                    "the shapes have too many long edges for an image of {} x {} pixels; simplify them",
                    shape.0, shape.1
                )));
            }
            if covered as f64 > most_covered {
                return Err(Error::Limit(format!(
                    "the shapes cover an image of {} x {} pixels more than {LAYERS} times; draw fewer that overlap",
                    shape.0, shape.1
                )));
            }
            let mut painted = 0;
            region.paint(shape, &mut |row, first, end| {
                painted += end - first;
                labels.slice_mut(ndarray::s![row, first..end]).fill(label);
            });
            outside += usize::from(painted == 0);
            covered += painted;
        }
        for _ in 0..outside {
            self.skip("shape outside of the image or without a pixel's centre");
        }
        Ok(labels)
    }

    /// Rows and columns of the smallest image that holds all shapes.
    fn extent(&self) -> Result<(usize, usize)> {
        let mut far = [1.0_f64; 2];
        for (_, region, _) in &self.shapes {
            let reach = region.reach();
            far = [far[0].max(reach[0].ceil()), far[1].max(reach[1].ceil())];
        }
        if far[0] * far[1] > PIXELS {
            return Err(Error::Limit(format!(
                "the shapes reach over {} x {} pixels; give the size of the image",
                far[1], far[0]
            )));
        }
        Ok((far[1] as usize, far[0] as usize))
    }
}

impl Region {
    /// A bound on the runs, pixels and crossings that painting takes.
    fn work(&self, (height, width): (usize, usize)) -> f64 {
        let (height, width) = (height as f64, width as f64);
        let rows = |a: f64, b: f64| (a.clamp(0.0, height) - b.clamp(0.0, height)).abs();
        match self {
            Region::Parts(parts) => parts
                .iter()
                .flatten()
                .flat_map(|ring| ring.windows(2))
                .map(|edge| 1.0 + rows(edge[0][1], edge[1][1]))
                .sum(),
            Region::Ellipse { center, radii } => rows(center[1] - radii[1], center[1] + radii[1]),
            Region::Stroke { points, width: stroke } => {
                let reach = 1.5 * stroke.clamp(1.0, WIDEST) + 3.0;
                let columns = |a: f64, b: f64| (a.clamp(0.0, width) - b.clamp(0.0, width)).abs();
                let segment = |edge: &[[f64; 2]]| {
                    let rows = rows(edge[0][1], edge[1][1]) + reach;
                    // A row sees the part of the segment beside it.
                    rows * reach + (columns(edge[0][0], edge[1][0]) + reach) * reach
                };
                points.windows(2).map(segment).sum()
            }
            Region::Columns(runs) => {
                runs.len() as f64 + runs.iter().map(|run| run[2].saturating_sub(run[1]) as f64).sum::<f64>()
            }
        }
    }

    /// The largest `x` and `y`.
    fn reach(&self) -> [f64; 2] {
        let far = |points: &mut dyn Iterator<Item = &[f64; 2]>| {
            points.fold([0.0_f64; 2], |far, point| [far[0].max(point[0]), far[1].max(point[1])])
        };
        match self {
            Region::Parts(parts) => far(&mut parts.iter().flatten().flatten()),
            Region::Ellipse { center, radii } => [center[0] + radii[0], center[1] + radii[1]],
            Region::Stroke { points, width } => {
                let [x, y] = far(&mut points.iter());
                [x + width / 2.0, y + width / 2.0]
            }
            Region::Columns(runs) => {
                let end = |at: usize| runs.iter().map(|run| run[at]).max().unwrap_or(0) as f64;
                [end(0) + 1.0, end(2)]
            }
        }
    }

    fn paint(&self, shape: (usize, usize), paint: &mut dyn FnMut(usize, usize, usize)) {
        let (height, width) = shape;
        match self {
            Region::Parts(parts) => {
                for rings in parts {
                    let rings: Vec<&[[f64; 2]]> = rings.iter().map(Vec::as_slice).collect();
                    fill_rings(&rings, shape, &mut *paint);
                }
            }
            Region::Ellipse { center, radii } => {
                for row in pixels(center[1] - radii[1], center[1] + radii[1], height) {
                    let y = (row as f64 + 0.5 - center[1]) / radii[1];
                    let half = radii[0] * (1.0 - y * y).max(0.0).sqrt();
                    let columns = pixels(center[0] - half, center[0] + half, width);
                    if !columns.is_empty() {
                        paint(row, columns.start, columns.end);
                    }
                }
            }
            Region::Stroke { points, width: stroke } => {
                let reach = stroke.clamp(1.0, WIDEST) / 2.0;
                for edge in points.windows(2) {
                    stroke_segment(edge[0], edge[1], reach, shape, paint);
                }
                // Where segments meet, so that bends have no gaps. The ends are cut straight.
                for joint in points.iter().skip(1).take(points.len().saturating_sub(2)) {
                    stroke_segment(*joint, *joint, reach, shape, paint);
                }
            }
            Region::Columns(runs) => {
                for &[column, first, end] in runs.iter().filter(|run| run[0] < width) {
                    (first..end.min(height)).for_each(|row| paint(row, column, column + 1));
                }
            }
        }
    }
}

/// The pixels of an axis whose centres lie from `low` to `high`.
fn pixels(low: f64, high: f64, size: usize) -> std::ops::Range<usize> {
    let first = (low - 0.5).ceil().max(0.0) as usize;
    let end = ((high - 0.5).floor() + 1.0).max(0.0) as usize;
    first..end.min(size).max(first)
}

fn stroke_segment(
    [x0, y0]: [f64; 2],
    [x1, y1]: [f64; 2],
    reach: f64,
    (height, width): (usize, usize),
    paint: &mut dyn FnMut(usize, usize, usize),
) {
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length = dx * dx + dy * dy;
    for row in pixels(y0.min(y1) - reach, y0.max(y1) + reach, height) {
        let y = row as f64 + 0.5;
        // Where the segment passes within reach of this row.
        let at = |y: f64| if dy == 0.0 { None } else { Some(((y - y0) / dy).clamp(0.0, 1.0)) };
        let (from, to) = match (at(y - reach), at(y + reach)) {
            (Some(from), Some(to)) => (x0 + from * dx, x0 + to * dx),
            _ => (x0, x1),
        };
        for column in pixels(from.min(to) - reach, from.max(to) + reach, width) {
            let x = column as f64 + 0.5;
            let t = if length > 0.0 { ((x - x0) * dx + (y - y0) * dy) / length } else { 0.0 };
            let (ex, ey) = (x - x0 - t * dx, y - y0 - t * dy);
            if (0.0..=1.0).contains(&t) && ex * ex + ey * ey <= reach * reach {
                paint(row, column, column + 1);
            }
        }
    }
}

/// A ring with its first point at the end; `None` for fewer than 3 points.
pub(super) fn closed(mut ring: Vec<[f64; 2]>) -> Option<Vec<[f64; 2]>> {
    if ring.first() != ring.last() || ring.len() == 1 {
        ring.extend(ring.first().copied());
    }
    (ring.len() >= 4).then_some(ring)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn square(x: f64, y: f64, side: f64) -> Region {
        let ring = vec![[x, y], [x + side, y], [x + side, y + side], [x, y + side]];
        Region::Parts(vec![vec![closed(ring).unwrap()]])
    }

    #[test]
    fn cells_win_over_background_and_the_rest_is_unlabelled() {
        let mut drawing = Drawing::default();
        let cell = drawing.next_cell();
        drawing.add(cell, square(1.0, 0.0, 2.0));
        drawing.add(Kind::Background, square(0.0, 1.0, 2.0));
        drawing.add(Kind::Background, square(50.0, 50.0, 2.0));
        assert_eq!(drawing.draw(Some((3, 4))).unwrap(), array![[-1, 1, 1, -1], [0, 1, 1, -1], [0, 0, -1, -1]]);
        assert_eq!(drawing.skipped().len(), 1);
        assert!(drawing.skipped()[0].starts_with("1 shape outside"));
        assert_eq!(drawing.draw(None).unwrap().dim(), (52, 52));
        drawing.size = Some((9, 9));
        assert!(drawing.draw(Some((3, 4))).unwrap_err().to_string().contains("9 x 9"));
    }

    #[test]
    fn strokes_and_ellipses_take_pixels_by_their_centres() {
        let mut drawing = Drawing::default();
        drawing.add(Kind::Background, Region::Stroke { points: vec![[0.5, 0.5], [4.5, 4.5]], width: 0.0 });
        let labels = drawing.draw(Some((5, 5))).unwrap();
        assert_eq!(labels, ndarray::Array2::from_shape_fn((5, 5), |(y, x)| if x == y { 0 } else { -1 }));
        let mut drawing = Drawing::default();
        drawing.add(Kind::Background, Region::Stroke { points: vec![[1.0, 2.5], [4.0, 2.5]], width: 3.0 });
        assert_eq!(drawing.draw(Some((5, 6))).unwrap().iter().filter(|label| **label == 0).count(), 3 * 3);
        let mut drawing = Drawing::default();
        let cell = drawing.next_cell();
        drawing.add(cell, Region::Ellipse { center: [2.0, 1.5], radii: [2.0, 1.5] });
        assert_eq!(drawing.draw(None).unwrap(), array![[-1, 1, 1, -1], [1, 1, 1, 1], [-1, 1, 1, -1]]);
    }

    #[test]
    fn work_and_sizes_are_bounded() {
        let mut drawing = Drawing::default();
        let zigzag = (0..100_000).map(|at| [f64::from(at), f64::from(at % 2) * 1e9]).collect();
        drawing.add(Kind::Background, Region::Parts(vec![vec![closed(zigzag).unwrap()]]));
        assert!(matches!(drawing.draw(Some((10_000, 4))), Err(Error::Limit(_))));
        assert!(matches!(drawing.draw(None), Err(Error::Limit(_))));
        let mut drawing = Drawing::of_size(Some((60_000, 60_000)));
        drawing.add(Kind::Background, square(0.0, 0.0, 1.0));
        assert!(matches!(drawing.draw(None), Err(Error::Limit(_))));
        for (layers, is_drawn) in [(40, true), (60, false)] {
            let mut drawing = Drawing::default();
            (0..layers).for_each(|_| drawing.add(Kind::Background, square(0.0, 0.0, 2100.0)));
            let drawn = drawing.draw(None);
            assert!(if is_drawn { drawn.is_ok() } else { matches!(drawn, Err(Error::Limit(_))) }, "{layers} layers");
        }
        let mut drawing = Drawing::default();
        drawing.add(Kind::Background, square(f64::NAN, 0.0, 1.0));
        assert!(drawing.is_empty() && drawing.skipped().len() == 1);
        drawing.add(Kind::Background, Region::Stroke { points: vec![[-1e300, 5.0], [1e300, 5.0]], width: 1e300 });
        assert!(drawing.draw(Some((100, 100))).is_ok());
    }
}
