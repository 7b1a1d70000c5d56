//! NumPy's `.npy` files: label arrays, and the pickled dictionary of Cellpose's `_seg.npy`.
//!
//! Source of the layout: NEP 1 (`numpy.lib.format`), and how NumPy pickles arrays and dtypes.

use ndarray::{Array2, s};

use super::object_pickle::{self, Pickle, Value};
use crate::annotations::LabelSource;
use crate::budget::{Budget, array, bytes_of};
use crate::raster::RawLabels;

/// Whether the bytes begin as a `.npy` file does.
pub(super) fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x93NUMPY")
}

/// Reads a label array, or the `masks` of a Cellpose file.
pub(super) fn read(bytes: &[u8]) -> Result<LabelSource, String> {
    let (header, data) = split(bytes).ok_or("its header is cut off")?;
    let header = Header::parse(header).ok_or("its header is not one that NumPy writes")?;
    if header.dtype != "|O" {
        return labels(&header, data).map(LabelSource::Values);
    }
    let (pickle, root) = object_pickle::read(data)?;
    let array = pickle.object(root).ok_or("it holds Python objects other than an array")?;
    let dict = pickle.items(array.state).get(4).and_then(|list| pickle.items(*list).first().copied());
    let masks = dict.and_then(|dict| pickle.get(dict, "masks"));
    let masks = masks.ok_or("it holds Python objects, but no 'masks' as the files of Cellpose do")?;
    let (header, data) = pickled_array(&pickle, masks).ok_or("its 'masks' are no array of numbers")?;
    labels(&header, data).map(LabelSource::Instances)
}

/// The text of the header and the data behind it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, start): (usize, usize) = match *bytes.get(6)? {
        1 => (usize::from(u16::from_le_bytes(bytes.get(8..10)?.try_into().ok()?)), 10),
        2 | 3 => (u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize, 12),
        _ => return None,
    };
    let end = start.checked_add(length)?;
    Some((std::str::from_utf8(bytes.get(start..end)?).ok()?, bytes.get(end..)?))
}

/// What an array is made of.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// Byte order, kind and width: `<u2`.
    pub(super) dtype: String,
    /// Whether the first axis varies fastest.
    pub(super) fortran: bool,
    /// The lengths of the axes.
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// From the literal `{'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}':"))?;
            Some(rest.trim_start())
        };
        let dtype = value("descr")?.strip_prefix('\'')?.split('\'').next()?.to_string();
        let fortran = value("fortran_order")?.starts_with("True");
        let shape = value("shape")?.strip_prefix('(')?.split(')').next()?;
        let sides = shape.split(',').map(|side| side.trim().trim_end_matches('L')).filter(|side| !side.is_empty());
        Some(Self { dtype, fortran, shape: sides.map(|side| side.parse().ok()).collect::<Option<_>>()? })
    }
}

/// An array that was pickled by itself.
fn pickled_array<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Option<(Header, &'a [u8])> {
    let object = pickle.object(value)?;
    let (data, dtype, shape, fortran) = match object.callee {
        Value::Global(_, "_reconstruct") => match *pickle.items(object.state) {
            [_, shape, dtype, fortran, data] => (data, dtype, shape, fortran == Value::Bool(true)),
            _ => return None,
        },
        Value::Global(_, "_frombuffer") => match *pickle.items(object.arguments) {
            [data, dtype, shape, order] => (data, dtype, shape, order == Value::Text("F")),
            _ => return None,
        },
        _ => return None,
    };
    let side = |side: &Value<'_>| if let Value::Int(side) = side { usize::try_from(*side).ok() } else { None };
    let shape = pickle.items(shape).iter().map(side).collect::<Option<_>>()?;
    let dtype = pickle.object(dtype)?;
    let Some(Value::Text(kind)) = pickle.items(dtype.arguments).first() else { return None };
    let order = match pickle.items(dtype.state).get(1) {
        Some(Value::Text(order)) => *order,
        _ => "|",
    };
    let Value::Bytes(data) = data else { return None };
    Some((Header { dtype: format!("{order}{kind}"), fortran, shape }, data))
}

/// The values of a two-dimensional array; axes of length 1 are left out.
pub(super) fn labels(header: &Header, data: &[u8]) -> Result<RawLabels, String> {
    let mut shape = header.shape.clone();
    while shape.len() > 2 && shape.contains(&1) {
        shape.remove(shape.iter().position(|side| *side == 1).unwrap_or(0));
    }
    let [rows, columns] = shape[..] else {
        return Err(format!("its array has the shape {:?}; a label image has two axes", header.shape));
    };
    let (kind, width) = match header.dtype.as_bytes() {
        [order, kind @ (b'u' | b'i' | b'f' | b'b'), width @ b'1'..=b'8'] => {
            ((*order, *kind), usize::from(width - b'0'))
        }
        _ => {
            return Err(format!(
                "its array has the type '{}'; labels are whole numbers",
                super::shortened(&header.dtype)
            ));
        }
    };
    let count =
        rows.checked_mul(columns).filter(|count| count.checked_mul(width).is_some_and(|size| size <= data.len()));
    let count = count.ok_or("its array is cut off")?;
    let value = |bytes: &[u8]| -> Option<i64> {
        let mut wide = [0_u8; 8];
        let little = kind.0 != b'>';
        for (at, byte) in bytes.iter().enumerate() {
            wide[if little { at } else { bytes.len() - 1 - at }] = *byte;
        }
        let bits = u64::from_le_bytes(wide);
        let shift = 64 - 8 * bytes.len() as u32;
        match (kind.1, bytes.len()) {
            (b'i', _) => Some(((bits << shift) as i64) >> shift),
            (b'f', 4) => whole(f64::from(f32::from_bits(bits as u32))),
            (b'f', 8) => whole(f64::from_bits(bits)),
            (b'f', _) => None,
            _ => i64::try_from(bits).ok(),
        }
    };
    let data = &data[..count * width];
    let (mut low, mut high) = (0, 0);
    for bytes in data.chunks_exact(width) {
        let number =
            value(bytes).ok_or("its array holds numbers that are not whole or too large; labels are whole numbers")?;
        (low, high) = (number.min(low), number.max(high));
    }
    let is_signed = kind.1 == b'i' || low < 0;
    let within = if is_signed { i64::from(i32::MIN)..=i64::from(i32::MAX) } else { 0..=i64::from(u32::MAX) };
    if !(within.contains(&low) && within.contains(&high)) {
        return Err("its array holds numbers beyond 32 bits; number the cells from 1".into());
    }
    let number = |row: usize, column: usize| {
        let index = if header.fortran { column * rows + row } else { row * columns + column };
        value(&data[index * width..(index + 1) * width]).unwrap_or_default()
    };
    Ok(match is_signed {
        true => RawLabels::Signed(gathered([rows, columns], |row, column| number(row, column) as i32)?),
        false => RawLabels::Unsigned(gathered([rows, columns], |row, column| number(row, column) as u32)?),
    })
}

/// Sides of the squares in which an array is gathered, so that either order of its axes is read from few places at a time.
const SQUARE: usize = 64;

/// The array of what `number` tells of each row and column.
fn gathered<T: Clone + Default>(
    [rows, columns]: [usize; 2],
    number: impl Fn(usize, usize) -> T,
) -> Result<Array2<T>, String> {
    Budget::of_free_memory()
        .require(
            bytes_of(&[rows, columns], size_of::<T>() as u64),
            format_args!("a label image of {rows} x {columns} pixels"),
            "cut it into parts",
        )
        .map_err(|error| error.message())?;
    let mut values: Array2<T> = array((rows, columns), "a label image").map_err(|error| error.message())?;
    for (top, left) in
        (0..rows).step_by(SQUARE).flat_map(|top| (0..columns).step_by(SQUARE).map(move |left| (top, left)))
    {
        let places = s![top..(top + SQUARE).min(rows), left..(left + SQUARE).min(columns)];
        for ((row, column), value) in values.slice_mut(places).indexed_iter_mut() {
            *value = number(top + row, left + column);
        }
    }
    Ok(values)
}

fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_the_same_in_either_order_and_of_every_type() {
        let (rows, columns) = (SQUARE + 7, 2 * SQUARE + 3);
        let number = |row: usize, column: usize| row * 1000 + column;
        for fortran in [false, true] {
            let numbers = (0..rows * columns).map(|at| match fortran {
                true => number(at % rows, at / rows),
                false => number(at / columns, at % columns),
            });
            let of = |dtype: &str, data: Vec<u8>| {
                let header = Header { dtype: dtype.into(), fortran, shape: vec![rows, columns] };
                labels(&header, &data)
            };
            let unsigned = of("<u4", numbers.clone().flat_map(|number| (number as u32).to_le_bytes()).collect());
            let Ok(RawLabels::Unsigned(unsigned)) = unsigned else { panic!("{unsigned:?}") };
            assert_eq!(unsigned, Array2::from_shape_fn((rows, columns), |(row, column)| number(row, column) as u32));
            let below = |number: usize| number as i64 - 1;
            let signed = of(">i8", numbers.clone().flat_map(|number| below(number).to_be_bytes()).collect());
            let Ok(RawLabels::Signed(signed)) = signed else { panic!("{signed:?}") };
            assert_eq!(signed, unsigned.mapv(|value| value as i32 - 1));
            let real = of("<f4", numbers.clone().flat_map(|number| (below(number) as f32).to_le_bytes()).collect());
            assert!(matches!(real, Ok(RawLabels::Signed(real)) if real == signed));
            let beyond = of("<u8", numbers.clone().flat_map(|number| ((number as u64) << 20).to_le_bytes()).collect());
            assert!(beyond.unwrap_err().contains("beyond 32 bits"));
            let parts = of("<f8", numbers.flat_map(|number| (number as f64 / 3.0).to_le_bytes()).collect());
            assert!(parts.unwrap_err().contains("whole"));
        }
    }
}
