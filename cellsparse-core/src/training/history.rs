//! What a training leaves behind about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::Progress;

/// Losses and learning rates over the steps of all trainings of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct History {
    /// Step numbers, counted over all trainings; the other vectors but the validation's are parallel to it.
    pub steps: Vec<u64>,
    /// Weighted total loss.
    pub loss: Vec<f32>,
    /// Parts of the loss by name.
    pub losses: BTreeMap<String, Vec<f32>>,
    /// Learning rate.
    pub learning_rate: Vec<f32>,
    /// Steps after which the validation loss was measured.
    pub validation_steps: Vec<u64>,
    /// Validation loss.
    pub validation_loss: Vec<f32>,
}

/// Entries above which a stored history is thinned to half.
const STORED: usize = 4000;

impl History {
    /// Adds one step; `before` steps belong to earlier trainings.
    pub fn push(&mut self, before: u64, event: &Progress) {
        let step = before + event.step as u64;
        self.steps.push(step);
        self.loss.push(event.loss);
        self.learning_rate.push(event.learning_rate);
        for (name, value) in &event.losses {
            self.losses.entry((*name).to_string()).or_default().push(*value);
        }
        if let Some(loss) = event.validation_loss {
            self.validation_steps.push(step);
            self.validation_loss.push(loss);
        }
    }

    /// Steps of all trainings.
    pub fn total_steps(&self) -> u64 {
        self.steps.last().copied().unwrap_or(0)
    }

    /// The history with every second entry left out until it is short enough for a model file.
    pub fn thinned(&self) -> Self {
        let mut thin = self.clone();
        while thin.steps.len() > STORED {
            // The newest entry is kept: it tells how many steps there were.
            let parity = (thin.steps.len() - 1) % 2;
            let halve = |values: &mut Vec<f32>| *values = every_second(values, parity);
            thin.steps = every_second(&thin.steps, parity);
            halve(&mut thin.loss);
            halve(&mut thin.learning_rate);
            thin.losses.values_mut().for_each(halve);
        }
        thin
    }
}

fn every_second<T: Copy>(values: &[T], parity: usize) -> Vec<T> {
    values.iter().copied().enumerate().filter(|(i, _)| i % 2 == parity).map(|(_, v)| v).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_long_history_is_thinned_and_keeps_its_end() {
        let mut history = History::default();
        for step in 1..=10_001 {
            let event = Progress {
                step,
                total_steps: 10_001,
                epoch: 1,
                loss: step as f32,
                losses: vec![("prob", 1.0)],
                validation_loss: None,
                learning_rate: 0.1,
                elapsed: Duration::ZERO,
                remaining: Duration::ZERO,
            };
            history.push(5, &event);
        }
        let thin = history.thinned();
        assert!(thin.steps.len() <= STORED && thin.steps.len() > STORED / 2 - 2);
        assert_eq!(thin.total_steps(), 10_006);
        assert_eq!(thin.losses["prob"].len(), thin.steps.len());
    }
}
