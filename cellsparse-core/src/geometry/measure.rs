//! Measurements of objects, with the definitions and names of scikit-image's `regionprops`.
//!
//! Shapes are those of pixel sets: a pixel is a point at its centre in moments, and a square in areas. Lengths are in
//! pixels. Time grows with the pixels of the image and the boxes around the objects.

use ndarray::{Array3, ArrayView2};

use super::convex_hull::hull_of;
use super::ellipse::{Moments, symmetric_eigen};
use super::label_runs::{LabelRuns, LabelledRuns, Run};
use crate::error::{Error, Result};
use crate::raster::{Image, LabelImage};

/// What is measured of every object beside its shape.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeasureOptions<'a> {
    /// The image that the labels belong to, whose intensities are measured.
    pub image: Option<&'a Image>,
    /// Height and width of a pixel in micrometres, when they are known.
    pub pixel_size: Option<[f64; 2]>,
}

/// The measurements of one object.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Measurements {
    /// Its value in the label image.
    pub label: i32,
    /// Mean row and column of its pixels.
    pub centroid: [f64; 2],
    /// Number of pixels.
    pub area: usize,
    /// Area in square micrometres, when the size of a pixel is known.
    pub area_um2: Option<f64>,
    /// For every channel of the image.
    pub intensity: Vec<Intensity>,
    /// Of the ellipse with the same second moments: 0 for a circle, below 1.
    pub eccentricity: f64,
    /// Length of the outline, as a line through the centres of the border pixels with 4-connectivity.
    pub perimeter: f64,
    /// Largest distance between two points of the outline of the convex image.
    pub feret_diameter_max: f64,
    /// Length of the long axis of the ellipse with the same second moments.
    pub axis_major_length: f64,
    /// Length of its short axis; 0 for pixels in one line.
    pub axis_minor_length: f64,
    /// Angle between the row axis (downwards) and the long axis, from -pi/2 to pi/2, counter-clockwise.
    pub orientation: f64,
    /// Area as a fraction of the pixels whose centres lie in the convex hull.
    pub solidity: f64,
    /// Whether a pixel lies in the first or last row or column of the image.
    pub touches_border: bool,
}

/// The samples of one channel under an object.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Intensity {
    /// Their mean.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// Measures every object (values of at least 1), in increasing label.
///
/// # Errors
/// [`Error::Image`] when the image has another size than the labels, [`Error::Config`] for a pixel size that is not a
/// positive number.
pub fn measure(labels: &LabelImage, options: &MeasureOptions<'_>) -> Result<Vec<Measurements>> {
    let (height, width) = labels.dim();
    if let Some(size) = options.pixel_size
        && !size.iter().all(|side| side.is_finite() && *side > 0.0)
    {
        return Err(Error::Config(format!("a pixel size of {size:?}; expected micrometres above 0, height and width")));
    }
    if let Some(image) = options.image
        && (image.height(), image.width()) != (height, width)
    {
        return Err(Error::Image(format!(
            "the image has {} x {} pixels and the label image {height} x {width}; both must be of one size",
            image.height(),
            image.width()
        )));
    }
    let objects = LabelRuns::new(labels.view())?;
    let measured = objects.iter().map(|object| {
        let mut found = shape_of(&object, labels.view());
        found.area_um2 = options.pixel_size.map(|[height, width]| found.area as f64 * height * width);
        found.intensity = match options.image {
            Some(Image::U8(samples)) => intensities(&object, samples),
            Some(Image::U16(samples)) => intensities(&object, samples),
            Some(Image::F32(samples)) => intensities(&object, samples),
            None => Vec::new(),
        };
        found
    });
    Ok(measured.collect())
}

fn shape_of(object: &LabelledRuns<'_>, labels: ArrayView2<'_, i32>) -> Measurements {
    let (height, width) = labels.dim();
    let mut moments = Moments::default();
    for run in object.runs {
        (run.begin..run.end).for_each(|x| moments.add(run.row, x));
    }
    let covariance = moments.covariance();
    let (variances, _) = symmetric_eigen(covariance);
    let [small, large] = variances.map(|variance| variance.max(0.0));
    let (convex_area, feret_diameter_max) = convex_image(object);
    let [top, left, bottom, right] = object.bounds;
    Measurements {
        label: object.label,
        centroid: moments.centroid(),
        area: object.area(),
        area_um2: None,
        intensity: Vec::new(),
        eccentricity: if large > 0.0 { (1.0 - small / large).max(0.0).sqrt() } else { 0.0 },
        perimeter: perimeter(object, labels),
        feret_diameter_max,
        axis_major_length: 4.0 * large.sqrt(),
        axis_minor_length: 4.0 * small.sqrt(),
        orientation: orientation(covariance),
        solidity: object.area() as f64 / convex_area as f64,
        touches_border: top == 0 || left == 0 || bottom + 1 == height || right + 1 == width,
    }
}

/// The angle of the long axis of the covariance `[yy, yx, xx]`; an axis of a circle is taken to be a diagonal.
fn orientation([yy, yx, xx]: [f64; 3]) -> f64 {
    if yy == xx {
        return if yx > 0.0 { std::f64::consts::FRAC_PI_4 } else { -std::f64::consts::FRAC_PI_4 };
    }
    0.5 * (2.0 * yx).atan2(yy - xx)
}

/// The estimator of Benkrid and Crookes: every border pixel counts by how its border neighbours lie.
fn perimeter(object: &LabelledRuns<'_>, labels: ArrayView2<'_, i32>) -> f64 {
    use std::f64::consts::SQRT_2;
    let (height, width) = (labels.nrows() as isize, labels.ncols() as isize);
    let is_own = |y: isize, x: isize| {
        (0..height).contains(&y) && (0..width).contains(&x) && labels[[y as usize, x as usize]] == object.label
    };
    let sides = [(-1, 0), (1, 0), (0, -1), (0, 1)];
    let is_border = |y: isize, x: isize| is_own(y, x) && !sides.iter().all(|(dy, dx)| is_own(y + dy, x + dx));
    let mut total = 0.0;
    for run in object.runs {
        let y = run.row as isize;
        for x in (run.begin..run.end).map(|x| x as isize) {
            if !is_border(y, x) {
                continue;
            }
            let count =
                |offsets: [(isize, isize); 4]| offsets.iter().filter(|(dy, dx)| is_border(y + dy, x + dx)).count();
            let (straight, diagonal) = (count(sides), count([(-1, -1), (-1, 1), (1, -1), (1, 1)]));
            total += match 1 + 2 * straight + 10 * diagonal {
                5 | 7 | 15 | 17 | 25 | 27 => 1.0,
                21 | 33 => SQRT_2,
                13 | 23 => (1.0 + SQRT_2) / 2.0,
                _ => 0.0,
            };
        }
    }
    total
}

/// Of the convex image (the pixels whose centres lie in the hull of the middles of all pixel sides): its area in pixels,
/// and the largest distance between the middles of the sides of two of its pixels.
fn convex_image(object: &LabelledRuns<'_>) -> (usize, f64) {
    let hull = hull_of(middles(object.runs));
    let rows = object.bounds[2] - object.bounds[0] + 1;
    // First and last column of each row, in whole pixels.
    let mut columns = vec![(i64::MAX, i64::MIN); rows];
    let next = hull.iter().cycle().skip(1);
    for (a, b) in hull.iter().zip(next) {
        let (low, high) = if a[0] <= b[0] { (a, b) } else { (b, a) };
        let (dy, dx) = (high[0] - low[0], high[1] - low[1]);
        // Coordinates are doubled: centres of pixels lie at even numbers.
        let mut y = low[0] + (low[0] & 1);
        while y <= high[0] && dy > 0 {
            let row = &mut columns[(y / 2) as usize - object.bounds[0]];
            // x / dy is the doubled column on the edge.
            let x = low[1] * dy + dx * (y - low[0]);
            row.0 = row.0.min(-(-x).div_euclid(2 * dy));
            row.1 = row.1.max(x.div_euclid(2 * dy));
            y += 2;
        }
    }
    let runs = columns.iter().zip(object.bounds[0]..).filter(|((begin, end), _)| begin <= end);
    let runs: Vec<Run> =
        runs.map(|((begin, end), row)| Run { row, begin: *begin as usize, end: *end as usize + 1 }).collect();
    let outer = hull_of(middles(&runs));
    let mut longest = 0;
    for (at, a) in outer.iter().enumerate() {
        for b in &outer[at + 1..] {
            longest = longest.max((a[0] - b[0]).pow(2) + (a[1] - b[1]).pow(2));
        }
    }
    (runs.iter().map(Run::len).sum(), (longest as f64).sqrt() / 2.0)
}

/// The middles of the outer sides of runs, in doubled coordinates; those between the ends of a run are on no hull.
fn middles(runs: &[Run]) -> Vec<[i64; 2]> {
    let mut points = Vec::with_capacity(6 * runs.len());
    for run in runs {
        let (y, begin, end) = (2 * run.row as i64, 2 * run.begin as i64, 2 * run.end as i64 - 2);
        points.extend([[y, begin - 1], [y, end + 1], [y - 1, begin], [y + 1, begin], [y - 1, end], [y + 1, end]]);
    }
    points
}

fn intensities<T: Copy + Into<f64>>(object: &LabelledRuns<'_>, samples: &Array3<T>) -> Vec<Intensity> {
    let channels = samples.dim().2;
    let mut found = vec![Intensity { mean: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }; channels];
    for run in object.runs {
        for x in run.begin..run.end {
            for (channel, intensity) in found.iter_mut().enumerate() {
                let value: f64 = samples[[run.row, x, channel]].into();
                intensity.mean += value;
                intensity.min = intensity.min.min(value);
                intensity.max = intensity.max.max(value);
            }
        }
    }
    let area = object.area() as f64;
    found.iter_mut().for_each(|intensity| intensity.mean /= area);
    found
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn one(labels: LabelImage) -> Measurements {
        let found = measure(&labels, &MeasureOptions::default()).unwrap();
        assert_eq!(found.len(), 1);
        found.into_iter().next().unwrap()
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    // The expected numbers are those of scikit-image 0.26.
    #[test]
    fn a_pixel_and_a_line() {
        let pixel = one(array![[0, 0], [0, 5]]);
        assert_eq!((pixel.label, pixel.centroid, pixel.area), (5, [1.0, 1.0], 1));
        assert_eq!((pixel.eccentricity, pixel.perimeter, pixel.feret_diameter_max), (0.0, 0.0, 1.0));
        assert_eq!((pixel.axis_major_length, pixel.axis_minor_length, pixel.solidity), (0.0, 0.0, 1.0));
        assert_eq!(pixel.orientation, -std::f64::consts::FRAC_PI_4);
        let line = one(array![[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]);
        assert_eq!((line.eccentricity, line.perimeter, line.feret_diameter_max), (1.0, 1.0, 3.0));
        close(line.axis_major_length, 4.0 * (2.0_f64 / 3.0).sqrt());
        close(line.orientation, std::f64::consts::FRAC_PI_2);
        assert!(pixel.touches_border && !line.touches_border);
    }

    #[test]
    fn an_angle_has_a_convex_image_of_its_own() {
        let mut labels = Array2::zeros((8, 8));
        labels.slice_mut(ndarray::s![1..7, 1]).fill(3);
        labels.slice_mut(ndarray::s![6, 1..7]).fill(3);
        let angle = one(labels);
        assert_eq!(angle.area, 11);
        close(angle.solidity, 11.0 / 21.0);
        close(angle.feret_diameter_max, 61.0_f64.sqrt());
        close(angle.perimeter, 9.0);
        close(angle.eccentricity, 0.862_439_361_864_100_2);
        close(angle.axis_major_length, 8.944_271_909_999_158);
        close(angle.orientation, std::f64::consts::FRAC_PI_4);
    }

    #[test]
    fn intensities_of_every_channel_and_sizes() {
        let samples = Array3::from_shape_fn((2, 3, 2), |(y, x, c)| (100 * c + 10 * y + x) as u8);
        let image = Image::U8(samples);
        let labels = array![[0, 2, 2], [-1, 2, 9]];
        let options = MeasureOptions { image: Some(&image), pixel_size: Some([0.5, 0.25]) };
        let found = measure(&labels, &options).unwrap();
        assert_eq!(found.iter().map(|one| one.label).collect::<Vec<_>>(), [2, 9]);
        assert_eq!(found[0].intensity[0], Intensity { mean: 14.0 / 3.0, min: 1.0, max: 11.0 });
        assert_eq!(found[1].intensity[1], Intensity { mean: 112.0, min: 112.0, max: 112.0 });
        assert_eq!((found[0].area_um2, found[1].area_um2), (Some(0.375), Some(0.125)));
        let other = Image::from_gray(Array2::zeros((3, 3)));
        let wrong = MeasureOptions { image: Some(&other), pixel_size: None };
        assert!(matches!(measure(&labels, &wrong), Err(Error::Image(_))));
        for size in [[0.0, 1.0], [f64::NAN, 1.0], [1.0, -1.0]] {
            let wrong = MeasureOptions { image: None, pixel_size: Some(size) };
            assert!(matches!(measure(&labels, &wrong), Err(Error::Config(_))));
        }
        assert!(measure(&Array2::zeros((0, 4)), &MeasureOptions::default()).unwrap().is_empty());
    }
}
