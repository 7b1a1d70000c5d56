//! Images whose cells are of another size than those of the training: they are seen as much larger or smaller as brings their cells to
//! the size that the network knows.

use ndarray::{ArrayView2, ArrayView3};

use super::drawn::Drawn;
use super::working_scale::{MIDDLE, Measure, middle};
use crate::budget::zeros;
use crate::error::Result;
use crate::geometry::disc_diameter;
use crate::raster::LabelImage;

/// How an image is seen whose cells may be of another size than those of the training.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fit {
    /// How many times as large as usual.
    pub times: f64,
    /// What a user should know of it.
    pub note: Option<String>,
}

impl Fit {
    /// As usual.
    pub const USUAL: Self = Self { times: 1.0, note: None };

    /// That many times as large as usual.
    pub fn of(times: f64) -> Self {
        Self { times, note: fitted_note(times) }
    }

    /// As usual, since the memory does not suffice for more.
    pub fn for_want_of_memory() -> Self {
        let note = "the size of the cells of the image is taken for that of the training, since the memory does not suffice to find it out";
        Self { times: 1.0, note: Some(note.into()) }
    }
}

/// A sentence on an image that is seen that many times as large as usual; none on one that is seen as usual.
pub(super) fn fitted_note(times: f64) -> Option<String> {
    (times != 1.0).then(|| {
        format!(
            "the cells of the image seem to be {:.2} times as large as those of the training: it is seen at {times:.2} times the usual \
             size, unless images are taken as they are (rescale off)",
            1.0 / times
        )
    })
}

/// An object that a network finds in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FoundCell {
    /// In pixels of the image.
    pub area: f64,
    /// The mean probability of its pixels.
    pub probability: f64,
}

/// The objects of a label image whose pixels have these probabilities, and sides of `pixel` pixels of the image.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) where there is no memory.
pub(super) fn found_cells(labels: &LabelImage, probability: ArrayView2<'_, f32>, pixel: f64) -> Result<Vec<FoundCell>> {
    let count = labels.iter().copied().max().unwrap_or(0).max(0) as usize;
    let mut sums: Vec<(usize, f64)> = zeros(count, "the objects of an image")?;
    for (label, probability) in labels.iter().zip(probability).filter(|(label, _)| **label > 0) {
        let (pixels, sum) = &mut sums[*label as usize - 1];
        *pixels += 1;
        *sum += f64::from(*probability);
    }
    let found = sums
        .into_iter()
        .filter(|(pixels, _)| *pixels > 0)
        .map(|(pixels, sum)| FoundCell { area: pixels as f64 * pixel * pixel, probability: sum / pixels as f64 });
    Ok(found.collect())
}

/// Gives the objects that a network finds in a part `[H, W, C]` of an image that it sees so many times as large as usual.
pub(super) trait Look: Fn(ArrayView3<'_, f32>, f64) -> Result<Vec<FoundCell>> {}

impl<F: Fn(ArrayView3<'_, f32>, f64) -> Result<Vec<FoundCell>>> Look for F {}

/// Side in pixels of the part in the middle of an image that is looked at so many times as large as usual, where sides are usually scaled
/// by `usual`: larger cells are fewer, so that more of the image is looked at from further away, and less from closer.
pub(super) fn side(times: f64, usual: f64) -> usize {
    ((SIDE * times.powf(-WIDENED) / usual) as usize).min(MIDDLE)
}

/// Side of the largest part that is looked at.
pub(super) fn largest_side(usual: f64) -> usize {
    side(FURTHEST, usual)
}

/// How many times as large as usual an image `[H, W, C]` is seen, of which nothing is known: once, unless the cells that a network finds
/// in its middle are clearly smaller or larger than those of the training by its `measure` of these.
///
/// A network that sees cells which are too large takes their texture for small ones. So the image is also looked at from further away, and
/// that counts where there are more cells of the right size for each pixel; from closer only where there are none as usual. Of texture,
/// groups and noise a network is less sure: objects count as cells of which it is as sure as of those of the training, and all of them
/// only where that leads to nothing. `usual` is the factor by which the sides of images are scaled usually.
///
/// # Errors
/// Those of `look`.
pub(super) fn fitted(measure: Measure, image: ArrayView3<'_, f32>, usual: f64, look: impl Look) -> Result<f64> {
    let view = |times: f64| -> Result<View> {
        let part = middle(image, side(times, usual));
        Ok(View { times, cells: look(part, times)?, pixels: (part.dim().0 * part.dim().1) as f64 })
    };
    let as_usual = view(1.0)?;
    let further = FURTHER.into_iter().map(view).collect::<Result<Vec<_>>>()?;
    let closer = if as_usual.seen(measure).covered == 0.0 { Some(view(CLOSEST)?) } else { None };
    let all = Measure { probability: 0.0, ..measure };
    for (measure, closer, closest) in [(measure, closer, CLOSEST), (all, None, 1.0)] {
        let usually = as_usual.seen(measure);
        let mut starts: Vec<_> = further.iter().chain(&closer).map(|view| view.seen(measure)).collect();
        starts.retain(|start| start.density > CLEARLY * usually.density);
        starts.sort_by(|a, b| b.rank().total_cmp(&a.rank()));
        starts.push(usually);
        for start in starts {
            let look = |times| Ok(view(times)?.seen(measure));
            if let Some(times) = settled(start, measure.diameter, closest, look)? {
                return Ok(if (1.0 / ALIKE..=ALIKE).contains(&times) { 1.0 } else { times });
            }
        }
    }
    Ok(1.0)
}

/// From one look at an image on, the factor, [`FURTHEST`] to `closest`, at which its cells have the `measured` diameter; `None` where no
/// cells of that size were seen, or what was seen from further away were groups of them, which are gone once they are brought to it.
fn settled(mut seen: Seen, measured: f64, closest: f64, look: impl Fn(f64) -> Result<Seen>) -> Result<Option<f64>> {
    for _ in 0..ROUNDS {
        let Some(diameter) = seen.median else { break };
        let next = (measured / diameter).clamp(FURTHEST, closest);
        if (next / seen.times).max(seen.times / next) < ALIKE {
            break;
        }
        let there = look(next)?;
        // Closer, there is always something to see.
        let enough = if next > seen.times.max(1.0) { CLEARLY * seen.covered } else { seen.covered };
        if there.covered == 0.0 || there.covered < enough {
            let stays = seen.times >= 1.0 || there.covered > GONE * seen.covered;
            return Ok(Some(seen.times).filter(|_| seen.covered > 0.0 && stays));
        }
        seen = there;
    }
    Ok(Some(seen.times).filter(|_| seen.covered > 0.0))
}

/// A look at a part of an image.
struct View {
    /// How many times as large as usual.
    times: f64,
    cells: Vec<FoundCell>,
    /// Of the part, in pixels of the image.
    pixels: f64,
}

impl View {
    /// What it tells about cells with that measure.
    fn seen(&self, measure: Measure) -> Seen {
        let expected = measure.diameter / self.times;
        let sure = Sizes::of(self.cells.iter().filter(|cell| cell.probability >= measure.probability), expected);
        let (right, cells) = sure.right(expected);
        let fewest = if measure.probability > 0.0 { FEWEST[0] } else { FEWEST[1] };
        let share = right / Sizes::of(self.cells.iter(), expected).right(expected).0;
        let tells = cells >= fewest && share >= SURE;
        let of = |count: f64| if tells { count / self.pixels } else { 0.0 };
        Seen { times: self.times, median: sure.median(), covered: of(right), density: of(cells as f64), share }
    }
}

/// What a look at an image tells of cells of the right size: nothing where they are too few, or the network is unsure of most of what has
/// this size.
struct Seen {
    /// How many times as large as usual.
    times: f64,
    /// The diameter of its cells in pixels of the image, whatever their size.
    median: Option<f64>,
    /// The share of what was looked at that they cover.
    covered: f64,
    /// Their number for each pixel.
    density: f64,
    /// Their share of the area of all objects of this size, be the network sure of them or not.
    share: f64,
}

impl Seen {
    /// The higher, the more likely these are cells.
    fn rank(&self) -> f64 {
        match self.times > 1.0 {
            false => self.density,
            true if self.share >= MOST => f64::INFINITY,
            true => 0.0,
        }
    }
}

/// How a network sees what was `drawn`, cells of the `expected` diameter in pixels, by its `look` where images are scaled by `usual`;
/// `None` where it does not take these cells for those that it learned.
///
/// # Errors
/// Those of `look`.
pub(super) fn measured(drawn: &Drawn, expected: f64, usual: f64, look: impl Look) -> Result<Option<Measure>> {
    let (mut diameters, mut cells, mut telling) = (Vec::new(), Vec::new(), Vec::new());
    for (part, _) in drawn.parts() {
        let found = look(part, 1.0)?;
        if found.len() >= FEWEST[0] {
            telling.push(part);
        }
        diameters.extend(Sizes::of(found.iter(), expected).median());
        cells.extend(found);
    }
    diameters.sort_unstable_by(f64::total_cmp);
    let near = |median: &f64| (1.0 / MISMEASURED..=MISMEASURED).contains(&(median / expected));
    let Some(diameter) = diameters.get(diameters.len() / 2).copied().filter(near) else { return Ok(None) };
    let measure = Measure { diameter, probability: sure(&cells, diameter) };
    for part in telling {
        // A network that learned several sizes knows them all.
        if fitted(measure, part, usual, &look)? != 1.0 {
            return Ok(None);
        }
    }
    Ok(Some(measure))
}

/// The probability from which on an object counts as a cell: a little below that of all but the least sure of the cells with about that
/// diameter.
fn sure(cells: &[FoundCell], diameter: f64) -> f64 {
    let mut probabilities: Vec<f64> =
        cells.iter().filter(|cell| is_right(cell.area, diameter)).map(|cell| cell.probability).collect();
    probabilities.sort_unstable_by(f64::total_cmp);
    probabilities.get(probabilities.len() / LEAST_SURE).map_or(0.0, |least| ODDS * least / (ODDS * least + 1.0 - least))
}

/// Whether a cell of that area has about the `expected` diameter.
fn is_right(area: f64, expected: f64) -> bool {
    (1.0 / RIGHT..=RIGHT).contains(&(disc_diameter(area) / expected))
}

/// Side of the part of an image that is looked at as usual, in pixels that the network sees.
const SIDE: f64 = 512.0;

/// Seen that many times as large, the side is so many times as long to this power less: 3 times at 0.16, 0.44 times at 4.
const WIDENED: f64 = 0.6;

/// How many times as large the image is seen from further away.
const FURTHER: [f64; 2] = [0.4, 0.16];

/// There is clearly more of the cells of an image to be seen when it is that many times as much.
const CLEARLY: f64 = 1.25;

/// Groups of cells are gone at their own size when less than that of what they covered is left.
const GONE: f64 = 0.5;

/// Looks at most, after these.
const ROUNDS: usize = 3;

/// Cells are of the size of those of the training when they are at most that many times as large or as small: what another sampling
/// would blur is then worth more than what it would gain.
const ALIKE: f64 = 1.25;

/// How many times as large an image may be seen because its cells are of another size; closer than usual only if the network is sure of
/// cells there.
const FURTHEST: f64 = 0.1;
const CLOSEST: f64 = 4.0;

/// The most that the network's measure of the drawn cells may lie above or below their true diameter.
const MISMEASURED: f64 = 2.0;

/// Cells have the right size when their diameters are at most that many times as large or as small as expected.
const RIGHT: f64 = 1.7;

/// One or two groups or stains of the size of a cell tell nothing; nor do a few more of which the network is not sure.
const FEWEST: [usize; 2] = [3, 8];

/// Nor do a few of many objects of this size that the network happens to be sure of, below that share of their area.
const SURE: f64 = 0.2;

/// Closer, there is always something to see: of that share a network is sure where these are cells.
const MOST: f64 = 0.6;

/// The area below which a part is no cell, as a fraction of the square of the expected diameter.
const SPECK: f64 = 0.03;

/// Of the cells that a network found in what was drawn, one of so many may be less sure than what counts as a cell elsewhere; and
/// there, the odds of a cell may be so many times those of the least sure of the others.
const LEAST_SURE: usize = 10;
const ODDS: f64 = 0.75;

/// Areas of cells in pixels of the image, in ascending order.
#[derive(Debug, Default)]
struct Sizes(Vec<f64>);

impl Sizes {
    fn of<'a>(cells: impl Iterator<Item = &'a FoundCell>, expected: f64) -> Self {
        let mut areas: Vec<f64> =
            cells.map(|cell| cell.area).filter(|area| *area > SPECK * expected * expected).collect();
        areas.sort_unstable_by(f64::total_cmp);
        Self(areas)
    }

    /// The diameter of the median cell by area: fragments are many and count little.
    fn median(&self) -> Option<f64> {
        let total: f64 = self.0.iter().sum();
        let mut below = 0.0;
        let middle = self.0.iter().find(|area| {
            below += **area;
            2.0 * below >= total
        });
        middle.map(|area| disc_diameter(*area))
    }

    /// Pixels of the cells that have about the `expected` diameter, and how many these are.
    fn right(&self, expected: f64) -> (f64, usize) {
        let cells = self.0.iter().filter(|area| is_right(**area, expected));
        (cells.clone().sum(), cells.count())
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use ndarray::{Array2, Array3, array};

    use super::*;

    /// Discs of that diameter on a grid.
    fn discs(side: usize, diameter: f64) -> LabelImage {
        let step = (1.5 * diameter).max(3.0);
        LabelImage::from_shape_fn((side, side), |(y, x)| {
            let [row, column] = [y, x].map(|at| (at as f64 / step).floor());
            let from_middle = [(y, row), (x, column)].map(|(at, cell)| at as f64 - (cell + 0.5) * step);
            let inside = from_middle[0].hypot(from_middle[1]) <= diameter / 2.0;
            if inside { (row * 1000.0 + column) as i32 + 1 } else { 0 }
        })
    }

    const MEASURE: Measure = Measure { diameter: 20.0, probability: 0.8 };

    /// The objects of these labels, of which a network is that sure.
    fn objects(labels: &LabelImage, probability: f32) -> Vec<FoundCell> {
        found_cells(labels, Array2::from_elem(labels.dim(), probability).view(), 1.0).unwrap()
    }

    /// How an image is seen whose usual cells have 20 pixels and in which a network `found` these objects, and is sure of them.
    fn fitted_to(found: impl Fn(f64) -> LabelImage) -> f64 {
        fitted_by(|times| objects(&found(times), 0.9))
    }

    fn fitted_by(found: impl Fn(f64) -> Vec<FoundCell>) -> f64 {
        let image = Array3::zeros((400, 400, 1));
        let look = |part: ArrayView3<'_, f32>, times| {
            assert_eq!(part.dim(), (400, 400, 1));
            Ok(found(times))
        };
        fitted(MEASURE, image.view(), 0.5, look).unwrap()
    }

    /// Of these objects, each whose number is a multiple of `of`.
    fn every(of: i32, labels: &LabelImage) -> LabelImage {
        labels.mapv(|label| if label % of == 0 { label } else { 0 })
    }

    fn near(times: f64, right: f64) -> bool {
        (1.0 / ALIKE..=ALIKE).contains(&(times / right))
    }

    /// By a network that sees cells of 13 to 32 pixels, in an image of cells of that diameter: of larger ones it finds `texture`, of
    /// smaller ones nothing.
    fn fitted_to_cells(diameter: f64, texture: f64) -> f64 {
        fitted_to(|times| match diameter * times {
            seen if seen > 32.0 => discs(400, texture / times),
            seen if seen < 13.0 => LabelImage::zeros((400, 400)),
            _ => discs(400, diameter),
        })
    }

    /// Discs with these diameters, one below the other.
    fn column(diameters: &[f64]) -> LabelImage {
        let mut labels = LabelImage::zeros((400, 400));
        let mut top = 0.0;
        for (index, diameter) in diameters.iter().enumerate() {
            let radius = diameter / 2.0;
            for ((y, x), label) in labels.indexed_iter_mut() {
                if (y as f64 - top - radius).hypot(x as f64 - 100.0) <= radius {
                    *label = index as i32 + 1;
                }
            }
            top += diameter + 2.0;
        }
        labels
    }

    #[test]
    fn images_are_seen_at_the_size_of_their_cells() {
        assert_eq!(fitted_to_cells(20.0, 0.0), 1.0);
        assert_eq!(fitted_to_cells(18.0, 0.0), 1.0);
        assert!(near(fitted_to_cells(30.0, 0.0), 20.0 / 30.0), "{}", fitted_to_cells(30.0, 0.0));
        // Too large to be seen, or seen as their texture.
        for texture in [0.0, 4.0] {
            assert!(near(fitted_to_cells(60.0, texture), 20.0 / 60.0), "{}", fitted_to_cells(60.0, texture));
        }
        // Closer only where clearly more is to be seen there.
        assert_eq!(fitted_to_cells(14.0, 0.0), 1.0);
        let closer = fitted_to(|times| match times {
            1.0 => every(3, &discs(400, 14.0)),
            _ if times > 1.0 => discs(400, 14.0),
            _ => LabelImage::zeros((400, 400)),
        });
        assert!(near(closer, 20.0 / 14.0), "{closer}");
    }

    /// Seen at 0.16 times the size, an image of cells that are 2.5 times as large as usual shows them a little larger than they are;
    /// coming closer to it from there is no look closer than usual.
    #[test]
    fn coming_back_from_afar_asks_for_no_more_than_going_there() {
        let larger = |times: f64| match times {
            1.0 => LabelImage::zeros((400, 400)),
            0.16 => discs(400, 75.0),
            _ if times < 0.35 => discs(400, 60.0),
            _ => LabelImage::zeros((400, 400)),
        };
        let times = fitted_to(larger);
        assert!(times < 0.35, "{times}");
    }

    #[test]
    fn only_cells_that_a_network_is_sure_of_tell_the_size() {
        // Of texture it is not sure, of the cells at their size it is; and the other way round.
        let found = |texture: f32, cells: f32| {
            fitted_by(|times| match times {
                1.0 => objects(&discs(400, 18.0), texture),
                _ if times < 0.45 => objects(&every(2, &discs(400, 60.0)), cells),
                _ => Vec::new(),
            })
        };
        assert!(near(found(0.7, 0.9), 20.0 / 60.0), "{}", found(0.7, 0.9));
        assert_eq!((found(0.9, 0.7), found(0.7, 0.7), found(0.9, 0.9)), (1.0, 1.0, 1.0));
    }

    #[test]
    fn where_a_network_is_sure_of_nothing_many_objects_tell_the_size() {
        let of = |share: i32| {
            fitted_by(|times| match times {
                _ if times < 0.45 => objects(&every(share, &discs(400, 60.0)), 0.7),
                _ => Vec::new(),
            })
        };
        assert!(near(of(1), 20.0 / 60.0), "{}", of(1));
        assert_eq!(of(5), 1.0);
    }

    /// Where there are none as usual; and also where groups of them look like cells from further away.
    #[test]
    fn closer_only_cells_that_a_network_is_sure_of_tell_the_size() {
        let found = |sure: i32, groups: f64| {
            fitted_by(|times| match times {
                _ if times > 2.0 => {
                    let mut cells = objects(&discs(400, 6.0), 0.9);
                    cells.iter_mut().enumerate().filter(|(index, _)| *index as i32 % sure != 0).for_each(
                        |(_, cell)| {
                            cell.probability = 0.7;
                        },
                    );
                    cells
                }
                0.4 => objects(&discs(400, groups), 0.9),
                _ => Vec::new(),
            })
        };
        let seen_at = |sure, groups, right: f64| {
            let times = found(sure, groups);
            assert!(near(times, right), "one of {sure} sure, groups of {groups}: {times}");
        };
        seen_at(1, 0.0, 20.0 / 6.0);
        seen_at(1, 50.0, 20.0 / 6.0);
        seen_at(3, 0.0, 20.0 / 6.0);
        // A network is unsure of most of them.
        seen_at(3, 50.0, 0.4);
        seen_at(6, 0.0, 1.0);
        assert_eq!(fitted_by(|times| if times > 2.0 { objects(&discs(400, 6.0), 0.7) } else { Vec::new() }), 1.0);
    }

    /// Groups of cells may look like cells from far away even at their own size, and cover more.
    #[test]
    fn many_cells_as_usual_count_more_than_a_few_from_further_away() {
        let found = |usual: i32| {
            fitted_to(|times| match times {
                1.0 => every(usual, &discs(400, 20.0)),
                _ if times < 0.3 => discs(400, 110.0),
                _ => LabelImage::zeros((400, 400)),
            })
        };
        assert_eq!(found(3), 1.0);
        assert!(near(found(50), 20.0 / 110.0), "{}", found(50));
    }

    #[test]
    fn cells_count_from_about_the_probability_of_the_drawn_ones_on() {
        let of = |probability: f64, diameter: f64| FoundCell { area: PI / 4.0 * diameter * diameter, probability };
        assert_eq!(sure(&[], 20.0), 0.0);
        // Odds of 4, and three quarters of them.
        assert!((sure(&[of(0.8, 20.0)], 20.0) - 0.75).abs() < 1e-12);
        // Pieces and groups do not count, nor the least sure of eleven.
        let mut cells = vec![of(0.8, 20.0); 10];
        cells.extend([of(0.2, 20.0), of(0.1, 5.0), of(0.1, 50.0)]);
        assert!((sure(&cells, 20.0) - 0.75).abs() < 1e-12);
        assert_eq!(sure(&[of(1.0, 20.0)], 20.0), 1.0);
    }

    #[test]
    fn objects_have_the_area_of_their_pixels_in_the_image_and_their_mean_probability() {
        let labels = array![[1, 1, 0], [0, 3, 3], [0, 3, 3]];
        let probability = array![[0.5, 1.0, 0.1], [0.1, 0.25, 0.25], [0.1, 0.75, 0.75]];
        assert_eq!(
            found_cells(&labels, probability.view(), 2.0).unwrap(),
            [FoundCell { area: 8.0, probability: 0.75 }, FoundCell { area: 16.0, probability: 0.5 }]
        );
        assert!(found_cells(&LabelImage::zeros((2, 2)), Array2::zeros((2, 2)).view(), 1.0).unwrap().is_empty());
    }

    #[test]
    fn what_is_looked_at_is_as_large_for_every_network() {
        assert_eq!([1.0, 0.5, 2.0].map(|usual| side(1.0, usual)), [512, 1024, 256]);
        // More of it from further away, less from closer, and never more than the middle of a large image.
        assert_eq!([0.4, 0.16, 4.0].map(|times| side(times, 1.0)), [887, 1537, 222]);
        assert_eq!([largest_side(1.0), largest_side(0.1)], [2038, MIDDLE]);
        let image = Array3::zeros((600, 300, 2));
        let look = |part: ArrayView3<'_, f32>, times| {
            let of = |side: usize| side.min(super::side(times, 2.0));
            assert_eq!(part.dim(), (of(600), of(300), 2));
            Ok(Vec::new())
        };
        assert_eq!(fitted(MEASURE, image.view(), 2.0, look).unwrap(), 1.0);
    }

    #[test]
    fn an_image_without_cells_and_one_of_groups_are_seen_as_usual() {
        assert_eq!(fitted_to(|_| LabelImage::zeros((400, 400))), 1.0);
        // From far away, groups of cells look like larger ones; at their own size there are none.
        let groups = |times: f64| match times {
            1.0 => every(3, &discs(400, 20.0)),
            0.16 => discs(400, 80.0),
            _ => LabelImage::zeros((400, 400)),
        };
        assert_eq!(fitted_to(groups), 1.0);
        assert!(fitted_note(1.0).is_none() && fitted_note(0.4).unwrap().contains("2.50 times as large"));
    }

    #[test]
    fn no_image_is_seen_at_a_size_at_which_nothing_was_found() {
        for usual in [&[20.0, 20.0, 60.0][..], &[8.0], &[40.0], &[11.0; 9]] {
            let only = |times: f64| if times == 1.0 { column(usual) } else { LabelImage::zeros((400, 400)) };
            assert_eq!(fitted_to(only), 1.0, "{usual:?}");
        }
    }
}
