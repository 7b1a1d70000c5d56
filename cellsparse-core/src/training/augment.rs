//! Random changes of training patches that leave the target the same, or change it with the image.

use ndarray::{ArrayView2, ArrayView3, Axis};

use crate::random::Random;
use crate::raster::LabelImage;

/// The ranges that the change of each patch is drawn from. The default is the recipe of the StarDist examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// Whether to draw one of the 8 symmetries of the square, each equally likely. Default true.
    pub symmetries: bool,
    /// Range of the factor of all samples, one draw a patch. Default `[0.6, 2]`.
    pub scale: [f64; 2],
    /// Range of what is then added to all samples, one draw a patch. Default `[-0.2, 0.2]`.
    pub shift: [f64; 2],
    /// Largest standard deviation of the normal noise that is then added to each sample; the deviation of a patch is
    /// uniform from 0 to this. Default 0.02.
    pub noise: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self { symmetries: true, scale: [0.6, 2.0], shift: [-0.2, 0.2], noise: 0.02 }
    }
}

impl Augmentation {
    /// No change at all, for validation.
    pub fn none() -> Self {
        Self { symmetries: false, scale: [1.0, 1.0], shift: [0.0, 0.0], noise: 0.0 }
    }

    /// The change of one patch.
    pub fn draw(&self, random: &mut Random) -> PatchChange {
        let mut coin = || self.symmetries && random.chance(0.5);
        let (transpose, flip_rows, flip_columns) = (coin(), coin(), coin());
        PatchChange {
            transpose,
            flip_rows,
            flip_columns,
            scale: random.uniform(self.scale[0], self.scale[1]) as f32,
            shift: random.uniform(self.shift[0], self.shift[1]) as f32,
            noise: (self.noise * random.unit()) as f32,
        }
    }
}

/// One drawn change: first the axes are exchanged, then they are flipped, then the samples are changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchChange {
    /// Exchange rows and columns; only for square patches.
    pub transpose: bool,
    /// Reverse the order of the rows.
    pub flip_rows: bool,
    /// Reverse the order of the columns.
    pub flip_columns: bool,
    /// Factor of all samples.
    pub scale: f32,
    /// Added to all samples after that.
    pub shift: f32,
    /// Standard deviation of the normal noise added after that.
    pub noise: f32,
}

impl PatchChange {
    /// Writes the changed patch `[H, W, C]` to `out` in row-major order; what does not fit is left out.
    pub fn image(&self, patch: ArrayView3<'_, f32>, random: &mut Random, out: &mut [f32]) {
        let channels = patch.dim().2;
        for c in 0..channels {
            let plane = self.turn(patch.index_axis(Axis(2), c));
            let rows = out.chunks_exact_mut((plane.ncols() * channels).max(1));
            for (source, row) in plane.outer_iter().zip(rows) {
                for (sample, value) in row.iter_mut().skip(c).step_by(channels).zip(source) {
                    *sample = value * self.scale + self.shift;
                }
            }
        }
        if self.noise > 0.0 {
            add_noise(out, self.noise, random);
        }
    }

    /// The changed labels of a patch `[H, W]`: only the symmetry acts on them.
    pub fn labels(&self, patch: ArrayView2<'_, i32>) -> LabelImage {
        self.turn(patch).as_standard_layout().into_owned()
    }

    /// Changes only the samples, in place, whatever symmetry was drawn.
    pub fn samples(&self, random: &mut Random, samples: &mut [f32]) {
        samples.iter_mut().for_each(|sample| *sample = *sample * self.scale + self.shift);
        if self.noise > 0.0 {
            add_noise(samples, self.noise, random);
        }
    }

    fn turn<'a, T>(&self, mut patch: ArrayView2<'a, T>) -> ArrayView2<'a, T> {
        if self.transpose {
            patch.swap_axes(0, 1);
        }
        if self.flip_rows {
            patch.invert_axis(Axis(0));
        }
        if self.flip_columns {
            patch.invert_axis(Axis(1));
        }
        patch
    }
}

/// Adds normal noise, two samples from 64 random bits (Box-Muller with 32-bit uniform numbers).
fn add_noise(samples: &mut [f32], deviation: f32, random: &mut Random) {
    const UNIT: f32 = 1.0 / 4_294_967_296.0;
    for pair in samples.chunks_mut(2) {
        let bits = random.bits();
        // In (0, 1], so that the logarithm is finite.
        let first = ((bits >> 32) as f32 + 1.0) * UNIT;
        let angle = (bits as u32) as f32 * (UNIT * std::f32::consts::TAU);
        let radius = deviation * (-2.0 * first.min(1.0).ln()).sqrt();
        let (sine, cosine) = angle.sin_cos();
        for (sample, direction) in pair.iter_mut().zip([cosine, sine]) {
            *sample += radius * direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ndarray::{Array3, array};

    use super::*;

    #[test]
    fn the_eight_symmetries_are_equally_likely_and_keep_image_and_labels_together() {
        let labels = array![[1, 2], [3, 4]];
        let image = labels.mapv(|value| value as f32).insert_axis(Axis(2));
        let augmentation = Augmentation { symmetries: true, ..Augmentation::none() };
        let mut random = Random::new(0, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..8000 {
            let change = augmentation.draw(&mut random);
            let mut out = [0.0; 4];
            change.image(image.view(), &mut random, &mut out);
            let changed = change.labels(labels.view());
            assert!(changed.iter().zip(&out).all(|(&label, &sample)| label as f32 == sample));
            *counts.entry(changed.into_raw_vec_and_offset().0).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 8);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_transposition_comes_before_the_flips() {
        let change =
            PatchChange { transpose: true, flip_rows: true, ..Augmentation::none().draw(&mut Random::new(0, 0)) };
        // Transposed: [[1, 3], [2, 4]].
        assert_eq!(change.labels(array![[1, 2], [3, 4]].view()), array![[2, 4], [1, 3]]);
    }

    #[test]
    fn intensities_follow_the_ranges() {
        let image = Array3::from_elem((64, 64, 2), 0.5f32);
        let mut scales = HashSet::new();
        for patch in 0..50 {
            let mut random = Random::new(9, patch);
            let change = Augmentation::default().draw(&mut random);
            assert!((0.6..=2.0).contains(&change.scale) && (-0.2..=0.2).contains(&change.shift));
            assert!((0.0..=0.02).contains(&change.noise));
            scales.insert(change.scale.to_bits());
            let mut out = vec![0.0; image.len()];
            change.image(image.view(), &mut random, &mut out);
            let n = out.len() as f32;
            let mean = out.iter().sum::<f32>() / n;
            let deviation = (out.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / n).sqrt();
            assert!((mean - (0.5 * change.scale + change.shift)).abs() < 1e-3);
            assert!((deviation - change.noise).abs() < 0.05 * change.noise + 1e-5, "{deviation} {}", change.noise);
        }
        assert!(scales.len() > 40);
    }

    #[test]
    fn no_augmentation_changes_nothing() {
        let image = Array3::from_shape_fn((3, 4, 1), |(y, x, _)| (y * 4 + x) as f32);
        let mut random = Random::new(1, 1);
        let mut out = vec![0.0; 12];
        Augmentation::none().draw(&mut random).image(image.view(), &mut random, &mut out);
        assert_eq!(out, image.into_raw_vec_and_offset().0);
    }
}
