//! Zarr folders of the ecosystem's writers (`tests/fixtures/zarr/make.py`), whole and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use cellsparse_core::raster::regions::{Extent, Region, RegionReader};
use cellsparse_core::raster::{
    ImageFile, RawLabels, ReadOptions, find_images, open_regions, read_image, read_image_header, read_image_with,
    read_label_file,
};
use cellsparse_core::{Image, Result};
use cellsparse_tests::fixtures;
use ndarray::{Array3, Axis, Ix3};
use serde_json::Value;

/// Bytes of chunks that are kept: few, so that most are read again.
const KEPT: usize = 1000;

fn folder() -> PathBuf {
    fixtures().join("zarr")
}

/// What the writers' own libraries read: paths with shape and numbers, `NaN` for those that are none.
fn expected() -> Vec<(String, Vec<usize>, Vec<f64>)> {
    let mut all = Vec::new();
    for name in ["expected_two.json", "expected_three.json"] {
        let text = fs::read_to_string(folder().join(name)).unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        for (path, array) in told["arrays"].as_object().unwrap() {
            let shape = array["shape"].as_array().unwrap().iter().map(|side| side.as_u64().unwrap() as usize).collect();
            let numbers = told["numbers"][array["numbers"].as_u64().unwrap() as usize].as_array().unwrap();
            let values = numbers.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect();
            all.push((path.clone(), shape, values));
        }
    }
    assert!(all.len() > 60, "{}", all.len());
    all
}

fn expected_of(path: &str) -> ndarray::ArrayD<f64> {
    let (_, shape, values) = expected().into_iter().find(|(name, ..)| name == path).unwrap_or_else(|| panic!("{path}"));
    ndarray::ArrayD::from_shape_vec(shape, values).unwrap()
}

/// An image of one plane as rows, columns and channels.
fn channels_last(array: ndarray::ArrayD<f64>) -> Array3<f64> {
    if array.ndim() == 2 {
        return array.insert_axis(Axis(2)).into_dimensionality::<Ix3>().unwrap();
    }
    array.into_dimensionality::<Ix3>().unwrap().permuted_axes([1, 2, 0]).as_standard_layout().into_owned()
}

fn numbers(image: &Image) -> Array3<f64> {
    image.to_f32().mapv(f64::from)
}

/// Everything of a level, put together of parts that do not fit its chunks.
fn in_parts(reader: &dyn RegionReader, level: usize) -> Array3<f64> {
    let Extent { height, width } = reader.levels()[level];
    let mut whole = Array3::zeros((height, width, reader.channels()));
    for top in (0..height).step_by(7) {
        for left in (0..width).step_by(11) {
            let region = Region { top, left, height: 7.min(height - top), width: 11.min(width - left) };
            let part = numbers(&reader.read(region, level).unwrap());
            let rows = top..region.bottom();
            whole.slice_mut(ndarray::s![rows, left..region.right(), ..]).assign(&part);
        }
    }
    whole
}

#[test]
fn every_codec_gives_the_numbers_of_its_writer() {
    for (path, shape, _) in expected().into_iter().filter(|(path, ..)| path.starts_with("codecs_")) {
        let wanted = channels_last(expected_of(&path));
        let reader = open_regions(folder().join(&path), &ReadOptions::default(), KEPT)
            .unwrap_or_else(|error| panic!("{path} {shape:?}: {error}"));
        assert_eq!(in_parts(reader.as_ref(), 0), wanted, "{path} by parts");
        let image = read_image(folder().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(numbers(&image), wanted, "{path}");
        let narrow = matches!(&image, Image::U8(_) | Image::U16(_));
        let is_narrow = !["int", "uint32", "float", "blosc_blocks"]
            .iter()
            .any(|kind| path.rsplit('/').next().unwrap().starts_with(kind));
        assert_eq!(narrow, is_narrow, "{path}: whole numbers of 8 and 16 bits stay what they are");
    }
}

#[test]
fn images_have_the_levels_and_pixel_sizes_of_their_metadata() {
    for (name, levels, size) in [
        ("cells_v04.zarr", 3, Some([0.5, 0.5])),
        ("cells_v05.zarr", 2, Some([0.25, 0.25])),
        ("ngff_v04.zarr", 2, Some([0.65, 0.65])),
        ("ngff_v05.zarr", 2, Some([0.65, 0.65])),
    ] {
        let path = folder().join(name);
        let reader = open_regions(&path, &ReadOptions::default(), KEPT).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((reader.levels().len(), reader.pixel_size()), (levels, size), "{name}");
        assert!(reader.notes().is_empty(), "{name}: {:?}", reader.notes());
        for level in 0..levels {
            let wanted = channels_last(expected_of(&format!("{name}/{level}")));
            assert_eq!(in_parts(reader.as_ref(), level), wanted, "{name}, level {level}");
        }
        let ImageFile { image, pixel_size, .. } = read_image_with(&path, &ReadOptions::default()).unwrap();
        assert_eq!((numbers(&image), pixel_size), (channels_last(expected_of(&format!("{name}/0"))), size));
    }
    // A resolution can be named, and has the axes and the scale that the image gives it.
    let level = read_image_with(folder().join("cells_v05.zarr/s1"), &ReadOptions::default()).unwrap();
    assert_eq!(
        (numbers(&level.image), level.pixel_size),
        (channels_last(expected_of("cells_v05.zarr/1")), Some([0.5, 0.5]))
    );
    assert_eq!(read_image(folder().join("cells.tif")).unwrap(), read_image(folder().join("cells_v04.zarr")).unwrap());
}

#[test]
fn planes_time_points_and_channels_are_chosen() {
    let path = folder().join("stack_v04.zarr");
    let header = read_image_header(&path).unwrap();
    assert_eq!((header.planes, header.frames), (4, 2));
    let text = read_image(&path).unwrap_err().to_string();
    assert!(
        text.contains("3 channels, 4 planes (Z) and 2 time points (T)") && text.contains("choose a plane"),
        "{text}"
    );
    let options = ReadOptions { plane: Some(3), frame: Some(2), channels: Some(vec![3, 1]), ..ReadOptions::default() };
    let wanted = expected_of("stack_v04.zarr/0");
    let plane = wanted.index_axis(Axis(0), 1).index_axis(Axis(1), 2).select(Axis(0), &[2, 0]);
    assert_eq!(numbers(&read_image_with(&path, &options).unwrap().image), channels_last(plane.into_dyn()));
    let wrong = |options: ReadOptions| read_image_with(&path, &options).unwrap_err().to_string();
    assert!(
        wrong(ReadOptions { plane: Some(5), ..options.clone() }).contains("plane 5 was asked for and the file has 4")
    );
    assert!(wrong(ReadOptions { channels: Some(vec![4]), ..options }).contains("channel 4 was chosen"));
}

#[test]
fn labels_are_whole_numbers() {
    let path = folder().join("cells_v04.zarr/labels/cells");
    let RawLabels::Unsigned(labels) = read_label_file(&path).unwrap() else { panic!("unsigned labels") };
    assert_eq!(labels.mapv(f64::from).into_dyn(), expected_of("cells_v04.zarr/labels/cells"));
    assert!(labels.iter().any(|label| *label == 3));
    let RawLabels::Signed(signed) = read_label_file(folder().join("codecs_v2.zarr/int16")).unwrap() else {
        panic!("signed labels")
    };
    assert_eq!(signed.mapv(f64::from).into_dyn(), expected_of("codecs_v2.zarr/int16"));
    let text = read_label_file(folder().join("codecs_v2.zarr/float32")).unwrap_err().to_string();
    assert!(text.contains("float32; labels are whole numbers"), "{text}");
    let text = read_label_file(folder().join("cells_v05.zarr")).unwrap_err().to_string();
    assert!(text.contains("2 channels"), "{text}");
}

#[test]
fn folders_with_several_images_name_them_and_those_with_one_are_it() {
    let text = read_image(folder().join("plate_v04.zarr")).unwrap_err().to_string();
    assert!(text.contains("2 images; name one of them: ") && text.contains("plate_v04.zarr/A/1/0, "), "{text}");
    let one = read_image(folder().join("plate_v04.zarr/A/2/0")).unwrap();
    let found = read_image_with(folder().join("plate_v04.zarr/A/2"), &ReadOptions::default()).unwrap();
    assert_eq!(found.image, one);
    assert!(found.notes[0].contains("the only image in it, '0', was read"), "{:?}", found.notes);
    let text = read_image(folder().join("codecs_v2.zarr")).unwrap_err().to_string();
    assert!(text.contains(" arrays; name one of them: "), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("x.zarr");
    fs::create_dir(&empty).unwrap();
    assert!(read_image(&empty).unwrap_err().to_string().contains("holds no zarr image"));
    assert!(read_image(folder.path()).unwrap_err().to_string().contains("this is a folder"));
    assert_eq!(find_images(folder.path()).unwrap().files, [empty]);
}

/// A copy of a fixture that may be changed.
struct Copy {
    root: tempfile::TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
                let to = to.join(entry.file_name().unwrap());
                if entry.is_dir() {
                    copy(&entry, &to);
                } else {
                    fs::copy(&entry, to).unwrap();
                }
            }
        }
        let root = tempfile::tempdir().unwrap();
        copy(&folder().join(name), &root.path().join("x.zarr"));
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("x.zarr").join(name)
    }

    fn read(&self) -> Result<Image> {
        read_image(self.path(""))
    }

    fn change(&self, name: &str, change: impl Fn(&mut Value)) {
        let mut value: Value = serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    /// A message in one line that has the name of the image.
    fn refused(&self, words: &str) {
        let text = self.read().unwrap_err().to_string();
        assert!(text.contains(words) && text.contains("x.zarr") && !text.contains('\n'), "{words}: {text}");
    }
}

#[test]
fn whole_numbers_that_are_rounded_are_told() {
    for (kind, largest, missing) in [
        ("<u4", 4_000_000_001_u64, 5_u64),
        (">u8", 1 << 40, 5),
        ("<i4", (1 << 24) + 1, 5),
        ("<u2", 65_535, 5),
        ("<u4", 7, 1 << 25),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let size: usize = kind[2..].parse().unwrap();
        let metadata = serde_json::json!({
            "zarr_format": 2, "shape": [8, 4], "chunks": [4, 4], "dtype": kind, "compressor": null,
            "fill_value": missing, "filters": null, "order": "C",
        });
        fs::write(folder.path().join(".zarray"), metadata.to_string()).unwrap();
        let number = |value: u64| {
            let bytes = value.to_le_bytes()[..size].to_vec();
            if kind.starts_with('>') { bytes.into_iter().rev().collect() } else { bytes }
        };
        let chunk: Vec<u8> = (0..15).chain([largest]).flat_map(number).collect();
        fs::write(folder.path().join("1.0"), chunk).unwrap();
        let rounded = largest.max(missing);
        let told =
            if rounded > 1 << 24 { vec![format!("its samples reach {rounded}; above 16777216")] } else { vec![] };
        let fits = |found: &[String]| {
            assert_eq!(found.len(), told.len(), "{kind}: {found:?}");
            assert!(found.iter().zip(&told).all(|(found, told)| found.starts_with(told.as_str())), "{kind}: {found:?}");
        };
        fits(&read_image_with(folder.path(), &ReadOptions::default()).unwrap().notes);
        let reader = open_regions(folder.path(), &ReadOptions::default(), KEPT).unwrap();
        reader.read(Region { top: 4, left: 0, height: 1, width: 4 }, 0).unwrap();
        assert!(
            reader.findings().is_empty(),
            "{kind}: the fill value is in another part, and the large number in no row of this one"
        );
        in_parts(reader.as_ref(), 0);
        fits(&reader.findings());
    }
}

#[test]
fn damaged_metadata_is_refused_in_words() {
    for (name, value, words) in [
        ("dtype", Value::from("<c8"), "the array '0' has numbers of the type <c8"),
        ("shape", Value::from(3), "has no shape"),
        ("chunks", Value::from(vec![0, 48]), "chunks of [0, 48]"),
        ("chunks", Value::from(vec![1u64 << 20, 1 << 20]), "write smaller chunks"),
        ("zarr_format", Value::from(4), "states the format 4"),
        ("fill_value", Value::from("none"), "the fill value \"none\""),
        ("order", Value::from("A"), "neither C nor F"),
        ("compressor", serde_json::json!({"id": "bz2"}), "compressed by 'bz2'"),
        ("filters", serde_json::json!([{"id": "delta"}]), "the filter 'delta'"),
    ] {
        let copy = Copy::of("cells_v04.zarr");
        copy.change("0/.zarray", |metadata| metadata[name] = value.clone());
        copy.refused(words);
    }
    for (change, words) in [
        (serde_json::json!({"multiscales": []}), "is empty"),
        (
            serde_json::json!({"multiscales": [{"datasets": [{"path": "../../etc"}]}]}),
            "which is no path within the image",
        ),
        (
            serde_json::json!({"multiscales": [{"datasets": [{"path": "9"}], "axes": ["y", "x"]}]}),
            "'9' that the metadata names is not there",
        ),
        (
            serde_json::json!({"multiscales": [{"datasets": [{"path": "0"}], "axes": ["x"]}]}),
            "names 1 axes and the array has 2",
        ),
    ] {
        let copy = Copy::of("cells_v04.zarr");
        fs::write(copy.path(".zattrs"), change.to_string()).unwrap();
        copy.refused(words);
    }
    let copy = Copy::of("cells_v04.zarr");
    fs::write(copy.path("0/.zarray"), b"{\"shape\": [").unwrap();
    copy.refused("0/.zarray is not whole JSON");
}

#[test]
fn damaged_and_missing_chunks() {
    for (name, chunk) in [
        ("codecs_v2.zarr/zstd", "0.0"),
        ("codecs_v2.zarr/blosc_lz4_byte", "0.0"),
        ("codecs_v2.zarr/gzip", "0.0"),
        ("codecs_v3.zarr/gzip_checked", "c/0/0"),
        ("codecs_v3.zarr/blosc_blosclz", "c/0/0"),
        ("codecs_v2.zarr/lz4", "0.0"),
    ] {
        let copy = Copy::of(name);
        let bytes = fs::read(copy.path(chunk)).unwrap();
        for length in [0, 3, 15, bytes.len() / 2, bytes.len() - 1] {
            fs::write(copy.path(chunk), &bytes[..length]).unwrap();
            copy.refused(&format!("chunk {chunk} holds"));
        }
        fs::remove_file(copy.path(chunk)).unwrap();
        assert!(numbers(&copy.read().unwrap()).iter().all(|value| *value == 0.0), "a missing chunk has the fill value");
    }
    let copy = Copy::of("codecs_v2.zarr/plain");
    let bytes = fs::read(copy.path("0.0")).unwrap();
    fs::write(copy.path("0.0"), &bytes[1..]).unwrap();
    copy.refused("holds 1023 bytes where 1024 are expected");
    fs::write(copy.path("0.0"), [&bytes[..], b"x"].concat()).unwrap();
    copy.refused("has 1025 bytes where a chunk of this array has 1024 at most");

    let copy = Copy::of("codecs_v3.zarr/sharded");
    let bytes = fs::read(copy.path("c/0/0")).unwrap();
    for (length, words) in [(10, "shorter than its index"), (bytes.len() - 1, "another checksum")] {
        fs::write(copy.path("c/0/0"), &bytes[..length]).unwrap();
        copy.refused(words);
    }
    fs::write(copy.path("c/0/0"), &bytes[20..]).unwrap();
    copy.refused("shard c/0/0");

    let copy = Copy::of("cells_v04.zarr");
    fs::remove_dir_all(copy.path("1")).unwrap();
    let reader = open_regions(copy.path(""), &ReadOptions::default(), KEPT).unwrap();
    assert_eq!(reader.levels().len(), 2);
    assert!(reader.notes()[0].contains("level 1 of the image, '1', was left out"), "{:?}", reader.notes());
}
