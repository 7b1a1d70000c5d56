//! The fixed numbers of what can go wrong, and failures on their way to the border.

use std::fmt::Display;

use cellsparse_core::{Error, ErrorKind, Reason};

/// What a call came to. The numbers never change; later versions may add some.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum cellsparse_status {
    /// Success; outputs are written.
    Ok = 0,
    /// An image has an unusable shape, type or content.
    Image = 1,
    /// A label image or an annotation is unusable.
    Labels = 2,
    /// An option or a configuration value is unknown or outside its range.
    Config = 3,
    /// A file or folder does not exist.
    NotFound = 4,
    /// A file exists and cannot be used: damaged, of another format or of another version.
    File = 5,
    /// The operating system refused to read or write.
    Io = 6,
    /// Weights do not fit the network that they are meant for.
    Weights = 7,
    /// The work would exceed a limit on memory, pixels or objects.
    Limit = 8,
    /// A device is absent or failed.
    Device = 9,
    /// Training produced a value that is not finite; the model is as it was before.
    Diverged = 10,
    /// A cancel handle was raised before there was a result.
    Cancelled = 11,
    /// A defect of the library, a caught panic included.
    Internal = 12,
    /// A pointer that must not be NULL is NULL.
    NullPointer = 20,
    /// A handle that was freed, or never was one of its type.
    InvalidHandle = 21,
    /// Another thread, or a callback's own training, has the handle.
    Busy = 22,
    /// An argument that no call can take: text that is not UTF-8, an unknown constant, a buffer of a wrong size.
    InvalidArgument = 23,
}

/// A status other than `Ok`, with its message.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: cellsparse_status,
    pub message: String,
    /// What the error of the library is about.
    pub reason: Option<Reason>,
}

/// The result of everything behind the border.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(status: cellsparse_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), reason: None }
    }

    pub fn null(name: &str) -> Self {
        Self::new(cellsparse_status::NullPointer, format!("{name} is NULL; give a valid pointer"))
    }

    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(cellsparse_status::InvalidArgument, message)
    }

    pub fn internal(reason: impl Display) -> Self {
        Error::Internal(reason.to_string()).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Image => cellsparse_status::Image,
            ErrorKind::Labels => cellsparse_status::Labels,
            ErrorKind::Config => cellsparse_status::Config,
            ErrorKind::NotFound => cellsparse_status::NotFound,
            ErrorKind::File => cellsparse_status::File,
            ErrorKind::Io => cellsparse_status::Io,
            ErrorKind::Weights => cellsparse_status::Weights,
            ErrorKind::Limit => cellsparse_status::Limit,
            ErrorKind::Device => cellsparse_status::Device,
            ErrorKind::Diverged => cellsparse_status::Diverged,
            ErrorKind::Cancelled => cellsparse_status::Cancelled,
            _ => cellsparse_status::Internal,
        };
        Self { reason: error.reason().cloned(), ..Self::new(status, error.to_string()) }
    }
}

/// What to do about an error, in the words of C.
pub(crate) fn hint(reason: &Reason) -> Option<String> {
    Some(match reason {
        Reason::LabelEncoding { suggested, .. } => {
            format!("pass CELLSPARSE_ENCODING_{}", suggested.to_ascii_uppercase())
        }
        Reason::DeviceAbsent { feature: Some(feature), .. } => {
            format!("build the library with the feature {feature}, or set the option device to \"cpu\"")
        }
        Reason::DeviceAbsent { .. } => "set the option device to \"cpu\"".into(),
        Reason::NotResumable => "set the option resume to false".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_status_of_its_number() {
        let path = || std::path::PathBuf::from("a");
        let errors = [
            Error::Image(String::new()),
            Error::Labels(String::new()),
            Error::Config(String::new()),
            Error::NotFound { path: path() },
            Error::file("a", "b"),
            Error::io("a", std::io::Error::other("b")),
            Error::Weights(String::new()),
            Error::Limit(String::new()),
            Error::Device(String::new()),
            Error::Diverged(String::new()),
            Error::Cancelled,
            Error::Internal(String::new()),
        ];
        assert_eq!(errors.len(), ErrorKind::ALL.len());
        for error in errors {
            let kind = error.kind();
            assert_eq!(Failure::from(error).status as u32, kind.code(), "{kind:?}");
        }
    }

    #[test]
    fn hints_name_constants_and_options_of_this_interface() {
        assert_eq!(hint(&Reason::label_encoding("wire")).unwrap(), "pass CELLSPARSE_ENCODING_WIRE");
        assert_eq!(hint(&Reason::Damaged), None);
    }
}
