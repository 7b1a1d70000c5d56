//! The blocks in which results are written: a fixed lattice, so that no result depends on memory or tiles.

use crate::raster::regions::{Extent, Region};

/// Side of a block in pixels.
pub(super) const BLOCK: usize = 1024;

/// Blocks of a row that are looked at before those of the next row: neighbours in both directions share tiles of the network,
/// which are kept for a while.
const ABREAST: usize = 8;

/// The blocks of an image, by row and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub extent: Extent,
    /// Side of a block.
    pub side: usize,
    pub down: usize,
    pub across: usize,
}

impl Blocks {
    pub fn of(extent: Extent, side: usize) -> Self {
        Self { extent, side, down: extent.height.div_ceil(side), across: extent.width.div_ceil(side) }
    }

    pub fn len(&self) -> usize {
        self.down * self.across
    }

    /// The pixels of block `index`, counted row by row.
    pub fn region(&self, index: usize) -> Region {
        let (top, left) = (index / self.across * self.side, index % self.across * self.side);
        let (height, width) = (self.side.min(self.extent.height - top), self.side.min(self.extent.width - left));
        Region { top, left, height, width }
    }

    /// All blocks, so that those of neighbouring rows follow each other soon.
    pub fn in_panels(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.len());
        for first in (0..self.across).step_by(ABREAST) {
            for row in 0..self.down {
                order.extend((first..(first + ABREAST).min(self.across)).map(|column| row * self.across + column));
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_in_one_block_and_every_block_comes_once() {
        for (height, width) in [(1, 1), (1024, 1025), (3000, 20_000)] {
            let blocks = Blocks::of(Extent { height, width }, BLOCK);
            let pixels: usize = (0..blocks.len()).map(|at| blocks.region(at).height * blocks.region(at).width).sum();
            assert_eq!(pixels, height * width);
            let mut order = blocks.in_panels();
            order.sort_unstable();
            assert_eq!(order, (0..blocks.len()).collect::<Vec<_>>());
        }
    }
}
