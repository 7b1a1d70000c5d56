//! In place of training on accelerators in builds without Candle, which have none.

use crate::control::CancelToken;
use crate::error::Result;
use crate::networks::{Engine, Weights};
use crate::training::measured::Measured;
use crate::training::task::LossReport;
use crate::training::trainer::{StepPlan, TrainingState};

/// There is none.
#[derive(Debug)]
pub(crate) enum DeviceLearner {}

impl DeviceLearner {
    pub fn for_engine(_: &Engine, _: &TrainingState, _: Option<&Weights>) -> Result<Option<Self>> {
        Ok(None)
    }

    pub fn step(&mut self, _: &[f32], _: &Measured<'_>, _: &StepPlan, _: &CancelToken) -> Result<()> {
        match *self {}
    }

    pub fn reports(&mut self) -> Result<Vec<(LossReport, bool)>> {
        match *self {}
    }

    pub fn fetch(&self, _: &mut TrainingState, _: Option<&mut Weights>) -> Result<()> {
        match *self {}
    }
}
