//! The page of the server: images, drawing, learning and correcting in a browser, at `/app`.

mod clicks;
mod content;
mod files;
mod learning;
mod pixels;
mod results;
mod routes;
mod status;
mod talk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use cellsparse_core::raster::{ReadLimits, find_images};

pub use self::clicks::Clicks;
pub use self::files::is_file;
pub use self::routes::routes;
use self::talk::Talk;
use super::errors::Refusal;
use super::names::ModelName;

/// What the page works on: projects in one folder, and images of another one.
#[derive(Debug)]
pub struct Page {
    projects: PathBuf,
    images: Option<PathBuf>,
    clicks: Clicks,
    limits: ReadLimits,
    open: Mutex<BTreeMap<ModelName, Arc<Talk>>>,
}

/// Projects that are open at a time, at most.
const OPEN: usize = 16;

/// Images of the folder that are listed, at most.
const LISTED: usize = 2000;

/// Bytes of a decoded image for each pixel that one may have.
const PIXEL_BYTES: usize = 16;

impl Page {
    /// Projects in a folder, which is made with the first one, and images of up to that many pixels in another one, if there is
    /// one; outlines by `clicks`.
    pub fn new(projects: PathBuf, images: Option<PathBuf>, clicks: Clicks, pixels: usize) -> Self {
        let limits =
            ReadLimits { decoded_bytes: pixels.saturating_mul(PIXEL_BYTES).min(1 << 30), ..ReadLimits::default() };
        Self { projects, images, clicks, limits, open: Mutex::default() }
    }

    /// A project, which is opened if it is not open, and begun, if it is to `begin`, where there is none. Blocks.
    ///
    /// # Errors
    /// 404 when there is none, 409 when another program has it open, 429 when too many are open.
    fn talk(&self, name: &ModelName, begin: bool) -> Result<Arc<Talk>, Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(talk) = open.get(name) {
            return Ok(Arc::clone(talk));
        }
        let folder = self.projects.join(name.as_str());
        if !begin && !is_project(&folder) {
            let msg = format!("there is no project '{name}'; a POST to its path begins it");
            return Err(Refusal::new(StatusCode::NOT_FOUND, msg));
        }
        if open.len() >= OPEN {
            // One that nobody looks at and that does not learn is on the disk as it is.
            open.retain(|_, talk| Arc::strong_count(talk) > 1 || talk.is_learning());
        }
        if open.len() >= OPEN {
            let msg = format!("{OPEN} projects are open; close the pages of some of them");
            return Err(Refusal::later(StatusCode::TOO_MANY_REQUESTS, msg, 10));
        }
        let talk = Arc::new(Talk::open(name.clone(), &folder, self.limits)?);
        open.insert(name.clone(), Arc::clone(&talk));
        Ok(talk)
    }

    /// The projects that are open.
    pub fn stop_all(&self) {
        for talk in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            talk.stop();
        }
    }

    /// The names of all projects.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.projects).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| is_project(&entry.path()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| ModelName::new(name).is_ok())
            .collect();
        names.sort();
        names
    }

    /// The images of the folder that the server was started with, by their paths in it.
    fn folder_images(&self) -> Vec<String> {
        let Some(folder) = &self.images else { return Vec::new() };
        let listing = find_images(folder).map(|listing| listing.files).unwrap_or_default();
        let inside = |path: &PathBuf| path.strip_prefix(folder).ok()?.to_str().map(str::to_owned);
        listing.iter().filter_map(inside).take(LISTED).collect()
    }

    /// The path of an image that [`folder_images`](Self::folder_images) lists.
    ///
    /// # Errors
    /// 404 for another one.
    fn folder_image(&self, name: &str) -> Result<PathBuf, Refusal> {
        let listed = self.folder_images().into_iter().any(|listed| listed == name);
        match self.images.as_deref().filter(|_| listed) {
            Some(folder) => Ok(Path::join(folder, name)),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no image '{name}' in the folder"))),
        }
    }
}

/// Whether a project was begun in a folder.
fn is_project(folder: &Path) -> bool {
    folder.join("journal").is_file()
}

/// Locks, also after a panic in another thread: what is locked is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
