//! The routes of the page.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cellsparse_core::raster::regions::{RegionReader as _, cut};
use cellsparse_core::session::{Edit, Origin, Settings, Shape, Window};
use cellsparse_core::{CancelToken, Result as CoreResult};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::clicks::{Allowed, Asked};
use super::pixels::{self, Part};
use super::talk::{Talk, about_project};
use super::{content, files, learning, lock, results};
use crate::app::App;
use crate::body;
use crate::errors::{Refusal, answer};
use crate::names::ModelName;

type Answer = Result<Response, Refusal>;
type Shared = State<Arc<App>>;
type Named = Result<Path<String>, PathRejection>;
type Numbered = Result<Path<(String, u32)>, PathRejection>;

/// Silence after which a comment is sent, so that connections stay open.
const SILENCE: Duration = Duration::from_secs(15);

/// All routes below `/app`.
pub fn routes() -> Router<Arc<App>> {
    let image = "/app/api/projects/{project}/images/{image}";
    let project = "/app/api/projects/{project}";
    Router::new()
        .route("/app", get(async || Redirect::permanent("/app/")))
        .route("/app/", get(async || files::file("")))
        .route("/app/{file}", get(async |Path(file): Path<String>| files::file(&file)))
        .route("/app/js/{file}", get(async |Path(file): Path<String>| files::file(&format!("js/{file}"))))
        .route("/app/api/state", get(state))
        .route(project, get(show).post(begin))
        .route(&format!("{project}/events"), get(events))
        .route(&format!("{project}/settings"), post(settings))
        .route(&format!("{project}/learn"), post(learn))
        .route(&format!("{project}/look"), post(look))
        .route(&format!("{project}/forget"), post(forget))
        .route(&format!("{project}/model"), get(model))
        .route(&format!("{project}/images"), post(add))
        .route(&format!("{project}/from-folder"), post(add_from_folder))
        .route(&format!("{image}/remove"), post(remove))
        .route(&format!("{image}/pixels"), get(part))
        .route(&format!("{image}/ranges"), get(ranges))
        .route(&format!("{image}/drawn"), get(drawn))
        .route(&format!("{image}/edit"), post(edit))
        .route(&format!("{image}/correct"), post(correct))
        .route(&format!("{image}/outline"), post(outline))
        .route(&format!("{image}/objects"), get(objects))
        .route(&format!("{image}/suggestions"), get(suggestions))
        .route(&format!("{image}/results"), get(result))
}

fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "Not Found")
}

fn reply(value: &Value) -> Answer {
    Ok(answer(StatusCode::OK, value.to_string()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::internal("a panic while the request was worked on; see the server's log")))
}

/// The project that a path names, which is begun, if it is to `begin`, where there is none.
async fn talk(app: &Arc<App>, name: &str, begin: bool) -> Result<Arc<Talk>, Refusal> {
    let msg = |reason: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("not a usable name: {reason}"));
    let name = ModelName::new(name).map_err(msg)?;
    let app = Arc::clone(app);
    blocking(move || app.page.talk(&name, begin)).await
}

async fn named(app: &Arc<App>, path: Named) -> Result<Arc<Talk>, Refusal> {
    let Path(name) = path.map_err(|_| not_found())?;
    talk(app, &name, false).await
}

async fn numbered(app: &Arc<App>, path: Numbered) -> Result<(Arc<Talk>, u32), Refusal> {
    let Path((name, image)) = path.map_err(|_| not_found())?;
    Ok((talk(app, &name, false).await?, image))
}

/// The JSON of a body.
async fn read<T: DeserializeOwned>(app: &App, request: Request) -> Result<T, Refusal> {
    let (bytes, _share) = body::read(app, request).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the request cannot be read: {error}")))
}

/// Work that takes a turn of the predictions, and ends when its client goes away.
async fn predicting<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App, &CancelToken) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    struct Leaving(CancelToken);
    impl Drop for Leaving {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let leaving = Leaving(CancelToken::new());
    let cancel = leaving.0.clone();
    let turn = app.unless_stopped(app.predictions.queue()?.turn()).await??;
    let app = Arc::clone(app);
    blocking(move || {
        let _held = turn;
        work(&app, &cancel)
    })
    .await
}

/// `GET /app/api/state`: projects, and the images of the folder.
async fn state(State(app): Shared) -> Answer {
    let value = blocking(move || {
        let folder = app.page.images.is_some().then(|| app.page.folder_images());
        let version = env!("CARGO_PKG_VERSION");
        Ok(json!({
            "projects": app.page.names(), "folder": folder, "version": version, "most_pixels": app.limits.pixels,
            "sam": app.page.clicks.told(),
        }))
    });
    reply(&value.await?)
}

/// `POST /app/api/projects/{project}`: opens it, or begins it.
async fn begin(State(app): Shared, path: Named) -> Answer {
    let Path(name) = path.map_err(|_| not_found())?;
    show_again(talk(&app, &name, true).await?).await
}

/// `GET /app/api/projects/{project}`: opens it.
async fn show(State(app): Shared, path: Named) -> Answer {
    show_again(named(&app, path).await?).await
}

/// `GET /app/api/projects/{project}/events`: what happens, as server-sent events.
async fn events(State(app): Shared, path: Named) -> Answer {
    let talk = named(&app, path).await?;
    let Ok(share) = app.streams.clone().try_acquire_owned() else {
        return Err(Refusal::later(StatusCode::SERVICE_UNAVAILABLE, "too many listeners; close other pages", 10));
    };
    let heard = talk.subscribe();
    let first = Some(talk.status_json().to_string());
    let listening = (heard, app.stop.subscribe(), first, talk, share);
    let stream = unfold(listening, |(mut heard, mut stop, mut first, talk, share)| async move {
        if let Some(status) = first.take() {
            let event = Sent::default().event("status").data(status);
            return Some((Ok::<Sent, Infallible>(event), (heard, stop, first, talk, share)));
        }
        loop {
            let received = tokio::select! {
                biased;
                received = heard.recv() => received,
                _ = stop.wait_for(|stopped| *stopped) => return None,
            };
            match received {
                Ok(event) => {
                    let event = Sent::default().event(event.name).data(event.data);
                    return Some((Ok(event), (heard, stop, first, talk, share)));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(SILENCE)).into_response())
}

/// `POST /app/api/projects/{project}/settings`
async fn settings(State(app): Shared, path: Named, request: Request) -> Answer {
    let talk = named(&app, path).await?;
    let settings: Settings = read(&app, request).await?;
    let own = Arc::clone(&talk);
    blocking(move || own.choose(settings)).await?;
    learning::wake(&app, &talk);
    show_again(talk).await
}

async fn show_again(talk: Arc<Talk>) -> Answer {
    reply(&blocking(move || Ok(content::project(&talk))).await?)
}

/// `POST /app/api/projects/{project}/learn`: `{"on": true}` begins learning, `{"on": false}` ends it.
async fn learn(State(app): Shared, path: Named, request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        on: bool,
    }
    let talk = named(&app, path).await?;
    let Body { on } = read(&app, request).await?;
    if on {
        learning::start(&app, &talk);
    } else {
        talk.stop();
    }
    talk.tell_status();
    reply(&talk.status_json())
}

/// `POST /app/api/projects/{project}/look`: the image and the part of it that the page shows, which previews are of.
async fn look(State(app): Shared, path: Named, request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        image: Option<u32>,
        /// First row and column, and those behind the last ones.
        view: Option<[usize; 4]>,
    }
    let talk = named(&app, path).await?;
    let Body { image, view } = read(&app, request).await?;
    let mut status = lock(&talk.status);
    status.image = image;
    status.view = view.map(|[top, left, bottom, right]| Window { rows: [top, bottom], columns: [left, right] });
    drop(status);
    reply(&json!({}))
}

/// `POST /app/api/projects/{project}/forget`: begins learning anew.
async fn forget(State(app): Shared, path: Named) -> Answer {
    let talk = named(&app, path).await?;
    let own = Arc::clone(&talk);
    blocking(move || {
        own.forget();
        Ok(())
    })
    .await?;
    learning::wake(&app, &talk);
    show_again(talk).await
}

/// `GET /app/api/projects/{project}/model`: the file of the model.
async fn model(State(app): Shared, path: Named) -> Answer {
    let talk = named(&app, path).await?;
    blocking(move || {
        let learner = lock(&talk.learner).clone();
        let Some(learner) = learner else {
            let msg = "nothing was learned yet; draw some cells and start learning first";
            return Err(Refusal::new(StatusCode::NOT_FOUND, msg));
        };
        let mut bytes = Vec::new();
        learner.model().to_writer(&mut bytes).map_err(about_project)?;
        Ok(results::download(bytes, &format!("{}.safetensors", talk.name)))
    })
    .await
}

/// `POST /app/api/projects/{project}/images?name=NAME`: adds the image in the body.
async fn add(State(app): Shared, path: Named, RawQuery(query): RawQuery, request: Request) -> Answer {
    let talk = match named(&app, path).await {
        Ok(talk) => talk,
        Err(refusal) => return Ok(body::refuse(request, refusal).await),
    };
    let name = asked(query.as_deref(), "name").unwrap_or_else(|| "image".into());
    let (bytes, share) = body::read_bytes(&app, request).await?;
    let turn = app.unless_stopped(app.decoding.clone().acquire_owned()).await?;
    blocking(move || {
        let _held = (turn, share);
        let id = talk.add(|project, limits| project.add_image(&name, &bytes, limits))?;
        one_picture(&talk, id)
    })
    .await
}

/// A parameter of a query.
fn asked(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digits: Option<Vec<u8>> = (byte == b'%').then(|| rest.by_ref().take(2).collect());
        bytes.push(match digits {
            Some(digits) => u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?,
            None if byte == b'+' => b' ',
            None => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[derive(Deserialize)]
struct FolderImage {
    name: String,
}

/// `POST /app/api/projects/{project}/from-folder`: adds an image of the folder that the server was started with.
async fn add_from_folder(State(app): Shared, path: Named, request: Request) -> Answer {
    let talk = named(&app, path).await?;
    let FolderImage { name } = read(&app, request).await?;
    blocking(move || {
        let file = app.page.folder_image(&name)?;
        let id = talk.add(|project, limits| project.add_file(&file, limits))?;
        one_picture(&talk, id)
    })
    .await
}

fn one_picture(talk: &Talk, id: u32) -> Answer {
    let project = lock(&talk.project);
    reply(&content::picture(project.picture(id).map_err(about_project)?))
}

/// `POST .../remove`: takes an image out.
async fn remove(State(app): Shared, path: Numbered) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    blocking(move || talk.remove(image)).await?;
    reply(&json!({}))
}

/// `GET .../pixels?level=&x=&y=&side=`
async fn part(State(app): Shared, path: Numbered, RawQuery(query): RawQuery) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let number = |name| asked(query.as_deref(), name).and_then(|value| value.parse().ok()).unwrap_or(0);
    let part = Part { level: number("level") as u32, x: number("x"), y: number("y"), side: number("side") };
    blocking(move || match talk.slide(image, false).map_err(about_project)? {
        Some(slide) => pixels::part_of_slide(&slide, part, about_project),
        None => pixels::part(&*talk.image(image, false).map_err(about_project)?, part),
    })
    .await
}

/// `GET .../ranges`: smallest, low, high and largest sample of every channel.
async fn ranges(State(app): Shared, path: Numbered) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let ranges = blocking(move || match talk.slide(image, false).map_err(about_project)? {
        Some(slide) => pixels::ranges_of_slide(&slide).map_err(about_project),
        None => Ok(pixels::ranges(&*talk.image(image, false).map_err(about_project)?)),
    });
    reply(&json!(ranges.await?))
}

/// `GET .../drawn`
async fn drawn(State(app): Shared, path: Numbered) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    blocking(move || {
        let project = lock(&talk.project);
        let picture = project.picture(image).map_err(about_project)?;
        let [rows, columns, _] = picture.shape;
        reply(&content::drawn(picture, Some([0, 0, rows, columns])))
    })
    .await
}

/// What is done to an image: an edit, or `{"kind": "undo"}` or `{"kind": "redo"}`.
enum Doing {
    Undo,
    Redo,
    Edit(Edit),
}

impl<'de> Deserialize<'de> for Doing {
    /// By its kind, so that a refusal tells what is wrong with the edit.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        match value.get("kind").and_then(Value::as_str) {
            Some("undo") => Ok(Self::Undo),
            Some("redo") => Ok(Self::Redo),
            _ => serde_json::from_value(value).map(Self::Edit).map_err(serde::de::Error::custom),
        }
    }
}

/// `POST .../edit`: draws, takes back, or does again; answers with what is drawn where it changed.
async fn edit(State(app): Shared, path: Numbered, request: Request) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let doing: Doing = read(&app, request).await?;
    edited(&app, talk, image, move |project| match doing {
        Doing::Undo => project.undo(image, false),
        Doing::Redo => project.undo(image, true),
        Doing::Edit(edit) => project.edit(image, edit),
    })
    .await
}

async fn edited(
    app: &Arc<App>,
    talk: Arc<Talk>,
    image: u32,
    edit: impl FnOnce(&mut cellsparse_core::session::Project) -> CoreResult<cellsparse_core::session::Change>
    + Send
    + 'static,
) -> Answer {
    let own = Arc::clone(&talk);
    let value = blocking(move || {
        let change = own.edit(image, edit)?;
        let project = lock(&own.project);
        let picture = project.picture(image).map_err(about_project)?;
        let mut value = content::drawn(picture, change.bounds);
        if let Value::Object(fields) = &mut value {
            fields.insert("cell".into(), json!(change.cell));
        }
        Ok(value)
    });
    let value = value.await?;
    learning::wake(app, &talk);
    reply(&value)
}

/// A correction of an object of the answer.
#[derive(Deserialize)]
struct Correction {
    /// `accept`, `delete` or `redraw`.
    kind: String,
    /// A point `[x, y]` of the object: ids are other ones after every round.
    at: [f64; 2],
    /// Its new shape.
    shape: Option<Shape>,
}

/// `POST .../correct`: accepts, deletes or redraws the object at a point; answers as an edit.
async fn correct(State(app): Shared, path: Numbered, request: Request) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let Correction { kind, at, shape } = read(&app, request).await?;
    let own = Arc::clone(&talk);
    let edit = predicting(&app, move |app, cancel| {
        let (answer, _) = own.answer(app, image, cancel).map_err(about_project)?;
        let unusable = |msg: &str| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, msg);
        let inside = |value: f64| if (0.0..1e9).contains(&value) { Some(value as usize) } else { None };
        let place = inside(at[1]).zip(inside(at[0]));
        let id = place.and_then(|place| answer.segmentation.labels.get(place)).copied().unwrap_or(0);
        let origin = answer.origin(id).ok_or_else(|| unusable("there is no object here any more"))?;
        let pixels = answer.pixels(id);
        match (kind.as_str(), origin, shape) {
            ("accept", Origin::Found(_), _) => Ok(Edit::Accept { pixels }),
            ("accept", Origin::Drawn(_), _) => Err(unusable("this cell is drawn already")),
            ("delete", Origin::Found(_), _) => Ok(Edit::Delete { pixels }),
            ("delete", Origin::Drawn(_), _) => Ok(Edit::Forget { pixels }),
            ("redraw", _, Some(shape)) => Ok(Edit::Redraw { pixels, shape }),
            _ => Err(unusable("an object is corrected by accept, delete, or redraw with a shape")),
        }
    });
    let edit = edit.await?;
    edited(&app, talk, image, move |project| project.edit(image, edit)).await
}

/// `POST .../outline`: the object at points and in a box, which nothing stores until it is accepted by an edit; see [`Asked`].
async fn outline(State(app): Shared, path: Numbered, request: Request) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let asked: Asked = read(&app, request).await?;
    let value = predicting(&app, move |app, cancel| {
        let allowed = Allowed { memory: app.memory, cancel: cancel.clone() };
        if let Some(slide) = talk.slide(image, false).map_err(about_project)? {
            let [rows, columns, _] = slide.shape();
            let read = |part| slide.read(part, 0).map(Cow::Owned);
            return app.page.clicks.outline([rows, columns], read, &asked, &allowed);
        }
        let pixels = talk.image(image, false).map_err(about_project)?;
        let size = [pixels.height(), pixels.width()];
        app.page.clicks.outline(size, |part| cut(&pixels, part), &asked, &allowed)
    });
    reply(&value.await?)
}

/// `GET .../objects`: what was found, joined with what is drawn.
async fn objects(State(app): Shared, path: Numbered) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let value = predicting(&app, move |app, cancel| {
        let (answer, found) = talk.answer(app, image, cancel).map_err(about_project)?;
        content::answer(&answer, &found).map_err(about_project)
    });
    reply(&value.await?)
}

/// `GET .../suggestions`: where to draw next.
async fn suggestions(State(app): Shared, path: Numbered) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let value = predicting(&app, move |app, cancel| {
        Ok(content::suggestions(&talk.suggest(app, image, cancel).map_err(about_project)?))
    });
    reply(&value.await?)
}

/// `GET .../results?form=png|tiff|geojson|rois|csv|drawn`
async fn result(State(app): Shared, path: Numbered, RawQuery(query): RawQuery) -> Answer {
    let (talk, image) = numbered(&app, path).await?;
    let form = asked(query.as_deref(), "form").unwrap_or_default();
    predicting(&app, move |app, cancel| {
        let (answer, _) = talk.answer(app, image, cancel).map_err(about_project)?;
        let pixels = talk.image(image, false).map_err(about_project)?;
        let (name, drawn, pixel_size) = {
            let project = lock(&talk.project);
            let picture = project.picture(image).map_err(about_project)?;
            (picture.name.clone(), picture.canvas.labels().clone(), picture.pixel_size)
        };
        let source = results::Source { segmentation: &answer.segmentation, drawn: &drawn, image: &pixels, pixel_size };
        let Some((bytes, ending)) = results::content(&form, &source).map_err(about_project)? else {
            let msg = format!("there is no form '{form}'; there are {}", results::FORMS.join(", "));
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, msg));
        };
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let part = if form == "drawn" { "drawn" } else { "cells" };
        Ok(results::download(bytes, &format!("{stem}-{part}.{ending}")))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_query_are_decoded() {
        assert_eq!(asked(Some("x=1&name=a%20%C3%A4+b"), "name").as_deref(), Some("a \u{e4} b"));
        assert_eq!(asked(Some("name=%C3"), "name"), None);
        assert_eq!(asked(Some("name=%zz"), "name"), None);
        assert_eq!(asked(None, "name"), None);
    }

    #[test]
    fn steps_and_edits_are_told_apart() {
        let doing = |text: &str| serde_json::from_str::<Doing>(text);
        assert!(matches!(doing(r#"{"kind":"undo"}"#), Ok(Doing::Undo)));
        assert!(matches!(doing(r#"{"kind":"redo"}"#), Ok(Doing::Redo)));
        assert!(matches!(doing(r#"{"kind":"clear"}"#), Ok(Doing::Edit(Edit::Clear))));
        let gold = r#"{"kind":"paint","shape":{"shape":"stroke","points":[[1,2]],"radius":1},"ink":{"ink":"gold"}}"#;
        for (text, word) in [(r#"{"kind":"explode"}"#, "explode"), ("{}", "`kind`"), (gold, "gold")] {
            let message = doing(text).err().unwrap().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
