//! The description of the routes that programs read, and the page that people read.

use cellsparse_core::model::Algorithm;
use serde_json::{Map, Value, json};

/// Whether there is a route with exactly this path.
pub fn has_path(path: &str) -> bool {
    ["/openapi.json", "/docs", "/redoc"].contains(&path) || paths().contains_key(path)
}

/// The OpenAPI 3.0 document.
pub fn document() -> Value {
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "cellsparse",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Train cell segmentation from sparse labels and segment images. Compatible with cellsparse-api 0.2.0.",
        },
        "paths": paths(),
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{}, { "token": [] }],
    })
}

/// The routes as an HTML page.
pub fn page() -> String {
    let mut rows = String::new();
    for (path, methods) in paths() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let summary = operation["summary"].as_str().unwrap_or_default();
            rows.push_str(&format!(
                "<tr><td>{}</td><td><code>{path}</code></td><td>{summary}</td></tr>\n",
                method.to_uppercase()
            ));
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>cellsparse</title>\n\
         <style>body{{font-family:sans-serif;margin:2em auto;max-width:60em}}td{{padding:.3em .8em;vertical-align:top}}\
         </style></head>\n<body><h1>cellsparse {}</h1>\n<p>Fields and answers are described in \
         <a href=\"openapi.json\">openapi.json</a>.</p>\n<table>\n{rows}</table></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn paths() -> Map<String, Value> {
    let mut paths = Map::new();
    for &algorithm in Algorithm::ALL {
        paths.insert(format!("/{algorithm}/"), json!({ "post": segment(&algorithm.to_string()) }));
        paths.insert(format!("/{algorithm}/reset/"), json!({ "post": reset(&algorithm.to_string()) }));
    }
    let mut auto = segment("stardist");
    auto["summary"] = json!(
        "As the routes of the algorithms, with that of the model of this name, or the one that suits the drawn cells best"
    );
    paths.insert("/auto/".into(), json!({ "post": auto }));
    paths.insert(
        "/health".into(),
        json!({ "get": {
        "summary": "Whether the server is there; answered at once, always, without a token",
        "responses": { "200": of_schema("It is", "Health") },
    } }),
    );
    paths.insert(
        "/models".into(),
        json!({ "get": {
        "summary": "Every model of the folder, with the state of its trainings",
        "responses": guarded(json!({ "200": of_schema("The models", "Models") })),
    } }),
    );
    paths.insert(
        "/models/{algorithm}/{name}".into(),
        json!({ "parameters": model_parameters(), "get": {
        "summary": "One model",
        "responses": guarded(json!({
            "200": of_schema("The model", "Model"),
            "404": refusal("No such model"),
            "422": refusal("Not a usable name"),
        })),
    } }),
    );
    paths.insert("/models/{algorithm}/{name}/progress".into(), json!({ "parameters": model_parameters(), "get": {
        "summary": "Server-sent events of the running training, or of the next one; with Accept: application/json the state",
        "responses": guarded(json!({
            "200": {
                "description": "Events: state, started, progress (one for every step), and at the end finished or failed",
                "content": {
                    "text/event-stream": { "schema": { "type": "string" } },
                    "application/json": { "schema": schema("TrainingState") },
                },
            },
            "404": refusal("No such algorithm"),
            "422": refusal("Not a usable name"),
            "503": refusal("Too many listeners"),
        })),
    } }));
    paths.insert(
        "/models/{algorithm}/{name}/cancel".into(),
        json!({ "parameters": model_parameters(), "post": {
        "summary": "Stop the running training after its step (what it has learned is kept), or else those that wait",
        "responses": guarded(json!({
            "200": {
                "description": "Whether a training ran or waited",
                "content": { "application/json": { "schema": {
                    "type": "object", "properties": { "cancelled": { "type": "boolean" } },
                } } },
            },
            "404": refusal("No such algorithm"),
            "422": refusal("Not a usable name"),
        })),
    } }),
    );
    paths
}

/// Answers of a route that the token and the check of the origin stand before.
fn guarded(mut responses: Value) -> Value {
    responses["401"] = refusal("Wrong token");
    responses["403"] = refusal("A page of another site, or a foreign host name");
    responses
}

fn segment(algorithm: &str) -> Value {
    json!({
        "summary": format!("Train a {algorithm} model, segment images, or both"),
        "parameters": [
            {
                "name": "outline", "in": "query",
                "description": "literal: as the original server draws them; exact: along the pixel edges, with holes, parts and scores",
                "schema": { "type": "string", "enum": ["literal", "exact"], "default": "literal" },
            },
            {
                "name": "format", "in": "query",
                "description": "features: a list of features; featurecollection: a GeoJSON FeatureCollection",
                "schema": { "type": "string", "enum": ["features", "featurecollection"], "default": "features" },
            },
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": schema(&format!("Segment_{algorithm}")) } },
        },
        "responses": guarded(json!({
            "200": of_schema("The objects; a list for each image when images were sent", "Objects"),
            "400": refusal("The body ends early or is not UTF-8"),
            "404": refusal("No such model (Cellpose; with --strict every algorithm)"),
            "408": refusal("The body does not arrive in time"),
            "409": refusal("The training was cancelled before its first step"),
            "413": refusal("Body or image too large"),
            "422": refusal("A field, an image or labels that cannot be used"),
            "429": refusal("Too many models, or too many requests that wait"),
            "500": refusal("A damaged model file, or a defect"),
            "503": refusal("Too much at a time, or the server ends"),
            "507": refusal("The folder of models cannot be written"),
        })),
    })
}

fn reset(algorithm: &str) -> Value {
    json!({
        "summary": format!("Forget a {algorithm} model, or replace it by a pretrained one"),
        "requestBody": { "required": true, "content": { "application/json": { "schema": schema("Reset") } } },
        "responses": guarded(json!({
            "200": {
                "description": "Done, also when there was no such model",
                "content": { "application/json": { "schema": { "type": "string", "enum": [""] } } },
            },
            "413": refusal("Body too large"),
            "422": refusal("A field that cannot be used"),
            "429": refusal("Too many models"),
        })),
    })
}

/// The body of a request that trains or segments.
fn segment_schema(algorithm: Algorithm) -> Value {
    let channel =
        |least: usize, what: &str| json!({ "type": "integer", "minimum": least, "maximum": 64, "description": what });
    let or_none = |what: &str| {
        let mut channel = channel(0, what);
        channel["default"] = 0.into();
        channel
    };
    let chosen = |what: &str| optional("number", &format!("{what}; without it as the model chose"));
    let mut fields = fields();
    match algorithm {
        Algorithm::Stardist => {
            let text = "Channels of a new network; without it those of the first image";
            fields.insert("n_channels_in".into(), channel(1, text));
            fields.insert("prob_thresh".into(), chosen("Smallest probability of an object"));
            fields.insert("nms_thresh".into(), chosen("Largest overlap of two objects"));
        }
        Algorithm::Cellpose => {
            fields.insert("chan1".into(), or_none("Channel to segment, from 1; 0 is grey"));
            fields.insert("chan2".into(), or_none("Channel of the nuclei, from 1; 0 is none"));
            fields.insert("flow_threshold".into(), chosen("Largest flow error of an object; 0 is no limit"));
            fields.insert("cellprob_threshold".into(), chosen("Smallest cell-probability logit of a pixel"));
            fields.insert("diameter".into(), chosen("Cell diameter in pixels"));
        }
        _ => drop(fields.insert("prob_thresh".into(), chosen("Smallest probability of an object"))),
    }
    json!({ "type": "object", "required": ["modelname"], "properties": fields })
}

fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    for &algorithm in Algorithm::ALL {
        schemas.insert(format!("Segment_{algorithm}"), segment_schema(algorithm));
    }
    schemas.insert(
        "Reset".into(),
        json!({
            "type": "object",
            "required": ["modelname"],
            "properties": {
                "modelname": { "type": "string" },
                "pretrained": {
                    "type": "string", "nullable": true,
                    "description": "Name of a model file in the server's folder of pretrained models; never a URL",
                },
            },
        }),
    );
    schemas.insert(
        "Objects".into(),
        json!({
            "oneOf": [
                { "type": "array", "items": { "type": "object", "description": "GeoJSON Feature" } },
                { "type": "array", "items": { "type": "array", "items": { "type": "object" } } },
                { "type": "object", "description": "GeoJSON FeatureCollection" },
            ],
        }),
    );
    schemas.insert(
        "Refusal".into(),
        json!({
            "type": "object",
            "required": ["detail"],
            "properties": { "detail": { "oneOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "object", "properties": {
                    "loc": { "type": "array", "items": {} },
                    "msg": { "type": "string" },
                    "type": { "type": "string" },
                    "ctx": { "type": "object" },
                } } },
            ] } },
        }),
    );
    schemas.insert(
        "Health".into(),
        json!({ "type": "object", "properties": {
        "status": { "type": "string" }, "version": { "type": "string" }, "uptime": { "type": "integer" },
        "trainings": schema("Places"), "predictions": schema("Places"),
    } }),
    );
    schemas.insert(
        "Places".into(),
        json!({ "type": "object", "properties": {
        "running": { "type": "integer" }, "waiting": { "type": "integer" },
    } }),
    );
    schemas.insert(
        "TrainingState".into(),
        json!({ "type": "object", "properties": {
        "state": { "type": "string", "enum": ["idle", "queued", "training"] },
        "queued": { "type": "integer" },
        "progress": { "type": "object", "nullable": true },
        "last": { "type": "object", "nullable": true },
    } }),
    );
    schemas.insert(
        "Model".into(),
        json!({ "type": "object", "properties": {
        "algorithm": { "type": "string" },
        "name": { "type": "string" },
        "bytes": { "type": "integer", "nullable": true },
        "modified": { "type": "integer", "nullable": true, "description": "Seconds since 1970" },
        "training": schema("TrainingState"),
        "model": {
            "type": "object", "nullable": true,
            "description": "Architecture, parameters, thresholds, steps and loss of the finished weights",
        },
        "error": { "type": "string", "description": "Why the file cannot be used" },
    } }),
    );
    schemas.insert(
        "Models".into(),
        json!({ "type": "object", "properties": {
        "models": { "type": "array", "items": schema("Model") },
    } }),
    );
    schemas
}

/// The fields that all algorithms share.
fn fields() -> Map<String, Value> {
    let number =
        |kind: &str, default: Value, what: &str| json!({ "type": kind, "default": default, "description": what });
    let range = |what: &str| {
        let what = format!("{what}. One for each channel, or for all");
        json!({ "type": "array", "nullable": true, "items": { "type": "number" }, "description": what })
    };
    let fields = [
        ("modelname", json!({ "type": "string", "maxLength": 100, "description": "A file name without separators" })),
        (
            "b64img",
            json!({ "type": "string", "description": "Base64 of a PNG, TIFF or JPEG file; required without images" }),
        ),
        (
            "b64lbl",
            json!({
                "type": "string", "nullable": true,
                "description": "Base64 of a label file of the same size: 0 unlabelled, 1 background, 2 and up cells",
            }),
        ),
        (
            "images",
            json!({
                "type": "array", "minItems": 1,
                "description": "Several images instead of b64img and b64lbl; those with labels are trained on, all are segmented",
                "items": { "type": "object", "required": ["b64img"], "properties": {
                    "b64img": { "type": "string" }, "b64lbl": { "type": "string", "nullable": true },
                } },
            }),
        ),
        ("train", number("boolean", json!(false), "Train on the labelled images")),
        ("eval", number("boolean", json!(false), "Segment the images")),
        ("epochs", number("integer", json!(1), "Multiplies steps, see docs/server.md")),
        ("trainpatch", number("integer", json!(224), "Side of the training patches in pixels")),
        ("batchsize", number("integer", json!(8), "Patches in a batch")),
        ("steps", number("integer", json!(200), "Optimiser steps")),
        (
            "lr",
            json!({ "type": "number", "description": "Learning rate; without it the one that measures best, 0.002" }),
        ),
        ("minarea", number("number", json!(10.0), "Objects with fewer pixels are left out")),
        ("simplify_tol", optional("number", "Tolerance of the outlines in pixels")),
        ("seed", optional("integer", "Of a new network, and of the order of batches and augmentations; without it 0")),
        (
            "init",
            optional(
                "string",
                "Weights of a new network: starter for those learned on drawn fields, the default, or none for random ones",
            ),
        ),
        (
            "label_encoding",
            optional("string", "What the numbers of b64lbl mean: wire (the default), cells, dense, signed or auto"),
        ),
        ("pixel_size", optional("number", "Micrometres per pixel of all images; kept with a model that is trained")),
        (
            "rescale",
            number("boolean", json!(true), "See images of another pixel size than those of the training scaled"),
        ),
        ("low", range("Intensities that become 0; without low and high each image is scaled by its own percentiles")),
        ("high", range("Intensities that become 1")),
    ];
    fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect()
}

fn optional(kind: &str, what: &str) -> Value {
    json!({ "type": kind, "nullable": true, "description": what })
}

fn model_parameters() -> Value {
    let algorithms: Vec<String> = Algorithm::ALL.iter().map(ToString::to_string).collect();
    json!([
        { "name": "algorithm", "in": "path", "required": true, "schema": { "type": "string", "enum": algorithms } },
        { "name": "name", "in": "path", "required": true, "schema": { "type": "string" } },
    ])
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn of_schema(description: &str, name: &str) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema(name) } } })
}

fn refusal(description: &str) -> Value {
    of_schema(description, "Refusal")
}
