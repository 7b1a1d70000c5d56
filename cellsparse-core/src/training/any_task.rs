//! A task whose type of batches is not known where it is used.

use std::any::Any;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::training::measured::Measured;
use crate::training::task::{LossReport, Task};

/// A task of any kind, so that what comes before and after the loop is the same code for every algorithm.
pub struct AnyTask(Box<dyn Erased>);

/// A batch of any kind; empty before its first use.
#[derive(Default)]
pub struct AnyBatch(Option<Box<dyn Any + Send>>);

/// [`Task`] without its type of batches.
trait Erased: Send + Sync {
    fn batch_into(&self, batch: &mut AnyBatch, index: u64) -> Result<()>;
    fn input<'a>(&self, batch: &'a AnyBatch) -> &'a [f32];
    fn loss(
        &self,
        batch: &AnyBatch,
        images: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport>;
    fn measured<'a>(&'a self, batch: &'a AnyBatch) -> Option<Measured<'a>>;
    fn carried(&self) -> f32;
    fn set_carried(&self, carried: f32);
}

impl AnyTask {
    /// Hides the type of a task.
    pub fn new<T: Task<Batch: 'static> + Send + 'static>(task: T) -> Self {
        Self(Box::new(task))
    }
}

impl std::fmt::Debug for AnyTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyTask")
    }
}

impl std::fmt::Debug for AnyBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyBatch")
    }
}

impl AnyBatch {
    fn of<B: 'static>(&self) -> Option<&B> {
        self.0.as_ref()?.downcast_ref()
    }

    /// The buffers of an earlier batch of that type, or new ones.
    fn of_mut<B: Default + Send + 'static>(&mut self) -> Result<&mut B> {
        if self.of::<B>().is_none() {
            self.0 = Some(Box::new(B::default()));
        }
        self.0.as_mut().and_then(|batch| batch.downcast_mut()).ok_or_else(strange)
    }
}

fn strange() -> Error {
    Error::Internal("a batch of another task".into())
}

impl<T: Task<Batch: 'static> + Send> Erased for T {
    fn batch_into(&self, batch: &mut AnyBatch, index: u64) -> Result<()> {
        Task::batch_into(self, batch.of_mut()?, index)
    }

    fn input<'a>(&self, batch: &'a AnyBatch) -> &'a [f32] {
        batch.of().map_or(&[], |batch| Task::input(self, batch))
    }

    fn loss(
        &self,
        batch: &AnyBatch,
        images: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        Task::loss(self, batch.of().ok_or_else(strange)?, images, outputs, gradients)
    }

    fn measured<'a>(&'a self, batch: &'a AnyBatch) -> Option<Measured<'a>> {
        Task::measured(self, batch.of()?)
    }

    fn carried(&self) -> f32 {
        Task::carried(self)
    }

    fn set_carried(&self, carried: f32) {
        Task::set_carried(self, carried);
    }
}

impl Task for AnyTask {
    type Batch = AnyBatch;

    fn batch_into(&self, batch: &mut AnyBatch, index: u64) -> Result<()> {
        self.0.batch_into(batch, index)
    }

    fn input<'a>(&self, batch: &'a AnyBatch) -> &'a [f32] {
        self.0.input(batch)
    }

    fn loss(
        &self,
        batch: &AnyBatch,
        images: Option<Range<usize>>,
        outputs: &[Vec<f32>],
        gradients: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<LossReport> {
        self.0.loss(batch, images, outputs, gradients)
    }

    fn measured<'a>(&'a self, batch: &'a AnyBatch) -> Option<Measured<'a>> {
        self.0.measured(batch)
    }

    fn carried(&self) -> f32 {
        self.0.carried()
    }

    fn set_carried(&self, carried: f32) {
        self.0.set_carried(carried);
    }
}

#[cfg(test)]
mod tests {
    use super::{AnyBatch, AnyTask, LossReport, Range, Result, Task};

    /// Batches that hold their number, in buffers of that type.
    struct Counting<B>(std::marker::PhantomData<fn(B)>);

    impl<B: Default + Send + From<u16> + Copy + Into<f64>> Task for Counting<B> {
        type Batch = Vec<B>;

        fn batch_into(&self, batch: &mut Vec<B>, index: u64) -> Result<()> {
            batch.push(B::from(index as u16));
            Ok(())
        }

        fn input<'a>(&self, _batch: &'a Vec<B>) -> &'a [f32] {
            &[1.0]
        }

        fn loss(
            &self,
            batch: &Vec<B>,
            images: Option<Range<usize>>,
            _outputs: &[Vec<f32>],
            _gradients: Option<&mut Vec<Vec<f32>>>,
        ) -> Result<LossReport> {
            let sum: f64 = batch.iter().map(|value| (*value).into()).sum();
            Ok(LossReport { total: sum + images.map_or(0, |images| images.len()) as f64, parts: Vec::new() })
        }
    }

    #[test]
    fn buffers_are_used_again_by_tasks_of_one_kind_and_no_batch_is_taken_for_one_of_another() {
        let (small, wide) =
            (AnyTask::new(Counting::<u32>(Default::default())), AnyTask::new(Counting::<f64>(Default::default())));
        let mut batch = AnyBatch::default();
        assert!(small.loss(&batch, None, &[], None).is_err() && small.input(&batch).is_empty());
        for index in [3, 4] {
            small.batch_into(&mut batch, index).unwrap();
        }
        assert_eq!((small.loss(&batch, None, &[], None).unwrap().total, small.input(&batch)), (7.0, &[1.0][..]));
        assert_eq!(small.loss(&batch, Some(1..3), &[], None).unwrap().total, 9.0);
        assert!(wide.loss(&batch, None, &[], None).is_err() && wide.input(&batch).is_empty());
        wide.batch_into(&mut batch, 5).unwrap();
        assert_eq!(wide.loss(&batch, None, &[], None).unwrap().total, 5.0);
    }
}
