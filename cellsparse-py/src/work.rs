//! Work beside the interpreter: other Python threads go on, Ctrl-C is heard, panics are caught.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cellsparse_core::{CancelToken, ControlFlow, Error, Progress, Result};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::ending;
use crate::errors::exception;

/// How long Ctrl-C may wait to be noticed.
const POLL: Duration = Duration::from_millis(50);

/// Runs work that is not interrupted, on the calling thread and a pool of threads of its own.
///
/// The work borrows nothing: other threads of Python go on meanwhile, and may write to the arrays that the caller gave.
/// The pool is not the global one of rayon: that one does not survive a fork, and Python forks worker processes.
pub fn compute<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send + 'static) -> PyResult<T> {
    let (result, _inside) = py.detach(|| (guarded(|| pool()?.install(work)), ending::come_back()));
    result.map_err(|error| exception(py, &error))
}

/// A progress event on its way to the thread that called, which answers it.
pub struct Event {
    pub progress: Progress,
    answer: SyncSender<ControlFlow>,
}

/// Where the observer of a training leaves its events.
pub struct Events<T>(Sender<Message<T>>);

impl<T> Events<T> {
    /// Hands over an event and waits for the answer.
    pub fn send(&self, progress: &Progress) -> ControlFlow {
        let (answer, reply) = sync_channel(1);
        let event = Event { progress: progress.clone(), answer };
        match self.0.send(Message::Event(event)) {
            Ok(()) => reply.recv().unwrap_or(ControlFlow::Stop),
            // The caller has gone.
            Err(_) => ControlFlow::Stop,
        }
    }
}

impl<T: Send + 'static> Events<T> {
    /// The thread that called.
    pub fn caller(&self) -> Caller {
        let sender = self.0.clone();
        Caller(Arc::new(move |call| match sender.send(Message::Call(call)) {
            Err(SendError(Message::Call(call))) => Some(call),
            _ => None,
        }))
    }
}

/// What the thread that called is to do in the interpreter. An error that is none of the call itself, such as Ctrl-C, ends the work.
type Call = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// The thread that called, which runs the code of Python that the work needs. An interpreter that ends takes all threads that are in it
/// along: one of its own does not come back, but one of the library would end the process with an error.
#[derive(Clone)]
pub struct Caller(Arc<Deliver>);

/// Gives back what nobody is there for.
type Deliver = dyn Fn(Call) -> Option<Call> + Send + Sync;

impl Caller {
    /// What a call gives. Data outlive the call that opened them and are read in later ones: then it is made here, and an interpreter
    /// that ends waits for it.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the caller was interrupted.
    pub fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
    ) -> Result<PyResult<T>> {
        let (answer, reply) = sync_channel(1);
        let call = move |py: Python<'_>| match call(py) {
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            value => {
                // The work waits for the answer, unless it ended meanwhile.
                let _ = answer.send(value);
                Ok(())
            }
        };
        if let Some(call) = (self.0)(Box::new(call)) {
            let _inside = ending::come_back();
            Python::attach(call).map_err(|_| Error::Cancelled)?;
        }
        reply.recv().map_err(|_| Error::Cancelled)
    }
}

/// Calls a function of Python. When the interpreter ends meanwhile, this thread does not come back and is taken down from within: the
/// arguments are then left where they are, since objects can no longer be given back.
pub fn call<'py>(py: Python<'py>, function: &Py<PyAny>, arguments: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let arguments = ManuallyDrop::new(arguments);
    let answer = function.bind(py).call1(&*arguments);
    drop(ManuallyDrop::into_inner(arguments));
    answer
}

enum Message<T> {
    Event(Event),
    Call(Call),
    Done(Result<T>),
}

/// What came of work that could be interrupted.
pub struct Outcome<T> {
    /// The result; absent when it was given up.
    pub result: Option<Result<T>>,
    /// The exception that stopped it: Ctrl-C, or what a callback raised.
    pub raised: Option<PyErr>,
}

impl<T> Outcome<T> {
    /// The result, or the exception that takes precedence over it.
    pub fn into_result(self, py: Python<'_>) -> PyResult<T> {
        match (self.raised, self.result) {
            (Some(raised), _) => Err(raised),
            (None, Some(result)) => result.map_err(|error| exception(py, &error)),
            (None, None) => Err(exception(py, &lost())),
        }
    }
}

/// Runs work on a thread of its own, while the calling thread answers its events and calls and listens for Ctrl-C.
///
/// Ctrl-C and an exception in `on_event` raise `cancel`; the work then ends at its next step and its result is kept. A
/// second Ctrl-C does not wait for that: the work ends by itself, and nobody sees its result.
pub fn supervise<T: Send + 'static>(
    py: Python<'_>,
    cancel: &CancelToken,
    work: impl FnOnce(Events<T>) -> Result<T> + Send + 'static,
    mut on_event: impl FnMut(Python<'_>, &Progress) -> PyResult<ControlFlow>,
) -> PyResult<Outcome<T>> {
    let (sender, mut receiver) = channel();
    let spawned = thread::Builder::new().name("cellsparse".into()).spawn(move || {
        let events = Events(sender.clone());
        let result = guarded(|| work(events));
        // Nobody listens when the caller has given up.
        let _ = sender.send(Message::Done(result));
    });
    if let Err(error) = spawned {
        return Err(exception(py, &Error::Internal(format!("starting a thread: {error}"))));
    }
    let mut raised = None;
    loop {
        let (message, _inside) = py.detach(|| (next(&mut receiver), ending::come_back()));
        match message {
            Ok(Message::Event(event)) => {
                let flow = match raised {
                    Some(_) => ControlFlow::Stop,
                    None => py.check_signals().and_then(|()| on_event(py, &event.progress)).unwrap_or_else(|error| {
                        cancel.cancel();
                        raised = Some(error);
                        ControlFlow::Stop
                    }),
                };
                // The work waits for the answer, so it is there.
                let _ = event.answer.send(flow);
            }
            Ok(Message::Call(call)) => {
                if let Err(error) = call(py) {
                    if raised.is_some() {
                        return Ok(Outcome { result: None, raised: Some(error) });
                    }
                    cancel.cancel();
                    raised = Some(error);
                }
            }
            Ok(Message::Done(result)) => return Ok(Outcome { result: Some(result), raised }),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = py.check_signals() {
                    if raised.is_some() {
                        return Ok(Outcome { result: None, raised: Some(error) });
                    }
                    cancel.cancel();
                    raised = Some(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Outcome { result: Some(Err(lost())), raised }),
        }
    }
}

/// The next message. The receiver is borrowed for this alone: it must not be shared between threads.
fn next<T>(receiver: &mut Receiver<Message<T>>) -> std::result::Result<Message<T>, RecvTimeoutError> {
    receiver.recv_timeout(POLL)
}

fn lost() -> Error {
    Error::Internal("the thread that did the work ended without a result".into())
}

/// A panic as an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::Internal(message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(String::from);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}

/// The pool of this process. After a fork, the threads of the parent's pool are not there, so the child makes its own.
pub fn pool() -> Result<Arc<rayon::ThreadPool>> {
    static POOL: Mutex<Option<(u32, Arc<rayon::ThreadPool>)>> = Mutex::new(None);
    let mut pool = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let process = std::process::id();
    if let Some((owner, pool)) = &*pool
        && *owner == process
    {
        return Ok(Arc::clone(pool));
    }
    let made = rayon::ThreadPoolBuilder::new()
        .thread_name(|index| format!("cellsparse-{index}"))
        .build()
        .map_err(|error| Error::Internal(format!("starting threads: {error}")))?;
    let made = Arc::new(made);
    // The parent's pool must not be dropped here: ending it would wait for threads that do not exist.
    std::mem::forget(pool.replace((process, Arc::clone(&made))));
    Ok(made)
}
