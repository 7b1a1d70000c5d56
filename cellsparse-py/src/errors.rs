//! Errors of the library as exceptions of the package.

use std::path::Path;

use cellsparse_core::{Error, ErrorKind, Reason};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The exception for an error: the class of `cellsparse._errors` that is named after its kind.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error.kind() {
        ErrorKind::NotFound => return system("NotFoundError", py, Some(2), "no such file or folder", path(error)),
        ErrorKind::Io => {
            let source = error.io_error();
            let denied = source.is_some_and(|source| source.kind() == std::io::ErrorKind::PermissionDenied);
            let class = if denied { "AccessError" } else { "IoError" };
            let number = source.and_then(std::io::Error::raw_os_error);
            return system(class, py, number, &without_number(&error.message()), path(error));
        }
        ErrorKind::Image => "ImageError",
        ErrorKind::Labels => "LabelsError",
        ErrorKind::Config => "ConfigError",
        ErrorKind::File => "FileError",
        ErrorKind::Weights => "WeightsError",
        ErrorKind::Limit => "LimitError",
        ErrorKind::Device => "DeviceError",
        ErrorKind::Diverged => "DivergedError",
        ErrorKind::Cancelled => "CancelledError",
        _ => "InternalError",
    };
    let text = match hint(error) {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    plain(class, py, in_words_of_python(&text))
}

/// What to do about an error, in the words of the package.
fn hint(error: &Error) -> Option<String> {
    Some(match error.reason()? {
        Reason::LabelEncoding { suggested, .. } => format!("pass label_encoding=\"{suggested}\""),
        // Those who compile the library themselves know its features.
        Reason::DeviceAbsent { .. } => "choose device=\"cpu\"".into(),
        Reason::Unchosen { option, .. } => format!("pass {option}=N"),
        Reason::Channels { .. } => "read_image(path, channels=[...]) chooses channels of a file".into(),
        Reason::NotResumable => "train with resume=False".into(),
        _ => return None,
    })
}

fn path(error: &Error) -> &Path {
    error.path().unwrap_or(Path::new(""))
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
fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or_default().to_string()
}

/// Label encodings as they are written in Python: messages of the library name them in its own way.
pub fn in_words_of_python(text: &str) -> String {
    ENCODINGS.iter().fold(text.to_string(), |text, name| {
        text.replace(&format!("label encoding '{name}'"), &format!("label_encoding=\"{name}\""))
    })
}

const ENCODINGS: [&str; 4] = ["wire", "cells", "dense", "signed"];
