//! The `cellsparse` command: train cell segmentation from sparse labels, predict, evaluate.
//!
//! Results go to standard output, progress and advice to standard error. The exit status is 0, 1 for a failure with one
//! line that says why, or 2 for wrong usage.

#![deny(unsafe_code)]

mod args;
mod batch;
mod chart;
mod convert;
mod demo;
mod demo_data;
mod demo_kinds;
mod evaluate;
mod hint;
mod info;
mod input;
mod interrupt;
mod large;
mod pictures;
mod planes;
mod predict;
mod progress;
mod report;
mod scores;
mod serve;
mod slides;
mod sparsify;
mod table;
mod train;
mod training_data;

use std::io::Write;
use std::process::ExitCode;

use cellsparse_core::Result;
use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", in_own_words(&hint::line(&error)));
            ExitCode::from(1)
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Train(args) => train::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Sparsify(args) => sparsify::run(args),
        Command::Info(args) => info::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Serve(args) => serve::run(args),
    }
}

/// Prints to standard output; a closed pipe (as of `cellsparse ... | head`) is not an error.
fn print_out(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Prints one JSON value to standard output.
fn print_json(value: &serde_json::Value) {
    print_out(&format!("{value:#}"));
}

/// Prints a line to standard error.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", hint::harmless(&in_own_words(text)));
}

/// A message of the library with the options of the command line where it names a label encoding or a choice of channels.
fn in_own_words(text: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("label encoding '") {
        words.push_str(before);
        match after.split_once('\'') {
            Some((name, after)) if !before.ends_with("unknown ") => {
                words.push_str("--label-encoding ");
                words.push_str(name);
                rest = after;
            }
            _ => {
                words.push_str("label encoding '");
                rest = after;
            }
        }
    }
    (words + rest).replace("only, choose channels", "only, choose with --select-channels N,...")
}

#[cfg(test)]
mod tests {
    #[test]
    fn encodings_are_named_as_options() {
        let text = super::in_own_words("use label encoding 'wire', or label encoding 'cells' (0 ..): it's");
        assert_eq!(text, "use --label-encoding wire, or --label-encoding cells (0 ..): it's");
        assert_eq!(super::in_own_words("unknown label encoding 'x'; expected"), "unknown label encoding 'x'; expected");
        let text = super::in_own_words("the mean is taken; where cells show in some of them only, choose channels");
        assert!(text.ends_with("choose with --select-channels N,..."), "{text}");
    }
}
