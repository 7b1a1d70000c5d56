//! What programs may want to know about an error, as values: its kind, and the reason where one can react to it.

use std::path::{Path, PathBuf};

use super::Error;

/// Whose fault an error is: the kinds that other languages see as status codes and classes of exceptions.
///
/// The numbers are those of the C interface and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum ErrorKind {
    /// See [`Error::Image`].
    Image = 1,
    /// See [`Error::Labels`].
    Labels = 2,
    /// See [`Error::Config`].
    Config = 3,
    /// See [`Error::NotFound`].
    NotFound = 4,
    /// See [`Error::File`].
    File = 5,
    /// See [`Error::Io`].
    Io = 6,
    /// See [`Error::Weights`].
    Weights = 7,
    /// See [`Error::Limit`].
    Limit = 8,
    /// See [`Error::Device`].
    Device = 9,
    /// See [`Error::Diverged`].
    Diverged = 10,
    /// See [`Error::Cancelled`].
    Cancelled = 11,
    /// See [`Error::Internal`].
    Internal = 12,
}

impl ErrorKind {
    /// Every kind that this version knows, by its number.
    pub const ALL: [Self; 12] = [
        Self::Image,
        Self::Labels,
        Self::Config,
        Self::NotFound,
        Self::File,
        Self::Io,
        Self::Weights,
        Self::Limit,
        Self::Device,
        Self::Diverged,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The number of the C interface.
    pub fn code(self) -> u32 {
        self as u32
    }
}

/// What an error is about, where a program can do something about it: a front end names its own option or argument, a
/// caller tries again in another way. The message of the error says the same in words, without the names of any front end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// A label image looks as if its numbers meant something else than was said.
    #[non_exhaustive]
    LabelEncoding {
        /// The encoding that would fit, by the name that `annotations::LabelEncoding` is read from and printed as.
        suggested: &'static str,
    },
    /// A device was named that cannot be used here.
    #[non_exhaustive]
    DeviceAbsent {
        /// The device, as in `cuda:0`.
        device: String,
        /// The feature that this build of the library would need; `None` when the machine lacks the device.
        feature: Option<&'static str>,
    },
    /// A number lies outside its range.
    #[non_exhaustive]
    OutOfRange {
        /// The option, by the name of its field.
        option: &'static str,
        /// What was given.
        found: f64,
        /// The least that is taken.
        low: f64,
        /// The most that is taken; infinite where there is no such bound.
        high: f64,
    },
    /// An option was given that the algorithm of the model does not have.
    #[non_exhaustive]
    OptionOfAnother {
        /// The option, by the name of its field.
        option: &'static str,
        /// The algorithm of the model.
        algorithm: &'static str,
        /// The options that it has.
        known: &'static [&'static str],
    },
    /// A word is none of those that are understood.
    #[non_exhaustive]
    UnknownName {
        /// What it should name, such as `device`.
        what: &'static str,
        /// The word.
        found: String,
    },
    /// The image has not as many channels as the network.
    #[non_exhaustive]
    Channels {
        /// Of the image.
        found: usize,
        /// Of the network.
        expected: usize,
    },
    /// Two images that belong together have different sizes.
    #[non_exhaustive]
    Size {
        /// Rows and columns of the second.
        found: [usize; 2],
        /// Rows and columns of the first.
        expected: [usize; 2],
    },
    /// A file holds several images, and which of them is meant was not said.
    #[non_exhaustive]
    Unchosen {
        /// The option of the reader that says it: `plane` or `frame`.
        option: &'static str,
        /// The number of images to choose from, counted from 1.
        count: usize,
    },
    /// More than a limit allows.
    #[non_exhaustive]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How much there would be.
        found: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The model holds no state of an optimiser that this training could go on with.
    NotResumable,
    /// A model file has a format that this version does not read.
    #[non_exhaustive]
    FormatVersion {
        /// The version that it states, if it states one.
        found: Option<u64>,
        /// The version that is read.
        expected: u64,
    },
    /// A file was changed or cut since it was written.
    Damaged,
}

impl Reason {
    /// See [`LabelEncoding`](Self::LabelEncoding).
    pub fn label_encoding(suggested: &'static str) -> Self {
        Self::LabelEncoding { suggested }
    }

    /// See [`OutOfRange`](Self::OutOfRange).
    pub fn out_of_range(option: &'static str, found: impl Into<f64>, range: std::ops::RangeInclusive<f64>) -> Self {
        Self::OutOfRange { option, found: found.into(), low: *range.start(), high: *range.end() }
    }

    /// See [`Channels`](Self::Channels).
    pub fn channels(found: usize, expected: usize) -> Self {
        Self::Channels { found, expected }
    }

    /// See [`Unchosen`](Self::Unchosen).
    pub fn unchosen(option: &'static str, count: usize) -> Self {
        Self::Unchosen { option, count }
    }

    /// See [`TooLarge`](Self::TooLarge).
    pub fn too_large(what: &'static str, found: u64, limit: u64) -> Self {
        Self::TooLarge { what, found, limit }
    }
}

impl Error {
    /// Whose fault it is. Unlike a `match` on the variants this sees through [`Error::Detailed`].
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Image(_) => ErrorKind::Image,
            Error::Labels(_) => ErrorKind::Labels,
            Error::Config(_) => ErrorKind::Config,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::File { .. } => ErrorKind::File,
            Error::Io { .. } => ErrorKind::Io,
            Error::Weights(_) => ErrorKind::Weights,
            Error::Limit(_) => ErrorKind::Limit,
            Error::Device(_) => ErrorKind::Device,
            Error::Diverged(_) => ErrorKind::Diverged,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Internal(_) => ErrorKind::Internal,
            Error::Detailed(detail) => detail.error.kind(),
        }
    }

    /// What it is about, where a program can react to that.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Error::Detailed(detail) => detail.reason.as_ref().or_else(|| detail.error.reason()),
            _ => None,
        }
    }

    /// The file or folder that it is about, if it is about one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::NotFound { path } | Error::File { path, .. } | Error::Io { path, .. } => Some(path),
            Error::Detailed(detail) => detail.path.as_deref().or_else(|| detail.error.path()),
            _ => None,
        }
    }

    /// The error of the operating system behind it, if there is one.
    pub fn io_error(&self) -> Option<&std::io::Error> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Detailed(detail) => detail.error.io_error(),
            _ => None,
        }
    }

    /// What was found, what was expected and what to do, without the kind or the path that the whole text begins with.
    pub fn message(&self) -> String {
        match self {
            Error::Image(message)
            | Error::Labels(message)
            | Error::Config(message)
            | Error::Weights(message)
            | Error::Limit(message)
            | Error::Device(message)
            | Error::Diverged(message)
            | Error::Internal(message)
            | Error::File { reason: message, .. } => message.clone(),
            Error::NotFound { .. } => "no such file or folder".into(),
            Error::Io { source, .. } => source.to_string(),
            Error::Cancelled => self.to_string(),
            Error::Detailed(detail) => detail.error.message(),
        }
    }

    /// The same error with its reason.
    pub fn because(self, reason: Reason) -> Self {
        match self {
            Error::Detailed(mut detail) => {
                detail.reason = Some(reason);
                Error::Detailed(detail)
            }
            error => Error::Detailed(Box::new(Detail { reason: Some(reason), ..Detail::new(error) })),
        }
    }

    /// The same error with the one that led to it, which [`source`](std::error::Error::source) then gives.
    pub fn caused_by(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = Some(source.into());
        match self {
            Error::Detailed(mut detail) => {
                detail.source = source;
                Error::Detailed(detail)
            }
            error => Error::Detailed(Box::new(Detail { source, ..Detail::new(error) })),
        }
    }

    /// The same error with another message: to say what in a list it is about. Errors of files keep theirs.
    pub fn map_message(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Error::Image(message) => Error::Image(change(message)),
            Error::Labels(message) => Error::Labels(change(message)),
            Error::Config(message) => Error::Config(change(message)),
            Error::Weights(message) => Error::Weights(change(message)),
            Error::Limit(message) => Error::Limit(change(message)),
            Error::Device(message) => Error::Device(change(message)),
            Error::Diverged(message) => Error::Diverged(change(message)),
            Error::Internal(message) => Error::Internal(change(message)),
            Error::Detailed(mut detail) => {
                detail.error = detail.error.map_message(change);
                Error::Detailed(detail)
            }
            other => other,
        }
    }

    /// An error about an image or about labels as one of the file that holds them, with its reason; others as they are.
    pub fn in_file(self, path: impl AsRef<Path>) -> Self {
        match self {
            Error::Image(message) | Error::Labels(message) => Error::file(path, message),
            Error::Detailed(mut detail) => {
                detail.error = detail.error.in_file(path);
                Error::Detailed(detail)
            }
            other => other,
        }
    }
}

/// An error with what is known about it beside its message.
#[derive(Debug)]
pub struct Detail {
    error: Error,
    reason: Option<Reason>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// The file that an error is about whose kind has no room for it.
    path: Option<PathBuf>,
}

impl Detail {
    fn new(error: Error) -> Self {
        Self { error, reason: None, source: None, path: None }
    }

    pub(super) fn of_file(error: Error, path: &Path) -> Error {
        Error::Detailed(Box::new(Self { path: Some(path.to_path_buf()), ..Self::new(error) }))
    }
}

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.path, &self.error) {
            (Some(path), Error::Limit(message)) => write!(f, "limit: {}: {message}", path.display()),
            _ => self.error.fmt(f),
        }
    }
}

impl std::error::Error for Detail {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => self.error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_reason_changes_neither_kind_nor_words() {
        let plain = || Error::Labels("two cells".into());
        let detailed = plain().because(Reason::label_encoding("wire"));
        assert_eq!((detailed.kind(), detailed.to_string()), (plain().kind(), plain().to_string()));
        assert_eq!((detailed.reason(), plain().reason()), (Some(&Reason::label_encoding("wire")), None));
        let placed = detailed.map_message(|message| format!("image 3: {message}"));
        assert_eq!(
            (placed.to_string().as_str(), placed.message().as_str()),
            ("labels: image 3: two cells", "image 3: two cells")
        );
        let filed = placed.in_file("a.png");
        assert_eq!((filed.kind(), filed.path()), (ErrorKind::File, Some(Path::new("a.png"))));
        assert_eq!(filed.to_string(), "a.png: image 3: two cells");
        assert_eq!(filed.reason(), Some(&Reason::label_encoding("wire")));
        assert_eq!(Error::Cancelled.in_file("a.png").map_message(|_| "b".into()).kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn the_cause_of_an_error_can_be_asked_for() {
        let cause = || std::io::Error::other("cut");
        let error = Error::file("a", "damaged").caused_by(cause()).because(Reason::Damaged);
        assert_eq!(error.source().unwrap().to_string(), "cut");
        assert_eq!((error.to_string().as_str(), error.reason()), ("a: damaged", Some(&Reason::Damaged)));
        let io = Error::io("a", cause()).because(Reason::Damaged);
        assert_eq!((io.source().unwrap().to_string().as_str(), io.kind()), ("cut", ErrorKind::Io));
        assert!(io.io_error().is_some() && Error::Internal("x".into()).source().is_none());
    }

    #[test]
    fn a_limit_of_a_file_names_the_file_beside_its_message() {
        let error = Error::limit("folder/a.png", "too many pixels").because(Reason::Damaged);
        assert_eq!((error.kind(), error.path()), (ErrorKind::Limit, Some(Path::new("folder/a.png"))));
        assert_eq!(error.to_string(), "limit: folder/a.png: too many pixels");
        assert_eq!(error.map_message(|message| format!("image 2: {message}")).message(), "image 2: too many pixels");
    }

    #[test]
    fn kinds_have_the_numbers_of_their_places() {
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.code() as usize, place + 1);
        }
    }
}
