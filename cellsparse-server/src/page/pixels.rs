//! Pixels and labels on their way to the page.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use cellsparse_core::raster::regions::{Extent, Region, RegionReader};
use cellsparse_core::raster::{Image, LabelImage};
use cellsparse_core::session::Slide;
use ndarray::{ArrayView3, Axis, concatenate, s};

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
    let place = part.place(rows, columns)?;
    let Place { step, top, left, bottom, right } = place;
    let (name, bytes) = samples(image, [top, left, bottom, right], step)?;
    answer(name, bytes, place, channels)
}

/// As [`part`] of an image of which parts are read; `refused` says what its errors are to the client. Of a pyramid, the smallest level
/// is read that is large enough.
///
/// # Errors
/// As there, and what reading reports.
pub fn part_of_slide(
    slide: &Slide,
    part: Part,
    refused: fn(cellsparse_core::Error) -> Refusal,
) -> Result<Response, Refusal> {
    let [rows, columns, channels] = slide.shape();
    let place = part.place(rows, columns)?;
    let (level, times) = level_for(slide.levels(), place.step);
    let own = slide.levels()[level];
    let Place { step, top, left, bottom, right } = Place {
        step: place.step / times,
        top: place.top / times,
        left: place.left / times,
        bottom: place.bottom.div_ceil(times).min(own.height),
        right: place.right.div_ceil(times).min(own.width),
    };
    // In bands, which end where a block of pixels does.
    let band = (BAND / (right - left).max(1) / step).max(1) * step;
    let (mut name, mut bytes) = ("", Vec::new());
    for first in (top..bottom).step_by(band) {
        let region = Region { top: first, left, height: band.min(bottom - first), width: right - left };
        let pixels = slide.read(region, level).map_err(refused)?;
        let (kind, more) = samples(&pixels, [0, 0, region.height, region.width], step)?;
        name = kind;
        bytes.extend(more);
    }
    answer(name, bytes, place, channels)
}

/// Pixels that are read together.
const BAND: usize = 1 << 22;

/// The smallest of the levels of which whole pixels make one that is `step` times as wide as that of the largest, and how many times
/// as wide its own are; it has to end where the largest does.
fn level_for(levels: &[Extent], step: usize) -> (usize, usize) {
    let Some(first) = levels.first() else { return (0, 1) };
    let times = |level: &Extent| {
        let times = (first.width as f64 / level.width as f64).round().max(1.0) as usize;
        let same = |size: usize, of: usize| size == of / times || size == of.div_ceil(times);
        // The last row and column of blocks may be made of fewer pixels, but not of none.
        let covers = |size: usize, of: usize| size.div_ceil((step / times).max(1)) == of.div_ceil(step);
        let fits = step.is_multiple_of(times)
            && same(level.width, first.width)
            && same(level.height, first.height)
            && covers(level.width, first.width)
            && covers(level.height, first.height);
        fits.then_some(times)
    };
    let fitting = levels.iter().enumerate().filter_map(|(at, level)| Some((at, times(level)?)));
    fitting.max_by_key(|(_, times)| *times).unwrap_or((0, 1))
}

/// Where a part lies in the pixels of the image.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Rows and columns that become one.
    step: usize,
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
}

impl Part {
    fn place(self, rows: usize, columns: usize) -> Result<Place, Refusal> {
        let Part { level, x, y, side } = self;
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
        Ok(Place { step, top, left, bottom, right })
    }
}

/// The type of the samples in a window of an image, and the samples, of which `step` rows and columns become one.
fn samples(
    image: &Image,
    [top, left, bottom, right]: [usize; 4],
    step: usize,
) -> Result<(&'static str, Vec<u8>), Refusal> {
    let window = s![top..bottom, left..right, ..];
    Ok(match image {
        Image::U8(pixels) => ("u8", reduced(pixels.slice(window), step, |value| vec![value.round() as u8])),
        Image::U16(pixels) => {
            ("u16", reduced(pixels.slice(window), step, |value| (value.round() as u16).to_le_bytes().to_vec()))
        }
        Image::F32(pixels) => {
            ("f32", reduced(pixels.slice(window), step, |value| (value as f32).to_le_bytes().to_vec()))
        }
        _ => return Err(Refusal::internal("an unknown type of samples")),
    })
}

fn answer(name: &'static str, bytes: Vec<u8>, place: Place, channels: usize) -> Result<Response, Refusal> {
    let Place { step, top, left, bottom, right } = place;
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

/// As [`ranges`], of squares that are spread over an image of which parts are read.
///
/// # Errors
/// What reading reports.
pub fn ranges_of_slide(slide: &Slide) -> cellsparse_core::Result<Vec<[f64; 4]>> {
    let [rows, columns, _] = slide.shape();
    let size = |of: usize| SQUARE.min(of);
    let mut all: Vec<Image> = Vec::new();
    for place in 0..SQUARES * SQUARES {
        let at = |index: usize, of: usize| ((2 * index + 1) * of / (2 * SQUARES)).saturating_sub(size(of) / 2);
        let (top, left) = (at(place / SQUARES, rows), at(place % SQUARES, columns));
        all.push(slide.read(Region { top, left, height: size(rows), width: size(columns) }, 0)?);
    }
    let views: Vec<_> = all.iter().map(Image::to_f32).collect();
    let views: Vec<_> = views.iter().map(|one| one.view()).collect();
    let joined = concatenate(Axis(0), &views).map_err(|error| cellsparse_core::Error::Internal(error.to_string()))?;
    Ok(ranges(&Image::F32(joined)))
}

/// Squares along a side of a large image that its contrast begins with, and their sides.
const SQUARES: usize = 4;
const SQUARE: usize = 256;

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
    #[test]
    fn tiles_of_a_pyramid_are_those_of_the_image() {
        use cellsparse_core::raster::regions::CallbackRegions;
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};

        // Blocks of 4 x 4 pixels have one value, so that means of means are those of the pixels.
        let value = |y: usize, x: usize| ((y / 4 * 7 + x / 4 * 3) % 250) as u8;
        for (rows, columns) in [(64, 96), (61, 90)] {
            let image = Image::U8(Array3::from_shape_fn((rows, columns, 1), |(y, x, _)| value(y, x)));
            let extent = |times: usize| Extent { height: rows.div_ceil(times), width: columns.div_ceil(times) };
            let largest = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&largest);
            let read = move |region: Region, level: usize| {
                counted.fetch_max(2 - level, Ordering::Relaxed);
                let times = [1, 4][level];
                let pixel =
                    |(y, x, _): (usize, usize, usize)| value((region.top + y) * times, (region.left + x) * times);
                Ok(Image::U8(Array3::from_shape_fn((region.height, region.width, 1), pixel)))
            };
            let reader = CallbackRegions::new(vec![extent(1), extent(4)], 1, None, read).unwrap();
            let slide = Slide::of(Box::new(reader));
            for (level, x, y, side) in [(0, 3, 5, 20), (1, 2, 3, 9), (2, 0, 0, 99), (2, 5, 4, 6), (3, 1, 1, 7)] {
                let part_of = Part { level, x, y, side };
                largest.store(0, Ordering::Relaxed);
                let found = part_of_slide(&slide, part_of, super::super::talk::about_project).unwrap();
                let whole = part(&image, part_of).unwrap();
                assert_eq!(found.headers(), whole.headers(), "{level} {x} {y} {side}");
                let bytes = |response: Response| {
                    let body = axum::body::to_bytes(response.into_body(), 1 << 20);
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(body).unwrap()
                };
                // At ragged ends, blocks of the image are made of fewer pixels than those of the level stand for.
                if rows == 64 || level < 3 {
                    assert_eq!(bytes(found), bytes(whole), "{level} {x} {y} {side}");
                }
                assert_eq!(
                    largest.load(Ordering::Relaxed),
                    if level >= 2 { 1 } else { 2 },
                    "level {level} is read of the smallest that is large enough"
                );
            }
        }
        assert_eq!(level_for(&[Extent { height: 100, width: 100 }, Extent { height: 33, width: 33 }], 4), (0, 1));
    }
}
