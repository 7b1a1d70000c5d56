//! `GET /models/{algorithm}/{name}/progress`: a training as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::app::App;
use super::entry::Entry;
use super::errors::Refusal;
use super::live::Event;

/// A stream under way.
struct Listening {
    events: Receiver<Event>,
    stop: watch::Receiver<bool>,
    first: Option<String>,
    over: bool,
    /// Keeps the model from being forgotten while somebody listens.
    _entry: Arc<Entry>,
    _share: OwnedSemaphorePermit,
}

/// Silence after which a comment is sent, so that connections stay open.
const SILENCE: Duration = Duration::from_secs(15);

/// The events of the running training, or of the next one: `state` at once, then `started`, `progress` after every step,
/// and `finished` or `failed`, with which the stream ends.
///
/// # Errors
/// 503 when too many listen.
pub fn stream(app: &App, entry: Arc<Entry>) -> Result<Response, Refusal> {
    let Ok(share) = app.streams.clone().try_acquire_owned() else {
        return Err(Refusal::later(StatusCode::SERVICE_UNAVAILABLE, "too many listeners; try again later", 10));
    };
    // Subscribed before the state is read, so that nothing is missed between the two.
    let events = entry.live.subscribe();
    let state = serde_json::to_string(&entry.live.status()).unwrap_or_default();
    let listening =
        Listening { events, stop: app.stop.subscribe(), first: Some(state), over: false, _entry: entry, _share: share };
    let stream = unfold(listening, |mut listening| async move {
        let event = listening.next().await?;
        Some((Ok::<Sent, Infallible>(event), listening))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(SILENCE)).into_response())
}

impl Listening {
    async fn next(&mut self) -> Option<Sent> {
        if let Some(state) = self.first.take() {
            return Some(Sent::default().event("state").data(state));
        }
        while !self.over {
            let received = tokio::select! {
                biased;
                received = self.events.recv() => received,
                _ = self.stop.wait_for(|stopped| *stopped) => return None,
            };
            match received {
                Ok(event) => {
                    self.over = event.is_last();
                    return Some(Sent::default().event(event.name).data(event.data));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
        None
    }
}
