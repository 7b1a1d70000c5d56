//! Outlines as regions of ImageJ: one `.roi` each, all in one zip archive that Fiji's ROI Manager opens.
//!
//! The layout is that of ImageJ's `ij.io.RoiEncoder`, version 228. All numbers are big-endian. Coordinates of polygons are
//! pixel corners in ImageJ as they are here, so that the region covers the same pixels.

use std::path::Path;

use super::archive::Packer;
use super::geojson::ObjectInfo;
use crate::error::{Error, Result};
use crate::geometry::ExactOutline;
use crate::raster::write_atomically;

const VERSION: u16 = 228;
const HEADER: usize = 64;
const SECOND_HEADER: usize = 64;
/// The type of a polygon that follows pixel edges; ImageJ measures its perimeter accordingly.
const TRACED: u8 = 8;
/// The type of a composite region, which has no other meaning when there are segments.
const RECTANGLE: u8 = 1;
/// Largest coordinate of a polygon of 16-bit numbers.
const LARGEST: f64 = 32_767.0;
/// Kinds of segments of a composite region.
const MOVE: f32 = 0.0;
const LINE: f32 = 1.0;
const CLOSE: f32 = 4.0;

/// Writes a zip archive with one region for each outline, whole or not at all. A region is named `ID-Y-X` by its label
/// and the middle of its box; `info` of its label is stored as properties of the region.
///
/// An outline without holes in one part becomes a polygon, another one a composite region.
///
/// # Errors
/// [`Error::Limit`] for more regions than a zip archive holds (65,534); [`Error::Io`] or [`Error::NotFound`] when the file
/// cannot be written.
pub fn write_rois<'a>(
    path: impl AsRef<Path>,
    outlines: &'a [ExactOutline],
    info: impl Fn(i32) -> ObjectInfo + 'a,
) -> Result<()> {
    let path = path.as_ref();
    write_atomically(path, |writer| {
        let fail = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::InvalidInput => Error::limit(
                path,
                format!("{} regions; a zip archive holds 65,534 and 4 GiB: write GeoJSON instead", outlines.len()),
            ),
            _ => Error::io(path, source),
        };
        let mut packer = Packer::new(writer);
        for outline in outlines {
            let name = roi_name(outline);
            packer.add(&format!("{name}.roi"), &roi_bytes(outline, &name, &info(outline.id))).map_err(fail)?;
        }
        packer.finish().map_err(fail)
    })
}

/// The name of an object's region: its label, and row and column of the middle of its box, of 4 digits or more.
pub fn roi_name(outline: &ExactOutline) -> String {
    let [top, left, bottom, right] = bounds(outline);
    format!("{:04}-{:04}-{:04}", outline.id, ((top + bottom) / 2.0) as i64, ((left + right) / 2.0) as i64)
}

/// The bytes of a `.roi` file.
pub fn roi_bytes(outline: &ExactOutline, name: &str, info: &ObjectInfo) -> Vec<u8> {
    let [top, left, bottom, right] = bounds(outline);
    let body = match outline.parts.as_slice() {
        [part] if part.holes.is_empty() && is_short(&part.exterior) => Body::Polygon(&part.exterior),
        _ => Body::Segments(segments(outline)),
    };
    let mut bytes = b"Iout".to_vec();
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend([if matches!(body, Body::Polygon(_)) { TRACED } else { RECTANGLE }, 0]);
    for side in [top, left, bottom, right] {
        // The lower 16 bits; ImageJ takes the box of a composite region from its segments.
        bytes.extend((side as i64 as u16).to_be_bytes());
    }
    bytes.resize(HEADER, 0);
    match body {
        Body::Polygon(ring) => {
            let corners = &ring[..ring.len().saturating_sub(1)];
            put(&mut bytes, 16, &(corners.len() as u16).to_be_bytes());
            for (axis, origin) in [(0, left), (1, top)] {
                bytes.extend(corners.iter().flat_map(|point| ((point[axis] - origin) as i16).to_be_bytes()));
            }
        }
        Body::Segments(values) => {
            put(&mut bytes, 36, &(values.len() as u32).to_be_bytes());
            bytes.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        }
    }
    let header = bytes.len();
    put(&mut bytes, 60, &(header as u32).to_be_bytes());
    bytes.resize(header + SECOND_HEADER, 0);
    let properties = properties(info);
    for (text, place) in [(name, 16), (&properties, 40)] {
        let units: Vec<u16> = text.encode_utf16().collect();
        if units.is_empty() {
            continue;
        }
        let at = bytes.len() as u32;
        put(&mut bytes, header + place, &at.to_be_bytes());
        put(&mut bytes, header + place + 4, &(units.len() as u32).to_be_bytes());
        bytes.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
    }
    bytes
}

enum Body<'a> {
    Polygon(&'a [[f64; 2]]),
    Segments(Vec<f32>),
}

/// Whether a ring fits a polygon of 16-bit whole numbers.
fn is_short(ring: &[[f64; 2]]) -> bool {
    let fits = |value: &f64| (0.0..=LARGEST).contains(value) && value.fract() == 0.0;
    ring.len() <= usize::from(u16::MAX) && ring.iter().flatten().all(fits)
}

/// All rings as a path that is filled by the even-odd rule.
fn segments(outline: &ExactOutline) -> Vec<f32> {
    let mut values = Vec::new();
    for part in &outline.parts {
        for ring in std::iter::once(&part.exterior).chain(&part.holes) {
            for (at, point) in ring.iter().take(ring.len().saturating_sub(1)).enumerate() {
                values.extend([if at == 0 { MOVE } else { LINE }, point[0] as f32, point[1] as f32]);
            }
            values.push(CLOSE);
        }
    }
    values
}

/// Top, left, bottom and right of an outline.
fn bounds(outline: &ExactOutline) -> [f64; 4] {
    let points = || outline.parts.iter().flat_map(|part| &part.exterior);
    let least = |axis: usize| points().map(|point| point[axis]).fold(f64::INFINITY, f64::min);
    let most = |axis: usize| points().map(|point| point[axis]).fold(f64::NEG_INFINITY, f64::max);
    [least(1).floor(), least(0).floor(), most(1).ceil(), most(0).ceil()]
}

/// What ImageJ shows as the properties of a region.
fn properties(info: &ObjectInfo) -> String {
    let mut text = String::new();
    if let Some(probability) = info.probability.filter(|probability| probability.is_finite()) {
        text.push_str(&format!("probability: {probability}\n"));
    }
    if let Some(class) = &info.class {
        text.push_str(&format!("class: {}\n", class.replace(['\n', '\r'], " ")));
    }
    text
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::geometry::exact_outlines;

    fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    }

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
    }

    fn text_at(bytes: &[u8], place: usize) -> String {
        let header = u32_at(bytes, 60);
        let (at, units) = (u32_at(bytes, header + place), u32_at(bytes, header + place + 4));
        let units: Vec<u16> = (0..units).map(|unit| u16_at(bytes, at + 2 * unit)).collect();
        String::from_utf16(&units).unwrap()
    }

    #[test]
    fn a_box_is_a_polygon_with_name_and_properties() {
        let outline = &exact_outlines(&array![[0, 0, 0, 0], [0, 5, 5, 0], [0, 5, 5, 0]]).unwrap()[0];
        let info = ObjectInfo { probability: Some(0.75), class: Some("2".into()) };
        let name = roi_name(outline);
        assert_eq!(name, "0005-0002-0002");
        let bytes = roi_bytes(outline, &name, &info);
        assert_eq!((&bytes[..4], bytes[6]), (&b"Iout"[..], TRACED));
        assert_eq!([8, 10, 12, 14, 16].map(|at| u16_at(&bytes, at)), [1, 1, 3, 3, 4]);
        let relative: Vec<u16> = (0..8).map(|place| u16_at(&bytes, 64 + 2 * place)).collect();
        assert_eq!(relative, [0, 2, 2, 0, 0, 0, 2, 2]);
        assert_eq!(text_at(&bytes, 16), name);
        assert_eq!(text_at(&bytes, 40), "probability: 0.75\nclass: 2\n");
    }

    #[test]
    fn holes_and_parts_are_a_composite() {
        let outline = &exact_outlines(&array![[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]).unwrap()[0];
        let bytes = roi_bytes(outline, "a", &ObjectInfo::default());
        // Three rings of four corners, each with its end.
        assert_eq!((bytes[6], u32_at(&bytes, 36)), (RECTANGLE, 3 * (4 * 3 + 1)));
        let value = |at: usize| f32::from_be_bytes(bytes[64 + 4 * at..68 + 4 * at].try_into().unwrap());
        assert_eq!([0, 1, 2, 3, 4, 5].map(value), [MOVE, 0.0, 0.0, LINE, 3.0, 0.0]);
        assert_eq!([12, 13, 14, 15].map(value), [CLOSE, MOVE, 1.0, 2.0]);
    }

    #[test]
    fn far_and_fractional_polygons_are_composites() {
        let far = ExactOutline {
            id: 1,
            parts: vec![crate::geometry::Part {
                exterior: vec![[40_000.0, 0.0], [40_001.0, 0.0], [40_001.0, 1.0], [40_000.0, 0.0]],
                holes: Vec::new(),
            }],
        };
        assert_eq!(roi_bytes(&far, "a", &ObjectInfo::default())[6], RECTANGLE);
        let none = ExactOutline { id: 1, parts: Vec::new() };
        assert_eq!(u32_at(&roi_bytes(&none, "a", &ObjectInfo::default()), 36), 0);
    }

    #[test]
    fn the_archive_holds_every_region() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let outlines = exact_outlines(&array![[7, 0, 9], [7, 0, 0]]).unwrap();
        write_rois(&path, &outlines, |_| ObjectInfo::default()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let archive = super::super::archive::Archive::open(&bytes).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), ["0007-0001-0000.roi", "0009-0000-0002.roi"]);
        assert_eq!(&archive.read("0007-0001-0000.roi").unwrap().unwrap()[..4], b"Iout");
    }
}
