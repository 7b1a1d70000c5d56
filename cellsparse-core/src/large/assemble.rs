//! From the objects of the blocks to numbered results, handed over block by block.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroI32;
use std::rc::Rc;

use super::blocks::Blocks;
use super::progress::{Phase, Teller};
use super::sinks::{LargeBlock, LargeShape, LargeSink, OwnObjects};
use super::spool::Spool;
use crate::budget::array;
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::geometry::label_runs::Run;
use crate::model::large::Found;
use crate::raster::LabelImage;
use crate::raster::regions::Region;

/// Share of common pixels from which two objects on both sides of a border are one that was found twice.
const SAME: f64 = 0.5;

/// Numbers the objects and hands everything to the sinks; the number of objects. Objects that are anchored closer than
/// `margin` to a border may have been found by both sides.
pub(super) fn assemble(
    blocks: &Blocks,
    spool: &Spool,
    margin: usize,
    shape: &LargeShape,
    sinks: &mut [&mut dyn LargeSink],
    teller: &mut Teller<'_>,
    cancel: &CancelToken,
) -> Result<usize> {
    let index = Index::read(blocks, spool, margin, cancel)?;
    sinks.iter_mut().try_for_each(|sink| sink.begin(shape))?;
    teller.begin(Phase::Output, blocks.len(), 0);
    let mut held = Held { spool, blocks: HashMap::new() };
    for block in 0..blocks.len() {
        cancel.check()?;
        held.forget_above(block, blocks.across);
        let region = blocks.region(block);
        let mut labels: LabelImage = array((region.height, region.width), "the labels of a part")?;
        for other in (0..blocks.len()).filter(|other| index.bounds[*other].is_some_and(|bounds| bounds.meets(&region)))
        {
            let objects = held.get(other)?;
            let numbered =
                objects.iter().zip(&index.ids[other]).filter_map(|(object, id)| Some((object, (*id)?.get())));
            numbered.for_each(|(object, id)| paint(&mut labels, region, &object.runs, id));
        }
        cancel.check()?;
        let own = own(&held.get(block)?, &index.ids[block])?;
        let block = LargeBlock { region, labels: &labels, own: &own };
        sinks.iter_mut().try_for_each(|sink| {
            cancel.check()?;
            sink.block(&block)
        })?;
        teller.tick()?;
    }
    sinks.iter_mut().try_for_each(|sink| sink.finish())?;
    Ok(index.objects)
}

/// The ids of all objects.
struct Index {
    /// For every block and object; `None` for one that the neighbour has.
    ids: Vec<Vec<Option<NonZeroI32>>>,
    /// What the objects of a block reach over.
    bounds: Vec<Option<Region>>,
    objects: usize,
}

/// An object close to a border.
struct Near {
    order: [u64; 2],
    block: usize,
    place: usize,
    anchor: [usize; 2],
    runs: Vec<Run>,
}

impl Index {
    fn read(blocks: &Blocks, spool: &Spool, margin: usize, cancel: &CancelToken) -> Result<Self> {
        let (mut orders, mut near) = (Vec::new(), Vec::new());
        let (mut ids, mut bounds) = (Vec::new(), Vec::new());
        for block in 0..blocks.len() {
            cancel.check()?;
            let objects = spool.block(block)?;
            let mut reach: Option<Region> = None;
            for (place, object) in objects.iter().enumerate() {
                let [rows, columns] = object.bounds();
                let own = Region { top: rows.start, left: columns.start, height: rows.len(), width: columns.len() };
                reach = Some(reach.map_or(own, |reach| reach.joined(own)));
                orders.push((object.order, block as u32, place as u32));
            }
            ids.push(vec![None; objects.len()]);
            bounds.push(reach);
            for (place, object) in
                objects.into_iter().enumerate().filter(|(_, one)| is_near(one.anchor, margin, blocks.side))
            {
                near.push(Near { order: object.order, block, place, anchor: object.anchor, runs: object.runs });
            }
        }
        let dropped = found_twice(near, margin);
        orders.retain(|(_, block, place)| !dropped.contains(&(*block as usize, *place as usize)));
        orders.sort_unstable();
        let objects = orders.len();
        if i32::try_from(objects).is_err() {
            return Err(Error::Limit(format!("{objects} objects; a label image holds ids up to {}", i32::MAX)));
        }
        for (rank, (_, block, place)) in orders.into_iter().enumerate() {
            ids[block as usize][place as usize] = NonZeroI32::new(rank as i32 + 1);
        }
        Ok(Self { ids, bounds, objects })
    }
}

/// Whether an anchor lies so close to the border of a block that the neighbour may have it too.
fn is_near([y, x]: [usize; 2], margin: usize, side: usize) -> bool {
    let close = |at: usize| at % side < 2 * margin || side - at % side <= 2 * margin;
    margin > 0 && (close(y) || close(x))
}

/// Of objects that two blocks found, those of the later one.
fn found_twice(mut near: Vec<Near>, margin: usize) -> HashSet<(usize, usize)> {
    near.sort_by_key(|one| (one.order, one.block, one.place));
    let side = (4 * margin).max(1);
    let mut kept: HashMap<[usize; 2], Vec<usize>> = HashMap::new();
    let mut dropped = HashSet::new();
    for (index, one) in near.iter().enumerate() {
        let cell = one.anchor.map(|at| at / side);
        let around = (0..9).filter_map(|step| {
            let y = (cell[0] + step / 3).checked_sub(1)?;
            Some([y, (cell[1] + step % 3).checked_sub(1)?])
        });
        let mut others = around.filter_map(|cell| kept.get(&cell)).flatten().map(|other| &near[*other]);
        if others.any(|other| other.block != one.block && overlap(&other.runs, &one.runs) > SAME) {
            dropped.insert((one.block, one.place));
        } else {
            kept.entry(cell).or_default().push(index);
        }
    }
    dropped
}

/// Common pixels as a share of all pixels of two objects; runs are in row-major order.
fn overlap(a: &[Run], b: &[Run]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while let (Some(one), Some(other)) = (a.get(i), b.get(j)) {
        if one.row == other.row {
            common += one.end.min(other.end).saturating_sub(one.begin.max(other.begin));
        }
        if (one.row, one.end) < (other.row, other.end) { i += 1 } else { j += 1 }
    }
    let all = |runs: &[Run]| runs.iter().map(Run::len).sum::<usize>();
    common as f64 / (all(a) + all(b) - common).max(1) as f64
}

/// Paints the pixels of an object that lie in a region and are not those of one with a smaller id.
fn paint(labels: &mut LabelImage, region: Region, runs: &[Run], id: i32) {
    for run in runs.iter().filter(|run| (region.top..region.bottom()).contains(&run.row)) {
        let (begin, end) = (run.begin.max(region.left), run.end.min(region.right()));
        for column in begin..end {
            let pixel = &mut labels[[run.row - region.top, column - region.left]];
            if *pixel == 0 || *pixel > id {
                *pixel = id;
            }
        }
    }
}

/// The numbered objects of a block in a label image that holds all of them.
fn own(objects: &[Found], ids: &[Option<NonZeroI32>]) -> Result<OwnObjects> {
    let numbered: Vec<(&Found, i32)> =
        objects.iter().zip(ids).filter_map(|(one, id)| Some((one, (*id)?.get()))).collect();
    let region = numbered.iter().map(|(object, _)| {
        let [rows, columns] = object.bounds();
        Region { top: rows.start, left: columns.start, height: rows.len(), width: columns.len() }
    });
    let Some(region) = region.reduce(Region::joined) else {
        let region = Region { top: 0, left: 0, height: 0, width: 0 };
        return Ok(OwnObjects { region, labels: LabelImage::zeros((0, 0)), list: Vec::new() });
    };
    let mut labels: LabelImage = array((region.height, region.width), "the objects of a part")?;
    let mut list = Vec::new();
    for (object, id) in numbered {
        paint(&mut labels, region, &object.runs, id);
        list.push((id, object.probability, object.class.map(usize::from)));
    }
    list.sort_by_key(|(id, ..)| *id);
    Ok(OwnObjects { region, labels, list })
}

/// The blocks that were read last.
struct Held<'a> {
    spool: &'a Spool,
    blocks: HashMap<usize, Rc<Vec<Found>>>,
}

impl Held<'_> {
    fn get(&mut self, block: usize) -> Result<Rc<Vec<Found>>> {
        if let Some(objects) = self.blocks.get(&block) {
            return Ok(Rc::clone(objects));
        }
        let objects = Rc::new(self.spool.block(block)?);
        self.blocks.insert(block, Rc::clone(&objects));
        Ok(objects)
    }

    /// Forgets the blocks that lie more than a row above.
    fn forget_above(&mut self, block: usize, across: usize) {
        let row = block / across;
        self.blocks.retain(|other, _| other / across + 1 >= row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(top: usize, left: usize, side: usize) -> Vec<Run> {
        (top..top + side).map(|row| Run { row, begin: left, end: left + side }).collect()
    }

    #[test]
    fn overlaps_are_counted_in_pixels() {
        assert_eq!(overlap(&square(0, 0, 4), &square(0, 0, 4)), 1.0);
        assert_eq!(overlap(&square(0, 0, 4), &square(2, 0, 4)), 8.0 / 24.0);
        assert_eq!(overlap(&square(0, 0, 4), &square(9, 0, 4)), 0.0);
        let ring =
            [Run { row: 0, begin: 0, end: 3 }, Run { row: 1, begin: 0, end: 1 }, Run { row: 1, begin: 2, end: 3 }];
        assert_eq!(overlap(&ring, &square(0, 0, 3)[..2]), 5.0 / 6.0);
    }

    #[test]
    fn an_object_on_a_border_is_counted_once_and_its_neighbour_too() {
        let near = |block, place, top, left: usize| Near {
            order: [top as u64, left as u64],
            block,
            place,
            anchor: [top, left],
            runs: square(top, left, 10),
        };
        // One object whose first row the two blocks see differently, and another one beside it.
        let dropped = found_twice(vec![near(0, 0, 1023, 50), near(9, 3, 1024, 50), near(9, 4, 1024, 60)], 8);
        assert_eq!(dropped.into_iter().collect::<Vec<_>>(), [(9, 3)]);
        assert!(is_near([1023, 500], 8, 1024) && is_near([500, 2050], 8, 1024));
        assert!(!is_near([500, 500], 8, 1024) && !is_near([0, 0], 0, 1024));
    }
}
