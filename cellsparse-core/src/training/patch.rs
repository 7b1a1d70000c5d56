//! Scaled, rotated, contrast-changed and flipped patches of annotated images, as in the training of ELEPHANT.

use std::ops::Range;

use ndarray::{Array3, ArrayView2, ArrayView3, Axis, s};

use crate::error::{Error, Result};
use crate::raster::{LabelImage, resize_bilinear_aligned, resize_nearest};
use crate::targets::elephant::{BACKGROUND, IGNORED};

/// Everything random about one patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchDraw {
    /// First row and column of the part of the image that is rotated.
    pub origin: [usize; 2],
    /// Rows and columns of that part.
    pub size: [usize; 2],
    /// Angle of the rotation in degrees, counter-clockwise.
    pub degrees: i32,
    /// Fraction of the contrast between annotated cells and annotated background that is kept.
    pub contrast: f64,
    /// Whether the order of the rows is reversed.
    pub flip_rows: bool,
    /// Whether the order of the columns is reversed.
    pub flip_columns: bool,
}

/// The sizes, before rotation, that are drawn for a patch of `patch` pixels along an axis of `image` pixels; `scale` is
/// the largest relative change.
pub fn size_range(image: usize, patch: usize, scale: f64) -> Range<usize> {
    let low = ((1.0 - scale) * patch as f64).round_ties_even().max(1.0) as usize;
    let high = ((1.0 + scale) * patch as f64) as usize;
    let low = low.min(image);
    low..image.min(high).max(low).saturating_add(1)
}

/// The size with room for a rotation.
pub fn rotated_size(image: usize, size: usize, degrees: i32) -> usize {
    let (sine, cosine) = f64::from(degrees).to_radians().sin_cos();
    image.min((size as f64 * (cosine.abs() + sine.abs())).ceil() as usize)
}

/// The first pixels of parts of `size` pixels that contain the pixel `base` of an axis of `image` pixels.
pub fn origin_range(image: usize, size: usize, base: usize) -> Range<usize> {
    let low = (base + 1).saturating_sub(size);
    low..image.saturating_sub(size).min(base).max(low).saturating_add(1)
}

/// One patch of `patch = [rows, columns]` pixels: image `[rows, columns, C]` and targets `[rows, columns]`; `None` when no
/// labelled pixel is left in it.
///
/// `image` is `[H, W, C]`, `targets` (below 0 unlabelled, see [`targets::elephant`](crate::targets::elephant)) `[H, W]`.
/// In this order: the part of the draw is cut out; annotated cells in it are brought nearer to the mean of annotated
/// background; it is rotated on a canvas that has room for it (0 and unlabelled where there is nothing); the centre of
/// the canvas is cut out, or the canvas stretched if it is smaller than the patch; the result is flipped.
///
/// # Errors
/// [`Error::Config`] when the part does not lie in the image, [`Error::Labels`] when image and targets differ in size.
pub fn cut_patch(
    image: ArrayView3<'_, f32>,
    targets: ArrayView2<'_, i32>,
    patch: [usize; 2],
    draw: &PatchDraw,
) -> Result<Option<(Array3<f32>, LabelImage)>> {
    let (height, width, _) = image.dim();
    if targets.dim() != (height, width) {
        let (rows, columns) = targets.dim();
        return Err(Error::Labels(format!("an image of {height} x {width} pixels with {rows} x {columns} targets")));
    }
    let end = |k: usize| draw.origin[k].checked_add(draw.size[k]);
    let (Some(bottom), Some(right)) = (end(0).filter(|end| *end <= height), end(1).filter(|end| *end <= width)) else {
        return Err(Error::Config(format!(
            "a part of {:?} pixels from {:?} does not lie in {height} x {width} pixels",
            draw.size, draw.origin
        )));
    };
    if draw.size.contains(&0) || patch.contains(&0) {
        return Err(Error::Config(format!("a patch of {patch:?} pixels from {:?}; no side may be 0", draw.size)));
    }
    let part = s![draw.origin[0]..bottom, draw.origin[1]..right];
    let targets = targets.slice(part);
    let mut pixels = image.slice(s![draw.origin[0]..bottom, draw.origin[1]..right, ..]).to_owned();
    change_contrast(&mut pixels, targets, draw.contrast);
    let canvas = Canvas::new(draw.size, draw.degrees);
    let window = [0, 1].map(|k| {
        let first = (canvas.size[k].saturating_sub(patch[k])) / 2;
        first..(first + patch[k]).min(canvas.size[k])
    });
    let mut found = canvas.targets(targets, &window);
    if found.iter().all(|target| *target < 0) {
        return Ok(None);
    }
    let mut pixels = canvas.image(pixels.view(), &window);
    if found.dim() != (patch[0], patch[1]) {
        pixels = resize_bilinear_aligned(pixels.view(), patch)?;
        found = resize_nearest(found.view(), patch[0], patch[1])?;
    }
    for (axis, flip) in [(Axis(0), draw.flip_rows), (Axis(1), draw.flip_columns)] {
        if flip {
            pixels.invert_axis(axis);
            found.invert_axis(axis);
        }
    }
    Ok(Some((pixels, found)))
}

/// Image `[H, W, C]` and targets `[H, W]` rotated counter-clockwise by whole degrees about their centre, on a canvas
/// that holds all of them: linear in between for the image, the nearest pixel for the targets, 0 and unlabelled
/// outside. As `skimage.transform.rotate` with `resize=True`.
///
/// # Errors
/// [`Error::Labels`] when they differ in size or are empty.
pub fn rotate(
    image: ArrayView3<'_, f32>,
    targets: ArrayView2<'_, i32>,
    degrees: i32,
) -> Result<(Array3<f32>, LabelImage)> {
    let (height, width, channels) = image.dim();
    if targets.dim() != (height, width) || height == 0 || width == 0 {
        let (rows, columns) = targets.dim();
        return Err(Error::Labels(format!(
            "an image of {height} x {width} pixels and {channels} channels with {rows} x {columns} targets"
        )));
    }
    let canvas = Canvas::new([height, width], degrees);
    let window = canvas.size.map(|size| 0..size);
    Ok((canvas.image(image, &window), canvas.targets(targets, &window)))
}

/// Multiplies annotated cells so that their mean comes nearer to that of annotated background, channel by channel.
fn change_contrast(image: &mut Array3<f32>, targets: ArrayView2<'_, i32>, contrast: f64) {
    let mut sums = [0.0f64; 2];
    let mut counts = [0.0f64; 2];
    for mut channel in image.axis_iter_mut(Axis(2)) {
        sums.fill(0.0);
        counts.fill(0.0);
        for (value, target) in channel.iter().zip(targets).filter(|(_, target)| **target > IGNORED) {
            let cell = usize::from(is_cell(*target));
            sums[cell] += f64::from(*value);
            counts[cell] += 1.0;
        }
        let [background, cell] = [sums[0] / counts[0], sums[1] / counts[1]];
        // Without cells or background, or with black cells, there is no factor.
        let factor = ((cell - background) * contrast + background) / cell;
        if factor.is_finite() {
            let factor = factor as f32;
            channel.iter_mut().zip(targets).filter(|(_, target)| is_cell(**target)).for_each(|(v, _)| *v *= factor);
        }
    }
}

/// Rim or centre, light or heavy.
fn is_cell(target: i32) -> bool {
    target > IGNORED && target % 3 != BACKGROUND
}

/// A rotation about the centre of an image, on a canvas that holds all of it.
struct Canvas {
    source: [usize; 2],
    size: [usize; 2],
    /// Where the first pixel of the canvas lies from the centre of the image, before the rotation.
    first: [f64; 2],
    sine: f64,
    cosine: f64,
}

impl Canvas {
    fn new(source: [usize; 2], degrees: i32) -> Self {
        let (sine, cosine) = f64::from(degrees).to_radians().sin_cos();
        let [cy, cx] = source.map(|side| (side as f64 - 1.0) / 2.0);
        let mut bounds = [[f64::INFINITY, f64::NEG_INFINITY]; 2];
        for (y, x) in [(-cy, -cx), (-cy, cx), (cy, -cx), (cy, cx)] {
            // The corners go the opposite way.
            for (bounds, at) in bounds.iter_mut().zip([-x * sine + y * cosine, x * cosine + y * sine]) {
                *bounds = [bounds[0].min(at), bounds[1].max(at)];
            }
        }
        Self {
            source,
            size: bounds.map(|[low, high]| (high - low + 1.0).round_ties_even() as usize),
            first: bounds.map(|[low, _]| low),
            sine,
            cosine,
        }
    }

    /// The point of the image under a pixel of the canvas.
    fn point(&self, y: usize, x: usize) -> (f64, f64) {
        let (y, x) = (y as f64 + self.first[0], x as f64 + self.first[1]);
        let [cy, cx] = self.source.map(|side| (side as f64 - 1.0) / 2.0);
        (x * self.sine + y * self.cosine + cy, x * self.cosine - y * self.sine + cx)
    }

    fn targets(&self, targets: ArrayView2<'_, i32>, window: &[Range<usize>; 2]) -> LabelImage {
        LabelImage::from_shape_fn([window[0].len(), window[1].len()], |(i, j)| {
            let (y, x) = self.point(window[0].start + i, window[1].start + j);
            let (y, x) = (y.round(), x.round());
            let inside = y >= 0.0 && x >= 0.0;
            targets.get([y as usize, x as usize]).copied().filter(|_| inside).unwrap_or(IGNORED)
        })
    }

    fn image(&self, image: ArrayView3<'_, f32>, window: &[Range<usize>; 2]) -> Array3<f32> {
        let (height, width, channels) = image.dim();
        let mut out = Array3::zeros((window[0].len(), window[1].len(), channels));
        let image = image.as_standard_layout();
        let values = image.as_slice().unwrap_or(&[]);
        let mut cells = out.as_slice_mut().unwrap_or(&mut []).chunks_exact_mut(channels.max(1));
        for i in window[0].clone() {
            for (j, cell) in window[1].clone().zip(cells.by_ref()) {
                let (y, x) = self.point(i, j);
                let (top, left) = (y.floor(), x.floor());
                let shares = [(y - top) as f32, (x - left) as f32];
                let (top, left) = (top as isize, left as isize);
                if top >= 0 && left >= 0 && (top as usize) + 1 < height && (left as usize) + 1 < width {
                    let at = (top as usize * width + left as usize) * channels;
                    let (upper, lower) = (&values[at..], &values[at + width * channels..]);
                    for (c, value) in cell.iter_mut().enumerate() {
                        *value = mix([[upper[c], upper[channels + c]], [lower[c], lower[channels + c]]], shares);
                    }
                    continue;
                }
                // At the border, samples outside the image count as 0.
                for (c, value) in cell.iter_mut().enumerate() {
                    let sample = |y: isize, x: isize| match (usize::try_from(y), usize::try_from(x)) {
                        (Ok(y), Ok(x)) if y < height && x < width => values[(y * width + x) * channels + c],
                        _ => 0.0,
                    };
                    let taps = [top, top + 1].map(|y| [left, left + 1].map(|x| sample(y, x)));
                    *value = mix(taps, shares);
                }
            }
        }
        out
    }
}

/// Linear in between four samples.
fn mix([upper, lower]: [[f32; 2]; 2], [down, right]: [f32; 2]) -> f32 {
    let above = (1.0 - right) * upper[0] + right * upper[1];
    let below = (1.0 - right) * lower[0] + right * lower[1];
    (1.0 - down) * above + down * below
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    const DRAW: PatchDraw =
        PatchDraw { origin: [0, 0], size: [6, 8], degrees: 0, contrast: 1.0, flip_rows: false, flip_columns: false };

    fn sample() -> (Array3<f32>, LabelImage) {
        let image = Array3::from_shape_fn((6, 8, 2), |(y, x, c)| 1.0 + (y * 8 + x) as f32 + 100.0 * c as f32);
        (image, LabelImage::from_shape_fn((6, 8), |(y, x)| (y * 8 + x) as i32 % 4 - 1))
    }

    #[test]
    fn a_quarter_turn_moves_every_pixel() {
        let (image, targets) = sample();
        let (turned, classes) = rotate(image.view(), targets.view(), 90).unwrap();
        assert_eq!(classes.dim(), (8, 6));
        for ((y, x), class) in classes.indexed_iter() {
            // Counter-clockwise: the last column becomes the first row.
            assert_eq!(*class, targets[[x, 7 - y]]);
            assert!((turned[[y, x, 1]] - image[[x, 7 - y, 1]]).abs() < 1e-3);
        }
    }

    #[test]
    fn crops_are_cut_stretched_and_flipped() {
        let (image, targets) = sample();
        let (same, classes) = cut_patch(image.view(), targets.view(), [6, 8], &DRAW).unwrap().unwrap();
        assert!(classes == targets && same == image);
        let draw = PatchDraw { origin: [1, 2], size: [4, 4], flip_rows: true, ..DRAW };
        let (_, classes) = cut_patch(image.view(), targets.view(), [2, 2], &draw).unwrap().unwrap();
        assert_eq!(classes, array![[targets[[3, 3]], targets[[3, 4]]], [targets[[2, 3]], targets[[2, 4]]]]);
        let (large, classes) = cut_patch(image.view(), targets.view(), [12, 12], &DRAW).unwrap().unwrap();
        assert!(large.dim() == (12, 12, 2) && classes.dim() == (12, 12));
        let none = Array2::from_elem((6, 8), IGNORED);
        assert!(cut_patch(image.view(), none.view(), [6, 8], &DRAW).unwrap().is_none());
    }

    #[test]
    fn contrast_changes_annotated_cells_only() {
        let image = array![[8.0f32, 4.0, 2.0, 10.0]].insert_axis(Axis(2));
        let targets = array![[2, 1, 0, -1]];
        let draw = PatchDraw { size: [1, 4], contrast: 0.5, ..DRAW };
        let (found, _) = cut_patch(image.view(), targets.view(), [1, 4], &draw).unwrap().unwrap();
        // The mean of the cells goes from 6 half way to 2.
        let expected = [8.0 * 4.0 / 6.0, 4.0 * 4.0 / 6.0, 2.0, 10.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (image, targets) = sample();
        let cut = |patch, draw: PatchDraw| cut_patch(image.view(), targets.view(), patch, &draw);
        assert!(cut([4, 4], PatchDraw { origin: [1, 0], ..DRAW }).is_err());
        assert!(cut([4, 4], PatchDraw { origin: [usize::MAX, 0], ..DRAW }).is_err());
        assert!(cut([4, 4], PatchDraw { size: [0, 3], ..DRAW }).is_err());
        assert!(cut([0, 4], DRAW).is_err());
        assert!(cut_patch(image.view(), targets.slice(s![1.., ..]), [4, 4], &DRAW).is_err());
        assert!(rotate(image.view(), targets.slice(s![1.., ..]), 3).is_err());
        assert!(rotate(Array3::zeros((0, 3, 1)).view(), Array2::zeros((0, 3)).view(), 3).is_err());
    }
}
