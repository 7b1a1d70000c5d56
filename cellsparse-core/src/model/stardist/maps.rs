//! What a StarDist network says about an image.

use std::ops::ControlFlow;

use ndarray::{Array2, Array3, ArrayView3, s};

use crate::budget::{array, mapped};
use crate::error::{Error, Result};
use crate::model::ahead::ahead;
use crate::model::network::Network;
use crate::model::work::Work;
use crate::model::working_scale::resample;
use crate::networks::StarDistConfig;
use crate::raster::{Span, read_reflected, tile_axis};

/// What the network says about one tile, on the grid.
pub(in crate::model) struct StarMaps {
    /// Object probability `[h, w]`.
    pub prob: Array2<f32>,
    /// Ray lengths in pixels `[h, w, rays]`, at least 1e-3.
    pub dist: Array3<f32>,
    /// Class with the highest score `[h, w]`, 0 background.
    pub class: Option<Array2<usize>>,
    /// First grid row and column of these maps in those of the padded image.
    pub origin: [usize; 2],
    /// Whether the maps touch the border of the padded image: `[[top, bottom], [left, right]]`.
    pub border: [[bool; 2]; 2],
}

/// Smallest ray length, as in the reference.
const SHORTEST_RAY: f32 = 1e-3;

/// Side of a tile when the image does not fit into one.
const TILE: usize = 1024;

/// Side of the smallest tile, in receptive radii: half of it is kept, a quarter of the pixels that are read.
const SMALLEST_TILE: usize = 4;

/// The side of the smallest tile that is taken for a caller who asks for a small one.
pub(super) fn smallest_tile(config: &StarDistConfig) -> usize {
    let [rows, columns] = config.receptive_radius();
    SMALLEST_TILE * rows.max(columns)
}

/// Runs the network over a normalised image tile by tile, row of tiles by row of tiles, and hands the maps of every tile to
/// `visit`, until it says to stop.
///
/// The image is continued by reflection to a multiple of what the network divides by. Tiles overlap by the receptive
/// field, so the maps are those of the whole image, whatever the size of the tiles: it is chosen by the memory that there is, and
/// on an accelerator by whether the first tile finds memory. There, the next tile is computed while the last one is visited.
pub(super) fn for_each_tile(
    network: &Network,
    config: &StarDistConfig,
    image: ArrayView3<'_, f32>,
    work: &Work<'_>,
    visit: &mut dyn FnMut(StarMaps) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let (height, width, _) = image.dim();
    let ended = with_tiles(network, config, [height, width], work, &mut |tiles, work, begun| {
        let maps = |place: &[usize; 2]| {
            let read = |input: &mut [f32]| read_reflected(image, tiles.corner(*place), tiles.shape[2], input);
            tiles.maps(network, work, *place, read)
        };
        ahead(work.device, &tiles.places(0), maps, &mut |maps| {
            *begun = true;
            visit(maps)
        })
    })?;
    Ok(ended.unwrap_or(ControlFlow::Continue(())))
}

/// Lets `run` work with the largest tiles of an image of those sides that the memory allows; `None` when it has no pixel.
///
/// The memory of an accelerator is not known beforehand: it says when it has no more. Then `run` works again with smaller tiles, as
/// long as it did not say that something has begun.
pub(in crate::model) fn with_tiles<T>(
    network: &Network,
    config: &StarDistConfig,
    sides: [usize; 2],
    work: &Work<'_>,
    run: &mut dyn FnMut(&StarTiles, &Work<'_>, &mut bool) -> Result<T>,
) -> Result<Option<T>> {
    let mut work = work.clone();
    loop {
        let Some(tiles) = StarTiles::plan(network, config, sides, &work)? else { return Ok(None) };
        let mut begun = false;
        match run(&tiles, &work, &mut begun) {
            Err(refused @ Error::Limit(_)) if !begun && !work.device.is_cpu() => {
                let smaller = tiles.shape[1].max(tiles.shape[2]) / 4 * 3;
                let next = Work { tile: Some(smaller), ..work.clone() };
                let plan = StarTiles::plan(network, config, sides, &next)?;
                if plan.is_none_or(|plan| plan.shape == tiles.shape) {
                    return Err(refused);
                }
                work = next;
            }
            ended => return ended.map(Some),
        }
    }
}

/// The tiles in which an image is read.
#[derive(Clone)]
pub(in crate::model) struct StarTiles {
    /// In blocks of what the network divides by.
    pub rows: Vec<Span>,
    pub columns: Vec<Span>,
    /// `[1, height, width]` of the tiles in pixels.
    pub shape: [usize; 3],
    block: [usize; 2],
    grid: [usize; 2],
    /// Blocks of the image.
    blocks: [usize; 2],
}

impl StarTiles {
    /// The largest tiles that the memory allows, of an image of those sides; none when the image has no pixel.
    pub fn plan(
        network: &Network,
        config: &StarDistConfig,
        [height, width]: [usize; 2],
        work: &Work<'_>,
    ) -> Result<Option<Self>> {
        let block = network.graph.divisor();
        let blocks = [height.div_ceil(block[0]), width.div_ceil(block[1])];
        let radius = config.receptive_radius();
        let spans = |sides: [usize; 2]| -> [Vec<Span>; 2] {
            std::array::from_fn(|axis| {
                tile_axis(blocks[axis], sides[axis].div_ceil(block[axis]), radius[axis].div_ceil(block[axis]))
            })
        };
        let shape = |sides: [usize; 2]| {
            let spans = spans(sides);
            let side = |axis: usize| spans[axis].first().map_or(0, |span| (span.end - span.begin) * block[axis]);
            [1, side(0), side(1)]
        };
        let pixels = blocks[0] * block[0] * blocks[1] * block[1];
        let first = work.tile.unwrap_or(if pixels <= TILE * TILE { height.max(width) } else { TILE });
        let least = [smallest_tile(config); 2];
        // Sides that fall by a quarter each; where memory is short, down to tiles that are read for their surroundings alone.
        let smaller = |side: &usize| Some(side - side / 4).filter(|next| next < side && *next > least[0].max(least[1]));
        let sensible = std::iter::successors(Some(first), smaller).map(|side| least.map(|least| side.max(least)));
        let sides = sensible.chain([SMALLEST_TILE, 3, 2].map(|times| radius.map(|radius| times * radius)));
        let Some(sides) = network.first_fitting(work, sides, shape)? else { return Ok(None) };
        let [rows, columns] = spans(sides);
        Ok(Some(Self { rows, columns, shape: shape(sides), block, grid: config.grid, blocks }))
    }

    /// The largest tiles that the memory allows, that of an accelerator as well: it computes one of zeros.
    #[cfg(feature = "io")]
    pub fn tried(
        network: &Network,
        config: &StarDistConfig,
        sides: [usize; 2],
        work: &Work<'_>,
    ) -> Result<Option<Self>> {
        with_tiles(network, config, sides, work, &mut |tiles, work, _| {
            if !work.device.is_cpu() {
                network.run(work, tiles.shape, |_| ())?;
            }
            Ok(tiles.clone())
        })
    }

    /// Row and column of every tile from a row on.
    pub fn places(&self, first_row: usize) -> Vec<[usize; 2]> {
        let columns = self.columns.len();
        (first_row..self.rows.len()).flat_map(|row| (0..columns).map(move |column| [row, column])).collect()
    }

    /// First pixel of a tile.
    pub fn corner(&self, [row, column]: [usize; 2]) -> [usize; 2] {
        [self.rows[row].begin * self.block[0], self.columns[column].begin * self.block[1]]
    }

    /// First and end pixel along an axis of what the maps of a tile stand for.
    #[cfg(feature = "io")]
    pub fn kept(&self, axis: usize, index: usize) -> [usize; 2] {
        let span = [&self.rows, &self.columns][axis][index];
        [span.keep_begin * self.block[axis], span.keep_end * self.block[axis]]
    }

    /// What the network says about a tile, whose pixels `read` writes.
    pub fn maps(
        &self,
        network: &Network,
        work: &Work<'_>,
        [row, column]: [usize; 2],
        read: impl FnOnce(&mut [f32]),
    ) -> Result<StarMaps> {
        let (rows, columns) = (self.rows[row], self.columns[column]);
        let cells = [self.block[0] / self.grid[0], self.block[1] / self.grid[1]];
        let mut outputs = network.run(work, self.shape, read)?.swap_remove(0).into_iter();
        let (Some(logits), Some(mut dist)) = (outputs.next(), outputs.next()) else {
            return Err(Error::Internal("a network without probabilities and distances".into()));
        };
        let keep = s![
            (rows.keep_begin - rows.begin) * cells[0]..(rows.keep_end - rows.begin) * cells[0],
            (columns.keep_begin - columns.begin) * cells[1]..(columns.keep_end - columns.begin) * cells[1],
            ..
        ];
        let what = "what a network says about a tile";
        let prob = mapped(logits.slice(keep), what, |logit| 1.0 / (1.0 + (-logit).exp()))?;
        // By far the largest map: no second one beside it.
        dist.slice_collapse(keep);
        dist.par_mapv_inplace(|length| length.max(SHORTEST_RAY));
        Ok(StarMaps {
            prob: prob.remove_axis(ndarray::Axis(2)),
            dist,
            class: outputs.next().map(|logits| logits.slice(keep).map_axis(ndarray::Axis(2), argmax)),
            origin: [rows.keep_begin * cells[0], columns.keep_begin * cells[1]],
            border: [
                [rows.keep_begin == 0, rows.keep_end == self.blocks[0]],
                [columns.keep_begin == 0, columns.keep_end == self.blocks[1]],
            ],
        })
    }
}

fn argmax(scores: ndarray::ArrayView1<'_, f32>) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}

/// The object probability on the grid of an image `[H, W, C]` seen at that scale.
pub(super) fn probability(
    network: &Network,
    config: &StarDistConfig,
    image: ArrayView3<'_, f32>,
    scale: f64,
    work: &Work<'_>,
) -> Result<Array2<f32>> {
    let working = resample(image.into(), scale)?;
    let (rows, columns, _) = working.dim();
    let sides = (rows.div_ceil(config.grid[0]), columns.div_ceil(config.grid[1]));
    let mut whole: Array2<f32> = array(sides, "the probabilities of an image")?;
    for_each_tile(network, config, working.view(), work, &mut |maps| {
        let [top, left] = maps.origin;
        for ((y, x), prob) in maps.prob.indexed_iter() {
            if let Some(out) = whole.get_mut((top + y, left + x)) {
                *out = *prob;
            }
        }
        Ok(ControlFlow::Continue(()))
    })?
    .is_continue()
    .then_some(whole)
    .ok_or_else(|| Error::Internal("a map that was not finished".into()))
}
