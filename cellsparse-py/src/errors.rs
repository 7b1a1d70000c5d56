//! Errors of the library as exceptions of the package.

use std::path::Path;

use cellsparse_core::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The exception for an error: the class of `cellsparse._errors` that is named after its kind.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let text = in_words_of_python(&error.to_string());
    match error {
        Error::NotFound { path } => system("NotFoundError", py, Some(2), "no such file or folder", path),
        Error::Io { path, source } => {
            let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
            let class = if denied { "AccessError" } else { "IoError" };
            system(class, py, source.raw_os_error(), &reason(source), path)
        }
        Error::Image(_) => plain("ImageError", py, text),
        Error::Labels(_) => plain("LabelsError", py, text),
        Error::Config(_) => plain("ConfigError", py, text),
        Error::File { .. } => plain("FileError", py, text),
        Error::Weights(_) => plain("WeightsError", py, text),
        Error::Limit(_) => plain("LimitError", py, text),
        Error::Device(_) => plain("DeviceError", py, text),
        Error::Diverged(_) => plain("DivergedError", py, text),
        Error::Cancelled => plain("CancelledError", py, text),
        _ => plain("InternalError", py, text),
    }
}

/// An exception of the package by the name of its class.
pub fn plain(class: &str, py: Python<'_>, text: String) -> PyErr {
    raise(class, py, (text,))
}

/// An exception with `errno`, `strerror` and `filename`.
fn system(class: &str, py: Python<'_>, number: Option<i32>, reason: &str, path: &Path) -> PyErr {
    raise(class, py, (number, reason, path.as_os_str()))
}

fn raise<'py>(class: &str, py: Python<'py>, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let made = py.import("cellsparse._errors").and_then(|module| module.getattr(class)?.call1(arguments));
    match made {
        Ok(value) => PyErr::from_value(value),
        Err(error) => PyRuntimeError::new_err(format!("{class}, which could not be raised: {error}")),
    }
}

/// The message of the operating system without its number, which the exception carries already.
fn reason(source: &std::io::Error) -> String {
    let text = source.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

/// Options as they are written in Python: messages of the library name those of the command line.
pub fn in_words_of_python(text: &str) -> String {
    let text = ADVICE_FOR_BUILDERS.iter().fold(text.to_string(), |text, advice| text.replace(advice, ""));
    let text = ENCODINGS.iter().fold(text, |text, name| {
        text.replace(&format!("label encoding '{name}'"), &format!("label_encoding=\"{name}\""))
    });
    let mut words = Vec::new();
    let mut parts = text.split(' ').peekable();
    while let Some(word) = parts.next() {
        let option = word.strip_prefix("--").filter(|name| OPTIONS.contains(name));
        match (option, parts.peek()) {
            (Some(name), Some(value)) => {
                let end = value.find([',', '.', ';', ':', ')']).unwrap_or(value.len());
                words.push(format!("{}=\"{}\"{}", name.replace('-', "_"), &value[..end], &value[end..]));
                parts.next();
            }
            _ => words.push(word.to_string()),
        }
    }
    words.join(" ")
}

/// Options that Python has under the same name, and the encodings that messages of the library name in their own way.
const OPTIONS: [&str; 1] = ["device"];
const ENCODINGS: [&str; 4] = ["wire", "cells", "dense", "signed"];

/// What only those can follow who compile the library.
const ADVICE_FOR_BUILDERS: [&str; 2] = ["; build with --features cuda", "; build with --features metal"];
