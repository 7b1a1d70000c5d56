//! What the numbers of a label file mean.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The three conventions for label files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelEncoding {
    /// Unsigned: 0 unlabelled, 1 background, `>= 2` an object (its id is the value - 1).
    #[default]
    Wire,
    /// Unsigned: 0 background, `>= 1` an object; nothing is unlabelled.
    Dense,
    /// Signed: `< 0` unlabelled, 0 background, `>= 1` an object.
    Signed,
}

impl fmt::Display for LabelEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LabelEncoding::Wire => "wire",
            LabelEncoding::Dense => "dense",
            LabelEncoding::Signed => "signed",
        })
    }
}

impl FromStr for LabelEncoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "wire" => Ok(LabelEncoding::Wire),
            "dense" => Ok(LabelEncoding::Dense),
            "signed" => Ok(LabelEncoding::Signed),
            other => Err(Error::Config(format!(
                "unknown label encoding '{other}'; expected wire (0 unlabelled, 1 background, 2.. cells), dense (0 \
                 background, 1.. cells) or signed (-1 unlabelled, 0 background, 1.. cells)"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        for encoding in [LabelEncoding::Wire, LabelEncoding::Dense, LabelEncoding::Signed] {
            assert_eq!(encoding.to_string().parse::<LabelEncoding>().unwrap(), encoding);
        }
        assert!("Dense".parse::<LabelEncoding>().unwrap_err().to_string().contains("'Dense'"));
    }
}
