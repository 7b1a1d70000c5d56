//! Ctrl-C: the first one stops the training and keeps what it has reached, the second one ends the program.

use std::sync::OnceLock;

use cellsparse_core::CancelToken;

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
            let _ = ctrlc::set_handler(move || {
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
