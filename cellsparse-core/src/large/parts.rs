//! Blocks that are segmented elsewhere: on other machines, in any order, and put together afterwards.

use std::path::Path;

use super::LargeOptions;
use super::blocks::{BLOCK, Blocks};
use super::run::{BlockSearch, at_level, is_wanted, keeps};
use super::spool::{Facts, Spool};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::large::{Blended, Context, Found, Setup, Survivors};
use crate::raster::regions::{Extent, Region, RegionReader};

/// Blocks side by side and below each other that are segmented together.
const TOGETHER: usize = 2;

/// Work for others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LargePlan {
    /// What is taken from the whole image, as JSON.
    pub context: String,
    /// The blocks that are not done yet.
    pub groups: Vec<LargeGroup>,
}

/// Some blocks, and the pixels that they need.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LargeGroup {
    /// Numbers of the blocks.
    pub blocks: Vec<usize>,
    /// What has to be read for them.
    pub region: Region,
}

impl Model {
    /// Begins a run whose blocks are segmented by [`large_blocks`](Self::large_blocks), wherever that is, and kept by
    /// [`keep_block`]; [`predict_large`](Self::predict_large) with the same options and `resume` then puts them together.
    ///
    /// # Errors
    /// As [`predict_large`](Self::predict_large); [`Error::Config`] without a folder.
    pub fn large_plan(&self, reader: &dyn RegionReader, options: &LargeOptions) -> Result<LargePlan> {
        if options.folder.is_none() {
            return Err(Error::Config("folder is not given; finished blocks have to be kept somewhere".into()));
        }
        self.in_pool(options.predict.threads, || plan(self, reader, options, BLOCK))
    }

    /// Segments some blocks of a [plan](Self::large_plan) and returns the objects of each as bytes. The reader needs to have the
    /// pixels that the plan names.
    ///
    /// An object belongs to one block as in [`predict_large`](Self::predict_large). Candidates of StarDist are suppressed within a
    /// block and several cells around it, which decides as the whole image does unless a chain of overlapping candidates
    /// reaches further; the network's sums are rounded by where the block begins, which moves single pixels.
    ///
    /// # Errors
    /// As [`predict_large`](Self::predict_large).
    pub fn large_blocks(
        &self,
        reader: &dyn RegionReader,
        options: &LargeOptions,
        context: &str,
        blocks: &[usize],
    ) -> Result<Vec<Vec<u8>>> {
        self.in_pool(options.predict.threads, || packed_blocks(self, reader, options, context, blocks, BLOCK))
    }
}

/// The plan of a run in blocks of `side` pixels.
pub(super) fn plan(model: &Model, reader: &dyn RegionReader, options: &LargeOptions, side: usize) -> Result<LargePlan> {
    let extent = extent(reader, options)?;
    let (_, options) = at_level(reader, options, extent);
    let facts = Facts::of(model, reader, &options)?;
    let spool = Spool::open(&options, &facts)?;
    if spool.finished().is_some() {
        return Ok(LargePlan { context: "null".into(), groups: Vec::new() });
    }
    let context = Context::measured(spool.context(), model, reader, options.level, &options.predict)?;
    spool.remember(&facts, &context)?;
    let text = serde_json::to_string(&context);
    let text = text.map_err(|error| Error::Internal(format!("what a run knows: {error}")))?;
    let mut plan = LargePlan { context: text, groups: Vec::new() };
    let blocks = Blocks::of(extent, side);
    if context.shows_nothing() {
        (0..blocks.len()).try_for_each(|index| spool.put_block(index, &[]))?;
        return Ok(plan);
    }
    let setup = Setup::new(model, reader, options.level, &context, &options.predict)?;
    let reach = 2 * setup.surroundings() + setup.reading()?;
    for top in (0..blocks.down).step_by(TOGETHER) {
        for left in (0..blocks.across).step_by(TOGETHER) {
            let rows = top..(top + TOGETHER).min(blocks.down);
            let all = rows.flat_map(|row| {
                (left..(left + TOGETHER).min(blocks.across)).map(move |column| row * blocks.across + column)
            });
            let open: Vec<usize> = all.filter(|index| !spool.has_block(*index)).collect();
            let (Some(first), Some(last)) = (open.first(), open.last()) else { continue };
            let (first, last) = (blocks.region(*first), blocks.region(*last));
            let (left, right) = (first.left.min(last.left), first.right().max(last.right()));
            let region = Region { top: first.top, left, height: last.bottom() - first.top, width: right - left };
            plan.groups.push(LargeGroup { blocks: open, region: region.grown(reach, extent) });
        }
    }
    Ok(plan)
}

/// [`Model::large_blocks`] for blocks of `side` pixels.
pub(super) fn packed_blocks(
    model: &Model,
    reader: &dyn RegionReader,
    options: &LargeOptions,
    context: &str,
    blocks: &[usize],
    side: usize,
) -> Result<Vec<Vec<u8>>> {
    let context: Context = serde_json::from_str(context)
        .map_err(|error| Error::Config(format!("context is not that of a plan: {error}")))?;
    let extent = extent(reader, options)?;
    let (_, options) = at_level(reader, options, extent);
    let lattice = Blocks::of(extent, side);
    let setup = Setup::new(model, reader, options.level, &context, &options.predict)?;
    let setup = if options.skip_empty { setup.with_thumbnail()? } else { setup };
    if let Some(index) = blocks.iter().find(|index| **index >= lattice.len()) {
        return Err(Error::Config(format!("block {index} of {}", lattice.len())));
    }
    let cores: Vec<(usize, Region)> = blocks.iter().map(|index| (*index, lattice.region(*index))).collect();
    let mut packed = Vec::new();
    if setup.searches_whole() {
        for (_, core) in cores {
            packed.push(Spool::packed(&stars(&setup, &options, core)?));
        }
        return Ok(packed);
    }
    let answers = Blended::new(&setup)?;
    BlockSearch { setup: &setup, options: &options, answers: &answers, doublings: 0 }.each(
        &cores,
        &mut |_, found| {
            packed.push(Spool::packed(&found.unwrap_or_default()));
            Ok(())
        },
    )?;
    Ok(packed)
}

fn extent(reader: &dyn RegionReader, options: &LargeOptions) -> Result<Extent> {
    reader.levels().get(options.level).copied().ok_or_else(|| {
        Error::Config(format!("level {} was asked for; the image has {}", options.level, reader.levels().len()))
    })
}

/// StarDist's objects whose points lie in a block.
fn stars(setup: &Setup<'_>, options: &LargeOptions, core: Region) -> Result<Vec<Found>> {
    let around = setup.surroundings();
    let near = core.grown(around, setup.extent());
    if !is_wanted(options, near) || (options.skip_empty && setup.is_empty(near)?) {
        return Ok(Vec::new());
    }
    let survivors = Survivors::of_part(setup, core, around)?;
    let mut found = survivors.in_part(core, &|window| setup.require(window, "the objects of a part,"))?;
    found.retain(|one| keeps(options, one));
    found.iter_mut().for_each(|one| one.order = Survivors::order(one));
    Ok(found)
}

/// Keeps a block of a run in its folder.
///
/// # Errors
/// [`Error::File`] for bytes that are no block, [`Error::Io`], [`Error::NotFound`].
pub fn keep_block(folder: impl AsRef<Path>, block: usize, bytes: &[u8]) -> Result<()> {
    Spool::at(folder.as_ref()).put_packed(block, bytes)
}
