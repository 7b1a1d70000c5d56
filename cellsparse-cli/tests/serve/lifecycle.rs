//! The server from its start to its end, expected or not.

use std::fs;

use serde_json::{Value, json};

use crate::server::{Server, body, draw, quick_training};

#[test]
fn a_killed_server_goes_on_from_the_last_checkpoint() {
    let mut server = Server::start_tiny(&[]);
    let drawing = draw(64, 1);
    let connection = server.connect("POST", "/stardist/", Some(&quick_training(&drawing, 100_000)));
    // Long before the end of the first 25 steps.
    server.wait_for_step("stardist", "default", 2);
    server.kill();
    drop(connection);
    // What a write that was interrupted leaves behind is removed.
    fs::write(server.folder().join("stardist/.cellsparse-half"), "half").expect("written");
    let again = Server::start_in(server.folder(), &[]);
    let kept = again.get("/models/stardist/default").json()["model"]["steps"].as_u64().expect("steps");
    assert!(kept >= 1, "{kept} steps");
    assert_eq!(again.post("/stardist/", &body(&drawing, json!({ "eval": true }))).status, 200);
    assert_eq!(again.post("/stardist/", &quick_training(&drawing, 2)).status, 200);
    assert_eq!(again.get("/models/stardist/default").json()["model"]["steps"], kept + 2);
    let left = ["cellpose/default.safetensors", "elephant/default.safetensors", "stardist/default.safetensors"];
    assert_eq!(again.files(), left);
}

#[cfg(unix)]
#[test]
fn a_server_that_is_asked_to_end_saves_what_is_being_learned() {
    let mut server = Server::start_tiny(&[]);
    let drawing = draw(64, 1);
    let listening = server.connect("GET", "/models/cellpose/default/progress", None);
    let connection = server.connect("POST", "/cellpose/", Some(&quick_training(&drawing, 100_000)));
    let seen = server.wait_for_step("cellpose", "default", 3)["progress"]["step"].as_u64().expect("a step");
    let (status, log) = server.terminate();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("ending"), "{log}");
    let model = cellsparse_core::Model::load(server.folder().join("cellpose/default.safetensors")).expect("a model");
    assert!(model.info().steps >= seen, "{} of {seen} steps", model.info().steps);
    drop((listening, connection));
}

#[test]
fn a_model_put_into_the_folder_is_used_at_once() {
    let server = Server::start_tiny(&[]);
    let folder = server.folder();
    let drawing = draw(64, 1);
    let predict = |name: &str| {
        let mut request = body(&drawing, json!({ "eval": true, "minarea": 0 }));
        request["modelname"] = name.into();
        server.post("/elephant/", &request)
    };
    fs::copy(folder.join("pretrained/tiny-elephant.safetensors"), folder.join("elephant/put.safetensors"))
        .expect("a copy");
    assert_eq!(predict("put").text, predict("default").text);
    fs::write(folder.join("elephant/put.safetensors"), "damaged").expect("written");
    let reply = predict("put");
    assert_eq!(reply.status, 500);
    assert!(reply.text.contains("model file") && !reply.text.contains(&folder.display().to_string()), "{reply:?}");
    let listed = server.get("/models").json().to_string();
    assert!(listed.contains("\"error\""), "{listed}");
    assert_eq!(server.post("/elephant/reset/", &json!({ "modelname": "put" })).status, 200);
}

#[test]
fn a_folder_of_models_that_was_removed_is_made_anew() {
    let server = Server::start_tiny(&[]);
    let drawing = draw(64, 1);
    for algorithm in ["stardist", "elephant"] {
        fs::remove_dir_all(server.folder().join(algorithm)).expect("removed");
    }
    let reply = server.post("/stardist/", &quick_training(&drawing, 1));
    assert_eq!(reply.status, 200, "{reply:?}");
    server.use_tiny("elephant", "default");
    fs::create_dir_all(server.folder().join("cellpose")).expect("a folder");
    let found = server.files();
    let wanted = ["stardist/default.safetensors", "elephant/default.safetensors"];
    assert!(wanted.iter().all(|name| found.iter().any(|file| file == name)), "{found:?}");
}

#[test]
fn the_description_is_true() {
    let server = Server::start(&[]);
    let document = server.get("/openapi.json").json();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in ["get", "post", "put", "delete"] {
            let known = methods.get(method).is_some();
            let real = path.replace("{algorithm}", "stardist").replace("{name}", "x");
            let accept = [("accept", "application/json"), ("content-type", "application/json")];
            let reply = server.send(&method.to_uppercase(), &real, &accept, (method != "get").then_some("{}"));
            assert_eq!(reply.status != 405, known, "{method} {path}: {reply:?}");
            assert!(reply.json()["detail"] != "Not Found", "{method} {path}");
            if known {
                let described = &methods[method]["responses"][reply.status.to_string()];
                assert!(described.is_object(), "{method} {path}: {} is not described", reply.status);
                routes.push(format!("{method} {path}"));
            }
        }
    }
    assert_eq!(routes.len(), 12, "{routes:?}");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().expect("a name");
        assert!(schemas.contains_key(name), "{name}");
    }
    // Every field that is described has an effect or a check: the wrong type is refused.
    for algorithm in ["stardist", "cellpose", "elephant"] {
        let fields = schemas[&format!("Segment_{algorithm}")]["properties"].as_object().expect("fields");
        for field in fields.keys() {
            let request = Value::Object([(field.clone(), json!({}))].into_iter().collect());
            let reply = server.post(&format!("/{algorithm}/"), &request);
            let named = reply.json()["detail"].as_array().is_some_and(|errors| {
                errors.iter().any(|error| error["loc"][1] == **field && error["type"] != "value_error.missing")
            });
            assert!(reply.status == 422 && named, "{algorithm} {field}: {reply:?}");
        }
    }
    assert!(server.get("/docs").text.contains("/models/{algorithm}/{name}/cancel"));
    for (path, target) in [("/health/", "/health"), ("/elephant/reset", "/elephant/reset/")] {
        let reply = server.send("POST", path, &[], Some("{}"));
        assert_eq!((reply.status, reply.header("location")), (307, Some(target)));
    }
}
