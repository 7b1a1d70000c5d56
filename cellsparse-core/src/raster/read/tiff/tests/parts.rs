//! Reading by parts.

use super::*;

type Reader = Box<dyn crate::raster::regions::RegionReader>;

/// A file of these bytes, opened for reading by parts.
fn regions(bytes: &[u8], options: &ReadOptions) -> Result<Reader> {
    opened(bytes, |path| crate::raster::open_regions(path, options, 0))
}

/// A file of these bytes, opened for reading the numbers of labels by parts.
fn label_regions(bytes: &[u8], options: &ReadOptions) -> Result<Reader> {
    opened(bytes, |path| crate::raster::open_label_regions(path, options, 0))
}

fn opened(bytes: &[u8], open: impl FnOnce(&std::path::Path) -> Result<Reader>) -> Result<Reader> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    // The open file stays readable after its name is gone; where that cannot be, the test's file stays.
    let reader = open(file.path());
    if cfg!(not(unix)) {
        let _ = file.keep();
    }
    reader
}

/// Compares parts at many places with the image that is read whole.
fn assert_parts_are_the_image(bytes: &[u8], options: &ReadOptions) {
    use crate::raster::regions::{Extent, Region};
    let whole = read_with(bytes, options).unwrap().image;
    let reader = regions(bytes, options).unwrap();
    let (height, width, channels) = whole.shape();
    assert_eq!((reader.levels()[0], reader.channels()), (Extent { height, width }, channels));
    let expected = crate::raster::regions::ImageRegions::new(whole, None).unwrap();
    let mut random = crate::random::Random::new(3, 0);
    for _ in 0..40 {
        let (top, left) = (random.below(height), random.below(width));
        let region =
            Region { top, left, height: 1 + random.below(height - top), width: 1 + random.below(width - left) };
        use crate::raster::regions::RegionReader as _;
        assert_eq!(reader.read(region, 0).unwrap(), expected.read(region, 0).unwrap(), "{region}");
    }
}

#[test]
fn parts_of_tiles_strips_bands_and_pages_are_those_of_the_image() {
    let all = ReadOptions::default();
    assert_parts_are_the_image(&tiled_tiff(), &all);
    let rows: Vec<u8> = (0..7 * 5 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let strips: Vec<&[u8]> = rows.chunks(2 * 15).collect();
    let rgb = Draft::gray(5, 7, 8, &[]).samples(3, 8).short(tags::PHOTOMETRIC, 2).short(tags::ROWS_PER_STRIP, 2);
    assert_parts_are_the_image(&rgb.clone().chunks(&strips).bytes(), &all);
    assert_parts_are_the_image(&rgb.chunks(&strips).bytes(), &channels(&[3, 1]));
    let planes: Vec<&[u8]> = rows.chunks(35).collect();
    let planar = Draft::gray(5, 7, 8, &[]).samples(3, 8).short(tags::PHOTOMETRIC, 2);
    assert_parts_are_the_image(&planar.short(tags::PLANAR_CONFIGURATION, 2).chunks(&planes).bytes(), &all);
    let wide: Vec<u8> = (0..6 * 4u16).flat_map(|value| (value * 997).to_le_bytes()).collect();
    assert_parts_are_the_image(&Draft::gray(6, 4, 16, &wide).bytes(), &all);
    let white = Draft::gray(6, 4, 16, &wide).short(tags::PHOTOMETRIC, 0);
    assert_parts_are_the_image(&white.bytes(), &all);
    assert_parts_are_the_image(&pages(3, "ImageJ=1.54p\nimages=3\nchannels=3\n"), &all);
    assert_parts_are_the_image(&pages(3, ""), &channels(&[2, 1]));
    // Bands of one large strip.
    let large: Vec<u8> = (0..3000 * 2048).map(|at: usize| (at / 2048 + at % 2048) as u8).collect();
    assert_parts_are_the_image(&Draft::gray(2048, 3000, 8, &large).bytes(), &all);
}

#[test]
fn smaller_copies_are_levels_wherever_they_stand() {
    use crate::raster::regions::Region;
    let tiles = |side: u32, value: u8| {
        let data = vec![value; 256];
        let count = side.div_ceil(16).pow(2) as usize;
        let draft = Draft::gray(side, side, 8, &[]).short(tags::TILE_WIDTH, 16).short(tags::TILE_LENGTH, 16);
        draft.chunks(&vec![data.as_slice(); count])
    };
    // As a slide scanner writes it: the slide, a thumbnail in strips, a smaller copy, a label of another shape.
    let thumbnail = Draft::gray(10, 10, 8, &[9; 100]);
    let label = Draft::gray(20, 7, 8, &[8; 140]).short(tags::NEW_SUBFILE_TYPE, 1);
    let slide = file(&[tiles(64, 1), thumbnail, tiles(16, 3), tiles(32, 2), label], false, false);
    let reader = regions(&slide, &ReadOptions::default()).unwrap();
    let sides: Vec<usize> = reader.levels().iter().map(|level| level.height).collect();
    assert_eq!(sides, [64, 32, 16]);
    assert!(reader.notes().is_empty(), "{:?}", reader.notes());
    for (level, value) in [1, 2, 3].into_iter().enumerate() {
        let part = reader.read(Region { top: 3, left: 5, height: 2, width: 2 }, level).unwrap();
        assert_eq!(part, Image::U8(Array3::from_elem((2, 2, 1), value)));
    }
    // In directories that the page names. The copy is written as a page and then taken out of the chain.
    for big in [false, true] {
        let mut bytes = file(&[tiles(64, 1).with(tags::SUB_IFDS, Value::Long(vec![0])), tiles(32, 2)], big, false);
        let (directory, link) = sub_directory(&mut bytes, big);
        let at = bytes.windows(4).position(|entry| entry == [74, 1, 4, 0]).unwrap();
        let value = at + if big { 12 } else { 8 };
        bytes[value..value + 4].copy_from_slice(&(directory as u32).to_le_bytes());
        bytes[link..link + 4].fill(0);
        let reader = regions(&bytes, &ReadOptions::default()).unwrap();
        assert_eq!(reader.levels().iter().map(|level| level.width).collect::<Vec<_>>(), [64, 32], "big {big}");
        let part = reader.read(Region { top: 30, left: 30, height: 2, width: 2 }, 1).unwrap();
        assert_eq!(part, Image::U8(Array3::from_elem((2, 2, 1), 2)));
    }
}

/// Where the second directory of a little-endian file is, and the link that leads to it.
fn sub_directory(bytes: &mut [u8], big: bool) -> (usize, usize) {
    let number =
        |at: usize, size: usize| bytes[at..at + size].iter().rev().fold(0, |sum, &byte| sum << 8 | byte as usize);
    let (first, count_size, entry, size) = if big { (number(8, 8), 8, 20, 8) } else { (number(4, 4), 2, 12, 4) };
    let link = first + count_size + number(first, count_size) * entry;
    (number(link, size), link)
}

#[test]
fn parts_that_are_damaged_or_not_finite_are_told_by_their_place() {
    use crate::raster::regions::Region;
    let mut values = [0.5f32; 16];
    values[15] = f32::NAN;
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let reader = regions(&Draft::gray(4, 4, 32, &data).short(tags::SAMPLE_FORMAT, 3).bytes(), &ReadOptions::default());
    let reader = reader.unwrap();
    assert!(reader.read(Region { top: 0, left: 0, height: 3, width: 4 }, 0).is_ok());
    let text = reader.read(Region { top: 2, left: 2, height: 2, width: 2 }, 0).unwrap_err().to_string();
    assert!(text.contains("at row 2, column 2") && text.contains("NaN"), "{text}");
    let short = Draft::gray(2, 2, 8, &[]).short(tags::ROWS_PER_STRIP, 1).chunks(&[&[1, 2], &[3]]);
    let reader = regions(&short.bytes(), &ReadOptions::default()).unwrap();
    let text = reader.read(Region { top: 1, left: 0, height: 1, width: 1 }, 0).unwrap_err().to_string();
    assert!(text.contains("strip 2"), "{text}");
    let limits = ReadLimits { decoded_bytes: 10, ..ReadLimits::default() };
    assert!(regions(&tiled_tiff(), &limits.into()).is_ok(), "limits on whole images do not hold");
}

/// Transparency is left out of parts as of the image, and said where it holds more than a constant.
#[test]
fn what_is_left_out_of_parts_is_said() {
    let rgba = |side: u32, alpha: &dyn Fn(u32) -> u8| {
        let pixels: Vec<u8> = (0..side * side).flat_map(|at| [at as u8, 7, 9, alpha(at)]).collect();
        let draft = Draft::gray(side, side, 8, &pixels).samples(4, 8).short(tags::PHOTOMETRIC, 2);
        draft.with(tags::EXTRA_SAMPLES, Value::Short(vec![2])).bytes()
    };
    let all = ReadOptions::default();
    for (side, alpha, said) in [
        (200, &(|_| 255_u8) as &dyn Fn(u32) -> u8, 0),
        (200, &|at| (at / 200 > 150) as u8, 1),
        (1, &|_| 3, 0),
        (2, &|at| at as u8, 1),
    ] {
        let bytes = rgba(side, alpha);
        let reader = regions(&bytes, &all).unwrap();
        assert_eq!((reader.channels(), reader.notes().len()), (3, said), "{:?}", reader.notes());
        assert_eq!(reader.notes(), read_with(&bytes, &all).unwrap().notes);
        assert!(regions(&bytes, &channels(&[1, 2, 3, 4])).unwrap().notes().is_empty());
        assert_parts_are_the_image(&bytes, &all);
    }
    let white = Draft::gray(20, 30, 8, &[5; 600]).short(tags::PHOTOMETRIC, 0);
    assert!(regions(&white.bytes(), &all).unwrap().notes()[0].contains("0 means white"));
}

/// What is white, which colours are shown and what ImageJ shifted matters to labels read by parts no more than to whole ones.
#[test]
fn parts_of_labels_hold_the_stored_numbers() {
    use crate::raster::regions::Region;
    let small = [0, 1, 2, 7, 7, 255];
    let wide: Vec<u8> = [32_767_u16, 32_768, 32_769, 32_770, 0, 65_535].iter().flat_map(|v| v.to_le_bytes()).collect();
    let whole: Vec<u8> =
        [0.0_f32, 1.0, 70_000.0, 3.0, 3.0, 16_777_215.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let colors = Value::Short((0..768).map(|at| at as u16 * 85).collect());
    let gray = Draft::gray(3, 2, 8, &small);
    let alpha: Vec<u8> = small.iter().flat_map(|value| [*value, 100 + value % 7]).collect();
    for draft in [
        gray.clone(),
        gray.clone().short(tags::PHOTOMETRIC, 0),
        gray.clone().short(tags::PHOTOMETRIC, 3).with(tags::COLOR_MAP, colors),
        Draft::gray(3, 2, 16, &wide).short(tags::PHOTOMETRIC, 0),
        Draft::gray(3, 2, 16, &wide).text("ImageJ=1.54p\ncf=0\nc0=-32768.0\nc1=1.0\n"),
        Draft::gray(3, 2, 32, &whole).short(tags::SAMPLE_FORMAT, 3).short(tags::PHOTOMETRIC, 0),
        Draft::gray(3, 2, 8, &alpha).samples(2, 8).with(tags::EXTRA_SAMPLES, Value::Short(vec![2])),
    ] {
        let bytes = draft.bytes();
        let expected = match labels_of(&bytes) {
            RawLabels::Unsigned(values) => values.mapv(|value| value as f32),
            RawLabels::Signed(values) => values.mapv(|value| value as f32),
        };
        // The plane of the stack that they were drawn on.
        for options in [ReadOptions::default(), plane(3), channels(&[2])] {
            let reader = label_regions(&bytes, &options).unwrap();
            assert!(reader.notes().is_empty(), "{:?}", reader.notes());
            let found = reader.read(Region::whole(reader.levels()[0]), 0).unwrap().to_f32();
            assert_eq!(found.remove_axis(ndarray::Axis(2)), expected);
        }
    }
    let rgb = Draft::gray(2, 1, 8, &[0; 6]).samples(3, 8).short(tags::PHOTOMETRIC, 2);
    let text = label_regions(&rgb.bytes(), &ReadOptions::default()).err().unwrap().to_string();
    assert!(text.contains("3 channels"), "{text}");
}

#[test]
fn numbers_that_are_rounded_are_told_once_they_were_read() {
    use crate::raster::regions::Region;
    for (format, last) in [(1, 33_554_433_u32), (2, (-33_554_433_i32) as u32)] {
        let data: Vec<u8> = (0..15).chain([last]).flat_map(|value| value.to_le_bytes()).collect();
        let bytes = Draft::gray(4, 4, 32, &data).short(tags::SAMPLE_FORMAT, format).bytes();
        let reader = regions(&bytes, &ReadOptions::default()).unwrap();
        reader.read(Region { top: 0, left: 0, height: 3, width: 4 }, 0).unwrap();
        assert!(reader.notes().is_empty() && reader.findings().is_empty());
        reader.read(Region { top: 3, left: 2, height: 1, width: 2 }, 0).unwrap();
        let told = reader.findings();
        assert!(told.len() == 1 && told[0].contains("reach 33554433; above 16777216 they are rounded"), "{told:?}");
        assert!(told[0].ends_with("by 2 at most"), "{told:?}");
        assert_eq!(told, read_with(&bytes, &ReadOptions::default()).unwrap().notes);
    }
}
