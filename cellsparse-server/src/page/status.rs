//! What the page is told of the learning of a project.

use cellsparse_core::CancelToken;
use cellsparse_core::session::{Round, Window};
use serde::Serialize;

/// Losses that are kept for the chart, at most.
const LOSSES: usize = 600;

/// What a project does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing.
    #[default]
    Off,
    /// It learns as soon as a cell is drawn.
    Waiting,
    /// It waits for another training of the server.
    Queued,
    /// It tries the algorithms on the drawn cells.
    Choosing,
    /// It learns.
    Learning,
    /// The time since the last change is over; it goes on with the next one.
    Resting,
}

/// The learning of a project.
#[derive(Debug, Default)]
pub struct Status {
    /// Whether it is to learn.
    pub wanted: bool,
    /// Whether a task makes rounds.
    pub running: bool,
    /// Ends the round under way.
    pub cancel: CancelToken,
    /// What it does.
    pub phase: Phase,
    /// Seconds of learning since the last change.
    pub spent: f64,
    /// The image that is looked at, and the part of it that is seen.
    pub image: Option<u32>,
    /// That part.
    pub view: Option<Window>,
    /// Losses of the steps so far.
    pub losses: Vec<f32>,
    /// A number that is another one with other weights.
    pub version: u64,
    /// The last round.
    pub round: Option<RoundReport>,
    /// Whether the last round chose thresholds.
    pub settled: bool,
    /// The part of the drawn cells of the image that is found again, and the mean overlap with those.
    pub agreement: Option<[f64; 2]>,
    /// Why learning ended, or what it was told.
    pub message: Option<String>,
}

/// What the page is told of a round.
#[derive(Debug, Clone, Serialize)]
pub struct RoundReport {
    number: usize,
    steps: usize,
    total_steps: u64,
    loss: f32,
    seconds: f64,
    improved: bool,
    notes: Vec<String>,
}

impl From<&Round> for RoundReport {
    fn from(round: &Round) -> Self {
        Self {
            number: round.number,
            steps: round.steps,
            total_steps: round.total_steps,
            loss: round.loss,
            seconds: (round.seconds * 1e3).round() / 1e3,
            improved: round.improved,
            notes: round.notes.clone(),
        }
    }
}

impl Status {
    /// Remembers the loss of a step; of many, every second one is forgotten.
    pub fn add_loss(&mut self, loss: f32) {
        self.losses.push(loss);
        if self.losses.len() > LOSSES {
            let mut keep = false;
            self.losses.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }
}
