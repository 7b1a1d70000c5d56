//! Ellipses of the second moments of pixel sets, and the pixels that an ellipse covers.

/// Sums over the pixels of one region, from which its moments follow without rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    count: u64,
    first: [u64; 2],
    /// Of `y * y`, `y * x`, `x * x`.
    second: [u128; 3],
}

impl Moments {
    /// Adds the pixel in row `y` and column `x`.
    pub fn add(&mut self, y: usize, x: usize) {
        let (y, x) = (y as u64, x as u64);
        self.count += 1;
        self.first[0] += y;
        self.first[1] += x;
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        self.second[0] += product(y, y);
        self.second[1] += product(y, x);
        self.second[2] += product(x, x);
    }

    /// Number of pixels.
    pub fn area(&self) -> u64 {
        self.count
    }

    /// Mean row and column; not finite without a pixel.
    pub fn centroid(&self) -> [f64; 2] {
        self.first.map(|sum| sum as f64 / self.count as f64)
    }

    /// Covariance `[yy, yx, xx]` of the pixel centres; not finite without a pixel.
    pub fn covariance(&self) -> [f64; 3] {
        let n = u128::from(self.count);
        let squared = self.count as f64 * self.count as f64;
        // n^2 times the covariance is a whole number, so a straight line has exactly no width.
        let exact = |second: u128, a: u64, b: u64| {
            let (all, mean) = (n.saturating_mul(second), u128::from(a) * u128::from(b));
            if all >= mean { (all - mean) as f64 / squared } else { -((mean - all) as f64 / squared) }
        };
        let [y, x] = self.first;
        [exact(self.second[0], y, y), exact(self.second[1], y, x), exact(self.second[2], x, x)]
    }
}

/// Eigenvalues in ascending order and unit eigenvectors of the symmetric matrix `[[yy, yx], [yx, xx]]`. `vectors[k]` is
/// `[y, x]` of the vector of value `k`.
pub fn symmetric_eigen([yy, yx, xx]: [f64; 3]) -> ([f64; 2], [[f64; 2]; 2]) {
    if yx == 0.0 {
        return if yy <= xx { ([yy, xx], [[1.0, 0.0], [0.0, 1.0]]) } else { ([xx, yy], [[0.0, 1.0], [1.0, 0.0]]) };
    }
    // Jacobi rotation by the smaller of the two angles that make the matrix diagonal.
    let ratio = (xx - yy) / (2.0 * yx);
    let tangent = ratio.signum() / (ratio.abs() + ratio.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    let (first, second) = (yy - tangent * yx, xx + tangent * yx);
    if first <= second {
        ([first, second], [[cosine, -sine], [sine, cosine]])
    } else {
        ([second, first], [[sine, cosine], [cosine, -sine]])
    }
}

/// An ellipse in the plane of the pixel centres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ellipse {
    /// Row and column of the centre.
    pub center: [f64; 2],
    /// Lengths of the half axes.
    pub radii: [f64; 2],
    /// Unit vectors `[y, x]` of the half axes, at right angles.
    pub axes: [[f64; 2]; 2],
}

impl Ellipse {
    /// The same ellipse with both radii multiplied by `factor`.
    pub fn scaled(&self, factor: f64) -> Self {
        Self { radii: self.radii.map(|radius| radius * factor), ..*self }
    }

    /// The square of the distance of a point from the centre, in units of the radii: below 1 inside.
    pub fn distance_squared(&self, y: f64, x: f64) -> f64 {
        let (dy, dx) = (y - self.center[0], x - self.center[1]);
        let along = |k: usize| (self.axes[k][0] * dy + self.axes[k][1] * dx) / self.radii[k];
        along(0).powi(2) + along(1).powi(2)
    }

    /// First and last row and column, inclusive, of the pixels of an image of `shape` that may lie inside; `None` when
    /// there are none, or when the centre is not a number.
    pub fn bounds(&self, shape: [usize; 2]) -> Option<[[usize; 2]; 2]> {
        let mut bounds = [[0; 2]; 2];
        for k in 0..2 {
            // Half a pixel more than the exact extent covers all rounding.
            let reach = (self.radii[0] * self.axes[0][k]).hypot(self.radii[1] * self.axes[1][k]) + 0.5;
            let (low, high) = ((self.center[k] - reach).ceil(), (self.center[k] + reach).floor());
            let last = shape[k].checked_sub(1)? as f64;
            if !(low <= last && high >= 0.0 && low <= high) {
                return None;
            }
            bounds[k] = [low.max(0.0) as usize, high.min(last) as usize];
        }
        Some(bounds)
    }

    /// Calls `visit(row, column, squared distance)` for all pixels inside (squared distance below `limit`, at most 1)
    /// of an image of `shape`, in raster order.
    pub fn for_each_pixel(&self, shape: [usize; 2], limit: f64, mut visit: impl FnMut(usize, usize, f64)) {
        let Some([rows, columns]) = self.bounds(shape) else { return };
        for y in rows[0]..=rows[1] {
            for x in columns[0]..=columns[1] {
                let distance = self.distance_squared(y as f64, x as f64);
                if distance < limit {
                    visit(y, x, distance);
                }
            }
        }
    }

    /// Number of pixels of an image of `shape` inside.
    pub fn pixels(&self, shape: [usize; 2]) -> usize {
        let mut count = 0;
        self.for_each_pixel(shape, 1.0, |_, _, _| count += 1);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn eigenvectors_belong_to_their_values() {
        let mut random = Random::new(1, 0);
        for _ in 0..1000 {
            let [yy, yx, xx] = std::array::from_fn(|_| random.uniform(-3.0, 3.0));
            let (values, vectors) = symmetric_eigen([yy, yx, xx]);
            assert!(values[0] <= values[1]);
            for (value, [y, x]) in values.into_iter().zip(vectors) {
                assert!((yy * y + yx * x - value * y).abs() < 1e-12 && (yx * y + xx * x - value * x).abs() < 1e-12);
                assert!((y * y + x * x - 1.0).abs() < 1e-12);
            }
            let [[a, b], [c, d]] = vectors;
            assert!((a * c + b * d).abs() < 1e-12);
        }
        assert_eq!(symmetric_eigen([2.0, 0.0, 1.0]).0, [1.0, 2.0]);
        assert_eq!(symmetric_eigen([1.0, 1.0, 1.0]).0, [0.0, 2.0]);
    }

    #[test]
    fn a_line_has_no_width() {
        let mut line = Moments::default();
        (0..7).for_each(|x| line.add(100_003, 50_000 + x));
        assert_eq!(line.covariance(), [0.0, 0.0, 4.0]);
        assert_eq!(line.centroid(), [100_003.0, 50_003.0]);
    }

    #[test]
    fn pixels_inside_are_found_whatever_the_direction() {
        for step in 0..12 {
            let (sine, cosine) = (f64::from(step) * 0.3).sin_cos();
            let ellipse = Ellipse { center: [9.3, 14.1], radii: [3.0, 8.0], axes: [[cosine, sine], [-sine, cosine]] };
            let shape = [20, 21];
            let mut expected = 0;
            for y in 0..20 {
                for x in 0..21 {
                    expected += usize::from(ellipse.distance_squared(f64::from(y), f64::from(x)) < 1.0);
                }
            }
            assert_eq!(ellipse.pixels(shape), expected);
        }
        let none = Ellipse { center: [f64::NAN, 0.0], radii: [1.0, 1.0], axes: [[1.0, 0.0], [0.0, 1.0]] };
        assert_eq!(none.pixels([5, 5]), 0);
        assert_eq!(Ellipse { center: [90.0, 0.0], ..none }.pixels([5, 5]), 0);
        assert_eq!(Ellipse { center: [2.0, 2.0], radii: [f64::INFINITY; 2], ..none }.pixels([5, 5]), 25);
        assert_eq!(Ellipse { center: [0.0, 0.0], ..none }.pixels([0, 5]), 0);
    }
}
