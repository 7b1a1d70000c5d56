//! Labels as a file holds them, before it is known what its numbers mean.

use super::encoding_check::{refuse_mask, refuse_wrapped};
use crate::error::Result;
use crate::raster::{LabelImage, RawLabels};

/// Labels of one image, as they were found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum LabelSource {
    /// A label image whose numbers need an encoding.
    Values(RawLabels),
    /// A label image of a program that numbers cells from 1, so that 1 is never background: 0 is background or was not
    /// drawn.
    Instances(RawLabels),
    /// Shapes that were drawn, as a label image: -1 where nothing was, 0 background, `>= 1` cells.
    Drawn(LabelImage),
}

impl LabelSource {
    /// Refuses what is wrong in every encoding: -1 that an unsigned type turned into its largest value, and masks in which all
    /// cells have one number.
    ///
    /// # Errors
    /// [`Error::Labels`](crate::Error::Labels) that says what to do.
    pub fn check(&self) -> Result<()> {
        match self {
            LabelSource::Values(raw) | LabelSource::Instances(raw) => {
                if let RawLabels::Unsigned(values) = raw {
                    refuse_wrapped(values)?;
                }
                refuse_mask(&positive(raw))
            }
            LabelSource::Drawn(_) => Ok(()),
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            LabelSource::Values(raw) | LabelSource::Instances(raw) => raw.shape(),
            LabelSource::Drawn(labels) => labels.dim(),
        }
    }
}

/// The values, with what no label image can hold at the largest label: for looking at shapes.
pub(super) fn positive(raw: &RawLabels) -> LabelImage {
    match raw {
        RawLabels::Unsigned(values) => values.mapv(|value| i32::try_from(value).unwrap_or(i32::MAX)),
        RawLabels::Signed(values) => values.clone(),
    }
}
