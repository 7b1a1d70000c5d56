//! From StarDist maps to objects.

use std::ops::ControlFlow;

use ndarray::ArrayView3;

use super::StarThresholds;
use super::maps::{StarMaps, for_each_tile};
use crate::budget::{bytes_of, gathered, pushed, zeros};
use crate::control::CancelToken;
use crate::error::Result;
use crate::model::network::Network;
use crate::model::segmentation::{Object, Segmentation};
use crate::model::work::Work;
use crate::model::working_scale::{resample, scaled_bytes};
use crate::networks::StarDistConfig;
use crate::postprocess::clean::{relabel_sequential, remove_small_labels};
use crate::postprocess::nms::non_maximum_suppression_until;
use crate::postprocess::stars::{coord_to_label_until, dist_to_coord};
use crate::postprocess::strips::{Strip, StripSuppression};
use crate::postprocess::{BORDER, StarCandidates, candidates};

/// The object candidates of one image, before suppression, from a low threshold on.
pub(super) struct Candidates {
    stars: StarCandidates,
    /// Class of each candidate, for models with classes.
    classes: Vec<u8>,
    shape: [usize; 2],
}

const WHAT: &str = "the object candidates";

/// The candidates of a row of tiles.
pub(in crate::model) struct RowOfTiles {
    pub stars: StarCandidates,
    pub classes: Vec<u8>,
    /// First row of the image in which those of later rows of tiles lie.
    pub frontier: i32,
    /// The highest probability in it, below the threshold or above.
    pub highest: f32,
}

/// Pixels that the network sees by which polygons are expected to reach over a row of tiles at most. Longer ones cost a second
/// run of the network, no accuracy.
pub(in crate::model) const REACH: f64 = 256.0;

/// A network and its configuration.
pub(super) struct Stars<'a> {
    pub network: &'a Network,
    pub config: &'a StarDistConfig,
}

impl Stars<'_> {
    /// Segments a normalised image that is seen at that scale: row of tiles by row of tiles, so that an image has as many
    /// candidates as it likes. With the highest probability in it, below the threshold or above.
    pub fn segment(
        &self,
        image: ArrayView3<'_, f32>,
        scale: f64,
        thresholds: &StarThresholds,
        min_area: f32,
        work: &Work<'_>,
    ) -> Result<(Segmentation, f32)> {
        let (height, width, _) = image.dim();
        // The label image and its renumbered copy.
        let work = &work.less(bytes_of(&[height, width], 8));
        let mut reach = Some((REACH / scale).ceil() as i32);
        let mut highest = 0.0_f32;
        let (kept, classes) = loop {
            let mut suppression = StripSuppression::new(self.config.n_rays, thresholds.nms, reach, &work.cancel);
            let mut take = |row: RowOfTiles| {
                highest = highest.max(row.highest);
                if suppression.add(&row.stars, &row.classes, row.frontier)? == Strip::ReachExceeded {
                    return Ok(ControlFlow::Break(()));
                }
                let cure =
                    "raise the probability threshold, train longer, cut the image into parts, or allow more memory";
                work.budget.require(suppression.bytes(), "sorting out the object candidates of the image", cure)?;
                Ok(ControlFlow::Continue(()))
            };
            if self.for_each_row_of_tiles(image, scale, thresholds.prob, work, &mut take)?.is_continue() {
                break suppression.finish()?;
            }
            reach = None;
        };
        let smallest = thresholds.smallest_object.max(min_area);
        Ok((paint(&kept, &classes, [height, width], smallest, &work.cancel)?, highest))
    }

    /// The candidates of a normalised image, seen at that scale, whose probability is above `prob`; of more than `most` those
    /// with the highest.
    pub fn candidates(
        &self,
        image: ArrayView3<'_, f32>,
        scale: f64,
        prob: f32,
        most: usize,
        work: &Work<'_>,
    ) -> Result<Candidates> {
        let (height, width, _) = image.dim();
        let mut found = Candidates {
            stars: StarCandidates::empty(self.config.n_rays),
            classes: Vec::new(),
            shape: [height, width],
        };
        let mut take = |row: RowOfTiles| {
            found.stars.append(&row.stars)?;
            found.classes.extend(row.classes);
            found.keep_best(most)?;
            Ok(ControlFlow::Continue(()))
        };
        let _ = self.for_each_row_of_tiles(image, scale, prob, work, &mut take)?;
        Ok(found)
    }

    /// Hands the candidates of every row of tiles of a normalised image to `take`, from the top on, until it says to stop.
    fn for_each_row_of_tiles(
        &self,
        image: ArrayView3<'_, f32>,
        scale: f64,
        prob: f32,
        work: &Work<'_>,
        take: &mut dyn FnMut(RowOfTiles) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let (height, width, channels) = image.dim();
        let taken = scaled_bytes([height, width, channels], scale)?;
        work.budget.require(
            taken,
            format_args!("an image of {height} x {width} pixels at {scale:.2} times its size, as the network sees it,"),
            "cut it into parts, or allow more memory",
        )?;
        let work = &work.less(taken);
        let working = resample(image.into(), scale)?;
        let (rows, columns, _) = working.dim();
        let (grid, rays) = (self.config.grid, self.config.n_rays);
        let place = Placing { working: [rows, columns], full: [height, width], scale, grid, prob };
        let mut row = RowOfTiles::empty(rays);
        for_each_tile(self.network, self.config, working.view(), work, &mut |maps| {
            row.take(&maps, &place)?;
            if !maps.border[1][1] {
                return Ok(ControlFlow::Continue(()));
            }
            let frontier = place.frontier(below(&maps, grid[0]));
            take(RowOfTiles { frontier, ..std::mem::replace(&mut row, RowOfTiles::empty(rays)) })
        })
    }
}

/// How candidates of the maps of a tile come into the image.
pub(in crate::model) struct Placing {
    /// Sides of the image as the network sees it, and its own.
    pub working: [usize; 2],
    pub full: [usize; 2],
    pub scale: f64,
    pub grid: [usize; 2],
    /// The probability above which a cell of the grid is a candidate.
    pub prob: f32,
}

impl Placing {
    /// The row of the image in which those lie whose row on the way to the network is `below`; beyond all for the last.
    pub fn frontier(&self, below: usize) -> i32 {
        if below < self.working[0] { rescaled(below as i32, self.working[0], self.full[0]) } else { i32::MAX }
    }
}

impl RowOfTiles {
    pub fn empty(rays: usize) -> Self {
        Self { stars: StarCandidates::empty(rays), classes: Vec::new(), frontier: 0, highest: 0.0 }
    }

    /// Adds the candidates in the maps of a tile.
    pub fn take(&mut self, maps: &StarMaps, place: &Placing) -> Result<()> {
        self.highest = maps.prob.iter().copied().fold(self.highest, f32::max);
        let border = std::array::from_fn(|axis| {
            std::array::from_fn(|side| if maps.border[axis][side] { BORDER[axis][side] } else { 0 })
        });
        let grid = place.grid;
        let mut part = candidates(maps.prob.view(), maps.dist.view(), grid, place.prob, border)?;
        let mut inside = Vec::new();
        for (index, point) in part.points.iter_mut().enumerate() {
            let cell = [point[0] as usize / grid[0], point[1] as usize / grid[1]];
            for axis in 0..2 {
                point[axis] += (maps.origin[axis] * grid[axis]) as i32;
            }
            if (point[0] as usize) < place.working[0] && (point[1] as usize) < place.working[1] {
                pushed(&mut inside, index, WHAT)?;
                // Back to the pixels of the image.
                *point = std::array::from_fn(|axis| rescaled(point[axis], place.working[axis], place.full[axis]));
                // There are at most 255 classes and the background.
                self.classes.extend(maps.class.as_ref().map(|class| class[cell] as u8));
            }
        }
        if place.scale != 1.0 {
            let factor = (1.0 / place.scale) as f32;
            part.dist.mapv_inplace(|length| length * factor);
        }
        self.stars.append(&part.select(&inside)?)
    }
}

/// The first row of pixels below those that the maps of a tile stand for.
fn below(maps: &StarMaps, grid: usize) -> usize {
    (maps.origin[0] + maps.prob.nrows()) * grid
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
    /// Suppresses overlapping candidates, whatever their probability: places of those that survive, by descending score.
    ///
    /// A candidate is removed by a better one only, so of those above any probability the same ones survive.
    pub fn survivors(&self, nms: f32, cancel: &CancelToken) -> Result<Vec<usize>> {
        let mut order = gathered(self.stars.len(), 0..self.stars.len(), WHAT)?;
        let score = |place: usize| self.stars.prob[place] + 0.0;
        order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)).then(b.cmp(&a)));
        let sorted = self.stars.select(&order)?;
        Ok(non_maximum_suppression_until(&sorted, nms, cancel)?.into_iter().map(|place| order[place]).collect())
    }

    /// Paints the `survivors` whose probability is above that of the thresholds, and removes small objects.
    pub fn paint(
        &self,
        survivors: &[usize],
        thresholds: &StarThresholds,
        min_area: f32,
        cancel: &CancelToken,
    ) -> Result<Segmentation> {
        let likely = survivors.iter().copied().filter(|&place| self.stars.prob[place] > thresholds.prob);
        let likely: Vec<usize> = likely.collect();
        let classes: Vec<u8> = match self.classes.is_empty() {
            true => Vec::new(),
            false => likely.iter().map(|&place| self.classes[place]).collect(),
        };
        let smallest = thresholds.smallest_object.max(min_area);
        paint(&self.stars.select(&likely)?, &classes, self.shape, smallest, cancel)
    }

    /// Leaves out those with the lowest probability when there are more than `most`; the rest stays in order.
    fn keep_best(&mut self, most: usize) -> Result<()> {
        if self.stars.len() <= most {
            return Ok(());
        }
        let mut places = gathered(self.stars.len(), 0..self.stars.len(), WHAT)?;
        let score = |place: usize| self.stars.prob[place];
        places.select_nth_unstable_by(most, |&a, &b| score(b).total_cmp(&score(a)).then(b.cmp(&a)));
        places.truncate(most);
        places.sort_unstable();
        self.stars = self.stars.select(&places)?;
        if !self.classes.is_empty() {
            self.classes = places.iter().map(|&place| self.classes[place]).collect();
        }
        Ok(())
    }
}

/// The objects of candidates that survived, by descending probability, in an image of that shape.
fn paint(
    kept: &StarCandidates,
    classes: &[u8],
    shape: [usize; 2],
    smallest: f32,
    cancel: &CancelToken,
) -> Result<Segmentation> {
    cancel.check()?;
    let points: Vec<[f64; 2]> = kept.points.iter().map(|point| point.map(f64::from)).collect();
    let coord = dist_to_coord(kept.dist.view(), &points, [1.0, 1.0])?;
    let mut labels = coord_to_label_until(coord.view(), shape, Some(&kept.prob), cancel)?;
    cancel.check()?;
    remove_small_labels(&mut labels, smallest);
    cancel.check()?;
    let mut present: Vec<bool> = zeros(kept.len() + 1, WHAT)?;
    labels.iter().for_each(|&id| present[id as usize] = true);
    let mut objects = Vec::new();
    for index in (0..kept.len()).filter(|index| present[index + 1]) {
        objects.push(Object {
            id: objects.len() as i32 + 1,
            polygon: (0..kept.dist.ncols()).map(|k| [coord[[index, 0, k]], coord[[index, 1, k]]]).collect(),
            probability: kept.prob[index],
            class: classes.get(index).map(|class| usize::from(*class)),
        });
    }
    Ok(Segmentation::new(relabel_sequential(&labels, 1)?, objects))
}
