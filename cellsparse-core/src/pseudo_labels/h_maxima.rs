//! Regions of a map, parted at their saddles.

use ndarray::{Array2, ArrayView2};

use crate::budget::{array, gathered, mapped, pushed, zeros};
use crate::control::CancelToken;
use crate::error::Result;
use crate::raster::LabelImage;

/// Parts the pixels of `mask` into h_maxima_regions of `height`, both `[H, W]`; the result numbers them from 1, 0 outside
/// the mask.
///
/// Two h_maxima_regions remain apart when the lower one rises by at least `depth` above the saddle between them. Pixels
/// are taken from the highest to the lowest and join the region of their highest neighbour (of eight) that was taken
/// before.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Limit`](crate::Error::Limit) where there is no memory.
pub fn h_maxima_regions(
    height: ArrayView2<'_, f32>,
    mask: ArrayView2<'_, bool>,
    depth: f32,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let (rows, columns) = mask.dim();
    let what = "the regions of a map";
    // The highest first, of equally high ones in raster order.
    let pixels = mask.indexed_iter().filter(|(_, inside)| **inside);
    let keys = pixels.map(|((y, x), _)| u64::from(!ascending(height[[y, x]])) << 32 | (y * columns + x) as u64);
    let mut order = gathered(mask.iter().filter(|inside| **inside).count(), keys, what)?;
    cancel.check()?;
    order.sort_unstable();
    let mut owner: Array2<u32> = array((rows, columns), what)?;
    let mut regions = Regions::default();
    for (number, place) in order.into_iter().enumerate() {
        if number.is_multiple_of(PATIENCE) {
            cancel.check()?;
        }
        let place = (place & u64::from(u32::MAX)) as usize;
        let (y, x) = (place / columns, place % columns);
        let level = height[[y, x]];
        let mut beside: Vec<(f32, u32)> = Vec::with_capacity(8);
        for (v, u) in around(y, x, rows, columns) {
            if owner[[v, u]] > 0 {
                beside.push((height[[v, u]], regions.root(owner[[v, u]])));
            }
        }
        let highest = beside.iter().copied().reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, joined)) = highest else {
            owner[[y, x]] = regions.begin(level)?;
            continue;
        };
        owner[[y, x]] = joined;
        for (_, other) in beside {
            regions.meet(joined, other, level, depth);
        }
    }
    let mut numbers: Vec<i32> = zeros(regions.parent.len() + 1, what)?;
    let mut last = 0;
    mapped(owner.view(), what, |region| {
        if region == 0 {
            return 0;
        }
        let number = &mut numbers[regions.root(region) as usize];
        if *number == 0 {
            last += 1;
            *number = last;
        }
        *number
    })
}

/// Pixels after which it is asked whether to stop.
const PATIENCE: usize = 1 << 16;

/// A number that is larger for a larger value, in the order of [`f32::total_cmp`].
fn ascending(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ if bits >> 31 == 1 { u32::MAX } else { 1 << 31 }
}

fn around(y: usize, x: usize, rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    let lines = y.saturating_sub(1)..(y + 2).min(rows);
    lines
        .flat_map(move |v| (x.saturating_sub(1)..(x + 2).min(columns)).map(move |u| (v, u)))
        .filter(move |at| *at != (y, x))
}

/// Regions, of which some have become parts of others. Numbers begin at 1.
#[derive(Default)]
struct Regions {
    parent: Vec<u32>,
    peak: Vec<f32>,
}

impl Regions {
    fn begin(&mut self, peak: f32) -> Result<u32> {
        let number = self.parent.len() as u32 + 1;
        pushed(&mut self.peak, peak, "the regions of a map")?;
        pushed(&mut self.parent, number, "the regions of a map")?;
        Ok(number)
    }

    fn root(&mut self, region: u32) -> u32 {
        let mut at = region;
        while self.parent[at as usize - 1] != at {
            // Halving the way keeps later searches short.
            let above = self.parent[self.parent[at as usize - 1] as usize - 1];
            self.parent[at as usize - 1] = above;
            at = above;
        }
        at
    }

    /// Two h_maxima_regions meet at `level`: the lower one becomes a part of the higher one unless it rises by `depth`.
    fn meet(&mut self, a: u32, b: u32, level: f32, depth: f32) {
        let (a, b) = (self.root(a), self.root(b));
        let (low, high) = if self.peak[a as usize - 1] < self.peak[b as usize - 1] { (a, b) } else { (b, a) };
        if low != high && self.peak[low as usize - 1] - level < depth {
            self.parent[low as usize - 1] = high;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hills_part_at_deep_saddles_only() {
        let line = [5.0, 8.0, 5.0, 7.0, 4.0, 1.0, 6.0, 6.0, 0.5, 9.0];
        let height = Array2::from_shape_vec((1, 10), line.to_vec()).unwrap();
        let mut mask = Array2::from_elem((1, 10), true);
        mask[[0, 8]] = false;
        // 7 rises by 2 above the saddle 5 to its left, 6 by 5 above the saddle 1, 9 stands alone.
        let h_maxima_regions =
            |height, mask, depth| super::h_maxima_regions(height, mask, depth, &CancelToken::new()).unwrap();
        let found = h_maxima_regions(height.view(), mask.view(), 2.5);
        assert_eq!(found.into_raw_vec_and_offset().0, [1, 1, 1, 1, 1, 2, 2, 2, 0, 3]);
        let found = h_maxima_regions(height.view(), mask.view(), 2.0);
        assert_eq!(found.into_raw_vec_and_offset().0, [1, 1, 1, 2, 2, 3, 3, 3, 0, 4]);
        let found = h_maxima_regions(height.view(), mask.view(), f32::INFINITY);
        assert_eq!(found.into_raw_vec_and_offset().0, [1, 1, 1, 1, 1, 1, 1, 1, 0, 2]);
        assert_eq!(h_maxima_regions(height.view(), mask.mapv(|_| false).view(), 1.0).sum(), 0);
    }

    #[test]
    fn a_plain_is_one_hill() {
        let flat = Array2::<f32>::zeros((20, 30));
        let found = |cancel: &CancelToken| h_maxima_regions(flat.view(), flat.mapv(|_| true).view(), 0.5, cancel);
        assert!(found(&CancelToken::new()).unwrap().iter().all(|region| *region == 1));
        let cancel = CancelToken::new();
        cancel.cancel();
        assert!(found(&cancel).is_err());
    }
}
