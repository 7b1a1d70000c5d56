//! What the numbers of a label file mean.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The conventions for label files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LabelEncoding {
    /// Decide from the type, the values, what they cover and their shapes, see
    /// [`choose_encoding`](super::choose_encoding).
    #[default]
    Auto,
    /// Unsigned: 0 unlabelled, 1 background, `>= 2` an object (its id is the value - 1).
    Wire,
    /// Unsigned: 0 background, `>= 1` an object; nothing is unlabelled.
    Dense,
    /// Signed: `< 0` unlabelled, 0 background, `>= 1` an object.
    Signed,
    /// Unsigned: 0 unlabelled, `>= 1` an object; no background is drawn.
    Cells,
}

impl LabelEncoding {
    /// What the values mean, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            LabelEncoding::Auto => "decided from the labels",
            LabelEncoding::Wire => "0 unlabelled, 1 background, 2 and up cells",
            LabelEncoding::Dense => "0 background, 1 and up cells",
            LabelEncoding::Signed => "below 0 unlabelled, 0 background, 1 and up cells",
            LabelEncoding::Cells => "0 unlabelled, 1 and up cells, no background",
        }
    }
}

impl fmt::Display for LabelEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LabelEncoding::Auto => "auto",
            LabelEncoding::Wire => "wire",
            LabelEncoding::Dense => "dense",
            LabelEncoding::Signed => "signed",
            LabelEncoding::Cells => "cells",
        })
    }
}

impl FromStr for LabelEncoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(LabelEncoding::Auto),
            "wire" => Ok(LabelEncoding::Wire),
            "dense" => Ok(LabelEncoding::Dense),
            "signed" => Ok(LabelEncoding::Signed),
            "cells" => Ok(LabelEncoding::Cells),
            other => Err(Error::Config(format!(
                "unknown label encoding '{other}'; expected auto, wire (0 unlabelled, 1 background, 2.. cells), dense (0 \
                 background, 1.. cells), signed (-1 unlabelled, 0 background, 1.. cells) or cells (0 unlabelled, 1.. \
                 cells)"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        use LabelEncoding::{Auto, Cells, Dense, Signed, Wire};
        for encoding in [Auto, Wire, Dense, Signed, Cells] {
            assert_eq!(encoding.to_string().parse::<LabelEncoding>().unwrap(), encoding);
        }
        assert!("Dense".parse::<LabelEncoding>().unwrap_err().to_string().contains("'Dense'"));
    }
}
