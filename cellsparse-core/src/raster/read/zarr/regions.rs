//! Parts of a zarr, read without the rest: only the chunks under them are decoded, and the last ones are kept.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use ndarray::Array3;

use super::super::kept::Kept;
use super::super::options::choose;
use super::super::rounding::Largest;
use super::super::{
    Decoded, Problem, ReadLimits, ReadOptions, channels_last, checked_part, sample_count, within_wall, zero_based,
};
use super::array::Array;
use super::axes::Axes;
use super::codecs::{decode, most_stored};
use super::dtype::{DataType, Kind};
use super::find::{Found, find};
use super::store::{METADATA, Store};
use crate::control::CancelToken;
use crate::error::{Result, counted};
use crate::raster::Image;
use crate::raster::checksum::{CASTAGNOLI, checksum};
use crate::raster::regions::{Extent, Region, RegionReader};

/// Bytes of the indices of shards that are kept.
const INDEX_BYTES: usize = 32 << 20;

/// A zarr that is open for reading by parts.
pub(in crate::raster::read) struct ZarrRegions {
    store: Store,
    path: PathBuf,
    levels: Vec<Level>,
    extents: Vec<Extent>,
    /// Channels that are read, counted from 0.
    wanted: Vec<usize>,
    pixel_size: Option<[f64; 2]>,
    notes: Vec<String>,
    limits: ReadLimits,
    cancel: CancelToken,
    chunks: Mutex<Kept<Key, Vec<u8>>>,
    indices: Mutex<Kept<Key, Vec<u8>>>,
    /// Of the samples that became floats so far.
    largest: Largest,
}

/// Level, and place of a chunk along channels, rows and columns.
type Key = [usize; 4];

/// One resolution.
struct Level {
    array: Array,
    axes: Axes,
    /// The place on every axis that a plane has one of.
    place: Vec<usize>,
}

/// How many planes and time points there are.
pub(super) struct Counts {
    pub(super) planes: usize,
    pub(super) frames: usize,
    pub(super) channels: usize,
}

impl Counts {
    pub(super) fn of(found: &Found) -> Self {
        let count = |axis| Axes::count(axis, &found.arrays[0].shape);
        Self { planes: count(found.axes.depth), frames: count(found.axes.time), channels: count(found.axes.channel) }
    }
}

impl ZarrRegions {
    /// Opens the plane and channels that `options` name. `kept_bytes` of decoded chunks stay in memory, one row of them at least.
    /// The limits of `options` hold for every part that is read.
    pub(in crate::raster::read) fn open(path: &Path, options: &ReadOptions, kept_bytes: usize) -> Result<Self> {
        within_wall(|| Self::opened(path, options, kept_bytes, false)).map_err(|problem| problem.in_file(path))
    }

    /// The same for labels with `for_labels`: the plane of an image of one plane is read whichever is asked for.
    pub(in crate::raster::read) fn opened(
        path: &Path,
        options: &ReadOptions,
        kept_bytes: usize,
        for_labels: bool,
    ) -> Decoded<Self> {
        let store = Store::new(path);
        let found = find(&store, options.plane.is_some() && !for_labels)?;
        let counts = Counts::of(&found);
        let Found { arrays, axes, pixel_size, mut notes } = found;
        let say = || {
            let [rows, columns] = axes.plane.map(|axis| arrays[0].shape[axis]);
            format!(
                "the zarr holds {}, {} (Z) and {} (T) of {rows} x {columns} pixels",
                counted(counts.channels, "channel"),
                counted(counts.planes, "plane"),
                counted(counts.frames, "time point")
            )
        };
        let extent = |array: &Array| Extent { height: array.shape[axes.plane[0]], width: array.shape[axes.plane[1]] };
        let extents: Vec<Extent> = arrays.iter().map(extent).collect();
        if [extents[0].height, extents[0].width, counts.channels, counts.planes, counts.frames].contains(&0) {
            return Err(Problem::unusable(format!("an image with the axes {:?} has no pixels", arrays[0].shape)));
        }
        let plane = choose("plane", counts.planes, options.plane, for_labels, say)?;
        let frame = choose("frame", counts.frames, options.frame, for_labels, say)?;
        let wanted = match &options.channels {
            Some(channels) if !for_labels => zero_based(channels, counts.channels)?,
            _ => (0..counts.channels).collect(),
        };
        if is_bare(&store, &arrays[0]) {
            notes.push("no chunk of it is stored, so every pixel has the fill value; was it copied whole?".into());
        }
        let level = |array: Array| {
            let mut place = vec![0; array.shape.len()];
            if let Some(axis) = axes.depth {
                // A copy may have fewer planes.
                place[axis] = (plane as u128 * array.shape[axis] as u128 / counts.planes as u128) as usize;
            }
            if let Some(axis) = axes.time {
                place[axis] = frame;
            }
            Level { array, axes, place }
        };
        Ok(Self {
            store,
            path: path.to_path_buf(),
            extents,
            wanted,
            pixel_size,
            notes,
            limits: ReadLimits { file_bytes: u64::MAX, ..options.limits },
            cancel: options.cancel.clone(),
            chunks: Mutex::new(Kept::new(kept_bytes)),
            indices: Mutex::new(Kept::new(INDEX_BYTES)),
            largest: Largest::default(),
            levels: arrays.into_iter().map(level).collect(),
        })
    }

    /// The type of the numbers.
    pub(super) fn data_type(&self) -> DataType {
        self.levels[0].array.data_type
    }

    /// The samples of a part in the type that fits the numbers.
    pub(super) fn part(&self, region: Region, level: usize) -> Decoded<Image> {
        let part = Part { reader: self, region, level };
        let kind = self.data_type();
        let largest = Cell::new(0);
        let rounded = |value: f32, magnitude: u64| {
            largest.set(magnitude.max(largest.get()));
            value
        };
        let unsigned = |value: u64| rounded(value as f32, value);
        let signed = |value: i64| rounded(value as f32, value.unsigned_abs());
        let image = match (kind.kind, kind.size) {
            (Kind::Bool, _) => Image::U8(part.read(|byte: [u8; 1]| u8::from(byte[0] != 0))?),
            (Kind::Unsigned, 1) => Image::U8(part.read(|byte: [u8; 1]| byte[0])?),
            (Kind::Unsigned, 2) => Image::U16(part.read(u16::from_le_bytes)?),
            (Kind::Unsigned, 4) => Image::F32(part.read(|bytes| unsigned(u32::from_le_bytes(bytes).into()))?),
            (Kind::Unsigned, _) => Image::F32(part.read(|bytes| unsigned(u64::from_le_bytes(bytes)))?),
            (Kind::Signed, 1) => Image::F32(part.read(|bytes| f32::from(i8::from_le_bytes(bytes)))?),
            (Kind::Signed, 2) => Image::F32(part.read(|bytes| f32::from(i16::from_le_bytes(bytes)))?),
            (Kind::Signed, 4) => Image::F32(part.read(|bytes| signed(i32::from_le_bytes(bytes).into()))?),
            (Kind::Signed, _) => Image::F32(part.read(|bytes| signed(i64::from_le_bytes(bytes)))?),
            (Kind::Float, 2) => Image::F32(part.read(|bytes| f16::from_le_bytes(bytes).to_f32())?),
            (Kind::Float, 4) => Image::F32(part.read(f32::from_le_bytes)?),
            (Kind::Float, _) => Image::F32(part.read(|bytes| f64::from_le_bytes(bytes) as f32)?),
        };
        self.largest.see(largest.get());
        Ok(image)
    }

    /// The whole numbers of a part as they are stored; `None` when they are floats.
    pub(super) fn numbers(&self, region: Region, level: usize) -> Decoded<Option<Array3<i64>>> {
        let part = Part { reader: self, region, level };
        let kind = self.data_type();
        Ok(Some(match (kind.kind, kind.size) {
            (Kind::Bool, _) => part.read(|byte: [u8; 1]| i64::from(byte[0] != 0))?,
            (Kind::Unsigned, 1) => part.read(|byte: [u8; 1]| i64::from(byte[0]))?,
            (Kind::Unsigned, 2) => part.read(|bytes| i64::from(u16::from_le_bytes(bytes)))?,
            (Kind::Unsigned, 4) => part.read(|bytes| i64::from(u32::from_le_bytes(bytes)))?,
            (Kind::Unsigned, _) => part.read(|bytes| i64::try_from(u64::from_le_bytes(bytes)).unwrap_or(i64::MAX))?,
            (Kind::Signed, 1) => part.read(|bytes| i64::from(i8::from_le_bytes(bytes)))?,
            (Kind::Signed, 2) => part.read(|bytes| i64::from(i16::from_le_bytes(bytes)))?,
            (Kind::Signed, 4) => part.read(|bytes| i64::from(i32::from_le_bytes(bytes)))?,
            (Kind::Signed, _) => part.read(i64::from_le_bytes)?,
            (Kind::Float, _) => return Ok(None),
        }))
    }

    /// The bytes of a chunk; `None` for one that is not stored.
    fn chunk(&self, level: usize, key: Key, at: &[usize]) -> Decoded<Option<Arc<Vec<u8>>>> {
        if self.cancel.is_cancelled() {
            return Err(Problem::Cancelled);
        }
        let array = &self.levels[level].array;
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.get(key, || match &array.shard {
            None => self.chunk_of_file(array, at),
            Some(_) => self.chunk_of_shard(array, level, at),
        })
    }

    fn chunk_of_file(&self, array: &Array, at: &[usize]) -> Decoded<Option<Vec<u8>>> {
        let name = array.file_of(at);
        let size = array.chunk_bytes().unwrap_or(usize::MAX);
        let Some(data) = self.store.file(&name, most_stored(&array.codecs, size) as u64)? else { return Ok(None) };
        decode(&array.codecs, data, size).map(Some).map_err(|problem| problem.prefixed(&format!("the chunk {name}")))
    }

    fn chunk_of_shard(&self, array: &Array, level: usize, at: &[usize]) -> Decoded<Option<Vec<u8>>> {
        let Some(shard) = &array.shard else { return Ok(None) };
        let name = array.file_of(at);
        let damaged = |what: &str| {
            Problem::unusable(format!(
                "the shard {name} {what}; it was not copied whole or is damaged: get the image again"
            ))
        };
        let Some(mut file) = self.store.part(&name)? else { return Ok(None) };
        let axes = &self.levels[level].axes;
        let [rows, columns] = axes.plane;
        let along = |axis: usize| at[axis] / shard.grid[axis];
        let key = [level, axes.channel.map_or(0, along), along(rows), along(columns)];
        let mut indices = self.indices.lock().unwrap_or_else(PoisonError::into_inner);
        let index = indices.get(key, || {
            let length = shard.index_bytes();
            let begin = if shard.index_at_start { Some(0) } else { file.length.checked_sub(length as u64) };
            let begin = begin.ok_or_else(|| damaged("is shorter than its index"))?;
            let mut index = file.read(begin, length)?.ok_or_else(|| damaged("is shorter than its index"))?;
            if shard.index_checked {
                let (bytes, sum) = index.split_last_chunk::<4>().ok_or_else(|| damaged("has no index"))?;
                if checksum::<CASTAGNOLI>(0, bytes) != u32::from_le_bytes(*sum) {
                    return Err(damaged("has an index with another checksum"));
                }
                index.truncate(length - 4);
            }
            Ok(Some(index))
        })?;
        drop(indices);
        let Some(index) = index else { return Ok(None) };
        let inner = (0..at.len()).fold(0, |place, axis| place * shard.grid[axis] + at[axis] % shard.grid[axis]);
        let entry = index.get(16 * inner..16 * inner + 16).ok_or_else(|| damaged("has an index that is too short"))?;
        let number = |at: usize| {
            let bytes = entry[at..at + 8].iter();
            let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
            if shard.index_big_endian { bytes.fold(0, add) } else { bytes.rev().fold(0, add) }
        };
        let (offset, length) = (number(0), number(8));
        if (offset, length) == (u64::MAX, u64::MAX) {
            return Ok(None);
        }
        let size = array.chunk_bytes().unwrap_or(usize::MAX);
        let length = usize::try_from(length).ok().filter(|length| *length <= most_stored(&array.codecs, size));
        let length = length.ok_or_else(|| damaged("has a chunk that is too long"))?;
        let data = file.read(offset, length)?.ok_or_else(|| damaged("is shorter than its chunks"))?;
        let place = || format!("the shard {name}, in its chunk {inner},");
        decode(&array.codecs, data, size).map(Some).map_err(|problem| problem.prefixed(&place()))
    }
}

/// Whether an array has nothing but metadata.
fn is_bare(store: &Store, array: &Array) -> bool {
    let Ok(entries) = std::fs::read_dir(store.path(&array.node)) else { return false };
    let is_metadata = |name: &str| METADATA.contains(&name) || name.starts_with('.');
    !entries.flatten().any(|entry| !is_metadata(&entry.file_name().to_string_lossy()))
}

/// A region of a level that is read.
struct Part<'a> {
    reader: &'a ZarrRegions,
    region: Region,
    level: usize,
}

/// Part of an axis: the chunk, and first and last place + 1.
type Span = (usize, usize, usize);

/// The parts of `begin..end` in chunks of that side.
fn spans(begin: usize, end: usize, side: usize) -> impl Iterator<Item = Span> {
    (begin / side..end.div_ceil(side)).map(move |chunk| (chunk, begin.max(chunk * side), end.min((chunk + 1) * side)))
}

impl Part<'_> {
    /// The wanted channels under the region, each number made of its bytes, the lowest first.
    fn read<T: Copy + Default, const N: usize>(&self, convert: impl Fn([u8; N]) -> T) -> Decoded<Array3<T>> {
        let Self { reader, region, level } = *self;
        let Level { array, axes, place } = &reader.levels[level];
        let channels = reader.wanted.len();
        let count = sample_count(region.height, region.width, channels, size_of::<T>(), &reader.limits)?;
        let mut samples: Vec<T> = Vec::new();
        samples
            .try_reserve_exact(count)
            .map_err(|_| Problem::Limit(format!("not enough free memory for {count} samples")))?;
        samples.resize(count, T::default());
        let big_endian = array.data_type.big_endian;
        let number = |mut bytes: [u8; N]| {
            if big_endian {
                bytes.reverse();
            }
            convert(bytes)
        };
        let mut fill = [0; N];
        fill.copy_from_slice(&array.fill[..N]);
        let [rows, columns] = axes.plane;
        let (high, wide) = (array.chunk[rows], array.chunk[columns]);
        self.keep_rows(high, wide);
        let mut at: Vec<usize> = (0..place.len()).map(|axis| place[axis] / array.chunk[axis]).collect();
        // Where a plane begins in its chunks.
        let base: usize = (0..place.len()).map(|axis| place[axis] % array.chunk[axis] * array.strides[axis]).sum();
        for (in_chunk, members) in self.channel_groups() {
            if let Some(axis) = axes.channel {
                at[axis] = in_chunk;
            }
            for (down, top, bottom) in spans(region.top, region.bottom(), high) {
                for (across, left, right) in spans(region.left, region.right(), wide) {
                    (at[rows], at[columns]) = (down, across);
                    let chunk = reader.chunk(level, [level, in_chunk, down, across], &at)?;
                    for &(channel, to) in &members {
                        let offset =
                            base + axes.channel.map_or(0, |axis| channel % array.chunk[axis] * array.strides[axis]);
                        for y in top..bottom {
                            let begin = ((y - region.top) * region.width + left - region.left) * channels + to;
                            let target = samples[begin..].iter_mut().step_by(channels).take(right - left);
                            let Some(chunk) = &chunk else {
                                let fill = number(fill);
                                target.for_each(|sample| *sample = fill);
                                continue;
                            };
                            let from = offset
                                + (y - down * high) * array.strides[rows]
                                + (left - across * wide) * array.strides[columns];
                            let numbers = &chunk.as_chunks::<N>().0[from..];
                            let numbers = numbers.iter().step_by(array.strides[columns]);
                            target.zip(numbers).for_each(|(sample, bytes)| *sample = number(*bytes));
                        }
                    }
                }
            }
        }
        channels_last(samples, region.height, region.width, channels)
    }

    /// The wanted channels by the chunk that they are in: each with its place among the wanted ones.
    fn channel_groups(&self) -> Vec<(usize, Vec<(usize, usize)>)> {
        let Level { array, axes, .. } = &self.reader.levels[self.level];
        let side = axes.channel.map_or(1, |axis| array.chunk[axis]);
        let mut groups: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
        for (to, &channel) in self.reader.wanted.iter().enumerate() {
            let chunk = channel / side;
            match groups.iter_mut().find(|(other, _)| *other == chunk) {
                Some((_, members)) => members.push((channel, to)),
                None => groups.push((chunk, vec![(channel, to)])),
            }
        }
        groups
    }

    /// Keeps the chunks that neighbouring parts share.
    fn keep_rows(&self, high: usize, wide: usize) {
        let bytes = self.reader.levels[self.level].array.chunk_bytes().unwrap_or(0);
        let across = spans(self.region.left, self.region.right(), wide).count();
        let twice = if self.region.height < high { 1 } else { 2 };
        let row = twice * across * self.channel_groups().len();
        let mut chunks = self.reader.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.keep_at_least(row.saturating_mul(bytes));
    }
}

impl RegionReader for ZarrRegions {
    fn levels(&self) -> &[Extent] {
        &self.extents
    }

    fn channels(&self) -> usize {
        self.wanted.len()
    }

    fn pixel_size(&self) -> Option<[f64; 2]> {
        self.pixel_size
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn findings(&self) -> Vec<String> {
        self.largest.note().into_iter().collect()
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        region.check(&self.extents, level)?;
        let image = within_wall(|| self.part(region, level)).map_err(|problem| problem.in_file(&self.path))?;
        checked_part(image, region, &self.path)
    }
}
