//! Marker-controlled watershed: every marker grows over an elevation map, lowest pixels first, until the regions meet.
//!
//! The result is that of `skimage.segmentation.watershed` (scikit-image 0.25 and later, compactness 0, no lines) pixel
//! for pixel: priority flooding in the order of (level, time of discovery), where the level of a pixel is the highest
//! one on the way to it (Barnes, Lehman and Mulla, "Priority-flood", Computers & Geosciences 62, 2014).

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use super::flood_queue::{Key, LiteralHeap, MonotoneQueue};
use super::grey_levels::GreyLevels;
use crate::budget::{array, gathered, no_memory, reserve, try_push};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::raster::{Connectivity, LabelImage};

const WHAT: &str = "the watershed of an image";

/// A value of an elevation map, as an unsigned integer of the same order.
///
/// Both zeros of a floating-point type are equal. NaN counts as higher than everything else, so it is flooded last.
pub trait GreyLevel: Copy + Sync {
    /// The integer.
    type Key: Key;

    /// Maps the value to it.
    fn key(self) -> Self::Key;
}

impl GreyLevel for u8 {
    type Key = u32;
    fn key(self) -> u32 {
        u32::from(self)
    }
}

impl GreyLevel for u16 {
    type Key = u32;
    fn key(self) -> u32 {
        u32::from(self)
    }
}

impl GreyLevel for i32 {
    type Key = u32;
    fn key(self) -> u32 {
        self as u32 ^ (1 << 31)
    }
}

impl GreyLevel for f32 {
    type Key = u32;
    fn key(self) -> u32 {
        if self.is_nan() {
            return u32::MAX;
        }
        // The sum turns the negative zero into the positive one.
        let bits = (self + 0.0).to_bits();
        if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
    }
}

impl GreyLevel for f64 {
    type Key = u64;
    fn key(self) -> u64 {
        if self.is_nan() {
            return u64::MAX;
        }
        let bits = (self + 0.0).to_bits();
        if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
    }
}

/// Grows markers over an elevation map; the result is a label image `[H, W]` with the ids of the markers.
///
/// `elevation` and `markers` are `[H, W]`; a marker is every pixel above 0, and pixels of one id need not touch. With a
/// `mask`, pixels where it is false stay 0 and markers there do not count. Pixels that no marker reaches stay 0.
/// Where two regions reach a pixel at the same level, the one that discovered it first has it; markers of equal level
/// begin in the order in which the binary heap of scikit-image releases them.
///
/// # Errors
/// [`Error::Labels`] when the three do not have one shape, [`Error::Limit`] for 2^32 pixels and more.
pub fn watershed<T: GreyLevel>(
    elevation: ArrayView2<'_, T>,
    markers: ArrayView2<'_, i32>,
    mask: Option<ArrayView2<'_, bool>>,
    connectivity: Connectivity,
) -> Result<LabelImage> {
    watershed_until(elevation, markers, mask, connectivity, &CancelToken::new())
}

/// [`watershed`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn watershed_until<T: GreyLevel>(
    elevation: ArrayView2<'_, T>,
    markers: ArrayView2<'_, i32>,
    mask: Option<ArrayView2<'_, bool>>,
    connectivity: Connectivity,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let (height, width) = elevation.dim();
    check_shape("marker image", markers.dim(), elevation.dim())?;
    if let Some(mask) = &mask {
        check_shape("mask", mask.dim(), elevation.dim())?;
    }
    let padded = height.checked_add(2).zip(width.checked_add(2)).and_then(|(h, w)| h.checked_mul(w));
    if padded.is_none_or(|len| u32::try_from(len).is_err()) {
        return Err(Error::Limit(format!(
            "an elevation map of {height} x {width} pixels is too large; cut it into parts"
        )));
    }
    if elevation.is_empty() {
        return array((height, width), WHAT);
    }
    let grey_levels = GreyLevels::new(elevation, markers, mask, connectivity)?;
    cancel.check()?;
    let labels = match grey_levels {
        Some(grey_levels) => grey_levels.stopped_by(cancel).flood()?,
        None => flood_many_levels(elevation, markers, mask, connectivity, cancel)?,
    };
    // A flood that was stopped ends at once, with pixels left out.
    cancel.check()?;
    Ok(labels)
}

/// The same for elevation maps of any number of levels.
fn flood_many_levels<T: GreyLevel>(
    elevation: ArrayView2<'_, T>,
    markers: ArrayView2<'_, i32>,
    mask: Option<ArrayView2<'_, bool>>,
    connectivity: Connectivity,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let (height, width) = elevation.dim();
    let mut labels: LabelImage = array((height, width), WHAT)?;
    let mut basin = Basin { cancel: cancel.clone(), ..Basin::new(elevation, markers, mask, connectivity)? };
    cancel.check()?;
    basin.flood()?;
    cancel.check()?;
    let stride = width + 2;
    labels.axis_iter_mut(Axis(0)).into_par_iter().zip(basin.cells.par_chunks(stride).skip(1)).for_each(
        |(mut row, cells)| row.iter_mut().zip(&cells[1..]).for_each(|(label, cell)| *label = cell.label.max(0)),
    );
    Ok(labels)
}

fn check_shape(name: &str, found: (usize, usize), expected: (usize, usize)) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Labels(format!(
        "the {name} has {} x {} pixels, the elevation map {} x {}; they must be equal",
        found.0, found.1, expected.0, expected.1
    )))
}

/// The label of a pixel that is not to be flooded.
const OUTSIDE: i32 = -1;

/// A pixel: level and label together, since both are read whenever a neighbour is looked at.
#[derive(Clone, Copy)]
struct Cell<K> {
    key: K,
    label: i32,
    /// A hash of the levels on the way from the marker to here, see [`trace`].
    trace: u32,
}

/// The trace of a pixel of level `key` that was discovered from one with the trace `before`.
///
/// Two pixels of one level leave the queue in an order that only the mechanics of the reference's heap decide exactly
/// when their markers are different and the levels on the two ways are the same: otherwise the first difference, seen
/// from the end, decides. Equal traces stand for equal ways; a collision costs time and changes nothing.
#[inline]
fn trace<K: Key>(before: u32, key: K) -> u32 {
    let mixed = (before.rotate_left(5) ^ key.folded()).wrapping_mul(0x9E37_79B1);
    mixed ^ (mixed >> 15)
}

/// The elevation map with a border of [`OUTSIDE`] pixels, so that every pixel inside has all its neighbours.
struct Basin<K> {
    cells: Vec<Cell<K>>,
    /// Distances to the neighbours in `cells`, in the order in which they are looked at.
    offsets: Vec<isize>,
    /// The pixels of all markers in raster order, with their labels.
    markers: Vec<(u32, i32)>,
    /// Ends the flood where it is.
    cancel: CancelToken,
}

/// Pixels after which a flood asks whether to stop.
pub(super) const PATIENCE: usize = 1 << 16;

impl<K: Key> Basin<K> {
    fn new<T: GreyLevel<Key = K>>(
        elevation: ArrayView2<'_, T>,
        markers: ArrayView2<'_, i32>,
        mask: Option<ArrayView2<'_, bool>>,
        connectivity: Connectivity,
    ) -> Result<Self> {
        let (height, width) = elevation.dim();
        let stride = width + 2;
        let mut cells = reserve((height + 2) * stride, WHAT)?;
        cells.resize((height + 2) * stride, Cell { key: K::default(), label: OUTSIDE, trace: 0 });
        cells.par_chunks_mut(stride).skip(1).take(height).enumerate().for_each(|(y, cells)| {
            let (levels, markers) = (elevation.row(y), markers.row(y));
            for ((cell, level), marker) in cells[1..].iter_mut().zip(levels).zip(markers) {
                let key = level.key();
                *cell = Cell { key, label: (*marker).max(0), trace: trace(0, key) };
            }
            if let Some(mask) = &mask {
                for (cell, _) in cells[1..].iter_mut().zip(mask.row(y)).filter(|(_, inside)| !**inside) {
                    cell.label = OUTSIDE;
                }
            }
        });
        let places = || (0u32..).zip(&cells).filter(|(_, cell)| cell.label > 0).map(|(at, cell)| (at, cell.label));
        let markers = gathered(places().count(), places(), WHAT)?;
        let row = stride as isize;
        let mut offsets = vec![-row, -1, 1, row];
        if connectivity == Connectivity::Eight {
            offsets.extend([-row - 1, -row + 1, row - 1, row + 1]);
        }
        Ok(Self { cells, offsets, markers, cancel: CancelToken::new() })
    }

    /// Whether a pixel of a marker has anything to grow into. One that has not may be released at any time: it changes
    /// neither a label nor the order of the others.
    fn grows(&self, at: u32) -> bool {
        self.offsets.iter().any(|offset| self.cells[at.wrapping_add_signed(*offset as i32) as usize].label == 0)
    }

    /// The highest level up to `limit` that two growing pixels of markers share. The order of pixels of equal level is
    /// that of their discovery, except that all pixels of markers were discovered at once.
    fn highest_tie(&self, limit: Option<K>) -> Result<Option<K>> {
        let mut keys = self.growing()?;
        keys.retain(|key| limit.is_none_or(|limit| *key <= limit));
        keys.sort_unstable();
        Ok(keys.windows(2).rev().find(|pair| pair[0] == pair[1]).map(|pair| pair[0]))
    }

    /// The levels of the growing pixels of markers.
    fn growing(&self) -> Result<Vec<K>> {
        let growing = || self.markers.iter().filter(|(at, _)| self.grows(*at));
        gathered(growing().count(), growing().map(|(at, _)| self.cells[*at as usize].key), WHAT)
    }

    /// Whether most growing pixels of markers share their level with another one.
    fn is_mostly_tied(&self) -> Result<bool> {
        let mut keys = self.growing()?;
        keys.sort_unstable();
        let total = keys.len();
        keys.dedup();
        Ok(2 * keys.len() < total)
    }

    /// Floods everything. As a rule the order of equal markers decides nothing, and the fast queue does. Where it turns
    /// out to decide, flooding begins again with the heap of the reference as far as that is needed.
    ///
    /// # Errors
    /// [`Error::Limit`] where there is no memory.
    fn flood(&mut self) -> Result<()> {
        let tie = self.highest_tie(None)?;
        if tie.is_some() && self.is_mostly_tied()? {
            // On an elevation map of few levels the order of equal markers decides almost surely.
            self.flood_from(tie, false)?;
            return Ok(());
        }
        let Some(level) = self.flood_from(None, true)? else { return Ok(()) };
        self.clear();
        let tie = self.highest_tie(Some(level))?;
        if self.flood_from(tie, true)?.is_some() {
            self.clear();
            let tie = self.highest_tie(None)?;
            // With all ties decided there is nothing left to check.
            self.flood_from(tie, false)?;
        }
        Ok(())
    }

    /// Takes everything back but the markers.
    fn clear(&mut self) {
        self.cells.par_iter_mut().filter(|cell| cell.label != OUTSIDE).for_each(|cell| {
            cell.label = 0;
            cell.trace = trace(0, cell.key);
        });
        for &(at, label) in &self.markers {
            self.cells[at as usize].label = label;
        }
    }

    /// Floods with the heap of the reference up to the level `tie`, then in order. With `check`, it ends at the first
    /// pixel whose label the order of equal markers decides, and gives the level reached.
    fn flood_from(&mut self, tie: Option<K>, check: bool) -> Result<Option<K>> {
        let mut queue = MonotoneQueue::new();
        match tie {
            None => {
                for &(at, _) in &self.markers {
                    if self.grows(at) {
                        queue.push(self.cells[at as usize].key, at);
                    }
                }
            }
            Some(tie) => {
                for (key, at) in self.flood_literally(tie)? {
                    queue.push(key, at);
                }
            }
        }
        match (self.offsets.len(), check) {
            (4, true) => self.flood_in_order::<4, true>(queue),
            (4, false) => self.flood_in_order::<4, false>(queue),
            (_, true) => self.flood_in_order::<8, true>(queue),
            (_, false) => self.flood_in_order::<8, false>(queue),
        }
    }

    /// Floods all levels up to `last` with the heap of the reference, whose mechanics decide between equal markers. The
    /// result is what is still to be flooded, in order.
    fn flood_literally(&mut self, last: K) -> Result<impl Iterator<Item = (K, u32)> + use<K>> {
        let mut heap = LiteralHeap::new();
        for &(at, _) in &self.markers {
            heap.push(self.cells[at as usize].key, 0, at);
        }
        let mut age = 1;
        let offsets: Vec<i32> = self.offsets.iter().map(|offset| *offset as i32).collect();
        while let Some((level, at)) = heap.pop_up_to(last) {
            if (age as usize).is_multiple_of(PATIENCE) {
                self.cancel.check()?;
            }
            let label = self.cells[at as usize].label;
            for offset in &offsets {
                let next = at.wrapping_add_signed(*offset);
                let cell = &mut self.cells[next as usize];
                if cell.label == 0 {
                    cell.label = label;
                    age += 1;
                    // The order is known: a trace of its own.
                    cell.trace = trace(age, cell.key);
                    heap.push(cell.key.max(level), age, next);
                }
            }
        }
        if heap.is_short() {
            return Err(self.short());
        }
        Ok(heap.into_sorted())
    }

    fn short(&self) -> Error {
        no_memory(16 * self.cells.len() as u64, WHAT)
    }

    /// Floods in the order of (level, discovery). Levels never fall, so pixels of the level that is being flooded and
    /// below form a plain queue.
    fn flood_in_order<const N: usize, const CHECK: bool>(&mut self, mut queue: MonotoneQueue<K>) -> Result<Option<K>> {
        let offsets: [i32; N] = std::array::from_fn(|k| self.offsets[k] as i32);
        let short = 16 * self.cells.len() as u64;
        let cells = self.cells.as_mut_slice();
        let mut ready: Vec<u32> = Vec::new();
        let mut room = true;
        while let Some(level) = queue.next_level(&mut ready) {
            self.cancel.check()?;
            let mut done = 0;
            while let Some(&at) = ready.get(done) {
                done += 1;
                if done % PATIENCE == 0 {
                    self.cancel.check()?;
                }
                let Cell { label, trace: before, .. } = cells[at as usize];
                for offset in offsets {
                    let next = at.wrapping_add_signed(offset);
                    let cell = &mut cells[next as usize];
                    if cell.label == 0 {
                        cell.label = label;
                        if CHECK {
                            cell.trace = trace(before, cell.key.max(level));
                        }
                        if cell.key <= level {
                            room &= try_push(&mut ready, next);
                        } else {
                            queue.push(cell.key, next);
                        }
                    } else if CHECK
                        && cell.label != label
                        && cell.label != OUTSIDE
                        && cell.trace == trace(before, cell.key.max(level))
                    {
                        return Ok(Some(level));
                    }
                }
            }
            ready.clear();
        }
        if queue.is_short() || !room { Err(no_memory(short, WHAT)) } else { Ok(None) }
    }
}

#[cfg(test)]
#[path = "watershed_tests.rs"]
mod tests;
