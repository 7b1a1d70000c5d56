//! Bodies of requests: read within limits, or thrown away politely.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::app::App;
use super::errors::Refusal;
use super::fields::not_an_object;

/// Time that a client has to send a body.
const PATIENCE: Duration = Duration::from_secs(300);

/// Time and bytes spent on a body that nobody wants, so that the client gets to read the answer.
const DRAIN: (Duration, usize) = (Duration::from_secs(10), 1 << 30);

/// Bodies are accounted in these units, of which [`App`] has a number.
pub const UNIT: usize = 1 << 16;

/// The body of a request, with its share of the memory for bodies.
///
/// # Errors
/// 413 for a body beyond the limit, 503 when all bodies together would take too much, 408 for one that does not come, 400
/// for one that ends early, 422 for one that is not said to be JSON. In all cases but the last two the rest is read and
/// thrown away.
pub async fn read(app: &App, request: Request) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    let limit = app.limits.body;
    let is_json = is_json(request.headers());
    let announced = length(request.headers());
    let body = request.into_body();
    let too_large = || {
        let limit = limit >> 20;
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {limit} MiB, the limit of this server; send a part of the image"),
        )
    };
    if announced.is_some_and(|length| length > limit) {
        drain(body).await;
        return Err(too_large());
    }
    let units = u32::try_from(announced.unwrap_or(limit).div_ceil(UNIT)).unwrap_or(u32::MAX);
    let Ok(share) = app.bodies.clone().try_acquire_many_owned(units) else {
        drain(body).await;
        return Err(Refusal::later(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at a time", 5));
    };
    let bytes = match timeout(PATIENCE, to_bytes(body, limit)).await {
        Err(_) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body of the request did not arrive")),
        Ok(Err(error)) if error.to_string().contains("length limit") => return Err(too_large()),
        Ok(Err(_)) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "the body of the request ends early")),
        Ok(Ok(bytes)) => bytes,
    };
    if !is_json && !bytes.is_empty() {
        return Err(not_an_object());
    }
    Ok((bytes, share))
}

/// Answers without looking at the body.
pub async fn refuse(request: Request, answer: impl IntoResponse) -> Response {
    drain(request.into_body()).await;
    answer.into_response()
}

/// Reads a body and throws it away: many clients look at the answer only when they have sent everything.
async fn drain(body: Body) {
    let (time, most) = DRAIN;
    let throw_away = async {
        let mut stream = body.into_data_stream();
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
