//! Values that a number of 16 bits can hold.

use super::parallel::{Shared, for_each_job};

/// Values of one job.
const PART: usize = 1 << 16;

/// Rounds every value to the nearest bfloat16 (1 bit of sign, 8 of exponent, 7 of fraction), and to the one whose last bit is 0
/// between two. NaN stays NaN; what lies beyond the largest of them becomes infinite.
pub fn round_to_bf16(values: &mut [f32]) {
    let (len, shared) = (values.len(), Shared::new(values));
    for_each_job(len.div_ceil(PART), |index| {
        let at = index * PART;
        // SAFETY: every job has a range of its own.
        let part = unsafe { shared.slice(at, PART.min(len - at)) };
        part.iter_mut().for_each(|value| *value = nearest_bf16(*value));
    });
}

/// The upper half of the bits, after half of the last of them was added: what is cut off is less than half a step then.
fn nearest_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(if value.is_nan() { bits | 0x0040_0000 } else { rounded })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_the_nearest_with_seven_bits_of_fraction() {
        let step = 2.0_f32.powi(-7);
        let cases = [
            (0.0, 0.0),
            (-0.0, -0.0),
            (1.0, 1.0),
            (1.0 + 0.49 * step, 1.0),
            (1.0 + 0.51 * step, 1.0 + step),
            // Between two, the even one.
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (-1.0 - 1.5 * step, -1.0 - 2.0 * step),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (1e-40, f32::from_bits(0x0001_0000)),
        ];
        for (value, expected) in cases {
            let mut values = [value];
            round_to_bf16(&mut values);
            assert_eq!(values[0].to_bits(), expected.to_bits(), "{value}");
        }
        let mut strange = [f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)];
        round_to_bf16(&mut strange);
        assert!(strange.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn long_slices_are_rounded_to_their_end_by_any_number_of_threads() {
        let values: Vec<f32> = (0..3 * PART + 17).map(|k| (k as f32).sqrt()).collect();
        let expected: Vec<f32> = values.iter().map(|value| nearest_bf16(*value)).collect();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut rounded = values.clone();
            pool.install(|| round_to_bf16(&mut rounded));
            assert_eq!(rounded, expected);
        }
    }
}
