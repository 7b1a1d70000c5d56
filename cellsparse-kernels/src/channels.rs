//! What normalisations need of the kernels: sums over the pixels of every channel, and a factor and an offset for every
//! channel of every image.

use super::layers::{Store, Target, for_each_plane, targets};
use super::map::{Block, Layout, blocks_of, blocks_of_mut};
use super::multiversion::multiversion;
use super::parallel::SharedOf;
use super::simd::{LANES, Level, Simd, flush};

/// For every channel of every image the mean over all pixels and the sum of squared deviations from it, `[batch][channels]`.
///
/// Rows are added up in single precision, the sums of rows in double precision and in order. What is added up are the
/// differences from the mean of the middle row, so that nothing cancels where values are large and nearly equal.
pub fn channel_moments(level: Level, layout: &Layout, x: &[f32]) -> Vec<[f64; 2]> {
    let x = blocks_of(layout, x);
    // SAFETY: sizes were checked; each job has results of its own.
    for_each_channel(layout, |n, b, results| unsafe { moments_plane(level, layout, n, x[b], results) })
}

/// For every channel of every image the sum of `p` and of `p * (q - about)` over all pixels, `[batch][channels]`; so is `about`.
///
/// Rows are added up in single precision, the sums of rows in double precision and in order.
pub fn channel_products(level: Level, layout: &Layout, p: &[f32], q: &[f32], about: &[f32]) -> Vec<[f64; 2]> {
    let about = per_channel(layout, about);
    let (p, q) = (blocks_of(layout, p), blocks_of(layout, q));
    for_each_channel(layout, |n, b, results| {
        let about = &about[(n * layout.blocks() + b) * LANES..][..LANES];
        // SAFETY: sizes were checked; each job has results of its own.
        unsafe { products_plane(level, layout, n, [p[b], q[b]], about, results) }
    })
}

/// Runs `job(image, block, results)` for every plane, with room for the results of a block of channels.
fn for_each_channel(layout: &Layout, job: impl Fn(usize, usize, &mut [[f64; 2]]) + Sync) -> Vec<[f64; 2]> {
    assert_eq!(layout.lanes(), LANES, "sums are over maps of whole blocks");
    let blocks = layout.blocks();
    let mut results = vec![[0.0; 2]; layout.batch() * blocks * LANES];
    let shared = SharedOf::new(&mut results);
    for_each_plane(layout, |n, b| {
        // SAFETY: each job has results of its own.
        job(n, b, unsafe { shared.slice((n * blocks + b) * LANES, LANES) });
    });
    (0..layout.batch()).flat_map(|n| results[n * blocks * LANES..][..layout.channels()].to_vec()).collect()
}

multiversion! {
    fn moments_plane(layout: &Layout, n: usize, x: Block, results: &mut [[f64; 2]]) = moments_plane_generic;
}

#[inline(always)]
unsafe fn moments_plane_generic<S: Simd>(layout: &Layout, n: usize, x: Block, results: &mut [[f64; 2]]) {
    let mut about = [0.0f32; LANES];
    // SAFETY: pixels of the map.
    unsafe {
        let from = x.ptr.add(n * x.stride + layout.pixel(layout.height() / 2, 0));
        let mut sum = S::zero();
        for column in 0..layout.width() {
            sum = S::add(sum, S::load(from.add(column * LANES)));
        }
        S::store(about.as_mut_ptr(), S::mul(sum, S::set(1.0 / layout.width() as f32)));
    }
    for row in 0..layout.height() {
        let mut sums = [[0.0f32; LANES]; 2];
        // SAFETY: pixels of the map.
        unsafe {
            let about = S::load(about.as_ptr());
            let from = x.ptr.add(n * x.stride + layout.pixel(row, 0));
            let (mut sum, mut square) = (S::zero(), S::zero());
            for column in 0..layout.width() {
                let value = S::sub(S::load(from.add(column * LANES)), about);
                sum = S::add(sum, value);
                square = S::fma(value, value, square);
            }
            S::store(sums[0].as_mut_ptr(), sum);
            S::store(sums[1].as_mut_ptr(), square);
        }
        add_row(results, &sums);
    }
    let pixels = (layout.height() * layout.width()) as f64;
    for ([first, second], about) in results.iter_mut().zip(about) {
        let difference = *first / pixels;
        *second = (*second - *first * difference).max(0.0);
        *first = f64::from(about) + difference;
    }
}

multiversion! {
    fn products_plane(layout: &Layout, n: usize, maps: [Block; 2], about: &[f32], results: &mut [[f64; 2]])
        = products_plane_generic;
}

#[inline(always)]
unsafe fn products_plane_generic<S: Simd>(
    layout: &Layout,
    n: usize,
    [p, q]: [Block; 2],
    about: &[f32],
    results: &mut [[f64; 2]],
) {
    for row in 0..layout.height() {
        let mut sums = [[0.0f32; LANES]; 2];
        // SAFETY: pixels of both maps; one vector to subtract.
        unsafe {
            let about = S::load(about.as_ptr());
            let at = layout.pixel(row, 0);
            let (p, q) = (p.ptr.add(n * p.stride + at), q.ptr.add(n * q.stride + at));
            let (mut sum, mut product) = (S::zero(), S::zero());
            for column in 0..layout.width() {
                let value = S::load(p.add(column * LANES));
                sum = S::add(sum, value);
                product = S::fma(value, S::sub(S::load(q.add(column * LANES)), about), product);
            }
            S::store(sums[0].as_mut_ptr(), sum);
            S::store(sums[1].as_mut_ptr(), product);
        }
        add_row(results, &sums);
    }
}

/// Adds the sums of a row to those of the plane.
#[inline(always)]
fn add_row(results: &mut [[f64; 2]], row: &[[f32; LANES]; 2]) {
    for (lane, results) in results.iter_mut().enumerate() {
        results[0] += f64::from(row[0][lane]);
        results[1] += f64::from(row[1][lane]);
    }
}

/// `scale * x + shift` with values for every channel of every image (`[batch][channels]`); negative results are then
/// multiplied by `slope` (between 0 and 1; ReLU for 0).
pub fn affine(
    level: Level,
    layout: &Layout,
    from: &[f32],
    [scale, shift]: [&[f32]; 2],
    slope: Option<f32>,
    to: &mut [f32],
) {
    let coefficients = [per_channel(layout, scale), per_channel(layout, shift)];
    let (from, to) = (blocks_of(layout, from), blocks_of_mut(layout, to));
    for_each_plane(layout, |n, b| {
        // SAFETY: sizes were checked; each job has a plane of its own.
        unsafe { affine_plane(level, layout, n, b, from[b], &coefficients, slope, to[b]) }
    });
}

multiversion! {
    fn affine_plane(
        layout: &Layout, n: usize, b: usize, from: Block, coefficients: &[Vec<f32>; 2], slope: Option<f32>, to: Block,
    ) = affine_plane_generic;
}

#[inline(always)]
unsafe fn affine_plane_generic<S: Simd>(
    layout: &Layout,
    n: usize,
    b: usize,
    from: Block,
    coefficients: &[Vec<f32>; 2],
    slope: Option<f32>,
    to: Block,
) {
    let line = (n * layout.blocks() + b) * LANES;
    let (scale, shift) = (&coefficients[0][line..][..LANES], &coefficients[1][line..][..LANES]);
    // SAFETY: one vector of scales and shifts; pixels of both maps.
    unsafe {
        let (scale, shift) = (S::load(scale.as_ptr()), S::load(shift.as_ptr()));
        // Without an activation the slope is 1.
        let slope = S::set(slope.unwrap_or(1.0));
        for y in 0..layout.height() {
            let at = layout.pixel(y, 0);
            let (from, to) = (from.ptr.add(n * from.stride + at), to.ptr.add(n * to.stride + at));
            for x in 0..layout.width() {
                let value = S::fma(S::load(from.add(x * LANES)), scale, shift);
                S::store(to.add(x * LANES), S::max(value, S::mul(value, slope)));
            }
        }
    }
}

/// `factor * gradient + slope * x + offset` with values for every channel of every image (`[batch][channels]`): the
/// gradient of a normalisation with respect to what it normalises.
///
/// `x` is `None` when its values are still where the result is stored.
pub fn affine_gradient(
    level: Level,
    layout: &Layout,
    (gradient, x): (&[f32], Option<&[f32]>),
    [factor, slope, offset]: [&[f32]; 3],
    to: &mut [f32],
    store: Store<'_>,
) {
    let coefficients = [per_channel(layout, factor), per_channel(layout, slope), per_channel(layout, offset)];
    let gradient = blocks_of(layout, gradient);
    let targets = targets(layout, to, store);
    let x = x.map_or_else(|| targets.iter().map(Target::block).collect(), |x| blocks_of(layout, x));
    for_each_plane(layout, |n, b| {
        // SAFETY: sizes were checked; each job has a plane of its own.
        unsafe { gradient_plane(level, layout, n, b, [gradient[b], x[b]], &coefficients, targets[b]) }
    });
}

multiversion! {
    fn gradient_plane(layout: &Layout, n: usize, b: usize, maps: [Block; 2], coefficients: &[Vec<f32>; 3], to: Target)
        = gradient_plane_generic;
}

#[inline(always)]
unsafe fn gradient_plane_generic<S: Simd>(
    layout: &Layout,
    n: usize,
    b: usize,
    [gradient, x]: [Block; 2],
    coefficients: &[Vec<f32>; 3],
    to: Target,
) {
    let line = (n * layout.blocks() + b) * LANES;
    let [factor, slope, offset] = coefficients.each_ref().map(|values| &values[line..][..LANES]);
    // SAFETY: one vector of each; pixels of all maps.
    unsafe {
        let (factor, slope, offset) = (S::load(factor.as_ptr()), S::load(slope.as_ptr()), S::load(offset.as_ptr()));
        for row in 0..layout.height() {
            for column in 0..layout.width() {
                let at = layout.pixel(row, column);
                let value = S::fma(S::load(x.ptr.add(n * x.stride + at)), slope, offset);
                let value = S::fma(S::load(gradient.ptr.add(n * gradient.stride + at)), factor, value);
                to.store::<S>(n, at, value);
            }
        }
    }
}

/// `[batch][channels]` with every image filled up with zeros to whole vectors, subnormal values as zeros.
fn per_channel(layout: &Layout, values: &[f32]) -> Vec<f32> {
    assert_eq!(values.len(), layout.batch() * layout.channels(), "one value for every channel of every image");
    assert_eq!(layout.lanes(), LANES, "maps of whole blocks");
    let width = layout.blocks() * LANES;
    let mut coefficients = vec![0.0; layout.batch() * width];
    for (line, values) in coefficients.chunks_exact_mut(width).zip(values.chunks_exact(layout.channels())) {
        line.iter_mut().zip(values).for_each(|(to, from)| *to = flush(*from));
    }
    coefficients
}
