//! The batches and the loss of a StarDist training.

use std::ops::Range;

use crate::annotations::Dataset;
use crate::error::{Error, Result};
use crate::model::algorithm::TaskInput;
use crate::model::options::{Preset, TrainOptions};
use crate::networks::StarDistConfig;
use crate::targets::stardist::ObjectClasses;
use crate::training::augment::Augmentation;
use crate::training::batch::{Batch, BatchConfig, BatchMaker, ImageClasses};
use crate::training::loss_stardist::{
    Head, StarGradients, StarLossConfig, StarMeans, StarOutputs, StarTruth, stardist_loss_part,
};
use crate::training::measured::Measured;
use crate::training::sampler::SamplingPolicy;
use crate::training::task::{LossReport, Task};

/// Batches and losses of a StarDist training.
pub(in crate::model) struct StarDistTask {
    batches: BatchMaker,
    loss: StarLossConfig,
}

/// Weights of probability, distance and class in the loss. With that of the original for the distance, 0.2, the shapes of
/// cells are learned long after their places.
const LOSS_WEIGHTS: [f64; 3] = [1.0, 2.0, 1.0];

impl StarDistTask {
    /// The task of training on these images, or of measuring the loss on them.
    pub fn new(config: &StarDistConfig, input: TaskInput<'_>, options: &TrainOptions) -> Result<Self> {
        let loss = match options.preset {
            Preset::Reference => StarLossConfig::default(),
            _ => StarLossConfig { regularize_ignored: false, weights: LOSS_WEIGHTS, ..StarLossConfig::default() },
        };
        let policy = match options.preset {
            Preset::Reference if input.data.is_some() && !input.validation => SamplingPolicy::Reference,
            _ => SamplingPolicy::Annotated,
        };
        let augmentation = if input.validation { Augmentation::none() } else { Augmentation::default() };
        let config = BatchConfig {
            seed: options.seed,
            batch_size: input.batch_size,
            patch: input.patch,
            grid: config.grid,
            n_rays: config.n_rays,
            policy,
            augmentation,
            classes: config.n_classes.map(|n_classes| classes(n_classes, input.data)),
            ..BatchConfig::default()
        };
        Ok(Self { batches: BatchMaker::new(input.images, input.labels, config)?, loss })
    }
}

/// The classes of the objects of a data set.
fn classes(n_classes: usize, data: Option<&Dataset>) -> ImageClasses {
    let mut objects = Vec::new();
    for labels in data.map(Dataset::labels).unwrap_or_default() {
        let mut of_image = ObjectClasses::new();
        for (&id, class) in labels.classes().into_iter().flatten() {
            of_image.insert(id, class.map(|class| class as usize));
        }
        objects.push(of_image);
    }
    ImageClasses { n_classes, objects }
}

impl Task for StarDistTask {
    type Batch = Batch;

    fn batch_into(&self, batch: &mut Batch, index: u64) -> Result<()> {
        self.batches.batch_into(batch, index)
    }

    fn input<'a>(&self, batch: &'a Batch) -> &'a [f32] {
        &batch.images
    }

    fn loss(
        &self,
        batch: &Batch,
        images: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        let few = || Error::Internal("a StarDist network has at least two outputs".into());
        let [prob, dist, rest @ ..] = outputs else { return Err(few()) };
        let network = StarOutputs { prob, dist, class: rest.first().map(Vec::as_slice) };
        let whole = truth(batch);
        let (means, pixels) = (StarMeans::of(&whole), batch.rows * batch.columns);
        let images = images.unwrap_or(0..batch.size);
        let truth = whole.of_pixels(images.start * pixels..images.end * pixels);
        let loss = |gradients| stardist_loss_part(&self.loss, Head::Logits, &means, network, truth, gradients);
        let loss = match gradients {
            None => loss(None)?,
            Some(buffers) => {
                buffers.resize(outputs.len(), Vec::new());
                buffers.iter_mut().zip(outputs).for_each(|(buffer, output)| buffer.resize(output.len(), 0.0));
                let [prob, dist, rest @ ..] = buffers.as_mut_slice() else { return Err(few()) };
                loss(Some(StarGradients { prob, dist, class: rest.first_mut().map(Vec::as_mut_slice) }))?
            }
        };
        let mut parts = vec![("prob", loss.prob as f32), ("dist", loss.dist as f32)];
        if let Some(class) = loss.class {
            parts.push(("class", class as f32));
        }
        Ok(LossReport { total: loss.total, parts })
    }

    fn measured<'a>(&'a self, batch: &'a Batch) -> Option<Measured<'a>> {
        Some(Measured::Stardist { config: &self.loss, truth: truth(batch) })
    }
}

fn truth(batch: &Batch) -> StarTruth<'_> {
    StarTruth { prob: &batch.prob, dist: &batch.dist, mask: &batch.mask, class: batch.class.as_deref() }
}
