//! Training behind the facade.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::algorithm::TaskInput;
use super::calibration::CalibrationSet;
use super::contrast::Seen;
use super::device;
use super::drawn::Drawn;
use super::facade::Model;
use super::fit::{Run, validation_batch};
use super::network::Network;
use super::options::{Precision, PredictOptions, Preset, Start, TrainOptions};
use super::pixel_size::at_one_pixel_size;
use super::recipe::{Begin, Recipe};
use super::registry::Thresholds;
use super::shape_advice::shape_advice_until;
use super::starters::Starter;
use super::threshold_search::smallest_object;
use super::training_data::training_data;
use super::work::Work;
use super::working_scale::{Gauge, WorkingScale};
use crate::annotations::Dataset;
use crate::budget::Budget;
use crate::control::{CancelToken, ControlFlow, Progress, StopReason};
use crate::error::{Error, Result};
use crate::networks::{Device, Weights};
use crate::training::trainer::TrainingOutcome;

/// What a training did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainingSummary {
    /// Optimiser steps done.
    pub steps: usize,
    /// Wall time of the steps and validations.
    pub seconds: f64,
    /// `seconds / steps`.
    pub seconds_per_step: f64,
    /// Loss of the last step.
    pub loss: f32,
    /// Device that did the work.
    pub device: String,
    /// The numbers that it computed with, never `Auto`.
    pub precision: Precision,
    /// Why it ended.
    pub stopped: StopReason,
    /// What it began with: `random` weights, the `starter` in the library, or a trained `model`.
    pub begun: &'static str,
    /// Whose weights were kept, as they segment what was drawn better: the `trained` ones or those of the `start`.
    pub kept: &'static str,
    /// What a user should know of the result, one sentence each.
    pub notes: Vec<String>,
}

/// What a training leaves beside the model.
struct Ending {
    outcome: TrainingOutcome,
    begin: Begin,
    start_kept: bool,
    notes: Vec<String>,
}

/// What a trained model is judged on.
struct Judged<'a> {
    /// What its thresholds are chosen on, if it is not what was drawn.
    set: Option<CalibrationSet<'a>>,
    /// What was drawn; none when the weights are kept whatever they are worth.
    drawn: Option<Drawn>,
    /// Pixels of the smallest object that is taken for a cell.
    smallest: f32,
}

impl Judged<'_> {
    /// A part of it for a network that sees it at `scale` and has a moment.
    fn at_once(&self, network: &Network, scale: f64, cancel: &CancelToken) -> Result<Judged<'static>> {
        Ok(Judged {
            set: self.set.as_ref().map(|set| set.excerpt(network, scale, cancel)).transpose()?.flatten(),
            drawn: self.drawn.as_ref().and_then(|drawn| drawn.excerpt(scale)),
            smallest: self.smallest,
        })
    }
}

/// What can be gone back to after a training.
struct Before {
    weights: Weights,
    thresholds: Thresholds,
    scale: WorkingScale,
}

/// Time in which a training that was stopped is made usable: its thresholds and the comparison with the weights before it come from
/// a part of what was drawn that takes less, and stay as they are where even that takes longer.
const AFTER_A_STOP: Duration = Duration::from_millis(250);

/// Fraction of a step that goes forward.
const FORWARD: f64 = 0.35;

/// Passes over the drawn parts that tell how the network sees the cells there; the few parts where it sees none of the right size take
/// more.
const LOOKS: f64 = 2.2;

/// Whether a model is to know how it sees the drawn cells: not when images are taken as they are, as parts of one are.
fn gauges(options: &TrainOptions) -> bool {
    options.rescale && !options.normalized && !options.round && options.preset != Preset::Reference
}

impl Model {
    /// Trains on annotated images, from the weights the model has now.
    ///
    /// With `validation`, the weights with the lowest validation loss are kept and thresholds are chosen on it; without,
    /// thresholds are chosen on the annotated cells themselves and those that they make plain. `observer` is called after
    /// every step and may stop the training, which then returns normally with the weights so far. The result is the same
    /// for every number of threads.
    ///
    /// # Errors
    /// [`Error::Image`] and [`Error::Labels`] for unusable data, [`Error::Config`] for options out of range,
    /// [`Error::Device`] for an absent device, [`Error::Limit`] for a training that the memory does not suffice for,
    /// [`Error::Diverged`] when the loss or the weights are no longer finite, [`Error::Cancelled`] when it is to stop before
    /// its first step is done; the model is then as it was before. Once the last step is done,
    /// nothing is an error: what goes wrong in the choice of thresholds is among the notes of the summary.
    pub fn train(
        &mut self,
        data: &Dataset,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
    ) -> Result<TrainingSummary> {
        for (name, set) in [("training", Some(data)), ("validation", validation)] {
            for image in set.map(Dataset::images).unwrap_or_default() {
                let place = |error: Error| error.map_message(|message| format!("{name} set: {message}"));
                self.network.check_channels(image.channels()).map_err(place)?;
            }
            let classes = set.map(Dataset::labels).unwrap_or_default().iter().any(|labels| labels.classes().is_some());
            if classes && !self.settings()?.has_classes() {
                return Err(Error::Labels(format!(
                    "the {name} set says of which class its objects are, and this model of {} has no classes; leave the \
                     classes out, or make a StarDist model with n_classes",
                    self.algorithm()
                )));
            }
        }
        let chosen = device::resolve_for_training(options)?;
        let pool = self.network.engines.pool_for(options.threads)?;
        let mut train = || self.train_on(data, validation, options, &chosen.device, observer);
        let ending = match pool {
            Some(pool) => pool.install(train),
            None => train(),
        }?;
        let outcome = ending.outcome;
        let seconds = outcome.elapsed.as_secs_f64();
        Ok(TrainingSummary {
            steps: outcome.steps,
            seconds,
            seconds_per_step: seconds / outcome.steps.max(1) as f64,
            loss: outcome.loss,
            precision: device::precision_of(&chosen.device),
            device: chosen.name,
            stopped: outcome.stopped,
            begun: ending.begin.name(),
            kept: if ending.start_kept { "start" } else { "trained" },
            notes: chosen.note.into_iter().chain(ending.notes).collect(),
        })
    }

    fn train_on(
        &mut self,
        data: &Dataset,
        validation: Option<&Dataset>,
        options: &TrainOptions,
        device: &Device,
        observer: &mut (dyn FnMut(&Progress) -> ControlFlow + Send),
    ) -> Result<Ending> {
        let began = Instant::now();
        let budget = options.memory.unwrap_or_else(Budget::of_free_memory);
        let mut fresh = self.clone();
        let own = self.pixel_size.filter(|_| !self.untrained);
        let sized = at_one_pixel_size(own, data, validation, options, budget)?;
        let (data, validation) = (&*sized.data, sized.validation.as_deref());
        fresh.pixel_size = sized.pixel_size;
        let mut notes = sized.notes;
        for (what, set) in [("the training images have", Some(data)), ("the validation images have", validation)] {
            notes.extend(set.and_then(|set| self.network.averaged(what, set.channels())));
        }
        notes.extend(shape_advice_until(self.algorithm(), data, &options.cancel)?);
        let begin = fresh.begin(options, &mut notes)?;
        let mut algorithm = self.settings()?;
        let mut recipe = Recipe::new(&*algorithm, options, begin)?;
        fresh.network.normalization = self.network.normalization.trained_by(options.preset);
        let scaled = options.preset != Preset::Reference && !algorithm.scales_itself();
        if scaled && self.untrained {
            fresh.network.scale = WorkingScale::of(data, options.normalized);
        }
        options.cancel.check()?;
        let patch = fresh.patch_size(&recipe, options, data)?;
        let budget = budget.less(fresh.check_training(&recipe, patch, data, validation, device, budget)?);
        let (images, labels) = training_data(&fresh.network, data, options)?;
        options.cancel.check()?;
        let factor = fresh.network.scale.factor;
        let set = match validation {
            // The reference keeps its thresholds.
            _ if options.preset == Preset::Reference || options.keep_thresholds => None,
            Some(set) => Some(CalibrationSet::new(set, None, factor, options)?),
            None if algorithm.calibrates_on_training_data() => {
                Some(CalibrationSet::new(data, Some(&labels), factor, options)?)
            }
            None => None,
        };
        let drawn = match options.preset {
            Preset::Reference => None,
            _ => Some(Drawn::new(&fresh.network, data, options)?),
        };
        let judged = Judged { set, drawn, smallest: smallest_object(data.labels().iter()) };
        options.cancel.check()?;
        let started = fresh.network.weights.clone();
        if let Some(budget) = &mut recipe.limits.time_budget {
            *budget = budget.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            let times = if begin == Begin::Random { 1.0 } else { 2.0 };
            let looks = if gauges(options) && algorithm.scales_itself() { LOOKS } else { 0.0 };
            let scored = (times + looks) * judged.drawn.as_ref().map_or(0.0, Drawn::pixels);
            let pixels = (judged.set.as_ref().map_or(0.0, CalibrationSet::pixels) + scored) * factor.powi(2);
            recipe.limits.steps_after = FORWARD * pixels / (recipe.batch_size * patch * patch) as f64;
        }
        if options.preset != Preset::Reference && begin == Begin::Random && self.untrained {
            algorithm.initialize(&mut fresh.network.weights, data, fresh.network.scale);
        }
        algorithm.expect_cells(&labels, begin == Begin::Trained && options.preset != Preset::Reference);
        fresh.thresholds = algorithm.thresholds();
        options.cancel.check()?;
        let batch_size = recipe.batch_size;
        let input = TaskInput { images, labels, data: Some(data), batch_size, patch, validation: false };
        let task = algorithm.task(input, options)?;
        options.cancel.check()?;
        let checked = match validation {
            Some(set) => {
                let (images, labels) = training_data(&fresh.network, set, options)?;
                let batch_size = validation_batch(set);
                let input = TaskInput { images, labels, data: Some(set), batch_size, patch, validation: true };
                Some(algorithm.task(input, options)?)
            }
            None => None,
        };
        // What is needed after the training and does not depend on it: nobody is to wait for it after a stop.
        let seen = Seen::of(data, options.normalized, &options.cancel)?.with(self.seen);
        let at_once = judged.at_once(&fresh.network, algorithm.own_scale().unwrap_or(factor), &options.cancel)?;
        let run = Run { recipe, patch, device };
        let outcome = fresh.fit(&task, checked.as_ref(), validation, options, &run, observer)?;
        // From here on, nothing takes back what was learned.
        fresh.network.engines = std::mem::take(&mut self.network.engines);
        fresh.network.engines.clear();
        fresh.seen = Some(seen);
        let before = Before { weights: started, thresholds: self.thresholds, scale: self.network.scale };
        *self = fresh;
        if outcome.steps > 0 {
            self.network.scale.gauge = None;
        }
        let mut start_kept = false;
        if outcome.steps > 0 && options.preset != Preset::Reference {
            let stopped = outcome.stopped == StopReason::Cancelled;
            let judged = if stopped { at_once } else { judged };
            // The request that ended the training was answered; the next one, or too long a time, ends what follows.
            let cancel = if stopped { options.cancel.renewed().within(AFTER_A_STOP) } else { options.cancel.clone() };
            let work = Work::plain(device, &cancel, budget);
            start_kept = self.make_usable(before, begin, stopped, judged, options, &work, &mut notes);
        }
        Ok(Ending { outcome, begin, start_kept, notes })
    }

    /// Chooses thresholds, unless the present ones are kept, and goes back to the weights `before` the training when those are better,
    /// which it says.
    fn make_usable(
        &mut self,
        before: Before,
        begin: Begin,
        stopped: bool,
        judged: Judged<'_>,
        options: &TrainOptions,
        work: &Work<'_>,
        notes: &mut Vec<String>,
    ) -> bool {
        let Judged { set, drawn, smallest } = judged;
        let keep_thresholds = options.keep_thresholds;
        match begin {
            Begin::Trained | Begin::Round if keep_thresholds => {}
            Begin::Trained => self.thresholds.values_mut().allow(smallest),
            _ => self.thresholds.values_mut().reset(smallest),
        }
        if !keep_thresholds {
            notes.extend(self.settle_thresholds(begin, set.as_ref(), drawn.as_ref(), work));
        }
        let compared = drawn.as_ref().map(|drawn| self.keep_better(before, begin, stopped, drawn, work, notes));
        let start_kept = compared.unwrap_or(Ok(false)).unwrap_or_else(|error| {
            notes.push(format!(
                "the weights before and after the training could not be compared, those after it are kept: {error}"
            ));
            false
        });
        let gauge = drawn.filter(|_| gauges(options)).map_or(Ok(None), |drawn| self.gauge(&drawn, work));
        self.network.scale.gauge = gauge.unwrap_or_else(|error| {
            notes.push(format!(
                "every image will be seen at one size, since the drawn cells could not be measured: {error}"
            ));
            None
        });
        start_kept
    }

    /// How the network sees the drawn cells.
    fn gauge(&self, drawn: &Drawn, work: &Work<'_>) -> Result<Option<Gauge>> {
        let Some(seen) = self.seen else { return Ok(None) };
        self.settings()?.gauge(&self.network, drawn, seen.diameter, work)
    }

    /// Gives a new model the starting weights that it is to have, and says what the training begins with.
    fn begin(&mut self, options: &TrainOptions, notes: &mut Vec<String>) -> Result<Begin> {
        if !self.untrained {
            return Ok(if options.round { Begin::Round } else { Begin::Trained });
        }
        if self.started {
            return Ok(Begin::Starter);
        }
        if options.preset == Preset::Reference || options.start != Start::Starter || options.resume {
            return Ok(Begin::Random);
        }
        let Some(starter) = Starter::shipped(self.algorithm())? else { return Ok(Begin::Random) };
        match self.begin_with(&starter)? {
            Ok(()) => Ok(Begin::Starter),
            Err(reason) => {
                notes.push(format!("the training began with random weights: {reason}"));
                Ok(Begin::Random)
            }
        }
    }

    /// Goes back to what was there `before` the training when that segments what was drawn better, and
    /// says whether it did. Thresholds that find none of the drawn cells are lowered, unless the training
    /// was `stopped`.
    fn keep_better(
        &mut self,
        before: Before,
        begin: Begin,
        stopped: bool,
        drawn: &Drawn,
        work: &Work<'_>,
        notes: &mut Vec<String>,
    ) -> Result<bool> {
        let stored = PredictOptions::default();
        let mut trained = self.score(drawn, work, &stored)?;
        if trained.accuracy == 0.0 && !stopped {
            trained = self.lower_thresholds(drawn, work)?.unwrap_or_default();
        }
        if begin != Begin::Random {
            // What the optimiser remembers is large, and predicts nothing.
            let state = self.state.take();
            let mut start = self.clone();
            self.state = state;
            start.network.weights = before.weights;
            if matches!(begin, Begin::Trained | Begin::Round) {
                (start.thresholds, start.network.scale) = (before.thresholds, before.scale);
            } else {
                // Statistics of the drawn fields say nothing about these images.
                start.network.weights.take_statistics(&self.network.weights);
            }
            let score = start.score(drawn, work, &stored)?;
            if score.beats(&trained, begin) {
                notes.push(format!(
                    "the weights before the training were kept: on the drawn cells they reach {:.2}, those after it {:.2}",
                    score.accuracy, trained.accuracy
                ));
                (self.network.weights, self.network.scale) = (start.network.weights, start.network.scale);
                self.thresholds = start.thresholds;
                self.network.engines.clear();
                return Ok(true);
            }
        }
        if trained.accuracy == 0.0 {
            notes.push(
                "none of the drawn cells is found again; train longer, or draw more cells of the same kind".into(),
            );
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {

    use super::super::training_data::RIM;
    use super::*;
    use crate::annotations::{SparseLabels, background_rim};
    use crate::networks::{CellposeConfig, StarDistConfig};
    use crate::raster::{Image, LabelImage};
    use crate::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};

    #[test]
    fn what_comes_before_the_first_step_ends_when_it_is_cancelled() {
        let field = draw_field(&FieldOptions::default(), 1).unwrap();
        let drawn = annotate(&field, &AnnotationOptions::default(), 1);
        let labels = SparseLabels::from_signed(drawn.clone()).unwrap();
        let data = Dataset::new(vec![field.image], vec![labels]).unwrap();
        let mut model = Model::stardist(StarDistConfig::default(), 0).unwrap();
        let options = TrainOptions::default();
        let prepared = |model: &Model| training_data(&model.network, &data, &options);
        assert_ne!(prepared(&model).unwrap().1, [background_rim(&drawn, RIM).unwrap()]);
        options.cancel.cancel();
        assert!(matches!(prepared(&model), Err(Error::Cancelled)));
        let before = model.weights().clone();
        let ended = model.train(&data, None, &options, &mut |_| ControlFlow::Continue);
        assert!(matches!(ended, Err(Error::Cancelled)) && *model.weights() == before);
    }

    #[test]
    fn a_model_that_is_trained_on_with_large_cells_keeps_what_it_knows_of_small_ones() {
        let disc = |y: i32, x: i32, radius: i32| {
            move |(row, column): (usize, usize)| (row as i32 - y).pow(2) + (column as i32 - x).pow(2) <= radius.pow(2)
        };
        let data = |radius: i32| {
            let drawn = LabelImage::from_shape_fn((96, 96), |at| {
                i32::from(disc(30, 30, radius)(at)) + 2 * i32::from(disc(70, 66, radius)(at))
            });
            let image = drawn.mapv(|label| if label > 0 { 200.0 } else { 20.0 });
            Dataset::new(vec![Image::from_gray(image)], vec![SparseLabels::from_signed(drawn).unwrap()]).unwrap()
        };
        let mut model = Model::cellpose(CellposeConfig { widths: vec![4, 8], ..CellposeConfig::default() }, 0).unwrap();
        let mut train = |radius: i32, preset: Preset| {
            let options = TrainOptions {
                steps: Some(1),
                batch_size: Some(1),
                patch_size: Some(32),
                preset,
                ..TrainOptions::default()
            };
            model.train(&data(radius), None, &options, &mut |_| ControlFlow::Continue).unwrap();
            let Thresholds::Cellpose(values) = &model.thresholds else { panic!("of Cellpose") };
            *values
        };
        let few = train(10, Preset::Default);
        let more = train(14, Preset::Default);
        assert_eq!((more.diameter, more.smallest_object), (few.diameter, few.smallest_object));
        assert!(train(14, Preset::Reference).diameter > few.diameter, "the reference goes by the newest cells");
    }
}
