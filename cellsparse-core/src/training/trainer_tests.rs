use std::ops::Range;
use std::sync::Mutex;
#[cfg(feature = "candle")]
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::networks::{Device, ElephantConfig};
#[cfg(feature = "candle")]
use crate::training::measured::Measured;
use crate::training::optimizer::Adam;

/// A task that asks to stop in the middle of a step: when the loss is known and the gradients are not.
struct Raising {
    cancel: CancelToken,
    at: f32,
    carried: Mutex<f32>,
}

impl Task for Raising {
    type Batch = Vec<f32>;

    fn batch_into(&self, batch: &mut Vec<f32>, _index: u64) -> Result<()> {
        batch.resize(32 * 32, 0.5);
        Ok(())
    }

    fn input<'a>(&self, batch: &'a Vec<f32>) -> &'a [f32] {
        batch
    }

    fn loss(
        &self,
        _: &Vec<f32>,
        _: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        if let Some(gradients) = gradients {
            *gradients = outputs.iter().map(|output| vec![1e-3; output.len()]).collect();
        }
        let mut carried = self.carried.lock().unwrap();
        *carried += 1.0;
        if *carried == self.at {
            self.cancel.cancel();
        }
        Ok(LossReport { total: 1.0, parts: Vec::new() })
    }

    fn carried(&self) -> f32 {
        *self.carried.lock().unwrap()
    }

    fn set_carried(&self, carried: f32) {
        *self.carried.lock().unwrap() = carried;
    }
}

/// Trains for at most 5 steps, with a request in the step `at`; gives what came of it, and weights and optimiser.
fn stopped_in(at: f32) -> (Result<TrainingOutcome>, TrainingState, f32) {
    let (mut engines, mut state, options) = five_steps(&Device::cpu());
    let task = Raising { cancel: options.cancel.clone(), at, carried: Mutex::new(0.0) };
    let outcome = trained(&mut engines, &task, &mut state, &options);
    let carried = task.carried();
    (outcome, state, carried)
}

/// A network that sees 32 x 32 pixels, its state, and options for 5 steps.
fn five_steps(device: &Device) -> (Engines, TrainingState, LoopOptions) {
    let graph = std::sync::Arc::new(ElephantConfig { widths: vec![2, 2], ..Default::default() }.graph());
    let weights = Weights::init(&graph, 1);
    let engine = Engine::new(&graph, device, [1, 32, 32], true).unwrap();
    let optimizer = Adam::new(&weights).into();
    let state = TrainingState { weights, optimizer, batches: 0, carried: 0.0 };
    let options = LoopOptions {
        steps: 5,
        begun: 0,
        steps_per_epoch: 5,
        learning_rate: 1e-3,
        schedule: Schedule::Cosine { warmup: 0.0, floor: 1.0 },
        weight_decay: 0.0,
        average: None,
        fresh_statistics: false,
        patience: None,
        stop_early: false,
        time_budget: None,
        steps_after: 0.0,
        cancel: CancelToken::new(),
    };
    (Engines { training: engine, validation: None }, state, options)
}

fn trained<T: Task>(
    engines: &mut Engines,
    task: &T,
    state: &mut TrainingState,
    options: &LoopOptions,
) -> Result<TrainingOutcome> {
    let observer = &mut |_: &Progress| ControlFlow::Continue;
    let save = &mut |_: &TrainingState, _: &Weights, _: &History| Ok(());
    train(engines, task, None, state, &mut History::default(), options, observer, save)
}

#[test]
fn a_step_that_is_stopped_before_its_gradients_leaves_no_trace() {
    let (outcome, state, carried) = stopped_in(3.0);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.steps, outcome.stopped), (2, StopReason::Cancelled));
    assert_eq!((state.batches, state.carried, carried), (2, 2.0, 2.0));
    let (ended, first, carried) = stopped_in(1.0);
    assert!(matches!(ended, Err(Error::Cancelled)));
    assert_eq!((first.batches, carried), (0, 0.0));
    assert!(first.weights != state.weights);
}

/// A task of three images whose losses add up.
struct Adding;

impl Task for Adding {
    type Batch = Vec<f32>;

    fn batch_into(&self, batch: &mut Vec<f32>, _index: u64) -> Result<()> {
        batch.resize(3 * 32 * 32, 0.5);
        Ok(())
    }

    fn input<'a>(&self, batch: &'a Vec<f32>) -> &'a [f32] {
        batch
    }

    fn loss(
        &self,
        _: &Vec<f32>,
        images: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        *gradients.unwrap() = outputs.iter().map(|output| vec![1e-3; output.len()]).collect();
        let sum: f32 = images.unwrap().map(|image| (image + 1) as f32).sum();
        Ok(LossReport { total: f64::from(sum), parts: vec![("twice", 2.0 * sum)] })
    }
}

#[test]
fn the_losses_of_parts_of_a_batch_are_added() {
    let (mut engines, mut state, options) = five_steps(&Device::cpu());
    let mut told = Vec::new();
    let observer = &mut |event: &Progress| {
        told.push((event.loss, event.losses.clone()));
        ControlFlow::Continue
    };
    let save = &mut |_: &TrainingState, _: &Weights, _: &History| Ok(());
    train(&mut engines, &Adding, None, &mut state, &mut History::default(), &options, observer, save).unwrap();
    assert_eq!(told, vec![(6.0, vec![("twice", 12.0)]); 5]);
}

/// A task whose steps do not go on before the next batch is begun.
#[cfg(feature = "candle")]
#[derive(Default)]
struct Waiting {
    begun: AtomicUsize,
    /// Threads of the pool that makes batches.
    threads: AtomicUsize,
    /// Steps whose next batch was begun in time.
    in_time: AtomicUsize,
}

#[cfg(feature = "candle")]
impl Task for Waiting {
    type Batch = (usize, Vec<f32>, Vec<f32>);

    fn batch_into(&self, batch: &mut Self::Batch, index: u64) -> Result<()> {
        *batch = (index as usize, vec![0.5; 32 * 32], vec![0.0; 32 * 32 * 3]);
        self.threads.store(rayon::current_num_threads(), Ordering::SeqCst);
        self.begun.store(index as usize + 1, Ordering::SeqCst);
        Ok(())
    }

    fn input<'a>(&self, batch: &'a Self::Batch) -> &'a [f32] {
        let wait = Instant::now();
        while self.begun.load(Ordering::SeqCst) < batch.0 + 2 && batch.0 < 4 && wait.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        self.in_time.fetch_add(usize::from(self.begun.load(Ordering::SeqCst) >= batch.0 + 2), Ordering::SeqCst);
        &batch.1
    }

    fn loss(
        &self,
        _: &Self::Batch,
        _: Option<Range<usize>>,
        _: &[Vec<f32>],
        _: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        Err(Error::Internal("the loss is computed on the device".into()))
    }

    fn measured<'a>(&'a self, batch: &'a Self::Batch) -> Option<Measured<'a>> {
        Some(Measured::Cellpose { targets: &batch.2 })
    }
}

#[cfg(feature = "candle")]
#[test]
fn batches_are_made_while_an_accelerator_works_on_the_threads_that_it_leaves_free() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let (mut engines, mut state, options) = five_steps(&Device::stand_in(None));
    let task = Waiting::default();
    let outcome = pool.install(|| trained(&mut engines, &task, &mut state, &options)).unwrap();
    assert_eq!(outcome.steps, 5);
    assert_eq!((task.threads.into_inner(), task.in_time.into_inner()), (3, 4));
}
