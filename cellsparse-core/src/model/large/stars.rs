//! StarDist by parts: the survivors of all candidates, then the pixels of those in a part.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::ahead::ahead;
use super::super::registry::AnyAlgorithm;
use super::super::stardist::{Placing, REACH, RowOfTiles, StarDist, StarMaps, StarThresholds, StarTiles, with_tiles};
use super::super::work::Work;
use super::{Found, Setup};
use crate::budget::array;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::geometry::label_runs::{LabelRuns, Run};
use crate::geometry::polygon::fill_within;
use crate::networks::StarDistConfig;
use crate::postprocess::StarCandidates;
use crate::postprocess::stars::dist_to_coord;
use crate::postprocess::strips::{Numbered, Strip, StripState, StripSuppression};
use crate::raster::regions::{Extent, Region};
use crate::raster::{LabelImage, read_reflected_part};

/// The search for objects in one image, row of tiles by row of tiles.
pub(crate) struct StarSearch<'a> {
    view: Arc<View<'a>>,
    thresholds: StarThresholds,
    suppression: StripSuppression,
    /// Rows of tiles that are done.
    done: usize,
}

/// What the network looks at.
struct View<'a> {
    setup: &'a Setup<'a>,
    config: &'a StarDistConfig,
    tiles: StarTiles,
    place: Placing,
}

/// What became of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Searched {
    All,
    /// Objects reach further than was taken for granted: everything begins again.
    Again,
}

impl<'a> StarSearch<'a> {
    /// Begins, or goes on after `done` rows of tiles from the state after them.
    pub fn new(setup: &'a Setup<'a>, from: Option<(usize, StripState)>) -> Result<Self> {
        let &StarDist { config, thresholds } = stars_of(setup)?;
        let working = setup.scaled()?.sides();
        let tiles = StarTiles::tried(&setup.model.network, config, working, &setup.work())?.ok_or_else(no_pixels)?;
        let extent = setup.extent();
        let place = Placing {
            working,
            full: [extent.height, extent.width],
            scale: setup.scale,
            grid: config.grid,
            prob: thresholds.prob,
        };
        let cancel = &setup.options.cancel;
        let (done, suppression) = match from {
            Some((done, state)) => (done, StripSuppression::resumed(state, thresholds.nms, cancel)?),
            None => {
                let reach = Some((REACH / setup.scale).ceil() as i32);
                (0, StripSuppression::new(config.n_rays, thresholds.nms, reach, cancel))
            }
        };
        Ok(Self { view: Arc::new(View { setup, config, tiles, place }), thresholds, suppression, done })
    }

    /// Rows of tiles, done and in all.
    pub fn rows(&self) -> [usize; 2] {
        [self.done, self.view.tiles.rows.len()]
    }

    /// Tiles in a row.
    pub fn columns(&self) -> usize {
        self.view.tiles.columns.len()
    }

    /// Sides of a tile and rows of tiles: what must be the same for a state to be that of this search.
    pub fn layout(&self) -> [usize; 4] {
        let StarTiles { rows, columns, shape, .. } = &self.view.tiles;
        [shape[1], shape[2], rows.len(), columns.len()]
    }

    /// What is known so far.
    pub fn suppression(&self) -> &StripSuppression {
        &self.suppression
    }

    /// The survivors since the last time, which the search needs no more.
    pub fn take_settled(&mut self) -> Numbered {
        self.suppression.take_settled()
    }

    /// Decides about all candidates, after the last row of tiles.
    pub fn settle_all(&mut self) -> Result<()> {
        self.suppression.settle_all()
    }

    /// Pixels of the smallest object.
    pub fn smallest(&self) -> f32 {
        self.thresholds.smallest_object.max(self.view.setup.options.min_area)
    }

    /// Looks at the rows of tiles that are not done, leaving out tiles of which `wanted` does not want the pixels that they stand
    /// for. `tick` is called after every tile, `after_row` after every row. An accelerator looks at the next tile meanwhile.
    pub fn search(
        &mut self,
        wanted: &(dyn Fn(Region) -> Result<bool> + Sync),
        tick: &mut dyn FnMut() -> Result<()>,
        after_row: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<Searched> {
        let view = Arc::clone(&self.view);
        let (setup, work) = (view.setup, view.setup.work());
        let look = |&at: &[usize; 2]| {
            setup.options.cancel.check()?;
            Ok((at, if wanted(view.region(at))? { Some(view.look_at(at, &work)?) } else { None }))
        };
        let ended = ahead(&setup.device, &view.tiles.places(self.done), look, &mut |([row, column], maps)| {
            let mut taken = Strip::Taken;
            if let Some(maps) = maps {
                // A tile at a time, so that the candidates of a wide image are not held twice.
                let mut tile = RowOfTiles::empty(view.config.n_rays);
                tile.take(&maps, &view.place)?;
                taken = self.suppression.hold(&tile.stars, &tile.classes)?;
            }
            tick()?;
            let row_ends = column + 1 == view.tiles.columns.len();
            if taken == Strip::Taken && row_ends {
                let frontier = view.place.frontier(view.tiles.kept(0, row)[1]);
                taken = self.suppression.add(&StarCandidates::empty(view.config.n_rays), &[], frontier)?;
            }
            if taken == Strip::ReachExceeded {
                return Ok(ControlFlow::Break(()));
            }
            if row_ends {
                let cure = "raise the probability threshold, train longer, or allow more memory";
                let bytes = self.suppression.bytes();
                setup.budget.require(bytes, "sorting out the object candidates of the image", cure)?;
                self.done += 1;
                after_row(self)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if ended.is_continue() {
            return Ok(Searched::All);
        }
        let reach = self.suppression.state().1.and_then(|reach| reach.checked_mul(4));
        let cancel = &setup.options.cancel;
        self.suppression = StripSuppression::new(view.config.n_rays, self.thresholds.nms, reach, cancel);
        self.done = 0;
        Ok(Searched::Again)
    }
}

impl View<'_> {
    /// The pixels of the image that the maps of a tile stand for.
    fn region(&self, [row, column]: [usize; 2]) -> Region {
        let span = |axis: usize, index: usize| {
            let (working, full) = (self.place.working[axis], self.place.full[axis]);
            let [begin, end] = self.tiles.kept(axis, index).map(|at| at.min(working));
            let (begin, end) = (begin * full / working, (end * full).div_ceil(working));
            (begin.min(full - 1), end.clamp(begin.min(full - 1) + 1, full))
        };
        let ((top, bottom), (left, right)) = (span(0, row), span(1, column));
        Region { top, left, height: bottom - top, width: right - left }
    }

    fn look_at(&self, at: [usize; 2], work: &Work<'_>) -> Result<StarMaps> {
        let corner = self.tiles.corner(at);
        let [_, height, width] = self.tiles.shape;
        let [rows, columns] = self.place.working;
        let (bottom, right) = ((corner[0] + height).min(rows), (corner[1] + width).min(columns));
        let window = Region { top: corner[0], left: corner[1], height: bottom - corner[0], width: right - corner[1] };
        let pixels = self.setup.scaled()?.window(window)?;
        let read = |input: &mut [f32]| {
            read_reflected_part(pixels.view(), corner, self.place.working, corner, width, input);
        };
        self.tiles.maps(&self.setup.model.network, work, at, read)
    }
}

impl Survivors {
    /// The survivors in a part of the image, out of the candidates in it and in what lies around it.
    ///
    /// Whether a candidate survives depends on those that it overlaps, and so on theirs: `around` has to be several cells wide for
    /// what is decided in the part to be what the whole image decides. Of survivors of equal probability, the lower right one
    /// comes first.
    pub fn of_part(setup: &Setup<'_>, core: Region, around: usize) -> Result<Self> {
        let &StarDist { config, thresholds } = stars_of(setup)?;
        let (extent, scaled, work) = (setup.extent(), setup.scaled()?, setup.work());
        let (working, full) = (scaled.sides(), [extent.height, extent.width]);
        let place = Placing { working, full, scale: setup.scale, grid: config.grid, prob: thresholds.prob };
        let part = core.grown(around, extent);
        // On the grid of the whole image, and as far as the network reads.
        let block = setup.model.network.graph.divisor();
        let radius = config.receptive_radius();
        let span = |axis: usize, begin: usize, end: usize| {
            let (begin, end) = (begin * working[axis] / full[axis], (end * working[axis]).div_ceil(full[axis]));
            let begin = begin.saturating_sub(radius[axis]) / block[axis] * block[axis];
            (begin, (end + radius[axis]).next_multiple_of(block[axis]).min(working[axis]))
        };
        let ((top, bottom), (left, right)) = (span(0, part.top, part.bottom()), span(1, part.left, part.right()));
        let origin = [top, left];
        let sides = [bottom - top, right - left];
        let mut row = RowOfTiles::empty(config.n_rays);
        let ended = with_tiles(&setup.model.network, config, sides, &work, &mut |tiles, work, begun| {
            let look = |&at: &[usize; 2]| {
                let corner = tiles.corner(at);
                let corner = [corner[0] + top, corner[1] + left];
                let [_, height, width] = tiles.shape;
                let (end, side) = ((corner[0] + height).min(working[0]), (corner[1] + width).min(working[1]));
                let window =
                    Region { top: corner[0], left: corner[1], height: end - corner[0], width: side - corner[1] };
                let pixels = scaled.window(window)?;
                let read = |input: &mut [f32]| {
                    read_reflected_part(pixels.view(), corner, working, corner, width, input);
                };
                tiles.maps(&setup.model.network, work, at, read)
            };
            ahead(work.device, &tiles.places(0), look, &mut |mut maps| {
                *begun = true;
                for axis in 0..2 {
                    let cells = [maps.prob.nrows(), maps.prob.ncols()][axis];
                    maps.origin[axis] += origin[axis] / config.grid[axis];
                    let end = (maps.origin[axis] + cells) * config.grid[axis];
                    maps.border[axis] = [maps.origin[axis] == 0, end >= working[axis]];
                }
                row.take(&maps, &place)?;
                Ok(ControlFlow::Continue(()))
            })
        })?;
        let ended = ended.ok_or_else(no_pixels)?;
        debug_assert!(ended.is_continue(), "nobody stops it");
        let cancel = &setup.options.cancel;
        let mut suppression = StripSuppression::new(config.n_rays, thresholds.nms, None, cancel);
        suppression.add(&row.stars, &row.classes, i32::MAX)?;
        let (stars, classes) = suppression.finish()?;
        let smallest = thresholds.smallest_object.max(setup.options.min_area);
        let bounds = stars.points.iter().zip(stars.dist.outer_iter());
        let bounds = bounds.map(|(point, rays)| bounds_of(*point, rays.iter().copied(), extent)).collect();
        Ok(Self { stars, classes, bounds, ranks: Vec::new(), smallest, cancel: cancel.clone() })
    }

    /// What orders an object among those of all parts: descending probability, of equal ones the later pixel first.
    pub fn order(found: &Found) -> [u64; 2] {
        let [y, x] = found.anchor.map(|at| at as u64);
        [u64::from(u32::MAX - found.probability.to_bits()), u64::MAX - (y << 32 | x)]
    }
}

/// Objects of an image as polygons, by descending probability.
pub(crate) struct Survivors {
    pub stars: StarCandidates,
    /// Classes, of models with classes.
    pub classes: Vec<u8>,
    /// What each may reach over; see [`bounds_of`].
    pub bounds: Vec<Region>,
    /// The place of each among all of the image; none when these are all.
    pub ranks: Vec<u32>,
    /// Pixels of the smallest object.
    pub smallest: f32,
    pub cancel: CancelToken,
}

/// First row and column, and those behind the last, that a polygon may reach; cut at the image.
pub(crate) fn bounds_of(point: [i32; 2], rays: impl Iterator<Item = f32>, extent: Extent) -> Region {
    let reach = rays.fold(0.0f32, |longest, ray| longest.max(ray.abs())).ceil() as usize + 1;
    let [top, left] = point.map(|at| usize::try_from(at).unwrap_or(0));
    Region { top, left, height: 1, width: 1 }.grown(reach, extent)
}

impl Survivors {
    fn point(&self, index: usize) -> [usize; 2] {
        self.stars.points[index].map(|at| usize::try_from(at).unwrap_or(0))
    }

    /// The objects whose points lie in `core`, with the pixels that they have in the whole image. All must be there that meet
    /// one of these.
    pub fn in_part(&self, core: Region, require: &dyn Fn(Region) -> Result<()>) -> Result<Vec<Found>> {
        self.cancel.check()?;
        let own: Vec<usize> = (0..self.stars.len()).filter(|index| core.contains(self.point(*index))).collect();
        let Some(window) = own.iter().map(|index| self.bounds[*index]).reduce(Region::joined) else {
            return Ok(Vec::new());
        };
        require(window)?;
        let mut near: Vec<usize> = (0..self.stars.len()).filter(|index| self.bounds[*index].meets(&window)).collect();
        // The sum turns -0 into +0, which compares equal to it.
        let score = |index: usize| self.stars.prob[index] + 0.0;
        near.sort_by(|&a, &b| score(a).total_cmp(&score(b)).then(a.cmp(&b)));
        let labels = self.paint(&near, window)?;
        let mut found = Vec::new();
        for object in LabelRuns::new(labels.view())?.iter() {
            let index = near[object.label as usize - 1];
            if !core.contains(self.point(index)) || (object.area() as f32) < self.smallest {
                continue;
            }
            let shift = |run: &Run| Run {
                row: run.row + window.top,
                begin: run.begin + window.left,
                end: run.end + window.left,
            };
            found.push(Found {
                anchor: self.point(index),
                order: [self.ranks.get(index).map_or(index as u64, |rank| u64::from(*rank)), 0],
                runs: object.runs.iter().map(shift).collect(),
                probability: self.stars.prob[index],
                class: self.classes.get(index).copied(),
                cut: false,
            });
        }
        found.sort_by_key(|one| one.order);
        Ok(found)
    }

    /// The polygons of a list, painted in its order over each other, as they are in that part of the image.
    fn paint(&self, list: &[usize], window: Region) -> Result<LabelImage> {
        let some = self.stars.select(list)?;
        let points: Vec<[f64; 2]> = some.points.iter().map(|point| point.map(f64::from)).collect();
        let coord = dist_to_coord(some.dist.view(), &points, [1.0, 1.0])?;
        let coord = coord.as_standard_layout();
        let mut labels: LabelImage = array((window.height, window.width), "the objects of a part")?;
        let sides = [[window.top, window.bottom()], [window.left, window.right()]];
        for (place, one) in coord.outer_iter().enumerate() {
            self.cancel.check()?;
            let (rows, columns) = (one.row(0), one.row(1));
            let (Some(rows), Some(columns)) = (rows.as_slice(), columns.as_slice()) else { continue };
            fill_within(rows, columns, sides, |row, first, last| {
                let columns = first - window.left..=last - window.left;
                labels.slice_mut(ndarray::s![row - window.top, columns]).fill(place as i32 + 1);
            });
        }
        Ok(labels)
    }
}

fn no_pixels() -> Error {
    Error::Image("an image without pixels".into())
}

fn stars_of<'a, 'b>(setup: &'b Setup<'a>) -> Result<&'b StarDist<'a>> {
    match &setup.algorithm {
        AnyAlgorithm::Stardist(stars) => Ok(stars),
        _ => Err(Error::Internal("a search for stars by another network".into())),
    }
}
