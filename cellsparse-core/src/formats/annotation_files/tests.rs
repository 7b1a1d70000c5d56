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

/// Regions of every kind that ImageJ has, with the pixels that it fills. What it draws of a line is one pixel wide.
#[test]
fn regions_take_the_pixels_that_imagej_fills() {
    let pixels: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("imagej154/pixels.json")).unwrap()).unwrap();
    let bytes = fs::read(fixture("imagej154/RoiSet.zip")).unwrap();
    let archive = Archive::open(&bytes).unwrap();
    let options = AnnotationOptions { shape: Some((50, 60)), ..AnnotationOptions::default() };
    let mut read = 0;
    for entry in archive.names_in_order() {
        let name = entry.trim_end_matches(".roi");
        let region = archive.unpack(entry, 1 << 20).unwrap().unwrap();
        let found = match decode_annotations(&region, Path::new(entry), &options) {
            Ok(found) => found,
            Err(error) => {
                assert!(matches!(name, "points" | "angle" | "text"), "{name}: {error}");
                continue;
            }
        };
        let LabelSource::Drawn(labels) = found.labels else { panic!("{name}") };
        let mut expected = Array2::from_elem((50, 60), false);
        for run in pixels[name].as_array().unwrap() {
            let at = |index: usize| run[index].as_u64().unwrap() as usize;
            expected.slice_mut(ndarray::s![at(0), at(1)..at(2)]).fill(true);
        }
        // Pixels whose centres lie on an edge; ends and steps of lines; curves as polygons.
        let (differ, kind) = match name {
            "polygon" | "freehand" | "polygon outside" => (3, 1),
            "rounded rectangle" | "spline" => (4, 1),
            "polyline" => (0, 0),
            "line" | "line with fractions" | "freehand line" => (12, 0),
            "arrow" => (150, 0),
            _ => (0, 1),
        };
        let drawn = labels.mapv(|label| label >= 0);
        let wrong = drawn.iter().zip(&expected).filter(|(drawn, expected)| drawn != expected).count();
        assert!(wrong <= differ, "{name}: {wrong} pixels differ");
        assert!(labels.iter().all(|label| *label < 0 || *label == kind), "{name}");
        if name.ends_with("line") {
            assert!(
                drawn.iter().zip(&expected).filter(|(drawn, expected)| **expected && !**drawn).count() <= 1,
                "{name}"
            );
        }
        read += 1;
    }
    assert_eq!(read, 26);
}

#[test]
fn regions_of_other_planes_are_left_out() {
    let read = |name: &str, plane, frame| {
        let options = AnnotationOptions { shape: Some((50, 60)), plane, frame, ..AnnotationOptions::default() };
        read_annotations(fixture(&format!("imagej154/{name}.zip")), &options).map(|found| {
            let LabelSource::Drawn(labels) = found.labels else { panic!("{name}") };
            let columns = labels.indexed_iter().filter(|(_, label)| **label > 0).map(|((_, x), _)| x);
            let mut tens: Vec<usize> = columns.map(|x| x / 10).collect();
            tens.sort_unstable();
            tens.dedup();
            (tens, found.unused)
        })
    };
    let other = |count: &str| vec![format!("{count} shape on another plane or time point")];
    // Channels are not told apart.
    assert_eq!(read("planes", Some(2), None).unwrap(), (vec![2], other("2 x")));
    assert_eq!(read("planes", Some(1), Some(1)).unwrap(), (vec![1], other("2 x")));
    let error = read("planes", None, None).unwrap_err();
    assert!(error.to_string().ends_with("its shapes were drawn on 2 planes (Z), 1, 2; choose a plane"), "{error}");
    assert_eq!(error.reason(), Some(&crate::error::Reason::unchosen("plane", 2)));
    assert!(error.path().is_some());
    let error = read("planes", Some(1), Some(7)).unwrap_err();
    assert!(error.to_string().contains("only 4 x shape on another plane"), "{error}");
    // A slice is a plane or a time point; what holds for all slices stays.
    assert_eq!(read("slices", Some(1), None).unwrap(), (vec![0, 1], other("1")));
    assert_eq!(read("slices", None, Some(2)).unwrap(), (vec![0, 2], other("1")));
    assert!(read("slices", None, None).unwrap_err().to_string().contains("2 slices of a stack, 1, 2"));
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

#[cfg(feature = "keras")]
#[test]
fn a_small_export_of_ilastik_may_not_ask_for_much() {
    let whole = fs::read(fixture("ilastik_turned.h5")).unwrap();
    // The highest bytes of the length of an axis, whose parts are not stored.
    for shape in [None, Some((24, 30))] {
        let mut bytes = whole.clone();
        bytes[842] = 255;
        let options = AnnotationOptions { shape, ..AnnotationOptions::default() };
        let message = decode_annotations(&bytes, Path::new("a.h5"), &options).unwrap_err().to_string();
        assert!(message.contains("cut it into parts"), "{message}");
    }
}

#[cfg(feature = "keras")]
#[test]
fn exports_of_ilastik_hold_their_numbers() {
    let cells = truth().mapv(|label| label.max(0) as u32);
    for name in ["ilastik.h5", "ilastik_turned.h5"] {
        let found = read_annotations(fixture(name), &options()).unwrap().labels;
        assert_eq!(found, LabelSource::Values(RawLabels::Unsigned(cells.clone())), "{name}");
        let bytes = fs::read(fixture(name)).unwrap();
        assert!(decode_annotations(&bytes[..bytes.len() / 2], Path::new(name), &options()).is_err());
        let message = decode_annotations(&bytes, Path::new("a.ilp"), &options()).unwrap_err().to_string();
        assert!(message.contains("a project of ilastik"), "{message}");
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

/// One square of side 4 for each of the properties, 5 columns apart.
fn features(properties: &[&str]) -> String {
    let feature = |(at, properties): (usize, &&str)| {
        let (x, end) = (5 * at, 5 * at + 4);
        format!(
            r#"{{"type": "Feature", {properties}, "geometry": {{"type": "Polygon", "coordinates":
                [[[{x}, 0], [{end}, 0], [{end}, 4], [{x}, 4], [{x}, 0]]]}}}}"#
        )
    };
    let all: Vec<String> = properties.iter().enumerate().map(feature).collect();
    format!("[{}]", all.join(", "))
}

/// What the squares became: the labels at their centres, and what was not used.
fn squares(text: &[u8], options: &AnnotationOptions) -> Result<([i32; 4], Vec<String>)> {
    let options = AnnotationOptions { shape: Some((24, 30)), ..options.clone() };
    let found = decode_annotations(text, Path::new("a.geojson"), &options)?;
    let LabelSource::Drawn(labels) = found.labels else { panic!("shapes") };
    Ok(([0, 1, 2, 3].map(|at| labels[[2, 5 * at + 2]]), found.unused))
}

#[test]
fn classes_of_qupath_are_told_by_what_they_derive_from() {
    let class = |name: &str| format!(r#""properties": {{"classification": {{"name": "{name}"}}}}"#);
    let names = ["Foreground: Positive", "Background: Glass", "Ignore*", "Foregrounds"].map(class);
    let text = features(&names.each_ref().map(String::as_str));
    let (labels, unused) = squares(text.as_bytes(), &AnnotationOptions::default()).unwrap();
    assert_eq!(labels, [1, 0, -1, -1]);
    assert_eq!(unused, ["1 shape of the class 'Foregrounds'", "1 shape of the class 'Ignore*'"]);
    let names = r#""properties": {"classification": {"names": ["Tumor", "Positive"]}}"#;
    let tumor = AnnotationOptions { foreground: Some("Tumor".into()), ..AnnotationOptions::default() };
    assert_eq!(squares(features(&[names, names]).as_bytes(), &tumor).unwrap().0, [1, 2, -1, -1]);
    let positive = AnnotationOptions { foreground: Some("tumor: positive".into()), ..AnnotationOptions::default() };
    assert_eq!(squares(features(&[names, names]).as_bytes(), &positive).unwrap().0, [1, 2, -1, -1]);
}

#[test]
fn detections_of_qupath_are_cells_and_the_region_around_them_is_none() {
    let kind = |kind: &str| {
        format!(r#""properties": {{"objectType": "{kind}", "isLocked": true, "measurements": {{"Area": 16}}}}"#)
    };
    let kinds = ["annotation", "detection", "cell", "tma_core"].map(kind);
    let text = features(&kinds.each_ref().map(String::as_str));
    let (labels, unused) = squares(text.as_bytes(), &AnnotationOptions::default()).unwrap();
    assert_eq!(labels, [-1, 1, 2, -1]);
    assert_eq!(unused, ["1 annotation without a class beside detections", "1 object of the type 'tma_core'"]);
    let annotations = [kinds[0].as_str(), kinds[0].as_str()];
    assert_eq!(squares(features(&annotations).as_bytes(), &AnnotationOptions::default()).unwrap().0, [1, 2, -1, -1]);
    let nucleus = r#"{"type": "Feature", "properties": {"objectType": "cell"}, "geometry": null, "nucleusGeometry":
        {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}}"#;
    assert_eq!(squares(nucleus.as_bytes(), &AnnotationOptions::default()).unwrap().0, [1, -1, -1, -1]);
}

/// Measurements that have no number, cores of tissue, and how versions before 0.4 wrote derived classes and kinds of objects.
#[test]
fn exports_of_qupath_have_more_than_outlines() {
    let all = AnnotationOptions::default();
    let kinds = [
        r#""properties": {"objectType": "annotation", "measurements": {"Area": NaN, "a": -Infinity}}"#,
        r#""properties": {"objectType": "tmaCore", "isMissing": false}"#,
        r#""id": "TMACoreObject", "properties": {}"#,
        r#""id": "PathTileObject", "properties": {"measurements": [{"name": "NaN", "value": NaN}]}"#,
    ];
    let (labels, unused) = squares(features(&kinds).as_bytes(), &all).unwrap();
    assert_eq!(labels, [1, -1, -1, -1]);
    assert_eq!(unused, ["1 object of the type 'tile'", "2 x object of the type 'tmaCore'"]);
    let parent = |name: &str| {
        let parent = format!(r#"{{"parentClass": {{}}, "name": "{name}", "colorRGB": -1}}"#);
        format!(
            r#""properties": {{"classification": {{"parentClass": {parent}, "name": "Positive", "colorRGB": -9}}}}"#
        )
    };
    let names = ["Foreground", "Background", "Tumor"].map(parent);
    let (labels, unused) = squares(features(&names.each_ref().map(String::as_str)).as_bytes(), &all).unwrap();
    assert_eq!(labels, [1, 0, -1, -1]);
    assert_eq!(unused, ["1 shape of the class 'Tumor: Positive'"]);
}

#[test]
fn masks_of_coco_have_the_size_of_their_image() {
    let read = |size: &str| {
        let text = format!(
            r#"{{"images": [{{"id": 1, "file_name": "a.png", "height": 3, "width": 2}}], "categories": [], "annotations": [
                {{"image_id": 1, "segmentation": {{"size": {size}, "counts": [1, 2, 3]}}}},
                {{"image_id": 1, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}}]}}"#
        );
        decode_annotations(text.as_bytes(), Path::new("a.json"), &AnnotationOptions::default()).unwrap()
    };
    assert_eq!(read("[3, 2]").labels, LabelSource::Drawn(ndarray::array![[2, -1], [1, -1], [1, -1]]));
    let found = read("[2, 3]");
    assert_eq!(found.labels, LabelSource::Drawn(ndarray::array![[1, -1], [-1, -1], [-1, -1]]));
    assert_eq!(found.unused, ["1 mask of another size than its image"]);
}

#[test]
fn shapes_of_qupath_are_on_a_plane() {
    // The first plane and time point is not written.
    let text = features(&[r#""properties": {}"#; 3])
        .replacen(r#""Polygon""#, r#""Polygon", "plane": {"c": -1, "z": 2, "t": 0}"#, 2)
        .replacen(r#""z": 2"#, r#""z": 1"#, 1);
    let on =
        |plane, frame| squares(text.as_bytes(), &AnnotationOptions { plane, frame, ..AnnotationOptions::default() });
    assert!(on(None, None).unwrap_err().to_string().contains("drawn on 3 planes (Z), 1, 2, 3; choose a plane"));
    assert_eq!(on(Some(1), None).unwrap(), ([-1, -1, 3, -1], vec!["2 x shape on another plane or time point".into()]));
    assert_eq!(on(Some(3), Some(1)).unwrap().0, [-1, 2, -1, -1]);
    assert!(on(Some(3), Some(2)).is_err());
    let flat = features(&[r#""properties": {}"#; 3]);
    let plane = AnnotationOptions { plane: Some(7), ..AnnotationOptions::default() };
    assert_eq!(squares(flat.as_bytes(), &plane).unwrap().0, [1, 2, 3, -1]);
}

#[test]
fn packed_geojson_is_read() {
    use std::io::Write;
    let text = features(&[r#""properties": {}"#; 2]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(squares(&packed, &AnnotationOptions::default()).unwrap().0, [1, 2, -1, -1]);
    assert!(squares(&packed[..packed.len() / 2], &AnnotationOptions::default()).is_err());
    let zip = |names: &[&str]| {
        let mut bytes = Vec::new();
        let mut archive = crate::formats::archive::Packer::new(&mut bytes);
        names.iter().for_each(|name| archive.add(name, text.as_bytes()).unwrap());
        archive.finish().unwrap();
        bytes
    };
    for names in [&["slide.geojson"][..], &["__MACOSX/._slide.json", "folder/slide.json", "notes.txt"]] {
        assert_eq!(squares(&zip(names), &AnnotationOptions::default()).unwrap().0, [1, 2, -1, -1]);
    }
    let several = squares(&zip(&["a.geojson", "b.geojson"]), &AnnotationOptions::default()).unwrap_err();
    assert!(several.to_string().contains("2 files of JSON"), "{several}");
}

#[test]
fn coco_as_other_programs_write_it() {
    let square = |x: u32| format!("{x}, 0, {}, 0, {}, 4, {x}, 4", x + 4, x + 4);
    let read = |annotations: &str| {
        let text = format!(
            r#"{{"images": [{{"id": "7", "file_name": "in\\a.png"}}, {{"id": 9, "file_name": "b.png"}}],
                "categories": [{{"id": "1", "name": "background"}}, {{"id": 2, "name": "cell"}}], "annotations": [{annotations}]}}"#
        );
        squares(text.as_bytes(), &AnnotationOptions { image: Some("a.png".into()), ..AnnotationOptions::default() })
    };
    let annotation = |image: &str, category: &str, rest: &str| {
        format!(r#"{{"image_id": {image}, "category_id": {category}, {rest}}}"#)
    };
    let all = [
        annotation("7", "\"2\"", &format!(r#""segmentation": [[{}]]"#, square(0))),
        annotation("\"7\"", "1", &format!(r#""segmentation": [{}]"#, square(5))),
        annotation("\"7\"", "2", r#""segmentation": [[10, 0], [14, 0], [14, 4], [10, 4]]"#),
        annotation(
            "\"7\"",
            "2",
            r#""segmentation": [[[15, 0], [19, 0], [19, 2], [15, 2]], [[15, 2], [19, 2], [19, 4], [15, 4]]]"#,
        ),
        annotation("\"7\"", "2", r#""bbox": [0, 0, 5, 5]"#),
        annotation("\"7\"", "2", r#""segmentation": [], "bbox": [0, 0, 5, 5]"#),
        annotation("9", "2", &format!(r#""segmentation": [[{}]]"#, square(0))),
        annotation(
            "\"7\"",
            "2",
            r#""iscrowd": true, "segmentation": {"size": [24, 30], "counts": [0, 2, 100, 2, 616]}"#,
        ),
    ];
    let (labels, unused) = read(&all.join(", ")).unwrap();
    assert_eq!(labels, [1, 0, 2, 3]);
    assert_eq!(unused, ["1 group of objects (iscrowd)", "2 x object with a box and without an outline"]);
    let twice =
        r#"{"images": [{"id": 1, "file_name": "x/a.png"}, {"id": 2, "file_name": "y/a.png"}], "annotations": []}"#;
    let named = AnnotationOptions { image: Some("a.png".into()), ..AnnotationOptions::default() };
    assert!(squares(twice.as_bytes(), &named).unwrap_err().to_string().contains("several images named a.png"));
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
        "ilastik.h5",
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
