//! What a run has finished, in a folder from which it can go on.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::LargeOptions;
use crate::error::{Error, Result};
use crate::geometry::label_runs::Run;
use crate::model::Model;
use crate::model::large::{Context, Found};
use crate::postprocess::strips::{Numbered, StripState, StripSuppression};
use crate::raster::regions::RegionReader;
use crate::raster::write_atomically;

/// What a run depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    version: u32,
    model: String,
    image: String,
    options: String,
}

/// The first file of the folder.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    facts: Facts,
    context: Option<Context>,
    /// Objects of a run that came to its end.
    finished: Option<usize>,
}

impl Facts {
    /// Of a run with a model, an image and options.
    pub fn of(model: &Model, reader: &dyn RegionReader, options: &LargeOptions) -> Result<Self> {
        let predict = &options.predict;
        let choice = format!(
            "{:?} {:?} {:?} {:?} {:?} {} {:?} {} {:?} {} {:?} {} {} {:?} {}",
            predict.prob_thresh,
            predict.nms_thresh,
            predict.flow_threshold,
            predict.cellprob_threshold,
            predict.diameter,
            predict.augment,
            predict.postprocess,
            predict.min_area,
            predict.tile,
            predict.normalized,
            predict.pixel_size,
            predict.rescale,
            options.level,
            options.area,
            options.skip_empty,
        );
        let image = format!("{} {:?} {}", options.image, reader.levels(), reader.channels());
        Ok(Self { version: 1, model: model.fingerprint()?, image, options: choice })
    }
}

/// The survivors of StarDist's candidates that lie in the folder of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Settled {
    /// Rays of each.
    pub rays: usize,
    pub count: usize,
    /// Bytes of their file.
    pub length: u64,
}

/// The folder of a run.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// Removed with everything in it at the end.
    _own: Option<tempfile::TempDir>,
    context: Option<Context>,
    finished: Option<usize>,
}

const RECORD: &str = "run.json";
const STATE: &str = "stars.state";
const SETTLED: &str = "stars.settled";
const ENDING: &str = "block";

impl Spool {
    /// A folder of which nothing is known.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), _own: None, context: None, finished: None }
    }

    /// Opens the folder of the options. What is in it belongs to the run, or is removed when the run begins anew.
    pub fn open(options: &LargeOptions, facts: &Facts) -> Result<Self> {
        let Some(folder) = &options.folder else {
            let own = tempfile::tempdir().map_err(|source| Error::io(std::env::temp_dir(), source))?;
            let folder = own.path().to_path_buf();
            return Ok(Self { folder, _own: Some(own), context: None, finished: None });
        };
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        let mut spool = Self::at(folder);
        let record = folder.join(RECORD);
        if !options.resume || !record.exists() {
            spool.clear()?;
            return Ok(spool);
        }
        let text = fs::read_to_string(&record).map_err(|source| Error::io(&record, source))?;
        let known: Record = serde_json::from_str(&text).map_err(|error| {
            Error::file(
                &record,
                format!("does not tell of which run these parts are ({error}); begin without resuming"),
            )
        })?;
        let parts = [
            ("version of the library", known.facts.version.to_string(), facts.version.to_string()),
            ("model", known.facts.model, facts.model.clone()),
            ("image", known.facts.image, facts.image.clone()),
            ("options", known.facts.options, facts.options.clone()),
        ];
        if let Some((what, ..)) = parts.iter().find(|(_, known, now)| known != now) {
            return Err(Error::file(
                folder,
                format!(
                    "these finished parts are of a run with another {what}; begin without resuming, or as that run began"
                ),
            ));
        }
        spool.context = known.context;
        spool.finished = known.finished;
        Ok(spool)
    }

    /// Objects of the run, when it had come to its end.
    pub fn finished(&self) -> Option<usize> {
        self.finished
    }

    /// What the run took from the whole image.
    pub fn context(&self) -> Option<Context> {
        self.context.clone()
    }

    /// Notes what the run depends on.
    pub fn remember(&self, facts: &Facts, context: &Context) -> Result<()> {
        self.record(&Record { facts: facts.clone(), context: Some(context.clone()), finished: None })
    }

    /// Removes everything but the note that the run came to its end.
    pub fn finish(&self, facts: &Facts, objects: usize) -> Result<()> {
        self.clear()?;
        self.record(&Record { facts: facts.clone(), context: None, finished: Some(objects) })
    }

    fn record(&self, record: &Record) -> Result<()> {
        let text =
            serde_json::to_vec(record).map_err(|error| Error::Internal(format!("a record of a run: {error}")))?;
        self.write(RECORD, &text)
    }

    fn clear(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).map_err(|source| Error::io(&self.folder, source))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            // Nothing else is taken away, whatever folder was named.
            if [RECORD, STATE, SETTLED].contains(&name.as_str()) || name.ends_with(&format!(".{ENDING}")) {
                fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        write_atomically(&path, |writer| writer.write_all(bytes).map_err(|source| Error::io(&path, source)))
    }

    fn block_path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{index}.{ENDING}"))
    }

    /// Whether a block is done.
    pub fn has_block(&self, index: usize) -> bool {
        self.block_path(index).exists()
    }

    /// Keeps the objects of a block.
    pub fn put_block(&self, index: usize, objects: &[Found]) -> Result<()> {
        self.write(&format!("{index}.{ENDING}"), &Self::packed(objects))
    }

    /// Keeps a block that was [packed](Self::packed) elsewhere.
    pub fn put_packed(&self, index: usize, bytes: &[u8]) -> Result<()> {
        let path = self.block_path(index);
        unpacked(bytes).ok_or_else(|| damaged(&path))?;
        self.write(&format!("{index}.{ENDING}"), bytes)
    }

    /// The objects of a block as bytes.
    pub fn packed(objects: &[Found]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, objects.len());
        for object in objects {
            object.anchor.iter().for_each(|at| put(&mut bytes, *at));
            object.order.iter().for_each(|at| bytes.extend(at.to_le_bytes()));
            bytes.extend(object.probability.to_le_bytes());
            bytes.extend(object.class.map_or(u16::MAX, u16::from).to_le_bytes());
            put(&mut bytes, object.runs.len());
            for run in &object.runs {
                [run.row, run.begin, run.end].iter().for_each(|at| put(&mut bytes, *at));
            }
        }
        bytes
    }

    /// The objects of a block that is done.
    pub fn block(&self, index: usize) -> Result<Vec<Found>> {
        let path = self.block_path(index);
        let bytes = fs::read(&path).map_err(|source| Error::io(&path, source))?;
        unpacked(&bytes).ok_or_else(|| damaged(&path))
    }

    /// Rows of tiles that are done, what was known after them and the survivors that lie in the folder, of a search in that layout.
    pub fn stars(&self, layout: [usize; 4]) -> Result<Option<(usize, StripState, Settled)>> {
        let path = self.folder.join(STATE);
        let Ok(bytes) = fs::read(&path) else { return Ok(None) };
        let mut from = Bytes { rest: &bytes };
        let head = (|| {
            let found = [from.index()?, from.index()?, from.index()?, from.index()?];
            let (done, seen, reach) = (from.index()?, from.number()?, i32::from_le_bytes(from.take()?));
            let (rays, count, length) = (from.index()?, from.index()?, from.number()?);
            Some((found, done, seen, (reach >= 0).then_some(reach), Settled { rays, count, length }))
        })();
        let Some((found, done, seen, reach, settled)) = head else { return Err(damaged(&path)) };
        if found != layout {
            // Another share of memory, other tiles: the search begins anew.
            self.forget_stars()?;
            return Ok(None);
        }
        let rays = settled.rays;
        let open = from.candidates(rays).filter(|_| from.rest.is_empty()).ok_or_else(|| damaged(&path))?;
        Ok(Some((done, StripState { seen, reach, open, settled: Numbered::empty(rays) }, settled)))
    }

    /// Keeps more survivors behind those that are in the folder, of which it then counts these, too. What a run that was ended wrote
    /// there since the last state does not count.
    pub fn put_settled(&self, more: &Numbered, settled: &mut Settled) -> Result<()> {
        let path = self.settled_path();
        let io = |source| Error::io(&path, source);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        file.set_len(settled.length).map_err(io)?;
        let mut writer = BufWriter::new(file);
        writer.seek(SeekFrom::Start(settled.length)).map_err(io)?;
        let mut length = 0;
        if !more.stars.is_empty() {
            length = put_candidates(&mut writer, more).map_err(io)?;
        }
        let file = writer.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_data().map_err(io)?;
        let count = settled.count + more.stars.len();
        *settled = Settled { rays: more.stars.dist.ncols(), count, length: settled.length + length };
        Ok(())
    }

    /// Keeps what is known after so many rows of tiles, with those survivors in the folder.
    pub fn put_stars(&self, layout: [usize; 4], done: usize, known: &StripSuppression, settled: Settled) -> Result<()> {
        let (seen, reach, open) = known.state();
        let mut head = Vec::new();
        layout.iter().for_each(|side| put(&mut head, *side));
        put(&mut head, done);
        head.extend(seen.to_le_bytes());
        head.extend(reach.unwrap_or(-1).to_le_bytes());
        put(&mut head, open.stars.dist.ncols());
        put(&mut head, settled.count);
        head.extend(settled.length.to_le_bytes());
        let path = self.folder.join(STATE);
        write_atomically(&path, |writer| {
            let written = writer.write_all(&head).and_then(|()| put_candidates(writer, open));
            written.map(drop).map_err(|source| Error::io(&path, source))
        })
    }

    /// The file of the survivors.
    pub fn settled_path(&self) -> PathBuf {
        self.folder.join(SETTLED)
    }

    /// Begins the search for stars anew.
    pub fn forget_stars(&self) -> Result<()> {
        for name in [STATE, SETTLED] {
            let path = self.folder.join(name);
            if path.exists() {
                fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
            }
        }
        Ok(())
    }
}

/// The objects of a packed block; `None` when it is damaged.
fn unpacked(bytes: &[u8]) -> Option<Vec<Found>> {
    let mut from = Bytes { rest: bytes };
    let count = from.index()?;
    let mut objects = Vec::new();
    for _ in 0..count {
        let anchor = [from.index()?, from.index()?];
        let order = [from.number()?, from.number()?];
        let probability = f32::from_le_bytes(from.take()?);
        let class = u8::try_from(u16::from_le_bytes(from.take()?)).ok();
        let count = from.index()?;
        let mut runs = Vec::new();
        for _ in 0..count {
            runs.push(Run { row: from.index()?, begin: from.index()?, end: from.index()? });
        }
        objects.push(Found { anchor, order, runs, probability, class, cut: false });
    }
    from.rest.is_empty().then_some(objects)
}

pub(super) fn damaged(path: &Path) -> Error {
    Error::file(path, "this part of a run is damaged; begin without resuming")
}

fn put(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend((number as u64).to_le_bytes());
}

/// Writes candidates; the number of bytes.
fn put_candidates(writer: &mut impl Write, list: &Numbered) -> std::io::Result<u64> {
    let (count, tagged) = (list.stars.len(), !list.tags.is_empty());
    writer.write_all(&(count as u64).to_le_bytes())?;
    writer.write_all(&[u8::from(tagged)])?;
    let record = record_bytes(list.stars.dist.ncols(), tagged);
    let mut bytes = Vec::with_capacity(record);
    for place in 0..count {
        bytes.clear();
        list.stars.points[place].iter().for_each(|at| bytes.extend(at.to_le_bytes()));
        bytes.extend(list.stars.prob[place].to_le_bytes());
        bytes.extend(list.numbers[place].to_le_bytes());
        bytes.extend(list.tags.get(place));
        list.stars.dist.row(place).iter().for_each(|ray| bytes.extend(ray.to_le_bytes()));
        writer.write_all(&bytes)?;
    }
    Ok((HEAD + count * record) as u64)
}

/// Bytes before the candidates of a list: their number, and whether they have tags.
pub(super) const HEAD: usize = 9;

/// Bytes of a candidate: point, score, number, tag if there are any, and rays.
pub(super) fn record_bytes(rays: usize, tagged: bool) -> usize {
    8 + 4 + 8 + usize::from(tagged) + 4 * rays
}

/// Bytes that are read from the front.
pub(super) struct Bytes<'a> {
    pub rest: &'a [u8],
}

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn index(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn candidates(&mut self, rays: usize) -> Option<Numbered> {
        let (count, tagged) = self.list()?;
        self.records(count, tagged, rays)
    }

    /// The number of candidates of a list, and whether they have tags.
    pub fn list(&mut self) -> Option<(usize, bool)> {
        Some((self.index()?, self.take::<1>()?[0] == 1))
    }

    /// So many candidates.
    pub fn records(&mut self, count: usize, tagged: bool, rays: usize) -> Option<Numbered> {
        // Of a damaged file, no more memory is asked for than it has bytes.
        if self.rest.len() / record_bytes(rays, tagged) < count {
            return None;
        }
        let mut list = Numbered::empty(rays);
        let mut dist = Vec::with_capacity(count * rays);
        for _ in 0..count {
            list.stars.points.push([i32::from_le_bytes(self.take()?), i32::from_le_bytes(self.take()?)]);
            list.stars.prob.push(f32::from_le_bytes(self.take()?));
            list.numbers.push(self.number()?);
            if tagged {
                list.tags.push(self.take::<1>()?[0]);
            }
            for _ in 0..rays {
                dist.push(f32::from_le_bytes(self.take()?));
            }
        }
        list.stars.dist = Array2::from_shape_vec((count, rays), dist).ok()?;
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::CancelToken;
    use crate::postprocess::StarCandidates;

    #[test]
    fn blocks_come_back_and_cut_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::at(folder.path());
        let runs = vec![Run { row: 3, begin: 4, end: 9 }, Run { row: 4, begin: 5, end: 6 }];
        let one = Found { anchor: [3, 4], order: [7, 9], runs, probability: 0.5, class: Some(2), cut: false };
        let objects = [one.clone(), Found { class: None, anchor: [70_000, 1], ..one }];
        assert!(!spool.has_block(5));
        spool.put_block(5, &objects).unwrap();
        assert!(spool.has_block(5));
        assert_eq!(spool.block(5).unwrap(), objects);
        let path = spool.block_path(5);
        let bytes = fs::read(&path).unwrap();
        for length in [0, 7, 20, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(spool.block(5).unwrap_err().to_string().contains("damaged"), "{length}");
        }
        assert!(matches!(spool.block(6), Err(Error::NotFound { .. })));
    }

    #[test]
    fn a_search_goes_on_from_its_last_state() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::at(folder.path());
        let layout = [9, 9, 3, 1];
        assert_eq!(spool.stars(layout).unwrap(), None);
        let strip = |row: i32| StarCandidates {
            points: vec![[row, 5], [row + 1, 50]],
            prob: vec![0.9, 0.8],
            dist: Array2::from_elem((2, 4), 3.0),
        };
        let mut known = StripSuppression::new(4, 0.4, Some(5), &CancelToken::new());
        let (mut settled, mut all) = (Settled::default(), Numbered::empty(4));
        for done in 0..3 {
            known.add(&strip(20 * done as i32), &[1, 2], 20 * (done as i32 + 1)).unwrap();
            let more = known.take_settled();
            spool.put_settled(&more, &mut settled).unwrap();
            spool.put_stars(layout, done + 1, &known, settled).unwrap();
            all.stars.append(&more.stars).unwrap();
            // What was written after the last state is not counted.
            let mut file = OpenOptions::new().append(true).open(spool.settled_path()).unwrap();
            file.write_all(&[1; 33]).unwrap();
            let (rows, state, found) = spool.stars(layout).unwrap().unwrap();
            let (seen, reach, open) = known.state();
            assert_eq!((rows, state.seen, state.reach), (done + 1, seen, reach));
            assert_eq!((&state.open, found, state.settled.stars.len()), (open, settled, 0));
        }
        assert!(!all.stars.is_empty() && settled.count == all.stars.len());
        let path = folder.path().join(STATE);
        let whole = fs::read(&path).unwrap();
        for length in [0, 30, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(spool.stars(layout).unwrap_err().to_string().contains("damaged"), "{length}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(spool.stars([8, 9, 3, 1]).unwrap(), None, "other tiles");
        assert!(!folder.path().join(STATE).exists());
    }

    #[test]
    fn a_folder_of_another_run_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let options =
            LargeOptions { folder: Some(folder.path().to_path_buf()), resume: true, ..LargeOptions::default() };
        let facts = Facts { version: 1, model: "m".into(), image: "i".into(), options: "o".into() };
        fs::write(folder.path().join("mine.txt"), "stays").unwrap();
        let spool = Spool::open(&options, &facts).unwrap();
        let context = Context { percentiles: Some([vec![0.1], vec![1.7e9]]), scale: Some(0.3), statistics: None };
        spool.remember(&facts, &context).unwrap();
        spool.put_block(0, &[]).unwrap();
        let again = Spool::open(&options, &facts).unwrap();
        assert!(again.has_block(0) && again.context() == Some(context) && again.finished().is_none());
        for (other, word) in [
            (Facts { model: "x".into(), ..facts.clone() }, "model"),
            (Facts { image: "x".into(), ..facts.clone() }, "image"),
            (Facts { options: "x".into(), ..facts.clone() }, "options"),
        ] {
            assert!(Spool::open(&options, &other).unwrap_err().to_string().contains(word));
        }
        again.finish(&facts, 12).unwrap();
        let finished = Spool::open(&options, &facts).unwrap();
        assert!(finished.finished() == Some(12) && !finished.has_block(0));
        let fresh = Spool::open(&LargeOptions { resume: false, ..options }, &facts).unwrap();
        assert!(fresh.finished().is_none() && folder.path().join("mine.txt").exists());
    }
}
