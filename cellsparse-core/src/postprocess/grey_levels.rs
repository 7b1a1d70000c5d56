//! Flooding of elevation maps of few levels, where many markers begin at the same one.

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use super::level_table::LevelTable;
use super::marker_heap::{MarkerHeap, Order};
use super::watershed::{GreyLevel, PATIENCE};
use crate::budget::{array, gathered, no_memory, pushed, reserve, try_push};
use crate::control::CancelToken;
use crate::error::Result;
use crate::raster::{Connectivity, LabelImage};
use cellsparse_kernels::prefetch;

/// A pixel that is not to be flooded. Labelled pixels hold their label, others `!level`, which is below 0.
const OUTSIDE: i32 = 0;

/// Pixels that are flooded before the heap follows. Each of the two works on memory of its own, so they should not
/// take turns often; the log between them should stay small, too. The unit tests have small images.
const CHUNK: usize = if cfg!(test) { 7 } else { 1 << 18 };

/// How many pixels ahead the neighbours of a queued pixel are fetched.
const AHEAD: usize = 16;

const WHAT: &str = "the watershed of an image";

/// An elevation map whose levels are numbered in ascending order from 0.
///
/// Pixels of one level are flooded first in, first out, markers before all others. The one thing that this leaves open,
/// the order of the markers, is what the reference's heap makes of it: a [`MarkerHeap`] repeats everything that is
/// queued and flooded, and is asked when the next level begins.
pub(super) struct GreyLevels {
    /// With a border of [`OUTSIDE`] pixels, so that every pixel inside has all its neighbours.
    cells: Vec<i32>,
    stride: usize,
    /// Distances to the neighbours in `cells`, in the order in which they are looked at.
    offsets: Vec<isize>,
    /// Level and place of the pixels of all markers in raster order.
    markers: Vec<(u32, u32)>,
    levels: usize,
    /// Pixels that are not outside.
    inside: u32,
    /// Ends the flood where it is.
    cancel: CancelToken,
}

impl GreyLevels {
    /// `None` when the elevation map has too many levels. The padded elevation map has less than 2^32 pixels.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory.
    pub(super) fn new<T: GreyLevel>(
        elevation: ArrayView2<'_, T>,
        markers: ArrayView2<'_, i32>,
        mask: Option<ArrayView2<'_, bool>>,
        connectivity: Connectivity,
    ) -> Result<Option<Self>> {
        let (height, width) = elevation.dim();
        let found = (0..height)
            .into_par_iter()
            .try_fold(
                || (LevelTable::new(), 0u32),
                |(mut table, mut inside), y| {
                    let mask = mask.as_ref().map(|mask| mask.row(y));
                    for (x, level) in elevation.row(y).iter().enumerate() {
                        if mask.is_none_or(|mask| mask[x]) {
                            table.insert(level.key())?;
                            inside += 1;
                        }
                    }
                    Some((table, inside))
                },
            )
            .try_reduce(|| (LevelTable::new(), 0), |a, b| Some((a.0.merged(&b.0)?, a.1 + b.1)));
        let Some((mut table, inside)) = found else { return Ok(None) };
        let levels = table.number();
        let stride = width + 2;
        let mut cells = reserve((height + 2) * stride, WHAT)?;
        cells.resize((height + 2) * stride, OUTSIDE);
        let rows: Vec<Vec<(u32, u32)>> = cells
            .par_chunks_mut(stride)
            .enumerate()
            .skip(1)
            .take(height)
            .map(|(row, cells)| {
                let (levels, markers) = (elevation.row(row - 1), markers.row(row - 1));
                let mask = mask.as_ref().map(|mask| mask.row(row - 1));
                let mut found = Vec::new();
                for (x, (level, &marker)) in levels.iter().zip(markers).enumerate() {
                    if mask.is_none_or(|mask| mask[x]) {
                        let level = table.level(level.key());
                        cells[x + 1] = !(level as i32);
                        if marker > 0 {
                            cells[x + 1] = marker;
                            found.push((level, (row * stride + x + 1) as u32));
                        }
                    }
                }
                found
            })
            .collect();
        let mut markers = reserve(rows.iter().map(Vec::len).sum(), WHAT)?;
        rows.iter().for_each(|row| markers.extend_from_slice(row));
        let row = stride as isize;
        let mut offsets = vec![-row, -1, 1, row];
        if connectivity == Connectivity::Eight {
            offsets.extend([-row - 1, -row + 1, row - 1, row + 1]);
        }
        Ok(Some(Self { cells, stride, offsets, markers, levels, inside, cancel: CancelToken::new() }))
    }

    /// The same, ended by that token.
    pub(super) fn stopped_by(self, cancel: &CancelToken) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// Floods everything; the result is the label image.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where there is no memory.
    pub(super) fn flood(mut self) -> Result<LabelImage> {
        // The largest age is the number of pixels that are discovered.
        let age_bits = u32::BITS - self.inside.max(1).leading_zeros();
        if (self.levels as u64) << age_bits > u64::from(u32::MAX) {
            return self.flood_wide();
        }
        match self.offsets.len() {
            4 => self.flood_with::<u32, 4>(age_bits),
            _ => self.flood_with::<u32, 8>(age_bits),
        }?;
        self.into_labels()
    }

    /// The same with items in the heap that have room for everything.
    pub(super) fn flood_wide(mut self) -> Result<LabelImage> {
        match self.offsets.len() {
            4 => self.flood_with::<u64, 4>(u32::BITS),
            _ => self.flood_with::<u64, 8>(u32::BITS),
        }?;
        self.into_labels()
    }

    fn into_labels(self) -> Result<LabelImage> {
        let (height, width) = (self.cells.len() / self.stride - 2, self.stride - 2);
        let mut labels: LabelImage = array((height, width), WHAT)?;
        if self.cancel.is_cancelled() {
            return Ok(labels);
        }
        labels.axis_iter_mut(Axis(0)).into_par_iter().zip(self.cells.par_chunks(self.stride).skip(1)).for_each(
            |(mut row, cells)| row.iter_mut().zip(&cells[1..]).for_each(|(label, cell)| *label = (*cell).max(0)),
        );
        Ok(labels)
    }

    fn flood_with<O: Order, const N: usize>(&mut self, age_bits: u32) -> Result<()> {
        let mut groups = vec![Vec::new(); self.levels];
        let mut heap = MarkerHeap::<O>::new(age_bits);
        for &(level, at) in &self.markers {
            pushed(&mut groups[level as usize], at, WHAT)?;
            heap.push(O::new(level as usize, 0, age_bits), at);
        }
        let mut ties = Ties::new(&groups)?;
        let mut front = Front::<N> {
            offsets: std::array::from_fn(|k| self.offsets[k]),
            cells: std::mem::take(&mut self.cells),
            queues: vec![Vec::new(); self.levels],
            short: false,
        };
        let mut age = 0;
        let mut order = |level| {
            age += 1;
            O::new(level, age, age_bits)
        };
        let mut log: Vec<O> = Vec::new();
        let mut level = 0;
        let short = || no_memory(4 * u64::from(self.inside), WHAT);
        while level < self.levels && ties.remain(level, |at| front.grows(at)) {
            for _ in 0..groups[level].len() {
                if heap.is_short() {
                    return Err(short());
                }
                let at = heap.pop();
                front.flood(level, at, |level| heap.push(order(level), 0));
            }
            let mut done = 0;
            while done < front.queues[level].len() && !self.cancel.is_cancelled() {
                // `O::NONE` stands for a pixel that is taken out.
                let end = done + CHUNK;
                let mut room = true;
                done = front.advance(level, done, end, |next| {
                    room &= try_push(&mut log, next.map_or(O::NONE, &mut order));
                });
                if front.short || heap.is_short() || !room {
                    return Err(short());
                }
                for item in log.drain(..) {
                    if item == O::NONE {
                        heap.pop();
                    } else {
                        heap.push(item, 0);
                    }
                }
            }
            front.queues[level] = Vec::new();
            level += 1;
        }
        // From here on the order of markers decides nothing.
        if heap.is_short() {
            return Err(short());
        }
        drop(heap);
        for level in level..self.levels {
            for &at in &groups[level] {
                front.flood(level, at, |_| {});
            }
            let mut done = 0;
            while done < front.queues[level].len() && !self.cancel.is_cancelled() {
                done = front.advance(level, done, done + PATIENCE, |_| {});
                if front.short {
                    return Err(short());
                }
            }
            front.queues[level] = Vec::new();
        }
        if front.short {
            return Err(short());
        }
        self.cells = front.cells;
        Ok(())
    }
}

/// The elevation map, and the pixels that are labelled and have yet to label their neighbours.
struct Front<const N: usize> {
    offsets: [isize; N],
    cells: Vec<i32>,
    /// For each level, in the order of discovery.
    queues: Vec<Vec<u32>>,
    /// Pixels were lost for want of memory.
    short: bool,
}

impl<const N: usize> Front<N> {
    /// Floods from the queued pixels of a level from number `done` on, up to `end` or until there are no more, and
    /// returns where it ended. Tells of every pixel, and then of the levels of those that it discovers.
    #[inline]
    fn advance(&mut self, level: usize, mut done: usize, end: usize, mut tell: impl FnMut(Option<usize>)) -> usize {
        while done < end
            && let Some(&at) = self.queues[level].get(done)
        {
            if let Some(&soon) = self.queues[level].get(done + AHEAD) {
                for offset in [self.offsets[0], 0, self.offsets[3]] {
                    prefetch(&self.cells, (soon as usize).wrapping_add_signed(offset));
                }
            }
            tell(None);
            self.flood(level, at, |level| tell(Some(level)));
            done += 1;
        }
        done
    }

    /// Labels and queues the neighbours of a pixel, and tells at which levels.
    #[inline]
    fn flood(&mut self, level: usize, at: u32, mut tell: impl FnMut(usize)) {
        let label = self.cells[at as usize];
        for offset in self.offsets {
            let next = (at as usize).wrapping_add_signed(offset);
            let cell = self.cells[next];
            if cell < 0 {
                self.cells[next] = label;
                let level = level.max(!cell as usize);
                self.short |= !try_push(&mut self.queues[level], next as u32);
                tell(level);
            }
        }
    }

    /// Whether a pixel has anything to grow into. One that has not will not have it later either.
    fn grows(&self, at: u32) -> bool {
        self.offsets.iter().any(|offset| self.cells[(at as usize).wrapping_add_signed(*offset)] < 0)
    }
}

/// Where the order of markers may still decide something: at levels at which two or more of them grow.
struct Ties {
    /// Markers by ascending level, without those that are known not to grow.
    groups: Vec<(usize, Vec<u32>)>,
}

impl Ties {
    fn new(groups: &[Vec<u32>]) -> Result<Self> {
        let tied = groups.iter().enumerate().filter(|(_, group)| group.len() > 1);
        let copy =
            |(level, group): (usize, &Vec<u32>)| Ok((level, gathered(group.len(), group.iter().copied(), WHAT)?));
        Ok(Self { groups: tied.map(copy).collect::<Result<_>>()? })
    }

    /// Whether there are such levels from `level` on.
    fn remain(&mut self, level: usize, grows: impl Fn(u32) -> bool) -> bool {
        while let Some((tied, group)) = self.groups.last_mut() {
            let len = group.len();
            if *tied < level || len < 2 {
                self.groups.pop();
            } else if !grows(group[len - 1]) {
                group.pop();
            } else if !grows(group[len - 2]) {
                group.swap_remove(len - 2);
            } else {
                return true;
            }
        }
        false
    }
}
