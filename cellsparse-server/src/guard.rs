//! What happens to every request before it is looked at: panics caught, foreign pages and strangers refused, one line
//! written.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::app::App;
use super::body;
use super::errors::Refusal;
use super::event::Event;
use super::page;

/// Runs a request; a panic becomes a 500, and the observer is told how it went.
pub async fn watch(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (response, told) = answered(request, next).await;
    if let Some((request, time)) = told {
        app.observer.tell(Event::Answered { request: &request, status: response.status().as_u16(), time });
    }
    response
}

/// The answer to a request, and what to tell of it.
async fn answered(request: Request, next: Next) -> (Response, Option<(String, Duration)>) {
    let begin = Instant::now();
    let line = format!("{} {}", request.method(), request.uri().path());
    let quiet = request.uri().path() == "/health";
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        Refusal::internal("a panic while the request was answered; the server's log tells where").into_response()
    });
    (response, (!quiet).then(|| (line, begin.elapsed())))
}

/// Refuses strangers.
///
/// With a token, requests must bring it. Without one, a server that is reached from this computer only must be called by
/// a name of this computer, and not from a page of another site: otherwise any page in the user's browser could use it.
pub async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        // What is checked here and what another program on the way takes could differ.
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "the request has several Host headers; send one");
        return body::refuse(request, refusal).await;
    }
    if request.uri().path() == "/health" {
        return next.run(request).await;
    }
    // The files of the page are the same for everybody; with them it asks for the token.
    let is_file = page::is_file(request.uri().path());
    if let Some(token) = app.token.as_ref().filter(|_| !is_file) {
        let brought = request.headers().get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        if !brought.is_some_and(|brought| equal(brought, token.as_bytes())) {
            let refusal = Refusal::new(
                StatusCode::UNAUTHORIZED,
                "this server wants a token; send the header 'Authorization: Bearer ...' with the right one",
            );
            return body::refuse(request, refusal).await;
        }
    } else if app.token.is_none()
        && let Err(refusal) = check_origin(request.headers(), app.local_only, is_file)
    {
        return body::refuse(request, refusal).await;
    }
    next.run(request).await
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether two texts are equal, in a time that tells nothing about where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut difference = a.len() ^ b.len();
    for index in 0..a.len().max(b.len()) {
        let at = |text: &[u8]| usize::from(text.get(index).copied().unwrap_or(0));
        difference |= at(a) ^ at(b);
    }
    std::hint::black_box(difference) == 0
}

/// Where the page that a browser made a request for comes from.
const FETCH_SITE: header::HeaderName = header::HeaderName::from_static("sec-fetch-site");

/// What a browser makes a request for, and how.
const FETCH_DEST: header::HeaderName = header::HeaderName::from_static("sec-fetch-dest");

/// Refuses requests for other hosts and of pages of other sites; a link on such a page may open a `file` of the page as a
/// document of its own.
fn check_origin(headers: &HeaderMap, local_only: bool, file: bool) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(header::HOST);
    if local_only
        && let Some(host) = host
        && !is_local(host)
    {
        let reason = format!("this server answers requests for this computer only, not for '{host}'; give it a token");
        return Err(Refusal::new(StatusCode::FORBIDDEN, reason));
    }
    let foreign =
        || Refusal::new(StatusCode::FORBIDDEN, "requests from pages of other sites are answered with a token only");
    if file && text(FETCH_DEST) == Some("document") {
        return Ok(());
    }
    // Browsers send this one with every request, also with those for pictures, which have no origin.
    if text(FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(foreign());
    }
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let own = origin.split_once("://").map(|(_, authority)| authority);
    if own.is_some() && own == host { Ok(()) } else { Err(foreign()) }
}

/// Whether the host of a `Host` header is this computer by address or name.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = name.parse::<std::net::IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::get;

    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert!(equal(b"abc", b"abc") && !equal(b"abc", b"abd") && !equal(b"abc", b"ab") && !equal(b"", b"a"));
        assert!(!equal(b"ab\0", b"ab"));
    }

    #[test]
    fn only_names_of_this_computer_are_local() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:80", "127.1.2.3", "[::1]:8000", "a.localhost"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1:8000", "[::2]", "", "127.0.0.1.evil.example"] {
            assert!(!is_local(host), "{host}");
        }
        let headers = |pairs: &[(header::HeaderName, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), axum::http::HeaderValue::from_static(value))).collect()
        };
        let own = headers(&[(header::HOST, "localhost:8000"), (header::ORIGIN, "http://localhost:8000")]);
        assert!(check_origin(&own, true, false).is_ok());
        for origin in ["http://evil.example", "null", "http://localhost:9000"] {
            let foreign = headers(&[(header::HOST, "localhost:8000"), (header::ORIGIN, origin)]);
            assert_eq!(check_origin(&foreign, true, false).unwrap_err().status(), 403);
        }
        for (site, status) in [("same-origin", 0), ("none", 0), ("same-site", 403), ("cross-site", 403), ("?", 403)] {
            let fetched = headers(&[(header::HOST, "localhost:8000"), (FETCH_SITE, site)]);
            let refused = check_origin(&fetched, true, false).err().map_or(0, |refusal| refusal.status().as_u16());
            assert_eq!(refused, status, "{site}");
        }
        let linked = headers(&[(header::HOST, "localhost"), (FETCH_SITE, "cross-site"), (FETCH_DEST, "document")]);
        let framed = headers(&[(header::HOST, "localhost"), (FETCH_SITE, "cross-site"), (FETCH_DEST, "iframe")]);
        assert!(check_origin(&linked, true, true).is_ok() && check_origin(&linked, true, false).is_err());
        assert!(check_origin(&framed, true, true).is_err());
        let rebound = headers(&[(header::HOST, "evil.example")]);
        assert!(check_origin(&rebound, true, true).is_err() && check_origin(&rebound, false, false).is_ok());
    }

    #[test]
    fn a_panic_is_a_500_with_json() {
        async fn broken() -> &'static str {
            panic!("on purpose")
        }
        let router: Router = Router::new()
            .route("/x", get(broken))
            .layer(from_fn(async |request, next| answered(request, next).await.0));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let address = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { axum::serve(listener, router).await });
            address
        });
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 500 "), "{text}");
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["detail"].is_string(), "{text}");
    }
}
