//! Refusals as the clients of cellsparse-api know them: a status and `{"detail": ...}`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cellsparse_core::{Error, ErrorKind, Reason};
use serde::Serialize;

/// Why a request is not answered with a result.
#[derive(Debug, Clone)]
pub struct Refusal {
    status: StatusCode,
    detail: Detail,
    retry_after: Option<u32>,
}

/// What is said about it.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Detail {
    Text(String),
    Fields(Vec<FieldError>),
}

/// What is wrong with one field, in the form of pydantic 1.
#[derive(Debug, Clone, Serialize)]
pub struct FieldError {
    /// Where: `body`, then names and positions.
    pub loc: Vec<Location>,
    /// What.
    pub msg: String,
    /// A name for this kind of error.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the message is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Context>,
}

/// What the message of an error is about.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Context {
    /// A number out of range.
    Limit {
        /// The nearest allowed one.
        limit_value: i64,
    },
    /// Malformed JSON.
    Syntax {
        /// What was expected.
        msg: String,
        /// The beginning of the text.
        doc: String,
        /// Position in characters.
        pos: usize,
        /// Line, from 1.
        lineno: usize,
        /// Column, from 1.
        colno: usize,
    },
}

/// One step of the way to a field.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Location {
    /// In an object.
    Name(String),
    /// In a list, or in a text.
    Index(usize),
}

impl From<&str> for Location {
    fn from(name: &str) -> Self {
        Location::Name(name.to_owned())
    }
}

impl FieldError {
    /// An error about a field.
    pub fn new(loc: Vec<Location>, msg: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { loc, msg: msg.into(), kind: kind.into(), ctx: None }
    }
}

impl Refusal {
    /// A status with a sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: Detail::Text(detail.into()), retry_after: None }
    }

    /// The same request may succeed after that many seconds.
    pub fn later(status: StatusCode, detail: impl Into<String>, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(status, detail) }
    }

    /// Fields that cannot be used: 422.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, detail: Detail::Fields(errors), retry_after: None }
    }

    /// One field of the body that cannot be used: 422.
    pub fn field(loc: Vec<Location>, msg: impl Into<String>, kind: &str) -> Self {
        Self::fields(vec![FieldError::new(loc, msg, kind)])
    }

    /// A defect of this program.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("internal error (please report it): {reason}"))
    }

    /// An error of the library; `loc` is the field that it is about when it is about the request.
    pub fn from_core(error: Error, loc: Vec<Location>) -> Self {
        let (text, message) = (error.to_string(), with_hint(&error));
        match error.kind() {
            ErrorKind::Image => Self::field(loc, message, "value_error.image"),
            ErrorKind::Labels => Self::field(loc, message, "value_error.labels"),
            ErrorKind::Config => Self::field(vec!["body".into()], message, "value_error.option"),
            ErrorKind::Diverged => Self::field(vec!["body".into(), "lr".into()], text, "value_error.diverged"),
            ErrorKind::Limit => Self::new(StatusCode::PAYLOAD_TOO_LARGE, message),
            ErrorKind::Device => Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("device: {message}")),
            ErrorKind::Cancelled => Self::new(StatusCode::SERVICE_UNAVAILABLE, text),
            // Paths of the server are none of the client's business.
            ErrorKind::NotFound => Self::new(StatusCode::NOT_FOUND, "there is no such file in the folder"),
            ErrorKind::File => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the model file cannot be used: {message}"))
            }
            ErrorKind::Io => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                format!("the model folder cannot be read or written: {message}"),
            ),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, text),
        }
    }

    /// The status.
    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason in one line.
    pub fn reason(&self) -> String {
        match &self.detail {
            Detail::Text(text) => text.clone(),
            Detail::Fields(errors) => errors.iter().map(|e| e.msg.as_str()).collect::<Vec<_>>().join("; "),
        }
    }
}

/// The message of an error with what a client of this interface can do about it.
fn with_hint(error: &Error) -> String {
    let message = error.message();
    match error.reason() {
        // The encoding of this interface is fixed.
        Some(Reason::LabelEncoding { .. }) => {
            format!("{message}; in b64lbl, 0 is unlabelled, 1 background, and cells begin at 2")
        }
        Some(Reason::DeviceAbsent { device, .. }) => format!("{message}; the operator of the server chose {device}"),
        _ => message,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            detail: Detail,
        }
        let text = serde_json::to_string(&Body { detail: self.detail }).unwrap_or_default();
        let mut response = answer(self.status, text);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON text as a response.
pub fn answer(status: StatusCode, json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_about_fields_and_not_about_options_of_the_command_line() {
        let dense = Error::Labels("they look dense".into()).because(Reason::label_encoding("dense"));
        let refusal = Refusal::from_core(dense, vec!["body".into(), "b64lbl".into()]);
        assert_eq!(refusal.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refusal.reason().contains("cells begin at 2") && !refusal.reason().contains("--"), "{refusal:?}");
        let file = Error::Labels("a".into()).in_file("secret/x").because(Reason::Damaged);
        assert!(!Refusal::from_core(file, Vec::new()).reason().contains("secret"), "no path leaves the server");
    }
}
