//! The smoothness term of the ELEPHANT loss: a map against its blurred self.

/// The one-dimensional Gaussian of 5 pixels with standard deviation 8 and sum 1. The kernel of the original is the outer
/// product of it with itself.
fn kernel() -> [f32; 5] {
    let weight = |k: i32| (-f64::from(k * k) / 128.0).exp();
    let sum: f64 = (-2..=2).map(weight).sum();
    std::array::from_fn(|k| (weight(k as i32 - 2) / sum) as f32)
}

/// The matrix `[size, size]` that does along one axis what `S` of [`Smoothness::value`] does along both.
#[cfg(feature = "candle")]
pub(super) fn smoothing_matrix(size: usize) -> Vec<f64> {
    let kernel = kernel().map(f64::from);
    let half = size.div_ceil(2);
    let mut matrix = vec![0.0; size * size];
    for (row, line) in matrix.chunks_exact_mut(size.max(1)).enumerate() {
        for (k, at) in taps(row, size) {
            for (j, from) in taps(2 * (at * half / size), size) {
                line[from] += kernel[k] * kernel[j];
            }
        }
    }
    matrix
}

/// Buffers for maps of one size, used again for every map.
pub(super) struct Smoothness {
    rows: usize,
    columns: usize,
    /// Rows and columns at half resolution.
    half: [usize; 2],
    /// Which row (column) at half resolution each row (column) is copied from.
    sources: [Vec<usize>; 2],
    kernel: [f32; 5],
    blurred: Vec<f32>,
    scratch: Vec<f32>,
    small: Vec<f32>,
    small_rows: Vec<f32>,
}

impl Smoothness {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let half = [rows.div_ceil(2), columns.div_ceil(2)];
        let sources = [(rows, half[0]), (columns, half[1])]
            .map(|(size, half)| (0..size).map(|i| i * half / size).collect::<Vec<usize>>());
        Self {
            rows,
            columns,
            half,
            sources,
            kernel: kernel(),
            blurred: vec![0.0; rows * columns],
            scratch: vec![0.0; rows * columns],
            small: vec![0.0; half[0] * half[1]],
            small_rows: vec![0.0; rows * half[1]],
        }
    }

    /// The mean over all pixels of `|q - S(q)|`, where `S` blurs at half resolution, copies pixels to the full one, and
    /// blurs again, both with zeros outside. Adds `weight` times its gradient to `gradient`.
    pub(super) fn value(&mut self, map: &[f32], weight: f64, gradient: Option<&mut [f32]>) -> f64 {
        let (columns, half) = (self.columns, self.half[1]);
        // Down: along rows, then along columns, every second pixel of each.
        for (row, out) in map.chunks_exact(columns).zip(self.small_rows.chunks_exact_mut(half)) {
            for (j, out) in out.iter_mut().enumerate() {
                *out = taps(2 * j, columns).map(|(k, x)| self.kernel[k] * row[x]).sum();
            }
        }
        for (i, out) in self.small.chunks_exact_mut(half).enumerate() {
            out.fill(0.0);
            for (k, y) in taps(2 * i, self.rows) {
                add_scaled(out, &self.small_rows[y * half..(y + 1) * half], self.kernel[k]);
            }
        }
        for (y, out) in self.blurred.chunks_exact_mut(columns).enumerate() {
            let row = &self.small[self.sources[0][y] * half..][..half];
            out.iter_mut().zip(&self.sources[1]).for_each(|(out, &x)| *out = row[x]);
        }
        self.blur();
        let sum: f64 = map
            .chunks(columns)
            .zip(self.blurred.chunks(columns))
            .map(|(q, s)| q.iter().zip(s).map(|(q, s)| f64::from((q - s).abs())).sum::<f64>())
            .sum();
        let pixels = map.len() as f64;
        if let Some(gradient) = gradient {
            self.add_gradient(map, (weight / pixels) as f32, gradient);
        }
        sum / pixels
    }

    /// The way back: the blur of full resolution is its own transpose, copying becomes adding.
    fn add_gradient(&mut self, map: &[f32], scale: f32, gradient: &mut [f32]) {
        let (columns, half) = (self.columns, self.half[1]);
        for ((q, s), gradient) in map.iter().zip(&mut self.blurred).zip(gradient.iter_mut()) {
            let sign = if q > s {
                scale
            } else if q < s {
                -scale
            } else {
                0.0
            };
            *gradient += sign;
            *s = -sign;
        }
        self.blur();
        self.small.fill(0.0);
        for (y, row) in self.blurred.chunks_exact(columns).enumerate() {
            let out = &mut self.small[self.sources[0][y] * half..][..half];
            row.iter().zip(&self.sources[1]).for_each(|(value, &x)| out[x] += value);
        }
        self.small_rows.fill(0.0);
        for (i, row) in self.small.chunks_exact(half).enumerate() {
            for (k, y) in taps(2 * i, self.rows) {
                add_scaled(&mut self.small_rows[y * half..(y + 1) * half], row, self.kernel[k]);
            }
        }
        for (row, out) in self.small_rows.chunks_exact(half).zip(gradient.chunks_exact_mut(columns)) {
            for (j, value) in row.iter().enumerate() {
                for (k, x) in taps(2 * j, columns) {
                    out[x] += self.kernel[k] * value;
                }
            }
        }
    }

    /// Blurs `blurred` in place.
    fn blur(&mut self) {
        let columns = self.columns;
        for (row, out) in self.blurred.chunks_exact(columns).zip(self.scratch.chunks_exact_mut(columns)) {
            if columns < 5 {
                for (x, out) in out.iter_mut().enumerate() {
                    *out = taps(x, columns).map(|(k, x)| self.kernel[k] * row[x]).sum();
                }
                continue;
            }
            for (out, window) in out[2..].iter_mut().zip(row.windows(5)) {
                *out = (0..5).map(|k| self.kernel[k] * window[k]).sum();
            }
            for x in [0, 1, columns - 2, columns - 1] {
                out[x] = taps(x, columns).map(|(k, x)| self.kernel[k] * row[x]).sum();
            }
        }
        for (y, out) in self.blurred.chunks_exact_mut(columns).enumerate() {
            out.fill(0.0);
            for (k, y) in taps(y, self.rows) {
                add_scaled(out, &self.scratch[y * columns..(y + 1) * columns], self.kernel[k]);
            }
        }
    }
}

/// `(index in the kernel, place)` of the kernel around `center` where it lies within `0..size`.
fn taps(center: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..5).filter_map(move |k| (center + k).checked_sub(2).filter(|at| *at < size).map(|at| (k, at)))
}

fn add_scaled(out: &mut [f32], values: &[f32], scale: f32) {
    out.iter_mut().zip(values).for_each(|(out, value)| *out += scale * value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_gradient_is_the_slope_of_the_value() {
        for (rows, columns) in [(1, 1), (1, 6), (3, 4), (9, 12)] {
            let mut random = Random::new(3, 0);
            let mut smoothness = Smoothness::new(rows, columns);
            let map: Vec<f32> = (0..rows * columns).map(|_| random.unit() as f32).collect();
            let mut gradient = vec![0.0; map.len()];
            smoothness.value(&map, 1.0, Some(&mut gradient));
            for at in 0..map.len() {
                let mut shifted = |step: f32| {
                    let mut map = map.clone();
                    map[at] += step;
                    smoothness.value(&map, 0.0, None)
                };
                let slope = (shifted(2e-3) - shifted(-2e-3)) / 4e-3;
                assert!(
                    (slope - f64::from(gradient[at])).abs() < 2e-3 / map.len() as f64 + 1e-4,
                    "{rows} {columns} {at}"
                );
            }
        }
    }
}
