//! `cellsparse serve`: the server with the options, the words and the signals of the command line.

use std::env::VarError;
use std::path::PathBuf;
use std::time::Duration;

use cellsparse_core::{Error, Result};
use cellsparse_server::{Event, Limits, Settings};

use crate::args::ServeArgs;
use crate::{note, print_out};

/// Answers requests until Ctrl-C or a request to terminate.
pub fn run(args: &ServeArgs) -> Result<()> {
    cellsparse_server::run(settings(args)?, tell, async {
        signal().await;
        tokio::spawn(async {
            signal().await;
            std::process::exit(130);
        });
    })
}

fn settings(args: &ServeArgs) -> Result<Settings> {
    let folder = match &args.model_dir {
        Some(folder) => folder.clone(),
        None => default_folder()?,
    };
    let mut settings = Settings::new(folder);
    if let Some(folder) = &args.pretrained_dir {
        settings.pretrained.clone_from(folder);
    }
    settings.images.clone_from(&args.images);
    settings.sam.clone_from(&args.sam);
    settings.token = match (&args.token, std::env::var("CELLSPARSE_TOKEN")) {
        (Some(token), _) => Some(token.clone()),
        (None, Ok(token)) => Some(token),
        (None, Err(VarError::NotPresent)) => None,
        (None, Err(VarError::NotUnicode(_))) => {
            return Err(Error::Config("the token in CELLSPARSE_TOKEN is not UTF-8; choose another one".into()));
        }
    };
    settings.host.clone_from(&args.host);
    settings.port = args.port;
    settings.device = args.device;
    settings.threads = args.threads;
    settings.memory = args.memory;
    settings.strict = args.strict;
    settings.limits = limits(args);
    Ok(settings)
}

fn limits(args: &ServeArgs) -> Limits {
    let mut limits = Limits::default();
    limits.body = args.max_body.saturating_mul(1 << 20);
    limits.pixels = args.max_pixels;
    limits.images = args.max_images;
    limits.models = args.max_models;
    limits.steps = args.max_steps;
    limits.time = args.max_seconds.map(|seconds| Duration::from_secs_f32(seconds.clamp(0.001, 1e9)));
    limits.queue = args.max_queue;
    limits.predictions = args.predictions;
    limits.trainings = args.trainings;
    limits
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

/// The line of a program that waits for the server goes to standard output, the log to standard error.
fn tell(event: Event<'_>) {
    match event {
        Event::Opened { models } => note(&format!("models: {}", models.display())),
        Event::Unguarded { address } => note(&format!(
            "warning: everybody who can reach {address} can use this server; give it a token with --token, or \
             leave --host out"
        )),
        Event::Listening { address } => print_out(&format!("listening on http://{address}")),
        Event::Answered { request, status, time } => note(&format!("{request} {status} {:.3} s", time.as_secs_f64())),
        Event::NotRestored { model, error } => note(&format!("restoring {model}: {error}")),
        Event::Ending => note("ending: running trainings stop after their step and are saved (again to end at once)"),
        _ => {}
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn the_defaults_are_those_of_the_server() {
        let Command::Serve(args) = Cli::parse_from(["cellsparse", "serve", "--model-dir", "x"]).command else {
            panic!("serve")
        };
        assert_eq!(limits(&args), Limits::default());
        let (found, own) = (settings(&args).unwrap(), Settings::new("x"));
        assert_eq!((found.host, found.port, found.pretrained), (own.host, own.port, own.pretrained));
    }
}
