//! Connections of clients: accepted, bounded in number and patience, and ended with the server.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Connections at a time; others wait. Well below the number of files that a program may have open.
const MOST: usize = 512;

/// Time that a client has to send the head of a request, and that a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);

/// Pause after an error of the system, which may be short of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `stop` becomes true, and those that came before it for `grace` longer.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>, grace: Duration) {
    let places = Arc::new(Semaphore::new(MOST));
    let open = GracefulShutdown::new();
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => break,
            (place, accepted) = accept => match accepted {
                Ok((stream, _)) => (place, stream),
                Err(_) => {
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // Events and answers are not to wait for more bytes.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            // A client that breaks off is no matter of the server.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = timeout(grace, open.shutdown()).await;
}
