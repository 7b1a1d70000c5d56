//! Damaged files of every kind that is read.

use cellsparse_core::random::Random;

use crate::fuzz;
use crate::mutation::altered;
use crate::readers::{File, READERS};

/// Tries the reader of that name with its files, some of them changed.
fn reads(name: &str) {
    let reader = READERS.iter().find(|reader| reader.name == name).expect("a reader");
    let seeds = (reader.seeds)();
    // Some of the fixtures are refused, or belong to an image.
    let accepted = seeds.iter().filter(|seed| (reader.attempt)(seed).expect("files as they are")).count();
    assert!(2 * accepted > seeds.len(), "{name}: {accepted} of {} accepted as they are", seeds.len());
    fuzz(name, reader.few, |random| (reader.attempt)(&changed(random, &seeds)));
}

/// The files of one of the seeds, of which one is changed, sometimes its name, and seldom one is missing.
fn changed(random: &mut Random, seeds: &[Vec<File>]) -> Vec<File> {
    let mut files = seeds[random.below(seeds.len())].clone();
    let at = random.below(files.len());
    // What is spliced in comes from files at the same place.
    let others: Vec<Vec<u8>> =
        seeds.iter().filter_map(|files| files.get(at)).map(|(_, content)| content.clone()).collect();
    let content = std::mem::take(&mut files[at].1);
    files[at].1 = altered(random, content, &others);
    if files.len() > 1 && random.chance(0.1) {
        let name = std::mem::take(&mut files[at].0).into_bytes();
        files[at].0 = String::from_utf8_lossy(&altered(random, name, &others)).into_owned();
    }
    if files.len() > 1 && random.chance(0.05) {
        files.remove(random.below(files.len()));
    }
    files
}

#[test]
fn models_are_read_and_used_or_refused() {
    reads("model");
}

#[test]
fn state_dicts_are_read_or_refused() {
    reads("state dict");
}

#[test]
fn weights_of_keras_are_read_or_refused() {
    reads("Keras");
}

#[test]
fn frozen_graphs_are_read_or_refused() {
    reads("frozen graph");
}

#[test]
fn saved_models_are_read_or_refused() {
    reads("saved model");
}

#[test]
fn models_of_stardist_are_read_or_refused() {
    reads("StarDist");
}

#[test]
fn archives_of_models_are_read_or_refused() {
    reads("archive");
    reads("packed archive");
}

#[test]
fn images_are_read_or_refused() {
    reads("image");
}

#[test]
fn zarr_folders_are_read_or_refused() {
    reads("zarr");
}

#[test]
fn annotations_are_read_or_refused() {
    reads("annotations");
}

#[test]
fn architectures_are_built_or_refused() {
    reads("config");
}
