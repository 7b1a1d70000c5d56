//! `cellsparse serve`: the HTTP interface of cellsparse-api 0.2.0, and more beside it.
//!
//! Requests are answered by a few threads that never compute; trainings and predictions run on threads of their own, so the
//! server answers while it trains.

mod app;
mod body;
mod connections;
mod entry;
mod errors;
mod fields;
mod guard;
mod images;
mod json;
mod limits;
mod live;
mod memory;
mod names;
mod openapi;
mod progress;
mod python_json;
mod routes;
mod store;
mod values;
mod work;

use std::env::VarError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cellsparse_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use self::app::App;
use self::limits::Limits;
use self::store::Store;
use crate::args::ServeArgs;
use crate::{note, print_out};

/// Time that requests under way get when the server ends: a training stops after its step, chooses thresholds and saves.
const GRACE: Duration = Duration::from_secs(120);

/// Opens the folder of models, listens and answers until Ctrl-C or a request to terminate.
pub fn run(args: &ServeArgs) -> Result<()> {
    let app = app(args)?;
    // These threads only pass bytes on; the compute threads are made by the library.
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cellsparse-http")
        .enable_all()
        .build()
        .map_err(|error| Error::Internal(format!("starting threads: {error}")))?;
    let ended = runtime.block_on(listen(args, app));
    // Work whose client has gone may still be saving.
    runtime.shutdown_timeout(ended.as_ref().map_or(Duration::ZERO, |began| GRACE.saturating_sub(began.elapsed())));
    ended.map(drop)
}

fn app(args: &ServeArgs) -> Result<App> {
    let folder = match &args.model_dir {
        Some(folder) => folder.clone(),
        None => default_folder()?,
    };
    let pretrained = args.pretrained_dir.clone().unwrap_or_else(|| folder.join("pretrained"));
    let token = match (&args.token, std::env::var("CELLSPARSE_TOKEN")) {
        (Some(token), _) => Some(token.clone()),
        (None, Ok(token)) => Some(token),
        (None, Err(VarError::NotPresent)) => None,
        (None, Err(VarError::NotUnicode(_))) => {
            return Err(Error::Config("the token in CELLSPARSE_TOKEN is not UTF-8; choose another one".into()));
        }
    };
    if token.as_deref().is_some_and(|token| token.trim().is_empty()) {
        return Err(Error::Config("the token is empty; give one, or leave it out".into()));
    }
    let limits = Limits::from(args);
    let store = Store::open(&folder, &pretrained, limits.models)?;
    note(&format!("models: {}", folder.display()));
    Ok(App {
        device: args.device,
        threads: args.threads,
        memory: args.memory,
        strict: args.strict,
        token: token.map(|token| token.trim().to_owned()),
        ..App::new(limits, store)
    })
}

/// The folder of the original server.
fn default_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CELLSPARSE_MODEL_DIR").filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .map(|home| home.join(".cellsparse").join("models"))
        .ok_or_else(|| Error::Config("there is no home folder; name a folder with --model-dir".into()))
}

/// Answers requests until the server is to end. Gives the time when that began.
async fn listen(args: &ServeArgs, mut app: App) -> Result<Instant> {
    let refused = |error| Error::Config(format!("cannot listen on {}:{}: {error}", args.host, args.port));
    let listener = TcpListener::bind((args.host.as_str(), args.port)).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    if !address.ip().is_loopback() {
        if app.token.is_none() {
            note(&format!(
                "warning: everybody who can reach {address} can use this server; give it a token with --token, or \
                 leave --host out"
            ));
        }
        app.local_only = false;
    }
    let app = Arc::new(app);
    let router = routes::router(Arc::clone(&app));
    print_out(&format!("listening on http://{address}"));
    let stop = app.stop.subscribe();
    let end = tokio::spawn(async move {
        signal().await;
        let began = Instant::now();
        note("ending: running trainings stop after their step and are saved (again to end at once)");
        app.stop.send_replace(true);
        for entry in app.store.entries() {
            entry.live.stop_running();
        }
        tokio::spawn(async {
            signal().await;
            std::process::exit(130);
        });
        began
    });
    connections::serve(listener, router, stop, GRACE).await;
    end.await.map_err(|error| Error::Internal(format!("ending the server: {error}")))
}

/// Waits for Ctrl-C or, where there is such a thing, a request to terminate.
async fn signal() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the system's own behaviour is left, which ends the program.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => {
                tokio::select! {
                    () = interrupted => {}
                    _ = terminated.recv() => {}
                }
            }
            Err(_) => interrupted.await,
        }
    }
    #[cfg(not(unix))]
    interrupted.await;
}
