//! Pictures for people: stretched contrast, enlarged, with outlines in colours that have a meaning.

use std::collections::BTreeMap;

use cellsparse_core::{Image, LabelImage};
use ndarray::Array3;

/// A colour, red green blue.
pub type Colour = [u8; 3];

/// Objects found that are in the truth.
pub const RIGHT: Colour = [74, 222, 128];
/// Objects found that are not in the truth.
pub const WRONG: Colour = [248, 113, 113];
/// Objects of the truth that were not found.
pub const MISSED: Colour = [250, 204, 21];
/// Objects found when there is no truth.
pub const FOUND: Colour = [56, 189, 248];

/// Pictures are enlarged until their longer side has about this many pixels.
const SIDE: usize = 768;
/// The eye sees dim nuclei better with this exponent.
const GAMMA: f32 = 0.75;

/// A picture `[H, W, 3]` of an image, enlarged by a whole number.
pub struct Picture {
    pixels: Array3<u8>,
    scale: usize,
}

impl Picture {
    /// Grey or colour by the number of channels; the darkest and brightest pixels are stretched to black and white.
    pub fn new(image: &Image) -> Self {
        let samples = image.to_f32();
        let (height, width, channels) = samples.dim();
        let scale = (SIDE / height.max(width).max(1)).clamp(1, 6);
        let (low, high) = range(samples.iter().copied());
        let stretch = |value: f32| ((value - low) / (high - low).max(1e-6)).clamp(0.0, 1.0).powf(GAMMA) * 255.0;
        let sample = |y: usize, x: usize, c: usize| {
            let c = if channels >= 3 { c } else { 0 };
            samples.get([y, x, c]).map_or(0.0, |value| stretch(*value))
        };
        let pixels = Array3::from_shape_fn((height * scale, width * scale, 3), |(y, x, c)| {
            let (y0, fy) = between(y, scale, height);
            let (x0, fx) = between(x, scale, width);
            let (y1, x1) = ((y0 + 1).min(height - 1), (x0 + 1).min(width - 1));
            let upper = sample(y0, x0, c) * (1.0 - fx) + sample(y0, x1, c) * fx;
            let lower = sample(y1, x0, c) * (1.0 - fx) + sample(y1, x1, c) * fx;
            (upper * (1.0 - fy) + lower * fy).round() as u8
        });
        Self { pixels, scale }
    }

    /// Draws the inner outline of every label that has a colour.
    pub fn outline(mut self, labels: &LabelImage, colour: impl Fn(i32) -> Option<Colour>) -> Self {
        let (height, width, _) = self.pixels.dim();
        let colours: BTreeMap<i32, Option<Colour>> = labels.iter().map(|&label| (label, colour(label))).collect();
        let thickness = if self.scale >= 3 { 2 } else { 1 };
        let label = |y: usize, x: usize| labels.get([y / self.scale, x / self.scale]).copied().unwrap_or(0);
        for y in 0..height {
            for x in 0..width {
                let own = label(y, x);
                let Some(Some(colour)) = colours.get(&own).filter(|_| own > 0) else { continue };
                let edge = [
                    (y.saturating_sub(thickness), x),
                    ((y + thickness).min(height - 1), x),
                    (y, x.saturating_sub(thickness)),
                    (y, (x + thickness).min(width - 1)),
                ];
                if edge.into_iter().any(|(y, x)| label(y, x) != own) {
                    for (c, value) in colour.iter().enumerate() {
                        self.pixels[[y, x, c]] = *value;
                    }
                }
            }
        }
        self
    }

    /// The pixels `[H, W, 3]`.
    pub fn into_pixels(self) -> Array3<u8> {
        self.pixels
    }
}

/// The source row (or column) above a pixel of the enlarged picture, and how far towards the next one it lies.
fn between(position: usize, scale: usize, size: usize) -> (usize, f32) {
    let centre = ((position as f32 + 0.5) / scale as f32 - 0.5).clamp(0.0, (size - 1) as f32);
    let first = (centre as usize).min(size - 1);
    (first, centre - first as f32)
}

/// The values between which the contrast is stretched: the 1st and the 99.8th percentile.
fn range(samples: impl Iterator<Item = f32>) -> (f32, f32) {
    let mut values: Vec<f32> = samples.filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let last = values.len() - 1;
    let mut percentile = |per_mille: usize| *values.select_nth_unstable_by(last * per_mille / 1000, f32::total_cmp).1;
    (percentile(10), percentile(998))
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn ramp() -> Image {
        Image::from_gray(Array2::from_shape_fn((20, 30), |(y, x)| (y + x) as f32))
    }

    #[test]
    fn pictures_are_enlarged_and_stretched() {
        let pixels = Picture::new(&ramp()).into_pixels();
        assert_eq!(pixels.dim(), (120, 180, 3));
        assert_eq!((pixels[[0, 0, 0]], pixels[[119, 179, 2]]), (0, 255));
        let flat = Picture::new(&Image::from_gray(Array2::from_elem((1, 1), 4.0))).into_pixels();
        assert_eq!(flat.dim(), (6, 6, 3));
    }

    #[test]
    fn outlines_stay_inside_their_object() {
        let mut labels = LabelImage::zeros((20, 30));
        labels.slice_mut(ndarray::s![5..10, 5..12]).fill(4);
        let plain = Picture::new(&ramp()).into_pixels();
        let drawn = Picture::new(&ramp()).outline(&labels, |_| Some(RIGHT)).into_pixels();
        let pixel = |y, x| [drawn[[y, x, 0]], drawn[[y, x, 1]], drawn[[y, x, 2]]];
        assert_eq!(pixel(30, 30), RIGHT);
        assert_eq!(drawn[[29, 30, 0]], plain[[29, 30, 0]]);
        assert_eq!(drawn[[45, 50, 1]], plain[[45, 50, 1]]);
        let none = Picture::new(&ramp()).outline(&labels, |_| None).into_pixels();
        assert_eq!(none, plain);
    }
}
