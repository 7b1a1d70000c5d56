//! What a server tells its operator.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cellsparse_core::Error;

/// Something that happened, in no language and for no terminal: the program that runs the server says it in its own words.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The folder of models is open.
    Opened {
        /// The folder.
        models: &'a Path,
    },
    /// Everybody who can reach the address can use the server: it is not that of this computer alone, and there is no token.
    Unguarded {
        /// The address.
        address: SocketAddr,
    },
    /// Requests are answered from now on.
    Listening {
        /// The address, with the port that was taken.
        address: SocketAddr,
    },
    /// A request was answered. The question whether the server is there is not told.
    Answered {
        /// Method and path.
        request: &'a str,
        /// Status of the answer.
        status: u16,
        /// Time until the answer began.
        time: Duration,
    },
    /// The file of a model whose training failed holds a checkpoint of it instead of the model before it.
    NotRestored {
        /// Name of the model.
        model: &'a str,
        /// Why.
        error: &'a Error,
    },
    /// The server was asked to end: trainings stop after the running step and are saved.
    Ending,
}

/// The receiver of events.
pub(crate) struct Observer(Box<dyn Fn(Event<'_>) + Send + Sync>);

impl Observer {
    /// A function that is called from any thread, and must not wait.
    pub(crate) fn new(observer: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Box::new(observer))
    }

    pub(crate) fn tell(&self, event: Event<'_>) {
        (self.0)(event);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
