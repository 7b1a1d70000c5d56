//! Labels as a file holds them, before it is known what its numbers mean.

use std::ops::Range;

use ndarray::s;

use super::encoding_check::{refuse_other_images, refuse_wrapped};
use crate::error::{Error, Reason, Result};
use crate::raster::{Image, LabelImage, RawLabels};

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
    /// Refuses an image of another size.
    ///
    /// # Errors
    /// [`Error::Labels`] that names both shapes.
    pub fn check_fits(&self, image: &Image) -> Result<()> {
        check_fits(self.shape(), image)
    }

    /// Refuses what is wrong in every encoding: -1 that an unsigned type turned into its largest value, masks in which all
    /// cells have one number, and images that were taken for labels.
    ///
    /// # Errors
    /// [`Error::Labels`](crate::Error::Labels) that says what to do.
    pub fn check(&self) -> Result<()> {
        match self {
            LabelSource::Values(raw) | LabelSource::Instances(raw) => {
                if let RawLabels::Unsigned(values) = raw {
                    refuse_wrapped(values)?;
                }
                refuse_other_images(&positive(raw))
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

    /// The labels of some rows and columns, which must lie in the image.
    pub fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let raw = |raw: &RawLabels| match raw {
            RawLabels::Unsigned(values) => {
                RawLabels::Unsigned(values.slice(s![rows.clone(), columns.clone()]).to_owned())
            }
            RawLabels::Signed(values) => RawLabels::Signed(values.slice(s![rows.clone(), columns.clone()]).to_owned()),
        };
        match self {
            LabelSource::Values(values) => LabelSource::Values(raw(values)),
            LabelSource::Instances(values) => LabelSource::Instances(raw(values)),
            LabelSource::Drawn(labels) => LabelSource::Drawn(labels.slice(s![rows, columns]).to_owned()),
        }
    }

    /// The numbers as they were found, those that no label image can hold at the largest one.
    pub fn numbers(&self) -> LabelImage {
        match self {
            LabelSource::Values(raw) | LabelSource::Instances(raw) => positive(raw),
            LabelSource::Drawn(labels) => labels.clone(),
        }
    }
}

/// Refuses labels of so many rows and columns for an image of other ones.
pub(super) fn check_fits((rows, columns): (usize, usize), image: &Image) -> Result<()> {
    if (image.height(), image.width()) == (rows, columns) {
        return Ok(());
    }
    let turned = (image.width(), image.height()) == (rows, columns);
    Err(Error::Labels(format!(
        "the image has {} x {} pixels (rows x columns) and its labels have {rows} x {columns}; they must be the \
         same{}",
        image.height(),
        image.width(),
        if turned { ": rows and columns seem to be exchanged" } else { "" }
    ))
    .because(Reason::Size { found: [rows, columns], expected: [image.height(), image.width()] }))
}

/// The values, with what no label image can hold at the largest label: for looking at shapes.
pub(super) fn positive(raw: &RawLabels) -> LabelImage {
    match raw {
        RawLabels::Unsigned(values) => values.mapv(|value| i32::try_from(value).unwrap_or(i32::MAX)),
        RawLabels::Signed(values) => values.clone(),
    }
}
