//! The choice of thresholds at the end of a training.

use super::calibration::CalibrationSet;
use super::drawn::Drawn;
use super::facade::Model;
use super::recipe::Begin;
use super::registry::Thresholds;
use super::work::Work;
use crate::error::{Error, Result};

/// Drawn cells for which a model departs from thresholds that it has from others: the fit of fewer is chance.
const CELLS_AGAINST_OTHERS: usize = 5;

impl Model {
    /// Gives a trained model the thresholds that segment the calibration set best, or leaves it those that it has, and says why
    /// when it does against expectation. What was learned is not at stake here, so nothing is an error.
    pub(super) fn settle_thresholds(
        &mut self,
        begin: Begin,
        set: Option<&CalibrationSet<'_>>,
        drawn: Option<&Drawn>,
        work: &Work<'_>,
    ) -> Vec<String> {
        let drawn = drawn.filter(|drawn| begin != Begin::Trained || drawn.cells() >= CELLS_AGAINST_OTHERS);
        match self.chosen_thresholds(set, drawn, work) {
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

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::annotations::{Dataset, SparseLabels};
    use crate::budget::Budget;
    use crate::model::{Architecture, TrainOptions};
    use crate::networks::Device;
    use crate::raster::{Image, LabelImage};
    use crate::{Algorithm, CancelToken};

    #[test]
    fn a_few_cells_move_no_thresholds_that_others_gave() {
        let model = Model::new(Architecture::of(Algorithm::Elephant, 1), 0).unwrap();
        let cancel = CancelToken::new();
        // Whether anything is chosen shows by the request to stop, which the choice hears.
        let is_chosen = |cells: usize, begin: Begin| {
            let labels = LabelImage::from_shape_fn((32, 64), |(y, x)| match (y < 6, x % 8 < 6, x / 8) {
                (true, true, cell) if cell < cells => cell as i32 + 1,
                _ => 0,
            });
            let image = Image::U8(Array3::from_shape_fn((32, 64, 1), |(y, x, _)| (y * x) as u8));
            let data = Dataset::new(vec![image], vec![SparseLabels::from_signed(labels).unwrap()]).unwrap();
            let drawn = Drawn::new(&model.network, &data, &TrainOptions::default()).unwrap();
            assert_eq!(drawn.cells(), cells);
            cancel.cancel();
            let device = Device::cpu();
            let work = Work::plain(&device, &cancel, Budget::of_free_memory());
            !model.clone().settle_thresholds(begin, None, Some(&drawn), &work).is_empty()
        };
        assert_eq!([2, 4, 5].map(|cells| is_chosen(cells, Begin::Trained)), [false, false, true]);
        assert!(is_chosen(2, Begin::Starter));
    }
}
