//! A project: a folder with images, what was drawn on them, settings and the model.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::canvas::{Canvas, Change};
use super::edit::Edit;
use super::journal::Journal;
use super::learner::PATCH;
use super::picture::Picture;
use super::record::Record;
use super::slide::Slide;
use crate::annotations::{Dataset, LabelEncoding, SparseLabels};
use crate::budget::Budget;
use crate::control::CancelToken;
use crate::error::{Error, Result, counted};
use crate::large::{DrawnOptions, read_drawn_on, scaled};
use crate::model::{Algorithm, Model, Normalization};
use crate::raster::regions::RegionReader;
use crate::raster::{
    Image, LabelImage, Percentiles, RawLabels, ReadLimits, ReadOptions, read_image_with, read_label_file,
    write_atomically, write_wire_labels,
};

/// Bytes from which a journal is written anew when its project is opened, with the labels as files.
const LONG: u64 = 2 << 20;

/// What is chosen for a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Settings {
    /// The algorithm; none means that which finds drawn cells best, tried when learning begins.
    pub algorithm: Option<Algorithm>,
    /// Seconds of learning after the last change.
    pub seconds: f64,
    /// The channels that are learned from, counted from 0; none means all.
    pub channels: Option<Vec<usize>>,
    /// Found objects with fewer pixels are left out.
    pub min_area: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { algorithm: Some(Algorithm::Stardist), seconds: 60.0, channels: None, min_area: 0.0 }
    }
}

/// An image of a project, whole or to be read by parts.
#[derive(Debug)]
pub enum Pixels {
    /// All pixels.
    Whole(Image),
    /// An image that [`Project::slide`] gives.
    Slide(Arc<Slide>),
}

/// What is drawn in a project.
#[derive(Debug)]
#[non_exhaustive]
pub struct TrainingData {
    /// Images and labels.
    pub data: Dataset,
    /// Intensities are scaled already, and are not to be scaled again; see [`RoundOptions`](super::RoundOptions).
    pub normalized: bool,
}

impl Settings {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<()> {
        if !(1.0..=86_400.0).contains(&self.seconds) {
            return Err(Error::Config(format!(
                "the time for learning is {} seconds; it must lie between 1 second and a day",
                self.seconds
            )));
        }
        if !(self.min_area >= 0.0 && self.min_area.is_finite()) {
            return Err(Error::Config(format!("the smallest area is {}; it must be 0 or more pixels", self.min_area)));
        }
        if self.channels.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::Config("no channel is chosen to learn from; choose at least one".into()));
        }
        Ok(())
    }

    /// A chosen channel that images with so many channels do not have, if there is one.
    fn absent_channel(&self, channels: usize) -> Option<usize> {
        self.channels.iter().flatten().copied().find(|channel| *channel >= channels)
    }
}

/// An open project. One program has it open at a time.
#[derive(Debug)]
pub struct Project {
    folder: PathBuf,
    journal: Journal,
    pictures: BTreeMap<u32, Picture>,
    settings: Settings,
    next: u32,
    notes: Vec<String>,
    /// Held as long as the project is open.
    _lock: File,
}

impl Project {
    /// Opens the project in a folder, or begins one there: what was drawn is as it was after the last edit, whatever ended the
    /// program that drew it.
    ///
    /// # Errors
    /// [`Error::File`] when another program has it open, or its journal is something else; [`Error::Io`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        for path in [folder.clone(), folder.join("images"), folder.join("labels")] {
            fs::create_dir_all(&path).map_err(|source| Error::io(&path, source))?;
        }
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(|source| Error::io(&path, source))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::file(&folder, "another program has this project open; close it there first"));
        }
        let (journal, found) = Journal::open(&folder.join("journal"))?;
        let mut project = Self {
            folder,
            journal,
            pictures: BTreeMap::new(),
            settings: Settings::default(),
            next: 1,
            notes: Vec::new(),
            _lock: lock,
        };
        if let Some(kept) = &found.kept {
            let (steps, kept) = (found.records.len(), kept.file_name().unwrap_or_default().to_string_lossy());
            project.notes.push(format!(
                "the file of the strokes is damaged behind step {steps}, and all that follows is left out; as it was, it is kept as '{kept}' beside it"
            ));
        } else if found.cut > 0 {
            project.notes.push("the last step was cut off while it was written, and is left out".into());
        }
        for (number, bytes) in found.records.iter().enumerate() {
            let done = Record::read(bytes).and_then(|record| project.replay(record).map_err(|error| error.to_string()));
            if let Err(reason) = done {
                project.notes.push(format!("step {} could not be done again: {reason}", number + 1));
            }
        }
        if project.journal.len() > LONG && project.notes.is_empty() {
            project.compact()?;
        }
        Ok(project)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a user should know of how it was opened, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Its images, by their numbers.
    pub fn pictures(&self) -> impl Iterator<Item = &Picture> {
        self.pictures.values()
    }

    /// One of its images.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no image of that number.
    pub fn picture(&self, id: u32) -> Result<&Picture> {
        self.pictures.get(&id).ok_or_else(|| no_picture(id))
    }

    /// What is chosen.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Chooses.
    ///
    /// # Errors
    /// [`Error::Config`] for values out of range, and for channels that the images do not have; [`Error::Io`].
    pub fn choose(&mut self, settings: Settings) -> Result<()> {
        settings.check()?;
        if let Some(picture) = self.pictures.values().next()
            && let Some(absent) = settings.absent_channel(picture.shape[2])
        {
            return Err(Error::Config(format!(
                "channel {absent} is chosen to learn from, and the images have {}, counted from 0",
                counted(picture.shape[2], "channel")
            )));
        }
        self.record(Record::Settings { settings })?;
        Ok(())
    }

    /// Adds an image from the content of its file, which is stored in the project. Gives its number.
    ///
    /// # Errors
    /// What is wrong with the image; [`Error::Io`].
    pub fn add_image(&mut self, name: &str, bytes: &[u8], limits: &ReadLimits) -> Result<u32> {
        let file = format!("{:04}-{}", self.next, file_name(name));
        let path = self.folder.join("images").join(&file);
        write_atomically(&path, |writer| writer.write_all(bytes).map_err(|source| Error::io(&path, source)))?;
        let added = self.admit(name, file, &path, limits);
        if added.is_err() {
            // A copy of what cannot be used is no use.
            let _ = fs::remove_file(&path);
        }
        added
    }

    /// Adds an image that stays where it is.
    ///
    /// # Errors
    /// What is wrong with the image; [`Error::Io`].
    pub fn add_file(&mut self, path: impl AsRef<Path>, limits: &ReadLimits) -> Result<u32> {
        let path = path.as_ref();
        let absolute = std::path::absolute(path).map_err(|source| Error::io(path, source))?;
        let file = absolute.to_str().ok_or_else(|| Error::file(path, "its path is no text; rename it"))?.to_owned();
        let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.admit(&name, file, &absolute, limits)
    }

    fn admit(&mut self, name: &str, file: String, path: &Path, limits: &ReadLimits) -> Result<u32> {
        let (shape, pixel_size) = match Slide::open(path, None, limits) {
            Some(slide) => {
                slide.check(limits).map_err(|error| error.in_file(path))?;
                (slide.shape(), slide.pixel_size())
            }
            None => {
                let read = read_image_with(path, &ReadOptions::from(*limits))?;
                read.image.check()?;
                let (rows, columns, channels) = read.image.shape();
                ([rows, columns, channels], read.pixel_size)
            }
        };
        let channels = shape[2];
        if let Some(other) = self.pictures.values().find(|other| other.shape[2] != channels) {
            return Err(Error::Image(format!(
                "it has {} and '{}' has {}; all images of a project must have the same number; open it in \
                 another project",
                counted(channels, "channel"),
                other.name,
                other.shape[2]
            )));
        }
        if let Some(absent) = self.settings.absent_channel(channels) {
            return Err(Error::Image(format!(
                "it has {}, counted from 0, and channel {absent} is chosen to learn from; choose channels that it has first",
                counted(channels, "channel")
            )));
        }
        let id = self.next;
        let name = name.to_owned();
        self.record(Record::Image { id, name, file, shape, pixel_size })?;
        Ok(id)
    }

    /// Takes an image out of the project, with what was drawn on it. The file stays.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no image of that number; [`Error::Io`].
    pub fn remove_image(&mut self, id: u32) -> Result<()> {
        self.picture(id)?;
        self.record(Record::Remove { id })?;
        Ok(())
    }

    /// The pixels of an image, with the channels that are learned from if `chosen`.
    ///
    /// # Errors
    /// What is wrong with its file, or that it is another image now.
    pub fn image(&self, id: u32, limits: &ReadLimits, chosen: bool) -> Result<Image> {
        let picture = self.picture(id)?;
        read_picture(&picture.path, picture.shape, self.settings.channels.as_deref().filter(|_| chosen), limits)
    }

    /// An image of which parts are read where they are looked at, with the channels that are learned from if `chosen`; `None` for one
    /// that is read whole.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no image of that number; [`Error::File`] when it is another image now.
    pub fn slide(&self, id: u32, limits: &ReadLimits, chosen: bool) -> Result<Option<Slide>> {
        let Picture { path, shape, .. } = self.picture(id)?;
        let channels = self.settings.channels.as_deref().filter(|_| chosen);
        let Some(slide) = Slide::open(path, channels, limits) else { return Ok(None) };
        let wanted = channels.map_or(shape[2], <[usize]>::len);
        if slide.shape() != [shape[0], shape[1], wanted] {
            return Err(another(path));
        }
        Ok(Some(slide))
    }

    /// Draws or corrects; the edit is on the disk when this returns.
    ///
    /// # Errors
    /// As [`Canvas::apply`]; [`Error::Io`] when it cannot be stored, and then nothing is drawn.
    pub fn edit(&mut self, id: u32, edit: Edit) -> Result<Change> {
        self.picture(id)?;
        edit.check()?;
        self.record(Record::Edit { id, edit })
    }

    /// Takes back the last edit of an image, or does it `again`; no change when there is none.
    ///
    /// # Errors
    /// As [`edit`](Self::edit).
    pub fn undo(&mut self, id: u32, again: bool) -> Result<Change> {
        let possible = self.picture(id)?.canvas.can_undo_redo()[usize::from(again)];
        if !possible {
            return Ok(Change::default());
        }
        self.record(if again { Record::Redo { id } } else { Record::Undo { id } })
    }

    /// Everything that is drawn as a data set to train on, without images on which nothing is; `None` before a cell is drawn.
    /// `pixels` gives those of an image. Of a large one, the parts around what was drawn are read, as far as there is memory for
    /// them; all images are then scaled here, those parts by the percentiles of the whole image, which are measured as `how` says.
    ///
    /// # Errors
    /// What `pixels` reports, and as [`Dataset::new`] and [`read_drawn_on`].
    pub fn dataset(
        &self,
        how: Normalization,
        memory: Option<Budget>,
        mut pixels: impl FnMut(u32) -> Result<Pixels>,
    ) -> Result<Option<TrainingData>> {
        let cancel = CancelToken::new();
        let (mut images, mut labels, mut sizes, mut measured, mut cells) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), 0);
        let mut add = |image: Image, drawn: SparseLabels, size, percentiles: Option<Percentiles>| {
            cells += drawn.object_count();
            labels.push(drawn);
            images.push(image);
            sizes.push(size);
            measured.push(percentiles);
        };
        for picture in self.pictures.values() {
            let drawn = picture.canvas.labels();
            if drawn.iter().all(|label| *label < 0) {
                continue;
            }
            match pixels(picture.id)? {
                Pixels::Whole(image) => {
                    add(image, SparseLabels::from_signed(drawn.clone())?, picture.pixel_size, None);
                }
                Pixels::Slide(slide) => {
                    let options = DrawnOptions { patch: Some(PATCH), memory };
                    let found = read_drawn_on(slide.as_ref(), drawn, &options, &cancel).map_err(|(_, error)| error)?;
                    let percentiles = slide.percentiles(how, &cancel)?;
                    for part in found.parts {
                        let labels = part.labels_in(LabelEncoding::Signed)?;
                        add(part.image, labels, picture.pixel_size, Some(percentiles.clone()));
                    }
                }
            }
        }
        if cells == 0 {
            return Ok(None);
        }
        let data = Dataset::new(images, labels)?.with_pixel_sizes(sizes)?;
        if measured.iter().all(Option::is_none) {
            return Ok(Some(TrainingData { data, normalized: false }));
        }
        let measured: Vec<_> = measured.iter().map(Option::as_ref).collect();
        Ok(Some(TrainingData { data: scaled(&data, &measured, how)?, normalized: true }))
    }

    /// The file of the model.
    pub fn model_path(&self) -> PathBuf {
        self.folder.join("model.safetensors")
    }

    /// The model, if there is one.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn model(&self) -> Result<Option<Model>> {
        let path = self.model_path();
        if path.exists() { Model::load(path).map(Some) } else { Ok(None) }
    }

    /// Stores a step and does it.
    fn record(&mut self, record: Record) -> Result<Change> {
        self.journal.append(&record.to_bytes()?)?;
        self.replay(record)
    }

    /// Does a step that is stored.
    fn replay(&mut self, record: Record) -> Result<Change> {
        match record {
            Record::Image { id, name, file, shape, pixel_size } => {
                // An absolute path stays what it is.
                let path = self.folder.join("images").join(&file);
                let canvas = Canvas::new([shape[0], shape[1]])?;
                self.next = self.next.max(id.saturating_add(1));
                self.pictures.insert(id, Picture { id, name, shape, pixel_size, canvas, path, file });
            }
            Record::Remove { id } => drop(self.pictures.remove(&id)),
            Record::Drawn { id, file, next } => {
                let labels = read_drawn(&self.folder.join("labels").join(&file))?;
                let picture = self.pictures.get_mut(&id).ok_or_else(|| no_picture(id))?;
                if labels.dim() != picture.canvas.labels().dim() {
                    return Err(Error::Labels(format!("'{file}' has another size than its image")));
                }
                picture.canvas = Canvas::from_labels(labels);
                picture.canvas.begin_at(next);
            }
            Record::Edit { id, edit } => return self.canvas(id)?.apply(&edit),
            Record::Undo { id } => return Ok(self.canvas(id)?.undo().unwrap_or_default()),
            Record::Redo { id } => return Ok(self.canvas(id)?.redo().unwrap_or_default()),
            Record::Settings { settings } => self.settings = settings,
        }
        Ok(Change::default())
    }

    fn canvas(&mut self, id: u32) -> Result<&mut Canvas> {
        self.pictures.get_mut(&id).map(|picture| &mut picture.canvas).ok_or_else(|| no_picture(id))
    }

    /// Writes the journal anew, with the labels as files instead of the edits that made them.
    fn compact(&mut self) -> Result<()> {
        let folder = self.folder.join("labels");
        let old: Vec<PathBuf> =
            fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        let taken = |number: u32| {
            let start = format!("{number}-");
            old.iter().any(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
        };
        // Other names than before: the old journal is good until the new one is there.
        let generation = (1..).find(|number| !taken(*number)).unwrap_or(0);
        let mut records = vec![Record::Settings { settings: self.settings.clone() }];
        for picture in self.pictures.values() {
            let Picture { id, name, shape, pixel_size, file, canvas, .. } = picture;
            let (id, name, file, shape, pixel_size) = (*id, name.clone(), file.clone(), *shape, *pixel_size);
            records.push(Record::Image { id, name, file, shape, pixel_size });
            let path = write_wire_labels(&folder, &format!("{generation}-{id}"), canvas.labels())?;
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            records.push(Record::Drawn { id, file, next: canvas.next_cell() });
        }
        let records = records.iter().map(Record::to_bytes).collect::<Result<Vec<_>>>()?;
        self.journal = Journal::replace(&self.folder.join("journal"), &records)?;
        for path in old {
            // A file that stays does no harm.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }
}

/// The pixels of an image file of a project, with those of its channels, counted from 0.
fn read_picture(path: &Path, shape: [usize; 3], channels: Option<&[usize]>, limits: &ReadLimits) -> Result<Image> {
    let channels = channels.map(|channels| channels.iter().map(|channel| channel + 1).collect());
    let wanted = channels.as_ref().map_or(shape[2], Vec::len);
    let options = ReadOptions { channels, ..ReadOptions::from(*limits) };
    let image = read_image_with(path, &options)?.image;
    image.check()?;
    if image.shape() != (shape[0], shape[1], wanted) {
        return Err(another(path));
    }
    Ok(image)
}

fn another(path: &Path) -> Error {
    Error::file(path, "is another image than the one that was drawn on; take it out and add it anew")
}

fn read_drawn(path: &Path) -> Result<LabelImage> {
    match read_label_file(path)? {
        RawLabels::Unsigned(values) => Ok(SparseLabels::from_wire(values)?.labels().clone()),
        RawLabels::Signed(values) => Ok(values),
    }
}

/// The last part of a name, with letters, digits and a few signs.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = last.chars().map(plain).collect();
    // The end has the format.
    let skipped = name.len().saturating_sub(80);
    name[skipped..].trim_start_matches('.').to_owned()
}

fn no_picture(id: u32) -> Error {
    Error::Config(format!("the project has no image {id}; it may have been taken out"))
}

#[cfg(test)]
#[path = "project_tests.rs"]
mod tests;
