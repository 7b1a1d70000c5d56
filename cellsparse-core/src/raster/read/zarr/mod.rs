//! Zarr in: OME-Zarr 0.1 to 0.5 and plain arrays, of zarr version 2 and 3, sharded ones too.
//!
//! A folder is read, from the arrays with the resolutions of an image, chunk by chunk. Compressed chunks may be of gzip, zlib,
//! zstd, lz4 and Blosc (BloscLZ, lz4, zlib, zstd, with bytes or bits shuffled).
//!
//! The crate `zarrs` reads all this and much more, and takes more crates by itself than this library may have with everything in it
//! (118 without its compressors, some of which need a C compiler). An image needs a small part of zarr, which is here: regular
//! grids of numbers, read. The compressors are crates that TIFF needs too, and `lz4_flex`.

mod array;
mod axes;
mod blosc;
mod codecs;
mod dtype;
mod find;
mod multiscale;
mod node;
mod regions;
mod store;

use std::path::Path;

use ndarray::{Array2, Array3};

use self::dtype::Kind;
use self::find::find;
pub(in crate::raster) use self::find::is_zarr;
use self::regions::Counts;
pub(super) use self::regions::ZarrRegions;
use self::store::Store;
use super::{Decoded, ImageFile, ImageHeader, Problem, RawLabels, ReadOptions, within_wall};
use crate::error::{Error, Result, counted};
use crate::raster::regions::{Region, RegionReader};

/// Bytes of decoded chunks that are kept while a whole image is read, beyond those of a row.
const KEPT_BYTES: usize = 16 << 20;

/// Reads an image whole, with its size in micrometres per pixel and remarks.
pub(super) fn image(path: &Path, options: &ReadOptions) -> Result<ImageFile> {
    let reader = ZarrRegions::open(path, options, KEPT_BYTES)?;
    let image = reader.read(Region::whole(reader.levels()[0]), 0)?;
    let notes = [reader.notes(), &reader.findings()].concat();
    Ok(ImageFile { image, pixel_size: reader.pixel_size(), notes })
}

/// Planes, time points and pixel size.
pub(super) fn header(path: &Path) -> Result<ImageHeader> {
    let found = within_wall(|| {
        let store = Store::new(path);
        find(&store, false).or_else(|problem| match problem {
            // Three axes without names are planes when one is chosen.
            Problem::Unchosen { .. } => find(&store, true),
            other => Err(other),
        })
    });
    let found = found.map_err(|problem| problem.in_file(path))?;
    let counts = Counts::of(&found);
    Ok(ImageHeader { planes: counts.planes, frames: counts.frames, pixel_size: found.pixel_size })
}

/// The stored numbers of a label image.
pub(super) fn labels(path: &Path, options: &ReadOptions) -> Result<RawLabels> {
    within_wall(|| {
        let reader = ZarrRegions::opened(path, options, KEPT_BYTES, true)?;
        if reader.channels() > 1 {
            return Err(Problem::unusable(format!(
                "this zarr has {}; a label image has one number per pixel",
                counted(reader.channels(), "channel")
            )));
        }
        let kind = reader.data_type();
        let numbers = reader.numbers(Region::whole(reader.levels()[0]), 0)?;
        let Some(numbers) = numbers else {
            return Err(Problem::unusable(format!("its numbers are {kind}; labels are whole numbers")));
        };
        Ok(if kind.kind == Kind::Signed {
            RawLabels::Signed(narrowed(&numbers)?)
        } else {
            RawLabels::Unsigned(narrowed(&numbers)?)
        })
    })
    .map_err(|problem| problem.in_file(path))
}

/// The only channel, in fewer bits.
fn narrowed<T: TryFrom<i64> + Copy>(numbers: &Array3<i64>) -> Decoded<Array2<T>> {
    let (height, width, _) = numbers.dim();
    let mut values = Vec::with_capacity(height * width);
    for number in numbers {
        let value = T::try_from(*number)
            .map_err(|_| Problem::unusable(format!("the label {number} is too large; renumber the labels from 1")))?;
        values.push(value);
    }
    super::plane(values, height, width)
}

/// Refuses a folder that is no zarr where an image was expected.
pub(super) fn require(path: &Path) -> Result<()> {
    if is_zarr(path) {
        return Ok(());
    }
    Err(Error::file(path, "this is a folder; one file, or a zarr, was expected"))
}
