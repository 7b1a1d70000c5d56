//! Feature maps in memory: channel blocks of 16, with a border of zeros.

use std::collections::TryReserveError;

use super::parallel::{SharedOf, for_each_job};
use super::simd::LANES;

/// Sixteen values on one cache line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Line([f32; LANES]);

/// A buffer of `f32` that begins on a cache line and is zero at first.
#[derive(Debug, Clone, Default)]
pub struct Buffer(Vec<Line>);

impl Buffer {
    /// At least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self(vec![Line::default(); len.div_ceil(LANES)])
    }

    /// Makes room for at least `len` values; new values are 0, old ones are kept.
    pub fn grow(&mut self, len: usize) {
        if self.0.len() < len.div_ceil(LANES) {
            self.0.resize(len.div_ceil(LANES), Line::default());
        }
    }

    /// As [`grow`](Self::grow), without ending the process when there is no memory: the buffer then stays as it is.
    ///
    /// # Errors
    /// The allocator's.
    pub fn try_grow(&mut self, len: usize) -> Result<(), TryReserveError> {
        let lines = len.div_ceil(LANES);
        self.0.try_reserve_exact(lines.saturating_sub(self.0.len()))?;
        self.grow(len);
        Ok(())
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.len() * LANES
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen `f32` without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.len()) }
    }

    /// The values.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: `Line` is sixteen `f32` without padding, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.len()) }
    }
}

/// The shape of a feature map and where its values lie.
///
/// A map of `batch` images of `height x width` pixels with `channels` channels is stored as
/// `[batch][block][rows][cols][lanes]`, `rows = round_up(height, 4) + 2`, `cols = round_up(width, 4) + 2`: pixel (0, 0)
/// lies at row 1, column 1. Everything outside the image and every channel beyond `channels` is 0 and stays 0, so
/// convolutions need no border tests. A map has 16 lanes; only the input of a network with at most
/// [`NARROW`](Layout::NARROW) channels has one block of exactly that many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    lanes: usize,
}

impl Layout {
    /// Inputs with at most this many channels are stored without padding to 16.
    pub const NARROW: usize = 3;

    /// A map with 16 lanes.
    ///
    /// # Panics
    /// If a size is 0 or the map would be larger than memory can be; see [`checked`](Self::checked).
    pub fn new(batch: usize, channels: usize, height: usize, width: usize) -> Self {
        Self::sized([batch, channels, height, width], LANES).expect("the size of a map is out of range")
    }

    /// The map of a network's input.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn input(batch: usize, channels: usize, height: usize, width: usize) -> Self {
        let lanes = if channels <= Self::NARROW { channels } else { LANES };
        Self::sized([batch, channels, height, width], lanes).expect("the size of a map is out of range")
    }

    /// Whether maps `[batch, channels, height, width]` can be laid out: no size is 0, and the bytes can be addressed.
    pub fn checked(size: [usize; 4]) -> bool {
        Self::sized(size, LANES).is_some()
    }

    fn sized([batch, channels, height, width]: [usize; 4], lanes: usize) -> Option<Self> {
        if batch == 0 || channels == 0 || height == 0 || width == 0 {
            return None;
        }
        let side = |side: usize| side.checked_next_multiple_of(4)?.checked_add(2);
        let values = side(height)?.checked_mul(side(width)?)?.checked_mul(lanes)?;
        let values = values.checked_mul(channels.div_ceil(lanes))?.checked_mul(batch)?;
        let bytes = values.checked_next_multiple_of(LANES)?.checked_mul(size_of::<f32>())?;
        (bytes <= isize::MAX as usize).then_some(Self { batch, channels, height, width, lanes })
    }

    /// The map of `height` rows of one image.
    ///
    /// # Panics
    /// If `height` is 0 or larger than that of the map.
    pub fn of_rows(&self, height: usize) -> Self {
        assert!((1..=self.height).contains(&height), "rows that the map does not have");
        Self { batch: 1, height, ..*self }
    }

    /// Images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Channels stored beside one another.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Channel blocks.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.lanes)
    }

    /// Stored rows.
    pub fn rows(&self) -> usize {
        self.height.next_multiple_of(4) + 2
    }

    /// Stored columns.
    pub fn cols(&self) -> usize {
        self.width.next_multiple_of(4) + 2
    }

    /// Values of one block of one image.
    pub fn plane(&self) -> usize {
        self.rows() * self.cols() * self.lanes
    }

    /// Values of one image.
    pub fn image(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// All values.
    pub fn len(&self) -> usize {
        self.batch * self.image()
    }

    /// Whether there is no value: never, since no size is 0.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where lane 0 of pixel (`y`, `x`) lies within a plane.
    pub fn pixel(&self, y: usize, x: usize) -> usize {
        ((y + 1) * self.cols() + x + 1) * self.lanes
    }

    /// Makes everything outside the image 0, in a buffer that held a map of another size.
    pub fn clear_border(&self, data: &mut [f32]) {
        assert!(data.len() >= self.len(), "map buffer shorter than its layout");
        let (row, left) = (self.cols() * self.lanes, self.lanes);
        let right = (self.width + 1) * self.lanes;
        let data = SharedOf::new(data);
        for_each_job(self.batch * self.blocks(), |plane| {
            // SAFETY: each job has a plane of its own.
            let plane = unsafe { data.slice(plane * self.plane(), self.plane()) };
            for (y, values) in plane.chunks_exact_mut(row).enumerate() {
                if (1..=self.height).contains(&y) {
                    values[..left].fill(0.0);
                    values[right..].fill(0.0);
                } else {
                    values.fill(0.0);
                }
            }
        });
    }

    /// Copies `[batch, height, width, channels]` into the map.
    pub fn pack(&self, from: &[f32], to: &mut [f32]) {
        let per_row = self.width * self.channels;
        assert!(
            from.len() == self.batch * self.height * per_row && to.len() >= self.len(),
            "sizes do not fit the layout"
        );
        let to = SharedOf::new(to);
        self.for_each_row(|n, y| {
            let row = &from[(n * self.height + y) * per_row..][..per_row];
            for block in 0..self.blocks() {
                let first = block * self.lanes;
                let count = self.lanes.min(self.channels - first);
                let at = n * self.image() + block * self.plane() + self.pixel(y, 0);
                // SAFETY: each job has rows of its own, in every plane.
                let to = unsafe { to.slice(at, self.width * self.lanes) };
                for (pixel, lanes) in row.chunks_exact(self.channels).zip(to.chunks_exact_mut(self.lanes)) {
                    lanes[..count].copy_from_slice(&pixel[first..first + count]);
                }
            }
        });
    }

    /// Copies the map into `[batch, height, width, channels]`.
    pub fn unpack(&self, from: &[f32], to: &mut [f32]) {
        let per_row = self.width * self.channels;
        assert!(
            to.len() == self.batch * self.height * per_row && from.len() >= self.len(),
            "sizes do not fit the layout"
        );
        let to = SharedOf::new(to);
        self.for_each_row(|n, y| {
            // SAFETY: each job has rows of its own.
            let row = unsafe { to.slice((n * self.height + y) * per_row, per_row) };
            for block in 0..self.blocks() {
                let first = block * self.lanes;
                let count = self.lanes.min(self.channels - first);
                let from = &from[n * self.image() + block * self.plane() + self.pixel(y, 0)..];
                for (pixel, lanes) in row.chunks_exact_mut(self.channels).zip(from.chunks_exact(self.lanes)) {
                    pixel[first..first + count].copy_from_slice(&lanes[..count]);
                }
            }
        });
    }

    /// Calls `row` for every row of every image, several of them in a job.
    fn for_each_row(&self, row: impl Fn(usize, usize) + Sync) {
        let at_once = (4096 / self.width).clamp(1, self.height);
        let per_image = self.height.div_ceil(at_once);
        for_each_job(self.batch * per_image, |job| {
            let (n, first) = (job / per_image, job % per_image * at_once);
            (first..self.height.min(first + at_once)).for_each(|y| row(n, y));
        });
    }
}

/// Copies `rows` rows of every block of one image, zeros at their ends included: from row `first` of `source` to row `at` of `target`, which are
/// counted with the one above the image.
///
/// # Panics
/// If the maps differ in their blocks or columns, or do not have these rows.
pub fn copy_rows(
    (from, source, first): (&Layout, &[f32], usize),
    (to, target, at): (&Layout, &mut [f32], usize),
    rows: usize,
) {
    let shape = |layout: &Layout| (layout.blocks(), layout.cols() * layout.lanes());
    assert_eq!(shape(from), shape(to), "maps of another width");
    assert!(source.len() >= from.image() && target.len() >= to.image(), "map buffer shorter than its layout");
    let is_inside = |layout: &Layout, first: usize| rows <= layout.rows() && first <= layout.rows() - rows;
    assert!(is_inside(from, first) && is_inside(to, at), "rows that the map does not have");
    let (blocks, row) = shape(to);
    let target = SharedOf::new(target);
    for_each_job(blocks, |block| {
        // SAFETY: each job has a plane of its own.
        let target = unsafe { target.slice(block * to.plane() + at * row, rows * row) };
        target.copy_from_slice(&source[block * from.plane() + first * row..][..rows * row]);
    });
}

/// A pointer to one channel block of all images of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Row 0, column 0 of image 0, border included.
    pub ptr: *mut f32,
    /// Values from one image to the next.
    pub stride: usize,
}

// SAFETY: a block is an address; the kernels that dereference it give each job pixels of its own to write.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// The blocks of a map, for reading only.
pub(super) fn blocks_of(layout: &Layout, data: &[f32]) -> Vec<Block> {
    assert!(data.len() >= layout.len(), "map buffer shorter than its layout");
    (0..layout.blocks())
        .map(|b| Block { ptr: data[b * layout.plane()..].as_ptr().cast_mut(), stride: layout.image() })
        .collect()
}

/// The blocks of a map, for writing.
pub(super) fn blocks_of_mut(layout: &Layout, data: &mut [f32]) -> Vec<Block> {
    assert!(data.len() >= layout.len(), "map buffer shorter than its layout");
    let ptr = data.as_mut_ptr();
    (0..layout.blocks())
        // SAFETY: every plane of image 0 lies within the buffer, as asserted.
        .map(|b| Block { ptr: unsafe { ptr.add(b * layout.plane()) }, stride: layout.image() })
        .collect()
}
