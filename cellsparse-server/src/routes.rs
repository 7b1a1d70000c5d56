//! Which request does what.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cellsparse_core::formats::geojson::{Feature, OutlineRule};
use cellsparse_core::model::Algorithm;
use cellsparse_core::{CancelToken, Model};
use serde::Serialize;
use serde_json::json;

use super::app::App;
use super::body;
use super::entry::{Entry, Running};
use super::errors::{Refusal, answer};
use super::fields::{Reset, Segment, object};
use super::memory::Share;
use super::names::ModelName;
use super::work::{self, TrainingData, Work};
use super::{guard, images, openapi, page, progress};

type Answer = Result<Response, Refusal>;
type Shared = State<Arc<App>>;

/// Algorithm and name of a model in a path.
type Named = Result<Path<(String, String)>, PathRejection>;

/// Header of what a user should know of an answer: why it is empty although the request was in order, and more.
const NOTE: HeaderName = HeaderName::from_static("x-cellsparse-note");

/// Header that names the algorithm where the server chose it.
const ALGORITHM: HeaderName = HeaderName::from_static("x-cellsparse-algorithm");

/// All routes of a server.
pub fn router(app: Arc<App>) -> Router {
    let mut router: Router<Arc<App>> = Router::new();
    router = router.route("/auto/", post(|State(app): Shared, request: Request| segment(app, None, request)));
    for &algorithm in Algorithm::ALL {
        let segment = move |State(app): Shared, request: Request| segment(app, Some(algorithm), request);
        let reset = move |State(app): Shared, request: Request| reset(app, algorithm, request);
        router =
            router.route(&format!("/{algorithm}/"), post(segment)).route(&format!("/{algorithm}/reset/"), post(reset));
    }
    router
        .route("/health", get(health))
        .route("/models", get(models))
        .route("/models/{algorithm}/{name}", get(model))
        .route("/models/{algorithm}/{name}/progress", get(listen))
        .route("/models/{algorithm}/{name}/cancel", post(cancel))
        .route("/openapi.json", get(async || answer(StatusCode::OK, openapi::document().to_string())))
        .route("/docs", get(docs))
        .route("/redoc", get(docs))
        .merge(page::routes())
        .fallback(elsewhere)
        .method_not_allowed_fallback(async |request: Request| {
            body::refuse(request, Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")).await
        })
        .layer(from_fn_with_state(Arc::clone(&app), guard::admit))
        .layer(from_fn_with_state(Arc::clone(&app), guard::watch))
        .with_state(app)
}

/// `POST /{algorithm}/`: trains, segments, or both. Without an algorithm that of the model of that name, or the one that suits
/// the drawn cells.
async fn segment(app: Arc<App>, algorithm: Option<Algorithm>, request: Request) -> Answer {
    let options = match QueryOptions::read(request.uri().query()) {
        Ok(options) => options,
        Err(refusal) => {
            body::throw_away(request).await;
            return Err(refusal);
        }
    };
    // Dropped when the client goes away, and then the work stops.
    let client = Client::default();
    let (bytes, share) = body::read(&app, request).await?;
    let bytes = Arc::new(bytes);
    let chosen = match algorithm {
        Some(_) => None,
        None => Some(choose(&app, &bytes, &client.training).await?),
    };
    let algorithm = algorithm.or(chosen.as_ref().map(|chosen| chosen.0)).unwrap_or(Algorithm::Stardist);
    let (name, work) = {
        let turn = app.unless_stopped(app.decoding.clone().acquire_owned()).await?;
        let (app, outline, cancel) = (Arc::clone(&app), options.outline, client.prediction.clone());
        blocking(move || {
            let _held = (turn, share);
            decode(&app, algorithm, outline, &bytes, &cancel)
        })
        .await?
    };
    let work = Arc::new(work);
    let entry = app.store.entry(algorithm, &name);
    let mut notes: Vec<String> = chosen.iter().filter_map(|chosen| chosen.1.clone()).collect();
    notes.extend(work.notes.iter().cloned());
    let mut trained = None;
    if work.train {
        match work.training_data(algorithm, app.strict)? {
            TrainingData::Drawn(left_out) => {
                let (model, said) = train(&app, &entry, &work, &client.training).await?;
                trained = Some(model);
                notes.extend(left_out.into_iter().chain(said));
            }
            TrainingData::Nothing(reason) => notes.push(reason),
        }
    }
    let mut features: Vec<Vec<Feature>> = work.fields.iter().map(|_| Vec::new()).collect();
    if work.eval {
        match predict(&app, &entry, &work, trained, &client.prediction).await? {
            Some((found, said)) => {
                features = found;
                notes.extend(said);
            }
            None if notes.is_empty() => notes.push(work::untrained(&entry)),
            None => {}
        }
    }
    let several = work.several;
    let text = blocking(move || options.text(features, several)).await?;
    let mut response = answer(StatusCode::OK, text);
    if chosen.is_some() {
        response.headers_mut().insert(ALGORITHM, HeaderValue::from_static(algorithm.name()));
    }
    if let Some(note) = header_of(&notes) {
        response.headers_mut().insert(NOTE, note);
    }
    client.stays();
    Ok(response)
}

/// The algorithm of a request that names none, with the reason: that of the model of its name, or, for a first training, the one
/// that finds left-out drawn cells best.
async fn choose(
    app: &Arc<App>,
    body: &Arc<Vec<u8>>,
    cancel: &CancelToken,
) -> Result<(Algorithm, Option<String>), Refusal> {
    let known = {
        let (app, body) = (Arc::clone(app), Arc::clone(body));
        blocking(move || {
            let body = object(&body)?;
            let request = Segment::read(&body, Algorithm::Stardist, &app.limits)?;
            let has = |algorithm: &Algorithm| app.store.entry(*algorithm, &request.model).exists();
            match (Algorithm::ALL.iter().copied().find(has), request.train) {
                (Some(algorithm), _) => Ok(Some(algorithm)),
                (None, true) => Ok(None),
                (None, false) => {
                    let msg = format!("there is no model '{}' yet; train it first", request.model);
                    Err(Refusal::new(StatusCode::NOT_FOUND, msg))
                }
            }
        })
        .await?
    };
    if let Some(algorithm) = known {
        return Ok((algorithm, None));
    }
    let turn = app.unless_stopped(app.trainings.queue()?.turn()).await?;
    let (app, body, cancel) = (Arc::clone(app), Arc::clone(body), cancel.clone());
    let choice = blocking(move || {
        let _held = turn;
        let (_, work) = decode(&app, Algorithm::Stardist, OutlineRule::Literal, &body, &cancel)?;
        work::choose(&app, &work, &cancel)
    });
    let choice = choice.await?;
    Ok((choice.algorithm, Some(choice.reason)))
}

/// Reads a body and the images in it, unless the client goes away. Blocks.
fn decode(
    app: &App,
    algorithm: Algorithm,
    outline: OutlineRule,
    body: &[u8],
    cancel: &CancelToken,
) -> Result<(ModelName, Work), Refusal> {
    let body = object(body)?;
    let request = Segment::read(&body, algorithm, &app.limits)?;
    let (mut fields, mut memory, mut bytes) = (Vec::new(), Share::default(), 0);
    let mut notes = Vec::new();
    let wanted = if request.train {
        let (encoding, note) = images::encoding(&request.samples, request.encoding, app.limits.pixels, cancel)?;
        notes.extend(note);
        Some(encoding)
    } else {
        None
    };
    for sample in &request.samples {
        cancel.check().map_err(|error| Refusal::from_core(error, Vec::new()))?;
        let field = images::read(sample, wanted, request.range.as_deref(), app.limits.pixels, cancel)?;
        bytes += field.bytes();
        if !app.pixels.could_have(bytes) {
            let msg = "the images of this request have too many pixels together for this server; send fewer at a time";
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, msg));
        }
        if !memory.grow_to(&app.pixels, bytes) {
            let msg = "the images of the requests that wait take all the memory of this server; try again later";
            return Err(Refusal::later(StatusCode::SERVICE_UNAVAILABLE, msg, 10));
        }
        fields.push(field);
    }
    let work = Work {
        fields,
        train: request.train,
        eval: request.eval,
        several: request.several,
        steps: request.steps,
        patch_size: request.patch_size,
        batch_size: request.batch_size,
        learning_rate: request.learning_rate,
        simplify: request.simplify,
        channels: request.channels,
        chosen: request.chosen,
        seed: request.seed,
        init: request.init,
        prediction: request.prediction,
        notes,
        outline,
        _memory: memory,
    };
    Ok((request.model, work))
}

/// Waits for the model's turn and for a turn of the server, then trains.
async fn train(
    app: &Arc<App>,
    entry: &Arc<Entry>,
    work: &Arc<Work>,
    cancel: &CancelToken,
) -> Result<(Arc<Model>, Vec<String>), Refusal> {
    let place = app.trainings.queue()?;
    let called_off = || Refusal::new(StatusCode::CONFLICT, "the training was cancelled before it began");
    let mut waiting = entry.live.wait();
    let turns = app.unless_stopped(async {
        let turn = Arc::clone(&entry.turn).lock_owned().await;
        Ok((turn, place.turn().await?))
    });
    let turns = tokio::select! {
        biased;
        () = waiting.called_off() => return Err(called_off()),
        turns = turns => turns??,
    };
    if !waiting.begin(cancel) {
        return Err(called_off());
    }
    let running = Running(Arc::clone(entry));
    if *app.stop.borrow() {
        cancel.cancel();
    }
    let (app, entry, work, cancel) = (Arc::clone(app), Arc::clone(entry), Arc::clone(work), cancel.clone());
    blocking(move || {
        let (turn, place) = turns;
        // Dropped in this order: the next in the queue finds the training ended.
        let _held = (running, turn);
        work::train(&app, &entry, &work, &cancel, place)
    })
    .await
}

/// Waits for a turn and predicts, with `trained` or else with the last finished weights; `None` when there are none.
async fn predict(
    app: &Arc<App>,
    entry: &Arc<Entry>,
    work: &Arc<Work>,
    trained: Option<Arc<Model>>,
    cancel: &CancelToken,
) -> Result<Option<(Vec<Vec<Feature>>, Vec<String>)>, Refusal> {
    let place = match trained {
        Some(_) => app.predictions.last_part(),
        None => app.predictions.queue()?,
    };
    let permit = place.turn().await?;
    let (app, entry, work, cancel) = (Arc::clone(app), Arc::clone(entry), Arc::clone(work), cancel.clone());
    blocking(move || {
        let _held = permit;
        let model = match trained {
            Some(model) => Some(model),
            None => work::finished(&app, &entry)?,
        };
        model.map(|model| work::predict(&app, &model, &work, &cancel)).transpose()
    })
    .await
}

/// `POST /{algorithm}/reset/`: forgets a model, or replaces it by a pretrained one.
async fn reset(app: Arc<App>, algorithm: Algorithm, request: Request) -> Answer {
    let (bytes, share) = body::read(&app, request).await?;
    let Reset { model, pretrained } = blocking(move || {
        let _held = share;
        Reset::read(&object(&bytes)?)
    })
    .await?;
    let entry = app.store.entry(algorithm, &model);
    let file = match pretrained {
        None => None,
        Some(name) => {
            let app = Arc::clone(&app);
            Some(blocking(move || app.store.pretrained(algorithm, &name)).await?)
        }
    };
    // What is being learned would be discarded.
    entry.live.stop_all();
    let turn = app.unless_stopped(Arc::clone(&entry.turn).lock_owned()).await?;
    blocking(move || {
        let _held = turn;
        let done = match file {
            Some(model) => app.store.admit(&entry, || entry.publish(model))?.map(drop),
            None => entry.remove(),
        };
        done.map_err(|error| Refusal::from_core(error, Vec::new()))
    })
    .await?;
    Ok(answer(StatusCode::OK, "\"\"".into()))
}

/// `GET /health`: at once, whatever else is going on.
async fn health(State(app): Shared) -> Response {
    let body = json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": app.started.elapsed().as_secs(),
        "trainings": app.trainings.told(),
        "predictions": app.predictions.told(),
    });
    answer(StatusCode::OK, body.to_string())
}

/// `GET /models`
async fn models(State(app): Shared) -> Answer {
    let list = blocking(move || Ok(app.store.list())).await?;
    Ok(answer(StatusCode::OK, json!({ "models": list }).to_string()))
}

/// `GET /models/{algorithm}/{name}`
async fn model(State(app): Shared, path: Named) -> Answer {
    let entry = find(&app, path)?;
    let description = blocking(move || {
        if !entry.exists() {
            return Err(Refusal::new(StatusCode::NOT_FOUND, work::untrained(&entry)));
        }
        Ok(app.store.describe(&entry))
    });
    Ok(answer(StatusCode::OK, description.await?.to_string()))
}

/// `GET /models/{algorithm}/{name}/progress`: events, or the state when JSON is asked for.
async fn listen(State(app): Shared, path: Named, request: Request) -> Answer {
    let entry = find(&app, path)?;
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") && !accept.contains("text/event-stream") {
        return Ok(answer(StatusCode::OK, json!(entry.live.status()).to_string()));
    }
    progress::stream(&app, entry)
}

/// `POST /models/{algorithm}/{name}/cancel`: stops the running training, whose weights so far are kept, or those that wait.
async fn cancel(State(app): Shared, path: Named) -> Answer {
    let entry = find(&app, path)?;
    Ok(answer(StatusCode::OK, json!({ "cancelled": entry.live.stop() }).to_string()))
}

/// `GET /docs`: the routes as a page.
async fn docs() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], openapi::page()).into_response()
}

/// Paths that differ from a route in the last slash are redirected to it; others are not found.
async fn elsewhere(request: Request) -> Response {
    let path = request.uri().path();
    let other = match path.strip_suffix('/') {
        Some(path) => path.to_owned(),
        None => format!("{path}/"),
    };
    if !openapi::has_path(&other) {
        return body::refuse(request, Refusal::new(StatusCode::NOT_FOUND, "Not Found")).await;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{other}{query}"));
    let mut response = body::refuse(request, StatusCode::TEMPORARY_REDIRECT).await;
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn find(app: &App, path: Named) -> Result<Arc<Entry>, Refusal> {
    let not_found = || Refusal::new(StatusCode::NOT_FOUND, "Not Found");
    // A path that is no text names nothing.
    let Path((algorithm, name)) = path.map_err(|_| not_found())?;
    let algorithm = algorithm.parse::<Algorithm>().map_err(|_| not_found())?;
    Ok(app.store.entry(algorithm, &ModelName::in_path(&name)?))
}

/// Runs something that takes its time on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let done: Result<Result<T, Refusal>, _> = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::internal("a panic while the request was worked on; see the server's log")))
}

/// What the query of a request asks for.
#[derive(Debug, Clone, Copy)]
struct QueryOptions {
    outline: OutlineRule,
    collection: bool,
}

impl QueryOptions {
    /// Parameters that are not known are ignored, as in the original.
    fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let mut options = Self { outline: OutlineRule::Literal, collection: false };
        for (name, value) in query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
            let known = match name {
                "outline" => value.parse().map(|outline| options.outline = outline).is_ok(),
                "format" => match value {
                    "features" | "featurecollection" => {
                        options.collection = value == "featurecollection";
                        true
                    }
                    _ => false,
                },
                _ => true,
            };
            if !known {
                let expected = if name == "outline" { "literal or exact" } else { "features or featurecollection" };
                let place = vec!["query".into(), name.into()];
                return Err(Refusal::field(place, format!("unknown {name}; give {expected}"), "value_error.enum"));
            }
        }
        Ok(options)
    }

    fn text(self, mut images: Vec<Vec<Feature>>, several: bool) -> Result<String, Refusal> {
        #[derive(Serialize)]
        struct Collection {
            #[serde(rename = "type")]
            kind: &'static str,
            features: Vec<Feature>,
        }
        let collection = |features| Collection { kind: "FeatureCollection", features };
        let first = |images: &mut Vec<Vec<Feature>>| images.pop().unwrap_or_default();
        let text = match (several, self.collection) {
            (false, false) => serde_json::to_string(&first(&mut images)),
            (false, true) => serde_json::to_string(&collection(first(&mut images))),
            (true, false) => serde_json::to_string(&images),
            (true, true) => serde_json::to_string(&images.into_iter().map(collection).collect::<Vec<_>>()),
        };
        text.map_err(Refusal::internal)
    }
}

/// Raises its tokens when it is dropped before the answer was made: the client has gone.
#[derive(Default)]
struct Client {
    /// Others may raise this one too: a training that is stopped so is still answered, with a prediction.
    training: CancelToken,
    prediction: CancelToken,
    answered: bool,
}

impl Client {
    fn stays(mut self) {
        self.answered = true;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.answered {
            self.training.cancel();
            self.prediction.cancel();
        }
    }
}

/// Most characters of a header that a client surely takes.
const HEADER: usize = 2000;

/// Notes as one header, the most important first.
fn header_of(notes: &[String]) -> Option<HeaderValue> {
    let mut text = printable(&notes.join("; "));
    text.truncate(HEADER);
    HeaderValue::from_str(&text).ok().filter(|_| !notes.is_empty())
}

/// A text as a header can hold it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}
