use std::fs;
use std::io::Cursor;

use ::tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype};
use ndarray::array;

use super::*;
use crate::error::ErrorKind;

fn limits() -> ReadLimits {
    ReadLimits::default()
}

fn png_bytes(color: ::png::ColorType, depth: ::png::BitDepth, width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ::png::ColorType::Indexed {
        encoder.set_palette(vec![10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    bytes
}

fn tiff_bytes<C: colortype::ColorType>(width: u32, height: u32, data: &[C::Inner], compression: Compression) -> Vec<u8>
where
    [C::Inner]: ::tiff::encoder::TiffValue,
{
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap().with_compression(compression);
    encoder.write_image::<C>(width, height, data).unwrap();
    file.into_inner()
}

/// 12 rows and 16 columns of `9 x + 7 y`, modulo 200, in rough quality.
fn jpeg_bytes() -> Vec<u8> {
    let digits = concat!(
        "ffd8ffe000104a46494600010100000100010000ffdb004300140e0f120f0d14121012171514181e32211e1c1c1e3d2c2e24",
        "3249404c4b47404645505a736250556d5645466488656d777b8182814e608d978c7d96737e817cffc0000b08000c00100101",
        "1100ffc4001500010100000000000000000000000000000405ffc4001d100001040301010000000000000000000001020304",
        "1100213105a1ffda0008010100003f00850e37359761c6e6b0b0d09d6b1f39e5c3f2de7d9a0e24009245d5902fee7fffd9",
    );
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn every_kind() -> Vec<Vec<u8>> {
    use ::png::{BitDepth, ColorType};
    let deflate = Compression::Deflate(DeflateLevel::Balanced);
    vec![
        png_bytes(ColorType::Grayscale, BitDepth::Eight, 3, 2, &[0, 1, 2, 3, 4, 5]),
        png_bytes(ColorType::Grayscale, BitDepth::Sixteen, 1, 2, &[1, 0, 0, 2]),
        png_bytes(ColorType::Rgba, BitDepth::Eight, 1, 2, &[1, 2, 3, 4, 5, 6, 7, 8]),
        png_bytes(ColorType::Indexed, BitDepth::Two, 3, 1, &[0b0001_1000]),
        tiff_bytes::<colortype::Gray8>(3, 2, &[0, 1, 2, 3, 4, 5], Compression::Uncompressed),
        tiff_bytes::<colortype::Gray16>(3, 2, &[0, 1, 2, 3, 4, 500], deflate),
        tiff_bytes::<colortype::RGB8>(2, 1, &[0, 1, 2, 3, 4, 5], Compression::Lzw),
        tiff_bytes::<colortype::Gray32Float>(2, 1, &[0.5, -1.0], deflate),
        jpeg_bytes(),
    ]
}

#[test]
fn png_images_keep_their_samples_and_lose_transparency() {
    use ::png::{BitDepth, ColorType};
    let read = |color, depth, width, height, data: &[u8]| {
        decode_image(&png_bytes(color, depth, width, height, data), &limits()).unwrap()
    };
    assert_eq!(read(ColorType::Grayscale, BitDepth::Eight, 2, 1, &[7, 9]), Image::U8(array![[[7], [9]]]));
    assert_eq!(read(ColorType::Grayscale, BitDepth::Sixteen, 1, 1, &[1, 2]), Image::U16(array![[[258]]]));
    assert_eq!(read(ColorType::Grayscale, BitDepth::One, 2, 1, &[0b1000_0000]), Image::U8(array![[[255], [0]]]));
    assert_eq!(read(ColorType::GrayscaleAlpha, BitDepth::Eight, 1, 1, &[7, 9]), Image::U8(array![[[7]]]));
    assert_eq!(read(ColorType::Rgba, BitDepth::Eight, 1, 1, &[1, 2, 3, 4]), Image::U8(array![[[1, 2, 3]]]));
    assert_eq!(read(ColorType::Rgb, BitDepth::Sixteen, 1, 1, &[0, 1, 0, 2, 1, 0]), Image::U16(array![[[1, 2, 256]]]));
    assert_eq!(
        read(ColorType::Indexed, BitDepth::Eight, 2, 1, &[1, 0]),
        Image::U8(array![[[40, 50, 60], [10, 20, 30]]])
    );
}

#[test]
fn png_labels_are_indices_and_unscaled() {
    use ::png::{BitDepth, ColorType};
    let read = |color, depth, width, height, data: &[u8]| {
        decode_labels(&png_bytes(color, depth, width, height, data), &limits())
    };
    let unsigned = RawLabels::Unsigned;
    assert_eq!(read(ColorType::Indexed, BitDepth::Eight, 2, 1, &[3, 1]).unwrap(), unsigned(array![[3, 1]]));
    assert_eq!(
        read(ColorType::Indexed, BitDepth::Two, 3, 2, &[0b0001_1000, 0b1101_0000]).unwrap(),
        unsigned(array![[0, 1, 2], [3, 1, 0]])
    );
    assert_eq!(read(ColorType::Grayscale, BitDepth::One, 3, 1, &[0b0110_0000]).unwrap(), unsigned(array![[0, 1, 1]]));
    assert_eq!(read(ColorType::Grayscale, BitDepth::Four, 2, 1, &[0xa3]).unwrap(), unsigned(array![[10, 3]]));
    assert_eq!(read(ColorType::Grayscale, BitDepth::Sixteen, 1, 1, &[1, 2]).unwrap(), unsigned(array![[258]]));
    assert_eq!(read(ColorType::GrayscaleAlpha, BitDepth::Eight, 1, 1, &[5, 255]).unwrap(), unsigned(array![[5]]));
    let text = read(ColorType::Rgb, BitDepth::Eight, 1, 1, &[1, 2, 3]).unwrap_err().to_string();
    assert!(text.contains("colour picture") && text.contains("grey"), "{text}");
    assert!(decode_labels(&jpeg_bytes(), &limits()).unwrap_err().to_string().contains("JPEG"));
}

#[test]
fn tiff_images_of_every_sample_type() {
    let plain = Compression::Uncompressed;
    let read = |bytes: Vec<u8>| decode_image(&bytes, &limits());
    for compression in [plain, Compression::Lzw, Compression::Deflate(DeflateLevel::Balanced)] {
        let bytes = tiff_bytes::<colortype::Gray16>(2, 1, &[1, 60_000], compression);
        assert_eq!(read(bytes).unwrap(), Image::U16(array![[[1], [60_000]]]));
    }
    assert_eq!(read(tiff_bytes::<colortype::Gray8>(1, 1, &[3], plain)).unwrap(), Image::U8(array![[[3]]]));
    assert_eq!(read(tiff_bytes::<colortype::RGB8>(1, 1, &[3, 4, 5], plain)).unwrap(), Image::U8(array![[[3, 4, 5]]]));
    assert_eq!(
        read(tiff_bytes::<colortype::RGBA8>(1, 1, &[3, 4, 5, 6], plain)).unwrap(),
        Image::U8(array![[[3, 4, 5]]])
    );
    assert_eq!(read(tiff_bytes::<colortype::Gray32>(1, 1, &[70_000], plain)).unwrap(), Image::F32(array![[[7e4]]]));
    assert_eq!(read(tiff_bytes::<colortype::GrayI16>(1, 1, &[-3], plain)).unwrap(), Image::F32(array![[[-3.0]]]));
    assert_eq!(read(tiff_bytes::<colortype::Gray64Float>(1, 1, &[0.5], plain)).unwrap(), Image::F32(array![[[0.5]]]));
    // What a 32-bit float cannot hold is rounded, and said.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tif");
    for (value, rounding) in
        [(16_777_216, None), (16_777_219, Some("by 1 at most")), (u32::MAX, Some("by 128 at most"))]
    {
        std::fs::write(&path, tiff_bytes::<colortype::Gray32>(1, 1, &[value], plain)).unwrap();
        let file = read_image_with(&path, &ReadOptions::default()).unwrap();
        assert_eq!(file.image, Image::F32(array![[[value as f32]]]));
        assert_eq!(file.notes.len(), usize::from(rounding.is_some()), "{:?}", file.notes);
        assert!(file.notes.iter().all(|note| note.contains(&value.to_string()) && note.contains(rounding.unwrap())));
    }
    let text = read(tiff_bytes::<colortype::Gray32Float>(2, 1, &[0.0, f32::NAN], plain)).unwrap_err().to_string();
    assert!(text.contains("column 1") && text.contains("NaN"), "{text}");
}

#[test]
fn tiff_labels_of_every_sample_type() {
    let plain = Compression::Uncompressed;
    let read = |bytes: Vec<u8>| decode_labels(&bytes, &limits());
    let unsigned = RawLabels::Unsigned;
    assert_eq!(read(tiff_bytes::<colortype::Gray8>(2, 1, &[3, 0], plain)).unwrap(), unsigned(array![[3, 0]]));
    assert_eq!(read(tiff_bytes::<colortype::Gray32>(1, 1, &[70_000], plain)).unwrap(), unsigned(array![[70_000]]));
    assert_eq!(read(tiff_bytes::<colortype::GrayI8>(1, 1, &[-1], plain)).unwrap(), RawLabels::Signed(array![[-1]]));
    assert_eq!(read(tiff_bytes::<colortype::GrayI16>(1, 1, &[-1], plain)).unwrap(), RawLabels::Signed(array![[-1]]));
    assert_eq!(read(tiff_bytes::<colortype::GrayI32>(1, 1, &[9], plain)).unwrap(), RawLabels::Signed(array![[9]]));
    assert_eq!(
        read(tiff_bytes::<colortype::Gray32Float>(2, 1, &[2.0, -1.0], plain)).unwrap(),
        RawLabels::Signed(array![[2, -1]])
    );
    assert_eq!(read(tiff_bytes::<colortype::Gray32Float>(1, 1, &[2.0], plain)).unwrap(), unsigned(array![[2]]));
    assert!(read(tiff_bytes::<colortype::Gray32Float>(1, 1, &[0.3], plain)).unwrap_err().to_string().contains("0.3"));
    assert!(read(tiff_bytes::<colortype::RGB8>(1, 1, &[0; 3], plain)).unwrap_err().to_string().contains("3 channels"));
}

#[test]
fn jpeg_images_are_read() {
    let image = decode_image(&jpeg_bytes(), &limits()).unwrap();
    assert_eq!(image.shape(), (12, 16, 1));
    let pixel = image.to_f32()[[3, 4, 0]];
    assert!((pixel - 57.0).abs() < 12.0, "{pixel}");
}

#[test]
fn every_prefix_of_every_format_is_an_error() {
    for bytes in every_kind().into_iter().chain([super::tiff::tests::tiled_tiff()]) {
        decode_image(&bytes, &limits()).unwrap();
        for end in 0..bytes.len() {
            assert!(decode_image(&bytes[..end], &limits()).is_err(), "{} of {} bytes", end, bytes.len());
            assert!(decode_labels(&bytes[..end], &limits()).is_err(), "{} of {} bytes", end, bytes.len());
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut random = crate::random::Random::new(5, 0);
    for bytes in every_kind().into_iter().chain([super::tiff::tests::tiled_tiff()]) {
        for _ in 0..400 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(damaged.len());
                damaged[at] = random.bits() as u8;
            }
            let small = ReadLimits { decoded_bytes: 1 << 22, file_bytes: 1 << 22 };
            let _ = decode_image(&damaged, &small);
            let _ = decode_labels(&damaged, &small);
        }
    }
}

#[test]
fn sizes_are_checked_before_decoding() {
    let mut huge = png_bytes(::png::ColorType::Grayscale, ::png::BitDepth::Eight, 1, 1, &[0]);
    huge[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    huge[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(decode_image(&huge, &limits()), Err(Error::Limit(_))));
    let tight = ReadLimits { decoded_bytes: 3, ..limits() };
    for bytes in every_kind() {
        assert!(matches!(decode_image(&bytes, &tight), Err(Error::Limit(_))));
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn unusable_paths_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read_image(folder.path().join("none.png")), Err(Error::NotFound { .. })));
    assert!(read_image(folder.path()).unwrap_err().to_string().contains("this is a folder"));
    let path = folder.path().join("x.png");
    fs::write(&path, b"").unwrap();
    assert!(read_label_file(&path).unwrap_err().to_string().contains("empty (0 bytes)"));
    fs::write(&path, b"GIF89a...").unwrap();
    assert!(read_image(&path).unwrap_err().to_string().contains("a GIF file"));
    fs::write(&path, b"hello").unwrap();
    assert!(read_image(&path).unwrap_err().to_string().contains("68 65 6c 6c"));
    fs::write(&path, tiff_bytes::<colortype::Gray8>(1, 1, &[3], Compression::Uncompressed)).unwrap();
    assert_eq!(read_image(&path).unwrap(), Image::U8(array![[[3]]]), "content decides, not the extension");
    let tight = ReadLimits { file_bytes: 10, ..limits() };
    let error = read_image_with(&path, &tight.into()).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Limit, Some(path.as_path())));
    assert!(!error.message().contains("x.png"), "who tells others of it may leave the path out: {}", error.message());
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.tif");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), std::path::Path::new("/dev/zero")] {
        let text = read_image(path).unwrap_err().to_string();
        assert!(text.contains("not a regular file") && text.contains(&path.display().to_string()), "{text}");
        assert!(read_label_file(path).is_err());
    }
}

#[test]
fn a_panic_of_a_decoder_is_an_unusable_file() {
    let numbers: [u8; 0] = [];
    let problem = within_wall(|| Ok(numbers[std::hint::black_box(3)])).unwrap_err();
    let text = problem.in_file(std::path::Path::new("a.tif")).to_string();
    assert!(text.starts_with("a.tif: its decoder failed") && text.contains("report"), "{text}");
}

#[test]
fn channels_are_chosen_by_number_and_transparency_is_told() {
    use ::png::{BitDepth, ColorType};
    let bytes = png_bytes(ColorType::Rgba, BitDepth::Eight, 2, 1, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let read = |channels: Option<&[usize]>| {
        let options = ReadOptions { channels: channels.map(<[usize]>::to_vec), ..ReadOptions::default() };
        image_from(&Source::of(&bytes), &options).map_err(|problem| problem.in_memory(Error::Image))
    };
    let file = read(None).unwrap();
    assert_eq!(file.image, Image::U8(array![[[1, 2, 3], [5, 6, 7]]]));
    assert!(file.notes[0].contains("channel 4 is tagged as transparency"), "{:?}", file.notes);
    let file = read(Some(&[4, 1])).unwrap();
    assert_eq!((file.image, file.notes.len()), (Image::U8(array![[[4, 1], [8, 5]]]), 0));
    for (channels, words) in [(&[5][..], "channel 5"), (&[0], "channel 0"), (&[2, 2], "twice"), (&[], "no channel")] {
        let text = read(Some(channels)).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
    let options = ReadOptions { plane: Some(2), ..ReadOptions::default() };
    let text = format!("{:?}", image_from(&Source::of(&bytes), &options).unwrap_err());
    assert!(text.contains("plane 2") && text.contains("has 1"), "{text}");
}

/// Runs over the TIFF files of a folder that `CELLSPARSE_TIFF_FILES` names, such as the test files of the `tiff` crate, and
/// prints how many are read. Files of a folder `fuzz_images` are damaged on purpose; no other may be called so.
#[test]
#[ignore = "wants a folder of TIFF files, CELLSPARSE_TIFF_FILES"]
fn tiff_files_of_others() {
    let folder = std::env::var_os("CELLSPARSE_TIFF_FILES").expect("CELLSPARSE_TIFF_FILES names a folder");
    let (mut folders, mut read, mut refused) = (vec![std::path::PathBuf::from(folder)], 0, 0);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if !path.extension().is_some_and(|ending| ending == "tif" || ending == "tiff") {
                continue;
            }
            let Err(error) = read_image(&path) else {
                read += 1;
                continue;
            };
            refused += 1;
            let text = error.to_string();
            println!("{text}");
            let blames = ["damaged", "cut off", "too early", "decoder failed"].iter().any(|word| text.contains(word));
            assert!(!blames || path.components().any(|part| part.as_os_str() == "fuzz_images"), "{text}");
        }
    }
    println!("{read} files are read and {refused} refused");
    assert!(read > 2 * refused, "{read} files are read and {refused} refused");
}
