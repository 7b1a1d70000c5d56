//! Training batches of Cellpose: patches of annotated images with their targets.

use std::ops::Range;

use ndarray::Array3;
use rayon::prelude::*;

use crate::budget::copied;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::raster::LabelImage;
use crate::targets::cellpose::{FlowRule, cellpose_targets_until, diameter};
use crate::training::augment::Augmentation;
use crate::training::augment_affine::{Outside, Patch, PatchRange, channel_last, is_annotated};
use crate::training::batch::{check_images, checked_len, resize};
use crate::training::loss_cellpose::cellpose_loss;
use crate::training::measured::Measured;
use crate::training::sampler::{ORDER_STREAM, PatchOrigins, SamplingPolicy, patch_random};
use crate::training::task::{LossReport, Task};

/// How often a patch without an annotated pixel is drawn anew before it is taken as it is.
const REDRAWS: usize = 16;

/// Cells are never taken to be smaller than this many pixels.
const SMALLEST_DIAMETER: f64 = 5.0;

/// What the batches of a Cellpose training look like.
#[derive(Debug, Clone)]
pub struct CellposeBatchConfig {
    /// Seed of sampling and augmentation.
    pub seed: u64,
    /// Patches in a batch. Default 8.
    pub batch_size: usize,
    /// Side of the square patches in pixels. Default 224.
    pub patch: usize,
    /// Whether the patches of each image are scaled so that its cells have a diameter of `diam_mean`. Default true.
    pub rescale: bool,
    /// Diameter in pixels to which cells are scaled. Default 30.
    pub diam_mean: f64,
    /// Width of the range of scales around that, from 0 to 2. Default 0.5 (Cellpose takes 1 without rescaling).
    pub scale_range: f64,
    /// Where patches may lie. With [`SamplingPolicy::Annotated`], the default, every patch is laid around an annotated
    /// pixel; with [`SamplingPolicy::Reference`] anywhere, as in Cellpose.
    pub policy: SamplingPolicy,
    /// Fraction of the patches that are laid around a pixel of a cell, with the default policy. Default 0.9.
    pub foreground_fraction: f64,
    /// What is learned beyond the border of an image. Default: nothing.
    pub outside: Outside,
    /// How samples are changed; its symmetries are not used, as patches are turned and mirrored anyway. Default: not at all.
    pub intensity: Augmentation,
    /// Whose flows are learned. Default [`FlowRule::Reference`].
    pub rule: FlowRule,
    /// Raised to end the computation of the flows.
    pub cancel: CancelToken,
}

impl Default for CellposeBatchConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            batch_size: 8,
            patch: 224,
            rescale: true,
            diam_mean: 30.0,
            scale_range: 0.5,
            policy: SamplingPolicy::Annotated,
            foreground_fraction: 0.9,
            outside: Outside::Ignored,
            intensity: Augmentation::none(),
            rule: FlowRule::Reference,
            cancel: CancelToken::new(),
        }
    }
}

impl CellposeBatchConfig {
    /// The same for a validation batch: no variation of scale or samples.
    pub fn validation(&self) -> Self {
        Self { scale_range: 0.0, intensity: Augmentation::none(), ..self.clone() }
    }

    fn check(&self) -> Result<()> {
        if self.batch_size == 0 || self.patch == 0 {
            return Err(Error::Config(format!(
                "a batch of {} patches of {} pixels; both must be at least 1",
                self.batch_size, self.patch
            )));
        }
        if !(self.diam_mean > 0.0 && self.diam_mean.is_finite()) {
            return Err(Error::Config(format!("diam_mean is {}; it must be above 0, like 30", self.diam_mean)));
        }
        if !(0.0..=2.0).contains(&self.scale_range) {
            return Err(Error::Config(format!("the scale range is {}; it must be from 0 to 2", self.scale_range)));
        }
        if !(0.0..=1.0).contains(&self.foreground_fraction) {
            let share = self.foreground_fraction;
            return Err(Error::Config(format!("the foreground fraction is {share}; it must be from 0 to 1")));
        }
        Ok(())
    }
}

/// One batch, in row-major order with the channel last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellposeBatch {
    /// Number of patches `B`.
    pub size: usize,
    /// Side `p` of the patches in pixels.
    pub patch: usize,
    /// Channels `C` of the images.
    pub channels: usize,
    /// `[B, p, p, C]`.
    pub images: Vec<f32>,
    /// `[B, p, p, 3]`: cell probability (-1 where nothing is annotated), flow `dY`, flow `dX`.
    pub targets: Vec<f32>,
}

/// Makes batches from annotated images: batch `n` is a pure function of the images, the configuration and `n`.
#[derive(Debug, Clone)]
pub struct CellposeBatches {
    config: CellposeBatchConfig,
    channels: usize,
    images: Vec<Annotated>,
    diameter: f64,
}

/// An image that patches are drawn from.
#[derive(Debug, Clone)]
struct Annotated {
    image: Array3<f32>,
    /// `[H, W, 3]`
    targets: Array3<f32>,
    cells: PatchOrigins,
    annotated: PatchOrigins,
    rescale: f64,
}

impl CellposeBatches {
    /// Takes normalised images `[H, W, C]` and their label images `[H, W]`, and computes the flows. Images without an
    /// annotated pixel are left out.
    ///
    /// # Errors
    /// [`Error::Config`] for unusable options, [`Error::Image`] and [`Error::Labels`] for images and labels that do not
    /// fit each other or when nothing is annotated, [`Error::Limit`] for a batch or a cell beyond the memory.
    pub fn new(images: Vec<Array3<f32>>, labels: Vec<LabelImage>, config: CellposeBatchConfig) -> Result<Self> {
        config.check()?;
        let channels = check_images(&images, &labels)?;
        checked_len(&[config.batch_size, config.patch, config.patch, channels.max(3)])?;
        let diameters: Vec<f64> = labels.iter().map(|labels| diameter(labels.view())).collect();
        let mean = mean_of_known(&diameters);
        let count = images.len();
        let mut used = Vec::new();
        for ((image, labels), diameter) in images.into_iter().zip(labels).zip(diameters) {
            config.cancel.check()?;
            let annotated = PatchOrigins::containing(labels.view(), [1, 1], |label| label >= 0)?;
            if annotated.is_empty() {
                continue;
            }
            // An image without cells is shown at the scale of the others.
            let diameter = if diameter > 0.0 { diameter } else { mean };
            let rescale = config.rescale && diameter > 0.0;
            used.push(Annotated {
                image: if image.is_standard_layout() { image } else { copied(image.view(), "a training image")? },
                targets: channel_last(cellpose_targets_until(labels.view(), config.rule, &config.cancel)?.view())?,
                cells: PatchOrigins::containing(labels.view(), [1, 1], |label| label > 0)?,
                annotated,
                rescale: if rescale { diameter.max(SMALLEST_DIAMETER) / config.diam_mean } else { 1.0 },
            });
        }
        if used.is_empty() {
            return Err(Error::Labels(match count {
                0 => "there is no image to train on".into(),
                n => format!("nothing is annotated in {n} label images; draw at least one cell"),
            }));
        }
        Ok(Self { config, channels, images: used, diameter: mean })
    }

    /// The mean over the images of the diameter of their annotated cells, in pixels (`diam_labels` in Cellpose); 0 when
    /// no cell is annotated.
    pub fn diameter(&self) -> f64 {
        self.diameter
    }

    /// Batch `index`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Limit`] for a batch beyond the memory.
    pub fn batch(&self, index: u64) -> Result<CellposeBatch> {
        let mut batch = CellposeBatch::default();
        self.batch_into(&mut batch, index)?;
        Ok(batch)
    }

    fn patch_into(&self, number: u64, samples: &mut [f32], targets: &mut [f32]) -> Result<()> {
        let config = &self.config;
        let mut random = patch_random(config.seed, number);
        let source = &self.images[self.image(number)];
        let range = PatchRange { size: [config.patch; 2], scale_range: config.scale_range, rescale: source.rescale };
        for _ in 0..REDRAWS {
            let patch = self.draw(source, &range, &mut random);
            let (image, truth) = (source.image.view(), source.targets.view());
            patch.cut(range.size, image, truth, config.outside, samples, targets)?;
            if is_annotated(targets) {
                break;
            }
        }
        if config.intensity != Augmentation::none() {
            config.intensity.draw(&mut random).samples(&mut random, samples);
        }
        Ok(())
    }

    fn draw(&self, source: &Annotated, range: &PatchRange, random: &mut Random) -> Patch {
        let (height, width, _) = source.image.dim();
        match self.config.policy {
            SamplingPolicy::Reference => range.draw([height, width], random),
            SamplingPolicy::Annotated => {
                let wanted = random.chance(self.config.foreground_fraction) && !source.cells.is_empty();
                let set = if wanted { &source.cells } else { &source.annotated };
                let (row, column) = set.nth(random.below(set.len()));
                range.draw_around([height, width], [row, column], random)
            }
        }
    }

    /// The image of patch `number`: an endless sequence of random permutations of the images.
    fn image(&self, number: u64) -> usize {
        let count = self.images.len() as u64;
        let stream = ORDER_STREAM.wrapping_add(number / count);
        Random::new(self.config.seed, stream).permutation(self.images.len())[(number % count) as usize]
    }
}

/// The mean over label images `[H, W]` of the diameter of their cells in pixels (`diam_labels` in Cellpose); 0 without cells.
pub fn mean_diameter(labels: &[LabelImage]) -> f64 {
    let diameters: Vec<f64> = labels.iter().map(|labels| diameter(labels.view())).collect();
    mean_of_known(&diameters)
}

fn mean_of_known(diameters: &[f64]) -> f64 {
    let known: Vec<f64> = diameters.iter().copied().filter(|diameter| *diameter > 0.0).collect();
    if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 }
}

impl Task for CellposeBatches {
    type Batch = CellposeBatch;

    fn batch_into(&self, batch: &mut CellposeBatch, index: u64) -> Result<()> {
        let (size, patch, channels) = (self.config.batch_size, self.config.patch, self.channels);
        resize(&mut batch.images, &[size, patch, patch, channels])?;
        resize(&mut batch.targets, &[size, patch, patch, 3])?;
        (batch.size, batch.patch, batch.channels) = (size, patch, channels);
        let first = index.wrapping_mul(size as u64);
        let images = batch.images.par_chunks_mut(patch * patch * channels);
        images
            .zip(batch.targets.par_chunks_mut(patch * patch * 3))
            .enumerate()
            .try_for_each(|(k, (image, targets))| self.patch_into(first.wrapping_add(k as u64), image, targets))
    }

    fn input<'a>(&self, batch: &'a CellposeBatch) -> &'a [f32] {
        &batch.images
    }

    /// The network's first output is `[B, p, p, 3]`: flow `dY`, flow `dX`, logit of the cell probability.
    fn loss(
        &self,
        batch: &CellposeBatch,
        _: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        let [output, ..] = outputs else {
            return Err(Error::Internal("a network without outputs".into()));
        };
        let gradient = gradients.map(|gradients| {
            gradients.resize_with(outputs.len(), Vec::new);
            gradients.iter_mut().zip(outputs).for_each(|(gradient, output)| gradient.resize(output.len(), 0.0));
            gradients[0].as_mut_slice()
        });
        let loss = cellpose_loss(output, &batch.targets, gradient)?;
        let parts = vec![("flow", loss.flow as f32), ("cellprob", loss.cellprob as f32)];
        Ok(LossReport { total: loss.total, parts })
    }

    fn measured<'a>(&'a self, batch: &'a CellposeBatch) -> Option<Measured<'a>> {
        Some(Measured::Cellpose { targets: &batch.targets })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    fn data(n: usize, side: usize) -> (Vec<Array3<f32>>, Vec<LabelImage>) {
        let image = |i: usize| Array3::from_shape_fn((side, side, 1), |(y, x, _)| ((y * 7 + x * 3 + i) % 11) as f32);
        let labels = |i: usize| {
            let mut labels = Array2::from_elem((side, side), -1);
            labels.slice_mut(s![4 + i..14 + i, 5..15]).fill(3);
            labels.slice_mut(s![20..22, 0..9]).fill(0);
            labels
        };
        ((0..n).map(image).collect(), (0..n).map(labels).collect())
    }

    fn small() -> CellposeBatchConfig {
        CellposeBatchConfig { batch_size: 4, patch: 32, intensity: Augmentation::default(), ..Default::default() }
    }

    #[test]
    fn a_batch_is_a_function_of_its_index() {
        let (images, labels) = data(3, 100);
        let batches = CellposeBatches::new(images, labels, small()).unwrap();
        let mut batch = batches.batch(7).unwrap();
        assert_eq!((batch.images.len(), batch.targets.len()), (4 * 32 * 32, 4 * 32 * 32 * 3));
        let seventh = batch.clone();
        batches.batch_into(&mut batch, 8).unwrap();
        assert_ne!(batch, seventh);
        batches.batch_into(&mut batch, 7).unwrap();
        assert_eq!(batch, seventh);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| batches.batch(7)).unwrap(), seventh);
    }

    #[test]
    fn every_crop_of_the_default_policy_is_annotated_and_cells_have_the_wanted_size() {
        let (images, labels) = data(2, 300);
        let config = CellposeBatchConfig { scale_range: 0.0, ..small() };
        let batches = CellposeBatches::new(images, labels, config).unwrap();
        let expected = 2.0 * 10.0 / std::f64::consts::PI.sqrt();
        assert!((batches.diameter() - expected).abs() < 1e-9);
        let (mut cells, mut largest) = (0, 0);
        for index in 0..50 {
            for patch in batches.batch(index).unwrap().targets.chunks(32 * 32 * 3) {
                assert!(is_annotated(patch));
                let area = patch.chunks(3).filter(|target| target[0] > 0.5).count();
                cells += usize::from(area > 0);
                largest = largest.max(area);
                let unit = |target: &[f32]| target[1].hypot(target[2]) < 1.001;
                assert!(patch.chunks(3).all(unit));
            }
        }
        assert!(cells > 170, "{cells}");
        // A cell of 100 pixels is shown with the area of a disc of diameter 30.
        assert!((600..720).contains(&largest), "{largest}");
    }

    #[test]
    fn the_reference_policy_takes_the_outside_for_background() {
        let (images, labels) = data(1, 40);
        let config = CellposeBatchConfig {
            policy: SamplingPolicy::Reference,
            outside: Outside::Background,
            rescale: false,
            patch: 80,
            ..small()
        };
        let batch = CellposeBatches::new(images, labels, config).unwrap().batch(0).unwrap();
        let background = batch.targets.chunks(3).filter(|target| target[0] == 0.0).count();
        assert!(background > 4 * 80 * 80 / 2, "{background}");
    }

    #[test]
    fn the_loss_is_reported_with_its_gradient() {
        let (images, labels) = data(1, 60);
        let batches = CellposeBatches::new(images, labels, small()).unwrap();
        let batch = batches.batch(0).unwrap();
        let outputs = [vec![0.5; 4 * 32 * 32 * 3]];
        let mut gradients = Vec::new();
        let report = batches.loss(&batch, None, &outputs, Some(&mut gradients)).unwrap();
        assert_eq!(report.parts.iter().map(|part| part.0).collect::<Vec<_>>(), ["flow", "cellprob"]);
        assert!(report.total > 0.0 && gradients[0].iter().any(|gradient| *gradient != 0.0));
        assert!(batches.loss(&batch, None, &[], None).is_err());
        assert!(batches.loss(&batch, None, &[vec![0.0; 3]], None).is_err());
    }

    #[test]
    fn what_cannot_be_trained_on_is_refused() {
        let new = |config| {
            let (images, labels) = data(1, 40);
            CellposeBatches::new(images, labels, config)
        };
        assert!(new(small()).is_ok());
        assert!(new(CellposeBatchConfig { patch: 0, ..small() }).is_err());
        assert!(new(CellposeBatchConfig { patch: usize::MAX, ..small() }).is_err());
        assert!(new(CellposeBatchConfig { diam_mean: 0.0, ..small() }).is_err());
        assert!(new(CellposeBatchConfig { scale_range: f64::NAN, ..small() }).is_err());
        let (images, labels) = data(2, 40);
        assert!(CellposeBatches::new(images.clone(), labels[..1].to_vec(), small()).is_err());
        let unlabelled = vec![Array2::from_elem((40, 40), -1); 2];
        assert!(CellposeBatches::new(images.clone(), unlabelled, small()).is_err());
        assert!(CellposeBatches::new(images, vec![Array2::zeros((3, 3)); 2], small()).is_err());
        assert!(CellposeBatches::new(vec![], vec![], small()).is_err());
        // Background alone is enough, and one-pixel cells are shown at most 6 times as large.
        let lone = |value| {
            CellposeBatches::new(vec![Array3::zeros((9, 9, 1))], vec![Array2::from_elem((9, 9), value)], small())
        };
        assert!(is_annotated(&lone(0).unwrap().batch(0).unwrap().targets));
        let mut labels = Array2::from_elem((9, 9), -1);
        labels[[8, 8]] = 40;
        let batches = CellposeBatches::new(vec![Array3::zeros((9, 9, 1))], vec![labels], small()).unwrap();
        assert!(batches.batch(3).unwrap().targets.iter().all(|value| value.is_finite()));
    }
}
