//! Pixels and labels on their way to the page.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use cellsparse_core::raster::{Image, LabelImage};
use ndarray::{ArrayView3, s};

use crate::errors::Refusal;

/// Side of a tile at most.
const TILE: usize = 1024;

/// The type of the samples of an answer: `u8`, `u16` or `f32`.
const SAMPLES: HeaderName = HeaderName::from_static("x-cellsparse-samples");

/// Rows, columns and channels of an answer.
const SHAPE: HeaderName = HeaderName::from_static("x-cellsparse-shape");

/// A part of an image that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Every pixel is the mean of `2^level` times as many rows and columns.
    pub level: u32,
    /// First column of the part, in its own pixels.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Side of the part; at the borders of the image it is smaller.
    pub side: usize,
}

/// The samples of a part, little-endian, by rows, columns and channels.
///
/// # Errors
/// 422 for a part that is too large or outside the image.
pub fn part(image: &Image, part: Part) -> Result<Response, Refusal> {
    let (rows, columns, channels) = image.shape();
    let Part { level, x, y, side } = part;
    let step = 1_usize.checked_shl(level).filter(|step| *step <= 1 << 16);
    let place = |at: usize, length: usize| {
        let first = at.checked_mul(step?).filter(|first| *first < length)?;
        Some([first, first.saturating_add(side.checked_mul(step?)?).min(length)])
    };
    let (Some(step), Some([top, bottom]), Some([left, right]), 1..=TILE) =
        (step, place(y, rows), place(x, columns), side)
    else {
        let msg = format!("the image has no part of side {side} at {x}, {y}, level {level}");
        return Err(Refusal::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, msg));
    };
    let window = s![top..bottom, left..right, ..];
    let (name, bytes) = match image {
        Image::U8(pixels) => ("u8", reduced(pixels.slice(window), step, |value| vec![value.round() as u8])),
        Image::U16(pixels) => {
            ("u16", reduced(pixels.slice(window), step, |value| (value.round() as u16).to_le_bytes().to_vec()))
        }
        Image::F32(pixels) => {
            ("f32", reduced(pixels.slice(window), step, |value| (value as f32).to_le_bytes().to_vec()))
        }
        _ => return Err(Refusal::internal("an unknown type of samples")),
    };
    let shape = format!("{},{},{channels}", (bottom - top).div_ceil(step), (right - left).div_ceil(step));
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(SAMPLES, HeaderValue::from_static(name));
    headers.insert(SHAPE, HeaderValue::from_str(&shape).map_err(Refusal::internal)?);
    Ok(response)
}

/// The means of blocks of `step` rows and columns.
fn reduced<T: Copy + Into<f64>>(pixels: ArrayView3<'_, T>, step: usize, bytes: fn(f64) -> Vec<u8>) -> Vec<u8> {
    let (rows, columns, channels) = pixels.dim();
    let mut result = Vec::new();
    for row in (0..rows).step_by(step) {
        for column in (0..columns).step_by(step) {
            for channel in 0..channels {
                let block =
                    pixels.slice(s![row..(row + step).min(rows), column..(column + step).min(columns), channel]);
                let sum: f64 = block.iter().map(|value| (*value).into()).sum();
                result.extend(bytes(sum / block.len() as f64));
            }
        }
    }
    result
}

/// The labels of a box `[row, column, row end, column end]` as runs: a label, how many pixels have it, and so on, row by row.
pub fn runs(labels: &LabelImage, [top, left, bottom, right]: [usize; 4]) -> Vec<i64> {
    let mut runs: Vec<i64> = Vec::new();
    for &label in labels.slice(s![top..bottom, left..right]) {
        match runs.as_mut_slice() {
            [.., last, count] if *last == i64::from(label) => *count += 1,
            _ => runs.extend([i64::from(label), 1]),
        }
    }
    runs
}

/// Low and high percentiles of every channel, and the smallest and largest sample of all, of a thinned-out image: what its contrast
/// begins with.
pub fn ranges(image: &Image) -> Vec<[f64; 4]> {
    let (rows, columns, channels) = image.shape();
    let step = ((rows * columns) as f64 / 65_536.0).sqrt().ceil().max(1.0) as usize;
    let range = |channel: usize| {
        let mut samples: Vec<f64> = Vec::new();
        let mut add = |value: f64| samples.push(value);
        for row in (0..rows).step_by(step) {
            for column in (0..columns).step_by(step) {
                match image {
                    Image::U8(pixels) => add(f64::from(pixels[[row, column, channel]])),
                    Image::U16(pixels) => add(f64::from(pixels[[row, column, channel]])),
                    Image::F32(pixels) => add(f64::from(pixels[[row, column, channel]])),
                    _ => {}
                }
            }
        }
        samples.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| samples.get(((samples.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or(0.0);
        [at(0.0), at(0.003), at(0.997), at(1.0)]
    };
    (0..channels).map(range).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;

    #[test]
    fn labels_of_a_box_are_runs() {
        let labels = array![[0, 0, 5, 5], [0, 5, 5, -1], [7, 7, 7, 7]];
        assert_eq!(runs(&labels, [0, 0, 2, 4]), [0, 2, 5, 2, 0, 1, 5, 2, -1, 1]);
        assert_eq!(runs(&labels, [1, 1, 3, 3]), [5, 2, 7, 2]);
    }

    #[test]
    fn smaller_copies_are_means_and_the_rest_is_refused() {
        let image = Image::U8(Array3::from_shape_fn((5, 6, 2), |(y, x, c)| (10 * y + x + 100 * c) as u8));
        let at = |level, x, y, side| part(&image, Part { level, x, y, side });
        let told = at(1, 1, 2, 8).unwrap();
        let shape = told.headers()["x-cellsparse-shape"].to_str().unwrap().to_owned();
        assert_eq!((shape.as_str(), told.headers()["x-cellsparse-samples"].to_str().unwrap()), ("1,2,2", "u8"));
        let Image::U8(pixels) = &image else { unreachable!() };
        assert_eq!(reduced(pixels.slice(s![0..2, 0..2, ..]), 2, |value| vec![value.round() as u8]), [6, 106]);
        for (level, x, y, side) in
            [(0, 6, 0, 8), (0, 0, 5, 8), (0, 0, 0, 0), (0, 0, 0, 9999), (40, 0, 0, 8), (99, 0, 0, 8)]
        {
            assert!(at(level, x, y, side).is_err(), "{level} {x} {y} {side}");
        }
        assert_eq!(ranges(&image)[0][0], 0.0);
        assert_eq!(ranges(&image)[1][3], 145.0);
    }
}
