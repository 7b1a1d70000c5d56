//! Pooling and upsampling of whole maps, and how their gradients are stored.

use super::map::{Block, Layout, blocks_of, blocks_of_mut};
use super::multiversion::multiversion;
use super::parallel::for_each_job;
use super::simd::{LANES, Level, Simd};

/// The backward pass of an activation: gradients are multiplied by a factor where the map's values are not positive.
#[derive(Debug, Clone, Copy)]
pub struct ActivationDerivative<'a> {
    /// The values of the map whose gradient is stored. `None` when they are still where the gradient is stored: then
    /// every value is read before it is overwritten.
    pub values: Option<&'a [f32]>,
    /// That factor, the slope of the activation for negative values: 0 for ReLU.
    pub negative_slope: f32,
}

/// How a gradient is stored: added to what is there, then multiplied by the slope of the map's activation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Store<'a> {
    /// Add to what is there instead of overwriting it.
    pub accumulate: bool,
    /// The activation of the map whose gradient is stored.
    pub slope: Option<ActivationDerivative<'a>>,
}

impl ActivationDerivative<'_> {
    /// Blocks of the values, and the factor; `own` are the blocks of the gradient.
    pub(super) fn blocks(&self, layout: &Layout, own: &[Block]) -> (Vec<Block>, f32) {
        (self.values.map_or_else(|| own.to_vec(), |values| blocks_of(layout, values)), self.negative_slope)
    }
}

/// One plane of a map (a block of one image), and the same plane of its mask.
#[derive(Clone, Copy)]
pub(super) struct Target {
    block: Block,
    mask: Option<(Block, f32)>,
    accumulate: bool,
}

impl Target {
    /// Where the gradient is stored.
    pub fn block(&self) -> Block {
        self.block
    }

    /// Stores one vector of a gradient at `at` of image `n`.
    ///
    /// # Safety
    /// `at` is a pixel of the plane.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(&self, n: usize, at: usize, mut value: S::V) {
        // SAFETY: the caller gives a pixel of the plane; the mask has the same geometry.
        unsafe {
            let to = self.block.ptr.add(n * self.block.stride + at);
            if self.accumulate {
                value = S::add(value, S::load(to));
            }
            if let Some((mask, slope)) = self.mask {
                let sign = S::load(mask.ptr.add(n * mask.stride + at));
                value = S::select_positive(sign, value, S::mul(value, S::set(slope)));
            }
            S::store(to, value);
        }
    }
}

pub(super) fn targets(layout: &Layout, data: &mut [f32], store: Store<'_>) -> Vec<Target> {
    let blocks = blocks_of_mut(layout, data);
    let masks = store.slope.map(|slope| slope.blocks(layout, &blocks));
    let target = |(b, block): (usize, &Block)| Target {
        block: *block,
        mask: masks.as_ref().map(|(masks, factor)| (masks[b], *factor)),
        accumulate: store.accumulate,
    };
    blocks.iter().enumerate().map(target).collect()
}

/// The larger map (`fine`) and the smaller one (`coarse`), `by` times smaller in rows and columns.
#[derive(Clone, Copy)]
struct Scale {
    fine: Layout,
    coarse: Layout,
    by: (usize, usize),
}

impl Scale {
    fn new(fine: &Layout, coarse: &Layout, by: (usize, usize)) -> Self {
        let sides = (coarse.height().checked_mul(by.0), coarse.width().checked_mul(by.1));
        assert_eq!(sides, (Some(fine.height()), Some(fine.width())), "sizes do not divide");
        assert_eq!((fine.batch(), fine.channels()), (coarse.batch(), coarse.channels()), "maps of other channels");
        assert_eq!((fine.lanes(), coarse.lanes()), (LANES, LANES), "maps of whole blocks");
        Self { fine: *fine, coarse: *coarse, by }
    }
}

/// Runs `job(image, block)` for every plane.
pub(super) fn for_each_plane(layout: &Layout, job: impl Fn(usize, usize) + Sync) {
    let blocks = layout.blocks();
    for_each_job(layout.batch() * blocks, |index| job(index / blocks, index % blocks));
}

/// Maximum over windows of `by` pixels.
pub fn max_pool(level: Level, fine: &Layout, from: &[f32], by: (usize, usize), coarse: &Layout, to: &mut [f32]) {
    let scale = Scale::new(fine, coarse, by);
    let (from, to) = (blocks_of(fine, from), blocks_of_mut(coarse, to));
    for_each_plane(fine, |n, b| {
        // SAFETY: sizes were checked; each job has a plane of its own.
        unsafe { max_pool_plane(level, &scale, n, from[b], to[b]) }
    });
}

multiversion! {
    fn max_pool_plane(scale: &Scale, n: usize, from: Block, to: Block) = max_pool_plane_generic;
}

#[inline(always)]
unsafe fn max_pool_plane_generic<S: Simd>(scale: &Scale, n: usize, from: Block, to: Block) {
    for y in 0..scale.coarse.height() {
        for x in 0..scale.coarse.width() {
            // SAFETY: pixels of both maps.
            unsafe {
                let source = from.ptr.add(n * from.stride);
                let mut max = S::load(source.add(scale.fine.pixel(y * scale.by.0, x * scale.by.1)));
                for dy in 0..scale.by.0 {
                    for dx in 0..scale.by.1 {
                        let at = scale.fine.pixel(y * scale.by.0 + dy, x * scale.by.1 + dx);
                        max = S::max(max, S::load(source.add(at)));
                    }
                }
                S::store(to.ptr.add(n * to.stride + scale.coarse.pixel(y, x)), max);
            }
        }
    }
}

/// The gradient of [`max_pool`]: the first maximum of a window, in row-major order, takes all of it.
///
/// `values` is `None` when the pooled values are still where the gradient is stored.
pub fn max_pool_gradient(
    level: Level,
    (fine, values): (&Layout, Option<&[f32]>),
    by: (usize, usize),
    (coarse, gradient): (&Layout, &[f32]),
    to: &mut [f32],
    store: Store<'_>,
) {
    let scale = Scale::new(fine, coarse, by);
    let gradient = blocks_of(coarse, gradient);
    let targets = targets(fine, to, store);
    let values = values.map_or_else(|| targets.iter().map(Target::block).collect(), |values| blocks_of(fine, values));
    for_each_plane(fine, |n, b| {
        // SAFETY: sizes were checked; each job has a plane of its own.
        unsafe { max_pool_gradient_plane(level, &scale, n, values[b], gradient[b], targets[b]) }
    });
}

multiversion! {
    fn max_pool_gradient_plane(scale: &Scale, n: usize, values: Block, gradient: Block, to: Target)
        = max_pool_gradient_plane_generic;
}

#[inline(always)]
unsafe fn max_pool_gradient_plane_generic<S: Simd>(
    scale: &Scale,
    n: usize,
    values: Block,
    gradient: Block,
    to: Target,
) {
    for y in 0..scale.coarse.height() {
        for x in 0..scale.coarse.width() {
            // SAFETY: pixels of both maps.
            unsafe {
                let source = values.ptr.add(n * values.stride);
                let at = |dy: usize, dx: usize| scale.fine.pixel(y * scale.by.0 + dy, x * scale.by.1 + dx);
                let mut max = S::load(source.add(at(0, 0)));
                for dy in 0..scale.by.0 {
                    for dx in 0..scale.by.1 {
                        max = S::max(max, S::load(source.add(at(dy, dx))));
                    }
                }
                let mut rest = S::load(gradient.ptr.add(n * gradient.stride + scale.coarse.pixel(y, x)));
                for dy in 0..scale.by.0 {
                    for dx in 0..scale.by.1 {
                        let value = S::load(source.add(at(dy, dx)));
                        to.store::<S>(n, at(dy, dx), S::select_ge(value, max, rest, S::zero()));
                        rest = S::select_ge(value, max, S::zero(), rest);
                    }
                }
            }
        }
    }
}

/// Every pixel repeated `by` times in rows and columns.
pub fn upsample(level: Level, coarse: &Layout, from: &[f32], by: (usize, usize), fine: &Layout, to: &mut [f32]) {
    let scale = Scale::new(fine, coarse, by);
    let (from, to) = (blocks_of(coarse, from), blocks_of_mut(fine, to));
    for_each_plane(fine, |n, b| {
        // SAFETY: sizes were checked; each job has a plane of its own.
        unsafe { upsample_plane(level, &scale, n, from[b], to[b]) }
    });
}

multiversion! {
    fn upsample_plane(scale: &Scale, n: usize, from: Block, to: Block) = upsample_plane_generic;
}

#[inline(always)]
unsafe fn upsample_plane_generic<S: Simd>(scale: &Scale, n: usize, from: Block, to: Block) {
    for y in 0..scale.coarse.height() {
        for x in 0..scale.coarse.width() {
            // SAFETY: pixels of both maps.
            unsafe {
                let value = S::load(from.ptr.add(n * from.stride + scale.coarse.pixel(y, x)));
                for dy in 0..scale.by.0 {
                    for dx in 0..scale.by.1 {
                        let at = scale.fine.pixel(y * scale.by.0 + dy, x * scale.by.1 + dx);
                        S::store(to.ptr.add(n * to.stride + at), value);
                    }
                }
            }
        }
    }
}

/// The gradient of [`upsample`]: sums over windows of `by` pixels.
pub fn upsample_gradient(
    level: Level,
    (fine, gradient): (&Layout, &[f32]),
    by: (usize, usize),
    coarse: &Layout,
    to: &mut [f32],
    store: Store<'_>,
) {
    let scale = Scale::new(fine, coarse, by);
    let gradient = blocks_of(fine, gradient);
    let targets = targets(coarse, to, store);
    for_each_plane(coarse, |n, b| {
        // SAFETY: sizes were checked; each job has a plane of its own.
        unsafe { upsample_gradient_plane(level, &scale, n, gradient[b], targets[b]) }
    });
}

multiversion! {
    fn upsample_gradient_plane(scale: &Scale, n: usize, gradient: Block, to: Target)
        = upsample_gradient_plane_generic;
}

#[inline(always)]
unsafe fn upsample_gradient_plane_generic<S: Simd>(scale: &Scale, n: usize, gradient: Block, to: Target) {
    for y in 0..scale.coarse.height() {
        for x in 0..scale.coarse.width() {
            // SAFETY: pixels of both maps.
            unsafe {
                let mut sum = S::zero();
                for dy in 0..scale.by.0 {
                    for dx in 0..scale.by.1 {
                        let at = scale.fine.pixel(y * scale.by.0 + dy, x * scale.by.1 + dx);
                        sum = S::add(sum, S::load(gradient.ptr.add(n * gradient.stride + at)));
                    }
                }
                to.store::<S>(n, scale.coarse.pixel(y, x), sum);
            }
        }
    }
}
