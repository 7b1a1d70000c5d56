//! Label images of any size as OME-Zarr 0.4 (zarr 2), written block by block.
//!
//! Version 0.4 is the one that every reader of OME-Zarr knows. Source: the specification of next-generation file formats (NGFF),
//! `multiscales` and `image-label`.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Side of the chunks in pixels.
const CHUNK: usize = 512;

/// Copies are added until none has a longer side.
const SMALLEST: usize = 1024;

/// How hard the compression tries.
const EFFORT: u32 = 4;

/// The attribute by which this library knows what it wrote, and may replace.
const MARK: &str = "cellsparse";

/// A label image that is written block by block, into a folder that appears when it is finished.
///
/// 32 bits for each pixel, zlib, chunks of 512 pixels of which those without an object are left out; each copy has every second
/// pixel of every second row of the next larger one, so copies show ids and never a mixture.
#[derive(Debug)]
pub struct LabelZarr {
    temporary: tempfile::TempDir,
    path: PathBuf,
    /// Rows and columns of every level.
    sizes: Vec<[usize; 2]>,
    pixel_size: Option<[f64; 2]>,
    name: String,
}

impl LabelZarr {
    /// Begins the folder `path` for an image of `[rows, columns]`, with micrometres per pixel `[y, x]` if they are known. One of the
    /// same name that this library wrote is replaced at the end.
    ///
    /// # Errors
    /// [`Error::Image`] for an image without pixels; [`Error::File`] where something else has that name; [`Error::Io`],
    /// [`Error::NotFound`].
    pub fn create(path: impl AsRef<Path>, size: [usize; 2], pixel_size: Option<[f64; 2]>, name: &str) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        if size.contains(&0) {
            return Err(Error::Image(format!(
                "a label image of {} rows and {} columns cannot be written",
                size[0], size[1]
            )));
        }
        refuse_foreign(&path)?;
        let mut sizes = vec![size];
        while let Some(last) = sizes.last().copied().filter(|last| last[0].max(last[1]) > SMALLEST) {
            sizes.push(last.map(|side| side.div_ceil(2)));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".cellsparse-");
        // The default of a temporary folder is private to its owner; a result is readable as any other.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let temporary = builder.tempdir_in(folder).map_err(|source| Error::io(folder, source))?;
        let file = Self { temporary, path, sizes, pixel_size, name: name.to_owned() };
        for level in 0..file.sizes.len() {
            let folder = file.place(&level.to_string());
            fs::create_dir(&folder).map_err(|source| Error::io(&folder, source))?;
        }
        Ok(file)
    }

    /// Adds the labels of a block (0 background, 1 and up objects) whose first pixel is `[row, column]`: multiples of 512, as are its
    /// sides where it does not reach the end of the image.
    ///
    /// # Errors
    /// [`Error::Labels`] for negative labels, [`Error::Internal`] for a block that lies elsewhere, [`Error::Io`].
    pub fn write(&mut self, [top, left]: [usize; 2], labels: ArrayView2<'_, i32>) -> Result<()> {
        let (height, width) = labels.dim();
        let ends = |begin: usize, side: usize, axis: usize| {
            let (end, size) = (begin + side, self.sizes[0][axis]);
            begin.is_multiple_of(CHUNK) && (end == size || (end < size && end.is_multiple_of(CHUNK)))
        };
        if !ends(top, height, 0) || !ends(left, width, 1) || labels.is_empty() {
            let [rows, columns] = self.sizes[0];
            return Err(Error::Internal(format!(
                "a block of {height} x {width} labels at {top}, {left} of {rows} x {columns}"
            )));
        }
        if let Some(value) = labels.iter().find(|value| **value < 0) {
            return Err(Error::Labels(format!("the label {value}; only 0 and above can be written")));
        }
        let places: Vec<[usize; 2]> = (0..height.div_ceil(CHUNK))
            .flat_map(|row| (0..width.div_ceil(CHUNK)).map(move |column| [row, column]))
            .collect();
        places.par_iter().try_for_each(|&[row, column]| {
            let (y, x) = (row * CHUNK, column * CHUNK);
            let part = labels.slice(s![y..(y + CHUNK).min(height), x..(x + CHUNK).min(width)]);
            let mut chunk = Array2::zeros((CHUNK, CHUNK));
            chunk.slice_mut(s![..part.nrows(), ..part.ncols()]).assign(&part.mapv(|label| label as u32));
            self.put(0, [top / CHUNK + row, left / CHUNK + column], &chunk)
        })
    }

    /// Writes the copies and the metadata, and gives the folder its name.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] where something else took the name in the meantime.
    pub fn finish(self) -> Result<()> {
        for level in 1..self.sizes.len() {
            let [rows, columns] = self.sizes[level].map(|side| side.div_ceil(CHUNK));
            let places: Vec<[usize; 2]> =
                (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column])).collect();
            places.par_iter().try_for_each(|place| self.halve(level, *place))?;
        }
        for (level, size) in self.sizes.iter().enumerate() {
            self.put_json(&format!("{level}/.zarray"), &array(*size))?;
        }
        self.put_json(".zgroup", &json!({"zarr_format": 2}))?;
        self.put_json(".zattrs", &self.attributes())?;
        refuse_foreign(&self.path)?;
        let Self { temporary, path, .. } = self;
        let io = |source| Error::io(&path, source);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io)?;
        }
        fs::rename(temporary.keep(), &path).map_err(io)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// Writes a chunk of a copy from those of the next larger one.
    fn halve(&self, level: usize, [row, column]: [usize; 2]) -> Result<()> {
        let mut chunk = Array2::zeros((CHUNK, CHUNK));
        let half = CHUNK / 2;
        for (down, across) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            if let Some(larger) = self.get(level - 1, [2 * row + down, 2 * column + across])? {
                let (y, x) = (down * half, across * half);
                chunk.slice_mut(s![y..y + half, x..x + half]).assign(&larger.slice(s![..;2, ..;2]));
            }
        }
        self.put(level, [row, column], &chunk)
    }

    fn put(&self, level: usize, [row, column]: [usize; 2], chunk: &Array2<u32>) -> Result<()> {
        if chunk.iter().all(|label| *label == 0) {
            return Ok(());
        }
        let folder = self.place(&format!("{level}/{row}"));
        fs::create_dir_all(&folder).map_err(|source| Error::io(&folder, source))?;
        let bytes: Vec<u8> = chunk.iter().flat_map(|label| label.to_le_bytes()).collect();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(EFFORT));
        let packed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
        let packed = packed.map_err(|error| Error::Internal(format!("compressing labels: {error}")))?;
        let path = folder.join(column.to_string());
        fs::write(&path, packed).map_err(|source| Error::io(path, source))
    }

    /// A chunk that was written before.
    fn get(&self, level: usize, [row, column]: [usize; 2]) -> Result<Option<Array2<u32>>> {
        let path = self.place(&format!("{level}/{row}/{column}"));
        if !path.is_file() {
            return Ok(None);
        }
        let packed = fs::read(&path).map_err(|source| Error::io(&path, source))?;
        let mut bytes = vec![0; 4 * CHUNK * CHUNK];
        ZlibDecoder::new(&packed[..]).read_exact(&mut bytes).map_err(|source| Error::io(&path, source))?;
        let labels = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let chunk = Array2::from_shape_vec((CHUNK, CHUNK), labels);
        chunk.map(Some).map_err(|error| Error::Internal(format!("a chunk of labels: {error}")))
    }

    fn put_json(&self, name: &str, value: &Value) -> Result<()> {
        let path = self.place(name);
        fs::write(&path, format!("{value:#}\n")).map_err(|source| Error::io(path, source))
    }

    fn attributes(&self) -> Value {
        let axis = |name: &str| match self.pixel_size {
            Some(_) => json!({"name": name, "type": "space", "unit": "micrometer"}),
            None => json!({"name": name, "type": "space"}),
        };
        let size = self.pixel_size.unwrap_or([1.0, 1.0]);
        let dataset = |level: usize| {
            let scale = size.map(|side| side * (1_u64 << level) as f64);
            json!({"path": level.to_string(), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
        };
        json!({
            "multiscales": [{
                "version": "0.4",
                "name": self.name,
                "axes": [axis("y"), axis("x")],
                "datasets": (0..self.sizes.len()).map(dataset).collect::<Vec<_>>(),
            }],
            "image-label": {"version": "0.4"},
            MARK: {"version": env!("CARGO_PKG_VERSION")},
        })
    }
}

/// Metadata of an array of labels.
fn array(size: [usize; 2]) -> Value {
    json!({
        "zarr_format": 2,
        "shape": size,
        "chunks": [CHUNK, CHUNK],
        "dtype": "<u4",
        "compressor": {"id": "zlib", "level": EFFORT},
        "fill_value": 0,
        "filters": null,
        "order": "C",
        "dimension_separator": "/",
    })
}

/// Refuses a path at which there is anything but a label image of this library.
fn refuse_foreign(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let text = fs::read(path.join(".zattrs")).unwrap_or_default();
    let is_own = serde_json::from_slice(&text).is_ok_and(|value: Value| value.get(MARK).is_some());
    if is_own && !path.is_symlink() {
        return Ok(());
    }
    Err(Error::file(
        path,
        "this is there and no label image that cellsparse wrote; remove it, or choose another folder",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::regions::{Extent, Region};
    use crate::raster::{LabelImage, RawLabels, ReadOptions, open_regions, read_label_file};

    fn label(y: usize, x: usize) -> i32 {
        if y < 600 && x < 700 { 0 } else { (70_000 + y * 3001 + x) as i32 % 1_000_000 }
    }

    fn write(path: &Path, size: [usize; 2]) -> Result<()> {
        let mut file = LabelZarr::create(path, size, Some([0.5, 0.25]), "cells")?;
        for top in (0..size[0]).step_by(1024) {
            for left in (0..size[1]).step_by(1024) {
                let part = (1024.min(size[0] - top), 1024.min(size[1] - left));
                file.write([top, left], LabelImage::from_shape_fn(part, |(y, x)| label(top + y, left + x)).view())?;
            }
        }
        file.finish()
    }

    #[test]
    fn labels_come_back_with_their_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ome.zarr");
        let size = [1300, 2100];
        write(&path, size).unwrap();
        let RawLabels::Unsigned(found) = read_label_file(&path).unwrap() else { panic!("unsigned labels") };
        assert_eq!(found, Array2::from_shape_fn((1300, 2100), |(y, x)| label(y, x) as u32));
        assert!(!path.join("0/0/0").exists() && path.join("0/1/0").exists(), "chunks without an object are left out");
        let reader = open_regions(&path, &ReadOptions::default(), 1 << 20).unwrap();
        let sizes: Vec<Extent> =
            [[1300, 2100], [650, 1050], [325, 525]].map(|[height, width]| Extent { height, width }).into();
        assert_eq!((reader.levels(), reader.pixel_size()), (&sizes[..], Some([0.5, 0.25])));
        let copy = reader.read(Region::whole(sizes[2]), 2).unwrap().to_f32();
        assert!(copy.indexed_iter().all(|((y, x, _), value)| *value == label(4 * y, 4 * x) as f32));
        // One of its own is replaced, anything else stays.
        write(&path, [40, 50]).unwrap();
        assert_eq!(read_label_file(&path).unwrap().shape(), (40, 50));
        fs::write(path.join(".zattrs"), b"{}").unwrap();
        assert!(write(&path, size).unwrap_err().to_string().contains("remove it, or choose another folder"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        assert!(LabelZarr::create(folder.path().join("b"), [0, 5], None, "").is_err());
    }
}
