//! Images that are segmented by parts.

use cellsparse_core::formats::label_pyramid::LabelPyramid;
use cellsparse_core::raster::read_image;

use super::*;

/// A drawn field of 1100 x 300 pixels as a tiled TIFF with a copy of half its size.
fn slide(project: &Project) -> String {
    let field = draw_field(&FieldOptions { height: 1100, width: 300, ..FieldOptions::default() }, 6).expect("a field");
    let pixels = field.image.to_f32().mapv(|value| value as i32).remove_axis(Axis(2));
    let path = project.path("slide.tif");
    let mut file = LabelPyramid::create(&path, [1100, 300], Some([0.5, 0.5]), None).expect("a file");
    file.write([0, 0], pixels.slice(ndarray::s![..1024, ..])).expect("pixels");
    file.write([1024, 0], pixels.slice(ndarray::s![1024.., ..])).expect("pixels");
    file.finish().expect("a file");
    path
}

fn labels(path: &str) -> ndarray::Array2<u32> {
    match read_label_file(path).expect("labels") {
        RawLabels::Unsigned(values) => values,
        _ => panic!("unsigned labels"),
    }
}

#[test]
fn parts_of_a_slide_are_those_of_the_image_and_levels_and_regions_are_chosen() {
    let project = Project::new();
    let (image, model, out) = (slide(&project), project.path("m.safetensors"), project.path("out"));
    let (images, sparse) = (project.path("images"), project.path("sparse"));
    let train = ["train", "--algorithm", "stardist", "--images", &images, "--labels", &sparse, "--model", &model];
    let small = ["--steps", "3", "--batch-size", "1", "--patch-size", "64", "--device", "cpu"];
    assert!(cellsparse(&[&train[..], &small].concat()).status.success());
    let predict = |extra: &[&str]| {
        cellsparse(&[&["predict", "--model", &model, "--images", &image, "--out", &out, "--json"], extra].concat())
    };
    let whole = json(&predict(&[]));
    let expected = labels(&project.path("out/slide.png"));
    assert!(whole[0]["objects"].as_u64() > Some(20), "{whole}");

    let output = predict(&["--resume", "--format", "labels,ometiff,geojson,csv,rois"]);
    let parts = json(&output);
    let said = stderr(&output);
    assert!(said.contains("1100 x 300 pixels (level 0 of 2) are segmented by parts"), "{said}");
    assert!(said.contains("rois is not written") && said.contains("network"), "{said}");
    assert_eq!(parts[0]["objects"], whole[0]["objects"]);
    for name in ["out/slide.tif", "out/slide.ome.tif"] {
        assert_eq!(labels(&project.path(name)), expected, "{name}");
    }
    let features: Value =
        serde_json::from_str(&fs::read_to_string(project.path("out/slide.geojson")).expect("a file")).expect("JSON");
    assert_eq!(features.as_array().map(Vec::len), whole[0]["objects"].as_u64().map(|n| n as usize));
    let lines = fs::read_to_string(project.path("out/slide.csv")).expect("a file").lines().count();
    assert_eq!(Some(lines as u64 - 1), whole[0]["objects"].as_u64());
    assert_eq!(
        names(&project.root.path().join("out")),
        ["slide.csv", "slide.geojson", "slide.ome.tif", "slide.png", "slide.tif"]
    );

    let half = json(&predict(&["--level", "1um", "--format", "labels,geojson"]));
    assert_eq!(labels(&project.path("out/slide.tif")).dim(), (550, 150));
    let text = fs::read_to_string(project.path("out/slide.geojson")).expect("a file");
    let features: Value = serde_json::from_str(&text).expect("JSON");
    let rows = features.as_array().expect("a list").iter().map(|one| {
        let ring = &one["geometry"]["coordinates"][0];
        ring[0][1].as_f64().or_else(|| ring[0][0][1].as_f64()).expect("a number")
    });
    assert!(rows.fold(0.0, f64::max) > 600.0, "outlines are in the pixels of level 0: {half}");

    let some = json(&predict(&["--region", "0,0,300,200"]));
    assert!(some[0]["objects"].as_u64() > Some(0) && some[0]["objects"].as_u64() < whole[0]["objects"].as_u64());
    let found = labels(&project.path("out/slide.tif"));
    assert!(found.slice(ndarray::s![400.., ..]).iter().all(|label| *label == 0));
    assert!(read_image(&image).is_ok());

    let arguments = ["predict", "--model", &model, "--images", &image, "--out", &out];
    for (extra, words) in
        [(["--region", "0,0,5"], "expected left, top, width and height"), (["--level", "2"], "the image has 2")]
    {
        let output = cellsparse(&[&arguments[..], &extra].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let output = cellsparse(&[&arguments[..], &["--level", "0", "--format", "overlay"]].concat());
    assert!(stderr(&output).contains("overlay cannot be written"), "{}", stderr(&output));
    assert_eq!(cellsparse(&[&arguments[..], &["--level", "x"]].concat()).status.code(), Some(2));
}

#[test]
fn labels_of_large_images_are_read_as_they_are_stored() {
    let project = Project::new();
    let (image, model) = (slide(&project), project.path("m.safetensors"));
    let field = draw_field(&FieldOptions { height: 1100, width: 300, ..FieldOptions::default() }, 6).expect("a field");
    let few = field.truth.mapv(|label| if label <= 3 { label } else { 0 });
    let path = project.path("labels.tif");
    let mut file = LabelPyramid::create(&path, [1100, 300], None, None).expect("a file");
    file.write([0, 0], few.slice(ndarray::s![..1024, ..])).expect("labels");
    file.write([1024, 0], few.slice(ndarray::s![1024.., ..])).expect("labels");
    file.finish().expect("a file");
    // The same with "0 is white", which says how they are shown.
    let mut bytes = fs::read(&path).expect("a file");
    let photometric = [6, 1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    let places: Vec<usize> =
        (0..bytes.len() - 13).filter(|&at| bytes[at..].starts_with(&photometric)).map(|at| at + 12).collect();
    assert_eq!(places.len(), 2, "of the image and its copy");
    places.into_iter().for_each(|at| bytes[at] = 0);
    let white = project.path("white.tif");
    fs::write(&white, bytes).expect("a file");
    let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (1100, 300), }\n";
    let mut bytes = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
    bytes.extend(few.iter().flat_map(|label| label.to_le_bytes()));
    let array = project.path("array.npy");
    fs::write(&array, bytes).expect("a file");
    let train = |labels: &str, encoding: &str| {
        let line = ["train", "--algorithm", "stardist", "--images", &image, "--labels", labels, "--model", &model];
        let small = ["--steps", "1", "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--level", "0"];
        let output = cellsparse(&[&line[..], &small, &["--json", "--label-encoding", encoding]].concat());
        let said = stderr(&output);
        assert!(output.status.success(), "{labels}: {said}");
        assert!(said.contains("around what was drawn"), "{said}");
        (json(&output)["loss"].clone(), said)
    };
    let (loss, _) = train(&path, "cells");
    for same in [&white, &array] {
        assert_eq!(train(same, "cells").0, loss, "{same}");
    }
    // Cellpose numbers cells from 1, which is no background then.
    let masks = project.path("slide_masks.tif");
    fs::rename(&path, &masks).expect("a move");
    let said = train(&masks, "auto").1;
    assert!(said.contains("labels: cells"), "{said}");
}
