//! From StarDist maps to objects.

use std::collections::HashMap;

use ndarray::ArrayView3;

use super::stardist::for_each_tile;
use super::{Model, Object, Segmentation, StarThresholds};
use crate::control::CancelToken;
use crate::error::Result;
use crate::networks::{Device, StarDistConfig};
use crate::postprocess::clean::{relabel_sequential, remove_small_labels};
use crate::postprocess::nms::non_maximum_suppression;
use crate::postprocess::stars::{coord_to_label, dist_to_coord};
use crate::postprocess::{BORDER, StarCandidates, candidates};

/// The object candidates of one image, before suppression, from a low threshold on.
pub(super) struct Candidates {
    stars: StarCandidates,
    /// Class of each candidate point, for models with classes.
    classes: HashMap<[i32; 2], usize>,
    shape: [usize; 2],
    /// The highest probability of the image, below the threshold or above.
    pub highest: f32,
}

impl Model {
    /// The candidates of a normalised image, seen at that scale, whose probability is above `prob`.
    pub(super) fn candidates(
        &self,
        config: &StarDistConfig,
        image: ArrayView3<'_, f32>,
        scale: f64,
        prob: f32,
        tile: Option<usize>,
        device: &Device,
        cancel: &CancelToken,
    ) -> Result<Candidates> {
        let (height, width, _) = image.dim();
        let working = self.to_working(image.to_owned(), scale)?;
        let (rows, columns, _) = working.dim();
        let grid = config.grid;
        let mut parts = vec![StarCandidates::empty(config.n_rays)];
        let mut classes = HashMap::new();
        let mut highest = 0.0_f32;
        for_each_tile(self, config, working.view(), tile, device, cancel, &mut |maps| {
            highest = maps.prob.iter().copied().fold(highest, f32::max);
            let border = std::array::from_fn(|axis| {
                std::array::from_fn(|side| if maps.border[axis][side] { BORDER[axis][side] } else { 0 })
            });
            let mut part = candidates(maps.prob.view(), maps.dist.view(), grid, prob, border)?;
            let mut inside = Vec::new();
            for (index, point) in part.points.iter_mut().enumerate() {
                let cell = [point[0] as usize / grid[0], point[1] as usize / grid[1]];
                for axis in 0..2 {
                    point[axis] += (maps.origin[axis] * grid[axis]) as i32;
                }
                if (point[0] as usize) < rows && (point[1] as usize) < columns {
                    inside.push(index);
                    // Back to the pixels of the image.
                    *point = [rescaled(point[0], rows, height), rescaled(point[1], columns, width)];
                    if let Some(class) = &maps.class {
                        classes.insert(*point, class[cell]);
                    }
                }
            }
            if scale != 1.0 {
                let factor = (1.0 / scale) as f32;
                part.dist.mapv_inplace(|length| length * factor);
            }
            parts.push(part.select(&inside));
            Ok(())
        })?;
        Ok(Candidates { stars: StarCandidates::concatenate(&parts)?, classes, shape: [height, width], highest })
    }
}

/// The place of the middle of pixel `at` of `from` on an axis of `to` pixels.
fn rescaled(at: i32, from: usize, to: usize) -> i32 {
    if from == to {
        return at;
    }
    let place = (f64::from(at) + 0.5) * to as f64 / from as f64 - 0.5;
    (place.round() as i32).clamp(0, to as i32 - 1)
}

impl Candidates {
    /// Suppresses overlapping candidates, paints the rest and removes small objects.
    pub fn segment(&self, thresholds: &StarThresholds, min_area: f32) -> Result<Segmentation> {
        let above: Vec<usize> = (0..self.stars.len()).filter(|&i| self.stars.prob[i] > thresholds.prob).collect();
        let sorted = self.stars.select(&above).sorted();
        let kept = sorted.select(&non_maximum_suppression(&sorted, thresholds.nms)?);
        let points: Vec<[f64; 2]> = kept.points.iter().map(|point| point.map(f64::from)).collect();
        let coord = dist_to_coord(kept.dist.view(), &points, [1.0, 1.0])?;
        let mut labels = coord_to_label(coord.view(), self.shape, Some(&kept.prob))?;
        remove_small_labels(&mut labels, thresholds.smallest_object.max(min_area));
        let mut present = vec![false; kept.len() + 1];
        labels.iter().for_each(|&id| present[id as usize] = true);
        let mut objects = Vec::new();
        for index in (0..kept.len()).filter(|index| present[index + 1]) {
            objects.push(Object {
                id: objects.len() as i32 + 1,
                polygon: (0..kept.dist.ncols()).map(|k| [coord[[index, 0, k]], coord[[index, 1, k]]]).collect(),
                probability: kept.prob[index],
                class: self.classes.get(&kept.points[index]).copied(),
            });
        }
        Ok(Segmentation::new(relabel_sequential(&labels, 1)?, objects))
    }
}
