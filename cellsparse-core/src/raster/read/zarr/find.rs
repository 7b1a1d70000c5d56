//! Which image a folder holds: its own, that of the group above it, or the only one among the folders in it.

use std::cmp::Ordering;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::super::{Decoded, Problem};
use super::array::Array;
use super::axes::Axes;
use super::multiscale::Multiscale;
use super::node::{Node, node, ome};
use super::store::{METADATA, Store, joined};
use crate::error::counted;

/// Folders that are looked into for images, at most, how deep, and images after which the search ends.
const FOLDERS: usize = 4096;
const DEPTH: usize = 4;
const IMAGES: usize = 100;

/// Images that a message names.
const NAMED: usize = 6;

/// An image with its resolutions.
#[derive(Debug)]
pub(super) struct Found {
    /// From the largest on, at least one.
    pub(super) arrays: Vec<Array>,
    pub(super) axes: Axes,
    pub(super) pixel_size: Option<[f64; 2]>,
    /// What is odd, a clause each.
    pub(super) notes: Vec<String>,
}

/// Whether a folder is a zarr: by its metadata, or by its name.
pub(in crate::raster) fn is_zarr(path: &Path) -> bool {
    path.is_dir() && (has_zarr_name(path) || METADATA.iter().any(|name| path.join(name).is_file()))
}

fn has_zarr_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zarr"))
}

/// Finds the image of a folder. With `is_stack`, the first of three axes without names is planes.
pub(super) fn find(store: &Store, is_stack: bool) -> Decoded<Found> {
    match node(store, "")? {
        Some(Node::Array(array)) => of_array(store, *array, is_stack),
        Some(Node::Group(attributes)) => match of_group(store, "", &attributes)? {
            Some(found) => Ok(found),
            None => inside(store, is_stack),
        },
        // Folders above images often have no metadata of their own.
        None => inside(store, is_stack),
    }
}

/// The image of a group; `None` for a group that is none.
fn of_group(store: &Store, name: &str, attributes: &Value) -> Decoded<Option<Found>> {
    let Some(multiscale) = Multiscale::find(name, ome(attributes))? else { return Ok(None) };
    let mut notes = Vec::new();
    if multiscale.others > 0 {
        notes.push(format!("the first of {} multiscale images in one folder was read", multiscale.others + 1));
    }
    let mut arrays: Vec<Array> = Vec::new();
    let mut axes = None;
    for (level, path) in multiscale.arrays.iter().enumerate() {
        let opened = match node(store, path) {
            Ok(Some(Node::Array(array))) => Ok(*array),
            Ok(_) => Err(Problem::unusable(format!(
                "the array '{path}' that the metadata names is not there; the image was not copied whole"
            ))),
            Err(problem) => Err(problem),
        };
        let Some(axes) = axes else {
            // The image itself.
            let array = opened?;
            axes = Some(Axes::of_multiscale(&multiscale.axes, &array.shape)?);
            arrays.push(array);
            continue;
        };
        match opened {
            Ok(array) if is_smaller(&array, arrays.last(), &axes) => arrays.push(array),
            _ => notes.push(format!(
                "level {level} of the image, '{path}', was left out: it is no smaller copy that can be read"
            )),
        }
    }
    let Some(axes) = axes else { return Ok(None) };
    let pixel_size = multiscale.pixel_size(&axes, 0);
    Ok(Some(Found { arrays, axes, pixel_size, notes }))
}

/// Whether an array shows the same as another one with fewer pixels.
fn is_smaller(array: &Array, of: Option<&Array>, axes: &Axes) -> bool {
    let Some(of) = of else { return false };
    let count = |axis: Option<usize>, array: &Array| Axes::count(axis, &array.shape);
    let [rows, columns] = axes.plane;
    array.shape.len() == of.shape.len()
        && (array.data_type.kind, array.data_type.size) == (of.data_type.kind, of.data_type.size)
        && [axes.time, axes.channel].iter().all(|axis| count(*axis, array) == count(*axis, of))
        && (1..=of.shape[rows]).contains(&array.shape[rows])
        && (1..=of.shape[columns]).contains(&array.shape[columns])
        && count(axes.depth, array) > 0
}

/// An array without the metadata of an image beside it: the group above may have it, or its axes have names or can be guessed.
fn of_array(store: &Store, array: Array, is_stack: bool) -> Decoded<Found> {
    if let Some((axes, pixel_size)) = from_above(store, &array) {
        return Ok(Found { arrays: vec![array], axes, pixel_size, notes: Vec::new() });
    }
    let named = array.names.as_ref().and_then(|names| Axes::of_names(names, &array.shape));
    if let Some(axes) = named {
        return Ok(Found { arrays: vec![array], axes, pixel_size: None, notes: Vec::new() });
    }
    let shape = &array.shape;
    let Some(axes) = Axes::guessed(shape, is_stack) else {
        let names = array.names.as_ref().map_or_else(|| "without names".into(), |names| format!("named {names:?}"));
        let reason = format!(
            "{} has the axes {shape:?} {names}, which do not tell what they are; rows and columns, and few channels before or \
             behind them, are read: name the axes, or write it as OME-Zarr",
            array.called()
        );
        let planes = shape.iter().rev().nth(2).copied().unwrap_or(0);
        let is_stack = shape.len() >= 3 && planes > 0 && Axes::guessed(shape, true).is_some();
        return Err(if is_stack {
            let reason = format!("{reason}; if the first axis is depth, choose a plane (1 to {planes})");
            Problem::Unchosen { reason, option: "plane", count: planes }
        } else {
            Problem::unusable(reason)
        });
    };
    let mut notes = Vec::new();
    if let Some(axis) = axes.channel {
        notes.push(format!(
            "the axis of {} entries is taken for channels, since the axes {shape:?} have no names",
            shape[axis]
        ));
    }
    Ok(Found { arrays: vec![array], axes, pixel_size: None, notes })
}

/// Axes and pixel size of an array, as an image that it is a resolution of says: in the folder above, or above that.
fn from_above(store: &Store, array: &Array) -> Option<(Axes, Option<[f64; 2]>)> {
    let own = store.path(&array.node).canonicalize().ok()?;
    let mut name = String::new();
    let mut folder = own.as_path();
    for _ in 0..2 {
        let last = folder.file_name()?.to_str()?;
        name = if name.is_empty() { last.to_owned() } else { joined(last, &name) };
        folder = folder.parent()?;
        let Ok(Some(Node::Group(attributes))) = node(&Store::new(folder), "") else { continue };
        let Ok(Some(multiscale)) = Multiscale::find("", ome(&attributes)) else { continue };
        let level = multiscale.arrays.iter().position(|path| *path == name)?;
        let axes = Axes::of_multiscale(&multiscale.axes, &array.shape).ok()?;
        return Some((axes, multiscale.pixel_size(&axes, level)));
    }
    None
}

/// The only image in the folders of a folder: of a layout of several images, a plate, or a container of arrays.
fn inside(store: &Store, is_stack: bool) -> Decoded<Found> {
    let mut search = Search::default();
    search.look(store, "", 0);
    let (names, what) = if search.images.is_empty() { (search.arrays, "array") } else { (search.images, "image") };
    let [only] = names.as_slice() else {
        if names.is_empty() {
            return Err(Problem::unusable(
                "this folder holds no zarr image: there is no zarr.json, .zattrs or .zarray with an image in it or in its folders",
            ));
        }
        let mut names = names;
        names.sort_by(|a, b| by_numbers(a, b));
        let shown: Vec<String> = names.iter().take(NAMED).map(|name| store.path(name).display().to_string()).collect();
        let more = if names.len() > NAMED { " .." } else { "" };
        let least = if search.ended { "at least " } else { "" };
        return Err(Problem::unusable(format!(
            "this zarr holds {least}{}; name one of them: {}{more}",
            counted(names.len(), what),
            shown.join(", ")
        )));
    };
    let mut found = match node(store, only)? {
        Some(Node::Group(attributes)) => of_group(store, only, &attributes)?,
        Some(Node::Array(array)) => Some(of_array(store, *array, is_stack)?),
        None => None,
    }
    .ok_or_else(|| Problem::unusable("this folder was changed while it was read"))?;
    found.notes.push(format!("the only {what} in it, '{only}', was read"));
    Ok(found)
}

/// Images and arrays in the folders of a folder.
#[derive(Default)]
struct Search {
    images: Vec<String>,
    arrays: Vec<String>,
    folders: usize,
    /// There may be more.
    ended: bool,
}

impl Search {
    fn look(&mut self, store: &Store, name: &str, depth: usize) {
        let Ok(entries) = fs::read_dir(store.path(name)) else { return };
        let mut names: Vec<String> = Vec::new();
        for entry in entries.flatten().take(FOLDERS) {
            let child = entry.file_name().to_string_lossy().into_owned();
            if !child.starts_with('.') && entry.path().is_dir() {
                names.push(child);
            }
        }
        names.sort_by(|a, b| by_numbers(a, b));
        for child in names {
            self.folders += 1;
            if self.folders > FOLDERS || self.images.len() >= IMAGES {
                self.ended = true;
                return;
            }
            let child = joined(name, &child);
            match node(store, &child) {
                Ok(Some(Node::Array(_))) => self.arrays.push(child),
                Ok(Some(Node::Group(attributes))) if ome(&attributes)["multiscales"].is_array() => {
                    // Labels of images are none themselves.
                    if ome(&attributes)["image-label"].is_null() {
                        self.images.push(child);
                    }
                }
                Ok(_) if depth + 1 < DEPTH => self.look(store, &child, depth + 1),
                _ => {}
            }
        }
    }
}

/// The order of names in which numbers count as such.
fn by_numbers(one: &str, other: &str) -> Ordering {
    let key = |name: &str| -> Vec<(u64, String)> {
        name.split('/').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_owned())).collect()
    };
    key(one).cmp(&key(other))
}
