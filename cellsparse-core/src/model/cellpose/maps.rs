//! What a Cellpose network says about an image.

use std::ops::ControlFlow;

use ndarray::{Array2, Array3, ArrayView3, CowArray, Ix3, s};

use super::CellposeThresholds;
use crate::budget::{array, bytes_of, copied, mapped};
use crate::control::CancelToken;
use crate::error::Result;
use crate::model::ahead::ahead;
use crate::model::network::Network;
use crate::model::segmentation::{Segmentation, from_labels};
use crate::model::work::Work;
use crate::model::working_scale::scaled_sides;
use crate::networks::CellposeConfig;
use crate::postprocess::clean::{relabel_sequential, remove_small_labels};
use crate::postprocess::masks::{MaskOptions, compute_masks_until};
use crate::raster::taper::{
    TaperedSum, augmented_flip, augmented_tile_starts, tile_starts, unflip_flows, zero_padding,
};
use crate::raster::{LabelImage, resize_bilinear};

/// Bytes per pixel of what the network says.
pub(super) const MAP_BYTES: u64 = 12;

/// What the network says about an image, at the size of the image.
pub(in crate::model) struct FlowMaps {
    /// `[2, H, W]`: `dY`, `dX`.
    pub flows: Array3<f32>,
    /// Logit `[H, W]`.
    pub cellprob: Array2<f32>,
}

impl FlowMaps {
    /// From the network's maps `[H, W, 3]` of an image.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory.
    pub fn new(maps: ArrayView3<'_, f32>) -> Result<Self> {
        let (height, width, _) = maps.dim();
        let what = "the flows of an image";
        let mut flows: Array3<f32> = array((2, height, width), what)?;
        for channel in 0..2 {
            flows.slice_mut(s![channel, .., ..]).assign(&maps.slice(s![.., .., channel]));
        }
        Ok(Self { flows, cellprob: copied(maps.slice(s![.., .., 2]), what)? })
    }

    /// Follows the flows and keeps what looks like cells.
    pub fn segment(
        &self,
        config: &CellposeConfig,
        thresholds: &CellposeThresholds,
        min_area: f32,
        cancel: &CancelToken,
    ) -> Result<Segmentation> {
        let labels = self.labels(config, thresholds, min_area, cancel)?;
        from_labels(labels, self.probability()?.view(), cancel)
    }

    /// The probability `[H, W]` of belonging to a cell.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn probability(&self) -> Result<Array2<f32>> {
        mapped(self.cellprob.view(), "the probabilities of an image", |logit| 1.0 / (1.0 + (-logit).exp()))
    }

    /// The label image of [`segment`](Self::segment).
    pub fn labels(
        &self,
        config: &CellposeConfig,
        thresholds: &CellposeThresholds,
        min_area: f32,
        cancel: &CancelToken,
    ) -> Result<LabelImage> {
        let options = MaskOptions {
            steps: MaskOptions::steps_for(f64::from(thresholds.diameter), f64::from(config.diam_mean)),
            cellprob_threshold: thresholds.cellprob,
            flow_threshold: thresholds.flow,
            ..MaskOptions::default()
        };
        let options = MaskOptions { min_size: 0, ..options };
        let mut labels = compute_masks_until(self.flows.view(), self.cellprob.view(), &options, cancel)?;
        cancel.check()?;
        remove_small_labels(&mut labels, thresholds.smallest_object.max(min_area));
        cancel.check()?;
        relabel_sequential(&labels, 1)
    }
}

/// Runs the network over a normalised image, scaled so that its cells have the network's diameter.
pub(super) fn maps(
    network: &Network,
    config: &CellposeConfig,
    image: ArrayView3<'_, f32>,
    thresholds: &CellposeThresholds,
    work: &Work<'_>,
) -> Result<FlowMaps> {
    let (height, width, channels) = image.dim();
    let scale = f64::from(config.diam_mean) / f64::from(thresholds.diameter);
    let sides = scaled_sides([height, width], scale)?;
    let same = sides == [height, width];
    let tiling = Tiling::new(network, sides, work);
    // The output, the flows apart from it and what the masks take, at the size of the image; the scaled image, sums and
    // weights of the tiles at that of the network.
    let taken = bytes_of(&[height, width], 24 + MASK_BYTES)
        .saturating_add(if same { 0 } else { bytes_of(&[sides[0], sides[1], channels], 4) })
        .saturating_add(bytes_of(&tiling.total, 16));
    work.budget.require(
        taken,
        format_args!(
            "an image of {height} x {width} pixels, which is {} x {} for a diameter of {} pixels,",
            sides[0], sides[1], thresholds.diameter
        ),
        "give a larger diameter, cut the image into parts, or allow more memory",
    )?;
    let work = &work.less(taken);
    let scaled: CowArray<'_, f32, Ix3> =
        if same { image.into() } else { resize_bilinear(image, sides[0], sides[1])?.into() };
    let blended = tiling.run(network, scaled.view(), work)?;
    drop(scaled);
    let [top, left] = [tiling.paddings[0][0], tiling.paddings[1][0]];
    let inside = blended.slice(s![top..top + sides[0], left..left + sides[1], ..]);
    let output: CowArray<'_, f32, Ix3> =
        if same { inside.into() } else { resize_bilinear(inside, height, width)?.into() };
    FlowMaps::new(output.view())
}

/// How an image at the network's scale is read: zeros around it, overlapping tiles, blended. With `augment`, tiles overlap by
/// half and are mirrored in turn.
pub(in crate::model) struct Tiling {
    /// Zeros before and after each axis.
    pub paddings: [[usize; 2]; 2],
    /// Sides of the padded image and of the tiles.
    pub total: [usize; 2],
    pub side: [usize; 2],
    augment: bool,
}

impl Tiling {
    pub fn new(network: &Network, sides: [usize; 2], work: &Work<'_>) -> Self {
        let [divisor, _] = network.graph.divisor();
        let paddings = sides.map(zero_padding);
        let padded: [usize; 2] = std::array::from_fn(|axis| sides[axis] + paddings[axis][0] + paddings[axis][1]);
        let tile = work.tile.unwrap_or(TILE).next_multiple_of(divisor.max(16));
        let side = std::array::from_fn(|axis| {
            let whole = padded[axis].next_multiple_of(divisor);
            // A mirrored tile is as large as a tile of the reference even where the image is smaller.
            tile.min(if work.augment { whole.max(TILE.next_multiple_of(divisor)) } else { whole })
        });
        let total = std::array::from_fn(|axis| padded[axis].max(side[axis]));
        Self { paddings, total, side, augment: work.augment }
    }

    /// First pixels and mirrored axes of all tiles.
    pub fn places(&self) -> Vec<([usize; 2], [bool; 2])> {
        let starts: [Vec<usize>; 2] = std::array::from_fn(|axis| match self.augment {
            true => augmented_tile_starts(self.total[axis], self.side[axis]),
            false => tile_starts(self.total[axis], self.side[axis], OVERLAP),
        });
        let mut places = Vec::new();
        for (row, &y) in starts[0].iter().enumerate() {
            for (column, &x) in starts[1].iter().enumerate() {
                places.push(([y, x], if self.augment { augmented_flip(row, column) } else { [false; 2] }));
            }
        }
        places
    }

    /// The network's maps `[H, W, 3]` of the padded image.
    fn run(&self, network: &Network, image: ArrayView3<'_, f32>, work: &Work<'_>) -> Result<Array3<f32>> {
        let places = self.places();
        let together = self.together(network, places.len(), work)?;
        let mut sum = TaperedSum::new(self.total[0], self.total[1], 3, self.side)?;
        let groups: Vec<_> = places.chunks(together).collect();
        let outputs = |group: &&[([usize; 2], [bool; 2])]| {
            let outputs = self.outputs(network, group, work, |place, tile| self.read(image, [0, 0], *place, tile))?;
            Ok((outputs, group.iter().map(|(corner, _)| *corner).collect::<Vec<_>>()))
        };
        let ended = ahead(work.device, &groups, outputs, &mut |(outputs, corners)| {
            for (maps, corner) in outputs.iter().zip(corners) {
                sum.add(maps.view(), corner)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        debug_assert!(ended.is_continue());
        Ok(sum.finish())
    }

    /// Tiles of `count` that are read at a time.
    pub fn together(&self, network: &Network, count: usize, work: &Work<'_>) -> Result<usize> {
        let [rows, columns] = self.side;
        let many = TILES.min(count.max(1));
        let groups = std::iter::successors(Some(many), |n| Some(n / 2).filter(|n| *n > 0));
        Ok(network.first_fitting(work, groups, |n| [n, rows, columns])?.unwrap_or(1))
    }

    /// The network's maps `[h, w, 3]` of some tiles, the right way round; `read` writes a tile as its place says.
    pub fn outputs(
        &self,
        network: &Network,
        group: &[([usize; 2], [bool; 2])],
        work: &Work<'_>,
        read: impl Fn(&([usize; 2], [bool; 2]), &mut [f32]),
    ) -> Result<Vec<Array3<f32>>> {
        let [rows, columns] = self.side;
        let fill = |input: &mut [f32]| {
            let len = input.len() / group.len();
            input.chunks_exact_mut(len).zip(group).for_each(|(tile, place)| read(place, tile));
        };
        let outputs = network.run(work, [group.len(), rows, columns], fill)?;
        let maps = outputs.into_iter().filter_map(|outputs| outputs.into_iter().next());
        Ok(maps
            .zip(group)
            .map(|(maps, (_, flip))| if *flip == [false; 2] { maps } else { unflip_flows(maps.view(), *flip) })
            .collect())
    }

    /// Writes a tile of the padded image, mirrored as its place says. `image` is the part of the image that begins at `origin`
    /// and has all pixels of it that the tile has.
    pub fn read(
        &self,
        image: ArrayView3<'_, f32>,
        origin: [usize; 2],
        (corner, flip): ([usize; 2], [bool; 2]),
        to: &mut [f32],
    ) {
        let (height, width, channels) = image.dim();
        let [rows, columns] = self.side;
        let at = |axis: usize, index: usize, of: usize| -> Option<usize> {
            let index = if flip[axis] { of - 1 - index } else { index };
            (corner[axis] + index).checked_sub(self.paddings[axis][0] + origin[axis])
        };
        for (y, line) in to.chunks_exact_mut(columns * channels).enumerate() {
            let row = at(0, y, rows).filter(|row| *row < height);
            for (x, pixel) in line.chunks_exact_mut(channels).enumerate() {
                match (row, at(1, x, columns).filter(|column| *column < width)) {
                    (Some(row), Some(column)) => {
                        pixel.iter_mut().enumerate().for_each(|(c, value)| *value = image[[row, column, c]]);
                    }
                    _ => pixel.fill(0.0),
                }
            }
        }
    }
}

/// Side of the tiles that the network reads, and their overlap, as in the Cellpose package.
const TILE: usize = 224;
const OVERLAP: f64 = 0.1;

/// Tiles that are read at a time.
const TILES: usize = 8;

/// Bytes per pixel of following flows and finding masks, at most: when all pixels belong to cells.
const MASK_BYTES: u64 = 72;
