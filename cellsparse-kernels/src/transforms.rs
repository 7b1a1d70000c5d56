//! The transforms of Winograd's algorithm F(4x4, 3x3) in one dimension.
//!
//! Those of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4.3, for the points of interpolation
//! 0, a, -a, b and -b with `[a, b]` of [`Factors::POINTS`], and infinity: theirs are 1 and 2.

use super::micro::Factors;
use super::simd::Simd;

/// `even + point * odd` and `even - point * odd`: what two points of opposite sign make of the even and the odd powers.
#[inline(always)]
unsafe fn both_signs<S: Simd>(point: f32, even: S::V, odd: S::V) -> [S::V; 2] {
    // SAFETY: arithmetic only.
    unsafe { [S::fma(S::set(point), odd, even), S::fma(S::set(-point), odd, even)] }
}

/// `high - square * low`: a polynomial without the power that a pair of points has in common.
#[inline(always)]
unsafe fn without<S: Simd>(square: f32, low: S::V, high: S::V) -> S::V {
    // SAFETY: arithmetic only.
    unsafe { S::fma(S::set(-square), low, high) }
}

/// `B^T d`: six values of the input to six frequencies.
#[inline(always)]
pub(super) unsafe fn input_1d<S: Simd, F: Factors>(d: [S::V; 6]) -> [S::V; 6] {
    let [a, b] = F::POINTS;
    let (a2, b2) = (a * a, b * b);
    // SAFETY: arithmetic only.
    unsafe {
        let [near, near_negative] = both_signs::<S>(a, without::<S>(b2, d[2], d[4]), without::<S>(b2, d[1], d[3]));
        let [far, far_negative] = both_signs::<S>(b, without::<S>(a2, d[2], d[4]), without::<S>(a2, d[1], d[3]));
        let product = S::set(a2 * b2);
        [
            S::fma(product, d[0], without::<S>(a2 + b2, d[2], d[4])),
            near,
            near_negative,
            far,
            far_negative,
            S::fma(product, d[1], without::<S>(a2 + b2, d[3], d[5])),
        ]
    }
}

/// `A^T m`: six frequencies to four outputs.
#[inline(always)]
pub(super) unsafe fn output_1d<S: Simd, F: Factors>(m: [S::V; 6]) -> [S::V; 4] {
    let [a, b] = F::POINTS;
    // SAFETY: arithmetic only.
    unsafe {
        let (sum1, diff1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum2, diff2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum1), sum2),
            S::fma(S::set(b), diff2, S::mul(S::set(a), diff1)),
            S::fma(S::set(b * b), sum2, S::mul(S::set(a * a), sum1)),
            S::fma(S::set(b * b * b), diff2, S::fma(S::set(a * a * a), diff1, m[5])),
        ]
    }
}

/// `A g`: four gradients to six frequencies.
#[inline(always)]
pub(super) unsafe fn gradient_1d<S: Simd, F: Factors>(g: [S::V; 4]) -> [S::V; 6] {
    let [a, b] = F::POINTS;
    // SAFETY: arithmetic only.
    unsafe {
        let (a2, b2) = (S::set(a * a), S::set(b * b));
        let [near, near_negative] = both_signs::<S>(a, S::fma(a2, g[2], g[0]), S::fma(a2, g[3], g[1]));
        let [far, far_negative] = both_signs::<S>(b, S::fma(b2, g[2], g[0]), S::fma(b2, g[3], g[1]));
        [g[0], near, near_negative, far, far_negative, g[3]]
    }
}

/// `G w`: three weights to six frequencies.
#[inline(always)]
pub(super) unsafe fn weight_1d<S: Simd, F: Factors>(w: [S::V; 3]) -> [S::V; 6] {
    let [a, b] = F::POINTS;
    let (near, far) = scales::<F>();
    // SAFETY: arithmetic only.
    unsafe {
        let outer = S::add(w[0], S::mul(S::set(a * a), w[2]));
        let inner = S::mul(S::set(a), w[1]);
        let wide = S::fma(S::set(far), w[0], S::mul(S::set(b * b * far), w[2]));
        let middle = S::mul(S::set(b * far), w[1]);
        [
            S::mul(S::set(1.0 / (a * a * b * b)), w[0]),
            S::mul(S::set(near), S::add(outer, inner)),
            S::mul(S::set(near), S::sub(outer, inner)),
            S::add(wide, middle),
            S::sub(wide, middle),
            w[2],
        ]
    }
}

/// `G^T u`: six frequencies to three weight gradients.
#[inline(always)]
pub(super) unsafe fn weight_gradient_1d<S: Simd, F: Factors>(u: [S::V; 6]) -> [S::V; 3] {
    let [a, b] = F::POINTS;
    let (near, far) = scales::<F>();
    // SAFETY: arithmetic only.
    unsafe {
        let (sum1, diff1) = (S::add(u[1], u[2]), S::sub(u[2], u[1]));
        let (sum2, diff2) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
        let square = S::set(b * b * far);
        [
            S::fma(S::set(1.0 / (a * a * b * b)), u[0], S::sub(S::mul(S::set(far), sum2), S::mul(S::set(-near), sum1))),
            S::fma(S::set(b * far), diff2, S::mul(S::set(-a * near), diff1)),
            S::add(u[5], S::mul(square, S::sub(sum2, sum1))),
        ]
    }
}

/// One over the product of the differences between a point and all others: for both near points, and for both far ones. Times the
/// square of the point they are the same but for the sign.
fn scales<F: Factors>() -> (f32, f32) {
    let [a, b] = F::POINTS;
    let (a2, b2) = (a * a, b * b);
    (1.0 / (2.0 * a2 * (a2 - b2)), 1.0 / (2.0 * b2 * (b2 - a2)))
}

/// Applies a one-dimensional transform to the columns and then to the rows of a tile.
macro_rules! transform_2d {
    ($one:ident, $n:literal => $m:literal, $load:expr, $store:expr) => {{
        let load = $load;
        let mut middle = [[S::zero(); $n]; $m];
        for x in 0..$n {
            let column = $one::<S, F>(std::array::from_fn(|y| load(y, x)));
            for y in 0..$m {
                middle[y][x] = column[y];
            }
        }
        for y in 0..$m {
            let row = $one::<S, F>(middle[y]);
            for x in 0..$m {
                $store(y, x, row[x]);
            }
        }
    }};
}
pub(super) use transform_2d;
