//! The parts of a large image that a training looks at: those around what was drawn in it.

use std::collections::BTreeMap;

use crate::raster::regions::{Extent, Region};

/// Two parts become one when that has at most so many times the pixels of both.
const JOINED: f64 = 1.25;

/// The parts of a level with `margin` pixels around everything that was drawn, of which `drawn` has the bounds in the pixels of that
/// level. Parts become one where that costs few pixels more than both, so drawn cells beside each other are in one part; others
/// may overlap. Bounds outside of the level give none. In order from the top.
pub fn parts_around(drawn: &[Region], margin: usize, extent: Extent) -> Vec<Region> {
    let whole = Region::whole(extent);
    // What lies in one square of the margin's size is together whatever else there is, which bounds the comparisons.
    let side = margin.max(1);
    let mut squares: BTreeMap<[usize; 2], Region> = BTreeMap::new();
    for bounds in drawn.iter().filter(|bounds| bounds.height > 0 && bounds.width > 0 && bounds.meets(&whole)) {
        let square = [bounds.top / side, bounds.left / side];
        squares.entry(square).and_modify(|all| *all = all.joined(*bounds)).or_insert(*bounds);
    }
    let mut parts: Vec<Region> = Vec::new();
    for bounds in squares.into_values() {
        let mut part = bounds.grown(margin, extent);
        // What was joined may reach others.
        while let Some(at) = parts.iter().position(|other| are_one(part, *other)) {
            part = part.joined(parts.swap_remove(at));
        }
        parts.push(part);
    }
    parts.sort_by_key(|part| [part.top, part.left]);
    parts
}

fn are_one(one: Region, other: Region) -> bool {
    let area = |part: Region| part.height as f64 * part.width as f64;
    one.meets(&other) && area(one.joined(other)) <= JOINED * (area(one) + area(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(top: usize, left: usize) -> Region {
        Region { top, left, height: 20, width: 20 }
    }

    #[test]
    fn cells_beside_each_other_are_in_one_part() {
        let extent = Extent { height: 100_000, width: 100_000 };
        let parts = parts_around(&[cell(500, 500), cell(530, 560), cell(90_000, 99_990)], 100, extent);
        assert_eq!(
            parts,
            [
                Region { top: 400, left: 400, height: 250, width: 280 },
                Region { top: 89_900, left: 99_890, height: 220, width: 110 },
            ]
        );
        assert!(parts_around(&[cell(100_000, 0)], 100, extent).is_empty());
    }

    #[test]
    fn a_diagonal_of_cells_does_not_become_the_whole_image() {
        let extent = Extent { height: 10_000, width: 10_000 };
        let cells: Vec<Region> = (0..100).map(|at| cell(100 * at, 100 * at)).collect();
        let parts = parts_around(&cells, 64, extent);
        let pixels: usize = parts.iter().map(|part| part.height * part.width).sum();
        assert!(parts.len() > 20 && pixels < 100 * 148 * 148, "{} parts, {pixels} pixels", parts.len());
        for cell in cells {
            let grown = cell.grown(64, extent);
            assert!(parts.iter().any(|part| part.joined(grown) == *part), "{cell} with its margin is in one part");
        }
    }
}
