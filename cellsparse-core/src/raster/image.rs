//! The two kinds of raster that everything else speaks of.

use ndarray::{Array2, Array3, ArrayView3, Axis};

use crate::budget::{copied, mapped};
use crate::error::{Error, Result};

/// A label image `[H, W]`: `< 0` unlabelled, `0` background, `>= 1` instance id. Ids need not be consecutive.
pub type LabelImage = Array2<i32>;

/// An image `[H, W, C]`, channel last, in the sample type of its file. A grey image has `C = 1`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Image {
    /// 8-bit unsigned samples.
    U8(Array3<u8>),
    /// 16-bit unsigned samples.
    U16(Array3<u16>),
    /// 32-bit floating point samples.
    F32(Array3<f32>),
}

impl Image {
    /// A grey image `[H, W]` of 32-bit samples.
    pub fn from_gray(pixels: Array2<f32>) -> Self {
        Image::F32(pixels.insert_axis(Axis(2)))
    }

    /// Rows, columns and channels.
    pub fn shape(&self) -> (usize, usize, usize) {
        match self {
            Image::U8(pixels) => pixels.dim(),
            Image::U16(pixels) => pixels.dim(),
            Image::F32(pixels) => pixels.dim(),
        }
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.shape().0
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.shape().1
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.shape().2
    }

    /// The samples as 32-bit floats, unscaled (255 stays 255).
    pub fn to_f32(&self) -> Array3<f32> {
        match self {
            Image::U8(pixels) => pixels.mapv(f32::from),
            Image::U16(pixels) => pixels.mapv(f32::from),
            Image::F32(pixels) => pixels.clone(),
        }
    }

    /// [`to_f32`](Self::to_f32), or a refusal where there is no memory for it.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn try_to_f32(&self) -> Result<Array3<f32>> {
        let what = "an image as floats";
        match self {
            Image::U8(pixels) => mapped(pixels.view(), what, f32::from),
            Image::U16(pixels) => mapped(pixels.view(), what, f32::from),
            Image::F32(pixels) => copied(pixels.view(), what),
        }
    }

    /// Refuses an image without pixels, or with samples that are not finite.
    ///
    /// # Errors
    /// [`Error::Image`] that names the offending size or the first offending pixel.
    pub fn check(&self) -> Result<()> {
        let (height, width, channels) = self.shape();
        if height == 0 || width == 0 || channels == 0 {
            return Err(Error::Image(format!(
                "it has {height} rows, {width} columns and {channels} channels; every one of them must be at least 1"
            )));
        }
        if let Image::F32(pixels) = self {
            check_finite(pixels.view())?;
        }
        Ok(())
    }
}

/// The values of a label file as they stand in it. What they mean is a separate question, see
/// [`LabelEncoding`](crate::annotations::LabelEncoding).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawLabels {
    /// `[H, W]` from a file of unsigned samples, palette indices, or whole non-negative floats.
    Unsigned(Array2<u32>),
    /// `[H, W]` from a file of signed samples, or of whole floats some of which are negative.
    Signed(Array2<i32>),
}

impl RawLabels {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            RawLabels::Unsigned(values) => values.dim(),
            RawLabels::Signed(values) => values.dim(),
        }
    }
}

fn check_finite(pixels: ArrayView3<'_, f32>) -> Result<()> {
    for ((y, x, c), value) in pixels.indexed_iter() {
        if !value.is_finite() {
            return Err(Error::Image(format!(
                "the sample at row {y}, column {x}, channel {c} is {value}; replace NaN and infinite samples first"
            )));
        }
    }
    Ok(())
}
