//! A server without connections: requests go in and answers come out in this process, as tests try them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use axum::response::Response;
use cellsparse_core::{Error, Result};
use futures_util::{StreamExt, stream};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::event::{Event, Observer};
use super::{Settings, routes};

/// Time that is waited for more of an answer that does not end, as a stream of events does not.
const MORE: Duration = Duration::from_millis(20);

/// The routes of a server with its models.
pub struct InProcess {
    router: axum::Router,
    runtime: Runtime,
}

/// A request, as it may come from anybody.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The parts in which the body arrives.
    pub body: Vec<Vec<u8>>,
    /// The connection breaks off behind the last part.
    pub breaks_off: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The type of the body.
    pub content_type: String,
    /// The body, or the beginning of one that does not end.
    pub body: Vec<u8>,
}

impl InProcess {
    /// Opens the folder of models, as [`run`](super::run) does.
    ///
    /// # Errors
    /// As of [`run`](super::run).
    pub fn new(settings: Settings) -> Result<Self> {
        let app = super::app(settings, Observer::new(|_: Event<'_>| ()))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Error::Internal(format!("starting threads: {error}")))?;
        Ok(Self { router: routes::router(Arc::new(app)), runtime })
    }

    /// Answers a request; `None` for one that cannot be written in HTTP.
    pub fn answer(&self, asked: &Asked) -> Option<Answered> {
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(asked.method.as_bytes()).ok()?;
        *request.uri_mut() = asked.target.parse::<Uri>().ok()?;
        for (name, value) in &asked.headers {
            let (name, value) = (HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_bytes(value).ok()?);
            request.headers_mut().append(name, value);
        }
        let mut parts: Vec<std::io::Result<Bytes>> = asked.body.iter().map(|part| Ok(part.clone().into())).collect();
        if asked.breaks_off {
            parts.push(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        let body = if parts.is_empty() { Body::empty() } else { Body::from_stream(stream::iter(parts)) };
        let request = request.map(|()| body);
        self.runtime.block_on(async {
            let response = match TowerToHyperService::new(self.router.clone()).call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            Some(Self::read(response).await)
        })
    }

    async fn read(response: Response) -> Answered {
        let status = response.status().as_u16();
        let text = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = text.unwrap_or_default().to_owned();
        let endless = content_type.starts_with("text/event-stream");
        let (mut body, mut stream) = (Vec::new(), response.into_body().into_data_stream());
        loop {
            let next = match endless {
                true => timeout(MORE, stream.next()).await.ok().flatten(),
                false => stream.next().await,
            };
            match next {
                Some(Ok(part)) => body.extend_from_slice(&part),
                _ => return Answered { status, content_type, body },
            }
        }
    }
}
