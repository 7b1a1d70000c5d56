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
        let per_image = self.height * self.width * self.channels;
        assert!(from.len() == self.batch * per_image && to.len() >= self.len(), "sizes do not fit the layout");
        let to = SharedOf::new(to);
        for_each_job(self.batch, |n| {
            // SAFETY: each job has an image of its own.
            let to = unsafe { to.slice(n * self.image(), self.image()) };
            for (index, pixel) in from[n * per_image..][..per_image].chunks_exact(self.channels).enumerate() {
                let at = self.pixel(index / self.width, index % self.width);
                for (block, lanes) in pixel.chunks(self.lanes).enumerate() {
                    to[block * self.plane() + at..][..lanes.len()].copy_from_slice(lanes);
                }
            }
        });
    }

    /// Copies the map into `[batch, height, width, channels]`.
    pub fn unpack(&self, from: &[f32], to: &mut [f32]) {
        let per_image = self.height * self.width * self.channels;
        assert!(to.len() == self.batch * per_image && from.len() >= self.len(), "sizes do not fit the layout");
        let to = SharedOf::new(to);
        for_each_job(self.batch, |n| {
            // SAFETY: each job has an image of its own.
            let to = unsafe { to.slice(n * per_image, per_image) };
            for (index, pixel) in to.chunks_exact_mut(self.channels).enumerate() {
                let at = n * self.image() + self.pixel(index / self.width, index % self.width);
                for (block, lanes) in pixel.chunks_mut(self.lanes).enumerate() {
                    let from = &from[at + block * self.plane()..];
                    lanes.copy_from_slice(&from[..lanes.len()]);
                }
            }
        });
    }
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
