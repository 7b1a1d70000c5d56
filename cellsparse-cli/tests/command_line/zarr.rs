//! Zarr folders as images, and training on parts of images that are not read whole.

use cellsparse_core::raster::write_gray_png16;

use super::*;

/// An array of 8-bit numbers in chunks of 64 x 64 pixels that are not compressed, of zarr 2.
fn write_array(folder: &Path, pixels: ndarray::ArrayView2<'_, u8>) {
    const SIDE: usize = 64;
    fs::create_dir_all(folder).expect("a folder");
    let (height, width) = pixels.dim();
    let metadata = serde_json::json!({
        "zarr_format": 2, "shape": [height, width], "chunks": [SIDE, SIDE], "dtype": "|u1", "compressor": null,
        "fill_value": 0, "filters": null, "order": "C", "dimension_separator": ".",
    });
    fs::write(folder.join(".zarray"), metadata.to_string()).expect("metadata");
    for row in 0..height.div_ceil(SIDE) {
        for column in 0..width.div_ceil(SIDE) {
            let mut chunk = ndarray::Array2::<u8>::zeros((SIDE, SIDE));
            let part = pixels.slice(ndarray::s![
                row * SIDE..height.min((row + 1) * SIDE),
                column * SIDE..width.min((column + 1) * SIDE)
            ]);
            chunk.slice_mut(ndarray::s![..part.nrows(), ..part.ncols()]).assign(&part);
            if chunk.iter().any(|value| *value > 0) {
                fs::write(folder.join(format!("{row}.{column}")), chunk.as_slice().expect("rows")).expect("a chunk");
            }
        }
    }
}

/// Makes an image of arrays, of pixels of half a micrometre.
fn write_multiscale(folder: &Path, paths: &[&str]) {
    let axis = |name: &str| serde_json::json!({"name": name, "type": "space", "unit": "micrometer"});
    let dataset = |(level, path): (usize, &&str)| {
        let scale = 0.5 * f64::from(1 << level);
        serde_json::json!({"path": path, "coordinateTransformations": [{"type": "scale", "scale": [scale, scale]}]})
    };
    let datasets: Vec<Value> = paths.iter().enumerate().map(dataset).collect();
    let metadata =
        serde_json::json!({"multiscales": [{"version": "0.4", "axes": [axis("y"), axis("x")], "datasets": datasets}]});
    fs::write(folder.join(".zattrs"), metadata.to_string()).expect("metadata");
    fs::write(folder.join(".zgroup"), r#"{"zarr_format": 2}"#).expect("metadata");
}

fn small_training<'a>(images: &'a str, labels: &'a str, model: &'a str) -> Vec<&'a str> {
    let data = ["train", "--algorithm", "stardist", "--images", images, "--labels", labels, "--model", model];
    let small = ["--steps", "2", "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--json"];
    [&data[..], &small].concat()
}

fn label_values(path: &str) -> ndarray::Array2<u32> {
    match read_label_file(path).expect("labels") {
        RawLabels::Unsigned(values) => values,
        _ => panic!("unsigned labels"),
    }
}

#[test]
fn a_zarr_is_segmented_as_the_same_pixels_in_a_file() {
    let project = Project::new();
    let (sparse, model, out) = (project.path("sparse"), project.path("m.safetensors"), project.path("out"));
    let Image::U8(pixels) = read_image(project.path("images/field_0.png")).expect("an image") else {
        panic!("fields are 8 bit")
    };
    let pixels = pixels.remove_axis(Axis(2));
    // A folder of images, of which one is a zarr, is trained on.
    let zarr = project.root.path().join("images/field_0.zarr");
    write_array(&zarr.join("0"), pixels.view());
    write_array(&zarr.join("1"), pixels.slice(ndarray::s![..;2, ..;2]));
    write_multiscale(&zarr, &["0", "1"]);
    let png = project.path("field_0.png");
    fs::rename(project.path("images/field_0.png"), &png).expect("a move");
    json(&cellsparse(&small_training(&project.path("images"), &sparse, &model)));

    let zarr = zarr.display().to_string();
    let predict = |image: &str, extra: &[&str]| {
        let line = ["predict", "--model", &model, "--images", image, "--out", &out, "--device", "cpu", "--json"];
        cellsparse(&[&line[..], extra].concat())
    };
    let found = json(&predict(&zarr, &["--format", "labels,omezarr"]));
    assert!(found[0]["objects"].as_u64() > Some(0), "{found}");
    let labels = label_values(&project.path("out/field_0.png"));
    assert_eq!(label_values(&project.path("out/field_0.ome.zarr")), labels);
    json(&predict(&png, &["--pixel-size", "0.5"]));
    assert_eq!(label_values(&project.path("out/field_0.png")), labels);
    // By parts, and at the other resolution.
    json(&predict(&zarr, &["--level", "0", "--format", "labels,omezarr"]));
    assert_eq!(label_values(&project.path("out/field_0.ome.zarr")), labels);
    assert_eq!(label_values(&project.path("out/field_0.tif")), labels);
    let half = predict(&zarr, &["--level", "1um", "--region", "0,0,60,60"]);
    assert!(stderr(&half).contains("48 x 56 pixels (level 1 of 2)"), "{}", stderr(&half));
    assert_eq!(label_values(&project.path("out/field_0.tif")).dim(), (48, 56));
    assert_fails(&["predict", "--model", &model, "--images", &format!("{zarr}/2"), "--out", &out], "no such file");
    // Training at the other resolution; the size of the pixels that is said is that of the largest, as for a prediction.
    let values = label_values(&project.path("sparse/field_0.png")).mapv(|value| value as u16);
    let drawn = project.path("half.png");
    write_gray_png16(&drawn, values.slice(ndarray::s![..;2, ..;2])).expect("a file");
    for (extra, size) in [(&["--level", "1um"][..], 1.0), (&["--level", "1", "--pixel-size", "0.4"], 0.8)] {
        json(&cellsparse(&[&small_training(&zarr, &drawn, &model)[..], extra].concat()));
        let told = json(&cellsparse(&["info", &model, "--json"]));
        assert_eq!(told["pixel_size"], serde_json::json!([size, size]), "{extra:?}");
    }
}

#[test]
fn a_slide_is_trained_on_around_what_was_drawn() {
    let project = Project::new();
    let field = draw_field(&FieldOptions { height: 128, width: 128, ..FieldOptions::default() }, 4).expect("a field");
    let Image::U8(drawn) = &field.image else { panic!("fields are 8 bit") };
    let drawn = drawn.index_axis(Axis(2), 0);
    // Two fields in an image of 16,384 x 16,384 pixels of which nothing else is stored.
    let slide = project.root.path().join("slide.zarr");
    let places = [[64 * 10, 64 * 20], [64 * 250, 64 * 253]];
    let array = slide.join("0");
    write_array(&array, ndarray::Array2::<u8>::zeros((1, 1)).view());
    let mut metadata: Value =
        serde_json::from_str(&fs::read_to_string(array.join(".zarray")).expect("metadata")).expect("JSON");
    metadata["shape"] = serde_json::json!([16_384, 16_384]);
    metadata["fill_value"] = Value::from(3);
    fs::write(array.join(".zarray"), metadata.to_string()).expect("metadata");
    for [top, left] in places {
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let part = drawn.slice(ndarray::s![64 * row..64 * row + 64, 64 * column..64 * column + 64]);
            let chunk: Vec<u8> = part.iter().copied().collect();
            fs::write(array.join(format!("{}.{}", top / 64 + row, left / 64 + column)), chunk).expect("a chunk");
        }
    }
    write_multiscale(&slide, &["0"]);
    let mut features = Vec::new();
    for [top, left] in places {
        for label in [2, 3] {
            let one = field.truth.mapv(|value| i32::from(value == label));
            let outlines = to_geojson(&one, &GeoJsonOptions::default()).expect("outlines");
            let Value::Array(outlines) = serde_json::to_value(outlines).expect("JSON") else { panic!("a list") };
            for mut feature in outlines {
                for ring in feature["geometry"]["coordinates"].as_array_mut().expect("rings") {
                    for point in ring.as_array_mut().expect("points") {
                        let moved = |at: usize, by: usize| point[at].as_f64().expect("a number") + by as f64;
                        *point = serde_json::json!([moved(0, left), moved(1, top)]);
                    }
                }
                features.push(feature);
            }
        }
    }
    let labels = project.path("slide.geojson");
    fs::write(&labels, Value::Array(features).to_string()).expect("a file");
    let (slide, model) = (slide.display().to_string(), project.path("m.safetensors"));
    let train = |extra: &[&str]| cellsparse(&[&small_training(&slide, &labels, &model)[..], extra].concat());
    // All of it as floats alone would be a gigabyte.
    let output = train(&["--memory", "400M"]);
    json(&output);
    let said = stderr(&output);
    assert!(
        said.contains("2 parts around what was drawn, 0.1 of 268 megapixels, are read, since all of it would take"),
        "{said}"
    );
    assert!(said.contains("intensities are scaled by those of the whole image"), "{said}");
    let output = cellsparse(&["info", &model, "--json"]);
    assert_eq!(json(&output)["pixel_size"], serde_json::json!([0.5, 0.5]), "{}", stdout(&output));

    // A label image of the same size does as well; what lies outside and what does not fit is refused in words.
    let label_slide = project.root.path().join("labels.zarr");
    write_array(&label_slide, ndarray::Array2::<u8>::zeros((1, 1)).view());
    metadata["fill_value"] = Value::from(0);
    fs::write(label_slide.join(".zarray"), metadata.to_string()).expect("metadata");
    let mut chunk = vec![0u8; 64 * 64];
    (20..40).for_each(|row| chunk[64 * row + 20..64 * row + 40].fill(2));
    fs::write(label_slide.join("10.21"), chunk).expect("a chunk");
    let label_slide = label_slide.display().to_string();
    let line = small_training(&slide, &label_slide, &model);
    let output = cellsparse(&[&line[..], &["--level", "0", "--label-encoding", "wire"]].concat());
    assert!(
        stderr(&output).contains("1 part around what was drawn, 0.0 of 268 megapixels, is read, since a level"),
        "{}",
        stderr(&output)
    );
    assert!(output.status.success());
    let output = train(&["--level", "1"]);
    assert!(stderr(&output).contains("level 1 was asked for and the image has 1"), "{}", stderr(&output));
    write_gray_png16(project.path("small.png"), ndarray::Array2::<u16>::from_elem((9, 9), 2).view()).expect("a file");
    let small = project.path("small.png");
    let output = cellsparse(&[&small_training(&slide, &small, &model)[..], &["--memory", "400M"]].concat());
    assert!(stderr(&output).contains("the annotations are for 9 x 9: none of its levels fits"), "{}", stderr(&output));
}
