//! A running server, and what tests send to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cellsparse_core::StarDistConfig;
use cellsparse_core::model::Model;
use cellsparse_core::networks::{CellposeConfig, ElephantConfig};
use cellsparse_core::raster::{Image, write_gray_png8, write_wire_labels};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use ndarray::Axis;
use serde_json::{Map, Value, json};

/// Every algorithm.
pub const ALGORITHMS: [&str; 3] = ["stardist", "cellpose", "elephant"];

/// Longest time that anything in these tests may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a child process, killed when dropped.
pub struct Server {
    child: Child,
    /// Like `http://127.0.0.1:40123`.
    pub url: String,
    folder: PathBuf,
    /// Standard error goes to a file: nobody reads a pipe while the test runs.
    log: tempfile::NamedTempFile,
    _root: Option<tempfile::TempDir>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub text: String,
    pub headers: Vec<(String, String)>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The features of a successful answer.
    #[track_caller]
    pub fn features(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json().as_array().unwrap_or_else(|| panic!("no list: {self:?}")).clone()
    }
}

impl Server {
    /// A server with an empty folder of models; its folder `pretrained` holds `tiny-ALGORITHM`, so that tests need not wait
    /// for networks of the usual size.
    pub fn start(arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("models");
        write_tiny_models(&folder.join("pretrained"));
        let mut server = Self::start_in(&folder, arguments);
        server._root = Some(root);
        server
    }

    /// A server whose models `default` are the tiny ones.
    pub fn start_tiny(arguments: &[&str]) -> Self {
        let server = Self::start(arguments);
        for algorithm in ALGORITHMS {
            server.use_tiny(algorithm, "default");
        }
        server
    }

    /// A server with the models of `folder`.
    pub fn start_in(folder: &Path, arguments: &[&str]) -> Self {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let mut command = command(folder, arguments);
        command.stderr(log.reopen().expect("the file"));
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output"));
        stdout.read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, url, folder: folder.to_owned(), log, _root: None }
    }

    /// Replaces a model by the tiny one of its algorithm.
    pub fn use_tiny(&self, algorithm: &str, name: &str) {
        let body = json!({ "modelname": name, "pretrained": format!("tiny-{algorithm}.safetensors") });
        let reply = self.post(&format!("/{algorithm}/reset/"), &body);
        assert_eq!((reply.status, reply.text.as_str()), (200, "\"\""));
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string())
    }

    pub fn post_text(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &[("content-type", "application/json; charset=utf-8")], Some(body))
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Reply {
        self.send_bytes(method, path, headers, body.map(str::as_bytes))
    }

    pub fn send_bytes(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Reply {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .allow_non_standard_methods(true);
        let agent = ureq::Agent::new_with_config(config.build());
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match body {
            Some(body) => agent.run(request.body(body.to_vec()).expect("a request")),
            None => agent.run(request.body(()).expect("a request")),
        }
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let headers = response.headers().iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap_or("").to_owned()));
        let headers = headers.collect();
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 28).read_to_string().expect("a body");
        Reply { status, text, headers }
    }

    /// Opens a connection of its own and sends a request without waiting for the answer.
    pub fn connect(&self, method: &str, path: &str, body: Option<&Value>) -> TcpStream {
        let host = self.url.strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(host).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("sent");
        stream
    }

    /// The state of a model's trainings.
    pub fn state(&self, algorithm: &str, name: &str) -> Value {
        let path = format!("/models/{algorithm}/{name}/progress");
        self.send("GET", &path, &[("accept", "application/json")], None).json()
    }

    /// Waits until the trainings of a model are in a state.
    #[track_caller]
    pub fn wait_for(&self, algorithm: &str, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let state = self.state(algorithm, name);
            if is(&state) {
                return state;
            }
            assert!(begin.elapsed() < PATIENCE, "{what} did not come: {state}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a training has made a step.
    #[track_caller]
    pub fn wait_for_step(&self, algorithm: &str, name: &str, step: u64) -> Value {
        self.wait_for(algorithm, name, "a step", |state| state["progress"]["step"].as_u64() >= Some(step))
    }

    /// Every file of the folder of models, except the lock and the pretrained ones.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for algorithm in ALGORITHMS {
            for entry in fs::read_dir(self.folder.join(algorithm)).expect("a folder") {
                let name = entry.expect("an entry").file_name();
                files.push(format!("{algorithm}/{}", name.to_string_lossy()));
            }
        }
        files.sort();
        files
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it at once, as a power cut does.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Asks it to end, waits, and returns its status and what it wrote to standard error.
    #[cfg(unix)]
    pub fn terminate(&mut self) -> (Option<i32>, String) {
        // Of the shell: systems with little have no program of that name.
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
        let status = self.child.wait().expect("ended");
        let text = fs::read_to_string(self.log.path()).expect("text");
        (status.code(), text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server as a command.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellsparse"));
    command.args(["serve", "--port", "0", "--device", "cpu", "--model-dir"]).arg(folder).args(arguments);
    command.env_remove("CELLSPARSE_TOKEN").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Writes `tiny-ALGORITHM.safetensors`: initial weights of small networks.
pub fn write_tiny_models(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let star = StarDistConfig { n_filter_base: 4, n_depth: 2, net_conv_after_unet: 16, ..StarDistConfig::default() };
    let pose = CellposeConfig { widths: vec![6, 12], ..CellposeConfig::default() };
    let elephant = ElephantConfig { widths: vec![6, 12], ..ElephantConfig::default() };
    for (name, model) in [
        ("stardist", Model::stardist(star, 1)),
        ("cellpose", Model::cellpose(pose, 1)),
        ("elephant", Model::elephant(elephant, 1)),
    ] {
        let path = folder.join(format!("tiny-{name}.safetensors"));
        model.and_then(|model| model.save(path)).expect("a tiny model");
    }
}

/// A drawn field as an image file and a file of sparse labels, both in base64.
pub struct Drawing {
    pub image: String,
    pub labels: String,
}

/// Draws a field of `side` x `side` pixels.
pub fn draw(side: usize, seed: u64) -> Drawing {
    let root = tempfile::tempdir().expect("a temporary folder");
    let options = FieldOptions { height: side, width: side, debris: 0.0, touching: 0.1, ..FieldOptions::default() };
    let field = draw_field(&options, seed).expect("a field");
    let Image::U8(pixels) = &field.image else { panic!("fields are 8 bit") };
    let image = root.path().join("image.png");
    write_gray_png8(&image, pixels.index_axis(Axis(2), 0)).expect("an image");
    let labels = annotate(&field, &AnnotationOptions::default(), seed);
    let labels = write_wire_labels(root.path(), "labels", &labels).expect("labels");
    let text = |path: &Path| base64(&fs::read(path).expect("a file"));
    Drawing { image: text(&image), labels: text(&labels) }
}

/// Bytes as base64.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let value = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (value >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() { ALPHABET[sextet as usize] as char } else { '=' });
        }
    }
    text
}

/// The body of a request for the model `default` with more fields.
pub fn body(drawing: &Drawing, more: Value) -> Value {
    let mut fields = Map::new();
    fields.insert("modelname".into(), "default".into());
    fields.insert("b64img".into(), drawing.image.clone().into());
    fields.insert("b64lbl".into(), drawing.labels.clone().into());
    let Value::Object(more) = more else { panic!("{more}") };
    fields.extend(more);
    Value::Object(fields)
}

/// A training of that many quick steps.
pub fn quick_training(drawing: &Drawing, steps: usize) -> Value {
    body(drawing, json!({ "train": true, "trainpatch": 32, "batchsize": 1, "steps": steps }))
}
