//! Bodies of requests: read within limits, or read and discarded so that the client gets to read the response.

use std::time::{Duration, Instant};

use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::app::App;
use super::connections::Arrival;
use super::errors::Refusal;
use super::fields::not_an_object;
use super::memory::Share;

/// Time that a client has to send a body.
const PATIENCE: Duration = Duration::from_secs(300);

/// Time that a client may pause while it sends a body.
const PAUSE: Duration = Duration::from_secs(30);

/// Time and bytes spent on a body that nobody wants, so that the client gets to read the response.
const DRAIN: (Duration, usize) = (Duration::from_secs(10), 1 << 30);

/// The body of a request, with its share of the memory for bodies, which is taken as the bytes arrive.
///
/// # Errors
/// 413 for a body beyond the limit, 503 when all bodies together would take too much, 408 for one that does not come, 400
/// for one that ends early, 422 for one that is not said to be JSON. In the first two cases the rest is read and discarded.
pub async fn read(app: &App, request: Request) -> Result<(Vec<u8>, Share), Refusal> {
    let is_json = is_json(request.headers());
    let (bytes, share) = read_bytes(app, request).await?;
    if !is_json && !bytes.is_empty() {
        return Err(not_an_object());
    }
    Ok((bytes, share))
}

/// As [`read`], whatever the body is said to be.
///
/// # Errors
/// As there, but for the last one.
pub async fn read_bytes(app: &App, request: Request) -> Result<(Vec<u8>, Share), Refusal> {
    let limit = app.limits.body;
    let arrival = request.extensions().get::<Arrival>().cloned();
    let announced = length(request.headers()).unwrap_or(0);
    let mut stream = request.into_body().into_data_stream();
    let (mut bytes, mut share) = (Vec::new(), Share::default());
    let mut refusal = match announced {
        length if length > limit => Some(too_large(limit)),
        length if !app.bodies.has(length) => Some(crowded()),
        _ => None,
    };
    let deadline = Instant::now() + PATIENCE;
    while refusal.is_none() {
        let time = PAUSE.min(deadline.saturating_duration_since(Instant::now()));
        let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body of the request did not arrive");
        let Some(chunk) = timeout(time, stream.next()).await.map_err(late)? else { break };
        let early = |_| Refusal::new(StatusCode::BAD_REQUEST, "the body of the request ends early");
        let chunk = chunk.map_err(early)?;
        let length = bytes.len() + chunk.len();
        if length > limit {
            refusal = Some(too_large(limit));
        } else if share.grow_to(&app.bodies, length) && bytes.try_reserve(chunk.len()).is_ok() {
            bytes.extend_from_slice(&chunk);
        } else {
            refusal = Some(crowded());
        }
    }
    if let Some(refusal) = refusal {
        drop((bytes, share));
        drain(stream).await;
        return Err(refusal);
    }
    if let Some(arrival) = arrival {
        arrival.complete();
    }
    Ok((bytes, share))
}

fn too_large(limit: usize) -> Refusal {
    let limit = limit >> 20;
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {limit} MiB, the limit of this server; send a part of the image"),
    )
}

fn crowded() -> Refusal {
    Refusal::later(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at a time", 5)
}

/// Answers without looking at the body.
pub async fn refuse(request: Request, answer: impl IntoResponse) -> Response {
    throw_away(request).await;
    answer.into_response()
}

/// Reads the body of a request and throws it away, so that the client gets to read the response.
pub async fn throw_away(request: Request) {
    drain(request.into_body().into_data_stream()).await;
}

/// Many clients look at the answer only when they have sent everything.
async fn drain(mut stream: BodyDataStream) {
    let (time, most) = DRAIN;
    let throw_away = async {
        let mut seen = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            seen += chunk.len();
            if seen > most {
                break;
            }
        }
    };
    // A client that is slower than this gets the answer, or not.
    let _ = timeout(time, throw_away).await;
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the body is said to be JSON, or nothing is said.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
