//! Training batches of ELEPHANT: patches drawn, changed, and turned into inputs and class targets.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::Array3;
use rayon::prelude::*;

use crate::budget::resized;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::raster::LabelImage;
use crate::targets::elephant::{ClassRule, IGNORED, class_labels};
use crate::training::batch::{check_images, checked_len, extend_to, reflect_to};
use crate::training::loss_elephant::{ElephantLossConfig, SegmentationLoss};
use crate::training::measured::Measured;
use crate::training::patch::{PatchDraw, cut_patch, origin_range, rotated_size, size_range};
use crate::training::sampler::{ORDER_STREAM, PatchOrigins, patch_random};
use crate::training::task::{LossReport, Task};

/// Draws of one patch before the last one, which always contains an annotated pixel.
const ATTEMPTS: usize = 64;

/// What the batches of an ELEPHANT training look like.
#[derive(Debug, Clone)]
pub struct ElephantBatchConfig {
    /// Seed of sampling and augmentation.
    pub seed: u64,
    /// Patches in a batch. Default 8.
    pub batch_size: usize,
    /// Side of the square patches in pixels. Default 224.
    pub patch: usize,
    /// How cells are divided into border and centre.
    pub rule: ClassRule,
    /// Largest relative change of the size that is cut out before the rotation. Default 0.2.
    ///
    /// Where the rotated part is larger than the patch, its centre is taken; where it is smaller, it is stretched.
    pub scale: f64,
    /// Largest angle of the rotation in whole degrees, either way. Default 45.
    pub rotation: u32,
    /// Smallest fraction of the contrast between annotated cells and background that is kept. Default 0.5.
    pub contrast: f64,
    /// Whether rows and columns are reversed at random. Default true.
    pub flips: bool,
    /// Weights of the loss.
    pub loss: ElephantLossConfig,
}

impl Default for ElephantBatchConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            batch_size: 8,
            patch: 224,
            rule: ClassRule::default(),
            scale: 0.2,
            rotation: 45,
            contrast: 0.5,
            flips: true,
            loss: ElephantLossConfig::default(),
        }
    }
}

impl ElephantBatchConfig {
    /// The same without any change of the patches, for validation.
    pub fn unchanged(self) -> Self {
        Self { scale: 0.0, rotation: 0, contrast: 1.0, flips: false, ..self }
    }
}

/// One batch, in row-major order with the channel last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ElephantBatch {
    /// Patches, rows, columns and channels: `[B, p, p, C]`.
    pub shape: [usize; 4],
    /// The images, of `shape`.
    pub images: Vec<f32>,
    /// Class targets `[B, p, p]`: -1 not labelled, 0 background, 1 border, 2 centre.
    pub targets: Vec<i32>,
}

/// Makes batches from annotated images and measures their loss: batch `n` is a pure function of the images, the labels,
/// the configuration and `n`.
///
/// The loss remembers one number from batch to batch, see [`Task::carried`].
#[derive(Debug)]
pub struct ElephantBatches {
    images: Vec<Array3<f32>>,
    targets: Vec<LabelImage>,
    /// The annotated pixels of each image.
    labelled: Vec<PatchOrigins>,
    /// The images that have any.
    used: Vec<usize>,
    config: ElephantBatchConfig,
    shape: [usize; 4],
    loss: Mutex<SegmentationLoss>,
}

impl ElephantBatches {
    /// Takes normalised images `[H, W, C]` and their label images `[H, W]`.
    ///
    /// An image that is smaller than the patch is continued at its bottom and right by reflection, without labels.
    ///
    /// # Errors
    /// [`Error::Config`] for unusable options, [`Error::Image`] and [`Error::Labels`] for images and labels that do
    /// not fit each other or are not annotated, [`Error::Limit`] for a batch beyond the memory.
    pub fn new(images: Vec<Array3<f32>>, labels: Vec<LabelImage>, config: ElephantBatchConfig) -> Result<Self> {
        let shape = check(&images, &labels, &config)?;
        let mut padded_images = Vec::with_capacity(images.len());
        let mut targets = Vec::with_capacity(labels.len());
        let mut labelled = Vec::with_capacity(labels.len());
        for (image, labels) in images.into_iter().zip(&labels) {
            let (height, width) = labels.dim();
            let classes = class_labels(labels.view(), &config.rule)?;
            let small = height < config.patch || width < config.patch;
            let image = if small { reflect_to(image.view(), config.patch)? } else { image };
            let classes = if small { extend_to(classes.view(), config.patch)? } else { classes };
            labelled.push(PatchOrigins::containing(classes.view(), [1, 1], |class| class > IGNORED)?);
            padded_images.push(image);
            targets.push(classes);
        }
        let used: Vec<usize> = (0..labelled.len()).filter(|&image| !labelled[image].is_empty()).collect();
        if used.is_empty() {
            return Err(Error::Labels(format!(
                "nothing is annotated in {} label images; draw at least one cell and some background",
                targets.len()
            )));
        }
        let loss = Mutex::new(SegmentationLoss::new(config.loss.clone()));
        Ok(Self { images: padded_images, targets, labelled, used, config, shape, loss })
    }

    /// The shape of the batches `[B, p, p, C]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    fn lock(&self) -> MutexGuard<'_, SegmentationLoss> {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Patch `number` of the training.
    fn patch(&self, number: u64) -> Result<(Array3<f32>, LabelImage)> {
        let mut random = patch_random(self.config.seed, number);
        // An endless sequence of random permutations of the images.
        let count = self.used.len() as u64;
        let mut order = Random::new(self.config.seed, ORDER_STREAM.wrapping_add(number / count));
        let image = self.used[order.permutation(self.used.len())[(number % count) as usize]];
        let patch = [self.config.patch; 2];
        let (pixels, targets) = (self.images[image].view(), self.targets[image].view());
        for attempt in 0..=ATTEMPTS {
            let draw = self.draw(image, attempt == ATTEMPTS, &mut random);
            if let Some(found) = cut_patch(pixels, targets, patch, &draw)? {
                return Ok(found);
            }
        }
        Err(Error::Internal(format!("patch {number} has no annotated pixel")))
    }

    /// Draws a patch around an annotated pixel; a `plain` one is neither scaled nor rotated, so it keeps that pixel.
    fn draw(&self, image: usize, plain: bool, random: &mut Random) -> PatchDraw {
        let (height, width) = self.targets[image].dim();
        let sides = [height, width];
        let within = |range: std::ops::Range<usize>, random: &mut Random| range.start + random.below(range.len());
        let scale = if plain { 0.0 } else { self.config.scale };
        let mut size = sides.map(|side| within(size_range(side, self.config.patch, scale), random));
        let angles = if plain { 0 } else { self.config.rotation };
        let degrees = random.below(2 * angles as usize + 1) as i32 - angles as i32;
        let labelled = &self.labelled[image];
        let base = labelled.nth(random.below(labelled.len()));
        let mut origin = [base.0, base.1];
        for k in 0..2 {
            size[k] = if plain { self.config.patch.min(sides[k]) } else { rotated_size(sides[k], size[k], degrees) };
            origin[k] = within(origin_range(sides[k], size[k], origin[k]), random);
        }
        let contrast = random.uniform(self.config.contrast, 1.0);
        let mut coin = || self.config.flips && random.chance(0.5);
        let (flip_columns, flip_rows) = (coin(), coin());
        PatchDraw { origin, size, degrees, contrast, flip_rows, flip_columns }
    }
}

impl Task for ElephantBatches {
    type Batch = ElephantBatch;

    fn batch_into(&self, batch: &mut ElephantBatch, index: u64) -> Result<()> {
        let [size, rows, columns, channels] = self.shape;
        batch.shape = self.shape;
        // Every value is written anew.
        resized(&mut batch.images, size * rows * columns * channels, "a batch")?;
        resized(&mut batch.targets, size * rows * columns, "a batch")?;
        let first = index.wrapping_mul(size as u64);
        batch
            .images
            .par_chunks_mut(rows * columns * channels)
            .zip(batch.targets.par_chunks_mut(rows * columns))
            .enumerate()
            .try_for_each(|(k, (image, targets))| {
                let (pixels, classes) = self.patch(first.wrapping_add(k as u64))?;
                image.iter_mut().zip(&pixels).for_each(|(out, value)| *out = *value);
                targets.iter_mut().zip(&classes).for_each(|(out, class)| *out = *class);
                Ok(())
            })
    }

    fn input<'a>(&self, batch: &'a ElephantBatch) -> &'a [f32] {
        &batch.images
    }

    /// The loss of the logits `[B, p, p, 3]`. Only calls that ask for gradients change what the loss remembers, so a
    /// validation does not change a training.
    fn loss(
        &self,
        batch: &ElephantBatch,
        _: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        let [logits] = outputs else {
            return Err(Error::Internal(format!("an ELEPHANT network has one output, not {}", outputs.len())));
        };
        let [size, rows, columns, _] = batch.shape;
        let shape = [size, rows, columns];
        let loss = match gradients {
            None => {
                let mut loss = self.lock().clone();
                loss.forward(logits, &batch.targets, shape, None)?
            }
            Some(gradients) => {
                gradients.resize(1, Vec::new());
                gradients[0].resize(logits.len(), 0.0);
                self.lock().forward(logits, &batch.targets, shape, Some(&mut gradients[0]))?
            }
        };
        Ok(LossReport {
            total: loss.total,
            parts: vec![
                ("cross_entropy", loss.cross_entropy as f32),
                ("center_dice", loss.center_dice as f32),
                ("smoothness", loss.smoothness as f32),
            ],
        })
    }

    fn measured<'a>(&'a self, batch: &'a ElephantBatch) -> Option<Measured<'a>> {
        Some(Measured::Elephant { config: &self.config.loss, targets: &batch.targets })
    }

    /// The mean Dice loss of the last batch that gradients were asked for.
    fn carried(&self) -> f32 {
        self.lock().carried()
    }

    fn set_carried(&self, carried: f32) {
        *self.lock() = SegmentationLoss::with_carried(self.config.loss.clone(), carried);
    }
}

/// Checks everything that a batch depends on; the result is the shape of a batch.
fn check(images: &[Array3<f32>], labels: &[LabelImage], config: &ElephantBatchConfig) -> Result<[usize; 4]> {
    if config.batch_size == 0 || config.patch == 0 {
        return Err(Error::Config(format!(
            "a batch of {} patches of {} pixels; both must be at least 1",
            config.batch_size, config.patch
        )));
    }
    if !(0.0..1.0).contains(&config.scale) || config.rotation > 180 || !(0.0..=1.0).contains(&config.contrast) {
        return Err(Error::Config(format!(
            "a change of scale of {}, a rotation of {} degrees and a contrast of {}; they must be from 0 to below 1, \
             at most 180, and from 0 to 1",
            config.scale, config.rotation, config.contrast
        )));
    }
    let channels = check_images(images, labels)?;
    let shape = [config.batch_size, config.patch, config.patch, channels];
    checked_len(&[shape[0], shape[1], shape[2], channels.max(3)])?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(sides: &[usize]) -> (Vec<Array3<f32>>, Vec<LabelImage>) {
        let image =
            |&side: &usize| Array3::from_shape_fn((side, side, 2), |(y, x, c)| ((y * 7 + x * 3 + c) % 11) as f32);
        let labels = |&side: &usize| {
            LabelImage::from_shape_fn((side, side), |(y, x)| match (y / 9, x / 9) {
                (1, 1) => 1,
                (2, 0) => 0,
                _ => -1,
            })
        };
        (sides.iter().map(image).collect(), sides.iter().map(labels).collect())
    }

    fn config() -> ElephantBatchConfig {
        ElephantBatchConfig { batch_size: 3, patch: 32, ..Default::default() }
    }

    #[test]
    fn a_batch_is_a_function_of_its_number() {
        let (images, labels) = data(&[60, 40, 20]);
        let batches = ElephantBatches::new(images.clone(), labels.clone(), config()).unwrap();
        let again = ElephantBatches::new(images, labels, config()).unwrap();
        assert_eq!(batches.shape(), [3, 32, 32, 2]);
        let (mut a, mut b) = (ElephantBatch::default(), ElephantBatch::default());
        again.batch_into(&mut b, 9).unwrap();
        for index in [3, 0, 9] {
            batches.batch_into(&mut a, index).unwrap();
            assert!(a.targets.chunks(32 * 32).all(|patch| patch.iter().any(|target| *target >= 0)));
            assert_eq!(a == b, index == 9);
        }
        assert_eq!((a.images.len(), a.targets.len()), (3 * 32 * 32 * 2, 3 * 32 * 32));
    }

    #[test]
    fn only_training_changes_what_the_loss_remembers() {
        let (images, labels) = data(&[40]);
        let batches = ElephantBatches::new(images, labels, config().unchanged()).unwrap();
        let mut batch = ElephantBatch::default();
        batches.batch_into(&mut batch, 0).unwrap();
        let outputs = vec![vec![0.5; 3 * 32 * 32 * 3]];
        let first = batches.loss(&batch, None, &outputs, None).unwrap();
        assert_eq!(batches.carried(), 0.0);
        let mut gradients = Vec::new();
        assert_eq!(batches.loss(&batch, None, &outputs, Some(&mut gradients)).unwrap(), first);
        assert!(batches.carried() > 0.0 && gradients[0].iter().any(|value| *value != 0.0));
        batches.set_carried(0.25);
        assert_eq!(batches.carried(), 0.25);
        assert!(batches.loss(&batch, None, &[], None).is_err());
    }

    #[test]
    fn a_single_annotated_pixel_is_in_every_crop() {
        let (images, mut labels) = data(&[70]);
        labels[0].fill(-1);
        labels[0][[69, 0]] = 0;
        let batches = ElephantBatches::new(images, labels, config()).unwrap();
        let mut batch = ElephantBatch::default();
        for index in 0..20 {
            batches.batch_into(&mut batch, index).unwrap();
            assert!(batch.targets.chunks(32 * 32).all(|patch| patch.contains(&0)));
        }
    }

    #[test]
    fn what_cannot_be_trained_on_is_refused() {
        let (images, labels) = data(&[40, 50]);
        let new = |images: &[Array3<f32>], labels: &[LabelImage], config| {
            ElephantBatches::new(images.to_vec(), labels.to_vec(), config).is_ok()
        };
        assert!(new(&images, &labels, config()));
        assert!(!new(&images[..1], &labels, config()));
        assert!(!new(&[], &[], config()));
        assert!(!new(&images[..1], &labels[1..], config()));
        assert!(!new(&images[..1], &[LabelImage::from_elem((40, 40), -1)], config()));
        assert!(!new(&images, &labels, ElephantBatchConfig { patch: 0, ..config() }));
        assert!(!new(&images, &labels, ElephantBatchConfig { patch: usize::MAX, ..config() }));
        assert!(!new(&images, &labels, ElephantBatchConfig { scale: f64::NAN, ..config() }));
        assert!(!new(&images, &labels, ElephantBatchConfig { rotation: 181, ..config() }));
        assert!(!new(&images, &labels, ElephantBatchConfig { contrast: -0.1, ..config() }));
    }
}
