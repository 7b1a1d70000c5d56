//! The weights before and after a training, compared on what was drawn: the better ones are kept.

use ndarray::{ArrayView3, s};

use super::judged::{busiest, enough, forget_cut_objects};
use super::recipe::Begin;
use super::work::Work;
use super::{Model, PredictOptions, Thresholds, TrainOptions};
use crate::annotations::Dataset;
use crate::error::Result;
use crate::metrics::{Criterion, matching_dataset};
use crate::raster::LabelImage;

/// Images that are looked at, at most, and their pixels together: a second or two.
const IMAGES: usize = 8;
const PIXELS: usize = 1 << 21;

/// Around what was drawn in an image, so many diameters of the cells are looked at.
const MARGIN: f64 = 3.0;

/// So much more of the drawn cells must be covered by the weights after a training for them to be kept when both find the same
/// of them and the training began with a trained model: that the cells which were trained on fit better is no wonder.
const MORE: f64 = 0.15;

/// So much more of the drawn cells must be found by starting weights for them to be kept: of a handful of cells, one more or less
/// is a matter of chance.
const CHANCE: f64 = 0.2;

/// How well some weights segment what was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Score {
    /// `tp / (tp + fp + fn)` at an intersection over union of 0.5; only what lies on labelled pixels counts.
    pub accuracy: f64,
    /// Mean intersection over union of the cells that were found.
    pub overlap: f64,
}

impl Score {
    /// Whether these weights are kept instead of those that a training ended with.
    pub fn beats(&self, trained: &Self, begin: Begin) -> bool {
        let lead = if begin == Begin::Starter { CHANCE } else { 0.0 };
        if self.accuracy != trained.accuracy {
            return self.accuracy > trained.accuracy + lead;
        }
        // Starting weights have never seen such cells: who drew some wants them learned.
        begin == Begin::Trained && self.accuracy > 0.0 && trained.overlap < self.overlap + MORE
    }
}

/// The parts of some images where something was drawn.
pub(super) struct Drawn {
    parts: Vec<(ndarray::Array3<f32>, LabelImage)>,
}

impl Drawn {
    /// Those of some of the images of `data`, as `model` sees them.
    pub fn new(model: &Model, data: &Dataset, options: &TrainOptions) -> Result<Self> {
        let step = data.len().div_ceil(IMAGES).max(1);
        let (mut parts, mut pixels) = (Vec::new(), 0);
        for index in (0..data.len()).step_by(step) {
            let labels = &data.labels()[index];
            let image = model.network_input(&data.images()[index], options.normalized)?;
            let margin = (MARGIN * labels.median_diameter()) as usize + 16;
            let mut window = around_cells(labels.labels(), margin);
            let most = enough(labels, PIXELS, data.len().div_ceil(step));
            if window[0].len() * window[1].len() > most {
                window = busiest(labels.labels(), most);
            }
            let [rows, columns] = window.clone();
            let part = image.slice(s![rows.clone(), columns.clone(), ..]).to_owned();
            pixels += part.len();
            if pixels > PIXELS && !parts.is_empty() {
                break;
            }
            let mut drawn = labels.labels().slice(s![rows, columns]).to_owned();
            forget_cut_objects(&mut drawn, &window, labels.labels().dim());
            parts.push((part, drawn));
        }
        Ok(Self { parts })
    }

    /// Their pixels.
    pub fn pixels(&self) -> f64 {
        self.parts.iter().map(|(_, labels)| labels.len() as f64).sum()
    }

    /// What a network says about each of them, with what was drawn there.
    pub fn predicted<T>(&self, predict: impl Fn(ArrayView3<'_, f32>) -> Result<T>) -> Result<Vec<(T, &LabelImage)>> {
        self.parts.iter().map(|(image, labels)| Ok((predict(image.view())?, labels))).collect()
    }

    /// How well a model segments them.
    pub fn score(&self, model: &Model, work: &Work<'_>, predict: &PredictOptions) -> Result<Score> {
        let mut found = Vec::new();
        for (image, labels) in &self.parts {
            found.push((labels, model.segment_on(work, ArrayView3::from(image), predict)?.labels));
        }
        let pairs: Vec<_> = found.iter().map(|(labels, found)| (*labels, found)).collect();
        let scores = matching_dataset(&pairs, &[0.5], Criterion::Iou, false)?;
        Ok(scores
            .first()
            .map_or(Score::default(), |score| Score { accuracy: score.accuracy, overlap: score.mean_matched_score }))
    }

    /// Lowers the thresholds of a model that finds none of the drawn cells until it does; if no threshold does, they stay.
    pub fn lower_thresholds(&self, model: &mut Model, work: &Work<'_>) -> Result<Option<Score>> {
        for options in lower(&model.thresholds) {
            let score = self.score(model, work, &options)?;
            if score.accuracy > 0.0 {
                model.thresholds = model.thresholds.with(&options)?;
                return Ok(Some(score));
            }
        }
        Ok(None)
    }
}

/// Lower and lower thresholds.
fn lower(thresholds: &Thresholds) -> Vec<PredictOptions> {
    let prob = |prob| PredictOptions { prob_thresh: Some(prob), ..PredictOptions::default() };
    let given = match thresholds {
        Thresholds::Stardist(star) => star.prob,
        Thresholds::Elephant(elephant) => elephant.center,
        Thresholds::Cellpose(cellpose) => {
            let below = [-1.0, -2.0, -3.0, -4.0].map(|less| cellpose.cellprob + less);
            let options = |logit| PredictOptions { cellprob_threshold: Some(logit), ..PredictOptions::default() };
            return below.map(options).into();
        }
    };
    [0.4, 0.3, 0.2, 0.1, 0.05, 0.02].into_iter().filter(|value| *value < given).map(prob).collect()
}

/// The rows and columns within `margin` pixels of a cell.
fn around_cells(labels: &LabelImage, margin: usize) -> [std::ops::Range<usize>; 2] {
    let (height, width) = labels.dim();
    let (mut low, mut high) = ([height, width], [0, 0]);
    for ((y, x), label) in labels.indexed_iter() {
        if *label > 0 {
            low = [low[0].min(y), low[1].min(x)];
            high = [high[0].max(y + 1), high[1].max(x + 1)];
        }
    }
    if high == [0, 0] {
        return [0..height, 0..width];
    }
    [
        low[0].saturating_sub(margin)..(high[0] + margin).min(height),
        low[1].saturating_sub(margin)..(high[1] + margin).min(width),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_weights_give_way_and_trained_models_only_to_better_ones() {
        let score = |accuracy, overlap| Score { accuracy, overlap };
        for begin in [Begin::Starter, Begin::Trained] {
            assert!(score(0.95, 0.7).beats(&score(0.7, 0.9), begin));
            assert_eq!(score(0.8, 0.7).beats(&score(0.7, 0.9), begin), begin == Begin::Trained);
            assert!(!score(0.7, 0.9).beats(&score(0.8, 0.7), begin));
            assert!(!score(0.0, 0.0).beats(&score(0.0, 0.0), begin));
        }
        let (start, trained) = (score(1.0, 0.8), score(1.0, 0.9));
        assert!(start.beats(&trained, Begin::Trained) && !start.beats(&trained, Begin::Starter));
        assert!(!score(1.0, 0.6).beats(&score(1.0, 0.8), Begin::Trained));
    }

    #[test]
    fn the_part_around_the_cells_ends_at_the_image() {
        let mut labels = LabelImage::from_elem((50, 60), -1);
        assert_eq!(around_cells(&labels, 3), [0..50, 0..60]);
        labels[[2, 20]] = 1;
        labels[[10, 25]] = 2;
        assert_eq!(around_cells(&labels, 4), [0..15, 16..30]);
    }
}
