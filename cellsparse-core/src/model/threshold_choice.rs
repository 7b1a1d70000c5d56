//! The choice of thresholds at the end of a training.

use super::calibration::CalibrationSet;
use super::drawn::Drawn;
use super::facade::Model;
use super::options::TrainOptions;
use super::registry::Thresholds;
use super::work::Work;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::networks::Device;

/// Pixels of the images that thresholds are chosen on after a training was stopped, at most: a few seconds.
const PIXELS_AFTER_A_STOP: f64 = 4e6;

impl Model {
    /// Gives a trained model the thresholds that segment the calibration set best, or leaves it those that it has, and says why
    /// when it does against expectation. What was learned is not at stake here, so nothing is an error.
    pub(super) fn settle_thresholds(
        &mut self,
        set: Option<CalibrationSet<'_>>,
        drawn: Option<&Drawn>,
        stopped: bool,
        options: &TrainOptions,
        device: &Device,
        budget: Budget,
    ) -> Vec<String> {
        let pixels = set.as_ref().map(CalibrationSet::pixels).or(drawn.map(Drawn::pixels));
        // Nobody who stops a training waits for large images.
        if stopped && pixels.unwrap_or(0.0) > PIXELS_AFTER_A_STOP {
            return vec!["the training was stopped, and its images are large: the usual thresholds are taken".into()];
        }
        // The request that ended the training was answered; the next one ends the choice.
        let cancel = if stopped { options.cancel.renewed() } else { options.cancel.clone() };
        let work = Work::plain(device, &cancel, budget);
        match self.chosen_thresholds(set.as_ref(), drawn, &work) {
            Ok(chosen) => {
                self.thresholds = chosen;
                Vec::new()
            }
            Err(Error::Cancelled) => vec!["the choice of thresholds was stopped: the usual ones are taken".into()],
            Err(error) => vec![format!("thresholds could not be chosen, the usual ones are taken: {error}")],
        }
    }

    fn chosen_thresholds(
        &self,
        set: Option<&CalibrationSet<'_>>,
        drawn: Option<&Drawn>,
        work: &Work<'_>,
    ) -> Result<Thresholds> {
        let mut algorithm = self.settings()?;
        match (set, drawn) {
            (Some(set), _) => algorithm.choose_thresholds(&self.network, set, work)?,
            (None, Some(drawn)) => algorithm.fit_outlines(&self.network, drawn, work)?,
            (None, None) => {}
        }
        Ok(algorithm.thresholds())
    }
}
