//! Images whose cells are of another size than those of the training: they are seen as much larger or smaller as brings their cells to
//! the size that the network knows.

use std::collections::BTreeMap;

use ndarray::ArrayView3;

use super::drawn::Drawn;
use super::working_scale::{WorkingScale, middle};
use crate::error::Result;
use crate::geometry::disc_diameter;
use crate::raster::LabelImage;

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

/// The objects `[H, W]` that a network finds in a part `[H, W, C]` of an image that it sees so many times as large as usual.
pub(super) trait Look: Fn(ArrayView3<'_, f32>, f64) -> Result<LabelImage> {}

impl<F: Fn(ArrayView3<'_, f32>, f64) -> Result<LabelImage>> Look for F {}

impl WorkingScale {
    /// How many times as large as usual an image `[H, W, C]` is seen, of which nothing is known: once, unless the
    /// cells that a network finds in its middle are clearly smaller or larger than those of the training.
    ///
    /// A network that sees cells which are too large takes their texture for small ones. So the image is also looked at from
    /// further away, and that counts where more of it is covered by cells of the right size. `usual` is the factor by which the sides of
    /// images are scaled usually.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn fitted(&self, image: ArrayView3<'_, f32>, usual: f64, look: impl Look) -> Result<f64> {
        let Some(measured) = self.measured else { return Ok(1.0) };
        let part = middle(image, SIDE / usual);
        let sizes = |times: f64| -> Result<Sizes> { Ok(Sizes::of(&look(part, times)?, measured / times)) };
        let usually = Seen::at(1.0, sizes(1.0)?, measured);
        let mut best = None;
        let mut covered = CLEARLY * usually.covered;
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
        if there.covered < enough {
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
    covered: f64,
}

impl Seen {
    fn at(times: f64, sizes: Sizes, measured: f64) -> Self {
        Self { times, median: sizes.median(), covered: sizes.covered(measured / times) }
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
    let median = diameters.get(diameters.len() / 2).copied();
    let near = |median: &f64| (1.0 / MISMEASURED..=MISMEASURED).contains(&(median / expected));
    let Some(median) = median.filter(near) else { return Ok(None) };
    let scale = WorkingScale { measured: Some(median), ..WorkingScale::NONE };
    for (part, _) in drawn.parts() {
        if scale.fitted(part, usual, &look)? != 1.0 {
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
    fn of(labels: &LabelImage, expected: f64) -> Self {
        let mut areas = BTreeMap::new();
        for label in labels.iter().filter(|label| **label > 0) {
            *areas.entry(*label).or_insert(0.0) += 1.0;
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

    /// Pixels of the cells that have about the `expected` diameter, if there are more than a few.
    fn covered(&self, expected: f64) -> f64 {
        let right = |area: &&f64| (1.0 / RIGHT..=RIGHT).contains(&(disc_diameter(**area) / expected));
        let cells: Vec<f64> = self.0.iter().filter(right).copied().collect();
        if cells.len() < FEWEST { 0.0 } else { cells.iter().sum() }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    const SCALE: WorkingScale = WorkingScale { measured: Some(20.0), ..WorkingScale::NONE };

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

    /// What a network finds that sees cells of 13 to 32 pixels, in an image of cells of that diameter: of larger ones `texture`, of smaller
    /// ones nothing.
    fn found(diameter: f64, texture: f64, times: f64) -> LabelImage {
        match diameter * times {
            seen if seen > 32.0 => discs(400, texture / times),
            seen if seen < 13.0 => LabelImage::zeros((400, 400)),
            _ => discs(400, diameter),
        }
    }

    fn fitted(diameter: f64, texture: f64) -> f64 {
        let image = Array3::zeros((400, 400, 1));
        SCALE.fitted(image.view(), 1.0, |_, times| Ok(found(diameter, texture, times))).unwrap()
    }

    #[test]
    fn images_are_seen_at_the_size_of_their_cells() {
        assert_eq!(fitted(20.0, 0.0), 1.0);
        assert_eq!(fitted(18.0, 0.0), 1.0);
        let near = |times: f64, right: f64| (1.0 / ALIKE..=ALIKE).contains(&(times / right));
        assert!(near(fitted(30.0, 0.0), 20.0 / 30.0), "{}", fitted(30.0, 0.0));
        // Too large to be seen, or seen as their texture.
        for texture in [0.0, 4.0] {
            assert!(near(fitted(60.0, texture), 20.0 / 60.0), "{}", fitted(60.0, texture));
        }
        let none =
            WorkingScale::NONE.fitted(Array3::zeros((9, 9, 1)).view(), 1.0, |_, _| unreachable!("looks at nothing"));
        assert_eq!(none.unwrap(), 1.0);
    }

    #[test]
    fn an_image_without_cells_and_one_of_groups_are_seen_as_usual() {
        let image = Array3::zeros((400, 400, 1));
        let nothing = SCALE.fitted(image.view(), 1.0, |_, _| Ok(LabelImage::zeros((400, 400))));
        assert_eq!(nothing.unwrap(), 1.0);
        // From far away, groups of cells look like larger ones; at their own size there are none.
        let groups = SCALE.fitted(image.view(), 1.0, |_, times| {
            Ok(match times {
                1.0 => discs(400, 20.0).mapv(|label| if label % 3 == 0 { label } else { 0 }),
                0.16 => discs(400, 80.0),
                _ => LabelImage::zeros((400, 400)),
            })
        });
        assert_eq!(groups.unwrap(), 1.0);
        assert!(fitted_note(1.0).is_none() && fitted_note(0.4).unwrap().contains("2.50 times as large"));
    }
}
