//! Label images as OME-TIFF, with the size of their pixels.

use std::io::{Seek, Write};
use std::path::Path;

use tiff::encoder::colortype::{ColorType, Gray16, Gray32};
use tiff::encoder::{Compression, DeflateLevel, Rational, TiffEncoder, TiffKind, TiffValue};
use tiff::tags::{ResolutionUnit, Tag};

use crate::budget::reserve;
use crate::error::{Error, Result};
use crate::raster::{LabelImage, write_atomically};

/// From this size on, a file is written as BigTIFF: offsets of a plain one have 32 bit.
const LARGE: usize = 1 << 31;

/// Writes a label image as OME-TIFF of 16 bit, or of 32 bit when an id exceeds 65,535, compressed without loss. `pixel_size`
/// is height and width of a pixel in micrometres; it is written for OME readers and as the resolution that ImageJ reads.
///
/// # Errors
/// [`Error::Labels`] for unlabelled (negative) pixels, [`Error::Image`] for a label image without pixels,
/// [`Error::Config`] for a pixel size that is not a positive number, [`Error::Io`] or [`Error::NotFound`] when the file
/// cannot be written.
pub fn write_ome_tiff(
    path: impl AsRef<Path>,
    name: &str,
    labels: &LabelImage,
    pixel_size: Option<[f64; 2]>,
) -> Result<()> {
    let path = path.as_ref();
    let (height, width) = labels.dim();
    let side = |side: usize| i32::try_from(side).ok().filter(|side| *side > 0).map(i32::unsigned_abs);
    let (Some(rows), Some(columns)) = (side(height), side(width)) else {
        return Err(Error::Image(format!("a label image of {height} rows and {width} columns cannot be written")));
    };
    if let Some(((y, x), value)) = labels.indexed_iter().find(|(_, value)| **value < 0) {
        return Err(Error::Labels(format!(
            "the pixel at row {y}, column {x} is unlabelled ({value}), which an OME-TIFF of labels cannot hold"
        )));
    }
    if let Some(size) = pixel_size.filter(|size| !size.iter().all(|side| side.is_finite() && *side > 0.0)) {
        return Err(Error::Config(format!("a pixel size of {size:?}; expected micrometres above 0, height and width")));
    }
    let is_wide = labels.iter().any(|label| *label > i32::from(u16::MAX));
    let kind = if is_wide { "uint32" } else { "uint16" };
    let page =
        Page { size: (columns, rows), description: description(name, (columns, rows), kind, pixel_size), pixel_size };
    let is_large = labels.len() >= LARGE / 4;
    fn numbers<T>(labels: &LabelImage, value: impl Fn(i32) -> T) -> Result<Vec<T>> {
        let mut numbers = reserve(labels.len(), "labels to be written")?;
        numbers.extend(labels.iter().map(|label| value(*label)));
        Ok(numbers)
    }
    write_atomically(path, |writer| {
        // Ids are not negative, and below 65,536 in the narrow form.
        let written = match (is_wide, is_large) {
            (false, false) => page.write::<Gray16, _>(TiffEncoder::new(writer), numbers(labels, |label| label as u16)?),
            (true, false) => page.write::<Gray32, _>(TiffEncoder::new(writer), numbers(labels, |label| label as u32)?),
            (false, true) => {
                page.write::<Gray16, _>(TiffEncoder::new_big(writer), numbers(labels, |label| label as u16)?)
            }
            (true, true) => {
                page.write::<Gray32, _>(TiffEncoder::new_big(writer), numbers(labels, |label| label as u32)?)
            }
        };
        written.map_err(|error| match error {
            tiff::TiffError::IoError(source) => Error::io(path, source),
            other => Error::file(path, format!("could not be written: {other}")),
        })
    })
}

struct Page {
    /// Width and height.
    size: (u32, u32),
    description: String,
    pixel_size: Option<[f64; 2]>,
}

impl Page {
    fn write<C, K>(
        &self,
        encoder: tiff::TiffResult<TiffEncoder<impl Write + Seek, K>>,
        samples: Vec<C::Inner>,
    ) -> tiff::TiffResult<()>
    where
        C: ColorType,
        C::Inner: Clone,
        [C::Inner]: TiffValue,
        K: TiffKind,
    {
        let mut encoder = encoder?.with_compression(Compression::Deflate(DeflateLevel::Balanced));
        let mut image = encoder.new_image::<C>(self.size.0, self.size.1)?;
        image.encoder().write_tag(Tag::ImageDescription, self.description.as_str())?;
        if let Some([height, width]) = self.pixel_size {
            // The crate's own setters panic when the disk is full.
            image.encoder().write_tag(Tag::ResolutionUnit, ResolutionUnit::Centimeter.to_u16())?;
            image.encoder().write_tag(Tag::XResolution, per_centimetre(width))?;
            image.encoder().write_tag(Tag::YResolution, per_centimetre(height))?;
        }
        image.write_data(&samples)
    }
}

/// Pixels in a centimetre as a fraction of 32-bit numbers, as exact as these allow.
pub(super) fn per_centimetre(micrometres: f64) -> Rational {
    let value = 10_000.0 / micrometres;
    let d = (f64::from(u32::MAX) / value).floor().clamp(1.0, 1_000_000.0);
    Rational { n: (value * d).round().clamp(1.0, f64::from(u32::MAX)) as u32, d: d as u32 }
}

/// The OME-XML of one plane. It is ASCII, as a TIFF description has to be.
pub(super) fn description(name: &str, (width, height): (u32, u32), kind: &str, pixel_size: Option<[f64; 2]>) -> String {
    let size = pixel_size.map_or_else(String::new, |[height, width]| {
        format!(
            " PhysicalSizeX=\"{width}\" PhysicalSizeXUnit=\"&#181;m\" PhysicalSizeY=\"{height}\" \
             PhysicalSizeYUnit=\"&#181;m\""
        )
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><OME xmlns=\"http://www.openmicroscopy.org/Schemas/OME/2016-06\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:schemaLocation=\"http://www.openmicroscopy.org/Schemas/OME/2016-06 \
         http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd\" Creator=\"cellsparse {}\">\
         <Image ID=\"Image:0\" Name=\"{}\"><Pixels ID=\"Pixels:0\" DimensionOrder=\"XYCZT\" Type=\"{kind}\" \
         SizeX=\"{width}\" SizeY=\"{height}\" SizeC=\"1\" SizeZ=\"1\" SizeT=\"1\"{size}>\
         <Channel ID=\"Channel:0:0\" Name=\"labels\" SamplesPerPixel=\"1\"/><TiffData IFD=\"0\" PlaneCount=\"1\"/>\
         </Pixels></Image></OME>",
        env!("CARGO_PKG_VERSION"),
        escaped(name)
    )
}

/// A text as the value of an attribute, with other letters than those of ASCII as references.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            ' '..='~' => out.push(letter),
            // XML has no other control characters, not even as references.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(' '),
            other => out.push_str(&format!("&#{};", u32::from(other))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use tiff::decoder::{Decoder, DecodingResult};

    use super::*;

    #[test]
    fn labels_and_their_pixel_size_come_back() {
        let folder = tempfile::tempdir().unwrap();
        for (largest, kind) in [(65_535, "uint16"), (65_536, "uint32")] {
            let path = folder.path().join("a.ome.tif");
            let labels = array![[0, 1, 2], [300, largest, 0]];
            write_ome_tiff(&path, "a \"\u{b5}\" & b", &labels, Some([0.5, 0.25])).unwrap();
            let mut decoder = Decoder::new(std::fs::File::open(&path).unwrap()).unwrap();
            let values: Vec<i32> = match decoder.read_image().unwrap() {
                DecodingResult::U16(values) => values.into_iter().map(i32::from).collect(),
                DecodingResult::U32(values) => values.into_iter().map(|value| value as i32).collect(),
                _ => panic!("another type"),
            };
            assert_eq!(values, labels.iter().copied().collect::<Vec<_>>());
            let text = decoder.get_tag_ascii_string(Tag::ImageDescription).unwrap();
            for part in [
                &format!("Type=\"{kind}\"") as &str,
                "SizeX=\"3\" SizeY=\"2\"",
                "PhysicalSizeX=\"0.25\"",
                "PhysicalSizeY=\"0.5\"",
                "Name=\"a &quot;&#181;&quot; &amp; b\"",
            ] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert_eq!(decoder.get_tag_u32(Tag::ResolutionUnit).unwrap(), 3);
            let resolution = decoder.get_tag(Tag::XResolution).unwrap().into_u32_vec();
            assert!(resolution.is_ok_and(|pair| f64::from(pair[0]) / f64::from(pair[1]) == 40_000.0));
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ome.tif");
        let write = |labels: LabelImage, size| write_ome_tiff(&path, "a", &labels, size);
        assert!(matches!(write(array![[-1, 0]], None), Err(Error::Labels(_))));
        assert!(matches!(write(LabelImage::zeros((0, 3)), None), Err(Error::Image(_))));
        assert!(matches!(write(array![[1]], Some([0.0, 1.0])), Err(Error::Config(_))));
        assert!(!path.exists());
        for size in [1e-9, 0.001, 0.3, 20.0, 1e9] {
            let Rational { n, d } = per_centimetre(size);
            assert!(n > 0 && d > 0, "{size}");
        }
        write(array![[1]], None).unwrap();
    }
}
