//! Cells as ellipses around the blobs of a centre probability: the post-processing of the original ELEPHANT.
//!
//! Sugawara, Cevrim and Averof, "Tracking cell lineages in 3D by incremental deep learning", eLife 11, 2022. A cell is
//! an ellipse, one for every connected blob of centre pixels. The watershed of
//! [`postprocess::elephant`](crate::postprocess::elephant) follows the real outline instead.

use ndarray::{Array2, ArrayView2};

use crate::budget::{array, mapped};
use crate::error::{Error, Result};
use crate::geometry::ellipse::{Ellipse, Moments, symmetric_eigen};
use crate::raster::{Connectivity, LabelImage, label_components};

/// How blobs become ellipses.
#[derive(Debug, Clone, PartialEq)]
pub struct SpotOptions {
    /// A pixel belongs to a blob when its centre probability is above this. Default 0.8.
    pub threshold: f32,
    /// Size of the centre of a cell as a fraction of the size of the cell, greater than 0. Default 0.5.
    pub center_ratio: f64,
    /// Smallest radius of a cell in pixels. Default 0.
    pub min_radius: f64,
    /// Largest radius of a cell in pixels; larger ones are cut to it. Default 100.
    pub max_radius: f64,
}

impl Default for SpotOptions {
    fn default() -> Self {
        Self { threshold: 0.8, center_ratio: 0.5, min_radius: 0.0, max_radius: 100.0 }
    }
}

/// One cell as an ellipse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// Row and column of the centre.
    pub center: [f64; 2],
    /// `[yy, yx, xx]` of the matrix whose eigenvalues are the squares of the radii, in the directions of the axes.
    pub covariance: [f64; 3],
}

/// The ellipses of the 8-connected blobs of a centre probability `[H, W]`, in the raster order of their first pixels.
///
/// The radii of a blob are twice the standard deviations of its pixels (each coordinate stretched by `(n + 1) / n` for a
/// bounding box of `n` pixels) divided by the centre ratio. Blobs of one pixel, and blobs or radii smaller than the
/// smallest radius allows, are left out.
///
/// # Errors
/// [`Error::Config`] for an unusable centre ratio or radius, [`Error::Limit`] for 2^31 pixels and more.
pub fn find_spots(center: ArrayView2<'_, f32>, options: &SpotOptions) -> Result<Vec<Spot>> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let radii = [options.min_radius, options.max_radius];
    if !positive(options.center_ratio) || radii.iter().any(|radius| radius.is_nan() || *radius < 0.0) {
        return Err(Error::Config(format!(
            "a centre ratio of {} and radii from {} to {}; the ratio must be above 0 and no radius below 0",
            options.center_ratio, radii[0], radii[1]
        )));
    }
    let inside = mapped(center, "the spots in a map", |p| p > options.threshold)?;
    let (blobs, count) = label_components(inside.view(), Connectivity::Eight)?;
    let mut found = vec![(Moments::default(), [[usize::MAX, 0]; 2]); count];
    for ((y, x), &id) in blobs.indexed_iter().filter(|(_, id)| **id > 0) {
        let (moments, bounds) = &mut found[id as usize - 1];
        moments.add(y, x);
        for (bounds, at) in bounds.iter_mut().zip([y, x]) {
            *bounds = [bounds[0].min(at), bounds[1].max(at)];
        }
    }
    Ok(found.iter().filter_map(|(moments, bounds)| spot(moments, bounds, options)).collect())
}

fn spot(moments: &Moments, bounds: &[[usize; 2]; 2], options: &SpotOptions) -> Option<Spot> {
    let smallest = options.min_radius * options.center_ratio;
    if (moments.area() as f64) < std::f64::consts::PI * smallest * smallest {
        return None;
    }
    let [sy, sx] = bounds.map(|[first, last]| {
        let side = (last - first + 1) as f64;
        (side + 1.0) / side
    });
    let [yy, yx, xx] = moments.covariance();
    let covariance = [yy * sy * sy, yx * sy * sx, xx * sx * sx];
    if covariance == [0.0; 3] {
        return None;
    }
    let (values, axes) = symmetric_eigen(covariance);
    if values.iter().any(|value| *value < 0.0) {
        return None;
    }
    let mut squares = [0.0; 2];
    for (square, value) in squares.iter_mut().zip(values) {
        let mut radius = 2.0 * value.sqrt() / options.center_ratio;
        if radius == 0.0 {
            radius = options.min_radius.max(1.0);
        }
        if radius < options.min_radius {
            return None;
        }
        *square = radius.min(options.max_radius).powi(2);
    }
    let entry = |i: usize, j: usize| (0..2).map(|k| axes[k][i] * squares[k] * axes[k][j]).sum();
    Some(Spot { center: moments.centroid(), covariance: [entry(0, 0), entry(0, 1), entry(1, 1)] })
}

/// Paints spots into a label image of `shape = [rows, columns]`; spot `k` gets the id `k + 1`.
///
/// Where ellipses overlap, a pixel goes to the spot whose centre is nearest in units of its radii, in steps of 0.05; on
/// equal steps, and below a distance of 0.25, the last spot has it. The pixel at the centre of a spot is always its own,
/// unless a later spot has the same centre pixel.
///
/// # Errors
/// [`Error::Limit`] for more spots than 32-bit ids.
pub fn draw_spots(spots: &[Spot], shape: [usize; 2]) -> Result<LabelImage> {
    if i32::try_from(spots.len()).is_err() {
        return Err(Error::Limit(format!("{} spots do not fit 32-bit ids", spots.len())));
    }
    let mut labels: LabelImage = array(shape, "a label image of spots")?;
    // One more than the level of the pixel, 0 where no spot was.
    let mut levels: Array2<u8> = array(shape, "a label image of spots")?;
    for (id, spot) in (1..).zip(spots) {
        let (squares, axes) = symmetric_eigen(spot.covariance);
        let ellipse = Ellipse { center: spot.center, radii: squares.map(|square| square.max(0.0).sqrt()), axes };
        ellipse.for_each_pixel(shape, 1.0, |y, x, distance| {
            let level = level(distance.sqrt());
            if level >= levels[[y, x]] {
                levels[[y, x]] = level;
                labels[[y, x]] = id;
            }
        });
    }
    for (id, spot) in (1..).zip(spots) {
        let [y, x] = spot.center;
        if y >= 0.0
            && x >= 0.0
            && let Some(label) = labels.get_mut([y as usize, x as usize])
        {
            *label = id;
        }
    }
    Ok(labels)
}

/// The number of ellipses with radii 1, 0.95, 0.9, ... 0.25 that a point at this distance below 1 lies strictly inside.
fn level(distance: f64) -> u8 {
    let inside = |i: u8| distance < 1.0 - 0.05 * f64::from(i);
    let mut level = ((1.0 - distance) * 20.0).clamp(0.0, 15.0) as u8;
    // The estimate may be off by one where the distance lies on a step.
    while level > 0 && !inside(level) {
        level -= 1;
    }
    while level < 15 && inside(level + 1) {
        level += 1;
    }
    level + 1
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn one_pass_paints_like_sixteen_layers() {
        let spots = [
            Spot { center: [10.2, 12.0], covariance: [40.0, 9.0, 60.0] },
            Spot { center: [14.0, 20.5], covariance: [90.0, -20.0, 50.0] },
            Spot { center: [14.4, 20.0], covariance: [16.0, 0.0, 16.0] },
            Spot { center: [0.0, 33.0], covariance: [30.0, 2.0, 80.0] },
        ];
        let shape = [24, 36];
        let mut expected = LabelImage::zeros(shape);
        for i in 0..16 {
            for (id, spot) in (1..).zip(&spots) {
                let (squares, axes) = symmetric_eigen(spot.covariance);
                let ellipse = Ellipse { center: spot.center, radii: squares.map(f64::sqrt), axes };
                let layer = ellipse.scaled(1.0 - 0.05 * f64::from(i));
                layer.for_each_pixel(shape, 1.0, |y, x, _| expected[[y, x]] = id);
            }
        }
        for (id, spot) in (1..).zip(&spots) {
            expected[spot.center.map(|at| at as usize)] = id;
        }
        assert_eq!(draw_spots(&spots, shape).unwrap(), expected);
    }

    #[test]
    fn odd_inputs_have_an_answer() {
        let options = SpotOptions::default();
        assert!(find_spots(Array2::zeros((0, 7)).view(), &options).unwrap().is_empty());
        assert!(find_spots(Array2::from_elem((5, 5), f32::NAN).view(), &options).unwrap().is_empty());
        // One pixel has no size; a line gets the smallest radius across.
        let mut center = Array2::zeros((9, 9));
        center[[2, 2]] = 1.0;
        assert!(find_spots(center.view(), &options).unwrap().is_empty());
        center.row_mut(6).fill(1.0);
        let spots = find_spots(center.view(), &options).unwrap();
        assert_eq!(spots.len(), 1);
        assert!((spots[0].covariance[0] - 1.0).abs() < 1e-12, "{spots:?}");
        for wrong in [0.0, -1.0, f64::NAN] {
            assert!(find_spots(center.view(), &SpotOptions { center_ratio: wrong, ..options.clone() }).is_err());
        }
        let far = Spot { center: [-3.0, f64::NAN], covariance: [f64::NAN, 0.0, -1.0] };
        assert_eq!(draw_spots(&[far], [4, 4]).unwrap(), LabelImage::zeros((4, 4)));
        assert_eq!(draw_spots(&[], [0, 4]).unwrap().dim(), (0, 4));
    }
}
