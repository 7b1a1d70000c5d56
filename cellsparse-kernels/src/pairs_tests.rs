//! Pairs of 16-bit factors on every instruction set.

use crate::micro::{Factors, Pair};
use crate::multiversion::{multiversion, multiversion_of_pairs};
use crate::rounding::nearest_bf16;
use crate::simd::{LANES, Level, Simd};
use crate::test_random::Random;
use crate::{Buffer, Conv, Destination, Layout, Method, Store};

/// What an instruction set makes of three vectors.
#[derive(Default)]
struct Made {
    stored: [f32; LANES],
    pairs: [f32; LANES],
    lower: [f32; LANES],
    upper: [f32; LANES],
    sums: [f32; LANES],
}

multiversion! {
    fn make(a: &[f32; LANES], b: &[f32; LANES], made: &mut Made) = make_generic::<Pair>;
}

multiversion_of_pairs! {
    fn make_with_instruction(a: &[f32; LANES], b: &[f32; LANES], made: &mut Made) = make_generic;
}

#[inline(always)]
unsafe fn make_generic<S: Simd, F: Factors>(a: &[f32; LANES], b: &[f32; LANES], made: &mut Made) {
    // SAFETY: vectors of 16 values.
    unsafe {
        let (a, b) = (S::load(a.as_ptr()), S::load(b.as_ptr()));
        S::store_bf16(made.stored.as_mut_ptr(), a);
        F::store_next::<S>(made.pairs.as_mut_ptr(), LANES, 0, a);
        F::store_next::<S>(made.pairs.as_mut_ptr(), LANES, 1, b);
        let pairs = S::load(made.pairs.as_ptr());
        let (lower, upper) = S::halves(pairs);
        S::store(made.lower.as_mut_ptr(), lower);
        S::store(made.upper.as_mut_ptr(), upper);
        S::store(made.sums.as_mut_ptr(), F::multiply_add::<S>(pairs, pairs, S::set(0.5)));
    }
}

#[test]
fn every_instruction_set_rounds_pairs_and_multiplies_them_alike() {
    let mut random = Random::new(2, 0);
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1.003_906_2, 1.011_718_8];
    for round in 0..if cfg!(miri) { 4 } else { 400 } {
        let mut values = || -> [f32; LANES] {
            std::array::from_fn(|_| match random.uniform(0.0, 1.0) {
                sort if sort < 0.2 => special[(sort * 5.0 * special.len() as f64) as usize],
                _ => random.uniform(-3.0, 3.0) as f32,
            })
        };
        let (a, b) = (values(), values());
        let wide = |value: f32| f32::from_bits(u32::from(nearest_bf16(value)) << 16);
        for level in Level::available() {
            for instruction in [false, true] {
                let mut made = Made::default();
                // SAFETY: levels are those of this machine.
                unsafe {
                    if instruction {
                        make_with_instruction(level, &a, &b, &mut made);
                    } else {
                        make(level, &a, &b, &mut made);
                    }
                }
                let name = format!("{} {instruction} {round}", level.name());
                let stored = made.stored.iter().flat_map(|pair| [pair.to_bits() as u16, (pair.to_bits() >> 16) as u16]);
                assert!(stored.zip(a).all(|(bits, value)| bits == nearest_bf16(value)), "{name}: {a:?}");
                for lane in 0..LANES {
                    let (lower, upper) = (wide(a[lane]), wide(b[lane]));
                    let bits = u32::from(nearest_bf16(a[lane])) | (u32::from(nearest_bf16(b[lane])) << 16);
                    assert_eq!(made.pairs[lane].to_bits(), bits, "{name}: {} {}", a[lane], b[lane]);
                    assert_eq!(made.lower[lane].to_bits(), lower.to_bits(), "{name}");
                    assert_eq!(made.upper[lane].to_bits(), upper.to_bits(), "{name}");
                    let (got, want) = (made.sums[lane], lower * lower + upper * upper + 0.5);
                    let same = got == want || got.is_nan() && want.is_nan() || (got - want).abs() < 1e-6 * want;
                    assert!(same, "{name}: {got} instead of {want}");
                }
            }
        }
    }
}

/// The root mean square of the differences over that of the values.
fn apart(got: &[f32], want: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    (square(&mut got.iter().zip(want).map(|(a, b)| a - b)) / square(&mut want.iter().copied())).sqrt()
}

#[test]
#[cfg_attr(miri, ignore = "arithmetic on large maps")]
fn results_with_16_bit_factors_lie_a_hundredth_apart() {
    let (input, output) = (Layout::new(2, 32, 40, 36), Layout::new(2, 48, 40, 36));
    let mut random = Random::new(5, 0);
    let mut map = |layout: &Layout, least: f64| {
        let values: Vec<f32> = (0..layout.batch() * layout.height() * layout.width() * layout.channels())
            .map(|_| random.uniform(-1.0, 1.0).max(least) as f32)
            .collect();
        let mut map = Buffer::zeros(layout.len());
        layout.pack(&values, map.as_mut_slice());
        map
    };
    let (x, gradient) = (map(&input, 0.0), map(&output, -1.0));
    let weights: Vec<f32> = (0..9 * 32 * 48).map(|_| random.uniform(-1.0, 1.0) as f32).collect();
    for level in Level::available() {
        let run = |method: Method| {
            let mut conv = Conv::new(level, method, 3, &[input], &[output]);
            conv.set_weights(&weights, &[0.1; 48]);
            conv.set_transposed_weights(&weights);
            let (mut y, mut dx) = (Buffer::zeros(output.len()), Buffer::zeros(input.len()));
            conv.forward(&[x.as_slice()], None, None, &mut [y.as_mut_slice()]);
            let destination = Destination { gradient: dx.as_mut_slice(), store: Store::default() };
            conv.input_gradient(&[gradient.as_slice()], &mut [destination]);
            let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; 48]);
            conv.weight_gradient(&[x.as_slice()], &[gradient.as_slice()], &mut dw, &mut db, &mut Buffer::default());
            (y, dx, dw, db)
        };
        let (whole, rounded) = (run(Method::Direct), run(Method::FastBf16));
        let apart = [
            apart(rounded.0.as_slice(), whole.0.as_slice()),
            apart(rounded.1.as_slice(), whole.1.as_slice()),
            apart(&rounded.2, &whole.2),
        ];
        assert!(apart.iter().all(|apart| (0.002..0.015).contains(apart)), "{}: {apart:?}", level.name());
        assert!(self::apart(&rounded.3, &whole.3) < 1e-5, "nothing is rounded in the gradients of biases");
    }
}
