//! What cannot be answered is refused with a reason and leaves nothing behind.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::server::{ALGORITHMS, PATIENCE, Server, base64, body, command, draw, quick_training};

/// A PNG file that says it has that many pixels, and has none.
fn lying_png(width: u32, height: u32) -> String {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 6, 0, 0, 0]);
    bytes.extend([0; 40]);
    base64(&bytes)
}

#[track_caller]
fn assert_refused(server: &Server, path: &str, request: &Value, status: u16, reason: &str) {
    let reply = server.post(path, request);
    assert_eq!(reply.status, status, "{request:.200}: {reply:?}");
    assert!(reply.text.contains(reason), "{reply:?}");
    assert!(!reply.json()["detail"].is_null());
}

#[test]
fn bad_requests_are_refused_and_leave_no_trace() {
    let server = Server::start(&["--max-pixels", "1000000", "--max-steps", "1000", "--max-images", "2"]);
    let drawing = draw(64, 1);
    let truncated = &drawing.image[..drawing.image.len() / 8 * 4];
    let huge = lying_png(60_000, 60_000);
    let train = |more: Value| {
        let mut request = quick_training(&drawing, 1);
        request.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        request
    };
    for algorithm in ALGORITHMS {
        let path = format!("/{algorithm}/");
        for (request, status, reason) in [
            (train(json!({ "b64img": "@@@" })), 422, "not base64"),
            (train(json!({ "b64img": "aGVsbG8=" })), 422, "not a PNG"),
            (train(json!({ "b64img": truncated })), 422, "b64img"),
            (train(json!({ "b64lbl": "aGVsbG8=" })), 422, "b64lbl"),
            (train(json!({ "b64img": huge })), 413, "60000 x 60000"),
            (train(json!({ "b64lbl": huge })), 413, "60000 x 60000"),
            (train(json!({ "b64lbl": null })), 422, "training needs labels"),
            (train(json!({ "modelname": "../../etc/passwd" })), 422, "not a usable name"),
            (train(json!({ "modelname": "a/b" })), 422, "not a usable name"),
            (train(json!({ "modelname": "nul" })), 422, "not a usable name"),
            (train(json!({ "modelname": "x".repeat(300) })), 422, "not a usable name"),
            (train(json!({ "steps": 0 })), 422, "greater than or equal to 1"),
            (train(json!({ "steps": 100_000 })), 422, "1000 at most"),
            (train(json!({ "epochs": 9_000_000_000_000_000_000_u64 })), 422, "epochs"),
            (train(json!({ "batchsize": -1 })), 422, "batchsize"),
            (train(json!({ "trainpatch": 4096, "batchsize": 256 })), 413, "4096 x 4096 pixels"),
            (train(json!({ "lr": "fast" })), 422, "valid float"),
            (train(json!({ "lr": -1 })), 422, "greater than 0"),
            (train(json!({ "lr": 20_000 })), 422, "less than or equal to 10000"),
            (train(json!({ "images": [] })), 422, "images"),
            (train(json!({ "images": [{}, 3] })), 422, "field required"),
            (train(json!({ "images": [1, 2, 3] })), 422, "1 to 2"),
            (json!([1]), 422, "valid dict"),
        ] {
            assert_refused(&server, &path, &request, status, reason);
        }
        let reset = json!({ "modelname": "..\\..\\x" });
        assert_refused(&server, &format!("{path}reset/"), &reset, 422, "not a usable name");
    }
    for wrong in ["{not json", "", "null", "[[[[", "{\"modelname\": \"x\""] {
        assert_eq!(server.post_text("/stardist/", wrong).status, 422, "{wrong}");
    }
    let plain = server.send("POST", "/stardist/", &[("content-type", "text/plain")], Some("{}"));
    assert_eq!(plain.status, 422, "only JSON, which other sites cannot send unasked");
    assert_eq!(server.get("/models/stardist/..%2Fx").status, 422);
    assert_eq!(server.get("/models/unet/x").status, 404);
    assert_eq!(server.get("/models/stardist/x").status, 404);
    assert_eq!(server.files(), Vec::<String>::new());
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_strict_server_says_where_the_original_keeps_silent() {
    let server = Server::start(&["--strict"]);
    let drawing = draw(64, 1);
    for algorithm in ALGORITHMS {
        let request = body(&drawing, json!({ "eval": true }));
        assert_refused(&server, &format!("/{algorithm}/"), &request, 404, "train it first");
        let mut request = quick_training(&drawing, 1);
        request["b64img"] = draw(48, 1).image.into();
        assert_refused(&server, &format!("/{algorithm}/"), &request, 422, "must be the same");
    }
    assert_eq!(server.files(), Vec::<String>::new());
}

#[test]
fn large_bodies_are_refused_before_they_are_kept() {
    let server = Server::start(&["--max-body", "1"]);
    let request = json!({ "modelname": "x", "b64img": "A".repeat(3 << 20) });
    assert_refused(&server, "/stardist/", &request, 413, "larger than 1 MiB");
    let small = body(&draw(64, 1), json!({}));
    assert_eq!(server.post("/stardist/", &small).text, "[]");
}

/// Sends a request in parts of unknown number, without an end unless `chunks` has one.
fn chunked(server: &Server, chunks: &[Vec<u8>]) -> TcpStream {
    let host = server.url.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(host).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!("POST /stardist/ HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    for chunk in chunks {
        write!(stream, "{:x}\r\n", chunk.len()).expect("sent");
        stream.write_all(chunk).and_then(|()| stream.write_all(b"\r\n")).expect("sent");
    }
    stream
}

#[test]
fn uploads_that_wait_keep_nobody_else_from_sending() {
    let server = Server::start_tiny(&["--max-body", "1"]);
    let idle: Vec<_> = (0..8).map(|_| chunked(&server, &[b"{".to_vec()])).collect();
    let drawing = draw(64, 1);
    assert_eq!(server.post("/stardist/", &body(&drawing, json!({ "eval": true }))).status, 200);
    drop(idle);
    let mut large = chunked(&server, &[vec![b' '; 700_000], vec![b' '; 700_000], Vec::new()]);
    let mut answer = [0; 12];
    large.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413", "the rest is read before the answer");
}

#[test]
fn images_of_a_request_are_limited_together() {
    let server = Server::start(&["--max-pixels", "4096"]);
    let drawing = draw(64, 1);
    let image = json!({ "b64img": drawing.image, "b64lbl": drawing.labels });
    let many = json!({ "modelname": "m", "train": true, "images": vec![image; 20] });
    assert_refused(&server, "/stardist/", &many, 413, "too many pixels together");
    let mut request = quick_training(&drawing, 1);
    request["n_channels_in"] = json!(64);
    assert_refused(&server, "/stardist/", &request, 413, "64 channels");
    assert_eq!(
        server.state("stardist", "default")["last"]["detail"].as_str().map(|text| text.contains("64")),
        Some(true)
    );
    assert_eq!(server.files(), Vec::<String>::new());
}

#[test]
fn as_many_models_as_allowed() {
    let server = Server::start(&["--max-models", "1"]);
    server.use_tiny("stardist", "one");
    let mut request = quick_training(&draw(64, 1), 1);
    request["modelname"] = "two".into();
    assert_refused(&server, "/stardist/", &request, 429, "limit");
    request["modelname"] = "one".into();
    assert_eq!(server.post("/stardist/", &request).status, 200);
    assert_eq!(server.files(), ["stardist/one.safetensors"]);
}

#[test]
fn a_token_is_wanted_everywhere_but_for_health() {
    let server = Server::start(&["--token", "secret"]);
    assert_eq!(server.get("/health").status, 200);
    let reset = json!({ "modelname": "x" }).to_string();
    for wrong in ["Bearer wrong", "Bearer ", "Basic secret", "secret", "Bearer secret2"] {
        for (method, path, body) in [
            ("GET", "/models", None),
            ("POST", "/stardist/reset/", Some(reset.as_str())),
            ("GET", "/openapi.json", None),
        ] {
            let reply = server.send(method, path, &[("authorization", wrong)], body);
            assert_eq!(reply.status, 401, "{wrong} {path}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(server.get("/models").status, 401);
    assert_eq!(server.send("GET", "/models", &[("authorization", "Bearer secret")], None).status, 200);
}

#[cfg(unix)]
#[test]
fn a_token_that_is_no_text_does_not_open_the_server() {
    use std::os::unix::ffi::OsStrExt;
    let root = tempfile::tempdir().expect("a folder");
    let mut server = command(root.path(), &[]);
    let output = server.env("CELLSPARSE_TOKEN", std::ffi::OsStr::from_bytes(b"\xff")).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not UTF-8"), "{output:?}");
}

#[test]
fn pages_of_other_sites_are_refused_without_a_token() {
    let server = Server::start(&[]);
    for headers in [("origin", "http://evil.example"), ("origin", "null"), ("host", "evil.example")] {
        let reply = server.send("POST", "/stardist/reset/", &[headers], Some("{\"modelname\":\"x\"}"));
        assert_eq!(reply.status, 403, "{headers:?}: {reply:?}");
    }
    let own = server.url.clone();
    assert_eq!(server.send("GET", "/models", &[("origin", &own)], None).status, 200);
}

#[test]
fn a_folder_that_cannot_be_used_is_one_clear_line() {
    let root = tempfile::tempdir().expect("a folder");
    let file = root.path().join("file");
    std::fs::write(&file, "not a folder").expect("a file");
    let output = command(&file.join("models"), &[]).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text}");
    let server = Server::start(&[]);
    let output = command(server.folder(), &[]).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another server"), "{output:?}");
}

/// Sends the head of a request as it is and returns the status line and the body of the answer.
fn answer_to(server: &Server, head: &str) -> (String, String) {
    let host = server.url.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(host).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(head.replace("HOST", host).as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[test]
fn requests_that_a_page_of_another_site_could_make_are_refused_in_the_usual_form() {
    let server = Server::start(&[]);
    for (head, status) in [
        ("GET /models HTTP/1.1\r\nHost: HOST\r\n", "200"),
        ("GET /models HTTP/1.1\r\nHost: HOST\r\nSec-Fetch-Site: none\r\n", "200"),
        ("GET /models HTTP/1.1\r\nHost: HOST\r\nSec-Fetch-Site: cross-site\r\n", "403"),
        ("GET /models HTTP/1.1\r\nHost: HOST\r\nSec-Fetch-Site: same-site\r\n", "403"),
        ("GET /models HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n", "400"),
        ("GET /health HTTP/1.1\r\nHost: evil.example\r\nHost: HOST\r\n", "400"),
        ("GET /models/stardist/%FF HTTP/1.1\r\nHost: HOST\r\n", "404"),
        ("GET /models/stardist/%FF/progress HTTP/1.1\r\nHost: HOST\r\n", "404"),
        ("BREW /health HTTP/1.1\r\nHost: HOST\r\n", "405"),
    ] {
        let (line, body) = answer_to(&server, &format!("{head}Connection: close\r\n\r\n"));
        assert!(line.contains(&format!(" {status} ")), "{head:?}: {line}");
        let json: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{head:?}: {error}: {body}"));
        assert_eq!(json["detail"].is_string(), status != "200", "{head:?}: {body}");
    }
}

#[test]
fn many_slow_connections_keep_nobody_from_asking() {
    let server = Server::start(&[]);
    let host = server.url.strip_prefix("http://").expect("an address");
    let mut slow = Vec::new();
    for number in 0..600 {
        let mut stream = TcpStream::connect(host).expect("a connection");
        let head = match number % 3 {
            0 => String::new(),
            1 => "GET /health HTTP/1.1\r\nHo".to_owned(),
            _ => format!("POST /stardist/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n{{"),
        };
        stream.write_all(head.as_bytes()).expect("sent");
        slow.push(stream);
    }
    let begin = std::time::Instant::now();
    assert_eq!(server.get("/health").status, 200);
    // A hundredth of that on an idle machine; half a minute when a slow client has to give up first.
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
    drop(slow);
}
