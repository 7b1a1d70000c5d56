//! One run: which parts are looked at, in which order, and what is kept of each.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::assemble::assemble;
use super::blocks::Blocks;
use super::progress::{Phase, Teller};
use super::spool::{Facts, Settled, Spool};
use super::survivors::Kept;
use super::{LargeOptions, LargeProgress, LargeShape, LargeSink, LargeSummary};
use crate::control::Flow;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::large::{Blended, Context, Found, PartMaps, Searched, Setup, StarSearch};
use crate::raster::regions::{Extent, Region, RegionReader, factor};

/// Pixels beyond its border in which a block also looks for objects: an object whose anchor is rounded to the other side of a
/// border is found by both blocks, and one of them is dropped.
pub(super) const MARGIN: usize = 8;

/// How often the surroundings of a block are doubled when an object reaches out of them.
const DOUBLINGS: usize = 3;

/// How the note on an empty result begins.
const NOTHING: &str = "nothing found";

/// Segments an image in blocks of `side` pixels, of which something may be `known` that is otherwise measured first.
pub(super) fn run(
    known: Option<Context>,
    model: &Model,
    reader: &dyn RegionReader,
    options: &LargeOptions,
    side: usize,
    sinks: &mut [&mut dyn LargeSink],
    observer: &mut (dyn FnMut(&LargeProgress) -> Flow + Send),
) -> Result<LargeSummary> {
    let extent = *reader.levels().get(options.level).ok_or_else(|| {
        Error::Config(format!("level {} was asked for; the image has {}", options.level, reader.levels().len()))
    })?;
    let (shape, options) = at_level(reader, options, extent);
    let facts = Facts::of(model, reader, &options)?;
    let spool = Spool::open(&options, &facts)?;
    let summary = |objects, notes, was_finished| LargeSummary {
        objects,
        shape: [extent.height, extent.width],
        pixel_size: shape.pixel_size,
        notes,
        was_finished,
    };
    if let Some(objects) = spool.finished() {
        return Ok(summary(objects, reader.notes().to_vec(), true));
    }
    let context = Context::measured(spool.context().or(known), model, reader, options.level, &options.predict)?;
    spool.remember(&facts, &context)?;
    let mut teller = Teller::new(observer);
    let part = Parts { model, reader, options: &options, blocks: Blocks::of(extent, side), spool: &spool };
    let mut notes = if context.shows_nothing() {
        (0..part.blocks.len()).try_for_each(|index| spool.put_block(index, &[]))?;
        vec![format!("{NOTHING}: the image is the same nearly everywhere")]
    } else {
        part.search(&context, &mut teller)?
    };
    let margin = if model.searches_whole() { 0 } else { MARGIN };
    let objects = assemble(&part.blocks, &spool, margin, &shape, sinks, &mut teller, &options.predict.cancel)?;
    if objects == 0 && !notes.iter().any(|note| note.starts_with(NOTHING)) {
        notes.insert(0, format!("{NOTHING}: nothing exceeds the thresholds"));
    }
    // How the image was read comes first, as of images that are read whole.
    notes.splice(0..0, reader.notes().iter().cloned().chain(reader.findings()));
    spool.finish(&facts, objects)?;
    Ok(summary(objects, notes, false))
}

/// What is segmented, and the options in the pixels of its level.
pub(super) fn at_level(
    reader: &dyn RegionReader,
    options: &LargeOptions,
    extent: Extent,
) -> (LargeShape, LargeOptions) {
    let times = factor(reader.levels(), options.level);
    let own = options.predict.pixel_size.or(reader.pixel_size());
    let pixel_size = own.map(|size| size.map(|side| side * times));
    let mut options = options.clone();
    options.predict.pixel_size = pixel_size;
    options.area = options.area.map(|area| area.at(times));
    (LargeShape { height: extent.height, width: extent.width, pixel_size }, options)
}

struct Parts<'a> {
    model: &'a Model,
    reader: &'a dyn RegionReader,
    options: &'a LargeOptions,
    blocks: Blocks,
    spool: &'a Spool,
}

impl Parts<'_> {
    /// Finds the objects of every block that is not done; notes on the whole.
    fn search(&self, context: &Context, teller: &mut Teller<'_>) -> Result<Vec<String>> {
        let setup = Setup::new(self.model, self.reader, self.options.level, context, &self.options.predict)?;
        let setup = if self.options.skip_empty { setup.with_thumbnail()? } else { setup };
        let mut notes = setup.notes.clone();
        let left_out = if setup.searches_whole() { self.stars(&setup, teller)? } else { self.blended(&setup, teller)? };
        if left_out > 0 {
            let show = if left_out == 1 { "part of the image shows" } else { "parts of the image show" };
            let were = if left_out == 1 { "was" } else { "were" };
            notes.push(format!("{left_out} {show} nothing as large as a cell and {were} left out"));
        }
        Ok(notes)
    }

    fn stars(&self, setup: &Setup<'_>, teller: &mut Teller<'_>) -> Result<usize> {
        if (0..self.blocks.len()).all(|index| self.spool.has_block(index)) {
            return Ok(0);
        }
        let mut search = StarSearch::new(setup, None)?;
        let layout = search.layout();
        let mut settled = Settled::default();
        if let Some((done, state, before)) = self.spool.stars(layout)? {
            search = StarSearch::new(setup, Some((done, state)))?;
            settled = before;
        }
        // Suppression looks at what competes with the objects that are wanted.
        let around = setup.surroundings();
        let left_out = AtomicUsize::new(0);
        let look = |region: Region| -> Result<bool> {
            let region = region.grown(around, setup.extent());
            if !is_wanted(self.options, region) {
                return Ok(false);
            }
            let empty = self.options.skip_empty && setup.is_empty(region)?;
            left_out.fetch_add(usize::from(empty), Ordering::Relaxed);
            Ok(!empty)
        };
        let [done, rows] = search.rows();
        let total = rows * search.columns();
        teller.begin(Phase::Network, total, done * search.columns());
        loop {
            let searched = search.search(&look, &mut || teller.tick(), &mut |search| {
                self.spool.put_settled(&search.take_settled(), &mut settled)?;
                self.spool.put_stars(layout, search.rows()[0], search.suppression(), settled)
            })?;
            if searched == Searched::All {
                break;
            }
            settled = Settled::default();
            left_out.store(0, Ordering::Relaxed);
            self.spool.forget_stars()?;
            teller.begin(Phase::Network, total, 0);
        }
        search.settle_all()?;
        self.spool.put_settled(&search.take_settled(), &mut settled)?;
        let (smallest, cancel) = (search.smallest(), &self.options.predict.cancel);
        drop(search);
        let mut survivors = Kept::read(&self.spool.settled_path(), settled, self.blocks, smallest, cancel)?;
        teller.begin(Phase::Objects, self.blocks.len(), 0);
        for index in 0..self.blocks.len() {
            if !self.spool.has_block(index) {
                let require = |window: Region| setup.require(window, "the objects of a part,");
                let mut found = survivors.near(index)?.in_part(self.blocks.region(index), &require)?;
                found.retain(|one| keeps(self.options, one));
                self.spool.put_block(index, &found)?;
            }
            teller.tick()?;
        }
        Ok(left_out.into_inner())
    }

    fn blended(&self, setup: &Setup<'_>, teller: &mut Teller<'_>) -> Result<usize> {
        let order = self.blocks.in_panels();
        let open: Vec<usize> = order.iter().copied().filter(|index| !self.spool.has_block(*index)).collect();
        teller.begin(Phase::Network, order.len(), order.len() - open.len());
        let answers = Blended::new(setup)?;
        let cores: Vec<(usize, Region)> = open.into_iter().map(|index| (index, self.blocks.region(index))).collect();
        let search = BlockSearch { setup, options: self.options, answers: &answers, doublings: DOUBLINGS };
        let mut left_out = 0;
        search.each(&cores, &mut |index, found| {
            left_out += usize::from(found.is_none());
            self.spool.put_block(index, &found.unwrap_or_default())?;
            teller.tick()
        })?;
        Ok(left_out)
    }
}

/// Whether anything is to be found in a part.
pub(super) fn is_wanted(options: &LargeOptions, region: Region) -> bool {
    options.area.as_ref().is_none_or(|area| area.may_meet(region))
}

/// Whether the middle of an object lies where objects are wanted.
pub(super) fn keeps(options: &LargeOptions, found: &Found) -> bool {
    let Some(area) = &options.area else { return true };
    let (mut sum, mut count) = ([0.0; 2], 0.0);
    for run in &found.runs {
        let pixels = run.len() as f64;
        sum[0] += pixels * (run.row as f64 + 0.5);
        sum[1] += pixels * 0.5 * (run.begin + run.end) as f64;
        count += pixels;
    }
    area.contains(sum.map(|sum| sum / f64::max(count, 1.0)))
}

/// The search for the objects of Cellpose or ELEPHANT, block by block.
pub(super) struct BlockSearch<'a> {
    pub setup: &'a Setup<'a>,
    pub options: &'a LargeOptions,
    pub answers: &'a Blended<'a>,
    /// How often the surroundings of a block may be doubled because an object reaches out of them.
    pub doublings: usize,
}

/// What is known of a block before objects are searched for in it.
enum Look {
    Unwanted,
    ShowsNothing,
    Maps(PartMaps),
}

impl BlockSearch<'_> {
    /// Hands to `keep` the objects that are anchored in each block or close to it, none of which is cut as long as the
    /// surroundings may be doubled; `None` for a block that was left out because it shows nothing. An accelerator looks at the next
    /// block while the CPU searches one.
    pub fn each(
        &self,
        cores: &[(usize, Region)],
        keep: &mut dyn FnMut(usize, Option<Vec<Found>>) -> Result<()>,
    ) -> Result<()> {
        let mut next = None;
        for (at, &(index, core)) in cores.iter().enumerate() {
            self.options.predict.cancel.check()?;
            let look = next.take().unwrap_or_else(|| self.look(core))?;
            let later = cores.get(at + 1).map(|&(_, core)| move || self.look(core));
            let (kept, computed) = self.setup.beside(later, || {
                let found = match look {
                    Look::Unwanted => Some(Vec::new()),
                    Look::ShowsNothing => None,
                    Look::Maps(maps) => match self.objects(core, maps, 0)? {
                        Some(found) => Some(found),
                        None => return Ok(false),
                    },
                };
                keep(index, found).map(|()| true)
            });
            next = computed;
            if !kept? {
                // Only now, so that the image is read, and the network runs, for one block at a time.
                keep(index, Some(self.wider(core)?))?;
            }
        }
        Ok(())
    }

    fn look(&self, core: Region) -> Result<Look> {
        let first = self.window(core, 0);
        if !is_wanted(self.options, first) {
            return Ok(Look::Unwanted);
        }
        if self.options.skip_empty && self.setup.is_empty(first)? {
            return Ok(Look::ShowsNothing);
        }
        self.answers.maps(first).map(Look::Maps)
    }

    /// A block with its surroundings, which were doubled that often.
    fn window(&self, core: Region, doubled: usize) -> Region {
        core.grown(self.setup.surroundings() << doubled, self.setup.extent())
    }

    /// The objects of a block that are wanted; `None` when one is cut that need not be.
    fn objects(&self, core: Region, maps: PartMaps, doubled: usize) -> Result<Option<Vec<Found>>> {
        let near = core.grown(MARGIN, self.setup.extent());
        let mut found = self.answers.objects(maps)?;
        found.retain(|one| near.contains(one.anchor));
        let fits = || self.setup.require(self.window(core, doubled + 1), "a part of the image,").is_ok();
        if doubled < self.doublings && found.iter().any(|one| one.cut) && fits() {
            return Ok(None);
        }
        found.retain(|one| keeps(self.options, one));
        Ok(Some(found))
    }

    /// The objects of a block of which one was cut.
    fn wider(&self, core: Region) -> Result<Vec<Found>> {
        for doubled in 1.. {
            let maps = self.answers.maps(self.window(core, doubled))?;
            if let Some(found) = self.objects(core, maps, doubled)? {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}
