//! Label files whose numbers contradict the encoding they are said to have.
//!
//! What can hardly be right is refused; what is only odd is told to the annotator.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::encoding::LabelEncoding;
use super::sparse_labels::{SparseLabels, median};
use crate::error::{Error, Reason, Result, counted};
use crate::raster::{Component, Components, LabelImage, connected_components};

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
             number; save the labels as signed 16 or 32 bit TIFF and use label encoding 'signed', or add 1 to every \
             value and use label encoding 'wire'",
            100.0 * count as f64 / values.len() as f64
        ))
        .because(Reason::label_encoding("wire")));
    }
    Ok(())
}

/// Refuses a mask without numbers: one number for many regions of similar size.
///
/// # Errors
/// [`Error::Labels`] that says what to do.
pub fn refuse_mask(labels: &LabelImage) -> Result<()> {
    let components = connected_components(labels, |label| label > 0)?;
    refuse_one_number(&by_label(&components))
}

/// Objects from which an image can be told from labels, and pieces of an object that no drawn cell has.
const SCATTERED: (usize, usize) = (10, 5);

/// Refuses a mask without numbers, and an image whose intensities were taken for numbers of cells: most of them lie in many
/// places.
///
/// # Errors
/// [`Error::Labels`] that says what was seen.
pub(super) fn refuse_other_images(labels: &LabelImage) -> Result<()> {
    let components = connected_components(labels, |label| label > 0)?;
    let by_label = by_label(&components);
    refuse_one_number(&by_label)?;
    let scattered = by_label.values().filter(|parts| parts.len() >= SCATTERED.1).count();
    if by_label.len() >= SCATTERED.0 && 2 * scattered > by_label.len() {
        return Err(Error::Labels(format!(
            "{scattered} of its {} numbers lie in {} or more separate pieces each: this looks like an image, not like labels, in \
             which every cell has a number of its own; name the label image",
            by_label.len(),
            SCATTERED.1
        )));
    }
    Ok(())
}

/// Refuses labels that contradict their encoding, and tells what is odd about the others.
pub(super) fn suspicions(labels: &SparseLabels, encoding: LabelEncoding) -> Result<Vec<String>> {
    let components = connected_components(labels.labels(), |label| label >= 0)?;
    let by_label = by_label(&components);
    refuse_one_number(&by_label)?;
    let suspicion = match encoding {
        LabelEncoding::Wire => dense_as_wire(labels, &components, &by_label),
        LabelEncoding::Dense => {
            refuse_background_as_cell(labels, &by_label)?;
            wire_as_dense(&by_label)
        }
        LabelEncoding::Signed | LabelEncoding::Cells | LabelEncoding::Auto => None,
    };
    Ok(suspicion.into_iter().collect())
}

/// Indices of the parts of every label.
type ByLabel = BTreeMap<i32, Vec<(usize, Component)>>;

fn by_label(components: &Components) -> ByLabel {
    let mut by_label = ByLabel::new();
    for (index, part) in components.parts.iter().enumerate() {
        by_label.entry(part.label).or_default().push((index, *part));
    }
    by_label
}

fn refuse_one_number(by_label: &ByLabel) -> Result<()> {
    let mut objects = by_label.range(1..);
    let (Some((_, parts)), None) = (objects.next(), objects.next()) else { return Ok(()) };
    let largest = parts.iter().map(|(_, part)| part.area).max().unwrap_or(0);
    let similar = parts.iter().filter(|(_, part)| part.area * 4 >= largest).count();
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
/// the other ids follow without a gap. A real background is mostly strokes, several patches, or much larger.
fn dense_as_wire(labels: &SparseLabels, components: &Components, by_label: &ByLabel) -> Option<String> {
    let count = labels.object_count();
    let consecutive = labels.ids().eq(1..=i32::try_from(count).unwrap_or(i32::MAX));
    let [(index, background)] = by_label.get(&0)?.as_slice() else { return None };
    if count < ENOUGH || !consecutive {
        return None;
    }
    let mut areas: Vec<usize> = labels.areas().values().copied().collect();
    areas.sort_unstable();
    let ratio = background.area as f64 / median(&areas);
    let compact = form(components, *index).is_some_and(|form| form.elongation <= 3.0 && form.fill >= 0.8);
    (compact && (0.25..=4.0).contains(&ratio)).then(|| {
        format!(
            "The background is a single region of {}, shaped and sized like the {count} cells: if it is a cell, use \
             label encoding 'cells' (others may be undrawn) or label encoding 'dense' (all are drawn).",
            counted(background.area, "pixel")
        )
    })
}

/// How long and how compact a region is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Length by width of the ellipse of the same moments.
    pub elongation: f64,
    /// Area by that of this ellipse; about 1 for an ellipse.
    pub fill: f64,
}

/// The form of a part, from its moments; `None` for fewer than 4 pixels.
pub(super) fn form(components: &Components, index: usize) -> Option<Form> {
    let [top, left, bottom, right] = components.parts.get(index)?.bounds;
    let (mut n, mut sy, mut sx, mut syy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for y in top..=bottom {
        for x in left..=right {
            if components.map[[y, x]] as usize == index + 1 {
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
        return None;
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
    Some(Form { elongation: (long / short).sqrt(), fill })
}

/// In a wire file that is read as dense, the background turns into an object that covers most of an image without any 0.
fn refuse_background_as_cell(labels: &SparseLabels, by_label: &ByLabel) -> Result<()> {
    let area: usize = by_label.get(&1).into_iter().flatten().map(|(_, part)| part.area).sum();
    let total = labels.labels().len();
    if by_label.contains_key(&0) || area * 2 <= total {
        return Ok(());
    }
    Err(Error::Labels(format!(
        "no pixel has the value 0 (background) and the value 1 covers {:.0} % of the image, which no cell does; if 1 is \
         background and cells begin at 2, use label encoding 'wire'",
        100.0 * area as f64 / total as f64
    )))
}

/// Or it is an object in pieces where the other objects are whole.
fn wire_as_dense(by_label: &ByLabel) -> Option<String> {
    let pieces = by_label.get(&1)?.len();
    let others: Vec<usize> = by_label.range(2..).map(|(_, parts)| parts.len()).collect();
    let whole = others.iter().filter(|parts| **parts == 1).count();
    (pieces >= ENOUGH && others.len() >= 2 && whole * 10 >= others.len() * 9).then(|| {
        format!(
            "Cell 1 lies in {pieces} separate pieces while the {} others are whole: if these are background strokes and \
             cells begin at 2, use label encoding 'wire'; else give each piece a number of its own.",
            others.len()
        )
    })
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

    fn suspicion(values: Array2<u32>, encoding: LabelEncoding) -> String {
        parse(values, encoding).unwrap().suspicions().join(" ")
    }

    #[test]
    fn images_are_no_labels() {
        let image = Array2::from_shape_fn((60, 60), |(y, x)| (100 + (y * 7 + x * 13 + y * x) % 50) as i32);
        assert!(refuse_other_images(&image).unwrap_err().to_string().contains("looks like an image, not like labels"));
        let cells = discs(1, 12).mapv(|value| value as i32);
        assert!(refuse_other_images(&cells).is_ok());
        // Some are in pieces, as a split brush leaves them.
        let mut pieces = cells.clone();
        pieces.slice_mut(ndarray::s![20, ..;2]).fill(0);
        pieces.slice_mut(ndarray::s![..;2, ..120]).fill(0);
        assert!(refuse_other_images(&pieces).is_ok());
        assert!(refuse_other_images(&image.mapv(|value| value % 9)).is_ok(), "a few classes are told elsewhere");
    }

    #[test]
    fn dense_labels_called_wire_are_noticed() {
        assert!(suspicion(discs(1, 5), LabelEncoding::Wire).contains("label encoding 'cells'"));
        assert_eq!(suspicion(discs(1, 5), LabelEncoding::Dense), "");
        assert_eq!(suspicion(discs(1, 5), LabelEncoding::Cells), "");
    }

    #[test]
    fn right_wire_labels_pass() {
        let parse = |values, encoding| assert_eq!(suspicion(values, encoding), "");
        parse(discs(2, 5), LabelEncoding::Wire);
        let mut stroke = discs(2, 5);
        stroke.slice_mut(ndarray::s![2..5, 5..45]).fill(1);
        parse(stroke, LabelEncoding::Wire);
        let mut patches = discs(2, 5);
        paint(&mut patches, 5, 10, 4, 1);
        paint(&mut patches, 5, 60, 4, 1);
        parse(patches, LabelEncoding::Wire);
        let everywhere = discs(2, 5).mapv(|value| value.max(1));
        parse(everywhere, LabelEncoding::Wire);
    }

    #[test]
    fn wire_labels_called_dense_are_noticed() {
        let mut strokes = discs(2, 4);
        for left in [2, 30, 60] {
            strokes.slice_mut(ndarray::s![2..5, left..left + 15]).fill(1);
        }
        assert!(suspicion(strokes, LabelEncoding::Dense).contains("label encoding 'wire'"));
        let everywhere = discs(2, 4).mapv(|value| value.max(1));
        assert!(refusal(everywhere, LabelEncoding::Dense).contains("no pixel has the value 0"));
    }

    #[test]
    fn masks_without_numbers_are_noticed() {
        let mask = discs(1, 4).mapv(|value| u32::from(value > 0) * 255);
        for encoding in [LabelEncoding::Dense, LabelEncoding::Wire, LabelEncoding::Signed, LabelEncoding::Cells] {
            assert!(refusal(mask.clone(), encoding).contains("looks like a mask"));
        }
        assert!(refuse_mask(&mask.mapv(|value| value as i32)).is_err());
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
