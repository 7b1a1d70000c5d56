//! Cellpose and ELEPHANT by parts: the maps of the whole image in a part, and the objects in them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::{Array2, Array3, Axis, s};

use super::super::ahead::ahead;
use super::super::cellpose::{CellposeThresholds, FlowMaps, Tiling};
use super::super::elephant::{self, ElephantThresholds, OVERLAP, TILE};
use super::super::options::Postprocess;
use super::super::registry::AnyAlgorithm;
use super::super::work::Work;
use super::{Found, RESERVED, Scaled, Setup};
use crate::budget::copied;
use crate::error::{Error, Result};
use crate::geometry::label_runs::{LabelRuns, Run};
use crate::networks::{CellposeConfig, ImageStatistics};
use crate::raster::regions::{Extent, Region};
use crate::raster::taper::{TaperedSum, tile_starts};
use crate::raster::{LabelImage, scaled_size};

/// Tiles of ELEPHANT on which the statistics of an image are measured: all of an image that has not more.
const MEASURED: usize = 64;

/// Bytes of the answers to tiles that are kept for the next part, at most, and the share of the memory, as 1 in so many: half of
/// what the network leaves.
const KEPT_BYTES: usize = 512 << 20;
const KEPT_SHARE: u64 = 2 * RESERVED;

/// The answers of the network to the tiles of an image, which are those of the image that is segmented whole.
pub(crate) struct Blended<'a> {
    setup: &'a Setup<'a>,
    scaled: Scaled<'a>,
    kind: Kind<'a>,
    /// First pixel of every tile, in the pixels of what is tiled.
    corners: Vec<[usize; 2]>,
    side: [usize; 2],
    kept: Mutex<Kept>,
}

/// What the network says of a part of the image, at the size of the image.
pub(crate) struct PartMaps {
    window: Region,
    maps: Array3<f32>,
}

enum Kind<'a> {
    Cellpose { config: &'a CellposeConfig, thresholds: CellposeThresholds, tiling: Tiling, flips: Vec<[bool; 2]> },
    Elephant { thresholds: ElephantThresholds, statistics: Option<ImageStatistics> },
}

impl<'a> Blended<'a> {
    /// Lays out the tiles.
    pub fn new(setup: &'a Setup<'a>) -> Result<Self> {
        let kept = KEPT_BYTES.min((setup.budget.left() / KEPT_SHARE) as usize);
        let kept = Mutex::new(Kept { most: kept, ..Kept::default() });
        match &setup.algorithm {
            AnyAlgorithm::Cellpose(cellpose) => {
                let (config, thresholds) = (cellpose.config, cellpose.thresholds);
                let extent = setup.extent();
                let scale = f64::from(config.diam_mean) / f64::from(thresholds.diameter);
                let sides = [scaled_size(extent.height, scale)?.max(1), scaled_size(extent.width, scale)?.max(1)];
                let tiling = Tiling::new(&setup.model.network, sides, &setup.work());
                let (corners, flips) = tiling.places().into_iter().unzip();
                let (scaled, side) = (Scaled::plain(&setup.source, sides), tiling.side);
                let kind = Kind::Cellpose { config, thresholds, tiling, flips };
                Ok(Self { setup, scaled, kind, corners, side, kept })
            }
            AnyAlgorithm::Elephant(elephant) => {
                let scaled = setup.scaled()?;
                let [height, width] = scaled.sides();
                let all = if height * width <= TILE * TILE { height.max(width) } else { TILE };
                let tile = setup.options.tile.unwrap_or(all);
                let side = [tile.min(height), tile.min(width)];
                let mut corners = Vec::new();
                for y in tile_starts(height, side[0], OVERLAP) {
                    corners.extend(tile_starts(width, side[1], OVERLAP).into_iter().map(|x| [y, x]));
                }
                let kind = Kind::Elephant { thresholds: elephant.thresholds, statistics: setup.statistics.clone() };
                Ok(Self { setup, scaled, kind, corners, side, kept })
            }
            AnyAlgorithm::Stardist(_) => Err(Error::Internal("answers of StarDist are not blended".into())),
        }
    }

    /// The statistics of ELEPHANT's group normalisations over the tiles of the image, or over some that are spread evenly; none
    /// for an image of one tile, which is normalised by its own.
    pub fn measure(&self) -> Result<Option<ImageStatistics>> {
        if self.corners.len() <= 1 {
            return Ok(None);
        }
        let count = self.corners.len().min(MEASURED);
        let work = self.setup.work();
        let places: Vec<usize> = (0..count).map(|at| (2 * at + 1) * self.corners.len() / (2 * count)).collect();
        let read = |place: &usize| self.scaled.window(self.tile(self.corners[*place]));
        let mut seen = Vec::new();
        let ended = ahead(&self.setup.device, &places, read, &mut |pixels| {
            seen.push(elephant::whole(&self.setup.model.network, pixels.view(), None, &work)?.1);
            Ok(if seen[0].is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        debug_assert!(ended.is_continue() || seen.len() == 1, "a network without groups needs one round");
        Ok(Some(ImageStatistics::of_parts(&seen)))
    }

    /// The longer side of the tiles.
    pub fn side(&self) -> usize {
        self.side[0].max(self.side[1])
    }

    fn tile(&self, corner: [usize; 2]) -> Region {
        Region { top: corner[0], left: corner[1], height: self.side[0], width: self.side[1] }
    }

    /// What the network says of a part of the image.
    pub fn maps(&self, window: Region) -> Result<PartMaps> {
        self.setup.require(window, "a part of the image,")?;
        Ok(PartMaps { window, maps: self.blended(window)? })
    }

    /// The objects in a part of the image; those at its rim may be cut. Runs no network and reads nothing.
    pub fn objects(&self, PartMaps { window, maps }: PartMaps) -> Result<Vec<Found>> {
        let (options, cancel) = (self.setup.options, &self.setup.options.cancel);
        let (labels, probability, seeds) = match &self.kind {
            Kind::Cellpose { config, thresholds, .. } => {
                let maps = FlowMaps::new(maps.view())?;
                (maps.labels(config, thresholds, options.min_area, cancel)?, maps.probability()?, None)
            }
            Kind::Elephant { thresholds, .. } => {
                let method = options.postprocess.unwrap_or_default();
                let labels = elephant::labels(maps.view(), thresholds, method, options.min_area, cancel)?;
                let centers = (method == Postprocess::Watershed)
                    .then(|| maps.index_axis(Axis(2), 2).mapv(|center| center > thresholds.center));
                (labels, elephant::foreground(maps.view())?, centers)
            }
        };
        found(&labels, &probability, seeds.as_ref(), window, self.setup.extent())
    }

    /// The blended maps `[height, width, 3]` at the size of the image.
    fn blended(&self, window: Region) -> Result<Array3<f32>> {
        let back = self.scaled.back();
        let [top, rows] = back.needed(0, window.top, window.height);
        let [left, columns] = back.needed(1, window.left, window.width);
        let maps = self.blend(Region { top, left, height: rows, width: columns })?;
        if back.from == back.to {
            return Ok(maps);
        }
        back.part(maps.view(), [top, left], [window.top, window.left], [window.height, window.width])
    }

    /// The blended maps of a part at the size of the network.
    fn blend(&self, part: Region) -> Result<Array3<f32>> {
        let padding = match &self.kind {
            Kind::Cellpose { tiling, .. } => [tiling.paddings[0][0], tiling.paddings[1][0]],
            Kind::Elephant { .. } => [0, 0],
        };
        let part = Region { top: part.top + padding[0], left: part.left + padding[1], ..part };
        let met = |index: &usize| self.tile(self.corners[*index]).meets(&part);
        let wanted: Vec<usize> = (0..self.corners.len()).filter(met).collect();
        let tiles = self.answers(&wanted)?;
        if let (Kind::Elephant { .. }, [whole]) = (&self.kind, tiles.as_slice())
            && self.corners.len() == 1
        {
            let part = whole.slice(s![part.top..part.bottom(), part.left..part.right(), ..]);
            return copied(part, "the answer of a network");
        }
        let size = [part.height, part.width];
        let mut sum = TaperedSum::of_window([part.top, part.left], size, 3, self.side)?;
        for (index, tile) in wanted.iter().zip(&tiles) {
            sum.add(tile.view(), self.corners[*index])?;
        }
        Ok(sum.finish())
    }

    /// The network's answers to these tiles, of which those that are not kept are computed.
    fn answers(&self, wanted: &[usize]) -> Result<Vec<Arc<Array3<f32>>>> {
        let mut answers: Vec<Option<Arc<Array3<f32>>>> = wanted.iter().map(|index| self.kept().get(*index)).collect();
        let missing: Vec<usize> = (0..wanted.len()).filter(|place| answers[*place].is_none()).collect();
        let work = &self.setup.work();
        let many = match &self.kind {
            Kind::Cellpose { tiling, .. } => tiling.together(&self.setup.model.network, missing.len(), work)?,
            Kind::Elephant { .. } => 1,
        };
        for group in missing.chunks(many) {
            let indices: Vec<usize> = group.iter().map(|place| wanted[*place]).collect();
            for (place, answer) in group.iter().zip(self.compute(&indices, work)?) {
                let answer = Arc::new(answer);
                self.kept().put(wanted[*place], &answer);
                answers[*place] = Some(answer);
            }
        }
        let answers: Option<Vec<_>> = answers.into_iter().collect();
        answers.ok_or_else(|| Error::Internal("a tile without an answer".into()))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compute(&self, indices: &[usize], work: &Work<'_>) -> Result<Vec<Array3<f32>>> {
        match &self.kind {
            Kind::Cellpose { tiling, flips, .. } => {
                let [rows, columns] = self.scaled.sides();
                let mut tiles = Vec::new();
                let mut places = Vec::new();
                for &index in indices {
                    // The pixels of the tile that are not zeros around the image.
                    let span = |axis: usize, n: usize| {
                        let (corner, padding) = (self.corners[index][axis], tiling.paddings[axis][0]);
                        let begin = corner.saturating_sub(padding).min(n);
                        (begin, (corner + self.side[axis]).saturating_sub(padding).min(n).max(begin))
                    };
                    let ((top, bottom), (left, right)) = (span(0, rows), span(1, columns));
                    let part = Region { top, left, height: bottom - top, width: right - left };
                    let empty = part.height == 0 || part.width == 0;
                    let channels = self.setup.model.network.graph.input_channels();
                    let pixels = if empty { Array3::zeros((0, 0, channels)) } else { self.scaled.window(part)? };
                    tiles.push((pixels, [top, left]));
                    places.push((self.corners[index], flips[index]));
                }
                let read = |place: &([usize; 2], [bool; 2]), to: &mut [f32]| {
                    if let Some(at) = places.iter().position(|other| other == place) {
                        tiling.read(tiles[at].0.view(), tiles[at].1, *place, to);
                    }
                };
                tiling.outputs(&self.setup.model.network, &places, work, read)
            }
            Kind::Elephant { statistics, .. } => {
                let mut answers = Vec::new();
                for &index in indices {
                    let pixels = self.scaled.window(self.tile(self.corners[index]))?;
                    answers
                        .push(elephant::whole(&self.setup.model.network, pixels.view(), statistics.as_ref(), work)?.0);
                }
                Ok(answers)
            }
        }
    }
}

/// The objects of a label image of the part `window`. With `seeds`, an object is anchored at the first pixel of its seed, else at
/// its first pixel.
fn found(
    labels: &LabelImage,
    probability: &Array2<f32>,
    seeds: Option<&Array2<bool>>,
    window: Region,
    extent: Extent,
) -> Result<Vec<Found>> {
    let ends = [window.top > 0, window.left > 0, window.bottom() < extent.height, window.right() < extent.width];
    let mut objects = Vec::new();
    for object in LabelRuns::new(labels.view())?.iter() {
        let pixels = || object.runs.iter().flat_map(|run| (run.begin..run.end).map(|column| (run.row, column)));
        let sum: f64 = pixels().map(|at| f64::from(probability[at])).sum();
        let seed = seeds.and_then(|seeds| pixels().find(|at| seeds[*at]));
        let (row, column) = seed.or_else(|| pixels().next()).unwrap_or_default();
        let anchor = [row + window.top, column + window.left];
        let [top, left, bottom, right] = object.bounds;
        let rim = [top == 0, left == 0, bottom + 1 == window.height, right + 1 == window.width];
        objects.push(Found {
            anchor,
            order: anchor.map(|at| at as u64),
            runs: object
                .runs
                .iter()
                .map(|run| Run {
                    row: run.row + window.top,
                    begin: run.begin + window.left,
                    end: run.end + window.left,
                })
                .collect(),
            probability: (sum / object.area().max(1) as f64) as f32,
            class: None,
            cut: ends.iter().zip(rim).any(|(end, rim)| *end && rim),
        });
    }
    Ok(objects)
}

/// The answers to the tiles that were asked for last.
#[derive(Default)]
struct Kept {
    tiles: HashMap<usize, (u64, Arc<Array3<f32>>)>,
    bytes: usize,
    most: usize,
    uses: u64,
}

impl Kept {
    fn get(&mut self, index: usize) -> Option<Arc<Array3<f32>>> {
        self.uses += 1;
        let (used, tile) = self.tiles.get_mut(&index)?;
        *used = self.uses;
        Some(Arc::clone(tile))
    }

    fn put(&mut self, index: usize, tile: &Arc<Array3<f32>>) {
        self.uses += 1;
        self.bytes += 4 * tile.len();
        self.tiles.insert(index, (self.uses, Arc::clone(tile)));
        while self.bytes > self.most && self.tiles.len() > 1 {
            let Some(oldest) = self.tiles.iter().min_by_key(|(_, (used, _))| *used).map(|(index, _)| *index) else {
                break;
            };
            if let Some((_, tile)) = self.tiles.remove(&oldest) {
                self.bytes -= 4 * tile.len();
            }
        }
    }
}
