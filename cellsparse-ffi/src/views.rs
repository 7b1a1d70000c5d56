//! Borrowed pixels of the caller, checked and copied into the library's own arrays.

use std::ffi::c_void;

use cellsparse_core::{Error, Image, LabelImage, SparseLabels};
use ndarray::{Array2, Array3};

use crate::pointers::array;
use crate::status::{Failure, Outcome};

/// The type of the samples of an image or a label image, in the byte order of the machine.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum cellsparse_dtype {
    /// 8-bit unsigned.
    U8 = 1,
    /// 16-bit unsigned.
    U16 = 2,
    /// 32-bit floating point; images only.
    F32 = 3,
    /// 32-bit signed; label images only.
    I32 = 4,
    /// 32-bit unsigned; label images only.
    U32 = 5,
}

/// What the values of a label image mean.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum cellsparse_encoding {
    /// Below 0 unlabelled (ignored by every loss), 0 background, 1 and up objects.
    Signed = 0,
    /// 0 unlabelled, 1 background, 2 and up objects (id = value - 1).
    Wire = 1,
    /// 0 background, 1 and up objects, nothing unlabelled.
    Dense = 2,
    /// 0 unlabelled, 1 and up objects, no background.
    Cells = 3,
}

/// A borrowed image. Sample (y, x, c) lies at `offset + y * row_stride + x * column_stride + c * channel_stride` bytes
/// behind `data`. Strides may be negative; all three 0 mean rows without gaps, channel last.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_image {
    /// The buffer; need not be aligned.
    pub data: *const c_void,
    /// Bytes that may be read behind `data`; every sample must lie within.
    pub size: usize,
    /// Bytes from `data` to the first sample.
    pub offset: usize,
    /// A cellsparse_dtype: U8, U16 or F32.
    pub dtype: u32,
    /// Rows, at least 1.
    pub height: usize,
    /// Columns, at least 1.
    pub width: usize,
    /// Channels, at least 1.
    pub channels: usize,
    /// Bytes from one row to the next.
    pub row_stride: isize,
    /// Bytes from one column to the next.
    pub column_stride: isize,
    /// Bytes from one channel to the next.
    pub channel_stride: isize,
}

/// A borrowed label image, laid out as a cellsparse_image of one channel.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cellsparse_labels {
    /// The buffer; need not be aligned.
    pub data: *const c_void,
    /// Bytes that may be read behind `data`; every value must lie within.
    pub size: usize,
    /// Bytes from `data` to the first value.
    pub offset: usize,
    /// A cellsparse_dtype: U8, U16, I32 or U32.
    pub dtype: u32,
    /// A cellsparse_encoding.
    pub encoding: u32,
    /// Rows, at least 1.
    pub height: usize,
    /// Columns, at least 1.
    pub width: usize,
    /// Bytes from one row to the next.
    pub row_stride: isize,
    /// Bytes from one column to the next.
    pub column_stride: isize,
}

impl cellsparse_image {
    /// The image as the library's own.
    ///
    /// # Safety
    /// `data` is NULL or points to `size` readable bytes.
    pub(crate) unsafe fn to_image(self) -> Outcome<Image> {
        // SAFETY: as this function's own contract.
        let bytes = unsafe { array(self.data.cast::<u8>(), self.size, "the data of the image") }?;
        let place = StridedSamples {
            shape: [self.height, self.width, self.channels],
            strides: [self.row_stride, self.column_stride, self.channel_stride],
            offset: self.offset,
        };
        if self.data.is_null() {
            return Err(Failure::null("the data of the image"));
        }
        let [height, width, channels] = place.shape;
        if height == 0 || width == 0 || channels == 0 {
            return Err(Error::Image(format!(
                "it has {height} rows, {width} columns and {channels} channels; every one of them must be at least 1"
            ))
            .into());
        }
        let shape = (height, width, channels);
        let fit = |error: ndarray::ShapeError| Failure::internal(error);
        match self.dtype {
            U8 => Ok(Image::U8(Array3::from_shape_vec(shape, place.read(bytes, u8::from_ne_bytes)?).map_err(fit)?)),
            U16 => Ok(Image::U16(Array3::from_shape_vec(shape, place.read(bytes, u16::from_ne_bytes)?).map_err(fit)?)),
            F32 => Ok(Image::F32(Array3::from_shape_vec(shape, place.read(bytes, f32::from_ne_bytes)?).map_err(fit)?)),
            other => Err(Failure::argument(format!(
                "an image has the dtype {other}; images are CELLSPARSE_DTYPE_U8, _U16 or _F32 (1, 2, 3)"
            ))),
        }
    }
}

impl cellsparse_labels {
    /// The values as they stand.
    ///
    /// # Safety
    /// `data` is NULL or points to `size` readable bytes.
    unsafe fn values(&self) -> Outcome<Values> {
        // SAFETY: as this function's own contract.
        let bytes = unsafe { array(self.data.cast::<u8>(), self.size, "the data of the labels") }?;
        let place = StridedSamples {
            shape: [self.height, self.width, 1],
            strides: [self.row_stride, self.column_stride, 0],
            offset: self.offset,
        };
        if self.data.is_null() {
            return Err(Failure::null("the data of the labels"));
        }
        let (height, width) = (self.height, self.width);
        if height == 0 || width == 0 {
            let reason = format!("the label image has {height} rows and {width} columns, so no pixels");
            return Err(Error::Labels(reason).into());
        }
        let shape = (height, width);
        let fit = |error: ndarray::ShapeError| Failure::internal(error);
        let unsigned = |values: Vec<u32>| Array2::from_shape_vec(shape, values).map(Values::Unsigned).map_err(fit);
        match self.dtype {
            U8 => unsigned(place.read(bytes, |[byte]| u32::from(byte))?),
            U16 => unsigned(place.read(bytes, |value| u32::from(u16::from_ne_bytes(value)))?),
            U32 => unsigned(place.read(bytes, u32::from_ne_bytes)?),
            I32 => {
                Array2::from_shape_vec(shape, place.read(bytes, i32::from_ne_bytes)?).map(Values::Signed).map_err(fit)
            }
            other => Err(Failure::argument(format!(
                "a label image has the dtype {other}; label images are CELLSPARSE_DTYPE_U8, _U16, _I32 or _U32 (1, 2, 4, 5)"
            ))),
        }
    }

    /// The labels for training.
    ///
    /// # Safety
    /// `data` is NULL or points to `size` readable bytes.
    pub(crate) unsafe fn to_sparse_labels(self) -> Outcome<SparseLabels> {
        // SAFETY: as this function's own contract.
        let labels = match (unsafe { self.values() }?, self.encoding) {
            (Values::Signed(values), SIGNED) => SparseLabels::from_signed(values),
            (Values::Unsigned(values), SIGNED | DENSE) => SparseLabels::from_dense(values),
            (Values::Signed(values), DENSE) => SparseLabels::from_dense(unsigned(&values)?),
            (Values::Unsigned(values), WIRE) => SparseLabels::from_wire(values),
            (Values::Signed(values), WIRE) => SparseLabels::from_wire(unsigned(&values)?),
            (Values::Unsigned(values), CELLS) => SparseLabels::from_cells(values),
            (Values::Signed(values), CELLS) => SparseLabels::from_cells(unsigned(&values)?),
            (_, other) => return Err(unknown_encoding(other)),
        };
        Ok(labels?)
    }

    /// The labels to measure or to outline: below 0 unlabelled, 0 background, 1 and up objects.
    ///
    /// # Safety
    /// `data` is NULL or points to `size` readable bytes.
    pub(crate) unsafe fn to_label_image(self) -> Outcome<LabelImage> {
        let shift = match self.encoding {
            SIGNED | DENSE | CELLS => 0,
            WIRE => 1,
            other => return Err(unknown_encoding(other)),
        };
        // SAFETY: as this function's own contract.
        let values = match unsafe { self.values() }? {
            Values::Signed(values) if self.encoding == SIGNED => return Ok(values),
            Values::Signed(values) => unsigned(&values)?,
            Values::Unsigned(values) => values,
        };
        if let Some(value) = values.iter().find(|value| i64::from(**value) - shift > i64::from(i32::MAX)) {
            return Err(Error::Labels(format!("the value {value} is too large; number the objects from 1")).into());
        }
        let unlabelled = if self.encoding == CELLS { -1 } else { -(shift as i32) };
        Ok(values.mapv(|value| if value == 0 { unlabelled } else { (i64::from(value) - shift) as i32 }))
    }
}

const U8: u32 = cellsparse_dtype::U8 as u32;
const U16: u32 = cellsparse_dtype::U16 as u32;
const F32: u32 = cellsparse_dtype::F32 as u32;
const I32: u32 = cellsparse_dtype::I32 as u32;
const U32: u32 = cellsparse_dtype::U32 as u32;
const SIGNED: u32 = cellsparse_encoding::Signed as u32;
const WIRE: u32 = cellsparse_encoding::Wire as u32;
const DENSE: u32 = cellsparse_encoding::Dense as u32;
const CELLS: u32 = cellsparse_encoding::Cells as u32;

enum Values {
    Signed(Array2<i32>),
    Unsigned(Array2<u32>),
}

fn unsigned(values: &Array2<i32>) -> Outcome<Array2<u32>> {
    if let Some(((y, x), value)) = values.indexed_iter().find(|(_, value)| **value < 0) {
        let reason = format!(
            "the pixel at row {y}, column {x} has the value {value}; only CELLSPARSE_ENCODING_SIGNED has negative values"
        );
        return Err(Error::Labels(reason).into());
    }
    Ok(values.mapv(i32::unsigned_abs))
}

fn unknown_encoding(encoding: u32) -> Failure {
    Failure::argument(format!(
        "a label image has the encoding {encoding}; there are CELLSPARSE_ENCODING_SIGNED, _WIRE, _DENSE and _CELLS (0 to 3)"
    ))
}

/// Where samples lie in a buffer, in bytes.
struct StridedSamples {
    shape: [usize; 3],
    strides: [isize; 3],
    offset: usize,
}

impl StridedSamples {
    /// All samples, channel fastest, from a buffer that holds them.
    fn read<T, const N: usize>(&self, bytes: &[u8], sample: impl Fn([u8; N]) -> T) -> Outcome<Vec<T>> {
        let strides = self.checked_strides(bytes.len(), N)?;
        let [height, width, channels] = self.shape;
        let count = height.checked_mul(width).and_then(|count| count.checked_mul(channels));
        let too_large = || Error::Limit(format!("an image of {height} x {width} x {channels} samples is too large"));
        let count = count.ok_or_else(too_large)?;
        if count > bytes.len() / N {
            return Err(Failure::argument(format!(
                "{height} x {width} x {channels} samples of {N} bytes in a buffer of {} bytes overlap; correct the strides",
                bytes.len()
            )));
        }
        let mut samples = Vec::new();
        samples.try_reserve_exact(count).map_err(|_| too_large())?;
        // By the check of the extreme samples, all of them lie within the buffer, so these numbers fit.
        let outside = || Failure::internal("a sample outside of its buffer");
        let from = |at: isize| usize::try_from(at).ok().and_then(|at| bytes.get(at..)).ok_or_else(outside);
        let [next_row, next_column, next_channel] = strides;
        let in_one_piece =
            (channels == 1 || next_channel == N as isize) && (width == 1 || next_column == (channels * N) as isize);
        let mut row_at = isize::try_from(self.offset).map_err(Failure::internal)?;
        for _ in 0..height {
            if in_one_piece {
                let row = from(row_at)?.get(..width * channels * N).ok_or_else(outside)?;
                samples.extend(row.as_chunks::<N>().0.iter().map(|bytes| sample(*bytes)));
            } else {
                let mut column_at = row_at;
                for _ in 0..width {
                    let mut at = column_at;
                    for _ in 0..channels {
                        samples.push(sample(*from(at)?.first_chunk::<N>().ok_or_else(outside)?));
                        at = at.wrapping_add(next_channel);
                    }
                    column_at = column_at.wrapping_add(next_column);
                }
            }
            row_at = row_at.wrapping_add(next_row);
        }
        Ok(samples)
    }

    /// The strides, once the extreme samples are known to lie within `size` bytes.
    fn checked_strides(&self, size: usize, item: usize) -> Outcome<[isize; 3]> {
        let shape = self.shape.map(|extent| extent as i128);
        let overflow = || Failure::argument("the strides and the shape reach further than any buffer");
        let strides = if self.strides == [0; 3] {
            let item = item as i128;
            let column = shape[2].checked_mul(item).ok_or_else(overflow)?;
            [shape[1].checked_mul(column).ok_or_else(overflow)?, column, item]
        } else {
            self.strides.map(|stride| stride as i128)
        };
        let (mut low, mut high) = (self.offset as i128, self.offset as i128);
        for (axis, (extent, stride)) in shape.into_iter().zip(strides).enumerate() {
            if stride == 0 && extent > 1 {
                let name = ["row_stride", "column_stride", "channel_stride"][axis];
                return Err(Failure::argument(format!("{name} is 0 for {extent} samples; give all strides or none")));
            }
            let reach = (extent - 1).checked_mul(stride).ok_or_else(overflow)?;
            low = low.checked_add(reach.min(0)).ok_or_else(overflow)?;
            high = high.checked_add(reach.max(0)).ok_or_else(overflow)?;
        }
        let end = high.checked_add(item as i128).ok_or_else(overflow)?;
        if low < 0 || end > size as i128 {
            return Err(Failure::argument(format!(
                "the shape {} x {} x {} of {item}-byte samples with its strides reaches over bytes {low} to {end} of the \
                 buffer, which has {size} bytes",
                self.shape[0], self.shape[1], self.shape[2]
            )));
        }
        // A stride that is not followed may be any number.
        Ok(std::array::from_fn(|axis| if shape[axis] > 1 { strides[axis] as isize } else { 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(shape: [usize; 3], strides: [isize; 3], offset: usize, bytes: &[u8]) -> Outcome<Vec<u16>> {
        StridedSamples { shape, strides, offset }.read(bytes, u16::from_ne_bytes)
    }

    #[test]
    fn strides_choose_the_samples() {
        let values: Vec<u16> = (0..12).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        assert_eq!(read([2, 3, 2], [0; 3], 0, &bytes).unwrap(), values);
        assert_eq!(read([2, 2, 1], [6, 2, 2], 2, &bytes).unwrap(), [1, 2, 4, 5]);
        assert_eq!(read([2, 3, 1], [-6, 2, 2], 6, &bytes).unwrap(), [3, 4, 5, 0, 1, 2], "bottom-up");
        assert_eq!(read([2, 2, 2], [2, 4, 12], 0, &bytes).unwrap(), [0, 6, 2, 8, 1, 7, 3, 9], "any order of the axes");
        assert_eq!(read([1, 1, 1], [0; 3], 3, &bytes).unwrap().len(), 1, "samples need not be aligned");
        assert_eq!(
            read([1, 2, 1], [isize::MIN, 2, isize::MAX], 2, &bytes).unwrap(),
            [1, 2],
            "strides that lead nowhere"
        );
    }

    #[test]
    fn every_layout_is_read_alike() {
        let bytes: Vec<u8> = (0..240).collect();
        let at = |at: isize| u16::from_ne_bytes([bytes[at as usize], bytes[at as usize + 1]]);
        let mut layouts = 0;
        for shape in [[2, 3, 2], [3, 1, 2], [2, 4, 1], [1, 3, 3], [1, 1, 1]] {
            for strides in [[24, 4, 2], [-24, 4, 2], [24, -6, 2], [7, 40, 3], [40, 2, 80], [12, 2, 2], [16, 5, -2]] {
                let offset = 100;
                let mut expected = Vec::new();
                for y in 0..shape[0] as isize {
                    for x in 0..shape[1] as isize {
                        for c in 0..shape[2] as isize {
                            expected.push(offset + y * strides[0] + x * strides[1] + c * strides[2]);
                        }
                    }
                }
                if expected.iter().all(|at| (0..239).contains(at)) {
                    let expected: Vec<u16> = expected.into_iter().map(at).collect();
                    assert_eq!(
                        read(shape, strides, offset as usize, &bytes).unwrap(),
                        expected,
                        "{shape:?} {strides:?}"
                    );
                    layouts += 1;
                }
            }
        }
        assert!(layouts > 20, "{layouts}");
    }

    #[test]
    fn what_reaches_out_of_the_buffer_is_refused() {
        let bytes = [0; 24];
        for (shape, strides, offset) in [
            ([2, 3, 3], [0; 3], 0),
            ([2, 3, 2], [0; 3], 1),
            ([2, 3, 1], [-6, 2, 2], 5),
            ([2, 3, 1], [20, 2, 2], 0),
            ([usize::MAX, usize::MAX, usize::MAX], [0; 3], 0),
            ([usize::MAX, 1, 1], [isize::MAX, 1, 1], usize::MAX),
            ([2, 2, 1], [0, 2, 2], 0),
            ([1 << 62, 1, 1], [isize::MIN, 1, 1], 0),
        ] {
            let failure = read(shape, strides, offset, &bytes).unwrap_err();
            assert_eq!(failure.status, crate::cellsparse_status::InvalidArgument, "{}", failure.message);
        }
    }
}
