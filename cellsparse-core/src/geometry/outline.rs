//! The outlines of labelled pixels: exact, along the pixel edges, and literal, by the contour rule of cellsparse-api.
//!
//! Both follow the same boundary walk. It goes along the edges between a pixel of the object and one that is not, the
//! object on the right-hand side as seen on a screen (y down), and separates pixels that touch only at a corner. The
//! whole image takes one pass: time grows with the pixels and the boundary, not with pixels times labels.

use std::collections::{BTreeMap, HashMap};

use crate::budget::zeros;
use crate::control::CancelToken;
use crate::error::Result;
use crate::raster::{Components, LabelImage, connected_components_until};

/// The exact outline of one object.
///
/// Coordinates are `[x, y]` of pixel **corners**: pixel (row r, column c) covers `[c, c + 1] x [r, r + 1]`. Rasterised
/// at pixel centres the outline gives back exactly the object's pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactOutline {
    /// The object's label.
    pub id: i32,
    /// Its 4-connected parts in raster order; more than one for an object in several pieces, pieces that touch only
    /// at a corner included.
    pub parts: Vec<Part>,
}

/// One connected piece of an outline: a valid polygon of closed rings (first point = last point), without collinear
/// points. Rings touch each other in single points at most.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The outer ring, of positive shoelace area on the `(x, y)` numbers (counter-clockwise in the sense of RFC 7946).
    pub exterior: Vec<[f64; 2]>,
    /// The rings of the holes, of negative shoelace area.
    pub holes: Vec<Vec<[f64; 2]>>,
}

/// The outline of one object by the contour rule of cellsparse-api.
#[derive(Debug, Clone, PartialEq)]
pub struct LiteralOutline {
    /// The object's label.
    pub id: i32,
    /// One closed ring of `[x, y]` with pixel **centres** at integers, so that a boundary lies at +-0.5.
    pub ring: Vec<[f64; 2]>,
}

/// Outlines after which it is asked whether to stop.
const PATIENCE: usize = 256;

/// The exact outlines of all positive labels, in increasing id.
///
/// # Errors
/// [`Error::Limit`](crate::error::Error::Limit) for more than 2^32 - 2 pixels.
pub fn exact_outlines(labels: &LabelImage) -> Result<Vec<ExactOutline>> {
    exact_outlines_until(labels, &CancelToken::new())
}

/// [`exact_outlines`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`](crate::error::Error::Cancelled).
pub fn exact_outlines_until(labels: &LabelImage, cancel: &CancelToken) -> Result<Vec<ExactOutline>> {
    let components = connected_components_until(labels, |label| label > 0, cancel)?;
    let mut parts: Vec<Part> =
        components.parts.iter().map(|_| Part { exterior: Vec::new(), holes: Vec::new() }).collect();
    for (number, walk) in Walks::new(&components)?.enumerate() {
        if number % PATIENCE == 0 {
            cancel.check()?;
        }
        let part = &mut parts[walk.part];
        for ring in split_at_touching_corners(walk.corners(), walk.touches_itself) {
            if shoelace(&ring) > 0.0 {
                part.exterior = ring;
            } else {
                part.holes.push(ring);
            }
        }
    }
    let mut outlines: BTreeMap<i32, ExactOutline> = BTreeMap::new();
    for (component, part) in components.parts.iter().zip(parts) {
        let id = component.label;
        outlines.entry(id).or_insert_with(|| ExactOutline { id, parts: Vec::new() }).parts.push(part);
    }
    Ok(outlines.into_values().collect())
}

/// The outlines of all positive labels by the rule of cellsparse-api, in increasing id.
///
/// Marching squares at level 0.5 on the label's mask; of several contours the one with the most points, the first of
/// equals in raster order of their first squares. So holes and all parts but one are lost, and the ring may even be
/// that of a hole. The start point is the reference's.
///
/// # Errors
/// [`Error::Limit`](crate::error::Error::Limit) for more than 2^32 - 2 pixels.
pub fn literal_outlines(labels: &LabelImage) -> Result<Vec<LiteralOutline>> {
    literal_outlines_until(labels, &CancelToken::new())
}

/// [`literal_outlines`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`](crate::error::Error::Cancelled).
pub fn literal_outlines_until(labels: &LabelImage, cancel: &CancelToken) -> Result<Vec<LiteralOutline>> {
    let components = connected_components_until(labels, |label| label > 0, cancel)?;
    let mut longest: BTreeMap<i32, Walk> = BTreeMap::new();
    for (number, walk) in Walks::new(&components)?.enumerate() {
        if number % PATIENCE == 0 {
            cancel.check()?;
        }
        let id = components.parts[walk.part].label;
        match longest.get(&id) {
            Some(best) if (best.steps.len(), walk.first_square()) >= (walk.steps.len(), best.first_square()) => {}
            _ => {
                longest.insert(id, walk);
            }
        }
    }
    Ok(longest.into_iter().map(|(id, walk)| LiteralOutline { id, ring: walk.edge_midpoints() }).collect())
}

/// Twice the signed area of a closed ring: positive when it turns from +x towards +y.
fn shoelace(ring: &[[f64; 2]]) -> f64 {
    ring.windows(2).map(|edge| edge[0][0] * edge[1][1] - edge[1][0] * edge[0][1]).sum()
}

/// The side of a pixel that is walked along, and the direction: top to the right, right side downwards, bottom to the
/// left, left side upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Top,
    Right,
    Bottom,
    Left,
}

impl Side {
    /// Row and column step of the direction of travel.
    fn forward(self) -> (isize, isize) {
        match self {
            Side::Top => (0, 1),
            Side::Right => (1, 0),
            Side::Bottom => (0, -1),
            Side::Left => (-1, 0),
        }
    }

    fn turned_right(self) -> Self {
        match self {
            Side::Top => Side::Right,
            Side::Right => Side::Bottom,
            Side::Bottom => Side::Left,
            Side::Left => Side::Top,
        }
    }

    fn turned_left(self) -> Self {
        self.turned_right().turned_right().turned_right()
    }
}

/// One pixel edge of a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    y: usize,
    x: usize,
    side: Side,
}

impl Step {
    /// The pixel corner where the edge begins, `(y, x)`.
    fn corner(self) -> (usize, usize) {
        match self.side {
            Side::Top => (self.y, self.x),
            Side::Right => (self.y, self.x + 1),
            Side::Bottom => (self.y + 1, self.x + 1),
            Side::Left => (self.y + 1, self.x),
        }
    }

    /// The middle of the edge, `[x, y]` with pixel centres at integers.
    fn midpoint(self) -> [f64; 2] {
        let (y, x) = (self.y as f64, self.x as f64);
        match self.side {
            Side::Top => [x, y - 0.5],
            Side::Right => [x + 0.5, y],
            Side::Bottom => [x, y + 0.5],
            Side::Left => [x - 0.5, y],
        }
    }
}

/// One closed boundary: steps in order, the last leads back to the first.
#[derive(Debug, Clone)]
struct Walk {
    part: usize,
    steps: Vec<Step>,
    /// Whether some corner may be passed twice.
    touches_itself: bool,
}

/// Order in which marching squares meets the segments: the square's row and column (a square is centred on a pixel
/// corner), then the upper before the lower pixel of a diagonal pair.
type SquareOrder = (usize, usize, u8);

impl Walk {
    fn square(&self, at: usize) -> SquareOrder {
        let step = self.steps[at];
        let before = self.steps[(at + self.steps.len() - 1) % self.steps.len()];
        let (y, x) = step.corner();
        // Only right turns can share a square with another segment; these two round the lower pixel.
        let lower = matches!((before.side, step.side), (Side::Top, Side::Right) | (Side::Left, Side::Top));
        (y, x, u8::from(lower))
    }

    fn first_square(&self) -> SquareOrder {
        (0..self.steps.len()).map(|at| self.square(at)).min().unwrap_or_default()
    }

    /// The marching-squares ring. Joining segments in raster order makes a contour begin where its last segment ends.
    fn edge_midpoints(&self) -> Vec<[f64; 2]> {
        let n = self.steps.len();
        let start = (0..n).max_by_key(|&at| self.square(at)).unwrap_or(0);
        (0..=n).map(|offset| self.steps[(start + offset) % n].midpoint()).collect()
    }

    /// The corners where the direction changes, `(y, x)`, not closed.
    fn corners(&self) -> Vec<(usize, usize)> {
        let n = self.steps.len();
        (0..n)
            .filter(|&at| self.steps[(at + n - 1) % n].side != self.steps[at].side)
            .map(|at| self.steps[at].corner())
            .collect()
    }
}

/// All boundaries of an image, by the raster order of their first top edges.
struct Walks<'a> {
    map: &'a [u32],
    height: usize,
    width: usize,
    top_walked: Vec<bool>,
    next_pixel: usize,
}

impl<'a> Walks<'a> {
    fn new(components: &'a Components) -> Result<Self> {
        let (height, width) = components.map.dim();
        // The map is made in standard layout, so the slice is always there.
        let map = components.map.as_slice().unwrap_or(&[]);
        let top_walked = zeros(map.len(), "the outlines of a label image")?;
        Ok(Self { map, height, width, top_walked, next_pixel: 0 })
    }

    fn part_at(&self, y: usize, x: usize, dy: isize, dx: isize) -> u32 {
        match (y.checked_add_signed(dy), x.checked_add_signed(dx)) {
            (Some(y), Some(x)) if y < self.height && x < self.width => self.map[y * self.width + x],
            _ => 0,
        }
    }

    fn follow(&mut self, start: Step, part: u32) -> Walk {
        let mut steps = Vec::new();
        let mut touches_itself = false;
        let mut step = start;
        loop {
            if step.side == Side::Top {
                self.top_walked[step.y * self.width + step.x] = true;
            }
            steps.push(step);
            let (ahead_y, ahead_x) = step.side.forward();
            let (left_y, left_x) = step.side.turned_left().forward();
            let ahead = self.part_at(step.y, step.x, ahead_y, ahead_x) == part;
            let diagonal = self.part_at(step.y, step.x, ahead_y + left_y, ahead_x + left_x) == part;
            // Inside the image by construction: only a pixel of the part is stepped to.
            let moved = |dy: isize, dx: isize, side| Step {
                y: step.y.wrapping_add_signed(dy),
                x: step.x.wrapping_add_signed(dx),
                side,
            };
            step = match (ahead, diagonal) {
                (true, true) => moved(ahead_y + left_y, ahead_x + left_x, step.side.turned_left()),
                (true, false) => moved(ahead_y, ahead_x, step.side),
                (false, diagonal) => {
                    touches_itself |= diagonal;
                    moved(0, 0, step.side.turned_right())
                }
            };
            if step == start {
                return Walk { part: part as usize - 1, steps, touches_itself };
            }
        }
    }
}

impl Iterator for Walks<'_> {
    type Item = Walk;

    fn next(&mut self) -> Option<Walk> {
        while self.next_pixel < self.map.len() {
            let at = self.next_pixel;
            self.next_pixel += 1;
            let (part, y, x) = (self.map[at], at / self.width, at % self.width);
            if part != 0 && !self.top_walked[at] && self.part_at(y, x, -1, 0) != part {
                return Some(self.follow(Step { y, x, side: Side::Top }, part));
            }
        }
        None
    }
}

/// Closed rings `[x, y]` from one boundary. A boundary that passes a corner twice (the object touches itself there) is
/// cut into rings that are simple: an outer ring and holes, or holes alone.
fn split_at_touching_corners(corners: Vec<(usize, usize)>, touches_itself: bool) -> Vec<Vec<[f64; 2]>> {
    let close = |corners: &[(usize, usize)]| -> Vec<[f64; 2]> {
        corners.iter().chain(corners.first()).map(|&(y, x)| [x as f64, y as f64]).collect()
    };
    if !touches_itself {
        return vec![close(&corners)];
    }
    let mut rings = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut place: HashMap<(usize, usize), usize> = HashMap::new();
    for corner in corners {
        if let Some(&from) = place.get(&corner) {
            rings.push(close(&open[from..]));
            for closed in open.drain(from + 1..) {
                place.remove(&closed);
            }
        } else {
            place.insert(corner, open.len());
            open.push(corner);
        }
    }
    rings.push(close(&open));
    rings
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    use super::*;
    use crate::geometry::rasterize_outlines;

    fn only(labels: &LabelImage) -> ExactOutline {
        let outlines = exact_outlines(labels).unwrap();
        assert_eq!(outlines.len(), 1);
        outlines.into_iter().next().unwrap()
    }

    #[test]
    fn a_box_has_four_corners() {
        let outline = only(&array![[0, 0, 0, 0], [0, 5, 5, 0], [0, 5, 5, 0]]);
        assert_eq!(outline.id, 5);
        assert_eq!(outline.parts[0].exterior, [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0], [1.0, 1.0]]);
    }

    #[test]
    fn holes_turn_the_other_way_and_parts_stay() {
        let outline = only(&array![[1, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0]]);
        assert_eq!(outline.parts.len(), 2);
        assert_eq!(shoelace(&outline.parts[0].exterior), 18.0);
        assert_eq!(outline.parts[0].holes.len(), 1);
        assert_eq!(shoelace(&outline.parts[0].holes[0]), -2.0);
    }

    #[test]
    fn touching_corners_give_simple_rings() {
        let diagonal = only(&array![[1, 0], [0, 1]]);
        assert_eq!(diagonal.parts.len(), 2, "two squares, not a bow tie");
        let self_touching = only(&array![[1, 1, 1], [1, 0, 1], [1, 1, 0]]);
        assert_eq!(self_touching.parts.len(), 1);
        assert_eq!(self_touching.parts[0].holes.len(), 1, "the closed gap becomes a hole");
        let holes = only(&array![[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]);
        assert_eq!(holes.parts[0].holes.len(), 2, "two holes, not one with a pinch");
        for part in [diagonal, self_touching, holes].iter().flat_map(|outline| &outline.parts) {
            for ring in part.holes.iter().chain([&part.exterior]) {
                assert_simple(ring);
            }
        }
    }

    fn assert_simple(ring: &[[f64; 2]]) {
        assert!(ring.len() >= 5 && ring.first() == ring.last(), "{ring:?}");
        for (at, point) in ring[1..].iter().enumerate() {
            assert!(!ring[at + 2..].contains(point), "{point:?} twice in {ring:?}");
        }
        for corner in ring.windows(3) {
            let straight = (corner[0][0] == corner[2][0]) || (corner[0][1] == corner[2][1]);
            assert!(!straight, "collinear in {ring:?}");
        }
    }

    #[test]
    fn a_single_pixel_is_a_diamond_for_the_seed() {
        let outlines = literal_outlines(&array![[0, 0], [0, 3]]).unwrap();
        let expected = [[1.0, 1.5], [0.5, 1.0], [1.0, 0.5], [1.5, 1.0], [1.0, 1.5]];
        assert_eq!(outlines, [LiteralOutline { id: 3, ring: expected.to_vec() }]);
    }

    #[test]
    fn empty_images_have_no_outlines() {
        for labels in [Array2::zeros((0, 0)), Array2::zeros((3, 3)), Array2::from_elem((2, 2), -1)] {
            assert!(exact_outlines(&labels).unwrap().is_empty());
            assert!(literal_outlines(&labels).unwrap().is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn exact_outlines_rasterise_back(
            (height, width, values) in (1usize..14, 1usize..14).prop_flat_map(|(h, w)| {
                (Just(h), Just(w), proptest::collection::vec(0i32..4, h * w))
            })
        ) {
            let labels = Array2::from_shape_vec((height, width), values).unwrap();
            let outlines = exact_outlines(&labels).unwrap();
            for part in outlines.iter().flat_map(|outline| &outline.parts) {
                prop_assert!(shoelace(&part.exterior) > 0.0);
                for ring in part.holes.iter().chain([&part.exterior]) {
                    assert_simple(ring);
                }
            }
            prop_assert_eq!(rasterize_outlines(&outlines, (height, width)).unwrap(), labels);
        }
    }
}
