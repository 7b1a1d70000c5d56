//! The page at `/app` and its interface: protected as the rest, and no stroke is lost.

use std::path::Path;
use std::time::Instant;

use cellsparse_core::raster::{Image, write_gray_png8};
use cellsparse_core::synthetic::{FieldOptions, draw_field};
use ndarray::Axis;
use serde_json::{Value, json};

use crate::server::{PATIENCE, Server};

const PROJECT: &str = "/app/api/projects/My%20cells";

/// A folder with one drawn field of 96 x 80 pixels.
fn images(root: &Path) -> String {
    let folder = root.join("images");
    std::fs::create_dir(&folder).unwrap();
    let field = draw_field(&FieldOptions { height: 96, width: 80, ..FieldOptions::default() }, 3).unwrap();
    let Image::U8(pixels) = field.image else { panic!("8 bit") };
    write_gray_png8(folder.join("field.png"), pixels.index_axis(Axis(2), 0)).unwrap();
    folder.to_str().unwrap().to_owned()
}

fn square(x: u32, y: u32, ink: &str) -> Value {
    let points = [[x, y], [x + 12, y], [x + 12, y + 12], [x, y + 12]];
    json!({ "kind": "paint", "shape": { "shape": "polygon", "points": points }, "ink": { "ink": ink } })
}

#[track_caller]
fn ok(reply: crate::server::Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[test]
fn every_stroke_is_there_again_after_the_server_was_killed() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    let models = root.path().join("models");
    let arguments = ["--images", folder.as_str()];
    let server = Server::start_in(&models, &arguments);
    assert_eq!(ok(server.get("/app/api/state"))["folder"], json!(["field.png"]));
    let project = ok(server.post(PROJECT, &json!({})));
    assert_eq!((&project["name"], &project["images"]), (&json!("My cells"), &json!([])));
    let image = ok(server.post(&format!("{PROJECT}/from-folder"), &json!({ "name": "field.png" })));
    assert_eq!((&image["id"], &image["rows"], &image["columns"]), (&json!(1), &json!(96), &json!(80)));
    let path = format!("{PROJECT}/images/1");
    let edit = |server: &Server, edit: &Value| ok(server.post(&format!("{path}/edit"), edit));
    assert_eq!(edit(&server, &square(10, 10, "cell"))["cell"], 1);
    edit(&server, &square(40, 40, "cell"));
    edit(&server, &square(60, 60, "background"));
    edit(&server, &json!({ "kind": "undo" }));
    let last = edit(&server, &square(60, 10, "background"));
    assert_eq!((&last["cells"], &last["background"], &last["box"]), (&json!(2), &json!(144), &json!([10, 60, 22, 72])));
    let before = ok(server.get(&format!("{path}/drawn")));
    // Dropped, it is killed.
    drop(server);
    let server = Server::start_in(&models, &arguments);
    assert_eq!(ok(server.get("/app/api/state"))["projects"], json!(["My cells"]));
    let after = ok(server.get(&format!("{path}/drawn")));
    assert_eq!((&before["runs"], &before["cells"]), (&after["runs"], &after["cells"]));
    // Corrections of what is drawn: both ways to say where it is.
    let objects = ok(server.get(&format!("{path}/objects")));
    assert_eq!(objects["objects"].as_array().unwrap().len(), 2);
    assert_eq!(objects["objects"][0]["drawn"], true);
    let erased = ok(server.post(&format!("{path}/correct"), &json!({ "kind": "delete", "at": [45.0, 45.0] })));
    assert_eq!(erased["cells"], 1);
    for form in ["csv", "geojson"] {
        let reply = server.get(&format!("{path}/results?form={form}"));
        assert_eq!(reply.status, 200);
        let name = reply.header("content-disposition").unwrap_or_default().to_owned();
        assert!(name.starts_with("attachment; filename=\"field-cells."), "{name}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    let server = Server::start_in(&root.path().join("models"), &["--images", &folder]);
    ok(server.post(PROJECT, &json!({})));
    ok(server.post(&format!("{PROJECT}/from-folder"), &json!({ "name": "field.png" })));
    let path = format!("{PROJECT}/images/1");
    let stroke = |radius: Value| json!({ "kind": "paint", "shape": { "shape": "stroke", "points": [[1, 1]], "radius": radius }, "ink": { "ink": "cell" } });
    for (path, body, status, reason) in [
        ("/app/api/projects/..%2Fx".to_owned(), json!({}), 422, "not a usable name"),
        (format!("{PROJECT}/from-folder"), json!({ "name": "../secret.png" }), 404, "no image"),
        (format!("{PROJECT}/images?name=x.png"), json!({ "no": "image" }), 422, "not a PNG"),
        (format!("{PROJECT}/images/9/edit"), square(1, 1, "cell"), 422, "no image 9"),
        (format!("{path}/edit"), stroke(json!(1e9)), 422, "radius"),
        (format!("{path}/edit"), stroke(json!("wide")), 422, "cannot be read"),
        (format!("{path}/edit"), json!({ "kind": "explode" }), 422, "cannot be read"),
        (format!("{path}/correct"), json!({ "kind": "delete", "at": [1, 1] }), 422, "no object here"),
        (format!("{PROJECT}/settings"), json!({ "seconds": 0 }), 422, "1 second"),
        (format!("{PROJECT}/settings"), json!({ "channels": [0, 1] }), 422, "channel 1 is chosen"),
    ] {
        let reply = server.post(&path, &body);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(reply.text.contains(reason), "{path}: {reply:?}");
    }
    for (path, status) in [
        (format!("{path}/pixels?side=512"), 200),
        (format!("{path}/pixels?side=512&x=900"), 422),
        (format!("{path}/results?form=exe"), 422),
        (format!("{path}/suggestions"), 422),
        (format!("{PROJECT}/model"), 404),
        ("/app/js/none.js".to_owned(), 404),
        ("/app/js/main.js".to_owned(), 200),
    ] {
        let headers: [(&str, &str); 0] = [];
        assert_eq!(server.send("GET", &path, &headers, None).status, status, "{path}");
    }
}

#[test]
fn a_project_begins_when_it_is_posted_to_and_not_when_it_is_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    let models = root.path().join("models");
    let server = Server::start_in(&models, &["--images", &folder]);
    let headers: [(&str, &str); 0] = [];
    for path in ["", "/events", "/model", "/images/1/pixels", "/images/1/objects", "/images/1/results?form=csv"] {
        let reply = server.send("GET", &format!("{PROJECT}{path}"), &headers, None);
        assert!(reply.status == 404 && reply.text.contains("no project 'My cells'"), "{path}: {reply:?}");
    }
    for path in ["/settings", "/learn", "/look", "/forget", "/from-folder", "/images/1/edit"] {
        assert_eq!(server.post(&format!("{PROJECT}{path}"), &json!({ "on": true })).status, 404, "{path}");
    }
    assert_eq!(ok(server.get("/app/api/state"))["projects"], json!([]));
    assert!(!models.join("projects/My cells").exists());
    ok(server.post(PROJECT, &json!({})));
    assert_eq!(ok(server.get(PROJECT))["name"], "My cells");
    assert_eq!(ok(server.get("/app/api/state"))["projects"], json!(["My cells"]));
    // Nor is it lost to those who look when another server opens the folder.
    drop(server);
    let server = Server::start_in(&models, &["--images", &folder]);
    assert_eq!(ok(server.get(PROJECT))["name"], "My cells");
}

#[test]
fn a_refused_image_says_nothing_of_where_it_lies() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    // A head that promises 2^31 pixels, in the folder and sent.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x80\0\0\x01\0\0\x08\0\0\0\0".to_vec();
    bomb.extend(crc32(&bomb[12..]).to_be_bytes());
    bomb.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    std::fs::write(Path::new(&folder).join("bomb.png"), &bomb).unwrap();
    let server = Server::start_in(&root.path().join("models"), &["--images", &folder]);
    ok(server.post(PROJECT, &json!({})));
    let headers: [(&str, &str); 0] = [];
    let listed = server.post(&format!("{PROJECT}/from-folder"), &json!({ "name": "bomb.png" }));
    let sent = server.send_bytes("POST", &format!("{PROJECT}/images?name=bomb.png"), &headers, Some(&bomb));
    for reply in [listed, sent] {
        assert_eq!(reply.status, 413, "{reply:?}");
        assert!(reply.text.contains("65536 x 32768 pixels"), "{reply:?}");
        assert!(!reply.text.contains(root.path().to_str().unwrap()) && !reply.text.contains("bomb.png"), "{reply:?}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn of_a_slide_no_more_is_read_than_is_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    // An image of 5000 x 4000 pixels with a copy of half the size, of which one chunk each is stored.
    let slide = Path::new(&folder).join("slide.zarr");
    let mut datasets = Vec::new();
    for (level, chunk) in [(0, 7_u8), (1, 9)] {
        let array = slide.join(level.to_string());
        std::fs::create_dir_all(&array).unwrap();
        let metadata = json!({
            "zarr_format": 2, "shape": [5000 >> level, 4000 >> level], "chunks": [500, 500], "dtype": "|u1",
            "compressor": null, "fill_value": 3, "filters": null, "order": "C", "dimension_separator": ".",
        });
        std::fs::write(array.join(".zarray"), metadata.to_string()).unwrap();
        std::fs::write(array.join("1.0"), vec![chunk; 500 * 500]).unwrap();
        let side = f64::from(1 << level);
        let scale = json!([{ "type": "scale", "scale": [side, side] }]);
        datasets.push(json!({ "path": level.to_string(), "coordinateTransformations": scale }));
    }
    let axis = |name: &str| json!({ "name": name, "type": "space", "unit": "micrometer" });
    let multiscales = json!([{ "version": "0.4", "axes": [axis("y"), axis("x")], "datasets": datasets }]);
    std::fs::write(slide.join(".zattrs"), json!({ "multiscales": multiscales }).to_string()).unwrap();
    std::fs::write(slide.join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();

    let weights = sam_weights();
    let server = Server::start_in(&root.path().join("models"), &["--images", &folder, "--sam", &weights]);
    ok(server.post(PROJECT, &json!({})));
    let image = ok(server.post(&format!("{PROJECT}/from-folder"), &json!({ "name": "slide.zarr" })));
    assert_eq!(
        (&image["rows"], &image["columns"], &image["pixel_size"]),
        (&json!(5000), &json!(4000), &json!([1.0, 1.0]))
    );
    let path = format!("{PROJECT}/images/1");
    let tile = |query: &str| {
        let reply = server.get(&format!("{path}/pixels?{query}"));
        assert_eq!(reply.status, 200, "{query}: {reply:?}");
        (reply.header("x-cellsparse-shape").unwrap_or_default().to_owned(), reply.text.into_bytes())
    };
    let (shape, bytes) = tile("level=0&x=0&y=499&side=2");
    assert_eq!((shape.as_str(), bytes), ("2,2,1", vec![3, 3, 7, 7]));
    // The copy is looked at where it is large enough: it holds another value at another place.
    let (shape, bytes) = tile("level=1&x=0&y=499&side=2");
    assert_eq!((shape.as_str(), bytes), ("2,2,1", vec![3, 3, 9, 9]));
    let (shape, bytes) = tile("level=3&x=0&y=0&side=1000");
    assert_eq!((shape.as_str(), bytes.len(), bytes[500 * 200]), ("625,500,1", 625 * 500, 9));
    assert_eq!(ok(server.get(&format!("{path}/ranges")))[0][0], 3.0);
    assert_eq!(ok(server.post(&format!("{path}/edit"), &square(1000, 700, "cell")))["cell"], 1);
    let objects = ok(server.get(&format!("{path}/objects")));
    assert_eq!(objects["objects"].as_array().unwrap().len(), 1);
    // Of a click, the part around the view is looked at: what cannot be read lies elsewhere.
    std::fs::write(slide.join("0/2.2"), b"no pixels").unwrap();
    let click = |x: u32, y: u32| {
        let view = [y - 20, x - 20, y + 20, x + 20];
        server.post(&format!("{path}/outline"), &json!({ "inside": [[x, y]], "view": view }))
    };
    let clicked = ok(click(480, 700));
    let part: Vec<u64> = clicked["part"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
    assert!(part[0] <= 680 && part[2] >= 720 && part[2] - part[0] < 1000, "{clicked}");
    assert_eq!(click(1250, 1250).status, 422);
}

#[test]
fn the_page_is_for_everybody_and_its_interface_for_who_has_the_token() {
    let server = Server::start(&["--token", "secret"]);
    let page = server.get("/app/");
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<title>cellsparse</title>"));
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(server.get("/app").status, 308);
    assert_eq!(server.get("/app/api/state").status, 401);
    assert_eq!(server.send("GET", "/app/api/state", &[("authorization", "Bearer secret")], None).status, 200);
    let open = Server::start(&[]);
    let send = |path: &str, headers: &[(&str, &str)]| open.send("GET", path, headers, None).status;
    for path in ["/app/", "/app/api/state"] {
        assert_eq!(send(path, &[("host", "evil.example")]), 403, "{path}");
        assert_eq!(send(path, &[("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "script")]), 403, "{path}");
        assert_eq!(send(path, &[("sec-fetch-site", "same-origin")]), 200, "{path}");
    }
    let document = [("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")];
    assert_eq!((send("/app/", &document), send("/app/api/state", &document)), (200, 403), "a link to the page works");
    let origin = [("origin", "http://evil.example")];
    assert_eq!(open.send("POST", PROJECT, &origin, Some("{}")).status, 403);
}

/// Weights of a tiny network, as the original package made them.
fn sam_weights() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/sam/small_weights.safetensors");
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_click_outlines_an_object_that_becomes_a_cell_when_it_is_accepted() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    let models = root.path().join("models");
    let weights = sam_weights();
    let arguments = ["--images", folder.as_str(), "--sam", weights.as_str()];
    let server = Server::start_in(&models, &arguments);
    assert_eq!(ok(server.get("/app/api/state"))["sam"], json!({ "kind": "other" }));
    ok(server.post(PROJECT, &json!({})));
    ok(server.post(&format!("{PROJECT}/from-folder"), &json!({ "name": "field.png" })));
    let path = format!("{PROJECT}/images/1");
    let outline = |body: Value| server.post(&format!("{path}/outline"), &body);

    // Looked at before, the first click does not wait for the encoder.
    let channels = json!([{ "index": 0, "low": 10, "high": 180, "colour": [255, 255, 255] }]);
    let looked = ok(outline(json!({ "view": [0, 0, 96, 80], "channels": channels })));
    assert_eq!((&looked["part"], &looked["encoded"], looked.get("pixels")), (&json!([0, 0, 96, 80]), &json!(1), None));
    let clicked = ok(outline(json!({ "inside": [[30.2, 41.0]], "view": [0, 0, 96, 80], "channels": channels })));
    assert_eq!(clicked["encoded"], 1);
    let pixels = clicked["pixels"].as_array().unwrap();
    assert!(!pixels.is_empty() && clicked["score"].is_number(), "{clicked}");
    let boxed = json!({ "inside": [[30.0, 41.0]], "outside": [[60.0, 12.0]], "rectangle": [10, 20, 60, 70], "channels": channels });
    assert_ne!(ok(outline(boxed))["pixels"], clicked["pixels"]);
    // Another contrast is another image; the one before is still known.
    let brighter = json!([{ "index": 0, "low": 10, "high": 90, "colour": [255, 255, 255] }]);
    assert_eq!(ok(outline(json!({ "inside": [[30.2, 41.0]], "channels": brighter })))["encoded"], 2);
    assert_eq!(ok(outline(json!({ "inside": [[30.2, 41.0]], "channels": channels })))["pixels"], clicked["pixels"]);
    assert_eq!(ok(server.get(&format!("{path}/drawn")))["cells"], 0, "nothing is drawn by asking");

    let area: u64 = pixels.iter().map(|run| run[2].as_u64().unwrap() - run[1].as_u64().unwrap()).sum();
    let accepted = ok(server.post(&format!("{path}/edit"), &json!({ "kind": "accept", "pixels": clicked["pixels"] })));
    assert_eq!((&accepted["cells"], &accepted["cell"], &accepted["undo"]), (&json!(1), &json!(1), &json!(true)));
    let before = ok(server.get(&format!("{path}/drawn")));
    let runs = before["runs"].as_array().unwrap();
    let drawn = runs.chunks(2).filter(|run| run[0] == 1).map(|run| run[1].as_u64().unwrap()).sum::<u64>();
    assert_eq!(drawn, area);
    ok(server.post(&format!("{path}/edit"), &json!({ "kind": "undo" })));
    ok(server.post(&format!("{path}/edit"), &json!({ "kind": "redo" })));

    for (body, status, reason) in [
        (json!({ "inside": [[30, 97]] }), 422, "x 30, y 97 lies outside the image of 80 x 96"),
        (json!({ "rectangle": [30, 30, 20, 40] }), 422, "[30, 30, 20, 40]"),
        (
            json!({ "inside": [[1, 1]], "channels": [{ "index": 1, "low": 0, "high": 9, "colour": [9, 9, 9] }] }),
            422,
            "the image has 1",
        ),
        (json!({ "inside": "everything" }), 422, "cannot be read"),
    ] {
        let reply = outline(body.clone());
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.text.contains(reason), "{body}: {reply:?}");
    }
    assert_eq!(server.post(&format!("{PROJECT}/images/7/outline"), &json!({ "inside": [[1, 1]] })).status, 422);
    drop(server);
    let server = Server::start_in(&models, &arguments);
    ok(server.post(PROJECT, &json!({})));
    assert_eq!(ok(server.get(&format!("{path}/drawn")))["runs"], before["runs"]);
}

#[test]
fn without_weights_the_page_tells_how_to_get_them_and_other_files_are_no_weights() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    let server = Server::start_in(&root.path().join("models"), &["--images", &folder]);
    let told = ok(server.get("/app/api/state"))["sam"].clone();
    let missing = told["missing"].as_str().unwrap();
    assert!(
        told["kind"].is_null() && missing.contains("mobile_sam.pt") && missing.contains("cellsparse serve --sam FILE")
    );
    ok(server.post(PROJECT, &json!({})));
    ok(server.post(&format!("{PROJECT}/from-folder"), &json!({ "name": "field.png" })));
    let reply = server.post(&format!("{PROJECT}/images/1/outline"), &json!({ "inside": [[1, 1]] }));
    assert!(reply.status == 404 && reply.text.contains("--sam FILE"), "{reply:?}");

    let field = format!("{folder}/field.png");
    let models = root.path().join("others");
    let run = |file: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cellsparse"));
        command.args(["serve", "--port", "0", "--model-dir", models.to_str().unwrap(), "--sam", file]);
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    for (file, reason) in [("absent.pth", "no such file"), (field.as_str(), "field.png")] {
        let (code, told) = run(file);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn learning_begins_with_the_first_cell_and_ends_when_it_is_told_to() {
    let root = tempfile::tempdir().unwrap();
    let folder = images(root.path());
    let server = Server::start_in(&root.path().join("models"), &["--images", &folder]);
    ok(server.post(PROJECT, &json!({})));
    ok(server.post(&format!("{PROJECT}/from-folder"), &json!({ "name": "field.png" })));
    ok(server.post(&format!("{PROJECT}/settings"), &json!({ "algorithm": "elephant", "seconds": 600 })));
    ok(server.post(&format!("{PROJECT}/look"), &json!({ "image": 1 })));
    ok(server.post(&format!("{PROJECT}/learn"), &json!({ "on": true })));
    let status = || ok(server.get(PROJECT))["status"].clone();
    let wait = |done: &dyn Fn(&Value) -> bool| {
        let begin = Instant::now();
        loop {
            let status = status();
            if done(&status) {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "{status}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    wait(&|status| status["phase"] == "waiting");
    let path = format!("{PROJECT}/images/1");
    for (x, y, ink) in [(10, 10, "cell"), (40, 40, "cell"), (60, 60, "background"), (10, 70, "background")] {
        ok(server.post(&format!("{path}/edit"), &square(x, y, ink)));
    }
    let learned = wait(&|status| status["round"]["number"].as_u64().is_some_and(|number| number >= 2));
    assert!(learned["round"]["total_steps"].as_u64().unwrap() > 6, "{learned}");
    ok(server.post(&format!("{PROJECT}/learn"), &json!({ "on": false })));
    wait(&|status| status["phase"] == "off");
    let model = root.path().join("models/projects/My cells/model.safetensors");
    let begin = Instant::now();
    while !model.exists() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let told = ok(server.get(PROJECT));
    assert!(told["model"]["steps"].as_u64().unwrap() > 6 && told["losses"].as_array().unwrap().len() > 6, "{told}");
    assert_eq!(server.get(&format!("{path}/suggestions")).status, 200);
    // Another algorithm begins anew.
    let other = ok(server.post(&format!("{PROJECT}/settings"), &json!({ "algorithm": "stardist" })));
    assert_eq!((&other["model"], model.exists()), (&Value::Null, false));
}
