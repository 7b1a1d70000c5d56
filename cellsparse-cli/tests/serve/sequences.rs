//! The requests of the QuPath extension 0.2.0, with its exact fields, and what is offered beyond them.

use cellsparse_core::raster::write_gray_png8;
use ndarray::Array2;
use serde_json::{Value, json};

use crate::server::{ALGORITHMS, Server, base64, body, draw, quick_training};

/// The menu commands Training, Inference and Reset of one algorithm.
fn replay(algorithm: &str, epochs: u32) {
    // QuPath's fields cannot ask for less work than large batches, which take long here. So the model has learned something
    // from small ones before, and the server gives a training little time.
    let mut patient = Server::start_tiny(&[]);
    let drawing = draw(128, 3);
    let path = format!("/{algorithm}/");
    let rate = if algorithm == "stardist" { 0.002 } else { 0.01 };
    let small = json!({ "train": true, "eval": true, "steps": 150, "trainpatch": 48, "batchsize": 2, "lr": rate });
    check(&patient.post(&path, &body(&drawing, small)).features(), algorithm);
    patient.kill();
    let server = Server::start_in(patient.folder(), &["--max-seconds", "2"]);
    let request = |train: bool| {
        body(&drawing, json!({ "train": train, "eval": true, "epochs": epochs, "batchsize": 8, "steps": 200 }))
    };
    let trained = server.post(&path, &request(true)).features();
    check(&trained, algorithm);
    let epochs = if algorithm == "cellpose" { 1 } else { epochs };
    let inference =
        body(&drawing, json!({ "train": false, "eval": true, "epochs": epochs, "batchsize": 8, "steps": 200 }));
    let found = server.post(&path, &inference).features();
    assert_eq!(found, trained, "{algorithm}: the same weights find the same objects");
    let reset = server.post(&format!("{path}reset/"), &json!({ "modelname": "default" }));
    assert_eq!((reset.status, reset.text.as_str()), (200, "\"\""));
    assert!(!server.files().contains(&format!("{algorithm}/default.safetensors")));
    let reply = server.post(&path, &request(false));
    assert_eq!(reply.status, if algorithm == "cellpose" { 404 } else { 200 });
}

/// Objects as the extension reads them.
fn check(features: &[Value], algorithm: &str) {
    assert!(!features.is_empty(), "{algorithm}: {} objects", features.len());
    for (index, feature) in features.iter().enumerate() {
        assert_eq!(feature["type"], "Feature");
        assert_eq!(feature["properties"], json!({ "object_idx": index, "label": "object" }));
        assert_eq!(feature["geometry"]["type"], "Polygon");
        let rings = feature["geometry"]["coordinates"].as_array().expect("rings");
        assert_eq!(rings.len(), 1, "one ring");
        let ring = rings[0].as_array().expect("points");
        assert!(ring.len() >= 5 && ring.first() == ring.last(), "{ring:?}");
    }
}

#[test]
fn qupath_stardist() {
    replay("stardist", 1);
}

#[test]
fn qupath_cellpose() {
    replay("cellpose", 5);
}

#[test]
fn qupath_elephant() {
    replay("elephant", 1);
}

#[test]
fn outlines_collections_and_several_images() {
    let server = Server::start_tiny(&[]);
    let (first, second) = (draw(96, 1), draw(64, 2));
    let images = json!([
        { "b64img": first.image, "b64lbl": first.labels },
        { "b64img": second.image, "b64lbl": null },
    ]);
    let request = json!({
        "modelname": "default", "images": images, "train": true, "eval": true, "steps": 30, "trainpatch": 64,
        "batchsize": 4, "minarea": 0,
    });
    let lists = server.post("/elephant/", &request).features();
    assert_eq!(lists.len(), 2, "one list for each image");
    assert!(lists.iter().all(Value::is_array));
    let request = json!({ "modelname": "default", "images": images, "eval": true, "minarea": 0 });
    let collections = server.post("/elephant/?format=featurecollection&outline=exact", &request).features();
    assert_eq!(collections.len(), 2);
    assert!(collections.iter().all(|one| one["type"] == "FeatureCollection"));
    let request = body(&first, json!({ "eval": true, "minarea": 0 }));
    let literal = server.post("/elephant/", &request).features();
    assert_eq!(&Value::Array(literal.clone()), &lists[0]);
    let exact = server.post("/elephant/?outline=exact", &request).features();
    assert_eq!(exact.len(), literal.len());
    assert!(!exact.is_empty());
    assert!(exact.iter().all(|feature| feature["properties"]["measurements"]["probability"].is_number()));
    let collection = server.post("/elephant/?format=featurecollection", &request).json();
    assert_eq!(collection["features"].as_array().map(Vec::len), Some(literal.len()));
    let large = server.post("/elephant/", &body(&first, json!({ "eval": true, "minarea": 1e9 }))).features();
    assert!(large.is_empty(), "minarea counts");
    assert_eq!(server.post("/elephant/?outline=round", &request).status, 422);
}

#[test]
fn what_a_request_says_stands_in_place_of_what_the_model_chose() {
    let server = Server::start_tiny(&[]);
    let drawing = draw(96, 1);
    let train = |seed: u64| {
        let more = json!({ "modelname": format!("seed{seed}"), "seed": seed, "low": [10.0], "high": [200.0] });
        let mut request = quick_training(&drawing, 20);
        request.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        request
    };
    for seed in [1, 2] {
        server.use_tiny("elephant", &format!("seed{seed}"));
        assert_eq!(server.post("/elephant/", &train(seed)).status, 200);
    }
    let losses =
        [1, 2].map(|seed| server.get(&format!("/models/elephant/seed{seed}")).json()["model"]["loss"].to_string());
    assert_ne!(losses[0], losses[1], "the seed counts");
    let eval = |more: Value| {
        let mut fields = json!({ "modelname": "seed1", "eval": true, "minarea": 0 });
        fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        server.post("/elephant/", &body(&drawing, fields))
    };
    let same = eval(json!({ "low": [10], "high": [200] })).features();
    assert_ne!(same, eval(json!({ "low": [0], "high": [20_000] })).features(), "the range counts");
    let none = eval(json!({ "low": [10], "high": [200], "prob_thresh": 0.9999 })).features();
    assert!(none.len() < same.len(), "{} of {}", none.len(), same.len());
    for (wrong, reason) in [
        (json!({ "prob_thresh": 2 }), "between 0 and 1"),
        (json!({ "low": [1] }), "same length"),
        (json!({ "low": [1], "high": [1] }), "high above low"),
        (json!({ "low": [1, 1], "high": [2, 2] }), "2 numbers for an image with 1 channel;"),
        (json!({ "low": ["dark"], "high": [2] }), "valid float"),
        (json!({ "seed": -1 }), "greater than or equal to 0"),
    ] {
        let reply = eval(wrong);
        assert_eq!((reply.status, reply.text.contains(reason)), (422, true), "{reply:?}");
    }
}

#[test]
fn an_image_without_cells_is_left_out_of_a_training() {
    let server = Server::start_tiny(&[]);
    let drawing = draw(64, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("background.png");
    write_gray_png8(&path, Array2::ones((64, 64)).view()).expect("labels");
    let background = base64(&std::fs::read(&path).expect("a file"));
    let negative = json!({ "b64img": drawing.image, "b64lbl": background });
    let both = json!([{ "b64img": drawing.image, "b64lbl": drawing.labels }, negative]);
    let mut request = quick_training(&drawing, 1);
    request["images"] = both;
    let reply = server.post("/stardist/", &request);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("x-cellsparse-note").is_some_and(|note| note.starts_with("1 of 2 images")), "{reply:?}");
    request["images"] = json!([negative]);
    let reply = server.post("/stardist/", &request);
    assert_eq!((reply.status, reply.text.contains("no cell is annotated")), (422, true), "{reply:?}");
}

#[test]
fn label_encodings_pixel_sizes_and_notes() {
    let server = Server::start_tiny(&[]);
    let drawing = draw(64, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let mut cells = Array2::<u8>::zeros((64, 64));
    cells.slice_mut(ndarray::s![5..15, 5..15]).fill(1);
    cells.slice_mut(ndarray::s![30..41, 30..40]).fill(2);
    let path = folder.path().join("cells.png");
    write_gray_png8(&path, cells.view()).expect("labels");
    let mut request = quick_training(&drawing, 1);
    request["b64lbl"] = base64(&std::fs::read(&path).expect("a file")).into();
    request["label_encoding"] = "cells".into();
    request["pixel_size"] = 0.5.into();
    let reply = server.post("/stardist/", &request);
    assert_eq!(reply.status, 200, "{reply:?}");
    let model = server.get("/models/stardist/default").json();
    assert_eq!(model["model"]["pixel_size"], json!([0.5, 0.5]), "{model}");
    request["label_encoding"] = "auto".into();
    let reply = server.post("/stardist/", &request);
    let note = reply.header("x-cellsparse-note").unwrap_or_default().to_owned();
    assert!(reply.status == 422 || note.starts_with("labels: "), "{reply:?}");
    for (name, value, status) in
        [("label_encoding", json!("odd"), 422), ("pixel_size", json!(0), 422), ("rescale", json!("x"), 422)]
    {
        let mut wrong = request.clone();
        wrong[name] = value;
        assert_eq!(server.post("/stardist/", &wrong).status, status, "{name}");
    }
    let eval = |more: Value| {
        let mut fields = json!({ "eval": true, "minarea": 0 });
        fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        let reply = server.post("/stardist/", &body(&drawing, fields));
        reply.header("x-cellsparse-note").unwrap_or_default().to_owned()
    };
    assert!(eval(json!({ "pixel_size": 0.25 })).contains("seen at 0.5 times its size"));
    assert!(!eval(json!({ "pixel_size": 0.25, "rescale": false })).contains("micrometres"));
    assert!(!eval(json!({})).contains("micrometres"));
    let dark = folder.path().join("dark.png");
    write_gray_png8(&dark, Array2::zeros((64, 64)).view()).expect("an image");
    let empty = base64(&std::fs::read(&dark).expect("a file"));
    assert!(eval(json!({ "b64img": empty })).starts_with("nothing found: the image is the same everywhere"));
}

#[test]
fn the_server_chooses_the_algorithm_and_keeps_to_it() {
    let server = Server::start_tiny(&["--max-seconds", "1"]);
    let drawing = draw(64, 1);
    let named = |mut request: Value| {
        request["modelname"] = "own".into();
        request
    };
    let eval = named(body(&drawing, json!({ "eval": true })));
    assert_eq!(server.post("/auto/", &eval).status, 404);
    let reply = server.post("/auto/", &named(quick_training(&drawing, 1)));
    assert_eq!(reply.status, 200, "{reply:?}");
    let algorithm = reply.header("x-cellsparse-algorithm").expect("the algorithm").to_owned();
    let note = reply.header("x-cellsparse-note").unwrap_or_default();
    assert!(note.contains(&format!("{algorithm} fits the drawn cells best")), "{reply:?}");
    assert_eq!(server.get(&format!("/models/{algorithm}/own")).status, 200);
    let reply = server.post("/auto/", &eval);
    assert_eq!((reply.status, reply.header("x-cellsparse-algorithm")), (200, Some(algorithm.as_str())), "{reply:?}");
}

#[test]
fn label_files_of_every_kind_and_colour_images_train() {
    let server = Server::start_tiny(&[]);
    let text = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/cellsparse/label_png.json"),
    );
    let labels: Value = serde_json::from_str(&text.expect("a fixture")).expect("JSON");
    let picture = ndarray::Array3::from_shape_fn((48, 60, 3), |(y, x, c)| (y * 5 + x * (c + 1)) as u8);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rgb.png");
    cellsparse_core::raster::write_rgb_png(&path, picture.view()).expect("a picture");
    let colour = base64(&std::fs::read(&path).expect("a file"));
    for algorithm in ALGORITHMS {
        for kind in ["gray8", "palette8", "gray16"] {
            let request = json!({
                "modelname": "default", "b64img": colour, "b64lbl": labels[kind], "train": true, "eval": true,
                "steps": 1, "batchsize": 1, "trainpatch": 32, "unknown field": [],
            });
            let reply = server.post(&format!("/{algorithm}/"), &request);
            assert_eq!(reply.status, 200, "{algorithm}, {kind}: {}", reply.text);
        }
    }
    // A new StarDist model reads the colours of its first image, and grey images still.
    let mut request = json!({
        "modelname": "colours", "b64img": colour, "b64lbl": labels["palette8"], "train": true, "steps": 1,
        "batchsize": 1, "trainpatch": 32,
    });
    assert_eq!(server.post("/stardist/", &request).status, 200);
    let model = server.get("/models/stardist/colours").json();
    assert_eq!(model["model"]["config"]["n_channels"], 3, "{model}");
    request["eval"] = true.into();
    request["train"] = false.into();
    request["b64img"] = draw(48, 1).image.into();
    assert_eq!(server.post("/stardist/", &request).status, 200);
    // Cellpose's fields choose channels.
    for (chan1, chan2, status) in [(2, 0, 200), (0, 1, 422), (4, 0, 422)] {
        let request = json!({ "modelname": "default", "b64img": colour, "eval": true, "chan1": chan1, "chan2": chan2 });
        assert_eq!(server.post("/cellpose/", &request).status, status, "{chan1} {chan2}");
    }
}

#[test]
fn training_goes_on_by_name_and_resets_begin_anew() {
    let server = Server::start_tiny(&[]);
    let drawing = draw(64, 5);
    let steps = || server.get("/models/stardist/default").json()["model"]["steps"].clone();
    assert_eq!(steps(), 0);
    for total in [3, 6] {
        assert_eq!(server.post("/stardist/", &quick_training(&drawing, 3)).text, "[]");
        assert_eq!(steps(), total);
    }
    let models = server.get("/models").json();
    let listed = models["models"].as_array().expect("a list");
    assert_eq!(listed.len(), 3, "{models}");
    let star = listed.iter().find(|model| model["algorithm"] == "stardist").expect("the model");
    assert_eq!((&star["model"]["resumable"], &star["training"]["state"]), (&true.into(), &"idle".into()));
    server.use_tiny("stardist", "default");
    assert_eq!(steps(), 0);
    let absent = json!({ "modelname": "default", "pretrained": "https://example.org/model" });
    assert_eq!(server.post("/stardist/reset/", &absent).status, 422);
    let other = json!({ "modelname": "default", "pretrained": "tiny-cellpose" });
    assert_eq!(server.post("/stardist/reset/", &other).status, 422);
    assert_eq!(steps(), 0, "a refused reset removes nothing");
}
