//! A picture to judge a segmentation by at a glance: the image with coloured outlines, and what was annotated.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, Array3, ArrayView2, Axis};

use crate::error::{Error, Result};
use crate::raster::{Image, LabelImage, Percentiles};

/// Images whose longer side is smaller are enlarged, in pixels.
const COMFORTABLE_SIDE: usize = 512;
/// Largest enlargement.
const MOST_ENLARGEMENT: usize = 16;
/// Percentiles of intensity shown as black and white.
const BLACK_AND_WHITE: (f64, f64) = (1.0, 99.8);
/// Exponent that lifts dim structures out of a dark ground (fluorescence); a bright ground is left alone.
const LIFT: f32 = 0.7;
/// Bright saturated colours (pale and violet ones are lost on stained tissue), the most distinct first. Orange and blue belong to
/// annotations.
const COLOURS: [[u8; 3]; 9] = [
    [255, 225, 0],
    [0, 225, 255],
    [255, 50, 220],
    [60, 255, 40],
    [255, 70, 55],
    [255, 255, 255],
    [0, 255, 160],
    [255, 120, 170],
    [175, 240, 0],
];
/// Fill of annotated cells.
const ANNOTATED_CELL: [u8; 3] = [255, 150, 0];
/// Fill of annotated background.
const ANNOTATED_BACKGROUND: [u8; 3] = [40, 110, 255];

/// Draws `labels` over `image`, and the annotations `sparse` (< 0 unlabelled, 0 background, >= 1 object) when given.
///
/// Returns `[H * f, W * f, 3]` 8-bit RGB, where `f` enlarges images of less than 512 pixels by a whole factor. The image
/// is stretched between its percentiles 1 and 99.8 (RGB: one stretch for all channels, so that colours stay; two
/// channels: green and magenta; more: their mean). Each object gets an outline of 1 pixel (2 when enlarged) inside its
/// border, in a colour that differs from those of its neighbours, with a dark line outside so that it reads on bright
/// ground too. Annotated cells are tinted orange, annotated background blue.
///
/// # Errors
/// [`Error::Image`] for an unusable image; [`Error::Labels`] for labels of another size.
pub fn overlay(image: &Image, labels: &LabelImage, sparse: Option<&LabelImage>) -> Result<Array3<u8>> {
    image.check()?;
    let (height, width, _) = image.shape();
    for (what, labels) in [("labels", Some(labels)), ("annotations", sparse)] {
        if let Some(labels) = labels.filter(|labels| labels.dim() != (height, width)) {
            return Err(Error::Labels(format!(
                "the image has {height} x {width} pixels and the {what} have {} x {}; they must be the same",
                labels.nrows(),
                labels.ncols()
            )));
        }
    }
    let factor = COMFORTABLE_SIDE.div_ceil(height.max(width)).clamp(1, MOST_ENLARGEMENT);
    let mut picture = enlarge(&visible(image)?, factor);
    if let Some(sparse) = sparse {
        tint(&mut picture, sparse, factor);
    }
    draw_outlines(&mut picture, labels, factor);
    Ok(picture.mapv(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8))
}

/// The image as RGB in 0..1, `[H, W, 3]`.
fn visible(image: &Image) -> Result<Array3<f32>> {
    let pixels = image.to_f32();
    let (height, width, channels) = pixels.dim();
    let pixels = if channels > 3 {
        let mean = pixels.mean_axis(Axis(2)).unwrap_or_else(|| Array2::zeros((height, width)));
        mean.insert_axis(Axis(2))
    } else {
        pixels
    };
    let channels = pixels.len_of(Axis(2));
    let mut range = Percentiles::measure(pixels.view(), BLACK_AND_WHITE.0, BLACK_AND_WHITE.1)?;
    if channels == 3 {
        let low = range.low.iter().copied().fold(f32::INFINITY, f32::min);
        let high = range.high.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        range = Percentiles { low: vec![low; 3], high: vec![high; 3] };
    }
    let mut stretched = range.apply(pixels.view())?;
    stretched.mapv_inplace(|value| value.clamp(0.0, 1.0));
    if stretched.mean().unwrap_or(0.0) < 0.5 {
        stretched.mapv_inplace(|value| value.powf(LIFT));
    }
    let source = |c: usize| match channels {
        1 => 0,
        // Green for the first channel; red and blue, that is magenta, for the second.
        2 => usize::from(c != 1),
        _ => c,
    };
    Ok(Array3::from_shape_fn((height, width, 3), |(y, x, c)| stretched[[y, x, source(c)]]))
}

/// Bilinear, pixel centres to pixel centres.
fn enlarge(picture: &Array3<f32>, factor: usize) -> Array3<f32> {
    if factor == 1 {
        return picture.clone();
    }
    let (height, width, channels) = picture.dim();
    let place = |at: usize, size: usize| {
        let position = ((at as f32 + 0.5) / factor as f32 - 0.5).clamp(0.0, (size - 1) as f32);
        let below = position as usize;
        (below, (below + 1).min(size - 1), position - below as f32)
    };
    let rows: Vec<_> = (0..height * factor).map(|y| place(y, height)).collect();
    let columns: Vec<_> = (0..width * factor).map(|x| place(x, width)).collect();
    Array3::from_shape_fn((height * factor, width * factor, channels), |(y, x, c)| {
        let ((y0, y1, fy), (x0, x1, fx)) = (rows[y], columns[x]);
        let top = picture[[y0, x0, c]] * (1.0 - fx) + picture[[y0, x1, c]] * fx;
        let bottom = picture[[y1, x0, c]] * (1.0 - fx) + picture[[y1, x1, c]] * fx;
        top * (1.0 - fy) + bottom * fy
    })
}

fn tint(picture: &mut Array3<f32>, sparse: &LabelImage, factor: usize) {
    let (height, width, _) = picture.dim();
    for y in 0..height {
        for x in 0..width {
            let label = sparse[[y / factor, x / factor]];
            if label >= 0 {
                let (colour, strength) = if label > 0 { (ANNOTATED_CELL, 0.35) } else { (ANNOTATED_BACKGROUND, 0.6) };
                blend(picture, y, x, colour, strength);
            }
        }
    }
}

fn blend(picture: &mut Array3<f32>, y: usize, x: usize, colour: [u8; 3], strength: f32) {
    for (c, part) in colour.into_iter().enumerate() {
        let value = &mut picture[[y, x, c]];
        *value = *value * (1.0 - strength) + f32::from(part) / 255.0 * strength;
    }
}

fn draw_outlines(picture: &mut Array3<f32>, labels: &LabelImage, factor: usize) {
    let colours = colours(labels.view());
    let (height, width, _) = picture.dim();
    let label = |y: isize, x: isize| {
        let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
        inside.then(|| labels[[y as usize / factor, x as usize / factor]])
    };
    let reach = if factor > 1 { 2 } else { 1 };
    for y in 0..height {
        for x in 0..width {
            let own = labels[[y / factor, x / factor]];
            // An outline is not closed along the border of the image, where the object goes on.
            let near = |reach: isize, differs: &dyn Fn(i32) -> bool| {
                (-reach..=reach).any(|dy| {
                    (-reach..=reach).any(|dx| {
                        // A diamond of this reach keeps lines equally thick at slopes.
                        dy.abs() + dx.abs() <= reach && label(y as isize + dy, x as isize + dx).is_some_and(differs)
                    })
                })
            };
            if own > 0 {
                if near(reach, &|other| other != own)
                    && let Some(&colour) = colours.get(&own)
                {
                    blend(picture, y, x, colour, 1.0);
                }
            } else if near(1, &|other| other > 0) {
                blend(picture, y, x, [0, 0, 0], 0.8);
            }
        }
    }
}

/// A colour for every object, other than those of objects within two pixels while colours last.
fn colours(labels: ArrayView2<'_, i32>) -> BTreeMap<i32, [u8; 3]> {
    const REACH: usize = 2;
    let (height, width) = labels.dim();
    let mut neighbours: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
    for ((y, x), &own) in labels.indexed_iter().filter(|(_, label)| **label > 0) {
        if x == 0 || labels[[y, x - 1]] != own {
            neighbours.entry(own).or_default();
        }
        for ny in y.saturating_sub(REACH)..(y + REACH + 1).min(height) {
            for nx in x.saturating_sub(REACH)..(x + REACH + 1).min(width) {
                let other = labels[[ny, nx]];
                if other > 0 && other != own {
                    neighbours.entry(own).or_default().insert(other);
                }
            }
        }
    }
    let mut chosen: BTreeMap<i32, usize> = BTreeMap::new();
    for (at, (&id, near)) in neighbours.iter().enumerate() {
        let taken: BTreeSet<usize> = near.iter().filter_map(|other| chosen.get(other).copied()).collect();
        let preferred = |offset: usize| (at + offset) % COLOURS.len();
        let free = (0..COLOURS.len()).map(preferred).find(|colour| !taken.contains(colour));
        chosen.insert(id, free.unwrap_or(preferred(0)));
    }
    chosen.into_iter().map(|(id, colour)| (id, COLOURS[colour])).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;

    #[test]
    fn small_images_are_enlarged_and_outlined_inside() {
        let image = Image::U8(Array3::from_elem((100, 200, 1), 9));
        let mut labels = LabelImage::zeros((100, 200));
        labels.slice_mut(s![20..60, 30..80]).fill(4);
        let picture = overlay(&image, &labels, None).unwrap();
        assert_eq!(picture.dim(), (300, 600, 3));
        let colour = |y: usize, x: usize| [picture[[y, x, 0]], picture[[y, x, 1]], picture[[y, x, 2]]];
        assert_eq!(colour(60, 150), COLOURS[0], "first row inside");
        assert_eq!(colour(61, 150), COLOURS[0], "second row inside");
        assert_ne!(colour(62, 150), COLOURS[0]);
        assert_ne!(colour(59, 150), COLOURS[0]);
    }

    #[test]
    fn neighbours_differ_in_colour_and_annotations_show() {
        let image = Image::U16(Array3::from_shape_fn((600, 600, 1), |(y, x, _)| (y * 100 + x) as u16));
        let mut labels = LabelImage::zeros((600, 600));
        for id in 0i32..30 {
            labels.slice_mut(s![100..200, 20 * id as usize..20 * id as usize + 20]).fill(id * 10 + 1);
        }
        let colours = colours(labels.view());
        for id in 1..30 {
            assert_ne!(colours[&(id * 10 + 1)], colours[&(id * 10 - 9)]);
        }
        let mut sparse = LabelImage::from_elem((600, 600), -1);
        sparse.slice_mut(s![300..310, 100..200]).fill(0);
        sparse.slice_mut(s![400..410, 100..200]).fill(2);
        let picture = overlay(&image, &labels, Some(&sparse)).unwrap();
        assert_eq!(picture.dim(), (600, 600, 3));
        assert!(picture[[305, 150, 2]] > picture[[305, 150, 0]], "background is blue");
        assert!(picture[[405, 150, 0]] > picture[[405, 150, 2]], "cells are orange");
    }

    #[test]
    fn every_image_kind_is_drawn_and_misfits_are_refused() {
        for channels in 1..6 {
            let image = Image::F32(Array3::from_shape_fn((1, 1, channels), |(_, _, c)| c as f32));
            assert_eq!(overlay(&image, &LabelImage::zeros((1, 1)), None).unwrap().dim(), (16, 16, 3));
        }
        let image = Image::U8(Array3::zeros((4, 5, 1)));
        let text = overlay(&image, &LabelImage::zeros((5, 4)), None).unwrap_err().to_string();
        assert!(text.contains("4 x 5") && text.contains("5 x 4"), "{text}");
        let fitting = LabelImage::zeros((4, 5));
        assert!(overlay(&image, &fitting, Some(&LabelImage::zeros((1, 1)))).is_err());
    }
}
