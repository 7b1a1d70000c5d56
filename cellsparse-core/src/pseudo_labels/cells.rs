//! Cells that were not drawn and are plain nevertheless.

use std::collections::BTreeMap;

use ndarray::{Array2, Zip};

use super::h_maxima::h_maxima_regions;
use crate::budget::{array, mapped};
use crate::control::CancelToken;
use crate::error::Result;
use crate::geometry::distance::distance_transform_edt_until;
use crate::geometry::{disc_diameter, solidity};
use crate::raster::{LabelImage, try_gaussian_blur};
use crate::targets::fill_label_holes;

/// Blur of the distance map and depth of a neck that parts two cells, as fractions of the diameter.
const SMOOTH: f64 = 0.05;
const NECK: f64 = 0.04;

/// Areas of plain cells, as fractions of the smallest and the largest drawn one.
const AREAS: [f64; 2] = [0.4, 2.5];

/// A plain cell is at least as convex as the least convex drawn one, less this; and this convex is enough.
const TOLERANCE: f64 = 0.03;
const CONVEX: f64 = 0.9;

/// Cells after which it is asked whether to stop.
const PATIENCE: usize = 256;

/// What was drawn, in numbers.
pub struct Drawn {
    /// Diameter of a disc with the median area.
    pub diameter: f64,
    /// Centre `[y, x]` of each cell.
    pub centers: Vec<[f64; 2]>,
    areas: [f64; 2],
    solidity: f64,
    last: i32,
}

impl Drawn {
    /// `None` when no cell is drawn.
    pub fn new(labels: &LabelImage) -> Option<Self> {
        // A token that nobody can raise.
        Self::new_until(labels, &CancelToken::new()).unwrap_or_default()
    }

    /// As [`new`](Self::new), and ends early when `cancel` is raised.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn new_until(labels: &LabelImage, cancel: &CancelToken) -> Result<Option<Self>> {
        let cells = pixels_by_label(labels);
        let mut solidities = Vec::new();
        for (number, pixels) in cells.values().enumerate() {
            if number.is_multiple_of(PATIENCE) {
                cancel.check()?;
            }
            solidities.push(solidity(pixels));
        }
        Ok(Self::of(&cells, &solidities))
    }

    fn of(cells: &BTreeMap<i32, Vec<[usize; 2]>>, solidities: &[f64]) -> Option<Self> {
        let mut areas: Vec<usize> = cells.values().map(Vec::len).collect();
        areas.sort_unstable();
        let diameter = disc_diameter(*areas.get(areas.len() / 2)? as f64);
        let solidity = solidities.iter().copied().fold(CONVEX + TOLERANCE, f64::min) - TOLERANCE;
        Some(Self {
            diameter,
            centers: cells.values().map(|pixels| center(pixels)).collect(),
            areas: [*areas.first()? as f64 * AREAS[0], *areas.last()? as f64 * AREAS[1]],
            solidity,
            last: *cells.keys().last()?,
        })
    }

    fn resembles(&self, pixels: &[[usize; 2]]) -> bool {
        let area = pixels.len() as f64;
        (self.areas[0]..=self.areas[1]).contains(&area) && solidity(pixels) >= self.solidity
    }
}

/// Unlabelled parts of `inside` that look like one of the drawn cells become cells with ids above those of the drawn ones;
/// nothing else changes. `inside` tells for every pixel whether it lies in a cell; its holes are filled and its parts are
/// split at necks.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled).
pub fn add_plain_cells(
    labels: &mut LabelImage,
    drawn: &Drawn,
    inside: &Array2<bool>,
    cancel: &CancelToken,
) -> Result<()> {
    let parts = split(inside, drawn.diameter, cancel)?;
    cancel.check()?;
    let mut last = drawn.last;
    for pixels in pixels_by_label(&parts).values() {
        cancel.check()?;
        let is_drawn = pixels.iter().any(|at| labels[*at] > 0);
        if !is_drawn && drawn.resembles(pixels) && last < i32::MAX {
            last += 1;
            for at in pixels {
                if labels[*at] < 0 {
                    labels[*at] = last;
                }
            }
        }
    }
    Ok(())
}

/// The areas in pixels of the parts of `inside` `[H, W]`, which are split at necks as cells of about that diameter would be.
pub fn part_areas(inside: &Array2<bool>, diameter: f64) -> Vec<usize> {
    let mut areas = Vec::new();
    // A token that nobody can raise.
    let parts = split(inside, diameter, &CancelToken::new()).unwrap_or_default();
    for part in parts.into_iter().filter(|part| *part > 0) {
        let index = part as usize - 1;
        if areas.len() <= index {
            areas.resize(index + 1, 0);
        }
        areas[index] += 1;
    }
    areas
}

fn split(inside: &Array2<bool>, diameter: f64, cancel: &CancelToken) -> Result<LabelImage> {
    let distance = distance_transform_edt_until(inside.view(), cancel)?;
    let distance = mapped(distance.view(), "the distances in an image", |distance| distance.min(1e6) as f32)?;
    cancel.check()?;
    let smooth = try_gaussian_blur(distance.view(), (SMOOTH * diameter) as f32)?;
    cancel.check()?;
    h_maxima_regions(smooth.view(), inside.view(), (NECK * diameter) as f32, cancel)
}

/// Where cells are: where the probability says so, and where they are drawn; without holes.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) where there is no memory.
pub fn inside(probability: &Array2<f32>, labels: &LabelImage) -> Result<Array2<bool>> {
    let what = "the pixels of cells";
    let mut is_cell: LabelImage = array(labels.dim(), what)?;
    Zip::from(&mut is_cell).and(probability).and(labels).for_each(|cell, p, label| {
        *cell = match label {
            0 => 0,
            1.. => 1,
            _ => i32::from(*p > 0.5),
        };
    });
    mapped(fill_label_holes(is_cell.view())?.view(), what, |cell| cell > 0)
}

fn center(pixels: &[[usize; 2]]) -> [f64; 2] {
    let mean = |axis: usize| pixels.iter().map(|at| at[axis] as f64).sum::<f64>() / pixels.len() as f64;
    [mean(0), mean(1)]
}

fn pixels_by_label(labels: &LabelImage) -> BTreeMap<i32, Vec<[usize; 2]>> {
    let mut cells: BTreeMap<i32, Vec<[usize; 2]>> = BTreeMap::new();
    for (y, row) in labels.outer_iter().enumerate() {
        let mut x = 0;
        while x < row.len() {
            let (label, begin) = (row[x], x);
            while x < row.len() && row[x] == label {
                x += 1;
            }
            if label > 0 {
                cells.entry(label).or_default().extend((begin..x).map(|x| [y, x]));
            }
        }
    }
    cells
}
