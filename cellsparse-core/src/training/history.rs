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

/// The largest number of steps: counting on from there is safe in every type.
pub const MOST_STEPS: u64 = 1 << 53;

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

    /// Whether the parts fit each other, as those of every training do; else what does not.
    ///
    /// # Errors
    /// The reason, in words that follow "the history".
    pub fn check(&self) -> std::result::Result<(), String> {
        let steps = self.steps.len();
        for (name, found) in [("losses", self.loss.len()), ("learning rates", self.learning_rate.len())] {
            if found != steps {
                return Err(format!("has {steps} steps and {found} {name}"));
            }
        }
        // A part of the loss may have come with a later training.
        if let Some((name, part)) = self.losses.iter().find(|(_, part)| part.len() > steps) {
            return Err(format!("has {steps} steps and {} values of the loss '{name}'", part.len()));
        }
        let validated = self.validation_steps.len();
        if self.validation_loss.len() != validated {
            return Err(format!("has {validated} validations and {} losses of them", self.validation_loss.len()));
        }
        for steps in [&self.steps, &self.validation_steps] {
            if let Some(pair) = steps.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(format!("goes from step {} to step {}", pair[0], pair[1]));
            }
            if let Some(last) = steps.last().filter(|last| **last > MOST_STEPS) {
                return Err(format!("counts {last} steps, above {MOST_STEPS}"));
            }
        }
        let parts = self.losses.values().chain([&self.loss, &self.learning_rate, &self.validation_loss]);
        match parts.flatten().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("holds the value {value}")),
            None => Ok(()),
        }
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
    fn parts_that_do_not_fit_are_named() {
        let good = History {
            steps: vec![1, 2],
            loss: vec![0.5, 0.4],
            losses: BTreeMap::from([("prob".to_string(), vec![0.5, 0.4])]),
            learning_rate: vec![1e-3; 2],
            validation_steps: vec![2],
            validation_loss: vec![0.3],
        };
        assert_eq!((good.check(), History::default().check()), (Ok(()), Ok(())));
        let bad = [
            (History { loss: vec![0.5], ..good.clone() }, "1 losses"),
            (History { learning_rate: vec![], ..good.clone() }, "0 learning rates"),
            (History { losses: BTreeMap::from([("x".to_string(), vec![0.0; 3])]), ..good.clone() }, "loss 'x'"),
            (History { steps: vec![2, 2], ..good.clone() }, "step 2 to step 2"),
            (History { steps: vec![1, u64::MAX], ..good.clone() }, "18446744073709551615"),
            (History { validation_loss: vec![], ..good.clone() }, "1 validations and 0"),
            (History { loss: vec![0.5, f32::INFINITY], ..good }, "inf"),
        ];
        for (history, words) in bad {
            let reason = history.check().unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }

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
