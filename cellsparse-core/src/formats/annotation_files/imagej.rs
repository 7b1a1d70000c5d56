//! ImageJ's regions of interest: single `.roi` files and the archives of the ROI manager.
//!
//! Areas have pixel corners at integers, as in ImageJ. Areas are cells, unless their name begins as that of the background
//! does; lines are background strokes as wide as they were drawn, whatever their name, since a line encloses no cell. Lines have
//! pixel centres at integers. Source of the layout: `ij.io.RoiDecoder` of ImageJ 1.54.

use super::Classes;
use super::drawing::{Drawing, Kind, Place, Region, closed};
use super::spline::smooth;

const HEADER: usize = 64;

/// Option bits of the header: a smooth curve through the points; coordinates with fractions.
const SPLINE: u16 = 1;
const SUB_PIXEL: u16 = 128;

/// From the corner of a pixel, from which areas count, to its centre, from which lines do.
const CENTER: f64 = 0.5;

/// Whether the bytes begin as a region does.
pub(super) fn is_roi(bytes: &[u8]) -> bool {
    bytes.starts_with(b"Iout")
}

/// Adds one region, named as in the file or else as `name`.
pub(super) fn add(drawing: &mut Drawing, bytes: &[u8], name: &str, classes: &Classes) -> Result<(), String> {
    let roi = Roi::new(bytes).ok_or("it is cut off")?;
    let name = roi.name().unwrap_or_else(|| name.to_string());
    let is_background = classes.is_background_name(&name);
    drawing.place = roi.place();
    let region = match roi.shape().ok_or("its coordinates are cut off")? {
        Shape::Area(region) => region,
        Shape::Line(points) if points.len() >= 2 => {
            drawing.add(Kind::Background, Region::Stroke { points, width: roi.stroke_width() });
            return Ok(());
        }
        Shape::Line(_) | Shape::Empty => {
            drawing.skip("region without an extent");
            return Ok(());
        }
        Shape::Other(what) => {
            drawing.skip(what);
            return Ok(());
        }
    };
    if is_background {
        drawing.add(Kind::Background, region);
    } else if classes.foreground.as_deref().is_none_or(|wanted| begins_as(&name, wanted)) {
        let cell = drawing.next_cell();
        drawing.add(cell, region);
    } else {
        drawing.skip("region of another name than the cells have");
    }
    Ok(())
}

/// Whether a name begins with a word, whatever the case, and does not go on with a letter.
pub(super) fn begins_as(name: &str, word: &str) -> bool {
    let name = name.to_lowercase();
    name.strip_prefix(&word.to_lowercase()).is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
}

enum Shape {
    Area(Region),
    Line(Vec<[f64; 2]>),
    Empty,
    Other(&'static str),
}

struct Roi<'a> {
    bytes: &'a [u8],
}

impl<'a> Roi<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        (is_roi(bytes) && bytes.len() >= HEADER).then_some(Self { bytes })
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
    }

    fn i16(&self, at: usize) -> Option<f64> {
        self.u16(at).map(|value| f64::from(value as i16))
    }

    fn u32(&self, at: usize) -> Option<usize> {
        Some(u32::from_be_bytes(self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
    }

    fn f32(&self, at: usize) -> Option<f64> {
        Some(f64::from(f32::from_be_bytes(self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?)))
    }

    /// The name from the second header.
    fn name(&self) -> Option<String> {
        let second = self.u32(60).filter(|at| *at >= HEADER)?;
        let (start, length) = (self.u32(second.checked_add(16)?)?, self.u32(second.checked_add(20)?)?);
        let bytes = self.bytes.get(start..start.checked_add(length.checked_mul(2)?)?)?;
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
        (length > 0).then(|| String::from_utf16_lossy(&units))
    }

    /// A number of the second header.
    fn second(&self, offset: usize) -> Option<usize> {
        self.u32(60).filter(|at| *at >= HEADER)?.checked_add(offset)
    }

    /// The plane and the time point of a hyperstack; of a stack of one axis, the slice.
    fn place(&self) -> Place {
        let number =
            |at: Option<usize>| at.and_then(|at| self.u32(at)).filter(|number| (1..=MOST_SLICES).contains(number));
        let (plane, frame) = (number(self.second(8)), number(self.second(12)));
        let slice = number(Some(56)).filter(|_| plane.is_none() && frame.is_none());
        Place { plane, frame, slice }
    }

    fn stroke_width(&self) -> f64 {
        let precise = || self.second(36).and_then(|at| self.f32(at));
        let width = precise().filter(|width| *width > 0.0).or_else(|| self.i16(34)).unwrap_or(1.0);
        if width.is_finite() { width.max(1.0) } else { 1.0 }
    }

    fn shape(&self) -> Option<Shape> {
        let kind = *self.bytes.get(6)?;
        let sub_pixel = self.u16(50)? & SUB_PIXEL != 0 && self.u16(4)? >= 222;
        let [top, left, bottom, right] = [self.i16(8)?, self.i16(10)?, self.i16(12)?, self.i16(14)?];
        let composite = self.u32(36)?;
        if composite > 0 {
            return self.composite(composite);
        }
        if matches!((kind, self.u16(48)?), (1, 1 | 4)) {
            return Some(Shape::Other("text or picture"));
        }
        let is_spline = self.u16(50)? & SPLINE != 0;
        let through = |points: Vec<[f64; 2]>, closed| if is_spline { smooth(&points, closed) } else { points };
        let [x, y, width, height] = if sub_pixel && matches!(kind, 1 | 2) {
            [self.f32(18)?, self.f32(22)?, self.f32(26)?, self.f32(30)?]
        } else {
            [left, top, right - left, bottom - top]
        };
        Some(match kind {
            1 | 2 if width <= 0.0 || height <= 0.0 => Shape::Empty,
            1 => area(vec![rectangle([x, y], [width, height], self.i16(54)?)]),
            2 => Shape::Area(Region::Ellipse {
                center: [x + width / 2.0, y + height / 2.0],
                radii: [width / 2.0, height / 2.0],
            }),
            0 | 7 | 8 => area(vec![through(self.points(sub_pixel)?, true)]),
            3 => Shape::Line(centered(vec![[self.f32(18)?, self.f32(22)?], [self.f32(26)?, self.f32(30)?]])),
            4 | 5 => Shape::Line(centered(through(self.points(sub_pixel)?, false))),
            9 => Shape::Other("angle"),
            10 => Shape::Other("point, which tells no pixels"),
            _ => Shape::Other("region of an unknown type"),
        })
    }

    /// The points of a polygon; whole coordinates count from the upper left corner of its bounds.
    fn points(&self, sub_pixel: bool) -> Option<Vec<[f64; 2]>> {
        let count = match usize::from(self.u16(16)?) {
            // More than 65,535 points are counted elsewhere.
            0 => self.u32(18)?,
            count => count,
        };
        if count > self.bytes.len() / 4 {
            return None;
        }
        let (left, top) = (self.i16(10)?, self.i16(8)?);
        let whole = HEADER + 4 * count;
        let point = |at: usize| {
            if sub_pixel {
                Some([self.f32(whole + 4 * at)?, self.f32(whole + 4 * (count + at))?])
            } else {
                let value = |at: usize| self.i16(HEADER + 2 * at).map(|value| value.max(0.0));
                Some([left + value(at)?, top + value(count + at)?])
            }
        };
        (0..count).map(point).collect()
    }

    /// Rings out of the segments of a path, curves as their chords at eighths.
    fn composite(&self, count: usize) -> Option<Shape> {
        if count > self.bytes.len() / 4 {
            return None;
        }
        let mut at = 0;
        let mut next = || {
            let value = (at < count).then(|| self.f32(HEADER + 4 * at)).flatten();
            at += 1;
            value
        };
        let mut rings: Vec<Vec<[f64; 2]>> = Vec::new();
        while let Some(segment) = next() {
            let last = rings.last().and_then(|ring| ring.last()).copied();
            let mut point = || Some([next()?, next()?]);
            match (segment as i64, last) {
                (0, _) => rings.push(vec![point()?]),
                (1, Some(_)) => {
                    let point = point()?;
                    rings.last_mut()?.push(point);
                }
                (2, Some(from)) => {
                    let (control, to) = (point()?, point()?);
                    let thirds = [lerp(from, control, 2.0 / 3.0), lerp(to, control, 2.0 / 3.0)];
                    rings.last_mut()?.extend(curve(from, thirds, to));
                }
                (3, Some(from)) => {
                    let (first, second, to) = (point()?, point()?, point()?);
                    rings.last_mut()?.extend(curve(from, [first, second], to));
                }
                (4, _) => {}
                _ => return None,
            }
        }
        Some(area(rings))
    }
}

fn area(rings: Vec<Vec<[f64; 2]>>) -> Shape {
    let rings: Vec<_> = rings.into_iter().filter_map(closed).collect();
    if rings.is_empty() { Shape::Empty } else { Shape::Area(Region::Parts(vec![rings])) }
}

/// Points of a line, whose integers are the centres of pixels.
fn centered(points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    points.into_iter().map(|[x, y]| [x + CENTER, y + CENTER]).collect()
}

/// The outline of a rectangle whose corners are quarters of an ellipse, each at most half the sides wide and high.
fn rectangle([x, y]: [f64; 2], [width, height]: [f64; 2], corner: f64) -> Vec<[f64; 2]> {
    let radii = [(corner / 2.0).min(width / 2.0), (corner / 2.0).min(height / 2.0)];
    let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
    if corner <= 0.0 {
        return corners.map(|[right, low]| [x + right * width, y + low * height]).to_vec();
    }
    let arc = |(quarter, [right, low]): (usize, [f64; 2])| {
        let center = [x + radii[0] + right * (width - 2.0 * radii[0]), y + radii[1] + low * (height - 2.0 * radii[1])];
        (0..=ARC_STEPS).map(move |step| {
            // From the left end of the first corner on, clockwise as rows go down.
            let quarters = 2.0 + quarter as f64 + f64::from(step) / f64::from(ARC_STEPS);
            let (sin, cos) = (quarters * std::f64::consts::FRAC_PI_2).sin_cos();
            [center[0] + radii[0] * cos, center[1] + radii[1] * sin]
        })
    };
    corners.into_iter().enumerate().flat_map(arc).collect()
}

/// Edges of a rounded corner.
const ARC_STEPS: u32 = 16;

/// Largest number of a slice that is believed.
const MOST_SLICES: usize = 1 << 24;

fn lerp(a: [f64; 2], b: [f64; 2], t: f64) -> [f64; 2] {
    [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]
}

/// Points of a cubic curve after its first.
fn curve(from: [f64; 2], [first, second]: [[f64; 2]; 2], to: [f64; 2]) -> impl Iterator<Item = [f64; 2]> {
    (1..=8).map(move |step| {
        let t = f64::from(step) / 8.0;
        let (a, b, c) = (lerp(from, first, t), lerp(first, second, t), lerp(second, to, t));
        lerp(lerp(a, b, t), lerp(b, c, t), t)
    })
}
