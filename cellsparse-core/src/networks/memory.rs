//! Buffers shared by maps that are not alive at the same time.

use std::collections::TryReserveError;

use cellsparse_kernels::{Buffer, Layout};

/// Values of a cache line, which buffers are rounded up to.
const LINE: usize = 16;

/// The slot of a node without a buffer.
pub(super) const NO_SLOT: usize = usize::MAX;

/// Where the maps of a pass lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    /// The layout of every node's map.
    pub layouts: &'a [Layout],
    /// The buffer of every node's map.
    pub slots: &'a [usize],
}

/// Buffers handed out by number and taken back.
///
/// A buffer is only reused for maps of the same height and width, so that the zeros around every plane stay where they
/// are. A pool is planned first: buffers are handed out by their sizes alone, which are known before any memory is taken;
/// [`allocate`](Self::allocate) takes it.
#[derive(Debug, Default)]
pub(super) struct Pool {
    buffers: Vec<Buffer>,
    /// Values that each buffer has or will have.
    lens: Vec<usize>,
    sizes: Vec<(usize, usize)>,
    free: Vec<usize>,
    /// Buffers that are handed out for good; the rest is free between two steps.
    fixed: usize,
    /// Whether memory has been taken.
    live: bool,
}

impl Pool {
    /// A buffer for a map; its pixels hold old values. The largest free one that fits the size of the planes.
    pub fn acquire(&mut self, layout: &Layout) -> usize {
        let size = (layout.height(), layout.width() * layout.lanes());
        let fits = |&position: &usize| self.sizes[self.free[position]] == size;
        let largest = |&position: &usize| self.lens[self.free[position]];
        let found = (0..self.free.len()).filter(fits).max_by_key(largest);
        let index = match found {
            Some(position) => self.free.swap_remove(position),
            None => {
                self.buffers.push(Buffer::default());
                self.lens.push(0);
                self.sizes.push(size);
                self.buffers.len() - 1
            }
        };
        self.grow(index, layout);
        index
    }

    /// A buffer for a map of any size; everything in it holds old values. The free one that grows least.
    pub fn acquire_any(&mut self, layout: &Layout) -> usize {
        let growth = |&position: &usize| {
            let len = self.lens[self.free[position]];
            (layout.len().saturating_sub(len), len)
        };
        match (0..self.free.len()).min_by_key(growth) {
            Some(position) => {
                let index = self.free.swap_remove(position);
                self.grow(index, layout);
                index
            }
            None => self.acquire(layout),
        }
    }

    fn grow(&mut self, index: usize, layout: &Layout) {
        self.lens[index] = self.lens[index].max(layout.len().next_multiple_of(LINE));
        if self.live {
            self.buffers[index].grow(self.lens[index]);
        }
    }

    /// Takes the memory of all buffers.
    ///
    /// # Errors
    /// The allocator's; the pool is then as it was.
    pub fn allocate(&mut self) -> Result<(), TryReserveError> {
        let mut buffers = Vec::new();
        for len in &self.lens {
            let mut buffer = Buffer::default();
            buffer.try_grow(*len)?;
            buffers.push(buffer);
        }
        self.buffers = buffers;
        self.live = true;
        Ok(())
    }

    /// Takes a buffer back.
    pub fn release(&mut self, index: usize) {
        self.free.push(index);
    }

    /// Hands all buffers of this moment out for good.
    pub fn fix(&mut self) {
        self.fixed = self.buffers.len();
        self.free.clear();
    }

    /// Takes back all buffers but those of [`fix`](Self::fix).
    pub fn reset(&mut self) {
        self.free = (self.fixed..self.buffers.len()).collect();
    }

    /// A buffer's values.
    pub fn slice(&self, index: usize) -> &[f32] {
        self.buffers[index].as_slice()
    }

    /// A buffer's values.
    pub fn slice_mut(&mut self, index: usize) -> &mut [f32] {
        self.buffers[index].as_mut_slice()
    }

    /// Moves a buffer out while it is written to.
    pub fn take(&mut self, index: usize) -> Buffer {
        std::mem::take(&mut self.buffers[index])
    }

    /// Puts a buffer back that was taken.
    pub fn put(&mut self, index: usize, buffer: Buffer) {
        self.buffers[index] = buffer;
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        self.lens.iter().fold(0, |sum, len| sum.saturating_add(4 * len))
    }
}
