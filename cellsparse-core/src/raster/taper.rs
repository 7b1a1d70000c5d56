//! Cellpose's tiles: where they begin, and how their results are blended.

use ndarray::{Array2, Array3, ArrayView3, s};

use crate::budget::array;
use crate::error::{Error, Result};

/// The side of the tiles that the taper is made for.
pub const TAPER_SIDE: usize = 224;

/// Zeros before and after an axis of `n` pixels: at least 8 on each side, so that the sum is a multiple of 16.
pub fn zero_padding(n: usize) -> [usize; 2] {
    let missing = n.next_multiple_of(16) - n;
    [8 + missing / 2, 8 + missing - missing / 2]
}

/// First pixels of tiles of `tile` pixels that cover an axis of `n`; one tile that begins at 0 if `n <= tile`.
///
/// There are `ceil((1 + 2 overlap) n / tile)` tiles at equal distances; `overlap` is brought into 0.05 to 0.5.
pub fn tile_starts(n: usize, tile: usize, overlap: f64) -> Vec<usize> {
    if n <= tile || tile == 0 {
        return vec![0];
    }
    let overlap = if overlap.is_nan() { 0.1 } else { overlap.clamp(0.05, 0.5) };
    spread(n - tile, ((1.0 + 2.0 * overlap) * n as f64 / tile as f64).ceil() as usize)
}

/// First pixels of the tiles of test-time augmentation along an axis of `n >= tile` pixels: twice as many as needed, at
/// least 2. An axis shorter than a tile must be padded first; its tiles begin at 0.
pub fn augmented_tile_starts(n: usize, tile: usize) -> Vec<usize> {
    let count = (2.0 * n as f64 / tile.max(1) as f64).ceil().max(2.0);
    spread(n.saturating_sub(tile), count as usize)
}

/// `count` whole numbers from 0 to `last`, equally spaced before truncation.
fn spread(last: usize, count: usize) -> Vec<usize> {
    let step = last as f64 / count.saturating_sub(1).max(1) as f64;
    let mut starts: Vec<usize> = (0..count).map(|i| (i as f64 * step) as usize).collect();
    if let (Some(end), true) = (starts.last_mut(), count > 1) {
        *end = last;
    }
    starts
}

/// How the tile in tile row `row` and tile column `column` of test-time augmentation is flipped: rows, columns.
pub fn augmented_flip(row: usize, column: usize) -> [bool; 2] {
    let odd = [row % 2 == 1, column % 2 == 1];
    match odd {
        [false, true] => [true, false],
        [true, false] => [false, true],
        _ => odd,
    }
}

/// A tile `[h, w, C]` with its rows or columns reversed.
pub fn flip_tile(tile: ArrayView3<'_, f32>, [rows, columns]: [bool; 2]) -> Array3<f32> {
    let step = |flip: bool| if flip { -1 } else { 1 };
    tile.slice(s![..;step(rows), ..;step(columns), ..]).as_standard_layout().into_owned()
}

/// What a network answered for a flipped tile, `[h, w, C]` with flows `dY`, `dX` as the first two channels, as the answer
/// for the tile itself: reversed again, and the flow along a reversed axis negated.
pub fn unflip_flows(answer: ArrayView3<'_, f32>, flip: [bool; 2]) -> Array3<f32> {
    let mut answer = flip_tile(answer, flip);
    let channels = answer.dim().2;
    for (c, _) in flip.iter().enumerate().filter(|(c, flip)| **flip && *c < channels) {
        answer.slice_mut(s![.., .., c]).mapv_inplace(|flow| -flow);
    }
    answer
}

/// Weights `[rows, columns]` of the pixels of a tile: nearly 1 in the middle, falling off within some 20 pixels of the rim
/// of a tile of `max(224, rows, columns)` pixels, of which the middle part is taken.
pub fn taper(rows: usize, columns: usize) -> Array2<f64> {
    let side = TAPER_SIDE.max(rows).max(columns);
    let middle = (side as f64 - 1.0) / 2.0;
    let edge = side as f64 / 2.0 - 20.0;
    let along = |n: usize| -> Vec<f64> {
        let first = side / 2 - n / 2;
        (first..first + n).map(|i| 1.0 / (1.0 + (((i as f64 - middle).abs() - edge) / 7.5).exp())).collect()
    };
    let (down, across) = (along(rows), along(columns));
    Array2::from_shape_fn((rows, columns), |(y, x)| down[y] * across[x])
}

/// Results of overlapping tiles, blended as they come: the mean at each pixel, weighted by the [`taper`].
///
/// All tiles have one size. Rounding depends on the order of the tiles.
#[derive(Debug, Clone)]
pub struct TaperedSum {
    weights: Array2<f32>,
    sum: Array3<f32>,
    weight: Array2<f32>,
    /// The pixel of the whole result at which this part of it begins; `None` when it is the whole.
    window: Option<[usize; 2]>,
}

impl TaperedSum {
    /// For a result `[rows, columns, channels]` from tiles of `[rows, columns]` given by `tile`.
    ///
    /// # Errors
    /// [`Error::Limit`] when the result does not fit into memory.
    pub fn new(rows: usize, columns: usize, channels: usize, tile: [usize; 2]) -> Result<Self> {
        let fits = |sides: &[usize]| {
            let len = sides.iter().try_fold(1usize, |len, side| len.checked_mul(*side));
            len.is_some_and(|len| len <= isize::MAX as usize / 64)
        };
        if !fits(&[rows, columns, channels.saturating_add(1)]) || !fits(&tile) {
            return Err(Error::Limit(format!(
                "a result of {rows} x {columns} x {channels} values from tiles of {tile:?}"
            )));
        }
        Ok(Self {
            weights: taper(tile[0], tile[1]).mapv(|weight| weight as f32),
            sum: array((rows, columns, channels), "the blended answers of a network")?,
            weight: array((rows, columns), "the blended answers of a network")?,
            window: None,
        })
    }

    /// For the part of a larger result that begins at `origin`. Tiles are given by their place in the whole, those that do not
    /// meet the part are left out; added in one order, they give the values of the whole.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_window(origin: [usize; 2], size: [usize; 2], channels: usize, tile: [usize; 2]) -> Result<Self> {
        Ok(Self { window: Some(origin), ..Self::new(size[0], size[1], channels, tile)? })
    }

    /// Adds the result `[h, w, C]` of the tile whose first pixel is `[row, column]`.
    ///
    /// # Errors
    /// [`Error::Internal`] for a tile of another size, or beyond the result.
    pub fn add(&mut self, tile: ArrayView3<'_, f32>, corner: [usize; 2]) -> Result<()> {
        let (rows, columns) = self.weights.dim();
        let (height, width, channels) = self.sum.dim();
        let origin = self.window.unwrap_or_default();
        let ends = [(corner[0], rows), (corner[1], columns)].map(|(begin, size)| begin.checked_add(size));
        let inside = ends[0].is_some_and(|end| end <= height) && ends[1].is_some_and(|end| end <= width);
        let fits = tile.dim() == (rows, columns, channels) && ends.iter().all(Option::is_some);
        if !fits || (self.window.is_none() && !inside) {
            return Err(Error::Internal(format!(
                "a tile of shape {:?} at {corner:?} in a result of shape {:?} from tiles of {rows} x {columns}",
                tile.shape(),
                self.sum.shape()
            )));
        }
        // First and last pixel of the part of the tile that meets the result, in the pixels of the whole.
        let begin: [usize; 2] = std::array::from_fn(|axis| corner[axis].max(origin[axis]));
        let end: [usize; 2] = std::array::from_fn(|axis| {
            (corner[axis] + [rows, columns][axis]).min(origin[axis] + [height, width][axis])
        });
        if begin[0] >= end[0] || begin[1] >= end[1] {
            return Ok(());
        }
        let range = |axis: usize, from: usize| begin[axis] - from..end[axis] - from;
        let own = s![range(0, origin[0]), range(1, origin[1])];
        let weights = self.weights.slice(s![range(0, corner[0]), range(1, corner[1])]);
        let tile = tile.slice_move(s![range(0, corner[0]), range(1, corner[1]), ..]);
        self.weight.slice_mut(own).zip_mut_with(&weights, |sum, weight| *sum += weight);
        let mut sum = self.sum.slice_mut(s![range(0, origin[0]), range(1, origin[1]), ..]);
        for ((mut sums, values), weights) in sum.outer_iter_mut().zip(tile.outer_iter()).zip(weights.outer_iter()) {
            for ((mut sums, values), weight) in sums.outer_iter_mut().zip(values.outer_iter()).zip(weights) {
                sums.zip_mut_with(&values, |sum, value| *sum += value * weight);
            }
        }
        Ok(())
    }

    /// The blended result `[rows, columns, channels]`; 0 where no tile lay.
    pub fn finish(mut self) -> Array3<f32> {
        for (mut sums, weight) in self.sum.lanes_mut(ndarray::Axis(2)).into_iter().zip(&self.weight) {
            if *weight > 0.0 {
                sums.mapv_inplace(|sum| sum / weight);
            }
        }
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_axis() {
        for n in 1..700 {
            for (tile, overlap) in [(48, 0.1), (224, 0.0), (224, 0.5), (16, f64::NAN)] {
                for starts in [tile_starts(n, tile, overlap), augmented_tile_starts(n, tile)] {
                    assert_eq!(starts[0], 0);
                    assert_eq!(*starts.last().unwrap(), n.saturating_sub(tile));
                    assert!(starts.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= pair[0] + tile));
                }
            }
            let [before, after] = zero_padding(n);
            assert!((before + n + after).is_multiple_of(16) && before >= 8 && after >= 8 && after - before <= 1);
        }
        assert_eq!((tile_starts(0, 224, 0.1), tile_starts(9, 0, 0.1)), (vec![0], vec![0]));
        assert_eq!(augmented_tile_starts(0, 0), [0, 0]);
    }

    #[test]
    fn a_flip_is_undone_and_turns_its_flow() {
        let tile = Array3::from_shape_fn((2, 3, 3), |(y, x, c)| (y * 9 + x * 3 + c) as f32 + 1.0);
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let flip = augmented_flip(row, column);
            let back = unflip_flows(flip_tile(tile.view(), flip).view(), flip);
            for ((y, x, c), value) in tile.indexed_iter() {
                let sign = if c < 2 && flip[c] { -1.0 } else { 1.0 };
                assert_eq!(back[[y, x, c]], sign * value);
            }
        }
        assert_eq!(augmented_flip(0, 1), [true, false]);
    }

    #[test]
    fn constants_are_blended_to_themselves() {
        let mut blend = TaperedSum::new(60, 50, 2, [30, 50]).unwrap();
        for start in tile_starts(60, 30, 0.1) {
            blend.add(Array3::from_elem((30, 50, 2), 3.0).view(), [start, 0]).unwrap();
        }
        assert!(blend.add(Array3::zeros((30, 50, 2)).view(), [31, 0]).is_err());
        assert!(blend.add(Array3::zeros((30, 49, 2)).view(), [0, 0]).is_err());
        assert!(blend.finish().iter().all(|value| (value - 3.0).abs() < 1e-5));
        let mut whole = TaperedSum::new(60, 50, 1, [30, 40]).unwrap();
        let mut part = TaperedSum::of_window([11, 7], [20, 33], 1, [30, 40]).unwrap();
        for (y, x) in [(0, 0), (0, 10), (15, 0), (15, 10), (30, 0), (30, 10)] {
            let tile = Array3::from_shape_fn((30, 40, 1), |(i, j, _)| ((i * 7 + j * 3 + y + x) % 11) as f32);
            whole.add(tile.view(), [y, x]).unwrap();
            part.add(tile.view(), [y, x]).unwrap();
        }
        assert_eq!(part.finish(), whole.finish().slice(s![11..31, 7..40, ..]));
        assert!(TaperedSum::new(usize::MAX, 2, 2, [1, 1]).is_err());
        assert_eq!(TaperedSum::new(0, 5, 2, [0, 5]).unwrap().finish().dim(), (0, 5, 2));
    }
}
