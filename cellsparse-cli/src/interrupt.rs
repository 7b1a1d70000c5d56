//! Ctrl-C: the first one stops the training and keeps what it has reached, the second one ends the program.

use std::sync::OnceLock;
use std::{io, thread};

use cellsparse_core::CancelToken;
use tokio::runtime::Builder;

use crate::note;

/// Exit status of a program that was interrupted, as shells report it.
const INTERRUPTED: i32 = 130;

/// The token that the first Ctrl-C raises. Where no handler can be set, Ctrl-C ends the program as usual.
pub fn token() -> CancelToken {
    static TOKEN: OnceLock<CancelToken> = OnceLock::new();
    TOKEN
        .get_or_init(|| {
            let token = CancelToken::new();
            let raised = token.clone();
            // Failing to set a handler leaves the system's own behaviour, which is safe.
            let _ = watch(move || {
                if raised.is_cancelled() {
                    std::process::exit(INTERRUPTED);
                }
                raised.cancel();
                note("stopping after this step; what was learned is kept (Ctrl-C again ends at once)");
            });
            token
        })
        .clone()
}

/// Calls `interrupted` at every Ctrl-C, from a thread of its own. The handler is in place when this returns.
fn watch(interrupted: impl Fn() + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        #[cfg(unix)]
        let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        #[cfg(windows)]
        let signals = tokio::signal::windows::ctrl_c()?;
        signals
    };
    thread::Builder::new().name("interrupts".into()).spawn(move || {
        runtime.block_on(async {
            while signals.recv().await.is_some() {
                interrupted();
            }
        });
    })?;
    Ok(())
}
