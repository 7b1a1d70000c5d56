//! Training that stays on an accelerator: parameters, maps, gradients, losses and the state of the optimiser are tensors there. A
//! step takes a batch along and brings nothing back; the losses of many steps are fetched at once.

mod learner;
mod loss;
mod loss_cellpose;
mod loss_elephant;
mod loss_stardist;
mod optimizer;

pub(crate) use self::learner::DeviceLearner;
