//! What the journal of a project says, one record for each step.

use serde::{Deserialize, Serialize};

use super::edit::Edit;
use super::project::Settings;
use crate::error::{Error, Result};

/// One step of a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(super) enum Record {
    /// An image was added.
    Image {
        /// Its number, never used before.
        id: u32,
        /// Its name for people.
        name: String,
        /// Its file: in the folder of the images of the project, or an absolute path.
        file: String,
        /// Rows, columns, channels.
        shape: [usize; 3],
        /// Micrometres per pixel `[y, x]`, if the file tells.
        pixel_size: Option<[f64; 2]>,
    },
    /// An image was taken out.
    Remove {
        /// Its number.
        id: u32,
    },
    /// The labels of an image as they were when the journal was written anew.
    Drawn {
        /// The number of the image.
        id: u32,
        /// Their file in the folder of the labels.
        file: String,
        /// The number of the next cell.
        next: i32,
    },
    /// An edit.
    Edit {
        /// The number of the image.
        id: u32,
        /// What was done.
        edit: Edit,
    },
    /// The last edit of an image was taken back.
    Undo {
        /// The number of the image.
        id: u32,
    },
    /// It was done again.
    Redo {
        /// The number of the image.
        id: u32,
    },
    /// Settings were chosen.
    Settings {
        /// All of them.
        settings: Settings,
    },
}

impl Record {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::Internal(format!("a record of the journal: {error}")))
    }

    pub fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}
