//! One image of a project with its labels.

use std::path::PathBuf;

use super::canvas::Canvas;

/// An image of a project. Its pixels are read when they are needed, see [`Project::image`](super::Project::image).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Picture {
    /// Its number, which no other image of the project has or had.
    pub id: u32,
    /// Its name for people.
    pub name: String,
    /// Rows, columns, channels.
    pub shape: [usize; 3],
    /// Micrometres per pixel `[y, x]`, if the file tells.
    pub pixel_size: Option<[f64; 2]>,
    /// What is drawn on it.
    pub canvas: Canvas,
    /// Its file.
    pub(super) path: PathBuf,
    /// Its file as the journal names it.
    pub(super) file: String,
}
