//! What a user points at, and the tokens that the network reads it as.

use candle_core::Tensor;

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// Most points of one object.
const MAX_POINTS: usize = 1024;

/// A point in the image. Whole numbers are centres of pixels: `(0, 0)` is that of the first one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Column.
    pub x: f64,
    /// Row.
    pub y: f64,
    /// Whether it lies in the object or outside.
    pub inside: bool,
}

/// What is known about one object: points in it and beside it, a box around it, or both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    /// The points, in any order.
    pub points: Vec<Point>,
    /// Left, upper, right and lower edge: `[x0, y0, x1, y1]`, in the coordinates of the points.
    pub rectangle: Option<[f64; 4]>,
}

impl Prompt {
    /// One point in the object.
    pub fn point(x: f64, y: f64) -> Self {
        Self { points: vec![Point { x, y, inside: true }], rectangle: None }
    }

    /// A box around the object.
    pub fn rectangle(edges: [f64; 4]) -> Self {
        Self { points: Vec::new(), rectangle: Some(edges) }
    }

    /// Whether it may mean a part, a whole or several objects: a single point and no box.
    pub fn is_ambiguous(&self) -> bool {
        self.points.len() == 1 && self.rectangle.is_none()
    }

    /// Refuses what says nothing or lies outside an image of `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Limit`] for more than 1024 points.
    pub fn check(&self, size: [usize; 2]) -> Result<()> {
        self.check_named(size, 0.0)
    }

    /// As [`check`](Self::check), for somebody who counts from the corner of the image, half a pixel before the centre of the first
    /// one: an error names the places as they were given.
    ///
    /// # Errors
    /// As there.
    pub fn check_from_corner(&self, size: [usize; 2]) -> Result<()> {
        self.check_named(size, 0.5)
    }

    /// Names places by coordinates that are larger by `shift`.
    fn check_named(&self, [rows, columns]: [usize; 2], shift: f64) -> Result<()> {
        // A subtraction before may have changed the last digits.
        let named = |at: f64| if shift == 0.0 { at } else { ((at + shift) * 1e6).round() / 1e6 };
        if self.points.is_empty() && self.rectangle.is_none() {
            return Err(Error::Config(
                "a prompt has neither points nor a box; give at least one point or one box".into(),
            ));
        }
        if self.points.len() > MAX_POINTS {
            return Err(Error::Limit(format!(
                "{} points for one object; give at most {MAX_POINTS}",
                self.points.len()
            )));
        }
        let within = |x: f64, y: f64| (-0.5..=columns as f64).contains(&x) && (-0.5..=rows as f64).contains(&y);
        if let Some(point) = self.points.iter().find(|point| !within(point.x, point.y)) {
            return Err(Error::Config(format!(
                "the point x {}, y {} lies outside the image of {columns} x {rows} pixels; points are x (column) and y (row)",
                named(point.x),
                named(point.y)
            )));
        }
        match self.rectangle {
            Some([x0, y0, x1, y1]) if !(within(x0, y0) && within(x1, y1) && x0 < x1 && y0 < y1) => {
                let [x0, y0, x1, y1] = [x0, y0, x1, y1].map(named);
                Err(Error::Config(format!(
                    "the box [{x0}, {y0}, {x1}, {y1}] is none in an image of {columns} x {rows} pixels; a box is x0, y0, x1, y1 \
                     with x0 < x1 and y0 < y1"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Turns prompts into tokens.
#[derive(Debug)]
pub(super) struct PromptEncoder {
    /// `[2, width / 2]`: frequencies for columns and rows.
    frequencies: Vec<f32>,
    /// What a token is, `width` numbers each: a point outside and inside, the corners of a box.
    roles: [Vec<f32>; 4],
    /// The token of a place that stands for no point.
    no_point: Vec<f32>,
    /// Added to the embedding where there is no mask as a prompt: `[1, width]`.
    pub(super) no_mask: Tensor,
    /// Positions of the pixels of the embedding: `[side * side, width]`.
    pub(super) positions: Tensor,
    width: usize,
    /// Pixels along the image that the encoder sees.
    image: usize,
}

impl PromptEncoder {
    pub(super) fn new(file: &mut Checkpoint, width: usize, side: usize, image: usize) -> Result<Self> {
        if width == 0 || !width.is_multiple_of(8) {
            return Err(file.unfit(format!("an embedding of {width} channels, which cannot be shared among 8 heads")));
        }
        let name = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
        let frequencies = file.values(name, &[2, width / 2])?;
        let mut row = |name: &str| file.values(&format!("prompt_encoder.{name}.weight"), &[1, width]);
        let roles = [
            row("point_embeddings.0")?,
            row("point_embeddings.1")?,
            row("point_embeddings.2")?,
            row("point_embeddings.3")?,
        ];
        let (no_point, no_mask) = (row("not_a_point_embed")?, row("no_mask_embed")?);
        let mut positions = Vec::with_capacity(side * side * width);
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let along = |place: usize| (place as f32 + 0.5) / side as f32;
            position(&frequencies, [along(x), along(y)], &mut positions);
        }
        Ok(Self {
            frequencies,
            roles,
            no_point,
            no_mask: file.placed(no_mask, &[1, width])?,
            positions: file.placed(positions, &[side * side, width])?,
            width,
            image,
        })
    }

    /// The tokens of a prompt, `width` numbers each, and their number; `scale` is what coordinates `[x, y]` are multiplied by to
    /// be those of the image that the encoder sees.
    pub(super) fn tokens(&self, prompt: &Prompt, scale: [f64; 2]) -> (Vec<f32>, usize) {
        let mut tokens = Vec::new();
        let mut put = |x: f64, y: f64, role: usize| {
            let along = |value: f64, scale: f64| ((value * scale) as f32 + 0.5) / self.image as f32;
            let begin = tokens.len();
            position(&self.frequencies, [along(x, scale[0]), along(y, scale[1])], &mut tokens);
            tokens[begin..].iter_mut().zip(&self.roles[role]).for_each(|(value, role)| *value += role);
        };
        prompt.points.iter().for_each(|point| put(point.x, point.y, usize::from(point.inside)));
        match prompt.rectangle {
            Some([x0, y0, x1, y1]) => {
                put(x0, y0, 2);
                put(x1, y1, 3);
            }
            // The network has learned with one token that is no point where there is no box.
            None => tokens.extend(&self.no_point),
        }
        let count = tokens.len() / self.width;
        (tokens, count)
    }
}

/// Appends what tells a place, `[x, y]` from 0 to 1 across the image: sines and cosines of random frequencies (Tancik et al.
/// 2020).
fn position(frequencies: &[f32], [x, y]: [f32; 2], into: &mut Vec<f32>) {
    let (x, y) = (2.0 * x - 1.0, 2.0 * y - 1.0);
    let (across, down) = frequencies.split_at(frequencies.len() / 2);
    let phase = |(across, down): (&f32, &f32)| 2.0 * std::f32::consts::PI * (x * across + y * down);
    into.extend(across.iter().zip(down).map(phase).map(f32::sin));
    into.extend(across.iter().zip(down).map(phase).map(f32::cos));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_outside_the_image_are_refused_by_what_is_wrong() {
        let size = [20, 40];
        let outside = |x, y| Prompt { points: vec![Point { x, y, inside: false }], rectangle: None };
        assert!(
            Prompt::point(39.5, 19.5).check(size).is_ok()
                && Prompt::rectangle([0.0, 0.0, 40.0, 20.0]).check(size).is_ok()
        );
        for (prompt, word) in [
            (Prompt::default(), "neither"),
            (outside(5.0, 30.0), "40 x 20"),
            (outside(f64::NAN, 3.0), "NaN"),
            (Prompt::rectangle([5.0, 5.0, 5.0, 9.0]), "x0 < x1"),
            (Prompt::rectangle([5.0, 5.0, 9.0, f64::INFINITY]), "inf"),
        ] {
            let message = prompt.check(size).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        for (prompt, [centre, corner]) in [
            (outside(40.5, 3.0), ["the point x 40.5, y 3 ", "the point x 41, y 3.5 "]),
            (outside(41.3 - 0.5, 1.1 - 0.5), ["x 40.8", "the point x 41.3, y 1.1 "]),
            (Prompt::rectangle([7.0, 5.0, 5.0, 9.0]), ["[7, 5, 5, 9]", "[7.5, 5.5, 5.5, 9.5]"]),
        ] {
            let [by_centre, by_corner] = [prompt.check(size), prompt.check_from_corner(size)];
            let [by_centre, by_corner] = [by_centre, by_corner].map(|error| error.unwrap_err().to_string());
            assert!(by_centre.contains(centre) && by_corner.contains(corner), "{by_centre}; {by_corner}");
        }
        let many = Prompt { points: vec![Point { x: 1.0, y: 1.0, inside: true }; MAX_POINTS + 1], rectangle: None };
        assert!(matches!(many.check(size), Err(Error::Limit(_))));
    }
}
