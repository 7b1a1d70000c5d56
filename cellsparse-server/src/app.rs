//! What the requests of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::http::StatusCode;
use cellsparse_core::Budget;
use cellsparse_core::model::Device;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::errors::Refusal;
use super::event::Observer;
use super::limits::Limits;
use super::memory::Memory;
use super::page::Page;
use super::store::ModelStore;

/// One server.
#[derive(Debug)]
pub struct App {
    /// What it does at most.
    pub limits: Limits,
    /// Its models.
    pub store: ModelStore,
    /// The projects of its page.
    pub page: Page,
    /// Where networks run.
    pub device: Device,
    /// Compute threads of each piece of work.
    pub threads: Option<usize>,
    /// Memory that each piece of work may take.
    pub memory: Option<Budget>,
    /// Refuse what the original answered although it could do nothing useful.
    pub strict: bool,
    /// What requests must bring.
    pub token: Option<String>,
    /// Requests must be for this computer by name; see [`guard`](super::guard).
    pub local_only: bool,
    /// Permits of trainings.
    pub trainings: Permits,
    /// Permits of predictions.
    pub predictions: Permits,
    /// Permits of decoding images.
    pub decoding: Arc<Semaphore>,
    /// Memory for bodies.
    pub bodies: Memory,
    /// Memory for the decoded images and labels of the requests that wait and work.
    pub pixels: Memory,
    /// Streams of progress.
    pub streams: Arc<Semaphore>,
    /// Becomes true when the server ends.
    pub stop: watch::Sender<bool>,
    /// Who is told what happens.
    pub observer: Observer,
    /// When the server began.
    pub started: Instant,
}

/// Bodies, and images with their labels, of the largest size that are held at a time.
const LARGEST: usize = 4;

/// Bytes of a pixel of the largest images: three channels of 32 bits, and its label.
const PIXEL_BYTES: usize = 16;

impl App {
    /// A server without a token for requests from this computer.
    pub fn new(limits: Limits, store: ModelStore, page: Page, observer: Observer) -> Self {
        Self {
            store,
            page,
            device: Device::Auto,
            threads: None,
            memory: None,
            strict: false,
            token: None,
            local_only: true,
            trainings: Permits::new(limits.trainings, limits.queue, "trainings"),
            predictions: Permits::new(limits.predictions, limits.queue, "predictions"),
            decoding: Arc::new(Semaphore::new(2)),
            bodies: Memory::new(limits.body.saturating_mul(LARGEST)),
            pixels: Memory::new(limits.pixels.saturating_mul(LARGEST * PIXEL_BYTES)),
            streams: Arc::new(Semaphore::new(limits.streams)),
            stop: watch::Sender::new(false),
            observer,
            started: Instant::now(),
            limits,
        }
    }

    /// Waits for a turn, unless the server ends meanwhile.
    ///
    /// # Errors
    /// 503 when the server ends.
    pub async fn unless_stopped<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Refusal> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => {
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down"))
            }
            value = waiting => Ok(value),
        }
    }
}

/// Limits how many pieces of work run at a time, and how many wait.
#[derive(Debug)]
pub struct Permits {
    slots: Arc<Semaphore>,
    at_a_time: usize,
    waiting: AtomicUsize,
    most: usize,
    what: &'static str,
}

impl Permits {
    fn new(at_a_time: usize, most: usize, what: &'static str) -> Self {
        let at_a_time = at_a_time.min(Semaphore::MAX_PERMITS);
        let slots = Arc::new(Semaphore::new(at_a_time));
        Self { slots, at_a_time, waiting: AtomicUsize::new(0), most, what }
    }

    /// How many pieces of work run now, and how many wait.
    pub fn told(&self) -> Value {
        let running = self.at_a_time.saturating_sub(self.slots.available_permits());
        json!({ "running": running, "waiting": self.waiting.load(Ordering::SeqCst) })
    }

    /// A place in the queue.
    ///
    /// # Errors
    /// 429 when it is full.
    pub fn queue(&self) -> Result<QueuePlace<'_>, Refusal> {
        // Renamed to `try_update`, which the oldest supported Rust has not.
        #[allow(deprecated)]
        let joined =
            self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < self.most).then_some(n + 1));
        match joined {
            Ok(_) => Ok(QueuePlace(self)),
            Err(count) => Err(Refusal::later(
                StatusCode::TOO_MANY_REQUESTS,
                format!("{count} {} wait already; try again later", self.what),
                10,
            )),
        }
    }

    /// Whether a new piece of work has to wait.
    pub fn is_busy(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// A place beyond the limit, for a request whose costly part is done.
    pub fn last_part(&self) -> QueuePlace<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        QueuePlace(self)
    }
}

/// A place in a queue, given back when dropped.
pub struct QueuePlace<'a>(&'a Permits);

impl QueuePlace<'_> {
    /// Waits for a turn, which lasts as long as the result is held.
    ///
    /// # Errors
    /// 500 when the queue was closed, which nothing does.
    pub async fn turn(self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.0.slots.clone().acquire_owned().await.map_err(|_| Refusal::internal("the queue was closed"))
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn the_last_part_of_a_request_has_a_place_in_a_full_queue() {
        let turns = Permits::new(1, 1, "predictions");
        let first = turns.queue();
        assert!(first.is_ok() && turns.queue().is_err());
        let last = turns.last_part();
        drop(first);
        assert!(turns.queue().is_err(), "it counts while it waits");
        assert_eq!(turns.told(), json!({ "running": 0, "waiting": 1 }));
        drop(last);
        assert!(turns.queue().is_ok());
    }

    /// A client: it comes, waits for a turn until it sees that it has one, and goes at the end of it; or it goes while it waits.
    #[derive(Default)]
    enum Client<'a> {
        #[default]
        Outside,
        Waits(Turn<'a>),
        Works(#[allow(dead_code, reason = "held")] OwnedSemaphorePermit),
    }

    type Turn<'a> = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, Refusal>> + 'a>>;

    fn look(mut turn: Turn<'_>) -> Client<'_> {
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Client::Works(turn.expect("the queue is open")),
            Poll::Pending => Client::Waits(turn),
        }
    }

    /// Lets clients make their next moves in that order, beside plain bookkeeping: the number of refused ones. The client `leaving`
    /// never waits for long.
    fn play(at_a_time: usize, most: usize, leaving: usize, order: &[usize]) -> usize {
        let turns = Permits::new(at_a_time, most, "trainings");
        let mut clients: Vec<Client<'_>> = Vec::new();
        clients.resize_with(order.iter().max().map_or(0, |last| last + 1), Client::default);
        // Those that wait, the first to come first: turns are given in this order, whoever looks when.
        let (mut queue, mut working, mut refused) = (Vec::<usize>::new(), 0, 0);
        let everybody = (0..clients.len()).filter(|who| *who != leaving);
        for who in order.iter().copied().chain(everybody.clone()).chain(everybody) {
            let first = queue.iter().position(|other| *other == who);
            clients[who] = match std::mem::take(&mut clients[who]) {
                Client::Outside => match turns.queue() {
                    Ok(place) => {
                        assert!(queue.len() < most, "{order:?}");
                        let client = look(Box::pin(place.turn()));
                        let free = working + queue.len() < at_a_time;
                        assert_eq!(matches!(client, Client::Works(_)), free, "{order:?}");
                        if free {
                            working += 1
                        } else {
                            queue.push(who)
                        }
                        client
                    }
                    Err(_) => {
                        assert_eq!(queue.len(), most, "{order:?}");
                        refused += 1;
                        Client::Outside
                    }
                },
                Client::Waits(turn) if who == leaving => {
                    drop(turn);
                    queue.retain(|other| *other != who);
                    Client::Outside
                }
                Client::Waits(turn) => {
                    let client = look(turn);
                    let due = first.is_some_and(|place| working + place < at_a_time);
                    assert_eq!(matches!(client, Client::Works(_)), due, "{order:?}: {who} of {queue:?}");
                    if due {
                        queue.retain(|other| *other != who);
                        working += 1;
                    }
                    client
                }
                Client::Works(turn) => {
                    drop(turn);
                    working -= 1;
                    Client::Outside
                }
            };
            assert!(working <= at_a_time, "{order:?}: {working} at a time");
            assert_eq!(turns.waiting.load(Ordering::SeqCst), queue.len(), "{order:?}");
        }
        refused
    }

    #[test]
    fn every_order_of_clients_gives_turns_to_the_first_and_loses_none() {
        let (mut orders, mut refused) = (0, 0);
        let moves = 8;
        for number in 0..4_usize.pow(moves) {
            let order: Vec<usize> = (0..moves).map(|place| number / 4_usize.pow(place) % 4).collect();
            for (at_a_time, most) in [(1, 2), (2, 1)] {
                refused += play(at_a_time, most, 3, &order);
                orders += 1;
            }
        }
        assert!(orders == 131_072 && refused > 1000, "{orders} orders, {refused} refused");
    }
}
