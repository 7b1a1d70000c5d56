//! An image as the encoder sees it: 8-bit colours, the longer side at the size of the network, zeros below or to the right.

use ndarray::{Array3, ArrayView3, Axis};
use rayon::prelude::*;

use crate::budget::zeros;
use crate::error::{Error, Reason, Result};
use crate::raster::{Image, Percentiles};

/// Mean and standard deviation of red, green and blue that the networks were trained with.
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const DEVIATION: [f32; 3] = [58.395, 57.12, 57.375];

/// Percentiles of a channel that become 0 and 255 where samples are not of 8 bit.
const RANGE: [f64; 2] = [0.1, 99.9];

/// Bits after the point of the weights that an 8-bit image is resized with.
const PRECISION: u32 = 22;

/// Rows and columns of an image whose longer side becomes `size`.
pub(super) fn fitted([rows, columns]: [usize; 2], size: usize) -> [usize; 2] {
    let scale = size as f64 / rows.max(columns).max(1) as f64;
    [rows, columns].map(|side| ((side as f64 * scale + 0.5) as usize).clamp(1, size))
}

/// Channels first, `[3, size, size]`, of an image with 1 to 3 channels.
///
/// # Errors
/// [`Error::Image`] for an image without pixels, with more channels, or with samples that are not finite.
pub(super) fn prepare(image: &Image, size: usize) -> Result<Vec<f32>> {
    image.check()?;
    let colours = colours(image)?;
    let (rows, columns, _) = colours.dim();
    let resized = resize(colours.view(), fitted([rows, columns], size))?;
    let mut out = zeros(3 * size * size, "the image for the network")?;
    for ((y, x, channel), &value) in resized.indexed_iter() {
        out[(channel * size + y) * size + x] = (f32::from(value) - MEAN[channel]) / DEVIATION[channel];
    }
    Ok(out)
}

/// Red, green and blue of 8 bit: grey three times, of two channels the first two.
fn colours(image: &Image) -> Result<Array3<u8>> {
    let (rows, columns, channels) = image.shape();
    if channels > 3 {
        return Err(Error::Image(format!("it has {channels} channels; SAM sees 1 to 3: choose those to look at"))
            .because(Reason::channels(channels, 3)));
    }
    let pixels = match image {
        Image::U8(pixels) => pixels.clone(),
        other => {
            let values = other.to_f32();
            let range = Percentiles::measure(values.view(), RANGE[0], RANGE[1])?;
            range.apply_in_place(values)?.mapv(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8)
        }
    };
    if channels == 3 {
        return Ok(pixels);
    }
    let mut colours = Array3::zeros((rows, columns, 3));
    for channel in 0..if channels == 1 { 3 } else { channels } {
        colours.index_axis_mut(Axis(2), channel).assign(&pixels.index_axis(Axis(2), channel.min(channels - 1)));
    }
    Ok(colours)
}

/// The pixels that make one, and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Bilinear with smoothing when an image is made smaller, columns first and rounded to 8 bit after each direction: what Pillow
/// does, in whose images the networks were trained.
fn resize(image: ArrayView3<'_, u8>, [rows, columns]: [usize; 2]) -> Result<Array3<u8>> {
    let (height, width, channels) = image.dim();
    let image = image.as_standard_layout();
    let source = image.as_slice().unwrap_or(&[]);
    let mut across = source.to_vec();
    if columns != width {
        let taps = taps(width, columns);
        across = zeros(height * columns * channels, "a resized image")?;
        across.par_chunks_exact_mut(columns * channels).zip(source.par_chunks_exact(width * channels)).for_each(
            |(line, source)| {
                for (pixel, taps) in line.chunks_exact_mut(channels).zip(&taps) {
                    for (channel, value) in pixel.iter_mut().enumerate() {
                        let samples = source[taps.first * channels..].iter().skip(channel).step_by(channels);
                        *value = weighted(samples, &taps.weights);
                    }
                }
            },
        );
    }
    let mut out = across;
    if rows != height {
        let (taps, length) = (taps(height, rows), columns * channels);
        let across = std::mem::replace(&mut out, zeros(rows * length, "a resized image")?);
        out.par_chunks_exact_mut(length).zip(&taps).for_each(|(line, taps)| {
            for (at, value) in line.iter_mut().enumerate() {
                let samples = across[taps.first * length..].iter().skip(at).step_by(length);
                *value = weighted(samples, &taps.weights);
            }
        });
    }
    Array3::from_shape_vec((rows, columns, channels), out).map_err(|error| Error::Internal(error.to_string()))
}

fn weighted<'a>(samples: impl Iterator<Item = &'a u8>, weights: &[i32]) -> u8 {
    let half = 1_i32 << (PRECISION - 1);
    let sum = samples.zip(weights).fold(half, |sum, (&sample, &weight)| sum + i32::from(sample) * weight);
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// For each of `to` pixels those of `from` that make it: a triangle as wide as the larger of the two pixels.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let of_pixel = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |at: usize| (1.0 - ((at as f64 - centre + 0.5) / reach).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let whole = |weight: f64| (0.5 + weight / sum * f64::from(1_u32 << PRECISION)) as i32;
        Taps { first, weights: weights.into_iter().map(whole).collect() }
    };
    (0..to).map(of_pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_that_of_the_network() {
        assert_eq!([fitted([100, 200], 1024), fitted([1024, 1024], 1024)], [[512, 1024], [1024, 1024]]);
        assert_eq!([fitted([1, 5000], 1024), fitted([333, 500], 64)], [[1, 1024], [43, 64]]);
    }

    #[test]
    fn an_image_is_resized_as_pillow_does() {
        // Image.fromarray(..., "L").resize((3, 2), BILINEAR) and .resize((7, 5), BILINEAR) of Pillow 13.0.0.
        let values: Vec<u8> = (0..20).map(|i| (i * 37 % 256) as u8).collect();
        let image = Array3::from_shape_vec((4, 5, 1), values).unwrap();
        let resized = |size| resize(image.view(), size).unwrap().into_raw_vec_and_offset().0;
        assert_eq!(resized([2, 3]), SMALLER);
        assert_eq!(resized([5, 7]), LARGER);
        assert_eq!(resized([4, 5]), image.iter().copied().collect::<Vec<_>>());
    }

    const SMALLER: [u8; 6] = [112, 84, 97, 110, 139, 127];
    const LARGER: [u8; 35] = [
        0, 21, 48, 74, 100, 127, 148, 130, 151, 126, 24, 50, 77, 98, 150, 171, 161, 96, 122, 94, 42, 93, 114, 141, 167,
        193, 143, 61, 43, 64, 91, 117, 143, 170, 191,
    ];

    #[test]
    fn colours_are_of_8_bit_whatever_the_image_is() {
        let ramp = Array3::from_shape_fn((50, 50, 2), |(y, x, c)| (y * 50 + x) as u16 * (1 + c as u16));
        let found = colours(&Image::U16(ramp)).unwrap();
        assert_eq!((found.dim(), found[[0, 0, 0]], found[[49, 49, 0]], found[[49, 49, 1]]), ((50, 50, 3), 0, 255, 255));
        assert!(found.index_axis(Axis(2), 2).iter().all(|&value| value == 0));
        let grey = colours(&Image::U8(Array3::from_elem((2, 2, 1), 7))).unwrap();
        assert!(grey.iter().all(|&value| value == 7));
        let error = colours(&Image::U8(Array3::zeros((2, 2, 4)))).unwrap_err();
        assert_eq!(error.reason(), Some(&Reason::channels(4, 3)));
        assert!(prepare(&Image::U8(Array3::zeros((0, 2, 3))), 64).is_err());
    }
}
