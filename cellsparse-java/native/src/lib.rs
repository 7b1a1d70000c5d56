//! The native side of cellsparse for Java: every method of `io.github.cellsparse.Native` calls one function of the C library.
//!
//! Handles are the tokens of the C library as `long`, so a wrong one is a status and no crash. A status other than success is
//! thrown as the exception that `Native.failure` makes of it. Arrays are copied; direct buffers are read where they lie.

// The names and arguments of these functions are those of the Java class, which documents them.
#![allow(missing_docs, clippy::too_many_arguments)]

mod bridge;
mod clicks;
mod images;
mod labels;
mod large;
mod library;
mod models;
mod results;
mod training;
