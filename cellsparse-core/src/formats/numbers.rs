//! The element types of foreign arrays, read as 32-bit floats.

/// How one element of an array is stored; little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    F64,
    F32,
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Number {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Number::F64 | Number::I64 => 8,
            Number::F32 | Number::I32 => 4,
            Number::F16 | Number::Bf16 | Number::I16 => 2,
            Number::I8 | Number::U8 | Number::Bool => 1,
        }
    }

    /// Adds all elements of `bytes`, rounded to 32-bit floats.
    pub(super) fn append(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Number::F32 => values.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
            _ => values.extend((0..bytes.len() / self.size()).filter_map(|index| self.read(bytes, index))),
        }
    }

    /// Element `index` of `bytes` rounded to a 32-bit float, or nothing when `bytes` is too short.
    pub(super) fn read(self, bytes: &[u8], index: usize) -> Option<f32> {
        Some(match self {
            Number::F64 => f64::from_le_bytes(element(bytes, index)?) as f32,
            Number::F32 => f32::from_le_bytes(element(bytes, index)?),
            Number::F16 => half(u16::from_le_bytes(element(bytes, index)?)),
            Number::Bf16 => f32::from_bits(u32::from(u16::from_le_bytes(element(bytes, index)?)) << 16),
            Number::I64 => i64::from_le_bytes(element(bytes, index)?) as f32,
            Number::I32 => i32::from_le_bytes(element(bytes, index)?) as f32,
            Number::I16 => f32::from(i16::from_le_bytes(element(bytes, index)?)),
            Number::I8 => f32::from(i8::from_le_bytes(element(bytes, index)?)),
            Number::U8 => f32::from(*bytes.get(index)?),
            Number::Bool => f32::from(u8::from(*bytes.get(index)? != 0)),
        })
    }
}

fn element<const N: usize>(bytes: &[u8], index: usize) -> Option<[u8; N]> {
    let start = index.checked_mul(N)?;
    bytes.get(start..start.checked_add(N)?)?.try_into().ok()
}

/// Writes floats, little-endian, without holding more than a part of them.
pub(super) fn put_floats<'v>(
    writer: &mut (impl std::io::Write + ?Sized),
    values: impl Iterator<Item = &'v f32>,
) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 12);
    for value in values {
        bytes.extend(value.to_le_bytes());
        if bytes.len() == 1 << 12 {
            writer.write_all(&bytes)?;
            bytes.clear();
        }
    }
    writer.write_all(&bytes)
}

/// An IEEE 754 binary16 number; every one of them is a 32-bit float.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 31);
    let fraction = f32::from(bits & 1023);
    match (exponent, bits & 1023) {
        (0, _) => sign * fraction * 2f32.powi(-24),
        (31, 0) => sign * f32::INFINITY,
        (31, _) => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_are_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits).to_bits(), f32::to_bits(value), "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(Number::Bf16.read(&[0, 0, 0x49, 0x40], 1), Some(3.140_625));
    }

    #[test]
    fn elements_beyond_the_end_are_refused() {
        for number in [Number::F64, Number::Bf16, Number::I8, Number::Bool] {
            let bytes = vec![1; 3 * number.size()];
            assert!(number.read(&bytes, 2).is_some());
            assert_eq!(number.read(&bytes, 3), None);
            assert_eq!(number.read(&bytes, usize::MAX), None);
        }
        assert_eq!(Number::I64.read(&(-7_i64).to_le_bytes(), 0), Some(-7.0));
        assert_eq!(Number::Bool.read(&[2], 0), Some(1.0));
    }
}
