//! The only kind of labels that training accepts.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::Array2;

use super::cut::forget_cut_objects;
use super::encoding::LabelEncoding;
use super::encoding_check;
use super::encoding_choice::choose_encoding;
use super::label_source::LabelSource;
use crate::error::{Error, Result, counted};
use crate::geometry::disc_diameter;
use crate::raster::{Image, LabelImage, RawLabels};

/// Annotations of one image that were checked once: there are pixels, and not one object everywhere.
///
/// Pixels are -1 unlabelled (every loss ignores them), 0 background, `>= 1` an object; ids need not be consecutive. Labels
/// without an object are an empty field; only a [`Dataset`](super::Dataset) must have objects somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseLabels {
    labels: LabelImage,
    areas: BTreeMap<i32, usize>,
    classes: Option<BTreeMap<i32, Option<u32>>>,
    suspicions: Vec<String>,
}

impl SparseLabels {
    /// From `< 0` unlabelled, 0 background, `>= 1` object.
    ///
    /// # Errors
    /// [`Error::Labels`] when there are no pixels, or one object everywhere.
    pub fn from_signed(values: Array2<i32>) -> Result<Self> {
        let labels = values.mapv_into(|value| value.max(-1));
        if labels.is_empty() {
            return Err(Error::Labels(format!(
                "the label image has {} rows and {} columns, so no pixels",
                labels.nrows(),
                labels.ncols()
            )));
        }
        let mut areas: BTreeMap<i32, usize> = BTreeMap::new();
        for &label in labels.iter().filter(|&&label| label > 0) {
            *areas.entry(label).or_insert(0) += 1;
        }
        if let Some((id, _)) = areas.iter().find(|(_, area)| **area == labels.len()) {
            return Err(Error::Labels(format!(
                "every pixel belongs to object {id}, so there is nothing to tell it from; draw single cells, and check \
                 that this is the label file and not the image"
            )));
        }
        Ok(Self { labels, areas, classes: None, suspicions: Vec::new() })
    }

    /// From the wire encoding: 0 unlabelled, 1 background, `>= 2` object (id = value - 1). The values are taken at
    /// their word; [`parse`](Self::parse) also suspects mix-ups.
    ///
    /// # Errors
    /// As [`from_signed`](Self::from_signed), and for values beyond 2^31.
    pub fn from_wire(values: Array2<u32>) -> Result<Self> {
        Self::from_signed(shifted(&values, 1)?)
    }

    /// From the dense encoding: 0 background, `>= 1` object, nothing unlabelled. Taken at its word, as
    /// [`from_wire`](Self::from_wire).
    ///
    /// # Errors
    /// As [`from_signed`](Self::from_signed), and for values beyond 2^31 - 1.
    pub fn from_dense(values: Array2<u32>) -> Result<Self> {
        Self::from_signed(shifted(&values, 0)?)
    }

    /// From the cells encoding: 0 unlabelled, `>= 1` object, no background. Taken at its word, as
    /// [`from_wire`](Self::from_wire).
    ///
    /// # Errors
    /// As [`from_signed`](Self::from_signed), and for values beyond 2^31 - 1.
    pub fn from_cells(values: Array2<u32>) -> Result<Self> {
        Self::from_signed(shifted(&values, 0)?.mapv_into(|value| if value == 0 { -1 } else { value }))
    }

    /// From a label file in the encoding that its maker states, or that it seems to have.
    ///
    /// Beyond the checks of the other constructors this refuses -1 stored in an unsigned type and masks in which all cells
    /// have one number, and collects [`suspicions`](Self::suspicions). [`LabelEncoding::Auto`] judges this file alone; for
    /// the files of a data set see [`choose_encoding`](super::choose_encoding).
    ///
    /// # Errors
    /// [`Error::Labels`] that says what was seen and names the encoding to use.
    pub fn parse(raw: RawLabels, encoding: LabelEncoding) -> Result<Self> {
        Self::from_source(LabelSource::Values(raw), encoding)
    }

    /// From labels of any source. Shapes that were drawn are taken as they are; with [`LabelEncoding::Dense`] what was not
    /// drawn is background.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_source(source: LabelSource, encoding: LabelEncoding) -> Result<Self> {
        if encoding == LabelEncoding::Auto {
            let choice = choose_encoding(std::slice::from_ref(&source), encoding)?;
            return Self::from_source(source, choice.encoding);
        }
        let mut labels = match source {
            LabelSource::Drawn(drawn) if encoding == LabelEncoding::Dense => {
                Self::from_signed(drawn.mapv_into(|label| label.max(0)))
            }
            LabelSource::Drawn(drawn) => return Self::from_signed(drawn),
            LabelSource::Values(raw) | LabelSource::Instances(raw) => Self::from_raw(raw, encoding),
        }?;
        labels.suspicions = encoding_check::suspicions(&labels, encoding)?;
        Ok(labels)
    }

    fn from_raw(raw: RawLabels, encoding: LabelEncoding) -> Result<Self> {
        let values = match raw {
            RawLabels::Signed(values) if encoding == LabelEncoding::Signed => return Self::from_signed(values),
            RawLabels::Signed(values) => {
                if let Some(((y, x), value)) = values.indexed_iter().find(|(_, value)| **value < 0) {
                    return Err(Error::Labels(format!(
                        "the pixel at row {y}, column {x} has the value {value}, and the {encoding} encoding has no \
                         negative values; if negative means unlabelled, use label encoding 'signed'"
                    )));
                }
                values.mapv(i32::unsigned_abs)
            }
            RawLabels::Unsigned(values) => {
                encoding_check::refuse_wrapped(&values)?;
                values
            }
        };
        match encoding {
            LabelEncoding::Wire => Self::from_wire(values),
            LabelEncoding::Cells => Self::from_cells(values),
            LabelEncoding::Dense | LabelEncoding::Signed | LabelEncoding::Auto => Self::from_dense(values),
        }
    }

    /// The same labels without the objects that the sides of a part of an image cut, see [`forget_cut_objects`]: they are of the rows
    /// and columns `window` of an image with `whole` rows and columns.
    pub fn without_cut(mut self, window: &[Range<usize>; 2], whole: (usize, usize)) -> Self {
        for id in forget_cut_objects(&mut self.labels, window, whole) {
            self.areas.remove(&id);
            if let Some(classes) = &mut self.classes {
                classes.remove(&id);
            }
        }
        self
    }

    /// What is odd about the file these labels came from, in sentences.
    pub fn suspicions(&self) -> &[String] {
        &self.suspicions
    }

    /// Adds the class of objects: `None` for an object of unknown class; objects that are not mentioned are unknown too.
    ///
    /// # Errors
    /// [`Error::Labels`] for an id that is not in the labels, or for class 0, which is the background.
    pub fn with_classes(mut self, classes: BTreeMap<i32, Option<u32>>) -> Result<Self> {
        for (id, class) in &classes {
            if !self.areas.contains_key(id) {
                return Err(Error::Labels(format!(
                    "a class is given for object {id}, which is not in the labels (they have {}, ids {} to {})",
                    counted(self.areas.len(), "object"),
                    self.areas.keys().next().copied().unwrap_or(0),
                    self.areas.keys().next_back().copied().unwrap_or(0)
                )));
            }
            if *class == Some(0) {
                return Err(Error::Labels(format!("object {id} has class 0, which is background; classes begin at 1")));
            }
        }
        self.classes = Some(classes);
        Ok(self)
    }

    /// Refuses an image of another size.
    ///
    /// # Errors
    /// [`Error::Labels`] that names both shapes.
    pub fn check_fits(&self, image: &Image) -> Result<()> {
        super::label_source::check_fits(self.labels.dim(), image)
    }

    /// The label image `[H, W]`: -1 unlabelled, 0 background, `>= 1` object.
    pub fn labels(&self) -> &LabelImage {
        &self.labels
    }

    /// Object ids, increasing.
    pub fn ids(&self) -> impl Iterator<Item = i32> + '_ {
        self.areas.keys().copied()
    }

    /// Number of objects; 0 for an empty field.
    pub fn object_count(&self) -> usize {
        self.areas.len()
    }

    /// Pixels of every object, by id.
    pub fn areas(&self) -> &BTreeMap<i32, usize> {
        &self.areas
    }

    /// Class of every object, if classes were given.
    pub fn classes(&self) -> Option<&BTreeMap<i32, Option<u32>>> {
        self.classes.as_ref()
    }

    /// Fraction of the pixels that say something (background or object), in `[0, 1]`.
    pub fn labelled_fraction(&self) -> f64 {
        self.labels.iter().filter(|&&label| label >= 0).count() as f64 / self.labels.len() as f64
    }

    /// Diameter in pixels of a disc of the median object area; 0 without an object.
    pub fn median_diameter(&self) -> f64 {
        let mut areas: Vec<usize> = self.areas.values().copied().collect();
        areas.sort_unstable();
        disc_diameter(median(&areas))
    }
}

/// Of sorted values; 0 when there are none.
pub(super) fn median(sorted: &[usize]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0) as f64;
    if sorted.len() % 2 == 1 {
        at(sorted.len() / 2)
    } else {
        (at(sorted.len() / 2) + at((sorted.len() / 2).wrapping_sub(1))) / 2.0
    }
}

fn shifted(values: &Array2<u32>, by: i64) -> Result<LabelImage> {
    if let Some(((y, x), value)) =
        values.indexed_iter().find(|(_, value)| i64::from(**value) - by > i64::from(i32::MAX))
    {
        return Err(Error::Labels(format!(
            "the pixel at row {y}, column {x} has the value {value}, which is too large; number the objects from 1"
        )));
    }
    Ok(values.mapv(|value| (i64::from(value) - by) as i32))
}

/// What there is in labels without an object.
pub(super) fn nothing_drawn(labels: &SparseLabels) -> String {
    let background = labels.labels.iter().filter(|&&label| label == 0).count();
    match background {
        0 => "every pixel is unlabelled".to_string(),
        n if n == labels.labels.len() => "every pixel is background".to_string(),
        n => format!("there are {n} background pixels and nothing else"),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::error::ErrorKind;

    fn refusal(result: Result<SparseLabels>) -> String {
        match result {
            Err(error) if error.kind() == ErrorKind::Labels => error.message(),
            other => panic!("expected a refusal of the labels, found {other:?}"),
        }
    }

    #[test]
    fn the_encodings_mean_the_same() {
        let signed = SparseLabels::from_signed(array![[-1, 0, 1], [-7, 0, 4]]).unwrap();
        assert_eq!(signed.labels(), &array![[-1, 0, 1], [-1, 0, 4]]);
        assert_eq!(SparseLabels::from_wire(array![[0, 1, 2], [0, 1, 5]]).unwrap(), signed);
        let dense = SparseLabels::from_dense(array![[0, 1], [4, 0]]).unwrap();
        assert_eq!(dense.labels(), &array![[0, 1], [4, 0]]);
        let cells = SparseLabels::from_cells(array![[0, 1], [4, 0]]).unwrap();
        assert_eq!(cells.labels(), &array![[-1, 1], [4, -1]]);
        assert_eq!(signed.ids().collect::<Vec<_>>(), [1, 4]);
        assert_eq!(signed.object_count(), 2);
        assert!((signed.labelled_fraction() - 4.0 / 6.0).abs() < 1e-12);
        assert!((signed.median_diameter() - std::f64::consts::FRAC_2_SQRT_PI).abs() < 1e-6);
    }

    #[test]
    fn drawn_shapes_are_taken_as_they_are() {
        let drawn = || LabelSource::Drawn(array![[-1, 0, 1], [-1, -1, 2]]);
        for encoding in [LabelEncoding::Auto, LabelEncoding::Wire, LabelEncoding::Signed] {
            let labels = SparseLabels::from_source(drawn(), encoding).unwrap();
            assert_eq!(labels.labels(), &array![[-1, 0, 1], [-1, -1, 2]]);
        }
        let dense = SparseLabels::from_source(drawn(), LabelEncoding::Dense).unwrap();
        assert_eq!(dense.labels(), &array![[0, 0, 1], [0, 0, 2]]);
    }

    #[test]
    fn fields_without_a_cell_are_told_from_unusable_labels() {
        let empty = SparseLabels::from_signed(Array2::zeros((2, 2))).unwrap();
        assert_eq!((empty.object_count(), empty.median_diameter()), (0, 0.0));
        assert!(nothing_drawn(&empty).contains("every pixel is background"));
        let unlabelled = SparseLabels::from_signed(Array2::from_elem((2, 2), -1)).unwrap();
        assert!(nothing_drawn(&unlabelled).contains("every pixel is unlabelled"));
        let strokes = SparseLabels::from_wire(array![[0, 1], [1, 0]]).unwrap();
        assert!(nothing_drawn(&strokes).contains("2 background pixels"));
        assert!(refusal(SparseLabels::from_signed(Array2::from_elem((2, 2), 3))).contains("object 3"));
        assert!(refusal(SparseLabels::from_signed(Array2::zeros((0, 2)))).contains("0 rows"));
        assert!(refusal(SparseLabels::from_dense(array![[0, u32::MAX]])).contains("4294967295"));
    }

    #[test]
    fn sizes_that_differ_are_both_named() {
        let labels = SparseLabels::from_signed(array![[-1, 0, 1]]).unwrap();
        let text = labels.check_fits(&Image::from_gray(Array2::zeros((3, 1)))).unwrap_err().to_string();
        assert!(text.contains("3 x 1") && text.contains("1 x 3") && text.contains("exchanged"), "{text}");
        labels.check_fits(&Image::from_gray(Array2::zeros((1, 3)))).unwrap();
    }

    #[test]
    fn classes_must_belong_to_objects() {
        let labels = || SparseLabels::from_signed(array![[-1, 0, 1, 5]]).unwrap();
        let classes = BTreeMap::from([(1, Some(2)), (5, None)]);
        assert_eq!(labels().with_classes(classes.clone()).unwrap().classes(), Some(&classes));
        assert!(refusal(labels().with_classes(BTreeMap::from([(3, Some(1))]))).contains("object 3"));
        assert!(refusal(labels().with_classes(BTreeMap::from([(5, Some(0))]))).contains("class 0"));
    }

    #[test]
    fn negative_values_need_the_signed_encoding() {
        let raw = || RawLabels::Signed(array![[-1, 0, 2]]);
        for encoding in [LabelEncoding::Wire, LabelEncoding::Dense, LabelEncoding::Cells] {
            assert!(refusal(SparseLabels::parse(raw(), encoding)).contains("label encoding 'signed'"));
        }
        assert_eq!(SparseLabels::parse(raw(), LabelEncoding::Auto).unwrap().labels(), &array![[-1, 0, 2]]);
        assert_eq!(SparseLabels::parse(raw(), LabelEncoding::Signed).unwrap().labels(), &array![[-1, 0, 2]]);
    }
}
