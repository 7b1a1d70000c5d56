//! Names of models, which become file names.

use std::fmt;

use axum::http::StatusCode;

use super::errors::{Location, Refusal};

/// A name that is one file name on every system, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelName(String);

/// Most bytes of a name.
const LONGEST: usize = 100;

/// Names that Windows keeps for devices, whatever ending follows.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

impl ModelName {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(name: &str) -> Result<Self, String> {
        let stem = name.split('.').next().unwrap_or_default().trim_end().to_lowercase();
        let numbered = ["com", "lpt"].iter().any(|port| {
            stem.strip_prefix(port).is_some_and(|rest| rest.chars().count() == 1 && rest.chars().all(char::is_numeric))
        });
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > LONGEST {
            return Err(format!("it has {} bytes; the longest allowed name has {LONGEST}", name.len()));
        } else if name.contains("..") {
            "it contains '..'"
        } else if let Some(bad) =
            name.chars().find(|c| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'))
        {
            return Err(format!("it contains {bad:?}, which is not allowed in a name"));
        } else if name.starts_with(['.', ' ', '-']) || name.ends_with(['.', ' ']) {
            "it begins with a dot, a space or a minus, or ends with a dot or a space"
        } else if numbered || DEVICES.contains(&stem.as_str()) {
            "it is the name of a device on Windows"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(reason.to_owned())
    }

    /// The name in a field of a body.
    ///
    /// # Errors
    /// 422 that names the field.
    pub fn in_field(name: &str, field: &str) -> Result<Self, Refusal> {
        Self::new(name).map_err(|reason| {
            let place: Vec<Location> = vec!["body".into(), field.into()];
            Refusal::field(place, format!("not a usable name: {reason}"), "value_error.name")
        })
    }

    /// The name in a path.
    ///
    /// # Errors
    /// 422 with the reason.
    pub fn in_path(name: &str) -> Result<Self, Refusal> {
        Self::new(name)
            .map_err(|reason| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("not a usable name: {reason}")))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_file_names_pass() {
        for good in ["default", "my nuclei 2", "Zellkerne-ä", "2D_versatile_fluo", "v1.2", "com10", "concave", "細胞"]
        {
            assert!(ModelName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(101);
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a..b",
            "C:",
            "a\0b",
            "a\nb",
            ".hidden",
            "a.",
            "a ",
            " a",
            "-rf",
            "CON",
            "nul.txt",
            "Com1",
            "lpt9.safetensors",
            "com¹",
            "a?",
            "a*",
            "a|b",
            "http://host/x",
            "\u{7f}",
            &long,
        ] {
            assert!(ModelName::new(bad).is_err(), "{bad:?}");
        }
    }
}
