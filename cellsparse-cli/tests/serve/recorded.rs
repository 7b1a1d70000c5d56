//! The exchanges recorded from the original server.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::Server;

/// Requests that are answered better than by the original, on purpose: name, status.
const BETTER: [(&str, u16); 2] = [("err_path_traversal", 422), ("stardist_err_rgb", 200)];

/// Order in which the recorded requests make sense: models are trained before they are used.
const ORDER: [&str; 12] = [
    "err_",
    "nothing",
    "untrained",
    "unlabelled",
    "without_label",
    "mismatch",
    "train_only",
    "train",
    "infer",
    "simplify",
    "rgb",
    "reset",
];

struct Exchange {
    name: String,
    record: Value,
}

fn exchanges(folder: &Path) -> Vec<Exchange> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_prefix("api_").and_then(|name| name.strip_suffix(".json")) else { continue };
        let text = fs::read_to_string(entry.path()).expect("a recording");
        all.push(Exchange { name: name.to_owned(), record: serde_json::from_str(&text).expect("JSON") });
    }
    let rank = |name: &str| ORDER.iter().rposition(|part| name.contains(part)).unwrap_or(0);
    all.sort_by(|a, b| (rank(&a.name), &a.name).cmp(&(rank(&b.name), &b.name)));
    all
}

fn replay(server: &Server, exchange: &Exchange) {
    let Exchange { name, record } = exchange;
    let path = record["path"].as_str().expect("a path");
    let request = &record["request"];
    let mut reply = if record["method"] == "GET" {
        server.get(path)
    } else if let Some(raw) = request["raw"].as_str() {
        server.post_text(path, raw)
    } else {
        server.post(path, request)
    };
    if name == "err_no_trailing_slash" {
        // The recorder followed the redirect.
        assert_eq!(reply.status, 307);
        reply = server.post(reply.header("location").expect("a location"), request);
    }
    let recorded = record["status"].as_u64().expect("a status") as u16;
    if let Some((_, status)) = BETTER.iter().find(|(better, _)| better == name) {
        assert_eq!(reply.status, *status, "{name}: {reply:?}");
        return;
    }
    let text = record["response_text"].as_str().expect("a text");
    match recorded {
        500 => {
            assert!((400..500).contains(&reply.status), "{name}: {reply:?}");
            assert!(!reply.json()["detail"].is_null(), "{name}: {reply:?}");
        }
        200 if text.starts_with('[') => {
            let features = reply.features();
            let known: Vec<Value> = serde_json::from_str(text).expect("features");
            // Simplification may leave an object without points.
            let drawn = |list: &[Value]| {
                let has_points = |feature: &&Value| !feature["geometry"]["coordinates"][0][0].is_null();
                list.iter().find(has_points).map(shape)
            };
            if let (Some(ours), Some(theirs)) = (drawn(&features), drawn(&known)) {
                assert_eq!(ours, theirs, "{name}");
            }
        }
        status => {
            assert_eq!(reply.status, status, "{name}: {reply:?}");
            assert_eq!(reply.text, text, "{name}");
            assert_eq!(reply.header("content-type"), record["content_type"].as_str(), "{name}");
        }
    }
}

/// Names and kinds of values, without the numbers.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(list) => list.first().map(shape).into_iter().collect(),
        Value::String(text) => text.clone().into(),
        Value::Number(number) => if number.is_f64() { "float" } else { "integer" }.into(),
        other => other.clone(),
    }
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/cellsparse")
}

/// Recordings on real images.
fn real() -> PathBuf {
    let shared = std::env::var_os("CELLSPARSE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    shared.join("fixtures/real/cellsparse")
}

#[test]
fn recorded_requests_are_answered_as_recorded() {
    let server = Server::start(&[]);
    let recorded = exchanges(&committed());
    assert!(recorded.len() >= 13);
    for exchange in &recorded {
        replay(&server, exchange);
    }
    assert_eq!(server.files(), Vec::<String>::new());
}

#[test]
#[cfg_attr(not(real_images), ignore = "the folder with real images is not there (CELLSPARSE_SHARED)")]
fn recorded_requests_on_real_images_are_answered_as_recorded() {
    let server = Server::start(&[]);
    let recorded = exchanges(&real());
    assert!(recorded.len() > 30, "{}", recorded.len());
    for exchange in &recorded {
        replay(&server, exchange);
    }
    let models = ["cellpose/default.safetensors", "elephant/default.safetensors", "stardist/default.safetensors"];
    assert_eq!(server.files(), models);
}
