//! How the learning rate changes during a training.

/// A learning-rate schedule. Rates are fractions of the base rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// The base rate, multiplied by `factor` whenever the validation loss has not improved for `patience` periods.
    ReduceOnPlateau {
        /// What the rate is multiplied by.
        factor: f32,
        /// Periods without improvement.
        patience: usize,
    },
    /// A linear rise over the first `warmup` of the training, then half a cosine down to `floor`.
    Cosine {
        /// Fraction of the training spent rising, in `[0, 1)`.
        warmup: f32,
        /// Rate at the end.
        floor: f32,
    },
    /// [`cellpose_rates`] of Cellpose 3 for a training of that many epochs, except that it does not begin with 0.
    Cellpose {
        /// Epochs that the training is divided into.
        epochs: usize,
    },
}

/// A learning-rate schedule under way.
#[derive(Debug, Clone)]
pub struct Scheduler {
    schedule: Schedule,
    factor: f32,
    best: f64,
    waited: usize,
}

impl Scheduler {
    /// The beginning of a schedule.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, factor: 1.0, best: f64::INFINITY, waited: 0 }
    }

    /// The fraction of the base rate when `done` of the training (in `[0, 1]`) is over.
    pub fn rate(&self, done: f64) -> f32 {
        match self.schedule {
            Schedule::ReduceOnPlateau { .. } => self.factor,
            Schedule::Cosine { warmup, floor } => {
                let done = done.clamp(0.0, 1.0) as f32;
                if done < warmup {
                    return (done / warmup).max(0.02);
                }
                let along = (done - warmup) / (1.0 - warmup);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f32::consts::PI * along).cos())
            }
            Schedule::Cellpose { epochs } => {
                let epoch = ((done.clamp(0.0, 1.0) * epochs as f64) as usize).clamp(1, epochs.max(2) - 1);
                cellpose_rates(CellposeVersion::Reference, epochs.max(2), 1.0)
                    .get(epoch)
                    .map_or(1.0, |rate| *rate as f32)
            }
        }
    }

    /// Takes in a validation loss.
    pub fn validated(&mut self, loss: f64) {
        if loss < self.best {
            self.best = loss;
            self.waited = 0;
            return;
        }
        self.waited += 1;
        if let Schedule::ReduceOnPlateau { factor, patience } = self.schedule
            && self.waited >= patience
        {
            self.factor *= factor;
            self.waited = 0;
        }
    }
}

/// Watches the loss of a training without validation: tells when it falls no more, and then how the rate comes down.
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    sums: [f64; 2],
    seen: usize,
    end: Option<[usize; 2]>,
}

/// Steps over which the loss is averaged, and the fall from one such stretch to the next that counts as one.
const STRETCH: usize = 200;
const FALL: f64 = 0.02;

/// Length of the end of a training whose loss falls no more, as a fraction of what came before.
const LANDING: f64 = 0.25;

impl EarlyStopping {
    /// Before the first step.
    pub fn new() -> Self {
        Self { sums: [f64::INFINITY, 0.0], seen: 0, end: None }
    }

    /// Takes in the loss of a step.
    pub fn saw(&mut self, loss: f64) {
        self.seen += 1;
        self.sums[1] += loss;
        if self.seen.is_multiple_of(STRETCH) && self.end.is_none() {
            if self.sums[1] > (1.0 - FALL) * self.sums[0] {
                self.end = Some([self.seen, self.seen + (LANDING * self.seen as f64) as usize]);
            }
            self.sums = [self.sums[1], 0.0];
        }
    }

    /// What the rate is multiplied by: 1, and from the time when the loss fell no more half a cosine down to 0.
    pub fn rate(&self) -> f32 {
        self.rate_after(0)
    }

    /// Whether the training is over.
    pub fn over(&self) -> bool {
        self.over_after(0)
    }

    /// [`rate`](Self::rate) for a training that is `ahead` steps further than the losses that were seen.
    pub fn rate_after(&self, ahead: usize) -> f32 {
        let Some([begin, end]) = self.end else { return 1.0 };
        let along = (self.seen + ahead - begin) as f32 / (end - begin).max(1) as f32;
        0.5 * (1.0 + (std::f32::consts::PI * along.min(1.0)).cos())
    }

    /// [`over`](Self::over) for a training that is `ahead` steps further than the losses that were seen.
    pub fn over_after(&self, ahead: usize) -> bool {
        self.end.is_some_and(|[_, end]| self.seen + ahead >= end)
    }

    /// Whether it could say something new if it saw the losses of the next `ahead` steps.
    pub fn waits_for(&self, ahead: usize) -> bool {
        self.end.is_none() && (self.seen + ahead).is_multiple_of(STRETCH)
    }
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self::new()
    }
}

/// Whose learning rates are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CellposeVersion {
    /// Cellpose 3: constant up to 100 epochs; up to 300 the last 50 epochs, else the last 100, in ten blocks, each at half
    /// the rate of the one before.
    #[default]
    Reference,
    /// The sparse-label fork of Cellpose 2: constant up to 250 epochs, else halved nine times in the last 90.
    Fork,
}

/// The learning rate of every epoch of a Cellpose training with `base` as the full rate.
///
/// The first ten epochs rise from **0** in equal parts: a training of one epoch learns nothing.
pub fn cellpose_rates(version: CellposeVersion, epochs: usize, base: f64) -> Vec<f64> {
    let (last, block) = match version {
        CellposeVersion::Reference if epochs > 300 => (100, 10),
        CellposeVersion::Reference if epochs > 100 => (50, 5),
        CellposeVersion::Fork if epochs > 250 => (90, 10),
        _ => (0, 1),
    };
    let halvings = |epoch: usize| (epoch + last).checked_sub(epochs).map_or(0, |since| since / block + 1);
    let rate = |epoch: usize| match epoch {
        0..9 => base * epoch as f64 / 9.0,
        _ => base / (1u64 << halvings(epoch)) as f64,
    };
    (0..epochs).map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_lands_when_its_loss_falls_no_more() {
        let mut stopping = EarlyStopping::new();
        let mut loss = 1.0;
        for _ in 0..1000 {
            loss *= 0.999;
            stopping.saw(loss);
            assert!(stopping.rate() == 1.0 && !stopping.over());
        }
        let mut steps = 1000;
        let mut rate = 1.0;
        while !stopping.over() {
            stopping.saw(loss);
            assert!(stopping.rate() <= rate);
            rate = stopping.rate();
            steps += 1;
        }
        // Two flat stretches are seen at 1400; a quarter of that is the landing.
        assert_eq!(steps, 1750);
        assert!(rate < 1e-3, "{rate}");
    }

    #[test]
    fn losses_that_are_seen_late_change_nothing() {
        let (mut now, mut late) = (EarlyStopping::new(), EarlyStopping::new());
        let mut unseen = 0;
        for step in 1..=1000 {
            now.saw(1.0);
            unseen += 1;
            // Seen when it matters, and otherwise at odd times.
            if late.waits_for(unseen) || step % 7 == 0 {
                (0..unseen).for_each(|_| late.saw(1.0));
                unseen = 0;
            }
            assert_eq!((now.rate(), now.over()), (late.rate_after(unseen), late.over_after(unseen)), "{step}");
            if now.over() {
                return;
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn cosine_rises_and_falls() {
        let scheduler = Scheduler::new(Schedule::Cosine { warmup: 0.1, floor: 0.01 });
        assert!(scheduler.rate(0.0) > 0.0 && scheduler.rate(0.05) < scheduler.rate(0.1));
        assert!((scheduler.rate(0.1) - 1.0).abs() < 1e-6);
        assert!((scheduler.rate(1.0) - 0.01).abs() < 1e-6);
    }

    #[test]
    fn cellpose_rates_rise_from_0_and_short_trainings_do_not_fall() {
        for version in [CellposeVersion::Reference, CellposeVersion::Fork] {
            assert!(cellpose_rates(version, 0, 1.0).is_empty());
            assert_eq!(cellpose_rates(version, 1, 1.0), [0.0]);
            let rates = cellpose_rates(version, 100, 0.2);
            assert!(rates.windows(2).all(|pair| pair[0] <= pair[1]) && rates[9] == 0.2);
        }
    }

    #[test]
    fn a_plateau_halves_the_rate_once_per_patience() {
        let mut scheduler = Scheduler::new(Schedule::ReduceOnPlateau { factor: 0.5, patience: 3 });
        for loss in [1.0, 0.9, 0.9, 0.9] {
            scheduler.validated(loss);
        }
        assert_eq!(scheduler.rate(0.5), 1.0);
        scheduler.validated(0.95);
        assert_eq!(scheduler.rate(0.5), 0.5);
        scheduler.validated(f64::NAN);
        assert_eq!(scheduler.rate(0.5), 0.5);
    }
}
