//! The fixed numbers of what can go wrong, and failures on their way to the border.

use std::fmt::Display;

use cellsparse_core::Error;

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
}

/// The result of everything behind the border.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(status: cellsparse_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
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
        let status = match &error {
            Error::Image(_) => cellsparse_status::Image,
            Error::Labels(_) => cellsparse_status::Labels,
            Error::Config(_) => cellsparse_status::Config,
            Error::NotFound { .. } => cellsparse_status::NotFound,
            Error::File { .. } => cellsparse_status::File,
            Error::Io { .. } => cellsparse_status::Io,
            Error::Weights(_) => cellsparse_status::Weights,
            Error::Limit(_) => cellsparse_status::Limit,
            Error::Device(_) => cellsparse_status::Device,
            Error::Diverged(_) => cellsparse_status::Diverged,
            Error::Cancelled => cellsparse_status::Cancelled,
            _ => cellsparse_status::Internal,
        };
        Self::new(status, error.to_string())
    }
}
