//! Values that a number of 16 bits can hold.

/// The bits of the nearest bfloat16 (1 bit of sign, 8 of exponent, 7 of fraction), and of the one whose last bit is 0 between two. NaN stays
/// NaN; what lies beyond the largest of them becomes infinite.
///
/// They are the upper half of the bits, after half of the last of them was added: what is cut off is less than half a step then.
pub(super) fn nearest_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = if value.is_nan() { bits | 0x0040_0000 } else { bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) };
    (rounded >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(value: f32) -> f32 {
        f32::from_bits(u32::from(nearest_bf16(value)) << 16)
    }

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
            assert_eq!(rounded(value).to_bits(), expected.to_bits(), "{value}");
        }
        for strange in [f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            assert!(rounded(strange).is_nan());
        }
    }
}
