//! From the three class probabilities of an ELEPHANT network to a label image.

use ndarray::{ArrayView3, Axis};

use crate::budget::mapped;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::geometry::distance::{distance_transform_edt, distance_transform_squared};
use crate::postprocess::clean::{relabel_sequential, remove_small_labels, remove_small_labels_as_reference};
use crate::postprocess::spots::{SpotOptions, draw_spots, find_spots};
use crate::postprocess::watershed::watershed_until;
use crate::raster::{Connectivity, LabelImage, label_components};

/// What the seeds of the watershed grow over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Elevation {
    /// The background probability: cells meet where the network is most in favour of background.
    #[default]
    Probability,
    /// Minus the distance to the background: cells meet at necks.
    Distance,
}

/// Thresholds of the watershed.
#[derive(Debug, Clone, PartialEq)]
pub struct WatershedOptions {
    /// A seed is a connected set of pixels with a centre probability above this. Default 0.5.
    pub center_threshold: f32,
    /// A pixel may belong to a cell when the probabilities of border and centre add up to more than this. Default 0.5.
    pub foreground_threshold: f32,
    /// Default [`Elevation::Probability`].
    pub elevation: Elevation,
}

impl Default for WatershedOptions {
    fn default() -> Self {
        Self { center_threshold: 0.5, foreground_threshold: 0.5, elevation: Elevation::Probability }
    }
}

/// How probabilities become cells.
#[derive(Debug, Clone, PartialEq)]
pub enum InstanceMethod {
    /// Seeds in the centres grow over the foreground: cells of any shape.
    Watershed(WatershedOptions),
    /// One ellipse for every centre, and the original small-object filter: what the original package returns.
    Ellipse(SpotOptions),
}

impl Default for InstanceMethod {
    fn default() -> Self {
        Self::Watershed(WatershedOptions::default())
    }
}

/// The cells in the probabilities `[H, W, 3]` of background, border and centre.
///
/// Cells with fewer than `min_area` pixels are removed (0 keeps all). With [`InstanceMethod::Watershed`] ids count from 1
/// without a gap, in the raster order of the seeds; foreground without a seed stays 0. With [`InstanceMethod::Ellipse`] ids are
/// those of the spots, whatever was removed, and removal is that of [`remove_small_labels_as_reference`].
///
/// # Errors
/// [`Error::Image`] unless there are three channels, [`Error::Config`] and [`Error::Limit`] as the parts.
pub fn elephant_instances(
    probabilities: ArrayView3<'_, f32>,
    method: &InstanceMethod,
    min_area: f32,
) -> Result<LabelImage> {
    elephant_instances_until(probabilities, method, min_area, &CancelToken::new())
}

/// [`elephant_instances`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn elephant_instances_until(
    probabilities: ArrayView3<'_, f32>,
    method: &InstanceMethod,
    min_area: f32,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let (height, width, channels) = probabilities.dim();
    if channels != 3 {
        return Err(Error::Image(format!(
            "{channels} channels of probabilities; background, border and centre were expected"
        )));
    }
    match method {
        InstanceMethod::Watershed(options) => {
            let mut labels = seeded_cells(probabilities, options, cancel)?;
            cancel.check()?;
            remove_small_labels(&mut labels, min_area);
            cancel.check()?;
            relabel_sequential(&labels, 1)
        }
        InstanceMethod::Ellipse(options) => {
            let spots = find_spots(probabilities.index_axis(Axis(2), 2), options)?;
            cancel.check()?;
            let mut labels = draw_spots(&spots, [height, width])?;
            cancel.check()?;
            if min_area > 0.0 {
                remove_small_labels_as_reference(&mut labels, min_area);
            }
            Ok(labels)
        }
    }
}

fn seeded_cells(
    probabilities: ArrayView3<'_, f32>,
    options: &WatershedOptions,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let (background, center) = (probabilities.index_axis(Axis(2), 0), probabilities.index_axis(Axis(2), 2));
    // The background alone is compared, so that no sum is rounded.
    let what = "the cells in the probabilities";
    let mask = mapped(background, what, |p| p < 1.0 - options.foreground_threshold)?;
    let centers = mapped(center, what, |p| p > options.center_threshold)?;
    cancel.check()?;
    let (seeds, _) = label_components(centers.view(), Connectivity::Four)?;
    cancel.check()?;
    let (four, mask) = (Connectivity::Four, mask.view());
    match options.elevation {
        Elevation::Probability => watershed_until(background, seeds.view(), Some(mask), four, cancel),
        Elevation::Distance => {
            // Squares have the order of the distances and are whole numbers. Those above 2^31 - 1 are the exception.
            let squares = distance_transform_squared(mask);
            if squares.iter().all(|square| *square <= i32::MAX as u64 || *square == u64::MAX) {
                let elevation = squares.mapv(|square| -(square.min(i32::MAX as u64) as i32));
                return watershed_until(elevation.view(), seeds.view(), Some(mask), four, cancel);
            }
            let elevation = distance_transform_edt(mask).mapv(|distance| -distance);
            watershed_until(elevation.view(), seeds.view(), Some(mask), four, cancel)
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;

    fn methods() -> [InstanceMethod; 3] {
        let distance = WatershedOptions { elevation: Elevation::Distance, ..Default::default() };
        [
            InstanceMethod::default(),
            InstanceMethod::Watershed(distance),
            InstanceMethod::Ellipse(SpotOptions::default()),
        ]
    }

    /// Two cells of 9 x 6 pixels side by side.
    fn two_cells() -> Array3<f32> {
        let mut p = Array3::zeros((15, 20, 3));
        p.slice_mut(s![.., .., 0]).fill(1.0);
        for first in [3, 9] {
            p.slice_mut(s![3..12, first..first + 6, ..]).assign(&ndarray::array![0.1, 0.8, 0.1]);
            p.slice_mut(s![5..10, first + 2..first + 4, ..]).assign(&ndarray::array![0.02, 0.08, 0.9]);
        }
        p
    }

    #[test]
    fn touching_cells_are_separated() {
        for method in methods() {
            let labels = elephant_instances(two_cells().view(), &method, 10.0).unwrap();
            assert_eq!((labels[[7, 5]], labels[[7, 12]], labels[[0, 0]]), (1, 2, 0), "{method:?}");
            if matches!(method, InstanceMethod::Watershed(_)) {
                assert!(labels.slice(s![3..12, 3..9]).iter().all(|id| *id == 1), "{method:?}");
                assert!(labels.slice(s![3..12, 9..15]).iter().all(|id| *id == 2), "{method:?}");
            }
            assert!(elephant_instances(two_cells().view(), &method, 1000.0).unwrap().iter().all(|id| *id == 0));
        }
    }

    #[test]
    fn odd_inputs_have_an_answer() {
        for method in methods() {
            assert_eq!(elephant_instances(Array3::zeros((0, 3, 3)).view(), &method, 1.0).unwrap().dim(), (0, 3));
            assert!(elephant_instances(Array3::zeros((4, 4, 2)).view(), &method, 1.0).is_err());
            let none = Array3::from_elem((4, 4, 3), f32::NAN);
            assert!(elephant_instances(none.view(), &method, 1.0).unwrap().iter().all(|id| *id == 0));
            // All foreground, all centre: no background pixel to measure the distance to.
            let mut all = Array3::zeros((6, 6, 3));
            all.slice_mut(s![.., .., 2]).fill(1.0);
            assert!(elephant_instances(all.view(), &method, 1.0).unwrap().iter().any(|id| *id == 1), "{method:?}");
        }
    }
}
