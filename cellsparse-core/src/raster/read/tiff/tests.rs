//! Files of every kind, written tag by tag, because encoders write few of them.

use ndarray::{Array3, array};

use super::super::{ReadLimits, ReadOptions, image_from, labels_from, source::Source};
use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::raster::Image;

/// One page to write: tags with their values, and the bytes of its strips or tiles.
#[derive(Clone)]
struct Draft {
    tags: Vec<(u16, Value)>,
    chunks: Vec<Vec<u8>>,
}

#[derive(Clone)]
enum Value {
    Short(Vec<u16>),
    Long(Vec<u32>),
    Text(String),
    Fraction(u32, u32),
    Bytes(Vec<u8>),
}

impl Draft {
    /// A grey page in one strip.
    fn gray(width: u32, height: u32, bits: u16, data: &[u8]) -> Self {
        let tags = vec![
            (tags::IMAGE_WIDTH, Value::Long(vec![width])),
            (tags::IMAGE_LENGTH, Value::Long(vec![height])),
            (tags::BITS_PER_SAMPLE, Value::Short(vec![bits])),
            (tags::PHOTOMETRIC, Value::Short(vec![1])),
        ];
        Self { tags, chunks: vec![data.to_vec()] }
    }

    fn with(mut self, tag: u16, value: Value) -> Self {
        self.tags.retain(|(known, _)| *known != tag);
        self.tags.push((tag, value));
        self
    }

    fn short(self, tag: u16, value: u16) -> Self {
        self.with(tag, Value::Short(vec![value]))
    }

    fn text(self, text: &str) -> Self {
        self.with(tags::IMAGE_DESCRIPTION, Value::Text(text.to_owned()))
    }

    fn samples(self, count: u16, bits: u16) -> Self {
        self.short(tags::SAMPLES_PER_PIXEL, count).with(tags::BITS_PER_SAMPLE, Value::Short(vec![bits; count.into()]))
    }

    fn chunks(mut self, chunks: &[&[u8]]) -> Self {
        self.chunks = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        file(std::slice::from_ref(self), false, false)
    }
}

/// A whole file. `big` writes BigTIFF; pixels are given in the byte order that `big_endian` says.
fn file(pages: &[Draft], big: bool, big_endian: bool) -> Vec<u8> {
    let number = |value: u64, size: usize| -> Vec<u8> {
        if big_endian { value.to_be_bytes()[8 - size..].to_vec() } else { value.to_le_bytes()[..size].to_vec() }
    };
    let (offset, count_size) = if big { (8, 8) } else { (4, 2) };
    let mut bytes = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
    bytes.extend(number(if big { 43 } else { 42 }, 2));
    if big {
        bytes.extend(number(8, 2));
        bytes.extend(number(0, 2));
    }
    let mut link = bytes.len();
    bytes.extend(number(0, offset));
    // Pixels of all pages first, one behind the other, as ImageJ writes them.
    let mut places = Vec::new();
    for page in pages {
        let mut starts = Vec::new();
        for chunk in &page.chunks {
            starts.push(bytes.len() as u32);
            bytes.extend(chunk);
        }
        places.push(starts);
    }
    for (page, starts) in pages.iter().zip(places) {
        let tiled = page.tags.iter().any(|(tag, _)| *tag == tags::TILE_WIDTH);
        let sizes = page.chunks.iter().map(|chunk| chunk.len() as u32).collect();
        let (at, count) = if tiled {
            (tags::TILE_OFFSETS, tags::TILE_BYTE_COUNTS)
        } else {
            (tags::STRIP_OFFSETS, tags::STRIP_BYTE_COUNTS)
        };
        let mut all = page.tags.clone();
        all.extend([(at, Value::Long(starts)), (count, Value::Long(sizes))]);
        all.sort_by_key(|(tag, _)| *tag);
        let mut entries = Vec::new();
        for (tag, value) in all {
            let (kind, count, data): (u64, usize, Vec<u8>) = match value {
                Value::Short(v) => (3, v.len(), v.iter().flat_map(|&n| number(n.into(), 2)).collect()),
                Value::Long(v) => (4, v.len(), v.iter().flat_map(|&n| number(n.into(), 4)).collect()),
                Value::Text(text) => (2, text.len() + 1, [text.as_bytes(), b"\0"].concat()),
                Value::Fraction(over, under) => (5, 1, [number(over.into(), 4), number(under.into(), 4)].concat()),
                Value::Bytes(data) => (7, data.len(), data),
            };
            entries.extend(number(tag.into(), 2));
            entries.extend(number(kind, 2));
            entries.extend(number(count as u64, offset));
            if data.len() <= offset {
                entries.extend(&data);
                entries.resize(entries.len() + offset - data.len(), 0);
            } else {
                entries.extend(number(bytes.len() as u64, offset));
                bytes.extend(data);
            }
        }
        let directory = number(bytes.len() as u64, offset);
        bytes.splice(link..link + offset, directory);
        let count = entries.len() / (4 + 2 * offset);
        bytes.extend(number(count as u64, count_size));
        bytes.extend(entries);
        link = bytes.len();
        bytes.extend(number(0, offset));
    }
    bytes
}

/// 20 x 20 pixels of 8 bit in 16 x 16 tiles.
pub(in crate::raster::read) fn tiled_tiff() -> Vec<u8> {
    let tile = |top: usize, left: usize| (0..256).map(|at| ((top + at / 16) * 10 + left + at % 16) as u8).collect();
    let tiles: Vec<Vec<u8>> = vec![tile(0, 0), tile(0, 16), tile(16, 0), tile(16, 16)];
    let mut draft = Draft::gray(20, 20, 8, &[]).short(tags::TILE_WIDTH, 16).short(tags::TILE_LENGTH, 16);
    draft.chunks = tiles;
    draft.bytes()
}

fn read_with(bytes: &[u8], options: &ReadOptions) -> Result<super::super::ImageFile> {
    image_from(&Source::of(bytes), options).map_err(|problem| problem.in_memory(Error::Image))
}

fn read(bytes: &[u8]) -> Image {
    read_with(bytes, &ReadOptions::default()).unwrap().image
}

fn labels_of(bytes: &[u8]) -> RawLabels {
    labels_from(&Source::of(bytes), &ReadOptions::default()).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    read_with(bytes, &ReadOptions::default()).unwrap_err().to_string()
}

fn plane(plane: usize) -> ReadOptions {
    ReadOptions { plane: Some(plane), ..ReadOptions::default() }
}

fn channels(channels: &[usize]) -> ReadOptions {
    ReadOptions { channels: Some(channels.to_vec()), ..ReadOptions::default() }
}

#[test]
fn a_tiled_tiff_is_read() {
    let expected = Array3::from_shape_fn((20, 20, 1), |(y, x, _)| (y * 10 + x) as u8);
    assert_eq!(read(&tiled_tiff()), Image::U8(expected));
}

#[test]
fn tiles_of_planes_that_are_no_multiples_of_the_image() {
    let tile = |band: usize, top: usize, left: usize| -> Vec<u8> {
        (0..256).map(|at| (band * 90 + (top + at / 16) * 3 + left + at % 16) as u8).collect()
    };
    let corners = [(0, 0), (0, 16), (16, 0), (16, 16)];
    let mut draft = Draft::gray(21, 17, 8, &[]).samples(2, 8).short(tags::PLANAR_CONFIGURATION, 2);
    draft = draft.short(tags::TILE_WIDTH, 16).short(tags::TILE_LENGTH, 16);
    draft.chunks = (0..2).flat_map(|band| corners.map(|(top, left)| tile(band, top, left))).collect();
    let expected = Array3::from_shape_fn((17, 21, 2), |(y, x, c)| (c * 90 + y * 3 + x) as u8);
    assert_eq!(read(&draft.bytes()), Image::U8(expected.clone()));
    let second = read_with(&draft.bytes(), &channels(&[2])).unwrap().image;
    assert_eq!(second, Image::U8(expected.select(ndarray::Axis(2), &[1])));
}

#[test]
fn classic_and_big_files_of_both_byte_orders() {
    for (big, big_endian) in [(false, false), (false, true), (true, false), (true, true)] {
        let data: Vec<u8> = [1u16, 258, 65_535]
            .iter()
            .flat_map(|n| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() })
            .collect();
        let bytes = file(&[Draft::gray(3, 1, 16, &data)], big, big_endian);
        assert_eq!(read(&bytes), Image::U16(array![[[1], [258], [65_535]]]), "{big} {big_endian}");
    }
}

#[test]
fn samples_of_unusual_widths() {
    let read = |bits, width, data: &[u8]| read(&Draft::gray(width, 1, bits, data).bytes());
    assert_eq!(read(1, 3, &[0b1010_0000]), Image::U8(array![[[1], [0], [1]]]));
    assert_eq!(read(2, 3, &[0b1101_1000]), Image::U8(array![[[3], [1], [2]]]));
    assert_eq!(read(4, 3, &[0xab, 0xc0]), Image::U8(array![[[10], [11], [12]]]));
    assert_eq!(read(12, 3, &[0xab, 0xc1, 0x23, 0xff, 0xf0]), Image::U16(array![[[0xabc], [0x123], [0xfff]]]));
    assert_eq!(read(24, 1, &[1, 2, 3]), Image::F32(array![[[197_121.0]]]));
    assert_eq!(read(64, 1, &7u64.to_le_bytes()), Image::F32(array![[[7.0]]]));
    let half = Draft::gray(2, 1, 16, &[0, 0x3c, 0, 0xc0]).short(tags::SAMPLE_FORMAT, 3);
    assert_eq!(super::tests::read(&half.bytes()), Image::F32(array![[[1.0], [-2.0]]]));
    let signed = Draft::gray(2, 1, 8, &[0xff, 5]).short(tags::SAMPLE_FORMAT, 2);
    assert_eq!(super::tests::read(&signed.bytes()), Image::F32(array![[[-1.0], [5.0]]]));
    assert_eq!(labels_of(&signed.bytes()), RawLabels::Signed(array![[-1, 5]]));
}

#[test]
fn differences_are_summed() {
    let sums = Draft::gray(3, 2, 8, &[10, 5, 255, 1, 1, 1]).short(tags::PREDICTOR, 2);
    assert_eq!(read(&sums.bytes()), Image::U8(array![[[10], [15], [14]], [[1], [2], [3]]]));
    let wide = Draft::gray(2, 1, 12, &[0xff, 0xf0, 0x02]).short(tags::PREDICTOR, 2);
    assert_eq!(read(&wide.bytes()), Image::U16(array![[[4095], [1]]]));
    // Two floats, 1.0 (3f 80 00 00) and 2.0 (40 00 00 00): first bytes together, then second ones, then their differences.
    let mut bytes = [0x3f, 0x40, 0x80, 0x00, 0, 0, 0, 0u8];
    for at in (1..8).rev() {
        bytes[at] = bytes[at].wrapping_sub(bytes[at - 1]);
    }
    let floats = Draft::gray(2, 1, 32, &bytes).short(tags::PREDICTOR, 3).short(tags::SAMPLE_FORMAT, 3);
    assert_eq!(read(&floats.bytes()), Image::F32(array![[[1.0], [2.0]]]));
}

#[test]
fn white_as_zero_is_turned_around_for_images_and_never_for_labels() {
    let white = |bits, data: &[u8]| Draft::gray(2, 1, bits, data).short(tags::PHOTOMETRIC, 0);
    assert_eq!(read(&white(8, &[0, 3]).bytes()), Image::U8(array![[[255], [252]]]));
    assert_eq!(read(&white(16, &[0, 0, 3, 0]).bytes()), Image::U16(array![[[65_535], [65_532]]]));
    assert_eq!(read(&white(4, &[0x0f]).bytes()), Image::U8(array![[[15], [0]]]));
    for (bits, data) in [(8, &[0u8, 3][..]), (16, &[0, 0, 3, 0]), (32, &[0, 0, 0, 0, 3, 0, 0, 0]), (4, &[0x03])] {
        assert_eq!(labels_of(&white(bits, data).bytes()), RawLabels::Unsigned(array![[0, 3]]), "{bits}");
    }
    let mask = white(1, &[0b0100_0000]);
    assert_eq!(read(&mask.bytes()), Image::U8(array![[[1], [0]]]));
    let mask = mask.with(tags::SOFTWARE, Value::Text("tifffile.py".into()));
    assert_eq!(read(&mask.bytes()), Image::U8(array![[[0], [1]]]));
}

#[test]
fn signed_numbers_that_imagej_shifted() {
    let data: Vec<u8> = [-1i32, 0, 2].iter().flat_map(|n| ((n + 32_768) as u16).to_le_bytes()).collect();
    let description = "ImageJ=1.54p\nunit= \ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n";
    let bytes = Draft::gray(3, 1, 16, &data).text(description).bytes();
    assert_eq!(labels_of(&bytes), RawLabels::Signed(array![[-1, 0, 2]]));
    assert_eq!(read(&bytes), Image::F32(array![[[-1.0], [0.0], [2.0]]]));
    let bytes = Draft::gray(3, 1, 16, &data).text("ImageJ=1.54p\nc0=-10.0\nc1=2.0\n").bytes();
    assert_eq!(labels_of(&bytes), RawLabels::Unsigned(array![[32_767, 32_768, 32_770]]), "a calibration of densities");
}

#[test]
fn colour_tables() {
    let map = |color: fn(u16) -> [u16; 3]| {
        Value::Short((0..3).flat_map(|band| (0..16).map(move |at| color(at)[band] * 257)).collect())
    };
    let table = |color| Draft::gray(2, 1, 4, &[0x3f]).short(tags::PHOTOMETRIC, 3).with(tags::COLOR_MAP, map(color));
    let colors = table(|at| [at * 17, 255 - at, 7]);
    assert_eq!(read(&colors.bytes()), Image::U8(array![[[51, 252, 7], [255, 240, 7]]]));
    assert_eq!(labels_of(&colors.bytes()), RawLabels::Unsigned(array![[3, 15]]));
    assert_eq!(read(&table(|at| [0, at * 17, 0]).bytes()), Image::U8(array![[[3], [15]]]), "a green ramp");
    assert_eq!(read(&table(|at| [255 - at; 3]).bytes()), Image::U8(array![[[252], [240]]]), "grey");
    assert_eq!(read(&colors.clone().text("ImageJ=1.54f\n").bytes()), Image::U8(array![[[3], [15]]]));
    let green = read_with(&colors.bytes(), &channels(&[2])).unwrap().image;
    assert_eq!(green, Image::U8(array![[[252], [240]]]));
}

#[test]
fn extra_samples_are_kept_and_transparency_is_named() {
    let rgb = |samples: u16, extra: &[u16], data: &[u8]| {
        let draft = Draft::gray(2, 1, 8, data).samples(samples, 8).short(tags::PHOTOMETRIC, 2);
        draft.with(tags::EXTRA_SAMPLES, Value::Short(extra.to_vec())).bytes()
    };
    let data = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let five = rgb(5, &[0, 0], &data);
    assert_eq!(read(&five), Image::U8(array![[[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]]));
    let file = read_with(&rgb(5, &[0, 2], &data), &ReadOptions::default()).unwrap();
    assert_eq!(file.image, Image::U8(array![[[1, 2, 3, 4], [6, 7, 8, 9]]]));
    assert!(file.notes[0].contains("channel 5 is tagged as transparency"), "{:?}", file.notes);
    let opaque = read_with(&rgb(4, &[2], &[1, 2, 3, 255, 4, 5, 6, 255]), &ReadOptions::default()).unwrap();
    assert_eq!((opaque.image.channels(), opaque.notes.len()), (3, 0));
    let untold = Draft::gray(1, 1, 8, &[1, 2, 3, 4]).samples(4, 8).short(tags::PHOTOMETRIC, 2).bytes();
    assert_eq!(read(&untold), Image::U8(array![[[1, 2, 3]]]));
    assert_eq!(read(&rgb(4, &[0], &[1, 2, 3, 4, 5, 6, 7, 8])).channels(), 4);
    let chosen = read_with(&rgb(5, &[0, 2], &data), &channels(&[5, 1])).unwrap();
    assert_eq!((chosen.image, chosen.notes.len()), (Image::U8(array![[[5, 1], [10, 6]]]), 0));
}

fn pages(count: u8, description: &str) -> Vec<u8> {
    let page = |at: u8| Draft::gray(2, 1, 8, &[10 * at, 10 * at + 1]);
    let drafts: Vec<Draft> = (0..count).map(|at| if at == 0 { page(at).text(description) } else { page(at) }).collect();
    file(&drafts, false, false)
}

#[test]
fn pages_are_channels_where_the_file_says_so() {
    let expected = Image::U8(array![[[0, 10, 20], [1, 11, 21]]]);
    let ome = "<OME><Image><Pixels DimensionOrder=\"XYZCT\" SizeC=\"3\" SizeZ=\"1\" SizeT=\"1\"><TiffData/></Pixels></Image></OME>";
    for description in ["ImageJ=1.54p\nimages=3\nchannels=3\n", ome, "{\"shape\": [3, 1, 2], \"axes\": \"CYX\"}"] {
        assert_eq!(read(&pages(3, description)), expected, "{description}");
        let two = read_with(&pages(3, description), &channels(&[3, 1])).unwrap().image;
        assert_eq!(two, Image::U8(array![[[20, 0], [21, 1]]]));
    }
}

#[test]
fn planes_and_time_points_are_chosen() {
    let bytes = pages(12, "ImageJ=1.54p\nimages=12\nchannels=2\nslices=3\nframes=2\nhyperstack=true\n");
    let text = refusal(&bytes);
    for words in ["2 channels", "3 planes (Z)", "2 time points (T)", "1 x 2 pixels", "plane (1 to 3"] {
        assert!(text.contains(words), "{text}");
    }
    let text = read_with(&bytes, &plane(2)).unwrap_err().to_string();
    assert!(text.contains("frame (1 to 2"), "{text}");
    let options = ReadOptions { frame: Some(2), ..plane(3) };
    assert_eq!(read_with(&bytes, &options).unwrap().image, Image::U8(array![[[100, 110], [101, 111]]]));
    let options = ReadOptions { frame: Some(3), ..plane(3) };
    let text = read_with(&bytes, &options).unwrap_err().to_string();
    assert!(text.contains("frame 3 was asked for and the file has 2"), "{text}");
    let z = "<OME><Image><Pixels DimensionOrder=\"XYZCT\" SizeC=\"2\" SizeZ=\"3\" SizeT=\"1\"/></Image></OME>";
    let second = read_with(&pages(6, z), &plane(2)).unwrap().image;
    assert_eq!(second, Image::U8(array![[[10, 40], [11, 41]]]));
    let labels = labels_from(&Source::of(&pages(3, "ImageJ=1\nimages=3\nslices=3\n")), &plane(3)).unwrap();
    assert_eq!(labels, RawLabels::Unsigned(array![[20, 21]]));
    let single = labels_from(&Source::of(&pages(1, "")), &plane(3)).unwrap();
    assert_eq!(single, RawLabels::Unsigned(array![[0, 1]]));
}

#[test]
fn pages_without_a_meaning_are_chosen_or_made_channels() {
    let bytes = pages(3, "");
    let text = refusal(&bytes);
    assert!(text.contains("stack of 3 pages") && text.contains("as channels"), "{text}");
    assert_eq!(read_with(&bytes, &plane(2)).unwrap().image, Image::U8(array![[[10], [11]]]));
    assert_eq!(read_with(&bytes, &channels(&[3, 1])).unwrap().image, Image::U8(array![[[20, 0], [21, 1]]]));
    let text = format!("{:?}", labels_from(&Source::of(&bytes), &ReadOptions::default()).unwrap_err());
    assert!(text.contains("choose a plane") && !text.contains("as channels"), "{text}");
}

#[test]
fn planes_behind_the_only_directory() {
    let description = |axes: &str| format!("ImageJ=1.54p\nimages=3\n{axes}=3\n");
    let data = [0, 1, 10, 11, 20, 21];
    let bytes = |axes: &str, data: &[u8]| Draft::gray(2, 1, 8, data).text(&description(axes)).bytes();
    assert_eq!(read(&bytes("channels", &data)), Image::U8(array![[[0, 10, 20], [1, 11, 21]]]));
    assert!(refusal(&bytes("slices", &data)).contains("3 planes (Z)"));
    let last = read_with(&bytes("slices", &data), &plane(3)).unwrap().image;
    assert_eq!(last, Image::U8(array![[[20], [21]]]));
    let packed = Draft::gray(2, 1, 8, &[1, 0, 1]).short(tags::COMPRESSION, 32_773).text(&description("channels"));
    assert!(refusal(&packed.bytes()).contains("announces 3 pages and the file holds fewer"));
    assert_eq!(read_with(&packed.text(&description("slices")).bytes(), &plane(1)).unwrap().image.height(), 1);
}

#[test]
fn copies_of_smaller_size_are_left_out() {
    let full = Draft::gray(4, 1, 8, &[1, 2, 3, 4]);
    let small = Draft::gray(2, 1, 8, &[1, 3]);
    let bytes = file(&[full.clone(), small.clone()], false, false);
    let found = read_with(&bytes, &ReadOptions::default()).unwrap();
    assert_eq!(found.image, Image::U8(array![[[1], [2], [3], [4]]]));
    assert!(found.notes[0].contains("smaller pages"), "{:?}", found.notes);
    let tagged = file(&[full, small.with(tags::NEW_SUBFILE_TYPE, Value::Long(vec![1]))], false, false);
    assert!(read_with(&tagged, &ReadOptions::default()).unwrap().notes.is_empty());
}

#[test]
fn pixel_sizes() {
    let size = |draft: Draft| read_with(&draft.bytes(), &ReadOptions::default()).unwrap().pixel_size;
    let draft = |over, under| {
        let resolution = Value::Fraction(over, under);
        Draft::gray(1, 1, 8, &[0]).with(tags::X_RESOLUTION, resolution.clone()).with(tags::Y_RESOLUTION, resolution)
    };
    assert_eq!(size(draft(4, 1).text("ImageJ=1.54p\nunit=micron\n")), Some([0.25, 0.25]));
    assert_eq!(size(draft(4, 1).text("ImageJ=1.54p\n")), None);
    assert_eq!(size(draft(20_000, 1).short(tags::RESOLUTION_UNIT, 3)), Some([0.5, 0.5]));
    assert_eq!(size(draft(300, 1)), None, "a printer's");
    assert_eq!(size(draft(0, 0).short(tags::RESOLUTION_UNIT, 3)), None);
    let ome = "<OME><Image><Pixels SizeC=\"1\" SizeZ=\"1\" SizeT=\"1\" PhysicalSizeX=\"0.5\" PhysicalSizeY=\"0.6\"/></Image></OME>";
    assert_eq!(size(Draft::gray(1, 1, 8, &[0]).text(ome)), Some([0.6, 0.5]));
}

#[test]
fn parts_that_were_left_out_are_zeros_and_short_ones_are_errors() {
    let draft = Draft::gray(2, 2, 8, &[]).short(tags::ROWS_PER_STRIP, 1).chunks(&[&[1, 2], &[3, 4]]);
    assert_eq!(read(&draft.bytes()), Image::U8(array![[[1], [2]], [[3], [4]]]));
    let text = refusal(&draft.clone().chunks(&[&[1, 2], &[3]]).bytes());
    assert!(text.contains("strip 2") && text.contains("holds 1 bytes where 1 rows need 2"), "{text}");
    assert!(refusal(&draft.chunks(&[&[1, 2]]).bytes()).contains("names 1 strips or tiles and its size needs 2"));
}

#[test]
fn unread_kinds_are_named_and_not_called_damaged() {
    let gray = || Draft::gray(1, 1, 8, &[0]);
    for (draft, words) in [
        (gray().short(tags::COMPRESSION, 34_712), "JPEG 2000"),
        (gray().short(tags::COMPRESSION, 50_001), "WebP"),
        (gray().short(tags::COMPRESSION, 34_887), "LERC"),
        (gray().short(tags::COMPRESSION, 6), "withdrawn"),
        (gray().short(tags::PHOTOMETRIC, 8), "L*a*b*"),
        (gray().short(tags::PHOTOMETRIC, 32_803), "filter mosaic"),
        (gray().short(tags::SAMPLE_FORMAT, 5), "complex"),
        (gray().with(tags::DNG_VERSION, Value::Bytes(vec![1, 4, 0, 0])), "DNG"),
    ] {
        let text = refusal(&draft.bytes());
        assert!(text.contains(words) && !text.contains("damaged"), "{text}");
    }
}

#[test]
fn sizes_are_refused_before_memory_is_taken() {
    let huge = Draft::gray(1 << 31, 1 << 31, 8, &[0]).bytes();
    assert_eq!(read_with(&huge, &ReadOptions::default()).unwrap_err().kind(), ErrorKind::Limit);
    let tile = Draft::gray(1, 1, 8, &[0]).with(tags::TILE_WIDTH, Value::Long(vec![u32::MAX]));
    let tile = tile.with(tags::TILE_LENGTH, Value::Long(vec![u32::MAX])).bytes();
    assert_eq!(read_with(&tile, &ReadOptions::default()).unwrap_err().kind(), ErrorKind::Limit);
    let tight = ReadLimits { decoded_bytes: 5, ..ReadLimits::default() };
    let stack = pages(3, "ImageJ=1\nimages=3\nchannels=3\n");
    assert_eq!(read_with(&stack, &tight.into()).unwrap_err().kind(), ErrorKind::Limit);
    let loops = {
        let mut bytes = Draft::gray(1, 1, 8, &[0]).bytes();
        let first: [u8; 4] = bytes[4..8].try_into().unwrap();
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&first);
        bytes
    };
    assert!(refusal(&loops).contains("leads back"));
}

#[test]
fn a_large_page_in_one_strip_is_read_in_bands() {
    let data: Vec<u8> = (0..3000 * 1500u32).map(|at| (at % 251) as u8).collect();
    let Image::U8(pixels) = read(&Draft::gray(3000, 1500, 8, &data).bytes()) else { panic!("8 bit") };
    assert!(pixels.iter().eq(data.iter()));
    let cut = Draft::gray(3000, 1500, 8, &data[..data.len() - 1]).bytes();
    assert!(refusal(&cut).contains("holds"));
}

#[test]
fn colours_by_luminance_and_differences() {
    let tables = |draft: Draft, x: u16, y: u16| {
        draft.samples(3, 8).short(tags::PHOTOMETRIC, 6).with(tags::YCBCR_SUBSAMPLING, Value::Short(vec![x, y]))
    };
    let plain = tables(Draft::gray(1, 1, 8, &[76, 85, 255]), 1, 1);
    assert_eq!(read(&plain.bytes()), Image::U8(array![[[254, 0, 0]]]));
    // One block of two rows and two columns, then its two differences.
    let shared = tables(Draft::gray(2, 1, 8, &[100, 50, 0, 0, 128, 128]), 2, 2);
    assert_eq!(read(&shared.bytes()), Image::U8(array![[[100, 100, 100], [50, 50, 50]]]));
}

#[test]
fn damaged_files_of_every_kind_never_panic() {
    let kinds: Vec<Vec<u8>> = vec![
        tiled_tiff(),
        pages(6, "ImageJ=1.54p\nimages=6\nchannels=2\nslices=3\n"),
        pages(3, "<OME><Image><Pixels SizeC=\"3\" SizeZ=\"1\" SizeT=\"1\"/></Image></OME>"),
        Draft::gray(4, 4, 12, &[7; 24]).short(tags::PREDICTOR, 2).bytes(),
        Draft::gray(24, 4, 1, &[0x35; 40]).short(tags::COMPRESSION, 3).bytes(),
        Draft::gray(24, 4, 1, &[0x35; 40]).short(tags::COMPRESSION, 4).bytes(),
        Draft::gray(24, 4, 1, &[0x35; 40]).short(tags::COMPRESSION, 2).bytes(),
        Draft::gray(4, 4, 8, &[0x80, 0x00, 0x20, 0x50]).short(tags::COMPRESSION, 5).bytes(),
        Draft::gray(4, 4, 8, b"\x28\xb5\x2f\xfd\x04\x58\x45\x00\x00\x10\x01\x01\x00")
            .short(tags::COMPRESSION, 50_000)
            .bytes(),
        Draft::gray(2, 2, 8, &[1; 6]).samples(3, 8).short(tags::PHOTOMETRIC, 6).bytes(),
    ];
    let limits = ReadLimits { decoded_bytes: 1 << 22, file_bytes: 1 << 22 };
    let mut random = crate::random::Random::new(9, 0);
    for bytes in kinds {
        for _ in 0..400 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(damaged.len());
                damaged[at] = random.bits() as u8;
            }
            for options in [
                limits.into(),
                ReadOptions {
                    plane: Some(2),
                    frame: Some(1),
                    limits,
                    channels: Some(vec![1]),
                    ..ReadOptions::default()
                },
            ] {
                // The wall would hide a panic of this module.
                let _ = super::image(&Source::of(&damaged), &options);
                let _ = super::labels(&Source::of(&damaged), &options);
            }
        }
    }
}

mod parts;
