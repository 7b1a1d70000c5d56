//! Smooth random maps and a fast blur: what layouts and optics are made of.

use ndarray::{Array2, Axis, Zip};

use crate::random::Random;
use crate::raster::gaussian_blur;

/// Brightness, distance or displacement, one value a pixel.
pub(super) type Map = Array2<f32>;

/// Uniform in `[low, high)`.
pub(super) fn between(random: &mut Random, low: f32, high: f32) -> f32 {
    random.uniform(f64::from(low), f64::from(high)) as f32
}

/// Log-uniform in `[low, high)`: every octave is as likely. Both bounds are positive.
pub(super) fn octaves(random: &mut Random, low: f32, high: f32) -> f32 {
    between(random, low.ln(), high.ln()).exp()
}

/// A standard normal deviate.
pub(super) fn normal(random: &mut Random) -> f32 {
    random.normal() as f32
}

/// Restores unit variance: the tensor product of two cubic B-splines keeps 0.23 of it on average.
const GAIN: f32 = 2.1;

/// A smooth random map of unit variance whose grains are about `cell` pixels wide; white noise up to 1.2 pixels.
pub(super) fn noise(shape: (usize, usize), cell: f32, random: &mut Random) -> Map {
    noise_stretched(shape, [cell, cell], random)
}

/// [`noise`] with grains of `cells = [rows, columns]` pixels.
pub(super) fn noise_stretched(shape: (usize, usize), cells: [f32; 2], random: &mut Random) -> Map {
    if cells[0] <= 1.2 && cells[1] <= 1.2 {
        return white(shape, random);
    }
    let rows = Lattice::new(shape.0, cells[0], random);
    let columns = Lattice::new(shape.1, cells[1], random);
    let values = white((rows.nodes, columns.nodes), random);
    let mut wide = Map::zeros((rows.nodes, shape.1));
    for (mut out, line) in wide.outer_iter_mut().zip(values.outer_iter()) {
        for (value, (node, weights)) in out.iter_mut().zip(&columns.taps) {
            *value = (0..4).map(|i| weights[i] * line[node + i]).sum();
        }
    }
    let mut map = Map::zeros(shape);
    for (mut out, (node, weights)) in map.outer_iter_mut().zip(&rows.taps) {
        for (i, weight) in weights.iter().enumerate() {
            out.scaled_add(GAIN * weight, &wide.row(node + i));
        }
    }
    map
}

/// Independent deviates of unit variance, the sum of four uniform ones: close to normal and quick to draw.
pub(super) fn white(shape: (usize, usize), random: &mut Random) -> Map {
    Map::from_shape_simple_fn(shape, || deviate(random))
}

/// One deviate of [`white`]: its variance is that of four uniform 16-bit numbers, scaled to 1.
pub(super) fn deviate(random: &mut Random) -> f32 {
    let bits = random.bits();
    let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
    (sum as f32 / 65535.0 - 2.0) * 3.0f32.sqrt()
}

/// Where the pixels of one axis lie between the nodes of a random lattice.
struct Lattice {
    nodes: usize,
    /// First of four nodes and their cubic B-spline weights, per pixel.
    taps: Vec<(usize, [f32; 4])>,
}

impl Lattice {
    fn new(size: usize, cell: f32, random: &mut Random) -> Self {
        let cell = cell.max(1.0);
        let phase = random.unit() as f32;
        let taps: Vec<_> = (0..size)
            .map(|pixel| {
                let position = pixel as f32 / cell + phase;
                let node = position as usize;
                let t = position - node as f32;
                let (t2, t3) = (t * t, t * t * t);
                let weights = [
                    (1.0 - 3.0 * t + 3.0 * t2 - t3) / 6.0,
                    (4.0 - 6.0 * t2 + 3.0 * t3) / 6.0,
                    (1.0 + 3.0 * t + 3.0 * t2 - 3.0 * t3) / 6.0,
                    t3 / 6.0,
                ];
                (node, weights)
            })
            .collect();
        Self { nodes: taps.last().map_or(4, |(node, _)| node + 4), taps }
    }
}

/// Gaussian blur; wide ones are three running means, whose time does not depend on the width.
pub(super) fn blur(map: &Map, sigma: f32) -> Map {
    if sigma < 2.2 {
        return gaussian_blur(map.view(), sigma);
    }
    // Three means over 2 r + 1 pixels have the variance r (r + 1).
    let reach = ((sigma * sigma + 0.25).sqrt() - 0.5).round().max(1.0) as usize;
    let mut out = map.clone();
    for axis in [Axis(0), Axis(1)] {
        for _ in 0..3 {
            out = running_mean(&out, reach, axis);
        }
    }
    out
}

/// Mean over `2 reach + 1` pixels along an axis; beyond the border the border pixel is repeated.
fn running_mean(map: &Map, reach: usize, axis: Axis) -> Map {
    let size = map.len_of(axis);
    let mut out = Map::zeros(map.dim());
    if size == 0 {
        return out;
    }
    let at = |i: isize| map.index_axis(axis, i.clamp(0, size as isize - 1) as usize);
    let reach = reach as isize;
    let mut sum = at(0).to_owned();
    sum.fill(0.0);
    for i in -reach..=reach {
        sum += &at(i);
    }
    let share = 1.0 / (2 * reach + 1) as f32;
    for i in 0..size as isize {
        out.index_axis_mut(axis, i as usize).assign(&sum.mapv(|v| v * share));
        Zip::from(&mut sum).and(&at(i + reach + 1)).and(&at(i - reach)).for_each(|s, new, old| *s += new - old);
    }
    out
}
