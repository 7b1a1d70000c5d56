//! libFuzzer on one reader, which `CELLSPARSE_FUZZ_READER` names. `tests/guided.sh` builds and runs this.
#![no_main]

#[path = "../../fuzz/folders.rs"]
mod folders;
#[allow(dead_code)]
#[path = "../../fuzz/readers.rs"]
mod readers;

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use readers::{File, READERS, Reader};

static READER: LazyLock<&Reader> = LazyLock::new(|| {
    let name = std::env::var("CELLSPARSE_FUZZ_READER").unwrap_or_default();
    READERS.iter().find(|reader| reader.name.replace(' ', "_") == name).unwrap_or_else(|| {
        let names: Vec<_> = READERS.iter().map(|reader| reader.name.replace(' ', "_")).collect();
        eprintln!("CELLSPARSE_FUZZ_READER is '{name}'; name one of: {}", names.join(", "));
        std::process::exit(2)
    })
});

/// Whether the reader reads several files.
static SEVERAL: LazyLock<bool> = LazyLock::new(|| (READER.seeds)().iter().any(|files| files.len() > 1));

/// Several files one after the other: the length of the name in one byte, the name, the length of the content in three, the content.
fn packed(files: &[File]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.push(u8::try_from(name.len()).expect("a short name"));
        bytes.extend(name.as_bytes());
        bytes.extend(&u32::try_from(content.len()).expect("a small file").to_le_bytes()[..3]);
        bytes.extend(content);
    }
    bytes
}

/// What [`packed`] gave, or the bytes nearest to that.
fn unpacked(mut bytes: &[u8]) -> Vec<File> {
    let mut files = Vec::new();
    let mut take = |most: usize| {
        let (piece, rest) = bytes.split_at(most.min(bytes.len()));
        bytes = rest;
        piece
    };
    while let [length] = take(1) {
        let name = String::from_utf8_lossy(take(usize::from(*length))).into_owned();
        let length = take(3).iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        files.push((name, take(length).to_vec()));
    }
    files
}

/// Writes what the reader accepts into the folder that `CELLSPARSE_FUZZ_SEEDS` names, and ends on panics of this library alone: those
/// of a decoder of others are caught there and become errors.
fn begin() {
    if let Some(folder) = std::env::var_os("CELLSPARSE_FUZZ_SEEDS") {
        for (number, files) in (READER.seeds)().iter().enumerate() {
            let bytes = if *SEVERAL { packed(files) } else { files[0].1.clone() };
            std::fs::write(Path::new(&folder).join(format!("seed_{number}")), bytes).expect("a folder for seeds");
        }
    }
    let end = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Where Cargo keeps the sources of others.
        if !panic.location().is_some_and(|place| place.file().contains("/registry/src/")) {
            end(panic);
        }
    }));
}

fuzz_target!(init: begin(), |bytes: &[u8]| {
    let files = if *SEVERAL { unpacked(bytes) } else { vec![(String::new(), bytes.to_vec())] };
    if let Err(reason) = (READER.attempt)(&files) {
        panic!("{}: {reason}", READER.name);
    }
});
