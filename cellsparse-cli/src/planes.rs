//! Which planes and time points of a stack are segmented, each as an image of its own.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use cellsparse_core::raster::{ReadOptions, read_image_header};
use cellsparse_core::{Error, Reason};

use crate::args::SelectArgs;
use crate::input;

/// Numbers of planes or time points, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbers {
    /// All that a file has.
    All,
    /// One.
    One(usize),
    /// Several, without repetition and in their order in the file.
    Several(Vec<usize>),
}

/// Numbers that one option names at most.
const MOST: usize = 1 << 20;

impl FromStr for Numbers {
    type Err = String;

    /// `all`, `3`, `2-5` or `1,4,7-9`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a number from 1, a range such as 2-5, a list such as 1,4,7-9, or all".to_owned();
        if text == "all" {
            return Ok(Self::All);
        }
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let read = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n > 0);
            let (first, last) = read(first).zip(read(last)).ok_or_else(expected)?;
            if first > last || last - first >= MOST - numbers.len() {
                return Err(expected());
            }
            numbers.extend(first..=last);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(match numbers.as_slice() {
            [one] => Self::One(*one),
            _ => Self::Several(numbers),
        })
    }
}

/// One image to be segmented: a file, or one plane of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The file.
    pub file: PathBuf,
    /// What is read of it.
    pub read: ReadOptions,
    /// How its results are named.
    pub name: String,
    /// Its plane and time point when the file gives several images, counted from 1.
    pub place: [Option<usize>; 2],
}

impl Part {
    /// The file and which part of it, for messages.
    pub fn title(&self) -> String {
        let mut title = self.file.display().to_string();
        for (what, number) in ["plane", "frame"].into_iter().zip(self.place) {
            title += &number.map_or_else(String::new, |number| format!(", {what} {number}"));
        }
        title
    }
}

/// Whether any of the files has several planes, and whether any has several time points. Files that are no images, or damaged,
/// have none.
pub fn several<'a>(files: impl IntoIterator<Item = &'a Path>) -> [bool; 2] {
    let mut several = [false; 2];
    for size in files.into_iter().filter_map(|file| read_image_header(file).ok()) {
        several = [several[0] || size.planes > 1, several[1] || size.frames > 1];
    }
    several
}

/// What is read of one file where a plane or a time point was chosen: a file that has only one is taken as it is, when others
/// have `several`.
pub fn of_file(file: &Path, read: &ReadOptions, several: [bool; 2]) -> ReadOptions {
    let mut read = read.clone();
    if (read.plane.is_some() || read.frame.is_some())
        && let Ok(size) = read_image_header(file)
    {
        read.plane = read.plane.filter(|_| size.planes > 1 || !several[0]);
        read.frame = read.frame.filter(|_| size.frames > 1 || !several[1]);
    }
    read
}

/// The error with what `predict` takes for several planes, where none was chosen.
pub fn with_ranges(error: Error) -> Error {
    match (error.reason(), error.path()) {
        (Some(Reason::Unchosen { option, .. }), Some(path)) => {
            Error::file(path, format!("{}; pass --{option} N, several as in 2-5, or all", error.message()))
        }
        _ => error,
    }
}

/// The parts of a file that were asked for. A file of which nothing is known, for example since it is damaged, is one
/// part, and reading it says why. A file that has one plane or time point is taken as it is, when others have `several`.
///
/// Results of several planes are named `NAME_z001`, of several time points `NAME_t001`, of both `NAME_t001_z001`, with as
/// many digits as the largest number of the file has, and at least three.
pub fn parts(file: &Path, select: &SelectArgs, several: [bool; 2]) -> Vec<Part> {
    let asked = select.plane.is_some() || select.frame.is_some();
    let size = asked.then(|| read_image_header(file).ok()).flatten();
    let [plane, frame] = [(&select.plane, size.map(|size| size.planes)), (&select.frame, size.map(|size| size.frames))];
    let there = |(wanted, count): (&Option<Numbers>, Option<usize>), several: bool| {
        wanted.clone().filter(|_| count != Some(1) || !several)
    };
    let wanted = [there(plane, several[0]), there(frame, several[1])];
    let name = input::stem(file);
    let single = |wanted: &Option<Numbers>| match wanted {
        None => Some(None),
        Some(Numbers::One(number)) => Some(Some(*number)),
        Some(_) => None,
    };
    let options =
        |plane, frame| ReadOptions { channels: select.select_channels.clone(), plane, frame, ..ReadOptions::default() };
    let whole = |plane, frame| {
        vec![Part { file: file.to_path_buf(), read: options(plane, frame), name: name.clone(), place: [None; 2] }]
    };
    if let (Some(plane), Some(frame)) = (single(&wanted[0]), single(&wanted[1])) {
        return whole(plane, frame);
    }
    let Some(size) = size else { return whole(None, None) };
    let axes = [(&wanted[0], size.planes, 'z'), (&wanted[1], size.frames, 't')];
    let [planes, frames] = axes.map(|(wanted, count, letter)| numbers(wanted.as_ref(), count, letter));
    let mut parts = Vec::new();
    for (frame, of_frame) in &frames {
        for (plane, of_plane) in &planes {
            parts.push(Part {
                file: file.to_path_buf(),
                read: options(*plane, *frame),
                name: format!("{name}{of_frame}{of_plane}"),
                place: [plane.filter(|_| !of_plane.is_empty()), frame.filter(|_| !of_frame.is_empty())],
            });
        }
    }
    parts
}

/// What is read of one axis of a file, with the ending of the results' names.
fn numbers(wanted: Option<&Numbers>, count: usize, letter: char) -> Vec<(Option<usize>, String)> {
    let list = match wanted {
        None => return vec![(None, String::new())],
        Some(Numbers::One(number)) => return vec![(Some(*number), String::new())],
        Some(Numbers::All) if count <= 1 => return vec![(None, String::new())],
        Some(Numbers::All) => (1..=count.min(MOST)).collect(),
        Some(Numbers::Several(list)) => list.clone(),
    };
    let largest = list.iter().copied().fold(count, usize::max);
    let digits = largest.to_string().len().max(3);
    list.into_iter().map(|number| (Some(number), format!("_{letter}{number:0digits$}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let read = |text: &str| text.parse::<Numbers>();
        assert_eq!(read("all"), Ok(Numbers::All));
        assert_eq!(read("3"), Ok(Numbers::One(3)));
        assert_eq!(read("4-4"), Ok(Numbers::One(4)));
        assert_eq!(read("7-9,1, 8"), Ok(Numbers::Several(vec![1, 7, 8, 9])));
        for wrong in ["", "0", "5-2", "1-", "-3", "a", "1-99999999999", "ALL"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_sort_as_the_planes_do() {
        let names = |wanted: Option<&str>, count| -> Vec<(Option<usize>, String)> {
            numbers(wanted.map(|text| text.parse().unwrap()).as_ref(), count, 'z')
        };
        assert_eq!(names(None, 5), [(None, String::new())]);
        assert_eq!(names(Some("2"), 5), [(Some(2), String::new())]);
        assert_eq!(names(Some("all"), 1), [(None, String::new())]);
        assert_eq!(names(Some("all"), 2), [(Some(1), "_z001".into()), (Some(2), "_z002".into())]);
        assert_eq!(names(Some("1,3"), 1500)[1], (Some(3), "_z0003".into()));
    }
}
