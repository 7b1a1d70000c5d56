//! Connections of clients: accepted, bounded in number and patience, and ended with the server.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};

/// Connections at a time. Well below the number of files that a program may have open. For one more, that which has been sending
/// its request for longest is closed; when all requests have arrived, others wait.
const MOST: usize = 512;

/// Time that a client has to send the head of a request, and that a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);

/// Time that a client has to take the bytes of an answer that wait for it.
const READ: Duration = Duration::from_secs(60);

/// Pause after an error of the system, which may be short of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `stop` becomes true, and those that came before it for `grace` longer.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>, grace: Duration) {
    let places = Arc::new(Semaphore::new(MOST));
    let open = GracefulShutdown::new();
    let sending = Sending::default();
    loop {
        let accept = async {
            let accepted = listener.accept().await;
            if places.available_permits() == 0 {
                sending.end_oldest();
            }
            (Arc::clone(&places).acquire_owned().await, accepted)
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
        let request = sending.begin();
        let service = TowerToHyperService::new(watched(router.clone(), request.clone()));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(Patient::new(stream, READ)), service);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                // A client that breaks off is no matter of the server.
                _ = connection => {}
                () = request.ended() => {}
            }
        });
    }
    drop(listener);
    let _ = timeout(grace, open.shutdown()).await;
}

/// The connections whose request has not arrived yet, the oldest first.
#[derive(Debug, Default)]
struct Sending {
    requests: Mutex<VecDeque<Weak<State>>>,
}

/// Whether the request of a connection has arrived.
#[derive(Debug, Clone)]
pub struct Arrival(Arc<State>);

#[derive(Debug, Default)]
struct State {
    arrived: AtomicBool,
    end: Notify,
}

impl Sending {
    /// A new connection.
    fn begin(&self) -> Arrival {
        let state = Arc::new(State::default());
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() > 4 * MOST {
            requests.retain(|request| request.strong_count() > 0);
        }
        requests.push_back(Arc::downgrade(&state));
        Arrival(state)
    }

    /// Ends the connection that has been sending its request for longest, if there is one.
    fn end_oldest(&self) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.retain(|request| request.strong_count() > 0);
        let sends =
            |request: &Weak<State>| request.upgrade().is_some_and(|state| !state.arrived.load(Ordering::SeqCst));
        let oldest = requests.iter().position(sends).and_then(|place| requests.remove(place));
        if let Some(state) = oldest.and_then(|request| request.upgrade()) {
            state.end.notify_one();
        }
    }
}

impl Arrival {
    /// From now on, the connection is not ended to make room.
    pub fn complete(&self) {
        self.0.arrived.store(true, Ordering::SeqCst);
    }

    async fn ended(&self) {
        self.0.end.notified().await;
    }
}

/// The routes for one connection, which tell it of every request whether it has arrived: one without a body has, and the
/// reader of a body says when.
fn watched(router: Router, arrival: Arrival) -> Router {
    router.layer(from_fn(move |mut request: Request, next: Next| {
        if request.body().is_end_stream() {
            arrival.complete();
        } else {
            request.extensions_mut().insert(arrival.clone());
        }
        next.run(request)
    }))
}

/// A connection that fails when the other side takes no byte for a while: otherwise clients that read nothing would hold
/// all connections.
struct Patient<T> {
    stream: T,
    patience: Duration,
    /// Runs while bytes wait to be taken.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    fn new(stream: T, patience: Duration) -> Self {
        Self { stream, patience, waiting: None }
    }

    /// A result as it is, or an error when it has been waited for too long.
    fn wait<R>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wait(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.wait(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(context);
        this.wait(context, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_shutdown(context);
        this.wait(context, result)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::routing::get;

    use super::*;

    /// Serves 64 MiB to one client with `patience`, and says how the connection ended.
    fn served(patience: Duration, client: impl FnOnce(std::net::TcpStream) + Send + 'static) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = std::thread::spawn(move || client(std::net::TcpStream::connect(address).unwrap()));
            let (stream, _) = listener.accept().await.unwrap();
            let router: Router = Router::new().route("/x", get(async || vec![7_u8; 1 << 26]));
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(Patient::new(stream, patience)), TowerToHyperService::new(router));
            let ended = timeout(Duration::from_secs(20), connection).await.expect("the connection ends");
            tokio::task::spawn_blocking(|| client.join()).await.unwrap().unwrap();
            ended.is_ok()
        })
    }

    const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[test]
    fn a_client_that_reads_nothing_is_let_go() {
        let idle = |mut stream: std::net::TcpStream| {
            stream.write_all(REQUEST).unwrap();
            std::thread::sleep(Duration::from_millis(1500));
        };
        assert!(!served(Duration::from_millis(200), idle));
    }

    #[test]
    fn a_client_that_is_slow_gets_its_answer() {
        let slow = |mut stream: std::net::TcpStream| {
            stream.write_all(REQUEST).unwrap();
            let (mut bytes, mut count) = (vec![0; 1 << 23], 0);
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                count += read;
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(count > 1 << 26, "{count}");
        };
        assert!(served(Duration::from_secs(10), slow));
    }
}
