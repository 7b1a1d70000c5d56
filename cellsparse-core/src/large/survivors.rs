//! The survivors of StarDist's candidates, which stay in the folder of the run and are read block by block.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::blocks::Blocks;
use super::spool::{Bytes, HEAD, Settled, damaged, record_bytes};
use crate::budget::{gathered, reserve, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Result};
use crate::model::large::{Survivors, bounds_of};
use crate::postprocess::StarCandidates;
use crate::postprocess::strips::Numbered;
use crate::raster::regions::Region;

const WHAT: &str = "the survivors of the object candidates";

/// Survivors that are read at a time, and that are read in vain rather than begin another read.
const TOGETHER: usize = 256;
const GAP: usize = 32;

/// Where the survivors of an image lie. Of each, eight bytes are held: its rank and its place.
pub(super) struct Kept {
    path: PathBuf,
    file: File,
    rays: usize,
    lists: Vec<List>,
    blocks: Blocks,
    /// The place of every survivor among all by descending score (of equal scores the later candidate first), by its place in the
    /// file.
    ranks: Vec<u32>,
    /// Places in the file, ascending for each block, block after block: those of a block begin at `begins[block]`.
    places: Vec<u32>,
    begins: Vec<usize>,
    /// What the survivors of a block may reach over.
    bounds: Vec<Option<Region>>,
    /// Blocks that were read last.
    held: HashMap<usize, Rc<Survivors>>,
    smallest: f32,
    cancel: CancelToken,
}

/// Survivors that were written together.
struct List {
    /// The place of the first one.
    first: usize,
    /// Bytes before it.
    offset: u64,
    tagged: bool,
}

/// What sorts the survivors.
#[derive(Default)]
struct Keys {
    scores: Vec<f32>,
    numbers: Vec<u64>,
    /// The block that each lies in.
    blocks: Vec<u32>,
}

impl Kept {
    /// The survivors in a file, of an image in those blocks.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is damaged, [`Error::Limit`] for more than 2^32 survivors, [`Error::Io`], [`Error::Cancelled`].
    pub fn read(path: &Path, settled: Settled, blocks: Blocks, smallest: f32, cancel: &CancelToken) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io(path, source))?;
        let count = u32::try_from(settled.count).map_err(|_| Error::Limit(format!("{} objects", settled.count)))?;
        let mut kept = Self {
            path: path.to_path_buf(),
            file,
            rays: settled.rays,
            lists: Vec::new(),
            blocks,
            ranks: Vec::new(),
            places: Vec::new(),
            begins: Vec::new(),
            bounds: vec![None; blocks.len()],
            held: HashMap::new(),
            smallest,
            cancel: cancel.clone(),
        };
        let Keys { scores, numbers, blocks: of } = kept.keys(settled)?;
        let mut order: Vec<u32> = gathered(settled.count, 0..count, WHAT)?;
        let score = |place: u32| scores[place as usize] + 0.0;
        let number = |place: u32| numbers[place as usize];
        order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)).then(number(b).cmp(&number(a))));
        kept.ranks = zeros(settled.count, WHAT)?;
        for (rank, place) in (0..count).zip(&order) {
            kept.ranks[*place as usize] = rank;
        }
        kept.begins = vec![0; blocks.len() + 1];
        of.iter().for_each(|block| kept.begins[*block as usize + 1] += 1);
        for block in 0..blocks.len() {
            kept.begins[block + 1] += kept.begins[block];
        }
        kept.places = order;
        let mut next = kept.begins.clone();
        for (place, block) in (0..count).zip(&of) {
            let at = &mut next[*block as usize];
            kept.places[*at] = place;
            *at += 1;
        }
        Ok(kept)
    }

    /// Reads all survivors once, for what sorts them and what they reach over.
    fn keys(&mut self, settled: Settled) -> Result<Keys> {
        let mut keys = Keys {
            scores: reserve(settled.count, WHAT)?,
            numbers: reserve(settled.count, WHAT)?,
            blocks: reserve(settled.count, WHAT)?,
        };
        let mut reader = BufReader::new(&self.file);
        let (mut offset, mut bytes) = (0, Vec::new());
        while offset < settled.length {
            self.cancel.check()?;
            let mut head = [0; HEAD];
            reader.read_exact(&mut head).map_err(|_| damaged(&self.path))?;
            let (count, tagged) = Bytes { rest: &head }.list().ok_or_else(|| damaged(&self.path))?;
            if count > settled.count - keys.scores.len() {
                return Err(damaged(&self.path));
            }
            self.lists.push(List { first: keys.scores.len(), offset: offset + HEAD as u64, tagged });
            let record = record_bytes(self.rays, tagged);
            let mut left = count;
            while left > 0 {
                let some = left.min(TOGETHER);
                bytes.resize(some * record, 0);
                reader.read_exact(&mut bytes).map_err(|_| damaged(&self.path))?;
                let list = Bytes { rest: &bytes }.records(some, tagged, self.rays);
                let list = list.ok_or_else(|| damaged(&self.path))?;
                list.stars.check()?;
                for (point, rays) in list.stars.points.iter().zip(list.stars.dist.outer_iter()) {
                    let [y, x] = point.map(|at| usize::try_from(at).unwrap_or(0));
                    let block = y / self.blocks.side * self.blocks.across + x / self.blocks.side;
                    let reach = self.bounds.get_mut(block).ok_or_else(|| damaged(&self.path))?;
                    let own = bounds_of(*point, rays.iter().copied(), self.blocks.extent);
                    *reach = Some(reach.map_or(own, |reach| reach.joined(own)));
                    keys.blocks.push(block as u32);
                }
                keys.scores.extend(&list.stars.prob);
                keys.numbers.extend(&list.numbers);
                left -= some;
            }
            offset += (HEAD + count * record) as u64;
        }
        if keys.scores.len() != settled.count {
            return Err(damaged(&self.path));
        }
        Ok(keys)
    }

    /// The survivors whose points lie in a block, and all that may meet one of these. Blocks are asked for from the top on.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn near(&mut self, block: usize) -> Result<Survivors> {
        self.cancel.check()?;
        let mut near = self.none();
        let Some(window) = self.bounds[block] else { return Ok(near) };
        let row = block / self.blocks.across;
        self.held.retain(|other, _| other / self.blocks.across + 1 >= row);
        let met = |other: &usize| self.bounds[*other].is_some_and(|bounds| bounds.meets(&window));
        let others: Vec<usize> = (0..self.blocks.len()).filter(met).collect();
        let parts = others.into_iter().map(|other| self.block(other)).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<(u32, usize, usize)> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let met = (0..part.ranks.len()).filter(|index| part.bounds[*index].meets(&window));
            order.extend(met.map(|index| (part.ranks[index], at, index)));
        }
        order.sort_unstable();
        let mut rays: Vec<f32> = reserve(order.len() * self.rays, WHAT)?;
        for (rank, at, index) in order {
            let part = &parts[at];
            near.stars.points.push(part.stars.points[index]);
            near.stars.prob.push(part.stars.prob[index]);
            rays.extend(part.stars.dist.row(index));
            near.classes.extend(part.classes.get(index));
            near.bounds.push(part.bounds[index]);
            near.ranks.push(rank);
        }
        near.stars.dist = ndarray::Array2::from_shape_vec((near.ranks.len(), self.rays), rays)
            .map_err(|error| Error::Internal(format!("{WHAT}: {error}")))?;
        Ok(near)
    }

    fn none(&self) -> Survivors {
        Survivors {
            stars: StarCandidates::empty(self.rays),
            classes: Vec::new(),
            bounds: Vec::new(),
            ranks: Vec::new(),
            smallest: self.smallest,
            cancel: self.cancel.clone(),
        }
    }

    /// The survivors whose points lie in a block.
    fn block(&mut self, block: usize) -> Result<Rc<Survivors>> {
        if let Some(known) = self.held.get(&block) {
            return Ok(Rc::clone(known));
        }
        let places = &self.places[self.begins[block]..self.begins[block + 1]];
        let mut found = self.none();
        let mut rest = places;
        while let Some(first) = rest.first().map(|first| *first as usize) {
            let list = self.lists.partition_point(|list| list.first <= first) - 1;
            let end = self.lists.get(list + 1).map_or(usize::MAX, |next| next.first).min(first + TOGETHER);
            let goes_on = |pair: &[u32]| (pair[1] as usize) < end && (pair[1] - pair[0]) as usize <= GAP;
            let count = 1 + rest.windows(2).take_while(|pair| goes_on(pair)).count();
            let (these, others) = rest.split_at(count);
            rest = others;
            let last = these[count - 1] as usize;
            let read = self.records(&self.lists[list], first, last - first + 1)?;
            for place in these {
                let at = *place as usize - first;
                let (point, rays) = (read.stars.points[at], read.stars.dist.row(at));
                found.bounds.push(bounds_of(point, rays.iter().copied(), self.blocks.extent));
                found.ranks.push(self.ranks[*place as usize]);
            }
            let at: Vec<usize> = these.iter().map(|place| *place as usize - first).collect();
            found.stars.append(&read.stars.select(&at)?)?;
            found.classes.extend(at.iter().filter_map(|at| read.tags.get(*at)));
        }
        let found = Rc::new(found);
        self.held.insert(block, Rc::clone(&found));
        Ok(found)
    }

    /// Neighbours in a list.
    fn records(&self, list: &List, first: usize, count: usize) -> Result<Numbered> {
        let record = record_bytes(self.rays, list.tagged);
        let io = |source| Error::io(&self.path, source);
        let mut bytes = vec![0; count * record];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(list.offset + ((first - list.first) * record) as u64)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        Bytes { rest: &bytes }.records(count, list.tagged, self.rays).ok_or_else(|| damaged(&self.path))
    }

    /// Bytes that are held for each survivor, beside those of blocks that were read last.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        4 * (self.ranks.capacity() + self.places.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::super::spool::Spool;
    use super::*;
    use crate::postprocess::strips::StripSuppression;
    use crate::random::Random;
    use crate::raster::regions::Extent;

    const RAYS: usize = 8;

    /// Survivors of an image of 500 x 700 pixels in lists of unequal length, of which every second one has tags, in a file; with all
    /// of them in the order in which they came.
    fn written(spool: &Spool, count: usize) -> (Numbered, Settled) {
        let mut random = Random::new(5, 0);
        let (mut all, mut settled) = (Numbered::empty(RAYS), Settled::default());
        let (mut number, mut length) = (0, 1);
        while all.stars.len() < count {
            let some = length.min(count - all.stars.len());
            let mut list = Numbered::empty(RAYS);
            for _ in 0..some {
                list.stars.points.push([random.below(500) as i32, random.below(700) as i32]);
                list.stars.prob.push((random.uniform(0.0, 1.0) * 20.0).round() as f32 / 20.0);
                number += 1 + random.below(3) as u64;
                list.numbers.push(number);
                list.tags.push(random.below(4) as u8);
            }
            let rays = |_: (usize, usize)| random.uniform(2.0, 14.0) as f32;
            list.stars.dist = ndarray::Array2::from_shape_fn((some, RAYS), rays);
            spool.put_settled(&list, &mut settled).unwrap();
            all.stars.append(&list.stars).unwrap();
            all.numbers.extend(list.numbers);
            all.tags.extend(list.tags);
            length = length * 3 + 1;
        }
        (all, settled)
    }

    #[test]
    fn what_is_near_a_block_comes_back_in_the_order_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::at(folder.path());
        let (all, settled) = written(&spool, 3000);
        let (extent, cancel) = (Extent { height: 500, width: 700 }, CancelToken::new());
        // No two are compared: what is sorted here is all of them.
        let mut whole = StripSuppression::new(RAYS, 1.0, None, &cancel);
        let mut order: Vec<usize> = (0..3000).collect();
        order.sort_by(|&a, &b| {
            all.stars.prob[b].total_cmp(&all.stars.prob[a]).then(all.numbers[b].cmp(&all.numbers[a]))
        });
        whole.add(&all.stars, &all.tags, i32::MAX).unwrap();
        assert_eq!(whole.finish().unwrap().0, all.stars.select(&order).unwrap());
        for side in [64, 150, 1000] {
            let blocks = Blocks::of(extent, side);
            let mut kept = Kept::read(&spool.settled_path(), settled, blocks, 3.0, &cancel).unwrap();
            assert_eq!(kept.bytes(), 8 * 3000);
            let mut own = 0;
            for block in 0..blocks.len() {
                let near = kept.near(block).unwrap();
                let core = blocks.region(block);
                let ranks: Vec<usize> = near.ranks.iter().map(|rank| *rank as usize).collect();
                assert!(ranks.is_sorted());
                let places: Vec<usize> = ranks.iter().map(|rank| order[*rank]).collect();
                assert_eq!(near.stars, all.stars.select(&places).unwrap());
                assert!(places.iter().zip(&near.classes).all(|(place, class)| all.tags[*place] == *class));
                // As many as in all of them.
                let bounds = |place: usize| {
                    bounds_of(all.stars.points[place], all.stars.dist.row(place).iter().copied(), extent)
                };
                let inside = |place: &usize| core.contains(all.stars.points[*place].map(|at| at as usize));
                let mine: Vec<usize> = (0..3000).filter(inside).collect();
                let window = mine.iter().map(|place| bounds(*place)).reduce(Region::joined);
                let met = (0..3000).filter(|place| window.is_some_and(|window| bounds(*place).meets(&window)));
                assert_eq!(met.count(), places.len(), "block {block} of {side}");
                own += mine.len();
            }
            assert_eq!(own, 3000);
            let held: usize = kept.held.values().map(|part| part.ranks.len()).sum();
            assert!(side > 100 || held < 1500, "{held} are held");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::at(folder.path());
        let (_, settled) = written(&spool, 40);
        let (path, blocks) = (spool.settled_path(), Blocks::of(Extent { height: 500, width: 700 }, 100));
        let read = |settled| Kept::read(&path, settled, blocks, 0.0, &CancelToken::new()).map(drop);
        read(settled).unwrap();
        let refused = |settled| read(settled).unwrap_err().to_string();
        assert!(refused(Settled { count: 41, ..settled }).contains("damaged"));
        assert!(refused(Settled { count: 39, ..settled }).contains("damaged"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(refused(settled).contains("damaged"));
        let mut far = bytes;
        far[HEAD] = 0;
        far[HEAD + 1] = 9;
        std::fs::write(&path, &far).unwrap();
        assert!(refused(settled).contains("damaged"));
        std::fs::write(&path, []).unwrap();
        read(Settled::default()).unwrap();
    }
}
