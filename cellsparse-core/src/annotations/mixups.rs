//! Label files whose numbers contradict the encoding they are said to have.
//!
//! Each rule looks for something that hardly ever happens in a right file; what stays ambiguous is accepted.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::encoding::LabelEncoding;
use super::sparse_labels::{SparseLabels, median};
use crate::error::{Error, Result};
use crate::raster::{Component, Components, connected_components};

/// Fewest objects on which a suspicion may rest.
const ENOUGH: usize = 3;

/// Refuses -1 that an unsigned type turned into its largest value: that value then fills most of the image.
pub(super) fn refuse_wrapped(values: &Array2<u32>) -> Result<()> {
    let highest = values.iter().copied().max().unwrap_or(0);
    if ![u32::from(u8::MAX), u32::from(u16::MAX), u32::MAX].contains(&highest) {
        return Ok(());
    }
    let count = values.iter().filter(|&&value| value == highest).count();
    let others = values.iter().any(|&value| value != highest && value != 0);
    if count * 2 > values.len() && others {
        return Err(Error::Labels(format!(
            "the value {highest} fills {:.0} % of the pixels: this looks like -1 (unlabelled) saved as an unsigned \
             number; save the labels as signed 16 or 32 bit TIFF and pass --label-encoding signed, or add 1 to every \
             value and pass --label-encoding wire",
            100.0 * count as f64 / values.len() as f64
        )));
    }
    Ok(())
}

/// Refuses labels that look like another encoding or like a mask without numbers.
pub(super) fn refuse_contradiction(labels: &SparseLabels, encoding: LabelEncoding) -> Result<()> {
    let components = connected_components(labels.labels(), |label| label >= 0)?;
    let mut by_label: BTreeMap<i32, Vec<&Component>> = BTreeMap::new();
    for part in &components.parts {
        by_label.entry(part.label).or_default().push(part);
    }
    refuse_mask(&by_label)?;
    match encoding {
        LabelEncoding::Wire => refuse_dense_as_wire(labels, &components, &by_label),
        LabelEncoding::Dense => refuse_wire_as_dense(labels, &by_label),
        LabelEncoding::Signed => Ok(()),
    }
}

/// One number for many regions of similar size is a mask of "cell or not".
fn refuse_mask(by_label: &BTreeMap<i32, Vec<&Component>>) -> Result<()> {
    let mut objects = by_label.range(1..);
    let (Some((_, parts)), None) = (objects.next(), objects.next()) else { return Ok(()) };
    let largest = parts.iter().map(|part| part.area).max().unwrap_or(0);
    let similar = parts.iter().filter(|part| part.area * 4 >= largest).count();
    if similar >= ENOUGH {
        return Err(Error::Labels(format!(
            "{} separate regions all have the same number, so they would count as one cell: this looks like a mask; \
             give every cell a number of its own (connected-component labelling)",
            parts.len()
        )));
    }
    Ok(())
}

/// In a dense file that is read as wire, object 1 turns into "background": one compact region as large as a cell, while
/// the other ids follow without a gap. A real background is strokes, several patches, or much larger.
fn refuse_dense_as_wire(
    labels: &SparseLabels,
    components: &Components,
    by_label: &BTreeMap<i32, Vec<&Component>>,
) -> Result<()> {
    let count = labels.object_count();
    let consecutive = labels.ids().eq(1..=i32::try_from(count).unwrap_or(i32::MAX));
    let Some([background]) = by_label.get(&0).map(Vec::as_slice) else { return Ok(()) };
    if count < ENOUGH || !consecutive {
        return Ok(());
    }
    let mut areas: Vec<usize> = labels.areas().values().copied().collect();
    areas.sort_unstable();
    let ratio = background.area as f64 / median(&areas);
    if !(0.25..=4.0).contains(&ratio) || !is_compact(labels, components, background) {
        return Ok(());
    }
    Err(Error::Labels(format!(
        "the value 1 forms a single region of {} pixels, shaped and sized like the other {count} objects, and the \
         values run on from there: these look like dense labels (0 background, 1.. cells); pass --label-encoding \
         dense. If 1 is background after all, draw a second background stroke",
        background.area
    )))
}

/// Whether a region resembles a filled ellipse that is at most 3 times longer than wide.
fn is_compact(labels: &SparseLabels, components: &Components, part: &Component) -> bool {
    let [top, left, bottom, right] = part.bounds;
    let (mut n, mut sy, mut sx, mut syy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for y in top..=bottom {
        for x in left..=right {
            if components.map[[y, x]] != 0 && labels.labels()[[y, x]] == part.label {
                let (fy, fx) = ((y - top) as f64, (x - left) as f64);
                n += 1.0;
                sy += fy;
                sx += fx;
                syy += fy * fy;
                sxx += fx * fx;
                sxy += fy * fx;
            }
        }
    }
    if n < 4.0 {
        return false;
    }
    // A pixel is a unit square, not a point: 1/12 more variance.
    let vy = syy / n - (sy / n) * (sy / n) + 1.0 / 12.0;
    let vx = sxx / n - (sx / n) * (sx / n) + 1.0 / 12.0;
    let c = sxy / n - (sy / n) * (sx / n);
    let mean = (vy + vx) / 2.0;
    let spread = (((vy - vx) / 2.0).powi(2) + c * c).sqrt();
    let (long, short) = (mean + spread, (mean - spread).max(1e-9));
    // An ellipse of variances a, b has the area 4 pi sqrt(a b).
    let fill = n / (4.0 * std::f64::consts::PI * (long * short).sqrt());
    (long / short).sqrt() <= 3.0 && fill >= 0.8
}

/// In a wire file that is read as dense, the background (1) turns into an object: scattered in pieces where the other
/// objects are whole, or covering most of an image that has no 0 at all.
fn refuse_wire_as_dense(labels: &SparseLabels, by_label: &BTreeMap<i32, Vec<&Component>>) -> Result<()> {
    let advice = "if 1 is background and cells begin at 2, pass --label-encoding wire";
    let Some(first) = by_label.get(&1) else { return Ok(()) };
    let total = labels.labels().len();
    let area: usize = first.iter().map(|part| part.area).sum();
    if !by_label.contains_key(&0) && area * 2 > total {
        return Err(Error::Labels(format!(
            "no pixel has the value 0 (background) and the value 1 covers {:.0} % of the image, which no cell does; \
             {advice}",
            100.0 * area as f64 / total as f64
        )));
    }
    let others: Vec<&Vec<&Component>> = by_label.range(2..).map(|(_, parts)| parts).collect();
    let whole = others.iter().filter(|parts| parts.len() == 1).count();
    if first.len() >= ENOUGH && others.len() >= 2 && whole * 10 >= others.len() * 9 {
        return Err(Error::Labels(format!(
            "object 1 lies in {} separate pieces while the {} other objects are whole, so it looks like background \
             strokes; {advice}, else give each piece a number of its own",
            first.len(),
            others.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::RawLabels;

    /// Discs of radius 5 numbered from `first` on an empty ground.
    fn discs(first: u32, count: usize) -> Array2<u32> {
        let mut values = Array2::zeros((40, 20 * count));
        for at in 0..count {
            paint(&mut values, 20, 20 * at + 10, 5, first + at as u32);
        }
        values
    }

    fn paint(values: &mut Array2<u32>, cy: usize, cx: usize, radius: usize, value: u32) {
        for ((y, x), pixel) in values.indexed_iter_mut() {
            if y.abs_diff(cy).pow(2) + x.abs_diff(cx).pow(2) <= radius * radius {
                *pixel = value;
            }
        }
    }

    fn parse(values: Array2<u32>, encoding: LabelEncoding) -> Result<SparseLabels> {
        SparseLabels::parse(RawLabels::Unsigned(values), encoding)
    }

    fn refusal(values: Array2<u32>, encoding: LabelEncoding) -> String {
        parse(values, encoding).unwrap_err().to_string()
    }

    #[test]
    fn dense_labels_called_wire_are_noticed() {
        assert!(refusal(discs(1, 5), LabelEncoding::Wire).contains("--label-encoding dense"));
        parse(discs(1, 5), LabelEncoding::Dense).unwrap();
    }

    #[test]
    fn right_wire_labels_pass() {
        parse(discs(2, 5), LabelEncoding::Wire).unwrap();
        let mut stroke = discs(2, 5);
        stroke.slice_mut(ndarray::s![2..5, 5..45]).fill(1);
        parse(stroke, LabelEncoding::Wire).unwrap();
        let mut patches = discs(2, 5);
        paint(&mut patches, 5, 10, 4, 1);
        paint(&mut patches, 5, 60, 4, 1);
        parse(patches, LabelEncoding::Wire).unwrap();
        let everywhere = discs(2, 5).mapv(|value| value.max(1));
        parse(everywhere, LabelEncoding::Wire).unwrap();
    }

    #[test]
    fn wire_labels_called_dense_are_noticed() {
        let mut strokes = discs(2, 4);
        for left in [2, 30, 60] {
            strokes.slice_mut(ndarray::s![2..5, left..left + 15]).fill(1);
        }
        assert!(refusal(strokes, LabelEncoding::Dense).contains("--label-encoding wire"));
        let everywhere = discs(2, 4).mapv(|value| value.max(1));
        assert!(refusal(everywhere, LabelEncoding::Dense).contains("no pixel has the value 0"));
    }

    #[test]
    fn masks_without_numbers_are_noticed() {
        let mask = discs(1, 4).mapv(|value| u32::from(value > 0) * 255);
        for encoding in [LabelEncoding::Dense, LabelEncoding::Wire, LabelEncoding::Signed] {
            assert!(refusal(mask.clone(), encoding).contains("looks like a mask"));
        }
        let mut split = discs(1, 1);
        split[[0, 0]] = 1;
        parse(split, LabelEncoding::Dense).unwrap();
    }

    #[test]
    fn a_wrapped_minus_one_is_noticed() {
        for lost in [255, 65_535, u32::MAX] {
            let values = discs(1, 3).mapv(|value| if value == 0 { lost } else { value });
            assert!(refusal(values, LabelEncoding::Dense).contains("looks like -1"));
        }
    }
}
