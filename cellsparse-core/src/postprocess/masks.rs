//! From flows and cell probability to a label image: Cellpose masks.

use ndarray::{ArrayView2, ArrayView3};

use super::flow_following::{FlowField, follow_flows_until};
use super::mask_cleaning::{fill_holes_and_remove_small_masks_until, fill_holes_and_renumber_as_fork};
use crate::budget::{array, gathered, mapped, pushed, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Result};
pub use crate::geometry::diffusion::FlowRule;
use crate::geometry::diffusion::map_cell_flows;
use crate::geometry::label_runs::LabelRuns;
use crate::raster::LabelImage;

const WHAT: &str = "the masks of an image";

/// Pixels around the image in which end positions are counted.
const MARGIN: usize = 20;

/// A place where more end positions than this meet may be the seed of a cell.
const SEED_COUNT: u32 = 10;

/// A cell grows over places where more end positions than this meet.
const GROWTH_COUNT: u32 = 2;

/// How often a seed grows by one pixel in all 8 directions.
const GROWTH: usize = 5;

/// How masks are found and which of them are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskOptions {
    /// Steps along the flows: 200 for cells of 30 pixels, in proportion for others. Default 200.
    pub steps: usize,
    /// Pixels with a logit of the cell probability above this belong to cells. Default 0.
    pub cellprob_threshold: f32,
    /// Cells whose flows differ from the flows of their shape by more than this are removed; 0 keeps all. Default 0.4.
    pub flow_threshold: f32,
    /// Cells with fewer pixels are removed; 0 keeps all. Default 15.
    pub min_size: usize,
    /// Cells with more than this fraction of the pixels of the image are removed. Default 0.4.
    pub max_size_fraction: f64,
    /// Whether flows are interpolated between pixels. Default true.
    pub interpolate: bool,
    /// Whose rules apply, here and in the flow filter. Default [`FlowRule::Reference`]; [`FlowRule::Fork`] reproduces the
    /// sparse-label fork of Cellpose 2, which moves a pixel only for its vertical flow and lets background take part.
    pub rule: FlowRule,
}

impl Default for MaskOptions {
    fn default() -> Self {
        Self {
            steps: 200,
            cellprob_threshold: 0.0,
            flow_threshold: 0.4,
            min_size: 15,
            max_size_fraction: 0.4,
            interpolate: true,
            rule: FlowRule::Reference,
        }
    }
}

impl MaskOptions {
    /// Steps for cells of `diameter` pixels in an image that is processed at its own size, when the network's cells have
    /// `diam_mean` pixels: `200 diameter / diam_mean`, truncated.
    pub fn steps_for(diameter: f64, diam_mean: f64) -> usize {
        (200.0 * diameter / diam_mean) as usize
    }
}

/// The cells of network outputs: flows `[2, H, W]` (`dY`, `dX`, 5 times unit length) and logits `[H, W]` of the cell
/// probability. Ids are consecutive, in the order of the cells' first pixels before small ones were removed.
///
/// Pixels follow the flows; where many of them end, a cell is; a pixel belongs to the cell that it ends in. Of two seeds
/// that claim a place, the one with more end positions wins, and of equal ones the later in row-major order. Then cells
/// are removed that are too large, whose flows do not fit their shape, or that are too small, and holes are filled.
/// Values that are not finite count as no flow and as background.
///
/// # Errors
/// [`Error::Image`] when the shapes differ, [`Error::Limit`] when a cell does not fit into memory.
pub fn compute_masks(
    flows: ArrayView3<'_, f32>,
    cellprob: ArrayView2<'_, f32>,
    options: &MaskOptions,
) -> Result<LabelImage> {
    compute_masks_until(flows, cellprob, options, &CancelToken::new())
}

/// [`compute_masks`] that can be stopped.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn compute_masks_until(
    flows: ArrayView3<'_, f32>,
    cellprob: ArrayView2<'_, f32>,
    options: &MaskOptions,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let mut masks = raw_masks_until(flows, cellprob, options, cancel)?;
    if options.flow_threshold > 0.0 {
        let errors = flow_errors_until(masks.view(), flows, options.rule, cancel)?;
        remove_bad(&mut masks, errors, options.flow_threshold);
    }
    cancel.check()?;
    match options.rule {
        FlowRule::Reference => fill_holes_and_remove_small_masks_until(masks.view(), options.min_size, cancel),
        FlowRule::Fork => fill_holes_and_renumber_as_fork(masks.view(), options.min_size),
    }
}

/// [`compute_masks`] before the flow filter and before holes and small cells are looked at.
///
/// # Errors
/// As [`compute_masks`].
pub fn raw_masks(
    flows: ArrayView3<'_, f32>,
    cellprob: ArrayView2<'_, f32>,
    options: &MaskOptions,
) -> Result<LabelImage> {
    raw_masks_until(flows, cellprob, options, &CancelToken::new())
}

fn raw_masks_until(
    flows: ArrayView3<'_, f32>,
    cellprob: ArrayView2<'_, f32>,
    options: &MaskOptions,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    cancel.check()?;
    let inside = mapped(cellprob, WHAT, |logit| logit > options.cellprob_threshold)?;
    cancel.check()?;
    let field = FlowField::new(flows, inside.view())?;
    cancel.check()?;
    let moving = |[y, x]: [usize; 2]| match options.rule {
        FlowRule::Reference => inside[[y, x]],
        FlowRule::Fork => field.at(y, x)[0].abs() > 1e-3,
    };
    let places = || inside.indexed_iter().map(|((y, x), _)| [y, x]);
    // Counted first, as nothing is known of how many there are.
    let count = places().filter(|place| moving(*place)).count();
    cancel.check()?;
    let pixels = gathered(count, places().filter(|place| moving(*place)), WHAT)?;
    let fewest = if options.rule == FlowRule::Fork { 5 } else { 1 };
    if pixels.len() < fewest || !inside.iter().any(|&inside| inside) {
        return array(cellprob.dim(), WHAT);
    }
    cancel.check()?;
    let ends = follow_flows_until(&field, &pixels, options.steps, options.interpolate, cancel)?;
    cancel.check()?;
    match options.rule {
        FlowRule::Reference => masks_of_ends(&pixels, &ends, cellprob.dim(), options, cancel),
        FlowRule::Fork => {
            // All other pixels stay where they are, and count.
            let all = gathered(inside.len(), places(), WHAT)?;
            let mut all_ends = gathered(all.len(), all.iter().map(|&[y, x]| [y as f32, x as f32]), WHAT)?;
            for (&[y, x], end) in pixels.iter().zip(ends) {
                all_ends[y * cellprob.ncols() + x] = end;
            }
            masks_of_ends(&all, &all_ends, cellprob.dim(), options, cancel)
        }
    }
}

/// How far the network's flows `[2, H, W]` are from the flows of the masks they led to: for every id in ascending order,
/// the mean over its pixels of the squared difference, with the network's flows divided by 5.
///
/// # Errors
/// [`Error::Image`] when the shapes differ, [`Error::Limit`] when a cell does not fit into memory.
pub fn flow_errors(masks: ArrayView2<'_, i32>, flows: ArrayView3<'_, f32>, rule: FlowRule) -> Result<Vec<(i32, f64)>> {
    flow_errors_until(masks, flows, rule, &CancelToken::new())
}

fn flow_errors_until(
    masks: ArrayView2<'_, i32>,
    flows: ArrayView3<'_, f32>,
    rule: FlowRule,
    cancel: &CancelToken,
) -> Result<Vec<(i32, f64)>> {
    let (height, width) = masks.dim();
    if flows.dim() != (2, height, width) {
        return Err(Error::Image(format!(
            "flows of shape {:?} for masks of {height} x {width} pixels; they must have shape [2, {height}, {width}]",
            flows.shape()
        )));
    }
    let cells = LabelRuns::new(masks)?;
    map_cell_flows(&cells, rule, cancel, |found| {
        let pixels = found.cell.runs.iter().flat_map(|run| (run.begin..run.end).map(|column| (run.row, column)));
        let mut sum = 0.0;
        for ((row, column), flow) in pixels.zip(found.flows) {
            for (axis, flow) in flow.iter().enumerate() {
                let difference = f64::from(*flow) - f64::from(flows[[axis, row, column]]) / 5.0;
                sum += difference * difference;
            }
        }
        (found.cell.label, sum / found.flows.len().max(1) as f64)
    })
}

/// Sets to 0 every cell whose [`flow_errors`] exceed `threshold`, or are not a number. Other ids stay as they are.
///
/// # Errors
/// As [`flow_errors`].
pub fn remove_bad_flow_masks(
    masks: &mut LabelImage,
    flows: ArrayView3<'_, f32>,
    threshold: f32,
    rule: FlowRule,
) -> Result<()> {
    let errors = flow_errors(masks.view(), flows, rule)?;
    remove_bad(masks, errors, threshold);
    Ok(())
}

/// Sets to 0 every cell whose error exceeds `threshold`, or is not a number.
fn remove_bad(masks: &mut LabelImage, errors: Vec<(i32, f64)>, threshold: f32) {
    let is_bad = |error: f64| error.is_nan() || error > f64::from(threshold);
    let bad: Vec<i32> = errors.into_iter().filter(|(_, error)| is_bad(*error)).map(|(label, _)| label).collect();
    if !bad.is_empty() {
        // Ids come in ascending order.
        masks.mapv_inplace(|label| if bad.binary_search(&label).is_ok() { 0 } else { label });
    }
}

/// Finds the places where end positions meet and gives each pixel the id of the place that it ends in.
fn masks_of_ends(
    pixels: &[[usize; 2]],
    ends: &[[f32; 2]],
    shape: (usize, usize),
    options: &MaskOptions,
    cancel: &CancelToken,
) -> Result<LabelImage> {
    let sides = shape.0.checked_add(2 * MARGIN).zip(shape.1.checked_add(2 * MARGIN));
    let (rows, columns) = sides
        .filter(|(rows, columns)| rows.checked_mul(*columns).is_some())
        .ok_or_else(|| Error::Limit(format!("an image of {} x {} pixels; cut it into parts", shape.0, shape.1)))?;
    let place = |end: &[f32; 2]| (end[0] as usize + MARGIN) * columns + end[1] as usize + MARGIN;
    let mut counts: Vec<u32> = zeros(rows * columns, WHAT)?;
    for ends in ends.chunks(PATIENCE) {
        cancel.check()?;
        ends.iter().for_each(|end| counts[place(end)] += 1);
    }
    let (painted, seeds) = paint_seeds(&counts, columns, options.rule, cancel)?;
    let mut masks: LabelImage = array(shape, WHAT)?;
    for (pixels, ends) in pixels.chunks(PATIENCE).zip(ends.chunks(PATIENCE)) {
        cancel.check()?;
        for (&[y, x], end) in pixels.iter().zip(ends) {
            masks[[y, x]] = painted[place(end)];
        }
    }
    drop((counts, painted));
    let largest = masks.len() as f64 * options.max_size_fraction;
    // By the number of the seed.
    let (mut areas, mut ids) = (zeros::<usize>(seeds + 1, WHAT)?, zeros::<i32>(seeds + 1, WHAT)?);
    masks.iter().for_each(|label| areas[*label as usize] += 1);
    cancel.check()?;
    let mut last = 0;
    for label in masks.iter_mut().filter(|label| **label != 0) {
        let seed = *label as usize;
        if areas[seed] as f64 > largest {
            *label = 0;
            continue;
        }
        if ids[seed] == 0 {
            last += 1;
            ids[seed] = last;
        }
        *label = ids[seed];
    }
    Ok(masks)
}

/// Pixels, and seeds, after which it is asked whether to stop.
const PATIENCE: usize = 1 << 18;
const PATIENCE_OF_SEEDS: usize = 1 << 12;

/// Grows every seed over the places around it; returns the number of the seed painted at each place, and how many there are.
fn paint_seeds(counts: &[u32], columns: usize, rule: FlowRule, cancel: &CancelToken) -> Result<(Vec<i32>, usize)> {
    let mut seeds: Vec<usize> = Vec::new();
    for (at, &count) in counts.iter().enumerate() {
        if at.is_multiple_of(PATIENCE) {
            cancel.check()?;
        }
        // Nothing is counted in the margin, so windows never leave the array.
        if count > SEED_COUNT && window(at, 2, columns).all(|other| counts[other] <= count) {
            pushed(&mut seeds, at, WHAT)?;
        }
    }
    if rule == FlowRule::Reference {
        // Of equal ones, those that come first stay first.
        seeds.sort_unstable_by_key(|seed| (counts[*seed], *seed));
    }
    const SIDE: usize = 2 * GROWTH + 3;
    let mut painted: Vec<i32> = zeros(counts.len(), WHAT)?;
    for (index, &seed) in seeds.iter().enumerate() {
        if index.is_multiple_of(PATIENCE_OF_SEEDS) {
            cancel.check()?;
        }
        let first = seed - (GROWTH + 1) * columns - (GROWTH + 1);
        let place = |cell: usize| first + cell / SIDE * columns + cell % SIDE;
        let mut grown = [false; SIDE * SIDE];
        let middle = SIDE * SIDE / 2;
        grown[middle] = true;
        for reach in 1..=GROWTH {
            let before = grown;
            for cell in window(middle, reach, SIDE) {
                grown[cell] =
                    before[cell] || counts[place(cell)] > GROWTH_COUNT && window(cell, 1, SIDE).any(|n| before[n]);
            }
        }
        for cell in (0..grown.len()).filter(|cell| grown[*cell]) {
            painted[place(cell)] = index as i32 + 1;
        }
    }
    Ok((painted, seeds.len()))
}

/// The places of the square of side `2 reach + 1` around `at`, which lies far enough from the border.
fn window(at: usize, reach: usize, columns: usize) -> impl Iterator<Item = usize> {
    let first = at - reach * columns - reach;
    (0..=2 * reach).flat_map(move |row| (0..=2 * reach).map(move |column| first + row * columns + column))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};

    use super::*;

    /// Two circles whose pixels flow to their centres.
    fn circles() -> (Array3<f32>, Array2<f32>) {
        let centres = [(15.0f32, 14.0f32), (18.0, 40.0)];
        let nearest = |y: usize, x: usize| {
            let to = |(cy, cx): (f32, f32)| (cy - y as f32, cx - x as f32);
            let [a, b] = centres.map(to);
            if a.0.hypot(a.1) < b.0.hypot(b.1) { a } else { b }
        };
        let cellprob = Array2::from_shape_fn((34, 56), |(y, x)| 10.0 - nearest(y, x).0.hypot(nearest(y, x).1));
        let flows = Array3::from_shape_fn((2, 34, 56), |(axis, y, x)| {
            let (dy, dx) = nearest(y, x);
            5.0 / (dy.hypot(dx) + 1e-3) * if axis == 0 { dy } else { dx }
        });
        (flows, cellprob)
    }

    #[test]
    fn two_discs_are_two_cells() {
        let (flows, cellprob) = circles();
        for rule in [FlowRule::Reference, FlowRule::Fork] {
            for interpolate in [true, false] {
                let options = MaskOptions { rule, interpolate, ..MaskOptions::default() };
                let masks = compute_masks(flows.view(), cellprob.view(), &options).unwrap();
                assert_eq!((masks[[15, 14]], masks[[18, 40]]), (1, 2));
                assert_eq!(masks.iter().max(), Some(&2));
                let inside = cellprob.iter().filter(|logit| **logit > 0.0).count();
                let painted = masks.iter().filter(|label| **label > 0).count();
                assert!(painted <= inside && painted + inside / 8 > inside, "{painted} of {inside}");
            }
        }
    }

    #[test]
    fn flows_that_do_not_fit_the_shape_remove_the_cell() {
        let (flows, cellprob) = circles();
        let mut masks = raw_masks(flows.view(), cellprob.view(), &MaskOptions::default()).unwrap();
        let mut turned = flows.clone();
        turned.slice_mut(ndarray::s![.., .., 28..]).mapv_inplace(|flow| -flow);
        remove_bad_flow_masks(&mut masks, turned.view(), 0.4, FlowRule::Reference).unwrap();
        assert_eq!((masks[[15, 14]], masks[[18, 40]]), (1, 0));
        turned.fill(f32::NAN);
        remove_bad_flow_masks(&mut masks, turned.view(), 0.4, FlowRule::Reference).unwrap();
        assert!(masks.iter().all(|label| *label == 0));
    }

    #[test]
    fn cells_above_the_largest_share_are_removed() {
        let (flows, cellprob) = circles();
        let options = MaskOptions { max_size_fraction: 0.1, ..MaskOptions::default() };
        assert!(compute_masks(flows.view(), cellprob.view(), &options).unwrap().iter().all(|label| *label == 0));
    }

    #[test]
    fn odd_outputs_are_survived() {
        for rule in [FlowRule::Reference, FlowRule::Fork] {
            let options = MaskOptions { rule, ..MaskOptions::default() };
            for (h, w) in [(0, 0), (0, 7), (7, 0), (1, 1), (3, 9)] {
                for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e30] {
                    let flows = Array3::from_elem((2, h, w), value);
                    let cellprob = Array2::from_elem((h, w), value);
                    assert_eq!(compute_masks(flows.view(), cellprob.view(), &options).unwrap().dim(), (h, w));
                    let cellprob = Array2::from_elem((h, w), 1.0);
                    assert_eq!(compute_masks(flows.view(), cellprob.view(), &options).unwrap().dim(), (h, w));
                }
            }
            assert!(compute_masks(Array3::zeros((2, 3, 4)).view(), Array2::zeros((4, 3)).view(), &options).is_err());
            assert!(compute_masks(Array3::zeros((3, 3, 4)).view(), Array2::zeros((3, 4)).view(), &options).is_err());
        }
    }
}
