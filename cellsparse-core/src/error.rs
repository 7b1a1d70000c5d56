//! One error type for the whole library, grouped by whose fault it is.

mod reason;
mod words;

use std::path::{Path, PathBuf};

pub use self::reason::{Detail, ErrorKind, Reason};
pub use self::words::counted;

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Every message says what was found, what was expected and what to do about it.
///
/// The variants are the kinds that other languages see (C status codes, Python and Java exception classes). Some errors also
/// carry a [`Reason`], or the error that led to them: [`kind`](Self::kind), [`reason`](Self::reason),
/// [`message`](Self::message) and [`path`](Self::path) ask an error without looking at its variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image has an unusable shape, type or content.
    #[error("image: {0}")]
    Image(String),
    /// A label image or an annotation is unusable.
    #[error("labels: {0}")]
    Labels(String),
    /// An option or a configuration value is outside its range.
    #[error("option: {0}")]
    Config(String),
    /// A file does not exist.
    #[error("{}: no such file or folder", path.display())]
    NotFound {
        /// The path that was looked for.
        path: PathBuf,
    },
    /// A file exists and cannot be used: damaged, of another format, or of another version.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected, what to do.
        reason: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason given by the operating system.
        source: std::io::Error,
    },
    /// Weights do not fit the network they are meant for.
    #[error("weights: {0}")]
    Weights(String),
    /// The work would exceed a limit on memory, pixels or objects.
    #[error("limit: {0}")]
    Limit(String),
    /// A device is absent or failed.
    #[error("device: {0}")]
    Device(String),
    /// Training produced a value that is not finite.
    #[error("training diverged: {0}")]
    Diverged(String),
    /// The caller asked to stop before there was a result.
    #[error("cancelled by the caller")]
    Cancelled,
    /// A defect of this library.
    #[error("internal error (please report it): {0}")]
    Internal(String),
    /// One of the others with more about it.
    #[error(transparent)]
    Detailed(Box<Detail>),
}

impl Error {
    /// Wraps an operating system error, turning "not found" into [`Error::NotFound`], and a lack of memory into
    /// [`Error::Limit`].
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        match source.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { path },
            std::io::ErrorKind::OutOfMemory => Error::limit(path, "the system has no memory to give for it"),
            _ => Error::Io { path, source },
        }
    }

    /// A file that cannot be used, with the reason.
    pub fn file(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }

    /// A file beyond a limit, with the reason: an [`Error::Limit`] that [`path`](Self::path) is known of.
    pub fn limit(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Detail::of_file(Error::Limit(reason.into()), path.as_ref())
    }
}

/// Runs what another library does; a panic of it becomes its message.
///
/// Such a panic is a defect of a decoder for one file, or of bindings to libraries that this machine lacks, and the rest of a batch, a
/// server or a program in another language goes on. Nothing that `work` borrows may be used after a panic.
#[cfg(any(feature = "io", feature = "cuda"))]
pub(crate) fn contain_panic<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::contain_panic;

    #[test]
    fn a_panic_is_a_message() {
        assert_eq!(contain_panic(|| 3), Ok(3));
        let numbers: [u8; 0] = [];
        let message = contain_panic(|| numbers[std::hint::black_box(7)]).unwrap_err();
        assert!(message.contains("index out of bounds"), "{message}");
    }
}
