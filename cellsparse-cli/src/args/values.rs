//! The values that options take.

use std::str::FromStr;

use cellsparse_core::model::Algorithm;
use clap::ValueEnum;

/// An algorithm, or the one that fits the drawn cells best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlgorithmChoice {
    /// To be found out on the drawn cells.
    Auto,
    /// That one.
    Named(Algorithm),
}

impl FromStr for AlgorithmChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            name => name.parse().map(Self::Named).map_err(|_| {
                let names: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
                format!("there are {}, and auto to choose one by the drawn cells", names.join(", "))
            }),
        }
    }
}

/// How the values of a label file are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// decided from the labels
    Auto,
    /// 0 unlabelled, 1 background, 2 and up cells
    Wire,
    /// 0 background, 1 and up cells
    Dense,
    /// negative unlabelled, 0 background, 1 and up cells
    Signed,
    /// 0 unlabelled, 1 and up cells, no background
    Cells,
}

/// What `predict` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// label image: 16-bit PNG, above 65,535 objects 32-bit TIFF
    Labels,
    /// outlines for QuPath
    Geojson,
    /// the image with outlines
    Overlay,
    /// a table of measurements, one line for each object
    Csv,
    /// outlines for Fiji: a zip archive of ImageJ regions
    Rois,
    /// 16- or 32-bit label image as OME-TIFF
    Ometiff,
    /// 32-bit label image as OME-Zarr
    Omezarr,
}

/// How outlines are traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutlineChoice {
    /// along the pixel edges, with holes and parts
    Exact,
    /// the rule of the original server, point for point
    Literal,
}

/// Which cells `sparsify` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    /// the darkest
    Min,
    /// the brightest
    Max,
    /// half of each
    Minmax,
}

/// A count.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn number(text: &str, allowed: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if number.is_finite() && allowed(number) => Ok(number),
        _ => Err(format!("expected {expected}")),
    }
}

/// Any number.
pub(super) fn finite(text: &str) -> Result<f32, String> {
    number(text, |_| true, "a number")
}

/// A number above 0.
pub(super) fn positive_float(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0, "a number above 0")
}

/// A number from 0.
pub(super) fn not_negative(text: &str) -> Result<f32, String> {
    number(text, |value| value >= 0.0, "a number from 0")
}

/// A number from 0 to 1.
pub(super) fn fraction(text: &str) -> Result<f32, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

/// An intersection over union: above 0, at most 1.
pub(super) fn threshold(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a number above 0, at most 1".to_owned()),
    }
}
