//! Buffers shared by maps that are not alive at the same time.

use cellsparse_kernels::{Buffer, Layout};

/// Buffers handed out by number and taken back.
///
/// A buffer is only reused for maps of the same height and width, so that the zeros around every plane stay where they
/// are.
#[derive(Debug, Default)]
pub(super) struct Pool {
    buffers: Vec<Buffer>,
    sizes: Vec<(usize, usize)>,
    free: Vec<usize>,
    /// Buffers that are handed out for good; the rest is free between two steps.
    fixed: usize,
}

impl Pool {
    /// A buffer for a map; its pixels hold old values. The largest free one that fits the size of the planes.
    pub fn acquire(&mut self, layout: &Layout) -> usize {
        let size = (layout.height(), layout.width() * layout.lanes());
        let fits = |&position: &usize| self.sizes[self.free[position]] == size;
        let largest = |&position: &usize| self.buffers[self.free[position]].len();
        let found = (0..self.free.len()).filter(fits).max_by_key(largest);
        let index = match found {
            Some(position) => self.free.swap_remove(position),
            None => {
                self.buffers.push(Buffer::default());
                self.sizes.push(size);
                self.buffers.len() - 1
            }
        };
        self.buffers[index].grow(layout.len());
        index
    }

    /// A buffer for a map of any size; everything in it holds old values. The free one that grows least.
    pub fn acquire_any(&mut self, layout: &Layout) -> usize {
        let growth = |&position: &usize| {
            let len = self.buffers[self.free[position]].len();
            (layout.len().saturating_sub(len), len)
        };
        match (0..self.free.len()).min_by_key(growth) {
            Some(position) => {
                let index = self.free.swap_remove(position);
                self.buffers[index].grow(layout.len());
                index
            }
            None => self.acquire(layout),
        }
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
        self.buffers.iter().map(|buffer| 4 * buffer.len()).sum()
    }
}
