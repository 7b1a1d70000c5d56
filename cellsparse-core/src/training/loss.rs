//! Sums over the pixels of a batch that are the same for every number of threads.

use rayon::prelude::*;

/// Pixels in one chunk. Sums are taken within a chunk, then over the chunks in order.
pub(crate) const CHUNK: usize = 2048;

/// Runs `body(first pixel, gradient of the chunk)` over all chunks in parallel and adds the results in order.
///
/// `gradient` holds `width` values per pixel, or is absent when only the value is wanted.
pub(crate) fn sum_chunks<const N: usize>(
    pixels: usize,
    gradient: Option<&mut [f32]>,
    width: usize,
    body: impl Fn(std::ops::Range<usize>, Option<&mut [f32]>) -> [f64; N] + Sync,
) -> [f64; N] {
    let count = pixels.div_ceil(CHUNK);
    let parts: Vec<Option<&mut [f32]>> = match gradient {
        Some(gradient) => gradient.chunks_mut((CHUNK * width).max(1)).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    };
    let sums: Vec<[f64; N]> = parts
        .into_par_iter()
        .enumerate()
        .map(|(i, part)| body(i * CHUNK..((i + 1) * CHUNK).min(pixels), part))
        .collect();
    sums.iter().fold([0.0; N], |total, sum| std::array::from_fn(|k| total[k] + sum[k]))
}
