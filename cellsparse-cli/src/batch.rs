//! Many files in one run: what failed is noted and the rest is done.

use std::path::{Path, PathBuf};

use cellsparse_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::hint;

/// Failures that the last line names.
const NAMED: usize = 3;

/// The files of a run that could not be used.
#[derive(Default)]
pub struct Failures(Vec<(PathBuf, String)>);

impl Failures {
    /// Notes the failure of one file.
    ///
    /// # Errors
    /// The error itself when it is not the fault of the file: the others would fail alike.
    pub fn add(&mut self, file: &Path, error: Error) -> Result<()> {
        let elsewhere = error.path().is_some_and(|path| path != file);
        match error.kind() {
            ErrorKind::Config | ErrorKind::Device | ErrorKind::Weights | ErrorKind::Cancelled => Err(error),
            // The folder of the results, or the disk.
            ErrorKind::Io | ErrorKind::NotFound if elsewhere => Err(error),
            _ => {
                self.0.push((file.to_path_buf(), reason(file, &error)));
                Ok(())
            }
        }
    }

    /// The latest failure.
    pub fn last(&self) -> Option<&str> {
        self.0.last().map(|(_, reason)| reason.as_str())
    }

    /// The files and the reasons, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().map(|(file, reason)| (file.as_path(), reason.as_str()))
    }

    /// Number of files that failed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What `--json` lists: the file under the name `key`, and the reason.
    pub fn json(&self, key: &str) -> Vec<Value> {
        self.0.iter().map(|(file, reason)| json!({ key: file.display().to_string(), "error": reason })).collect()
    }

    /// Ends a run over `total` files, which are called `what`.
    ///
    /// # Errors
    /// [`Error::File`] with the reason when there was but one file; otherwise with how many failed and which.
    pub fn finish(self, total: usize, what: &str) -> Result<()> {
        let Some((first, reason)) = self.0.first() else { return Ok(()) };
        if total == 1 {
            return Err(Error::file(first, reason.as_str()));
        }
        let names: Vec<String> = self.0.iter().take(NAMED).map(|(file, _)| file.display().to_string()).collect();
        let more = if self.0.len() > NAMED { format!(" and {} more", self.0.len() - NAMED) } else { String::new() };
        let done = total.saturating_sub(self.0.len());
        Err(Error::file(
            first,
            format!(
                "{reason} ({done} of {total} {what} were done; {} failed: {}{more})",
                self.0.len(),
                names.join(", ")
            ),
        ))
    }
}

/// The error with what to do about it, without the name of the file, which stands beside it.
fn reason(file: &Path, error: &Error) -> String {
    let text = hint::line(error);
    let own = format!("{}: ", file.display());
    // Some kinds of errors begin with their name.
    text.replacen(&own, "", 1)
}

#[cfg(test)]
mod tests {
    use cellsparse_core::Reason;

    use super::*;

    #[test]
    fn the_last_line_counts_and_names() {
        let mut failures = Failures::default();
        assert!(failures.add(Path::new("a"), Error::Config("tile".into())).is_err());
        assert!(failures.add(Path::new("a"), Error::NotFound { path: "out".into() }).is_err());
        for name in ["a.tif", "b.tif", "c.tif", "d.tif"] {
            failures.add(Path::new(name), Error::file(name, "it is cut off")).unwrap();
        }
        assert_eq!((failures.len(), failures.last()), (4, Some("it is cut off")));
        assert_eq!(failures.json("image")[1], json!({ "image": "b.tif", "error": "it is cut off" }));
        let text = failures.finish(9, "images").unwrap_err().to_string();
        assert_eq!(text, "a.tif: it is cut off (5 of 9 images were done; 4 failed: a.tif, b.tif, c.tif and 1 more)");
        let mut failures = Failures::default();
        failures.add(Path::new("x"), Error::Labels("no".into())).unwrap();
        assert_eq!(failures.finish(1, "images").unwrap_err().to_string(), "x: labels: no");
        assert!(Failures::default().finish(3, "images").is_ok());
        let mut failures = Failures::default();
        let error = Error::file("x", "3 planes").because(Reason::unchosen("plane", 3));
        failures.add(Path::new("x"), error).unwrap();
        assert!(failures.last().unwrap().starts_with("3 planes; pass --plane N"), "{:?}", failures.last());
    }
}
