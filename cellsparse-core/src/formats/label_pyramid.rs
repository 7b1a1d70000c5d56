//! Label images of any size as tiled BigTIFF with smaller copies, written from top to bottom.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use super::ome_tiff::{description, per_centimetre};
use crate::budget::{array, mapped};
use crate::error::{Error, Result};
use crate::raster::GrowingFile;

/// Side of the tiles in pixels.
const TILE: usize = 512;

/// Copies are added until none has a longer side.
const SMALLEST: usize = 1024;

/// How hard the compression tries: labels are repetitive, and more takes longer than the rest of the writing.
const EFFORT: u32 = 4;

/// A label image that is written block by block.
///
/// 32 bits for each pixel, deflate, tiles of 512 pixels; each copy has every second pixel of every second row of the next
/// larger one, in a directory that the first one names (SubIFD). So copies show ids and never a mixture.
#[derive(Debug)]
pub struct LabelPyramid {
    file: GrowingFile,
    out: BufWriter<File>,
    /// Where the next byte goes.
    at: u64,
    levels: Vec<Level>,
    /// Where a tile of zeros is, and how long; all tiles without an object are this one.
    empty: Option<(u64, u64)>,
    description: Option<String>,
    pixel_size: Option<[f64; 2]>,
    /// Rows that are there.
    rows: usize,
    /// First row of the blocks that come now, and the row below them.
    band: [usize; 2],
}

#[derive(Debug)]
struct Level {
    /// How many times half as large it is.
    halvings: usize,
    size: [usize; 2],
    /// Offset and length of every tile.
    tiles: Vec<(u64, u64)>,
    /// A row of tiles that is not complete yet.
    waiting: Array2<u32>,
}

impl LabelPyramid {
    /// Begins a file for an image of `[rows, columns]`, with micrometres per pixel `[y, x]` if they are known. With a `name`, it
    /// describes itself as OME-TIFF.
    ///
    /// # Errors
    /// [`Error::Image`] for an image without pixels or with more than 2^31 - 1 on a side, [`Error::Io`], [`Error::NotFound`].
    pub fn create(
        path: impl AsRef<Path>,
        size: [usize; 2],
        pixel_size: Option<[f64; 2]>,
        name: Option<&str>,
    ) -> Result<Self> {
        let side = |side: usize| i32::try_from(side).ok().filter(|side| *side > 0).map(i32::unsigned_abs);
        let (Some(rows), Some(columns)) = (side(size[0]), side(size[1])) else {
            return Err(Error::Image(format!(
                "a label image of {} rows and {} columns cannot be written",
                size[0], size[1]
            )));
        };
        let mut levels = Vec::new();
        for halvings in 0.. {
            let size = size.map(|side| side.div_ceil(1 << halvings));
            let tiles = size.map(|side| side.div_ceil(TILE));
            // The full image is not gathered: its tiles are written as they come.
            let sides = if halvings == 0 { (0, 0) } else { (TILE, tiles[1] * TILE) };
            let waiting = array(sides, "the smaller copies of a label image")?;
            levels.push(Level { halvings, size, tiles: vec![(0, 0); tiles[0] * tiles[1]], waiting });
            if size[0].max(size[1]) <= SMALLEST {
                break;
            }
        }
        let mut file = GrowingFile::create(path)?;
        let out = file.file().try_clone().map_err(|source| Error::io(file.path(), source))?;
        let description = name.map(|name| description(name, (columns, rows), "uint32", pixel_size));
        let mut pyramid = Self {
            file,
            out: BufWriter::new(out),
            at: 0,
            levels,
            empty: None,
            description,
            pixel_size,
            rows: 0,
            band: [0, 0],
        };
        // Little-endian BigTIFF; the place of the first directory is filled in at the end.
        pyramid.put(&[b'I', b'I', 43, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        Ok(pyramid)
    }

    /// Adds the labels of a block (0 background, 1 and up objects) whose first pixel is `[row, column]`. Blocks come row by row,
    /// each from a row and a column that are multiples of 512 to such a multiple or the end of the image, with 1024 rows at
    /// most.
    ///
    /// # Errors
    /// [`Error::Labels`] for negative labels, [`Error::Internal`] for a block that lies elsewhere, [`Error::Io`].
    pub fn write(&mut self, [top, left]: [usize; 2], labels: ArrayView2<'_, i32>) -> Result<()> {
        let (height, width) = labels.dim();
        let size = self.levels[0].size;
        let (bottom, right) = (top + height, left + width);
        let ends = |end: usize, axis: usize| end == size[axis] || (end < size[axis] && end.is_multiple_of(TILE));
        let fits = top.is_multiple_of(TILE) && left.is_multiple_of(TILE) && ends(bottom, 0) && ends(right, 1);
        if !fits || top < self.band[0] || height > 2 * TILE || labels.is_empty() {
            return Err(Error::Internal(format!("a block of {height} x {width} labels at {top}, {left} of {size:?}")));
        }
        if let Some(value) = labels.iter().find(|value| **value < 0) {
            return Err(Error::Labels(format!("the label {value}; only 0 and above can be written")));
        }
        if top > self.band[0] {
            self.end_band()?;
        }
        self.band = [top, bottom];
        let labels = mapped(labels, "the labels of a part", |label| label as u32)?;
        let places: Vec<[usize; 2]> = (0..height.div_ceil(TILE))
            .flat_map(|row| (0..width.div_ceil(TILE)).map(move |column| [row * TILE, column * TILE]))
            .collect();
        let packed: Vec<Result<Option<Vec<u8>>>> = places
            .par_iter()
            .map(|&[y, x]| packed(labels.slice(s![y..(y + TILE).min(height), x..(x + TILE).min(width)])))
            .collect();
        let across = size[1].div_ceil(TILE);
        for ([y, x], packed) in places.into_iter().zip(packed) {
            let index = (top + y) / TILE * across + (left + x) / TILE;
            self.levels[0].tiles[index] = self.put_tile(packed?)?;
        }
        for level in self.levels.iter_mut().skip(1) {
            let step = 1 << level.halvings;
            for y in top.div_ceil(step)..bottom.div_ceil(step) {
                for x in left.div_ceil(step)..right.div_ceil(step) {
                    level.waiting[[y % TILE, x]] = labels[[y * step - top, x * step - left]];
                }
            }
        }
        Ok(())
    }

    /// Writes the copies and the directories, and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Internal`] when rows are missing, [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        self.end_band()?;
        if self.rows != self.levels[0].size[0] {
            return Err(Error::Internal(format!("{} of {} rows of labels", self.rows, self.levels[0].size[0])));
        }
        let mut copies = Vec::new();
        for level in 1..self.levels.len() {
            copies.push(self.put_directory(level, &[])?);
        }
        let first = self.put_directory(0, &copies)?;
        let io = |source| Error::io(self.file.path(), source);
        self.out.flush().map_err(io)?;
        let file = self.out.get_mut();
        file.seek(SeekFrom::Start(8)).and_then(|_| file.write_all(&first.to_le_bytes())).map_err(io)?;
        let Self { file, out, .. } = self;
        drop(out);
        file.finish()
    }

    /// Writes the rows of tiles of the copies that the rows which are there complete.
    fn end_band(&mut self) -> Result<()> {
        let [begin, end] = self.band;
        self.rows = end;
        let last = end == self.levels[0].size[0];
        for index in 1..self.levels.len() {
            let level = &self.levels[index];
            let step = 1 << level.halvings;
            let (first, rows) = (begin.div_ceil(step) / TILE, end.div_ceil(step));
            if !(last || rows.is_multiple_of(TILE)) || begin == end {
                continue;
            }
            let across = level.size[1].div_ceil(TILE);
            let tiles: Vec<Result<Option<Vec<u8>>>> = (0..across)
                .into_par_iter()
                .map(|column| packed(level.waiting.slice(s![.., column * TILE..(column + 1) * TILE])))
                .collect();
            for (column, packed) in tiles.into_iter().enumerate() {
                let written = self.put_tile(packed?)?;
                self.levels[index].tiles[first * across + column] = written;
            }
            self.levels[index].waiting.fill(0);
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| Error::io(self.file.path(), source))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The place and length of a tile; `None` is one without an object.
    fn put_tile(&mut self, packed: Option<Vec<u8>>) -> Result<(u64, u64)> {
        let bytes = match (packed, self.empty) {
            (Some(bytes), _) => bytes,
            (None, Some(empty)) => return Ok(empty),
            (None, None) => {
                let bytes = compressed(Array2::zeros((TILE, TILE)).view())?;
                self.empty = Some((self.at, bytes.len() as u64));
                bytes
            }
        };
        let place = (self.at, bytes.len() as u64);
        self.put(&bytes)?;
        Ok(place)
    }

    /// Writes the directory of a level and returns where it is.
    fn put_directory(&mut self, index: usize, copies: &[u64]) -> Result<u64> {
        let level = &self.levels[index];
        let numbers = |values: &mut dyn Iterator<Item = u64>| values.flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
        let (short, long, long8) = (3, 4, 16);
        let one = |kind: u16, value: u64, tag: u16| {
            (tag, kind, 1, value.to_le_bytes()[..if kind == short { 2 } else { 4 }].to_vec())
        };
        let count = level.tiles.len() as u64;
        let mut tags: Vec<(u16, u16, u64, Vec<u8>)> = vec![
            one(long, u64::from(index > 0), 254),
            one(long, level.size[1] as u64, 256),
            one(long, level.size[0] as u64, 257),
            one(short, 32, 258),
            one(short, 8, 259),
            one(short, 1, 262),
            one(short, 1, 277),
            one(long, TILE as u64, 322),
            one(long, TILE as u64, 323),
            (324, long8, count, numbers(&mut level.tiles.iter().map(|tile| tile.0))),
            (325, long8, count, numbers(&mut level.tiles.iter().map(|tile| tile.1))),
            one(short, 1, 339),
        ];
        if index == 0 {
            if let Some(text) = &self.description {
                let bytes = [text.as_bytes(), b"\0"].concat();
                tags.push((270, 2, bytes.len() as u64, bytes));
            }
            if !copies.is_empty() {
                tags.push((330, 18, copies.len() as u64, numbers(&mut copies.iter().copied())));
            }
        }
        if let Some(size) = self.pixel_size {
            for (tag, side) in [(282, size[1]), (283, size[0])] {
                let ratio = per_centimetre(side * (1 << level.halvings) as f64);
                tags.push((tag, 5, 1, [ratio.n.to_le_bytes(), ratio.d.to_le_bytes()].concat()));
            }
            tags.push(one(short, 3, 296));
        }
        tags.sort_by_key(|(tag, ..)| *tag);
        let mut entries = (tags.len() as u64).to_le_bytes().to_vec();
        for (tag, kind, count, value) in tags {
            entries.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
            entries.extend(count.to_le_bytes());
            if value.len() <= 8 {
                let mut inline = value;
                inline.resize(8, 0);
                entries.extend(inline);
            } else {
                // Values begin on even places.
                let padding = vec![0; (self.at % 2) as usize];
                self.put(&padding)?;
                entries.extend(self.at.to_le_bytes());
                self.put(&value)?;
            }
        }
        entries.extend(0u64.to_le_bytes());
        let padding = vec![0; (self.at.next_multiple_of(8) - self.at) as usize];
        self.put(&padding)?;
        let place = self.at;
        self.put(&entries)?;
        Ok(place)
    }
}

/// A tile of labels, compressed; `None` when it has no object.
fn packed(labels: ArrayView2<'_, u32>) -> Result<Option<Vec<u8>>> {
    if labels.iter().all(|label| *label == 0) {
        return Ok(None);
    }
    let mut tile = Array2::zeros((TILE, TILE));
    tile.slice_mut(s![..labels.nrows(), ..labels.ncols()]).assign(&labels);
    compressed(tile.view()).map(Some)
}

fn compressed(tile: ArrayView2<'_, u32>) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = tile.iter().flat_map(|label| label.to_le_bytes()).collect();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(EFFORT));
    let written = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    written.map_err(|error| Error::Internal(format!("compressing labels: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::regions::{Extent, Region};
    use crate::raster::{Image, LabelImage, RawLabels, ReadOptions, open_regions, read_label_file};

    /// Labels that are large and differ from pixel to pixel, with an empty corner.
    fn label(y: usize, x: usize) -> i32 {
        if y < 600 && x < 1100 { 0 } else { (70_000 + y * 3001 + x) as i32 % 1_000_000 }
    }

    fn write(path: &Path, size: [usize; 2], name: Option<&str>) {
        let mut file = LabelPyramid::create(path, size, Some([0.5, 0.25]), name).unwrap();
        for top in (0..size[0]).step_by(1024) {
            for left in (0..size[1]).step_by(1024) {
                let shape = (1024.min(size[0] - top), 1024.min(size[1] - left));
                let block = LabelImage::from_shape_fn(shape, |(y, x)| label(top + y, left + x));
                file.write([top, left], block.view()).unwrap();
            }
        }
        file.finish().unwrap();
    }

    #[test]
    fn labels_and_their_copies_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ome.tif");
        for size in [[1, 1], [700, 1500], [2600, 2100], [4100, 300]] {
            write(&path, size, Some("a"));
            let RawLabels::Unsigned(read) = read_label_file(&path).unwrap() else { panic!("unsigned") };
            let expected = Array2::from_shape_fn((size[0], size[1]), |(y, x)| label(y, x) as u32);
            assert_eq!(read, expected, "{size:?}");
            let reader = open_regions(&path, &ReadOptions::default(), 1 << 20).unwrap();
            assert_eq!(reader.pixel_size(), Some([0.5, 0.25]));
            for (level, extent) in reader.levels().iter().enumerate() {
                let step = 1 << level;
                assert_eq!(*extent, Extent { height: size[0].div_ceil(step), width: size[1].div_ceil(step) });
                let Image::F32(read) = reader.read(Region::whole(*extent), level).unwrap() else { panic!("floats") };
                assert!(
                    read.indexed_iter().all(|((y, x, _), v)| *v == label(y * step, x * step) as f32),
                    "{size:?} {level}"
                );
            }
            let last = reader.levels().last().unwrap();
            assert!(last.height.max(last.width) <= SMALLEST);
        }
    }

    #[test]
    fn the_standard_decoder_reads_it_and_empty_tiles_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        write(&path, [1300, 1700], None);
        let mut decoder = tiff::decoder::Decoder::new(std::fs::File::open(&path).unwrap()).unwrap();
        let tiff::decoder::DecodingResult::U32(values) = decoder.read_image().unwrap() else { panic!("32 bits") };
        assert!(values.iter().enumerate().all(|(at, value)| *value == label(at / 1700, at % 1700) as u32));
        let mut empty = LabelPyramid::create(folder.path().join("b.tif"), [30_000, 512], None, None).unwrap();
        for top in (0..30_000).step_by(1024) {
            let rows = 1024.min(30_000 - top);
            empty.write([top, 0], LabelImage::zeros((rows, 512)).view()).unwrap();
        }
        empty.finish().unwrap();
        assert!(std::fs::metadata(folder.path().join("b.tif")).unwrap().len() < 20_000);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        let create = |size| LabelPyramid::create(&path, size, None, None);
        assert!(matches!(create([0, 3]), Err(Error::Image(_))));
        let zeros = |height, width| LabelImage::zeros((height, width));
        let mut file = create([2000, 600]).unwrap();
        assert!(file.write([0, 0], zeros(1000, 600).view()).is_err(), "ends between tiles");
        assert!(file.write([3, 0], zeros(1024, 600).view()).is_err());
        assert!(matches!(file.write([0, 0], LabelImage::from_elem((1024, 600), -1).view()), Err(Error::Labels(_))));
        file.write([0, 0], zeros(1024, 600).view()).unwrap();
        assert!(file.finish().is_err(), "half of it is missing");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
