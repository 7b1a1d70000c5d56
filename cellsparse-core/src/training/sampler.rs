//! Where training patches are cut.

use std::sync::{Mutex, PoisonError};

use ndarray::ArrayView2;

use crate::budget::pushed;
use crate::error::{Error, Result};
use crate::random::Random;

/// First of the [`Random`] streams that patches use: patch `n` of a training takes `PATCH_STREAM + n`.
pub const PATCH_STREAM: u64 = 1 << 40;

/// First of the [`Random`] streams that order the images: pass `n` through the images takes `ORDER_STREAM + n`.
pub const ORDER_STREAM: u64 = 1 << 60;

/// Which patches may be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SamplingPolicy {
    /// Every patch contains an annotated pixel (object or background), so every patch teaches something. Images
    /// without an annotation are never drawn. With the foreground fraction, the patch contains an object pixel.
    #[default]
    Annotated,
    /// The rule of StarDist: with the foreground fraction, the patch contains an object pixel; otherwise, and in images
    /// without an object, it lies anywhere and may be unlabelled altogether.
    Reference,
}

/// The place of one patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchOrigin {
    /// Index of the image.
    pub image: usize,
    /// First row of the patch.
    pub row: usize,
    /// First column of the patch.
    pub column: usize,
}

/// Draws the places of training patches; a pure function of the seed and of the number of the patch.
#[derive(Debug, Clone)]
pub struct PatchSampler {
    foreground_fraction: f64,
    images: Vec<Corners>,
    /// The images that are drawn from.
    used: Vec<usize>,
    latest: Latest,
}

/// The order of the images that was asked for last: of many images, many patches have one order.
#[derive(Debug, Default)]
struct Latest(Mutex<Option<(u64, u64, Vec<usize>)>>);

impl Clone for Latest {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Latest {
    /// Place `at` of the order `pass` of `count` images.
    fn place(&self, seed: u64, pass: u64, count: usize, at: usize) -> usize {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((of, number, order)) if (*of, *number) == (seed, pass) => order[at],
            _ => {
                let order = Random::new(seed, ORDER_STREAM.wrapping_add(pass)).permutation(count);
                let place = order[at];
                *latest = Some((seed, pass, order));
                place
            }
        }
    }
}

/// Where the patches of one image may begin.
#[derive(Debug, Clone)]
struct Corners {
    foreground: PatchOrigins,
    others: PatchOrigins,
}

impl PatchSampler {
    /// Looks for the possible places in every label image, once.
    ///
    /// `patch` is `[rows, columns]`; `foreground_fraction` is a probability (0.9 in StarDist).
    ///
    /// # Errors
    /// [`Error::Config`] for an empty patch or a fraction outside `[0, 1]`; [`Error::Labels`] without a label image, for
    /// one that is smaller than the patch, or, with [`SamplingPolicy::Annotated`], when nothing is annotated.
    pub fn new(
        labels: &[ArrayView2<'_, i32>],
        patch: [usize; 2],
        foreground_fraction: f64,
        policy: SamplingPolicy,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&foreground_fraction) {
            return Err(Error::Config(format!(
                "the foreground fraction is {foreground_fraction}; it must be from 0 to 1"
            )));
        }
        let mut images = Vec::with_capacity(labels.len());
        for labels in labels {
            images.push(Corners {
                foreground: PatchOrigins::containing(*labels, patch, |value| value > 0)?,
                others: match policy {
                    SamplingPolicy::Annotated => PatchOrigins::containing(*labels, patch, |value| value >= 0)?,
                    SamplingPolicy::Reference => PatchOrigins::containing(*labels, patch, |_| true)?,
                },
            });
        }
        let used: Vec<usize> = (0..images.len()).filter(|&image| !images[image].others.is_empty()).collect();
        if used.is_empty() {
            return Err(Error::Labels(match labels.len() {
                0 => "there is no image to train on".into(),
                n => format!("nothing is annotated in {n} label images; draw at least one object"),
            }));
        }
        Ok(Self { foreground_fraction, images, used, latest: Latest::default() })
    }

    /// The image of patch `number` (counted over the whole training): an endless sequence of random permutations of
    /// the images, which depends on the seed alone.
    pub fn image(&self, seed: u64, number: u64) -> usize {
        let count = self.used.len() as u64;
        self.used[self.latest.place(seed, number / count, self.used.len(), (number % count) as usize)]
    }

    /// The place of patch `number`. `random` is the patch's own generator, see [`patch_random`].
    pub fn place(&self, seed: u64, number: u64, random: &mut Random) -> PatchOrigin {
        let image = self.image(seed, number);
        let Corners { foreground, others } = &self.images[image];
        let wanted = random.chance(self.foreground_fraction) && !foreground.is_empty();
        let set = if wanted { foreground } else { others };
        let (row, column) = set.nth(random.below(set.len()));
        PatchOrigin { image, row, column }
    }
}

/// The generator of everything random about patch `number` of a training.
pub fn patch_random(seed: u64, number: u64) -> Random {
    Random::new(seed, PATCH_STREAM.wrapping_add(number))
}

/// A set of first pixels of patches, stored as runs along rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatchOrigins {
    /// `(members before the run, row, first column)`, in row-major order.
    runs: Vec<(usize, usize, usize)>,
    len: usize,
}

impl PatchOrigins {
    /// All places where a patch of `[rows, columns]` lies inside the image and contains a pixel that `counts`.
    ///
    /// The centre of a patch, in the sense of StarDist, is its first pixel plus half its size, rounded down.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty patch, [`Error::Labels`] when the image is smaller than the patch.
    pub fn containing(labels: ArrayView2<'_, i32>, patch: [usize; 2], counts: impl Fn(i32) -> bool) -> Result<Self> {
        let (height, width) = labels.dim();
        let [rows, columns] = patch;
        if rows == 0 || columns == 0 {
            return Err(Error::Config(format!("a patch of {rows} x {columns} pixels; both sides must be at least 1")));
        }
        if height < rows || width < columns {
            return Err(Error::Labels(format!(
                "an image of {height} x {width} pixels is smaller than the patch of {rows} x {columns}"
            )));
        }
        // How many pixels of each column count within the rows of the patch.
        let mut found = vec![0usize; width];
        let mut set = Self::default();
        for bottom in 0..height {
            for (found, &value) in found.iter_mut().zip(labels.row(bottom)) {
                *found += usize::from(counts(value));
            }
            let Some(row) = (bottom + 1).checked_sub(rows) else { continue };
            set.add_row(row, columns, &found)?;
            for (found, &value) in found.iter_mut().zip(labels.row(row)) {
                *found -= usize::from(counts(value));
            }
        }
        Ok(set)
    }

    fn add_row(&mut self, row: usize, columns: usize, found: &[usize]) -> Result<()> {
        let mut open = false;
        let mut last = None;
        for (right, &found) in found.iter().enumerate() {
            if found > 0 {
                last = Some(right);
            }
            let Some(column) = (right + 1).checked_sub(columns) else { continue };
            let member = last.is_some_and(|last| last >= column);
            if member && !open {
                pushed(&mut self.runs, (self.len, row, column), "the places of training patches")?;
            }
            self.len += usize::from(member);
            open = member;
        }
        Ok(())
    }

    /// Number of places.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no place.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Row and column of place `n` in row-major order; of the last one, or `(0, 0)`, when there are fewer.
    pub fn nth(&self, n: usize) -> (usize, usize) {
        let n = n.min(self.len.saturating_sub(1));
        let run = self.runs.partition_point(|&(before, ..)| before <= n);
        match run.checked_sub(1).and_then(|run| self.runs.get(run)) {
            Some(&(before, row, column)) => (row, column + (n - before)),
            None => (0, 0),
        }
    }

    /// All places in row-major order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.len).map(|n| self.nth(n))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    fn sparse() -> Array2<i32> {
        let mut labels = Array2::from_elem((40, 50), -1);
        labels.slice_mut(s![30..33, 5..9]).fill(4);
        labels.slice_mut(s![2..4, 40..48]).fill(0);
        labels
    }

    #[test]
    fn corner_sets_agree_with_the_definition() {
        let labels = sparse();
        for patch in [[1, 1], [8, 8], [40, 50], [7, 12]] {
            let set = PatchOrigins::containing(labels.view(), patch, |value| value > 0).unwrap();
            let mut expected = Vec::new();
            for row in 0..=40 - patch[0] {
                for column in 0..=50 - patch[1] {
                    let window = labels.slice(s![row..row + patch[0], column..column + patch[1]]);
                    if window.iter().any(|&value| value > 0) {
                        expected.push((row, column));
                    }
                }
            }
            assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn every_patch_of_the_default_policy_is_annotated() {
        let labels = [Array2::from_elem((20, 20), -1), sparse()];
        let views: Vec<_> = labels.iter().map(|labels| labels.view()).collect();
        let sampler = PatchSampler::new(&views, [8, 8], 0.7, SamplingPolicy::Annotated).unwrap();
        let mut objects = 0;
        for number in 0..2000 {
            let place = sampler.place(5, number, &mut patch_random(5, number));
            assert_eq!(place.image, 1);
            let patch = labels[1].slice(s![place.row..place.row + 8, place.column..place.column + 8]);
            assert!(patch.iter().any(|&value| value >= 0));
            objects += usize::from(patch.iter().any(|&value| value > 0));
        }
        // 90 of the 130 annotated places contain the object: 0.7 + 0.3 * 90 / 130 = 0.908 of the patches.
        assert!((1760..1870).contains(&objects), "{objects}");
    }

    #[test]
    fn the_reference_policy_draws_every_image_equally_often() {
        let labels = [Array2::from_elem((20, 20), -1), sparse(), Array2::ones((9, 30))];
        let views: Vec<_> = labels.iter().map(|labels| labels.view()).collect();
        let sampler = PatchSampler::new(&views, [8, 8], 0.9, SamplingPolicy::Reference).unwrap();
        let images: Vec<usize> = (0..300).map(|number| sampler.image(1, number)).collect();
        for pass in images.chunks(3) {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert_eq!(pass, [0, 1, 2]);
        }
        assert_ne!(images[..30], (0..30).map(|number| sampler.image(2, number)).collect::<Vec<_>>());
        for number in 0..100 {
            let place = sampler.place(1, number, &mut patch_random(1, number));
            assert_eq!(place, sampler.place(1, number, &mut patch_random(1, number)));
            assert!(place.row + 8 <= labels[place.image].nrows() && place.column + 8 <= labels[place.image].ncols());
        }
    }

    #[test]
    fn what_cannot_be_sampled_is_refused() {
        let labels = Array2::from_elem((10, 10), -1);
        let new = |patch, share, policy| PatchSampler::new(&[labels.view()], patch, share, policy);
        assert!(new([4, 4], 0.9, SamplingPolicy::Reference).is_ok());
        assert!(new([4, 4], 0.9, SamplingPolicy::Annotated).is_err());
        assert!(new([11, 4], 0.9, SamplingPolicy::Reference).is_err());
        assert!(new([0, 4], 0.9, SamplingPolicy::Reference).is_err());
        assert!(new([4, 4], f64::NAN, SamplingPolicy::Reference).is_err());
        assert!(PatchSampler::new(&[], [4, 4], 0.9, SamplingPolicy::Reference).is_err());
    }
}
