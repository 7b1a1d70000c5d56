//! The numbers of an array: their types in zarr 2 and 3, and what a chunk that is not there holds.

use half::f16;
use serde_json::Value;

use super::super::{Decoded, Problem};

/// How bytes make a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 0 is no, everything else yes.
    Bool,
    Unsigned,
    Signed,
    Float,
}

/// The type of the numbers of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DataType {
    pub(super) kind: Kind,
    /// Bytes of a number: 1, 2, 4 or 8.
    pub(super) size: usize,
    /// The highest byte comes first.
    pub(super) big_endian: bool,
}

impl DataType {
    /// A type of zarr 2, in the notation of NumPy: `<u2`, `|u1`, `>f4`.
    pub(super) fn of_version_2(value: &Value) -> Decoded<Self> {
        let text = value.as_str().ok_or_else(|| refused(&value.to_string()))?;
        let (order, rest) = match text.chars().next() {
            Some(order @ ('<' | '>' | '|' | '=')) => (order, &text[1..]),
            _ => ('|', text),
        };
        let kind = match rest.chars().next() {
            Some('b') => Kind::Bool,
            Some('u') => Kind::Unsigned,
            Some('i') => Kind::Signed,
            Some('f') => Kind::Float,
            _ => return Err(refused(text)),
        };
        let size = rest[1..].parse().map_err(|_| refused(text))?;
        Self { kind, size, big_endian: order == '>' }.checked(text)
    }

    /// A type of zarr 3: `uint16`, `float32`. The order of bytes is a codec's.
    pub(super) fn of_version_3(value: &Value) -> Decoded<Self> {
        let text = value.as_str().ok_or_else(|| refused(&value.to_string()))?;
        let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let (name, bits) = text.split_at(digits);
        let kind = match name {
            "bool" => Kind::Bool,
            "uint" => Kind::Unsigned,
            "int" => Kind::Signed,
            "float" => Kind::Float,
            _ => return Err(refused(text)),
        };
        let bits: usize =
            if kind == Kind::Bool && bits.is_empty() { 8 } else { bits.parse().map_err(|_| refused(text))? };
        let whole = bits.is_multiple_of(8);
        Self { kind, size: if whole { bits / 8 } else { 0 }, big_endian: false }.checked(text)
    }

    fn checked(self, text: &str) -> Decoded<Self> {
        let sizes: &[usize] = match self.kind {
            Kind::Bool => &[1],
            Kind::Unsigned | Kind::Signed => &[1, 2, 4, 8],
            Kind::Float => &[2, 4, 8],
        };
        if sizes.contains(&self.size) { Ok(self) } else { Err(refused(text)) }
    }

    /// The bytes of the number in chunks that are not there, as they would be stored. Nothing, as zarr 2 has it, is 0.
    pub(super) fn fill(self, value: &Value) -> Decoded<[u8; 8]> {
        let odd = || {
            let text: String = value.to_string().chars().take(40).collect();
            Problem::unusable(format!("has the fill value {text}, which is none of its numbers"))
        };
        let mut bits = match value {
            Value::Null => 0,
            Value::Bool(yes) if self.kind == Kind::Bool => u64::from(*yes),
            Value::String(text) if text.starts_with("0x") && self.kind == Kind::Float => {
                u64::from_str_radix(&text[2..], 16).map_err(|_| odd())?
            }
            Value::String(text) if self.kind == Kind::Float => self.float_bits(match text.as_str() {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                number => number.parse().map_err(|_| odd())?,
            }),
            Value::Number(number) if self.kind == Kind::Float => self.float_bits(number.as_f64().ok_or_else(odd)?),
            Value::Number(number) => {
                // Some writers give whole numbers a fraction.
                let whole = number.as_f64().filter(|value| value.fract() == 0.0).map(|value| value as i128);
                let whole =
                    number.as_u64().map(i128::from).or(number.as_i64().map(i128::from)).or(whole).ok_or_else(odd)?;
                let bits = 8 * self.size as u32;
                let range = match self.kind {
                    Kind::Bool => 0..=1,
                    Kind::Signed => -(1_i128 << (bits - 1))..=(1_i128 << (bits - 1)) - 1,
                    Kind::Unsigned | Kind::Float => 0..=(1_i128 << bits) - 1,
                };
                if !range.contains(&whole) {
                    return Err(odd());
                }
                whole as u64
            }
            _ => return Err(odd()),
        }
        .to_le_bytes();
        if self.big_endian {
            bits[..self.size].reverse();
        }
        Ok(bits)
    }

    fn float_bits(self, value: f64) -> u64 {
        match self.size {
            2 => u64::from(f16::from_f64(value).to_bits()),
            4 => u64::from((value as f32).to_bits()),
            _ => value.to_bits(),
        }
    }
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Bool => write!(f, "bool"),
            Kind::Unsigned => write!(f, "uint{}", 8 * self.size),
            Kind::Signed => write!(f, "int{}", 8 * self.size),
            Kind::Float => write!(f, "float{}", 8 * self.size),
        }
    }
}

fn refused(found: &str) -> Problem {
    let found: String = found.chars().take(60).collect();
    Problem::unusable(format!(
        "has numbers of the type {}; whole numbers and floats of 8 to 64 bits are read",
        found.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_of_both_versions() {
        for (two, three, shown) in [
            ("|u1", "uint8", "uint8"),
            ("<u2", "uint16", "uint16"),
            ("<i4", "int32", "int32"),
            ("<f8", "float64", "float64"),
            ("|b1", "bool", "bool"),
            ("<f2", "float16", "float16"),
        ] {
            let (two, three) =
                (DataType::of_version_2(&json!(two)).unwrap(), DataType::of_version_3(&json!(three)).unwrap());
            assert_eq!((two, three.to_string()), (three, shown.to_string()));
        }
        assert!(DataType::of_version_2(&json!(">u2")).unwrap().big_endian);
        for wrong in
            [json!("<c8"), json!("|S3"), json!("<u3"), json!("u"), json!(""), json!([["a", "<u2"]]), json!("<é")]
        {
            assert!(DataType::of_version_2(&wrong).is_err(), "{wrong}");
        }
        for wrong in
            [json!("complex64"), json!("uint"), json!("float8"), json!("r16"), json!({"name": "x"}), json!("int12")]
        {
            assert!(DataType::of_version_3(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fill_values_are_numbers_of_the_type() {
        let fill = |kind: &str, value: Value| DataType::of_version_2(&json!(kind)).unwrap().fill(&value).ok();
        let le = |number: u64| Some(number.to_le_bytes());
        assert_eq!(fill("<u2", json!(null)), le(0));
        assert_eq!(fill("<u2", json!(258)), le(258));
        assert_eq!(fill(">u2", json!(258)), Some([1, 2, 0, 0, 0, 0, 0, 0]));
        assert_eq!(fill("<u2", json!(7.0)), le(7));
        assert_eq!(fill("|i1", json!(-1)).map(|bytes| bytes[0]), Some(255));
        assert_eq!(fill("<f4", json!("NaN")), le(u64::from(f32::NAN.to_bits())));
        assert_eq!(fill("<f4", json!("0x7fc00000")), le(0x7fc0_0000));
        assert_eq!(fill("<f4", json!(1)), le(0x3f80_0000));
        assert_eq!(fill("|b1", json!(true)), le(1));
        for (kind, value) in
            [("|u1", json!(256)), ("|u1", json!(-1)), ("|u1", json!("AA==")), ("|u1", json!(0.5)), ("<f4", json!([]))]
        {
            assert_eq!(fill(kind, value.clone()), None, "{kind} {value}");
        }
    }
}
