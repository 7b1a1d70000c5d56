//! Images whose cells are of another size than those of the training: they are seen as much larger or smaller as brings their cells to
//! the size that the network knows.

use std::collections::BTreeMap;

use ndarray::ArrayView3;

use super::drawn::Drawn;
use super::working_scale::middle;
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

/// The objects that a network finds in a part of an image.
pub(super) struct Looked {
    pub labels: LabelImage,
    /// Side of a pixel of the labels in pixels of the image.
    pub pixel: f64,
}

/// Gives the objects that a network finds in a part `[H, W, C]` of an image that it sees so many times as large as usual.
pub(super) trait Look: Fn(ArrayView3<'_, f32>, f64) -> Result<Looked> {}

impl<F: Fn(ArrayView3<'_, f32>, f64) -> Result<Looked>> Look for F {}

/// Side in pixels of the part in the middle of an image that is looked at, where sides are usually scaled by `usual`.
pub(super) fn side(usual: f64) -> f64 {
    SIDE / usual
}

/// How many times as large as usual an image `[H, W, C]` is seen, of which nothing is known: once, unless the cells that a network finds
/// in its middle are clearly smaller or larger than the diameter that it `measured` on those of the training.
///
/// A network that sees cells which are too large takes their texture for small ones. So the image is also looked at from further away,
/// and that counts where more of it is covered by cells of the right size. `usual` is the factor by which the sides of images are scaled
/// usually.
///
/// # Errors
/// Those of `look`.
pub(super) fn fitted(measured: f64, image: ArrayView3<'_, f32>, usual: f64, look: impl Look) -> Result<f64> {
    let part = middle(image, side(usual));
    let sizes = |times: f64| -> Result<Sizes> { Ok(Sizes::of(&look(part, times)?, measured / times)) };
    let usually = Seen::at(1.0, sizes(1.0)?, measured);
    let mut best = None;
    let mut covered = CLEARLY * usually.right;
    for times in FURTHER {
        let seen = Seen::at(times, sizes(times)?, measured);
        if seen.covered > covered {
            covered = seen.covered;
            best = Some(seen);
        }
    }
    for start in best.into_iter().chain([usually]) {
        if let Some(times) = settled(start, measured, sizes)? {
            return Ok(if (1.0 / ALIKE..=ALIKE).contains(&times) { 1.0 } else { times });
        }
    }
    Ok(1.0)
}

/// From one look at an image on, the factor at which its cells have the right size; `None` when what was seen there were none, but
/// groups or pieces of them, which are gone once they are brought to that size.
fn settled(mut seen: Seen, measured: f64, sizes: impl Fn(f64) -> Result<Sizes>) -> Result<Option<f64>> {
    for _ in 0..ROUNDS {
        let Some(diameter) = seen.median else { break };
        let next = (measured / diameter).clamp(TIMES[0], TIMES[1]);
        if (next / seen.times).max(seen.times / next) < ALIKE {
            break;
        }
        let there = Seen::at(next, sizes(next)?, measured);
        // Closer, there is always something to see.
        let enough = if next > 1.0 { CLEARLY * seen.covered } else { seen.covered };
        if there.covered == 0.0 || there.covered < enough {
            return Ok(Some(seen.times).filter(|times| *times == 1.0 || CLEARLY * there.covered > seen.covered));
        }
        seen = there;
    }
    Ok(Some(seen.times))
}

/// What was seen of an image that was looked at.
struct Seen {
    /// How many times as large as usual.
    times: f64,
    /// The diameter of its cells in pixels of the image.
    median: Option<f64>,
    /// Pixels of the cells of the right size.
    right: f64,
    /// The same, where they are more than a few.
    covered: f64,
}

impl Seen {
    fn at(times: f64, sizes: Sizes, measured: f64) -> Self {
        let (right, cells) = sizes.right(measured / times);
        Self { times, median: sizes.median(), right, covered: if cells < FEWEST { 0.0 } else { right } }
    }
}

/// The diameter in pixels that a network measures on what was `drawn`, of which `expected` is the true one, by its `look` where images are
/// scaled by `usual`; `None` where it does not take these cells for those that it learned.
///
/// # Errors
/// Those of `look`.
pub(super) fn measured(drawn: &Drawn, expected: f64, usual: f64, look: impl Look) -> Result<Option<f64>> {
    let mut diameters = Vec::new();
    for (part, _) in drawn.parts() {
        diameters.extend(Sizes::of(&look(part, 1.0)?, expected).median());
    }
    diameters.sort_unstable_by(f64::total_cmp);
    let near = |median: &f64| (1.0 / MISMEASURED..=MISMEASURED).contains(&(median / expected));
    let Some(median) = diameters.get(diameters.len() / 2).copied().filter(near) else { return Ok(None) };
    for (part, _) in drawn.parts() {
        // A network that learned several sizes knows them all.
        if fitted(median, part, usual, &look)? != 1.0 {
            return Ok(None);
        }
    }
    Ok(Some(median))
}

/// Side of the part of an image that is looked at, in pixels that the network sees usually.
const SIDE: f64 = 512.0;

/// How many times as large the image is seen from further away.
const FURTHER: [f64; 2] = [0.4, 0.16];

/// Cells of the right size cover clearly more of an image when it is that many times as much.
const CLEARLY: f64 = 1.25;

/// Looks at most, after these.
const ROUNDS: usize = 3;

/// Cells are of the size of those of the training when they are at most that many times as large or as small: what another sampling
/// would blur is then worth more than what it would gain.
const ALIKE: f64 = 1.25;

/// How many times as large an image may be seen because its cells are of another size.
const TIMES: [f64; 2] = [0.1, 2.0];

/// The most that the network's measure of the drawn cells may lie above or below their true diameter.
const MISMEASURED: f64 = 2.0;

/// Cells have the right size when their diameters are at most that many times as large or as small as expected.
const RIGHT: f64 = 1.7;

/// One or two groups or stains of the size of a cell tell nothing.
const FEWEST: usize = 3;

/// The area below which a part is no cell, as a fraction of the square of the expected diameter.
const SPECK: f64 = 0.03;

/// Areas of cells in pixels of the image, in ascending order.
#[derive(Debug, Default)]
struct Sizes(Vec<f64>);

impl Sizes {
    fn of(Looked { labels, pixel }: &Looked, expected: f64) -> Self {
        let mut areas = BTreeMap::new();
        for label in labels.iter().filter(|label| **label > 0) {
            *areas.entry(*label).or_insert(0.0) += pixel * pixel;
        }
        let mut areas: Vec<f64> = areas.into_values().filter(|area| *area > SPECK * expected * expected).collect();
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
        let right = |area: &&f64| (1.0 / RIGHT..=RIGHT).contains(&(disc_diameter(**area) / expected));
        let cells = self.0.iter().filter(right);
        (cells.clone().sum(), cells.count())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

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

    /// How an image is seen whose usual cells have 20 pixels and in which a network `found` these objects.
    fn fitted_to(found: impl Fn(f64) -> LabelImage) -> f64 {
        let image = Array3::zeros((400, 400, 1));
        fitted(20.0, image.view(), 1.0, |_, times| Ok(Looked { labels: found(times), pixel: 1.0 })).unwrap()
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
        let near = |times: f64, right: f64| (1.0 / ALIKE..=ALIKE).contains(&(times / right));
        assert!(near(fitted_to_cells(30.0, 0.0), 20.0 / 30.0), "{}", fitted_to_cells(30.0, 0.0));
        // Too large to be seen, or seen as their texture.
        for texture in [0.0, 4.0] {
            assert!(near(fitted_to_cells(60.0, texture), 20.0 / 60.0), "{}", fitted_to_cells(60.0, texture));
        }
        // Labels of a quarter of the pixels of the image tell the same.
        let coarse = fitted(20.0, Array3::zeros((800, 800, 1)).view(), 1.0, |_, _| {
            Ok(Looked { labels: discs(400, 15.0), pixel: 2.0 })
        });
        assert!(near(coarse.unwrap(), 20.0 / 30.0));
    }

    #[test]
    fn an_image_without_cells_and_one_of_groups_are_seen_as_usual() {
        assert_eq!(fitted_to(|_| LabelImage::zeros((400, 400))), 1.0);
        // From far away, groups of cells look like larger ones; at their own size there are none.
        let groups = |times: f64| match times {
            1.0 => discs(400, 20.0).mapv(|label| if label % 3 == 0 { label } else { 0 }),
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
