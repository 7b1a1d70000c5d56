//! How fast a running server answers, alone and while it trains.
//!
//! ```sh
//! cargo run --release -p cellsparse-cli -- serve --port 8123 --model-dir load-models &
//! cargo run --release -p cellsparse-cli --example server_load -- http://127.0.0.1:8123 [KEY=VALUE ...]
//! ```
//!
//! Keys: `algorithm` (stardist), `side` of the image in pixels (256), `clients` at a time (2), `requests` of each client and
//! phase (25), `seconds` of each phase at most (60), `steps` of the training before the phases (20). The model `load` is made
//! and removed again. Instead of the phases:
//! - `menu=1`: Training, Inference and Reset of all three algorithms with the bodies that QuPath's extension 0.2.0 sends (200
//!   steps of 8 patches of 224 pixels; `steps=` for another number);
//! - `objects=1`, without a server: post-processing of about 1000 objects; `out=FOLDER` writes them to `FOLDER/objects.png`, for
//!   outlines.py beside this file;
//! - `checkpoint=1`, without a server: size of a model of the default settings with its optimiser, and the time a write takes.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cellsparse_core::annotations::{Dataset, SparseLabels};
use cellsparse_core::formats::geojson::{GeoJsonOptions, OutlineRule, geojson_string, to_geojson};
use cellsparse_core::model::{Algorithm, Architecture, Model, TrainOptions};
use cellsparse_core::postprocess::clean::remove_small_labels;
use cellsparse_core::raster::{Image, write_gray_png8, write_labels, write_wire_labels};
use cellsparse_core::synthetic::{AnnotationOptions, Field, FieldOptions, annotate, draw_field};
use ndarray::Axis;
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |key: &str, default: &str| {
        let found = arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or(default).to_owned()
    };
    if value("objects", "0") == "1" {
        return postprocess(&value("out", ""));
    }
    if value("checkpoint", "0") == "1" {
        return checkpoints();
    }
    let Some(url) = arguments.first().filter(|argument| argument.starts_with("http://")) else {
        return Err("name a running server, like http://127.0.0.1:8000".into());
    };
    let load = Load {
        url: url.trim_end_matches('/').to_owned(),
        algorithm: value("algorithm", "stardist"),
        clients: value("clients", "2").parse()?,
        requests: value("requests", "25").parse()?,
        limit: Duration::from_secs(value("seconds", "60").parse()?),
    };
    if value("menu", "0") == "1" {
        return load.menu(value("side", "512").parse()?, value("steps", "200").parse()?);
    }
    load.run(value("side", "256").parse()?, value("steps", "20").parse()?)
}

/// Every algorithm.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Stardist, Algorithm::Cellpose, Algorithm::Elephant];

struct Load {
    url: String,
    algorithm: String,
    clients: usize,
    requests: usize,
    limit: Duration,
}

impl Load {
    fn run(&self, side: usize, steps: usize) -> Outcome<()> {
        let field = draw_field(&FieldOptions { height: side, width: side, ..FieldOptions::default() }, 1)?;
        let (image, labels) = files(&field)?;
        let predict = json!({ "modelname": "load", "b64img": image, "eval": true });
        let train = |steps: usize| json!({ "modelname": "load", "b64img": image, "b64lbl": labels, "train": true, "steps": steps });
        self.post(&format!("/{}/reset/", self.algorithm), &json!({ "modelname": "load" }))?;
        self.post(&format!("/{}/", self.algorithm), &train(steps))?;
        println!("{side} x {side} pixels, {} clients, {} requests each at most", self.clients, self.requests);
        println!("| {} | n | p50, ms | p99, ms | largest, ms |\n|---|---|---|---|---|", self.algorithm);
        self.phase("server alone", &predict)?;
        let ended = thread::scope(|scope| {
            let training = scope.spawn(|| self.post(&format!("/{}/", self.algorithm), &train(10_000)));
            let measured = self.wait_for_training().and_then(|()| self.phase("during a training", &predict));
            let stopped = self.post(&format!("/models/{}/load/cancel", self.algorithm), &Value::Null);
            let trained = training.join().map_err(|_| "the training panicked")?;
            measured.and(stopped).and(trained)
        });
        self.post(&format!("/{}/reset/", self.algorithm), &json!({ "modelname": "load" }))?;
        ended.map(drop)
    }

    /// What QuPath's menu sends, one request after the other.
    fn menu(&self, side: usize, steps: usize) -> Outcome<()> {
        let field = draw_field(&FieldOptions { height: side, width: side, ..FieldOptions::default() }, 1)?;
        let (image, labels) = files(&field)?;
        println!("{side} x {side} pixels, {} cells, steps {steps}", field.truth.iter().max().unwrap_or(&0));
        println!(
            "| algorithm | Training, s | objects | Inference, s | objects | Reset, s |\n|---|---|---|---|---|---|"
        );
        for algorithm in ALGORITHMS {
            let epochs = if algorithm == Algorithm::Cellpose { 5 } else { 1 };
            let body = |train: bool| {
                json!({
                    "modelname": "load", "b64img": image, "b64lbl": labels, "train": train, "eval": true, "epochs": epochs,
                    "batchsize": 8, "steps": steps,
                })
            };
            let path = format!("/{algorithm}/");
            let reset = || self.post(&format!("{path}reset/"), &json!({ "modelname": "load" }));
            reset()?;
            let mut cells = Vec::new();
            for train in [true, false] {
                let begin = Instant::now();
                let objects: Vec<Value> = serde_json::from_str(&self.post(&path, &body(train))?)?;
                cells.push(format!("{:.1} | {}", begin.elapsed().as_secs_f64(), objects.len()));
            }
            let begin = Instant::now();
            reset()?;
            println!("| {algorithm} | {} | {:.3} |", cells.join(" | "), begin.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Predictions of all clients, and `/health` beside them.
    fn phase(&self, name: &str, body: &Value) -> Outcome<()> {
        let end = Instant::now() + self.limit;
        let path = format!("/{}/", self.algorithm);
        let (predictions, health) = thread::scope(|scope| -> Outcome<_> {
            let clients: Vec<_> = (0..self.clients)
                .map(|_| scope.spawn(|| timed(|| self.post(&path, body), Duration::ZERO, self.requests, end)))
                .collect();
            let health = timed(|| self.get("/health"), Duration::from_millis(20), 200, end)?;
            let mut predictions = Vec::new();
            for client in clients {
                predictions.extend(client.join().map_err(|_| "a client panicked")??);
            }
            Ok((predictions, health))
        })?;
        row(&format!("prediction, {name}"), predictions);
        row(&format!("/health, {name}"), health);
        Ok(())
    }

    fn wait_for_training(&self) -> Outcome<()> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(120) {
            let models: Value = serde_json::from_str(&self.get(&format!("/models/{}/load", self.algorithm))?)?;
            if models["training"]["progress"]["step"].as_u64() >= Some(1) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err("the training did not begin".into())
    }

    fn post(&self, path: &str, body: &Value) -> Outcome<String> {
        let request = ureq::post(format!("{}{path}", self.url)).header("content-type", "application/json");
        Ok(request.send(body.to_string())?.body_mut().with_config().limit(1 << 30).read_to_string()?)
    }

    fn get(&self, path: &str) -> Outcome<String> {
        Ok(ureq::get(format!("{}{path}", self.url)).call()?.body_mut().read_to_string()?)
    }
}

/// How long each of at most `most` requests takes, with pauses between them, until `end`.
fn timed(request: impl Fn() -> Outcome<String>, pause: Duration, most: usize, end: Instant) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    while times.len() < most && Instant::now() < end {
        let begin = Instant::now();
        request()?;
        times.push(begin.elapsed());
        thread::sleep(pause);
    }
    Ok(times)
}

fn row(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    println!("| {name} | {} | {:.1} | {:.1} | {:.1} |", times.len(), at(0.5), at(0.99), at(1.0));
}

/// Label image to the text of an answer, for 1024 x 1024 pixels: what the original server needs 7.4 s for.
fn postprocess(out: &str) -> Outcome<()> {
    let options = FieldOptions { height: 1024, width: 1024, density: 11.0, radius: 8.0, ..FieldOptions::default() };
    let truth = draw_field(&options, 1)?.truth;
    let count = truth.iter().copied().max().unwrap_or(0);
    if !out.is_empty() {
        fs::create_dir_all(out)?;
        write_labels(out, "objects", &truth)?;
    }
    for (outline, simplify) in
        [(OutlineRule::Literal, None), (OutlineRule::Literal, Some(1.0)), (OutlineRule::Exact, None)]
    {
        let mut times = Vec::new();
        for _ in 0..10 {
            let mut labels = truth.clone();
            let begin = Instant::now();
            remove_small_labels(&mut labels, 10.0);
            let features = to_geojson(&labels, &GeoJsonOptions { outline, simplify, ..GeoJsonOptions::default() })?;
            let text = geojson_string(&features)?;
            times.push(begin.elapsed());
            std::hint::black_box(text);
        }
        let simplified = simplify.map_or(String::new(), |tolerance| format!(", simplified by {tolerance}"));
        row(&format!("{count} objects, {outline} outlines{simplified}"), times);
    }
    Ok(())
}

/// How large checkpoints are, and how long one takes.
fn checkpoints() -> Outcome<()> {
    let field = draw_field(&FieldOptions::default(), 1)?;
    let labels = annotate(&field, &AnnotationOptions::default(), 1);
    let data = Dataset::new(vec![field.image], vec![SparseLabels::from_signed(labels)?])?;
    let path = std::env::temp_dir().join(format!("cellsparse-load-{}.safetensors", std::process::id()));
    for algorithm in ALGORITHMS {
        let mut model = Model::new(Architecture::of(algorithm, 1), 0)?;
        let options = TrainOptions { steps: Some(1), ..TrainOptions::default() };
        model.train(&data, None, &options, &mut |_| cellsparse_core::ControlFlow::Continue)?;
        let mut times = Vec::new();
        for _ in 0..20 {
            let begin = Instant::now();
            model.save(&path)?;
            times.push(begin.elapsed());
        }
        row(&format!("{algorithm}, {:.1} MB", fs::metadata(&path)?.len() as f64 / 1e6), times);
    }
    Ok(fs::remove_file(&path)?)
}

/// A field and its sparse labels as base64 of PNG files.
fn files(field: &Field) -> Outcome<(String, String)> {
    let folder = std::env::temp_dir().join(format!("cellsparse-load-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let read = |path: &Path| -> Outcome<String> { Ok(base64(&fs::read(path)?)) };
    let made = || -> Outcome<(String, String)> {
        let Image::U8(pixels) = &field.image else { return Err("fields are 8 bit".into()) };
        let image = folder.join("image.png");
        write_gray_png8(&image, pixels.index_axis(Axis(2), 0))?;
        let labels = write_wire_labels(&folder, "labels", &annotate(field, &AnnotationOptions::default(), 1))?;
        Ok((read(&image)?, read(&labels)?))
    };
    let result = made();
    fs::remove_dir_all(&folder)?;
    result
}

fn base64(bytes: &[u8]) -> String {
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
