//! The server as its clients meet it: a spawned program, requests over HTTP.

mod large;
mod lifecycle;
mod page;
mod recorded;
mod refusals;
mod sequences;
mod server;
mod training;
