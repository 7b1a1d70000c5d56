//! Where to draw next: what a network says otherwise about an image and about its mirror image.

use std::collections::BTreeMap;

use ndarray::{Array3, s};

use crate::error::{Error, Result};
use crate::raster::{Image, LabelImage};

/// A place where the network is of two minds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Suggestion {
    /// Why.
    pub why: Why,
    /// Centre `[x, y]` in pixels from the corner of the image.
    pub centre: [f64; 2],
    /// The smallest box around its pixels, `[row, column, row end, column end]`.
    pub bounds: [usize; 4],
    /// 0: the two agree; 1: they have nothing in common.
    pub doubt: f64,
}

/// What the network is of two minds about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Whether or where the found object of that number is a cell.
    Object(i32),
    /// Whether a cell is here that was found in the mirror image alone.
    Missed,
}

impl Suggestion {
    /// The same in an image of which what was looked at begins in that row and column.
    pub(super) fn moved(mut self, [top, left]: [usize; 2]) -> Self {
        self.centre = [self.centre[0] + left as f64, self.centre[1] + top as f64];
        self.bounds = [self.bounds[0] + top, self.bounds[1] + left, self.bounds[2] + top, self.bounds[3] + left];
        self
    }
}

/// Intersection over union from which an object is taken for the same in both.
const SAME: f64 = 0.85;

impl Image {
    /// The image as a mirror shows it: columns in the opposite order.
    pub(super) fn mirrored(&self) -> Self {
        fn flipped<T: Clone>(pixels: &Array3<T>) -> Array3<T> {
            pixels.slice(s![.., ..;-1, ..]).to_owned()
        }
        match self {
            Image::U8(pixels) => Image::U8(flipped(pixels)),
            Image::U16(pixels) => Image::U16(flipped(pixels)),
            Image::F32(pixels) => Image::F32(flipped(pixels)),
        }
    }
}

/// What was found in an image, compared with what was found in its mirror image: the objects with the most doubt first, at
/// most `most`. Objects of which half is drawn already are left out.
///
/// # Errors
/// [`Error::Labels`] when the sizes differ.
pub fn suggestions(
    found: &LabelImage,
    in_mirror: &LabelImage,
    drawn: &LabelImage,
    most: usize,
) -> Result<Vec<Suggestion>> {
    if found.dim() != in_mirror.dim() || found.dim() != drawn.dim() {
        return Err(Error::Labels("what was found, and what is drawn, must be of images of one size".into()));
    }
    let mirrored = in_mirror.slice(s![.., ..;-1]);
    let (mut here, mut there) = (BTreeMap::<i32, Place>::new(), BTreeMap::<i32, Place>::new());
    let mut shared: BTreeMap<(i32, i32), usize> = BTreeMap::new();
    for (((at, &one), &other), &label) in found.indexed_iter().zip(mirrored).zip(drawn) {
        if one > 0 {
            here.entry(one).or_default().add(at, label >= 0);
        }
        if other > 0 {
            there.entry(other).or_default().add(at, label >= 0);
        }
        if one > 0 && other > 0 {
            *shared.entry((one, other)).or_default() += 1;
        }
    }
    let (mut best_here, mut best_there) = (BTreeMap::<i32, f64>::new(), BTreeMap::<i32, f64>::new());
    for (&(one, other), &pixels) in &shared {
        let area = |places: &BTreeMap<i32, Place>, id| places.get(&id).map_or(0, |place: &Place| place.area);
        let union = (area(&here, one) + area(&there, other) - pixels) as f64;
        let overlap = pixels as f64 / union;
        for (best, id) in [(&mut best_here, one), (&mut best_there, other)] {
            let value = best.entry(id).or_default();
            *value = value.max(overlap);
        }
    }
    let mut result = Vec::new();
    for (id, place) in here {
        let overlap = best_here.get(&id).copied().unwrap_or(0.0);
        if overlap < SAME {
            result.extend(place.suggestion(Why::Object(id), 1.0 - overlap));
        }
    }
    for (id, place) in there {
        let overlap = best_there.get(&id).copied().unwrap_or(0.0);
        // One that shares more with an object is among those above.
        if overlap < 0.1 {
            result.extend(place.suggestion(Why::Missed, 1.0 - overlap));
        }
    }
    result.sort_by(|a, b| b.doubt.total_cmp(&a.doubt));
    result.truncate(most);
    Ok(result)
}

/// Where an object lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    area: usize,
    drawn: usize,
    sum: [f64; 2],
    bounds: [usize; 4],
}

impl Default for Place {
    fn default() -> Self {
        Self { area: 0, drawn: 0, sum: [0.0; 2], bounds: [usize::MAX, usize::MAX, 0, 0] }
    }
}

impl Place {
    fn add(&mut self, (row, column): (usize, usize), drawn: bool) {
        self.area += 1;
        self.drawn += usize::from(drawn);
        self.sum[0] += column as f64 + 0.5;
        self.sum[1] += row as f64 + 0.5;
        let [top, left, bottom, right] = self.bounds;
        self.bounds = [top.min(row), left.min(column), bottom.max(row + 1), right.max(column + 1)];
    }

    fn suggestion(&self, why: Why, doubt: f64) -> Option<Suggestion> {
        if 2 * self.drawn >= self.area {
            return None;
        }
        let centre = self.sum.map(|sum| sum / self.area as f64);
        Some(Suggestion { why, centre, bounds: self.bounds, doubt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(boxes: &[(i32, [usize; 4])]) -> LabelImage {
        let mut labels = LabelImage::zeros((30, 40));
        for (id, [top, left, bottom, right]) in boxes {
            labels.slice_mut(s![*top..*bottom, *left..*right]).fill(*id);
        }
        labels
    }

    #[test]
    fn what_the_mirror_shows_otherwise_comes_first() {
        let found = with(&[(1, [2, 2, 10, 10]), (2, [2, 20, 10, 30]), (3, [20, 2, 28, 10]), (4, [20, 30, 28, 38])]);
        // 1 alike, 2 smaller by half, 3 is not there, 4 is drawn already; one more is at the bottom.
        let there = with(&[(1, [2, 2, 10, 10]), (2, [2, 20, 10, 25]), (9, [12, 14, 18, 20])]);
        let mirror = there.slice(s![.., ..;-1]).to_owned();
        let drawn = with(&[(1, [20, 30, 28, 38])]).mapv(|label| if label > 0 { 5 } else { -1 });
        let told = suggestions(&found, &mirror, &drawn, 9).unwrap();
        let whys: Vec<Why> = told.iter().map(|one| one.why).collect();
        assert_eq!(whys, [Why::Object(3), Why::Missed, Why::Object(2)]);
        assert_eq!((told[0].bounds, told[0].centre, told[0].doubt), ([20, 2, 28, 10], [6.0, 24.0], 1.0));
        assert!((told[2].doubt - 0.5).abs() < 1e-9);
        assert_eq!(suggestions(&found, &mirror, &drawn, 1).unwrap().len(), 1);
        assert!(suggestions(&found, &mirror, &LabelImage::zeros((2, 2)), 1).is_err());
    }
}
