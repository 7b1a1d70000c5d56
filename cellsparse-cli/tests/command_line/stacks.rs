//! Stacks of planes and time points, and pixels of a known size.

use super::*;

/// A stack of the drawn field at two planes and two time points as ImageJ saves it, with pixels of that many micrometres.
fn imagej_stack(pixels: &[u8], [rows, columns]: [u32; 2], pages: u32, micrometres: f64) -> Vec<u8> {
    let mut text = format!("ImageJ=1.54p\nimages={pages}\nslices=2\nframes={}\nunit=um\n\0", pages / 2).into_bytes();
    text.resize(text.len().next_multiple_of(4), 0);
    let (text_at, ratio_at) = (8, 8 + text.len() as u32);
    let (data_at, length) = (ratio_at + 8, pixels.len() as u32);
    let mut file = [b"II*\0".as_slice(), &(data_at + pages * length).to_le_bytes(), &text].concat();
    file.extend([(1e6 / micrometres) as u32, 1_000_000].iter().flat_map(|number| number.to_le_bytes()));
    for page in 0..pages {
        file.extend(pixels.iter().map(|value| value.saturating_add(page as u8)));
    }
    for page in 0..pages {
        let tags: [(u16, u16, u32, u32); 11] = [
            (256, 4, 1, columns),
            (257, 4, 1, rows),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (270, 2, text.len() as u32, text_at),
            (273, 4, 1, data_at + page * length),
            (278, 4, 1, rows),
            (279, 4, 1, length),
            (282, 5, 1, ratio_at),
            (283, 5, 1, ratio_at),
        ];
        file.extend((tags.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in tags {
            file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
            file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
        }
        let next = if page + 1 == pages { 0 } else { file.len() as u32 + 4 };
        file.extend(next.to_le_bytes());
    }
    file
}

/// A folder with two stacks of the first field, whose pixels differ in size.
fn stacks(project: &Project) -> String {
    let images = project.path("stacks");
    fs::create_dir(&images).expect("a folder");
    let field = draw_field(&FieldOptions { height: 96, width: 112, ..FieldOptions::default() }, 0).expect("a field");
    let Image::U8(pixels) = &field.image else { panic!("fields are 8 bit") };
    let pixels: Vec<u8> = pixels.iter().copied().collect();
    for (name, micrometres) in [("field_0.tif", 0.5), ("field_1.tif", 0.25)] {
        let path = Path::new(&images).join(name);
        fs::write(path, imagej_stack(&pixels, [96, 112], 4, micrometres)).expect("a file");
    }
    images
}

/// Trains two steps on the stacks.
fn train(project: &Project, images: &str, extra: &[&str]) -> Output {
    let (sparse, model) = (project.path("sparse"), project.path("m.safetensors"));
    let data = ["train", "--algorithm", "stardist", "--images", images, "--labels", &sparse, "--model", &model];
    let small = ["--steps", "2", "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--threads", "1"];
    cellsparse(&[&data[..], &small, extra].concat())
}

const PLACE: [&str; 4] = ["--plane", "1", "--frame", "2"];

#[test]
fn one_plane_of_each_stack_is_trained_on_at_one_pixel_size() {
    let project = Project::new();
    let images = stacks(&project);
    let train = |extra: &[&str]| train(&project, &images, extra);
    assert!(
        stderr(&train(&[]))
            .contains("2 planes (Z) and 2 time points (T) of 96 x 112 pixels; choose a plane (1 to 2); pass --plane N")
    );
    assert_eq!(train(&["--plane", "all"]).status.code(), Some(2));
    let said = stderr(&train(&PLACE));
    assert!(said.contains("1 of 2 images is scaled to the pixel size of the others, 0.5 micrometres"), "{said}");
    let said = stderr(&train(&[&PLACE[..], &["--no-rescale"]].concat()));
    assert!(said.contains("1 of 2 images has pixels of another size"), "{said}");
    assert!(!stderr(&train(&[&PLACE[..], &["--pixel-size", "0.5"]].concat())).contains("micrometres"));
    let info = json(&cellsparse(&["info", &project.path("m.safetensors"), "--json"]));
    assert_eq!(info["pixel_size"], serde_json::json!([0.5, 0.5]));
    assert!((info["cell_diameter_um"].as_f64().unwrap() / info["cell_diameter"].as_f64().unwrap() - 0.5).abs() < 1e-9);
}

#[test]
fn planes_are_chosen_where_there_are_several() {
    let project = Project::new();
    let (image, model) = (project.path("images/field_0.png"), project.path("m.safetensors"));
    let labels = project.path("labels.tif");
    let RawLabels::Unsigned(drawn) = read_label_file(project.path("sparse/field_0.png")).expect("labels") else {
        panic!("unsigned labels")
    };
    let drawn: Vec<u8> = drawn.iter().map(|value| *value as u8).collect();
    fs::write(&labels, imagej_stack(&drawn, [96, 112], 4, 1.0)).expect("a file");
    let train = |extra: &[&str]| {
        let data = ["train", "--algorithm", "stardist", "--images", &image, "--labels", &labels, "--model", &model];
        let small = ["--steps", "1", "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--threads", "1"];
        cellsparse(&[&data[..], &small, extra].concat())
    };
    let text = stderr(&train(&[]));
    assert!(text.contains("labels.tif: ") && text.contains("choose a plane (1 to 2); pass --plane N"), "{text}");
    assert!(!text.contains("predict"), "{text}");
    let first = train(&["--plane", "1", "--frame", "1"]);
    assert!(first.status.success() && stderr(&first).contains("labels: wire"), "{}", stderr(&first));
    // One is added to every number of the second plane.
    let second = train(&["--plane", "2", "--frame", "1"]);
    assert!(second.status.success() && stderr(&second).contains("because no value is 0"), "{}", stderr(&second));

    let both = project.path("both");
    fs::create_dir(&both).expect("a folder");
    fs::copy(&image, format!("{both}/flat.png")).expect("a copy");
    fs::copy(&labels, format!("{both}/stack.tif")).expect("a copy");
    let predict = |images: &str, plane: &str, out: &str| {
        let out = project.path(out);
        let line = ["predict", "--model", &model, "--images", images, "--out", &out, "--device", "cpu", "--frame", "1"];
        let output = cellsparse(&[&line[..], &["--plane", plane]].concat());
        (output.status.code(), stderr(&output), names(Path::new(&out)))
    };
    assert_eq!(predict(&both, "2", "one").2, ["flat.png", "stack.png"]);
    assert_eq!(predict(&both, "1,2", "two").2, ["flat.png", "stack_z001.png", "stack_z002.png"]);
    fs::create_dir(project.path("none")).expect("a folder");
    let (status, text, written) = predict(&image, "2", "none");
    assert!(status == Some(1) && written.is_empty(), "{text}");
    assert!(text.contains("plane 2 was asked for and the file has 1"), "{text}");
}

#[test]
fn stacks_give_one_result_for_each_plane() {
    let project = Project::new();
    let (images, model) = (stacks(&project), project.path("m.safetensors"));
    assert_eq!(train(&project, &images, &[&PLACE[..], &["--pixel-size", "0.5"]].concat()).status.code(), Some(0));
    let out = project.path("out");
    let predict = ["predict", "--model", &model, "--images", &images, "--out", &out, "--device", "cpu", "--json"];
    let results = json(&cellsparse(&[&predict[..], &["--plane", "all", "--frame", "1-2"]].concat()));
    let results = results.as_array().expect("a list");
    assert_eq!(results.len(), 8);
    assert_eq!((&results[1]["plane"], &results[1]["frame"]), (&Value::from(2), &Value::from(1)));
    let scaled =
        "a pixel of the image has 0.25 micrometres, one of the training 0.5: the image is seen at 0.5 times its size";
    assert!(!results[0]["notes"].as_array().expect("notes").contains(&Value::from(scaled)));
    assert_eq!(results[5]["notes"][0], scaled);
    let of_first: Vec<String> = names(Path::new(&out)).into_iter().filter(|name| name.starts_with("field_0")).collect();
    let expected = ["field_0_t001_z001.png", "field_0_t001_z002.png", "field_0_t002_z001.png", "field_0_t002_z002.png"];
    assert_eq!(of_first, expected);
    // One plane is an image like any other; a plane that is not there fails alone.
    let one = project.path("one");
    let image = format!("{images}/field_1.tif");
    let predict = ["predict", "--model", &model, "--images", &image, "--out", &one, "--device", "cpu", "--json"];
    let results = json(&cellsparse(&[&predict[..], &["--plane", "2", "--frame", "2", "--no-rescale"]].concat()));
    assert!(results[0]["plane"].is_null() && !results[0]["notes"].to_string().contains("micrometres"), "{results}");
    assert_eq!(names(Path::new(&one)), ["field_1.png"]);
    let some = cellsparse(&[&predict[..], &["--plane", "2,3", "--frame", "2", "--format", "csv,geojson"]].concat());
    assert_eq!(some.status.code(), Some(1));
    let listed: Value = serde_json::from_str(&stdout(&some)).expect("a list");
    assert!(listed[1]["error"].as_str().expect("a reason").contains("plane 3 was asked for and the file has 2"));
    assert_eq!(names(Path::new(&one)), ["field_1.png", "field_1_z002.csv", "field_1_z002.geojson"]);
    let text = stderr(&cellsparse(&[&predict[..], &["--plane", "1"]].concat()));
    assert!(text.contains("choose a frame (1 to 2); pass --frame N"), "{text}");
}

#[test]
fn the_pixel_size_of_an_image_reaches_its_results() {
    use cellsparse_core::raster::{ReadOptions, read_image, read_image_with};
    let project = Project::new();
    let model = trained(&project, "stardist", "20");
    let grey = read_image(project.path("images/field_0.png")).expect("an image").to_f32();
    let grey = grey.index_axis(ndarray::Axis(2), 0).mapv(|value| value as i32);
    let (image, out) = (project.path("sized.ome.tif"), project.path("out"));
    cellsparse_core::formats::write_ome_tiff(&image, "sized", &grey, Some([0.5, 0.25])).expect("an image");
    let predict = ["predict", "--model", &model, "--images", &image, "--out", &out, "--format", "csv,ometiff"];
    let done = cellsparse(&[&predict[..], &["--prob-thresh", "0.05", "--device", "cpu"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let table = fs::read_to_string(Path::new(&out).join("sized.csv")).expect("a table");
    let areas = csv_column(&table, "area").into_iter().zip(csv_column(&table, "area_um2"));
    let areas: Vec<(f64, f64)> =
        areas.map(|(a, b)| (a.parse().expect("a number"), b.parse().expect("a number"))).collect();
    assert!(
        !areas.is_empty() && areas.iter().all(|(pixels, square)| (pixels * 0.125 - square).abs() < 1e-9),
        "{areas:?}"
    );
    let labels = read_image_with(Path::new(&out).join("sized.ome.tif"), &ReadOptions::default()).expect("labels");
    assert_eq!(labels.pixel_size, Some([0.5, 0.25]));
}
