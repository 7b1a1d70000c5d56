//! Smooth random textures on a lattice.

use crate::random::Random;

/// A smooth random function of the plane: normal deviates on a square lattice, joined by cubic B-splines.
///
/// Its standard deviation is about 1 and its grains are about `cell` pixels wide.
#[derive(Debug, Clone)]
pub(super) struct Texture {
    values: Vec<f32>,
    side: usize,
    cell: f32,
}

/// Restores unit variance: the tensor product of two cubic B-splines keeps 0.23 of it on average.
const GAIN: f32 = 2.1;

impl Texture {
    /// A texture over `[0, extent]` in both axes with grains of `cell` pixels.
    pub(super) fn new(extent: f32, cell: f32, random: &mut Random) -> Self {
        let side = (extent / cell).ceil().clamp(1.0, 4096.0) as usize + 4;
        let values = (0..side * side).map(|_| random.normal() as f32).collect();
        Self { values, side, cell }
    }

    /// The value at `(y, x)`; coordinates outside the extent repeat the border.
    pub(super) fn at(&self, y: f32, x: f32) -> f32 {
        let (row, rows) = self.locate(y);
        let (column, columns) = self.locate(x);
        let mut sum = 0.0;
        for (i, weight_y) in rows.iter().enumerate() {
            let start = (row + i) * self.side + column;
            let line = &self.values[start..start + 4];
            sum += weight_y * line.iter().zip(&columns).map(|(value, weight)| value * weight).sum::<f32>();
        }
        GAIN * sum
    }

    /// First lattice node and the four B-spline weights of a coordinate; the node is at most `side - 4`.
    fn locate(&self, coordinate: f32) -> (usize, [f32; 4]) {
        let position = (coordinate / self.cell).clamp(0.0, (self.side - 4) as f32);
        let node = (position as usize).min(self.side - 4);
        let t = position - node as f32;
        let (t2, t3) = (t * t, t * t * t);
        let weights = [
            (1.0 - 3.0 * t + 3.0 * t2 - t3) / 6.0,
            (4.0 - 6.0 * t2 + 3.0 * t3) / 6.0,
            (1.0 + 3.0 * t + 3.0 * t2 - 3.0 * t3) / 6.0,
            t3 / 6.0,
        ];
        (node, weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_texture_is_smooth_and_has_unit_spread() {
        let texture = Texture::new(200.0, 5.0, &mut Random::new(3, 0));
        let samples: Vec<f32> =
            (0..200).flat_map(|y| (0..200).map(move |x| (y, x))).map(|(y, x)| texture.at(y as f32, x as f32)).collect();
        let mean = samples.iter().sum::<f32>() / samples.len() as f32;
        let variance = samples.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / samples.len() as f32;
        assert!(mean.abs() < 0.2, "mean {mean}");
        assert!((0.8..1.2).contains(&variance.sqrt()), "deviation {}", variance.sqrt());
        let step = (texture.at(50.0, 50.1) - texture.at(50.0, 50.0)).abs();
        assert!(step < 0.15, "step {step}");
        assert!(texture.at(-5.0, 1e9).is_finite());
    }
}
