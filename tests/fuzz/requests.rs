//! Random requests to the routes of the server, without connections.

use std::fs;

use cellsparse_core::model::Architecture;
use cellsparse_core::networks::{CellposeConfig, ElephantConfig};
use cellsparse_core::random::Random;
use cellsparse_core::raster::{write_gray_png8, write_wire_labels};
use cellsparse_core::{Model, StarDistConfig};
use cellsparse_server::Settings;
use cellsparse_server::in_process::{Asked, InProcess};
use ndarray::Array2;
use serde_json::{Value, json};

use crate::fuzz;
use crate::mutation::mutated;

const SIDE: usize = 24;

const TARGETS: [&str; 39] = [
    "/stardist/",
    "/cellpose/",
    "/elephant/",
    "/auto/",
    "/stardist/?outline=exact&format=featurecollection",
    "/cellpose/?outline=literal&format=features",
    "/stardist/reset/",
    "/cellpose/reset/",
    "/elephant/reset/",
    "/stardist",
    "/health",
    "/models",
    "/models/stardist/default",
    "/models/cellpose/default/progress",
    "/models/elephant/default/cancel",
    "/models/unet/default",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/app",
    "/app/",
    "/app/js/main.js",
    "/app/api/state",
    "/app/api/projects/p",
    "/app/api/projects/p/events",
    "/app/api/projects/p/settings",
    "/app/api/projects/p/look",
    "/app/api/projects/p/forget",
    "/app/api/projects/p/model",
    "/app/api/projects/p/images",
    "/app/api/projects/p/images?name=a.png",
    "/app/api/projects/p/from-folder",
    "/app/api/projects/p/images/1/remove",
    "/app/api/projects/p/images/1/pixels?top=0&left=0&height=9&width=9",
    "/app/api/projects/p/images/1/ranges",
    "/app/api/projects/p/images/1/drawn?top=0&left=0&height=9&width=9",
    "/app/api/projects/p/images/1/edit",
    "/app/api/projects/p/images/1/outline",
    "/app/api/projects/p/images/1/results?format=geojson",
];

const METHODS: [&str; 8] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "BREW", "post"];

/// Bodies that are in order.
fn bodies() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let place = |y: usize, x: usize| (y / 8 + x / 8) % 2;
    let image = Array2::from_shape_fn((SIDE, SIDE), |(y, x)| (place(y, x) * 90 + (y * 7 + x * 5) % 9) as u8);
    write_gray_png8(folder.path().join("a.png"), image.view()).unwrap();
    let labels =
        Array2::from_shape_fn((SIDE, SIDE), |(y, x)| if place(y, x) == 1 { (y / 8 * 3 + x / 8) as i32 + 1 } else { 0 });
    write_wire_labels(folder.path(), "b", &labels).unwrap();
    let [image, labels] = ["a.png", "b.png"].map(|name| base64(&fs::read(folder.path().join(name)).unwrap()));
    let with = |more: Value| {
        let mut body = json!({ "modelname": "default", "b64img": image, "trainpatch": 16, "batchsize": 1, "steps": 1 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let all = [
        with(json!({ "eval": true })),
        with(json!({ "b64lbl": labels, "train": true })),
        with(json!({ "b64lbl": labels, "train": true, "eval": true, "lr": 0.001, "epochs": 1, "seed": 3 })),
        with(
            json!({ "eval": true, "simplify_tolerance": 1.0, "chan1": 0, "chan2": 0, "nms_thresh": 0.3, "low": 0, "high": 90 }),
        ),
        with(json!({ "eval": true, "images": [{ "b64img": image }, { "b64img": image, "b64lbl": labels }] })),
        json!({ "modelname": "default" }),
        json!({ "modelname": "other", "pretrained": "none.safetensors" }),
        json!({ "algorithm": "elephant", "channels": [1] }),
        json!({ "image": 1, "window": { "rows": [0, 9], "columns": [0, 9] } }),
        json!({ "id": 1, "origin": "user", "shape": { "kind": "brush", "points": [[1.0, 2.0], [5.0, 6.0]], "radius": 2.0 } }),
        json!({ "kind": "paint", "shape": { "shape": "stroke", "points": [[1.0, 2.0], [5.0, 6.0]], "radius": 2.0 }, "ink": { "ink": "cell" } }),
        json!({ "inside": [[5.0, 6.0]], "outside": [[9, 9]], "rectangle": [1, 1, 9, 12], "view": [0, 0, 24, 24] }),
        json!([1, 2, null]),
    ];
    let mut all: Vec<Vec<u8>> = all.iter().map(|body| body.to_string().into_bytes()).collect();
    all.push(fs::read(folder.path().join("a.png")).unwrap());
    all
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let triple = |three: &[u8]| {
        let number = (0..3).fold(0, |sum, at| sum << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| if at <= three.len() { char::from(DIGITS[number >> (18 - 6 * at) & 63]) } else { '=' };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(triple).collect()
}

/// A server whose models are as small as can be.
fn server(folder: &tempfile::TempDir) -> InProcess {
    let widths = vec![2, 2];
    let star = StarDistConfig { n_rays: 8, n_filter_base: 2, n_depth: 1, net_conv_after_unet: 4, ..Default::default() };
    let models: [Architecture; 3] = [
        star.into(),
        CellposeConfig { widths: widths.clone(), ..Default::default() }.into(),
        ElephantConfig { widths, ..Default::default() }.into(),
    ];
    for architecture in models {
        let model = Model::new(architecture, 0).unwrap();
        let place = folder.path().join(model.algorithm().to_string());
        fs::create_dir_all(&place).unwrap();
        model.save(place.join("default.safetensors")).unwrap();
    }
    let mut settings = Settings::new(folder.path());
    settings.threads = Some(1);
    settings.sam = Some(cellsparse_tests::fixtures().join("sam/small_weights.safetensors"));
    settings.limits.steps = 2;
    settings.limits.pixels = 1 << 12;
    settings.limits.body = 1 << 16;
    settings.limits.models = 8;
    InProcess::new(settings).unwrap()
}

/// Begins the project of the targets and gives it the image of the bodies.
fn begin_project(server: &InProcess, bodies: &[Vec<u8>]) {
    let image = bodies.last().cloned().unwrap_or_default();
    for (target, body) in [("/app/api/projects/p", Vec::new()), ("/app/api/projects/p/images?name=a.png", image)] {
        let headers = vec![("host".to_owned(), b"localhost".to_vec())];
        let asked =
            Asked { method: "POST".into(), target: target.into(), headers, body: vec![body], breaks_off: false };
        assert_eq!(server.answer(&asked).unwrap().status, 200, "{target}");
    }
}

fn text(random: &mut Random, usual: &str) -> String {
    if random.chance(0.85) {
        return usual.to_owned();
    }
    let bytes = mutated(random, &[usual.as_bytes().to_vec()]);
    bytes.into_iter().map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { '%' }).collect()
}

fn asked(random: &mut Random, bodies: &[Vec<u8>]) -> Asked {
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    let usual = [
        ("host", "localhost"),
        ("host", "127.0.0.1:8000"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("accept", "text/event-stream"),
        ("origin", "http://localhost:8000"),
        ("sec-fetch-site", "none"),
        ("content-length", "70000"),
        ("authorization", "Bearer x"),
        ("x-name", "a.png"),
    ];
    if random.chance(0.9) {
        headers.push(("host".into(), b"localhost".to_vec()));
    }
    for _ in 0..random.below(3) * random.below(2) {
        let (name, value) = usual[random.below(usual.len())];
        let value = text(random, value);
        headers.push((name.to_owned(), value.into_bytes()));
    }
    let target = TARGETS[random.below(TARGETS.len())];
    let target = if random.chance(0.5) { TARGETS[random.below(4)] } else { target };
    let body = match random.below(8) {
        0 => Vec::new(),
        1..=4 => bodies[random.below(bodies.len())].clone(),
        _ => mutated(random, bodies),
    };
    let part = 1 + random.below(body.len() + 1);
    let method = if random.chance(0.85) { "POST" } else { METHODS[random.below(METHODS.len())] };
    Asked {
        method: method.to_owned(),
        target: text(random, target),
        headers,
        body: body.chunks(part.max(64)).map(<[u8]>::to_vec).collect(),
        breaks_off: random.chance(0.03),
    }
}

#[test]
fn requests_are_answered_in_the_documented_form() {
    let folder = tempfile::tempdir().unwrap();
    let (server, bodies) = (server(&folder), bodies());
    begin_project(&server, &bodies);
    fuzz("requests", 300, |random| {
        let asked = asked(random, &bodies);
        let Some(answer) = server.answer(&asked) else { return Ok(false) };
        let text = String::from_utf8_lossy(&answer.body);
        let said = || format!("{} {}: {} {text:.300}", asked.method, asked.target, answer.status);
        // A server defect, a panic among them; 503 and 507 are no defects.
        if answer.status == 500 || answer.status == 501 || answer.status == 502 {
            return Err(said());
        }
        if answer.status >= 400 && asked.method != "HEAD" {
            let value: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", said()))?;
            if value["detail"].is_null() || answer.content_type != "application/json" {
                return Err(format!("no detail: {}", said()));
            }
        }
        Ok(answer.status < 400)
    });
}
