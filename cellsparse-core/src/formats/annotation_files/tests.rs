use std::path::PathBuf;

use ndarray::Array2;

use super::*;
use crate::raster::{LabelImage, RawLabels};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/annotations").join(name)
}

/// The labels that all recorded files hold: -1 unlabelled, 0 background, 1 to 5 cells.
fn truth() -> LabelImage {
    let truth: serde_json::Value = serde_json::from_slice(&fs::read(fixture("truth.json")).unwrap()).unwrap();
    let value = |(y, x): (usize, usize)| truth["labels"][y][x].as_i64().unwrap() as i32;
    Array2::from_shape_fn((24, 30), value)
}

fn options() -> AnnotationOptions {
    AnnotationOptions { shape: Some((24, 30)), image: Some("cells.png".into()), ..Default::default() }
}

fn drawn(name: &str) -> (LabelImage, Vec<String>) {
    let found = read_annotations(fixture(name), &options()).unwrap();
    let LabelSource::Drawn(labels) = found.labels else { panic!("{name}: {:?}", found.labels) };
    (labels, found.unused)
}

#[test]
fn qupaths_files_hold_the_mask_they_were_made_of() {
    assert_eq!(drawn("qupath05.geojson"), (truth(), vec![]));
    let (labels, unused) = drawn("qupath07.geojson");
    assert_eq!(labels, truth());
    assert_eq!(unused, ["1 shape of the class 'Region*'"]);
    let only = AnnotationOptions { foreground: Some("Region*".into()), background: Some("none".into()), ..options() };
    let found = read_annotations(fixture("qupath07.geojson"), &only).unwrap();
    assert_eq!(found.labels, LabelSource::Drawn(Array2::from_elem((24, 30), 1)));
    assert_eq!(
        found.unused,
        ["5 x shape of the class 'Foreground'", "1 line that is not background", "1 shape of the class 'Background'"]
            .map(String::from)
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
}

#[test]
fn imagej_regions_hold_the_mask_they_were_made_of() {
    let (labels, unused) = drawn("RoiSet.zip");
    assert_eq!(labels, truth());
    assert_eq!(unused, ["1 point, which tells no pixels"]);
    let (oval, _) = drawn("oval.roi");
    let inside = |(y, x)| ((x as f64 + 0.5 - 10.5) / 6.5).powi(2) + ((y as f64 + 0.5 - 7.5) / 4.5).powi(2) <= 1.0;
    assert_eq!(oval, Array2::from_shape_fn((24, 30), |at| if inside(at) { 1 } else { -1 }));
    let alone = read_annotations(fixture("oval.roi"), &AnnotationOptions::default()).unwrap();
    assert_eq!(alone.labels.shape(), (12, 17));
}

#[test]
fn a_folder_of_regions_is_one_annotation() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("oval.roi"), folder.path().join("Background 2.ROI")).unwrap();
    let mut cell = fs::read(fixture("oval.roi")).unwrap();
    // Without the second header and its name, that of the file counts.
    cell[60..64].fill(0);
    fs::write(folder.path().join("a.roi"), &cell).unwrap();
    cell[11] = 0;
    cell[60..64].fill(0);
    fs::write(folder.path().join("bg-1.roi"), &cell).unwrap();
    let LabelSource::Drawn(labels) = read_annotations(folder.path(), &options()).unwrap().labels else { panic!() };
    assert_eq!((labels.iter().max(), labels[[7, 10]], labels[[7, 1]]), (Some(&2), 2, 0));
    let empty = tempfile::tempdir().unwrap();
    assert!(read_annotations(empty.path(), &options()).unwrap_err().to_string().contains("no .roi files"));
}

#[test]
fn arrays_of_numpy_and_cellpose_hold_their_numbers() {
    let cells = truth().mapv(|label| label.max(0) as u32);
    for (name, expected) in [
        ("cells_seg.npy", LabelSource::Instances(RawLabels::Unsigned(cells.clone()))),
        ("fortran.npy", LabelSource::Values(RawLabels::Signed(cells.mapv(|value| value as i32)))),
        ("floats.npy", LabelSource::Values(RawLabels::Unsigned(cells.clone()))),
    ] {
        assert_eq!(read_annotations(fixture(name), &options()).unwrap().labels, expected, "{name}");
    }
}

#[test]
fn coco_and_labelme_hold_the_mask_they_were_made_of() {
    let (labels, unused) = drawn("coco.json");
    assert_eq!(labels, truth());
    assert_eq!(unused, ["1 group of objects (iscrowd)"]);
    let other = AnnotationOptions { image: Some("third.png".into()), ..options() };
    let message = read_annotations(fixture("coco.json"), &other).unwrap_err().to_string();
    assert!(message.contains("2 images") && message.contains("third.png"), "{message}");
    let (labels, unused) = drawn("labelme.json");
    // A polygon of LabelMe has no holes, so cell 2 was not drawn; ids count the shapes.
    let expected = truth().mapv(|label| match label {
        2 => -1,
        3.. => label - 1,
        other => other,
    });
    assert_eq!(labels, expected);
    assert_eq!(unused, ["1 shape of the type 'point'"]);
    let small = AnnotationOptions { shape: Some((5, 5)), ..options() };
    assert!(read_annotations(fixture("labelme.json"), &small).unwrap_err().to_string().contains("24 x 30"));
}

#[test]
fn files_of_cellpose_hold_the_masks_they_were_made_of() {
    let cells = truth().mapv(|label| label.max(0).unsigned_abs());
    for name in ["field_seg.npy", "many_seg.npy", "field_cp_masks.png", "field_cp_masks.tif"] {
        let found = read_annotations(fixture(&format!("cellpose31/{name}")), &options()).unwrap();
        let LabelSource::Instances(RawLabels::Unsigned(values)) = found.labels else { panic!("{name}") };
        assert_eq!(values, cells, "{name}");
    }
    // Its regions run through the centres of the border pixels, and ImageJ fills them so: half a pixel is lost at each side.
    let found = read_annotations(fixture("cellpose31/square_rois.zip"), &options()).unwrap();
    let LabelSource::Drawn(labels) = found.labels else { panic!("shapes") };
    assert_eq!(labels.iter().filter(|label| **label == 1).count(), 14 * 14);
}

#[test]
fn our_own_outlines_come_back() {
    use crate::formats::geojson::{GeoJsonOptions, to_geojson, write_geojson};
    let cells = truth().mapv(|label| label.max(0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.geojson");
    write_geojson(&path, &to_geojson(&cells, &GeoJsonOptions::default()).unwrap()).unwrap();
    let found = read_annotations(&path, &options()).unwrap();
    assert_eq!(found.labels, LabelSource::Drawn(cells.mapv(|label| if label == 0 { -1 } else { label })));
}

#[test]
fn geometries_of_every_kind() {
    let read = |text: &str| decode_annotations(text.as_bytes(), Path::new("a.geojson"), &options());
    let collection = r#"{"type": "Feature", "properties": {"classification": {"names": ["Background"]}}, "geometry": {"type":
        "GeometryCollection", "geometries": [{"type": "MultiLineString", "coordinates": [[[0.5, 0.5], [3.5, 0.5]]]},
        {"type": "Polygon", "coordinates": [[[5, 5, 0], [6, 5, 0], [6, 6, 0], [5, 6, 0]]]}, {"type": "Point", "coordinates": [1, 1]}]}}"#;
    let found = read(collection).unwrap();
    let LabelSource::Drawn(labels) = found.labels else { panic!() };
    assert_eq!(labels.iter().filter(|label| **label == 0).count(), 5);
    assert_eq!(found.unused, ["1 point, which tells no pixels"]);
    let bare = read(r#"{"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]]}"#).unwrap();
    let LabelSource::Drawn(labels) = bare.labels else { panic!() };
    assert_eq!(labels.iter().filter(|label| **label == 1).count(), 4);
    for (text, words) in [
        (r#"{"type": "FeatureCollection", "features": []}"#, "it holds no shapes"),
        (r#"{"type": "Point", "coordinates": [1, 2]}"#, "only 1 point"),
        ("[1, 2", "not whole JSON"),
        ("hello", "no file of annotations known here"),
        ("", "no file of annotations known here"),
        (r#"{"type": "Feature", "geometry": null, "properties": {}}"#, "without a geometry"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(words), "{text}: {message}");
    }
    let deep = format!("{}{}", r#"{"geometries":["#.repeat(100_000), "]}".repeat(100_000));
    assert!(read(&deep).is_err());
}

#[test]
fn functions_in_a_pickle_are_not_run_and_not_needed() {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }\n";
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.");
    let message = decode_annotations(&bytes, Path::new("a_seg.npy"), &options()).unwrap_err().to_string();
    assert!(message.contains("no 'masks'"), "{message}");
}

/// Files that are cut off or have a changed byte are read or refused, within the limits and without a panic.
#[test]
fn damaged_files_are_read_or_refused() {
    let files = [
        "qupath05.geojson",
        "qupath07.geojson",
        "RoiSet.zip",
        "oval.roi",
        "cells_seg.npy",
        "fortran.npy",
        "floats.npy",
        "coco.json",
        "labelme.json",
    ];
    let mut random = crate::random::Random::new(7, 0);
    for name in files {
        let bytes = fs::read(fixture(name)).unwrap();
        for shape in [Some((24, 30)), None] {
            let options = AnnotationOptions { shape, ..options() };
            let read = |bytes: &[u8]| drop(decode_annotations(bytes, Path::new(name), &options));
            for _ in 0..150 {
                read(&bytes[..random.below(bytes.len())]);
                let mut changed = bytes.clone();
                for _ in 0..=random.below(3) {
                    let at = random.below(changed.len());
                    changed[at] = match random.below(3) {
                        0 => random.below(256) as u8,
                        1 => changed[at] ^ (1 << random.below(8)),
                        _ => b"0198-.eE[]{},\xff"[random.below(14)],
                    };
                }
                read(&changed);
            }
        }
    }
    // The regions themselves, which in an archive hide behind a checksum.
    let archive = fs::read(fixture("RoiSet.zip")).unwrap();
    let archive = Archive::open(&archive).unwrap();
    for name in archive.names_in_order() {
        let region = archive.unpack(name, 1 << 20).unwrap().unwrap();
        for at in 0..region.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = region.to_vec();
                changed[at] = value;
                drop(decode_annotations(&changed, Path::new(name), &options()));
                drop(decode_annotations(&changed[..at], Path::new(name), &AnnotationOptions::default()));
            }
        }
    }
}
