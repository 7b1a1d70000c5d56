//! What is found in an image, joined with what is drawn on it.

use std::collections::BTreeMap;

use super::edit::{Run, runs_of};
use crate::error::{Error, Result};
use crate::model::{Object, Segmentation};
use crate::raster::LabelImage;

/// Where an object of an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is the drawn cell of that number.
    Drawn(i32),
    /// It is the found object of that number.
    Found(i32),
}

/// The objects of an image as they stand: drawn cells as they are drawn, and of the found objects those that nothing drawn
/// contradicts.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The objects have the ids 1, 2, ...: drawn cells first.
    pub segmentation: Segmentation,
    /// Where the object of id `i + 1` comes from.
    pub origins: Vec<Origin>,
}

/// Fraction of a found object's pixels on drawn cells or drawn background from which it gives way.
const COVERED: f64 = 0.5;

impl Answer {
    /// Joins what was found with what is drawn. Found objects give way when more than half of their pixels are on drawn cells or
    /// drawn background; others lose those pixels. A drawn cell has the probability 1.
    ///
    /// # Errors
    /// [`Error::Labels`] when the sizes differ.
    pub fn new(found: &Segmentation, drawn: &LabelImage) -> Result<Self> {
        if found.labels.dim() != drawn.dim() {
            return Err(Error::Labels(format!(
                "{:?} pixels are drawn on and {:?} were looked at; both must be of one image",
                drawn.dim(),
                found.labels.dim()
            )));
        }
        let mut areas: BTreeMap<i32, [usize; 2]> = BTreeMap::new();
        let mut ids: BTreeMap<i32, i32> = BTreeMap::new();
        for (&object, &label) in found.labels.iter().zip(drawn) {
            if object > 0 {
                let [area, covered] = areas.entry(object).or_default();
                *area += 1;
                *covered += usize::from(label >= 0);
            }
            if label > 0 {
                ids.entry(label).or_default();
            }
        }
        let (mut origins, mut objects) = (Vec::new(), Vec::new());
        for (cell, id) in &mut ids {
            origins.push(Origin::Drawn(*cell));
            *id = origins.len() as i32;
            objects.push(Object { id: *id, polygon: Vec::new(), probability: 1.0, class: None });
        }
        let mut kept: BTreeMap<i32, i32> = BTreeMap::new();
        for (object, [area, covered]) in areas {
            if covered as f64 > area as f64 * COVERED {
                continue;
            }
            origins.push(Origin::Found(object));
            let id = origins.len() as i32;
            kept.insert(object, id);
            let known = found.object(object);
            let (probability, class) = known.map_or((0.0, None), |known| (known.probability, known.class));
            objects.push(Object { id, polygon: Vec::new(), probability, class });
        }
        let mut labels = found.labels.clone();
        for (label, &drawn) in labels.iter_mut().zip(drawn) {
            *label = match drawn {
                0 => 0,
                1.. => ids.get(&drawn).copied().unwrap_or(0),
                _ => kept.get(label).copied().unwrap_or(0),
            };
        }
        let mut segmentation = Segmentation::new(labels, objects);
        segmentation.notes.clone_from(&found.notes);
        Ok(Self { segmentation, origins })
    }

    /// Where an object comes from.
    pub fn origin(&self, id: i32) -> Option<Origin> {
        usize::try_from(id).ok()?.checked_sub(1).and_then(|place| self.origins.get(place)).copied()
    }

    /// The pixels of an object.
    pub fn pixels(&self, id: i32) -> Vec<Run> {
        runs_of(&self.segmentation.labels, id)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn what_is_drawn_counts_and_the_rest_is_as_it_was_found() {
        let labels = array![[1, 1, 0, 2, 2], [1, 1, 0, 2, 2], [3, 3, 3, 0, 4]];
        let object = |id, probability| Object { id, polygon: Vec::new(), probability, class: None };
        let found = Segmentation::new(labels, vec![object(1, 0.9), object(2, 0.8), object(3, 0.7), object(4, 0.6)]);
        let drawn = array![[7, 7, -1, 0, 0], [7, 7, 7, 0, -1], [-1, -1, 0, -1, -1]];
        let answer = Answer::new(&found, &drawn).unwrap();
        assert_eq!(answer.segmentation.labels, array![[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [2, 2, 0, 0, 3]]);
        assert_eq!(answer.origins, [Origin::Drawn(7), Origin::Found(3), Origin::Found(4)]);
        let told: Vec<f32> = answer.segmentation.objects.iter().map(|object| object.probability).collect();
        assert_eq!(told, [1.0, 0.7, 0.6]);
        assert_eq!(answer.origin(2), Some(Origin::Found(3)));
        assert_eq!((answer.origin(0), answer.origin(4)), (None, None));
        assert_eq!(answer.pixels(1), [[0, 0, 2], [1, 0, 3]]);
        assert!(Answer::new(&found, &LabelImage::zeros((2, 2))).is_err());
    }
}
