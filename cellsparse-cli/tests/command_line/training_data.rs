//! What a training says of its files: how they were read, and which were left out.

use cellsparse_core::raster::write_rgb_png;

use super::*;

/// Trains a step.
fn train(algorithm: &str, images: &str, labels: &str, model: &str, extra: &[&str]) -> Output {
    let data = ["train", "--algorithm", algorithm, "--images", images, "--labels", labels, "--model", model];
    let small = ["--steps", "1", "--batch-size", "1", "--patch-size", "64", "--device", "cpu", "--threads", "1"];
    cellsparse(&[&data[..], &small, &["--json"], extra].concat())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn channels_that_are_averaged_are_said() {
    let project = Project::new();
    let colour = project.path("colour");
    fs::create_dir(&colour).expect("a folder");
    for name in ["field_0.png", "field_1.png"] {
        let image = read_image(project.path(&format!("images/{name}"))).expect("an image");
        let Image::U8(grey) = image else { panic!("fields are 8 bit") };
        let rgb = grey.broadcast((96, 112, 3)).expect("three channels").to_owned();
        write_rgb_png(Path::new(&colour).join(name), rgb.view()).expect("a picture");
    }
    let (sparse, model) = (project.path("sparse"), project.path("m.safetensors"));
    let said =
        |what: &str| format!("{what} 3 channels and the model takes 1: the mean of all 3 is taken; where cells show");
    let trained = train("elephant", &colour, &sparse, &model, &["--channels", "1"]);
    let facts = json(&trained);
    assert!(stderr(&trained).contains(&said("the training images have")), "{}", stderr(&trained));
    assert!(stderr(&trained).contains("in some of them only, choose with --select-channels N,..."));
    assert!(facts["notes"].to_string().contains(&said("the training images have")), "{facts}");
    let predict = |extra: &[&str]| {
        let out = project.path("out");
        let line = ["predict", "--model", &model, "--images", &colour, "--out", &out, "--device", "cpu", "--json"];
        let output = cellsparse(&[&line[..], extra].concat());
        (json(&output)[0]["notes"].to_string(), stderr(&output))
    };
    let (notes, printed) = predict(&[]);
    assert!(notes.contains(&said("the image has")) && printed.contains(&said("the image has")), "{printed}");
    assert!(!predict(&["--select-channels", "2"]).1.contains("the mean of"));
    let chosen = train("elephant", &colour, &sparse, &model, &["--channels", "1", "--select-channels", "1"]);
    assert!(!stderr(&chosen).contains("the mean of"));

    // StarDist takes no mean; the file of before stays, and nothing else is said.
    let before = fs::read(&model).expect("a model");
    let refused = train("stardist", &colour, &sparse, &model, &["--channels", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.contains("it has 3 channels") && text.contains("--select-channels N,..."), "{text}");
    assert!(!text.contains("replacing") && fs::read(&model).expect("a model") == before, "{text}");
    let replaced = train("stardist", &project.path("images"), &sparse, &model, &[]);
    assert!(replaced.status.success() && stderr(&replaced).contains("replacing"), "{}", stderr(&replaced));
}

#[test]
fn a_bad_file_does_not_stop_a_training() {
    let project = Project::new();
    let (images, sparse, model) = (project.path("images"), project.path("sparse"), project.path("m.safetensors"));
    let bytes = fs::read(project.path("images/field_0.png")).expect("an image");
    for (image, labels) in [("field_2", &bytes[..300]), ("field_3", &bytes[..])] {
        fs::write(format!("{images}/{image}.png"), labels).expect("a file");
    }
    fs::copy(project.path("sparse/field_0.png"), project.path("sparse/field_2.png")).expect("a copy");
    fs::write(project.path("sparse/field_3.png"), b"no labels").expect("a file");
    let output = train("stardist", &images, &sparse, &model, &["--val-images", &images, "--val-labels", &sparse]);
    let facts = json(&output);
    let unused: Vec<(&str, &str)> = facts["not_used"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["file"].as_str().expect("a file"), one["reason"].as_str().expect("a reason")))
        .collect();
    assert_eq!(unused.len(), 4, "two of the training and two of the validation: {unused:?}");
    assert!(unused[0].0.ends_with("images/field_2.png") && !unused[0].1.is_empty(), "{unused:?}");
    assert!(unused[1].0.ends_with("sparse/field_3.png") && unused[1].1.contains("PNG"), "{unused:?}");
    let said = stderr(&output);
    for line in ["images/field_2.png: not used: ", "sparse/field_3.png: not used: "] {
        assert_eq!(said.matches(line).count(), 2, "{said}");
    }
    assert!(said.lines().next().is_some_and(|line| line.contains("field_2.png: not used: ")), "{said}");
    assert!(
        said.lines().last().is_some_and(|line| line.starts_with("not used: ") && line.contains("field_3")),
        "{said}"
    );
    let labels = facts["labels"].as_array().expect("a list");
    assert_eq!((labels.len(), &labels[0]["encoding"]), (2, &Value::from("wire")));
    assert_eq!(labels[0]["path"], sparse.as_str());
    assert!(labels[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));

    let alone = ["train", "--algorithm", "stardist", "--model", &model, "--images"];
    let bad = format!("{images}/field_2.png");
    let good = project.path("sparse/field_0.png");
    assert_fails(&[&alone[..], &[&bad, "--labels", &good]].concat(), "images/field_2.png: ");
    fs::remove_file(project.path("images/field_0.png")).expect("a file");
    fs::remove_file(project.path("images/field_1.png")).expect("a file");
    let output = train("stardist", &images, &sparse, &model, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).lines().last().is_some_and(|line| line.contains("0 of 2 pairs")), "{}", stderr(&output));
}

#[test]
fn an_image_of_other_channels_than_most_is_left_out() {
    let project = Project::new();
    let (images, sparse, model) = (project.path("images"), project.path("sparse"), project.path("m.safetensors"));
    let rgb = ndarray::Array3::<u8>::from_elem((96, 112, 3), 7);
    write_rgb_png(Path::new(&images).join("field_2.png"), rgb.view()).expect("a picture");
    fs::copy(project.path("sparse/field_0.png"), project.path("sparse/field_2.png")).expect("a copy");
    let facts = json(&train("stardist", &images, &sparse, &model, &[]));
    let reason = facts["not_used"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("3 channels and most images have 1") && reason.contains("--select-channels"), "{reason}");
}

#[test]
fn a_cell_that_wire_makes_background_is_warned_about() {
    let project = Project::new();
    let (images, model) = (project.path("images"), project.path("m.safetensors"));
    let warning = "What is declared background is one region that is as large as the drawn 2 cells";
    let said = stderr(&train("stardist", &images, &project.few_cells(), &model, &["--label-encoding", "wire"]));
    assert!(said.contains(warning) && said.contains("--label-encoding cells"), "{said}");
    let said = stderr(&train("stardist", &images, &project.path("sparse"), &model, &["--label-encoding", "wire"]));
    assert!(!said.contains("What is declared background"), "{said}");
}

#[test]
fn transparency_that_is_left_out_is_in_the_json() {
    let project = Project::new();
    let images = project.path("layers");
    fs::create_dir(&images).expect("a folder");
    let image = read_image(project.path("images/field_0.png")).expect("an image");
    let Image::U8(grey) = image else { panic!("fields are 8 bit") };
    let mut file = Vec::new();
    {
        let mut encoder = png::Encoder::new(&mut file, 112, 96);
        encoder.set_color(png::ColorType::GrayscaleAlpha);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().expect("a header");
        let pairs: Vec<u8> = grey.iter().enumerate().flat_map(|(at, value)| [*value, at as u8]).collect();
        writer.write_image_data(&pairs).expect("pixels");
    }
    fs::write(Path::new(&images).join("field_0.png"), file).expect("a file");
    let (sparse, model) = (project.path("sparse/field_0.png"), project.path("m.safetensors"));
    let facts = json(&train("stardist", &images, &sparse, &model, &[]));
    let left_out = "channel 2 is tagged as transparency and was left out";
    assert!(texts(&facts["notes"]).iter().any(|note| note.contains(left_out)), "{facts}");
    let out = project.path("out");
    let line = ["predict", "--model", &model, "--images", &images, "--out", &out, "--device", "cpu", "--json"];
    let results = json(&cellsparse(&line));
    assert!(texts(&results[0]["notes"]).iter().any(|note| note.starts_with(left_out)), "{results}");
}

#[test]
fn advice_is_in_the_json() {
    let project = Project::new();
    let (images, model) = (project.path("images"), project.path("m.safetensors"));
    let output = train("stardist", &images, &project.few_cells(), &model, &["--label-encoding", "cells"]);
    let (said, facts) = (stderr(&output), json(&output));
    let printed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("advice: ")).collect();
    let told = texts(&facts["advice"]);
    assert!(told.iter().any(|hint| hint.starts_with("No background is drawn")), "{facts}");
    assert!(told.iter().all(|hint| printed.contains(hint)), "{told:?}, {printed:?}");
}

#[test]
fn a_message_names_the_file_that_it_is_about() {
    let project = Project::new();
    let (images, masks, out) = (project.path("images"), project.path("masks"), project.path("few"));
    fs::write(project.path("masks/field_0.png"), b"no labels").expect("a file");
    let output = cellsparse(&["sparsify", "--images", &images, "--labels", &masks, "--out", &out, "--k", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("masks/field_0.png: ") && !text.contains("images/field_0.png"), "{text}");
}

#[test]
fn labels_of_another_size_are_told_before_it_is_asked_what_they_mean() {
    let project = Project::new();
    let (images, labels, model) = (project.path("images"), project.few_cells(), project.path("m.safetensors"));
    let asked = stderr(&train("stardist", &images, &labels, &model, &[]));
    assert!(asked.contains("--label-encoding"), "a question: {asked}");
    for name in ["field_0", "field_1"] {
        let few = project.truth(name).mapv(|label| if label <= 3 { label } else { 0 });
        write_labels(&labels, name, &few.slice(ndarray::s![..40, ..]).to_owned()).expect("labels");
    }
    let output = train("stardist", &images, &labels, &model, &[]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("96 x 112") && told.contains("40 x 112") && !told.contains("--label-encoding"), "{told}");
}
