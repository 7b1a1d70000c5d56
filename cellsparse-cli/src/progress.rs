//! Progress of a training on standard error: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use cellsparse_core::{ControlFlow, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::note;

/// One point of the training history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Optimiser step, counted from 1.
    pub step: usize,
    /// Weighted total loss of the batch.
    pub loss: f32,
    /// Validation loss, where it was measured.
    pub validation: Option<f32>,
}

/// Shows the events of one training and keeps its losses.
pub struct Meter {
    bar: Option<ProgressBar>,
    history: Vec<Point>,
    last_line: Option<Duration>,
    last_percent: usize,
}

impl Meter {
    /// A meter for `steps` steps; nothing is shown before the first event.
    pub fn new(steps: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{bar:32.cyan/blue} {pos}/{len} steps  {msg}") {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar
        });
        Self { bar, history: Vec::new(), last_line: None, last_percent: 0 }
    }

    /// Takes an event; never asks to stop.
    pub fn observe(&mut self, event: &Progress) -> ControlFlow {
        self.history.push(Point { step: event.step, loss: event.loss, validation: event.validation_loss });
        match &self.bar {
            Some(bar) => {
                bar.set_length(event.total_steps as u64);
                bar.set_position(event.step as u64);
                bar.set_message(format!("loss {:.4}  {} left", event.loss, clock(event.remaining)));
            }
            None => {
                if self.is_due(event) {
                    note(&line(event));
                }
            }
        }
        ControlFlow::Continue
    }

    /// Ends the display and hands over the losses of all steps.
    pub fn finish(self) -> Vec<Point> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.history
    }

    /// At most one line a second and one for each percent, but always the first and the last step.
    fn is_due(&mut self, event: &Progress) -> bool {
        let percent = 100 * event.step / event.total_steps.max(1);
        let rested = self.last_line.is_none_or(|last| event.elapsed.saturating_sub(last) >= Duration::from_secs(1));
        let due =
            event.step >= event.total_steps || self.last_line.is_none() || (rested && percent > self.last_percent);
        if due {
            self.last_line = Some(event.elapsed);
            self.last_percent = percent;
        }
        due
    }
}

fn line(event: &Progress) -> String {
    let parts: Vec<String> = event.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    let validation = event.validation_loss.map_or(String::new(), |loss| format!("  validation {loss:.4}"));
    format!(
        "step {}/{}  loss {:.4}{parts}{validation}  lr {:.2e}  elapsed {}  left {}",
        event.step,
        event.total_steps,
        event.loss,
        event.learning_rate,
        clock(event.elapsed),
        clock(event.remaining)
    )
}

/// A time in words short enough for a progress line: `4.2 s`, `1 min 05 s`, `2 h 10 min`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 59.5 {
        format!("{seconds:.0} s")
    } else {
        let seconds = seconds.round().min(1e12) as u64;
        if seconds < 3600 {
            format!("{} min {:02} s", seconds / 60, seconds % 60)
        } else {
            format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(step: usize, total_steps: usize, seconds: f64) -> Progress {
        let mut event = Progress::new(step, total_steps, 0.5);
        event.losses = vec![("prob", 0.2), ("dist", 1.5)];
        event.learning_rate = 3e-4;
        event.elapsed = Duration::from_secs_f64(seconds);
        event.remaining = Duration::from_secs(65);
        event
    }

    #[test]
    fn lines_come_about_once_a_second() {
        let mut meter = Meter { bar: None, history: Vec::new(), last_line: None, last_percent: 0 };
        let shown = (1..=1000).filter(|&step| meter.is_due(&event(step, 1000, step as f64 * 0.01))).count();
        assert!((10..=12).contains(&shown), "{shown} lines in ten seconds");
        let mut meter = Meter { bar: None, history: Vec::new(), last_line: None, last_percent: 0 };
        let shown = (1..=1000).filter(|&step| meter.is_due(&event(step, 1000, step as f64 * 5.0))).count();
        assert!((100..=102).contains(&shown), "{shown} lines for 100 percent");
    }

    #[test]
    fn a_line_says_everything() {
        let line = line(&event(40, 200, 17.0));
        for part in ["step 40/200", "loss 0.5000", "prob 0.2000", "dist 1.5000", "elapsed 17 s", "left 1 min 05 s"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn times_are_readable() {
        let clocks = [0.4, 12.0, 59.9, 3599.0, 7800.0].map(|seconds| clock(Duration::from_secs_f64(seconds)));
        assert_eq!(clocks, ["0.4 s", "12 s", "1 min 00 s", "59 min 59 s", "2 h 10 min"]);
    }
}
