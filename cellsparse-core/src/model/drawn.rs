//! The parts of annotated images where something was drawn, as a network sees them.

use std::collections::BTreeSet;

use ndarray::{Array3, ArrayView3, s};

use super::calibration::{at_once, busiest, enough};
use super::network::Network;
use super::options::TrainOptions;
use crate::annotations::{Dataset, forget_cut_objects};
use crate::budget::copied;
use crate::error::Result;
use crate::raster::LabelImage;

/// Images that are looked at, at most, and their pixels together: a second or two.
const IMAGES: usize = 8;
const PIXELS: usize = 1 << 21;

const WHAT: &str = "the drawn parts of a training image";

/// The margin around what was drawn in an image, in diameters of the cells.
const MARGIN: f64 = 3.0;

/// The parts of some images where something was drawn.
pub(super) struct Drawn {
    parts: Vec<(Array3<f32>, LabelImage)>,
}

impl Drawn {
    /// Those of some of the images of `data`, as `network` sees them.
    pub fn new(network: &Network, data: &Dataset, options: &TrainOptions) -> Result<Self> {
        let step = data.len().div_ceil(IMAGES).max(1);
        let (mut parts, mut pixels) = (Vec::new(), 0);
        for index in (0..data.len()).step_by(step) {
            let labels = &data.labels()[index];
            options.cancel.check()?;
            let image = network.input(&data.images()[index], options.normalized, &options.cancel)?;
            options.cancel.check()?;
            let margin = (MARGIN * labels.median_diameter()) as usize + 16;
            let mut window = around_cells(labels.labels(), margin);
            let most = enough(labels, PIXELS, data.len().div_ceil(step));
            if window[0].len() * window[1].len() > most {
                window = busiest(labels.labels(), most);
            }
            let [rows, columns] = window.clone();
            let part = copied(image.slice(s![rows.clone(), columns.clone(), ..]), WHAT)?;
            pixels += part.len();
            if pixels > PIXELS && !parts.is_empty() {
                break;
            }
            let mut drawn = copied(labels.labels().slice(s![rows, columns]), WHAT)?;
            forget_cut_objects(&mut drawn, &window, labels.labels().dim());
            parts.push((part, drawn));
        }
        Ok(Self { parts })
    }

    /// The part with most of the drawn cells that is judged at once by a network that sees it at `scale`; `None` where none of the
    /// cells is whole.
    pub fn excerpt(&self, scale: f64) -> Option<Self> {
        let drawn = |(_, labels): &&(_, LabelImage)| labels.iter().filter(|label| **label > 0).count();
        let (image, labels) = self.parts.iter().max_by_key(drawn)?;
        let window = busiest(labels, at_once(scale));
        let [rows, columns] = window.clone();
        let mut inside = labels.slice(s![rows.clone(), columns.clone()]).to_owned();
        forget_cut_objects(&mut inside, &window, labels.dim());
        let excerpt = Self { parts: vec![(image.slice(s![rows, columns, ..]).to_owned(), inside)] };
        (excerpt.cells() > 0).then_some(excerpt)
    }

    /// Each of them, with what was drawn there.
    pub fn parts(&self) -> impl Iterator<Item = (ArrayView3<'_, f32>, &LabelImage)> {
        self.parts.iter().map(|(image, labels)| (image.view(), labels))
    }

    /// Their pixels.
    pub fn pixels(&self) -> f64 {
        self.parts.iter().map(|(_, labels)| labels.len() as f64).sum()
    }

    /// The cells that were drawn in them.
    pub fn cells(&self) -> usize {
        let cells = |labels: &LabelImage| labels.iter().filter(|label| **label > 0).collect::<BTreeSet<_>>().len();
        self.parts.iter().map(|(_, labels)| cells(labels)).sum()
    }

    /// What a network says about each of them, with what was drawn there.
    pub fn predicted<T>(&self, predict: impl Fn(ArrayView3<'_, f32>) -> Result<T>) -> Result<Vec<(T, &LabelImage)>> {
        self.parts.iter().map(|(image, labels)| Ok((predict(image.view())?, labels))).collect()
    }
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
    fn the_part_around_the_cells_ends_at_the_image() {
        let mut labels = LabelImage::from_elem((50, 60), -1);
        assert_eq!(around_cells(&labels, 3), [0..50, 0..60]);
        labels[[2, 20]] = 1;
        labels[[10, 25]] = 2;
        assert_eq!(around_cells(&labels, 4), [0..15, 16..30]);
    }
}
