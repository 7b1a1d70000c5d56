//! The server of cellsparse: the HTTP interface of cellsparse-api 0.2.0, and more beside it.
//!
//! ```no_run
//! use cellsparse_server::{Event, Settings, run};
//!
//! # fn main() -> cellsparse_core::Result<()> {
//! let mut settings = Settings::new("models"); // 127.0.0.1:8000
//! settings.port = 0; // a free one
//! let observer = |event: Event<'_>| {
//!     if let Event::Listening { address } = event {
//!         println!("http://{address}");
//!     }
//! };
//! run(settings, observer, std::future::pending()) // answers until the future is ready
//! # }
//! ```
//!
//! Requests are answered by a few threads that never compute; trainings and predictions run on threads of their own, so the
//! server answers while it trains. The routes are described at `/openapi.json`.

#![deny(unsafe_code)]

mod app;
mod body;
mod connections;
mod entry;
mod errors;
mod event;
mod fields;
mod guard;
mod images;
#[doc(hidden)]
pub mod in_process;
mod json;
mod limits;
mod live;
mod memory;
mod names;
mod openapi;
mod page;
mod progress;
mod python_json;
mod routes;
mod store;
mod values;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cellsparse_core::model::Device;
use cellsparse_core::{Budget, Error, Result};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use self::app::App;
pub use self::event::Event;
use self::event::Observer;
pub use self::limits::Limits;
use self::page::{Clicks, Page};
use self::store::ModelStore;

/// Time that requests under way get when the server ends: a training stops after its step, chooses thresholds and saves.
const GRACE: Duration = Duration::from_secs(120);

/// How a server is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Address or host name to listen on. Default `127.0.0.1`, which other computers cannot reach.
    pub host: String,
    /// Port to listen on; 0 takes a free one. Default 8000.
    pub port: u16,
    /// Folder of the models, which is made if it is not there. One server uses it at a time.
    pub models: PathBuf,
    /// Folder of the files that a reset may name as pretrained. Default `pretrained` in the folder of the models.
    pub pretrained: PathBuf,
    /// Folder of the projects of the page at `/app`. Default `projects` in the folder of the models.
    pub projects: PathBuf,
    /// Folder of images that the page offers, with the folders in it. Default none.
    pub images: Option<PathBuf>,
    /// Weights of SAM for outlines by click on the page; the feature `sam` reads them. Default none.
    pub sam: Option<PathBuf>,
    /// Where networks run. Default [`Device::Auto`].
    pub device: Device,
    /// Compute threads of each training and prediction. Default one per core.
    pub threads: Option<usize>,
    /// Memory that each training and prediction may take. Default half of what is free when it begins.
    pub memory: Option<Budget>,
    /// What requests must bring as `Authorization: Bearer`. Default nothing.
    pub token: Option<String>,
    /// Refuse requests that the original server answered although it could do nothing useful. Default false.
    pub strict: bool,
    /// What one request, and all of them together, may take.
    pub limits: Limits,
}

impl Settings {
    /// The defaults, with a folder of models.
    pub fn new(models: impl Into<PathBuf>) -> Self {
        let models = models.into();
        Self {
            host: "127.0.0.1".into(),
            port: 8000,
            pretrained: models.join("pretrained"),
            projects: models.join("projects"),
            images: None,
            sam: None,
            models,
            device: Device::Auto,
            threads: None,
            memory: None,
            token: None,
            strict: false,
            limits: Limits::default(),
        }
    }
}

/// Opens the folder of models, listens and answers until `end` is ready; then trainings stop after the running step and are
/// saved. `end` runs in a runtime of tokio. The observer is called from any thread and must not wait.
///
/// # Errors
/// [`Error::Config`] for an empty token, an address that cannot be listened on, and weights of SAM without the feature `sam`; what is
/// wrong with such weights; [`Error::File`], [`Error::Io`] when the
/// folder cannot be written or another server uses it.
pub fn run(
    settings: Settings,
    observer: impl Fn(Event<'_>) + Send + Sync + 'static,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let Settings { host, port, .. } = settings.clone();
    let app = app(settings, Observer::new(observer))?;
    // These threads only pass bytes on; the compute threads are made by the library.
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cellsparse-http")
        .enable_all()
        .build()
        .map_err(|error| Error::Internal(format!("starting threads: {error}")))?;
    let ended = runtime.block_on(listen(&host, port, app, end));
    // Work whose client has gone may still be saving.
    runtime.shutdown_timeout(ended.as_ref().map_or(Duration::ZERO, |began| GRACE.saturating_sub(began.elapsed())));
    ended.map(drop)
}

fn app(settings: Settings, observer: Observer) -> Result<App> {
    if settings.token.as_deref().is_some_and(|token| token.trim().is_empty()) {
        return Err(Error::Config("the token is empty; give one, or leave it out".into()));
    }
    let store = ModelStore::open(&settings.models, &settings.pretrained, settings.limits.models)?;
    observer.tell(Event::Opened { models: &settings.models });
    if let Some(folder) = settings.images.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Error::NotFound { path: folder.clone() });
    }
    let clicks = Clicks::open(settings.sam.as_deref(), settings.device, settings.threads)?;
    let page = Page::new(settings.projects, settings.images, clicks, settings.limits.pixels);
    Ok(App {
        device: settings.device,
        threads: settings.threads,
        memory: settings.memory,
        strict: settings.strict,
        token: settings.token.map(|token| token.trim().to_owned()),
        ..App::new(settings.limits, store, page, observer)
    })
}

/// Answers requests until the server is to end. Gives the time when that began.
async fn listen(
    host: &str,
    port: u16,
    mut app: App,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<Instant> {
    let refused = |error| Error::Config(format!("cannot listen on {host}:{port}: {error}"));
    let listener = TcpListener::bind((host, port)).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    if !address.ip().is_loopback() {
        if app.token.is_none() {
            app.observer.tell(Event::Unguarded { address });
        }
        app.local_only = false;
    }
    let app = Arc::new(app);
    let router = routes::router(Arc::clone(&app));
    app.observer.tell(Event::Listening { address });
    let stop = app.stop.subscribe();
    let ended = tokio::spawn(async move {
        end.await;
        let began = Instant::now();
        app.observer.tell(Event::Ending);
        app.stop.send_replace(true);
        app.page.stop_all();
        for entry in app.store.entries() {
            entry.live.stop_running();
        }
        began
    });
    connections::serve(listener, router, stop, GRACE).await;
    ended.await.map_err(|error| Error::Internal(format!("ending the server: {error}")))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::mpsc;

    use super::*;

    fn health(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_program_runs_a_server_and_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path().join("models"));
        settings.port = 0;
        let (tell, told) = mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let observer = move |event: Event<'_>| {
            let address = if let Event::Listening { address } = event { Some(address) } else { None };
            let name = format!("{event:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
            tell.send((name, address)).unwrap();
        };
        let server = std::thread::spawn(move || run(settings, observer, async { ended.await.unwrap_or_default() }));
        let mut names = Vec::new();
        let address = loop {
            let (name, address) = told.recv().unwrap();
            names.push(name);
            if let Some(address) = address {
                break address;
            }
        };
        assert!(health(address).starts_with("HTTP/1.1 200 "));
        end.send(()).unwrap();
        server.join().unwrap().unwrap();
        names.extend(told.iter().map(|(name, _)| name));
        assert_eq!(names, ["Opened", "Listening", "Ending"]);
    }

    #[test]
    fn an_empty_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path());
        settings.token = Some(" ".into());
        let error = run(settings, |_| (), std::future::ready(())).unwrap_err().to_string();
        assert!(error.contains("the token is empty"), "{error}");
    }
}
