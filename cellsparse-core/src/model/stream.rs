//! Training on images that are made while it runs, as starting weights are.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Array3;

use super::algorithm::TaskInput;
use super::device;
use super::facade::Model;
use super::fit::Run;
use super::options::TrainOptions;
use super::recipe::{Begin, Recipe};
use super::working_scale::{image_factor, resample, resample_labels};
use crate::control::{ControlFlow, Progress};
use crate::error::{Error, Result, counted};
use crate::networks::Device;
use crate::random::Random;
use crate::raster::{Image, LabelImage};
use crate::training::measured::Measured;
use crate::training::task::{LossReport, Task};
use crate::training::trainer::TrainingOutcome;

/// Makes pool `n` of images `[H, W, C]` with their label images `[H, W]` (below 0 unlabelled, 0 background, 1 and up cells);
/// a pure function of `n`. An image may be without cells, a whole pool not.
pub type Pools<'a> = dyn Fn(u64) -> Result<Vec<(Image, LabelImage)>> + Sync + 'a;

/// Pools that batches are drawn from in turn, and the batches that are drawn from each before another takes its place.
const LIVE: u64 = 4;
const BATCHES: u64 = 6;

/// Range of the factor by which cells are larger or smaller than the size at which a network is meant to see them: what is
/// left alone by the choice of the factor in a training.
const SIZES: [f64; 2] = [0.75, 1.34];

/// Random stream of those factors; pool `n` takes `SIZE_STREAM + n`.
const SIZE_STREAM: u64 = 1 << 50;

/// Decay of the running average of the weights that is kept.
const AVERAGE: f32 = 0.998;

impl Model {
    /// Trains on an endless sequence of pools of images, each of which is made when it is needed and forgotten after some
    /// batches; the weights kept are a running average. Returns the steps made.
    ///
    /// `options.steps` counts all steps, those of an earlier call with `resume` included, and so does the schedule of the
    /// rate: a training that was cut off and resumed has the same rates as one that was not. No labels are completed, no
    /// thresholds chosen, and `options.time_budget` and the validation are not looked at.
    ///
    /// # Errors
    /// As [`train`](Self::train), and what `pools` reports.
    pub fn train_on_stream(
        &mut self,
        pools: &Pools<'_>,
        options: &TrainOptions,
        observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
    ) -> Result<usize> {
        let device = device::resolve_in(options.device, options.precision)?.device;
        let pool = self.network.engines.pool_for(options.threads)?;
        let mut train = || self.train_on_pools(pools, options, &device, observer);
        let outcome = match pool {
            Some(pool) => pool.install(train),
            None => train(),
        }?;
        Ok(outcome.steps)
    }

    fn train_on_pools(
        &mut self,
        pools: &Pools<'_>,
        options: &TrainOptions,
        device: &Device,
        observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
    ) -> Result<TrainingOutcome> {
        let mut recipe = Recipe::new(&*self.settings()?, options, Begin::Random)?;
        let before = if options.resume { self.state.as_ref().map_or(0, |state| state.batches as usize) } else { 0 };
        recipe.limits.begun = before;
        recipe.limits.steps = recipe.limits.steps.saturating_sub(before);
        recipe.limits.average = Some(AVERAGE);
        recipe.limits.time_budget = None;
        recipe.limits.stop_early = false;
        if recipe.limits.steps == 0 {
            return Err(Error::Config(format!("the model has made {} already; ask for more", counted(before, "step"))));
        }
        let patch = recipe.patch_size.next_multiple_of(self.network.graph.divisor().into_iter().max().unwrap_or(1));
        let batch_size = recipe.batch_size;
        let run = Run { recipe, patch, device };
        let mut fresh = self.clone();
        let algorithm = self.settings()?;
        let make = |number: u64| {
            let (images, labels) = self.prepared(pools(number)?, options, number, algorithm.scales_itself())?;
            let input = TaskInput { images, labels, data: None, batch_size, patch, validation: false };
            algorithm.task(input, options)
        };
        let outcome = fresh.fit(&Streamed::new(&make)?, None, None, options, &run, observer)?;
        *self = fresh;
        Ok(outcome)
    }

    /// Inputs of the network and labels of a pool. Unless the algorithm scales its patches itself, each image is seen at a size of
    /// its cells that is drawn around the usual one.
    fn prepared(
        &self,
        pool: Vec<(Image, LabelImage)>,
        options: &TrainOptions,
        number: u64,
        scales_itself: bool,
    ) -> Result<(Vec<Array3<f32>>, Vec<LabelImage>)> {
        let mut random = Random::new(options.seed, SIZE_STREAM.wrapping_add(number));
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for (image, truth) in pool {
            let drawn = (random.uniform(SIZES[0].ln(), SIZES[1].ln())).exp();
            let scale = if scales_itself { 1.0 } else { image_factor(&truth) * drawn };
            let input = self.network.input(&image, options.normalized, &options.cancel)?;
            images.push(resample(input.into(), scale)?.into_owned());
            labels.push(resample_labels(&truth, scale)?);
        }
        Ok((images, labels))
    }
}

/// A task with its number.
type Numbered<T> = (u64, Arc<T>);

/// A task that is several tasks in turn, each of which is replaced after some batches.
struct Streamed<'a, T: Task> {
    make: &'a (dyn Fn(u64) -> Result<T> + Sync),
    /// The tasks that batches are drawn from, with their numbers.
    live: Mutex<Vec<Option<Numbered<T>>>>,
    /// Measures the loss of all batches.
    first: Arc<T>,
}

impl<'a, T: Task + Send> Streamed<'a, T> {
    fn new(make: &'a (dyn Fn(u64) -> Result<T> + Sync)) -> Result<Self> {
        let first = Arc::new(make(0)?);
        let mut live = vec![None; LIVE as usize];
        live[0] = Some((0, Arc::clone(&first)));
        Ok(Self { make, live: Mutex::new(live), first })
    }

    /// The task that batch `index` is drawn from. Replacements are spread evenly over the batches.
    fn task(&self, index: u64) -> Result<Arc<T>> {
        let (round, slot) = (index / LIVE, index % LIVE);
        let number = (round + slot * BATCHES / LIVE) / BATCHES * LIVE + slot;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, task)) = live[slot as usize].as_ref().filter(|(held, _)| *held == number) {
            return Ok(Arc::clone(task));
        }
        let task = Arc::new((self.make)(number)?);
        live[slot as usize] = Some((number, Arc::clone(&task)));
        Ok(task)
    }
}

impl<T: Task + Send> Task for Streamed<'_, T> {
    type Batch = T::Batch;

    fn batch_into(&self, batch: &mut Self::Batch, index: u64) -> Result<()> {
        self.task(index)?.batch_into(batch, index)
    }

    fn input<'a>(&self, batch: &'a Self::Batch) -> &'a [f32] {
        self.first.input(batch)
    }

    fn loss(
        &self,
        batch: &Self::Batch,
        images: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        self.first.loss(batch, images, outputs, gradients)
    }

    fn measured<'a>(&'a self, batch: &'a Self::Batch) -> Option<Measured<'a>> {
        self.first.measured(batch)
    }

    fn carried(&self) -> f32 {
        self.first.carried()
    }

    fn set_carried(&self, carried: f32) {
        self.first.set_carried(carried);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stardist::StarDistTask;
    use crate::model::{Algorithm, Architecture};
    use crate::synthetic::{FieldOptions, draw_field};

    fn pools(number: u64) -> Result<Vec<(Image, LabelImage)>> {
        let options = FieldOptions { height: 64, width: 64, ..FieldOptions::default() };
        let field = draw_field(&options, number)?;
        Ok(vec![(field.image, field.truth)])
    }

    fn options(steps: usize) -> TrainOptions {
        TrainOptions { steps: Some(steps), batch_size: Some(1), patch_size: Some(32), ..TrainOptions::default() }
    }

    #[test]
    fn a_stream_that_was_cut_off_goes_on_where_it_was() {
        for algorithm in [Algorithm::Stardist, Algorithm::Cellpose, Algorithm::Elephant] {
            let model = || Model::new(Architecture::of(algorithm, 1), 0).unwrap();
            let (mut whole, mut rates) = (model(), Vec::new());
            let mut note = |event: &Progress| {
                rates.push(event.learning_rate);
                ControlFlow::Continue
            };
            whole.train_on_stream(&pools, &options(6), &mut note).unwrap();
            let (mut cut, mut seen) = (model(), Vec::new());
            let mut stop = |event: &Progress| {
                seen.push(event.learning_rate);
                if event.step == 2 { ControlFlow::Stop } else { ControlFlow::Continue }
            };
            cut.train_on_stream(&pools, &options(6), &mut stop).unwrap();
            let resumed = TrainOptions { resume: true, ..options(6) };
            let mut go_on = |event: &Progress| {
                seen.push(event.learning_rate);
                ControlFlow::Continue
            };
            cut.train_on_stream(&pools, &resumed, &mut go_on).unwrap();
            assert_eq!(rates, seen, "{algorithm}");
            let moved = |model: &Model| model.state.as_ref().unwrap().weights.clone();
            assert_eq!(moved(&whole), moved(&cut), "{algorithm}");
            assert!(cut.train_on_stream(&pools, &resumed, &mut |_| ControlFlow::Continue).is_err(), "no step is left");
        }
    }

    #[test]
    fn pools_are_replaced_one_at_a_time_and_every_batch_is_the_same_whoever_asks_first() {
        let task = |number: u64| -> Result<StarDistTask> {
            let (image, truth) = pools(number)?.swap_remove(0);
            let image = crate::raster::percentile_normalize(image.to_f32().view(), 1.0, 99.8)?;
            let (images, labels) = (vec![image], vec![truth]);
            let input = TaskInput { images, labels, data: None, batch_size: 1, patch: 32, validation: false };
            StarDistTask::new(&Default::default(), input, &options(1))
        };
        let streamed = Streamed::new(&task).unwrap();
        let batch = |streamed: &Streamed<'_, StarDistTask>, index| {
            let mut batch = Default::default();
            streamed.batch_into(&mut batch, index).unwrap();
            batch
        };
        let inorder: Vec<_> = (0..40).map(|index| batch(&streamed, index)).collect();
        for index in [39, 0, 13] {
            assert_eq!(batch(&streamed, index), inorder[index as usize]);
        }
    }
}
