//! Which encoding the label files of a data set have, judged by the files themselves.

use std::collections::BTreeMap;

use super::encoding::LabelEncoding;
use super::encoding_check::{Form, form};
use super::label_source::{LabelSource, positive};
use crate::error::{Error, Result, counted};
use crate::raster::{Component, Components, LabelImage, RawLabels, connected_components};

/// An encoding, and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodingChoice {
    /// Never [`LabelEncoding::Auto`].
    pub encoding: LabelEncoding,
    /// Half a sentence.
    pub reason: String,
}

/// Files in which the value 1 looks like a cell from which chance is ruled out.
const FILES: usize = 3;

/// Labels are complete when they cover this fraction of the pixels, or are as many cells as the first value and cover the
/// fraction of the second, or are this many cells.
const COMPLETE: f64 = 0.25;
const MANY: (f64, f64) = (20.0, 0.05);
const VERY_MANY: f64 = 50.0;

/// Labels that cover less than this with so few cells, or hardly anything at all, are a few cells among others.
const FEW: (f64, f64) = (12.0, 0.03);
const HARDLY: f64 = 0.01;

/// The one encoding of all label images of a data set: the `asked` one, or with [`LabelEncoding::Auto`] what type, values,
/// coverage and shapes say.
///
/// - A negative value anywhere means `signed`; so do drawn shapes, whose pixels are background where background was drawn.
/// - `wire`: the value 1 looks like background (strokes in several pieces, much larger or much longer than the others).
/// - `dense` or `cells`: 1 looks like the other cells. Labels that cover a quarter of the pixels, or number very many, are
///   complete (`dense`); a few cells on a few per cent of the pixels are not (`cells`).
///
/// # Errors
/// [`Error::Labels`] with the choices, the likeliest first, when two readings would teach opposite things; for strokes of a
/// few classes, in which cells have no numbers; and as [`LabelSource::check`].
pub fn choose_encoding(sources: &[LabelSource], asked: LabelEncoding) -> Result<EncodingChoice> {
    let taken = |encoding, reason: &str| Ok(EncodingChoice { encoding, reason: reason.to_string() });
    if asked != LabelEncoding::Auto {
        return taken(asked, "as asked for");
    }
    let negative = |source: &LabelSource| match source {
        LabelSource::Values(RawLabels::Signed(values)) | LabelSource::Instances(RawLabels::Signed(values)) => {
            values.iter().any(|value| *value < 0)
        }
        _ => false,
    };
    if sources.iter().any(negative) {
        return taken(LabelEncoding::Signed, "there are values below 0");
    }
    for (index, source) in sources.iter().enumerate() {
        source.check().map_err(|error| match error {
            Error::Labels(reason) if sources.len() > 1 => {
                Error::Labels(format!("label image {index} (counted from 0): {reason}"))
            }
            other => other,
        })?;
    }
    let mut seen = Seen::default();
    for source in sources {
        match source {
            LabelSource::Values(raw) => seen.add(&positive(raw), true)?,
            LabelSource::Instances(raw) => seen.add(&positive(raw), false)?,
            LabelSource::Drawn(_) => {}
        }
    }
    if seen.pixels == 0 {
        return taken(LabelEncoding::Signed, "cells and background are as they were drawn, the rest is unlabelled");
    }
    seen.decide()
}

/// What the value 1 looks like in a file that has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Background,
    Cell,
    Unclear,
}

/// What was seen in the label images of a data set.
#[derive(Debug, Default)]
struct Seen {
    /// Images with a cell, their pixels, and those of them that are above 0.
    images: usize,
    pixels: usize,
    labelled: usize,
    /// Pixels that are 0, in all images.
    zeros: usize,
    /// Pixels that are 1 where 1 may be background.
    ones: usize,
    /// Different values above 0, summed over the images.
    values: usize,
    lowest: i32,
    highest: i32,
    /// Images with those looks of the value 1.
    background: usize,
    cell: usize,
    unclear: usize,
    /// Pieces of the value 1 in the image that has most.
    pieces: usize,
    /// Whether 1 may be background.
    wire: bool,
    /// Whether every value lies in several pieces or thin lines, as strokes of classes do.
    strokes: bool,
}

impl Seen {
    fn add(&mut self, labels: &LabelImage, wire: bool) -> Result<()> {
        self.zeros += labels.iter().filter(|value| **value == 0).count();
        let components = connected_components(labels, |value| value > 0)?;
        self.pixels = self.pixels.max(1);
        let mut by_value: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (index, part) in components.parts.iter().enumerate() {
            by_value.entry(part.label).or_default().push(index);
        }
        let (Some(lowest), Some(highest)) = (by_value.keys().next(), by_value.keys().next_back()) else {
            return Ok(());
        };
        self.lowest = if self.images == 0 { *lowest } else { self.lowest.min(*lowest) };
        self.highest = self.highest.max(*highest);
        self.strokes = (self.images == 0 || self.strokes) && are_strokes(&components, &by_value);
        self.images += 1;
        self.pixels += labels.len();
        self.labelled += components.parts.iter().map(|part| part.area).sum::<usize>();
        self.values += by_value.len();
        self.wire |= wire;
        if let Some(ones) = by_value.get(&1).filter(|_| wire) {
            self.ones += ones.iter().map(|index| components.parts[*index].area).sum::<usize>();
            self.pieces = self.pieces.max(ones.len());
            match look(&components, &by_value, ones, labels.dim()) {
                _ if by_value.len() == 1 => {}
                Look::Background => self.background += 1,
                Look::Cell => self.cell += 1,
                Look::Unclear => self.unclear += 1,
            }
        }
        Ok(())
    }

    fn decide(&self) -> Result<EncodingChoice> {
        use LabelEncoding::{Cells, Dense, Wire};
        let taken = |encoding, reason: String| Ok(EncodingChoice { encoding, reason });
        let (coverage, cells) = (self.coverage(), self.cells());
        let measured =
            format!("{} an image on {:.1} % of the pixels", counted(cells.round() as usize, "cell"), 100.0 * coverage);
        if self.images == 0 {
            return taken(Dense, "all values are 0".into());
        }
        if self.strokes {
            return Err(Error::Labels(format!(
                "these look like strokes of {} classes, because every value lies in several pieces or thin lines: cells need numbers of \
                 their own. Give every cell a number from 2, background the number 1, and leave the rest 0",
                self.highest
            )));
        }
        if self.wire && self.zeros == 0 && 2 * self.ones > self.pixels {
            return taken(Wire, "no value is 0, and 1 covers most of the pixels, as background does".into());
        }
        if self.background > 0 && self.background >= 3 * (self.cell + self.unclear) {
            let strokes = if self.pieces > 1 {
                format!("the value 1 lies in {} pieces, as background strokes do", self.pieces)
            } else {
                "the value 1 is shaped like background, unlike the others".into()
            };
            return taken(Wire, format!("{strokes}, and cells begin at 2"));
        }
        let complete = coverage >= COMPLETE || (cells >= MANY.0 && coverage >= MANY.1) || cells >= VERY_MANY;
        let sparse = !complete && ((cells <= FEW.0 && coverage < FEW.1) || coverage < HARDLY);
        let ones = self.background + self.cell + self.unclear;
        if self.background + self.unclear == 0 {
            let sure = !self.wire || ones == 0 || self.cell >= FILES;
            if complete {
                return taken(Dense, format!("{measured} leave little undrawn"));
            }
            if sparse && sure {
                if ones == 0 && self.wire && self.lowest == 2 {
                    return taken(Wire, format!("cells begin at 2 and no background is drawn ({measured})"));
                }
                let why = if self.cell > 0 { ", and the value 1 is a cell like the others" } else { "" };
                return taken(Cells, format!("{measured}: others may be there undrawn{why}"));
            }
        }
        Err(Error::Labels(self.question(complete, sparse, &measured)))
    }

    /// The error with the choices, the likeliest first.
    fn question(&self, complete: bool, sparse: bool, measured: &str) -> String {
        use LabelEncoding::{Cells, Dense, Wire};
        let background = self.background + self.unclear > self.cell && self.wire;
        let mut choices = match (background, complete || self.coverage() >= 0.1) {
            (true, true) => vec![Wire, Dense, Cells],
            (true, false) => vec![Wire, Cells, Dense],
            (false, true) => vec![Dense, Cells, Wire],
            (false, false) => vec![Cells, Wire, Dense],
        };
        choices.retain(|choice| match choice {
            Wire => self.background + self.unclear + self.cell > 0,
            Dense => !sparse,
            _ => !(complete && background),
        });
        let choices: Vec<String> =
            choices.iter().map(|choice| format!("label encoding '{choice}' ({})", choice.meaning())).collect();
        let one = match (self.background + self.unclear, self.cell) {
            (0, 0) => "",
            (0, _) => ", and the value 1 may be a cell or a patch of background",
            _ => ", and the value 1 may be background or a cell in pieces",
        };
        format!("it is not plain what the values mean ({measured}{one}); use {}", choices.join(", or "))
    }

    fn coverage(&self) -> f64 {
        self.labelled as f64 / self.pixels.max(1) as f64
    }

    fn cells(&self) -> f64 {
        self.values as f64 / self.images.max(1) as f64
    }
}

/// A piece is a stroke when it covers less than this fraction of the ellipse of its moments, or is this many times as
/// long as wide.
const THIN: (f64, f64) = (0.5, 12.0);

/// Few values, each of them in several pieces of some size or a thin stroke.
fn are_strokes(components: &Components, by_value: &BTreeMap<i32, Vec<usize>>) -> bool {
    let thin =
        |index: &usize| form(components, *index).is_some_and(|form| form.fill < THIN.0 || form.elongation > THIN.1);
    let sizable = |pieces: &Vec<usize>| {
        let large = large(components, pieces);
        large.len() >= 2 || large.iter().all(thin)
    };
    (2..=4).contains(&by_value.len())
        && by_value.keys().next_back() == Some(&(by_value.len() as i32))
        && by_value.values().all(sizable)
}

/// The pieces that are not specks beside the largest.
fn large(components: &Components, pieces: &[usize]) -> Vec<usize> {
    let area = |index: &usize| components.parts[*index].area;
    let largest = pieces.iter().map(area).max().unwrap_or(0);
    pieces.iter().copied().filter(|index| area(index) >= 4 && 10 * area(index) >= largest).collect()
}

fn look(components: &Components, by_value: &BTreeMap<i32, Vec<usize>>, ones: &[usize], shape: (usize, usize)) -> Look {
    let others: Vec<&Vec<usize>> = by_value.range(2..).map(|(_, pieces)| pieces).collect();
    let whole = others.iter().filter(|pieces| large(components, pieces).len() == 1).count();
    let area = |pieces: &[usize]| pieces.iter().map(|index| components.parts[*index].area).sum::<usize>();
    let (smallest, largest) = (
        others.iter().map(|pieces| area(pieces)).min().unwrap_or(0),
        others.iter().map(|pieces| area(pieces)).max().unwrap_or(0),
    );
    let pieces = large(components, ones);
    if area(ones) > 4 * largest || (pieces.len() >= 2 && whole * 10 >= others.len() * 9) {
        return Look::Background;
    }
    let [one] = pieces.as_slice() else { return Look::Unclear };
    if 5 * area(ones) < smallest {
        return Look::Unclear;
    }
    let part = &components.parts[*one];
    // The border of the image cuts cells into any shape.
    if at_border(part, shape) {
        return Look::Cell;
    }
    let Some(form) = form(components, *one) else { return Look::Unclear };
    let forms: Vec<Form> =
        others.iter().filter_map(|pieces| super::encoding_check::form(components, *pieces.first()?)).collect();
    let longest = forms.iter().map(|form| form.elongation).fold(2.0, f64::max);
    let loosest = forms.iter().map(|form| form.fill).fold(0.9, f64::min);
    if form.elongation > 1.5 * longest || form.fill < 0.8 * loosest { Look::Background } else { Look::Cell }
}

fn at_border(part: &Component, (height, width): (usize, usize)) -> bool {
    let [top, left, bottom, right] = part.bounds;
    top == 0 || left == 0 || bottom + 1 == height || right + 1 == width
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    /// Discs of that radius numbered from `first`, `pitch` pixels apart in rows of 5, on an empty ground of 200 x 200.
    fn discs(first: u32, count: usize, radius: usize, pitch: usize) -> Array2<u32> {
        let mut values = Array2::zeros((200, 200));
        for at in 0..count {
            let (cy, cx) = (20 + pitch * (at / 5), 20 + pitch * (at % 5));
            for ((y, x), value) in values.indexed_iter_mut() {
                if y.abs_diff(cy).pow(2) + x.abs_diff(cx).pow(2) <= radius * radius {
                    *value = first + at as u32;
                }
            }
        }
        values
    }

    fn choose(images: &[Array2<u32>]) -> Result<EncodingChoice> {
        let sources: Vec<_> =
            images.iter().map(|values| LabelSource::Values(RawLabels::Unsigned(values.clone()))).collect();
        choose_encoding(&sources, LabelEncoding::Auto)
    }

    fn taken(images: &[Array2<u32>]) -> LabelEncoding {
        choose(images).unwrap().encoding
    }

    /// The encodings that the question names, in order.
    fn asked(images: &[Array2<u32>]) -> Vec<String> {
        let text = choose(images).unwrap_err().to_string();
        text.split("label encoding '").skip(1).map(|rest| rest.split('\'').next().unwrap().to_string()).collect()
    }

    fn with_strokes(mut values: Array2<u32>, strokes: usize) -> Array2<u32> {
        for at in 0..strokes {
            values.slice_mut(s![150 + 10 * at..153 + 10 * at, 20..120]).fill(1);
        }
        values
    }

    #[test]
    fn what_is_plain_is_taken_with_a_reason() {
        let signed = LabelSource::Values(RawLabels::Signed(Array2::from_shape_fn((9, 9), |(y, _)| y as i32 - 1)));
        assert_eq!(choose_encoding(&[signed], LabelEncoding::Auto).unwrap().encoding, LabelEncoding::Signed);
        assert_eq!(taken(&[with_strokes(discs(2, 5, 8, 30), 2)]), LabelEncoding::Wire);
        assert_eq!(taken(&[with_strokes(discs(2, 5, 8, 30), 1)]), LabelEncoding::Wire, "one long stroke");
        assert_eq!(taken(&[discs(2, 5, 8, 30)]), LabelEncoding::Wire, "no background, cells from 2");
        assert_eq!(taken(&[discs(1, 25, 12, 30)]), LabelEncoding::Dense);
        assert_eq!(taken(&[discs(2, 25, 12, 30).mapv(|value| value.max(1))]), LabelEncoding::Wire);
        let choice = choose(&[discs(1, 4, 7, 30), discs(1, 3, 8, 40), discs(1, 5, 6, 30)]).unwrap();
        assert_eq!(choice.encoding, LabelEncoding::Cells);
        assert!(choice.reason.contains("4 cells an image"), "{}", choice.reason);
        // An empty field among complete labels.
        assert_eq!(taken(&[discs(1, 25, 12, 30), Array2::zeros((200, 200))]), LabelEncoding::Dense);
        // The background of one image settles what the others leave open.
        assert_eq!(taken(&[discs(2, 5, 8, 30), with_strokes(discs(2, 3, 8, 30), 3)]), LabelEncoding::Wire);
    }

    #[test]
    fn readings_that_teach_opposite_things_are_asked_about() {
        assert_eq!(asked(&[discs(1, 5, 6, 30)])[..2], ["cells", "wire"], "1 is a blob like a cell");
        assert_eq!(asked(&[discs(1, 15, 9, 30)])[..2], ["cells", "wire"]);
        assert!(asked(&[discs(1, 15, 9, 30)]).contains(&"dense".to_string()), "all cells may be drawn");
        assert!(asked(&[discs(3, 18, 9, 30)]).contains(&"dense".to_string()));
    }

    #[test]
    fn numbers_of_programs_that_count_cells_from_1_are_never_wire() {
        let choose =
            |values| choose_encoding(&[LabelSource::Instances(RawLabels::Unsigned(values))], LabelEncoding::Auto);
        assert_eq!(choose(discs(1, 5, 6, 30)).unwrap().encoding, LabelEncoding::Cells);
        assert_eq!(choose(discs(1, 25, 12, 30)).unwrap().encoding, LabelEncoding::Dense);
        let text = choose(discs(1, 15, 9, 30)).unwrap_err().to_string();
        assert!(text.contains("'dense'") && !text.contains("'wire'"), "{text}");
    }

    #[test]
    fn strokes_of_classes_are_no_cells() {
        let mut values = Array2::zeros((100, 100));
        for (at, value) in [1, 1, 2, 2, 1].into_iter().enumerate() {
            values.slice_mut(s![10 + 15 * at..13 + 15 * at, 10..80]).fill(value);
        }
        assert!(choose(&[values]).unwrap_err().to_string().contains("strokes of 2 classes"));
        let mut bent = Array2::zeros((100, 100));
        for (at, value) in [(5, 1), (55, 2)] {
            bent.slice_mut(s![at..at + 40, 10..13]).fill(value);
            bent.slice_mut(s![at + 37..at + 40, 10..90]).fill(value);
        }
        assert!(choose(&[bent]).unwrap_err().to_string().contains("strokes of 2 classes"));
    }
}
