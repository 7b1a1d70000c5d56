//! Overlapping tiles that cover an axis, and reflection at its end.

use ndarray::{Array3, ArrayView3, Axis};

/// One tile along one axis, in blocks: what is read, and the part of it whose results are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First block read.
    pub begin: usize,
    /// One past the last block read.
    pub end: usize,
    /// First block kept.
    pub keep_begin: usize,
    /// One past the last block kept.
    pub keep_end: usize,
}

/// Covers `n` blocks with tiles of `tile` blocks such that whatever is kept has `overlap` blocks of context on both
/// sides, except at the ends. Every block is kept by exactly one tile; all tiles have the same length.
///
/// A tile that is not longer than twice the overlap would keep nothing, so `tile` is at least `2 * overlap + 1`. With
/// `tile >= n` there is one tile of `n` blocks. The rule is that of csbdeep's tile iterator.
pub fn tile_axis(n: usize, tile: usize, overlap: usize) -> Vec<Span> {
    let tile = tile.max(2 * overlap + 1);
    if n <= tile {
        return vec![Span { begin: 0, end: n, keep_begin: 0, keep_end: n }];
    }
    let mut spans: Vec<Span> = Vec::new();
    let mut begin = 0;
    loop {
        let kept = spans.last().map_or(0, |span| span.keep_end);
        if begin + tile >= n {
            spans.push(Span { begin: n - tile, end: n, keep_begin: kept, keep_end: n });
            return spans;
        }
        spans.push(Span { begin, end: begin + tile, keep_begin: kept, keep_end: begin + tile - overlap });
        begin += tile - 2 * overlap;
    }
}

/// The image continued at its bottom and right by reflection (the edge pixels not repeated) to `height` x `width`.
///
/// Sizes below those of the image leave the image as it is along that axis. An axis of one pixel is repeated.
pub fn reflect_pad(image: ArrayView3<'_, f32>, height: usize, width: usize) -> Array3<f32> {
    let (h, w, channels) = image.dim();
    let shape = (height.max(h), width.max(w), channels);
    Array3::from_shape_fn(shape, |(y, x, c)| image[[reflected(y, h), reflected(x, w), c]])
}

/// Fills `to` (`[height, width, C]`) with the part that begins at row `top` and column `left` of an image `[H, W, C]` continued
/// at its bottom and right as by [`reflect_pad`]. Rows that are not whole are left as they are.
pub fn read_reflected(image: ArrayView3<'_, f32>, corner: [usize; 2], width: usize, to: &mut [f32]) {
    let (h, w, _) = image.dim();
    read_reflected_part(image, [0, 0], [h, w], corner, width, to);
}

/// [`read_reflected`] from the part of an image of `sides` that begins at `origin` and holds all pixels that are needed.
pub fn read_reflected_part(
    part: ArrayView3<'_, f32>,
    origin: [usize; 2],
    sides: [usize; 2],
    [top, left]: [usize; 2],
    width: usize,
    to: &mut [f32],
) {
    let (h, w, channels) = part.dim();
    let row = width * channels;
    if row == 0 || part.is_empty() {
        return;
    }
    let inside =
        |index: usize, axis: usize, n: usize| reflected(index, sides[axis]).saturating_sub(origin[axis]).min(n - 1);
    for (y, line) in to.chunks_exact_mut(row).enumerate() {
        let source = part.index_axis(Axis(0), inside(top + y, 0, h));
        for (x, pixel) in line.chunks_exact_mut(channels).enumerate() {
            let source = source.index_axis(Axis(0), inside(left + x, 1, w));
            pixel.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        }
    }
}

/// The pixel that continues an axis of `n` pixels at `index`, by reflection.
fn reflected(index: usize, n: usize) -> usize {
    if n <= 1 {
        return 0;
    }
    let place = index % (2 * (n - 1));
    place.min(2 * (n - 1) - place)
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn tiles_keep_every_block_once_with_context() {
        for n in 1..60 {
            for tile in 1..20 {
                for overlap in 0..6 {
                    let spans = tile_axis(n, tile, overlap);
                    let mut next = 0;
                    for span in &spans {
                        assert_eq!(span.keep_begin, next);
                        assert!(span.keep_end > span.keep_begin && span.end <= n);
                        assert!(span.begin == 0 || span.keep_begin >= span.begin + overlap);
                        assert!(span.end == n || span.keep_end + overlap <= span.end);
                        assert_eq!(span.end - span.begin, spans[0].end - spans[0].begin);
                        next = span.keep_end;
                    }
                    assert_eq!(next, n);
                }
            }
        }
    }

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let image = Array3::from_shape_fn((1, 3, 1), |(_, x, _)| x as f32);
        let padded = reflect_pad(image.view(), 2, 8);
        let row: Vec<f32> = padded.row_values();
        assert_eq!(row, [0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn a_part_is_read_as_from_the_padded_image() {
        let image = Array3::from_shape_fn((5, 3, 2), |(y, x, c)| (y * 100 + x * 10 + c) as f32);
        let padded = reflect_pad(image.view(), 17, 9);
        for ([top, left], [height, width]) in [([0, 0], [17, 9]), ([4, 2], [13, 7]), ([3, 1], [1, 1])] {
            let mut part = vec![0.0; height * width * 2];
            read_reflected(image.view(), [top, left], width, &mut part);
            let expected = padded.slice(ndarray::s![top..top + height, left..left + width, ..]);
            assert!(part.iter().eq(expected.iter()));
        }
    }

    trait RowValues {
        fn row_values(&self) -> Vec<f32>;
    }

    impl RowValues for Array3<f32> {
        fn row_values(&self) -> Vec<f32> {
            (0..self.dim().1).map(|x| self[[1, x, 0]]).collect()
        }
    }
}
